//! What the person at this machine does with a paired device, on the loopback listener: calling it
//! something, pausing it, letting it go on. Sending it away is `admin`'s.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;

use super::decisions::parse;
use super::node_state::{NodeState, now};
use super::openapi::operate as describe;
use super::reply::{self, Refusal, Sent};
use super::{lan, lock};
use storysync_engine::store::trust::Pausing;
use storysync_engine::trust::identity::DeviceId;

type Shared = State<Arc<NodeState>>;

/// The routes, for the guarded part of the loopback listener.
pub(super) fn routes() -> OpenApiRouter<Arc<NodeState>> {
    OpenApiRouter::default()
        .routes(describe::name_device().by(name))
        .routes(describe::pause_device().by(pause))
        .routes(describe::resume_device().by(resume))
}

#[derive(Deserialize)]
struct NameBody {
    /// Empty: as it calls itself.
    name: String,
}

fn device(id: &str) -> Result<DeviceId, Refusal> {
    DeviceId::parse(id).ok_or_else(|| {
        Refusal::new(StatusCode::NOT_FOUND, format!("no paired device has the id {id}"))
    })
}

fn answer(result: Result<Value, Refusal>) -> Response {
    match result {
        Ok(json) => reply::json(&json),
        Err(refusal) => refusal.into_response(),
    }
}

async fn name(State(node): Shared, Path(id): Path<String>, Sent(body): Sent) -> Response {
    let named = async {
        let body = parse::<NameBody>(&body)?;
        let name = call(&node, &id, &body.name).await?;
        Ok(json!({ "device_id": id, "device_name": name }))
    };
    answer(named.await)
}

/// Calls a device something else here; as it calls itself where `name` is empty. Returns what it is
/// called.
pub(crate) async fn call(node: &Arc<NodeState>, id: &str, name: &str) -> Result<String, Refusal> {
    let name = node.trust.call_device(&device(id)?, name, now().unix_ms())?;
    lan::mirror_soon(node).await;
    Ok(name)
}

async fn pause(State(node): Shared, Path(id): Path<String>) -> Response {
    answer(set(&node, &id, Pausing::Pause))
}

async fn resume(State(node): Shared, Path(id): Path<String>) -> Response {
    answer(set(&node, &id, Pausing::Resume))
}

/// What goes on with the device at this moment ends with a pause.
pub(crate) fn set(node: &NodeState, id: &str, pausing: Pausing) -> Result<Value, Refusal> {
    let device_id = device(id)?;
    node.trust.pause(&device_id, pausing, now().unix_ms())?;
    if pausing == Pausing::Pause {
        lock(&node.prekeys).forget(&device_id);
        node.connections.close_all_of(&device_id, None);
        tracing::info!(device = %device_id, "a device was paused");
    }
    node.presence.pairings_changed();
    Ok(json!({ "device_id": device_id.as_str(), "is_paused": pausing == Pausing::Pause }))
}
