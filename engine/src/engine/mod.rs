//! The Engine: owns the writing connection, checks before every transaction that the file is still
//! the one it knew, and offers what a node does as methods.

pub(crate) mod change_names;
mod opening;
pub(crate) mod status;
mod writing;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use storysync_crdt::{ACTOR_RUN_BYTES, Actor, DeviceKey, Stamp};

use crate::app::profile::Prose;
use crate::app::schema::{self, Schema};
use crate::epoch::{hex, read_state};
use crate::error::EngineError;
use crate::exchange::pages::PAGE_ENTITIES_MAX;
use crate::file_guard::data_version;
use crate::receive::PushedConflicts;
use crate::store::anchor::Anchor;
use crate::store::log::{self, Epoch, Position};
use crate::store::outbox;
use crate::store::peers::{self, MirroredDevice};
use crate::transaction::Spent;
use crate::trust::identity::DeviceId;
use change_names::Names;
use status::Status;

/// Fills a buffer with cryptographically secure random bytes.
pub type Entropy = Box<dyn FnMut(&mut [u8]) + Send>;

/// What an Engine works on.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// The app's file.
    pub database: PathBuf,
    /// The folder backups are made in.
    pub backups: PathBuf,
    /// Where it is remembered how far the logs of files had come.
    pub anchors: PathBuf,
    /// Tables to leave alone.
    pub excluded_tables: Vec<String>,
    /// Columns that merge as prose, beyond those known beforehand.
    pub prose_columns: Vec<String>,
    /// This device's Ed25519 public key.
    pub device_key: DeviceKey,
    /// How long to wait for another writer.
    pub busy_timeout: Duration,
    /// How long tables the app has just dropped, or made again and not yet filled, may stay so
    /// before that counts as its wish: an import drops them all and fills them again, and must find
    /// them as it left them.
    pub rebuilding_within: Duration,
}

/// What a look at the file found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Noticed {
    /// Rows the app had changed.
    pub rows: usize,
    /// Whether the file turned out to be a restored, copied or replaced one.
    pub new_epoch: bool,
}

/// The node's core: one app's file, its documents and its log.
pub struct Engine {
    connection: Connection,
    inode: u64,
    pub(crate) options: EngineOptions,
    /// Most rows in one page told to others, and asked of them.
    pub(crate) page_rows: usize,
    /// What becomes of conflicts in rows that clients without automerge push.
    pub(crate) pushed_conflicts: PushedConflicts,
    device_id: DeviceId,
    prose: Prose,
    schema: Arc<Schema>,
    actor: Actor,
    anchor: Position,
    remembered: Anchor,
    pub(crate) epoch: Epoch,
    entropy: Entropy,
    /// Whether the file was put there by somebody and not looked through since.
    is_unchecked: bool,
    /// Whether a file of another device's node is looked at and not taken over.
    looks_only: bool,
    /// The schema version under which tables were first missing or empty, and when (Unix time in
    /// ms).
    rebuilding: Option<(i64, i64)>,
    /// Whether other tables are in sync than ought to be: some were excluded, or included again.
    is_other_choice: bool,
    /// Whether it is on record that others know the names of our rows.
    pub(crate) has_sent: bool,
    /// The names of all changes, as they were when last compared.
    pub(crate) names: Option<Arc<Names>>,
    /// What the last transactions had in hand.
    spent: Spent,
    /// Transactions this Engine has begun for writing.
    pub(crate) writes: u64,
    /// How the node stood, at a version of the data and after so many writes of ours.
    pub(crate) counted: Option<((i64, u64), Status)>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("database", &self.options.database).finish_non_exhaustive()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Back to how the app's own connections leave the folder: without an empty journal in it.
        drop(
            self.connection
                .pragma_query_value(None, "journal_mode", |row| row.get::<_, String>(0))
                .map(|journal| {
                    if journal == "truncate" {
                        drop(self.connection.pragma_update_and_check(
                            None,
                            "journal_mode",
                            "delete",
                            |_| Ok(()),
                        ));
                    }
                }),
        );
    }
}

impl Engine {
    /// Whether this data directory remembers how far the file's log had come.
    #[must_use]
    pub fn has_been_here(&self) -> bool {
        self.remembered.load().is_some()
    }

    /// From here on nothing is written into a file that belongs to another device's node: it is
    /// looked at as it was left.
    pub fn look_only(&mut self) {
        self.looks_only = true;
    }

    /// A number that changes when another connection has written to the file. Costs microseconds.
    ///
    /// # Errors
    /// When SQLite can't read the file.
    pub fn data_version(&mut self) -> Result<i64, EngineError> {
        self.follow_replaced_file()?;
        data_version(&self.connection)
            .map_err(|error| EngineError::of_sqlite(error, &self.options.database))
    }

    /// Turns what the app wrote into changes. Writes nothing when it wrote nothing.
    ///
    /// ```
    /// # mod desks { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doctests/desks.rs")); }
    /// # use desks::*;
    /// # let mut desk = desk(1);
    /// desk.app.execute("INSERT INTO note (title) VALUES ('Harbour')", [])?;
    /// assert_eq!(desk.engine.capture(now())?.rows, 1);
    /// assert_eq!(desk.engine.capture(now())?.rows, 0, "nothing was written since");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn capture(&mut self, now: Stamp) -> Result<Noticed, EngineError> {
        if self.looks_only {
            return Ok(Noticed::default());
        }
        self.follow_replaced_file()?;
        if self.prepare_restored(now)? {
            return Ok(Noticed { new_epoch: true, ..self.write(now, |_| Ok(()))?.1 });
        }
        let (anchor, epoch, is_to_do) =
            (self.anchor, self.epoch, self.is_other_choice || self.is_unchecked);
        let device_id = self.device_id.clone();
        let idle = self.read(|connection, _| {
            let Some(state) = read_state(connection)? else { return Ok(false) };
            Ok(!is_to_do
                && outbox::is_empty(connection)?
                && state.device_id == device_id.as_str()
                && state.epoch == epoch
                && schema::version(connection)? == state.schema_version
                && log::passes_through(connection, anchor)?)
        })?;
        if idle { Ok(Noticed::default()) } else { Ok(self.write(now, |_| Ok(()))?.1) }
    }

    /// What the last transactions had in hand and nobody needs any more: a caller with another
    /// thread drops it there, beside the next work.
    pub fn take_spent(&mut self) -> Spent {
        std::mem::take(&mut self.spent)
    }

    /// Whether the file can be written now.
    ///
    /// # Errors
    /// See [`EngineError`]: why it can't.
    pub fn check_writable(&mut self) -> Result<(), EngineError> {
        let explain = |error| EngineError::of_sqlite(error, &self.options.database);
        Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)
            .and_then(Transaction::rollback)
            .map_err(explain)
    }

    /// The number of the last change in the log when this Engine last looked or wrote; 0 for none.
    #[must_use]
    pub fn log_end(&self) -> i64 {
        self.anchor.seq
    }

    pub(crate) fn epoch_bytes(&self) -> Epoch {
        self.epoch
    }

    /// The epoch of this log, in lower-case hexadecimal.
    #[must_use]
    pub fn epoch(&self) -> String {
        hex(&self.epoch)
    }

    /// Makes the documented list of devices in the app's file show `devices`.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn mirror_devices(
        &mut self,
        devices: &[MirroredDevice],
        now: Stamp,
    ) -> Result<(), EngineError> {
        self.write(now, |transaction| Ok(peers::mirror(transaction.connection, devices, now)?))?;
        Ok(())
    }

    /// The documented list of devices, those of an old server included.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn mirrored_devices(&mut self) -> Result<Vec<MirroredDevice>, EngineError> {
        self.read(|connection, _| Ok(peers::mirrored(connection)?))
    }

    /// How long to wait for another writer from now on.
    pub fn wait_for_writers(&mut self, busy_timeout: Duration) {
        self.options.busy_timeout = busy_timeout;
        if let Err(error) = self.connection.busy_timeout(busy_timeout) {
            tracing::warn!(%error, "SQLite refuses another waiting time");
        }
    }

    /// How many rows a page holds at most from now on: at least one, and never more than
    /// [`PAGE_ENTITIES_MAX`].
    pub fn limit_pages(&mut self, rows: usize) {
        self.page_rows = rows.clamp(1, PAGE_ENTITIES_MAX);
    }

    /// What becomes, from now on, of conflicts in rows that clients without automerge push.
    pub fn decide_pushed_conflicts(&mut self, rule: PushedConflicts) {
        self.pushed_conflicts = rule;
    }

    /// The device this Engine works for.
    #[must_use]
    pub fn device_id(&self) -> &DeviceId {
        &self.device_id
    }

    /// The file this Engine works on.
    #[must_use]
    pub fn database(&self) -> &Path {
        &self.options.database
    }
}

fn fresh_actor(device_key: &DeviceKey, entropy: &mut Entropy) -> Actor {
    let mut run = [0; ACTOR_RUN_BYTES];
    entropy(&mut run);
    Actor::of_device(device_key, run)
}
