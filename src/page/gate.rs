//! The way in: who is shown a view at all, and what everybody else is told.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::session::NO_SESSION;
use super::visit::{Visit, html, is_browser, is_own, visit_of, words_of};
use super::{Page, shell};
use crate::net::reply::Refusal;

impl Visit {
    /// A view that could not be made.
    pub(super) fn refused(&self, refusal: &Refusal) -> Response {
        html(refusal.status, shell::refused(self, &refusal.detail))
    }
}

/// Lets through what has a session and was asked for by this page itself or typed by a person.
pub(super) async fn only_with_session(
    State(page): State<Arc<Page>>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(visit) = visit_of(&page, request.headers()) else {
        return without_session(request.headers());
    };
    if !is_own(request.method(), request.headers()) {
        return Refusal::new(StatusCode::FORBIDDEN, "web pages of others may not use this one")
            .into_response();
    }
    request.extensions_mut().insert(visit);
    next.run(request).await
}

/// What is answered to whoever has no session.
pub(super) fn without_session(headers: &HeaderMap) -> Response {
    if is_browser(headers) {
        return html(NO_SESSION, shell::locked(&words_of(headers)));
    }
    Refusal::new(NO_SESSION, "this needs a session: open the page with `storysync open`")
        .into_response()
}
