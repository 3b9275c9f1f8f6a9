//! Deciding a conflict: an ordinary edit on top of everything known, which therefore ends it
//! everywhere.

mod unique;

use std::collections::{BTreeMap, BTreeSet};

use storysync_crdt::{
    Conflict, ConflictId, ConflictKind, DeletionKind, DeviceKey, FieldConflict, Stamp, SyncUuid,
    VALUE_BYTES_MAX, Value, key,
};

use crate::app::profile;
use crate::app::schema::Role;
use crate::error::{EngineError, TransactionError};
use crate::report::NOTICE_PREFIX;
use crate::store::rows::{self, DifferenceKind, RowId, RowRecord};
use crate::store::{conflicts, notices};
use crate::transaction::Transaction;
use crate::trust::identity::DeviceId;

/// Which side of a conflict is taken.
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

/// Which conflicts are decided in one go. Two links may conflict only because what they link does:
/// that comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// All but links.
    Rows,
    /// Rows that are unique by what they refer to.
    Links,
}

/// What deciding some conflicts came to.
#[derive(Debug)]
pub(crate) struct Resolved {
    /// The last row looked at.
    pub(crate) last: RowId,
    /// Conflicts decided.
    pub(crate) decided: usize,
    /// Why others were not.
    pub(crate) left: Vec<String>,
}

impl Take {
    /// Reads what interfaces call a side: `mine`, `theirs`, `keep`, `delete`, `rename`, or a
    /// device's PeerId.
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

/// How a conflict is decided: a side, values for single fields, or both (fields win).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// The side. Where none is named, what is shown stays, and of two rows with one name the one
    /// that waits gets another.
    pub take: Option<Take>,
    /// Values by field.
    pub fields: BTreeMap<String, Value>,
}

/// Most rows looked through for a conflict.
const CONFLICTS_SEARCHED_MAX: i64 = 100_000;
/// Rows whose conflicts are decided in one write transaction.
const ROWS_DECIDED_AT_ONCE: i64 = 25;
impl Transaction<'_> {
    /// Decides one conflict. `own` is the device that decides.
    pub(crate) fn resolve_conflict(
        &mut self,
        id: &str,
        choice: &Choice,
        own: &DeviceKey,
    ) -> Result<(), TransactionError> {
        if let Some(number) = id.strip_prefix(NOTICE_PREFIX).and_then(|number| number.parse().ok())
        {
            return self.resolve_notice(number, id, choice);
        }
        let noted = conflicts::row_of(self.connection, id)?;
        let candidates = match noted {
            Some(row) => vec![rows::get(self.connection, row)?],
            None => rows::with_conflicts(self.connection, CONFLICTS_SEARCHED_MAX)?,
        };
        for record in candidates {
            let entity = self.entity(&record)?;
            let found = self
                .conflicts(&record)?
                .into_iter()
                .find(|conflict| ConflictId::of(&entity, conflict.kind).to_string() == id);
            if let Some(conflict) = found {
                let choice = self.as_documents_call_it(&record, choice)?;
                self.decide(&record, &conflict, &choice, own)?;
                let record = rows::get(self.connection, record.id)?;
                if self.is_still_open(&record, &conflict)? {
                    return Err(EngineError::StillOpen.into());
                }
                return Ok(());
            }
        }
        Err(EngineError::NoSuchConflict(id.to_owned()).into())
    }

    /// The choice with the names of columns that documents have.
    fn as_documents_call_it(
        &mut self,
        record: &RowRecord,
        choice: &Choice,
    ) -> Result<Choice, TransactionError> {
        let name = self.table_name(record.table)?;
        let Some(table) = self.schema.table(name.as_str()) else { return Ok(choice.clone()) };
        let fields = choice
            .fields
            .iter()
            .map(|(told, value)| (table.name_told(told).to_owned(), value.clone()))
            .collect();
        Ok(Choice { take: choice.take.clone(), fields })
    }

    /// Puts a text back that gave way here, or lets it go.
    fn resolve_notice(
        &mut self,
        number: i64,
        id: &str,
        choice: &Choice,
    ) -> Result<(), TransactionError> {
        let notice = notices::find(self.connection, number)?
            .ok_or_else(|| EngineError::NoSuchConflict(id.to_owned()))?;
        let record = rows::get(self.connection, notice.row)?;
        let choice = &self.as_documents_call_it(&record, choice)?;
        let value = match (&choice.take, choice.fields.get(&notice.column)) {
            (_, Some(value)) => Some(value.clone()),
            (Some(Take::Mine | Take::Keep), None) => None,
            (Some(Take::Theirs | Take::Device(_)), None) => self
                .document(notice.row)?
                .change(&notice.change)
                .and_then(|change| change.value(&notice.column))
                .cloned(),
            _ => {
                return Err(EngineError::NotInConflict(
                    "what was asked (a notice takes theirs, mine, or a value of its field)"
                        .to_owned(),
                )
                .into());
            }
        };
        if let Some(value) = value {
            self.write_row(notice.row, BTreeMap::from([(notice.column, value)]), None, self.now)?;
            self.project(BTreeSet::from([notice.row]))?;
        }
        notices::end(self.connection, number, self.now.unix_ms())?;
        Ok(())
    }

    /// Decides the open conflicts of the next rows after `after` alike; none when there are no
    /// more.
    pub(crate) fn resolve_some(
        &mut self,
        take: &Take,
        own: &DeviceKey,
        after: RowId,
        which: Which,
    ) -> Result<Option<Resolved>, TransactionError> {
        let choice = Choice { take: Some(take.clone()), fields: BTreeMap::new() };
        let records = rows::with_conflicts_after(self.connection, after, ROWS_DECIDED_AT_ONCE)?;
        let Some(last) = records.last().map(|record| record.id) else { return Ok(None) };
        let mut resolved = Resolved { last, decided: 0, left: Vec::new() };
        for record in records {
            for conflict in self.conflicts(&record)? {
                // An earlier decision may have ended it. A value this table refuses is no matter
                // between devices: it wants a value of its own.
                let record = rows::get(self.connection, record.id)?;
                let is_link =
                    conflict.kind == ConflictKind::Unique && self.is_link(&record, &conflict)?;
                if is_link != (which == Which::Links)
                    || conflict.kind == ConflictKind::Schema
                    || !self.conflicts(&record)?.iter().any(|open| open.kind == conflict.kind)
                {
                    continue;
                }
                match self.decide(&record, &conflict, &choice, own) {
                    Ok(())
                        if self.is_still_open(
                            &rows::get(self.connection, record.id)?,
                            &conflict,
                        )? =>
                    {
                        resolved.left.push(EngineError::StillOpen.to_string())
                    }
                    Ok(()) => resolved.decided += 1,
                    Err(TransactionError::Engine(error)) => resolved.left.push(error.to_string()),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(Some(resolved))
    }

    /// Whether the very same conflict is open still.
    fn is_still_open(
        &mut self,
        record: &RowRecord,
        conflict: &Conflict,
    ) -> Result<bool, TransactionError> {
        let names = |conflict: &Conflict| {
            conflict.fields.iter().map(|field| field.name.clone()).collect::<Vec<_>>()
        };
        let same = |open: &Conflict| {
            open.kind == conflict.kind
                && open.others == conflict.others
                && names(open) == names(conflict)
        };
        Ok(self.conflicts(record)?.iter().any(same))
    }

    /// A value somebody gave for a column, as documents hold it; references by uuid or by the id
    /// they have here.
    fn given(
        &mut self,
        record: &RowRecord,
        name: &str,
        value: &Value,
    ) -> Result<Value, TransactionError> {
        let table_name = self.table_name(record.table)?;
        let schema = std::sync::Arc::clone(&self.schema);
        let Some(column) = schema.table(table_name.as_str()).and_then(|table| table.column(name))
        else {
            return Ok(value.clone());
        };
        let unfit =
            |reason: &str| EngineError::Unfit { name: name.to_owned(), reason: reason.to_owned() };
        if value.is_null() && column.not_null {
            return Err(unfit("the app's table wants a value there").into());
        }
        if value.size_bytes() > VALUE_BYTES_MAX {
            return Err(unfit("it is too large to travel").into());
        }
        if !profile::takes(&schema, table_name.as_str(), column, value) {
            return Err(unfit("the app can't read that there").into());
        }
        let Role::Reference { table: target } = &column.role else { return Ok(value.clone()) };
        let target = self.find_table(target)?;
        let found = match (target, value) {
            (_, Value::Null) => return Ok(Value::Null),
            (Some(target), Value::Integer(id)) => rows::at_local_id(self.connection, target, *id)?,
            (Some(target), Value::Text(text)) => match SyncUuid::parse(text) {
                Some(uuid) => rows::find(self.connection, target, &uuid)?,
                None => None,
            },
            _ => None,
        };
        match found {
            Some(found) if !self.document(found.id)?.is_empty() => {
                Ok(Value::from(found.uuid.as_str()))
            }
            _ => Err(unfit("it names no row; give the sync_uuid of one").into()),
        }
    }

    pub(crate) fn decide(
        &mut self,
        record: &RowRecord,
        conflict: &Conflict,
        choice: &Choice,
        own: &DeviceKey,
    ) -> Result<(), TransactionError> {
        let named = |name: &String| {
            conflict.kind == ConflictKind::Schema
                || conflict.fields.iter().any(|field| field.name == *name)
        };
        if let Some(unknown) = choice.fields.keys().find(|name| !named(name)) {
            return Err(EngineError::NotInConflict(unknown.clone()).into());
        }
        let mut fields = BTreeMap::new();
        for (name, value) in &choice.fields {
            fields.insert(
                name.clone(),
                if name == key::DELETED_AT {
                    value.clone()
                } else {
                    self.given(record, name, value)?
                },
            );
        }
        let choice = &Choice { take: choice.take.clone(), fields };
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
            ConflictKind::Ring => return self.decide_ring(record, conflict, choice, own),
            ConflictKind::Unique => return self.decide_unique(record, conflict, choice, own),
            ConflictKind::Schema => return self.decide_schema(record, conflict, choice),
        };
        let now = self.now;
        self.write_row(record.id, puts, None, now)?;
        self.project([record.id].into())
    }

    /// A value this table refuses, or one of its own that can't travel: another value is written,
    /// what is shown here becomes the row's, or what can't travel makes room for the document's.
    fn decide_schema(
        &mut self,
        record: &RowRecord,
        conflict: &Conflict,
        choice: &Choice,
    ) -> Result<(), TransactionError> {
        let mut puts = choice.fields.clone();
        let mut record = record.clone();
        for field in conflict.fields.iter().filter(|field| !choice.fields.contains_key(&field.name))
        {
            let Some(difference) = record.differs.get(&field.name).cloned() else { continue };
            match (&choice.take, difference.kind) {
                (None, _) => {}
                (Some(Take::Theirs), DifferenceKind::Unsent) => {
                    // Said in so many words: the value that stands here only goes.
                    record.differs.remove(&field.name);
                }
                (Some(Take::Mine | Take::Keep), DifferenceKind::Unsent) => {
                    return Err(EngineError::Unfit {
                        name: field.name.clone(),
                        reason: "it is too large to travel; shorten it in the app, give another \
                            value, or take theirs"
                            .to_owned(),
                    }
                    .into());
                }
                (Some(Take::Mine | Take::Keep), _) => {
                    puts.insert(field.name.clone(), difference.shown);
                }
                (Some(_), _) => {
                    return Err(EngineError::NotInConflict(
                        "a value this table refuses".to_owned(),
                    )
                    .into());
                }
            }
        }
        for name in choice.fields.keys() {
            record.differs.remove(name);
        }
        rows::save(self.connection, &record)?;
        let now = self.now;
        if !puts.is_empty() {
            self.write_row(record.id, puts, None, now)?;
        }
        self.project([record.id].into())
    }

    /// The puts that delete a row as it was deleted before, naming the rows that are left behind by
    /// it.
    pub(crate) fn deletion_of(
        &mut self,
        id: RowId,
    ) -> Result<BTreeMap<String, Value>, TransactionError> {
        let kind = self
            .document(id)?
            .register(key::DELETE_KIND)
            .and_then(storysync_crdt::Register::winner)
            .map(|put| put.value().clone());
        let mut puts = BTreeMap::from([
            (key::DELETED_AT.to_owned(), Value::from(self.now.to_table_text())),
            (
                key::DELETE_KIND.to_owned(),
                kind.unwrap_or_else(|| Value::from(DeletionKind::Hard.as_str())),
            ),
        ]);
        puts.extend(self.left_behind(id)?.map(|left| (key::LEFT_BEHIND.to_owned(), left)));
        Ok(puts)
    }
}

/// The value of the side that is taken.
pub(crate) fn side(
    field: &FieldConflict,
    take: Option<&Take>,
    own: &DeviceKey,
) -> Result<Value, EngineError> {
    let by = |wanted: &dyn Fn(Option<&DeviceKey>) -> bool| {
        field
            .values
            .iter()
            .rfind(|value| wanted(value.device.as_ref()))
            .map(|value| value.value.clone())
    };
    match take {
        None | Some(Take::Keep) => Ok(field.shown.clone()),
        Some(Take::Mine) => {
            Ok(by(&|device| device == Some(own)).unwrap_or_else(|| field.shown.clone()))
        }
        Some(Take::Theirs) => {
            Ok(by(&|device| device != Some(own)).unwrap_or_else(|| field.shown.clone()))
        }
        Some(Take::Device(key)) => by(&|device| device == Some(key))
            .ok_or_else(|| EngineError::NotInConflict("that device".to_owned())),
        Some(Take::Delete) => Err(EngineError::NotInConflict("a deletion".to_owned())),
        Some(Take::Rename) => Err(EngineError::NotInConflict("a name that is taken".to_owned())),
    }
}

/// Whether the row of a delete/edit or orphan conflict is to go. The delete is the first of its
/// values.
fn deletes(conflict: &Conflict, choice: &Choice, own: &DeviceKey) -> Result<bool, EngineError> {
    if let Some(value) = choice.fields.get(key::DELETED_AT) {
        if !value.is_null() && value.as_text().and_then(Stamp::parse).is_none() {
            let reason =
                "it is no time; give null to keep the row, or take keep or delete".to_owned();
            return Err(EngineError::Unfit { name: key::DELETED_AT.to_owned(), reason });
        }
        return Ok(!value.is_null());
    }
    let deleter = conflict
        .fields
        .first()
        .and_then(|field| field.values.first())
        .and_then(|value| value.device);
    match &choice.take {
        Some(Take::Delete) => Ok(true),
        Some(Take::Mine) => Ok(deleter == Some(*own)),
        Some(Take::Theirs) => Ok(deleter != Some(*own)),
        Some(Take::Device(key)) => Ok(deleter == Some(*key)),
        Some(Take::Keep) | None => Ok(false),
        Some(Take::Rename) => Err(EngineError::NotInConflict("a name that is taken".to_owned())),
    }
}
