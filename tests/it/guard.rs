//! What a paired device that turned hostile or broken sends: the guard in the Engine, over a real
//! file. The bytes themselves are refused in `crdt/tests/guard.rs`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use storysync_crdt::{
    Actor, Change, DeviceKey, Document, EditPurpose, EntityId, SyncUuid, TableName, Value, genesis,
};
use storysync_engine::Receipt;
use storysync_engine::wire::{PullRequest, RowChange};

use crate::fixtures::{self, Dialect};
use crate::handmade::Handmade;
use crate::nodes::{TestNode, paired};
use crate::support::{Replica, assert_same_content, canonical, now};

const HOSTILE: DeviceKey = [66; 32];

fn desktop() -> Replica {
    let (_folder, file) = fixtures::file(Dialect::Newer);
    Replica::of_copy(&file, 1)
}

fn hostile_id() -> String {
    storysync_engine::trust::identity::DeviceId::of_key(&HOSTILE).to_string()
}

fn puts(name: &str, text: &str) -> BTreeMap<String, Value> {
    BTreeMap::from([(name.to_owned(), Value::from(text)), ("user_id".to_owned(), Value::Null)])
}

fn row_of(uuid: &str, changes: &[Vec<u8>]) -> RowChange {
    RowChange {
        entity_type: "actor".to_owned(),
        sync_uuid: uuid.to_owned(),
        operation: "update".to_owned(),
        automerge: changes.iter().map(|bytes| STANDARD.encode(bytes)).collect(),
        ..RowChange::default()
    }
}

/// A row of its own by the hostile device: the first change, and edits that each build on the last.
fn chain(uuid: &str, edits: usize) -> Vec<Change> {
    let entity = EntityId {
        table: TableName::parse("actor").unwrap(),
        uuid: SyncUuid::parse(uuid).unwrap(),
    };
    let mut document = Document::new();
    document.apply(genesis(&entity, puts("first_name", "Mallory"))).unwrap();
    let actor = Actor::of_device(&HOSTILE, [1; 8]);
    for edit in 0..edits {
        let change = document
            .edit(
                puts("first_name", &format!("Mallory {edit}")),
                EditPurpose::Edit,
                None,
                &actor,
                0,
            )
            .unwrap();
        document.apply(change).unwrap();
    }
    document.changes().to_vec()
}

fn receive(node: &mut Replica, rows: &[RowChange]) -> Receipt {
    node.engine().receive(rows, &hostile_id(), now()).unwrap()
}

fn count(node: &Replica, sql: &str) -> i64 {
    node.app().query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn bytes_that_were_refused_are_remembered_by_name_and_not_looked_at_again() {
    let mut node = desktop();
    let before = canonical(&node.database, true);
    let mut broken = chain("m-1", 0)[0].bytes().to_vec();
    let name = broken.windows(7).position(|window| window == b"Mallory").unwrap();
    broken[name] = b'N';
    let receipt = receive(&mut node, &[row_of("m-1", &[broken.clone()])]);
    assert!(receipt.rejected[0].contains("not canonical"), "{:?}", receipt.rejected);
    assert!(receive(&mut node, &[row_of("m-1", &[broken])]).rejected[0].contains("refused before"));
    assert_eq!(count(&node, "SELECT count(*) FROM sync_quarantine"), 1);
    // The right bytes of the same row are welcome.
    assert_eq!(
        receive(&mut node, &[row_of("m-1", &[chain("m-1", 0)[0].bytes().to_vec()])]).rows.len(),
        1
    );
    assert_eq!(canonical(&node.database, true).len(), before.len() + 1);
    assert_eq!(node.engine().status().unwrap().quarantined, 1);
}

#[test]
fn what_is_quarantined_is_bounded() {
    let mut node = Replica::empty(1);
    let rows: Vec<RowChange> =
        (0..1_200_u32).map(|n| row_of("m-1", &[n.to_be_bytes().to_vec()])).collect();
    assert_eq!(receive(&mut node, &rows).rejected_count(), 1_200);
    assert_eq!(
        count(&node, "SELECT count(*) FROM sync_quarantine"),
        storysync_engine::store::quarantine::QUARANTINE_MAX
    );
}

#[test]
fn a_flood_of_orphans_fills_the_senders_quota_and_nothing_else() {
    let mut node = desktop();
    let before = canonical(&node.database, true);
    // Changes that build on changes nobody ever sends: each of another row, then all of one.
    let flood: Vec<RowChange> = (0..1_300)
        .map(|n| {
            row_of(&format!("orphan-{n}"), &[chain(&format!("orphan-{n}"), 1)[1].bytes().to_vec()])
        })
        .collect();
    let receipt = receive(&mut node, &flood);
    assert_eq!((receipt.waiting, receipt.rejected.len()), (1_000, 300));
    assert_eq!(count(&node, "SELECT count(*) FROM sync_pending"), 1_000);
    assert!(
        count(&node, "SELECT count(*) FROM sync_row WHERE sync_uuid LIKE 'orphan-%'") <= 1_000,
        "names that could not even wait cost nothing"
    );
    assert_eq!(canonical(&node.database, true), before);

    // Another device still has its own quota, and whoever is complete needs none.
    let other = storysync_engine::trust::identity::DeviceId::of_key(&[5; 32]).to_string();
    let late = chain("late", 1);
    let receipt = node
        .engine()
        .receive(&[row_of("late", &[late[1].bytes().to_vec()])], &other, now())
        .unwrap();
    assert_eq!(receipt.waiting, 1);
    let receipt = node
        .engine()
        .receive(&[row_of("late", &[late[0].bytes().to_vec()])], &other, now())
        .unwrap();
    assert_eq!(receipt.rows.len(), 1);
    assert_eq!(
        count(&node, "SELECT count(*) FROM actor WHERE first_name = 'Mallory 0'"),
        1,
        "what waited came along"
    );
    let complete: Vec<Vec<u8>> =
        chain("complete", 3).iter().map(|change| change.bytes().to_vec()).collect();
    assert_eq!(receive(&mut node, &[row_of("complete", &complete)]).rows.len(), 1);
}

#[test]
fn what_waited_for_a_week_is_forgotten() {
    let mut node = Replica::empty(1);
    let orphan =
        |n: u32| row_of(&format!("o-{n}"), &[chain(&format!("o-{n}"), 1)[1].bytes().to_vec()]);
    receive(&mut node, &[orphan(1)]);
    node.app()
        .execute("UPDATE sync_pending SET received_at = received_at - 8 * 24 * 3600 * 1000", [])
        .unwrap();
    receive(&mut node, &[orphan(2)]);
    assert_eq!(count(&node, "SELECT count(*) FROM sync_pending"), 1);
}

#[test]
fn two_changes_under_one_name_freeze_the_device_that_wrote_both() {
    let mut node = desktop();
    let entity = EntityId {
        table: TableName::parse("actor").unwrap(),
        uuid: SyncUuid::parse("m-1").unwrap(),
    };
    let mut document = Document::new();
    document.apply(genesis(&entity, puts("first_name", "Mallory"))).unwrap();
    let actor = Actor::of_device(&HOSTILE, [1; 8]);
    let edit = |name: &str| {
        document
            .edit(puts("first_name", name), EditPurpose::Edit, None, &actor, 0)
            .unwrap()
            .bytes()
            .to_vec()
    };
    let first = document.changes()[0].bytes().to_vec();
    assert_eq!(receive(&mut node, &[row_of("m-1", &[first, edit("One")])]).rows.len(), 1);
    let shown = canonical(&node.database, true);
    // Passed on by somebody who did not write it, it proves nothing against the messenger.
    let messenger = storysync_engine::trust::identity::DeviceId::of_key(&[5; 32]).to_string();
    let receipt =
        node.engine().receive(&[row_of("m-1", &[edit("Two")])], &messenger, now()).unwrap();
    assert!(!receipt.equivocated && receipt.rejected.len() == 1);
    let receipt = receive(&mut node, &[row_of("m-1", &[edit("Three")])]);
    assert!(receipt.equivocated);
    assert_eq!(canonical(&node.database, true), shown);
    // Nor does it when both came through somebody else, or the first did, who may have forged it.
    let row = |name: &str, changes: &[Vec<u8>]| RowChange {
        sync_uuid: name.to_owned(),
        ..row_of(name, changes)
    };
    let entity = EntityId {
        table: TableName::parse("actor").unwrap(),
        uuid: SyncUuid::parse("m-2").unwrap(),
    };
    let mut document = Document::new();
    document.apply(genesis(&entity, puts("first_name", "Mallory"))).unwrap();
    let edit = |name: &str| {
        document
            .edit(puts("first_name", name), EditPurpose::Edit, None, &actor, 0)
            .unwrap()
            .bytes()
            .to_vec()
    };
    let first = document.changes()[0].bytes().to_vec();
    let receipt = node
        .engine()
        .receive(&[row("m-2", &[first, edit("Forged?"), edit("Forged!")])], &messenger, now())
        .unwrap();
    assert!(!receipt.equivocated && receipt.rejected_count() == 1);
    let receipt = receive(&mut node, &[row("m-2", &[edit("Mine, says Mallory")])]);
    assert!(!receipt.equivocated && receipt.rejected_count() == 1);
    // Here the person writes on.
    node.app().execute("UPDATE actor SET first_name = 'Mine' WHERE sync_uuid = 'm-1'", []).unwrap();
    assert_eq!(node.capture(), 1);
}

#[test]
fn a_frozen_device_is_told_so_and_comes_back_by_pairing_again() {
    let (desktop, phone) = paired();
    let client = Handmade::of(&phone, &desktop);
    let own = client.identity.public_key();
    let entity = EntityId {
        table: TableName::parse("actor").unwrap(),
        uuid: SyncUuid::parse("m-1").unwrap(),
    };
    let mut document = Document::new();
    document.apply(genesis(&entity, puts("first_name", "Twice"))).unwrap();
    let actor = Actor::of_device(&own, [1; 8]);
    let edit = |name: &str| {
        document
            .edit(puts("first_name", name), EditPurpose::Edit, None, &actor, 0)
            .unwrap()
            .bytes()
            .to_vec()
    };
    let push = |seq, prekey, changes: &[Vec<u8>]| {
        let body = serde_json::json!({ "changes": [row_of("m-1", changes)] }).to_string();
        client.ask(client.request("POST", "/api/sync/push", body.as_bytes(), seq, prekey))
    };
    let prekey = client.prekey();
    assert_eq!(push(1, prekey, &[document.changes()[0].bytes().to_vec(), edit("One")]).0, 200);
    let (status, answer) = push(2, prekey, &[edit("Two")]);
    assert_eq!((status, answer.unwrap()["rejected"].as_i64()), (200, Some(1)));
    let (status, answer) = push(3, prekey, &[edit("One")]);
    assert_eq!(status, 403);
    assert!(
        answer.unwrap()["detail"].as_str().unwrap().contains("paired again"),
        "sealed, and in words"
    );
    assert_eq!(desktop.run_json(&["devices"])["devices"][0]["frozen"], true);
    assert!(
        desktop.run_json(&["log"])["log"]
            .as_array()
            .unwrap()
            .iter()
            .any(|line| line["operation"] == "freeze")
    );
    phone.run_json(&["pair", "join", &desktop.qr()]);
    phone.app("UPDATE actor SET title = 'back' WHERE id = 1");
    assert_eq!(phone.sync().0, 1);
    assert_eq!(desktop.run_json(&["devices"])["devices"][0]["frozen"], false);
}

#[test]
fn a_hostile_device_names_no_endless_number_of_tables() {
    let mut node = Replica::empty(1);
    let rows: Vec<RowChange> = (0..4_200)
        .map(|n| {
            let entity = EntityId {
                table: TableName::parse(&format!("made_up_{n}")).unwrap(),
                uuid: SyncUuid::parse("x").unwrap(),
            };
            let mut row = row_of("x", &[genesis(&entity, puts("a", "b")).bytes().to_vec()]);
            row.entity_type = format!("made_up_{n}");
            row
        })
        .collect();
    let receipt = receive(&mut node, &rows);
    assert!(receipt.rejected.iter().any(|sentence| sentence.contains("tables already")));
    assert!(count(&node, "SELECT count(*) FROM sync_table") <= 4_096);
}

#[test]
fn a_push_larger_than_documented_is_refused_with_words() {
    let (desktop, phone): (TestNode, TestNode) = paired();
    let client = Handmade::of(&phone, &desktop);
    let prekey = client.prekey();
    let rows: Vec<_> = (0..=storysync_engine::exchange::ROWS_PUSHED_MAX)
        .map(|n| serde_json::json!({ "entity_type": "actor", "sync_uuid": n.to_string() }))
        .collect();
    let body = serde_json::json!({ "changes": rows }).to_string();
    let (status, answer) =
        client.ask(client.request("POST", "/api/sync/push", body.as_bytes(), 1, prekey));
    assert_eq!(status, 413);
    assert!(answer.unwrap()["detail"].as_str().unwrap().contains("send several"));
}

#[test]
fn a_gzip_bomb_is_cut_off_after_it_was_authenticated() {
    use std::io::Write as _;
    let (desktop, phone) = paired();
    let client = Handmade::of(&phone, &desktop);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..80 {
        encoder.write_all(&vec![b' '; 1024 * 1024]).unwrap();
    }
    let (status, answer) = client.ask(client.request(
        "POST",
        "/api/sync/push",
        &encoder.finish().unwrap(),
        1,
        client.prekey(),
    ));
    assert_eq!(status, 413);
    assert!(answer.unwrap()["detail"].as_str().unwrap().contains("64 MiB"));
    assert_eq!(phone.sync(), (0, 0));
}

#[test]
fn a_row_larger_than_a_change_travels_in_several() {
    let (mut a, mut b) = (desktop(), Replica::empty(2));
    b.sync(&mut a);
    let long = "x".repeat(1_900_000);
    a.app()
        .execute("UPDATE actor SET notes = ?1, title = ?1, job = ?1 WHERE id = 1", [&long])
        .unwrap();
    a.app()
        .execute(
            "INSERT INTO actor (first_name, notes, title, setting_id, sync_uuid, version) \
        VALUES ('Long', ?1, ?1, 1, 'long-1', 1)",
            [&long],
        )
        .unwrap();
    assert_eq!(a.capture(), 2);
    b.sync(&mut a);
    assert_same_content(&a.database, &b.database, true);
    assert_eq!(count(&b, "SELECT count(*) FROM actor WHERE length(notes) = 1900000"), 2);
    a.stop();
    a.start();
    a.write("UPDATE actor SET job = 'short' WHERE sync_uuid = 'long-1'");
    assert_eq!(a.capture(), 1, "the log reads back");
}

#[test]
fn a_row_too_large_for_its_first_change_is_migrated_and_travels_once_edited() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("app.db");
    let app = rusqlite::Connection::open(&path).unwrap();
    app.execute_batch("CREATE TABLE page (id INTEGER PRIMARY KEY, one TEXT, two TEXT, three TEXT)")
        .unwrap();
    let long = "y".repeat(1_500_000);
    app.execute("INSERT INTO page (one, two, three) VALUES (?1, ?1, 'short')", [&long]).unwrap();
    drop(app);
    let mut node = Replica::of_copy(&path, 1);
    let mut peer = Replica::of_copy(&path, 2);
    peer.sync(&mut node);
    assert_eq!(
        count(
            &node,
            "SELECT count(*) FROM page WHERE length(one) = 1500000 AND length(two) = 1500000"
        ),
        1,
        "where it was, it stays"
    );
    node.write("UPDATE page SET one = one || '!', two = two || '!'");
    node.capture();
    peer.sync(&mut node);
    assert_eq!(count(&peer, "SELECT length(one) FROM page"), 1_500_001, "edited, it travels");
    let conflicts = peer.engine().conflicts(now()).unwrap();
    assert_eq!(
        conflicts
            .iter()
            .map(|conflict| (conflict.kind.as_str(), conflict.fields[0].name.as_str()))
            .collect::<Vec<_>>(),
        [("schema", "two")]
    );
    assert_eq!(
        count(&peer, "SELECT length(two) FROM page"),
        1_500_000,
        "what stayed there is replaced by nothing unseen"
    );
}

#[test]
fn a_new_row_sent_under_another_rows_name_keeps_nobodys_edits_out() {
    let mut node = desktop();
    let stolen = chain("victim", 1);
    let all = |changes: &[Change]| {
        changes.iter().map(|change| change.bytes().to_vec()).collect::<Vec<_>>()
    };
    let receipt = receive(&mut node, &[row_of("elsewhere", &all(&stolen))]);
    assert!(
        receipt.rows.is_empty() && receipt.rejected[0].contains("another row"),
        "{:?}",
        receipt.rejected
    );
    let other = storysync_engine::trust::identity::DeviceId::of_key(&[5; 32]).to_string();
    let receipt = node.engine().receive(&[row_of("victim", &all(&stolen))], &other, now()).unwrap();
    assert_eq!((receipt.rows.len(), receipt.rejected_count()), (1, 0));
}

#[test]
fn a_row_that_was_filled_on_purpose_can_still_be_edited_and_pulled() {
    let (mut node, mut peer) = (desktop(), Replica::empty(2));
    peer.sync(&mut node);
    let entity = EntityId {
        table: TableName::parse("actor").unwrap(),
        uuid: SyncUuid::parse("m-1").unwrap(),
    };
    let mut base = Document::new();
    base.apply(genesis(&entity, puts("first_name", "Mallory"))).unwrap();
    let mut changes = vec![base.changes()[0].bytes().to_vec()];
    for n in 0..4_100_u64 {
        let actor = Actor::of_device(&HOSTILE, n.to_be_bytes());
        changes.push(
            base.edit(puts("first_name", &n.to_string()), EditPurpose::Edit, None, &actor, 0)
                .unwrap()
                .bytes()
                .to_vec(),
        );
    }
    let receipt = receive(&mut node, &[row_of("m-1", &changes)]);
    assert!(receipt.rejected_count() > 3_000);
    node.write("UPDATE actor SET first_name = 'Mine' WHERE sync_uuid = 'm-1'");
    assert_eq!(node.capture(), 1);
    peer.sync(&mut node);
    assert_eq!(count(&peer, "SELECT count(*) FROM actor WHERE first_name = 'Mine'"), 1);
}

#[test]
fn a_million_bad_changes_cost_a_bounded_number_of_sentences() {
    let mut node = Replica::empty(1);
    let mut row = row_of("x", &[]);
    row.automerge = vec!["!".to_owned(); 100_000];
    let receipt = receive(&mut node, &[row]);
    assert_eq!((receipt.rejected.len(), receipt.rejected_count()), (1_000, 100_000));
}

#[test]
fn a_page_of_plain_rows_fits_into_a_sealed_body_and_a_row_larger_than_one_is_named() {
    let mut node = desktop();
    let long = "x".repeat(1_900_000);
    node.app().execute("UPDATE actor SET notes = ?1 WHERE id <= 9", [&long]).unwrap();
    let columns = ["notes", "title", "job", "first_name", "last_name"];
    for column in columns {
        node.app()
            .execute(&format!("UPDATE actor SET {column} = ?1 WHERE id = 10"), [&long])
            .unwrap();
        node.capture();
    }
    let (mut request, mut pages, mut named, mut told) =
        (PullRequest { data: true, ..PullRequest::default() }, 0, 0, 0);
    loop {
        let page = node.engine().answer_pull(&request, &hostile_id(), now()).unwrap();
        let size = serde_json::to_vec(&page).unwrap().len();
        assert!(size < storysync_engine::trust::envelope::SEALED_BYTES_MAX, "{size} bytes");
        named += page.changes.iter().filter(|row| row.too_large && row.data.is_none()).count();
        told += page
            .changes
            .iter()
            .filter(|row| {
                row.data.as_ref().is_some_and(|data| {
                    data.get("notes")
                        .and_then(|notes| notes.as_str())
                        .is_some_and(|notes| notes.len() == long.len())
                })
            })
            .count();
        pages += 1;
        if !page.has_more {
            break;
        }
        request.cursor = Some(page.cursor);
    }
    assert!(pages > 2 && named >= 1 && told >= 9, "{pages} pages, {named} named, {told} told");
}
