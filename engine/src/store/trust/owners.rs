//! Whose word about other devices is carried out: a revocation told by an owner is, any other is a
//! question for the person here. A stolen phone can ask, and sends nobody away but where it showed
//! the first code.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{EventKind, TrustError, TrustStore, TrustedDevice};
use crate::trust::identity::DeviceId;

/// Setting that says that this device is an owner itself: it showed the first code, or a person
/// said so.
const SELF_IS_OWNER_SETTING: &str = "is_owner";

/// What a device does that the person here is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhoIsAskedAbout {
    /// It goes on syncing.
    GoesOn,
    /// Nothing is taken from it, and nothing is asked of it.
    Pauses,
}

/// A device that is no owner says that another is trusted no longer, and nobody has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Who says so.
    pub teller: DeviceId,
    /// Of whom.
    pub device_id: DeviceId,
    /// Unix time in ms when we were told.
    pub asked_at: i64,
}

/// The open questions, the oldest first: about devices that were paired before it was said, by
/// devices that are paired still.
pub(super) fn read_questions(connection: &Connection) -> rusqlite::Result<Vec<Question>> {
    let questions: Vec<(String, String, i64)> = connection
        .prepare_cached(
            "SELECT q.teller, q.device_id, q.asked_at FROM trust_question AS q JOIN trust_device \
             AS d ON d.device_id = q.device_id JOIN trust_device AS t ON t.device_id = q.teller \
             WHERE q.answered_at IS NULL AND d.revoked_at IS NULL AND d.paired_at < q.revoked_at \
             AND t.revoked_at IS NULL ORDER BY q.asked_at, q.teller, q.device_id",
        )?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<_, _>>()?;
    let parse = |(teller, device_id, asked_at): (String, String, i64)| {
        Some(Question {
            teller: DeviceId::parse(&teller)?,
            device_id: DeviceId::parse(&device_id)?,
            asked_at,
        })
    };
    Ok(questions.into_iter().filter_map(parse).collect())
}

impl TrustStore {
    /// Whether this device is an owner.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn is_owner_itself(&self) -> Result<bool, TrustError> {
        Ok(self.setting(SELF_IS_OWNER_SETTING)?.is_some())
    }

    /// A person says that this device is an owner.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn make_owner_itself(&self, now_ms: i64) -> Result<(), TrustError> {
        if !self.is_owner_itself()? {
            self.set_setting(SELF_IS_OWNER_SETTING, "1")?;
            self.note_event(EventKind::Owner, None, "this device is an owner", now_ms)?;
        }
        Ok(())
    }

    /// A person says that another device is an owner: revocations it tells of are carried out here.
    ///
    /// # Errors
    /// When it is not paired, or SQLite fails.
    pub fn make_owner(&self, device_id: &DeviceId, now_ms: i64) -> Result<(), TrustError> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let changed = transaction
            .prepare_cached(
                "UPDATE trust_device SET is_owner = 1 WHERE device_id = ?1 AND revoked_at IS NULL",
            )?
            .execute([device_id.as_str()])?;
        if changed == 0 {
            return Err(TrustError::NoSuchDevice(device_id.to_string()));
        }
        // What was answered stays answered: its word about those devices was heard.
        transaction
            .prepare_cached(
                "INSERT OR IGNORE INTO trust_notice (teller, device_id, revoked_at) SELECT teller, \
                 device_id, revoked_at FROM trust_question WHERE teller = ?1 AND answered_at IS \
                 NOT NULL",
            )?
            .execute([device_id.as_str()])?;
        transaction.commit()?;
        drop(connection);
        self.note_event(EventKind::Owner, Some(device_id), "it is an owner", now_ms)
    }

    /// The first owner: whoever shows the first code is one, here and on the device that scans it.
    /// `shown_by` is the device that showed this code; `None` for this one.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn note_first_owner(
        &self,
        shown_by: Option<&DeviceId>,
        now_ms: i64,
    ) -> Result<(), TrustError> {
        let devices = self.devices()?;
        if self.is_owner_itself()?
            || devices.iter().any(|device| device.is_owner && device.is_active())
        {
            return Ok(());
        }
        // With pairings of before there were owners this code is not the first: whoever shows it
        // now is not on that ground trusted to send the others away.
        let is_first = devices.iter().filter(|device| device.is_active()).count() <= 1;
        match shown_by {
            Some(device_id) if is_first => self.make_owner(device_id, now_ms),
            _ => self.make_owner_itself(now_ms),
        }
    }

    /// Whether a device is the only owner this one knows.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn is_last_owner(&self, device_id: &DeviceId) -> Result<bool, TrustError> {
        let devices = self.devices()?;
        let mut owners = devices.iter().filter(|device| device.is_owner && device.is_active());
        Ok(!self.is_owner_itself()?
            && owners.next().is_some_and(|owner| owner.device_id == *device_id)
            && owners.next().is_none())
    }

    /// From now on a device pauses, or goes on, while the person here has not answered whether it
    /// was lost.
    pub fn go_on_with_who_is_asked_about(&self, who: WhoIsAskedAbout) {
        self.pauses.store(who == WhoIsAskedAbout::Pauses, Ordering::Relaxed);
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What the person here is asked, the oldest first.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn questions(&self) -> Result<Vec<Question>, TrustError> {
        Ok(self.known()?.questions.clone())
    }

    /// Asks the person here about a device, once for each pairing of it and for each that tells:
    /// the time is the teller's to choose. Returns whether it is news.
    pub(super) fn ask(
        &self,
        teller: &DeviceId,
        device: &TrustedDevice,
        revoked_at: i64,
        now_ms: i64,
    ) -> Result<bool, TrustError> {
        let connection = self.lock();
        let asked_at: Option<i64> = connection
            .prepare_cached(
                "SELECT asked_at FROM trust_question WHERE teller = ?1 AND device_id = ?2",
            )?
            .query_row([teller.as_str(), device.device_id.as_str()], |row| row.get(0))
            .optional()?;
        if asked_at.is_some_and(|asked_at| asked_at >= device.paired_at) {
            return Ok(false);
        }
        connection
            .prepare_cached(
                "INSERT OR REPLACE INTO trust_question (teller, device_id, revoked_at, asked_at) \
                 VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![teller.as_str(), device.device_id.as_str(), revoked_at, now_ms])?;
        Ok(true)
    }

    /// The person here says that a device stays, whoever asked.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn keep(&self, device_id: &DeviceId, now_ms: i64) -> Result<(), TrustError> {
        let answered = self
            .lock()
            .prepare_cached(
                "UPDATE trust_question SET answered_at = ?2 WHERE device_id = ?1 AND answered_at \
                 IS NULL",
            )?
            .execute(params![device_id.as_str(), now_ms])?;
        if answered > 0 {
            let words = "it stays paired: somebody here said so";
            self.note_event(EventKind::Owner, Some(device_id), words, now_ms)?;
        }
        Ok(())
    }
}
