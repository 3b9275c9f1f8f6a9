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
    /// A row is to be inserted under an id that was named, where another stands or was deleted a
    /// moment ago.
    Placed,
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
    /// When it was written: UTC, `YYYY-MM-DD HH:MM:SS.ffffff`.
    pub at: String,
}

/// Takes everything out of the outbox, in order of writing.
///
/// # Errors
/// When SQLite fails.
pub fn take(connection: &Connection) -> rusqlite::Result<Vec<Hint>> {
    let mut select = connection.prepare_cached(
        "SELECT table_name, operation, local_id, sync_uuid, \
        base_version, at FROM sync_outbox ORDER BY seq",
    )?;
    let mut rows = select.query([])?;
    let mut hints = Vec::new();
    while let Some(row) = rows.next()? {
        let operation = match row.get_ref(1)?.as_str()? {
            "I" => Operation::Inserted,
            "D" => Operation::Deleted,
            "R" => Operation::PerhapsReplaced,
            "P" => Operation::Placed,
            "X" => Operation::UuidChanged,
            _ => Operation::Updated,
        };
        // Whatever stands in the app's column: bytes, or text that is none, name no row.
        let uuid = row
            .get_ref(3)?
            .as_bytes_or_null()?
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .map(str::to_owned);
        hints.push(Hint {
            table: row.get(0)?,
            operation,
            local_id: row.get(2)?,
            uuid,
            base_version: row.get(4)?,
            at: row.get(5)?,
        });
    }
    if !hints.is_empty() {
        connection.prepare_cached("DELETE FROM sync_outbox")?.execute([])?;
    }
    Ok(hints)
}

/// Whether the outbox is empty: nothing the app wrote waits to be captured.
///
/// # Errors
/// When SQLite fails.
pub fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT NOT EXISTS (SELECT 1 FROM sync_outbox)")?
        .query_row([], |row| row.get(0))
}

/// Who writes, as our triggers are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// The app: everything is noted.
    App,
    /// storysync: nothing is.
    Own,
    /// storysync, in a file whose app has triggers: what they touch is noted, along with our own.
    OwnWithTriggers,
}

/// Tells our triggers who writes.
///
/// # Errors
/// When SQLite fails.
pub fn set_writer(connection: &Connection, writer: Writer) -> rusqlite::Result<()> {
    let own: i64 = match writer {
        Writer::App => 0,
        Writer::Own => 1,
        Writer::OwnWithTriggers => 2,
    };
    connection.prepare_cached("UPDATE sync_writer SET own = ?1")?.execute([own])?;
    Ok(())
}
