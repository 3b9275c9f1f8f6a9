//! One automerge change of an entity document: its bytes, and what they say.
//!
//! Owns the encoding and the shape every change must have (root-level keys, scalar puts, bounded
//! sizes, canonical bytes). Refuses to know what other changes exist: that is
//! [`crate::Document`]'s.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use automerge::ExpandedChange;
use automerge::legacy::{Key, ObjectId, OpType};

use crate::chunk::{self, Canonical};
use crate::draft::{COUNTER_MAX, Draft, Op, OpId, genesis_actor};
use crate::guard::{self, DecodeError, KEY_BYTES_MAX};
use crate::{Actor, ChangeHash, EntityId, Value, key};

/// Longest value, in bytes: with the other columns it still fits into [`crate::CHANGE_BYTES_MAX`].
pub const VALUE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Highest `version` taken from another device: the largest integer JavaScript holds exactly.
pub const VERSION_MAX: i64 = (1 << 53) - 1;
/// Highest `version` a row may start with when it comes from another device: whatever is written on
/// it stays below [`VERSION_MAX`].
pub const FIRST_VERSION_MAX: i64 = 1 << 52;
/// One decoded change with its bytes. A clone shares both.
#[derive(Debug, Clone)]
pub struct Change(Arc<Content>);

#[derive(Debug)]
struct Content {
    hash: ChangeHash,
    actor: Actor,
    seq: u64,
    start_op: u64,
    unix_seconds: i64,
    deps: Vec<ChangeHash>,
    message: Option<String>,
    ops: Vec<Op>,
    bytes: Vec<u8>,
}

impl Draft {
    /// Encodes the draft as automerge would, without a document.
    pub(crate) fn encode(self) -> Change {
        let (hash, bytes) = chunk::write(&self);
        Change::of(self, hash, bytes)
    }
}

impl Change {
    /// Reads a change from a peer or from the log.
    ///
    /// # Errors
    /// See [`DecodeError`]; nothing but a canonical, uncompressed change of the shape of an entity
    /// document is taken.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        guard::inspect(bytes)?;
        if let Some(read) = chunk::read(bytes, Canonical::Checked) {
            return Ok(Self::of(read.draft, read.hash, bytes.to_vec()));
        }
        // automerge 0.12 panics on some well-formed bytes; what is half read is dropped whole.
        catch_unwind(AssertUnwindSafe(|| Self::decode_inspected(bytes)))
            .unwrap_or(Err(DecodeError::Breaks))
    }

    /// Reads a change from our own log, whose bytes were checked when they came: only the checksum
    /// is compared again.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn decode_stored(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        match chunk::read(&bytes, Canonical::Known) {
            Some(read) => Ok(Self::of(read.draft, read.hash, bytes)),
            None => Self::decode(&bytes),
        }
    }

    fn of(draft: Draft, hash: ChangeHash, bytes: Vec<u8>) -> Self {
        let Draft { actor, seq, start_op, unix_seconds, message, deps, ops } = draft;
        Self(Arc::new(Content {
            hash,
            actor,
            seq,
            start_op: start_op.get(),
            unix_seconds,
            deps,
            message,
            ops,
            bytes,
        }))
    }

    /// Reads a change another device made: as [`Self::decode`], and within limits that keep what
    /// devices write after it within theirs.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn decode_received(bytes: &[u8]) -> Result<Self, DecodeError> {
        let change = Self::decode(bytes)?;
        let mut keys = HashSet::with_capacity(change.ops().len());
        if !change.ops().iter().all(|op| keys.insert(&*op.key)) {
            return Err(DecodeError::Shape("it writes one key twice"));
        }
        if let Some(Value::Integer(version)) = change.value(key::VERSION)
            && !(0..=if change.is_genesis() { FIRST_VERSION_MAX } else { VERSION_MAX })
                .contains(version)
        {
            return Err(DecodeError::Shape("its version is out of range"));
        }
        Ok(change)
    }

    fn decode_inspected(bytes: &[u8]) -> Result<Self, DecodeError> {
        let encoded = automerge::Change::try_from(bytes)
            .map_err(|error| DecodeError::Unreadable(error.to_string()))?;
        let hash = encoded.hash();
        // automerge does not compare the checksum itself.
        if bytes.get(4..8) != hash.0.get(..4) {
            return Err(DecodeError::NotCanonical);
        }
        let expanded = encoded.decode();
        let change = Self::from_expanded(&expanded, ChangeHash(hash.0), bytes)?;
        if change.end_op() > COUNTER_MAX {
            return Err(DecodeError::Shape("its counters are out of range"));
        }
        if automerge::Change::from(expanded).hash() != hash {
            return Err(DecodeError::NotCanonical);
        }
        Ok(change)
    }

    fn from_expanded(
        expanded: &ExpandedChange,
        hash: ChangeHash,
        bytes: &[u8],
    ) -> Result<Self, DecodeError> {
        if !expanded.extra_bytes.is_empty() {
            return Err(DecodeError::Shape("it carries extra bytes"));
        }
        let mut ops = Vec::with_capacity(expanded.operations.len());
        let mut actors: HashMap<&[u8], Actor> = HashMap::new();
        for op in &expanded.operations {
            if op.obj != ObjectId::Root || op.insert {
                return Err(DecodeError::Shape("it touches something below the root"));
            }
            let Key::Map(key) = &op.key else {
                return Err(DecodeError::Shape("it touches a list"));
            };
            if key.is_empty() || key.len() > KEY_BYTES_MAX {
                return Err(DecodeError::Shape("a key is empty or too long"));
            }
            let OpType::Put(scalar) = &op.action else {
                return Err(DecodeError::Shape("it does something other than putting a value"));
            };
            let Some(value) = Value::from_scalar(scalar) else {
                return Err(DecodeError::Shape("a value is of a kind no column holds"));
            };
            if value.size_bytes() > VALUE_BYTES_MAX {
                return Err(DecodeError::Shape("a value is too large"));
            }
            let predecessors = op
                .pred
                .iter()
                .map(|pred| {
                    let bytes = pred.actor().to_bytes();
                    OpId {
                        counter: pred.counter(),
                        actor: actors
                            .entry(bytes)
                            .or_insert_with(|| Actor::from_bytes(bytes))
                            .clone(),
                    }
                })
                .collect();
            ops.push(Op { key: key.as_str().into(), value, predecessors });
        }
        Ok(Self(Arc::new(Content {
            hash,
            actor: Actor::from_bytes(expanded.actor_id.to_bytes()),
            seq: expanded.seq,
            start_op: expanded.start_op.get(),
            unix_seconds: expanded.time,
            deps: expanded.deps.iter().map(|dep| ChangeHash(dep.0)).collect(),
            message: expanded.message.clone(),
            ops,
            bytes: bytes.to_vec(),
        })))
    }

    /// The change's hash, by which every device knows it.
    #[must_use]
    pub fn hash(&self) -> ChangeHash {
        self.0.hash
    }

    /// Who wrote it.
    #[must_use]
    pub fn actor(&self) -> &Actor {
        &self.0.actor
    }

    /// Its sequence number among its actor's changes in this document, from 1.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.0.seq
    }

    /// The Lamport counter of its first operation.
    #[must_use]
    pub fn start_op(&self) -> u64 {
        self.0.start_op
    }

    /// The Lamport counter after its last operation.
    #[must_use]
    pub fn end_op(&self) -> u64 {
        self.0.start_op.saturating_add(self.0.ops.len() as u64)
    }

    /// The changes it was made on top of; none for a genesis.
    #[must_use]
    pub fn deps(&self) -> &[ChangeHash] {
        &self.0.deps
    }

    /// Its puts, in order.
    #[must_use]
    pub fn ops(&self) -> &[Op] {
        &self.0.ops
    }

    /// What the change was made for, when that matters to a merge: see [`crate::EditPurpose`].
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.0.message.as_deref()
    }

    /// Whether this is the first change of a row: it depends on nothing.
    #[must_use]
    pub fn is_genesis(&self) -> bool {
        self.0.deps.is_empty()
    }

    /// Whether it may be the first change of `entity`: it names the row itself, or follows from the
    /// row's name and content alone. Anything else is another row's, sent under this one's name.
    #[must_use]
    pub fn starts(&self, entity: &EntityId) -> bool {
        match self.value(key::ROW) {
            Some(name) => name.as_text() == Some(entity.uuid.as_str()),
            // Bytes are canonical, so this is all a genesis can differ in.
            None => {
                self.is_genesis()
                    && (self.0.seq, self.0.start_op, self.0.unix_seconds) == (1, 1, 0)
                    && self.0.message.is_none()
                    && self.0.ops.is_sorted_by(|a, b| a.key < b.key)
                    && self.0.actor
                        == genesis_actor(entity, self.0.ops.iter().map(|op| (&*op.key, &op.value)))
            }
        }
    }

    /// The name of its `index`-th put.
    pub(crate) fn op_id(&self, index: usize) -> OpId {
        OpId { counter: self.0.start_op.saturating_add(index as u64), actor: self.0.actor.clone() }
    }

    /// The value it puts under `key`, if it does.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.0.ops.iter().find(|op| *op.key == *key).map(|op| &op.value)
    }

    /// The chunk as automerge writes it: what is stored and sent.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    /// The chunk, taken out.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        Arc::try_unwrap(self.0).map_or_else(|shared| shared.bytes.clone(), |content| content.bytes)
    }
}
