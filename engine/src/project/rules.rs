//! The rules that reach across rows, applied to the rows at hand: the same as
//! [`storysync_crdt::shown`] defines over all documents. And what conflicts in a row, with the
//! history of it.

use std::collections::{BTreeMap, HashSet};

use storysync_crdt::{
    ChangeHash, Conflict, ConflictId, ConflictKind, ConflictValue, Deletion, DeviceKey, Document,
    EntityId, FieldConflict, LeftBehind, Row, SyncUuid, Value, conflicts, deletion, key,
    orphan_conflict, row, unique_conflict,
};

use crate::error::TransactionError;
use crate::project::Projection;
use crate::store::conflicts::{self, Ending, NewConflict, OpenConflict};
use crate::store::holds;
use crate::store::log;
use crate::store::peers;
use crate::store::references;
use crate::store::rows::{self, DifferenceKind, Parked, RowId, RowRecord};
use crate::transaction::Transaction;
use crate::translate::to_json;
use crate::trust::identity::DeviceId;

/// Stands in a report for a value that is too large to travel.
const TOO_LARGE: &str = "(a value too large to travel; it stands in this device's table only)";

impl Projection<'_, '_> {
    /// Counts a row's conflicts and keeps their history. `record` is as it was settled.
    pub(crate) fn note_conflicts(
        &mut self,
        record: &mut RowRecord,
        before: i64,
    ) -> Result<(), TransactionError> {
        let found = self.conflicts(record)?;
        record.conflicts = i64::try_from(found.len()).unwrap_or(i64::MAX);
        if found.is_empty() && before == 0 {
            return Ok(());
        }
        let open = conflicts::open_of(self.connection, record.id)?;
        let (now_ms, now) = (self.now.unix_ms(), self.now.to_table_text());
        let entity = self.entity(record)?;
        let own = self.actor.device();
        for conflict in found
            .iter()
            .filter(|conflict| !open.iter().any(|noted| noted.kind == conflict.kind.as_str()))
        {
            let (mine, theirs) = sides(conflict, own.as_ref());
            let new = NewConflict {
                conflict_id: &ConflictId::of(&entity, conflict.kind).to_string(),
                row: record.id,
                kind: conflict.kind.as_str(),
                table: entity.table.as_str(),
                uuid: entity.uuid.as_str(),
                mine: serde_json::Value::Object(mine).to_string(),
                theirs: serde_json::Value::Object(theirs).to_string(),
                version: record.version,
                source: self.circumstances.source.as_str(),
            };
            conflicts::note(self.connection, &new, now_ms, &now)?;
        }
        for noted in open
            .iter()
            .filter(|noted| !found.iter().any(|conflict| conflict.kind.as_str() == noted.kind))
        {
            let (ending, by) = self.how_it_ended(record, noted)?;
            let by = by.map(|key| DeviceId::of_key(&key).to_string());
            conflicts::end(self.connection, noted, ending, by.as_deref(), now_ms, &now)?;
        }
        Ok(())
    }
}

impl Transaction<'_> {
    /// What the tables show of a row: its document, unless others require it or the deletion guard
    /// holds it.
    pub(crate) fn shown_row(&mut self, id: RowId) -> Result<Row, TransactionError> {
        let deletion = self.shown_deletion(id)?;
        Ok(Row { deletion, ..row(self.document(id)?) })
    }

    /// The deletion the tables show of a row: [`Self::shown_row`] without its columns.
    pub(crate) fn shown_deletion(
        &mut self,
        id: RowId,
    ) -> Result<Option<Deletion>, TransactionError> {
        let deleted = deletion(self.document(id)?);
        if deleted.is_some()
            && (holds::is_held(self.connection, id)?
                || self.holds_unsent(id)?
                || self.is_needed(id)?)
        {
            return Ok(None);
        }
        Ok(deleted)
    }

    /// Whether the row holds, here, a value that could not travel: others who deleted it never saw
    /// that.
    fn holds_unsent(&mut self, id: RowId) -> Result<bool, TransactionError> {
        let record = rows::get(self.connection, id)?;
        if !record.present || !has_unsent(&record) {
            return Ok(false);
        }
        let own = self.actor.device();
        let document = self.document(id)?;
        let deletes = document
            .register(key::DELETED_AT)
            .into_iter()
            .flat_map(storysync_crdt::Register::visible)
            .filter(|put| !put.value().is_null());
        let mut writers = deletes
            .filter_map(|put| document.changes().get(put.change))
            .map(|change| change.actor().device());
        Ok(!writers.any(|writer| writer == own))
    }

    /// Whether a live row requires this deleted one, or one that requires it, unknown to whoever
    /// deleted it.
    fn is_needed(&mut self, id: RowId) -> Result<bool, TransactionError> {
        let mut seen = HashSet::from([id]);
        let mut looking = vec![id];
        while let Some(parent) = looking.pop() {
            let left = LeftBehind::of(self.document(parent)?);
            for (child, column) in references::referrers_by_column(self.connection, parent)? {
                let record = rows::get(self.connection, child)?;
                let entity = self.entity(&record)?;
                if is_plainly_left(&left, &record, &entity) || !self.requires(child, &column)? {
                    continue;
                }
                let document = self.document(child)?;
                if deletion(document).is_none() {
                    if !left.knew(&entity, document, &column) {
                        return Ok(true);
                    }
                } else if seen.insert(child) {
                    looking.push(child);
                }
            }
        }
        Ok(false)
    }

    /// The rows that require a deleted one: live and not left behind knowingly, or kept themselves.
    pub(crate) fn requirers(&mut self, id: RowId) -> Result<Vec<RowId>, TransactionError> {
        let mut found = Vec::new();
        let left = LeftBehind::of(self.document(id)?);
        for (child, column) in references::referrers_by_column(self.connection, id)? {
            let record = rows::get(self.connection, child)?;
            let entity = self.entity(&record)?;
            if is_plainly_left(&left, &record, &entity)
                || !self.requires(child, &column)?
                || found.contains(&child)
            {
                continue;
            }
            let document = self.document(child)?;
            let requires = if deletion(document).is_none() {
                !left.knew(&entity, document, &column)
            } else {
                self.is_needed(child)?
            };
            if requires {
                found.push(child);
            }
        }
        Ok(found)
    }

    /// Whether a row can't stand without what its column refers to.
    fn requires(&mut self, child: RowId, column: &str) -> Result<bool, TransactionError> {
        let record = rows::get(self.connection, child)?;
        let name = self.table_name(record.table)?;
        let required = self
            .schema
            .table(name.as_str())
            .and_then(|table| table.column(column))
            .is_some_and(|column| column.not_null);
        Ok(required && !self.document(child)?.is_empty())
    }

    /// Everything that conflicts in a row.
    pub(crate) fn conflicts(
        &mut self,
        record: &RowRecord,
    ) -> Result<Vec<Conflict>, TransactionError> {
        let mut found = conflicts(self.document(record.id)?);
        if deletion(self.document(record.id)?).is_some() {
            let requirers = self.requirers(record.id)?;
            if !requirers.is_empty() {
                let mut children = Vec::new();
                for child in requirers {
                    children.push((
                        self.entity(&rows::get(self.connection, child)?)?,
                        self.document(child)?.clone(),
                    ));
                }
                children.sort_by(|(a, _), (b, _)| a.cmp(b));
                let children: Vec<(&EntityId, &Document)> =
                    children.iter().map(|(id, document)| (id, document)).collect();
                found.extend(orphan_conflict(self.document(record.id)?, &children));
            }
        }
        if record.parked == Some(Parked::Name)
            && let Some((winner, columns)) = conflicts::stand_in(self.connection, record.id)?
        {
            let entity = self.entity(&rows::get(self.connection, winner)?)?;
            if self.are_twins(record.id, winner)? {
                // Made alike on two devices: nobody need be asked.
            } else if let [Some(waiting), Some(winning)] = self.documents_of([record.id, winner])? {
                found.push(unique_conflict(waiting, &entity, winning, &columns));
            }
        }
        found.extend(self.ring_conflict(record)?);
        found.extend(self.schema_conflict(record)?);
        for value in found
            .iter_mut()
            .flat_map(|conflict| &mut conflict.fields)
            .flat_map(|field| &mut field.values)
        {
            if let (None, Some(change)) = (value.device, value.change) {
                value.device = self.brought_by(&change)?;
            }
        }
        Ok(found)
    }

    /// Whose a value is that was there before storysync: no change says so, but the file it stood
    /// in is this device's, or that of the device which brought it.
    fn brought_by(&mut self, change: &ChangeHash) -> Result<Option<DeviceKey>, TransactionError> {
        if !log::contains(self.connection, change)? {
            return Ok(None);
        }
        Ok(match log::sender(self.connection, change)? {
            None => self.actor.device(),
            Some(peer) => peers::device_id(self.connection, peer)?
                .as_deref()
                .and_then(DeviceId::parse)
                .and_then(|id| id.key()),
        })
    }

    /// What a row would show that its table refuses whole: the columns SQLite's reason names, else
    /// all that say something.
    fn refused_fields(
        &mut self,
        record: &RowRecord,
    ) -> Result<Vec<FieldConflict>, TransactionError> {
        let reason = conflicts::refusal(self.connection, record.id)?.unwrap_or_default();
        let names: HashSet<&str> =
            reason.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        let document = self.document(record.id)?;
        let shown: Vec<(String, Value)> =
            row(document).fields.into_iter().filter(|(_, value)| !value.is_null()).collect();
        let is_named = shown.iter().any(|(name, _)| names.contains(name.as_str()));
        let fields =
            shown.into_iter().filter(|(name, _)| !is_named || names.contains(name.as_str()));
        Ok(fields
            .map(|(name, value)| {
                let put = document.register(&name).and_then(|register| register.winner());
                let change = put.and_then(|put| document.changes().get(put.change));
                let told = ConflictValue {
                    value,
                    device: change.and_then(|change| change.actor().device()),
                    at: change
                        .and_then(|change| change.value(key::UPDATED_AT))
                        .and_then(Value::as_text)
                        .and_then(storysync_crdt::Stamp::parse),
                    change: change.map(storysync_crdt::Change::hash),
                };
                FieldConflict { name, base: Value::Null, values: vec![told], shown: Value::Null }
            })
            .collect())
    }

    /// Whether a row says the same in everything as the one that stands in its place.
    pub(crate) fn are_twins(
        &mut self,
        waiting: RowId,
        winner: RowId,
    ) -> Result<bool, TransactionError> {
        let table = self.table_name(rows::get(self.connection, waiting)?.table)?;
        let references: Vec<(String, String)> = match self.schema.table(table.as_str()) {
            Some(table) => table
                .references()
                .map(|(column, target)| (column.name.clone(), target.to_owned()))
                .collect(),
            None => Vec::new(),
        };
        let (one, other) = (row(self.document(waiting)?), row(self.document(winner)?));
        let mut stands = BTreeMap::new();
        for (column, target) in references {
            let Some(target) = self.find_table(&target)? else { continue };
            for uuid in [&one, &other]
                .into_iter()
                .filter_map(|row| row.fields.get(&column))
                .filter_map(|value| value.as_text().and_then(SyncUuid::parse))
            {
                let Some(referred) = rows::find(self.connection, target, &uuid)?
                    .filter(|referred| referred.parked == Some(Parked::Name))
                else {
                    continue;
                };
                if let Some((winner, _)) = conflicts::stand_in(self.connection, referred.id)? {
                    stands.insert((column.clone(), uuid), rows::get(self.connection, winner)?.uuid);
                }
            }
        }
        Ok(storysync_crdt::are_twins(&one, &other, |column, uuid| {
            stands.get(&(column.to_owned(), uuid.clone())).cloned()
        }))
    }

    fn schema_conflict(
        &mut self,
        record: &RowRecord,
    ) -> Result<Option<Conflict>, TransactionError> {
        let own = self.actor.device();
        let document = self.document(record.id)?;
        let fields: Vec<FieldConflict> = record
            .differs
            .iter()
            .filter(|(_, difference)| difference.is_conflict())
            .map(|(name, difference)| {
                let written = document.register(name).and_then(|register| register.winner());
                let change = written.and_then(|put| document.changes().get(put.change));
                let told = ConflictValue {
                    value: difference.document.clone(),
                    device: change.and_then(|change| change.actor().device()),
                    at: change
                        .and_then(|change| change.value(key::UPDATED_AT))
                        .and_then(Value::as_text)
                        .and_then(storysync_crdt::Stamp::parse),
                    change: change.map(storysync_crdt::Change::hash),
                };
                let value = match difference.kind {
                    DifferenceKind::Unsent => Value::from(TOO_LARGE),
                    _ => difference.shown.clone(),
                };
                let shown =
                    ConflictValue { value: value.clone(), device: own, at: None, change: None };
                FieldConflict {
                    name: name.clone(),
                    base: Value::Null,
                    values: vec![told, shown],
                    shown: value,
                }
            })
            .collect();
        let refused = record.parked == Some(Parked::Refused);
        let fields =
            if refused && fields.is_empty() { self.refused_fields(record)? } else { fields };
        Ok((refused || !fields.is_empty()).then_some(Conflict {
            kind: ConflictKind::Schema,
            fields,
            others: Vec::new(),
        }))
    }

    /// Whose change ended a conflict: the newest that wrote what conflicted.
    fn how_it_ended(
        &mut self,
        record: &RowRecord,
        conflict: &OpenConflict,
    ) -> Result<(Ending, Option<DeviceKey>), TransactionError> {
        let mut children_left = false;
        for (child, column) in if conflict.kind == ConflictKind::Orphan.as_str() {
            references::referrers_by_column(self.connection, record.id)?
        } else {
            Vec::new()
        } {
            if self.requires(child, &column)? && deletion(self.document(child)?).is_none() {
                children_left = true;
                break;
            }
        }
        let document = self.document(record.id)?;
        let deleted = deletion(document).is_some();
        let writer = |name: &str| {
            let put = document.register(name).and_then(|register| register.winner());
            put.and_then(|put| document.changes().get(put.change))
                .and_then(|change| change.actor().device())
        };
        let newest = || document.changes().last().and_then(|change| change.actor().device());
        Ok(match conflict.kind.as_str() {
            "field" if deleted => (Ending::Superseded, writer(key::DELETED_AT)),
            "delete_edit" => (Ending::Resolved, writer(key::DELETED_AT)),
            // Nobody decided: what required the row went, or refers to another.
            "orphan" if deleted && !children_left => (Ending::Superseded, None),
            "orphan" => (Ending::Resolved, writer(key::DELETED_AT)),
            _ => (Ending::Resolved, newest()),
        })
    }
}

/// Whether a row stands and was named by the deletion of what it refers to: most rows left behind
/// are, and their documents need not be read.
fn is_plainly_left(left: &LeftBehind, record: &RowRecord, entity: &EntityId) -> bool {
    record.present && record.conflicts == 0 && left.names(entity)
}

/// Whether a row holds, here, a value that could not travel.
pub(crate) fn has_unsent(record: &RowRecord) -> bool {
    record.differs.values().any(|difference| difference.kind == DifferenceKind::Unsent)
}

/// A conflict as the documented line has it: what this device wrote, or is shown, and what others
/// wrote.
fn sides(
    conflict: &Conflict,
    own: Option<&DeviceKey>,
) -> (serde_json::Map<String, serde_json::Value>, serde_json::Map<String, serde_json::Value>) {
    let mut mine = serde_json::Map::new();
    let mut theirs = serde_json::Map::new();
    for field in &conflict.fields {
        let by = |wanted: bool| {
            field
                .values
                .iter()
                .rfind(|value| (value.device.as_ref() == own) == wanted)
                .map(|value| &value.value)
        };
        mine.insert(field.name.clone(), to_json(by(true).unwrap_or(&field.shown)));
        theirs.insert(field.name.clone(), to_json(by(false).unwrap_or(&field.shown)));
    }
    (mine, theirs)
}
