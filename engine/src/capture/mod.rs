//! What did the app write? Every line of the outbox is a hint to look at a row; the row is compared
//! with what its table was last made to show, and only what differs becomes a change.

mod deriving;

use std::collections::{BTreeMap, BTreeSet};

use storysync_crdt::{
    Arrivals, Base, Change, DeletionKind, DeviceKey, EditPurpose, Edits, Form, NOWHERE, Row, Seen,
    Stamp, SyncUuid, VALUE_BYTES_MAX, Value, Written, deletion, edits, key, key_uuid,
    row as row_of,
};

use crate::app::rows::{self as app_rows, StoredRow};
use crate::app::schema::{Column, Role, Table};
use crate::error::SessionError;
use crate::project::{REFUSED_BY_TABLE, known_stamp, stands_in, token, unknown_time};
use crate::store::clashes;
use crate::store::log;
use crate::store::notices;
use crate::store::outbox::{self, Hint, Operation};
use crate::store::references;
use crate::store::rows::{self, Difference, DifferenceKind, RowId, RowRecord, TableId};
use crate::transaction::Session;

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

impl Session<'_> {
    /// Turns everything the app wrote since the last time into changes. Returns the rows that
    /// changed.
    pub(crate) fn drain(&mut self) -> Result<BTreeSet<RowId>, SessionError> {
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
    pub(crate) fn compare_tables(
        &mut self,
        names: &BTreeSet<String>,
    ) -> Result<BTreeSet<RowId>, SessionError> {
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
        for name in self.came_back.clone() {
            let Some(id) = self.find_table(&name)? else { continue };
            // One that was made again and is empty is none that was filled anew.
            let is_filled = match self.schema.table(&name) {
                Some(table) => !app_rows::is_empty(self.connection, table)?,
                None => false,
            };
            let dropped = is_filled && self.dropped.contains(&name);
            for row in rows::absent_in(self.connection, id)? {
                let record = rows::get(self.connection, row)?;
                if dropped
                    && (record.local_id.is_some() || self.former_ids.contains_key(&row))
                    && record.parked.is_none()
                {
                    self.capture_delete(row, self.now)?;
                }
                shown.insert(row);
            }
        }
        self.settle(shown.clone())?;
        touched.extend(shown);
        Ok(touched)
    }

    fn look(
        &mut self,
        tables: BTreeMap<String, TableHints>,
        reason: Reason,
    ) -> Result<BTreeSet<RowId>, SessionError> {
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
        if reason == Reason::Written && !self.new_columns.is_empty() {
            // An upgrade of the app that adds a column fills it in all rows, or in most.
            for table in schema
                .tables()
                .filter(|table| self.new_columns.iter().any(|(name, _)| name == table.name()))
            {
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
        for old in &self.replaced {
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
            self.capture_row(table, id, &row, &hint, reason)?;
            touched.insert(id);
        }
        // Children left behind are named once all deletes of this drain are known.
        self.settle(touched.clone())?;
        Ok(touched)
    }

    /// Which entity stands under each local id now, and which stand nowhere any more.
    fn identify(
        &mut self,
        table: &Table,
        mut hints: TableHints,
        reason: Reason,
    ) -> Result<Identified, SessionError> {
        let table_id = self.table_id(&table.name)?;
        let mut found = Identified::default();
        let mut uncertain: BTreeMap<RowId, Option<Stamp>> = BTreeMap::new();
        for (uuid, at) in &hints.uuids {
            let Some(uuid) = SyncUuid::parse(uuid) else { continue };
            if let Some(id) = app_rows::local_id_of(self.connection, table, &uuid)? {
                hints.ids.entry(id).or_default();
            }
            if let Some(record) = rows::find(self.connection, table_id, &uuid)?
                && record.present
            {
                if let Some(id) = record.local_id {
                    let hint = hints.ids.entry(id).or_default();
                    hint.at = hint.at.max(*at);
                }
                uncertain.insert(record.id, *at);
            }
        }
        let mut present = Vec::new();
        for (id, hint) in hints.ids {
            let row = app_rows::by_local_id(self.connection, table, id)?;
            let holder = rows::at_local_id(self.connection, table_id, id)?;
            if let Some(row) = row {
                rows::raise_high_id(self.connection, table_id, id)?;
                // An id that was handed out again to another row says nothing.
                let mut replaced = holder.as_ref().filter(|_| !hint.deleted || hint.placed);
                // Deleted and put back under its id it is the same row, if anything of it is left:
                // an import may put another there.
                if let Some(holder) = replaced
                    && (hint.deleted || reason == Reason::Rebuilt)
                    && !self.is_continued(table, holder, &row)?
                {
                    replaced = None;
                }
                let uuid = self.uuid_of(table, table_id, &row, replaced)?;
                if let Some(holder) = holder.filter(|holder| holder.uuid != uuid) {
                    // Another row stands here now: replaced, or moved away, or overwritten by a
                    // stale object.
                    let displaced =
                        hint.displaced.iter().any(|displaced| displaced == holder.uuid.as_str());
                    self.release(&holder, displaced)?;
                    // One that came with a name of its own is a stranger to those who referred to
                    // the deleted one.
                    if !displaced && (!hint.deleted || hint.placed && row.uuid(table).is_none()) {
                        self.replaced.insert(holder.id);
                    }
                    if displaced
                        && app_rows::local_id_of(self.connection, table, &holder.uuid)?.is_none()
                    {
                        found.moved.insert(holder.id);
                        uncertain.remove(&holder.id);
                    } else {
                        uncertain.insert(holder.id, hint.at);
                    }
                }
                present.push((uuid, row, hint));
            } else if let Some(holder) = holder {
                self.release(&holder, false)?;
                uncertain.insert(holder.id, hint.at);
            }
        }
        for (uuid, row, hint) in present {
            let mut record = rows::find_or_create(self.connection, table_id, &uuid)?;
            uncertain.remove(&record.id);
            if !record.present || record.local_id != Some(row.local_id) {
                found.moved.insert(record.id);
                if !self.document(record.id)?.is_empty() || record.version == 0 {
                    found.misled.extend(self.take_over_id(&record, row.local_id)?);
                }
                found.resolving.extend(references::take_dangling(
                    self.connection,
                    table_id,
                    row.local_id,
                )?);
                record.local_id = Some(row.local_id);
                record.present = true;
                record.parked = None;
                rows::save(self.connection, &record)?;
            }
            found.standing.push((record.id, row, hint));
        }
        for (id, at) in uncertain {
            let record = rows::get(self.connection, id)?;
            match app_rows::local_id_of(self.connection, table, &record.uuid)? {
                Some(_) if record.present => {}
                // It stands elsewhere, under an id no hint named: look there too.
                Some(local_id) => {
                    if let Some(row) = app_rows::by_local_id(self.connection, table, local_id)? {
                        let moved = RowRecord { local_id: Some(local_id), present: true, ..record };
                        rows::save(self.connection, &moved)?;
                        found.moved.insert(id);
                        found.standing.push((id, row, IdHint { at, ..IdHint::default() }));
                    }
                }
                None => found.gone.push((id, at)),
            }
        }
        Ok(found)
    }

    /// A row no longer stands under the id we believed. `forget_id` when another row keeps that id.
    fn release(&mut self, record: &RowRecord, forget_id: bool) -> Result<(), SessionError> {
        let local_id = if forget_id { None } else { record.local_id };
        rows::save(self.connection, &RowRecord { present: false, local_id, ..record.clone() })?;
        Ok(())
    }

    /// SQLite has handed the id of a deleted row out again. Rows that still hold that id must not
    /// lead to the newcomer: they are returned, to be shown without a target.
    fn take_over_id(
        &mut self,
        newcomer: &RowRecord,
        local_id: i64,
    ) -> Result<BTreeSet<RowId>, SessionError> {
        let mut misled = BTreeSet::new();
        for former in rows::formerly_at(self.connection, newcomer.table, local_id)? {
            if former.id == newcomer.id || self.replaced.contains(&former.id) {
                continue;
            }
            self.release(&former, true)?;
            self.former_ids.insert(former.id, local_id);
            for referrer in references::referrers(self.connection, former.id)? {
                let mut record = rows::get(self.connection, referrer)?;
                record.differs.retain(|_, difference| {
                    difference.document.as_text() != Some(former.uuid.as_str())
                        || difference.shown.as_integer() != Some(local_id)
                });
                rows::save(self.connection, &record)?;
                misled.insert(referrer);
            }
        }
        Ok(misled)
    }

    /// Whether a row goes on from what stood under its id: a text of both shares a word, or one of
    /// them has none.
    fn is_continued(
        &mut self,
        table: &Table,
        holder: &RowRecord,
        row: &StoredRow,
    ) -> Result<bool, SessionError> {
        let before = row_of(self.document(holder.id)?).fields;
        let mut compared = false;
        for (column, value) in row.columns(table).filter(|(column, _)| column.role == Role::Field) {
            let (Some(now), Some(before)) =
                (value.as_text(), before.get(&column.name).and_then(Value::as_text))
            else {
                continue;
            };
            compared = true;
            let words: BTreeSet<String> =
                before.split_whitespace().map(str::to_lowercase).collect();
            if now.split_whitespace().any(|word| words.contains(&word.to_lowercase())) {
                return Ok(true);
            }
        }
        Ok(!compared)
    }

    /// The uuid of a row of the app's. One without takes that of the row last seen under its id
    /// (the app replaced or rebuilt it); keys that travel name their rows themselves.
    fn uuid_of(
        &mut self,
        table: &Table,
        table_id: TableId,
        row: &StoredRow,
        holder: Option<&RowRecord>,
    ) -> Result<SyncUuid, SessionError> {
        let own = row.uuid(table);
        let known = match &own {
            Some(uuid) => rows::find(self.connection, table_id, uuid)?.is_some(),
            None => false,
        };
        let wanted = match own.clone().filter(|_| known) {
            Some(uuid) => uuid,
            None => self.name_row(table, table_id, row, own.clone(), holder)?,
        };
        if own.as_ref() != Some(&wanted) {
            let fill = BTreeMap::from([("sync_uuid".to_owned(), Value::from(wanted.as_str()))]);
            self.update_columns(table, row.local_id, &fill)?;
        }
        Ok(wanted)
    }

    /// Names a row that nobody knows by its own uuid: as the row it takes the place of, by its key,
    /// by its own uuid, as the row that stood there before its table was dropped, or anew. Names
    /// that another row of the table bears by now are passed over.
    fn name_row(
        &mut self,
        table: &Table,
        table_id: TableId,
        row: &StoredRow,
        own: Option<SyncUuid>,
        holder: Option<&RowRecord>,
    ) -> Result<SyncUuid, SessionError> {
        let replaced = if own.is_none() { holder.map(|holder| holder.uuid.clone()) } else { None };
        let by_key = self.uuid_by_key(table, row)?;
        let vanished = if own.is_none() { self.vanished_from(table, table_id, row)? } else { None };
        for candidate in [replaced, by_key, own, vanished].into_iter().flatten() {
            if app_rows::local_id_of(self.connection, table, &candidate)?
                .is_none_or(|bearer| bearer == row.local_id)
            {
                return Ok(candidate);
            }
        }
        self.random_uuid()
    }

    /// The row that stood under a local id when its table was dropped, and was never deleted.
    fn vanished_from(
        &mut self,
        table: &Table,
        table_id: TableId,
        row: &StoredRow,
    ) -> Result<Option<SyncUuid>, SessionError> {
        for former in rows::formerly_at(self.connection, table_id, row.local_id)? {
            let document = self.document(former.id)?;
            if !document.is_empty()
                && deletion(document).is_none()
                && self.is_continued(table, &former, row)?
            {
                return Ok(Some(former.uuid));
            }
        }
        Ok(None)
    }

    /// The name a key that travels gives its row; none when part of the key leads nowhere, because
    /// then other rows have the same key elsewhere.
    fn uuid_by_key(
        &mut self,
        table: &Table,
        row: &StoredRow,
    ) -> Result<Option<SyncUuid>, SessionError> {
        let mut key = Vec::new();
        for (column, value) in
            row.columns(table).filter(|(column, _)| table.natural_key.contains(&column.name))
        {
            // The row has no name yet, so nothing can be noted about it.
            key.push((column, self.travelling(column, value, RowId(0))?));
        }
        if key.is_empty() || key.iter().any(|(column, value)| leads_nowhere(column, value)) {
            return Ok(None);
        }
        Ok(Some(key_uuid(
            &table.name,
            key.iter().map(|(column, value)| (column.name.as_str(), value)),
        )))
    }

    pub(crate) fn random_uuid(&self) -> Result<SyncUuid, SessionError> {
        let text: String = self
            .connection
            .prepare_cached(&format!("SELECT {}", crate::app::triggers::RANDOM_UUID))?
            .query_row([], |row| row.get(0))?;
        Ok(SyncUuid::parse(&text).ok_or(rusqlite::Error::QueryReturnedNoRows)?)
    }

    /// A captured value as documents hold it: references by the uuid of the row that stands there.
    fn travelling(
        &mut self,
        column: &Column,
        value: &Value,
        referrer: RowId,
    ) -> Result<Value, SessionError> {
        let Role::Reference { table } = &column.role else { return Ok(value.clone()) };
        let Value::Integer(id) = value else {
            return Ok(if value.is_null() { Value::Null } else { Value::from(NOWHERE) });
        };
        let Some(target) = self.find_table(table)? else { return Ok(Value::from(NOWHERE)) };
        match rows::at_local_id(self.connection, target, *id)? {
            Some(record) => Ok(Value::from(record.uuid.as_str())),
            // A row that stood there and is gone: the reference keeps its name, should it come
            // back.
            None if let Some(former) = rows::formerly_at(self.connection, target, *id)?.pop() => {
                Ok(Value::from(former.uuid.as_str()))
            }
            None if is_sentinel(*id) => Ok(value.clone()),
            None => {
                rows::raise_high_id(self.connection, target, *id)?;
                references::add_dangling(self.connection, target, *id, referrer)?;
                Ok(Value::from(NOWHERE))
            }
        }
    }

    /// Whether a captured value is what the table was last made to show for `document`.
    pub(crate) fn is_shown(
        &mut self,
        column: &Column,
        record: &RowRecord,
        document: &Value,
        captured: &Value,
    ) -> Result<bool, SessionError> {
        let difference = record.differs.get(&column.name).filter(|difference| {
            difference.document == *document || difference.kind == DifferenceKind::Unsent
        });
        let Role::Reference { table } = &column.role else {
            return Ok(difference
                .map_or(document == captured, |difference| difference.shown == token(captured)));
        };
        if let Some(difference) = difference {
            // An integer that led nowhere leads to a row once the app has put one there.
            let resolves = match (document.as_text(), captured, self.find_table(table)?) {
                (Some(NOWHERE) | None, Value::Integer(id), Some(target)) => {
                    rows::at_local_id(self.connection, target, *id)?.is_some()
                }
                _ => false,
            };
            return Ok(difference.shown == token(captured) && !resolves);
        }
        match (document, captured) {
            (Value::Null, Value::Null) => Ok(true),
            (Value::Integer(document), Value::Integer(captured)) => Ok(document == captured),
            // The id the target had counts even when the target is gone: an id reused by another
            // row does not lead a reference to a stranger.
            (Value::Text(uuid), Value::Integer(id)) => {
                let (Some(target), Some(uuid)) = (self.find_table(table)?, SyncUuid::parse(uuid))
                else {
                    return Ok(false);
                };
                Ok(rows::find(self.connection, target, &uuid)?.is_some_and(|record| {
                    let had =
                        record.local_id == Some(*id) || self.former_ids.get(&record.id) == Some(id);
                    had && !self.replaced.contains(&record.id)
                }))
            }
            _ => Ok(false),
        }
    }

    fn is_new_column(&self, table: &Table, column: &Column) -> bool {
        self.new_columns.contains(&(table.name().to_owned(), column.name.clone()))
    }

    /// Whether a value stands in the table only because the app has just gained the column, which
    /// the document has carried all along: then the document's value is to be shown, not this one
    /// taken.
    fn is_only_filled(
        &mut self,
        table: &Table,
        column: &Column,
        id: RowId,
        captured: &Value,
        reason: Reason,
    ) -> Result<bool, SessionError> {
        if !self.is_new_column(table, column) || self.document(id)?.register(&column.name).is_none()
        {
            return Ok(false);
        }
        if reason == Reason::Rebuilt || captured.is_null() || self.filled.contains(table.name()) {
            return Ok(true);
        }
        let Some(default) = &column.default else { return Ok(false) };
        let filled = self.connection.query_row(&format!("SELECT {default}"), [], |row| {
            Ok(crate::translate::from_sql(row.get_ref(0)?))
        })?;
        Ok(filled == *captured)
    }

    fn capture_row(
        &mut self,
        table: &Table,
        id: RowId,
        stored: &StoredRow,
        hint: &IdHint,
        reason: Reason,
    ) -> Result<(), SessionError> {
        let mut record = rows::get(self.connection, id)?;
        let at = hint.at.unwrap_or(self.now);
        if record.version == 0 && self.document(id)?.is_empty() {
            return self.capture_new(table, record, stored, at);
        }
        let merged = self.shown_row(id)?;
        self.restore_unknown_times(table, &record, stored, &merged)?;
        let own = written_here(self.actor.device());
        let seen = match read_version(table, &record, stored, hint, merged.version) {
            Some(version) => Seen::at_version(self.document(id)?, version, &own),
            None => None,
        };
        let mut written = Vec::new();
        let mut only_new_columns = reason == Reason::Rebuilt || self.filled.contains(table.name());
        for (column, captured) in stored.columns(table).filter(|(column, _)| column.is_content()) {
            let document = merged.fields.get(&column.name).cloned().unwrap_or(Value::Null);
            if self.is_shown(column, &record, &document, captured)?
                || self.is_only_filled(table, column, id, captured, reason)?
            {
                continue;
            }
            if captured.size_bytes() > VALUE_BYTES_MAX {
                tracing::warn!(
                    table = table.name(),
                    column = column.name,
                    size_bytes = captured.size_bytes(),
                    "a value is too large to sync and stays here"
                );
                record.differs.insert(
                    column.name.clone(),
                    Difference::of_kind(document, token(captured), DifferenceKind::Unsent),
                );
                continue;
            }
            let travelling = self.travelling(column, captured, id)?;
            only_new_columns &= self.document(id)?.register(&column.name).is_none()
                && (reason == Reason::Rebuilt || self.is_new_column(table, column));
            let before = record.differs.remove(&column.name);
            if leads_nowhere(column, &travelling) {
                record.differs.insert(
                    column.name.clone(),
                    Difference::new(travelling.clone(), token(captured)),
                );
                if document == travelling {
                    continue;
                }
            }
            let hid_arrivals = before.is_some_and(|before| before.kind == DifferenceKind::Unsent);
            written.push(Written {
                name: column.name.clone(),
                value: travelling,
                document,
                is_field: column.role == Role::Field,
                hid_arrivals,
            });
        }
        only_new_columns &= !written.is_empty();
        let came = !written.is_empty() && !self.document(id)?.changes().iter().all(&own);
        let admitted = if came { log::admitted(self.connection, id)? } else { Vec::new() };
        let arrivals = Arrivals {
            admitted: &admitted,
            since: self.now.unix_ms().saturating_sub(PANEL_OPEN_MS_MAX),
        };
        let form = match &seen {
            Some(seen) => Form::Earlier(seen, arrivals),
            None if reason == Reason::Rebuilt || hint.deleted => Form::Everything,
            None => Form::Unknown(arrivals),
        };
        let mut edits = edits(self.document(id)?, &form, written, &own);
        let wanted = !edits.is_empty()
            && !only_new_columns
            && merged.deletion.is_none()
            && seen.is_none()
            && deletion(self.document(id)?).is_some();
        if wanted {
            // Deleted elsewhere and shown because others require it, or a brake holds it: whoever
            // writes into it wants it.
            edits.puts.insert(key::DELETED_AT.to_owned(), Value::Null);
        }
        // One that only a trigger of the app's keeps is not wanted for that.
        let is_kept = record.parked.as_deref() == Some(REFUSED_BY_TABLE) && edits.is_empty();
        edits.puts.extend(if is_kept {
            BTreeMap::new()
        } else {
            deletion_puts(table, stored, &merged, seen.as_ref())
        });
        if edits.puts.get(key::DELETED_AT).is_some_and(|deleted_at| !deleted_at.is_null()) {
            edits
                .puts
                .extend(self.left_behind(id)?.map(|left| (key::LEFT_BEHIND.to_owned(), left)));
        }
        rows::save(self.connection, &record)?;
        let saves = hint.updates.max(1);
        if reason == Reason::Rebuilt {
            // A column may have become a reference.
            self.note_document(id, Some(table))?;
        }
        if edits.is_empty() {
            // Saved, and nothing in it is new; but forms may have read the version the table has
            // shown since.
            let shown =
                stored.by_role(table, &Role::Version).as_integer().unwrap_or(merged.version);
            let unseen = shown.saturating_sub(merged.version).min(hint.updates);
            if unseen > 0 {
                self.put_captured(id, BTreeMap::new(), EditPurpose::Rewrite, None, unseen, at)?;
            }
            return Ok(());
        }
        let purpose = if only_new_columns { EditPurpose::NewColumns } else { EditPurpose::Edit };
        let Edits { puts, base, mut beside, put_back, unread, replaced } = edits;
        let counted_with_puts = !puts.is_empty();
        if counted_with_puts {
            let nowhere = table.references().filter(|(column, _)| {
                puts.get(&column.name).is_some_and(|value| leads_nowhere(column, value))
            });
            let nowhere = listed(nowhere.map(|(column, _)| column.name.as_str()));
            let puts = puts
                .into_iter()
                .chain(nowhere.map(|names| (key::NOWHERE.to_owned(), names)))
                .collect();
            self.put_captured(id, puts, purpose, base.as_ref(), saves, at)?;
        }
        if !beside.is_empty() {
            beside.extend(
                listed(put_back.iter().map(String::as_str))
                    .map(|names| (key::TYPED.to_owned(), names)),
            );
            let base = Base { heads: self.document(id)?.heads().clone(), unseen: unread };
            self.put_captured(
                id,
                beside,
                purpose,
                Some(&base),
                if counted_with_puts { 1 } else { saves },
                at,
            )?;
        }
        for (column, change) in replaced {
            notices::note(self.connection, id, &column, &change, self.now.unix_ms())?;
        }
        self.note_document(record.id, Some(table))?;
        rows::save(self.connection, &record)?;
        Ok(())
    }

    /// Writes one change of what was captured, which the app saved `saves` times.
    fn put_captured(
        &mut self,
        id: RowId,
        mut puts: BTreeMap<String, Value>,
        purpose: EditPurpose,
        base: Option<&Base>,
        saves: i64,
        at: Stamp,
    ) -> Result<(), SessionError> {
        let version = storysync_crdt::version(self.document(id)?);
        puts.insert(key::VERSION.to_owned(), Value::Integer(version.saturating_add(saves)));
        if saves > 1 {
            puts.insert(key::SAVES.to_owned(), Value::Integer(saves));
        }
        if purpose != EditPurpose::Rewrite {
            puts.insert(key::UPDATED_AT.to_owned(), Value::from(at.to_table_text()));
        }
        self.edit(id, puts, purpose, base, at)
    }

    /// Times no document knows stay what they were, whatever the app or its triggers wrote there:
    /// an edit brings a time of its own.
    fn restore_unknown_times(
        &mut self,
        table: &Table,
        record: &RowRecord,
        stored: &StoredRow,
        merged: &Row,
    ) -> Result<(), SessionError> {
        let mut unknown = BTreeMap::new();
        for (role, document) in
            [(Role::CreatedAt, &merged.created_at), (Role::UpdatedAt, &merged.updated_at)]
        {
            if let (Some(column), None) = (table.with_role(&role), known_stamp(document)) {
                let time = unknown_time(column, record);
                if *stored.by_role(table, &role) != time {
                    unknown.insert(column.name.clone(), time);
                }
            }
        }
        self.update_columns(table, stored.local_id, &unknown)
    }

    fn capture_new(
        &mut self,
        table: &Table,
        mut record: RowRecord,
        stored: &StoredRow,
        at: Stamp,
    ) -> Result<(), SessionError> {
        let mut puts = BTreeMap::new();
        for (column, captured) in stored.columns(table).filter(|(column, _)| column.is_content()) {
            if captured.is_null() {
                continue;
            }
            if captured.size_bytes() > VALUE_BYTES_MAX {
                tracing::warn!(
                    table = table.name(),
                    column = column.name,
                    size_bytes = captured.size_bytes(),
                    "a value is too large to sync and stays here"
                );
                record.differs.insert(
                    column.name.clone(),
                    Difference::of_kind(Value::Null, token(captured), DifferenceKind::Unsent),
                );
                continue;
            }
            let travelling = self.travelling(column, captured, record.id)?;
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

    /// The app removed a row. Returns whether that is news.
    fn capture_delete(&mut self, id: RowId, at: Stamp) -> Result<bool, SessionError> {
        let record = rows::get(self.connection, id)?;
        self.left_here.insert(id);
        let merged = self.shown_row(id)?;
        if self.document(id)?.is_empty() || !merged.stands() {
            return Ok(false);
        }
        let at_text = at.to_table_text();
        let mut puts = BTreeMap::from([
            (key::DELETED_AT.to_owned(), Value::from(at_text.as_str())),
            (key::DELETE_KIND.to_owned(), Value::from(DeletionKind::Hard.as_str())),
            (key::UPDATED_AT.to_owned(), Value::from(at_text)),
            (key::VERSION.to_owned(), Value::Integer(merged.version.saturating_add(1))),
        ]);
        puts.extend(self.left_behind(id)?.map(|left| (key::LEFT_BEHIND.to_owned(), left)));
        self.edit(id, puts, EditPurpose::Edit, None, at)?;
        self.note_document(record.id, None)?;
        rows::save(self.connection, &record)?;
        // A row made alike on another device is this one to whoever deleted it: it must not come
        // out of its shadow.
        for twin in clashes::stands_in_for(self.connection, id)? {
            if self.are_twins(twin, id)? {
                self.capture_delete(twin, at)?;
            }
        }
        Ok(true)
    }

    /// The rows a deletion leaves without their target, as it names them: those that stand here.
    pub(crate) fn left_behind(&mut self, id: RowId) -> Result<Option<Value>, SessionError> {
        let mut left = Vec::new();
        for referrer in references::referrers(self.connection, id)? {
            let referrer = rows::get(self.connection, referrer)?;
            if referrer.present {
                left.push(storysync_crdt::left_name(&self.entity(&referrer)?));
            }
        }
        if left.is_empty() {
            return Ok(None);
        }
        let names = left.join(",");
        Ok(Some(Value::from(if names.len() > LEFT_BEHIND_BYTES_MAX {
            storysync_crdt::LEFT_ALL.to_owned()
        } else {
            names
        })))
    }
}

/// Whether a travelling value is the mark of a reference that resolves to no row.
pub(crate) fn leads_nowhere(column: &Column, value: &Value) -> bool {
    column.role != Role::Field && value.as_text() == Some(NOWHERE)
}

/// Whether an integer that is no row's id is what apps write for "none" (0, -1), and means the same
/// everywhere.
pub(crate) fn is_sentinel(id: i64) -> bool {
    (SENTINEL_MIN..=0).contains(&id)
}

/// Tells the changes that were captured from the app of this very file. What is decided beside the
/// app, no form has read.
fn written_here(device: Option<DeviceKey>) -> impl Fn(&Change) -> bool {
    move |change| {
        device.is_some()
            && change.actor().device() == device
            && EditPurpose::of(change) != EditPurpose::Decision
    }
}

/// The version a form had read that wrote the row, where it says so: it was written back lower than
/// it stood, or came with a row that was inserted again under its own name.
fn read_version(
    table: &Table,
    record: &RowRecord,
    stored: &StoredRow,
    hint: &IdHint,
    shown: i64,
) -> Option<i64> {
    if hint.base_version.is_some()
        || !hint.inserted
        || hint.deleted
        || stored.uuid(table).as_ref() != Some(&record.uuid)
    {
        return hint.base_version;
    }
    stored.by_role(table, &Role::Version).as_integer().filter(|version| *version < shown)
}

/// Names as one of our own keys lists them; `None` when there are none.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> Option<Value> {
    let names: Vec<&str> = names.collect();
    (!names.is_empty()).then(|| Value::from(names.join(",")))
}

/// What the app did to `deleted_at`: set it, put_back it, or wrote to a row that was gone.
fn deletion_puts(
    table: &Table,
    stored: &StoredRow,
    merged: &Row,
    seen: Option<&Seen>,
) -> BTreeMap<String, Value> {
    let mut puts = BTreeMap::new();
    let captured = stored.by_role(table, &Role::DeletedAt);
    let shown = merged.deletion.as_ref().map_or(&Value::Null, |deletion| &deletion.at);
    // Where the app's table has no mark, a row that stands in it is not deleted.
    let hard = merged.deletion.is_some() && !stands_in(table, merged);
    let stale_echo = seen.is_some_and(|seen| {
        seen.deletion().map_or(Value::Null, |deletion| deletion.at) == *captured
    });
    if (hard || captured != shown) && !stale_echo {
        puts.insert(key::DELETED_AT.to_owned(), captured.clone());
        if !captured.is_null() {
            puts.insert(key::DELETE_KIND.to_owned(), Value::from(DeletionKind::Soft.as_str()));
        }
    }
    puts
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
