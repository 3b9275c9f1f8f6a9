//! What the page loads besides its views: all of it stands in the program. Addresses name the
//! content, so that browsers keep it for as long as it is the same.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use sha2::{Digest as _, Sha256};
use storysync_engine::trust::to_base64url;

use crate::net::reply::{self, Refusal};

/// Name, media type and content.
const ASSETS: &[(&str, &str, &[u8])] = &[
    ("page.css", "text/css; charset=utf-8", include_bytes!("assets/page.css")),
    ("page.js", "text/javascript; charset=utf-8", include_bytes!("assets/page.js")),
    ("idiomorph.js", "text/javascript; charset=utf-8", include_bytes!("assets/idiomorph.js")),
    ("icon.svg", "image/svg+xml", include_bytes!("assets/icon.svg")),
];

/// Characters of the hash that names a content.
const HASH_CHARS: usize = 12;

static PATHS: LazyLock<Vec<String>> = LazyLock::new(|| {
    ASSETS
        .iter()
        .map(|(name, _, content)| {
            let hash = to_base64url(Sha256::digest(content).as_slice());
            format!("/assets/{name}?{}", hash.chars().take(HASH_CHARS).collect::<String>())
        })
        .collect()
});

/// Where an asset is loaded from.
pub(super) fn path(name: &str) -> &'static str {
    ASSETS
        .iter()
        .position(|(known, ..)| *known == name)
        .map_or("/assets/", |number| PATHS.get(number).map_or("/assets/", String::as_str))
}

/// `GET /assets/{name}`. Tells nothing of the node: it needs no session.
pub(super) async fn asset(Path(name): Path<String>) -> Response {
    let Some((_, media_type, content)) = ASSETS.iter().find(|(known, ..)| *known == name) else {
        return Refusal::new(StatusCode::NOT_FOUND, "there is nothing here").into_response();
    };
    let mut response = reply::bytes_of(content.to_vec(), media_type);
    response.headers_mut().insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("private, max-age=31536000, immutable"),
    );
    response
        .headers_mut()
        .insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
