//! Who is connected: how many may be, from where, how fast they may come, and who goes first when
//! it gets crowded. Paired devices that have proven themselves keep their connections; strangers
//! make room for each other, and for them; addresses where nobody ever proved anything go before
//! those where somebody did.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio::sync::Notify;

use super::lock;
use storysync_engine::trust::identity::DeviceId;

/// Connections an address where nobody proved anything may make in a second, beyond what it saved
/// up.
const PER_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(19);
/// Connections such an address may make at once after a pause.
const BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(63);
/// Addresses kept in mind: those that came lately, and those where a device proved itself.
const ADDRESSES_MAX: usize = 1_024;

/// How many connections one listener serves at once.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// In all.
    pub all: usize,
    /// That nobody has proven anything on.
    pub strangers: usize,
    /// From one address, of those nobody has proven anything on: a house full of paired devices may
    /// stand behind one.
    pub per_address: usize,
    /// Of one device that has proven itself.
    pub per_device: usize,
    /// Whether addresses where nobody proved anything may come only so fast.
    pub paced: bool,
}

impl Limits {
    /// Of the LAN listener.
    pub const LAN: Self =
        Self { all: 64, strangers: 48, per_address: 8, per_device: 8, paced: true };
    /// Of the loopback listener, where everybody has the same address.
    pub const LOOPBACK: Self =
        Self { all: 64, strangers: 64, per_address: 64, per_device: 64, paced: false };
}

#[derive(Debug)]
struct Entry {
    address: IpAddr,
    device: Option<DeviceId>,
    busy: bool,
    since: Instant,
    close: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    entries: BTreeMap<u64, Entry>,
    /// Addresses where a device proved itself, the latest last.
    proven: VecDeque<IpAddr>,
}

impl Open {
    /// Closes a stranger: one from an address where nobody ever proved anything, idle if there is
    /// one, for the longest time.
    fn make_room(&mut self, address: Option<IpAddr>) -> bool {
        let leaving = self
            .entries
            .iter()
            .filter(|(_, entry)| {
                entry.device.is_none() && address.is_none_or(|address| entry.address == address)
            })
            .min_by_key(|(_, entry)| {
                (self.proven.contains(&entry.address), entry.busy, entry.since)
            })
            .map(|(id, _)| *id);
        self.close(leaving)
    }

    /// Closes the connection of a device that has been idle longest, where it has more than `kept`.
    fn make_room_of(&mut self, device: &DeviceId, kept: usize) -> bool {
        let own = || self.entries.iter().filter(|(_, entry)| entry.device.as_ref() == Some(device));
        if own().count() <= kept {
            return false;
        }
        let leaving = own().min_by_key(|(_, entry)| (entry.busy, entry.since)).map(|(id, _)| *id);
        self.close(leaving)
    }

    /// Closes a connection of the device that has most: one device shall not keep the others out.
    fn make_room_among_devices(&mut self) -> bool {
        let mut counts: BTreeMap<&DeviceId, usize> = BTreeMap::new();
        for device in self.entries.values().filter_map(|entry| entry.device.as_ref()) {
            *counts.entry(device).or_default() += 1;
        }
        let Some(most) =
            counts.into_iter().max_by_key(|(_, count)| *count).map(|(device, _)| device.clone())
        else {
            return false;
        };
        self.make_room_of(&most, 1)
    }

    fn close(&mut self, leaving: Option<u64>) -> bool {
        let Some(entry) = leaving.and_then(|id| self.entries.remove(&id)) else { return false };
        entry.close.notify_one();
        true
    }
}

/// The open connections of one listener.
pub struct Connections {
    limits: Limits,
    pace: DefaultKeyedRateLimiter<IpAddr>,
    open: Mutex<Open>,
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connections")
            .field("limits", &self.limits)
            .field("open", &lock(&self.open).entries.len())
            .finish_non_exhaustive()
    }
}

impl Connections {
    /// A register of connections in which there is none yet.
    #[must_use]
    pub fn new(limits: Limits) -> Arc<Self> {
        let pace = RateLimiter::keyed(Quota::per_second(PER_SECOND).allow_burst(BURST));
        Arc::new(Self { limits, pace, open: Mutex::default() })
    }

    /// Takes a connection in, if need be in the place of a stranger's; `None` when there is no room
    /// for it.
    #[must_use]
    pub fn admit(self: &Arc<Self>, address: IpAddr, now: Instant) -> Option<Connection> {
        if self.pace.len() > ADDRESSES_MAX {
            self.pace.retain_recent();
        }
        let mut open = lock(&self.open);
        // Programs on this very machine have better ways to keep it busy.
        let known = open.proven.contains(&address)
            || matches!(address, IpAddr::V4(Ipv4Addr::LOCALHOST) | IpAddr::V6(Ipv6Addr::LOCALHOST));
        if self.limits.paced && !known && self.pace.check_key(&network_of(address)).is_err() {
            return None;
        }
        let from_there = open
            .entries
            .values()
            .filter(|entry| entry.address == address && entry.device.is_none())
            .count();
        if from_there >= self.limits.per_address && !open.make_room(Some(address)) {
            return None;
        }
        let strangers = open.entries.values().filter(|entry| entry.device.is_none()).count();
        if (strangers >= self.limits.strangers || open.entries.len() >= self.limits.all)
            && !open.make_room(None)
            && !open.make_room_among_devices()
        {
            return None;
        }
        let id = open.next;
        open.next += 1;
        let close = Arc::new(Notify::new());
        open.entries.insert(
            id,
            Entry { address, device: None, busy: false, since: now, close: Arc::clone(&close) },
        );
        Some(Connection { all: Arc::clone(self), id, close })
    }

    /// Closes every connection of a device, but not the one that asked for it.
    pub fn close_all_of(&self, device: &DeviceId, except: Option<&Connection>) {
        let mut open = lock(&self.open);
        open.entries.retain(|id, entry| {
            let leaves = entry.device.as_ref() == Some(device)
                && except.is_none_or(|asking| asking.id != *id);
            if leaves {
                entry.close.notify_one();
            }
            !leaves
        });
    }
}

/// One open connection; its place is free again when this is dropped.
#[derive(Debug)]
pub struct Connection {
    all: Arc<Connections>,
    id: u64,
    close: Arc<Notify>,
}

impl Connection {
    /// Resolves when this connection must make room, or its device is no longer trusted.
    pub async fn told_to_close(&self) {
        self.close.notified().await;
    }

    /// A request has begun or ended.
    pub fn set_busy(&self, busy: bool, now: Instant) {
        if let Some(entry) = lock(&self.all.open).entries.get_mut(&self.id) {
            entry.busy = busy;
            entry.since = now;
        }
    }

    /// A request on it was proven to come from a paired device.
    pub fn belongs_to(&self, device: &DeviceId) {
        let mut open = lock(&self.all.open);
        let Some(entry) = open.entries.get_mut(&self.id) else { return };
        entry.device = Some(device.clone());
        let address = entry.address;
        // Marked busy by the request that proves it, so it is another one that goes.
        open.make_room_of(device, self.all.limits.per_device);
        if open.proven.back() != Some(&address) {
            open.proven.retain(|known| *known != address);
            open.proven.push_back(address);
            if open.proven.len() > ADDRESSES_MAX {
                open.proven.pop_front();
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        lock(&self.all.open).entries.remove(&self.id);
    }
}

/// What counts as one address: an IPv6 host has a whole network of them (RFC 4291 §2.5.4: 64 bits).
pub(super) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & !u128::from(u64::MAX)).into()),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, last])
    }

    fn device(byte: u8) -> DeviceId {
        DeviceId::of_key(&[byte; 32])
    }

    #[test]
    fn the_stranger_idle_longest_makes_room_and_paired_devices_never_do() {
        let limits = Limits { all: 4, strangers: 3, per_address: 2, per_device: 8, paced: false };
        let connections = Connections::new(limits);
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let paired = connections.admit(address(9), at(0)).unwrap();
        paired.belongs_to(&device(1));
        let first = connections.admit(address(1), at(1)).unwrap();
        let second = connections.admit(address(2), at(2)).unwrap();
        let _third = connections.admit(address(3), at(3)).unwrap();
        first.set_busy(true, at(4));
        let _fourth = connections.admit(address(4), at(5)).unwrap();
        let open = lock(&connections.open).entries.keys().copied().collect::<Vec<_>>();
        assert!(
            open.contains(&paired.id) && open.contains(&first.id),
            "the busy one and the paired one stay"
        );
        assert!(!open.contains(&second.id), "the idle one went");
    }

    #[test]
    fn strangers_leave_places_for_devices_that_prove_themselves() {
        let connections = Connections::new(Limits {
            all: 10,
            strangers: 3,
            per_address: 10,
            per_device: 8,
            paced: false,
        });
        let now = Instant::now();
        let held: Vec<_> =
            (1..=9).map(|last| connections.admit(address(last), now).unwrap()).collect();
        assert_eq!(lock(&connections.open).entries.len(), 3);
        drop(held);
        assert_eq!(
            lock(&connections.open).entries.len(),
            0,
            "a place is free again when a connection ends"
        );
    }

    #[test]
    fn one_address_can_not_take_every_place() {
        let connections = Connections::new(Limits {
            all: 64,
            strangers: 48,
            per_address: 2,
            per_device: 8,
            paced: false,
        });
        let now = Instant::now();
        let held: Vec<_> = (0..10).map(|_| connections.admit(address(1), now).unwrap()).collect();
        assert_eq!(lock(&connections.open).entries.len(), 2);
        drop(held);
        let mut paired = Vec::new();
        for byte in 1..=8 {
            for _ in 0..3 {
                let connection = connections.admit(address(1), now).unwrap();
                connection.belongs_to(&device(byte));
                paired.push(connection);
            }
        }
        assert_eq!(
            lock(&connections.open).entries.len(),
            24,
            "eight paired devices behind one address keep nobody out"
        );
        let strangers: Vec<_> =
            (0..3).map(|_| connections.admit(address(1), now).unwrap()).collect();
        assert_eq!(
            (lock(&connections.open).entries.len(), strangers.len()),
            (26, 3),
            "two strangers beside them, the third in the place of the first"
        );
    }

    #[test]
    fn an_address_that_comes_too_fast_waits_and_one_where_a_device_proved_itself_is_spared() {
        let connections = Connections::new(Limits::LAN);
        let now = Instant::now();
        let came = |last, times: usize| {
            (0..times).filter(|_| connections.admit(address(last), now).is_some()).count()
        };
        assert!((64..80).contains(&came(200, 1_000)));
        assert_eq!(came(1, 1_000), 1_000, "this very machine");
        drop(
            connections
                .admit(address(2), now)
                .inspect(|connection| connection.belongs_to(&device(1))),
        );
        // Its next connection is a stranger's until something is proven on it, and the oldest of
        // all.
        assert_eq!(came(2, 1_000), 1_000);
        let own = connections.admit(address(2), now).unwrap();
        let crowd: Vec<_> = (3..200)
            .filter_map(|last| connections.admit(address(last), now + Duration::from_secs(1)))
            .collect();
        assert_eq!(crowd.len(), 197);
        assert!(lock(&connections.open).entries.contains_key(&own.id));
    }

    #[test]
    fn one_device_holds_eight_connections_and_keeps_nobody_out() {
        let connections = Connections::new(Limits {
            all: 10,
            strangers: 10,
            per_address: 20,
            per_device: 8,
            paced: false,
        });
        let now = Instant::now();
        let prove = |byte: u8| {
            let connection = connections.admit(address(byte), now).unwrap();
            connection.set_busy(true, now);
            connection.belongs_to(&device(byte));
            connection.set_busy(false, now);
            connection
        };
        let many: Vec<_> = (0..20).map(|_| prove(1)).collect();
        let newest = many.last().unwrap();
        assert_eq!(lock(&connections.open).entries.len(), 8);
        assert!(lock(&connections.open).entries.contains_key(&newest.id));
        let _others = [prove(2), prove(3)];
        assert_eq!(lock(&connections.open).entries.len(), 10, "full");
        let next = connections.admit(address(4), now).unwrap();
        let open = lock(&connections.open);
        assert!(open.entries.contains_key(&next.id));
        assert_eq!(
            open.entries.values().filter(|entry| entry.device == Some(device(1))).count(),
            7,
            "the one with most made room"
        );
    }

    #[test]
    fn a_device_sent_away_loses_its_connections_but_the_one_that_asks() {
        let connections = Connections::new(Limits::LAN);
        let now = Instant::now();
        let held: Vec<_> = (0..3).map(|_| connections.admit(address(1), now).unwrap()).collect();
        for connection in &held {
            connection.belongs_to(&device(1));
        }
        connections.close_all_of(&device(1), held.first());
        assert_eq!(lock(&connections.open).entries.len(), 1);
    }
}
