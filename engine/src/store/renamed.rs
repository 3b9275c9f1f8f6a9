//! Tables and columns the app renamed: what its file calls them, and what documents do.

use rusqlite::{Connection, params};

/// A column, or a table, that has one name in the app's file and another in documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renamed {
    /// The table, as documents call it; where the table itself is renamed, as the app's file does.
    pub table: String,
    /// The column as the app's table calls it; empty where the table itself is renamed.
    pub column: String,
    /// The column, or the table, as documents call it.
    pub name: String,
    /// Whether what devices wrote under the new name is known under the documents' one.
    pub is_taken_over: bool,
}

/// All renamed columns; none in a file that has not been prepared, or not by this version.
///
/// # Errors
/// When SQLite fails.
pub fn all(connection: &Connection) -> rusqlite::Result<Vec<Renamed>> {
    let exists: bool = connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name \
            = 'sync_renamed')",
        )?
        .query_row([], |row| row.get(0))?;
    if !exists {
        return Ok(Vec::new());
    }
    connection
        .prepare_cached(
            "SELECT table_name, column_name, name, taken_over FROM sync_renamed ORDER \
            BY column_name <> '', table_name, column_name",
        )?
        .query_map([], |row| {
            Ok(Renamed {
                table: row.get(0)?,
                column: row.get(1)?,
                name: row.get(2)?,
                is_taken_over: row.get(3)?,
            })
        })?
        .collect()
}

/// Notes a renamed column, or what became of it. What the column was called before is forgotten.
///
/// # Errors
/// When SQLite fails.
pub fn note(connection: &Connection, renamed: &Renamed) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "DELETE FROM sync_renamed WHERE table_name = ?1 AND name = ?3 AND column_name <> ?2",
        )?
        .execute(params![renamed.table, renamed.column, renamed.name])?;
    connection
        .prepare_cached(
            "INSERT INTO sync_renamed (table_name, column_name, name, taken_over) VALUES (?1, ?2, \
                ?3, ?4) \
             ON CONFLICT (table_name, column_name) DO UPDATE SET name = excluded.name, taken_over \
             = excluded.taken_over",
        )?
        .execute(params![renamed.table, renamed.column, renamed.name, renamed.is_taken_over])?;
    Ok(())
}
