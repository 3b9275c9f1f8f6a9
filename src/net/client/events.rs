//! Listening to a peer: the sealed stream of `GET /api/sync/events`, on a connection of its own.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::{Response, StatusCode};

use super::ClientError;
use super::conversation::Conversation;
use super::link::{PROGRESS_WITHIN, connect};
use storysync_engine::trust::envelope::MEDIA_TYPE;
use storysync_engine::trust::events::EventOpener;

/// A peer is silent for at most so long: then it is taken for gone.
const SILENT_WITHIN: Duration = Duration::from_secs(150);

/// What a peer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerEvent {
    /// It has something new.
    Changes,
    /// It is still there.
    Alive,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Wire {
    event: PeerEvent,
}

impl PeerEvent {
    /// As it is sealed.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        serde_json::to_vec(&Wire { event: self }).unwrap_or_default()
    }

    /// Reads what was sealed; events of later versions say nothing.
    fn parse(bytes: &[u8]) -> Self {
        serde_json::from_slice::<Wire>(bytes).map_or(Self::Alive, |wire| wire.event)
    }
}

/// An open stream of events.
pub struct EventStream {
    body: Incoming,
    opener: EventOpener,
    name: String,
}

impl std::fmt::Debug for EventStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventStream").field("name", &self.name).finish_non_exhaustive()
    }
}

impl EventStream {
    /// Starts listening, from where `cursor` ends.
    pub(super) async fn open(
        conversation: &mut Conversation<'_>,
        cursor: &str,
    ) -> Result<Self, ClientError> {
        let name = conversation.device.name.clone();
        let target = format!("/api/sync/events?cursor={cursor}");
        let mut asked_anew = false;
        loop {
            let (request, awaited) = conversation.seal_get(&target).await?;
            let mut link =
                connect(&conversation.link.address, &name, &conversation.counters).await?;
            let broken = |_| ClientError::Broken(name.clone());
            let sending =
                tokio::time::timeout(PROGRESS_WITHIN, link.requests.send_request(request));
            let response: Response<Incoming> =
                sending.await.map_err(|_| ClientError::Stalled(name.clone()))?.map_err(broken)?;
            let is_sealed = response
                .headers()
                .get(CONTENT_TYPE)
                .is_some_and(|value| value.as_bytes() == MEDIA_TYPE.as_bytes());
            match response.status() {
                StatusCode::OK if is_sealed => {
                    return Ok(Self { body: response.into_body(), opener: awaited.events(), name });
                }
                StatusCode::CONFLICT if !is_sealed && !asked_anew => {
                    asked_anew = true;
                    conversation.forget_prekey();
                }
                status => return Err(conversation.unsealed(status)),
            }
        }
    }

    /// The next event; `None` when the peer ended the stream. Dropping the future loses nothing.
    ///
    /// # Errors
    /// When the peer is silent for too long, the connection breaks, or what comes is not from the
    /// peer.
    pub async fn next(&mut self) -> Result<Option<PeerEvent>, ClientError> {
        loop {
            if let Some(event) = self
                .opener
                .next_event()
                .map_err(|_| ClientError::NotAuthentic(self.name.clone()))?
            {
                return Ok(Some(PeerEvent::parse(&event)));
            }
            let frame = tokio::time::timeout(SILENT_WITHIN, self.body.frame())
                .await
                .map_err(|_| ClientError::Stalled(self.name.clone()))?;
            match frame {
                None => return Ok(None),
                Some(Err(_)) => return Err(ClientError::Broken(self.name.clone())),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.opener.arrived(&data);
                    }
                }
            }
        }
    }
}
