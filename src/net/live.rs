//! Stays in step with every paired device by itself. One of the two calls: it pulls when the other
//! says that something is new, and pushes what was written here; the other only answers. Whoever is
//! away is tried again, less and less often.
//!
//! The device with the smaller id calls first. The other leaves it three seconds, and calls itself
//! when nobody came: a firewall may let only one of them through.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand_core::Rng as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::addresses::candidates;
use super::client::{Caller, ClientError, EventStream, Line, Meter, PeerEvent, PeerReport};
use super::metrics::SyncResult;
use super::node_state::{NodeState, system_rng};
use super::presence::{Exchanges, Standing};
use super::told_to;
use crate::config::Peer;
use storysync_engine::exchange::{ContactChoice, Progress};
use storysync_engine::store::trust::TrustedDevice;
use storysync_engine::trust::identity::DeviceId;

/// Pause between looks at who is paired: other commands of this device pair and revoke, too.
const LOOK_FOR_DEVICES_EVERY: Duration = Duration::from_secs(2);
/// How long the device with the greater id leaves calling to the other.
const LEAVE_TO_OTHER: Duration = Duration::from_secs(3);
/// What is written within so much time travels together.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// First pause after a device could not be reached; it doubles each time.
const AWAY_AT_FIRST: Duration = Duration::from_secs(1);
/// Longest pause.
const AWAY_AT_MOST: Duration = Duration::from_secs(60);
/// For how long nothing may come after the network changed or the device was found elsewhere, for
/// it to be taken for still there.
const STILL_THERE_WITHIN: Duration = Duration::from_secs(3);
/// A whole exchange now and then, should an event ever be lost.
const WHOLE_EXCHANGE_EVERY: Duration = Duration::from_secs(30 * 60);

/// How to stay in step.
#[derive(Debug, Clone, Default)]
pub struct LiveOptions {
    /// Addresses from the configuration.
    pub peers: Vec<Peer>,
    /// How to meet a file for the first time.
    pub contact: ContactChoice,
}

/// Keeps in step with every paired device until `stop`.
pub async fn run(node: Arc<NodeState>, options: LiveOptions, mut stop: watch::Receiver<bool>) {
    let options = Arc::new(options);
    let mut tasks: HashMap<DeviceId, (u32, JoinHandle<()>)> = HashMap::new();
    let mut pairings = node.presence.pairings();
    loop {
        match node.trust.devices() {
            Ok(devices) => {
                let active: HashMap<DeviceId, u32> = devices
                    .into_iter()
                    .filter(TrustedDevice::is_taken_from)
                    .filter_map(|device| {
                        Some((device.device_id.clone(), device.pair.as_ref()?.epoch))
                    })
                    .collect();
                tasks.retain(|device, (epoch, task)| {
                    let stays = active.get(device) == Some(epoch);
                    if !stays {
                        task.abort();
                        node.presence.forget(device);
                    }
                    stays && !task.is_finished()
                });
                for (device, epoch) in active {
                    tasks.entry(device.clone()).or_insert_with(|| {
                        (
                            epoch,
                            tokio::spawn(keep_in_step(
                                Arc::clone(&node),
                                device,
                                Arc::clone(&options),
                            )),
                        )
                    });
                }
            }
            Err(error) => tracing::warn!(%error, "the list of paired devices could not be read"),
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_FOR_DEVICES_EVERY) => {}
            _ = pairings.changed() => {}
            () = told_to(&mut stop) => break,
        }
    }
    for (_, task) in tasks.into_values() {
        task.abort();
    }
}

async fn keep_in_step(node: Arc<NodeState>, id: DeviceId, options: Arc<LiveOptions>) {
    let calls_first = node.identity.device_id().as_str() < id.as_str();
    let mut failures: u32 = 0;
    loop {
        let mut changes = node.presence.changes();
        if node.presence.is_listening(&id) {
            // It calls us.
            if changes.changed().await.is_err() {
                return;
            }
            continue;
        }
        if !calls_first && failures == 0 {
            tokio::time::sleep(LEAVE_TO_OTHER).await;
            if node.presence.is_listening(&id) {
                continue;
            }
        }
        let Ok(Some(device)) = node.trust.find(&id) else { return };
        if !device.is_active() {
            return;
        }
        let seen = Surroundings::of(&node, &id);
        match talk(&node, &device, &options, calls_first, seen.clone()).await {
            Ok(()) => failures = 0,
            Err(error) => {
                failures = failures.saturating_add(1);
                if matches!(error, ClientError::Unreachable { .. }) {
                    node.metrics.count(SyncResult::Unreachable);
                }
                tracing::debug!(device = %id, %error, "a device is away");
                node.presence.note(&id, |exchanges| exchanges.error = Some(error.to_string()));
            }
        }
        node.presence.note(&id, |exchanges| exchanges.state = Standing::Away);
        let pause = tokio::time::sleep(pause_after(failures));
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => break,
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    if node.presence.is_listening(&id) || seen.have_changed(&node, &id) {
                        failures = failures.min(1);
                        break;
                    }
                }
            }
        }
    }
}

/// Doubles with each failure; the half of it is left to chance, so that devices that lost each
/// other at once do not come back at once.
fn pause_after(failures: u32) -> Duration {
    if failures == 0 {
        return Duration::from_millis(100);
    }
    let whole =
        AWAY_AT_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(AWAY_AT_MOST);
    whole / 2 + (whole / 2).mul_f64(f64::from(system_rng().next_u32()) / f64::from(u32::MAX))
}

/// One conversation: everything is exchanged, then whatever is new as it comes. Ends well when the
/// other side takes over.
async fn talk(
    node: &Arc<NodeState>,
    device: &TrustedDevice,
    options: &LiveOptions,
    calls_first: bool,
    seen: Surroundings,
) -> Result<(), ClientError> {
    let name = node.name();
    let caller = Caller {
        identity: &node.identity,
        trust: &node.trust,
        engine: &node.engine,
        own_port: Some(node.settings.lan_port),
        name: &name,
        installation: &node.settings.installation,
        static_addresses: &[],
        contact: options.contact,
    };
    let mut talk =
        Talk { node, caller: &caller, device, report: PeerReport::of(device), calls_first, seen };
    let found =
        node.presence.addresses_of(&device.device_id).iter().map(ToString::to_string).collect();
    let mut line = talk.reach(&candidates(found, device, &options.peers)).await?;
    let mut stream = talk.lookout(&line).over(caller.listen(&mut line)).await?;
    talk.note(&line, Standing::Connected);
    talk.follow(&mut line, &mut stream).await
}

struct Talk<'a> {
    node: &'a Arc<NodeState>,
    caller: &'a Caller<'a>,
    device: &'a TrustedDevice,
    report: PeerReport,
    calls_first: bool,
    /// What it was when the line was last known to be good.
    seen: Surroundings,
}

/// What tells that the other end of a connection may be gone without a word.
#[derive(Debug, Clone)]
struct Surroundings {
    /// Where the device was found.
    addresses: Vec<SocketAddr>,
    /// How often the addresses of this machine had changed.
    network: u64,
}

impl Surroundings {
    fn of(node: &NodeState, device: &DeviceId) -> Self {
        Self { addresses: node.presence.addresses_of(device), network: node.presence.network() }
    }

    /// Whether this machine's network is another, or the device was found where it was not before.
    fn have_changed(&self, node: &NodeState, device: &DeviceId) -> bool {
        let now = Self::of(node, device);
        now.network != self.network
            || now.addresses.iter().any(|address| !self.addresses.contains(address))
    }
}

/// Gives up what is under way on a line once its other end seems gone: long before TCP does, and
/// only when there is a reason.
struct Lookout {
    node: Arc<NodeState>,
    id: DeviceId,
    name: String,
    seen: Surroundings,
    meter: Meter,
}

impl Lookout {
    /// The same for an exchange, which is counted.
    async fn sync(
        &self,
        work: impl Future<Output = Result<(), ClientError>>,
    ) -> Result<(), ClientError> {
        let (begun, before) = (Instant::now(), self.meter.bytes());
        let done = self.over(work).await;
        let result = if done.is_ok() { SyncResult::Done } else { SyncResult::Failed };
        self.node.metrics.synced(result, begun.elapsed(), before, self.meter.bytes());
        done
    }

    async fn over<T>(
        &self,
        work: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        tokio::pin!(work);
        loop {
            let received = self.meter.received();
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(STILL_THERE_WITHIN) => {
                    if received == self.meter.received() && self.seen.have_changed(&self.node,
                        &self.id) {
                        return Err(ClientError::Stalled(self.name.clone()));
                    }
                }
            }
        }
    }
}

impl<'a> Talk<'a> {
    fn lookout(&self, line: &Line<'_>) -> Lookout {
        let (id, name) = (self.device.device_id.clone(), self.device.name.clone());
        Lookout {
            node: Arc::clone(self.node),
            id,
            name,
            seen: self.seen.clone(),
            meter: line.meter(),
        }
    }

    fn note(&self, line: &Line<'_>, state: Standing) {
        let (bytes_sent, bytes_received) = line.bytes();
        self.node.presence.note(&self.device.device_id, |exchanges: &mut Exchanges| {
            exchanges.state = state;
            exchanges.address = Some(line.address().to_owned());
            exchanges.error = None;
            exchanges.pulled = self.report.pulled;
            exchanges.pushed = self.report.pushed;
            (exchanges.bytes_sent, exchanges.bytes_received) = (bytes_sent, bytes_received);
        });
    }

    fn progress(&self) -> impl FnMut(Progress) + Send + use<> {
        let (presence, device_id) =
            (Arc::clone(&self.node.presence), self.device.device_id.clone());
        move |progress| presence.note(&device_id, |exchanges| exchanges.progress = progress)
    }

    /// Connects and exchanges everything, at the first address where the device itself answers.
    async fn reach(&mut self, addresses: &[String]) -> Result<Line<'a>, ClientError> {
        let mut last = ClientError::Unreachable {
            name: self.device.name.clone(),
            addresses: addresses.to_vec(),
        };
        for address in addresses {
            let mut line = match self.caller.open(self.device, std::slice::from_ref(address)).await
            {
                Ok(line) => line,
                Err(ClientError::Unreachable { .. }) => continue,
                Err(error) => return Err(error),
            };
            self.note(&line, Standing::Syncing);
            let mut progress = self.progress();
            match self
                .lookout(&line)
                .sync(self.caller.exchange(&mut line, &mut self.report, &mut progress))
                .await
            {
                Ok(()) => return Ok(line),
                // Somebody else may have this address by now.
                Err(
                    error @ (ClientError::Refused(_)
                    | ClientError::NotAuthentic(_)
                    | ClientError::Busy { .. }),
                ) => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    async fn follow(
        &mut self,
        line: &mut Line<'a>,
        stream: &mut EventStream,
    ) -> Result<(), ClientError> {
        let id = &self.device.device_id;
        let (mut ends, mut changes) = (self.node.engine.ends(), self.node.presence.changes());
        let mut stopping = self.node.stopping();
        let mut whole = tokio::time::interval(WHOLE_EXCHANGE_EVERY);
        whole.reset();
        // What was written while everything was exchanged.
        self.push_news(line).await?;
        loop {
            tokio::select! {
                event = stream.next() => match event? {
                    None => return Ok(()),
                    Some(PeerEvent::Alive) => {}
                    Some(PeerEvent::Changes) => {
                        let mut progress = self.progress();
                        self.lookout(line).sync(self.caller.pull(line, &mut self.report,
                            &mut progress)).await?;
                        self.note(line, Standing::Connected);
                    }
                },
                changed = ends.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    tokio::time::sleep(DEBOUNCE).await;
                    ends.borrow_and_update();
                    self.push_news(line).await?;
                }
                changed = changes.changed() => {
                    if changed.is_err() || (!self.calls_first
                        && self.node.presence.is_listening(id)) {
                        return Ok(());
                    }
                    let now = Surroundings::of(self.node, id);
                    if self.seen.have_changed(self.node, id) {
                        *stream = self.check_still_there(line).await?;
                    }
                    self.seen = now;
                }
                _ = whole.tick() => {
                    let mut progress = self.progress();
                    self.lookout(line).sync(self.caller.exchange(line, &mut self.report,
                        &mut progress)).await?;
                }
                () = told_to(&mut stopping) => return Ok(()),
            }
        }
    }

    async fn push_news(&mut self, line: &mut Line<'a>) -> Result<(), ClientError> {
        let id = self.device.device_id.to_string();
        // A log in another epoch must be compared first.
        let (is_other_epoch, news) = self
            .node
            .engine
            .call(move |engine| Ok((engine.needs_reconciling(&id)?, engine.news_for(&id, None)?.0)))
            .await??;
        if is_other_epoch || news {
            let mut progress = self.progress();
            if is_other_epoch {
                self.lookout(line)
                    .sync(self.caller.exchange(line, &mut self.report, &mut progress))
                    .await?;
            } else {
                self.lookout(line)
                    .sync(self.caller.push(line, &mut self.report, &mut progress))
                    .await?;
            }
            self.note(line, Standing::Connected);
        }
        Ok(())
    }

    /// The other end of an old connection may be gone without a word. Requests find another
    /// connection by themselves where they must, and then the stream would be left behind: it is
    /// opened anew.
    async fn check_still_there(&mut self, line: &mut Line<'a>) -> Result<EventStream, ClientError> {
        let mut progress = self.progress();
        let lookout = self.lookout(line);
        lookout.sync(self.caller.pull(line, &mut self.report, &mut progress)).await?;
        lookout.over(self.caller.listen(line)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute_and_are_never_the_same_for_all() {
        assert!(pause_after(0) < Duration::from_secs(1));
        for failures in 1..40 {
            let whole = AWAY_AT_FIRST.saturating_mul(1 << (failures - 1).min(10)).min(AWAY_AT_MOST);
            let pauses: Vec<Duration> = (0..20).map(|_| pause_after(failures)).collect();
            assert!(
                pauses.iter().all(|pause| (whole / 2..=whole).contains(pause)),
                "{failures}: {pauses:?}"
            );
            assert!(pauses.iter().any(|pause| Some(pause) != pauses.first()));
        }
    }
}
