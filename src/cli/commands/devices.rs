//! `storysync devices`: who is paired, who is an owner, and who is sent away.

use std::fmt::Write as _;

use anyhow::bail;
use serde::Serialize;
use serde_json::json;
use storysync_crdt::Stamp;
use storysync_engine::store::trust::{EventKind, RevokedBy, TrustStore, TrustedDevice};

use crate::cli::context::Context;
use crate::net::device_list_json;
use crate::net::node_state::{devices_to_mirror, now};

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
        for device in devices {
            let state = match (
                device["is_active"] == true,
                device["frozen"] == true,
                device["keys_in_use_twice_at"].is_string(),
            ) {
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
            let _ = writeln!(
                text,
                "{}  {}  {state}, last sync {}",
                device["device_id"].as_str().unwrap_or_default(),
                device["device_name"].as_str().unwrap_or_default(),
                device["last_sync_at"].as_str().unwrap_or("never")
            );
            if let Some(number) = device["safety_number"].as_str() {
                let _ = writeln!(text, "    safety number {number}: read it to each other");
            }
        }
        describe_questions(&questions, text);
    })
}

pub(in crate::cli) fn revoke(context: &Context, words: &str) -> anyhow::Result<()> {
    let trust = context.trust()?;
    let device = trust.find_by_words(words)?;
    // The running node drops the device's keys from memory as well.
    let told = crate::cli::pair::admin_call(
        context,
        "DELETE",
        &format!("/api/devices/{}", device.device_id),
        None,
    );
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
