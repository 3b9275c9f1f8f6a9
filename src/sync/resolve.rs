//! Deciding a clash: an ordinary edit on top of everything known, which therefore ends it everywhere.

use std::collections::BTreeMap;

use storysync_crdt::{Conflict, ConflictId, ConflictKind, DeletionKind, DeviceKey, EditPurpose, FieldClash, Value, conflicts, key, row};

use super::error::{EngineError, SessionError};
use super::session::Session;
use crate::store::rows::{self, RowRecord};

/// Which side of a clash is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Take {
    /// What this device wrote; the shown value where it wrote none.
    Mine,
    /// What another device wrote.
    Theirs,
    /// What this device wrote.
    Device(DeviceKey),
    /// The row lives.
    Keep,
    /// The row goes.
    Delete,
}

/// How a clash is decided: a side, values for single fields, or both (fields win).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// The side; what is shown stays where no side is named.
    pub take: Option<Take>,
    /// Values by field.
    pub fields: BTreeMap<String, Value>,
}

/// Most rows looked through for a clash.
const CONFLICTS_SEARCHED_MAX: i64 = 100_000;

impl Session<'_> {
    /// Decides one clash. Returns the row.
    pub(super) fn resolve_conflict(&mut self, id: &str, choice: &Choice, own: &DeviceKey) -> Result<(), SessionError> {
        for record in rows::with_conflicts(self.connection, CONFLICTS_SEARCHED_MAX)? {
            let entity = rows::entity(self.connection, &record)?;
            let found = conflicts(self.document(record.id)?).into_iter().find(|conflict| ConflictId::of(&entity, conflict.kind).to_string() == id);
            if let Some(conflict) = found {
                return self.decide(record, &conflict, choice, own);
            }
        }
        Err(EngineError::NoSuchConflict(id.to_owned()).into())
    }

    /// Decides every open clash alike. Returns how many there were.
    pub(super) fn resolve_all(&mut self, take: &Take, own: &DeviceKey) -> Result<usize, SessionError> {
        let choice = Choice { take: Some(take.clone()), fields: BTreeMap::new() };
        let mut decided = 0;
        for record in rows::with_conflicts(self.connection, CONFLICTS_SEARCHED_MAX)? {
            for conflict in conflicts(self.document(record.id)?) {
                let record = rows::get(self.connection, record.id)?;
                self.decide(record, &conflict, &choice, own)?;
                decided += 1;
            }
        }
        Ok(decided)
    }

    fn decide(&mut self, mut record: RowRecord, conflict: &Conflict, choice: &Choice, own: &DeviceKey) -> Result<(), SessionError> {
        if let Some(unknown) = choice.fields.keys().find(|name| !conflict.fields.iter().any(|field| field.name == **name)) {
            return Err(EngineError::NotInConflict(unknown.clone()).into());
        }
        let merged = row(self.document(record.id)?);
        let at = self.now.to_table_text();
        let mut puts = BTreeMap::new();
        match conflict.kind {
            ConflictKind::Field => {
                for field in &conflict.fields {
                    let value = match choice.fields.get(&field.name) {
                        Some(value) => value.clone(),
                        None => side(field, choice.take.as_ref(), own)?,
                    };
                    puts.insert(field.name.clone(), value);
                }
            }
            ConflictKind::DeleteEdit => {
                if deletes(conflict, choice, own) {
                    puts.insert(key::DELETED_AT.to_owned(), Value::from(at.as_str()));
                    let kind = self.document(record.id)?.register(key::DELETE_KIND).and_then(storysync_crdt::Register::winner).map(|put| put.value.clone());
                    puts.insert(key::DELETE_KIND.to_owned(), kind.unwrap_or_else(|| Value::from(DeletionKind::Hard.as_str())));
                } else {
                    puts.insert(key::DELETED_AT.to_owned(), Value::Null);
                }
            }
        }
        puts.insert(key::VERSION.to_owned(), Value::Integer(merged.version + 1));
        puts.insert(key::UPDATED_AT.to_owned(), Value::from(at));
        let now = self.now;
        self.edit(record.id, puts, EditPurpose::Edit, None, now)?;
        let name = rows::table_name(self.connection, record.table)?;
        let schema = std::sync::Arc::clone(&self.schema);
        self.note_document(&mut record, schema.table(name.as_str()))?;
        rows::save(self.connection, &record)?;
        self.settle([record.id].into())
    }
}

/// The value of the side that is taken.
fn side(field: &FieldClash, take: Option<&Take>, own: &DeviceKey) -> Result<Value, EngineError> {
    let by = |wanted: &dyn Fn(Option<&DeviceKey>) -> bool| field.values.iter().rfind(|value| wanted(value.device.as_ref())).map(|value| value.value.clone());
    match take {
        None | Some(Take::Keep) => Ok(field.shown.clone()),
        Some(Take::Mine) => Ok(by(&|device| device == Some(own)).unwrap_or_else(|| field.shown.clone())),
        Some(Take::Theirs) => Ok(by(&|device| device != Some(own)).unwrap_or_else(|| field.shown.clone())),
        Some(Take::Device(key)) => by(&|device| device == Some(key)).ok_or_else(|| EngineError::NotInConflict("that device".to_owned())),
        Some(Take::Delete) => Err(EngineError::NotInConflict("a deletion".to_owned())),
    }
}

/// Whether the row of a delete/edit clash is to go. The delete is the first of its values, the edit the second.
fn deletes(conflict: &Conflict, choice: &Choice, own: &DeviceKey) -> bool {
    let deleter = conflict.fields.first().and_then(|field| field.values.first()).and_then(|value| value.device);
    match &choice.take {
        Some(Take::Delete) => true,
        Some(Take::Mine) => deleter == Some(*own),
        Some(Take::Theirs) => deleter != Some(*own),
        Some(Take::Device(key)) => deleter == Some(*key),
        Some(Take::Keep) | None => false,
    }
}
