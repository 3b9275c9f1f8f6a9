//! What does the other log hold that ours lacks, and ours that it lacks? Asked when cursors can't
//! tell: at the first meeting of two files, and after one was restored, copied or replaced.
//! Range-based set reconciliation (the `negentropy` crate, protocol 1) over (time, hash) of every
//! change: costs bytes in the size of the difference, and next to nothing when both are equal.
//!
//! Owns the comparison and what follows from it. Refuses to carry messages: that is `net`'s.

use std::collections::HashSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use negentropy::{Negentropy, NegentropyStorageBase as _};
use storysync_crdt::{ChangeHash, Stamp};

use crate::engine::Engine;
use crate::engine::change_names::Names;
use crate::error::EngineError;
use crate::exchange::pages::{self, Cursor, PushPage};
use crate::exchange::wire::{FetchRequest, FetchResponse, ReconcileRequest, ReconcileResponse};
use crate::store::log::{self, Position};
use crate::store::peers;

/// Longest message of a comparison, in bytes; longer ones are cut into several.
const FRAME_BYTES_MAX: u64 = 512 * 1024;
/// Most changes asked for by name; where more are lacking, the whole log is told.
pub const NAMED_MAX: usize = 20_000;

/// A comparison in progress, on the side that asks.
#[derive(Debug)]
pub struct Reconciling {
    names: Arc<Names>,
    begun: bool,
    need: HashSet<ChangeHash>,
    have: HashSet<ChangeHash>,
}

/// The other side's messages make no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the other device's part of the comparison can't be understood")]
pub struct ReconcileError;

impl Reconciling {
    /// The next message to send, given what the other side answered to the last one; `None` when
    /// all is known.
    ///
    /// # Errors
    /// When the answer is no message of the protocol.
    pub fn next_message(&mut self, answer: Option<&str>) -> Result<Option<String>, ReconcileError> {
        let mut negentropy = Negentropy::borrowed(&self.names.storage, FRAME_BYTES_MAX)
            .map_err(|_| ReconcileError)?;
        let message = match answer {
            None if !self.begun => {
                self.begun = true;
                Some(negentropy.initiate().map_err(|_| ReconcileError)?)
            }
            None => return Err(ReconcileError),
            Some(answer) => {
                negentropy.set_initiator();
                let answer = STANDARD.decode(answer).map_err(|_| ReconcileError)?;
                let (mut have, mut need) = (Vec::new(), Vec::new());
                let message = negentropy
                    .reconcile_with_ids(&answer, &mut have, &mut need)
                    .map_err(|_| ReconcileError)?;
                self.have.extend(have.into_iter().map(|id| ChangeHash(*id)));
                self.need.extend(need.into_iter().map(|id| ChangeHash(*id)));
                message
            }
        };
        Ok(message.map(|message| STANDARD.encode(message)))
    }

    /// The changes the other side has and we lack.
    #[must_use]
    pub fn need(&self) -> Vec<ChangeHash> {
        let mut need: Vec<ChangeHash> = self.need.iter().copied().collect();
        need.sort_unstable();
        need
    }

    /// The changes we have and the other side lacks.
    #[must_use]
    pub fn have(&self) -> Vec<ChangeHash> {
        let mut have: Vec<ChangeHash> = self.have.iter().copied().collect();
        have.sort_unstable();
        have
    }

    /// How many changes our log held.
    #[must_use]
    pub fn size(&self) -> usize {
        self.names.storage.size().unwrap_or(0)
    }
}

impl Engine {
    /// Whether cursors can't tell what a device and we lack of each other: nothing was ever told,
    /// or our log has begun another epoch. An empty log is told everything, which needs no
    /// comparison.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn needs_reconciling(&mut self, device_id: &str) -> Result<bool, EngineError> {
        let epoch = self.epoch();
        self.read(|connection, _| {
            if log::end(connection)? == Position::START {
                return Ok(false);
            }
            let peer = peers::find(connection, device_id)?;
            Ok(peer.is_none_or(|peer| {
                peer.pull_cursor.is_none() || peer.told_epoch.as_deref() != Some(&epoch)
            }))
        })
    }

    /// Whether anything was ever exchanged with a device.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn has_met(&mut self, device_id: &str) -> Result<bool, EngineError> {
        self.read(|connection, _| {
            Ok(peers::find(connection, device_id)?
                .is_some_and(|peer| peer.pull_cursor.is_some() || peer.pushed_seq > 0))
        })
    }

    fn names(&mut self) -> Result<Arc<Names>, EngineError> {
        let end = self.read(|connection, _| Ok(log::end(connection)?))?;
        if let Some(names) = self.names.as_ref().filter(|names| names.end == end) {
            return Ok(Arc::clone(names));
        }
        let names = Arc::new(self.read(|connection, _| Names::read(connection))?);
        self.names = Some(Arc::clone(&names));
        Ok(names)
    }

    /// Starts comparing our log with another.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn begin_reconciling(&mut self, now: Stamp) -> Result<Reconciling, EngineError> {
        self.capture(now)?;
        Ok(Reconciling {
            names: self.names()?,
            begun: false,
            need: HashSet::new(),
            have: HashSet::new(),
        })
    }

    /// Answers one message of a comparison `device_id` makes.
    ///
    /// # Errors
    /// [`EngineError::NotUnderstood`] when it is no message of the protocol; else see
    /// [`EngineError`].
    pub fn answer_reconcile(
        &mut self,
        request: &ReconcileRequest,
        device_id: &str,
        now: Stamp,
    ) -> Result<ReconcileResponse, EngineError> {
        self.capture(now)?;
        self.note_epoch(device_id, request.epoch.as_deref(), now)?;
        let names = self.names()?;
        let understand = || -> Option<Vec<u8>> {
            let message = STANDARD.decode(&request.message).ok()?;
            Negentropy::borrowed(&names.storage, FRAME_BYTES_MAX).ok()?.reconcile(&message).ok()
        };
        let message =
            understand().ok_or(EngineError::NotUnderstood("the message of a comparison"))?;
        let (cursor, epoch) =
            (Cursor::everything(self.epoch_bytes(), names.end).to_text(), self.epoch());
        Ok(ReconcileResponse {
            message: STANDARD.encode(message),
            cursor,
            epoch,
            provisional: self.is_provisional()?,
        })
    }

    /// Tells changes by name, or all of them, page by page.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn answer_fetch(
        &mut self,
        request: &FetchRequest,
        now: Stamp,
    ) -> Result<FetchResponse, EngineError> {
        let names = match &request.changes {
            None => None,
            Some(names) if names.len() > NAMED_MAX => {
                return Err(EngineError::NotUnderstood("more than 20,000 names of changes"));
            }
            Some(names) => {
                let parsed: Option<Vec<ChangeHash>> = names
                    .iter()
                    .map(|name| crate::trust::from_base64url(name).map(ChangeHash))
                    .collect();
                Some(parsed.ok_or(EngineError::NotUnderstood("a name of a change"))?)
            }
        };
        if let (true, Some(names)) = (request.order, &names) {
            return Ok(FetchResponse {
                order: self.read(|connection, _| Ok(log::order_of(connection, names)?))?,
                ..FetchResponse::default()
            });
        }
        let (epoch, rows_max) = (self.epoch_bytes(), self.page_rows);
        let page = self.read(|connection, schema| {
            pages::fetched(connection, schema, epoch, names.as_deref(), request.after, rows_max)
        })?;
        if !request.looking {
            self.note_sent(now)?;
        }
        Ok(FetchResponse {
            changes: page.changes,
            after: page.end.seq,
            has_more: page.has_more,
            order: Vec::new(),
        })
    }

    /// The next page of named changes on their way to a device that lacks them.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn named_page(
        &mut self,
        names: &[ChangeHash],
        after: i64,
        now: Stamp,
    ) -> Result<PushPage, EngineError> {
        let (epoch, rows_max) = (self.epoch_bytes(), self.page_rows);
        let page = self.read(|connection, schema| {
            pages::fetched(connection, schema, epoch, Some(names), after, rows_max)
        })?;
        self.note_sent(now)?;
        Ok(page)
    }

    /// Both logs have what the other lacked when they were compared: from here on cursors tell.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn end_reconciling(
        &mut self,
        compared: &Reconciling,
        answer: &ReconcileResponse,
        device_id: &str,
        now: Stamp,
    ) -> Result<(), EngineError> {
        let (own_epoch, end) = (self.epoch(), compared.names.end);
        self.note_sent(now)?;
        self.write(now, |transaction| {
            let mut peer = peers::find_or_create(transaction.connection, device_id)?;
            peer.pull_cursor = Some(answer.cursor.clone());
            peer.peer_epoch = Some(answer.epoch.clone());
            // Should the log have begun another epoch meanwhile, this one's end says nothing of it.
            peer.told_epoch =
                log::passes_through(transaction.connection, end)?.then_some(own_epoch);
            peer.pushed_seq = if peer.told_epoch.is_some() { end.seq } else { 0 };
            if peer.met_seq.is_none() {
                peer.met_seq = Some(transaction.end()?.seq);
            }
            peers::save(transaction.connection, &peer)?;
            Ok(())
        })?;
        Ok(())
    }

    /// Whether a device lacks something after `seq` of our log that it did not send itself, and
    /// where the log ends.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn news_for(
        &mut self,
        device_id: &str,
        seq: Option<i64>,
    ) -> Result<(bool, i64), EngineError> {
        self.read(|connection, _| {
            let peer = peers::find(connection, device_id)?;
            let (id, pushed) = peer.map_or((None, 0), |peer| (Some(peer.id), peer.pushed_seq));
            Ok(log::has_news(connection, seq.unwrap_or(pushed), id)?)
        })
    }

    /// The number in our log that a cursor of ours points to; 0 for any other text.
    #[must_use]
    pub fn place_of(cursor: &str) -> i64 {
        Cursor::parse(cursor).map_or(0, |cursor| cursor.position.seq)
    }
}
