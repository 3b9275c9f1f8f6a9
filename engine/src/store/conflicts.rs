//! What conflicts: which row stays in place of another, and the history of every conflict that was
//! noticed.

use rusqlite::{Connection, OptionalExtension, params};

use super::rows::RowId;

/// The row that stays in place of one that waits, and the unique columns they contest.
///
/// # Errors
/// When SQLite fails.
pub fn stand_in(
    connection: &Connection,
    row: RowId,
) -> rusqlite::Result<Option<(RowId, Vec<String>)>> {
    let found: Option<(i64, String)> = connection
        .prepare_cached("SELECT stand_in, columns FROM sync_stand_in WHERE row_id = ?1")?
        .query_row([row.0], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(found.map(|(stand_in, columns)| {
        (RowId(stand_in), serde_json::from_str(&columns).unwrap_or_default())
    }))
}

/// Notes which row stays in place of `row`; `None` when it waits no longer.
///
/// # Errors
/// When SQLite fails.
pub fn set_stand_in(
    connection: &Connection,
    row: RowId,
    stand_in: Option<(RowId, &[String])>,
) -> rusqlite::Result<()> {
    match stand_in {
        None => connection
            .prepare_cached("DELETE FROM sync_stand_in WHERE row_id = ?1")?
            .execute([row.0])?,
        Some((stand_in, columns)) => connection
            .prepare_cached(
                "INSERT OR REPLACE INTO sync_stand_in (row_id, stand_in, columns) \
                VALUES (?1, ?2, ?3)",
            )?
            .execute(params![row.0, stand_in.0, serde_json::Value::from(columns).to_string()])?,
    };
    Ok(())
}

/// The rows in whose place `row` stays.
///
/// # Errors
/// When SQLite fails.
pub fn stands_in_for(connection: &Connection, row: RowId) -> rusqlite::Result<Vec<RowId>> {
    connection
        .prepare_cached("SELECT row_id FROM sync_stand_in WHERE stand_in = ?1")?
        .query_map([row.0], |row| row.get(0).map(RowId))?
        .collect()
}

/// Notes the unique values a waiting row would have; none when it waits no longer.
///
/// # Errors
/// When SQLite fails.
pub fn set_waiting_keys(
    connection: &Connection,
    row: RowId,
    keys: &[Vec<u8>],
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM sync_waiting_key WHERE row_id = ?1")?
        .execute([row.0])?;
    for key in keys {
        connection
            .prepare_cached("INSERT OR IGNORE INTO sync_waiting_key (key, row_id) VALUES (?1, ?2)")?
            .execute(params![key, row.0])?;
    }
    Ok(())
}

/// The rows that wait for these unique values.
///
/// # Errors
/// When SQLite fails.
pub fn waiting_for(connection: &Connection, key: &[u8]) -> rusqlite::Result<Vec<RowId>> {
    connection
        .prepare_cached("SELECT row_id FROM sync_waiting_key WHERE key = ?1")?
        .query_map([key], |row| row.get(0).map(RowId))?
        .collect()
}

/// Notes why the app's table refuses a row, as SQLite put it; `None` when it does no longer.
///
/// # Errors
/// When SQLite fails.
pub fn set_refusal(
    connection: &Connection,
    row: RowId,
    reason: Option<&str>,
) -> rusqlite::Result<()> {
    match reason {
        Some(reason) => connection
            .prepare_cached(
                "INSERT INTO sync_refusal (row_id, reason) VALUES (?1, ?2) ON CONFLICT \
                (row_id) DO UPDATE SET reason = excluded.reason",
            )?
            .execute(params![row.0, reason])?,
        None => connection
            .prepare_cached("DELETE FROM sync_refusal WHERE row_id = ?1")?
            .execute([row.0])?,
    };
    Ok(())
}

/// Why the app's table refuses a row.
///
/// # Errors
/// When SQLite fails.
pub fn refusal(connection: &Connection, row: RowId) -> rusqlite::Result<Option<String>> {
    connection
        .prepare_cached("SELECT reason FROM sync_refusal WHERE row_id = ?1")?
        .query_row([row.0], |row| row.get(0))
        .optional()
}

/// An open conflict of a row.
#[derive(Debug, Clone)]
pub struct OpenConflict {
    id: i64,
    line: i64,
    /// Its kind's word.
    pub kind: String,
}

/// The open conflicts of a row.
///
/// # Errors
/// When SQLite fails.
pub fn open_of(connection: &Connection, row: RowId) -> rusqlite::Result<Vec<OpenConflict>> {
    connection
        .prepare_cached(
            "SELECT id, line, kind FROM sync_clash WHERE row_id = ?1 AND ended_at IS NULL",
        )?
        .query_map([row.0], |row| {
            Ok(OpenConflict { id: row.get(0)?, line: row.get(1)?, kind: row.get(2)? })
        })?
        .collect()
}

/// The row an open conflict is in, by the name it has on every device.
///
/// # Errors
/// When SQLite fails.
pub fn row_of(connection: &Connection, conflict_id: &str) -> rusqlite::Result<Option<RowId>> {
    connection
        .prepare_cached(
            "SELECT row_id FROM sync_clash WHERE conflict_id = ?1 AND ended_at IS NULL LIMIT 1",
        )?
        .query_row([conflict_id], |row| row.get(0).map(RowId))
        .optional()
}

/// The rows of a table with an open conflict of a kind.
///
/// # Errors
/// When SQLite fails.
pub fn open_in_table(
    connection: &Connection,
    table: super::rows::TableId,
    kind: &str,
) -> rusqlite::Result<Vec<RowId>> {
    connection
        .prepare_cached(
            "SELECT c.row_id FROM sync_clash AS c JOIN sync_row AS r ON r.id = c.row_id WHERE \
                c.ended_at IS NULL AND c.kind = ?2 AND r.table_id = ?1",
        )?
        .query_map(params![table.0, kind], |row| Ok(RowId(row.get(0)?)))?
        .collect()
}

/// A conflict as it is first noticed.
#[derive(Debug)]
pub struct NewConflict<'a> {
    /// Its name on every device.
    pub conflict_id: &'a str,
    /// The row it is in.
    pub row: RowId,
    /// Its kind's word.
    pub kind: &'a str,
    /// The table.
    pub table: &'a str,
    /// The row's uuid.
    pub uuid: &'a str,
    /// This device's values, JSON.
    pub mine: String,
    /// The other device's values, JSON.
    pub theirs: String,
    /// The row's version.
    pub version: i64,
    /// How it came: `pull`, `push` or `local`.
    pub source: &'a str,
}

/// Notes a conflict, in our table and in the documented one.
///
/// # Errors
/// When SQLite fails.
pub fn note(
    connection: &Connection,
    conflict: &NewConflict<'_>,
    now_ms: i64,
    now: &str,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO sync_conflict (entity_type, target_sync_uuid, mine_data, theirs_data, \
                mine_version, theirs_version, source, \
             detected_at, sync_uuid, created_at, updated_at, version) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7, lower(hex(randomblob(16))), ?7, ?7, 1)",
        )?
        .execute(params![
            conflict.table,
            conflict.uuid,
            conflict.mine,
            conflict.theirs,
            conflict.version,
            conflict.source,
            now
        ])?;
    let line = connection.last_insert_rowid();
    connection
        .prepare_cached(
            "INSERT INTO sync_clash (conflict_id, row_id, kind, line, \
        detected_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![conflict.conflict_id, conflict.row.0, conflict.kind, line, now_ms])?;
    Ok(())
}

/// How a conflict ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Somebody wrote what conflicted.
    Resolved,
    /// It went with something else: a deletion, another conflict.
    Superseded,
}

impl Ending {
    /// The word in every interface.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Resolved => "resolved",
            Self::Superseded => "superseded",
        }
    }
}

/// Notes that a conflict is over, and through whom.
///
/// # Errors
/// When SQLite fails.
pub fn end(
    connection: &Connection,
    conflict: &OpenConflict,
    ending: Ending,
    by: Option<&str>,
    now_ms: i64,
    now: &str,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE sync_clash SET ended_at = ?2, ending = ?3, ended_by = ?4 WHERE id = ?1",
        )?
        .execute(params![conflict.id, now_ms, ending.as_str(), by])?;
    connection
        .prepare_cached(
            "UPDATE sync_conflict SET resolved_at = ?2, resolution = ?3, \
        updated_at = ?2 WHERE id = ?1",
        )?
        .execute(params![conflict.line, now, ending.as_str()])?;
    Ok(())
}

/// A conflict that is over.
#[derive(Debug, Clone)]
pub struct EndedConflict {
    /// Its name on every device.
    pub conflict_id: String,
    /// Its kind's word.
    pub kind: String,
    /// The table.
    pub table: String,
    /// The row's uuid.
    pub uuid: String,
    /// Unix time in ms.
    pub detected_at: i64,
    /// Unix time in ms.
    pub ended_at: i64,
    /// `resolved` or `superseded`.
    pub ending: String,
    /// PeerId of the device whose change ended it.
    pub ended_by: Option<String>,
    /// What people call the row. Never stored with the conflict.
    pub row_name: Option<String>,
}

/// The conflicts that ended last, newest first.
///
/// # Errors
/// When SQLite fails.
pub fn ended(connection: &Connection, limit: i64) -> rusqlite::Result<Vec<EndedConflict>> {
    connection
        .prepare_cached(
            "SELECT c.conflict_id, c.kind, t.name, r.sync_uuid, c.detected_at, c.ended_at, \
                c.ending, c.ended_by FROM sync_clash AS c \
             JOIN sync_row AS r ON r.id = c.row_id JOIN sync_table AS t ON t.id = r.table_id WHERE \
             c.ended_at IS NOT NULL ORDER BY c.ended_at DESC, c.id DESC LIMIT ?1",
        )?
        .query_map([limit], |row| {
            Ok(EndedConflict {
                conflict_id: row.get(0)?,
                kind: row.get(1)?,
                table: row.get(2)?,
                uuid: row.get(3)?,
                detected_at: row.get(4)?,
                ended_at: row.get(5)?,
                ending: row.get(6)?,
                ended_by: row.get(7)?,
                row_name: None,
            })
        })?
        .collect()
}
