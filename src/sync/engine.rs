//! The Engine: owns the writing connection, checks before every transaction that the file is still the
//! one it knew, and offers what a node does as methods.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params};
use storysync_crdt::{ACTOR_RUN_BYTES, Actor, DeviceKey, Stamp, SyncUuid};

use super::adopt::{MigrationReport, Plan};
use super::brake::{self, BrakeDecision, BrakeReport};
use super::error::{EngineError, SessionError};
use super::history::{EntryReport, UndoReport};
use super::migrate::{data_version, install, is_migrated, migrate, read_schema, upgrade};
use super::pages::{self, Cursor, PushPage};
use super::receive::{Incoming, Receipt, Sender};
use super::reconcile::Names;
use super::report::{ConflictReport, Status};
use super::resolve::{Choice, Take, Which};
use super::session::{Session, Source};
use super::wire::{AcceptedState, PullRequest, PullResponse, PushConflict, RowChange};
use crate::app::profile::{Prose, table_of_entity_type};
use crate::app::schema::{self, Schema};
use crate::store::anchor::Anchor;
use crate::store::clashes::{self, EndedClash};
use crate::store::log::{self, Epoch, Position};
use crate::store::peers::{self, LogLine, MirroredDevice};
use crate::store::{migrations, outbox, quarantine, rows};
use crate::trust::identity::DeviceId;

/// Rows received in one write transaction, those counted several times that need a look at others: the app waits some 70 ms
/// for its turn.
const SLICE_ROWS: usize = 1_000;
/// How often a row counts that does not arrive the short way.
const LONG_WAY_ROWS: usize = 4;
/// Bytes of clashes, as JSON, after which a push reply lists no more: they can be asked for.
const CONFLICTS_REPLIED_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Longest cursor of another device that is kept, in bytes.
const CURSOR_TEXT_BYTES_MAX: usize = 512;
/// Pages of the file kept in memory while it is worked on, in KiB: indexes of hundred thousand rows fit into it.
const PAGE_CACHE_KIB: i64 = 64 * 1024;
/// Statements kept prepared: a few for each of some hundred tables.
const STATEMENTS_CACHED: usize = 1024;

/// Fills a buffer with random bytes.
pub type Entropy = Box<dyn FnMut(&mut [u8]) + Send>;

/// What an Engine works on.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// The app's file.
    pub database: PathBuf,
    /// Where backups go.
    pub backups: PathBuf,
    /// Where it is remembered how far the logs of files had come.
    pub anchors: PathBuf,
    /// Tables to leave alone.
    pub excluded_tables: Vec<String>,
    /// Columns that merge as prose, beyond those known beforehand.
    pub prose_columns: Vec<String>,
    /// This device.
    pub device_key: DeviceKey,
    /// How long to wait for another writer.
    pub busy_timeout: Duration,
}

/// What a look at the file found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Noticed {
    /// Rows the app had changed.
    pub rows: usize,
    /// Whether the file turned out to be a restored, copied or replaced one.
    pub new_epoch: bool,
}

/// Why a log begins another life: what was told of it before says nothing of what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NewLife {
    /// An earlier state of the file stands in its place: a backup.
    Restored,
    /// The file belonged to another device.
    Copied,
    /// Another file, or a state of this one that went on elsewhere, stands in its place.
    Replaced,
    /// Rows took the names they have in another file.
    Renamed,
}

impl NewLife {
    fn word(self) -> &'static str {
        match self {
            Self::Restored => "restored",
            Self::Copied => "copied",
            Self::Replaced => "replaced",
            Self::Renamed => "renamed",
        }
    }

    fn of_word(word: &str) -> Option<Self> {
        [Self::Restored, Self::Copied, Self::Replaced, Self::Renamed].into_iter().find(|life| life.word() == word)
    }

    /// What happened, for a person.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Restored => {
                "the database was put back to an earlier state (a backup was restored); what the other devices have of the time since comes back from them"
            }
            Self::Copied => "the database was copied from another device; it is compared with the other devices, and goes on as this one's own",
            Self::Replaced => "the database was replaced by another; it is compared with the other devices, and nothing of either is lost",
            Self::Renamed => "rows of the database took the names they have on the other device",
        }
    }
}

/// The node's core: one app's file, its documents and its log.
pub struct Engine {
    connection: Connection,
    inode: u64,
    options: EngineOptions,
    device_id: DeviceId,
    prose: Prose,
    schema: Arc<Schema>,
    actor: Actor,
    anchor: Position,
    remembered: Anchor,
    epoch: Epoch,
    entropy: Entropy,
    /// Whether it is on record that others know the names of our rows.
    has_sent: bool,
    /// The names of all changes, as they were when last compared.
    pub(super) names: Option<Arc<Names>>,
    /// Transactions this Engine has begun for writing.
    writes: u64,
    /// How the node stood, at a version of the data and after so many writes of ours.
    counted: Option<((i64, u64), Status)>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("database", &self.options.database).finish_non_exhaustive()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Back to how the app's own connections leave the folder: without an empty journal in it.
        drop(self.connection.pragma_query_value(None, "journal_mode", |row| row.get::<_, String>(0)).map(|journal| {
            if journal == "truncate" {
                drop(self.connection.pragma_update_and_check(None, "journal_mode", "delete", |_| Ok(())));
            }
        }));
    }
}

pub(super) struct State {
    device_id: String,
    epoch: Epoch,
    schema_version: i64,
}

pub(super) fn read_state(connection: &Connection) -> rusqlite::Result<Option<State>> {
    connection
        .prepare_cached("SELECT device_id, epoch, schema_version FROM sync_state")?
        .query_row([], |row| Ok(State { device_id: row.get(0)?, epoch: row.get(1)?, schema_version: row.get(2)? }))
        .optional()
}

fn open_connection(path: &Path, busy_timeout: Duration) -> Result<Connection, EngineError> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Err(EngineError::NotADatabase(path.to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(EngineError::NoSuchFile(path.to_owned())),
        Err(source) => return Err(EngineError::Io { path: path.to_owned(), source }),
    }
    let explain = |error| EngineError::of_sqlite(error, path);
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(explain)?;
    configure(&connection, busy_timeout).map_err(explain)?;
    if connection.is_readonly("main").map_err(explain)? {
        return Err(EngineError::ReadOnly(path.to_owned()));
    }
    Ok(connection)
}

fn configure(connection: &Connection, busy_timeout: Duration) -> rusqlite::Result<()> {
    connection.busy_timeout(busy_timeout)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    connection.pragma_update(None, "cache_size", -PAGE_CACHE_KIB)?;
    let journal: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    if journal == "delete" {
        // The same rollback journal, emptied rather than removed: the folder need not be flushed with each commit. Nothing of it
        // is written into the file; the app's own connections go on as they do.
        connection.pragma_update_and_check(None, "journal_mode", "truncate", |_| Ok(()))?;
    }
    // Without this, SQLite plans a statement anew for each value it is asked with: a third of the time of a first sync.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // The app runs without enforcement, and has dangling references; the bundled SQLite would enforce.
    connection.pragma_update(None, "foreign_keys", false)?;
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
}

#[cfg(unix)]
fn inode(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| std::os::unix::fs::MetadataExt::ino(&metadata))
}

#[cfg(not(unix))]
fn inode(_path: &Path) -> u64 {
    0
}

impl Engine {
    /// Creates a new Storymaster database with everything installed.
    ///
    /// # Errors
    /// When the file exists, or can't be made.
    pub fn init(options: EngineOptions, entropy: Entropy, now: Stamp) -> Result<Self, EngineError> {
        let path = options.database.clone();
        if path.exists() {
            return Err(EngineError::Exists(path));
        }
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|source| EngineError::Io { path: folder.to_owned(), source })?;
        }
        let made = Self::init_file(options, entropy, now);
        if made.is_err() {
            // Half a database would be taken for one.
            drop(std::fs::remove_file(&path));
        }
        made
    }

    fn init_file(options: EngineOptions, mut entropy: Entropy, now: Stamp) -> Result<Self, EngineError> {
        let path = options.database.clone();
        let connection = Connection::open(&path).map_err(|error| EngineError::of_sqlite(error, &path))?;
        configure(&connection, options.busy_timeout).map_err(|error| EngineError::of_sqlite(error, &path))?;
        let mut create = |connection: &Connection| -> Result<(), SessionError> {
            let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
            migrations::create_storymaster(&transaction)?;
            let schema = Schema::read(&transaction, &options.excluded_tables)?;
            let prose = Prose { configured: options.prose_columns.clone() };
            let plan = Plan::make(&transaction, &schema, &HashSet::new(), &prose, |_, _| None, |_| {})?;
            install(&transaction, plan, &DeviceId::of_key(&options.device_key), &mut entropy, now)?;
            transaction.commit()?;
            Ok(())
        };
        create(&connection).map_err(|error| EngineError::of_session(error, &path))?;
        Self::of_connection(connection, options, entropy)
    }

    /// Opens a file that was prepared before.
    ///
    /// # Errors
    /// See [`EngineError`]; [`EngineError::NotMigrated`] when it was not.
    pub fn open(options: EngineOptions, entropy: Entropy) -> Result<Self, EngineError> {
        let connection = open_connection(&options.database, options.busy_timeout)?;
        Self::of_connection(connection, options, entropy)
    }

    /// Opens a file, preparing it first when needed. `progress` is told (rows done, rows in all).
    ///
    /// # Errors
    /// See [`EngineError`]; on any failure the file is as it was.
    pub fn open_or_migrate(
        options: EngineOptions,
        mut entropy: Entropy,
        now: Stamp,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(Self, MigrationReport), EngineError> {
        let path = options.database.clone();
        let mut connection = open_connection(&path, options.busy_timeout)?;
        let migrated = is_migrated(&connection).map_err(|error| EngineError::of_sqlite(error, &path))?;
        let report = if migrated {
            MigrationReport::default()
        } else if read_state(&connection).ok().flatten().is_some() {
            // Taken in by an earlier version of ours: only our own tables have to follow.
            upgrade(&connection).map_err(|error| EngineError::of_session(error, &path))?;
            MigrationReport::default()
        } else {
            migrate(&mut connection, &options, &mut entropy, now, progress).map_err(|error| EngineError::of_session(error, &path))?
        };
        Ok((Self::of_connection(connection, options, entropy)?, report))
    }

    /// What [`Self::open_or_migrate`] would do. Reads only.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn plan_migration(options: &EngineOptions) -> Result<MigrationReport, EngineError> {
        let path = &options.database;
        let plan = || -> Result<MigrationReport, SessionError> {
            let connection = open_connection(path, options.busy_timeout)?;
            if is_migrated(&connection)? || read_state(&connection).ok().flatten().is_some() {
                return Ok(MigrationReport::default());
            }
            let reading = connection.unchecked_transaction()?;
            let schema = read_schema(&reading, &options.excluded_tables)?;
            let prose = Prose { configured: options.prose_columns.clone() };
            let plan = Plan::make(&reading, &schema, &HashSet::new(), &prose, |_, _| None, |_| {})?;
            Ok(MigrationReport { backup: None, tables: plan.report(), locked_ms: 0 })
        };
        plan().map_err(|error| EngineError::of_session(error, path))
    }

    fn of_connection(connection: Connection, options: EngineOptions, mut entropy: Entropy) -> Result<Self, EngineError> {
        let path = options.database.clone();
        let explain = |error| EngineError::of_sqlite(error, &path);
        if !is_migrated(&connection).map_err(explain)? {
            return Err(EngineError::NotMigrated(path));
        }
        let schema = Arc::new(Schema::read(&connection, &options.excluded_tables).map_err(explain)?);
        let state = read_state(&connection).map_err(explain)?.ok_or_else(|| EngineError::NotMigrated(path.clone()))?;
        let remembered = Anchor::of(&options.anchors, &path);
        let anchor = match remembered.load() {
            Some(anchor) => anchor,
            None => log::end(&connection).map_err(explain)?,
        };
        let actor = fresh_actor(&options.device_key, &mut entropy);
        Ok(Self {
            inode: inode(&path),
            connection,
            device_id: DeviceId::of_key(&options.device_key),
            prose: Prose { configured: options.prose_columns.clone() },
            options,
            schema,
            actor,
            anchor,
            remembered,
            epoch: state.epoch,
            entropy,
            has_sent: false,
            names: None,
            writes: 0,
            counted: None,
        })
    }

    /// The file was moved away and another put in its place: follow the path, not the old file.
    fn follow_replaced_file(&mut self) -> Result<(), EngineError> {
        // Another process of this device may have come further than we know.
        if let Some(further) = self.remembered.load().filter(|remembered| remembered.seq > self.anchor.seq) {
            self.anchor = further;
        }
        let now = inode(&self.options.database);
        if now != 0 && now == self.inode {
            return Ok(());
        }
        let connection = open_connection(&self.options.database, self.options.busy_timeout)?;
        if !is_migrated(&connection).map_err(|error| EngineError::of_sqlite(error, &self.options.database))? {
            return Err(EngineError::NotMigrated(self.options.database.clone()));
        }
        self.connection = connection;
        self.inode = now;
        self.has_sent = false;
        self.names = None;
        self.counted = None;
        Ok(())
    }

    /// One write transaction. In this order: the lock, is this still our file and our log, are the
    /// triggers in place, what did the app write; then `work`; then COMMIT.
    pub(super) fn write<T>(&mut self, now: Stamp, work: impl FnOnce(&mut Session<'_>) -> Result<T, SessionError>) -> Result<(T, Noticed), EngineError> {
        self.follow_replaced_file()?;
        self.writes += 1;
        let Self { connection, options, device_id, prose, schema, actor, anchor, remembered, epoch, entropy, has_sent, .. } = self;
        let run = || -> Result<(T, Noticed), SessionError> {
            let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
            let state = read_state(&transaction)?.ok_or_else(|| EngineError::NotMigrated(options.database.clone()))?;
            let mut noticed = Noticed::default();
            *epoch = state.epoch;
            if state.device_id != device_id.as_str() || !log::passes_through(&transaction, *anchor)? {
                // A restored, copied or replaced file: what this run wrote elsewhere must never get the
                // same names again, and peers must not trust their cursors.
                entropy(epoch.as_mut_slice());
                let life = if state.device_id != device_id.as_str() {
                    NewLife::Copied
                } else if log::end(&transaction)?.seq < anchor.seq {
                    NewLife::Restored
                } else {
                    NewLife::Replaced
                };
                transaction.prepare_cached("UPDATE sync_state SET device_id = ?1")?.execute([device_id.as_str()])?;
                if life != NewLife::Replaced {
                    // What was told since the backup, or by the device the file comes from, is known by these names.
                    transaction.prepare_cached("UPDATE sync_state SET sent_at = coalesce(sent_at, ?1)")?.execute([now.unix_ms()])?;
                }
                begin_life(&transaction, epoch, life, now)?;
                *actor = fresh_actor(&options.device_key, entropy);
                *has_sent = false;
                noticed.new_epoch = true;
            }
            let version = schema::version(&transaction)?;
            if version != schema.version {
                *schema = Arc::new(Schema::read(&transaction, &options.excluded_tables)?);
            }
            let mut session = Session::new(&transaction, Arc::clone(schema), actor, prose, now);
            let rebuilt = if version == state.schema_version { BTreeSet::new() } else { session.follow_schema(&options.excluded_tables)? };
            let mut captured = session.drain()?;
            captured.extend(session.compare_tables(&rebuilt)?);
            let done = work(&mut session)?;
            if session.has_own_writes() && !session.schema.foreign_triggers.is_empty() {
                captured.extend(session.compare_tables(&written_by_triggers(&session.schema))?);
            }
            session.end_own_writes()?;
            if session.starts_over {
                entropy(epoch.as_mut_slice());
                begin_life(&transaction, epoch, NewLife::Renamed, now)?;
                noticed.new_epoch = true;
            }
            noticed.rows = captured.len();
            let end = session.log_end();
            let new_schema = Arc::clone(&session.schema);
            if version != state.schema_version {
                transaction.prepare_cached("UPDATE sync_state SET schema_version = ?1")?.execute([new_schema.version])?;
            }
            transaction.commit()?;
            *schema = new_schema;
            let end = match end {
                Some(end) => end,
                None if noticed.new_epoch => log::end(connection)?,
                None => *anchor,
            };
            if end != *anchor || noticed.new_epoch {
                *anchor = end;
                remembered.save(end);
            }
            Ok((done, noticed))
        };
        run().map_err(|error| EngineError::of_session(error, &options.database))
    }

    pub(super) fn read<T>(&mut self, work: impl FnOnce(&Connection, &Schema) -> Result<T, SessionError>) -> Result<T, EngineError> {
        let Self { connection, options, schema, .. } = self;
        let run = || -> Result<T, SessionError> {
            let reading = connection.unchecked_transaction()?;
            work(&reading, schema)
        };
        run().map_err(|error| EngineError::of_session(error, &options.database))
    }

    /// Looks at rows by the rules a transaction would go by, and writes nothing.
    pub(super) fn look<T>(&mut self, now: Stamp, work: impl FnOnce(&mut Session<'_>) -> Result<T, SessionError>) -> Result<T, EngineError> {
        let Self { connection, options, prose, schema, actor, .. } = self;
        let run = || -> Result<T, SessionError> {
            let reading = connection.unchecked_transaction()?;
            work(&mut Session::new(&reading, Arc::clone(schema), actor, prose, now))
        };
        run().map_err(|error| EngineError::of_session(error, &options.database))
    }

    /// A number that changes when another connection has written to the file. Costs microseconds.
    ///
    /// # Errors
    /// When SQLite can't read the file.
    pub fn data_version(&mut self) -> Result<i64, EngineError> {
        self.follow_replaced_file()?;
        data_version(&self.connection).map_err(|error| EngineError::of_sqlite(error, &self.options.database))
    }

    /// Turns what the app wrote into changes. Writes nothing when it wrote nothing.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn capture(&mut self, now: Stamp) -> Result<Noticed, EngineError> {
        self.follow_replaced_file()?;
        let anchor = self.anchor;
        let device_id = self.device_id.clone();
        let idle = self.read(|connection, _| {
            let Some(state) = read_state(connection)? else { return Ok(false) };
            Ok(outbox::is_empty(connection)?
                && state.device_id == device_id.as_str()
                && schema::version(connection)? == state.schema_version
                && log::passes_through(connection, anchor)?)
        })?;
        if idle { Ok(Noticed::default()) } else { Ok(self.write(now, |_| Ok(()))?.1) }
    }

    /// Answers a pull of `device_id`.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn answer_pull(&mut self, request: &PullRequest, device_id: &str, now: Stamp) -> Result<PullResponse, EngineError> {
        self.capture(now)?;
        self.note_epoch(device_id, request.epoch.as_deref(), now)?;
        let epoch = self.epoch;
        let page = self.read(|connection, schema| {
            let peer = peers::find(connection, device_id)?.map(|peer| peer.id);
            pages::answer(connection, schema, epoch, request, peer)
        })?;
        if !request.ahead {
            self.acknowledge(device_id, page.acknowledged, page.reset, now)?;
        }
        // Whoever has a cursor of ours knows our rows by name, told now or compared before.
        if !page.changes.is_empty() || request.cursor.is_some() {
            self.note_sent(now)?;
        }
        if request.data && !page.served.is_empty() {
            // Before a byte leaves: an edit of these rows by a client without automerge is made on top of this.
            let served = page.served;
            self.write(now, |session| {
                let peer = peers::find_or_create(session.connection, device_id)?.id;
                for (row, seq) in served {
                    peers::note_served(session.connection, peer, row, seq)?;
                }
                Ok(())
            })?;
        }
        Ok(PullResponse {
            changes: page.changes,
            sync_timestamp: now.to_rfc3339(),
            cursor: page.cursor.to_text(),
            has_more: page.has_more,
            remaining: page.remaining,
            epoch: hex(&epoch),
            reset: page.reset,
            auth_token: None,
        })
    }

    /// A device names another epoch than before: its file was restored or replaced, and what it once sent
    /// us must be told to it again.
    pub(super) fn note_epoch(&mut self, device_id: &str, epoch: Option<&str>, now: Stamp) -> Result<(), EngineError> {
        let Some(epoch) = epoch else { return Ok(()) };
        let known = self.read(|connection, _| Ok(peers::find(connection, device_id)?.and_then(|peer| peer.peer_epoch)))?;
        if known.as_deref() == Some(epoch) {
            return Ok(());
        }
        self.write(now, |session| {
            let mut peer = peers::find_or_create(session.connection, device_id)?;
            if peer.peer_epoch.is_some() {
                log::forget_origin(session.connection, peer.id, 0)?;
                peer.pushed_seq = 0;
            }
            peer.peer_epoch = Some(epoch.to_owned());
            peers::save(session.connection, &peer)?;
            Ok(())
        })?;
        Ok(())
    }

    /// A device's keys are in use from another installation than before: a copy of it, perhaps, that does not have
    /// what the device itself once sent us. What lies after its cursor (or after what it is known to know) is told
    /// whoever it came from.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn note_other_installation(&mut self, device_id: &str, cursor: Option<&str>, now: Stamp) -> Result<(), EngineError> {
        self.write(now, |session| {
            let peer = peers::find_or_create(session.connection, device_id)?;
            let cursor = cursor.and_then(Cursor::parse).map(|cursor| cursor.position);
            let known = match cursor {
                Some(position) if log::passes_through(session.connection, position)? => position.seq,
                _ => peer.pushed_seq,
            };
            Ok(log::forget_origin(session.connection, peer.id, known)?)
        })?;
        Ok(())
    }

    /// A peer's cursor proves what it knows: that need not be pushed to it.
    fn acknowledge(&mut self, device_id: &str, seq: i64, reset: bool, now: Stamp) -> Result<(), EngineError> {
        let known = self.read(|connection, _| Ok(peers::find(connection, device_id)?.map_or(0, |peer| peer.pushed_seq)))?;
        if seq <= known && !(reset && known > 0) {
            return Ok(());
        }
        self.write(now, |session| {
            let mut peer = peers::find_or_create(session.connection, device_id)?;
            peer.pushed_seq = if reset { 0 } else { peer.pushed_seq.max(seq) };
            peers::save(session.connection, &peer)?;
            Ok(())
        })?;
        Ok(())
    }

    /// The request that asks a peer for what is new, from where the last one ended.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn pull_request(&mut self, device_id: &str) -> Result<PullRequest, EngineError> {
        let epoch = hex(&self.epoch);
        self.read(|connection, _| {
            let cursor = peers::find(connection, device_id)?.and_then(|peer| peer.pull_cursor);
            Ok(PullRequest { cursor, data: false, compress: Some("gzip".to_owned()), epoch: Some(epoch), ..PullRequest::default() })
        })
    }

    /// Takes in a peer's answer to a pull, and remembers where it ended. Returns how many rows were new.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn receive_pulled(&mut self, page: &PullResponse, device_id: &str, now: Stamp) -> Result<Receipt, EngineError> {
        self.receive_pulled_read(page, &Incoming::read_all(page.changes.clone()), device_id, now)
    }

    /// The same, where what came was read already.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn receive_pulled_read(&mut self, page: &PullResponse, incoming: &[Incoming], device_id: &str, now: Stamp) -> Result<Receipt, EngineError> {
        let own_epoch = self.epoch();
        let known = self.read(|connection, _| Ok(peers::find(connection, device_id)?))?;
        let epoch_changed = known.as_ref().and_then(|peer| peer.peer_epoch.as_ref()).is_some_and(|epoch| *epoch != page.epoch);
        let reset = page.reset || epoch_changed;
        let unchanged = known.as_ref().is_some_and(|peer| peer.pull_cursor.as_deref() == Some(&page.cursor) && peer.peer_epoch.as_deref() == Some(&page.epoch));
        // A reset that tells nothing asks for a comparison.
        let cursor = (!reset || !incoming.is_empty()).then(|| page.cursor.clone());
        let move_cursor = |session: &mut Session<'_>| -> Result<(), SessionError> {
            let mut peer = peers::find_or_create(session.connection, device_id)?;
            peer.pull_cursor.clone_from(&cursor);
            peer.peer_epoch = Some(page.epoch.clone());
            if peer.told_epoch.is_none() {
                peer.told_epoch = Some(own_epoch.clone());
            }
            if reset {
                peer.pushed_seq = 0;
                log::forget_origin(session.connection, peer.id, 0)?;
            }
            peers::save(session.connection, &peer)?;
            Ok(())
        };
        // With the last of its rows, the page was taken in: in one transaction with them.
        let mut receipt = self.receive_from(incoming, device_id, Source::Pull, page.remaining, now, |session, is_last| {
            if is_last && (!unchanged || reset) { move_cursor(session) } else { Ok(()) }
        })?;
        if incoming.is_empty() && (!unchanged || reset) {
            self.write(now, move_cursor)?;
        }
        receipt.reset = reset;
        Ok(receipt)
    }

    /// Takes in changes a device sent, in slices, so that the app gets its turns in between.
    ///
    /// # Errors
    /// See [`EngineError`]. Slices before the failing one stay.
    pub fn receive(&mut self, changes: &[RowChange], device_id: &str, now: Stamp) -> Result<Receipt, EngineError> {
        self.receive_from(&Incoming::read_all(changes.to_vec()), device_id, Source::Push, 0, now, |_, _| Ok(()))
    }

    /// Takes in changes that were asked for by name.
    ///
    /// # Errors
    /// See [`EngineError`]. Slices before the failing one stay.
    pub fn receive_fetched(&mut self, incoming: &[Incoming], device_id: &str, now: Stamp) -> Result<Receipt, EngineError> {
        self.receive_from(incoming, device_id, Source::Pull, 0, now, |_, _| Ok(()))
    }

    /// What a device pushed is a part of its log: whoever had pulled up to its start has now pulled up to its end.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn note_span(&mut self, span: Option<&(String, String)>, device_id: &str, now: Stamp) -> Result<(), EngineError> {
        let Some((start, end)) = span.filter(|(_, end)| end.len() <= CURSOR_TEXT_BYTES_MAX) else { return Ok(()) };
        let pulled = self.read(|connection, _| Ok(peers::find(connection, device_id)?.and_then(|peer| peer.pull_cursor)))?;
        if pulled.as_deref() != Some(start) || start == end {
            return Ok(());
        }
        self.write(now, |session| {
            let mut peer = peers::find_or_create(session.connection, device_id)?;
            peer.pull_cursor = Some(end.clone());
            peers::save(session.connection, &peer)?;
            Ok(())
        })?;
        Ok(())
    }

    /// Takes in what a device pushed, read already.
    ///
    /// # Errors
    /// See [`EngineError`]. Slices before the failing one stay.
    pub fn receive_pushed(&mut self, incoming: &[Incoming], device_id: &str, now: Stamp) -> Result<Receipt, EngineError> {
        self.receive_from(incoming, device_id, Source::Push, 0, now, |_, _| Ok(()))
    }

    /// `remaining` changes are still to come; `beside` is done in the transaction of each slice, and told whether it is the last one.
    fn receive_from(
        &mut self,
        changes: &[Incoming],
        device_id: &str,
        source: Source,
        remaining: i64,
        now: Stamp,
        beside: impl Fn(&mut Session<'_>, bool) -> Result<(), SessionError>,
    ) -> Result<Receipt, EngineError> {
        let mut receipt = Receipt::default();
        let announced = brake::announced(changes);
        let device = DeviceId::parse(device_id).and_then(|id| id.key());
        let mut rest = changes;
        while !rest.is_empty() {
            let (slice, after) = next_slice(rest);
            rest = after;
            let (part, _) = self.write(now, |session| {
                let peer = peers::find_or_create(session.connection, device_id)?.id;
                let part = session.receive(slice, &Sender { peer, device_id: device_id.to_owned(), device, source, remaining }, &announced)?;
                beside(session, rest.is_empty())?;
                Ok(part)
            })?;
            receipt.add(part);
        }
        Ok(receipt)
    }

    /// The next page of what a peer does not know yet; `None` when it knows everything.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn push_page(&mut self, device_id: &str, now: Stamp) -> Result<Option<PushPage>, EngineError> {
        self.capture(now)?;
        let epoch = self.epoch;
        let page = self.read(|connection, schema| {
            let (id, seq) = peers::find(connection, device_id)?.map_or((-1, 0), |peer| (peer.id, peer.pushed_seq));
            pages::push_page(connection, schema, epoch, seq, id)
        })?;
        if page.changes.is_empty() && !page.has_more {
            // All of it came from the device itself: it need not be looked at again.
            self.acknowledge(device_id, page.end, false, now)?;
            return Ok(None);
        }
        self.note_sent(now)?;
        Ok(Some(page))
    }

    /// A peer has taken in a page.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn note_pushed(&mut self, device_id: &str, end: i64, now: Stamp) -> Result<(), EngineError> {
        self.acknowledge(device_id, end, false, now)
    }

    /// How rows stand after a push, and what clashes in them, as the documentation has it.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn accepted_states(
        &mut self,
        receipt: &Receipt,
        pushed: &[Incoming],
        device_id: &str,
        now: Stamp,
    ) -> Result<(Vec<AcceptedState>, Vec<PushConflict>), EngineError> {
        let device = DeviceId::parse(device_id).and_then(|id| id.key());
        self.look(now, |session| {
            let mut states = Vec::new();
            let mut clashes = Vec::new();
            let mut size_bytes = 0;
            for id in receipt.rows.iter().chain(&receipt.unchanged) {
                let record = rows::get(session.connection, *id)?;
                let table = rows::table_name(session.connection, record.table)?;
                let merged = storysync_crdt::row(session.document(*id)?);
                states.push(AcceptedState {
                    entity_type: table.as_str().to_owned(),
                    sync_uuid: record.uuid.as_str().to_owned(),
                    entity_id: record.local_id.filter(|_| record.present),
                    version: merged.version,
                    updated_at: pages::rfc3339(&merged.updated_at),
                });
                if record.conflicts > 0 && size_bytes < CONFLICTS_REPLIED_BYTES_MAX {
                    for clash in session.push_conflicts(&record, pushed, device.as_ref())? {
                        size_bytes += serde_json::to_string(&clash).map_or(0, |text| text.len());
                        clashes.push(clash);
                    }
                }
            }
            Ok((states, clashes))
        })
    }

    /// How this node stands. Counted anew only after somebody has written to the file.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn status(&mut self) -> Result<Status, EngineError> {
        let seen = (self.data_version()?, self.writes);
        if let Some((_, status)) = self.counted.as_ref().filter(|(counted, _)| *counted == seen) {
            return Ok(status.clone());
        }
        let epoch = hex(&self.epoch);
        let status = self.read(|connection, _| {
            let counts = rows::counts(connection)?;
            let changes = log::end(connection)?.seq;
            let quarantined = quarantine::count(connection)?;
            Ok(Status { entities: counts.entities, parked: counts.parked, conflicts: counts.conflicts, quarantined, changes, epoch })
        })?;
        self.counted = Some((seen, status.clone()));
        Ok(status)
    }

    /// How many changes a device has not been told of.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn pending_for(&mut self, device_id: &str) -> Result<i64, EngineError> {
        self.read(|connection, _| {
            let (id, seq) = peers::find(connection, device_id)?.map_or((-1, 0), |peer| (peer.id, peer.pushed_seq));
            Ok(log::count_after(connection, seq, id)?)
        })
    }

    /// Others are about to know the names of our rows: from now on these are theirs, too.
    pub(super) fn note_sent(&mut self, now: Stamp) -> Result<(), EngineError> {
        if self.has_sent {
            return Ok(());
        }
        if self.is_provisional()? {
            self.write(now, |session| {
                session.connection.execute("UPDATE sync_state SET sent_at = ?1 WHERE sent_at IS NULL", [now.unix_ms()])?;
                Ok(())
            })?;
        }
        self.has_sent = true;
        Ok(())
    }

    /// Whether nobody was ever told anything of this file, so that its rows may still get other names.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn is_provisional(&mut self) -> Result<bool, EngineError> {
        self.read(|connection, _| Ok(connection.prepare_cached("SELECT sent_at IS NULL FROM sync_state")?.query_row([], |row| row.get(0))?))
    }

    /// Whether the file can be written now.
    ///
    /// # Errors
    /// See [`EngineError`]: why it can't.
    pub fn check_writable(&mut self) -> Result<(), EngineError> {
        let explain = |error| EngineError::of_sqlite(error, &self.options.database);
        Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate).and_then(Transaction::rollback).map_err(explain)
    }

    /// Rows that wait, as (table, why, how many).
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn parked(&mut self) -> Result<Vec<(String, String, i64)>, EngineError> {
        self.read(|connection, _| Ok(rows::parked_by_reason(connection)?))
    }

    /// Why this log is not in its first life, and since when (Unix time in ms); `None` while it is.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn life(&mut self) -> Result<Option<(NewLife, i64)>, EngineError> {
        self.read(|connection, _| {
            let (by, at): (Option<String>, Option<i64>) =
                connection.prepare_cached("SELECT began_by, began_at FROM sync_state")?.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(by.as_deref().and_then(NewLife::of_word).zip(at))
        })
    }

    /// Where the log ended when this Engine last looked or wrote.
    #[must_use]
    pub fn log_end(&self) -> i64 {
        self.anchor.seq
    }

    pub(super) fn epoch_bytes(&self) -> Epoch {
        self.epoch
    }

    /// The epoch of this log.
    #[must_use]
    pub fn epoch(&self) -> String {
        hex(&self.epoch)
    }

    /// All open clashes.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn conflicts(&mut self, now: Stamp) -> Result<Vec<ConflictReport>, EngineError> {
        self.capture(now)?;
        self.look(now, |session| session.list_conflicts())
    }

    /// The clashes that are over, newest first.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn ended_conflicts(&mut self, limit: i64) -> Result<Vec<EndedClash>, EngineError> {
        self.read(|connection, _| Ok(clashes::ended(connection, limit)?))
    }

    /// Decides one clash, for the device `by`; `None` for this one.
    ///
    /// # Errors
    /// When there is no such clash, or the choice does not fit it.
    pub fn resolve(&mut self, id: &str, choice: &Choice, by: Option<DeviceKey>, now: Stamp) -> Result<(), EngineError> {
        let own = by.unwrap_or(self.options.device_key);
        self.write(now, |session| {
            session.on_behalf_of = by;
            session.resolve_conflict(id, choice, &own)
        })?;
        Ok(())
    }

    /// Decides all open clashes alike, for the device `by`: how many were decided, and why others were not.
    ///
    /// # Errors
    /// See [`EngineError`]. What was decided before a failure stays.
    pub fn resolve_all(&mut self, take: &Take, by: Option<DeviceKey>, now: Stamp) -> Result<(usize, Vec<String>), EngineError> {
        let own = by.unwrap_or(self.options.device_key);
        let (mut decided, mut left) = (0, Vec::new());
        for which in [Which::Rows, Which::Links] {
            let mut after = rows::RowId(0);
            // In slices, so that the app gets its turns in between.
            loop {
                let (some, _) = self.write(now, |session| {
                    session.on_behalf_of = by;
                    session.resolve_some(take, &own, after, which)
                })?;
                let Some(some) = some else { break };
                decided += some.decided;
                left.extend(some.left);
                after = some.last;
            }
        }
        Ok((decided, left))
    }

    /// Deletions that wait for a yes.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn brakes(&mut self, now: Stamp) -> Result<Vec<BrakeReport>, EngineError> {
        self.look(now, |session| session.brakes())
    }

    /// Lets deletions through that wait, or takes them back everywhere; returns how many rows there were.
    ///
    /// # Errors
    /// When no such deletions wait.
    pub fn decide_brake(&mut self, id: &str, decision: BrakeDecision, now: Stamp) -> Result<usize, EngineError> {
        Ok(self.write(now, |session| session.decide_brake(id, decision))?.0)
    }

    /// Who wrote what in a row, and when.
    ///
    /// # Errors
    /// When there is no such row.
    pub fn history(&mut self, table: &str, uuid: &str, now: Stamp) -> Result<Vec<EntryReport>, EngineError> {
        self.capture(now)?;
        self.look(now, |session| session.history(table, uuid))
    }

    /// Takes one change of a row back: the named one, or the newest.
    ///
    /// # Errors
    /// When there is no such row or change, or nothing of it is left to take back.
    pub fn undo_change(&mut self, table: &str, uuid: &str, change: Option<&str>, now: Stamp) -> Result<UndoReport, EngineError> {
        Ok(self.write(now, |session| session.undo_change(table, uuid, change))?.0)
    }

    /// What would take back everything a device wrote at `since` or later.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn plan_undo(&mut self, device: &DeviceKey, since: Stamp, now: Stamp) -> Result<Vec<UndoReport>, EngineError> {
        self.capture(now)?;
        self.look(now, |session| session.plan_undo(device, since))
    }

    /// Takes back everything a device wrote at `since` or later.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn undo_device(&mut self, device: &DeviceKey, since: Stamp, now: Stamp) -> Result<Vec<UndoReport>, EngineError> {
        Ok(self.write(now, |session| session.undo_device(device, since))?.0)
    }

    /// A row's document as an automerge file.
    ///
    /// # Errors
    /// When there is no such row, or automerge refuses its changes.
    pub fn document(&mut self, table: &str, uuid: &str, now: Stamp) -> Result<Vec<u8>, EngineError> {
        self.capture(now)?;
        let document = self.read(|connection, _| {
            let no_such_row = || EngineError::NoSuchRow { table: table.to_owned(), uuid: uuid.to_owned() };
            let id = rows::find_table(connection, table_of_entity_type(table))?.ok_or_else(no_such_row)?;
            let uuid = SyncUuid::parse(uuid).ok_or_else(no_such_row)?;
            let record = rows::find(connection, id, &uuid)?.ok_or_else(no_such_row)?;
            Ok(log::document(connection, record.id)?)
        })?;
        if document.is_empty() {
            return Err(EngineError::NoSuchRow { table: table.to_owned(), uuid: uuid.to_owned() });
        }
        Ok(storysync_crdt::save(&document)?)
    }

    /// Makes the documented list of devices in the app's file show `devices`.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn mirror_devices(&mut self, devices: &[MirroredDevice], now: Stamp) -> Result<(), EngineError> {
        self.write(now, |session| Ok(peers::mirror(session.connection, devices, now)?))?;
        Ok(())
    }

    /// The documented list of devices, those of an old server included.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn mirrored_devices(&mut self) -> Result<Vec<MirroredDevice>, EngineError> {
        self.read(|connection, _| Ok(peers::mirrored(connection)?))
    }

    /// The newest lines of the documented log.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn log_lines(&mut self, limit: i64) -> Result<Vec<LogLine>, EngineError> {
        self.read(|connection, _| Ok(peers::log_lines(connection, limit)?))
    }

    /// How long to wait for another writer from now on.
    pub fn wait_for_writers(&mut self, busy_timeout: Duration) {
        self.options.busy_timeout = busy_timeout;
        if let Err(error) = self.connection.busy_timeout(busy_timeout) {
            tracing::warn!(%error, "SQLite refuses another waiting time");
        }
    }

    /// The file this Engine works on.
    #[must_use]
    pub fn database(&self) -> &Path {
        &self.options.database
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As many rows as one transaction takes in, and those left.
fn next_slice(rows: &[Incoming]) -> (&[Incoming], &[Incoming]) {
    let mut taken = 0;
    let weight = |row: &Incoming| if row.may_arrive() { 1 } else { LONG_WAY_ROWS };
    let fits = |row: &&Incoming| {
        taken += weight(row);
        taken <= SLICE_ROWS
    };
    let count = rows.iter().take_while(fits).count().max(1);
    rows.split_at_checked(count).unwrap_or((rows, &[]))
}

fn begin_life(connection: &Connection, epoch: &Epoch, life: NewLife, now: Stamp) -> rusqlite::Result<()> {
    connection.prepare_cached("UPDATE sync_state SET epoch = ?1, began_by = ?2, began_at = ?3")?.execute(params![
        epoch.as_slice(),
        life.word(),
        now.unix_ms()
    ])?;
    Ok(())
}

fn fresh_actor(device_key: &DeviceKey, entropy: &mut Entropy) -> Actor {
    let mut run = [0; ACTOR_RUN_BYTES];
    entropy(&mut run);
    Actor::of_device(device_key, run)
}

/// Content tables a trigger of the app's own may write to: those its SQL names.
fn written_by_triggers(schema: &Schema) -> BTreeSet<String> {
    schema.tables().filter(|table| schema.foreign_triggers.iter().any(|sql| sql.contains(table.name()))).map(|table| table.name().to_owned()).collect()
}
