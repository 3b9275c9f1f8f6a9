//! What is inside sealed bodies of the exchange and of pairing. The engine owns these shapes and
//! knows nothing of OpenAPI: they are described here once more, and a test holds each against what
//! the engine writes.

use std::collections::BTreeMap;

use utoipa::ToSchema;

use super::conflict_bodies::{ConflictField, columns};

/// An empty body.
#[derive(Debug, ToSchema)]
pub struct Nothing {}

/// Asks for what is new.
#[derive(Debug, ToSchema)]
pub struct PullRequest {
    /// Documented filter: only rows that changed here since (RFC 3339). Cursors are better.
    #[schema(format = DateTime)]
    pub since_timestamp: Option<String>,
    /// Where the last answer ended; none for everything.
    pub cursor: Option<String>,
    /// Only these tables.
    pub entity_types: Option<Vec<String>>,
    /// Most rows in one answer.
    pub limit: Option<u64>,
    /// Whether `data` is wanted; peers that read the automerge changes do without.
    pub data: Option<bool>,
    /// `gzip` when the answer may be compressed before it is sealed.
    pub compress: Option<String>,
    /// The epoch of the asking device's own log.
    pub epoch: Option<String>,
    /// Whether the asking device compares logs (`/api/sync/reconcile`) when its cursor does not
    /// fit, and need not be told everything anew.
    pub compares: Option<bool>,
    /// Whether the page before is not stored yet: the cursor then says nothing about what arrived.
    pub ahead: Option<bool>,
    /// The port of the asking device's own LAN listener, when it serves.
    pub port: Option<u16>,
    /// What the asking device is called.
    pub device_name: Option<String>,
    /// Which installation of its keys is asking: 16 hexadecimal digits.
    pub instance: Option<String>,
    /// Devices it no longer trusts.
    pub revoked: Option<Vec<Revocation>>,
}

/// One message of a comparison of two logs.
#[derive(Debug, ToSchema)]
pub struct ReconcileRequest {
    /// A message of negentropy, protocol 1, base64; the first one initiates.
    pub message: String,
    /// The epoch of the asking device's log.
    pub epoch: Option<String>,
}

/// The answer to one message of a comparison.
#[derive(Debug, ToSchema)]
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
    pub provisional: Option<bool>,
}

/// Says, at a first contact, what rows of the asked device are called on the asking one.
#[derive(Debug, ToSchema)]
pub struct NamesRequest {
    /// One for each row that takes another name.
    pub names: Vec<Rename>,
}

/// A row that takes another name.
#[derive(Debug, ToSchema)]
pub struct Rename {
    /// Its table.
    pub entity_type: String,
    /// Its `sync_uuid` now.
    pub from: String,
    /// Its `sync_uuid` from now on; a random one when it only looks like another row.
    pub to: Option<String>,
}

/// How many rows took another name.
#[derive(Debug, ToSchema)]
pub struct NamesResponse {
    /// None when the device has told others of its rows meanwhile.
    pub renamed: u64,
}

/// Asks for changes by name.
#[derive(Debug, ToSchema)]
pub struct FetchRequest {
    /// Hashes of changes, base64url; all there are when left out.
    pub changes: Option<Vec<String>>,
    /// Where the last page ended, 0 at first.
    pub after: Option<i64>,
    /// Asks in which order to fetch the named changes, and for nothing else.
    pub order: Option<bool>,
    /// Whether what comes is only looked at: the asked device's rows may still take other names
    /// afterwards.
    pub looking: Option<bool>,
    /// `gzip` when the answer may be compressed before it is sealed.
    pub compress: Option<String>,
}

/// A page of changes asked for by name.
#[derive(Debug, ToSchema)]
pub struct FetchResponse {
    /// One for each row.
    pub changes: Vec<RowChange>,
    /// Where this page ends.
    pub after: i64,
    /// Whether there is more.
    pub has_more: bool,
    /// The order asked for: numbers in the list of names, from 0; names that are not known are left
    /// out.
    pub order: Option<Vec<u64>>,
}

/// What is new.
#[derive(Debug, ToSchema)]
pub struct PullResponse {
    /// One for each row.
    pub changes: Vec<RowChange>,
    /// RFC 3339, UTC.
    #[schema(format = DateTime)]
    pub sync_timestamp: String,
    /// Where this answer ends; opaque.
    pub cursor: String,
    /// Whether there is more.
    pub has_more: bool,
    /// Changes that follow this page, for whoever shows progress.
    pub remaining: Option<i64>,
    /// The epoch of the answering device's log.
    pub epoch: Option<String>,
    /// Set when the cursor that was sent does not fit this log: a restored, cloned or replaced
    /// database. Everything is told anew, in both directions.
    pub reset: Option<bool>,
    /// What the answering device knows of the asking device's log, as a cursor of that log: its
    /// owner checks whether it still holds what it told.
    pub known: Option<String>,
    /// Replaces the token the asking device sends, from the next request on.
    pub auth_token: Option<String>,
}

/// What changed about one row.
#[derive(Debug, ToSchema)]
pub struct RowChange {
    /// The table.
    pub entity_type: String,
    /// The row's id on the sending device; means nothing elsewhere.
    pub entity_id: Option<i64>,
    /// The row; clients without automerge may name it in `data` instead.
    pub sync_uuid: Option<String>,
    /// create, update, delete.
    pub operation: Option<String>,
    /// The row's columns; references by uuid.
    #[schema(schema_with = columns, required = false)]
    pub data: Option<BTreeMap<String, serde_json::Value>>,
    /// Set instead of `data` when the row alone is larger than a page.
    pub too_large: Option<bool>,
    /// Its version.
    pub version: Option<i64>,
    /// RFC 3339, UTC.
    #[schema(format = DateTime)]
    pub updated_at: Option<String>,
    /// `created_at` and `updated_at` as they stand in the sender's table, told when no document
    /// knows them.
    pub stored_times: Option<StoredTimes>,
    /// The automerge changes, base64, in an order in which they can be applied.
    pub automerge: Option<Vec<String>>,
}

/// Times as a table holds them, in whatever dialect.
#[derive(Debug, ToSchema)]
pub struct StoredTimes {
    /// `created_at`.
    pub created_at: Option<String>,
    /// `updated_at`.
    pub updated_at: Option<String>,
}

/// Tells what is new.
#[derive(Debug, ToSchema)]
pub struct PushRequest {
    /// One for each row.
    pub changes: Vec<RowChange>,
    /// The epoch of the pushing device's log.
    pub epoch: Option<String>,
    /// Whether the answer shall tell how the rows stand and what conflicts in them; replicas see
    /// that for themselves.
    pub states: Option<bool>,
    /// The part of the pushing device's log this is, as cursors: whoever has pulled up to the first
    /// needs not pull up to the second any more.
    pub span: Option<Vec<String>>,
}

/// What became of a push.
#[derive(Debug, ToSchema)]
pub struct PushResponse {
    /// Rows taken in: those that changed something here, and those that said nothing new.
    pub accepted: u64,
    /// How these rows stand here now.
    pub accepted_states: Vec<AcceptedState>,
    /// Conflicts in these rows.
    pub conflicts: Vec<PushConflict>,
    /// How many refusals there were: of whole rows, and of single changes.
    pub rejected: u64,
    /// A sentence.
    pub message: String,
    /// The epoch of the answering device's log.
    pub epoch: Option<String>,
}

/// How a pushed row stands.
#[derive(Debug, ToSchema)]
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
    #[schema(format = DateTime)]
    pub updated_at: Option<String>,
}

/// A conflict in a pushed row, in the documented shape; "mobile" is the device that pushes,
/// "desktop" this one.
#[derive(Debug, ToSchema)]
pub struct PushConflict {
    /// The same on all devices.
    pub id: Option<String>,
    /// field, delete_edit, orphan, unique, ring, schema.
    pub kind: Option<String>,
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
    #[schema(format = DateTime)]
    pub mobile_updated_at: Option<String>,
    /// RFC 3339, UTC.
    #[schema(format = DateTime)]
    pub desktop_updated_at: Option<String>,
    /// The row with the pushing device's values.
    #[schema(schema_with = columns)]
    pub mobile_data: BTreeMap<String, serde_json::Value>,
    /// The row with the other values.
    #[schema(schema_with = columns)]
    pub desktop_data: BTreeMap<String, serde_json::Value>,
    /// What became of it: `manual` (it waits for a decision), or the rule that decided it at once:
    /// `desktop_wins`, `mobile_wins` or `timestamp`.
    pub resolution: String,
    /// What conflicts, field by field: base, values with device and time, and what is shown.
    pub fields: Vec<ConflictField>,
}

/// Asks for digests: of all tables; of the rows of one; of the columns of some rows.
#[derive(Debug, ToSchema)]
pub struct DigestRequest {
    /// Only this table; the digests of all tables when left out.
    pub entity_type: Option<String>,
    /// Only the columns of these rows of it, by `sync_uuid`.
    pub rows: Option<Vec<String>>,
}

/// One table's digest.
#[derive(Debug, ToSchema)]
pub struct TableDigest {
    /// Rows that stand in it.
    pub rows: u64,
    /// Over all rows in the order of their `sync_uuid`s: the first 8 bytes of SHA-256, hexadecimal.
    pub digest: String,
}

/// Digests, as asked for.
#[derive(Debug, ToSchema)]
pub struct Digests {
    /// By table.
    pub tables: Option<BTreeMap<String, TableDigest>>,
    /// By row of the table asked for.
    pub rows: Option<BTreeMap<String, String>>,
    /// By row and column of the rows asked for.
    pub columns: Option<BTreeMap<String, BTreeMap<String, String>>>,
}

/// One device tells another whom it no longer trusts.
#[derive(Debug, ToSchema)]
pub struct Revocation {
    /// PeerId.
    pub device_id: String,
    /// Unix time in ms, by the clock of the device that tells.
    pub revoked_at: i64,
}

/// How the node stands, and a prekey to seal with.
#[derive(Debug, ToSchema)]
pub struct Status {
    /// The node's id.
    pub device_id: String,
    /// What it is called.
    pub device_name: String,
    /// When something was exchanged with the asking device last; null: never.
    #[schema(format = DateTime)]
    pub last_sync_at: Option<String>,
    /// Changes the asking device was not told of yet.
    pub pending_changes_count: i64,
    /// The node's time.
    #[schema(format = DateTime)]
    pub server_timestamp: String,
    /// The epoch of its log, 32 hexadecimal digits.
    pub epoch: String,
    /// Rows in the app's tables.
    pub entities: i64,
    /// Open conflicts.
    pub conflicts: i64,
    /// Names the prekey: decimal, may exceed 2^53.
    pub kid: String,
    /// An X25519 key, base64url.
    pub prekey: String,
    /// For how long it opens.
    pub prekey_ttl_seconds: u64,
    /// Which installation of its keys answers: 16 hexadecimal digits.
    pub instance: String,
    /// Devices it no longer trusts, at most 100.
    pub revoked: Vec<Revocation>,
    /// Whether the asking device's keys were seen in two places.
    pub keys_in_use_twice: bool,
    /// Replaces the token the asking device sends; never under kid 0.
    pub auth_token: Option<String>,
}

/// One event of a stream. Ignore those you do not know.
#[derive(Debug, ToSchema)]
pub struct PeerEvent {
    /// `changes`: pull. `alive`: nothing is new.
    pub event: String,
}

/// Asks to be paired.
#[derive(Debug, ToSchema)]
pub struct Registration {
    /// PeerId of `identity_key`.
    pub device_id: String,
    /// For people; cut to 48 bytes, control characters removed.
    pub device_name: String,
    /// Ed25519 public key, base64url.
    pub identity_key: String,
    /// X25519 public key, base64url.
    pub static_key: String,
    /// For people.
    pub platform: Option<String>,
    /// 32 bytes, base64url, the server shall send when it calls this device.
    pub auth_token: Option<String>,
    /// The port of this device's own LAN listener.
    pub port: Option<u16>,
    /// The same in all requests of one attempt to join.
    pub attempt: Option<String>,
}

/// The other device is paired. With 202 there is only `message`.
#[derive(Debug, ToSchema)]
pub struct Registered {
    /// PeerId of the identity key in the QR code.
    pub device_id: Option<String>,
    /// What the server is called.
    pub device_name: Option<String>,
    /// The token to send from now on, base64url.
    pub auth_token: Option<String>,
    /// A sentence.
    pub message: String,
    /// The server's X25519 key, base64url.
    pub static_key: Option<String>,
    /// How often the two were paired.
    pub epoch: Option<u32>,
}
