//! Trust over time: keys at rest, tokens that are replaced, devices sent away, keys in use twice,
//! and the log of all that.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use storysync_engine::store::trust::{EVENTS_MAX, EventKind, Installation, Revocation, TrustStore};
use storysync_engine::trust::identity::{DeviceId, Secret};

use crate::handmade::{Handmade, push_of};
use crate::nodes::*;

pub fn id(node: &TestNode) -> String {
    node.run_json(&["status"])["device_id"].as_str().unwrap().to_owned()
}

fn trust(node: &TestNode) -> TrustStore {
    TrustStore::open(&node.data_dir()).unwrap()
}

fn change_trust(node: &TestNode, sql: &str) {
    rusqlite::Connection::open(node.data_dir().join("trust.db"))
        .unwrap()
        .execute_batch(sql)
        .unwrap();
}

fn token_of(node: &TestNode) -> Secret {
    trust(node).devices().unwrap()[0].token.clone().unwrap()
}

pub fn logged(node: &TestNode, operation: &str) -> Vec<Value> {
    let log = node.run_json(&["log"]);
    log["log"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|line| line["operation"] == operation)
        .cloned()
        .collect()
}

/// The new token a device is told with a request that is no recording.
fn successor(client: &Handmade) -> Option<Secret> {
    let (status, answer) =
        client.ask(client.request("GET", "/api/sync/status", &[], 1, client.prekey()));
    assert_eq!(status, 200);
    answer.unwrap()["auth_token"]
        .as_str()
        .map(|token| Secret::from_bytes(storysync_engine::trust::from_base64url(token).unwrap()))
}

fn sync_error(node: &TestNode) -> String {
    let output = node.run(&["sync", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    report["peers"][0]["error"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_revoked_device_cannot_sync() {
    let (desktop, phone) = paired();
    let id = phone.run_json(&["status"])["device_id"].as_str().unwrap().to_owned();
    desktop.run_json(&["devices", "revoke", &id]);
    let output = phone.run(&["sync", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        report["peers"][0]["error"].as_str().unwrap().contains("does not accept this device"),
        "{report}"
    );
    assert_eq!(desktop.run_json(&["devices"])["devices"][0]["is_active"], false);
}

#[test]
fn keys_others_can_read_are_refused() {
    use std::os::unix::fs::PermissionsExt;
    let node = TestNode::empty();
    let key = node.data_dir().join("identity.key");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(node.data_dir()).unwrap().permissions().mode() & 0o777, 0o700);
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
    let sentence = node.fails(&["status"]);
    assert!(sentence.contains("chmod 0600"), "{sentence}");
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::set_permissions(node.data_dir(), PermissionsExt::from_mode(0o755)).unwrap();
    assert!(node.fails(&["status"]).contains("chmod 0700"));
}

#[test]
fn a_token_is_replaced_after_thirty_days_and_the_old_one_dies_at_the_first_use_of_the_new() {
    let (desktop, phone) = paired();
    let old = Handmade::of(&phone, &desktop);
    assert!(successor(&old).is_none(), "a young token has no successor");
    change_trust(
        &desktop,
        &format!(
            "UPDATE trust_device SET token_made_at = token_made_at - {}",
            storysync_engine::store::trust::TOKEN_LIFETIME_MS
        ),
    );
    // The answer that tells it gets lost: the old one goes on, and no other is made the same day.
    assert!(old.status()["auth_token"].is_null(), "what may be a recording is told nothing");
    assert!(successor(&old).is_some());
    assert!(successor(&old).is_none());
    assert_eq!(phone.sync(), (0, 0));
    assert_eq!(token_of(&phone), *old.device.token.as_ref().unwrap());
    // A day later the next one arrives.
    change_trust(
        &desktop,
        "UPDATE trust_device SET next_token_made_at = next_token_made_at - 25 * 3600 * 1000",
    );
    phone.app("UPDATE actor SET title = 'with a new token' WHERE id = 1");
    assert_eq!(phone.sync(), (1, 0));
    let new = Handmade::of(&phone, &desktop);
    assert_ne!(token_of(&phone), *old.device.token.as_ref().unwrap());
    assert_eq!(old.push_actor("Old token", 1, new.prekey()).0, 401);
    assert!(successor(&new).is_none());
    assert_eq!(phone.sync(), (0, 0));
}

#[test]
fn a_successor_counts_as_used_only_once_its_request_was_proven() {
    let (desktop, phone) = paired();
    change_trust(&desktop, "UPDATE trust_device SET token_made_at = 0");
    let old = Handmade::of(&phone, &desktop);
    let next = successor(&old).unwrap();
    // Whoever holds the new token but no keys does not void the old one.
    let device =
        storysync_engine::store::trust::TrustedDevice { token: Some(next), ..old.device.clone() };
    let thief = Handmade { device, ..Handmade::of(&phone, &desktop) };
    assert_eq!(thief.send(&thief.http("POST", "/api/sync/push", b"SSY1 something")).0, 401);
    assert_eq!(old.push_actor("Still", 1, old.prekey()).0, 200);
    assert_eq!(
        thief.status()["device_id"],
        id(&desktop).as_str(),
        "with the keys it is the device"
    );
    assert_eq!(old.send(&old.http("POST", "/api/sync/push", b"")).0, 401);
}

#[test]
fn revoking_takes_effect_within_the_request_and_drops_connections() {
    let (desktop, phone) = paired();
    let client = Handmade::of(&phone, &desktop);
    let prekey = client.prekey();
    // A connection of the phone that is open, proven and idle.
    let mut open = TcpStream::connect(&client.address).unwrap();
    open.set_read_timeout(Some(Duration::from_secs(4))).unwrap();
    let (sealed, _) = client.seal("GET", "/api/sync/status", &[], prekey.kid, 9, &prekey.key);
    let request = String::from_utf8_lossy(&client.http("GET", "/api/sync/status", &sealed))
        .replace("connection: close\r\n", "");
    open.write_all(request.as_bytes()).unwrap();
    let mut head = [0; 12];
    open.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    let begun = Instant::now();
    desktop.run_json(&["devices", "revoke", &id(&phone)]);
    let mut rest = Vec::new();
    drop(open.read_to_end(&mut rest));
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "the connection was closed, not left to its timeout"
    );
    assert_eq!(client.push_actor("Too late", 1, prekey).0, 401);
    assert_eq!(desktop.value::<i64>("SELECT count(*) FROM actor WHERE first_name = 'Too late'"), 0);
    let wiped: i64 = rusqlite::Connection::open(desktop.data_dir().join("trust.db"))
        .unwrap()
        .query_row(
            "SELECT count(*) FROM trust_device WHERE pair_secret IS NULL AND token_hash IS \
            NULL AND token IS NULL",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(wiped, 1);
    assert_eq!(logged(&desktop, "revoke").len(), 1);
}

#[test]
fn a_push_that_waits_while_its_device_is_revoked_writes_nothing() {
    let (desktop, phone) = paired();
    let client = Handmade::of(&phone, &desktop);
    let request = client.request("POST", "/api/sync/push", &push_of("Waited"), 1, client.prekey());
    let app = rusqlite::Connection::open(&desktop.database).unwrap();
    app.execute_batch("BEGIN IMMEDIATE").unwrap();
    let waiting = std::thread::spawn(move || client.ask(request).0);
    std::thread::sleep(Duration::from_millis(500));
    let (address, token) = admin(&desktop);
    let target = format!("/api/devices/{}", id(&phone));
    let revoked = exchange(
        &address,
        format!(
            "DELETE {target} HTTP/1.1\r\nHost: {address}\r\nAuthorization: \
            Bearer {token}\r\nConnection: close\r\n\r\n"
        )
        .as_bytes(),
    );
    assert_eq!(revoked.0, 200, "revoking does not wait for the locked file");
    app.execute_batch("ROLLBACK").unwrap();
    assert_ne!(waiting.join().unwrap(), 200);
    assert_eq!(desktop.value::<i64>("SELECT count(*) FROM actor WHERE first_name = 'Waited'"), 0);
}

#[test]
fn a_push_that_is_queued_when_its_device_is_revoked_writes_nothing() {
    let (desktop, phone) = paired();
    let other = TestNode::empty();
    other.run_json(&["pair", "join", &desktop.qr()]);
    let (client, busy) = (Handmade::of(&phone, &desktop), Handmade::of(&other, &desktop));
    let rows: Vec<Value> = (0..8_000).map(|n| serde_json::json!({ "entity_type": "actor", "sync_uuid": format!("busy-{n}"), "operation": "create", "version": 1, "data": { "first_name": "Busy", "setting_id": 1 } })).collect();
    let long = busy.request(
        "POST",
        "/api/sync/push",
        serde_json::json!({ "changes": rows }).to_string().as_bytes(),
        1,
        busy.prekey(),
    );
    let request = client.request("POST", "/api/sync/push", &push_of("Queued"), 1, client.prekey());
    let phone_id = id(&phone);
    std::thread::scope(|scope| {
        let working = scope.spawn(move || busy.ask(long).0);
        while desktop.value::<i64>("SELECT count(*) FROM actor WHERE first_name = 'Busy'") == 0 {
            assert!(!working.is_finished(), "the long push was refused");
            std::thread::sleep(Duration::from_millis(5));
        }
        scope.spawn(|| drop(client.send(&request.bytes)));
        std::thread::sleep(Duration::from_millis(150));
        let (address, token) = admin(&desktop);
        let head = format!(
            "DELETE /api/devices/{phone_id} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer \
                {token}\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(exchange(&address, head.as_bytes()).0, 200);
        assert!(!working.is_finished(), "the Engine was not busy: this proves nothing");
        assert_eq!(working.join().unwrap(), 200);
    });
    assert_eq!(desktop.value::<i64>("SELECT count(*) FROM actor WHERE first_name = 'Busy'"), 8_000);
    assert_eq!(desktop.value::<i64>("SELECT count(*) FROM actor WHERE first_name = 'Queued'"), 0);
}

#[test]
fn a_revocation_reaches_the_other_devices_and_an_old_one_does_not_hit_who_was_paired_anew() {
    // Desktop, laptop and phone know each other; the phone is lost, and revoked on the desktop.
    let (mut desktop, mut phone) = paired();
    let mut laptop = TestNode::empty();
    laptop.run_json(&["pair", "join", &desktop.qr()]);
    laptop.serve();
    phone.run_json(&["pair", "join", &laptop.qr()]);
    desktop.run_json(&["devices", "revoke", &id(&phone)]);
    let (phone_id, desktop_id) = (id(&phone), id(&desktop));
    let paired_with_phone = |node: &TestNode| {
        let devices = node.run_json(&["devices"]);
        devices["devices"]
            .as_array()
            .unwrap()
            .iter()
            .find(|device| device["device_id"] == phone_id.as_str())
            .unwrap()["is_active"]
            == true
    };
    assert!(paired_with_phone(&laptop));
    // The phone does not answer; the desktop does.
    laptop.run(&["sync"]);
    assert!(!paired_with_phone(&laptop), "told with the next exchange");
    assert!(logged(&laptop, "revoke")[0]["detail"].as_str().unwrap().contains(&desktop_id));
    assert!(
        phone.run_json(&["devices"])["devices"]
            .as_array()
            .unwrap()
            .iter()
            .any(|device| device["is_active"] == true),
        "the lost phone itself hears nothing"
    );
    // The phone is found again, and paired with both.
    phone.run_json(&["pair", "join", &laptop.qr()]);
    laptop.run(&["sync"]);
    assert!(paired_with_phone(&laptop), "the same news does not hit twice");
    phone.run_json(&["pair", "join", &desktop.qr()]);
    laptop.run(&["sync"]);
    assert!(paired_with_phone(&laptop) && paired_with_phone(&desktop));
    for node in [&mut desktop, &mut laptop, &mut phone] {
        node.stop();
    }
}

#[test]
fn news_of_a_revocation_travels_with_a_pull_too_and_leaves_the_teller_in() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = TrustStore::open(folder.path()).unwrap();
    let (teller, other) = (DeviceId::of_key(&[1; 32]), DeviceId::of_key(&[2; 32]));
    for device in [1, 2] {
        pair_in_store(&store, device, 1_000);
    }
    store.make_owner(&teller, 1_000).unwrap();
    let told = |device: &DeviceId, revoked_at| {
        vec![Revocation { device_id: device.to_string(), revoked_at }]
    };
    assert_eq!(
        store.heed(&teller, &told(&other, 999), 5_000).unwrap(),
        [],
        "revoked before it was paired with us"
    );
    assert_eq!(
        store.heed(&teller, &told(&teller, 2_000), 5_000).unwrap(),
        [],
        "nobody sends itself away so"
    );
    assert_eq!(
        store.heed(&teller, &told(&DeviceId::of_key(&[9; 32]), 2_000), 5_000).unwrap(),
        [],
        "a stranger"
    );
    assert_eq!(
        store.heed(&teller, &told(&other, 2_000), 5_000).unwrap(),
        std::slice::from_ref(&other)
    );
    assert_eq!(
        store.revocations().unwrap(),
        told(&other, 2_000),
        "passed on with the time it was first said"
    );
    pair_in_store(&store, 2, 6_000);
    assert_eq!(store.heed(&teller, &told(&other, 2_000), 7_000).unwrap(), []);
    assert!(store.revocations().unwrap().is_empty());
    // Once paired again, the same device can not send it away a second time: that is for a person.
    for revoked_at in [7_500, 99_000] {
        assert_eq!(store.heed(&teller, &told(&other, revoked_at), 8_000).unwrap(), []);
    }
    assert!(
        store
            .events(10)
            .unwrap()
            .iter()
            .any(|event| event.kind == "alarm" && event.detail.contains("again"))
    );
    // A clock that runs ahead says nothing about time to come.
    pair_in_store(&store, 3, 8_000);
    let third = DeviceId::of_key(&[3; 32]);
    assert_eq!(
        store.heed(&teller, &told(&third, 99_000), 9_000).unwrap(),
        std::slice::from_ref(&third)
    );
    assert_eq!(store.revocations().unwrap(), told(&third, 9_000));
}

pub fn pair_in_store(store: &TrustStore, device: u8, at: i64) {
    let paired = storysync_engine::trust::pairing::PairedDevice {
        identity_key: [device; 32],
        static_key: [0; 32],
        name: "phone".into(),
        platform: "linux".into(),
        pair: storysync_engine::trust::envelope::PairSecret {
            secret: Secret::from_bytes([device; 32]),
            epoch: 1,
        },
        token_from_device: Some(Secret::from_bytes([device; 32])),
        token_to_device: Some(Secret::from_bytes([device; 32])),
        port: None,
        reads_sealed_token: true,
    };
    store.store_pairing(&paired, &[], at).unwrap();
}

#[test]
fn a_device_leaves_by_itself_and_sends_nobody_else_away() {
    let (desktop, phone) = paired();
    let other = TestNode::empty();
    other.run_json(&["pair", "join", &desktop.qr()]);
    let client = Handmade::of(&phone, &desktop);
    let prekey = client.prekey();
    let (own, others) =
        (format!("/api/devices/{}", id(&phone)), format!("/api/devices/{}", id(&other)));
    assert_eq!(client.ask(client.request("DELETE", &others, &[], 1, prekey)).0, 403);
    let (status, answer) = client.ask(client.request("DELETE", &own, &[], 2, prekey));
    assert_eq!(status, 200, "told before the connection ends");
    assert!(answer.is_some());
    assert!(sync_error(&phone).contains("does not accept this device"));
    assert_eq!(other.sync().0, 0);
    assert!(
        trust(&desktop).revocations().unwrap().is_empty(),
        "whom it leaves elsewhere is its own affair"
    );
}

#[test]
fn a_new_name_is_known_to_the_others_after_the_next_exchange() {
    let (mut desktop, mut phone) = paired();
    let name_of_other = |node: &TestNode| {
        node.run_json(&["devices"])["devices"][0]["device_name"].as_str().unwrap().to_owned()
    };
    desktop.stop();
    desktop.serve_with(&["--pairing-approval", "none", "--name", "Writing desk"]);
    phone.serve_with(&["--pairing-approval", "none", "--name", "Pocket"]);
    phone.sync();
    assert_eq!(
        (name_of_other(&phone), name_of_other(&desktop)),
        ("Writing desk".to_owned(), "Pocket".to_owned())
    );
    assert_eq!(desktop.value::<String>("SELECT device_name FROM sync_device"), "Pocket");
    assert_eq!((logged(&phone, "rename").len(), logged(&desktop, "rename").len()), (1, 1));
}

#[test]
fn lost_keys_make_a_new_device_and_say_so_in_words() {
    let (desktop, phone) = paired();
    let former = id(&phone);
    let kept = std::fs::read(phone.data_dir().join("identity.key")).unwrap();
    std::fs::remove_file(phone.data_dir().join("identity.key")).unwrap();
    let output = phone.run(&["status", "--json"]);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        words.contains("keys are gone") && words.contains(&former) && words.contains("pair show"),
        "{words}"
    );
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_ne!(status["device_id"], former.as_str());
    assert_eq!(status["entities"], 645, "no row is lost");
    assert_eq!(status["devices"][0]["is_active"], false, "nobody can prove to be the old device");
    assert!(phone.run(&["status", "--json"]).stderr.is_empty(), "said once");
    assert_eq!(logged(&phone, "new-identity").len(), 1);
    // Were it only mislaid, everything is there again.
    let key = phone.data_dir().join("identity.key");
    std::fs::rename(&key, phone.data_dir().join("new.key")).unwrap();
    std::fs::write(&key, &kept).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(id(&phone), former);
    phone.sync();
    std::fs::rename(phone.data_dir().join("new.key"), &key).unwrap();
    // And it goes on as a new one.
    phone.run_json(&["pair", "join", &desktop.qr()]);
    phone.app("UPDATE actor SET title = 'by the new keys' WHERE id = 1");
    assert_eq!(phone.sync().0, 1);
    assert_eq!(
        desktop.value::<String>("SELECT title FROM actor WHERE title LIKE 'by the%'"),
        "by the new keys"
    );
}

#[test]
fn keys_that_vanish_under_a_serving_node_make_no_new_device() {
    let (desktop, phone) = paired();
    let (key, away) = (desktop.data_dir().join("identity.key"), desktop.folder.path().join("away"));
    std::fs::rename(&key, &away).unwrap();
    assert!(desktop.fails(&["status"]).contains("while a node is serving"));
    assert!(!key.exists());
    std::fs::rename(&away, &key).unwrap();
    assert_eq!(phone.sync(), (0, 0));
}

#[test]
fn a_data_directory_that_is_moved_and_moved_back_is_not_in_use_twice() {
    let (desktop, phone) = paired();
    phone.sync();
    let elsewhere = phone.folder.path().join("elsewhere");
    std::fs::rename(phone.data_dir(), &elsewhere).unwrap();
    let moved = Command::new(BINARY)
        .args(["sync", "--db"])
        .arg(&phone.database)
        .arg("--data-dir")
        .arg(&elsewhere)
        .output()
        .unwrap();
    assert!(moved.status.success(), "{}", String::from_utf8_lossy(&moved.stderr));
    std::fs::remove_dir_all(phone.data_dir()).ok();
    std::fs::rename(&elsewhere, phone.data_dir()).unwrap();
    phone.sync();
    assert!(desktop.run_json(&["devices"])["devices"][0]["keys_in_use_twice_at"].is_null());
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

#[test]
fn a_copied_data_directory_in_use_twice_is_noticed_by_both_sides() {
    let (desktop, phone) = paired();
    phone.sync();
    // The whole phone, copied: keys, list of devices, database.
    let twin = TestNode::without_database();
    copy(&phone.database, &twin.database);
    copy(&phone.data_dir(), &twin.data_dir());
    twin.sync();
    assert!(
        desktop.run_json(&["devices"])["devices"][0]["keys_in_use_twice_at"].is_null(),
        "a data directory may move"
    );
    let output = phone.run(&["sync", "--json"]);
    assert!(output.status.success());
    let devices = desktop.run_json(&["devices"]);
    assert!(
        devices["devices"][0]["keys_in_use_twice_at"].is_string(),
        "the first one came back: {devices}"
    );
    assert_eq!(logged(&desktop, "twice").len(), 1);
    let told = phone
        .command(&["sync"])
        .env("STORYSYNC_LOG", "warn")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(words.contains("keys of this device are in use from another place"), "{words}");
    // Both go on writing meanwhile, and nothing is lost.
    phone.app("UPDATE actor SET title = 'phone' WHERE id = 1");
    twin.app("UPDATE actor SET job = 'twin' WHERE id = 1");
    phone.sync();
    twin.sync();
    phone.sync();
    assert_eq!(
        phone.value::<String>("SELECT title || '/' || job FROM actor WHERE id = 1"),
        "phone/twin"
    );
}

#[test]
fn an_installation_that_comes_back_means_two_and_one_that_moves_on_does_not() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = TrustStore::open(folder.path()).unwrap();
    pair_in_store(&store, 1, 1_000);
    let device = DeviceId::of_key(&[1; 32]);
    let seen = |name: &str| store.note_installation(&device, name, 2_000).unwrap();
    let places = [
        ("a", Installation::Same),
        ("a", Installation::Same),
        ("b", Installation::Other),
        ("b", Installation::Same),
        ("a", Installation::Twice),
    ];
    for (name, expected) in places.into_iter().chain([
        ("b", Installation::Twice),
        ("c", Installation::Other),
        ("", Installation::Same),
    ]) {
        assert_eq!(seen(name), expected, "{name}");
    }
    for boot in 0..100 {
        assert_eq!(seen(&format!("boot {boot}")), Installation::Other);
    }
    assert_eq!(store.find(&device).unwrap().unwrap().twice_at, Some(2_000));
    pair_in_store(&store, 1, 3_000);
    assert_eq!(
        store.find(&device).unwrap().unwrap().twice_at,
        None,
        "paired anew, nothing is held against it"
    );
}

#[test]
fn one_node_at_most_serves_from_a_data_directory() {
    let mut desktop = TestNode::empty();
    desktop.serve();
    let sentence =
        desktop.fails(&["serve", "--host", "127.0.0.1", "--port", "0", "--admin-port", "0"]);
    assert!(sentence.contains("already serving from"), "{sentence}");
    desktop.kill();
    desktop.serve();
}

#[test]
fn the_log_tells_pairings_revocations_refusals_and_decisions_and_is_bounded() {
    let (desktop, phone) = paired();
    let client = Handmade::of(&phone, &desktop);
    client.ask(client.request(
        "POST",
        "/api/sync/push",
        br#"{"changes":[{"entity_type":"actor","sync_uuid":"x","automerge":["AAAA"]}]}"#,
        1,
        client.prekey(),
    ));
    client.send(&client.http("POST", "/api/sync/push", b"nobody"));
    phone.app("UPDATE actor SET title = 'Queen' WHERE id = 1");
    let uuid: String = phone.value("SELECT sync_uuid FROM actor WHERE id = 1");
    desktop.app(&format!("UPDATE actor SET title = 'Empress' WHERE sync_uuid = '{uuid}'"));
    phone.sync();
    desktop.run_json(&["conflicts", "resolve", "--all", "mine"]);
    let log = desktop.run_json(&["log"]);
    let operations: Vec<&str> = log["log"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line["operation"].as_str().unwrap())
        .collect();
    for operation in ["pair", "refuse", "resolve", "update"] {
        assert!(operations.contains(&operation), "{operation} is missing: {operations:?}");
    }
    assert!(
        !log.to_string().contains("Empress") && !log.to_string().contains("Queen"),
        "no story text"
    );
    let text = String::from_utf8(desktop.run(&["log"]).stdout).unwrap();
    assert!(
        text.contains("it was paired")
            && text.contains("were refused")
            && text.contains("conflicts were decided"),
        "{text}"
    );

    let store = trust(&desktop);
    for n in 0..EVENTS_MAX + 50 {
        store.note_event(EventKind::Refuse, None, &format!("line {n}"), n).unwrap();
    }
    store.note_event(EventKind::Refuse, None, "again", 10_000_000).unwrap();
    store.note_event(EventKind::Refuse, None, "again", 10_000_001).unwrap();
    let events = store.events(i64::MAX).unwrap();
    assert_eq!(events.len(), usize::try_from(EVENTS_MAX).unwrap());
    assert_eq!(
        events
            .iter()
            .filter(|event| event.detail == "again")
            .map(|event| event.times)
            .collect::<Vec<_>>(),
        [2],
        "counted on one line"
    );
}
