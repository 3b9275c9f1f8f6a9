//! `storysync devices`: who is paired, who is an owner, and who is sent away.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::bail;
use serde::Serialize;
use serde_json::json;
use storysync_crdt::Stamp;
use storysync_engine::Engine;
use storysync_engine::store::trust::{EventKind, Pausing, RevokedBy, TrustStore, TrustedDevice};

use crate::cli::context::Context;
use crate::cli::pair::admin_call;
use crate::cli::table::table;
use crate::net::device_list_json;
use crate::net::node_state::{devices_to_mirror, now};

/// How long a look at whose file this is waits for another writer.
const OWNER_WITHIN: Duration = Duration::from_secs(2);

/// A device that is no owner says that another was lost.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct QuestionReport {
    /// PeerId and name of who says so.
    by: String,
    by_name: String,
    /// PeerId and name of whom it is said of.
    device_id: String,
    device_name: String,
    /// RFC 3339, UTC, when we were told.
    at: String,
}

/// What the person here is asked about devices.
pub(in crate::cli) fn questions(trust: &TrustStore) -> anyhow::Result<Vec<QuestionReport>> {
    let devices = trust.devices()?;
    let name = |id: &storysync_engine::trust::identity::DeviceId| {
        let known = devices.iter().find(|device| device.device_id == *id);
        known.map_or_else(|| id.to_string(), |device| device.name.clone())
    };
    let report = |asked: storysync_engine::store::trust::Question| QuestionReport {
        by: asked.teller.to_string(),
        by_name: name(&asked.teller),
        device_id: asked.device_id.to_string(),
        device_name: name(&asked.device_id),
        at: Stamp::from_unix_ms(asked.asked_at).to_rfc3339(),
    };
    Ok(trust.questions()?.into_iter().map(report).collect())
}

/// One sentence for each question, with both answers.
pub(in crate::cli) fn describe_questions(questions: &[QuestionReport], text: &mut String) {
    for asked in questions {
        let _ = writeln!(text, "asked      {}", asked.sentence());
    }
}

impl QuestionReport {
    pub(in crate::cli) fn is_about(&self, device: &TrustedDevice) -> bool {
        self.device_id == device.device_id.as_str()
    }

    pub(in crate::cli) fn sentence(&self) -> String {
        format!(
            "{} says since {} that {} was lost, and is no owner: `storysync devices revoke {}` if \
             that is so, `storysync devices keep {}` if not",
            self.by_name, self.at, self.device_name, self.device_id, self.device_id
        )
    }
}

pub(in crate::cli) fn devices(context: &Context) -> anyhow::Result<()> {
    let (identity, trust, mut engine) = context.reading()?;
    let mut list =
        device_list_json(&identity.public_key(), &trust.devices()?, &engine.mirrored_devices()?);
    let questions = questions(&trust)?;
    list["questions"] = json!(questions);
    context.print(&list, |text| {
        let devices = list["devices"].as_array().cloned().unwrap_or_default();
        if devices.is_empty() {
            text.push_str("No device is paired with this one.\n");
        }
        let (mut rows, mut numbers) = (Vec::new(), Vec::new());
        for device in devices {
            let state = match (
                device["is_active"] == true,
                device["frozen"] == true,
                device["keys_in_use_twice_at"].is_string(),
            ) {
                (true, ..) if device["paused_at"].is_string() => {
                    "paired, and paused here: nothing is exchanged with it"
                }
                (true, false, _) if device["is_paused"] == true => {
                    "paired, but nothing is taken from it until the question below is answered"
                }
                (false, ..) => "not paired",
                (true, true, _) => {
                    "paired, but nothing is taken from it: it sent two different \
                    changes under one name; pair it again"
                }
                (true, false, true) => {
                    "paired, but its keys are in use in two places: its data \
                    directory was copied, or stolen"
                }
                (true, false, false) => "paired",
            };
            let state = if device["is_owner"] == true {
                format!("{state} (an owner)")
            } else {
                state.to_owned()
            };
            let word = |key: &str| device[key].as_str().map(str::to_owned);
            let name = word("device_name").unwrap_or_default();
            let name = match word("own_name") {
                Some(own) => format!("{name} (calls itself {own})"),
                None => name,
            };
            if let Some(number) = word("safety_number") {
                numbers.push(vec![name.clone(), number]);
            }
            let last = word("last_sync_at").unwrap_or_else(|| "never".to_owned());
            rows.push(vec![word("device_id").unwrap_or_default(), name, last, state]);
        }
        if !rows.is_empty() {
            text.push_str(&table(&["id", "name", "last sync", "is"], rows));
        }
        if !numbers.is_empty() {
            text.push_str("\nSafety numbers: read them to each other.\n");
            text.push_str(&table(&[], numbers));
        }
        describe_questions(&questions, text);
    })
}

pub(in crate::cli) fn revoke(context: &Context, words: &str) -> anyhow::Result<()> {
    let trust = context.trust()?;
    let device = trust.find_by_words(words)?;
    // The running node drops the device's keys from memory as well.
    let told = admin_call(context, "DELETE", &format!("/api/devices/{}", device.device_id), None);
    // What the node refuses for a reason, it refuses for all; and nobody may be there to ask.
    if told.is_err() {
        trust.revoke(&device.device_id, RevokedBy::Here, now().unix_ms())?;
        trust.note_event(
            EventKind::Revoke,
            Some(&device.device_id),
            "it was revoked here",
            now().unix_ms(),
        )?;
        let (mut engine, _) = context.engine(&context.identity()?)?;
        engine.mirror_devices(&devices_to_mirror(&trust)?, now())?;
    }
    context.print(&json!({ "device_id": device.device_id.as_str(), "is_active": false }), |text| {
        let _ = writeln!(text, "{} is no longer paired with this device.", device.name);
    })
}

pub(in crate::cli) fn keep(context: &Context, words: &str) -> anyhow::Result<()> {
    let trust = context.trust()?;
    let device = trust.find_by_words(words)?;
    if !device.is_active() {
        bail!("{} is not paired with this device; pair it again if it should be", device.name);
    }
    trust.keep(&device.device_id, now().unix_ms())?;
    context.print(&json!({ "device_id": device.device_id.as_str(), "is_active": true }), |text| {
        let _ = writeln!(text, "{} stays paired with this device.", device.name);
    })
}

pub(in crate::cli) fn rename(context: &Context, words: &str, name: &str) -> anyhow::Result<()> {
    let trust = context.trust()?;
    let device = trust.find_by_words(words)?;
    let target = format!("/api/devices/{}/name", device.device_id);
    let told = admin_call(context, "POST", &target, Some(&json!({ "name": name })));
    let called = match told {
        Ok(answer) => answer["device_name"].as_str().unwrap_or(name).to_owned(),
        // Nobody is there to ask, or refuses for a reason that holds here, too.
        Err(_) => {
            let called = trust.call_device(&device.device_id, name, now().unix_ms())?;
            if Engine::owner(&context.database, OWNER_WITHIN).is_ok_and(|owner| owner.is_some()) {
                let (mut engine, _) = context.engine(&context.identity()?)?;
                engine.mirror_devices(&devices_to_mirror(&trust)?, now())?;
            }
            called
        }
    };
    let json = json!({ "device_id": device.device_id.as_str(), "device_name": called });
    context.print(&json, |text| {
        let _ = writeln!(text, "{} is called {called} here.", device.name);
    })
}

pub(in crate::cli) fn pause(
    context: &Context,
    words: &str,
    pausing: Pausing,
) -> anyhow::Result<()> {
    let trust = context.trust()?;
    let device = trust.find_by_words(words)?;
    let word = if pausing == Pausing::Pause { "pause" } else { "resume" };
    // The running node ends what is going on with the device, too.
    let target = format!("/api/devices/{}/{word}", device.device_id);
    if admin_call(context, "POST", &target, None).is_err() {
        trust.pause(&device.device_id, pausing, now().unix_ms())?;
    }
    let is_paused = pausing == Pausing::Pause;
    let json = json!({ "device_id": device.device_id.as_str(), "is_paused": is_paused });
    context.print(&json, |text| {
        let _ = match pausing {
            Pausing::Pause => writeln!(
                text,
                "{} is paused: it stays paired, and nothing is exchanged with it until `storysync \
                 devices resume {}`.",
                device.name, device.device_id
            ),
            Pausing::Resume => writeln!(text, "{} syncs with this device again.", device.name),
        };
    })
}

pub(in crate::cli) fn make_owner(context: &Context, words: &str) -> anyhow::Result<()> {
    let trust = context.trust()?;
    let (device_id, name) = if words == "this" {
        trust.make_owner_itself(now().unix_ms())?;
        (context.identity()?.device_id(), "This device".to_owned())
    } else {
        let device = trust.find_by_words(words)?;
        trust.make_owner(&device.device_id, now().unix_ms())?;
        (device.device_id, device.name)
    };
    context.print(&json!({ "device_id": device_id.as_str(), "is_owner": true }), |text| {
        let _ = writeln!(text, "{name} is an owner.");
    })
}
