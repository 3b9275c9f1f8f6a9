//! The deletion guard: deletions of many rows wait for a yes.

use super::{SCHEMA, meet, with_many_rows};
use crate::support::{Replica, now};

#[test]
fn a_mass_deletion_waits_for_a_yes() {
    let (mut a, mut b) = with_many_rows();
    b.write("DELETE FROM place WHERE id <= 300");
    b.sync(&mut a);
    assert_eq!(
        a.value::<i64>("SELECT count(*) FROM place"),
        400,
        "none of them, the first hundred included"
    );
    let brakes = a.engine().holds(now()).unwrap();
    assert_eq!(
        (brakes.len(), brakes[0].rows, brakes[0].device_id.clone(), brakes[0].entity_type.as_str()),
        (1, 300, b.id(), "place")
    );
    assert_eq!(
        b.sync(&mut a),
        (0, 0),
        "the documents are in step, and showing held rows is no edit"
    );
    a.write("UPDATE place SET note = 'I want this one' WHERE id = 1");
    let id = brakes[0].id.clone();
    assert_eq!(
        a.engine().decide_hold(&id, storysync_engine::HoldDecision::Approve, now()).unwrap(),
        299
    );
    assert_eq!(
        a.value::<i64>("SELECT count(*) FROM place"),
        101,
        "a held row somebody wrote into lives"
    );
    meet(&mut a, &mut b);
    assert!(
        a.engine()
            .decide_hold(&id, storysync_engine::HoldDecision::Approve, now())
            .unwrap_err()
            .to_string()
            .contains("no deletions wait")
    );
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
    assert_eq!(a.engine().holds(now()).unwrap()[0].rows, 298);
    a.write("DELETE FROM place WHERE id = 3");
    a.capture();
    assert_eq!(
        a.value::<i64>("SELECT count(*) FROM place WHERE id IN (2, 3)"),
        0,
        "a decision stands"
    );
    let b_key = storysync_engine::trust::identity::DeviceId::parse(&b.id()).unwrap().key().unwrap();
    a.engine().undo_device(&b_key, storysync_crdt::Stamp::from_unix_ms(1), now()).unwrap();
    assert!(a.engine().holds(now()).unwrap().is_empty(), "nothing is held any more");
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
    let brakes = a.engine().holds(now()).unwrap();
    assert_eq!(brakes.iter().map(|brake| brake.rows).sum::<i64>(), 200);
    assert!(brakes.iter().all(|brake| brake.rows > 0));
}

#[test]
fn a_mass_deletion_refused_lives_everywhere() {
    let (mut a, mut b) = with_many_rows();
    b.write("DELETE FROM place WHERE id <= 300");
    b.sync(&mut a);
    let id = a.engine().holds(now()).unwrap()[0].id.clone();
    a.engine().decide_hold(&id, storysync_engine::HoldDecision::Refuse, now()).unwrap();
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
    assert_eq!(a.engine().holds(now()).unwrap()[0].rows, 180);
}

#[test]
fn deletions_within_measure_are_not_braked() {
    let (mut a, mut b) = with_many_rows();
    b.write("DELETE FROM place WHERE id <= 80");
    meet(&mut a, &mut b);
    assert!(a.engine().holds(now()).unwrap().is_empty());
    assert_eq!(a.value::<i64>("SELECT count(*) FROM place"), 320);
}

#[test]
fn deletions_spread_over_tables_wait_together_with_the_rows_that_belong_to_them() {
    let (mut a, mut b) = with_many_rows();
    a.write(
        "INSERT INTO person (name, home) SELECT name, id FROM place WHERE id <= 90; INSERT \
        INTO visit (who, place) SELECT id, home FROM person",
    );
    meet(&mut a, &mut b);
    let counts = |replica: &Replica| {
        ["place", "person", "visit"]
            .map(|table| replica.value::<i64>(&format!("SELECT count(*) FROM {table}")))
    };
    let before = counts(&a);
    // In no table more than a hundred; in all of them together more than a fifth of the file.
    b.write("DELETE FROM visit; DELETE FROM person; DELETE FROM place WHERE id <= 90");
    b.sync(&mut a);
    assert_eq!(counts(&a), before);
    let brakes = a.engine().holds(now()).unwrap();
    assert_eq!(
        (brakes.len(), brakes[0].rows, brakes[0].entity_type.as_str()),
        (1, 270, "person, place, visit")
    );
    a.engine().decide_hold(&brakes[0].id, storysync_engine::HoldDecision::Refuse, now()).unwrap();
    meet(&mut a, &mut b);
    assert_eq!((counts(&a), counts(&b)), (before, before));
    assert_eq!(
        b.value::<i64>(
            "SELECT count(*) FROM visit JOIN person p ON p.id = who JOIN place h ON h.id = p.home"
        ),
        90
    );
}

#[test]
fn texts_emptied_in_very_many_rows_wait_like_deletions() {
    for decision in
        [storysync_engine::HoldDecision::Approve, storysync_engine::HoldDecision::Refuse]
    {
        let (mut a, mut b) = with_many_rows();
        a.write("UPDATE place SET note = 'a page about ' || name");
        meet(&mut a, &mut b);
        b.write(
            "UPDATE place SET note = '' WHERE id <= 200; UPDATE place SET note = NULL WHERE id \
            BETWEEN 201 AND 300",
        );
        b.sync(&mut a);
        let kept = |replica: &Replica| {
            replica.value::<i64>("SELECT count(*) FROM place WHERE note = 'a page about ' || name")
        };
        assert_eq!(kept(&a), 400);
        let brakes = a.engine().holds(now()).unwrap();
        assert_eq!(
            (brakes.len(), brakes[0].rows, brakes[0].emptied, brakes[0].what()),
            (1, 300, 300, "300 rows whose texts were emptied".to_owned())
        );
        // Showing what is held is no edit; writing beside it is one, and writing over it decides
        // about that row.
        assert_eq!(a.sync(&mut b).0, 0);
        a.write(
            "UPDATE place SET inside = 7 WHERE id = 1; UPDATE place SET note = 'written anew' \
            WHERE id = 2",
        );
        a.capture();
        assert_eq!((kept(&a), a.engine().holds(now()).unwrap()[0].rows), (399, 299));
        a.engine().decide_hold(&brakes[0].id, decision, now()).unwrap();
        meet(&mut a, &mut b);
        let expected = if decision == storysync_engine::HoldDecision::Approve { 100 } else { 399 };
        assert_eq!((kept(&a), kept(&b)), (expected, expected));
        assert_eq!(
            b.value::<String>("SELECT note FROM place WHERE name = 'place 1'"),
            "written anew"
        );
    }
}

#[test]
fn texts_emptied_a_few_at_a_time_are_counted_together_and_come_back() {
    let (mut a, mut b) = with_many_rows();
    a.write("UPDATE place SET note = 'a page about ' || name");
    meet(&mut a, &mut b);
    for slice in 0..5 {
        b.write(&format!(
            "UPDATE place SET note = '' WHERE id > {} AND id <= {}",
            slice * 30,
            slice * 30 + 30
        ));
        b.sync(&mut a);
    }
    assert_eq!(a.value::<i64>("SELECT count(*) FROM place WHERE note <> ''"), 400);
    assert_eq!(a.engine().holds(now()).unwrap()[0].emptied, 150);
    // Fewer than that are nobody's concern.
    let (mut a, mut b) = with_many_rows();
    a.write("UPDATE place SET note = 'a page about ' || name");
    meet(&mut a, &mut b);
    b.write("UPDATE place SET note = '' WHERE id <= 60");
    meet(&mut a, &mut b);
    assert_eq!(a.value::<i64>("SELECT count(*) FROM place WHERE note <> ''"), 340);
}
