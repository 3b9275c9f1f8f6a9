//! Our reader and writer of changes, held against automerge itself.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;

use automerge::{
    ActorId, AutoCommit, Automerge, ReadDoc, ScalarValue,
    transaction::{CommitOptions, Transactable},
};
use proptest::prelude::*;
use storysync_crdt::{
    Actor, Change, Document, EditPurpose, EntityId, SyncUuid, TableName, Value, genesis, row, save,
};

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
    let edit = document
        .edit(
            puts(&[("age", Value::from(37)), ("note", Value::from("x"))]),
            EditPurpose::Edit,
            None,
            &actor,
            5_000,
        )
        .unwrap();
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
        assert!(
            Change::decode(&bytes).is_err(),
            "flipping a bit of byte {position} went unnoticed"
        );
    }
    let mut document = AutoCommit::new();
    document.put(automerge::ROOT, "a", 1_i64).unwrap();
    assert!(Change::decode(&document.save()).is_err(), "a whole document is no change");
    let mut counter = AutoCommit::new();
    counter.put(automerge::ROOT, "a", ScalarValue::counter(1)).unwrap();
    assert!(
        Change::decode(counter.get_changes(&[])[0].raw_bytes()).is_err(),
        "counters are refused"
    );
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
            let ours: Vec<i64> = replicas[0].register(key).map(|r| r.visible().iter().map(|v| v.value().as_integer().unwrap()).collect()).unwrap_or_default();
            let all: Vec<i64> = theirs.get_all(automerge::ROOT, key).unwrap().iter().map(|(v, _)| v.as_i64().unwrap()).collect();
            prop_assert_eq!(&ours, &all);
            let winner = theirs.get(automerge::ROOT, key).unwrap().map(|(v, _)| v.as_i64().unwrap());
            prop_assert_eq!(ours.last().copied(), winner);
        }
    }
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Integer),
        (-3..3_i64).prop_map(Value::Integer),
        any::<f64>().prop_map(Value::Real),
        ".{0,20}".prop_map(Value::Text),
        "x{120,300}".prop_map(Value::Text),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Value::Blob),
    ]
}

proptest! {
    /// What we write is, byte for byte, what automerge writes for what it reads there; and we read
    /// the same there.
    #[test]
    fn any_change_is_written_and_read_as_automerge_writes_and_reads_it(
        rounds in proptest::collection::vec((0..3_usize, proptest::collection::btree_map("[a-z$]{1,12}|[a-c]", value(), 1..12), 0..3_i64, any::<bool>()), 1..8),
    ) {
        let mut replicas: Vec<Document> = (0..3).map(|_| Document::new()).collect();
        let actors: Vec<Actor> = (0..3_u8).map(|n| Actor::of_device(&[9 - n; 32], [n; 8])).collect();
        let first = genesis(&entity(), puts(&[("a", Value::from("first")), ("b", Value::Null)]));
        for replica in &mut replicas {
            replica.apply(first.clone()).unwrap();
        }
        for (replica, edit, time, merges) in rounds {
            if merges {
                let others = replicas.clone();
                for other in &others {
                    merge(other, &mut replicas[replica]);
                }
            }
            let purpose = if time == 2 { EditPurpose::Rewrite } else { EditPurpose::Edit };
            let change = replicas[replica].edit(edit, purpose, None, &actors[replica], (time - 1) * 1_790_000_000_000).unwrap();
            let theirs = automerge::Change::try_from(change.bytes()).unwrap();
            prop_assert_eq!(theirs.hash().0, change.hash().0);
            let rewritten = automerge::Change::from(theirs.decode());
            prop_assert_eq!(rewritten.raw_bytes(), change.bytes());
            for read in [Change::decode(change.bytes()).unwrap(), Change::decode_stored(change.bytes().to_vec()).unwrap()] {
                prop_assert_eq!(read.ops(), change.ops());
                prop_assert_eq!((read.hash(), read.seq(), read.start_op(), read.deps(), read.message()), (change.hash(), change.seq(), change.start_op(), change.deps(), change.message()));
                prop_assert_eq!(read.actor(), change.actor());
            }
            replicas[replica].apply(change).unwrap();
        }
        for replica in &replicas {
            let (whole, head) = (row(replica), storysync_crdt::row_head(replica));
            prop_assert_eq!((whole.created_at, whole.updated_at, whole.deletion, whole.version), (head.created_at, head.updated_at, head.deletion, head.version));
        }
    }

    /// A row that is one first change reads the same without a document, and knows whose it is.
    #[test]
    fn a_first_change_reads_as_the_document_it_makes(
        mut columns in proptest::collection::btree_map("[a-z$]{1,12}|[a-c]", value(), 0..12),
        times in proptest::collection::vec("2026-01-0[1-9] 10:00:00|x|1970-01-01 00:00:00.000000", 2),
        version in -3..9_i64,
        deleted in any::<bool>(),
    ) {
        columns.extend([("created_at", Value::from(times[0].as_str())), ("updated_at", Value::from(times[1].as_str())), ("version", Value::from(version))].map(|(key, value)| (key.to_owned(), value)));
        if deleted {
            columns.insert("deleted_at".to_owned(), Value::from("2026-01-01 10:00:00"));
        }
        let first = genesis(&entity(), columns.clone());
        let mut document = Document::new();
        document.apply(first.clone()).unwrap();
        let whole = row(&document);
        prop_assert!(whole.fields.iter().all(|(name, value)| first.value(name) == Some(value)));
        let head = storysync_crdt::row_head(&document);
        prop_assert_eq!(storysync_crdt::head_of_first(&first), head.deletion.is_none().then_some(head));
        prop_assert!(columns.contains_key("$row") || first.starts(&entity()));
        let other = EntityId { table: TableName::parse("actor").unwrap(), uuid: SyncUuid::parse("other").unwrap() };
        prop_assert!(!first.starts(&other));
        // The same values under an actor that is not theirs.
        let forged = Document::new().edit(columns.clone(), EditPurpose::Edit, None, &Actor::from_bytes(&[1; 16]), 0).unwrap();
        prop_assert!(columns.contains_key("$row") || !forged.starts(&entity()));
    }
}
