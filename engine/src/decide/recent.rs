//! What happened last: the newest changes, and the rows deleted last. For people who look; nothing
//! is decided by it.

use std::collections::HashSet;

use rusqlite::Connection;
use serde::Serialize;
use storysync_crdt::{Action, ChangeHash, Stamp};

use super::history::EntryReport;
use super::receipts::ChangeReport;
use crate::engine::Engine;
use crate::error::{EngineError, TransactionError};
use crate::naming::name_of;
use crate::store::rows::{self, RowId};
use crate::transaction::Transaction;

/// Changes looked at for each one told: several of one row are told as one.
const CHANGES_FOR_EACH: i64 = 8;

/// What one device wrote into one row last.
#[derive(Debug, Clone, Serialize)]
pub struct RecentChange {
    /// The table.
    pub entity_type: String,
    /// The row.
    pub sync_uuid: String,
    /// What people call the row; null when nothing in it names it.
    pub row_name: Option<String>,
    /// The newest of its changes.
    #[serde(flatten)]
    pub entry: EntryReport,
}

/// A row that was deleted.
#[derive(Debug, Clone, Serialize)]
pub struct DeletedRow {
    /// The table.
    pub entity_type: String,
    /// The row.
    pub sync_uuid: String,
    /// What people called the row; null when nothing in it names it.
    pub row_name: Option<String>,
    /// The change that deleted it: taking it back brings the row back.
    #[serde(flatten)]
    pub written: ChangeReport,
}

impl Engine {
    /// The rows written last, the newest first, at most `limit`; each with its newest change.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn recent_changes(
        &mut self,
        limit: usize,
        now: Stamp,
    ) -> Result<Vec<RecentChange>, EngineError> {
        self.look(now, |transaction| transaction.recent_changes(limit))
    }

    /// The rows deleted last, the newest first: of at most `limit` that are gone, after
    /// the first `skip`.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn recently_deleted(
        &mut self,
        skip: usize,
        limit: usize,
        now: Stamp,
    ) -> Result<Vec<DeletedRow>, EngineError> {
        self.look(now, |transaction| transaction.recently_deleted(skip, limit))
    }
}

impl Transaction<'_> {
    fn recent_changes(&mut self, limit: usize) -> Result<Vec<RecentChange>, TransactionError> {
        let looked_at = i64::try_from(limit).unwrap_or(i64::MAX).saturating_mul(CHANGES_FOR_EACH);
        let bringers = self.bringers()?;
        let mut told = HashSet::new();
        let mut recent = Vec::new();
        for (row, change) in newest_changes(self.connection, looked_at)? {
            if recent.len() == limit {
                break;
            }
            if !told.insert(row) {
                continue;
            }
            let (change, entries) = (change.to_hex(), self.history_of(row, &bringers)?);
            // What was there before storysync is nothing that happened.
            let Some(entry) = entries
                .into_iter()
                .find(|entry| entry.written.change == change)
                .filter(|entry| entry.action != Action::Existed.as_str())
            else {
                continue;
            };
            let entity = self.entity(&rows::get(self.connection, row)?)?;
            recent.push(RecentChange {
                row_name: name_of(self.connection, &self.schema, row)?,
                entity_type: entity.table.as_str().to_owned(),
                sync_uuid: entity.uuid.as_str().to_owned(),
                entry,
            });
        }
        Ok(recent)
    }

    fn recently_deleted(
        &mut self,
        skip: usize,
        limit: usize,
    ) -> Result<Vec<DeletedRow>, TransactionError> {
        let bringers = self.bringers()?;
        let mut deleted = Vec::new();
        for row in rows_gone(self.connection, skip, limit)? {
            // Others are gone because the app refused them.
            let (gone, back) = (Action::Deleted.as_str(), Action::Restored.as_str());
            let Some(entry) = self
                .history_of(row, &bringers)?
                .into_iter()
                .rfind(|entry| entry.action == gone || entry.action == back)
                .filter(|entry| entry.action == gone)
            else {
                continue;
            };
            let entity = self.entity(&rows::get(self.connection, row)?)?;
            deleted.push(DeletedRow {
                row_name: name_of(self.connection, &self.schema, row)?,
                entity_type: entity.table.as_str().to_owned(),
                sync_uuid: entity.uuid.as_str().to_owned(),
                written: entry.written,
            });
        }
        Ok(deleted)
    }
}

/// The newest changes, newest first, with the rows they are of.
fn newest_changes(
    connection: &Connection,
    limit: i64,
) -> rusqlite::Result<Vec<(RowId, ChangeHash)>> {
    connection
        .prepare_cached("SELECT row_id, hash FROM sync_change ORDER BY seq DESC LIMIT ?1")?
        .query_map([limit], |row| Ok((RowId(row.get(0)?), ChangeHash(row.get(1)?))))?
        .collect()
}

/// The rows that are not in the app's tables and wait for nothing, those changed last first.
fn rows_gone(connection: &Connection, skip: usize, limit: usize) -> rusqlite::Result<Vec<RowId>> {
    let number = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "SELECT id FROM sync_row AS r WHERE present = 0 AND version > 0 AND parked IS NULL \
             ORDER BY (SELECT max(seq) FROM sync_change WHERE row_id = r.id) DESC \
             LIMIT ?2 OFFSET ?1",
        )?
        .query_map([number(skip), number(limit)], |row| row.get(0).map(RowId))?
        .collect()
}
