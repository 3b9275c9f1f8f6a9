//! A node as a person has it: the binary, its data directory, and a foreign program that writes the
//! file.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::fixtures::{self, Dialect};

pub const BINARY: &str = env!("CARGO_BIN_EXE_storysync");

/// What serving nodes log in tests: every change that comes in, by name.
const LOGGED: &str = "storysync=debug,storysync_engine::receive=trace";

/// A device: a database, a data directory, and the binary.
pub struct TestNode {
    pub folder: TempDir,
    pub database: PathBuf,
    pub serving: Option<Child>,
    pub port: u16,
    /// The network namespace it lives in, when it is a host of its own.
    pub namespace: Option<String>,
}

impl TestNode {
    pub fn empty() -> Self {
        let node = Self::without_database();
        node.run_json(&["init"]);
        node
    }

    pub fn without_database() -> Self {
        let folder = TempDir::new().unwrap();
        let database = folder.path().join("storymaster.db");
        Self { folder, database, serving: None, port: 0, namespace: None }
    }

    pub fn with_fixture(dialect: Dialect) -> Self {
        let node = Self::without_database();
        fixtures::make(&node.database, dialect);
        node
    }

    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match &self.namespace {
            None => Command::new(BINARY),
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace, BINARY]);
                command
            }
        };
        command
            .args(arguments)
            .arg("--db")
            .arg(&self.database)
            .arg("--data-dir")
            .arg(self.data_dir());
        command
            .env_remove("STORYSYNC_DB")
            .env_remove("STORYMASTER_DB_PATH")
            .env_remove("STORYSYNC_LOG");
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).stdin(Stdio::null()).output().unwrap()
    }

    pub fn run_json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The one sentence a command fails with.
    pub fn fails(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(
            output.status.code(),
            Some(1),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stdout)
        );
        String::from_utf8(output.stderr).unwrap()
    }

    pub fn serve(&mut self) {
        self.serve_with(&["--pairing-approval", "none"]);
    }

    /// Serves and only answers: exchanges happen when a test says so.
    pub fn serve_with(&mut self, arguments: &[&str]) {
        self.serve_as(&[arguments, &["--no-live"]].concat());
    }

    /// Serves and stays in step by itself.
    pub fn serve_live(&mut self) {
        self.serve_as(&["--pairing-approval", "none"]);
    }

    /// The same, on an address of its own.
    pub fn serve_on(&mut self, host: &str) {
        self.serve_at(host, &["--pairing-approval", "none"]);
    }

    fn serve_as(&mut self, arguments: &[&str]) {
        let host = if self.namespace.is_some() { "0.0.0.0" } else { "127.0.0.1" };
        self.serve_at(host, arguments);
    }

    fn serve_at(&mut self, host: &str, arguments: &[&str]) {
        let port = self.port.to_string();
        let all =
            [&["serve", "--host", host, "--port", &port, "--admin-port", "0"], arguments].concat();
        let log = std::fs::File::options().create(true).append(true).open(self.log_path()).unwrap();
        let mut command = self.command(&all);
        command.env("STORYSYNC_LOG", LOGGED).env("NO_COLOR", "1");
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let ready = ready_line(&mut child);
        self.port = ready["url"].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap();
        self.serving = Some(child);
    }

    /// What the serving node says on stderr.
    pub fn log_path(&self) -> PathBuf {
        self.folder.path().join("serve.log")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// How the node's exchanges stand with a device: `connected`, `listening`, `away`, …
    pub fn standing(&self, device: &str) -> String {
        self.run_json(&["status"])["live"][device]["state"].as_str().unwrap_or("unknown").to_owned()
    }

    /// How many rows stand in the app's tables.
    pub fn rows_shown(&self) -> usize {
        usize::try_from(self.value::<i64>("SELECT count(*) FROM sync_row WHERE present = 1"))
            .unwrap()
    }

    pub fn id(&self) -> String {
        self.run_json(&["status"])["device_id"].as_str().unwrap().to_owned()
    }

    pub fn stop(&mut self) {
        let Some(mut child) = self.serving.take() else { return };
        signal(&child, "TERM");
        let started = Instant::now();
        while child.try_wait().unwrap().is_none() {
            assert!(
                started.elapsed() < Duration::from_secs(2),
                "a node must stop within two seconds"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.serving.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn qr(&self) -> String {
        self.run_json(&["pair", "show"])["qr"].as_str().unwrap().to_owned()
    }

    pub fn sync(&self) -> (u64, u64) {
        let report = self.run_json(&["sync"]);
        let peer = &report["peers"][0];
        (peer["pushed"].as_u64().unwrap(), peer["pulled"].as_u64().unwrap())
    }

    /// The app, a program that knows nothing of us.
    pub fn app(&self, sql: &str) {
        let script = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], \
            timeout=5)\nc.executescript(sys.argv[2])\nc.commit()\n";
        let done = Command::new("python3")
            .args(["-c", script])
            .arg(&self.database)
            .arg(sql)
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    pub fn value<T: rusqlite::types::FromSql>(&self, sql: &str) -> T {
        rusqlite::Connection::open(&self.database)
            .unwrap()
            .query_row(sql, [], |row| row.get(0))
            .unwrap()
    }

    /// The QR text with another port: addresses are hints.
    pub fn qr_through(&self, port: u16) -> String {
        let mut qr: Value = serde_json::from_str(&self.qr()).unwrap();
        qr["port"] = port.into();
        serde_json::to_string_pretty(&qr).unwrap()
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        self.kill();
        if !std::thread::panicking() && self.database.exists() {
            let connection = rusqlite::Connection::open(&self.database).unwrap();
            if let Ok(verdict) =
                connection.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0))
            {
                assert_eq!(verdict, "ok");
            }
        }
    }
}

/// What a node says when it is ready.
pub fn ready_line(child: &mut Child) -> Value {
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    serde_json::from_str(
        line.strip_prefix("READY ").unwrap_or_else(|| panic!("not ready: {line:?}")),
    )
    .unwrap()
}

pub fn signal(child: &Child, name: &str) {
    Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
}

/// A desktop that serves and a paired second device, in step.
pub fn paired() -> (TestNode, TestNode) {
    let mut desktop = TestNode::with_fixture(Dialect::Newer);
    let phone = TestNode::empty();
    desktop.serve();
    phone.run_json(&["pair", "join", &desktop.qr()]);
    assert_eq!(phone.sync(), (0, fixtures::ROWS_IN_ALL as u64));
    (desktop, phone)
}

pub fn http_get(address: &str, target: &str, token: &str) -> (u16, Vec<u8>) {
    exchange(
        address,
        format!(
            "GET {target} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer \
        {token}\r\nConnection: close\r\n\r\n"
        )
        .as_bytes(),
    )
}

/// A whole answer, head and body.
pub fn raw(address: &str, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // The server may refuse before it has read everything.
    drop(stream.write_all(request));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    answer
}

pub fn exchange(address: &str, request: &[u8]) -> (u16, Vec<u8>) {
    let answer = raw(address, request);
    let status =
        String::from_utf8_lossy(answer.get(9..12).unwrap_or_default()).parse().unwrap_or(0);
    let body = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map_or(Vec::new(), |end| answer[end + 4..].to_vec());
    (status, body)
}

/// The loopback listener of a serving node: where it is, and the token of this run.
pub fn admin(node: &TestNode) -> (String, String) {
    let file: Value =
        serde_json::from_slice(&std::fs::read(node.data_dir().join("admin.json")).unwrap())
            .unwrap();
    (
        file["url"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned(),
        file["token"].as_str().unwrap().to_owned(),
    )
}

pub fn http_post(address: &str, target: &str, token: &str, body: &Value) -> (u16, Value) {
    let body = body.to_string();
    let request = format!(
        "POST {target} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer \
            {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: \
            close\r\n\r\n{body}",
        body.len()
    );
    let (status, answer) = exchange(address, request.as_bytes());
    (status, serde_json::from_slice(&answer).unwrap_or_default())
}

/// Waits until something is so, and says how long it took.
pub fn eventually(within: Duration, what: &str, is_so: impl Fn() -> bool) -> Duration {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < within, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
    begun.elapsed()
}
