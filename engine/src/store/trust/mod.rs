//! The trust database (`trust.db` in the data directory): which devices are paired, their keys, our
//! shared secrets, who was revoked and by whom, and what happened to whom.

mod events;
mod naming;
mod owners;
mod pausing;
mod revocation;
mod tokens;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension, Row as SqlRow, TransactionBehavior, params};
use sha2::{Digest, Sha256};
use storysync_crdt::DeviceKey;

pub use events::{EVENTS_MAX, Event, EventKind};
pub use owners::{Question, WhoIsAskedAbout};
pub use pausing::Pausing;
pub use revocation::{Installation, LostIdentity, Revocation};
pub use tokens::{FoundByToken, TOKEN_LIFETIME_MS};

use super::migrations;
use crate::trust::envelope::PairSecret;
use crate::trust::identity::{DeviceId, Secret};
use crate::trust::pairing::{PairedDevice, clean_name};
pub use naming::NAME_SETTING;

const FILE_NAME: &str = "trust.db";
/// How long to wait for another process of ours, in milliseconds.
const BUSY_TIMEOUT_MS: u64 = 1_000;
/// Addresses remembered for each device.
const ADDRESSES_MAX: usize = 8;

/// The trust database can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// SQLite failed.
    #[error("the list of paired devices in the data directory can't be used: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// Its tables are of a newer storysync.
    #[error(transparent)]
    Migrations(#[from] migrations::MigrationsError),
    /// No such device.
    #[error("no paired device is called {0}")]
    NoSuchDevice(String),
    /// Nobody could send other devices away any more.
    #[error(
        "{0} is the only owner: without one, no device's word that another was lost counts here"
    )]
    LastOwner(String),
    /// More than one device is called so.
    #[error("more than one paired device is called {words}: name one by its id, {}",
        .ids.join(" or "))]
    SeveralDevices {
        /// What was asked for.
        words: String,
        /// The devices that fit.
        ids: Vec<String>,
    },
}

/// A device we are, or were, paired with.
#[derive(Debug, Clone)]
pub struct TrustedDevice {
    /// PeerId.
    pub device_id: DeviceId,
    /// For people.
    pub name: String,
    /// For people.
    pub platform: String,
    /// Ed25519 public key.
    pub identity_key: DeviceKey,
    /// X25519 public key.
    pub static_key: [u8; 32],
    /// What both know; `None` once revoked.
    pub pair: Option<PairSecret>,
    /// The token we send it.
    pub token: Option<Secret>,
    /// Where it was reached, the last working address first.
    pub addresses: Vec<String>,
    /// Unix time in ms.
    pub paired_at: i64,
    /// Unix time in ms.
    pub last_sync_at: Option<i64>,
    /// Unix time in ms; `None` while it is trusted.
    pub revoked_at: Option<i64>,
    /// Unix time in ms since when nothing is taken from it: it wrote two different changes under
    /// one name.
    pub frozen_at: Option<i64>,
    /// Unix time in ms when its keys were last seen in use from two installations.
    pub twice_at: Option<i64>,
    /// Whether its pairing is dormant: made with other keys of ours than we have now.
    pub rests: bool,
    /// Whether a revocation it tells of is carried out here.
    pub is_owner: bool,
    /// Whether it reads a sealed token: then none is ever sent to it in the clear.
    pub reads_sealed_token: bool,
    /// Whether nothing is taken from it until the person here has answered whether it was lost.
    pub is_paused: bool,
    /// Unix time in ms since when the person here has it paused.
    pub paused_at: Option<i64>,
    /// What it calls itself, where the person here calls it something else.
    pub own_name: Option<String>,
}

impl TrustedDevice {
    /// Whether it may talk to us.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.revoked_at.is_none() && self.pair.is_some() && !self.rests
    }

    /// Whether something may be taken from it.
    #[must_use]
    pub fn is_taken_from(&self) -> bool {
        self.is_active() && self.frozen_at.is_none() && !self.is_paused && self.paused_at.is_none()
    }
}

/// Who ended a pairing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevokedBy<'a> {
    /// The person at this device: the other devices are told.
    Here,
    /// The device left by itself; its other pairings are its own affair.
    Itself,
    /// Another device told us.
    Told(&'a DeviceId),
}

impl RevokedBy<'_> {
    fn as_str(&self) -> &str {
        match self {
            Self::Here => "here",
            Self::Itself => "itself",
            Self::Told(teller) => teller.as_str(),
        }
    }
}

/// The open trust database.
#[derive(Debug)]
pub struct TrustStore {
    connection: Mutex<Connection>,
    known: Mutex<Option<Arc<Known>>>,
    /// Whether a device is paused while it is asked whether it was lost.
    pauses: AtomicBool,
    /// Whether the file is in WAL mode: only then does a commit that doesn't wait for the disk
    /// endanger nothing but itself.
    writes_ahead: bool,
    /// The audit log is written on a connection of its own: nobody waits for a line of it.
    events: Mutex<Connection>,
}

/// The file as it was read last: it is asked several times with every request, and written once or
/// twice with an exchange.
#[derive(Debug)]
struct Known {
    /// What changes when others, or we, write to the file.
    written: (i64, u64),
    /// Oldest pairing first.
    devices: Vec<KnownDevice>,
    /// Whom we no longer trust, the newest first.
    revocations: Vec<Revocation>,
    /// What the person here is asked.
    questions: Vec<Question>,
}

/// A device, and the hashes of the tokens it may use.
#[derive(Debug)]
struct KnownDevice {
    device: TrustedDevice,
    token_hash: Option<[u8; 32]>,
    next_token_hash: Option<[u8; 32]>,
}

const COLUMNS: &str = "device_id, name, platform, identity_key, static_key, pair_secret, \
    pair_epoch, token, addresses, paired_at, last_sync_at, revoked_at, \
                       frozen_at, twice_at, \
                       paired_as IS NOT NULL AND paired_as <> coalesce((SELECT value FROM \
                       trust_setting WHERE name = 'device_id'), paired_as), is_owner, \
                       paused_at, own_name, reads_sealed_token";

fn read(row: &SqlRow<'_>) -> rusqlite::Result<TrustedDevice> {
    let identity_key: DeviceKey = row.get(3)?;
    let secret: Option<[u8; 32]> = row.get(5)?;
    let epoch = row.get(6)?;
    let token: Option<[u8; 32]> = row.get(7)?;
    let addresses: String = row.get(8)?;
    Ok(TrustedDevice {
        device_id: DeviceId::of_key(&identity_key),
        name: row.get(1)?,
        platform: row.get(2)?,
        identity_key,
        static_key: row.get(4)?,
        pair: secret.map(|secret| PairSecret { secret: Secret::from_bytes(secret), epoch }),
        token: token.map(Secret::from_bytes),
        addresses: serde_json::from_str(&addresses).unwrap_or_default(),
        paired_at: row.get(9)?,
        last_sync_at: row.get(10)?,
        revoked_at: row.get(11)?,
        frozen_at: row.get(12)?,
        twice_at: row.get(13)?,
        rests: row.get(14)?,
        is_owner: row.get(15)?,
        is_paused: false,
        paused_at: row.get(16)?,
        own_name: row.get(17)?,
        reads_sealed_token: row.get(18)?,
    })
}

fn revoke(
    connection: &Connection,
    device_id: &DeviceId,
    by: RevokedBy<'_>,
    at_ms: i64,
) -> rusqlite::Result<usize> {
    connection
        .prepare_cached(
            "UPDATE trust_device SET pair_secret = NULL, token_hash = NULL, next_token_hash = \
                NULL, token = NULL, revoked_at = ?2, revoked_by = ?3 \
             WHERE device_id = ?1",
        )?
        .execute(params![device_id.as_str(), at_ms, by.as_str()])
}

impl TrustStore {
    /// Opens the trust database in a data directory, or creates it.
    ///
    /// # Errors
    /// See [`TrustError`].
    pub fn open(directory: &Path) -> Result<Self, TrustError> {
        let path = directory.join(FILE_NAME);
        let mut connection = Self::connect(&path)?;
        #[cfg(unix)]
        if let Err(error) =
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        {
            tracing::warn!(path = %path.display(), %error, "the list of paired devices could not \
                be closed to other users");
        }
        // Readers shall never wait for a writer, whoever that is. Where the file system can't do
        // that, they do.
        let journal: String = connection
            .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))
            .unwrap_or_else(|error| error.to_string());
        let writes_ahead = journal == "wal";
        if !writes_ahead {
            tracing::debug!(journal, "the list of paired devices is not kept in WAL mode");
        }
        if !migrations::is_trust_current(&connection)? {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            migrations::run_trust(&transaction)?;
            transaction.commit()?;
        }
        let events = Self::connect(&path)?;
        Ok(Self {
            connection: Mutex::new(connection),
            known: Mutex::default(),
            pauses: AtomicBool::new(false),
            events: Mutex::new(events),
            writes_ahead,
        })
    }

    fn connect(path: &Path) -> rusqlite::Result<Connection> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(std::time::Duration::from_millis(BUSY_TIMEOUT_MS))?;
        // Without this, SQLite plans a statement anew for each value it is asked with.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        Ok(connection)
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic while the lock was held left SQLite consistent: it rolls back.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file as it is now: read again only after somebody has written to it.
    fn known(&self) -> Result<Arc<Known>, TrustError> {
        let connection = self.lock();
        let by_others =
            connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
        let written = (by_others, connection.total_changes());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.as_ref().filter(|known| known.written == written) {
            return Ok(Arc::clone(known));
        }
        let mut select = connection.prepare_cached(&format!(
            "SELECT {COLUMNS}, token_hash, next_token_hash FROM \
                trust_device ORDER BY paired_at, device_id"
        ))?;
        let questions = owners::read_questions(&connection)?;
        let pauses = self.pauses.load(Ordering::Relaxed);
        let devices = select.query_map([], |row| {
            let mut device = read(row)?;
            // Never an owner, on another's word: it could not say any more who that other is.
            device.is_paused = pauses
                && !device.is_owner
                && questions.iter().any(|asked| asked.device_id == device.device_id);
            Ok(KnownDevice {
                device,
                token_hash: row.get("token_hash")?,
                next_token_hash: row.get("next_token_hash")?,
            })
        })?;
        // A commit of somebody else between the number and the rows only has them read once more.
        let now = Arc::new(Known {
            written,
            devices: devices.collect::<Result<_, _>>()?,
            revocations: revocation::read_revocations(&connection)?,
            questions,
        });
        *known = Some(Arc::clone(&now));
        Ok(now)
    }

    /// All devices, oldest pairing first.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn devices(&self) -> Result<Vec<TrustedDevice>, TrustError> {
        Ok(self.known()?.devices.iter().map(|known| known.device.clone()).collect())
    }

    /// The device with an id.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn find(&self, device_id: &DeviceId) -> Result<Option<TrustedDevice>, TrustError> {
        Ok(self
            .known()?
            .devices
            .iter()
            .map(|known| &known.device)
            .find(|device| device.device_id == *device_id)
            .cloned())
    }

    /// How often we were paired with an identity, 0 for never; no epoch of a log.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn epoch_of(&self, identity_key: &DeviceKey) -> Result<u32, TrustError> {
        let connection = self.lock();
        let epoch = connection
            .prepare_cached("SELECT pair_epoch FROM trust_device WHERE identity_key = ?1")?
            .query_row([identity_key], |row| row.get(0))
            .optional()?;
        Ok(epoch.unwrap_or(0))
    }

    /// Stores a pairing. What an earlier pairing with the same identity shared is void at once.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn store_pairing(
        &self,
        device: &PairedDevice,
        addresses: &[String],
        now_ms: i64,
    ) -> Result<DeviceId, TrustError> {
        let device_id = DeviceId::of_key(&device.identity_key);
        let name = self.name_here(&device_id, &device.name)?;
        let token_hash: Option<[u8; 32]> =
            device.token_from_device.as_ref().map(|token| Sha256::digest(token.expose()).into());
        self.lock()
            .prepare_cached(
                "INSERT INTO trust_device (device_id, name, platform, identity_key, static_key, \
                    pair_epoch, pair_secret, token_hash, token_made_at, token, \
                 addresses, installations, paired_at, paired_as, reads_sealed_token) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?11, ?9, ?10, '[]', ?11, (SELECT value \
                 FROM trust_setting WHERE name = 'device_id'), ?13) \
                 ON CONFLICT (device_id) DO UPDATE SET name = CASE WHEN own_name IS NULL THEN \
                 ?2 ELSE name END, own_name = CASE WHEN own_name IS NOT NULL THEN ?12 END, \
                 platform = ?3, static_key = ?5, pair_epoch = ?6, pair_secret = ?7, \
                 token_hash = ?8, token_made_at = ?11, next_token_hash = NULL, next_token_made_at \
                 = NULL, token = ?9, addresses = ?10, installations = '[]', \
                 paired_at = ?11, paired_as = (SELECT value FROM trust_setting WHERE name = \
                 'device_id'), is_owner = CASE WHEN revoked_at IS NULL THEN \
                 is_owner ELSE 0 END, revoked_at = NULL, revoked_by = NULL, frozen_at = \
                 NULL, twice_at = NULL, paused_at = NULL, reads_sealed_token = ?13",
            )?
            .execute(params![
                device_id.as_str(),
                name,
                device.platform,
                device.identity_key,
                device.static_key,
                device.pair.epoch,
                device.pair.secret.expose(),
                token_hash,
                device.token_to_device.as_ref().map(Secret::expose),
                serde_json::Value::from(addresses).to_string(),
                now_ms,
                clean_name(&device.name),
                device.reads_sealed_token
            ])?;
        Ok(device_id)
    }

    /// Stops trusting a device and forgets every secret shared with it.
    ///
    /// # Errors
    /// When SQLite fails, there is no such device, or it is the only owner and somebody here would
    /// send it away.
    pub fn revoke(
        &self,
        device_id: &DeviceId,
        by: RevokedBy<'_>,
        now_ms: i64,
    ) -> Result<(), TrustError> {
        if by == RevokedBy::Here && self.is_last_owner(device_id)? {
            return Err(TrustError::LastOwner(device_id.to_string()));
        }
        let changed = revoke(&self.lock(), device_id, by, now_ms)?;
        if changed == 0 { Err(TrustError::NoSuchDevice(device_id.to_string())) } else { Ok(()) }
    }

    /// Notes that a device was reached at, or called from, an address: it is tried first next time.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn note_address(&self, device_id: &DeviceId, address: &str) -> Result<(), TrustError> {
        let Some(device) = self.find(device_id)? else { return Ok(()) };
        if device.addresses.first().is_some_and(|first| first == address) {
            return Ok(());
        }
        let mut addresses = vec![address.to_owned()];
        addresses.extend(device.addresses.into_iter().filter(|known| known != address));
        addresses.truncate(ADDRESSES_MAX);
        self.lock()
            .prepare_cached("UPDATE trust_device SET addresses = ?2 WHERE device_id = ?1")?
            .execute(params![device_id.as_str(), serde_json::Value::from(addresses).to_string()])?;
        Ok(())
    }

    /// Notes that an exchange with a device was completed. Alone of what stands here, this may be
    /// lost with the power: it is not worth waiting for the disk with every exchange.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn note_sync(&self, device_id: &DeviceId, now_ms: i64) -> Result<(), TrustError> {
        let connection = self.lock();
        connection.pragma_update(
            None,
            "synchronous",
            if self.writes_ahead { "normal" } else { "full" },
        )?;
        let noted = connection
            .prepare_cached("UPDATE trust_device SET last_sync_at = ?2 WHERE device_id = ?1")
            .and_then(|mut update| update.execute(params![device_id.as_str(), now_ms]));
        connection.pragma_update(None, "synchronous", "full")?;
        noted?;
        Ok(())
    }
}
