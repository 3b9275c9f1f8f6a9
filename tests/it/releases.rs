//! Files of earlier releases: each is kept as its release left it, and every later version opens
//! it.

use std::path::{Path, PathBuf};

use storysync_engine::store::trust::TrustStore;

use crate::support::*;

const APP: &str = "CREATE TABLE place (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
    CREATE TABLE note (id INTEGER PRIMARY KEY, title TEXT, body TEXT, place_id INTEGER REFERENCES \
    place (id));
    CREATE TABLE tag (id INTEGER PRIMARY KEY, name TEXT UNIQUE)";

/// Edits of one text in the fixtures: enough for a pack.
const EDITS: usize = 90;

fn fixture(release: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(release)
}

/// A desk as a release left it: a long history, an open conflict, a row that waits for its name, a
/// deletion, and a device that knows most of it.
fn desk_of(release: &str) -> Replica {
    let folder = tempfile::TempDir::new().unwrap();
    let database = folder.path().join("app.db");
    let packed = std::fs::read(fixture(release).join("app.db.zst")).unwrap();
    std::fs::write(&database, zstd::bulk::decompress(&packed, 16 << 20).unwrap()).unwrap();
    Replica::at(folder, database, 1)
}

#[test]
#[ignore = "makes the fixture of a release, once"]
fn make_the_fixture_of_a_release() {
    let release = env!("CARGO_PKG_VERSION");
    let (mut desk, mut phone) = (Replica::of_schema(APP, 1), Replica::of_schema(APP, 2));
    desk.write("INSERT INTO place (name) VALUES ('Harbour'), ('Tower'), ('Well')");
    desk.write("INSERT INTO note (title, body, place_id) VALUES ('Arrival', 'begins', 1)");
    desk.write("INSERT INTO note (title, body, place_id) VALUES ('Fall', 'from the tower', 2)");
    desk.sync(&mut phone);
    for edit in 0..EDITS {
        desk.write(&format!("UPDATE note SET body = 'draft {edit}' WHERE title = 'Arrival'"));
        desk.capture();
    }
    desk.sync(&mut phone);
    desk.write("UPDATE note SET title = 'The fall' WHERE id = 2; DELETE FROM place WHERE id = 3");
    phone.write("UPDATE note SET title = 'Falling' WHERE title = 'Fall'");
    desk.write("INSERT INTO tag (name) VALUES ('sea')");
    phone.write("INSERT INTO tag (name) VALUES ('sea')");
    desk.sync(&mut phone);
    desk.write("UPDATE note SET body = 'not told yet' WHERE title = 'Arrival'");
    desk.capture();
    desk.stop();
    desk.write("VACUUM");
    let bytes = std::fs::read(&desk.database).unwrap();
    std::fs::create_dir_all(fixture(release)).unwrap();
    std::fs::write(fixture(release).join("app.db.zst"), zstd::bulk::compress(&bytes, 19).unwrap())
        .unwrap();
}

#[test]
fn a_file_of_the_first_release_opens_and_goes_on() {
    let mut desk = desk_of("0.1.0");
    assert!(desk.report.is_empty(), "nothing is prepared again");
    assert!(desk.engine().verify(now()).unwrap().is_empty());
    assert_eq!(desk.value::<String>("PRAGMA integrity_check"), "ok");
    let conflicts = desk.engine().conflicts(now()).unwrap();
    assert_eq!(conflicts.iter().map(|one| one.kind.as_str()).collect::<Vec<_>>(), ["field"]);
    assert_eq!(
        desk.texts("SELECT parked FROM sync_row WHERE parked IS NOT NULL"),
        ["name"],
        "0.1.0 wrote a sentence there"
    );
    let waiting = desk.engine().parked().unwrap();
    assert_eq!(waiting.len(), 1, "{waiting:?}");
    let uuid: String = desk.value("SELECT sync_uuid FROM note WHERE title = 'Arrival'");
    let history = desk.engine().history("note", &uuid, now()).unwrap();
    assert_eq!(history.len(), EDITS + 2, "every edit, the packed ones too");
    assert_eq!(
        desk.texts("SELECT name FROM place ORDER BY name"),
        ["Harbour", "Tower"],
        "what was deleted stays so"
    );
    desk.write("UPDATE note SET body = 'goes on' WHERE title = 'Arrival'");
    assert_eq!(desk.capture(), 1);
    let mut other = Replica::of_schema(APP, 3);
    other.sync(&mut desk);
    assert_same_content(&desk.database, &other.database, true);
    assert_eq!(other.engine().conflicts(now()).unwrap().len(), 1);
}

#[test]
fn a_backup_of_the_first_release_put_back_under_a_running_node_is_brought_up_to_date() {
    let mut desk = desk_of("0.1.0");
    let packed = std::fs::read(fixture("0.1.0").join("app.db.zst")).unwrap();
    let other = desk.folder.path().join("backup.db");
    std::fs::write(&other, zstd::bulk::decompress(&packed, 16 << 20).unwrap()).unwrap();
    std::fs::rename(&other, &desk.database).unwrap();
    desk.write("UPDATE note SET body = 'after the backup' WHERE title = 'Arrival'");
    assert_eq!(desk.capture(), 1);
    assert_eq!(desk.texts("SELECT parked FROM sync_row WHERE parked IS NOT NULL"), ["name"]);
    let mut phone = Replica::of_schema(APP, 3);
    phone.sync(&mut desk);
    assert_same_content(&desk.database, &phone.database, true);
}

/// Our tables in a file, as SQLite has them.
fn our_tables(replica: &Replica) -> Vec<String> {
    replica.texts(
        "SELECT sql FROM sqlite_schema WHERE type IN ('table', 'index') AND name LIKE 'sync%' AND \
        sql IS NOT NULL ORDER BY name",
    )
}

#[test]
fn the_tables_of_a_release_are_what_this_version_makes_or_migrates_to() {
    let (old, new) = (desk_of("0.1.0"), Replica::of_schema(APP, 1));
    assert_eq!(our_tables(&old), our_tables(&new));
}

#[test]
fn files_of_other_versions_are_refused_by_name_and_stay_as_they_are() {
    for (change, words) in [
        (
            "INSERT INTO sync_migrations SELECT 99, 'later', applied_on, checksum FROM \
            sync_migrations LIMIT 1",
            "made by a newer version of storysync",
        ),
        ("UPDATE sync_migrations SET name = 'log'", "before its first release (0.1.0)"),
    ] {
        let mut desk = Replica::of_schema(APP, 1);
        desk.stop();
        desk.write(change);
        let before = std::fs::read(&desk.database).unwrap();
        let options = options(desk.folder.path(), &desk.database, 1);
        let error =
            storysync_engine::Engine::open_or_migrate(options, entropy(1), now(), &mut |_, _| {})
                .unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(std::fs::read(&desk.database).unwrap(), before);
    }
}

#[test]
fn a_list_of_trust_of_another_version_is_refused_by_name() {
    let folder = tempfile::TempDir::new().unwrap();
    drop(TrustStore::open(folder.path()).unwrap());
    let connection = rusqlite::Connection::open(folder.path().join("trust.db")).unwrap();
    connection
        .execute_batch(
            "INSERT INTO sync_migrations SELECT 99, 'later', applied_on, checksum FROM \
            sync_migrations LIMIT 1",
        )
        .unwrap();
    let error = TrustStore::open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("newer version"), "{error}");
}
