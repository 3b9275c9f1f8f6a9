//! Taking tables into sync: sync columns where they are missing, a uuid and a genesis for every
//! row, triggers. Planned from a snapshot without any lock, then applied in one transaction.

mod follow;
mod plan;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use storysync_crdt::{ChangeHash, Stamp, SyncUuid, Value};

use crate::app::schema::{Table, missing_sync_columns};
use crate::app::{quote, triggers};
use crate::error::TransactionError;
use crate::migrate::renaming::schema_of;
use crate::store::log::{self, Appender, Packed};
use crate::store::references;
use crate::store::rows::{self, Differences, RowId, TableId};

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
    ) -> Result<Vec<RowId>, TransactionError> {
        // No trigger of the app's hears of columns that only we fill.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
        let mut appender = Appender::new(connection)?;
        let mut tables: Vec<(TableId, TablePlan)> = Vec::new();
        for plan in self.tables {
            add_columns(connection, &plan.table)?;
            tables.push((rows::table_id(connection, &plan.table.name)?, plan));
        }
        let mut ids: Ids<'_> = HashMap::new();
        let mut added = 0;
        for (table_id, plan) in &tables {
            let own = ids.entry(plan.table.name()).or_default();
            own.reserve(plan.rows.len());
            let mut filler = Filler::new(connection, &plan.table);
            for row in &plan.rows {
                filler.fill(row)?;
                let (id, is_new) = enter(connection, *table_id, row, fresh)?;
                added += usize::from(is_new);
                if fresh || !log::contains(connection, &row.genesis.hash)? {
                    let PackedChange { hash, bytes } = &row.genesis;
                    let genesis = Packed { hash, bytes };
                    appender.append_packed(connection, id, genesis, None, now.unix_ms())?;
                }
                own.insert(row.local_id, id);
            }
            rows::raise_high_id(connection, *table_id, plan.high_id)?;
        }
        rows::note_added(connection, added)?;
        note_references(connection, &tables, &ids)?;
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

/// The rows taken in, by table and the app's id.
type Ids<'a> = HashMap<&'a str, HashMap<i64, RowId>>;

/// Enters a planned row among ours. Whether it is new is returned with it.
fn enter(
    connection: &Connection,
    table: TableId,
    row: &PlannedRow,
    fresh: bool,
) -> rusqlite::Result<(RowId, bool)> {
    let known = if fresh { None } else { rows::find(connection, table, &row.uuid)? };
    let Some(mut record) = known else {
        let (uuid, version) = (&row.uuid, row.version);
        let id =
            rows::insert_present(connection, table, uuid, row.local_id, version, &row.differs)?;
        return Ok((id, true));
    };
    // Another row or a peer spoke of it before its table came here.
    record.local_id = Some(row.local_id);
    record.present = true;
    record.differs = row.differs.clone();
    rows::save(connection, &record)?;
    Ok((record.id, false))
}

/// Notes which of the rows taken in refers to which, or to an id under which nothing stands yet.
fn note_references(
    connection: &Connection,
    tables: &[(TableId, TablePlan)],
    ids: &Ids<'_>,
) -> Result<(), TransactionError> {
    let mut found = Vec::new();
    for (_, plan) in tables {
        let Some(own) = ids.get(plan.table.name()) else { continue };
        for row in &plan.rows {
            let Some(referrer) = own.get(&row.local_id) else { continue };
            for (column, target_table, target_id) in &row.references {
                let table = rows::find_table(connection, target_table)?;
                let target = match (ids.get(target_table.as_str()), table) {
                    (Some(planned), _) => planned.get(target_id).copied(),
                    (None, Some(table)) => {
                        rows::at_local_id(connection, table, *target_id)?.map(|record| record.id)
                    }
                    (None, None) => None,
                };
                match (target, table) {
                    (Some(target), _) => found.push((target, *referrer, column.as_str())),
                    (None, Some(table)) => {
                        references::add_dangling(connection, table, *target_id, *referrer)?;
                    }
                    (None, None) => {}
                }
            }
        }
    }
    // In the order of their index, each page of it is touched once.
    found.sort_unstable();
    for (target, referrer, column) in found {
        references::add(connection, target, referrer, column)?;
    }
    Ok(())
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

/// Adds the sync columns a table lacks.
pub(crate) fn add_columns(
    connection: &Connection,
    table: &Table,
) -> Result<bool, TransactionError> {
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
) -> Result<bool, TransactionError> {
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
fn drop_triggers(connection: &Connection, table: &str) -> Result<bool, TransactionError> {
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
) -> Result<bool, TransactionError> {
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
