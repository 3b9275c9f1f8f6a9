//! A node as a process, and what it costs.

use super::*;

pub(crate) struct Node {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) serving: Option<Child>,
}

/// What one process cost.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    pub(crate) peak_kib: u64,
    /// User and system time, as last seen before it ended.
    pub(crate) cpu: Duration,
}

pub(crate) fn kib(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .find(|line| line.starts_with(field))
        .and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap_or(0)
}

pub(crate) fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<u64> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse().ok())
        .collect();
    Duration::from_millis(fields.iter().sum::<u64>() * TICK_MS)
}

impl Node {
    pub(crate) fn of(original: &Path) -> Self {
        let folder = tempfile::TempDir::new().unwrap();
        std::fs::copy(original, folder.path().join("app.db")).unwrap();
        Self { folder, serving: None }
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.folder.path().join("app.db")
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command
            .args(arguments)
            .arg("--db")
            .arg(self.database())
            .arg("--data-dir")
            .arg(self.folder.path().join("data"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> (Value, Cost) {
        let begun = Instant::now();
        let mut child = self.command(&[arguments, &["--json"]].concat()).spawn().unwrap();
        let (pid, done) = (child.id(), Arc::new(AtomicBool::new(false)));
        let watching = std::thread::spawn({
            let done = Arc::clone(&done);
            move || {
                let (mut peak, mut used) = (0, Duration::ZERO);
                while !done.load(Ordering::Relaxed) {
                    (peak, used) = (peak.max(kib(pid, "VmHWM")), used.max(cpu(pid)));
                    std::thread::sleep(Duration::from_millis(2));
                }
                (peak, used)
            }
        });
        let mut output = Vec::new();
        child.stdout.take().unwrap().read_to_end(&mut output).unwrap();
        assert!(
            child.wait().unwrap().success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output)
        );
        let wall = begun.elapsed();
        done.store(true, Ordering::Relaxed);
        let (peak_kib, cpu) = watching.join().unwrap();
        (serde_json::from_slice(&output).unwrap_or_default(), Cost { wall, peak_kib, cpu })
    }

    /// Starts serving; how long until it is ready.
    pub(crate) fn serve(&mut self) -> Duration {
        let begun = Instant::now();
        let arguments = [
            "serve",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--admin-port",
            "0",
            "--pairing-approval",
            "none",
            "--no-live",
            "--no-discovery",
        ];
        let mut child = self.command(&arguments).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("READY"), "{line}");
        self.serving = Some(child);
        begun.elapsed()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.serving.as_ref().unwrap().id()
    }

    pub(crate) fn qr(&self) -> String {
        self.run(&["pair", "show"]).0["qr"].as_str().unwrap().to_owned()
    }

    pub(crate) fn app(&self, sql: &str) {
        let connection = Connection::open(self.database()).unwrap();
        connection.busy_timeout(Duration::from_secs(5)).unwrap();
        connection.execute_batch(sql).unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.serving.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}
