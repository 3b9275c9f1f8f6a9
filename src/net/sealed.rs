//! Sealed requests: who sent one is proven before anything of it is looked at, and whoever is
//! proven gets every answer sealed, refusals too. All other failures look alike.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::body::{Bytes, HttpBody as _};
use axum::extract::{ConnectInfo, FromRequest, Request};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use http_body_util::BodyExt as _;
use serde_json::json;
use zeroize::Zeroizing;

use super::connections::Connection;
use super::lock;
use super::node_state::{NodeState, now_ms, system_rng};
use super::reply::{self, Refusal};
use storysync_engine::exchange::{AnswerError, ROWS_PUSHED_MAX};
use storysync_engine::store::trust::{FoundByToken, TrustedDevice};
use storysync_engine::trust::envelope::{
    self, HEADER_BYTES, Header, MEDIA_TYPE, OpenedRequest, Responder, Route, SEALED_BYTES_MAX,
};
use storysync_engine::trust::from_base64url;
use storysync_engine::trust::identity::Secret;
use storysync_engine::trust::prekey::PrekeyRefusal;
use storysync_engine::trust::sealed_token::{SEALED_TOKEN_BYTES, open_token};

/// How a token is told that only its recipient can read, before its base64url.
pub const SEALED_TOKEN_SCHEME: &str = "Sealed ";
/// Header that carries the envelope of requests without an HTTP body: GET and DELETE.
pub const SEALED_HEADER: &str = "x-storysync-sealed";
/// Bodies at least this long are compressed, in bytes.
const COMPRESS_BYTES_MIN: usize = 512;
/// Longest body after inflating, in bytes.
const INFLATED_BYTES_MAX: u64 = 64 * 1024 * 1024;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

pub(super) fn sealed_response(status: StatusCode, envelope: Vec<u8>) -> Response {
    let mut response = reply::bytes_of(envelope, MEDIA_TYPE);
    *response.status_mut() = status;
    response
}

/// A request whose sender is proven.
pub(super) struct Sealed {
    pub(super) device: TrustedDevice,
    pub(super) from: SocketAddr,
    pub(super) connection: Arc<Connection>,
    pub(super) body: Zeroizing<Vec<u8>>,
    pub(super) responder: Responder,
    /// Whether this was proven to be said now, and is no recording.
    pub(super) is_fresh: bool,
}

impl FromRequest<Arc<NodeState>> for Sealed {
    type Rejection = Response;

    async fn from_request(request: Request, node: &Arc<NodeState>) -> Result<Self, Response> {
        let sealed = Self::open(request, node).await.map_err(Refusal::into_response)?;
        if sealed.device.paused_at.is_some() {
            let paused = Refusal::new(
                StatusCode::FORBIDDEN,
                "this device is paused there: nothing is exchanged with it until somebody there \
                    lets it go on",
            );
            return Err(answer_sealed(sealed.responder, Err(paused)));
        }
        Ok(sealed)
    }
}

impl Sealed {
    /// Takes the request in, and opens it.
    async fn open(request: Request, node: &Arc<NodeState>) -> Result<Self, Refusal> {
        let ConnectInfo(from) = extension::<ConnectInfo<SocketAddr>>(&request)?;
        let connection = extension::<Arc<Connection>>(&request)?;
        let refuse = |refusal: Refusal| {
            if refusal.status == StatusCode::UNAUTHORIZED {
                node.note_stranger(from.ip());
            }
            refusal
        };
        if is_unsealed(&request) {
            return Err(refuse(Refusal::new(
                StatusCode::UNAUTHORIZED,
                "this address takes sealed requests of paired devices only; PROTOCOL.md of \
                    storysync says how to pair and seal",
            )));
        }
        // Before the body: strangers shall not fill our memory.
        let found = find(request.headers(), node).map_err(refuse)?;
        let (method, uri, headers) =
            (request.method().clone(), request.uri().clone(), request.headers().clone());
        let begins_well = |arrived: &[u8]| begins_well(node, &found.device, &method, &uri, arrived);
        let body = read_body(request, begins_well).await.map_err(refuse)?;
        let incoming = Incoming { method, uri, headers, body };
        let asks_for_prekey = incoming
            .envelope()
            .and_then(|envelope| Header::parse(&envelope).map_err(|_| Refusal::unauthorized()))
            .is_ok_and(|header| header.kid == 0);
        let (device, request) = incoming.open(node, found).map_err(refuse)?;
        // A recording of a request for a prekey can be sent by anybody: it proves nothing about
        // this connection.
        if !asks_for_prekey {
            connection.belongs_to(&device.device_id);
        }
        let OpenedRequest { body, responder, .. } = request;
        Ok(Self { device, from, connection, body, responder, is_fresh: !asks_for_prekey })
    }
}

/// Whether a request plainly is not sealed at all: said of its form alone, this tells nobody
/// anything about who is paired.
fn is_unsealed(request: &Request) -> bool {
    if request.method() != Method::POST {
        return !request.headers().contains_key(SEALED_HEADER);
    }
    let media_type = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    media_type.starts_with("application/json")
}

/// What the listener knows of a request.
pub(super) fn extension<T: Clone + Send + Sync + 'static>(request: &Request) -> Result<T, Refusal> {
    request.extensions().get::<T>().cloned().ok_or_else(|| {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the listener lost the connection")
    })
}

/// Reads a body as far as it is from the paired device: a token is sent in the clear, and whoever
/// has read one shall not fill our memory with it, either.
async fn read_body(
    request: Request,
    begins_well: impl Fn(&[u8]) -> Option<Result<(), Refusal>>,
) -> Result<Bytes, Refusal> {
    let mut frames = request.into_body();
    if usize::try_from(frames.size_hint().lower()).unwrap_or(usize::MAX) > SEALED_BYTES_MAX {
        return Err(reply::unread_body(StatusCode::PAYLOAD_TOO_LARGE));
    }
    let (mut body, mut is_begun) = (Vec::new(), false);
    while let Some(frame) = frames.frame().await {
        let Ok(data) =
            frame.map_err(|_| reply::unread_body(StatusCode::REQUEST_TIMEOUT))?.into_data()
        else {
            continue;
        };
        if body.len() + data.len() > SEALED_BYTES_MAX {
            return Err(reply::unread_body(StatusCode::PAYLOAD_TOO_LARGE));
        }
        body.extend_from_slice(&data);
        // What is here whole is about to be opened anyway.
        if !is_begun
            && !frames.is_end_stream()
            && let Some(begun) = begins_well(&body)
        {
            begun?;
            is_begun = true;
        }
    }
    Ok(body.into())
}

/// Whether what has arrived of a body is from the device; `None` until that can be told.
fn begins_well(
    node: &NodeState,
    device: &TrustedDevice,
    method: &Method,
    uri: &Uri,
    arrived: &[u8],
) -> Option<Result<(), Refusal>> {
    let pair = device.pair.as_ref()?;
    let Ok(header) = Header::parse(arrived.get(..HEADER_BYTES)?) else {
        return Some(Err(Refusal::unauthorized()));
    };
    if header.kid == 0 {
        return Some(Err(need_prekey()));
    }
    let secret =
        match lock(&node.prekeys).secret(header.kid, header.seq, &device.device_id, now_ms()) {
            Ok(secret) => secret,
            Err(refusal) => return Some(Err(refused(refusal))),
        };
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let server = node.identity.public_key();
    let route =
        Route { method: method.as_str(), target, client: &device.identity_key, server: &server };
    let begun = envelope::request_begins_well(route, pair, &secret, arrived)?;
    Some(if begun { Ok(()) } else { Err(Refusal::unauthorized()) })
}

fn refused(refusal: PrekeyRefusal) -> Refusal {
    match refusal {
        PrekeyRefusal::Unknown => need_prekey(),
        PrekeyRefusal::Replayed => Refusal::unauthorized(),
    }
}

/// The token a request carries, sealed to this device or in the clear.
fn token_of(headers: &HeaderMap, node: &NodeState) -> Option<Secret> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    if let Some(sealed) = text.strip_prefix(SEALED_TOKEN_SCHEME) {
        let sealed = from_base64url::<SEALED_TOKEN_BYTES>(sealed)?;
        return open_token(&sealed, &node.identity).ok();
    }
    text.strip_prefix("Bearer ").and_then(from_base64url::<32>).map(Secret::from_bytes)
}

/// Whether a request carries its token sealed.
fn seals_token(headers: &HeaderMap) -> bool {
    headers
        .get(header::AUTHORIZATION)
        .is_some_and(|value| value.as_bytes().starts_with(SEALED_TOKEN_SCHEME.as_bytes()))
}

/// Whose token a request carries. Proves nothing yet.
fn find(headers: &HeaderMap, node: &NodeState) -> Result<FoundByToken, Refusal> {
    let token = token_of(headers, node).ok_or_else(Refusal::unauthorized)?;
    let found = node.trust.find_by_token(token.expose()).map_err(|error| {
        tracing::warn!(%error, "the list of paired devices could not be read");
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "busy; try again")
    })?;
    found.ok_or_else(Refusal::unauthorized)
}

/// What a request came with.
struct Incoming {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

impl Incoming {
    fn envelope(&self) -> Result<Bytes, Refusal> {
        if self.method == Method::POST {
            return Ok(self.body.clone());
        }
        use base64::Engine as _;
        let text = self.headers.get(SEALED_HEADER).ok_or_else(Refusal::unauthorized)?;
        base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(text.as_bytes())
            .map(Bytes::from)
            .map_err(|_| Refusal::unauthorized())
    }

    /// Opens the sealed body: finds the key by the envelope's header, verifies everything, and only
    /// then marks the request as seen.
    fn open(
        &self,
        node: &NodeState,
        found: FoundByToken,
    ) -> Result<(TrustedDevice, OpenedRequest), Refusal> {
        let request = self.verify(node, &found.device)?;
        node.presence.note_heard(&found.device.device_id, Instant::now());
        if found.is_successor {
            node.trust.promote_token(&found.device.device_id)?;
        }
        // Whoever seals one reads one.
        if seals_token(&self.headers) {
            node.trust.note_reads_sealed_token(&found.device)?;
        }
        Ok((found.device, request))
    }

    fn verify(&self, node: &NodeState, device: &TrustedDevice) -> Result<OpenedRequest, Refusal> {
        let pair = device.pair.as_ref().ok_or_else(Refusal::unauthorized)?;
        let envelope = self.envelope()?;
        let header = Header::parse(&envelope).map_err(|_| Refusal::unauthorized())?;
        let target = self.uri.path_and_query().map_or("/", |target| target.as_str());
        let server = node.identity.public_key();
        let route = Route {
            method: self.method.as_str(),
            target,
            client: &device.identity_key,
            server: &server,
        };
        if header.kid == 0 {
            // Nothing confidential is ever sealed to a long-term key: it only asks for a prekey.
            if target != "/api/sync/status" {
                return Err(need_prekey());
            }
            let request = envelope::open_request(route, pair, node.identity.agreement(), &envelope)
                .map_err(|_| Refusal::unauthorized())?;
            if !request.body.is_empty()
                || lock(&node.prekeys).mark_asked(&request.transcript).is_err()
            {
                return Err(Refusal::unauthorized());
            }
            return Ok(request);
        }
        let secret = lock(&node.prekeys)
            .secret(header.kid, header.seq, &device.device_id, now_ms())
            .map_err(refused)?;
        let request = envelope::open_request(route, pair, &secret, &envelope)
            .map_err(|_| Refusal::unauthorized())?;
        lock(&node.prekeys)
            .mark(header.kid, header.seq, &device.device_id, now_ms())
            .map_err(refused)?;
        Ok(request)
    }
}

fn need_prekey() -> Refusal {
    Refusal::new(
        StatusCode::CONFLICT,
        "need_prekey: ask GET /api/sync/status for a new prekey and send this again",
    )
}

/// Seals an answer, success or refusal alike: whoever was authenticated reads why.
pub(super) fn seal_answer(responder: Responder, status: StatusCode, body: &[u8]) -> Response {
    match responder.seal(status.as_u16(), body, &mut system_rng()) {
        Ok(envelope) => sealed_response(status, envelope),
        Err(_) => Refusal::unauthorized().into_response(),
    }
}

pub(super) fn answer_sealed(responder: Responder, answer: Result<Vec<u8>, Refusal>) -> Response {
    match answer {
        Ok(body) => seal_answer(responder, StatusCode::OK, &body),
        Err(refusal) => {
            let body = json!({ "detail": refusal.detail }).to_string();
            seal_answer(responder, refusal.status, body.as_bytes())
        }
    }
}

pub(super) fn to_json_bytes(value: &impl serde::Serialize) -> Result<Vec<u8>, Refusal> {
    serde_json::to_vec(value).map_err(|error| internal(&error))
}

/// Something that can't happen happened.
pub(super) fn internal(error: &impl std::fmt::Display) -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

/// A body is other JSON than is documented.
pub(super) fn not_json(error: &serde_json::Error) -> Refusal {
    Refusal::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        format!("the body is not what is documented: {error}"),
    )
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

/// Why a request of an exchange is not answered, with its status code.
impl From<AnswerError> for Refusal {
    fn from(error: AnswerError) -> Self {
        match error {
            AnswerError::Frozen => Self::new(
                StatusCode::FORBIDDEN,
                "nothing is taken from this device until it is paired again: it sent two different \
                 changes under one name, so its keys may be in use twice",
            ),
            AnswerError::Undecided => Self::new(
                StatusCode::CONFLICT,
                "its owner has to say first what the two databases are to each other: run \
                 `storysync sync --first-contact judge` there",
            ),
            AnswerError::TooManyRows => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("a push holds at most {ROWS_PUSHED_MAX} rows; send several"),
            ),
            AnswerError::NoTime => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "since_timestamp is no time like 2026-01-31T12:00:00Z",
            ),
            AnswerError::Engine(error) => Self::from(error),
            other => internal(&other),
        }
    }
}

/// Inflates an authenticated body that begins like gzip (JSON never does), up to a limit.
pub(super) fn inflate(body: &[u8]) -> Result<Vec<u8>, Refusal> {
    use std::io::Read as _;
    if !body.starts_with(&GZIP_MAGIC) {
        check_keys(body)?;
        return Ok(body.to_vec());
    }
    let mut inflated = Vec::new();
    let mut decoder = flate2::read::GzDecoder::new(body).take(INFLATED_BYTES_MAX + 1);
    decoder
        .read_to_end(&mut inflated)
        .map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "the compressed body is damaged"))?;
    if inflated.len() as u64 > INFLATED_BYTES_MAX {
        return Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body is larger than 64 MiB; send smaller pages",
        ));
    }
    check_keys(&inflated)?;
    Ok(inflated)
}

/// Most keys in one JSON body: each becomes an entry of a map, which takes many times the bytes it
/// is sent in. A push of as many rows as are taken, with forty columns each, has fewer.
const JSON_KEYS_MAX: usize = 500_000;

/// Counts the colons that stand outside strings, before anything is built of the body.
fn check_keys(json: &[u8]) -> Result<(), Refusal> {
    let (mut keys, mut at) = (0, 0);
    while let Some(found) = json.get(at..).and_then(|rest| memchr::memchr2(b'"', b':', rest)) {
        at += found + 1;
        if json.get(at - 1) == Some(&b':') {
            keys += 1;
            if keys > JSON_KEYS_MAX {
                return Err(Refusal::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    format!("the body has more than {JSON_KEYS_MAX} keys; send smaller pages"),
                ));
            }
            continue;
        }
        // A string: up to the next quote no backslash stands before.
        while let Some(found) = json.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
            at += found + 1;
            if json.get(at - 1) == Some(&b'"') {
                break;
            }
            at += 1;
        }
    }
    Ok(())
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(&inflate(body)?).map_err(|error| not_json(&error))
}

/// The header value for a sealed body that travels in a header.
pub(super) fn header_value(envelope: &[u8]) -> Option<HeaderValue> {
    use base64::Engine as _;
    HeaderValue::from_str(&base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(envelope)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_of_too_many_keys_is_refused_before_it_is_read_and_text_is_not_counted() {
        let keys = |count: usize| {
            let entries: Vec<String> = (0..count).map(|key| format!("\"{key}\":0")).collect();
            format!("{{{}}}", entries.join(",")).into_bytes()
        };
        assert!(inflate(&keys(JSON_KEYS_MAX)).is_ok());
        let refused = inflate(&keys(JSON_KEYS_MAX + 1)).map(drop).map_err(|refusal| refusal.status);
        assert_eq!(refused, Err(StatusCode::PAYLOAD_TOO_LARGE));
        let text = format!("{{\"a\":\"{}\\\"\"}}", ":".repeat(JSON_KEYS_MAX + 1));
        assert!(inflate(text.as_bytes()).is_ok(), "colons in a text are no keys");
        assert!(inflate(b"{\"unfinished: \\").is_ok(), "whoever parses it says what is wrong");
    }
}
