//! What a change says, before it has bytes and a hash: its puts, and who makes it.

use std::num::NonZeroU64;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::value::write_length_prefixed;
use crate::{Actor, ChangeHash, EntityId, Value};

/// Highest Lamport counter: automerge keeps them in 32 bits, and breaks on what lies above.
pub(crate) const COUNTER_MAX: u64 = u32::MAX as u64;

/// Bytes of a genesis actor id.
const GENESIS_ACTOR_BYTES: usize = 16;

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
    pub key: Arc<str>,
    /// The new value.
    pub value: Value,
    /// The puts this one replaces.
    pub predecessors: Vec<OpId>,
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

/// The actor of a row's first change: a hash of the entity and what the change puts, in the order
/// of its keys.
pub(crate) fn genesis_actor<'a>(
    entity: &EntityId,
    puts: impl Iterator<Item = (&'a str, &'a Value)>,
) -> Actor {
    let mut content = b"storysync/1 genesis\0".to_vec();
    write_length_prefixed(entity.table.as_str().as_bytes(), &mut content);
    write_length_prefixed(entity.uuid.as_str().as_bytes(), &mut content);
    for (key, value) in puts {
        write_length_prefixed(key.as_bytes(), &mut content);
        value.write_canonical(&mut content);
    }
    let digest = Sha256::digest(&content);
    Actor::from_bytes(digest.get(..GENESIS_ACTOR_BYTES).unwrap_or_default())
}
