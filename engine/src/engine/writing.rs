//! One write transaction, and the questions asked before it: is this still our file, our log, our
//! schema? Reading transactions beside it.

use super::opening::{enable_triggers_of, is_other_choice, open_connection};
use super::{Engine, Noticed, fresh_actor};
use crate::app::backup;
use crate::app::rows as app_rows;
use crate::app::schema::{self, Schema};
use crate::epoch::{NewEpoch, begin_epoch, read_state};
use crate::error::{EngineError, SessionError};
use crate::file_guard::inode;
use crate::migrate::migrate;
use crate::migrate::renaming::schema_of;
use crate::store::anchor::Anchor;
use crate::store::log::{self};
use crate::store::rows;
use crate::transaction::Session;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use storysync_crdt::Stamp;

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
            .map_err(|error| EngineError::of_session(error, &path))?;
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
        work: impl FnOnce(&mut Session<'_>) -> Result<T, SessionError>,
    ) -> Result<(T, Noticed), EngineError> {
        self.follow_replaced_file()?;
        let restored = self.prepare_restored(now)?;
        self.writes += 1;
        let Self {
            connection,
            options,
            device_id,
            prose,
            schema,
            actor,
            anchor,
            remembered,
            epoch,
            entropy,
            has_sent,
            is_other_choice,
            rebuilding,
            is_unchecked,
            spent,
            ..
        } = self;
        let run = || -> Result<(T, Noticed), SessionError> {
            let transaction =
                Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
            let state = read_state(&transaction)?
                .ok_or_else(|| EngineError::NotMigrated(options.database.clone()))?;
            let mut noticed = Noticed { new_epoch: restored, ..Noticed::default() };
            // Another process of this device may have begun the life the file tells of, and then it
            // remembered so.
            let is_life_known = state.epoch == *epoch
                || remembered.load().and_then(|last| last.epoch) == Some(state.epoch);
            *epoch = state.epoch;
            if state.device_id != device_id.as_str()
                || !is_life_known
                || !log::passes_through(&transaction, *anchor)?
            {
                // A restored, copied or replaced file: what this run wrote elsewhere must never get
                // the same names again, and peers must not trust their cursors.
                entropy(epoch.as_mut_slice());
                let life = if state.device_id != device_id.as_str() {
                    NewEpoch::Copied
                } else if !is_life_known || log::end(&transaction)?.seq < anchor.seq {
                    NewEpoch::Restored
                } else {
                    NewEpoch::Replaced
                };
                transaction
                    .prepare_cached("UPDATE sync_state SET device_id = ?1")?
                    .execute([device_id.as_str()])?;
                if life != NewEpoch::Replaced {
                    // What was told since the backup, or by the device the file comes from, is
                    // known by these names.
                    transaction
                        .prepare_cached("UPDATE sync_state SET sent_at = coalesce(sent_at, ?1)")?
                        .execute([now.unix_ms()])?;
                }
                begin_epoch(&transaction, epoch, life, now)?;
                *actor = fresh_actor(&options.device_key, entropy);
                *has_sent = false;
                noticed.new_epoch = true;
            }
            if *is_unchecked || noticed.new_epoch {
                check_whole(&transaction, &options.database)?;
                *is_unchecked = false;
            }
            let version = schema::version(&transaction)?;
            let watched = schema.version == state.schema_version || rebuilding.is_some();
            if version != schema.version || noticed.new_epoch || state.schema_version < 0 {
                *schema = Arc::new(schema_of(&transaction, &options.excluded_tables)?);
            }
            if version != state.schema_version
                && watched
                && is_rebuilding(&transaction, schema, &options.excluded_tables)?
            {
                let (seen, since) = rebuilding
                    .filter(|(seen, _)| *seen == version)
                    .unwrap_or((version, now.unix_ms()));
                *rebuilding = Some((seen, since));
                let waited = now.unix_ms().saturating_sub(since);
                if u64::try_from(waited)
                    .is_ok_and(|waited| u128::from(waited) < options.rebuilding_within.as_millis())
                {
                    return Err(EngineError::Rebuilding(options.database.clone()).into());
                }
            }
            *rebuilding = None;
            enable_triggers_of(&transaction, schema)?;
            let mut session = Session::new(&transaction, Arc::clone(schema), actor, prose, now);
            let follows = version != state.schema_version || *is_other_choice;
            let rebuilt = if follows {
                session.follow_schema(&options.excluded_tables)?
            } else {
                BTreeSet::new()
            };
            let mut captured = session.drain()?;
            captured.extend(session.compare_tables(&rebuilt)?);
            if follows {
                session.learn_renamings()?;
            }
            let done = work(&mut session)?;
            session.note_derived()?;
            session.end_own_writes()?;
            session.pack_histories()?;
            if let Some(cause) = session.new_epoch_cause {
                entropy(epoch.as_mut_slice());
                begin_epoch(&transaction, epoch, cause, now)?;
                noticed.new_epoch = true;
            }
            noticed.rows = captured.len();
            let end = session.log_end();
            let new_schema = Arc::clone(&session.schema);
            *spent = session.close();
            if follows {
                transaction
                    .prepare_cached("UPDATE sync_state SET schema_version = ?1")?
                    .execute([new_schema.version])?;
            }
            transaction.commit()?;
            *schema = new_schema;
            *is_other_choice = false;
            let end = match end {
                Some(end) => end,
                None if noticed.new_epoch => log::end(connection)?,
                None => *anchor,
            };
            if end != *anchor || noticed.new_epoch {
                *anchor = end;
                remembered.save(end, epoch);
                Anchor::of_epoch(&options.anchors, epoch).save(end, epoch);
            }
            Ok((done, noticed))
        };
        run().map_err(|error| EngineError::of_session(error, &options.database))
    }

    pub(crate) fn read<T>(
        &mut self,
        work: impl FnOnce(&Connection, &Schema) -> Result<T, SessionError>,
    ) -> Result<T, EngineError> {
        let Self { connection, options, schema, .. } = self;
        let run = || -> Result<T, SessionError> {
            let reading = connection.unchecked_transaction()?;
            work(&reading, schema)
        };
        run().map_err(|error| EngineError::of_session(error, &options.database))
    }

    /// Looks at rows by the rules a transaction would go by, and writes nothing.
    pub(crate) fn look<T>(
        &mut self,
        now: Stamp,
        work: impl FnOnce(&mut Session<'_>) -> Result<T, SessionError>,
    ) -> Result<T, EngineError> {
        let Self { connection, options, prose, schema, actor, .. } = self;
        let run = || -> Result<T, SessionError> {
            let reading = connection.unchecked_transaction()?;
            work(&mut Session::new(&reading, Arc::clone(schema), actor, prose, now))
        };
        run().map_err(|error| EngineError::of_session(error, &options.database))
    }
}

/// Whether our triggers stand on other tables than those that are in sync. A file that was put
/// there from outside is looked through before anything is written to it. Costs reading the file
/// once.
pub(super) fn check_whole(connection: &Connection, path: &Path) -> Result<(), SessionError> {
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
) -> Result<bool, SessionError> {
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
