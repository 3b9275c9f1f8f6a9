//! Telling a device what is new here: the page that answers its pull, the page that is pushed to
//! it, and the request that asks it for what is new there.

use storysync_crdt::Stamp;

use super::pages::{self, PAGE_ENTITIES_MAX, PushPage, Reached};
use super::wire::{PullRequest, PullResponse};
use crate::engine::Engine;
use crate::epoch::hex;
use crate::error::EngineError;
use crate::store::peers;

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
        let (mut known, mut theirs, mut has_met) = (0, None, false);
        let page = self.read(|connection, schema| {
            let peer = peers::find(connection, device_id)?;
            theirs = peer.as_ref().and_then(|peer| peer.pull_cursor.clone());
            known = peer.as_ref().map_or(0, |peer| peer.pushed_seq);
            has_met = peer.as_ref().is_some_and(|peer| peer.met_seq.is_some());
            pages::answer(connection, schema, epoch, request, peer.map(|peer| peer.id), rows_max)
        })?;
        if page.reset && !request.ahead && known > 0 {
            self.write(now, |transaction| {
                let mut peer = peers::find_or_create(transaction.connection, device_id)?;
                peer.pushed_seq = 0;
                Ok(peers::save(transaction.connection, &peer)?)
            })?;
        }
        if !page.reset && !request.ahead && !has_met {
            self.note_met(device_id, now)?;
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
            self.write(now, |transaction| {
                let peer = peers::find_or_create(transaction.connection, device_id)?.id;
                for (row, seq) in served {
                    peers::note_served(transaction.connection, peer, row, seq)?;
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
            // A page ahead repeats nothing, and a client without a log has nothing to check.
            known: theirs.filter(|_| request.compares && !request.ahead),
            auth_token: None,
        };
        Ok((response, further))
    }

    /// A device asks for what is new here: what it had when the two first met, it has told by then.
    fn note_met(&mut self, device_id: &str, now: Stamp) -> Result<(), EngineError> {
        self.write(now, |transaction| {
            let mut peer = peers::find_or_create(transaction.connection, device_id)?;
            let end = transaction.end()?.seq;
            peer.met_seq.get_or_insert(end);
            Ok(peers::save(transaction.connection, &peer)?)
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
                .map_or((None, 0), |peer| (Some(peer.id), peer.pushed_seq));
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
}
