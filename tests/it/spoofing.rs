//! A liar on the Wi-Fi: a hostile host, in a network namespace of its own, that announces the ids
//! of two paired devices at its addresses, repeats there what they announce, has addresses they had,
//! and answers as it pleases.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::{Value, json};
use storysync_engine::trust::announcing::{PERIOD_MS, Recognizer, mark};
use storysync_engine::trust::envelope::PairSecret;
use storysync_engine::trust::identity::Secret;
use tempfile::TempDir;

use crate::eavesdropper::{Recorder, before_sealed_tokens};
use crate::fixtures::{self, Dialect};
use crate::network::*;
use crate::nodes::*;

/// The host every lie comes from, and how many addresses it has.
const LIAR: u8 = 66;
const LIAR_ADDRESSES: u8 = 4;
/// Paired sync goes on within so much time, whatever the network says.
const GOES_ON_WITHIN: Duration = Duration::from_secs(5);

/// What the hostile host does besides announcing.
#[derive(Default)]
struct Lies<'a> {
    /// How it answers, each at a port of its own; nobody listens at any other. `relay` hands
    /// everything to a real node of somebody else's.
    modes: &'a [&'a str],
    /// Whether it announces as much as it can, at ever new ports.
    floods: bool,
}

/// The hostile host, and what it was sent.
struct Liar {
    child: Child,
    folder: TempDir,
}

impl Liar {
    /// Plugs it in; it begins to lie when told to.
    fn host(lan: &mut TestLan) -> String {
        let namespace = lan.host(LIAR);
        for more in 1..LIAR_ADDRESSES {
            let address = lan.address(LIAR + more);
            must(&format!("-n {namespace} addr add {address}/24 dev {}", lan.interface()));
        }
        namespace
    }

    fn begin(lan: &TestLan, namespace: &str, ids: &[String], lies: &Lies<'_>, node: u16) -> Self {
        let folder = TempDir::new().unwrap();
        let addresses: Vec<String> =
            (0..LIAR_ADDRESSES).map(|more| lan.address(LIAR + more)).collect();
        let ports: Value = lies
            .modes
            .iter()
            .zip(9_001..)
            .map(|(mode, port)| ((*mode).to_owned(), json!(port)))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let closed: &[u16] = if lies.modes.is_empty() { &[9_100] } else { &[] };
        let told = json!({ "addresses": addresses, "ids": ids, "ports": ports,
            "closed": closed, "relay_to": ["127.0.0.1", node], "flood": lies.floods,
            "record": folder.path().join("heard") });
        let mut child = Command::new("ip")
            .args(["netns", "exec", namespace, "python3", "-c", include_str!("spoofer.py")])
            .arg(told.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(
            &mut std::io::BufReader::new(child.stdout.take().unwrap()),
            &mut line,
        )
        .unwrap();
        assert_eq!(line, "READY\n");
        Self { child, folder }
    }

    /// Every byte that reached it.
    fn heard(&self) -> Vec<u8> {
        std::fs::read(self.folder.path().join("heard")).unwrap()
    }

    /// Nothing that reached it tells who called or whom: no token, key, id or name.
    fn heard_nobody(&self, nodes: [&TestNode; 2]) {
        let heard = self.heard();
        for node in nodes {
            assert_eq!(told_in(&heard, node), None, "was sent to the hostile host");
        }
    }
}

/// What of a device's secrets and names stands in bytes.
fn told_in(bytes: &[u8], node: &TestNode) -> Option<&'static str> {
    let told = |secret: &[u8]| {
        forms(secret).iter().any(|form| bytes.windows(form.len()).any(|window| window == form))
    };
    secrets_of(node).into_iter().find(|(_, secret)| told(secret)).map(|(what, _)| what)
}

impl Drop for Liar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What tells who a device is, or whom it calls.
fn secrets_of(node: &TestNode) -> Vec<(&'static str, Vec<u8>)> {
    let trust = rusqlite::Connection::open(node.data_dir().join("trust.db")).unwrap();
    let (token, identity, fixed, id): (Vec<u8>, Vec<u8>, Vec<u8>, String) = trust
        .query_row(
            "SELECT token, identity_key, static_key, device_id FROM trust_device",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )
        .unwrap();
    vec![
        ("a token", token),
        ("an identity key", identity),
        ("a static key", fixed),
        ("a device id", id.into_bytes()),
        ("a device id", node.id().into_bytes()),
    ]
}

/// Bytes as they are, and in the texts they may be sent as.
fn forms(bytes: &[u8]) -> Vec<Vec<u8>> {
    let hexadecimal: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let engines = base64::engine::general_purpose::STANDARD_NO_PAD.encode(bytes);
    vec![
        bytes.to_vec(),
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes).into_bytes(),
        engines.into_bytes(),
        hexadecimal.into_bytes(),
    ]
}

/// Both devices start anew while somebody lies, and what either writes reaches the other; what was
/// connected stays so.
fn sync_goes_on_while(number: u8, lies: &Lies<'_>) {
    let Some(mut lan) = TestLan::new(number) else { return };
    let (mut desktop, mut laptop) = two_in_step(&mut lan);
    let ids = [desktop.id(), laptop.id()];
    let namespace = Liar::host(&mut lan);
    // Another real node, of somebody else's, whose port is announced as well.
    let mut stranger = empty_on(namespace.clone());
    stranger.serve_live();
    let liar = Liar::begin(&lan, &namespace, &ids, lies, stranger.port);
    let begun = Instant::now();
    // While they are connected.
    both_ways(&desktop, &laptop, "connected");
    for round in 1..=2 {
        for which in ["laptop", "desktop"] {
            let node = if which == "laptop" { &mut laptop } else { &mut desktop };
            node.stop();
            // The other has heard every lie, and has been alone for a while.
            std::thread::sleep(Duration::from_secs(2));
            believe(node, &lan, lies);
            node.serve_live();
            both_ways(&desktop, &laptop, &format!("{which} started anew {round}"));
        }
    }
    println!("two devices kept in step through {} s of lies", begun.elapsed().as_secs());
    assert!(lies.modes.is_empty() || !liar.heard().is_empty(), "nobody called the hostile host");
    liar.heard_nobody([&desktop, &laptop]);
}

/// Where the other device was, the hostile host is now: an address that was given to somebody else.
/// The right one is the last it would try.
fn believe(node: &TestNode, lan: &TestLan, lies: &Lies<'_>) {
    let trust = rusqlite::Connection::open(node.data_dir().join("trust.db")).unwrap();
    let known: String =
        trust.query_row("SELECT addresses FROM trust_device", [], |row| row.get(0)).unwrap();
    let known: Vec<String> = serde_json::from_str(&known).unwrap();
    let ports = 9_001..9_001 + u16::try_from(lies.modes.len().max(1)).unwrap();
    let mut addresses: Vec<String> =
        ports.map(|port| format!("{}:{port}", lan.address(LIAR))).collect();
    let right = known.into_iter().find(|address| !addresses.contains(address)).unwrap();
    addresses.push(right);
    trust
        .execute("UPDATE trust_device SET addresses = ?1", [json!(addresses).to_string()])
        .unwrap();
}

fn both_ways(desktop: &TestNode, laptop: &TestNode, what: &str) {
    let (there, back) = (format!("There, {what}"), format!("Back, {what}"));
    write_name(desktop, &there);
    let took = name_arrives(laptop, &there, GOES_ON_WITHIN);
    write_name(laptop, &back);
    let took_back = name_arrives(desktop, &back, GOES_ON_WITHIN);
    println!("{what}: there in {} ms, back in {} ms", took.as_millis(), took_back.as_millis());
}

#[test]
fn addresses_that_reset_do_not_stop_syncing() {
    sync_goes_on_while(31, &Lies { modes: &["reset"], ..Lies::default() });
}

#[test]
fn addresses_that_stall_do_not_stop_syncing() {
    sync_goes_on_while(32, &Lies { modes: &["stall"], ..Lies::default() });
}

#[test]
fn addresses_that_answer_garbage_do_not_stop_syncing() {
    sync_goes_on_while(33, &Lies { modes: &["garbage"], ..Lies::default() });
}

#[test]
fn addresses_where_another_real_node_answers_do_not_stop_syncing() {
    sync_goes_on_while(34, &Lies { modes: &["relay"], ..Lies::default() });
}

#[test]
fn addresses_where_nobody_listens_do_not_stop_syncing() {
    sync_goes_on_while(35, &Lies::default());
}

#[test]
fn addresses_that_refuse_do_not_stop_syncing_nor_get_the_token() {
    sync_goes_on_while(36, &Lies { modes: &["refuse", "fail"], ..Lies::default() });
}

/// All lies at once, as fast as they come, for a minute and a half: the two go on, also after one
/// has moved to another address.
#[test]
fn ninety_seconds_of_announcements_do_not_stop_syncing() {
    let Some(mut lan) = TestLan::new(37) else { return };
    let (mut desktop, mut laptop) = two_in_step(&mut lan);
    let ids = [desktop.id(), laptop.id()];
    let namespace = Liar::host(&mut lan);
    let mut stranger = empty_on(namespace.clone());
    stranger.serve_live();
    let modes = &["reset", "stall", "garbage", "refuse", "fail", "relay"];
    let lies = Lies { modes, floods: true };
    let begun = Instant::now();
    let liar = Liar::begin(&lan, &namespace, &ids, &lies, stranger.port);
    let mut host = 2;
    for round in 0.. {
        if begun.elapsed() > Duration::from_secs(90) {
            break;
        }
        both_ways(&desktop, &laptop, &format!("flood {round}"));
        std::thread::sleep(Duration::from_secs(3));
        match round % 4 {
            1 => {
                laptop.stop();
                std::thread::sleep(Duration::from_secs(2));
                believe(&laptop, &lan, &lies);
                laptop.serve_live();
            }
            2 => {
                desktop.stop();
                std::thread::sleep(Duration::from_secs(2));
                believe(&desktop, &lan, &lies);
                desktop.serve_live();
            }
            3 => {
                lan.move_to(laptop.namespace.as_ref().unwrap(), host, host + 1);
                host += 1;
            }
            _ => {}
        }
    }
    liar.heard_nobody([&desktop, &laptop]);
    assert!(!liar.heard().is_empty(), "nobody called the hostile host");
}

#[test]
fn doctor_names_an_address_that_answers_without_proof() {
    let Some(mut lan) = TestLan::new(38) else { return };
    let (desktop, laptop) = two_in_step(&mut lan);
    let ids = [desktop.id(), laptop.id()];
    let namespace = Liar::host(&mut lan);
    let mut stranger = empty_on(namespace.clone());
    stranger.serve_live();
    let lies = Lies { modes: &["garbage", "relay"], ..Lies::default() };
    let liar = Liar::begin(&lan, &namespace, &ids, &lies, stranger.port);
    for node in [&desktop, &laptop] {
        believe(node, &lan, &lies);
        let report = node.run_json(&["doctor"]);
        let names = |code: &str, port: u16| {
            let address = format!("{}:{port} ", lan.address(LIAR));
            report["findings"].as_array().unwrap().iter().any(|finding| {
                finding["code"] == code && finding["sentence"].as_str().unwrap().contains(&address)
            })
        };
        assert!(names("stranger", 9_001), "{report}");
        assert!(names("unproven", 9_002), "{report}");
        assert_eq!(report["ok"], true, "{report}");
    }
    liar.heard_nobody([&desktop, &laptop]);
}

#[test]
fn who_forwards_every_byte_between_two_devices_reads_no_token() {
    let mut desktop = TestNode::with_fixture(Dialect::Newer);
    let phone = TestNode::empty();
    desktop.serve();
    let recorder = Recorder::before(desktop.port);
    phone.run_json(&["pair", "join", &desktop.qr_through(recorder.port)]);
    phone.sync();
    phone.app("UPDATE actor SET first_name = 'Forwarded'");
    phone.sync();
    assert_eq!(told_in(&recorder.wire(), &phone), None);
    assert!(recorder.wire().len() > 10_000);
}

#[test]
fn a_version_that_reads_no_sealed_token_is_told_it_where_it_was_before_until_it_reads_one() {
    let mut desktop = TestNode::with_fixture(Dialect::Newer);
    let phone = TestNode::empty();
    desktop.serve();
    phone.run_json(&["pair", "join", &desktop.qr()]);
    let (port, heard) = before_sealed_tokens(desktop.port);
    let trust = rusqlite::Connection::open(phone.data_dir().join("trust.db")).unwrap();
    let before = |reads_sealed_token: bool| {
        let addresses = format!("[\"127.0.0.1:{port}\"]");
        trust
            .execute(
                "UPDATE trust_device SET addresses = ?1, reads_sealed_token = ?2",
                rusqlite::params![addresses, reads_sealed_token],
            )
            .unwrap();
        heard.lock().unwrap().clear();
    };
    // It said so when they were paired, and whoever refuses what it reads is not it.
    let reads: bool = trust
        .query_row("SELECT reads_sealed_token FROM trust_device", [], |row| row.get(0))
        .unwrap();
    assert!(reads);
    before(true);
    assert!(phone.fails(&["sync"]).contains("could not be synced"));
    assert!(!heard.lock().unwrap().is_empty());
    assert_eq!(told_in(&heard.lock().unwrap(), &phone), None);
    // Paired by a version that did not say so.
    before(false);
    phone.sync();
    assert_eq!(told_in(&heard.lock().unwrap(), &phone), Some("a token"));
    assert_eq!(phone.rows_shown(), fixtures::ROWS_IN_ALL);
    // It is brought up to date: from the first answer on it is told no other way.
    trust
        .execute(
            "UPDATE trust_device SET addresses = ?1",
            [format!("[\"127.0.0.1:{}\"]", desktop.port)],
        )
        .unwrap();
    phone.sync();
    let reads: bool = trust
        .query_row("SELECT reads_sealed_token FROM trust_device", [], |row| row.get(0))
        .unwrap();
    assert!(reads);
}

/// What a device announces is of use to the device it is paired with only: no id or name of it is
/// in it, and what one that listens hears once tells nothing of what it hears later.
#[test]
fn a_stranger_who_listens_hears_no_id_and_no_name_until_a_code_is_shown() {
    let Some(mut lan) = TestLan::new(39) else { return };
    let (desktop, laptop) = two_in_step(&mut lan);
    let listener = lan.host(LIAR);
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned();
    let listen = || {
        let script = include_str!("mdns_listener.py");
        let output = Command::new("ip")
            .args(["netns", "exec", &listener, "python3", "-c", script, &lan.address(LIAR)])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let holds = |heard: &[u8], text: &str| {
        heard.windows(text.len()).any(|window| window == text.as_bytes())
    };
    // The code that was shown for pairing is used up.
    let heard = listen();
    assert!(holds(&heard, &lan.address(1)) && holds(&heard, &lan.address(2)), "both announce");
    for node in [&desktop, &laptop] {
        assert_eq!(told_in(&heard, node), None);
    }
    let named = format!("/http-path/{name}/p2p/");
    assert!(!holds(&heard, &named));
    desktop.qr();
    std::thread::sleep(Duration::from_secs(2));
    let heard = listen();
    assert!(holds(&heard, &named), "the name is said while a code is shown");
    assert_eq!(told_in(&heard, &desktop), None);
}

#[test]
fn marks_of_two_periods_have_nothing_in_common_and_clocks_may_be_a_day_apart() {
    let key = [7; 32];
    let pair = PairSecret { secret: Secret::from_bytes([9; 32]), epoch: 1 };
    let place: std::net::SocketAddr = "192.168.1.20:8765".parse().unwrap();
    let day = 24 * 60 * 60 * 1_000 / PERIOD_MS;
    let now = 2_000_000;
    // One that listens for a week: no half of a mark comes again.
    let marks: Vec<_> =
        (now..now + 7 * day).map(|period| mark(&pair, &key, period, place)).collect();
    let mut pieces = std::collections::HashMap::<_, u32>::new();
    for mark in &marks {
        for (at, piece) in mark.chunks(8).enumerate() {
            *pieces.entry((at, piece)).or_default() += 1;
        }
    }
    assert!(pieces.values().all(|times| *times == 1), "something of a mark came again");
    // The other device of the pair, its clock a day off either way.
    let recognizer = Recognizer::new([(&key, &pair)], now);
    let recognized = |period: u64, place: std::net::SocketAddr| {
        recognizer.recognize(&mark(&pair, &key, period, place), place).is_some()
    };
    for period in [now - day, now - 1, now, now + 1, now + day] {
        assert!(recognized(period, place), "{period}");
    }
    assert!(!recognized(now - 2 * day, place) && !recognized(now + 2 * day, place));
    // Repeated at another address or port it is nobody's; so is another pair's, and the other end's.
    let heard = mark(&pair, &key, now, place);
    for other in ["192.168.1.66:8765", "192.168.1.20:8766"] {
        assert!(recognizer.recognize(&heard, other.parse().unwrap()).is_none());
    }
    let again = PairSecret { epoch: 2, ..pair.clone() };
    assert!(recognizer.recognize(&mark(&again, &key, now, place), place).is_none());
    assert!(recognizer.recognize(&mark(&pair, &[8; 32], now, place), place).is_none());
    assert_ne!(mark(&pair, &key, now, place), mark(&pair, &[8; 32], now, place));
}
