//! The loopback listener's operations for programs with the admin token.

use serde_json::json;
use utoipa::openapi::schema::Type;

use super::bodies::{Code, Devices, Live, Log, Name, Named, PairingCode, PairingState, Said};
use super::conflict_bodies::{Brakes, Conflicts, Ended, History, Resolved, Rows, Undone};
use super::describe::Description;
use super::requests::{Decision, DecisionOfOne, Undo};
use super::{BRAKES, CONFLICTS, DEVICES, HISTORY, NODE, PAIRING};

const DEVICE: &str = "12D3KooWBmAwcd4PJNJvfV89HwE48nwkRmAgo8Vy3uQEyNNHBox2";
const ROW: &str = "5f1d7a52-9d2c-4a0e-8a4e-0f6a2f3f8c11";
const CONFLICT: &str = "7f7f14c1a1f04f2f";
const TIME: &str = "2026-11-22T08:25:57.000000Z";

/// The row, its conflict or its device that is named does not exist.
const UNKNOWN: (u16, &str) = (404, "Nothing here is called so.");
const SEVERAL: (u16, &str) = (409, "Several are called so, or it can't be done now.");

fn new_window(description: Description) -> Description {
    description.query("new", Type::Boolean, "Whether another code is wanted while one is open.")
}

pub(crate) fn qr_data() -> Description {
    new_window(Description::get(
        "/api/pair/qr-data",
        "qr_data",
        PAIRING,
        "The code another device is paired by, as text",
    ))
    .says(
        "Opens a pairing window when none is open. The text is what the picture holds; it is \
         secret, and void after two minutes.",
    )
    .with_token()
    .answers::<PairingCode>(
        "The code.",
        json!({ "v": 1, "ip": "192.168.1.20", "port": 8765, "token": "…", "id": "…", "ek": "…",
            "exp": 1_795_300_120_u64, "alt": ["fd00::20"] }),
    )
}

pub(crate) fn qr_image() -> Description {
    new_window(Description::get(
        "/api/pair/qr-image",
        "qr_image",
        PAIRING,
        "The same code as a picture",
    ))
    .with_token()
    .answers_as("image/png", "A QR code.")
    .refuses(&[(500, "The picture can't be drawn.")])
}

pub(crate) fn confirm() -> Description {
    Description::post(
        "/api/pair/confirm",
        "confirm_pairing",
        PAIRING,
        "Takes the four digits the other device shows",
    )
    .with_token()
    .takes::<Code>(json!({ "code": "0417" }))
    .answers::<Said>(
        "The other device is paired as soon as it asks again.",
        json!({ "message": "approved; the other device finishes by itself" }),
    )
    .refuses(&[
        (404, "No code is shown."),
        (409, "No device has scanned the code yet."),
        (410, "Three wrong codes: show a new one."),
        (422, "That is not the code the other device shows, or the body is not as documented."),
    ])
}

pub(crate) fn pairing_state() -> Description {
    Description::get("/api/pair/state", "pairing_state", PAIRING, "Who asks to be paired")
        .with_token()
        .answers::<PairingState>(
            "Whether a code is shown, and who has scanned it.",
            json!({ "open": true, "device_id": DEVICE, "device_name": "phone", "alarm": null }),
        )
}

pub(crate) fn rename() -> Description {
    Description::post("/api/name", "rename", NODE, "Names this device")
        .with_token()
        .takes::<Name>(json!({ "name": "desk" }))
        .answers::<Named>("What it is called now.", json!({ "name": "desk" }))
        .refuses(&[(500, "The name can't be kept.")])
}

pub(crate) fn devices() -> Description {
    Description::get("/api/devices", "devices", DEVICES, "The devices this one knows")
        .with_token()
        .asks_engine()
        .answers::<Devices>("Those paired now or before.", devices_example())
}

pub(super) fn devices_example() -> serde_json::Value {
    json!({ "devices": [{
        "device_id": DEVICE, "device_name": "phone", "last_sync_at": TIME, "created_at": TIME,
        "is_active": true, "frozen": false, "is_owner": false, "is_paused": false,
        "safety_number": "12345 67890 12345 67890 12345 67890", "keys_in_use_twice_at": null,
    }] })
}

pub(crate) fn remove_device() -> Description {
    Description::delete("/api/devices/{id}", "revoke_device", DEVICES, "Stops trusting a device")
        .says("Its keys are wiped at once, and its connections are closed.")
        .part("id", "The device's id.", DEVICE)
        .with_token()
        .asks_engine()
        .answers::<Said>("It is no longer paired.", json!({ "message": "… is no longer paired" }))
        .refuses(&[(404, "No paired device has this id."), (409, "It is the only owner.")])
}

pub(crate) fn conflicts() -> Description {
    Description::get("/api/conflicts", "conflicts", CONFLICTS, "The open conflicts")
        .says("And the notices: texts from elsewhere that gave way to what the app wrote here.")
        .with_token()
        .asks_engine()
        .answers::<Conflicts>("Every open conflict.", conflicts_example())
}

pub(super) fn conflicts_example() -> serde_json::Value {
    json!({
        "conflicts": [{
            "id": CONFLICT, "kind": "field", "entity_type": "character", "sync_uuid": ROW,
            "row_name": "Mara Voss",
            "fields": [{
                "name": "job", "base": "baker",
                "values": [
                    { "value": "smith", "device": DEVICE, "at": TIME },
                    { "value": "sailor", "device": null, "at": TIME },
                ],
                "shown": "sailor",
            }],
        }],
        "notices": [],
    })
}

pub(crate) fn ended() -> Description {
    Description::get(
        "/api/conflicts/ended",
        "ended_conflicts",
        CONFLICTS,
        "The conflicts that ended last",
    )
    .with_token()
    .asks_engine()
    .answers::<Ended>("At most a hundred, the latest first.", json!({ "ended": [] }))
}

pub(crate) fn resolve() -> Description {
    Description::post("/api/conflicts/resolve", "resolve", CONFLICTS, "Decides a conflict, or all")
        .says(
            "Either `id` with `take`, `fields` or both, or `all`. Values in `fields` win over \
             the side taken.",
        )
        .with_token()
        .asks_engine()
        .takes::<Decision>(json!({ "id": CONFLICT, "take": "mine" }))
        .answers::<Resolved>("How many were decided.", json!({ "resolved": 1 }))
        .refuses(&[UNKNOWN, SEVERAL])
}

pub(crate) fn resolve_one() -> Description {
    Description::post(
        "/api/conflicts/{id}/resolve",
        "resolve_one",
        CONFLICTS,
        "Decides the conflict the path names",
    )
    .part("id", "The conflict's id.", CONFLICT)
    .with_token()
    .asks_engine()
    .takes::<DecisionOfOne>(json!({ "fields": { "job": "ship's smith" } }))
    .answers::<Resolved>("It was decided.", json!({ "resolved": 1 }))
    .refuses(&[UNKNOWN, SEVERAL])
}

pub(crate) fn history() -> Description {
    Description::get(
        "/api/history/{table}/{uuid}",
        "history",
        HISTORY,
        "Who wrote what in a row, oldest first",
    )
    .part("table", "The table.", "character")
    .part("uuid", "The row's `sync_uuid`, or what people call it.", ROW)
    .with_token()
    .asks_engine()
    .answers::<History>(
        "Its changes.",
        json!({ "sync_uuid": ROW, "row_name": "Mara Voss", "history": [{
            "change": "0f…", "device": DEVICE, "at": TIME, "action": "edited",
            "fields": [{ "name": "job", "old": "baker", "new": "smith" }],
        }] }),
    )
    .refuses(&[UNKNOWN, SEVERAL, (422, "The name of the row is not understood.")])
}

pub(crate) fn undo() -> Description {
    Description::post("/api/undo", "undo", HISTORY, "Takes changes back")
        .says(
            "Either one change of a row (`entity_type`, `sync_uuid`, `change`; the newest \
             without), at once, or all a `device` wrote `since` a time. The latter is only told \
             until `yes` is true.",
        )
        .with_token()
        .asks_engine()
        .takes::<Undo>(json!({ "device": DEVICE, "since": TIME, "yes": false }))
        .answers::<Undone>(
            "What was, or would be, taken back.",
            json!({ "undone": [], "done": false }),
        )
        .refuses(&[UNKNOWN, SEVERAL])
}

pub(crate) fn holds() -> Description {
    Description::get("/api/brakes", "brakes", BRAKES, "Deletions of others that wait for a yes")
        .with_token()
        .asks_engine()
        .answers::<Brakes>(
            "Each of them.",
            json!({ "brakes": [{ "id": "3", "device_id": DEVICE, "entity_type": "character",
                "rows": 300, "emptied": 0, "at": TIME }] }),
        )
}

pub(crate) fn approve() -> Description {
    Description::post("/api/brakes/{id}/approve", "approve_brake", BRAKES, "Lets them happen")
        .part("id", "Which, as `/api/brakes` names it.", "3")
        .with_token()
        .asks_engine()
        .answers::<Rows>("How many rows it was about.", json!({ "rows": 300 }))
        .refuses(&[UNKNOWN, SEVERAL, (422, "What is asked can't be done.")])
}

pub(crate) fn refuse() -> Description {
    Description::post(
        "/api/brakes/{id}/refuse",
        "refuse_brake",
        BRAKES,
        "Takes them back, also where they happened",
    )
    .part("id", "Which, as `/api/brakes` names it.", "3")
    .with_token()
    .asks_engine()
    .answers::<Rows>("How many rows it was about.", json!({ "rows": 300 }))
    .refuses(&[UNKNOWN, SEVERAL, (422, "What is asked can't be done.")])
}

pub(crate) fn live() -> Description {
    Description::get(
        "/api/live",
        "live",
        DEVICES,
        "How exchanges with paired devices stand, and who was found on the network",
    )
    .with_token()
    .answers::<Live>(
        "Exchanges by device id, and devices nearby.",
        json!({ "devices": {}, "nearby": [{ "device_id": DEVICE, "device_name": "phone",
            "addresses": ["192.168.1.30:8765"], "is_paired": false }] }),
    )
    .refuses(&[(500, "The list of devices can't be read.")])
}

pub(crate) fn log() -> Description {
    Description::get("/api/log", "log", NODE, "What happened, newest first")
        .says(
            "Rows devices changed, and who was let in, sent away or refused; 200 of each at most.",
        )
        .with_token()
        .asks_engine()
        .answers::<Log>("Its lines.", json!({ "log": [] }))
}
