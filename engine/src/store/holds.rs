//! The deletion guard: deletions of other devices that wait for a yes, and how many were carried
//! out of late.

use rusqlite::{Connection, OptionalExtension, params};

use super::rows::{RowId, TableId};

/// A hold that waits for a decision.
#[derive(Debug, Clone)]
pub struct Hold {
    /// What `storysync approve` is given.
    pub id: i64,
    /// PeerId of the device the deletions came from.
    pub device_id: String,
    /// The tables they are in, separated by commas.
    pub tables: String,
    /// How many rows wait.
    pub rows: i64,
    /// How many of them live and would lose texts.
    pub emptied: i64,
    /// Unix time in ms when the first had to wait.
    pub at: i64,
}

/// The holds that wait for a decision.
///
/// # Errors
/// When SQLite fails.
pub fn waiting(connection: &Connection) -> rusqlite::Result<Vec<Hold>> {
    connection
        .prepare_cached(
            "SELECT b.id, p.device_id, \
             (SELECT group_concat(name, ', ') FROM (SELECT DISTINCT t.name FROM sync_held AS h \
             JOIN sync_row AS r ON r.id = h.row_id \
             JOIN sync_table AS t ON t.id = r.table_id WHERE h.brake_id = b.id ORDER BY t.name)), \
             (SELECT count(*) FROM sync_held AS h WHERE h.brake_id = b.id), \
             (SELECT count(*) FROM sync_held AS h JOIN sync_row AS r ON r.id = h.row_id WHERE \
             h.brake_id = b.id AND instr(r.differs, '\"kind\":\"held\"')), b.at FROM sync_brake AS \
             b \
             JOIN sync_peer AS p ON p.id = b.peer_id WHERE b.decided_at IS NULL ORDER BY b.id",
        )?
        .query_map([], |row| {
            Ok(Hold {
                id: row.get(0)?,
                device_id: row.get(1)?,
                tables: row.get::<_, Option<String>>(2)?.unwrap_or_default(),
                rows: row.get(3)?,
                emptied: row.get(4)?,
                at: row.get(5)?,
            })
        })?
        .collect()
}

/// The undecided hold on a peer's deletions, if there is one.
///
/// # Errors
/// When SQLite fails.
pub fn find(connection: &Connection, peer: i64) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached(
            "SELECT id FROM sync_brake WHERE peer_id = ?1 AND decided_at IS NULL ORDER \
            BY id LIMIT 1",
        )?
        .query_row([peer], |row| row.get(0))
        .optional()
}

/// Starts a hold on a peer's deletions; `table` is one that has too many. Returns its id.
///
/// # Errors
/// When SQLite fails.
pub fn engage(
    connection: &Connection,
    peer: i64,
    table: TableId,
    now_ms: i64,
) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("INSERT INTO sync_brake (peer_id, table_id, at) VALUES (?1, ?2, ?3)")?
        .execute([peer, table.0, now_ms])?;
    Ok(connection.last_insert_rowid())
}

/// Holds a row.
///
/// # Errors
/// When SQLite fails.
pub fn hold(connection: &Connection, hold: i64, row: RowId, now_ms: i64) -> rusqlite::Result<()> {
    release(connection, row, now_ms)?;
    connection
        .prepare_cached("INSERT OR REPLACE INTO sync_held (row_id, brake_id) VALUES (?1, ?2)")?
        .execute([row.0, hold])?;
    Ok(())
}

/// Whether any row is held.
///
/// # Errors
/// When SQLite fails.
pub fn hold_any(connection: &Connection) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM sync_held)")?
        .query_row([], |row| row.get(0))
}

/// Whether a row is held.
///
/// # Errors
/// When SQLite fails.
pub fn is_held(connection: &Connection, row: RowId) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM sync_held WHERE row_id = ?1)")?
        .query_row([row.0], |row| row.get(0))
}

/// Lets a row go; a hold that holds nothing any more is decided.
///
/// # Errors
/// When SQLite fails.
pub fn release(connection: &Connection, row: RowId, now_ms: i64) -> rusqlite::Result<()> {
    let hold: Option<i64> = connection
        .prepare_cached("DELETE FROM sync_held WHERE row_id = ?1 RETURNING brake_id")?
        .query_row([row.0], |row| row.get(0))
        .optional()?;
    if let Some(hold) = hold {
        connection
            .prepare_cached(
                "UPDATE sync_brake SET decided_at = ?2 WHERE id = ?1 AND NOT EXISTS \
                (SELECT 1 FROM sync_held WHERE brake_id = ?1)",
            )?
            .execute([hold, now_ms])?;
    }
    Ok(())
}

/// Takes a hold off: its rows, which are held no longer. `None` when no such hold waits.
///
/// # Errors
/// When SQLite fails.
pub fn decide(
    connection: &Connection,
    hold: i64,
    now_ms: i64,
) -> rusqlite::Result<Option<Vec<RowId>>> {
    let decided = connection
        .prepare_cached(
            "UPDATE sync_brake SET decided_at = ?2 WHERE id = ?1 AND decided_at IS NULL",
        )?
        .execute([hold, now_ms])?;
    if decided == 0 {
        return Ok(None);
    }
    let rows = connection
        .prepare_cached("SELECT row_id FROM sync_held WHERE brake_id = ?1 ORDER BY row_id")?
        .query_map([hold], |row| row.get(0).map(RowId))?
        .collect::<Result<_, _>>()?;
    connection.prepare_cached("DELETE FROM sync_held WHERE brake_id = ?1")?.execute([hold])?;
    // What was approved does not count against the next deletions.
    connection
        .prepare_cached(
            "DELETE FROM sync_deletion WHERE peer_id = (SELECT peer_id FROM \
        sync_brake WHERE id = ?1)",
        )?
        .execute([hold])?;
    Ok(Some(rows))
}

/// Notes that a row was deleted on behalf of a peer.
///
/// # Errors
/// When SQLite fails.
pub fn note_deletion(
    connection: &Connection,
    peer: i64,
    table: TableId,
    row: RowId,
    now_ms: i64,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO sync_deletion (peer_id, table_id, row_id, at) \
            VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![peer, table.0, row.0, now_ms])?;
    Ok(())
}

/// The rows deleted on behalf of a peer since a time, with their tables; older notes are forgotten.
///
/// # Errors
/// When SQLite fails.
pub fn deleted_since(
    connection: &Connection,
    peer: i64,
    since_ms: i64,
) -> rusqlite::Result<Vec<(TableId, RowId)>> {
    connection.prepare_cached("DELETE FROM sync_deletion WHERE at < ?1")?.execute([since_ms])?;
    connection
        .prepare_cached("SELECT table_id, row_id FROM sync_deletion WHERE peer_id = ?1")?
        .query_map([peer], |row| Ok((TableId(row.get(0)?), RowId(row.get(1)?))))?
        .collect()
}
