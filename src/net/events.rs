//! `GET /api/sync/events`: tells a device that listens when there is something for it, within
//! milliseconds and without story data. What is new it pulls.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_util::Stream;
use tokio::sync::watch;

use super::client::PeerEvent;
use super::node_state::{NodeState, system_rng};
use super::presence::Listener;
use super::reply::Refusal;
use super::sealed::{Sealed, answer_sealed};
use super::told_to;
use storysync_engine::Engine;
use storysync_engine::store::trust::TrustedDevice;
use storysync_engine::trust::envelope::MEDIA_TYPE;
use storysync_engine::trust::events::EventSealer;

/// Pause after which a device that listens is told that we are still there.
const ALIVE_EVERY: Duration = Duration::from_secs(55);
/// Pause between two events: what comes meanwhile is one.
const EVENTS_APART: Duration = Duration::from_millis(50);
/// How long one stream goes on: its keys are of one request.
const STREAM_WITHIN: Duration = Duration::from_secs(60 * 60);

#[derive(serde::Deserialize)]
pub(super) struct EventsQuery {
    #[serde(default)]
    cursor: String,
}

pub(super) async fn events(
    State(node): State<Arc<NodeState>>,
    Query(query): Query<EventsQuery>,
    sealed: Sealed,
) -> Response {
    let Sealed { device, responder, connection, .. } = sealed;
    let Ok((head, sealer)) = responder.clone().begin_events(&mut system_rng()) else {
        return answer_sealed(responder, Err(Refusal::unauthorized()));
    };
    let listener = node.presence.listens(&device.device_id);
    let ends = node.engine.ends();
    let telling = Telling {
        node,
        device,
        sealer,
        seen: Engine::place_of(&query.cursor),
        ends,
        told: Instant::now(),
        _listener: listener,
        _connection: connection,
    };
    let mut response = Response::new(Body::from_stream(stream(head, telling)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// One device that listens.
struct Telling {
    node: Arc<NodeState>,
    device: TrustedDevice,
    sealer: EventSealer,
    /// Our log up to here holds nothing the device was not told of, or sent itself.
    seen: i64,
    ends: watch::Receiver<i64>,
    /// When it was last told that there is something.
    told: Instant,
    _listener: Listener,
    _connection: Arc<super::connections::Connection>,
}

/// Where a stream stands.
enum Step {
    Head(Vec<u8>),
    Events,
}

fn stream(head: Vec<u8>, telling: Telling) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    let ends_at = tokio::time::Instant::now() + STREAM_WITHIN;
    futures_util::stream::unfold(
        (Step::Head(head), telling),
        move |(step, mut telling)| async move {
            if let Step::Head(head) = step {
                return Some((Ok(Bytes::from(head)), (Step::Events, telling)));
            }
            let mut stopping = telling.node.stopping();
            let event = tokio::select! {
                event = telling.next() => event?,
                () = tokio::time::sleep_until(ends_at) => return None,
                () = told_to(&mut stopping) => return None,
            };
            let segment = telling.sealer.seal(&event.to_bytes()).ok()?;
            Some((Ok(Bytes::from(segment)), (Step::Events, telling)))
        },
    )
}

impl Telling {
    /// Waits until there is something to tell; `None` when nothing is told to this device any more.
    async fn next(&mut self) -> Option<PeerEvent> {
        loop {
            self.ends.borrow_and_update();
            let (device_id, seen) = (self.device.device_id.to_string(), self.seen);
            // A file that is locked for long is looked at again with its next change.
            if let Ok((news, end)) = self
                .node
                .engine
                .call(move |engine| engine.news_for(&device_id, Some(seen)))
                .await
                .ok()?
            {
                // A log that ends earlier than it did begins another epoch: that is news to
                // everybody.
                let is_news = news || end < seen;
                self.seen = end;
                if is_news {
                    tokio::time::sleep(EVENTS_APART.saturating_sub(self.told.elapsed())).await;
                    self.told = Instant::now();
                    return self.node.still_trusts(&self.device).then_some(PeerEvent::Changes);
                }
            }
            match tokio::time::timeout(ALIVE_EVERY, self.ends.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return None,
                Err(_) => return self.node.still_trusts(&self.device).then_some(PeerEvent::Alive),
            }
        }
    }
}
