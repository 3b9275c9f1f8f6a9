//! Taking what is ours out of the app's file again: triggers and tables. Rows stay as the app shows
//! them, with the columns they were given; Storymaster's documented tables are the app's.

use std::path::PathBuf;

use rusqlite::{Connection, TransactionBehavior};

use super::is_migrated;
use crate::app::{backup, quote, triggers};
use crate::engine::EngineOptions;
use crate::error::{EngineError, TransactionError};
use crate::store::migrations;
use storysync_crdt::Stamp;

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
    connection: &mut Connection,
    options: &EngineOptions,
    now: Stamp,
) -> Result<UninstallReport, TransactionError> {
    let path = &options.database;
    if !is_migrated(connection)? {
        return Err(EngineError::NotMigrated(path.clone()).into());
    }
    let backup =
        backup::create(connection, path, &options.backups, now).map_err(EngineError::from)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let triggers = drop_all(&transaction, "trigger", &own_triggers(&transaction)?)?;
    let tables = drop_all(&transaction, "table", &migrations::own_tables())?;
    transaction.commit()?;
    Ok(UninstallReport { backup, triggers, tables })
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
