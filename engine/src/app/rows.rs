//! Reading and writing single rows of the app's tables, whatever their columns are.

use std::borrow::Cow;
use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params_from_iter};
use storysync_crdt::{SyncUuid, Value};

use super::quote;
use super::schema::{Column, Role, Table, TableSql};
use crate::translate::{from_sql, to_sql};

/// A row as it stands in the app's table.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredRow {
    /// Its id here.
    pub local_id: i64,
    /// Its other columns, in the order of [`Table::columns`].
    pub values: Vec<Value>,
}

impl StoredRow {
    /// The value of the column with a role; NULL when the table has none.
    #[must_use]
    pub fn by_role(&self, table: &Table, role: &Role) -> &Value {
        const NULL: &Value = &Value::Null;
        let position = table.columns.iter().position(|column| column.role == *role);
        position.and_then(|position| self.values.get(position)).unwrap_or(NULL)
    }

    /// The columns with their values.
    pub fn columns<'a>(
        &'a self,
        table: &'a Table,
    ) -> impl Iterator<Item = (&'a Column, &'a Value)> {
        table.columns.iter().zip(&self.values)
    }

    /// The row's uuid, when it has a usable one.
    #[must_use]
    pub fn uuid(&self, table: &Table) -> Option<SyncUuid> {
        self.by_role(table, &Role::SyncUuid).as_text().and_then(SyncUuid::parse)
    }
}

/// `SELECT` of all of a table's columns, ready for a WHERE clause.
#[must_use]
pub fn select(table: &Table) -> &str {
    &table.sql.select
}

/// The statements of a table.
pub(super) fn statements(name: &str, local_id: &str, columns: &[Column]) -> TableSql {
    let names: Vec<String> = columns.iter().map(|column| quote(&column.sql_name)).collect();
    let (name, id) = (quote(name), quote(local_id));
    let select = format!("SELECT {id}, {} FROM {name}", names.join(", "));
    let time = |role: &Role| {
        columns
            .iter()
            .find(|column| column.role == *role)
            .map_or_else(|| "NULL".to_owned(), |column| quote(&column.sql_name))
    };
    let places: Vec<String> = (1..=names.len() + 1).map(|place| format!("?{place}")).collect();
    TableSql {
        select_one: format!("{select} WHERE {id} = ?1"),
        find_uuid: format!("SELECT {id} FROM {name} WHERE sync_uuid = ?1"),
        times: format!(
            "SELECT {}, {} FROM {name} WHERE {id} = ?1",
            time(&Role::CreatedAt),
            time(&Role::UpdatedAt)
        ),
        highest_id: format!("SELECT coalesce(max({id}), 0) FROM {name}"),
        insert: format!(
            "INSERT INTO {name} ({id}, {}) VALUES ({})",
            names.join(", "),
            places.join(", ")
        ),
        select,
    }
}

/// Reads what [`select`] selected.
///
/// # Errors
/// When the row has other columns than the table.
pub fn read(table: &Table, row: &SqlRow<'_>) -> rusqlite::Result<StoredRow> {
    let values = (1..=table.columns.len())
        .map(|position| row.get_ref(position).map(from_sql))
        .collect::<Result<_, _>>()?;
    Ok(StoredRow { local_id: row.get(0)?, values })
}

/// The row with a local id.
///
/// # Errors
/// When SQLite fails.
pub fn by_local_id(
    connection: &Connection,
    table: &Table,
    local_id: i64,
) -> rusqlite::Result<Option<StoredRow>> {
    connection
        .prepare_cached(&table.sql.select_one)?
        .query_row([local_id], |row| read(table, row))
        .optional()
}

/// `created_at` and `updated_at` of the row with a local id.
///
/// # Errors
/// When SQLite fails.
pub fn times(
    connection: &Connection,
    table: &Table,
    local_id: i64,
) -> rusqlite::Result<Option<(Value, Value)>> {
    connection
        .prepare_cached(&table.sql.times)?
        .query_row([local_id], |row| Ok((from_sql(row.get_ref(0)?), from_sql(row.get_ref(1)?))))
        .optional()
}

/// The local id of the row with a uuid.
///
/// # Errors
/// When SQLite fails.
pub fn local_id_of(
    connection: &Connection,
    table: &Table,
    uuid: &SyncUuid,
) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached(&table.sql.find_uuid)?
        .query_row([uuid.as_str()], |row| row.get(0))
        .optional()
}

/// The highest local id in use, 0 for an empty table.
///
/// # Errors
/// When SQLite fails.
pub fn highest_local_id(connection: &Connection, table: &Table) -> rusqlite::Result<i64> {
    connection.prepare_cached(&table.sql.highest_id)?.query_row([], |row| row.get(0))
}

/// The highest integer a reference column holds, 0 when none.
///
/// # Errors
/// When SQLite fails.
pub fn highest_reference(
    connection: &Connection,
    table: &Table,
    column: &Column,
) -> rusqlite::Result<i64> {
    let column = quote(&column.sql_name);
    let sql = format!(
        "SELECT coalesce(max({column}), 0) FROM {} WHERE typeof({column}) = 'integer'",
        quote(&table.sql_name)
    );
    connection.query_row(&sql, [], |row| row.get(0))
}

/// Whether a table has no rows.
///
/// # Errors
/// When SQLite fails.
pub fn is_empty(connection: &Connection, table: &Table) -> rusqlite::Result<bool> {
    connection.query_row(
        &format!("SELECT NOT EXISTS (SELECT 1 FROM {})", quote(&table.sql_name)),
        [],
        |row| row.get(0),
    )
}

/// All local ids, ascending.
///
/// # Errors
/// When SQLite fails.
pub fn all_local_ids(connection: &Connection, table: &Table) -> rusqlite::Result<Vec<i64>> {
    let sql =
        format!("SELECT {0} FROM {1} ORDER BY {0}", quote(&table.local_id), quote(&table.sql_name));
    connection.prepare(&sql)?.query_map([], |row| row.get(0))?.collect()
}

/// Writes a new row.
///
/// # Errors
/// When SQLite refuses it: a constraint, a type.
pub fn insert(
    connection: &Connection,
    table: &Table,
    local_id: i64,
    values: &BTreeMap<String, Value>,
) -> rusqlite::Result<()> {
    let columns: Vec<String> = values.keys().map(|column| quote(table.sql_name(column))).collect();
    let places: Vec<String> = (2..values.len() + 2).map(|place| format!("?{place}")).collect();
    let comma = if columns.is_empty() { "" } else { ", " };
    let sql = format!(
        "INSERT INTO {} ({}{comma}{}) VALUES (?1{comma}{})",
        quote(&table.sql_name),
        quote(&table.local_id),
        columns.join(", "),
        places.join(", ")
    );
    let id = Value::Integer(local_id);
    refuse_ignored(
        connection
            .prepare_cached(&sql)?
            .execute(params_from_iter(std::iter::once(&id).chain(values.values()).map(to_sql)))?,
    )
}

/// Writes a new row, all of its columns in the table's order.
///
/// # Errors
/// When SQLite refuses it: a constraint, a type.
pub fn insert_whole(
    connection: &Connection,
    table: &Table,
    local_id: i64,
    values: &[Cow<'_, Value>],
) -> rusqlite::Result<()> {
    let id = Value::Integer(local_id);
    refuse_ignored(connection.prepare_cached(&table.sql.insert)?.execute(params_from_iter(
        std::iter::once(&id).chain(values.iter().map(AsRef::as_ref)).map(to_sql),
    ))?)
}

/// A trigger of the app's that says `RAISE(IGNORE)` drops the row without an error: as good as a
/// refusal, and no deletion.
fn refuse_ignored(written: usize) -> rusqlite::Result<()> {
    if written == 0 {
        let refused = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CONSTRAINT_TRIGGER);
        return Err(rusqlite::Error::SqliteFailure(
            refused,
            Some("a trigger of the table's ignores the row".to_owned()),
        ));
    }
    Ok(())
}

/// Changes columns of a row.
///
/// # Errors
/// When SQLite refuses it: a constraint, a type.
pub fn update(
    connection: &Connection,
    table: &Table,
    local_id: i64,
    values: &BTreeMap<String, Value>,
) -> rusqlite::Result<()> {
    if values.is_empty() {
        return Ok(());
    }
    let sets: Vec<String> = values
        .keys()
        .enumerate()
        .map(|(place, column)| format!("{} = ?{}", quote(table.sql_name(column)), place + 2))
        .collect();
    let sql = format!(
        "UPDATE {} SET {} WHERE {} = ?1",
        quote(&table.sql_name),
        sets.join(", "),
        quote(&table.local_id)
    );
    let id = Value::Integer(local_id);
    let written = connection
        .prepare_cached(&sql)?
        .execute(params_from_iter(std::iter::once(&id).chain(values.values()).map(to_sql)))?;
    if written == 0 && stands(connection, table, local_id)? { refuse_ignored(0) } else { Ok(()) }
}

/// Removes a row.
///
/// # Errors
/// When SQLite refuses it: a trigger does.
pub fn delete(connection: &Connection, table: &Table, local_id: i64) -> rusqlite::Result<()> {
    let sql =
        format!("DELETE FROM {} WHERE {} = ?1", quote(&table.sql_name), quote(&table.local_id));
    let removed = connection.prepare_cached(&sql)?.execute([local_id])?;
    // A trigger of the app's may have removed it before us.
    if removed == 0 && stands(connection, table, local_id)? { refuse_ignored(0) } else { Ok(()) }
}

/// Whether a row stands under a local id.
///
/// # Errors
/// When SQLite fails.
pub fn stands(connection: &Connection, table: &Table, local_id: i64) -> rusqlite::Result<bool> {
    let sql = format!(
        "SELECT EXISTS (SELECT 1 FROM {} WHERE {} = ?1)",
        quote(&table.sql_name),
        quote(&table.local_id)
    );
    connection.prepare_cached(&sql)?.query_row([local_id], |row| row.get(0))
}

/// Whether some row holds a value in a column.
///
/// # Errors
/// When SQLite fails.
pub fn holds(
    connection: &Connection,
    table: &Table,
    column: &str,
    value: &Value,
) -> rusqlite::Result<bool> {
    let sql = format!(
        "SELECT EXISTS (SELECT 1 FROM {} WHERE {} = ?1)",
        quote(&table.sql_name),
        quote(table.sql_name(column))
    );
    connection.prepare_cached(&sql)?.query_row([to_sql(value)], |row| row.get(0))
}

/// The local ids of the other rows that hold the same values in `columns`.
///
/// # Errors
/// When SQLite fails.
pub fn holders(
    connection: &Connection,
    table: &Table,
    columns: &[String],
    values: &[&Value],
    but: i64,
) -> rusqlite::Result<Vec<i64>> {
    let id = quote(&table.local_id);
    let same: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(place, column)| format!("{} = ?{}", quote(table.sql_name(column)), place + 2))
        .collect();
    let sql = format!(
        "SELECT {id} FROM {} WHERE {id} <> ?1 AND {}",
        quote(&table.sql_name),
        same.join(" AND ")
    );
    let but = Value::Integer(but);
    connection
        .prepare_cached(&sql)?
        .query_map(
            params_from_iter(std::iter::once(&but).chain(values.iter().copied()).map(to_sql)),
            |row| row.get(0),
        )?
        .collect()
}

/// Whether the row with a local id is marked as deleted.
///
/// # Errors
/// When SQLite fails.
pub fn is_marked_deleted(
    connection: &Connection,
    table: &Table,
    local_id: i64,
) -> rusqlite::Result<bool> {
    let Some(column) = table.with_role(&Role::DeletedAt) else { return Ok(false) };
    let (name, id) = (quote(&table.sql_name), quote(&table.local_id));
    let sql = format!(
        "SELECT EXISTS (SELECT 1 FROM {name} WHERE {id} = ?1 AND {} IS NOT NULL)",
        quote(&column.sql_name)
    );
    connection.prepare_cached(&sql)?.query_row([local_id], |row| row.get(0))
}

/// How many rows of a table are marked as deleted, and stay in it.
///
/// # Errors
/// When SQLite fails.
pub fn count_marked_deleted(connection: &Connection, table: &Table) -> rusqlite::Result<i64> {
    let Some(column) = table.with_role(&Role::DeletedAt) else { return Ok(0) };
    let (name, deleted_at) = (quote(&table.sql_name), quote(&column.sql_name));
    let sql = format!("SELECT count(*) FROM {name} WHERE {deleted_at} IS NOT NULL");
    connection.prepare_cached(&sql)?.query_row([], |row| row.get(0))
}

/// The local ids of the other rows that stand in the way of a row with these values, as SQLite
/// judges it: those it would take away to make room. The row stands under `local_id`, or is new.
/// Nothing is changed.
///
/// # Errors
/// When SQLite refuses the values for another reason, or fails.
pub fn rivals(
    connection: &Connection,
    table: &Table,
    local_id: i64,
    is_new: bool,
    values: &BTreeMap<String, Value>,
) -> rusqlite::Result<Vec<i64>> {
    let id = Value::Integer(local_id);
    let places =
        values.keys().enumerate().map(|(place, column)| (quote(table.sql_name(column)), place + 2));
    let sql = if is_new {
        let (columns, marks): (Vec<String>, Vec<String>) =
            places.map(|(column, place)| (format!(", {column}"), format!(", ?{place}"))).unzip();
        format!(
            "INSERT OR REPLACE INTO {} ({}{}) VALUES (?1{})",
            quote(&table.sql_name),
            quote(&table.local_id),
            columns.concat(),
            marks.concat()
        )
    } else {
        let sets: Vec<String> =
            places.map(|(column, place)| format!("{column} = ?{place}")).collect();
        format!(
            "UPDATE OR REPLACE {} SET {} WHERE {} = ?1",
            quote(&table.sql_name),
            sets.join(", "),
            quote(&table.local_id)
        )
    };
    let before = all_local_ids(connection, table)?;
    connection.execute_batch("SAVEPOINT storysync_rivals")?;
    let replaced = connection
        .prepare_cached(&sql)?
        .execute(params_from_iter(std::iter::once(&id).chain(values.values()).map(to_sql)));
    let after = all_local_ids(connection, table);
    // Whatever triggers of the app's have done goes with it.
    connection.execute_batch("ROLLBACK TO storysync_rivals; RELEASE storysync_rivals")?;
    replaced?;
    let after: std::collections::HashSet<i64> = after?.into_iter().collect();
    Ok(before.into_iter().filter(|other| *other != local_id && !after.contains(other)).collect())
}

/// The `sync_uuid` of every row that has one.
///
/// # Errors
/// When SQLite fails.
pub fn all_uuids(connection: &Connection, table: &Table) -> rusqlite::Result<Vec<String>> {
    let Some(column) = table.with_role(&Role::SyncUuid) else { return Ok(Vec::new()) };
    let sql = format!(
        "SELECT CAST({0} AS TEXT) FROM {1} WHERE {0} IS NOT NULL",
        quote(&column.sql_name),
        quote(&table.sql_name)
    );
    connection.prepare(&sql)?.query_map([], |row| row.get(0))?.collect()
}
