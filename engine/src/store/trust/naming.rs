//! What devices are called, here and by themselves.

use super::events::EventKind;
use super::{TrustError, TrustStore, TrustedDevice};
use crate::trust::identity::DeviceId;
use crate::trust::pairing::{clean_name, name_without_number, numbered_name};
use rusqlite::{OptionalExtension, params};

/// Setting under which the name is remembered that a person chose for this device.
pub const NAME_SETTING: &str = "name";

/// Setting under which it is remembered what this device is called, chosen or not.
pub(super) const OWN_NAME_SETTING: &str = "own_name";

impl TrustStore {
    /// The device a person means: by id, by the start of its id, or by name.
    ///
    /// # Errors
    /// When none or several fit.
    pub fn find_by_words(&self, words: &str) -> Result<TrustedDevice, TrustError> {
        let devices = self.devices()?;
        let exact = devices.iter().position(|device| device.device_id.as_str() == words);
        let fitting: Vec<usize> = match exact {
            Some(position) => vec![position],
            None => (0..devices.len())
                .filter(|position| {
                    devices.get(*position).is_some_and(|device| {
                        device.name == words || device.device_id.as_str().starts_with(words)
                    })
                })
                .collect(),
        };
        // Several that call themselves so: the number is what tells them apart.
        let alike: Vec<usize> = (0..devices.len())
            .filter(|position| {
                exact.is_none()
                    && devices
                        .get(*position)
                        .is_some_and(|device| name_without_number(&device.name) == words)
            })
            .collect();
        let fitting = if fitting.is_empty() { alike } else { fitting };
        match fitting.as_slice() {
            [position] => devices
                .into_iter()
                .nth(*position)
                .ok_or_else(|| TrustError::NoSuchDevice(words.to_owned())),
            [] => Err(TrustError::NoSuchDevice(words.to_owned())),
            several => {
                let told = |device: &TrustedDevice| {
                    if device.name == words {
                        device.device_id.to_string()
                    } else {
                        format!("{} ({})", device.device_id, device.name)
                    }
                };
                let ids = several
                    .iter()
                    .filter_map(|position| devices.get(*position).map(told))
                    .collect();
                Err(TrustError::SeveralDevices { words: words.to_owned(), ids })
            }
        }
    }

    /// Notes what this device is called, so that no other is called the same here.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn note_own_name(&self, name: &str) -> Result<(), TrustError> {
        if self.setting(OWN_NAME_SETTING)?.as_deref() == Some(name) {
            Ok(())
        } else {
            self.set_setting(OWN_NAME_SETTING, name)
        }
    }

    /// What a device is called here that calls itself `name`: with a number behind it where another
    /// is called so. What it was called before, it stays.
    pub(super) fn name_here(&self, device_id: &DeviceId, name: &str) -> Result<String, TrustError> {
        let devices = self.devices()?;
        let mut taken: Vec<String> = devices
            .iter()
            .filter(|device| device.device_id != *device_id)
            .map(|device| device.name.clone())
            .collect();
        taken.extend(self.setting(OWN_NAME_SETTING)?);
        let name = clean_name(name);
        let before = devices
            .into_iter()
            .find(|device| device.device_id == *device_id)
            .map(|device| device.name);
        Ok(before
            .filter(|before| name_without_number(before) == name && !taken.contains(before))
            .unwrap_or_else(|| numbered_name(&name, &taken)))
    }

    /// Notes what a device calls itself now. `true` when that is news.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn note_name(
        &self,
        device_id: &DeviceId,
        name: &str,
        now_ms: i64,
    ) -> Result<bool, TrustError> {
        let Some(known) = self.find(device_id)? else { return Ok(false) };
        if known.own_name.is_some() {
            return self.note_own_name_of(&known, name);
        }
        if known.name == name {
            return Ok(false);
        }
        let name = self.name_here(device_id, name)?;
        let changed = self
            .lock()
            .prepare_cached(
                "UPDATE trust_device SET name = ?2 WHERE device_id = ?1 AND name <> ?2",
            )?
            .execute([device_id.as_str(), &name])?;
        if changed > 0 {
            self.note_event(EventKind::Rename, Some(device_id), "it has another name", now_ms)?;
        }
        Ok(changed > 0)
    }

    /// A device the person here calls something else has another name: it is called so once they
    /// no longer do. Changes nothing anybody sees.
    fn note_own_name_of(&self, device: &TrustedDevice, name: &str) -> Result<bool, TrustError> {
        let name = clean_name(name);
        if device.own_name.as_ref() != Some(&name) {
            self.lock()
                .prepare_cached("UPDATE trust_device SET own_name = ?2 WHERE device_id = ?1")?
                .execute([device.device_id.as_str(), &name])?;
        }
        Ok(false)
    }

    /// The person here calls a device something, whatever it calls itself; with an empty name, as
    /// it calls itself again. Returns what it is called: with a number behind it where another is
    /// called so.
    ///
    /// # Errors
    /// When it is not paired, or SQLite fails.
    pub fn call_device(
        &self,
        device_id: &DeviceId,
        name: &str,
        now_ms: i64,
    ) -> Result<String, TrustError> {
        let known = self.find(device_id)?.filter(TrustedDevice::is_active);
        let known = known.ok_or_else(|| TrustError::NoSuchDevice(device_id.to_string()))?;
        let own = known.own_name.clone().unwrap_or_else(|| known.name.clone());
        let is_its_own = name.trim().is_empty() || clean_name(name) == own;
        let name = self.name_here(device_id, if is_its_own { &own } else { name })?;
        self.lock()
            .prepare_cached(
                "UPDATE trust_device SET name = ?2, own_name = ?3 WHERE device_id = ?1",
            )?
            .execute(params![device_id.as_str(), name, (!is_its_own).then_some(own)])?;
        if name != known.name {
            let words = "the person here calls it something else";
            self.note_event(EventKind::Rename, Some(device_id), words, now_ms)?;
        }
        Ok(name)
    }

    /// A setting that survives restarts.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn setting(&self, name: &str) -> Result<Option<String>, TrustError> {
        Ok(self
            .lock()
            .prepare_cached("SELECT value FROM trust_setting WHERE name = ?1")?
            .query_row([name], |row| row.get(0))
            .optional()?)
    }

    /// Changes a setting.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn set_setting(&self, name: &str, value: &str) -> Result<(), TrustError> {
        self.lock()
            .prepare_cached(
                "INSERT INTO trust_setting (name, value) VALUES (?1, ?2) ON CONFLICT \
                (name) DO UPDATE SET value = ?2",
            )?
            .execute([name, value])?;
        Ok(())
    }
}
