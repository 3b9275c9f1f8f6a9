//! Writing into tables on which the app has triggers of its own. What those derive while we write
//! is no edit of anybody's: the device where the app wrote has derived the same, and told of it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use rusqlite::config::DbConfig;
use storysync_crdt::Value;

use crate::app::rows::{self as app_rows, StoredRow};
use crate::app::schema::{Role, Table};
use crate::error::TransactionError;
use crate::project::{Departed, stands_in, token};
use crate::store::outbox;
use crate::store::rows::{self, Difference, Parked, RowId};
use crate::transaction::Transaction;

/// How often rows that triggers take away again are put back within one transaction.
const ROUNDS_MAX: usize = 3;

impl Transaction<'_> {
    /// Fires triggers with what is written next, or does not. Changing it has every statement
    /// planned anew.
    fn set_triggers(&mut self, on: bool) -> Result<(), TransactionError> {
        let on = on && self.schema.has_foreign_triggers;
        if self.has_triggers_on != on {
            self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, on)?;
            self.has_triggers_on = on;
        }
        Ok(())
    }

    fn note_written<'v>(
        &mut self,
        table: &Table,
        local_id: i64,
        values: impl Iterator<Item = (&'v str, &'v Value)>,
    ) {
        if self.schema.has_foreign_triggers {
            let content = values.filter(|(name, _)| {
                table.column(name).is_some_and(crate::app::schema::Column::is_content)
            });
            self.written
                .entry((table.name().to_owned(), local_id))
                .or_default()
                .extend(content.map(|(name, value)| (name.to_owned(), value.clone())));
        }
    }

    /// Changes columns of a row of the app's. Where only columns of ours change, no trigger of the
    /// app's hears of it.
    pub(crate) fn update_columns(
        &mut self,
        table: &Table,
        local_id: i64,
        values: &BTreeMap<String, Value>,
    ) -> Result<(), TransactionError> {
        if values.is_empty() {
            return Ok(());
        }
        let is_content = |name: &String| {
            table
                .column(name)
                .is_some_and(|column| column.is_content() || column.role == Role::Local)
        };
        self.set_triggers(values.keys().any(is_content))?;
        app_rows::update(self.connection, table, local_id, values)?;
        self.note_written(
            table,
            local_id,
            values.iter().map(|(name, value)| (name.as_str(), value)),
        );
        Ok(())
    }

    /// Writes a new row into the app's table.
    pub(crate) fn insert_row(
        &mut self,
        table: &Table,
        local_id: i64,
        values: &BTreeMap<String, Value>,
    ) -> Result<(), TransactionError> {
        self.set_triggers(true)?;
        app_rows::insert(self.connection, table, local_id, values)?;
        self.note_written(
            table,
            local_id,
            values.iter().map(|(name, value)| (name.as_str(), value)),
        );
        Ok(())
    }

    /// The same for a row whose columns are all at hand, in the table's order.
    pub(crate) fn insert_arrival(
        &mut self,
        table: &Table,
        local_id: i64,
        values: &[Cow<'_, Value>],
    ) -> Result<(), rusqlite::Error> {
        if let Err(TransactionError::Sqlite(error)) = self.set_triggers(true) {
            return Err(error);
        }
        app_rows::insert_whole(self.connection, table, local_id, values)?;
        self.note_written(
            table,
            local_id,
            table
                .columns
                .iter()
                .map(|column| column.name.as_str())
                .zip(values.iter().map(AsRef::as_ref)),
        );
        Ok(())
    }

    /// Removes a row from the app's table.
    pub(crate) fn delete_row(
        &mut self,
        table: &Table,
        local_id: i64,
    ) -> Result<(), TransactionError> {
        self.set_triggers(true)?;
        app_rows::delete(self.connection, table, local_id)?;
        self.written.remove(&(table.name().to_owned(), local_id));
        Ok(())
    }

    /// Looks at the rows that our writes and triggers of the app's have touched. A column that we
    /// have just given a value shows that value: the triggers had their say where it was written.
    /// Whatever else they derived stays as they derived it, and is noted as what the table shows.
    /// Rows they took away though somebody has them are put back; rows they added are theirs.
    pub(crate) fn note_derived(&mut self) -> Result<(), TransactionError> {
        if !self.has_own_writes() || !self.schema.has_foreign_triggers {
            return Ok(());
        }
        let schema = std::sync::Arc::clone(&self.schema);
        for _ in 0..ROUNDS_MAX {
            let touched: BTreeSet<(String, i64)> = outbox::take(self.connection)?
                .into_iter()
                .map(|hint| (hint.table, hint.local_id))
                .collect();
            let mut taken_away = BTreeSet::new();
            for (name, local_id) in touched {
                let (Some(table), Some(table_id)) = (schema.table(&name), self.find_table(&name)?)
                else {
                    continue;
                };
                let Some(record) = rows::at_local_id(self.connection, table_id, local_id)? else {
                    continue;
                };
                match app_rows::by_local_id(self.connection, table, local_id)? {
                    Some(stored) => self.note_derived_in(table, record.id, &stored)?,
                    None => taken_away.extend(Some(record.id)),
                }
            }
            self.put_back(&taken_away)?;
            if taken_away.is_empty() {
                return Ok(());
            }
        }
        outbox::take(self.connection)?;
        Ok(())
    }

    fn note_derived_in(
        &mut self,
        table: &Table,
        id: RowId,
        stored: &StoredRow,
    ) -> Result<(), TransactionError> {
        let mut record = rows::get(self.connection, id)?;
        let merged = self.shown_row(id)?;
        let written = self
            .written
            .get(&(table.name().to_owned(), stored.local_id))
            .cloned()
            .unwrap_or_default();
        let mut ours = BTreeMap::new();
        let mut is_news = false;
        for (column, shown) in stored.columns(table) {
            if column.role == Role::SyncUuid && shown.as_text() != Some(record.uuid.as_str()) {
                ours.insert(column.name.clone(), Value::from(record.uuid.as_str()));
            }
            if !column.is_content() {
                continue;
            }
            let document = merged.fields.get(&column.name).cloned().unwrap_or(Value::Null);
            match written.get(&column.name) {
                Some(value) if value == shown => {}
                _ if self.is_shown(column, &record, &document, shown, &Departed::default())? => {}
                Some(value) if crate::project::is_natural(column.affinity, value) => {
                    drop(ours.insert(column.name.clone(), value.clone()))
                }
                _ => {
                    record
                        .differs
                        .insert(column.name.clone(), Difference::new(document, token(shown)));
                    is_news = true;
                }
            }
        }
        if !ours.is_empty() {
            self.set_triggers(false)?;
            if app_rows::update(self.connection, table, stored.local_id, &ours).is_err() {
                // Not the error: what a trigger of the app's says may quote the row.
                tracing::warn!(table = table.name(), "what a trigger wrote can't be put back");
            }
        }
        if is_news {
            rows::save(self.connection, &record)?;
        }
        Ok(())
    }

    /// Shows rows again that a trigger took away.
    fn put_back(&mut self, taken_away: &BTreeSet<RowId>) -> Result<(), TransactionError> {
        let schema = std::sync::Arc::clone(&self.schema);
        for id in taken_away {
            let mut record = rows::get(self.connection, *id)?;
            record.present = false;
            let name = self.table_name(record.table)?;
            let merged = self.shown_row(*id)?;
            let stands = schema.table(name.as_str()).is_some_and(|table| stands_in(table, &merged));
            // Should the trigger take it away once more, it waits, and is told.
            record.parked = stands.then_some(Parked::Refused);
            rows::save(self.connection, &record)?;
        }
        self.project(taken_away.clone())
    }
}
