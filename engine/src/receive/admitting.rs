//! Looks at what came before it joins a document: changes are decoded and checked, rows that came
//! as columns are read by the table they belong to.

use super::Reception;
use crate::error::TransactionError;
use crate::exchange::wire::RowChange;
use crate::store::log::{self, pending};
use crate::store::quarantine::{self, BytesHash};
use crate::store::rows::{RowId, RowRecord};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use storysync_crdt::{ApplyError, Change, EntityId, SyncUuid, TableName};

impl Reception<'_, '_> {
    /// A row that came as columns, not as changes.
    pub(super) fn receive_described(
        &mut self,
        known: Option<RowRecord>,
        entity: &EntityId,
        change: &RowChange,
    ) -> Result<(), TransactionError> {
        let EntityId { table, uuid } = entity;
        if let Some(reason) = self.plain_refusal(table, uuid, known.as_ref(), change)? {
            self.receipt.refuse(format!("{table}/{uuid} was refused: {reason}"));
            return Ok(());
        }
        let record = match known {
            Some(record) => record,
            None if change.data.is_none() => {
                self.receipt.refuse(format!(
                    "{table}/{uuid} is unknown here and came with neither data \
                    nor automerge changes"
                ));
                return Ok(());
            }
            None => self.new_record(table, uuid)?,
        };
        self.receive_plain_row(&record, change)
    }

    /// Reads one change as it was sent. What is refused once is not looked at again.
    pub(super) fn decode(
        &mut self,
        text: &str,
        row: Option<RowId>,
    ) -> Result<Result<Change, String>, TransactionError> {
        let Ok(bytes) = STANDARD.decode(text) else {
            return Ok(Err("it is not base64".to_owned()));
        };
        let name: Option<BytesHash> =
            (!self.quarantined.is_empty()).then(|| quarantine::name(&bytes));
        if name.is_some_and(|name| self.quarantined.contains(&name)) {
            return Ok(Err("it was refused before".to_owned()));
        }
        match Change::decode_received(&bytes) {
            Ok(change) => Ok(Ok(change)),
            Err(error) => {
                let name = name.unwrap_or_else(|| quarantine::name(&bytes));
                quarantine::add(
                    self.connection,
                    &name,
                    self.sender.peer,
                    row,
                    &error.to_string(),
                    self.now.unix_ms(),
                )?;
                self.quarantined.insert(name);
                Ok(Err(error.to_string()))
            }
        }
    }

    pub(super) fn receive_change(
        &mut self,
        entity: &EntityId,
        row: RowId,
        change: Change,
    ) -> Result<bool, TransactionError> {
        let EntityId { table, uuid } = entity;
        let origin = Some(self.sender.peer);
        tracing::trace!(change = %change.hash().to_hex(), from = %self.sender.device_id,
            "a change came");
        match self.admit(row, change.clone(), origin)? {
            Ok(new) => Ok(new),
            Err(ApplyError::MissingDependencies(_)) => {
                if pending::add(self.connection, row, &change, origin, self.now.unix_ms())? {
                    self.receipt.waiting += 1;
                } else {
                    self.receipt.refuse(too_many_wait(table, uuid));
                }
                Ok(false)
            }
            Err(error) => {
                tracing::warn!(table = table.as_str(), row = uuid.as_str(),
                    hash = %change.hash().to_hex(), %error, "a change was refused");
                self.receipt.refuse(format!("a change of {table}/{uuid} was refused: {error}"));
                self.receipt.equivocated |=
                    error == ApplyError::Equivocation && self.sent_both(row, &change)?;
                // Not quarantined: the bytes may be right elsewhere, or later.
                Ok(false)
            }
        }
    }

    /// Whether the sender itself wrote this change and sent us the other one of that name, too.
    /// Whatever came through somebody else may have been forged there, and proves nothing.
    pub(super) fn sent_both(
        &mut self,
        row: RowId,
        change: &Change,
    ) -> Result<bool, TransactionError> {
        if self.sender.device.is_none() || change.actor().device() != self.sender.device {
            return Ok(false);
        }
        let Some(other) =
            self.document(row)?.change_of(change.actor(), change.seq()).map(Change::hash)
        else {
            return Ok(false);
        };
        Ok(log::sender(self.connection, &other)? == Some(self.sender.peer))
    }

    /// Changes that waited for what has just come.
    pub(super) fn retry_pending(&mut self, row: RowId) -> Result<(), TransactionError> {
        loop {
            let mut progress = false;
            for (change, origin) in pending::of_row(self.connection, row)? {
                let hash = change.hash();
                match self.admit(row, change, origin)? {
                    Err(ApplyError::MissingDependencies(_)) => {}
                    outcome => {
                        if let Err(error) = outcome {
                            self.receipt
                                .refuse(format!("a change that waited was refused: {error}"));
                        }
                        pending::remove(self.connection, &hash)?;
                        progress = true;
                    }
                }
            }
            if !progress {
                return Ok(());
            }
        }
    }
}

pub(super) fn too_many_wait(table: &TableName, uuid: &SyncUuid) -> String {
    format!(
        "a change of {table}/{uuid} builds on changes that never came, and too many such wait \
            already"
    )
}
