//! Writing a change on top of what its author had read.

use super::{Document, Heads, Register};
use crate::draft::{COUNTER_MAX, Draft};
use crate::{Actor, Change, ChangeHash, Op, OpId, Value, key};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::num::NonZeroU64;

/// The state of a document an edit is made on top of; [`crate::Base`] says the same by hashes.
#[derive(Debug, Clone, Copy)]
pub struct EditedState<'a> {
    document: &'a Document,
    unseen: Option<&'a HashSet<ChangeHash>>,
}

impl<'a> EditedState<'a> {
    /// The edited document itself, or an earlier state of it (see [`Document::at`]), all of which
    /// was read.
    #[must_use]
    pub fn all(document: &'a Document) -> Self {
        Self { document, unseen: None }
    }

    /// The same, where what the changes in `unseen` wrote was not read: the edit does not replace
    /// it. See [`crate::Base::unseen`].
    #[must_use]
    pub fn without(document: &'a Document, unseen: &'a HashSet<ChangeHash>) -> Self {
        Self { document, unseen: Some(unseen) }
    }
}

/// What an edit is made for. Written into the change, so that every device judges it alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EditPurpose {
    /// Somebody wrote something.
    Edit,
    /// The app gained columns and filled them: no edit in the sense of a delete/edit conflict.
    NewColumns,
    /// The app wrote the row once more and changed nothing in it: it counts in `version`.
    Rewrite,
    /// Somebody decided a conflict or took changes back, beside the app: an edit whose result no
    /// form of the app had read.
    Decision,
}

impl EditPurpose {
    const NEW_COLUMNS: &'static str = "columns";
    const REWRITE: &'static str = "rewrite";
    const DECISION: &'static str = "decision";

    fn message(self) -> Option<String> {
        match self {
            Self::Edit => None,
            Self::NewColumns => Some(Self::NEW_COLUMNS.to_owned()),
            Self::Rewrite => Some(Self::REWRITE.to_owned()),
            Self::Decision => Some(Self::DECISION.to_owned()),
        }
    }

    /// Whether a person wrote something.
    #[must_use]
    pub fn is_edit(self) -> bool {
        matches!(self, Self::Edit | Self::Decision)
    }

    /// What a change was made for.
    #[must_use]
    pub fn of(change: &Change) -> Self {
        match change.message() {
            Some(Self::NEW_COLUMNS) => Self::NewColumns,
            Some(Self::REWRITE) => Self::Rewrite,
            Some(Self::DECISION) => Self::Decision,
            _ => Self::Edit,
        }
    }
}

impl Document {
    /// Writes a change that puts `puts` on top of `base` (or of everything here), without applying
    /// it.
    ///
    /// `actor` must not be used for this document by any other process, ever. Where `base` does not
    /// include the actor's own last change, a branch of the actor is used: an actor's changes must
    /// form a chain. `None` when there is nothing to put, `base` is not known here, or its counters
    /// are used up.
    #[must_use]
    pub fn edit(
        &self,
        puts: BTreeMap<String, Value>,
        purpose: EditPurpose,
        base: Option<&Heads>,
        actor: &Actor,
        unix_ms: i64,
    ) -> Option<Change> {
        match base {
            Some(base) if *base != self.heads => {
                self.edit_of(EditedState::all(&self.at(base)?), puts, purpose, actor, unix_ms)
            }
            _ => self.edit_of(EditedState::all(self), puts, purpose, actor, unix_ms),
        }
    }

    /// The same on top of a state of this document whose values were read in part.
    #[must_use]
    pub fn edit_of(
        &self,
        on: EditedState<'_>,
        puts: BTreeMap<String, Value>,
        purpose: EditPurpose,
        actor: &Actor,
        unix_ms: i64,
    ) -> Option<Change> {
        let EditedState { document: state, unseen } = on;
        if puts.is_empty() {
            return None;
        }
        let highest =
            state.changes.iter().map(|change| change.end_op().saturating_sub(1)).max().unwrap_or(0);
        if highest.saturating_add(puts.len() as u64) >= COUNTER_MAX {
            // Nothing can be written any more: better this row stands still than a log nobody can
            // read.
            return None;
        }
        let none = &HashSet::new();
        let unseen = unseen.unwrap_or(none);
        let ops: Vec<Op> = puts
            .into_iter()
            .map(|(key, value)| {
                // What describes the row itself is no text of anybody's: it is replaced, seen or
                // not.
                let unseen = if key::is_bookkeeping(&key) { none } else { unseen };
                let predecessors = state.seen_puts(&key, unseen);
                Op { key: key.into(), value, predecessors }
            })
            .collect();
        let own_here = self.by_actor.get(actor).map_or(0, Vec::len);
        let own_there = state.by_actor.get(actor).map_or(0, Vec::len);
        // An actor has seen what it wrote itself: where its own put shall stand beside the new one,
        // it is a branch that writes.
        let leaves_own = ops.iter().any(|op| {
            let visible = self.registers.get(&op.key).map_or(&[][..], Register::visible);
            visible
                .iter()
                .any(|put| put.op_id.actor == *actor && !op.predecessors.contains(&put.op_id))
        });
        let actor = if own_here == own_there && !leaves_own {
            actor.clone()
        } else {
            self.branch(actor, own_here)
        };
        let seq = state.by_actor.get(&actor).map_or(0, Vec::len) as u64 + 1;
        Some(
            Draft {
                actor,
                seq,
                start_op: NonZeroU64::MIN.saturating_add(highest),
                unix_seconds: unix_ms.div_euclid(1000),
                message: purpose.message(),
                deps: state.heads.iter().copied().collect(),
                ops,
            }
            .encode(),
        )
    }

    /// The puts of a key that stand for whoever has not seen some changes: in place of theirs,
    /// those they replaced.
    pub(super) fn seen_puts(&self, key: &str, unseen: &HashSet<ChangeHash>) -> Vec<OpId> {
        let visible = self.registers.get(key).map_or(&[][..], |register| register.visible());
        let mut waiting: Vec<OpId> = visible.iter().map(|put| put.op_id.clone()).collect();
        if unseen.is_empty() {
            return waiting;
        }
        let mut found = BTreeSet::new();
        while let Some(id) = waiting.pop() {
            match self.put(&id) {
                Some((change, put)) if unseen.contains(&change.hash()) => {
                    waiting.extend(put.predecessors.iter().cloned())
                }
                _ => drop(found.insert(id)),
            }
        }
        found.into_iter().collect()
    }

    /// An actor of the same device that has no change here: the run bytes are hashed with how far
    /// the actor has come, so the same run never derives the same branch for other content.
    pub(super) fn branch(&self, actor: &Actor, own_changes: usize) -> Actor {
        use sha2::{Digest, Sha256};
        let Some(device) = actor.device() else { return actor.clone() };
        let mut step = own_changes as u64;
        loop {
            let digest = Sha256::new()
                .chain_update(b"storysync/1 branch\0")
                .chain_update(actor.as_bytes())
                .chain_update(step.to_be_bytes())
                .finalize();
            let mut run = [0; crate::ACTOR_RUN_BYTES];
            run.iter_mut().zip(digest.iter()).for_each(|(to, from)| *to = *from);
            let candidate = Actor::of_device(&device, run);
            if !self.by_actor.contains_key(&candidate) {
                return candidate;
            }
            step = step.wrapping_add(1);
        }
    }
}
