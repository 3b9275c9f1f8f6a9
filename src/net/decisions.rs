//! Deciding over HTTP: conflicts, taking changes back, holds. The same bodies on the loopback
//! listener, where the person at this machine decides, and sealed on the LAN, where a paired device
//! does.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};
use storysync_crdt::{DeviceKey, FirstContactIs, Since, Stamp, Whose};

use super::node_state::{NodeState, now};
use super::reply::Refusal;
use storysync_engine::store::conflicts::EndedConflict;
use storysync_engine::translate::from_json;
use storysync_engine::trust::identity::DeviceId;
use storysync_engine::trust::to_base64url;
use storysync_engine::{Choice, ConflictReport, DeviceUndo, EngineError, HoldDecision, Take};

/// Conflicts that are over, shown at once.
pub const ENDED_SHOWN: i64 = 100;

/// Reads a JSON body.
pub(super) fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body)
        .map_err(|error| unprocessable(format!("the body is not what is documented: {error}")))
}

/// Which conflict, and how it is decided.
#[derive(Debug, Default, Deserialize)]
pub struct ResolveBody {
    /// The conflict; in the path where there is one.
    #[serde(default)]
    pub id: Option<String>,
    /// mine, theirs, a device's id, keep, delete, rename.
    #[serde(default)]
    pub take: Option<String>,
    /// Values by field; they win over the side.
    #[serde(default)]
    pub fields: BTreeMap<String, Json>,
    /// Every open conflict: mine or theirs.
    #[serde(default)]
    pub all: Option<String>,
}

fn unprocessable(detail: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
}

/// Decides a conflict, or all. `by` is the device that decides, when it is not this one.
pub(crate) async fn resolve(
    node: &NodeState,
    body: ResolveBody,
    by: Option<DeviceKey>,
) -> Result<Json, Refusal> {
    if let Some(all) = &body.all {
        if body.id.is_some() || body.take.is_some() {
            return Err(unprocessable("either all, or id and what to take; not both"));
        }
        let take = Take::parse(all)
            .filter(|take| matches!(take, Take::Mine | Take::Theirs))
            .ok_or_else(|| unprocessable("all is mine or theirs"))?;
        let (resolved, left) =
            node.engine.call(move |engine| engine.resolve_all(&take, by, now())).await??;
        node.note_decision(by, &format!("{resolved} conflicts were decided: {all}"));
        return Ok(json!({ "resolved": resolved, "left": left }));
    }
    let (id, choice) = choice_of(body)?;
    let words = format!("conflict {id} was decided");
    node.engine.call(move |engine| engine.resolve(&id, &choice, by, now())).await??;
    node.note_decision(by, &words);
    Ok(json!({ "resolved": 1 }))
}

/// Which conflict a body names, and how it is decided.
fn choice_of(body: ResolveBody) -> Result<(String, Choice), Refusal> {
    let id = body
        .id
        .ok_or_else(|| unprocessable("name the conflict in id, or decide every one with all"))?;
    if body.take.is_none() && body.fields.is_empty() {
        return Err(unprocessable("say what to take in take, or give values in fields"));
    }
    let take = match body.take.as_deref() {
        None => None,
        Some(words) => Some(Take::parse(words).ok_or_else(|| {
            unprocessable(format!(
                "{words} is no side: take mine, theirs, keep, delete, rename or a device's id"
            ))
        })?),
    };
    let mut fields = BTreeMap::new();
    for (name, value) in body.fields {
        let value = from_json(&value).ok_or_else(|| {
            unprocessable(format!("the value of {name} is neither text, number, boolean nor null"))
        })?;
        fields.insert(name, value);
    }
    Ok((id, Choice { take, fields }))
}

/// What somebody saw of a conflict, as a hash: another one once a value, a field or a row of it is
/// another.
pub(crate) fn seen_of(conflict: &ConflictReport) -> String {
    let told = serde_json::to_vec(&(&conflict.kind, &conflict.fields, &conflict.rows));
    to_base64url(Sha256::digest(told.unwrap_or_default()).as_slice())
}

/// Decides a conflict for the person here, as long as it is what they saw of it. Returns whether it
/// was.
pub(crate) async fn resolve_as_seen(
    node: &NodeState,
    body: ResolveBody,
    seen: String,
) -> Result<bool, Refusal> {
    let (id, choice) = choice_of(body)?;
    let words = format!("conflict {id} was decided");
    let decided = node
        .engine
        .call(move |engine| {
            let conflict = engine.conflict(&id, now())?;
            if conflict.as_ref().map(seen_of).as_ref() != Some(&seen) {
                return Ok(false);
            }
            engine.resolve(&id, &choice, None, now())?;
            Ok(true)
        })
        .await??;
    if decided {
        node.note_decision(None, &words);
    }
    Ok(decided)
}

/// The open conflicts.
pub(crate) async fn conflicts(node: &NodeState) -> Result<Json, Refusal> {
    let (open, notices) = node
        .engine
        .call(|engine| Ok::<_, EngineError>((engine.conflicts(now())?, engine.notices(now())?)))
        .await??;
    Ok(json!({ "conflicts": open, "notices": notices }))
}

/// The conflicts that ended last.
pub(crate) async fn ended(node: &NodeState) -> Result<Json, Refusal> {
    let ended = node.engine.call(|engine| engine.ended_conflicts(ENDED_SHOWN)).await??;
    Ok(json!({ "ended": ended_json(&ended) }))
}

/// Conflicts that are over, as every interface shows them.
#[must_use]
pub fn ended_json(ended: &[EndedConflict]) -> Vec<Json> {
    let time = |ms: i64| Stamp::from_unix_ms(ms).to_rfc3339();
    ended
        .iter()
        .map(|conflict| {
            json!({
                "id": conflict.conflict_id,
                "kind": conflict.kind,
                "entity_type": conflict.table,
                "sync_uuid": conflict.uuid,
                "row_name": conflict.row_name,
                "detected_at": time(conflict.detected_at),
                "ended_at": time(conflict.ended_at),
                "ending": conflict.ending,
                "ended_by": conflict.ended_by,
            })
        })
        .collect()
}

/// Who wrote what in a row.
pub(crate) async fn history(
    node: &NodeState,
    table: String,
    uuid: String,
) -> Result<Json, Refusal> {
    let (uuid, name, entries) = node
        .engine
        .call(move |engine| {
            let uuid = engine.row_by_words(&table, &uuid, now())?;
            Ok::<_, EngineError>((
                uuid.clone(),
                engine.row_name(&table, &uuid)?,
                engine.history(&table, &uuid, now())?,
            ))
        })
        .await??;
    Ok(json!({ "sync_uuid": uuid, "row_name": name, "history": entries }))
}

/// What is to be taken back: one change of a row, or what a device did since a time.
#[derive(Debug, Default, Deserialize)]
pub struct UndoBody {
    /// The table of a row.
    #[serde(default)]
    pub entity_type: Option<String>,
    /// The row.
    #[serde(default)]
    pub sync_uuid: Option<String>,
    /// Its change; the newest without.
    #[serde(default)]
    pub change: Option<String>,
    /// A device's id.
    #[serde(default)]
    pub device: Option<String>,
    /// Since when, RFC 3339.
    #[serde(default)]
    pub since: Option<String>,
    /// Only what names the device as its author, not what it brought of others.
    #[serde(default)]
    pub only_written: bool,
    /// Also what came when the two first met, whatever time it claims.
    #[serde(default)]
    pub first_contact: bool,
    /// Without a yes it is only told what would be done.
    #[serde(default)]
    pub yes: bool,
}

/// Takes changes back.
pub(crate) async fn undo(node: &NodeState, body: UndoBody) -> Result<Json, Refusal> {
    let names_row = body.entity_type.is_some() || body.sync_uuid.is_some() || body.change.is_some();
    if names_row && (body.device.is_some() || body.since.is_some()) {
        return Err(unprocessable("either a row, or a device and since; not both"));
    }
    if let (Some(table), Some(uuid)) = (body.entity_type, body.sync_uuid) {
        let change = body.change;
        let done = node
            .engine
            .call(move |engine| {
                let uuid = engine.row_by_words(&table, &uuid, now())?;
                engine.undo_change(&table, &uuid, change.as_deref(), now())
            })
            .await??;
        node.note_decision(
            None,
            &format!("a change of {}/{} was taken back", done.entity_type, done.sync_uuid),
        );
        return Ok(json!({ "undone": [done], "done": true }));
    }
    let device = body.device.as_deref().and_then(DeviceId::parse).and_then(|id| id.key());
    let since = body.since.as_deref().and_then(Stamp::parse);
    let (Some(device), Some(since)) = (device, since) else {
        return Err(unprocessable(
            "name a row (entity_type and sync_uuid), or a device and since, a time like \
                2026-01-31T12:00:00Z",
        ));
    };
    let yes = body.yes;
    let mut which = Since::of(device, since);
    if body.only_written {
        which.whose = Whose::Written;
    }
    if body.first_contact {
        which.first_contact = FirstContactIs::AsReceived;
    }
    let DeviceUndo { undone, first_contact_left } =
        node.engine
            .call(move |engine| {
                if yes {
                    engine.undo_device(&which, now())
                } else {
                    engine.plan_undo(&which, now())
                }
            })
            .await??;
    if yes {
        node.note_decision(
            None,
            &format!(
                "what {} wrote or brought was taken back, in {} rows",
                DeviceId::of_key(&device),
                undone.len()
            ),
        );
    }
    Ok(json!({ "undone": undone, "first_contact_left": first_contact_left, "done": yes }))
}

/// Deletions that wait for a yes.
pub(crate) async fn holds(node: &NodeState) -> Result<Json, Refusal> {
    let holds = node.engine.call(|engine| engine.holds(now())).await??;
    Ok(json!({ "brakes": holds }))
}

/// Lets deletions through, or takes them back.
pub(crate) async fn decide_hold(
    node: &NodeState,
    id: String,
    decision: HoldDecision,
) -> Result<Json, Refusal> {
    let words = if decision == HoldDecision::Approve { "approved" } else { "refused" };
    let words = format!("what the deletion guard held ({id}) was {words}");
    let rows = node.engine.call(move |engine| engine.decide_hold(&id, decision, now())).await??;
    node.note_decision(None, &words);
    Ok(json!({ "rows": rows }))
}
