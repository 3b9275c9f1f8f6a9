//! The LAN listener: health, registration, and what paired devices ask, sealed. Nothing else answers.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use serde_json::json;
use storysync_crdt::Stamp;
use zeroize::Zeroizing;

use super::decisions::{self, ResolveBody};
use super::node_state::{NodeState, devices_to_mirror, lock, now, now_ms, system_rng};
use super::reply::{self, Refusal};
use crate::store::trust::TrustedDevice;
use crate::sync::wire::{PullRequest, PushRequest, PushResponse};
use crate::trust::envelope::{self, Header, MEDIA_TYPE, OpenedRequest, Responder, Route, SEALED_BYTES_MAX};
use crate::trust::identity::DeviceId;
use crate::trust::pairing::{Admission, REGISTER_BYTES_MAX, REGISTER_TARGET};
use crate::trust::prekey::{PREKEY_LIFETIME_MS, PrekeyRefusal};
use crate::trust::{from_base64url, to_base64url};

/// Header that carries the sealed body of requests that have none.
pub const SEALED_HEADER: &str = "x-storysync-sealed";
/// Bodies at least this long are compressed, in bytes.
const COMPRESS_BYTES_MIN: usize = 512;
/// Longest body after inflating, in bytes.
const INFLATED_BYTES_MAX: u64 = 64 * 1024 * 1024;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

type Shared = State<Arc<NodeState>>;

/// The routes of the LAN listener.
pub fn router(node: Arc<NodeState>) -> Router {
    let sealed = Router::new()
        .route("/api/sync/pull", post(pull))
        .route("/api/sync/push", post(push))
        .route("/api/sync/status", get(status))
        .route("/api/sync/conflicts", get(conflicts))
        .route("/api/sync/resolve", post(resolve))
        .route("/api/devices", get(devices))
        .route("/api/devices/{id}", delete(remove_device))
        .layer(DefaultBodyLimit::max(SEALED_BYTES_MAX));
    Router::new()
        .route("/", get(health))
        .route(REGISTER_TARGET, post(register).layer(DefaultBodyLimit::max(REGISTER_BYTES_MAX)))
        .merge(sealed)
        .fallback(not_here)
        .method_not_allowed_fallback(not_here)
        .layer(axum::middleware::from_fn(super::origin::own_host_only))
        .with_state(node)
}

async fn health(State(node): Shared) -> Response {
    reply::json(&node.health())
}

async fn not_here() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "there is nothing here")
}

fn sealed_response(status: StatusCode, envelope: Vec<u8>) -> Response {
    let mut response = reply::bytes_of(envelope, MEDIA_TYPE);
    *response.status_mut() = status;
    response
}

/// A request whose sender is proven.
struct Sealed {
    device: TrustedDevice,
    request: OpenedRequest,
}

/// What a request came with.
struct Incoming {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

impl Incoming {
    fn envelope(&self) -> Result<Vec<u8>, Refusal> {
        if self.method == Method::POST {
            return Ok(self.body.to_vec());
        }
        use base64::Engine as _;
        let text = self.headers.get(SEALED_HEADER).ok_or_else(Refusal::unauthorized)?;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text.as_bytes()).map_err(|_| Refusal::unauthorized())
    }

    fn token(&self) -> Option<Zeroizing<[u8; 32]>> {
        let text = self.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        from_base64url(text.strip_prefix("Bearer ")?).map(Zeroizing::new)
    }

    /// Opens the sealed body: finds the device by its token, the key by the envelope's header, verifies
    /// everything, and only then marks the request as seen.
    fn open(&self, node: &NodeState) -> Result<Sealed, Refusal> {
        let token = self.token().ok_or_else(Refusal::unauthorized)?;
        let device = node.trust.find_by_token(token.as_slice())?.ok_or_else(Refusal::unauthorized)?;
        let pair = device.pair.as_ref().ok_or_else(Refusal::unauthorized)?;
        let envelope = self.envelope()?;
        let header = Header::parse(&envelope).map_err(|_| Refusal::unauthorized())?;
        let target = self.uri.path_and_query().map_or("/", |target| target.as_str());
        let server = node.identity.public_key();
        let route = Route { method: self.method.as_str(), target, client: &device.identity_key, server: &server };
        if header.kid == 0 {
            // Nothing confidential is ever sealed to a long-term key: it only asks for a prekey.
            if target != "/api/sync/status" {
                return Err(need_prekey());
            }
            let request = envelope::open_request(route, pair, node.identity.agreement(), &envelope).map_err(|_| Refusal::unauthorized())?;
            if !request.body.is_empty() {
                return Err(Refusal::unauthorized());
            }
            return Ok(Sealed { device, request });
        }
        let secret = lock(&node.prekeys).secret(header.kid, &device.device_id, now_ms()).map_err(|_| need_prekey())?;
        let request = envelope::open_request(route, pair, &secret, &envelope).map_err(|_| Refusal::unauthorized())?;
        lock(&node.prekeys).mark(header.kid, header.seq).map_err(|refusal| match refusal {
            PrekeyRefusal::Unknown => need_prekey(),
            PrekeyRefusal::Replayed => Refusal::unauthorized(),
        })?;
        Ok(Sealed { device, request })
    }
}

fn need_prekey() -> Refusal {
    Refusal::new(StatusCode::CONFLICT, "need_prekey: ask GET /api/sync/status for a new prekey and send this again")
}

/// Seals an answer, success or refusal alike: whoever was authenticated reads why.
fn seal_answer(responder: Responder, status: StatusCode, body: &[u8]) -> Response {
    match responder.seal(status.as_u16(), body, &mut system_rng()) {
        Ok(envelope) => sealed_response(status, envelope),
        Err(_) => Refusal::unauthorized().into_response(),
    }
}

fn answer_sealed(responder: Responder, answer: Result<Vec<u8>, Refusal>) -> Response {
    match answer {
        Ok(body) => seal_answer(responder, StatusCode::OK, &body),
        Err(refusal) => {
            let body = json!({ "detail": refusal.detail }).to_string();
            seal_answer(responder, refusal.status, body.as_bytes())
        }
    }
}

fn to_json_bytes(value: &impl serde::Serialize) -> Result<Vec<u8>, Refusal> {
    serde_json::to_vec(value).map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

/// Compresses a body before it is sealed, when the other side reads gzip and it is worth it.
pub(super) fn compress(body: Vec<u8>) -> Vec<u8> {
    use std::io::Write as _;
    if body.len() < COMPRESS_BYTES_MIN {
        return body;
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    match encoder.write_all(&body).and_then(|()| encoder.finish()) {
        Ok(compressed) => compressed,
        Err(_) => body,
    }
}

/// Inflates an authenticated body that begins like gzip (JSON never does), up to a limit.
pub(super) fn inflate(body: &[u8]) -> Result<Vec<u8>, Refusal> {
    use std::io::Read as _;
    if !body.starts_with(&GZIP_MAGIC) {
        return Ok(body.to_vec());
    }
    let mut inflated = Vec::new();
    let mut decoder = flate2::read::GzDecoder::new(body).take(INFLATED_BYTES_MAX + 1);
    decoder.read_to_end(&mut inflated).map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "the compressed body is damaged"))?;
    if inflated.len() as u64 > INFLATED_BYTES_MAX {
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 64 MiB; send smaller pages"));
    }
    Ok(inflated)
}

fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(&inflate(body)?)
        .map_err(|error| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, format!("the body is not what is documented: {error}")))
}

async fn register(State(node): Shared, ConnectInfo(from): ConnectInfo<SocketAddr>, body: Bytes) -> Response {
    let admitted = {
        let mut window = lock(&node.pairing);
        let Some(open) = window.as_mut().filter(|window| window.is_open(now_ms())) else {
            *window = None;
            return Refusal::unauthorized().into_response();
        };
        let epoch_of = |key: &storysync_crdt::DeviceKey| node.trust.epoch_of(key).unwrap_or(0);
        let admitted = open.admit(&body, &node.identity, &node.name, epoch_of, &mut system_rng());
        if matches!(admitted, Ok(Admission::Granted { .. } | Admission::Leaked)) {
            *window = None;
        }
        admitted
    };
    match admitted {
        Err(_) => Refusal::unauthorized().into_response(),
        Ok(Admission::Leaked) => {
            tracing::error!("a second device used the same pairing code: it has leaked, pairing was aborted");
            *lock(&node.pairing_alarm) = Some("a second device used the same pairing code; pairing was aborted, show a new code".to_owned());
            Refusal::unauthorized().into_response()
        }
        Ok(Admission::Pending { responder }) => {
            let body = json!({ "message": "waiting for the code to be typed on the other device" }).to_string();
            seal_answer(responder, StatusCode::ACCEPTED, body.as_bytes())
        }
        Ok(Admission::Granted { device, answer }) => {
            let addresses: Vec<String> = device.port.map(|port| SocketAddr::new(from.ip(), port).to_string()).into_iter().collect();
            let stored = node.trust.store_pairing(&device, &addresses, now().unix_ms());
            match stored {
                Ok(device_id) => {
                    lock(&node.prekeys).forget(&device_id);
                    tracing::info!(device = %device_id, "a device was paired");
                    mirror_devices(&node).await;
                    sealed_response(StatusCode::OK, answer)
                }
                Err(error) => Refusal::from(error).into_response(),
            }
        }
    }
}

/// Shows the list of devices in the app's file, too. The list that counts is in the data directory.
pub async fn mirror_devices(node: &NodeState) {
    let devices = match devices_to_mirror(&node.trust) {
        Ok(devices) => devices,
        Err(error) => {
            tracing::warn!(%error, "the list of devices could not be read");
            return;
        }
    };
    match node.engine.call(move |engine| engine.mirror_devices(&devices, now())).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the list of devices could not be shown in the app's database"),
        Err(error) => tracing::warn!(%error, "the list of devices could not be shown in the app's database"),
    }
}

async fn status(State(node): Shared, method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let incoming = Incoming { method, uri, headers, body: Bytes::new() };
    let Sealed { device, request } = match incoming.open(&node) {
        Ok(sealed) => sealed,
        Err(refusal) => return refusal.into_response(),
    };
    let prekey = lock(&node.prekeys).issue(&device.device_id, now_ms(), &mut system_rng());
    let device_id = device.device_id.to_string();
    let counted = node
        .engine
        .call(move |engine| {
            let status = engine.status()?;
            // A locked database is waited for once, not once for each question.
            let pending = engine.pending_for(&device_id)?;
            Ok::<_, crate::sync::EngineError>((status, pending, engine.epoch()))
        })
        .await;
    let answer = counted.map_err(Refusal::from).and_then(|counted| counted.map_err(Refusal::from)).and_then(|(status, pending, epoch)| {
        to_json_bytes(&json!({
            "device_id": node.identity.device_id().as_str(),
            "device_name": node.name,
            "last_sync_at": device.last_sync_at.map(|at| Stamp::from_unix_ms(at).to_rfc3339()),
            "pending_changes_count": pending,
            "server_timestamp": now().to_rfc3339(),
            "epoch": epoch,
            "entities": status.entities,
            "conflicts": status.conflicts,
            "kid": prekey.kid.to_string(),
            "prekey": to_base64url(&prekey.key),
            "prekey_ttl_seconds": PREKEY_LIFETIME_MS / 1000,
        }))
    });
    answer_sealed(request.responder, answer)
}

async fn pull(State(node): Shared, ConnectInfo(from): ConnectInfo<SocketAddr>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let Sealed { device, request } = match (Incoming { method, uri, headers, body }).open(&node) {
        Ok(sealed) => sealed,
        Err(refusal) => return refusal.into_response(),
    };
    let answer = answer_pull(&node, &device, from, &request.body).await;
    answer_sealed(request.responder, answer)
}

async fn answer_pull(node: &NodeState, device: &TrustedDevice, from: SocketAddr, body: &[u8]) -> Result<Vec<u8>, Refusal> {
    let request: PullRequest = parse(body)?;
    if let Some(port) = request.port {
        node.trust.note_address(&device.device_id, &SocketAddr::new(from.ip(), port).to_string())?;
    }
    let compressed = request.compress.as_deref() == Some("gzip");
    let device_id = device.device_id.to_string();
    let page = node.engine.call(move |engine| engine.answer_pull(&request, &device_id, now())).await??;
    if !page.has_more {
        node.trust.note_sync(&device.device_id, now().unix_ms())?;
    }
    let body = to_json_bytes(&page)?;
    Ok(if compressed { compress(body) } else { body })
}

async fn push(State(node): Shared, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let Sealed { device, request } = match (Incoming { method, uri, headers, body }).open(&node) {
        Ok(sealed) => sealed,
        Err(refusal) => return refusal.into_response(),
    };
    let answer = answer_push(&node, &device, &request.body).await;
    answer_sealed(request.responder, answer)
}

async fn answer_push(node: &NodeState, device: &TrustedDevice, body: &[u8]) -> Result<Vec<u8>, Refusal> {
    let request: PushRequest = parse(body)?;
    let device_id = device.device_id.to_string();
    let (receipt, accepted, epoch) = node
        .engine
        .call(move |engine| {
            let receipt = engine.receive(&request.changes, &device_id, now())?;
            let accepted = engine.accepted_states(&receipt, &request.changes, &device_id, now())?;
            Ok::<_, crate::sync::EngineError>((receipt, accepted, engine.epoch()))
        })
        .await??;
    node.trust.note_sync(&device.device_id, now().unix_ms())?;
    let (accepted_states, conflicts) = accepted;
    let accepted = receipt.rows.len() + receipt.unchanged.len();
    let message = match receipt.rejected.first() {
        None => format!("{accepted} rows taken in"),
        Some(first) => format!("{accepted} rows taken in; refused: {first}"),
    };
    to_json_bytes(&PushResponse { accepted, accepted_states, conflicts, rejected: receipt.rejected.len(), message, epoch })
}

async fn conflicts(State(node): Shared, method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let Sealed { request, .. } = match (Incoming { method, uri, headers, body: Bytes::new() }).open(&node) {
        Ok(sealed) => sealed,
        Err(refusal) => return refusal.into_response(),
    };
    let answer = decisions::conflicts(&node).await.and_then(|found| to_json_bytes(&found));
    answer_sealed(request.responder, answer)
}

async fn resolve(State(node): Shared, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let Sealed { device, request } = match (Incoming { method, uri, headers, body }).open(&node) {
        Ok(sealed) => sealed,
        Err(refusal) => return refusal.into_response(),
    };
    let answer = match parse::<ResolveBody>(&request.body) {
        Ok(body) => decisions::resolve(&node, body, Some(device.identity_key)).await.and_then(|done| to_json_bytes(&done)),
        Err(refusal) => Err(refusal),
    };
    answer_sealed(request.responder, answer)
}

/// The list of devices as every interface shows it.
pub(super) async fn device_list(node: &NodeState) -> Result<serde_json::Value, Refusal> {
    let trusted = node.trust.devices()?;
    let mirrored = node.engine.call(|engine| engine.mirrored_devices()).await??;
    Ok(crate::net::device_list_json(&trusted, &mirrored))
}

async fn devices(State(node): Shared, method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let Sealed { request, .. } = match (Incoming { method, uri, headers, body: Bytes::new() }).open(&node) {
        Ok(sealed) => sealed,
        Err(refusal) => return refusal.into_response(),
    };
    let answer = device_list(&node).await.and_then(|list| to_json_bytes(&list));
    answer_sealed(request.responder, answer)
}

async fn remove_device(State(node): Shared, Path(id): Path<String>, method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let Sealed { device, request } = match (Incoming { method, uri, headers, body: Bytes::new() }).open(&node) {
        Ok(sealed) => sealed,
        Err(refusal) => return refusal.into_response(),
    };
    // A device may leave; sending others away is for the person at this one.
    let answer = if device.device_id.as_str() == id {
        revoke(&node, &device.device_id).await
    } else {
        Err(Refusal::new(StatusCode::FORBIDDEN, "a device may only remove itself; remove others on the desktop with `storysync devices revoke`"))
    };
    answer_sealed(request.responder, answer)
}

/// Takes a device's keys away at once.
pub(super) async fn revoke(node: &NodeState, device_id: &DeviceId) -> Result<Vec<u8>, Refusal> {
    node.trust.revoke(device_id, now().unix_ms())?;
    lock(&node.prekeys).forget(device_id);
    mirror_devices(node).await;
    tracing::info!(device = %device_id, "a device was revoked");
    to_json_bytes(&json!({ "message": format!("{device_id} is no longer paired") }))
}

/// The header value for a sealed body that travels in a header.
pub(super) fn header_value(envelope: &[u8]) -> Option<HeaderValue> {
    use base64::Engine as _;
    HeaderValue::from_str(&base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(envelope)).ok()
}
