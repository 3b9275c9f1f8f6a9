//! What the app's tables look like, found by introspection. No table is left out by a hand-kept list:
//! what can't be synced is refused by name.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;
use storysync_crdt::TableName;

use super::quote;

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
    /// Its name.
    pub name: String,
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
    /// Its name.
    pub name: TableName,
    /// The SQL name of the integer that names a row locally: the INTEGER PRIMARY KEY, or `rowid`.
    pub local_id: String,
    /// The primary key when it is not a single integer; its columns then travel as fields.
    pub natural_key: Vec<String>,
    /// All stored columns, in the table's order, without the local id.
    pub columns: Vec<Column>,
    /// UNIQUE constraints and indexes, without those on the key or `sync_uuid` alone.
    pub uniques: Vec<Vec<String>>,
    /// Whether it is a STRICT table, which takes only SQLite's own types.
    pub strict: bool,
    /// Whether `sync_uuid` is unique by an index already.
    pub uuid_is_unique: bool,
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
    /// SQL of the app's own triggers on content tables.
    pub foreign_triggers: Vec<String>,
    /// Whether any table, content or not, has a trigger that is not ours.
    pub has_foreign_triggers: bool,
}

impl Schema {
    /// A content table by name.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.get(name)
    }

    /// All content tables by name.
    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        self.tables.values()
    }

    /// The references to `table`, as (referring table, column).
    pub fn references_to<'a>(&'a self, table: &'a str) -> impl Iterator<Item = (&'a Table, &'a Column)> {
        self.tables().flat_map(move |from| from.references().filter(move |(_, to)| *to == table).map(move |(column, _)| (from, column)))
    }

    /// Looks at a file. `excluded` tables are left alone: neither synced nor refused.
    ///
    /// # Errors
    /// When SQLite can't read the schema.
    pub fn read(connection: &Connection, excluded: &[String]) -> rusqlite::Result<Self> {
        let mut schema = Self { version: version(connection)?, ..Self::default() };
        let mut names = Vec::new();
        let mut list = connection.prepare("SELECT name, type, wr, strict FROM pragma_table_list WHERE schema = 'main' ORDER BY name")?;
        let mut rows = list.query([])?;
        while let Some(row) = rows.next()? {
            let (name, kind, without_rowid, strict): (String, String, bool, bool) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
            if kind != "table" || name.starts_with("sqlite_") || name.starts_with("sync_") || excluded.contains(&name) {
                continue;
            }
            if without_rowid {
                schema.refused.push(Refused { table: name, reason: "it is a WITHOUT ROWID table".to_owned() });
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
        schema.resolve_references(connection)?;
        let mut triggers = connection.prepare("SELECT tbl_name, name, sql FROM sqlite_schema WHERE type = 'trigger'")?;
        let mut rows = triggers.query([])?;
        while let Some(row) = rows.next()? {
            let (table, name, sql): (String, String, Option<String>) = (row.get(0)?, row.get(1)?, row.get(2)?);
            if name.starts_with(super::triggers::PREFIX) {
                if let Some(table) = schema.tables.get_mut(&table) {
                    table.own_triggers.insert(name);
                }
            } else {
                schema.has_foreign_triggers = true;
                if schema.tables.contains_key(&table) {
                    schema.foreign_triggers.extend(sql);
                }
            }
        }
        Ok(schema)
    }

    /// Single-column foreign keys to the local id of a content table become references; all others
    /// hold values that mean the same everywhere and travel as they are.
    fn resolve_references(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let mut found = Vec::new();
        let mut refused = Vec::new();
        for (name, table) in &self.tables {
            let mut keys = connection.prepare(
                "SELECT f.\"from\", f.\"table\", f.\"to\" FROM pragma_foreign_key_list(?1) AS f \
                 WHERE (SELECT count(*) FROM pragma_foreign_key_list(?1) AS g WHERE g.id = f.id) = 1",
            )?;
            let mut rows = keys.query([name])?;
            while let Some(row) = rows.next()? {
                let (from, to_table, to): (String, String, Option<String>) = (row.get(0)?, row.get(1)?, row.get(2)?);
                let Some(target) = self.tables.values().find(|table| table.name().eq_ignore_ascii_case(&to_table)) else { continue };
                let to_local_id = target.natural_key.is_empty()
                    && target.local_id != "rowid"
                    && to.as_deref().is_none_or(|column| column.eq_ignore_ascii_case(&target.local_id));
                if !to_local_id {
                    continue;
                }
                if from.eq_ignore_ascii_case(&table.local_id) {
                    refused.push(Refused { table: name.clone(), reason: format!("its primary key {from} is also a foreign key to {to_table}") });
                } else {
                    found.push((name.clone(), from, target.name().to_owned()));
                }
            }
        }
        for (name, from, to) in found {
            let column = self.tables.get_mut(&name).and_then(|table| table.columns.iter_mut().find(|column| column.name.eq_ignore_ascii_case(&from)));
            if let Some(column) = column
                && column.role == Role::Field
            {
                column.role = Role::Reference { table: to };
            }
        }
        for refusal in refused {
            self.tables.remove(&refusal.table);
            self.refused.push(refusal);
        }
        Ok(())
    }
}

/// `PRAGMA schema_version`: changes with every CREATE, ALTER, DROP and VACUUM.
///
/// # Errors
/// When SQLite can't read the file.
pub fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("PRAGMA schema_version")?.query_row([], |row| row.get(0))
}

fn read_table(connection: &Connection, name: &str, strict: bool) -> rusqlite::Result<Result<Table, String>> {
    let Some(table_name) = TableName::parse(name) else {
        return Ok(Err("its name is too long or holds control characters".to_owned()));
    };
    let mut columns = Vec::new();
    let mut key: Vec<(i64, String, String)> = Vec::new();
    let mut info = connection.prepare("SELECT name, type, \"notnull\", dflt_value, pk, hidden FROM pragma_table_xinfo(?1) ORDER BY cid")?;
    let mut rows = info.query([name])?;
    while let Some(row) = rows.next()? {
        let (column, declared): (String, String) = (row.get(0)?, row.get(1)?);
        let (not_null, default): (bool, Option<String>) = (row.get(2)?, row.get(3)?);
        let (key_position, hidden): (i64, i64) = (row.get(4)?, row.get(5)?);
        if hidden != 0 {
            // Generated columns follow from the others on every device.
            continue;
        }
        if column.len() > storysync_crdt::KEY_BYTES_MAX || column.starts_with('$') {
            return Ok(Err(format!("its column {column:?} has a name that can't travel")));
        }
        if key_position > 0 {
            key.push((key_position, column.clone(), declared.clone()));
        }
        let affinity = Affinity::of(&declared);
        let role = match column.as_str() {
            "sync_uuid" => Role::SyncUuid,
            "created_at" => Role::CreatedAt,
            "updated_at" => Role::UpdatedAt,
            "deleted_at" => Role::DeletedAt,
            "version" if affinity == Affinity::Integer => Role::Version,
            "version" => return Ok(Err("its column version is no integer, so it can't count edits".to_owned())),
            _ => Role::Field,
        };
        columns.push(Column { name: column, declared: declared.to_ascii_uppercase(), affinity, not_null, default, role });
    }
    key.sort();
    let integer_key = match key.as_slice() {
        [(_, column, declared)] if declared.eq_ignore_ascii_case("INTEGER") => Some(column.clone()),
        _ => None,
    };
    if let Some(column) = &integer_key {
        columns.retain(|other| other.name != *column);
    } else if columns.iter().any(|column| column.name.eq_ignore_ascii_case("rowid")) {
        return Ok(Err("it has a column named rowid and no integer primary key".to_owned()));
    }
    let natural_key = if integer_key.is_some() { Vec::new() } else { key.into_iter().map(|(_, column, _)| column).collect() };
    let mut uniques = Vec::new();
    let mut uuid_is_unique = false;
    for unique in unique_columns(connection, name)? {
        if unique == ["sync_uuid"] {
            uuid_is_unique = true;
        } else if integer_key.as_ref().is_none_or(|key| unique != [key.clone()]) {
            uniques.push(unique);
        }
    }
    let local_id = integer_key.unwrap_or_else(|| "rowid".to_owned());
    Ok(Ok(Table {
        name: table_name,
        sql: super::rows::statements(name, &local_id, &columns),
        local_id,
        natural_key,
        columns,
        uniques,
        strict,
        uuid_is_unique,
        own_triggers: BTreeSet::new(),
    }))
}

/// The column lists of all total unique indexes; indexes on expressions are left to SQLite to enforce.
fn unique_columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<Vec<String>>> {
    let mut found = BTreeSet::new();
    let mut indexes = connection.prepare("SELECT name FROM pragma_index_list(?1) WHERE \"unique\" = 1 AND partial = 0")?;
    let names: Vec<String> = indexes.query_map([table], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for name in names {
        let mut info = connection.prepare("SELECT name FROM pragma_index_info(?1) ORDER BY seqno")?;
        let columns: Vec<Option<String>> = info.query_map([&name], |row| row.get(0))?.collect::<Result<_, _>>()?;
        if let Some(columns) = columns.into_iter().collect::<Option<Vec<String>>>() {
            found.insert(columns);
        }
    }
    Ok(found.into_iter().collect())
}

/// The sync columns a table lacks, as the SQL that adds each.
#[must_use]
pub fn missing_sync_columns(table: &Table) -> Vec<String> {
    let wanted = [
        (Role::SyncUuid, "sync_uuid VARCHAR(36)"),
        (Role::CreatedAt, "created_at DATETIME"),
        (Role::UpdatedAt, "updated_at DATETIME"),
        (Role::DeletedAt, "deleted_at DATETIME"),
        (Role::Version, "version INTEGER NOT NULL DEFAULT 1"),
    ];
    wanted
        .iter()
        .filter(|(role, _)| table.with_role(role).is_none())
        .map(|(_, declaration)| if table.strict { declaration.replace("VARCHAR(36)", "TEXT").replace("DATETIME", "TEXT") } else { (*declaration).to_owned() })
        .map(|declaration| format!("ALTER TABLE {} ADD COLUMN {declaration}", quote(table.name())))
        .collect()
}
