//! The LAN listener's operations: what paired devices ask, sealed.

use serde_json::json;
use storysync_engine::trust::pairing::REGISTER_TARGET;
use utoipa::openapi::schema::Type;

use super::admin::{conflicts_example, devices_example};
use super::bodies::{Devices, Health, Said};
use super::conflict_bodies::{Conflicts, Resolved};
use super::describe::Description;
use super::page::health_example;
use super::requests::Decision;
use super::wire::{
    DigestRequest, Digests, FetchRequest, FetchResponse, NamesRequest, NamesResponse, Nothing,
    PeerEvent, PullRequest, PullResponse, PushRequest, PushResponse, ReconcileRequest,
    ReconcileResponse, Registered, Registration, Status,
};
use super::{CONFLICTS, DEVICES, EXCHANGE, NODE, PAIRING};

const ROW: &str = "5f1d7a52-9d2c-4a0e-8a4e-0f6a2f3f8c11";
const EPOCH: &str = "00112233445566778899aabbccddeeff";
const DEVICE: &str = "12D3KooWBmAwcd4PJNJvfV89HwE48nwkRmAgo8Vy3uQEyNNHBox2";
const TIME: &str = "2026-11-22T08:25:57.000000Z";

/// Nothing is taken from a device of which its owner must be asked first.
const UNANSWERED: (u16, &str) = (
    409,
    "Sealed: the person at the other end must say first what the two files are. Plain: \
     `need_prekey`.",
);
const PUSHED_MAX: (u16, &str) = (
    413,
    "Sealed: more than 64 MiB after inflating, 500,000 JSON keys or 10,000 rows. Plain: more than \
     16 MiB sealed.",
);

pub(crate) fn health() -> Description {
    Description::get("/", "health", NODE, "Whether a node is there, and reaches its database")
        .says("The only answer that is not sealed and is meant for anybody.")
        .answers::<Health>("How it is.", health_example())
}

pub(crate) fn register() -> Description {
    Description::post(REGISTER_TARGET, "register", PAIRING, "Asks to be paired")
        .says(
            "An envelope of kind 3, sealed with what the QR code holds, without a token. \
             PROTOCOL.md, section 5 (Pairing). Sent again until a person has typed the code.",
        )
        .sealed::<Registration, Registered>(
            json!({ "device_id": DEVICE, "device_name": "phone", "identity_key": "…",
                "static_key": "…", "platform": "android" }),
            json!({ "device_id": DEVICE, "device_name": "desk", "auth_token": "…",
                "message": "paired", "static_key": "…", "epoch": 1 }),
        )
        .answers_sealed(202, "Sealed: a person has to type the code on the other device.")
        .refuses(&[(413, "The body is longer than 4 KiB.")])
        .without_token()
}

pub(crate) fn status() -> Description {
    Description::get("/api/sync/status", "status", NODE, "How the node stands, and a prekey")
        .says("The one request that is also answered under kid 0.")
        .sealed::<Nothing, Status>(
            json!({}),
            json!({ "device_id": DEVICE, "device_name": "desk", "last_sync_at": null,
                "pending_changes_count": 3, "server_timestamp": TIME, "epoch": EPOCH,
                "entities": 1_204, "conflicts": 0, "kid": "9223372036854775809", "prekey": "…",
                "prekey_ttl_seconds": 900, "instance": "0011223344556677", "revoked": [],
                "keys_in_use_twice": false }),
        )
}

pub(crate) fn pull() -> Description {
    Description::post("/api/sync/pull", "pull", EXCHANGE, "What is new since a cursor")
        .sealed::<PullRequest, PullResponse>(
            json!({ "limit": 1000 }),
            json!({ "changes": [row_example()], "sync_timestamp": TIME, "cursor": "…",
                "has_more": false, "epoch": EPOCH }),
        )
}

fn row_example() -> serde_json::Value {
    json!({ "entity_type": "character", "entity_id": 7, "sync_uuid": ROW, "operation": "update",
        "data": { "first_name": "Mara", "job": "smith", "version": 3 }, "version": 3,
        "updated_at": TIME })
}

pub(crate) fn push() -> Description {
    Description::post("/api/sync/push", "push", EXCHANGE, "Tells what is new")
        .sealed::<PushRequest, PushResponse>(
            json!({ "changes": [row_example()] }),
            json!({ "accepted": 1, "accepted_states": [{ "entity_type": "character",
                "sync_uuid": ROW, "entity_id": 7, "version": 4, "updated_at": TIME }],
                "conflicts": [], "rejected": 0, "message": "1 row was taken in",
                "epoch": EPOCH }),
        )
        .may_be_refused(&[UNANSWERED, PUSHED_MAX])
}

pub(crate) fn events() -> Description {
    Description::get(
        "/api/sync/events",
        "events",
        EXCHANGE,
        "Tells when there is something to pull",
    )
    .says(
        "The answer is a stream of sealed events (PROTOCOL.md, section 3, Stream of events): the \
         schema is that of each one.",
    )
    .query("cursor", Type::String, "The cursor of the last pull; all there is without.")
    .sealed::<Nothing, PeerEvent>(json!({}), json!({ "event": "changes" }))
}

pub(crate) fn reconcile() -> Description {
    Description::post("/api/sync/reconcile", "reconcile", EXCHANGE, "Compares two logs")
        .says("One message of negentropy, protocol 1, and the answer to it.")
        .sealed::<ReconcileRequest, ReconcileResponse>(
            json!({ "message": "YQ…", "epoch": EPOCH }),
            json!({ "message": "YQ…", "cursor": "…", "epoch": EPOCH, "provisional": true }),
        )
}

pub(crate) fn fetch() -> Description {
    Description::post("/api/sync/fetch", "fetch", EXCHANGE, "Changes by name")
        .sealed::<FetchRequest, FetchResponse>(
            json!({ "changes": ["…"], "after": 0 }),
            json!({ "changes": [], "after": 0, "has_more": false }),
        )
        .may_be_refused(&[UNANSWERED])
}

pub(crate) fn names() -> Description {
    Description::post(
        "/api/sync/names",
        "names",
        EXCHANGE,
        "Says what rows are called here, at a first contact",
    )
    .sealed::<NamesRequest, NamesResponse>(
        json!({ "names": [{ "entity_type": "character", "from": ROW, "to": ROW }] }),
        json!({ "renamed": 1 }),
    )
    .may_be_refused(&[UNANSWERED])
}

pub(crate) fn digests() -> Description {
    Description::post(
        "/api/sync/digests",
        "digests",
        EXCHANGE,
        "Digests of what the tables show, to compare two devices",
    )
    .sealed::<DigestRequest, Digests>(
        json!({}),
        json!({ "tables": { "character": { "rows": 12, "digest": "0011223344556677" } } }),
    )
}

pub(crate) fn conflicts() -> Description {
    Description::get("/api/sync/conflicts", "conflicts", CONFLICTS, "The open conflicts")
        .sealed::<Nothing, Conflicts>(json!({}), conflicts_example())
}

pub(crate) fn resolve() -> Description {
    Description::post("/api/sync/resolve", "resolve", CONFLICTS, "Decides a conflict, or all")
        .says("In the name of the device that asks.")
        .sealed::<Decision, Resolved>(
            json!({ "id": "7f7f14c1a1f04f2f", "take": "mine" }),
            json!({ "resolved": 1 }),
        )
        .may_be_refused(&[(409, "Sealed: it can't be done now. Plain: `need_prekey`.")])
}

pub(crate) fn devices() -> Description {
    Description::get("/api/devices", "devices", DEVICES, "The devices the node knows")
        .sealed::<Nothing, Devices>(json!({}), devices_example())
}

pub(crate) fn remove_device() -> Description {
    Description::delete("/api/devices/{id}", "leave", DEVICES, "A device leaves")
        .says("It may name only itself.")
        .part("id", "The asking device's own id.", DEVICE)
        .sealed::<Nothing, Said>(json!({}), json!({ "message": "… is no longer paired" }))
        .may_be_refused(&[(409, "Sealed: it is the only owner. Plain: `need_prekey`.")])
}
