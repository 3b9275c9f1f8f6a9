//! The app is updated, imports, empties its tables: what it fills in by itself, and what stays each
//! device's own.

use crate::support::*;

const NOTES: &str = "CREATE TABLE note (id INTEGER PRIMARY KEY, title TEXT, body TEXT)";

/// Two devices with the same notes.
fn with_notes(count: usize) -> (Replica, Replica) {
    let (mut one, mut other) = (Replica::of_schema(NOTES, 1), Replica::of_schema(NOTES, 2));
    let rows: String = (0..count)
        .map(|number| {
            format!("INSERT INTO note (title, body) VALUES ('title {number}', 'body {number}');")
        })
        .collect();
    one.write(&rows);
    other.sync(&mut one);
    (one, other)
}

#[test]
fn what_an_upgrade_fills_in_on_every_device_is_no_conflict() {
    for fill in
        ["lower(hex(randomblob(4)))", "strftime('%Y-%m-%d %H:%M:%f', 'now')", "lower(title)"]
    {
        let (mut one, mut other) = with_notes(20);
        for device in [&one, &other] {
            device.write(&format!(
                "BEGIN; ALTER TABLE note ADD COLUMN slug TEXT; UPDATE note SET \
                slug = {fill}; COMMIT"
            ));
        }
        other.sync(&mut one);
        other.sync(&mut one);
        assert!(one.engine().conflicts(now()).unwrap().is_empty(), "{fill}");
        assert_same_content(&one.database, &other.database, false);
    }
}

#[test]
fn what_was_typed_into_a_new_column_elsewhere_is_not_filled_over() {
    let (mut one, mut other) = with_notes(20);
    one.write("ALTER TABLE note ADD COLUMN slug TEXT");
    one.capture();
    one.write("UPDATE note SET slug = 'typed' WHERE title = 'title 3'");
    other.sync(&mut one);
    other.write(
        "BEGIN; ALTER TABLE note ADD COLUMN slug TEXT; UPDATE note SET slug = lower(title); COMMIT",
    );
    other.sync(&mut one);
    for device in [&mut one, &mut other] {
        assert_eq!(
            device.value::<String>("SELECT slug FROM note WHERE title = 'title 3'"),
            "typed"
        );
        assert!(device.engine().conflicts(now()).unwrap().is_empty());
    }
}

#[test]
fn the_version_of_a_schema_is_each_files_own() {
    for table in [
        "alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)",
        "schema_migrations (version_num TEXT, done INTEGER)",
    ] {
        let name = table.split_whitespace().next().unwrap();
        let (mut one, mut other) = (
            Replica::of_schema(&format!("CREATE TABLE {table}"), 1),
            Replica::of_schema(&format!("CREATE TABLE {table}"), 2),
        );
        one.write(&format!("INSERT INTO {name} (version_num) VALUES ('001')"));
        other.sync(&mut one);
        let version = |device: &Replica| device.texts(&format!("SELECT version_num FROM {name}"));
        assert_eq!(version(&other), ["001"], "a device that has none is given one");
        one.write(&format!("UPDATE {name} SET version_num = '002'"));
        other.sync(&mut one);
        assert_eq!(
            (version(&one), version(&other)),
            (vec!["002".to_owned()], vec!["001".to_owned()])
        );
        one.write(&format!("DELETE FROM {name}"));
        other.sync(&mut one);
        assert_eq!(version(&other), ["001"]);
    }
}

#[test]
fn an_import_that_drops_and_refills_leaves_what_it_wrote() {
    for serving in [true, false] {
        let (mut one, mut other) = with_notes(6);
        let import = "INSERT INTO note (id, title, body) VALUES (1, 'title 0', 'as imported'), (2, \
            'another story', 'begins here')";
        if serving {
            one.write("DROP TABLE note");
            one.capture();
            one.write(NOTES);
            one.write(import);
        } else {
            one.write(&format!("BEGIN; DROP TABLE note; {NOTES}; {import}; COMMIT"));
        }
        other.sync(&mut one);
        for device in [&one, &other] {
            assert_eq!(
                device.texts("SELECT title || ': ' || body FROM note ORDER BY title"),
                ["another story: begins here", "title 0: as imported"]
            );
        }
    }
}

#[test]
fn a_table_emptied_and_filled_again_holds_what_it_was_given_and_mixes_no_two_rows() {
    let (mut one, mut other) = with_notes(3);
    other.write("UPDATE note SET body = 'typed on the other' WHERE title = 'title 1'");
    one.write(
        "BEGIN; DELETE FROM note; INSERT INTO note (id, title, body) VALUES (1, 'title 0', \
        'body 0'), (2, 'Harbour', 'Quay'); COMMIT",
    );
    other.sync(&mut one);
    other.sync(&mut one);
    let rows = one.texts("SELECT title || ': ' || body FROM note ORDER BY title");
    assert!(rows.contains(&"Harbour: Quay".to_owned()), "{rows:?}");
    assert!(
        rows.contains(&"title 1: typed on the other".to_owned()),
        "what was typed elsewhere into a row that went lives: {rows:?}"
    );
    assert_same_content(&one.database, &other.database, false);
}
