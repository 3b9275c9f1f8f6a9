//! The reference of the HTTP interface: both listeners' OpenAPI documents as JSON, and as one page
//! to be read offline. It tells nothing of this node, so it needs no session, and it is in English,
//! as everything for programmers.

use std::sync::{Arc, LazyLock};

use axum::Extension;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use maud::{Markup, html};
use serde_json::Value as Json;
use utoipa::openapi::OpenApi;

use super::operations::{Operation, fields, prose, schema, text};
use super::shell::bare;
use super::visit::html as answer;
use super::words::Words;
use crate::net::reply;
use crate::net::{lan, openapi};

/// Puts the admin token of a run where the examples look for it.
const TOKEN_LINE: &str =
    r#"TOKEN=$(sed -n 's/.*"token": *"\([^"]*\)".*/\1/p' DATA_DIR/admin.json)"#;

/// Where examples look for a node on the network.
const LAN_HOST: &str = "127.0.0.1:8765";

/// Both documents, made once.
#[derive(Debug, Clone)]
pub(super) struct Documents(Arc<LazyLock<Made, Making>>);

/// Makes both, for whoever asks first: no start waits for it.
type Making = Box<dyn FnOnce() -> Made + Send>;

#[derive(Debug)]
struct Made {
    loopback: Json,
    lan: Json,
}

impl Documents {
    /// That of the routes of the loopback listener, and that of the LAN's.
    pub(super) fn of(routes: OpenApi) -> Self {
        let json = |document: OpenApi| serde_json::to_value(document).unwrap_or_default();
        Self(Arc::new(LazyLock::new(Box::new(move || Made {
            loopback: json(openapi::loopback(routes)),
            lan: json(lan::document()),
        }))))
    }
}

/// `GET /openapi.json`.
pub(super) async fn loopback_json(Extension(documents): Extension<Documents>) -> Response {
    reply::json(&documents.0.loopback)
}

/// `GET /openapi/lan.json`.
pub(super) async fn lan_json(Extension(documents): Extension<Documents>) -> Response {
    reply::json(&documents.0.lan)
}

/// `GET /docs`.
pub(super) async fn view(
    Extension(documents): Extension<Documents>,
    headers: HeaderMap,
) -> Response {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.unwrap_or("127.0.0.1:8766");
    let parts = [
        Part {
            prefix: "loopback",
            document: &documents.0.loopback,
            path: openapi::LOOPBACK_PATH,
            host,
        },
        Part { prefix: "lan", document: &documents.0.lan, path: openapi::LAN_PATH, host: LAN_HOST },
    ];
    let content = html! {
        div.reference {
            p { "What a storysync node answers over HTTP, version " (env!("CARGO_PKG_VERSION"))
                ". The examples take the admin token of the run from the node's data directory:" }
            div.copied {
                label for="curl-token" { "First" }
                textarea readonly rows="2" id="curl-token" { (TOKEN_LINE) }
                button type="button" data-copy="curl-token" { "Copy" }
            }
            nav aria-label="Contents" {
                ul { @for part in &parts { (part.contents()) } }
            }
            @for part in &parts { (part.show()) }
        }
    };
    answer(StatusCode::OK, bare(Words::of("en"), "HTTP interface", &content))
}

/// One listener's document.
struct Part<'a> {
    prefix: &'a str,
    document: &'a Json,
    path: &'a str,
    /// What examples are sent to.
    host: &'a str,
}

impl Part<'_> {
    fn title(&self) -> &str {
        text(self.document.get("info").unwrap_or(&Json::Null), "title")
    }

    /// Name and description of each group.
    fn groups(&self) -> impl Iterator<Item = (&str, &str)> {
        let groups = self.document.get("tags").and_then(Json::as_array);
        groups.into_iter().flatten().map(|group| (text(group, "name"), text(group, "description")))
    }

    fn of_group<'a>(&'a self, group: &'a str) -> impl Iterator<Item = Operation<'a>> {
        Operation::of_group(self.prefix, self.document, group)
    }

    fn contents(&self) -> Markup {
        html! {
            li {
                a href={ "#" (self.prefix) } { (self.title()) }
                ul {
                    @for (group, _) in self.groups() {
                        @for one in self.of_group(group) {
                            li { a href={ "#" (one.id()) } {
                                (one.method.to_uppercase()) " " (one.path) } }
                        }
                    }
                }
            }
        }
    }

    fn show(&self) -> Markup {
        let null = Json::Null;
        let info = self.document.get("info").unwrap_or(&null);
        let components = self.document.get("components").unwrap_or(&null);
        html! {
            section id=(self.prefix) {
                h2 { (self.title()) }
                p { (prose(text(info, "description"))) }
                p { "As OpenAPI 3.1: " a href=(self.path) { (self.path) } }
                @for (name, scheme) in fields(components.get("securitySchemes").unwrap_or(&null)) {
                    p { code { (name) } ": " (prose(text(scheme, "description"))) }
                }
                @for (group, words) in self.groups() {
                    h3 { (group) }
                    p.quiet { (words) }
                    @for one in self.of_group(group) {
                        (one.show(self.host))
                    }
                }
                h3 { "Schemas" }
                @for (name, it) in fields(components.get("schemas").unwrap_or(&null)) {
                    (schema(self.prefix, name, it))
                }
            }
        }
    }
}
