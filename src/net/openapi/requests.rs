//! Bodies of which each of several forms says something else. What is read is
//! [`crate::net::decisions`]'s; here is what it understands, so exactly that whatever a schema
//! allows is understood.

use std::collections::BTreeMap;

use utoipa::ToSchema;
use utoipa::openapi::schema::{AnyOfBuilder, KnownFormat, SchemaFormat, Type};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};

use super::conflict_bodies::columns;

/// A PeerId of an Ed25519 key. (All base58 texts of this form decode to one; a few PeerIds are not
/// of this form, and are understood as well.)
const DEVICE_PATTERN: &str = "^12D3KooW[A-HJ-NP-S][1-9A-HJ-NP-Za-km-z]{43}$";

fn device() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).pattern(Some(DEVICE_PATTERN))
}

fn device_id() -> RefOr<Schema> {
    device().description(Some("A device's id.")).into()
}

/// Whose values are taken.
fn side() -> RefOr<Schema> {
    let words = ["mine", "theirs", "keep", "delete", "rename"];
    AnyOfBuilder::new()
        .item(ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)))
        .item(device())
        .description(Some(
            "`mine` (what the device that asks wrote), `theirs`, a device's id, `keep` or \
             `delete` (of a row one deleted and another edited), `rename` (of two rows with one \
             name).",
        ))
        .into()
}

fn both() -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(["mine", "theirs"]))
        .description(Some("The side taken in every open conflict."))
        .into()
}

fn nothing() -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::Null).into()
}

fn some_columns() -> RefOr<Schema> {
    match columns() {
        RefOr::T(Schema::Object(mut object)) => {
            object.min_properties = Some(1);
            object.description = Some("Values by field.".to_owned());
            RefOr::T(Schema::Object(object))
        }
        other => other,
    }
}

fn time() -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .description(Some("RFC 3339."))
        .into()
}

/// How conflicts are decided.
#[derive(Debug, ToSchema)]
#[serde(untagged)]
pub enum Decision {
    /// A side of one conflict.
    Side(DecideBySide),
    /// Values for fields of one conflict.
    Values(DecideByValues),
    /// A side in all of them.
    All(DecideAll),
}

/// Takes one side; values for single fields win over it.
#[derive(Debug, ToSchema)]
pub struct DecideBySide {
    /// The conflict, or a notice.
    pub id: String,
    /// The side.
    #[schema(schema_with = side)]
    pub take: String,
    /// Values by field.
    #[schema(schema_with = columns, required = false)]
    pub fields: BTreeMap<String, serde_json::Value>,
    /// Left out.
    #[schema(schema_with = nothing, required = false)]
    pub all: (),
}

/// Gives values; fields that are not named keep what is shown.
#[derive(Debug, ToSchema)]
pub struct DecideByValues {
    /// The conflict.
    pub id: String,
    /// Left out.
    #[schema(schema_with = nothing, required = false)]
    pub take: (),
    /// Values by field.
    #[schema(schema_with = some_columns)]
    pub fields: BTreeMap<String, serde_json::Value>,
    /// Left out.
    #[schema(schema_with = nothing, required = false)]
    pub all: (),
}

/// Decides every open conflict.
#[derive(Debug, ToSchema)]
pub struct DecideAll {
    /// The side.
    #[schema(schema_with = both)]
    pub all: String,
    /// Left out.
    #[schema(schema_with = nothing, required = false)]
    pub id: (),
    /// Left out.
    #[schema(schema_with = nothing, required = false)]
    pub take: (),
}

/// How the conflict in the path is decided.
#[derive(Debug, ToSchema)]
#[serde(untagged)]
pub enum DecisionOfOne {
    /// A side.
    Side(TakeSide),
    /// Values for fields.
    Values(GiveValues),
}

/// Takes one side; values for single fields win over it.
#[derive(Debug, ToSchema)]
pub struct TakeSide {
    /// The side.
    #[schema(schema_with = side)]
    pub take: String,
    /// Values by field.
    #[schema(schema_with = columns, required = false)]
    pub fields: BTreeMap<String, serde_json::Value>,
    /// Left out.
    #[schema(schema_with = nothing, required = false)]
    pub all: (),
    /// Left out: the path names it.
    #[schema(schema_with = nothing, required = false)]
    pub id: (),
}

/// Gives values; fields that are not named keep what is shown.
#[derive(Debug, ToSchema)]
pub struct GiveValues {
    /// Left out.
    #[schema(schema_with = nothing, required = false)]
    pub take: (),
    /// Values by field.
    #[schema(schema_with = some_columns)]
    pub fields: BTreeMap<String, serde_json::Value>,
    /// Left out.
    #[schema(schema_with = nothing, required = false)]
    pub all: (),
    /// Left out: the path names it.
    #[schema(schema_with = nothing, required = false)]
    pub id: (),
}

/// What is to be taken back.
#[derive(Debug, ToSchema)]
#[serde(untagged)]
pub enum Undo {
    /// One change of a row.
    Change(UndoChange),
    /// What a device did since a time.
    Device(UndoDevice),
}

/// Takes one change of a row back, at once.
#[derive(Debug, ToSchema)]
pub struct UndoChange {
    /// The table.
    pub entity_type: String,
    /// The row, or what people call it.
    pub sync_uuid: String,
    /// The change, as its history names it; the newest without.
    pub change: Option<String>,
    /// Left out.
    #[schema(schema_with = nothing, required = false)]
    pub device: (),
    /// Left out.
    #[schema(schema_with = nothing, required = false)]
    pub since: (),
    /// Says nothing here.
    #[schema(required = false)]
    pub yes: bool,
}

/// Takes back all that a device did since a time.
#[derive(Debug, ToSchema)]
pub struct UndoDevice {
    /// The device.
    #[schema(schema_with = device_id)]
    pub device: String,
    /// Since when.
    #[schema(schema_with = time)]
    pub since: String,
    /// Only what names the device as its author, not what it brought of others.
    #[schema(required = false)]
    pub only_written: bool,
    /// Also what came when the two first met, whatever time it claims.
    #[schema(required = false)]
    pub first_contact: bool,
    /// Without a yes it is only told what would be done.
    #[schema(required = false)]
    pub yes: bool,
    /// Left out.
    #[schema(schema_with = nothing, required = false)]
    pub entity_type: (),
    /// Left out.
    #[schema(schema_with = nothing, required = false)]
    pub sync_uuid: (),
    /// Left out.
    #[schema(schema_with = nothing, required = false)]
    pub change: (),
}
