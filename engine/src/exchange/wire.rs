//! The JSON of the documented interface: what goes into sealed bodies. Field names are a contract.

use std::collections::HashMap;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::store::trust::Revocation;

/// Asks for what is new.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PullRequest {
    /// Documented filter: only rows that changed here since (RFC 3339). Cursors are better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_timestamp: Option<String>,
    /// Where the last answer ended; none for everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Only these tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity_types: Option<Vec<String>>,
    /// Most rows in one answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Whether `data` is wanted; peers that read the automerge changes do without.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub data: bool,
    /// `gzip` when the answer may be compressed before it is sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compress: Option<String>,
    /// The epoch of the asking device's own log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
    /// Whether the asking device compares logs (`/api/sync/reconcile`) when its cursor does not
    /// fit, and need not be told everything anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub compares: bool,
    /// Whether the page before is not stored yet: the cursor then says nothing about what arrived.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ahead: bool,
    /// The port of the asking device's own LAN listener, when it serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// What the asking device is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_name: Option<String>,
    /// Which installation of its keys is asking: 16 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Devices it no longer trusts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revoked: Vec<Revocation>,
}

/// Columns hold scalars, and bytes or infinities as `{"$…": "text"}`. Anything deeper is dropped
/// while it is read, so that a list of a million nothings takes no memory; what stands in its place
/// is refused by name later.
fn flat<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<serde_json::Map<String, serde_json::Value>>, D::Error> {
    let columns: Option<HashMap<String, Flat>> = Option::deserialize(deserializer)?;
    Ok(columns.map(|columns| columns.into_iter().map(|(name, value)| (name, value.0)).collect()))
}

struct Flat(serde_json::Value);

impl<'de> Deserialize<'de> for Flat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FlatVisitor).map(Self)
    }
}

struct FlatVisitor;

impl<'de> Visitor<'de> for FlatVisitor {
    type Value = serde_json::Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a column's value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(serde_json::Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Self::Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(serde_json::Value::Array(Vec::new()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut first = serde_json::Map::new();
        if let Some((name, value)) = fields.next_entry::<String, Flat>()? {
            first.insert(name, value.0);
        }
        let mut others = 0_usize;
        while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            others += 1;
        }
        // One mark says what is meant; more of them mean nothing.
        Ok(if others == 0 { first.into() } else { serde_json::Value::Array(Vec::new()) })
    }
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_yes(value: &bool) -> bool {
    *value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(value: &i64) -> bool {
    *value == 0
}

/// One message of a comparison of two logs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ReconcileRequest {
    /// A message of negentropy, protocol 1, base64; the first one initiates.
    pub message: String,
    /// The epoch of the asking device's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
}

/// The answer to one message of a comparison.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ReconcileResponse {
    /// A message of negentropy, base64.
    pub message: String,
    /// The end of the log that was compared: once the difference is exchanged, pulls go on from
    /// here.
    pub cursor: String,
    /// The epoch of the answering device's log.
    pub epoch: String,
    /// Whether the answering device has never told anyone of its rows, so that they may still take
    /// other names.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub provisional: bool,
}

/// Says, at a first contact, what rows of the asked device are called on the asking one.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct NamesRequest {
    /// One for each row that takes another name.
    pub names: Vec<Rename>,
}

/// A row that takes another name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rename {
    /// Its table.
    pub entity_type: String,
    /// Its `sync_uuid` now.
    pub from: String,
    /// Its `sync_uuid` from now on; a random one when it only looks like another row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// How many rows took another name.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct NamesResponse {
    /// None when the device has told others of its rows meanwhile.
    pub renamed: usize,
}

/// Asks for changes by name.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct FetchRequest {
    /// Hashes of changes, base64url; all there are when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<Vec<String>>,
    /// Where the last page ended, 0 at first.
    #[serde(default)]
    pub after: i64,
    /// Asks in which order to fetch the named changes, and for nothing else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub order: bool,
    /// Whether what comes is only looked at: the asked device's rows may still take other names
    /// afterwards.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub looking: bool,
    /// `gzip` when the answer may be compressed before it is sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compress: Option<String>,
}

/// A page of changes asked for by name.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct FetchResponse {
    /// One for each row.
    pub changes: Vec<RowChange>,
    /// Where this page ends.
    pub after: i64,
    /// Whether there is more.
    pub has_more: bool,
    /// The order asked for: numbers in the list of names, from 0; names that are not known are left
    /// out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub order: Vec<usize>,
}

/// What is new.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PullResponse {
    /// One for each row.
    pub changes: Vec<RowChange>,
    /// RFC 3339, UTC.
    pub sync_timestamp: String,
    /// Where this answer ends; opaque.
    pub cursor: String,
    /// Whether there is more.
    pub has_more: bool,
    /// Changes that follow this page, for whoever shows progress.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub remaining: i64,
    /// The epoch of the answering device's log.
    #[serde(default)]
    pub epoch: String,
    /// Set when the cursor that was sent does not fit this log: a restored, cloned or replaced
    /// database. Everything is told anew, in both directions.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reset: bool,
    /// What the answering device knows of the asking device's log, as a cursor of that log: its
    /// owner checks whether it still holds what it told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<String>,
    /// Replaces the token the asking device sends, from the next request on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_token: Option<String>,
}

impl PullResponse {
    /// From where to ask for the page after this one before this one is stored; `None` when there
    /// is none, or it makes no sense yet.
    #[must_use]
    pub fn ahead(&self) -> Option<String> {
        (self.has_more && !self.reset).then(|| self.cursor.clone())
    }

    /// Whether the page after this one can be taken in together with it.
    #[must_use]
    pub fn continues_with(&self, next: &Self) -> bool {
        !self.reset && !next.reset && self.epoch == next.epoch
    }
}

/// What changed about one row.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RowChange {
    /// The table.
    pub entity_type: String,
    /// The row's id on the sending device; means nothing elsewhere.
    #[serde(default)]
    pub entity_id: Option<i64>,
    /// The row; clients without automerge may name it in `data` instead.
    #[serde(default)]
    pub sync_uuid: String,
    /// create, update, delete.
    #[serde(default)]
    pub operation: String,
    /// The row's columns; references by uuid.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        alias = "entity_data",
        deserialize_with = "flat"
    )]
    pub data: Option<serde_json::Map<String, serde_json::Value>>,
    /// Set instead of `data` when the row alone is larger than a page.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub too_large: bool,
    /// Its version.
    #[serde(default)]
    pub version: i64,
    /// RFC 3339, UTC.
    #[serde(default)]
    pub updated_at: Option<String>,
    /// `created_at` and `updated_at` as they stand in the sender's table, told when no document
    /// knows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_times: Option<StoredTimes>,
    /// The automerge changes, base64, in an order in which they can be applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub automerge: Vec<String>,
}

/// Times as a table holds them, in whatever dialect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredTimes {
    /// `created_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// `updated_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<String>,
}

/// Tells what is new.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PushRequest {
    /// One for each row.
    pub changes: Vec<RowChange>,
    /// The epoch of the pushing device's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
    /// Whether the answer shall tell how the rows stand and what conflicts in them; replicas see
    /// that for themselves.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub states: bool,
    /// The part of the pushing device's log this is, as cursors: whoever has pulled up to the first
    /// needs not pull up to the second any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span: Option<(String, String)>,
}

/// What became of a push.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PushResponse {
    /// Rows taken in: those that changed something here, and those that said nothing new.
    pub accepted: usize,
    /// How these rows stand here now.
    pub accepted_states: Vec<AcceptedState>,
    /// Conflicts in these rows.
    pub conflicts: Vec<PushConflict>,
    /// How many refusals there were: of whole rows, and of single changes.
    pub rejected: usize,
    /// A sentence.
    pub message: String,
    /// The epoch of the answering device's log.
    #[serde(default)]
    pub epoch: String,
}

/// How a pushed row stands.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct AcceptedState {
    /// The table.
    pub entity_type: String,
    /// The row.
    pub sync_uuid: String,
    /// Its id on the answering device.
    pub entity_id: Option<i64>,
    /// Its version now.
    pub version: i64,
    /// RFC 3339, UTC.
    pub updated_at: Option<String>,
}

/// A conflict in a pushed row, in the documented shape; "mobile" is the device that pushes,
/// "desktop" this one.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PushConflict {
    /// The same on all devices.
    #[serde(default)]
    pub id: String,
    /// field, delete_edit, orphan, unique, ring, schema.
    #[serde(default)]
    pub kind: String,
    /// The table.
    pub entity_type: String,
    /// The row's id on the answering device.
    pub entity_id: Option<i64>,
    /// The row.
    pub sync_uuid: String,
    /// The version the push named.
    pub mobile_version: i64,
    /// The version here.
    pub desktop_version: i64,
    /// RFC 3339, UTC.
    pub mobile_updated_at: Option<String>,
    /// RFC 3339, UTC.
    pub desktop_updated_at: Option<String>,
    /// The row with the pushing device's values.
    pub mobile_data: serde_json::Map<String, serde_json::Value>,
    /// The row with the other values.
    pub desktop_data: serde_json::Map<String, serde_json::Value>,
    /// What became of it: `manual` (it waits for a decision), or the rule that decided it at once:
    /// `desktop_wins`, `mobile_wins` or `timestamp`.
    pub resolution: String,
    /// What conflicts, field by field: base, values with device and time, and what is shown.
    pub fields: serde_json::Value,
}
