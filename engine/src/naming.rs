//! What rows are called, and which row somebody means by a name. A name is for people: it may
//! change, and several rows may bear it; only the `sync_uuid` names a row for good.

use rusqlite::Connection;
use storysync_crdt::{Stamp, SyncUuid, row};

use crate::app::profile::{row_name, table_of_entity_type};
use crate::app::schema::Schema;
use crate::engine::Engine;
use crate::error::{EngineError, TransactionError};
use crate::store::log;
use crate::store::peers::{self, LogLine};
use crate::store::rows::{self, RowId, RowRecord, TableId};

/// Rows of one name listed.
const SAME_NAMED_LISTED_MAX: usize = 10;
/// Rows that name one that only links them.
const LINKED_NAMED_MAX: usize = 3;

/// What people call a row: by its own columns, else by the rows it links.
pub(crate) fn name_of(
    connection: &Connection,
    schema: &Schema,
    id: RowId,
) -> Result<Option<String>, TransactionError> {
    if let Some(name) = own_name(connection, schema, id)? {
        return Ok(Some(name));
    }
    let table = rows::table_name(connection, rows::get(connection, id)?.table)?;
    let fields = row(&log::document(connection, id)?).fields;
    let mut linked = Vec::new();
    for (column, target) in
        schema.table(table.as_str()).into_iter().flat_map(|table| table.references())
    {
        let uuid =
            fields.get(&column.name).and_then(|value| value.as_text()).and_then(SyncUuid::parse);
        let (Some(target), Some(uuid)) = (rows::find_table(connection, target)?, uuid) else {
            continue;
        };
        let Some(record) = rows::find(connection, target, &uuid)? else { continue };
        linked.extend(own_name(connection, schema, record.id)?);
        if linked.len() == LINKED_NAMED_MAX {
            break;
        }
    }
    Ok((!linked.is_empty()).then(|| linked.join(" – ")))
}

/// What a row's own columns call it. References are uuids, which nobody calls anything.
fn own_name(
    connection: &Connection,
    schema: &Schema,
    id: RowId,
) -> Result<Option<String>, TransactionError> {
    let table = rows::table_name(connection, rows::get(connection, id)?.table)?;
    let mut fields = row(&log::document(connection, id)?).fields;
    for (column, _) in schema.table(table.as_str()).into_iter().flat_map(|table| table.references())
    {
        fields.remove(&column.name);
    }
    Ok(row_name(&fields))
}

/// The name of the row a table and a uuid mean.
pub(crate) fn name_of_uuid(
    connection: &Connection,
    schema: &Schema,
    table: &str,
    uuid: &str,
) -> Result<Option<String>, TransactionError> {
    let (Some(table), Some(uuid)) = (rows::find_table(connection, table)?, SyncUuid::parse(uuid))
    else {
        return Ok(None);
    };
    rows::find(connection, table, &uuid)?
        .map(|record| name_of(connection, schema, record.id))
        .transpose()
        .map(Option::flatten)
}

/// The rows of a table that people mean by `words`: that of this uuid, else those called so in
/// whatever case. Rows that stand go before deleted ones.
fn meant(
    connection: &Connection,
    schema: &Schema,
    table: TableId,
    words: &str,
) -> Result<Vec<RowRecord>, TransactionError> {
    let by_uuid = SyncUuid::parse(words)
        .map(|uuid| rows::find(connection, table, &uuid))
        .transpose()?
        .flatten();
    if let Some(record) = by_uuid.filter(|record| record.version > 0) {
        return Ok(vec![record]);
    }
    let wanted = words.trim().to_lowercase();
    let present: Vec<RowId> =
        rows::present_in(connection, table)?.into_iter().map(|record| record.id).collect();
    for candidates in [present, rows::absent_in(connection, table)?] {
        let mut found = Vec::new();
        for id in candidates {
            if own_name(connection, schema, id)?.is_some_and(|name| name.to_lowercase() == wanted) {
                found.push(rows::get(connection, id)?);
            }
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Ok(Vec::new())
}

impl Engine {
    /// The uuid of the row people mean by its uuid or its name.
    ///
    /// # Errors
    /// When there is no such row, or several are called so.
    pub fn row_by_words(
        &mut self,
        table: &str,
        words: &str,
        now: Stamp,
    ) -> Result<String, EngineError> {
        self.capture(now)?;
        self.read(|connection, schema| {
            let no_such_row =
                || EngineError::NoSuchRow { table: table.to_owned(), uuid: words.to_owned() };
            let id = rows::find_table(connection, table_of_entity_type(schema, table))?
                .ok_or_else(no_such_row)?;
            let found = meant(connection, schema, id, words)?;
            match found.as_slice() {
                [] => Err(no_such_row().into()),
                [record] => Ok(record.uuid.as_str().to_owned()),
                several => {
                    let rows = several
                        .iter()
                        .take(SAME_NAMED_LISTED_MAX)
                        .map(|record| record.uuid.as_str().to_owned())
                        .collect();
                    Err(EngineError::SeveralRows {
                        table: table.to_owned(),
                        name: words.to_owned(),
                        rows,
                    }
                    .into())
                }
            }
        })
    }

    /// What people call a row; `None` when nothing in it names it, or nobody knows it.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn row_name(&mut self, table: &str, uuid: &str) -> Result<Option<String>, EngineError> {
        self.read(|connection, schema| {
            name_of_uuid(connection, schema, table_of_entity_type(schema, table), uuid)
        })
    }

    /// The newest lines of the documented log, with what the rows are called.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn log_lines(&mut self, limit: i64) -> Result<Vec<LogLine>, EngineError> {
        self.read(|connection, schema| {
            let mut lines = peers::log_lines(connection, limit)?;
            for line in &mut lines {
                let Some(table) = rows::find_table(connection, &line.entity_type)? else {
                    continue;
                };
                // Ids are given to other rows again: of several, nobody can say which it was.
                let mut candidates = rows::formerly_at(connection, table, line.entity_id)?;
                candidates.extend(rows::at_local_id(connection, table, line.entity_id)?);
                if let [record] = candidates.as_slice() {
                    line.sync_uuid = Some(record.uuid.as_str().to_owned());
                    line.row_name = name_of(connection, schema, record.id)?;
                }
            }
            Ok(lines)
        })
    }

    /// The newest lines of the documented log about the row people mean by its uuid or its name,
    /// whatever its table.
    ///
    /// # Errors
    /// When there is no such row, or several are called so.
    pub fn log_lines_of(&mut self, words: &str, limit: i64) -> Result<Vec<LogLine>, EngineError> {
        self.read(|connection, schema| {
            let mut found = Vec::new();
            for table in schema.tables() {
                let Some(id) = rows::find_table(connection, table.name())? else { continue };
                found.extend(
                    meant(connection, schema, id, words)?
                        .into_iter()
                        .map(|record| (table.name().to_owned(), record)),
                );
            }
            // A row that stands is meant rather than one that is gone.
            if found.iter().any(|(_, record)| record.present) {
                found.retain(|(_, record)| record.present);
            }
            let (table, record) = match found.as_slice() {
                [] => return Err(EngineError::NoRowCalled(words.to_owned()).into()),
                [one] => one,
                several => {
                    let rows = several
                        .iter()
                        .take(SAME_NAMED_LISTED_MAX)
                        .map(|(table, record)| format!("{table} {}", record.uuid))
                        .collect();
                    return Err(
                        EngineError::SeveralRowsCalled { name: words.to_owned(), rows }.into()
                    );
                }
            };
            let Some(local_id) = record.local_id else { return Ok(Vec::new()) };
            let mut lines = peers::log_lines_at(connection, table, local_id, limit)?;
            let name = name_of(connection, schema, record.id)?;
            for line in &mut lines {
                line.sync_uuid = Some(record.uuid.as_str().to_owned());
                line.row_name.clone_from(&name);
            }
            Ok(lines)
        })
    }
}
