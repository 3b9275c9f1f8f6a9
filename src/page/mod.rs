//! The page: what a person sees and decides in the browser, on the loopback listener. Each view is
//! a file that asks the node for facts and makes markup of them; what may be done is the node's
//! affair. Whoever opened it with a link of this node's has a session (see `session`); nobody
//! else sees anything.
//!
//! ```text
//!   shell      what stands around every view      words      every word of it, by language
//!   telling    values, times, devices in words    difference what two texts differ in
//!   live       says when to look again            session    who may look
//!   reference  what programs may ask, to be read (operations: one of them)
//! ```
//!
//! Without JavaScript every view and every button works; with it, views follow what happens.

mod assets;
mod conflict;
mod conflicts;
mod deleted;
mod device;
mod difference;
mod embed;
mod facts;
mod first_run;
mod gate;
mod health;
mod home;
mod joining;
mod live;
mod operations;
mod pair;
mod program;
mod reference;
mod row;
mod session;
mod settings;
mod shell;
mod state;
mod telling;
mod visit;
mod words;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use axum::{Extension, Router};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::net::admin::not_here;
use crate::net::node_state::NodeState;
use crate::net::openapi::page as describe;
use crate::net::origin::{HostNames, own_host_only};
pub use first_run::{FirstRun, FirstRunEnd, Situation};
use joining::Joining;
use program::{Checks, Program};
use session::Sessions;
pub use session::random_words;

/// Largest body of a form, in bytes: a text edited in a conflict, or a photographed code.
const FORM_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Where the node that has a page keeps things.
#[derive(Debug, Clone)]
pub struct Places {
    /// The app's database.
    pub database: PathBuf,
    /// Keys, settings, backups.
    pub data_dir: PathBuf,
    /// The program that checks and backs up; `None` where this process is not it.
    pub program: Option<PathBuf>,
}

/// What all views share.
#[derive(Debug)]
pub struct Page {
    node: Arc<NodeState>,
    places: Places,
    program: Option<Program>,
    sessions: Sessions,
    joining: Joining,
    checks: Mutex<Checks>,
}

impl Page {
    /// The page of a node.
    #[must_use]
    pub fn new(node: Arc<NodeState>, places: Places) -> Self {
        let own = node.identity.device_id();
        Self {
            sessions: Sessions::new(Arc::clone(&node.trust), own.as_str()),
            program: places
                .program
                .clone()
                .map(|path| Program::new(path, places.database.clone(), places.data_dir.clone())),
            places,
            node,
            joining: Joining::default(),
            checks: Mutex::default(),
        }
    }

    /// The path that opens the page once, for the person at this machine.
    #[must_use]
    pub fn link(&self) -> String {
        format!("/?token={}", self.sessions.link())
    }

    /// Takes a word somebody else made as one that opens the page once: of the program that started
    /// this one.
    pub fn expect_link(&self, words: &str) {
        self.sessions.expect(words);
    }
}

/// What people see: no interface for programs, so nothing describes it.
fn views() -> Router<Arc<Page>> {
    Router::new()
        .route("/pair", get(pair::view))
        .route("/pair/new", post(pair::new_code))
        .route("/pair/code", post(pair::code))
        .route("/pair/name", post(pair::name))
        .route("/pair/join", post(pair::join))
        .route("/pair/qr.png", get(pair::picture))
        .route("/conflicts", get(conflicts::view))
        .route("/conflicts/preview", post(conflicts::preview))
        .route("/conflicts/decide", post(conflicts::decide))
        .route("/conflicts/ended", get(conflicts::ended))
        .route("/conflicts/take-back", post(conflicts::take_back))
        .route("/conflict/{id}", get(conflict::view).post(conflict::decide))
        .route("/notice/{id}", post(conflicts::notice))
        .route("/row/{table}/{uuid}", get(row::view))
        .route("/row/{table}/{uuid}/take-back", post(row::take_back))
        .route("/deleted", get(deleted::view))
        .route("/hold/{id}", post(home::hold))
        .route("/device/{id}", get(device::view))
        .route("/device/{id}/revoke", get(device::ask_revoke).post(device::revoke))
        .route("/device/{id}/name", post(device::rename))
        .route("/device/{id}/pause", post(device::pause))
        .route("/device/{id}/owner", post(device::owner))
        .route("/device/{id}/keep", post(device::keep))
        .route("/device/{id}/undo", post(device::undo))
        .route("/health", get(health::view))
        .route("/health/check", post(health::check))
        .route("/health/backup", post(health::backup))
        .route("/settings", get(settings::view).post(settings::change))
        .route("/settings/end", post(settings::end))
        .route("/embed/status", get(embed::view))
        .route("/live", get(live::events))
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
}

/// What programs ask of the page's listener besides `rest`, each with its description.
fn routes() -> OpenApiRouter<Arc<Page>> {
    OpenApiRouter::default()
        .routes(describe::front().by(home::front))
        .routes(describe::link().by(session::new_link))
        .routes(describe::events().by(live::facts))
        .routes(describe::document().by(reference::loopback_json))
        .routes(describe::lan_document().by(reference::lan_json))
        .routes(describe::reference().by(reference::view))
}

/// The routes of the page; everything else on the loopback listener is `rest`'s, described as it
/// says.
pub fn router(page: Arc<Page>, (rest, mut described): (Router, OpenApi)) -> Router {
    let (own, own_described) = routes().split_for_parts();
    described.merge(own_described);
    let seen = views().route_layer(from_fn_with_state(Arc::clone(&page), gate::only_with_session));
    own.merge(seen)
        .route("/assets/{name}", get(assets::asset))
        .method_not_allowed_fallback(not_here)
        .layer(Extension(reference::Documents::of(described)))
        .layer(from_fn_with_state(HostNames::of(&page.node), own_host_only))
        .with_state(page)
        .fallback_service(rest)
}

/// A poisoned lock guards plain data that is consistent between statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
