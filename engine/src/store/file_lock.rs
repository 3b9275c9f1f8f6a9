//! One node for one file: who serves a database says so where every process of the machine can see
//! it, whatever path it came by.
//!
//! The lock is a file of its own in the folder for temporary files, named after device and inode:
//! an advisory lock on the database itself would take SQLite's away (`howtocorrupt.html`, "POSIX
//! advisory locks"), and the app's folder is not ours to fill.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

/// Most bytes read of what the holder says of itself.
const WORDS_BYTES_MAX: u64 = 4_096;
/// How often the lock is tried while somebody holds it, and the pause in between.
const TRIES: u32 = 5;
const BETWEEN_TRIES: std::time::Duration = std::time::Duration::from_millis(20);

/// Held while a node serves the file.
#[derive(Debug)]
pub struct FileLock {
    _file: File,
}

/// What came of asking for the lock.
#[derive(Debug)]
pub enum Locking {
    /// It is ours.
    Held(FileLock),
    /// Another node serves the file; its data directory, as far as it can be read.
    Other(Option<PathBuf>),
    /// Nothing can be locked here: no such file, or nowhere to write. What serves then is kept
    /// apart by its data directory alone.
    Impossible,
}

#[cfg(unix)]
fn name_of(database: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt as _;
    let found = std::fs::metadata(database).ok()?;
    Some(format!("storysync-{}-{}.lock", found.dev(), found.ino()))
}

#[cfg(not(unix))]
fn name_of(database: &Path) -> Option<String> {
    use sha2::Digest as _;
    let path = std::fs::canonicalize(database).ok()?;
    let digest = sha2::Sha256::digest(path.to_string_lossy().as_bytes());
    Some(format!(
        "storysync-{}.lock",
        digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>()
    ))
}

/// The data directory of the node that serves a file at this moment; `Some(None)` when it can't be
/// read.
#[must_use]
pub fn holder(database: &Path) -> Option<Option<PathBuf>> {
    let path = std::env::temp_dir().join(name_of(database)?);
    let mut file = OpenOptions::new().read(true).open(path).ok()?;
    // Shared, and for a moment: whoever takes the lock meanwhile tries again.
    match fs4::FileExt::try_lock_shared(&file) {
        Err(fs4::TryLockError::WouldBlock) => Some(words_in(&mut file)),
        _ => None,
    }
}

/// Whether the path is that very file, and no way to another one: everybody may put links into a
/// folder for temporary files, and what a link leads to must not be written over.
#[cfg(unix)]
fn is_plainly(path: &Path, file: &File) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let (Ok(there), Ok(opened)) = (std::fs::symlink_metadata(path), file.metadata()) else {
        return false;
    };
    opened.is_file()
        && opened.nlink() == 1
        && (there.dev(), there.ino()) == (opened.dev(), opened.ino())
}

#[cfg(not(unix))]
fn is_plainly(path: &Path, _file: &File) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|there| there.is_file())
}

fn words_in(file: &mut File) -> Option<PathBuf> {
    let mut words = String::new();
    let read = file.take(WORDS_BYTES_MAX).read_to_string(&mut words);
    read.ok().filter(|_| !words.trim().is_empty()).map(|_| PathBuf::from(words.trim()))
}

/// Takes the lock for the node of a data directory. Waits for those that only look.
#[must_use]
pub fn lock(database: &Path, data_dir: &Path) -> Locking {
    for _ in 0..TRIES {
        match try_lock(database, data_dir) {
            Locking::Other(_) => std::thread::sleep(BETWEEN_TRIES),
            locking => return locking,
        }
    }
    try_lock(database, data_dir)
}

fn try_lock(database: &Path, data_dir: &Path) -> Locking {
    let Some(path) = name_of(database).map(|name| std::env::temp_dir().join(name)) else {
        return Locking::Impossible;
    };
    // Another user's file in a folder with the sticky bit can be opened, and must not be created
    // over (`fs.protected_regular`).
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .or_else(|_| OpenOptions::new().read(true).open(&path));
    let opened = opened.or_else(|_| {
        OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path)
    });
    let Ok(mut file) = opened else { return Locking::Impossible };
    if !is_plainly(&path, &file) {
        return Locking::Impossible;
    }
    match fs4::FileExt::try_lock(&file) {
        Ok(()) => {
            // For people only: what fails here takes nothing away from the lock.
            let _told = file
                .set_len(0)
                .and_then(|()| file.write_all(data_dir.to_string_lossy().as_bytes()));
            Locking::Held(FileLock { _file: file })
        }
        Err(fs4::TryLockError::WouldBlock) => Locking::Other(words_in(&mut file)),
        Err(fs4::TryLockError::Error(_)) => Locking::Impossible,
    }
}

#[cfg(all(test, unix))]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_link_in_the_place_of_the_lock_is_not_written_through() {
        let folder = tempfile::TempDir::new().unwrap();
        let (database, letter) = (folder.path().join("app.db"), folder.path().join("letter"));
        std::fs::write(&database, b"a database").unwrap();
        for is_symbolic in [true, false] {
            std::fs::write(&letter, b"years of writing").unwrap();
            let lock_path = std::env::temp_dir().join(name_of(&database).unwrap());
            let _ = std::fs::remove_file(&lock_path);
            let linked = if is_symbolic {
                std::os::unix::fs::symlink(&letter, &lock_path)
            } else {
                std::fs::hard_link(&letter, &lock_path)
            };
            linked.unwrap();
            assert!(matches!(lock(&database, folder.path()), Locking::Impossible));
            assert_eq!(std::fs::read(&letter).unwrap(), b"years of writing");
            std::fs::remove_file(&lock_path).unwrap();
        }
        assert!(matches!(lock(&database, folder.path()), Locking::Held(_)));
    }
}
