//! Values a table does not take: an earlier value, or the column's default, takes their place, as
//! few as will do, and the difference is a conflict to be told.

use rusqlite::ErrorCode;
use rusqlite::ffi::{SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_UNIQUE};
use storysync_crdt::{Row, Value};

use crate::app::profile;
use crate::app::rows::StoredRow;
use crate::app::schema::{Affinity, Column, Role, Table};
use crate::error::TransactionError;
use crate::project::plan::{Cell, RowPlan, keep_difference};
use crate::project::rules::has_unsent;
use crate::project::{Projection, token};
use crate::store::rows::{Difference, DifferenceKind, Differences, RowRecord};
use crate::transaction::Transaction;

/// Most earlier values of a field tried in place of one that is refused.
const MILDER_VALUES_MAX: usize = 8;

/// What became of writing a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    Done,
    /// Another row has the same unique values.
    Taken,
    /// The table refuses a value.
    Refused,
}

impl Projection<'_, '_> {
    /// Writes the values into the table. Where a constraint refuses them, values from before, or
    /// the column's default, take their place, as few as will do; refused when nothing will.
    pub(crate) fn put(
        &mut self,
        table: &Table,
        record: &RowRecord,
        merged: &Row,
        plan: &mut RowPlan,
    ) -> Result<Put, TransactionError> {
        let RowPlan { local_id, stored, desired, differs } = plan;
        let (local_id, stored) = (*local_id, stored.as_ref());
        match self.try_put(table, local_id, stored, desired)? {
            Put::Done => return Ok(Put::Done),
            // No other value is better than one that conflicts.
            Put::Taken if stored.is_none() || !has_unsent(record) => return Ok(Put::Taken),
            Put::Taken | Put::Refused => {}
        }
        let mut replaced = desired.to_vec();
        for (position, column) in
            table.columns.iter().enumerate().filter(|(_, column)| column.role == Role::Field)
        {
            for candidate in self.milder_values(
                table,
                column,
                record,
                stored.and_then(|stored| stored.values.get(position)),
            )? {
                let (Some(desired_value), Some(place)) =
                    (desired.get_mut(position), replaced.get_mut(position))
                else {
                    continue;
                };
                *place = candidate.clone();
                let refused = std::mem::replace(desired_value, candidate);
                if self.try_put(table, local_id, stored, desired)? == Put::Done {
                    if let Some(value) = desired.get(position) {
                        note_refused(column, merged, value, differs);
                    }
                    return Ok(Put::Done);
                }
                if let Some(value) = desired.get_mut(position) {
                    *value = refused;
                }
            }
        }
        if let Some(stored) = stored {
            // A trigger may refuse every update. Then all content stays as it stands.
            let wanted = desired.to_vec();
            for ((column, standing), desired) in stored.columns(table).zip(desired.iter_mut()) {
                if column.is_content() {
                    desired.clone_from(standing);
                }
            }
            if self.try_put(table, local_id, Some(stored), desired)? == Put::Done {
                for ((column, wanted), standing) in
                    table.columns.iter().zip(&wanted).zip(desired.iter())
                {
                    if column.is_content() && wanted != standing {
                        note_refused(column, merged, standing, differs);
                    }
                }
                return Ok(Put::Done);
            }
        }
        // Several columns at once: empty.
        desired.clone_from_slice(&replaced);
        if self.try_put(table, local_id, stored, desired)? != Put::Done {
            return Ok(Put::Refused);
        }
        for (column, value) in table
            .columns
            .iter()
            .zip(desired.iter())
            .filter(|(column, _)| column.role == Role::Field)
        {
            note_refused(column, merged, value, differs);
        }
        Ok(Put::Done)
    }

    fn try_put(
        &mut self,
        table: &Table,
        local_id: i64,
        stored: Option<&StoredRow>,
        desired: &[Value],
    ) -> Result<Put, TransactionError> {
        let written = match stored {
            Some(stored) => self.update(table, stored, desired),
            None => self.insert(table, local_id, desired),
        };
        if let Err(TransactionError::Sqlite(error)) = &written
            && is_constraint(error)
        {
            self.refusal.get_or_insert_with(|| error.to_string());
        }
        match written {
            Ok(()) => Ok(Put::Done),
            Err(TransactionError::Sqlite(error)) if is_taken(&error) => Ok(Put::Taken),
            Err(TransactionError::Sqlite(error)) if is_constraint(&error) => Ok(Put::Refused),
            Err(error) => Err(error),
        }
    }
}

impl Transaction<'_> {
    /// What may stand in a column whose value is refused, best first: what stands there, the newest
    /// earlier value of the document, the column's default.
    fn milder_values(
        &mut self,
        table: &Table,
        column: &Column,
        record: &RowRecord,
        now: Option<&Value>,
    ) -> Result<Vec<Value>, TransactionError> {
        let mut values: Vec<Value> = now.cloned().into_iter().collect();
        let document = self.document(record.id)?;
        let written =
            document.changes().iter().rev().filter_map(|change| change.value(&column.name));
        for value in written {
            if !values.contains(value) {
                values.push(value.clone());
            }
        }
        values.truncate(MILDER_VALUES_MAX);
        if let Some(default) = &column.default {
            values.push(self.connection.query_row(&format!("SELECT {default}"), [], |row| {
                Ok(crate::translate::from_sql(row.get_ref(0)?))
            })?);
        }
        values.push(if column.not_null { empty_value(table, column) } else { Value::Null });
        Ok(values)
    }

    /// What a field shows: the document's value; where this table can't take it, an earlier one it
    /// can, or the column's default, and that is a conflict.
    pub(crate) fn field_shown(
        &mut self,
        cell: Cell<'_>,
        merged: &Row,
        differs: &mut Differences,
    ) -> Result<Value, TransactionError> {
        let Cell { table, column, record, now } = cell;
        let document = merged.fields.get(&column.name).cloned().unwrap_or(Value::Null);
        if let Some(held) = record.differs.get(&column.name).filter(|difference| {
            difference.kind == DifferenceKind::Held && difference.document == document
        }) {
            differs.insert(column.name.clone(), held.clone());
            return Ok(held.shown.clone());
        }
        if let Some(kept) = keep_difference(cell, &document, differs) {
            return Ok(kept);
        }
        let unsent = record
            .differs
            .get(&column.name)
            .filter(|difference| difference.kind == DifferenceKind::Unsent);
        if let (Some(unsent), Some(now)) = (unsent, now)
            && token(now) == unsent.shown
        {
            // Nobody but this table has it: what others wrote meanwhile must not replace it unseen.
            differs.insert(
                column.name.clone(),
                Difference::of_kind(document, unsent.shown.clone(), DifferenceKind::Unsent),
            );
            return Ok(now.clone());
        }
        let schema = std::sync::Arc::clone(&self.schema);
        let takes = |value: &Value| {
            !(value.is_null() && column.not_null)
                && profile::takes(&schema, table.name(), column, value)
        };
        // What stands in the table was written by this app: it can read it.
        if takes(&document) || now == Some(&document) {
            return Ok(document);
        }
        let told = self.document(record.id)?.register(&column.name).is_some();
        let standing = now.filter(|now| !now.is_null() && !told);
        let milder = if told {
            self.milder_values(table, column, record, None)?
        } else {
            self.milder_values(table, column, record, standing)?
        };
        let shown = milder.into_iter().find(takes).unwrap_or_else(|| empty_value(table, column));
        // A column the document never had is no conflict: the other app does not have it.
        let kind = if told { DifferenceKind::Refused } else { DifferenceKind::Quiet };
        differs.insert(column.name.clone(), Difference::of_kind(document, token(&shown), kind));
        Ok(shown)
    }
}

/// What a column that refuses NULL shows when there is nothing to show.
fn empty_value(table: &Table, column: &Column) -> Value {
    if let Some(value) = profile::empty_value(table.name(), &column.name) {
        return value;
    }
    match column.affinity {
        Affinity::Text => Value::from(""),
        Affinity::Blob => Value::Blob(Vec::new()),
        Affinity::Integer | Affinity::Numeric => Value::Integer(0),
        Affinity::Real => Value::Real(0.0),
    }
}

pub(crate) fn note_refused(
    column: &Column,
    merged: &Row,
    shown: &Value,
    differs: &mut Differences,
) {
    let document = merged.fields.get(&column.name).cloned().unwrap_or(Value::Null);
    if document != *shown {
        differs.insert(
            column.name.clone(),
            Difference::of_kind(document, token(shown), DifferenceKind::Refused),
        );
    }
}

fn is_taken(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| {
        matches!(error.extended_code, SQLITE_CONSTRAINT_UNIQUE | SQLITE_CONSTRAINT_PRIMARYKEY)
    })
}

pub(crate) fn is_constraint(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
}
