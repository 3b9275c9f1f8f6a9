//! The loopback listener: pairing codes and everything a person does at this machine. Asks for the
//! run's admin token, whoever calls: a proxy or a container also comes from a loopback address.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use image::ImageEncoder as _;
use serde::Deserialize;
use serde_json::json;
use subtle::ConstantTimeEq as _;

use super::decisions::{self, ResolveBody, UndoBody};
use super::lock;
use super::node_state::{NodeState, now_ms, system_rng};
use super::reply::{self, Refusal};
use super::{addresses, lan};
use storysync_engine::HoldDecision;
use storysync_engine::store::trust::{EventKind, RevokedBy};
use storysync_engine::trust::from_base64url;
use storysync_engine::trust::identity::DeviceId;
use storysync_engine::trust::pairing::{Confirmation, PairingWindow};

/// Edge of one QR module in the PNG, in pixels.
const QR_MODULE_PIXELS: u32 = 8;
/// A window with less time left than this is not shown again, in milliseconds.
const WINDOW_LEFT_MS_MIN: u64 = 30_000;

type Shared = State<Arc<NodeState>>;

/// The routes of the loopback listener.
pub fn router(node: Arc<NodeState>) -> Router {
    let guarded = Router::new()
        .route("/api/pair/qr-data", get(qr_data))
        .route("/api/pair/qr-image", get(qr_image))
        .route("/api/pair/confirm", post(confirm))
        .route("/api/pair/state", get(pairing_state))
        .route("/api/name", post(rename))
        .route("/api/devices", get(devices))
        .route("/api/devices/{id}", delete(remove_device))
        .route("/api/conflicts", get(conflicts))
        .route("/api/conflicts/ended", get(ended))
        .route("/api/conflicts/resolve", post(resolve))
        .route("/api/conflicts/{id}/resolve", post(resolve_one))
        .route("/api/history/{table}/{uuid}", get(history))
        .route("/api/undo", post(undo))
        .route("/api/brakes", get(holds))
        .route("/api/brakes/{id}/approve", post(approve))
        .route("/api/brakes/{id}/refuse", post(refuse))
        .route("/api/live", get(live))
        .route("/api/log", get(log))
        .layer(from_fn_with_state(Arc::clone(&node), admin_only));
    Router::new()
        .route("/", get(health))
        .merge(guarded)
        .fallback(not_here)
        .method_not_allowed_fallback(not_here)
        .layer(from_fn_with_state(Arc::clone(&node), super::origin::own_host_only))
        .with_state(node)
}

async fn not_here() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "there is nothing here")
}

async fn health(State(node): Shared) -> Response {
    reply::json(&node.health())
}

#[derive(Deserialize)]
struct TokenQuery {
    token: Option<String>,
}

async fn admin_only(State(node): Shared, request: Request, next: Next) -> Response {
    let from_header = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .map(str::to_owned);
    let from_link =
        Query::<TokenQuery>::try_from_uri(request.uri()).ok().and_then(|query| query.0.token);
    let (token, is_link) = match from_header {
        Some(token) => (Some(token), false),
        None => (from_link, true),
    };
    let given: Option<[u8; 32]> = token.as_deref().and_then(from_base64url);
    let known = given.is_some_and(|given| bool::from(given.ct_eq(node.admin_token.expose())));
    // An address stays in histories and logs of proxies: it lets in once.
    let right = known && !(is_link && node.admin_link_used.swap(true, Ordering::Relaxed));
    if !right {
        return Refusal::new(
            StatusCode::UNAUTHORIZED,
            "this needs the node's admin token; \
            `storysync` commands read it from the data directory",
        )
        .into_response();
    }
    next.run(request).await
}

#[derive(Deserialize)]
struct WindowQuery {
    #[serde(default)]
    new: bool,
}

/// The text of the open pairing window; opens one when there is none, or another when asked to.
fn window_text(node: &Arc<NodeState>, new: bool) -> String {
    let mut window = lock(&node.pairing);
    let now = now_ms();
    let usable = window.as_ref().filter(|window| {
        !new && window.claim().is_none() && window.is_open(now + WINDOW_LEFT_MS_MIN)
    });
    if let Some(open) = usable {
        return open.offer().to_text();
    }
    *lock(&node.pairing_alarm) = None;
    let places = addresses::reachable(node.settings.lan_ip)
        .into_iter()
        .map(|ip| (ip, node.settings.lan_port))
        .collect();
    let seconds = node.settings.pairing_seconds;
    let opened =
        PairingWindow::open(&node.identity, places, node.settings.approval, now, &mut system_rng())
            .open_for(seconds, now);
    let text = window.insert(opened).offer().to_text();
    let closing = Arc::clone(node);
    tokio::spawn(async move {
        // A second later than it can be used: its secrets are wiped also when nobody asks again.
        tokio::time::sleep(Duration::from_secs(seconds + 1)).await;
        let mut window = lock(&closing.pairing);
        if window.as_ref().is_some_and(|window| !window.is_open(now_ms())) {
            *window = None;
        }
    });
    text
}

async fn qr_data(State(node): Shared, Query(query): Query<WindowQuery>) -> Response {
    reply::bytes_of(window_text(&node, query.new).into_bytes(), "application/json")
}

async fn qr_image(State(node): Shared, Query(query): Query<WindowQuery>) -> Response {
    match qr_png(&window_text(&node, query.new)) {
        Ok(png) => reply::bytes_of(png, "image/png"),
        Err(refusal) => refusal.into_response(),
    }
}

/// The QR code of a text as a PNG, error correction level M (ISO/IEC 18004).
fn qr_png(text: &str) -> Result<Vec<u8>, Refusal> {
    let broken = |error: String| {
        Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the QR code can't be drawn: {error}"),
        )
    };
    let code = qrcode::QrCode::with_error_correction_level(text, qrcode::EcLevel::M)
        .map_err(|error| broken(error.to_string()))?;
    let modules = code.to_colors();
    let width = u32::try_from(code.width()).unwrap_or(0);
    // Four modules of quiet zone on each side.
    let edge = (width + 8) * QR_MODULE_PIXELS;
    let picture = image::GrayImage::from_fn(edge, edge, |x, y| {
        let module =
            |pixel: u32| (pixel / QR_MODULE_PIXELS).checked_sub(4).filter(|module| *module < width);
        let dark = match (module(x), module(y)) {
            (Some(column), Some(row)) => {
                modules.get((row * width + column) as usize) == Some(&qrcode::Color::Dark)
            }
            _ => false,
        };
        image::Luma([if dark { 0 } else { 255 }])
    });
    let mut png = Vec::new();
    image::codecs::png::PngEncoder::new(&mut png)
        .write_image(picture.as_raw(), edge, edge, image::ExtendedColorType::L8)
        .map_err(|error| broken(error.to_string()))?;
    Ok(png)
}

#[derive(Deserialize)]
struct CodeBody {
    code: String,
}

async fn confirm(State(node): Shared, body: Bytes) -> Response {
    let body = match decisions::parse::<CodeBody>(&body) {
        Ok(body) => body,
        Err(refusal) => return refusal.into_response(),
    };
    let mut window = lock(&node.pairing);
    let Some(open) = window.as_mut().filter(|window| window.is_open(now_ms())) else {
        *window = None;
        return Refusal::new(
            StatusCode::NOT_FOUND,
            "no pairing is waiting; show a code with `storysync pair show` first",
        )
        .into_response();
    };
    match open.confirm(&body.code) {
        Confirmation::Approved => {
            reply::json(&json!({ "message": "approved; the other device finishes by itself" }))
        }
        Confirmation::NobodyAsked => {
            Refusal::new(StatusCode::CONFLICT, "no device has scanned the code yet").into_response()
        }
        Confirmation::Wrong { tries_left } => Refusal::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("that is not the code the other device shows; {tries_left} tries are left"),
        )
        .into_response(),
        Confirmation::Aborted => {
            *window = None;
            node.note(
                EventKind::Alarm,
                None,
                "a pairing code was typed wrong three times; pairing was aborted",
            );
            Refusal::new(
                StatusCode::GONE,
                "three wrong codes; pairing was aborted, show a new code",
            )
            .into_response()
        }
    }
}

/// Who asks to be paired: polled by `storysync pair show`.
async fn pairing_state(State(node): Shared) -> Response {
    let window = lock(&node.pairing);
    let open = window.as_ref().filter(|window| window.is_open(now_ms()));
    let claim = open.and_then(PairingWindow::claim);
    reply::json(&json!({
        "open": open.is_some(),
        "device_id": claim.map(|claim| claim.device_id.to_string()),
        "device_name": claim.map(|claim| claim.name.clone()),
        "alarm": lock(&node.pairing_alarm).clone(),
    }))
}

#[derive(Deserialize)]
struct NameBody {
    name: String,
}

/// The person at this machine names it.
async fn rename(State(node): Shared, body: Bytes) -> Response {
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

async fn resolve(State(node): Shared, body: Bytes) -> Response {
    match decisions::parse::<ResolveBody>(&body) {
        Ok(body) => answer(decisions::resolve(&node, body, None).await),
        Err(refusal) => refusal.into_response(),
    }
}

async fn resolve_one(State(node): Shared, Path(id): Path<String>, body: Bytes) -> Response {
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

async fn undo(State(node): Shared, body: Bytes) -> Response {
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
