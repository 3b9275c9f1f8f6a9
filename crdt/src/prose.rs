//! Three-way merge of prose: two texts that grew from one. Deterministic, and never a mangled mix: edits
//! that overlap or touch are a clash, and the caller shows one text whole.
//!
//! Texts are compared by words and the blanks and marks between them (UAX #29 word boundaries, so no
//! grapheme, emoji sequence or CR LF is ever cut) with imara-diff, whose heuristics bound its time.

use std::ops::Range;

use imara_diff::{Algorithm, Diff, InternedInput};
use unicode_segmentation::UnicodeSegmentation as _;

/// Longest text that is merged, in bytes; longer ones that differ on both sides clash.
const MERGED_BYTES_MAX: usize = 1024 * 1024;

/// One place where a side differs from the base: these tokens became that text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Edit {
    base: Range<usize>,
    text: String,
}

/// Merges `ours` and `theirs`, which both grew from `base`. `None` when an edit of one overlaps or
/// touches a different edit of the other. Symmetric: the order of the sides does not matter.
#[must_use]
pub fn merge_prose(base: &str, ours: &str, theirs: &str) -> Option<String> {
    if ours == theirs || theirs == base {
        return Some(ours.to_owned());
    }
    if ours == base {
        return Some(theirs.to_owned());
    }
    if [base, ours, theirs].iter().any(|text| text.len() > MERGED_BYTES_MAX) {
        return None;
    }
    let tokens: Vec<&str> = base.split_word_bounds().collect();
    let mut edits = edits_of(&tokens, ours);
    for edit in edits_of(&tokens, theirs) {
        if !edits.contains(&edit) {
            edits.push(edit);
        }
    }
    edits.sort_by_key(|edit| (edit.base.start, edit.base.end));
    let mut merged = String::with_capacity(ours.len().max(theirs.len()));
    let mut reached = 0;
    let mut last_end = None;
    for edit in &edits {
        // Within one side edits never touch, so those that do are from both sides.
        if last_end.is_some_and(|end| edit.base.start <= end) {
            return None;
        }
        merged.extend(tokens.get(reached..edit.base.start)?.iter().copied());
        merged.push_str(&edit.text);
        reached = edit.base.end;
        last_end = Some(edit.base.end);
    }
    merged.extend(tokens.get(reached..)?.iter().copied());
    Some(merged)
}

/// How a side differs from the base, in order. Differences with little unchanged between them are one:
/// two rewrites of a paragraph share many small words by chance, and must not be woven together.
fn edits_of(base: &[&str], side: &str) -> Vec<Edit> {
    let side: Vec<&str> = side.split_word_bounds().collect();
    let mut input: InternedInput<&str> = InternedInput::default();
    input.update_before(base.iter().copied());
    input.update_after(side.iter().copied());
    let diff = Diff::compute(Algorithm::Histogram, &input);
    let mut hunks: Vec<(Range<usize>, Range<usize>)> = Vec::new();
    for hunk in diff.hunks() {
        let (before, after) = (widen(&hunk.before), widen(&hunk.after));
        match hunks.last_mut() {
            Some((known_before, known_after)) if before.start - known_before.end < reach(known_before, known_after).max(reach(&before, &after)) => {
                known_before.end = before.end;
                known_after.end = after.end;
            }
            _ => hunks.push((before, after)),
        }
    }
    hunks.into_iter().filter_map(|(before, after)| Some(Edit { text: side.get(after)?.concat(), base: before })).collect()
}

fn widen(range: &Range<u32>) -> Range<usize> {
    // u32 always fits into usize here: texts of 1 MiB have fewer tokens.
    usize::try_from(range.start).unwrap_or(usize::MAX)..usize::try_from(range.end).unwrap_or(usize::MAX)
}

/// How many unchanged tokens a difference swallows: as many as it is long, at least one.
fn reach(before: &Range<usize>, after: &Range<usize>) -> usize {
    before.len().max(after.len()).max(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_that_do_not_touch_are_both_kept() {
        let base = "The quick brown fox jumps over the lazy dog.\r\nIt was late.";
        let ours = "The slow brown fox jumps over the lazy dog.\r\nIt was late.";
        let theirs = "The quick brown fox jumps over the sleepy dog.\r\nIt was late, and cold.";
        let merged = "The slow brown fox jumps over the sleepy dog.\r\nIt was late, and cold.";
        assert_eq!(merge_prose(base, ours, theirs).as_deref(), Some(merged));
        assert_eq!(merge_prose(base, theirs, ours).as_deref(), Some(merged));
    }

    #[test]
    fn edits_that_overlap_or_touch_clash() {
        for (base, ours, theirs) in [
            ("red apple", "green apple", "blue apple"),
            ("one two three", "one 2 three", "one 2 2 three"),
            ("the end", "the end.", "the end!"),
            ("", "mine", "theirs"),
            ("a b c d e f g", "", "a b c d e f g h"),
        ] {
            assert_eq!(merge_prose(base, ours, theirs), None, "{base:?} {ours:?} {theirs:?}");
        }
    }

    #[test]
    fn a_text_rewritten_on_both_sides_clashes_soon() {
        let words = |seed: u64| (0..10_000_u64).map(|n| format!("w{} ", (n * seed) % 4_999)).collect::<String>();
        assert_eq!(merge_prose(&words(3), &words(5), &words(7)), None);
    }

    #[test]
    fn the_same_edit_on_both_sides_is_made_once() {
        let base = "hello world, how are you today my old friend";
        assert_eq!(
            merge_prose(base, "Hello world, how are you today my old friend", "Hello world, how are you today my new friend").as_deref(),
            Some("Hello world, how are you today my new friend")
        );
    }

    #[test]
    fn graphemes_and_scripts_stay_whole() {
        let base = "family 👩‍👩‍👧 here, שלום עולם there and e\u{301}te\u{301} everywhere";
        let ours = "family 👩‍👩‍👦 here, שלום עולם there and e\u{301}te\u{301} everywhere";
        let theirs = "family 👩‍👩‍👧 here, שלום עולם there and e\u{301}te\u{301} nowhere";
        assert_eq!(merge_prose(base, ours, theirs).as_deref(), Some("family 👩‍👩‍👦 here, שלום עולם there and e\u{301}te\u{301} nowhere"));
    }

    #[test]
    fn two_rewrites_of_a_paragraph_are_not_woven_together() {
        let base = "The ship sailed at dawn and the crew was silent because the storm had taken the mast.";
        let ours = "At dawn the ship left, and because of the storm that took the mast the crew said nothing.";
        let theirs = "Nobody of the crew spoke when the ship sailed: the mast was gone, and the dawn was red.";
        assert_eq!(merge_prose(base, ours, theirs), None);
    }
}
