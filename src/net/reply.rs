//! Answers in plain text: errors as `{"detail": "sentence"}`, JSON for the loopback listener.

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use super::handle::EngineGone;
use storysync_engine::EngineError;
use storysync_engine::store::trust::TrustError;

/// A refusal with a status and a sentence.
#[derive(Debug)]
pub struct Refusal {
    /// HTTP status.
    pub status: StatusCode,
    /// A sentence that says what to do.
    pub detail: String,
}

impl Refusal {
    /// A refusal.
    #[must_use]
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into() }
    }

    /// The one answer to everything that fails authentication: it must not tell why.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "this request is not from a device paired with this one; pair again if it should be",
        )
    }
}

impl From<EngineGone> for Refusal {
    fn from(gone: EngineGone) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, gone.to_string())
    }
}

impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Self {
        let status = match &error {
            EngineError::Locked(_) | EngineError::Rebuilding(_) => StatusCode::SERVICE_UNAVAILABLE,
            EngineError::DiskFull(_) => StatusCode::INSUFFICIENT_STORAGE,
            EngineError::NoSuchRow { .. }
            | EngineError::NoRowCalled(_)
            | EngineError::NoSuchConflict(_)
            | EngineError::NoSuchHold(_)
            | EngineError::NoSuchChange(_) => StatusCode::NOT_FOUND,
            EngineError::NotInConflict(_)
            | EngineError::CantRename(_)
            | EngineError::StillOpen
            | EngineError::Unfit { .. }
            | EngineError::NotUnderstood(_) => StatusCode::UNPROCESSABLE_ENTITY,
            EngineError::NothingToUndo(_)
            | EngineError::SeveralRows { .. }
            | EngineError::SeveralRowsCalled { .. } => StatusCode::CONFLICT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        tracing::warn!(%error, "the engine refused");
        Self::new(status, error.to_string())
    }
}

impl From<TrustError> for Refusal {
    fn from(error: TrustError) -> Self {
        let status = match error {
            TrustError::NoSuchDevice(_) => StatusCode::NOT_FOUND,
            TrustError::SeveralDevices { .. } | TrustError::LastOwner(_) => StatusCode::CONFLICT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}

impl axum::response::IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = json(&serde_json::json!({ "detail": self.detail }));
        *response.status_mut() = self.status;
        response
    }
}

/// A body that is too long, too slow or cut off.
#[must_use]
pub fn unread_body(status: StatusCode) -> Refusal {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Refusal::new(status, "the body is longer than this address takes; send less at once")
        }
        _ => Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not arrive in time, or was cut off; send it again",
        ),
    }
}

/// A body as it was sent. What keeps it from arriving is told as what it is.
pub(super) struct Sent(pub(super) Bytes);

impl<S: Send + Sync> FromRequest<S> for Sent {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let read = Bytes::from_request(request, state).await;
        read.map(Self).map_err(|rejection| unread_body(rejection.status()))
    }
}

/// Longest sentence of the framework's that is told, in bytes.
const REJECTION_BYTES_MAX: usize = 4 * 1024;

/// What the framework refuses by itself (a query or a path it can't read) is told as every
/// refusal is.
pub async fn refused_in_json(response: Response) -> Response {
    let is_text = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"text/plain"));
    let status = response.status();
    if !is_text || !status.is_client_error() {
        return response;
    }
    let sentence = axum::body::to_bytes(response.into_body(), REJECTION_BYTES_MAX).await;
    let sentence = sentence.unwrap_or_default();
    Refusal::new(status, String::from_utf8_lossy(&sentence)).into_response()
}

/// A JSON answer nobody may keep.
pub fn json(body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => bytes_of(bytes, "application/json"),
        Err(error) => {
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
        }
    }
}

/// An answer of some media type nobody may keep.
pub fn bytes_of(bytes: Vec<u8>, media_type: &'static str) -> Response {
    let mut response = Response::new(Body::from(bytes));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
        .headers_mut()
        .insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // A page of others may not even show the picture of a code.
    response
        .headers_mut()
        .insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    response
}
