//! What one change costs: writing it, reading it, and what a row shows of it. A row of 20 columns
//! and a note of 500 characters.
#![expect(clippy::unwrap_used, reason = "a benchmark stops at the first surprise")]

use std::collections::BTreeMap;

use divan::{Bencher, black_box};
use storysync_crdt::{
    Actor, Change, Document, EditPurpose, EntityId, SyncUuid, TableName, Value, conflicts, genesis,
    head_of_first, row,
};

fn main() {
    divan::main();
}

fn entity() -> EntityId {
    EntityId {
        table: TableName::parse("note").unwrap(),
        uuid: SyncUuid::parse("0f3b5c2e-1111-5222-8333-444455556666").unwrap(),
    }
}

fn columns() -> BTreeMap<String, Value> {
    let mut columns: BTreeMap<String, Value> = (0..14)
        .map(|column| (format!("c{column}"), Value::from(format!("value {column} of a row"))))
        .collect();
    columns.extend((0..4).map(|column| (format!("n{column}"), Value::from(column * 7))));
    columns.insert("title".to_owned(), Value::from("Title"));
    columns.insert("note".to_owned(), Value::from("lorem ipsum ".repeat(42)));
    columns.insert("version".to_owned(), Value::from(1));
    columns.insert("created_at".to_owned(), Value::from("2026-01-01 10:00:00"));
    columns.insert("updated_at".to_owned(), Value::from("2026-01-01 10:00:00"));
    columns
}

fn edited(edits: i64) -> Document {
    let actor = Actor::of_device(&[7; 32], [1; 8]);
    let mut document = Document::new();
    document.apply(genesis(&entity(), columns())).unwrap();
    for edit in 0..edits {
        let puts = BTreeMap::from([
            ("c1".to_owned(), Value::from(format!("edit {edit}"))),
            ("version".to_owned(), Value::from(edit + 2)),
        ]);
        let change = document.edit(puts, EditPurpose::Edit, None, &actor, edit * 1000).unwrap();
        document.apply(change).unwrap();
    }
    document
}

#[divan::bench]
fn write_a_first_change(bencher: Bencher<'_, '_>) {
    let entity = entity();
    bencher.with_inputs(columns).bench_values(|columns| genesis(&entity, columns));
}

#[divan::bench]
fn read_a_received_change(bencher: Bencher<'_, '_>) {
    let change = genesis(&entity(), columns());
    bencher.bench(|| Change::decode_received(black_box(change.bytes())).unwrap());
}

#[divan::bench]
fn read_a_stored_change(bencher: Bencher<'_, '_>) {
    let change = genesis(&entity(), columns());
    bencher
        .with_inputs(|| change.bytes().to_vec())
        .bench_values(|bytes| Change::decode_stored(bytes).unwrap());
}

#[divan::bench]
fn read_a_change_with_automerge(bencher: Bencher<'_, '_>) {
    let change = genesis(&entity(), columns());
    bencher.bench(|| {
        let read = automerge::Change::try_from(black_box(change.bytes())).unwrap();
        automerge::Change::from(read.decode()).hash()
    });
}

#[divan::bench]
fn show_a_first_change(bencher: Bencher<'_, '_>) {
    let change = genesis(&entity(), columns());
    bencher.bench(|| head_of_first(black_box(&change)).unwrap());
}

#[divan::bench(args = [0, 10, 1_000])]
fn assemble_and_show_a_row_after_edits(bencher: Bencher<'_, '_>, edits: i64) {
    let changes: Vec<Vec<u8>> =
        edited(edits).changes().iter().map(|change| change.bytes().to_vec()).collect();
    bencher.bench(|| {
        let mut document = Document::new();
        for bytes in &changes {
            document.apply(Change::decode_stored(bytes.clone()).unwrap()).unwrap();
        }
        (row(&document), conflicts(&document).len())
    });
}

#[divan::bench(args = [0, 10, 1_000])]
fn edit_a_row_after_edits(bencher: Bencher<'_, '_>, edits: i64) {
    let (document, actor) = (edited(edits), Actor::of_device(&[8; 32], [1; 8]));
    bencher
        .with_inputs(|| BTreeMap::from([("c2".to_owned(), Value::from("once more"))]))
        .bench_values(|puts| document.edit(puts, EditPurpose::Edit, None, &actor, 0).unwrap());
}
