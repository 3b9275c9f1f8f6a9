//! Values a table refuses, and values too large to travel: what is shown instead, and that nothing
//! typed is lost.

use super::{SCHEMA, conflicts, kinds, meet, two, two_with, value};
use crate::fixtures::{self, Dialect};
use crate::support::{Replica, now};
use storysync_crdt::Value;
use storysync_engine::{Choice, Take};

#[test]
fn a_value_this_table_refuses_shows_an_earlier_one_and_is_told_here_only() {
    let lenient = SCHEMA.replace("CHECK (level BETWEEN 0 AND 9)", "");
    let (mut a, mut b) = two_with(SCHEMA, &lenient);
    a.write("INSERT INTO dial (level, label, sync_uuid) VALUES (3, 'volume', 'dial')");
    a.sync(&mut b);
    b.write("UPDATE dial SET level = 11, label = 'loud'");
    a.sync(&mut b);
    assert_eq!(
        (a.value::<i64>("SELECT level FROM dial"), a.value::<String>("SELECT label FROM dial")),
        (3, "loud".to_owned())
    );
    assert_eq!(b.value::<i64>("SELECT level FROM dial"), 11, "what was typed stays");
    let found = conflicts(&mut a);
    assert_eq!(
        (found.len(), found[0].kind.as_str(), found[0].fields[0].name.as_str()),
        (1, "schema", "level")
    );
    assert_eq!(
        (&found[0].fields[0].values[0].value, &found[0].fields[0].shown),
        (&11.into(), &3.into())
    );
    assert!(kinds(&mut b).is_empty());
    assert_eq!(a.sync(&mut b), (0, 0), "showing another value is no edit");
    value(&mut a, "level", Value::Integer(9));
    a.sync(&mut b);
    assert!(kinds(&mut a).is_empty());
    assert_eq!(b.value::<i64>("SELECT level FROM dial"), 9);
}

#[test]
fn a_new_row_with_a_refused_value_shows_the_columns_default() {
    let (mut a, mut b) = two_with(SCHEMA, &SCHEMA.replace("CHECK (level BETWEEN 0 AND 9)", ""));
    b.write("INSERT INTO dial (level, label) VALUES (99, 'new')");
    a.sync(&mut b);
    assert_eq!(
        (a.value::<i64>("SELECT level FROM dial"), a.value::<String>("SELECT label FROM dial")),
        (5, "new".to_owned())
    );
    assert_eq!(kinds(&mut a), ["schema"]);
}

#[test]
fn a_row_that_a_trigger_ignores_is_shown_otherwise_and_deleted_nowhere() {
    let ignoring = format!(
        "{SCHEMA}; CREATE TRIGGER no_whispers BEFORE INSERT ON dial WHEN NEW.label = 'whisper' \
            BEGIN SELECT RAISE(IGNORE); END;"
    );
    let (mut a, mut b) = two_with(&ignoring, SCHEMA);
    b.write("INSERT INTO dial (level, label) VALUES (1, 'whisper'), (2, 'talk')");
    a.sync(&mut b);
    a.sync(&mut b);
    assert_eq!(
        a.value::<i64>("SELECT count(*) FROM dial WHERE label IS NULL"),
        1,
        "what the trigger lets through"
    );
    assert_eq!(kinds(&mut a), ["schema"]);
    assert_eq!(b.value::<i64>("SELECT count(*) FROM dial WHERE label = 'whisper'"), 1);
    b.write("UPDATE dial SET label = 'shout' WHERE label = 'whisper'");
    a.sync(&mut b);
    assert_eq!(a.value::<i64>("SELECT count(*) FROM dial WHERE label = 'shout'"), 1);
    assert!(kinds(&mut a).is_empty());
}

#[test]
fn a_number_typed_with_blanks_stays_as_typed_where_it_is_text() {
    let (mut a, mut b) = two_with(
        "CREATE TABLE dial (id INTEGER PRIMARY KEY, reading INTEGER, label TEXT)",
        "CREATE TABLE dial (id INTEGER PRIMARY KEY, reading TEXT, label TEXT)",
    );
    b.write("INSERT INTO dial (reading, label) VALUES (' 5 ', 'old')");
    a.sync(&mut b);
    a.write("UPDATE dial SET label = 'new'");
    a.sync(&mut b);
    assert_eq!(b.value::<String>("SELECT reading || label FROM dial"), " 5 new");
}

#[test]
fn a_null_where_this_table_wants_a_value_shows_the_default() {
    let (mut a, mut b) = two_with(
        "CREATE TABLE dial (id INTEGER PRIMARY KEY, level INTEGER NOT NULL DEFAULT 4)",
        "CREATE TABLE dial (id INTEGER PRIMARY KEY, level INTEGER)",
    );
    b.write("INSERT INTO dial (level) VALUES (7)");
    a.sync(&mut b);
    b.write("UPDATE dial SET level = NULL");
    a.sync(&mut b);
    assert_eq!(a.value::<i64>("SELECT level FROM dial"), 7, "the newest value this table takes");
    assert_eq!(kinds(&mut a), ["schema"]);
    b.write("UPDATE dial SET level = 8");
    a.sync(&mut b);
    assert!(kinds(&mut a).is_empty());
    assert_eq!(a.value::<i64>("SELECT level FROM dial"), 8);
}

#[test]
fn a_bad_enum_never_reaches_the_app() {
    let (_folder, file) = fixtures::file(Dialect::Newer);
    let mut desktop = Replica::of_copy(&file, 1);
    let mut phone = Replica::empty(2);
    phone.sync(&mut desktop);
    phone.write(
        "UPDATE litography_node SET node_type = 'bogus' WHERE sync_uuid = (SELECT \
        sync_uuid FROM litography_node ORDER BY sync_uuid LIMIT 1)",
    );
    phone.write(
        "INSERT INTO litography_node (name, node_type, storyline_id, x_position, \
        y_position, sync_uuid, version) SELECT 'N', 'nonsense', storyline_id, 0, 0, 'n', 1 FROM \
        litography_node LIMIT 1",
    );
    desktop.sync(&mut phone);
    assert_eq!(
        desktop.value::<i64>(
            "SELECT count(*) FROM litography_node WHERE node_type IN ('bogus', 'nonsense')"
        ),
        0
    );
    assert_eq!(
        desktop.value::<String>("SELECT node_type FROM litography_node WHERE name = 'N'"),
        "other"
    );
    assert_eq!(kinds(&mut desktop), ["schema", "schema"]);
    assert_eq!(
        phone.value::<i64>(
            "SELECT count(*) FROM litography_node WHERE node_type IN ('bogus', 'nonsense')"
        ),
        2,
        "nothing typed is lost"
    );
    assert_eq!(desktop.sync(&mut phone), (0, 0));
}

#[test]
fn a_value_too_large_to_travel_is_told_where_it_was_typed() {
    let (mut a, mut b) = two();
    a.write("INSERT INTO dial (label, sync_uuid) VALUES ('short', 'dial')");
    a.sync(&mut b);
    a.write("UPDATE dial SET label = printf('%.3000000c', 'x')");
    a.sync(&mut b);
    assert_eq!(kinds(&mut a), ["schema"]);
    assert_eq!(
        (
            a.value::<i64>("SELECT length(label) FROM dial"),
            b.value::<String>("SELECT label FROM dial")
        ),
        (3_000_000, "short".to_owned())
    );
    a.write("UPDATE dial SET label = 'shorter'");
    a.sync(&mut b);
    assert!(kinds(&mut a).is_empty());
    assert_eq!(b.value::<String>("SELECT label FROM dial"), "shorter");
}

#[test]
fn a_value_too_large_to_travel_is_replaced_by_nothing_unseen() {
    for way in 0..4 {
        let (mut a, mut b) = two();
        a.write("INSERT INTO dial (label, sync_uuid) VALUES ('short', 'dial')");
        a.sync(&mut b);
        a.write("UPDATE dial SET label = printf('%.3000000c', 'x')");
        a.sync(&mut b);
        let length = |replica: &Replica| {
            replica.value::<i64>("SELECT coalesce(max(length(label)), 0) FROM dial")
        };
        if way == 0 {
            b.write("UPDATE dial SET label = 'from b'");
        } else if way == 1 {
            b.write("DELETE FROM dial");
        }
        a.sync(&mut b);
        b.sync(&mut a);
        assert_eq!(
            (length(&a), kinds(&mut a)),
            (3_000_000, vec!["schema".to_owned()]),
            "still there, still told"
        );
        let id = conflicts(&mut a)[0].id.clone();
        let shown = conflicts(&mut a)[0].fields[0].shown.clone();
        assert!(shown.as_str().unwrap().contains("too large"), "{shown}");
        let mut decide = |take: Take| {
            a.engine().resolve(&id, &Choice { take: Some(take), ..Choice::default() }, None, now())
        };
        if way == 2 {
            assert!(decide(Take::Mine).unwrap_err().to_string().contains("shorten it"));
            assert!(decide(Take::Keep).is_err());
            assert_eq!(length(&a), 3_000_000);
            continue;
        }
        decide(Take::Theirs).unwrap();
        meet(&mut a, &mut b);
        assert_eq!(length(&a), [6, 0, 0, 5][way]);
        assert!(kinds(&mut a).is_empty());
    }
}

#[test]
fn a_value_too_large_to_travel_survives_a_contest_for_its_rows_name() {
    for smaller in ["a", "b"] {
        let (mut a, mut b) = two();
        let other = if smaller == "a" { "b" } else { "a" };
        a.write(&format!(
            "INSERT INTO place (name, note, sync_uuid) VALUES ('Harbour', \
            printf('%.3000000c', 'x'), '{smaller}-of-a')"
        ));
        b.write(&format!(
            "INSERT INTO place (name, note, sync_uuid) VALUES ('Harbour', 'b', '{other}-of-b')"
        ));
        a.sync(&mut b);
        b.sync(&mut a);
        let large = |replica: &Replica| {
            replica.value::<i64>("SELECT count(*) FROM place WHERE length(note) = 3000000")
        };
        assert_eq!(large(&a), 1, "{smaller}");
        b.write(
            "UPDATE place SET name = 'Port' WHERE note = 'b'; UPDATE place SET name = 'Quay' \
            WHERE note IS NULL",
        );
        a.sync(&mut b);
        assert_eq!((large(&a), a.value::<i64>("SELECT count(*) FROM place")), (1, 2), "{smaller}");
        assert_eq!(kinds(&mut a), ["schema"]);
    }
}

#[test]
fn whoever_has_a_value_too_large_to_travel_may_delete_its_row() {
    let (mut a, mut b) = two();
    a.write("INSERT INTO dial (label, sync_uuid) VALUES (printf('%.3000000c', 'x'), 'dial')");
    a.sync(&mut b);
    a.write("UPDATE dial SET deleted_at = '2026-01-01 00:00:00'");
    a.sync(&mut b);
    assert_eq!(
        (
            a.value::<i64>("SELECT count(deleted_at) FROM dial"),
            b.value::<i64>("SELECT count(deleted_at) FROM dial")
        ),
        (1, 1)
    );
}

#[test]
fn a_row_an_index_on_an_expression_keeps_out_waits_and_takes_nothing_away() {
    let (mut a, mut b) = two_with(
        "CREATE TABLE tag (id INTEGER PRIMARY KEY, name TEXT); CREATE UNIQUE INDEX tag_name ON tag \
            (lower(name))",
        "",
    );
    a.write("INSERT INTO tag (name, sync_uuid) VALUES ('Red', 'zz')");
    b.write("INSERT INTO tag (name, sync_uuid) VALUES ('red', 'aa')");
    a.sync(&mut b);
    for replica in [&mut a, &mut b] {
        assert_eq!(replica.value::<i64>("SELECT count(*) FROM tag WHERE name IS NOT NULL"), 1);
        assert_eq!(
            (kinds(replica), replica.engine().status().unwrap().parked),
            (vec!["unique".to_owned()], 1)
        );
    }
    b.write("UPDATE tag SET name = 'crimson'");
    meet(&mut a, &mut b);
    assert_eq!(a.value::<i64>("SELECT count(*) FROM tag"), 2);
}

#[test]
fn a_strict_table_is_taken_in() {
    let (mut a, mut b) = two_with(
        "CREATE TABLE gauge (id INTEGER PRIMARY KEY, level INTEGER, label TEXT) STRICT",
        "",
    );
    a.write("INSERT INTO gauge (level, label) VALUES (1, 'one')");
    meet(&mut a, &mut b);
    assert_eq!(b.value::<String>("SELECT label FROM gauge"), "one");
}
