//! Storymaster files of every dialect, made here: 645 rows over all 63 tables, with the hazards of
//! real ones (dangling references, line ends, emoji, baked-in default times).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use storysync_engine::app::schema::{Affinity, Role, Schema};

const SCHEMA: &str = include_str!("../../migrations/storymaster/V1__schema.sql");
pub const ROWS_IN_ALL: usize = 645;
/// The time an old migration script baked in as the default of every new row.
pub const BAKED: &str = "2025-03-04T05:06:07.891011";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// A newer file: sync fields in every table.
    Newer,
    /// An old user's file, before any sync fields.
    Presync,
    /// The same after the old migration scripts: nullable uuids, duplicate indexes, baked-in times.
    OldScripts,
}

pub const DIALECTS: [Dialect; 3] = [Dialect::Newer, Dialect::Presync, Dialect::OldScripts];

fn text(table: &str, column: &str, row: usize) -> String {
    let spice = [
        "",
        "\r\nLine two\n\n— em dash",
        " 👩‍🚀 שלום",
        " 'quoted' \"double\" \\",
        " Ḥasan ibn Yūsuf",
        "\tindented",
    ];
    format!("{table} {column} {row}{}", spice[row % spice.len()])
}

/// Writes a file of a dialect with 645 rows.
pub fn make(path: &Path, dialect: Dialect) {
    let connection = Connection::open(path).unwrap();
    connection.pragma_update(None, "foreign_keys", false).unwrap();
    connection.execute_batch("BEGIN").unwrap();
    if dialect == Dialect::Newer {
        connection.execute_batch(SCHEMA).unwrap();
    } else {
        let sync = ["sync_uuid", "created_at", "updated_at", "deleted_at", "version"];
        let lines = SCHEMA.lines().filter(|line| !line.starts_with("CREATE UNIQUE INDEX"));
        let lines = lines.filter(|line| {
            !sync.iter().any(|column| line.trim_start().starts_with(&format!("{column} ")))
        });
        connection.execute_batch(&lines.collect::<Vec<_>>().join("\n")).unwrap();
    }
    let schema = Schema::read(&connection, &[]).unwrap();
    let names: Vec<String> = schema.tables().map(|table| table.name().to_owned()).collect();
    assert_eq!(names.len(), 63);
    for (number, name) in names.iter().enumerate() {
        let table = schema.table(name).unwrap();
        let rows = if name == "skills" { 25 } else { 10 };
        for row in 1..=rows {
            let mut columns = vec!["id".to_owned()];
            let mut values = vec![row.to_string()];
            for (position, column) in table.columns.iter().enumerate() {
                let value = match (&column.role, column.affinity) {
                    (Role::SyncUuid, _) => format!("'{number:08x}-0000-4000-8000-{row:012x}'"),
                    (Role::CreatedAt, _) => format!("'2025-01-{:02} 10:00:00'", row % 28 + 1),
                    (Role::UpdatedAt, _) => {
                        format!("'2025-02-{:02} 10:00:00.123456'", row % 28 + 1)
                    }
                    (Role::DeletedAt, _) => "NULL".to_owned(),
                    (Role::Version, _) => "1".to_owned(),
                    (Role::Reference { .. }, _) if !column.not_null && row % 5 == 0 => {
                        "NULL".to_owned()
                    }
                    // Of a shipped package that was never imported whole.
                    (Role::Reference { .. }, _) if row % 9 == 0 => (900 + row).to_string(),
                    (Role::Reference { .. }, _) => ((row * 7 + position) % 10 + 1).to_string(),
                    // Values the app reads as enumerations.
                    _ if column.name == "node_type" => "'twist'".to_owned(),
                    _ if column.name == "note_type" => "'why'".to_owned(),
                    _ if column.name == "plot_section_type" => "'Tension Lowers'".to_owned(),
                    (_, Affinity::Text) if !column.not_null && row % 4 == 0 => "NULL".to_owned(),
                    (_, Affinity::Text) => {
                        format!("'{}'", text(name, &column.name, row).replace('\'', "''"))
                    }
                    (_, Affinity::Real) => format!("{}.25", row * 3),
                    _ => (row * 11 % 7).to_string(),
                };
                columns.push(storysync_engine::app::quote(&column.name));
                values.push(value);
            }
            connection
                .execute_batch(&format!(
                    "INSERT INTO {} ({}) VALUES ({})",
                    storysync_engine::app::quote(name),
                    columns.join(", "),
                    values.join(", ")
                ))
                .unwrap();
        }
    }
    if dialect == Dialect::OldScripts {
        let mut sql = String::new();
        for name in &names {
            let table = storysync_engine::app::quote(name);
            for column in ["created_at", "updated_at"] {
                writeln!(
                    sql,
                    "ALTER TABLE {table} ADD COLUMN {column} TIMESTAMP NOT NULL DEFAULT '{BAKED}';"
                )
                .unwrap();
            }
            writeln!(sql, "ALTER TABLE {table} ADD COLUMN deleted_at TIMESTAMP NULL;").unwrap();
            writeln!(sql, "ALTER TABLE {table} ADD COLUMN version INTEGER NOT NULL DEFAULT 1;")
                .unwrap();
            writeln!(sql, "ALTER TABLE {table} ADD COLUMN sync_uuid TEXT;").unwrap();
            for index in ["unique", "again"] {
                writeln!(
                    sql,
                    "CREATE UNIQUE INDEX \"ix_{name}_sync_uuid_{index}\" ON {table} (sync_uuid);"
                )
                .unwrap();
            }
        }
        connection.execute_batch(&sql).unwrap();
    }
    connection.execute_batch("COMMIT").unwrap();
}

/// The real files on the machine they were made for, if this is it.
pub fn real_files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/storymaster");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("no real files beside the repository: only those made by the tests are used");
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "db"))
        .collect();
    files.sort();
    files
}

/// All files to test with: one of each dialect, and the real ones. The folder holds those made
/// here.
pub fn all_files() -> (tempfile::TempDir, Vec<PathBuf>) {
    let folder = tempfile::TempDir::new().unwrap();
    let mut files: Vec<PathBuf> = DIALECTS
        .iter()
        .map(|dialect| {
            let path = folder.path().join(format!("{dialect:?}.db"));
            make(&path, *dialect);
            path
        })
        .collect();
    files.extend(real_files());
    (folder, files)
}

/// A made file of one dialect.
pub fn file(dialect: Dialect) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("storymaster.db");
    make(&path, dialect);
    (folder, path)
}
