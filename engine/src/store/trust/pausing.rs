//! Pausing a device: it stays paired, and nothing is exchanged with it until the person here says
//! so.

use rusqlite::params;

use super::{EventKind, TrustError, TrustStore};
use crate::trust::identity::DeviceId;

/// What the person here wants of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pausing {
    /// It is neither called nor answered.
    Pause,
    /// It syncs again.
    Resume,
}

impl TrustStore {
    /// Pauses a device, or lets it go on. Returns whether it did something else before.
    ///
    /// # Errors
    /// When it is not paired, or SQLite fails.
    pub fn pause(
        &self,
        device_id: &DeviceId,
        pausing: Pausing,
        now_ms: i64,
    ) -> Result<bool, TrustError> {
        let device = self.find(device_id)?.filter(super::TrustedDevice::is_active);
        let device = device.ok_or_else(|| TrustError::NoSuchDevice(device_id.to_string()))?;
        let (since, words) = match pausing {
            Pausing::Pause => (Some(now_ms), "it is paused: nothing is exchanged with it"),
            Pausing::Resume => (None, "it is no longer paused"),
        };
        if device.paused_at.is_some() == since.is_some() {
            return Ok(false);
        }
        self.lock()
            .prepare_cached("UPDATE trust_device SET paused_at = ?2 WHERE device_id = ?1")?
            .execute(params![device_id.as_str(), since])?;
        self.note_event(EventKind::Pause, Some(device_id), words, now_ms)?;
        Ok(true)
    }
}
