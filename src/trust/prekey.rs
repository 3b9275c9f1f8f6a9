//! Short-lived keys others seal their requests to, and the windows that refuse replays. In memory only:
//! what was sealed to a prekey can't be opened once it is gone.

use std::collections::HashMap;

use rand_core::CryptoRng;
use x25519_dalek::StaticSecret;

use super::identity::{DeviceId, agreement_public, agreement_random};

/// How long a prekey is used, in milliseconds.
pub const PREKEY_LIFETIME_MS: u64 = 15 * 60 * 1000;
/// How many requests a prekey serves.
pub const PREKEY_REQUESTS_MAX: u64 = 1_000;
/// How many prekeys one device may hold: each of its processes has one.
const PREKEYS_PER_DEVICE_MAX: usize = 8;
/// How far a request may lag behind the newest one under the same key.
const WINDOW: u64 = 64;

/// A prekey as its client learns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicPrekey {
    /// Its name.
    pub kid: u64,
    /// X25519 public key.
    pub key: [u8; 32],
}

struct Prekey {
    owner: DeviceId,
    secret: StaticSecret,
    made_ms: u64,
    served: u64,
    highest: u64,
    seen: u64,
}

impl Prekey {
    fn is_fresh(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.made_ms) < PREKEY_LIFETIME_MS && self.served < PREKEY_REQUESTS_MAX
    }
}

/// All prekeys of this process.
#[derive(Default)]
pub struct Prekeys {
    by_kid: HashMap<u64, Prekey>,
}

impl std::fmt::Debug for Prekeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prekeys").field("count", &self.by_kid.len()).finish()
    }
}

/// Why a request can't be opened with a prekey.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrekeyRefusal {
    /// There is no such prekey (any more): ask for a new one.
    Unknown,
    /// This request was seen before.
    Replayed,
}

impl Prekeys {
    /// Makes a prekey for one process of a device. Where the device holds too many, one that was never
    /// used goes first, so that a replayed status call can't push a working one out.
    pub fn issue(&mut self, owner: &DeviceId, now_ms: u64, rng: &mut impl CryptoRng) -> PublicPrekey {
        self.by_kid.retain(|_, prekey| prekey.is_fresh(now_ms));
        let mut own: Vec<(bool, u64, u64)> =
            self.by_kid.iter().filter(|(_, prekey)| prekey.owner == *owner).map(|(kid, prekey)| (prekey.served > 0, prekey.made_ms, *kid)).collect();
        own.sort_unstable();
        for (_, _, kid) in own.iter().take((own.len() + 1).saturating_sub(PREKEYS_PER_DEVICE_MAX)) {
            self.by_kid.remove(kid);
        }
        let secret = agreement_random(rng);
        let key = agreement_public(&secret);
        let kid = loop {
            let mut bytes = [0; 8];
            rng.fill_bytes(&mut bytes);
            let kid = u64::from_be_bytes(bytes);
            // 0 names the static key.
            if kid != 0 && !self.by_kid.contains_key(&kid) {
                break kid;
            }
        };
        self.by_kid.insert(kid, Prekey { owner: owner.clone(), secret, made_ms: now_ms, served: 0, highest: 0, seen: 0 });
        PublicPrekey { kid, key }
    }

    /// The secret a request of `owner` under `kid` is sealed to.
    ///
    /// # Errors
    /// When the prekey is unknown, worn out or another device's.
    pub fn secret(&self, kid: u64, owner: &DeviceId, now_ms: u64) -> Result<StaticSecret, PrekeyRefusal> {
        self.by_kid
            .get(&kid)
            .filter(|prekey| prekey.owner == *owner && prekey.is_fresh(now_ms))
            .map(|prekey| prekey.secret.clone())
            .ok_or(PrekeyRefusal::Unknown)
    }

    /// Marks a request as seen. Call only after everything about it was verified, so that a forger
    /// can't burn sequence numbers.
    ///
    /// # Errors
    /// When it was seen before, or lags too far behind to tell.
    pub fn mark(&mut self, kid: u64, seq: u64) -> Result<(), PrekeyRefusal> {
        let prekey = self.by_kid.get_mut(&kid).ok_or(PrekeyRefusal::Unknown)?;
        if seq == 0 {
            return Err(PrekeyRefusal::Replayed);
        }
        if seq > prekey.highest {
            let shift = seq - prekey.highest;
            prekey.seen = if shift >= WINDOW { 0 } else { prekey.seen << shift };
            prekey.seen |= 1;
            prekey.highest = seq;
        } else {
            let lag = prekey.highest - seq;
            if lag >= WINDOW || prekey.seen & (1 << lag) != 0 {
                return Err(PrekeyRefusal::Replayed);
            }
            prekey.seen |= 1 << lag;
        }
        prekey.served += 1;
        Ok(())
    }

    /// Forgets every prekey of a device.
    pub fn forget(&mut self, owner: &DeviceId) {
        self.by_kid.retain(|_, prekey| prekey.owner != *owner);
    }
}
