//! The bytes of a change chunk, written and read without automerge (its binary format, "Change
//! chunks" and "Columns").
//!
//! A change of an entity document is a list of puts of scalars at the root, and of such lists the
//! format is a few run-length encoded columns: reading one so takes a tenth of the time automerge
//! takes to read any change. What is written is byte for byte what automerge writes, which tests
//! hold; what is not exactly that is not read here, and left to automerge to judge.

use std::collections::BTreeSet;
use std::num::NonZeroU64;

use sha2::{Digest as _, Sha256};

use crate::draft::{COUNTER_MAX, Draft};
use crate::guard::{
    CHUNK_TYPE_CHANGE, Cursor, DecodeError, HASH_BYTES, KEY_BYTES_MAX, MAGIC, column,
};
use crate::{Actor, ChangeHash, Op, OpId, VALUE_BYTES_MAX, Value};

/// Bytes before what the checksum covers: the magic, and the checksum itself.
const CHECKED_FROM: usize = 8;
/// The action of a put.
const PUT: u64 = 1;

/// How a value's type is told, in the lower four bits of its metadata; its length is in the others.
mod kind {
    pub(super) const NULL: u64 = 0;
    pub(super) const INTEGER: u64 = 4;
    pub(super) const REAL: u64 = 5;
    pub(super) const TEXT: u64 = 6;
    pub(super) const BLOB: u64 = 7;
}

fn unsigned(out: &mut Vec<u8>, value: u64) {
    // Writing to memory does not fail.
    let _ = leb128::write::unsigned(out, value);
}

fn signed(out: &mut Vec<u8>, value: i64) {
    let _ = leb128::write::signed(out, value);
}

fn length_prefixed(out: &mut Vec<u8>, bytes: &[u8]) {
    unsigned(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Run-length encoding: equal neighbours as a count and the value, others as a negative count and
/// each of them.
fn runs<T: PartialEq>(out: &mut Vec<u8>, values: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
    let mut rest = values;
    while let Some(first) = rest.first() {
        let equal = rest.iter().take_while(|value| *value == first).count();
        if equal > 1 {
            signed(out, i64::try_from(equal).unwrap_or(i64::MAX));
            write(out, first);
            rest = rest.get(equal..).unwrap_or_default();
            continue;
        }
        // Up to the next pair of equal neighbours.
        let literal =
            rest.windows(2).position(|pair| matches!(pair, [a, b] if a == b)).unwrap_or(rest.len());
        let (literals, after) = rest.split_at_checked(literal).unwrap_or((rest, &[]));
        signed(out, -i64::try_from(literals.len()).unwrap_or(i64::MAX));
        literals.iter().for_each(|value| write(out, value));
        rest = after;
    }
}

/// Writes a change. The hash is its name.
pub(crate) fn write(draft: &Draft) -> (ChangeHash, Vec<u8>) {
    let body = body(draft);
    let mut chunk = Vec::with_capacity(CHECKED_FROM + 6 + body.len());
    chunk.extend_from_slice(&MAGIC);
    chunk.extend_from_slice(&[0; 4]);
    chunk.push(CHUNK_TYPE_CHANGE);
    length_prefixed(&mut chunk, &body);
    let hash: [u8; HASH_BYTES] =
        Sha256::digest(chunk.get(CHECKED_FROM..).unwrap_or_default()).into();
    chunk.iter_mut().skip(MAGIC.len()).zip(hash.iter().take(4)).for_each(|(to, from)| *to = *from);
    (ChangeHash(hash), chunk)
}

/// What stands in a chunk behind its length: the change's own fields, then its puts by columns.
fn body(draft: &Draft) -> Vec<u8> {
    let actor = draft.actor.as_bytes();
    let others: BTreeSet<&[u8]> = draft
        .ops
        .iter()
        .flat_map(|op| &op.predecessors)
        .map(|pred| pred.actor.as_bytes())
        .filter(|other| *other != actor)
        .collect();
    let others: Vec<&[u8]> = others.into_iter().collect();
    let columns = columns(&draft.ops, actor, &others);
    let size: usize = columns.iter().map(|(_, data)| data.len() + 8).sum();
    let mut body = Vec::with_capacity(draft.deps.len() * HASH_BYTES + size + 256);
    unsigned(&mut body, draft.deps.len() as u64);
    draft.deps.iter().for_each(|dep| body.extend_from_slice(&dep.0));
    length_prefixed(&mut body, actor);
    unsigned(&mut body, draft.seq);
    unsigned(&mut body, draft.start_op.get());
    signed(&mut body, draft.unix_seconds);
    length_prefixed(&mut body, draft.message.as_deref().unwrap_or_default().as_bytes());
    unsigned(&mut body, others.len() as u64);
    others.iter().for_each(|other| length_prefixed(&mut body, other));
    unsigned(&mut body, columns.len() as u64);
    for (specification, data) in &columns {
        unsigned(&mut body, *specification);
        unsigned(&mut body, data.len() as u64);
    }
    columns.iter().for_each(|(_, data)| body.extend_from_slice(data));
    body
}

/// The columns of a change's puts that hold anything, in the order of their specifications.
fn columns(ops: &[Op], actor: &[u8], others: &[&[u8]]) -> Vec<(u64, Vec<u8>)> {
    let place = |other: &[u8]| {
        if other == actor {
            0
        } else {
            others.binary_search(&other).map_or(0, |place| place as u64 + 1)
        }
    };
    let mut columns: Vec<(u64, Vec<u8>)> = Vec::with_capacity(8);
    let mut add = |specification: u64, write: &dyn Fn(&mut Vec<u8>)| {
        let mut data = Vec::new();
        write(&mut data);
        if !data.is_empty() {
            columns.push((specification, data));
        }
    };
    let keys: Vec<&str> = ops.iter().map(|op| &*op.key).collect();
    add(column::KEY_STRING, &|out| {
        runs(out, &keys, |out, key| length_prefixed(out, key.as_bytes()))
    });
    if !ops.is_empty() {
        add(column::INSERT, &|out| unsigned(out, ops.len() as u64));
    }
    add(column::ACTION, &|out| {
        runs(out, &vec![PUT; ops.len()], |out, action| unsigned(out, *action))
    });
    let (metadata, values) = values(ops);
    add(column::VALUE_METADATA, &|out| {
        runs(out, &metadata, |out, metadata| unsigned(out, *metadata))
    });
    add(column::VALUE, &|out| out.extend_from_slice(&values));
    let counts: Vec<u64> = ops.iter().map(|op| op.predecessors.len() as u64).collect();
    add(column::PREDECESSOR_COUNT, &|out| runs(out, &counts, |out, count| unsigned(out, *count)));
    let predecessors: Vec<&OpId> = ops.iter().flat_map(|op| &op.predecessors).collect();
    let actors: Vec<u64> = predecessors.iter().map(|pred| place(pred.actor.as_bytes())).collect();
    add(column::PREDECESSOR_ACTOR, &|out| runs(out, &actors, |out, actor| unsigned(out, *actor)));
    let mut last = 0_i64;
    let steps: Vec<i64> = predecessors
        .iter()
        .map(|pred| {
            let counter = i64::try_from(pred.counter).unwrap_or(i64::MAX);
            let step = counter.saturating_sub(last);
            last = counter;
            step
        })
        .collect();
    add(column::PREDECESSOR_COUNTER, &|out| runs(out, &steps, |out, step| signed(out, *step)));
    columns
}

/// Of each put its value's kind and length, and the values one after the other.
fn values(ops: &[Op]) -> (Vec<u64>, Vec<u8>) {
    let mut metadata = Vec::with_capacity(ops.len());
    let mut values = Vec::new();
    for op in ops {
        let before = values.len();
        let kind = match &op.value {
            Value::Null => kind::NULL,
            Value::Integer(integer) => {
                signed(&mut values, *integer);
                kind::INTEGER
            }
            Value::Real(real) => {
                values.extend_from_slice(&real.to_le_bytes());
                kind::REAL
            }
            Value::Text(text) => {
                values.extend_from_slice(text.as_bytes());
                kind::TEXT
            }
            Value::Blob(bytes) => {
                values.extend_from_slice(bytes);
                kind::BLOB
            }
        };
        metadata.push(((values.len() - before) as u64) << 4 | kind);
    }
    (metadata, values)
}

/// What a chunk says, and its name.
pub(crate) struct Read {
    pub(crate) hash: ChangeHash,
    pub(crate) draft: Draft,
}

/// Whether bytes are taken only when they are exactly what would be written for what they say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Canonical {
    /// They come from outside.
    Checked,
    /// They were checked when they came.
    Known,
}

/// Reads an inspected chunk; `None` for whatever is not plainly a canonical change of an entity
/// document with the right checksum, which automerge may judge.
pub(crate) fn read(bytes: &[u8], canonical: Canonical) -> Option<Read> {
    let hash: [u8; HASH_BYTES] = Sha256::digest(bytes.get(CHECKED_FROM..)?).into();
    if bytes.get(MAGIC.len()..CHECKED_FROM) != hash.get(..4) {
        return None;
    }
    let draft = parse(bytes).ok()??;
    if draft.seq == 0
        || !is_ascending(&draft.deps)
        || !draft.ops.iter().all(|op| is_ascending(&op.predecessors))
    {
        return None;
    }
    let end = draft.start_op.get().checked_add(draft.ops.len() as u64)?;
    if end > COUNTER_MAX || (canonical == Canonical::Checked && write(&draft).1 != bytes) {
        return None;
    }
    Some(Read { hash: ChangeHash(hash), draft })
}

/// automerge writes names in order, each once, and breaks on others.
fn is_ascending<T: Ord>(names: &[T]) -> bool {
    names.is_sorted_by(|a, b| a < b)
}

fn parse(bytes: &[u8]) -> Result<Option<Draft>, DecodeError> {
    let mut chunk = Cursor(bytes);
    chunk.take(CHECKED_FROM + 1)?;
    chunk.unsigned()?;
    let count = chunk.length()?;
    let deps: Option<Vec<ChangeHash>> =
        (0..count).map(|_| chunk.take(HASH_BYTES).ok().and_then(ChangeHash::from_slice)).collect();
    let actor = Actor::from_bytes(chunk.prefixed()?);
    let (seq, start_op, unix_seconds) = (chunk.unsigned()?, chunk.unsigned()?, chunk.signed()?);
    let message = std::str::from_utf8(chunk.prefixed()?).map_err(|_| DecodeError::NotAChange)?;
    let others = chunk.length()?;
    let mut actors = vec![actor.clone()];
    for _ in 0..others {
        actors.push(Actor::from_bytes(chunk.prefixed()?));
    }
    let mut layout = Vec::new();
    for _ in 0..chunk.length()? {
        layout.push((chunk.unsigned()?, chunk.length()?));
    }
    let mut columns = Columns::default();
    for (specification, length) in layout {
        let data = chunk.take(length)?;
        let place = match specification {
            column::KEY_STRING => &mut columns.keys,
            column::INSERT => &mut columns.insert,
            column::ACTION => &mut columns.action,
            column::VALUE_METADATA => &mut columns.metadata,
            column::VALUE => &mut columns.values,
            column::PREDECESSOR_COUNT => &mut columns.counts,
            column::PREDECESSOR_ACTOR => &mut columns.actors,
            column::PREDECESSOR_COUNTER => &mut columns.counters,
            _ => return Ok(None),
        };
        *place = data;
    }
    let (Some(deps), Some(start_op), true) = (deps, NonZeroU64::new(start_op), chunk.0.is_empty())
    else {
        return Ok(None);
    };
    let Some(ops) = columns.ops(&actors)? else { return Ok(None) };
    let message = (!message.is_empty()).then(|| message.to_owned());
    Ok(Some(Draft { actor, seq, start_op, unix_seconds, message, deps, ops }))
}

#[derive(Default)]
struct Columns<'a> {
    keys: &'a [u8],
    insert: &'a [u8],
    action: &'a [u8],
    metadata: &'a [u8],
    values: &'a [u8],
    counts: &'a [u8],
    actors: &'a [u8],
    counters: &'a [u8],
}

/// Walks a run-length encoded column without nulls. Runs were counted when the change was
/// inspected.
struct Runs<'a, T> {
    data: Cursor<'a>,
    left: u64,
    repeated: Option<T>,
}

impl<'a, T: Clone> Runs<'a, T> {
    fn of(data: &'a [u8]) -> Self {
        Self { data: Cursor(data), left: 0, repeated: None }
    }

    fn next(
        &mut self,
        read: impl Fn(&mut Cursor<'a>) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if self.left == 0 {
            if self.data.0.is_empty() {
                return Ok(None);
            }
            let length = self.data.signed()?;
            self.left = length.unsigned_abs();
            self.repeated = if length > 0 { Some(read(&mut self.data)?) } else { None };
            if length == 0 {
                // Nulls: automerge writes none here.
                return Err(DecodeError::NotAChange);
            }
        }
        self.left -= 1;
        match &self.repeated {
            Some(value) => Ok(Some(value.clone())),
            None => read(&mut self.data).map(Some),
        }
    }
}

impl Columns<'_> {
    fn ops(&self, actors: &[Actor]) -> Result<Option<Vec<Op>>, DecodeError> {
        let (mut keys, mut actions, mut metadata) =
            (Runs::of(self.keys), Runs::of(self.action), Runs::of(self.metadata));
        let (mut counts, mut places, mut steps) =
            (Runs::of(self.counts), Runs::of(self.actors), Runs::of(self.counters));
        let mut values = Cursor(self.values);
        let mut counter = 0_i64;
        let mut ops = Vec::new();
        while let Some(action) = actions.next(Cursor::unsigned)? {
            let (Some(key), Some(metadata), Some(count)) = (
                keys.next(Cursor::prefixed)?,
                metadata.next(Cursor::unsigned)?,
                counts.next(Cursor::unsigned)?,
            ) else {
                return Ok(None);
            };
            let Ok(key) = std::str::from_utf8(key) else { return Ok(None) };
            if action != PUT || key.is_empty() || key.len() > KEY_BYTES_MAX {
                return Ok(None);
            }
            let length = usize::try_from(metadata >> 4).map_err(|_| DecodeError::NotAChange)?;
            let Some(value) = value(metadata & 15, values.take(length)?) else { return Ok(None) };
            let mut predecessors = Vec::new();
            for _ in 0..count {
                let (Some(place), Some(step)) =
                    (places.next(Cursor::unsigned)?, steps.next(Cursor::signed)?)
                else {
                    return Ok(None);
                };
                counter = counter.saturating_add(step);
                let actor = usize::try_from(place).ok().and_then(|place| actors.get(place));
                let (Some(actor), Ok(counter)) = (actor, u64::try_from(counter)) else {
                    return Ok(None);
                };
                predecessors.push(OpId { counter, actor: actor.clone() });
            }
            ops.push(Op { key: key.into(), value, predecessors });
        }
        let mut inserts = Vec::new();
        if !ops.is_empty() {
            unsigned(&mut inserts, ops.len() as u64);
        }
        Ok((inserts == self.insert && values.0.is_empty()).then_some(ops))
    }
}

fn value(kind: u64, bytes: &[u8]) -> Option<Value> {
    if bytes.len() > VALUE_BYTES_MAX {
        return None;
    }
    match kind {
        kind::NULL => bytes.is_empty().then_some(Value::Null),
        kind::INTEGER => {
            let mut data = Cursor(bytes);
            let integer = data.signed().ok()?;
            data.0.is_empty().then_some(Value::Integer(integer))
        }
        kind::REAL => Some(Value::Real(f64::from_le_bytes(bytes.try_into().ok()?))),
        kind::TEXT => std::str::from_utf8(bytes).ok().map(Value::from),
        kind::BLOB => Some(Value::Blob(bytes.to_vec())),
        _ => None,
    }
}
