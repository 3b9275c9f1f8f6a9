//! One write transaction: the connection, the schema it was checked against, and the documents it
//! has in hand. Nothing of it outlives the transaction, so nothing is cached that was not
//! committed.

mod documents;
mod edits;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use rusqlite::Connection;
use storysync_crdt::{
    Actor, Base, DeviceKey, Document, EditPurpose, EntityId, Heads, Stamp, TableName, Value,
    deletion, key, stands, version,
};

use crate::app::profile::Prose;
use crate::app::rows::StoredRow;
use crate::app::schema::{Column, Role, Schema, Table};
use crate::epoch::NewEpoch;
use crate::error::TransactionError;
use crate::store::log::{self, Appender};
use crate::store::outbox::{self, Writer};
use crate::store::peers;
use crate::store::rows::{self, RowId, RowRecord, TableId};
pub(crate) use edits::{
    EDIT_BYTES_MAX, PUT_OVERHEAD_BYTES, PUTS_PER_EDIT_MAX, acting_for, is_one_edit,
};

/// How a change came here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Source {
    /// The app wrote it, or somebody decided here.
    #[default]
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

/// Documents kept for a caller to drop; beyond that the oldest are dropped where they are.
const SPENT_MAX: usize = 2_000;

/// What transactions had in hand and nobody needs any more. Dropping a thousand documents took 7 %
/// of a large push: a caller with a thread to spare drops them there.
#[derive(Debug, Default)]
pub struct Spent {
    documents: VecDeque<HashMap<RowId, Document>>,
}

impl Spent {
    /// How many documents there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.documents.iter().map(HashMap::len).sum()
    }

    /// Whether there is nothing to drop.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds what one more transaction had in hand.
    pub(crate) fn add(&mut self, documents: HashMap<RowId, Document>) {
        self.documents.push_back(documents);
        while self.documents.len() > 1 && self.len() > SPENT_MAX {
            self.documents.pop_front();
        }
    }
}

pub(crate) struct Transaction<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) schema: Arc<Schema>,
    pub(crate) actor: &'a Actor,
    pub(crate) prose: &'a Prose,
    pub(crate) now: Stamp,
    /// Rows that something referred to until now: they may no longer be required.
    pub(crate) left_alone: HashSet<RowId>,
    /// Who writes, when it is not this device itself.
    pub(crate) on_behalf_of: Option<DeviceKey>,
    /// Why the log begins another epoch with this transaction, if it does.
    pub(crate) new_epoch_cause: Option<NewEpoch>,
    /// Rows that were projected in this transaction.
    pub(crate) projected: HashSet<RowId>,
    /// Rows whose history has become long enough for another pack.
    long: BTreeSet<RowId>,
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
    /// Whether the deletion guard holds any row; `None` before anybody asked.
    pub(crate) holds_rows: Option<bool>,
}

impl<'a> Transaction<'a> {
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
            left_alone: HashSet::new(),
            on_behalf_of: None,
            new_epoch_cause: None,
            projected: HashSet::new(),
            long: BTreeSet::new(),
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
    pub(crate) fn begin_own_writes(&mut self) -> Result<(), TransactionError> {
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
    pub(crate) fn begin_unnoted_writes(&mut self) -> Result<(), TransactionError> {
        outbox::set_writer(self.connection, Writer::Own)?;
        self.own_writes = true;
        Ok(())
    }

    /// Must be called before the transaction commits.
    pub(crate) fn end_own_writes(&mut self) -> Result<(), TransactionError> {
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

    pub(crate) fn table_id(&mut self, name: &TableName) -> Result<TableId, TransactionError> {
        if let Some(id) = self.tables.get(name.as_str()) {
            return Ok(*id);
        }
        let id = rows::table_id(self.connection, name)?;
        self.tables.insert(name.as_str().to_owned(), id);
        Ok(id)
    }

    /// The integer key of a table; `None` when it is not known.
    pub(crate) fn find_table(&mut self, name: &str) -> Result<Option<TableId>, TransactionError> {
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
    pub(crate) fn table_name(&mut self, id: TableId) -> Result<TableName, TransactionError> {
        if let Some(name) = self.table_names.get(&id) {
            return Ok(name.clone());
        }
        let name = rows::table_name(self.connection, id)?;
        self.table_names.insert(id, name.clone());
        Ok(name)
    }

    /// The name of a row on every device.
    pub(crate) fn entity(&mut self, record: &RowRecord) -> Result<EntityId, TransactionError> {
        Ok(EntityId { table: self.table_name(record.table)?, uuid: record.uuid.clone() })
    }

    /// Where the log ends now.
    pub(crate) fn end(&self) -> Result<log::Position, TransactionError> {
        match self.log_end() {
            Some(end) => Ok(end),
            None => Ok(log::end(self.connection)?),
        }
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
    ) -> Result<(), TransactionError> {
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
    ) -> Result<(), TransactionError> {
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

    pub(crate) fn trim_log(&self) -> Result<(), TransactionError> {
        peers::trim_log(self.connection)?;
        Ok(())
    }

    /// Ends the transaction's work, and returns what was in hand.
    pub(crate) fn close(self) -> HashMap<RowId, Document> {
        self.documents
    }

    /// The end of the log, when this transaction has moved it.
    pub(crate) fn log_end(&self) -> Option<log::Position> {
        self.appender.as_ref().map(Appender::end)
    }
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
