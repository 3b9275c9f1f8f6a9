//! When the changes of a row came here, and from whom.

use rusqlite::Connection;

use crate::store::rows::RowId;

/// When the changes of a row were admitted, in order, in Unix milliseconds: the same for all of one
/// transaction.
///
/// # Errors
/// When SQLite fails.
pub fn admitted(connection: &Connection, row: RowId) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare_cached("SELECT admitted_at FROM sync_change WHERE row_id = ?1 ORDER BY seq")?
        .query_map([row.0], |row| row.get(0))?
        .collect()
}

/// How a change came here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Its place in the log.
    pub seq: i64,
    /// When it was admitted, in Unix milliseconds.
    pub admitted_at: i64,
    /// The peer that sent it; `None` when it was written here.
    pub came_from: Option<i64>,
}

/// How the changes of a row came, in order.
///
/// # Errors
/// When SQLite fails.
pub fn receipts(connection: &Connection, row: RowId) -> rusqlite::Result<Vec<Received>> {
    connection
        .prepare_cached(
            "SELECT seq, admitted_at, came_from FROM sync_change WHERE row_id = ?1 ORDER BY seq",
        )?
        .query_map([row.0], |row| {
            Ok(Received { seq: row.get(0)?, admitted_at: row.get(1)?, came_from: row.get(2)? })
        })?
        .collect()
}
