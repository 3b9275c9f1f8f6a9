//! The pairing ceremony as people and thieves go through it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use storysync::net::node_state::system_rng;
use storysync_engine::store::key_file;
use storysync_engine::store::trust::TrustStore;
use storysync_engine::trust::envelope::{self, Message, Route};
use storysync_engine::trust::identity::Identity;
use storysync_engine::trust::pairing::{Offer, REGISTER_TARGET, Registration};
use storysync_engine::trust::to_base64url;

use crate::fixtures::Dialect;
use crate::handmade::Handmade;
use crate::nodes::*;

/// Starts joining and waits for the four digits.
fn join_until_code(phone: &TestNode, qr: &str) -> (Child, String) {
    let mut joining = phone
        .command(&["pair", "join", qr])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let is_code =
        |line: &String| line.len() == 4 && line.chars().all(|digit| digit.is_ascii_digit());
    let code = BufReader::new(joining.stdout.take().unwrap())
        .lines()
        .map(|line| line.unwrap().trim().to_owned())
        .find(is_code);
    (joining, code.expect("no code was shown"))
}

fn pairing_state(desktop: &TestNode) -> Value {
    let (address, token) = admin(desktop);
    serde_json::from_slice(&http_get(&address, "/api/pair/state", &token).1).unwrap()
}

#[test]
fn a_code_must_be_typed_when_approval_is_wanted() {
    let mut desktop = TestNode::with_fixture(Dialect::Presync);
    let phone = TestNode::empty();
    desktop.serve_with(&["--pairing-approval", "code"]);
    assert!(desktop.fails(&["pair", "confirm", "0000"]).contains("pair show"));
    let qr = desktop.qr();
    let (mut joining, code) = join_until_code(&phone, &qr);
    let wrong = if code == "1234" { "4321" } else { "1234" };
    assert!(desktop.fails(&["pair", "confirm", wrong]).contains("2 tries"));
    desktop.run_json(&["pair", "confirm", &code]);
    assert!(joining.wait().unwrap().success());
    assert_eq!(phone.sync(), (0, 645));
}

#[test]
fn a_used_or_foreign_code_is_refused() {
    let mut desktop = TestNode::with_fixture(Dialect::Presync);
    desktop.serve();
    let qr = desktop.qr();
    let (phone, other) = (TestNode::empty(), TestNode::empty());
    phone.run_json(&["pair", "join", &qr]);
    assert!(other.fails(&["pair", "join", &qr]).contains("used already"));
    // A code with the right addresses and somebody else's secret.
    let mut forged: Value = serde_json::from_str(&desktop.qr()).unwrap();
    forged["token"] = to_base64url(&[9; 32]).into();
    assert!(
        other
            .fails(&["pair", "join", &forged.to_string()])
            .contains("does not accept this pairing code")
    );
    assert_eq!(other.run_json(&["devices"])["devices"].as_array().unwrap().len(), 0);
}

#[test]
fn a_second_device_with_the_same_code_aborts_the_pairing_and_raises_an_alarm() {
    let mut desktop = TestNode::with_fixture(Dialect::Presync);
    let (thief, phone) = (TestNode::empty(), TestNode::empty());
    desktop.serve_with(&["--pairing-approval", "code"]);
    let qr = desktop.qr();
    let (mut first, code) = join_until_code(&thief, &qr);
    assert!(phone.fails(&["pair", "join", &qr]).contains("does not accept this pairing code"));
    let state = pairing_state(&desktop);
    assert_eq!(state["open"], false);
    assert!(state["alarm"].as_str().unwrap().contains("second device"), "{state}");
    assert!(desktop.fails(&["pair", "confirm", &code]).contains("no pairing is waiting"));
    assert!(!first.wait().unwrap().success(), "the one who was first does not get in, either");
    assert_eq!(desktop.run_json(&["devices"])["devices"].as_array().unwrap().len(), 0);
    assert!(
        desktop.run_json(&["log"])["log"]
            .as_array()
            .unwrap()
            .iter()
            .any(|line| line["operation"] == "alarm")
    );
}

#[test]
fn three_wrong_codes_abort_the_pairing() {
    let mut desktop = TestNode::with_fixture(Dialect::Presync);
    let phone = TestNode::empty();
    desktop.serve_with(&["--pairing-approval", "code"]);
    let (mut joining, code) = join_until_code(&phone, &desktop.qr());
    let wrong = if code == "1234" { "4321" } else { "1234" };
    assert!(desktop.fails(&["pair", "confirm", wrong]).contains("2 tries"));
    assert!(desktop.fails(&["pair", "confirm", wrong]).contains("1 tries"));
    assert!(desktop.fails(&["pair", "confirm", wrong]).contains("aborted"));
    assert!(
        desktop.fails(&["pair", "confirm", &code]).contains("no pairing is waiting"),
        "the right one comes too late"
    );
    assert!(!joining.wait().unwrap().success());
}

#[test]
fn an_expired_code_is_refused_by_both_sides() {
    let mut desktop = TestNode::with_fixture(Dialect::Presync);
    let phone = TestNode::empty();
    desktop.run_json(&["migrate"]);
    std::fs::write(desktop.data_dir().join("config.toml"), "pairing_seconds = 1").unwrap();
    desktop.serve();
    let qr = desktop.qr();
    let mut prolonged: Value = serde_json::from_str(&qr).unwrap();
    let started = Instant::now();
    while pairing_state(&desktop)["open"] == true {
        assert!(started.elapsed() < Duration::from_secs(10), "the window never closed");
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(Duration::from_millis(1_100));
    assert!(phone.fails(&["pair", "join", &qr]).contains("expired"));
    // Whoever alters the date in the text only deceives itself.
    prolonged["exp"] = (prolonged["exp"].as_u64().unwrap() + 1_000).into();
    assert!(
        phone
            .fails(&["pair", "join", &prolonged.to_string()])
            .contains("does not accept this pairing code")
    );
    assert_eq!(desktop.run_json(&["devices"])["devices"].as_array().unwrap().len(), 0);
}

#[test]
fn nobody_takes_over_the_name_of_another_device() {
    let (desktop, phone) = paired();
    let victim = phone.run_json(&["status"])["device_id"].as_str().unwrap().to_owned();
    // Somebody who has seen a new code registers the victim's id with keys of his own.
    let offer = Offer::parse(&desktop.qr()).unwrap();
    let thief = Identity::generate(&mut system_rng());
    let registration = Registration {
        device_id: victim,
        device_name: "phone".into(),
        identity_key: to_base64url(&thief.public_key()),
        static_key: to_base64url(&thief.static_key()),
        platform: "linux".into(),
        auth_token: None,
        port: None,
        attempt: None,
        sealed_token: false,
    };
    let register = |registration: &Registration, signer: &Identity| {
        let route = Route {
            method: "POST",
            target: REGISTER_TARGET,
            client: &[0; 32],
            server: &offer.identity_key,
        };
        let body = serde_json::to_vec(registration).unwrap();
        let (sealed, _) = envelope::seal_register(
            Message { route, body: &body, sent_ms: 0 },
            &offer.token,
            &offer.one_time_key,
            signer,
            &mut system_rng(),
        )
        .unwrap();
        let head = format!(
            "POST {REGISTER_TARGET} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: \
                {}\r\nconnection: close\r\n\r\n",
            sealed.len()
        );
        exchange(&format!("127.0.0.1:{}", desktop.port), &[head.as_bytes(), &sealed].concat()).0
    };
    assert_eq!(register(&registration, &thief), 401, "the id is not of this key");
    let keys = key_file::load_or_create(&phone.data_dir(), &mut system_rng()).unwrap();
    let with_victims_key =
        Registration { identity_key: to_base64url(&keys.public_key()), ..registration };
    assert_eq!(register(&with_victims_key, &thief), 401, "the key is not his to sign with");
    assert_eq!(phone.sync(), (0, 0), "the victim is still in");
    assert_eq!(desktop.run_json(&["devices"])["devices"].as_array().unwrap().len(), 1);
}

#[test]
fn pairing_again_voids_what_was_shared_before_within_the_request() {
    let (desktop, phone) = paired();
    let before = Handmade::of(&phone, &desktop);
    let prekey = before.prekey();
    assert_eq!(before.push_actor("Before", 1, prekey).0, 200);
    phone.run_json(&["pair", "join", &desktop.qr()]);
    assert_eq!(before.push_actor("After", 2, prekey).0, 401, "the old token");
    let after = Handmade::of(&phone, &desktop);
    let pair = |client: &Handmade| client.device.pair.clone().unwrap();
    assert_eq!((pair(&before).epoch, pair(&after).epoch), (1, 2));
    assert_ne!(pair(&before).secret, pair(&after).secret);
    // The new token with the old secret, and with the old prekey.
    let mixed = Handmade {
        device: storysync_engine::store::trust::TrustedDevice {
            pair: before.device.pair.clone(),
            ..after.device.clone()
        },
        ..Handmade::of(&phone, &desktop)
    };
    assert_eq!(mixed.push_actor("Mixed", 3, after.prekey()).0, 401);
    assert_eq!(after.push_actor("Mixed", 3, prekey).0, 409, "the old prekey is gone");
    assert_eq!(phone.sync().0, 0);
    assert_eq!(
        desktop.value::<i64>("SELECT count(*) FROM actor WHERE first_name IN ('After', 'Mixed')"),
        0
    );
}

#[test]
fn no_pairing_code_is_to_be_had_from_the_lan() {
    let mut desktop = TestNode::with_fixture(Dialect::Presync);
    desktop.serve();
    let (loopback, token) = admin(&desktop);
    let lan = format!("127.0.0.1:{}", desktop.port);
    for target in [
        "/api/pair/qr-data",
        "/api/pair/qr-image",
        "/api/pair/state",
        "/api/pair/confirm",
        "/api/log",
        "/api/conflicts",
        "/docs",
    ] {
        assert_eq!(http_get(&lan, target, &token).0, 404, "{target}");
    }
    assert_eq!(http_get(&loopback, "/api/pair/qr-data", "").0, 401);
    assert_eq!(http_get(&loopback, "/api/pair/qr-data", &to_base64url(&[0; 32])).0, 401);
    let answer = raw(
        &loopback,
        format!(
            "GET /api/pair/qr-image HTTP/1.1\r\nHost: \
            {loopback}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        )
        .as_bytes(),
    );
    let head = String::from_utf8_lossy(&answer[..400.min(answer.len())]).to_lowercase();
    assert!(
        head.contains("cache-control: no-store")
            && head.contains("nosniff")
            && head.contains("resource-policy: same-origin"),
        "{head}"
    );
    // The token in an address works once: addresses stay in histories.
    let link = format!("/api/pair/qr-data?token={token}");
    let once = |status| {
        assert_eq!(
            exchange(
                &loopback,
                format!("GET {link} HTTP/1.1\r\nHost: {loopback}\r\nConnection: close\r\n\r\n")
                    .as_bytes()
            )
            .0,
            status
        )
    };
    once(200);
    once(401);
    assert_eq!(http_get(&loopback, "/api/pair/qr-data", &token).0, 200);
}

#[test]
fn registrations_that_fail_are_slowed_down_and_the_honest_device_gets_in() {
    let mut desktop = TestNode::with_fixture(Dialect::Presync);
    let phone = TestNode::empty();
    desktop.serve();
    let qr = desktop.qr();
    let garbage = b"POST /api/pair/register HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: \
        9\r\nconnection: close\r\n\r\nlet me in";
    let lan = format!("127.0.0.1:{}", desktop.port);
    let statuses: Vec<u16> = (0..7).map(|_| exchange(&lan, garbage).0).collect();
    assert_eq!(statuses, [401, 401, 401, 401, 401, 429, 429]);
    phone.run_json(&["pair", "join", &qr]);
    let trust = TrustStore::open(&desktop.data_dir()).unwrap();
    assert_eq!(trust.devices().unwrap().len(), 1);
    let long = format!(
        "POST /api/pair/register HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {}\r\nconnection: \
            close\r\n\r\n{}",
        5_000,
        "x".repeat(5_000)
    );
    assert_eq!(exchange(&lan, long.as_bytes()).0, 413);
}

#[test]
fn eight_devices_of_one_address_pair_one_after_another_with_a_wrong_code_between() {
    let mut desktop = TestNode::with_fixture(Dialect::Presync);
    desktop.serve_with(&["--pairing-approval", "code"]);
    let devices: Vec<TestNode> = (0..8).map(|_| TestNode::without_database()).collect();
    for (number, device) in devices.iter().enumerate() {
        device.run_json(&["init"]);
        let (mut joining, code) = join_until_code(device, &desktop.qr());
        if number == 3 {
            let wrong = if code == "1234" { "4321" } else { "1234" };
            assert!(desktop.fails(&["pair", "confirm", wrong]).contains("2 tries"));
            let forged = desktop.qr().replace("\"token\":\"", "\"token\":\"AA");
            assert!(device.run(&["pair", "join", &forged]).status.code() == Some(1));
            assert!(!joining.wait().unwrap().success(), "another code was shown meanwhile");
            let (again, code) = join_until_code(device, &desktop.qr());
            joining = again;
            desktop.run_json(&["pair", "confirm", &code]);
        } else {
            desktop.run_json(&["pair", "confirm", &code]);
        }
        assert!(joining.wait().unwrap().success(), "device {number}");
    }
    let list = desktop.run_json(&["devices"])["devices"].as_array().unwrap().clone();
    assert_eq!(list.iter().filter(|device| device["is_active"] == true).count(), 8);
    assert_eq!(devices[0].sync().1, 645);
    assert_eq!(devices[7].sync().1, 645);
}

fn names_told(node: &TestNode) -> Vec<String> {
    let mut names: Vec<String> = node.run_json(&["devices"])["devices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|device| device["device_name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn devices_that_call_themselves_alike_get_numbers_wherever_they_are_told() {
    let mut desktop = TestNode::with_fixture(Dialect::Newer);
    desktop.serve_with(&["--pairing-approval", "none", "--name", "desk"]);
    let devices = [TestNode::empty(), TestNode::empty(), TestNode::empty()];
    for (device, name) in devices.iter().zip(["desk", "Desk", "phone"]) {
        device.run_json(&["pair", "join", &desktop.qr(), "--name", name]);
    }
    assert_eq!(names_told(&desktop), ["Desk (3)", "desk (2)", "phone"]);
    // What a device calls itself comes with each exchange, and takes no number away.
    for device in &devices {
        device.sync();
    }
    assert_eq!(names_told(&desktop), ["Desk (3)", "desk (2)", "phone"]);
    assert_eq!(
        names_told(&devices[0]),
        ["desk (2)"],
        "there it is the other one that is not this device"
    );
    devices[0].app("UPDATE actor SET title = 'By the second desk' WHERE id = 1");
    devices[0].sync();
    let told = |arguments: &[&str]| {
        let output = desktop.run(arguments);
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    assert!(told(&["log"]).contains("desk (2)"), "{}", told(&["log"]));
    assert_eq!(
        desktop.value::<i64>("SELECT count(*) FROM sync_device WHERE device_name = 'desk (2)'"),
        1,
        "the app is told, too"
    );
    let uuid: String = desktop.value("SELECT sync_uuid FROM actor WHERE id = 1");
    assert!(told(&["history", "actor", &uuid]).contains("desk (2)"));
    // By its number a device is meant; by the bare name none of several.
    assert!(told(&["devices", "revoke", "desk (2)"]).contains("desk (2) is no longer paired"));
    devices[2].run_json(&["pair", "join", &desktop.qr(), "--name", "desk"]);
    let several = told(&["devices", "revoke", "desk"]);
    assert!(several.contains("more than one") && several.contains("desk (2)"), "{several}");
}

#[test]
fn who_shows_a_code_can_name_its_device_and_is_called_so_at_once() {
    let mut desktop = TestNode::with_fixture(Dialect::Presync);
    let phone = TestNode::empty();
    desktop.serve();
    let qr = desktop.run_json(&["pair", "show", "--name", "Writing room"])["qr"]
        .as_str()
        .unwrap()
        .to_owned();
    let paired = phone.run_json(&["pair", "join", &qr, "--name", "Phone"]);
    assert_eq!(paired["device_name"], "Writing room");
    assert_eq!(names_told(&desktop), ["Phone"]);
    assert_eq!(desktop.run_json(&["status"])["name"], "Writing room");
    desktop.run_json(&["pair", "show", "--name", "Kitchen"]);
    phone.sync();
    assert_eq!(names_told(&phone), ["Kitchen"], "with the next exchange");
    desktop.stop();
    desktop.serve();
    assert_eq!(desktop.run_json(&["status"])["name"], "Kitchen", "after a restart, too");
    assert!(desktop.fails(&["pair", "show", "--name", " "]).contains("needs a name"));
}
