//! One request of a browser with a session: its language, its session, and how to answer it.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::Markup;
use storysync_engine::{Engine, EngineError};

use super::Page;
use super::session::{NO_SESSION, Said};
use super::state::state_of;
use super::words::Words;
use crate::net::reply::Refusal;

/// What a page may load, and who may frame it: only what this listener serves, and nobody.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; \
    frame-ancestors 'none'";

/// One request of a browser that may look.
#[derive(Debug, Clone)]
pub(super) struct Visit {
    pub(super) page: Arc<Page>,
    pub(super) words: Words,
    /// How the node stood before the view was made; see [`state_of`].
    pub(super) state: String,
    session: String,
}

impl Visit {
    /// What is to be told with this view.
    pub(super) fn said(&self) -> Vec<Said> {
        self.page.sessions.take_said(&self.session)
    }

    /// Asks the engine.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Engine) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, Refusal> {
        Ok(self.page.node.engine.call(work).await??)
    }

    /// A view.
    pub(super) fn show(&self, markup: Markup) -> Response {
        html(StatusCode::OK, markup)
    }

    /// Something was done: on to a view that says so.
    pub(super) fn done(&self, words: String, to: &str) -> Response {
        self.page.sessions.say(&self.session, Said::Done(words));
        Redirect::to(to).into_response()
    }

    /// Something was not done, and the next view says why.
    pub(super) fn say_failed(&self, words: String) {
        self.page.sessions.say(&self.session, Said::Failed(words));
    }

    /// Something was not done: on to a view that says why.
    pub(super) fn failed(&self, words: String, to: &str) -> Response {
        self.say_failed(words);
        Redirect::to(to).into_response()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Visit {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        // Only routes behind `only_with_session` ask for a visit.
        parts.extensions.get::<Self>().cloned().ok_or_else(|| NO_SESSION.into_response())
    }
}

/// The language a browser asks for.
#[derive(Debug, Clone)]
pub(super) struct Language(pub(super) Words);

impl<S: Send + Sync> FromRequestParts<S> for Language {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(words_of(&parts.headers)))
    }
}

pub(super) fn words_of(headers: &HeaderMap) -> Words {
    let asked = headers
        .get(header::ACCEPT_LANGUAGE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    Words::of(asked)
}

/// Whether a request comes from a person's browser rather than from a program.
pub(super) fn is_browser(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accepted| accepted.contains("text/html"))
}

/// The visit of a request that has a session.
pub(super) fn visit_of(page: &Arc<Page>, headers: &HeaderMap) -> Option<Visit> {
    let session = page.sessions.of(headers)?;
    Some(Visit { state: state_of(page), page: Arc::clone(page), words: words_of(headers), session })
}

/// Whether a request was made by this page, or by a person in the browser's own bar. Another
/// port's page is another page, though browsers count it as the same site; what changes something
/// must say where it comes from.
pub(super) fn is_own(method: &Method, headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").and_then(|value| value.to_str().ok());
    match site {
        Some("same-origin") => true,
        Some("none") => method == Method::GET,
        Some(_) => false,
        // Its origin was compared with the host already; browsers without either header tell it
        // with every form.
        None => method == Method::GET || headers.contains_key(header::ORIGIN),
    }
}

/// A view as an answer: never kept, never framed, loading nothing from elsewhere.
pub(super) fn html(status: StatusCode, markup: Markup) -> Response {
    let mut response = (status, markup.into_string()).into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
