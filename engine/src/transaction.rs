//! One write transaction: the connection, the schema it was checked against, and the documents it
//! has in hand. Nothing of it outlives the transaction, so nothing is cached that was not
//! committed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use rusqlite::Connection;
use sha2::{Digest as _, Sha256};
use storysync_crdt::{
    ACTOR_RUN_BYTES, Actor, ApplyError, Base, Change, DeviceKey, Document, EditPurpose, EntityId,
    Heads, NOWHERE, Stamp, SyncUuid, TableName, Value, deletion, field, key, stands, version,
};

use crate::app::profile::Prose;
use crate::app::rows::StoredRow;
use crate::app::schema::{Column, Role, Schema, Table};
use crate::epoch::NewEpoch;
use crate::error::SessionError;
use crate::receive::fast_path::ArrivalsByTable;
use crate::store::log::{self, Appender};
use crate::store::outbox::{self, Writer};
use crate::store::packs::{self, PACK_CHANGES, UNPACKED_CHANGES};
use crate::store::peers;
use crate::store::quarantine::BytesHash;
use crate::store::references;
use crate::store::rows::{self, RowId, RowRecord, TableId};

/// Bytes of names and values in one change of ours: with its dependencies and predecessors it stays
/// under [`storysync_crdt::CHANGE_BYTES_MAX`].
pub(crate) const EDIT_BYTES_MAX: usize = 5 * 512 * 1024;
/// Puts in one change of ours.
pub(crate) const PUTS_PER_EDIT_MAX: usize = 2_000;
/// What a put takes beside its name and value, at most and roughly, in bytes.
pub(crate) const PUT_OVERHEAD_BYTES: usize = 16;

/// How a change came here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The app wrote it, or somebody decided here.
    Local,
    /// We asked a peer.
    Pull,
    /// A peer told us.
    Push,
}

impl Source {
    /// The documented word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Pull => "pull",
            Self::Push => "push",
        }
    }
}

/// What a transaction had in hand and nobody needs any more. Taking apart a thousand documents took
/// 7 % of a large push: a caller with a thread to spare drops it there.
#[derive(Debug, Default)]
pub struct Spent {
    documents: HashMap<RowId, Document>,
}

impl Spent {
    /// How many documents there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    /// Whether there is nothing to drop.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }
}

pub(crate) struct Session<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) schema: Arc<Schema>,
    pub(crate) actor: &'a Actor,
    pub(crate) prose: &'a Prose,
    pub(crate) now: Stamp,
    /// Rows whose deletion by the app was captured in this transaction.
    pub(crate) left_here: HashSet<RowId>,
    /// Ids that deleted rows had and other rows now have.
    pub(crate) former_ids: HashMap<RowId, i64>,
    /// Rows the app replaced in place by others (`INSERT OR REPLACE`): who referred to them refers
    /// to those.
    pub(crate) replaced: HashSet<RowId>,
    /// Columns, as (table, column), that the app has gained since its tables were last looked at.
    pub(crate) new_columns: HashSet<(String, String)>,
    /// Tables of which the app has written most rows along with a column it gained: an upgrade
    /// fills it in.
    pub(crate) filled: HashSet<String>,
    /// Tables that were dropped and made again.
    pub(crate) came_back: HashSet<String>,
    /// Those of them that were gone when they were last looked for: what they had is not there any
    /// more.
    pub(crate) dropped: HashSet<String>,
    /// Rows that something referred to until now: they may no longer be required.
    pub(crate) left_alone: HashSet<RowId>,
    /// Names of bytes that were refused.
    pub(crate) quarantined: HashSet<BytesHash>,
    /// Why the app's table refused what was tried first for the row being written, in SQLite's
    /// words.
    pub(crate) refusal: Option<String>,
    /// How what is being written came here.
    pub(crate) source: Source,
    /// Who writes, when it is not this device itself.
    pub(crate) on_behalf_of: Option<DeviceKey>,
    /// Why the log begins another life with this transaction, if it does.
    pub(crate) new_epoch_cause: Option<NewEpoch>,
    /// Rows that were settled in this transaction.
    pub(crate) settled: HashSet<RowId>,
    /// Rows whose history has become long enough for another pack.
    long: BTreeSet<RowId>,
    /// Tables in which rows arrive the short way.
    pub(crate) arrivals: ArrivalsByTable,
    /// Ids set aside for rows that could have come so and go the long way.
    pub(crate) set_aside: HashMap<(TableId, SyncUuid), i64>,
    /// Whom the changes came from that were added last: peers, or nobody but us. Whoever asks
    /// empties it first.
    pub(crate) origins: HashSet<Option<i64>>,
    appender: Option<Appender>,
    documents: HashMap<RowId, Document>,
    /// The document asked for last as it was at some heads.
    earlier: Option<(RowId, Heads, Document)>,
    own_writes: bool,
    /// Whether the triggers of the connection are on.
    pub(crate) has_triggers_on: bool,
    /// What was written into content columns, by table and local id, where triggers of the app's
    /// may write over it.
    pub(crate) written: HashMap<(String, i64), BTreeMap<String, Value>>,
    tables: HashMap<String, TableId>,
    table_names: HashMap<TableId, TableName>,
    /// Whether a brake holds any row; `None` before anybody asked.
    pub(crate) holds_rows: Option<bool>,
}

impl<'a> Session<'a> {
    pub(crate) fn new(
        connection: &'a Connection,
        schema: Arc<Schema>,
        actor: &'a Actor,
        prose: &'a Prose,
        now: Stamp,
    ) -> Self {
        Self {
            connection,
            actor,
            prose,
            now,
            left_here: HashSet::new(),
            former_ids: HashMap::new(),
            replaced: HashSet::new(),
            new_columns: HashSet::new(),
            filled: HashSet::new(),
            came_back: HashSet::new(),
            dropped: HashSet::new(),
            left_alone: HashSet::new(),
            quarantined: HashSet::new(),
            refusal: None,
            source: Source::Local,
            on_behalf_of: None,
            new_epoch_cause: None,
            settled: HashSet::new(),
            long: BTreeSet::new(),
            arrivals: ArrivalsByTable::new(),
            set_aside: HashMap::new(),
            origins: HashSet::new(),
            appender: None,
            documents: HashMap::new(),
            earlier: None,
            own_writes: false,
            has_triggers_on: schema.has_foreign_triggers,
            written: HashMap::new(),
            tables: HashMap::new(),
            table_names: HashMap::new(),
            holds_rows: None,
            schema,
        }
    }

    /// Tells the triggers that what follows is ours. Lazy, so that a transaction with nothing to
    /// write writes nothing.
    pub(crate) fn begin_own_writes(&mut self) -> Result<(), SessionError> {
        if !self.own_writes {
            let writer = if self.schema.has_foreign_triggers {
                Writer::OwnWithTriggers
            } else {
                Writer::Own
            };
            outbox::set_writer(self.connection, writer)?;
            self.own_writes = true;
        }
        Ok(())
    }

    /// The same, before anybody has looked at what the app wrote: nothing of ours may stand among
    /// that.
    pub(crate) fn begin_unnoted_writes(&mut self) -> Result<(), SessionError> {
        outbox::set_writer(self.connection, Writer::Own)?;
        self.own_writes = true;
        Ok(())
    }

    /// Must be called before the transaction commits.
    pub(crate) fn end_own_writes(&mut self) -> Result<(), SessionError> {
        if self.own_writes {
            outbox::set_writer(self.connection, Writer::App)?;
            self.own_writes = false;
        }
        Ok(())
    }

    /// Whether anything of the app's was written in this transaction.
    pub(crate) fn has_own_writes(&self) -> bool {
        self.own_writes
    }

    pub(crate) fn table_id(&mut self, name: &TableName) -> Result<TableId, SessionError> {
        if let Some(id) = self.tables.get(name.as_str()) {
            return Ok(*id);
        }
        let id = rows::table_id(self.connection, name)?;
        self.tables.insert(name.as_str().to_owned(), id);
        Ok(id)
    }

    /// The short name of a table that is known.
    pub(crate) fn find_table(&mut self, name: &str) -> Result<Option<TableId>, SessionError> {
        if let Some(id) = self.tables.get(name) {
            return Ok(Some(*id));
        }
        let mut found = rows::find_table(self.connection, name)?;
        if found.is_none()
            && let Some(renamed) = self.schema.table_in_file(name)
        {
            found = rows::find_table(self.connection, renamed.name())?;
        }
        self.tables.extend(found.map(|id| (name.to_owned(), id)));
        Ok(found)
    }

    /// The name of a table.
    pub(crate) fn table_name(&mut self, id: TableId) -> Result<TableName, SessionError> {
        if let Some(name) = self.table_names.get(&id) {
            return Ok(name.clone());
        }
        let name = rows::table_name(self.connection, id)?;
        self.table_names.insert(id, name.clone());
        Ok(name)
    }

    /// The name of a row on every device.
    pub(crate) fn entity(&mut self, record: &RowRecord) -> Result<EntityId, SessionError> {
        Ok(EntityId { table: self.table_name(record.table)?, uuid: record.uuid.clone() })
    }

    /// The row's document, from the log or as this transaction has it.
    pub(crate) fn document(&mut self, row: RowId) -> Result<&Document, SessionError> {
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
    ) -> Result<Option<&Document>, SessionError> {
        if self.earlier.as_ref().is_none_or(|(of, at, _)| (*of, at) != (row, heads)) {
            let state = self.document(row)?.at(heads);
            self.earlier = state.map(|state| (row, heads.clone(), state));
        }
        Ok(self.earlier.as_ref().map(|(_, _, state)| state))
    }

    /// A change of a row, on top of `base` or of everything known, that nobody was told of yet.
    fn draft(
        &mut self,
        row: RowId,
        puts: BTreeMap<String, Value>,
        purpose: EditPurpose,
        base: Option<&Base>,
        actor: &Actor,
        at: Stamp,
    ) -> Result<Option<Change>, SessionError> {
        let document = self.document(row)?;
        let Some(base) = base.filter(|base| base.heads != *document.heads()) else {
            let unseen = base.map(|base| &base.unseen);
            return Ok(document.edit_of(
                document,
                puts,
                purpose,
                actor,
                at.unix_ms(),
                unseen.unwrap_or(&HashSet::new()),
            ));
        };
        if self.earlier(row, &base.heads)?.is_none() {
            return Ok(None);
        }
        let (Some(document), Some((_, _, state))) = (self.documents.get(&row), &self.earlier)
        else {
            return Ok(None);
        };
        Ok(document.edit_of(state, puts, purpose, actor, at.unix_ms(), &base.unseen))
    }

    /// The same, and no change of another row: two rows of one name in two tables, written alike in
    /// one instant, would begin with one and the same change. A second later is another instant.
    fn draft_new(
        &mut self,
        row: RowId,
        puts: &BTreeMap<String, Value>,
        purpose: EditPurpose,
        base: Option<&Base>,
        actor: &Actor,
        at: Stamp,
    ) -> Result<Option<Change>, SessionError> {
        let mut at = at;
        loop {
            let change = self.draft(row, puts.clone(), purpose, base, actor, at)?;
            match &change {
                Some(first)
                    if first.is_genesis() && log::contains(self.connection, &first.hash())? =>
                {
                    at = Stamp::from_unix_ms(at.unix_ms().saturating_add(1_000));
                }
                _ => return Ok(change),
            }
        }
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
    ) -> Result<Result<bool, ApplyError>, SessionError> {
        if self.document(row)?.change(&change.hash()).is_none()
            && log::contains(self.connection, &change.hash())?
        {
            return Ok(Err(ApplyError::OtherRow));
        }
        self.admit_new(row, change, origin)
    }

    /// The same for a change that was made here a moment ago, and is no other row's: see
    /// [`Self::draft_new`].
    fn admit_new(
        &mut self,
        row: RowId,
        change: Change,
        origin: Option<i64>,
    ) -> Result<Result<bool, ApplyError>, SessionError> {
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
    ) -> Result<(), SessionError> {
        let appender = match &mut self.appender {
            Some(appender) => appender,
            None => self.appender.insert(Appender::new(self.connection)?),
        };
        appender.append(self.connection, row, change, origin, self.now.unix_ms())?;
        self.origins.insert(origin);
        Ok(())
    }

    /// Where the log ends now.
    pub(crate) fn end(&self) -> Result<log::Position, SessionError> {
        match self.log_end() {
            Some(end) => Ok(end),
            None => Ok(log::end(self.connection)?),
        }
    }

    /// Writes a change of our own: `puts` on top of `base`, or of everything known.
    pub(crate) fn edit(
        &mut self,
        row: RowId,
        puts: BTreeMap<String, Value>,
        purpose: EditPurpose,
        base: Option<&Base>,
        at: Stamp,
    ) -> Result<(), SessionError> {
        let actor = match &self.on_behalf_of {
            Some(device) => acting_for(device, self.actor),
            None => self.actor.clone(),
        };
        let mut base = base.cloned();
        for puts in portions(puts) {
            let Some(change) = self.draft_new(row, &puts, purpose, base.as_ref(), &actor, at)?
            else {
                continue;
            };
            // Whoever writes a row here has decided about it: a brake that holds it has no say any
            // more.
            if purpose.is_edit() {
                self.take_brake_off(row, &puts)?;
            }
            // What follows builds on this, and on nothing the base did not know.
            let then = base.as_ref().map(|base| Base {
                heads: Heads::from([change.hash()]),
                unseen: base.unseen.clone(),
            });
            match self.admit_new(row, change, None)? {
                Ok(_) => base = then,
                Err(ApplyError::Crowded) => {
                    self.edit_on_everything(row, puts, purpose, &actor, at)?
                }
                // A change made from the document itself always fits it.
                Err(error) => return Err(log::LogError::Gap(error).into()),
            }
        }
        Ok(())
    }

    /// Too much stands side by side for one more branch: the edit is made on top of all of it.
    fn edit_on_everything(
        &mut self,
        row: RowId,
        puts: BTreeMap<String, Value>,
        purpose: EditPurpose,
        actor: &Actor,
        at: Stamp,
    ) -> Result<(), SessionError> {
        let Some(change) = self.document(row)?.edit(puts, purpose, None, actor, at.unix_ms())
        else {
            return Ok(());
        };
        if let Err(error) = self.admit_new(row, change, None)? {
            tracing::error!(%error, "a row takes no more edits here; somebody has filled it");
        }
        Ok(())
    }

    /// Writes what somebody decided about a row, or a client asked for: on top of `base`, or of
    /// everything known. A row that is shown although it was removed lives from now on. The row
    /// must be settled then.
    pub(crate) fn write_row(
        &mut self,
        id: RowId,
        puts: BTreeMap<String, Value>,
        base: Option<&Heads>,
        at: Stamp,
    ) -> Result<(), SessionError> {
        let table = rows::get(self.connection, id)?.table;
        self.write_row_of(id, table, puts, base, at)
    }

    /// The same, where the row's table is at hand.
    pub(crate) fn write_row_of(
        &mut self,
        id: RowId,
        table: TableId,
        mut puts: BTreeMap<String, Value>,
        base: Option<&Heads>,
        at: Stamp,
    ) -> Result<(), SessionError> {
        // A client writes what its user typed; what is written here beside the app, no form of the
        // app has read.
        let purpose =
            if self.on_behalf_of.is_some() { EditPurpose::Edit } else { EditPurpose::Decision };
        let shown = self.shown_deletion(id)?;
        let seen = match base {
            Some(heads) => self.earlier(id, heads)?.map(deletion),
            None => None,
        };
        let document = self.document(id)?;
        let version = version(document);
        let gone = match seen {
            Some(seen) => !stands(seen.as_ref()),
            // Removed, or deleted and shown all the same.
            None => deletion(document).is_some() && (shown.is_none() || !stands(shown.as_ref())),
        };
        if gone {
            puts.entry(key::DELETED_AT.to_owned()).or_insert(Value::Null);
        }
        puts.insert(key::VERSION.to_owned(), Value::Integer(version.saturating_add(1)));
        puts.insert(key::UPDATED_AT.to_owned(), Value::from(at.to_table_text()));
        self.edit(id, puts, purpose, base.cloned().map(Base::from).as_ref(), at)?;
        let name = self.table_name(table)?;
        let schema = Arc::clone(&self.schema);
        self.note_document(id, schema.table(name.as_str()))
    }

    /// Several documents at once.
    pub(crate) fn documents_of<const N: usize>(
        &mut self,
        ids: [RowId; N],
    ) -> Result<[Option<&Document>; N], SessionError> {
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
    ) -> Result<(), SessionError> {
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

    /// Which of a new row's columns merge as prose, as the document notes it.
    pub(crate) fn prose_mark(&self, table: &Table, row: &StoredRow) -> Option<(String, Value)> {
        prose_mark(self.prose, &self.schema, table, row)
    }

    /// The same for a row that came as fields.
    pub(crate) fn prose_mark_of(
        &self,
        table: &Table,
        fields: &BTreeMap<String, Value>,
    ) -> Option<(String, Value)> {
        let named = fields.iter().filter_map(|(name, value)| Some((table.column(name)?, value)));
        mark_of(self.prose, &self.schema, table, named)
    }

    /// Packs the older changes of rows whose history has grown long. What is in hand of them stays
    /// as it is.
    pub(crate) fn pack_histories(&mut self) -> Result<(), SessionError> {
        for row in std::mem::take(&mut self.long) {
            packs::pack(self.connection, row)?;
        }
        Ok(())
    }

    pub(crate) fn trim_log(&self) -> Result<(), SessionError> {
        peers::trim_log(self.connection)?;
        Ok(())
    }

    /// Ends the transaction's work, and returns what was in hand.
    pub(crate) fn close(self) -> Spent {
        Spent { documents: self.documents }
    }

    /// The end of the log, when this transaction has moved it.
    pub(crate) fn log_end(&self) -> Option<log::Position> {
        self.appender.as_ref().map(Appender::end)
    }
}

/// Whether puts fit into one change.
pub(crate) fn is_one_edit(puts: &BTreeMap<String, Value>) -> bool {
    puts.len() <= PUTS_PER_EDIT_MAX
        && puts.iter().map(|(name, value)| put_bytes(name, value)).sum::<usize>() <= EDIT_BYTES_MAX
}

fn put_bytes(name: &str, value: &Value) -> usize {
    name.len() + value.size_bytes() + PUT_OVERHEAD_BYTES
}

/// Puts of one edit, in portions that each fit into a change. What describes the edit goes with the
/// first.
fn portions(puts: BTreeMap<String, Value>) -> Vec<BTreeMap<String, Value>> {
    let mut portions: Vec<BTreeMap<String, Value>> = vec![BTreeMap::new()];
    let mut size_bytes = 0;
    let (bookkeeping, columns): (Vec<_>, Vec<_>) =
        puts.into_iter().partition(|(name, _)| key::is_bookkeeping(name));
    for (name, value) in bookkeeping.into_iter().chain(columns) {
        let size = put_bytes(&name, &value);
        let is_full = portions.last().is_some_and(|portion| {
            portion.len() >= PUTS_PER_EDIT_MAX
                || (!portion.is_empty() && size_bytes + size > EDIT_BYTES_MAX)
        });
        if is_full {
            portions.push(BTreeMap::new());
            size_bytes = 0;
        }
        size_bytes += size;
        if let Some(portion) = portions.last_mut() {
            portion.insert(name, value);
        }
    }
    portions
}

/// The actor under which this run writes for a device that has no automerge itself: that device's
/// key, and bytes that follow from our own run, so that no other run ever uses them.
pub(crate) fn acting_for(device: &DeviceKey, own: &Actor) -> Actor {
    let digest = Sha256::new()
        .chain_update(b"storysync/1 on behalf\0")
        .chain_update(own.as_bytes())
        .chain_update(device)
        .finalize();
    let mut run = [0; ACTOR_RUN_BYTES];
    run.iter_mut().zip(digest.iter()).for_each(|(to, from)| *to = *from);
    Actor::of_device(device, run)
}

pub(crate) fn prose_mark(
    prose: &Prose,
    schema: &Schema,
    table: &Table,
    row: &StoredRow,
) -> Option<(String, Value)> {
    mark_of(prose, schema, table, row.columns(table))
}

fn mark_of<'a>(
    prose: &Prose,
    schema: &Schema,
    table: &Table,
    columns: impl Iterator<Item = (&'a Column, &'a Value)>,
) -> Option<(String, Value)> {
    let names: BTreeSet<&str> = columns
        .filter(|(column, value)| {
            column.role == Role::Field && prose.is_prose(schema, table.name(), column, value)
        })
        .map(|(column, _)| column.name.as_str())
        .collect();
    (!names.is_empty()).then(|| {
        (key::PROSE.to_owned(), Value::Text(names.into_iter().collect::<Vec<_>>().join(",")))
    })
}
