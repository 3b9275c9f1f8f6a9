//! Everything that waits: the HTTP listeners, the client that calls peers, the watch on the app's file.
//! Decides nothing about documents; that is the Engine's, reached through [`handle::EngineHandle`].

pub mod addresses;
pub mod admin;
pub mod client;
pub mod decisions;
pub mod handle;
pub mod lan;
pub mod node_state;
pub mod origin;
pub mod reply;
pub mod server;
pub mod watch;

use storysync_crdt::Stamp;

use crate::store::peers::MirroredDevice;
use crate::store::trust::TrustedDevice;

/// The list of devices as every interface shows it: those we trust or trusted, and those of an old server.
#[must_use]
pub fn device_list_json(trusted: &[TrustedDevice], mirrored: &[MirroredDevice]) -> serde_json::Value {
    let rfc3339 = |text: &str| Stamp::parse(text).map(Stamp::to_rfc3339);
    let own = trusted.iter().map(|device| {
        serde_json::json!({
            "device_id": device.device_id.as_str(),
            "device_name": device.name,
            "last_sync_at": device.last_sync_at.map(|at| Stamp::from_unix_ms(at).to_rfc3339()),
            "created_at": Stamp::from_unix_ms(device.paired_at).to_rfc3339(),
            "is_active": device.is_active(),
        })
    });
    let others = mirrored.iter().filter(|device| !trusted.iter().any(|known| known.device_id.as_str() == device.device_id)).map(|device| {
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

/// The documented log as every interface shows it.
#[must_use]
pub fn log_json(lines: &[crate::store::peers::LogLine]) -> serde_json::Value {
    let line = |line: &crate::store::peers::LogLine| {
        serde_json::json!({
            "at": Stamp::parse(&line.at).map(Stamp::to_rfc3339),
            "device_id": line.device_id,
            "device_name": line.device_name,
            "entity_type": line.entity_type,
            "entity_id": line.entity_id,
            "operation": line.operation,
        })
    };
    serde_json::json!({ "log": lines.iter().map(line).collect::<Vec<_>>() })
}
