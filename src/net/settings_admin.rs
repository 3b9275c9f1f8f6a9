//! Settings over HTTP, on the loopback listener: what is in effect and where it comes from, another
//! value for one, and taking what may change while the node runs.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa_axum::router::OpenApiRouter;

use super::decisions::parse;
use super::node_state::NodeState;
use super::openapi::operate as describe;
use super::reply::{self, Refusal, Sent};
use crate::config::{AskedAbout, ConfigError};
use crate::settings::{self, Settings};
use storysync_engine::PAGE_ENTITIES_MAX;
use storysync_engine::store::trust::WhoIsAskedAbout;
use storysync_engine::trust::pairing::clean_name;

type Shared = State<Arc<NodeState>>;

/// The routes, for the guarded part of the loopback listener.
pub(super) fn routes() -> OpenApiRouter<Arc<NodeState>> {
    OpenApiRouter::default()
        .routes(describe::settings().by(show))
        .routes(describe::set_setting().by(set))
        .routes(describe::reload_settings().by(reload))
}

/// What became of settings that were changed.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Followed {
    /// Those in effect from now on.
    pub taken: Vec<&'static str>,
    /// Those that wait until the node is started again.
    pub after_restart: Vec<&'static str>,
}

async fn show(State(node): Shared) -> Response {
    reply::json(&json!({ "settings": node.settings.current.now().effective() }))
}

#[derive(Deserialize)]
struct SetBody {
    key: String,
    /// As on the command line; `null` takes the setting out of the file.
    value: Option<String>,
}

async fn set(State(node): Shared, Sent(body): Sent) -> Response {
    let changed = async {
        let body = parse::<SetBody>(&body)?;
        change(&node, &body.key, body.value.as_deref()).await
    };
    answer(changed.await)
}

/// Writes another value of a setting into the file, or takes it out, and goes by it where that may
/// be.
pub(crate) async fn change(
    node: &NodeState,
    key: &str,
    value: Option<&str>,
) -> Result<Followed, Refusal> {
    settings::change(node.settings.current.data_dir(), key, value)?;
    follow(node).await
}

async fn reload(State(node): Shared) -> Response {
    answer(follow(&node).await)
}

fn answer(result: Result<Followed, Refusal>) -> Response {
    match result {
        Ok(followed) => reply::json(&followed),
        Err(refusal) => refusal.into_response(),
    }
}

impl From<ConfigError> for Refusal {
    fn from(error: ConfigError) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
    }
}

/// Reads the settings again, and goes by those that may change while the node runs.
async fn follow(node: &NodeState) -> Result<Followed, Refusal> {
    let current = &node.settings.current;
    let newer = Settings::load(current.data_dir())?;
    let (taken, after_restart) = current.follow(&newer);
    let config = current.now().config().clone();
    for key in &taken {
        match *key {
            "name" => {
                if let Some(name) = config.name.as_deref().map(clean_name) {
                    node.rename(&name)?;
                }
            }
            "asked_about" => node.trust.go_on_with_who_is_asked_about(match config.asked_about {
                AskedAbout::Keep => WhoIsAskedAbout::GoesOn,
                AskedAbout::Pause => WhoIsAskedAbout::Pauses,
            }),
            // The next pairing code asks for them.
            "pairing_approval" | "pairing_seconds" => {}
            _ => {
                let rows = config.batch_size.unwrap_or(PAGE_ENTITIES_MAX);
                let rule = config.conflict_resolution.unwrap_or_default().of_pushes();
                node.engine
                    .call(move |engine| {
                        engine.limit_pages(rows);
                        engine.decide_pushed_conflicts(rule);
                        Ok(())
                    })
                    .await??;
            }
        }
    }
    if !taken.is_empty() {
        node.presence.pairings_changed();
        tracing::info!(settings = taken.join(", "), "settings were changed");
    }
    Ok(Followed { taken, after_restart })
}
