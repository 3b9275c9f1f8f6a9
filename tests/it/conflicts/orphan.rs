//! Parents deleted on one device that a row of another requires.

use super::{conflicts, kinds, meet, orphaned, take, two, two_with};
use storysync_engine::Take;

#[test]
fn a_parent_deleted_here_and_required_there_lives_until_decided() {
    let (mut a, mut b) = orphaned();
    for replica in [&mut a, &mut b] {
        let home: String = replica.value(
            "SELECT p.name FROM person JOIN place p ON p.id = home WHERE person.sync_uuid = 'bea'",
        );
        assert_eq!(home, "Harbour");
        let found = conflicts(replica);
        assert_eq!(
            (found.len(), found[0].kind.as_str(), found[0].sync_uuid.as_str()),
            (1, "orphan", "harbour")
        );
        assert_eq!(found[0].rows[0].sync_uuid, "bea");
        assert_eq!(replica.engine().status().unwrap().parked, 0);
    }
    take(&mut b, Take::Keep);
    meet(&mut a, &mut b);
    assert!(kinds(&mut a).is_empty());
    assert_eq!(a.value::<i64>("SELECT count(*) FROM place"), 1);
}

#[test]
fn an_orphan_conflict_decided_by_deleting_leaves_the_child_without_its_parent() {
    let (mut a, mut b) = orphaned();
    take(&mut a, Take::Delete);
    meet(&mut a, &mut b);
    assert!(kinds(&mut b).is_empty());
    assert_eq!(b.value::<i64>("SELECT count(*) FROM place"), 0);
    assert!(b.value::<i64>("SELECT home FROM person") < -99, "it leads to no row");
    let ended = b.engine().ended_conflicts(10).unwrap();
    assert_eq!(
        (ended[0].kind.as_str(), ended[0].ending.as_str(), ended[0].ended_by.clone()),
        ("orphan", "resolved", Some(a.id()))
    );
}

#[test]
fn a_kept_parent_keeps_its_own_parent() {
    let (mut a, mut b) = two_with(
        "CREATE TABLE world (id INTEGER PRIMARY KEY, name TEXT);
         CREATE TABLE place (id INTEGER PRIMARY KEY, name TEXT, world INTEGER NOT NULL REFERENCES \
         world (id));
         CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT, home INTEGER NOT NULL REFERENCES \
         place (id));",
        "",
    );
    a.write(
        "INSERT INTO world (name) VALUES ('W'); INSERT INTO place (name, world) VALUES ('P', 1)",
    );
    meet(&mut a, &mut b);
    a.write("DELETE FROM place");
    a.capture();
    a.write("DELETE FROM world");
    b.write("INSERT INTO person (name, home) SELECT 'Ada', id FROM place");
    meet(&mut a, &mut b);
    assert_eq!(kinds(&mut a), ["orphan", "orphan"]);
    assert_eq!(
        a.value::<String>(
            "SELECT w.name FROM person JOIN place p ON p.id = home JOIN world w ON w.id = p.world"
        ),
        "W"
    );
    // The child goes: nothing requires them any more.
    b.write("DELETE FROM person");
    meet(&mut a, &mut b);
    assert!(kinds(&mut a).is_empty());
    assert_eq!(
        a.value::<i64>("SELECT (SELECT count(*) FROM place) + (SELECT count(*) FROM world)"),
        0
    );
    assert!(
        a.engine()
            .ended_conflicts(10)
            .unwrap()
            .iter()
            .all(|conflict| conflict.ending == "superseded")
    );
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
fn children_the_app_leaves_behind_are_no_conflict() {
    let (mut a, mut b) = two();
    a.write(
        "INSERT INTO place (name, sync_uuid) VALUES ('Harbour', 'harbour'); INSERT INTO person \
        (name, home, sync_uuid) VALUES ('Ada', 1, 'ada')",
    );
    meet(&mut a, &mut b);
    a.write("DELETE FROM place");
    a.sync(&mut b);
    assert!(kinds(&mut a).is_empty() && kinds(&mut b).is_empty());
    assert_eq!(a.value::<i64>("SELECT home FROM person"), 1, "as the app left it");
    assert!(
        b.value::<i64>("SELECT home FROM person") < -99,
        "elsewhere it leads to no row, not even to one the app puts under 0 or -1"
    );
    // More children than any list should hold: none of them brings the parent back.
    let mut many = String::from("INSERT INTO place (name) VALUES ('Port');");
    for number in 0..1_200 {
        many.push_str(&format!(
            "INSERT INTO person (name, home) VALUES ('p{number}', (SELECT id FROM place));"
        ));
    }
    a.write(&format!("BEGIN; {many} COMMIT"));
    a.sync(&mut b);
    a.write("DELETE FROM place");
    a.sync(&mut b);
    assert!(kinds(&mut b).is_empty());
    assert_eq!(b.value::<i64>("SELECT count(*) FROM place"), 0);
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
