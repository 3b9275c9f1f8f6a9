//! What is new for a peer: pages of the change log, and the cursors that point into it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rusqlite::{Connection, OptionalExtension as _};
use sha2::{Digest, Sha256};
use storysync_crdt::{
    ChangeHash, DeletionKind, Document, Row, Stamp, TableName, UNKNOWN_STAMP, Value, key, row,
    row_head,
};

use crate::app::profile::table_of_entity_type;
use crate::app::rows as app_rows;
use crate::app::schema::{Schema, Table};
use crate::error::TransactionError;
use crate::exchange::wire::{PullRequest, RowChange, StoredTimes};
use crate::store::log::{self, CHAIN_BYTES, EPOCH_BYTES, Epoch, Logged, Position};
use crate::store::rows::{self, RowId, TableId};
use crate::translate::to_json_of;

/// Most rows in one page.
pub const PAGE_ENTITIES_MAX: usize = 1_000;
/// Most bytes of changes in one page.
pub const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

const CURSOR_VERSION: u8 = 1;
const FILTER_BYTES: usize = 8;

/// Where a peer stands in this log. Opaque to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Which epoch of the log.
    pub epoch: Epoch,
    /// How far.
    pub position: Position,
    /// Hash of the filter it was made under; another filter starts anew.
    pub filter: [u8; FILTER_BYTES],
}

impl Cursor {
    /// After everything up to `position`, without a filter.
    #[must_use]
    pub fn everything(epoch: Epoch, position: Position) -> Self {
        Self { epoch, position, filter: filter_hash(None) }
    }

    /// The opaque text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut bytes = vec![CURSOR_VERSION];
        bytes.extend_from_slice(&self.epoch);
        bytes.extend_from_slice(&self.position.seq.to_be_bytes());
        bytes.extend_from_slice(&self.position.chain);
        bytes.extend_from_slice(&self.filter);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads the opaque text; `None` for anything we did not write.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (version, rest) = bytes.split_first()?;
        let (epoch, rest) = rest.split_at_checked(EPOCH_BYTES)?;
        let (seq, rest) = rest.split_at_checked(8)?;
        let (chain, filter) = rest.split_at_checked(CHAIN_BYTES)?;
        if *version != CURSOR_VERSION {
            return None;
        }
        Some(Self {
            epoch: epoch.try_into().ok()?,
            position: Position {
                seq: i64::from_be_bytes(seq.try_into().ok()?),
                chain: chain.try_into().ok()?,
            },
            filter: filter.try_into().ok()?,
        })
    }
}

/// The filter of a pull, as its cursor remembers it.
fn filter_hash(entity_types: Option<&[String]>) -> [u8; FILTER_BYTES] {
    let mut hash = [0; FILTER_BYTES];
    if let Some(entity_types) = entity_types {
        let mut tables: Vec<&str> = entity_types.iter().map(String::as_str).collect();
        tables.sort_unstable();
        tables.dedup();
        let digest = Sha256::digest(tables.join("\0"));
        hash.iter_mut().zip(digest.iter()).for_each(|(to, from)| *to = *from);
    }
    hash
}

/// Bytes of plain rows, as JSON, in one page: with the changes beside them it still fits into a
/// sealed body.
const PAGE_DATA_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What is new after a cursor.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) changes: Vec<RowChange>,
    pub(crate) cursor: Cursor,
    pub(crate) has_more: bool,
    /// Changes that follow this page.
    pub(crate) remaining: i64,
    pub(crate) reset: bool,
    /// How far the peer has proven to know this log.
    pub(crate) acknowledged: i64,
    /// The rows told, each as it was at a place of the log.
    pub(crate) served: Vec<(RowId, i64)>,
}

/// How far a device knows our log: in one epoch of it, another has other changes under the same
/// numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    pub(crate) epoch: Epoch,
    /// The place of a change in our log.
    pub seq: i64,
}

/// A page of changes on its way to a peer that we call.
#[derive(Debug, Clone)]
pub struct PushPage {
    /// One for each row.
    pub changes: Vec<RowChange>,
    /// Where the page ends in our log.
    pub end: Reached,
    /// The part of our log it is, as cursors; none for changes told by name.
    pub span: Option<(String, String)>,
    /// Whether more follows.
    pub has_more: bool,
}

/// The page that answers a pull.
pub(crate) fn answer(
    connection: &Connection,
    schema: &Schema,
    epoch: Epoch,
    request: &PullRequest,
    peer: Option<i64>,
    rows_max: usize,
) -> Result<Page, TransactionError> {
    let filter = filter_hash(request.entity_types.as_deref());
    let cursor = request.cursor.as_deref().and_then(Cursor::parse);
    let mut reset = false;
    let start = match (&request.cursor, cursor) {
        (None, _) => Position::START,
        (Some(_), Some(cursor))
            if cursor.epoch == epoch && log::passes_through(connection, cursor.position)? =>
        {
            if cursor.filter == filter {
                cursor.position
            } else {
                Position::START
            }
        }
        (Some(_), _) => {
            reset = true;
            Position::START
        }
    };
    if reset && request.compares {
        // Whoever compares logs needs not be told everything anew.
        let cursor = Cursor { epoch, position: Position::START, filter };
        return Ok(Page {
            changes: Vec::new(),
            cursor,
            has_more: false,
            remaining: 0,
            reset,
            acknowledged: 0,
            served: Vec::new(),
        });
    }
    let acknowledged = if request.entity_types.is_none() { start.seq } else { 0 };
    let limit = request.limit.unwrap_or(rows_max).clamp(1, rows_max.max(1));
    let since = request.since_timestamp.as_deref().and_then(Stamp::parse);
    let tables: Option<Vec<&str>> = request
        .entity_types
        .as_ref()
        .map(|types| types.iter().map(|name| table_of_entity_type(schema, name)).collect());
    let wanted = |table: &str, admitted_at: i64| {
        tables.as_ref().is_none_or(|tables| tables.contains(&table))
            && since.is_none_or(|since| admitted_at > since.unix_ms())
    };
    let newest = log::end(connection)?.seq;
    let (mut limit, mut told) = (limit, Vec::new());
    let (changes, has_more, end) = loop {
        let (logged, has_more, end) =
            log::after(connection, start.seq, peer, limit, PAGE_BYTES_MAX)?;
        told.clear();
        match row_changes(connection, schema, logged, request.data, wanted, &mut told)? {
            Rows::All(changes) => break (changes, has_more, end),
            // So many rows with all their text fit into a page: it ends before the next one.
            Rows::TooMany { fitting } => limit = fitting.max(1),
        }
    };
    let served = told.into_iter().map(|row| (row, newest)).collect();
    let remaining = if has_more { log::count_after(connection, end.seq, peer)? } else { 0 };
    Ok(Page {
        served,
        changes,
        cursor: Cursor { epoch, position: end, filter },
        has_more,
        remaining,
        reset,
        acknowledged,
    })
}

/// Changes after `seq` by name, or all of them, whoever they came from.
pub(crate) fn fetched(
    connection: &Connection,
    schema: &Schema,
    epoch: Epoch,
    names: Option<&[ChangeHash]>,
    seq: i64,
    rows_max: usize,
) -> Result<PushPage, TransactionError> {
    let (logged, has_more) = match names {
        Some(names) => log::named(connection, names, seq, rows_max, PAGE_BYTES_MAX)?,
        None => {
            let (logged, has_more, _) =
                log::after(connection, seq, None, rows_max, PAGE_BYTES_MAX)?;
            (logged, has_more)
        }
    };
    let end = Reached { epoch, seq: logged.last().map_or(seq, |last| last.seq) };
    Ok(PushPage {
        changes: all_rows(row_changes(
            connection,
            schema,
            logged,
            false,
            |_, _| true,
            &mut Vec::new(),
        )?),
        end,
        span: None,
        has_more,
    })
}

fn all_rows(rows: Rows) -> Vec<RowChange> {
    match rows {
        Rows::All(changes) => changes,
        // Never: only text makes a page too large, and none was asked for.
        Rows::TooMany { .. } => Vec::new(),
    }
}

/// The page of our log after `seq` that `peer` has not sent us itself.
pub(crate) fn push_page(
    connection: &Connection,
    schema: &Schema,
    epoch: Epoch,
    seq: i64,
    peer: Option<i64>,
    rows_max: usize,
) -> Result<PushPage, TransactionError> {
    let (logged, has_more, end) = log::after(connection, seq, peer, rows_max, PAGE_BYTES_MAX)?;
    let cursor = |position| Cursor::everything(epoch, position).to_text();
    // A log that does not reach so far says nothing about what was told of it.
    let span =
        log::position_at(connection, seq).optional()?.map(|start| (cursor(start), cursor(end)));
    let changes =
        all_rows(row_changes(connection, schema, logged, false, |_, _| true, &mut Vec::new())?);
    Ok(PushPage { changes, end: Reached { epoch, seq: end.seq }, span, has_more })
}

/// What a part of the log says, row by row.
enum Rows {
    /// All of it.
    All(Vec<RowChange>),
    /// With the rows' text it is more than a page holds; the first `fitting` rows are not.
    TooMany { fitting: usize },
}

fn row_changes(
    connection: &Connection,
    schema: &Schema,
    logged: Vec<Logged>,
    with_data: bool,
    wanted: impl Fn(&str, i64) -> bool,
    told_rows: &mut Vec<RowId>,
) -> Result<Rows, TransactionError> {
    let mut order: Vec<RowId> = Vec::new();
    let mut by_row: HashMap<RowId, Vec<Logged>> = HashMap::new();
    for change in logged {
        let changes = by_row.entry(change.row).or_default();
        if changes.is_empty() {
            order.push(change.row);
        }
        changes.push(change);
    }
    let (mut found, mut data_bytes) = (Vec::with_capacity(order.len()), 0);
    let mut names: HashMap<TableId, TableName> = HashMap::new();
    for (index, id) in order.into_iter().enumerate() {
        let Some(changes) = by_row.remove(&id) else { continue };
        let record = rows::get(connection, id)?;
        let table = match names.entry(record.table) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(rows::table_name(connection, record.table)?),
        };
        if !changes.iter().any(|change| wanted(table.as_str(), change.admitted_at)) {
            continue;
        }
        let document = log::document(connection, id)?;
        let merged = row_head(&document);
        let holds_first = document
            .changes()
            .first()
            .is_some_and(|first| changes.iter().any(|change| change.bytes == first.bytes()));
        let deleted = merged.deletion.is_some();
        let mut told = RowChange {
            entity_type: table.as_str().to_owned(),
            entity_id: record.local_id.filter(|_| record.present),
            sync_uuid: record.uuid.as_str().to_owned(),
            operation: if deleted {
                "delete"
            } else if holds_first {
                "create"
            } else {
                "update"
            }
            .to_owned(),
            data: with_data.then(|| data(schema.table(table.as_str()), &document, &row(&document))),
            version: merged.version,
            updated_at: rfc3339(&merged.updated_at),
            stored_times: None,
            too_large: false,
            automerge: changes.iter().map(|change| STANDARD.encode(&change.bytes)).collect(),
        };
        if let (true, Some(local_id), Some(table)) =
            (record.present, record.local_id, schema.table(table.as_str()))
            && (rfc3339(&merged.created_at).is_none() || told.updated_at.is_none())
            && let Some(stored) = app_rows::times(connection, table, local_id)?
        {
            tell_stored_times(&mut told, (&merged.created_at, &merged.updated_at), &stored);
        }
        if let Some(data) = &told.data {
            let size = serde_json::to_vec(data).map_or(0, |json| json.len());
            if size > PAGE_DATA_BYTES_MAX {
                // Larger than any page: whoever reads no changes is told that there is a row, and
                // not what is in it.
                told.data = None;
                told.too_large = true;
            } else if data_bytes + size > PAGE_DATA_BYTES_MAX && index > 0 {
                return Ok(Rows::TooMany { fitting: index });
            } else {
                data_bytes += size;
            }
        }
        found.push(told);
        told_rows.push(id);
    }
    Ok(Rows::All(found))
}

/// Where no document knows when, what our table says is better than nothing. Times are (created,
/// updated).
fn tell_stored_times(told: &mut RowChange, documented: (&Value, &Value), stored: &(Value, Value)) {
    let unknown = |document: &Value, stored: &Value| {
        if rfc3339(document).is_some() {
            None
        } else {
            stored.as_text().filter(|text| *text != UNKNOWN_STAMP).map(str::to_owned)
        }
    };
    let times = StoredTimes {
        created_at: unknown(documented.0, &stored.0),
        updated_at: unknown(documented.1, &stored.1),
    };
    told.stored_times = (times != StoredTimes::default()).then_some(times);
    if told.updated_at.is_none() {
        told.updated_at = rfc3339(&stored.1);
    }
}

pub(crate) fn rfc3339(value: &Value) -> Option<String> {
    value.as_text().and_then(Stamp::parse).map(Stamp::to_rfc3339)
}

/// What plain rows call a column of the app's named `deleted`, which means something else there.
pub(crate) const PLAIN_DELETED: &str = "column:deleted";

fn plain_name(column: &str) -> &str {
    if column == "deleted" { PLAIN_DELETED } else { column }
}

/// The row as documented clients read it.
pub(crate) fn data(
    table: Option<&Table>,
    document: &Document,
    merged: &Row,
) -> serde_json::Map<String, serde_json::Value> {
    let mut data: serde_json::Map<String, serde_json::Value> = merged
        .fields
        .iter()
        .map(|(name, value)| (plain_name(name).to_owned(), to_json_of(table, name, value)))
        .collect();
    // A column that is empty is told as null, not left out.
    let known =
        document.registers().map(|(name, _)| name).filter(|name| !key::is_bookkeeping(name));
    let declared = table.into_iter().flat_map(|table| {
        table.columns.iter().filter(|column| column.is_content()).map(|column| column.name.as_str())
    });
    for name in known.chain(declared) {
        data.entry(plain_name(name)).or_insert(serde_json::Value::Null);
    }
    let time =
        |value: &Value| rfc3339(value).map_or(serde_json::Value::Null, serde_json::Value::from);
    data.insert(key::CREATED_AT.to_owned(), time(&merged.created_at));
    data.insert(key::UPDATED_AT.to_owned(), time(&merged.updated_at));
    data.insert(
        key::DELETED_AT.to_owned(),
        merged.deletion.as_ref().map_or(serde_json::Value::Null, |deletion| time(&deletion.at)),
    );
    data.insert(key::VERSION.to_owned(), merged.version.into());
    if merged.deletion.as_ref().is_some_and(|deletion| deletion.kind == DeletionKind::Hard) {
        data.insert("deleted".to_owned(), true.into());
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursor_text_reads_back_and_nothing_else_does() {
        let cursor = Cursor {
            epoch: [3; 16],
            position: Position { seq: 77, chain: [5; 16] },
            filter: filter_hash(Some(&["location".to_owned()])),
        };
        assert_eq!(Cursor::parse(&cursor.to_text()), Some(cursor));
        assert_eq!(
            cursor.filter,
            filter_hash(Some(&["location".to_owned(), "location".to_owned()]))
        );
        for text in ["", "x", "AAAA", &cursor.to_text()[1..]] {
            assert_eq!(Cursor::parse(text), None, "{text}");
        }
    }
}
