//! Who wrote what in a row, and taking it back: an ordinary edit, so that it travels and can itself
//! be undone.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::Serialize;
use storysync_crdt::{
    Entry, Since, SyncUuid, Undo, UndoRow, Value, deletion_puts, history, key, meant, newest_edit,
    undo,
};

use super::receipts::{Bringers, ChangeReport};
use crate::app::profile::table_of_entity_type;
use crate::app::schema::Table;
use crate::error::{EngineError, TransactionError};
use crate::naming::name_of;
use crate::store::log;
use crate::store::rows::{self, RowId};
use crate::transaction::Transaction;
use crate::translate::to_json_of;

/// One change of a row.
#[derive(Debug, Clone, Serialize)]
pub struct EntryReport {
    /// Which, by whom and when: as it claims, and as it came.
    #[serde(flatten)]
    pub written: ChangeReport,
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
    /// The changes that are taken back, where whole devices are; oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<ChangeReport>,
}

/// What taking back a device's changes does, or did.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct DeviceUndo {
    /// By row.
    pub undone: Vec<UndoReport>,
    /// How many changes came when the two first met and claim to be older than the time asked for:
    /// they are left.
    pub first_contact_left: usize,
}

impl EntryReport {
    fn of(table: Option<&Table>, entry: &Entry, written: ChangeReport) -> Self {
        let told = |name: &str, value: &Value| to_json_of(table, name, value);
        Self {
            written,
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

/// What takes back the changes of one row that are meant.
struct RowUndo {
    id: RowId,
    undo: Undo,
    changes: Vec<ChangeReport>,
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
        let bringers = self.bringers()?;
        self.history_of(id, &bringers)
    }

    /// Every change of a row, in the order this device came to know them.
    pub(super) fn history_of(
        &mut self,
        id: RowId,
        bringers: &Bringers,
    ) -> Result<Vec<EntryReport>, TransactionError> {
        let table = self.table_name(rows::get(self.connection, id)?.table)?;
        let receipts = self.receipts_of(id, bringers)?;
        let mut entries: Vec<EntryReport> = {
            let schema = std::sync::Arc::clone(&self.schema);
            let table = schema.table(table.as_str());
            let document = self.document(id)?;
            let written = document.changes().iter().enumerate();
            let written =
                written.map(|(place, change)| ChangeReport::of(change, receipts.get(place)));
            history(document)
                .iter()
                .zip(written)
                .map(|(entry, written)| EntryReport::of(table, entry, written))
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

    /// Every row with changes that are meant, and what would take them back.
    fn undos(&mut self, which: &Since) -> Result<(Vec<RowUndo>, usize), TransactionError> {
        let bringers = self.bringers()?;
        let (mut found, mut left) = (Vec::new(), 0);
        for id in log::rows_with_changes(self.connection)? {
            let document = log::document(self.connection, id)?;
            let receipts = bringers.receipts(&document, &log::receipts(self.connection, id)?);
            let meant = meant(&document, &receipts, which);
            left += meant.left;
            if meant.changes.is_empty() {
                continue;
            }
            let changes = document
                .changes()
                .iter()
                .zip(&receipts)
                .filter(|(change, _)| meant.changes.contains(&change.hash()))
                .map(|(change, receipt)| ChangeReport::of(change, Some(receipt)))
                .collect();
            found.push(RowUndo { id, undo: undo(&document, &meant.changes), changes });
        }
        Ok((found, left))
    }

    pub(crate) fn plan_undo(&mut self, which: &Since) -> Result<DeviceUndo, TransactionError> {
        let (undos, first_contact_left) = self.undos(which)?;
        let mut undone = Vec::with_capacity(undos.len());
        for RowUndo { id, undo, changes } in undos {
            undone.push(UndoReport { changes, ..self.describe_undo(id, &undo)? });
        }
        Ok(DeviceUndo { undone, first_contact_left })
    }

    pub(crate) fn undo_device(&mut self, which: &Since) -> Result<DeviceUndo, TransactionError> {
        let (undos, first_contact_left) = self.undos(which)?;
        let mut undone = Vec::with_capacity(undos.len());
        let mut touched = BTreeSet::new();
        for RowUndo { id, undo, changes } in undos {
            undone.push(UndoReport { changes, ..self.describe_undo(id, &undo)? });
            if !undo.is_empty() {
                self.carry_out(id, undo)?;
                touched.insert(id);
            }
        }
        self.project(touched)?;
        Ok(DeviceUndo { undone, first_contact_left })
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
            changes: Vec::new(),
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
