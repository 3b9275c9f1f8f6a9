//! The outbox our triggers fill, and the flag that tells them to let our own writes pass.

use rusqlite::Connection;

/// What a trigger saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A row was inserted.
    Inserted,
    /// A row was updated.
    Updated,
    /// A row was deleted, or moved away from this id.
    Deleted,
    /// A row may have been displaced by INSERT OR REPLACE.
    PerhapsReplaced,
    /// An update put another `sync_uuid` into the row.
    UuidChanged,
}

/// One line of the outbox: look at this row.
#[derive(Debug, Clone)]
pub struct Hint {
    /// The content table.
    pub table: String,
    /// What happened.
    pub operation: Operation,
    /// The row's id in the app's table.
    pub local_id: i64,
    /// The uuid the row had (of the row that was there before, unless inserted or updated).
    pub uuid: Option<String>,
    /// The version a stale form was read at.
    pub base_version: Option<i64>,
    /// UTC time of the write.
    pub at: String,
}

/// Takes everything out of the outbox, in order of writing.
///
/// # Errors
/// When SQLite fails.
pub fn take(connection: &Connection) -> rusqlite::Result<Vec<Hint>> {
    let mut select = connection.prepare_cached("SELECT table_name, operation, local_id, sync_uuid, base_version, at FROM sync_outbox ORDER BY seq")?;
    let mut rows = select.query([])?;
    let mut hints = Vec::new();
    while let Some(row) = rows.next()? {
        let operation = match row.get_ref(1)?.as_str()? {
            "I" => Operation::Inserted,
            "D" => Operation::Deleted,
            "R" => Operation::PerhapsReplaced,
            "X" => Operation::UuidChanged,
            _ => Operation::Updated,
        };
        hints.push(Hint { table: row.get(0)?, operation, local_id: row.get(2)?, uuid: row.get(3)?, base_version: row.get(4)?, at: row.get(5)? });
    }
    if !hints.is_empty() {
        connection.prepare_cached("DELETE FROM sync_outbox")?.execute([])?;
    }
    Ok(hints)
}

/// Whether the app wrote something nobody has looked at.
///
/// # Errors
/// When SQLite fails.
pub fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT NOT EXISTS (SELECT 1 FROM sync_outbox)")?.query_row([], |row| row.get(0))
}

/// Raises or lowers the flag that lets our own writes pass the triggers.
///
/// # Errors
/// When SQLite fails.
pub fn set_own_writes(connection: &Connection, own: bool) -> rusqlite::Result<()> {
    connection.prepare_cached("UPDATE sync_writer SET own = ?1")?.execute([own])?;
    Ok(())
}
