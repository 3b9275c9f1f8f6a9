//! What can go wrong with the app's file: what happened and, where one sentence can say it, what to
//! do. Which command helps is added by the command line (`cli::advice`).

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::app::backup::BackupError;
use crate::app::schema::Refused;
use crate::store::log::LogError;
use crate::store::migrations::MigrationsError;

/// Why the Engine could not do its work. The transaction that failed was rolled back; what earlier
/// ones committed stays, and [`Self::NotIntactAndWritten`] leaves a migrated file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// There is no such file.
    #[error("there is no database at {}", .0.display())]
    NoSuchFile(PathBuf),
    /// `init` would overwrite something.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// The file is no SQLite database.
    #[error("{} is not an SQLite database", .0.display())]
    NotADatabase(PathBuf),
    /// A node of an earlier version could not read what this one writes.
    #[error("{} is served by a node of an earlier version: stop it, then run this again",
        .0.display())]
    ServedByEarlier(PathBuf),
    /// Somebody else holds the write lock.
    #[error("the database {} is locked by another program; close what is writing to it, or wait, \
        and try again", .0.display())]
    Locked(PathBuf),
    /// The app has dropped tables and is, so it seems, about to fill them again.
    #[error("the app is making its tables in {} anew; try again when it has filled them",
        .0.display())]
    Rebuilding(PathBuf),
    /// We may not write.
    #[error("the database {} or its folder can't be written to; give yourself write permission and \
        try again", .0.display())]
    ReadOnly(PathBuf),
    /// No room.
    #[error("the disk of {} is full; make room and try again, nothing was changed", .0.display())]
    DiskFull(PathBuf),
    /// The file is damaged.
    #[error("the database {} is damaged ({complaint}); restore a backup, nothing was changed",
        path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        complaint: String,
    },
    /// Tables that can't be synced.
    #[error("these tables can't be synced: {}", list(.0))]
    Refused(Vec<Refused>),
    /// After migrating, something was not as it was before; the file was put back.
    #[error("the migration changed what it must not change ({complaint}); the database was put \
        back as it was, the backup is {}", backup.display())]
    NotIntact {
        /// What differs.
        complaint: String,
        /// The backup.
        backup: PathBuf,
    },
    /// After migrating, something was not as it was before, and the app wrote meanwhile.
    #[error("the migration changed what it must not change ({complaint}), and the app has written \
        to the database since; compare it with the backup {}", backup.display())]
    NotIntactAndWritten {
        /// What differs.
        complaint: String,
        /// The backup.
        backup: PathBuf,
    },
    /// No such row.
    #[error("no row of table {table} has the uuid or the name {uuid}")]
    NoSuchRow {
        /// The table.
        table: String,
        /// The uuid.
        uuid: String,
    },
    /// Several rows have this name.
    #[error("several rows of table {table} are called {name}: {}; say which by its uuid",
        rows.join(", "))]
    SeveralRows {
        /// The table.
        table: String,
        /// What was asked for.
        name: String,
        /// Their uuids.
        rows: Vec<String>,
    },
    /// No row is called so.
    #[error("no row has the uuid or the name {0}")]
    NoRowCalled(String),
    /// Several rows are called so, in whatever tables.
    #[error("several rows are called {name}: {}; say which by its uuid", rows.join(", "))]
    SeveralRowsCalled {
        /// What was asked for.
        name: String,
        /// Their tables and uuids.
        rows: Vec<String>,
    },
    /// No such conflict.
    #[error("no open conflict has the id {0}")]
    NoSuchConflict(String),
    /// No such hold.
    #[error("no deletions wait under the id {0}")]
    NoSuchHold(String),
    /// No such change.
    #[error("this row has no change {0}")]
    NoSuchChange(String),
    /// There is nothing to take back.
    #[error("there is nothing to undo: {0}")]
    NothingToUndo(String),
    /// No free value was found for the columns that make the row unique.
    #[error("no other value can be found for {0} by itself")]
    CantRename(String),
    /// The choice would leave the conflict open.
    #[error("that would not end this conflict")]
    StillOpen,
    /// The value can't be taken.
    #[error("{name} can't be that: {reason}")]
    Unfit {
        /// The column. Never its value: errors are logged, and values are story text.
        name: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A message of another device that is not of the protocol.
    #[error("{0} can't be understood; both devices should run the same version of storysync")]
    NotUnderstood(&'static str),
    /// The conflict is about something else.
    #[error("{0} is not part of this conflict")]
    NotInConflict(String),
    /// The file was never migrated.
    #[error("{} has not been prepared for syncing yet", .0.display())]
    NotMigrated(PathBuf),
    /// The backup failed.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// Our tables can't be brought up to date.
    #[error(transparent)]
    Migrations(#[from] MigrationsError),
    /// The log is damaged.
    #[error(transparent)]
    Log(LogError),
    /// A document can't be saved.
    #[error(transparent)]
    Save(#[from] storysync_crdt::SaveError),
    /// Anything else of SQLite's.
    #[error("the database {} can't be used: {source}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// Anything else of the system's.
    #[error("{} can't be used: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

fn list(refused: &[Refused]) -> String {
    refused
        .iter()
        .map(|table| format!("{} ({})", table.table, table.reason))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Failure inside a transaction, before it is known which file it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransactionError {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    Log(LogError),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl From<LogError> for TransactionError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Sqlite(error) => Self::Sqlite(error),
            other => Self::Log(other),
        }
    }
}

impl From<MigrationsError> for TransactionError {
    fn from(error: MigrationsError) -> Self {
        Self::Engine(EngineError::Migrations(error))
    }
}

impl EngineError {
    /// Puts a failure into words, by what SQLite says of it.
    #[must_use]
    pub fn of_sqlite(source: rusqlite::Error, path: &Path) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked(path),
            Some(ErrorCode::NotADatabase) => Self::NotADatabase(path),
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Self::ReadOnly(path),
            Some(ErrorCode::DiskFull) => Self::DiskFull(path),
            Some(ErrorCode::DatabaseCorrupt) => {
                Self::Damaged { path, complaint: source.to_string() }
            }
            Some(ErrorCode::CannotOpen) if !path.exists() => Self::NoSuchFile(path),
            Some(ErrorCode::CannotOpen) => Self::ReadOnly(path),
            _ => Self::Sqlite { path, source },
        }
    }

    pub(crate) fn of_transaction(error: TransactionError, path: &Path) -> Self {
        match error {
            TransactionError::Sqlite(source) => Self::of_sqlite(source, path),
            TransactionError::Log(error) => Self::Log(error),
            TransactionError::Engine(Self::Backup(BackupError::Copy(source))) => {
                Self::of_sqlite(source, path)
            }
            TransactionError::Engine(error) => error,
        }
    }
}
