//! The device's secret keys at rest: one file, 0600, in a directory nobody else may enter.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use rand_core::CryptoRng;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::trust::identity::Identity;
use crate::trust::{from_base64url, to_base64url};

const FILE_NAME: &str = "identity.key";
const LOCK_FILE_NAME: &str = "serving.lock";
const FIRST_LINE: &str = "storysync-key-1";

/// The keys can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// Others could read the keys.
    #[error("{} can be read by other users (mode {mode:04o}): if nobody did, run `chmod \
        {wanted:04o} {}`; otherwise delete it and pair all devices again", path.display(),
            path.display())]
    TooOpen {
        /// The file or directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// The mode it should have.
        wanted: u32,
    },
    /// Not a key file.
    #[error("{} is not a storysync key file; restore it from a backup of the data directory, or \
        delete it and pair all devices again", .0.display())]
    Damaged(PathBuf),
    /// The system refused.
    #[error("{} can't be used: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

fn io_error(path: &Path) -> impl FnOnce(std::io::Error) -> KeyFileError {
    let path = path.to_owned();
    move |source| KeyFileError::Io { path, source }
}

/// Makes the data directory, closed to others.
///
/// # Errors
/// When it can't be made.
pub fn prepare_directory(directory: &Path) -> Result<(), KeyFileError> {
    if directory.is_dir() {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory).map_err(io_error(directory))
}

/// Whether the data directory holds keys.
#[must_use]
pub fn exists(directory: &Path) -> bool {
    directory.join(FILE_NAME).exists()
}

/// Loads the device's identity from the data directory, or makes one.
///
/// # Errors
/// When others may read the keys, or they can't be read or written.
pub fn load_or_create(
    directory: &Path,
    rng: &mut impl CryptoRng,
) -> Result<Identity, KeyFileError> {
    prepare_directory(directory)?;
    check_mode(directory, 0o700)?;
    let path = directory.join(FILE_NAME);
    match fs::read_to_string(&path) {
        Ok(text) => {
            check_mode(&path, 0o600)?;
            parse(&Zeroizing::new(text)).ok_or(KeyFileError::Damaged(path))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => create(directory, &path, rng),
        Err(error) => Err(io_error(&path)(error)),
    }
}

/// An id of this installation of the keys: 16 hexadecimal digits that differ in every copy of the
/// data directory, on every machine, and after every boot. Where an earlier one comes back, the
/// keys are in use twice.
#[must_use]
pub fn installation(directory: &Path) -> String {
    let mut digest = Sha256::new().chain_update(b"storysync/1 installation\0");
    for file in ["/etc/machine-id", "/proc/sys/kernel/random/boot_id"] {
        digest.update(fs::read(file).unwrap_or_default());
        digest.update([0]);
    }
    digest.update(place_of(&directory.join(FILE_NAME)));
    digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// What the system numbers a file by: neither the path nor the device it is on, as directories are
/// moved, and sticks plugged in again.
#[cfg(unix)]
fn place_of(path: &Path) -> Vec<u8> {
    fs::metadata(path).map_or_else(
        |_| Vec::new(),
        |metadata| std::os::unix::fs::MetadataExt::ino(&metadata).to_be_bytes().to_vec(),
    )
}

/// Elsewhere a copy on the same machine is not told from what it was copied from.
#[cfg(not(unix))]
fn place_of(_: &Path) -> Vec<u8> {
    Vec::new()
}

/// Held while a node serves from a data directory.
#[derive(Debug)]
pub struct ServingLock {
    _file: fs::File,
}

/// Makes sure that one node at most serves from a data directory; `None` when another does. The
/// system lets go of it when the process ends, however it ends.
///
/// # Errors
/// When the file can't be made.
pub fn lock_serving(directory: &Path) -> Result<Option<ServingLock>, KeyFileError> {
    let path = directory.join(LOCK_FILE_NAME);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(io_error(&path))?;
    match fs4::FileExt::try_lock(&file) {
        Ok(()) => Ok(Some(ServingLock { _file: file })),
        Err(fs4::TryLockError::WouldBlock) => Ok(None),
        Err(fs4::TryLockError::Error(error)) => Err(io_error(&path)(error)),
    }
}

#[cfg(unix)]
fn check_mode(path: &Path, wanted: u32) -> Result<(), KeyFileError> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(path).map_err(io_error(path))?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::TooOpen { path: path.to_owned(), mode, wanted });
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_mode(_path: &Path, _wanted: u32) -> Result<(), KeyFileError> {
    Ok(())
}

fn parse(text: &str) -> Option<Identity> {
    let mut lines = text.lines();
    if lines.next()? != FIRST_LINE {
        return None;
    }
    let seed = Zeroizing::new(from_base64url::<32>(lines.next()?)?);
    let scalar = Zeroizing::new(from_base64url::<32>(lines.next()?)?);
    Some(Identity::from_secrets(&seed, &scalar))
}

fn create(
    directory: &Path,
    path: &Path,
    rng: &mut impl CryptoRng,
) -> Result<Identity, KeyFileError> {
    let identity = Identity::generate(rng);
    let (seed, scalar) = identity.to_secrets();
    let text = Zeroizing::new(format!(
        "{FIRST_LINE}\n{}\n{}\n",
        to_base64url(seed.expose()),
        to_base64url(scalar.expose())
    ));
    match write_private(directory, path, text.as_bytes(), Overwrite::No) {
        Ok(()) => Ok(identity),
        // Another process of ours was faster: its keys are the device's.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let text = Zeroizing::new(fs::read_to_string(path).map_err(io_error(path))?);
            parse(&text).ok_or_else(|| KeyFileError::Damaged(path.to_owned()))
        }
        Err(error) => Err(io_error(path)(error)),
    }
}

/// Whether an existing file may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// Replace it.
    Yes,
    /// Fail with `AlreadyExists`.
    No,
}

/// Writes a file only its owner may read, whole or not at all: a temporary file, synced, then
/// moved.
///
/// # Errors
/// When the system refuses.
pub fn write_private(
    directory: &Path,
    path: &Path,
    content: &[u8],
    overwrite: Overwrite,
) -> std::io::Result<()> {
    let temporary = directory.join(format!(
        ".{}.{}.new",
        path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        std::process::id()
    ));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    let placed = match overwrite {
        Overwrite::Yes => fs::rename(&temporary, path),
        Overwrite::No => fs::hard_link(&temporary, path),
    };
    if overwrite == Overwrite::No || placed.is_err() {
        drop(fs::remove_file(&temporary));
    }
    placed
}
