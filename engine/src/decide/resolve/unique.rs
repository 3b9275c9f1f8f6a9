//! Decides conflicts over unique values: who keeps the value, what becomes of the other row.

use super::{Choice, Take};
use crate::app::rows as app_rows;
use crate::app::schema::{Role, Table};
use crate::error::{EngineError, TransactionError};
use crate::project::contest::nobodys_id;
use crate::project::fitting::is_constraint;
use crate::store::references;
use crate::store::rows::{self, Parked, RowId, RowRecord};
use crate::transaction::Transaction;
use std::collections::{BTreeMap, BTreeSet};
use storysync_crdt::{Conflict, DeletionKind, DeviceKey, FieldConflict, SyncUuid, Value, key};

/// Most numbers tried behind a name until one is free.
pub(super) const NAMES_TRIED_MAX: u32 = 10_000;

impl Transaction<'_> {
    /// Two rows with one name: one of them gets another, or the one that waits goes.
    pub(super) fn decide_unique(
        &mut self,
        record: &RowRecord,
        conflict: &Conflict,
        choice: &Choice,
        own: &DeviceKey,
    ) -> Result<(), TransactionError> {
        let now = self.now;
        let Some(winner) = crate::store::conflicts::stand_in(self.connection, record.id)?
            .map(|(winner, _)| winner)
        else {
            return Err(EngineError::NoSuchConflict(record.uuid.to_string()).into());
        };
        if !choice.fields.is_empty() {
            self.write_row(record.id, choice.fields.clone(), None, now)?;
            self.project([record.id, winner].into())?;
            if rows::get(self.connection, record.id)?.parked == Some(Parked::Name) {
                let name = choice.fields.keys().cloned().collect::<Vec<_>>().join(", ");
                return Err(EngineError::Unfit {
                    name,
                    reason: "another row has it already; give one that is free".to_owned(),
                }
                .into());
            }
            return Ok(());
        }
        // The waiting row's values come first, those of the one that stays last.
        let writer = |waiting: bool| {
            let both = || conflict.fields.iter().rev().filter(|field| field.values.len() == 2);
            let differ = |field: &&FieldConflict| {
                field.values.first().map(|value| value.device)
                    != field.values.last().map(|value| value.device)
            };
            let field = both().find(differ).or_else(|| both().next())?;
            if waiting { field.values.first()?.device } else { field.values.last()?.device }
        };
        let keeps_name = |device: &DeviceKey| {
            writer(true).as_ref() == Some(device) && writer(false).as_ref() != Some(device)
        };
        let renamed = match &choice.take {
            Some(Take::Delete) => return self.merge_into(record.id, winner),
            // Two links between the same rows are one link: there is no name to change.
            Some(Take::Mine | Take::Theirs | Take::Device(_))
                if self.is_link(record, conflict)? =>
            {
                return self.merge_into(record.id, winner);
            }
            Some(Take::Mine) if keeps_name(own) => winner,
            Some(Take::Theirs)
                if writer(true).as_ref() != Some(own) && writer(false).as_ref() == Some(own) =>
            {
                winner
            }
            Some(Take::Device(device)) if keeps_name(device) => winner,
            _ => record.id,
        };
        let puts = self.another_name(renamed, conflict)?;
        self.write_row(renamed, puts, None, now)?;
        self.project([record.id, winner].into())
    }

    /// The row that waits goes; whoever referred to it refers to the one that stays.
    pub(super) fn merge_into(
        &mut self,
        loser: RowId,
        winner: RowId,
    ) -> Result<(), TransactionError> {
        let now = self.now;
        let uuid = rows::get(self.connection, winner)?.uuid;
        let mut touched = BTreeSet::from([loser, winner]);
        for (referrer, column) in references::referrers_by_column(self.connection, loser)? {
            if referrer == loser {
                continue;
            }
            self.write_row(
                referrer,
                BTreeMap::from([(column, Value::from(uuid.as_str()))]),
                None,
                now,
            )?;
            touched.insert(referrer);
        }
        let mut puts = self.deletion_of(loser)?;
        // A row marked as deleted still stands, and would still wait.
        puts.insert(key::DELETE_KIND.to_owned(), Value::from(DeletionKind::Hard.as_str()));
        self.write_row(loser, puts, None, now)?;
        self.project(touched)
    }

    /// Whether the contested columns are all references.
    pub(super) fn is_link(
        &mut self,
        record: &RowRecord,
        conflict: &Conflict,
    ) -> Result<bool, TransactionError> {
        let name = self.table_name(record.table)?;
        let Some(table) = self.schema.table(name.as_str()) else { return Ok(false) };
        Ok(conflict.fields.iter().all(|field| {
            table.column(&field.name).is_some_and(|column| column.role != Role::Field)
        }))
    }

    /// Where a rule holds for some rows only ("the one that is the default"): a value that takes
    /// the row out of them, one it had before if that will do.
    pub(super) fn out_of_the_condition(
        &mut self,
        record: &RowRecord,
        table: &Table,
        contested: &[String],
    ) -> Result<Option<BTreeMap<String, Value>>, TransactionError> {
        for column in contested
            .iter()
            .filter_map(|name| table.column(name))
            .filter(|column| column.role == Role::Field)
        {
            let document = self.document(record.id)?;
            let now = storysync_crdt::field(document, &column.name).unwrap_or(Value::Null);
            let mut values: Vec<Value> = document
                .changes()
                .iter()
                .rev()
                .filter_map(|change| change.value(&column.name))
                .cloned()
                .collect();
            values.extend(if column.not_null { None } else { Some(Value::Null) });
            values.extend(if matches!(now, Value::Integer(_)) {
                Some(Value::Integer(0))
            } else {
                None
            });
            for value in values
                .into_iter()
                .filter(|value| *value != now && !(value.is_null() && column.not_null))
            {
                let puts = BTreeMap::from([(column.name.clone(), value)]);
                if self.has_room(record, table, &puts)? {
                    return Ok(Some(puts));
                }
            }
        }
        Ok(None)
    }

    /// Whether a row would stand in nobody's way with other values in some columns.
    pub(super) fn has_room(
        &mut self,
        record: &RowRecord,
        table: &Table,
        puts: &BTreeMap<String, Value>,
    ) -> Result<bool, TransactionError> {
        let fields = storysync_crdt::row(self.document(record.id)?).fields;
        let mut values = BTreeMap::new();
        for column in &table.columns {
            let document = puts
                .get(&column.name)
                .or_else(|| fields.get(&column.name))
                .cloned()
                .unwrap_or(Value::Null);
            let value = match &column.role {
                Role::Field => document,
                Role::Reference { table: target } => {
                    let target = self.find_table(target)?;
                    let uuid = document.as_text().and_then(SyncUuid::parse);
                    let found = match (target, &uuid) {
                        (Some(target), Some(uuid)) => {
                            rows::find(self.connection, target, uuid)?.and_then(|row| row.local_id)
                        }
                        _ => None,
                    };
                    found.map_or(Value::Null, Value::Integer)
                }
                _ => continue,
            };
            if !(value.is_null() && column.not_null) {
                values.insert(column.name.clone(), value);
            }
        }
        self.begin_own_writes()?;
        let local_id = if record.present { record.local_id } else { None };
        let (local_id, is_new) =
            local_id.map_or((nobodys_id(record.uuid.as_str()), true), |id| (id, false));
        match app_rows::rivals(self.connection, table, local_id, is_new, &values) {
            Ok(rivals) => Ok(rivals.is_empty()),
            Err(error) if is_constraint(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// A value no other row has: "name (2)", or the next free number.
    pub(super) fn another_name(
        &mut self,
        id: RowId,
        conflict: &Conflict,
    ) -> Result<BTreeMap<String, Value>, TransactionError> {
        let record = rows::get(self.connection, id)?;
        let name = self.table_name(record.table)?;
        let schema = std::sync::Arc::clone(&self.schema);
        let contested = conflict.fields.iter().map(|field| field.name.clone()).collect::<Vec<_>>();
        let cant = || EngineError::CantRename(contested.join(", "));
        let table = schema.table(name.as_str()).ok_or_else(cant)?;
        let fields = storysync_crdt::row(self.document(id)?).fields;
        let rule = table.rules.iter().find(|rule| rule.columns == contested).cloned();
        if rule.as_ref().is_some_and(|rule| rule.is_partial)
            && let Some(puts) = self.out_of_the_condition(&record, table, &contested)?
        {
            return Ok(puts);
        }
        let own = contested
            .iter()
            .filter_map(|name| table.column(name))
            .filter(|column| column.role == Role::Field);
        // Texts first: numbers may mean something.
        let column = own
            .max_by_key(|column| fields.get(&column.name).and_then(Value::as_text).is_some())
            .ok_or_else(cant)?;
        match fields.get(&column.name) {
            Some(Value::Text(text)) => {
                for number in 2..NAMES_TRIED_MAX {
                    let candidate = Value::from(format!("{text} ({number})"));
                    let puts = BTreeMap::from([(column.name.clone(), candidate)]);
                    let is_taken = match (&rule, puts.values().next()) {
                        (None, Some(candidate)) => {
                            app_rows::holds(self.connection, table, &column.name, candidate)?
                        }
                        _ => !self.has_room(&record, table, &puts)?,
                    };
                    if !is_taken {
                        return Ok(puts);
                    }
                }
                Err(cant().into())
            }
            Some(Value::Integer(_)) => {
                let highest = app_rows::highest_reference(self.connection, table, column)?;
                let candidate = Value::Integer(highest.checked_add(1).ok_or_else(cant)?);
                if app_rows::holds(self.connection, table, &column.name, &candidate)? {
                    return Err(cant().into());
                }
                Ok(BTreeMap::from([(column.name.clone(), candidate)]))
            }
            _ => Err(cant().into()),
        }
    }
}
