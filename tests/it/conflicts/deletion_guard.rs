//! The deletion guard: what deletes, empties or cuts too much waits for a yes.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use storysync_crdt::{Actor, EditPurpose, Since, Value, key};
use storysync_engine::HoldDecision;
use storysync_engine::store::{log, rows};
use storysync_engine::wire::RowChange;

use super::{SCHEMA, meet, two, with_many_rows};
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
    assert_eq!(a.engine().decide_hold(&id, HoldDecision::Approve, now()).unwrap(), 299);
    assert_eq!(
        a.value::<i64>("SELECT count(*) FROM place"),
        101,
        "a held row somebody wrote into lives"
    );
    meet(&mut a, &mut b);
    assert!(
        a.engine()
            .decide_hold(&id, HoldDecision::Approve, now())
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
    let which = Since::of(b_key, storysync_crdt::Stamp::from_unix_ms(1));
    a.engine().undo_device(&which, now()).unwrap();
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
    a.engine().decide_hold(&id, HoldDecision::Refuse, now()).unwrap();
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
    a.engine().decide_hold(&brakes[0].id, HoldDecision::Refuse, now()).unwrap();
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
    for decision in [HoldDecision::Approve, HoldDecision::Refuse] {
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
            (1, 300, 300, "300 rows whose texts were emptied or cut".to_owned())
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
        let expected = if decision == HoldDecision::Approve { 100 } else { 399 };
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

fn holds(replica: &mut Replica) -> Vec<storysync_engine::HoldReport> {
    replica.engine().holds(now()).unwrap()
}

fn decide(replica: &mut Replica, decision: HoldDecision) {
    let id = holds(replica)[0].id.clone();
    replica.engine().decide_hold(&id, decision, now()).unwrap();
}

/// Two devices with so many places.
fn with_places(count: usize) -> (Replica, Replica) {
    let (mut a, mut b) = two();
    let rows: String = (1..=count)
        .map(|number| format!("INSERT INTO place (name) VALUES ('place {number}');"))
        .collect();
    a.write(&rows);
    meet(&mut a, &mut b);
    (a, b)
}

#[test]
fn a_small_file_is_tidied_without_an_alarm_and_emptied_with_one() {
    let (mut a, mut b) = with_places(5);
    b.write("DELETE FROM place WHERE id <= 3");
    meet(&mut a, &mut b);
    assert!(holds(&mut a).is_empty(), "three of five tags");
    let (mut a, mut b) = with_places(12);
    b.write("DELETE FROM place WHERE id <= 4");
    meet(&mut a, &mut b);
    assert!(holds(&mut a).is_empty(), "four of twelve");
    b.write("DELETE FROM place WHERE id <= 10");
    b.sync(&mut a);
    assert_eq!((holds(&mut a)[0].rows, a.value("SELECT count(*) FROM place")), (10, 12));
    decide(&mut a, HoldDecision::Refuse);
    meet(&mut a, &mut b);
    assert_eq!(b.value::<i64>("SELECT count(*) FROM place"), 12);
}

#[test]
fn a_mass_deletion_at_ones_own_desk_is_held_on_the_other_devices_only() {
    let (mut a, mut b) = with_places(40);
    a.write("DELETE FROM place");
    a.capture();
    b.sync(&mut a);
    a.sync(&mut b);
    assert!(holds(&mut a).is_empty());
    assert_eq!(a.value::<i64>("SELECT count(*) FROM place"), 0);
    assert_eq!(holds(&mut b)[0].rows, 40);
}

/// A phone whose app takes children off their parents before it deletes those, within one push or
/// two.
fn with_children_taken_off(pushes: usize) -> (Replica, Replica) {
    let (mut a, mut b) = with_places(30);
    // 20 lie inside the first ten; and there is a person in each.
    a.write(
        "UPDATE place SET inside = id % 10 + 1 WHERE id > 10; INSERT INTO person (name, home) \
        SELECT 'person ' || id, id FROM place WHERE id <= 10",
    );
    meet(&mut a, &mut b);
    b.write("UPDATE place SET inside = NULL WHERE id > 10; UPDATE person SET home = 11");
    if pushes > 1 {
        b.sync(&mut a);
        assert_eq!(a.value::<i64>("SELECT count(inside) FROM place"), 0, "which is no alarm");
    }
    b.write("DELETE FROM place WHERE id <= 10");
    b.sync(&mut a);
    (a, b)
}

#[test]
fn what_was_taken_off_the_rows_that_are_held_is_held_with_them() {
    let linked = |replica: &Replica| {
        replica.value::<i64>(
            "SELECT (SELECT count(*) FROM place c JOIN place p ON p.id = c.inside) + (SELECT \
            count(*) FROM person c JOIN place p ON p.id = c.home AND p.name <> 'place 11')",
        )
    };
    for (pushes, decision) in [
        (1, HoldDecision::Refuse),
        (2, HoldDecision::Refuse),
        (1, HoldDecision::Approve),
        (2, HoldDecision::Approve),
    ] {
        let (mut a, mut b) = with_children_taken_off(pushes);
        assert_eq!(linked(&a), 30, "pushes: {pushes}");
        let told = holds(&mut a);
        assert_eq!((told[0].rows, told[0].unlinked, told.len()), (40, 30, 1));
        assert_eq!(a.sync(&mut b).0, 0, "showing what is held is no edit");
        assert_eq!(a.capture(), 0);
        decide(&mut a, decision);
        meet(&mut a, &mut b);
        let expected = if decision == HoldDecision::Refuse { 30 } else { 0 };
        assert_eq!((linked(&a), linked(&b)), (expected, expected), "pushes: {pushes}");
        assert!(holds(&mut a).is_empty());
    }
}

fn with_pages() -> (Replica, Replica) {
    let (mut a, mut b) = with_places(40);
    a.write(&format!("UPDATE place SET note = name || '{}'", " by the sea, at night".repeat(10)));
    meet(&mut a, &mut b);
    (a, b)
}

fn whole_pages(replica: &Replica) -> i64 {
    replica.value("SELECT count(*) FROM place WHERE length(note) > 200")
}

#[test]
fn texts_cut_a_little_at_a_time_are_counted_together_and_come_back_whole() {
    let (mut a, mut b) = with_pages();
    for length in [190, 170, 150, 120, 80, 10] {
        b.write(&format!("UPDATE place SET note = substr(note, 1, {length})"));
        b.sync(&mut a);
    }
    assert_eq!(whole_pages(&a), 40);
    assert_eq!(holds(&mut a)[0].emptied, 40);
    decide(&mut a, HoldDecision::Refuse);
    meet(&mut a, &mut b);
    assert_eq!((whole_pages(&a), whole_pages(&b)), (40, 40));
}

#[test]
fn texts_cut_before_their_rows_are_deleted_come_back_with_them() {
    let (mut a, mut b) = with_pages();
    b.write("UPDATE place SET note = 'x' WHERE id <= 7");
    b.sync(&mut a);
    assert!(holds(&mut a).is_empty(), "seven of forty");
    b.write("DELETE FROM place WHERE id <= 9");
    b.sync(&mut a);
    assert_eq!(whole_pages(&a), 40);
    assert_eq!((holds(&mut a)[0].rows, holds(&mut a)[0].emptied), (9, 0));
    decide(&mut a, HoldDecision::Refuse);
    meet(&mut a, &mut b);
    assert_eq!((whole_pages(&a), whole_pages(&b)), (40, 40));
}

#[test]
fn long_texts_written_over_with_as_much_of_nothing_are_held() {
    let (mut a, mut b) = with_pages();
    b.write("UPDATE place SET note = substr(hex(zeroblob(400)), 1, length(note))");
    b.sync(&mut a);
    assert_eq!(a.value::<i64>("SELECT count(*) FROM place WHERE note LIKE '%by the sea%'"), 40);
    assert_eq!(holds(&mut a)[0].emptied, 40);
}

#[test]
fn a_device_whose_cuts_are_held_does_not_get_them_through_by_writing_on() {
    let (mut a, mut b) = with_pages();
    b.write("UPDATE place SET note = ''");
    b.sync(&mut a);
    b.write("UPDATE place SET note = ' '");
    b.sync(&mut a);
    b.write("UPDATE place SET note = 'something short'");
    b.sync(&mut a);
    assert_eq!((whole_pages(&a), holds(&mut a)[0].emptied), (40, 40));
    // What it writes beside goes through meanwhile, also a word it takes out of a text.
    b.write("INSERT INTO place (name, note) VALUES ('new', 'a new place by the quiet sea')");
    b.sync(&mut a);
    b.write("UPDATE place SET note = 'a new place by the sea' WHERE name = 'new'");
    b.sync(&mut a);
    assert_eq!(
        a.value::<String>("SELECT note FROM place WHERE name = 'new'"),
        "a new place by the sea"
    );
    decide(&mut a, HoldDecision::Refuse);
    meet(&mut a, &mut b);
    assert_eq!((whole_pages(&a), whole_pages(&b)), (40, 40));
}

#[test]
fn an_ordinary_revision_of_many_texts_is_no_alarm() {
    let (mut a, mut b) = with_pages();
    b.write(
        "UPDATE place SET note = replace(substr(note, 1, length(note) - 20), 'at night', 'by \
        day') WHERE id % 4 = 0",
    );
    meet(&mut a, &mut b);
    assert!(holds(&mut a).is_empty());
    assert_eq!(a.value::<i64>("SELECT count(*) FROM place WHERE note LIKE '%by day%'"), 10);
}

#[test]
fn a_client_without_automerge_can_not_lift_a_hold_by_pushing_again() {
    let (mut a, mut b) = with_places(40);
    // It wrote the pages itself: it knows them.
    b.write(&format!("UPDATE place SET note = name || '{}'", " by the sea, at night".repeat(10)));
    meet(&mut a, &mut b);
    let plain = |replica: &Replica, operation: &str, note: Option<&str>| -> Vec<RowChange> {
        let named = replica.texts("SELECT sync_uuid || '/' || version FROM place");
        let rows = named.iter().filter_map(|named| named.split_once('/'));
        rows.map(|(uuid, version)| RowChange {
            entity_type: "place".to_owned(),
            sync_uuid: uuid.to_owned(),
            operation: operation.to_owned(),
            version: version.parse().unwrap(),
            data: note.map(|note| {
                serde_json::Map::from_iter([("note".to_owned(), serde_json::json!(note))])
            }),
            ..RowChange::default()
        })
        .collect()
    };
    let blank = plain(&a, "update", Some(""));
    let receipt = a.engine().receive(&blank, &b.id(), now()).unwrap();
    assert_eq!((receipt.rows.len(), receipt.rejected), (40, Vec::new()));
    assert_eq!((whole_pages(&a), holds(&mut a)[0].emptied), (40, 40));
    let again = plain(&a, "update", Some(" "));
    a.engine().receive(&again, &b.id(), now()).unwrap();
    assert_eq!((whole_pages(&a), holds(&mut a)[0].emptied), (40, 40));
    let gone = plain(&a, "delete", None);
    a.engine().receive(&gone, &b.id(), now()).unwrap();
    assert_eq!((whole_pages(&a), holds(&mut a)[0].rows), (40, 40));
    decide(&mut a, HoldDecision::Refuse);
    assert_eq!(whole_pages(&a), 40);
}

#[test]
fn texts_emptied_under_dates_of_long_ago_come_back_all_the_same() {
    let (mut a, mut b) = with_pages();
    let connection = b.app();
    let puts = BTreeMap::from([
        ("note".to_owned(), Value::from("")),
        (key::UPDATED_AT.to_owned(), Value::from("1970-01-02 00:00:00")),
    ]);
    let changes: Vec<RowChange> = log::rows_with_changes(&connection)
        .unwrap()
        .into_iter()
        .map(|id| {
            let document = log::document(&connection, id).unwrap();
            let author = Actor::of_device(&[77; 32], [1; 8]);
            let change = document.edit(puts.clone(), EditPurpose::Edit, None, &author, 0).unwrap();
            let entity = rows::entity(&connection, &rows::get(&connection, id).unwrap()).unwrap();
            RowChange {
                entity_type: entity.table.as_str().to_owned(),
                sync_uuid: entity.uuid.as_str().to_owned(),
                automerge: vec![STANDARD.encode(change.bytes())],
                ..RowChange::default()
            }
        })
        .collect();
    for few in changes.chunks(4) {
        a.engine().receive(few, &b.id(), now()).unwrap();
    }
    assert_eq!((whole_pages(&a), holds(&mut a)[0].emptied), (40, 40));
    decide(&mut a, HoldDecision::Refuse);
    assert_eq!(whole_pages(&a), 40);
    b.stop();
}

#[test]
fn rows_in_the_trash_do_not_make_those_that_stand_look_few() {
    let (mut a, mut b) = two();
    a.write(
        "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 420) \
         INSERT INTO place (name) SELECT 'place ' || i FROM n",
    );
    a.capture();
    // Years of tidying up: four hundred lie in the trash.
    a.write("UPDATE place SET deleted_at = '2026-01-01 00:00:00' WHERE id > 20");
    meet(&mut a, &mut b);
    let standing = "SELECT count(*) FROM place WHERE deleted_at IS NULL";
    assert_eq!(b.value::<i64>(standing), 20);
    b.write("UPDATE place SET deleted_at = '2026-11-01 00:00:00' WHERE deleted_at IS NULL");
    b.sync(&mut a);
    assert_eq!(a.value::<i64>(standing), 20);
    assert_eq!(holds(&mut a).len(), 1, "all that stood were thrown away");
}

#[test]
fn whoever_deletes_a_row_whose_texts_are_held_has_deleted_it() {
    let (mut a, mut b) = with_pages();
    b.write("UPDATE place SET note = 'cut' WHERE id <= 300");
    b.sync(&mut a);
    assert_eq!(holds(&mut a).len(), 1, "the texts wait");
    a.write("DELETE FROM place WHERE id = 7");
    a.capture();
    b.sync(&mut a);
    assert_eq!(a.value::<i64>("SELECT count(*) FROM place WHERE id = 7"), 0);
    decide(&mut a, HoldDecision::Refuse);
    meet(&mut a, &mut b);
    for desk in [&a, &b] {
        assert_eq!(desk.value::<i64>("SELECT count(*) FROM place WHERE id = 7"), 0, "it stays so");
    }
}
