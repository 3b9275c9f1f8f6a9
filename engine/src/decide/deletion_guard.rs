//! The deletion guard: when one device's changes of an hour would delete very many rows of a table,
//! or of the file, or empty their texts, their projection (only that) waits for a yes. The
//! documents are kept and forwarded all the same.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use storysync_crdt::{Stamp, Value, deletion, field, key, says_nothing};

use crate::app::profile::table_of_entity_type;
use crate::app::rows as app_rows;
use crate::app::schema::Role;
use crate::error::{EngineError, TransactionError};
use crate::receive::Incoming;
use crate::store::holds::{self, Hold};
use crate::store::rows::{self, Difference, DifferenceKind, RowId, TableId};
use crate::transaction::Transaction;

/// Rows one device may delete, or empty the texts of, within the window, in one table or in all,
/// before any are held back.
pub const GUARD_ROWS_MAX: usize = 100;
/// One part in so many of a table, and of the file, may be deleted within the window.
pub const GUARD_TABLE_PART: usize = 5;
/// Length of the window, in milliseconds.
pub const GUARD_WINDOW_MS: i64 = 60 * 60 * 1000;

/// A hold, as every interface tells of it.
#[derive(Debug, Clone, Serialize)]
pub struct HoldReport {
    /// What `storysync approve` is given.
    pub id: String,
    /// PeerId of the device the deletions came from.
    pub device_id: String,
    /// The tables they are in, separated by commas.
    pub entity_type: String,
    /// How many rows wait.
    pub rows: i64,
    /// How many of them live and would lose texts.
    pub emptied: i64,
    /// RFC 3339, UTC.
    pub at: String,
}

impl HoldReport {
    /// What waits, in words: `300 deletions`, `120 rows whose texts were emptied`, or both.
    #[must_use]
    pub fn what(&self) -> String {
        match (self.rows - self.emptied, self.emptied) {
            (deleted, 0) => format!("{deleted} deletions"),
            (0, emptied) => format!("{emptied} rows whose texts were emptied"),
            (deleted, emptied) => {
                format!("{deleted} deletions and {emptied} rows whose texts were emptied")
            }
        }
    }

    pub(crate) fn of(hold: Hold) -> Self {
        Self {
            id: hold.id.to_string(),
            device_id: hold.device_id,
            entity_type: hold.tables,
            rows: hold.rows,
            emptied: hold.emptied,
            at: Stamp::from_unix_ms(hold.at).to_rfc3339(),
        }
    }
}

/// How a hold is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldDecision {
    /// The rows are deleted here, too, and the texts emptied.
    Approve,
    /// The rows live, and the texts are back, on all devices.
    Refuse,
}

/// How many rows a push says it deletes, by table as it calls it: slices are judged by the whole
/// they belong to.
pub(crate) fn announced(changes: &[Incoming]) -> BTreeMap<String, usize> {
    let mut announced = BTreeMap::new();
    for change in changes
        .iter()
        .map(|incoming| &incoming.change)
        .filter(|change| change.operation == "delete")
    {
        *announced.entry(change.entity_type.clone()).or_default() += 1;
    }
    announced
}

/// Texts by column.
type Texts = BTreeMap<String, Value>;

/// Whether so many deletions wait for a yes where so many rows stand, those deleted of late
/// included.
fn is_too_many(deleted: usize, standing: usize) -> bool {
    deleted > GUARD_ROWS_MAX && deleted.saturating_mul(GUARD_TABLE_PART) > standing
}

fn is_text(value: &Value) -> bool {
    value.as_text().is_some_and(|text| !text.is_empty())
}

impl Transaction<'_> {
    /// The table in which too many rows are deleted, or the first one where there are too many in
    /// the whole file; and how many there are in all, those of the last hour included.
    fn find_too_many(
        &mut self,
        deletions: &BTreeMap<TableId, Vec<RowId>>,
        earlier: &[(TableId, RowId)],
        announced: &BTreeMap<String, usize>,
    ) -> Result<(Option<TableId>, usize), TransactionError> {
        let mut too_many = None;
        let mut in_all = earlier.len();
        for (table, deleted) in deletions {
            let name = self.table_name(*table)?;
            let before = earlier.iter().filter(|(of, _)| of == table).count();
            let said = announced
                .iter()
                .filter(|(called, _)| table_of_entity_type(&self.schema, called) == name.as_str())
                .map(|(_, count)| count)
                .sum();
            let count = deleted.len().max(said);
            let standing = usize::try_from(rows::count_present(self.connection, *table)?)
                .unwrap_or(usize::MAX)
                .saturating_add(before);
            in_all += count;
            if is_too_many(before + count, standing) {
                too_many = Some(*table);
            }
        }
        let standing = usize::try_from(rows::counts(self.connection)?.entities)
            .unwrap_or(usize::MAX)
            .saturating_add(earlier.len());
        if is_too_many(in_all, standing) {
            too_many = too_many.or_else(|| deletions.keys().next().copied());
        }
        Ok((too_many, in_all))
    }

    /// Holds the deletions and the emptied texts among `received` rows when there are too many of
    /// them, those carried out within the last hour included. Returns rows that are to be settled
    /// besides.
    pub(crate) fn guard_deletions(
        &mut self,
        received: &BTreeSet<RowId>,
        announced: &BTreeMap<String, usize>,
        peer: i64,
    ) -> Result<BTreeSet<RowId>, TransactionError> {
        let now_ms = self.now.unix_ms();
        let mut deletions: BTreeMap<TableId, Vec<RowId>> = BTreeMap::new();
        let mut emptied: BTreeMap<RowId, Texts> = BTreeMap::new();
        for id in received {
            if deletion(self.document(*id)?).is_none() {
                let texts = self.emptied(*id)?;
                if texts.is_empty() {
                    self.lift_hold(*id, &BTreeMap::new())?;
                } else {
                    deletions.entry(rows::get(self.connection, *id)?.table).or_default().push(*id);
                    emptied.insert(*id, texts);
                }
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
        let since = now_ms.saturating_sub(GUARD_WINDOW_MS);
        let earlier = holds::deleted_since(self.connection, peer, since)?;
        let (too_many, in_all) = self.find_too_many(&deletions, &earlier, announced)?;
        let hold = match (holds::find(self.connection, peer)?, too_many) {
            (Some(hold), _) => hold,
            (None, Some(table)) => {
                tracing::warn!(
                    rows = in_all,
                    "one device deletes or empties very many rows; they wait for a yes"
                );
                holds::engage(self.connection, peer, table, now_ms)?
            }
            (None, None) => {
                for (table, deleted) in deletions {
                    for id in deleted {
                        holds::note_deletion(self.connection, peer, table, id, now_ms)?;
                    }
                }
                return Ok(touched);
            }
        };
        // All of it together, in whatever table: a row whose children are gone is not as it was.
        for id in deletions.into_values().flatten() {
            self.hold(hold, id)?;
            if let Some(texts) = emptied.remove(&id) {
                self.hold_texts(id, texts)?;
            }
        }
        // What was deleted or emptied before the deletion guard was on comes back until it is
        // decided.
        for (_, id) in earlier {
            if deletion(self.document(id)?).is_some() {
                self.hold(hold, id)?;
                touched.insert(id);
                continue;
            }
            let texts = self.emptied_since(id, since)?;
            if !texts.is_empty() {
                self.hold(hold, id)?;
                self.hold_texts(id, texts)?;
                touched.insert(id);
            }
        }
        Ok(touched)
    }

    /// The texts the table shows of a row and its document no longer has.
    fn emptied(&mut self, id: RowId) -> Result<Texts, TransactionError> {
        let names = self.emptied_columns(id, i64::MIN)?;
        if names.is_empty() {
            return Ok(Texts::new());
        }
        let record = rows::get(self.connection, id)?;
        let name = self.table_name(record.table)?;
        let schema = std::sync::Arc::clone(&self.schema);
        let (Some(table), Some(local_id), true) =
            (schema.table(name.as_str()), record.local_id, record.present)
        else {
            return Ok(Texts::new());
        };
        let Some(stored) = app_rows::by_local_id(self.connection, table, local_id)? else {
            return Ok(Texts::new());
        };
        let standing = stored.columns(table).filter(|(column, value)| {
            column.role == Role::Field && is_text(value) && names.contains(&column.name)
        });
        Ok(standing.map(|(column, value)| (column.name.clone(), value.clone())).collect())
    }

    /// The texts a row had before they were emptied at `since_ms` or later.
    fn emptied_since(&mut self, id: RowId, since_ms: i64) -> Result<Texts, TransactionError> {
        let names = self.emptied_columns(id, since_ms)?;
        let changes = self.document(id)?.changes();
        let before = |name: &String| {
            changes
                .iter()
                .rev()
                .filter_map(|change| change.value(name))
                .find(|value| is_text(value))
        };
        Ok(names.iter().filter_map(|name| Some((name.clone(), before(name)?.clone()))).collect())
    }

    /// The columns somebody emptied at `since_ms` or later, as the authors say.
    fn emptied_columns(
        &mut self,
        id: RowId,
        since_ms: i64,
    ) -> Result<BTreeSet<String>, TransactionError> {
        let document = self.document(id)?;
        let is_emptied = |name: &str| {
            let emptying = document
                .register(name)
                .and_then(|register| register.winner())
                .filter(|put| says_nothing(put.value()));
            let change = emptying
                .and_then(|put| document.changes().get(put.change))
                .filter(|change| !change.deps().is_empty());
            let at = change
                .and_then(|change| change.value(key::UPDATED_AT))
                .and_then(Value::as_text)
                .and_then(Stamp::parse);
            change.is_some()
                && at.map_or(i64::MAX, |at| at.unix_ms()) >= since_ms
                && field(document, name).is_none_or(|value| says_nothing(&value))
        };
        Ok(document
            .registers()
            .map(|(name, _)| name)
            .filter(|name| !key::is_bookkeeping(name) && is_emptied(name))
            .map(str::to_owned)
            .collect())
    }

    /// Lets the table go on showing texts that are empty in the row's document.
    fn hold_texts(&mut self, id: RowId, texts: Texts) -> Result<(), TransactionError> {
        let mut record = rows::get(self.connection, id)?;
        for (name, text) in texts {
            let document = field(self.document(id)?, &name).unwrap_or(Value::Null);
            record.differs.insert(name, Difference::of_kind(document, text, DifferenceKind::Held));
        }
        Ok(rows::save(self.connection, &record)?)
    }

    /// Ends the holding of a row's texts; returns them.
    fn let_texts_go(&mut self, id: RowId) -> Result<Texts, TransactionError> {
        let mut record = rows::get(self.connection, id)?;
        let is_held = |difference: &Difference| difference.kind == DifferenceKind::Held;
        let texts: Texts = record
            .differs
            .iter()
            .filter(|(_, difference)| is_held(difference))
            .map(|(name, held)| (name.clone(), held.shown.clone()))
            .collect();
        if !texts.is_empty() {
            record.differs.retain(|_, difference| !is_held(difference));
            rows::save(self.connection, &record)?;
        }
        Ok(texts)
    }

    /// Holds a row back from being deleted.
    fn hold(&mut self, hold: i64, row: RowId) -> Result<(), TransactionError> {
        self.holds_rows = Some(true);
        Ok(holds::hold(self.connection, hold, row, self.now.unix_ms())?)
    }

    /// Lets a row go that lives by somebody's word, unless texts of it are held that `puts` does
    /// not write.
    pub(crate) fn lift_hold(
        &mut self,
        row: RowId,
        puts: &BTreeMap<String, Value>,
    ) -> Result<(), TransactionError> {
        if self.holds_rows != Some(false) {
            let record = rows::get(self.connection, row)?;
            let document = self.document(row)?;
            let holds = |(name, difference): (&String, &Difference)| {
                difference.kind == DifferenceKind::Held
                    && !puts.contains_key(name)
                    && field(document, name).unwrap_or(Value::Null) == difference.document
            };
            if record.differs.iter().any(holds) {
                return Ok(());
            }
        }
        self.release_held(row)
    }

    /// Lets a row go that a hold may hold. Nearly always none does, and then it costs nothing.
    pub(crate) fn release_held(&mut self, row: RowId) -> Result<(), TransactionError> {
        let holds = match self.holds_rows {
            Some(holds) => holds,
            None => *self.holds_rows.insert(holds::hold_any(self.connection)?),
        };
        if holds {
            holds::release(self.connection, row, self.now.unix_ms())?;
        }
        Ok(())
    }

    fn shows_as_deleted(&mut self, id: RowId) -> Result<bool, TransactionError> {
        let record = rows::get(self.connection, id)?;
        let name = self.table_name(record.table)?;
        let schema = std::sync::Arc::clone(&self.schema);
        match (schema.table(name.as_str()), record.local_id) {
            (Some(table), Some(local_id)) => {
                Ok(app_rows::is_marked_deleted(self.connection, table, local_id)?)
            }
            _ => Ok(false),
        }
    }

    /// Lets held deletions through, or takes them back. Returns how many rows there were.
    pub(crate) fn decide_hold(
        &mut self,
        id: &str,
        decision: HoldDecision,
    ) -> Result<usize, TransactionError> {
        let no_such = || EngineError::NoSuchHold(id.to_owned());
        let hold: i64 = id.parse().map_err(|_| no_such())?;
        let now = self.now;
        let held = holds::decide(self.connection, hold, now.unix_ms())?.ok_or_else(no_such)?;
        for id in &held {
            let mut puts = self.let_texts_go(*id)?;
            if decision == HoldDecision::Refuse {
                if deletion(self.document(*id)?).is_some() {
                    puts.insert(key::DELETED_AT.to_owned(), Value::Null);
                }
                if !puts.is_empty() {
                    self.write_row(*id, puts, None, now)?;
                }
            }
        }
        let count = held.len();
        self.project(held.into_iter().collect())?;
        Ok(count)
    }

    /// What waits for a yes.
    pub(crate) fn holds(&mut self) -> Result<Vec<HoldReport>, TransactionError> {
        Ok(holds::waiting(self.connection)?.into_iter().map(HoldReport::of).collect())
    }
}
