//! Unique values given on both devices: which row stays, which waits, and when it gets its turn.

use super::{conflicts, kinds, meet, take, two, two_with, value};
use crate::support::{Replica, now};
use storysync_crdt::Value;
use storysync_engine::Take;

#[test]
fn one_name_given_on_both_sides_keeps_the_smaller_uuid_and_tells_both() {
    let (mut a, mut b) = two();
    a.write("INSERT INTO place (name, note, sync_uuid) VALUES ('Harbour', 'by a', 'zz-of-a')");
    b.write(
        "INSERT INTO place (name, note, sync_uuid) VALUES ('Harbour', 'by b', 'aa-of-b'); \
        INSERT INTO person (name, home) SELECT 'Bea', id FROM place",
    );
    a.write("INSERT INTO person (name, home, sync_uuid) SELECT 'Ada', id, 'ada' FROM place");
    meet(&mut a, &mut b);
    for replica in [&mut a, &mut b] {
        assert_eq!(replica.value::<String>("SELECT group_concat(note) FROM place"), "by b");
        let at_home: i64 = replica.value(
            "SELECT count(*) FROM person JOIN place p ON p.id = home WHERE p.sync_uuid = 'aa-of-b'",
        );
        assert_eq!(at_home, 2, "references show the one that stays");
        let found = conflicts(replica);
        assert_eq!(
            (found.len(), found[0].kind.as_str(), found[0].sync_uuid.as_str()),
            (1, "unique", "zz-of-a")
        );
        assert_eq!(
            (found[0].fields[0].name.as_str(), found[0].rows[0].sync_uuid.as_str()),
            ("name", "aa-of-b")
        );
        assert_eq!(replica.engine().status().unwrap().parked, 1);
    }
    take(&mut a, Take::Rename);
    meet(&mut a, &mut b);
    assert!(kinds(&mut b).is_empty());
    assert_eq!(
        b.value::<String>("SELECT group_concat(name) FROM (SELECT name FROM place ORDER BY name)"),
        "Harbour,Harbour (2)"
    );
    assert_eq!(
        b.value::<String>(
            "SELECT p.name FROM person JOIN place p ON p.id = home WHERE person.sync_uuid = 'ada'"
        ),
        "Harbour (2)"
    );
}

#[test]
fn a_unique_conflict_is_decided_by_value_by_deleting_and_by_whose_name_it_is() {
    for way in 0..3 {
        let (mut a, mut b) = two();
        a.write(
            "INSERT INTO place (name, note, sync_uuid) VALUES ('Harbour', 'by a', 'zz-of-a'); \
                INSERT INTO person (name, home, sync_uuid) SELECT 'Ada', id, 'ada' FROM place",
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
        let names: String =
            b.value("SELECT group_concat(name) FROM (SELECT name FROM place ORDER BY sync_uuid)");
        let home: String = b.value(
            "SELECT p.sync_uuid FROM person JOIN place p ON p.id = home \
            WHERE person.sync_uuid = 'ada'",
        );
        match way {
            0 => assert_eq!((names.as_str(), home.as_str()), ("Harbour,Port", "zz-of-a")),
            1 => assert_eq!(
                (names.as_str(), home.as_str()),
                ("Harbour", "aa-of-b"),
                "whoever referred to the one refers to the other"
            ),
            _ => assert_eq!((names.as_str(), home.as_str()), ("Harbour (2),Harbour", "zz-of-a")),
        }
    }
}

#[test]
fn a_swap_of_names_is_no_conflict() {
    let (mut a, mut b) = two();
    a.write(
        "INSERT INTO place (name, sync_uuid) VALUES ('Left', 'one'), ('Right', 'two'), \
        ('Third', 'three')",
    );
    meet(&mut a, &mut b);
    // Integers only this device knows: a row taken out of its table and put back would lose them.
    b.write("UPDATE place SET inside = 4711 WHERE sync_uuid IN ('one', 'two')");
    a.sync(&mut b);
    a.write(
        "UPDATE place SET name = 'x' WHERE id = 1; UPDATE place SET name = 'Left' WHERE id = \
        2; UPDATE place SET name = 'Third2' WHERE id = 3; UPDATE place SET name = 'Right' WHERE id \
        = 1;
             UPDATE place SET name = 'Third' WHERE id = 3",
    );
    meet(&mut a, &mut b);
    assert_eq!(
        b.value::<String>(
            "SELECT group_concat(name) FROM (SELECT name FROM place WHERE \
        sync_uuid <> 'three' ORDER BY sync_uuid)"
        ),
        "Right,Left"
    );
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
fn two_links_between_the_same_rows_are_one() {
    let (mut a, mut b) = two();
    a.write(
        "INSERT INTO place (name, sync_uuid) VALUES ('Harbour', 'p1'), ('Port', 'p2'); INSERT INTO \
            person (name, home, sync_uuid) VALUES ('Ada', 1, 'ada')",
    );
    meet(&mut a, &mut b);
    a.write("INSERT INTO visit (who, place, sync_uuid) VALUES (1, 1, 'zz')");
    b.write(
        "INSERT INTO visit (who, place, sync_uuid) SELECT (SELECT id FROM person), id, 'aa' \
        FROM place WHERE sync_uuid = 'p1'",
    );
    meet(&mut a, &mut b);
    assert!(kinds(&mut a).is_empty());
    assert_eq!(a.value::<i64>("SELECT count(*) FROM visit"), 1);
}

#[test]
fn links_whose_targets_are_gone_do_not_collide() {
    let (mut a, mut b) = two();
    a.write(
        "INSERT INTO place (name) VALUES ('Harbour'), ('Port'); INSERT INTO person (name, \
        home) VALUES ('Ada', 1), ('Bea', 2); INSERT INTO visit (who, place) VALUES (1, 1), (2, 2)",
    );
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
    b.write(
        "INSERT INTO place (name, sync_uuid) VALUES ('Harbour', 'zz'); INSERT INTO person \
        (name, home, sync_uuid) SELECT 'Bea', id, 'bea' FROM place",
    );
    // B deletes its row, and leaves the child behind, before it has seen A's.
    b.capture();
    a.sync(&mut b);
    let at_home = |replica: &Replica| {
        replica.value::<i64>("SELECT count(*) FROM person JOIN place p ON p.id = home")
    };
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
    let row = |prefix: &str, number: i32| {
        format!(
            "INSERT INTO place (name, note, sync_uuid) VALUES ('n{number}', 'by {prefix}', \
                '{prefix}{number}');"
        )
    };
    let rows = |prefix: &str| (0..300).map(|number| row(prefix, number)).collect::<String>();
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
fn numbers_and_links_that_conflict_are_decided_like_names() {
    let (mut a, mut b) = two_with(
        "CREATE TABLE step (id INTEGER PRIMARY KEY, place INTEGER UNIQUE, note TEXT);
         CREATE TABLE link (id INTEGER PRIMARY KEY, step INTEGER REFERENCES step (id) UNIQUE, note \
         TEXT);",
        "",
    );
    a.write("INSERT INTO step (place, note, sync_uuid) VALUES (7, 'a', 'aa')");
    meet(&mut a, &mut b);
    a.write("INSERT INTO link (step, note, sync_uuid) VALUES (1, 'a', 'l-a')");
    b.write(
        "INSERT INTO link (step, sync_uuid) SELECT id, 'l-b' FROM step; UPDATE step SET note = \
        'b'; INSERT INTO step (place, sync_uuid) VALUES (8, 'bb')",
    );
    a.write(
        "UPDATE step SET note = 'A'; INSERT INTO step (place, note, sync_uuid) VALUES (8, 'by \
        a', 'zz')",
    );
    meet(&mut a, &mut b);
    assert_eq!(kinds(&mut a).len(), 3);
    assert_eq!(a.engine().resolve_all(&Take::Theirs, None, now()).unwrap(), (3, Vec::new()));
    meet(&mut a, &mut b);
    assert!(kinds(&mut b).is_empty());
    assert_eq!(
        (
            b.value::<i64>("SELECT count(*) FROM link"),
            b.value::<i64>("SELECT count(DISTINCT place) FROM step")
        ),
        (1, 3)
    );
}

#[test]
fn deleting_the_waiting_row_ends_the_conflict_even_if_it_was_marked_as_deleted_once() {
    let (mut a, mut b) = two();
    a.write("INSERT INTO place (name, note, sync_uuid) VALUES ('Harbour', 'by a', 'zz')");
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

#[test]
fn names_swapped_under_an_index_with_a_condition_arrive() {
    let (mut a, mut b) = two_with(
        "CREATE TABLE tag (id INTEGER PRIMARY KEY, name TEXT, n INTEGER REFERENCES tag (id), gone \
            INTEGER);
         CREATE UNIQUE INDEX tag_name ON tag (name) WHERE gone IS NULL",
        "",
    );
    a.write("INSERT INTO tag (name, sync_uuid) VALUES ('one', 'x'), ('two', 'y'), ('three', 'z')");
    meet(&mut a, &mut b);
    b.write("UPDATE tag SET n = 4711");
    a.sync(&mut b);
    a.write(
        "UPDATE tag SET name = 'tmp' WHERE sync_uuid = 'x'; UPDATE tag SET name = 'one' WHERE \
        sync_uuid = 'y'; UPDATE tag SET name = 'two' WHERE sync_uuid = 'z'; UPDATE tag SET name = \
        'three' WHERE sync_uuid = 'x'",
    );
    a.sync(&mut b);
    assert_eq!(
        b.value::<String>(
            "SELECT group_concat(name) FROM (SELECT name FROM tag ORDER BY sync_uuid)"
        ),
        "three,one,two"
    );
    assert_eq!(
        b.value::<i64>("SELECT count(*) FROM tag WHERE n = 4711"),
        3,
        "what only this device knows stays"
    );
    assert!(kinds(&mut b).is_empty());
}

#[test]
fn rows_made_alike_on_two_devices_are_one_without_a_question() {
    let (mut a, mut b) = two();
    a.write(
        "INSERT INTO place (name, sync_uuid) VALUES ('Home', 'home'); INSERT INTO person \
        (name, home, sync_uuid) VALUES ('Ada', 1, 'ada')",
    );
    meet(&mut a, &mut b);
    for (replica, uuid) in [(&a, "aa"), (&b, "zz")] {
        replica.write(&format!(
            "INSERT INTO place (name, note, sync_uuid) VALUES ('Harbour', 'by the sea', '{uuid}');
             INSERT INTO visit (who, place, sync_uuid) SELECT (SELECT id FROM person), id, \
             'v-{uuid}' FROM place WHERE name = 'Harbour'"
        ));
    }
    meet(&mut a, &mut b);
    for replica in [&mut a, &mut b] {
        assert_eq!(kinds(replica).len(), 0);
        assert_eq!(
            (
                replica.value::<i64>("SELECT count(*) FROM place"),
                replica.value::<i64>("SELECT count(*) FROM visit")
            ),
            (2, 1)
        );
    }
    // What shows as one is deleted as one.
    b.write("DELETE FROM visit; DELETE FROM place WHERE name = 'Harbour'");
    meet(&mut a, &mut b);
    assert_eq!(
        (
            a.value::<i64>("SELECT count(*) FROM place"),
            a.value::<i64>("SELECT count(*) FROM visit")
        ),
        (1, 0)
    );
    assert_eq!(kinds(&mut b).len(), 0);
}

/// Two devices whose tables are unique by a rule that only SQLite can judge.
fn ruled(rule: &str) -> (Replica, Replica) {
    let schema = format!(
        "CREATE TABLE tag (id INTEGER PRIMARY KEY, name TEXT NOT NULL, owner INTEGER NOT NULL \
            DEFAULT 7, is_default INTEGER NOT NULL DEFAULT 0, folded TEXT GENERATED ALWAYS AS \
            (lower(name)) VIRTUAL);
         CREATE TABLE mention (id INTEGER PRIMARY KEY, tag INTEGER NOT NULL REFERENCES tag (id), \
         line TEXT); {rule}"
    );
    two_with(&schema, "")
}

const RULES: [&str; 4] = [
    "CREATE UNIQUE INDEX by_letters ON tag (name COLLATE NOCASE)",
    "CREATE UNIQUE INDEX by_words ON tag (lower(trim(name)))",
    "CREATE UNIQUE INDEX by_fold ON tag (folded)",
    "CREATE UNIQUE INDEX among_some ON tag (owner, lower(name)) WHERE owner > 0",
];

#[test]
fn names_alike_by_a_rule_of_the_tables_are_one_conflict_on_both_devices() {
    for rule in RULES {
        for order in [false, true] {
            let (mut a, mut b) = ruled(rule);
            a.write(
                "INSERT INTO tag (name, sync_uuid) VALUES ('Magic', 'aa-of-a'); INSERT INTO \
                mention (tag, line) SELECT id, 'by a' FROM tag",
            );
            b.write(
                "INSERT INTO tag (name, sync_uuid) VALUES ('magic', 'zz-of-b'); INSERT INTO \
                mention (tag, line) SELECT id, 'by b' FROM tag",
            );
            if order {
                meet(&mut a, &mut b)
            } else {
                meet(&mut b, &mut a)
            }
            for replica in [&mut a, &mut b] {
                assert_eq!(
                    replica.value::<String>("SELECT group_concat(name) FROM tag"),
                    "Magic",
                    "{rule}"
                );
                assert_eq!(
                    replica.value::<i64>(
                        "SELECT count(*) FROM mention JOIN tag ON tag.id = mention.tag"
                    ),
                    2,
                    "what mentions the other is shown"
                );
                let found = conflicts(replica);
                assert_eq!(
                    (found.len(), found[0].kind.as_str(), found[0].sync_uuid.as_str()),
                    (1, "unique", "zz-of-b"),
                    "{rule}"
                );
                assert!(
                    found[0]
                        .fields
                        .iter()
                        .any(|field| field.name == "name" && field.values.len() == 2),
                    "{rule}"
                );
            }
        }
    }
}

#[test]
fn a_conflict_by_a_rule_can_be_decided_in_every_way() {
    for rule in RULES {
        for way in 0..5 {
            let (mut a, mut b) = ruled(rule);
            a.write("INSERT INTO tag (name, sync_uuid) VALUES ('Magic', 'aa-of-a')");
            b.write(
                "INSERT INTO tag (name, sync_uuid) VALUES ('magic', 'zz-of-b'); INSERT INTO \
                mention (tag, line) SELECT id, 'by b' FROM tag",
            );
            meet(&mut a, &mut b);
            match way {
                0 => take(&mut a, Take::Mine),
                1 => take(&mut a, Take::Theirs),
                2 => take(&mut b, Take::Rename),
                3 => take(&mut a, Take::Delete),
                _ => value(&mut b, "name", Value::from("Sorcery")),
            }
            meet(&mut a, &mut b);
            assert!(kinds(&mut a).is_empty() && kinds(&mut b).is_empty(), "{rule}, way {way}");
            assert_eq!(
                b.value::<i64>("SELECT count(*) FROM tag"),
                if way == 3 { 1 } else { 2 },
                "{rule}, way {way}"
            );
            assert_eq!(
                a.value::<i64>("SELECT count(*) FROM mention JOIN tag ON tag.id = mention.tag"),
                1
            );
        }
    }
}

#[test]
fn of_two_rows_marked_as_the_one_the_other_can_be_unmarked_by_every_way() {
    for way in 0..6 {
        let (lines, way) = (if way < 3 { " " } else { "\n" }, way % 3);
        let (mut a, mut b) = ruled(&format!(
            "CREATE UNIQUE INDEX one_default ON tag (owner){lines}WHERE is_default = 1"
        ));
        a.write(
            "INSERT INTO tag (name, is_default, sync_uuid) VALUES ('day', 0, 'day'), ('night', \
            1, 'night'), ('ink', 0, 'ink')",
        );
        meet(&mut a, &mut b);
        let choose = |replica: &Replica, name: &str| {
            replica.write(&format!(
                "BEGIN; UPDATE tag SET is_default = 0 WHERE is_default = 1; \
                UPDATE tag SET is_default = 1 WHERE name = '{name}'; COMMIT"
            ))
        };
        choose(&a, "day");
        choose(&b, "ink");
        meet(&mut a, &mut b);
        assert_eq!(kinds(&mut a), ["unique"]);
        match way {
            0 => take(&mut a, Take::Mine),
            1 => take(&mut a, Take::Theirs),
            _ => value(&mut b, "is_default", Value::Integer(0)),
        }
        meet(&mut a, &mut b);
        assert!(kinds(&mut a).is_empty(), "way {way}");
        assert_eq!(b.value::<i64>("SELECT count(*) FROM tag"), 3, "way {way}");
        assert_eq!(
            a.value::<String>("SELECT name FROM tag WHERE is_default = 1"),
            if way == 1 { "ink" } else { "day" }
        );
        assert_eq!(
            b.value::<i64>("SELECT count(*) FROM tag WHERE owner = 7"),
            3,
            "nothing but the mark is written"
        );
    }
}

#[test]
fn three_devices_agree_on_who_stays_by_a_rule_and_a_freed_name_is_given_on() {
    let (mut a, mut b) = ruled(RULES[0]);
    let (mut c, _) = ruled(RULES[0]);
    c.stop();
    c.device = 3;
    c.start();
    a.write("INSERT INTO tag (name, sync_uuid) VALUES ('Magic', 'mm')");
    b.write("INSERT INTO tag (name, sync_uuid) VALUES ('magic', 'zz')");
    c.write("INSERT INTO tag (name, sync_uuid) VALUES ('MAGIC', 'aa')");
    meet(&mut a, &mut b);
    meet(&mut c, &mut b);
    meet(&mut a, &mut c);
    meet(&mut a, &mut b);
    for replica in [&mut a, &mut b, &mut c] {
        assert_eq!(replica.value::<String>("SELECT group_concat(name) FROM tag"), "MAGIC");
        assert_eq!(kinds(replica), ["unique", "unique"]);
    }
    a.write("UPDATE tag SET name = 'Sorcery'");
    meet(&mut a, &mut c);
    meet(&mut a, &mut b);
    assert_eq!(
        c.value::<String>(
            "SELECT group_concat(name) FROM (SELECT name FROM tag ORDER BY sync_uuid)"
        ),
        "Sorcery,Magic"
    );
    assert_eq!(kinds(&mut b), ["unique"]);
}

#[test]
fn a_table_that_settles_conflicts_by_itself_loses_no_row_to_what_we_write() {
    for rule in [
        "UNIQUE (name COLLATE NOCASE) ON CONFLICT REPLACE",
        "UNIQUE (name COLLATE NOCASE) ON CONFLICT IGNORE",
        "UNIQUE (folded)\n  ON CONFLICT REPLACE",
    ] {
        let schema = format!(
            "CREATE TABLE tag (id INTEGER PRIMARY KEY, name TEXT NOT NULL, note TEXT, folded TEXT \
                GENERATED ALWAYS AS (lower(name)) VIRTUAL, {rule})"
        );
        let (mut a, mut b) = two_with(&schema, "");
        a.write(
            "INSERT INTO tag (name, note, sync_uuid) VALUES ('Magic', 'by a', 'aa-of-a'), \
            ('one', 'first', 'one'), ('two', 'second', 'two')",
        );
        b.write("INSERT INTO tag (name, note, sync_uuid) VALUES ('magic', 'by b', 'zz-of-b')");
        meet(&mut a, &mut b);
        assert_eq!(kinds(&mut a), ["unique"], "{rule}");
        a.write("UPDATE tag SET name = 'Same' WHERE sync_uuid = 'one'");
        b.write("UPDATE tag SET name = 'same' WHERE sync_uuid = 'two'");
        meet(&mut a, &mut b);
        assert_eq!(kinds(&mut b), ["unique", "unique"], "{rule}");
        for _ in 0..2 {
            take(&mut a, Take::Rename);
        }
        meet(&mut a, &mut b);
        assert_eq!(
            b.value::<String>(
                "SELECT group_concat(note, ' ') FROM (SELECT note FROM tag ORDER BY note)"
            ),
            "by a by b first second",
            "{rule}"
        );
    }
}
