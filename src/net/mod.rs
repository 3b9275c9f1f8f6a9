//! Everything that waits: the HTTP listeners, the client that calls peers, the watch on the app's
//! file. Decides nothing about documents; that is the Engine's, reached through
//! [`handle::EngineHandle`].

pub mod addresses;
pub mod admin;
pub mod client;
pub mod connections;
pub mod current_settings;
pub mod decisions;
pub mod device_admin;
pub mod discovery;
mod events;
pub mod handle;
pub mod lan;
pub mod live;
mod lookout;
pub mod metrics;
mod metrics_admin;
pub mod node_state;
pub mod openapi;
pub mod origin;
pub(crate) mod pairing_code;
pub mod port_holder;
pub mod presence;
pub mod reply;
pub mod sealed;
pub mod server;
pub mod settings_admin;
mod status_cache;
mod told;
mod voice;
pub mod watch;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use storysync_crdt::{DeviceKey, Stamp};
use tokio::net::TcpStream;
use tokio::sync::watch::Receiver;

use storysync_engine::store::peers::{LogLine, MirroredDevice};
use storysync_engine::store::trust::{Event, TrustedDevice};
use storysync_engine::trust::identity::safety_number;

/// Time without a sign of life after which the system asks the other end of a connection whether it
/// is still there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);
/// Pause between such questions.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
/// Questions without an answer after which a connection is dead.
const KEEPALIVE_TRIES: u32 = 3;

/// A device that leaves the network says no goodbye: the system notices within half a minute, and
/// without a byte of ours.
fn notice_when_gone(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_EVERY)
        .with_retries(KEEPALIVE_TRIES);
    if let Err(error) = socket.set_tcp_keepalive(&keepalive) {
        tracing::debug!(%error, "the system does not watch over connections");
    }
    #[cfg(target_os = "linux")]
    if let Err(error) =
        socket.set_tcp_user_timeout(Some(KEEPALIVE_AFTER + KEEPALIVE_EVERY * KEEPALIVE_TRIES))
    {
        tracing::debug!(%error, "the system waits for long for what was sent to be confirmed");
    }
}

/// Resolves once a channel says so. A sender that is gone means the same.
async fn told_to(stop: &mut Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

/// A poisoned lock guards plain data that is consistent between statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The list of devices as every interface shows it: those we trust or trusted, and those of an old
/// server.
#[must_use]
pub fn device_list_json(
    own: &DeviceKey,
    trusted: &[TrustedDevice],
    mirrored: &[MirroredDevice],
) -> serde_json::Value {
    let rfc3339 = |text: &str| Stamp::parse(text).map(Stamp::to_rfc3339);
    let own_key = own;
    let own = trusted.iter().map(|device| {
        serde_json::json!({
            "device_id": device.device_id.as_str(),
            "device_name": device.name,
            "last_sync_at": device.last_sync_at.map(|at| Stamp::from_unix_ms(at).to_rfc3339()),
            "created_at": Stamp::from_unix_ms(device.paired_at).to_rfc3339(),
            "is_active": device.is_active(),
            "frozen": device.frozen_at.is_some(),
            "is_owner": device.is_owner,
            "safety_number": safety_number(own_key, &device.identity_key),
            "is_paused": device.is_paused || device.paused_at.is_some(),
            "paused_at": device.paused_at.map(|at| Stamp::from_unix_ms(at).to_rfc3339()),
            "own_name": device.own_name,
            "keys_in_use_twice_at": device.twice_at.map(|at| Stamp::from_unix_ms(at).to_rfc3339()),
        })
    });
    let others = mirrored
        .iter()
        .filter(|device| !trusted.iter().any(|known| known.device_id.as_str() == device.device_id))
        .map(|device| {
            serde_json::json!({
                "device_id": device.device_id,
                "device_name": device.name,
                "last_sync_at": device.last_sync_at.as_deref().and_then(rfc3339),
                "created_at": rfc3339(&device.created_at),
                "is_active": false,
            })
        });
    serde_json::json!({ "devices": own.chain(others).collect::<Vec<_>>() })
}

/// The log as every interface shows it, newest first: rows devices changed (the documented
/// `sync_log`), and who was let in, sent away or refused, and what was decided. A first sync of
/// thousands of rows hides none of the latter.
#[must_use]
pub fn log_json(lines: &[LogLine], events: &[Event]) -> serde_json::Value {
    let rows = lines.iter().map(|line| {
        let json = serde_json::json!({
            "device_id": line.device_id,
            "device_name": line.device_name,
            "entity_type": line.entity_type,
            "entity_id": line.entity_id,
            "operation": line.operation,
            "sync_uuid": line.sync_uuid,
            "row_name": line.row_name,
        });
        (Stamp::parse(&line.at), json)
    });
    let events = events.iter().map(|event| {
        let json = serde_json::json!({
            "device_id": event.device_id,
            "device_name": event.device_name,
            "entity_type": "device",
            "entity_id": 0,
            "operation": event.kind,
            "detail": event.detail,
            "times": event.times,
        });
        (Some(Stamp::from_unix_ms(event.at)), json)
    });
    let mut log: Vec<_> = rows.chain(events).collect();
    log.sort_by_key(|(at, _)| std::cmp::Reverse(at.map(Stamp::unix_ms)));
    let with_time = log.into_iter().map(|(at, mut json)| {
        if let Some(fields) = json.as_object_mut() {
            fields.insert("at".to_owned(), at.map(Stamp::to_rfc3339).into());
        }
        json
    });
    serde_json::json!({ "log": with_time.collect::<Vec<_>>() })
}
