//! Short-lived keys others seal their requests to, and the windows that refuse replays. In memory
//! only: what was sealed to a prekey can't be opened once it is gone.
//!
//! A prekey that was asked for and not used costs nothing: it follows from a secret of this process
//! and its own name. So whoever repeats recorded requests for prekeys pushes nobody's out.

use std::collections::{HashMap, VecDeque};

use hkdf::Hkdf;
use rand_core::CryptoRng;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::agreement::AgreementKey;
use super::identity::{DeviceId, Secret};

/// How long a prekey is used at most, in milliseconds.
pub const PREKEY_LIFETIME_MS: u64 = 15 * 60 * 1000;
/// How many requests a prekey serves.
pub const PREKEY_REQUESTS_MAX: u64 = 1_000;
/// How many prekeys one device may have used at a time: each of its processes has one.
pub const PREKEYS_PER_DEVICE_MAX: usize = 256;
/// How long a secret makes new prekeys, in milliseconds; it opens until the last of them is too
/// old.
const MASTER_LIFETIME_MS: u64 = 60 * 1000;
/// Secrets kept at once.
const MASTERS_MAX: usize = 256;
/// How many requests for a prekey are remembered, so that none of the latest is answered twice.
const ASKED_MAX: usize = 1_024;
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

/// A secret prekeys follow from.
struct Master {
    number: u64,
    made_ms: u64,
    secret: Secret,
}

impl Master {
    fn derive<const N: usize>(
        &self,
        label: &[u8],
        owner: &DeviceId,
        name: &[u8],
    ) -> Zeroizing<[u8; N]> {
        let info = [label, owner.as_str().as_bytes(), &[0], name].concat();
        let mut bytes = Zeroizing::new([0; N]);
        // HKDF fails only for outputs over 255 hashes (RFC 5869 §2.3); these are one at most.
        let _ = Hkdf::<Sha256>::new(None, self.secret.expose()).expand(&info, bytes.as_mut());
        bytes
    }

    /// The name of a prekey: random, and a mark by which this process knows its own.
    fn kid(&self, owner: &DeviceId, random: u32) -> u64 {
        let mark = self.derive::<4>(b"storysync/1 kid\0", owner, &random.to_be_bytes());
        (u64::from(random) << 32) | u64::from(u32::from_be_bytes(*mark))
    }

    fn prekey(&self, owner: &DeviceId, kid: u64) -> AgreementKey {
        AgreementKey::from_bytes(*self.derive::<32>(
            b"storysync/1 prekey\0",
            owner,
            &kid.to_be_bytes(),
        ))
    }

    fn is_fresh(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.made_ms) < PREKEY_LIFETIME_MS
    }
}

/// What was seen under a prekey. Kept until the prekey is too old to be opened: forgotten earlier,
/// it would let everything be replayed.
struct Used {
    owner: DeviceId,
    key: AgreementKey,
    made_ms: u64,
    served: u64,
    highest: u64,
    seen: u64,
}

impl Used {
    /// Whether a request with this number was seen, or is too old to tell.
    fn lags(&self, seq: u64) -> bool {
        self.highest
            .checked_sub(seq)
            .is_some_and(|lag| lag >= WINDOW || self.seen & (1 << lag) != 0)
    }

    fn mark(&mut self, seq: u64) -> Result<(), PrekeyRefusal> {
        if seq == 0 {
            return Err(PrekeyRefusal::Replayed);
        }
        if seq > self.highest {
            let shift = seq - self.highest;
            self.seen = if shift >= WINDOW { 0 } else { self.seen << shift };
            self.seen |= 1;
            self.highest = seq;
        } else if self.lags(seq) {
            return Err(PrekeyRefusal::Replayed);
        } else {
            self.seen |= 1 << (self.highest - seq);
        }
        self.served += 1;
        Ok(())
    }
}

/// All prekeys of this process.
#[derive(Default)]
pub struct Prekeys {
    masters: Vec<Master>,
    masters_made: u64,
    used: HashMap<u64, Used>,
    /// Which secrets say nothing any more for a device: those made before it was sent away or
    /// paired anew.
    barred: HashMap<DeviceId, u64>,
    asked: VecDeque<[u8; 32]>,
}

impl std::fmt::Debug for Prekeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prekeys").field("used", &self.used.len()).finish_non_exhaustive()
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
    /// Makes a prekey for one process of a device.
    pub fn issue(
        &mut self,
        owner: &DeviceId,
        now_ms: u64,
        rng: &mut impl CryptoRng,
    ) -> PublicPrekey {
        self.masters.retain(|master| master.is_fresh(now_ms));
        self.used.retain(|_, used| now_ms.saturating_sub(used.made_ms) < PREKEY_LIFETIME_MS);
        let barred = self.barred.get(owner).copied().unwrap_or(0);
        let is_current = |master: &Master| {
            master.number >= barred && now_ms.saturating_sub(master.made_ms) < MASTER_LIFETIME_MS
        };
        if !self.masters.last().is_some_and(is_current) {
            if self.masters.len() == MASTERS_MAX {
                self.masters.remove(0);
            }
            self.masters.push(Master {
                number: self.masters_made,
                made_ms: now_ms,
                secret: Secret::random(rng),
            });
            self.masters_made += 1;
        }
        let mut random = [0; 4];
        rng.fill_bytes(&mut random);
        // 0 names the static key, and a kid of 0 can't be told from it.
        let random = u32::from_be_bytes(random).max(1);
        let Some(master) = self.masters.last() else {
            return PublicPrekey { kid: 0, key: [0; 32] };
        };
        let kid = master.kid(owner, random);
        PublicPrekey { kid, key: master.prekey(owner, kid).public() }
    }

    fn master_of(&self, kid: u64, owner: &DeviceId, now_ms: u64) -> Option<&Master> {
        let random = u32::try_from(kid >> 32).ok()?;
        let barred = self.barred.get(owner).copied().unwrap_or(0);
        self.masters.iter().rev().find(|master| {
            master.number >= barred && master.is_fresh(now_ms) && master.kid(owner, random) == kid
        })
    }

    /// The secret a request of `owner` under `kid` is sealed to.
    ///
    /// # Errors
    /// When the prekey is unknown, worn out or another device's; or a request under it was seen
    /// before.
    pub fn secret(
        &self,
        kid: u64,
        seq: u64,
        owner: &DeviceId,
        now_ms: u64,
    ) -> Result<AgreementKey, PrekeyRefusal> {
        let master = self.master_of(kid, owner, now_ms).ok_or(PrekeyRefusal::Unknown)?;
        let used = self.used.get(&kid);
        match used {
            Some(used) if used.owner != *owner || used.served >= PREKEY_REQUESTS_MAX => {
                return Err(PrekeyRefusal::Unknown);
            }
            Some(used) if used.lags(seq) => return Err(PrekeyRefusal::Replayed),
            Some(_) => {}
            None if self.used.values().filter(|used| used.owner == *owner).count()
                >= PREKEYS_PER_DEVICE_MAX =>
            {
                return Err(PrekeyRefusal::Unknown);
            }
            None => {}
        }
        Ok(used.map_or_else(|| master.prekey(owner, kid), |used| used.key.clone()))
    }

    /// Marks a request as seen. Call only after everything about it was verified, so that a forger
    /// can't burn sequence numbers.
    ///
    /// # Errors
    /// When it was seen before, or lags too far behind to tell.
    pub fn mark(
        &mut self,
        kid: u64,
        seq: u64,
        owner: &DeviceId,
        now_ms: u64,
    ) -> Result<(), PrekeyRefusal> {
        let master = self.master_of(kid, owner, now_ms).ok_or(PrekeyRefusal::Unknown)?;
        let (key, made_ms) = (
            self.used.get(&kid).map_or_else(|| master.prekey(owner, kid), |used| used.key.clone()),
            master.made_ms,
        );
        let used = self.used.entry(kid).or_insert_with(|| Used {
            owner: owner.clone(),
            key,
            made_ms,
            served: 0,
            highest: 0,
            seen: 0,
        });
        if used.owner == *owner { used.mark(seq) } else { Err(PrekeyRefusal::Unknown) }
    }

    /// Marks a request for a prekey as seen: those are sealed to the long-term key, and would
    /// otherwise be answered as often as somebody repeats a recording. Call only after everything
    /// about it was verified.
    ///
    /// # Errors
    /// When it was seen before.
    pub fn mark_asked(&mut self, transcript: &[u8; 32]) -> Result<(), PrekeyRefusal> {
        if self.asked.contains(transcript) {
            return Err(PrekeyRefusal::Replayed);
        }
        if self.asked.len() == ASKED_MAX {
            self.asked.pop_front();
        }
        self.asked.push_back(*transcript);
        Ok(())
    }

    /// Forgets every prekey of a device.
    pub fn forget(&mut self, owner: &DeviceId) {
        self.used.retain(|_, used| used.owner != *owner);
        self.barred.insert(owner.clone(), self.masters_made);
    }
}
