//! The LAN listener: health, registration, and what paired devices ask, sealed. Nothing else
//! answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRequest as _, Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;
use storysync_crdt::Stamp;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt as _};

use super::connections::Connection;
use super::decisions::{self, ResolveBody};
use super::lock;
use super::metrics::{Listener, count};
use super::node_state::{NodeState, devices_to_mirror, now, now_ms, system_rng};
use super::openapi::lan as describe;
use super::reply::{self, Refusal};
use super::sealed::{
    Sealed, answer_sealed, compress, extension, inflate, internal, not_json, parse, seal_answer,
    sealed_response, to_json_bytes,
};
use super::status_cache::ToldStatus;
use super::told::told_status;
use storysync_engine::exchange::{
    After, AnswerError, Asker, Introduction, Prepared, Reply, Request as Asked, RequestKind,
};
use storysync_engine::store::trust::{EventKind, Installation, RevokedBy, TrustedDevice};
use storysync_engine::trust::envelope::SEALED_BYTES_MAX;
use storysync_engine::trust::identity::DeviceId;
use storysync_engine::trust::pairing::{Admission, REGISTER_BYTES_MAX};
use storysync_engine::trust::prekey::PREKEY_LIFETIME_MS;
use storysync_engine::trust::to_base64url;
use storysync_engine::{DigestRequest, Engine, EngineError};

/// How long an answer waits for the list of devices to be shown in the app's file, which may be
/// locked.
const MIRROR_WITHIN: Duration = Duration::from_secs(1);

type Shared = State<Arc<NodeState>>;

/// What the LAN listener answers, each with its description.
fn routes() -> OpenApiRouter<Arc<NodeState>> {
    let sealed = OpenApiRouter::default()
        .routes(describe::pull().by(pull))
        .routes(describe::push().by(push))
        .routes(describe::status().by(status))
        .routes(describe::events().by(super::events::events))
        .routes(describe::reconcile().by(reconcile))
        .routes(describe::fetch().by(fetch))
        .routes(describe::names().by(names))
        .routes(describe::digests().by(digests))
        .routes(describe::conflicts().by(conflicts))
        .routes(describe::resolve().by(resolve))
        .routes(describe::devices().by(devices))
        .routes(describe::remove_device().by(remove_device))
        .layer(DefaultBodyLimit::max(SEALED_BYTES_MAX));
    let limit = DefaultBodyLimit::max(REGISTER_BYTES_MAX);
    OpenApiRouter::default()
        .routes(describe::health().by(health))
        .routes(describe::register().by(register).layer(limit))
        .merge(sealed)
}

/// What the LAN listener answers, as an OpenAPI document.
pub(crate) fn document() -> OpenApi {
    super::openapi::lan(routes().into_openapi())
}

/// The routes of the LAN listener.
pub fn router(node: Arc<NodeState>) -> Router {
    Router::from(routes())
        .layer(axum::middleware::map_response(reply::refused_in_json))
        .fallback(not_here)
        .method_not_allowed_fallback(not_here)
        .layer(axum::middleware::from_fn_with_state(
            super::origin::HostNames::of(&node),
            super::origin::own_host_only,
        ))
        .layer(axum::middleware::from_fn_with_state(node.metrics.of(Listener::Lan), count))
        .with_state(node)
}

async fn health(State(node): Shared) -> Response {
    reply::json(&node.health())
}

async fn not_here() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "there is nothing here")
}

async fn register(State(node): Shared, request: Request) -> Response {
    let from = match extension::<ConnectInfo<SocketAddr>>(&request) {
        Ok(ConnectInfo(from)) => from,
        Err(refusal) => return refusal.into_response(),
    };
    let body = match Bytes::from_request(request, &node).await {
        Ok(body) => body,
        Err(rejection) => return reply::unread_body(rejection.status()).into_response(),
    };
    let admitted = {
        let mut window = lock(&node.pairing);
        match window.as_mut().filter(|window| window.is_open(now_ms())) {
            None => {
                *window = None;
                None
            }
            Some(open) => {
                let epoch_of = |key: &storysync_crdt::DeviceKey| node.trust.epoch_of(key).ok();
                let admitted =
                    open.admit(&body, &node.identity, &node.name(), epoch_of, &mut system_rng());
                if matches!(admitted, Ok(Admission::Granted { .. } | Admission::Leaked)) {
                    *window = None;
                }
                admitted.ok()
            }
        }
    };
    match admitted {
        None => node.note_failed_registration(from.ip()).into_response(),
        Some(Admission::Leaked) => {
            const ALARM: &str =
                "a second device used the same pairing code; pairing was aborted, show a new code";
            tracing::error!(
                "a second device used the same pairing code: it has leaked, pairing was aborted"
            );
            node.note(EventKind::Alarm, None, ALARM);
            *lock(&node.pairing_alarm) = Some(ALARM.to_owned());
            Refusal::unauthorized().into_response()
        }
        Some(Admission::Pending { responder }) => {
            let body = json!({ "message": "waiting for the code to be typed on the other device" })
                .to_string();
            seal_answer(responder, StatusCode::ACCEPTED, body.as_bytes())
        }
        Some(Admission::Granted { device, answer }) => {
            let addresses: Vec<String> = device
                .port
                .map(|port| SocketAddr::new(from.ip(), port).to_string())
                .into_iter()
                .collect();
            let device_id = match node.trust.store_pairing(&device, &addresses, now().unix_ms()) {
                Ok(device_id) => device_id,
                Err(error) => return Refusal::from(error).into_response(),
            };
            // Whatever was open under an earlier pairing ends with it.
            lock(&node.prekeys).forget(&device_id);
            node.connections.close_all_of(&device_id, None);
            node.presence.pairings_changed();
            if let Err(error) = node.trust.note_first_owner(None, now().unix_ms()) {
                tracing::warn!(%error, "it could not be noted that this device is an owner");
            }
            node.note(EventKind::Pair, Some(&device_id), "it was paired");
            tracing::info!(device = %device_id, "a device was paired");
            mirror_soon(&node).await;
            sealed_response(StatusCode::OK, answer)
        }
    }
}

/// Shows the list of devices in the app's file, without keeping anybody waiting for a locked file.
pub(super) async fn mirror_soon(node: &Arc<NodeState>) {
    let mirroring = Arc::clone(node);
    let shown = tokio::spawn(async move { mirror_devices(&mirroring).await });
    drop(tokio::time::timeout(MIRROR_WITHIN, shown).await);
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
        Ok(Err(error)) => {
            tracing::warn!(%error, "the list of devices could not be shown in the app's database")
        }
        Err(error) => {
            tracing::warn!(%error, "the list of devices could not be shown in the app's database")
        }
    }
}

async fn status(State(node): Shared, sealed: Sealed) -> Response {
    let answer = answer_status(&node, &sealed.device, sealed.is_fresh).await;
    answer_sealed(sealed.responder, answer)
}

async fn answer_status(
    node: &NodeState,
    device: &TrustedDevice,
    is_fresh: bool,
) -> Result<Vec<u8>, Refusal> {
    let prekey = lock(&node.prekeys).issue(&device.device_id, now_ms(), &mut system_rng());
    let successor = if is_fresh { successor_token(node, device)? } else { None };
    let ToldStatus { status, pending, .. } = told_status(node, device).await?;
    let mut answer = json!({
        "device_id": node.identity.device_id().as_str(),
        "device_name": node.name(),
        "last_sync_at": device.last_sync_at.map(|at| Stamp::from_unix_ms(at).to_rfc3339()),
        "pending_changes_count": pending,
        "server_timestamp": now().to_rfc3339(),
        "epoch": status.epoch,
        "entities": status.entities,
        "conflicts": status.conflicts,
        "kid": prekey.kid.to_string(),
        "prekey": to_base64url(&prekey.key),
        "prekey_ttl_seconds": PREKEY_LIFETIME_MS / 1000,
        "instance": node.settings.installation,
        "revoked": node.trust.revocations()?,
        "keys_in_use_twice": device.twice_at.is_some(),
    });
    if let (Some(successor), Some(fields)) = (successor, answer.as_object_mut()) {
        fields.insert("auth_token".to_owned(), successor.into());
    }
    to_json_bytes(&answer)
}

/// What replaces the device's token, when that has grown old. Never told to a recording.
fn successor_token(node: &NodeState, device: &TrustedDevice) -> Result<Option<String>, Refusal> {
    let successor =
        node.trust.successor_token(&device.device_id, now().unix_ms(), &mut system_rng())?;
    Ok(successor.map(|token| to_base64url(token.expose())))
}

async fn pull(State(node): Shared, sealed: Sealed) -> Response {
    exchange(&node, sealed, RequestKind::Pull).await
}

async fn push(State(node): Shared, sealed: Sealed) -> Response {
    exchange(&node, sealed, RequestKind::Push).await
}

async fn reconcile(State(node): Shared, sealed: Sealed) -> Response {
    exchange(&node, sealed, RequestKind::Reconcile).await
}

async fn fetch(State(node): Shared, sealed: Sealed) -> Response {
    exchange(&node, sealed, RequestKind::Fetch).await
}

/// A device this one meets for the first time says what its rows are called there.
async fn names(State(node): Shared, sealed: Sealed) -> Response {
    exchange(&node, sealed, RequestKind::Names).await
}

/// One request of an exchange: the Engine answers, and what follows from it for trust, for the
/// audit log and for the list of devices is done here.
async fn exchange(node: &Arc<NodeState>, sealed: Sealed, kind: RequestKind) -> Response {
    let answer = answer_exchange(node, &sealed, kind).await;
    answer_sealed(sealed.responder, answer)
}

async fn answer_exchange(
    node: &Arc<NodeState>,
    sealed: &Sealed,
    kind: RequestKind,
) -> Result<Vec<u8>, Refusal> {
    let device = &sealed.device;
    let asker = Asker {
        device_id: device.device_id.clone(),
        is_frozen: device.frozen_at.is_some(),
        is_asked_first: node.settings.asks_at_first_contact,
    };
    if matches!(kind, RequestKind::Push | RequestKind::Names) {
        refuse_untaken(device)?;
    }
    let request = kind.parse_request(&inflate(&sealed.body)?).map_err(|error| not_json(&error))?;
    // Read here, beside the Engine, which others wait for.
    let prepared = match request {
        Asked::Push(_) => tokio::task::spawn_blocking(|| Prepared::of(request))
            .await
            .map_err(|_| unread_changes())?,
        small => Prepared::of(small),
    };
    if !asker.is_frozen
        && let Some(introduction) = prepared.introduction()
    {
        take_news(node, device, sealed.from, introduction, prepared.cursor()).await?;
    }
    let is_compressed = prepared.reads_gzip();
    let mut answer =
        for_device(node, device, move |engine, _| match engine.answer(&asker, &prepared, now()) {
            Err(AnswerError::Engine(error)) => Err(error),
            answered => Ok(answered),
        })
        .await?
        .map_err(Refusal::from)?;
    if let Some(after) = answer.after {
        note_soon(node, &device.device_id, after);
    }
    if let Some(receipt) = &answer.receipt {
        node.note_receipt(&device.device_id, receipt);
    }
    if answer.is_exchanged {
        node.trust.note_sync(&device.device_id, now().unix_ms())?;
    }
    if answer.renamed > 0 {
        let words = format!(
            "this database and that of {} met for the first time; {} rows took the names they \
             have there",
            device.name, answer.renamed
        );
        tracing::warn!(device = %device.device_id, "{words}");
        node.note(EventKind::Compare, Some(&device.device_id), &words);
    }
    if let Reply::Pull(page) = &mut answer.reply {
        page.auth_token = successor_token(node, device)?;
    }
    let body = answer.reply.to_json().map_err(|error| internal(&error))?;
    Ok(if is_compressed { compress(body) } else { body })
}

fn unread_changes() -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the changes could not be read; try again")
}

/// What a device says of itself with a pull: where it listens, what it is called, where its keys
/// are in use, whom it no longer trusts.
async fn take_news(
    node: &Arc<NodeState>,
    device: &TrustedDevice,
    from: SocketAddr,
    introduction: Introduction,
    cursor: Option<&str>,
) -> Result<(), Refusal> {
    if let Some(port) = introduction.port {
        node.trust
            .note_address(&device.device_id, &SocketAddr::new(from.ip(), port).to_string())?;
    }
    let at = now().unix_ms();
    let mut changed = false;
    if let Some(name) = &introduction.device_name {
        changed |= node.trust.note_name(&device.device_id, name, at)?;
    }
    if let Some(installation) = &introduction.installation {
        let seen = node.trust.note_installation(&device.device_id, installation, at)?;
        if seen == Installation::Twice {
            tracing::warn!(device = %device.device_id, "the keys of this device are in use from \
                two installations");
        }
        if seen != Installation::Same {
            let (device_id, cursor) = (device.device_id.to_string(), cursor.map(str::to_owned));
            node.engine
                .call(move |engine| {
                    engine.note_other_installation(&device_id, cursor.as_deref(), now())
                })
                .await??;
        }
    }
    for hit in node.trust.heed(&device.device_id, &introduction.revoked, at)? {
        forget(node, &hit, None);
        changed = true;
    }
    if changed {
        mirror_soon(node).await;
    }
    Ok(())
}

/// Notes how far a device knows our log. It has its place before whatever the device asks next, and
/// is neither waited for nor tried again: what is lost of it is told again.
fn note_soon(node: &NodeState, device: &DeviceId, after: After) {
    let asker = device.clone();
    let noted = node.engine.begin(move |engine| match engine.after_answer(&asker, after, now()) {
        // Later, it might come after what says otherwise.
        Err(EngineError::Locked(_) | EngineError::Rebuilding(_)) => Ok(()),
        noted => noted,
    });
    lock(&node.told_statuses).outdate(device);
    tokio::spawn(async move {
        if !matches!(noted.await, Ok(Ok(()))) {
            tracing::debug!(
                "how far a device knows the log could not be noted; it is told some of it again"
            );
        }
    });
}

/// Runs `work` on the Engine for a device, if it is still trusted when its turn comes.
async fn for_device<T: Send + 'static>(
    node: &Arc<NodeState>,
    device: &TrustedDevice,
    mut work: impl FnMut(&mut Engine, &str) -> Result<T, EngineError> + Send + 'static,
) -> Result<T, Refusal> {
    let (state, asking) = (Arc::clone(node), device.clone());
    node.engine
        .call(move |engine| {
            if state.still_trusts(&asking) {
                work(engine, asking.device_id.as_str()).map(Some)
            } else {
                Ok(None)
            }
        })
        .await??
        .ok_or_else(Refusal::unauthorized)
}

async fn digests(State(node): Shared, sealed: Sealed) -> Response {
    let answer = match parse::<DigestRequest>(&sealed.body) {
        Ok(request) => {
            for_device(&node, &sealed.device, move |engine, _| engine.digests(&request, now()))
                .await
                .and_then(|answer| to_json_bytes(&answer))
        }
        Err(refusal) => Err(refusal),
    };
    // Thousands of rows' digests: hexadecimal digits shrink by half.
    answer_sealed(sealed.responder, answer.map(compress))
}

async fn conflicts(State(node): Shared, sealed: Sealed) -> Response {
    let answer = decisions::conflicts(&node).await.and_then(|found| to_json_bytes(&found));
    answer_sealed(sealed.responder, answer)
}

async fn resolve(State(node): Shared, sealed: Sealed) -> Response {
    let answer =
        match refuse_untaken(&sealed.device).and_then(|()| parse::<ResolveBody>(&sealed.body)) {
            Ok(body) => decisions::resolve(&node, body, Some(sealed.device.identity_key))
                .await
                .and_then(|done| to_json_bytes(&done)),
            Err(refusal) => Err(refusal),
        };
    answer_sealed(sealed.responder, answer)
}

fn refuse_untaken(device: &TrustedDevice) -> Result<(), Refusal> {
    if device.frozen_at.is_some() {
        return Err(Refusal::from(AnswerError::Frozen));
    }
    if device.is_paused {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "another device says that this one was lost: nothing is taken from it until the person \
             at the other end has answered",
        ));
    }
    Ok(())
}

/// The list of devices as every interface shows it.
pub(crate) async fn device_list(node: &NodeState) -> Result<serde_json::Value, Refusal> {
    let trusted = node.trust.devices()?;
    let mirrored = node.engine.call(|engine| engine.mirrored_devices()).await??;
    Ok(crate::net::device_list_json(&node.identity.public_key(), &trusted, &mirrored))
}

async fn devices(State(node): Shared, sealed: Sealed) -> Response {
    let answer = device_list(&node).await.and_then(|list| to_json_bytes(&list));
    answer_sealed(sealed.responder, answer)
}

async fn remove_device(State(node): Shared, Path(id): Path<String>, sealed: Sealed) -> Response {
    // A device may leave; sending others away is for the person at this one.
    let answer = if sealed.device.device_id.as_str() == id {
        revoke(&node, &sealed.device.device_id, RevokedBy::Itself, Some(&sealed.connection)).await
    } else {
        Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "a device may only remove itself; remove others on the desktop with `storysync devices \
                revoke`",
        ))
    };
    answer_sealed(sealed.responder, answer)
}

/// Takes a device's keys away at once, and drops its connections.
pub(crate) async fn revoke(
    node: &Arc<NodeState>,
    device_id: &DeviceId,
    by: RevokedBy<'_>,
    asking: Option<&Connection>,
) -> Result<Vec<u8>, Refusal> {
    node.trust.revoke(device_id, by, now().unix_ms())?;
    let words = if by == RevokedBy::Itself { "it left by itself" } else { "it was revoked here" };
    node.note(EventKind::Revoke, Some(device_id), words);
    forget(node, device_id, asking);
    mirror_soon(node).await;
    to_json_bytes(&json!({ "message": format!("{device_id} is no longer paired") }))
}

/// What was kept in memory of a device that is no longer trusted.
fn forget(node: &NodeState, device_id: &DeviceId, asking: Option<&Connection>) {
    lock(&node.prekeys).forget(device_id);
    node.connections.close_all_of(device_id, asking);
    node.presence.pairings_changed();
    tracing::info!(device = %device_id, "a device was revoked");
}
