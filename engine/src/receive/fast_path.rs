//! The short way in for a row nobody here has heard of, which stands by itself: one first change
//! (or columns that become one), a table that takes it as it is, references to rows that stand.
//! Most rows of a first sync are such, and most a phone creates, and they need none of the
//! questions the long way asks (`receive`, `project`): nothing refers to them yet, nothing contests
//! them, nothing waits for them.
//!
//! What comes out is what the long way would have written; a test holds the two against each other.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rusqlite::ErrorCode;
use storysync_crdt::{Change, NOWHERE, RowHead, SyncUuid, Value, head_of_first, key};

use crate::app::profile::{self, table_of_entity_type};
use crate::app::rows as app_rows;
use crate::app::schema::{Role, Table};
use crate::error::TransactionError;
use crate::project::{is_natural, known_stamp, unknown_time};
use crate::receive::{Incoming, Reception};
use crate::store::log;
use crate::store::references;
use crate::store::rows::{self, Differences, Parked, RowId, TableId};
use crate::transaction::Transaction;

/// A row that may come the short way.
#[derive(Debug)]
struct Candidate<'a> {
    table: TableId,
    name: Arc<str>,
    uuid: SyncUuid,
    local_id: i64,
    first: Change,
    /// How the row stands by that change.
    head: Cow<'a, RowHead>,
    /// The peer the change came from; `None` when it is written here, in the sender's name.
    origin: Option<i64>,
}

/// A row that came the short way.
#[derive(Debug, Clone)]
pub(crate) struct Arrived {
    pub(crate) id: RowId,
    pub(crate) table: Arc<str>,
    pub(crate) uuid: SyncUuid,
    pub(crate) local_id: i64,
    pub(crate) version: i64,
    pub(crate) updated_at: Value,
}

/// What is known of a table for the length of one transaction.
#[derive(Debug)]
pub(super) struct Arrivals {
    table: TableId,
    name: Arc<str>,
    /// Whether rows may arrive the short way at all.
    open: bool,
    last_id: i64,
}

/// Tables rows arrive in, by name.
pub(super) type ArrivalsByTable = HashMap<String, Arrivals>;

const NULL: &Value = &Value::Null;

/// What a row's columns show, in the table's order.
type Shown<'a> = Vec<Cow<'a, Value>>;

/// References to rows that stand: which column leads to which row.
type Targets = Vec<(RowId, String)>;

impl Reception<'_, '_> {
    /// Takes in, of `waiting`, the rows that stand by themselves, parents before their children;
    /// the others stay.
    pub(crate) fn take_arrivals(
        &mut self,
        waiting: &mut Vec<&Incoming>,
    ) -> Result<Vec<Arrived>, TransactionError> {
        let schema = Arc::clone(&self.schema);
        let mut candidates = Vec::with_capacity(waiting.len());
        let mut named = HashSet::with_capacity(waiting.len());
        for incoming in waiting.drain(..) {
            // A page may name a row twice.
            let is_first = named.insert((
                table_of_entity_type(&schema, &incoming.change.entity_type),
                incoming.change.sync_uuid.as_str(),
            ));
            candidates.push((incoming, if is_first { self.candidate(incoming)? } else { None }));
        }
        let mut arrived = Vec::new();
        loop {
            let before = candidates.len();
            let mut left = Vec::new();
            for (incoming, candidate) in candidates {
                let new = match &candidate {
                    Some(candidate) => self.arrive(incoming, candidate)?,
                    None => None,
                };
                match new {
                    Some(new) => arrived.push(new),
                    None => left.push((incoming, candidate)),
                }
            }
            candidates = left;
            // Whoever came may be what others of them refer to.
            if candidates.is_empty() || candidates.len() == before {
                break;
            }
        }
        for (incoming, candidate) in candidates {
            waiting.push(incoming);
            self.set_aside.extend(
                candidate.map(|candidate| ((candidate.table, candidate.uuid), candidate.local_id)),
            );
        }
        rows::note_added(self.connection, arrived.len())?;
        for arrivals in
            std::mem::take(&mut self.arrivals).into_values().filter(|arrivals| arrivals.open)
        {
            rows::raise_high_id(self.connection, arrivals.table, arrivals.last_id)?;
        }
        Ok(arrived)
    }

    /// A row that may arrive the short way, with the id it will have: in the order in which rows
    /// come, as they stand where they come from.
    fn candidate<'a>(
        &mut self,
        incoming: &'a Incoming,
    ) -> Result<Option<Candidate<'a>>, TransactionError> {
        if !incoming.may_arrive() {
            return Ok(None);
        }
        let schema = Arc::clone(&self.schema);
        let (Some(table), Some(uuid)) = (
            schema.table(table_of_entity_type(&schema, &incoming.change.entity_type)),
            SyncUuid::parse(&incoming.change.sync_uuid),
        ) else {
            return Ok(None);
        };
        let Some(table_id) = self.arrivals_of(table)? else { return Ok(None) };
        if rows::is_known(self.connection, table_id, &uuid)? {
            return Ok(None);
        }
        let (first, head, origin) = match (&incoming.arrival, incoming.read.as_slice()) {
            (Some(head), [Some(first)]) => {
                (first.clone(), Cow::Borrowed(head), Some(self.sender.peer))
            }
            _ => {
                let Some(first) = self.first_of_plain(table, &uuid, &incoming.change)? else {
                    return Ok(None);
                };
                let Some(head) = head_of_first(&first) else { return Ok(None) };
                (first, Cow::Owned(head), None)
            }
        };
        let Some(arrivals) = self.arrivals.get_mut(table.name()) else { return Ok(None) };
        arrivals.last_id = arrivals.last_id.saturating_add(1);
        Ok(Some(Candidate {
            table: table_id,
            name: Arc::clone(&arrivals.name),
            uuid,
            local_id: arrivals.last_id,
            first,
            head,
            origin,
        }))
    }

    /// Whether rows may arrive in a table the short way, asked once.
    fn arrivals_of(&mut self, table: &Table) -> Result<Option<TableId>, TransactionError> {
        if !self.arrivals.contains_key(table.name()) {
            let Some(id) = self.find_table(table.name())? else { return Ok(None) };
            let is_plain = !table.is_local
                && table.uniques.is_empty()
                && table.natural_key.is_empty()
                && table.columns.iter().all(|column| column.role != Role::LocalId);
            let open =
                is_plain && rows::parked_because(self.connection, id, Parked::Refused)?.is_empty();
            let last_id = if open {
                rows::high_id(self.connection, id)?
                    .max(app_rows::highest_local_id(self.connection, table)?)
            } else {
                0
            };
            self.arrivals.insert(
                table.name().to_owned(),
                Arrivals { table: id, name: table.name().into(), open, last_id },
            );
        }
        Ok(self
            .arrivals
            .get(table.name())
            .filter(|arrivals| arrivals.open)
            .map(|arrivals| arrivals.table))
    }
}

impl Transaction<'_> {
    fn arrive(
        &mut self,
        incoming: &Incoming,
        candidate: &Candidate<'_>,
    ) -> Result<Option<Arrived>, TransactionError> {
        let schema = Arc::clone(&self.schema);
        let Some(table) = schema.table(&candidate.name) else { return Ok(None) };
        let mut differs = Differences::new();
        if candidate.origin.is_some() {
            crate::receive::remember_times(&mut differs, incoming.change.stored_times.as_ref());
        }
        let Some((values, targets)) = self.values_shown(table, &differs, candidate)? else {
            return Ok(None);
        };
        self.write_arrival(table, &differs, candidate, &values, &targets)
    }

    /// What the table's columns show, when each takes its value as it is.
    fn values_shown<'a>(
        &mut self,
        table: &Table,
        differs: &Differences,
        candidate: &'a Candidate<'_>,
    ) -> Result<Option<(Shown<'a>, Targets)>, TransactionError> {
        let (first, head) = (&candidate.first, &candidate.head);
        let (mut values, mut targets) = (Vec::with_capacity(table.columns.len()), Vec::new());
        for column in &table.columns {
            let time = |document: &'a Value| {
                if known_stamp(document).is_some() {
                    Cow::Borrowed(document)
                } else {
                    Cow::Owned(unknown_time(column, differs))
                }
            };
            let value = match &column.role {
                Role::LocalId | Role::Local => return Ok(None),
                Role::SyncUuid => Cow::Owned(Value::from(candidate.uuid.as_str())),
                Role::Version => Cow::Owned(Value::Integer(head.version)),
                Role::DeletedAt => Cow::Borrowed(NULL),
                Role::CreatedAt => time(&head.created_at),
                Role::UpdatedAt => time(&head.updated_at),
                Role::Field => {
                    let value = first
                        .value(&column.name)
                        .filter(|_| !key::is_bookkeeping(&column.name))
                        .unwrap_or(NULL);
                    if !profile::takes(&self.schema, table.name(), column, value)
                        || !is_natural(column.affinity, value)
                    {
                        return Ok(None);
                    }
                    Cow::Borrowed(value)
                }
                Role::Reference { table: target } => match first.value(&column.name) {
                    None | Some(Value::Null) => Cow::Borrowed(NULL),
                    Some(Value::Text(uuid)) if uuid != NOWHERE => {
                        match self.standing_target(target, uuid)? {
                            Some((target, local_id)) => {
                                targets.push((target, column.name.clone()));
                                Cow::Owned(Value::Integer(local_id))
                            }
                            None => return Ok(None),
                        }
                    }
                    Some(_) => return Ok(None),
                },
            };
            if value.is_null() && column.not_null {
                return Ok(None);
            }
            values.push(value);
        }
        Ok(Some((values, targets)))
    }

    /// The row a reference leads to, when it stands and nothing is to be asked about it: one marked
    /// as deleted may have to live again for the newcomer's sake.
    fn standing_target(
        &mut self,
        table: &str,
        uuid: &str,
    ) -> Result<Option<(RowId, i64)>, TransactionError> {
        let (Some(id), Some(uuid)) = (self.find_table(table)?, SyncUuid::parse(uuid)) else {
            return Ok(None);
        };
        let Some(target) = rows::find(self.connection, id, &uuid)?
            .filter(|target| target.present && target.conflicts == 0)
        else {
            return Ok(None);
        };
        let (Some(local_id), Some(table)) = (target.local_id, self.schema.table(table)) else {
            return Ok(None);
        };
        let is_marked = app_rows::is_marked_deleted(self.connection, table, local_id)?;
        Ok((!is_marked).then_some((target.id, local_id)))
    }

    fn write_arrival(
        &mut self,
        table: &Table,
        differs: &Differences,
        candidate: &Candidate<'_>,
        values: &[Cow<'_, Value>],
        targets: &[(RowId, String)],
    ) -> Result<Option<Arrived>, TransactionError> {
        if log::contains(self.connection, &candidate.first.hash())? {
            return Ok(None);
        }
        let local_id = candidate.local_id;
        self.begin_own_writes()?;
        match self.insert_arrival(table, local_id, values) {
            Ok(()) => {}
            // The long way finds out what will do.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        }
        let id = rows::insert_present(
            self.connection,
            candidate.table,
            &candidate.uuid,
            local_id,
            candidate.head.version,
            differs,
        )?;
        self.append(id, &candidate.first, candidate.origin)?;
        for (target, column) in targets {
            references::add(self.connection, *target, id, column)?;
        }
        Ok(Some(Arrived {
            id,
            table: Arc::clone(&candidate.name),
            uuid: candidate.uuid.clone(),
            local_id,
            version: candidate.head.version,
            updated_at: candidate.head.updated_at.clone(),
        }))
    }
}
