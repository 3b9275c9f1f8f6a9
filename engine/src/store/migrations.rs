//! Brings our tables up to date, with refinery, inside a transaction that is already open (so that
//! everything a migration does to the app's file happens at once or not at all).

use refinery_core::traits::sync::{Migrate, Query, Transaction};
use refinery_core::{Migration, Runner};
use rusqlite::Connection;

/// refinery's own bookkeeping.
const BOOKKEEPING_TABLE: &str = "sync_migrations";

/// Migrations of our tables in the app's file.
const NODE: &[(&str, &str)] = &[
    ("V1__log", include_str!("../../../migrations/node/V1__log.sql")),
    ("V2__clashes", include_str!("../../../migrations/node/V2__clashes.sql")),
    ("V3__guard", include_str!("../../../migrations/node/V3__guard.sql")),
    ("V4__first_contact", include_str!("../../../migrations/node/V4__first_contact.sql")),
    ("V5__counting", include_str!("../../../migrations/node/V5__counting.sql")),
    ("V6__packs", include_str!("../../../migrations/node/V6__packs.sql")),
    ("V7__entities", include_str!("../../../migrations/node/V7__entities.sql")),
    ("V8__counted_by_hand", include_str!("../../../migrations/node/V8__counted_by_hand.sql")),
    ("V9__notices", include_str!("../../../migrations/node/V9__notices.sql")),
    ("V10__refusals", include_str!("../../../migrations/node/V10__refusals.sql")),
    ("V12__older_sqlite", include_str!("../../../migrations/node/V12__older_sqlite.sql")),
    ("V13__renamed", include_str!("../../../migrations/node/V13__renamed.sql")),
];
/// Migrations of the file of trust.
const TRUST: &[(&str, &str)] = &[
    ("V1__devices", include_str!("../../../migrations/trust/V1__devices.sql")),
    ("V2__vigilance", include_str!("../../../migrations/trust/V2__vigilance.sql")),
];
/// Storymaster's own tables, for a new database.
const STORYMASTER: &str = include_str!("../../../migrations/storymaster/V1__schema.sql");

/// Our tables could not be brought up to date.
#[derive(Debug, thiserror::Error)]
#[error("storysync's own tables can't be brought up to date: {0}")]
pub struct MigrationsError(#[from] refinery_core::Error);

/// refinery's view of a connection whose transaction we manage.
struct OpenTransaction<'c>(&'c Connection);

impl Transaction for OpenTransaction<'_> {
    type Error = rusqlite::Error;

    fn execute<'a, T: Iterator<Item = &'a str>>(
        &mut self,
        queries: T,
    ) -> Result<usize, Self::Error> {
        let mut count = 0;
        for query in queries {
            self.0.execute_batch(query)?;
            count += 1;
        }
        Ok(count)
    }
}

impl Query<Vec<Migration>> for OpenTransaction<'_> {
    fn query(&mut self, query: &str) -> Result<Vec<Migration>, Self::Error> {
        let mut statement = self.0.prepare(query)?;
        let mut rows = statement.query([])?;
        let mut applied = Vec::new();
        while let Some(row) = rows.next()? {
            let (version, name, applied_on, checksum): (i32, String, String, String) =
                (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
            let applied_on = time::OffsetDateTime::parse(
                &applied_on,
                &time::format_description::well_known::Rfc3339,
            )
            .map_err(|error| {
                rusqlite::Error::FromSqlConversionFailure(
                    2,
                    rusqlite::types::Type::Text,
                    Box::new(error),
                )
            })?;
            let checksum = checksum.parse::<u64>().map_err(|error| {
                rusqlite::Error::FromSqlConversionFailure(
                    3,
                    rusqlite::types::Type::Text,
                    Box::new(error),
                )
            })?;
            applied.push(Migration::applied(version, name, applied_on, checksum));
        }
        Ok(applied)
    }
}

impl Migrate for OpenTransaction<'_> {}

fn parsed(migrations: &[(&str, &str)]) -> Result<Vec<Migration>, refinery_core::Error> {
    migrations.iter().map(|(name, sql)| Migration::unapplied(name, sql)).collect()
}

fn run(connection: &Connection, migrations: &[(&str, &str)]) -> Result<(), MigrationsError> {
    let mut runner = Runner::new(&parsed(migrations)?);
    runner.set_migration_table_name(BOOKKEEPING_TABLE);
    runner.run(&mut OpenTransaction(connection))?;
    Ok(())
}

/// Creates or upgrades our tables in the app's file. Call inside a write transaction.
///
/// # Errors
/// When the file holds tables of a newer storysync, or SQLite fails.
pub fn run_node(connection: &Connection) -> Result<(), MigrationsError> {
    run(connection, NODE)
}

/// Creates or upgrades the file of trust. Call inside a write transaction.
///
/// # Errors
/// When the file is of a newer storysync, or SQLite fails.
pub fn run_trust(connection: &Connection) -> Result<(), MigrationsError> {
    run(connection, TRUST)
}

/// Creates Storymaster's tables in an empty file. Call inside a write transaction.
///
/// # Errors
/// When SQLite fails.
pub fn create_storymaster(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(STORYMASTER)
}

/// Drops the indexes of our largest tables while they are empty, and returns the SQL that makes
/// them again: building an index at once is faster than row by row.
///
/// # Errors
/// When SQLite fails.
pub fn drop_indexes(connection: &Connection) -> rusqlite::Result<String> {
    let mut list = connection.prepare(
        "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS \
            NOT NULL AND tbl_name IN ('sync_row', 'sync_change')",
    )?;
    let indexes: Vec<(String, String)> =
        list.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    for (name, _) in &indexes {
        connection.execute_batch(&format!("DROP INDEX {name}"))?;
    }
    Ok(indexes.into_iter().map(|(_, sql)| format!("{sql};")).collect())
}

/// How many of our migrations a file has, and how many there are. Reads only.
///
/// # Errors
/// When SQLite fails.
pub fn node_progress(connection: &Connection) -> rusqlite::Result<(i64, i64)> {
    progress(connection, NODE)
}

/// Whether the file of trust needs nothing. Reads only: a command that starts is not kept from its
/// work by reading migrations.
///
/// # Errors
/// When SQLite fails.
pub fn is_trust_current(connection: &Connection) -> rusqlite::Result<bool> {
    progress(connection, TRUST).map(|(applied, all)| applied == all)
}

fn progress(connection: &Connection, migrations: &[(&str, &str)]) -> rusqlite::Result<(i64, i64)> {
    let exists: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = ?1)",
        [BOOKKEEPING_TABLE],
        |row| row.get(0),
    )?;
    let applied = if exists {
        connection
            .query_row(&format!("SELECT count(*) FROM {BOOKKEEPING_TABLE}"), [], |row| row.get(0))?
    } else {
        0
    };
    Ok((applied, i64::try_from(migrations.len()).unwrap_or(i64::MAX)))
}
