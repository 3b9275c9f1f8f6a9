//! An update of the app renames a column on one device first: what is typed under either name is
//! one text.

use crate::support::{Replica, assert_same_content, now};
use rusqlite::Connection;

const NOTES: &str =
    "CREATE TABLE note (id INTEGER PRIMARY KEY, title TEXT, mood TEXT, stars INTEGER);";
const RENAMED: &str = "ALTER TABLE note RENAME COLUMN mood TO tone";
/// What migration tools do where they can't rename: a new table, filled from the old one, in its
/// place.
const REBUILT: &str = "
    CREATE TABLE fresh (id INTEGER PRIMARY KEY, title TEXT, stars INTEGER, tone TEXT, sync_uuid \
    VARCHAR(36), created_at TEXT, updated_at TEXT, deleted_at TEXT, version INTEGER NOT NULL \
    DEFAULT 1);
    INSERT INTO fresh (id, title, stars, tone, sync_uuid, created_at, updated_at, deleted_at, \
    version) SELECT id, title, stars, mood, sync_uuid, created_at, updated_at, deleted_at, version \
    FROM note;
    DROP TABLE note; ALTER TABLE fresh RENAME TO note";

fn with_notes() -> (Replica, Replica) {
    let (mut a, mut b) = (Replica::of_schema(NOTES, 1), Replica::of_schema(NOTES, 2));
    a.write(
        "INSERT INTO note (title, mood, stars, sync_uuid) VALUES ('one', 'written long ago', \
        3, 'n-one'), ('two', 'other', 4, 'n-two')",
    );
    meet(&mut a, &mut b);
    (a, b)
}

fn meet(a: &mut Replica, b: &mut Replica) {
    for _ in 0..2 {
        a.sync(b);
        b.sync(a);
    }
    assert_eq!(a.sync(b), (0, 0));
}

fn texts(replica: &Replica, column: &str) -> String {
    replica.value(&format!(
        "SELECT group_concat(line, ' ') FROM (SELECT title || '=' || \
        coalesce({column}, 'NULL') AS line FROM note ORDER BY title)"
    ))
}

#[test]
fn what_is_typed_under_the_old_name_is_shown_under_the_new_one() {
    for update in [RENAMED, REBUILT] {
        let (mut a, mut b) = with_notes();
        a.write(update);
        meet(&mut a, &mut b);
        b.write("UPDATE note SET mood = 'typed on b' WHERE title = 'one'");
        a.write("UPDATE note SET tone = 'typed on a' WHERE title = 'two'");
        meet(&mut a, &mut b);
        assert_eq!(texts(&a, "tone"), "one=typed on b two=typed on a");
        assert_eq!(texts(&b, "mood"), "one=typed on b two=typed on a");
        b.write(update);
        meet(&mut a, &mut b);
        assert_same_content(&a.database, &b.database, true);
        assert!(a.engine().conflicts(now()).unwrap().is_empty());
        b.write("UPDATE note SET tone = 'and again' WHERE title = 'two'");
        meet(&mut a, &mut b);
        assert_eq!(texts(&a, "tone"), "one=typed on b two=and again");
    }
}

#[test]
fn two_who_typed_under_two_names_are_a_conflict_in_one_field() {
    let (mut a, mut b) = with_notes();
    a.write(RENAMED);
    a.write("UPDATE note SET tone = 'by a' WHERE title = 'one'");
    b.write("UPDATE note SET mood = 'by b' WHERE title = 'one'");
    meet(&mut a, &mut b);
    let (here, there) =
        (a.engine().conflicts(now()).unwrap(), b.engine().conflicts(now()).unwrap());
    assert_eq!((here.len(), here[0].fields[0].values.len()), (1, 2));
    assert_eq!(here[0].id, there[0].id);
    assert_eq!(
        (here[0].fields[0].name.as_str(), there[0].fields[0].name.as_str()),
        ("tone", "mood"),
        "each as its app calls it"
    );
    let choice = storysync_engine::Choice {
        take: None,
        fields: [("tone".to_owned(), "both of us".into())].into(),
    };
    a.engine().resolve(&here[0].id, &choice, None, now()).unwrap();
    meet(&mut a, &mut b);
    assert_eq!(texts(&b, "mood"), "one=both of us two=other");
}

#[test]
fn a_device_that_never_knew_the_old_name_is_told() {
    let (mut a, mut b) = with_notes();
    a.write(RENAMED);
    meet(&mut a, &mut b);
    let new = NOTES.replace("mood", "tone");
    let mut c = Replica::of_schema(&new, 3);
    c.write("INSERT INTO note (title, tone, sync_uuid) VALUES ('three', 'made on c', 'n-three')");
    c.capture();
    meet(&mut c, &mut b);
    assert_eq!(texts(&c, "tone"), "one=written long ago three=made on c two=other");
    meet(&mut c, &mut a);
    meet(&mut c, &mut b);
    assert_eq!(texts(&b, "mood"), "one=written long ago three=made on c two=other");
    assert_eq!(texts(&a, "tone"), texts(&b, "mood"));
    c.write("UPDATE note SET tone = 'on c' WHERE title = 'one'");
    meet(&mut c, &mut b);
    meet(&mut a, &mut b);
    assert_eq!(texts(&a, "tone"), texts(&b, "mood"));
    for replica in [&mut a, &mut b, &mut c] {
        assert!(replica.engine().conflicts(now()).unwrap().is_empty());
        assert_eq!(replica.engine().status().unwrap().parked, 0);
    }
}

#[test]
fn a_column_dropped_and_another_added_is_no_renaming() {
    let (mut a, mut b) = with_notes();
    a.write(
        "ALTER TABLE note DROP COLUMN mood; ALTER TABLE note ADD COLUMN weather TEXT DEFAULT \
        'fair'",
    );
    meet(&mut a, &mut b);
    assert_eq!(texts(&b, "mood"), "one=written long ago two=other");
    assert_eq!(texts(&a, "weather"), "one=fair two=fair");
    b.write("UPDATE note SET mood = 'still here' WHERE title = 'one'");
    meet(&mut a, &mut b);
    assert_eq!(texts(&a, "weather"), "one=fair two=fair");
}

#[test]
fn a_column_renamed_twice_and_the_old_name_given_to_another_stay_apart() {
    let (mut a, mut b) = with_notes();
    a.write(RENAMED);
    a.capture();
    a.write(
        "ALTER TABLE note RENAME COLUMN tone TO feeling; ALTER TABLE note ADD COLUMN mood TEXT \
        DEFAULT 'new'",
    );
    meet(&mut a, &mut b);
    b.write("UPDATE note SET mood = 'typed on b' WHERE title = 'one'");
    meet(&mut a, &mut b);
    assert_eq!(texts(&a, "feeling"), "one=typed on b two=other");
    assert_eq!(texts(&a, "mood"), "one=new two=new");
}

#[test]
fn a_renamed_reference_goes_on_leading_where_it_led() {
    const SCHEMA: &str = "CREATE TABLE place (id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE \
        person (id INTEGER PRIMARY KEY, name TEXT, home INTEGER REFERENCES place (id));";
    let (mut a, mut b) = (Replica::of_schema(SCHEMA, 1), Replica::of_schema(SCHEMA, 2));
    a.write(
        "INSERT INTO place (id, name) VALUES (7, 'Harbour'), (8, 'Tower'); INSERT INTO person \
        (name, home) VALUES ('Ada', 7), ('Ben', 8)",
    );
    meet(&mut a, &mut b);
    a.write("ALTER TABLE person RENAME COLUMN home TO place_id");
    meet(&mut a, &mut b);
    b.write(
        "UPDATE person SET home = (SELECT id FROM place WHERE name = 'Tower') WHERE name = 'Ada'",
    );
    meet(&mut a, &mut b);
    assert_eq!(
        a.value::<String>(
            "SELECT p.name FROM person JOIN place p ON p.id = place_id WHERE person.name = 'Ada'"
        ),
        "Tower"
    );
    let path = a.database.clone();
    assert_eq!(
        Connection::open(path)
            .unwrap()
            .query_row("SELECT count(*) FROM sync_ref", [], |row| row.get::<_, i64>(0))
            .unwrap(),
        2
    );
}

#[test]
fn a_renamed_table_goes_on_as_the_table_it_was() {
    const FILES: &str = "CREATE TABLE note (id INTEGER PRIMARY KEY, title TEXT); CREATE TABLE line \
        (id INTEGER PRIMARY KEY, note_id INTEGER NOT NULL REFERENCES note (id), words TEXT);";
    let (mut a, mut b) = (Replica::of_schema(FILES, 1), Replica::of_schema(FILES, 2));
    a.write(
        "INSERT INTO note (id, title, sync_uuid) VALUES (1, 'one', 'n-one'), (2, 'two', \
        'n-two'), (3, 'gone', 'n-gone'); INSERT INTO line (note_id, words) VALUES (1, 'first'), \
        (2, 'second')",
    );
    meet(&mut a, &mut b);
    a.write("ALTER TABLE note RENAME TO entry");
    a.capture();
    b.write(
        "UPDATE note SET title = 'typed on b' WHERE id = 1; DELETE FROM note WHERE title = \
        'gone'; INSERT INTO note (title) VALUES ('made on b')",
    );
    meet(&mut a, &mut b);
    let titles = |replica: &Replica, table: &str| {
        replica.value::<String>(&format!(
            "SELECT group_concat(title, ' ') FROM (SELECT title FROM {table} ORDER BY title)"
        ))
    };
    assert_eq!(titles(&a, "entry"), "made on b two typed on b");
    a.write(
        "UPDATE entry SET title = 'typed on a' WHERE title = 'two'; INSERT INTO entry (title) \
        VALUES ('made on a'); INSERT INTO line (note_id, words) SELECT id, 'third' FROM entry \
        WHERE title = 'made on a'",
    );
    meet(&mut a, &mut b);
    assert_eq!(titles(&b, "note"), "made on a made on b typed on a typed on b");
    assert_eq!(
        b.value::<String>(
            "SELECT title FROM note JOIN line ON note_id = note.id WHERE words = 'third'"
        ),
        "made on a"
    );
    b.write("ALTER TABLE note RENAME TO entry");
    b.capture();
    a.write("DELETE FROM entry WHERE title = 'made on b'");
    meet(&mut a, &mut b);
    assert_eq!(titles(&b, "entry"), "made on a typed on a typed on b");
    assert_same_content(&a.database, &b.database, true);
    // Restarted, and told to one that never knew the old name.
    a.start();
    let mut c = Replica::of_schema(&FILES.replace("note (", "entry ("), 3);
    meet(&mut c, &mut a);
    meet(&mut c, &mut a);
    assert_eq!(titles(&c, "entry"), titles(&a, "entry"));
    c.write("UPDATE entry SET title = 'typed on c' WHERE title = 'made on a'");
    meet(&mut c, &mut b);
    assert_eq!(titles(&b, "entry"), "typed on a typed on b typed on c");
    assert_eq!(c.engine().status().unwrap().parked, 0);
}
