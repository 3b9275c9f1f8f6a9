//! The documents in hand: read when they are asked for, written to the log as they change.

use super::Transaction;
use crate::app::schema::Table;
use crate::error::TransactionError;
use crate::store::log::{self, Appender};
use crate::store::packs::{self, PACK_CHANGES, UNPACKED_CHANGES};
use crate::store::references;
use crate::store::rows::{self, RowId};
use storysync_crdt::{
    ApplyError, Change, Document, Heads, NOWHERE, SyncUuid, TableName, Value, field,
};

impl<'a> Transaction<'a> {
    /// The row's document, from the log or as this transaction has it.
    pub(crate) fn document(&mut self, row: RowId) -> Result<&Document, TransactionError> {
        match self.documents.entry(row) {
            std::collections::hash_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
            std::collections::hash_map::Entry::Vacant(entry) => {
                Ok(entry.insert(log::document(self.connection, row)?))
            }
        }
    }

    /// The row's document as it was at `heads`; `None` when one of them is not known here.
    pub(crate) fn earlier(
        &mut self,
        row: RowId,
        heads: &Heads,
    ) -> Result<Option<&Document>, TransactionError> {
        if self.earlier.as_ref().is_none_or(|(of, at, _)| (*of, at) != (row, heads)) {
            let state = self.document(row)?.at(heads);
            self.earlier = state.map(|state| (row, heads.clone(), state));
        }
        Ok(self.earlier.as_ref().map(|(_, _, state)| state))
    }

    /// Tells that nothing is known of a row yet, which saves looking into the log.
    pub(crate) fn is_new(&mut self, row: RowId) {
        self.documents.entry(row).or_default();
    }

    /// Tells that a row's changes were taken out of the log.
    pub(crate) fn forget_document(&mut self, row: RowId) {
        self.documents.insert(row, Document::new());
    }

    /// Lets go of a document that was only read.
    pub(crate) fn let_go(&mut self, row: RowId) {
        self.documents.remove(&row);
    }

    /// Adds a change to the row's document and, when it is new and fits, to the log.
    pub(crate) fn admit(
        &mut self,
        row: RowId,
        change: Change,
        origin: Option<i64>,
    ) -> Result<Result<bool, ApplyError>, TransactionError> {
        if self.document(row)?.change(&change.hash()).is_none()
            && log::contains(self.connection, &change.hash())?
        {
            return Ok(Err(ApplyError::OtherRow));
        }
        self.admit_new(row, change, origin)
    }

    /// The same for a change that was made here a moment ago, and is no other row's: see
    /// [`Self::draft_new`].
    pub(super) fn admit_new(
        &mut self,
        row: RowId,
        change: Change,
        origin: Option<i64>,
    ) -> Result<Result<bool, ApplyError>, TransactionError> {
        self.document(row)?;
        let Some(document) = self.documents.get_mut(&row) else { return Ok(Ok(false)) };
        match document.apply(change.clone()) {
            Ok(true) => {}
            other => return Ok(other),
        }
        let count = document.changes().len();
        if count >= PACK_CHANGES + UNPACKED_CHANGES
            && (count - UNPACKED_CHANGES).is_multiple_of(PACK_CHANGES)
        {
            self.long.insert(row);
        }
        self.append(row, &change, origin)?;
        Ok(Ok(true))
    }

    /// Adds a change that fits its document to the log.
    pub(crate) fn append(
        &mut self,
        row: RowId,
        change: &Change,
        origin: Option<i64>,
    ) -> Result<(), TransactionError> {
        let appender = match &mut self.appender {
            Some(appender) => appender,
            None => self.appender.insert(Appender::new(self.connection)?),
        };
        appender.append(self.connection, row, change, origin, self.now.unix_ms())?;
        self.origins.insert(origin);
        Ok(())
    }

    /// Several documents at once.
    pub(crate) fn documents_of<const N: usize>(
        &mut self,
        ids: [RowId; N],
    ) -> Result<[Option<&Document>; N], TransactionError> {
        for id in ids {
            self.document(id)?;
        }
        Ok(ids.map(|id| self.documents.get(&id)))
    }

    /// What follows from a changed document for others: its references. What its own line says
    /// follows when it is settled.
    pub(crate) fn note_document(
        &mut self,
        row: RowId,
        table: Option<&Table>,
    ) -> Result<(), TransactionError> {
        let document = self.document(row)?;
        let Some(table) = table else { return Ok(()) };
        let mut named = Vec::new();
        for (column, target) in table.references() {
            let value = field(document, &column.name);
            if let Some(uuid) = value
                .as_ref()
                .and_then(Value::as_text)
                .filter(|text| *text != NOWHERE)
                .and_then(SyncUuid::parse)
                && let Some(target) = TableName::parse(target)
            {
                named.push((target, uuid, column.name.clone()));
            }
        }
        let mut targets = Vec::with_capacity(named.len());
        for (target, uuid, column) in named {
            let target = self.table_id(&target)?;
            targets.push((rows::find_or_create(self.connection, target, &uuid)?.id, column));
        }
        targets.sort_unstable();
        let before = references::of(self.connection, row)?;
        if before != targets {
            self.left_alone.extend(
                before
                    .iter()
                    .map(|(target, _)| *target)
                    .filter(|target| !targets.iter().any(|(known, _)| known == target)),
            );
            references::set(self.connection, row, &targets)?;
        }
        Ok(())
    }

    /// Packs the older changes of rows whose history has grown long. What is in hand of them stays
    /// as it is.
    pub(crate) fn pack_histories(&mut self) -> Result<(), TransactionError> {
        for row in std::mem::take(&mut self.long) {
            packs::pack(self.connection, row)?;
        }
        Ok(())
    }
}
