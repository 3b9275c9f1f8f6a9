//! What all handlers of one serving node share.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use getrandom::SysRng;
use rand_core::UnwrapErr;
use storysync_crdt::Stamp;

use super::handle::EngineHandle;
use crate::store::peers::MirroredDevice;
use crate::store::trust::{TrustError, TrustStore};
use crate::trust::identity::{Identity, Secret};
use crate::trust::pairing::{Approval, PairingWindow};
use crate::trust::prekey::Prekeys;

/// The system's random numbers.
#[must_use]
pub fn system_rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

/// Unix time in milliseconds.
#[must_use]
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The time as the Engine takes it.
#[must_use]
pub fn now() -> Stamp {
    Stamp::from_unix_ms(i64::try_from(now_ms()).unwrap_or(i64::MAX))
}

/// One serving node.
#[derive(Debug)]
pub struct NodeState {
    /// The Engine.
    pub engine: EngineHandle,
    /// Who is trusted.
    pub trust: TrustStore,
    /// Our keys.
    pub identity: Identity,
    /// What we are called.
    pub name: String,
    /// Where the LAN listener is bound.
    pub lan_ip: IpAddr,
    /// The port of the LAN listener.
    pub lan_port: u16,
    /// Whether pairing wants a code typed here.
    pub approval: Approval,
    /// What the loopback listener asks for.
    pub admin_token: Secret,
    /// Whether the last look at the app's file succeeded.
    pub database_connected: AtomicBool,
    pub(super) prekeys: Mutex<Prekeys>,
    pub(super) pairing: Mutex<Option<PairingWindow>>,
    pub(super) pairing_alarm: Mutex<Option<String>>,
}

/// A poisoned lock guards plain data that is consistent between statements.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl NodeState {
    /// A node that serves.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "one call, from the assembly of the node")]
    pub fn new(
        engine: EngineHandle,
        trust: TrustStore,
        identity: Identity,
        name: String,
        lan_ip: IpAddr,
        lan_port: u16,
        approval: Approval,
        admin_token: Secret,
    ) -> Self {
        Self {
            engine,
            trust,
            identity,
            name,
            lan_ip,
            lan_port,
            approval,
            admin_token,
            database_connected: AtomicBool::new(true),
            prekeys: Mutex::default(),
            pairing: Mutex::default(),
            pairing_alarm: Mutex::default(),
        }
    }

    /// Opens a pairing window.
    pub fn show_window(&self, window: PairingWindow) {
        *lock(&self.pairing) = Some(window);
    }

    /// `GET /` on both listeners. Waits for nothing.
    #[must_use]
    pub fn health(&self) -> serde_json::Value {
        serde_json::json!({
            "status": "ok",
            "timestamp": now().to_rfc3339(),
            "database_connected": self.database_connected.load(Ordering::Relaxed),
            "version": env!("CARGO_PKG_VERSION"),
        })
    }
}

/// The list of devices as the documented table shows it.
///
/// # Errors
/// When the file of trust can't be read.
pub fn devices_to_mirror(trust: &TrustStore) -> Result<Vec<MirroredDevice>, TrustError> {
    let devices = trust.devices()?;
    Ok(devices
        .into_iter()
        .map(|device| MirroredDevice {
            is_active: device.is_active(),
            device_id: device.device_id.to_string(),
            name: device.name,
            last_sync_at: device.last_sync_at.map(|at| Stamp::from_unix_ms(at).to_table_text()),
            created_at: Stamp::from_unix_ms(device.paired_at).to_table_text(),
        })
        .collect())
}
