//! References between uuids in documents and local ids in the app's tables.

use super::plan::{Cell, keep_difference};
use super::{Projection, Resolved, token};
use crate::app::profile;
use crate::app::rows::{self as app_rows};
use crate::error::TransactionError;
use crate::project::contest::nobodys_id;
use crate::store::conflicts;
use crate::store::rows::{self, Difference, DifferenceKind, Differences, Parked, RowId};
use storysync_crdt::{NOWHERE, Row, SyncUuid, Value};

impl Projection<'_, '_> {
    pub(crate) fn resolve(
        &mut self,
        table: &str,
        document: &Value,
    ) -> Result<(Resolved, Option<RowId>), TransactionError> {
        let Some(uuid) =
            document.as_text().filter(|text| *text != NOWHERE).and_then(SyncUuid::parse)
        else {
            return Ok((Resolved::Nothing, None));
        };
        let Some(table) = self.find_table(table)? else { return Ok((Resolved::NotYet, None)) };
        let Some(target) = rows::find(self.connection, table, &uuid)? else {
            return Ok((Resolved::NotYet, None));
        };
        if target.parked == Some(Parked::Name)
            && let Some((winner, _)) = conflicts::stand_in(self.connection, target.id)?
        {
            // Until it is decided which of the two it shall be, the one that stays is shown.
            let winner = rows::get(self.connection, winner)?;
            if let (true, Some(id)) = (winner.present, winner.local_id) {
                return Ok((Resolved::Instead(id), Some(target.id)));
            }
            if let Some((_, id)) = self.promised.get(&winner.id) {
                return Ok((Resolved::Instead(*id), Some(target.id)));
            }
        }
        let resolved =
            match (target.present, target.local_id, self.promised.get(&target.id).copied()) {
                (true, Some(id), _) => Resolved::To(id),
                (_, _, Some((_, id))) => Resolved::To(id),
                _ if self.document(target.id)?.is_empty() || target.parked.is_some() => {
                    Resolved::NotYet
                }
                _ => Resolved::Nothing,
            };
        Ok((resolved, Some(target.id)))
    }

    /// What a reference shows; `None` when the row must wait for its target. A row that gives way
    /// in a circle stands where it was.
    pub(super) fn reference_shown(
        &mut self,
        cell: Cell<'_>,
        target_table: &str,
        merged: &Row,
        differs: &mut Differences,
    ) -> Result<Option<Value>, TransactionError> {
        let Cell { table, column, record, .. } = cell;
        let document = merged.fields.get(&column.name).cloned().unwrap_or(Value::Null);
        if let Some(held) = self.held_link(cell, target_table, &document)? {
            differs.insert(
                column.name.clone(),
                Difference::of_kind(document, held.clone(), DifferenceKind::HeldLink),
            );
            return Ok(Some(held));
        }
        if table.is_tree(column)
            && let Some(ring) = self.ring_around(record, column)?
            && ring.yielding == record.id
        {
            let shown = self.reference_to(cell, target_table, ring.way_back, differs)?;
            if let Some(shown) = &shown {
                differs.insert(
                    column.name.clone(),
                    Difference::of_kind(document, shown.clone(), DifferenceKind::Ring),
                );
            }
            return Ok(shown);
        }
        self.reference_to(cell, target_table, document, differs)
    }

    /// Where a reference leads as long as the deletion guard holds it.
    fn held_link(
        &mut self,
        Cell { column, record, .. }: Cell<'_>,
        target_table: &str,
        document: &Value,
    ) -> Result<Option<Value>, TransactionError> {
        let held = record.differs.get(&column.name).filter(|difference| {
            difference.kind == DifferenceKind::HeldLink && difference.document == *document
        });
        let Some(held) = held else { return Ok(None) };
        let Some(uuid) = self.uuid_shown(target_table, &held.shown)? else { return Ok(None) };
        Ok(match self.resolve(target_table, &uuid)? {
            (Resolved::To(id), _) => Some(Value::Integer(id)),
            _ => None,
        })
    }

    /// The local id a reference shows; `None` when the row must wait for its target.
    fn reference_to(
        &mut self,
        cell: Cell<'_>,
        target_table: &str,
        document: Value,
        differs: &mut Differences,
    ) -> Result<Option<Value>, TransactionError> {
        let Cell { column, record, now, .. } = cell;
        let is_storymaster = profile::is_storymaster(&self.schema);
        if document.is_null() {
            return Ok(Some(match keep_difference(cell, &document, differs) {
                Some(kept) => kept,
                None => empty_reference(is_storymaster, cell, &document, differs),
            }));
        }
        if let Value::Integer(sentinel) = document {
            // What the app writes for "none" means the same everywhere, unless somebody has a row
            // there.
            let schema = std::sync::Arc::clone(&self.schema);
            let is_taken = match schema.table(target_table) {
                Some(target) => {
                    app_rows::stands(self.connection, target, sentinel)? && now != Some(&document)
                }
                None => false,
            };
            return Ok(Some(if is_taken {
                empty_reference(is_storymaster, cell, &document, differs)
            } else {
                document
            }));
        }
        let (resolved, target) = self.resolve(target_table, &document)?;
        match resolved {
            Resolved::To(id) => return Ok(Some(Value::Integer(id))),
            Resolved::Instead(id) => {
                differs.insert(
                    column.name.clone(),
                    Difference::of_kind(document, Value::Integer(id), DifferenceKind::StandIn),
                );
                return Ok(Some(Value::Integer(id)));
            }
            Resolved::NotYet | Resolved::Nothing => {}
        }
        if let Some(kept) = keep_difference(cell, &document, differs) {
            return Ok(Some(kept));
        }
        // The app itself removed the target and left this row behind: its integer stays as it is.
        let is_left = target.zip(self.circumstances.departed).is_some_and(|(target, departed)| {
            departed.left_here.contains(&target) && !departed.former_ids.contains_key(&target)
        });
        let is_ring = record
            .differs
            .get(&column.name)
            .is_some_and(|difference| difference.kind == DifferenceKind::Ring);
        // And where one stands already that can't do without, it can't be taken away again: the
        // reference waits alone.
        let waits = matches!(resolved, Resolved::NotYet) && column.not_null;
        match now {
            Some(now) if waits || (is_left && !is_ring) => {
                differs.insert(column.name.clone(), Difference::new(document, token(now)));
                Ok(Some(now.clone()))
            }
            None if waits => Ok(None),
            _ => Ok(Some(empty_reference(is_storymaster, cell, &document, differs))),
        }
    }
}

/// What a reference shows that leads to no row: NULL, or a number no row has where the column
/// refuses it.
fn empty_reference(
    is_storymaster: bool,
    cell: Cell<'_>,
    document: &Value,
    differs: &mut Differences,
) -> Value {
    let Cell { table, column, record, .. } = cell;
    let keyed = table.uniques.iter().any(|unique| unique.contains(&column.name));
    let shown = match (column.not_null, keyed) {
        (false, _) => Value::Null,
        // Storymaster puts no row under 0, and other apps may.
        (true, false) if is_storymaster => Value::Integer(0),
        (true, _) => Value::Integer(nobodys_id(
            document.as_text().filter(|text| *text != NOWHERE).unwrap_or(record.uuid.as_str()),
        )),
    };
    if shown != *document {
        differs.insert(column.name.clone(), Difference::new(document.clone(), shown.clone()));
    }
    shown
}
