//! The program itself, run beside the node for what takes long or looks at it from outside: checks
//! and backups. Says what came of it, and nothing of what it means.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value as Json;
use storysync_crdt::Stamp;
use tokio::process::Command;

/// How long a check or a backup may take.
const WITHIN: Duration = Duration::from_secs(10 * 60);

/// A way to run a command of the program on the node's files.
#[derive(Debug, Clone)]
pub(super) struct Program {
    path: PathBuf,
    database: PathBuf,
    data_dir: PathBuf,
}

/// What a check found.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Finding {
    pub(super) level: String,
    pub(super) sentence: String,
}

/// The last checks and what came of them.
#[derive(Debug, Default)]
pub(super) struct Checks {
    pub(super) running: bool,
    /// How many have ended.
    pub(super) ended: u64,
    pub(super) at: Option<Stamp>,
    pub(super) findings: Vec<Finding>,
    pub(super) failed: Option<String>,
}

impl Program {
    pub(super) fn new(path: PathBuf, database: PathBuf, data_dir: PathBuf) -> Self {
        Self { path, database, data_dir }
    }

    /// Runs a command; its JSON, or why it failed.
    pub(super) async fn run(&self, words: &[&str]) -> Result<Json, String> {
        let running = Command::new(&self.path)
            .args(words)
            .arg("--json")
            .arg("--db")
            .arg(&self.database)
            .arg("--data-dir")
            .arg(&self.data_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .output();
        let output = match tokio::time::timeout(WITHIN, running).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err("it took longer than ten minutes and was stopped".to_owned()),
        };
        // A check that found something says so with its exit code, and tells it all the same.
        serde_json::from_slice(&output.stdout).map_err(|_| {
            let words = String::from_utf8_lossy(&output.stderr);
            let said = words.trim().trim_start_matches("storysync: ");
            if said.is_empty() { "it said nothing".to_owned() } else { said.to_owned() }
        })
    }

    /// What `doctor` and `verify` find.
    pub(super) async fn check(&self) -> Result<Vec<Finding>, String> {
        let mut findings = findings_in(&self.run(&["doctor"]).await?);
        let verified = self.run(&["verify"]).await?;
        let complaints = verified.get("complaints").and_then(Json::as_array);
        for fault in complaints.into_iter().flatten() {
            if let Some(sentence) = fault.as_str() {
                findings
                    .push(Finding { level: "problem".to_owned(), sentence: sentence.to_owned() });
            }
        }
        Ok(findings)
    }
}

fn findings_in(json: &Json) -> Vec<Finding> {
    json.get("findings")
        .and_then(|findings| serde_json::from_value(findings.clone()).ok())
        .unwrap_or_default()
}
