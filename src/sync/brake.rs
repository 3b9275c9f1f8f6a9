//! The brake: when one device's changes of an hour would delete very many rows of a table, or of the file, their projection
//! (only that) waits for a yes. The documents are kept and forwarded all the same.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use storysync_crdt::{Stamp, Value, deletion, key};

use super::error::{EngineError, SessionError};
use super::receive::Incoming;
use super::session::Session;
use crate::app::profile::table_of_entity_type;
use crate::app::rows as app_rows;
use crate::store::brakes::{self, Brake};
use crate::store::rows::{self, RowId, TableId};

/// Deletions of one device, in one table or in all, within the window that are never braked.
pub const BRAKE_ROWS_MAX: usize = 100;
/// One part in so many of a table, and of the file, may be deleted within the window.
pub const BRAKE_TABLE_PART: usize = 5;
/// Length of the window, in milliseconds.
pub const BRAKE_WINDOW_MS: i64 = 60 * 60 * 1000;

/// A brake, as every interface tells of it.
#[derive(Debug, Clone, Serialize)]
pub struct BrakeReport {
    /// What `storysync approve` is given.
    pub id: String,
    /// PeerId of the device the deletions came from.
    pub device_id: String,
    /// The tables they are in, separated by commas.
    pub entity_type: String,
    /// How many rows wait.
    pub rows: i64,
    /// RFC 3339, UTC.
    pub at: String,
}

impl BrakeReport {
    pub(super) fn of(brake: Brake) -> Self {
        Self {
            id: brake.id.to_string(),
            device_id: brake.device_id,
            entity_type: brake.tables,
            rows: brake.rows,
            at: Stamp::from_unix_ms(brake.at).to_rfc3339(),
        }
    }
}

/// How a brake is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrakeDecision {
    /// The rows are deleted here, too.
    Approve,
    /// The rows live, on all devices.
    Refuse,
}

/// How many rows a push says it deletes, by table: slices are judged by the whole they belong to.
pub(super) fn announced(changes: &[Incoming]) -> BTreeMap<String, usize> {
    let mut announced = BTreeMap::new();
    for change in changes.iter().map(|incoming| &incoming.change).filter(|change| change.operation == "delete") {
        *announced.entry(table_of_entity_type(&change.entity_type).to_owned()).or_default() += 1;
    }
    announced
}

/// Whether so many deletions wait for a yes where so many rows stand, those deleted of late included.
fn is_too_many(deleted: usize, standing: usize) -> bool {
    deleted > BRAKE_ROWS_MAX && deleted.saturating_mul(BRAKE_TABLE_PART) > standing
}

impl Session<'_> {
    /// Holds the deletions among `received` rows when there are too many of them, those carried out within
    /// the last hour included. Returns rows that are to be settled besides.
    pub(super) fn brake(&mut self, received: &BTreeSet<RowId>, announced: &BTreeMap<String, usize>, peer: i64) -> Result<BTreeSet<RowId>, SessionError> {
        let now_ms = self.now.unix_ms();
        let mut deletions: BTreeMap<TableId, Vec<RowId>> = BTreeMap::new();
        for id in received {
            if deletion(self.document(*id)?).is_none() {
                self.take_brake_off(*id)?;
                continue;
            }
            let record = rows::get(self.connection, *id)?;
            if record.present && !self.shows_as_deleted(*id)? {
                deletions.entry(record.table).or_default().push(*id);
            }
        }
        let mut touched = BTreeSet::new();
        if deletions.is_empty() {
            return Ok(touched);
        }
        let since = now_ms.saturating_sub(BRAKE_WINDOW_MS);
        let earlier = brakes::deleted_since(self.connection, peer, since)?;
        let mut too_many = None;
        let (mut in_all, mut standing_in_all) = (0, usize::try_from(rows::counts(self.connection)?.entities).unwrap_or(usize::MAX));
        for (table, deleted) in &deletions {
            let name = self.table_name(*table)?;
            let before = earlier.iter().filter(|(of, _)| of == table).count();
            let count = before + deleted.len().max(announced.get(name.as_str()).copied().unwrap_or(0));
            let standing = usize::try_from(rows::count_present(self.connection, *table)?).unwrap_or(usize::MAX).saturating_add(before);
            in_all += count - before;
            if is_too_many(count, standing) {
                too_many = Some(*table);
            }
        }
        in_all += earlier.len();
        standing_in_all = standing_in_all.saturating_add(earlier.len());
        if is_too_many(in_all, standing_in_all) {
            too_many = too_many.or_else(|| deletions.keys().next().copied());
        }
        let brake = match (brakes::find(self.connection, peer)?, too_many) {
            (Some(brake), _) => brake,
            (None, Some(table)) => {
                tracing::warn!(rows = in_all, "one device deletes very many rows; they wait for `storysync approve`");
                brakes::engage(self.connection, peer, table, now_ms)?
            }
            (None, None) => {
                for (table, deleted) in deletions {
                    for id in deleted {
                        brakes::note_deletion(self.connection, peer, table, id, now_ms)?;
                    }
                }
                return Ok(touched);
            }
        };
        // All of it together, in whatever table: a row whose children are gone is not as it was.
        for id in deletions.into_values().flatten() {
            self.hold(brake, id)?;
        }
        // What was deleted before the brake was on comes back until it is decided.
        for (_, id) in earlier {
            if deletion(self.document(id)?).is_some() {
                self.hold(brake, id)?;
                touched.insert(id);
            }
        }
        Ok(touched)
    }

    /// Holds a row back from being deleted.
    fn hold(&mut self, brake: i64, row: RowId) -> Result<(), SessionError> {
        self.holds_rows = Some(true);
        Ok(brakes::hold(self.connection, brake, row, self.now.unix_ms())?)
    }

    /// Lets a row go that a brake may hold. Nearly always none does, and then it costs nothing.
    pub(super) fn take_brake_off(&mut self, row: RowId) -> Result<(), SessionError> {
        let holds = match self.holds_rows {
            Some(holds) => holds,
            None => *self.holds_rows.insert(brakes::hold_any(self.connection)?),
        };
        if holds {
            brakes::release(self.connection, row, self.now.unix_ms())?;
        }
        Ok(())
    }

    fn shows_as_deleted(&mut self, id: RowId) -> Result<bool, SessionError> {
        let record = rows::get(self.connection, id)?;
        let name = self.table_name(record.table)?;
        let schema = std::sync::Arc::clone(&self.schema);
        match (schema.table(name.as_str()), record.local_id) {
            (Some(table), Some(local_id)) => Ok(app_rows::is_marked_deleted(self.connection, table, local_id)?),
            _ => Ok(false),
        }
    }

    /// Lets held deletions through, or takes them back. Returns how many rows there were.
    pub(super) fn decide_brake(&mut self, id: &str, decision: BrakeDecision) -> Result<usize, SessionError> {
        let no_such = || EngineError::NoSuchBrake(id.to_owned());
        let brake: i64 = id.parse().map_err(|_| no_such())?;
        let now = self.now;
        let held = brakes::decide(self.connection, brake, now.unix_ms())?.ok_or_else(no_such)?;
        if decision == BrakeDecision::Refuse {
            for id in &held {
                self.write_row(*id, BTreeMap::from([(key::DELETED_AT.to_owned(), Value::Null)]), None, now)?;
            }
        }
        let count = held.len();
        self.settle(held.into_iter().collect())?;
        Ok(count)
    }

    /// What waits for a yes.
    pub(super) fn brakes(&mut self) -> Result<Vec<BrakeReport>, SessionError> {
        Ok(brakes::waiting(self.connection)?.into_iter().map(BrakeReport::of).collect())
    }
}
