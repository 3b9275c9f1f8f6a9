//! The content tables as we know them: by a number, with their columns and the highest id they
//! handed out.

use super::TableId;
use rusqlite::{Connection, OptionalExtension, params};
use storysync_crdt::TableName;

/// The short name of a table, made when it is new here.
///
/// # Errors
/// When SQLite fails.
pub fn table_id(connection: &Connection, name: &TableName) -> rusqlite::Result<TableId> {
    if let Some(id) = find_table(connection, name.as_str())? {
        return Ok(id);
    }
    connection
        .prepare_cached("INSERT INTO sync_table (name, high_id, columns) VALUES (?1, 0, '[]')")?
        .execute([name.as_str()])?;
    Ok(TableId(connection.last_insert_rowid()))
}

/// The short name of a table that is known.
///
/// # Errors
/// When SQLite fails.
pub fn find_table(connection: &Connection, name: &str) -> rusqlite::Result<Option<TableId>> {
    connection
        .prepare_cached("SELECT id FROM sync_table WHERE name = ?1")?
        .query_row([name], |row| row.get(0).map(TableId))
        .optional()
}

/// How many tables are known, those only other devices have included.
///
/// # Errors
/// When SQLite fails.
pub fn count_tables(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("SELECT count(*) FROM sync_table")?.query_row([], |row| row.get(0))
}

/// The name of a table.
///
/// # Errors
/// When SQLite fails.
pub fn table_name(connection: &Connection, id: TableId) -> rusqlite::Result<TableName> {
    let name: String = connection
        .prepare_cached("SELECT name FROM sync_table WHERE id = ?1")?
        .query_row([id.0], |row| row.get(0))?;
    TableName::parse(&name).ok_or(rusqlite::Error::InvalidColumnType(
        0,
        "name".to_owned(),
        rusqlite::types::Type::Text,
    ))
}

/// The columns a table had when it was last looked at, `None` when it is not known here.
///
/// # Errors
/// When SQLite fails.
pub fn table_columns(connection: &Connection, name: &str) -> rusqlite::Result<Option<Vec<String>>> {
    let json: Option<String> = connection
        .prepare_cached("SELECT columns FROM sync_table WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?;
    Ok(json.and_then(|json| serde_json::from_str(&json).ok()))
}

/// The tables that stood in the app's file when it was last looked at.
///
/// # Errors
/// When SQLite fails.
pub fn tables_with_columns(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare_cached("SELECT name FROM sync_table WHERE columns <> '[]'")?
        .query_map([], |row| row.get(0))?
        .collect()
}

/// Whether rows of a table once stood in the app's file.
///
/// # Errors
/// When SQLite fails.
pub fn once_stood_in(connection: &Connection, id: TableId) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM sync_row WHERE table_id = ?1 AND local_id IS NOT NULL)",
        )?
        .query_row([id.0], |row| row.get(0))
}

/// The app dropped a table: nothing of it is shown any more.
///
/// # Errors
/// When SQLite fails.
pub fn forget_table(connection: &Connection, name: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE sync_state SET entities = entities - (SELECT count(*) FROM sync_row WHERE \
                present = 1 AND table_id = (SELECT id FROM sync_table WHERE name = ?1))",
        )?
        .execute([name])?;
    connection
        .prepare_cached(
            "UPDATE sync_row SET present = 0 WHERE present = 1 AND table_id = (SELECT \
            id FROM sync_table WHERE name = ?1)",
        )?
        .execute([name])?;
    connection
        .prepare_cached("UPDATE sync_table SET columns = '[]' WHERE name = ?1")?
        .execute([name])?;
    Ok(())
}

/// Remembers a table's columns.
///
/// # Errors
/// When SQLite fails.
pub fn set_table_columns(
    connection: &Connection,
    id: TableId,
    columns: &[&str],
) -> rusqlite::Result<()> {
    let json = serde_json::Value::from(columns).to_string();
    connection
        .prepare_cached("UPDATE sync_table SET columns = ?2 WHERE id = ?1")?
        .execute(params![id.0, json])?;
    Ok(())
}

/// Notes that a local id exists, or existed, in a table.
///
/// # Errors
/// When SQLite fails.
pub fn raise_high_id(connection: &Connection, id: TableId, local_id: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE sync_table SET high_id = ?2 WHERE id = ?1 AND high_id < ?2")?
        .execute([id.0, local_id])?;
    Ok(())
}

/// The highest local id ever seen, or referred to, in a table.
///
/// # Errors
/// When SQLite fails.
pub fn high_id(connection: &Connection, id: TableId) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("SELECT high_id FROM sync_table WHERE id = ?1")?
        .query_row([id.0], |row| row.get(0))
}
