//! Places in a log: a number, and the running hash of everything up to it.

use sha2::{Digest, Sha256};
use storysync_crdt::ChangeHash;

/// Bytes of the running hash kept beside each change.
pub const CHAIN_BYTES: usize = 16;
/// Bytes that name one epoch of a log.
pub const EPOCH_BYTES: usize = 16;

/// The running hash of a log.
pub type Chain = [u8; CHAIN_BYTES];
/// The name of one epoch of a log.
pub type Epoch = [u8; EPOCH_BYTES];

/// How far a log has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Number of the last change, 0 for an empty log.
    pub seq: i64,
    /// Running hash up to and with it.
    pub chain: Chain,
}

impl Position {
    /// Before the first change.
    pub const START: Self = Self { seq: 0, chain: [0; CHAIN_BYTES] };

    /// The end after one more change.
    #[must_use]
    pub fn after(self, hash: &ChangeHash) -> Self {
        let digest = Sha256::new().chain_update(self.chain).chain_update(hash.0).finalize();
        let mut chain = [0; CHAIN_BYTES];
        chain.iter_mut().zip(digest.iter()).for_each(|(to, from)| *to = *from);
        Self { seq: self.seq + 1, chain }
    }
}
