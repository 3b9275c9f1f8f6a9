//! What happened last: the newest changes, and the rows deleted last. For people who look; nothing
//! is decided by it.

use std::collections::HashSet;

use rusqlite::Connection;
use serde::Serialize;
use storysync_crdt::{Action, ChangeHash, Stamp, history};

use super::history::EntryReport;
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
    /// The change that deleted it, hexadecimal: taking it back brings the row back.
    pub change: String,
    /// PeerId of the device that deleted it.
    pub device: Option<String>,
    /// RFC 3339, UTC.
    pub at: Option<String>,
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
        let mut told = HashSet::new();
        let mut recent = Vec::new();
        for (row, change) in newest_changes(self.connection, looked_at)? {
            if recent.len() == limit {
                break;
            }
            if told.insert(row) {
                recent.extend(self.recent_change(row, &change)?);
            }
        }
        Ok(recent)
    }

    fn recent_change(
        &mut self,
        row: RowId,
        change: &ChangeHash,
    ) -> Result<Option<RecentChange>, TransactionError> {
        let entity = self.entity(&rows::get(self.connection, row)?)?;
        let entries = history(self.document(row)?);
        // What was there before storysync is nothing that happened.
        let Some(entry) = entries
            .iter()
            .find(|entry| entry.hash == *change)
            .filter(|entry| entry.action != Action::Existed)
        else {
            return Ok(None);
        };
        let mut entry = EntryReport::of(self.schema.table(entity.table.as_str()), entry);
        for field in &mut entry.fields {
            field.name = self.told_name(entity.table.as_str(), &field.name);
        }
        Ok(Some(RecentChange {
            row_name: name_of(self.connection, &self.schema, row)?,
            entity_type: entity.table.as_str().to_owned(),
            sync_uuid: entity.uuid.as_str().to_owned(),
            entry,
        }))
    }

    fn recently_deleted(
        &mut self,
        skip: usize,
        limit: usize,
    ) -> Result<Vec<DeletedRow>, TransactionError> {
        let mut deleted = Vec::new();
        for row in rows_gone(self.connection, skip, limit)? {
            // Others are gone because the app refused them.
            let Some(entry) = history(self.document(row)?)
                .into_iter()
                .rfind(|entry| matches!(entry.action, Action::Deleted | Action::Restored))
                .filter(|entry| entry.action == Action::Deleted)
            else {
                continue;
            };
            let entity = self.entity(&rows::get(self.connection, row)?)?;
            let entry = EntryReport::of(None, &entry);
            deleted.push(DeletedRow {
                row_name: name_of(self.connection, &self.schema, row)?,
                entity_type: entity.table.as_str().to_owned(),
                sync_uuid: entity.uuid.as_str().to_owned(),
                change: entry.change,
                device: entry.device,
                at: entry.at,
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
