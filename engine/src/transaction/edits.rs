//! Writing changes of our own into documents and the log.

use super::Transaction;
use crate::error::TransactionError;
use crate::store::log::{self};
use crate::store::rows::RowId;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use storysync_crdt::{
    ACTOR_RUN_BYTES, Actor, ApplyError, Base, Change, DeviceKey, EditPurpose, EditedState, Heads,
    Stamp, Value, key,
};

/// Bytes of names and values in one change of ours: with its dependencies and predecessors it stays
/// under [`storysync_crdt::CHANGE_BYTES_MAX`].
pub(crate) const EDIT_BYTES_MAX: usize = 5 * 512 * 1024;

/// Puts in one change of ours.
pub(crate) const PUTS_PER_EDIT_MAX: usize = 2_000;

/// What a put takes beside its name and value, at most and roughly, in bytes.
pub(crate) const PUT_OVERHEAD_BYTES: usize = 16;

/// How a change is written: what for, on top of what, by whom and when.
#[derive(Clone, Copy)]
pub(super) struct Writing<'a> {
    pub(super) purpose: EditPurpose,
    /// `None` for everything known.
    pub(super) base: Option<&'a Base>,
    pub(super) actor: &'a Actor,
    pub(super) at: Stamp,
}

impl<'a> Transaction<'a> {
    /// A change of a row, on top of `base` or of everything known, that nobody was told of yet.
    pub(super) fn draft(
        &mut self,
        row: RowId,
        puts: BTreeMap<String, Value>,
        Writing { purpose, base, actor, at }: Writing<'_>,
    ) -> Result<Option<Change>, TransactionError> {
        let document = self.document(row)?;
        let Some(base) = base.filter(|base| base.heads != *document.heads()) else {
            let state = match base {
                Some(base) => EditedState::without(document, &base.unseen),
                None => EditedState::all(document),
            };
            return Ok(document.edit_of(state, puts, purpose, actor, at.unix_ms()));
        };
        if self.earlier(row, &base.heads)?.is_none() {
            return Ok(None);
        }
        let (Some(document), Some((_, _, state))) = (self.documents.get(&row), &self.earlier)
        else {
            return Ok(None);
        };
        let state = EditedState::without(state, &base.unseen);
        Ok(document.edit_of(state, puts, purpose, actor, at.unix_ms()))
    }

    /// The same, and no change of another row: two rows of one name in two tables, written alike in
    /// one instant, would begin with one and the same change. A second later is another instant.
    pub(super) fn draft_new(
        &mut self,
        row: RowId,
        puts: &BTreeMap<String, Value>,
        mut writing: Writing<'_>,
    ) -> Result<Option<Change>, TransactionError> {
        loop {
            let change = self.draft(row, puts.clone(), writing)?;
            match &change {
                Some(first)
                    if first.is_genesis() && log::contains(self.connection, &first.hash())? =>
                {
                    let later = writing.at.unix_ms().saturating_add(1_000);
                    writing.at = Stamp::from_unix_ms(later);
                }
                _ => return Ok(change),
            }
        }
    }

    /// Writes a change of our own: `puts` on top of `base`, or of everything known.
    pub(crate) fn edit(
        &mut self,
        row: RowId,
        puts: BTreeMap<String, Value>,
        purpose: EditPurpose,
        base: Option<&Base>,
        at: Stamp,
    ) -> Result<(), TransactionError> {
        let actor = match &self.on_behalf_of {
            Some(device) => acting_for(device, self.actor),
            None => self.actor.clone(),
        };
        let mut base = base.cloned();
        for puts in portions(puts) {
            let writing = Writing { purpose, base: base.as_ref(), actor: &actor, at };
            let Some(change) = self.draft_new(row, &puts, writing)? else { continue };
            // Whoever writes a row here has decided about it: a hold that holds it has no say any
            // more.
            if purpose.is_edit() {
                self.lift_hold(row, &puts)?;
            }
            // What follows builds on this, and on nothing the base did not know.
            let then = base.as_ref().map(|base| Base {
                heads: Heads::from([change.hash()]),
                unseen: base.unseen.clone(),
            });
            match self.admit_new(row, change, None)? {
                Ok(_) => base = then,
                Err(ApplyError::Crowded) => {
                    self.edit_on_everything(row, puts, purpose, &actor, at)?
                }
                // A change made from the document itself always fits it.
                Err(error) => return Err(log::LogError::Gap(error).into()),
            }
        }
        Ok(())
    }

    /// Too much stands side by side for one more branch: the edit is made on top of all of it.
    pub(super) fn edit_on_everything(
        &mut self,
        row: RowId,
        puts: BTreeMap<String, Value>,
        purpose: EditPurpose,
        actor: &Actor,
        at: Stamp,
    ) -> Result<(), TransactionError> {
        let Some(change) = self.document(row)?.edit(puts, purpose, None, actor, at.unix_ms())
        else {
            return Ok(());
        };
        if let Err(error) = self.admit_new(row, change, None)? {
            tracing::error!(%error, "a row takes no more edits here; somebody has filled it");
        }
        Ok(())
    }
}

/// Whether puts fit into one change.
pub(crate) fn is_one_edit(puts: &BTreeMap<String, Value>) -> bool {
    puts.len() <= PUTS_PER_EDIT_MAX
        && puts.iter().map(|(name, value)| put_bytes(name, value)).sum::<usize>() <= EDIT_BYTES_MAX
}

pub(super) fn put_bytes(name: &str, value: &Value) -> usize {
    name.len() + value.size_bytes() + PUT_OVERHEAD_BYTES
}

/// Puts of one edit, in portions that each fit into a change. What describes the edit goes with the
/// first.
pub(super) fn portions(puts: BTreeMap<String, Value>) -> Vec<BTreeMap<String, Value>> {
    let mut portions: Vec<BTreeMap<String, Value>> = vec![BTreeMap::new()];
    let mut size_bytes = 0;
    let (bookkeeping, columns): (Vec<_>, Vec<_>) =
        puts.into_iter().partition(|(name, _)| key::is_bookkeeping(name));
    for (name, value) in bookkeeping.into_iter().chain(columns) {
        let size = put_bytes(&name, &value);
        let is_full = portions.last().is_some_and(|portion| {
            portion.len() >= PUTS_PER_EDIT_MAX
                || (!portion.is_empty() && size_bytes + size > EDIT_BYTES_MAX)
        });
        if is_full {
            portions.push(BTreeMap::new());
            size_bytes = 0;
        }
        size_bytes += size;
        if let Some(portion) = portions.last_mut() {
            portion.insert(name, value);
        }
    }
    portions
}

/// The actor under which this run writes for a device that has no automerge itself: that device's
/// key, and bytes that follow from our own run, so that no other run ever uses them.
pub(crate) fn acting_for(device: &DeviceKey, own: &Actor) -> Actor {
    let digest = Sha256::new()
        .chain_update(b"storysync/1 on behalf\0")
        .chain_update(own.as_bytes())
        .chain_update(device)
        .finalize();
    let mut run = [0; ACTOR_RUN_BYTES];
    run.iter_mut().zip(digest.iter()).for_each(|(to, from)| *to = *from);
    Actor::of_device(device, run)
}
