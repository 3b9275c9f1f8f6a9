//! Writes one row as the plan says, or leaves out what the app's table refuses, and notes in what
//! it differs from its document.

use super::plan::{Cell, RowPlan};
use super::{Projection, known_stamp, token};
use crate::app::rows::{self as app_rows, StoredRow};
use crate::app::schema::{Affinity, Column, Role, Table};
use crate::error::TransactionError;
use crate::project::contest::{Contest, nobodys_id, unique_keys};
use crate::project::fitting::{Put, is_constraint, note_refused};
use crate::project::rules::has_unsent;
use crate::store::conflicts;
use crate::store::references;
use crate::store::rows::{self, Difference, Differences, Parked, RowId, RowRecord};
use crate::transaction::Transaction;
use std::collections::BTreeMap;
use storysync_crdt::{Row, UNKNOWN_STAMP, Value};

/// What came of writing a row.
enum Fate {
    Put(Put),
    /// This row stays, and has these columns alike.
    Behind(RowId, Vec<String>),
}

impl Projection<'_, '_> {
    pub(super) fn remove(
        &mut self,
        table: &Table,
        record: &mut RowRecord,
    ) -> Result<(), TransactionError> {
        if record.present {
            if let Some(id) = record.local_id {
                match self.delete_row(table, id) {
                    Ok(()) => self.has_moved = true,
                    Err(TransactionError::Sqlite(error))
                        if is_constraint(&error) && !self.connection.is_autocommit() =>
                    {
                        // A trigger of the app's keeps it, perhaps until what refers to it is gone.
                        // Everything else goes on. Not the error: what a trigger says may quote the
                        // row.
                        tracing::warn!(
                            table = table.name(),
                            "a row that was deleted elsewhere is kept by the app's table"
                        );
                        record.parked = Some(Parked::Refused);
                        self.refused_removals.insert(record.id);
                        return Ok(());
                    }
                    Err(error) => return Err(error),
                }
            }
            record.present = false;
        }
        record.parked = None;
        record.differs.clear();
        self.release_held(record.id)?;
        Ok(())
    }

    /// Makes the app's table show a row: plans what its columns show, asks the rules across rows,
    /// and writes it, or leaves it waiting.
    pub(super) fn write(
        &mut self,
        table: &Table,
        record: &mut RowRecord,
        merged: &Row,
    ) -> Result<(), TransactionError> {
        let Some(mut plan) = self.plan_row(table, record, merged)? else {
            record.parked = Some(Parked::Parent);
            return Ok(());
        };
        if table.has_uniques()
            && let Some((winner, columns)) = self.hold_uniques(table, record, merged, &mut plan)?
        {
            return self.wait_behind(table, record, plan, (winner, &columns));
        }
        record.parked = None;
        self.refusal = None;
        let put = match self.put_by_rules(table, record, merged, &mut plan)? {
            Fate::Put(put) => put,
            Fate::Behind(winner, columns) => {
                self.refusal = None;
                return self.wait_behind(table, record, plan, (winner, &columns));
            }
        };
        match self.refusal.take() {
            Some(reason) => conflicts::set_refusal(self.connection, record.id, Some(&reason))?,
            None if record.conflicts > 0 => {
                conflicts::set_refusal(self.connection, record.id, None)?
            }
            None => {}
        }
        if put != Put::Done {
            record.parked = Some(Parked::Refused);
            return self.take_aside(table, record, plan);
        }
        self.note_standing(table, record, merged, plan)
    }

    /// What each column of a row shows; `None` when the row must wait for one it refers to.
    fn plan_row(
        &mut self,
        table: &Table,
        record: &mut RowRecord,
        merged: &Row,
    ) -> Result<Option<RowPlan>, TransactionError> {
        let stored = match record.local_id {
            Some(id) if record.present => app_rows::by_local_id(self.connection, table, id)?,
            _ => None,
        };
        record.present = stored.is_some();
        // What the app had there, before we took its unique values out of the way.
        let aside = self.set_aside.get(&record.id).cloned();
        let current = aside.as_ref().or(stored.as_ref());
        let local_id = match (current, self.promised.get(&record.id)) {
            (Some(current), _) if stored.is_some() => current.local_id,
            (_, Some((_, promised))) => *promised,
            (_, None) => self.free_id(table, record)?,
        };
        // Promised before references are resolved, so that rows which need each other find each
        // other.
        self.promised.insert(record.id, (record.table, local_id));
        let mut differs = Differences::new();
        let mut desired: Vec<Value> = Vec::with_capacity(table.columns.len());
        for (position, column) in table.columns.iter().enumerate() {
            let now = current.and_then(|current| current.values.get(position));
            let cell = Cell { table, column, record, now };
            let value = match &column.role {
                Role::LocalId => continue,
                Role::SyncUuid => Value::from(record.uuid.as_str()),
                Role::Version => Value::Integer(merged.version),
                Role::DeletedAt => {
                    merged.deletion.as_ref().map_or(Value::Null, |deletion| deletion.at.clone())
                }
                Role::CreatedAt => time_shown(cell, &merged.created_at, &mut differs),
                Role::UpdatedAt => time_shown(cell, &merged.updated_at, &mut differs),
                Role::Local => local_shown(cell, merged, &mut differs),
                Role::Field => self.field_shown(cell, merged, &mut differs)?,
                Role::Reference { table: target } => {
                    match self.reference_shown(cell, target, merged, &mut differs)? {
                        Some(value) => value,
                        None => return Ok(None),
                    }
                }
            };
            desired.push(value);
        }
        Ok(Some(RowPlan { local_id, stored, desired, differs }))
    }

    /// Asks whether a row may take its unique values; the row that stays in its place where not.
    fn hold_uniques(
        &mut self,
        table: &Table,
        record: &RowRecord,
        merged: &Row,
        plan: &mut RowPlan,
    ) -> Result<Option<(RowId, Vec<String>)>, TransactionError> {
        let contested = |column: &Column| table.is_contested(&column.name);
        let contest = self.contest(table, record, plan)?;
        if let (Contest::Behind(..), Some(stored), true) =
            (&contest, &plan.stored, has_unsent(record))
        {
            // It holds what is nowhere else: it stays under the name it has.
            for ((column, standing), desired) in stored.columns(table).zip(plan.desired.iter_mut())
            {
                if contested(column) && desired != standing {
                    note_refused(column, merged, standing, &mut plan.differs);
                    *desired = standing.clone();
                }
            }
        } else if let Contest::Behind(winner, columns) = contest {
            return Ok(Some((winner, columns)));
        }
        let current = self.set_aside.get(&record.id).or(plan.stored.as_ref());
        let frees = current.is_some_and(|current| {
            current
                .columns(table)
                .zip(&plan.desired)
                .any(|((column, now), desired)| contested(column) && now != desired)
        });
        if frees {
            self.retry_behind(record.id)?;
        }
        self.retry_contesting(table, record.id, &plan.desired)?;
        Ok(None)
    }

    /// Writes the planned values; where they are taken by a rule only SQLite can judge, asks it who
    /// stands in the way.
    fn put_by_rules(
        &mut self,
        table: &Table,
        record: &RowRecord,
        merged: &Row,
        plan: &mut RowPlan,
    ) -> Result<Fate, TransactionError> {
        // A table that settles conflicts by itself says nothing when it does: its rules are asked
        // first.
        let asks_first = table.settles_conflicts && !table.rules.is_empty();
        if !asks_first {
            let put = self.put(table, record, merged, plan)?;
            if put != Put::Taken {
                return Ok(Fate::Put(put));
            }
        }
        match self.contest_by_rule(table, record, plan)? {
            Some(Contest::Behind(winner, columns)) => Ok(Fate::Behind(winner, columns)),
            None if !asks_first => Ok(Fate::Put(Put::Taken)),
            Some(Contest::Free) | None => {
                self.refusal = None;
                Ok(Fate::Put(self.put(table, record, merged, plan)?))
            }
        }
    }

    /// The planned values stand in the table.
    fn note_standing(
        &mut self,
        table: &Table,
        record: &mut RowRecord,
        merged: &Row,
        plan: RowPlan,
    ) -> Result<(), TransactionError> {
        let RowPlan { local_id, stored, desired, mut differs } = plan;
        if stored.as_ref().is_none_or(|stored| stored.values != desired) {
            self.has_moved = true;
            self.retry_refused(record)?;
        }
        let is_converted = |(column, value): (&Column, &Value)| !is_natural(column.affinity, value);
        if table.columns.iter().zip(&desired).any(is_converted) {
            note_conversions(self.connection, table, local_id, &desired, merged, &mut differs)?;
        }
        if stored.is_none() {
            rows::raise_high_id(self.connection, record.table, local_id)?;
        }
        record.local_id = Some(local_id);
        record.present = true;
        record.differs = differs;
        Ok(())
    }

    /// Takes what stands of a row out of its table; what the app had there is remembered.
    fn take_aside(
        &mut self,
        table: &Table,
        record: &mut RowRecord,
        plan: RowPlan,
    ) -> Result<(), TransactionError> {
        if let Some(stored) = plan.stored {
            self.delete_row(table, plan.local_id)?;
            self.set_aside.entry(record.id).or_insert(stored);
            record.local_id = Some(plan.local_id);
            record.present = false;
        }
        Ok(())
    }

    /// Another row has the same unique values and stays: this one waits out of its table.
    fn wait_behind(
        &mut self,
        table: &Table,
        record: &mut RowRecord,
        plan: RowPlan,
        (winner, columns): (RowId, &[String]),
    ) -> Result<(), TransactionError> {
        let keys = unique_keys(table, &plan.desired);
        let stood = plan.stored.is_some();
        self.take_aside(table, record, plan)?;
        if stood {
            self.retry_behind(record.id)?;
        }
        record.present = false;
        record.parked = Some(Parked::Name);
        conflicts::set_stand_in(self.connection, record.id, Some((winner, columns)))?;
        conflicts::set_waiting_keys(self.connection, record.id, &keys)?;
        Ok(())
    }

    /// The id a row had, when nobody stands there; else one above every id ever seen in, or
    /// referred to, in its table: SQLite hands out the ids of deleted rows again, and we must not.
    pub(super) fn free_id(
        &mut self,
        table: &Table,
        record: &RowRecord,
    ) -> Result<i64, TransactionError> {
        if let Some(id) = record.local_id
            && !self.promised.values().any(|promised| *promised == (record.table, id))
            && app_rows::by_local_id(self.connection, table, id)?.is_none()
            && rows::at_local_id(self.connection, record.table, id)?.is_none()
            && !references::is_dangling(self.connection, record.table, id)?
        {
            return Ok(id);
        }
        if let Some(id) =
            self.circumstances.set_aside_ids.remove(&(record.table, record.uuid.clone()))
            && record.local_id.is_none()
            && app_rows::by_local_id(self.connection, table, id)?.is_none()
        {
            return Ok(id);
        }
        let promised = self
            .promised
            .values()
            .filter(|(table, _)| *table == record.table)
            .map(|(_, id)| *id)
            .max()
            .unwrap_or(0);
        let high = rows::high_id(self.connection, record.table)?
            .max(app_rows::highest_local_id(self.connection, table)?)
            .max(promised);
        if let Some(id) = high.checked_add(1) {
            return Ok(id);
        }
        // The largest there is, is taken. SQLite itself tries others at random then; ours follow
        // from the row's name.
        let mut id = -nobodys_id(record.uuid.as_str());
        while app_rows::stands(self.connection, table, id)?
            || rows::at_local_id(self.connection, record.table, id)?.is_some()
            || !rows::formerly_at(self.connection, record.table, id)?.is_empty()
            || references::is_dangling(self.connection, record.table, id)?
            || self.promised.values().any(|promised| *promised == (record.table, id))
        {
            id -= 1;
        }
        Ok(id)
    }
}

impl Transaction<'_> {
    pub(crate) fn insert(
        &mut self,
        table: &Table,
        local_id: i64,
        desired: &[Value],
    ) -> Result<(), TransactionError> {
        let values: BTreeMap<String, Value> = table
            .columns
            .iter()
            .zip(desired)
            .map(|(column, value)| (column.name.clone(), value.clone()))
            .collect();
        self.insert_row(table, local_id, &values)
    }

    pub(crate) fn update(
        &mut self,
        table: &Table,
        current: &StoredRow,
        desired: &[Value],
    ) -> Result<(), TransactionError> {
        let changed: BTreeMap<String, Value> = table
            .columns
            .iter()
            .zip(desired.iter().zip(&current.values))
            .filter(|(_, (desired, current))| desired != current)
            .map(|(column, (desired, _))| (column.name.clone(), desired.clone()))
            .collect();
        self.update_columns(table, current.local_id, &changed)
    }
}

/// A time of the row. Where no document knows it: what stands in the table, else what stood there
/// before.
fn time_shown(cell: Cell<'_>, document: &Value, differs: &mut Differences) -> Value {
    let Cell { column, record, now, .. } = cell;
    if known_stamp(document).is_some() {
        return document.clone();
    }
    if let Some(told) = record.differs.get(&column.name) {
        differs.insert(column.name.clone(), told.clone());
    }
    match now.filter(|now| !now.is_null()) {
        Some(now) => now.clone(),
        None => unknown_time(column, &record.differs),
    }
}

/// What a table shows for a time no document knows: what the sender's table said, the time the old
/// scripts gave every row of a file (which says as little), or the epoch.
pub(crate) fn unknown_time(column: &Column, differs: &Differences) -> Value {
    match differs.get(&column.name) {
        Some(told) => told.shown.clone(),
        None => column.baked_default().map_or_else(|| Value::from(UNKNOWN_STAMP), Value::from),
    }
}

/// What a reference to a row of a table that is left alone here shows: what this file's app wrote
/// there.
fn local_shown(cell: Cell<'_>, merged: &Row, differs: &mut Differences) -> Value {
    let Cell { column, record, now, .. } = cell;
    let document = merged.fields.get(&column.name).cloned().unwrap_or(Value::Null);
    let shown = match now {
        Some(now) => now.clone(),
        None if column.not_null => Value::Integer(nobodys_id(record.uuid.as_str())),
        None => Value::Null,
    };
    if shown != document {
        differs.insert(column.name.clone(), Difference::new(document, token(&shown)));
    }
    shown
}

/// Whether a column stores a value without converting it. SQLite reads numbers in text with blanks
/// around them, too ("Column Affinity", `applyNumericAffinity`).
pub(crate) fn is_natural(affinity: Affinity, value: &Value) -> bool {
    match value {
        Value::Null | Value::Blob(_) => true,
        Value::Integer(_) => !matches!(affinity, Affinity::Text | Affinity::Real),
        Value::Real(_) => matches!(affinity, Affinity::Real | Affinity::Blob),
        Value::Text(_) => {
            matches!(affinity, Affinity::Text | Affinity::Blob)
                || value.as_text().is_some_and(|text| text.trim_ascii().parse::<f64>().is_err())
        }
    }
}

/// The table may have converted what was written (a text into a number, say): that is no edit of
/// the app's.
pub(super) fn note_conversions(
    connection: &rusqlite::Connection,
    table: &Table,
    local_id: i64,
    desired: &[Value],
    merged: &Row,
    differs: &mut Differences,
) -> Result<(), TransactionError> {
    let Some(stored) = app_rows::by_local_id(connection, table, local_id)? else { return Ok(()) };
    for ((column, stored), desired) in stored.columns(table).zip(desired) {
        if column.role == Role::Field && stored != desired {
            let document = merged.fields.get(&column.name).cloned().unwrap_or(Value::Null);
            differs.insert(column.name.clone(), Difference::new(document, token(stored)));
        }
    }
    Ok(())
}
