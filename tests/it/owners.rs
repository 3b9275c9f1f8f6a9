//! Owners: whose word that a device was lost is carried out, and whose is a question.

use serde_json::Value;
use storysync_engine::store::trust::{Revocation, RevokedBy, TrustStore, WhoIsAskedAbout};
use storysync_engine::trust::identity::DeviceId;

use crate::nodes::*;
use crate::trust::{id, logged, pair_in_store};

/// Desktop, laptop and phone that all know each other; the desktop showed the first code.
fn three() -> (TestNode, TestNode, TestNode) {
    let (desktop, phone) = paired();
    let mut laptop = TestNode::empty();
    laptop.run_json(&["pair", "join", &desktop.qr()]);
    laptop.serve();
    phone.run_json(&["pair", "join", &laptop.qr()]);
    (desktop, laptop, phone)
}

fn is_paired(here: &TestNode, with: &TestNode) -> bool {
    let (devices, with) = (here.run_json(&["devices"]), id(with));
    devices["devices"]
        .as_array()
        .unwrap()
        .iter()
        .any(|device| device["device_id"] == with.as_str() && device["is_active"] == true)
}

#[test]
fn a_phone_that_sends_everybody_away_is_asked_about_and_an_owner_is_obeyed() {
    let (mut desktop, mut laptop, mut phone) = three();
    // The phone is stolen, and its thief sends the laptop away.
    phone.run_json(&["devices", "revoke", &id(&laptop)]);
    phone.run_json(&["sync"]);
    assert!(is_paired(&desktop, &laptop), "a phone's word sends nobody away");
    let asked = desktop.run_json(&["status"])["questions"].clone();
    assert_eq!(
        (asked.as_array().unwrap().len(), &asked[0]["by"], &asked[0]["device_id"]),
        (1, &Value::from(id(&phone)), &Value::from(id(&laptop)))
    );
    let words = String::from_utf8(desktop.run(&["devices"]).stdout).unwrap();
    assert!(words.contains("devices keep") && words.contains("devices revoke"), "{words}");
    laptop.run(&["sync"]);
    desktop.run_json(&["devices", "keep", &id(&laptop)]);
    phone.run_json(&["sync"]);
    assert_eq!(desktop.run_json(&["status"])["questions"], serde_json::json!([]), "answered once");
    assert!(is_paired(&desktop, &laptop));
    // The desktop's word is carried out on the laptop.
    assert!(is_paired(&laptop, &phone) || !is_paired(&phone, &laptop));
    desktop.run_json(&["devices", "revoke", &id(&phone)]);
    laptop.run(&["sync"]);
    assert!(!is_paired(&laptop, &phone), "whoever showed the first code is an owner");
    for node in [&mut desktop, &mut laptop, &mut phone] {
        node.stop();
    }
}

#[test]
fn a_device_that_is_asked_about_is_paused_where_the_settings_say_so() {
    let (mut desktop, mut laptop, mut phone) = three();
    phone.run_json(&["devices", "revoke", &id(&laptop)]);
    phone.run_json(&["sync"]);
    desktop.stop();
    std::fs::write(desktop.data_dir().join("config.toml"), "asked_about = \"pause\"\n").unwrap();
    desktop.serve();
    desktop.app("INSERT INTO user (username, sync_uuid, version) VALUES ('after', 'after', 1)");
    let error = {
        let output = desktop.run(&["sync", "--json"]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let peers = report["peers"].as_array().unwrap();
        let peer = peers.iter().find(|peer| peer["device_id"] == id(&laptop).as_str()).unwrap();
        peer["error"].as_str().unwrap_or_default().to_owned()
    };
    assert!(error.contains("was lost") && error.contains("devices keep"), "{error}");
    let words = String::from_utf8(desktop.run(&["devices"]).stdout).unwrap();
    assert!(words.contains("until the question below is answered"), "{words}");
    laptop.app("INSERT INTO user (username, sync_uuid, version) VALUES ('theirs', 'theirs', 1)");
    let refused = String::from_utf8(laptop.run(&["sync"]).stdout).unwrap();
    assert!(refused.contains("says that this one was lost"), "{refused}");
    assert_eq!(desktop.value::<i64>("SELECT count(*) FROM user WHERE username = 'theirs'"), 0);
    desktop.run_json(&["devices", "keep", &id(&laptop)]);
    laptop.run(&["sync"]);
    assert_eq!(laptop.value::<i64>("SELECT count(*) FROM user WHERE username = 'after'"), 1);
    for node in [&mut desktop, &mut laptop, &mut phone] {
        node.stop();
    }
}

#[test]
fn the_last_owner_is_sent_away_only_by_another_one() {
    let (mut desktop, mut phone) = paired();
    let refused = phone.fails(&["devices", "revoke", &id(&desktop)]);
    assert!(refused.contains("only owner") && refused.contains("devices owner"), "{refused}");
    assert!(is_paired(&phone, &desktop));
    phone.run_json(&["devices", "owner", "this"]);
    phone.run_json(&["devices", "revoke", &id(&desktop)]);
    assert!(!is_paired(&phone, &desktop));
    assert_eq!(logged(&phone, "owner").len(), 2, "the first one, and itself");
    desktop.stop();
    phone.stop();
}

#[test]
fn a_question_is_asked_once_for_a_pairing_whatever_time_its_teller_claims() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = TrustStore::open(folder.path()).unwrap();
    let (phone, laptop) = (DeviceId::of_key(&[1; 32]), DeviceId::of_key(&[2; 32]));
    for device in [1, 2] {
        pair_in_store(&store, device, 1_000);
    }
    let lost = |revoked_at| vec![Revocation { device_id: laptop.to_string(), revoked_at }];
    assert_eq!(store.heed(&phone, &lost(i64::MAX), 2_000).unwrap(), [], "it is no owner");
    assert_eq!(store.questions().unwrap().len(), 1);
    store.keep(&laptop, 3_000).unwrap();
    assert_eq!(store.heed(&phone, &lost(i64::MAX), 4_000).unwrap(), []);
    assert!(store.questions().unwrap().is_empty(), "answered is answered");
    // Made an owner, its word of before is not carried out after all.
    store.make_owner(&phone, 5_000).unwrap();
    assert_eq!(store.heed(&phone, &lost(i64::MAX), 6_000).unwrap(), []);
    assert!(store.find(&laptop).unwrap().unwrap().is_active());
}

#[test]
fn an_unanswered_question_ends_with_the_pairing_it_is_about_and_pauses_no_owner() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = TrustStore::open(folder.path()).unwrap();
    store.go_on_with_who_is_asked_about(WhoIsAskedAbout::Pauses);
    let ids: Vec<DeviceId> = [1, 2, 3].map(|key| DeviceId::of_key(&[key; 32])).to_vec();
    for device in [1, 2, 3] {
        pair_in_store(&store, device, 1_000);
    }
    let [phone, laptop, desktop] = ids.as_slice() else { panic!("three") };
    store.make_owner(desktop, 1_000).unwrap();
    let told: Vec<Revocation> = [laptop, desktop]
        .map(|lost| Revocation { device_id: lost.to_string(), revoked_at: 2_000 })
        .to_vec();
    store.heed(phone, &told, 2_000).unwrap();
    let is_paused = |id: &DeviceId| store.find(id).unwrap().unwrap().is_paused;
    assert!(is_paused(laptop));
    assert!(!is_paused(desktop), "an owner can still say who the phone is");
    // The laptop is sent away, found, and paired anew: the old question is not about that.
    store.revoke(laptop, RevokedBy::Here, 3_000).unwrap();
    pair_in_store(&store, 2, 4_000);
    assert!(!is_paused(laptop));
    // The phone is sent away: what it asked is no question any more.
    store.revoke(phone, RevokedBy::Here, 5_000).unwrap();
    assert!(store.questions().unwrap().is_empty());
}

#[test]
fn with_pairings_of_before_there_were_owners_no_code_is_the_first() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = TrustStore::open(folder.path()).unwrap();
    pair_in_store(&store, 1, 1_000);
    pair_in_store(&store, 2, 2_000);
    store.note_first_owner(Some(&DeviceId::of_key(&[2; 32])), 2_000).unwrap();
    assert!(store.devices().unwrap().iter().all(|device| !device.is_owner));
    assert!(store.is_owner_itself().unwrap());
}
