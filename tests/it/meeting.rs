//! Files that meet: for the first time, after a backup was restored, a file was cloned or replaced.
//! Nothing is lost, little is sent, and the person is told what it was.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::Value;

use crate::fixtures::{self, Dialect};
use crate::nodes::*;
use crate::support::{assert_same_content, canonical};

/// One file of an unknown app with `rows` rows of 20 columns, as it was before any sync.
fn large_file(path: &Path, rows: i64) {
    let connection = Connection::open(path).unwrap();
    let columns: Vec<String> = (1..=18).map(|column| format!("c{column} TEXT")).collect();
    connection
        .execute_batch(&format!(
            "CREATE TABLE note (id INTEGER PRIMARY KEY, {}, body TEXT); BEGIN",
            columns.join(", ")
        ))
        .unwrap();
    let values: Vec<String> =
        (1..=18).map(|column| format!("'value {column} of ' || ?1")).collect();
    let mut insert = connection
        .prepare(&format!("INSERT INTO note VALUES (?1, {}, ?2)", values.join(", ")))
        .unwrap();
    for row in 1..=rows {
        insert.execute(rusqlite::params![row, format!("Body {row}. ").repeat(40)]).unwrap();
    }
    drop(insert);
    connection.execute_batch("COMMIT").unwrap();
}

/// Two devices with a copy each of one file, migrated apart; the first serves, the second has
/// joined it.
fn two_copies(original: &Path) -> (TestNode, TestNode) {
    let (mut one, other) = (TestNode::without_database(), TestNode::without_database());
    for node in [&one, &other] {
        std::fs::copy(original, &node.database).unwrap();
        node.run_json(&["migrate"]);
    }
    one.serve();
    other.run_json(&["pair", "join", &one.qr()]);
    (one, other)
}

fn sync_report(node: &TestNode) -> Value {
    node.run_json(&["sync"])["peers"][0].clone()
}

fn bytes(report: &Value) -> u64 {
    report["bytes_sent"].as_u64().unwrap() + report["bytes_received"].as_u64().unwrap()
}

/// Makes both devices forget how far they had told each other everything.
fn forget_cursors(nodes: [&TestNode; 2]) {
    for node in nodes {
        node.app(
            "UPDATE sync_peer SET pull_cursor = NULL, told_epoch = NULL, pushed_seq = 0; \
            UPDATE sync_change SET origin = NULL",
        );
    }
}

#[test]
fn ten_thousand_equal_rows_are_compared_in_under_ten_kilobytes_and_ten_that_differ_in_under_a_hundred()
 {
    let folder = tempfile::TempDir::new().unwrap();
    let original = folder.path().join("app.db");
    large_file(&original, 10_000);
    let (one, other) = two_copies(&original);
    let report = sync_report(&other);
    println!("10,000 equal rows: {} bytes", bytes(&report));
    assert_eq!(
        (report["pushed"].as_u64(), report["pulled"].as_u64()),
        (Some(0), Some(0)),
        "{report}"
    );
    assert!(bytes(&report) < 10_000, "{report}");

    forget_cursors([&one, &other]);
    other.app("UPDATE note SET c1 = 'changed here' WHERE id % 1000 = 7");
    let report = sync_report(&other);
    println!("10 of 10,000 rows differ: {} bytes", bytes(&report));
    assert_eq!(
        (report["pushed"].as_u64(), report["pulled"].as_u64()),
        (Some(10), Some(0)),
        "{report}"
    );
    assert!(bytes(&report) < 100_000, "{report}");

    forget_cursors([&one, &other]);
    one.app("UPDATE note SET c2 = 'changed there' WHERE id % 1000 = 8");
    other.app("UPDATE note SET c2 = 'changed here' WHERE id % 1000 = 9");
    let report = sync_report(&other);
    assert_eq!(
        (report["pushed"].as_u64(), report["pulled"].as_u64()),
        (Some(10), Some(10)),
        "{report}"
    );
    assert_same_content(&one.database, &other.database, true);
    assert_eq!(other.sync(), (0, 0));
    assert_eq!(other.run_json(&["verify", &one.id()])["ok"], true);
}

#[test]
fn diverged_copies_of_one_old_file_are_matched_by_id_and_told_as_copies() {
    let (_folder, original) = fixtures::file(Dialect::Presync);
    let (mut one, other) = (TestNode::without_database(), TestNode::without_database());
    for node in [&one, &other] {
        std::fs::copy(&original, &node.database).unwrap();
    }
    // Both went on by themselves, before any sync: other names for the same rows, other rows under
    // free ids.
    one.app(
        "UPDATE actor SET first_name = 'Desk' WHERE id = 1; UPDATE setting SET name = 'Desk \
        world' WHERE id = 2; INSERT INTO actor (id, first_name, setting_id) VALUES (500, 'Only \
        desk', 1)",
    );
    other.app(
        "UPDATE actor SET last_name = 'Lap' WHERE id = 1; UPDATE setting SET name = 'Lap \
        world' WHERE id = 2; UPDATE faction SET name = 'Lap faction' WHERE id = 3",
    );
    one.run_json(&["migrate"]);
    other.run_json(&["migrate"]);
    // And one more edit after the migration, before the two met.
    other.app("UPDATE actor SET job = 'typed after' WHERE id = 1");
    one.serve();
    other.run_json(&["pair", "join", &one.qr()]);
    let report = sync_report(&other);
    let contact = &report["first_contact"];
    assert_eq!(contact["kind"], "copies", "{report}");
    assert!(contact["renamed"].as_u64().unwrap() >= 3, "{report}");
    assert!(report["notices"][0].as_str().unwrap().contains("copies of one file"), "{report}");
    assert_same_content(&one.database, &other.database, true);
    assert_eq!(
        canonical(&one.database, false).len(),
        fixtures::ROWS_IN_ALL + 1,
        "no row is doubled, and the new one is there"
    );
    assert_eq!(other.sync(), (0, 0));
    // Nothing typed is lost: it is in the row, or in a conflict with both values.
    let conflicts = other.run_json(&["conflicts"]);
    assert_eq!(conflicts, one.run_json(&["conflicts"]));
    let everything = format!("{conflicts}{:?}", canonical(&one.database, false));
    for typed in
        ["Desk", "Lap", "Desk world", "Lap world", "Lap faction", "typed after", "Only desk"]
    {
        assert!(everything.contains(typed), "{typed} is lost");
    }
    let log = other.run_json(&["log"]).to_string();
    assert!(log.contains("copies of one file"), "the log tells it, too");
    assert_eq!(other.run_json(&["verify"])["ok"], true, "{}", other.run_json(&["verify"]));
}

/// Two copies of one old file, each edited before its migration, the second after it, too; `one`
/// serves.
fn diverged(uuids_at_random: bool) -> (TestNode, TestNode) {
    let dialect = if uuids_at_random { Dialect::Newer } else { Dialect::Presync };
    let (_folder, original) = fixtures::file(dialect);
    let (mut one, other) = (TestNode::without_database(), TestNode::without_database());
    for node in [&one, &other] {
        std::fs::copy(&original, &node.database).unwrap();
        if uuids_at_random {
            // As the app's own old migration did, on each copy by itself.
            let connection = Connection::open(&node.database).unwrap();
            let schema = storysync_engine::app::schema::Schema::read(&connection, &[]).unwrap();
            for table in schema.tables() {
                connection
                    .execute_batch(&format!(
                        "UPDATE \"{}\" SET sync_uuid = lower(hex(randomblob(16)))",
                        table.name()
                    ))
                    .unwrap();
            }
        }
    }
    one.app(
        "UPDATE actor SET first_name = 'Desk' WHERE id = 1; UPDATE setting SET name = 'Desk \
        world' WHERE id = 2",
    );
    other.app(
        "UPDATE actor SET last_name = 'Lap' WHERE id = 1; UPDATE setting SET name = 'Lap world' \
            WHERE id = 3; UPDATE user SET username = 'me' WHERE id = 4",
    );
    for node in [&one, &other] {
        node.run_json(&["migrate"]);
    }
    other.app(
        "UPDATE actor SET job = 'typed after' WHERE id = 1; DELETE FROM litography_node \
        WHERE id = 5",
    );
    one.serve();
    (one, other)
}

fn nothing_is_doubled(nodes: &[&TestNode]) {
    let all = canonical(&nodes[0].database, false);
    assert_eq!(
        all.len(),
        fixtures::ROWS_IN_ALL - 1,
        "no row is doubled, and the deleted one is gone"
    );
    for node in &nodes[1..] {
        assert_same_content(&nodes[0].database, &node.database, true);
    }
    for typed in ["Desk", "Lap", "Desk world", "Lap world", "typed after", "me"] {
        assert!(
            all.iter().any(|row| row.contains(typed))
                || nodes[0].run_json(&["conflicts"]).to_string().contains(typed),
            "{typed} is lost"
        );
    }
}

#[test]
fn the_new_file_takes_the_names_whoever_calls() {
    let (one, mut other) = diverged(false);
    // The first is known to a phone already.
    let phone = TestNode::empty();
    phone.run_json(&["pair", "join", &one.qr()]);
    phone.sync();
    other.serve();
    other.run_json(&["pair", "join", &one.qr()]);
    let report = one.run_json(&["sync", &other.id()])["peers"][0].clone();
    assert_eq!(report["first_contact"]["kind"], "copies", "{report}");
    assert!(other.run_json(&["log"]).to_string().contains("met for the first time"));
    phone.sync();
    nothing_is_doubled(&[&one, &other, &phone]);
    assert_eq!(other.sync(), (0, 0));
}

#[test]
fn two_new_files_that_call_each_other_at_once_double_nothing() {
    let (one, mut other) = diverged(false);
    other.serve();
    other.run_json(&["pair", "join", &one.qr()]);
    std::thread::scope(|scope| {
        let calling = scope.spawn(|| one.run(&["sync", "--json"]));
        other.run(&["sync", "--json"]);
        calling.join().unwrap();
    });
    other.sync();
    nothing_is_doubled(&[&one, &other]);
}

#[test]
fn copies_whose_rows_an_old_script_named_at_random_are_matched_too() {
    let (one, other) = diverged(true);
    other.run_json(&["pair", "join", &one.qr()]);
    let report = sync_report(&other);
    assert_eq!(report["first_contact"]["kind"], "copies", "{report}");
    nothing_is_doubled(&[&one, &other]);
    assert_eq!(other.run_json(&["verify", &one.id()])["ok"], true);
}

#[test]
fn a_file_whose_rows_another_device_knows_keeps_its_names() {
    // Two equal copies meet, nothing has to be told; then the second meets a diverged one.
    let (_folder, original) = fixtures::file(Dialect::Presync);
    let (mut one, other) = two_copies(&original);
    assert_eq!(other.sync(), (0, 0));
    let mut third = TestNode::without_database();
    std::fs::copy(&original, &third.database).unwrap();
    third.app("UPDATE actor SET first_name = 'Third' WHERE id = 1");
    third.run_json(&["migrate"]);
    third.serve();
    other.run_json(&["pair", "join", &third.qr()]);
    assert!(other.run(&["sync"]).status.success());
    assert!(other.run(&["sync"]).status.success());
    for node in [&one, &other, &third] {
        assert_eq!(canonical(&node.database, false).len(), fixtures::ROWS_IN_ALL);
    }
    assert_same_content(&one.database, &third.database, true);
    one.stop();
}

#[test]
fn a_device_that_wants_to_be_asked_is_not_mixed_with_by_others() {
    let (one, mut other) = diverged(false);
    std::fs::write(other.data_dir().join("config.toml"), "first_contact = \"ask\"\n").unwrap();
    other.serve();
    other.run_json(&["pair", "join", &one.qr()]);
    let before = canonical(&other.database, true);
    let output = one.run(&["sync", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        report["peers"][0]["error"].as_str().unwrap().contains("its owner has to say first"),
        "{report}"
    );
    assert_eq!(canonical(&other.database, true), before);
    assert_eq!(canonical(&one.database, false).len(), fixtures::ROWS_IN_ALL);
    other.run_json(&["sync", "--first-contact", "judge"]);
    one.sync();
    nothing_is_doubled(&[&one, &other]);
}

#[test]
fn whoever_takes_the_names_asks_the_other_owner_first() {
    let (one, other) = diverged(false);
    // Of two new files, the one with the greater id takes the names: here that is the one that
    // calls.
    let (caller, mut asked) = if one.id() > other.id() { (one, other) } else { (other, one) };
    asked.stop();
    std::fs::write(asked.data_dir().join("config.toml"), "first_contact = \"ask\"\n").unwrap();
    asked.serve();
    caller.run_json(&["pair", "join", &asked.qr()]);
    let before = [&caller, &asked].map(|node| canonical(&node.database, true));
    let output = caller.run(&["sync", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        report["peers"][0]["error"].as_str().unwrap().contains("its owner has to say first"),
        "{report}"
    );
    assert_eq!(
        [&caller, &asked].map(|node| canonical(&node.database, true)),
        before,
        "nothing was renamed"
    );
}

#[test]
fn rows_made_after_the_migration_are_no_copies_of_each_other() {
    let (one, other) = diverged(false);
    one.app("INSERT INTO faction (name, setting_id) VALUES ('Mages', 1), ('Dukes', 1)");
    other.app("INSERT INTO faction (name, setting_id) VALUES ('Pirates', 1), ('Monks', 1)");
    other.run_json(&["pair", "join", &one.qr()]);
    assert_eq!(sync_report(&other)["first_contact"]["kind"], "copies");
    for node in [&one, &other] {
        assert_eq!(
            node.value::<i64>(
                "SELECT count(*) FROM faction WHERE name IN ('Mages', 'Dukes', 'Pirates', 'Monks')"
            ),
            4
        );
    }
    assert_same_content(&one.database, &other.database, true);
}

/// A file of another world: other rows under the same ids.
fn other_world(node: &TestNode) {
    fixtures::make(&node.database, Dialect::Presync);
    let connection = Connection::open(&node.database).unwrap();
    let schema = storysync_engine::app::schema::Schema::read(&connection, &[]).unwrap();
    for table in schema.tables() {
        for column in &table.columns {
            use storysync_engine::app::schema::{Affinity, Role};
            let is_enumeration =
                ["node_type", "note_type", "plot_section_type"].contains(&column.name.as_str());
            if column.role != Role::Field || is_enumeration {
                continue;
            }
            let other = if column.affinity == Affinity::Text {
                format!("'other ' || \"{0}\"", column.name)
            } else {
                format!("\"{0}\" + 1000", column.name)
            };
            connection
                .execute_batch(&format!(
                    "UPDATE \"{}\" SET \"{}\" = {other}",
                    table.name(),
                    column.name
                ))
                .unwrap();
        }
    }
}

#[test]
fn what_is_fetched_by_name_costs_bytes_for_each_row_once() {
    const ROWS: u64 = 5_000;
    let (mut one, other) = (TestNode::without_database(), TestNode::without_database());
    large_file(&one.database, i64::try_from(ROWS).unwrap());
    large_file(&other.database, 0);
    for node in [&one, &other] {
        node.run_json(&["migrate"]);
    }
    // A row of its own: the two compare, and nearly everything is lacking.
    other.app("INSERT INTO note (id, body) VALUES (90000, 'Own')");
    one.serve();
    other.run_json(&["pair", "join", &one.qr()]);
    let report = sync_report(&other);
    assert_eq!(
        (report["pulled"].as_u64(), report["pushed"].as_u64()),
        (Some(ROWS), Some(1)),
        "{report}"
    );
    let sent = report["bytes_sent"].as_u64().unwrap();
    println!(
        "{ROWS} rows fetched by name: {sent} bytes sent, {} received",
        report["bytes_received"]
    );
    assert!(sent < 200 * ROWS, "{report}");
    assert_same_content(&one.database, &other.database, true);
}

/// Two devices with files of other worlds; the first serves, the second has joined it.
fn two_worlds() -> (TestNode, TestNode) {
    let (mut one, other) = (TestNode::with_fixture(Dialect::Presync), TestNode::without_database());
    other_world(&other);
    one.run_json(&["migrate"]);
    other.run_json(&["migrate"]);
    one.serve();
    other.run_json(&["pair", "join", &one.qr()]);
    (one, other)
}

#[test]
fn unrelated_files_are_put_together_row_by_row_and_told_as_such() {
    let (one, other) = two_worlds();
    let report = sync_report(&other);
    assert_eq!(report["first_contact"]["kind"], "unrelated", "{report}");
    assert!(report["notices"][0].as_str().unwrap().contains("not copies"), "{report}");
    let status = [&one, &other].map(|node| node.run_json(&["status"]));
    let all =
        |status: &Value| status["entities"].as_u64().unwrap() + status["parked"].as_u64().unwrap();
    assert_eq!(
        (all(&status[0]), all(&status[1])),
        (2 * fixtures::ROWS_IN_ALL as u64, 2 * fixtures::ROWS_IN_ALL as u64)
    );
    assert_same_content(&one.database, &other.database, true);
    assert_eq!(other.sync(), (0, 0));
}

#[test]
fn whoever_wants_to_be_asked_is_asked_before_anything_is_sent() {
    let (one, other) = two_worlds();
    let before = one.value::<i64>("SELECT count(*) FROM sync_change");
    let sentence = other.run(&["sync", "--first-contact", "ask", "--json"]);
    assert_eq!(sentence.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&sentence.stdout).unwrap();
    assert!(
        report["peers"][0]["error"].as_str().unwrap().contains("not copies of one file"),
        "{report}"
    );
    assert_eq!(one.value::<i64>("SELECT count(*) FROM sync_change"), before, "nothing was sent");
    let report = other.run_json(&["sync", "--first-contact", "copies"]);
    assert_eq!(report["peers"][0]["first_contact"]["kind"], "copies");
    assert_same_content(&one.database, &other.database, true);
}

#[test]
fn a_restored_backup_gets_the_newer_edits_back_from_its_peers_and_says_what_happened() {
    for live in [false, true] {
        let (mut desktop, mut laptop) = (TestNode::with_fixture(Dialect::Newer), TestNode::empty());
        if live {
            desktop.serve_live()
        } else {
            desktop.serve()
        }
        laptop.run_json(&["pair", "join", &desktop.qr()]);
        laptop.sync();
        let backup = laptop.folder.path().join("backup.db");
        std::fs::copy(&laptop.database, &backup).unwrap();
        laptop.app(
            "UPDATE actor SET first_name = 'Sent' WHERE sync_uuid = (SELECT min(sync_uuid) \
            FROM actor)",
        );
        laptop.sync();
        desktop.app(
            "UPDATE actor SET last_name = 'Told' WHERE sync_uuid = (SELECT min(sync_uuid) \
            FROM actor)",
        );
        laptop.sync();
        if live {
            laptop.serve_live();
        }
        // The person puts the backup back, and goes on writing.
        std::fs::copy(&backup, &laptop.database).unwrap();
        laptop.app(
            "UPDATE actor SET title = 'After restoring' WHERE sync_uuid = (SELECT \
            min(sync_uuid) FROM actor)",
        );
        if live {
            eventually(Duration::from_secs(20), "the newer edits come back", || {
                laptop.value::<String>(
                    "SELECT last_name FROM actor WHERE sync_uuid = (SELECT \
                    min(sync_uuid) FROM actor)",
                ) == "Told"
            });
            eventually(Duration::from_secs(20), "the new edit arrives", || {
                desktop.value::<String>(
                    "SELECT title FROM actor WHERE sync_uuid = (SELECT min(sync_uuid) FROM actor)",
                ) == "After restoring"
            });
        } else {
            let report = sync_report(&laptop);
            assert!(report["notices"].to_string().contains("backup"), "{report}");
            assert!(bytes(&report) < 40_000, "645 rows are not told anew: {report}");
        }
        assert_eq!(
            laptop.value::<String>(
                "SELECT first_name FROM actor WHERE sync_uuid = (SELECT min(sync_uuid) FROM actor)"
            ),
            "Sent"
        );
        assert_same_content(&desktop.database, &laptop.database, true);
        let status = laptop.run_json(&["status"]);
        assert_eq!(status["log_began_anew"]["because"], "restored", "{status}");
        assert!(laptop.run_json(&["log"]).to_string().contains("backup was restored"));
    }
}

#[test]
fn the_serving_side_restored_gets_everything_back_too() {
    let (mut desktop, laptop) = (TestNode::with_fixture(Dialect::Newer), TestNode::empty());
    desktop.serve();
    laptop.run_json(&["pair", "join", &desktop.qr()]);
    laptop.sync();
    let backup = desktop.folder.path().join("backup.db");
    std::fs::copy(&desktop.database, &backup).unwrap();
    desktop.app(
        "UPDATE actor SET first_name = 'Told' WHERE sync_uuid = (SELECT min(sync_uuid) FROM actor)",
    );
    laptop.sync();
    laptop.app(
        "UPDATE actor SET last_name = 'Sent' WHERE sync_uuid = (SELECT min(sync_uuid) FROM actor)",
    );
    laptop.sync();
    desktop.stop();
    std::fs::copy(&backup, &desktop.database).unwrap();
    desktop.serve();
    let report = sync_report(&laptop);
    assert!(report["notices"].to_string().contains("was restored from a backup"), "{report}");
    assert_eq!(
        desktop.value::<String>(
            "SELECT first_name || last_name FROM actor WHERE sync_uuid \
        = (SELECT min(sync_uuid) FROM actor)"
        ),
        "ToldSent"
    );
    assert_same_content(&desktop.database, &laptop.database, true);
    assert_eq!(laptop.sync(), (0, 0));
}

#[test]
fn a_cloned_file_on_another_device_converges_with_the_original() {
    let (desktop, laptop) = paired();
    // The person copies the desktop's file, as it is, over the laptop's; both had something the
    // other lacks.
    desktop.app("UPDATE actor SET first_name = 'Before cloning' WHERE id = 1");
    std::fs::copy(&desktop.database, &laptop.database).unwrap();
    desktop.app("UPDATE actor SET last_name = 'Desk after' WHERE id = 1");
    laptop.app(
        "UPDATE actor SET title = 'Clone after' WHERE id = 1; INSERT INTO actor \
        (first_name, setting_id, sync_uuid, version) VALUES ('New on the clone', 1, \
        'new-on-clone', 1)",
    );
    let report = sync_report(&laptop);
    assert_eq!(laptop.run_json(&["status"])["log_began_anew"]["because"], "copied", "{report}");
    assert_same_content(&desktop.database, &laptop.database, true);
    let row: String = desktop
        .value("SELECT first_name || '/' || last_name || '/' || title FROM actor WHERE id = 1");
    assert_eq!(row, "Before cloning/Desk after/Clone after");
    assert_eq!(
        desktop.value::<i64>("SELECT count(*) FROM actor WHERE sync_uuid = 'new-on-clone'"),
        1
    );
    assert_eq!(laptop.sync(), (0, 0));
}

#[test]
fn a_replaced_database_is_put_together_with_what_the_others_have() {
    let (desktop, laptop) = paired();
    // Another file of the same device, that went its own way: the laptop's of long ago, say.
    let other = TestNode::without_database();
    fixtures::make(&other.database, Dialect::Newer);
    let data_dir = laptop.data_dir();
    let done = other.command(&["migrate"]).env("STORYSYNC_DATA_DIR", &data_dir).output().unwrap();
    assert!(done.status.success());
    other.app("UPDATE actor SET first_name = 'From the other file' WHERE id = 2");
    laptop.app("UPDATE actor SET last_name = 'Never sent' WHERE id = 3");
    std::fs::copy(&laptop.database, laptop.folder.path().join("put aside.db")).unwrap();
    std::fs::rename(&other.database, &laptop.database).unwrap();
    let report = sync_report(&laptop);
    assert!(
        report["notices"].to_string().contains("compared") || report["notices"].is_null(),
        "{report}"
    );
    assert_same_content(&desktop.database, &laptop.database, true);
    assert!(
        canonical(&desktop.database, false).iter().any(|row| row.contains("From the other file"))
            || desktop.run_json(&["conflicts"]).to_string().contains("From the other file")
    );
    assert!(laptop.run_json(&["status"])["log_began_anew"].is_object());
    assert_eq!(laptop.sync(), (0, 0));
}

#[test]
fn verify_names_what_differs_and_what_is_damaged() {
    let (desktop, laptop) = paired();
    let id = desktop.id();
    let verdict = laptop.run_json(&["verify", &id]);
    assert_eq!(
        (verdict["ok"].as_bool(), verdict["device"]["rows"].as_u64()),
        (Some(true), Some(fixtures::ROWS_IN_ALL as u64)),
        "{verdict}"
    );
    laptop.app(
        "UPDATE actor SET first_name = 'Differs', job = 'here' WHERE id = 4; DELETE FROM \
        object_ WHERE id = 2",
    );
    let output = laptop.run(&["verify", &id, "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
    let differences = verdict["device"]["differences"].as_array().unwrap();
    let named = |table: &str| {
        differences
            .iter()
            .find(|difference| difference["entity_type"] == table)
            .unwrap_or_else(|| panic!("{verdict}"))
    };
    assert_eq!(named("actor")["columns"], serde_json::json!(["first_name", "job"]));
    assert_eq!(
        (named("object_")["here"].as_bool(), named("object_")["there"].as_bool()),
        (Some(false), Some(true))
    );
    laptop.sync();
    assert_eq!(laptop.run_json(&["verify", &id])["ok"], true);
    // What stands in the app's table and nobody noted.
    laptop.app(
        "UPDATE sync_writer SET own = 1; UPDATE actor SET title = 'unnoted' WHERE id = 3; \
        UPDATE sync_writer SET own = 0",
    );
    let output = laptop.run(&["verify", "--json"]);
    assert!(
        String::from_utf8_lossy(&output.stdout)
            .contains("shows something else than the log says, in title")
    );
    laptop.app("UPDATE actor SET title = 'noted' WHERE id = 3");
    laptop.sync();
    assert_eq!(laptop.run_json(&["verify"])["ok"], true);
    // A byte of the log that is another is found.
    laptop.app(
        "UPDATE sync_change SET bytes = CAST(substr(bytes, 1, 40) || x'ff' || substr(bytes, \
        42) AS BLOB) WHERE seq = 5",
    );
    let sentence = laptop.fails(&["verify"]);
    assert!(sentence.contains("wrong with this database"), "{sentence}");
}

#[test]
fn doctor_names_what_keeps_devices_apart() {
    let codes = |node: &TestNode| -> Vec<String> {
        let report = node.run_json(&["doctor"]);
        report["findings"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|finding| finding["level"] != "fine")
            .map(|finding| finding["code"].as_str().unwrap().to_owned())
            .collect()
    };
    let has = |node: &TestNode, code: &str| {
        let found = codes(node);
        assert!(found.iter().any(|found| found == code), "{code} is not among {found:?}");
    };
    let unprepared = TestNode::with_fixture(Dialect::Newer);
    has(&unprepared, "not_migrated");
    has(&unprepared, "no_devices");
    assert_eq!(
        Connection::open(&unprepared.database)
            .unwrap()
            .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'sync_change'", [], |row| {
                row.get::<_, i64>(0)
            })
            .unwrap(),
        0,
        "doctor changes nothing"
    );
    has(&TestNode::without_database(), "no_database");

    let (mut desktop, laptop) = paired();
    has(&laptop, "node_not_running");
    // Somebody else has the port this device would serve on.
    let taken = std::net::TcpListener::bind(("0.0.0.0", 0)).unwrap();
    std::fs::write(
        laptop.data_dir().join("config.toml"),
        format!("port = {}\n", taken.local_addr().unwrap().port()),
    )
    .unwrap();
    has(&laptop, "port_taken");
    drop(taken);
    std::fs::remove_file(laptop.data_dir().join("config.toml")).unwrap();
    // The desktop stops: its machine is there, and nothing listens.
    desktop.stop();
    has(&laptop, "peer_not_running");
    desktop.serve();
    assert!(!codes(&laptop).contains(&"peer_not_running".to_owned()));
    // Locked by another program.
    let lock = Connection::open(&laptop.database).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    has(&laptop, "database_locked");
    lock.execute_batch("ROLLBACK").unwrap();
    // Rows that wait, and why.
    laptop.app("UPDATE sync_row SET parked = 'parent' WHERE id = 7");
    has(&laptop, "parked");
    laptop.app("UPDATE sync_row SET parked = NULL WHERE id = 7");
    // The other side sent this device away.
    desktop.run_json(&["devices", "revoke", &laptop.id()]);
    has(&laptop, "not_accepted");
    has(&desktop, "revoked");
}

#[test]
fn doctor_names_another_version_and_a_wrong_clock() {
    let (_desktop, laptop) = paired();
    // Somebody at the desktop's address answers as an older storysync with a clock of last year
    // would.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            use std::io::{Read as _, Write as _};
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            let body = r#"{"status":"ok","timestamp":"2025-01-01T00:00:00.000000Z","database_connected":true,"version":"0.0.9"}"#;
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            )
            .unwrap();
        }
    });
    let trust = Connection::open(laptop.data_dir().join("trust.db")).unwrap();
    trust.execute("UPDATE trust_device SET addresses = json_array(?1)", [address]).unwrap();
    let report = laptop.run_json(&["doctor"]);
    let found: Vec<&str> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["code"].as_str().unwrap())
        .collect();
    assert!(found.contains(&"version_mismatch") && found.contains(&"clock"), "{report}");
    assert_eq!(report["ok"], false);
}

#[test]
fn new_rows_of_two_copies_under_one_id_stay_two_rows() {
    let (_folder, original) = fixtures::file(Dialect::Presync);
    let (mut one, other) = (TestNode::without_database(), TestNode::without_database());
    for (node, who) in [(&one, "Smuggler"), (&other, "Inquisitor")] {
        std::fs::copy(&original, &node.database).unwrap();
        // Written before storysync came: the same next ids, the same job, and for one of them
        // nothing but a name.
        node.app(&format!(
            "INSERT INTO actor (first_name, setting_id) VALUES ('{who}', 1); INSERT \
            INTO actor (first_name, job, setting_id) VALUES ('{who} the second', 'Sailor', 1)"
        ));
        node.app(&format!("UPDATE actor SET title = 'of {who}' WHERE id = 2"));
        node.run_json(&["migrate"]);
    }
    one.serve();
    other.run_json(&["pair", "join", &one.qr()]);
    other.run_json(&["sync"]);
    for node in [&one, &other] {
        let actors = "SELECT count(*) FROM actor WHERE first_name LIKE 'Smuggler%' OR first_name \
            LIKE 'Inquisitor%'";
        assert_eq!(node.value::<i64>(actors), 4);
        let open = node.run_json(&["conflicts"]);
        let fields: Vec<&str> = open["conflicts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|conflict| conflict["fields"][0]["name"].as_str().unwrap())
            .collect();
        assert_eq!(fields, ["title"], "{open}");
        // What stood there before storysync is whose file it stood in.
        let devices: Vec<bool> = open["conflicts"][0]["fields"][0]["values"]
            .as_array()
            .unwrap()
            .iter()
            .map(|value| value["device"].is_string())
            .collect();
        assert_eq!(devices, [true, true]);
    }
    other.run_json(&["conflicts", "resolve", "--all", "mine"]);
    other.run_json(&["sync"]);
    assert_eq!(one.value::<String>("SELECT title FROM actor WHERE id = 2"), "of Inquisitor");
    one.stop();
}

#[test]
fn whoever_is_asked_sees_by_name_what_would_be_taken_for_one_and_what_would_stay_two() {
    let (one, other) = diverged(false);
    one.app("INSERT INTO faction (name, setting_id) VALUES ('Mages', 1)");
    other.app("INSERT INTO faction (name, setting_id) VALUES ('Pirates', 1)");
    other.run_json(&["pair", "join", &one.qr()]);
    let output = other.run(&["sync", "--first-contact", "ask", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let question = &report["peers"][0]["first_contact_question"];
    assert_eq!(question["kind"], "copies", "{report}");
    assert!(question["common"].as_u64().unwrap() > question["agreeing"].as_u64().unwrap() / 2);
    let pairs = |what: &str| question[what].as_array().unwrap().clone();
    let (one_row, two_rows) = (pairs("taken_for_one"), pairs("stay_apart"));
    assert!((1..=5).contains(&one_row.len()) && (1..=5).contains(&two_rows.len()), "{question}");
    let is_pair = |pair: &Value, table: &str, here: &str, there: &str| {
        pair["entity_type"] == table
            && pair["here"].as_str().unwrap().contains(here)
            && pair["there"].as_str().unwrap().contains(there)
    };
    assert!(
        one_row.iter().any(|pair| is_pair(pair, "setting", "Lap world", "setting name 3")
            && pair["here_uuid"] != pair["there_uuid"]),
        "{question}"
    );
    assert!(two_rows.iter().any(|pair| is_pair(pair, "faction", "Pirates", "Mages")), "{question}");
    let output = other.run(&["sync", "--first-contact", "ask"]);
    let told = String::from_utf8(output.stdout).unwrap();
    for words in [
        "would be taken for one, for example:",
        "would stay two, for example:",
        "faction “Pirates” (",
        "faction “Mages” (",
        "--first-contact judge",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert_eq!(
        one.value::<i64>("SELECT count(*) FROM faction WHERE name = 'Pirates'"),
        0,
        "nothing was sent"
    );

    let (_here, elsewhere) = two_worlds();
    let output = elsewhere.run(&["sync", "--first-contact", "ask", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let question = &report["peers"][0]["first_contact_question"];
    assert_eq!(
        (&question["kind"], question["stay_apart"].as_array().unwrap().len()),
        (&"unrelated".into(), 5),
        "{question}"
    );
    let tables: std::collections::BTreeSet<&str> = question["stay_apart"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| pair["entity_type"].as_str().unwrap())
        .collect();
    assert!(tables.len() > 1, "examples come from several tables: {question}");
}
