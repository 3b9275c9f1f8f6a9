//! Circles in a tree: found around the rows at hand, shown with the row that gives way where it was
//! before, and decided. The rules are those of [`storysync_crdt::shown`]; nothing here says which
//! row gives way.

use std::collections::BTreeMap;

use storysync_crdt::{
    Conflict, ConflictKind, DeviceKey, EntityId, Move, Value, field, gives_way, leads_to, moved,
    ring, ring_conflict, stands, way_back,
};

use crate::app::schema::{Column, Table};
use crate::decide::resolve::{Choice, Take, side};
use crate::error::{EngineError, TransactionError};
use crate::project::Projection;
use crate::store::conflicts;
use crate::store::references;
use crate::store::rows::{self, DifferenceKind, RowId, RowRecord};
use crate::transaction::Transaction;

/// A circle of moves made on several devices.
#[derive(Debug)]
pub(crate) struct Ring {
    /// The row that gives way.
    pub(crate) yielding: RowId,
    /// Where it stands meanwhile, as documents say it.
    pub(crate) way_back: Value,
    /// The row whose move counts, and the move.
    counting: (EntityId, Move),
    /// The other rows, from the one that gives way up.
    others: Vec<EntityId>,
}

impl Projection<'_, '_> {
    /// A row came, went or moved: another one may have to give way now, or no longer.
    pub(crate) fn project_rings(
        &mut self,
        table: &Table,
        before: &RowRecord,
        record: &RowRecord,
    ) -> Result<(), TransactionError> {
        let mut is_tree = false;
        for column in table.columns.iter().filter(|column| table.is_tree(column)) {
            is_tree = true;
            if let Some(ring) = self.ring_around(before, column)?
                && ring.yielding != record.id
                && self.ringed.insert(ring.yielding)
            {
                self.waiting.insert(ring.yielding);
            }
        }
        if is_tree && self.unringed.insert(record.table) {
            self.waiting.extend(
                conflicts::open_in_table(
                    self.connection,
                    record.table,
                    ConflictKind::Ring.as_str(),
                )?
                .into_iter()
                .filter(|row| *row != record.id),
            );
        }
        Ok(())
    }
}

impl Transaction<'_> {
    /// The circle a row is in, by what the documents say.
    pub(crate) fn ring_around(
        &mut self,
        record: &RowRecord,
        column: &Column,
    ) -> Result<Option<Ring>, TransactionError> {
        let is_inner = moved(self.document(record.id)?, &column.name).is_some()
            || (!record.present && !references::referrers(self.connection, record.id)?.is_empty());
        if !is_inner || !stands(self.shown_deletion(record.id)?.as_ref()) {
            return Ok(None);
        }
        let start = self.entity(record)?;
        let Some(mut members) = ring(&start, |id| self.up(id, column))? else { return Ok(None) };
        let mut moves = Vec::with_capacity(members.len());
        for member in &members {
            moves.push(match self.row_of(member)? {
                Some(row) => moved(self.document(row)?, &column.name),
                None => None,
            });
        }
        let Some((yields, counts)) = gives_way(&moves) else { return Ok(None) };
        let (Some(entity), Some(rival), Some(counting)) = (
            members.get(yields).cloned(),
            members.get(counts).cloned(),
            moves.into_iter().nth(counts).flatten(),
        ) else {
            return Ok(None);
        };
        let Some(yielding) = self.row_of(&entity)? else { return Ok(None) };
        let Some(way_back) = self.way_back(&entity, yielding, column)? else { return Ok(None) };
        members.rotate_left(yields);
        members.remove(0);
        Ok(Some(Ring { yielding, way_back, counting: (rival, counting), others: members }))
    }

    /// The row a row leads to, when both stand.
    fn up(&mut self, id: &EntityId, column: &Column) -> Result<Option<EntityId>, TransactionError> {
        let Some(row) = self.row_of(id)? else { return Ok(None) };
        let Some(target) =
            field(self.document(row)?, &column.name).and_then(|value| leads_to(&id.table, &value))
        else {
            return Ok(None);
        };
        Ok(self.is_standing(&target)?.then_some(target))
    }

    fn is_standing(&mut self, id: &EntityId) -> Result<bool, TransactionError> {
        let Some(row) = self.row_of(id)? else { return Ok(false) };
        Ok(!self.document(row)?.is_empty() && stands(self.shown_deletion(row)?.as_ref()))
    }

    fn way_back(
        &mut self,
        entity: &EntityId,
        row: RowId,
        column: &Column,
    ) -> Result<Option<Value>, TransactionError> {
        let document = self.document(row)?.clone();
        // Both questions go to the same documents, one after the other.
        let cell = std::cell::RefCell::new(self);
        way_back(
            entity,
            &document,
            &column.name,
            column.not_null,
            |target| cell.borrow_mut().is_standing(target),
            |id| cell.borrow_mut().up(id, column),
        )
    }

    fn row_of(&mut self, id: &EntityId) -> Result<Option<RowId>, TransactionError> {
        let Some(table) = self.find_table(id.table.as_str())? else { return Ok(None) };
        Ok(rows::find(self.connection, table, &id.uuid)?.map(|record| record.id))
    }

    /// What conflicts in a row that gives way. `record` is as it was settled.
    pub(crate) fn ring_conflict(
        &mut self,
        record: &RowRecord,
    ) -> Result<Option<Conflict>, TransactionError> {
        let yielding: Vec<String> = record
            .differs
            .iter()
            .filter(|(_, difference)| difference.kind == DifferenceKind::Ring)
            .map(|(name, _)| name.clone())
            .collect();
        if yielding.is_empty() || !record.present {
            return Ok(None);
        }
        let mut conflict =
            Conflict { kind: ConflictKind::Ring, fields: Vec::new(), others: Vec::new() };
        for name in yielding {
            let Some(ring) = self.ring_in(record, &name)? else { continue };
            conflict.fields.push(ring_conflict(
                &name,
                self.document(record.id)?,
                &ring.way_back,
                &ring.counting.1,
            ));
            conflict.others.extend(ring.others);
        }
        Ok((!conflict.fields.is_empty()).then_some(conflict))
    }

    fn ring_in(
        &mut self,
        record: &RowRecord,
        column: &str,
    ) -> Result<Option<Ring>, TransactionError> {
        let name = self.table_name(record.table)?;
        let schema = std::sync::Arc::clone(&self.schema);
        let Some(column) = schema.table(name.as_str()).and_then(|table| table.column(column))
        else {
            return Ok(None);
        };
        Ok(self.ring_around(record, column)?.filter(|ring| ring.yielding == record.id))
    }

    /// Decides where the row that gives way stands. Where it was put in vain, the row whose move
    /// counted goes back in its turn.
    pub(crate) fn decide_ring(
        &mut self,
        record: &RowRecord,
        conflict: &Conflict,
        choice: &Choice,
        own: &DeviceKey,
    ) -> Result<(), TransactionError> {
        let now = self.now;
        let mut puts = BTreeMap::new();
        let mut settled = std::collections::BTreeSet::from([record.id]);
        for field in &conflict.fields {
            let chosen = match (choice.fields.get(&field.name), &choice.take) {
                (Some(given), _) => given.clone(),
                (None, None | Some(Take::Keep)) => field.shown.clone(),
                (None, Some(Take::Delete | Take::Rename)) => {
                    return Err(EngineError::NotInConflict(
                        "what was asked (a circle takes mine, \
                        theirs, keep, or a value of its field)"
                            .to_owned(),
                    )
                    .into());
                }
                (None, take) => side(field, take.as_ref(), own)?,
            };
            let wanted = field.values.first().map(|value| &value.value);
            if Some(&chosen) == wanted
                && let Some(ring) = self.ring_in(record, &field.name)?
                && let Some(rival) = self.row_of(&ring.counting.0)?
            {
                let name = self.table_name(record.table)?;
                let schema = std::sync::Arc::clone(&self.schema);
                let Some(column) =
                    schema.table(name.as_str()).and_then(|table| table.column(&field.name))
                else {
                    continue;
                };
                let Some(back) = self.way_back(&ring.counting.0, rival, column)? else {
                    let reason =
                        "the other row has no other place to go to; move one of them in the app"
                            .to_owned();
                    return Err(EngineError::Unfit { name: field.name.clone(), reason }.into());
                };
                self.write_row(rival, BTreeMap::from([(field.name.clone(), back)]), None, now)?;
                settled.insert(rival);
            }
            puts.insert(field.name.clone(), chosen);
        }
        self.write_row(record.id, puts, None, now)?;
        self.project(settled)
    }
}
