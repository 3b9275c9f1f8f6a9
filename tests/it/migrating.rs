//! Migration: every dialect, nothing lost, nothing changed the second time.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;
use rusqlite::types::Value;

use crate::fixtures::{self, Dialect};
use crate::support::*;

/// Every value of every column of every table, by rowid.
fn contents(path: &Path) -> BTreeMap<(String, i64, String), Value> {
    let connection = Connection::open(path).unwrap();
    let mut list = connection
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
        .unwrap();
    let names: Vec<String> =
        list.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let mut contents = BTreeMap::new();
    for name in names {
        let Ok(mut select) = connection.prepare(&format!("SELECT rowid, * FROM \"{name}\"")) else {
            continue;
        };
        let columns: Vec<String> = select.column_names().map(str::to_owned).collect();
        let mut rows = select.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            for (position, column) in columns.iter().enumerate().skip(1) {
                contents.insert(
                    (name.clone(), row.get(0).unwrap(), column.clone()),
                    row.get(position).unwrap(),
                );
            }
        }
    }
    contents
}

#[test]
fn every_dialect_migrates_with_every_value_intact_and_the_second_run_changes_nothing() {
    let (_folder, files) = fixtures::all_files();
    for file in files {
        let before = contents(&file);
        let mut replica = Replica::of_copy(&file, 1);
        let after = contents(&replica.database);
        for (place, value) in &before {
            let now =
                after.get(place).unwrap_or_else(|| panic!("{}: {place:?} is gone", file.display()));
            assert!(
                now == value || (*value == Value::Null && place.2 == "sync_uuid"),
                "{}: {place:?} was {value:?}, is {now:?}",
                file.display()
            );
        }
        let count = |contents: &BTreeMap<(String, i64, String), Value>| {
            contents
                .keys()
                .filter(|(table, _, _)| !table.starts_with("sync_"))
                .map(|(table, row, _)| (table, *row))
                .collect::<std::collections::BTreeSet<_>>()
                .len()
        };
        assert_eq!(count(&before), count(&after), "{}", file.display());
        let backup = replica.report.backup.clone().unwrap();
        assert_eq!(contents(&backup), before, "the backup of {}", file.display());

        let bytes = std::fs::read(&replica.database).unwrap();
        replica.start();
        assert_eq!(replica.capture(), 0);
        replica.stop();
        assert_eq!(
            bytes,
            std::fs::read(&replica.database).unwrap(),
            "a second run changed {}",
            file.display()
        );
        assert_eq!(
            std::fs::read_dir(replica.folder.path().join("backups")).unwrap().count(),
            1,
            "a second run made a backup"
        );
    }
}

#[test]
fn the_journal_mode_of_the_file_stays_as_it_was() {
    let (_folder, file) = fixtures::file(Dialect::Newer);
    for mode in ["delete", "wal", "truncate"] {
        let replica = Replica::of_copy(&file, 1);
        replica.app().query_row(&format!("PRAGMA journal_mode={mode}"), [], |_| Ok(())).unwrap();
        let mut replica = Replica::at(replica.folder, replica.database, 1);
        replica.write("UPDATE actor SET first_name = 'x' WHERE id = 1");
        replica.capture();
        // "truncate" is a setting of each connection; only WAL is one of the file.
        let expected = if mode == "wal" { "wal" } else { "delete" };
        assert_eq!(replica.value::<String>("PRAGMA journal_mode"), expected);
    }
}

#[test]
fn a_new_row_of_an_old_file_gets_its_true_time_and_a_uuid() {
    let (_folder, file) = fixtures::file(Dialect::OldScripts);
    let mut replica = Replica::of_copy(&file, 1);
    let before = now();
    replica.write("INSERT INTO setting (name, user_id) VALUES ('new', 1)");
    let created: String = replica.value("SELECT created_at FROM setting WHERE name = 'new'");
    let updated: String = replica.value("SELECT updated_at FROM setting WHERE name = 'new'");
    assert_ne!(created, fixtures::BAKED);
    for time in [created, updated] {
        let time = storysync_crdt::Stamp::parse(&time).unwrap();
        assert!((time.unix_ms() - before.unix_ms()).abs() < 5_000, "{time:?}");
    }
    let uuid: String = replica.value("SELECT sync_uuid FROM setting WHERE name = 'new'");
    assert!(uuid::Uuid::parse_str(&uuid).is_ok_and(|uuid| uuid.get_version_num() == 4), "{uuid}");
    assert_eq!(replica.capture(), 1);
}

#[test]
fn init_makes_the_documented_tables() {
    let replica = Replica::empty(1);
    let connection = Connection::open(&replica.database).unwrap();
    let schema = storysync_engine::app::schema::Schema::read(&connection, &[]).unwrap();
    assert_eq!(schema.tables().count(), 63);
    assert!(schema.refused.is_empty());
    for table in schema.tables() {
        let columns: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
        for sync in ["sync_uuid", "created_at", "updated_at", "deleted_at", "version"] {
            assert!(columns.contains(&sync), "{} lacks {sync}", table.name());
        }
        assert!(table.uuid_is_unique, "{}", table.name());
    }
    assert_eq!(
        schema.table("arc_type").unwrap().uniques,
        vec![vec!["name".to_owned(), "setting_id".to_owned()]]
    );
    let references: usize = schema.tables().map(|table| table.references().count()).sum();
    assert_eq!(references, 130, "131 foreign keys in all, one of them between sync tables");
}

/// Every column, reference and unique constraint of a file's content tables, a sorted line each.
fn schema_lines(connection: &Connection) -> Vec<String> {
    let text = |sql: &str| -> Vec<String> {
        connection
            .prepare(sql)
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect()
    };
    let content = "pragma_table_list AS t WHERE t.schema = 'main' AND t.type = 'table' AND t.name \
        NOT LIKE 'sync%' AND t.name NOT LIKE 'sqlite%'";
    let mut lines = text(&format!(
        "SELECT t.name || ' column ' || c.name || ' ' || c.type || CASE WHEN c.\"notnull\" THEN ' \
            not-null' ELSE ' null' END || ' default=' || \
         coalesce(c.dflt_value, '-') || CASE WHEN c.pk THEN ' key' ELSE ' -' END FROM \
         pragma_table_info(t.name) AS c, {content}"
    ));
    lines.extend(text(&format!(
        "SELECT t.name || ' reference ' || f.\"from\" || ' ' || f.\"table\" || '.' || f.\"to\" \
            FROM pragma_foreign_key_list(t.name) AS f, {content}"
    )));
    lines.extend(text(&format!(
        "SELECT t.name || ' unique ' || (SELECT group_concat(i.name, ',') FROM \
            pragma_index_info(l.name) AS i) FROM pragma_index_list(t.name) AS l, {content} AND \
            l.\"unique\""
    )));
    lines.sort();
    lines
}

#[test]
fn init_makes_the_schema_storymaster_documents_to_the_column() {
    let replica = Replica::empty(1);
    let documented: Vec<&str> = include_str!("storymaster_schema.txt").lines().collect();
    assert_eq!(schema_lines(&replica.app()), documented);
}

#[test]
fn every_table_of_ours_begins_with_sync_and_every_column_has_a_comment() {
    for folder in ["node", "trust"] {
        for file in
            std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(folder))
                .unwrap()
        {
            let sql = std::fs::read_to_string(file.unwrap().path()).unwrap();
            // Definitions only: what stands between CREATE TABLE and its closing parenthesis.
            for table in sql.split("CREATE TABLE").skip(1) {
                let end = table.find("\n)").unwrap();
                for line in table[..end].lines().skip(1).map(str::trim).filter(|line| {
                    !["PRIMARY KEY (", "UNIQUE (", "FOREIGN"]
                        .iter()
                        .any(|key| line.starts_with(key))
                }) {
                    assert!(line.contains("-- "), "no comment: {line}");
                }
            }
        }
    }
    let replica = Replica::empty(1);
    let connection = replica.app();
    let mut list = connection
        .prepare(
            "SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite%' AND (tbl_name LIKE \
            'sync%' OR type = 'trigger') ORDER BY name",
        )
        .unwrap();
    for name in list.query_map([], |row| row.get::<_, String>(0)).unwrap() {
        let name = name.unwrap();
        assert!(name.starts_with("sync_") || name.starts_with("ix_sync_"), "{name}");
    }
}

#[test]
fn a_table_that_cannot_be_synced_is_refused_by_name_and_nothing_is_changed() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("app.db");
    Connection::open(&path)
        .unwrap()
        .execute_batch(
            "CREATE TABLE plain (id INTEGER PRIMARY KEY, t TEXT); CREATE TABLE odd (k \
            TEXT PRIMARY KEY, v TEXT) WITHOUT ROWID;",
        )
        .unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let options = options(folder.path(), &path, 1);
    let error = storysync_engine::Engine::open_or_migrate(
        options.clone(),
        entropy(1),
        now(),
        &mut |_, _| {},
    )
    .unwrap_err()
    .to_string();
    assert!(error.contains("odd") && error.contains("WITHOUT ROWID"), "{error}");
    assert_eq!(bytes, std::fs::read(&path).unwrap());
    let options =
        storysync_engine::EngineOptions { excluded_tables: vec!["odd".to_owned()], ..options };
    storysync_engine::Engine::open_or_migrate(options, entropy(1), now(), &mut |_, _| {}).unwrap();
}

#[test]
fn rows_that_share_a_uuid_are_told_apart() {
    let (_folder, file) = fixtures::file(Dialect::OldScripts);
    let copy = tempfile::TempDir::new().unwrap();
    let path = copy.path().join("storymaster.db");
    std::fs::copy(&file, &path).unwrap();
    Connection::open(&path)
        .unwrap()
        .execute_batch(
            "DROP INDEX ix_setting_sync_uuid_unique; DROP INDEX ix_setting_sync_uuid_again; UPDATE \
                setting SET sync_uuid = 'same' WHERE id IN (2, 3)",
        )
        .unwrap();
    let replica = Replica::at(copy, path, 1);
    assert_eq!(replica.value::<String>("SELECT sync_uuid FROM setting WHERE id = 2"), "same");
    assert_ne!(replica.value::<String>("SELECT sync_uuid FROM setting WHERE id = 3"), "same");
}

#[test]
fn what_is_ours_is_taken_out_again_and_the_file_finds_the_others_when_it_is_prepared_anew() {
    const APP: &str = "CREATE TABLE note (id INTEGER PRIMARY KEY, title TEXT, body TEXT)";
    let (mut desk, mut phone) = (Replica::of_schema(APP, 1), Replica::of_schema(APP, 2));
    desk.write("INSERT INTO note (title, body) VALUES ('Arrival', 'begins'), ('Fall', 'ends')");
    desk.sync(&mut phone);
    desk.stop();
    let rows = "SELECT title || body || sync_uuid FROM note ORDER BY id";
    let before = desk.texts(rows);
    let options = options(desk.folder.path(), &desk.database, 1);
    let report = storysync_engine::Engine::uninstall(&options, now()).unwrap();
    assert!(report.triggers > 0 && report.tables > 20, "{report:?}");
    assert_eq!(
        desk.texts("SELECT name FROM sqlite_schema WHERE type <> 'index' AND name LIKE 'sync%'"),
        [] as [&str; 0],
        "no trigger and no table of ours"
    );
    assert_eq!(desk.texts(rows), before, "every row stays");
    assert_eq!(desk.value::<String>("PRAGMA integrity_check"), "ok");
    let copy = Connection::open(&report.backup).unwrap();
    let changes: i64 =
        copy.query_row("SELECT count(*) FROM sync_change", [], |row| row.get(0)).unwrap();
    assert!(changes > 0, "the backup has the history");
    let again = storysync_engine::Engine::uninstall(&options, now()).unwrap_err().to_string();
    assert!(again.contains("not been prepared"), "{again}");
    // The app goes on, and some day she prepares the file once more.
    desk.write("INSERT INTO note (title, body) VALUES ('Later', 'without us')");
    desk.write("UPDATE note SET body = 'rewritten' WHERE title = 'Fall'");
    desk.start();
    desk.sync(&mut phone);
    desk.sync(&mut phone);
    assert_same_content(&desk.database, &phone.database, true);
    assert_eq!(
        phone.texts("SELECT title FROM note ORDER BY title"),
        ["Arrival", "Fall", "Later"],
        "no row twice"
    );
}
