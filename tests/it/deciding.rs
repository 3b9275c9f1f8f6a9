//! Deciding through every interface: the command line, HTTP on loopback, and sealed HTTP from a
//! paired phone.

use serde_json::{Value, json};
use storysync::net::client;
use storysync::net::node_state::system_rng;
use storysync_engine::store::key_file;
use storysync_engine::store::trust::TrustStore;

use crate::fixtures::{self, Dialect};
use crate::nodes::*;
use crate::support::assert_same_content;

/// A sealed request in the name of a node, as a small client without automerge makes it.
fn sealed_post(node: &TestNode, target: &str, body: &Value) -> Result<Value, String> {
    let identity = key_file::load_or_create(&node.data_dir(), &mut system_rng()).unwrap();
    let trust = TrustStore::open(&node.data_dir()).unwrap();
    let device = trust.devices().unwrap().remove(0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(client::post(
        &identity,
        &trust,
        &device,
        target,
        body.to_string().as_bytes(),
    ));
    answer.map(|bytes| serde_json::from_slice(&bytes).unwrap()).map_err(|error| error.to_string())
}

fn conflicting() -> (TestNode, TestNode, String) {
    let (desktop, phone) = paired();
    let uuid: String = desktop.value("SELECT sync_uuid FROM actor WHERE id = 1");
    desktop.app("UPDATE actor SET title = 'Queen' WHERE id = 1");
    phone.app(&format!("UPDATE actor SET title = 'Empress' WHERE sync_uuid = '{uuid}'"));
    phone.sync();
    (desktop, phone, uuid)
}

fn open(node: &TestNode) -> Vec<Value> {
    node.run_json(&["conflicts"])["conflicts"].as_array().unwrap().clone()
}

#[test]
fn a_phone_decides_a_conflict_over_the_sealed_lan() {
    let (desktop, phone, uuid) = conflicting();
    let id = open(&desktop)[0]["id"].clone();
    assert!(
        sealed_post(&phone, "/api/sync/resolve", &json!({ "id": id }))
            .unwrap_err()
            .contains("take")
    );
    assert!(
        sealed_post(&phone, "/api/sync/resolve", &json!({ "id": "0000", "take": "mine" }))
            .unwrap_err()
            .contains("no open conflict")
    );
    assert_eq!(
        sealed_post(&phone, "/api/sync/resolve", &json!({ "id": id, "take": "mine" })).unwrap()["resolved"],
        1
    );
    assert_eq!(
        desktop.value::<String>("SELECT title FROM actor WHERE id = 1"),
        "Empress",
        "mine is the phone's"
    );
    phone.sync();
    assert!(open(&desktop).is_empty() && open(&phone).is_empty());
    assert_same_content(&desktop.database, &phone.database, true);
    let phone_id = phone.run_json(&["status"])["device_id"].clone();
    let history = desktop.run_json(&["history", "actor", &uuid]);
    assert_eq!(
        history["history"].as_array().unwrap().last().unwrap()["device"],
        phone_id,
        "decided by the phone"
    );
    assert_eq!(desktop.run_json(&["conflicts", "--ended"])["ended"][0]["ended_by"], phone_id);
}

#[test]
fn the_loopback_listener_lists_decides_tells_history_and_undoes() {
    let (desktop, phone, uuid) = conflicting();
    let (address, token) = admin(&desktop);
    let (status, body) = http_get(&address, "/api/conflicts", &token);
    let told: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, told["conflicts"].as_array().unwrap().len()), (200, 1));
    let id = told["conflicts"][0]["id"].as_str().unwrap();
    let target = format!("/api/conflicts/{id}/resolve");
    assert_eq!(http_post(&address, &target, "wrong", &json!({ "take": "mine" })).0, 401);
    assert_eq!(http_post(&address, &target, &token, &json!({ "take": "sideways" })).0, 422);
    assert_eq!(
        http_post(&address, &target, &token, &json!({ "fields": { "nonsense": 1 } })).0,
        422
    );
    assert_eq!(
        http_post(&address, &target, &token, &json!({ "fields": { "title": "Both" } })),
        (200, json!({ "resolved": 1 }))
    );
    assert_eq!(
        http_post(&address, &target, &token, &json!({ "take": "mine" })).0,
        404,
        "deciding twice"
    );
    phone.sync();
    assert!(open(&phone).is_empty());
    let (status, body) = http_get(&address, &format!("/api/history/actor/{uuid}"), &token);
    let history: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, history["history"].as_array().unwrap().len()), (200, 4));
    let (status, undone) = http_post(
        &address,
        "/api/undo",
        &token,
        &json!({ "entity_type": "actor", "sync_uuid": uuid }),
    );
    assert_eq!((status, undone["undone"][0]["fields"][0]["old"].as_str()), (200, Some("Both")));
    assert_eq!(
        http_post(
            &address,
            "/api/undo",
            &token,
            &json!({ "entity_type": "actor", "sync_uuid": "nobody" })
        )
        .0,
        404
    );
    assert_eq!(http_post(&address, "/api/undo", &token, &json!({ "device": "x" })).0, 422);
    assert_eq!(
        http_post(&address, "/api/conflicts/resolve", &token, &json!({ "all": "theirs" })),
        (200, json!({ "resolved": 0, "left": [] }))
    );
    let (status, refused) = exchange(
        &address,
        format!(
            "POST /api/undo HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer \
            {token}\r\nContent-Length: 1\r\nConnection: close\r\n\r\n{{"
        )
        .as_bytes(),
    );
    assert!(status == 422 && String::from_utf8_lossy(&refused).contains("\"detail\""), "{status}");
}

#[test]
fn three_devices_in_a_chain_see_a_conflict_and_its_end() {
    // The desktop and the laptop never meet: the phone serves both.
    let desktop = TestNode::with_fixture(Dialect::Newer);
    let mut phone = TestNode::empty();
    let laptop = TestNode::empty();
    phone.serve();
    for node in [&desktop, &laptop] {
        node.run_json(&["pair", "join", &phone.qr()]);
        node.sync();
    }
    let uuid: String = desktop.value("SELECT sync_uuid FROM actor WHERE id = 1");
    desktop.app("UPDATE actor SET title = 'by the desktop' WHERE id = 1");
    laptop.app(&format!("UPDATE actor SET title = 'by the laptop' WHERE sync_uuid = '{uuid}'"));
    for node in [&desktop, &laptop, &desktop] {
        node.sync();
    }
    for node in [&desktop, &phone, &laptop] {
        let conflicts = open(node);
        assert_eq!(
            (conflicts.len(), conflicts[0]["fields"][0]["values"].as_array().unwrap().len()),
            (1, 2)
        );
    }
    let id = open(&phone)[0]["id"].as_str().unwrap().to_owned();
    phone.run_json(&["conflicts", "resolve", &id, "--field", "title=by both"]);
    for node in [&desktop, &laptop] {
        node.sync();
    }
    for node in [&desktop, &phone, &laptop] {
        assert!(open(node).is_empty());
        assert_eq!(
            node.value::<String>(&format!("SELECT title FROM actor WHERE sync_uuid = '{uuid}'")),
            "by both"
        );
    }
    assert_same_content(&desktop.database, &laptop.database, true);
}

#[test]
fn history_and_undo_work_from_the_command_line() {
    let (desktop, phone) = paired();
    let uuid: String = desktop.value("SELECT sync_uuid FROM actor WHERE id = 1");
    let title: String = desktop.value("SELECT title FROM actor WHERE id = 1");
    let since = storysync::net::node_state::now().to_rfc3339();
    phone.app(&format!(
        "UPDATE actor SET title = 'Typo' WHERE sync_uuid = '{uuid}'; DELETE FROM \
        object_ WHERE id = 3"
    ));
    phone.sync();
    let text = String::from_utf8(desktop.run(&["history", "actor", &uuid]).stdout).unwrap();
    assert!(text.contains("existed by before syncing") && text.contains("\"Typo\""), "{text}");
    let phone_id = phone.run_json(&["status"])["device_id"].as_str().unwrap().to_owned();
    let shown = desktop.run_json(&["undo", "--device", &phone_id, "--since", &since]);
    assert_eq!((shown["undone"].as_array().unwrap().len(), &shown["done"]), (2, &json!(false)));
    assert_eq!(
        desktop.value::<String>("SELECT title FROM actor WHERE id = 1"),
        "Typo",
        "only shown"
    );
    assert_eq!(
        desktop.run_json(&["undo", "--device", &phone_id, "--since", &since, "--yes"])["done"],
        true
    );
    phone.sync();
    for node in [&desktop, &phone] {
        assert_eq!(
            node.value::<String>(&format!("SELECT title FROM actor WHERE sync_uuid = '{uuid}'")),
            title
        );
        assert_eq!(node.value::<i64>("SELECT count(*) FROM object_"), 10);
    }
    // Undoing the undoing, change by change.
    desktop.run_json(&["undo", "actor", &uuid]);
    assert_eq!(desktop.value::<String>("SELECT title FROM actor WHERE id = 1"), "Typo");
    assert!(desktop.fails(&["undo", "actor", "nobody"]).contains("no row of table actor"));
    let wrong = desktop.run(&["undo", "--device", &phone_id, "--since", "yesterday"]);
    assert!(
        wrong.status.code() == Some(2)
            && String::from_utf8_lossy(&wrong.stderr).contains("2026-01-31T12:00:00Z")
    );
    assert!(desktop.fails(&["history", "actor", "nobody"]).contains("no row of table actor"));
    assert_eq!(desktop.run(&["undo", "--device", &phone_id]).status.code(), Some(2));
}

#[test]
fn a_braked_deletion_is_listed_and_approved_from_the_command_line_and_over_http() {
    let (desktop, phone) = paired();
    let rows: String = (0..300)
        .map(|number| {
            format!(
                "INSERT INTO faction (name, setting_id, sync_uuid, version) \
            VALUES ('f{number}', 1, 'f{number}', 1);"
            )
        })
        .collect();
    desktop.app(&rows);
    phone.sync();
    phone.app("DELETE FROM faction WHERE name LIKE 'f%' AND sync_uuid LIKE 'f%'");
    phone.sync();
    assert_eq!(desktop.value::<i64>("SELECT count(*) FROM faction"), 310);
    let brakes = desktop.run_json(&["status"])["brakes"].clone();
    assert_eq!((&brakes[0]["rows"], &brakes[0]["entity_type"]), (&json!(300), &json!("faction")));
    let (address, token) = admin(&desktop);
    let (_, body) = http_get(&address, "/api/brakes", &token);
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["brakes"], brakes);
    assert!(desktop.fails(&["approve", "4711"]).contains("no deletions wait"));
    assert_eq!(http_post(&address, "/api/brakes/4711/approve", &token, &json!({})).0, 404);
    assert_eq!(desktop.run_json(&["approve", brakes[0]["id"].as_str().unwrap()])["rows"], 300);
    assert_eq!(desktop.value::<i64>("SELECT count(*) FROM faction"), 10);
    assert_same_content(&desktop.database, &phone.database, true);
}

#[test]
fn a_phone_without_automerge_pushes_rows_over_the_sealed_lan() {
    let (desktop, phone) = paired();
    let uuid: String = desktop.value("SELECT sync_uuid FROM actor WHERE id = 1");
    let page =
        sealed_post(&phone, "/api/sync/pull", &json!({ "entity_types": ["actor"] })).unwrap();
    let mut row = page["changes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["sync_uuid"] == uuid.as_str())
        .unwrap()
        .clone();
    desktop.app("UPDATE actor SET title = 'Empress', job = 'ruler' WHERE id = 1");
    row.as_object_mut().unwrap().remove("automerge");
    row["data"]["title"] = "Queen".into();
    row["data"]["portrait_style"] = "unknown here".into();
    // The old server's name of the field is taken, too.
    let data = row.as_object_mut().unwrap().remove("data").unwrap();
    row["entity_data"] = data;
    let reply = sealed_post(&phone, "/api/sync/push", &json!({ "changes": [row] })).unwrap();
    assert_eq!((&reply["accepted"], &reply["rejected"]), (&json!(1), &json!(0)), "{reply}");
    let conflict = &reply["conflicts"][0];
    assert_eq!(
        (
            &conflict["mobile_data"]["title"],
            &conflict["desktop_data"]["title"],
            &conflict["fields"][0]["name"]
        ),
        (&json!("Queen"), &json!("Empress"), &json!("title"))
    );
    assert_eq!(
        desktop.value::<String>("SELECT job FROM actor WHERE id = 1"),
        "ruler",
        "what the phone did not touch is no edit of its"
    );
    assert_eq!(open(&desktop).len(), 1);
    assert_eq!(fixtures::ROWS_IN_ALL, 645);
}
