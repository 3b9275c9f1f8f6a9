//! Texts from elsewhere that gave way here, where nobody can say whether the app's user had read
//! them: told, and taken back in one step, until somebody has looked at them.

use rusqlite::{Connection, OptionalExtension, params};
use storysync_crdt::ChangeHash;

use super::rows::RowId;

/// A notice is told for so long, in milliseconds: thirty days. The text stays in the row's history.
const TOLD_MS_MAX: i64 = 30 * 24 * 60 * 60 * 1_000;

/// A text that gave way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Its number.
    pub id: i64,
    /// The row.
    pub row: RowId,
    /// The column.
    pub column: String,
    /// The change that wrote the text.
    pub change: ChangeHash,
    /// When it gave way, in Unix milliseconds.
    pub at_ms: i64,
}

/// Notes a text that gave way; once for each text.
///
/// # Errors
/// When SQLite fails.
pub fn note(
    connection: &Connection,
    row: RowId,
    column: &str,
    change: &ChangeHash,
    now_ms: i64,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT OR IGNORE INTO sync_notice (row_id, column_name, hash, at) VALUES \
            (?1, ?2, ?3, ?4)",
        )?
        .execute(params![row.0, column, change.0, now_ms])?;
    connection
        .prepare_cached("DELETE FROM sync_notice WHERE at <= ?1")?
        .execute([now_ms.saturating_sub(TOLD_MS_MAX)])?;
    Ok(())
}

/// The notices that are told, oldest first.
///
/// # Errors
/// When SQLite fails.
pub fn open(connection: &Connection, now_ms: i64, limit: i64) -> rusqlite::Result<Vec<Notice>> {
    connection
        .prepare_cached(
            "SELECT id, row_id, column_name, hash, at FROM sync_notice WHERE ended_at \
            IS NULL AND at > ?1 ORDER BY at, id LIMIT ?2",
        )?
        .query_map(params![now_ms.saturating_sub(TOLD_MS_MAX), limit], read)?
        .filter_map(Result::transpose)
        .collect()
}

/// A notice that is told, by its number.
///
/// # Errors
/// When SQLite fails.
pub fn find(connection: &Connection, id: i64) -> rusqlite::Result<Option<Notice>> {
    let found = connection
        .prepare_cached(
            "SELECT id, row_id, column_name, hash, at FROM sync_notice WHERE id = ?1 \
            AND ended_at IS NULL",
        )?
        .query_row([id], read)
        .optional()?;
    Ok(found.flatten())
}

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<Notice>> {
    let hash: Vec<u8> = row.get(3)?;
    let Some(change) = ChangeHash::from_slice(&hash) else { return Ok(None) };
    Ok(Some(Notice {
        id: row.get(0)?,
        row: RowId(row.get(1)?),
        column: row.get(2)?,
        change,
        at_ms: row.get(4)?,
    }))
}

/// Tells a notice no more.
///
/// # Errors
/// When SQLite fails.
pub fn end(connection: &Connection, id: i64, now_ms: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE sync_notice SET ended_at = ?2 WHERE id = ?1")?
        .execute(params![id, now_ms])?;
    Ok(())
}
