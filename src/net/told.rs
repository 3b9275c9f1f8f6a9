//! What devices are told of this node in a status, and for how long it may be told again without
//! asking the Engine.

use std::time::{Duration, Instant};

use super::lock;
use super::node_state::NodeState;
use super::reply::Refusal;
use super::status_cache::ToldStatus;
use storysync_engine::store::trust::TrustedDevice;

/// How long a status waits for the Engine before what it said last is told again.
const STATUS_WITHIN: Duration = Duration::from_millis(15);
/// How old a status may be that is told again although the file may have changed since.
const STATUS_STALE_AFTER: Duration = Duration::from_secs(10);

/// How this node stands for a device. While nobody has written to the file, the Engine need not be
/// asked. And while it is busy with a page of somebody's first sync, or the file is locked, what it
/// said a moment ago is told again rather than keeping everybody waiting.
pub(super) async fn told_status(
    node: &NodeState,
    device: &TrustedDevice,
) -> Result<ToldStatus, Refusal> {
    let (moment, still) = lock(&node.told_statuses).look(&device.device_id);
    if let Some(still) = still {
        return Ok(still);
    }
    let device_id = device.device_id.to_string();
    // A locked database is waited for once, not once for each question.
    let asked =
        node.engine.call(move |engine| Ok((engine.status()?, engine.pending_for(&device_id)?)));
    tokio::pin!(asked);
    let answered = match tokio::time::timeout(STATUS_WITHIN, &mut asked).await {
        Ok(answered) => answered,
        Err(_) => {
            let last = lock(&node.told_statuses)
                .last
                .get(&device.device_id)
                .filter(|last| last.at.elapsed() < STATUS_STALE_AFTER)
                .cloned();
            match last {
                Some(last) => return Ok(last),
                None => asked.await,
            }
        }
    };
    let (status, pending) = answered??;
    let told = ToldStatus { status, pending, moment, at: Instant::now() };
    lock(&node.told_statuses).last.insert(device.device_id.clone(), told.clone());
    Ok(told)
}
