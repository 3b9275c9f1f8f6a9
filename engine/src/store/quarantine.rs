//! Bytes that were refused: their names, so that the same bytes are never looked at twice, and why.

use std::collections::HashSet;

use rusqlite::{Connection, params};
use sha2::{Digest, Sha256};

use super::rows::RowId;

/// Refused bytes remembered; the oldest are forgotten first.
pub const QUARANTINE_MAX: i64 = 1_000;
/// Who judges.
const JUDGE: &str = env!("CARGO_PKG_VERSION");

/// The name of bytes as they came: their SHA-256.
pub type BytesHash = [u8; 32];

/// Names bytes.
#[must_use]
pub fn name(bytes: &[u8]) -> BytesHash {
    Sha256::digest(bytes).into()
}

/// The names of everything this version has refused.
///
/// # Errors
/// When SQLite fails.
pub fn all(connection: &Connection) -> rusqlite::Result<HashSet<BytesHash>> {
    connection
        .prepare_cached("SELECT hash FROM sync_quarantine WHERE judged_by = ?1")?
        .query_map([JUDGE], |row| row.get(0))?
        .collect()
}

/// How many refused changes are remembered.
///
/// # Errors
/// When SQLite fails.
pub fn count(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("SELECT count(*) FROM sync_quarantine")?
        .query_row([], |row| row.get(0))
}

/// Remembers bytes as refused.
///
/// # Errors
/// When SQLite fails.
pub fn add(
    connection: &Connection,
    hash: &BytesHash,
    peer: i64,
    row: Option<RowId>,
    reason: &str,
    now_ms: i64,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO sync_quarantine (hash, peer_id, row_id, reason, \
            judged_by, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![hash, peer, row.map(|row| row.0), reason, JUDGE, now_ms])?;
    connection
        .prepare_cached(
            "DELETE FROM sync_quarantine WHERE hash IN (SELECT hash FROM \
            sync_quarantine ORDER BY at DESC, hash LIMIT -1 OFFSET ?1)",
        )?
        .execute([QUARANTINE_MAX])?;
    Ok(())
}
