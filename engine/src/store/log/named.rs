//! Changes by their names: all of them, some of them, and the order in which they came.

use super::super::packs;
use super::super::rows::RowId;
use super::{Logged, Page, read_bytes, read_logged};
use rusqlite::{Connection, OptionalExtension, params};
use storysync_crdt::ChangeHash;

/// Bytes of a change in which its time is looked for.
pub(super) const TIME_WITHIN_BYTES: i64 = 512;

/// The names of all changes, each with the time its author gave it (Unix seconds), in no order.
///
/// # Errors
/// When SQLite fails.
pub fn names(connection: &Connection) -> rusqlite::Result<Vec<(u64, ChangeHash)>> {
    let mut select = connection
        .prepare_cached("SELECT hash, substr(bytes, 1, ?1) FROM sync_change WHERE pack IS NULL")?;
    let mut rows = select.query([TIME_WITHIN_BYTES])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push((
            storysync_crdt::change_time(row.get_ref(1)?.as_blob()?),
            ChangeHash(row.get(0)?),
        ));
    }
    let mut select = connection.prepare_cached(
        "SELECT hash, bytes, pack, seq FROM sync_change WHERE pack IS NOT NULL ORDER BY pack, seq",
    )?;
    let mut rows = select.query([])?;
    let mut reader = packs::Reader::new(connection);
    while let Some(row) = rows.next()? {
        found.push((
            storysync_crdt::change_time(&read_bytes(row, 1, &mut reader)?),
            ChangeHash(row.get(0)?),
        ));
    }
    Ok(found)
}

/// Of the named changes, those after `seq`, in order, until `entities` rows or `bytes` bytes are
/// reached. The second value tells whether more follow.
///
/// # Errors
/// When SQLite fails.
pub fn named(
    connection: &Connection,
    names: &[ChangeHash],
    seq: i64,
    entities: usize,
    bytes: usize,
) -> rusqlite::Result<(Vec<Logged>, bool)> {
    let mut select = connection.prepare_cached(
        "SELECT seq, chain, row_id, admitted_at, bytes, pack, seq FROM sync_change WHERE seq = ?1",
    )?;
    let mut reader = packs::Reader::new(connection);
    let mut page = Page::new(entities, bytes);
    for (seq, _) in places_named(connection, names, seq)? {
        let logged = select.query_row([seq], |row| read_logged(row, &mut reader))?;
        if !page.add(logged) {
            return Ok((page.found, true));
        }
    }
    Ok((page.found, false))
}

/// In which order to ask for the named changes: their numbers in `names`, as they stand in the log.
/// Unknown ones are left out.
///
/// # Errors
/// When SQLite fails.
pub fn order_of(connection: &Connection, names: &[ChangeHash]) -> rusqlite::Result<Vec<usize>> {
    Ok(places_named(connection, names, 0)?.into_iter().map(|(_, number)| number).collect())
}

/// Where the named changes after `seq` stand in the log, each with its number in `names`, in the
/// log's order.
pub(super) fn places_named(
    connection: &Connection,
    names: &[ChangeHash],
    seq: i64,
) -> rusqlite::Result<Vec<(i64, usize)>> {
    let mut place = connection.prepare_cached(
        "SELECT seq FROM sync_change WHERE substr(hash, 1, \
        8) = substr(?1, 1, 8) AND hash = ?1 AND seq > ?2",
    )?;
    let mut places = Vec::with_capacity(names.len());
    for (number, name) in names.iter().enumerate() {
        places.extend(
            place
                .query_row(params![name.0, seq], |row| row.get::<_, i64>(0))
                .optional()?
                .map(|seq| (seq, number)),
        );
    }
    places.sort_unstable();
    places.dedup_by_key(|(seq, _)| *seq);
    Ok(places)
}

/// The rows that the named changes are of.
///
/// # Errors
/// When SQLite fails.
pub fn rows_of(
    connection: &Connection,
    names: &[ChangeHash],
) -> rusqlite::Result<std::collections::HashSet<RowId>> {
    let mut select = connection.prepare_cached(
        "SELECT row_id FROM sync_change WHERE substr(hash, 1, 8) = substr(?1, 1, 8) AND hash = ?1",
    )?;
    let mut found = std::collections::HashSet::new();
    for name in names {
        found.extend(select.query_row([name.0], |row| row.get(0).map(RowId)).optional()?);
    }
    Ok(found)
}
