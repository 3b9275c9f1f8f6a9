//! `storysync status`: how the node stands.

use super::devices::{QuestionReport, describe_questions, questions};
use crate::cli::context::Context;
use crate::net::device_list_json;
use crate::net::node_state::now;
use crate::node::AdminFile;
use serde::Serialize;
use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;
use storysync_crdt::Stamp;
use storysync_engine::store::trust::TrustedDevice;
use storysync_engine::{HoldReport, NewEpoch};

/// How long `status` waits for the serving node.
pub(super) const LIVE_WITHIN: Duration = Duration::from_secs(2);

/// Everything `status` knows.
#[derive(Debug, Serialize)]
struct StatusReport<'a> {
    device_id: &'a str,
    name: &'a str,
    db: &'a Path,
    entities: i64,
    /// Changes the device that lacks most was not told yet.
    pending: i64,
    parked: i64,
    conflicts: i64,
    devices: &'a Value,
    last_sync_at: Option<String>,
    quarantined: i64,
    serving_on_port: Option<u16>,
    #[serde(rename = "brakes")]
    holds: Vec<HoldReport>,
    /// What the person here is asked about devices.
    questions: Vec<QuestionReport>,
    /// By device, what the serving node is doing with it; null when none serves.
    live: &'a Value,
    /// Devices the serving node finds on the network.
    nearby: &'a Value,
    log_began_anew: Option<LogBeganAnew>,
    #[serde(skip)]
    trusted: &'a [TrustedDevice],
}

#[derive(Debug, Serialize)]
struct LogBeganAnew {
    because: NewEpoch,
    at: String,
}

pub(in crate::cli) fn status(context: &Context) -> anyhow::Result<()> {
    let (identity, trust, mut engine) = context.reading()?;
    let (device_id, name) = (identity.device_id(), context.name(None, &trust)?);
    engine.capture(now())?;
    let status = engine.status()?;
    let devices = trust.devices()?;
    let mut pending = 0;
    for device in devices.iter().filter(|device| device.is_active()) {
        pending = pending.max(engine.pending_for(device.device_id.as_str())?);
    }
    let last_sync_at = devices.iter().filter_map(|device| device.last_sync_at).max();
    let list = device_list_json(&identity.public_key(), &devices, &engine.mirrored_devices()?);
    let serving = AdminFile::read(&context.data_dir).map(|file| file.lan_port);
    // Nothing when the node does not answer: the rest is known without it.
    let live = serving
        .and_then(|_| {
            crate::cli::pair::admin_call_within(context, "GET", "/api/live", None, LIVE_WITHIN).ok()
        })
        .unwrap_or_default();
    let rfc3339 = |at| Stamp::from_unix_ms(at).to_rfc3339();
    let report = StatusReport {
        device_id: device_id.as_str(),
        name: &name,
        db: &context.database,
        entities: status.entities,
        pending,
        parked: status.parked,
        conflicts: status.conflicts,
        devices: &list["devices"],
        last_sync_at: last_sync_at.map(rfc3339),
        quarantined: status.quarantined,
        serving_on_port: serving,
        holds: engine.holds(now())?,
        questions: questions(&trust)?,
        live: &live["devices"],
        nearby: &live["nearby"],
        log_began_anew: engine
            .new_epoch()?
            .map(|(because, at)| LogBeganAnew { because, at: rfc3339(at) }),
        trusted: &devices,
    };
    context.print(&report, |text| {
        // Writing to a String does not fail.
        let _ = report.describe(text);
    })
}

impl StatusReport<'_> {
    fn describe(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "{} ({})", self.name, self.device_id)?;
        writeln!(text, "database   {}", self.db.display())?;
        writeln!(text, "rows       {} ({} waiting for others)", self.entities, self.parked)?;
        writeln!(text, "to send    {} changes", self.pending)?;
        writeln!(text, "conflicts  {}", self.conflicts)?;
        if self.quarantined > 0 {
            writeln!(
                text,
                "refused    {} changes other devices sent; `storysync log` says whose",
                self.quarantined
            )?;
        }
        writeln!(text, "last sync  {}", self.last_sync_at.as_deref().unwrap_or("never"))?;
        match self.serving_on_port {
            Some(port) => writeln!(text, "serving    on port {port}")?,
            None => writeln!(text, "serving    no; start it with `storysync serve`")?,
        }
        for device in self.trusted.iter().filter(|device| device.is_active()) {
            match device.paused_at {
                Some(at) => writeln!(
                    text,
                    "paused     {} since {}: `storysync devices resume` lets it go on",
                    device.name,
                    Stamp::from_unix_ms(at).to_rfc3339()
                )?,
                None => self.describe_exchanges(device, text)?,
            }
        }
        self.describe_strangers(text)?;
        if let Some(anew) = &self.log_began_anew {
            writeln!(text, "note       {}", anew.because.sentence())?;
        }
        describe_questions(&self.questions, text);
        for hold in &self.holds {
            let name =
                self.trusted.iter().find(|device| device.device_id.as_str() == hold.device_id);
            let by = name.map_or(hold.device_id.as_str(), |device| &device.name);
            writeln!(text, "waiting    {}, since {}", hold.sentence(by), hold.at)?;
        }
        Ok(())
    }

    /// What the serving node is doing with a device; nothing when none serves.
    fn describe_exchanges(&self, device: &TrustedDevice, text: &mut String) -> std::fmt::Result {
        let exchanges = &self.live[device.device_id.as_str()];
        match exchanges["state"].as_str() {
            Some("connected" | "listening") => writeln!(text, "in step    {}", device.name),
            Some("syncing") => {
                let progress = &exchanges["progress"];
                writeln!(
                    text,
                    "syncing    {}: {} rows pulled, {} pushed, {} changes to come",
                    device.name, progress["pulled"], progress["pushed"], progress["remaining"]
                )
            }
            Some(_) => writeln!(
                text,
                "away       {}: {}",
                device.name,
                exchanges["error"].as_str().unwrap_or("it was not reached yet")
            ),
            None => Ok(()),
        }
    }

    /// Devices on the network that are not paired.
    fn describe_strangers(&self, text: &mut String) -> std::fmt::Result {
        for device in self
            .nearby
            .as_array()
            .into_iter()
            .flatten()
            .filter(|device| device["is_paired"] == false)
        {
            let name = device["device_name"].as_str().unwrap_or("a device without a name");
            writeln!(text, "nearby     {name}, not paired: `storysync pair show` here or there")?;
        }
        Ok(())
    }
}
