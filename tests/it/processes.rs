//! The binary as a person runs it: real processes, real HTTP, a foreign program writing the file.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::eavesdropper::close_first_when_silent;
use crate::fixtures::{self, Dialect};
use crate::nodes::*;
use crate::support::{assert_same_content, canonical};

#[test]
fn a_second_device_pairs_by_qr_text_and_holds_every_row() {
    let (desktop, phone) = paired();
    assert_same_content(&desktop.database, &phone.database, true);
    assert_eq!(phone.sync(), (0, 0));
    let status = phone.run_json(&["status"]);
    assert_eq!(
        (status["entities"].as_u64(), status["pending"].as_u64(), status["parked"].as_u64()),
        (Some(645), Some(0), Some(0))
    );
    for node in [&desktop, &phone] {
        let devices = node.run_json(&["devices"]);
        assert_eq!(devices["devices"][0]["is_active"], true);
        let secrets: String = node.value("SELECT group_concat(auth_token) FROM sync_device");
        assert!(
            secrets.starts_with("storysync:12D3"),
            "no token may stand in the app's file: {secrets}"
        );
    }
}

#[test]
fn offline_edits_meet_whichever_side_serves() {
    let (mut desktop, mut phone) = paired();
    let uuid: String = desktop.value("SELECT sync_uuid FROM actor WHERE id = 1");
    desktop.stop();
    desktop
        .app("UPDATE actor SET first_name = 'Desk' WHERE id = 1; DELETE FROM object_ WHERE id = 1");
    phone.app(&format!(
        "UPDATE actor SET last_name = 'Phone' WHERE sync_uuid = '{uuid}'; INSERT INTO setting \
            (name, user_id, sync_uuid, version) VALUES ('New', 1, 'new-1', 1)"
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
fn a_conflict_is_listed_with_both_values_on_both_devices() {
    let (desktop, phone) = paired();
    let uuid: String = desktop.value("SELECT sync_uuid FROM actor WHERE id = 1");
    desktop.app("UPDATE actor SET title = 'Queen' WHERE id = 1");
    phone.app(&format!("UPDATE actor SET title = 'Empress' WHERE sync_uuid = '{uuid}'"));
    phone.sync();
    let (a, b) = (desktop.run_json(&["conflicts"]), phone.run_json(&["conflicts"]));
    assert_eq!(a, b);
    let field = &a["conflicts"][0]["fields"][0];
    let mut values: Vec<&str> = field["values"]
        .as_array()
        .unwrap()
        .iter()
        .map(|value| value["value"].as_str().unwrap())
        .collect();
    values.sort_unstable();
    assert_eq!(values, ["Empress", "Queen"]);
    let shown: [String; 2] = [&desktop, &phone]
        .map(|node| node.value(&format!("SELECT title FROM actor WHERE sync_uuid = '{uuid}'")));
    assert_eq!(
        (shown[0].as_str(), shown[1].as_str()),
        (field["shown"].as_str().unwrap(), field["shown"].as_str().unwrap())
    );
}

#[test]
fn a_conflict_decided_on_one_device_is_over_on_both() {
    let (desktop, phone) = paired();
    let conflict = |round: usize| {
        let uuid: String = desktop.value("SELECT sync_uuid FROM actor WHERE id = 1");
        desktop.app(&format!(
            "UPDATE actor SET title = 'Queen {round}', job = 'd{round}' WHERE id = 1"
        ));
        phone.app(&format!(
            "UPDATE actor SET title = 'Empress {round}', job = 'p{round}' WHERE \
            sync_uuid = '{uuid}'"
        ));
        phone.sync();
        phone.run_json(&["conflicts"])["conflicts"][0]["id"].as_str().unwrap().to_owned()
    };
    let both = |column: &str| -> [String; 2] {
        [&desktop, &phone].map(|node| {
            node.value(&format!(
                "SELECT {column} FROM actor WHERE \
            first_name LIKE 'actor first_name 1%' ORDER BY id LIMIT 1"
            ))
        })
    };
    let id = conflict(1);
    for usage in [
        &["conflicts", "resolve", &id][..],
        &["conflicts", "resolve", &id, "--field", "x"],
        &["undo", "actor", "x", "--since", "2026-01-01"],
    ] {
        assert_eq!(phone.run(usage).status.code(), Some(2), "{usage:?}");
    }
    assert!(
        phone
            .fails(&["conflicts", "resolve", &id, "--field", "nonsense=1"])
            .contains("not part of this conflict")
    );
    assert!(
        phone
            .fails(&["conflicts", "resolve", "0000", "--take", "mine"])
            .contains("storysync conflicts")
    );
    phone.run_json(&["conflicts", "resolve", &id, "--take", "mine"]);
    phone.sync();
    assert_eq!(both("title || job"), ["Empress 1p1", "Empress 1p1"]);
    let id = conflict(2);
    phone.run_json(&[
        "conflicts",
        "resolve",
        &id,
        "--take",
        "theirs",
        "--field",
        "title=Both of us",
    ]);
    phone.sync();
    assert_eq!(both("title || job"), ["Both of usd2", "Both of usd2"]);
    conflict(3);
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
    let admin: Value =
        serde_json::from_slice(&std::fs::read(desktop.data_dir().join("admin.json")).unwrap())
            .unwrap();
    let get = |target: &str, token: &str| {
        http_get(admin["url"].as_str().unwrap().trim_start_matches("http://"), target, token)
    };
    let (status, _) = get("/api/pair/qr-image", "nonsense");
    assert_eq!(status, 401);
    let (status, png) = get("/api/pair/qr-image", admin["token"].as_str().unwrap());
    assert_eq!(status, 200);
    let picture = phone.folder.path().join("qr.png");
    std::fs::write(&picture, &png).unwrap();
    phone.run_json(&["pair", "join", "--image", picture.to_str().unwrap()]);
    assert_eq!(phone.sync(), (0, 645));
    // The LAN listener shows no codes.
    let (status, _) = http_get(
        &format!("127.0.0.1:{}", desktop.port),
        "/api/pair/qr-data",
        admin["token"].as_str().unwrap(),
    );
    assert_eq!(status, 404);
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

#[test]
fn killing_either_node_anywhere_in_a_sync_ends_in_the_same_state() {
    let mut desktop = TestNode::with_fixture(Dialect::Newer);
    desktop.serve();
    let phone = TestNode::empty();
    phone.run_json(&["pair", "join", &desktop.qr()]);
    phone.app(
        "INSERT INTO user (username, sync_uuid, version) VALUES ('me', 'me-1', 1); INSERT \
        INTO setting (name, user_id, sync_uuid, version) SELECT 'from the phone', id, 'setting-1', \
        1 FROM user",
    );
    for round in 0..12_u64 {
        let mut syncing = phone
            .command(&["sync", "--json"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
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
    node.app(
        "CREATE TABLE odd (name TEXT PRIMARY KEY) WITHOUT ROWID; CREATE TABLE note (id INTEGER \
         PRIMARY KEY, title TEXT)",
    );
    let refused = node.fails(&["migrate"]);
    assert!(
        refused.contains("odd")
            && refused.contains("WITHOUT ROWID")
            && refused.contains("excluded_tables"),
        "{refused}"
    );

    std::fs::write(
        &node.database,
        b"this is a letter, not a database, and it is longer than a header of SQLite is".repeat(20),
    )
    .unwrap();
    let before = std::fs::read(&node.database).unwrap();
    assert!(node.fails(&["migrate"]).contains("is not an SQLite database"));
    assert!(node.fails(&["init"]).contains("exists already"));
    assert_eq!(std::fs::read(&node.database).unwrap(), before);
    std::fs::remove_file(&node.database).unwrap();

    fixtures::make(&node.database, Dialect::Presync);
    assert!(node.fails(&["pair", "show"]).contains("storysync serve"));
    assert!(node.fails(&["pair", "join", "hello"]).contains("not a storysync pairing code"));
    let bytes = [1_u8; 32];
    let key = storysync_engine::trust::to_base64url(&bytes);
    // Whether a code has expired is judged by the clock of the device that shows it.
    for exp in ["1000", "99999999999"] {
        let nobody = format!(
            r#"{{"v":1,"ip":"127.0.0.1","port":1,"token":"{key}","id":"{key}","ek":"{key}","exp":{exp}}}"#
        );
        assert!(node.fails(&["pair", "join", &nobody]).contains("can't be reached at 127.0.0.1:1"));
    }
    node.run(&["migrate"]);
    assert!(node.fails(&["document", "actor", "none"]).contains("no row of table actor"));
    assert!(node.fails(&["devices", "revoke", "nobody"]).contains("storysync devices"));
}

#[test]
fn a_connection_that_was_closed_while_a_page_was_stored_is_made_anew() {
    let mut desktop = TestNode::with_fixture(Dialect::Newer);
    let phone = TestNode::empty();
    desktop.serve();
    let (port, closed) = close_first_when_silent(desktop.port);
    phone.run_json(&["pair", "join", &desktop.qr()]);
    let elsewhere = format!("[\"127.0.0.1:{port}\"]");
    rusqlite::Connection::open(phone.data_dir().join("trust.db"))
        .unwrap()
        .execute("UPDATE trust_device SET addresses = ?1", [&elsewhere])
        .unwrap();
    assert_eq!(phone.sync(), (0, 645));
    assert!(
        closed.load(std::sync::atomic::Ordering::Relaxed),
        "no connection was closed: this proves nothing"
    );
    assert_same_content(&desktop.database, &phone.database, true);
}

#[test]
fn a_taken_port_is_an_error_and_not_ready() {
    let desktop = TestNode::with_fixture(Dialect::Presync);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let sentence =
        desktop.fails(&["serve", "--host", "127.0.0.1", "--port", &port, "--admin-port", "0"]);
    assert!(sentence.contains("is taken") && sentence.contains("--port"), "{sentence}");
    let sentence =
        desktop.fails(&["serve", "--host", "127.0.0.1", "--port", "0", "--admin-port", &port]);
    assert!(sentence.contains("is taken") && sentence.contains("--admin-port"), "{sentence}");
}

/// Storymaster's own server, as far as strangers see it: its documented health answer.
fn apps_own_server(address: &str) -> Option<u16> {
    let listener = TcpListener::bind(address).ok()?;
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 1024];
            drop(std::io::Read::read(&mut stream, &mut request));
            let body = r#"{"status":"ok","timestamp":"2026-11-27T12:00:00.123456","database_connected":true,"version":"1.0.0"}"#;
            let head = format!(
                "HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: \
                    application/json\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            drop(std::io::Write::write_all(
                &mut stream,
                [head.as_bytes(), body.as_bytes()].concat().as_slice(),
            ));
        }
    });
    Some(port)
}

#[test]
fn a_port_the_apps_own_server_holds_is_told_by_its_name() {
    let desktop = TestNode::with_fixture(Dialect::Presync);
    let port = apps_own_server("127.0.0.1:0").unwrap().to_string();
    let sentence =
        desktop.fails(&["serve", "--host", "127.0.0.1", "--port", &port, "--admin-port", "0"]);
    assert!(
        sentence.contains("Storymaster's own sync server")
            && sentence.contains(&format!("(process {})", std::process::id())),
        "{sentence}"
    );
    let mut node = TestNode::with_fixture(Dialect::Presync);
    node.serve();
    let sentence = desktop.fails(&[
        "serve",
        "--host",
        "127.0.0.1",
        "--port",
        &node.port.to_string(),
        "--admin-port",
        "0",
    ]);
    assert!(sentence.contains("another storysync node"), "{sentence}");
}

#[test]
fn beside_the_apps_own_server_a_node_serves_on_the_next_free_port_and_says_why() {
    // Whoever else holds the port on this machine, it is the next one that is served on.
    let is_ours = apps_own_server("127.0.0.1:8765").is_some();
    let mut desktop = TestNode::with_fixture(Dialect::Presync);
    let log = std::fs::File::create(desktop.log_path()).unwrap();
    let mut serving = desktop.command(&[
        "serve",
        "--host",
        "127.0.0.1",
        "--admin-port",
        "0",
        "--no-live",
        "--pairing-approval",
        "none",
    ]);
    let mut child = serving
        .env("NO_COLOR", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap();
    desktop.port = ready_line(&mut child)["url"]
        .as_str()
        .unwrap()
        .rsplit(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    desktop.serving = Some(child);
    assert!(desktop.port > 8765 && desktop.port < 8765 + 25, "{}", desktop.port);
    let log = desktop.log();
    assert!(log.contains(&format!("serving on {} instead", desktop.port)), "{log}");
    assert!(
        !is_ours || log.contains("port 8765 is taken by Storymaster's own sync server"),
        "{log}"
    );
    let phone = TestNode::empty();
    phone.run_json(&["pair", "join", &desktop.qr()]);
    assert_eq!(phone.sync().1, 645, "the code names the port");
}

#[test]
fn an_unreachable_peer_is_told_with_its_addresses() {
    let (mut desktop, phone) = paired();
    desktop.stop();
    let output = phone.run(&["sync", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        report["peers"][0]["error"]
            .as_str()
            .unwrap()
            .contains(&format!("127.0.0.1:{}", desktop.port)),
        "{report}"
    );
}

/// Runs with a small file system mounted; says why when the machine does not let it.
fn with_small_disk(size: &str, test: impl FnOnce(&Path)) {
    let folder = TempDir::new().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
        .arg(folder.path())
        .output();
    if !mounted.as_ref().is_ok_and(|output| output.status.success()) {
        println!(
            "skipped: this machine does not let the test mount a small file system ({mounted:?})"
        );
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
            let output = Command::new(BINARY)
                .arg("migrate")
                .arg("--db")
                .arg(&database)
                .arg("--data-dir")
                .arg(data_dir)
                .output()
                .unwrap();
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
        assert!(
            Command::new("mount").args(["-o", "remount,ro"]).arg(disk).status().unwrap().success()
        );
        let output = Command::new(BINARY)
            .arg("migrate")
            .arg("--db")
            .arg(&database)
            .arg("--data-dir")
            .arg(node.data_dir())
            .output()
            .unwrap();
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
    phone.app(&format!(
        "UPDATE actor SET first_name = 'Æsa 🦊', actor_age = 41 WHERE sync_uuid = '{uuid}'"
    ));
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
    let output =
        Command::new("node").arg(scripts.join("open_document.mjs")).args(&files).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let documents: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(documents[0], documents[1]);
    let fields = &documents[0]["fields"];
    assert_eq!(
        (&fields["first_name"], &fields["actor_age"], &fields["version"]),
        (&"Æsa 🦊".into(), &41.into(), &2.into())
    );
    for field in ["created_at", "updated_at", "deleted_at"] {
        assert!(fields.get(field).is_some(), "{field}");
    }
    assert_eq!(fields["version"].as_i64(), documents[0]["changes"].as_i64());
}

#[test]
fn the_demo_shows_a_merge_a_conflict_and_its_resolution() {
    let output = Command::new(BINARY).args(["demo", "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["merged"]["job"], "harbour master");
    assert_eq!(told["merged"]["notes"], "Afraid of the sea. Never says so.");
    assert_eq!(told["conflicts"][0]["fields"][0]["values"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&told["resolved"]["title"], &told["open_conflicts"]),
        (&"Admiral Queen".into(), &0.into())
    );
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
fn an_unsealed_request_is_told_where_sealing_is_described() {
    let mut desktop = TestNode::with_fixture(Dialect::Presync);
    desktop.serve();
    for request in [
        "POST /api/sync/push HTTP/1.1\r\nContent-Type: application/json\r\nAuthorization: Bearer \
            documented\r\nContent-Length: 2\r\n",
        "GET /api/sync/status HTTP/1.1\r\nContent-Length: 0\r\n",
    ] {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", desktop.port)).unwrap();
        let body = if request.starts_with("POST") { "{}" } else { "" };
        std::io::Write::write_all(
            &mut stream,
            format!("{request}Host: 127.0.0.1:{}\r\nConnection: close\r\n\r\n{body}", desktop.port)
                .as_bytes(),
        )
        .unwrap();
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 401")
                && answer.contains("{\"detail\":\"")
                && answer.contains("PROTOCOL.md"),
            "{answer}"
        );
    }
}

#[test]
fn a_command_that_only_reads_leaves_a_file_it_does_not_know_as_it_is() {
    let node = TestNode::without_database();
    fixtures::make(&node.database, Dialect::Presync);
    let before = std::fs::read(&node.database).unwrap();
    for words in [
        &["status"][..],
        &["devices"],
        &["conflicts"],
        &["log"],
        &["verify"],
        &["history", "actor", "none"],
        &["document", "actor", "none"],
    ] {
        let told = node.fails(words);
        assert!(told.contains("storysync migrate"), "{words:?}: {told}");
        assert!(
            !node.data_dir().join("identity.key").exists(),
            "{words:?}: no keys are made for a look"
        );
    }
    assert_eq!(std::fs::read(&node.database).unwrap(), before);
}

#[test]
fn one_file_has_one_node_and_others_look_without_taking_it_over() {
    let mut node = TestNode::with_fixture(Dialect::Presync);
    node.serve();
    let other = TestNode::without_database();
    let as_other = |words: &[&str], database: &Path| {
        let mut command = Command::new(BINARY);
        command.args(words).arg("--db").arg(database).arg("--data-dir").arg(other.data_dir());
        let output = command.output().unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr),
        )
    };
    let link = node.database.with_file_name("another name.db");
    std::fs::hard_link(&node.database, &link).unwrap();
    let owner: (String, Vec<u8>) = (
        node.value("SELECT device_id FROM sync_state"),
        node.value("SELECT epoch FROM sync_state"),
    );
    for database in [&node.database, &link] {
        let (is_served, told) = as_other(
            &["serve", "--host", "127.0.0.1", "--port", "0", "--admin-port", "0", "--no-discovery"],
            database,
        );
        assert!(!is_served && told.contains("is served"), "{told}");
        assert!(told.contains(&*node.data_dir().to_string_lossy()), "{told}");
        let (is_synced, told) = as_other(&["migrate"], database);
        assert!(!is_synced && told.contains("is served by the node of"), "{told}");
        let (is_told, told) = as_other(&["conflicts", "--json"], database);
        assert!(
            is_told && told.contains("belongs to the node of another data directory"),
            "{told}"
        );
        assert!(as_other(&["status"], database).0);
    }
    node.app("UPDATE actor SET title = 'still mine' WHERE id = 1");
    eventually(Duration::from_secs(10), "the node goes on", || {
        node.value::<i64>("SELECT count(*) FROM sync_outbox") == 0
    });
    assert_eq!(
        owner,
        (
            node.value("SELECT device_id FROM sync_state"),
            node.value("SELECT epoch FROM sync_state")
        )
    );
    // Once nobody serves it, the file can be taken over, by somebody who says so.
    node.stop();
    assert!(as_other(&["status"], &node.database).0);
    assert_eq!(owner.0, node.value::<String>("SELECT device_id FROM sync_state"));
    assert!(as_other(&["migrate"], &node.database).0);
}
