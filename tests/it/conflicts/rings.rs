//! Two moves that lead in a circle: nothing is cut off from its root, both devices show the same,
//! and somebody decides.

use super::{conflicts, kinds, meet, take, two_with, value};
use crate::support::{Replica, now};
use storysync_crdt::Value;
use storysync_engine::Take;

const SCHEMA: &str = "
    CREATE TABLE folder (id INTEGER PRIMARY KEY, name TEXT NOT NULL, parent_id INTEGER REFERENCES \
    folder (id));
    CREATE TABLE chapter (id INTEGER PRIMARY KEY, title TEXT NOT NULL, chapter_id INTEGER NOT NULL \
    REFERENCES chapter (id));
    CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT NOT NULL, spouse_id INTEGER REFERENCES \
    person (id));";

/// Two devices that share a root with three folders in it.
fn with_folders() -> (Replica, Replica) {
    let (mut a, mut b) = two_with(SCHEMA, "");
    a.write(
        "INSERT INTO folder (id, name, parent_id, sync_uuid) VALUES (1, 'Root', NULL, 'root'), \
        (2, 'X', 1, 'x'), (3, 'Y', 1, 'y'), (4, 'Z', 1, 'z')",
    );
    meet(&mut a, &mut b);
    (a, b)
}

fn moves(replica: &Replica, name: &str, under: &str) {
    replica.write(&format!(
        "UPDATE folder SET parent_id = (SELECT id FROM folder WHERE name = \
        '{under}') WHERE name = '{name}'"
    ));
}

/// Who is under whom, as `child>parent`, by name.
fn tree(replica: &Replica) -> String {
    replica.value(
        "SELECT group_concat(line, ' ') FROM (SELECT f.name || '>' || p.name AS line FROM \
            folder f JOIN folder p ON p.id = f.parent_id ORDER BY f.name)",
    )
}

#[test]
fn of_two_moves_that_make_a_circle_the_last_stands_and_the_first_is_told() {
    let (mut a, mut b) = with_folders();
    moves(&a, "X", "Y");
    a.engine().capture(now()).unwrap();
    moves(&b, "Y", "X");
    meet(&mut a, &mut b);
    assert_eq!(tree(&a), tree(&b));
    assert_eq!(kinds(&mut a), ["ring"]);
    let told = conflicts(&mut a);
    let reachable: i64 = b.value(
        "WITH RECURSIVE r (id) AS (SELECT id FROM folder WHERE parent_id IS NULL UNION SELECT f.id \
            FROM folder f JOIN r ON f.parent_id = r.id) SELECT count(*) FROM r",
    );
    assert_eq!(reachable, 4);
    assert_eq!((told[0].fields[0].name.as_str(), told[0].fields[0].values.len()), ("parent_id", 2));
}

#[test]
fn either_move_can_be_taken_or_another_place_given() {
    for way in 0..4 {
        let (mut a, mut b) = with_folders();
        moves(&a, "X", "Y");
        a.engine().capture(now()).unwrap();
        moves(&b, "Y", "X");
        meet(&mut a, &mut b);
        let first_stands = tree(&a).contains("X>Y");
        match way {
            0 => take(&mut a, Take::Mine),
            1 => take(&mut a, Take::Theirs),
            2 => take(&mut b, Take::Keep),
            _ => value(&mut a, "parent_id", Value::from("z")),
        }
        meet(&mut a, &mut b);
        assert!(kinds(&mut a).is_empty() && kinds(&mut b).is_empty(), "way {way}");
        let (x_moved, y_moved) = ("X>Y Y>Root Z>Root", "X>Root Y>X Z>Root");
        match way {
            0 => assert_eq!(tree(&b), x_moved),
            1 => assert_eq!(tree(&b), y_moved),
            2 => assert_eq!(tree(&b), if first_stands { x_moved } else { y_moved }),
            _ => assert!(tree(&b).contains(">Z"), "{}", tree(&b)),
        }
    }
}

#[test]
fn three_moves_on_three_devices_make_one_circle_and_one_conflict() {
    let (mut a, mut b) = with_folders();
    let mut c = Replica::of_schema(SCHEMA, 3);
    meet(&mut a, &mut c);
    moves(&a, "X", "Y");
    moves(&b, "Y", "Z");
    moves(&c, "Z", "X");
    meet(&mut a, &mut b);
    meet(&mut c, &mut b);
    meet(&mut a, &mut c);
    meet(&mut a, &mut b);
    assert_eq!(kinds(&mut c), ["ring"]);
    assert_eq!(conflicts(&mut a)[0].rows.len(), 2, "both others are named");
    // Any of them moved away by the app ends it.
    let (name, _) =
        tree(&c).split_once('>').map(|(name, rest)| (name.to_owned(), rest.to_owned())).unwrap();
    moves(&c, &name, "Root");
    meet(&mut a, &mut c);
    meet(&mut a, &mut b);
    assert_eq!(tree(&a), tree(&b));
}

#[test]
fn a_circle_ends_when_a_row_of_it_is_deleted_and_when_its_move_is_taken_back() {
    for way in 0..2 {
        let (mut a, mut b) = with_folders();
        moves(&a, "X", "Y");
        a.engine().capture(now()).unwrap();
        moves(&b, "Y", "X");
        meet(&mut a, &mut b);
        let waiting = conflicts(&mut a)[0].sync_uuid.clone();
        let other = if waiting == "x" { "Y" } else { "X" };
        if way == 0 {
            a.write(&format!(
                "UPDATE folder SET parent_id = NULL WHERE parent_id = (SELECT id FROM folder WHERE \
                    name = '{other}'); DELETE FROM folder WHERE name = '{other}'"
            ));
        } else {
            moves(&a, other, "Z");
        }
        meet(&mut a, &mut b);
        assert!(kinds(&mut b).is_empty(), "way {way}: {:?}", conflicts(&mut b));
    }
}

#[test]
fn a_circle_one_desk_makes_by_itself_stands() {
    let (mut a, mut b) = with_folders();
    moves(&a, "X", "Y");
    moves(&a, "Y", "X");
    meet(&mut a, &mut b);
    assert_eq!(tree(&b), "X>Y Y>X Z>Root");
    assert!(kinds(&mut b).is_empty());
}

#[test]
fn columns_that_make_no_tree_may_lead_in_circles() {
    let (mut a, mut b) = two_with(SCHEMA, "");
    a.write("INSERT INTO person (id, name, sync_uuid) VALUES (1, 'Ada', 'ada'), (2, 'Ben', 'ben')");
    meet(&mut a, &mut b);
    a.write("UPDATE person SET spouse_id = 2 WHERE id = 1");
    b.write(
        "UPDATE person SET spouse_id = (SELECT id FROM person WHERE name = 'Ada') WHERE name = \
        'Ben'",
    );
    meet(&mut a, &mut b);
    assert!(kinds(&mut a).is_empty());
    assert_eq!(b.value::<i64>("SELECT count(*) FROM person WHERE spouse_id IS NOT NULL"), 2);
}

#[test]
fn a_tree_whose_roots_lead_to_themselves_has_no_circle_of_two() {
    let (mut a, mut b) = two_with(SCHEMA, "");
    a.write(
        "INSERT INTO chapter (id, title, chapter_id, sync_uuid) VALUES (1, 'One', 1, 'one'), \
        (2, 'Two', 1, 'two'), (3, 'Three', 1, 'three')",
    );
    meet(&mut a, &mut b);
    a.write("UPDATE chapter SET chapter_id = 3 WHERE id = 2");
    b.write(
        "UPDATE chapter SET chapter_id = (SELECT id FROM chapter WHERE title = 'Two') WHERE \
        title = 'Three'",
    );
    meet(&mut a, &mut b);
    assert_eq!(kinds(&mut b), ["ring"]);
    assert_eq!(
        a.value::<i64>("SELECT count(*) FROM chapter WHERE chapter_id = 1"),
        2,
        "one of them is back under the root"
    );
}
