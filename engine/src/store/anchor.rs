//! Where the log of a file ended when we last wrote to it, and in which epoch, remembered in the
//! data directory: a file that was replaced by an older copy while no node ran does not reach there
//! any more, or is still in the epoch before.
//!
//! Written after each commit and never flushed: behind the truth it is still right, ahead of it it
//! can't be.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::log::{CHAIN_BYTES, EPOCH_BYTES, Epoch, Position};

/// Bytes of a path's hash that name its file.
const NAME_BYTES: usize = 8;

/// What is remembered of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remembered {
    /// Where its log ended.
    pub end: Position,
    /// Which epoch of the log it was; `None` as remembered by versions that did not note it.
    pub epoch: Option<Epoch>,
}

/// The remembered end of one file's log.
#[derive(Debug, Clone)]
pub struct Anchor {
    path: PathBuf,
}

impl Anchor {
    /// The anchor of `database`, kept in `folder`.
    #[must_use]
    pub fn of(folder: &Path, database: &Path) -> Self {
        let whole = std::fs::canonicalize(database).unwrap_or_else(|_| database.to_owned());
        let digest = Sha256::digest(whole.as_os_str().as_encoded_bytes());
        let name: String =
            digest.iter().take(NAME_BYTES).map(|byte| format!("{byte:02x}")).collect();
        Self { path: folder.join(name) }
    }

    /// The anchor of whatever file is in this epoch of the log, kept in `folder`: a backup that is
    /// opened under another path is known by it.
    #[must_use]
    pub fn of_epoch(folder: &Path, epoch: &Epoch) -> Self {
        let name: String = epoch.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { path: folder.join(format!("epoch-{name}")) }
    }

    /// What is remembered; `None` when nothing (readable) is.
    #[must_use]
    pub fn load(&self) -> Option<Remembered> {
        let bytes = std::fs::read(&self.path).ok()?;
        let (seq, rest) = bytes.split_at_checked(8)?;
        let (chain, epoch) = rest.split_at_checked(CHAIN_BYTES)?;
        let end = Position {
            seq: i64::from_be_bytes(seq.try_into().ok()?),
            chain: chain.try_into().ok()?,
        };
        let epoch = if epoch.is_empty() { None } else { Some(epoch.try_into().ok()?) };
        Some(Remembered { end, epoch })
    }

    /// Remembers an end. A failure costs only a later notice, so it is logged and no more.
    pub fn save(&self, end: Position, epoch: &Epoch) {
        let mut bytes = Vec::with_capacity(8 + CHAIN_BYTES + EPOCH_BYTES);
        bytes.extend_from_slice(&end.seq.to_be_bytes());
        bytes.extend_from_slice(&end.chain);
        bytes.extend_from_slice(epoch);
        let written = self
            .path
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| std::fs::write(&self.path, bytes));
        if let Err(error) = written {
            tracing::debug!(%error, "the end of the log could not be remembered in the data \
                directory");
        }
    }
}
