//! The change log: every admitted change in the order of admission. Cursors point into it; its
//! running hash tells a log that went on from one that was restored, cloned or replaced.

mod named;
mod receipts;

use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};
use storysync_crdt::{Change, ChangeHash, DecodeError, Document};

use super::packs;
pub use super::position::{CHAIN_BYTES, Chain, EPOCH_BYTES, Epoch, Position};
use super::rows::RowId;
pub use named::{named, names, order_of, rows_of};
pub use receipts::{Received, admitted, receipts};

/// An origin no change has: SQLite numbers peers from 1.
const NOBODYS_ORIGIN: i64 = -1;

/// A row's changes can't be read back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// SQLite failed.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// A stored change is no longer readable.
    #[error("a change in the log is damaged: {0}")]
    Damaged(#[from] DecodeError),
    /// Stored changes don't follow from each other.
    #[error("the log of a row has a gap: {0}")]
    Gap(#[from] storysync_crdt::ApplyError),
}

/// The end of the log.
///
/// # Errors
/// When SQLite fails.
pub fn end(connection: &Connection) -> rusqlite::Result<Position> {
    let last = connection
        .prepare_cached("SELECT seq, chain FROM sync_change ORDER BY seq DESC LIMIT 1")?
        .query_row([], |row| Ok(Position { seq: row.get(0)?, chain: row.get(1)? }))
        .optional()?;
    Ok(last.unwrap_or(Position::START))
}

/// Whether the log once ended exactly at `position`.
///
/// # Errors
/// When SQLite fails.
pub fn passes_through(connection: &Connection, position: Position) -> rusqlite::Result<bool> {
    if position == Position::START {
        return Ok(true);
    }
    let chain: Option<Chain> = connection
        .prepare_cached("SELECT chain FROM sync_change WHERE seq = ?1")?
        .query_row([position.seq], |row| row.get(0))
        .optional()?;
    Ok(chain == Some(position.chain))
}

/// The running hash at `seq`.
///
/// # Errors
/// When SQLite fails, or there is no such change.
pub fn position_at(connection: &Connection, seq: i64) -> rusqlite::Result<Position> {
    if seq == 0 {
        return Ok(Position::START);
    }
    connection
        .prepare_cached("SELECT seq, chain FROM sync_change WHERE seq = ?1")?
        .query_row([seq], |row| Ok(Position { seq: row.get(0)?, chain: row.get(1)? }))
}

/// The name of a change by its bytes (automerge: SHA-256 over the chunk from its type on); `None`
/// when they are too few.
#[must_use]
pub fn name_of(bytes: &[u8]) -> Option<[u8; 32]> {
    bytes.get(8..).map(|chunk| Sha256::digest(chunk).into())
}

/// Whether a change is in the log.
///
/// # Errors
/// When SQLite fails.
pub fn contains(connection: &Connection, hash: &ChangeHash) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM sync_change WHERE substr(hash, 1, 8) = \
            substr(?1, 1, 8) AND hash = ?1)",
        )?
        .query_row([hash.0], |row| row.get(0))
}

/// Which peer sent us a change; `None` when it was written here, or is not in the log.
///
/// # Errors
/// When SQLite fails.
pub fn sender(connection: &Connection, hash: &ChangeHash) -> rusqlite::Result<Option<i64>> {
    let origin = connection
        .prepare_cached(
            "SELECT came_from FROM sync_change WHERE substr(hash, 1, 8) = substr(?1, \
            1, 8) AND hash = ?1",
        )?
        .query_row([hash.0], |row| row.get(0))
        .optional()?;
    Ok(origin.flatten())
}

/// A change as it stands in the log: nothing of it needs to be read.
#[derive(Debug, Clone, Copy)]
pub struct Packed<'a> {
    /// Its name.
    pub hash: &'a ChangeHash,
    /// Its chunk.
    pub bytes: &'a [u8],
}

/// Appends changes. Keeps the end of the log in memory between appends of one transaction.
#[derive(Debug)]
pub struct Appender {
    end: Position,
}

impl Appender {
    /// Starts at the end of the log.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn new(connection: &Connection) -> rusqlite::Result<Self> {
        Ok(Self { end: end(connection)? })
    }

    /// Appends one change; `origin` is the peer it came from.
    ///
    /// # Errors
    /// When SQLite fails, or the change is in the log already.
    pub fn append(
        &mut self,
        connection: &Connection,
        row: RowId,
        change: &Change,
        origin: Option<i64>,
        now_ms: i64,
    ) -> rusqlite::Result<()> {
        let packed = Packed { hash: &change.hash(), bytes: change.bytes() };
        self.append_packed(connection, row, packed, origin, now_ms)
    }

    /// Appends one change given by its name and bytes.
    ///
    /// # Errors
    /// When SQLite fails, or the change is in the log already.
    pub fn append_packed(
        &mut self,
        connection: &Connection,
        row: RowId,
        change: Packed<'_>,
        origin: Option<i64>,
        now_ms: i64,
    ) -> rusqlite::Result<()> {
        let Packed { hash, bytes } = change;
        let next = self.end.after(hash);
        connection
            .prepare_cached(
                "INSERT INTO sync_change (seq, row_id, hash, chain, origin, came_from, \
                    admitted_at, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7)",
            )?
            .execute(params![next.seq, row.0, hash.0, next.chain, origin, now_ms, bytes])?;
        self.end = next;
        Ok(())
    }

    /// The end of the log now.
    #[must_use]
    pub fn end(&self) -> Position {
        self.end
    }
}

/// Builds a row's document from the log.
///
/// # Errors
/// When the log is damaged or SQLite fails.
pub fn document(connection: &Connection, row: RowId) -> Result<Document, LogError> {
    let mut document = Document::new();
    let mut select = connection.prepare_cached(
        "SELECT bytes, pack, seq FROM sync_change WHERE row_id = ?1 ORDER BY seq",
    )?;
    let mut rows = select.query([row.0])?;
    let mut reader = packs::Reader::new(connection);
    while let Some(row) = rows.next()? {
        document.apply(Change::decode_stored(read_bytes(row, 0, &mut reader)?)?)?;
    }
    Ok(document)
}

/// Where the changes of a row stand in the log, in order.
///
/// # Errors
/// When SQLite fails.
pub fn places(connection: &Connection, row: RowId) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare_cached("SELECT seq FROM sync_change WHERE row_id = ?1 ORDER BY seq")?
        .query_map([row.0], |row| row.get(0))?
        .collect()
}

/// The rows that have changes.
///
/// # Errors
/// When SQLite fails.
pub fn rows_with_changes(connection: &Connection) -> rusqlite::Result<Vec<RowId>> {
    connection
        .prepare_cached("SELECT DISTINCT row_id FROM sync_change ORDER BY row_id")?
        .query_map([], |row| row.get(0).map(RowId))?
        .collect()
}

/// One change on its way to a peer.
#[derive(Debug, Clone)]
pub struct Logged {
    /// Its place in the log.
    pub seq: i64,
    /// Running hash up to and with it.
    pub chain: Chain,
    /// The row.
    pub row: RowId,
    /// When it was admitted here, Unix time in ms.
    pub admitted_at: i64,
    /// The change chunk.
    pub bytes: Vec<u8>,
}

/// The changes after `seq` that did not come from `peer`, in order, until `entities` rows or
/// `bytes` bytes are reached. The second value tells whether more follow; the third where the scan
/// ended.
///
/// # Errors
/// When SQLite fails.
pub fn after(
    connection: &Connection,
    seq: i64,
    peer: Option<i64>,
    entities: usize,
    bytes: usize,
) -> rusqlite::Result<(Vec<Logged>, bool, Position)> {
    let mut select = connection.prepare_cached(
        "SELECT seq, chain, row_id, admitted_at, bytes, pack, seq FROM sync_change \
            WHERE seq > ?1 AND origin IS NOT ?2 ORDER BY seq",
    )?;
    // Own changes have a NULL origin, and are not left out for the lack of a peer.
    let mut rows = select.query(params![seq, peer.unwrap_or(NOBODYS_ORIGIN)])?;
    let mut page = Page::new(entities, bytes);
    let mut reader = packs::Reader::new(connection);
    while let Some(row) = rows.next()? {
        if !page.add(read_logged(row, &mut reader)?) {
            let end = page
                .found
                .last()
                .map_or(Position::START, |last| Position { seq: last.seq, chain: last.chain });
            return Ok((page.found, true, end));
        }
    }
    Ok((page.found, false, end(connection)?))
}

fn read_logged(
    row: &rusqlite::Row<'_>,
    reader: &mut packs::Reader<'_>,
) -> rusqlite::Result<Logged> {
    Ok(Logged {
        seq: row.get(0)?,
        chain: row.get(1)?,
        row: RowId(row.get(2)?),
        admitted_at: row.get(3)?,
        bytes: read_bytes(row, 4, reader)?,
    })
}

/// The change chunk of a line: `bytes`, `pack` and `seq` stand in three columns from `first` on.
fn read_bytes(
    row: &rusqlite::Row<'_>,
    first: usize,
    reader: &mut packs::Reader<'_>,
) -> rusqlite::Result<Vec<u8>> {
    reader.bytes(row.get(first + 2)?, row.get(first + 1)?, row.get_ref(first)?.as_blob()?)
}

/// Changes until so many rows, or so many bytes, are reached; one at least.
struct Page {
    entities: usize,
    bytes: usize,
    size: usize,
    seen: std::collections::HashSet<RowId>,
    found: Vec<Logged>,
}

impl Page {
    fn new(entities: usize, bytes: usize) -> Self {
        Self { entities, bytes, size: 0, seen: std::collections::HashSet::new(), found: Vec::new() }
    }

    /// `false` when the change does not fit any more.
    fn add(&mut self, logged: Logged) -> bool {
        let is_new_row = !self.seen.contains(&logged.row);
        let is_full = self.size + logged.bytes.len() > self.bytes
            || (is_new_row && self.seen.len() == self.entities);
        if is_full && !self.found.is_empty() {
            return false;
        }
        self.seen.insert(logged.row);
        self.size += logged.bytes.len();
        self.found.push(logged);
        true
    }
}

/// Takes the changes of a row out of the log, which is only right while nobody was told of any of
/// it.
///
/// # Errors
/// When SQLite fails.
pub fn forget_row(connection: &Connection, row: RowId) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM sync_change WHERE row_id = ?1")?.execute([row.0])?;
    packs::forget_row(connection, row)?;
    Ok(())
}

/// Whether there are changes after `seq` that did not come from a peer, and where the log ends.
///
/// # Errors
/// When SQLite fails.
pub fn has_news(
    connection: &Connection,
    seq: i64,
    peer: Option<i64>,
) -> rusqlite::Result<(bool, i64)> {
    let end = end(connection)?.seq;
    Ok((count_between(connection, seq, end, peer)? > 0, end))
}

/// At most how many changes after `seq` up to `end` did not come from `peer`: exact, but for
/// numbers that were given up when rows took other names. Reads no change.
fn count_between(
    connection: &Connection,
    seq: i64,
    end: i64,
    peer: Option<i64>,
) -> rusqlite::Result<i64> {
    let Some(peer) = peer else { return Ok((end - seq).max(0)) };
    let own: i64 = connection
        .prepare_cached("SELECT count(*) FROM sync_change WHERE origin = ?1 AND seq > ?2")?
        .query_row([peer, seq], |row| row.get(0))?;
    Ok((end - seq - own).max(0))
}

/// Forgets which changes after `seq` came from a peer: its log is another than it was, so what it
/// once sent us it may no longer have.
///
/// # Errors
/// When SQLite fails.
pub fn forget_origin(connection: &Connection, peer: i64, seq: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE sync_change SET origin = NULL WHERE seq > ?2 AND origin = ?1")?
        .execute([peer, seq])?;
    Ok(())
}

/// How many changes after `seq` did not come from `peer`, see [`has_news`].
///
/// # Errors
/// When SQLite fails.
pub fn count_after(connection: &Connection, seq: i64, peer: Option<i64>) -> rusqlite::Result<i64> {
    count_between(connection, seq, end(connection)?.seq, peer)
}

/// Changes that wait for the changes they build on.
pub mod pending {
    use super::*;

    /// Most changes of one device that may wait.
    pub const PENDING_PER_DEVICE_MAX: i64 = 1_000;
    /// Most bytes of one device's changes that may wait.
    pub const PENDING_BYTES_PER_DEVICE_MAX: i64 = 8 * 1024 * 1024;
    /// How long a change waits, in milliseconds: seven days.
    pub const PENDING_WITHIN_MS: i64 = 7 * 24 * 60 * 60 * 1000;

    /// Whether another change of a device may wait.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn has_room(
        connection: &Connection,
        origin: Option<i64>,
        bytes: usize,
    ) -> rusqlite::Result<bool> {
        let (waiting, size): (i64, i64) = connection
            .prepare_cached(
                "SELECT count(*), coalesce(sum(length(bytes)), 0) FROM sync_pending \
                WHERE origin IS ?1",
            )?
            .query_row([origin], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        Ok(waiting < PENDING_PER_DEVICE_MAX
            && size.saturating_add(bytes) <= PENDING_BYTES_PER_DEVICE_MAX)
    }

    /// Puts a change aside. `false` when too much of that device's waits already.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn add(
        connection: &Connection,
        row: RowId,
        change: &Change,
        origin: Option<i64>,
        now_ms: i64,
    ) -> rusqlite::Result<bool> {
        if !has_room(connection, origin, change.bytes().len())? {
            return Ok(false);
        }
        connection
            .prepare_cached(
                "INSERT OR IGNORE INTO sync_pending (hash, row_id, origin, \
                received_at, bytes) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![change.hash().0, row.0, origin, now_ms, change.bytes()])?;
        Ok(true)
    }

    /// Forgets changes that waited too long for what they build on.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn expire(connection: &Connection, now_ms: i64) -> rusqlite::Result<()> {
        connection
            .prepare_cached("DELETE FROM sync_pending WHERE received_at < ?1")?
            .execute([now_ms.saturating_sub(PENDING_WITHIN_MS)])?;
        Ok(())
    }

    /// The changes of a row that wait, with who sent them.
    ///
    /// # Errors
    /// When SQLite fails or a stored change is damaged.
    pub fn of_row(
        connection: &Connection,
        row: RowId,
    ) -> Result<Vec<(Change, Option<i64>)>, LogError> {
        let mut select = connection
            .prepare_cached("SELECT bytes, origin FROM sync_pending WHERE row_id = ?1")?;
        let mut rows = select.query([row.0])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push((
                Change::decode(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?)?,
                row.get(1)?,
            ));
        }
        Ok(found)
    }

    /// Forgets a change that waits no longer.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn remove(connection: &Connection, hash: &ChangeHash) -> rusqlite::Result<()> {
        connection.prepare_cached("DELETE FROM sync_pending WHERE hash = ?1")?.execute([hash.0])?;
        Ok(())
    }
}
