//! Copies of the app's file: made before anything is changed, verified, never overwritten.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use storysync_crdt::Stamp;

/// Room that must stay free beside a backup, in bytes.
const ROOM_TO_SPARE_BYTES: u64 = 1024 * 1024;
/// Pages copied before other programs get a turn at the file.
const PAGES_PER_STEP: i32 = 4096;
/// How long to wait for a writer between steps, in milliseconds.
const BUSY_WAIT_MS: u64 = 20;
/// How many times to wait for a writer before giving up.
const BUSY_WAITS_MAX: u32 = 400;

/// Why there is no backup. The app's file was not touched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The disk is too full.
    #[error("a backup needs {needed} bytes in {}, and {available} are free", folder.display())]
    NoRoom {
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        available: u64,
        /// Where.
        folder: PathBuf,
    },
    /// The file can't be created.
    #[error("the backup {} can't be written: {source}", path.display())]
    Write {
        /// The backup.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// SQLite could not copy.
    #[error("the backup failed: {0}")]
    Copy(#[from] rusqlite::Error),
    /// The copy is not sound.
    #[error(
        "the database is damaged (integrity check: {0}); restore a good copy first, nothing was \
            changed"
    )]
    Damaged(String),
}

/// Copies the database of `source` into `folder` as `STEM-YYYYMMDDTHHMMSS.ffffffZ.db` and verifies
/// the copy.
///
/// Holds no write lock: SQLite's backup API reads, and starts over when somebody writes meanwhile.
///
/// # Errors
/// See [`BackupError`].
pub fn create(
    source: &Connection,
    database: &Path,
    folder: &Path,
    now: Stamp,
) -> Result<PathBuf, BackupError> {
    let write_error = |path: &Path| {
        let path = path.to_owned();
        move |source| BackupError::Write { path, source }
    };
    fs::create_dir_all(folder).map_err(write_error(folder))?;
    let bytes: i64 = source.query_row(
        "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
        [],
        |row| row.get(0),
    )?;
    let needed = bytes.unsigned_abs() + ROOM_TO_SPARE_BYTES;
    let available = fs4::available_space(folder).map_err(write_error(folder))?;
    if available < needed {
        return Err(BackupError::NoRoom { needed, available, folder: folder.to_owned() });
    }
    let stem = database
        .file_stem()
        .map_or_else(|| "database".to_owned(), |stem| stem.to_string_lossy().into_owned());
    let time: String =
        now.to_rfc3339().chars().filter(|character| !matches!(character, '-' | ':')).collect();
    let path = folder.join(format!("{stem}-{time}.db"));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(&path).map_err(write_error(&path))?;
    let copied = copy(source, &path).and_then(|()| verify(&path));
    if let Err(error) = copied {
        // A backup that is not one must not look like one.
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(path = %path.display(), %error, "an unfinished backup could not be \
                removed");
        }
        return Err(error);
    }
    Ok(path)
}

fn copy(source: &Connection, path: &Path) -> Result<(), BackupError> {
    let mut target = Connection::open(path)?;
    target.pragma_update(None, "synchronous", "NORMAL")?;
    let backup = Backup::new(source, &mut target)?;
    let mut waits = 0;
    loop {
        match backup.step(PAGES_PER_STEP)? {
            StepResult::Done => return Ok(()),
            StepResult::Busy | StepResult::Locked if waits < BUSY_WAITS_MAX => {
                waits += 1;
                std::thread::sleep(std::time::Duration::from_millis(BUSY_WAIT_MS));
            }
            StepResult::Busy | StepResult::Locked => {
                return Err(BackupError::Copy(rusqlite::Error::SqliteFailure(
                    rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
                    None,
                )));
            }
            _ => {}
        }
    }
}

fn verify(path: &Path) -> Result<(), BackupError> {
    let copy = open(path)?;
    match integrity(&copy)? {
        None => Ok(()),
        Some(complaint) => Err(BackupError::Damaged(complaint)),
    }
}

/// Opens a backup for reading.
///
/// # Errors
/// When SQLite can't open it.
pub fn open(path: &Path) -> rusqlite::Result<Connection> {
    Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
}

/// What SQLite's integrity check complains about first; `None` when it is content.
///
/// # Errors
/// When the check can't run.
pub fn integrity(connection: &Connection) -> rusqlite::Result<Option<String>> {
    match complaint(connection, "PRAGMA integrity_check(1)") {
        // An index of a table that is left out uses a function only the app has: the pages are
        // looked at all the same.
        Ok(Checked::Impossible) => quick_check(connection),
        checked => Ok(checked?.complaint()),
    }
}

/// What SQLite's quick check complains about first; `None` when it is content, or needs a collation
/// or function only the app has.
///
/// # Errors
/// When the check can't run.
pub fn quick_check(connection: &Connection) -> rusqlite::Result<Option<String>> {
    Ok(complaint(connection, "PRAGMA quick_check(1)")?.complaint())
}

enum Checked {
    Sound,
    Complaint(String),
    Impossible,
}

impl Checked {
    fn complaint(self) -> Option<String> {
        match self {
            Self::Complaint(complaint) => Some(complaint),
            Self::Sound | Self::Impossible => None,
        }
    }
}

fn complaint(connection: &Connection, check: &str) -> rusqlite::Result<Checked> {
    let needs_the_app = |message: &str| {
        ["unknown function", "no such function", "no such collation"]
            .iter()
            .any(|words| message.contains(words))
    };
    match connection.query_row(check, [], |row| row.get::<_, String>(0)) {
        Ok(verdict) if verdict == "ok" => Ok(Checked::Sound),
        Ok(verdict) => Ok(Checked::Complaint(verdict)),
        Err(error) if needs_the_app(&error.to_string()) => Ok(Checked::Impossible),
        Err(error) => Err(error),
    }
}

/// Puts the content of a backup back into the file it came from.
///
/// # Errors
/// When SQLite can't copy it back.
pub fn restore(backup: &Path, target: &mut Connection) -> Result<(), BackupError> {
    let source = open(backup)?;
    let copying = Backup::new(&source, target)?;
    while !matches!(copying.step(-1)?, StepResult::Done) {
        std::thread::sleep(std::time::Duration::from_millis(BUSY_WAIT_MS));
    }
    Ok(())
}
