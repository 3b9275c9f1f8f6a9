//! Opens the app's file: makes it, prepares it, or takes it as it was prepared before.

use super::{Engine, EngineOptions, Entropy, fresh_actor};
use crate::app::profile::Prose;
use crate::app::schema::Schema;
use crate::app::{backup, triggers};
use crate::epoch::read_state;
use crate::error::{EngineError, TransactionError};
use crate::exchange::pages::PAGE_ENTITIES_MAX;
use crate::file_guard::inode;
use crate::migrate::adopt::{MigrationReport, Plan};
use crate::migrate::renaming::schema_of;
use crate::migrate::uninstall::{UninstallReport, uninstall};
use crate::migrate::{install, is_migrated, migrate, read_schema, upgrade};
use crate::receive::PushedConflicts;
use crate::store::anchor::Anchor;
use crate::store::log::{self};
use crate::store::migrations;
use crate::transaction::Spent;
use crate::trust::identity::DeviceId;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use storysync_crdt::Stamp;

/// Pages of the file kept in memory while it is worked on, in KiB: indexes of hundred thousand rows
/// fit into it.
pub(super) const PAGE_CACHE_KIB: i64 = 64 * 1024;

/// Statements kept prepared: a few for each of some hundred tables.
pub(super) const STATEMENTS_CACHED: usize = 1024;

pub(super) fn open_connection(
    path: &Path,
    busy_timeout: Duration,
) -> Result<Connection, EngineError> {
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

pub(super) fn configure(connection: &Connection, busy_timeout: Duration) -> rusqlite::Result<()> {
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

    pub(super) fn init_file(
        options: EngineOptions,
        mut entropy: Entropy,
        now: Stamp,
    ) -> Result<Self, EngineError> {
        let path = options.database.clone();
        let connection =
            Connection::open(&path).map_err(|error| EngineError::of_sqlite(error, &path))?;
        configure(&connection, options.busy_timeout)
            .map_err(|error| EngineError::of_sqlite(error, &path))?;
        let mut create = |connection: &Connection| -> Result<(), TransactionError> {
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
        create(&connection).map_err(|error| EngineError::of_transaction(error, &path))?;
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

    /// Opens a file, preparing it first when needed. `progress` is told (rows done, rows in all).
    ///
    /// ```
    /// # mod desks { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doctests/desks.rs")); }
    /// # use desks::*;
    /// # let folder = tempfile::TempDir::new()?;
    /// # let app = rusqlite::Connection::open(folder.path().join("app.db"))?;
    /// # app.execute_batch("CREATE TABLE note (id INTEGER PRIMARY KEY, title TEXT)")?;
    /// # app.execute("INSERT INTO note (title) VALUES ('Harbour')", [])?;
    /// let options = EngineOptions {
    ///     database: folder.path().join("app.db"),
    ///     backups: folder.path().join("backups"),
    ///     anchors: folder.path().join("anchors"),
    ///     excluded_tables: Vec::new(),
    ///     prose_columns: Vec::new(),
    ///     device_key: [1; 32],
    ///     busy_timeout: Duration::from_secs(1),
    ///     rebuilding_within: Duration::from_secs(4),
    /// };
    /// let entropy = Box::new(|bytes: &mut [u8]| bytes.fill(7)); // A real host asks the system.
    /// let (engine, report) = Engine::open_or_migrate(options, entropy, now(), &mut |_, _| {})?;
    /// assert_eq!((report.tables[0].table.as_str(), report.tables[0].rows), ("note", 1));
    /// assert!(report.backup.is_some_and(|backup| backup.exists()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// See [`EngineError`]; but for [`EngineError::NotIntactAndWritten`], the file is as it was.
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
    /// See [`EngineError`]; but for [`EngineError::NotIntactAndWritten`], the file is as it was.
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
            is_migrated(&connection).map_err(|error| EngineError::of_transaction(error, &path))?;
        let report = if migrated {
            MigrationReport::default()
        } else if read_state(&connection).ok().flatten().is_some() {
            // Taken in by an earlier version of ours: only our own tables have to follow.
            if !may_upgrade() {
                return Err(EngineError::ServedByEarlier(path));
            }
            upgrade(&connection).map_err(|error| EngineError::of_transaction(error, &path))?;
            MigrationReport::default()
        } else {
            migrate(&mut connection, &options, &mut entropy, now, progress)
                .map_err(|error| EngineError::of_transaction(error, &path))?
        };
        Ok((Self::of_connection(connection, options, entropy)?, report))
    }

    /// Takes our triggers and tables out of a file nobody serves, after a backup. What rows show
    /// stays, with the columns they were given; history goes, and what conflicts hold beside what
    /// is shown. The file can be prepared again later: its rows are known by the uuids they have.
    ///
    /// # Errors
    /// When the file is not prepared, no backup can be made, or SQLite fails: nothing changed.
    pub fn uninstall(options: &EngineOptions, now: Stamp) -> Result<UninstallReport, EngineError> {
        let path = &options.database;
        let connection = open_connection(path, options.busy_timeout)?;
        uninstall(&connection, options, now)
            .map_err(|error| EngineError::of_transaction(error, path))
    }

    /// Copies the file into the folder of backups while others go on writing, and checks the copy.
    /// Returns where it is.
    ///
    /// # Errors
    /// When there is no room, or the file is damaged or can't be read.
    pub fn backup(options: &EngineOptions, now: Stamp) -> Result<PathBuf, EngineError> {
        let path = &options.database;
        let connection = open_connection(path, options.busy_timeout)?;
        Ok(backup::create(&connection, path, &options.backups, now)?)
    }

    /// What [`Self::open_or_migrate`] would do. Reads only.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn plan_migration(options: &EngineOptions) -> Result<MigrationReport, EngineError> {
        let path = &options.database;
        let plan = || -> Result<MigrationReport, TransactionError> {
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
        plan().map_err(|error| EngineError::of_transaction(error, path))
    }

    pub(super) fn of_connection(
        connection: Connection,
        options: EngineOptions,
        mut entropy: Entropy,
    ) -> Result<Self, EngineError> {
        let path = options.database.clone();
        let explain = |error| EngineError::of_sqlite(error, &path);
        if !is_migrated(&connection).map_err(|error| EngineError::of_transaction(error, &path))? {
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
            pushed_conflicts: PushedConflicts::StayOpen,
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
}

pub(super) fn is_other_choice(connection: &Connection, schema: &Schema) -> rusqlite::Result<bool> {
    let mut list = connection.prepare(
        "SELECT DISTINCT tbl_name FROM sqlite_schema WHERE type = \
        'trigger' AND instr(name, ?1) = 1",
    )?;
    let standing: BTreeSet<String> =
        list.query_map([triggers::PREFIX], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let wanted: BTreeSet<String> = schema.tables().map(|table| table.sql_name.clone()).collect();
    Ok(standing != wanted)
}

/// Our own writes pass by the triggers that capture the app's, and fire those of anybody else.
/// Where all are ours none is fired: a statement without triggers needs no journal of its own,
/// which makes a first sync a tenth shorter.
pub(super) fn enable_triggers_of(connection: &Connection, schema: &Schema) -> rusqlite::Result<()> {
    // Changing it has every statement planned anew.
    if connection.db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER)?
        != schema.has_foreign_triggers
    {
        connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, schema.has_foreign_triggers)?;
    }
    Ok(())
}
