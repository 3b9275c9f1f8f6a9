//! Long histories: older changes are compressed together, and nobody notices.

use crate::fixtures::{self, Dialect};
use crate::support::*;
use storysync_engine::Incoming;
use storysync_engine::wire::ReconcileRequest;

const EDITS: usize = 300;

/// A chapter somebody goes on writing at, saved again and again.
fn draft(edit: usize) -> String {
    let mut text = String::new();
    for line in 0..=edit {
        text.push_str(&format!("Line {line} of the chapter, in which a ship sails on. "));
    }
    text
}

fn desktop() -> (Replica, String) {
    let (_folder, file) = fixtures::file(Dialect::Newer);
    let mut desktop = Replica::of_copy(&file, 1);
    desktop.capture();
    let uuid = desktop.value("SELECT sync_uuid FROM actor WHERE id = 1");
    (desktop, uuid)
}

fn write_on(desktop: &mut Replica) {
    for edit in 0..EDITS {
        desktop.write(&format!("UPDATE actor SET notes = '{}' WHERE id = 1", draft(edit)));
        desktop.capture();
    }
}

fn names(replica: &Replica) -> Vec<String> {
    replica.texts("SELECT hex(hash) FROM sync_change ORDER BY hash")
}

#[test]
fn a_long_history_is_packed_and_every_step_of_it_stays_readable() {
    let (mut desktop, uuid) = desktop();
    write_on(&mut desktop);
    let written: usize = (0..EDITS).map(|edit| draft(edit).len()).sum();
    let stored: usize = desktop
        .value::<i64>(
            "SELECT (SELECT sum(length(bytes)) FROM sync_change) + (SELECT \
            sum(length(bytes)) FROM sync_pack)",
        )
        .try_into()
        .unwrap();
    assert!(stored < written / 2, "{stored} bytes for {written}");
    let standing: i64 = desktop.value(&format!(
        "SELECT count(*) FROM sync_change AS c JOIN sync_row AS r ON r.id = \
            c.row_id WHERE r.sync_uuid = '{uuid}' AND c.pack IS NULL"
    ));
    assert!((16..48).contains(&standing), "{standing} stand by themselves");
    let history = desktop.engine().history("actor", &uuid, now()).unwrap();
    let notes: Vec<String> = history
        .iter()
        .flat_map(|entry| &entry.fields)
        .filter(|field| field.name == "notes")
        .map(|field| field.new.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(notes[notes.len() - EDITS..], (0..EDITS).map(draft).collect::<Vec<_>>());
    assert!(desktop.engine().verify(now()).unwrap().is_empty());
}

#[test]
fn whoever_is_behind_gets_packed_changes_as_they_were() {
    let (mut desktop, uuid) = desktop();
    let mut behind = Replica::empty(2);
    behind.sync(&mut desktop);
    behind.write(&format!("UPDATE actor SET job = 'captain' WHERE sync_uuid = '{uuid}'"));
    write_on(&mut desktop);
    behind.sync(&mut desktop);
    let mut new = Replica::empty(3);
    new.sync(&mut desktop);
    for other in [&mut behind, &mut new] {
        assert_same_content(&other.database, &desktop.database, true);
        assert_eq!(names(other), names(&desktop));
        assert!(
            other.value::<i64>("SELECT count(*) FROM sync_pack") > 0,
            "it packs what it received, too"
        );
        assert!(other.engine().verify(now()).unwrap().is_empty());
    }
    // A form that was opened at a version that is packed by now still merges from there.
    desktop.write("UPDATE actor SET title = 'of an old form', version = 40 WHERE id = 1");
    desktop.capture();
    behind.sync(&mut desktop);
    let shown = |replica: &Replica, column: &str| {
        replica.value::<String>(&format!("SELECT {column} FROM actor WHERE sync_uuid = '{uuid}'"))
    };
    assert_eq!(
        (shown(&behind, "title"), shown(&behind, "notes")),
        ("of an old form".to_owned(), draft(EDITS - 1))
    );
}

#[test]
fn two_logs_are_compared_by_names_also_where_they_are_packed() {
    let (mut desktop, _) = desktop();
    let mut other = Replica::empty(2);
    other.sync(&mut desktop);
    write_on(&mut desktop);
    let packed: i64 = desktop.value("SELECT count(*) FROM sync_change WHERE pack IS NOT NULL");
    assert!(packed >= 256, "{packed}");
    let mut compared = other.engine().begin_reconciling(now()).unwrap();
    let mut answer = None;
    while let Some(message) = compared.next_message(answer.as_deref()).unwrap() {
        let request = ReconcileRequest { message, epoch: None };
        answer =
            Some(desktop.engine().answer_reconcile(&request, &other.id(), now()).unwrap().message);
    }
    let need = compared.need();
    assert_eq!(
        (need.len(), compared.have().len()),
        (names(&desktop).len() - names(&other).len(), 0)
    );
    let page = desktop.engine().named_page(&need, 0, now()).unwrap();
    let receipt = other
        .engine()
        .receive_fetched(&Incoming::read_all(page.changes), &desktop.id(), now())
        .unwrap();
    assert!(receipt.rejected.is_empty() && !page.has_more);
    assert_eq!(names(&other), names(&desktop));
}

#[test]
fn a_damaged_pack_is_told_in_words() {
    let (mut desktop, uuid) = desktop();
    write_on(&mut desktop);
    desktop
        .app()
        .execute_batch(
            "UPDATE sync_pack SET bytes = CAST(substr(bytes, 1, 40) || x'ff' \
        || substr(bytes, 42) AS BLOB) WHERE id = 1",
        )
        .unwrap();
    let sentence = desktop.engine().history("actor", &uuid, now()).unwrap_err().to_string();
    assert!(
        sentence.contains("pack 1 of the change log is damaged")
            && sentence.contains("restore a backup"),
        "{sentence}"
    );
    assert!(
        desktop
            .engine()
            .verify(now())
            .unwrap()
            .iter()
            .any(|complaint| complaint.contains("the change log is damaged"))
    );
}
