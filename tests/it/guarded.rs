//! Mass losses through a paired device, as a real client brings them: the whole file emptied, in
//! one push or in many; texts blanked or cut; deletions under forged names. Each is held, told in
//! one sentence, let through, and taken back.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rusqlite::Connection;
use serde_json::json;
use storysync_crdt::{Actor, EditPurpose, Stamp, Value, key};
use storysync_engine::app::schema::Schema;
use storysync_engine::store::{log, rows};
use storysync_engine::wire::RowChange;

use crate::handmade::Handmade;
use crate::nodes::*;
use crate::support::{assert_same_content, canonical};

/// The content tables of a node's file.
fn tables(node: &TestNode) -> Vec<String> {
    let schema = Schema::read(&Connection::open(&node.database).unwrap(), &[]).unwrap();
    schema.tables().map(|table| table.name().to_owned()).collect()
}

/// What a person reads in a node's file, links by what they lead to.
fn content(node: &TestNode) -> Vec<String> {
    let line = |line: String| {
        let parts = line.split(" | ").filter(|part| !part.starts_with("version="));
        parts.collect::<Vec<_>>().join(" | ")
    };
    canonical(&node.database, false).into_iter().map(line).collect()
}

fn assert_reads(node: &TestNode, before: &[String]) {
    let now = content(node);
    let gone: Vec<_> = before.iter().filter(|line| !now.contains(line)).take(2).collect();
    let new: Vec<_> = now.iter().filter(|line| !before.contains(line)).take(2).collect();
    assert!(now == before, "{} rows of {}\n- {gone:#?}\n+ {new:#?}", now.len(), before.len());
}

fn rows_in_all(node: &TestNode) -> i64 {
    node.value("SELECT count(*) FROM sync_row WHERE present = 1")
}

/// The one hold there is: its id, once what is told of it names both ways on.
fn told(desktop: &TestNode, words: &str) -> String {
    let brakes = desktop.run_json(&["status"])["brakes"].clone();
    assert_eq!(brakes.as_array().unwrap().len(), 1, "{brakes}");
    let id = brakes[0]["id"].as_str().unwrap().to_owned();
    for command in ["status", "conflicts"] {
        let output = desktop.run(&[command]);
        let text = String::from_utf8(output.stdout).unwrap();
        let sentence = text.lines().find(|line| line.contains("wait for a yes")).unwrap();
        assert!(sentence.contains(words), "{sentence}");
        assert!(sentence.contains(&format!("`storysync approve {id}` lets it through")));
        assert!(sentence.contains(&format!("`storysync approve {id} --refuse` takes it back")));
    }
    id
}

/// What was held is refused: both devices show everything as before.
fn refuse(desktop: &TestNode, phone: &TestNode, id: &str, before: &[String]) {
    desktop.run_json(&["approve", id, "--refuse"]);
    assert_reads(desktop, before);
    phone.sync();
    assert_same_content(&desktop.database, &phone.database, true);
    assert_eq!(desktop.run_json(&["status"])["brakes"], json!([]));
}

fn empty_everything(phone: &TestNode) {
    let deletes: String =
        tables(phone).iter().map(|table| format!("DELETE FROM \"{table}\";")).collect();
    phone.app(&deletes);
}

#[test]
fn sixty_three_tables_emptied_in_one_push_are_held_and_taken_back_whole() {
    let (desktop, phone) = paired();
    let before = content(&desktop);
    assert_eq!(tables(&phone).len(), 63);
    empty_everything(&phone);
    phone.sync();
    // Held, with every link.
    assert_reads(&desktop, &before);
    let id = told(&desktop, "645 deletions");
    assert_eq!(rows_in_all(&phone), 0, "nothing is held where it was done");
    refuse(&desktop, &phone, &id, &before);
}

#[test]
fn sixty_three_tables_emptied_are_let_through_by_a_yes() {
    let (desktop, phone) = paired();
    empty_everything(&phone);
    phone.sync();
    let id = told(&desktop, "645 deletions");
    assert_eq!(desktop.run_json(&["approve", &id])["rows"], 645);
    assert_eq!((rows_in_all(&desktop), rows_in_all(&phone)), (0, 0));
}

#[test]
fn a_file_emptied_over_thirty_pushes_is_held_and_what_went_before_comes_back() {
    let (desktop, phone) = paired();
    let before = content(&desktop);
    // A few rows of each table at a time: in no push much of anything.
    let tables = tables(&phone);
    for push in 0..30 {
        let deletes: String = tables
            .iter()
            .enumerate()
            .filter(|(number, _)| number % 3 == push % 3)
            .map(|(_, table)| {
                let (first, last) = (push / 3 + 1, if push >= 27 { 99 } else { push / 3 + 1 });
                format!("DELETE FROM \"{table}\" WHERE rowid BETWEEN {first} AND {last};")
            })
            .collect();
        phone.app(&deletes);
        phone.sync();
    }
    assert_eq!(rows_in_all(&phone), 0);
    assert_reads(&desktop, &before);
    let id = told(&desktop, "645 deletions");
    refuse(&desktop, &phone, &id, &before);
}

/// A desktop and a phone with 1,400 texts.
fn with_texts() -> (TestNode, TestNode) {
    let (desktop, phone) = paired();
    let page = "Nobody in the harbour remembers who lit the lamp. ".repeat(8);
    desktop.app(&format!(
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1400) INSERT \
        INTO faction (name, description, setting_id, sync_uuid, version) SELECT 'f' || n, n || \
        ': {page}', 1, 'f' || n, 1 FROM n"
    ));
    phone.sync();
    (desktop, phone)
}

const CUTS: [&str; 3] = ["''", "NULL", "substr(description, 1, 10)"];

#[test]
fn fourteen_hundred_texts_blanked_or_cut_are_held_and_taken_back() {
    let (desktop, phone) = with_texts();
    for cut in CUTS {
        let before = content(&desktop);
        phone.app(&format!("UPDATE faction SET description = {cut} WHERE sync_uuid LIKE 'f%'"));
        phone.sync();
        assert_reads(&desktop, &before);
        let id = told(&desktop, "1400 rows whose texts were emptied or cut in faction");
        refuse(&desktop, &phone, &id, &before);
    }
}

#[test]
fn fourteen_hundred_texts_cut_are_let_through_by_a_yes() {
    let (desktop, phone) = with_texts();
    phone.app(
        "UPDATE faction SET description = substr(description, 1, 10) WHERE sync_uuid LIKE 'f%'",
    );
    phone.sync();
    let id = told(&desktop, "1400 rows whose texts were emptied or cut in faction");
    desktop.run_json(&["approve", &id]);
    assert_eq!(
        desktop.value::<i64>(
            "SELECT count(*) FROM faction WHERE sync_uuid LIKE 'f%' AND length(description) = 10"
        ),
        1_400
    );
    assert_same_content(&desktop.database, &phone.database, true);
}

/// Deletions of every row of a file, each under the name of another device nobody knows, and dated
/// long ago.
fn forged_deletions(node: &TestNode) -> Vec<RowChange> {
    let connection = Connection::open(&node.database).unwrap();
    let ids = log::rows_with_changes(&connection).unwrap();
    let long_ago = Stamp::parse("1970-01-02 00:00:00").unwrap();
    let puts = BTreeMap::from([
        (key::DELETED_AT.to_owned(), Value::from(long_ago.to_table_text())),
        (key::DELETE_KIND.to_owned(), Value::from("hard")),
        (key::UPDATED_AT.to_owned(), Value::from(long_ago.to_table_text())),
    ]);
    ids.iter()
        .enumerate()
        .map(|(number, id)| {
            let author = Actor::of_device(&[u8::try_from(number % 200).unwrap() + 1; 32], [7; 8]);
            let document = log::document(&connection, *id).unwrap();
            let change = document.edit(puts.clone(), EditPurpose::Edit, None, &author, 0).unwrap();
            let entity = rows::entity(&connection, &rows::get(&connection, *id).unwrap()).unwrap();
            RowChange {
                entity_type: entity.table.as_str().to_owned(),
                sync_uuid: entity.uuid.as_str().to_owned(),
                // It does not announce what it does.
                operation: "update".to_owned(),
                automerge: vec![STANDARD.encode(change.bytes())],
                ..RowChange::default()
            }
        })
        .collect()
}

#[test]
fn deletions_under_many_forged_names_by_one_device_are_held() {
    let (desktop, phone) = paired();
    let before = content(&desktop);
    let forged = forged_deletions(&phone);
    let client = Handmade::of(&phone, &desktop);
    let prekey = client.prekey();
    for (number, few) in forged.chunks(22).enumerate() {
        let body = json!({ "changes": few }).to_string();
        let seq = u64::try_from(number).unwrap() + 1;
        let request = client.request("POST", "/api/sync/push", body.as_bytes(), seq, prekey);
        let (status, answer) = client.ask(request);
        assert_eq!(status, 200, "{answer:?}");
        assert_eq!(answer.unwrap()["rejected"], 0);
    }
    assert_reads(&desktop, &before);
    let id = told(&desktop, "645 deletions");
    // The phone itself never had what was sent in its name; the desktop is what counts.
    desktop.run_json(&["approve", &id, "--refuse"]);
    assert_reads(&desktop, &before);
}
