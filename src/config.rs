//! Settings: `DATA_DIR/config.toml`, the environment and flags, validated once.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use serde::Deserialize;

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
    /// There is no place for data.
    #[error("this system names no home directory; say where to keep data with --data-dir")]
    NoHome,
}

/// Whether pairing wants a code typed on this device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum PairingApproval {
    /// The other device shows four digits, typed here.
    Code,
    /// Knowing the QR text is enough: for unattended use.
    None,
}

/// What `config.toml` may say.
#[derive(Debug, Clone, Default, Deserialize)]
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
    /// How long a pairing code can be used, in seconds: 120 unless said otherwise, 600 at most.
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
}

/// What becomes of a device another says was lost, until the person here has answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConflictResolution {
    /// What is left after merging waits for a decision. `version` is the word of Storymaster's own
    /// server for it.
    #[default]
    #[serde(alias = "version")]
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
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
    /// Reads `config.toml` of a data directory; all defaults when there is none.
    ///
    /// # Errors
    /// When it can't be read or understood.
    pub fn load(data_dir: &Path) -> Result<Self, ConfigError> {
        let path = data_dir.join("config.toml");
        match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(|source| ConfigError::Parse { path, source }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(ConfigError::Read { path, source }),
        }
    }

    /// The address to serve on.
    #[must_use]
    pub fn host(&self) -> IpAddr {
        self.host.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
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
