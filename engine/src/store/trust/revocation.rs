//! What makes trust end or pause: revocations other devices tell of, keys in use twice, devices
//! that lie, and keys of our own that are gone.

use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};

use super::{EventKind, RevokedBy, TrustError, TrustStore};
use crate::trust::identity::DeviceId;

/// Installations remembered for each device.
const INSTALLATIONS_MAX: usize = 8;
/// Longest name of an installation, in bytes.
const INSTALLATION_BYTES_MAX: usize = 64;
/// Most revocations told at once, the newest.
const REVOCATIONS_TOLD_MAX: i64 = 100;
/// Setting under which it is remembered whose file of trust this is.
pub(super) const OWN_ID_SETTING: &str = "device_id";

/// One device tells another whom it no longer trusts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// PeerId.
    pub device_id: String,
    /// Unix time in ms, by the clock of the device that tells.
    pub revoked_at: i64,
}

/// From where a device's keys are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Installation {
    /// From where they were used last.
    Same,
    /// From somewhere else for the first time: moved, restarted, restored, or copied.
    Other,
    /// From a place that another had taken over from: two of them are in use.
    Twice,
}

/// This device's keys are not those it was paired with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostIdentity {
    /// PeerId it had.
    pub former: DeviceId,
    /// How many pairings went with it.
    pub pairings: i64,
}

/// The newest revocations a person made, here or elsewhere.
pub(super) fn read_revocations(connection: &Connection) -> rusqlite::Result<Vec<Revocation>> {
    connection
        .prepare_cached(
            "SELECT device_id, revoked_at FROM trust_device WHERE revoked_at IS NOT NULL AND \
                revoked_by <> 'itself' \
             ORDER BY revoked_at DESC LIMIT ?1",
        )?
        .query_map([REVOCATIONS_TOLD_MAX], |row| {
            Ok(Revocation { device_id: row.get(0)?, revoked_at: row.get(1)? })
        })?
        .collect()
}

impl TrustStore {
    /// Whom we no longer trust, for the other devices to know: those a person sent away, here or
    /// elsewhere.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn revocations(&self) -> Result<Vec<Revocation>, TrustError> {
        Ok(self.known()?.revocations.clone())
    }

    /// Heeds whom a paired device (`teller`) no longer trusts. On an owner's word, a device that
    /// was paired with us before then is revoked here, too, but only once for each teller: one that
    /// was paired again stays, and an alarm is noted. On any other device's word, the person here
    /// is asked. Returns the devices that were revoked.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn heed(
        &self,
        teller: &DeviceId,
        told: &[Revocation],
        now_ms: i64,
    ) -> Result<Vec<DeviceId>, TrustError> {
        let mut hit = Vec::new();
        let is_owner = self.find(teller)?.is_some_and(|teller| teller.is_owner);
        for revocation in told.iter().take(usize::try_from(REVOCATIONS_TOLD_MAX).unwrap_or(0)) {
            let Some(device_id) = DeviceId::parse(&revocation.device_id).filter(|id| id != teller)
            else {
                continue;
            };
            let Some(device) = self.find(&device_id)? else { continue };
            // A clock that runs ahead says nothing about time to come.
            let revoked_at = revocation.revoked_at.min(now_ms);
            if !device.is_active() || device.paired_at >= revoked_at {
                continue;
            }
            let words = format!("it was revoked on {teller}");
            if !is_owner {
                if self.ask(teller, &device, revoked_at, now_ms)? {
                    let words = format!("{words}, which is no owner: is it lost? It is asked here");
                    self.note_event(EventKind::Alarm, Some(&device_id), &words, now_ms)?;
                }
            } else if self.first_notice(teller, &device_id, revoked_at)? {
                self.note_event(EventKind::Revoke, Some(&device_id), &words, now_ms)?;
                hit.push(device_id);
            } else {
                self.note_event(
                    EventKind::Alarm,
                    Some(&device_id),
                    &format!(
                        "{words} again; it was paired anew or kept here: revoke it here if that is \
                            right"
                    ),
                    now_ms,
                )?;
            }
        }
        Ok(hit)
    }

    /// Revokes a device on the word of another, if that is its first such word about it.
    fn first_notice(
        &self,
        teller: &DeviceId,
        device_id: &DeviceId,
        revoked_at: i64,
    ) -> Result<bool, TrustError> {
        let mut connection = self.lock();
        // Both or neither: what was heeded halfway would never be heeded.
        let transaction = connection.transaction()?;
        let news = transaction
            .prepare_cached(
                "INSERT OR IGNORE INTO trust_notice (teller, \
            device_id, revoked_at) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![teller.as_str(), device_id.as_str(), revoked_at])?;
        if news > 0 {
            // The time it was first said goes on with it: who is paired anew after that must not be
            // hit by an echo.
            super::revoke(&transaction, device_id, RevokedBy::Told(teller), revoked_at)?;
        }
        transaction.commit()?;
        Ok(news > 0)
    }

    /// Notes from which installation a device's keys are used.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn note_installation(
        &self,
        device_id: &DeviceId,
        installation: &str,
        now_ms: i64,
    ) -> Result<Installation, TrustError> {
        if installation.is_empty() || installation.len() > INSTALLATION_BYTES_MAX {
            return Ok(Installation::Same);
        }
        let known: Option<String> = self
            .lock()
            .prepare_cached("SELECT installations FROM trust_device WHERE device_id = ?1")?
            .query_row([device_id.as_str()], |row| row.get(0))
            .optional()?;
        let Some(known) = known else { return Ok(Installation::Same) };
        let mut known: Vec<String> = serde_json::from_str(&known).unwrap_or_default();
        if known.last().is_some_and(|last| last == installation) {
            return Ok(Installation::Same);
        }
        let before = known.len();
        known.retain(|earlier| earlier != installation);
        let twice = known.len() < before;
        known.push(installation.to_owned());
        let surplus = known.len().saturating_sub(INSTALLATIONS_MAX);
        known.drain(..surplus);
        self.lock()
            .prepare_cached(
                "UPDATE trust_device SET installations = ?2, twice_at = CASE WHEN ?3 \
                THEN ?4 ELSE twice_at END WHERE device_id = ?1",
            )?
            .execute(params![
                device_id.as_str(),
                serde_json::Value::from(known).to_string(),
                twice,
                now_ms
            ])?;
        if twice {
            let words = "its keys are in use from two installations: its data directory was \
                copied, or stolen";
            self.note_event(EventKind::Twice, Some(device_id), words, now_ms)?;
        }
        Ok(match (twice, before) {
            (true, _) => Installation::Twice,
            (false, 0) => Installation::Same,
            (false, _) => Installation::Other,
        })
    }

    /// Takes nothing from a device any more, until it is paired again: it sent two different
    /// changes under one name.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn freeze(&self, device_id: &DeviceId, now_ms: i64) -> Result<(), TrustError> {
        let changed = self
            .lock()
            .prepare_cached(
                "UPDATE trust_device SET frozen_at = ?2 WHERE device_id = ?1 AND frozen_at IS NULL",
            )?
            .execute(params![device_id.as_str(), now_ms])?;
        if changed > 0 {
            let words = "it sent two different changes under one name; nothing is taken from it \
                until it is paired again";
            self.note_event(EventKind::Freeze, Some(device_id), words, now_ms)?;
        }
        Ok(())
    }

    /// Checks that this file of trust belongs to the keys this device has. Pairings made with other
    /// keys rest: nobody can prove any more to be that device. Should its keys come back, so do
    /// they.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn settle_identity(&self, own: &DeviceId) -> Result<Option<LostIdentity>, TrustError> {
        let former = self.own_id()?;
        if former.as_ref() == Some(own) {
            return Ok(None);
        }
        let connection = self.lock();
        let pairings = match &former {
            None => 0,
            Some(former) => connection
                .prepare_cached(
                    "SELECT count(*) FROM trust_device WHERE revoked_at IS NULL AND paired_as = ?1",
                )?
                .query_row([former.as_str()], |row| row.get(0))?,
        };
        drop(connection);
        self.set_setting(OWN_ID_SETTING, own.as_str())?;
        Ok(former.map(|former| LostIdentity { former, pairings }))
    }

    /// Whose file of trust this is.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn own_id(&self) -> Result<Option<DeviceId>, TrustError> {
        Ok(self.setting(OWN_ID_SETTING)?.as_deref().and_then(DeviceId::parse))
    }
}
