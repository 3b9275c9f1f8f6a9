//! Tokens devices send us: found by their hash, replaced every thirty days. A token only routes and
//! revokes; by itself it opens nothing.

use rand_core::CryptoRng;
use rusqlite::params;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{TrustError, TrustStore, TrustedDevice};
use crate::trust::identity::{DeviceId, Secret};

/// How long a token is used before it gets a successor, in milliseconds: thirty days.
pub const TOKEN_LIFETIME_MS: i64 = 30 * 24 * 60 * 60 * 1000;
/// How long a successor that was told and never used stands before another is made, in
/// milliseconds: the answer that told it may have been lost, or another process of the device may
/// be about to use it.
const SUCCESSOR_WITHIN_MS: i64 = 24 * 60 * 60 * 1000;

/// Whose token it is.
#[derive(Debug)]
pub struct FoundByToken {
    /// The device.
    pub device: TrustedDevice,
    /// Whether it is the successor of the token in use.
    pub is_successor: bool,
}

impl TrustStore {
    /// The active device that owns a token. Nothing is proven by it yet.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn find_by_token(&self, token: &[u8]) -> Result<Option<FoundByToken>, TrustError> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        let known = self.known()?;
        let is =
            |stored: Option<[u8; 32]>| stored.is_some_and(|stored| bool::from(stored.ct_eq(&hash)));
        let owner = known
            .devices
            .iter()
            .find(|known| is(known.next_token_hash) || is(known.token_hash))
            .filter(|known| known.device.is_active());
        Ok(owner.map(|known| FoundByToken {
            device: known.device.clone(),
            is_successor: is(known.next_token_hash),
        }))
    }

    /// A device used its new token, and everything about that request was verified: the old one is
    /// void.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn promote_token(&self, device_id: &DeviceId) -> Result<(), TrustError> {
        self.lock()
            .prepare_cached(
                "UPDATE trust_device SET token_hash = next_token_hash, token_made_at = \
                    next_token_made_at, next_token_hash = NULL, next_token_made_at = NULL \
                 WHERE device_id = ?1 AND next_token_hash IS NOT NULL",
            )?
            .execute([device_id.as_str()])?;
        Ok(())
    }

    /// The successor to tell a device whose token has grown old; `None` while it has not, or one
    /// was told lately.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn successor_token(
        &self,
        device_id: &DeviceId,
        now_ms: i64,
        rng: &mut impl CryptoRng,
    ) -> Result<Option<Secret>, TrustError> {
        let token = Secret::random(rng);
        let hash: [u8; 32] = Sha256::digest(token.expose()).into();
        let changed = self
            .lock()
            .prepare_cached(
                "UPDATE trust_device SET next_token_hash = ?2, next_token_made_at = ?3 WHERE \
                    device_id = ?1 AND token_hash IS NOT NULL \
                 AND token_made_at <= ?3 - ?4 AND (next_token_made_at IS NULL OR \
                 next_token_made_at <= ?3 - ?5)",
            )?
            .execute(params![
                device_id.as_str(),
                hash,
                now_ms,
                TOKEN_LIFETIME_MS,
                SUCCESSOR_WITHIN_MS
            ])?;
        Ok((changed > 0).then_some(token))
    }

    /// A device turned out to read sealed tokens: none is sent to it in the clear any more.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn note_reads_sealed_token(&self, device: &TrustedDevice) -> Result<(), TrustError> {
        if !device.reads_sealed_token {
            self.lock()
                .prepare_cached(
                    "UPDATE trust_device SET reads_sealed_token = 1 WHERE device_id = ?1",
                )?
                .execute([device.device_id.as_str()])?;
        }
        Ok(())
    }

    /// A device gave us a new token to send it.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn take_token(&self, device_id: &DeviceId, token: &Secret) -> Result<(), TrustError> {
        self.lock()
            .prepare_cached(
                "UPDATE trust_device SET token = ?2 WHERE device_id = ?1 AND token IS NOT NULL",
            )?
            .execute(params![device_id.as_str(), token.expose()])?;
        Ok(())
    }
}
