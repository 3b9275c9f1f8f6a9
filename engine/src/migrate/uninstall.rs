//! Taking what is ours out of the app's file again: triggers and tables. Rows stay as the app shows
//! them, with the columns they were given. In a file of Storymaster's its documented tables stay,
//! too.

use std::path::PathBuf;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::is_migrated;
use crate::app::profile::is_storymaster;
use crate::app::{backup, quote, triggers};
use crate::engine::EngineOptions;
use crate::epoch::read_state;
use crate::error::{EngineError, TransactionError};
use crate::file_guard::data_version;
use crate::migrate::renaming::schema_of;
use crate::store::migrations;
use storysync_crdt::Stamp;

/// How often the backup is made anew because somebody wrote to the file meanwhile.
const ATTEMPTS_MAX: u32 = 3;

/// What uninstalling did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct UninstallReport {
    /// The file as it was before, with all history.
    pub backup: PathBuf,
    /// Triggers that were dropped.
    pub triggers: usize,
    /// Tables that were dropped.
    pub tables: usize,
}

/// Takes our triggers and tables out of a prepared file, after a backup.
pub(crate) fn uninstall(
    connection: &Connection,
    options: &EngineOptions,
    now: Stamp,
) -> Result<UninstallReport, TransactionError> {
    let path = &options.database;
    // Tables of an earlier release need not be brought up to date to be dropped.
    if !is_migrated(connection)? && read_state(connection).ok().flatten().is_none() {
        return Err(EngineError::NotMigrated(path.clone()).into());
    }
    let mut attempt = 1;
    let (backup, transaction) = loop {
        let before = data_version(connection)?;
        let backup =
            backup::create(connection, path, &options.backups, now).map_err(EngineError::from)?;
        let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
        // What was committed in between would be in neither.
        if data_version(&transaction)? == before {
            break (backup, transaction);
        }
        transaction.rollback()?;
        std::fs::remove_file(&backup)
            .map_err(|source| EngineError::Io { path: backup.clone(), source })?;
        if attempt == ATTEMPTS_MAX {
            return Err(EngineError::Locked(path.clone()).into());
        }
        attempt += 1;
    };
    let is_storymaster = is_storymaster(&schema_of(&transaction, &options.excluded_tables)?);
    let triggers = drop_all(&transaction, "trigger", &own_triggers(&transaction)?)?;
    end_documented(&transaction, now)?;
    let mut tables = drop_all(&transaction, "table", &migrations::own_tables())?;
    if !is_storymaster {
        // No app reads them: they are ours, too.
        tables += drop_all(&transaction, "table", &DOCUMENTED.map(str::to_owned))?;
    }
    transaction.commit()?;
    Ok(UninstallReport { backup, triggers, tables })
}

/// Storymaster's documented tables, those that refer to others first.
const DOCUMENTED: [&str; 3] = ["sync_log", "sync_conflict", "sync_device"];

/// What the documented tables say is open or paired, nobody closes any more.
fn end_documented(connection: &Connection, now: Stamp) -> rusqlite::Result<()> {
    let at = now.to_table_text();
    connection.execute(
        "UPDATE sync_conflict SET resolved_at = ?1, resolution = 'superseded', updated_at = ?1 \
         WHERE id IN (SELECT line FROM sync_clash WHERE ended_at IS NULL)",
        [&at],
    )?;
    connection.execute(
        "UPDATE sync_device SET is_active = 0, updated_at = ?1 WHERE is_active = 1",
        [&at],
    )?;
    Ok(())
}

/// The names of our triggers.
fn own_triggers(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'trigger' AND instr(name, ?1) = 1")?
        .query_map([triggers::PREFIX], |row| row.get(0))?
        .collect()
}

/// Drops those of these that exist. Returns how many there were.
fn drop_all(connection: &Connection, kind: &str, names: &[String]) -> rusqlite::Result<usize> {
    let mut dropped = 0;
    for name in names {
        let exists: bool = connection.query_row(
            "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = ?1 AND name = ?2)",
            [kind, name],
            |row| row.get(0),
        )?;
        if exists {
            connection.execute_batch(&format!("DROP {kind} {}", quote(name)))?;
            dropped += 1;
        }
    }
    Ok(dropped)
}
