//! What people and programs are told: status, conflicts. Shapes are part of the interface.

use serde::Serialize;
use storysync_crdt::{
    Conflict, ConflictId, ConflictKind, ConflictValue, EntityId, Stamp, SyncUuid,
};

use crate::app::schema::{Role, Table};
use crate::engine::Engine;
use crate::engine::status::Status;
use crate::epoch::{NewEpoch, hex};
use crate::error::{EngineError, TransactionError};
use crate::naming::{name_of, name_of_uuid};
use crate::store::rows::{self, Parked, RowRecord};
use crate::store::{conflicts, log, notices, quarantine};
use crate::transaction::Transaction;
use crate::translate::to_json_of;
use crate::trust::identity::DeviceId;

/// Most conflicts listed at once.
const CONFLICTS_LISTED_MAX: i64 = 10_000;
/// Most notices listed at once.
const NOTICES_LISTED_MAX: i64 = 1_000;
/// Begins the id of a notice, which a conflict's, being hexadecimal, never does.
pub(crate) const NOTICE_PREFIX: char = 'n';
/// Most other rows named in one conflict.
const ROWS_LISTED_MAX: usize = 100;

/// One conflict.
#[derive(Debug, Clone, Serialize)]
pub struct ConflictReport {
    /// The same on all devices.
    pub id: String,
    /// field, delete_edit, orphan, unique, ring, schema.
    pub kind: String,
    /// The table.
    pub entity_type: String,
    /// The row.
    pub sync_uuid: String,
    /// What people call the row; null when nothing in it names it.
    pub row_name: Option<String>,
    /// Why this device's table refuses a value, in SQLite's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What conflicts.
    pub fields: Vec<FieldReport>,
    /// The other rows it is about, at most 100: those that require a deleted one, the one that has
    /// the name, or those of a cycle.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<RowName>,
}

/// A text from another device that gave way to what the app wrote here, without a sign that its
/// user had read it.
#[derive(Debug, Clone, Serialize)]
pub struct NoticeReport {
    /// What `conflicts resolve` takes: `theirs` puts the text back, `mine` lets it go.
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
    pub value: serde_json::Value,
    /// PeerId of the device that wrote it, or that brought it where it was there before storysync;
    /// null when neither is known.
    pub device: Option<String>,
    /// When it gave way; RFC 3339, UTC.
    pub at: String,
}

/// A row, as interfaces name it.
#[derive(Debug, Clone, Serialize)]
pub struct RowName {
    /// The table.
    pub entity_type: String,
    /// The row.
    pub sync_uuid: String,
    /// What people call the row; null when nothing in it names it.
    pub row_name: Option<String>,
}

/// One conflicting field.
#[derive(Debug, Clone, Serialize)]
pub struct FieldReport {
    /// The column.
    pub name: String,
    /// The value before.
    pub base: serde_json::Value,
    /// Every value, the shown one last.
    pub values: Vec<ValueReport>,
    /// What the row shows meanwhile.
    pub shown: serde_json::Value,
}

/// One of the values.
#[derive(Debug, Clone, Serialize)]
pub struct ValueReport {
    /// The value; references by uuid.
    pub value: serde_json::Value,
    /// Of a reference, what people call the row it leads to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row_name: Option<String>,
    /// PeerId of the device that wrote it; null when it was there before storysync.
    pub device: Option<String>,
    /// RFC 3339, UTC.
    pub at: Option<String>,
}

impl ValueReport {
    fn of(table: Option<&Table>, column: &str, value: &ConflictValue) -> Self {
        Self {
            value: to_json_of(table, column, &value.value),
            row_name: None,
            device: value.device.map(|key| DeviceId::of_key(&key).to_string()),
            at: value.at.map(Stamp::to_rfc3339),
        }
    }
}

/// What a row holds, for people.
#[derive(Debug, Clone, Serialize)]
pub struct RowReport {
    /// The row.
    #[serde(flatten)]
    pub row: RowName,
    /// Its columns, in the table's order; references by uuid, with what the row is called they lead
    /// to.
    pub fields: Vec<(String, serde_json::Value, Option<String>)>,
    /// The columns that lead to rows of another table, each with that table.
    pub references: Vec<(String, String)>,
}

impl Engine {
    /// What a row holds, as its document says; `None` when nobody knows it.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn row_report(
        &mut self,
        table: &str,
        uuid: &str,
        now: Stamp,
    ) -> Result<Option<RowReport>, EngineError> {
        self.look(now, |transaction| transaction.row_report(table, uuid))
    }

    /// How this node stands. Counted anew only after somebody has written to the file.
    ///
    /// ```
    /// # mod desks { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doctests/desks.rs")); }
    /// # use desks::*;
    /// # let mut desk = desk(1);
    /// desk.app.execute("INSERT INTO note (title) VALUES ('Harbour')", [])?;
    /// desk.engine.capture(now())?;
    /// let status = desk.engine.status()?;
    /// assert_eq!((status.entities, status.conflicts, status.parked), (1, 0, 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn status(&mut self) -> Result<Status, EngineError> {
        let seen = (self.data_version()?, self.writes);
        if let Some((_, status)) = self.counted.as_ref().filter(|(counted, _)| *counted == seen) {
            return Ok(status.clone());
        }
        let epoch = hex(&self.epoch);
        let status = self.read(|connection, _| {
            let counts = rows::counts(connection)?;
            let changes = log::end(connection)?.seq;
            let quarantined = quarantine::count(connection)?;
            Ok(Status {
                entities: counts.entities,
                parked: counts.parked,
                conflicts: counts.conflicts,
                quarantined,
                changes,
                epoch,
            })
        })?;
        self.counted = Some((seen, status.clone()));
        Ok(status)
    }

    /// How many conflicts are open.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn open_conflicts(&mut self) -> Result<i64, EngineError> {
        self.read(|connection, _| Ok(rows::open_conflicts(connection)?))
    }

    /// Rows that wait, as (table, why, how many).
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn parked(&mut self) -> Result<Vec<(String, Parked, i64)>, EngineError> {
        self.read(|connection, _| Ok(rows::parked_by_reason(connection)?))
    }

    /// Why this log is not in its first epoch, and since when (Unix time in ms); `None` while it
    /// is.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn new_epoch(&mut self) -> Result<Option<(NewEpoch, i64)>, EngineError> {
        self.read(|connection, _| {
            let (by, at): (Option<String>, Option<i64>) = connection
                .prepare_cached("SELECT began_by, began_at FROM sync_state")?
                .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(by.as_deref().and_then(NewEpoch::of_word).zip(at))
        })
    }
}

impl Transaction<'_> {
    fn row_report(
        &mut self,
        table: &str,
        uuid: &str,
    ) -> Result<Option<RowReport>, TransactionError> {
        let schema = std::sync::Arc::clone(&self.schema);
        let (Some(id), Some(uuid), Some(known)) =
            (self.find_table(table)?, SyncUuid::parse(uuid), schema.table(table))
        else {
            return Ok(None);
        };
        let Some(record) = rows::find(self.connection, id, &uuid)? else { return Ok(None) };
        let shown = storysync_crdt::row(self.document(record.id)?).fields;
        let mut fields = Vec::new();
        for column in &known.columns {
            let Some(value) = shown.get(&column.name) else { continue };
            let json = to_json_of(Some(known), &column.name, value);
            let leads_to = match (&column.role, json.as_str()) {
                (Role::Reference { table }, Some(uuid)) => {
                    name_of_uuid(self.connection, &schema, table, uuid)?
                }
                _ => None,
            };
            fields.push((known.told_name(&column.name).to_owned(), json, leads_to));
        }
        let row = RowName {
            entity_type: known.name().to_owned(),
            sync_uuid: uuid.as_str().to_owned(),
            row_name: name_of(self.connection, &schema, record.id)?,
        };
        let references = known
            .references()
            .map(|(column, table)| (known.told_name(&column.name).to_owned(), table.to_owned()))
            .collect();
        Ok(Some(RowReport { row, fields, references }))
    }

    /// The texts from elsewhere that gave way here, oldest first.
    pub(crate) fn list_notices(&mut self) -> Result<Vec<NoticeReport>, TransactionError> {
        let schema = std::sync::Arc::clone(&self.schema);
        let mut reports = Vec::new();
        for notice in notices::open(self.connection, self.now.unix_ms(), NOTICES_LISTED_MAX)? {
            let record = rows::get(self.connection, notice.row)?;
            let entity = self.entity(&record)?;
            let row_name = name_of(self.connection, &schema, notice.row)?;
            let Some(change) = self.document(notice.row)?.change(&notice.change) else { continue };
            reports.push(NoticeReport {
                id: format!("{NOTICE_PREFIX}{}", notice.id),
                entity_type: entity.table.as_str().to_owned(),
                sync_uuid: entity.uuid.as_str().to_owned(),
                row_name,
                value: change
                    .value(&notice.column)
                    .map(|value| {
                        to_json_of(schema.table(entity.table.as_str()), &notice.column, value)
                    })
                    .unwrap_or_default(),
                device: change.actor().device().map(|key| DeviceId::of_key(&key).to_string()),
                field: self.told_name(entity.table.as_str(), &notice.column),
                at: Stamp::from_unix_ms(notice.at_ms).to_rfc3339(),
            });
        }
        Ok(reports)
    }

    /// Every open conflict.
    pub(crate) fn list_conflicts(&mut self) -> Result<Vec<ConflictReport>, TransactionError> {
        let mut reports = Vec::new();
        for record in rows::with_conflicts(self.connection, CONFLICTS_LISTED_MAX)? {
            reports.extend(self.conflicts_of(&record)?);
        }
        // In the same order on every device.
        reports.sort_by(|a, b| {
            (&a.entity_type, &a.sync_uuid, &a.kind).cmp(&(&b.entity_type, &b.sync_uuid, &b.kind))
        });
        Ok(reports)
    }

    /// The open conflicts of some of the rows that have any.
    pub(crate) fn list_some_conflicts(
        &mut self,
        skip: i64,
        limit: i64,
    ) -> Result<Vec<ConflictReport>, TransactionError> {
        let mut reports = Vec::new();
        for record in rows::with_conflicts_from(self.connection, skip, limit)? {
            reports.extend(self.conflicts_of(&record)?);
        }
        Ok(reports)
    }

    /// The open conflict of this name.
    pub(crate) fn conflict_named(
        &mut self,
        id: &str,
    ) -> Result<Option<ConflictReport>, TransactionError> {
        let Some(row) = conflicts::row_of(self.connection, id)? else { return Ok(None) };
        let record = rows::get(self.connection, row)?;
        Ok(self.conflicts_of(&record)?.into_iter().find(|conflict| conflict.id == id))
    }

    /// What the app calls what documents of a table call `name`.
    pub(crate) fn told_name(&self, table: &str, name: &str) -> String {
        self.schema.table(table).map_or(name, |table| table.told_name(name)).to_owned()
    }

    /// The conflicts of one row.
    pub(crate) fn conflicts_of(
        &mut self,
        record: &RowRecord,
    ) -> Result<Vec<ConflictReport>, TransactionError> {
        let entity = self.entity(record)?;
        let conflicts = self.conflicts(record)?;
        let schema = std::sync::Arc::clone(&self.schema);
        let mut reports =
            conflict_reports(schema.table(entity.table.as_str()), &entity, &conflicts);
        let name = name_of(self.connection, &schema, record.id)?;
        for report in &mut reports {
            report.row_name.clone_from(&name);
            for other in &mut report.rows {
                other.row_name =
                    name_of_uuid(self.connection, &schema, &other.entity_type, &other.sync_uuid)?;
            }
            for field in &mut report.fields {
                let column =
                    schema.table(entity.table.as_str()).and_then(|table| table.column(&field.name));
                if let Some(Role::Reference { table }) = column.map(|column| &column.role) {
                    for value in &mut field.values {
                        if let Some(uuid) = value.value.as_str() {
                            value.row_name = name_of_uuid(self.connection, &schema, table, uuid)?;
                        }
                    }
                }
                field.name = self.told_name(entity.table.as_str(), &field.name);
            }
            if report.kind == ConflictKind::Schema.as_str() {
                report.reason = conflicts::refusal(self.connection, record.id)?;
            }
        }
        Ok(reports)
    }
}

/// Conflicts of one row as every interface shows them.
pub(crate) fn conflict_reports(
    table: Option<&Table>,
    entity: &EntityId,
    conflicts: &[Conflict],
) -> Vec<ConflictReport> {
    let report = |conflict: &Conflict| ConflictReport {
        id: ConflictId::of(entity, conflict.kind).to_string(),
        kind: conflict.kind.as_str().to_owned(),
        entity_type: entity.table.as_str().to_owned(),
        sync_uuid: entity.uuid.as_str().to_owned(),
        row_name: None,
        reason: None,
        fields: conflict
            .fields
            .iter()
            .map(|field| FieldReport {
                name: field.name.clone(),
                base: to_json_of(table, &field.name, &field.base),
                values: field
                    .values
                    .iter()
                    .map(|value| ValueReport::of(table, &field.name, value))
                    .collect(),
                shown: to_json_of(table, &field.name, &field.shown),
            })
            .collect(),
        rows: conflict
            .others
            .iter()
            .take(ROWS_LISTED_MAX)
            .map(|other| RowName {
                entity_type: other.table.as_str().to_owned(),
                sync_uuid: other.uuid.as_str().to_owned(),
                row_name: None,
            })
            .collect(),
    };
    conflicts.iter().map(report).collect()
}
