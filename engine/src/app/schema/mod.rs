//! What the app's tables look like, found by introspection. No table is left out by a hand-kept
//! list: what can't be synced is refused by name.

mod read;

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;
use storysync_crdt::TableName;

use super::quote;
use super::uniques::UniqueRule;

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
    /// Whether it is declared with `ON CONFLICT`: SQLite then drops or replaces rows without an
    /// error.
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

    /// The app's name, as people are told it, of the column documents call `name`.
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

    /// The reference columns, each with the table it leads to, which may be this one.
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
}

/// `PRAGMA schema_version`: changes with every CREATE, ALTER, DROP and VACUUM.
///
/// # Errors
/// When SQLite can't read the file.
pub fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("PRAGMA schema_version")?.query_row([], |row| row.get(0))
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
