//! The app deleted a row: the deletion, and what it left behind of rows that belonged to it.

use super::{Capture, LEFT_BEHIND_BYTES_MAX};
use crate::app::rows::StoredRow;
use crate::app::schema::{Role, Table};
use crate::error::TransactionError;
use crate::project::stands_in;
use crate::store::conflicts;
use crate::store::references;
use crate::store::rows::{self, RowId};
use crate::transaction::Transaction;
use std::collections::BTreeMap;
use storysync_crdt::{DeletionKind, EditPurpose, Row, Seen, Stamp, Value, key};

impl Capture<'_, '_> {
    /// The app removed a row. Returns whether that is news.
    pub(super) fn capture_delete(
        &mut self,
        id: RowId,
        at: Stamp,
    ) -> Result<bool, TransactionError> {
        let record = rows::get(self.connection, id)?;
        self.departed.left_here.insert(id);
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
        for twin in conflicts::stands_in_for(self.connection, id)? {
            if self.are_twins(twin, id)? {
                self.capture_delete(twin, at)?;
            }
        }
        Ok(true)
    }
}

impl Transaction<'_> {
    /// The rows a deletion leaves without their target, as it names them: those that stand here.
    pub(crate) fn left_behind(&mut self, id: RowId) -> Result<Option<Value>, TransactionError> {
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

/// Names as one of our own keys lists them; `None` when there are none.
pub(super) fn listed<'a>(names: impl Iterator<Item = &'a str>) -> Option<Value> {
    let names: Vec<&str> = names.collect();
    (!names.is_empty()).then(|| Value::from(names.join(",")))
}

/// What the app did to `deleted_at`: set it, cleared it, or wrote to a row that was gone.
pub(super) fn deletion_puts(
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
