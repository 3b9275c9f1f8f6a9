//! Says when to look again: to open views without a word of what changed, to programs with how the
//! node stands (server-sent events, WHATWG HTML section 9.2).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, Request, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::Stream;
use serde::Deserialize;

use super::Page;
use super::facts::Facts;
use super::state::state_of;
use super::visit::Visit;
use crate::net::admin;

/// Pause between two looks at what says nothing by itself: how far an exchange has come, say.
const LOOK_EVERY: Duration = Duration::from_millis(1_000);
/// Pause after something happened: what comes meanwhile is told with it.
const TOLD_APART: Duration = Duration::from_millis(150);
/// Pause after which a stream shows that it is still there.
const ALIVE_EVERY: Duration = Duration::from_secs(15);

#[derive(Debug, Deserialize)]
pub(super) struct LiveQuery {
    /// What stood in the view; see [`state_of`].
    #[serde(default)]
    seen: String,
}

/// `GET /live`: one event whenever a view would look different from what was seen.
pub(super) async fn events(visit: Visit, Query(query): Query<LiveQuery>) -> Response {
    let page = visit.page;
    let watch = Watch { told: query.seen, ..Watch::of(&page) };
    let stream = futures_util::stream::unfold((page, watch), |(page, mut watch)| async move {
        watch.next(&page).await?;
        // Browsers dispatch no event without data.
        Some((Ok::<_, Infallible>(Event::default().event("look").data("again")), (page, watch)))
    });
    answer(stream)
}

/// `GET /api/events`: how the node stands, at once and whenever that changes, for programs with
/// the admin token.
pub(super) async fn facts(State(page): State<Arc<Page>>, request: Request) -> Response {
    if !admin::has_token(&page.node, request.headers()) {
        return admin::no_token().into_response();
    }
    let watch = Watch::of(&page);
    let stream =
        futures_util::stream::unfold((page, watch, true), |(page, mut watch, first)| async move {
            if !first {
                watch.next(&page).await?;
            }
            let event = match Facts::gather(&page).await {
                Ok(facts) => Event::default().event("status").json_data(&facts).ok()?,
                Err(refusal) => Event::default().event("error").data(refusal.detail),
            };
            Some((Ok::<_, Infallible>(event), (page, watch, false)))
        });
    answer(stream)
}

fn answer(stream: impl Stream<Item = Result<Event, Infallible>> + Send + 'static) -> Response {
    Sse::new(stream).keep_alive(KeepAlive::new().interval(ALIVE_EVERY)).into_response()
}

/// What was told last, and what tells of something new.
struct Watch {
    told: String,
    ends: tokio::sync::watch::Receiver<i64>,
    around: tokio::sync::watch::Receiver<u64>,
    pairings: tokio::sync::watch::Receiver<u64>,
    joining: tokio::sync::watch::Receiver<super::joining::JoiningState>,
    stopping: tokio::sync::watch::Receiver<bool>,
}

impl Watch {
    fn of(page: &Page) -> Self {
        Self {
            told: state_of(page),
            ends: page.node.engine.ends(),
            around: page.node.presence.changes(),
            pairings: page.node.presence.pairings(),
            joining: page.joining.changes(),
            stopping: page.node.stopping(),
        }
    }

    /// Waits until something is different; `None` once the node is stopping.
    async fn next(&mut self, page: &Page) -> Option<()> {
        loop {
            let state = state_of(page);
            if state != self.told {
                self.told = state;
                return Some(());
            }
            tokio::select! {
                changed = self.ends.changed() => changed.ok()?,
                changed = self.around.changed() => changed.ok()?,
                changed = self.pairings.changed() => changed.ok()?,
                changed = self.joining.changed() => changed.ok()?,
                _ = self.stopping.wait_for(|stopping| *stopping) => return None,
                () = tokio::time::sleep(LOOK_EVERY) => continue,
            }
            tokio::time::sleep(TOLD_APART).await;
        }
    }
}
