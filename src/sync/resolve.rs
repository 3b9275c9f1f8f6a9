//! Deciding a clash: an ordinary edit on top of everything known, which therefore ends it everywhere.

use std::collections::BTreeMap;

use storysync_crdt::{Conflict, ConflictId, ConflictKind, DeletionKind, DeviceKey, FieldClash, Value, key};

use super::error::{EngineError, SessionError};
use super::session::Session;
use crate::app::rows as app_rows;
use crate::app::schema::Role;
use crate::store::rows::{self, RowId, RowRecord};
use crate::trust::identity::DeviceId;

/// Which side of a clash is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Take {
    /// What this device wrote; the shown value where it wrote none.
    Mine,
    /// What another device wrote.
    Theirs,
    /// What this device wrote.
    Device(DeviceKey),
    /// The row lives; of two rows with one name, both.
    Keep,
    /// The row goes; of two rows with one name, the one that waits.
    Delete,
    /// Of two rows with one name, the one that waits gets another.
    Rename,
}

impl Take {
    /// Reads what interfaces call a side: `mine`, `theirs`, `keep`, `delete`, `rename`, or a device's PeerId.
    #[must_use]
    pub fn parse(words: &str) -> Option<Self> {
        Some(match words {
            "mine" => Self::Mine,
            "theirs" => Self::Theirs,
            "keep" => Self::Keep,
            "delete" => Self::Delete,
            "rename" => Self::Rename,
            device => Self::Device(DeviceId::parse(device)?.key()?),
        })
    }
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
/// Most numbers tried behind a name until one is free.
const NAMES_TRIED_MAX: u32 = 10_000;

impl Session<'_> {
    /// Decides one clash. `own` is the device that decides.
    pub(super) fn resolve_conflict(&mut self, id: &str, choice: &Choice, own: &DeviceKey) -> Result<(), SessionError> {
        for record in rows::with_conflicts(self.connection, CONFLICTS_SEARCHED_MAX)? {
            let entity = rows::entity(self.connection, &record)?;
            let found = self.clashes(&record)?.into_iter().find(|conflict| ConflictId::of(&entity, conflict.kind).to_string() == id);
            if let Some(conflict) = found {
                return self.decide(&record, &conflict, choice, own);
            }
        }
        Err(EngineError::NoSuchConflict(id.to_owned()).into())
    }

    /// Decides every open clash alike. Returns how many there were.
    pub(super) fn resolve_all(&mut self, take: &Take, own: &DeviceKey) -> Result<usize, SessionError> {
        let choice = Choice { take: Some(take.clone()), fields: BTreeMap::new() };
        let mut decided = 0;
        for record in rows::with_conflicts(self.connection, CONFLICTS_SEARCHED_MAX)? {
            for conflict in self.clashes(&record)? {
                // A value this table refuses is no matter between devices: it wants a value of its own.
                if conflict.kind == ConflictKind::Schema {
                    continue;
                }
                let record = rows::get(self.connection, record.id)?;
                // An earlier decision may have ended it.
                if self.clashes(&record)?.iter().any(|open| open.kind == conflict.kind) {
                    self.decide(&record, &conflict, &choice, own)?;
                    decided += 1;
                }
            }
        }
        Ok(decided)
    }

    fn decide(&mut self, record: &RowRecord, conflict: &Conflict, choice: &Choice, own: &DeviceKey) -> Result<(), SessionError> {
        if let Some(unknown) = choice.fields.keys().find(|name| !conflict.fields.iter().any(|field| field.name == **name)) {
            return Err(EngineError::NotInConflict(unknown.clone()).into());
        }
        let puts = match conflict.kind {
            ConflictKind::Field => {
                let mut puts = BTreeMap::new();
                for field in &conflict.fields {
                    let value = match choice.fields.get(&field.name) {
                        Some(value) => value.clone(),
                        None => side(field, choice.take.as_ref(), own)?,
                    };
                    puts.insert(field.name.clone(), value);
                }
                puts
            }
            ConflictKind::DeleteEdit | ConflictKind::Orphan => {
                if deletes(conflict, choice, own)? {
                    self.deletion_of(record.id)?
                } else {
                    BTreeMap::from([(key::DELETED_AT.to_owned(), Value::Null)])
                }
            }
            ConflictKind::Unique => return self.decide_unique(record, conflict, choice, own),
            ConflictKind::Schema => conflict
                .fields
                .iter()
                .map(|field| match (choice.fields.get(&field.name), &choice.take) {
                    (Some(value), _) => Ok((field.name.clone(), value.clone())),
                    (None, None | Some(Take::Mine | Take::Keep)) => Ok((field.name.clone(), field.shown.clone())),
                    (None, _) => Err(EngineError::NotInConflict("a value this table refuses".to_owned())),
                })
                .collect::<Result<_, _>>()?,
        };
        let now = self.now;
        self.write_row(record.id, puts, None, now)?;
        self.settle([record.id].into())
    }

    /// The puts that delete a row as it was deleted before, naming the rows that are left behind by it.
    pub(super) fn deletion_of(&mut self, id: RowId) -> Result<BTreeMap<String, Value>, SessionError> {
        let kind = self.document(id)?.register(key::DELETE_KIND).and_then(storysync_crdt::Register::winner).map(|put| put.value.clone());
        let mut puts = BTreeMap::from([
            (key::DELETED_AT.to_owned(), Value::from(self.now.to_table_text())),
            (key::DELETE_KIND.to_owned(), kind.unwrap_or_else(|| Value::from(DeletionKind::Hard.as_str()))),
        ]);
        puts.extend(self.left_behind(id)?.map(|left| (key::LEFT_BEHIND.to_owned(), left)));
        Ok(puts)
    }

    /// Two rows with one name: one of them gets another, or the one that waits goes.
    fn decide_unique(&mut self, record: &RowRecord, conflict: &Conflict, choice: &Choice, own: &DeviceKey) -> Result<(), SessionError> {
        let now = self.now;
        let Some(winner) = crate::store::clashes::stand_in(self.connection, record.id)?.map(|(winner, _)| winner) else {
            return Err(EngineError::NoSuchConflict(record.uuid.to_string()).into());
        };
        if !choice.fields.is_empty() {
            self.write_row(record.id, choice.fields.clone(), None, now)?;
            return self.settle([record.id, winner].into());
        }
        // The waiting row's values come first, those of the one that stays last.
        let writer = |waiting: bool| {
            let field = conflict.fields.iter().rev().find(|field| field.values.len() == 2)?;
            if waiting { field.values.first()?.device } else { field.values.last()?.device }
        };
        let keeps_name = |device: &DeviceKey| writer(true).as_ref() == Some(device) && writer(false).as_ref() != Some(device);
        let renamed = match &choice.take {
            Some(Take::Delete) => {
                return self.merge_into(record.id, winner);
            }
            Some(Take::Mine) if keeps_name(own) => winner,
            Some(Take::Theirs) if writer(true).as_ref() != Some(own) && writer(false).as_ref() == Some(own) => winner,
            Some(Take::Device(device)) if keeps_name(device) => winner,
            _ => record.id,
        };
        let puts = self.another_name(renamed, conflict)?;
        self.write_row(renamed, puts, None, now)?;
        self.settle([record.id, winner].into())
    }

    /// The row that waits goes; whoever referred to it refers to the one that stays.
    fn merge_into(&mut self, loser: RowId, winner: RowId) -> Result<(), SessionError> {
        let now = self.now;
        let uuid = rows::get(self.connection, winner)?.uuid;
        let mut touched = std::collections::BTreeSet::from([loser, winner]);
        for (referrer, column) in rows::referrers_by_column(self.connection, loser)? {
            if referrer == loser {
                continue;
            }
            self.write_row(referrer, BTreeMap::from([(column, Value::from(uuid.as_str()))]), None, now)?;
            touched.insert(referrer);
        }
        let puts = self.deletion_of(loser)?;
        self.write_row(loser, puts, None, now)?;
        self.settle(touched)
    }

    /// A name no other row has: "name (2)".
    fn another_name(&mut self, id: RowId, conflict: &Conflict) -> Result<BTreeMap<String, Value>, SessionError> {
        let record = rows::get(self.connection, id)?;
        let name = rows::table_name(self.connection, record.table)?;
        let schema = std::sync::Arc::clone(&self.schema);
        let fields = storysync_crdt::row(self.document(id)?).fields;
        let column = schema.table(name.as_str()).and_then(|table| {
            let columns = conflict.fields.iter().filter_map(|field| table.column(&field.name));
            let mut texts = columns.filter(|column| column.role == Role::Field && fields.get(&column.name).and_then(Value::as_text).is_some());
            texts.next().map(|column| (table, column.name.clone()))
        });
        let Some((table, column)) = column else {
            return Err(EngineError::NotInConflict("a name that could be changed; take delete, or give a value with --field".to_owned()).into());
        };
        let text = fields.get(&column).and_then(Value::as_text).unwrap_or_default();
        for number in 2..NAMES_TRIED_MAX {
            let candidate = Value::from(format!("{text} ({number})"));
            if !app_rows::holds(self.connection, table, &column, &candidate)? {
                return Ok(BTreeMap::from([(column, candidate)]));
            }
        }
        Err(EngineError::NotInConflict("a free name; give one with --field".to_owned()).into())
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
        Some(Take::Rename) => Err(EngineError::NotInConflict("a name that is taken".to_owned())),
    }
}

/// Whether the row of a delete/edit or orphan clash is to go. The delete is the first of its values.
fn deletes(conflict: &Conflict, choice: &Choice, own: &DeviceKey) -> Result<bool, EngineError> {
    if let Some(value) = choice.fields.get(key::DELETED_AT) {
        return Ok(!value.is_null());
    }
    let deleter = conflict.fields.first().and_then(|field| field.values.first()).and_then(|value| value.device);
    match &choice.take {
        Some(Take::Delete) => Ok(true),
        Some(Take::Mine) => Ok(deleter == Some(*own)),
        Some(Take::Theirs) => Ok(deleter != Some(*own)),
        Some(Take::Device(key)) => Ok(deleter == Some(*key)),
        Some(Take::Keep) | None => Ok(false),
        Some(Take::Rename) => Err(EngineError::NotInConflict("a name that is taken".to_owned())),
    }
}
