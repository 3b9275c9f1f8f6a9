//! What each setting may be, and what it means. Where its value comes from is `settings`'s affair.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use storysync_engine::trust::pairing::{Approval, WINDOW_SECONDS_MAX};
use storysync_engine::{PAGE_ENTITIES_MAX, PushedConflicts};

/// Default port of the LAN listener.
pub const LAN_PORT: u16 = 8765;
/// Default port of the loopback listener.
pub const ADMIN_PORT: u16 = 8766;

/// The configuration can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It can't be read.
    #[error("the configuration {} can't be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It says something that means nothing.
    #[error("the configuration {} can't be understood: {source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: toml::de::Error,
    },
    /// It names a setting there is not.
    #[error("{} says {key}, and there is no such setting{}: `storysync config show` lists them",
        path.display(), nearest.map(|key| format!("; it may be {key}")).unwrap_or_default())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// What it says.
        key: String,
        /// What it may have meant.
        nearest: Option<&'static str>,
    },
    /// Somebody names a setting there is not.
    #[error("there is no setting {key}{}: `storysync config show` lists them",
        nearest.map(|key| format!("; it may be {key}")).unwrap_or_default())]
    NoSuchSetting {
        /// What was named.
        key: String,
        /// What may be meant.
        nearest: Option<&'static str>,
    },
    /// The environment, a flag or a person gives a setting a value it can't have.
    #[error("{place} can't be {value:?}: {reason}")]
    Value {
        /// The variable, the flag or the setting.
        place: String,
        /// What it says.
        value: String,
        /// Why not.
        reason: String,
    },
    /// The file can't be edited as it is.
    #[error("the configuration {} can't be changed: {reason}", path.display())]
    Edit {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// There is no place for data.
    #[error("this system names no home directory; say where to keep data with --data-dir")]
    NoHome,
}

/// Whether pairing wants a code typed on this device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum PairingApproval {
    /// The other device shows four digits, typed here.
    Code,
    /// Knowing the QR text is enough: for unattended use.
    None,
}

/// What `config.toml` may say.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What this device is called.
    pub name: Option<String>,
    /// Address of the LAN listener.
    pub host: Option<IpAddr>,
    /// Port of the LAN listener.
    pub port: Option<u16>,
    /// Port of the loopback listener.
    pub admin_port: Option<u16>,
    /// See [`PairingApproval`].
    pub pairing_approval: Option<PairingApproval>,
    /// How long a pairing code can be used, in seconds: 120 unless said otherwise, 1 to 600.
    #[serde(default, deserialize_with = "seconds_of_a_code")]
    pub pairing_seconds: Option<u64>,
    /// Names this machine may be addressed by, besides its addresses and `localhost`.
    #[serde(default)]
    pub host_names: Vec<String>,
    /// Tables to leave alone.
    #[serde(default)]
    pub excluded_tables: Vec<String>,
    /// Columns that merge as prose, `table.column` or `column`.
    #[serde(default)]
    pub prose_columns: Vec<String>,
    /// Addresses of peers, `host:port`, for networks that block discovery.
    #[serde(default)]
    pub peers: Vec<Peer>,
    /// Most rows in one page, 1 to 1,000: 1,000 unless said otherwise.
    #[serde(default, deserialize_with = "rows_of_a_page")]
    pub batch_size: Option<usize>,
    /// What becomes of conflicts in rows that clients without automerge push.
    pub conflict_resolution: Option<ConflictResolution>,
    /// Whether devices are looked for on the network; unless said otherwise they are.
    pub discovery: Option<bool>,
    /// Whether a serving node stays in step with paired devices by itself; unless said otherwise it
    /// does.
    pub live: Option<bool>,
    /// How two files meet for the first time: judge, copies, unrelated, or ask.
    pub first_contact: Option<FirstContactSetting>,
    /// Whether a device goes on syncing while the person here is asked whether it was lost: `keep`
    /// or `pause`.
    #[serde(default)]
    pub asked_about: AskedAbout,
    /// How lines of the log look.
    pub log_format: Option<LogFormat>,
    /// What is worth a line of the log.
    pub log_level: Option<LogLevel>,
}

/// How lines of the log look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs: one JSON document a line.
    Json,
}

/// From which level on something is worth a line of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What failed.
    Error,
    /// What somebody should look at.
    Warn,
    /// What happens.
    Info,
    /// What happens, step by step.
    Debug,
    /// Everything, also each change that comes in.
    Trace,
}

/// What becomes of a device another says was lost, until the person here has answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AskedAbout {
    /// It goes on syncing.
    #[default]
    Keep,
    /// Nothing is taken from it, and nothing is asked of it.
    Pause,
}

/// What becomes of conflicts in rows that clients without automerge push. Edits that do not
/// conflict merge, whatever is said here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum ConflictResolution {
    /// What is left after merging waits for a decision. `version` is the word of Storymaster's own
    /// server for it.
    #[default]
    #[serde(alias = "version")]
    #[value(alias = "version")]
    Merge,
    /// The same as [`Self::Merge`].
    Manual,
    /// What stands here is taken.
    DesktopWins,
    /// What the client sent is taken.
    MobileWins,
    /// What was written later is taken, as far as its author's clock says.
    Timestamp,
}

impl ConflictResolution {
    /// The setting as the Engine takes it.
    #[must_use]
    pub fn of_pushes(self) -> PushedConflicts {
        match self {
            Self::Merge | Self::Manual => PushedConflicts::StayOpen,
            Self::DesktopWins => PushedConflicts::DesktopWins,
            Self::MobileWins => PushedConflicts::MobileWins,
            Self::Timestamp => PushedConflicts::LaterWins,
        }
    }
}

fn seconds_of_a_code<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<u64>, D::Error> {
    match u64::deserialize(deserializer)? {
        seconds @ 1..=WINDOW_SECONDS_MAX => Ok(Some(seconds)),
        seconds => Err(serde::de::Error::custom(format!(
            "pairing_seconds can't be {seconds}: a code can be used for 1 to \
                {WINDOW_SECONDS_MAX} seconds"
        ))),
    }
}

fn rows_of_a_page<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<usize>, D::Error> {
    match usize::deserialize(deserializer)? {
        rows @ 1..=PAGE_ENTITIES_MAX => Ok(Some(rows)),
        rows => Err(serde::de::Error::custom(format!(
            "batch_size can't be {rows}: a page holds 1 to {PAGE_ENTITIES_MAX} rows"
        ))),
    }
}

/// How two files meet for the first time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum FirstContactSetting {
    /// By what they look like.
    #[default]
    Judge,
    /// As copies of one file that went apart.
    Copies,
    /// As different worlds.
    Unrelated,
    /// Only after somebody said what they are.
    Ask,
}

/// Where a peer is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Peer {
    /// `host:port`.
    Address(String),
    /// `{ address = "host:port" }`, with whatever else helps the reader.
    Table {
        /// `host:port`.
        address: String,
        /// PeerId, the start of one, or a name: the device that is there.
        #[serde(default)]
        device: Option<String>,
    },
}

impl Peer {
    /// Whether this may be the address of a device: where the configuration names one, only of
    /// that.
    #[must_use]
    pub fn may_be(&self, device_id: &str, name: &str) -> bool {
        match self {
            Self::Address(_) | Self::Table { device: None, .. } => true,
            Self::Table { device: Some(device), .. } => {
                device == name || device_id.starts_with(device.as_str())
            }
        }
    }

    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        match self {
            Self::Address(address) | Self::Table { address, .. } => address,
        }
    }
}

impl Config {
    /// The address to serve on.
    #[must_use]
    pub fn host(&self) -> IpAddr {
        self.host.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }

    /// Whether pairing wants a code typed here.
    #[must_use]
    pub fn approval(&self) -> Approval {
        match self.pairing_approval.unwrap_or(PairingApproval::Code) {
            PairingApproval::Code => Approval::Code,
            PairingApproval::None => Approval::None,
        }
    }

    /// All addresses of peers.
    #[must_use]
    pub fn peer_addresses(&self) -> Vec<String> {
        self.peers.iter().map(|peer| peer.address().to_owned()).collect()
    }
}

/// The platform's directory for our data.
///
/// # Errors
/// When the system names no home.
pub fn default_data_dir() -> Result<PathBuf, ConfigError> {
    directories::ProjectDirs::from("", "", "storysync")
        .map(|dirs| dirs.data_dir().to_owned())
        .ok_or(ConfigError::NoHome)
}

/// Storymaster's own database.
///
/// # Errors
/// When the system names no home.
pub fn default_database() -> Result<PathBuf, ConfigError> {
    let home = directories::BaseDirs::new().ok_or(ConfigError::NoHome)?;
    Ok(home.home_dir().join(".local/share/storymaster/storymaster.db"))
}
