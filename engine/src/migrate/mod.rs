//! Preparing a file: backup, plan, one transaction, then proof that nothing else changed. On
//! failure the file is put back as it was, unless the app has written to it since.

pub(crate) mod adopt;
pub(crate) mod renaming;
pub(crate) mod uninstall;

use std::collections::HashSet;
use std::path::Path;

use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use storysync_crdt::{Stamp, SyncUuid};

use crate::app::backup;
use crate::app::profile::Prose;
use crate::app::quote;
use crate::app::schema::{self, Refused, Schema, Table};
use crate::engine::{EngineOptions, Entropy};
use crate::epoch::read_state;
use crate::error::{EngineError, TransactionError};
use crate::file_guard::data_version;
use crate::migrate::adopt::{MigrationReport, Plan};
use crate::migrate::renaming::schema_of;
use crate::store::log::EPOCH_BYTES;
use crate::store::migrations;
use crate::trust::identity::DeviceId;

/// How often a migration starts over because the app wrote meanwhile, before it plans under the
/// lock.
const PLANS_WITHOUT_LOCK: u32 = 3;
/// Page cache of a migration, in KiB.
const MIGRATION_CACHE_KIB: i64 = 256 * 1024;

pub(crate) fn is_migrated(connection: &Connection) -> Result<bool, TransactionError> {
    Ok(migrations::is_node_current(connection)? && read_state(connection)?.is_some())
}

pub(crate) fn read_schema(
    connection: &Connection,
    excluded: &[String],
) -> Result<Schema, TransactionError> {
    let mut schema = schema_of(connection, excluded)?;
    let unusable: Vec<Refused> =
        schema.tables().filter_map(|table| needs_the_app(connection, table)).collect();
    schema.refused.extend(unusable);
    if schema.refused.is_empty() {
        Ok(schema)
    } else {
        Err(EngineError::Refused(schema.refused).into())
    }
}

/// A table that only the app can write to, because an index, a check or a trigger of it uses a
/// function, a collation or a module that the app brings along.
fn needs_the_app(connection: &Connection, table: &Table) -> Option<Refused> {
    let (name, id) = (quote(&table.sql_name), quote(&table.local_id));
    let statements = [
        format!("INSERT INTO {name} DEFAULT VALUES"),
        format!("UPDATE {name} SET {id} = {id}"),
        format!("DELETE FROM {name}"),
    ];
    // Compiled only, never run.
    let error = statements.iter().find_map(|sql| connection.prepare(sql).err())?.to_string();
    let missing = ["unknown function", "no such function", "no such collation", "no such module"]
        .iter()
        .find_map(|words| error.find(words))?;
    let what = error
        .get(missing..)
        .unwrap_or_default()
        .split(" in ")
        .next()
        .unwrap_or_default()
        .to_owned();
    Some(Refused {
        table: table.sql_name.clone(),
        reason: format!("writing to it needs what only the app has ({what})"),
    })
}

/// Everything a file needs, inside an open transaction.
pub(crate) fn install(
    connection: &Connection,
    plan: Plan,
    device_id: &DeviceId,
    entropy: &mut Entropy,
    now: Stamp,
) -> Result<(), TransactionError> {
    migrations::run_node(connection)?;
    let mut epoch = [0; EPOCH_BYTES];
    entropy(&mut epoch);
    connection.execute(
        "INSERT INTO sync_state (id, device_id, epoch, schema_version, created_at) VALUES (1, ?1, \
            ?2, 0, ?3)",
        params![device_id.as_str(), epoch, now.unix_ms()],
    )?;
    let indexes = migrations::drop_indexes(connection)?;
    plan.apply(connection, now, true)?;
    connection.execute_batch(&indexes)?;
    connection
        .execute("UPDATE sync_state SET schema_version = ?1", [schema::version(connection)?])?;
    Ok(())
}

/// Brings our own tables of a file that was prepared before up to date.
pub(crate) fn upgrade(connection: &Connection) -> Result<(), TransactionError> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    migrations::run_node(&transaction)?;
    transaction.commit()?;
    Ok(())
}

pub(crate) fn migrate(
    connection: &mut Connection,
    options: &EngineOptions,
    entropy: &mut Entropy,
    now: Stamp,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<MigrationReport, TransactionError> {
    let prose = Prose { configured: options.prose_columns.clone() };
    let device_id = DeviceId::of_key(&options.device_key);
    // Every page of the file is touched once: pages written early must not be read back.
    connection.pragma_update(None, "cache_size", -MIGRATION_CACHE_KIB)?;
    let mut attempt = 1;
    let (backup_path, report, committed_version) = loop {
        let schema = read_schema(connection, &options.excluded_tables)?;
        let before = data_version(connection)?;
        let backup_path = backup::create(connection, &options.database, &options.backups, now)
            .map_err(EngineError::from)?;
        let copy = backup::open(&backup_path)?;
        let rows_in_all = count_rows(&copy, &schema)?;
        let mut done = 0;
        let mut count = |rows: usize| {
            done += rows as u64;
            progress(done, rows_in_all);
        };
        let plan = Plan::make(&copy, &schema, &HashSet::new(), &prose, |_, _| None, &mut count)?;
        let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
        let plan = if data_version(&transaction)? == before {
            plan
        } else if attempt < PLANS_WITHOUT_LOCK {
            // The app wrote since the backup was made: start over with a new one.
            transaction.rollback()?;
            drop(copy);
            std::fs::remove_file(&backup_path)
                .map_err(|source| EngineError::Io { path: backup_path, source })?;
            attempt += 1;
            continue;
        } else {
            let schema = read_schema(&transaction, &options.excluded_tables)?;
            Plan::make(&transaction, &schema, &HashSet::new(), &prose, |_, _| None, |_| {})?
        };
        let tables = plan.report();
        install(&transaction, plan, &device_id, entropy, now)?;
        let version = data_version(&transaction)?;
        transaction.commit()?;
        break (
            backup_path.clone(),
            MigrationReport { backup: Some(backup_path), tables },
            version,
        );
    };
    if let Some(complaint) = find_difference(connection, &backup_path)? {
        if data_version(connection)? == committed_version {
            backup::restore(&backup_path, connection).map_err(EngineError::from)?;
            return Err(EngineError::NotIntact { complaint, backup: backup_path }.into());
        }
        return Err(EngineError::NotIntactAndWritten { complaint, backup: backup_path }.into());
    }
    Ok(report)
}

fn count_rows(connection: &Connection, schema: &Schema) -> rusqlite::Result<u64> {
    let mut rows = 0;
    for table in schema.tables() {
        let count: i64 = connection.query_row(
            &format!("SELECT count(*) FROM {}", quote(&table.sql_name)),
            [],
            |row| row.get(0),
        )?;
        rows += count.unsigned_abs();
    }
    Ok(rows)
}

/// Compares the migrated file with its backup, row by row; `None` when nothing was lost or changed.
/// Sync columns may have been filled where they were empty; rows the app has written since are
/// skipped.
fn find_difference(
    connection: &Connection,
    backup_path: &Path,
) -> Result<Option<String>, TransactionError> {
    if let Some(complaint) = backup::integrity(connection)? {
        return Ok(Some(format!("integrity check: {complaint}")));
    }
    let copy = backup::open(backup_path)?;
    let reading = connection.unchecked_transaction()?;
    let touched: HashSet<(String, i64)> = reading
        .prepare("SELECT DISTINCT table_name, local_id FROM sync_outbox")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let mut list = copy.prepare(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' \
            AND wr = 0 AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
    )?;
    let names: Vec<String> = list.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for name in names {
        if let Some(complaint) = difference_in(&copy, &reading, &name, &touched)? {
            return Ok(Some(complaint));
        }
    }
    Ok(None)
}

fn difference_in(
    copy: &Connection,
    migrated: &Connection,
    name: &str,
    touched: &HashSet<(String, i64)>,
) -> Result<Option<String>, TransactionError> {
    let columns: Vec<String> = copy
        .prepare("SELECT name FROM pragma_table_xinfo(?1) WHERE hidden = 0 ORDER BY cid")?
        .query_map([name], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let quoted: Vec<String> = columns.iter().map(|column| quote(column)).collect();
    let select = format!("SELECT rowid, {} FROM {}", quoted.join(", "), quote(name));
    let mut before = copy.prepare(&format!("{select} ORDER BY rowid"))?;
    let mut before = before.query([])?;
    let mut same_id = migrated.prepare(&format!("{select} WHERE rowid = ?1"))?;
    let mut compared: i64 = 0;
    while let Some(old) = before.next()? {
        let id: i64 = old.get(0)?;
        compared += 1;
        if touched.contains(&(name.to_owned(), id)) {
            continue;
        }
        let mut found = same_id.query([id])?;
        let Some(new) = found.next()? else {
            return Ok(Some(format!("table {name} lost row {id}")));
        };
        for (position, column) in (1..).zip(&columns) {
            let (was, is) = (old.get_ref(position)?, new.get_ref(position)?);
            let filled =
                matches!(column.as_str(), "sync_uuid" | "created_at" | "updated_at" | "version")
                    && was == rusqlite::types::ValueRef::Null;
            if was != is
                && !filled
                && !(column == "sync_uuid" && uuid_was_unusable(copy, name, was)?)
            {
                return Ok(Some(format!("table {name}, row {id}, column {column} differs")));
            }
        }
    }
    let now: i64 =
        migrated
            .query_row(&format!("SELECT count(*) FROM {}", quote(name)), [], |row| row.get(0))?;
    let untouched = !touched.iter().any(|(table, _)| table == name);
    Ok((untouched && now != compared)
        .then(|| format!("table {name} has {now} rows instead of {compared}")))
}

/// Whether a stored uuid could not name its row: taken by another row too, or no text.
fn uuid_was_unusable(
    copy: &Connection,
    table: &str,
    uuid: rusqlite::types::ValueRef<'_>,
) -> Result<bool, TransactionError> {
    let value = crate::translate::from_sql(uuid);
    if value.as_text().and_then(SyncUuid::parse).is_none() {
        return Ok(true);
    }
    let sql = format!("SELECT count(*) FROM {} WHERE sync_uuid = ?1", quote(table));
    let count: i64 = copy
        .prepare_cached(&sql)?
        .query_row([crate::translate::to_sql(&value)], |row| row.get(0))?;
    Ok(count > 1)
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::time::Duration;

    use super::*;
    use crate::Engine;

    #[test]
    fn a_value_that_changed_is_found_and_the_backup_puts_it_back() -> Result<(), Box<dyn Error>> {
        let folder = tempfile::TempDir::new()?;
        let database = folder.path().join("app.db");
        let mut connection = Connection::open(&database)?;
        connection.execute_batch(
            "CREATE TABLE note (id INTEGER PRIMARY KEY, body TEXT); INSERT \
            INTO note (body) VALUES ('one'), ('two')",
        )?;
        let options = EngineOptions {
            database,
            backups: folder.path().join("backups"),
            anchors: folder.path().join("anchors"),
            excluded_tables: Vec::new(),
            prose_columns: Vec::new(),
            device_key: [1; 32],
            rebuilding_within: Duration::ZERO,
            busy_timeout: Duration::from_secs(1),
        };
        let (engine, report) = Engine::open_or_migrate(
            options,
            Box::new(|bytes| bytes.fill(7)),
            Stamp::from_unix_ms(1),
            &mut |_, _| {},
        )?;
        drop(engine);
        let backup_path = report.backup.ok_or("no backup")?;
        assert_eq!(find_difference(&connection, &backup_path)?, None);
        // Written by the app, and noted: its right.
        connection.execute_batch("UPDATE note SET body = 'the app' WHERE id = 2")?;
        assert_eq!(find_difference(&connection, &backup_path)?, None);
        // Written by nobody who is noted: ours, and wrong.
        connection.execute_batch(
            "UPDATE sync_writer SET own = 1; UPDATE note SET body = 'broken' WHERE id = 1",
        )?;
        assert!(
            find_difference(&connection, &backup_path)?
                .is_some_and(|complaint| complaint.contains("row 1, column body"))
        );
        connection.execute_batch("DELETE FROM note WHERE id = 1")?;
        assert!(
            find_difference(&connection, &backup_path)?
                .is_some_and(|complaint| complaint.contains("lost row 1"))
        );
        backup::restore(&backup_path, &mut connection)?;
        let bodies: String =
            connection.query_row("SELECT group_concat(body) FROM note", [], |row| row.get(0))?;
        assert_eq!(bodies, "one,two");
        Ok(())
    }
}
