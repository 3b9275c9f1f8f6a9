//! What merging costs. `cargo bench -p storysync-crdt`.
#![expect(clippy::unwrap_used, reason = "benchmarks")]

use std::collections::BTreeMap;

use divan::Bencher;
use storysync_crdt::{
    Actor, Document, EditPurpose, Heads, Value, conflicts, key, merge_prose, row,
};

fn main() {
    divan::main();
}

/// Length of a long chapter, in characters.
const CHAPTER_CHARS: usize = 60_000;

/// A text of about 60,000 characters out of `words` different words; `seed` gives another one.
fn chapter(seed: u64, words: u64) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut text = String::with_capacity(CHAPTER_CHARS + 16);
    while text.len() < CHAPTER_CHARS {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.push_str(&format!("w{} ", state % words));
        if state.is_multiple_of(17) {
            text.push_str("\r\n");
        }
    }
    text
}

/// Both sides rewrote the whole chapter: the most there is to compare.
#[divan::bench(args = [2, 50, 5_000, 1_000_000])]
fn prose_rewritten_on_both_sides(bencher: Bencher<'_, '_>, words: u64) {
    let (base, ours, theirs) = (chapter(1, words), chapter(2, words), chapter(3, words));
    bencher.bench(|| merge_prose(divan::black_box(&base), &ours, &theirs));
}

/// A word changed at either end of the chapter.
#[divan::bench]
fn prose_edited_at_both_ends(bencher: Bencher<'_, '_>) {
    let base = chapter(1, 5_000);
    let (ours, theirs) = (format!("New {base}"), format!("{base} end"));
    bencher.bench(|| merge_prose(divan::black_box(&base), &ours, &theirs).unwrap());
}

/// A row with twenty columns and `edits` edits by two devices that took turns.
fn edited_row(edits: usize) -> Document {
    let mut document = Document::new();
    for edit in 0..=edits {
        let actor = Actor::of_device(&[u8::from(edit % 2 == 0); 32], [7; 8]);
        let columns = if edit == 0 { 0..20 } else { edit % 20..edit % 20 + 1 };
        let mut puts: BTreeMap<String, Value> = columns
            .map(|column| (format!("column_{column}"), Value::from(format!("value {edit}"))))
            .collect();
        puts.insert(key::UPDATED_AT.to_owned(), Value::from("2026-01-01 00:00:00"));
        puts.insert(key::VERSION.to_owned(), Value::Integer(1));
        let change = document.edit(puts, EditPurpose::Edit, None, &actor, 0).unwrap();
        document.apply(change).unwrap();
    }
    document
}

/// What a row shows after so many edits.
#[divan::bench(args = [1, 100, 1_000])]
fn row_after_edits(bencher: Bencher<'_, '_>, edits: usize) {
    let document = edited_row(edits);
    bencher.bench(|| row(divan::black_box(&document)));
}

/// What conflicts in a row of which every column was written twice at once.
#[divan::bench(args = [1, 100, 1_000])]
fn conflicts_after_edits(bencher: Bencher<'_, '_>, edits: usize) {
    let mut document = edited_row(edits);
    let base: Heads = document.heads().clone();
    for device in [3, 4] {
        let puts = (0..20)
            .map(|column| (format!("column_{column}"), Value::from(format!("by {device}"))))
            .collect();
        let change = document
            .edit(puts, EditPurpose::Edit, Some(&base), &Actor::of_device(&[device; 32], [1; 8]), 0)
            .unwrap();
        document.apply(change).unwrap();
    }
    bencher.bench(|| conflicts(divan::black_box(&document)));
}
