//! The Engine: owns the writing connection, checks before every transaction that the file is still
//! the one it knew, and offers what a node does as methods.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use storysync_crdt::{ACTOR_RUN_BYTES, Actor, DeviceKey, Stamp};

use crate::app::backup;
use crate::app::profile::Prose;
use crate::app::rows as app_rows;
use crate::app::schema::{self, Schema};
use crate::app::triggers;
use crate::epoch::{NewEpoch, begin_epoch, hex, read_state};
use crate::error::{EngineError, SessionError};
use crate::exchange::pages::PAGE_ENTITIES_MAX;
use crate::exchange::reconcile::Names;
use crate::file_guard::{data_version, inode};
use crate::migrate::adopt::{MigrationReport, Plan};
use crate::migrate::renaming::schema_of;
use crate::migrate::{install, is_migrated, migrate, read_schema, upgrade};
use crate::receive::PushedClashes;
use crate::report::Status;
use crate::store::anchor::Anchor;
use crate::store::log::{self, Epoch, Position};
use crate::store::peers::{self, MirroredDevice};
use crate::store::{migrations, outbox, rows};
use crate::transaction::{Session, Spent};
use crate::trust::identity::DeviceId;

/// Pages of the file kept in memory while it is worked on, in KiB: indexes of hundred thousand rows
/// fit into it.
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
    /// What becomes of clashes in rows that clients without automerge push.
    pub(crate) pushed_clashes: PushedClashes,
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
    /// What the last transaction had in hand.
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

fn open_connection(path: &Path, busy_timeout: Duration) -> Result<Connection, EngineError> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Err(EngineError::NotADatabase(path.to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(EngineError::NoSuchFile(path.to_owned()));
        }
        Err(source) => return Err(EngineError::Io { path: path.to_owned(), source }),
    }
    let explain = |error| EngineError::of_sqlite(error, path);
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .map_err(explain)?;
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
        // The same rollback journal, emptied rather than removed: the folder need not be flushed
        // with each commit. Nothing of it is written into the file; the app's own connections go on
        // as they do.
        connection.pragma_update_and_check(None, "journal_mode", "truncate", |_| Ok(()))?;
    }
    // Without this, SQLite plans a statement anew for each value it is asked with: a third of the
    // time of a first sync.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // The app runs without enforcement, and has dangling references; the bundled SQLite would
    // enforce.
    connection.pragma_update(None, "foreign_keys", false)?;
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
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
            std::fs::create_dir_all(folder)
                .map_err(|source| EngineError::Io { path: folder.to_owned(), source })?;
        }
        let made = Self::init_file(options, entropy, now);
        if made.is_err() {
            // Half a database would be taken for one.
            drop(std::fs::remove_file(&path));
        }
        made
    }

    fn init_file(
        options: EngineOptions,
        mut entropy: Entropy,
        now: Stamp,
    ) -> Result<Self, EngineError> {
        let path = options.database.clone();
        let connection =
            Connection::open(&path).map_err(|error| EngineError::of_sqlite(error, &path))?;
        configure(&connection, options.busy_timeout)
            .map_err(|error| EngineError::of_sqlite(error, &path))?;
        let mut create = |connection: &Connection| -> Result<(), SessionError> {
            let transaction =
                Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
            migrations::create_storymaster(&transaction)?;
            let schema = schema_of(&transaction, &options.excluded_tables)?;
            let prose = Prose { configured: options.prose_columns.clone() };
            let plan =
                Plan::make(&transaction, &schema, &HashSet::new(), &prose, |_, _| None, |_| {})?;
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

    /// The device whose node a file belongs to; `None` while it was not prepared. Reads only.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn owner(database: &Path, busy_timeout: Duration) -> Result<Option<String>, EngineError> {
        let connection = open_connection(database, busy_timeout)?;
        if migrations::node_progress(&connection)
            .map_err(|error| EngineError::of_sqlite(error, database))?
            .0
            == 0
        {
            return Ok(None);
        }
        Ok(read_state(&connection)
            .map_err(|error| EngineError::of_sqlite(error, database))?
            .map(|state| state.device_id))
    }

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

    /// Opens a file, preparing it first when needed. `progress` is told (rows done, rows in all).
    ///
    /// # Errors
    /// See [`EngineError`]; on any failure the file is as it was.
    pub fn open_or_migrate(
        options: EngineOptions,
        entropy: Entropy,
        now: Stamp,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(Self, MigrationReport), EngineError> {
        Self::open_upgrade_or_migrate(options, entropy, now, progress, &|| true)
    }

    /// The same, for a file an earlier version may still be serving: `may_upgrade` is asked before
    /// our own tables are brought up to date.
    ///
    /// # Errors
    /// See [`EngineError`]; on any failure the file is as it was.
    pub fn open_upgrade_or_migrate(
        options: EngineOptions,
        mut entropy: Entropy,
        now: Stamp,
        progress: &mut dyn FnMut(u64, u64),
        may_upgrade: &dyn Fn() -> bool,
    ) -> Result<(Self, MigrationReport), EngineError> {
        let path = options.database.clone();
        let mut connection = open_connection(&path, options.busy_timeout)?;
        let migrated =
            is_migrated(&connection).map_err(|error| EngineError::of_sqlite(error, &path))?;
        let report = if migrated {
            MigrationReport::default()
        } else if read_state(&connection).ok().flatten().is_some() {
            // Taken in by an earlier version of ours: only our own tables have to follow.
            if !may_upgrade() {
                return Err(EngineError::ServedByEarlier(path));
            }
            upgrade(&connection).map_err(|error| EngineError::of_session(error, &path))?;
            MigrationReport::default()
        } else {
            migrate(&mut connection, &options, &mut entropy, now, progress)
                .map_err(|error| EngineError::of_session(error, &path))?
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
            Ok(MigrationReport { backup: None, tables: plan.report() })
        };
        plan().map_err(|error| EngineError::of_session(error, path))
    }

    fn of_connection(
        connection: Connection,
        options: EngineOptions,
        mut entropy: Entropy,
    ) -> Result<Self, EngineError> {
        let path = options.database.clone();
        let explain = |error| EngineError::of_sqlite(error, &path);
        if !is_migrated(&connection).map_err(explain)? {
            return Err(EngineError::NotMigrated(path));
        }
        let schema = Arc::new(schema_of(&connection, &options.excluded_tables).map_err(explain)?);
        let state = read_state(&connection)
            .map_err(explain)?
            .ok_or_else(|| EngineError::NotMigrated(path.clone()))?;
        let remembered = Anchor::of(&options.anchors, &path);
        let (anchor, epoch) = match remembered
            .load()
            .or_else(|| Anchor::of_epoch(&options.anchors, &state.epoch).load())
        {
            Some(last) => (last.end, last.epoch.unwrap_or(state.epoch)),
            None => (log::end(&connection).map_err(explain)?, state.epoch),
        };
        let actor = fresh_actor(&options.device_key, &mut entropy);
        enable_triggers_of(&connection, &schema).map_err(explain)?;
        let is_other_choice = is_other_choice(&connection, &schema).map_err(explain)?;
        Ok(Self {
            is_unchecked: false,
            looks_only: false,
            rebuilding: None,
            is_other_choice,
            inode: inode(&path),
            connection,
            device_id: DeviceId::of_key(&options.device_key),
            prose: Prose { configured: options.prose_columns.clone() },
            page_rows: PAGE_ENTITIES_MAX,
            pushed_clashes: PushedClashes::StayOpen,
            options,
            schema,
            actor,
            anchor,
            remembered,
            epoch,
            entropy,
            has_sent: false,
            names: None,
            spent: Spent::default(),
            writes: 0,
            counted: None,
        })
    }

    /// The file was moved away and another put in its place: follow the path, not the old file.
    fn follow_replaced_file(&mut self) -> Result<(), EngineError> {
        // Another process of this device may have come further than we know.
        if let Some(further) =
            self.remembered.load().filter(|remembered| remembered.end.seq > self.anchor.seq)
        {
            self.anchor = further.end;
        }
        let now = inode(&self.options.database);
        if now != 0 && now == self.inode {
            return Ok(());
        }
        let connection = open_connection(&self.options.database, self.options.busy_timeout)?;
        // Another file may have other tables and triggers under the same version of its schema.
        self.schema = Arc::new(
            schema_of(&connection, &self.options.excluded_tables)
                .map_err(|error| EngineError::of_sqlite(error, &self.options.database))?,
        );
        self.is_other_choice = is_other_choice(&connection, &self.schema)
            .map_err(|error| EngineError::of_sqlite(error, &self.options.database))?;
        self.connection = connection;
        self.inode = now;
        self.is_unchecked = true;
        self.has_sent = false;
        self.names = None;
        self.counted = None;
        Ok(())
    }

    /// A file from before storysync was put back in place of ours, by the app's own restore: it is
    /// prepared as at first, and its rows meet those the other devices know by their names. Returns
    /// whether it was so.
    fn prepare_restored(&mut self, now: Stamp) -> Result<bool, EngineError> {
        let path = self.options.database.clone();
        let explain = |error| EngineError::of_sqlite(error, &path);
        let is_ours = |connection: &Connection| {
            let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = \
                'sync_state')";
            connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, bool>(0))
        };
        if is_ours(&self.connection).map_err(explain)? {
            return Ok(false);
        }
        let mut connection = open_connection(&path, self.options.busy_timeout)?;
        migrate(&mut connection, &self.options, &mut self.entropy, now, &mut |_, _| {})
            .map_err(|error| EngineError::of_session(error, &path))?;
        let state = read_state(&connection)
            .map_err(explain)?
            .ok_or_else(|| EngineError::NotMigrated(path.clone()))?;
        begin_epoch(&connection, &state.epoch, NewEpoch::Restored, now).map_err(explain)?;
        self.schema =
            Arc::new(schema_of(&connection, &self.options.excluded_tables).map_err(explain)?);
        self.anchor = log::end(&connection).map_err(explain)?;
        self.epoch = state.epoch;
        self.actor = fresh_actor(&self.options.device_key, &mut self.entropy);
        self.remembered.save(self.anchor, &self.epoch);
        self.inode = inode(&path);
        self.connection = connection;
        self.has_sent = false;
        self.names = None;
        self.counted = None;
        tracing::warn!(
            "a database from before storysync was put in place of the prepared one; it was \
                prepared again, with a backup"
        );
        Ok(true)
    }

    /// One write transaction. In this order: the lock, is this still our file and our log, are the
    /// triggers in place, what did the app write; then `work`; then COMMIT.
    pub(crate) fn write<T>(
        &mut self,
        now: Stamp,
        work: impl FnOnce(&mut Session<'_>) -> Result<T, SessionError>,
    ) -> Result<(T, Noticed), EngineError> {
        self.follow_replaced_file()?;
        let restored = self.prepare_restored(now)?;
        self.writes += 1;
        let Self {
            connection,
            options,
            device_id,
            prose,
            schema,
            actor,
            anchor,
            remembered,
            epoch,
            entropy,
            has_sent,
            is_other_choice,
            rebuilding,
            is_unchecked,
            spent,
            ..
        } = self;
        let run = || -> Result<(T, Noticed), SessionError> {
            let transaction =
                Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
            let state = read_state(&transaction)?
                .ok_or_else(|| EngineError::NotMigrated(options.database.clone()))?;
            let mut noticed = Noticed { new_epoch: restored, ..Noticed::default() };
            // Another process of this device may have begun the life the file tells of, and then it
            // remembered so.
            let is_life_known = state.epoch == *epoch
                || remembered.load().and_then(|last| last.epoch) == Some(state.epoch);
            *epoch = state.epoch;
            if state.device_id != device_id.as_str()
                || !is_life_known
                || !log::passes_through(&transaction, *anchor)?
            {
                // A restored, copied or replaced file: what this run wrote elsewhere must never get
                // the same names again, and peers must not trust their cursors.
                entropy(epoch.as_mut_slice());
                let life = if state.device_id != device_id.as_str() {
                    NewEpoch::Copied
                } else if !is_life_known || log::end(&transaction)?.seq < anchor.seq {
                    NewEpoch::Restored
                } else {
                    NewEpoch::Replaced
                };
                transaction
                    .prepare_cached("UPDATE sync_state SET device_id = ?1")?
                    .execute([device_id.as_str()])?;
                if life != NewEpoch::Replaced {
                    // What was told since the backup, or by the device the file comes from, is
                    // known by these names.
                    transaction
                        .prepare_cached("UPDATE sync_state SET sent_at = coalesce(sent_at, ?1)")?
                        .execute([now.unix_ms()])?;
                }
                begin_epoch(&transaction, epoch, life, now)?;
                *actor = fresh_actor(&options.device_key, entropy);
                *has_sent = false;
                noticed.new_epoch = true;
            }
            if *is_unchecked || noticed.new_epoch {
                check_whole(&transaction, &options.database)?;
                *is_unchecked = false;
            }
            let version = schema::version(&transaction)?;
            let watched = schema.version == state.schema_version || rebuilding.is_some();
            if version != schema.version || noticed.new_epoch || state.schema_version < 0 {
                *schema = Arc::new(schema_of(&transaction, &options.excluded_tables)?);
            }
            if version != state.schema_version
                && watched
                && is_rebuilding(&transaction, schema, &options.excluded_tables)?
            {
                let (seen, since) = rebuilding
                    .filter(|(seen, _)| *seen == version)
                    .unwrap_or((version, now.unix_ms()));
                *rebuilding = Some((seen, since));
                let waited = now.unix_ms().saturating_sub(since);
                if u64::try_from(waited)
                    .is_ok_and(|waited| u128::from(waited) < options.rebuilding_within.as_millis())
                {
                    return Err(EngineError::Rebuilding(options.database.clone()).into());
                }
            }
            *rebuilding = None;
            enable_triggers_of(&transaction, schema)?;
            let mut session = Session::new(&transaction, Arc::clone(schema), actor, prose, now);
            let follows = version != state.schema_version || *is_other_choice;
            let rebuilt = if follows {
                session.follow_schema(&options.excluded_tables)?
            } else {
                BTreeSet::new()
            };
            let mut captured = session.drain()?;
            captured.extend(session.compare_tables(&rebuilt)?);
            if follows {
                session.learn_renamings()?;
            }
            let done = work(&mut session)?;
            session.note_derived()?;
            session.end_own_writes()?;
            session.pack_histories()?;
            if let Some(cause) = session.new_epoch_cause {
                entropy(epoch.as_mut_slice());
                begin_epoch(&transaction, epoch, cause, now)?;
                noticed.new_epoch = true;
            }
            noticed.rows = captured.len();
            let end = session.log_end();
            let new_schema = Arc::clone(&session.schema);
            *spent = session.close();
            if follows {
                transaction
                    .prepare_cached("UPDATE sync_state SET schema_version = ?1")?
                    .execute([new_schema.version])?;
            }
            transaction.commit()?;
            *schema = new_schema;
            *is_other_choice = false;
            let end = match end {
                Some(end) => end,
                None if noticed.new_epoch => log::end(connection)?,
                None => *anchor,
            };
            if end != *anchor || noticed.new_epoch {
                *anchor = end;
                remembered.save(end, epoch);
                Anchor::of_epoch(&options.anchors, epoch).save(end, epoch);
            }
            Ok((done, noticed))
        };
        run().map_err(|error| EngineError::of_session(error, &options.database))
    }

    pub(crate) fn read<T>(
        &mut self,
        work: impl FnOnce(&Connection, &Schema) -> Result<T, SessionError>,
    ) -> Result<T, EngineError> {
        let Self { connection, options, schema, .. } = self;
        let run = || -> Result<T, SessionError> {
            let reading = connection.unchecked_transaction()?;
            work(&reading, schema)
        };
        run().map_err(|error| EngineError::of_session(error, &options.database))
    }

    /// Looks at rows by the rules a transaction would go by, and writes nothing.
    pub(crate) fn look<T>(
        &mut self,
        now: Stamp,
        work: impl FnOnce(&mut Session<'_>) -> Result<T, SessionError>,
    ) -> Result<T, EngineError> {
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
        data_version(&self.connection)
            .map_err(|error| EngineError::of_sqlite(error, &self.options.database))
    }

    /// Turns what the app wrote into changes. Writes nothing when it wrote nothing.
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

    /// What the last transaction had in hand and nobody needs any more. The next one drops it where
    /// it was not taken: a caller with another thread drops it there, beside the next work.
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

    /// Where the log ended when this Engine last looked or wrote.
    #[must_use]
    pub fn log_end(&self) -> i64 {
        self.anchor.seq
    }

    pub(crate) fn epoch_bytes(&self) -> Epoch {
        self.epoch
    }

    /// The epoch of this log.
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

    /// What becomes, from now on, of clashes in rows that clients without automerge push.
    pub fn decide_pushed_clashes(&mut self, rule: PushedClashes) {
        self.pushed_clashes = rule;
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

/// Our own writes pass by the triggers that capture the app's, and fire those of anybody else.
/// Where all are ours none is fired: a statement without triggers needs no journal of its own,
/// which makes a first sync a tenth shorter.
fn enable_triggers_of(connection: &Connection, schema: &Schema) -> rusqlite::Result<()> {
    // Changing it has every statement planned anew.
    if connection.db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER)?
        != schema.has_foreign_triggers
    {
        connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, schema.has_foreign_triggers)?;
    }
    Ok(())
}

/// Whether our triggers stand on other tables than those that are in sync. A file that was put
/// there from outside is looked through before anything is written to it. Costs reading the file
/// once.
fn check_whole(connection: &Connection, path: &Path) -> Result<(), SessionError> {
    match backup::quick_check(connection)? {
        None => Ok(()),
        Some(complaint) => Err(EngineError::Damaged { path: path.to_owned(), complaint }.into()),
    }
}

/// Whether a table that held rows is missing, or holds none.
fn is_rebuilding(
    connection: &Connection,
    schema: &Schema,
    excluded: &[String],
) -> Result<bool, SessionError> {
    for name in
        rows::tables_with_columns(connection)?.into_iter().filter(|name| !excluded.contains(name))
    {
        let Some(id) = rows::find_table(connection, &name)? else { continue };
        let is_empty = match schema.table(&name) {
            Some(table) => app_rows::is_empty(connection, table)?,
            None => true,
        };
        if is_empty && rows::count_present(connection, id)? > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_other_choice(connection: &Connection, schema: &Schema) -> rusqlite::Result<bool> {
    let mut list = connection.prepare(
        "SELECT DISTINCT tbl_name FROM sqlite_schema WHERE type = \
        'trigger' AND instr(name, ?1) = 1",
    )?;
    let standing: BTreeSet<String> =
        list.query_map([triggers::PREFIX], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let wanted: BTreeSet<String> = schema.tables().map(|table| table.sql_name.clone()).collect();
    Ok(standing != wanted)
}

fn fresh_actor(device_key: &DeviceKey, entropy: &mut Entropy) -> Actor {
    let mut run = [0; ACTOR_RUN_BYTES];
    entropy(&mut run);
    Actor::of_device(device_key, run)
}
