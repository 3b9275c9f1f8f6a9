//! The binary as a person runs it: real processes, real HTTP, a foreign program writing the file.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::fixtures::{self, Dialect};
use crate::nodes::*;
use crate::support::{assert_same_content, canonical};

#[test]
fn a_second_device_pairs_by_qr_text_and_holds_every_row() {
    let (desktop, phone) = paired();
    assert_same_content(&desktop.database, &phone.database, true);
    assert_eq!(phone.sync(), (0, 0));
    let status = phone.run_json(&["status"]);
    assert_eq!((status["entities"].as_u64(), status["pending"].as_u64(), status["parked"].as_u64()), (Some(645), Some(0), Some(0)));
    for node in [&desktop, &phone] {
        let devices = node.run_json(&["devices"]);
        assert_eq!(devices["devices"][0]["is_active"], true);
        let secrets: String = node.value("SELECT group_concat(auth_token) FROM sync_device");
        assert!(secrets.starts_with("storysync:12D3"), "no token may stand in the app's file: {secrets}");
    }
}

#[test]
fn offline_edits_meet_whichever_side_serves() {
    let (mut desktop, mut phone) = paired();
    let uuid: String = desktop.value("SELECT sync_uuid FROM actor WHERE id = 1");
    desktop.stop();
    desktop.app("UPDATE actor SET first_name = 'Desk' WHERE id = 1; DELETE FROM object_ WHERE id = 1");
    phone.app(&format!(
        "UPDATE actor SET last_name = 'Phone' WHERE sync_uuid = '{uuid}'; INSERT INTO setting (name, user_id, sync_uuid, version) VALUES ('New', 1, 'new-1', 1)"
    ));
    desktop.serve();
    assert_eq!(phone.sync(), (2, 2));
    assert_same_content(&desktop.database, &phone.database, true);
    assert_eq!(phone.sync(), (0, 0));

    // The phone serves and tells its port; then the desktop calls.
    phone.serve();
    assert_eq!(phone.sync(), (0, 0));
    desktop.stop();
    phone.stop();
    desktop.app("UPDATE actor SET job = 'caller' WHERE id = 1");
    phone.app(&format!("UPDATE actor SET title = 'served' WHERE sync_uuid = '{uuid}'"));
    phone.serve();
    assert_eq!(desktop.sync(), (1, 1));
    assert_same_content(&desktop.database, &phone.database, true);
    assert_eq!(desktop.sync(), (0, 0));
}

#[test]
fn a_clash_is_listed_with_both_values_on_both_devices() {
    let (desktop, phone) = paired();
    let uuid: String = desktop.value("SELECT sync_uuid FROM actor WHERE id = 1");
    desktop.app("UPDATE actor SET title = 'Queen' WHERE id = 1");
    phone.app(&format!("UPDATE actor SET title = 'Empress' WHERE sync_uuid = '{uuid}'"));
    phone.sync();
    let (a, b) = (desktop.run_json(&["conflicts"]), phone.run_json(&["conflicts"]));
    assert_eq!(a, b);
    let field = &a["conflicts"][0]["fields"][0];
    let mut values: Vec<&str> = field["values"].as_array().unwrap().iter().map(|value| value["value"].as_str().unwrap()).collect();
    values.sort_unstable();
    assert_eq!(values, ["Empress", "Queen"]);
    let shown: [String; 2] = [&desktop, &phone].map(|node| node.value(&format!("SELECT title FROM actor WHERE sync_uuid = '{uuid}'")));
    assert_eq!((shown[0].as_str(), shown[1].as_str()), (field["shown"].as_str().unwrap(), field["shown"].as_str().unwrap()));
}

#[test]
fn a_clash_decided_on_one_device_is_over_on_both() {
    let (desktop, phone) = paired();
    let clash = |round: usize| {
        let uuid: String = desktop.value("SELECT sync_uuid FROM actor WHERE id = 1");
        desktop.app(&format!("UPDATE actor SET title = 'Queen {round}', job = 'd{round}' WHERE id = 1"));
        phone.app(&format!("UPDATE actor SET title = 'Empress {round}', job = 'p{round}' WHERE sync_uuid = '{uuid}'"));
        phone.sync();
        phone.run_json(&["conflicts"])["conflicts"][0]["id"].as_str().unwrap().to_owned()
    };
    let both = |column: &str| -> [String; 2] {
        [&desktop, &phone].map(|node| node.value(&format!("SELECT {column} FROM actor WHERE first_name LIKE 'actor first_name 1%' ORDER BY id LIMIT 1")))
    };
    let id = clash(1);
    for usage in [&["conflicts", "resolve", &id][..], &["conflicts", "resolve", &id, "--field", "x"], &["undo", "actor", "x", "--since", "2026-01-01"]] {
        assert_eq!(phone.run(usage).status.code(), Some(2), "{usage:?}");
    }
    assert!(phone.fails(&["conflicts", "resolve", &id, "--field", "nonsense=1"]).contains("not part of this clash"));
    assert!(phone.fails(&["conflicts", "resolve", "0000", "--take", "mine"]).contains("storysync conflicts"));
    phone.run_json(&["conflicts", "resolve", &id, "--take", "mine"]);
    phone.sync();
    assert_eq!(both("title || job"), ["Empress 1p1", "Empress 1p1"]);
    let id = clash(2);
    phone.run_json(&["conflicts", "resolve", &id, "--take", "theirs", "--field", "title=Both of us"]);
    phone.sync();
    assert_eq!(both("title || job"), ["Both of usd2", "Both of usd2"]);
    clash(3);
    assert_eq!(desktop.run_json(&["conflicts", "resolve", "--all", "theirs"])["resolved"], 1);
    phone.sync();
    assert_eq!(both("title"), ["Empress 3", "Empress 3"]);
    for node in [&desktop, &phone] {
        assert!(node.run_json(&["conflicts"])["conflicts"].as_array().unwrap().is_empty());
    }
}

#[test]
fn a_running_node_takes_in_what_a_foreign_program_writes() {
    let (desktop, phone) = paired();
    for round in 0..5 {
        let before: i64 = desktop.value("SELECT max(seq) FROM sync_change");
        desktop.app(&format!("UPDATE actor SET job = 'round {round}' WHERE id = 1"));
        let started = Instant::now();
        while desktop.value::<i64>("SELECT max(seq) FROM sync_change") == before {
            assert!(started.elapsed() < Duration::from_secs(5), "nobody noticed");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    assert_eq!(phone.sync(), (0, 1));
}

#[test]
fn the_qr_picture_decodes_and_pairs() {
    let mut desktop = TestNode::with_fixture(Dialect::Presync);
    let phone = TestNode::empty();
    desktop.serve();
    let admin: Value = serde_json::from_slice(&std::fs::read(desktop.data_dir().join("admin.json")).unwrap()).unwrap();
    let get = |target: &str, token: &str| http_get(admin["url"].as_str().unwrap().trim_start_matches("http://"), target, token);
    let (status, _) = get("/api/pair/qr-image", "nonsense");
    assert_eq!(status, 401);
    let (status, png) = get("/api/pair/qr-image", admin["token"].as_str().unwrap());
    assert_eq!(status, 200);
    let picture = phone.folder.path().join("qr.png");
    std::fs::write(&picture, &png).unwrap();
    phone.run_json(&["pair", "join", "--image", picture.to_str().unwrap()]);
    assert_eq!(phone.sync(), (0, 645));
    // The LAN listener shows no codes.
    let (status, _) = http_get(&format!("127.0.0.1:{}", desktop.port), "/api/pair/qr-data", admin["token"].as_str().unwrap());
    assert_eq!(status, 404);
}

#[test]
fn a_code_must_be_typed_when_approval_is_wanted() {
    let mut desktop = TestNode::with_fixture(Dialect::Presync);
    let phone = TestNode::empty();
    desktop.serve_with(&["--pairing-approval", "code"]);
    assert!(desktop.fails(&["pair", "confirm", "0000"]).contains("pair show"));
    let qr = desktop.qr();
    let mut joining = phone.command(&["pair", "join", &qr]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(joining.stdout.take().unwrap());
    let code = loop {
        let mut line = String::new();
        assert!(out.read_line(&mut line).unwrap() > 0, "no code was shown");
        let line = line.trim();
        if line.len() == 4 && line.chars().all(|digit| digit.is_ascii_digit()) {
            break line.to_owned();
        }
    };
    let wrong = if code == "1234" { "4321" } else { "1234" };
    assert!(desktop.fails(&["pair", "confirm", wrong]).contains("2 tries"));
    desktop.run_json(&["pair", "confirm", &code]);
    assert!(joining.wait().unwrap().success());
    assert_eq!(phone.sync(), (0, 645));
}

#[test]
fn a_node_stops_when_its_parent_closes_stdin() {
    let mut desktop = TestNode::with_fixture(Dialect::Presync);
    desktop.serve_with(&["--exit-with-parent"]);
    let mut child = desktop.serving.take().unwrap();
    drop(child.stdin.take());
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(started.elapsed() < Duration::from_secs(2));
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!desktop.data_dir().join("admin.json").exists());
}

/// A stranger on the network between two nodes: forwards and records every byte of each direction.
struct Recorder {
    port: u16,
    recorded: Arc<Mutex<Recorded>>,
}

#[derive(Default)]
struct Recorded {
    /// Everything clients sent, by connection.
    requests: Vec<Vec<u8>>,
    /// Everything the server answered.
    answers: Vec<Vec<u8>>,
}

impl Recorder {
    fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let recorded = Arc::new(Mutex::new(Recorded::default()));
        let shared = Arc::clone(&recorded);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                let index = {
                    let mut recorded = shared.lock().unwrap();
                    recorded.requests.push(Vec::new());
                    recorded.answers.push(Vec::new());
                    recorded.requests.len() - 1
                };
                let (shared_up, shared_down) = (Arc::clone(&shared), Arc::clone(&shared));
                let (client_up, server_up) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || forward(client_up, server_up, |bytes| shared_up.lock().unwrap().requests[index].extend_from_slice(bytes)));
                std::thread::spawn(move || forward(server, client, |bytes| shared_down.lock().unwrap().answers[index].extend_from_slice(bytes)));
            }
        });
        Self { port, recorded }
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, mut note: impl FnMut(&[u8])) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(read) = from.read(&mut buffer) {
        if read == 0 {
            break;
        }
        note(&buffer[..read]);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    drop(to.shutdown(std::net::Shutdown::Write));
}

/// The HTTP requests in a recorded stream.
fn requests_in(stream: &[u8]) -> Vec<Vec<u8>> {
    let mut requests = Vec::new();
    let mut rest = stream;
    while let Some(end) = rest.windows(4).position(|window| window == b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&rest[..end]).to_lowercase();
        let length: usize = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |length| length.trim().parse().unwrap());
        let all = (end + 4 + length).min(rest.len());
        requests.push(rest[..all].to_vec());
        rest = &rest[all..];
    }
    requests
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
    assert_eq!(desktop.value::<i64>("SELECT count(*) FROM actor WHERE notes = 'a very secret plot twist'"), 1);

    let (wire, requests) = {
        let recorded = recorder.recorded.lock().unwrap();
        let wire: Vec<u8> = recorded.requests.iter().chain(&recorded.answers).flatten().copied().collect();
        let requests: Vec<Vec<u8>> = recorded.requests.iter().flat_map(|stream| requests_in(stream)).collect();
        (wire, requests)
    };
    assert!(wire.len() > 20_000, "the sync did not pass through the recorder");
    let mut texts: Vec<String> = vec!["secret plot".into(), "first_name".into(), "sync_uuid".into(), "entity_type".into(), "litography".into()];
    for line in canonical(&desktop.database, false) {
        texts.extend(line.split('"').filter(|part| part.len() >= 12).map(str::to_owned));
    }
    for text in &texts {
        assert!(!wire.windows(text.len()).any(|window| window == text.as_bytes()), "{text:?} crossed the wire in the clear");
    }

    // Every recorded request again: nothing changes.
    let address = format!("127.0.0.1:{}", desktop.port);
    let before = canonical(&desktop.database, true);
    let changes: i64 = desktop.value("SELECT count(*) FROM sync_change");
    for request in &requests {
        let (status, _) = exchange(&address, &closing(request));
        let is_status_call = request.starts_with(b"GET /api/sync/status");
        assert!(matches!(status, 401 | 409) || (is_status_call && status == 200), "a replayed request was answered with {status}");
    }
    // A flipped bit anywhere in the body of the push: refused, and nothing changes. The prekey is alive.
    let push = requests.iter().rfind(|request| request.starts_with(b"POST /api/sync/push")).unwrap();
    let body = push.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    for position in (body..push.len()).step_by(((push.len() - body) / 60).max(1)) {
        let mut flipped = closing(push);
        let shift = flipped.len() - push.len();
        flipped[position + shift] ^= 1;
        let (status, _) = exchange(&address, &flipped);
        assert!(matches!(status, 401 | 409), "a byte flipped at {position} was answered with {status}");
    }
    assert_eq!(desktop.value::<i64>("SELECT count(*) FROM sync_change"), changes);
    assert_eq!(canonical(&desktop.database, true), before);
    assert_eq!(phone.sync(), (0, 0), "the honest device goes on");
}

/// The request, asking the server to close the connection after it.
fn closing(request: &[u8]) -> Vec<u8> {
    let line = request.windows(2).position(|window| window == b"\r\n").unwrap() + 2;
    [&request[..line], b"connection: close\r\n", &request[line..]].concat()
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

/// Forwards answers with the last byte of each flipped.
fn spoil(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 256 * 1024];
    while let Ok(read) = from.read(&mut buffer) {
        if read == 0 {
            break;
        }
        buffer[read - 1] ^= 1;
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
}

#[test]
fn killing_either_node_anywhere_in_a_sync_ends_in_the_same_state() {
    let mut desktop = TestNode::with_fixture(Dialect::Newer);
    desktop.serve();
    let phone = TestNode::empty();
    phone.run_json(&["pair", "join", &desktop.qr()]);
    phone.app("INSERT INTO user (username, sync_uuid, version) VALUES ('me', 'me-1', 1); INSERT INTO setting (name, user_id, sync_uuid, version) SELECT 'from the phone', id, 'setting-1', 1 FROM user");
    for round in 0..12_u64 {
        let mut syncing = phone.command(&["sync", "--json"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(40 + round * 45));
        if round % 2 == 0 {
            drop(syncing.kill());
            syncing.wait().unwrap();
        } else {
            desktop.kill();
            syncing.wait().unwrap();
            desktop.serve();
        }
    }
    phone.sync();
    assert_eq!(phone.sync(), (0, 0));
    assert_same_content(&desktop.database, &phone.database, true);
    assert_eq!(canonical(&desktop.database, false).len(), 647);
}

#[test]
fn two_real_files_converge_through_the_binary() {
    for file in fixtures::real_files() {
        let mut desktop = TestNode::without_database();
        std::fs::write(&desktop.database, std::fs::read(&file).unwrap()).unwrap();
        desktop.serve();
        let phone = TestNode::empty();
        phone.run_json(&["pair", "join", &desktop.qr()]);
        let rows = canonical(&desktop.database, false).len() as u64;
        assert_eq!(phone.sync(), (0, rows), "{}", file.display());
        assert_same_content(&desktop.database, &phone.database, true);
    }
}

#[test]
fn errors_say_what_to_do_and_leave_everything_alone() {
    let node = TestNode::without_database();
    assert!(node.fails(&["status"]).contains("storysync init"));
    assert!(node.fails(&["sync"]).contains("pair show"));

    std::fs::write(&node.database, b"this is a letter, not a database, and it is longer than a header of SQLite is".repeat(20)).unwrap();
    let before = std::fs::read(&node.database).unwrap();
    assert!(node.fails(&["migrate"]).contains("is not an SQLite database"));
    assert!(node.fails(&["init"]).contains("exists already"));
    assert_eq!(std::fs::read(&node.database).unwrap(), before);
    std::fs::remove_file(&node.database).unwrap();

    fixtures::make(&node.database, Dialect::Presync);
    assert!(node.fails(&["pair", "show"]).contains("storysync serve"));
    assert!(node.fails(&["pair", "join", "hello"]).contains("not a storysync pairing code"));
    let bytes = [1_u8; 32];
    let key = storysync::trust::to_base64url(&bytes);
    let expired = format!(r#"{{"v":1,"ip":"127.0.0.1","port":1,"token":"{key}","id":"{key}","ek":"{key}","exp":1000}}"#);
    assert!(node.fails(&["pair", "join", &expired]).contains("expired"));
    let nobody = expired.replace("1000", "99999999999");
    assert!(node.fails(&["pair", "join", &nobody]).contains("can't be reached at 127.0.0.1:1"));
    assert!(node.fails(&["document", "actor", "none"]).contains("no row of table actor"));
    assert!(node.fails(&["devices", "revoke", "nobody"]).contains("storysync devices"));
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
    forged["token"] = storysync::trust::to_base64url(&[9; 32]).into();
    assert!(other.fails(&["pair", "join", &forged.to_string()]).contains("does not accept this pairing code"));
    assert_eq!(other.run_json(&["devices"])["devices"].as_array().unwrap().len(), 0);
}

#[test]
fn a_revoked_device_cannot_sync() {
    let (desktop, phone) = paired();
    let id = phone.run_json(&["status"])["device_id"].as_str().unwrap().to_owned();
    desktop.run_json(&["devices", "revoke", &id]);
    let output = phone.run(&["sync", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["peers"][0]["error"].as_str().unwrap().contains("does not accept this device"), "{report}");
    assert_eq!(desktop.run_json(&["devices"])["devices"][0]["is_active"], false);
}

#[test]
fn a_taken_port_is_an_error_and_not_ready() {
    let desktop = TestNode::with_fixture(Dialect::Presync);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let sentence = desktop.fails(&["serve", "--host", "127.0.0.1", "--port", &port, "--admin-port", "0"]);
    assert!(sentence.contains("is taken") && sentence.contains("--port"), "{sentence}");
    let sentence = desktop.fails(&["serve", "--host", "127.0.0.1", "--port", "0", "--admin-port", &port]);
    assert!(sentence.contains("is taken") && sentence.contains("--admin-port"), "{sentence}");
}

#[test]
fn an_unreachable_peer_is_told_with_its_addresses() {
    let (mut desktop, phone) = paired();
    desktop.stop();
    let output = phone.run(&["sync", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["peers"][0]["error"].as_str().unwrap().contains(&format!("127.0.0.1:{}", desktop.port)), "{report}");
}

#[test]
fn a_locked_database_is_told_and_left_alone() {
    let node = TestNode::with_fixture(Dialect::Presync);
    let before = std::fs::read(&node.database).unwrap();
    let app = rusqlite::Connection::open(&node.database).unwrap();
    app.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let sentence = node.fails(&["migrate"]);
    assert!(sentence.contains("locked by another program"), "{sentence}");
    app.execute_batch("ROLLBACK").unwrap();
    assert_eq!(std::fs::read(&node.database).unwrap(), before);
    assert_eq!(node.run_json(&["migrate"])["tables"].as_array().unwrap().len(), 63);
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

/// Runs with a small file system mounted; says why when the machine does not let it.
fn with_small_disk(size: &str, test: impl FnOnce(&Path)) {
    let folder = TempDir::new().unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(folder.path()).output();
    if !mounted.as_ref().is_ok_and(|output| output.status.success()) {
        println!("skipped: this machine does not let the test mount a small file system ({mounted:?})");
        return;
    }
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(folder.path())));
    Command::new("umount").arg("-l").arg(folder.path()).status().unwrap();
    if let Err(panic) = done {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn a_full_disk_is_told_and_the_file_is_as_it_was() {
    let (_folder, file) = fixtures::file(Dialect::Presync);
    let bytes = std::fs::read(&file).unwrap();
    // Room for the database and not for a backup beside it.
    with_small_disk("1m", |disk| {
        let database = disk.join("storymaster.db");
        std::fs::write(&database, &bytes).unwrap();
        let run = |data_dir: &Path| {
            let output = Command::new(BINARY).arg("migrate").arg("--db").arg(&database).arg("--data-dir").arg(data_dir).output().unwrap();
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        let (code, sentence) = run(&disk.join("data"));
        assert_eq!(code, Some(1), "{sentence}");
        assert!(sentence.contains("make room"), "{sentence}");
        assert_eq!(std::fs::read(&database).unwrap(), bytes);
        // Room for the backup elsewhere, and none for the tables themselves.
        let elsewhere = TempDir::new().unwrap();
        let (code, sentence) = run(&elsewhere.path().join("data"));
        assert_eq!(code, Some(1), "{sentence}");
        assert!(sentence.contains("full"), "{sentence}");
        assert_eq!(std::fs::read(&database).unwrap(), bytes);
    });
}

#[test]
fn a_file_that_may_not_be_written_is_told_and_left_alone() {
    let node = TestNode::with_fixture(Dialect::Presync);
    let bytes = std::fs::read(&node.database).unwrap();
    with_small_disk("8m", |disk| {
        let database = disk.join("storymaster.db");
        std::fs::write(&database, &bytes).unwrap();
        assert!(Command::new("mount").args(["-o", "remount,ro"]).arg(disk).status().unwrap().success());
        let output = Command::new(BINARY).arg("migrate").arg("--db").arg(&database).arg("--data-dir").arg(node.data_dir()).output().unwrap();
        let sentence = String::from_utf8(output.stderr).unwrap();
        assert!(sentence.contains("write permission"), "{sentence}");
        assert_eq!(std::fs::read(&database).unwrap(), bytes);
    });
}

#[test]
fn javascript_opens_the_document_with_equal_heads_on_both_devices() {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/js");
    if !scripts.join("node_modules/@automerge/automerge").exists() {
        println!("skipped: run `npm ci` in tests/js first (tests/run.sh does)");
        return;
    }
    let (desktop, phone) = paired();
    let uuid: String = desktop.value("SELECT sync_uuid FROM actor WHERE id = 1");
    phone.app(&format!("UPDATE actor SET first_name = 'Æsa 🦊', actor_age = 41 WHERE sync_uuid = '{uuid}'"));
    phone.sync();
    let files: Vec<PathBuf> = [&desktop, &phone]
        .iter()
        .map(|node| {
            let output = node.run(&["document", "actor", &uuid]);
            assert!(output.status.success());
            let file = node.folder.path().join("document.automerge");
            std::fs::write(&file, output.stdout).unwrap();
            file
        })
        .collect();
    let output = Command::new("node").arg(scripts.join("open_document.mjs")).args(&files).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let documents: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(documents[0], documents[1]);
    let fields = &documents[0]["fields"];
    assert_eq!((&fields["first_name"], &fields["actor_age"], &fields["version"]), (&"Æsa 🦊".into(), &41.into(), &2.into()));
    for field in ["created_at", "updated_at", "deleted_at"] {
        assert!(fields.get(field).is_some(), "{field}");
    }
    assert_eq!(fields["version"].as_i64(), documents[0]["changes"].as_i64());
}

#[test]
fn the_demo_shows_a_merge_a_clash_and_its_resolution() {
    let output = Command::new(BINARY).args(["demo", "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["merged"]["job"], "harbour master");
    assert_eq!(told["merged"]["notes"], "Afraid of the sea. Never says so.");
    assert_eq!(told["conflicts"][0]["fields"][0]["values"].as_array().unwrap().len(), 2);
    assert_eq!((&told["resolved"]["title"], &told["open_conflicts"]), (&"Admiral Queen".into(), &0.into()));
}
