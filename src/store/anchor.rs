//! Where the log of a file ended when we last wrote to it, remembered in the data directory: a file that was
//! replaced by an older copy while no node ran does not reach there any more.
//!
//! Written after each commit and never flushed: behind the truth it is still right, ahead of it it can't be.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::log::{CHAIN_BYTES, Position};

/// Bytes of a path's hash that name its file.
const NAME_BYTES: usize = 8;

/// The remembered end of one file's log.
#[derive(Debug, Clone)]
pub struct Anchor {
    path: PathBuf,
}

impl Anchor {
    /// That of `database`, kept in `folder`.
    #[must_use]
    pub fn of(folder: &Path, database: &Path) -> Self {
        let whole = std::fs::canonicalize(database).unwrap_or_else(|_| database.to_owned());
        let digest = Sha256::digest(whole.as_os_str().as_encoded_bytes());
        let name: String = digest.iter().take(NAME_BYTES).map(|byte| format!("{byte:02x}")).collect();
        Self { path: folder.join(name) }
    }

    /// The remembered end; `None` when nothing (readable) is remembered.
    #[must_use]
    pub fn load(&self) -> Option<Position> {
        let bytes = std::fs::read(&self.path).ok()?;
        let (seq, chain) = bytes.split_at_checked(8)?;
        let chain: [u8; CHAIN_BYTES] = chain.try_into().ok()?;
        Some(Position { seq: i64::from_be_bytes(seq.try_into().ok()?), chain })
    }

    /// Remembers an end. A failure costs only a later notice, so it is logged and no more.
    pub fn save(&self, end: Position) {
        let mut bytes = end.seq.to_be_bytes().to_vec();
        bytes.extend_from_slice(&end.chain);
        let written = self.path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&self.path, bytes));
        if let Err(error) = written {
            tracing::debug!(%error, "the end of the log could not be remembered in the data directory");
        }
    }
}
