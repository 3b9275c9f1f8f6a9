//! Rows pushed by clients without automerge: a whole row, and the version it was last seen at. The
//! edit is made on top of what that client had before it, so it merges, or conflicts, like any
//! concurrent edit.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use storysync_crdt::{
    Change, ChangeHash, DeletionKind, DeviceKey, Document, EditPurpose, FIRST_VERSION_MAX, Heads,
    Stamp, SyncUuid, TableName, Value, deletion, field, key, stands,
};

use crate::app::schema::{Role, Table};
use crate::capture::is_sentinel;
use crate::error::TransactionError;
use crate::exchange::pages::PLAIN_DELETED;
use crate::exchange::wire::RowChange;
use crate::receive::{Reception, uuid_in_data};
use crate::store::rows::{self, RowId, RowRecord};
use crate::store::{log, peers};
use crate::transaction::{PUTS_PER_EDIT_MAX, Transaction, acting_for, is_one_edit};
use crate::translate::from_json;
use crate::trust::pairing::is_invisible;

impl Reception<'_, '_> {
    /// The first change of a new plain row, when it is no more than one and the row lives.
    pub(crate) fn first_of_plain(
        &mut self,
        table: &Table,
        uuid: &SyncUuid,
        change: &RowChange,
    ) -> Result<Option<Change>, TransactionError> {
        let (Some(device), None) = (self.sender.device, wants_deleted(change)) else {
            return Ok(None);
        };
        if self.plain_refusal(&table.name, uuid, None, change)?.is_some() {
            return Ok(None);
        }
        let Ok(fields) = self.plain_fields(Some(table), change)? else { return Ok(None) };
        let at = self.written_at(change);
        let puts = self.first_puts(uuid, Some(table), fields, change, at);
        Ok(if is_one_edit(&puts) {
            Document::new().edit(
                puts,
                EditPurpose::Edit,
                None,
                &acting_for(&device, self.actor),
                at.unix_ms(),
            )
        } else {
            None
        })
    }
}

impl Transaction<'_> {
    /// Takes in a plain row of `device`. `Err` inside says, in words, why it was refused; otherwise
    /// whether anything was new.
    pub(crate) fn receive_plain(
        &mut self,
        record: &RowRecord,
        change: &RowChange,
        peer: i64,
        device: DeviceKey,
    ) -> Result<Result<bool, String>, TransactionError> {
        let name = self.table_name(record.table)?;
        let schema = std::sync::Arc::clone(&self.schema);
        let table = schema.table(name.as_str());
        let mut fields = match self.plain_fields(table, change)? {
            Ok(fields) => fields,
            Err(reason) => return Ok(Err(format!("{name}/{} was refused: {reason}", record.uuid))),
        };
        let at = self.written_at(change);
        self.on_behalf_of = Some(device);
        let written = if self.document(record.id)?.is_empty() {
            self.create_plain(record, table, fields, change, at)
        } else {
            let base = match self.base_of(record.id, &fields, change, peer, &device)? {
                PlainBase::At(base) => base,
                PlainBase::Repeated => {
                    self.on_behalf_of = None;
                    return Ok(Ok(false));
                }
            };
            let is_newest = base == *self.document(record.id)?.heads();
            let nothing = Document::new();
            let seen = if is_newest {
                self.document(record.id)?
            } else {
                self.earlier(record.id, &base)?.unwrap_or(&nothing)
            };
            fields.retain(|name, value| field(seen, name).unwrap_or(Value::Null) != *value);
            let seen_deletion = deletion(seen);
            let mut puts = fields;
            match (wants_deleted(change), seen_deletion.is_some()) {
                (Some(kind), false) => {
                    puts.insert(key::DELETED_AT.to_owned(), Value::from(at.to_table_text()));
                    puts.insert(key::DELETE_KIND.to_owned(), Value::from(kind.as_str()));
                    puts.extend(
                        self.left_behind(record.id)?
                            .map(|left| (key::LEFT_BEHIND.to_owned(), left)),
                    );
                }
                (None, true)
                    if change.operation == "create"
                        || brings_back(change)
                        || !puts.is_empty() && !stands(seen_deletion.as_ref()) =>
                {
                    puts.insert(key::DELETED_AT.to_owned(), Value::Null);
                }
                _ => {}
            }
            if puts.is_empty() {
                Ok(false)
            } else {
                let base = (!is_newest).then_some(base);
                self.write_row_of(record.id, record.table, puts, base.as_ref(), at).map(|()| true)
            }
        };
        self.on_behalf_of = None;
        written.map(Ok)
    }

    /// The columns of a plain row as documents hold them. Columns this app does not have are kept.
    fn plain_fields(
        &mut self,
        table: Option<&Table>,
        change: &RowChange,
    ) -> Result<Result<BTreeMap<String, Value>, String>, TransactionError> {
        let mut fields = BTreeMap::new();
        if change.data.as_ref().is_some_and(|data| data.len() > PUTS_PER_EDIT_MAX) {
            return Ok(Err(format!("a row has at most {PUTS_PER_EDIT_MAX} columns")));
        }
        for (name, json) in change.data.iter().flatten() {
            let local_id = table.map_or("id", |table| table.local_id.as_str());
            if key::is_bookkeeping(name)
                || name == "sync_uuid"
                || name == "deleted"
                || name == local_id
            {
                if name.starts_with('$') {
                    return Ok(Err(format!("a column can't be named {name}")));
                }
                continue;
            }
            let name = if name == PLAIN_DELETED { "deleted" } else { name.as_str() };
            if name.is_empty() || name.len() > storysync_crdt::KEY_BYTES_MAX {
                return Ok(Err("a column has no usable name".to_owned()));
            }
            let Some(value) = from_json(json) else {
                return Ok(Err(format!(
                    "{name} is neither text, number, boolean nor null; send bytes as \
                        {{\"$base64\": …}}, JSON as text"
                )));
            };
            if value.size_bytes() > storysync_crdt::VALUE_BYTES_MAX {
                return Ok(Err(format!(
                    "{name} is larger than {} bytes",
                    storysync_crdt::VALUE_BYTES_MAX
                )));
            }
            let column = table.and_then(|table| table.column(name));
            let value = match (column.map(|column| &column.role), value) {
                // Local ids mean nothing elsewhere, but documented clients of this node got them
                // from it.
                (Some(Role::Reference { table: target }), Value::Integer(id)) => {
                    let target = self.find_table(target)?;
                    match target
                        .map(|target| rows::at_local_id(self.connection, target, id))
                        .transpose()?
                        .flatten()
                    {
                        Some(row) => Value::from(row.uuid.as_str()),
                        None if is_sentinel(id) => Value::Integer(id),
                        None => {
                            return Ok(Err(format!(
                                "{name} refers to the row {id}, which does not exist here; send \
                                    the sync_uuid of the row"
                            )));
                        }
                    }
                }
                (Some(Role::Reference { .. }), value @ (Value::Null | Value::Text(_))) => value,
                (Some(Role::Reference { .. }), _) => {
                    return Ok(Err(format!("{name} must be the sync_uuid of a row, or null")));
                }
                (_, value) => value,
            };
            fields.insert(name.to_owned(), value);
        }
        Ok(Ok(fields))
    }

    fn written_at(&self, change: &RowChange) -> Stamp {
        change.updated_at.as_deref().and_then(Stamp::parse).unwrap_or(self.now)
    }

    fn first_puts(
        &self,
        uuid: &SyncUuid,
        table: Option<&Table>,
        fields: BTreeMap<String, Value>,
        change: &RowChange,
        at: Stamp,
    ) -> BTreeMap<String, Value> {
        let mut puts: BTreeMap<String, Value> =
            fields.into_iter().filter(|(_, value)| !value.is_null()).collect();
        if let Some(table) = table {
            puts.extend(self.prose_mark_of(table, &puts));
        }
        puts.insert(key::ROW.to_owned(), Value::from(uuid.as_str()));
        let told = |name: &str| {
            change
                .data
                .as_ref()
                .and_then(|data| data.get(name))
                .and_then(serde_json::Value::as_str)
                .and_then(Stamp::parse)
        };
        puts.insert(
            key::CREATED_AT.to_owned(),
            Value::from(told(key::CREATED_AT).unwrap_or(at).to_table_text()),
        );
        puts.insert(key::UPDATED_AT.to_owned(), Value::from(at.to_table_text()));
        puts.insert(
            key::VERSION.to_owned(),
            Value::Integer(change.version.clamp(1, FIRST_VERSION_MAX)),
        );
        puts.insert(key::DELETED_AT.to_owned(), Value::Null);
        if let Some(kind) = wants_deleted(change) {
            puts.insert(key::DELETED_AT.to_owned(), Value::from(at.to_table_text()));
            puts.insert(key::DELETE_KIND.to_owned(), Value::from(kind.as_str()));
        }
        puts
    }

    fn create_plain(
        &mut self,
        record: &RowRecord,
        table: Option<&Table>,
        fields: BTreeMap<String, Value>,
        change: &RowChange,
        at: Stamp,
    ) -> Result<bool, TransactionError> {
        let puts = self.first_puts(&record.uuid, table, fields, change, at);
        self.edit(record.id, puts, EditPurpose::Edit, None, at)?;
        self.note_document(record.id, table)?;
        Ok(true)
    }

    /// Why a plain row can't be taken, by the name of what is wrong with it; `None` when it can be
    /// read on.
    pub(crate) fn plain_refusal(
        &mut self,
        table: &TableName,
        uuid: &SyncUuid,
        known: Option<&RowRecord>,
        change: &RowChange,
    ) -> Result<Option<String>, TransactionError> {
        if !OPERATIONS.contains(&change.operation.as_str()) {
            let said: String = change
                .operation
                .chars()
                .filter(|character| !is_invisible(*character))
                .take(WORD_CHARS_MAX)
                .collect();
            return Ok(Some(format!("“{said}” is no operation; send create, update or delete")));
        }
        if uuid_in_data(change).is_some_and(|named| named != uuid.as_str()) {
            return Ok(Some("its data names another sync_uuid".to_owned()));
        }
        let schema = std::sync::Arc::clone(&self.schema);
        let Some(table) = schema.table(table.as_str()) else {
            // Rows of a table only other devices have are theirs to name: a client that got one
            // from here may edit it.
            return Ok(known
                .is_none()
                .then(|| "this app has no such table, or it is left alone here".to_owned()));
        };
        let is_new = match known {
            Some(record) => self.document(record.id)?.is_empty(),
            None => true,
        };
        if !is_new || wants_deleted(change).is_some() {
            return Ok(None);
        }
        Ok(missing_fields(table, change))
    }

    /// What a client had before it when it wrote from a version: of the prefix of our log of the
    /// row that carries this version, what we told the client and what it wrote itself; at least
    /// the first change. To this comes what it wrote from there and was perhaps never told of, its
    /// answer being lost: who writes twice from one version writes the second time over the first.
    fn base_of(
        &mut self,
        id: RowId,
        fields: &BTreeMap<String, Value>,
        change: &RowChange,
        peer: i64,
        device: &DeviceKey,
    ) -> Result<PlainBase, TransactionError> {
        let served = peers::served(self.connection, peer, id)?;
        let places = log::places(self.connection, id)?;
        let document = self.document(id)?;
        let at_version = document.heads_at_version(change.version);
        let prefix = document.ancestors(&at_version.iter().copied().collect::<Vec<_>>());
        let is_own = |position: usize| {
            document.changes().get(position).and_then(|change| change.actor().device()).as_ref()
                == Some(device)
        };
        let told = known_heads(document, |position, hash| {
            let told = places.get(position).is_some_and(|seq| *seq <= served);
            position == 0 || prefix.contains(hash) && (is_own(position) || told)
        });
        let mut known = document.ancestors(&told.iter().copied().collect::<Vec<_>>());
        let mut written = Vec::new();
        for (position, own) in document.changes().iter().enumerate() {
            if is_own(position) && own.deps().iter().all(|dep| known.contains(dep)) {
                known.insert(own.hash());
                written.push(own.hash());
            }
        }
        // Sent again after something else was: the same words, said at the same time. Who creates a
        // row that is deleted wants it back.
        let wants_back = deletion(document).is_some()
            && wants_deleted(change).is_none()
            && (change.operation == "create" || brings_back(change));
        if !wants_back && let Some(at) = change.updated_at.as_deref().and_then(Stamp::parse) {
            let at = Value::from(at.to_table_text());
            let deletes = wants_deleted(change).is_some();
            for hash in written {
                let Some(then) = document.at(&Heads::from([hash])) else { continue };
                let is_said = field(&then, key::UPDATED_AT) == Some(at.clone())
                    && deletion(&then).is_some() == deletes
                    && fields
                        .iter()
                        .all(|(name, value)| field(&then, name).unwrap_or(Value::Null) == *value);
                if is_said {
                    return Ok(PlainBase::Repeated);
                }
            }
        }
        Ok(PlainBase::At(known_heads(document, |_, hash| known.contains(hash))))
    }
}

/// What a client may do to a row; one that does not say updates it.
const OPERATIONS: &[&str] = &["create", "update", "delete", ""];
/// Characters repeated of a word nobody knows.
const WORD_CHARS_MAX: usize = 40;

/// Where an edit of a client without automerge belongs.
enum PlainBase {
    /// On top of these.
    At(Heads),
    /// It is here: its answer was lost.
    Repeated,
}

/// The columns a new row must have and does not bring.
fn missing_fields(table: &Table, change: &RowChange) -> Option<String> {
    let is_missing = |name: &str| {
        change
            .data
            .as_ref()
            .is_none_or(|data| data.get(name).is_none_or(serde_json::Value::is_null))
    };
    let missing: Vec<&str> = table
        .columns
        .iter()
        .filter(|column| {
            column.is_content()
                && column.not_null
                && column.default.is_none()
                && is_missing(&column.name)
        })
        .map(|column| column.name.as_str())
        .collect();
    match missing.as_slice() {
        [] => None,
        [name] => Some(format!("it lacks {name}, which every row of {} has", table.name())),
        names => {
            Some(format!("it lacks {}, which every row of {} has", names.join(", "), table.name()))
        }
    }
}

/// The heads of the changes a client knows, and all they build on.
fn known_heads(document: &Document, knows: impl Fn(usize, &ChangeHash) -> bool) -> Heads {
    let known: Vec<ChangeHash> = document
        .changes()
        .iter()
        .enumerate()
        .map(|(position, change)| (position, change.hash()))
        .filter(|(position, hash)| knows(*position, hash))
        .map(|(_, hash)| hash)
        .collect();
    let closed: HashSet<ChangeHash> = document.ancestors(&known);
    let mut heads: BTreeSet<ChangeHash> = closed.clone().into_iter().collect();
    for change in document.changes().iter().filter(|change| closed.contains(&change.hash())) {
        for dep in change.deps() {
            heads.remove(dep);
        }
    }
    heads
}

/// Whether a plain row is to be deleted, and how. A removal removes; `deleted_at` in an update
/// marks.
fn wants_deleted(change: &RowChange) -> Option<DeletionKind> {
    let data = change.data.as_ref();
    let marked = data.and_then(|data| data.get(key::DELETED_AT)).is_some_and(|at| !at.is_null());
    let says_soft = data.and_then(|data| data.get("deleted")).and_then(serde_json::Value::as_bool)
        == Some(false);
    match (change.operation.as_str(), marked) {
        ("delete", _) if says_soft => Some(DeletionKind::Soft),
        ("delete", _) => Some(DeletionKind::Hard),
        (_, true) => Some(DeletionKind::Soft),
        _ => None,
    }
}

/// Whether a plain row says in so many words that it is not deleted.
fn brings_back(change: &RowChange) -> bool {
    change
        .data
        .as_ref()
        .and_then(|data| data.get(key::DELETED_AT))
        .is_some_and(serde_json::Value::is_null)
}
