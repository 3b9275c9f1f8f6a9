//! Brings our tables up to date, with refinery, inside a transaction that is already open (so that
//! everything a migration does to the app's file happens at once or not at all).

use refinery_core::traits::sync::{Migrate, Query, Transaction};
use refinery_core::{Migration, Runner};
use rusqlite::Connection;

/// refinery's own bookkeeping.
const BOOKKEEPING_TABLE: &str = "sync_migrations";

/// Migrations of our tables in the app's file.
const NODE: &[(&str, &str)] = &[
    ("V1__node", include_str!("../../../migrations/node/V1__node.sql")),
    ("V2__parked_is_a_word", include_str!("../../../migrations/node/V2__parked_is_a_word.sql")),
    (
        "V3__losses_and_meetings",
        include_str!("../../../migrations/node/V3__losses_and_meetings.sql"),
    ),
];
/// Migrations of the file of trust.
const TRUST: &[(&str, &str)] = &[
    ("V1__trust", include_str!("../../../migrations/trust/V1__trust.sql")),
    ("V2__owners", include_str!("../../../migrations/trust/V2__owners.sql")),
    ("V3__pauses_and_names", include_str!("../../../migrations/trust/V3__pauses_and_names.sql")),
    ("V4__sealed_tokens", include_str!("../../../migrations/trust/V4__sealed_tokens.sql")),
];
/// Storymaster's own tables, for a new database.
const STORYMASTER: &str = include_str!("../../../migrations/storymaster/V1__schema.sql");

/// Our tables could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrationsError {
    /// A version before the first release prepared them.
    #[error(
        "storysync's own tables were made by a version before its first release (0.1.0), which \
            this \
         one does not read: put back the backup that was made when they were prepared, and prepare \
         it with this version"
    )]
    BeforeFirstRelease,
    /// A newer version made them.
    #[error(
        "storysync's own tables were made by a newer version of storysync: install that version, \
            or \
         a newer one, on this device, too"
    )]
    Newer,
    /// refinery refuses them, or SQLite does.
    #[error("storysync's own tables can't be brought up to date: {0}")]
    Refused(#[from] refinery_core::Error),
    /// SQLite fails.
    #[error("storysync's own tables can't be read: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

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
    Applied::read(connection)?.are_all(migrations)?;
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
    Ok((Applied::read(connection)?.count, count_of(NODE)))
}

/// Whether the file of trust needs nothing. Reads only: a command that starts is not kept from its
/// work by reading migrations.
///
/// # Errors
/// When SQLite fails.
pub fn is_trust_current(connection: &Connection) -> Result<bool, MigrationsError> {
    Applied::read(connection)?.are_all(TRUST)
}

/// Whether our tables in a file are all there, and of no other version than this one's. Reads only.
///
/// # Errors
/// [`MigrationsError::BeforeFirstRelease`], [`MigrationsError::Newer`], or when SQLite fails.
pub fn is_node_current(connection: &Connection) -> Result<bool, MigrationsError> {
    Applied::read(connection)?.are_all(NODE)
}

/// The tables of ours in the app's file, refinery's among them. Storymaster's documented ones,
/// which are made only where they are missing, are the app's.
#[must_use]
pub fn own_tables() -> Vec<String> {
    let created = NODE.iter().flat_map(|(_, sql)| sql.lines());
    let named = created.filter_map(|line| line.strip_prefix("CREATE TABLE sync_"));
    named
        .filter_map(|rest| rest.split_once(' '))
        .map(|(name, _)| format!("sync_{name}"))
        .chain([BOOKKEEPING_TABLE.to_owned()])
        .collect()
}

/// The migrations a file has had.
#[derive(Debug, Default)]
struct Applied {
    count: i64,
    /// The name of the first one.
    first: Option<String>,
}

impl Applied {
    /// One statement: each takes the file's locks once more, and every command begins with this.
    fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let sql = format!(
            "SELECT count(*), (SELECT name FROM {BOOKKEEPING_TABLE} ORDER BY version LIMIT 1) FROM \
             {BOOKKEEPING_TABLE}"
        );
        let read = |row: &rusqlite::Row<'_>| Ok(Self { count: row.get(0)?, first: row.get(1)? });
        match connection.query_row(&sql, [], read) {
            // Nothing was ever applied.
            Err(error) if !connection.table_exists(None, BOOKKEEPING_TABLE)? => {
                drop(error);
                Ok(Self::default())
            }
            applied => applied,
        }
    }

    /// Whether they are all there are. Refuses those of other versions: the migrations of those
    /// before 0.1.0 had other names.
    fn are_all(&self, migrations: &[(&str, &str)]) -> Result<bool, MigrationsError> {
        let Some(first) = &self.first else { return Ok(false) };
        if migrations.first().is_some_and(|(name, _)| *name != format!("V1__{first}")) {
            return Err(MigrationsError::BeforeFirstRelease);
        }
        match self.count.cmp(&count_of(migrations)) {
            std::cmp::Ordering::Greater => Err(MigrationsError::Newer),
            order => Ok(order.is_eq()),
        }
    }
}

fn count_of(migrations: &[(&str, &str)]) -> i64 {
    i64::try_from(migrations.len()).unwrap_or(i64::MAX)
}
