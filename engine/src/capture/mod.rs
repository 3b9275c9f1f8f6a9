//! What did the app write? Every line of the outbox is a hint to look at a row; the row is compared
//! with what its table was last made to show, and only what differs becomes a change.

mod deletion;
mod deriving;
mod identity;
mod written;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::{Deref, DerefMut};

use storysync_crdt::{DeletionKind, EditPurpose, NOWHERE, Stamp, VALUE_BYTES_MAX, Value, key};

use crate::app::rows::{self as app_rows, StoredRow};
use crate::app::schema::{Column, Role, Table};
use crate::error::TransactionError;
use crate::project::{Circumstances, Departed, token};
use crate::store::outbox::{self, Hint, Operation};
use crate::store::references;
use crate::store::rows::{self, Difference, RowId, RowRecord};
use crate::transaction::Transaction;
pub(crate) use written::leads_nowhere;
use written::{Looked, too_large};

/// So long an app may keep a panel open that writes no version: what arrived within this time may
/// be unread by it. A day, in milliseconds.
const PANEL_OPEN_MS_MAX: i64 = 24 * 60 * 60 * 1_000;
/// The least integer that is taken for an app's way to say "none" in a reference.
const SENTINEL_MIN: i64 = -99;
/// Longest list of referring rows a delete names, in bytes; beyond that it says that it left all
/// there were.
const LEFT_BEHIND_BYTES_MAX: usize = VALUE_BYTES_MAX / 2;

/// What the outbox says of one local id.
#[derive(Debug, Clone, Default)]
struct IdHint {
    /// The oldest version a stale form wrote back.
    base_version: Option<i64>,
    /// When the last write happened.
    at: Option<Stamp>,
    /// How often the row was updated.
    updates: i64,
    /// Whether the row was inserted.
    inserted: bool,
    /// Uuids an update replaced in place.
    displaced: Vec<String>,
    /// Whether a row was deleted, or moved away, from here.
    deleted: bool,
    /// Whether a row was inserted under this id by name.
    placed: bool,
}

/// The hints for one table.
#[derive(Debug, Default)]
struct TableHints {
    ids: BTreeMap<i64, IdHint>,
    uuids: BTreeMap<String, Option<Stamp>>,
}

/// Whether a comparison follows writes of the app, or a change of its tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    Written,
    Rebuilt,
}

/// What the app changed about its tables since they were last looked at.
#[derive(Debug, Default)]
pub(crate) struct SchemaChange {
    /// Tables of which every row is compared: nothing noted what was written meanwhile.
    pub(crate) rebuilt: BTreeSet<String>,
    /// Columns, as (table, column), that were gained.
    pub(crate) new_columns: HashSet<(String, String)>,
    /// Tables that were dropped and made again, or left alone for a while.
    pub(crate) came_back: HashSet<String>,
    /// Those of them that were gone when they were last looked for: what they had is not there any
    /// more.
    pub(crate) dropped: HashSet<String>,
}

/// One look at what the app wrote.
pub(crate) struct Capture<'t, 'a> {
    transaction: &'t mut Transaction<'a>,
    schema_change: SchemaChange,
    departed: Departed,
    /// Tables of which the app has written most rows along with a column it gained: an upgrade
    /// fills it in.
    filled: HashSet<String>,
}

impl<'a> Deref for Capture<'_, 'a> {
    type Target = Transaction<'a>;

    fn deref(&self) -> &Self::Target {
        self.transaction
    }
}

impl DerefMut for Capture<'_, '_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.transaction
    }
}

impl<'t, 'a> Capture<'t, 'a> {
    pub(crate) fn new(transaction: &'t mut Transaction<'a>, schema_change: SchemaChange) -> Self {
        let (departed, filled) = (Departed::default(), HashSet::new());
        Self { transaction, schema_change, departed, filled }
    }

    /// Turns everything the app wrote since the last time into changes, and compares the tables it
    /// rebuilt. Returns the rows that changed.
    pub(crate) fn run(mut self) -> Result<BTreeSet<RowId>, TransactionError> {
        let mut captured = self.drain()?;
        captured.extend(self.compare_tables()?);
        Ok(captured)
    }

    fn project(&mut self, rows: BTreeSet<RowId>) -> Result<(), TransactionError> {
        let circumstances =
            Circumstances { departed: Some(&self.departed), ..Circumstances::default() };
        self.transaction.project_under(rows, circumstances)
    }

    fn is_as_shown(
        &mut self,
        column: &Column,
        record: &RowRecord,
        document: &Value,
        captured: &Value,
    ) -> Result<bool, TransactionError> {
        self.transaction.is_shown(column, record, document, captured, &self.departed)
    }
}

impl Capture<'_, '_> {
    /// Turns what the outbox tells of into changes.
    fn drain(&mut self) -> Result<BTreeSet<RowId>, TransactionError> {
        let hints = outbox::take(self.connection)?;
        if hints.is_empty() {
            return Ok(BTreeSet::new());
        }
        self.begin_own_writes()?;
        let mut tables: BTreeMap<String, TableHints> = BTreeMap::new();
        for hint in hints {
            tables.entry(hint.table.clone()).or_default().add(hint);
        }
        self.look(tables, Reason::Written)
    }

    /// Compares whole tables with what they were last made to show.
    fn compare_tables(&mut self) -> Result<BTreeSet<RowId>, TransactionError> {
        let names = std::mem::take(&mut self.schema_change.rebuilt);
        let mut tables: BTreeMap<String, TableHints> = BTreeMap::new();
        let schema = std::sync::Arc::clone(&self.schema);
        for table in names.iter().filter_map(|name| schema.table(name)) {
            let mut hints = TableHints::default();
            for id in app_rows::all_local_ids(self.connection, table)? {
                hints.ids.insert(id, IdHint::default());
            }
            let id = self.table_id(&table.name)?;
            for record in rows::present_in(self.connection, id)? {
                if let Some(hint) = record.local_id.and_then(|id| hints.ids.get_mut(&id)) {
                    // What came while the table was left alone is not what the app wrote over.
                    let newest = storysync_crdt::version(self.document(record.id)?);
                    hint.base_version =
                        Some(record.version).filter(|version| (1..newest).contains(version));
                }
                hints.uuids.insert(record.uuid.as_str().to_owned(), None);
            }
            tables.insert(table.name().to_owned(), hints);
        }
        if tables.is_empty() {
            return Ok(BTreeSet::new());
        }
        self.begin_own_writes()?;
        let mut touched = self.look(tables, Reason::Rebuilt)?;
        // A table that was left out shows what came meanwhile. From one that the app dropped and
        // made again, it has removed what it did not put back: an import that empties everything
        // first, say.
        let mut shown = BTreeSet::new();
        for name in self.schema_change.came_back.clone() {
            let Some(id) = self.find_table(&name)? else { continue };
            // One that was made again and is empty is none that was filled anew.
            let is_filled = match self.schema.table(&name) {
                Some(table) => !app_rows::is_empty(self.connection, table)?,
                None => false,
            };
            let dropped = is_filled && self.schema_change.dropped.contains(&name);
            for row in rows::absent_in(self.connection, id)? {
                let record = rows::get(self.connection, row)?;
                if dropped
                    && (record.local_id.is_some() || self.departed.former_ids.contains_key(&row))
                    && record.parked.is_none()
                {
                    self.capture_delete(row, self.now)?;
                }
                shown.insert(row);
            }
        }
        self.project(shown.clone())?;
        touched.extend(shown);
        Ok(touched)
    }

    fn look(
        &mut self,
        tables: BTreeMap<String, TableHints>,
        reason: Reason,
    ) -> Result<BTreeSet<RowId>, TransactionError> {
        let schema = std::sync::Arc::clone(&self.schema);
        let mut standing = Vec::new();
        let mut gone: Vec<(RowId, Option<Stamp>)> = Vec::new();
        let mut touched = BTreeSet::new();
        let mut resolving = BTreeSet::new();
        // Identities first, over all tables: a captured reference must find the row it leads to.
        for (name, hints) in tables {
            let Some(table) = schema.table(&name) else { continue };
            let found = self.identify(table, hints, reason)?;
            if table.is_local {
                // Its first rows are told, for a device that has none; what the app makes of them
                // is each device's own.
                for (record, row, hint) in found.standing {
                    if self.document(record)?.is_empty() {
                        standing.push((table, record, row, hint));
                    }
                }
                continue;
            }
            gone.extend(found.gone);
            for moved in found.moved {
                touched.extend(references::referrers(self.connection, moved)?);
                touched.insert(moved);
            }
            touched.extend(found.misled);
            resolving.extend(found.resolving);
            standing.extend(
                found.standing.into_iter().map(|(record, row, hint)| (table, record, row, hint)),
            );
        }
        if reason == Reason::Written && !self.schema_change.new_columns.is_empty() {
            // An upgrade of the app that adds a column fills it in all rows, or in most.
            for table in schema.tables().filter(|table| {
                self.schema_change.new_columns.iter().any(|(name, _)| name == table.name())
            }) {
                let written = standing.iter().filter(|(of, ..)| of.name == table.name).count();
                if written > 0
                    && written * 2 >= app_rows::all_local_ids(self.connection, table)?.len()
                {
                    self.filled.insert(table.name().to_owned());
                }
            }
        }
        for (row, at) in &gone {
            if self.capture_delete(*row, at.unwrap_or(self.now))? {
                touched.insert(*row);
            }
        }
        let mut looked_at: BTreeSet<RowId> = standing.iter().map(|(_, id, _, _)| *id).collect();
        for old in &self.departed.replaced {
            resolving.extend(references::referrers(self.connection, *old)?);
        }
        for referrer in resolving {
            let record = rows::get(self.connection, referrer)?;
            let name = self.table_name(record.table)?;
            if let (true, Some(table), Some(local_id)) = (
                record.present && looked_at.insert(referrer),
                schema.table(name.as_str()),
                record.local_id,
            ) && let Some(row) = app_rows::by_local_id(self.connection, table, local_id)?
            {
                standing.push((table, referrer, row, IdHint::default()));
            }
        }
        for (table, id, row, hint) in standing {
            self.capture_row(Looked { table, id, stored: &row, hint: &hint, reason })?;
            touched.insert(id);
        }
        // Children left behind are named once all deletes of this drain are known.
        self.project(touched.clone())?;
        Ok(touched)
    }

    fn capture_new(
        &mut self,
        table: &Table,
        mut record: RowRecord,
        stored: &StoredRow,
        at: Stamp,
    ) -> Result<(), TransactionError> {
        let mut puts = BTreeMap::new();
        for (column, captured) in stored.columns(table).filter(|(column, _)| column.is_content()) {
            if captured.is_null() {
                continue;
            }
            if captured.size_bytes() > VALUE_BYTES_MAX {
                record
                    .differs
                    .insert(column.name.clone(), too_large(table, column, captured, Value::Null));
                continue;
            }
            let travelling = self.travelling(column, captured, Some(record.id))?;
            if travelling.as_text() == Some(NOWHERE) && column.role != Role::Field {
                record.differs.insert(
                    column.name.clone(),
                    Difference::new(travelling.clone(), token(captured)),
                );
            }
            puts.insert(column.name.clone(), travelling);
        }
        puts.extend(self.prose_mark(table, stored));
        puts.insert(key::ROW.to_owned(), Value::from(record.uuid.as_str()));
        for (role, name) in [(Role::CreatedAt, key::CREATED_AT), (Role::UpdatedAt, key::UPDATED_AT)]
        {
            let written = stored.by_role(table, &role);
            let known = written.as_text().is_some_and(|text| Stamp::parse(text).is_some());
            puts.insert(
                name.to_owned(),
                if known { written.clone() } else { Value::from(at.to_table_text()) },
            );
        }
        let deleted_at = stored.by_role(table, &Role::DeletedAt).clone();
        if !deleted_at.is_null() {
            puts.insert(key::DELETE_KIND.to_owned(), Value::from(DeletionKind::Soft.as_str()));
        }
        puts.insert(key::DELETED_AT.to_owned(), deleted_at);
        let version = stored.by_role(table, &Role::Version).as_integer().unwrap_or(1).max(1);
        puts.insert(key::VERSION.to_owned(), Value::Integer(version));
        self.edit(record.id, puts, EditPurpose::Edit, None, at)?;
        self.note_document(record.id, Some(table))?;
        rows::save(self.connection, &record)?;
        Ok(())
    }
}

/// Whether an integer that is no row's id is what apps write for "none" (0, -1), and means the same
/// everywhere.
pub(crate) fn is_sentinel(id: i64) -> bool {
    (SENTINEL_MIN..=0).contains(&id)
}

#[derive(Debug, Default)]
struct Identified {
    standing: Vec<(RowId, StoredRow, IdHint)>,
    /// Known rows whose local id changed, or that must be put back under a new one.
    moved: BTreeSet<RowId>,
    gone: Vec<(RowId, Option<Stamp>)>,
    /// Rows that hold the id of a deleted row, under which another row stands now.
    misled: BTreeSet<RowId>,
    /// Rows that hold an id under which nothing stood, and now something does.
    resolving: BTreeSet<RowId>,
}

impl TableHints {
    fn add(&mut self, hint: Hint) {
        let at = Stamp::parse(&hint.at);
        let entry = self.ids.entry(hint.local_id).or_default();
        entry.at = entry.at.max(at);
        match hint.operation {
            Operation::Updated => {
                entry.updates += 1;
                entry.base_version = match (entry.base_version, hint.base_version) {
                    (Some(known), Some(new)) => Some(known.min(new)),
                    (known, new) => known.or(new),
                };
            }
            Operation::UuidChanged => entry.displaced.extend(hint.uuid.clone()),
            Operation::Deleted => entry.deleted = true,
            Operation::Inserted => entry.inserted = true,
            Operation::Placed => entry.placed = true,
            Operation::PerhapsReplaced => {}
        }
        if let Some(uuid) = hint.uuid {
            let known = self.uuids.entry(uuid).or_default();
            *known = (*known).max(at);
        }
    }
}
