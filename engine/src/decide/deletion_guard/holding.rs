//! What is shown while a hold waits: the rows as they stood, with their texts and with the links
//! between them; and what becomes of that when it is decided.

use std::collections::{BTreeMap, BTreeSet};

use storysync_crdt::{
    Document, SyncUuid, Value, characters_lost, deletion, field, key, says_the_same,
};

use super::{Bringer, HoldDecision, SHARE_HELD_MIN, SHARE_JOINS_MIN};
use crate::app::schema::Role;
use crate::error::{EngineError, TransactionError};
use crate::store::holds::{self, Held, Loss};
use crate::store::log;
use crate::store::rows::{self, Difference, DifferenceKind, RowId};
use crate::transaction::Transaction;

/// Values by column.
type Values = BTreeMap<String, Value>;

/// A link to a row that is held, which is shown as long as the row is.
#[derive(Debug)]
pub(crate) struct HeldLink {
    hold: i64,
    row: RowId,
    column: String,
    /// The `sync_uuid` it leads to.
    target: String,
}

/// What was taken from a row, by column: what stood there before.
#[derive(Default)]
struct Taken {
    texts: Values,
    links: Vec<(String, String)>,
}

impl Transaction<'_> {
    /// Holds what is gone; `joins` where others of that device wait already. Returns the links to
    /// rows that are held now, which can be shown once those stand.
    pub(super) fn hold_losses(
        &mut self,
        hold: i64,
        joins: bool,
        losses: Vec<Loss>,
        by: Bringer,
    ) -> Result<Vec<HeldLink>, TransactionError> {
        let now_ms = self.now.unix_ms();
        let share_min = if joins { SHARE_JOINS_MIN } else { SHARE_HELD_MIN };
        let mut links = Vec::new();
        for loss in losses {
            let Taken { texts, links: cut } = self.taken(&loss, by)?;
            let is_deleted = deletion(self.document(loss.row)?).is_some();
            if is_deleted {
                self.hold(hold, loss.row, Held::Deletion)?;
                self.hold_texts(loss.row, texts)?;
            } else if loss.share >= share_min && !texts.is_empty() {
                self.hold(hold, loss.row, Held::Texts)?;
                self.hold_texts(loss.row, texts)?;
            } else {
                holds::note_loss(self.connection, by.peer, &loss, now_ms)?;
            }
            let link = |(column, target)| HeldLink { hold, row: loss.row, column, target };
            links.extend(cut.into_iter().map(link));
        }
        let mut kept = Vec::new();
        for link in links {
            if self.leads_to_held(&link)? {
                kept.push(link);
            }
        }
        Ok(kept)
    }

    /// What a device's changes took from a row since it had so many changes.
    fn taken(&mut self, loss: &Loss, by: Bringer) -> Result<Taken, TransactionError> {
        let mut taken = Taken::default();
        let record = rows::get(self.connection, loss.row)?;
        let changes = usize::try_from(loss.changes).unwrap_or(0);
        let names = self.names_put_since(loss.row, changes)?;
        let name = self.table_name(record.table)?;
        let schema = std::sync::Arc::clone(&self.schema);
        let (Some(table), false) = (schema.table(name.as_str()), changes == 0 || names.is_empty())
        else {
            return Ok(taken);
        };
        let written = self.written_by(loss.row, changes, by)?;
        let document = self.document(loss.row)?;
        let mut before = Document::new();
        for change in document.changes().iter().take(changes) {
            // They stand in a document, so each finds there what it builds on.
            drop(before.apply(change.clone()));
        }
        for column in names.iter().filter_map(|name| table.column(name)) {
            let is_written = document.register(&column.name).is_some_and(|register| {
                register.visible().iter().any(|put| written.contains(&put.change))
            });
            let standing = record.differs.get(&column.name);
            let (Some(was), true) = (field(&before, &column.name), is_written) else { continue };
            let is = field(document, &column.name).unwrap_or(Value::Null);
            match (&column.role, standing, was.as_text()) {
                // It is held already, and something else stands behind it now.
                (Role::Field, Some(held), _) if held.kind == DifferenceKind::Held => {
                    taken.texts.insert(column.name.clone(), held.shown.clone());
                }
                (Role::Field, None, Some(text)) if !says_the_same(&was, &is) => {
                    let lost = is.as_text().map_or(text.len(), |is| characters_lost(text, is));
                    if lost > 0 {
                        taken.texts.insert(column.name.clone(), was);
                    }
                }
                (Role::Reference { .. }, _, Some(uuid)) if was != is => {
                    taken.links.push((column.name.clone(), uuid.to_owned()));
                }
                _ => {}
            }
        }
        Ok(taken)
    }

    /// Which of a row's changes, after the first so many, a device brought, or had written here in
    /// its name.
    fn written_by(
        &mut self,
        id: RowId,
        changes: usize,
        by: Bringer,
    ) -> Result<BTreeSet<usize>, TransactionError> {
        let receipts = log::receipts(self.connection, id)?;
        let document = self.document(id)?;
        let is_theirs = |(position, receipt): (usize, &log::Received)| {
            let author = document.changes().get(position)?.actor().device();
            let is_plain = receipt.came_from.is_none() && by.key.is_some() && author == by.key;
            (receipt.came_from == Some(by.peer) || is_plain).then_some(position)
        };
        Ok(receipts.iter().enumerate().skip(changes).filter_map(is_theirs).collect())
    }

    /// Whether what a link leads to is held.
    fn leads_to_held(&mut self, link: &HeldLink) -> Result<bool, TransactionError> {
        let name = self.table_name(rows::get(self.connection, link.row)?.table)?;
        let schema = std::sync::Arc::clone(&self.schema);
        let column = schema.table(name.as_str()).and_then(|table| table.column(&link.column));
        let Some(Role::Reference { table }) = column.map(|column| &column.role) else {
            return Ok(false);
        };
        let (Some(table), Some(uuid)) = (self.find_table(table)?, SyncUuid::parse(&link.target))
        else {
            return Ok(false);
        };
        Ok(match rows::find(self.connection, table, &uuid)? {
            Some(target) => holds::is_held(self.connection, target.id)?,
            None => false,
        })
    }

    /// Shows links again that lead to held rows, which stand by now.
    pub(crate) fn hold_links(&mut self, links: Vec<HeldLink>) -> Result<(), TransactionError> {
        let mut touched = BTreeSet::new();
        for HeldLink { hold, row, column, target } in links {
            let mut record = rows::get(self.connection, row)?;
            if !record.present {
                continue;
            }
            if holds::of_row(self.connection, row)?.is_none() {
                self.hold(hold, row, Held::Link)?;
            }
            let document = field(self.document(row)?, &column).unwrap_or(Value::Null);
            let link = Difference::of_kind(document, Value::Text(target), DifferenceKind::HeldLink);
            record.differs.insert(column, link);
            rows::save(self.connection, &record)?;
            touched.insert(row);
        }
        self.project(touched)
    }

    /// Lets the table go on showing texts that are empty, or shorter, in the row's document.
    fn hold_texts(&mut self, id: RowId, texts: Values) -> Result<(), TransactionError> {
        if texts.is_empty() {
            return Ok(());
        }
        let mut record = rows::get(self.connection, id)?;
        for (name, text) in texts {
            let document = field(self.document(id)?, &name).unwrap_or(Value::Null);
            record.differs.insert(name, Difference::of_kind(document, text, DifferenceKind::Held));
        }
        Ok(rows::save(self.connection, &record)?)
    }

    /// Ends the holding of a row's texts and links; returns them as documents hold them.
    fn let_go_held(&mut self, id: RowId) -> Result<Values, TransactionError> {
        let mut record = rows::get(self.connection, id)?;
        let mut values = Values::new();
        for (name, held) in record.differs.iter().filter(|(_, held)| held.is_held()) {
            let value = match held.kind {
                DifferenceKind::HeldLink => self.held_target(id, name, &held.shown)?,
                _ => Some(held.shown.clone()),
            };
            values.extend(value.map(|value| (name.clone(), value)));
        }
        if record.differs.values().any(Difference::is_held) {
            record.differs.retain(|_, difference| !difference.is_held());
            rows::save(self.connection, &record)?;
        }
        Ok(values)
    }

    /// The `sync_uuid` a held link leads to, which shows as the id of a row once it was shown.
    fn held_target(
        &mut self,
        id: RowId,
        column: &str,
        shown: &Value,
    ) -> Result<Option<Value>, TransactionError> {
        let name = self.table_name(rows::get(self.connection, id)?.table)?;
        let schema = std::sync::Arc::clone(&self.schema);
        let column = schema.table(name.as_str()).and_then(|table| table.column(column));
        let Some(Role::Reference { table }) = column.map(|column| &column.role) else {
            return Ok(None);
        };
        self.uuid_shown(table, shown)
    }

    /// What a shown reference is called in documents.
    pub(crate) fn uuid_shown(
        &mut self,
        table: &str,
        shown: &Value,
    ) -> Result<Option<Value>, TransactionError> {
        let local_id = match shown {
            Value::Integer(local_id) => *local_id,
            other => return Ok(other.as_text().is_some().then(|| other.clone())),
        };
        let Some(table) = self.find_table(table)? else { return Ok(None) };
        let row = rows::at_local_id(self.connection, table, local_id)?;
        Ok(row.map(|row| Value::from(row.uuid.as_str())))
    }

    /// Holds a row back.
    fn hold(&mut self, hold: i64, row: RowId, what: Held) -> Result<(), TransactionError> {
        self.holds_rows = Some(true);
        Ok(holds::hold(self.connection, hold, row, what, self.now.unix_ms())?)
    }

    /// Lets a row go that lives by somebody's word, unless texts or links of it are held that
    /// `puts` does not write.
    pub(crate) fn lift_hold(&mut self, row: RowId, puts: &Values) -> Result<(), TransactionError> {
        if self.holds_any()? {
            // Whoever deletes the row at this desk says what becomes of all that was held of it.
            let is_deleted = puts.get(key::DELETED_AT).is_some_and(|at| !at.is_null());
            if is_deleted && self.on_behalf_of.is_none() {
                self.let_go_held(row)?;
                return self.release_held(row);
            }
            let record = rows::get(self.connection, row)?;
            let document = self.document(row)?;
            let holds = |(name, difference): (&String, &Difference)| {
                difference.is_held()
                    && !puts.contains_key(name)
                    && field(document, name).unwrap_or(Value::Null) == difference.document
            };
            if record.differs.iter().any(holds) {
                return Ok(());
            }
        }
        self.release_held(row)
    }

    /// Lets a row go that a hold may hold. Nearly always none does, and then it costs nothing.
    pub(crate) fn release_held(&mut self, row: RowId) -> Result<(), TransactionError> {
        if self.holds_any()? {
            holds::release(self.connection, row, self.now.unix_ms())?;
        }
        Ok(())
    }

    fn holds_any(&mut self) -> Result<bool, TransactionError> {
        Ok(match self.holds_rows {
            Some(holds) => holds,
            None => *self.holds_rows.insert(holds::hold_any(self.connection)?),
        })
    }

    /// Lets what is held through, or takes it back. Returns how many rows there were.
    pub(crate) fn decide_hold(
        &mut self,
        id: &str,
        decision: HoldDecision,
    ) -> Result<usize, TransactionError> {
        let no_such = || EngineError::NoSuchHold(id.to_owned());
        let hold: i64 = id.parse().map_err(|_| no_such())?;
        let now = self.now;
        let held = holds::decide(self.connection, hold, now.unix_ms())?.ok_or_else(no_such)?;
        // Read before anything moves: a link is called by the row that stands where it leads.
        let mut puts = Vec::with_capacity(held.len());
        for id in &held {
            puts.push((*id, self.let_go_held(*id)?));
        }
        if decision == HoldDecision::Refuse {
            for (id, mut puts) in puts {
                if deletion(self.document(id)?).is_some() {
                    puts.insert(key::DELETED_AT.to_owned(), Value::Null);
                }
                if !puts.is_empty() {
                    self.write_row(id, puts, None, now)?;
                }
            }
        }
        let count = held.len();
        self.project(held.into_iter().collect())?;
        Ok(count)
    }
}
