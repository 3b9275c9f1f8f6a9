//! The HTTP surface: who is answered at all, how long, and who must make room.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::fixtures::Dialect;
use crate::handmade::{Handmade, push_of};
use crate::nodes::*;

fn status_of(address: &str, target: &str, headers: &str) -> u16 {
    exchange(
        address,
        format!("GET {target} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n").as_bytes(),
    )
    .0
}

#[test]
fn requests_for_another_name_or_from_another_page_are_turned_away_on_both_listeners() {
    let mut desktop = TestNode::with_fixture(Dialect::Presync);
    desktop.serve();
    let (loopback, token) = admin(&desktop);
    let lan = format!("127.0.0.1:{}", desktop.port);
    for address in [&loopback, &lan] {
        assert_eq!(status_of(address, "/", &format!("Host: {address}\r\n")), 200);
        assert_eq!(status_of(address, "/", "Host: localhost\r\n"), 200);
        // A rebound name leads here, but it says so.
        assert_eq!(status_of(address, "/", "Host: evil.example\r\n"), 421);
        assert_eq!(
            status_of(address, "/", &format!("Host: {address}\r\nOrigin: http://evil.example\r\n")),
            403
        );
        assert_eq!(status_of(address, "/", &format!("Host: {address}\r\nOrigin: null\r\n")), 403);
        assert_eq!(
            status_of(address, "/", &format!("Host: {address}\r\nSec-Fetch-Site: cross-site\r\n")),
            403
        );
        assert_eq!(
            status_of(address, "/", &format!("Host: {address}\r\nOrigin: http://{address}\r\n")),
            200
        );
        assert_eq!(
            status_of(
                address,
                "/",
                &format!(
                    "Host: {address}\r\nOrigin: http://{address}\r\nOrigin: http://evil.example\r\n"
                )
            ),
            403
        );
        assert_eq!(
            status_of(
                address,
                "/",
                &format!(
                    "Host: {address}\r\nSec-Fetch-Site: none\r\nSec-Fetch-Site: cross-site\r\n"
                )
            ),
            403
        );
        assert_eq!(
            status_of(address, "http://evil.example/", &format!("Host: {address}\r\n")),
            421
        );
    }
    // Even with the token: a page that stole it can't use it from its own origin.
    let with_token = |origin: &str| {
        status_of(
            &loopback,
            "/api/devices",
            &format!("Host: {loopback}\r\nAuthorization: Bearer {token}\r\n{origin}"),
        )
    };
    assert_eq!((with_token(""), with_token("Origin: https://evil.example\r\n")), (200, 403));
    let answer = raw(
        &lan,
        format!(
            "OPTIONS / HTTP/1.1\r\nHost: {lan}\r\nOrigin: \
            http://{lan}\r\nAccess-Control-Request-Method: POST\r\nConnection: close\r\n\r\n"
        )
        .as_bytes(),
    );
    assert!(
        !String::from_utf8_lossy(&answer).to_lowercase().contains("access-control"),
        "no page is ever invited"
    );
}

/// A connection from some loopback address, as another machine's would be.
fn connect_from(last: u8, port: u16) -> TcpStream {
    try_connect_from(last, port).unwrap()
}

fn try_connect_from(last: u8, port: u16) -> Option<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).ok()?;
    socket.bind(&SocketAddr::from(([127, 0, 0, last], 0)).into()).ok()?;
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).ok()?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    Some(stream)
}

/// How long a connection stays open after `bytes` were sent, and what was answered.
fn open_for(port: u16, bytes: &[u8]) -> (Duration, String) {
    let mut stream = connect_from(1, port);
    let begun = Instant::now();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    (begun.elapsed(), String::from_utf8_lossy(&answer).into_owned())
}

#[test]
fn slow_headers_and_slow_bodies_are_cut_off_and_long_headers_are_refused() {
    let (desktop, phone) = paired();
    let port = desktop.port;
    let client = Handmade::of(&phone, &desktop);
    let whole = client.request("POST", "/api/sync/push", &[b'x'; 1_000], 1, client.prekey()).bytes;
    let cut_body = whole[..whole.len() - 900].to_vec();
    let slow = [
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ".to_vec(), 5, "no header ever ends"),
        (Vec::new(), 5, "not a byte"),
        (cut_body, 10, "a body of a device we know stalls"),
        (b"POST /api/pair/register HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 500\r\n\r\nhalf".to_vec(), 10, "a registration stalls"),
    ];
    let running: Vec<_> = slow
        .map(|(bytes, seconds, what)| {
            std::thread::spawn(move || (open_for(port, &bytes), seconds, what))
        })
        .into();
    for thread in running {
        let ((open, answer), seconds, what) = thread.join().unwrap();
        assert!(
            open >= Duration::from_secs(seconds) - Duration::from_millis(500),
            "{what}: {open:?} {answer}"
        );
        assert!(open < Duration::from_secs(seconds + 3), "{what}: {open:?}");
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{what}: {answer}");
    }
    let long = format!(
        "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: {}\r\nConnection: close\r\n\r\n",
        "x".repeat(20 * 1024)
    );
    let (_, answer) = open_for(port, long.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 431"), "{}", answer.lines().next().unwrap_or_default());
    // Strangers are turned away before their body is read, however long they say it is.
    let (open, answer) = open_for(
        port,
        b"POST /api/sync/push HTTP/1.1\r\nHost: \
        127.0.0.1\r\nContent-Length: 15000000\r\nConnection: close\r\n\r\n",
    );
    assert!(
        answer.starts_with("HTTP/1.1 401") && open < Duration::from_secs(3),
        "{open:?} {answer}"
    );
    // So is whoever read a token on the wire and has no keys, or a recording only: at the first
    // segment.
    let head = "POST /api/sync/push HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: \
        15000000\r\nConnection: close\r\n";
    let token =
        storysync_engine::trust::to_base64url(client.device.token.as_ref().unwrap().expose());
    let prekey = client.prekey();
    let recorded =
        client.seal("POST", "/api/sync/push", &vec![b'x'; 200_000], prekey.kid, 2, &prekey.key).0;
    assert_eq!(
        client.send(&client.http("POST", "/api/sync/push", &recorded)).0,
        422,
        "not what is documented, but the device's"
    );
    let forged = [&recorded[..56], &[0x80, 0, 0x40, 0], &[7; 100_000][..]].concat();
    for body in [vec![7; 100_000], forged, recorded[..100_000].to_vec()] {
        let (open, answer) = open_for(
            port,
            &[format!("{head}Authorization: Bearer {token}\r\n\r\n").as_bytes(), &body].concat(),
        );
        assert!(
            answer.starts_with("HTTP/1.1 401") && open < Duration::from_secs(3),
            "{open:?} {answer}"
        );
    }
    assert_eq!(phone.sync(), (0, 0));
}

#[test]
fn nobody_keeps_an_answer_waiting_to_be_read() {
    let (desktop, phone) = paired();
    // More than the system's own buffers hold.
    desktop.app("UPDATE actor SET notes = hex(randomblob(1000000)) WHERE id <= 8");
    let client = Handmade::of(&phone, &desktop);
    let request = client.request("POST", "/api/sync/pull", b"{}", 1, client.prekey());
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(1_024).unwrap();
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], desktop.port)).into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.write_all(&request.bytes).unwrap();
    // Once the answer has begun, not a byte of it is read for longer than it may wait.
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    assert_eq!(stream.peek(&mut [0]).unwrap(), 1);
    std::thread::sleep(Duration::from_secs(13));
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut got = Vec::new();
    drop(stream.read_to_end(&mut got));
    let length: usize = String::from_utf8_lossy(&got)
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
        .unwrap();
    assert!(
        got.len() < length,
        "the rest of {length} bytes was given up, {} had arrived",
        got.len()
    );
}

#[test]
fn too_many_connections_make_room_for_each_other_and_none_is_left_out() {
    let (desktop, phone) = paired();
    let port = desktop.port;
    // One address: its oldest idle connections go, whoever comes ninth gets in.
    let idle: Vec<TcpStream> = (0..20).map(|_| connect_from(9, port)).collect();
    let is_closed = |mut stream: &TcpStream| {
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        match stream.read(&mut [0]) {
            Ok(read) => read == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    };
    std::thread::sleep(Duration::from_millis(300));
    let closed: Vec<bool> = idle.iter().map(is_closed).collect();
    assert_eq!(closed.iter().filter(|closed| !**closed).count(), 8, "{closed:?}");
    assert!(closed[..12].iter().all(|closed| *closed), "the oldest went");
    // Many addresses: 48 strangers at most, and a paired device comes through all the same.
    let crowd: Vec<TcpStream> = (10..110).map(|last| connect_from(last, port)).collect();
    assert_eq!(phone.sync(), (0, 0));
    std::thread::sleep(Duration::from_millis(300));
    let closed = crowd.iter().take(40).filter(|stream| is_closed(stream)).count();
    assert_eq!(closed, 40, "the oldest of a hundred strangers made room");
    assert_eq!(status_of(&format!("127.0.0.1:{port}"), "/", "Host: 127.0.0.1\r\n"), 200);
}

/// What one hostile connection after another does, until told to stop.
fn harass(last: u8, port: u16, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let Some(mut stream) = try_connect_from(last, port) else { continue };
        stream.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
        let mut answer = [0; 1_024];
        match last % 4 {
            // A header that never ends.
            0 => {
                for byte in
                    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                {
                    if stop.load(Ordering::Relaxed) || stream.write_all(&[*byte]).is_err() {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
            // A body that never ends.
            1 => {
                drop(stream.write_all(
                    b"POST /api/pair/register HTTP/1.1\r\nHost: \
                    127.0.0.1\r\nContent-Length: 4000\r\n\r\n",
                ));
                drop(stream.read(&mut answer));
            }
            // Requests of nobody, one after the other.
            2 => {
                for _ in 0..50 {
                    if stop.load(Ordering::Relaxed)
                        || stream
                            .write_all(
                                b"POST /api/sync/push HTTP/1.1\r\nHost: \
                            127.0.0.1\r\nAuthorization: Bearer \
                            AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\r\nContent-Length: \
                            0\r\n\r\n",
                            )
                            .is_err()
                        || stream.read(&mut answer).is_err()
                    {
                        break;
                    }
                }
            }
            // No HTTP at all.
            _ => {
                drop(stream.write_all(&[
                    0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0xff, 0, 0x80, b'\r', b'\n', b'\r',
                    b'\n',
                ]));
                drop(stream.read(&mut answer));
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

#[test]
fn a_paired_device_syncs_while_64_hostile_connections_from_other_addresses_do_their_worst() {
    let (desktop, phone) = paired();
    let port = desktop.port;
    let sync_once = |n: usize| {
        phone.app(&format!("UPDATE actor SET notes = 'edit {n}' WHERE id = 1"));
        let begun = Instant::now();
        assert_eq!(phone.sync(), (1, 0));
        begun.elapsed()
    };
    let median = |mut times: Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2]
    };
    let alone = median((0..5).map(sync_once).collect());
    let stop = AtomicBool::new(false);
    // A failing assertion must not leave the crowd running.
    struct StopWhenLeft<'a>(&'a AtomicBool);
    impl Drop for StopWhenLeft<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let (harassed, health) = std::thread::scope(|scope| {
        let _left = StopWhenLeft(&stop);
        for last in 2..66 {
            let stop = &stop;
            scope.spawn(move || harass(last, port, stop));
        }
        std::thread::sleep(Duration::from_secs(1));
        let harassed = median((5..10).map(sync_once).collect());
        let begun = Instant::now();
        let health = status_of(&format!("127.0.0.1:{port}"), "/", "Host: 127.0.0.1\r\n");
        (harassed, (health, begun.elapsed()))
    });
    println!(
        "a sync of one changed row, whole process: {alone:?} alone, {harassed:?} beside 64 hostile \
            connections; health answered in {:?}",
        health.1
    );
    assert_eq!(health.0, 200);
    assert_eq!(desktop.value::<i64>("SELECT count(*) FROM actor WHERE notes = 'edit 9'"), 1);
}

#[test]
fn a_file_locked_by_another_program_freezes_neither_health_nor_other_requests() {
    let (desktop, phone) = paired();
    let other = TestNode::empty();
    other.run_json(&["pair", "join", &desktop.qr()]);
    let (client, second) = (Handmade::of(&phone, &desktop), Handmade::of(&other, &desktop));
    let request =
        client.request("POST", "/api/sync/push", &push_of("Locked out"), 1, client.prekey());
    for lock in ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"] {
        let app = rusqlite::Connection::open(&desktop.database).unwrap();
        second.status();
        app.execute_batch(lock).unwrap();
        let waiting = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                client
                    .push_actor(
                        lock,
                        if lock == "BEGIN IMMEDIATE" { 2 } else { 3 },
                        client.prekey(),
                    )
                    .0
            });
            std::thread::sleep(Duration::from_millis(700));
            let quick = |what: &str, answered: &dyn Fn() -> u16| {
                let begun = Instant::now();
                assert_eq!(answered(), 200, "{what} during {lock}");
                assert!(
                    begun.elapsed() < Duration::from_millis(500),
                    "{what} during {lock} took {:?}",
                    begun.elapsed()
                );
            };
            let (loopback, token) = admin(&desktop);
            quick("health", &|| status_of(&client.address, "/", "Host: 127.0.0.1\r\n"));
            quick("a pairing code", &|| http_get(&loopback, "/api/pair/qr-data", &token).0);
            quick("the pairing's state", &|| http_get(&loopback, "/api/pair/state", &token).0);
            // What it was told a moment ago, where the file can't even be read.
            quick("the status of another device", &|| {
                second.status();
                200
            });
            if lock == "BEGIN IMMEDIATE" {
                // Reading is possible beside a writer.
                quick("the list of devices", &|| http_get(&loopback, "/api/devices", &token).0);
            }
            app.execute_batch("ROLLBACK").unwrap();
            waiting.join().unwrap()
        });
        assert_eq!(waiting, 200, "what waited is done once the lock is gone");
    }
    assert_eq!(client.ask(request).0, 200);
}

#[test]
fn rows_are_called_by_their_names_in_every_command_and_found_by_them() {
    let (desktop, phone) = paired();
    desktop.app("UPDATE actor SET first_name = 'Mara', last_name = 'Voss' WHERE id = 1");
    phone.sync();
    desktop.app("UPDATE actor SET title = 'Empress' WHERE id = 1");
    phone.app(
        "UPDATE actor SET title = 'Queen' WHERE sync_uuid = (SELECT sync_uuid FROM actor \
        WHERE first_name = 'Mara')",
    );
    phone.sync();
    let uuid: String = desktop.value("SELECT sync_uuid FROM actor WHERE id = 1");
    let called = format!("actor “Mara Voss” ({uuid})");
    let told = |node: &TestNode, arguments: &[&str]| {
        let output = node.run(arguments);
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    for arguments in [
        &["conflicts"][..],
        &["history", "actor", "mara voss"],
        &["log"],
        &["log", "--row", "Mara Voss"],
        &["log", "--row", &uuid],
    ] {
        assert!(
            told(&desktop, arguments).contains(&called),
            "{arguments:?}: {}",
            told(&desktop, arguments)
        );
    }
    let lines = desktop.run_json(&["log", "--row", "MARA VOSS"])["log"].as_array().unwrap().clone();
    assert!(
        !lines.is_empty()
            && lines
                .iter()
                .all(|line| line["sync_uuid"] == uuid.as_str() && line["row_name"] == "Mara Voss"),
        "{lines:?}"
    );
    assert_eq!(desktop.run_json(&["history", "actor", "Mara Voss"])["sync_uuid"], uuid.as_str());
    assert!(!desktop.run(&["document", "actor", "Mara Voss"]).stdout.is_empty());
    desktop.run_json(&["conflicts", "resolve", "--all", "theirs"]);
    assert!(told(&desktop, &["conflicts", "--ended"]).contains(&called));
    desktop.app("UPDATE actor SET job = 'smuggler' WHERE id = 1");
    let undone = desktop.run_json(&["undo", "actor", "Mara Voss"]);
    assert_eq!(
        (&undone["undone"][0]["row_name"], &undone["undone"][0]["sync_uuid"]),
        (&"Mara Voss".into(), &uuid.as_str().into())
    );
    // What two devices show differently is told by name, too.
    assert!(told(&desktop, &["history", "actor", "Nobody"]).contains("no row of table actor"));
    assert!(
        told(&desktop, &["log", "--row", "Nobody"])
            .contains("no row has the uuid or the name Nobody")
    );
    // Several of one name are listed, and none is taken.
    desktop.app("UPDATE faction SET name = 'Mara Voss' WHERE id IN (1, 2)");
    let several = told(&desktop, &["history", "faction", "Mara Voss"]);
    let factions = [1, 2].map(|id| {
        desktop.value::<String>(&format!("SELECT sync_uuid FROM faction WHERE id = {id}"))
    });
    assert!(
        several.contains("several rows") && factions.iter().all(|uuid| several.contains(uuid)),
        "{several}"
    );
    let several = told(&desktop, &["log", "--row", "Mara Voss"]);
    assert!(
        several.contains(&format!("actor {uuid}"))
            && several.contains(&format!("faction {}", factions[0])),
        "{several}"
    );
    let before: i64 = desktop.value("SELECT count(*) FROM sync_change");
    assert!(told(&desktop, &["undo", "faction", "Mara Voss"]).contains("several rows"));
    assert_eq!(desktop.value::<i64>("SELECT count(*) FROM sync_change"), before);
    let (address, token) = admin(&desktop);
    let (status, body) = http_get(&address, "/api/history/actor/Mara%20Voss", &token);
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (status, &body["sync_uuid"], &body["row_name"]),
        (200, &uuid.as_str().into(), &"Mara Voss".into())
    );
    assert_eq!(http_get(&address, "/api/history/faction/Mara%20Voss", &token).0, 409);
}

#[test]
fn a_row_that_only_links_others_is_called_by_them() {
    let (desktop, phone) = paired();
    desktop.app(
        "UPDATE actor SET first_name = 'Mara', last_name = 'Voss' WHERE id = 1; UPDATE \
        faction SET name = 'Tide' WHERE id = 1",
    );
    desktop.app(
        "INSERT INTO faction_members (actor_id, faction_id, setting_id, sync_uuid, \
        version) VALUES (1, 1, 1, 'the-member', 1)",
    );
    phone.sync();
    let name = phone.run_json(&["history", "faction_members", "the-member"])["row_name"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(name.contains("Mara Voss") && name.contains("Tide") && name.contains(" – "), "{name}");
}

#[test]
fn the_json_of_commands_has_every_documented_key() {
    let (desktop, phone) = paired();
    let keys = |json: &Value, keys: &[&str]| {
        keys.iter().for_each(|key| assert!(json.get(key).is_some(), "{key} is missing in {json}"))
    };
    desktop.app("UPDATE actor SET title = 'Empress' WHERE id = 1");
    phone.app("UPDATE actor SET title = 'Queen' WHERE id = 1");
    let report = phone.run_json(&["sync"]);
    keys(
        &report["peers"][0],
        &["device_id", "name", "pushed", "pulled", "conflicts", "bytes_sent", "bytes_received"],
    );
    for node in [&desktop, &phone] {
        let status = node.run_json(&["status"]);
        keys(
            &status,
            &[
                "device_id",
                "name",
                "db",
                "entities",
                "pending",
                "parked",
                "conflicts",
                "devices",
                "last_sync_at",
            ],
        );
        assert!(
            ["entities", "pending", "parked", "conflicts"]
                .iter()
                .all(|key| status[*key].is_number()),
            "{status}"
        );
        let device = ["device_id", "device_name", "last_sync_at", "created_at", "is_active"];
        keys(&status["devices"][0], &device);
        keys(&node.run_json(&["devices"])["devices"][0], &device);
        let conflict = &node.run_json(&["conflicts"])["conflicts"][0];
        keys(conflict, &["id", "kind", "entity_type", "sync_uuid", "fields"]);
        keys(&conflict["fields"][0], &["name", "base", "values", "shown"]);
        keys(&conflict["fields"][0]["values"][0], &["value", "device", "at"]);
        let log = node.run_json(&["log"]);
        for line in log["log"].as_array().unwrap() {
            keys(
                line,
                &["at", "device_id", "device_name", "entity_type", "entity_id", "operation"],
            );
        }
        assert!(!log["log"].as_array().unwrap().is_empty());
    }
    assert!(
        serde_json::from_str::<Value>(desktop.run_json(&["pair", "show"])["qr"].as_str().unwrap())
            .is_ok()
    );
}
