//! Taking tables into sync: sync columns where they are missing, a uuid and a genesis for every
//! row, triggers. Planned from a snapshot without any lock, then applied in one transaction.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use storysync_crdt::{
    ChangeHash, EntityId, NOWHERE, Stamp, SyncUuid, UNKNOWN_STAMP, VALUE_BYTES_MAX, Value,
    derived_uuid, genesis, key, key_uuid,
};

use crate::app::profile::Prose;
use crate::app::rows::{self as app_rows, StoredRow};
use crate::app::schema::{Column, Role, Schema, Table, missing_sync_columns};
use crate::app::{quote, triggers};
use crate::capture::{is_sentinel, leads_nowhere};
use crate::error::SessionError;
use crate::migrate::renaming::schema_of;
use crate::project::{WAITS_FOR_PARENT, token};
use crate::store::log::Appender;
use crate::store::references;
use crate::store::rows::{self, Difference, DifferenceKind, Differences, RowId, TableId};
use crate::transaction::{EDIT_BYTES_MAX, PUT_OVERHEAD_BYTES, Session, prose_mark};

/// What a migration does, or did, to one table.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TableReport {
    /// The table.
    pub table: String,
    /// Its rows.
    pub rows: usize,
    /// Sync columns added.
    pub columns_added: Vec<String>,
    /// Rows that had no usable uuid and were given one derived from their content.
    pub uuids_derived: usize,
    /// References that lead to no row; they stay as they are.
    pub dangling_references: usize,
}

/// What a migration does, or did.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct MigrationReport {
    /// Where the backup is; none when nothing had to be done, or on a dry run.
    pub backup: Option<std::path::PathBuf>,
    /// By table; empty when nothing had to be done.
    pub tables: Vec<TableReport>,
}

impl MigrationReport {
    /// Whether there was nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }
}

/// How the tables are to be taken in.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    tables: Vec<TablePlan>,
}

#[derive(Debug)]
struct TablePlan {
    table: Table,
    rows: Vec<PlannedRow>,
    high_id: i64,
    uuids_derived: usize,
    dangling: usize,
}

#[derive(Debug)]
struct PlannedRow {
    local_id: i64,
    uuid: SyncUuid,
    /// Sync columns the table's row lacks.
    fill: BTreeMap<String, Value>,
    version: i64,
    genesis: PackedChange,
    references: Vec<(String, String, i64)>,
    differs: Differences,
}

/// A change as the log keeps it; its decoded form is not needed again.
#[derive(Debug)]
struct PackedChange {
    hash: ChangeHash,
    bytes: Vec<u8>,
}

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
        let mut names: Names<'_> = HashMap::new();
        let mut derived: HashMap<&str, usize> = HashMap::new();
        // Rows are read twice rather than kept: names first, because rows refer to each other.
        for table in &tables {
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
                    .map(|(column, value)| {
                        (column, travelling(&column.role, value, &names, &resolve))
                    })
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
        let mut plan = Self::default();
        let mut highs: HashMap<String, i64> = HashMap::new();
        for table in &tables {
            let mut planned = Vec::new();
            let mut dangling = 0;
            each_row(connection, table, |row| {
                let Some(uuid) = names.get(&(table.name(), row.local_id)) else { return };
                let row = plan_row(schema, prose, table, row, uuid, &names, &resolve);
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

    pub(crate) fn report(&self) -> Vec<TableReport> {
        self.tables
            .iter()
            .map(|plan| TableReport {
                table: plan.table.name().to_owned(),
                rows: plan.rows.len(),
                columns_added: missing_sync_columns(&plan.table)
                    .into_iter()
                    .map(|missing| missing.name.to_owned())
                    .collect(),
                uuids_derived: plan.uuids_derived,
                dangling_references: plan.dangling,
            })
            .collect()
    }

    /// Carries the plan out inside an open transaction, except for the triggers.
    ///
    /// `fresh` when our own tables are still empty: then nothing of the plan can be known already.
    pub(crate) fn apply(
        self,
        connection: &Connection,
        now: Stamp,
        fresh: bool,
    ) -> Result<Vec<RowId>, SessionError> {
        // No trigger of the app's hears of columns that only we fill.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
        let mut appender = Appender::new(connection)?;
        let mut tables: Vec<(TableId, TablePlan)> = Vec::new();
        for plan in self.tables {
            add_columns(connection, &plan.table)?;
            tables.push((rows::table_id(connection, &plan.table.name)?, plan));
        }
        let mut ids: HashMap<&str, HashMap<i64, RowId>> = HashMap::new();
        let mut added = 0;
        for (table_id, plan) in &tables {
            let own = ids.entry(plan.table.name()).or_default();
            own.reserve(plan.rows.len());
            let mut filler = Filler::new(connection, &plan.table);
            for row in &plan.rows {
                filler.fill(row)?;
                let known =
                    if fresh { None } else { rows::find(connection, *table_id, &row.uuid)? };
                let id = match known {
                    // Another row or a peer spoke of it before its table came here.
                    Some(mut record) => {
                        record.local_id = Some(row.local_id);
                        record.present = true;
                        record.differs = row.differs.clone();
                        rows::save(connection, &record)?;
                        record.id
                    }
                    None => {
                        added += 1;
                        rows::insert_present(
                            connection,
                            *table_id,
                            &row.uuid,
                            row.local_id,
                            row.version,
                            &row.differs,
                        )?
                    }
                };
                if fresh || !crate::store::log::contains(connection, &row.genesis.hash)? {
                    appender.append_packed(
                        connection,
                        id,
                        &row.genesis.hash,
                        &row.genesis.bytes,
                        None,
                        now.unix_ms(),
                    )?;
                }
                own.insert(row.local_id, id);
            }
            rows::raise_high_id(connection, *table_id, plan.high_id)?;
        }
        rows::note_added(connection, added)?;
        let mut references = Vec::new();
        for (_, plan) in &tables {
            for row in &plan.rows {
                let Some(referrer) =
                    ids.get(plan.table.name()).and_then(|own| own.get(&row.local_id))
                else {
                    continue;
                };
                for (column, target_table, target_id) in &row.references {
                    let target = match ids.get(target_table.as_str()) {
                        Some(planned) => planned.get(target_id).copied(),
                        None => match rows::find_table(connection, target_table)? {
                            Some(table) => rows::at_local_id(connection, table, *target_id)?
                                .map(|record| record.id),
                            None => None,
                        },
                    };
                    match (target, rows::find_table(connection, target_table)?) {
                        (Some(target), _) => references.push((target, *referrer, column.as_str())),
                        (None, Some(table)) => {
                            references::add_dangling(connection, table, *target_id, *referrer)?
                        }
                        (None, None) => {}
                    }
                }
            }
        }
        // In the order of their index, each page of it is touched once.
        references.sort_unstable();
        for (target, referrer, column) in references {
            references::add(connection, target, referrer, column)?;
        }
        let adopted = ids.values().flat_map(|own| own.values().copied()).collect();
        let schema = schema_of(connection, &[])?;
        for (table_id, plan) in &tables {
            if let Some(table) = schema.table(plan.table.name()) {
                finish_table(connection, *table_id, table, schema.has_foreign_triggers)?;
            }
        }
        Ok(adopted)
    }
}

/// Writes the sync columns that rows of one table lack; most rows lack the same ones.
struct Filler<'a> {
    connection: &'a Connection,
    table: &'a Table,
    prepared: Option<(Vec<String>, rusqlite::Statement<'a>)>,
}

impl<'a> Filler<'a> {
    fn new(connection: &'a Connection, table: &'a Table) -> Self {
        Self { connection, table, prepared: None }
    }

    fn fill(&mut self, row: &PlannedRow) -> rusqlite::Result<()> {
        if row.fill.is_empty() {
            return Ok(());
        }
        if !self.prepared.as_ref().is_some_and(|(columns, _)| columns.iter().eq(row.fill.keys())) {
            let sets: Vec<String> = row
                .fill
                .keys()
                .enumerate()
                .map(|(place, column)| {
                    format!("{} = ?{}", quote(self.table.sql_name(column)), place + 2)
                })
                .collect();
            let sql = format!(
                "UPDATE {} SET {} WHERE {} = ?1",
                quote(self.table.name()),
                sets.join(", "),
                quote(&self.table.local_id)
            );
            self.prepared =
                Some((row.fill.keys().cloned().collect(), self.connection.prepare(&sql)?));
        }
        if let Some((_, statement)) = &mut self.prepared {
            let id = Value::Integer(row.local_id);
            statement.execute(rusqlite::params_from_iter(
                std::iter::once(&id).chain(row.fill.values()).map(crate::translate::to_sql),
            ))?;
        }
        Ok(())
    }
}

/// The uuids of rows by table and local id.
type Names<'a> = HashMap<(&'a str, i64), SyncUuid>;

fn each_row(
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

fn content<'a>(table: &'a Table, row: &'a StoredRow) -> impl Iterator<Item = (&'a str, &'a Value)> {
    row.columns(table)
        .filter(|(column, _)| column.is_content())
        .map(|(column, value)| (column.name.as_str(), value))
}

/// The value as documents hold it: references by uuid.
fn travelling(
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
fn leave_out_the_largest(
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

fn plan_row(
    schema: &Schema,
    prose: &Prose,
    table: &Table,
    row: &StoredRow,
    uuid: &SyncUuid,
    names: &Names<'_>,
    resolve: &impl Fn(&str, i64) -> Option<SyncUuid>,
) -> PlannedRow {
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
            travelling(&column.role, value, names, resolve)
        };
        if let (Role::Reference { table }, Value::Integer(id)) = (&column.role, value)
            && document != *value
        {
            references.push((column.name.clone(), table.clone(), *id));
        }
        if document.is_null() || document.as_text() == Some(NOWHERE) && column.role != Role::Field {
            let kind =
                if document.is_null() { DifferenceKind::Unsent } else { DifferenceKind::Quiet };
            differs.insert(
                column.name.clone(),
                Difference::of_kind(document.clone(), token(value), kind),
            );
        }
        if !document.is_null() {
            puts.insert(column.name.clone(), document);
        }
    }
    leave_out_the_largest(&mut puts, &mut differs, row, table);
    puts.extend(prose_mark(prose, schema, table, row));
    let mut fill = BTreeMap::new();
    if row.uuid(table).as_ref() != Some(uuid) {
        fill.insert("sync_uuid".to_owned(), Value::from(uuid.as_str()));
    }
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

/// Adds the sync columns a table lacks.
pub(crate) fn add_columns(connection: &Connection, table: &Table) -> Result<bool, SessionError> {
    let missing = missing_sync_columns(table);
    for column in &missing {
        connection.execute_batch(&column.sql)?;
    }
    Ok(!missing.is_empty())
}

/// What every table in sync has: a unique uuid, our triggers, and its columns noted. Returns
/// whether anything had to be done.
fn finish_table(
    connection: &Connection,
    id: TableId,
    table: &Table,
    deriving: bool,
) -> Result<bool, SessionError> {
    let name = table.name();
    let mut changed = false;
    if !table.uuid_is_unique {
        let index = quote(&format!("sync_uuid_{name}"));
        connection.execute_batch(&format!(
            "CREATE UNIQUE INDEX IF NOT EXISTS {index} ON {} (sync_uuid)",
            quote(&table.sql_name)
        ))?;
        changed = true;
    }
    changed |= install_triggers(connection, table, deriving)?;
    let columns: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
    if rows::table_columns(connection, name)?.is_none_or(|known| known != columns) {
        rows::set_table_columns(connection, id, &columns)?;
        changed = true;
    }
    Ok(changed)
}

/// Takes our triggers off a table; `false` when there is no such table.
fn drop_triggers(connection: &Connection, table: &str) -> Result<bool, SessionError> {
    let exists: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1)",
        [table],
        |row| row.get(0),
    )?;
    let mut list = connection.prepare(
        "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND \
        tbl_name = ?1 AND instr(name, ?2) = 1",
    )?;
    let names: Vec<String> =
        list.query_map([table, triggers::PREFIX], |row| row.get(0))?.collect::<Result<_, _>>()?;
    drop(list);
    for name in names {
        connection.execute_batch(&format!("DROP TRIGGER {}", quote(&name)))?;
    }
    Ok(exists)
}

fn install_triggers(
    connection: &Connection,
    table: &Table,
    deriving: bool,
) -> Result<bool, SessionError> {
    let wanted = triggers::of_table(table, deriving);
    let mut changed = false;
    let names: BTreeSet<&String> = wanted.iter().map(|(name, _)| name).collect();
    for stale in table.own_triggers.iter().filter(|name| !names.contains(name)) {
        connection.execute_batch(&format!("DROP TRIGGER {}", quote(stale)))?;
        changed = true;
    }
    for (name, sql) in &wanted {
        let standing: Option<String> =
            rusqlite::OptionalExtension::optional(connection.query_row(
                "SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND name = ?1",
                [name],
                |row| row.get(0),
            ))?;
        if standing.as_deref() == Some(sql) {
            continue;
        }
        connection.execute_batch(&format!("DROP TRIGGER IF EXISTS {}; {sql}", quote(name)))?;
        changed = true;
    }
    Ok(changed)
}

impl Session<'_> {
    /// The app changed its tables: take new ones in, put triggers back, and look at every row of
    /// tables that were rebuilt, because nothing noted what was written in between.
    pub(crate) fn follow_schema(
        &mut self,
        excluded: &[String],
    ) -> Result<BTreeSet<String>, SessionError> {
        self.follow_renamings(excluded)?;
        let mut known = HashSet::new();
        let mut came_back = HashSet::new();
        for table in self.schema.tables() {
            let columns = rows::table_columns(self.connection, table.name())?.unwrap_or_default();
            if !columns.is_empty() {
                let new = table.columns.iter().filter(|column| !columns.contains(&column.name));
                self.new_columns
                    .extend(new.map(|column| (table.name().to_owned(), column.name.clone())));
                known.insert(table.name().to_owned());
                if table.own_triggers.is_empty() {
                    // It was left alone for a while, and nothing was noted.
                    came_back.insert(table.name().to_owned());
                }
            } else if let Some(id) = rows::find_table(self.connection, table.name())?
                && rows::once_stood_in(self.connection, id)?
            {
                // Dropped, and made again: its rows are those of them that it has been given back.
                known.insert(table.name().to_owned());
                came_back.insert(table.name().to_owned());
                self.dropped.insert(table.name().to_owned());
            }
        }
        for name in rows::tables_with_columns(self.connection)? {
            if self.schema.table(&name).is_some() {
                continue;
            }
            if drop_triggers(self.connection, &name)? {
                // Left alone from now on. Should it be taken in again, its rows are those it had,
                // and what the app wrote into them meanwhile was written over what they show now.
                continue;
            } else {
                // Its rows are not deleted: they are no longer shown.
                rows::forget_table(self.connection, &name)?;
            }
        }
        self.begin_unnoted_writes()?;
        let connection = self.connection;
        let resolve = |table: &str, id: i64| {
            let table = rows::find_table(connection, table).ok()??;
            rows::at_local_id(connection, table, id).ok()?.map(|record| record.uuid)
        };
        let plan = Plan::make(self.connection, &self.schema, &known, self.prose, resolve, |_| {})?;
        let mut touched: BTreeSet<RowId> =
            plan.apply(self.connection, self.now, false)?.into_iter().collect();
        self.has_triggers_on = false;
        let mut rebuilt = BTreeSet::new();
        for table in std::sync::Arc::clone(&self.schema)
            .tables()
            .filter(|table| known.contains(table.name()))
        {
            if add_columns(self.connection, table)? {
                rebuilt.insert(table.name().to_owned());
            }
        }
        let schema = std::sync::Arc::new(schema_of(self.connection, excluded)?);
        for table in schema.tables() {
            let id = self.table_id(&table.name)?;
            if !known.contains(table.name()) {
                // Rows a peer told of before this app had the table.
                touched.extend(rows::absent_in(self.connection, id)?);
            } else if finish_table(self.connection, id, table, schema.has_foreign_triggers)?
                || !table.natural_key.is_empty()
                || came_back.contains(table.name())
            {
                rebuilt.insert(table.name().to_owned());
            }
        }
        // What refers to a table that is in sync only now leads to its rows.
        let is_new = |name: &str| !known.contains(name) || came_back.contains(name);
        let referring = schema.tables().filter(|table| {
            known.contains(table.name()) && table.references().any(|(_, target)| is_new(target))
        });
        let referring: Vec<&Table> = referring.collect();
        rebuilt.extend(referring.iter().map(|table| table.name().to_owned()));
        self.schema = std::sync::Arc::clone(&schema);
        for table in referring {
            let id = self.table_id(&table.name)?;
            for waiting in rows::parked_because(self.connection, id, WAITS_FOR_PARENT)? {
                self.note_document(waiting, Some(table))?;
                touched.insert(waiting);
            }
        }
        self.settle(touched)?;
        self.end_own_writes()?;
        self.came_back = came_back;
        Ok(rebuilt)
    }
}
