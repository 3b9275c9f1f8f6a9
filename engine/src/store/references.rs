//! Which rows refer to which, so that arrivals and departures find their referrers; and which hold
//! an integer under which no row stands (yet).

use rusqlite::{Connection, params};

use super::rows::{RowId, TableId};

/// Replaces what a row refers to.
///
/// # Errors
/// When SQLite fails.
pub fn set(
    connection: &Connection,
    referrer: RowId,
    targets: &[(RowId, String)],
) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM sync_ref WHERE referrer = ?1")?.execute([referrer.0])?;
    for (target, column) in targets {
        add(connection, *target, referrer, column)?;
    }
    Ok(())
}

/// Adds one reference.
///
/// # Errors
/// When SQLite fails.
pub fn add(
    connection: &Connection,
    target: RowId,
    referrer: RowId,
    column: &str,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT OR IGNORE INTO sync_ref (target, referrer, column_name) VALUES (?1, ?2, ?3)",
        )?
        .execute(params![target.0, referrer.0, column])?;
    Ok(())
}

/// Notes that a row holds an integer which is no row's id.
///
/// # Errors
/// When SQLite fails.
pub fn add_dangling(
    connection: &Connection,
    table: TableId,
    local_id: i64,
    referrer: RowId,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT OR IGNORE INTO sync_dangling (table_id, local_id, referrer) VALUES \
            (?1, ?2, ?3)",
        )?
        .execute([table.0, local_id, referrer.0])?;
    Ok(())
}

/// Whether some row holds this integer without referring to any row.
///
/// # Errors
/// When SQLite fails.
pub fn is_dangling(
    connection: &Connection,
    table: TableId,
    local_id: i64,
) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM sync_dangling WHERE table_id = ?1 AND local_id = ?2)",
        )?
        .query_row([table.0, local_id], |row| row.get(0))
}

/// The rows that hold an integer under which a row stands now; they are forgotten here.
///
/// # Errors
/// When SQLite fails.
pub fn take_dangling(
    connection: &Connection,
    table: TableId,
    local_id: i64,
) -> rusqlite::Result<Vec<RowId>> {
    let found: Vec<RowId> = connection
        .prepare_cached("SELECT referrer FROM sync_dangling WHERE table_id = ?1 AND local_id = ?2")?
        .query_map([table.0, local_id], |row| row.get(0).map(RowId))?
        .collect::<Result<_, _>>()?;
    if !found.is_empty() {
        connection
            .prepare_cached("DELETE FROM sync_dangling WHERE table_id = ?1 AND local_id = ?2")?
            .execute([table.0, local_id])?;
    }
    Ok(found)
}

/// The rows that refer to a row.
///
/// # Errors
/// When SQLite fails.
pub fn referrers(connection: &Connection, target: RowId) -> rusqlite::Result<Vec<RowId>> {
    connection
        .prepare_cached(
            "SELECT DISTINCT referrer FROM sync_ref WHERE target = ?1 ORDER BY referrer",
        )?
        .query_map([target.0], |row| row.get(0).map(RowId))?
        .collect()
}

/// The rows that refer to a row, each with the column by which it does.
///
/// # Errors
/// When SQLite fails.
pub fn referrers_by_column(
    connection: &Connection,
    target: RowId,
) -> rusqlite::Result<Vec<(RowId, String)>> {
    connection
        .prepare_cached(
            "SELECT referrer, column_name FROM sync_ref WHERE target = ?1 ORDER BY \
            referrer, column_name",
        )?
        .query_map([target.0], |row| Ok((RowId(row.get(0)?), row.get(1)?)))?
        .collect()
}

/// What a row refers to, by which column, in order.
///
/// # Errors
/// When SQLite fails.
pub fn of(connection: &Connection, referrer: RowId) -> rusqlite::Result<Vec<(RowId, String)>> {
    connection
        .prepare_cached(
            "SELECT target, column_name FROM sync_ref WHERE referrer = ?1 ORDER BY \
            target, column_name",
        )?
        .query_map([referrer.0], |row| Ok((RowId(row.get(0)?), row.get(1)?)))?
        .collect()
}

/// The rows a row refers to.
///
/// # Errors
/// When SQLite fails.
pub fn targets(connection: &Connection, referrer: RowId) -> rusqlite::Result<Vec<RowId>> {
    connection
        .prepare_cached("SELECT DISTINCT target FROM sync_ref WHERE referrer = ?1 ORDER BY target")?
        .query_map([referrer.0], |row| row.get(0).map(RowId))?
        .collect()
}
