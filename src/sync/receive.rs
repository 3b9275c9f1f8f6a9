//! What did a peer send? Changes are decoded and checked before anything is touched, join the documents
//! they belong to, enter the log, and are settled into the app's tables.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use storysync_crdt::{ApplyError, Change, DeviceKey, Stamp, SyncUuid, TableName, UNKNOWN_STAMP, Value, key};

use super::error::SessionError;
use super::session::{Session, Source};
use super::wire::{RowChange, StoredTimes};
use crate::app::profile::table_of_entity_type;
use crate::store::log::pending;
use crate::store::peers::{self, LoggedOperation};
use crate::store::rows::{self, Difference, RowId, RowRecord};

/// Whose changes are received.
#[derive(Debug)]
pub(super) struct Sender {
    /// Our short name of the device.
    pub(super) peer: i64,
    /// PeerId.
    pub(super) device_id: String,
    /// Its key: whoever sends rows without automerge changes has them written in its name.
    pub(super) device: Option<DeviceKey>,
    /// Whether we asked or were told.
    pub(super) source: Source,
}

/// What receiving led to.
#[derive(Debug, Clone, Default)]
pub struct Receipt {
    /// Rows of which something was new here.
    pub rows: BTreeSet<RowId>,
    /// Rows a client without automerge sent that said nothing new.
    pub unchanged: BTreeSet<RowId>,
    /// Rows of which something was refused, each with a sentence.
    pub rejected: Vec<String>,
    /// Rows whose changes wait for others.
    pub waiting: usize,
    /// Whether the peer's log turned out to be another than we knew.
    pub reset: bool,
}

impl Session<'_> {
    /// Takes in what a peer sent. Receiving the same again changes nothing.
    pub(super) fn receive(&mut self, changes: &[RowChange], sender: &Sender, announced: &BTreeMap<String, usize>) -> Result<Receipt, SessionError> {
        self.source = sender.source;
        let mut receipt = Receipt::default();
        for change in changes {
            self.receive_row(change, sender, &mut receipt)?;
        }
        let before: Vec<(RowId, bool)> =
            receipt.rows.iter().map(|id| Ok((*id, rows::get(self.connection, *id)?.present))).collect::<Result<_, SessionError>>()?;
        let mut waiting = self.brake(&receipt.rows, announced, sender.peer)?;
        waiting.extend(receipt.rows.iter().copied());
        self.settle(waiting)?;
        self.note_in_log(&before, &sender.device_id)?;
        Ok(receipt)
    }

    fn receive_row(&mut self, change: &RowChange, sender: &Sender, receipt: &mut Receipt) -> Result<(), SessionError> {
        let origin = Some(sender.peer);
        let table = TableName::parse(table_of_entity_type(&change.entity_type));
        let (Some(table), Some(uuid)) = (table, SyncUuid::parse(&change.sync_uuid)) else {
            receipt.rejected.push("a row has no usable entity_type or sync_uuid".to_owned());
            return Ok(());
        };
        if table.as_str().starts_with("sync_") || table.as_str().starts_with("sqlite_") {
            receipt.rejected.push(format!("{table} is no content table"));
            return Ok(());
        }
        let mut decoded = Vec::with_capacity(change.automerge.len());
        for text in &change.automerge {
            match STANDARD.decode(text).map_err(|_| "it is not base64".to_owned()).and_then(|bytes| Change::decode(&bytes).map_err(|error| error.to_string())) {
                Ok(change) => decoded.push(change),
                Err(reason) => receipt.rejected.push(format!("a change of {table}/{uuid} was refused: {reason}")),
            }
        }
        if decoded.is_empty() && !change.automerge.is_empty() {
            return Ok(());
        }
        let table_id = self.table_id(&table)?;
        let record = match rows::find(self.connection, table_id, &uuid)? {
            Some(record) => record,
            None => {
                let record = rows::find_or_create(self.connection, table_id, &uuid)?;
                self.is_new(record.id);
                record
            }
        };
        if change.automerge.is_empty() {
            return self.receive_plain_row(&record, change, sender, receipt);
        }
        let mut admitted = 0;
        for change in decoded {
            admitted += usize::from(self.receive_change(&table, &uuid, record.id, change, origin, receipt)?);
        }
        if admitted > 0 {
            self.retry_pending(record.id, receipt)?;
            let mut record = rows::get(self.connection, record.id)?;
            let schema = std::sync::Arc::clone(&self.schema);
            self.note_document(&mut record, schema.table(table.as_str()))?;
            record.version = storysync_crdt::row(self.document(record.id)?).version;
            if !record.present {
                remember_times(&mut record, change.stored_times.as_ref());
            }
            rows::save(self.connection, &record)?;
            receipt.rows.insert(record.id);
        }
        Ok(())
    }

    fn receive_plain_row(&mut self, record: &RowRecord, change: &RowChange, sender: &Sender, receipt: &mut Receipt) -> Result<(), SessionError> {
        let name = rows::entity(self.connection, record)?;
        if change.data.is_none() && change.operation != "delete" {
            receipt.rejected.push(format!("{name} came with neither data nor automerge changes"));
            return Ok(());
        }
        let Some(device) = sender.device else {
            receipt.rejected.push(format!("{name} came without automerge changes from a device whose key is not known"));
            return Ok(());
        };
        match self.receive_plain(record, change, sender.peer, device)? {
            Ok(new) => {
                let mut record = rows::get(self.connection, record.id)?;
                record.version = storysync_crdt::row(self.document(record.id)?).version;
                rows::save(self.connection, &record)?;
                if new {
                    receipt.rows.insert(record.id);
                } else {
                    receipt.unchanged.insert(record.id);
                }
            }
            Err(reason) => receipt.rejected.push(reason),
        }
        Ok(())
    }

    fn receive_change(
        &mut self,
        table: &TableName,
        uuid: &SyncUuid,
        row: RowId,
        change: Change,
        origin: Option<i64>,
        receipt: &mut Receipt,
    ) -> Result<bool, SessionError> {
        match self.admit(row, change.clone(), origin)? {
            Ok(new) => Ok(new),
            Err(ApplyError::MissingDependencies(_)) => {
                if pending::add(self.connection, row, &change, origin, self.now.unix_ms())? {
                    receipt.waiting += 1;
                } else {
                    receipt.rejected.push(format!("a change of {table}/{uuid} builds on changes that never came, and too many such wait already"));
                }
                Ok(false)
            }
            Err(error) => {
                tracing::warn!(table = table.as_str(), row = uuid.as_str(), hash = %change.hash().to_hex(), %error, "a change was refused");
                receipt.rejected.push(format!("a change of {table}/{uuid} was refused: {error}"));
                Ok(false)
            }
        }
    }

    /// Changes that waited for what has just come.
    fn retry_pending(&mut self, row: RowId, receipt: &mut Receipt) -> Result<(), SessionError> {
        loop {
            let mut progress = false;
            for (change, origin) in pending::of_row(self.connection, row)? {
                let hash = change.hash();
                match self.admit(row, change, origin)? {
                    Err(ApplyError::MissingDependencies(_)) => {}
                    outcome => {
                        if let Err(error) = outcome {
                            receipt.rejected.push(format!("a change that waited was refused: {error}"));
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

    fn note_in_log(&mut self, before: &[(RowId, bool)], device_id: &str) -> Result<(), SessionError> {
        let now = self.now.to_table_text();
        for (id, was_present) in before {
            let record = rows::get(self.connection, *id)?;
            let operation = match (was_present, record.present) {
                (false, true) => LoggedOperation::Create,
                (true, false) => LoggedOperation::Delete,
                _ => LoggedOperation::Update,
            };
            let table = rows::table_name(self.connection, record.table)?;
            peers::note(self.connection, device_id, table.as_str(), record.local_id.unwrap_or(0), operation, &now)?;
        }
        if !before.is_empty() {
            self.trim_log()?;
        }
        Ok(())
    }
}

/// Times no document knows: what the sender's table says is kept until the row is written.
fn remember_times(record: &mut RowRecord, told: Option<&StoredTimes>) {
    let Some(told) = told else { return };
    for (name, text) in [(key::CREATED_AT, &told.created_at), (key::UPDATED_AT, &told.updated_at)] {
        if let Some(text) = text.as_deref().filter(|text| Stamp::parse(text).is_some()) {
            let difference = Difference::new(Value::from(UNKNOWN_STAMP), Value::from(text));
            record.differs.insert(name.to_owned(), difference);
        }
    }
}
