//! What stands where: every row any device has told of, its id in the app's table, and what the
//! table shows of it.

mod differences;
mod tables;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};
use storysync_crdt::{EntityId, SyncUuid};

pub use differences::{Difference, DifferenceKind, Differences};
use differences::{parse_differs, write_differs};
pub use tables::{
    count_tables, find_table, forget_table, high_id, once_stood_in, raise_high_id,
    set_table_columns, table_columns, table_id, table_name, tables_with_columns,
};

/// The integer key of a row in `sync_row`: local to this file, and not the id in the app's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId(pub i64);

/// The integer key of a table in `sync_table`: local to this file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub i64);

/// Why a row can't be written into the app's table: the words of `sync_row.parked`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Parked {
    /// A row it needs has not come.
    Parent,
    /// Another row has the same unique values, and stays.
    Name,
    /// The table refuses it, whatever its values, or a trigger does not let it go.
    Refused,
}

impl Parked {
    /// The word our table holds.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parent => "parent",
            Self::Name => "name",
            Self::Refused => "refused",
        }
    }
}

impl ToSql for Parked {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.as_str().into())
    }
}

impl FromSql for Parked {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value.as_str()? {
            "parent" => Ok(Self::Parent),
            "name" => Ok(Self::Name),
            "refused" => Ok(Self::Refused),
            _ => Err(FromSqlError::InvalidType),
        }
    }
}

/// One line of `sync_row`.
#[derive(Debug, Clone, PartialEq)]
pub struct RowRecord {
    /// Its integer key in `sync_row`.
    pub id: RowId,
    /// Its table.
    pub table: TableId,
    /// Its name on every device.
    pub uuid: SyncUuid,
    /// Its id in the app's table; kept after deletion.
    pub local_id: Option<i64>,
    /// Whether it stands in the app's table.
    pub present: bool,
    /// The version last shown; 0 while it is only referred to.
    pub version: i64,
    /// Where the table shows something else than the document says.
    pub differs: Differences,
    /// Why it can't be written into the app's table.
    pub parked: Option<Parked>,
    /// Number of open conflicts.
    pub conflicts: i64,
}

impl RowRecord {
    /// Whether nothing but the version tells the two apart.
    #[must_use]
    pub fn is_but_for_version(&self, other: &Self) -> bool {
        let Self { id, table, uuid, local_id, present, version: _, differs, parked, conflicts } =
            self;
        (id, table, uuid, local_id, present)
            == (&other.id, &other.table, &other.uuid, &other.local_id, &other.present)
            && (differs, parked, conflicts) == (&other.differs, &other.parked, &other.conflicts)
    }
}

const COLUMNS: &str =
    "id, table_id, sync_uuid, local_id, present, version, differs, parked, conflicts";

fn read(row: &SqlRow<'_>) -> rusqlite::Result<RowRecord> {
    let uuid: String = row.get(2)?;
    let differs: Option<String> = row.get(6)?;
    Ok(RowRecord {
        id: RowId(row.get(0)?),
        table: TableId(row.get(1)?),
        uuid: SyncUuid::parse(&uuid).ok_or(rusqlite::Error::InvalidColumnType(
            2,
            "sync_uuid".to_owned(),
            rusqlite::types::Type::Text,
        ))?,
        local_id: row.get(3)?,
        present: row.get(4)?,
        version: row.get(5)?,
        differs: differs.map(|json| parse_differs(&json)).unwrap_or_default(),
        parked: row.get(7)?,
        conflicts: row.get(8)?,
    })
}

/// A row by its integer key.
///
/// # Errors
/// When SQLite fails, or there is none.
pub fn get(connection: &Connection, id: RowId) -> rusqlite::Result<RowRecord> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM sync_row WHERE id = ?1"))?
        .query_row([id.0], read)
}

/// A row by its table and `sync_uuid`.
///
/// # Errors
/// When SQLite fails.
pub fn find(
    connection: &Connection,
    table: TableId,
    uuid: &SyncUuid,
) -> rusqlite::Result<Option<RowRecord>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM sync_row WHERE table_id = ?1 AND sync_uuid = ?2"
        ))?
        .query_row(params![table.0, uuid.as_str()], read)
        .optional()
}

/// Whether anybody has told of a row.
///
/// # Errors
/// When SQLite fails.
pub fn is_known(
    connection: &Connection,
    table: TableId,
    uuid: &SyncUuid,
) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM sync_row WHERE table_id = ?1 AND sync_uuid = ?2)",
        )?
        .query_row(params![table.0, uuid.as_str()], |row| row.get(0))
}

/// The row that stands under a local id in the app's table.
///
/// # Errors
/// When SQLite fails.
pub fn at_local_id(
    connection: &Connection,
    table: TableId,
    local_id: i64,
) -> rusqlite::Result<Option<RowRecord>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM sync_row WHERE table_id = ?1 AND local_id = ?2 AND present = 1"
        ))?
        .query_row(params![table.0, local_id], read)
        .optional()
}

/// The rows that once stood under a local id and stand nowhere now.
///
/// # Errors
/// When SQLite fails.
pub fn formerly_at(
    connection: &Connection,
    table: TableId,
    local_id: i64,
) -> rusqlite::Result<Vec<RowRecord>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM sync_row WHERE table_id = ?1 AND local_id = ?2 AND present = 0"
        ))?
        .query_map(params![table.0, local_id], read)?
        .collect()
}

/// The row with a name, made (known to nobody yet) when it is new here.
///
/// # Errors
/// When SQLite fails.
pub fn find_or_create(
    connection: &Connection,
    table: TableId,
    uuid: &SyncUuid,
) -> rusqlite::Result<RowRecord> {
    if let Some(record) = find(connection, table, uuid)? {
        return Ok(record);
    }
    connection
        .prepare_cached(
            "INSERT INTO sync_row (table_id, sync_uuid, present, version, conflicts) \
            VALUES (?1, ?2, 0, 0, 0)",
        )?
        .execute(params![table.0, uuid.as_str()])?;
    get(connection, RowId(connection.last_insert_rowid()))
}

/// Writes what changed about a row back.
///
/// # Errors
/// When SQLite fails.
pub fn save(connection: &Connection, record: &RowRecord) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE sync_state SET entities = entities + CASE WHEN ?2 THEN 1 ELSE -1 \
            END WHERE (SELECT present FROM sync_row WHERE id = ?1) <> ?2",
        )?
        .execute(params![record.id.0, record.present])?;
    connection
        .prepare_cached(
            "UPDATE sync_row SET local_id = ?2, present = ?3, version = ?4, differs = \
            ?5, parked = ?6, conflicts = ?7 WHERE id = ?1",
        )?
        .execute(params![
            record.id.0,
            record.local_id,
            record.present,
            record.version,
            write_differs(&record.differs),
            record.parked,
            record.conflicts
        ])?;
    Ok(())
}

/// Changes which version of a row is shown, and nothing else.
///
/// # Errors
/// When SQLite fails.
pub fn save_version(connection: &Connection, id: RowId, version: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE sync_row SET version = ?2 WHERE id = ?1")?
        .execute(params![id.0, version])?;
    Ok(())
}

/// Gives a row another name. Everything else about it stays.
///
/// # Errors
/// When SQLite fails, or another row has that name.
pub fn rename(connection: &Connection, id: RowId, uuid: &SyncUuid) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE sync_row SET sync_uuid = ?2 WHERE id = ?1")?
        .execute(params![id.0, uuid.as_str()])?;
    Ok(())
}

/// Adds a row that stands in the app's table. Many come at once, and are counted once: see
/// [`note_added`].
///
/// # Errors
/// When SQLite fails, or the row is known already.
pub fn insert_present(
    connection: &Connection,
    table: TableId,
    uuid: &SyncUuid,
    local_id: i64,
    version: i64,
    differs: &Differences,
) -> rusqlite::Result<RowId> {
    connection
        .prepare_cached(
            "INSERT INTO sync_row (table_id, sync_uuid, local_id, present, version, \
            differs, conflicts) VALUES (?1, ?2, ?3, 1, ?4, ?5, 0)",
        )?
        .execute(params![table.0, uuid.as_str(), local_id, version, write_differs(differs)])?;
    Ok(RowId(connection.last_insert_rowid()))
}

/// So many rows were added by [`insert_present`].
///
/// # Errors
/// When SQLite fails.
pub fn note_added(connection: &Connection, count: usize) -> rusqlite::Result<()> {
    if count > 0 {
        connection
            .prepare_cached("UPDATE sync_state SET entities = entities + ?1")?
            .execute([i64::try_from(count).unwrap_or(i64::MAX)])?;
    }
    Ok(())
}

/// The name of a row on every device.
///
/// # Errors
/// When SQLite fails, or there is no such row.
pub fn entity(connection: &Connection, record: &RowRecord) -> rusqlite::Result<EntityId> {
    Ok(EntityId { table: table_name(connection, record.table)?, uuid: record.uuid.clone() })
}

fn select(
    connection: &Connection,
    condition: &str,
    parameter: i64,
) -> rusqlite::Result<Vec<RowRecord>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM sync_row WHERE {condition}"))?
        .query_map([parameter], read)?
        .collect()
}

/// The rows that stand in the app's table, as we believe.
///
/// # Errors
/// When SQLite fails.
pub fn present_in(connection: &Connection, table: TableId) -> rusqlite::Result<Vec<RowRecord>> {
    select(connection, "table_id = ?1 AND present = 1", table.0)
}

/// The rows of a table that can't be written into it for one reason.
///
/// # Errors
/// When SQLite fails.
pub fn parked_because(
    connection: &Connection,
    table: TableId,
    reason: Parked,
) -> rusqlite::Result<Vec<RowId>> {
    connection
        .prepare_cached(
            "SELECT id FROM sync_row WHERE table_id = ?1 AND parked = ?2 AND parked IS NOT NULL",
        )?
        .query_map(params![table.0, reason], |row| row.get(0).map(RowId))?
        .collect()
}

/// The rows that stand in the app's tables though they are deleted: a trigger keeps them.
///
/// # Errors
/// When SQLite fails.
pub fn not_let_go(connection: &Connection) -> rusqlite::Result<Vec<RowId>> {
    connection
        .prepare_cached(
            "SELECT id FROM sync_row WHERE parked = ?1 AND parked IS NOT NULL AND present = 1",
        )?
        .query_map([Parked::Refused], |row| row.get(0).map(RowId))?
        .collect()
}

/// How many rows wait, by table and reason.
///
/// # Errors
/// When SQLite fails.
pub fn parked_by_reason(connection: &Connection) -> rusqlite::Result<Vec<(String, Parked, i64)>> {
    connection
        .prepare_cached(
            "SELECT t.name, r.parked, count(*) FROM sync_row AS r JOIN sync_table AS t ON t.id = \
                r.table_id WHERE r.parked IS NOT NULL \
             GROUP BY t.name, r.parked ORDER BY t.name, r.parked",
        )?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect()
}

/// The rows with open conflicts, at most `limit`.
///
/// # Errors
/// When SQLite fails.
pub fn with_conflicts(connection: &Connection, limit: i64) -> rusqlite::Result<Vec<RowRecord>> {
    select(connection, "conflicts > 0 ORDER BY id LIMIT ?1", limit)
}

/// The rows with open conflicts but for the first `skip`, at most `limit`.
///
/// # Errors
/// When SQLite fails.
pub fn with_conflicts_from(
    connection: &Connection,
    skip: i64,
    limit: i64,
) -> rusqlite::Result<Vec<RowRecord>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM sync_row WHERE conflicts > 0 ORDER BY id LIMIT ?2 OFFSET ?1"
        ))?
        .query_map([skip, limit], read)?
        .collect()
}

/// The rows with open conflicts after another, at most `limit`.
///
/// # Errors
/// When SQLite fails.
pub fn with_conflicts_after(
    connection: &Connection,
    after: RowId,
    limit: i64,
) -> rusqlite::Result<Vec<RowRecord>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM sync_row WHERE conflicts > 0 AND id > ?1 ORDER BY id LIMIT ?2"
        ))?
        .query_map([after.0, limit], read)?
        .collect()
}

/// Counts for people.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Rows that stand in the app's tables.
    pub entities: i64,
    /// Rows that wait for something.
    pub parked: i64,
    /// Open conflicts.
    pub conflicts: i64,
}

/// How many rows stand in an app's table, as we believe.
///
/// # Errors
/// When SQLite fails.
pub fn count_present(connection: &Connection, table: TableId) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("SELECT count(*) FROM sync_row WHERE table_id = ?1 AND present = 1")?
        .query_row([table.0], |row| row.get(0))
}

/// How many rows stand in the app's tables.
///
/// # Errors
/// When SQLite fails.
pub fn count_all_present(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("SELECT entities FROM sync_state")?.query_row([], |row| row.get(0))
}

/// Counts rows, parked rows and conflicts.
///
/// # Errors
/// When SQLite fails.
pub fn counts(connection: &Connection) -> rusqlite::Result<Counts> {
    let one = |sql: &str| connection.prepare_cached(sql)?.query_row([], |row| row.get(0));
    Ok(Counts {
        entities: one("SELECT entities FROM sync_state")?,
        parked: one("SELECT count(*) FROM sync_row WHERE parked IS NOT NULL")?,
        conflicts: open_conflicts(connection)?,
    })
}

/// How many conflicts are open. Reads an index of those rows only.
///
/// # Errors
/// When SQLite fails.
pub fn open_conflicts(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("SELECT coalesce(sum(conflicts), 0) FROM sync_row WHERE conflicts > 0")?
        .query_row([], |row| row.get(0))
}

/// The rows of a table that are known and do not stand in the app's table.
///
/// # Errors
/// When SQLite fails.
pub fn absent_in(connection: &Connection, table: TableId) -> rusqlite::Result<Vec<RowId>> {
    connection
        .prepare_cached("SELECT id FROM sync_row WHERE table_id = ?1 AND present = 0")?
        .query_map([table.0], |row| row.get(0).map(RowId))?
        .collect()
}

/// All known rows of a table, whether they stand or not.
///
/// # Errors
/// When SQLite fails.
pub fn all_in(connection: &Connection, table: TableId) -> rusqlite::Result<Vec<RowId>> {
    connection
        .prepare_cached("SELECT id FROM sync_row WHERE table_id = ?1 ORDER BY id")?
        .query_map([table.0], |row| row.get(0).map(RowId))?
        .collect()
}
