//! Plans what a migration does to each row, without writing anything.

use super::{Names, PackedChange, Plan, PlannedRow, TablePlan};
use crate::app::profile::Prose;
use crate::app::quote;
use crate::app::rows::{self as app_rows, StoredRow};
use crate::app::schema::{Column, Role, Schema, Table};
use crate::capture::{is_sentinel, leads_nowhere};
use crate::project::token;
use crate::store::rows::{Difference, DifferenceKind, Differences};
use crate::transaction::{EDIT_BYTES_MAX, PUT_OVERHEAD_BYTES, prose_mark};
use rusqlite::Connection;
use std::collections::{BTreeMap, HashMap, HashSet};
use storysync_crdt::{
    EntityId, NOWHERE, Stamp, SyncUuid, UNKNOWN_STAMP, VALUE_BYTES_MAX, Value, derived_uuid,
    genesis, key, key_uuid,
};

impl Plan {
    /// Looks at every row of the tables in `schema` that are not `known` yet. `resolve` names rows
    /// of tables that are.
    pub(crate) fn make(
        connection: &Connection,
        schema: &Schema,
        known: &HashSet<String>,
        prose: &Prose,
        resolve: impl Fn(&str, i64) -> Option<SyncUuid>,
        mut progress: impl FnMut(usize),
    ) -> rusqlite::Result<Self> {
        let tables: Vec<&Table> =
            schema.tables().filter(|table| !known.contains(table.name())).collect();
        let (names, derived) = name_rows(connection, &tables, &resolve)?;
        let planner = Planner { schema, prose, names: &names, resolve: &resolve };
        let mut plan = Self::default();
        let mut highs: HashMap<String, i64> = HashMap::new();
        for table in &tables {
            let mut planned = Vec::new();
            let mut dangling = 0;
            each_row(connection, table, |row| {
                let Some(uuid) = names.get(&(table.name(), row.local_id)) else { return };
                let row = planner.plan(table, row, uuid);
                for (_, target, id) in &row.references {
                    let high = highs.entry(target.clone()).or_default();
                    *high = (*high).max(*id);
                }
                dangling += row
                    .differs
                    .values()
                    .filter(|difference| difference.document.as_text() == Some(NOWHERE))
                    .count();
                planned.push(row);
                progress(1);
            })?;
            let high_id = planned.last().map_or(0, |row| row.local_id);
            let uuids_derived = derived.get(table.name()).copied().unwrap_or(0);
            plan.tables.push(TablePlan {
                table: (*table).clone(),
                rows: planned,
                high_id,
                uuids_derived,
                dangling,
            });
        }
        for table in &mut plan.tables {
            table.high_id = table.high_id.max(highs.get(table.table.name()).copied().unwrap_or(0));
        }
        Ok(plan)
    }
}

pub(super) fn each_row(
    connection: &Connection,
    table: &Table,
    mut look: impl FnMut(&StoredRow),
) -> rusqlite::Result<()> {
    let mut select = connection.prepare_cached(&format!(
        "{} ORDER BY {}",
        app_rows::select(table),
        quote(&table.local_id)
    ))?;
    let mut found = select.query([])?;
    while let Some(row) = found.next()? {
        look(&app_rows::read(table, row)?);
    }
    Ok(())
}

pub(super) fn content<'a>(
    table: &'a Table,
    row: &'a StoredRow,
) -> impl Iterator<Item = (&'a str, &'a Value)> {
    row.columns(table)
        .filter(|(column, _)| column.is_content())
        .map(|(column, value)| (column.name.as_str(), value))
}

/// The value as documents hold it: references by uuid.
pub(super) fn travelling(
    role: &Role,
    value: &Value,
    names: &Names<'_>,
    resolve: &impl Fn(&str, i64) -> Option<SyncUuid>,
) -> Value {
    let Role::Reference { table } = role else { return value.clone() };
    match value {
        Value::Null => Value::Null,
        Value::Integer(id) => {
            match names.get(&(table.as_str(), *id)).cloned().or_else(|| resolve(table, *id)) {
                Some(uuid) => Value::from(uuid.as_str()),
                None if is_sentinel(*id) => value.clone(),
                None => Value::from(NOWHERE),
            }
        }
        _ => Value::from(NOWHERE),
    }
}

/// The first change of a row holds what fits into a change; what does not stays on this device
/// until it is edited.
pub(super) fn leave_out_the_largest(
    puts: &mut BTreeMap<String, Value>,
    differs: &mut Differences,
    row: &StoredRow,
    table: &Table,
) {
    let size = |name: &str, value: &Value| name.len() + value.size_bytes() + PUT_OVERHEAD_BYTES;
    while puts.iter().map(|(name, value)| size(name, value)).sum::<usize>() > EDIT_BYTES_MAX {
        let Some(largest) =
            puts.iter().max_by_key(|(name, value)| size(name, value)).map(|(name, _)| name.clone())
        else {
            return;
        };
        puts.remove(&largest);
        if let Some((column, value)) = row.columns(table).find(|(column, _)| column.name == largest)
        {
            differs.insert(
                column.name.clone(),
                Difference::of_kind(Value::Null, token(value), DifferenceKind::Unsent),
            );
        }
    }
}

/// Names every row of some tables, and counts by table those whose name follows from their content.
fn name_rows<'t>(
    connection: &Connection,
    tables: &[&'t Table],
    resolve: &impl Fn(&str, i64) -> Option<SyncUuid>,
) -> rusqlite::Result<(Names<'t>, HashMap<&'t str, usize>)> {
    let mut names: Names<'t> = HashMap::new();
    let mut derived: HashMap<&'t str, usize> = HashMap::new();
    // Rows are read twice rather than kept: names first, because rows refer to each other.
    for table in tables {
        let mut taken: HashSet<SyncUuid> = HashSet::new();
        each_row(connection, table, |row| {
            // Two rows with one uuid (a row copied with all its columns): the first keeps it.
            let own = row.uuid(table).filter(|uuid| !taken.contains(uuid));
            let uuid = match own {
                Some(uuid) => uuid,
                None if table.natural_key.is_empty() => {
                    *derived.entry(table.name()).or_default() += 1;
                    derived_uuid(&table.name, row.local_id, content(table, row))
                }
                // Named by its key, once all it may refer to has a name.
                None => return,
            };
            taken.insert(uuid.clone());
            names.insert((table.name(), row.local_id), uuid);
        })?;
    }
    for table in tables.iter().filter(|table| !table.natural_key.is_empty()) {
        each_row(connection, table, |row| {
            if names.contains_key(&(table.name(), row.local_id)) {
                return;
            }
            let key: Vec<(&Column, Value)> = row
                .columns(table)
                .filter(|(column, _)| table.natural_key.contains(&column.name))
                .map(|(column, value)| (column, travelling(&column.role, value, &names, resolve)))
                .collect();
            *derived.entry(table.name()).or_default() += 1;
            let uuid = if key.iter().any(|(column, value)| leads_nowhere(column, value)) {
                derived_uuid(&table.name, row.local_id, content(table, row))
            } else {
                key_uuid(
                    &table.name,
                    key.iter().map(|(column, value)| (column.name.as_str(), value)),
                )
            };
            names.insert((table.name(), row.local_id), uuid);
        })?;
    }
    Ok((names, derived))
}

/// What is known of all rows when one of them is planned.
struct Planner<'a, R> {
    schema: &'a Schema,
    prose: &'a Prose,
    /// Of the rows that are taken in.
    names: &'a Names<'a>,
    /// Names the rows of other tables.
    resolve: &'a R,
}

impl<R: Fn(&str, i64) -> Option<SyncUuid>> Planner<'_, R> {
    fn plan(&self, table: &Table, row: &StoredRow, uuid: &SyncUuid) -> PlannedRow {
        let mut puts = BTreeMap::new();
        let mut references = Vec::new();
        let mut differs = Differences::new();
        for (column, value) in row.columns(table).filter(|(column, _)| column.is_content()) {
            if value.is_null() {
                continue;
            }
            let document = if value.size_bytes() > VALUE_BYTES_MAX {
                Value::Null
            } else {
                travelling(&column.role, value, self.names, self.resolve)
            };
            if let (Role::Reference { table }, Value::Integer(id)) = (&column.role, value)
                && document != *value
            {
                references.push((column.name.clone(), table.clone(), *id));
            }
            let kind = if document.is_null() {
                Some(DifferenceKind::Unsent)
            } else if document.as_text() == Some(NOWHERE) && column.role != Role::Field {
                Some(DifferenceKind::Quiet)
            } else {
                None
            };
            if let Some(kind) = kind {
                let difference = Difference::of_kind(document.clone(), token(value), kind);
                differs.insert(column.name.clone(), difference);
            }
            if !document.is_null() {
                puts.insert(column.name.clone(), document);
            }
        }
        leave_out_the_largest(&mut puts, &mut differs, row, table);
        puts.extend(prose_mark(self.prose, self.schema, table, row));
        let mut fill = BTreeMap::new();
        if row.uuid(table).as_ref() != Some(uuid) {
            fill.insert("sync_uuid".to_owned(), Value::from(uuid.as_str()));
        }
        let version = plan_bookkeeping(table, row, &mut puts, &mut fill, &mut differs);
        let entity = EntityId { table: table.name.clone(), uuid: uuid.clone() };
        let genesis = genesis(&entity, puts);
        let genesis = PackedChange { hash: genesis.hash(), bytes: genesis.into_bytes() };
        PlannedRow {
            local_id: row.local_id,
            uuid: uuid.clone(),
            fill,
            version: version.max(1),
            genesis,
            references,
            differs,
        }
    }
}

/// Times, deletion and version of a row, as its first change says them and as the table is filled.
/// The version is returned.
fn plan_bookkeeping(
    table: &Table,
    row: &StoredRow,
    puts: &mut BTreeMap<String, Value>,
    fill: &mut BTreeMap<String, Value>,
    differs: &mut Differences,
) -> i64 {
    for (role, name) in [(Role::CreatedAt, key::CREATED_AT), (Role::UpdatedAt, key::UPDATED_AT)] {
        let stored = row.by_role(table, &role);
        let baked = table.with_role(&role).and_then(Column::baked_default);
        // A time that every row of a file has by default says nothing of this row.
        let known = stored
            .as_text()
            .is_some_and(|text| Some(text) != baked.as_deref() && Stamp::parse(text).is_some());
        puts.insert(
            name.to_owned(),
            if known { stored.clone() } else { Value::from(UNKNOWN_STAMP) },
        );
        if stored.is_null() && table.has_or_gets(&role) {
            fill.insert(name.to_owned(), Value::from(UNKNOWN_STAMP));
        } else if !stored.is_null() && !known && stored.as_text() != baked.as_deref() {
            differs.insert(
                name.to_owned(),
                Difference::new(Value::from(UNKNOWN_STAMP), stored.clone()),
            );
        }
    }
    let deleted_at = row.by_role(table, &Role::DeletedAt).clone();
    if !deleted_at.is_null() {
        puts.insert(key::DELETE_KIND.to_owned(), Value::from("soft"));
    }
    puts.insert(key::DELETED_AT.to_owned(), deleted_at);
    let version = row.by_role(table, &Role::Version).as_integer().unwrap_or(1);
    if row.by_role(table, &Role::Version).is_null() && table.with_role(&Role::Version).is_some() {
        fill.insert(key::VERSION.to_owned(), Value::Integer(1));
    }
    puts.insert(key::VERSION.to_owned(), Value::Integer(version));
    version
}
