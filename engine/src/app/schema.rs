//! What the app's tables look like, found by introspection. No table is left out by a hand-kept
//! list: what can't be synced is refused by name.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;
use storysync_crdt::TableName;

use super::quote;
use super::uniques::{self, UniqueRule};

/// What a column is to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// The single INTEGER PRIMARY KEY: local, never travels.
    LocalId,
    /// `sync_uuid`.
    SyncUuid,
    /// `created_at`.
    CreatedAt,
    /// `updated_at`.
    UpdatedAt,
    /// `deleted_at`.
    DeletedAt,
    /// `version`.
    Version,
    /// A foreign key to the local id of `table`: travels as the target's `sync_uuid`.
    Reference {
        /// The table referred to.
        table: String,
    },
    /// A foreign key to the local id of a table that is left alone here: it means something in this
    /// file only, and stays.
    Local,
    /// Content that travels as it is.
    Field,
}

/// SQLite's type affinity of a column (datatype3.html §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Affinity {
    /// TEXT.
    Text,
    /// NUMERIC.
    Numeric,
    /// INTEGER.
    Integer,
    /// REAL.
    Real,
    /// BLOB, or no type at all.
    Blob,
}

impl Affinity {
    fn of(declared: &str) -> Self {
        let declared = declared.to_ascii_uppercase();
        if declared.contains("INT") {
            Self::Integer
        } else if ["CHAR", "CLOB", "TEXT"].iter().any(|word| declared.contains(word)) {
            Self::Text
        } else if declared.contains("BLOB") || declared.is_empty() {
            Self::Blob
        } else if ["REAL", "FLOA", "DOUB"].iter().any(|word| declared.contains(word)) {
            Self::Real
        } else {
            Self::Numeric
        }
    }
}

/// One column of a content table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name in documents: that in the table, but for columns of the app's that bear a name of
    /// our bookkeeping ([`storysync_crdt::key::of_column`]).
    pub name: String,
    /// Its name in the table.
    pub sql_name: String,
    /// Its type as declared, in capitals.
    pub declared: String,
    /// Its affinity.
    pub affinity: Affinity,
    /// Whether NULL is refused.
    pub not_null: bool,
    /// The DEFAULT expression as written.
    pub default: Option<String>,
    /// What it is to us.
    pub role: Role,
}

impl Column {
    /// Whether the column is declared as text.
    #[must_use]
    pub fn is_text(&self) -> bool {
        self.affinity == Affinity::Text
    }

    /// Whether the column holds content that travels: a field or a reference.
    #[must_use]
    pub fn is_content(&self) -> bool {
        matches!(self.role, Role::Field | Role::Reference { .. })
    }

    /// Whether the app declares the column to hold true and false, which SQLite keeps as 1 and 0.
    #[must_use]
    pub fn is_boolean(&self) -> bool {
        matches!(self.declared.as_str(), "BOOLEAN" | "BOOL")
    }

    /// The DEFAULT when it is a string literal: the old migration scripts baked the time of
    /// migration in as the default of every new row.
    #[must_use]
    pub fn baked_default(&self) -> Option<String> {
        let text = self.default.as_deref()?.trim();
        let inner = text.strip_prefix('\'')?.strip_suffix('\'')?;
        Some(inner.replace("''", "'"))
    }
}

/// One content table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name in documents and in our tables: that in the file, but for tables the app has
    /// renamed.
    pub name: TableName,
    /// Its name in the file.
    pub sql_name: String,
    /// The SQL name of the integer that names a row locally: the INTEGER PRIMARY KEY, or `rowid`.
    pub local_id: String,
    /// The primary key when it is not a single integer; its columns then travel as fields.
    pub natural_key: Vec<String>,
    /// All stored columns, in the table's order, without the local id.
    pub columns: Vec<Column>,
    /// UNIQUE constraints and indexes, without those on the key or `sync_uuid` alone.
    pub uniques: Vec<Vec<String>>,
    /// Unique indexes that only SQLite can judge.
    pub rules: Vec<UniqueRule>,
    /// Whether the table settles conflicts by itself, without an error.
    pub settles_conflicts: bool,
    /// Whether a migration tool of the app's keeps the version of its schema in it. What it says is
    /// true of one file: a device that has no row in it is given one, and none is changed or
    /// removed from elsewhere.
    pub is_local: bool,
    /// Whether it is a STRICT table, which takes only SQLite's own types.
    pub strict: bool,
    /// Whether `sync_uuid` is unique by an index already.
    pub uuid_is_unique: bool,
    /// Names no column of ours can have, in lower case: those of all columns, generated ones
    /// included.
    pub taken_names: BTreeSet<String>,
    /// Whether a trigger of the app's looks at updates that touch our columns only: it must not see
    /// any.
    pub watches_updates: bool,
    /// The triggers of ours that stand on it.
    pub own_triggers: BTreeSet<String>,
    /// What is asked of the table again and again, written once.
    pub(super) sql: TableSql,
}

/// Statements of one table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TableSql {
    pub(super) select: String,
    pub(super) select_one: String,
    pub(super) find_uuid: String,
    pub(super) times: String,
    pub(super) highest_id: String,
    pub(super) insert: String,
}

impl Table {
    /// A column by name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    fn rename(&mut self, before: &str, name: &str) {
        let ruled = self.rules.iter_mut().flat_map(|rule| &mut rule.columns);
        let names = self
            .uniques
            .iter_mut()
            .flatten()
            .chain(ruled)
            .chain(&mut self.natural_key)
            .chain(self.columns.iter_mut().map(|column| &mut column.name));
        for known in names.filter(|known| **known == before) {
            name.clone_into(known);
        }
    }

    /// The name in the table of what documents call `name`.
    #[must_use]
    pub fn sql_name<'a>(&'a self, name: &'a str) -> &'a str {
        self.column(name).map_or(name, |column| column.sql_name.as_str())
    }

    /// What people are told of what documents call `name`: the app's name of it.
    #[must_use]
    pub fn told_name<'a>(&'a self, name: &'a str) -> &'a str {
        if name.starts_with(storysync_crdt::key::APP_COLUMN) { name } else { self.sql_name(name) }
    }

    /// What documents call what people call `told`: the other way round.
    #[must_use]
    pub fn name_told<'a>(&'a self, told: &'a str) -> &'a str {
        self.columns
            .iter()
            .find(|column| self.told_name(&column.name) == told)
            .map_or(told, |column| column.name.as_str())
    }

    /// Whether the table has a column of ours with this role, or will be given one.
    #[must_use]
    pub fn has_or_gets(&self, role: &Role) -> bool {
        self.with_role(role).is_some()
            || missing_sync_columns(self).iter().any(|missing| missing.role == *role)
    }

    /// The column with a role.
    #[must_use]
    pub fn with_role(&self, role: &Role) -> Option<&Column> {
        self.columns.iter().find(|column| column.role == *role)
    }

    /// The name as text.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Whether two rows of the table may get into each other's way.
    #[must_use]
    pub fn has_uniques(&self) -> bool {
        !self.uniques.is_empty() || !self.rules.is_empty()
    }

    /// Whether a column has a part in what must be unique.
    #[must_use]
    pub fn is_contested(&self, column: &str) -> bool {
        self.uniques
            .iter()
            .chain(self.rules.iter().map(|rule| &rule.columns))
            .any(|unique| unique.iter().any(|name| name == column))
    }

    /// Whether a column says which row of this table a row is a part of.
    #[must_use]
    pub fn is_tree(&self, column: &Column) -> bool {
        matches!(&column.role, Role::Reference { table } if *table == self.name())
            && storysync_crdt::is_tree_column(&self.name, &column.name)
    }

    /// The references to other tables.
    pub fn references(&self) -> impl Iterator<Item = (&Column, &str)> {
        self.columns.iter().filter_map(|column| match &column.role {
            Role::Reference { table } => Some((column, table.as_str())),
            _ => None,
        })
    }
}

/// A table that can't be synced, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The table.
    pub table: String,
    /// Why, as the end of a sentence.
    pub reason: String,
}

/// All content tables of a file.
#[derive(Debug, Clone, Default)]
pub struct Schema {
    /// `PRAGMA schema_version` at the time of looking.
    pub version: i64,
    tables: BTreeMap<String, Table>,
    /// Tables that can't be synced.
    pub refused: Vec<Refused>,
    /// Whether any table, content or not, has a trigger that is not ours.
    pub has_foreign_triggers: bool,
}

impl Schema {
    /// A content table by name.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.get(name)
    }

    /// From here on documents call a table `name`, as long as no other table of the file is called
    /// so.
    pub fn call_table(&mut self, sql_name: &str, name: &TableName) {
        if self.tables.contains_key(name.as_str()) {
            return;
        }
        let Some(mut table) = self.tables.remove(sql_name) else { return };
        table.name = name.clone();
        self.tables.insert(name.as_str().to_owned(), table);
        for column in self.tables.values_mut().flat_map(|table| &mut table.columns) {
            if let Role::Reference { table } = &mut column.role
                && table == sql_name
            {
                name.as_str().clone_into(table);
            }
        }
    }

    /// A content table by its name in the file.
    #[must_use]
    pub fn table_in_file(&self, sql_name: &str) -> Option<&Table> {
        self.tables.values().find(|table| table.sql_name == sql_name)
    }

    /// From here on documents call a column of a table `name`. Another column that has been given
    /// that name in the table meanwhile is told from it as those are that bear a name of our
    /// bookkeeping.
    pub fn call(&mut self, table: &str, column: &str, name: &str) {
        let Some(table) = self.tables.get_mut(table) else { return };
        if !table.columns.iter().any(|known| known.sql_name == column && known.is_content()) {
            return;
        }
        table.rename(name, &format!("{}{name}", storysync_crdt::key::APP_COLUMN));
        if let Some(before) = table
            .columns
            .iter()
            .find(|known| known.sql_name == column)
            .map(|known| known.name.clone())
        {
            table.rename(&before, name);
        }
    }

    /// All content tables by name.
    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        self.tables.values()
    }

    /// The references to `table`, as (referring table, column).
    pub fn references_to<'a>(
        &'a self,
        table: &'a str,
    ) -> impl Iterator<Item = (&'a Table, &'a Column)> {
        self.tables().flat_map(move |from| {
            from.references()
                .filter(move |(_, to)| *to == table)
                .map(move |(column, _)| (from, column))
        })
    }

    /// Looks at a file. `excluded` tables are left alone: neither synced nor refused.
    ///
    /// # Errors
    /// When SQLite can't read the schema.
    pub fn read(connection: &Connection, excluded: &[String]) -> rusqlite::Result<Self> {
        let mut schema = Self { version: version(connection)?, ..Self::default() };
        let mut names = Vec::new();
        let mut left_alone = Vec::new();
        let mut list = connection.prepare(
            "SELECT name, type, wr, strict FROM pragma_table_list \
            WHERE schema = 'main' ORDER BY name",
        )?;
        let mut rows = list.query([])?;
        while let Some(row) = rows.next()? {
            let (name, kind, without_rowid, strict): (String, String, bool, bool) =
                (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
            if kind != "table" || name.starts_with("sqlite_") || name.starts_with("sync_") {
                continue;
            }
            if excluded.contains(&name) {
                left_alone.extend(if without_rowid {
                    None
                } else {
                    read_table(connection, &name, strict)?.ok()
                });
                continue;
            }
            if without_rowid {
                schema.refused.push(Refused {
                    table: name,
                    reason: "it is a WITHOUT ROWID table".to_owned(),
                });
            } else {
                names.push((name, strict));
            }
        }
        for (name, strict) in names {
            match read_table(connection, &name, strict)? {
                Ok(table) => {
                    schema.tables.insert(name, table);
                }
                Err(reason) => schema.refused.push(Refused { table: name, reason }),
            }
        }
        schema.resolve_references(connection, &left_alone)?;
        let mut triggers = connection
            .prepare("SELECT tbl_name, name, sql FROM sqlite_schema WHERE type = 'trigger'")?;
        let mut rows = triggers.query([])?;
        while let Some(row) = rows.next()? {
            let (table, name, sql): (String, String, Option<String>) =
                (row.get(0)?, row.get(1)?, row.get(2)?);
            if name.starts_with(super::triggers::PREFIX) {
                if let Some(table) = schema.tables.get_mut(&table) {
                    table.own_triggers.insert(name);
                }
            } else {
                schema.has_foreign_triggers = true;
                let sql = sql.unwrap_or_default();
                if let Some(table) = schema
                    .tables
                    .values_mut()
                    .find(|known| known.name().eq_ignore_ascii_case(&table))
                {
                    table.watches_updates |= watches_updates(&sql, table);
                    if rolls_back(&sql) {
                        let reason = format!(
                            "its trigger {name} says RAISE(ROLLBACK), which would undo whole \
                                exchanges; RAISE(ABORT) refuses a statement as well"
                        );
                        schema.refused.push(Refused { table: table.name().to_owned(), reason });
                    }
                }
            }
        }
        Ok(schema)
    }

    /// Foreign keys to the local id of a content table become references, those to a column that is
    /// a reference lead where it leads; all others hold values that mean the same everywhere and
    /// travel as they are. Keys of several columns are looked at column by column.
    fn resolve_references(
        &mut self,
        connection: &Connection,
        left_alone: &[Table],
    ) -> rusqlite::Result<()> {
        // (table, column, table referred to, column referred to)
        let mut keys = Vec::new();
        for name in self.tables.keys() {
            let mut list = connection.prepare(
                "SELECT \"from\", \"table\", \"to\" FROM \
                pragma_foreign_key_list(?1) ORDER BY id, seq",
            )?;
            let mut rows = list.query([name])?;
            while let Some(row) = rows.next()? {
                let (from, to_table, to): (String, String, Option<String>) =
                    (row.get(0)?, row.get(1)?, row.get(2)?);
                keys.push((name.clone(), from, to_table, to));
            }
        }
        let mut refused = Vec::new();
        // As long as something was learned: a key may lead to a column that is a reference itself.
        let mut learned = true;
        while learned {
            learned = false;
            for (name, from, to_table, to) in &keys {
                let target =
                    self.tables.values().find(|table| table.name().eq_ignore_ascii_case(to_table));
                let role = match target {
                    Some(target) if leads_to_local_id(target, to.as_deref()) => {
                        Role::Reference { table: target.name().to_owned() }
                    }
                    Some(target) => match to.as_deref().and_then(|to| {
                        target
                            .columns
                            .iter()
                            .find(|column| column.sql_name.eq_ignore_ascii_case(to))
                    }) {
                        Some(Column {
                            role: role @ (Role::Reference { .. } | Role::Local),
                            ..
                        }) => role.clone(),
                        _ => continue,
                    },
                    None => match left_alone
                        .iter()
                        .find(|table| table.name().eq_ignore_ascii_case(to_table))
                    {
                        Some(target) if leads_to_local_id(target, to.as_deref()) => Role::Local,
                        _ => continue,
                    },
                };
                let Some(table) = self.tables.get_mut(name) else { continue };
                if from.eq_ignore_ascii_case(&table.local_id) {
                    let reason =
                        format!("its primary key {from} is also a foreign key to {to_table}");
                    let refusal = Refused { table: name.clone(), reason };
                    if !refused.contains(&refusal) {
                        refused.push(refusal);
                    }
                } else if let Some(column) = table.columns.iter_mut().find(|column| {
                    column.sql_name.eq_ignore_ascii_case(from) && column.role == Role::Field
                }) {
                    column.role = role;
                    learned = true;
                }
            }
        }
        for refusal in refused {
            self.tables.remove(&refusal.table);
            self.refused.push(refusal);
        }
        Ok(())
    }
}

fn leads_to_local_id(target: &Table, to: Option<&str>) -> bool {
    target.natural_key.is_empty()
        && target.local_id != "rowid"
        && to.is_none_or(|column| column.eq_ignore_ascii_case(&target.local_id))
}

/// Whether a trigger's SQL says that it fires with updates that touch columns of ours only. In
/// doubt, it does.
fn watches_updates(sql: &str, table: &Table) -> bool {
    let words: Vec<String> = sql
        .split(|c: char| c.is_whitespace() || c == ',')
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_uppercase)
        .collect();
    let head = words
        .iter()
        .position(|word| word == "ON")
        .map_or(words.as_slice(), |end| words.get(..end).unwrap_or_default());
    let Some(update) = head.iter().rposition(|word| word == "UPDATE") else { return false };
    let columns = head.get(update + 1..).unwrap_or_default();
    let Some((of, named)) = columns.split_first() else { return true };
    let ours = |name: &String| {
        let name = name.trim_matches(['"', '`', '[', ']', '\'']);
        table.columns.iter().any(|column| {
            column.sql_name.eq_ignore_ascii_case(name)
                && !column.is_content()
                && column.role != Role::Local
        })
    };
    of != "OF" || named.iter().any(ours)
}

fn rolls_back(sql: &str) -> bool {
    let plain: String =
        sql.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_ascii_uppercase()).collect();
    plain.contains("RAISE(ROLLBACK")
}

/// Tables in which migration tools keep the version of the schema they made: what it says is true
/// of one file only.
const SCHEMA_VERSION_TABLES: &[&str] = &[
    "__diesel_schema_migrations",
    "__drizzle_migrations",
    "__efmigrationshistory",
    "__migrationversion",
    "_cf_metadata",
    "_prisma_migrations",
    "_sqlx_migrations",
    "_yoyo_migration",
    "alembic_version",
    "android_metadata",
    "ar_internal_metadata",
    "aerich",
    "databasechangelog",
    "databasechangeloglock",
    "django_migrations",
    "doctrine_migration_versions",
    "dbmate_migrations",
    "flyway_schema_history",
    "goose_db_version",
    "grdb_migrations",
    "gorp_migrations",
    "kysely_migration",
    "kysely_migration_lock",
    "knex_migrations",
    "knex_migrations_lock",
    "migratehistory",
    "migrate_version",
    "migration_versions",
    "phinxlog",
    "playhouse_migrations",
    "refinery_schema_history",
    "room_master_table",
    "schema_info",
    "schema_migrations",
    "schema_version",
    "schemaversions",
    "seaql_migrations",
    "sequelizemeta",
    "south_migrationhistory",
    "typeorm_metadata",
    "umzugmeta",
];

fn keeps_schema_version(table: &str) -> bool {
    SCHEMA_VERSION_TABLES.contains(&table.to_ascii_lowercase().as_str())
}

/// `PRAGMA schema_version`: changes with every CREATE, ALTER, DROP and VACUUM.
///
/// # Errors
/// When SQLite can't read the file.
pub fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("PRAGMA schema_version")?.query_row([], |row| row.get(0))
}

fn read_table(
    connection: &Connection,
    name: &str,
    strict: bool,
) -> rusqlite::Result<Result<Table, String>> {
    let Some(table_name) = TableName::parse(name) else {
        return Ok(Err("its name is too long or holds control characters".to_owned()));
    };
    let mut declared_columns = Vec::new();
    let mut key: Vec<(i64, String, String)> = Vec::new();
    let mut taken_names = BTreeSet::new();
    let mut generated = Vec::new();
    let mut info = connection.prepare(
        "SELECT name, type, \"notnull\", dflt_value, pk, hidden FROM \
        pragma_table_xinfo(?1) ORDER BY cid",
    )?;
    let mut rows = info.query([name])?;
    while let Some(row) = rows.next()? {
        let (column, declared): (String, String) = (row.get(0)?, row.get(1)?);
        let (not_null, default): (bool, Option<String>) = (row.get(2)?, row.get(3)?);
        let (key_position, hidden): (i64, i64) = (row.get(4)?, row.get(5)?);
        taken_names.insert(column.to_ascii_lowercase());
        if hidden != 0 {
            generated.push(column.clone());
            if column.eq_ignore_ascii_case("sync_uuid") {
                return Ok(Err("its column sync_uuid is generated".to_owned()));
            }
            // Generated columns follow from the others on every device.
            continue;
        }
        if column.len() > storysync_crdt::KEY_BYTES_MAX
            || column.starts_with('$')
            || column.starts_with(storysync_crdt::key::APP_COLUMN)
        {
            return Ok(Err(format!("its column {column:?} has a name that can't travel")));
        }
        if key_position > 0 {
            key.push((key_position, column.clone(), declared.clone()));
        }
        declared_columns.push(Declared {
            name: column,
            declared: declared.to_ascii_uppercase(),
            not_null,
            default,
        });
    }
    let mut columns: Vec<Column> = Vec::new();
    let roles = roles(&declared_columns, strict);
    for (column, role) in declared_columns.into_iter().zip(roles) {
        let Declared { name: sql_name, declared, not_null, default } = column;
        let name = match role {
            Role::SyncUuid => "sync_uuid".to_owned(),
            Role::Field => storysync_crdt::key::of_column(&sql_name),
            _ => sql_name.to_ascii_lowercase(),
        };
        columns.push(Column {
            name,
            sql_name,
            affinity: Affinity::of(&declared),
            declared,
            not_null,
            default,
            role,
        });
    }
    key.sort();
    let integer_key = match key.as_slice() {
        [(_, column, declared)] if declared.eq_ignore_ascii_case("INTEGER") => Some(column.clone()),
        _ => None,
    };
    if let Some(column) = &integer_key {
        let has_index: bool = connection
            .prepare("SELECT EXISTS (SELECT 1 FROM pragma_index_list(?1) WHERE origin = 'pk')")?
            .query_row([name], |row| row.get(0))?;
        if has_index {
            return Ok(Err(format!(
                "its key {column} is an INTEGER PRIMARY KEY DESC, which SQLite gives no numbers of \
                    its own; declare it INTEGER PRIMARY KEY"
            )));
        }
        columns.retain(|other| other.sql_name != *column);
    } else if columns.iter().any(|column| column.sql_name.eq_ignore_ascii_case("rowid")) {
        return Ok(Err("it has a column named rowid and no integer primary key".to_owned()));
    }
    let natural_key = if integer_key.is_some() {
        Vec::new()
    } else {
        key.into_iter().map(|(_, column, _)| key_name(&columns, column)).collect()
    };
    let mut uniques = Vec::new();
    let mut uuid_is_unique = false;
    for unique in uniques::column_lists(connection, name)? {
        if let [only] = unique.as_slice()
            && only.eq_ignore_ascii_case("sync_uuid")
        {
            uuid_is_unique = true;
        } else if integer_key.as_ref().is_none_or(|key| !unique.contains(key)) {
            // With the key in it, it is unique without saying so.
            uniques.push(unique.into_iter().map(|column| key_name(&columns, column)).collect());
        }
    }
    let stored: Vec<String> = columns.iter().map(|column| column.sql_name.clone()).collect();
    let mut rules = uniques::rules(connection, name, &stored, &generated)?;
    for column in rules.iter_mut().flat_map(|rule| &mut rule.columns) {
        *column = key_name(&columns, std::mem::take(column));
    }
    let local_id = integer_key.unwrap_or_else(|| "rowid".to_owned());
    Ok(Ok(Table {
        name: table_name,
        sql_name: name.to_owned(),
        sql: super::rows::statements(name, &local_id, &columns),
        local_id,
        natural_key,
        columns,
        uniques,
        rules,
        settles_conflicts: uniques::settles_conflicts(connection, name)?,
        is_local: keeps_schema_version(name),
        strict,
        uuid_is_unique,
        taken_names,
        watches_updates: false,
        own_triggers: BTreeSet::new(),
    }))
}

/// A column as the table declares it.
struct Declared {
    name: String,
    declared: String,
    not_null: bool,
    default: Option<String>,
}

impl Declared {
    fn is_named(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// Whether the column could be one of ours: by name and by how we, or Storymaster, declare it.
    fn may_be(&self, role: &Role) -> bool {
        let is_time = matches!(self.declared.as_str(), "DATETIME" | "TIMESTAMP" | "TEXT");
        match role {
            Role::CreatedAt | Role::UpdatedAt => is_time,
            Role::DeletedAt => is_time && !self.not_null && self.default.is_none(),
            Role::Version => Affinity::of(&self.declared) == Affinity::Integer,
            _ => false,
        }
    }
}

/// The columns of ours beside `sync_uuid`.
const BOOKKEEPING: [(Role, &str); 4] = [
    (Role::CreatedAt, "created_at"),
    (Role::UpdatedAt, "updated_at"),
    (Role::DeletedAt, "deleted_at"),
    (Role::Version, "version"),
];

/// Which columns are ours. What stood in a table before `sync_uuid` came, or is declared otherwise
/// than we would, means something to the app: it is content, whatever its name. Old scripts of
/// Storymaster's added `sync_uuid` last, as TEXT, where we add VARCHAR(36).
fn roles(columns: &[Declared], strict: bool) -> Vec<Role> {
    let uuid = columns.iter().position(|column| column.is_named("sync_uuid"));
    let place_of = |(role, name): &(Role, &str)| {
        columns.iter().position(|column| column.is_named(name) && column.may_be(role))
    };
    let places: Vec<Option<usize>> = BOOKKEEPING.iter().map(place_of).collect();
    let by_old_scripts = uuid.is_some_and(|uuid| {
        let is_text = columns.get(uuid).is_some_and(|column| column.declared == "TEXT");
        is_text && !strict && places.iter().all(|place| place.is_some_and(|place| place < uuid))
    });
    let mut roles = vec![Role::Field; columns.len()];
    let Some(uuid) = uuid else { return roles };
    if let Some(role) = roles.get_mut(uuid) {
        *role = Role::SyncUuid;
    }
    for ((role, _), place) in BOOKKEEPING.iter().zip(places) {
        if let Some(own) = place
            .filter(|place| *place > uuid || by_old_scripts)
            .and_then(|place| roles.get_mut(place))
        {
            *own = role.clone();
        }
    }
    roles
}

/// What documents call a column of the table.
fn key_name(columns: &[Column], sql_name: String) -> String {
    columns
        .iter()
        .find(|column| column.sql_name == sql_name)
        .map_or(sql_name, |column| column.name.clone())
}

/// A column of ours that a table lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What it will be.
    pub role: Role,
    /// Its name.
    pub name: &'static str,
    /// The SQL that adds it.
    pub sql: String,
}

/// The sync columns a table lacks. Where the app has a column of that name with a meaning of its
/// own, the table does without ours.
#[must_use]
pub fn missing_sync_columns(table: &Table) -> Vec<Missing> {
    let wanted = [
        (Role::SyncUuid, "sync_uuid", "VARCHAR(36)"),
        (Role::CreatedAt, "created_at", "DATETIME"),
        (Role::UpdatedAt, "updated_at", "DATETIME"),
        (Role::DeletedAt, "deleted_at", "DATETIME"),
        (Role::Version, "version", "INTEGER NOT NULL DEFAULT 1"),
    ];
    wanted
        .into_iter()
        .filter(|(_, name, _)| !table.taken_names.contains(*name))
        .map(|(role, name, declaration)| {
            let declaration = if table.strict && declaration.starts_with(['V', 'D']) {
                "TEXT"
            } else {
                declaration
            };
            Missing {
                role,
                name,
                sql: format!(
                    "ALTER TABLE {} ADD COLUMN {name} {declaration}",
                    quote(&table.sql_name)
                ),
            }
        })
        .collect()
}
