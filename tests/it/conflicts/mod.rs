//! What conflicts and how it is decided: every row of the table of merging that `syncing` does not
//! cover, on real files.
//!
//! Here is what all of them stand on: two devices with a small app, what several tests begin with,
//! and bringing them in step, reading and deciding their conflicts.

mod deciding;
mod deletion_guard;
mod field;
mod history;
mod orphan;
mod rings;
mod schema;
mod unique;

use crate::support::*;
use storysync_crdt::Value;
use storysync_engine::{Choice, ConflictReport, Take};

const SCHEMA: &str = "
    CREATE TABLE place (id INTEGER PRIMARY KEY, name TEXT UNIQUE, note TEXT, inside INTEGER \
    REFERENCES place (id));
    CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT NOT NULL, home INTEGER NOT NULL \
    REFERENCES place (id));
    CREATE TABLE visit (id INTEGER PRIMARY KEY, who INTEGER NOT NULL REFERENCES person (id), place \
    INTEGER NOT NULL REFERENCES place (id), UNIQUE (who, place));
    CREATE TABLE dial (id INTEGER PRIMARY KEY, level INTEGER CHECK (level BETWEEN 0 AND 9) DEFAULT \
    5, label TEXT);";

/// Two devices with a small app, in step.
fn two() -> (Replica, Replica) {
    two_with(SCHEMA, "")
}

fn two_with(schema: &str, other_schema: &str) -> (Replica, Replica) {
    let make = |device: u8, schema: &str| {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("app.db");
        rusqlite::Connection::open(&path).unwrap().execute_batch(schema).unwrap();
        Replica::of_copy(&path, device)
    };
    (make(1, schema), make(2, if other_schema.is_empty() { schema } else { other_schema }))
}

fn conflicts(replica: &mut Replica) -> Vec<ConflictReport> {
    replica.engine().conflicts(now()).unwrap()
}

fn kinds(replica: &mut Replica) -> Vec<String> {
    conflicts(replica).into_iter().map(|conflict| conflict.kind).collect()
}

fn meet(a: &mut Replica, b: &mut Replica) {
    a.sync(b);
    b.sync(a);
    assert_same_content(&a.database, &b.database, true);
    let told = |replica: &mut Replica| serde_json::to_value(conflicts(replica)).unwrap();
    assert_eq!(told(a), told(b));
    assert_eq!(a.sync(b), (0, 0));
}

fn take(replica: &mut Replica, take: Take) {
    let id = conflicts(replica)[0].id.clone();
    replica
        .engine()
        .resolve(&id, &Choice { take: Some(take), ..Choice::default() }, None, now())
        .unwrap();
}

fn value(replica: &mut Replica, name: &str, value: Value) {
    let id = conflicts(replica)[0].id.clone();
    let choice = Choice { take: None, fields: [(name.to_owned(), value)].into() };
    replica.engine().resolve(&id, &choice, None, now()).unwrap();
}

fn orphaned() -> (Replica, Replica) {
    let (mut a, mut b) = two();
    a.write(
        "INSERT INTO place (name, sync_uuid) VALUES ('Harbour', 'harbour'); INSERT INTO person \
        (name, home, sync_uuid) VALUES ('Ada', 1, 'ada')",
    );
    meet(&mut a, &mut b);
    a.write("DELETE FROM person; DELETE FROM place");
    b.write("INSERT INTO person (name, home, sync_uuid) SELECT 'Bea', id, 'bea' FROM place");
    meet(&mut a, &mut b);
    (a, b)
}

fn with_many_rows() -> (Replica, Replica) {
    let (mut a, mut b) = two();
    let rows: String = (0..400)
        .map(|number| format!("INSERT INTO place (name) VALUES ('place {number}');"))
        .collect();
    a.write(&format!("BEGIN; {rows} COMMIT"));
    meet(&mut a, &mut b);
    (a, b)
}
