//! Whether anybody has written to the app's file: asked on a connection of its own, which waits for
//! nobody. Knows nothing of what was written.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OpenFlags};

/// A moment in the life of the file. Between two equal ones nobody has committed to it, or put
/// another in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMoment {
    /// How many files were followed to this path: versions of two connections can't be compared.
    opened: u64,
    /// `PRAGMA data_version` (documented by SQLite: changes with every commit of another
    /// connection).
    version: i64,
    /// What the system knows of the file: a backup written over it in place may carry the same
    /// version after as many commits.
    modified: Option<SystemTime>,
    length: u64,
}

/// Looks at a file, and takes microseconds for it.
#[derive(Debug)]
pub struct WriteSensor {
    path: PathBuf,
    connection: Option<Connection>,
    inode: u64,
    opened: u64,
}

impl WriteSensor {
    /// Nothing is opened before the first look.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), connection: None, inode: 0, opened: 0 }
    }

    /// Where the file stands now; `None` when that can't be told at once, because somebody is
    /// writing or the file is away.
    pub fn look(&mut self) -> Option<FileMoment> {
        // Before the version: what is written between the two shows with the next look.
        let metadata = std::fs::metadata(&self.path).ok()?;
        let inode = inode_of(&metadata);
        if self.connection.is_none() || inode != self.inode {
            self.connection = open(&self.path).ok();
            self.inode = inode;
            self.opened += 1;
        }
        let version = data_version(self.connection.as_ref()?).ok()?;
        Some(FileMoment {
            opened: self.opened,
            version,
            modified: metadata.modified().ok(),
            length: metadata.len(),
        })
    }
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(Duration::ZERO)?;
    Ok(connection)
}

/// A number that changes when another connection has written to the file.
pub(crate) fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
}

/// Which file stands at a path: another number, another file. 0 where the system doesn't say.
pub(crate) fn inode(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| inode_of(&metadata))
}

#[cfg(unix)]
fn inode_of(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode_of(_metadata: &Metadata) -> u64 {
    0
}
