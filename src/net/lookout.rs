//! Is a device still at the other end of a connection? What the network says of its whereabouts is
//! a reason to ask, and never an answer: a connection is given up only when this machine's own
//! network changed, or the device proved itself elsewhere.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::addresses::Candidate;
use super::client::{Caller, ClientError, Meter, Trail};
use super::metrics::SyncResult;
use super::node_state::NodeState;
use storysync_engine::store::trust::TrustedDevice;
use storysync_engine::trust::identity::DeviceId;

/// For how long nothing may come after the network changed or the device was found elsewhere, for
/// it to be taken for still there.
const STILL_THERE_WITHIN: Duration = Duration::from_secs(3);
/// Pause between looks at where the device was found: whoever announces ever new addresses costs no
/// more than this.
const LOOK_ELSEWHERE_EVERY: Duration = Duration::from_secs(3);

/// What tells that the other end of a connection may be gone without a word.
#[derive(Debug, Clone)]
pub(super) struct Surroundings {
    /// Where the device was found.
    addresses: Vec<SocketAddr>,
    /// How often the addresses of this machine had changed.
    network: u64,
}

impl Surroundings {
    pub(super) fn of(node: &NodeState, device: &DeviceId) -> Self {
        Self { addresses: node.presence.addresses_of(device), network: node.presence.network() }
    }

    /// Whether this machine's network is another.
    pub(super) fn is_other_network(&self, node: &NodeState) -> bool {
        self.network != node.presence.network()
    }

    /// Where the device was found that it was not before, and nobody failed to prove to be it.
    fn found_since(&self, node: &NodeState, device: &DeviceId) -> Vec<Candidate> {
        let unproven = node.presence.unproven(device);
        let found = node.presence.addresses_of(device).into_iter();
        found
            .filter(|address| !self.addresses.contains(address))
            .map(|address| Candidate::found(address.to_string()))
            .filter(|candidate| !unproven.contains(&candidate.address))
            .collect()
    }

    /// Whether there is a reason to call again.
    pub(super) fn have_changed(&self, node: &NodeState, device: &DeviceId) -> bool {
        self.is_other_network(node) || !self.found_since(node, device).is_empty()
    }
}

/// Gives up what is under way on a line once its other end seems gone: long before TCP does, and
/// only when there is a reason.
pub(super) struct Lookout<'a> {
    pub(super) node: &'a Arc<NodeState>,
    pub(super) caller: &'a Caller<'a>,
    pub(super) device: &'a TrustedDevice,
    /// What it was when the line was last known to be good.
    pub(super) seen: Surroundings,
    pub(super) meter: Meter,
}

impl Lookout<'_> {
    /// The same as [`Self::over`] for an exchange, which is counted.
    pub(super) async fn sync(
        &self,
        work: impl Future<Output = Result<(), ClientError>>,
    ) -> Result<(), ClientError> {
        let (begun, before) = (Instant::now(), self.meter.bytes());
        let done = self.over(work).await;
        let result = if done.is_ok() { SyncResult::Done } else { SyncResult::Failed };
        self.node.metrics.synced(result, begun.elapsed(), before, self.meter.bytes());
        done
    }

    pub(super) async fn over<T>(
        &self,
        work: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        tokio::select! {
            done = work => done,
            () = self.gone() => Err(ClientError::Stalled(self.device.name.clone())),
        }
    }

    /// Resolves once nothing comes any more, and there is a reason.
    async fn gone(&self) {
        loop {
            let received = self.meter.received();
            tokio::time::sleep(STILL_THERE_WITHIN).await;
            if received == self.meter.received()
                && (self.seen.is_other_network(self.node) || self.is_elsewhere().await)
                && received == self.meter.received()
            {
                return;
            }
        }
    }

    /// Resolves once the device proved itself where it was found since.
    pub(super) async fn elsewhere(self) {
        let mut changes = self.node.presence.changes();
        loop {
            if self.is_elsewhere().await {
                return;
            }
            tokio::time::sleep(LOOK_ELSEWHERE_EVERY).await;
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Whether the device proves itself where it was found since. What fails is remembered, and not
    /// tried for it again soon.
    async fn is_elsewhere(&self) -> bool {
        let (presence, id) = (&self.node.presence, &self.device.device_id);
        let candidates = self.seen.found_since(self.node, id);
        if candidates.is_empty() {
            return false;
        }
        let mut trail = Trail::default();
        match self.caller.open(self.device, &candidates, &mut trail).await {
            Ok(line) => {
                presence.note_unproven(id, &trail.unproven);
                presence.note_proven(id, line.address());
                true
            }
            Err(_) => {
                let all: Vec<String> =
                    candidates.into_iter().map(|candidate| candidate.address).collect();
                presence.note_unproven(id, &all);
                false
            }
        }
    }
}
