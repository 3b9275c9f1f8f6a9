//! What the page's router answers to programs. Views of people are no interface.

use serde_json::json;

use super::bodies::{Document, Facts, Health, Link};
use super::describe::Description;
use super::{LAN_PATH, LOOPBACK_PATH, NODE};

pub(super) fn health_example() -> serde_json::Value {
    json!({ "status": "ok", "timestamp": "2026-11-22T08:25:57.000000Z",
        "database_connected": true, "version": env!("CARGO_PKG_VERSION"), "server": "storysync" })
}

pub(crate) fn front() -> Description {
    Description::get("/", "health", NODE, "Whether a node is there, and reaches its database")
        .says("A browser (`Accept: text/html`) is shown the page instead.")
        .answers::<Health>("How it is.", health_example())
}

pub(crate) fn link() -> Description {
    Description::post("/api/page/link", "page_link", NODE, "An address that opens the page once")
        .says("For a program that opens the page in the person's browser.")
        .with_token()
        .answers::<Link>("A path on this listener.", json!({ "path": "/?token=…" }))
}

pub(crate) fn events() -> Description {
    Description::get(
        "/api/events",
        "events",
        NODE,
        "How the node stands, at once and whenever that changes",
    )
    .says(
        "Server-sent events: `status` with JSON as described, `error` with a sentence. The \
         stream goes on until either side ends it.",
    )
    .with_token()
    .streams::<Facts>("A stream of events.")
}

pub(crate) fn document() -> Description {
    Description::get(LOOPBACK_PATH, "openapi", NODE, "This document")
        .answers::<Document>("OpenAPI 3.1.", json!({ "openapi": "3.1.0" }))
}

pub(crate) fn lan_document() -> Description {
    Description::get(LAN_PATH, "openapi_lan", NODE, "What the LAN listener answers")
        .answers::<Document>("OpenAPI 3.1.", json!({ "openapi": "3.1.0" }))
}

pub(crate) fn reference() -> Description {
    Description::get("/docs", "docs", NODE, "Both documents, to be read")
        .answers_as("text/html", "A page.")
}
