//! Which row is it that the app wrote? Ids are handed out again, uuids are lost by
//! `INSERT OR REPLACE` and by imports; what was noted of a row before tells.

use super::{Capture, IdHint, Identified, Reason, TableHints, leads_nowhere};
use crate::app::rows::{self as app_rows, StoredRow};
use crate::app::schema::{Role, Table};
use crate::error::TransactionError;
use crate::store::references;
use crate::store::rows::{self, RowId, RowRecord, TableId};
use crate::transaction::Transaction;
use std::collections::{BTreeMap, BTreeSet};
use storysync_crdt::{Stamp, SyncUuid, Value, deletion, key_uuid, row as row_of};

impl Capture<'_, '_> {
    /// Which entity stands under each local id now, and which stand nowhere any more.
    pub(super) fn identify(
        &mut self,
        table: &Table,
        mut hints: TableHints,
        reason: Reason,
    ) -> Result<Identified, TransactionError> {
        let table_id = self.table_id(&table.name)?;
        let mut found = Identified::default();
        let mut uncertain = self.look_up_names(table, table_id, &mut hints)?;
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
                        self.departed.replaced.insert(holder.id);
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
            let id = self.note_where_it_stands(table_id, &uuid, &row, &mut found)?;
            uncertain.remove(&id);
            found.standing.push((id, row, hint));
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

    /// Notes under which id the row named `uuid` stands. When that is news, who held that id and
    /// who waited for it is noted in `found`.
    fn note_where_it_stands(
        &mut self,
        table_id: TableId,
        uuid: &SyncUuid,
        row: &StoredRow,
        found: &mut Identified,
    ) -> Result<RowId, TransactionError> {
        let mut record = rows::find_or_create(self.connection, table_id, uuid)?;
        if !record.present || record.local_id != Some(row.local_id) {
            found.moved.insert(record.id);
            if !self.document(record.id)?.is_empty() || record.version == 0 {
                found.misled.extend(self.take_over_id(&record, row.local_id)?);
            }
            let waiting = references::take_dangling(self.connection, table_id, row.local_id)?;
            found.resolving.extend(waiting);
            record.local_id = Some(row.local_id);
            record.present = true;
            record.parked = None;
            rows::save(self.connection, &record)?;
        }
        Ok(record.id)
    }

    /// SQLite has handed the id of a deleted row out again. Rows that still hold that id must not
    /// lead to the newcomer: they are returned, to be shown without a target.
    pub(super) fn take_over_id(
        &mut self,
        newcomer: &RowRecord,
        local_id: i64,
    ) -> Result<BTreeSet<RowId>, TransactionError> {
        let mut misled = BTreeSet::new();
        for former in rows::formerly_at(self.connection, newcomer.table, local_id)? {
            if former.id == newcomer.id || self.departed.replaced.contains(&former.id) {
                continue;
            }
            self.release(&former, true)?;
            self.departed.former_ids.insert(former.id, local_id);
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
}

impl Transaction<'_> {
    /// Which ids the names among the hints lead to. Returns the rows with those names that are
    /// believed to stand, and when each was written.
    fn look_up_names(
        &mut self,
        table: &Table,
        table_id: TableId,
        hints: &mut TableHints,
    ) -> Result<BTreeMap<RowId, Option<Stamp>>, TransactionError> {
        let mut uncertain = BTreeMap::new();
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
        Ok(uncertain)
    }

    /// A row no longer stands under the id we believed. `forget_id` when another row keeps that id.
    pub(super) fn release(
        &mut self,
        record: &RowRecord,
        forget_id: bool,
    ) -> Result<(), TransactionError> {
        let local_id = if forget_id { None } else { record.local_id };
        rows::save(self.connection, &RowRecord { present: false, local_id, ..record.clone() })?;
        Ok(())
    }

    /// Whether a row goes on from what stood under its id: a text of both shares a word, or one of
    /// them has none.
    pub(super) fn is_continued(
        &mut self,
        table: &Table,
        holder: &RowRecord,
        row: &StoredRow,
    ) -> Result<bool, TransactionError> {
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
    pub(super) fn uuid_of(
        &mut self,
        table: &Table,
        table_id: TableId,
        row: &StoredRow,
        holder: Option<&RowRecord>,
    ) -> Result<SyncUuid, TransactionError> {
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
    pub(super) fn name_row(
        &mut self,
        table: &Table,
        table_id: TableId,
        row: &StoredRow,
        own: Option<SyncUuid>,
        holder: Option<&RowRecord>,
    ) -> Result<SyncUuid, TransactionError> {
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
    pub(super) fn vanished_from(
        &mut self,
        table: &Table,
        table_id: TableId,
        row: &StoredRow,
    ) -> Result<Option<SyncUuid>, TransactionError> {
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
    pub(super) fn uuid_by_key(
        &mut self,
        table: &Table,
        row: &StoredRow,
    ) -> Result<Option<SyncUuid>, TransactionError> {
        let mut key = Vec::new();
        for (column, value) in
            row.columns(table).filter(|(column, _)| table.natural_key.contains(&column.name))
        {
            // The row has no name yet, so nothing can be noted about it.
            key.push((column, self.travelling(column, value, None)?));
        }
        if key.is_empty() || key.iter().any(|(column, value)| leads_nowhere(column, value)) {
            return Ok(None);
        }
        Ok(Some(key_uuid(
            &table.name,
            key.iter().map(|(column, value)| (column.name.as_str(), value)),
        )))
    }

    pub(crate) fn random_uuid(&self) -> Result<SyncUuid, TransactionError> {
        let text: String = self
            .connection
            .prepare_cached(&format!("SELECT {}", crate::app::triggers::RANDOM_UUID))?
            .query_row([], |row| row.get(0))?;
        Ok(SyncUuid::parse(&text).ok_or(rusqlite::Error::QueryReturnedNoRows)?)
    }
}
