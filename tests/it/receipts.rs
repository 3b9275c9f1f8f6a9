//! Undo and history by what happened here: when a change came and who brought it, whatever its
//! author claims.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use storysync_crdt::{
    Actor, DeviceKey, EditPurpose, FirstContactIs, Since, Stamp, Value, Whose, key,
};
use storysync_engine::DeviceUndo;
use storysync_engine::store::{log, rows};
use storysync_engine::wire::RowChange;

use crate::handmade::Handmade;
use crate::nodes::*;
use crate::support::{Replica, now};

const SCHEMA: &str = "CREATE TABLE page (id INTEGER PRIMARY KEY, title TEXT, body TEXT);";
const HOUR_MS: i64 = 60 * 60 * 1000;
const DAY_MS: i64 = 24 * HOUR_MS;

fn in_days(days: i64) -> Stamp {
    Stamp::from_unix_ms(now().unix_ms() + days * DAY_MS)
}

fn key_of(replica: &Replica) -> DeviceKey {
    [replica.device; 32]
}

/// Two devices that met a while ago; each of them wrote three pages, with titles.
fn met() -> (Replica, Replica) {
    let (mut desk, mut phone) = (Replica::of_schema(SCHEMA, 1), Replica::of_schema(SCHEMA, 2));
    desk.write("INSERT INTO page (title) VALUES ('one'), ('two'), ('three')");
    phone.write("INSERT INTO page (title) VALUES ('four'), ('five'), ('six')");
    desk.sync(&mut phone);
    desk.sync(&mut phone);
    (desk, phone)
}

/// An edit of every page, made by hand: under this name, dated so.
fn forged(replica: &Replica, author: u8, claim: &str) -> Vec<RowChange> {
    let connection = replica.app();
    let puts = BTreeMap::from([
        ("body".to_owned(), Value::from("vandalised")),
        (key::UPDATED_AT.to_owned(), Value::from(claim)),
    ]);
    let author = Actor::of_device(&[author; 32], [9; 8]);
    let ids = log::rows_with_changes(&connection).unwrap().into_iter();
    ids.map(|id| {
        let document = log::document(&connection, id).unwrap();
        let change = document.edit(puts.clone(), EditPurpose::Edit, None, &author, 0).unwrap();
        let entity = rows::entity(&connection, &rows::get(&connection, id).unwrap()).unwrap();
        RowChange {
            entity_type: entity.table.as_str().to_owned(),
            sync_uuid: entity.uuid.as_str().to_owned(),
            automerge: vec![STANDARD.encode(change.bytes())],
            ..RowChange::default()
        }
    })
    .collect()
}

fn plan(desk: &mut Replica, which: &Since) -> DeviceUndo {
    desk.engine().plan_undo(which, now()).unwrap()
}

fn vandalised(desk: &Replica) -> i64 {
    desk.value("SELECT count(*) FROM page WHERE body = 'vandalised'")
}

#[test]
fn no_date_an_edit_claims_escapes_the_time_it_came() {
    for claim in ["1970-01-01 00:00:01", "2100-01-01 00:00:00", "last Tuesday", ""] {
        let (mut desk, phone) = met();
        let edits = forged(&desk, 2, claim);
        let taken = desk.engine().receive(&edits, &phone.id(), in_days(10)).unwrap();
        assert_eq!((taken.rows.len(), vandalised(&desk)), (6, 6), "{claim:?}");
        let later = Since::of(key_of(&phone), in_days(11));
        assert_eq!(plan(&mut desk, &later).undone, [], "{claim:?} came before that");
        let which = Since::of(key_of(&phone), in_days(9));
        let planned = plan(&mut desk, &which);
        assert_eq!((planned.undone.len(), planned.first_contact_left), (6, 0), "{claim:?}");
        assert_eq!(vandalised(&desk), 6, "only shown");
        let told = &planned.undone[0].changes[0];
        assert_eq!(told.brought_by, Some(phone.id()));
        assert!(told.received_at.as_ref().unwrap() > &in_days(9).to_rfc3339());
        assert_eq!(told.at.is_some(), Stamp::parse(claim).is_some());
        assert_eq!(told.claimed.is_some(), Stamp::parse(claim).is_none());
        desk.engine().undo_device(&which, now()).unwrap();
        assert_eq!(vandalised(&desk), 0, "{claim:?}");
    }
}

#[test]
fn what_a_device_brought_under_other_names_is_taken_back_with_it() {
    let (mut desk, phone) = met();
    let edits = forged(&desk, 77, "2026-01-01 00:00:00");
    desk.engine().receive(&edits, &phone.id(), in_days(10)).unwrap();
    let which = Since::of(key_of(&phone), in_days(9));
    let only_written = Since { whose: Whose::Written, ..which };
    assert_eq!(plan(&mut desk, &only_written).undone, []);
    let planned = plan(&mut desk, &which);
    assert_eq!(planned.undone.len(), 6);
    let told = &planned.undone[0].changes[0];
    assert_ne!(told.device, told.brought_by);
    desk.engine().undo_device(&which, now()).unwrap();
    assert_eq!(vandalised(&desk), 0);
}

#[test]
fn a_week_offline_that_arrives_today_counts_as_today_and_both_times_are_told() {
    let (mut desk, mut phone) = met();
    phone.write("UPDATE page SET body = 'written on the train' WHERE title = 'one'");
    phone.capture();
    phone.exchange_at(&mut desk, in_days(7), in_days(7));
    let which = Since::of(key_of(&phone), in_days(6));
    let planned = plan(&mut desk, &which);
    assert_eq!(planned.undone.len(), 1);
    let uuid: String = desk.value("SELECT sync_uuid FROM page WHERE title = 'one'");
    let history = desk.engine().history("page", &uuid, now()).unwrap();
    let written = &history.last().unwrap().written;
    assert_eq!(planned.undone[0].changes[0], *written);
    let instant = |text: &Option<String>| Stamp::parse(text.as_ref().unwrap()).unwrap().unix_ms();
    let apart = instant(&written.received_at) - instant(&written.at);
    assert!((7 * DAY_MS - HOUR_MS..7 * DAY_MS + HOUR_MS).contains(&apart), "{apart}");
    assert_eq!(history[0].written.received_at, None, "the desk wrote it itself");
}

#[test]
fn a_phone_whose_clock_is_a_year_off_goes_by_the_desks() {
    for years in [-1, 1] {
        let (mut desk, mut phone) = (Replica::of_schema(SCHEMA, 1), Replica::of_schema(SCHEMA, 2));
        phone.write("INSERT INTO page (title) VALUES ('one'), ('two'), ('three')");
        // The desk's clock is the other way off: triggers take the system's.
        let here = |days: i64| in_days(days - 365 * years);
        phone.exchange_at(&mut desk, now(), here(0));
        phone.write("UPDATE page SET body = 'before' WHERE title = 'one'");
        phone.exchange_at(&mut desk, now(), here(1));
        phone.write("UPDATE page SET body = 'after' WHERE title = 'two'");
        phone.exchange_at(&mut desk, now(), here(3));
        let planned = plan(&mut desk, &Since::of(key_of(&phone), here(2)));
        let names: Vec<_> =
            planned.undone.iter().map(|undo| undo.row_name.as_deref().unwrap()).collect();
        assert_eq!(names, ["two"], "{years}");
    }
}

#[test]
fn what_a_device_had_when_the_two_first_met_goes_by_its_dates() {
    for desk_calls in [true, false] {
        let (mut desk, mut phone) = (Replica::of_schema(SCHEMA, 1), Replica::of_schema(SCHEMA, 2));
        desk.write("INSERT INTO page (title) VALUES ('one')");
        desk.capture();
        phone.write("INSERT INTO page (title) VALUES ('years'), ('of'), ('work')");
        phone.capture();
        let mut exchange = |days: i64| {
            if desk_calls {
                desk.exchange_at(&mut phone, in_days(days), in_days(days));
            } else {
                phone.exchange_at(&mut desk, in_days(days), in_days(days));
            }
            desk.value::<i64>("SELECT count(*) FROM page")
        };
        assert_eq!(exchange(300), 4);
        let which = Since::of(key_of(&phone), in_days(299));
        let planned = plan(&mut desk, &which);
        assert_eq!((planned.undone.len(), planned.first_contact_left), (0, 3), "{desk_calls}");
        let all = Since { first_contact: FirstContactIs::AsReceived, ..which };
        assert_eq!(plan(&mut desk, &all).undone.len(), 3);
        // From then on it goes by when things come, on the same day, too.
        phone.write("UPDATE page SET body = 'later' WHERE title IN ('one', 'work')");
        if desk_calls {
            desk.exchange_at(&mut phone, in_days(300), in_days(300));
        } else {
            phone.exchange_at(&mut desk, in_days(300), in_days(300));
        }
        let planned = plan(&mut desk, &which);
        assert_eq!((planned.undone.len(), planned.first_contact_left), (2, 3), "{desk_calls}");
    }
}

#[test]
fn a_device_that_never_asks_does_not_stay_at_its_first_contact() {
    let mut desk = Replica::of_schema(SCHEMA, 1);
    desk.write("INSERT INTO page (title) VALUES ('one'), ('two')");
    desk.capture();
    let phone = Replica::of_schema(SCHEMA, 2);
    let id = phone.id();
    let first = forged(&desk, 2, "1970-01-01 00:00:01");
    desk.engine().receive(&first, &id, in_days(1)).unwrap();
    let which = Since::of(key_of(&phone), in_days(0));
    let planned = plan(&mut desk, &which);
    assert_eq!((planned.undone.len(), planned.first_contact_left), (0, 2), "told, not taken");
    let second = forged(&desk, 3, "1970-01-01 00:00:01");
    desk.engine().receive(&second, &id, in_days(3)).unwrap();
    let planned = plan(&mut desk, &which);
    assert_eq!((planned.undone.len(), planned.first_contact_left), (2, 2));
}

#[test]
fn what_comes_back_to_a_restored_file_goes_by_its_dates() {
    for desk_calls in [true, false] {
        let (mut desk, mut phone) = met();
        desk.stop();
        let backup = std::fs::read(&desk.database).unwrap();
        desk.start();
        phone.write("UPDATE page SET body = 'while the backup lay there' WHERE title = 'one'");
        phone.exchange_at(&mut desk, in_days(1), in_days(1));
        desk.stop();
        std::fs::write(&desk.database, backup).unwrap();
        desk.start();
        for _ in 0..2 {
            if desk_calls {
                desk.exchange_at(&mut phone, in_days(20), in_days(20));
            } else {
                phone.exchange_at(&mut desk, in_days(20), in_days(20));
            }
        }
        let body = "SELECT count(*) FROM page WHERE body = 'while the backup lay there'";
        assert_eq!(desk.value::<i64>(body), 1, "it came back");
        let which = Since::of(key_of(&phone), in_days(19));
        let planned = plan(&mut desk, &which);
        assert_eq!((planned.undone.len(), planned.first_contact_left), (0, 1), "{desk_calls}");
    }
}

#[test]
fn what_this_desk_wrote_goes_by_when_the_app_wrote_it() {
    let (mut desk, _phone) = met();
    desk.write("UPDATE page SET body = 'no node ran' WHERE title = 'one'");
    desk.engine().capture(in_days(7)).unwrap();
    let since = |days| Since::of([1; 32], in_days(days));
    assert_eq!(plan(&mut desk, &since(6)).undone, [], "captured then, written a week before");
    assert_eq!(plan(&mut desk, &since(-1)).undone.len(), 3);
}

#[test]
fn the_command_line_tells_both_times_and_takes_back_what_was_backdated() {
    let (desktop, phone) = paired();
    let connection = rusqlite::Connection::open(&phone.database).unwrap();
    let id = log::rows_with_changes(&connection)
        .unwrap()
        .into_iter()
        .find(|id| {
            let row = rows::get(&connection, *id).unwrap();
            rows::entity(&connection, &row).unwrap().table.as_str() == "actor"
        })
        .unwrap();
    let uuid = rows::get(&connection, id).unwrap().uuid;
    let puts = BTreeMap::from([
        ("notes".to_owned(), Value::from("vandalised")),
        (key::UPDATED_AT.to_owned(), Value::from("1970-01-02 00:00:00")),
    ]);
    let author = Actor::of_device(&[77; 32], [1; 8]);
    let document = log::document(&connection, id).unwrap();
    let change = document.edit(puts, EditPurpose::Edit, None, &author, 0).unwrap();
    let row = RowChange {
        entity_type: "actor".to_owned(),
        sync_uuid: uuid.as_str().to_owned(),
        automerge: vec![STANDARD.encode(change.bytes())],
        ..RowChange::default()
    };
    let since = Stamp::from_unix_ms(now().unix_ms() - 1_000).to_rfc3339();
    let client = Handmade::of(&phone, &desktop);
    let body = json!({ "changes": [row] }).to_string();
    let request = client.request("POST", "/api/sync/push", body.as_bytes(), 1, client.prekey());
    assert_eq!(client.ask(request).0, 200);
    let said = |arguments: &[&str]| String::from_utf8(desktop.run(arguments).stdout).unwrap();
    let history = said(&["history", "actor", uuid.as_str()]);
    let line = history.lines().find(|line| line.starts_with("1970-01-02T00:00:00")).unwrap();
    assert!(line.contains("; came 20") && line.contains(", brought by "), "{line}");
    let undo = ["undo", "--device", &phone.id(), "--since", &since];
    let planned = said(&undo);
    assert!(planned.contains("says 1970-01-02T00:00:00"), "{planned}");
    assert!(planned.contains("1 rows would be taken back; add --yes to do it"), "{planned}");
    let count = "SELECT count(*) FROM actor WHERE notes = 'vandalised'";
    assert_eq!(desktop.value::<i64>(count), 1, "the plan comes first");
    desktop.run_json(&[&undo[..], &["--yes"]].concat());
    assert_eq!(desktop.value::<i64>(count), 0);
}
