//! What a device calls on the network so that those it is paired with know it, and nobody else
//! does: for each pairing a mark that follows from the pair secret and the time, and is another
//! after every period. Pure, given a time.
//!
//! A mark is 16 bytes: a tag, which the other device finds in a list of those it expects, and a
//! check over the place that is announced with it, so that nobody announces it for another place.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use hkdf::Hkdf;
use sha2::Sha256;
use storysync_crdt::DeviceKey;
use subtle::ConstantTimeEq as _;

use super::envelope::PairSecret;
use super::identity::DeviceId;

/// How long a mark is used, in milliseconds.
pub const PERIOD_MS: u64 = 15 * 60 * 1000;
/// How far two clocks may be apart for the devices to know each other, in periods: 26 hours, a day
/// and what time zones are confused by.
const SKEW_PERIODS: u64 = 104;
/// Bytes of a mark.
pub const MARK_BYTES: usize = 16;
const TAG_BYTES: usize = 8;
const KEY_LABEL: &[u8] = b"storysync/1 announce";
const TAG_LABEL: &[u8] = b"storysync/1 tag    \0";
const CHECK_LABEL: &[u8] = b"storysync/1 place  \0";

/// The period a time lies in.
#[must_use]
pub fn period_of(now_ms: u64) -> u64 {
    now_ms / PERIOD_MS
}

/// What one pairing's marks are made of, for the marks of one of its two devices.
struct Marker {
    key: Hkdf<Sha256>,
    announcer: DeviceKey,
}

impl Marker {
    fn of(pair: &PairSecret, announcer: &DeviceKey) -> Self {
        let salt = [KEY_LABEL, &pair.epoch.to_be_bytes()].concat();
        Self { key: Hkdf::new(Some(&salt), pair.secret.expose()), announcer: *announcer }
    }

    fn expand(&self, label: &[u8], period: u64, place: &[u8]) -> [u8; TAG_BYTES] {
        let info = [label, &self.announcer, &period.to_be_bytes(), place].concat();
        let mut bytes = [0; TAG_BYTES];
        // HKDF fails only for outputs over 255 hashes (RFC 5869 §2.3); this is a quarter of one.
        let _ = self.key.expand(&info, &mut bytes);
        bytes
    }

    fn tag(&self, period: u64) -> [u8; TAG_BYTES] {
        self.expand(TAG_LABEL, period, &[])
    }

    fn check(&self, period: u64, place: SocketAddr) -> [u8; TAG_BYTES] {
        self.expand(CHECK_LABEL, period, &place_bytes(place))
    }
}

/// A place as it is checked. Of IPv6 only the port: a host has many addresses there, and others see
/// another one than it announces.
fn place_bytes(place: SocketAddr) -> Vec<u8> {
    let mut bytes = place.port().to_be_bytes().to_vec();
    if let IpAddr::V4(ip) = place.ip() {
        bytes.extend_from_slice(&ip.octets());
    }
    bytes
}

/// The mark by which the other device of a pairing knows that `announcer` is at a place.
#[must_use]
pub fn mark(
    pair: &PairSecret,
    announcer: &DeviceKey,
    period: u64,
    place: SocketAddr,
) -> [u8; MARK_BYTES] {
    let marker = Marker::of(pair, announcer);
    let mut mark = [0; MARK_BYTES];
    let bytes = marker.tag(period).into_iter().chain(marker.check(period, place));
    mark.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    mark
}

/// Knows paired devices by their marks.
#[derive(Default)]
pub struct Recognizer {
    markers: Vec<(DeviceId, Marker)>,
    /// Whose each tag is, and of which period.
    expected: HashMap<[u8; TAG_BYTES], (usize, u64)>,
}

impl std::fmt::Debug for Recognizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recognizer").field("devices", &self.markers.len()).finish_non_exhaustive()
    }
}

impl Recognizer {
    /// Of the paired devices, by their identity keys; around a period.
    #[must_use]
    pub fn new<'a>(
        devices: impl IntoIterator<Item = (&'a DeviceKey, &'a PairSecret)>,
        period: u64,
    ) -> Self {
        let markers: Vec<(DeviceId, Marker)> = devices
            .into_iter()
            .map(|(key, pair)| (DeviceId::of_key(key), Marker::of(pair, key)))
            .collect();
        let periods = period.saturating_sub(SKEW_PERIODS)..=period.saturating_add(SKEW_PERIODS);
        let mut expected = HashMap::new();
        for (index, (_, marker)) in markers.iter().enumerate() {
            for period in periods.clone() {
                expected.insert(marker.tag(period), (index, period));
            }
        }
        Self { markers, expected }
    }

    /// Whose mark it is, if it is announced for the place it was made for.
    #[must_use]
    pub fn recognize(&self, mark: &[u8], place: SocketAddr) -> Option<&DeviceId> {
        let (tag, check) = mark.split_at_checked(TAG_BYTES)?;
        let (index, period) = self.expected.get(tag)?;
        let (device, marker) = self.markers.get(*index)?;
        bool::from(marker.check(*period, place).as_slice().ct_eq(check)).then_some(device)
    }
}
