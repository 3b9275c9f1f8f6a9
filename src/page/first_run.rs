//! The page before there is a node: what the database needs, or why the node can't start, and what
//! the person wants done. Does none of it: it tells whoever serves it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use maud::{Markup, html};
use serde::Deserialize;
use storysync_engine::store::trust::TrustStore;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use super::session::{NO_SESSION, Sessions};
use super::visit::{Language, html as answer, is_own};
use super::words::Words;
use super::{assets, lock, shell};
use crate::net::admin::not_here;
use crate::net::connections::{Connections, Limits};
use crate::net::origin::{HostNames, own_host_only};
use crate::net::reply::Refusal;
use crate::net::server;
use crate::printable;

/// How long the last answer may load what belongs to it.
const ANSWER_LOADS_WITHIN: Duration = Duration::from_millis(500);

/// Why there is no node yet.
#[derive(Debug, Clone)]
pub enum Situation {
    /// There is no database where it was looked for.
    NoDatabase {
        /// Where.
        looked_at: PathBuf,
    },
    /// The database was never prepared.
    Unprepared {
        /// The database.
        database: PathBuf,
        /// Its tables.
        tables: usize,
        /// Its rows.
        rows: usize,
        /// Where the backup goes that is made first.
        backups: PathBuf,
    },
    /// The node can't start, and why.
    Refused {
        /// A sentence.
        why: String,
    },
}

/// What the person wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirstRunEnd {
    /// Prepare the database, then serve.
    Prepare,
    /// Create a new database, then serve.
    Create,
    /// The database is elsewhere.
    Use(PathBuf),
    /// Try to start again.
    Again,
    /// Serve on ports that are free.
    OtherPorts,
}

/// The page before there is a node.
#[derive(Debug)]
pub struct FirstRun {
    sessions: Sessions,
    situation: Situation,
    end: Mutex<Option<oneshot::Sender<FirstRunEnd>>>,
    /// Whether somebody came in by the link.
    is_used: AtomicBool,
}

impl FirstRun {
    /// Serves the page until the person says what to do. `link` opens it once, and is taken away
    /// when somebody used it.
    pub async fn ask(
        listener: TcpListener,
        trust: Arc<TrustStore>,
        own_id: &str,
        link: &mut Option<String>,
        situation: Situation,
    ) -> Option<FirstRunEnd> {
        let (end, ended) = oneshot::channel();
        let sessions = Sessions::new(trust, own_id);
        if let Some(link) = link.as_deref() {
            sessions.expect(link);
        }
        let page = Arc::new(Self {
            sessions,
            situation,
            end: Mutex::new(Some(end)),
            is_used: AtomicBool::new(false),
        });
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(server::serve(
            listener,
            Arc::clone(&page).router(),
            Connections::new(Limits::LOOPBACK),
            stopped,
        ));
        let decided = ended.await.ok();
        // The answer loads what it needs to wait for the node.
        tokio::time::sleep(ANSWER_LOADS_WITHIN).await;
        stop.send_replace(true);
        drop(serving.await);
        if page.is_used.load(Ordering::Relaxed) {
            *link = None;
        }
        decided
    }

    fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/", get(view))
            .route("/start", post(start))
            .route("/assets/{name}", get(assets::asset))
            .fallback(not_here)
            .layer(axum::middleware::from_fn_with_state(HostNames::default(), own_host_only))
            .with_state(self)
    }
}

#[derive(Debug, Deserialize)]
struct FrontQuery {
    token: Option<String>,
}

async fn view(
    State(page): State<Arc<FirstRun>>,
    Language(words): Language,
    Query(query): Query<FrontQuery>,
    headers: HeaderMap,
) -> Response {
    if let Some(token) = query.token
        && page.sessions.takes(&token)
    {
        page.is_used.store(true, Ordering::Relaxed);
        let mut response = Redirect::to("/").into_response();
        if let Ok(cookie) = page.sessions.begin().parse() {
            response.headers_mut().insert(axum::http::header::SET_COOKIE, cookie);
        }
        return response;
    }
    if page.sessions.of(&headers).is_none() {
        return answer(NO_SESSION, shell::locked(&words));
    }
    answer(StatusCode::OK, asked(words, &page.situation))
}

fn asked(words: Words, situation: &Situation) -> Markup {
    let path_form = |looked_at: Option<&PathBuf>| {
        html! {
            form method="post" action="/start" {
                label for="path" { (words.say("first-path")) }
                input #path name="path" autocomplete="off" spellcheck="false"
                    value=[looked_at.map(|path| path.display())];
                button name="what" value="use" { (words.say("first-use")) }
            }
        }
    };
    let content = match situation {
        Situation::NoDatabase { looked_at } => html! {
            p { (words.say("first-none")) }
            p { code { (looked_at.display()) } }
            (path_form(Some(looked_at)))
            form method="post" action="/start" {
                p { (words.say("first-create-how")) }
                button name="what" value="create" { (words.say("first-create")) }
            }
        },
        Situation::Unprepared { database, tables, rows, backups } => html! {
            p { (words.say("first-found")) " " code { (database.display()) } }
            p { (words.with("first-counted", &[("tables", (*tables).into()),
                ("rows", (*rows).into())])) }
            h2 { (words.say("first-what")) }
            ul.plain {
                li { (words.say("first-backup")) " " code { (backups.display()) } }
                li { (words.say("first-adds")) }
                li { (words.say("first-verifies")) }
            }
            form method="post" action="/start" {
                button.main name="what" value="prepare" { (words.say("first-go")) }
            }
        },
        Situation::Refused { why } => html! {
            p.said.failed role="alert" { (printable(why)) }
            form.actions method="post" action="/start" {
                button.main name="what" value="again" { (words.say("first-again")) }
                button name="what" value="other-ports" { (words.say("first-other-ports")) }
            }
            (path_form(None))
        },
    };
    shell::bare(words, &words.say("first-title"), &content)
}

#[derive(Debug, Deserialize)]
struct StartForm {
    what: String,
    #[serde(default)]
    path: String,
}

async fn start(
    State(page): State<Arc<FirstRun>>,
    Language(words): Language,
    headers: HeaderMap,
    Form(form): Form<StartForm>,
) -> Response {
    if page.sessions.of(&headers).is_none() || !is_own(&axum::http::Method::POST, &headers) {
        return Refusal::new(
            NO_SESSION,
            "this needs a session: open the page with `storysync open`",
        )
        .into_response();
    }
    let end = match form.what.as_str() {
        "prepare" => FirstRunEnd::Prepare,
        "create" => FirstRunEnd::Create,
        "use" if !form.path.trim().is_empty() => FirstRunEnd::Use(form.path.trim().into()),
        "other-ports" => FirstRunEnd::OtherPorts,
        _ => FirstRunEnd::Again,
    };
    if let Some(told) = lock(&page.end).take() {
        drop(told.send(end));
    }
    let content = html! {
        p role="status" data-starting="" { (words.say("first-starting")) }
        p { a href="/" { (words.say("first-look")) } }
    };
    answer(StatusCode::OK, shell::bare(words, &words.say("first-title"), &content))
}
