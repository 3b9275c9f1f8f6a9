//! The Engine as a partner in exchanges: answers pulls, takes in what was pulled or pushed, tells
//! what a device lacks. How far each device and we have told each other everything is noted with
//! it.

pub(crate) mod digest;
pub(crate) mod first_contact;
pub(crate) mod pages;
pub(crate) mod reconcile;
pub mod wire;

use storysync_crdt::Stamp;

use crate::decide::deletion_guard;
use crate::engine::{Engine, hex, read_state};
use crate::error::{EngineError, SessionError};
use crate::exchange::pages::{Cursor, PAGE_ENTITIES_MAX, PushPage, Reached};
use crate::exchange::wire::{PullRequest, PullResponse, RowChange};
use crate::receive::accepted::{Accepted, Telling};
use crate::receive::{Incoming, Receipt, Sender};
use crate::store::{log, peers};
use crate::transaction::{Session, Source};
use crate::trust::identity::DeviceId;

/// Rows received in one write transaction, those counted several times that need a look at others:
/// the app waits some 100 ms for its turn. Smaller ones cost more: each writes most pages of the
/// indexes by name and by hash anew.
const SLICE_ROWS: usize = 2_000;
/// How often a row counts that does not arrive the short way.
const LONG_WAY_ROWS: usize = 4;
/// Longest cursor of another device that is kept, in bytes.
const CURSOR_TEXT_BYTES_MAX: usize = 512;
impl Engine {
    /// Answers a pull of `device_id`, and notes what the device turned out to know.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn answer_pull(
        &mut self,
        request: &PullRequest,
        device_id: &str,
        now: Stamp,
    ) -> Result<PullResponse, EngineError> {
        let (page, known) = self.page_for(request, device_id, now)?;
        if let Some(known) = known {
            self.note_reached(device_id, known, now)?;
        }
        Ok(page)
    }

    /// Answers a pull of `device_id`. Returns, too, up to where the device turned out to know our
    /// log, if that is further than was known: noting it ([`Self::note_reached`]) spares telling it
    /// again, and the device need not wait for that.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn page_for(
        &mut self,
        request: &PullRequest,
        device_id: &str,
        now: Stamp,
    ) -> Result<(PullResponse, Option<Reached>), EngineError> {
        self.capture(now)?;
        self.note_epoch(device_id, request.epoch.as_deref(), now)?;
        let (epoch, rows_max) = (self.epoch, self.page_rows);
        let mut known = 0;
        let page = self.read(|connection, schema| {
            let peer = peers::find(connection, device_id)?;
            known = peer.as_ref().map_or(0, |peer| peer.pushed_seq);
            pages::answer(connection, schema, epoch, request, peer.map(|peer| peer.id), rows_max)
        })?;
        if page.reset && !request.ahead && known > 0 {
            self.write(now, |session| {
                let mut peer = peers::find_or_create(session.connection, device_id)?;
                peer.pushed_seq = 0;
                Ok(peers::save(session.connection, &peer)?)
            })?;
        }
        let reached = Reached { epoch, seq: page.acknowledged };
        let further = (!page.reset && !request.ahead && reached.seq > known).then_some(reached);
        // Whoever has a cursor of ours knows our rows by name, told now or compared before.
        if !page.changes.is_empty() || request.cursor.is_some() {
            self.note_sent(now)?;
        }
        if request.data && !page.served.is_empty() {
            // Before a byte leaves: an edit of these rows by a client without automerge is made on
            // top of this.
            let served = page.served;
            self.write(now, |session| {
                let peer = peers::find_or_create(session.connection, device_id)?.id;
                for (row, seq) in served {
                    peers::note_served(session.connection, peer, row, seq)?;
                }
                Ok(())
            })?;
        }
        let response = PullResponse {
            changes: page.changes,
            sync_timestamp: now.to_rfc3339(),
            cursor: page.cursor.to_text(),
            has_more: page.has_more,
            remaining: page.remaining,
            epoch: hex(&epoch),
            reset: page.reset,
            auth_token: None,
        };
        Ok((response, further))
    }

    /// A device names another epoch than before: its file was restored or replaced, and what it
    /// once sent us must be told to it again.
    pub(crate) fn note_epoch(
        &mut self,
        device_id: &str,
        epoch: Option<&str>,
        now: Stamp,
    ) -> Result<(), EngineError> {
        let Some(epoch) = epoch else { return Ok(()) };
        let known = self.read(|connection, _| {
            Ok(peers::find(connection, device_id)?.and_then(|peer| peer.peer_epoch))
        })?;
        if known.as_deref() == Some(epoch) {
            return Ok(());
        }
        self.write(now, |session| {
            let mut peer = peers::find_or_create(session.connection, device_id)?;
            if peer.peer_epoch.is_some() {
                log::forget_origin(session.connection, peer.id, 0)?;
                peer.pushed_seq = 0;
            }
            peer.peer_epoch = Some(epoch.to_owned());
            peers::save(session.connection, &peer)?;
            Ok(())
        })?;
        Ok(())
    }

    /// A device's keys are in use from another installation than before: a copy of it, perhaps,
    /// that does not have what the device itself once sent us. What lies after its cursor
    /// (everything, when it named none) is told, whoever it came from.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn note_other_installation(
        &mut self,
        device_id: &str,
        cursor: Option<&str>,
        now: Stamp,
    ) -> Result<(), EngineError> {
        self.write(now, |session| {
            let mut peer = peers::find_or_create(session.connection, device_id)?;
            let cursor = cursor.and_then(Cursor::parse).map(|cursor| cursor.position);
            let known = match cursor {
                Some(position) if log::passes_through(session.connection, position)? => {
                    position.seq
                }
                // What came from the device itself counts as known to it, which says nothing of a
                // copy.
                _ => 0,
            };
            peer.pushed_seq = peer.pushed_seq.min(known);
            peers::save(session.connection, &peer)?;
            Ok(log::forget_origin(session.connection, peer.id, known)?)
        })?;
        Ok(())
    }

    /// The request that asks a peer for what is new, from where the last one ended.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn pull_request(&mut self, device_id: &str) -> Result<PullRequest, EngineError> {
        let epoch = hex(&self.epoch);
        let limit = (self.page_rows < PAGE_ENTITIES_MAX).then_some(self.page_rows);
        self.read(|connection, _| {
            let cursor = peers::find(connection, device_id)?.and_then(|peer| peer.pull_cursor);
            Ok(PullRequest {
                cursor,
                limit,
                data: false,
                compress: Some("gzip".to_owned()),
                epoch: Some(epoch),
                ..PullRequest::default()
            })
        })
    }

    /// Takes in a peer's answer to a pull, and remembers where it ended. Returns how many rows were
    /// new.
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
        let move_cursor = |session: &mut Session<'_>| -> Result<(), SessionError> {
            let mut peer = peers::find_or_create(session.connection, device_id)?;
            peer.pull_cursor.clone_from(&cursor);
            peer.peer_epoch = Some(page.epoch.clone());
            if peer.told_epoch.is_none() {
                peer.told_epoch = Some(own_epoch.clone());
            }
            if reset {
                peer.pushed_seq = 0;
                log::forget_origin(session.connection, peer.id, 0)?;
            }
            peers::save(session.connection, &peer)?;
            Ok(())
        };
        // With the last of its rows, the page was taken in: in one transaction with them.
        let mut receipt = self.receive_from(
            incoming,
            device_id,
            Source::Pull,
            page.remaining,
            now,
            |session, _, is_last| {
                if is_last && (!unchanged || reset) { move_cursor(session) } else { Ok(()) }
            },
        )?;
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
        self.receive_from(incoming, device_id, Source::Pull, 0, now, |_, _, _| Ok(()))
    }

    /// What a device pushed is a part of its log: whoever had pulled up to its start has now pulled
    /// up to its end.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn note_span(
        &mut self,
        span: Option<&(String, String)>,
        device_id: &str,
        now: Stamp,
    ) -> Result<(), EngineError> {
        let Some((start, end)) = span.filter(|(_, end)| end.len() <= CURSOR_TEXT_BYTES_MAX) else {
            return Ok(());
        };
        let pulled = self.read(|connection, _| {
            Ok(peers::find(connection, device_id)?.and_then(|peer| peer.pull_cursor))
        })?;
        if pulled.as_deref() != Some(start) || start == end {
            return Ok(());
        }
        self.write(now, |session| {
            let mut peer = peers::find_or_create(session.connection, device_id)?;
            peer.pull_cursor = Some(end.clone());
            peers::save(session.connection, &peer)?;
            Ok(())
        })?;
        Ok(())
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
        self.receive_from(incoming, device_id, Source::Push, 0, now, |_, _, _| Ok(()))
    }

    /// The same, and tells how the rows stand then and what clashes in them, as the documentation
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
            self.receive_from(incoming, device_id, Source::Push, 0, now, |session, part, _| {
                told.tell(session, part)
            })?;
        Ok((receipt, told.finish()))
    }

    /// `remaining` changes are still to come; `beside` is done in the transaction of each slice,
    /// and told what came of it and whether it is the last one.
    fn receive_from(
        &mut self,
        changes: &[Incoming],
        device_id: &str,
        source: Source,
        remaining: i64,
        now: Stamp,
        mut beside: impl FnMut(&mut Session<'_>, &Receipt, bool) -> Result<(), SessionError>,
    ) -> Result<Receipt, EngineError> {
        let mut receipt = Receipt::default();
        let announced = deletion_guard::announced(changes);
        let device = DeviceId::parse(device_id).and_then(|id| id.key());
        let clashes = self.pushed_clashes;
        let mut rest = changes;
        while !rest.is_empty() {
            let (slice, after) = next_slice(rest);
            rest = after;
            let (part, _) = self.write(now, |session| {
                let mut peer = peers::find_or_create(session.connection, device_id)?;
                let knew_everything = peer.pushed_seq == session.end()?.seq;
                session.origins.clear();
                let sender = Sender {
                    peer: peer.id,
                    device_id: device_id.to_owned(),
                    device,
                    source,
                    remaining,
                    clashes,
                };
                let part = session.receive(slice, &sender, &announced)?;
                if knew_everything
                    && session.origins.len() == 1
                    && session.origins.contains(&Some(peer.id))
                {
                    // It knew all of our log, and what was added now came from it.
                    peer.pushed_seq = session.end()?.seq;
                    peers::save(session.connection, &peer)?;
                }
                beside(session, &part, rest.is_empty())?;
                Ok(part)
            })?;
            receipt.add(part);
        }
        Ok(receipt)
    }

    /// The next page of what a peer does not know yet; `None` when it knows everything.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn push_page(
        &mut self,
        device_id: &str,
        now: Stamp,
    ) -> Result<Option<PushPage>, EngineError> {
        self.capture(now)?;
        let (epoch, rows_max) = (self.epoch, self.page_rows);
        let page = self.read(|connection, schema| {
            let (id, seq) = peers::find(connection, device_id)?
                .map_or((-1, 0), |peer| (peer.id, peer.pushed_seq));
            pages::push_page(connection, schema, epoch, seq, id, rows_max)
        })?;
        if page.changes.is_empty() && !page.has_more {
            // All of it came from the device itself: it need not be looked at again.
            self.note_reached(device_id, page.end, now)?;
            return Ok(None);
        }
        self.note_sent(now)?;
        Ok(Some(page))
    }

    /// A peer has taken in our log up to here: that need not be told to it again. Says nothing when
    /// the log has begun anew since.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn note_reached(
        &mut self,
        device_id: &str,
        reached: Reached,
        now: Stamp,
    ) -> Result<(), EngineError> {
        let known = self.read(|connection, _| {
            Ok(peers::find(connection, device_id)?.map_or(0, |peer| peer.pushed_seq))
        })?;
        if reached.seq <= known {
            return Ok(());
        }
        self.write(now, |session| {
            if read_state(session.connection)?.is_some_and(|state| state.epoch == reached.epoch) {
                let mut peer = peers::find_or_create(session.connection, device_id)?;
                peer.pushed_seq = peer.pushed_seq.max(reached.seq);
                peers::save(session.connection, &peer)?;
            }
            Ok(())
        })?;
        Ok(())
    }

    /// How many changes a device has not been told of.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn pending_for(&mut self, device_id: &str) -> Result<i64, EngineError> {
        self.read(|connection, _| {
            let (id, seq) = peers::find(connection, device_id)?
                .map_or((-1, 0), |peer| (peer.id, peer.pushed_seq));
            Ok(log::count_after(connection, seq, id)?)
        })
    }

    /// Others are about to know the names of our rows: from now on these are theirs, too.
    pub(crate) fn note_sent(&mut self, now: Stamp) -> Result<(), EngineError> {
        if self.has_sent {
            return Ok(());
        }
        if self.is_provisional()? {
            self.write(now, |session| {
                session.connection.execute(
                    "UPDATE sync_state SET sent_at = ?1 WHERE sent_at IS NULL",
                    [now.unix_ms()],
                )?;
                Ok(())
            })?;
        }
        self.has_sent = true;
        Ok(())
    }

    /// Whether nobody was ever told anything of this file, so that its rows may still get other
    /// names.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn is_provisional(&mut self) -> Result<bool, EngineError> {
        self.read(|connection, _| {
            Ok(connection
                .prepare_cached("SELECT sent_at IS NULL FROM sync_state")?
                .query_row([], |row| row.get(0))?)
        })
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
