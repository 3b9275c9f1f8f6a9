//! Who wrote what in a row, and taking it back: an ordinary edit, so that it travels and can itself
//! be undone.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::Serialize;
use storysync_crdt::{
    ChangeHash, DeviceKey, Entry, Stamp, SyncUuid, Undo, UndoRow, Value, deletion_puts, history,
    key, newest_edit, undo, written_since,
};

use crate::app::profile::table_of_entity_type;
use crate::app::schema::Table;
use crate::error::{EngineError, TransactionError};
use crate::naming::name_of;
use crate::store::log;
use crate::store::rows::{self, RowId};
use crate::transaction::Transaction;
use crate::translate::to_json_of;
use crate::trust::identity::DeviceId;

/// One change of a row.
#[derive(Debug, Clone, Serialize)]
pub struct EntryReport {
    /// Names the change on every device, hexadecimal.
    pub change: String,
    /// PeerId of the device that wrote it; null when it was there before storysync.
    pub device: Option<String>,
    /// RFC 3339, UTC.
    pub at: Option<String>,
    /// existed, created, edited, deleted, restored, filled, rewritten.
    pub action: String,
    /// The fields it wrote.
    pub fields: Vec<FieldEntry>,
}

/// One field of a change.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FieldEntry {
    /// The column.
    pub name: String,
    /// What its author had before them; of an undo, what is shown now.
    pub old: serde_json::Value,
    /// What was written.
    pub new: serde_json::Value,
}

/// What undoing does, or did, to one row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UndoReport {
    /// The table.
    pub entity_type: String,
    /// The row.
    pub sync_uuid: String,
    /// What people call the row; null when nothing in it names it.
    pub row_name: Option<String>,
    /// The fields that change back.
    pub fields: Vec<FieldEntry>,
    /// `stays`, `deleted` (it was created by what is undone) or `restored`.
    pub row: String,
    /// Fields somebody has written since: they stay.
    pub overwritten: Vec<String>,
}

impl EntryReport {
    pub(super) fn of(table: Option<&Table>, entry: &Entry) -> Self {
        let told = |name: &str, value: &Value| to_json_of(table, name, value);
        Self {
            change: entry.hash.to_hex(),
            device: entry.device.map(|key| DeviceId::of_key(&key).to_string()),
            at: entry.at.map(Stamp::to_rfc3339),
            action: entry.action.as_str().to_owned(),
            fields: entry
                .fields
                .iter()
                .map(|field| FieldEntry {
                    name: field.name.clone(),
                    old: told(&field.name, &field.old),
                    new: told(&field.name, &field.new),
                })
                .collect(),
        }
    }
}

impl Transaction<'_> {
    fn find_row(&mut self, table: &str, uuid: &str) -> Result<RowId, TransactionError> {
        let no_such_row =
            || EngineError::NoSuchRow { table: table.to_owned(), uuid: uuid.to_owned() };
        let schema = std::sync::Arc::clone(&self.schema);
        let id = self.find_table(table_of_entity_type(&schema, table))?.ok_or_else(no_such_row)?;
        let uuid = SyncUuid::parse(uuid).ok_or_else(no_such_row)?;
        let record = rows::find(self.connection, id, &uuid)?.ok_or_else(no_such_row)?;
        if self.document(record.id)?.is_empty() {
            return Err(no_such_row().into());
        }
        Ok(record.id)
    }

    pub(crate) fn history(
        &mut self,
        table: &str,
        uuid: &str,
    ) -> Result<Vec<EntryReport>, TransactionError> {
        let id = self.find_row(table, uuid)?;
        let table = self.table_name(rows::get(self.connection, id)?.table)?;
        let mut entries: Vec<EntryReport> = {
            let schema = std::sync::Arc::clone(&self.schema);
            history(self.document(id)?)
                .iter()
                .map(|entry| EntryReport::of(schema.table(table.as_str()), entry))
                .collect()
        };
        for field in entries.iter_mut().flat_map(|entry| &mut entry.fields) {
            field.name = self.told_name(table.as_str(), &field.name);
        }
        Ok(entries)
    }

    pub(crate) fn undo_change(
        &mut self,
        table: &str,
        uuid: &str,
        change: Option<&str>,
    ) -> Result<UndoReport, TransactionError> {
        let id = self.find_row(table, uuid)?;
        let document = self.document(id)?;
        let undone = match change {
            Some(words) => {
                let mut found = document
                    .changes()
                    .iter()
                    .map(storysync_crdt::Change::hash)
                    .filter(|hash| !words.is_empty() && hash.to_hex().starts_with(words));
                match (found.next(), found.next()) {
                    (Some(hash), None) => hash,
                    _ => return Err(EngineError::NoSuchChange(words.to_owned()).into()),
                }
            }
            None => newest_edit(document).ok_or_else(|| {
                EngineError::NothingToUndo("the row is as it was before storysync".to_owned())
            })?,
        };
        let undo = undo(document, &HashSet::from([undone]));
        if undo.is_empty() {
            let reason = match undo.overwritten.as_slice() {
                [] => "the row already is as it was before that change".to_owned(),
                names => format!("{} was written again since", names.join(", ")),
            };
            return Err(EngineError::NothingToUndo(reason).into());
        }
        let report = self.describe_undo(id, &undo)?;
        self.carry_out(id, undo)?;
        self.project(BTreeSet::from([id]))?;
        Ok(report)
    }

    /// Every row in which a device wrote something at `since` or later, and what would take it
    /// back.
    fn undos(
        &mut self,
        device: &DeviceKey,
        since: Stamp,
    ) -> Result<Vec<(RowId, Undo)>, TransactionError> {
        let mut found = Vec::new();
        for id in log::rows_with_changes(self.connection)? {
            let document = log::document(self.connection, id)?;
            let undone: HashSet<ChangeHash> = written_since(&document, device, since);
            if !undone.is_empty() {
                found.push((id, undo(&document, &undone)));
            }
        }
        Ok(found)
    }

    pub(crate) fn plan_undo(
        &mut self,
        device: &DeviceKey,
        since: Stamp,
    ) -> Result<Vec<UndoReport>, TransactionError> {
        let undos = self.undos(device, since)?;
        undos.iter().map(|(id, undo)| self.describe_undo(*id, undo)).collect()
    }

    pub(crate) fn undo_device(
        &mut self,
        device: &DeviceKey,
        since: Stamp,
    ) -> Result<Vec<UndoReport>, TransactionError> {
        let undos = self.undos(device, since)?;
        let mut reports = Vec::with_capacity(undos.len());
        let mut touched = BTreeSet::new();
        for (id, undo) in undos {
            reports.push(self.describe_undo(id, &undo)?);
            if !undo.is_empty() {
                self.carry_out(id, undo)?;
                touched.insert(id);
            }
        }
        self.project(touched)?;
        Ok(reports)
    }

    fn describe_undo(&mut self, id: RowId, undo: &Undo) -> Result<UndoReport, TransactionError> {
        let entity = self.entity(&rows::get(self.connection, id)?)?;
        let now = storysync_crdt::row(self.document(id)?).fields;
        let fields = undo
            .fields
            .iter()
            .map(|(name, value)| FieldEntry {
                name: self.told_name(entity.table.as_str(), name),
                old: to_json_of(
                    self.schema.table(entity.table.as_str()),
                    name,
                    now.get(name).unwrap_or(&Value::Null),
                ),
                new: to_json_of(self.schema.table(entity.table.as_str()), name, value),
            })
            .collect();
        let row = match &undo.row {
            UndoRow::Stays => "stays",
            UndoRow::Goes | UndoRow::GoesAgain(_) => "deleted",
            UndoRow::ComesBack => "restored",
        };
        Ok(UndoReport {
            entity_type: entity.table.as_str().to_owned(),
            sync_uuid: entity.uuid.as_str().to_owned(),
            row_name: name_of(self.connection, &self.schema, id)?,
            fields,
            row: row.to_owned(),
            overwritten: undo.overwritten.clone(),
        })
    }

    fn carry_out(&mut self, id: RowId, undo: Undo) -> Result<(), TransactionError> {
        let now = self.now;
        let mut puts: BTreeMap<String, Value> = undo.fields;
        puts.extend(deletion_puts(&undo.row, &Value::from(now.to_table_text())));
        if puts.get(key::DELETED_AT).is_some_and(|at| !at.is_null()) {
            puts.extend(self.left_behind(id)?.map(|left| (key::LEFT_BEHIND.to_owned(), left)));
        }
        self.write_row(id, puts, None, now)
    }
}
