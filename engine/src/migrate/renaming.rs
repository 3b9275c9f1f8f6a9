//! Tables and columns an update of the app renamed. Documents go on under the old name, so that
//! what devices without the update type there meets what those with it type under the new one.
//!
//! Owns how a renaming is recognized, how it is told (as a row of a table no app has: it travels,
//! is forwarded and merges like any other), and what becomes of values written under the new name
//! by devices that had not heard of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rusqlite::Connection;
use storysync_crdt::{
    Base, EditPurpose, EntityId, Heads, SyncUuid, TableName, Value, field, genesis, key, key_uuid,
    says_nothing, says_the_same,
};

use crate::app::rows as app_rows;
use crate::app::schema::{Column, Schema, Table};
use crate::error::TransactionError;
use crate::store::renamed::{self, Renamed};
use crate::store::rows;
use crate::transaction::Transaction;

/// The table whose rows tell of renamings. No app's table can be called so: it begins like ours and
/// is none of them.
pub(crate) const TOLD_IN: &str = "storysync_renamed";
/// Most rows looked at for what two columns say alike.
const ROWS_COMPARED_MAX: usize = 10_000;
/// So many rows must say the same for each that says something else.
const ALIKE_FOR_EACH_OTHER: usize = 4;
/// Values without letters that must be alike and different among themselves: zeros and ones agree
/// by themselves.
const PLAIN_VALUES_MIN: usize = 3;

/// The tables of a file, with the names documents have for their columns.
pub(crate) fn schema_of(connection: &Connection, excluded: &[String]) -> rusqlite::Result<Schema> {
    let mut schema = Schema::read(connection, excluded)?;
    for renamed in renamed::all(connection)? {
        apply(&mut schema, &renamed);
    }
    Ok(schema)
}

fn apply(schema: &mut Schema, renamed: &Renamed) {
    if !renamed.column.is_empty() {
        schema.call(&renamed.table, &renamed.column, &renamed.name);
    } else if let Some(name) = TableName::parse(&renamed.name) {
        schema.call_table(&renamed.table, &name);
    }
}

/// What two columns have in common, one as it was and one as it is.
#[derive(Debug, Default)]
struct Likeness {
    alike: usize,
    other: usize,
    has_letters: bool,
    plain: BTreeSet<String>,
}

impl Likeness {
    fn look(&mut self, before: &Value, now: &Value) {
        if says_nothing(before) && says_nothing(now) {
            return;
        }
        if !says_the_same(before, now) {
            self.other += 1;
            return;
        }
        self.alike += 1;
        match before.as_text() {
            Some(text) => self.has_letters |= text.chars().any(char::is_alphabetic),
            None => drop(self.plain.insert(format!("{before:?}"))),
        }
    }

    /// Whether one column is the other under a new name. `in_place` says that it stands where the
    /// other stood, and all others do.
    fn is_renaming(&self, in_place: bool) -> bool {
        let is_evident = self.has_letters || self.plain.len() >= PLAIN_VALUES_MIN;
        if in_place {
            return self.other <= self.alike;
        }
        is_evident && self.other * ALIKE_FOR_EACH_OTHER <= self.alike
    }
}

impl Transaction<'_> {
    /// Looks for tables and columns that were renamed since the last look, before what is new and
    /// what is gone is judged.
    pub(crate) fn follow_renamings(&mut self, excluded: &[String]) -> Result<(), TransactionError> {
        for (sql_name, name) in self.renamed_tables(excluded)? {
            tracing::info!(
                table = sql_name,
                "the app renamed a table: documents go on under its old name"
            );
            let renamed =
                Renamed { table: sql_name, column: String::new(), name, is_taken_over: true };
            renamed::note(self.connection, &renamed)?;
            self.call(&renamed);
            self.tell_of(&renamed)?;
        }
        let mut found = Vec::new();
        let renamed = renamed::all(self.connection)?;
        for table in Arc::clone(&self.schema).tables() {
            let known = rows::table_columns(self.connection, table.name())?.unwrap_or_default();
            // Renamed once more, a column is gone under the name it had last; its first one may be
            // another's by now.
            let last = |name: &String| {
                renamed
                    .iter()
                    .find(|known| known.table == table.name() && known.name == *name)
                    .map(|known| &known.column)
            };
            let is_gone = |name: &String| {
                table
                    .column(name)
                    .is_none_or(|column| last(name).is_some_and(|last| column.sql_name != *last))
            };
            let gone: Vec<&String> =
                known.iter().filter(|name| !key::is_bookkeeping(name) && is_gone(name)).collect();
            let new: Vec<&Column> = table
                .columns
                .iter()
                .filter(|column| {
                    column.is_content()
                        && (!known.contains(&column.name) || gone.contains(&&column.name))
                })
                .collect();
            if gone.is_empty() || new.is_empty() {
                continue;
            }
            found.extend(self.renamings_of(table, &known, &gone, &new)?);
        }
        for (table, column, name) in found {
            tracing::info!(
                table,
                column,
                "the app renamed a column: documents go on under its old name"
            );
            let renamed = Renamed { table, column, name, is_taken_over: false };
            renamed::note(self.connection, &renamed)?;
            self.call(&renamed);
            self.tell_of(&renamed)?;
        }
        Ok(())
    }

    /// Tables that are gone and stand under another name now: with the same columns, and with the
    /// rows they had.
    fn renamed_tables(
        &mut self,
        excluded: &[String],
    ) -> Result<Vec<(String, String)>, TransactionError> {
        let mut found: Vec<(String, String)> = Vec::new();
        for name in rows::tables_with_columns(self.connection)?
            .into_iter()
            .filter(|name| self.schema.table(name).is_none() && !excluded.contains(name))
        {
            let Some(id) = rows::find_table(self.connection, &name)? else { continue };
            let columns = rows::table_columns(self.connection, &name)?.unwrap_or_default();
            let known: BTreeSet<String> = rows::present_in(self.connection, id)?
                .into_iter()
                .map(|record| record.uuid.to_string())
                .collect();
            for table in Arc::clone(&self.schema).tables() {
                let is_new = rows::table_columns(self.connection, table.name())?
                    .is_none_or(|columns| columns.is_empty());
                let is_alike = table.columns.len() == columns.len()
                    && table.columns.iter().all(|column| columns.contains(&column.name));
                if !is_new
                    || !is_alike
                    || found.iter().any(|(sql_name, _)| *sql_name == table.sql_name)
                {
                    continue;
                }
                let standing = app_rows::all_uuids(self.connection, table)?;
                let kept = standing.iter().filter(|uuid| known.contains(*uuid)).count();
                if kept * ALIKE_FOR_EACH_OTHER >= standing.len() * (ALIKE_FOR_EACH_OTHER - 1)
                    && (kept > 0 || known.is_empty())
                {
                    found.push((table.sql_name.clone(), name.clone()));
                    break;
                }
            }
        }
        Ok(found)
    }

    fn renamings_of(
        &mut self,
        table: &Table,
        known: &[String],
        gone: &[&String],
        new: &[&Column],
    ) -> Result<Vec<(String, String, String)>, TransactionError> {
        let mut likeness: BTreeMap<(usize, usize), Likeness> = BTreeMap::new();
        let id = self.table_id(&table.name)?;
        for record in rows::present_in(self.connection, id)?.into_iter().take(ROWS_COMPARED_MAX) {
            let Some(local_id) = record.local_id else { continue };
            let Some(stored) = app_rows::by_local_id(self.connection, table, local_id)? else {
                continue;
            };
            for (old, name) in gone.iter().enumerate() {
                let before = match record.differs.get(*name) {
                    Some(difference) => difference.shown.clone(),
                    None => field(self.document(record.id)?, name).unwrap_or(Value::Null),
                };
                for (place, column) in new.iter().enumerate() {
                    let now = stored
                        .columns(table)
                        .find(|(other, _)| other.name == column.name)
                        .map(|(_, value)| value.clone())
                        .unwrap_or(Value::Null);
                    let captured = self.as_document(column, &now)?;
                    likeness.entry((old, place)).or_default().look(&before, &captured);
                }
            }
        }
        let is_in_place = |name: &String, column: &Column| {
            let stays = |(known, column): (&String, &Column)| {
                *known == column.name
                    || (gone.contains(&known) && new.iter().any(|new| new.name == column.name))
            };
            let here = known.iter().position(|other| other == name);
            known.len() == table.columns.len()
                && known.iter().zip(&table.columns).all(stays)
                && here == table.columns.iter().position(|other| other.name == column.name)
        };
        let mut pairs = Vec::new();
        for (old, name) in gone.iter().enumerate() {
            for (place, column) in new.iter().enumerate() {
                let like = likeness.remove(&(old, place)).unwrap_or_default();
                let in_place = is_in_place(name, column);
                if like.is_renaming(in_place) {
                    pairs.push((in_place, like.alike, old, place));
                }
            }
        }
        // Where a column stands says more than what it says.
        pairs.sort_by(|a, b| b.cmp(a));
        let (mut taken, mut given) = (BTreeSet::new(), BTreeSet::new());
        let mut found = Vec::new();
        for (_, _, old, place) in pairs {
            if let (Some(name), Some(column)) = (gone.get(old), new.get(place))
                && !taken.contains(&old)
                && given.insert(place)
            {
                taken.insert(old);
                found.push((table.name().to_owned(), column.sql_name.clone(), (*name).clone()));
            }
        }
        Ok(found)
    }

    /// From here on the column has the documents' name.
    fn call(&mut self, renamed: &Renamed) {
        let mut schema = (*self.schema).clone();
        apply(&mut schema, renamed);
        self.schema = Arc::new(schema);
    }

    /// Writes the row that tells other devices.
    fn tell_of(&mut self, renamed: &Renamed) -> Result<(), TransactionError> {
        let Some(table) = TableName::parse(TOLD_IN) else { return Ok(()) };
        let puts = BTreeMap::from([
            ("table_name".to_owned(), Value::from(renamed.table.as_str())),
            ("column_name".to_owned(), Value::from(renamed.column.as_str())),
            ("name".to_owned(), Value::from(renamed.name.as_str())),
        ]);
        let uuid = key_uuid(&table, puts.iter().map(|(key, value)| (key.as_str(), value)));
        let id = self.table_id(&table)?;
        let row = rows::find_or_create(self.connection, id, &uuid)?.id;
        if self.document(row)?.is_empty() {
            let first = genesis(&EntityId { table, uuid }, puts);
            if let Err(error) = self.admit(row, first, None)? {
                tracing::error!(%error, "a renamed column can't be told to other devices");
            }
        }
        Ok(())
    }

    /// Takes over what other devices told of renamed columns. To be called when what the app wrote
    /// has been taken in.
    pub(crate) fn learn_renamings(&mut self) -> Result<(), TransactionError> {
        if let Some(id) = self.find_table(TOLD_IN)? {
            for row in rows::all_in(self.connection, id)? {
                let document = self.document(row)?;
                let text = |name: &str| {
                    field(document, name).and_then(|value| value.as_text().map(str::to_owned))
                };
                let (Some(table), Some(column), Some(name)) =
                    (text("table_name"), text("column_name"), text("name"))
                else {
                    continue;
                };
                if key::is_bookkeeping(&name)
                    || name.starts_with("sync_")
                    || name.starts_with("sqlite_")
                    || name.is_empty()
                    || name.len() > storysync_crdt::KEY_BYTES_MAX
                {
                    continue;
                }
                if column.is_empty() {
                    self.learn_table(&table, &name)?;
                    continue;
                }
                let is_new = self.schema.table(&table).is_some_and(|table| {
                    table.column(&name).is_none()
                        && table.columns.iter().any(|known| {
                            known.sql_name == column && known.name == column && known.is_content()
                        })
                });
                if is_new {
                    let renamed = Renamed { table, column, name, is_taken_over: false };
                    renamed::note(self.connection, &renamed)?;
                    self.call(&renamed);
                }
            }
        }
        for renamed in
            renamed::all(self.connection)?.into_iter().filter(|renamed| !renamed.is_taken_over)
        {
            self.take_over(&renamed)?;
            renamed::note(self.connection, &Renamed { is_taken_over: true, ..renamed })?;
        }
        Ok(())
    }

    /// Another device tells that a table was called otherwise once. Where it holds rows here
    /// already they have names of their own, and stay what they are.
    fn learn_table(&mut self, sql_name: &str, name: &str) -> Result<(), TransactionError> {
        let is_ours = self.schema.table(name).is_some()
            || self.schema.table_in_file(sql_name).is_none_or(|table| table.name() != sql_name);
        let Some(id) = self.find_table(sql_name)?.filter(|_| !is_ours) else { return Ok(()) };
        if rows::once_stood_in(self.connection, id)? {
            tracing::warn!(
                table = sql_name,
                "other devices call this table otherwise, and it holds rows here: those stay on \
                    their own"
            );
            return Ok(());
        }
        rows::set_table_columns(self.connection, id, &[])?;
        renamed::note(
            self.connection,
            &Renamed {
                table: sql_name.to_owned(),
                column: String::new(),
                name: name.to_owned(),
                is_taken_over: true,
            },
        )?;
        // The next transaction takes it in as it takes in a table that is new.
        self.connection.execute("UPDATE sync_state SET schema_version = -1", [])?;
        Ok(())
    }

    /// What was written under the new name by a device that had not heard of the old one is written
    /// under the old one, as an edit of the same moment: beside what others wrote there, not over
    /// it.
    fn take_over(&mut self, renamed: &Renamed) -> Result<(), TransactionError> {
        let schema = Arc::clone(&self.schema);
        let Some(table) = schema.table(&renamed.table) else { return Ok(()) };
        let id = self.table_id(&table.name)?;
        let columns: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
        rows::set_table_columns(self.connection, id, &columns)?;
        let mut touched = BTreeSet::new();
        for row in rows::all_in(self.connection, id)? {
            let document = self.document(row)?;
            let known = field(document, &renamed.name);
            let told = field(document, &renamed.column).filter(|told| !says_nothing(told));
            let put = document.register(&renamed.column).and_then(|register| register.winner());
            let change = put.and_then(|put| document.changes().get(put.change));
            if let (Some(told), Some(change)) = (told, change)
                && known.as_ref().is_none_or(|known| !says_the_same(known, &told))
            {
                let purpose = if EditPurpose::of(change) == EditPurpose::NewColumns {
                    EditPurpose::NewColumns
                } else {
                    EditPurpose::Edit
                };
                let base = Base::from(Heads::from([change.hash()]));
                let now = self.now;
                self.edit(
                    row,
                    BTreeMap::from([(renamed.name.clone(), told)]),
                    purpose,
                    Some(&base),
                    now,
                )?;
                touched.insert(row);
            } else if known.is_some() {
                touched.insert(row);
            }
        }
        self.project(touched)
    }

    /// A stored value as documents hold it, as far as it can be told.
    fn as_document(&mut self, column: &Column, stored: &Value) -> Result<Value, TransactionError> {
        let (crate::app::schema::Role::Reference { table }, Value::Integer(id)) =
            (&column.role, stored)
        else {
            return Ok(stored.clone());
        };
        let Some(table) = self.find_table(table)? else { return Ok(stored.clone()) };
        let uuid: Option<SyncUuid> =
            rows::at_local_id(self.connection, table, *id)?.map(|record| record.uuid);
        Ok(uuid.map_or_else(|| stored.clone(), |uuid| Value::from(uuid.as_str())))
    }
}
