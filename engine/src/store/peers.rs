//! How far each device and we have told each other everything, and the documented tables people
//! read: `sync_device`, `sync_log`.

use rusqlite::{Connection, OptionalExtension, params};
use storysync_crdt::Stamp;

use super::rows::RowId;

/// Lines kept in `sync_log`.
pub const LOG_LINES_MAX: i64 = 10_000;

/// One device as a partner in exchanges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Short name.
    pub id: i64,
    /// Its own opaque cursor.
    pub pull_cursor: Option<String>,
    /// Our log up to here is known to it.
    pub pushed_seq: i64,
    /// The epoch it named last.
    pub peer_epoch: Option<String>,
    /// The epoch of ours in which it was last told, or compared, everything.
    pub told_epoch: Option<String>,
    /// Unix time in ms of the last completed exchange.
    pub last_sync_at: Option<i64>,
    /// Unix time in ms when it first brought something, in this epoch of our log.
    pub met_from: Option<i64>,
    /// Where our log ended when it had told all it had then.
    pub met_seq: Option<i64>,
}

/// A first contact is over after so long, whatever came of it, in milliseconds: nobody stretches it
/// to go on being taken at its word.
pub const FIRST_CONTACT_MS_MAX: i64 = 24 * 60 * 60 * 1000;

impl Peer {
    /// Whether what came from it then, to that place in our log, it had when the two first met.
    #[must_use]
    pub fn is_first_contact(&self, seq: i64, at_ms: i64) -> bool {
        self.met_from
            .is_some_and(|from| at_ms >= from && at_ms.saturating_sub(from) <= FIRST_CONTACT_MS_MAX)
            && self.met_seq.is_none_or(|end| seq <= end)
    }
}

/// The peer with a device id, made when it is new.
///
/// # Errors
/// When SQLite fails.
pub fn find_or_create(connection: &Connection, device_id: &str) -> rusqlite::Result<Peer> {
    connection
        .prepare_cached("INSERT OR IGNORE INTO sync_peer (device_id, pushed_seq) VALUES (?1, 0)")?
        .execute([device_id])?;
    find(connection, device_id)?.ok_or(rusqlite::Error::QueryReturnedNoRows)
}

/// The peer with a device id.
///
/// # Errors
/// When SQLite fails.
pub fn find(connection: &Connection, device_id: &str) -> rusqlite::Result<Option<Peer>> {
    connection
        .prepare_cached(
            "SELECT id, pull_cursor, pushed_seq, peer_epoch, told_epoch, last_sync_at, met_from, \
            met_seq FROM sync_peer WHERE device_id = ?1",
        )?
        .query_row([device_id], read)
        .optional()
}

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Peer> {
    Ok(Peer {
        id: row.get(0)?,
        pull_cursor: row.get(1)?,
        pushed_seq: row.get(2)?,
        peer_epoch: row.get(3)?,
        told_epoch: row.get(4)?,
        last_sync_at: row.get(5)?,
        met_from: row.get(6)?,
        met_seq: row.get(7)?,
    })
}

/// Every peer there ever was, with its PeerId.
///
/// # Errors
/// When SQLite fails.
pub fn all(connection: &Connection) -> rusqlite::Result<Vec<(String, Peer)>> {
    connection
        .prepare_cached(
            "SELECT id, pull_cursor, pushed_seq, peer_epoch, told_epoch, last_sync_at, met_from, \
            met_seq, device_id FROM sync_peer ORDER BY id",
        )?
        .query_map([], |row| Ok((row.get(8)?, read(row)?)))?
        .collect()
}

/// Another log stands in the place of ours: what the devices tell now, they had before.
///
/// # Errors
/// When SQLite fails.
pub fn forget_meetings(connection: &Connection) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE sync_peer SET met_from = NULL, met_seq = NULL")?
        .execute([])?;
    Ok(())
}

/// The device id of a peer by its short name.
///
/// # Errors
/// When SQLite fails.
pub fn device_id(connection: &Connection, id: i64) -> rusqlite::Result<Option<String>> {
    connection
        .prepare_cached("SELECT device_id FROM sync_peer WHERE id = ?1")?
        .query_row([id], |row| row.get(0))
        .optional()
}

/// Writes what changed about a peer back.
///
/// # Errors
/// When SQLite fails.
pub fn save(connection: &Connection, peer: &Peer) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE sync_peer SET pull_cursor = ?2, pushed_seq = ?3, peer_epoch = ?4, \
            told_epoch = ?5, last_sync_at = ?6, met_from = ?7, met_seq = ?8 WHERE id = ?1",
        )?
        .execute(params![
            peer.id,
            peer.pull_cursor,
            peer.pushed_seq,
            peer.peer_epoch,
            peer.told_epoch,
            peer.last_sync_at,
            peer.met_from,
            peer.met_seq
        ])?;
    Ok(())
}

/// A device as the mirror in the app's file shows it.
#[derive(Debug, Clone)]
pub struct MirroredDevice {
    /// PeerId, or an old server's name.
    pub device_id: String,
    /// For people.
    pub name: String,
    /// As stored.
    pub last_sync_at: Option<String>,
    /// As stored.
    pub created_at: String,
    /// Paired now.
    pub is_active: bool,
}

/// Makes `sync_device` show exactly the active `devices`; others (of an old server, revoked) stay,
/// inactive.
///
/// # Errors
/// When SQLite fails.
pub fn mirror(
    connection: &Connection,
    devices: &[MirroredDevice],
    now: Stamp,
) -> rusqlite::Result<()> {
    let now = now.to_table_text();
    let active: Vec<&str> = devices
        .iter()
        .filter(|device| device.is_active)
        .map(|device| device.device_id.as_str())
        .collect();
    let known: Vec<(String, bool)> = connection
        .prepare_cached("SELECT device_id, is_active FROM sync_device")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for (device_id, is_active) in &known {
        if *is_active && !active.contains(&device_id.as_str()) {
            connection
                .prepare_cached(
                    "UPDATE sync_device SET is_active = 0, updated_at = ?2 WHERE device_id = ?1",
                )?
                .execute([device_id, &now])?;
        }
    }
    for device in devices {
        if known.iter().any(|(known, _)| *known == device.device_id) {
            connection
                .prepare_cached(
                    "UPDATE sync_device SET device_name = ?2, last_sync_at = ?3, is_active = ?4, \
                        updated_at = ?5 WHERE device_id = ?1 \
                     AND (device_name IS NOT ?2 OR last_sync_at IS NOT ?3 OR is_active IS NOT ?4)",
                )?
                .execute(params![
                    device.device_id,
                    device.name,
                    device.last_sync_at,
                    device.is_active,
                    now
                ])?;
        } else {
            // The documented column wants something unique; the token itself never stands in the
            // app's file.
            connection
                .prepare_cached(
                    "INSERT INTO sync_device (device_id, device_name, auth_token, last_sync_at, \
                        is_active, sync_uuid, created_at, updated_at, version) \
                     VALUES (?1, ?2, 'storysync:' || ?1, ?3, ?4, lower(hex(randomblob(16))), ?5, \
                     ?6, 1)",
                )?
                .execute(params![
                    device.device_id,
                    device.name,
                    device.last_sync_at,
                    device.is_active,
                    device.created_at,
                    now
                ])?;
        }
    }
    Ok(())
}

/// What `sync_device` shows.
///
/// # Errors
/// When SQLite fails.
pub fn mirrored(connection: &Connection) -> rusqlite::Result<Vec<MirroredDevice>> {
    connection
        .prepare_cached(
            "SELECT device_id, device_name, last_sync_at, created_at, is_active FROM \
            sync_device ORDER BY id",
        )?
        .query_map([], |row| {
            Ok(MirroredDevice {
                device_id: row.get(0)?,
                name: row.get(1)?,
                last_sync_at: row.get(2)?,
                created_at: row.get(3)?,
                is_active: row.get(4)?,
            })
        })?
        .collect()
}

/// What was done to a row on behalf of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoggedOperation {
    /// The row came.
    Create,
    /// The row changed.
    Update,
    /// The row went.
    Delete,
}

impl LoggedOperation {
    /// The documented word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// Notes in `sync_log` that a device changed a row. Nothing is noted for devices the mirror lacks.
///
/// # Errors
/// When SQLite fails.
pub fn note(
    connection: &Connection,
    device_id: &str,
    table: &str,
    local_id: i64,
    operation: LoggedOperation,
    now: &str,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO sync_log (device_id, entity_type, entity_id, operation, synced_at, \
                sync_uuid, created_at, updated_at, version) \
             SELECT id, ?2, ?3, ?4, ?5, lower(hex(randomblob(16))), ?5, ?5, 1 FROM sync_device \
             WHERE device_id = ?1",
        )?
        .execute(params![device_id, table, local_id, operation.as_str(), now])?;
    Ok(())
}

/// Keeps `sync_log` from growing without end.
///
/// # Errors
/// When SQLite fails.
pub fn trim_log(connection: &Connection) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM sync_log WHERE id <= (SELECT max(id) FROM sync_log) - ?1")?
        .execute([LOG_LINES_MAX])?;
    Ok(())
}

/// One line of `sync_log`.
#[derive(Debug, Clone)]
pub struct LogLine {
    /// As stored.
    pub at: String,
    /// PeerId, or an old server's name.
    pub device_id: String,
    /// For people.
    pub device_name: String,
    /// Content table.
    pub entity_type: String,
    /// Local id.
    pub entity_id: i64,
    /// create, update, delete.
    pub operation: String,
    /// The row, where its table still tells which it was. Never stored with the line.
    pub sync_uuid: Option<String>,
    /// What people call it.
    pub row_name: Option<String>,
}

const LOG_LINE: &str = "SELECT l.synced_at, coalesce(d.device_id, ''), coalesce(d.device_name, \
    ''), l.entity_type, l.entity_id, l.operation \
                        FROM sync_log AS l LEFT JOIN sync_device AS d ON d.id = l.device_id";

fn log_line(row: &rusqlite::Row<'_>) -> rusqlite::Result<LogLine> {
    Ok(LogLine {
        at: row.get(0)?,
        device_id: row.get(1)?,
        device_name: row.get(2)?,
        entity_type: row.get(3)?,
        entity_id: row.get(4)?,
        operation: row.get(5)?,
        sync_uuid: None,
        row_name: None,
    })
}

/// The newest lines of `sync_log`, newest first.
///
/// # Errors
/// When SQLite fails.
pub fn log_lines(connection: &Connection, limit: i64) -> rusqlite::Result<Vec<LogLine>> {
    connection
        .prepare_cached(&format!("{LOG_LINE} ORDER BY l.id DESC LIMIT ?1"))?
        .query_map([limit], log_line)?
        .collect()
}

/// The newest lines about the row that has, or had, a local id.
///
/// # Errors
/// When SQLite fails.
pub fn log_lines_at(
    connection: &Connection,
    table: &str,
    local_id: i64,
    limit: i64,
) -> rusqlite::Result<Vec<LogLine>> {
    connection
        .prepare_cached(&format!(
            "{LOG_LINE} WHERE l.entity_type = ?1 AND l.entity_id = ?2 ORDER BY l.id DESC LIMIT ?3"
        ))?
        .query_map(params![table, local_id, limit], log_line)?
        .collect()
}

/// Notes that a device that reads plain rows was told of a row as it was at `seq` of the log.
///
/// # Errors
/// When SQLite fails.
pub fn note_served(
    connection: &Connection,
    peer: i64,
    row: RowId,
    seq: i64,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO sync_served (peer_id, row_id, seq) VALUES (?1, ?2, ?3) ON CONFLICT \
                (peer_id, row_id) DO UPDATE SET seq = ?3 WHERE seq < ?3",
        )?
        .execute([peer, row.0, seq])?;
    Ok(())
}

/// Up to where in the log a device was told of a row; 0 when never.
///
/// # Errors
/// When SQLite fails.
pub fn served(connection: &Connection, peer: i64, row: RowId) -> rusqlite::Result<i64> {
    let seq = connection
        .prepare_cached("SELECT seq FROM sync_served WHERE peer_id = ?1 AND row_id = ?2")?
        .query_row([peer, row.0], |row| row.get(0))
        .optional()?;
    Ok(seq.unwrap_or(0))
}
