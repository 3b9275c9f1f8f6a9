//! What the listeners answer, as OpenAPI 3.1. A route is made of its description (see
//! `describe::Description`), so the documents hold what the routers do. Bodies are described here
//! field by field, also those the engine owns, which knows nothing of OpenAPI; tests hold them
//! against what is really sent.
//!
//! There is one document for each listener: paths such as `/api/devices` are on both, and mean
//! other bodies.
//!
//! ```text
//!   describe   how an operation is described      bodies     what loopback takes and answers
//!   admin      the loopback listener's operations requests   bodies of several forms
//!   lan        the LAN listener's operations      wire       what is inside sealed bodies
//!   page       what the page's router adds        operate    settings, devices, measurements
//! ```

pub(crate) mod admin;
pub mod bodies;
pub mod conflict_bodies;
pub(crate) mod describe;
pub(crate) mod lan;
pub mod operate;
pub(crate) mod page;
pub mod requests;
pub mod wire;

use storysync_engine::trust::envelope::MEDIA_TYPE;
use utoipa::openapi::info::{InfoBuilder, LicenseBuilder};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::server::{ServerBuilder, ServerVariableBuilder};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{Components, OpenApi};

use describe::{ADMIN_TOKEN, SEALED};

/// Where the loopback listener's document is.
pub const LOOPBACK_PATH: &str = "/openapi.json";
/// Where the LAN listener's document is, on loopback too.
pub const LAN_PATH: &str = "/openapi/lan.json";

/// Groups of operations, in the order in which they are read.
const GROUPS: &[(&str, &str)] = &[
    (NODE, "Whether a node is there, how it stands, and what describes it."),
    (PAIRING, "Getting to know another device."),
    (DEVICES, "The devices this one knows."),
    (EXCHANGE, "What two devices tell each other of their rows."),
    (CONFLICTS, "What two people wrote into one place."),
    (HISTORY, "Who wrote what, and taking it back."),
    (BRAKES, "Deletions of others that wait for a yes."),
];
/// A node and its state.
pub(crate) const NODE: &str = "Node";
/// Pairing.
pub(crate) const PAIRING: &str = "Pairing";
/// Devices.
pub(crate) const DEVICES: &str = "Devices";
/// The exchange.
pub(crate) const EXCHANGE: &str = "Exchange";
/// Conflicts.
pub(crate) const CONFLICTS: &str = "Conflicts";
/// History.
pub(crate) const HISTORY: &str = "History";
/// Deletions that wait.
pub(crate) const BRAKES: &str = "Brakes";

const LOOPBACK_WORDS: &str = "What programs at this machine ask of a storysync node, on its \
    loopback listener (127.0.0.1:8766 unless told otherwise). Paths under `/api/` ask for the \
    run's admin token; `DATA_DIR/admin.json` holds it, and the listener's address. Refusals are \
    `{\"detail\": \"sentence\"}`. Fields you do not know are to be ignored. Times are RFC 3339 in \
    UTC, device ids are libp2p PeerIds. What paired devices ask on the LAN is described in \
    `/openapi/lan.json`.";

const LAN_WORDS: &str = "What paired devices ask of a storysync node, on its LAN listener \
    (0.0.0.0:8765 unless told otherwise). All but `GET /` is sealed: what goes over the wire is an \
    envelope of media type `application/vnd.storysync.sealed`, in the body of a POST, in the \
    header `X-Storysync-Sealed` otherwise. `x-sealed` says what is inside: schemas and examples \
    of the request and of the answer. PROTOCOL.md says how to pair (section 5), how to seal \
    (section 3), and what each field means (section 6). Whoever was recognised reads refusals \
    sealed, too; every other answer is a hint.";

/// The loopback listener's document.
pub(crate) fn loopback(routes: OpenApi) -> OpenApi {
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("43 characters of base64url")
        .description(Some("The run's admin token, from `DATA_DIR/admin.json`."))
        .build();
    finish(routes, "storysync, loopback listener", LOOPBACK_WORDS, (ADMIN_TOKEN, token), None)
}

/// The LAN listener's document.
pub(crate) fn lan(routes: OpenApi) -> OpenApi {
    let words = format!(
        "A device paired with this one. Its token (`auth_token` of the pairing, base64url) says \
         who asks, no more; what proves it is the envelope of media type `{MEDIA_TYPE}`: HPKE in \
         mode_psk to a prekey of the server's, signed with the device's identity. PROTOCOL.md, \
         sections 3 (Sealed bodies) and 4 (Prekeys and sequence numbers)."
    );
    let sealed = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(words)).build();
    let variable = |default: &str, words: &str| {
        ServerVariableBuilder::new().default_value(default).description(Some(words)).build()
    };
    let server = ServerBuilder::new()
        .url("http://{address}:{port}")
        .description(Some("A node on the network"))
        .parameter("address", variable("127.0.0.1", "its IP address"))
        .parameter("port", variable("8765", "its port"))
        .build();
    finish(routes, "storysync, LAN listener", LAN_WORDS, (SEALED, sealed), Some(server))
}

fn finish(
    mut document: OpenApi,
    title: &str,
    words: &str,
    (scheme, security): (&str, utoipa::openapi::security::Http),
    server: Option<utoipa::openapi::Server>,
) -> OpenApi {
    document.info = InfoBuilder::new()
        .title(title)
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(words))
        .license(Some(
            LicenseBuilder::new()
                .name(env!("CARGO_PKG_LICENSE"))
                .identifier(Some(env!("CARGO_PKG_LICENSE")))
                .build(),
        ))
        .build();
    document.servers = Some(vec![server.unwrap_or_else(|| utoipa::openapi::Server::new("/"))]);
    document.tags = Some(
        GROUPS
            .iter()
            .filter(|(group, _)| has_group(&document, group))
            .map(|(name, words)| TagBuilder::new().name(*name).description(Some(*words)).build())
            .collect(),
    );
    document
        .components
        .get_or_insert_with(Components::new)
        .security_schemes
        .insert(scheme.to_owned(), SecurityScheme::Http(security).into());
    document
}

fn has_group(document: &OpenApi, group: &str) -> bool {
    document.paths.paths.values().any(|item| {
        [&item.get, &item.post, &item.delete]
            .into_iter()
            .flatten()
            .any(|operation| operation.tags.iter().flatten().any(|tag| tag == group))
    })
}
