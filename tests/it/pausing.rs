//! What the person here does with a paired device: pausing it, and calling it something.

use std::time::Duration;

use serde_json::{Value, json};

use crate::nodes::*;
use crate::trust::{id, logged};

fn device(here: &TestNode, with: &str) -> Value {
    let devices = here.run_json(&["devices"]);
    let mut list = devices["devices"].as_array().unwrap().iter();
    list.find(|device| device["device_id"] == with).unwrap().clone()
}

fn words(node: &TestNode, arguments: &[&str]) -> String {
    String::from_utf8(node.run(arguments).stdout).unwrap()
}

fn error_of(node: &TestNode, arguments: &[&str]) -> String {
    let output = node.run(&[arguments, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    report["peers"][0]["error"].as_str().unwrap().to_owned()
}

#[test]
fn a_paused_device_is_neither_called_nor_answered_until_it_is_let_go_on() {
    let (mut desktop, phone) = paired();
    let phone_id = id(&phone);
    desktop.run_json(&["devices", "pause", &phone_id]);
    desktop.app("INSERT INTO user (username, sync_uuid, version) VALUES ('here', 'here', 1)");
    phone.app("INSERT INTO user (username, sync_uuid, version) VALUES ('there', 'there', 1)");
    let said = error_of(&phone, &["sync"]);
    assert!(said.contains("is paused there"), "{said}");
    let said = error_of(&desktop, &["sync", &phone_id]);
    assert!(said.contains("paused here") && said.contains("devices resume"), "{said}");
    assert!(desktop.fails(&["sync"]).contains("all paired devices are paused here"));
    let named = |node: &TestNode, name: &str| -> i64 {
        node.value(&format!("SELECT count(*) FROM user WHERE username = '{name}'"))
    };
    assert_eq!((named(&desktop, "there"), named(&phone, "here")), (0, 0), "nothing crosses");
    let shown = device(&desktop, &phone_id);
    assert_eq!((&shown["is_paused"], &shown["is_active"]), (&json!(true), &json!(true)));
    assert!(shown["paused_at"].is_string());
    assert!(words(&desktop, &["devices"]).contains("paused here"));
    assert!(words(&desktop, &["status"]).contains("devices resume"));
    let found = desktop.run_json(&["doctor"])["findings"].to_string();
    assert!(found.contains("\"paused\""), "{found}");
    // A restart forgets it no more than a stop of the node lets it through.
    desktop.stop();
    desktop.serve();
    assert!(error_of(&phone, &["sync"]).contains("is paused there"));
    desktop.run_json(&["devices", "resume", &phone_id]);
    phone.run_json(&["sync"]);
    assert_eq!((named(&desktop, "there"), named(&phone, "here")), (1, 1));
    assert_eq!(logged(&desktop, "pause").len(), 2);
    desktop.stop();
}

#[test]
fn a_pause_ends_what_goes_on_with_a_device_at_this_moment() {
    let (mut one, mut other) =
        (TestNode::with_fixture(crate::fixtures::Dialect::Newer), TestNode::empty());
    one.serve_live();
    other.serve_live();
    other.run_json(&["pair", "join", &one.qr()]);
    let (one_id, other_id) = (one.id(), other.id());
    let is_connected =
        || [one.standing(&other_id), other.standing(&one_id)].contains(&"connected".to_owned());
    eventually(Duration::from_secs(20), "they are connected", is_connected);
    let uuid: String = one.value("SELECT min(sync_uuid) FROM actor");
    let write = |node: &TestNode, name: &str| {
        node.app(&format!("UPDATE actor SET first_name = '{name}' WHERE sync_uuid = '{uuid}'"));
    };
    let name = |node: &TestNode| -> String {
        node.value(&format!("SELECT first_name FROM actor WHERE sync_uuid = '{uuid}'"))
    };
    write(&one, "Before");
    eventually(Duration::from_secs(5), "it crosses", || name(&other) == "Before");
    one.run_json(&["devices", "pause", &other_id]);
    write(&one, "Paused");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(name(&other), "Before");
    one.run_json(&["devices", "resume", &other_id]);
    eventually(Duration::from_secs(70), "it goes on", || name(&other) == "Paused");
    one.stop();
    other.stop();
}

#[test]
fn what_the_person_here_calls_a_device_stays_whatever_it_calls_itself() {
    let (mut desktop, phone) = paired();
    let phone_id = id(&phone);
    let called = || device(&desktop, &phone_id)["device_name"].as_str().unwrap().to_owned();
    let before = called();
    desktop.run_json(&["devices", "rename", &phone_id, "Mara's phone"]);
    assert_eq!(called(), "Mara's phone");
    let mirrored = "SELECT device_name FROM sync_device WHERE device_id = ";
    assert_eq!(desktop.value::<String>(&format!("{mirrored}'{phone_id}'")), "Mara's phone");
    // It calls itself something else, and is paired again: neither changes what it is called here.
    phone.run_json(&["pair", "join", &desktop.qr(), "--name", "New name of its own"]);
    phone.run_json(&["sync"]);
    assert_eq!(called(), "Mara's phone");
    assert_eq!(device(&desktop, &phone_id)["own_name"], "New name of its own");
    desktop.run_json(&["devices", "pause", "Mara's phone"]);
    desktop.run_json(&["devices", "resume", "Mara's phone"]);
    desktop.run_json(&["devices", "rename", &phone_id, ""]);
    assert_ne!(called(), before);
    assert_eq!(
        (called().as_str(), &device(&desktop, &phone_id)["own_name"]),
        ("New name of its own", &Value::Null)
    );
    desktop.stop();
}

#[test]
fn two_devices_are_never_called_the_same() {
    let (mut desktop, phone) = paired();
    let own = desktop.run_json(&["status"])["name"].as_str().unwrap().to_owned();
    let renamed = desktop.run_json(&["devices", "rename", &id(&phone), &own]);
    let called = renamed["device_name"].as_str().unwrap();
    assert!(called != own && called.starts_with(&own), "{called}");
    desktop.stop();
    let renamed = desktop.run_json(&["devices", "rename", &id(&phone), "Without a node"]);
    assert_eq!(renamed["device_name"], "Without a node");
    assert_eq!(
        desktop.value::<String>("SELECT max(device_name) FROM sync_device"),
        "Without a node"
    );
}

#[test]
fn devices_are_renamed_and_paused_over_the_loopback_listener_with_the_token() {
    let (mut desktop, phone) = paired();
    let (address, token) = admin(&desktop);
    let phone_id = id(&phone);
    let post = |id: &str, what: &str, body: &Value, token: &str| {
        http_post(&address, &format!("/api/devices/{id}/{what}"), token, body)
    };
    let named = post(&phone_id, "name", &json!({ "name": "Pocket" }), &token);
    assert_eq!(named, (200, json!({ "device_id": phone_id, "device_name": "Pocket" })));
    for (what, is_paused) in [("pause", true), ("pause", true), ("resume", false)] {
        let answer = post(&phone_id, what, &Value::Null, &token);
        assert_eq!(answer, (200, json!({ "device_id": phone_id, "is_paused": is_paused })));
    }
    for what in ["name", "pause", "resume"] {
        let body = json!({ "name": "x" });
        assert_eq!(post(&phone_id, what, &body, "nonsense").0, 401, "{what}");
        assert_eq!(post("12D3nobody", what, &body, &token).0, 404, "{what}");
        assert_eq!(post(&id(&desktop), what, &body, &token).0, 404, "{what}: itself");
    }
    assert_eq!(post(&phone_id, "name", &json!({ "called": "x" }), &token).0, 422);
    desktop.stop();
}
