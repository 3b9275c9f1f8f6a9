//! One write transaction, and the questions asked before it: is this still our file, our log, our
//! schema? Reading transactions beside it.

use super::opening::{enable_triggers_of, is_other_choice, open_connection};
use super::{Engine, Noticed, fresh_actor};
use super::{EngineOptions, Entropy};
use crate::app::backup;
use crate::app::rows as app_rows;
use crate::app::schema::{self, Schema};
use crate::capture::{Capture, SchemaChange};
use crate::epoch::{NewEpoch, State, begin_epoch, read_state};
use crate::error::{EngineError, TransactionError};
use crate::file_guard::inode;
use crate::migrate::migrate;
use crate::migrate::renaming::schema_of;
use crate::store::anchor::Anchor;
use crate::store::log::{self, Epoch, Position};
use crate::store::migrations;
use crate::store::peers;
use crate::store::rows;
use crate::transaction::Transaction;
use crate::trust::identity::DeviceId;
use rusqlite::{Connection, TransactionBehavior};
use std::path::Path;
use std::sync::Arc;
use storysync_crdt::{Actor, Stamp};

impl Engine {
    /// The file was moved away and another put in its place: follow the path, not the old file.
    pub(super) fn follow_replaced_file(&mut self) -> Result<(), EngineError> {
        // Another process of this device may have come further than we know.
        if let Some(further) =
            self.remembered.load().filter(|remembered| remembered.end.seq > self.anchor.seq)
        {
            self.anchor = further.end;
        }
        let now = inode(&self.options.database);
        if now != 0 && now == self.inode {
            return Ok(());
        }
        let connection = open_connection(&self.options.database, self.options.busy_timeout)?;
        // Another file may have other tables and triggers under the same version of its schema.
        self.schema = Arc::new(
            schema_of(&connection, &self.options.excluded_tables)
                .map_err(|error| EngineError::of_sqlite(error, &self.options.database))?,
        );
        self.is_other_choice = is_other_choice(&connection, &self.schema)
            .map_err(|error| EngineError::of_sqlite(error, &self.options.database))?;
        self.connection = connection;
        self.inode = now;
        self.is_unchecked = true;
        self.has_sent = false;
        self.names = None;
        self.counted = None;
        Ok(())
    }

    /// A file from before storysync was put back in place of ours, by the app's own restore: it is
    /// prepared as at first, and its rows meet those the other devices know by their names. Returns
    /// whether it was so.
    pub(super) fn prepare_restored(&mut self, now: Stamp) -> Result<bool, EngineError> {
        let path = self.options.database.clone();
        let explain = |error| EngineError::of_sqlite(error, &path);
        let is_ours = |connection: &Connection| {
            let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = \
                'sync_state')";
            connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, bool>(0))
        };
        if is_ours(&self.connection).map_err(explain)? {
            return Ok(false);
        }
        let mut connection = open_connection(&path, self.options.busy_timeout)?;
        migrate(&mut connection, &self.options, &mut self.entropy, now, &mut |_, _| {})
            .map_err(|error| EngineError::of_transaction(error, &path))?;
        let state = read_state(&connection)
            .map_err(explain)?
            .ok_or_else(|| EngineError::NotMigrated(path.clone()))?;
        begin_epoch(&connection, &state.epoch, NewEpoch::Restored, now).map_err(explain)?;
        self.schema =
            Arc::new(schema_of(&connection, &self.options.excluded_tables).map_err(explain)?);
        self.anchor = log::end(&connection).map_err(explain)?;
        self.epoch = state.epoch;
        self.actor = fresh_actor(&self.options.device_key, &mut self.entropy);
        self.remembered.save(self.anchor, &self.epoch);
        self.inode = inode(&path);
        self.connection = connection;
        self.has_sent = false;
        self.names = None;
        self.counted = None;
        tracing::warn!(
            "a database from before storysync was put in place of the prepared one; it was \
                prepared again, with a backup"
        );
        Ok(true)
    }

    /// One write transaction. In this order: the lock, is this still our file and our log, are the
    /// triggers in place, what did the app write; then `work`; then COMMIT.
    pub(crate) fn write<T>(
        &mut self,
        now: Stamp,
        work: impl FnOnce(&mut Transaction<'_>) -> Result<T, TransactionError>,
    ) -> Result<(T, Noticed), EngineError> {
        self.follow_replaced_file()?;
        let restored = self.prepare_restored(now)?;
        self.writes += 1;
        let Self { connection, prose, spent, .. } = self;
        let mut guard = Guard {
            options: &self.options,
            device_id: &self.device_id,
            remembered: &self.remembered,
            schema: &mut self.schema,
            actor: &mut self.actor,
            anchor: &mut self.anchor,
            epoch: &mut self.epoch,
            entropy: &mut self.entropy,
            has_sent: &mut self.has_sent,
            is_other_choice: &mut self.is_other_choice,
            rebuilding: &mut self.rebuilding,
            is_unchecked: &mut self.is_unchecked,
        };
        let run = || -> Result<(T, Noticed), TransactionError> {
            let lock =
                rusqlite::Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
            let (follows, mut noticed) = guard.look_first(&lock, restored, now)?;
            let schema = Arc::clone(guard.schema);
            let mut transaction = Transaction::new(&lock, schema, guard.actor, prose, now);
            let schema_change = if follows {
                transaction.follow_schema(&guard.options.excluded_tables)?
            } else {
                SchemaChange::default()
            };
            let captured = Capture::new(&mut transaction, schema_change).run()?;
            if follows {
                transaction.learn_renamings()?;
            }
            let done = work(&mut transaction)?;
            transaction.note_derived()?;
            transaction.end_own_writes()?;
            transaction.pack_histories()?;
            noticed.rows = captured.len();
            let (end, cause) = (transaction.log_end(), transaction.new_epoch_cause);
            let new_schema = Arc::clone(&transaction.schema);
            spent.add(transaction.close());
            if let Some(cause) = cause {
                guard.begin_epoch(&lock, cause, now)?;
                noticed.new_epoch = true;
            }
            if follows {
                lock.prepare_cached("UPDATE sync_state SET schema_version = ?1")?
                    .execute([new_schema.version])?;
            }
            lock.commit()?;
            *guard.schema = new_schema;
            *guard.is_other_choice = false;
            guard.remember(connection, end, noticed.new_epoch)?;
            Ok((done, noticed))
        };
        run().map_err(|error| EngineError::of_transaction(error, &self.options.database))
    }

    pub(crate) fn read<T>(
        &mut self,
        work: impl FnOnce(&Connection, &Schema) -> Result<T, TransactionError>,
    ) -> Result<T, EngineError> {
        let Self { connection, options, schema, .. } = self;
        let run = || -> Result<T, TransactionError> {
            let reading = connection.unchecked_transaction()?;
            work(&reading, schema)
        };
        run().map_err(|error| EngineError::of_transaction(error, &options.database))
    }

    /// Looks at rows by the rules a transaction would go by, and writes nothing.
    pub(crate) fn look<T>(
        &mut self,
        now: Stamp,
        work: impl FnOnce(&mut Transaction<'_>) -> Result<T, TransactionError>,
    ) -> Result<T, EngineError> {
        let Self { connection, options, prose, schema, actor, .. } = self;
        let run = || -> Result<T, TransactionError> {
            let reading = connection.unchecked_transaction()?;
            work(&mut Transaction::new(&reading, Arc::clone(schema), actor, prose, now))
        };
        run().map_err(|error| EngineError::of_transaction(error, &options.database))
    }
}

/// What is asked of the file before each transaction, and remembered of it afterwards.
struct Guard<'e> {
    options: &'e EngineOptions,
    device_id: &'e DeviceId,
    remembered: &'e Anchor,
    schema: &'e mut Arc<Schema>,
    actor: &'e mut Actor,
    anchor: &'e mut Position,
    epoch: &'e mut Epoch,
    entropy: &'e mut Entropy,
    has_sent: &'e mut bool,
    is_other_choice: &'e mut bool,
    rebuilding: &'e mut Option<(i64, i64)>,
    is_unchecked: &'e mut bool,
}

impl Guard<'_> {
    /// Is this still our file, our log and our schema? Returns whether the schema has to be
    /// followed, and what was noticed.
    fn look_first(
        &mut self,
        transaction: &Connection,
        restored: bool,
        now: Stamp,
    ) -> Result<(bool, Noticed), TransactionError> {
        let state = read_state(transaction)?
            .ok_or_else(|| EngineError::NotMigrated(self.options.database.clone()))?;
        let is_other_log = self.is_other_log(transaction, &state, now)?;
        let new_epoch = restored || is_other_log;
        if *self.is_unchecked || new_epoch {
            check_whole(transaction, &self.options.database)?;
            // A backup from before an upgrade may have been put in its place.
            if !migrations::is_node_current(transaction)? {
                migrations::run_node(transaction)?;
            }
            *self.is_unchecked = false;
        }
        if is_other_log {
            peers::forget_meetings(transaction)?;
        }
        let follows = self.look_at_schema(transaction, &state, new_epoch, now)?;
        enable_triggers_of(transaction, self.schema)?;
        Ok((follows, Noticed { new_epoch, ..Noticed::default() }))
    }

    /// Whether another log stands in the place of ours: a restored, copied or replaced file. What
    /// this run wrote elsewhere must never get the same names again, and peers must not trust their
    /// cursors, so it begins another epoch.
    fn is_other_log(
        &mut self,
        transaction: &Connection,
        state: &State,
        now: Stamp,
    ) -> Result<bool, TransactionError> {
        // Another process of this device may have begun the epoch the file tells of, and then it
        // remembered so.
        let is_epoch_known = state.epoch == *self.epoch
            || self.remembered.load().and_then(|last| last.epoch) == Some(state.epoch);
        *self.epoch = state.epoch;
        let is_ours = state.device_id == self.device_id.as_str();
        if is_ours && is_epoch_known && log::passes_through(transaction, *self.anchor)? {
            return Ok(false);
        }
        let cause = if !is_ours {
            NewEpoch::Copied
        } else if !is_epoch_known || log::end(transaction)?.seq < self.anchor.seq {
            NewEpoch::Restored
        } else {
            NewEpoch::Replaced
        };
        transaction
            .prepare_cached("UPDATE sync_state SET device_id = ?1")?
            .execute([self.device_id.as_str()])?;
        if cause != NewEpoch::Replaced {
            // What was told since the backup, or by the device the file comes from, is known by
            // these names.
            transaction
                .prepare_cached("UPDATE sync_state SET sent_at = coalesce(sent_at, ?1)")?
                .execute([now.unix_ms()])?;
        }
        self.begin_epoch(transaction, cause, now)?;
        *self.actor = fresh_actor(&self.options.device_key, self.entropy);
        *self.has_sent = false;
        Ok(true)
    }

    fn begin_epoch(
        &mut self,
        transaction: &Connection,
        cause: NewEpoch,
        now: Stamp,
    ) -> rusqlite::Result<()> {
        (self.entropy)(self.epoch.as_mut_slice());
        begin_epoch(transaction, self.epoch, cause, now)
    }

    /// Reads the schema anew where it may be another; whether it has to be followed. Tables the app
    /// has just dropped, or made again and not yet filled, are left alone for a while.
    fn look_at_schema(
        &mut self,
        transaction: &Connection,
        state: &State,
        new_epoch: bool,
        now: Stamp,
    ) -> Result<bool, TransactionError> {
        let version = schema::version(transaction)?;
        let watched = self.schema.version == state.schema_version || self.rebuilding.is_some();
        let excluded = &self.options.excluded_tables;
        if version != self.schema.version || new_epoch || state.schema_version < 0 {
            *self.schema = Arc::new(schema_of(transaction, excluded)?);
        }
        let is_other = version != state.schema_version;
        if is_other && watched && is_rebuilding(transaction, self.schema, excluded)? {
            let (seen, since) = self
                .rebuilding
                .filter(|(seen, _)| *seen == version)
                .unwrap_or((version, now.unix_ms()));
            *self.rebuilding = Some((seen, since));
            let waited = u64::try_from(now.unix_ms().saturating_sub(since));
            let patience = self.options.rebuilding_within.as_millis();
            if waited.is_ok_and(|waited| u128::from(waited) < patience) {
                return Err(EngineError::Rebuilding(self.options.database.clone()).into());
            }
        }
        *self.rebuilding = None;
        Ok(is_other || *self.is_other_choice)
    }

    /// Remembers where the log ends after a commit; `end` is `None` where it was not moved.
    fn remember(
        &mut self,
        connection: &Connection,
        end: Option<Position>,
        new_epoch: bool,
    ) -> rusqlite::Result<()> {
        let end = match end {
            Some(end) => end,
            None if new_epoch => log::end(connection)?,
            None => *self.anchor,
        };
        if end != *self.anchor || new_epoch {
            *self.anchor = end;
            self.remembered.save(end, self.epoch);
            Anchor::of_epoch(&self.options.anchors, self.epoch).save(end, self.epoch);
        }
        Ok(())
    }
}

/// A file that was put there from outside is looked through before anything is written to it. Costs
/// reading the file once.
pub(super) fn check_whole(connection: &Connection, path: &Path) -> Result<(), TransactionError> {
    match backup::quick_check(connection)? {
        None => Ok(()),
        Some(complaint) => Err(EngineError::Damaged { path: path.to_owned(), complaint }.into()),
    }
}

/// Whether a table that held rows is missing, or holds none.
pub(super) fn is_rebuilding(
    connection: &Connection,
    schema: &Schema,
    excluded: &[String],
) -> Result<bool, TransactionError> {
    for name in
        rows::tables_with_columns(connection)?.into_iter().filter(|name| !excluded.contains(name))
    {
        let Some(id) = rows::find_table(connection, &name)? else { continue };
        let is_empty = match schema.table(&name) {
            Some(table) => app_rows::is_empty(connection, table)?,
            None => true,
        };
        if is_empty && rows::count_present(connection, id)? > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}
