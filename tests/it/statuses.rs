//! What a sealed status tells is so when it is told, although the Engine is asked only after
//! somebody has committed.

use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};
use serde_json::Value;
use storysync_engine::WriteSensor;
use tempfile::TempDir;

use crate::handmade::Handmade;
use crate::nodes::*;

fn file(journal: &str) -> (TempDir, Connection) {
    let folder = TempDir::new().unwrap();
    let app = Connection::open(folder.path().join("app.db")).unwrap();
    app.pragma_update(None, "journal_mode", journal).unwrap();
    app.execute_batch("CREATE TABLE t (n); INSERT INTO t VALUES (1)").unwrap();
    (folder, app)
}

#[test]
fn nothing_but_a_commit_moves_a_file_to_another_moment() {
    for journal in ["delete", "wal"] {
        let (folder, mut app) = file(journal);
        let mut sensor = WriteSensor::of(&folder.path().join("app.db"));
        let before = sensor.look().unwrap();
        assert_eq!(app.query_row("SELECT n FROM t", [], |row| row.get::<_, i64>(0)).unwrap(), 1);
        app.transaction().unwrap().execute("UPDATE t SET n = 2", []).unwrap();
        assert_eq!(sensor.look(), Some(before), "{journal}: read, and written and rolled back");
        app.execute("UPDATE t SET n = 3", []).unwrap();
        let after = sensor.look().unwrap();
        assert_ne!(after, before, "{journal}");
        assert_eq!(sensor.look(), Some(after), "{journal}");
    }
}

#[test]
fn a_file_put_in_the_place_of_another_is_another_moment_and_a_file_that_is_away_is_none() {
    let (folder, app) = file("delete");
    drop(app);
    let (path, copy) = (folder.path().join("app.db"), folder.path().join("copy.db"));
    std::fs::copy(&path, &copy).unwrap();
    let mut sensor = WriteSensor::of(&path);
    let before = sensor.look().unwrap();
    std::fs::rename(&copy, &path).unwrap();
    assert_ne!(sensor.look().unwrap(), before);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(sensor.look(), None);
}

#[test]
fn a_backup_written_over_a_file_in_place_is_another_moment_after_as_many_commits() {
    let (folder, app) = file("delete");
    drop(app);
    let path = folder.path().join("app.db");
    let app = |n: i64| {
        assert_eq!(Connection::open(&path).unwrap().execute("UPDATE t SET n = ?1", [n]).unwrap(), 1)
    };
    let backup = std::fs::read(&path).unwrap();
    let mut sensor = WriteSensor::of(&path);
    app(2);
    let before = sensor.look().unwrap();
    std::fs::write(&path, backup).unwrap();
    app(3);
    assert_ne!(sensor.look().unwrap(), before, "SQLite's own counters are the same");
}

#[test]
fn whoever_looks_waits_for_no_writer() {
    let (folder, mut app) = file("delete");
    let mut sensor = WriteSensor::of(&folder.path().join("app.db"));
    assert!(sensor.look().is_some());
    let writing = app.transaction_with_behavior(TransactionBehavior::Exclusive).unwrap();
    let begun = std::time::Instant::now();
    assert_eq!(sensor.look(), None);
    assert!(begun.elapsed() < Duration::from_secs(1));
    writing.rollback().unwrap();
    assert!(sensor.look().is_some());
}

#[test]
fn a_status_asked_again_knows_what_was_committed_since_and_what_was_pulled() {
    let (desktop, laptop) = paired();
    let laptop_itself = Handmade::of(&laptop, &desktop);
    let pending = |status: &Value| status["pending_changes_count"].as_u64().unwrap();
    laptop.sync();
    assert_eq!(pending(&laptop_itself.status()), 0, "what was just pulled is known to be known");
    assert_eq!(pending(&laptop_itself.status()), 0);
    desktop.app("UPDATE actor SET first_name = 'Renamed' WHERE id = 1");
    eventually(Duration::from_secs(10), "the edit is told of", || {
        pending(&laptop_itself.status()) == 1
    });
    assert_eq!(laptop.sync(), (0, 1));
    assert_eq!(pending(&laptop_itself.status()), 0);
}
