//! Stays in step with every paired device by itself. One of the two calls: it pulls when the other
//! says that something is new, and pushes what was written here; the other only answers. Whoever is
//! away is tried again, less and less often.
//!
//! The device with the smaller id calls first. The other leaves it three seconds, and calls itself
//! when nobody came: a firewall may let only one of them through.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand_core::Rng as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::addresses::{Candidate, candidates};
use super::client::{Caller, ClientError, EventStream, Line, PeerEvent, PeerReport, Trail};
use super::lookout::{Lookout, Surroundings};
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
/// The same, while the other device asks one thing after the other: a first exchange takes long.
const LEAVE_TO_OTHER_AT_MOST: Duration = Duration::from_secs(10 * 60);
/// Longest pause.
const AWAY_AT_MOST: Duration = Duration::from_secs(60);
/// Shortest time from one call to the next when the device was found elsewhere meanwhile: whoever
/// announces ever new addresses makes nobody call faster.
const CALL_AGAIN_AFTER: Duration = Duration::from_secs(1);
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
            left_to_other(&node, &id).await;
            if node.presence.is_listening(&id) {
                continue;
            }
        }
        let Ok(Some(device)) = node.trust.find(&id) else { return };
        if !device.is_active() {
            return;
        }
        let (seen, called) = (Surroundings::of(&node, &id), Instant::now());
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
                        let rest = CALL_AGAIN_AFTER.saturating_sub(called.elapsed());
                        tokio::time::sleep(rest).await;
                        break;
                    }
                }
            }
        }
    }
}

/// Waits until the other device listens, or has said nothing for a while: what it exchanges with us
/// before it listens would otherwise cross the link a second time, asked for by us.
async fn left_to_other(node: &NodeState, id: &DeviceId) {
    let begun = Instant::now();
    let mut quiet_since = begun;
    while quiet_since.elapsed() < LEAVE_TO_OTHER && begun.elapsed() < LEAVE_TO_OTHER_AT_MOST {
        tokio::time::sleep(LEAVE_TO_OTHER.saturating_sub(quiet_since.elapsed())).await;
        if node.presence.is_listening(id) {
            return;
        }
        quiet_since = node.presence.heard_at(id).map_or(begun, |heard| heard.max(begun));
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
    let unproven = node.presence.unproven(&device.device_id);
    let mut line = talk.reach(&candidates(found, &unproven, device, &options.peers)).await?;
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

impl<'a> Talk<'a> {
    fn lookout(&self, line: &Line<'_>) -> Lookout<'a> {
        Lookout {
            node: self.node,
            caller: self.caller,
            device: self.device,
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

    /// Connects where the device proves itself, and exchanges everything.
    async fn reach(&mut self, candidates: &[Candidate]) -> Result<Line<'a>, ClientError> {
        let (presence, id) = (&self.node.presence, &self.device.device_id);
        let mut trail = Trail::default();
        let opened = self.caller.open(self.device, candidates, &mut trail).await;
        presence.note_unproven(id, &trail.unproven);
        let mut line = opened?;
        presence.note_proven(id, line.address());
        self.note(&line, Standing::Syncing);
        let mut progress = self.progress();
        self.lookout(&line)
            .sync(self.caller.exchange(&mut line, &mut self.report, &mut progress))
            .await?;
        Ok(line)
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
        let mut elsewhere = Box::pin(self.lookout(line).elsewhere());
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
                    if self.seen.is_other_network(self.node) {
                        *stream = self.check_still_there(line).await?;
                        elsewhere = Box::pin(self.lookout(line).elsewhere());
                    }
                }
                () = &mut elsewhere => {
                    *stream = self.check_still_there(line).await?;
                    elsewhere = Box::pin(self.lookout(line).elsewhere());
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
        let now = Surroundings::of(self.node, &self.device.device_id);
        let mut progress = self.progress();
        let lookout = self.lookout(line);
        lookout.sync(self.caller.pull(line, &mut self.report, &mut progress)).await?;
        let stream = lookout.over(self.caller.listen(line)).await?;
        self.seen = now;
        Ok(stream)
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
