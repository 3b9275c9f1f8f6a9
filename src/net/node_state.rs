//! What all handlers of one serving node share.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;
use getrandom::SysRng;
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use rand_core::UnwrapErr;
use storysync_crdt::{DeviceKey, Stamp};
use tokio::sync::{Notify, watch};

use super::connections::{Connections, Limits, network_of};
use super::current_settings::CurrentSettings;
use super::handle::EngineHandle;
use super::lock;
use super::metrics::Metrics;
use super::port_holder::SERVER;
use super::presence::Presence;
use super::reply::Refusal;
use super::status_cache::ToldStatuses;
use storysync_engine::Receipt;
use storysync_engine::store::peers::MirroredDevice;
use storysync_engine::store::trust::{
    EventKind, NAME_SETTING, TrustError, TrustStore, TrustedDevice,
};
use storysync_engine::trust::identity::{DeviceId, Identity, Secret};
use storysync_engine::trust::pairing::{Approval, PairingWindow, clean_name};
use storysync_engine::trust::prekey::Prekeys;

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

/// Registrations one address may get wrong within a minute.
pub const REGISTRATIONS_FAILED_PER_MINUTE: NonZeroU32 = NonZeroU32::MIN.saturating_add(4);
/// Lines the audit log takes about strangers within an hour.
const STRANGERS_NOTED_PER_HOUR: NonZeroU32 = NonZeroU32::MIN.saturating_add(5);
/// Lines the audit log takes about what one device sent and was refused, within an hour.
const REFUSALS_NOTED_PER_HOUR: NonZeroU32 = NonZeroU32::MIN.saturating_add(29);
/// Addresses kept in mind before those that have been quiet are forgotten.
const ADDRESSES_IN_MIND_MAX: usize = 4_096;

/// How often things may happen, so that nobody floods us or the audit log.
struct Throttles {
    registrations: DefaultKeyedRateLimiter<IpAddr>,
    strangers: DefaultDirectRateLimiter,
    refusals: DefaultKeyedRateLimiter<DeviceId>,
}

impl Default for Throttles {
    fn default() -> Self {
        Self {
            registrations: RateLimiter::keyed(Quota::per_minute(REGISTRATIONS_FAILED_PER_MINUTE)),
            strangers: RateLimiter::direct(Quota::per_hour(STRANGERS_NOTED_PER_HOUR)),
            refusals: RateLimiter::keyed(Quota::per_hour(REFUSALS_NOTED_PER_HOUR)),
        }
    }
}

impl std::fmt::Debug for Throttles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Throttles(…)")
    }
}

/// How a node was started.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// What it was called when it started; [`NodeState::name`] says what it is called now.
    pub name: String,
    /// Where the LAN listener is bound.
    pub lan_ip: IpAddr,
    /// The port of the LAN listener.
    pub lan_port: u16,
    /// Names it may be addressed by, besides its addresses.
    pub host_names: Vec<String>,
    /// What may change while it runs.
    pub current: Arc<CurrentSettings>,
    /// Whether pairing wants a code typed here, unless `current` says something.
    pub approval: Approval,
    /// How long a pairing code can be used, in seconds, unless `current` says something.
    pub pairing_seconds: u64,
    /// Which installation of this device's keys this is.
    pub installation: String,
    /// Whether a person says what this file is to others it meets, before anything is mixed.
    pub asks_at_first_contact: bool,
}

impl NodeSettings {
    /// Whether pairing wants a code typed here, and how long a code can be used, in seconds.
    pub(super) fn pairing(&self) -> (Approval, u64) {
        let settings = self.current.now();
        let config = settings.config();
        let approval = config.pairing_approval.map(|_| config.approval());
        let seconds = config.pairing_seconds.unwrap_or(self.pairing_seconds);
        (approval.unwrap_or(self.approval), seconds)
    }
}

/// One serving node.
#[derive(Debug)]
pub struct NodeState {
    /// The Engine.
    pub engine: EngineHandle,
    /// Who is trusted.
    pub trust: Arc<TrustStore>,
    /// Our keys.
    pub identity: Identity,
    /// How it was started.
    pub settings: NodeSettings,
    /// What the loopback listener asks for.
    pub admin_token: Secret,
    /// Whether the last look at the app's file succeeded.
    pub database_connected: AtomicBool,
    /// Who is connected to the LAN listener.
    pub connections: Arc<Connections>,
    /// Who is around.
    pub presence: Arc<Presence>,
    /// What happened so far, in numbers.
    pub metrics: Arc<Metrics>,
    name: watch::Sender<String>,
    stopping: watch::Sender<bool>,
    end_asked: Notify,
    throttles: Throttles,
    pub(super) admin_link_used: AtomicBool,
    pub(super) prekeys: Mutex<Prekeys>,
    /// What each device was told of this node last.
    pub(super) told_statuses: Mutex<ToldStatuses>,
    pub(super) pairing: Mutex<Option<PairingWindow>>,
    pub(super) pairing_alarm: Mutex<Option<String>>,
}

impl NodeState {
    /// A node that serves what stands in `database`.
    #[must_use]
    pub fn new(
        engine: EngineHandle,
        trust: TrustStore,
        identity: Identity,
        admin_token: Secret,
        database: &Path,
        settings: NodeSettings,
    ) -> Self {
        Self {
            name: watch::Sender::new(settings.name.clone()),
            engine,
            trust: Arc::new(trust),
            identity,
            settings,
            admin_token,
            database_connected: AtomicBool::new(true),
            connections: Connections::new(Limits::LAN),
            presence: Arc::default(),
            metrics: Arc::default(),
            stopping: watch::Sender::new(false),
            end_asked: Notify::new(),
            throttles: Throttles::default(),
            admin_link_used: AtomicBool::new(false),
            prekeys: Mutex::default(),
            told_statuses: Mutex::new(ToldStatuses::of(database)),
            pairing: Mutex::default(),
            pairing_alarm: Mutex::default(),
        }
    }

    /// Turns true once the node is stopping: answers that go on for long end then.
    #[must_use]
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Somebody at this machine wants the node to end.
    pub fn ask_to_end(&self) {
        self.end_asked.notify_one();
    }

    /// Resolves once somebody at this machine wants the node to end.
    pub async fn asked_to_end(&self) {
        self.end_asked.notified().await;
    }

    /// The node is stopping.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// What this device is called.
    #[must_use]
    pub fn name(&self) -> String {
        self.name.borrow().clone()
    }

    /// Tells of each new name.
    pub(super) fn names(&self) -> watch::Receiver<String> {
        self.name.subscribe()
    }

    /// Calls this device something else from now on, also after a restart. Returns what it is
    /// called.
    ///
    /// # Errors
    /// When the trust database can't be written.
    pub(crate) fn rename(&self, name: &str) -> Result<String, TrustError> {
        let name = clean_name(name);
        self.trust.set_setting(NAME_SETTING, &name)?;
        self.trust.note_own_name(&name)?;
        self.name.send_replace(name.clone());
        Ok(name)
    }

    /// Opens a pairing window.
    pub fn show_window(&self, window: PairingWindow) {
        *lock(&self.pairing) = Some(window);
    }

    /// Notes in the audit log that something happened. Whoever is answered does not wait for it.
    pub fn note(&self, kind: EventKind, device: Option<&DeviceId>, detail: &str) {
        let (trust, device, detail) = (Arc::clone(&self.trust), device.cloned(), detail.to_owned());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = trust.note_event(kind, device.as_ref(), &detail, now().unix_ms()) {
                tracing::warn!(%error, "the audit log could not be written");
            }
        });
    }

    /// Somebody decided something: the device `by`, or the person at this one.
    pub(crate) fn note_decision(&self, by: Option<DeviceKey>, detail: &str) {
        let by = by.map_or_else(|| self.identity.device_id(), |key| DeviceId::of_key(&key));
        self.note(EventKind::Resolve, Some(&by), detail);
    }

    /// Somebody failed to prove who they are.
    pub(super) fn note_stranger(&self, from: IpAddr) {
        if self.throttles.strangers.check().is_ok() {
            self.note(
                EventKind::Refuse,
                None,
                &format!("requests from {} were not from a paired device", from.to_canonical()),
            );
        }
    }

    /// A registration could not be opened, or there was nothing to register for.
    pub(super) fn note_failed_registration(&self, from: IpAddr) -> Refusal {
        self.note_stranger(from);
        if self.throttles.registrations.len() > ADDRESSES_IN_MIND_MAX {
            self.throttles.registrations.retain_recent();
        }
        match self.throttles.registrations.check_key(&network_of(from)) {
            Ok(()) => Refusal::unauthorized(),
            Err(_) => Refusal::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too many registrations failed from this address; wait a minute, then show a new \
                    code",
            ),
        }
    }

    /// What receiving from a device came to, where it matters beyond the rows.
    pub fn note_receipt(&self, device: &DeviceId, receipt: &Receipt) {
        if !receipt.rejected.is_empty() && self.throttles.refusals.check_key(device).is_ok() {
            self.note(
                EventKind::Refuse,
                Some(device),
                &format!("{} of its changes were refused", receipt.rejected_count()),
            );
        }
        if receipt.equivocated {
            tracing::warn!(%device, "the device sent two different changes under one name; nothing \
                is taken from it until it is paired again");
            if let Err(error) = self.trust.freeze(device, now().unix_ms()) {
                tracing::warn!(%error, "a device that lies could not be frozen");
            }
        }
    }

    /// Whether a device is still paired as it was when its request was opened, and not paused
    /// since.
    #[must_use]
    pub fn still_trusts(&self, device: &TrustedDevice) -> bool {
        let epoch = |device: &TrustedDevice| device.pair.as_ref().map(|pair| pair.epoch);
        self.trust.find(&device.device_id).is_ok_and(|found| {
            found.is_some_and(|found| {
                found.is_active() && found.paused_at.is_none() && epoch(&found) == epoch(device)
            })
        })
    }

    /// `GET /` on both listeners. Waits for nothing.
    #[must_use]
    pub fn health(&self) -> serde_json::Value {
        serde_json::json!({
            "status": "ok",
            "timestamp": now().to_rfc3339(),
            "database_connected": self.database_connected.load(Ordering::Relaxed),
            "version": env!("CARGO_PKG_VERSION"),
            "server": SERVER,
        })
    }
}

/// The list of devices as the documented table shows it.
///
/// # Errors
/// When the trust database can't be read.
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
