//! Apps nobody described: triggers of their own, our names taken with another meaning, keys of
//! several columns, old SQLite.

use std::path::Path;
use std::process::Command;

use rusqlite::Connection;
use storysync_engine::{Engine, EngineError, EngineOptions};

use crate::support::{Replica, entropy, now, options};

fn of_schema(schema: &str, device: u8) -> Replica {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("app.db");
    Connection::open(&path).unwrap().execute_batch(schema).unwrap();
    Replica::of_copy(&path, device)
}

fn two(schema: &str) -> (Replica, Replica) {
    (of_schema(schema, 1), of_schema(schema, 2))
}

fn meet(a: &mut Replica, b: &mut Replica) {
    a.sync(b);
    b.sync(a);
}

fn refusal(schema: &str) -> String {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("app.db");
    Connection::open(&path).unwrap().execute_batch(schema).unwrap();
    let error = Engine::open_or_migrate(
        options(folder.path(), &path, 1),
        entropy(1),
        now(),
        &mut |_, _| {},
    )
    .unwrap_err();
    assert!(matches!(error, EngineError::Refused(_)), "{error}");
    error.to_string()
}

/// Starts the Engine again with other tables left alone.
fn restart_leaving(replica: &mut Replica, tables: &[&str]) {
    replica.stop();
    let mut options = options(replica.folder.path(), &replica.database, replica.device);
    options.excluded_tables = tables.iter().map(|table| (*table).to_owned()).collect();
    replica.engine = Some(Engine::open(options, entropy(u64::from(replica.device) * 77)).unwrap());
}

fn changes(replica: &Replica) -> i64 {
    replica.value("SELECT count(*) FROM sync_change")
}

fn conflict_kinds(replica: &mut Replica) -> Vec<String> {
    replica.engine().conflicts(now()).unwrap().into_iter().map(|conflict| conflict.kind).collect()
}

#[test]
fn columns_that_stood_there_before_us_are_the_apps_and_travel_as_it_wrote_them() {
    let (mut a, mut b) =
        two("CREATE TABLE doc (id INTEGER PRIMARY KEY, title TEXT, version TEXT, \
        Created_At INTEGER NOT NULL DEFAULT 7,
         updated_at INTEGER, deleted_at INTEGER NOT NULL DEFAULT 0);");
    a.write("INSERT INTO doc (title, version, updated_at) VALUES ('Plan', '1.0-rc', 1700000000)");
    meet(&mut a, &mut b);
    let row = "SELECT title || ' ' || version || ' ' || typeof(created_at) || created_at || ' ' || \
        typeof(updated_at) || updated_at || ' ' || deleted_at FROM doc";
    assert_eq!(b.value::<String>(row), "Plan 1.0-rc integer7 integer1700000000 0");
    b.write("UPDATE doc SET version = '1.0', deleted_at = 1, updated_at = 5");
    a.write("UPDATE doc SET title = 'The plan', updated_at = 1800000000");
    meet(&mut b, &mut a);
    for replica in [&a, &b] {
        assert_eq!(
            replica.value::<String>("SELECT title || ' ' || version || ' ' || deleted_at FROM doc"),
            "The plan 1.0 1"
        );
        assert_eq!(
            replica.value::<i64>("SELECT count(*) FROM pragma_table_info('doc')"),
            7,
            "sync_uuid is the only column of ours"
        );
    }
    assert_eq!(
        a.value::<i64>("SELECT updated_at FROM doc"),
        b.value::<i64>("SELECT updated_at FROM doc")
    );
    assert!(conflict_kinds(&mut a).is_empty() && conflict_kinds(&mut b).is_empty());
    // Deleted and brought back, in a table that has no mark for it.
    a.write("DELETE FROM doc");
    meet(&mut a, &mut b);
    assert_eq!(b.value::<i64>("SELECT count(*) FROM doc"), 0);
}

#[test]
fn a_version_somebody_types_is_neither_counted_nor_filled() {
    let (mut a, mut b) =
        two("CREATE TABLE song (id INTEGER PRIMARY KEY, name TEXT, version INTEGER);");
    a.write("INSERT INTO song (name) VALUES ('Demo')");
    meet(&mut a, &mut b);
    assert_eq!(b.value::<Option<i64>>("SELECT version FROM song"), None);
    a.write("UPDATE song SET version = 12");
    a.capture();
    a.write("UPDATE song SET version = 3");
    meet(&mut a, &mut b);
    assert_eq!(
        (a.value::<i64>("SELECT version FROM song"), b.value::<i64>("SELECT version FROM song")),
        (3, 3)
    );
    a.write("UPDATE song SET version = 4");
    b.write("UPDATE song SET version = 5");
    meet(&mut a, &mut b);
    assert_eq!(
        conflict_kinds(&mut a),
        ["field"],
        "typed on two devices, it is a conflict like any"
    );
}

#[test]
fn the_apps_stamp_of_the_last_change_does_not_bounce() {
    let (mut a, mut b) = two("CREATE TABLE note (id INTEGER PRIMARY KEY, title TEXT, edited TEXT);
         CREATE TRIGGER note_edited AFTER UPDATE ON note BEGIN UPDATE note SET edited = \
         hex(randomblob(8)) WHERE id = NEW.id; END;");
    a.write("INSERT INTO note (title, edited) VALUES ('one', 'never')");
    meet(&mut a, &mut b);
    a.write("UPDATE note SET title = 'two'");
    meet(&mut a, &mut b);
    let before = (changes(&a), changes(&b));
    for _ in 0..3 {
        meet(&mut a, &mut b);
        meet(&mut b, &mut a);
    }
    assert_eq!((changes(&a), changes(&b)), before);
    assert_eq!(
        a.value::<String>("SELECT title || edited FROM note"),
        b.value::<String>("SELECT title || edited FROM note")
    );
    b.write("UPDATE note SET title = 'three'");
    meet(&mut b, &mut a);
    assert_eq!(a.value::<String>("SELECT title FROM note"), "three");
}

#[test]
fn what_triggers_derive_elsewhere_is_shown_and_is_no_edit() {
    let (mut a, mut b) = two("CREATE TABLE folder (id INTEGER PRIMARY KEY, name TEXT, notes \
        INTEGER NOT NULL DEFAULT 0);
         CREATE TABLE note (id INTEGER PRIMARY KEY, folder_id INTEGER REFERENCES folder (id), body \
         TEXT);
         CREATE TABLE audit (id INTEGER PRIMARY KEY, what TEXT);
         CREATE TRIGGER note_came AFTER INSERT ON note BEGIN
             UPDATE folder SET notes = notes + 1 WHERE id = NEW.folder_id; INSERT INTO audit \
             (what) VALUES ('came: ' || NEW.body); END;");
    a.write(
        "INSERT INTO folder (name) VALUES ('Drafts'); INSERT INTO note (folder_id, body) \
        VALUES (1, 'first')",
    );
    meet(&mut a, &mut b);
    assert_eq!(b.value::<i64>("SELECT notes FROM folder"), 1, "counted once, where it was written");
    a.write("INSERT INTO note (folder_id, body) VALUES (1, 'second')");
    b.write("INSERT INTO note (folder_id, body) VALUES (1, 'third')");
    for _ in 0..2 {
        meet(&mut a, &mut b);
    }
    let before = (changes(&a), changes(&b));
    meet(&mut b, &mut a);
    assert_eq!((changes(&a), changes(&b)), before);
    assert_eq!(a.value::<i64>("SELECT count(DISTINCT what) FROM audit"), 3);
    assert_eq!(b.value::<i64>("SELECT count(DISTINCT what) FROM audit"), 3);
    assert!(conflict_kinds(&mut a).is_empty() && conflict_kinds(&mut b).is_empty());
}

#[test]
fn a_row_that_a_trigger_made_for_another_gives_way_to_the_one_that_comes() {
    let (mut a, mut b) = two("CREATE TABLE project (id INTEGER PRIMARY KEY, name TEXT);
         CREATE TABLE settings (id INTEGER PRIMARY KEY, project_id INTEGER NOT NULL UNIQUE \
         REFERENCES project (id), colour TEXT);
         CREATE TRIGGER project_settings AFTER INSERT ON project BEGIN INSERT INTO settings \
         (project_id, colour) VALUES (NEW.id, 'grey'); END;");
    a.write("INSERT INTO project (name) VALUES ('P'); UPDATE settings SET colour = 'red'");
    meet(&mut a, &mut b);
    assert_eq!(b.texts("SELECT colour FROM settings"), ["red"]);
    assert!(conflict_kinds(&mut b).is_empty());
    b.write("UPDATE settings SET colour = 'blue'");
    meet(&mut b, &mut a);
    assert_eq!(a.texts("SELECT colour FROM settings"), ["blue"]);
}

#[test]
fn a_trigger_that_keeps_a_parent_while_it_has_children_stops_nothing() {
    let (mut a, mut b) = two("CREATE TABLE folder (id INTEGER PRIMARY KEY, name TEXT);
         CREATE TABLE note (id INTEGER PRIMARY KEY, folder_id INTEGER REFERENCES folder (id), body \
         TEXT);
         CREATE TRIGGER folder_kept BEFORE DELETE ON folder WHEN EXISTS (SELECT 1 FROM note WHERE \
         folder_id = OLD.id)
             BEGIN SELECT RAISE(ABORT, 'not empty'); END;");
    a.write(
        "INSERT INTO folder (name) VALUES ('Old'), ('New'); INSERT INTO note (folder_id, body) \
        VALUES (1, 'x'), (1, 'y')",
    );
    meet(&mut a, &mut b);
    a.write(
        "DELETE FROM note WHERE body = 'x'; UPDATE note SET folder_id = 2; DELETE FROM folder \
        WHERE id = 1",
    );
    meet(&mut a, &mut b);
    assert_eq!(b.texts("SELECT name FROM folder"), ["New"]);
    // What b's own rows keep, is told, and everything else goes on.
    b.write(
        "INSERT INTO folder (name) VALUES ('Own'); INSERT INTO note (folder_id, body) SELECT \
        id, 'z' FROM folder WHERE name = 'Own'",
    );
    meet(&mut b, &mut a);
    let b_has_another =
        "INSERT INTO note (folder_id, body) SELECT id, 'unsent' FROM folder WHERE name = 'Own'";
    a.write(
        "DELETE FROM note WHERE body = 'z'; DELETE FROM folder WHERE name = 'Own'; INSERT INTO \
        folder (name) VALUES ('Later')",
    );
    b.write(b_has_another);
    meet(&mut a, &mut b);
    assert_eq!(b.value::<i64>("SELECT count(*) FROM folder WHERE name = 'Later'"), 1);
    assert_eq!(b.value::<i64>("SELECT count(*) FROM note WHERE body = 'unsent'"), 1);
}

#[test]
fn a_row_that_a_trigger_never_lets_go_is_a_schema_conflict_and_goes_once_the_trigger_does() {
    let (mut a, mut b) = two("CREATE TABLE line (id INTEGER PRIMARY KEY, what TEXT);");
    b.write("CREATE TRIGGER line_stays BEFORE DELETE ON line BEGIN SELECT RAISE(IGNORE); END");
    a.write("INSERT INTO line (what) VALUES ('one'), ('two')");
    meet(&mut a, &mut b);
    a.write("DELETE FROM line WHERE what = 'one'; UPDATE line SET what = 'two!'");
    meet(&mut a, &mut b);
    assert_eq!(b.texts("SELECT what FROM line ORDER BY what"), ["one", "two!"]);
    assert_eq!(conflict_kinds(&mut b), ["schema"]);
    b.write("DROP TRIGGER line_stays");
    a.write("UPDATE line SET what = 'two again'");
    meet(&mut a, &mut b);
    assert_eq!(b.texts("SELECT what FROM line"), ["two again"]);
    assert!(conflict_kinds(&mut b).is_empty());
}

#[test]
fn an_app_whose_lines_are_never_changed_goes_on_writing_them() {
    for guard in
        ["BEFORE UPDATE ON ledger", "AFTER UPDATE ON ledger", "BEFORE UPDATE OF what ON ledger"]
    {
        let schema = format!(
            "CREATE TABLE ledger (id INTEGER PRIMARY KEY, what TEXT); INSERT INTO ledger (what) \
                VALUES ('before us');
             CREATE TRIGGER ledger_guard {guard} BEGIN SELECT RAISE(ABORT, 'never changed'); END;"
        );
        let (mut a, mut b) = (
            of_schema(&schema, 1),
            of_schema(&schema.replace("INSERT INTO ledger (what) VALUES ('before us');", ""), 2),
        );
        a.write("INSERT INTO ledger (what) VALUES ('typed')");
        meet(&mut a, &mut b);
        assert_eq!(
            b.texts("SELECT what FROM ledger ORDER BY what"),
            ["before us", "typed"],
            "{guard}"
        );
        assert_eq!(
            a.value::<i64>("SELECT count(*) FROM ledger WHERE sync_uuid IS NULL"),
            0,
            "{guard}"
        );
        // What another device changed all the same is told here, where the app takes no such thing.
        let uuid: String = a.value("SELECT sync_uuid FROM ledger WHERE what = 'typed'");
        b.write(&format!(
            "DROP TRIGGER ledger_guard; UPDATE ledger SET what = 'changed' WHERE \
            sync_uuid = '{uuid}'"
        ));
        meet(&mut b, &mut a);
        assert_eq!(
            a.texts("SELECT what FROM ledger ORDER BY what"),
            ["before us", "typed"],
            "{guard}"
        );
        assert_eq!(conflict_kinds(&mut a), ["schema"], "{guard}");
    }
}

#[test]
fn full_text_search_of_the_app_finds_what_came_and_no_table_is_compared_for_it() {
    let fts = "CREATE TABLE note (id INTEGER PRIMARY KEY, body TEXT);
        CREATE VIRTUAL TABLE note_fts USING fts5 (body, content = 'note', content_rowid = 'id');
        CREATE TRIGGER note_ai AFTER INSERT ON note BEGIN INSERT INTO note_fts (rowid, body) \
        VALUES (NEW.id, NEW.body); END;
        CREATE TRIGGER note_ad AFTER DELETE ON note BEGIN INSERT INTO note_fts (note_fts, rowid, \
        body) VALUES ('delete', OLD.id, OLD.body); END;
        CREATE TRIGGER note_au AFTER UPDATE ON note BEGIN
            INSERT INTO note_fts (note_fts, rowid, body) VALUES ('delete', OLD.id, OLD.body); \
            INSERT INTO note_fts (rowid, body) VALUES (NEW.id, NEW.body); END;";
    let (mut a, mut b) = two(fts);
    a.write(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) \
        INSERT INTO note (body) SELECT 'text ' || i FROM n",
    );
    meet(&mut a, &mut b);
    a.write("UPDATE note SET body = 'harbour' WHERE id = 7; DELETE FROM note WHERE id = 8");
    meet(&mut a, &mut b);
    for replica in [&a, &b] {
        assert_eq!(
            replica.value::<i64>("SELECT count(*) FROM note_fts WHERE note_fts MATCH 'harbour'"),
            1
        );
        replica.write("INSERT INTO note_fts (note_fts, rank) VALUES ('integrity-check', 1)");
    }
    // Of a table of 3,000 rows only the one that was written is looked at: what nobody noted stays
    // unseen.
    a.write(
        "UPDATE sync_writer SET own = 1; UPDATE note SET body = 'unnoted' WHERE id = 9; UPDATE \
        sync_writer SET own = 0; UPDATE note SET body = 'pier' WHERE id = 7",
    );
    meet(&mut a, &mut b);
    assert_eq!(
        (
            b.value::<i64>("SELECT count(*) FROM note WHERE body = 'pier'"),
            b.value::<i64>("SELECT count(*) FROM note WHERE body = 'unnoted'")
        ),
        (1, 0)
    );
}

#[test]
fn a_row_deleted_and_inserted_again_under_its_id_is_the_same_row() {
    let schema = "CREATE TABLE parent (id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE child (id \
        INTEGER PRIMARY KEY, parent_id INTEGER NOT NULL REFERENCES parent (id));";
    for again in [
        "BEGIN; DELETE FROM parent WHERE id = 1; INSERT INTO parent (id, name) VALUES (1, 'first \
            again'); COMMIT",
        "PRAGMA recursive_triggers = ON; REPLACE INTO parent (id, name) VALUES (1, 'first again')",
        "REPLACE INTO parent (id, name) VALUES (1, 'first again')",
        "BEGIN; DELETE FROM parent; INSERT INTO parent (id, name) VALUES (2, 'other'), (1, 'first \
            again'); COMMIT",
    ] {
        let (mut a, mut b) = two(schema);
        a.write(
            "INSERT INTO parent (name) VALUES ('first'); INSERT INTO child (parent_id) VALUES (1)",
        );
        meet(&mut a, &mut b);
        let name: String = a.value("SELECT sync_uuid FROM parent");
        a.write(again);
        meet(&mut a, &mut b);
        for replica in [&a, &b] {
            let parents = replica.texts(
                "SELECT p.name || ' ' || p.sync_uuid FROM child AS c JOIN \
                parent AS p ON p.id = c.parent_id",
            );
            assert_eq!(parents, [format!("first again {name}")], "{again}");
        }
        assert_eq!(a.value::<i64>("SELECT parent_id FROM child"), 1, "{again}");
    }
}

#[test]
fn an_id_that_was_handed_out_again_is_another_row() {
    for guard in ["", "CREATE TRIGGER parent_watch AFTER UPDATE ON parent BEGIN SELECT 1; END;"] {
        let (mut a, mut b) =
            two(&format!("CREATE TABLE parent (id INTEGER PRIMARY KEY, name TEXT); {guard}"));
        a.write("INSERT INTO parent (name) VALUES ('first')");
        meet(&mut a, &mut b);
        let first: String = a.value("SELECT sync_uuid FROM parent");
        // Not taken, as the app often asks at its start: no sign of what comes later.
        a.write(
            "INSERT OR IGNORE INTO parent (id, name) VALUES (1, 'default'); DELETE FROM \
            parent; INSERT INTO parent (name) VALUES ('second')",
        );
        a.capture();
        assert_eq!(a.value::<i64>("SELECT id FROM parent"), 1);
        assert_ne!(a.value::<String>("SELECT sync_uuid FROM parent"), first, "{guard}");
        meet(&mut a, &mut b);
        assert_eq!(b.texts("SELECT name FROM parent"), ["second"]);
    }
}

#[test]
fn an_app_that_empties_a_table_and_fills_it_again_waits_for_each_row_alike() {
    let replica = of_schema("CREATE TABLE note (id INTEGER PRIMARY KEY, body TEXT);", 1);
    replica.write("DELETE FROM note; INSERT INTO note (id, body) VALUES (1, 'x')");
    let app = replica.app();
    let steps: Vec<String> = app
        .prepare(
            "EXPLAIN QUERY PLAN SELECT EXISTS (SELECT 1 FROM sync_outbox AS o WHERE \
            o.operation = 'D' AND o.table_name = 'note' AND o.local_id = 5)",
        )
        .unwrap()
        .query_map([], |row| row.get::<_, String>(3))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert!(steps.iter().any(|step| step.contains("sync_outbox_deleted")), "{steps:?}");
}

#[test]
fn keys_of_several_columns_lead_to_the_row_they_mean() {
    let (mut a, mut b) = two("CREATE TABLE project (id INTEGER PRIMARY KEY, name TEXT);
         CREATE TABLE task (id INTEGER PRIMARY KEY, project_id INTEGER NOT NULL REFERENCES project \
         (id), title TEXT, UNIQUE (project_id, id));
         CREATE TABLE step (id INTEGER PRIMARY KEY, project_id INTEGER NOT NULL, task_id INTEGER \
         NOT NULL, body TEXT,
             FOREIGN KEY (project_id, task_id) REFERENCES task (project_id, id));");
    for (replica, who) in [(&a, "A"), (&b, "B")] {
        replica.write(&format!(
            "INSERT INTO project (name) VALUES ('{who}'); INSERT INTO task (project_id, title) \
                VALUES (1, '{who}'); INSERT INTO step (project_id, task_id, body) VALUES (1, 1, \
                '{who}')"
        ));
    }
    meet(&mut a, &mut b);
    for replica in [&a, &b] {
        let steps = "SELECT s.body || t.title || p.name FROM step s JOIN task t ON t.id = \
            s.task_id AND t.project_id = s.project_id JOIN project p ON p.id = s.project_id ORDER \
            BY 1";
        assert_eq!(replica.texts(steps), ["AAA", "BBB"]);
    }
}

#[test]
fn a_reference_to_no_row_leads_to_nobodys_row_elsewhere_either() {
    let (mut a, mut b) = two("CREATE TABLE grp (id INTEGER PRIMARY KEY, name TEXT);
         CREATE TABLE item (id INTEGER PRIMARY KEY, grp_id INTEGER NOT NULL REFERENCES grp (id), \
         body TEXT);");
    a.write(
        "INSERT INTO item (grp_id, body) VALUES (77, 'dangling'), (-1, 'none'), (0, 'nothing')",
    );
    meet(&mut a, &mut b);
    assert_eq!(
        b.value::<i64>("SELECT grp_id FROM item WHERE body = 'none'"),
        -1,
        "what the app writes for none means the same elsewhere"
    );
    b.write("INSERT INTO grp (id, name) VALUES (0, 'Root of b')");
    b.write("UPDATE item SET body = body || '!'");
    meet(&mut b, &mut a);
    meet(&mut a, &mut b);
    assert_eq!(a.value::<i64>("SELECT grp_id FROM item WHERE body = 'dangling!'"), 77);
    assert_eq!(a.value::<i64>("SELECT grp_id FROM item WHERE body = 'nothing!'"), 0);
    assert_eq!(a.value::<i64>("SELECT count(*) FROM item JOIN grp ON grp.id = grp_id"), 0);
    assert_eq!(
        b.value::<i64>(
            "SELECT count(*) FROM item JOIN grp ON grp.id = grp_id WHERE body = 'dangling!'"
        ),
        0
    );
    // The other way round: the row 0 was there first.
    a.write("INSERT INTO item (grp_id, body) VALUES (0, 'later')");
    meet(&mut a, &mut b);
    assert_eq!(
        b.value::<i64>(
            "SELECT count(*) FROM item JOIN grp ON grp.id = grp_id WHERE body = 'later'"
        ),
        a.value::<i64>(
            "SELECT count(*) FROM item JOIN grp ON grp.id = grp_id WHERE body = 'later'"
        )
    );
}

#[test]
fn a_reference_into_a_table_that_is_left_alone_stays_what_it_is_here() {
    let schema = "CREATE TABLE grp (id INTEGER PRIMARY KEY, name TEXT);
         CREATE TABLE item (id INTEGER PRIMARY KEY, grp_id INTEGER REFERENCES grp (id), body \
         TEXT);";
    let (mut a, mut b) = two(schema);
    restart_leaving(&mut b, &["grp"]);
    b.write(
        "INSERT INTO grp (name) VALUES ('of b'); INSERT INTO item (grp_id, body) VALUES (1, \
        'of b')",
    );
    a.write(
        "INSERT INTO grp (name) VALUES ('of a'); INSERT INTO item (grp_id, body) VALUES (1, \
        'of a')",
    );
    meet(&mut a, &mut b);
    assert_eq!(a.texts("SELECT body FROM item WHERE grp_id IS NULL"), ["of b"]);
    assert_eq!(b.texts("SELECT body FROM item WHERE grp_id IS NULL"), ["of a"]);
    b.write("UPDATE item SET body = body || '!'");
    meet(&mut b, &mut a);
    assert_eq!(a.texts("SELECT body || grp_id FROM item WHERE grp_id IS NOT NULL"), ["of a!1"]);
    // Taken in after all: everything leads where it led.
    restart_leaving(&mut b, &[]);
    meet(&mut b, &mut a);
    meet(&mut a, &mut b);
    for replica in [&a, &b] {
        assert_eq!(
            replica.texts(
                "SELECT i.body || ' in ' || g.name FROM item i JOIN grp g ON g.id \
            = i.grp_id ORDER BY 1"
            ),
            ["of a! in of a", "of b! in of b"]
        );
    }
}

#[test]
fn a_table_left_alone_for_a_while_loses_nothing_of_either_side() {
    let (mut a, mut b) = two("CREATE TABLE pic (id INTEGER PRIMARY KEY, title TEXT, note TEXT);");
    a.write("INSERT INTO pic (title, note) VALUES ('one', 'n'), ('two', 'n'), ('three', 'n')");
    meet(&mut a, &mut b);
    restart_leaving(&mut b, &["pic"]);
    b.capture();
    assert_eq!(
        b.value::<i64>(
            "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'pic'"
        ),
        0
    );
    a.write(
        "UPDATE pic SET title = 'one of a' WHERE title = 'one'; UPDATE pic SET title = 'two of \
        a' WHERE title = 'two'; INSERT INTO pic (title) VALUES ('new of a')",
    );
    b.write(
        "UPDATE pic SET note = 'note of b' WHERE title = 'one'; UPDATE pic SET title = 'two of \
        b' WHERE title = 'two'; DELETE FROM pic WHERE title = 'three'; INSERT INTO pic (title) \
        VALUES ('new of b')",
    );
    meet(&mut b, &mut a);
    assert_eq!(b.value::<i64>("SELECT count(*) FROM pic WHERE title LIKE '%of a'"), 0);
    restart_leaving(&mut b, &[]);
    meet(&mut b, &mut a);
    meet(&mut a, &mut b);
    for replica in [&mut a, &mut b] {
        assert_eq!(
            replica.texts(
                "SELECT title || coalesce(note, '') FROM pic WHERE title NOT LIKE 'two%' ORDER BY 1"
            ),
            ["new of a", "new of b", "one of anote of b"]
        );
        assert_eq!(conflict_kinds(replica), ["field"], "the title both wrote");
    }
}

#[test]
fn names_that_are_no_names_stop_nothing() {
    let (mut a, mut b) = two("CREATE TABLE note (id INTEGER PRIMARY KEY, body TEXT);");
    b.write(
        "INSERT INTO note (body, sync_uuid) VALUES ('bytes', x'ff00fe01'), ('number', 17), \
        ('long', printf('%.5000c', 'x')), ('ill-formed', CAST(x'c328' AS TEXT))",
    );
    b.write("INSERT INTO note (id, body) VALUES (9223372036854775807, 'last')");
    a.write("INSERT INTO note (body) VALUES ('typed elsewhere'), ('and more')");
    meet(&mut b, &mut a);
    meet(&mut a, &mut b);
    let bodies = ["and more", "bytes", "ill-formed", "last", "long", "number", "typed elsewhere"];
    assert_eq!(a.texts("SELECT body FROM note ORDER BY body"), bodies);
    assert_eq!(
        b.texts("SELECT body FROM note ORDER BY body"),
        bodies,
        "also above the largest id there is"
    );
}

#[test]
fn what_cannot_be_synced_is_refused_by_name_with_the_reason() {
    let sentence = refusal("CREATE TABLE step (id INTEGER PRIMARY KEY DESC, body TEXT);");
    assert!(sentence.contains("step") && sentence.contains("DESC"), "{sentence}");
    let sentence = refusal(
        "CREATE TABLE step (id INTEGER PRIMARY KEY, body TEXT); CREATE TRIGGER strict BEFORE \
            UPDATE ON step BEGIN SELECT RAISE (ROLLBACK, 'no'); END;",
    );
    assert!(sentence.contains("strict") && sentence.contains("ROLLBACK"), "{sentence}");
    let sentence = refusal("CREATE TABLE step (id INTEGER PRIMARY KEY, \"column:version\" TEXT);");
    assert!(sentence.contains("column:version"), "{sentence}");
}

#[test]
fn a_file_of_ours_opens_in_sqlite_from_before_strict_tables_and_what_is_written_there_is_captured()
{
    let mut replica = of_schema(
        "CREATE TABLE note (id INTEGER PRIMARY KEY, body TEXT); INSERT INTO note (body) VALUES \
            ('one'), ('two');",
        1,
    );
    assert_eq!(replica.value::<i64>("SELECT count(*) FROM pragma_table_list WHERE strict = 1"), 0);
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/js");
    if !scripts.join("node_modules/sql.js").exists() {
        println!("skipped: run `npm ci` in tests/js first (tests/run.sh does)");
        return;
    }
    replica.stop();
    let statements = [
        "UPDATE note SET body = 'by an old one' WHERE id = 1",
        "DELETE FROM note WHERE id = 2",
        "INSERT INTO note (id, body) VALUES (2, 'two again')",
        "INSERT OR REPLACE INTO note (id, body) VALUES (3, 'new')",
        "SELECT body FROM note ORDER BY id",
    ];
    let output = Command::new("node")
        .arg(scripts.join("old_sqlite.mjs"))
        .arg(&replica.database)
        .args(statements)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(told["version"].as_str().unwrap().starts_with("3.35"), "{told}");
    assert_eq!(told["sound"], "ok");
    assert_eq!(told["rows"], serde_json::json!([["by an old one"], ["two again"], ["new"]]));
    replica.start();
    assert_eq!(replica.capture(), 3);
    assert_eq!(replica.value::<i64>("SELECT count(*) FROM sync_change"), 5);
}

#[test]
fn tables_called_as_storymaster_documents_others_of_its_own_sync_as_themselves() {
    let schema = "CREATE TABLE location (id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE object \
        (id INTEGER PRIMARY KEY, name TEXT, location_id INTEGER REFERENCES location (id))";
    let (mut one, mut other) = (Replica::of_schema(schema, 1), Replica::of_schema(schema, 2));
    one.write(
        "INSERT INTO location (name) VALUES ('Harbour'); INSERT INTO object (name, \
        location_id) VALUES ('Anchor', 1)",
    );
    one.sync(&mut other);
    assert_eq!(
        other.texts(
            "SELECT o.name || ' in ' || l.name FROM object AS o JOIN location AS l \
        ON l.id = o.location_id"
        ),
        ["Anchor in Harbour"]
    );
    other.write("UPDATE location SET name = 'Port'; DELETE FROM object");
    one.sync(&mut other);
    assert_eq!(
        (one.texts("SELECT name FROM location"), one.texts("SELECT name FROM object").len()),
        (vec!["Port".to_owned()], 0)
    );
    let uuid: String = one.value("SELECT sync_uuid FROM location");
    assert_eq!(one.engine().row_by_words("location", "port", now()).unwrap(), uuid);
    // Where both names are tables, each is meant by its own.
    let both = "CREATE TABLE location (id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE location_ \
        (id INTEGER PRIMARY KEY, name TEXT)";
    let (mut one, mut other) = (Replica::of_schema(both, 1), Replica::of_schema(both, 2));
    one.write(
        "INSERT INTO location (name) VALUES ('plain'); INSERT INTO location_ (name) VALUES \
        ('underscored')",
    );
    one.sync(&mut other);
    assert_eq!(
        (other.texts("SELECT name FROM location"), other.texts("SELECT name FROM location_")),
        (vec!["plain".to_owned()], vec!["underscored".to_owned()])
    );
}

#[test]
fn a_table_only_the_app_can_write_to_is_refused_by_name_and_can_be_left_out() {
    for (rule, what) in [
        ("CREATE UNIQUE INDEX folded ON tag (fold(name))", "fold"),
        ("CREATE INDEX sorted ON tag (name COLLATE dictionary)", "dictionary"),
        ("CREATE TRIGGER heard AFTER UPDATE ON tag BEGIN SELECT chime(NEW.name); END", "chime"),
    ] {
        let folder = tempfile::TempDir::new().unwrap();
        let database = folder.path().join("app.db");
        let app = Connection::open(&database).unwrap();
        for name in ["fold", "chime"] {
            app.create_scalar_function(
                name,
                1,
                rusqlite::functions::FunctionFlags::SQLITE_UTF8
                    | rusqlite::functions::FunctionFlags::SQLITE_DETERMINISTIC,
                |context| context.get::<String>(0),
            )
            .unwrap();
        }
        app.create_collation("dictionary", |a: &str, b: &str| a.cmp(b)).unwrap();
        app.execute_batch(&format!(
            "CREATE TABLE tag (id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE note (id INTEGER \
                PRIMARY KEY, title TEXT); {rule}; INSERT INTO tag (name) VALUES ('Magic'); INSERT \
                INTO note (title) VALUES ('one')"
        ))
        .unwrap();
        drop(app);
        let open = |excluded: &[&str]| {
            let options = EngineOptions {
                excluded_tables: excluded.iter().map(|name| (*name).to_owned()).collect(),
                ..options(folder.path(), &database, 1)
            };
            Engine::open_or_migrate(options, entropy(1), now(), &mut |_, _| {}).map(drop)
        };
        let told = open(&[]).unwrap_err().to_string();
        assert!(told.contains("tag") && told.contains(what), "{told}");
        open(&["tag"]).unwrap();
    }
}
