//! Capture: what the app does to its file, whatever it does, and also while no node runs.

use crate::fixtures::{self, Dialect};
use crate::support::*;

/// A desktop with its phone, in step; the phone proves what was captured.
struct Pair {
    desktop: Replica,
    phone: Replica,
}

impl Pair {
    fn new() -> Self {
        Self::of(Dialect::Newer)
    }

    fn of(dialect: Dialect) -> Self {
        let (_folder, file) = fixtures::file(dialect);
        let mut desktop = Replica::of_copy(&file, 1);
        let mut phone = Replica::empty(2);
        phone.sync(&mut desktop);
        Self { desktop, phone }
    }

    /// The app writes, both while a node runs and while none does; then the devices meet and are
    /// equal.
    fn after(&mut self, sql: &str) -> &mut Self {
        self.desktop.stop();
        self.desktop.write(sql);
        self.desktop.start();
        self.meet()
    }

    fn meet(&mut self) -> &mut Self {
        self.phone.sync(&mut self.desktop);
        assert_same_content(&self.desktop.database, &self.phone.database, true);
        assert_eq!(self.phone.sync(&mut self.desktop), (0, 0));
        self
    }

    fn uuid(&self, table: &str, id: i64) -> String {
        self.desktop.value(&format!("SELECT sync_uuid FROM \"{table}\" WHERE id = {id}"))
    }
}

#[test]
fn inserts_updates_and_deletes_are_caught_with_version_and_times() {
    let mut pair = Pair::new();
    let uuid = pair.uuid("race", 1);
    let before = now();
    pair.after("UPDATE race SET name = 'Elf' WHERE id = 1");
    assert_eq!(
        pair.phone.value::<i64>(&format!("SELECT version FROM race WHERE sync_uuid = '{uuid}'")),
        2
    );
    let updated: String =
        pair.phone.value(&format!("SELECT updated_at FROM race WHERE sync_uuid = '{uuid}'"));
    assert!(
        (storysync_crdt::Stamp::parse(&updated).unwrap().unix_ms() - before.unix_ms()).abs()
            < 5_000,
        "{updated}"
    );
    let created: String =
        pair.phone.value(&format!("SELECT created_at FROM race WHERE sync_uuid = '{uuid}'"));
    assert_eq!(created, "2025-01-02 10:00:00");
    pair.after("DELETE FROM race WHERE id = 1");
    assert_eq!(
        pair.phone.value::<i64>(&format!("SELECT count(*) FROM race WHERE sync_uuid = '{uuid}'")),
        0
    );
}

#[test]
fn several_updates_before_a_look_all_count_in_the_version() {
    let mut pair = Pair::new();
    let uuid = pair.uuid("race", 1);
    pair.after(
        "UPDATE race SET name = 'a' WHERE id = 1; UPDATE race SET name = 'b' WHERE id = 1; \
        UPDATE race SET name = 'c' WHERE id = 1",
    );
    assert_eq!(pair.desktop.value::<i64>("SELECT version FROM race WHERE id = 1"), 4);
    assert_eq!(
        pair.phone.value::<i64>(&format!("SELECT version FROM race WHERE sync_uuid = '{uuid}'")),
        4
    );
}

#[test]
fn a_rolled_back_write_is_not_caught() {
    let mut pair = Pair::new();
    pair.desktop.write("BEGIN; UPDATE race SET name = 'never'; DELETE FROM actor; ROLLBACK");
    assert_eq!(pair.desktop.capture(), 0);
    pair.meet();
}

#[test]
fn an_update_that_changes_nothing_only_counts() {
    let mut pair = Pair::new();
    let uuid = pair.uuid("race", 1);
    pair.desktop.write("UPDATE race SET name = name WHERE id = 1");
    pair.desktop.capture();
    pair.meet();
    // A form may have read the version the trigger gave: it is never shown for another state.
    assert_eq!(pair.desktop.value::<i64>("SELECT version FROM race WHERE id = 1"), 2);
    let entries = pair.desktop.engine().history("race", &uuid, now()).unwrap();
    assert_eq!(
        entries.last().map(|entry| (entry.action.as_str(), entry.fields.len())),
        Some(("rewritten", 0))
    );
    assert!(pair.phone.engine().conflicts(now()).unwrap().is_empty());
}

#[test]
fn insert_or_replace_deletes_the_row_it_displaced() {
    let mut pair = Pair::new();
    let old = pair.uuid("race", 3);
    pair.after(
        "INSERT OR REPLACE INTO race (id, name, setting_id, sync_uuid, version) VALUES (3, \
        'Replaced', 1, 'fresh', 1)",
    );
    assert_eq!(
        pair.phone.value::<i64>(&format!("SELECT count(*) FROM race WHERE sync_uuid = '{old}'")),
        0
    );
    assert_eq!(
        pair.phone.value::<String>("SELECT name FROM race WHERE sync_uuid = 'fresh'"),
        "Replaced"
    );
}

#[test]
fn insert_or_replace_through_a_unique_name_deletes_the_row_it_displaced() {
    let mut pair = Pair::new();
    let old = pair.uuid("arc_type", 2);
    pair.after(
        "INSERT OR REPLACE INTO arc_type (id, name, setting_id, sync_uuid, version) SELECT \
        77, name, setting_id, 'fresh', 1 FROM arc_type WHERE id = 2",
    );
    assert_eq!(
        pair.phone
            .value::<i64>(&format!("SELECT count(*) FROM arc_type WHERE sync_uuid = '{old}'")),
        0
    );
    assert_eq!(
        pair.phone.value::<i64>("SELECT count(*) FROM arc_type WHERE sync_uuid = 'fresh'"),
        1
    );
}

#[test]
fn replacing_a_row_without_naming_its_uuid_keeps_it_the_same_row() {
    let mut pair = Pair::of(Dialect::Presync);
    let uuid = pair.uuid("race", 3);
    pair.after("INSERT OR REPLACE INTO race (id, name, setting_id) VALUES (3, 'Replaced', 1)");
    assert_eq!(pair.uuid("race", 3), uuid);
    assert_eq!(
        pair.phone.value::<String>(&format!("SELECT name FROM race WHERE sync_uuid = '{uuid}'")),
        "Replaced"
    );
}

#[test]
fn a_reused_id_is_another_row() {
    let mut pair = Pair::of(Dialect::Presync);
    let top: i64 = pair.desktop.value("SELECT max(id) FROM race");
    let old = pair.uuid("race", top);
    pair.after(&format!(
        "DELETE FROM race WHERE id = {top}; INSERT INTO race (name, setting_id) VALUES ('Other', 1)"
    ));
    assert_eq!(
        pair.desktop.value::<i64>("SELECT id FROM race WHERE name = 'Other'"),
        top,
        "SQLite hands the id out again"
    );
    assert_ne!(pair.uuid("race", top), old);
    assert_eq!(
        pair.phone.value::<i64>(&format!("SELECT count(*) FROM race WHERE sync_uuid = '{old}'")),
        0
    );
    assert_eq!(pair.phone.value::<i64>("SELECT count(*) FROM race WHERE name = 'Other'"), 1);
}

#[test]
fn a_reused_id_never_leads_a_reference_to_a_stranger() {
    let mut pair = Pair::of(Dialect::Presync);
    let top: i64 = pair.desktop.value("SELECT max(id) FROM background");
    pair.desktop.write(&format!("UPDATE actor SET background_id = {top} WHERE id = 1"));
    pair.meet();
    let actor = pair.uuid("actor", 1);
    pair.desktop.write(&format!(
        "DELETE FROM background WHERE id = {top}; INSERT INTO background (name, setting_id) VALUES \
            ('Stranger', 1); UPDATE actor SET job = 'j' WHERE id = 1"
    ));
    pair.desktop.capture();
    pair.phone.sync(&mut pair.desktop);
    assert_eq!(
        pair.phone.value::<Option<i64>>(&format!(
            "SELECT background_id FROM actor WHERE sync_uuid = '{actor}'"
        )),
        None
    );
    assert_eq!(
        pair.phone.value::<String>(&format!("SELECT job FROM actor WHERE sync_uuid = '{actor}'")),
        "j"
    );
    assert_eq!(
        pair.desktop.value::<Option<i64>>("SELECT background_id FROM actor WHERE id = 1"),
        None,
        "nor on the device that reused the id"
    );
    assert_same_content(&pair.desktop.database, &pair.phone.database, true);
}

#[test]
fn a_row_the_app_leaves_behind_keeps_its_integer_and_shows_nothing_elsewhere() {
    let mut pair = Pair::of(Dialect::Presync);
    let (child, parent) = (
        pair.uuid("actor", 1),
        pair.desktop.value::<i64>("SELECT background_id FROM actor WHERE id = 1"),
    );
    pair.after(&format!("DELETE FROM background WHERE id = {parent}"));
    assert_eq!(pair.desktop.value::<i64>("SELECT background_id FROM actor WHERE id = 1"), parent);
    assert_eq!(
        pair.phone.value::<Option<i64>>(&format!(
            "SELECT background_id FROM actor WHERE sync_uuid = '{child}'"
        )),
        None
    );
    // That is no edit, on either side, whatever else is written.
    pair.after("UPDATE actor SET job = 'left behind' WHERE id = 1");
    pair.phone.write(&format!("UPDATE actor SET title = 'left' WHERE sync_uuid = '{child}'"));
    pair.meet();
    assert_eq!(pair.desktop.value::<i64>("SELECT background_id FROM actor WHERE id = 1"), parent);
}

#[test]
fn a_changed_primary_key_is_the_same_row_and_its_referrers_follow() {
    let mut pair = Pair::new();
    let uuid = pair.uuid("background", 4);
    let referrers: i64 = pair.desktop.value("SELECT count(*) FROM actor WHERE background_id = 4");
    assert!(referrers > 0);
    pair.after("UPDATE background SET id = 5000 WHERE id = 4");
    assert_eq!(pair.uuid("background", 5000), uuid);
    assert_eq!(
        pair.desktop.value::<i64>("SELECT count(*) FROM actor WHERE background_id = 5000"),
        referrers
    );
    assert_eq!(
        pair.phone
            .value::<i64>(&format!("SELECT count(*) FROM background WHERE sync_uuid = '{uuid}'")),
        1
    );
}

#[test]
fn two_rows_that_swap_their_ids_stay_themselves() {
    let mut pair = Pair::new();
    let (three, four) = (pair.uuid("race", 3), pair.uuid("race", 4));
    pair.after(
        "UPDATE race SET id = -1 WHERE id = 3; UPDATE race SET id = 3 WHERE id = 4; UPDATE \
        race SET id = 4 WHERE id = -1",
    );
    assert_eq!((pair.uuid("race", 3), pair.uuid("race", 4)), (four, three));
}

#[test]
fn a_uuid_overwritten_by_a_stale_object_deletes_nothing() {
    let mut pair = Pair::new();
    let displaced = pair.uuid("race", 3);
    let name: String = pair.desktop.value("SELECT name FROM race WHERE id = 3");
    pair.desktop
        .write("UPDATE race SET sync_uuid = 'stale-object', name = 'Overwritten' WHERE id = 3");
    pair.meet();
    for replica in [&pair.desktop, &pair.phone] {
        assert_eq!(
            replica
                .value::<String>(&format!("SELECT name FROM race WHERE sync_uuid = '{displaced}'")),
            name
        );
        assert_eq!(
            replica.value::<String>("SELECT name FROM race WHERE sync_uuid = 'stale-object'"),
            "Overwritten"
        );
    }
}

#[test]
fn a_row_without_uuid_never_takes_one_that_another_row_bears() {
    let mut pair = Pair::of(Dialect::Presync);
    let (three, name) =
        (pair.uuid("race", 3), pair.desktop.value::<String>("SELECT name FROM race WHERE id = 3"));
    pair.after(&format!(
        "UPDATE race SET sync_uuid = NULL WHERE id = 3; UPDATE race SET sync_uuid \
        = '{three}' WHERE id = 4"
    ));
    assert_eq!(pair.uuid("race", 4), three);
    assert_eq!(
        pair.phone.value::<i64>(&format!(
            "SELECT count(*) FROM race WHERE name = '{}'",
            name.replace('\'', "''")
        )),
        1
    );
}

#[test]
fn a_stale_form_merges_as_a_concurrent_edit() {
    let mut pair = Pair::new();
    let uuid = pair.uuid("race", 1);
    let (name, version): (String, i64) = (
        pair.desktop.value("SELECT name FROM race WHERE id = 1"),
        pair.desktop.value("SELECT version FROM race WHERE id = 1"),
    );
    // The form was opened; meanwhile the phone renames the row.
    pair.phone.write(&format!(
        "UPDATE race SET name = 'Renamed on the phone' WHERE sync_uuid = '{uuid}'"
    ));
    pair.meet();
    // The form is saved: the old name and the old version go back, with a new description.
    pair.desktop.write(&format!(
        "UPDATE race SET name = '{}', description = 'typed in the form', \
        version = {version} WHERE id = 1",
        name.replace('\'', "''")
    ));
    pair.meet();
    assert_eq!(
        pair.desktop.value::<String>("SELECT name FROM race WHERE id = 1"),
        "Renamed on the phone"
    );
    assert_eq!(
        pair.desktop.value::<String>("SELECT description FROM race WHERE id = 1"),
        "typed in the form"
    );
    assert_eq!(pair.desktop.value::<i64>("SELECT version FROM race WHERE id = 1"), version + 2);
    assert!(pair.desktop.engine().conflicts(now()).unwrap().is_empty());

    // A stale form that changes what was changed meanwhile conflicts.
    pair.desktop.write(&format!(
        "UPDATE race SET name = 'Typed in the form', version = {version} WHERE id = 1"
    ));
    pair.meet();
    assert_eq!(pair.phone.engine().conflicts(now()).unwrap().len(), 1);
}

#[test]
fn times_and_versions_the_app_writes_do_not_travel() {
    let mut pair = Pair::new();
    pair.desktop.write(
        "UPDATE race SET version = 900, updated_at = '1999-01-01 00:00:00', \
        created_at = '1999-01-01 00:00:00' WHERE id = 1",
    );
    pair.desktop.capture();
    assert_eq!(pair.phone.sync(&mut pair.desktop), (0, 1), "that it was saved");
    assert_same_content(&pair.desktop.database, &pair.phone.database, true);
    assert_eq!(pair.phone.value::<i64>("SELECT max(version) FROM race"), 2);
}

#[test]
fn a_rebuilt_table_gets_its_triggers_back_and_what_was_written_meanwhile_is_found() {
    let mut pair = Pair::new();
    let (changed, deleted) = (pair.uuid("arc_type", 1), pair.uuid("arc_type", 2));
    pair.desktop.stop();
    pair.desktop.write(
        "BEGIN; CREATE TABLE arc_new AS SELECT * FROM arc_type; DROP TABLE arc_type; \
         CREATE TABLE arc_type (id INTEGER NOT NULL PRIMARY KEY, name VARCHAR(200) NOT NULL, \
         description TEXT, setting_id INTEGER NOT NULL REFERENCES setting (id), \
         sync_uuid VARCHAR(36), created_at DATETIME, updated_at DATETIME, deleted_at DATETIME, \
         version INTEGER, UNIQUE (name, setting_id)); \
         INSERT INTO arc_type SELECT * FROM arc_new; DROP TABLE arc_new; COMMIT; \
         UPDATE arc_type SET name = 'Written without triggers' WHERE id = 1; DELETE FROM arc_type \
         WHERE id = 2; \
         INSERT INTO arc_type (name, setting_id) VALUES ('New without triggers', 1);",
    );
    assert_eq!(
        pair.desktop.value::<i64>(
            "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'arc_type'"
        ),
        0
    );
    pair.desktop.start();
    pair.meet();
    assert_eq!(
        pair.desktop.value::<i64>(
            "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'arc_type'"
        ),
        5
    );
    assert_eq!(
        pair.phone
            .value::<String>(&format!("SELECT name FROM arc_type WHERE sync_uuid = '{changed}'")),
        "Written without triggers"
    );
    assert_eq!(
        pair.phone
            .value::<i64>(&format!("SELECT count(*) FROM arc_type WHERE sync_uuid = '{deleted}'")),
        0
    );
    assert_eq!(
        pair.phone
            .value::<i64>("SELECT count(*) FROM arc_type WHERE name = 'New without triggers'"),
        1
    );
    pair.after("UPDATE arc_type SET description = 'caught again' WHERE id = 1");
}

#[test]
fn a_rebuilt_table_that_lost_its_sync_columns_keeps_its_rows_names() {
    let mut pair = Pair::new();
    let uuid = pair.uuid("alignment", 1);
    pair.desktop.stop();
    pair.desktop.write(
        "BEGIN; CREATE TABLE keep AS SELECT id, name, description, setting_id FROM alignment; DROP \
            TABLE alignment; \
         CREATE TABLE alignment (id INTEGER NOT NULL PRIMARY KEY, name VARCHAR(255), description \
         TEXT, setting_id INTEGER NOT NULL REFERENCES setting (id)); \
         INSERT INTO alignment SELECT * FROM keep; DROP TABLE keep; COMMIT",
    );
    pair.desktop.start();
    pair.desktop.capture();
    assert_eq!(pair.uuid("alignment", 1), uuid);
    pair.meet();
}

#[test]
fn a_new_table_and_a_new_column_of_the_app_are_taken_in() {
    let mut pair = Pair::new();
    let uuid = pair.uuid("race", 1);
    for replica in [&pair.desktop, &pair.phone] {
        replica.write(
            "CREATE TABLE potion (id INTEGER PRIMARY KEY, name TEXT, race_id INTEGER \
            REFERENCES race (id))",
        );
        replica.write("ALTER TABLE race ADD COLUMN anthem TEXT DEFAULT 'la'");
    }
    pair.desktop.write(
        "INSERT INTO potion (name, race_id) VALUES ('Blue', 1); UPDATE race SET \
        anthem = 'lalala' WHERE id = 1",
    );
    pair.desktop.capture();
    pair.phone.capture();
    pair.desktop.write("INSERT INTO potion (name, race_id) VALUES ('Red', 1)");
    pair.meet();
    assert_eq!(
        pair.phone.value::<i64>(&format!(
            "SELECT count(*) FROM potion p JOIN race r ON r.id \
        = p.race_id WHERE r.sync_uuid = '{uuid}'"
        )),
        2
    );
    assert_eq!(
        pair.phone.value::<String>(&format!("SELECT anthem FROM race WHERE sync_uuid = '{uuid}'")),
        "lalala"
    );
}

#[test]
fn rows_of_a_table_this_app_lacks_are_kept_and_forwarded_and_shown_once_it_has_it() {
    let mut pair = Pair::new();
    let mut laptop = Replica::empty(3);
    pair.desktop.write(
        "CREATE TABLE potion (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO \
        potion (name) VALUES ('Blue')",
    );
    pair.phone.sync(&mut pair.desktop);
    laptop.write("CREATE TABLE potion (id INTEGER PRIMARY KEY, name TEXT)");
    laptop.sync(&mut pair.phone);
    assert_eq!(laptop.value::<String>("SELECT name FROM potion"), "Blue");
    pair.phone.write("CREATE TABLE potion (id INTEGER PRIMARY KEY, name TEXT)");
    pair.phone.capture();
    assert_eq!(pair.phone.value::<String>("SELECT name FROM potion"), "Blue");
    pair.meet();
}

#[test]
fn link_tables_without_an_integer_key_are_synced_and_the_same_pair_is_one_row() {
    let make = |device| {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("app.db");
        let app = rusqlite::Connection::open(&path).unwrap();
        app.execute_batch(
            "CREATE TABLE tag (id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE page (id INTEGER \
                PRIMARY KEY, name TEXT); \
            CREATE TABLE page_tag (page_id INTEGER NOT NULL REFERENCES page (id), tag_id INTEGER \
            NOT NULL REFERENCES tag (id), PRIMARY KEY (page_id, tag_id)); \
            CREATE TABLE note (slug TEXT PRIMARY KEY, body TEXT);",
        )
        .unwrap();
        drop(app);
        Replica::at(folder, path, device)
    };
    let (mut one, mut two) = (make(1), make(2));
    one.write(
        "INSERT INTO tag (id, name) VALUES (1, 'red'); INSERT INTO page (id, name) VALUES \
        (5, 'p'); INSERT INTO note VALUES ('hello', 'body', NULL, NULL, NULL, NULL, 1)",
    );
    two.sync(&mut one);
    assert_same_content(&one.database, &two.database, true);
    two.write("INSERT INTO page (name) VALUES ('filler')");
    one.write("INSERT INTO page_tag (page_id, tag_id) VALUES (5, 1)");
    two.write(
        "INSERT INTO page_tag (page_id, tag_id) SELECT page.id, tag.id FROM page, tag WHERE \
        page.name = 'p'",
    );
    two.write("INSERT INTO note (slug, body) VALUES ('other', 'x')");
    one.write("INSERT INTO note (slug, body) VALUES ('other', 'x')");
    two.sync(&mut one);
    assert_same_content(&one.database, &two.database, true);
    assert_eq!(one.value::<i64>("SELECT count(*) FROM page_tag"), 1);
    assert_eq!(two.value::<i64>("SELECT count(*) FROM note"), 2);
}

#[test]
fn the_apps_own_triggers_keep_working_and_what_they_write_is_no_edit_lost() {
    let mut pair = Pair::new();
    for replica in [&pair.desktop, &pair.phone] {
        replica.write(
            "CREATE TRIGGER app_shout AFTER UPDATE OF name ON race BEGIN UPDATE \
            background SET description = 'race ' || NEW.name WHERE name LIKE 'background name 1%'; \
            END",
        );
    }
    pair.phone.capture();
    pair.desktop.write("UPDATE race SET name = 'Loud' WHERE id = 1");
    pair.desktop.capture();
    pair.phone.sync(&mut pair.desktop);
    pair.desktop.sync(&mut pair.phone);
    assert_same_content(&pair.desktop.database, &pair.phone.database, false);
    assert_eq!(
        pair.phone.value::<i64>("SELECT count(*) FROM background WHERE description = 'race Loud'"),
        pair.desktop
            .value::<i64>("SELECT count(*) FROM background WHERE description = 'race Loud'")
    );
}

#[test]
fn a_trigger_of_the_app_fires_for_what_arrives_while_it_is_there() {
    let mut pair = Pair::new();
    let tally = "CREATE TRIGGER app_tally AFTER UPDATE OF name ON race BEGIN INSERT INTO tally \
        (name) VALUES (NEW.name); END";
    pair.phone.write("CREATE TABLE tally (id INTEGER PRIMARY KEY, name TEXT)");
    let mut arrives = |before: &str, name: &str| {
        pair.phone.write(before);
        pair.desktop.write(&format!("UPDATE race SET name = '{name}' WHERE id = 1"));
        pair.phone.sync(&mut pair.desktop);
        assert_eq!(
            pair.phone.value::<i64>(&format!("SELECT count(*) FROM race WHERE name = '{name}'")),
            1
        );
        pair.phone.value::<i64>("SELECT count(*) FROM tally")
    };
    assert_eq!(arrives("", "nobody counts"), 0);
    assert_eq!(arrives(tally, "counted"), 1);
    assert_eq!(arrives("DROP TRIGGER app_tally", "nobody counts any more"), 1);
    assert_eq!(arrives(tally, "counted again"), 2);
}

#[test]
fn a_trigger_fires_in_a_file_that_took_anothers_place_after_as_many_changes_of_its_schema() {
    let mut pair = Pair::new();
    pair.phone.write("CREATE TABLE tally (id INTEGER PRIMARY KEY, name TEXT)");
    pair.phone.sync(&mut pair.desktop);
    let copy = pair.phone.folder.path().join("copy.db");
    std::fs::write(&copy, std::fs::read(&pair.phone.database).unwrap()).unwrap();
    // Another device's file: its node took note of the app's trigger. This one got an index
    // meanwhile.
    let mut third = Replica::of_copy(&copy, 3);
    third.write(
        "CREATE TRIGGER app_tally AFTER UPDATE OF name ON race BEGIN INSERT INTO tally \
        (name) VALUES (NEW.name); END",
    );
    third.capture();
    third.stop();
    pair.phone.write("CREATE INDEX tally_name ON tally (name)");
    pair.phone.capture();
    std::fs::rename(&third.database, &pair.phone.database).unwrap();
    pair.phone.capture();
    pair.desktop.write("UPDATE race SET name = 'counted' WHERE id = 1");
    pair.phone.sync(&mut pair.desktop);
    assert_eq!(pair.phone.value::<i64>("SELECT count(*) FROM tally"), 1);
}

#[test]
fn rows_that_stand_are_counted_right_whatever_becomes_of_them() {
    let mut pair = Pair::new();
    let table = "CREATE TABLE extra (id INTEGER PRIMARY KEY, name TEXT UNIQUE)";
    let mut after = |on_the_desktop: &str, on_the_phone: &str| {
        pair.desktop.write(on_the_desktop);
        pair.phone.write(on_the_phone);
        pair.desktop.capture();
        pair.desktop.assert_counted();
        pair.phone.sync(&mut pair.desktop);
        pair.desktop.sync(&mut pair.phone);
        pair.phone.start();
        pair.phone.assert_counted();
    };
    after(table, table);
    after(
        "INSERT INTO extra (name) VALUES ('one'), ('two'), ('three')",
        "INSERT INTO extra (name) VALUES ('two'), ('four')",
    );
    after(
        "DELETE FROM extra WHERE name = 'one'",
        "INSERT OR REPLACE INTO extra (id, name) VALUES (2, 'three')",
    );
    after("DELETE FROM actor", "UPDATE actor SET title = 'kept'");
    after("DROP TABLE extra", "UPDATE extra SET name = 'renamed' WHERE name = 'four'");
    after(table, "INSERT INTO extra (name) VALUES ('late')");
    after(
        "CREATE TRIGGER app_clears AFTER INSERT ON extra BEGIN DELETE FROM race WHERE id = NEW.id; \
            END",
        "INSERT INTO extra (name) VALUES ('fires')",
    );
}

#[test]
fn twins_inserted_in_one_instant_are_two_rows() {
    let mut pair = Pair::of(Dialect::OldScripts);
    pair.after(
        "INSERT INTO setting (name, user_id) VALUES ('New setting', 1), ('New setting', 1), \
        ('New setting', 1)",
    );
    assert_eq!(
        pair.phone.value::<i64>("SELECT count(*) FROM setting WHERE name = 'New setting'"),
        3
    );
}

#[test]
fn a_device_that_gains_a_column_later_takes_nobodys_values_away() {
    let mut pair = Pair::new();
    let columns = "ALTER TABLE race ADD COLUMN nick TEXT DEFAULT 'none'; ALTER TABLE race ADD \
        COLUMN motto TEXT";
    pair.desktop
        .write(&format!("{columns}; UPDATE race SET nick = 'nick ' || id, motto = 'motto ' || id"));
    pair.phone.sync(&mut pair.desktop);
    pair.phone.write(columns);
    pair.phone.write(
        "UPDATE race SET motto = 'typed on the phone' WHERE rowid = (SELECT min(rowid) FROM race)",
    );
    let uuid: String = pair.phone.value("SELECT sync_uuid FROM race ORDER BY rowid LIMIT 1");
    pair.meet();
    assert_eq!(pair.phone.value::<i64>("SELECT count(*) FROM race WHERE nick LIKE 'nick %'"), 10);
    assert_eq!(pair.phone.value::<i64>("SELECT count(*) FROM race WHERE motto LIKE 'motto %'"), 9);
    assert_eq!(
        pair.desktop.value::<String>(&format!("SELECT motto FROM race WHERE sync_uuid = '{uuid}'")),
        "typed on the phone"
    );
    // Dropped here and added again: nothing was typed, so nothing is taken away.
    pair.desktop.write("ALTER TABLE race DROP COLUMN motto");
    pair.phone.sync(&mut pair.desktop);
    pair.desktop.write("ALTER TABLE race ADD COLUMN motto TEXT");
    pair.meet();
    assert_eq!(pair.desktop.value::<i64>("SELECT count(*) FROM race WHERE motto IS NOT NULL"), 10);
}

#[test]
fn a_table_dropped_and_made_again_gets_its_rows_back() {
    let mut pair = Pair::new();
    let table = "CREATE TABLE gadget (id INTEGER PRIMARY KEY, name TEXT, parent_id INTEGER \
        REFERENCES gadget (id))";
    pair.desktop.write(&format!(
        "{table}; INSERT INTO gadget (id, name, parent_id) VALUES (1, 'one', NULL), (2, 'two', 1)"
    ));
    pair.phone.write(table);
    pair.meet();
    pair.desktop.write("DROP TABLE gadget");
    pair.phone.sync(&mut pair.desktop);
    assert_eq!(
        pair.phone.value::<i64>("SELECT count(*) FROM gadget"),
        2,
        "a dropped table deletes nothing elsewhere"
    );
    pair.phone.write("UPDATE gadget SET name = 'meanwhile' WHERE name = 'one'");
    pair.phone.sync(&mut pair.desktop);
    pair.desktop.write(table);
    pair.meet();
    assert_eq!(
        pair.desktop.value::<i64>("SELECT count(*) FROM gadget WHERE name IN ('meanwhile', 'two')"),
        2
    );
}

#[test]
fn a_reference_to_a_row_deleted_in_the_same_breath_keeps_its_name() {
    let mut pair = Pair::new();
    let setting = pair.uuid("setting", 1);
    pair.desktop.stop();
    pair.desktop.write(
        "INSERT INTO history (name, setting_id, sync_uuid, version) VALUES ('h', 1, \
        'child-1', 1); DELETE FROM setting WHERE id = 1",
    );
    pair.phone.write(&format!("UPDATE setting SET name = 'kept' WHERE sync_uuid = '{setting}'"));
    pair.desktop.start();
    pair.meet();
    for replica in [&pair.desktop, &pair.phone] {
        let parent: String = replica.value(
            "SELECT s.sync_uuid FROM history h JOIN setting s ON \
            s.id = h.setting_id WHERE h.sync_uuid = 'child-1'",
        );
        assert_eq!(parent, setting);
    }
}

#[test]
fn a_displaced_row_of_an_old_file_comes_back_with_its_times() {
    let mut pair = Pair::of(Dialect::OldScripts);
    let uuid = pair.uuid("stat", 3);
    pair.after("UPDATE stat SET sync_uuid = '80de6b34-f189-4a6f-9dfb-65dce7bb3348' WHERE id = 3");
    assert_eq!(
        pair.desktop
            .value::<String>(&format!("SELECT created_at FROM stat WHERE sync_uuid = '{uuid}'")),
        fixtures::BAKED
    );
}

#[test]
fn our_own_writes_are_not_captured() {
    let mut pair = Pair::new();
    pair.desktop.write("UPDATE race SET name = 'x'");
    pair.phone.sync(&mut pair.desktop);
    assert_eq!(pair.phone.value::<i64>("SELECT count(*) FROM sync_outbox"), 0);
    assert_eq!(pair.phone.capture(), 0);
    assert_eq!(pair.desktop.value::<i64>("SELECT own FROM sync_writer"), 0);
}

#[test]
fn a_file_restored_under_the_node_gets_the_newer_edits_back() {
    let mut pair = Pair::new();
    let uuid = pair.uuid("race", 1);
    let backup = std::fs::read(&pair.desktop.database).unwrap();
    pair.desktop.write("UPDATE race SET name = 'After the backup' WHERE id = 1");
    pair.meet();
    // The app restores: it copies the old file over the new one, then the user goes on.
    std::fs::write(&pair.desktop.database, &backup).unwrap();
    pair.desktop.write("UPDATE race SET description = 'After the restore' WHERE id = 1");
    assert!(pair.desktop.engine().capture(now()).unwrap().new_epoch);
    pair.phone.sync(&mut pair.desktop);
    pair.desktop.sync(&mut pair.phone);
    assert_same_content(&pair.desktop.database, &pair.phone.database, true);
    for (column, expected) in [("name", "After the backup"), ("description", "After the restore")] {
        assert_eq!(
            pair.phone
                .value::<String>(&format!("SELECT {column} FROM race WHERE sync_uuid = '{uuid}'")),
            expected
        );
    }
}
