//! What of a row is gone once a device's changes are shown: all of it, some of its texts, or a
//! link. Looks at what stands in the app's table and at what the row's document says now.

use std::collections::BTreeSet;

use storysync_crdt::{Value, characters_lost, deletion, field, key, says_nothing, says_the_same};

use crate::app::rows as app_rows;
use crate::app::schema::Role;
use crate::error::TransactionError;
use crate::store::holds::{Loss, WHOLE};
use crate::store::rows::{self, DifferenceKind, RowId, RowRecord};
use crate::transaction::Transaction;

/// A row of which a text was emptied counts by this much at least, in thousandths.
const EMPTIED_SHARE: i64 = WHOLE / 2;

/// What was counted of a row's texts and links.
#[derive(Default)]
struct Counted {
    /// Characters that stand.
    standing: usize,
    /// Characters that will stand.
    coming: usize,
    /// Characters that go.
    lost: usize,
    is_emptied: bool,
    is_unlinked: bool,
}

impl Transaction<'_> {
    /// What is gone of a row that stands and had `changes` changes before; `None` where nothing is,
    /// and nothing was noted of it.
    pub(super) fn loss_of(
        &mut self,
        id: RowId,
        changes: usize,
        earlier: Option<&Loss>,
    ) -> Result<Option<Loss>, TransactionError> {
        let record = rows::get(self.connection, id)?;
        if !record.present {
            return Ok(None);
        }
        let loss = Loss {
            table: record.table,
            row: id,
            share: WHOLE,
            held: earlier.map_or(0, |loss| loss.held),
            changes: earlier
                .map_or(i64::try_from(changes).unwrap_or(i64::MAX), |loss| loss.changes),
        };
        if deletion(self.document(id)?).is_some() {
            return Ok((!self.shows_as_deleted(id)?).then_some(loss));
        }
        let names = self.names_put_since(id, changes)?;
        if names.is_empty() {
            return Ok(None);
        }
        let counted = self.count_texts(&record, &names)?;
        let counts = counted.lost > 0 || counted.is_unlinked || earlier.is_some();
        let first = if loss.held > 0 { loss.held } else { characters(counted.standing) };
        // Cut a little each time, a text is gone as well.
        let lost = characters(counted.lost).max(first - characters(counted.coming));
        let mut share = lost.saturating_mul(WHOLE) / first.max(1);
        if counted.is_emptied {
            share = share.max(EMPTIED_SHARE);
        }
        let share = share.min(WHOLE);
        Ok(counts.then_some(Loss { share, held: first, ..loss }))
    }

    /// The columns a row's changes put after the first so many.
    pub(super) fn names_put_since(
        &mut self,
        id: RowId,
        changes: usize,
    ) -> Result<BTreeSet<String>, TransactionError> {
        let since = self.document(id)?.changes().get(changes..).unwrap_or_default();
        let names = since.iter().flat_map(storysync_crdt::Change::ops).map(|op| &*op.key);
        Ok(names.filter(|name| !key::is_bookkeeping(name)).map(str::to_owned).collect())
    }

    fn count_texts(
        &mut self,
        record: &RowRecord,
        names: &BTreeSet<String>,
    ) -> Result<Counted, TransactionError> {
        let mut counted = Counted::default();
        let name = self.table_name(record.table)?;
        let schema = std::sync::Arc::clone(&self.schema);
        let (Some(table), Some(local_id)) = (schema.table(name.as_str()), record.local_id) else {
            return Ok(counted);
        };
        let Some(stored) = app_rows::by_local_id(self.connection, table, local_id)? else {
            return Ok(counted);
        };
        for (column, value) in stored.columns(table) {
            let is_put = names.contains(&column.name);
            match (&column.role, value) {
                (Role::Field, Value::Text(text)) => {
                    let is_other = record
                        .differs
                        .get(&column.name)
                        .is_some_and(|difference| difference.kind != DifferenceKind::Held);
                    let length = text.chars().count();
                    counted.standing += length;
                    if !is_put || is_other {
                        counted.coming += length;
                        continue;
                    }
                    let after = field(self.document(record.id)?, &column.name);
                    counted.count(value, &after.unwrap_or(Value::Null));
                }
                (Role::Field, _) if is_put => {
                    let after = field(self.document(record.id)?, &column.name);
                    let text = after.as_ref().and_then(Value::as_text).unwrap_or_default();
                    counted.coming += text.chars().count();
                }
                (Role::Reference { table: target }, Value::Integer(led_to)) if is_put => {
                    let Some(target) = self.find_table(target)? else { continue };
                    let target = rows::at_local_id(self.connection, target, *led_to)?;
                    let after = field(self.document(record.id)?, &column.name);
                    counted.is_unlinked |= target.is_some_and(|target| {
                        after.as_ref().and_then(Value::as_text) != Some(target.uuid.as_str())
                    });
                }
                _ => {}
            }
        }
        Ok(counted)
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
}

impl Counted {
    /// Counts a text in whose place something else will stand.
    fn count(&mut self, before: &Value, after: &Value) {
        let text = before.as_text().unwrap_or_default();
        let length = text.chars().count();
        if says_the_same(before, after) {
            self.coming += length;
            return;
        }
        self.coming += after.as_text().map_or(0, |after| after.chars().count());
        self.lost += after.as_text().map_or(length, |after| characters_lost(text, after));
        self.is_emptied |= says_nothing(after) && !text.is_empty();
    }
}

fn characters(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
