//! Deciding conflicts: whose value it is, one by one and all at once, what is refused, and what
//! decides nothing.

use super::{SCHEMA, conflicts, kinds, meet, orphaned, take, two, two_with, value, with_many_rows};
use crate::support::{Replica, now};
use storysync_crdt::Value;
use storysync_engine::{Choice, Take};

fn conflicting() -> (Replica, Replica) {
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
        let (mut a, mut b) = conflicting();
        take(&mut b, if mine { Take::Mine } else { Take::Theirs });
        meet(&mut a, &mut b);
        assert_eq!(a.value::<String>("SELECT note FROM place"), wanted);
        let ended = a.engine().ended_conflicts(10).unwrap();
        assert_eq!(
            (ended.len(), ended[0].ending.as_str(), ended[0].ended_by.clone()),
            (1, "resolved", Some(b.id()))
        );
        let documented: (String, String) = (
            a.value("SELECT resolution FROM sync_conflict"),
            a.value("SELECT target_sync_uuid FROM sync_conflict"),
        );
        assert_eq!(documented, ("resolved".to_owned(), "p".to_owned()));
    }
}

#[test]
fn deciding_twice_says_that_nothing_is_open() {
    let (mut a, mut b) = conflicting();
    let id = conflicts(&mut a)[0].id.clone();
    take(&mut a, Take::Mine);
    let again = a.engine().resolve(
        &id,
        &Choice { take: Some(Take::Mine), ..Choice::default() },
        None,
        now(),
    );
    assert!(again.unwrap_err().to_string().contains("no open conflict"));
    meet(&mut a, &mut b);
}

#[test]
fn two_devices_that_decide_differently_have_a_new_conflict() {
    let (mut a, mut b) = conflicting();
    take(&mut a, Take::Mine);
    take(&mut b, Take::Mine);
    meet(&mut a, &mut b);
    assert_eq!(kinds(&mut a), ["field"]);
    assert_eq!(conflicts(&mut b)[0].fields[0].values.len(), 2);
    // And two that decide alike have none.
    value(&mut a, "note", Value::from("both"));
    value(&mut b, "note", Value::from("both"));
    meet(&mut a, &mut b);
    assert!(kinds(&mut a).is_empty());
}

#[test]
fn all_conflicts_are_decided_at_once() {
    let (mut a, mut b) = conflicting();
    a.write("INSERT INTO place (name, note, sync_uuid) VALUES ('Same', 'of a', 'zz')");
    b.write("INSERT INTO place (name, sync_uuid) VALUES ('Same', 'aa')");
    meet(&mut a, &mut b);
    assert_eq!(kinds(&mut a).len(), 2);
    assert_eq!(a.engine().resolve_all(&Take::Theirs, None, now()).unwrap(), (2, Vec::new()));
    meet(&mut a, &mut b);
    assert!(kinds(&mut b).is_empty());
    assert_eq!(b.value::<String>("SELECT note FROM place WHERE sync_uuid = 'p'"), "by b");
}

#[test]
fn a_conflict_between_devices_that_never_meet_is_decided_on_the_phone_between_them() {
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
        assert_eq!(conflicts(replica)[0].fields[0].values.len(), 2);
    }
    value(&mut phone, "note", Value::from("decided on the phone"));
    phone.sync(&mut a);
    phone.sync(&mut b);
    for replica in [&mut a, &mut b, &mut phone] {
        assert!(kinds(replica).is_empty());
        assert_eq!(replica.value::<String>("SELECT note FROM place"), "decided on the phone");
    }
}

#[test]
fn a_name_given_for_a_waiting_row_must_be_free_and_a_reference_must_lead_somewhere() {
    let (mut a, mut b) = two();
    a.write("INSERT INTO place (name, note, sync_uuid) VALUES ('Harbour', 'of a', 'zz')");
    b.write("INSERT INTO place (name, sync_uuid) VALUES ('Harbour', 'aa')");
    meet(&mut a, &mut b);
    let id = conflicts(&mut a)[0].id.clone();
    let mut give = |name: &str, value: Value| {
        let choice = Choice { take: None, fields: [(name.to_owned(), value)].into() };
        a.engine().resolve(&id, &choice, None, now()).unwrap_err().to_string()
    };
    assert!(give("name", Value::from("Harbour")).contains("another row has it already"));
    let (mut a, mut b) = two();
    a.write(
        "INSERT INTO place (name, sync_uuid) VALUES ('One', 'p1'), ('Two', 'p2'), ('Three', \
        'p3'); INSERT INTO person (name, home, sync_uuid) VALUES ('Ada', 1, 'ada')",
    );
    meet(&mut a, &mut b);
    a.write("UPDATE person SET home = 2");
    b.write("UPDATE person SET home = (SELECT id FROM place WHERE sync_uuid = 'p3')");
    meet(&mut a, &mut b);
    let id = conflicts(&mut a)[0].id.clone();
    let mut give = |value: Value| {
        a.engine().resolve(
            &id,
            &Choice { take: None, fields: [("home".to_owned(), value)].into() },
            None,
            now(),
        )
    };
    for (wrong, words) in [
        (Value::from("garbage"), "names no row"),
        (Value::Integer(99), "names no row"),
        (Value::Null, "wants a value"),
    ] {
        let error = give(wrong).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    give(Value::Integer(1)).unwrap();
    meet(&mut a, &mut b);
    assert_eq!(
        b.value::<String>("SELECT p.sync_uuid FROM person JOIN place p ON p.id = home"),
        "p1"
    );
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
    assert_eq!(a.engine().holds(now()).unwrap()[0].rows, 300);
    assert_eq!(b.value::<i64>("SELECT count(*) FROM place"), 100);
}

#[test]
fn deciding_all_at_once_deletes_no_link_that_would_not_conflict_then() {
    for (first, second) in [("aa", "zz"), ("zz", "aa")] {
        let (mut a, mut b) = two();
        a.write(
            "INSERT INTO place (name, sync_uuid) VALUES ('Shared', 's'); INSERT INTO person \
            (name, home, sync_uuid) VALUES ('Ada', 1, 'ada')",
        );
        meet(&mut a, &mut b);
        for (replica, uuid) in [(&a, first), (&b, second)] {
            replica.write(&format!(
                "INSERT INTO place (name, note, sync_uuid) VALUES ('U', \
                '{uuid}', '{uuid}'); INSERT INTO visit (who, place, sync_uuid) SELECT (SELECT id \
                FROM person), id, 'v-{uuid}' FROM place WHERE name = 'U'"
            ));
        }
        meet(&mut a, &mut b);
        assert_eq!(kinds(&mut a).len(), 1, "links between what shows as one place say the same");
        assert!(a.engine().resolve_all(&Take::Theirs, None, now()).unwrap().1.is_empty());
        meet(&mut a, &mut b);
        assert_eq!((b.value::<i64>("SELECT count(*) FROM visit"), kinds(&mut b).len()), (2, 0));
    }
}

#[test]
fn a_decision_that_would_end_nothing_is_refused() {
    let (mut a, mut b) =
        two_with("CREATE TABLE step (id INTEGER PRIMARY KEY, place INTEGER UNIQUE, note TEXT)", "");
    a.write("INSERT INTO step (place, sync_uuid) VALUES (9223372036854775807, 'aa')");
    b.write("INSERT INTO step (place, note, sync_uuid) VALUES (9223372036854775807, 'of b', 'zz')");
    meet(&mut a, &mut b);
    let id = conflicts(&mut a)[0].id.clone();
    let error = a
        .engine()
        .resolve(&id, &Choice { take: Some(Take::Rename), ..Choice::default() }, None, now())
        .unwrap_err()
        .to_string();
    assert!(error.contains("no other value"), "{error}");
    assert_eq!(a.engine().resolve_all(&Take::Mine, None, now()).unwrap().0, 0);
}
