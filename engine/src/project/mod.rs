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
use std::ops::{Deref, DerefMut};

use sha2::{Digest, Sha256};
use storysync_crdt::{Row, Stamp, SyncUuid, UNKNOWN_STAMP, VALUE_BYTES_MAX, Value, deletion};

use crate::app::rows::{self as app_rows, StoredRow};
use crate::app::schema::{Role, Table};
use crate::error::TransactionError;
use crate::store::conflicts;
use crate::store::references;
use crate::store::rows::{self, Parked, RowId, RowRecord, TableId};
use crate::transaction::{Source, Transaction};
pub(crate) use write::{is_natural, unknown_time};

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

/// What a capture found of rows that left: their ids may be other rows' now.
#[derive(Debug, Default)]
pub(crate) struct Departed {
    /// Rows whose deletion by the app was captured.
    pub(crate) left_here: HashSet<RowId>,
    /// Ids that deleted rows had and other rows now have.
    pub(crate) former_ids: HashMap<RowId, i64>,
    /// Rows the app replaced in place by others (`INSERT OR REPLACE`): who referred to them refers
    /// to those.
    pub(crate) replaced: HashSet<RowId>,
}

/// What whoever asks for projecting knows beyond documents and tables.
#[derive(Debug, Default)]
pub(crate) struct Circumstances<'c> {
    /// How what is shown came here.
    pub(crate) source: Source,
    /// When a capture asks.
    pub(crate) departed: Option<&'c Departed>,
    /// Ids set aside for rows that could have come by the fast path and did not.
    pub(crate) set_aside_ids: HashMap<(TableId, SyncUuid), i64>,
}

/// One pass of projecting: what is still to be done, and which ids were promised to rows being
/// written.
pub(crate) struct Projection<'t, 'a> {
    transaction: &'t mut Transaction<'a>,
    circumstances: Circumstances<'t>,
    /// Rows still to be projected.
    waiting: BTreeSet<RowId>,
    /// Of those, rows whose targets are being projected.
    entered: HashSet<RowId>,
    /// Ids of rows being written, by which others may refer to them already.
    promised: HashMap<RowId, (TableId, i64)>,
    /// Deleted rows about which it was asked whether others require them.
    checked: HashSet<RowId>,
    /// Rows whose unique values were offered to those that wait for them.
    retried: HashSet<RowId>,
    /// Rows after which those that wait behind them were tried again.
    looked_at: HashSet<RowId>,
    /// Tables of which the rows they refused were tried again.
    refused: HashSet<TableId>,
    /// Rows that give way in a circle and were found through another one of it.
    ringed: HashSet<RowId>,
    /// Tables of which the rows that give way in a circle were tried again.
    unringed: HashSet<TableId>,
    /// Rows a trigger of the app's did not let go, tried again while others move.
    refused_removals: BTreeSet<RowId>,
    /// Whether a row was written or removed since those were tried.
    has_moved: bool,
    /// Rows whose unique values were taken out of the way, as they stood before.
    set_aside: HashMap<RowId, StoredRow>,
    /// Why the app's table refused what was tried first for the row being written, in SQLite's
    /// words.
    refusal: Option<String>,
}

impl<'a> Deref for Projection<'_, 'a> {
    type Target = Transaction<'a>;

    fn deref(&self) -> &Self::Target {
        self.transaction
    }
}

impl DerefMut for Projection<'_, '_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.transaction
    }
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

impl Transaction<'_> {
    /// Brings the app's tables in line with the documents of `rows`, and of every row that refers
    /// to one that came, went or moved.
    pub(crate) fn project(&mut self, rows: BTreeSet<RowId>) -> Result<(), TransactionError> {
        self.project_under(rows, Circumstances::default())
    }

    /// The same, for who knows more of the rows than their documents say.
    pub(crate) fn project_under(
        &mut self,
        rows: BTreeSet<RowId>,
        circumstances: Circumstances<'_>,
    ) -> Result<(), TransactionError> {
        if rows.is_empty() {
            return Ok(());
        }
        self.begin_own_writes()?;
        Projection::new(self, rows, circumstances).run()
    }
}

impl<'t, 'a> Projection<'t, 'a> {
    fn new(
        transaction: &'t mut Transaction<'a>,
        waiting: BTreeSet<RowId>,
        circumstances: Circumstances<'t>,
    ) -> Self {
        Self {
            transaction,
            circumstances,
            waiting,
            entered: HashSet::new(),
            promised: HashMap::new(),
            checked: HashSet::new(),
            retried: HashSet::new(),
            looked_at: HashSet::new(),
            refused: HashSet::new(),
            ringed: HashSet::new(),
            unringed: HashSet::new(),
            refused_removals: BTreeSet::new(),
            has_moved: false,
            set_aside: HashMap::new(),
            refusal: None,
        }
    }

    fn run(&mut self) -> Result<(), TransactionError> {
        for parent in std::mem::take(&mut self.left_alone) {
            self.check_parent(parent)?;
        }
        let refused = rows::not_let_go(self.connection)?;
        self.refused_removals.extend(refused);
        while let Some(next) = self.next_waiting() {
            // Depth first over what a row refers to, on a stack of our own: chains may be long.
            let mut stack = vec![next];
            while let Some(id) = stack.last().copied() {
                if self.waiting.contains(&id) && self.entered.insert(id) {
                    stack.extend(self.targets_waiting(id)?);
                    continue;
                }
                stack.pop();
                if self.waiting.remove(&id) {
                    self.project_row(id)?;
                    self.entered.remove(&id);
                }
            }
        }
        Ok(())
    }
}

impl Projection<'_, '_> {
    /// The next row to project; at last those that a trigger did not let go, once others have
    /// moved.
    fn next_waiting(&mut self) -> Option<RowId> {
        if self.waiting.is_empty() && std::mem::take(&mut self.has_moved) {
            self.waiting.append(&mut self.refused_removals);
        }
        self.waiting.first().copied()
    }

    /// The rows `id` refers to that are still to be projected and not being entered already.
    fn targets_waiting(&mut self, id: RowId) -> Result<Vec<RowId>, TransactionError> {
        let mut targets = Vec::new();
        if self.schema.has_foreign_triggers && deletion(self.document(id)?).is_some() {
            // Children go before their parents: a trigger may keep a parent that has any.
            for child in references::referrers(self.connection, id)? {
                if self.waiting.contains(&child) && !self.entered.contains(&child) {
                    targets.push(child);
                }
            }
            return Ok(targets);
        }
        for target in references::targets(self.connection, id)? {
            self.check_parent(target)?;
            if !self.waiting.contains(&target) {
                continue;
            }
            if self.entered.contains(&target) {
                self.promise(target)?;
            } else {
                targets.push(target);
            }
        }
        Ok(targets)
    }

    /// A row that is deleted, or was kept though deleted, is settled along with those that refer to
    /// it: it may be required now, or no longer.
    fn check_parent(&mut self, id: RowId) -> Result<(), TransactionError> {
        if self.waiting.contains(&id) || !self.checked.insert(id) {
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
            self.waiting.insert(id);
        }
        Ok(())
    }

    /// Rows that need each other: the one entered first gets its id before it is written, so that
    /// the other can refer to it.
    fn promise(&mut self, id: RowId) -> Result<(), TransactionError> {
        let record = rows::get(self.connection, id)?;
        if record.present || self.promised.contains_key(&id) || self.document(id)?.is_empty() {
            return Ok(());
        }
        if !self.shown_row(id)?.stands() {
            return Ok(());
        }
        let name = self.table_name(record.table)?;
        let schema = std::sync::Arc::clone(&self.schema);
        if let Some(table) = schema.table(name.as_str()) {
            let local_id = self.free_id(table, &record)?;
            self.promised.insert(id, (record.table, local_id));
        }
        Ok(())
    }

    fn project_row(&mut self, id: RowId) -> Result<(), TransactionError> {
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
        let stand_in = conflicts::stand_in(self.connection, id)?;
        match schema.table(name.as_str()) {
            // Of a table that is left alone, what it showed last is remembered.
            None if record.present => record.version = before.version,
            None => {}
            Some(table)
                if table.is_local
                    && (record.present || !app_rows::is_empty(self.connection, table)?) => {}
            Some(table) if !stands_in(table, &merged) => self.remove(table, &mut record)?,
            Some(table) => self.write(table, &mut record, &merged)?,
        }
        if record.parked != Some(Parked::Name) && stand_in.is_some() {
            conflicts::set_stand_in(self.connection, id, None)?;
            conflicts::set_waiting_keys(self.connection, id, &[])?;
        }
        self.promised.remove(&id);
        if record.present {
            self.set_aside.remove(&id);
        }
        let moved = record.present != before.present || record.local_id != before.local_id;
        // Only a row that waits for its name has another in its place.
        let waits = record.parked == Some(Parked::Name);
        let stands_in_now = if waits { conflicts::stand_in(self.connection, id)? } else { None };
        if moved
            || record.parked != before.parked
            || self.circumstances.departed.is_some_and(|departed| departed.left_here.contains(&id))
            || stand_in != stands_in_now
        {
            self.project_referrers(id)?;
            if moved {
                for parked in conflicts::stands_in_for(self.connection, id)? {
                    self.project_referrers(parked)?;
                }
            }
        }
        if let Some(table) = schema.table(name.as_str()) {
            self.project_rings(table, &before, &record)?;
        }
        if schema.table(name.as_str()).is_some_and(Table::has_uniques)
            && (moved || self.looked_at.insert(id))
        {
            self.retry_behind(id)?;
        }
        if (moved && !record.present || self.refused.insert(record.table))
            && record.parked.is_none()
        {
            self.retry_refused(&record)?;
        }
        self.note_conflicts(&mut record, before.conflicts)?;
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
    fn retry_refused(&mut self, record: &RowRecord) -> Result<(), TransactionError> {
        let waiting = rows::parked_because(self.connection, record.table, Parked::Refused)?;
        self.waiting.extend(waiting.into_iter().filter(|parked| *parked != record.id));
        Ok(())
    }

    pub(crate) fn project_referrers(&mut self, id: RowId) -> Result<(), TransactionError> {
        for referrer in references::referrers(self.connection, id)? {
            let known = rows::get(self.connection, referrer)?;
            if referrer != id && (known.present || known.parked.is_some()) {
                self.waiting.insert(referrer);
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
