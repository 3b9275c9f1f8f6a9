//! `storysync open`: the page in the person's browser, with a node started for it where none runs.

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use serde_json::{Value, json};
use storysync_engine::store::key_file;

use crate::cli::context::Context;
use crate::cli::pair::admin_call_within;
use crate::node::AdminFile;
use crate::page::random_words;

/// Names the word that opens the page of a node that is started for it.
pub(super) const LINK_VARIABLE: &str = "STORYSYNC_PAGE_LINK";
/// How long a running node may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Where a node that was started for the page writes its log.
const LOG_FILE: &str = "serve.log";

pub(in crate::cli) fn open(context: &Context, show: bool) -> anyhow::Result<()> {
    let url = match of_running_node(context) {
        Some(url) => url,
        None => of_new_node(context)?,
    };
    let shown = show && show_in_browser(&url);
    context.print(&json!({ "url": url, "opened": shown }), |text| {
        if shown {
            text.push_str("The page is open in your browser.\n");
        } else {
            text.push_str("Open this address in a browser; it works once, for five minutes:\n\n");
            text.push_str(&url);
            text.push_str("\n\n");
        }
    })
}

/// The address of the page of the node that runs, if one does.
fn of_running_node(context: &Context) -> Option<String> {
    let file = AdminFile::read(&context.data_dir)?;
    let answer = admin_call_within(context, "POST", "/api/page/link", None, ANSWER_WITHIN).ok()?;
    let path = answer.get("path")?.as_str()?;
    Some(format!("{}{path}", file.url))
}

/// Starts a node that goes on when this command has ended, and tells the address of its page.
fn of_new_node(context: &Context) -> anyhow::Result<String> {
    key_file::prepare_directory(&context.data_dir)?;
    let link = random_words();
    let log_path = context.data_dir.join(LOG_FILE);
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log_path)
        .with_context(|| format!("{} can't be written", log_path.display()))?;
    let program =
        std::env::current_exe().context("the system does not tell which program this is")?;
    let mut command = Command::new(program);
    command
        .args(["serve", "--ask-first", "--db"])
        .arg(&context.database)
        .arg("--data-dir")
        .arg(&context.data_dir)
        .env(LINK_VARIABLE, &link)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log);
    // A terminal that is closed, or Ctrl-C in it, shall not take the node along.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut node = command.spawn().context("a node can't be started")?;
    let said = node.stdout.take().ok_or_else(|| anyhow!("the node says nothing"))?;
    let mut line = String::new();
    BufReader::new(said).read_line(&mut line)?;
    let told = line.split_once(' ').and_then(|(_, told)| serde_json::from_str::<Value>(told).ok());
    let url = told.as_ref().and_then(|told| told.get("admin_url")).and_then(Value::as_str);
    match url {
        Some(url) => Ok(format!("{url}/?token={link}")),
        None => {
            drop(node.wait());
            bail!("the node did not start: {}", last_line(&log_path))
        }
    }
}

/// What a node that ended said last.
fn last_line(log: &Path) -> String {
    let said = std::fs::read(log).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let line = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    match line.trim_start_matches("storysync: ") {
        "" => format!("{} may say why", log.display()),
        why => why.to_owned(),
    }
}

/// Opens an address in the person's browser; whether there was one to open it in.
pub(super) fn show_in_browser(url: &str) -> bool {
    match webbrowser::open(url) {
        Ok(()) => true,
        Err(error) => {
            // The address itself lets in: it does not belong into a log.
            tracing::warn!(%error, "no browser could be opened");
            false
        }
    }
}
