//! Follows the app when it changes its schema: new, dropped and remade tables, gained columns.

use super::{Plan, add_columns, drop_triggers, finish_table};
use crate::app::schema::Table;
use crate::capture::SchemaChange;
use crate::error::TransactionError;
use crate::migrate::renaming::schema_of;
use crate::store::rows::{self, Parked, RowId};
use crate::transaction::Transaction;
use std::collections::{BTreeSet, HashSet};

impl Transaction<'_> {
    /// The app changed its tables: take new ones in, put triggers back, and look at every row of
    /// tables that were rebuilt, because nothing noted what was written in between.
    pub(crate) fn follow_schema(
        &mut self,
        excluded: &[String],
    ) -> Result<SchemaChange, TransactionError> {
        self.follow_renamings(excluded)?;
        let (known, mut found) = self.compare_schema()?;
        for name in rows::tables_with_columns(self.connection)? {
            if self.schema.table(&name).is_some() {
                continue;
            }
            if drop_triggers(self.connection, &name)? {
                // Left alone from now on. Should it be taken in again, its rows are those it had,
                // and what the app wrote into them meanwhile was written over what they show now.
                continue;
            } else {
                // Its rows are not deleted: they are no longer shown.
                rows::forget_table(self.connection, &name)?;
            }
        }
        self.begin_unnoted_writes()?;
        let connection = self.connection;
        let resolve = |table: &str, id: i64| {
            let table = rows::find_table(connection, table).ok()??;
            rows::at_local_id(connection, table, id).ok()?.map(|record| record.uuid)
        };
        let plan = Plan::make(self.connection, &self.schema, &known, self.prose, resolve, |_| {})?;
        let mut touched: BTreeSet<RowId> =
            plan.apply(self.connection, self.now, false)?.into_iter().collect();
        self.has_triggers_on = false;
        for table in std::sync::Arc::clone(&self.schema)
            .tables()
            .filter(|table| known.contains(table.name()))
        {
            if add_columns(self.connection, table)? {
                found.rebuilt.insert(table.name().to_owned());
            }
        }
        let schema = std::sync::Arc::new(schema_of(self.connection, excluded)?);
        for table in schema.tables() {
            let id = self.table_id(&table.name)?;
            if !known.contains(table.name()) {
                // Rows a peer told of before this app had the table.
                touched.extend(rows::absent_in(self.connection, id)?);
            } else if finish_table(self.connection, id, table, schema.has_foreign_triggers)?
                || !table.natural_key.is_empty()
                || found.came_back.contains(table.name())
            {
                found.rebuilt.insert(table.name().to_owned());
            }
        }
        // What refers to a table that is in sync only now leads to its rows.
        let is_new = |name: &str| !known.contains(name) || found.came_back.contains(name);
        let referring = schema.tables().filter(|table| {
            known.contains(table.name()) && table.references().any(|(_, target)| is_new(target))
        });
        let referring: Vec<&Table> = referring.collect();
        found.rebuilt.extend(referring.iter().map(|table| table.name().to_owned()));
        self.schema = std::sync::Arc::clone(&schema);
        for table in referring {
            let id = self.table_id(&table.name)?;
            for waiting in rows::parked_because(self.connection, id, Parked::Parent)? {
                self.note_document(waiting, Some(table))?;
                touched.insert(waiting);
            }
        }
        self.project(touched)?;
        self.end_own_writes()?;
        Ok(found)
    }

    /// Which tables are in sync already, and what of them is new, or came back.
    fn compare_schema(&self) -> Result<(HashSet<String>, SchemaChange), TransactionError> {
        let mut known = HashSet::new();
        let mut found = SchemaChange::default();
        for table in self.schema.tables() {
            let columns = rows::table_columns(self.connection, table.name())?.unwrap_or_default();
            if !columns.is_empty() {
                let new = table.columns.iter().filter(|column| !columns.contains(&column.name));
                found
                    .new_columns
                    .extend(new.map(|column| (table.name().to_owned(), column.name.clone())));
                known.insert(table.name().to_owned());
                if table.own_triggers.is_empty() {
                    // It was left alone for a while, and nothing was noted.
                    found.came_back.insert(table.name().to_owned());
                }
            } else if let Some(id) = rows::find_table(self.connection, table.name())?
                && rows::once_stood_in(self.connection, id)?
            {
                // Dropped, and made again: its rows are those of them that it has been given back.
                known.insert(table.name().to_owned());
                found.came_back.insert(table.name().to_owned());
                found.dropped.insert(table.name().to_owned());
            }
        }
        Ok((known, found))
    }
}
