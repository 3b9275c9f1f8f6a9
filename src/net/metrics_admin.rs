//! `GET /metrics` on the loopback listener, for Prometheus and whoever reads its format.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use super::metrics::Standing;
use super::node_state::NodeState;
use super::openapi::operate as describe;
use super::presence;
use super::reply::{self, Refusal};
use storysync_engine::store::trust::TrustedDevice;
use utoipa_axum::router::OpenApiRouter;

/// What OpenMetrics calls itself.
const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The route, for the guarded part of the loopback listener.
pub(super) fn routes() -> OpenApiRouter<Arc<NodeState>> {
    OpenApiRouter::default().routes(describe::metrics().by(metrics))
}

async fn metrics(State(node): State<Arc<NodeState>>) -> Response {
    // Without the file, the rest is told all the same.
    let standing = standing(&node).await;
    match node.metrics.told(standing) {
        Ok(text) => reply::bytes_of(text.into_bytes(), MEDIA_TYPE),
        Err(error) => {
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
        }
    }
}

async fn standing(node: &NodeState) -> Option<Standing> {
    let status = node.engine.call(|engine| engine.status()).await.ok()?.ok()?;
    let devices = node.trust.devices().ok()?;
    let exchanges = node.presence.exchanges();
    let is_in_step = |device: &&TrustedDevice| {
        exchanges.iter().any(|(id, exchanges)| {
            *id == device.device_id && exchanges.state != presence::Standing::Away
        })
    };
    let paired: Vec<&TrustedDevice> = devices.iter().filter(|device| device.is_active()).collect();
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    Some(Standing {
        entities: status.entities,
        log_changes: status.changes,
        parked: status.parked,
        conflicts: status.conflicts,
        quarantined: status.quarantined,
        devices: count(paired.len()),
        devices_in_step: count(paired.iter().copied().filter(|device| is_in_step(device)).count()),
    })
}
