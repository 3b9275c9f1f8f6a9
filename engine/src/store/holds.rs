//! The deletion guard: what other devices deleted or cut that waits for a yes, and how much of
//! that was carried out of late.

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
    /// How many of them live and would lose texts, or the greater part of them.
    pub emptied: i64,
    /// How many of them live and would only lose a link to one that waits.
    pub unlinked: i64,
    /// Unix time in ms when the first had to wait.
    pub at: i64,
}

/// What of a row is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Its deletion.
    Deletion,
    /// Texts of it; the row lives.
    Texts,
    /// A link to a row that is held; the row lives.
    Link,
}

impl Held {
    fn word(self) -> &'static str {
        match self {
            Self::Deletion => "deleted",
            Self::Texts => "cut",
            Self::Link => "unlinked",
        }
    }
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
             (SELECT count(*) FROM sync_held AS h WHERE h.brake_id = b.id AND h.what = 'cut'), \
             (SELECT count(*) FROM sync_held AS h WHERE h.brake_id = b.id AND h.what = \
             'unlinked'), b.at FROM sync_brake AS b JOIN sync_peer AS p ON p.id = b.peer_id \
             WHERE b.decided_at IS NULL ORDER BY b.id",
        )?
        .query_map([], |row| {
            Ok(Hold {
                id: row.get(0)?,
                device_id: row.get(1)?,
                tables: row.get::<_, Option<String>>(2)?.unwrap_or_default(),
                rows: row.get(3)?,
                emptied: row.get(4)?,
                unlinked: row.get(5)?,
                at: row.get(6)?,
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
pub fn hold(
    connection: &Connection,
    hold: i64,
    row: RowId,
    what: Held,
    now_ms: i64,
) -> rusqlite::Result<()> {
    if of_row(connection, row)?.is_some_and(|other| other != hold) {
        release(connection, row, now_ms)?;
    }
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO sync_held (row_id, brake_id, what) VALUES (?1, ?2, ?3)",
        )?
        .execute(params![row.0, hold, what.word()])?;
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

/// The rows a hold holds.
///
/// # Errors
/// When SQLite fails.
pub fn rows_of(connection: &Connection, hold: i64) -> rusqlite::Result<Vec<RowId>> {
    connection
        .prepare_cached("SELECT row_id FROM sync_held WHERE brake_id = ?1 ORDER BY row_id")?
        .query_map([hold], |row| row.get(0).map(RowId))?
        .collect()
}

/// Which hold holds a row.
///
/// # Errors
/// When SQLite fails.
pub fn of_row(connection: &Connection, row: RowId) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT brake_id FROM sync_held WHERE row_id = ?1")?
        .query_row([row.0], |row| row.get(0))
        .optional()
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
    let rows = rows_of(connection, hold)?;
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

/// What one device's changes took away from a row of late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// Its table.
    pub table: TableId,
    /// The row.
    pub row: RowId,
    /// What of it is gone, in thousandths: [`WHOLE`] where it was deleted, 0 where only a link
    /// went.
    pub share: i64,
    /// Characters its texts had before the first of it; 0 where nobody counted.
    pub held: i64,
    /// How many changes the row had before the first of it.
    pub changes: i64,
}

/// The share of a row that is gone altogether.
pub const WHOLE: i64 = 1_000;

/// Notes what a peer's changes took away, over what was noted of that row.
///
/// # Errors
/// When SQLite fails.
pub fn note_loss(
    connection: &Connection,
    peer: i64,
    loss: &Loss,
    now_ms: i64,
) -> rusqlite::Result<()> {
    let Loss { table, row, share, held, changes } = loss;
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO sync_deletion (peer_id, table_id, row_id, at, share, held, \
            changes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![peer, table.0, row.0, now_ms, share, held, changes])?;
    Ok(())
}

/// What a peer's changes took away since a time; older notes are forgotten.
///
/// # Errors
/// When SQLite fails.
pub fn losses_since(
    connection: &Connection,
    peer: i64,
    since_ms: i64,
) -> rusqlite::Result<Vec<Loss>> {
    connection.prepare_cached("DELETE FROM sync_deletion WHERE at < ?1")?.execute([since_ms])?;
    connection
        .prepare_cached(
            "SELECT table_id, row_id, share, held, changes FROM sync_deletion WHERE peer_id = ?1",
        )?
        .query_map([peer], |row| {
            Ok(Loss {
                table: TableId(row.get(0)?),
                row: RowId(row.get(1)?),
                share: row.get(2)?,
                held: row.get(3)?,
                changes: row.get(4)?,
            })
        })?
        .collect()
}
