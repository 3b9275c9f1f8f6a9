//! The first look at a change from outside: is this a small, plain automerge change at all? Reads
//! the chunk's frame and adds up the run lengths of its columns, so that bytes which claim a
//! hundred million operations are refused before anything expands them.
//!
//! Owns the limits on size, the words for what is refused, and the layout of a change chunk
//! (automerge binary format, "Change chunk" and "Columns"). Refuses to know what a change means:
//! that is [`crate::Change::decode`]'s.

/// Longest change admitted, in bytes. A page holds 4 MiB, so any change fits into one.
pub const CHANGE_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Most puts in one change: SQLite's own limit on columns is 2,000.
pub const PUTS_PER_CHANGE_MAX: usize = 2_100;
/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 256;
/// Most predecessors all puts of one change may name, and never more than it has bytes: each of its
/// columns written by several devices at once.
pub const PREDECESSORS_PER_CHANGE_MAX: usize = 16_384;
/// Most changes one change may build on directly: one for each device that wrote at the same time.
pub const DEPENDENCIES_PER_CHANGE_MAX: usize = 4_096;
/// Longest actor id, in bytes; ours have 40.
pub const ACTOR_BYTES_MAX: usize = 64;
/// Longest message, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 1_024;

/// The chunk type byte of an uncompressed change. Documents (0), deflated changes (2) and bundles
/// (3) are never taken: each of them can claim more than it carries.
pub(crate) const CHUNK_TYPE_CHANGE: u8 = 1;
/// `85 6f 4a 83` opens every chunk.
pub(crate) const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];
const CHECKSUM_BYTES: usize = 4;
pub(crate) const HASH_BYTES: usize = 32;

/// Column specifications: id in the upper bits, then one bit for deflate, then the type.
pub(crate) mod column {
    pub(crate) const KEY_STRING: u64 = 0x15;
    pub(crate) const INSERT: u64 = 0x34;
    pub(crate) const ACTION: u64 = 0x42;
    pub(crate) const VALUE_METADATA: u64 = 0x56;
    pub(crate) const VALUE: u64 = 0x57;
    pub(crate) const PREDECESSOR_COUNT: u64 = 0x70;
    pub(crate) const PREDECESSOR_ACTOR: u64 = 0x71;
    pub(crate) const PREDECESSOR_COUNTER: u64 = 0x73;
}

/// Why bytes are not a change of an entity document.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Larger than [`CHANGE_BYTES_MAX`].
    #[error("a change of {0} bytes is larger than any change may be")]
    TooLarge(usize),
    /// Compressed changes, documents, bundles and anything that is no automerge chunk.
    #[error("these bytes are not an uncompressed automerge change")]
    NotAChange,
    /// automerge could not read it.
    #[error("automerge can't read this change: {0}")]
    Unreadable(String),
    /// automerge panicked while reading it.
    #[error("automerge breaks on this change")]
    Breaks,
    /// The checksum or the encoding differs from what automerge itself would have written.
    #[error("the bytes of this change are not canonical")]
    NotCanonical,
    /// A well-formed change that no entity document may hold.
    #[error("not a change of an entity document: {0}")]
    Shape(&'static str),
}

pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(DecodeError::NotAChange)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn unsigned(&mut self) -> Result<u64, DecodeError> {
        leb128::read::unsigned(&mut self.0).map_err(|_| DecodeError::NotAChange)
    }

    pub(crate) fn signed(&mut self) -> Result<i64, DecodeError> {
        leb128::read::signed(&mut self.0).map_err(|_| DecodeError::NotAChange)
    }

    /// A length, in bytes or items, that may lie ahead.
    pub(crate) fn length(&mut self) -> Result<usize, DecodeError> {
        let length = self.unsigned()?;
        usize::try_from(length)
            .ok()
            .filter(|length| *length <= self.0.len())
            .ok_or(DecodeError::NotAChange)
    }

    /// Bytes after their length.
    pub(crate) fn prefixed(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.length()?;
        self.take(length)
    }

    fn count(&mut self, limit: usize, what: &'static str) -> Result<usize, DecodeError> {
        usize::try_from(self.unsigned()?)
            .ok()
            .filter(|count| *count <= limit)
            .ok_or(DecodeError::Shape(what))
    }

    fn bytes(&mut self, limit: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let count = self.count(limit, what)?;
        self.take(count)
    }
}

/// When a change was made by its author's clock, in Unix seconds, read from the first bytes of its
/// chunk; 0 for a genesis, and where the bytes given do not reach so far. Proves nothing: it only
/// orders.
#[must_use]
pub fn change_time(bytes: &[u8]) -> u64 {
    let read = || -> Result<i64, DecodeError> {
        let mut chunk = Cursor(bytes);
        chunk.take(MAGIC.len() + CHECKSUM_BYTES + 1)?;
        chunk.unsigned()?;
        let dependencies =
            chunk.count(DEPENDENCIES_PER_CHANGE_MAX, "it builds on too many changes")?;
        chunk.take(dependencies.saturating_mul(HASH_BYTES))?;
        chunk.bytes(ACTOR_BYTES_MAX, "its actor is too long")?;
        chunk.unsigned()?;
        chunk.unsigned()?;
        chunk.signed()
    };
    read().map_or(0, |time| u64::try_from(time).unwrap_or(0))
}

/// Refuses what is no plain change, or claims to be larger than a change may be. Takes time and
/// memory in proportion to the bytes given, whatever they claim.
pub(crate) fn inspect(bytes: &[u8]) -> Result<(), DecodeError> {
    if bytes.len() > CHANGE_BYTES_MAX {
        return Err(DecodeError::TooLarge(bytes.len()));
    }
    let mut chunk = Cursor(bytes);
    if chunk.take(MAGIC.len())? != MAGIC {
        return Err(DecodeError::NotAChange);
    }
    chunk.take(CHECKSUM_BYTES)?;
    if chunk.take(1)? != [CHUNK_TYPE_CHANGE] {
        return Err(DecodeError::NotAChange);
    }
    let length = chunk.unsigned()?;
    if length != chunk.0.len() as u64 {
        return Err(DecodeError::NotAChange);
    }
    let dependencies = chunk.count(DEPENDENCIES_PER_CHANGE_MAX, "it builds on too many changes")?;
    chunk.take(dependencies.saturating_mul(HASH_BYTES))?;
    chunk.bytes(ACTOR_BYTES_MAX, "its actor is too long")?;
    let _seq = chunk.unsigned()?;
    let _start_op = chunk.unsigned()?;
    let _time = chunk.signed()?;
    chunk.bytes(MESSAGE_BYTES_MAX, "its message is too long")?;
    let others = chunk.count(DEPENDENCIES_PER_CHANGE_MAX, "it names too many actors")?;
    for _ in 0..others {
        chunk.bytes(ACTOR_BYTES_MAX, "an actor is too long")?;
    }
    let columns = chunk.count(16, "it has too many columns")?;
    let mut layout = Vec::with_capacity(columns);
    for _ in 0..columns {
        layout.push((chunk.unsigned()?, chunk.count(CHANGE_BYTES_MAX, "a column is too long")?));
    }
    for (specification, length) in layout {
        inspect_column(specification, Cursor(chunk.take(length)?), bytes.len())?;
    }
    if chunk.0.is_empty() { Ok(()) } else { Err(DecodeError::Shape("it carries extra bytes")) }
}

fn inspect_column(
    specification: u64,
    data: Cursor<'_>,
    change_bytes: usize,
) -> Result<(), DecodeError> {
    const PUTS: usize = PUTS_PER_CHANGE_MAX;
    // Honest ones each cost a byte at least: in the key of their put, or in their actor or counter.
    let predecessors = PREDECESSORS_PER_CHANGE_MAX.min(change_bytes);
    match specification {
        column::KEY_STRING => runs(data, PUTS, |cursor, _| {
            cursor.bytes(KEY_BYTES_MAX, "a key is empty or too long").map(drop)
        }),
        column::INSERT => booleans(data),
        column::ACTION | column::VALUE_METADATA => {
            runs(data, PUTS, |cursor, _| cursor.unsigned().map(drop))
        }
        column::VALUE => Ok(()),
        column::PREDECESSOR_COUNT => {
            let mut all = 0_u64;
            runs(data, PUTS, |cursor, repeated| {
                all = all.saturating_add(cursor.unsigned()?.saturating_mul(repeated));
                if all > predecessors as u64 {
                    Err(DecodeError::Shape("it replaces too many values"))
                } else {
                    Ok(())
                }
            })
        }
        column::PREDECESSOR_ACTOR => {
            runs(data, predecessors, |cursor, _| cursor.unsigned().map(drop))
        }
        column::PREDECESSOR_COUNTER => {
            runs(data, predecessors, |cursor, _| cursor.signed().map(drop))
        }
        _ if data.0.is_empty() => Ok(()),
        _ => Err(DecodeError::Shape("it touches something below the root")),
    }
}

/// Walks a run-length encoded column: a positive length repeats one value, a negative one stands
/// before as many literal values, zero before a count of nulls. `value` reads one value and is told
/// how often it counts.
fn runs(
    mut data: Cursor<'_>,
    limit: usize,
    mut value: impl FnMut(&mut Cursor<'_>, u64) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let mut left = limit as u64;
    while !data.0.is_empty() {
        let length = data.signed()?;
        let nulls = length == 0;
        let count = if nulls { data.unsigned()? } else { length.unsigned_abs() };
        left = left.checked_sub(count).ok_or(DecodeError::Shape("it has too many operations"))?;
        if nulls {
            continue;
        }
        if length > 0 {
            value(&mut data, count)?;
        } else {
            for _ in 0..count {
                value(&mut data, 1)?;
            }
        }
    }
    Ok(())
}

/// Walks a boolean column: lengths of alternating runs.
fn booleans(mut data: Cursor<'_>) -> Result<(), DecodeError> {
    let mut left = PUTS_PER_CHANGE_MAX as u64;
    while !data.0.is_empty() {
        left = left
            .checked_sub(data.unsigned()?)
            .ok_or(DecodeError::Shape("it has too many operations"))?;
    }
    Ok(())
}
