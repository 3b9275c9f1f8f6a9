//! The whole system, measured as its users have it: real nodes as processes on loopback, real
//! files, sealed HTTP.
//!
//! `cargo bench --bench system -- [ROWS] [--json] [--runs N]`: 10,000 rows and 3 runs unless said
//! otherwise. Each figure is the median, beside the floor (the same rows read and written by plain
//! SQLite in one transaction) where one makes sense.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark stops at the first surprise"
)]

mod node;
mod notes;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use node::*;
use notes::{make, text};
use rusqlite::{Connection, params};
use serde_json::{Value, json};
use storysync::net::addresses::Candidate;
use storysync::net::client::{self, Caller, Trail};
use storysync::net::handle::EngineHandle;
use storysync::net::node_state::{now, now_ms, system_rng};
use storysync_engine::exchange::ContactChoice;
use storysync_engine::store::trust::{TrustStore, TrustedDevice};
use storysync_engine::trust::identity::Identity;
use storysync_engine::trust::pairing::Offer;
use storysync_engine::{Engine, EngineOptions};

const BINARY: &str = env!("CARGO_BIN_EXE_storysync");
/// Rows pushed at once.
const PUSHED: usize = 1_000;
/// Edits of one row, one after the other.
const EDITED: usize = 1_000;
/// Page of `/proc/…/stat` ticks, in milliseconds.
const TICK_MS: u64 = 10;

/// Figures of all runs, by name.
#[derive(Default)]
struct Figures(BTreeMap<&'static str, Vec<f64>>);

impl Figures {
    fn add(&mut self, name: &'static str, value: f64) {
        self.0.entry(name).or_default().push(value);
    }

    fn ms(&mut self, name: &'static str, wall: Duration) {
        self.add(name, wall.as_secs_f64() * 1000.0);
    }

    fn median(&self, name: &str) -> f64 {
        let mut values = self.0.get(name).cloned().unwrap_or_default();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

/// The same rows, read from one file and written into another by plain SQLite in one transaction.
fn floor(from: &Path, figures: &mut Figures) {
    let folder = tempfile::TempDir::new().unwrap();
    let begun = Instant::now();
    let source = Connection::open(from).unwrap();
    let target = Connection::open(folder.path().join("floor.db")).unwrap();
    let sql: String = source
        .query_row("SELECT sql FROM sqlite_schema WHERE name = 'note'", [], |row| row.get(0))
        .unwrap();
    target.execute_batch(&format!("{sql}; BEGIN")).unwrap();
    let mut select = source.prepare("SELECT * FROM note").unwrap();
    let columns = select.column_count();
    let places = vec!["?"; columns].join(", ");
    let mut insert = target.prepare(&format!("INSERT INTO note VALUES ({places})")).unwrap();
    let mut rows = select.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let values: Vec<rusqlite::types::Value> =
            (0..columns).map(|column| row.get(column).unwrap()).collect();
        insert.execute(rusqlite::params_from_iter(values)).unwrap();
    }
    drop(insert);
    target.execute_batch("COMMIT").unwrap();
    figures.ms("floor: rows read and written by SQLite alone, ms", begun.elapsed());
}

/// Rows a second an app writes in transactions of 100 rows.
fn app_writes(path: &Path) -> f64 {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    let begun = Instant::now();
    for batch in 0..50 {
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        let mut update =
            connection.prepare_cached("UPDATE note SET c1 = ?2, title = ?3 WHERE id = ?1").unwrap();
        for row in 0..100 {
            let id = batch * 100 + row + 1;
            update
                .execute(params![id, format!("written {batch}"), format!("Title {row}")])
                .unwrap();
        }
        drop(update);
        connection.execute_batch("COMMIT").unwrap();
    }
    5_000.0 / begun.elapsed().as_secs_f64()
}

/// The longest a health request took until told to stop.
fn watch_health(address: String, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<Duration> {
    std::thread::spawn(move || {
        let mut longest = Duration::ZERO;
        while !stop.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let mut stream = TcpStream::connect(&address).unwrap();
            stream
                .write_all(
                    format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
                        .as_bytes(),
                )
                .unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.contains("\"ok\""), "{answer}");
            longest = longest.max(begun.elapsed());
            std::thread::sleep(Duration::from_millis(20));
        }
        longest
    })
}

/// A phone in this process: pushes plain rows, asks for the status.
struct Phone {
    identity: Identity,
    trust: TrustStore,
    device: TrustedDevice,
    engine: EngineHandle,
    _folder: tempfile::TempDir,
}

impl Phone {
    async fn join(qr: &str) -> Self {
        let folder = tempfile::TempDir::new().unwrap();
        let identity = Identity::generate(&mut system_rng());
        let trust = TrustStore::open(folder.path()).unwrap();
        let offer = Offer::parse(qr).unwrap();
        let id = client::join(&offer, &identity, "phone", None, &trust, &mut |_| {}).await.unwrap();
        let options = EngineOptions {
            rebuilding_within: Duration::ZERO,
            database: folder.path().join("phone.db"),
            backups: folder.path().join("backups"),
            anchors: folder.path().join("anchors"),
            excluded_tables: Vec::new(),
            prose_columns: Vec::new(),
            device_key: identity.public_key(),
            busy_timeout: Duration::from_secs(5),
        };
        let engine = Engine::init(
            options,
            Box::new(|bytes| rand_core::Rng::fill_bytes(&mut system_rng(), bytes)),
            now(),
        )
        .unwrap();
        let device = trust.find(&id).unwrap().unwrap();
        Self {
            identity,
            device,
            trust,
            engine: EngineHandle::spawn(engine).unwrap(),
            _folder: folder,
        }
    }

    async fn post(&self, target: &str, body: &Value) -> (Value, Duration) {
        let body = serde_json::to_vec(body).unwrap();
        let begun = Instant::now();
        let answer =
            client::post(&self.identity, &self.trust, &self.device, target, &body).await.unwrap();
        (serde_json::from_slice(&answer).unwrap(), begun.elapsed())
    }

    fn caller(&self) -> Caller<'_> {
        Caller {
            identity: &self.identity,
            trust: &self.trust,
            engine: &self.engine,
            own_port: None,
            name: "phone",
            installation: "0000000000000000",
            static_addresses: &[],
            contact: ContactChoice::Judge,
        }
    }

    fn known(&self) -> Vec<Candidate> {
        self.device.addresses.iter().map(Candidate::known).collect()
    }

    /// The median of sealed status requests on one open connection.
    async fn status(&self) -> Duration {
        let caller = self.caller();
        let mut line =
            caller.open(&self.device, &self.known(), &mut Trail::default()).await.unwrap();
        let mut took = Vec::new();
        for _ in 0..300 {
            let begun = Instant::now();
            caller.peer_status(&mut line).await.unwrap();
            took.push(begun.elapsed());
        }
        took.sort_unstable();
        took[took.len() / 2]
    }
}

fn engine(database: &Path, folder: &Path, identity: &Identity) -> Engine {
    let options = EngineOptions {
        rebuilding_within: Duration::ZERO,
        database: database.to_owned(),
        backups: folder.join("backups"),
        anchors: folder.join("anchors"),
        excluded_tables: Vec::new(),
        prose_columns: Vec::new(),
        device_key: identity.public_key(),
        busy_timeout: Duration::from_secs(5),
    };
    Engine::open_or_migrate(
        options,
        Box::new(|bytes| rand_core::Rng::fill_bytes(&mut system_rng(), bytes)),
        now(),
        &mut |_, _| {},
    )
    .unwrap()
    .0
}

/// A note somebody goes on writing at: 1,000 times another word of it.
fn history(figures: &mut Figures) {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("app.db");
    make(&file, 1);
    let mut engine = engine(&file, folder.path(), &Identity::generate(&mut system_rng()));
    let size = || std::fs::metadata(&file).unwrap().len() as f64;
    let (before, mut note) = (size(), text(1, 500));
    let mut took = Vec::new();
    for edit in 0..EDITED {
        note.replace_range(edit % 490..edit % 490 + 7, &text(edit as u64 + 7, 7));
        Connection::open(&file).unwrap().execute("UPDATE note SET note = ?1", [&note]).unwrap();
        let begun = Instant::now();
        assert_eq!(engine.capture(now()).unwrap().rows, 1);
        took.push(begun.elapsed());
    }
    let last = &mut took[EDITED - 100..];
    last.sort_unstable();
    figures.ms("history: an edit after 1,000 of one row is taken in, ms", last[50]);
    figures.add(
        "history: the file grows by each of 1,000 edits of a 500-character note, bytes",
        (size() - before) / EDITED as f64,
    );
}

async fn pushes(desktop: &Node, figures: &mut Figures) {
    let phone = Phone::join(&desktop.qr()).await;
    figures.ms("sealed status on an open connection, ms (median of 300)", phone.status().await);
    let row = |uuid: &str, version: i64, operation: &str, data: Value| {
        json!({ "entity_type": "note", "sync_uuid": uuid, "operation": operation,
            "version": version, "data": data })
    };
    let filled = |index: usize| {
        let mut data = serde_json::Map::new();
        (1..=14).for_each(|column| {
            drop(data.insert(format!("c{column}"), format!("pushed {column} of {index}").into()))
        });
        data.insert("note".to_owned(), text(index as u64, 500).into());
        Value::Object(data)
    };
    let uuids: Vec<String> =
        (0..PUSHED).map(|index| format!("{index:08x}-0000-4000-8000-{:012x}", now_ms())).collect();
    let creates: Vec<Value> = uuids
        .iter()
        .enumerate()
        .map(|(index, uuid)| row(uuid, 1, "create", filled(index)))
        .collect();
    let (answer, took) = phone.post("/api/sync/push", &json!({ "changes": creates })).await;
    assert_eq!(
        (answer["accepted"].as_u64(), answer["rejected"].as_u64()),
        (Some(PUSHED as u64), Some(0))
    );
    figures.ms("push of 1,000 creates, ms", took);
    let updates: Vec<Value> = uuids
        .iter()
        .map(|uuid| row(uuid, 1, "update", json!({ "c1": "updated", "title": "updated" })))
        .collect();
    let (answer, took) = phone.post("/api/sync/push", &json!({ "changes": updates })).await;
    assert_eq!(
        (answer["accepted"].as_u64(), answer["conflicts"].as_array().map(Vec::len)),
        (Some(PUSHED as u64), Some(0))
    );
    figures.ms("push of 1,000 updates, ms", took);
    desktop.app("UPDATE note SET c2 = 'the desktop' WHERE c1 = 'updated'");
    // The node has taken in what the app wrote before the phone comes home.
    std::thread::sleep(Duration::from_millis(500));
    let conflicts: Vec<Value> =
        uuids.iter().map(|uuid| row(uuid, 2, "update", json!({ "c2": "the phone" }))).collect();
    let (answer, took) = phone.post("/api/sync/push", &json!({ "changes": conflicts })).await;
    // A reply lists some 2 MiB of them; all are open.
    assert!(
        answer["conflicts"].as_array().is_some_and(|listed| listed.len() > PUSHED / 2),
        "{}",
        answer["message"]
    );
    assert_eq!(desktop.run(&["status"]).0["conflicts"].as_u64(), Some(PUSHED as u64));
    figures.ms("push of 1,000 conflicts, ms", took);
}

/// What a phone's app would run its one connection on.
fn of_one_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// The longest a sealed status of another device took until told to stop.
fn watch_status(qr: String, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<Duration> {
    std::thread::spawn(move || {
        of_one_thread().block_on(async {
            let phone = Phone::join(&qr).await;
            let caller = phone.caller();
            let mut line =
                caller.open(&phone.device, &phone.known(), &mut Trail::default()).await.unwrap();
            let mut longest = Duration::ZERO;
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                caller.peer_status(&mut line).await.unwrap();
                longest = longest.max(begun.elapsed());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            longest
        })
    })
}

fn measure(original: &Path, empty: &Path, rows: i64, figures: &mut Figures) {
    floor(original, figures);
    let mut desktop = Node::of(original);
    let before = app_writes(&desktop.database());
    let size = std::fs::metadata(desktop.database()).unwrap().len();
    let (_, migrated) = desktop.run(&["migrate"]);
    let grown = std::fs::metadata(desktop.database()).unwrap().len().saturating_sub(size);
    figures.add("migrate: the file grows by each row, bytes", grown as f64 / rows as f64);
    figures.ms("migrate, with backup and comparison, ms", migrated.wall);
    figures.ms("migrate, CPU ms", migrated.cpu);
    figures.add("migrate, peak MiB", migrated.peak_kib as f64 / 1024.0);
    // On a copy: what is written once more counts as a save, and the sync that follows is one of
    // rows as they were migrated.
    let copy = desktop.folder.path().join("written.db");
    std::fs::copy(desktop.database(), &copy).unwrap();
    let after = app_writes(&copy);
    figures.add("the app's writes with triggers, % of without", 100.0 * after / before);
    desktop.run(&["status"]);
    figures.ms("start to ready, ms", desktop.serve());
    std::thread::sleep(Duration::from_secs(2));
    figures.add("idle node, resident MiB", kib(desktop.pid(), "VmRSS") as f64 / 1024.0);
    let (begun, used) = (Instant::now(), cpu(desktop.pid()));
    std::thread::sleep(Duration::from_secs(5));
    figures.add(
        "idle node, % of a core",
        100.0 * (cpu(desktop.pid()) - used).as_secs_f64() / begun.elapsed().as_secs_f64(),
    );

    let second = Node::of(empty);
    second.run(&["migrate"]);
    second.run(&["pair", "join", &desktop.qr()]);
    let stop = Arc::new(AtomicBool::new(false));
    let qr: Value = serde_json::from_str(&desktop.qr()).unwrap();
    let health = watch_health(format!("127.0.0.1:{}", qr["port"]), Arc::clone(&stop));
    let others = watch_status(desktop.qr(), Arc::clone(&stop));
    std::thread::sleep(Duration::from_millis(300));
    let before = cpu(desktop.pid());
    let (report, first) = second.run(&["sync"]);
    stop.store(true, Ordering::Relaxed);
    let peer = &report["peers"][0];
    assert_eq!(peer["pulled"].as_i64(), Some(rows), "{report}");
    figures.ms("first sync, ms", first.wall);
    figures.ms("first sync, CPU ms of the calling process", first.cpu);
    figures.ms(
        "first sync, CPU ms of the serving process, with the statuses of another device",
        cpu(desktop.pid()) - before,
    );
    figures.add("first sync, µs a row", first.wall.as_secs_f64() * 1e6 / rows as f64);
    figures.add(
        "first sync, MB on the wire",
        (peer["bytes_sent"].as_f64().unwrap() + peer["bytes_received"].as_f64().unwrap()) / 1e6,
    );
    figures.add("first sync, peak MiB of the calling process", first.peak_kib as f64 / 1024.0);
    figures.add(
        "first sync, peak MiB of the serving process",
        kib(desktop.pid(), "VmHWM") as f64 / 1024.0,
    );
    figures.ms("health meanwhile, longest ms", health.join().unwrap());
    figures.ms("another device's sealed status meanwhile, longest ms", others.join().unwrap());

    desktop.app("UPDATE note SET c3 = 'changed' WHERE id <= 10");
    std::thread::sleep(Duration::from_millis(300));
    let (report, changed) = second.run(&["sync"]);
    let peer = &report["peers"][0];
    assert_eq!(peer["pulled"].as_u64(), Some(10), "{report}");
    figures.ms("10 changed rows, ms (the whole command)", changed.wall);
    figures.add(
        "10 changed rows, KB on the wire",
        (peer["bytes_sent"].as_f64().unwrap() + peer["bytes_received"].as_f64().unwrap()) / 1e3,
    );
    second.app("UPDATE note SET c4 = 'changed here' WHERE id <= 1000");
    let (report, pushed) = second.run(&["sync"]);
    assert_eq!(report["peers"][0]["pushed"].as_i64(), Some(rows.min(1_000)), "{report}");
    figures.ms(
        "1,000 edits captured and pushed by another desktop, ms (the whole command)",
        pushed.wall,
    );
    of_one_thread().block_on(pushes(&desktop, figures));
}

fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let as_json = arguments.iter().any(|argument| argument == "--json");
    let number = |name: &str| {
        arguments
            .iter()
            .position(|argument| argument == name)
            .and_then(|place| arguments.get(place + 1)?.parse::<usize>().ok())
    };
    let runs = number("--runs").unwrap_or(3);
    let rows = arguments.first().and_then(|argument| argument.parse().ok()).unwrap_or(10_000_i64);
    let folder = tempfile::TempDir::new().unwrap();
    let (original, empty) = (folder.path().join("original.db"), folder.path().join("empty.db"));
    make(&original, rows);
    make(&empty, 0);
    let mut figures = Figures::default();
    for _ in 0..runs {
        measure(&original, &empty, rows, &mut figures);
        history(&mut figures);
    }
    let medians: BTreeMap<&str, f64> = figures
        .0
        .keys()
        .map(|name| (*name, (figures.median(name) * 100.0).round() / 100.0))
        .collect();
    if as_json {
        println!("{}", json!({ "rows": rows, "runs": runs, "medians": medians }));
        return;
    }
    println!("{rows} rows of 20 columns and a note of 500 characters, medians of {runs} runs");
    let floor = figures.median("floor: rows read and written by SQLite alone, ms");
    for (name, value) in medians {
        let beside = if name.starts_with("first sync, ms") || name.starts_with("migrate, with") {
            format!("   ({:.1} times the floor)", value / floor)
        } else {
            String::new()
        };
        println!("{value:>12.2}  {name}{beside}");
    }
}
