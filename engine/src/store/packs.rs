//! Packs: older changes of one row, compressed together, because each tells nearly what the one
//! before it told. What is read out of a pack is byte for byte what went in, so that neither peers
//! nor hashes see a difference.

use std::collections::VecDeque;

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::position::Chain;
use super::rows::RowId;

/// Changes in a pack, at most.
pub const PACK_CHANGES: usize = 32;
/// The newest changes of a row that are never packed: peers who are a little behind ask for these.
pub const UNPACKED_CHANGES: usize = 16;
/// Bytes of change chunks in one pack, unless one change alone is larger.
const PACK_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes a pack may claim to hold: a change of the largest size beside the others, with room to
/// spare.
const PACK_CLAIM_MAX: usize = 4 * PACK_BYTES_MAX;
/// How hard to compress: about 200 MB/s.
const LEVEL: i32 = 3;
/// Packs kept open while a log is read.
const OPEN_MAX: usize = 8;
/// Bytes before each chunk: its seq and its length.
const FRAME_BYTES: usize = 16;

/// Compresses the older changes of a row, as long as there are so many that a pack is full and the
/// newest still stand by themselves. Returns how many packs were made.
///
/// # Errors
/// When SQLite fails.
pub fn pack(connection: &Connection, row: RowId) -> rusqlite::Result<usize> {
    let (standing, oldest): (i64, Option<i64>) = connection
        .prepare_cached(
            "SELECT count(*), min(seq) FROM sync_change WHERE row_id = ?1 AND pack IS NULL",
        )?
        .query_row([row.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut standing = usize::try_from(standing).unwrap_or(0);
    let (mut made, mut from) = (0, oldest.unwrap_or(0));
    while standing >= PACK_CHANGES + UNPACKED_CHANGES {
        let (packed, last) = pack_once(connection, row, from)?;
        (standing, from, made) =
            (standing.saturating_sub(packed.max(1)), last.saturating_add(1), made + 1);
    }
    Ok(made)
}

/// Packs the oldest changes from the seq `from` on. Returns how many, and the seq of the last.
fn pack_once(connection: &Connection, row: RowId, from: i64) -> rusqlite::Result<(usize, i64)> {
    let (mut lines, mut content) = (Vec::with_capacity(PACK_CHANGES), Vec::new());
    let mut select = connection.prepare_cached(
        "SELECT bytes, seq, hash, chain, origin, admitted_at, came_from FROM sync_change WHERE \
            row_id = ?1 AND seq >= ?2 AND pack IS NULL ORDER BY seq",
    )?;
    let mut changes = select.query([row.0, from])?;
    while let Some(change) = changes.next()?.filter(|_| lines.len() < PACK_CHANGES) {
        let bytes = change.get_ref(0)?.as_blob()?;
        if !lines.is_empty() && content.len() + bytes.len() > PACK_BYTES_MAX {
            break;
        }
        let line = Line {
            seq: change.get(1)?,
            hash: change.get(2)?,
            chain: change.get(3)?,
            origin: change.get(4)?,
            admitted_at: change.get(5)?,
            came_from: change.get(6)?,
        };
        content.extend_from_slice(&line.seq.to_be_bytes());
        content.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        content.extend_from_slice(bytes);
        lines.push(line);
    }
    drop(changes);
    let packed = compress(&content)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    connection
        .prepare_cached("INSERT INTO sync_pack (row_id, size, bytes) VALUES (?1, ?2, ?3)")?
        .execute(params![row.0, i64::try_from(content.len()).unwrap_or(i64::MAX), packed])?;
    let pack = connection.last_insert_rowid();
    // Taken out and put in again: SQLite gives pages that have become empty back only when lines
    // are deleted, not when they shrink.
    let mut take_out = connection.prepare_cached("DELETE FROM sync_change WHERE seq = ?1")?;
    for line in &lines {
        take_out.execute([line.seq])?;
    }
    let mut put_in = connection.prepare_cached(
        "INSERT INTO sync_change (seq, row_id, hash, chain, origin, admitted_at, bytes, came_from, \
            pack) VALUES (?1, ?2, ?3, ?4, ?5, ?6, x'', ?7, ?8)",
    )?;
    let (count, last) = (lines.len(), lines.last().map_or(from, |line| line.seq));
    for Line { seq, hash, chain, origin, admitted_at, came_from } in lines {
        put_in.execute(params![seq, row.0, hash, chain, origin, admitted_at, came_from, pack])?;
    }
    Ok((count, last))
}

/// With a checksum over the content, so that damage is told as what it is.
fn compress(content: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    compressor.include_checksum(true)?;
    compressor.compress(content)
}

/// What stays of a change in `sync_change`.
struct Line {
    seq: i64,
    hash: [u8; 32],
    chain: Chain,
    origin: Option<i64>,
    admitted_at: i64,
    came_from: Option<i64>,
}

/// Forgets the packs of a row whose changes were taken out of the log.
///
/// # Errors
/// When SQLite fails.
pub fn forget_row(connection: &Connection, row: RowId) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM sync_pack WHERE row_id = ?1")?.execute([row.0])?;
    Ok(())
}

/// Reads change chunks, those in packs included. The packs read last stay open, because neighbours
/// are asked for one after the other.
#[derive(Debug)]
pub struct Reader<'c> {
    connection: &'c Connection,
    open: VecDeque<Pack>,
}

impl<'c> Reader<'c> {
    /// Nothing is open yet.
    #[must_use]
    pub fn new(connection: &'c Connection) -> Self {
        Self { connection, open: VecDeque::new() }
    }

    /// The chunk of the change `seq`: `stored`, or what is in its pack.
    ///
    /// # Errors
    /// When SQLite fails, or the pack is damaged.
    pub fn bytes(
        &mut self,
        seq: i64,
        pack: Option<i64>,
        stored: &[u8],
    ) -> rusqlite::Result<Vec<u8>> {
        let Some(id) = pack else { return Ok(stored.to_vec()) };
        if !self.open.iter().any(|open| open.id == id) {
            self.open.truncate(OPEN_MAX - 1);
            self.open.push_front(Pack::read(self.connection, id)?);
        }
        let chunk = self.open.iter().find(|open| open.id == id).and_then(|open| open.chunk(seq));
        chunk.map(<[u8]>::to_vec).ok_or_else(|| damaged(id, "a change is missing in it"))
    }
}

#[derive(Debug)]
struct Pack {
    id: i64,
    content: Vec<u8>,
}

impl Pack {
    fn read(connection: &Connection, id: i64) -> rusqlite::Result<Self> {
        let (size, packed): (i64, Vec<u8>) = connection
            .prepare_cached("SELECT size, bytes FROM sync_pack WHERE id = ?1")?
            .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?
            .ok_or_else(|| damaged(id, "it is missing"))?;
        let claimed = usize::try_from(size).ok().filter(|size| *size <= PACK_CLAIM_MAX);
        let size = claimed.ok_or_else(|| damaged(id, "it claims to be larger than any pack"))?;
        let content = zstd::bulk::decompress(&packed, size)
            .map_err(|error| damaged(id, &error.to_string()))?;
        Ok(Self { id, content })
    }

    fn chunk(&self, wanted: i64) -> Option<&[u8]> {
        let mut rest = self.content.as_slice();
        loop {
            let (frame, after) = rest.split_at_checked(FRAME_BYTES)?;
            let (seq, length) = frame.split_at_checked(8)?;
            let length = usize::try_from(u64::from_be_bytes(length.try_into().ok()?)).ok()?;
            let (chunk, next) = after.split_at_checked(length)?;
            if i64::from_be_bytes(seq.try_into().ok()?) == wanted {
                return Some(chunk);
            }
            rest = next;
        }
    }
}

fn damaged(id: i64, why: &str) -> rusqlite::Error {
    let words = format!(
        "pack {id} of the change log is damaged: {why}; restore a backup, the other devices bring \
            the newer edits back"
    );
    rusqlite::Error::FromSqlConversionFailure(0, Type::Blob, words.into())
}
