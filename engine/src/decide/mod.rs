//! The Engine as a person meets it: open conflicts and how they are decided, held deletions, the
//! history of a row, taking changes back, a row's document.

pub(crate) mod deletion_guard;
pub(crate) mod history;
pub(crate) mod receipts;
pub(crate) mod recent;
pub(crate) mod resolve;

use storysync_crdt::{DeviceKey, Since, Stamp, SyncUuid};

use crate::app::profile::table_of_entity_type;
use crate::decide::deletion_guard::{HoldDecision, HoldReport};
use crate::decide::history::{DeviceUndo, EntryReport, UndoReport};
use crate::decide::resolve::{Choice, Take, Which};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::naming::name_of_uuid;
use crate::report::{ConflictReport, NoticeReport};
use crate::store::conflicts::{self, EndedConflict};
use crate::store::{log, rows};

impl Engine {
    /// The open conflicts of at most 10,000 rows, ordered by table, `sync_uuid` and kind.
    ///
    /// ```
    /// # mod desks { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doctests/desks.rs")); }
    /// # use desks::*;
    /// # let (mut one, mut other) = titled_apart();
    /// // Two devices have written one title.
    /// let conflicts = one.engine.conflicts(now())?;
    /// assert_eq!(conflicts[0].kind, "field");
    /// let values = &conflicts[0].fields[0].values;
    /// assert_eq!(values.len(), 2, "both are kept, with who wrote them and when");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn conflicts(&mut self, now: Stamp) -> Result<Vec<ConflictReport>, EngineError> {
        self.capture(now)?;
        self.look(now, |transaction| transaction.list_conflicts())
    }

    /// The open conflicts of at most `rows` rows, after those of the first `skip` rows that have
    /// any, in the order in which the rows came to be known here.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn conflicts_from(
        &mut self,
        skip: i64,
        rows: i64,
        now: Stamp,
    ) -> Result<Vec<ConflictReport>, EngineError> {
        self.capture(now)?;
        self.look(now, |transaction| transaction.list_some_conflicts(skip, rows))
    }

    /// One open conflict; `None` when it is over, or never was.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn conflict(
        &mut self,
        id: &str,
        now: Stamp,
    ) -> Result<Option<ConflictReport>, EngineError> {
        self.capture(now)?;
        self.look(now, |transaction| transaction.conflict_named(id))
    }

    /// Texts from other devices that gave way to what the app wrote here, where nobody can say
    /// whether its user had read them.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn notices(&mut self, now: Stamp) -> Result<Vec<NoticeReport>, EngineError> {
        self.look(now, |transaction| transaction.list_notices())
    }

    /// The conflicts that are over, newest first.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn ended_conflicts(&mut self, limit: i64) -> Result<Vec<EndedConflict>, EngineError> {
        self.read(|connection, schema| {
            let mut ended = conflicts::ended(connection, limit)?;
            for conflict in &mut ended {
                conflict.row_name =
                    name_of_uuid(connection, schema, &conflict.table, &conflict.uuid)?;
            }
            Ok(ended)
        })
    }

    /// Decides one conflict, for the device `by`; `None` for this one.
    ///
    /// ```
    /// # mod desks { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doctests/desks.rs")); }
    /// # use desks::*;
    /// # use storysync_engine::{Choice, Take};
    /// # let (mut one, mut other) = titled_apart();
    /// let id = one.engine.conflicts(now())?[0].id.clone();
    /// let theirs = Choice { take: Some(Take::Theirs), ..Choice::default() };
    /// one.engine.resolve(&id, &theirs, None, now())?;
    /// sync(&mut one, &mut other);
    /// assert!(other.engine.conflicts(now())?.is_empty(), "decided on one device, over on both");
    /// let title: String = one.app.query_row("SELECT title FROM note", [], |row| row.get(0))?;
    /// assert_eq!(title, "Harbour at night");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When there is no such conflict, or the choice does not fit it.
    pub fn resolve(
        &mut self,
        id: &str,
        choice: &Choice,
        by: Option<DeviceKey>,
        now: Stamp,
    ) -> Result<(), EngineError> {
        let own = by.unwrap_or(self.options.device_key);
        self.write(now, |transaction| {
            transaction.on_behalf_of = by;
            transaction.resolve_conflict(id, choice, &own)
        })?;
        Ok(())
    }

    /// Decides all open conflicts alike, for the device `by`: how many were decided, and why others
    /// were not.
    ///
    /// # Errors
    /// See [`EngineError`]. What was decided before a failure stays.
    pub fn resolve_all(
        &mut self,
        take: &Take,
        by: Option<DeviceKey>,
        now: Stamp,
    ) -> Result<(usize, Vec<String>), EngineError> {
        let own = by.unwrap_or(self.options.device_key);
        let (mut decided, mut left) = (0, Vec::new());
        for which in [Which::Rows, Which::Links] {
            let mut after = rows::RowId(0);
            // In slices, so that the app gets its turns in between.
            loop {
                let (some, _) = self.write(now, |transaction| {
                    transaction.on_behalf_of = by;
                    transaction.resolve_some(take, &own, after, which)
                })?;
                let Some(some) = some else { break };
                decided += some.decided;
                left.extend(some.left);
                after = some.last;
            }
        }
        Ok((decided, left))
    }

    /// Deletions and emptied texts that wait for a yes.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn holds(&mut self, now: Stamp) -> Result<Vec<HoldReport>, EngineError> {
        self.look(now, |transaction| transaction.holds())
    }

    /// Lets deletions through that wait, or takes them back everywhere; returns how many rows there
    /// were.
    ///
    /// # Errors
    /// When no such deletions wait.
    pub fn decide_hold(
        &mut self,
        id: &str,
        decision: HoldDecision,
        now: Stamp,
    ) -> Result<usize, EngineError> {
        Ok(self.write(now, |transaction| transaction.decide_hold(id, decision))?.0)
    }

    /// Who wrote what in a row, and when.
    ///
    /// ```
    /// # mod desks { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doctests/desks.rs")); }
    /// # use desks::*;
    /// # let (mut one, mut other) = titled_apart();
    /// let uuid: String = one.app.query_row("SELECT sync_uuid FROM note", [], |row| row.get(0))?;
    /// let history = one.engine.history("note", &uuid, now())?;
    /// let actions: Vec<&str> = history.iter().map(|entry| entry.action.as_str()).collect();
    /// assert_eq!(actions, ["created", "edited", "edited"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When there is no such row.
    pub fn history(
        &mut self,
        table: &str,
        uuid: &str,
        now: Stamp,
    ) -> Result<Vec<EntryReport>, EngineError> {
        self.capture(now)?;
        self.look(now, |transaction| transaction.history(table, uuid))
    }

    /// Takes one change of a row back: the named one, or the newest.
    ///
    /// ```
    /// # mod desks { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doctests/desks.rs")); }
    /// # use desks::*;
    /// # let mut desk = desk(1);
    /// desk.app.execute("INSERT INTO note (title) VALUES ('Harbour')", [])?;
    /// desk.engine.capture(now())?;
    /// desk.app.execute("UPDATE note SET title = 'The end'", [])?;
    /// desk.engine.capture(now())?;
    /// let uuid: String = desk.app.query_row("SELECT sync_uuid FROM note", [], |row| row.get(0))?;
    /// desk.engine.undo_change("note", &uuid, None, now())?;
    /// let title: String = desk.app.query_row("SELECT title FROM note", [], |row| row.get(0))?;
    /// assert_eq!(title, "Harbour", "an edit like any other: the app reads it in its table");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When there is no such row or change, or nothing of it is left to take back.
    pub fn undo_change(
        &mut self,
        table: &str,
        uuid: &str,
        change: Option<&str>,
        now: Stamp,
    ) -> Result<UndoReport, EngineError> {
        Ok(self.write(now, |transaction| transaction.undo_change(table, uuid, change))?.0)
    }

    /// What would take back everything a device wrote, or brought, from a time on: by when it came
    /// here, whatever time it claims.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn plan_undo(&mut self, which: &Since, now: Stamp) -> Result<DeviceUndo, EngineError> {
        self.capture(now)?;
        self.look(now, |transaction| transaction.plan_undo(which))
    }

    /// Takes back what [`Self::plan_undo`] tells of.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn undo_device(&mut self, which: &Since, now: Stamp) -> Result<DeviceUndo, EngineError> {
        Ok(self.write(now, |transaction| transaction.undo_device(which))?.0)
    }

    /// A row's document as an automerge file.
    ///
    /// ```
    /// # mod desks { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doctests/desks.rs")); }
    /// # use desks::*;
    /// # let mut desk = desk(1);
    /// desk.app.execute("INSERT INTO note (title) VALUES ('Harbour')", [])?;
    /// let uuid: String = desk.app.query_row("SELECT sync_uuid FROM note", [], |row| row.get(0))?;
    /// let bytes = desk.engine.document("note", &uuid, now())?;
    /// assert_eq!(bytes[..4], [0x85, 0x6f, 0x4a, 0x83], "automerge's own magic");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When there is no such row, or automerge refuses its changes.
    pub fn document(
        &mut self,
        table: &str,
        uuid: &str,
        now: Stamp,
    ) -> Result<Vec<u8>, EngineError> {
        self.capture(now)?;
        let document = self.read(|connection, schema| {
            let no_such_row =
                || EngineError::NoSuchRow { table: table.to_owned(), uuid: uuid.to_owned() };
            let id = rows::find_table(connection, table_of_entity_type(schema, table))?
                .ok_or_else(no_such_row)?;
            let uuid = SyncUuid::parse(uuid).ok_or_else(no_such_row)?;
            let record = rows::find(connection, id, &uuid)?.ok_or_else(no_such_row)?;
            Ok(log::document(connection, record.id)?)
        })?;
        if document.is_empty() {
            return Err(EngineError::NoSuchRow { table: table.to_owned(), uuid: uuid.to_owned() });
        }
        Ok(storysync_crdt::save(&document)?)
    }
}
