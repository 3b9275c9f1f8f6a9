//! One automerge change of an entity document: its bytes, and what they say.
//!
//! Owns the encoding and the shape every change must have (root-level keys, scalar puts, bounded
//! sizes, canonical bytes). Refuses to know what other changes exist: that is [`crate::Document`]'s.

use std::num::NonZeroU64;

use automerge::legacy::{Key, ObjectId, Op as WireOp, OpId as WireOpId, OpType};
use automerge::{ActorId, ExpandedChange};

use crate::{Actor, ChangeHash, Value};

/// Longest change admitted, in bytes. A page holds 4 MiB, so any change fits into one.
pub const CHANGE_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Most puts in one change: SQLite's own limit on columns is 2,000.
pub const PUTS_PER_CHANGE_MAX: usize = 2_100;
/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 256;
/// Longest value, in bytes: with the other columns it still fits into [`CHANGE_BYTES_MAX`].
pub const VALUE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The chunk type byte of an uncompressed change (automerge binary format, "chunk types").
const CHUNK_TYPE_CHANGE: u8 = 1;
/// Magic (4), checksum (4), type (1): the fixed start of a chunk.
const CHUNK_TYPE_OFFSET: usize = 8;

/// Names one put: a Lamport counter and the actor that made it. Ordered as automerge orders
/// operations, so the greatest of several concurrent puts is the winner.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId {
    /// The Lamport counter.
    pub counter: u64,
    /// Who made it.
    pub actor: Actor,
}

/// A put of one value under one root key.
#[derive(Debug, Clone, PartialEq)]
pub struct Op {
    /// The document key: a column, or one of [`crate::key`].
    pub key: String,
    /// The new value.
    pub value: Value,
    /// The puts this one replaces.
    pub predecessors: Vec<OpId>,
}

/// One decoded change with its bytes.
#[derive(Debug, Clone)]
pub struct Change {
    hash: ChangeHash,
    actor: Actor,
    seq: u64,
    start_op: u64,
    deps: Vec<ChangeHash>,
    message: Option<String>,
    ops: Vec<Op>,
    bytes: Vec<u8>,
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
    /// The checksum or the encoding differs from what automerge itself would have written.
    #[error("the bytes of this change are not canonical")]
    NotCanonical,
    /// A well-formed change that no entity document may hold.
    #[error("not a change of an entity document: {0}")]
    Shape(&'static str),
}

/// What a new change says, before it has bytes and a hash.
pub(crate) struct Draft {
    pub(crate) actor: Actor,
    pub(crate) seq: u64,
    pub(crate) start_op: NonZeroU64,
    pub(crate) unix_seconds: i64,
    pub(crate) message: Option<String>,
    pub(crate) deps: Vec<ChangeHash>,
    pub(crate) ops: Vec<Op>,
}

impl Draft {
    /// Encodes the draft as automerge would, without a document.
    pub(crate) fn encode(self) -> Change {
        let operations = self
            .ops
            .iter()
            .map(|op| WireOp {
                action: OpType::Put(op.value.to_scalar()),
                obj: ObjectId::Root,
                key: Key::Map(op.key.as_str().into()),
                pred: op.predecessors.iter().map(to_wire).collect(),
                insert: false,
            })
            .collect();
        let expanded = ExpandedChange {
            operations,
            actor_id: ActorId::from(self.actor.as_bytes()),
            hash: None,
            seq: self.seq,
            start_op: self.start_op,
            time: self.unix_seconds,
            message: self.message.clone(),
            deps: self.deps.iter().map(|dep| automerge::ChangeHash(dep.0)).collect(),
            extra_bytes: Vec::new(),
            author: None,
        };
        let encoded = automerge::Change::from(expanded);
        Change {
            hash: ChangeHash(encoded.hash().0),
            actor: self.actor,
            seq: self.seq,
            start_op: self.start_op.get(),
            deps: self.deps,
            message: self.message,
            ops: self.ops,
            bytes: encoded.raw_bytes().to_vec(),
        }
    }
}

fn to_wire(op_id: &OpId) -> WireOpId {
    WireOpId(op_id.counter, ActorId::from(op_id.actor.as_bytes()))
}

impl Change {
    /// Reads a change from a peer or from the log.
    ///
    /// # Errors
    /// See [`DecodeError`]; nothing but a canonical, uncompressed change of the shape of an entity
    /// document is taken.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > CHANGE_BYTES_MAX {
            return Err(DecodeError::TooLarge(bytes.len()));
        }
        if bytes.get(CHUNK_TYPE_OFFSET) != Some(&CHUNK_TYPE_CHANGE) {
            return Err(DecodeError::NotAChange);
        }
        let encoded = automerge::Change::try_from(bytes).map_err(|error| DecodeError::Unreadable(error.to_string()))?;
        let hash = encoded.hash();
        if bytes.get(4..8) != hash.0.get(..4) {
            return Err(DecodeError::NotCanonical);
        }
        if encoded.len() > PUTS_PER_CHANGE_MAX {
            return Err(DecodeError::Shape("it has too many operations"));
        }
        let expanded = encoded.decode();
        let change = Self::from_expanded(&expanded, ChangeHash(hash.0), bytes)?;
        if automerge::Change::from(expanded).hash() != hash {
            return Err(DecodeError::NotCanonical);
        }
        Ok(change)
    }

    fn from_expanded(expanded: &ExpandedChange, hash: ChangeHash, bytes: &[u8]) -> Result<Self, DecodeError> {
        if !expanded.extra_bytes.is_empty() {
            return Err(DecodeError::Shape("it carries extra bytes"));
        }
        let mut ops = Vec::with_capacity(expanded.operations.len());
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
            let predecessors = op.pred.iter().map(|pred| OpId { counter: pred.counter(), actor: Actor::from_bytes(pred.actor().to_bytes()) }).collect();
            ops.push(Op { key: key.to_string(), value, predecessors });
        }
        Ok(Self {
            hash,
            actor: Actor::from_bytes(expanded.actor_id.to_bytes()),
            seq: expanded.seq,
            start_op: expanded.start_op.get(),
            deps: expanded.deps.iter().map(|dep| ChangeHash(dep.0)).collect(),
            message: expanded.message.clone(),
            ops,
            bytes: bytes.to_vec(),
        })
    }

    /// The change's name.
    #[must_use]
    pub fn hash(&self) -> ChangeHash {
        self.hash
    }

    /// Who wrote it.
    #[must_use]
    pub fn actor(&self) -> &Actor {
        &self.actor
    }

    /// The how-manieth change of its actor in this document it is, from 1.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The Lamport counter of its first operation.
    #[must_use]
    pub fn start_op(&self) -> u64 {
        self.start_op
    }

    /// The Lamport counter after its last operation.
    #[must_use]
    pub fn end_op(&self) -> u64 {
        self.start_op.saturating_add(self.ops.len() as u64)
    }

    /// The changes it was made on top of; none for a genesis.
    #[must_use]
    pub fn deps(&self) -> &[ChangeHash] {
        &self.deps
    }

    /// Its puts, in order.
    #[must_use]
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// What the change was made for, when that matters to a merge: see [`crate::EditPurpose`].
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// Whether this is the first change of a row: it depends on nothing.
    #[must_use]
    pub fn is_genesis(&self) -> bool {
        self.deps.is_empty()
    }

    /// The name of its `index`-th put.
    pub(crate) fn op_id(&self, index: usize) -> OpId {
        OpId { counter: self.start_op.saturating_add(index as u64), actor: self.actor.clone() }
    }

    /// The value it puts under `key`, if it does.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.ops.iter().find(|op| op.key == key).map(|op| &op.value)
    }

    /// The chunk as automerge writes it: what is stored and sent.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The chunk, taken out.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}
