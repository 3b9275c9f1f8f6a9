//! Unique values: of two rows that have the same in the end the smaller uuid stays, the other
//! waits, and has its turn when the values become free. Rows that merely pass each other (a swap of
//! names) are no contest.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use storysync_crdt::Value;

use crate::app::rows as app_rows;
use crate::app::schema::{Affinity, Role, Table};
use crate::app::uniques::UniqueRule;
use crate::error::TransactionError;
use crate::project::fitting::is_constraint;
use crate::project::plan::RowPlan;
use crate::project::rules::has_unsent;
use crate::project::{Projection, Resolved};
use crate::store::conflicts;
use crate::store::rows::{self, Parked, RowId, RowRecord};

/// Bytes of the hash that stands for a row's values under a unique constraint.
const UNIQUE_KEY_BYTES: usize = 16;

/// Whether a row may take the unique values it has.
pub(crate) enum Contest {
    Free,
    /// This row stays, and has these columns alike.
    Behind(RowId, Vec<String>),
}

/// Rows that hold what another would have, by a unique constraint.
struct Holders<'a> {
    /// Their ids in the app's table.
    ids: Vec<i64>,
    /// The columns of the constraint.
    unique: &'a [String],
}

/// What a contest has found so far.
#[derive(Default)]
struct Rivals {
    /// The row that stays though the other comes, and the columns it has alike.
    stays: Option<(RowRecord, Vec<String>)>,
    /// Rows that give way.
    leave: Vec<RowRecord>,
}

impl Projection<'_, '_> {
    /// A row has left its table, or holds other unique values now: those that wait behind it have
    /// their turn.
    pub(crate) fn retry_behind(&mut self, id: RowId) -> Result<(), TransactionError> {
        self.waiting.extend(conflicts::stands_in_for(self.connection, id)?);
        Ok(())
    }

    /// Those that wait, and have the unique values this row has now, may have to wait behind it
    /// instead.
    pub(crate) fn retry_contesting(
        &mut self,
        table: &Table,
        id: RowId,
        desired: &[Value],
    ) -> Result<(), TransactionError> {
        if self.retried.insert(id) {
            for key in unique_keys(table, desired) {
                self.waiting.extend(
                    conflicts::waiting_for(self.connection, &key)?
                        .into_iter()
                        .filter(|waiting| *waiting != id),
                );
            }
        }
        Ok(())
    }

    /// Whether a row may take its unique values: of two rows that have the same in the end, the
    /// smaller uuid stays. Rows that will have others once they are settled are taken out of the
    /// way.
    pub(crate) fn contest(
        &mut self,
        table: &Table,
        record: &RowRecord,
        plan: &RowPlan,
    ) -> Result<Contest, TransactionError> {
        let mut rivals = Rivals::default();
        for unique in &table.uniques {
            let values: Vec<&Value> = unique
                .iter()
                .filter_map(|name| table.columns.iter().position(|column| column.name == *name))
                .filter_map(|position| plan.desired.get(position))
                .collect();
            if values.len() != unique.len() || values.iter().any(|value| value.is_null()) {
                continue;
            }
            let ids = app_rows::holders(self.connection, table, unique, &values, plan.local_id)?;
            self.hold_against(table, record, Holders { ids, unique }, &mut rivals)?;
        }
        self.give_place(table, record, rivals)
    }

    /// The same where only SQLite can say which rows stand in the way; `None` when it names none.
    pub(crate) fn contest_by_rule(
        &mut self,
        table: &Table,
        record: &RowRecord,
        plan: &RowPlan,
    ) -> Result<Option<Contest>, TransactionError> {
        let refusal = self.refusal.clone().unwrap_or_default();
        let is_named = |rule: &&UniqueRule| refusal.contains(&format!("'{}'", rule.name));
        let is_about = |rule: &&UniqueRule| {
            rule.columns.iter().any(|column| {
                refusal.contains(&format!("{}.{}", table.name(), table.sql_name(column)))
            })
        };
        let rule = table
            .rules
            .iter()
            .find(is_named)
            .or_else(|| table.rules.iter().find(is_about))
            .or_else(|| table.rules.first());
        let Some(columns) = rule.map(|rule| rule.columns.clone()) else { return Ok(None) };
        let values = table
            .columns
            .iter()
            .zip(&plan.desired)
            .map(|(column, value)| (column.name.clone(), value.clone()))
            .collect();
        let (local_id, is_new) = (plan.local_id, plan.stored.is_none());
        let ids = match app_rows::rivals(self.connection, table, local_id, is_new, &values) {
            Ok(ids) => ids,
            Err(error) if is_constraint(&error) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        if ids.is_empty() {
            return Ok(None);
        }
        let mut rivals = Rivals::default();
        self.hold_against(table, record, Holders { ids, unique: &columns }, &mut rivals)?;
        self.give_place(table, record, rivals).map(Some)
    }

    /// Judges the rows that hold what `record` would have: which stays though it comes, and which
    /// leave.
    fn hold_against(
        &mut self,
        table: &Table,
        record: &RowRecord,
        Holders { ids, unique }: Holders<'_>,
        rivals: &mut Rivals,
    ) -> Result<(), TransactionError> {
        for other in ids {
            let Some(holder) = rows::at_local_id(self.connection, record.table, other)? else {
                if self.schema.has_foreign_triggers {
                    // Nobody wrote it: a trigger of the app's derived it here, as one did where the
                    // row that comes was written.
                    self.delete_row(table, other)?;
                }
                continue;
            };
            if self.waiting.contains(&holder.id) && self.will_differ(table, &holder, unique)? {
                self.set_aside(table, &holder, unique)?;
            } else if holder.uuid < record.uuid {
                if rivals.stays.as_ref().is_none_or(|(known, _)| holder.uuid < known.uuid) {
                    rivals.stays = Some((holder, unique.to_vec()));
                }
            } else {
                rivals.leave.push(holder);
            }
        }
        Ok(())
    }

    /// One row stays, and the other waits behind it.
    fn give_place(
        &mut self,
        table: &Table,
        record: &RowRecord,
        Rivals { stays, leave }: Rivals,
    ) -> Result<Contest, TransactionError> {
        if let Some((winner, columns)) = stays {
            return Ok(Contest::Behind(winner.id, columns));
        }
        // What holds a value that is nowhere else is not taken out of its table: here, the other
        // waits.
        if let Some(holder) = leave.iter().find(|holder| has_unsent(holder)) {
            let columns = table
                .uniques
                .first()
                .cloned()
                .or_else(|| table.rules.first().map(|rule| rule.columns.clone()))
                .unwrap_or_default();
            return Ok(Contest::Behind(holder.id, columns));
        }
        for holder in leave {
            if let (Some(id), true) =
                (holder.local_id, rows::get(self.connection, holder.id)?.present)
            {
                self.delete_row(table, id)?;
                self.set_aside.remove(&holder.id);
                // It is settled again, and then finds this row in its place.
                rows::save(
                    self.connection,
                    &RowRecord { present: false, parked: Some(Parked::Name), ..holder.clone() },
                )?;
                conflicts::set_stand_in(self.connection, holder.id, Some((record.id, &[])))?;
                self.waiting.insert(holder.id);
                self.project_referrers(holder.id)?;
                self.retry_behind(holder.id)?;
            }
        }
        Ok(Contest::Free)
    }

    /// Whether a row that is still to be projected will leave its table, or hold other values in
    /// these columns.
    fn will_differ(
        &mut self,
        table: &Table,
        holder: &RowRecord,
        unique: &[String],
    ) -> Result<bool, TransactionError> {
        let merged = self.shown_row(holder.id)?;
        let (true, Some(local_id)) = (merged.stands(), holder.local_id) else { return Ok(true) };
        let Some(stored) = app_rows::by_local_id(self.connection, table, local_id)? else {
            return Ok(true);
        };
        for (column, now) in
            stored.columns(table).filter(|(column, _)| unique.contains(&column.name))
        {
            let document = merged.fields.get(&column.name).cloned().unwrap_or(Value::Null);
            let same = match &column.role {
                Role::Reference { table: target } => match self.resolve(target, &document)?.0 {
                    Resolved::To(id) => *now == Value::Integer(id),
                    _ => holder
                        .differs
                        .get(&column.name)
                        .is_some_and(|difference| difference.document == document),
                },
                _ => {
                    *now == document
                        || holder
                            .differs
                            .get(&column.name)
                            .is_some_and(|difference| difference.document == document)
                }
            };
            if !same {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Puts values nobody has into the unique columns of a row that will get others in this
    /// projection.
    fn set_aside(
        &mut self,
        table: &Table,
        holder: &RowRecord,
        unique: &[String],
    ) -> Result<(), TransactionError> {
        let Some(local_id) = holder.local_id else { return Ok(()) };
        let Some(stored) = app_rows::by_local_id(self.connection, table, local_id)? else {
            return Ok(());
        };
        let Some(column) = unique
            .iter()
            .filter_map(|name| table.column(name))
            .max_by_key(|column| column.affinity == Affinity::Text)
        else {
            return Ok(());
        };
        let nobodys = match column.affinity {
            Affinity::Text => Value::from(format!("storysync: moving {}", holder.uuid)),
            _ => Value::Integer(nobodys_id(holder.uuid.as_str())),
        };
        self.update_columns(table, local_id, &BTreeMap::from([(column.name.clone(), nobodys)]))?;
        self.set_aside.entry(holder.id).or_insert(stored);
        Ok(())
    }
}

/// What a row holds under each unique constraint, as hashes; constraints with a NULL hold nothing.
pub(crate) fn unique_keys(table: &Table, desired: &[Value]) -> Vec<Vec<u8>> {
    let key = |unique: &Vec<String>| {
        let mut digest = Sha256::new()
            .chain_update(table.name())
            .chain_update(b"\0")
            .chain_update(unique.join("\0"));
        for name in unique {
            let value = table
                .columns
                .iter()
                .position(|column| column.name == *name)
                .and_then(|position| desired.get(position))?;
            if value.is_null() {
                return None;
            }
            digest = digest
                .chain_update(b"\0")
                .chain_update(crate::translate::to_json(value).to_string());
        }
        Some(digest.finalize().iter().copied().take(UNIQUE_KEY_BYTES).collect())
    };
    table.uniques.iter().filter_map(key).collect()
}

/// An integer that is no row's id, the same for the same name: below zero, where no app puts rows.
pub(crate) fn nobodys_id(name: &str) -> i64 {
    let digest = Sha256::digest(name.as_bytes());
    let positive =
        digest.iter().take(7).fold(0_i64, |number, byte| (number << 8) | i64::from(*byte));
    -1 - positive
}
