//! What does this file show, in few bytes? Digests by table, row and column, equal on two devices
//! exactly when their apps show the same: references count by the row they lead to, local ids and
//! times not at all. And whether the file is sound in itself.

use std::collections::BTreeMap;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use storysync_crdt::{Stamp, SyncUuid, Value};

use crate::app::profile::table_of_entity_type;
use crate::app::rows::{self as app_rows, StoredRow};
use crate::app::schema::{Role, Schema, Table};
use crate::app::{backup, triggers};
use crate::engine::Engine;
use crate::error::{EngineError, TransactionError};
use crate::project::Departed;
use crate::store::log::{self, Position};
use crate::store::packs;
use crate::store::rows::{self, RowRecord};

/// Bytes of a digest that are told.
const DIGEST_BYTES: usize = 8;
/// Most rows whose columns one request is answered with; further ones are ignored.
pub const ROWS_ASKED_MAX: usize = 200;
/// Complaints listed at once.
const COMPLAINTS_MAX: usize = 100;

/// Asks for digests: of all tables; of the rows of one; of the columns of some rows.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct DigestRequest {
    /// Only this table; the digests of all tables when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity_type: Option<String>,
    /// Only the columns of these rows of it, by `sync_uuid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<Vec<String>>,
}

/// One table's digest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableDigest {
    /// Rows that stand in it.
    pub rows: usize,
    /// Over all rows in the order of their `sync_uuid`s: the first 8 bytes of SHA-256, hexadecimal.
    pub digest: String,
}

/// Digests, as asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digests {
    /// By table.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tables: BTreeMap<String, TableDigest>,
    /// By row of the table asked for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rows: BTreeMap<String, String>,
    /// By row and column of the rows asked for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, BTreeMap<String, String>>,
}

fn hex(digest: &[u8]) -> String {
    digest.iter().take(DIGEST_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

/// A row as every device shows it: content and deletion by column, references by the name of the
/// row they lead to.
fn shown_columns(
    connection: &Connection,
    table: &Table,
    stored: &StoredRow,
) -> Result<BTreeMap<String, Vec<u8>>, TransactionError> {
    let mut columns = BTreeMap::new();
    for (column, value) in stored.columns(table) {
        let value = match &column.role {
            Role::Reference { table } => match (value, rows::find_table(connection, table)?) {
                (Value::Integer(id), Some(target)) => rows::at_local_id(connection, target, *id)?
                    .map_or(Value::Null, |record| Value::from(record.uuid.as_str())),
                _ => Value::Null,
            },
            Role::Field => value.clone(),
            Role::DeletedAt => Value::Integer(i64::from(!value.is_null())),
            Role::LocalId
            | Role::Local
            | Role::SyncUuid
            | Role::Version
            | Role::CreatedAt
            | Role::UpdatedAt => continue,
        };
        // A column one app has and another lacks is no difference while it is empty.
        if !value.is_null() {
            columns.insert(column.name.clone(), value.canonical());
        }
    }
    Ok(columns)
}

fn row_digest(columns: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut digest = Sha256::new();
    for (name, value) in columns {
        digest.update((name.len() as u64).to_be_bytes());
        digest.update(name);
        digest.update((value.len() as u64).to_be_bytes());
        digest.update(value);
    }
    digest.finalize().to_vec()
}

/// The rows of a table by name.
fn row_digests(
    connection: &Connection,
    table: &Table,
) -> Result<BTreeMap<String, Vec<u8>>, TransactionError> {
    let mut found = BTreeMap::new();
    let mut select = connection.prepare_cached(app_rows::select(table))?;
    let mut stored = select.query([])?;
    while let Some(next) = stored.next()? {
        let next = app_rows::read(table, next)?;
        if let Some(uuid) = next.uuid(table) {
            found.insert(
                uuid.as_str().to_owned(),
                row_digest(&shown_columns(connection, table, &next)?),
            );
        }
    }
    Ok(found)
}

fn digests(
    connection: &Connection,
    schema: &Schema,
    request: &DigestRequest,
) -> Result<Digests, TransactionError> {
    let mut found = Digests::default();
    let Some(name) = &request.entity_type else {
        for table in schema.tables() {
            let rows = row_digests(connection, table)?;
            let mut digest = Sha256::new();
            for (uuid, row) in &rows {
                digest.update((uuid.len() as u64).to_be_bytes());
                digest.update(uuid);
                digest.update(row);
            }
            found.tables.insert(
                table.name().to_owned(),
                TableDigest { rows: rows.len(), digest: hex(&digest.finalize()) },
            );
        }
        return Ok(found);
    };
    let Some(table) = schema.table(table_of_entity_type(schema, name)) else { return Ok(found) };
    let Some(uuids) = &request.rows else {
        found.rows = row_digests(connection, table)?
            .into_iter()
            .map(|(uuid, digest)| (uuid, hex(&digest)))
            .collect();
        return Ok(found);
    };
    for uuid in uuids.iter().take(ROWS_ASKED_MAX).filter_map(|uuid| SyncUuid::parse(uuid)) {
        if let Some(id) = app_rows::local_id_of(connection, table, &uuid)?
            && let Some(stored) = app_rows::by_local_id(connection, table, id)?
        {
            let columns = shown_columns(connection, table, &stored)?;
            found.columns.insert(
                uuid.as_str().to_owned(),
                columns
                    .into_iter()
                    .map(|(name, value)| (name, hex(&Sha256::digest(value))))
                    .collect(),
            );
        }
    }
    Ok(found)
}

impl Engine {
    /// Digests of what the app shows.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn digests(&mut self, request: &DigestRequest, now: Stamp) -> Result<Digests, EngineError> {
        self.capture(now)?;
        self.read(|connection, schema| digests(connection, schema, request))
    }

    /// What is wrong with this file, as sentences; none when it is sound: SQLite's own check, the
    /// running hash over the log, every document readable and shown, every trigger in place.
    ///
    /// ```
    /// # mod desks { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doctests/desks.rs")); }
    /// # use desks::*;
    /// # let mut desk = desk(1);
    /// assert!(desk.engine.verify(now())?.is_empty());
    /// desk.app.execute("INSERT INTO note (title) VALUES ('Harbour')", [])?;
    /// desk.engine.capture(now())?;
    /// desk.app.execute("UPDATE sync_change SET bytes = zeroblob(9)", [])?;
    /// assert!(!desk.engine.verify(now())?.is_empty(), "somebody wrote into our log");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn verify(&mut self, now: Stamp) -> Result<Vec<String>, EngineError> {
        self.capture(now)?;
        let mut complaints = self.read(|connection, schema| {
            let mut complaints = Vec::new();
            complaints.extend(backup::integrity(connection)?.map(|complaint| {
                format!("SQLite finds the file damaged: {complaint}; restore a backup")
            }));
            complaints.extend(broken_chain(connection)?);
            for table in schema.tables() {
                for (name, _) in triggers::of_table(table, schema.has_foreign_triggers) {
                    if !table.own_triggers.contains(&name) {
                        complaints.push(format!("the trigger {name} is missing"));
                    }
                }
            }
            Ok(complaints)
        })?;
        complaints.extend(self.look(now, |transaction| transaction.rows_not_as_documents_say())?);
        complaints.truncate(COMPLAINTS_MAX);
        Ok(complaints)
    }
}

/// Follows the running hash from the first change to the last.
fn broken_chain(connection: &Connection) -> Result<Option<String>, TransactionError> {
    let mut select =
        connection.prepare("SELECT seq, hash, chain, bytes, pack FROM sync_change ORDER BY seq")?;
    let mut reader = packs::Reader::new(connection);
    let mut changes = select.query([])?;
    let mut last: Option<Position> = None;
    while let Some(change) = changes.next()? {
        let (seq, hash): (i64, [u8; 32]) = (change.get(0)?, change.get(1)?);
        let stands = Position { seq, chain: change.get(2)? };
        // After a gap (rows that got other names at a first contact) the hash is taken as it
        // stands.
        let follows = last.is_none_or(|last| {
            last.seq + 1 != seq || last.after(&storysync_crdt::ChangeHash(hash)) == stands
        });
        let bytes = reader.bytes(
            seq,
            change.get(4)?,
            change.get_ref(3)?.as_blob().map_err(rusqlite::Error::from)?,
        );
        // A pack that can't be read is as good as a change that can't.
        let named = bytes.is_ok_and(|bytes| log::name_of(&bytes) == Some(hash));
        if !follows || !named {
            return Ok(Some(format!(
                "the change log is damaged at its change {seq}; restore a backup, the other \
                    devices bring the newer edits back"
            )));
        }
        last = Some(stands);
    }
    Ok(None)
}

impl crate::transaction::Transaction<'_> {
    fn rows_not_as_documents_say(&mut self) -> Result<Vec<String>, TransactionError> {
        let schema = std::sync::Arc::clone(&self.schema);
        let mut complaints = Vec::new();
        for table in schema.tables().filter(|table| !table.is_local) {
            let Some(id) = self.find_table(table.name())? else { continue };
            for record in rows::present_in(self.connection, id)? {
                let sentence = match log::document(self.connection, record.id) {
                    Err(error) => Some(format!("can't be read back from the log: {error}")),
                    Ok(document) if document.is_empty() => Some(
                        "is in the app's table and not in \
                        the log; edit it in the app, or restore a backup"
                            .to_owned(),
                    ),
                    Ok(_) => self.difference_shown(table, &record)?,
                };
                self.let_go(record.id);
                complaints.extend(sentence.map(|sentence| {
                    format!("row {} of table {} {sentence}", record.uuid, table.name())
                }));
                if complaints.len() >= COMPLAINTS_MAX {
                    return Ok(complaints);
                }
            }
        }
        Ok(complaints)
    }

    /// How the app's table differs from what a row's document says, where nothing explains it.
    fn difference_shown(
        &mut self,
        table: &Table,
        record: &RowRecord,
    ) -> Result<Option<String>, TransactionError> {
        let stored = record
            .local_id
            .map_or(Ok(None), |id| app_rows::by_local_id(self.connection, table, id))?;
        let Some(stored) =
            stored.filter(|stored| stored.uuid(table).as_ref() == Some(&record.uuid))
        else {
            return Ok(Some("is not where it should be in the app's table".to_owned()));
        };
        let merged = self.shown_row(record.id)?;
        let mut differing = Vec::new();
        for (column, value) in stored.columns(table).filter(|(column, _)| column.is_content()) {
            let document = merged.fields.get(&column.name).cloned().unwrap_or(Value::Null);
            if !self.is_shown(column, record, &document, value, &Departed::default())? {
                differing.push(column.name.as_str());
            }
        }
        Ok((!differing.is_empty()).then(|| {
            format!(
                "shows something else than the log says, in {}; write it in the app once more",
                differing.join(", ")
            )
        }))
    }
}
