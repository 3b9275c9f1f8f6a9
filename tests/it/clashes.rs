//! What clashes and how it is decided: every row of the table of merging that `syncing` does not cover, on
//! real files.

use crate::fixtures::{self, Dialect};
use crate::support::*;
use storysync::sync::{Choice, ConflictReport, Take};
use storysync_crdt::Value;

const SCHEMA: &str = "
    CREATE TABLE place (id INTEGER PRIMARY KEY, name TEXT UNIQUE, note TEXT, inside INTEGER REFERENCES place (id));
    CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT NOT NULL, home INTEGER NOT NULL REFERENCES place (id));
    CREATE TABLE visit (id INTEGER PRIMARY KEY, who INTEGER NOT NULL REFERENCES person (id), place INTEGER NOT NULL REFERENCES place (id), UNIQUE (who, place));
    CREATE TABLE dial (id INTEGER PRIMARY KEY, level INTEGER CHECK (level BETWEEN 0 AND 9) DEFAULT 5, label TEXT);";

/// Two devices with a small app, in step.
pub fn two() -> (Replica, Replica) {
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

fn clashes(replica: &mut Replica) -> Vec<ConflictReport> {
    replica.engine().conflicts(now()).unwrap()
}

fn kinds(replica: &mut Replica) -> Vec<String> {
    clashes(replica).into_iter().map(|clash| clash.kind).collect()
}

fn meet(a: &mut Replica, b: &mut Replica) {
    a.sync(b);
    b.sync(a);
    assert_same_content(&a.database, &b.database, true);
    let told = |replica: &mut Replica| serde_json::to_value(clashes(replica)).unwrap();
    assert_eq!(told(a), told(b));
    assert_eq!(a.sync(b), (0, 0));
}

fn take(replica: &mut Replica, take: Take) {
    let id = clashes(replica)[0].id.clone();
    replica.engine().resolve(&id, &Choice { take: Some(take), ..Choice::default() }, None, now()).unwrap();
}

fn value(replica: &mut Replica, name: &str, value: Value) {
    let id = clashes(replica)[0].id.clone();
    let choice = Choice { take: None, fields: [(name.to_owned(), value)].into() };
    replica.engine().resolve(&id, &choice, None, now()).unwrap();
}

#[test]
fn of_two_times_of_one_row_the_earliest_creation_and_the_latest_update_are_shown() {
    for swapped in [false, true] {
        let (mut a, mut b) = two();
        let row =
            |created: &str, updated: &str| format!("INSERT INTO place (name, sync_uuid, created_at, updated_at) VALUES ('x', 'p', '{created}', '{updated}')");
        let (early, late) = (row("2026-01-01 00:00:00", "2026-01-05 00:00:00"), row("2026-01-02 00:00:00", "2026-01-06 00:00:00"));
        a.write(if swapped { &early } else { &late });
        b.write(if swapped { &late } else { &early });
        meet(&mut a, &mut b);
        let times: (String, String) = (a.value("SELECT created_at FROM place"), a.value("SELECT updated_at FROM place"));
        assert_eq!(times, ("2026-01-01 00:00:00".to_owned(), "2026-01-06 00:00:00".to_owned()));
    }
}

#[test]
fn of_a_row_both_had_before_storysync_the_later_update_is_shown_and_both_values_are_told() {
    for number in 0..6 {
        let file = |text: &str, updated: &str| {
            format!(
                "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT, sync_uuid TEXT UNIQUE, created_at DATETIME, updated_at DATETIME, deleted_at DATETIME, version INTEGER NOT NULL DEFAULT 1);
                 INSERT INTO note VALUES (1, '{text} {number}', 'n', '2026-01-01 00:00:00', '{updated}', NULL, 1)"
            )
        };
        let (early, late) = (file("early", "2026-01-01 00:00:00"), file("late", "2026-02-01 00:00:00"));
        let (mut a, mut b) = if number % 2 == 0 { two_with(&early, &late) } else { two_with(&late, &early) };
        meet(&mut a, &mut b);
        assert_eq!(a.value::<String>("SELECT text FROM note"), format!("late {number}"));
        let found = clashes(&mut a);
        assert_eq!((found[0].kind.as_str(), found[0].fields[0].values.len()), ("field", 2));
    }
}

// Orphans.

fn orphaned() -> (Replica, Replica) {
    let (mut a, mut b) = two();
    a.write("INSERT INTO place (name, sync_uuid) VALUES ('Harbour', 'harbour'); INSERT INTO person (name, home, sync_uuid) VALUES ('Ada', 1, 'ada')");
    meet(&mut a, &mut b);
    a.write("DELETE FROM person; DELETE FROM place");
    b.write("INSERT INTO person (name, home, sync_uuid) SELECT 'Bea', id, 'bea' FROM place");
    meet(&mut a, &mut b);
    (a, b)
}

#[test]
fn a_parent_deleted_here_and_required_there_lives_until_decided() {
    let (mut a, mut b) = orphaned();
    for replica in [&mut a, &mut b] {
        let home: String = replica.value("SELECT p.name FROM person JOIN place p ON p.id = home WHERE person.sync_uuid = 'bea'");
        assert_eq!(home, "Harbour");
        let found = clashes(replica);
        assert_eq!((found.len(), found[0].kind.as_str(), found[0].sync_uuid.as_str()), (1, "orphan", "harbour"));
        assert_eq!(found[0].rows[0].sync_uuid, "bea");
        assert_eq!(replica.engine().status().unwrap().parked, 0);
    }
    take(&mut b, Take::Keep);
    meet(&mut a, &mut b);
    assert!(kinds(&mut a).is_empty());
    assert_eq!(a.value::<i64>("SELECT count(*) FROM place"), 1);
}

#[test]
fn an_orphan_clash_decided_by_deleting_leaves_the_child_without_its_parent() {
    let (mut a, mut b) = orphaned();
    take(&mut a, Take::Delete);
    meet(&mut a, &mut b);
    assert!(kinds(&mut b).is_empty());
    assert_eq!((b.value::<i64>("SELECT count(*) FROM place"), b.value::<i64>("SELECT home FROM person")), (0, 0));
    let ended = b.engine().ended_conflicts(10).unwrap();
    assert_eq!((ended[0].kind.as_str(), ended[0].ending.as_str(), ended[0].ended_by.clone()), ("orphan", "resolved", Some(a.id())));
}

#[test]
fn a_kept_parent_keeps_its_own_parent() {
    let (mut a, mut b) = two_with(
        "CREATE TABLE world (id INTEGER PRIMARY KEY, name TEXT);
         CREATE TABLE place (id INTEGER PRIMARY KEY, name TEXT, world INTEGER NOT NULL REFERENCES world (id));
         CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT, home INTEGER NOT NULL REFERENCES place (id));",
        "",
    );
    a.write("INSERT INTO world (name) VALUES ('W'); INSERT INTO place (name, world) VALUES ('P', 1)");
    meet(&mut a, &mut b);
    a.write("DELETE FROM place");
    a.capture();
    a.write("DELETE FROM world");
    b.write("INSERT INTO person (name, home) SELECT 'Ada', id FROM place");
    meet(&mut a, &mut b);
    assert_eq!(kinds(&mut a), ["orphan", "orphan"]);
    assert_eq!(a.value::<String>("SELECT w.name FROM person JOIN place p ON p.id = home JOIN world w ON w.id = p.world"), "W");
    // The child goes: nothing requires them any more.
    b.write("DELETE FROM person");
    meet(&mut a, &mut b);
    assert!(kinds(&mut a).is_empty());
    assert_eq!(a.value::<i64>("SELECT (SELECT count(*) FROM place) + (SELECT count(*) FROM world)"), 0);
    assert!(a.engine().ended_conflicts(10).unwrap().iter().all(|clash| clash.ending == "superseded"));
}

#[test]
fn writing_into_a_kept_parent_decides_to_keep_it() {
    let (mut a, mut b) = orphaned();
    a.write("UPDATE place SET note = 'rebuilt'");
    meet(&mut a, &mut b);
    assert!(kinds(&mut b).is_empty());
    assert_eq!(b.value::<String>("SELECT note FROM place"), "rebuilt");
}

#[test]
fn children_the_app_leaves_behind_are_no_clash() {
    let (mut a, mut b) = two();
    a.write("INSERT INTO place (name, sync_uuid) VALUES ('Harbour', 'harbour'); INSERT INTO person (name, home, sync_uuid) VALUES ('Ada', 1, 'ada')");
    meet(&mut a, &mut b);
    a.write("DELETE FROM place");
    a.sync(&mut b);
    assert!(kinds(&mut a).is_empty() && kinds(&mut b).is_empty());
    assert_eq!((a.value::<i64>("SELECT home FROM person"), b.value::<i64>("SELECT home FROM person")), (1, 0), "as the app left it, and empty elsewhere");
    // More children than any list should hold: none of them brings the parent back.
    let mut many = String::from("INSERT INTO place (name) VALUES ('Port');");
    for number in 0..1_200 {
        many.push_str(&format!("INSERT INTO person (name, home) VALUES ('p{number}', (SELECT id FROM place));"));
    }
    a.write(&format!("BEGIN; {many} COMMIT"));
    a.sync(&mut b);
    a.write("DELETE FROM place");
    a.sync(&mut b);
    assert!(kinds(&mut b).is_empty());
    assert_eq!(b.value::<i64>("SELECT count(*) FROM place"), 0);
}

// Unique values.

#[test]
fn one_name_given_on_both_sides_keeps_the_smaller_uuid_and_tells_both() {
    let (mut a, mut b) = two();
    a.write("INSERT INTO place (name, note, sync_uuid) VALUES ('Harbour', 'by a', 'zz-of-a')");
    b.write("INSERT INTO place (name, note, sync_uuid) VALUES ('Harbour', 'by b', 'aa-of-b'); INSERT INTO person (name, home) SELECT 'Bea', id FROM place");
    a.write("INSERT INTO person (name, home, sync_uuid) SELECT 'Ada', id, 'ada' FROM place");
    meet(&mut a, &mut b);
    for replica in [&mut a, &mut b] {
        assert_eq!(replica.value::<String>("SELECT group_concat(note) FROM place"), "by b");
        let at_home: i64 = replica.value("SELECT count(*) FROM person JOIN place p ON p.id = home WHERE p.sync_uuid = 'aa-of-b'");
        assert_eq!(at_home, 2, "references show the one that stays");
        let found = clashes(replica);
        assert_eq!((found.len(), found[0].kind.as_str(), found[0].sync_uuid.as_str()), (1, "unique", "zz-of-a"));
        assert_eq!((found[0].fields[0].name.as_str(), found[0].rows[0].sync_uuid.as_str()), ("name", "aa-of-b"));
        assert_eq!(replica.engine().status().unwrap().parked, 1);
    }
    take(&mut a, Take::Rename);
    meet(&mut a, &mut b);
    assert!(kinds(&mut b).is_empty());
    assert_eq!(b.value::<String>("SELECT group_concat(name) FROM (SELECT name FROM place ORDER BY name)"), "Harbour,Harbour (2)");
    assert_eq!(b.value::<String>("SELECT p.name FROM person JOIN place p ON p.id = home WHERE person.sync_uuid = 'ada'"), "Harbour (2)");
}

#[test]
fn a_unique_clash_is_decided_by_value_by_deleting_and_by_whose_name_it_is() {
    for way in 0..3 {
        let (mut a, mut b) = two();
        a.write(
            "INSERT INTO place (name, sync_uuid) VALUES ('Harbour', 'zz-of-a'); INSERT INTO person (name, home, sync_uuid) SELECT 'Ada', id, 'ada' FROM place",
        );
        b.write("INSERT INTO place (name, sync_uuid) VALUES ('Harbour', 'aa-of-b')");
        meet(&mut a, &mut b);
        match way {
            0 => value(&mut b, "name", Value::from("Port")),
            1 => take(&mut a, Take::Delete),
            _ => take(&mut a, Take::Mine),
        }
        meet(&mut a, &mut b);
        assert!(kinds(&mut a).is_empty());
        let names: String = b.value("SELECT group_concat(name) FROM (SELECT name FROM place ORDER BY sync_uuid)");
        let home: String = b.value("SELECT p.sync_uuid FROM person JOIN place p ON p.id = home WHERE person.sync_uuid = 'ada'");
        match way {
            0 => assert_eq!((names.as_str(), home.as_str()), ("Harbour,Port", "zz-of-a")),
            1 => assert_eq!((names.as_str(), home.as_str()), ("Harbour", "aa-of-b"), "whoever referred to the one refers to the other"),
            _ => assert_eq!((names.as_str(), home.as_str()), ("Harbour (2),Harbour", "zz-of-a")),
        }
    }
}

#[test]
fn a_swap_of_names_is_no_clash() {
    let (mut a, mut b) = two();
    a.write("INSERT INTO place (name, sync_uuid) VALUES ('Left', 'one'), ('Right', 'two'), ('Third', 'three')");
    meet(&mut a, &mut b);
    // Integers only this device knows: a row taken out of its table and put back would lose them.
    b.write("UPDATE place SET inside = 4711 WHERE sync_uuid IN ('one', 'two')");
    a.sync(&mut b);
    a.write("UPDATE place SET name = 'x' WHERE id = 1; UPDATE place SET name = 'Left' WHERE id = 2; UPDATE place SET name = 'Third2' WHERE id = 3; UPDATE place SET name = 'Right' WHERE id = 1;
             UPDATE place SET name = 'Third' WHERE id = 3");
    meet(&mut a, &mut b);
    assert_eq!(b.value::<String>("SELECT group_concat(name) FROM (SELECT name FROM place WHERE sync_uuid <> 'three' ORDER BY sync_uuid)"), "Right,Left");
    assert_eq!(b.value::<i64>("SELECT count(*) FROM place WHERE inside = 4711"), 2);
    assert!(kinds(&mut b).is_empty());
    assert_eq!(b.engine().status().unwrap().parked, 0);
}

#[test]
fn a_waiting_row_gets_its_turn_when_the_name_becomes_free() {
    let (mut a, mut b) = two();
    a.write("INSERT INTO place (name, sync_uuid) VALUES ('Harbour', 'zz')");
    b.write("INSERT INTO place (name, sync_uuid) VALUES ('Harbour', 'aa')");
    meet(&mut a, &mut b);
    b.write("UPDATE place SET name = 'Port' WHERE sync_uuid = 'aa'");
    meet(&mut a, &mut b);
    assert!(kinds(&mut a).is_empty());
    assert_eq!(a.value::<i64>("SELECT count(*) FROM place"), 2);
}

#[test]
fn rows_that_link_two_rows_clash_when_both_become_the_same_pair() {
    let (mut a, mut b) = two();
    a.write(
        "INSERT INTO place (name, sync_uuid) VALUES ('Harbour', 'p1'), ('Port', 'p2'); INSERT INTO person (name, home, sync_uuid) VALUES ('Ada', 1, 'ada')",
    );
    meet(&mut a, &mut b);
    a.write("INSERT INTO visit (who, place, sync_uuid) VALUES (1, 1, 'zz')");
    b.write("INSERT INTO visit (who, place, sync_uuid) SELECT (SELECT id FROM person), id, 'aa' FROM place WHERE sync_uuid = 'p1'");
    meet(&mut a, &mut b);
    assert_eq!(kinds(&mut a), ["unique"]);
    take(&mut a, Take::Delete);
    meet(&mut a, &mut b);
    assert_eq!(a.value::<i64>("SELECT count(*) FROM visit"), 1);
}

#[test]
fn links_whose_targets_are_gone_do_not_collide() {
    let (mut a, mut b) = two();
    a.write("INSERT INTO place (name) VALUES ('Harbour'), ('Port'); INSERT INTO person (name, home) VALUES ('Ada', 1), ('Bea', 2); INSERT INTO visit (who, place) VALUES (1, 1), (2, 2)");
    meet(&mut a, &mut b);
    a.write("DELETE FROM person; DELETE FROM place");
    a.sync(&mut b);
    assert_eq!(b.value::<i64>("SELECT count(*) FROM visit"), 2, "both stand, leading nowhere");
    assert_eq!(b.engine().status().unwrap().parked, 0);
    assert_eq!(a.sync(&mut b), (0, 0));
}

#[test]
fn a_reference_shows_nothing_once_the_waiting_row_it_names_is_gone() {
    let (mut a, mut b) = two();
    a.write("INSERT INTO place (name, sync_uuid) VALUES ('Harbour', 'aa')");
    b.write("INSERT INTO place (name, sync_uuid) VALUES ('Harbour', 'zz'); INSERT INTO person (name, home, sync_uuid) SELECT 'Bea', id, 'bea' FROM place");
    // B deletes its row, and leaves the child behind, before it has seen A's.
    b.capture();
    a.sync(&mut b);
    let at_home = |replica: &Replica| replica.value::<i64>("SELECT count(*) FROM person JOIN place p ON p.id = home");
    assert_eq!(at_home(&a), 1, "meanwhile the one that stays is shown");
    a.engine().undo_change("place", "zz", None, now()).unwrap();
    a.sync(&mut b);
    assert_eq!((at_home(&a), at_home(&b)), (0, 0));
    // Nor does a stranger get the reference with the id.
    a.write("DELETE FROM place; INSERT INTO place (id, name, sync_uuid) VALUES (1, 'New', 'new')");
    a.sync(&mut b);
    assert_eq!((at_home(&a), at_home(&b)), (0, 0));
}

#[test]
fn hundreds_of_waiting_rows_keep_nobody_waiting() {
    let (mut a, mut b) = two();
    let rows =
        |prefix: &str| (0..300).map(|number| format!("INSERT INTO place (name, sync_uuid) VALUES ('n{number}', '{prefix}{number}');")).collect::<String>();
    a.write(&format!("BEGIN; {} COMMIT", rows("a")));
    b.write(&format!("BEGIN; {} COMMIT", rows("b")));
    meet(&mut a, &mut b);
    assert_eq!(a.engine().status().unwrap().conflicts, 300);
    let started = std::time::Instant::now();
    a.write("INSERT INTO place (name) VALUES ('unrelated')");
    a.capture();
    // Not a measurement: what it replaced took a minute.
    assert!(started.elapsed() < std::time::Duration::from_secs(5));
    assert_eq!(a.engine().resolve_all(&Take::Mine, None, now()).unwrap(), (300, Vec::new()));
    meet(&mut a, &mut b);
    assert_eq!(b.value::<i64>("SELECT count(*) FROM place"), 601);
}

#[test]
fn numbers_and_links_that_clash_are_decided_like_names() {
    let (mut a, mut b) = two_with(
        "CREATE TABLE step (id INTEGER PRIMARY KEY, place INTEGER UNIQUE, note TEXT);
         CREATE TABLE link (id INTEGER PRIMARY KEY, step INTEGER REFERENCES step (id) UNIQUE);",
        "",
    );
    a.write("INSERT INTO step (place, note, sync_uuid) VALUES (7, 'a', 'aa')");
    meet(&mut a, &mut b);
    a.write("INSERT INTO link (step, sync_uuid) VALUES (1, 'l-a')");
    b.write("INSERT INTO link (step, sync_uuid) SELECT id, 'l-b' FROM step; UPDATE step SET note = 'b'; INSERT INTO step (place, sync_uuid) VALUES (8, 'bb')");
    a.write("UPDATE step SET note = 'A'; INSERT INTO step (place, sync_uuid) VALUES (8, 'zz')");
    meet(&mut a, &mut b);
    assert_eq!(kinds(&mut a).len(), 3);
    assert_eq!(a.engine().resolve_all(&Take::Theirs, None, now()).unwrap(), (3, Vec::new()));
    meet(&mut a, &mut b);
    assert!(kinds(&mut b).is_empty());
    assert_eq!((b.value::<i64>("SELECT count(*) FROM link"), b.value::<i64>("SELECT count(DISTINCT place) FROM step")), (1, 3));
}

#[test]
fn a_name_given_for_a_waiting_row_must_be_free_and_a_reference_must_lead_somewhere() {
    let (mut a, mut b) = two();
    a.write("INSERT INTO place (name, sync_uuid) VALUES ('Harbour', 'zz')");
    b.write("INSERT INTO place (name, sync_uuid) VALUES ('Harbour', 'aa')");
    meet(&mut a, &mut b);
    let id = clashes(&mut a)[0].id.clone();
    let mut give = |name: &str, value: Value| {
        let choice = Choice { take: None, fields: [(name.to_owned(), value)].into() };
        a.engine().resolve(&id, &choice, None, now()).unwrap_err().to_string()
    };
    assert!(give("name", Value::from("Harbour")).contains("another row has it already"));
    let (mut a, mut b) = two();
    a.write("INSERT INTO place (name, sync_uuid) VALUES ('One', 'p1'), ('Two', 'p2'), ('Three', 'p3'); INSERT INTO person (name, home, sync_uuid) VALUES ('Ada', 1, 'ada')");
    meet(&mut a, &mut b);
    a.write("UPDATE person SET home = 2");
    b.write("UPDATE person SET home = (SELECT id FROM place WHERE sync_uuid = 'p3')");
    meet(&mut a, &mut b);
    let id = clashes(&mut a)[0].id.clone();
    let mut give = |value: Value| a.engine().resolve(&id, &Choice { take: None, fields: [("home".to_owned(), value)].into() }, None, now());
    for (wrong, words) in [(Value::from("garbage"), "names no row"), (Value::Integer(99), "names no row"), (Value::Null, "wants a value")] {
        let error = give(wrong).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    give(Value::Integer(1)).unwrap();
    meet(&mut a, &mut b);
    assert_eq!(b.value::<String>("SELECT p.sync_uuid FROM person JOIN place p ON p.id = home"), "p1");
}

#[test]
fn writing_into_a_parent_marked_as_deleted_and_kept_decides_to_keep_it() {
    let (mut a, mut b) = two();
    a.write("INSERT INTO place (name, sync_uuid) VALUES ('Harbour', 'harbour')");
    meet(&mut a, &mut b);
    a.write("UPDATE place SET deleted_at = '2026-01-01 00:00:00'");
    b.write("INSERT INTO person (name, home, sync_uuid) SELECT 'Bea', id, 'bea' FROM place");
    meet(&mut a, &mut b);
    assert_eq!(kinds(&mut b), ["orphan"]);
    b.write("UPDATE place SET note = 'TYPED'; DELETE FROM person");
    meet(&mut a, &mut b);
    assert_eq!(a.value::<Option<String>>("SELECT deleted_at FROM place"), None);
    assert_eq!(a.value::<String>("SELECT note FROM place"), "TYPED");
}

#[test]
fn deleting_the_waiting_row_ends_the_clash_even_if_it_was_marked_as_deleted_once() {
    let (mut a, mut b) = two();
    a.write("INSERT INTO place (name, sync_uuid) VALUES ('Harbour', 'zz')");
    a.capture();
    a.write("UPDATE place SET deleted_at = '2026-01-01 00:00:00'");
    a.capture();
    a.write("UPDATE place SET deleted_at = NULL");
    b.write("INSERT INTO place (name, sync_uuid) VALUES ('Harbour', 'aa')");
    meet(&mut a, &mut b);
    take(&mut a, Take::Delete);
    meet(&mut a, &mut b);
    assert!(kinds(&mut b).is_empty());
}

// Values a table refuses.

#[test]
fn a_value_this_table_refuses_shows_an_earlier_one_and_is_told_here_only() {
    let lenient = SCHEMA.replace("CHECK (level BETWEEN 0 AND 9)", "");
    let (mut a, mut b) = two_with(SCHEMA, &lenient);
    a.write("INSERT INTO dial (level, label, sync_uuid) VALUES (3, 'volume', 'dial')");
    a.sync(&mut b);
    b.write("UPDATE dial SET level = 11, label = 'loud'");
    a.sync(&mut b);
    assert_eq!((a.value::<i64>("SELECT level FROM dial"), a.value::<String>("SELECT label FROM dial")), (3, "loud".to_owned()));
    assert_eq!(b.value::<i64>("SELECT level FROM dial"), 11, "what was typed stays");
    let found = clashes(&mut a);
    assert_eq!((found.len(), found[0].kind.as_str(), found[0].fields[0].name.as_str()), (1, "schema", "level"));
    assert_eq!((&found[0].fields[0].values[0].value, &found[0].fields[0].shown), (&11.into(), &3.into()));
    assert!(kinds(&mut b).is_empty());
    assert_eq!(a.sync(&mut b), (0, 0), "showing another value is no edit");
    value(&mut a, "level", Value::Integer(9));
    a.sync(&mut b);
    assert!(kinds(&mut a).is_empty());
    assert_eq!(b.value::<i64>("SELECT level FROM dial"), 9);
}

#[test]
fn a_new_row_with_a_refused_value_shows_the_columns_default() {
    let (mut a, mut b) = two_with(SCHEMA, &SCHEMA.replace("CHECK (level BETWEEN 0 AND 9)", ""));
    b.write("INSERT INTO dial (level, label) VALUES (99, 'new')");
    a.sync(&mut b);
    assert_eq!((a.value::<i64>("SELECT level FROM dial"), a.value::<String>("SELECT label FROM dial")), (5, "new".to_owned()));
    assert_eq!(kinds(&mut a), ["schema"]);
}

#[test]
fn a_null_where_this_table_wants_a_value_shows_the_default() {
    let (mut a, mut b) =
        two_with("CREATE TABLE dial (id INTEGER PRIMARY KEY, level INTEGER NOT NULL DEFAULT 4)", "CREATE TABLE dial (id INTEGER PRIMARY KEY, level INTEGER)");
    b.write("INSERT INTO dial (level) VALUES (7)");
    a.sync(&mut b);
    b.write("UPDATE dial SET level = NULL");
    a.sync(&mut b);
    assert_eq!(a.value::<i64>("SELECT level FROM dial"), 7, "the newest value this table takes");
    assert_eq!(kinds(&mut a), ["schema"]);
    b.write("UPDATE dial SET level = 8");
    a.sync(&mut b);
    assert!(kinds(&mut a).is_empty());
    assert_eq!(a.value::<i64>("SELECT level FROM dial"), 8);
}

#[test]
fn a_bad_enum_never_reaches_the_app() {
    let (_folder, file) = fixtures::file(Dialect::Newer);
    let mut desktop = Replica::of_copy(&file, 1);
    let mut phone = Replica::empty(2);
    phone.sync(&mut desktop);
    phone.write("UPDATE litography_node SET node_type = 'bogus' WHERE sync_uuid = (SELECT sync_uuid FROM litography_node ORDER BY sync_uuid LIMIT 1)");
    phone.write("INSERT INTO litography_node (name, node_type, storyline_id, x_position, y_position, sync_uuid, version) SELECT 'N', 'nonsense', storyline_id, 0, 0, 'n', 1 FROM litography_node LIMIT 1");
    desktop.sync(&mut phone);
    assert_eq!(desktop.value::<i64>("SELECT count(*) FROM litography_node WHERE node_type IN ('bogus', 'nonsense')"), 0);
    assert_eq!(desktop.value::<String>("SELECT node_type FROM litography_node WHERE name = 'N'"), "other");
    assert_eq!(kinds(&mut desktop), ["schema", "schema"]);
    assert_eq!(phone.value::<i64>("SELECT count(*) FROM litography_node WHERE node_type IN ('bogus', 'nonsense')"), 2, "nothing typed is lost");
    assert_eq!(desktop.sync(&mut phone), (0, 0));
}

#[test]
fn a_value_too_large_to_travel_is_told_where_it_was_typed() {
    let (mut a, mut b) = two();
    a.write("INSERT INTO dial (label, sync_uuid) VALUES ('short', 'dial')");
    a.sync(&mut b);
    a.write("UPDATE dial SET label = printf('%.3000000c', 'x')");
    a.sync(&mut b);
    assert_eq!(kinds(&mut a), ["schema"]);
    assert_eq!((a.value::<i64>("SELECT length(label) FROM dial"), b.value::<String>("SELECT label FROM dial")), (3_000_000, "short".to_owned()));
    a.write("UPDATE dial SET label = 'shorter'");
    a.sync(&mut b);
    assert!(kinds(&mut a).is_empty());
    assert_eq!(b.value::<String>("SELECT label FROM dial"), "shorter");
}

#[test]
fn a_value_too_large_to_travel_is_replaced_by_nothing_unseen() {
    for way in 0..4 {
        let (mut a, mut b) = two();
        a.write("INSERT INTO dial (label, sync_uuid) VALUES ('short', 'dial')");
        a.sync(&mut b);
        a.write("UPDATE dial SET label = printf('%.3000000c', 'x')");
        a.sync(&mut b);
        let length = |replica: &Replica| replica.value::<i64>("SELECT coalesce(max(length(label)), 0) FROM dial");
        if way == 0 {
            b.write("UPDATE dial SET label = 'from b'");
        } else if way == 1 {
            b.write("DELETE FROM dial");
        }
        a.sync(&mut b);
        b.sync(&mut a);
        assert_eq!((length(&a), kinds(&mut a)), (3_000_000, vec!["schema".to_owned()]), "still there, still told");
        let id = clashes(&mut a)[0].id.clone();
        let shown = clashes(&mut a)[0].fields[0].shown.clone();
        assert!(shown.as_str().unwrap().contains("too large"), "{shown}");
        let mut decide = |take: Take| a.engine().resolve(&id, &Choice { take: Some(take), ..Choice::default() }, None, now());
        if way == 2 {
            assert!(decide(Take::Mine).unwrap_err().to_string().contains("shorten it"));
            assert!(decide(Take::Keep).is_err());
            assert_eq!(length(&a), 3_000_000);
            continue;
        }
        decide(Take::Theirs).unwrap();
        meet(&mut a, &mut b);
        assert_eq!(length(&a), [6, 0, 0, 5][way]);
        assert!(kinds(&mut a).is_empty());
    }
}

#[test]
fn a_value_too_large_to_travel_survives_a_contest_for_its_rows_name() {
    for smaller in ["a", "b"] {
        let (mut a, mut b) = two();
        let other = if smaller == "a" { "b" } else { "a" };
        a.write(&format!("INSERT INTO place (name, note, sync_uuid) VALUES ('Harbour', printf('%.3000000c', 'x'), '{smaller}-of-a')"));
        b.write(&format!("INSERT INTO place (name, note, sync_uuid) VALUES ('Harbour', 'b', '{other}-of-b')"));
        a.sync(&mut b);
        b.sync(&mut a);
        let large = |replica: &Replica| replica.value::<i64>("SELECT count(*) FROM place WHERE length(note) = 3000000");
        assert_eq!(large(&a), 1, "{smaller}");
        b.write("UPDATE place SET name = 'Port' WHERE note = 'b'; UPDATE place SET name = 'Quay' WHERE note IS NULL");
        a.sync(&mut b);
        assert_eq!((large(&a), a.value::<i64>("SELECT count(*) FROM place")), (1, 2), "{smaller}");
        assert_eq!(kinds(&mut a), ["schema"]);
    }
}

#[test]
fn whoever_has_a_value_too_large_to_travel_may_delete_its_row() {
    let (mut a, mut b) = two();
    a.write("INSERT INTO dial (label, sync_uuid) VALUES (printf('%.3000000c', 'x'), 'dial')");
    a.sync(&mut b);
    a.write("UPDATE dial SET deleted_at = '2026-01-01 00:00:00'");
    a.sync(&mut b);
    assert_eq!((a.value::<i64>("SELECT count(deleted_at) FROM dial"), b.value::<i64>("SELECT count(deleted_at) FROM dial")), (1, 1));
}

#[test]
fn names_swapped_under_an_index_with_a_condition_arrive() {
    let (mut a, mut b) = two_with(
        "CREATE TABLE tag (id INTEGER PRIMARY KEY, name TEXT, n INTEGER REFERENCES tag (id), gone INTEGER);
         CREATE UNIQUE INDEX tag_name ON tag (name) WHERE gone IS NULL",
        "",
    );
    a.write("INSERT INTO tag (name, sync_uuid) VALUES ('one', 'x'), ('two', 'y'), ('three', 'z')");
    meet(&mut a, &mut b);
    b.write("UPDATE tag SET n = 4711");
    a.sync(&mut b);
    a.write("UPDATE tag SET name = 'tmp' WHERE sync_uuid = 'x'; UPDATE tag SET name = 'one' WHERE sync_uuid = 'y'; UPDATE tag SET name = 'two' WHERE sync_uuid = 'z'; UPDATE tag SET name = 'three' WHERE sync_uuid = 'x'");
    a.sync(&mut b);
    assert_eq!(b.value::<String>("SELECT group_concat(name) FROM (SELECT name FROM tag ORDER BY sync_uuid)"), "three,one,two");
    assert_eq!(b.value::<i64>("SELECT count(*) FROM tag WHERE n = 4711"), 3, "what only this device knows stays");
    assert!(kinds(&mut b).is_empty());
}

#[test]
fn a_column_the_app_gains_decides_nothing() {
    let (mut a, mut b) = orphaned();
    for (replica, table) in [(&mut a, "place"), (&mut b, "place")] {
        replica.write(&format!("ALTER TABLE {table} ADD COLUMN z TEXT DEFAULT 'q'"));
        replica.capture();
    }
    meet(&mut a, &mut b);
    assert_eq!(kinds(&mut a), ["orphan"]);
    let (mut a, mut b) = with_many_rows();
    b.write("DELETE FROM place WHERE id <= 300");
    b.sync(&mut a);
    a.write("ALTER TABLE place ADD COLUMN z TEXT DEFAULT 'q'");
    a.sync(&mut b);
    assert_eq!(a.engine().brakes(now()).unwrap()[0].rows, 300);
    assert_eq!(b.value::<i64>("SELECT count(*) FROM place"), 100);
}

#[test]
fn deciding_all_at_once_deletes_no_link_that_would_not_clash_then() {
    for (first, second) in [("aa", "zz"), ("zz", "aa")] {
        let (mut a, mut b) = two();
        a.write("INSERT INTO place (name, sync_uuid) VALUES ('Shared', 's'); INSERT INTO person (name, home, sync_uuid) VALUES ('Ada', 1, 'ada')");
        meet(&mut a, &mut b);
        for (replica, uuid) in [(&a, first), (&b, second)] {
            replica.write(&format!("INSERT INTO place (name, sync_uuid) VALUES ('U', '{uuid}'); INSERT INTO visit (who, place, sync_uuid) SELECT (SELECT id FROM person), id, 'v-{uuid}' FROM place WHERE name = 'U'"));
        }
        meet(&mut a, &mut b);
        assert_eq!(kinds(&mut a).len(), 2);
        assert!(a.engine().resolve_all(&Take::Theirs, None, now()).unwrap().1.is_empty());
        meet(&mut a, &mut b);
        assert_eq!((b.value::<i64>("SELECT count(*) FROM visit"), kinds(&mut b).len()), (2, 0));
    }
}

#[test]
fn a_decision_that_would_end_nothing_is_refused() {
    let (mut a, mut b) = two_with("CREATE TABLE step (id INTEGER PRIMARY KEY, place INTEGER UNIQUE)", "");
    a.write("INSERT INTO step (place, sync_uuid) VALUES (9223372036854775807, 'aa')");
    b.write("INSERT INTO step (place, sync_uuid) VALUES (9223372036854775807, 'zz')");
    meet(&mut a, &mut b);
    let id = clashes(&mut a)[0].id.clone();
    let error = a.engine().resolve(&id, &Choice { take: Some(Take::Rename), ..Choice::default() }, None, now()).unwrap_err().to_string();
    assert!(error.contains("--field"), "{error}");
    assert_eq!(a.engine().resolve_all(&Take::Mine, None, now()).unwrap().0, 0);
    let (mut a, mut b) = two_with("CREATE TABLE tag (id INTEGER PRIMARY KEY, name TEXT); CREATE UNIQUE INDEX tag_name ON tag (lower(name))", "");
    a.write("INSERT INTO tag (name, sync_uuid) VALUES ('Red', 'zz')");
    b.write("INSERT INTO tag (name, sync_uuid) VALUES ('red', 'aa')");
    a.sync(&mut b);
    let id = clashes(&mut a)[0].id.clone();
    assert!(a.engine().resolve(&id, &Choice { take: Some(Take::Mine), ..Choice::default() }, None, now()).is_err());
    value(&mut a, "name", Value::from("crimson"));
    meet(&mut a, &mut b);
    assert_eq!(b.value::<i64>("SELECT count(*) FROM tag"), 2);
}

#[test]
fn a_row_an_index_on_an_expression_keeps_out_waits_and_takes_nothing_away() {
    let (mut a, mut b) = two_with("CREATE TABLE tag (id INTEGER PRIMARY KEY, name TEXT); CREATE UNIQUE INDEX tag_name ON tag (lower(name))", "");
    a.write("INSERT INTO tag (name, sync_uuid) VALUES ('Red', 'zz')");
    b.write("INSERT INTO tag (name, sync_uuid) VALUES ('red', 'aa')");
    a.sync(&mut b);
    for replica in [&mut a, &mut b] {
        assert_eq!(replica.value::<i64>("SELECT count(*) FROM tag WHERE name IS NOT NULL"), 1);
        assert_eq!((kinds(replica), replica.engine().status().unwrap().parked), (vec!["schema".to_owned()], 1));
    }
    b.write("UPDATE tag SET name = 'crimson'");
    meet(&mut a, &mut b);
    assert_eq!(a.value::<i64>("SELECT count(*) FROM tag"), 2);
}

#[test]
fn a_strict_table_is_taken_in() {
    let (mut a, mut b) = two_with("CREATE TABLE gauge (id INTEGER PRIMARY KEY, level INTEGER, label TEXT) STRICT", "");
    a.write("INSERT INTO gauge (level, label) VALUES (1, 'one')");
    meet(&mut a, &mut b);
    assert_eq!(b.value::<String>("SELECT label FROM gauge"), "one");
}

// Deciding.

fn clashing() -> (Replica, Replica) {
    let (mut a, mut b) = two();
    a.write("INSERT INTO place (name, note, sync_uuid) VALUES ('Harbour', 'before', 'p')");
    meet(&mut a, &mut b);
    a.write("UPDATE place SET note = 'by a'");
    b.write("UPDATE place SET note = 'by b'");
    meet(&mut a, &mut b);
    (a, b)
}

#[test]
fn mine_and_theirs_are_what_they_say_on_each_device() {
    for (mine, wanted) in [(true, "by b"), (false, "by a")] {
        let (mut a, mut b) = clashing();
        take(&mut b, if mine { Take::Mine } else { Take::Theirs });
        meet(&mut a, &mut b);
        assert_eq!(a.value::<String>("SELECT note FROM place"), wanted);
        let ended = a.engine().ended_conflicts(10).unwrap();
        assert_eq!((ended.len(), ended[0].ending.as_str(), ended[0].ended_by.clone()), (1, "resolved", Some(b.id())));
        let documented: (String, String) = (a.value("SELECT resolution FROM sync_conflict"), a.value("SELECT target_sync_uuid FROM sync_conflict"));
        assert_eq!(documented, ("resolved".to_owned(), "p".to_owned()));
    }
}

#[test]
fn deciding_twice_says_that_nothing_is_open() {
    let (mut a, mut b) = clashing();
    let id = clashes(&mut a)[0].id.clone();
    take(&mut a, Take::Mine);
    let again = a.engine().resolve(&id, &Choice { take: Some(Take::Mine), ..Choice::default() }, None, now());
    assert!(again.unwrap_err().to_string().contains("no open clash"));
    meet(&mut a, &mut b);
}

#[test]
fn two_devices_that_decide_differently_have_a_new_clash() {
    let (mut a, mut b) = clashing();
    take(&mut a, Take::Mine);
    take(&mut b, Take::Mine);
    meet(&mut a, &mut b);
    assert_eq!(kinds(&mut a), ["field"]);
    assert_eq!(clashes(&mut b)[0].fields[0].values.len(), 2);
    // And two that decide alike have none.
    value(&mut a, "note", Value::from("both"));
    value(&mut b, "note", Value::from("both"));
    meet(&mut a, &mut b);
    assert!(kinds(&mut a).is_empty());
}

#[test]
fn all_clashes_are_decided_at_once() {
    let (mut a, mut b) = clashing();
    a.write("INSERT INTO place (name, sync_uuid) VALUES ('Same', 'zz')");
    b.write("INSERT INTO place (name, sync_uuid) VALUES ('Same', 'aa')");
    meet(&mut a, &mut b);
    assert_eq!(kinds(&mut a).len(), 2);
    assert_eq!(a.engine().resolve_all(&Take::Theirs, None, now()).unwrap(), (2, Vec::new()));
    meet(&mut a, &mut b);
    assert!(kinds(&mut b).is_empty());
    assert_eq!(b.value::<String>("SELECT note FROM place WHERE sync_uuid = 'p'"), "by b");
}

#[test]
fn a_clash_between_devices_that_never_meet_is_decided_on_the_phone_between_them() {
    let (mut a, mut b) = two();
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("app.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch(SCHEMA).unwrap();
    let mut phone = Replica::of_copy(&path, 3);
    a.write("INSERT INTO place (name, note, sync_uuid) VALUES ('Harbour', 'before', 'p')");
    phone.sync(&mut a);
    phone.sync(&mut b);
    a.write("UPDATE place SET note = 'by a'");
    b.write("UPDATE place SET note = 'by b'");
    phone.sync(&mut a);
    phone.sync(&mut b);
    phone.sync(&mut a);
    for replica in [&mut a, &mut b, &mut phone] {
        assert_eq!(kinds(replica), ["field"]);
        assert_eq!(clashes(replica)[0].fields[0].values.len(), 2);
    }
    value(&mut phone, "note", Value::from("decided on the phone"));
    phone.sync(&mut a);
    phone.sync(&mut b);
    for replica in [&mut a, &mut b, &mut phone] {
        assert!(kinds(replica).is_empty());
        assert_eq!(replica.value::<String>("SELECT note FROM place"), "decided on the phone");
    }
}

// History and undo.

#[test]
fn history_tells_who_wrote_what_and_undo_takes_one_change_back() {
    let (mut a, mut b) = two();
    a.write("INSERT INTO place (name, note, sync_uuid) VALUES ('Harbour', 'first', 'p')");
    meet(&mut a, &mut b);
    b.write("UPDATE place SET note = 'second'");
    meet(&mut a, &mut b);
    let history = a.engine().history("place", "p", now()).unwrap();
    let told: Vec<(&str, Option<String>)> = history.iter().map(|entry| (entry.action.as_str(), entry.device.clone())).collect();
    assert_eq!(told, [("created", Some(a.id())), ("edited", Some(b.id()))]);
    assert_eq!((&history[1].fields[0].old, &history[1].fields[0].new), (&"first".into(), &"second".into()));
    let undone = a.engine().undo_change("place", "p", Some(&history[1].change[..8]), now()).unwrap();
    assert_eq!(undone.fields[0].new, "first");
    meet(&mut a, &mut b);
    assert_eq!(b.value::<String>("SELECT note FROM place"), "first");
    // What was overwritten since can't be taken back, and is said so.
    let error = a.engine().undo_change("place", "p", Some(&history[1].change), now()).unwrap_err().to_string();
    assert!(error.contains("note was written again since"), "{error}");
    assert!(a.engine().undo_change("place", "p", Some("ffff"), now()).unwrap_err().to_string().contains("no change ffff"));
}

#[test]
fn a_deleted_row_comes_back_from_history() {
    let (mut a, mut b) = two();
    a.write("INSERT INTO place (name, note, sync_uuid) VALUES ('Harbour', 'kept', 'p')");
    meet(&mut a, &mut b);
    b.write("DELETE FROM place");
    meet(&mut a, &mut b);
    assert_eq!(a.engine().undo_change("place", "p", None, now()).unwrap().row, "restored");
    meet(&mut a, &mut b);
    assert_eq!(b.value::<String>("SELECT note FROM place"), "kept");
}

#[test]
fn all_that_one_device_did_since_a_time_is_shown_and_then_undone() {
    let (mut a, mut b) = two();
    a.write("INSERT INTO place (name, note, sync_uuid) VALUES ('One', 'x', 'p1'), ('Two', 'y', 'p2'), ('Three', 'z', 'p3')");
    meet(&mut a, &mut b);
    std::thread::sleep(std::time::Duration::from_millis(5));
    let since = now();
    b.write("UPDATE place SET note = 'vandalised' WHERE sync_uuid = 'p1'; DELETE FROM place WHERE sync_uuid = 'p2'; INSERT INTO place (name, sync_uuid) VALUES ('Spam', 'spam')");
    a.write("UPDATE place SET note = 'good' WHERE sync_uuid = 'p3'");
    meet(&mut a, &mut b);
    let vandal = storysync::trust::identity::DeviceId::parse(&b.id()).unwrap().key().unwrap();
    let plan = a.engine().plan_undo(&vandal, since, now()).unwrap();
    assert_eq!(plan.len(), 3);
    assert_eq!(a.value::<i64>("SELECT count(*) FROM place WHERE note = 'vandalised'"), 1, "only shown");
    assert_eq!(a.engine().undo_device(&vandal, since, now()).unwrap(), plan);
    meet(&mut a, &mut b);
    let notes: String = b.value("SELECT group_concat(sync_uuid || '=' || note) FROM (SELECT * FROM place ORDER BY sync_uuid)");
    assert_eq!(notes, "p1=x,p2=y,p3=good");
}

// The brake.

fn with_many_rows() -> (Replica, Replica) {
    let (mut a, mut b) = two();
    let rows: String = (0..400).map(|number| format!("INSERT INTO place (name) VALUES ('place {number}');")).collect();
    a.write(&format!("BEGIN; {rows} COMMIT"));
    meet(&mut a, &mut b);
    (a, b)
}

#[test]
fn a_mass_deletion_waits_for_a_yes() {
    let (mut a, mut b) = with_many_rows();
    b.write("DELETE FROM place WHERE id <= 300");
    b.sync(&mut a);
    assert_eq!(a.value::<i64>("SELECT count(*) FROM place"), 400, "none of them, the first hundred included");
    let brakes = a.engine().brakes(now()).unwrap();
    assert_eq!((brakes.len(), brakes[0].rows, brakes[0].device_id.clone(), brakes[0].entity_type.as_str()), (1, 300, b.id(), "place"));
    assert_eq!(b.sync(&mut a), (0, 0), "the documents are in step, and showing held rows is no edit");
    a.write("UPDATE place SET note = 'I want this one' WHERE id = 1");
    let id = brakes[0].id.clone();
    assert_eq!(a.engine().decide_brake(&id, storysync::sync::BrakeDecision::Approve, now()).unwrap(), 299);
    assert_eq!(a.value::<i64>("SELECT count(*) FROM place"), 101, "a held row somebody wrote into lives");
    meet(&mut a, &mut b);
    assert!(a.engine().decide_brake(&id, storysync::sync::BrakeDecision::Approve, now()).unwrap_err().to_string().contains("no deletions wait"));
}

#[test]
fn whoever_writes_a_held_row_has_decided_about_it() {
    let (mut a, mut b) = with_many_rows();
    b.write("DELETE FROM place WHERE id <= 300");
    b.sync(&mut a);
    // Deleted here as well; edited here; and all taken back.
    a.write("DELETE FROM place WHERE id = 2; UPDATE place SET note = 'mine' WHERE id = 3");
    a.capture();
    assert_eq!(a.value::<i64>("SELECT count(*) FROM place WHERE id = 2"), 0);
    assert_eq!(a.engine().brakes(now()).unwrap()[0].rows, 298);
    a.write("DELETE FROM place WHERE id = 3");
    a.capture();
    assert_eq!(a.value::<i64>("SELECT count(*) FROM place WHERE id IN (2, 3)"), 0, "a decision stands");
    let b_key = storysync::trust::identity::DeviceId::parse(&b.id()).unwrap().key().unwrap();
    a.engine().undo_device(&b_key, storysync_crdt::Stamp::from_unix_ms(1), now()).unwrap();
    assert!(a.engine().brakes(now()).unwrap().is_empty(), "nothing is held any more");
    a.write("DELETE FROM place WHERE id = 7");
    meet(&mut a, &mut b);
    assert_eq!(a.value::<i64>("SELECT count(*) FROM place WHERE id = 7"), 0);
    assert_eq!(a.value::<i64>("SELECT count(*) FROM place"), 397);
}

#[test]
fn a_brake_whose_rows_another_holds_is_gone() {
    let (mut a, mut b) = with_many_rows();
    let mut c = {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("app.db");
        rusqlite::Connection::open(&path).unwrap().execute_batch(SCHEMA).unwrap();
        Replica::of_copy(&path, 3)
    };
    c.sync(&mut a);
    b.write("DELETE FROM place WHERE id <= 150");
    c.write("DELETE FROM place WHERE id <= 200");
    b.sync(&mut a);
    c.sync(&mut a);
    let brakes = a.engine().brakes(now()).unwrap();
    assert_eq!(brakes.iter().map(|brake| brake.rows).sum::<i64>(), 200);
    assert!(brakes.iter().all(|brake| brake.rows > 0));
}

#[test]
fn a_mass_deletion_refused_lives_everywhere() {
    let (mut a, mut b) = with_many_rows();
    b.write("DELETE FROM place WHERE id <= 300");
    b.sync(&mut a);
    let id = a.engine().brakes(now()).unwrap()[0].id.clone();
    a.engine().decide_brake(&id, storysync::sync::BrakeDecision::Refuse, now()).unwrap();
    meet(&mut a, &mut b);
    assert_eq!(b.value::<i64>("SELECT count(*) FROM place"), 400);
}

#[test]
fn a_mass_deletion_in_small_pushes_is_braked_and_what_went_before_comes_back() {
    let (mut a, mut b) = with_many_rows();
    for start in [1, 61, 121] {
        b.write(&format!("DELETE FROM place WHERE id BETWEEN {start} AND {}", start + 59));
        b.sync(&mut a);
    }
    assert_eq!(a.value::<i64>("SELECT count(*) FROM place"), 400);
    assert_eq!(a.engine().brakes(now()).unwrap()[0].rows, 180);
}

#[test]
fn deletions_within_measure_are_not_braked() {
    let (mut a, mut b) = with_many_rows();
    b.write("DELETE FROM place WHERE id <= 80");
    meet(&mut a, &mut b);
    assert!(a.engine().brakes(now()).unwrap().is_empty());
    assert_eq!(a.value::<i64>("SELECT count(*) FROM place"), 320);
}
