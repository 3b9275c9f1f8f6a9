//! Reads an app's schema from its file: tables, columns, what each column is for, and what refers
//! to what.

use super::super::uniques::{self};
use super::{Affinity, Column, Refused, Role, Schema, Table, version};
use rusqlite::Connection;
use std::collections::BTreeSet;
use storysync_crdt::TableName;

impl Schema {
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
            if name.starts_with(crate::app::triggers::PREFIX) {
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
    pub(super) fn resolve_references(
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

pub(super) fn leads_to_local_id(target: &Table, to: Option<&str>) -> bool {
    target.natural_key.is_empty()
        && target.local_id != "rowid"
        && to.is_none_or(|column| column.eq_ignore_ascii_case(&target.local_id))
}

/// Whether a trigger's SQL says that it fires with updates that touch columns of ours only. In
/// doubt, it does.
pub(super) fn watches_updates(sql: &str, table: &Table) -> bool {
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

pub(super) fn rolls_back(sql: &str) -> bool {
    let plain: String =
        sql.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_ascii_uppercase()).collect();
    plain.contains("RAISE(ROLLBACK")
}

/// Tables in which migration tools keep the version of the schema they made: what it says is true
/// of one file only.
pub(super) const SCHEMA_VERSION_TABLES: &[&str] = &[
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

pub(super) fn keeps_schema_version(table: &str) -> bool {
    SCHEMA_VERSION_TABLES.contains(&table.to_ascii_lowercase().as_str())
}

/// What a table declares.
struct Declarations {
    declared: Vec<Declared>,
    /// The columns of its primary key: place, name, type.
    key: Vec<(i64, String, String)>,
    taken_names: BTreeSet<String>,
    generated: Vec<String>,
}

/// Reads what a table declares; why it can't be synced where a column of it stands in the way.
fn declarations(
    connection: &Connection,
    name: &str,
) -> rusqlite::Result<Result<Declarations, String>> {
    let mut found = Declarations {
        declared: Vec::new(),
        key: Vec::new(),
        taken_names: BTreeSet::new(),
        generated: Vec::new(),
    };
    let mut info = connection.prepare(
        "SELECT name, type, \"notnull\", dflt_value, pk, hidden FROM \
        pragma_table_xinfo(?1) ORDER BY cid",
    )?;
    let mut rows = info.query([name])?;
    while let Some(row) = rows.next()? {
        let (column, declared): (String, String) = (row.get(0)?, row.get(1)?);
        let (not_null, default): (bool, Option<String>) = (row.get(2)?, row.get(3)?);
        let (key_position, hidden): (i64, i64) = (row.get(4)?, row.get(5)?);
        found.taken_names.insert(column.to_ascii_lowercase());
        if hidden != 0 {
            if column.eq_ignore_ascii_case("sync_uuid") {
                return Ok(Err("its column sync_uuid is generated".to_owned()));
            }
            // Generated columns follow from the others on every device.
            found.generated.push(column);
            continue;
        }
        if column.len() > storysync_crdt::KEY_BYTES_MAX
            || column.starts_with('$')
            || column.starts_with(storysync_crdt::key::APP_COLUMN)
        {
            return Ok(Err(format!("its column {column:?} has a name that can't travel")));
        }
        if key_position > 0 {
            found.key.push((key_position, column.clone(), declared.clone()));
        }
        let declared = declared.to_ascii_uppercase();
        found.declared.push(Declared { name: column, declared, not_null, default });
    }
    Ok(Ok(found))
}

/// The columns of a table, each with what it is for.
fn columns_of(declared: Vec<Declared>, strict: bool) -> Vec<Column> {
    let roles = roles(&declared, strict);
    let column = |(column, role): (Declared, Role)| {
        let Declared { name: sql_name, declared, not_null, default } = column;
        let name = match role {
            Role::SyncUuid => "sync_uuid".to_owned(),
            Role::Field => storysync_crdt::key::of_column(&sql_name),
            _ => sql_name.to_ascii_lowercase(),
        };
        let affinity = Affinity::of(&declared);
        Column { name, sql_name, affinity, declared, not_null, default, role }
    };
    declared.into_iter().zip(roles).map(column).collect()
}

pub(super) fn read_table(
    connection: &Connection,
    name: &str,
    strict: bool,
) -> rusqlite::Result<Result<Table, String>> {
    let Some(table_name) = TableName::parse(name) else {
        return Ok(Err("its name is too long or holds control characters".to_owned()));
    };
    let Declarations { declared, mut key, taken_names, generated } =
        match declarations(connection, name)? {
            Ok(declarations) => declarations,
            Err(reason) => return Ok(Err(reason)),
        };
    let mut columns = columns_of(declared, strict);
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
        sql: crate::app::rows::statements(name, &local_id, &columns),
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
pub(super) struct Declared {
    pub(super) name: String,
    pub(super) declared: String,
    pub(super) not_null: bool,
    pub(super) default: Option<String>,
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
pub(super) const BOOKKEEPING: [(Role, &str); 4] = [
    (Role::CreatedAt, "created_at"),
    (Role::UpdatedAt, "updated_at"),
    (Role::DeletedAt, "deleted_at"),
    (Role::Version, "version"),
];

/// Which columns are ours. What stood in a table before `sync_uuid` came, or is declared otherwise
/// than we would, means something to the app: it is content, whatever its name. Old scripts of
/// Storymaster's added `sync_uuid` last, as TEXT, where we add VARCHAR(36).
pub(super) fn roles(columns: &[Declared], strict: bool) -> Vec<Role> {
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
pub(super) fn key_name(columns: &[Column], sql_name: String) -> String {
    columns
        .iter()
        .find(|column| column.sql_name == sql_name)
        .map_or(sql_name, |column| column.name.clone())
}
