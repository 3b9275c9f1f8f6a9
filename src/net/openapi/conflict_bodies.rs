//! What is answered about conflicts, history and deletions that wait.

use utoipa::ToSchema;
use utoipa::openapi::schema::{AdditionalProperties, AnyOfBuilder, Type};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};

/// RFC 4648, section 4, with padding and nothing in the bits it leaves over.
const BASE64: &str =
    "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$";
const INFINITIES: [&str; 2] = ["inf", "-inf"];

/// What a column holds: text, number, boolean, nothing; bytes and infinities as an object of one
/// field whose name begins with `$`.
pub(crate) fn column_value() -> RefOr<Schema> {
    let plain = [Type::String, Type::Number, Type::Boolean, Type::Null];
    let marks = [
        ("$base64", ObjectBuilder::new().schema_type(Type::String).pattern(Some(BASE64))),
        ("$real", ObjectBuilder::new().schema_type(Type::String).enum_values(Some(INFINITIES))),
    ];
    let marked = marks.into_iter().fold(AnyOfBuilder::new(), |kinds, (name, mark)| {
        kinds.item(
            ObjectBuilder::new()
                .schema_type(Type::Object)
                .property(name, mark)
                .required(name)
                .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false))),
        )
    });
    plain
        .into_iter()
        .fold(marked, |kinds, kind| kinds.item(ObjectBuilder::new().schema_type(kind)))
        .description(Some(
            "Text, number, boolean or null; `{\"$base64\": \"…\"}` for bytes, `{\"$real\": \
             \"inf\"}` for infinities.",
        ))
        .into()
}

/// Columns of a row by name.
pub(crate) fn columns() -> RefOr<Schema> {
    let any = AdditionalProperties::from(Schema::from(column_value()));
    ObjectBuilder::new().schema_type(Type::Object).additional_properties(Some(any)).into()
}

/// Open conflicts.
#[derive(Debug, ToSchema)]
pub struct Conflicts {
    /// Each of them, in the same order on every device.
    pub conflicts: Vec<Conflict>,
    /// Texts from elsewhere that gave way to what the app wrote here.
    pub notices: Vec<Notice>,
}

/// One conflict.
#[derive(Debug, ToSchema)]
pub struct Conflict {
    /// The same on all devices.
    pub id: String,
    /// What kind of conflict it is.
    #[schema(schema_with = conflict_kind)]
    pub kind: String,
    /// The table.
    pub entity_type: String,
    /// The row.
    pub sync_uuid: String,
    /// What people call the row; null when nothing in it names it.
    pub row_name: Option<String>,
    /// Why this device's table refuses a value, in SQLite's words.
    pub reason: Option<String>,
    /// What conflicts.
    pub fields: Vec<ConflictField>,
    /// The other rows it is about, at most 100.
    pub rows: Option<Vec<RowName>>,
}

fn conflict_kind() -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(["field", "delete_edit", "orphan", "unique", "ring", "schema"]))
        .into()
}

/// A row, as interfaces name it.
#[derive(Debug, ToSchema)]
pub struct RowName {
    /// The table.
    pub entity_type: String,
    /// The row.
    pub sync_uuid: String,
    /// What people call the row; null when nothing in it names it.
    pub row_name: Option<String>,
}

/// One conflicting field.
#[derive(Debug, ToSchema)]
pub struct ConflictField {
    /// The column.
    pub name: String,
    /// The value before.
    #[schema(schema_with = column_value)]
    pub base: serde_json::Value,
    /// Every value, the shown one last.
    pub values: Vec<ConflictValue>,
    /// What the row shows meanwhile.
    #[schema(schema_with = column_value)]
    pub shown: serde_json::Value,
}

/// One of the values.
#[derive(Debug, ToSchema)]
pub struct ConflictValue {
    /// The value; references by uuid.
    #[schema(schema_with = column_value)]
    pub value: serde_json::Value,
    /// Of a reference, what people call the row it leads to.
    pub row_name: Option<String>,
    /// The device that wrote it; null when it was there before storysync.
    pub device: Option<String>,
    /// When.
    #[schema(format = DateTime)]
    pub at: Option<String>,
}

/// A text from another device that gave way to what the app wrote here.
#[derive(Debug, ToSchema)]
pub struct Notice {
    /// Begins with `n`; `theirs` puts the text back, `mine` lets it go.
    pub id: String,
    /// The table.
    pub entity_type: String,
    /// The row.
    pub sync_uuid: String,
    /// What people call the row; null when nothing in it names it.
    pub row_name: Option<String>,
    /// The column.
    pub field: String,
    /// The text that gave way.
    #[schema(schema_with = column_value)]
    pub value: serde_json::Value,
    /// The device that wrote it, where it is known.
    pub device: Option<String>,
    /// When it gave way.
    #[schema(format = DateTime)]
    pub at: String,
}

/// Conflicts that are over.
#[derive(Debug, ToSchema)]
pub struct Ended {
    /// Each of them.
    pub ended: Vec<EndedConflict>,
}

/// A conflict that is over.
#[derive(Debug, ToSchema)]
pub struct EndedConflict {
    /// The same on all devices.
    pub id: String,
    /// What kind of conflict it was.
    pub kind: String,
    /// The table.
    pub entity_type: String,
    /// The row.
    pub sync_uuid: String,
    /// What people call the row.
    pub row_name: Option<String>,
    /// Since when it was known.
    #[schema(format = DateTime)]
    pub detected_at: String,
    /// Since when it is over.
    #[schema(format = DateTime)]
    pub ended_at: String,
    /// How it ended.
    pub ending: Option<String>,
    /// Which device ended it.
    pub ended_by: Option<String>,
}

/// How many conflicts were decided.
#[derive(Debug, ToSchema)]
pub struct Resolved {
    /// Decided now.
    pub resolved: u64,
    /// Of all: why others were not, a sentence each.
    pub left: Option<Vec<String>>,
}

/// Who wrote what in a row.
#[derive(Debug, ToSchema)]
pub struct History {
    /// The row.
    pub sync_uuid: String,
    /// What people call it.
    pub row_name: Option<String>,
    /// Its changes, oldest first.
    pub history: Vec<HistoryEntry>,
}

/// One change of a row.
#[derive(Debug, ToSchema)]
pub struct HistoryEntry {
    /// Names the change on every device, hexadecimal.
    pub change: String,
    /// The device that wrote it; null when it was there before storysync.
    pub device: Option<String>,
    /// When.
    #[schema(format = DateTime)]
    pub at: Option<String>,
    /// What it says instead of a time.
    pub claimed: Option<String>,
    /// The device that brought it; null when it was written here.
    pub brought_by: Option<String>,
    /// When it came; null when it was written here.
    #[schema(format = DateTime)]
    pub received_at: Option<String>,
    /// Whether the device had it when the two first met.
    pub first_contact: bool,
    /// `existed`, `created`, `edited`, `deleted`, `restored`, `filled` or `rewritten`.
    pub action: String,
    /// The fields it wrote.
    pub fields: Vec<ChangedField>,
}

/// One field of a change.
#[derive(Debug, ToSchema)]
pub struct ChangedField {
    /// The column.
    pub name: String,
    /// What its author had before them; of an undo, what is shown now.
    #[schema(schema_with = column_value)]
    pub old: serde_json::Value,
    /// What was written.
    #[schema(schema_with = column_value)]
    pub new: serde_json::Value,
}

/// What was, or would be, taken back.
#[derive(Debug, ToSchema)]
pub struct Undone {
    /// Row by row.
    pub undone: Vec<UndoneRow>,
    /// Of a device: how many changes came when the two first met and claim to be older than the
    /// time asked for; they are left.
    pub first_contact_left: Option<u64>,
    /// Whether it was done.
    pub done: bool,
}

/// What undoing does, or did, to one row.
#[derive(Debug, ToSchema)]
pub struct UndoneRow {
    /// The table.
    pub entity_type: String,
    /// The row.
    pub sync_uuid: String,
    /// What people call the row.
    pub row_name: Option<String>,
    /// The fields that change back.
    pub fields: Vec<ChangedField>,
    /// `stays`, `deleted` (it was created by what is undone) or `restored`.
    pub row: String,
    /// Fields somebody has written since: they stay.
    pub overwritten: Vec<String>,
    /// Of a device: the changes that are taken back, oldest first.
    pub changes: Option<Vec<ChangeTold>>,
}

/// Who wrote a change, and when, as it claims; who brought it, and when, as it was.
#[derive(Debug, ToSchema)]
pub struct ChangeTold {
    /// Names the change on every device, hexadecimal.
    pub change: String,
    /// The device it names as its author.
    pub device: Option<String>,
    /// When its author says it was written; null when that is no time.
    #[schema(format = DateTime)]
    pub at: Option<String>,
    /// What it says instead of a time.
    pub claimed: Option<String>,
    /// The device that brought it; null when it was written here.
    pub brought_by: Option<String>,
    /// When it came; null when it was written here.
    #[schema(format = DateTime)]
    pub received_at: Option<String>,
    /// Whether the device had it when the two first met.
    pub first_contact: bool,
}

/// Deletions of others that wait for a yes.
#[derive(Debug, ToSchema)]
pub struct Brakes {
    /// Each of them.
    pub brakes: Vec<Brake>,
}

/// Deletions of one device that wait for a yes.
#[derive(Debug, ToSchema)]
pub struct Brake {
    /// Names them in paths.
    pub id: String,
    /// The device they came from.
    pub device_id: String,
    /// The tables they are in, separated by commas.
    pub entity_type: String,
    /// How many rows wait.
    pub rows: i64,
    /// How many of them live and would lose texts.
    pub emptied: i64,
    /// How many of them would only be taken off another of them.
    pub unlinked: i64,
    /// When they came.
    #[schema(format = DateTime)]
    pub at: String,
}

/// How many rows it was about.
#[derive(Debug, ToSchema)]
pub struct Rows {
    /// Rows.
    pub rows: u64,
}
