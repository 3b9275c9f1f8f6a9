//! `doctor`: looks at everything syncing needs, from the file to the other device, and says in
//! words what is wrong and what to do. Changes nothing.
#![expect(
    clippy::indexing_slicing,
    reason = "a JSON value that lacks a key reads as null, it never panics"
)]

mod reaching;

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::context::{Context, entropy, runtime};
use super::pair::admin_call_within;
use crate::cli::advice::engine_sentence;
use crate::cli::commands::questions;
use crate::config::{ADMIN_PORT, LAN_PORT};
use crate::net::addresses;
use crate::net::handle::EngineHandle;
use crate::net::node_state::{now, now_ms};
use crate::net::port_holder::who_holds;
use crate::node::AdminFile;
use reaching::{ANSWER_WITHIN, Call};
use storysync_engine::store::key_file;
use storysync_engine::store::rows::Parked;
use storysync_engine::store::trust::{TrustStore, TrustedDevice};
use storysync_engine::trust::identity::Identity;
use storysync_engine::{Engine, EngineError};

/// How long a file may be locked before that is a finding.
const LOCK_WITHIN: Duration = Duration::from_secs(2);
/// Clocks that differ by more than this are a finding, in milliseconds.
const CLOCK_SKEW_MS_MAX: i64 = 2 * 60 * 1000;
/// Less room than this on a disk is a finding, in bytes.
const ROOM_BYTES_MIN: u64 = 100 * 1024 * 1024;
/// 2024-01-01: a clock before that was never set, in Unix milliseconds.
const CLOCK_SET_AFTER_MS: u64 = 1_704_067_200_000;
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// As it should be.
    Fine,
    /// Worth knowing.
    Note,
    /// Keeps something from syncing.
    Problem,
}

#[derive(Debug, Serialize)]
struct Finding {
    code: &'static str,
    level: Level,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_id: Option<String>,
    sentence: String,
}

#[derive(Debug, Default, Serialize)]
struct Findings {
    findings: Vec<Finding>,
}

impl Findings {
    fn add(&mut self, level: Level, code: &'static str, sentence: impl Into<String>) {
        self.findings.push(Finding { code, level, device_id: None, sentence: sentence.into() });
    }

    fn of_device(
        &mut self,
        level: Level,
        code: &'static str,
        device: &TrustedDevice,
        sentence: impl Into<String>,
    ) {
        self.findings.push(Finding {
            code,
            level,
            device_id: Some(device.device_id.to_string()),
            sentence: sentence.into(),
        });
    }
}

pub(super) fn run(context: &Context) -> anyhow::Result<()> {
    let mut findings = Findings::default();
    if now_ms() < CLOCK_SET_AFTER_MS {
        findings.add(
            Level::Problem,
            "clock",
            "this machine's clock is not set; set it, or edits get times of long ago",
        );
    }
    if let Some(sentence) = &context.broken_settings {
        findings.add(Level::Problem, "settings", sentence.as_str());
    }
    disks(context, &mut findings);
    let live = node(context, &mut findings);
    if key_file::exists(&context.data_dir) {
        let (identity, trust) = context.identity_and_trust()?;
        let engine = database(context, &identity, &mut findings);
        devices(context, &identity, &trust, engine, live.as_ref(), &mut findings)?;
    } else {
        database(context, &Identity::from_secrets(&[0; 32], &[0; 32]), &mut findings);
        findings.add(
            Level::Problem,
            "no_devices",
            "this device was never paired: run `storysync serve`, then `storysync pair show`, and \
                scan the code on the other device",
        );
    }
    let is_ok = findings.findings.iter().all(|finding| finding.level != Level::Problem);
    context.print(&json!({ "ok": is_ok, "findings": findings.findings }), |text| {
        for finding in &findings.findings {
            let mark = match finding.level {
                Level::Fine => "ok   ",
                Level::Note => "note ",
                Level::Problem => "FAULT",
            };
            let _ = writeln!(text, "{mark}  {}", finding.sentence);
        }
        if is_ok {
            text.push_str("Nothing keeps this device from syncing.\n");
        }
    })
}

fn disks(context: &Context, findings: &mut Findings) {
    let folders = [
        context.database.parent().filter(|folder| !folder.as_os_str().is_empty()),
        Some(context.data_dir.as_path()),
    ];
    for folder in folders.into_iter().flatten().filter(|folder| folder.exists()) {
        if fs4::available_space(folder).is_ok_and(|room| room < ROOM_BYTES_MIN) {
            findings.add(
                Level::Problem,
                "disk_full",
                format!(
                    "the disk of {} is nearly full; make room, or nothing can be written",
                    folder.display()
                ),
            );
        }
    }
}

/// Looks at the file as it is: nothing is migrated.
fn database(context: &Context, identity: &Identity, findings: &mut Findings) -> Option<Engine> {
    let options = storysync_engine::EngineOptions {
        busy_timeout: LOCK_WITHIN,
        ..context.engine_options(identity)
    };
    let code_of = |error: &EngineError| match error {
        EngineError::NoSuchFile(_) => "no_database",
        EngineError::NotADatabase(_) => "not_a_database",
        EngineError::Locked(_) => "database_locked",
        EngineError::Rebuilding(_) => "tables_rebuilt",
        EngineError::ReadOnly(_) => "read_only",
        EngineError::DiskFull(_) => "disk_full",
        EngineError::Damaged { .. } => "database_damaged",
        EngineError::NotMigrated(_) => "not_migrated",
        EngineError::Refused(_) => "tables_refused",
        _ => "database",
    };
    let mut engine = match Engine::open(options, entropy()) {
        Ok(engine) => engine,
        Err(error) => {
            findings.add(Level::Problem, code_of(&error), engine_sentence(&error));
            return None;
        }
    };
    if let Err(error) = engine.check_writable() {
        findings.add(Level::Problem, code_of(&error), engine_sentence(&error));
    } else {
        findings.add(
            Level::Fine,
            "database",
            format!("the database {} is prepared and can be written", context.database.display()),
        );
    }
    match engine.parked() {
        Ok(parked) => {
            for (table, reason, rows) in parked {
                let why = match reason {
                    Parked::Parent => "they wait for the rows they belong to",
                    Parked::Name => "other rows have the same unique values",
                    Parked::Refused => "the app's table refuses them",
                };
                let sentence = format!("{rows} rows of table {table} are not shown: {why}");
                findings.add(Level::Note, "parked", sentence);
            }
        }
        Err(error) => findings.add(Level::Problem, code_of(&error), engine_sentence(&error)),
    }
    if let Ok(holds) = engine.holds(now()) {
        for hold in holds {
            let sentence = hold.sentence(&hold.device_id);
            findings.add(Level::Note, "brake", sentence);
        }
    }
    if let Ok(Some((cause, _))) = engine.new_epoch() {
        findings.add(Level::Note, "log_began_anew", cause.sentence());
    }
    Some(engine)
}

/// Whether a node serves here; what it knows of the other devices.
fn node(context: &Context, findings: &mut Findings) -> Option<Value> {
    let has_network = addresses::reachable(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
        .iter()
        .any(|ip| addresses::is_usable(*ip));
    if !has_network {
        findings.add(
            Level::Problem,
            "no_network",
            "this machine is in no network: join the Wi-Fi the other device is in",
        );
    }
    if let Some(file) = AdminFile::read(&context.data_dir) {
        match admin_call_within(context, "GET", "/api/live", None, ANSWER_WITHIN) {
            Ok(live) => {
                findings.add(
                    Level::Fine,
                    "node",
                    format!("the node serves on port {}", file.lan_port),
                );
                return Some(live);
            }
            Err(error) => {
                findings.add(
                    Level::Problem,
                    "node_not_running",
                    format!(
                        "the node that served here does not answer ({error}); start it again \
                        with `storysync serve`"
                    ),
                );
                return None;
            }
        }
    }
    findings.add(
        Level::Problem,
        "node_not_running",
        "no node serves here, so other devices can't \
        reach this one; start it with `storysync serve`",
    );
    let ports = [
        (context.config.host(), context.config.port, LAN_PORT, "--port"),
        (IpAddr::V4(Ipv4Addr::LOCALHOST), context.config.admin_port, ADMIN_PORT, "--admin-port"),
    ];
    for (ip, chosen, usual, flag) in ports {
        let port = chosen.unwrap_or(usual);
        if let Err(error) = std::net::TcpListener::bind((ip, port))
            && error.kind() == ErrorKind::AddrInUse
        {
            let by = runtime()
                .ok()
                .and_then(|runtime| runtime.block_on(who_holds(SocketAddr::new(ip, port))))
                .unwrap_or_else(|| "another program".to_owned());
            let (level, what) = match chosen {
                Some(_) => {
                    (Level::Problem, format!("stop it, or serve on another port with {flag}"))
                }
                None => (
                    Level::Note,
                    format!("a node takes the next free one, or the one {flag} names"),
                ),
            };
            findings.add(level, "port_taken", format!("port {port} is taken by {by}: {what}"));
        }
    }
    None
}

fn devices(
    context: &Context,
    identity: &Identity,
    trust: &TrustStore,
    engine: Option<Engine>,
    live: Option<&Value>,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let (devices, questions) = (trust.devices()?, questions(trust)?);
    if !devices.iter().any(TrustedDevice::is_active) {
        findings.add(
            Level::Problem,
            "no_devices",
            "no device is paired with this one: run `storysync pair show` on one and `storysync \
                pair join` on the other",
        );
    }
    let engine = engine.map(EngineHandle::spawn).transpose()?;
    let call = Call { context, identity, trust, engine: engine.as_ref(), live };
    let runtime = runtime()?;
    for device in &devices {
        if device.revoked_at.is_some() {
            findings.of_device(
                Level::Note,
                "revoked",
                device,
                format!(
                    "{} was revoked and is not synced with; pair it again if it should be",
                    device.name
                ),
            );
        } else if device.rests {
            findings.of_device(
                Level::Problem,
                "keys_lost",
                device,
                format!("{} was paired with other keys of this device; pair it again", device.name),
            );
        } else if device.frozen_at.is_some() {
            let sentence = format!(
                "nothing is taken from {}: it sent two different changes under one name; pair it \
                    again",
                device.name
            );
            findings.of_device(Level::Problem, "frozen", device, sentence);
        } else if device.paused_at.is_some() {
            let sentence = format!(
                "{} is paused here, and nothing is exchanged with it: `storysync devices resume \
                    {}` lets it go on",
                device.name, device.device_id
            );
            findings.of_device(Level::Note, "paused", device, sentence);
        } else {
            for asked in questions.iter().filter(|asked| asked.is_about(device)) {
                findings.of_device(Level::Note, "asked_about", device, asked.sentence());
            }
            if device.twice_at.is_some() {
                let sentence = format!(
                    "the keys of {} are in use in two places: its data directory was copied, or \
                        stolen",
                    device.name
                );
                findings.of_device(Level::Note, "keys_in_use_twice", device, sentence);
            }
            runtime.block_on(call.reach(device, findings));
        }
    }
    Ok(())
}
