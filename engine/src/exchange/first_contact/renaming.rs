//! Rows take other names: in the app's table, in the log, and wherever other rows refer to them.

use crate::app::schema::Table;
use crate::epoch::NewEpoch;
use crate::error::TransactionError;
use crate::store::log;
use crate::store::references;
use crate::store::rows::{self, RowId};
use crate::transaction::Transaction;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use storysync_crdt::{Change, Document, EditPurpose, EntityId, SyncUuid, Value, genesis, key};

impl Transaction<'_> {
    /// Gives rows other names: in the app's table, in the log, and wherever other rows refer to
    /// them. Only right while nobody was told of any of these rows. Returns how many were renamed.
    pub(super) fn rename(
        &mut self,
        renames: &[(RowId, SyncUuid)],
    ) -> Result<usize, TransactionError> {
        let schema = std::sync::Arc::clone(&self.schema);
        let mut names: HashMap<(String, String), SyncUuid> = HashMap::new();
        let mut rewritten: BTreeSet<RowId> = BTreeSet::new();
        for (id, uuid) in renames {
            let record = rows::get(self.connection, *id)?;
            if rows::find(self.connection, record.table, uuid)?.is_some() {
                continue;
            }
            let name = self.table_name(record.table)?;
            // Read before the names change: a document is found by its row, but says its name.
            if self.document(*id)?.is_empty() {
                continue;
            }
            if let (Some(table), Some(local_id)) =
                (schema.table(name.as_str()), record.local_id.filter(|_| record.present))
            {
                self.begin_own_writes()?;
                self.update_columns(
                    table,
                    local_id,
                    &BTreeMap::from([("sync_uuid".to_owned(), Value::from(uuid.as_str()))]),
                )?;
            }
            rows::rename(self.connection, *id, uuid)?;
            names.insert((name.as_str().to_owned(), record.uuid.as_str().to_owned()), uuid.clone());
            rewritten.insert(*id);
            rewritten.extend(references::referrers(self.connection, *id)?);
            // Deletions name the rows they left behind.
            for target in references::targets(self.connection, *id)? {
                if self.document(target)?.register(key::LEFT_BEHIND).is_some() {
                    rewritten.insert(target);
                }
            }
        }
        if names.is_empty() {
            return Ok(0);
        }
        for id in &rewritten {
            let record = rows::get(self.connection, *id)?;
            let name = self.table_name(record.table)?;
            let table = schema.table(name.as_str());
            self.rewrite(*id, &EntityId { table: name, uuid: record.uuid.clone() }, table, &names)?;
            self.note_document(*id, table)?;
        }
        self.new_epoch_cause = Some(NewEpoch::Renamed);
        self.project(rewritten)?;
        Ok(names.len())
    }

    /// Writes a row's document anew under the names that count now: its first change, and one edit
    /// for all that followed.
    pub(super) fn rewrite(
        &mut self,
        id: RowId,
        entity: &EntityId,
        table: Option<&Table>,
        names: &HashMap<(String, String), SyncUuid>,
    ) -> Result<(), TransactionError> {
        let renamed = |column: &str, value: &Value| {
            if let (key::LEFT_BEHIND, Some(left)) = (column, value.as_text()) {
                let named = left.split(',').map(|name| {
                    let new = name.split_once('/').and_then(|(table, uuid)| {
                        Some((table, names.get(&(table.to_owned(), uuid.to_owned()))?))
                    });
                    new.map_or_else(|| name.to_owned(), |(table, uuid)| format!("{table}/{uuid}"))
                });
                return Value::from(named.collect::<Vec<_>>().join(","));
            }
            let target = table
                .and_then(|table| {
                    table.references().find(|(reference, _)| reference.name == column)
                })
                .map(|(_, target)| target);
            let name = target
                .zip(value.as_text())
                .and_then(|(target, text)| names.get(&(target.to_owned(), text.to_owned())));
            name.map_or_else(|| value.clone(), |name| Value::from(name.as_str()))
        };
        let old = self.document(id)?.clone();
        let Some(first) = old.changes().first() else { return Ok(()) };
        let mut puts: BTreeMap<String, Value> = first
            .ops()
            .iter()
            .map(|op| ((*op.key).to_owned(), renamed(&op.key, &op.value)))
            .collect();
        let actor = self.actor.clone();
        let seconds = |change: &Change| {
            i64::try_from(storysync_crdt::change_time(change.bytes()))
                .unwrap_or(0)
                .saturating_mul(1_000)
        };
        let first = if puts.contains_key(key::ROW) {
            puts.insert(key::ROW.to_owned(), Value::from(entity.uuid.as_str()));
            Document::new().edit(puts, EditPurpose::Edit, None, &actor, seconds(first))
        } else {
            Some(genesis(entity, puts))
        };
        log::forget_row(self.connection, id)?;
        self.forget_document(id);
        let Some(first) = first else { return Ok(()) };
        self.admit_own(id, first)?;
        let after: BTreeMap<String, Value> = old
            .registers()
            .filter_map(|(key, register)| {
                Some((key.to_owned(), renamed(key, register.winner()?.value())))
            })
            .filter(|(key, _)| key != key::ROW)
            .collect();
        let now: BTreeMap<String, Value> = self
            .document(id)?
            .registers()
            .filter_map(|(key, register)| {
                Some((key.to_owned(), register.winner()?.value().clone()))
            })
            .collect();
        let later: BTreeMap<String, Value> =
            after.into_iter().filter(|(key, value)| now.get(key) != Some(value)).collect();
        if let Some(last) = old.changes().last().filter(|_| !later.is_empty())
            && let Some(edit) =
                self.document(id)?.edit(later, EditPurpose::Edit, None, &actor, seconds(last))
        {
            self.admit_own(id, edit)?;
        }
        Ok(())
    }

    pub(super) fn admit_own(&mut self, id: RowId, change: Change) -> Result<(), TransactionError> {
        // A change made from the document itself always fits it.
        self.admit(id, change, None)?.map_err(log::LogError::Gap)?;
        Ok(())
    }
}
