//! Our reader and writer of changes, held against automerge itself.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;

use automerge::{
    ActorId, AutoCommit, Automerge, ReadDoc, ScalarValue,
    transaction::{CommitOptions, Transactable},
};
use proptest::prelude::*;
use storysync_crdt::{Actor, Change, Document, EditPurpose, EntityId, SyncUuid, TableName, Value, genesis, row, save};

fn entity() -> EntityId {
    EntityId { table: TableName::parse("actor").unwrap(), uuid: SyncUuid::parse("0f3b").unwrap() }
}

fn puts(pairs: &[(&str, Value)]) -> BTreeMap<String, Value> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
}

#[test]
fn a_change_encoded_without_a_document_has_automerges_own_hash() {
    let values = puts(&[
        ("first_name", Value::from("Ada 🦊")),
        ("age", Value::from(36)),
        ("height", Value::Real(1.5)),
        ("portrait", Value::Blob(vec![0, 255])),
        ("deleted_at", Value::Null),
    ]);
    let ours = genesis(&entity(), values.clone());

    let mut theirs = Automerge::new().with_actor(ActorId::from(ours.actor().as_bytes()));
    let mut transaction = theirs.transaction();
    for (key, value) in &values {
        transaction.put(automerge::ROOT, key, value.to_scalar()).unwrap();
    }
    transaction.commit_with(CommitOptions::default().with_time(0));
    assert_eq!(theirs.get_heads()[0].0, ours.hash().0);
    assert_eq!(theirs.get_changes(&[])[0].raw_bytes(), ours.bytes());

    // And an edit on top.
    let mut document = Document::new();
    document.apply(ours).unwrap();
    let actor = Actor::of_device(&[7; 32], [1; 8]);
    let edit = document.edit(puts(&[("age", Value::from(37)), ("note", Value::from("x"))]), EditPurpose::Edit, None, &actor, 5_000).unwrap();
    let mut theirs = theirs.with_actor(ActorId::from(actor.as_bytes()));
    let mut transaction = theirs.transaction();
    transaction.put(automerge::ROOT, "age", 37_i64).unwrap();
    transaction.put(automerge::ROOT, "note", ScalarValue::Str("x".into())).unwrap();
    transaction.commit_with(CommitOptions::default().with_time(5));
    assert_eq!(theirs.get_heads()[0].0, edit.hash().0);
    assert_eq!(Change::decode(edit.bytes()).unwrap().ops(), edit.ops());
}

#[test]
fn bytes_that_are_no_canonical_change_are_refused() {
    let change = genesis(&entity(), puts(&[("a", Value::from("one"))]));
    for position in 0..change.bytes().len() {
        let mut bytes = change.bytes().to_vec();
        bytes[position] ^= 1;
        assert!(Change::decode(&bytes).is_err(), "flipping a bit of byte {position} went unnoticed");
    }
    let mut document = AutoCommit::new();
    document.put(automerge::ROOT, "a", 1_i64).unwrap();
    assert!(Change::decode(&document.save()).is_err(), "a whole document is no change");
    let mut counter = AutoCommit::new();
    counter.put(automerge::ROOT, "a", ScalarValue::counter(1)).unwrap();
    assert!(Change::decode(counter.get_changes(&[])[0].raw_bytes()).is_err(), "counters are refused");
}

#[derive(Debug, Clone)]
enum Step {
    Put { replica: usize, key: usize, value: i64 },
    Merge { from: usize, to: usize },
    Stale { replica: usize, key: usize, value: i64, after: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3_usize, 0..4_usize, 0..5_i64).prop_map(|(replica, key, value)| Step::Put { replica, key, value }),
        2 => (0..3_usize, 0..3_usize).prop_map(|(from, to)| Step::Merge { from, to }),
        1 => (0..3_usize, 0..4_usize, 0..5_i64, 1..6_usize).prop_map(|(replica, key, value, after)| Step::Stale { replica, key, value, after }),
    ]
}

const KEYS: [&str; 4] = ["a", "b", "c", "d"];

fn merge(from: &Document, to: &mut Document) {
    for change in from.changes() {
        to.apply(Change::decode(change.bytes()).unwrap()).unwrap();
    }
}

proptest! {
    #[test]
    fn any_history_reads_as_automerge_reads_it(steps in proptest::collection::vec(step(), 1..40)) {
        let first = genesis(&entity(), puts(&[("a", Value::from(0)), ("b", Value::from(0))]));
        let mut replicas: Vec<Document> = (0..3).map(|_| { let mut d = Document::new(); d.apply(first.clone()).unwrap(); d }).collect();
        let actors: Vec<Actor> = (0..3_u8).map(|n| Actor::of_device(&[n; 32], [n; 8])).collect();
        for step in steps {
            match step {
                Step::Put { replica, key, value } => {
                    let change = replicas[replica].edit(puts(&[(KEYS[key], Value::from(value))]), EditPurpose::Edit, None, &actors[replica], 0).unwrap();
                    replicas[replica].apply(change).unwrap();
                }
                Step::Stale { replica, key, value, after } => {
                    let base = replicas[replica].heads_after(after);
                    let change = replicas[replica].edit(puts(&[(KEYS[key], Value::from(value))]), EditPurpose::Edit, Some(&base), &actors[replica], 0).unwrap();
                    replicas[replica].apply(change).unwrap();
                }
                Step::Merge { from, to } => {
                    let from = replicas[from].clone();
                    merge(&from, &mut replicas[to]);
                }
            }
        }
        for index in 0..3 {
            let others: Vec<Document> = replicas.clone();
            for other in &others { merge(other, &mut replicas[index]); }
        }
        prop_assert_eq!(row(&replicas[0]), row(&replicas[1]));
        prop_assert_eq!(row(&replicas[1]), row(&replicas[2]));

        let theirs = Automerge::load(&save(&replicas[0]).unwrap()).unwrap();
        for key in KEYS {
            let ours: Vec<i64> = replicas[0].register(key).map(|r| r.visible().iter().map(|v| v.value.as_integer().unwrap()).collect()).unwrap_or_default();
            let all: Vec<i64> = theirs.get_all(automerge::ROOT, key).unwrap().iter().map(|(v, _)| v.as_i64().unwrap()).collect();
            prop_assert_eq!(&ours, &all);
            let winner = theirs.get(automerge::ROOT, key).unwrap().map(|(v, _)| v.as_i64().unwrap());
            prop_assert_eq!(ours.last().copied(), winner);
        }
    }
}
