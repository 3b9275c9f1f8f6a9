//! Makes the app's tables show what the documents say: references translated to local ids, parents
//! before children whatever the order of arrival, rows that can't stand yet parked, deletes carried
//! out.

pub(crate) mod contest;
pub(crate) mod fitting;
mod rings;
pub(crate) mod rules;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use sha2::{Digest, Sha256};
use storysync_crdt::{
    NOWHERE, Row, Stamp, SyncUuid, UNKNOWN_STAMP, VALUE_BYTES_MAX, Value, deletion,
};

use crate::app::profile;
use crate::app::rows::{self as app_rows, StoredRow};
use crate::app::schema::{Affinity, Column, Role, Table};
use crate::error::SessionError;
use crate::project::contest::{Contest, nobodys_id, unique_keys};
use crate::project::fitting::{Put, is_constraint, note_refused};
use crate::project::rules::has_unsent;
use crate::store::clashes;
use crate::store::references;
use crate::store::rows::{
    self, Difference, DifferenceKind, Differences, RowId, RowRecord, TableId,
};
use crate::transaction::Session;

/// Why a row waits: what it needs has not come.
pub(crate) const WAITS_FOR_PARENT: &str = "waits for the row it belongs to";
/// Why a row waits: its name is taken.
pub(crate) const WAITS_FOR_NAME: &str = "another row has the same unique values";
/// Why a row waits: the table refuses it, whatever its values.
pub(crate) const REFUSED_BY_TABLE: &str = "the app's table refuses it";

/// A value as [`Difference`] remembers it: large ones by their hash.
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

/// One pass of settling: what is still to be done, and which ids were promised to rows being
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
    pub(crate) fn settle(&mut self, waiting: BTreeSet<RowId>) -> Result<(), SessionError> {
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
                    self.settle_row(id, &mut pass)?;
                    pass.entered.remove(&id);
                }
            }
        }
        Ok(())
    }

    /// The next row to settle; at last those that a trigger did not let go, once others have moved.
    fn next_waiting(&mut self, pass: &mut Pass) -> Option<RowId> {
        if pass.waiting.is_empty() && std::mem::take(&mut pass.has_moved) {
            pass.waiting.append(&mut pass.refused_removals);
        }
        pass.waiting.first().copied()
    }

    /// The rows `id` refers to that are still to be settled and not being entered already.
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

    fn settle_row(&mut self, id: RowId, pass: &mut Pass) -> Result<(), SessionError> {
        self.settled.insert(id);
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
            self.settle_referrers(id, pass)?;
            if moved {
                for parked in clashes::stands_in_for(self.connection, id)? {
                    self.settle_referrers(parked, pass)?;
                }
            }
        }
        if let Some(table) = schema.table(name.as_str()) {
            self.settle_rings(table, &before, &record, pass)?;
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

    pub(crate) fn settle_referrers(
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

    fn remove(
        &mut self,
        table: &Table,
        record: &mut RowRecord,
        pass: &mut Pass,
    ) -> Result<(), SessionError> {
        if record.present {
            if let Some(id) = record.local_id {
                match self.delete_row(table, id) {
                    Ok(()) => pass.has_moved = true,
                    Err(SessionError::Sqlite(error))
                        if is_constraint(&error) && !self.connection.is_autocommit() =>
                    {
                        // A trigger of the app's keeps it, perhaps until what refers to it is gone.
                        // Everything else goes on. Not the error: what a trigger says may quote the
                        // row.
                        tracing::warn!(
                            table = table.name(),
                            "a row that was deleted elsewhere is kept by the app's table"
                        );
                        record.parked = Some(REFUSED_BY_TABLE.to_owned());
                        pass.refused_removals.insert(record.id);
                        return Ok(());
                    }
                    Err(error) => return Err(error),
                }
            }
            record.present = false;
        }
        record.parked = None;
        record.differs.clear();
        self.release_held(record.id)?;
        Ok(())
    }

    fn write(
        &mut self,
        table: &Table,
        record: &mut RowRecord,
        merged: &Row,
        pass: &mut Pass,
    ) -> Result<(), SessionError> {
        let stored = match record.local_id {
            Some(id) if record.present => app_rows::by_local_id(self.connection, table, id)?,
            _ => None,
        };
        record.present = stored.is_some();
        // What the app had there, before we took its unique values out of the way.
        let aside = pass.set_aside.get(&record.id).cloned();
        let current = aside.as_ref().or(stored.as_ref());
        let local_id = match (current, pass.promised.get(&record.id)) {
            (Some(current), _) if stored.is_some() => current.local_id,
            (_, Some((_, promised))) => *promised,
            (_, None) => self.free_id(table, record, pass)?,
        };
        // Promised before references are resolved, so that rows which need each other find each
        // other.
        pass.promised.insert(record.id, (record.table, local_id));
        let mut differs = Differences::new();
        let mut desired: Vec<Value> = Vec::with_capacity(table.columns.len());
        for (position, column) in table.columns.iter().enumerate() {
            let now = current.and_then(|current| current.values.get(position));
            let value = match &column.role {
                Role::LocalId => continue,
                Role::SyncUuid => Value::from(record.uuid.as_str()),
                Role::Version => Value::Integer(merged.version),
                Role::DeletedAt => {
                    merged.deletion.as_ref().map_or(Value::Null, |deletion| deletion.at.clone())
                }
                Role::CreatedAt => {
                    time_shown(column, record, &merged.created_at, now, &mut differs)
                }
                Role::UpdatedAt => {
                    time_shown(column, record, &merged.updated_at, now, &mut differs)
                }
                Role::Local => local_shown(column, record, merged, now, &mut differs),
                Role::Field => {
                    self.field_shown(table, column, record, merged, now, &mut differs)?
                }
                Role::Reference { table: target } => match self.reference_shown(
                    table,
                    column,
                    target,
                    record,
                    merged,
                    now,
                    pass,
                    &mut differs,
                )? {
                    Some(value) => value,
                    None => {
                        record.parked = Some(WAITS_FOR_PARENT.to_owned());
                        return Ok(());
                    }
                },
            };
            desired.push(value);
        }
        if table.has_uniques() {
            let contested = |column: &Column| table.is_contested(&column.name);
            let contest = self.contest(table, record, local_id, &desired, pass)?;
            if let (Contest::Behind(..), Some(stored), true) =
                (&contest, &stored, has_unsent(record))
            {
                // It holds what is nowhere else: it stays under the name it has.
                for ((column, standing), desired) in stored.columns(table).zip(desired.iter_mut()) {
                    if contested(column) && desired != standing {
                        note_refused(column, merged, standing, &mut differs);
                        *desired = standing.clone();
                    }
                }
            } else if let Contest::Behind(winner, columns) = contest {
                self.wait_behind(
                    table,
                    record,
                    local_id,
                    stored,
                    (winner, &columns),
                    &desired,
                    pass,
                )?;
                return Ok(());
            }
            let frees = current.is_some_and(|current| {
                current
                    .columns(table)
                    .zip(&desired)
                    .any(|((column, now), desired)| contested(column) && now != desired)
            });
            if frees {
                self.retry_behind(record.id, pass)?;
            }
            self.retry_contesting(table, record.id, &desired, pass)?;
        }
        record.parked = None;
        self.refusal = None;
        // A table that settles conflicts by itself says nothing when it does: its rules are asked
        // first.
        let asks_first = table.settles_conflicts && !table.rules.is_empty();
        let mut put = match asks_first {
            true => Put::Taken,
            false => self.put(
                table,
                record,
                local_id,
                stored.as_ref(),
                &mut desired,
                merged,
                &mut differs,
            )?,
        };
        if put == Put::Taken {
            match self.contest_by_rule(table, record, local_id, stored.is_none(), &desired, pass)? {
                Some(Contest::Behind(winner, columns)) => {
                    self.refusal = None;
                    return self.wait_behind(
                        table,
                        record,
                        local_id,
                        stored,
                        (winner, &columns),
                        &desired,
                        pass,
                    );
                }
                None if !asks_first => {}
                Some(Contest::Free) | None => {
                    self.refusal = None;
                    put = self.put(
                        table,
                        record,
                        local_id,
                        stored.as_ref(),
                        &mut desired,
                        merged,
                        &mut differs,
                    )?;
                }
            }
        }
        match self.refusal.take() {
            Some(reason) => clashes::set_refusal(self.connection, record.id, Some(&reason))?,
            None if record.conflicts > 0 => clashes::set_refusal(self.connection, record.id, None)?,
            None => {}
        }
        if put != Put::Done {
            record.parked = Some(REFUSED_BY_TABLE.to_owned());
            if let Some(stored) = stored {
                self.delete_row(table, local_id)?;
                pass.set_aside.entry(record.id).or_insert(stored);
                record.local_id = Some(local_id);
                record.present = false;
            }
            return Ok(());
        }
        if stored.as_ref().is_none_or(|stored| stored.values != desired) {
            pass.has_moved = true;
            self.retry_refused(record, pass)?;
        }
        if table
            .columns
            .iter()
            .zip(&desired)
            .any(|(column, value)| !is_natural(column.affinity, value))
        {
            note_conversions(self.connection, table, local_id, &desired, merged, &mut differs)?;
        }
        if stored.is_none() {
            rows::raise_high_id(self.connection, record.table, local_id)?;
        }
        record.local_id = Some(local_id);
        record.present = true;
        record.differs = differs;
        Ok(())
    }

    /// Another row has the same unique values and stays: this one waits out of its table.
    #[expect(clippy::too_many_arguments, reason = "what a row waits with is all of it")]
    fn wait_behind(
        &mut self,
        table: &Table,
        record: &mut RowRecord,
        local_id: i64,
        stored: Option<StoredRow>,
        (winner, columns): (RowId, &[String]),
        desired: &[Value],
        pass: &mut Pass,
    ) -> Result<(), SessionError> {
        if let Some(stored) = stored {
            self.delete_row(table, local_id)?;
            pass.set_aside.entry(record.id).or_insert(stored);
            record.local_id = Some(local_id);
            self.retry_behind(record.id, pass)?;
        }
        record.present = false;
        record.parked = Some(WAITS_FOR_NAME.to_owned());
        clashes::set_stand_in(self.connection, record.id, Some((winner, columns)))?;
        clashes::set_waiting_keys(self.connection, record.id, &unique_keys(table, desired))?;
        Ok(())
    }

    pub(crate) fn insert(
        &mut self,
        table: &Table,
        local_id: i64,
        desired: &[Value],
    ) -> Result<(), SessionError> {
        let values: BTreeMap<String, Value> = table
            .columns
            .iter()
            .zip(desired)
            .map(|(column, value)| (column.name.clone(), value.clone()))
            .collect();
        self.insert_row(table, local_id, &values)
    }

    pub(crate) fn update(
        &mut self,
        table: &Table,
        current: &StoredRow,
        desired: &[Value],
    ) -> Result<(), SessionError> {
        let changed: BTreeMap<String, Value> = table
            .columns
            .iter()
            .zip(desired.iter().zip(&current.values))
            .filter(|(_, (desired, current))| desired != current)
            .map(|(column, (desired, _))| (column.name.clone(), desired.clone()))
            .collect();
        self.update_columns(table, current.local_id, &changed)
    }

    /// The id a row had, when nobody stands there; else one above every id ever seen in, or
    /// referred to, in its table: SQLite hands out the ids of deleted rows again, and we must not.
    fn free_id(
        &mut self,
        table: &Table,
        record: &RowRecord,
        pass: &Pass,
    ) -> Result<i64, SessionError> {
        if let Some(id) = record.local_id
            && !pass.promised.values().any(|promised| *promised == (record.table, id))
            && app_rows::by_local_id(self.connection, table, id)?.is_none()
            && rows::at_local_id(self.connection, record.table, id)?.is_none()
            && !references::is_dangling(self.connection, record.table, id)?
        {
            return Ok(id);
        }
        if let Some(id) = self.set_aside.remove(&(record.table, record.uuid.clone()))
            && record.local_id.is_none()
            && app_rows::by_local_id(self.connection, table, id)?.is_none()
        {
            return Ok(id);
        }
        let promised = pass
            .promised
            .values()
            .filter(|(table, _)| *table == record.table)
            .map(|(_, id)| *id)
            .max()
            .unwrap_or(0);
        let high = rows::high_id(self.connection, record.table)?
            .max(app_rows::highest_local_id(self.connection, table)?)
            .max(promised);
        if let Some(id) = high.checked_add(1) {
            return Ok(id);
        }
        // The largest there is, is taken. SQLite itself tries others at random then; ours follow
        // from the row's name.
        let mut id = -nobodys_id(record.uuid.as_str());
        while app_rows::stands(self.connection, table, id)?
            || rows::at_local_id(self.connection, record.table, id)?.is_some()
            || !rows::formerly_at(self.connection, record.table, id)?.is_empty()
            || references::is_dangling(self.connection, record.table, id)?
            || pass.promised.values().any(|promised| *promised == (record.table, id))
        {
            id -= 1;
        }
        Ok(id)
    }

    pub(crate) fn resolve(
        &mut self,
        table: &str,
        document: &Value,
        pass: &Pass,
    ) -> Result<(Resolved, Option<RowId>), SessionError> {
        let Some(uuid) =
            document.as_text().filter(|text| *text != NOWHERE).and_then(SyncUuid::parse)
        else {
            return Ok((Resolved::Nothing, None));
        };
        let Some(table) = self.find_table(table)? else { return Ok((Resolved::NotYet, None)) };
        let Some(target) = rows::find(self.connection, table, &uuid)? else {
            return Ok((Resolved::NotYet, None));
        };
        if target.parked.as_deref() == Some(WAITS_FOR_NAME)
            && let Some((winner, _)) = clashes::stand_in(self.connection, target.id)?
        {
            // Until it is decided which of the two it shall be, the one that stays is shown.
            let winner = rows::get(self.connection, winner)?;
            if let (true, Some(id)) = (winner.present, winner.local_id) {
                return Ok((Resolved::Instead(id), Some(target.id)));
            }
            if let Some((_, id)) = pass.promised.get(&winner.id) {
                return Ok((Resolved::Instead(*id), Some(target.id)));
            }
        }
        let resolved = match (target.present, target.local_id, pass.promised.get(&target.id)) {
            (true, Some(id), _) => Resolved::To(id),
            (_, _, Some((_, id))) => Resolved::To(*id),
            _ if self.document(target.id)?.is_empty() || target.parked.is_some() => {
                Resolved::NotYet
            }
            _ => Resolved::Nothing,
        };
        Ok((resolved, Some(target.id)))
    }

    /// What a reference shows; `None` when the row must wait for its target. A row that gives way
    /// in a circle stands where it was.
    #[expect(clippy::too_many_arguments, reason = "what a reference shows depends on all of it")]
    fn reference_shown(
        &mut self,
        table: &Table,
        column: &Column,
        target_table: &str,
        record: &RowRecord,
        merged: &Row,
        now: Option<&Value>,
        pass: &Pass,
        differs: &mut Differences,
    ) -> Result<Option<Value>, SessionError> {
        let document = merged.fields.get(&column.name).cloned().unwrap_or(Value::Null);
        if table.is_tree(column)
            && let Some(ring) = self.ring_around(record, column)?
            && ring.yielding == record.id
        {
            let shown = self.reference_to(
                table,
                column,
                target_table,
                record,
                ring.way_back,
                now,
                pass,
                differs,
            )?;
            if let Some(shown) = &shown {
                differs.insert(
                    column.name.clone(),
                    Difference::of_kind(document, shown.clone(), DifferenceKind::Ring),
                );
            }
            return Ok(shown);
        }
        self.reference_to(table, column, target_table, record, document, now, pass, differs)
    }

    /// The local id a reference shows; `None` when the row must wait for its target.
    #[expect(clippy::too_many_arguments, reason = "what a reference shows depends on all of it")]
    fn reference_to(
        &mut self,
        table: &Table,
        column: &Column,
        target_table: &str,
        record: &RowRecord,
        document: Value,
        now: Option<&Value>,
        pass: &Pass,
        differs: &mut Differences,
    ) -> Result<Option<Value>, SessionError> {
        if document.is_null() {
            if let Some(kept) = keep_difference(column, record, &document, now, differs) {
                return Ok(Some(kept));
            }
            return Ok(Some(empty_reference(
                profile::is_storymaster(&self.schema),
                table,
                column,
                record,
                &document,
                differs,
            )));
        }
        if let Value::Integer(sentinel) = document {
            // What the app writes for "none" means the same everywhere, unless somebody has a row
            // there.
            let schema = std::sync::Arc::clone(&self.schema);
            let is_taken = match schema.table(target_table) {
                Some(target) => {
                    app_rows::stands(self.connection, target, sentinel)? && now != Some(&document)
                }
                None => false,
            };
            return Ok(Some(if is_taken {
                empty_reference(
                    profile::is_storymaster(&self.schema),
                    table,
                    column,
                    record,
                    &document,
                    differs,
                )
            } else {
                document
            }));
        }
        let (resolved, target) = self.resolve(target_table, &document, pass)?;
        match resolved {
            Resolved::To(id) => return Ok(Some(Value::Integer(id))),
            Resolved::Instead(id) => {
                differs.insert(
                    column.name.clone(),
                    Difference::of_kind(document, Value::Integer(id), DifferenceKind::StandIn),
                );
                return Ok(Some(Value::Integer(id)));
            }
            Resolved::NotYet | Resolved::Nothing => {}
        }
        if let Some(kept) = keep_difference(column, record, &document, now, differs) {
            return Ok(Some(kept));
        }
        // The app itself removed the target and left this row behind: its integer stays as it is.
        if let (Some(now), Some(target)) = (now, target)
            && self.left_here.contains(&target)
            && record
                .differs
                .get(&column.name)
                .is_none_or(|difference| difference.kind != DifferenceKind::Ring)
            && !self.former_ids.contains_key(&target)
        {
            differs.insert(column.name.clone(), Difference::new(document, token(now)));
            return Ok(Some(now.clone()));
        }
        if matches!(resolved, Resolved::NotYet) && column.not_null {
            match now {
                // It stands already: it can't be taken away again, so the reference waits alone.
                Some(now) => {
                    differs.insert(column.name.clone(), Difference::new(document, token(now)));
                    return Ok(Some(now.clone()));
                }
                None => return Ok(None),
            }
        }
        Ok(Some(empty_reference(
            profile::is_storymaster(&self.schema),
            table,
            column,
            record,
            &document,
            differs,
        )))
    }
}

/// A time of the row. Where no document knows it: what stands in the table, else what stood there
/// before.
fn time_shown(
    column: &Column,
    record: &RowRecord,
    document: &Value,
    now: Option<&Value>,
    differs: &mut Differences,
) -> Value {
    if known_stamp(document).is_some() {
        return document.clone();
    }
    if let Some(told) = record.differs.get(&column.name) {
        differs.insert(column.name.clone(), told.clone());
    }
    match now.filter(|now| !now.is_null()) {
        Some(now) => now.clone(),
        None => unknown_time(column, record),
    }
}

/// The instant of a document's stamp, for whoever needs one.
pub(crate) fn known_stamp(value: &Value) -> Option<&str> {
    value.as_text().filter(|text| *text != UNKNOWN_STAMP && Stamp::parse(text).is_some())
}

/// What a table shows for a time no document knows: what the sender's table said, the time the old
/// scripts gave every row of a file (which says as little), or the epoch.
pub(crate) fn unknown_time(column: &Column, record: &RowRecord) -> Value {
    match record.differs.get(&column.name) {
        Some(told) => told.shown.clone(),
        None => column.baked_default().map_or_else(|| Value::from(UNKNOWN_STAMP), Value::from),
    }
}

/// What a reference to a row of a table that is left alone here shows: what this file's app wrote
/// there.
fn local_shown(
    column: &Column,
    record: &RowRecord,
    merged: &Row,
    now: Option<&Value>,
    differs: &mut Differences,
) -> Value {
    let document = merged.fields.get(&column.name).cloned().unwrap_or(Value::Null);
    let shown = match now {
        Some(now) => now.clone(),
        None if column.not_null => Value::Integer(nobodys_id(record.uuid.as_str())),
        None => Value::Null,
    };
    if shown != document {
        differs.insert(column.name.clone(), Difference::new(document, token(&shown)));
    }
    shown
}

/// Whether a row stands in a table: one without a column that could mark it as deleted shows only
/// those that are not.
pub(crate) fn stands_in(table: &Table, merged: &Row) -> bool {
    merged.stands() && (merged.deletion.is_none() || table.with_role(&Role::DeletedAt).is_some())
}

/// A difference that still holds keeps the table's value as it stands.
pub(crate) fn keep_difference(
    column: &Column,
    record: &RowRecord,
    document: &Value,
    now: Option<&Value>,
    differs: &mut Differences,
) -> Option<Value> {
    let difference = record.differs.get(&column.name).filter(|difference| {
        difference.document == *document
            && !matches!(difference.kind, DifferenceKind::StandIn | DifferenceKind::Ring)
    })?;
    let now = now?;
    if token(now) != difference.shown {
        return None;
    }
    differs.insert(column.name.clone(), difference.clone());
    Some(now.clone())
}

/// What a reference shows that leads to no row: NULL, or a number no row has where the column
/// refuses it.
fn empty_reference(
    is_storymaster: bool,
    table: &Table,
    column: &Column,
    record: &RowRecord,
    document: &Value,
    differs: &mut Differences,
) -> Value {
    let keyed = table.uniques.iter().any(|unique| unique.contains(&column.name));
    let shown = match (column.not_null, keyed) {
        (false, _) => Value::Null,
        // Storymaster puts no row under 0, and other apps may.
        (true, false) if is_storymaster => Value::Integer(0),
        (true, _) => Value::Integer(nobodys_id(
            document.as_text().filter(|text| *text != NOWHERE).unwrap_or(record.uuid.as_str()),
        )),
    };
    if shown != *document {
        differs.insert(column.name.clone(), Difference::new(document.clone(), shown.clone()));
    }
    shown
}

/// Whether a column stores a value without converting it. SQLite reads numbers in text with blanks
/// around them, too ("Column Affinity", `applyNumericAffinity`).
pub(crate) fn is_natural(affinity: Affinity, value: &Value) -> bool {
    match value {
        Value::Null | Value::Blob(_) => true,
        Value::Integer(_) => !matches!(affinity, Affinity::Text | Affinity::Real),
        Value::Real(_) => matches!(affinity, Affinity::Real | Affinity::Blob),
        Value::Text(_) => {
            matches!(affinity, Affinity::Text | Affinity::Blob)
                || value.as_text().is_some_and(|text| text.trim_ascii().parse::<f64>().is_err())
        }
    }
}

/// The table may have converted what was written (a text into a number, say): that is no edit of
/// the app's.
fn note_conversions(
    connection: &rusqlite::Connection,
    table: &Table,
    local_id: i64,
    desired: &[Value],
    merged: &Row,
    differs: &mut Differences,
) -> Result<(), SessionError> {
    let Some(stored) = app_rows::by_local_id(connection, table, local_id)? else { return Ok(()) };
    for ((column, stored), desired) in stored.columns(table).zip(desired) {
        if column.role == Role::Field && stored != desired {
            let document = merged.fields.get(&column.name).cloned().unwrap_or(Value::Null);
            differs.insert(column.name.clone(), Difference::new(document, token(stored)));
        }
    }
    Ok(())
}
