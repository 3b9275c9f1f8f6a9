//! The audit log of trust: who was let in, sent away or refused, and what was decided. Lines never
//! hold a secret or story text, and are bounded in number.

use std::sync::PoisonError;

use rusqlite::params;

use super::{TrustError, TrustStore};
use crate::trust::identity::DeviceId;

/// Lines kept.
pub const EVENTS_MAX: i64 = 5_000;
/// The same thing happening again within this time, in milliseconds, is counted on the line it has
/// already.
const COUNTED_WITHIN_MS: i64 = 10 * 60 * 1000;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// A device was paired.
    Pair,
    /// A device was revoked, or left.
    Revoke,
    /// Something a device, or nobody known, sent was refused.
    Refuse,
    /// Nothing is taken from a device any more.
    Freeze,
    /// A conflict was decided, a deletion approved, an edit taken back.
    Resolve,
    /// Somebody else knew a pairing code.
    Alarm,
    /// A device has another name.
    Rename,
    /// A device's keys are in use from two installations.
    Twice,
    /// Who is an owner, and what was answered to a device that is none.
    Owner,
    /// A device was paused, or goes on.
    Pause,
    /// This device has new keys.
    NewIdentity,
    /// A file was restored, copied or replaced, or two files met for the first time.
    Compare,
}

impl EventKind {
    /// The word in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pair => "pair",
            Self::Revoke => "revoke",
            Self::Refuse => "refuse",
            Self::Freeze => "freeze",
            Self::Resolve => "resolve",
            Self::Alarm => "alarm",
            Self::Rename => "rename",
            Self::Twice => "twice",
            Self::Owner => "owner",
            Self::Pause => "pause",
            Self::NewIdentity => "new-identity",
            Self::Compare => "compare",
        }
    }
}

/// One line.
#[derive(Debug, Clone)]
pub struct Event {
    /// Unix time in ms of the last time.
    pub at: i64,
    /// How often in a row.
    pub times: i64,
    /// What: see [`EventKind::as_str`].
    pub kind: String,
    /// PeerId; empty when nobody knows.
    pub device_id: String,
    /// As it was called then.
    pub device_name: String,
    /// A sentence.
    pub detail: String,
}

impl TrustStore {
    /// Notes that something happened.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn note_event(
        &self,
        kind: EventKind,
        device: Option<&DeviceId>,
        detail: &str,
        now_ms: i64,
    ) -> Result<(), TrustError> {
        let device_id = device.map(DeviceId::as_str).unwrap_or_default();
        let connection = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = connection
            .prepare_cached(
                "UPDATE trust_event SET at = ?1, times = times + 1 WHERE id = (SELECT id FROM \
                    trust_event WHERE kind = ?2 AND device_id = ?3 ORDER BY id DESC LIMIT 1) \
                 AND detail = ?4 AND at >= ?1 - ?5",
            )?
            .execute(params![now_ms, kind.as_str(), device_id, detail, COUNTED_WITHIN_MS])?;
        if counted == 0 {
            connection
                .prepare_cached(
                    "INSERT INTO trust_event (at, times, kind, device_id, device_name, detail) \
                     VALUES (?1, 1, ?2, ?3, coalesce((SELECT name FROM trust_device WHERE \
                     device_id = ?3), ''), ?4)",
                )?
                .execute(params![now_ms, kind.as_str(), device_id, detail])?;
            connection
                .prepare_cached(
                    "DELETE FROM trust_event WHERE id <= (SELECT max(id) FROM trust_event) - ?1",
                )?
                .execute([EVENTS_MAX])?;
        }
        Ok(())
    }

    /// The newest lines, newest first.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn events(&self, limit: i64) -> Result<Vec<Event>, TrustError> {
        let connection = self.lock();
        let mut select = connection.prepare_cached(
            "SELECT at, times, kind, device_id, device_name, detail FROM \
                trust_event ORDER BY at DESC, id DESC LIMIT ?1",
        )?;
        let events = select
            .query_map([limit], |row| {
                Ok(Event {
                    at: row.get(0)?,
                    times: row.get(1)?,
                    kind: row.get(2)?,
                    device_id: row.get(3)?,
                    device_name: row.get(4)?,
                    detail: row.get(5)?,
                })
            })?
            .collect::<Result<_, _>>()?;
        Ok(events)
    }
}
