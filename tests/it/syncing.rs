//! Two devices, no network: what one wrote, the other holds.

use crate::fixtures::{self, Dialect};
use crate::support::*;
use storysync_engine::exchange::{
    Asker, Exchange, ExchangeError, ExchangeOptions, Prepared, Reply,
};

#[test]
fn an_empty_second_device_holds_every_row_of_every_dialect_after_one_sync() {
    let (_folder, files) = fixtures::all_files();
    for file in files {
        println!("{}", file.display());
        let mut desktop = Replica::of_copy(&file, 1);
        let mut phone = Replica::empty(2);
        let rows = canonical(&desktop.database, false).len();
        assert_eq!(phone.sync(&mut desktop), (0, rows));
        assert_same_content(&desktop.database, &phone.database, true);
        assert_eq!(phone.sync(&mut desktop), (0, 0));
        assert_eq!(desktop.sync(&mut phone), (0, 0));
        let status = phone.engine().status().unwrap();
        assert_eq!((status.parked, status.conflicts), (0, 0));
    }
}

#[test]
fn two_copies_of_one_old_file_migrated_apart_meet_without_one_row_more() {
    for dialect in [Dialect::Presync, Dialect::OldScripts] {
        let (_folder, file) = fixtures::file(dialect);
        let mut one = Replica::of_copy(&file, 1);
        let mut two = Replica::of_copy(&file, 2);
        assert_eq!(one.sync(&mut two), (0, 0));
        assert_same_content(&one.database, &two.database, true);
        assert_eq!(canonical(&one.database, false).len(), fixtures::ROWS_IN_ALL);
    }
}

fn pair_of_small() -> (Replica, Replica) {
    let (_folder, file) = fixtures::file(Dialect::Newer);
    let mut desktop = Replica::of_copy(&file, 1);
    let mut phone = Replica::empty(2);
    phone.sync(&mut desktop);
    (desktop, phone)
}

/// The uuid of a row of the desktop.
fn uuid(replica: &Replica, table: &str, id: i64) -> String {
    replica.value(&format!("SELECT sync_uuid FROM {table} WHERE id = {id}"))
}

#[test]
fn offline_edits_on_both_sides_end_equal_whoever_calls() {
    for phone_calls in [true, false] {
        let (mut desktop, mut phone) = pair_of_small();
        desktop.stop();
        phone.stop();
        let (shared, gone, other) = (
            uuid(&desktop, "actor", 1),
            uuid(&desktop, "object_", 3),
            uuid(&desktop, "faction", 2),
        );
        desktop.write("UPDATE actor SET first_name = 'Desktop' WHERE id = 1");
        desktop.write(
            "INSERT INTO setting (name, user_id, sync_uuid, version) VALUES ('Parent', \
            1, 'parent-1', 1)",
        );
        desktop.write(
            "INSERT INTO actor (first_name, setting_id, sync_uuid, version) SELECT \
            'Child', id, 'child-1', 1 FROM setting WHERE name = 'Parent'",
        );
        phone.write(&format!("UPDATE actor SET last_name = 'Phone' WHERE sync_uuid = '{shared}'"));
        phone.write(&format!("DELETE FROM object_ WHERE sync_uuid = '{gone}'"));
        phone.write(&format!("UPDATE faction SET name = 'Renamed' WHERE sync_uuid = '{other}'"));
        desktop.start();
        phone.start();
        let counts = if phone_calls { phone.sync(&mut desktop) } else { desktop.sync(&mut phone) };
        assert_eq!(counts, (3, 3), "rows new to the other side: both have three");
        assert_same_content(&desktop.database, &phone.database, true);
        for replica in [&desktop, &phone] {
            let row = |column: &str| {
                replica.value::<String>(&format!(
                    "SELECT {column} FROM actor WHERE sync_uuid = '{shared}'"
                ))
            };
            assert_eq!(
                (row("first_name"), row("last_name")),
                ("Desktop".to_owned(), "Phone".to_owned())
            );
            assert_eq!(
                replica.value::<i64>(&format!(
                    "SELECT version FROM actor WHERE sync_uuid = '{shared}'"
                )),
                3,
                "one and two edits"
            );
            assert_eq!(
                replica.value::<i64>(&format!(
                    "SELECT count(*) FROM object_ WHERE sync_uuid = '{gone}'"
                )),
                0
            );
            let parent: String = replica.value(
                "SELECT s.sync_uuid FROM actor a JOIN setting s ON \
                s.id = a.setting_id WHERE a.sync_uuid = 'child-1'",
            );
            assert_eq!(parent, "parent-1");
        }
        assert_eq!(phone.sync(&mut desktop), (0, 0));
        assert_eq!(desktop.sync(&mut phone), (0, 0));
    }
}

#[test]
fn the_same_field_edited_on_both_sides_shows_one_winner_and_both_values() {
    let (mut desktop, mut phone) = pair_of_small();
    let shared = uuid(&desktop, "actor", 1);
    let before: String = desktop.value("SELECT title FROM actor WHERE id = 1");
    desktop.write("UPDATE actor SET title = 'Queen' WHERE id = 1");
    phone.write(&format!("UPDATE actor SET title = 'Empress' WHERE sync_uuid = '{shared}'"));
    phone.sync(&mut desktop);
    assert_same_content(&desktop.database, &phone.database, true);
    let (a, b) =
        (desktop.engine().conflicts(now()).unwrap(), phone.engine().conflicts(now()).unwrap());
    assert_eq!(serde_json::to_value(&a).unwrap(), serde_json::to_value(&b).unwrap());
    let field = &a[0].fields[0];
    assert_eq!((a.len(), a[0].kind.as_str(), field.name.as_str()), (1, "field", "title"));
    assert_eq!(field.base, before);
    let mut values: Vec<_> = field
        .values
        .iter()
        .map(|value| (value.value.as_str().unwrap().to_owned(), value.device.clone().unwrap()))
        .collect();
    values.sort();
    assert_eq!(values, [("Empress".to_owned(), phone.id()), ("Queen".to_owned(), desktop.id())]);
    let shown: String = desktop.value("SELECT title FROM actor WHERE id = 1");
    assert_eq!(field.shown, shown);
    assert!(field.values.iter().all(|value| value.at.as_ref().is_some_and(|at| at.ends_with('Z'))));

    // Somebody decides: the conflict is over everywhere, and stays over.
    phone.write(&format!("UPDATE actor SET title = 'Both' WHERE sync_uuid = '{shared}'"));
    phone.sync(&mut desktop);
    assert!(desktop.engine().conflicts(now()).unwrap().is_empty());
    assert!(phone.engine().conflicts(now()).unwrap().is_empty());
    assert_eq!(desktop.value::<String>("SELECT title FROM actor WHERE id = 1"), "Both");
}

#[test]
fn prose_edited_in_different_places_keeps_both_edits() {
    let (mut desktop, mut phone) = pair_of_small();
    let shared = uuid(&desktop, "actor", 1);
    desktop.write(
        "UPDATE actor SET notes = 'Born at sea.\r\nFears the deep. Has a brother, Tom \
        👩‍🚀.' WHERE id = 1",
    );
    phone.sync(&mut desktop);
    desktop.write(
        "UPDATE actor SET notes = 'Born at night.\r\nFears the deep. Has a brother, Tom \
        👩‍🚀.' WHERE id = 1",
    );
    phone.write(&format!(
        "UPDATE actor SET notes = 'Born at sea.\r\nFears the deep. Has a sister, \
        Tom 👩‍🚀.' WHERE sync_uuid = '{shared}'"
    ));
    phone.sync(&mut desktop);
    assert_same_content(&desktop.database, &phone.database, true);
    let notes: String =
        phone.value(&format!("SELECT notes FROM actor WHERE sync_uuid = '{shared}'"));
    assert_eq!(notes, "Born at night.\r\nFears the deep. Has a sister, Tom 👩‍🚀.");
    assert!(desktop.engine().conflicts(now()).unwrap().is_empty());
    // Whoever writes next writes on top of what was merged.
    phone.write(&format!(
        "UPDATE actor SET notes = notes || ' The end.' WHERE sync_uuid = '{shared}'"
    ));
    desktop.sync(&mut phone);
    assert_same_content(&desktop.database, &phone.database, true);
    assert!(desktop.value::<String>("SELECT notes FROM actor WHERE id = 1").ends_with("The end."));

    // The same word on both sides: one whole text is shown, and both are told.
    desktop.write("UPDATE actor SET notes = replace(notes, 'sister', 'cousin') WHERE id = 1");
    phone.write(&format!(
        "UPDATE actor SET notes = replace(notes, 'sister', 'rival') WHERE sync_uuid = '{shared}'"
    ));
    phone.sync(&mut desktop);
    assert_same_content(&desktop.database, &phone.database, true);
    let conflicts = desktop.engine().conflicts(now()).unwrap();
    assert_eq!((conflicts.len(), conflicts[0].fields[0].values.len()), (1, 2));
}

#[test]
fn editing_another_field_of_a_conflicting_row_leaves_the_conflict_open() {
    let (mut desktop, mut phone) = pair_of_small();
    let shared = uuid(&desktop, "actor", 1);
    desktop.write("UPDATE actor SET title = 'Queen' WHERE id = 1");
    phone.write(&format!("UPDATE actor SET title = 'Empress' WHERE sync_uuid = '{shared}'"));
    phone.sync(&mut desktop);
    // The app writes the whole row back, the shown winner among it: that decides nothing.
    desktop.write("UPDATE actor SET job = 'ruler', title = title WHERE id = 1");
    desktop.sync(&mut phone);
    assert_eq!(desktop.engine().conflicts(now()).unwrap().len(), 1);
    assert_eq!(phone.engine().conflicts(now()).unwrap().len(), 1);
    assert_same_content(&desktop.database, &phone.database, true);
}

#[test]
fn a_row_deleted_here_and_edited_there_lives_and_is_reported() {
    let (mut desktop, mut phone) = pair_of_small();
    let shared = uuid(&desktop, "object_", 2);
    desktop.write("DELETE FROM object_ WHERE id = 2");
    phone.write(&format!("UPDATE object_ SET name = 'Kept' WHERE sync_uuid = '{shared}'"));
    phone.sync(&mut desktop);
    assert_same_content(&desktop.database, &phone.database, true);
    assert_eq!(
        desktop.value::<String>(&format!("SELECT name FROM object_ WHERE sync_uuid = '{shared}'")),
        "Kept"
    );
    for replica in [&mut desktop, &mut phone] {
        let conflicts = replica.engine().conflicts(now()).unwrap();
        assert_eq!((conflicts.len(), conflicts[0].kind.as_str()), (1, "delete_edit"));
    }
}

#[test]
fn a_soft_delete_travels_as_one() {
    let (mut desktop, mut phone) = pair_of_small();
    let shared = uuid(&desktop, "object_", 2);
    phone.write(&format!(
        "UPDATE object_ SET deleted_at = '2026-01-02 03:04:05' WHERE sync_uuid = '{shared}'"
    ));
    phone.sync(&mut desktop);
    assert_eq!(
        desktop.value::<String>("SELECT deleted_at FROM object_ WHERE id = 2"),
        "2026-01-02 03:04:05"
    );
    desktop.write("UPDATE object_ SET deleted_at = NULL WHERE id = 2");
    phone.sync(&mut desktop);
    assert_eq!(
        phone.value::<Option<String>>(&format!(
            "SELECT deleted_at FROM object_ WHERE sync_uuid = '{shared}'"
        )),
        None
    );
    assert_same_content(&desktop.database, &phone.database, true);
}

#[test]
fn a_deleted_row_stays_deleted_when_a_sleeping_device_syncs() {
    let (mut desktop, mut phone) = pair_of_small();
    let gone = uuid(&desktop, "object_", 4);
    desktop.write("DELETE FROM object_ WHERE id = 4");
    desktop.capture();
    phone.write("UPDATE faction SET name = 'x' WHERE id = 1");
    desktop.sync(&mut phone);
    phone.sync(&mut desktop);
    for replica in [&desktop, &phone] {
        assert_eq!(
            replica
                .value::<i64>(&format!("SELECT count(*) FROM object_ WHERE sync_uuid = '{gone}'")),
            0
        );
    }
}

#[test]
fn changes_are_forwarded_by_a_device_in_the_middle() {
    let (mut desktop, mut phone) = pair_of_small();
    let mut laptop = Replica::empty(3);
    laptop.sync(&mut phone);
    assert_same_content(&desktop.database, &laptop.database, true);
    laptop.write("UPDATE actor SET first_name = 'From afar' WHERE id = 1");
    let changed = uuid(&laptop, "actor", 1);
    laptop.sync(&mut phone);
    assert_eq!(phone.sync(&mut desktop), (1, 0));
    assert_eq!(
        desktop.value::<String>(&format!(
            "SELECT first_name FROM actor WHERE sync_uuid = '{changed}'"
        )),
        "From afar"
    );
    assert_same_content(&desktop.database, &laptop.database, true);
}

#[test]
fn the_document_is_equal_on_both_devices_and_carries_the_sync_fields() {
    use automerge::ReadDoc as _;
    let (mut desktop, mut phone) = pair_of_small();
    let shared = uuid(&desktop, "actor", 1);
    phone.write(&format!("UPDATE actor SET notes = 'seen' WHERE sync_uuid = '{shared}'"));
    phone.sync(&mut desktop);
    let documents: Vec<automerge::Automerge> = [&mut desktop, &mut phone]
        .iter_mut()
        .map(|replica| {
            automerge::Automerge::load(&replica.engine().document("actor", &shared, now()).unwrap())
                .unwrap()
        })
        .collect();
    assert_eq!(documents[0].get_heads(), documents[1].get_heads());
    for field in ["created_at", "updated_at", "deleted_at", "version", "notes"] {
        assert!(documents[0].get(automerge::ROOT, field).unwrap().is_some(), "{field}");
    }
    assert_eq!(documents[0].get(automerge::ROOT, "version").unwrap().unwrap().0.as_i64(), Some(2));
}

#[test]
fn receiving_a_page_twice_changes_nothing() {
    let (mut desktop, mut phone) = pair_of_small();
    desktop.write("UPDATE actor SET first_name = 'Once' WHERE id = 1");
    let (id, own) = (desktop.id(), phone.id());
    let request = phone.engine().pull_request(&id).unwrap();
    let page = desktop.engine().answer_pull(&request, &own, now()).unwrap();
    assert_eq!(phone.engine().receive_pulled(&page, &id, now()).unwrap().rows.len(), 1);
    let bytes = std::fs::read(&phone.database).unwrap();
    assert_eq!(phone.engine().receive_pulled(&page, &id, now()).unwrap().rows.len(), 0);
    assert_eq!(bytes, std::fs::read(&phone.database).unwrap());
}

#[test]
fn children_that_come_before_their_parents_wait_for_them() {
    let (mut desktop, _) = pair_of_small();
    let mut phone = Replica::empty(2);
    let (id, own) = (desktop.id(), phone.id());
    let request = phone.engine().pull_request(&id).unwrap();
    let mut page = desktop.engine().answer_pull(&request, &own, now()).unwrap();
    page.changes.reverse();
    // One row at a time, children first.
    for change in &page.changes {
        phone.engine().receive(std::slice::from_ref(change), &id, now()).unwrap();
    }
    assert_eq!(phone.engine().status().unwrap().parked, 0);
    assert_same_content(&desktop.database, &phone.database, true);
}

#[test]
fn a_page_is_no_larger_than_asked_for() {
    let (mut desktop, mut phone) = pair_of_small();
    let own = phone.id();
    let mut request = phone.engine().pull_request("somebody").unwrap();
    request.limit = Some(7);
    let mut seen = 0;
    loop {
        let page = desktop.engine().answer_pull(&request, &own, now()).unwrap();
        assert!(page.changes.len() <= 7);
        seen += page.changes.len();
        request.cursor = Some(page.cursor);
        if !page.has_more {
            break;
        }
    }
    assert_eq!(seen, fixtures::ROWS_IN_ALL);
}

#[test]
fn entity_types_and_since_timestamp_filter_a_pull() {
    let (mut desktop, mut phone) = pair_of_small();
    let own = phone.id();
    let mut request = phone.engine().pull_request("somebody").unwrap();
    request.entity_types = Some(vec!["location".to_owned()]);
    request.data = true;
    let page = desktop.engine().answer_pull(&request, &own, now()).unwrap();
    assert_eq!(page.changes.len(), 10);
    assert!(page.changes.iter().all(|change| change.entity_type == "location_"
        && change.data.as_ref().unwrap().contains_key("name")));
    request.entity_types = None;
    request.since_timestamp = Some(now().to_rfc3339());
    assert!(desktop.engine().answer_pull(&request, &own, now()).unwrap().changes.is_empty());
}

/// Everything our tables say of the rows, by their names.
fn bookkeeping(replica: &Replica) -> Vec<String> {
    let mut lines = rows_and_references(replica);
    for sql in [
        "SELECT name || ' up to ' || high_id FROM sync_table WHERE columns <> '[]'",
        "SELECT hex(hash) || ' of ' || r.sync_uuid FROM sync_change AS c JOIN sync_row AS r ON \
            r.id = c.row_id",
        "SELECT entity_type || ' ' || count(*) FROM sync_log GROUP BY entity_type",
    ] {
        lines.extend(replica.texts(sql));
    }
    lines.sort();
    lines
}

#[test]
fn rows_that_arrive_the_short_way_stand_as_the_long_way_would_have_put_them() {
    for dialect in fixtures::DIALECTS {
        let (_folder, file) = fixtures::file(dialect);
        let mut desktop = Replica::of_copy(&file, 1);
        // Rows of every kind: new ones with times of their own, deleted ones, edited ones, ones
        // that lead nowhere.
        desktop.write(
            "UPDATE actor SET first_name = 'Edited' WHERE id = 2; DELETE FROM object_ WHERE id = \
                3; \
             INSERT INTO setting (name, user_id, sync_uuid, version) VALUES ('New', 1, \
             'new-setting', 1); UPDATE actor SET deleted_at = '2026-01-01 10:00:00' WHERE id = 4",
        );
        desktop.capture();
        let mut pulled = [Replica::empty(2), Replica::empty(3)];
        for (place, replica) in pulled.iter_mut().enumerate() {
            let (id, peer) = (replica.id(), desktop.id());
            replica.engine().mirror_devices(&[mirrored(&peer)], now()).unwrap();
            loop {
                let request = replica.engine().pull_request(&peer).unwrap();
                let mut page = desktop.engine().answer_pull(&request, &id, now()).unwrap();
                if place == 1 {
                    // The same change twice is no plain arrival, and no news.
                    page.changes.iter_mut().for_each(|row| {
                        row.automerge = [row.automerge.clone(), row.automerge.clone()].concat()
                    });
                }
                assert!(
                    replica
                        .engine()
                        .receive_pulled(&page, &peer, now())
                        .unwrap()
                        .rejected
                        .is_empty()
                );
                if page.changes.is_empty() {
                    break;
                }
            }
        }
        let [short, long] = &pulled;
        assert_same_content(&short.database, &long.database, true);
        assert_same_content(&short.database, &desktop.database, true);
        let (short, long) = (bookkeeping(short), bookkeeping(long));
        let differing: Vec<_> = short
            .iter()
            .filter(|line| !long.contains(line))
            .chain(long.iter().filter(|line| !short.contains(line)))
            .take(6)
            .collect();
        assert!(differing.is_empty(), "{dialect:?}: {differing:#?}");
    }
}

fn mirrored(device_id: &str) -> storysync_engine::store::peers::MirroredDevice {
    storysync_engine::store::peers::MirroredDevice {
        device_id: device_id.to_owned(),
        name: "desktop".to_owned(),
        last_sync_at: None,
        created_at: "2026-01-01 10:00:00".to_owned(),
        is_active: true,
    }
}

#[test]
fn an_exchange_asked_out_of_turn_says_so_and_goes_on() {
    let (mut desktop, mut phone) = pair_of_small();
    phone
        .write("INSERT INTO setting (name, user_id, sync_uuid, version) VALUES ('New', 1, 'n', 1)");
    let mut exchange = Exchange::with(&desktop.device_id(), ExchangeOptions::default());
    let asker = Asker::trusted(&phone.device_id());
    let mut waiting = exchange.next(phone.engine(), now()).unwrap();
    let early = exchange.next(phone.engine(), now());
    assert!(matches!(early, Err(ExchangeError::OutOfTurn)), "{early:?}");
    while let Some(request) = waiting {
        let answer = desktop.engine().answer(&asker, &Prepared::of(request), now()).unwrap();
        exchange.handle(answer.reply);
        waiting = exchange.next(phone.engine(), now()).unwrap();
    }
    assert_same_content(&desktop.database, &phone.database, true);
}

#[test]
fn what_had_come_before_the_connection_broke_is_kept() {
    let (mut desktop, mut phone) = pair_of_small();
    let many: String = (0..2_500)
        .map(|n| {
            format!(
                "INSERT INTO setting (name, user_id, sync_uuid, version) \
                VALUES ('Place {n}', 1, 'place-{n}', 1);"
            )
        })
        .collect();
    desktop.write(&format!("BEGIN; {many} COMMIT"));
    let mut exchange = Exchange::with(&desktop.device_id(), ExchangeOptions::default());
    let asker = Asker::trusted(&phone.device_id());
    let mut full_pages = 0;
    let ended = loop {
        match exchange.next(phone.engine(), now()) {
            Ok(Some(_)) if full_pages == 1 => exchange.lost(),
            Ok(Some(request)) => {
                let answer =
                    desktop.engine().answer(&asker, &Prepared::of(request), now()).unwrap();
                full_pages += usize::from(
                    matches!(&answer.reply, Reply::Pull(page) if page.changes.len() == 1_000),
                );
                exchange.handle(answer.reply);
            }
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    assert!(matches!(ended, Some(ExchangeError::Lost)), "{ended:?}");
    let stands = "SELECT count(*) FROM setting WHERE sync_uuid LIKE 'place-%'";
    assert_eq!(phone.value::<i64>(stands), 1_000, "the page that had come");
    phone.sync(&mut desktop);
    assert_eq!(phone.value::<i64>(stands), 2_500, "and the rest with the next exchange");
}
