//! Each attack on the sealed protocol that somebody on the network, or with stolen bytes, could
//! try, and how it is refused. What is tampered with at random is counted in `fuzz/`.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use storysync::net::node_state::system_rng;
use storysync_engine::store::key_file;
use storysync_engine::store::trust::TrustStore;
use storysync_engine::trust::agreement::AgreementKey;
use storysync_engine::trust::envelope::{self, KeyUse, Message, Route};
use storysync_engine::trust::identity::Identity;
use storysync_engine::trust::to_base64url;

use crate::eavesdropper::{Recorder, closing, forward, spoil};
use crate::fixtures::Dialect;
use crate::handmade::{Handmade, Request, push_of};
use crate::nodes::*;
use crate::support::canonical;

fn actors(node: &TestNode, name: &str) -> i64 {
    node.value(&format!("SELECT count(*) FROM actor WHERE first_name = '{name}'"))
}

#[test]
fn a_recording_of_all_bytes_holds_no_story_text_and_opens_nothing() {
    let mut desktop = TestNode::with_fixture(Dialect::Newer);
    let phone = TestNode::empty();
    desktop.serve();
    let recorder = Recorder::before(desktop.port);
    phone.run_json(&["pair", "join", &desktop.qr_through(recorder.port)]);
    assert_eq!(phone.sync(), (0, 645));
    phone.app("UPDATE actor SET notes = 'a very secret plot twist' WHERE id = 1");
    assert_eq!(phone.sync(), (1, 0));
    assert_eq!(
        desktop.value::<i64>("SELECT count(*) FROM actor WHERE notes = 'a very secret plot twist'"),
        1
    );

    let (wire, requests) = (recorder.wire(), recorder.requests());
    assert!(wire.len() > 20_000, "the sync did not pass through the recorder");
    let mut texts: Vec<String> = vec![
        "secret plot".into(),
        "first_name".into(),
        "sync_uuid".into(),
        "entity_type".into(),
        "litography".into(),
    ];
    for line in canonical(&desktop.database, false) {
        texts.extend(line.split('"').filter(|part| part.len() >= 12).map(str::to_owned));
    }
    for text in &texts {
        assert!(
            !wire.windows(text.len()).any(|window| window == text.as_bytes()),
            "{text:?} crossed the wire in the clear"
        );
    }

    // Every recorded request again: nothing changes.
    let address = format!("127.0.0.1:{}", desktop.port);
    let before = canonical(&desktop.database, true);
    let changes: i64 = desktop.value("SELECT count(*) FROM sync_change");
    for request in &requests {
        let (status, _) = exchange(&address, &closing(request));
        assert!(matches!(status, 401 | 409), "a replayed request was answered with {status}");
    }
    // A flipped bit anywhere in the body of the push: refused, and nothing changes. The prekey is
    // alive.
    let push =
        requests.iter().rfind(|request| request.starts_with(b"POST /api/sync/push")).unwrap();
    let body = push.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    for position in (body..push.len()).step_by(((push.len() - body) / 60).max(1)) {
        let mut flipped = closing(push);
        let shift = flipped.len() - push.len();
        flipped[position + shift] ^= 1;
        let (status, _) = exchange(&address, &flipped);
        assert!(
            matches!(status, 401 | 409),
            "a byte flipped at {position} was answered with {status}"
        );
    }
    assert_eq!(desktop.value::<i64>("SELECT count(*) FROM sync_change"), changes);
    assert_eq!(canonical(&desktop.database, true), before);
    assert_eq!(phone.sync(), (0, 0), "the honest device goes on");
}

#[test]
fn a_flipped_byte_in_an_answer_is_noticed_by_the_client() {
    let (mut desktop, phone) = paired();
    // Stand in for the desktop at the address the phone knows, and spoil what it answers.
    let address = desktop.port;
    desktop.stop();
    desktop.port = 0;
    desktop.serve();
    let behind = desktop.port;
    let listener = TcpListener::bind(("127.0.0.1", address)).unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(client) = client else { return };
            let server = TcpStream::connect(("127.0.0.1", behind)).unwrap();
            let (up_client, up_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || forward(up_client, up_server, |_| {}));
            std::thread::spawn(move || spoil(server, client));
        }
    });
    desktop.app("UPDATE actor SET job = 'spoiled on the way' WHERE id = 1");
    let before = canonical(&phone.database, true);
    let sentence = phone.run(&["sync", "--json"]);
    let report: Value = serde_json::from_slice(&sentence.stdout).unwrap();
    assert!(report["peers"][0]["error"].as_str().unwrap().contains("not from"), "{report}");
    assert_eq!(sentence.status.code(), Some(1));
    assert_eq!(canonical(&phone.database, true), before);
}

#[test]
fn the_same_bytes_are_taken_once_also_after_a_restart() {
    let (mut desktop, phone) = paired();
    let client = Handmade::of(&phone, &desktop);
    let prekey = client.prekey();
    let Request { bytes, awaited } =
        client.request("POST", "/api/sync/push", &push_of("Replayed"), 1, prekey);
    let (status, answer) = client.send(&bytes);
    assert_eq!(status, 200);
    assert!(awaited.open(status, &answer).is_ok());
    assert_eq!(actors(&desktop, "Replayed"), 1);
    desktop.app("DELETE FROM actor WHERE first_name = 'Replayed'");
    assert_eq!(client.send(&bytes).0, 401, "again");
    desktop.stop();
    desktop.serve();
    assert_eq!(client.send(&bytes).0, 409, "the prekey died with the process: ask for a new one");
    assert_eq!(actors(&desktop, "Replayed"), 0);
}

#[test]
fn a_forged_sequence_number_burns_nothing() {
    let (desktop, phone) = paired();
    let client = Handmade::of(&phone, &desktop);
    let prekey = client.prekey();
    // Whoever saw the token and the kid on the wire, but has no keys.
    let (sealed, _) =
        client.seal("POST", "/api/sync/push", &push_of("Forged"), prekey.kid, 1 << 63, &prekey.key);
    for garbage in [
        vec![0; 200],
        b"SSY1".to_vec(),
        sealed[..100].to_vec(),
        [&sealed[..60], &[7; 300]].concat(),
    ] {
        assert_eq!(client.send(&client.http("POST", "/api/sync/push", &garbage)).0, 401);
    }
    assert_eq!(
        client.push_actor("Honest", 1, prekey).0,
        200,
        "the honest next number is still free"
    );
    assert_eq!(client.push_actor("Honest again", 2, prekey).0, 200);
    assert_eq!((actors(&desktop, "Forged"), actors(&desktop, "Honest")), (0, 1));
}

#[test]
fn a_request_is_for_one_method_path_query_key_and_number_alone() {
    let (desktop, phone) = paired();
    let client = Handmade::of(&phone, &desktop);
    let (prekey, other) = (client.prekey(), client.prekey());
    let (sealed, _) =
        client.seal("POST", "/api/sync/push", &push_of("Elsewhere"), prekey.kid, 1, &prekey.key);
    for target in ["/api/sync/pull", "/api/sync/push?", "/api/sync/push?x=1", "/api/sync/resolve"] {
        assert_eq!(client.send(&client.http("POST", target, &sealed)).0, 401, "{target}");
    }
    for (method, target) in
        [("GET", "/api/sync/status"), ("GET", "/api/devices"), ("DELETE", "/api/devices/x")]
    {
        assert_eq!(client.send(&client.http(method, target, &sealed)).0, 401, "{method} {target}");
    }
    let with = |place: usize, bytes: &[u8]| {
        let mut altered = sealed.clone();
        altered[place..place + bytes.len()].copy_from_slice(bytes);
        client.send(&client.http("POST", "/api/sync/push", &altered)).0
    };
    assert_eq!(with(8, &other.kid.to_be_bytes()), 401, "the number of another prekey");
    assert_eq!(with(16, &2_u64.to_be_bytes()), 401, "another sequence number");
    assert_eq!(with(8, &0_u64.to_be_bytes()), 409, "nothing is ever sealed to a long-term key");
    assert_eq!(with(4, &[2]), 401, "a response's kind");
    assert_eq!(with(5, &[2]), 401, "another suite");
    assert_eq!(with(7, &[1]), 401, "a flag");
    assert_eq!(
        client.send(&client.http("POST", "/api/sync/push", &sealed)).0,
        200,
        "it was right all the time"
    );
}

#[test]
fn a_request_of_one_device_opens_in_the_name_of_no_other() {
    let (desktop, phone) = paired();
    let other = TestNode::empty();
    other.run_json(&["pair", "join", &desktop.qr()]);
    let (client, stranger) = (Handmade::of(&phone, &desktop), Handmade::of(&other, &desktop));
    let prekey = client.prekey();
    let (sealed, _) =
        client.seal("POST", "/api/sync/push", &push_of("Borrowed"), prekey.kid, 1, &prekey.key);
    assert_eq!(
        stranger.send(&stranger.http("POST", "/api/sync/push", &sealed)).0,
        409,
        "a prekey belongs to one device"
    );
    let own = stranger.prekey();
    let (sealed, _) =
        client.seal("POST", "/api/sync/push", &push_of("Borrowed"), own.kid, 1, &own.key);
    assert_eq!(stranger.send(&stranger.http("POST", "/api/sync/push", &sealed)).0, 401);
    assert_eq!(actors(&desktop, "Borrowed"), 0);
}

#[test]
fn a_stolen_token_opens_nothing() {
    let (desktop, phone) = paired();
    let client = Handmade::of(&phone, &desktop);
    let thief = Handmade {
        identity: Identity::generate(&mut system_rng()),
        ..Handmade::of(&phone, &desktop)
    };
    let thief = Handmade {
        device: storysync_engine::store::trust::TrustedDevice {
            pair: Some(envelope::PairSecret {
                secret: storysync_engine::trust::identity::Secret::random(&mut system_rng()),
                epoch: 1,
            }),
            ..thief.device.clone()
        },
        ..thief
    };
    let before = desktop.value::<i64>("SELECT count(*) FROM sync_change");
    let phone_id = phone.run_json(&["status"])["device_id"].as_str().unwrap().to_owned();
    for (method, target) in [
        ("POST", "/api/sync/push".to_owned()),
        ("POST", "/api/sync/pull".to_owned()),
        ("POST", "/api/sync/resolve".to_owned()),
        ("GET", "/api/sync/status".to_owned()),
        ("GET", "/api/sync/conflicts".to_owned()),
        ("GET", "/api/devices".to_owned()),
        ("DELETE", format!("/api/devices/{phone_id}")),
    ] {
        let prekey = client.prekey();
        assert_eq!(
            thief.send(&thief.http(method, &target, b"")).0,
            401,
            "{method} {target} with nothing"
        );
        let (sealed, _) =
            thief.seal(method, &target, &push_of("Thief"), prekey.kid, 1, &prekey.key);
        assert_eq!(
            thief.send(&thief.http(method, &target, &sealed)).0,
            401,
            "{method} {target} with keys of its own"
        );
    }
    assert_eq!(desktop.value::<i64>("SELECT count(*) FROM sync_change"), before);
    assert_eq!(phone.sync(), (0, 0), "the owner goes on");
}

#[test]
fn who_holds_all_keys_of_the_desktop_still_can_not_speak_as_the_phone() {
    // Key-compromise impersonation: identity, pair secret and prekey of the server are known, and a
    // request was captured.
    let (server, client, thief) = (
        Identity::from_secrets(&[1; 32], &[2; 32]),
        Identity::from_secrets(&[3; 32], &[4; 32]),
        Identity::from_secrets(&[5; 32], &[6; 32]),
    );
    let pair = envelope::PairSecret {
        secret: storysync_engine::trust::identity::Secret::from_bytes([9; 32]),
        epoch: 1,
    };
    let prekey = AgreementKey::from_bytes([7; 32]);
    let recipient = prekey.public();
    let (client_key, server_key) = (client.public_key(), server.public_key());
    let route = Route {
        method: "POST",
        target: "/api/sync/push",
        client: &client_key,
        server: &server_key,
    };
    let seal = |by: &Identity, body: &[u8]| {
        let message = Message { route, body, sent_ms: 0 };
        let key_use = KeyUse { kid: 1, seq: 1 };
        envelope::seal_request(message, &pair, &recipient, key_use, by, &mut system_rng())
            .unwrap()
            .0
    };
    assert!(envelope::open_request(route, &pair, &prekey, &seal(&client, b"honest")).is_ok());
    // Everything is right, but the signature is made with another key.
    assert!(envelope::open_request(route, &pair, &prekey, &seal(&thief, b"forged")).is_err());
    assert!(envelope::open_request(route, &pair, &prekey, &seal(&server, b"forged")).is_err());
}

#[test]
fn what_was_recorded_stays_closed_when_all_keys_leak_later() {
    let mut desktop = TestNode::with_fixture(Dialect::Newer);
    let mut phone = TestNode::empty();
    desktop.serve();
    let recorder = Recorder::before(desktop.port);
    phone.run_json(&["pair", "join", &desktop.qr_through(recorder.port)]);
    phone.sync();
    phone.app("UPDATE actor SET notes = 'known to nobody else' WHERE id = 1");
    assert_eq!(phone.sync(), (1, 0));
    desktop.stop();
    phone.stop();

    // Now the thief has both data directories.
    let keys =
        |node: &TestNode| key_file::load_or_create(&node.data_dir(), &mut system_rng()).unwrap();
    let (server, client) = (keys(&desktop), keys(&phone));
    let pair =
        TrustStore::open(&desktop.data_dir()).unwrap().devices().unwrap()[0].pair.clone().unwrap();
    let (client_key, server_key) = (client.public_key(), server.public_key());
    let scalar = |identity: &Identity| AgreementKey::from_bytes(*identity.to_secrets().1.expose());
    let (mut tried, mut opened_status) = (0, 0);
    for request in recorder.requests() {
        let end = request.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&request[..end]).into_owned();
        let mut words = head.split(' ');
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        let sealed = match head.lines().find_map(|line| line.strip_prefix("x-storysync-sealed: ")) {
            Some(text) => base64::Engine::decode(
                &base64::engine::general_purpose::URL_SAFE_NO_PAD,
                text.trim(),
            )
            .unwrap(),
            None => request[end + 4..].to_vec(),
        };
        let route = Route { method, target, client: &client_key, server: &server_key };
        let opens = [&server, &client].iter().any(|identity| {
            envelope::open_request(route, &pair, &scalar(identity), &sealed).is_ok()
        });
        if target == "/api/sync/status" {
            // Sealed to the long-term key; it says nothing but "give me a prekey".
            opened_status += usize::from(opens);
        } else {
            assert!(!opens, "{method} {target} opened");
            tried += 1;
        }
    }
    assert!(
        tried >= 4 && opened_status >= 1,
        "{tried} requests, {opened_status} status calls: the check itself must be able to open \
            something"
    );
}

#[test]
fn an_answer_in_plain_text_is_an_error_and_unpairs_nobody() {
    let (mut desktop, phone) = paired();
    let port = desktop.port;
    desktop.stop();
    // Somebody else answers at the desktop's address, friendly and in the clear.
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let heard = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let hearing = std::sync::Arc::clone(&heard);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(mut client) = client else { return };
            client.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            let mut buffer = [0; 64 * 1024];
            while let Ok(read) = client.read(&mut buffer) {
                if read == 0 {
                    break;
                }
                hearing.lock().unwrap().extend_from_slice(&buffer[..read]);
                let status = if hearing.lock().unwrap().len() % 2 == 0 {
                    "200 OK"
                } else {
                    "401 Unauthorized"
                };
                let body = r#"{"kid":"1","prekey":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","changes":[],"cursor":"","has_more":false}"#;
                drop(
                    client.write_all(
                        format!(
                            "HTTP/1.1 {status}\r\ncontent-type: \
                        application/json\r\ncontent-length: {}\r\n\r\n{body}",
                            body.len()
                        )
                        .as_bytes(),
                    ),
                );
            }
        }
    });
    phone.app("UPDATE actor SET notes = 'for the desktop alone' WHERE id = 1");
    for _ in 0..4 {
        let output = phone.run(&["sync", "--json"]);
        assert_eq!(output.status.code(), Some(1));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let error = report["peers"][0]["error"].as_str().unwrap();
        assert!(error.contains("not from") || error.contains("does not accept"), "{error}");
    }
    let heard = heard.lock().unwrap();
    assert!(
        !heard.is_empty() && !String::from_utf8_lossy(&heard).contains("for the desktop"),
        "nothing was sent unsealed"
    );
    assert_eq!(phone.run_json(&["devices"])["devices"][0]["is_active"], true, "still paired");
}

#[test]
fn no_secret_ever_issued_and_no_story_text_stands_in_any_log() {
    let mut desktop = TestNode::with_fixture(Dialect::Newer);
    let mut phone = TestNode::empty();
    let log = desktop.folder.path().join("node.log");
    let ready = {
        let mut command = desktop.command(&[
            "serve",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--admin-port",
            "0",
            "--pairing-approval",
            "none",
        ]);
        command
            .env("STORYSYNC_LOG", "trace")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).unwrap());
        let mut child = command.spawn().unwrap();
        let ready = ready_line(&mut child);
        desktop.serving = Some(child);
        ready
    };
    desktop.port = ready["url"].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap();
    let mut logs = String::new();
    let mut run = |node: &TestNode, arguments: &[&str]| {
        let output = node
            .command(arguments)
            .env("STORYSYNC_LOG", "trace")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        logs.push_str(&String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let shown: Value = serde_json::from_str(&run(&desktop, &["pair", "show", "--json"])).unwrap();
    let qr = shown["qr"].as_str().unwrap().to_owned();
    run(&phone, &["pair", "join", &qr]);
    run(&phone, &["sync"]);
    phone.app("UPDATE actor SET notes = 'a twist nobody may read', title = 'Queen' WHERE id = 1");
    desktop.app(
        "UPDATE actor SET title = 'Empress' WHERE sync_uuid = (SELECT sync_uuid FROM actor \
        LIMIT 1)",
    );
    run(&phone, &["sync"]);
    run(&phone, &["conflicts"]);
    // Failures are logged, too.
    let client = Handmade::of(&phone, &desktop);
    let prekey = client.prekey();
    client.push_actor("Logged", 1, prekey);
    client.send(&client.http("POST", "/api/sync/push", b"a body nobody can open"));
    client.ask(client.request(
        "POST",
        "/api/sync/push",
        br#"{"changes":[{"entity_type":"actor","sync_uuid":"x","automerge":["AAAA"]}]}"#,
        2,
        prekey,
    ));
    client.ask(client.request(
        "POST",
        "/api/sync/push",
        b"{ a broken body with story text",
        3,
        prekey,
    ));
    exchange(
        &format!("127.0.0.1:{}", desktop.port),
        b"POST /api/pair/register HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 9\r\nconnection: \
            close\r\n\r\nlet me in",
    );
    let (_, token) = admin(&desktop);
    run(
        &desktop,
        &["devices", "revoke", phone.run_json(&["status"])["device_id"].as_str().unwrap()],
    );
    run(&phone, &["sync"]);
    desktop.stop();
    phone.stop();
    logs.push_str(&std::fs::read_to_string(&log).unwrap());
    assert!(logs.len() > 1_000, "nothing was logged: the test proves nothing");

    let mut secrets = vec![
        token,
        serde_json::from_str::<Value>(&qr).unwrap()["token"].as_str().unwrap().to_owned(),
    ];
    for (node, peer) in [(&desktop, &phone), (&phone, &desktop)] {
        let (seed, scalar) =
            key_file::load_or_create(&node.data_dir(), &mut system_rng()).unwrap().to_secrets();
        secrets.extend([to_base64url(seed.expose()), to_base64url(scalar.expose())]);
        secrets.push(format!("{:?}", seed.expose()));
        let _ = peer;
    }
    let device = &client.device;
    for secret in [device.token.as_ref().unwrap(), &device.pair.as_ref().unwrap().secret] {
        secrets.push(to_base64url(secret.expose()));
        secrets.push(secret.expose().iter().map(|byte| format!("{byte:02x}")).collect());
        secrets.push(format!("{:?}", secret.expose()));
    }
    for text in
        ["a twist nobody", "Queen", "Empress", "Logged", "story text", "let me in", "a body nobody"]
    {
        secrets.push(text.to_owned());
    }
    for secret in &secrets {
        assert!(!logs.contains(secret.as_str()), "{secret:?} stands in a log");
    }
}
