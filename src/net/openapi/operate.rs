//! The loopback listener's operations for whoever runs a node: settings, what is done with a
//! device, measurements.

use serde_json::json;
use utoipa::ToSchema;

use super::describe::Description;
use super::{DEVICES, NODE};

const DEVICE: &str = "12D3KooWBmAwcd4PJNJvfV89HwE48nwkRmAgo8Vy3uQEyNNHBox2";
const UNKNOWN: (u16, &str) = (404, "No paired device has this id.");

/// All settings.
#[derive(Debug, ToSchema)]
pub struct SettingsBody {
    /// Each as it is in effect.
    pub settings: Vec<SettingBody>,
}

/// One setting.
#[derive(Debug, ToSchema)]
pub struct SettingBody {
    /// As `config.toml` names it.
    pub key: String,
    /// What it is: text, number, yes or no, or a list.
    pub value: serde_json::Value,
    /// `default`, `remembered`, `file`, `environment` or `flag`.
    pub source: String,
    /// What a number counts.
    pub unit: Option<String>,
    /// `at_once` or `after_restart`.
    pub takes: String,
}

/// Another value of a setting.
#[derive(Debug, ToSchema)]
pub struct NewSetting {
    /// As `config.toml` names it.
    pub key: String,
    /// As on the command line; null takes the setting out of the file.
    pub value: Option<String>,
}

/// What became of settings that were changed.
#[derive(Debug, ToSchema)]
pub struct FollowedBody {
    /// Those in effect from now on.
    pub taken: Vec<String>,
    /// Those that wait until the node is started again.
    pub after_restart: Vec<String>,
}

/// What a device is to be called here.
#[derive(Debug, ToSchema)]
pub struct DeviceName {
    /// Empty: as it calls itself.
    pub name: String,
}

/// What a device is called here.
#[derive(Debug, ToSchema)]
pub struct DeviceNamed {
    /// The device.
    pub device_id: String,
    /// What it is called.
    pub device_name: String,
}

/// Whether a device is paused.
#[derive(Debug, ToSchema)]
pub struct DevicePaused {
    /// The device.
    pub device_id: String,
    /// Whether it is.
    pub is_paused: bool,
}

pub(crate) fn settings() -> Description {
    Description::get("/api/settings", "settings", NODE, "The settings, and where each comes from")
        .with_token()
        .answers::<SettingsBody>(
            "All of them.",
            json!({ "settings": [{ "key": "port", "value": 8765, "source": "default",
                "takes": "after_restart" }] }),
        )
}

pub(crate) fn set_setting() -> Description {
    followed(
        Description::post("/api/settings", "set_setting", NODE, "Gives a setting another value")
            .says("It is written into `config.toml`, whose comments stay.")
            .with_token()
            .asks_engine()
            .takes::<NewSetting>(json!({ "key": "pairing_seconds", "value": "300" })),
    )
}

pub(crate) fn reload_settings() -> Description {
    followed(
        Description::post(
            "/api/settings/reload",
            "reload_settings",
            NODE,
            "Reads `config.toml` again",
        )
        .with_token()
        .asks_engine(),
    )
}

fn followed(description: Description) -> Description {
    description
        .answers::<FollowedBody>(
            "What the node goes by from now on, and what waits.",
            json!({ "taken": ["pairing_seconds"], "after_restart": [] }),
        )
        .refuses(&[(422, "The file, the name or the value says nothing a node could go by.")])
}

pub(crate) fn name_device() -> Description {
    Description::post("/api/devices/{id}/name", "name_device", DEVICES, "Calls a device something")
        .part("id", "The device's id.", DEVICE)
        .with_token()
        .takes::<DeviceName>(json!({ "name": "pocket" }))
        .answers::<DeviceNamed>(
            "What it is called here from now on.",
            json!({ "device_id": DEVICE, "device_name": "pocket" }),
        )
        .refuses(&[UNKNOWN])
}

pub(crate) fn pause_device() -> Description {
    pausing("/api/devices/{id}/pause", "pause_device", "Neither calls nor answers a device")
}

pub(crate) fn resume_device() -> Description {
    pausing("/api/devices/{id}/resume", "resume_device", "Lets a paused device go on")
}

fn pausing(path: &'static str, name: &'static str, words: &'static str) -> Description {
    Description::post(path, name, DEVICES, words)
        .part("id", "The device's id.", DEVICE)
        .with_token()
        .answers::<DevicePaused>(
            "How it is from now on.",
            json!({ "device_id": DEVICE, "is_paused": true }),
        )
        .refuses(&[UNKNOWN])
}

pub(crate) fn metrics() -> Description {
    Description::get("/metrics", "metrics", NODE, "Measurements, for Prometheus")
        .with_token()
        .answers_as(
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            "OpenMetrics text; docs/operations.md says what each means.",
        )
}
