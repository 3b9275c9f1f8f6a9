//! The app wrote a row that was known: which of its columns are edits, on top of what, and which
//! only say again what the row showed.

use super::deletion::{deletion_puts, listed};
use super::{Capture, IdHint, PANEL_OPEN_MS_MAX, Reason, is_sentinel};
use crate::app::rows::StoredRow;
use crate::app::schema::{Column, Role, Table};
use crate::error::TransactionError;
use crate::project::{Departed, known_stamp, token, unknown_time};
use crate::store::log;
use crate::store::notices;
use crate::store::references;
use crate::store::rows::{self, Difference, DifferenceKind, Parked, RowId, RowRecord};
use crate::transaction::Transaction;
use std::collections::BTreeMap;
use storysync_crdt::{
    Arrivals, Base, Change, DeviceKey, EditPurpose, Edits, Form, NOWHERE, Row, Seen, Stamp,
    SyncUuid, VALUE_BYTES_MAX, Value, Written, deletion, edits, key,
};

/// A row as the app left it, and why it is looked at.
#[derive(Clone, Copy)]
pub(super) struct Looked<'a> {
    pub(super) table: &'a Table,
    pub(super) id: RowId,
    pub(super) stored: &'a StoredRow,
    pub(super) hint: &'a IdHint,
    pub(super) reason: Reason,
}

/// How often the app saved a row before anybody looked, and when last.
pub(super) struct Saved {
    pub(super) times: i64,
    pub(super) at: Stamp,
}

/// What is known of a row, and what of it its form had read.
struct Known<'a> {
    record: &'a RowRecord,
    merged: &'a Row,
    seen: Option<&'a Seen>,
}

impl Capture<'_, '_> {
    pub(super) fn is_new_column(&self, table: &Table, column: &Column) -> bool {
        self.schema_change.new_columns.contains(&(table.name().to_owned(), column.name.clone()))
    }

    /// Whether a value stands in the table only because the app has just gained the column, which
    /// the document has carried all along: then the document's value is to be shown, not this one
    /// taken.
    pub(super) fn is_only_filled(
        &mut self,
        table: &Table,
        column: &Column,
        id: RowId,
        captured: &Value,
        reason: Reason,
    ) -> Result<bool, TransactionError> {
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

    /// What the app wrote into a row that may be known: an edit, on top of what its form had read.
    pub(super) fn capture_row(&mut self, looked: Looked<'_>) -> Result<(), TransactionError> {
        let Looked { table, id, stored, hint, reason } = looked;
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
        let (written, only_new_columns) = self.written_columns(looked, &mut record, &merged)?;
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
        let known = Known { record: &record, merged: &merged, seen: seen.as_ref() };
        self.add_deletion(looked, known, only_new_columns, &mut edits)?;
        rows::save(self.connection, &record)?;
        if reason == Reason::Rebuilt {
            // A column may have become a reference.
            self.note_document(id, Some(table))?;
        }
        if edits.is_empty() {
            return self.count_saves(looked, &merged, at);
        }
        let purpose = if only_new_columns { EditPurpose::NewColumns } else { EditPurpose::Edit };
        self.put_edits(looked, edits, purpose, at)?;
        self.note_document(record.id, Some(table))?;
        rows::save(self.connection, &record)?;
        Ok(())
    }

    /// The columns in which the app wrote something else than it was shown; whether all of them are
    /// columns it has just gained. What stays here, too large to travel, is noted in `record`.
    fn written_columns(
        &mut self,
        looked: Looked<'_>,
        record: &mut RowRecord,
        merged: &Row,
    ) -> Result<(Vec<Written>, bool), TransactionError> {
        let Looked { table, id, stored, reason, .. } = looked;
        let mut written = Vec::new();
        let mut only_new_columns = reason == Reason::Rebuilt || self.filled.contains(table.name());
        for (column, captured) in stored.columns(table).filter(|(column, _)| column.is_content()) {
            let document = merged.fields.get(&column.name).cloned().unwrap_or(Value::Null);
            if self.is_as_shown(column, record, &document, captured)?
                || self.is_only_filled(table, column, id, captured, reason)?
            {
                continue;
            }
            if captured.size_bytes() > VALUE_BYTES_MAX {
                let unsent = too_large(table, column, captured, document);
                record.differs.insert(column.name.clone(), unsent);
                continue;
            }
            let travelling = self.travelling(column, captured, Some(id))?;
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
        Ok((written, only_new_columns))
    }
}

impl Transaction<'_> {
    /// A captured value as documents hold it: references by the uuid of the row that stands there.
    pub(super) fn travelling(
        &mut self,
        column: &Column,
        value: &Value,
        referrer: Option<RowId>,
    ) -> Result<Value, TransactionError> {
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
                if let Some(referrer) = referrer {
                    references::add_dangling(self.connection, target, *id, referrer)?;
                }
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
        departed: &Departed,
    ) -> Result<bool, TransactionError> {
        let difference = record.differs.get(&column.name).filter(|difference| {
            difference.document == *document || difference.kind == DifferenceKind::Unsent
        });
        let Role::Reference { table } = &column.role else {
            return Ok(difference
                .map_or(document == captured, |difference| difference.shown == token(captured)));
        };
        if let Some(difference) = difference {
            // An integer that led nowhere leads to a row once the app has put one there.
            let is_held = difference.is_held();
            let resolves = match (document.as_text(), captured, self.find_table(table)?) {
                _ if is_held => false,
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
                    let had = record.local_id == Some(*id)
                        || departed.former_ids.get(&record.id) == Some(id);
                    had && !departed.replaced.contains(&record.id)
                }))
            }
            _ => Ok(false),
        }
    }

    /// Whether the app marked the row as deleted, or wants it back by writing into it.
    fn add_deletion(
        &mut self,
        looked: Looked<'_>,
        Known { record, merged, seen }: Known<'_>,
        only_new_columns: bool,
        edits: &mut Edits,
    ) -> Result<(), TransactionError> {
        let Looked { table, id, stored, .. } = looked;
        let is_wanted = !edits.is_empty()
            && !only_new_columns
            && merged.deletion.is_none()
            && seen.is_none()
            && deletion(self.document(id)?).is_some();
        if is_wanted {
            // Deleted elsewhere and shown because others require it, or the guard holds it: whoever
            // writes into it wants it.
            edits.puts.insert(key::DELETED_AT.to_owned(), Value::Null);
        }
        // One that only a trigger of the app's keeps is not wanted for that.
        let is_kept = record.parked == Some(Parked::Refused) && edits.is_empty();
        if !is_kept {
            edits.puts.extend(deletion_puts(table, stored, merged, seen));
        }
        if edits.puts.get(key::DELETED_AT).is_some_and(|deleted_at| !deleted_at.is_null()) {
            let left = self.left_behind(id)?;
            edits.puts.extend(left.map(|left| (key::LEFT_BEHIND.to_owned(), left)));
        }
        Ok(())
    }

    /// A row was saved, and nothing in it is new; but forms may have read the version the table has
    /// shown since.
    fn count_saves(
        &mut self,
        Looked { table, id, stored, hint, .. }: Looked<'_>,
        merged: &Row,
        at: Stamp,
    ) -> Result<(), TransactionError> {
        let shown = stored.by_role(table, &Role::Version).as_integer().unwrap_or(merged.version);
        let unseen = shown.saturating_sub(merged.version).min(hint.updates);
        if unseen > 0 {
            self.put_captured(
                id,
                BTreeMap::new(),
                EditPurpose::Rewrite,
                None,
                Saved { times: unseen, at },
            )?;
        }
        Ok(())
    }

    /// Writes what was captured of a row: what its form had read is replaced, what it had not stays
    /// beside.
    fn put_edits(
        &mut self,
        Looked { table, id, hint, .. }: Looked<'_>,
        edits: Edits,
        purpose: EditPurpose,
        at: Stamp,
    ) -> Result<(), TransactionError> {
        let Edits { puts, base, mut beside, put_back, unread, replaced } = edits;
        let mut saves = hint.updates.max(1);
        if !puts.is_empty() {
            let nowhere = table.references().filter(|(column, _)| {
                puts.get(&column.name).is_some_and(|value| leads_nowhere(column, value))
            });
            let nowhere = listed(nowhere.map(|(column, _)| column.name.as_str()));
            let puts = puts
                .into_iter()
                .chain(nowhere.map(|names| (key::NOWHERE.to_owned(), names)))
                .collect();
            self.put_captured(id, puts, purpose, base.as_ref(), Saved { times: saves, at })?;
            saves = 1;
        }
        if !beside.is_empty() {
            beside.extend(
                listed(put_back.iter().map(String::as_str))
                    .map(|names| (key::TYPED.to_owned(), names)),
            );
            let base = Base { heads: self.document(id)?.heads().clone(), unseen: unread };
            self.put_captured(id, beside, purpose, Some(&base), Saved { times: saves, at })?;
        }
        for (column, change) in replaced {
            notices::note(self.connection, id, &column, &change, self.now.unix_ms())?;
        }
        Ok(())
    }

    /// Writes one change of what was captured, which the app saved `saves` times.
    pub(super) fn put_captured(
        &mut self,
        id: RowId,
        mut puts: BTreeMap<String, Value>,
        purpose: EditPurpose,
        base: Option<&Base>,
        Saved { times: saves, at }: Saved,
    ) -> Result<(), TransactionError> {
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
    pub(super) fn restore_unknown_times(
        &mut self,
        table: &Table,
        record: &RowRecord,
        stored: &StoredRow,
        merged: &Row,
    ) -> Result<(), TransactionError> {
        let mut unknown = BTreeMap::new();
        for (role, document) in
            [(Role::CreatedAt, &merged.created_at), (Role::UpdatedAt, &merged.updated_at)]
        {
            if let (Some(column), None) = (table.with_role(&role), known_stamp(document)) {
                let time = unknown_time(column, &record.differs);
                if *stored.by_role(table, &role) != time {
                    unknown.insert(column.name.clone(), time);
                }
            }
        }
        self.update_columns(table, stored.local_id, &unknown)
    }
}

/// A value that no change holds stays where it was typed, and is told as such; `document` is what
/// others have there.
pub(super) fn too_large(
    table: &Table,
    column: &Column,
    captured: &Value,
    document: Value,
) -> Difference {
    tracing::warn!(
        table = table.name(),
        column = column.name,
        size_bytes = captured.size_bytes(),
        "a value is too large to sync and stays here"
    );
    Difference::of_kind(document, token(captured), DifferenceKind::Unsent)
}

/// Whether a travelling value is the mark of a reference that resolves to no row.
pub(crate) fn leads_nowhere(column: &Column, value: &Value) -> bool {
    column.role != Role::Field && value.as_text() == Some(NOWHERE)
}

/// Tells the changes that were captured from the app of this very file. What is decided beside the
/// app, no form has read.
pub(super) fn written_here(device: Option<DeviceKey>) -> impl Fn(&Change) -> bool {
    move |change| {
        device.is_some()
            && change.actor().device() == device
            && EditPurpose::of(change) != EditPurpose::Decision
    }
}

/// The version a form had read that wrote the row, where it says so: it was written back lower than
/// it stood, or came with a row that was inserted again under its own name.
pub(super) fn read_version(
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
