//! Taking in what a device sent, pulled or pushed: in slices, so that the app gets its turns in
//! between, each one transaction with the note of how far it reached.

use storysync_crdt::Stamp;

use super::wire::{PullResponse, RowChange};
use crate::engine::Engine;
use crate::error::{EngineError, TransactionError};
use crate::receive::accepted::{Accepted, Telling};
use crate::receive::{Incoming, Receipt, Sender};
use crate::store::{log, peers};
use crate::transaction::{Source, Transaction};
use crate::trust::identity::DeviceId;

/// Rows received in one write transaction, those counted several times that need a look at others:
/// the app waits some 100 ms for its turn. Smaller ones cost more: each writes most pages of the
/// indexes by name and by hash anew.
const SLICE_ROWS: usize = 2_000;
/// How often a row counts that does not arrive the short way.
const LONG_WAY_ROWS: usize = 4;

/// Whom changes come from, and how.
#[derive(Clone, Copy)]
struct Origin<'a> {
    device_id: &'a str,
    source: Source,
    /// Changes that are still to come, as far as is known.
    remaining: i64,
}

impl<'a> Origin<'a> {
    fn pulled(device_id: &'a str) -> Self {
        Self { device_id, source: Source::Pull, remaining: 0 }
    }

    fn pushed(device_id: &'a str) -> Self {
        Self { device_id, source: Source::Push, remaining: 0 }
    }
}

/// Whether what is done beside a slice succeeded.
type Beside = Result<(), TransactionError>;

impl Engine {
    /// Takes in a peer's answer to a pull, and remembers where it ended. Returns what came of it.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn receive_pulled(
        &mut self,
        page: &PullResponse,
        device_id: &str,
        now: Stamp,
    ) -> Result<Receipt, EngineError> {
        self.receive_pulled_read(page, &Incoming::read_all(page.changes.clone()), device_id, now)
    }

    /// The same, where what came was read already.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn receive_pulled_read(
        &mut self,
        page: &PullResponse,
        incoming: &[Incoming],
        device_id: &str,
        now: Stamp,
    ) -> Result<Receipt, EngineError> {
        let own_epoch = self.epoch();
        let known = self.read(|connection, _| Ok(peers::find(connection, device_id)?))?;
        let epoch_changed = known
            .as_ref()
            .and_then(|peer| peer.peer_epoch.as_ref())
            .is_some_and(|epoch| *epoch != page.epoch);
        let reset = page.reset || epoch_changed;
        let unchanged = known.as_ref().is_some_and(|peer| {
            peer.pull_cursor.as_deref() == Some(&page.cursor)
                && peer.peer_epoch.as_deref() == Some(&page.epoch)
        });
        // A reset that tells nothing asks for a comparison.
        let cursor = (!reset || !incoming.is_empty()).then(|| page.cursor.clone());
        let move_cursor = |transaction: &mut Transaction<'_>| -> Result<(), TransactionError> {
            let mut peer = peers::find_or_create(transaction.connection, device_id)?;
            peer.pull_cursor.clone_from(&cursor);
            peer.peer_epoch = Some(page.epoch.clone());
            if peer.told_epoch.is_none() {
                peer.told_epoch = Some(own_epoch.clone());
            }
            if !page.has_more && !reset && peer.met_seq.is_none() {
                peer.met_seq = Some(transaction.end()?.seq);
            }
            if reset {
                peer.pushed_seq = 0;
                log::forget_origin(transaction.connection, peer.id, 0)?;
            }
            peers::save(transaction.connection, &peer)?;
            Ok(())
        };
        // With the last of its rows, the page was taken in: in one transaction with them.
        let from = Origin { device_id, source: Source::Pull, remaining: page.remaining };
        let mut receipt = self.receive_from(incoming, from, now, |transaction, _, is_last| {
            if is_last && (!unchanged || reset) { move_cursor(transaction) } else { Ok(()) }
        })?;
        if incoming.is_empty() && (!unchanged || reset) {
            self.write(now, move_cursor)?;
        }
        receipt.reset = reset;
        Ok(receipt)
    }

    /// Takes in changes a device sent, in slices, so that the app gets its turns in between.
    ///
    /// # Errors
    /// See [`EngineError`]. Slices before the failing one stay.
    pub fn receive(
        &mut self,
        changes: &[RowChange],
        device_id: &str,
        now: Stamp,
    ) -> Result<Receipt, EngineError> {
        self.receive_pushed(&Incoming::read_all(changes.to_vec()), device_id, now)
    }

    /// Takes in changes that were asked for by name.
    ///
    /// # Errors
    /// See [`EngineError`]. Slices before the failing one stay.
    pub fn receive_fetched(
        &mut self,
        incoming: &[Incoming],
        device_id: &str,
        now: Stamp,
    ) -> Result<Receipt, EngineError> {
        self.receive_from(incoming, Origin::pulled(device_id), now, |_, _, _| Ok(()))
    }

    /// Takes in what a device pushed, read already.
    ///
    /// # Errors
    /// See [`EngineError`]. Slices before the failing one stay.
    pub fn receive_pushed(
        &mut self,
        incoming: &[Incoming],
        device_id: &str,
        now: Stamp,
    ) -> Result<Receipt, EngineError> {
        self.receive_from(incoming, Origin::pushed(device_id), now, |_, _, _| Ok(()))
    }

    /// The same, and tells how the rows stand then and what conflicts in them, as the documentation
    /// has it.
    ///
    /// # Errors
    /// See [`EngineError`]. Slices before the failing one stay.
    pub fn receive_pushed_telling(
        &mut self,
        incoming: &[Incoming],
        device_id: &str,
        now: Stamp,
    ) -> Result<(Receipt, Accepted), EngineError> {
        let mut told = Telling::of(incoming, device_id);
        // In the transaction of each slice, whose documents are at hand.
        let receipt =
            self.receive_from(incoming, Origin::pushed(device_id), now, |transaction, part, _| {
                told.tell(transaction, part)
            })?;
        Ok((receipt, told.finish()))
    }

    /// `beside` is done in the transaction of each slice,
    /// and told what came of it and whether it is the last one.
    fn receive_from(
        &mut self,
        changes: &[Incoming],
        Origin { device_id, source, remaining }: Origin<'_>,
        now: Stamp,
        mut beside: impl FnMut(&mut Transaction<'_>, &Receipt, bool) -> Beside,
    ) -> Result<Receipt, EngineError> {
        let mut receipt = Receipt::default();
        let device = DeviceId::parse(device_id).and_then(|id| id.key());
        let conflicts = self.pushed_conflicts;
        let mut rest = changes;
        while !rest.is_empty() {
            let (slice, after) = next_slice(rest);
            rest = after;
            let (part, _) = self.write(now, |transaction| {
                let mut peer = peers::find_or_create(transaction.connection, device_id)?;
                if peer.met_from.is_none() {
                    peer.met_from = Some(now.unix_ms());
                    peers::save(transaction.connection, &peer)?;
                }
                let knew_everything = peer.pushed_seq == transaction.end()?.seq;
                transaction.origins.clear();
                let sender = Sender {
                    peer: peer.id,
                    device_id: device_id.to_owned(),
                    device,
                    source,
                    remaining,
                    conflicts,
                };
                let part = transaction.receive(slice, &sender, after)?;
                if knew_everything
                    && transaction.origins.len() == 1
                    && transaction.origins.contains(&Some(peer.id))
                {
                    // It knew all of our log, and what was added now came from it.
                    peer.pushed_seq = transaction.end()?.seq;
                    peers::save(transaction.connection, &peer)?;
                }
                beside(transaction, &part, rest.is_empty())?;
                Ok(part)
            })?;
            receipt.add(part);
        }
        Ok(receipt)
    }
}

/// As many rows as one transaction takes in, and those left.
fn next_slice(rows: &[Incoming]) -> (&[Incoming], &[Incoming]) {
    let mut taken = 0;
    let weight = |row: &Incoming| if row.may_arrive() { 1 } else { LONG_WAY_ROWS };
    let fits = |row: &&Incoming| {
        taken += weight(row);
        taken <= SLICE_ROWS
    };
    let count = rows.iter().take_while(fits).count().max(1);
    rows.split_at_checked(count).unwrap_or((rows, &[]))
}
