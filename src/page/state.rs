//! Whether a view would look different by now: everything views show that the Engine need not be
//! asked for, as one word.

use sha2::{Digest as _, Sha256};
use storysync_engine::trust::to_base64url;

use super::{Page, lock};
use crate::net::pairing_code;

/// How all stands, as a hash: the same as long as no view would differ.
pub(super) fn state_of(page: &Page) -> String {
    let node = &page.node;
    let mut state = Sha256::new();
    state.update(node.engine.ends().borrow().to_be_bytes());
    state.update(node.name());
    let exchanges = serde_json::to_vec(
        &node
            .presence
            .exchanges()
            .into_iter()
            .map(|(device, exchanges)| (device.to_string(), exchanges))
            .collect::<std::collections::BTreeMap<_, _>>(),
    );
    state.update(exchanges.unwrap_or_default());
    for (device, nearby) in node.presence.nearby() {
        state.update(device.as_str());
        state.update(nearby.name.unwrap_or_default());
    }
    state.update(pairing_code::state(node).to_string());
    state.update(format!("{:?}", page.joining.state()));
    state.update(node.presence.pairings().borrow().to_be_bytes());
    {
        // One that begins and ends between two looks makes a difference, too.
        let checks = lock(&page.checks);
        state.update([u8::from(checks.running)]);
        state.update(checks.ended.to_be_bytes());
    }
    state.update([u8::from(node.database_connected.load(std::sync::atomic::Ordering::Relaxed))]);
    to_base64url(state.finalize().as_slice())
}
