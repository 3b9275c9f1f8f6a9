//! What did a peer send? Changes are decoded and checked before anything is touched, join the
//! documents they belong to, enter the log, and are projected into the app's tables.

pub(crate) mod accepted;
mod admitting;
pub(crate) mod fast_path;
mod plain;
mod pushed;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::{Deref, DerefMut};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use storysync_crdt::{
    ApplyError, Change, DeviceKey, EntityId, RowHead, Stamp, SyncUuid, TableName, UNKNOWN_STAMP,
    Value, head_of_first, key,
};

use crate::app::profile::table_of_entity_type;
use crate::decide::deletion_guard::{Announced, Bringer};
use crate::error::TransactionError;
use crate::exchange::wire::{RowChange, StoredTimes};
use crate::migrate::renaming::TOLD_IN;
use crate::project::Circumstances;
use crate::receive::fast_path::{ArrivalsByTable, Arrived};
use crate::store::log::pending;
use crate::store::peers::{self, LoggedOperation};
use crate::store::quarantine::{self, BytesHash};
use crate::store::rows::{self, Difference, Differences, RowId, RowRecord, TableId};
use crate::transaction::{Source, Transaction};
use admitting::too_many_wait;
pub(crate) use pushed::DecidedConflict;
pub use pushed::PushedConflicts;

/// Sentences about refusals that are kept of one push or pull.
const SENTENCES_MAX: usize = 1_000;
/// Most content tables, those only other devices have included.
const TABLES_MAX: i64 = 4_096;

/// Whose changes are received.
#[derive(Debug)]
pub(crate) struct Sender {
    /// The device's integer key in `sync_peer`.
    pub(crate) peer: i64,
    /// PeerId.
    pub(crate) device_id: String,
    /// Its key: whoever sends rows without automerge changes has them written in its name.
    pub(crate) device: Option<DeviceKey>,
    /// Whether we asked or were told.
    pub(crate) source: Source,
    /// How many more changes follow, as far as is known.
    pub(crate) remaining: i64,
    /// What becomes of conflicts in the rows it sends without automerge changes.
    pub(crate) conflicts: PushedConflicts,
}

/// A row's changes as they came, read as far as that needs no look at what is here.
#[derive(Debug)]
pub struct Incoming {
    pub(crate) change: RowChange,
    /// The changes in their order; `None` for those that can't be read plainly, which receiving
    /// judges.
    pub(crate) read: Vec<Option<Change>>,
    /// How the row would stand where nobody has heard of it yet, when it is one first change and no
    /// more.
    pub(crate) arrival: Option<RowHead>,
}

impl Incoming {
    /// Reads what came: the part of receiving that can be done beside it.
    #[must_use]
    pub fn read_all(changes: Vec<RowChange>) -> Vec<Self> {
        let read = |text: &String| {
            STANDARD.decode(text).ok().and_then(|bytes| Change::decode_received(&bytes).ok())
        };
        changes
            .into_iter()
            .map(|mut change| {
                if change.sync_uuid.is_empty() {
                    change.sync_uuid = uuid_in_data(&change).unwrap_or_default().to_owned();
                }
                let read: Vec<Option<Change>> = change.automerge.iter().map(read).collect();
                Self { arrival: arrival(&change, &read), read, change }
            })
            .collect()
    }
}

impl Incoming {
    /// Whether the row may arrive the short way.
    pub(crate) fn may_arrive(&self) -> bool {
        self.arrival.is_some()
            || self.change.automerge.is_empty()
                && self.change.operation == "create"
                && self.change.data.is_some()
    }
}

/// The row as its own columns name it.
pub(crate) fn uuid_in_data(change: &RowChange) -> Option<&str> {
    change.data.as_ref()?.get("sync_uuid")?.as_str()
}

fn arrival(change: &RowChange, read: &[Option<Change>]) -> Option<RowHead> {
    let [Some(first)] = read else { return None };
    let (table, uuid) =
        (TableName::parse(&change.entity_type)?, SyncUuid::parse(&change.sync_uuid)?);
    if !first.starts(&EntityId { table, uuid }) {
        return None;
    }
    head_of_first(first)
}

/// What receiving led to.
#[derive(Debug, Clone, Default)]
pub struct Receipt {
    /// Rows of which something was new here.
    pub rows: BTreeSet<RowId>,
    /// Rows a client without automerge sent that said nothing new.
    pub unchanged: BTreeSet<RowId>,
    /// A sentence for each refusal, at most 1,000; one row may have several.
    pub rejected: Vec<String>,
    /// How many more were refused than there are sentences.
    pub rejected_more: usize,
    /// Changes that wait for the changes they build on.
    pub waiting: usize,
    /// Whether the peer's log turned out to be another than we knew.
    pub reset: bool,
    /// Rows that stood in their tables when a slice came, with how many changes they had.
    stood: HashMap<RowId, usize>,
    /// Rows that came the short way in the last slice.
    pub(crate) arrived: Vec<Arrived>,
    /// Rows without a conflict that a client without automerge has written.
    plain: Vec<RowId>,
    /// What was decided at once in the last slice.
    pub(crate) decided: Vec<DecidedConflict>,
    /// Whether the sender wrote two different changes under one name: its keys are in use twice, or
    /// it lies.
    pub equivocated: bool,
}

impl Receipt {
    fn refuse(&mut self, sentence: String) {
        if self.rejected.len() < SENTENCES_MAX {
            self.rejected.push(sentence);
        } else {
            self.rejected_more += 1;
        }
    }

    /// How many refusals there were.
    #[must_use]
    pub fn rejected_count(&self) -> usize {
        self.rejected.len().saturating_add(self.rejected_more)
    }

    /// Adds what a further part of the same push or pull led to.
    pub(crate) fn add(&mut self, part: Self) {
        self.rows.extend(part.rows);
        self.unchanged.extend(part.unchanged);
        self.rejected_more = self.rejected_more.saturating_add(part.rejected_more);
        part.rejected.into_iter().for_each(|sentence| self.refuse(sentence));
        self.waiting += part.waiting;
        self.equivocated |= part.equivocated;
    }
}

/// Taking in one slice of what a peer sent.
struct Reception<'t, 'a> {
    transaction: &'t mut Transaction<'a>,
    sender: &'t Sender,
    receipt: Receipt,
    /// Names of bytes that were refused.
    quarantined: HashSet<BytesHash>,
    /// Tables in which rows arrive by the fast path.
    arrivals: ArrivalsByTable,
    /// Ids set aside for rows that could have come so and go the long way.
    set_aside: HashMap<(TableId, SyncUuid), i64>,
}

impl<'a> Deref for Reception<'_, 'a> {
    type Target = Transaction<'a>;

    fn deref(&self) -> &Self::Target {
        self.transaction
    }
}

impl DerefMut for Reception<'_, '_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.transaction
    }
}

impl Reception<'_, '_> {
    /// Takes in what a peer sent. Receiving the same again changes nothing.
    fn run(
        mut self,
        changes: &[Incoming],
        following: &[Incoming],
    ) -> Result<Receipt, TransactionError> {
        pending::expire(self.connection, self.now.unix_ms())?;
        self.quarantined = quarantine::all(self.connection)?;
        let mut waiting: Vec<&Incoming> = changes.iter().collect();
        let arrived = self.take_arrivals(&mut waiting)?;
        for incoming in waiting {
            self.receive_row(incoming)?;
        }
        let mut receipt = std::mem::take(&mut self.receipt);
        let stood = std::mem::take(&mut receipt.stood);
        let before: Vec<(RowId, bool)> =
            receipt.rows.iter().map(|id| (*id, stood.contains_key(id))).collect();
        let by = Bringer { peer: self.sender.peer, key: self.sender.device };
        let announced: Vec<Announced<'_>> = following
            .iter()
            .map(|incoming| &incoming.change)
            .filter(|change| change.operation == "delete")
            .map(|change| (change.entity_type.as_str(), change.sync_uuid.as_str()))
            .collect();
        let guarded = self.guard_losses(&stood, &receipt.rows, &announced, by)?;
        let mut waiting = guarded.returning;
        waiting.extend(receipt.rows.iter().copied());
        let circumstances = Circumstances {
            source: self.sender.source,
            set_aside_ids: std::mem::take(&mut self.set_aside),
            ..Circumstances::default()
        };
        self.project_under(waiting, circumstances)?;
        self.hold_links(guarded.links)?;
        receipt.decided = self.decide_pushed(&std::mem::take(&mut receipt.plain))?;
        if changes.iter().any(|incoming| incoming.change.entity_type == TOLD_IN) {
            self.learn_renamings()?;
        }
        // What so many others follow would only be written to be deleted again.
        let lasting = if self.sender.remaining > peers::LOG_LINES_MAX { &[] } else { &*arrived };
        let device_id = &self.sender.device_id;
        self.note_in_log(&before, lasting, device_id)?;
        receipt.rows.extend(arrived.iter().map(|arrived| arrived.id));
        receipt.arrived = arrived;
        Ok(receipt)
    }

    fn receive_row(&mut self, incoming: &Incoming) -> Result<(), TransactionError> {
        let change = &incoming.change;
        let origin = Some(self.sender.peer);
        let table = TableName::parse(table_of_entity_type(&self.schema, &change.entity_type));
        let (Some(table), Some(uuid)) = (table, SyncUuid::parse(&change.sync_uuid)) else {
            self.receipt.refuse("a row has no usable entity_type or sync_uuid".to_owned());
            return Ok(());
        };
        if table.as_str().starts_with("sync_") || table.as_str().starts_with("sqlite_") {
            self.receipt.refuse(format!("{table} is no content table"));
            return Ok(());
        }
        let known_table = self.find_table(table.as_str())?;
        if known_table.is_none() && rows::count_tables(self.connection)? >= TABLES_MAX {
            self.receipt.refuse(format!(
                "{table} is unknown here, and there are {TABLES_MAX} tables already"
            ));
            return Ok(());
        }
        let known = match known_table {
            Some(table) => rows::find(self.connection, table, &uuid)?,
            None => None,
        };
        if let Some(known) = known.as_ref().filter(|known| known.present) {
            let changes = self.document(known.id)?.changes().len();
            self.receipt.stood.entry(known.id).or_insert(changes);
        }
        let entity = EntityId { table, uuid };
        let EntityId { table, uuid } = &entity;
        if change.automerge.is_empty() {
            return self.receive_described(known, &entity, change);
        }
        // One after the other: what is refused shall not first be held in memory together.
        let mut record = known;
        let mut admitted = 0;
        for (text, read) in change.automerge.iter().zip(&incoming.read) {
            let decoded = match read {
                Some(read) => Ok(read.clone()),
                None => self.decode(text, record.as_ref().map(|record| record.id))?,
            };
            let decoded = match decoded {
                Ok(decoded) => decoded,
                Err(reason) => {
                    self.receipt
                        .refuse(format!("a change of {table}/{uuid} was refused: {reason}"));
                    continue;
                }
            };
            if decoded.is_genesis() && !decoded.starts(&entity) {
                let reason = ApplyError::OtherRow;
                self.receipt.refuse(format!("a change of {table}/{uuid} was refused: {reason}"));
                continue;
            }
            let id = match &record {
                Some(record) => record.id,
                // A name costs a line for ever: not for changes that could not even wait.
                None if !decoded.is_genesis()
                    && !pending::has_room(self.connection, origin, decoded.bytes().len())? =>
                {
                    self.receipt.refuse(too_many_wait(table, uuid));
                    continue;
                }
                None => record.insert(self.new_record(table, uuid)?).id,
            };
            admitted += usize::from(self.receive_change(&entity, id, decoded)?);
        }
        let Some(record) = record.filter(|_| admitted > 0) else { return Ok(()) };
        self.retry_pending(record.id)?;
        let schema = std::sync::Arc::clone(&self.schema);
        self.note_document(record.id, schema.table(table.as_str()))?;
        if change.stored_times.is_some() {
            let mut record = rows::get(self.connection, record.id)?;
            if !record.present {
                remember_times(&mut record.differs, change.stored_times.as_ref());
                rows::save(self.connection, &record)?;
            }
        }
        self.receipt.rows.insert(record.id);
        Ok(())
    }

    fn receive_plain_row(
        &mut self,
        record: &RowRecord,
        change: &RowChange,
    ) -> Result<(), TransactionError> {
        let name = self.entity(record)?;
        if change.data.is_none() && change.operation != "delete" {
            self.receipt.refuse(format!("{name} came with neither data nor automerge changes"));
            return Ok(());
        }
        let Some(device) = self.sender.device else {
            self.receipt.refuse(format!(
                "{name} came without automerge changes from a device whose key is not known"
            ));
            return Ok(());
        };
        let peer = self.sender.peer;
        match self.receive_plain(record, change, peer, device)? {
            Ok(true) => {
                self.receipt.rows.insert(record.id);
                if record.conflicts == 0 {
                    self.receipt.plain.push(record.id);
                }
            }
            Ok(false) => drop(self.receipt.unchanged.insert(record.id)),
            Err(reason) => self.receipt.refuse(reason),
        }
        Ok(())
    }
}

impl Transaction<'_> {
    /// Takes in what a peer sent, of which `following` is still to come. Receiving the same again
    /// changes nothing.
    pub(crate) fn receive(
        &mut self,
        changes: &[Incoming],
        sender: &Sender,
        following: &[Incoming],
    ) -> Result<Receipt, TransactionError> {
        let reception = Reception {
            transaction: self,
            sender,
            receipt: Receipt::default(),
            quarantined: HashSet::new(),
            arrivals: ArrivalsByTable::new(),
            set_aside: HashMap::new(),
        };
        reception.run(changes, following)
    }

    fn new_record(
        &mut self,
        table: &TableName,
        uuid: &SyncUuid,
    ) -> Result<RowRecord, TransactionError> {
        let table_id = self.table_id(table)?;
        let record = rows::find_or_create(self.connection, table_id, uuid)?;
        self.is_new(record.id);
        Ok(record)
    }

    fn note_in_log(
        &mut self,
        before: &[(RowId, bool)],
        arrived: &[Arrived],
        device_id: &str,
    ) -> Result<(), TransactionError> {
        let now = self.now.to_table_text();
        for arrived in arrived {
            peers::note(
                self.connection,
                device_id,
                &arrived.table,
                arrived.local_id,
                LoggedOperation::Create,
                &now,
            )?;
        }
        for (id, was_present) in before {
            let record = rows::get(self.connection, *id)?;
            let operation = match (was_present, record.present) {
                (false, true) => LoggedOperation::Create,
                (true, false) => LoggedOperation::Delete,
                _ => LoggedOperation::Update,
            };
            let table = self.table_name(record.table)?;
            peers::note(
                self.connection,
                device_id,
                table.as_str(),
                record.local_id.unwrap_or(0),
                operation,
                &now,
            )?;
        }
        if !before.is_empty() || !arrived.is_empty() {
            self.trim_log()?;
        }
        Ok(())
    }
}

/// Times no document knows: what the sender's table says is kept until the row is written.
pub(crate) fn remember_times(differs: &mut Differences, told: Option<&StoredTimes>) {
    let Some(told) = told else { return };
    for (name, text) in [(key::CREATED_AT, &told.created_at), (key::UPDATED_AT, &told.updated_at)] {
        if let Some(text) = text.as_deref().filter(|text| Stamp::parse(text).is_some()) {
            let difference = Difference::new(Value::from(UNKNOWN_STAMP), Value::from(text));
            differs.insert(name.to_owned(), difference);
        }
    }
}
