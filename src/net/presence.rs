//! Who is around: devices found on the network, devices that listen to us, and how exchanges with
//! each of them stand. What is found says where a device may be, never that it is it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::watch;

use super::lock;
use storysync_engine::exchange::Progress;
use storysync_engine::trust::identity::DeviceId;

/// Devices found that are kept in mind; whoever floods the network makes nobody forget those found
/// before.
pub const NEARBY_MAX: usize = 256;
/// Addresses kept of one device.
const ADDRESSES_MAX: usize = 16;
/// Ports kept of one device at one IP address: whoever announces ever new ones shall not push out
/// what others announce.
const PORTS_MAX: usize = 2;
/// How long it is remembered that nobody at an address proved to be a device.
const UNPROVEN_FOR: Duration = Duration::from_secs(10 * 60);
/// Such addresses remembered of one device, the latest.
const UNPROVEN_MAX: usize = 64;

/// A device that was found on the network.
#[derive(Debug, Clone, Default)]
pub struct Nearby {
    /// What it calls itself; nobody vouches for it.
    pub name: Option<String>,
    /// Where, the latest first.
    pub addresses: Vec<SocketAddr>,
    /// Whether it was paired with us when it was found last.
    is_paired: bool,
}

/// How exchanges with a device stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It does not answer, and is tried again from time to time.
    #[default]
    Away,
    /// Everything is being exchanged.
    Syncing,
    /// We listen to it.
    Connected,
    /// It listens to us.
    Listening,
}

/// The exchanges with one device since this node started.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Exchanges {
    /// How they stand.
    pub state: Standing,
    /// Where it was reached last.
    pub address: Option<String>,
    /// How far the exchange going on has come.
    pub progress: Progress,
    /// Rows pulled from it.
    pub pulled: usize,
    /// Rows pushed to it.
    pub pushed: usize,
    /// Bytes sent to it over TCP.
    pub bytes_sent: u64,
    /// Bytes received from it over TCP.
    pub bytes_received: u64,
    /// Why it was not reached last, as a sentence.
    pub error: Option<String>,
}

#[derive(Debug, Default)]
struct Inner {
    nearby: BTreeMap<DeviceId, Nearby>,
    listeners: HashMap<DeviceId, usize>,
    /// When paired devices asked us something last.
    heard: HashMap<DeviceId, Instant>,
    exchanges: BTreeMap<DeviceId, Exchanges>,
    /// Where nobody proved to be a device, and when; the latest last.
    unproven: HashMap<DeviceId, VecDeque<(String, Instant)>>,
}

/// Who is around.
#[derive(Debug)]
pub struct Presence {
    inner: Mutex<Inner>,
    changed: watch::Sender<u64>,
    network: watch::Sender<u64>,
    pairings: watch::Sender<u64>,
}

impl Default for Presence {
    fn default() -> Self {
        Self {
            inner: Mutex::default(),
            changed: watch::Sender::new(0),
            network: watch::Sender::new(0),
            pairings: watch::Sender::new(0),
        }
    }
}

impl Presence {
    /// A device was found at an address. In a crowd one that is not `paired` is ignored, and makes
    /// room for one that is.
    pub fn found(
        &self,
        device: &DeviceId,
        address: SocketAddr,
        name: Option<String>,
        paired: bool,
    ) {
        let mut inner = lock(&self.inner);
        if !inner.nearby.contains_key(device) && inner.nearby.len() >= NEARBY_MAX {
            if !paired {
                return;
            }
            let mut strangers = inner.nearby.iter().filter(|(_, nearby)| !nearby.is_paired);
            let leaving = strangers.next().map(|(leaving, _)| leaving.clone());
            leaving.map(|leaving| inner.nearby.remove(&leaving));
        }
        let nearby = inner.nearby.entry(device.clone()).or_default();
        nearby.is_paired = paired;
        nearby.name = name.or(nearby.name.take());
        nearby.addresses.retain(|known| *known != address);
        nearby.addresses.insert(0, address);
        let mut ports: HashMap<_, usize> = HashMap::new();
        nearby.addresses.retain(|known| {
            let count = ports.entry(known.ip()).or_default();
            *count += 1;
            *count <= PORTS_MAX
        });
        nearby.addresses.truncate(ADDRESSES_MAX);
        drop(inner);
        self.changed.send_modify(|count| *count += 1);
    }

    /// A device is no longer at an address.
    pub fn lost(&self, device: &DeviceId, address: SocketAddr) {
        let mut inner = lock(&self.inner);
        if let Some(nearby) = inner.nearby.get_mut(device) {
            nearby.addresses.retain(|known| *known != address);
            if nearby.addresses.is_empty() {
                inner.nearby.remove(device);
            }
        }
    }

    /// Where a device was found, the latest first.
    #[must_use]
    pub fn addresses_of(&self, device: &DeviceId) -> Vec<SocketAddr> {
        lock(&self.inner)
            .nearby
            .get(device)
            .map(|nearby| nearby.addresses.clone())
            .unwrap_or_default()
    }

    /// Nobody at these addresses proved to be a device.
    pub fn note_unproven(&self, device: &DeviceId, addresses: &[String]) {
        if addresses.is_empty() {
            return;
        }
        let mut inner = lock(&self.inner);
        let unproven = inner.unproven.entry(device.clone()).or_default();
        unproven.retain(|(address, _)| !addresses.contains(address));
        unproven.extend(addresses.iter().map(|address| (address.clone(), Instant::now())));
        let surplus = unproven.len().saturating_sub(UNPROVEN_MAX);
        unproven.drain(..surplus);
    }

    /// A device proved itself at an address.
    pub fn note_proven(&self, device: &DeviceId, address: &str) {
        if let Some(unproven) = lock(&self.inner).unproven.get_mut(device) {
            unproven.retain(|(unproven, _)| unproven != address);
        }
    }

    /// Where nobody proved to be a device lately.
    #[must_use]
    pub fn unproven(&self, device: &DeviceId) -> Vec<String> {
        let inner = lock(&self.inner);
        let remembered = inner.unproven.get(device).into_iter().flatten();
        remembered
            .filter(|(_, at)| at.elapsed() < UNPROVEN_FOR)
            .map(|(address, _)| address.clone())
            .collect()
    }

    /// Every device found.
    #[must_use]
    pub fn nearby(&self) -> BTreeMap<DeviceId, Nearby> {
        lock(&self.inner).nearby.clone()
    }

    /// The addresses of this machine have changed.
    pub fn network_changed(&self) {
        self.network.send_modify(|count| *count += 1);
        self.changed.send_modify(|count| *count += 1);
    }

    /// Told whenever a device is found somewhere, begins or ceases to listen, or the network
    /// changes.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// A device was paired or revoked by this node.
    pub fn pairings_changed(&self) {
        self.pairings.send_modify(|count| *count += 1);
    }

    /// Told whenever a device was paired or revoked by this node.
    #[must_use]
    pub fn pairings(&self) -> watch::Receiver<u64> {
        self.pairings.subscribe()
    }

    /// Counts changes of this machine's network.
    #[must_use]
    pub fn network(&self) -> u64 {
        *self.network.borrow()
    }

    /// A device asked us something.
    pub fn note_heard(&self, device: &DeviceId, at: Instant) {
        lock(&self.inner).heard.insert(device.clone(), at);
    }

    /// When a device asked us something last.
    #[must_use]
    pub fn heard_at(&self, device: &DeviceId) -> Option<Instant> {
        lock(&self.inner).heard.get(device).copied()
    }

    /// A device listens to us, until the guard is dropped.
    #[must_use]
    pub fn listens(self: &Arc<Self>, device: &DeviceId) -> Listener {
        *lock(&self.inner).listeners.entry(device.clone()).or_default() += 1;
        self.changed.send_modify(|count| *count += 1);
        Listener { presence: Arc::clone(self), device: device.clone() }
    }

    /// Whether a device listens to us.
    #[must_use]
    pub fn is_listening(&self, device: &DeviceId) -> bool {
        lock(&self.inner).listeners.contains_key(device)
    }

    /// Notes how exchanges with a device stand.
    pub fn note(&self, device: &DeviceId, change: impl FnOnce(&mut Exchanges)) {
        change(lock(&self.inner).exchanges.entry(device.clone()).or_default());
    }

    /// Forgets a device that is no longer paired.
    pub fn forget(&self, device: &DeviceId) {
        let mut inner = lock(&self.inner);
        inner.exchanges.remove(device);
        inner.unproven.remove(device);
    }

    /// How exchanges with each device stand.
    #[must_use]
    pub fn exchanges(&self) -> BTreeMap<DeviceId, Exchanges> {
        let inner = lock(&self.inner);
        let mut exchanges = inner.exchanges.clone();
        for device in inner.listeners.keys() {
            let exchange = exchanges.entry(device.clone()).or_default();
            if exchange.state == Standing::Away {
                exchange.state = Standing::Listening;
                exchange.error = None;
            }
        }
        exchanges
    }
}

/// A device that listens to us.
#[derive(Debug)]
pub struct Listener {
    presence: Arc<Presence>,
    device: DeviceId,
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut inner = lock(&self.presence.inner);
        if let Some(count) = inner.listeners.get_mut(&self.device) {
            *count -= 1;
            if *count == 0 {
                inner.listeners.remove(&self.device);
            }
        }
        drop(inner);
        self.presence.changed.send_modify(|count| *count += 1);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn in_a_crowd_of_strangers_paired_devices_are_found_and_not_forgotten() {
        let presence = Presence::default();
        let address = SocketAddr::from(([192, 168, 1, 20], 8765));
        let device = |number: u16| {
            let mut key = [0; 32];
            key.iter_mut().zip(number.to_be_bytes()).for_each(|(to, from)| *to = from);
            DeviceId::of_key(&key)
        };
        // Of all ids the first ones, which the crowd would push out by their order.
        let mut ids: Vec<DeviceId> = (0..600).map(device).collect();
        ids.sort();
        let (paired, strangers) = ids.split_at(2);
        presence.found(paired.first().unwrap(), address, None, true);
        for stranger in strangers {
            presence.found(stranger, address, None, false);
        }
        presence.found(paired.last().unwrap(), address, None, true);
        let nearby = presence.nearby();
        assert_eq!(nearby.len(), NEARBY_MAX);
        assert!(paired.iter().all(|device| nearby.iter().any(|(found, _)| found == device)));
    }
}
