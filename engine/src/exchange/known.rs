//! How far each device and we know each other's log: what is noted of it, and what follows where it
//! does not fit any more.

use storysync_crdt::Stamp;

use super::pages::{Cursor, Reached};
use crate::engine::Engine;
use crate::epoch::{NewEpoch, read_state};
use crate::error::EngineError;
use crate::store::{log, peers};

/// Longest cursor of another device that is kept, in bytes.
const CURSOR_TEXT_BYTES_MAX: usize = 512;

impl Engine {
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
        self.write(now, |transaction| {
            let mut peer = peers::find_or_create(transaction.connection, device_id)?;
            if peer.peer_epoch.is_some() {
                log::forget_origin(transaction.connection, peer.id, 0)?;
                peer.pushed_seq = 0;
            }
            peer.peer_epoch = Some(epoch.to_owned());
            peers::save(transaction.connection, &peer)?;
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
        self.write(now, |transaction| {
            let mut peer = peers::find_or_create(transaction.connection, device_id)?;
            let cursor = cursor.and_then(Cursor::parse).map(|cursor| cursor.position);
            let known = match cursor {
                Some(position) if log::passes_through(transaction.connection, position)? => {
                    position.seq
                }
                // What came from the device itself counts as known to it, which says nothing of a
                // copy.
                _ => 0,
            };
            peer.pushed_seq = peer.pushed_seq.min(known);
            peers::save(transaction.connection, &peer)?;
            Ok(log::forget_origin(transaction.connection, peer.id, known)?)
        })?;
        Ok(())
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
        self.write(now, |transaction| {
            let mut peer = peers::find_or_create(transaction.connection, device_id)?;
            peer.pull_cursor = Some(end.clone());
            peers::save(transaction.connection, &peer)?;
            Ok(())
        })?;
        Ok(())
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
        self.write(now, |transaction| {
            if read_state(transaction.connection)?.is_some_and(|state| state.epoch == reached.epoch)
            {
                let mut peer = peers::find_or_create(transaction.connection, device_id)?;
                peer.pushed_seq = peer.pushed_seq.max(reached.seq);
                peers::save(transaction.connection, &peer)?;
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
                .map_or((None, 0), |peer| (Some(peer.id), peer.pushed_seq));
            Ok(log::count_after(connection, seq, id)?)
        })
    }

    /// Others are about to know the names of our rows: from now on these are theirs, too.
    pub(crate) fn note_sent(&mut self, now: Stamp) -> Result<(), EngineError> {
        if self.has_sent {
            return Ok(());
        }
        if self.is_provisional()? {
            self.write(now, |transaction| {
                transaction.connection.execute(
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

    /// Checks what another device says it knows of this log. Where the log does not hold that any
    /// more, an earlier state of the file stands in its place, whatever this device remembers: the
    /// log begins another epoch. Returns whether it does.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn check_known(&mut self, known: &str, now: Stamp) -> Result<bool, EngineError> {
        let Some(known) = Cursor::parse(known).filter(|known| known.epoch == self.epoch) else {
            // Of another epoch: that it ended is known.
            return Ok(false);
        };
        if self.read(|connection, _| Ok(log::passes_through(connection, known.position)?))? {
            return Ok(false);
        }
        let ((), noticed) = self.write(now, |transaction| {
            // Looked at again under the lock: another process of this device may have noticed.
            if !log::passes_through(transaction.connection, known.position)? {
                transaction.new_epoch_cause = Some(NewEpoch::Restored);
            }
            Ok(())
        })?;
        Ok(noticed.new_epoch)
    }
}
