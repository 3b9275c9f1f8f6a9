//! A writer at her desk: what she typed last stays, and what came from elsewhere does not vanish
//! untold.

use std::collections::BTreeMap;

use rusqlite::types::Value as Sql;

use crate::fixtures::{self, Dialect};
use crate::support::*;

/// The app's character page: one object, read when the page is opened, merged at every autosave as
/// SQLAlchemy does: columns that differ from the row are written, the version that was read among
/// them.
struct Page {
    id: i64,
    version: i64,
}

impl Page {
    fn open(desk: &Replica, id: i64) -> Self {
        Self { id, version: desk.value(&format!("SELECT version FROM actor WHERE id = {id}")) }
    }

    fn autosave(&self, desk: &Replica, fields: &[(&str, &str)]) {
        let mut held: BTreeMap<&str, Sql> =
            fields.iter().map(|(name, value)| (*name, Sql::from((*value).to_owned()))).collect();
        held.insert("version", Sql::from(self.version));
        save(desk, "actor", self.id, held);
    }
}

/// A side panel: it reads the row anew, sets every field it holds, and writes no version.
fn save_panel(desk: &Replica, table: &str, id: i64, fields: &[(&str, Sql)]) {
    save(desk, table, id, fields.iter().map(|(name, value)| (*name, value.clone())).collect());
}

fn save(desk: &Replica, table: &str, id: i64, held: BTreeMap<&str, Sql>) {
    let app = desk.app();
    let differs = |name: &str, value: &Sql| {
        let now: Sql = app
            .query_row(&format!("SELECT {name} FROM {table} WHERE id = {id}"), [], |row| row.get(0))
            .unwrap();
        now != *value
    };
    let changed: Vec<(&str, Sql)> =
        held.into_iter().filter(|(name, value)| differs(name, value)).collect();
    if changed.is_empty() {
        return;
    }
    let sets: Vec<String> = changed
        .iter()
        .enumerate()
        .map(|(place, (name, _))| format!("{name} = ?{}", place + 1))
        .collect();
    let sql = format!("UPDATE {table} SET {} WHERE id = {id}", sets.join(", "));
    app.execute(&sql, rusqlite::params_from_iter(changed.into_iter().map(|(_, value)| value)))
        .unwrap();
}

/// Two desks with copies of one story: rows have the same ids on both.
fn desks() -> (Replica, Replica) {
    let (_folder, file) = fixtures::file(Dialect::Newer);
    let mut one = Replica::of_copy(&file, 1);
    let mut other = Replica::of_copy(&file, 2);
    one.write(
        "UPDATE actor SET title = 'Archmage', notes = 'He lives in the tower.', ideal = \
        NULL, bond = NULL WHERE id = 1",
    );
    meet(&mut one, &mut other);
    (one, other)
}

fn meet(one: &mut Replica, other: &mut Replica) {
    other.sync(one);
    assert_same_content(&one.database, &other.database, true);
    assert_eq!(other.sync(one), (0, 0));
}

fn of_actor(desk: &Replica, column: &str) -> String {
    desk.value(&format!("SELECT coalesce({column}, 'NULL') FROM actor WHERE id = 1"))
}

fn conflicts(desk: &mut Replica) -> Vec<(String, Vec<String>)> {
    let open = desk.engine().conflicts(now()).unwrap();
    open.into_iter()
        .flat_map(|conflict| {
            conflict.fields.into_iter().map(|field| {
                (field.name, field.values.iter().map(|value| value.value.to_string()).collect())
            })
        })
        .collect()
}

#[test]
fn a_page_that_is_merged_again_and_again_never_conflicts_with_itself() {
    for serving in [true, false] {
        let (mut one, mut other) = desks();
        let page = Page::open(&one, 1);
        for title in ["Q", "Queen", "King", "King of the Isles"] {
            page.autosave(&one, &[("title", title), ("notes", "He lives in the tower.")]);
            if serving {
                one.capture();
            }
        }
        for notes in ["He waits", "He waits by the sea."] {
            page.autosave(&one, &[("title", "King of the Isles"), ("notes", notes)]);
            if serving {
                one.capture();
            }
        }
        meet(&mut one, &mut other);
        assert_eq!(
            (of_actor(&one, "title"), of_actor(&one, "notes")),
            ("King of the Isles".to_owned(), "He waits by the sea.".to_owned())
        );
        assert_eq!(conflicts(&mut one), []);
    }
}

#[test]
fn what_is_typed_and_taken_back_in_one_page_is_gone() {
    for serving in [true, false] {
        let (mut one, mut other) = desks();
        let page = Page::open(&one, 1);
        page.autosave(
            &one,
            &[("title", "Queen"), ("notes", "He lives in the tower. SHE KILLED THE KING.")],
        );
        if serving {
            one.capture();
            meet(&mut one, &mut other);
        }
        page.autosave(&one, &[("title", "Archmage"), ("notes", "He lives in the tower.")]);
        meet(&mut one, &mut other);
        assert_eq!(
            (of_actor(&other, "title"), of_actor(&other, "notes")),
            ("Archmage".to_owned(), "He lives in the tower.".to_owned())
        );
        assert_eq!(conflicts(&mut one), []);
    }
}

#[test]
fn an_open_page_takes_nothing_back_that_arrived_and_goes_on_as_it_was() {
    let (mut one, mut other) = desks();
    let page = Page::open(&one, 1);
    page.autosave(&one, &[("title", "Queen"), ("notes", "He lives in the tower.")]);
    other.write("UPDATE actor SET notes = 'He lives in the tower. Nobody knows why.' WHERE id = 1");
    meet(&mut one, &mut other);
    page.autosave(&one, &[("title", "Queen of all"), ("notes", "He lives in the tower.")]);
    meet(&mut one, &mut other);
    assert_eq!(
        (of_actor(&one, "title"), of_actor(&one, "notes")),
        ("Queen of all".to_owned(), "He lives in the tower. Nobody knows why.".to_owned())
    );
    // What both typed in, apart from each other, both stand; and the page goes on from its own
    // text.
    page.autosave(&one, &[("title", "Queen of all"), ("notes", "Once, he lives in the tower.")]);
    meet(&mut one, &mut other);
    page.autosave(
        &one,
        &[("title", "Queen of all"), ("notes", "Once upon a time he lives in the tower.")],
    );
    meet(&mut one, &mut other);
    assert_eq!(
        of_actor(&other, "notes"),
        "Once upon a time he lives in the tower. Nobody knows why."
    );
    assert_eq!(conflicts(&mut one), []);
}

#[test]
fn a_panel_that_sets_every_field_it_holds_reverts_nothing_that_arrived() {
    let (mut one, mut other) = desks();
    let panel: Vec<(&str, Sql)> = ["name", "description"]
        .map(|column| {
            (
                column,
                one.value::<Sql>(&format!("SELECT {column} FROM litography_node WHERE id = 1")),
            )
        })
        .to_vec();
    other.write(
        "UPDATE litography_node SET name = 'The Drowned Bell', description = 'The whole \
        outline.' WHERE id = 1",
    );
    meet(&mut one, &mut other);
    let dragged: Vec<(&str, Sql)> =
        panel.iter().cloned().chain([("x_position", Sql::from(315.0))]).collect();
    save_panel(&one, "litography_node", 1, &dragged);
    meet(&mut one, &mut other);
    for desk in [&one, &other] {
        assert_eq!(
            desk.value::<String>(
                "SELECT name || ': ' || description FROM litography_node WHERE id = 1"
            ),
            "The Drowned Bell: The whole outline."
        );
        assert_eq!(desk.value::<f64>("SELECT x_position FROM litography_node WHERE id = 1"), 315.0);
    }
    assert_eq!(conflicts(&mut one), []);
}

#[test]
fn an_old_text_written_back_alone_stands_and_what_it_replaced_is_told() {
    let (mut one, mut other) = desks();
    other.write("UPDATE actor SET title = 'Empress' WHERE id = 1");
    meet(&mut one, &mut other);
    one.write("UPDATE actor SET title = 'Archmage' WHERE id = 1");
    meet(&mut one, &mut other);
    assert_eq!(of_actor(&one, "title"), "Archmage");
    assert_eq!(
        conflicts(&mut other),
        [("title".to_owned(), vec!["\"Empress\"".to_owned(), "\"Archmage\"".to_owned()])]
    );
}

#[test]
fn a_short_text_from_elsewhere_that_is_typed_over_without_a_sign_of_reading_is_a_notice() {
    let (mut one, mut other) = desks();
    other.write("UPDATE actor SET title = 'Empress' WHERE id = 1");
    meet(&mut one, &mut other);
    one.write("UPDATE actor SET title = 'Queen mother' WHERE id = 1");
    meet(&mut one, &mut other);
    assert_eq!(conflicts(&mut one), [], "one after the other is no conflict");
    let notices = one.engine().notices(now()).unwrap();
    let told: Vec<(&str, &serde_json::Value)> =
        notices.iter().map(|notice| (notice.field.as_str(), &notice.value)).collect();
    assert_eq!(told, [("title", &serde_json::json!("Empress"))]);
    let take = storysync_engine::Choice {
        take: Some(storysync_engine::Take::Theirs),
        ..Default::default()
    };
    one.engine().resolve(&notices[0].id, &take, None, now()).unwrap();
    meet(&mut one, &mut other);
    assert_eq!(of_actor(&other, "title"), "Empress", "one step puts it back");
    assert!(one.engine().notices(now()).unwrap().is_empty());
}

#[test]
fn prose_typed_over_prose_nobody_can_have_read_keeps_both() {
    let (mut one, mut other) = desks();
    other.write(
        "UPDATE actor SET notes = 'He lives in the tower. Nobody knows why he left the \
        court.' WHERE id = 1",
    );
    meet(&mut one, &mut other);
    save_panel(
        &one,
        "actor",
        1,
        &[("notes", Sql::from("Alone, he lives in the tower.".to_owned()))],
    );
    meet(&mut one, &mut other);
    assert_eq!(
        of_actor(&other, "notes"),
        "Alone, he lives in the tower. Nobody knows why he left the court."
    );
    assert_eq!(conflicts(&mut one), []);
}

#[test]
fn an_empty_text_a_form_writes_for_null_never_wins_over_a_typed_one() {
    let (mut one, mut other) = desks();
    one.write("UPDATE actor SET job = 'harbour master', ideal = '', bond = '' WHERE id = 1");
    other.write("UPDATE actor SET ideal = 'No ship is ever given up.' WHERE id = 1");
    meet(&mut one, &mut other);
    assert_eq!(
        (of_actor(&one, "ideal"), of_actor(&one, "job")),
        ("No ship is ever given up.".to_owned(), "harbour master".to_owned())
    );
    assert_eq!(of_actor(&other, "bond"), "", "as the app wrote it");
    assert_eq!(conflicts(&mut one), []);
    // The other way round, and from NULL to an empty text and back.
    other.write("UPDATE actor SET bond = NULL WHERE id = 1");
    one.write("UPDATE actor SET bond = 'The sea.' WHERE id = 1");
    meet(&mut one, &mut other);
    assert_eq!(of_actor(&other, "bond"), "The sea.");
    assert_eq!(conflicts(&mut one), []);
}

#[test]
fn a_text_that_was_emptied_is_an_edit() {
    let (mut one, mut other) = desks();
    one.write("UPDATE actor SET notes = '' WHERE id = 1");
    meet(&mut one, &mut other);
    assert_eq!(of_actor(&other, "notes"), "");
    other.write("UPDATE actor SET title = 'Empress' WHERE id = 1");
    one.write("UPDATE actor SET title = '' WHERE id = 1");
    meet(&mut one, &mut other);
    assert_eq!(conflicts(&mut one).len(), 1, "emptied here, written anew there");
}

#[test]
fn looking_at_a_row_does_not_bring_it_back() {
    let (mut one, mut other) = desks();
    one.write(
        "UPDATE actor SET ideal = coalesce(ideal, ''), bond = coalesce(bond, ''), updated_at \
        = CURRENT_TIMESTAMP",
    );
    other.write("DELETE FROM actor WHERE id = 1");
    meet(&mut one, &mut other);
    assert_eq!(one.value::<i64>("SELECT count(*) FROM actor WHERE id = 1"), 0);
    assert_eq!(conflicts(&mut one), []);
}

#[test]
fn a_stale_object_that_is_inserted_again_after_a_delete_brings_back_only_what_was_typed() {
    for typed in [false, true] {
        let (mut one, mut other) = desks();
        let uuid: String = one.value("SELECT sync_uuid FROM actor WHERE id = 1");
        let (version, setting): (i64, i64) = (
            one.value("SELECT version FROM actor WHERE id = 1"),
            one.value("SELECT setting_id FROM actor WHERE id = 1"),
        );
        let held = one.app();
        held.execute_batch("CREATE TEMP TABLE held AS SELECT * FROM actor WHERE id = 1").unwrap();
        other.write("DELETE FROM actor WHERE id = 1");
        meet(&mut one, &mut other);
        if typed {
            held.execute_batch("UPDATE held SET notes = 'He lives in the tower, and writes.'")
                .unwrap();
        }
        held.execute_batch("INSERT INTO actor SELECT * FROM held").unwrap();
        meet(&mut one, &mut other);
        assert_eq!(
            one.value::<i64>(&format!("SELECT count(*) FROM actor WHERE sync_uuid = '{uuid}'")),
            i64::from(typed),
            "read at {version} of {setting}"
        );
        assert_eq!(
            conflicts(&mut other).len(),
            usize::from(typed),
            "deleted there, typed into here"
        );
    }
}

#[test]
fn a_version_that_was_shown_never_falls_however_often_a_row_was_saved_before_anybody_looked() {
    for saves in [3_i64, 40, 1_000] {
        let (mut one, mut other) = desks();
        one.stop();
        for save in 0..saves {
            one.write(&format!("UPDATE actor SET notes = 'draft {save}' WHERE id = 1"));
        }
        let page = Page::open(&one, 1);
        one.start();
        meet(&mut one, &mut other);
        assert_eq!(one.value::<i64>("SELECT version FROM actor WHERE id = 1"), page.version);
        other.write("UPDATE actor SET title = 'TYPED ELSEWHERE' WHERE id = 1");
        meet(&mut one, &mut other);
        page.autosave(&one, &[("title", "Archmage"), ("notes", "the last draft")]);
        meet(&mut one, &mut other);
        assert_eq!(
            (of_actor(&one, "title"), of_actor(&one, "notes")),
            ("TYPED ELSEWHERE".to_owned(), "the last draft".to_owned())
        );
    }
}

#[test]
fn a_word_of_our_own_is_a_word_like_any_other_when_somebody_types_it() {
    let (mut one, mut other) = desks();
    one.write("UPDATE actor SET notes = 'nowhere' WHERE id = 1");
    other.write("DELETE FROM actor WHERE id = 1");
    other.sync(&mut one);
    let kinds: Vec<String> =
        one.engine().conflicts(now()).unwrap().into_iter().map(|conflict| conflict.kind).collect();
    assert_eq!(kinds, ["delete_edit"]);
    assert_eq!(of_actor(&one, "notes"), "nowhere");
}

#[test]
fn what_an_app_keeps_by_itself_never_conflicts_and_keeps_no_row_alive() {
    let schema =
        "CREATE TABLE note (id INTEGER PRIMARY KEY, title TEXT, body TEXT, modified TEXT, \
        lastOpened INTEGER, word_count INTEGER);
        INSERT INTO note VALUES (1, 'one', 'b', '2026-01-01', 1, 1), (2, 'two', 'b', '2026-01-01', \
        1, 1)";
    let mut one = Replica::of_schema(schema, 1);
    let mut other = Replica::of_schema(schema.split_once(';').unwrap().0, 2);
    other.sync(&mut one);
    one.write(
        "UPDATE note SET title = title || '!', modified = '2026-02-01', lastOpened = 2, \
        word_count = 2 WHERE id = 1; UPDATE note SET lastOpened = 9 WHERE id = 2",
    );
    other.write(
        "UPDATE note SET body = 'b b b', modified = '2026-02-02', lastOpened = 3, word_count = 3 \
            WHERE title = 'one'; DELETE FROM note WHERE title = 'two'",
    );
    other.sync(&mut one);
    assert_eq!(
        one.texts("SELECT title || ' ' || body || ' ' || modified FROM note"),
        ["one! b b b 2026-02-02"]
    );
    assert_same_content(&one.database, &other.database, true);
    assert_eq!(conflicts(&mut one), []);
}

#[test]
fn the_same_letters_otherwise_composed_are_no_edit() {
    let (mut one, mut other) = desks();
    one.write("UPDATE actor SET title = 'Café' WHERE id = 1");
    meet(&mut one, &mut other);
    one.write("UPDATE actor SET title = 'Cafe\u{301}' WHERE id = 1");
    other.write("UPDATE actor SET title = 'Café du Port' WHERE id = 1");
    meet(&mut one, &mut other);
    assert_eq!(of_actor(&one, "title"), "Café du Port");
    assert_eq!(conflicts(&mut one), []);
}

#[test]
fn text_that_is_not_utf8_arrives_as_text() {
    let mut one = Replica::of_schema(
        "CREATE TABLE note (id INTEGER PRIMARY KEY, t TEXT); INSERT INTO note VALUES (1, \
            CAST(x'61eda0bd62' AS TEXT))",
        1,
    );
    let mut other = Replica::of_schema("CREATE TABLE note (id INTEGER PRIMARY KEY, t TEXT)", 2);
    other.sync(&mut one);
    other.write("INSERT INTO note (t) VALUES (CAST(x'ff' AS TEXT)), (x'ff')");
    other.sync(&mut one);
    let stored = "SELECT typeof(t) || ' ' || hex(t) FROM note ORDER BY 1";
    assert_eq!(one.texts(stored), ["blob FF", "text 61EDA0BD62", "text FF"]);
    assert_eq!(other.texts(stored), one.texts(stored));
}

#[test]
fn a_text_over_the_limit_that_shrinks_again_merges_like_any_edit() {
    let (mut one, mut other) = desks();
    let large = "word ".repeat(450_000);
    one.write(&format!("UPDATE actor SET notes = '{large}' WHERE id = 1"));
    one.capture();
    other.write("UPDATE actor SET notes = 'He lives in the tower. Nobody knows why.' WHERE id = 1");
    other.sync(&mut one);
    one.write("UPDATE actor SET notes = 'Once, he lives in the tower.' WHERE id = 1");
    meet(&mut one, &mut other);
    assert_eq!(of_actor(&other, "notes"), "Once, he lives in the tower. Nobody knows why.");
}

#[test]
fn a_form_that_was_open_while_a_change_was_taken_back_saves_and_both_texts_are_told() {
    let (mut one, mut other) = desks();
    one.write("UPDATE actor SET title = 'Wizard' WHERE id = 1");
    one.capture();
    let page = Page::open(&one, 1);
    let uuid: String = one.value("SELECT sync_uuid FROM actor WHERE id = 1");
    one.engine().undo_change("actor", &uuid, None, now()).unwrap();
    assert_eq!(of_actor(&one, "title"), "Archmage");
    // The form never read what was taken back; whoever did that was this very device.
    page.autosave(&one, &[("title", "Sorcerer")]);
    one.capture();
    page.autosave(&one, &[("title", "Sorceress")]);
    meet(&mut one, &mut other);
    assert_eq!(of_actor(&one, "title"), "Sorceress");
    assert_eq!(of_actor(&other, "title"), "Sorceress");
    one.write("UPDATE actor SET title = 'Witch' WHERE id = 1");
    meet(&mut one, &mut other);
    assert_eq!(of_actor(&other, "title"), "Witch");
}
