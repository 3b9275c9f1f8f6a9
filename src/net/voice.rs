//! What this node says of itself on the network, and whom it hears: for each pairing a mark only
//! the other device knows, under an id that is random and another after each period. A name is said
//! while a pairing code is shown, and this device's own id only while one it is paired with may
//! know no marks.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand_core::Rng as _;

use super::lock;
use super::node_state::{NodeState, now_ms, system_rng};
use storysync_engine::store::trust::TrustedDevice;
use storysync_engine::trust::announcing::{MARK_BYTES, Recognizer, mark, period_of};
use storysync_engine::trust::identity::DeviceId;

/// Marks in one text; what is missing is filled with random ones, so that nobody counts pairings.
const MARKS_IN_TEXT: usize = 4;
/// What stands before the marks of a text; no name begins so.
const MARKS_BEGIN: char = '~';
/// Longest name that is announced, in bytes of UTF-8: with an address it fits into one DNS text of
/// 255.
const NAME_BYTES_MAX: usize = 48;

/// What is said now.
pub(super) struct Voice {
    period: u64,
    paired: Vec<TrustedDevice>,
    /// The name, while it is said.
    pub(super) name: Option<String>,
    own_key: [u8; 32],
    recognizer: Recognizer,
}

impl Voice {
    /// What a node says at this time.
    pub(super) fn of(node: &NodeState) -> Self {
        let paired: Vec<TrustedDevice> = node
            .trust
            .devices()
            .unwrap_or_default()
            .into_iter()
            .filter(TrustedDevice::is_active)
            .collect();
        let shows_code =
            lock(&node.pairing).as_ref().is_some_and(|window| window.is_open(now_ms()));
        let period = period_of(now_ms());
        let pairs =
            paired.iter().filter_map(|device| Some((&device.identity_key, device.pair.as_ref()?)));
        let recognizer = Recognizer::new(pairs, period);
        let own_key = node.identity.public_key();
        let name = shows_code.then(|| short(node.name()));
        Self { period, paired, name, own_key, recognizer }
    }

    /// Whether a node says something else now.
    pub(super) fn has_changed(&self, node: &NodeState) -> bool {
        let shows_code =
            lock(&node.pairing).as_ref().is_some_and(|window| window.is_open(now_ms()));
        let name = shows_code.then(|| short(node.name()));
        self.period != period_of(now_ms())
            || self.name != name
            || node.trust.devices().is_ok_and(|devices| {
                let now: Vec<_> =
                    devices.iter().filter(|device| device.is_active()).map(said_of).collect();
                now != self.paired.iter().map(said_of).collect::<Vec<_>>()
            })
    }

    /// Whether a paired device may know no marks: it is told this device's own id, as before.
    pub(super) fn is_loud(&self) -> bool {
        self.paired.iter().any(|device| !device.reads_sealed_token)
    }

    /// The texts that are announced with an address.
    pub(super) fn texts(&self, place: SocketAddr) -> Vec<String> {
        let mut marks: Vec<[u8; MARK_BYTES]> = self
            .paired
            .iter()
            .filter_map(|device| {
                Some(mark(device.pair.as_ref()?, &self.own_key, self.period, place))
            })
            .collect();
        let wanted = marks.len().div_ceil(MARKS_IN_TEXT).max(1) * MARKS_IN_TEXT;
        let mut rng = system_rng();
        while marks.len() < wanted {
            let mut random = [0; MARK_BYTES];
            rng.fill_bytes(&mut random);
            // Anywhere among them.
            let at = usize::try_from(rng.next_u32()).unwrap_or(0) % (marks.len() + 1);
            marks.insert(at, random);
        }
        let texts = marks.chunks(MARKS_IN_TEXT);
        let texts = texts.map(|marks| URL_SAFE_NO_PAD.encode(marks.concat()));
        texts.map(|text| format!("{MARKS_BEGIN}{text}")).chain(self.name.clone()).collect()
    }

    /// The paired device that a text announced for a place is of.
    pub(super) fn recognize(&self, text: &str, place: SocketAddr) -> Option<DeviceId> {
        let marks = URL_SAFE_NO_PAD.decode(text.strip_prefix(MARKS_BEGIN)?).ok()?;
        let known = |mark| self.recognizer.recognize(mark, place);
        marks.chunks(MARK_BYTES).find_map(known).cloned()
    }

    /// Whether a text holds marks, and no name.
    pub(super) fn is_marks(text: &str) -> bool {
        text.starts_with(MARKS_BEGIN)
    }
}

/// What of a device changes what is said.
fn said_of(device: &TrustedDevice) -> (&DeviceId, Option<u32>, bool) {
    let epoch = device.pair.as_ref().map(|pair| pair.epoch);
    (&device.device_id, epoch, device.reads_sealed_token)
}

/// A name that fits.
pub(super) fn short(mut name: String) -> String {
    while name.len() > NAME_BYTES_MAX {
        name.pop();
    }
    name
}
