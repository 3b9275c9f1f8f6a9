//! Makes the app's tables show what the documents say: references translated to local ids, parents
//! before children whatever the order of arrival, rows that can't stand yet parked, deletes carried
//! out.

pub(crate) mod contest;
pub(crate) mod fitting;
mod linking;
pub(crate) mod plan;
mod rings;
pub(crate) mod rules;
mod write;

use std::collections::{BTreeSet, HashMap, HashSet};

use sha2::{Digest, Sha256};
use storysync_crdt::{Row, Stamp, UNKNOWN_STAMP, VALUE_BYTES_MAX, Value, deletion};

use crate::app::rows::{self as app_rows, StoredRow};
use crate::app::schema::{Role, Table};
use crate::error::SessionError;
use crate::store::clashes;
use crate::store::references;
use crate::store::rows::{self, RowId, RowRecord, TableId};
use crate::transaction::Session;
pub(crate) use write::{is_natural, unknown_time};

/// Why a row waits: what it needs has not come.
pub(crate) const WAITS_FOR_PARENT: &str = "waits for the row it belongs to";
/// Why a row waits: its name is taken.
pub(crate) const WAITS_FOR_NAME: &str = "another row has the same unique values";
/// Why a row waits: the table refuses it, whatever its values.
pub(crate) const REFUSED_BY_TABLE: &str = "the app's table refuses it";

/// A value as [`crate::store::rows::Difference`] remembers it: large ones by their hash.
pub(crate) fn token(value: &Value) -> Value {
    match value {
        Value::Text(text) if text.len() > VALUE_BYTES_MAX => {
            Value::Blob(Sha256::digest(text.as_bytes()).to_vec())
        }
        Value::Blob(bytes) if bytes.len() > VALUE_BYTES_MAX => {
            Value::Blob(Sha256::digest(bytes).to_vec())
        }
        other => other.clone(),
    }
}

/// One pass of projecting: what is still to be done, and which ids were promised to rows being
/// written.
#[derive(Default)]
pub(crate) struct Pass {
    pub(crate) waiting: BTreeSet<RowId>,
    pub(crate) entered: HashSet<RowId>,
    pub(crate) promised: HashMap<RowId, (TableId, i64)>,
    /// Deleted rows about which it was asked whether others require them.
    pub(crate) checked: HashSet<RowId>,
    /// Rows whose unique values were offered to those that wait for them.
    pub(crate) retried: HashSet<RowId>,
    /// Rows after which those that wait behind them were tried again.
    pub(crate) looked_at: HashSet<RowId>,
    /// Tables of which the rows they refused were tried again.
    pub(crate) refused: HashSet<TableId>,
    /// Rows that give way in a circle and were found through another one of it.
    pub(crate) ringed: HashSet<RowId>,
    /// Tables of which the rows that give way in a circle were tried again.
    pub(crate) unringed: HashSet<TableId>,
    /// Rows a trigger of the app's did not let go, tried again while others move.
    refused_removals: BTreeSet<RowId>,
    /// Whether a row was written or removed since those were tried.
    has_moved: bool,
    /// Rows whose unique values were taken out of the way, as they stood before.
    pub(crate) set_aside: HashMap<RowId, StoredRow>,
}

/// Where a reference leads.
pub(crate) enum Resolved {
    To(i64),
    /// To the row that stays in the target's place.
    Instead(i64),
    /// The target's document is unknown, or it is parked: it may still come.
    NotYet,
    /// The target is deleted, or there never was one.
    Nothing,
}

impl Session<'_> {
    /// Brings the app's tables in line with the documents of `rows`, and of every row that refers
    /// to one that came, went or moved.
    pub(crate) fn project(&mut self, waiting: BTreeSet<RowId>) -> Result<(), SessionError> {
        if waiting.is_empty() {
            return Ok(());
        }
        self.begin_own_writes()?;
        let mut pass = Pass { waiting, ..Pass::default() };
        for parent in std::mem::take(&mut self.left_alone) {
            self.check_parent(parent, &mut pass)?;
        }
        pass.refused_removals.extend(rows::not_let_go(self.connection, REFUSED_BY_TABLE)?);
        while let Some(next) = self.next_waiting(&mut pass) {
            // Depth first over what a row refers to, on a stack of our own: chains may be long.
            let mut stack = vec![next];
            while let Some(id) = stack.last().copied() {
                if pass.waiting.contains(&id) && pass.entered.insert(id) {
                    stack.extend(self.targets_waiting(id, &mut pass)?);
                    continue;
                }
                stack.pop();
                if pass.waiting.remove(&id) {
                    self.project_row(id, &mut pass)?;
                    pass.entered.remove(&id);
                }
            }
        }
        Ok(())
    }

    /// The next row to project; at last those that a trigger did not let go, once others have
    /// moved.
    fn next_waiting(&mut self, pass: &mut Pass) -> Option<RowId> {
        if pass.waiting.is_empty() && std::mem::take(&mut pass.has_moved) {
            pass.waiting.append(&mut pass.refused_removals);
        }
        pass.waiting.first().copied()
    }

    /// The rows `id` refers to that are still to be projected and not being entered already.
    fn targets_waiting(&mut self, id: RowId, pass: &mut Pass) -> Result<Vec<RowId>, SessionError> {
        let mut targets = Vec::new();
        if self.schema.has_foreign_triggers && deletion(self.document(id)?).is_some() {
            // Children go before their parents: a trigger may keep a parent that has any.
            for child in references::referrers(self.connection, id)? {
                if pass.waiting.contains(&child) && !pass.entered.contains(&child) {
                    targets.push(child);
                }
            }
            return Ok(targets);
        }
        for target in references::targets(self.connection, id)? {
            self.check_parent(target, pass)?;
            if !pass.waiting.contains(&target) {
                continue;
            }
            if pass.entered.contains(&target) {
                self.promise(target, pass)?;
            } else {
                targets.push(target);
            }
        }
        Ok(targets)
    }

    /// A row that is deleted, or was kept though deleted, is settled along with those that refer to
    /// it: it may be required now, or no longer.
    fn check_parent(&mut self, id: RowId, pass: &mut Pass) -> Result<(), SessionError> {
        if pass.waiting.contains(&id) || !pass.checked.insert(id) {
            return Ok(());
        }
        let record = rows::get(self.connection, id)?;
        let marked = match (record.present, record.local_id) {
            (true, Some(local_id)) => {
                let name = self.table_name(record.table)?;
                let schema = std::sync::Arc::clone(&self.schema);
                schema.table(name.as_str()).map_or(Ok(false), |table| {
                    app_rows::is_marked_deleted(self.connection, table, local_id)
                })?
            }
            _ => false,
        };
        let looks_alive = record.present && record.conflicts == 0 && !marked;
        if !looks_alive && deletion(self.document(id)?).is_some() {
            pass.waiting.insert(id);
        }
        Ok(())
    }

    /// Rows that need each other: the one entered first gets its id before it is written, so that
    /// the other can refer to it.
    fn promise(&mut self, id: RowId, pass: &mut Pass) -> Result<(), SessionError> {
        let record = rows::get(self.connection, id)?;
        if record.present || pass.promised.contains_key(&id) || self.document(id)?.is_empty() {
            return Ok(());
        }
        if !self.shown_row(id)?.stands() {
            return Ok(());
        }
        let name = self.table_name(record.table)?;
        let schema = std::sync::Arc::clone(&self.schema);
        if let Some(table) = schema.table(name.as_str()) {
            let local_id = self.free_id(table, &record, pass)?;
            pass.promised.insert(id, (record.table, local_id));
        }
        Ok(())
    }

    fn project_row(&mut self, id: RowId, pass: &mut Pass) -> Result<(), SessionError> {
        self.projected.insert(id);
        let before = rows::get(self.connection, id)?;
        if self.document(id)?.is_empty() {
            return Ok(());
        }
        let merged = self.shown_row(id)?;
        let name = self.table_name(before.table)?;
        let schema = std::sync::Arc::clone(&self.schema);
        let mut record = before.clone();
        record.version = merged.version;
        let stand_in = clashes::stand_in(self.connection, id)?;
        match schema.table(name.as_str()) {
            // Of a table that is left alone, what it showed last is remembered.
            None if record.present => record.version = before.version,
            None => {}
            Some(table)
                if table.is_local
                    && (record.present || !app_rows::is_empty(self.connection, table)?) => {}
            Some(table) if !stands_in(table, &merged) => self.remove(table, &mut record, pass)?,
            Some(table) => self.write(table, &mut record, &merged, pass)?,
        }
        if record.parked.as_deref() != Some(WAITS_FOR_NAME) && stand_in.is_some() {
            clashes::set_stand_in(self.connection, id, None)?;
            clashes::set_waiting_keys(self.connection, id, &[])?;
        }
        pass.promised.remove(&id);
        if record.present {
            pass.set_aside.remove(&id);
        }
        let moved = record.present != before.present || record.local_id != before.local_id;
        // Only a row that waits for its name has another in its place.
        let waits = record.parked.as_deref() == Some(WAITS_FOR_NAME);
        let stands_in_now = if waits { clashes::stand_in(self.connection, id)? } else { None };
        if moved
            || record.parked != before.parked
            || self.left_here.contains(&id)
            || stand_in != stands_in_now
        {
            self.project_referrers(id, pass)?;
            if moved {
                for parked in clashes::stands_in_for(self.connection, id)? {
                    self.project_referrers(parked, pass)?;
                }
            }
        }
        if let Some(table) = schema.table(name.as_str()) {
            self.project_rings(table, &before, &record, pass)?;
        }
        if schema.table(name.as_str()).is_some_and(Table::has_uniques)
            && (moved || pass.looked_at.insert(id))
        {
            self.retry_behind(id, pass)?;
        }
        if (moved && !record.present || pass.refused.insert(record.table))
            && record.parked.is_none()
        {
            self.retry_refused(&record, pass)?;
        }
        self.note_clashes(&mut record, before.conflicts)?;
        if record.is_but_for_version(&before) {
            // The many: what rows are found by is not touched for them.
            if record.version != before.version {
                rows::save_version(self.connection, id, record.version)?;
            }
        } else {
            rows::save(self.connection, &record)?;
        }
        Ok(())
    }

    /// What a row of its table, or an index of it, kept out may have its turn.
    fn retry_refused(&mut self, record: &RowRecord, pass: &mut Pass) -> Result<(), SessionError> {
        let waiting = rows::parked_because(self.connection, record.table, REFUSED_BY_TABLE)?;
        pass.waiting.extend(waiting.into_iter().filter(|parked| *parked != record.id));
        Ok(())
    }

    pub(crate) fn project_referrers(
        &mut self,
        id: RowId,
        pass: &mut Pass,
    ) -> Result<(), SessionError> {
        for referrer in references::referrers(self.connection, id)? {
            let known = rows::get(self.connection, referrer)?;
            if referrer != id && (known.present || known.parked.is_some()) {
                pass.waiting.insert(referrer);
            }
        }
        Ok(())
    }
}

/// The instant of a document's stamp, for whoever needs one.
pub(crate) fn known_stamp(value: &Value) -> Option<&str> {
    value.as_text().filter(|text| *text != UNKNOWN_STAMP && Stamp::parse(text).is_some())
}

/// Whether a row stands in a table: one without a column that could mark it as deleted shows only
/// those that are not.
pub(crate) fn stands_in(table: &Table, merged: &Row) -> bool {
    merged.stands() && (merged.deletion.is_none() || table.with_role(&Role::DeletedAt).is_some())
}
