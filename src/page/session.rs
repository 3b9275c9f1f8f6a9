//! Who may look: links that open the page once, and the sessions they begin. A session outlives a
//! restart of the node; only a hash of what its browser holds is kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use cookie::{Cookie, SameSite};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use storysync_engine::store::trust::TrustStore;
use storysync_engine::trust::identity::Secret;
use storysync_engine::trust::{from_base64url, to_base64url};

use super::{Page, lock};
use crate::net::node_state::{now, system_rng};
use crate::net::{admin, reply};

/// How long a link can be used, once.
const LINK_WITHIN: Duration = Duration::from_secs(5 * 60);
/// How long a browser may come back without a new link, in milliseconds.
const SESSION_MS: i64 = 30 * 24 * 60 * 60 * 1000;
/// Browsers that are let in at the same time; the oldest makes room.
const SESSIONS_MAX: usize = 16;
/// Links that wait to be used; the oldest makes room.
const LINKS_MAX: usize = 16;
/// Setting under which sessions are kept.
const SESSIONS_SETTING: &str = "page_sessions";
/// Characters of a device's id in the name of its cookie: browsers hand cookies to every port of an
/// address, and two nodes on one machine shall not take each other's away.
const COOKIE_ID_CHARS: usize = 12;

/// A browser that is let in.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Session {
    /// SHA-256 of what its cookie holds, base64url.
    hash: String,
    /// Unix time in ms.
    until: i64,
}

/// What is told once, with the next view.
#[derive(Debug, Clone)]
pub(super) enum Said {
    /// Something was done.
    Done(String),
    /// Something was not done, and why.
    Failed(String),
}

/// Who may look at the page.
#[derive(Debug)]
pub(super) struct Sessions {
    trust: Arc<TrustStore>,
    cookie: String,
    known: Mutex<Vec<Session>>,
    links: Mutex<Vec<(String, Instant)>>,
    said: Mutex<HashMap<String, Vec<Said>>>,
}

fn hash_of(words: &str) -> String {
    to_base64url(Sha256::digest(words.as_bytes()).as_slice())
}

/// A word nobody guesses.
#[must_use]
pub fn random_words() -> String {
    to_base64url(Secret::random(&mut system_rng()).expose())
}

impl Sessions {
    pub(super) fn new(trust: Arc<TrustStore>, own_id: &str) -> Self {
        let known = trust
            .setting(SESSIONS_SETTING)
            .ok()
            .flatten()
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default();
        let ending: String =
            own_id.chars().skip(own_id.chars().count().saturating_sub(COOKIE_ID_CHARS)).collect();
        Self {
            trust,
            cookie: format!("storysync-{ending}"),
            known: Mutex::new(known),
            links: Mutex::default(),
            said: Mutex::default(),
        }
    }

    /// A word that opens the page once.
    pub(super) fn link(&self) -> String {
        let words = random_words();
        self.expect(&words);
        words
    }

    /// Lets a word open the page once.
    pub(super) fn expect(&self, words: &str) {
        let mut links = lock(&self.links);
        links.retain(|(_, at)| at.elapsed() < LINK_WITHIN);
        if links.len() >= LINKS_MAX {
            links.remove(0);
        }
        links.push((hash_of(words), Instant::now()));
    }

    /// Whether a word opens the page; it does so once.
    pub(super) fn takes(&self, words: &str) -> bool {
        let hash = hash_of(words);
        let mut links = lock(&self.links);
        links.retain(|(_, at)| at.elapsed() < LINK_WITHIN);
        let before = links.len();
        links.retain(|(known, _)| *known != hash);
        links.len() < before
    }

    /// Lets a browser in: the header that makes it come back with its session.
    pub(super) fn begin(&self) -> String {
        let words = random_words();
        let now = now().unix_ms();
        let mut known = lock(&self.known);
        known.retain(|session| session.until > now);
        if known.len() >= SESSIONS_MAX {
            known.remove(0);
        }
        known.push(Session { hash: hash_of(&words), until: now.saturating_add(SESSION_MS) });
        let kept =
            serde_json::to_string(&*known).map_err(|error| error.to_string()).and_then(|text| {
                self.trust.set_setting(SESSIONS_SETTING, &text).map_err(|error| error.to_string())
            });
        if let Err(error) = kept {
            tracing::warn!(%error, "the page will want a new link after a restart");
        }
        Cookie::build((self.cookie.as_str(), words.as_str()))
            .http_only(true)
            .same_site(SameSite::Strict)
            .path("/")
            .max_age(cookie::time::Duration::milliseconds(SESSION_MS))
            .build()
            .to_string()
    }

    /// The session of a request, if it has one.
    pub(super) fn of(&self, headers: &HeaderMap) -> Option<String> {
        let now = now().unix_ms();
        headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|text| Cookie::split_parse(text.to_owned()))
            .filter_map(Result::ok)
            .filter(|cookie| cookie.name() == self.cookie)
            .map(|cookie| hash_of(cookie.value()))
            .find(|hash| {
                lock(&self.known).iter().any(|session| session.hash == *hash && session.until > now)
            })
    }

    /// Has something told with the next view of a session.
    pub(super) fn say(&self, session: &str, said: Said) {
        lock(&self.said).entry(session.to_owned()).or_default().push(said);
    }

    /// What is to be told now.
    pub(super) fn take_said(&self, session: &str) -> Vec<Said> {
        lock(&self.said).remove(session).unwrap_or_default()
    }
}

/// `POST /api/page/link`: an address that opens the page once, for whoever has the admin token.
pub(super) async fn new_link(State(page): State<Arc<Page>>, request: Request) -> Response {
    if !admin::has_token(&page.node, request.headers()) {
        return admin::no_token().into_response();
    }
    reply::json(&json!({ "path": format!("/?token={}", page.sessions.link()) }))
}

/// Whether the admin token itself opens the page: once in the life of a node.
pub(super) fn is_admin_link(page: &Page, words: &str) -> bool {
    from_base64url(words).is_some_and(|given: [u8; 32]| admin::opens_once(&page.node, &given))
}

/// The status of a page nobody may see without a link.
pub(super) const NO_SESSION: StatusCode = StatusCode::UNAUTHORIZED;
