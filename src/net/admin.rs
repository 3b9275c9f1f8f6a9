//! The loopback listener as programs use it: pairing codes and everything a person does at this
//! machine. Asks for the run's admin token, whoever calls: a proxy or a container also comes from a
//! loopback address.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::json;
use subtle::ConstantTimeEq as _;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use super::decisions::{self, ResolveBody, UndoBody};
use super::metrics::{Listener, count};
use super::node_state::NodeState;
use super::openapi::admin as describe;
use super::origin::HostNames;
use super::reply::{self, Refusal, Sent};
use super::{lan, pairing_code};
use storysync_engine::HoldDecision;
use storysync_engine::store::trust::RevokedBy;
use storysync_engine::trust::from_base64url;
use storysync_engine::trust::identity::DeviceId;

type Shared = State<Arc<NodeState>>;

/// What programs with the admin token ask, each with its description.
fn routes() -> OpenApiRouter<Arc<NodeState>> {
    OpenApiRouter::default()
        .routes(describe::qr_data().by(qr_data))
        .routes(describe::qr_image().by(qr_image))
        .routes(describe::confirm().by(confirm))
        .routes(describe::pairing_state().by(pairing_state))
        .routes(describe::rename().by(rename))
        .routes(describe::devices().by(devices))
        .routes(describe::remove_device().by(remove_device))
        .routes(describe::conflicts().by(conflicts))
        .routes(describe::ended().by(ended))
        .routes(describe::resolve().by(resolve))
        .routes(describe::resolve_one().by(resolve_one))
        .routes(describe::history().by(history))
        .routes(describe::undo().by(undo))
        .routes(describe::holds().by(holds))
        .routes(describe::approve().by(approve))
        .routes(describe::refuse().by(refuse))
        .routes(describe::live().by(live))
        .routes(describe::log().by(log))
        .merge(super::settings_admin::routes())
        .merge(super::device_admin::routes())
        .merge(super::metrics_admin::routes())
}

/// The routes of the loopback listener, and what describes them.
pub fn router(node: Arc<NodeState>) -> (Router, OpenApi) {
    let (guarded, described) = routes().split_for_parts();
    let guarded = guarded
        .layer(map_response(reply::refused_in_json))
        .layer(from_fn_with_state(Arc::clone(&node), admin_only));
    let router = Router::new()
        .merge(guarded)
        .fallback(not_here)
        .method_not_allowed_fallback(not_here)
        .layer(from_fn_with_state(HostNames::of(&node), super::origin::own_host_only))
        .layer(from_fn_with_state(node.metrics.of(Listener::Loopback), count))
        .with_state(node);
    (router, described)
}

/// What is answered where nothing is.
pub(crate) async fn not_here() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "there is nothing here")
}

#[derive(Deserialize)]
struct TokenQuery {
    token: Option<String>,
}

async fn admin_only(State(node): Shared, request: Request, next: Next) -> Response {
    if may_enter(&node, &request) { next.run(request).await } else { no_token().into_response() }
}

fn may_enter(node: &NodeState, request: &Request) -> bool {
    if bearer(request.headers()).is_some() {
        return has_token(node, request.headers());
    }
    let query = Query::<TokenQuery>::try_from_uri(request.uri()).ok();
    let given = query.and_then(|query| from_base64url(&query.0.token?));
    given.is_some_and(|given| opens_once(node, &given))
}

/// What is answered to whoever does not have the admin token.
pub(crate) fn no_token() -> Refusal {
    Refusal::new(
        StatusCode::UNAUTHORIZED,
        "this needs the node's admin token; `storysync` commands read it from the data directory",
    )
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

fn is_token(node: &NodeState, given: &[u8; 32]) -> bool {
    bool::from(given.ct_eq(node.admin_token.expose()))
}

/// Whether a request carries the admin token in its header.
pub(crate) fn has_token(node: &NodeState, headers: &HeaderMap) -> bool {
    bearer(headers).and_then(from_base64url).is_some_and(|given| is_token(node, &given))
}

/// Whether the admin token in an address lets in. An address stays in histories and logs of
/// proxies: it does so once.
pub(crate) fn opens_once(node: &NodeState, given: &[u8; 32]) -> bool {
    is_token(node, given) && !node.admin_link_used.swap(true, Ordering::Relaxed)
}

#[derive(Deserialize)]
struct WindowQuery {
    #[serde(default)]
    new: bool,
}

async fn qr_data(State(node): Shared, Query(query): Query<WindowQuery>) -> Response {
    reply::bytes_of(pairing_code::text(&node, query.new).into_bytes(), "application/json")
}

async fn qr_image(State(node): Shared, Query(query): Query<WindowQuery>) -> Response {
    match pairing_code::png(&pairing_code::text(&node, query.new)) {
        Ok(png) => reply::bytes_of(png, "image/png"),
        Err(refusal) => refusal.into_response(),
    }
}

#[derive(Deserialize)]
struct CodeBody {
    code: String,
}

async fn confirm(State(node): Shared, Sent(body): Sent) -> Response {
    let confirmed = decisions::parse::<CodeBody>(&body)
        .and_then(|body| pairing_code::confirm(&node, &body.code));
    answer(
        confirmed.map(|()| json!({ "message": "approved; the other device finishes by itself" })),
    )
}

/// Who asks to be paired: polled by `storysync pair show`.
async fn pairing_state(State(node): Shared) -> Response {
    reply::json(&pairing_code::state(&node))
}

#[derive(Deserialize)]
struct NameBody {
    name: String,
}

/// The person at this machine names it.
async fn rename(State(node): Shared, Sent(body): Sent) -> Response {
    let body = match decisions::parse::<NameBody>(&body) {
        Ok(body) => body,
        Err(refusal) => return refusal.into_response(),
    };
    if body.name.trim().is_empty() {
        return Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "a device needs a name")
            .into_response();
    }
    match node.rename(&body.name) {
        Ok(name) => reply::json(&json!({ "name": name })),
        Err(error) => Refusal::from(error).into_response(),
    }
}

async fn devices(State(node): Shared) -> Response {
    match lan::device_list(&node).await {
        Ok(list) => reply::json(&list),
        Err(refusal) => refusal.into_response(),
    }
}

async fn remove_device(State(node): Shared, Path(id): Path<String>) -> Response {
    let Some(device_id) = DeviceId::parse(&id) else {
        return Refusal::new(StatusCode::NOT_FOUND, format!("no paired device has the id {id}"))
            .into_response();
    };
    match lan::revoke(&node, &device_id, RevokedBy::Here, None).await {
        Ok(body) => reply::bytes_of(body, "application/json"),
        Err(refusal) => refusal.into_response(),
    }
}

fn answer(result: Result<serde_json::Value, Refusal>) -> Response {
    match result {
        Ok(json) => reply::json(&json),
        Err(refusal) => refusal.into_response(),
    }
}

async fn conflicts(State(node): Shared) -> Response {
    answer(decisions::conflicts(&node).await)
}

async fn ended(State(node): Shared) -> Response {
    answer(decisions::ended(&node).await)
}

async fn resolve(State(node): Shared, Sent(body): Sent) -> Response {
    match decisions::parse::<ResolveBody>(&body) {
        Ok(body) => answer(decisions::resolve(&node, body, None).await),
        Err(refusal) => refusal.into_response(),
    }
}

async fn resolve_one(State(node): Shared, Path(id): Path<String>, Sent(body): Sent) -> Response {
    match decisions::parse::<ResolveBody>(&body) {
        Ok(body) => {
            answer(decisions::resolve(&node, ResolveBody { id: Some(id), ..body }, None).await)
        }
        Err(refusal) => refusal.into_response(),
    }
}

async fn history(State(node): Shared, Path((table, uuid)): Path<(String, String)>) -> Response {
    answer(decisions::history(&node, table, uuid).await)
}

async fn undo(State(node): Shared, Sent(body): Sent) -> Response {
    match decisions::parse::<UndoBody>(&body) {
        Ok(body) => answer(decisions::undo(&node, body).await),
        Err(refusal) => refusal.into_response(),
    }
}

async fn holds(State(node): Shared) -> Response {
    answer(decisions::holds(&node).await)
}

async fn approve(State(node): Shared, Path(id): Path<String>) -> Response {
    answer(decisions::decide_hold(&node, id, HoldDecision::Approve).await)
}

async fn refuse(State(node): Shared, Path(id): Path<String>) -> Response {
    answer(decisions::decide_hold(&node, id, HoldDecision::Refuse).await)
}

/// How exchanges with paired devices stand, and who was found on the network.
async fn live(State(node): Shared) -> Response {
    let paired: std::collections::BTreeSet<String> = match node.trust.devices() {
        Ok(devices) => devices
            .into_iter()
            .filter(storysync_engine::store::trust::TrustedDevice::is_active)
            .map(|device| device.device_id.to_string())
            .collect(),
        Err(error) => return Refusal::from(error).into_response(),
    };
    let exchanges: serde_json::Map<String, serde_json::Value> = node
        .presence
        .exchanges()
        .into_iter()
        .map(|(device, exchanges)| {
            let mut told = json!(exchanges);
            if let Some(fields) = told.as_object_mut() {
                fields.insert("unproven".to_owned(), json!(node.presence.unproven(&device)));
            }
            (device.to_string(), told)
        })
        .collect();
    let nearby: Vec<serde_json::Value> = node
        .presence
        .nearby()
        .into_iter()
        .map(|(device, nearby)| {
            json!({ "device_id": device.as_str(), "device_name": nearby.name,
                "addresses": nearby.addresses, "is_paired": paired.contains(device.as_str()) })
        })
        .collect();
    reply::json(&json!({ "devices": exchanges, "nearby": nearby }))
}

async fn log(State(node): Shared) -> Response {
    let lines = match node.engine.call(|engine| engine.log_lines(LOG_LINES_SHOWN)).await {
        Ok(Ok(lines)) => lines,
        Ok(Err(error)) => return Refusal::from(error).into_response(),
        Err(gone) => return Refusal::from(gone).into_response(),
    };
    match node.trust.events(LOG_LINES_SHOWN) {
        Ok(events) => reply::json(&super::log_json(&lines, &events)),
        Err(error) => Refusal::from(error).into_response(),
    }
}

/// Lines of each kind of log shown at once.
pub const LOG_LINES_SHOWN: i64 = 200;
