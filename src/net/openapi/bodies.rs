//! What the loopback listener takes and answers, but for conflicts and history. Only described
//! here: what is sent is made where the routes are.

use std::collections::BTreeMap;

use utoipa::ToSchema;

/// Why something was not done.
#[derive(Debug, ToSchema)]
pub struct Refused {
    /// A sentence that says what to do.
    pub detail: String,
}

/// Something was done.
#[derive(Debug, ToSchema)]
pub struct Said {
    /// A sentence.
    pub message: String,
}

/// Whether a node is there.
#[derive(Debug, ToSchema)]
pub struct Health {
    /// `ok`.
    pub status: String,
    /// Its time.
    #[schema(format = DateTime)]
    pub timestamp: String,
    /// Whether the app's file can be read.
    pub database_connected: bool,
    /// Its version.
    pub version: String,
    /// `storysync`; Storymaster's own server says nothing here.
    pub server: String,
}

/// An address that opens the page.
#[derive(Debug, ToSchema)]
pub struct Link {
    /// A path on this listener; it works once.
    pub path: String,
}

/// An OpenAPI document.
#[derive(Debug, ToSchema)]
pub struct Document {
    /// Its version of OpenAPI.
    pub openapi: String,
    /// What it is about.
    pub info: BTreeMap<String, serde_json::Value>,
    /// Operations by path.
    pub paths: BTreeMap<String, serde_json::Value>,
}

/// What a QR code holds; PROTOCOL.md, section 5.
#[derive(Debug, ToSchema)]
pub struct PairingCode {
    /// 1.
    pub v: u32,
    /// Where the node may be reached; null or missing where no address is known.
    pub ip: Option<String>,
    /// At which port.
    pub port: u16,
    /// One-time secret, base64url.
    pub token: String,
    /// The node's identity key, base64url.
    pub id: String,
    /// One-time key, base64url.
    pub ek: String,
    /// Until when it can be used, Unix time in seconds.
    pub exp: u64,
    /// Further addresses.
    pub alt: Option<Vec<String>>,
}

/// Digits a person has typed.
#[derive(Debug, ToSchema)]
pub struct Code {
    /// The four digits the other device shows.
    pub code: String,
}

/// Who asks to be paired.
#[derive(Debug, ToSchema)]
pub struct PairingState {
    /// Whether a code is shown that can be used.
    pub open: bool,
    /// The device that has scanned it.
    pub device_id: Option<String>,
    /// What that device calls itself; nobody vouches for it.
    pub device_name: Option<String>,
    /// What went wrong with the last code, as a sentence.
    pub alarm: Option<String>,
}

/// A name for this device.
#[derive(Debug, ToSchema)]
pub struct Name {
    /// The name; cut to 48 bytes, control characters removed.
    #[schema(pattern = r"\S")]
    pub name: String,
}

/// What this device is called.
#[derive(Debug, ToSchema)]
pub struct Named {
    /// The name.
    pub name: String,
}

/// Devices.
#[derive(Debug, ToSchema)]
pub struct Devices {
    /// Each of them; those that were paired only with an old server have only the documented
    /// fields, from `device_id` to `is_active`.
    pub devices: Vec<Device>,
}

/// A device that is, or was, paired.
#[derive(Debug, ToSchema)]
pub struct Device {
    /// Its PeerId.
    pub device_id: String,
    /// What it is called.
    pub device_name: String,
    /// When something was exchanged last; null: never.
    #[schema(format = DateTime)]
    pub last_sync_at: Option<String>,
    /// When it was paired.
    #[schema(format = DateTime)]
    pub created_at: Option<String>,
    /// Whether it is trusted.
    pub is_active: bool,
    /// Whether it sent two different changes under one name, and must be paired again.
    pub frozen: Option<bool>,
    /// Whether it is obeyed when it says that another was lost.
    pub is_owner: Option<bool>,
    /// Whether nothing is taken from it: the person here paused it, or a question about it waits.
    pub is_paused: Option<bool>,
    /// When the person here paused it; null: it is not.
    #[schema(format = DateTime)]
    pub paused_at: Option<String>,
    /// What it calls itself, where the person here calls it something else.
    pub own_name: Option<String>,
    /// The same on both devices, to be read aloud.
    pub safety_number: Option<String>,
    /// When its keys were seen in two places; null: never.
    #[schema(format = DateTime)]
    pub keys_in_use_twice_at: Option<String>,
}

/// Who is around.
#[derive(Debug, ToSchema)]
pub struct Live {
    /// How exchanges stand, by device id.
    pub devices: BTreeMap<String, Exchanges>,
    /// Devices found on the network.
    pub nearby: Vec<Nearby>,
}

/// The exchanges with one device since this node started.
#[derive(Debug, ToSchema)]
pub struct Exchanges {
    /// How they stand.
    pub state: Standing,
    /// Where it was reached last.
    pub address: Option<String>,
    /// How far the exchange going on has come.
    pub progress: Progress,
    /// Rows pulled from it.
    pub pulled: u64,
    /// Rows pushed to it.
    pub pushed: u64,
    /// Bytes sent to it over TCP.
    pub bytes_sent: u64,
    /// Bytes received from it over TCP.
    pub bytes_received: u64,
    /// Why it was not reached last, as a sentence.
    pub error: Option<String>,
    /// Addresses where somebody lately failed to prove to be it.
    pub unproven: Option<Vec<String>>,
}

/// How exchanges with a device stand: it does not answer (`away`), everything is being exchanged
/// (`syncing`), we listen to it (`connected`), or it listens to us (`listening`).
#[derive(Debug, ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum Standing {
    /// It does not answer.
    Away,
    /// Everything is being exchanged.
    Syncing,
    /// We listen to it.
    Connected,
    /// It listens to us.
    Listening,
}

/// How far an exchange has come.
#[derive(Debug, ToSchema)]
pub struct Progress {
    /// Rows pulled.
    pub pulled: u64,
    /// Rows pushed.
    pub pushed: u64,
    /// Changes still to come, as far as is known.
    pub remaining: u64,
}

/// A device found on the network.
#[derive(Debug, ToSchema)]
pub struct Nearby {
    /// Its PeerId, as it says.
    pub device_id: String,
    /// What it calls itself; nobody vouches for it.
    pub device_name: Option<String>,
    /// Where, the latest first.
    pub addresses: Vec<String>,
    /// Whether it is paired with this one.
    pub is_paired: bool,
}

/// What happened.
#[derive(Debug, ToSchema)]
pub struct Log {
    /// Newest first.
    pub log: Vec<LogLine>,
}

/// A row a device changed, or something about a device.
#[derive(Debug, ToSchema)]
pub struct LogLine {
    /// When.
    #[schema(format = DateTime)]
    pub at: Option<String>,
    /// Which device.
    pub device_id: Option<String>,
    /// What it is called.
    pub device_name: Option<String>,
    /// The table; `device` for what is about a device.
    pub entity_type: String,
    /// The row's id in this file; 0 where there is none.
    pub entity_id: Option<i64>,
    /// What was done.
    pub operation: String,
    /// The row.
    pub sync_uuid: Option<String>,
    /// What people call the row.
    pub row_name: Option<String>,
    /// What happened, as a sentence.
    pub detail: Option<String>,
    /// How often.
    pub times: Option<i64>,
}

/// How the node stands.
#[derive(Debug, ToSchema)]
pub struct Facts {
    /// How all is, in one word.
    pub overall: Overall,
    /// This device's id.
    pub device_id: String,
    /// What it is called.
    pub name: String,
    /// Rows in the app's tables.
    pub entities: i64,
    /// Rows that wait for something.
    pub parked: i64,
    /// Open conflicts.
    pub conflicts: i64,
    /// Changes of others that were refused and are remembered by name.
    pub quarantined: i64,
    /// Length of the change log.
    pub changes: i64,
    /// Epoch of the change log, hexadecimal.
    pub epoch: String,
    /// Paired devices.
    pub devices: Vec<DeviceFacts>,
    /// Devices found on the network that are not paired.
    pub nearby: Vec<NearbyFacts>,
    /// Deletions that wait for a yes.
    pub brakes: Vec<super::conflict_bodies::Brake>,
    /// Texts from elsewhere that gave way here and can be put back.
    pub notices: u64,
}

/// The first of these that is true: the app's file can't be read, something waits for a decision,
/// no device is paired, something is being exchanged, no paired device can be reached, some can't,
/// every device is in step.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum Overall {
    /// The app's file can't be read.
    Unreadable,
    /// Something waits for a decision.
    Waiting,
    /// No device is paired.
    Alone,
    /// Something is being exchanged.
    Syncing,
    /// No paired device can be reached.
    Away,
    /// Some devices are away; the others are in step.
    Partly,
    /// Every device is in step.
    InStep,
}

/// A paired device and how it stands.
#[derive(Debug, ToSchema)]
pub struct DeviceFacts {
    /// Its PeerId.
    pub device_id: String,
    /// What it is called.
    pub device_name: String,
    /// Whether it is obeyed when it says that another was lost.
    pub is_owner: bool,
    /// Whether nothing is taken from it at the moment.
    pub rests: bool,
    /// When something was exchanged last.
    #[schema(format = DateTime)]
    pub last_sync_at: Option<String>,
    /// Changes it was not told of yet.
    pub pending: i64,
    /// How exchanges with it stand.
    pub state: Standing,
    /// Where it was reached last.
    pub address: Option<String>,
    /// How far the exchange going on has come.
    pub progress: Progress,
    /// Rows pulled from it.
    pub pulled: u64,
    /// Rows pushed to it.
    pub pushed: u64,
    /// Bytes sent to it over TCP.
    pub bytes_sent: u64,
    /// Bytes received from it over TCP.
    pub bytes_received: u64,
    /// Why it was not reached last, as a sentence.
    pub error: Option<String>,
}

/// A device that was found on the network and is not paired.
#[derive(Debug, ToSchema)]
pub struct NearbyFacts {
    /// Its PeerId, as it says.
    pub device_id: String,
    /// What it calls itself; nobody vouches for it.
    pub device_name: Option<String>,
}
