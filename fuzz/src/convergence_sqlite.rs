//! Merging under any script on real SQLite files: the app writes through a connection of its own,
//! Engines capture, sync partially, restart, resolve, undo, and have their files restored from
//! backups. Once everyone has everything, tables and conflicts are equal everywhere, and equal to
//! what the pure rules say of the documents.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use storysync_crdt::{
    ConflictId, Document, EntityId, Reference, Shape, Standing, TableShape, Value, shown,
};
use storysync_engine::app::schema::{Role, Schema};
use storysync_engine::store::{log, rows};
use storysync_engine::{Choice, ConflictReport, HoldDecision, Take};

use crate::choices::Choices;
use crate::support::{Replica, assert_same_content, now};

const SCHEMA: &str = "
    CREATE TABLE place (id INTEGER PRIMARY KEY, name TEXT, note TEXT, inside INTEGER REFERENCES \
    place (id));
    CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT NOT NULL, age INTEGER, home INTEGER NOT \
    NULL REFERENCES place (id), friend INTEGER REFERENCES person (id));
    CREATE TABLE kind (id INTEGER PRIMARY KEY, name TEXT NOT NULL, place INTEGER REFERENCES place \
    (id), UNIQUE (name, place));
    CREATE TABLE badge (id INTEGER PRIMARY KEY, code TEXT UNIQUE, label TEXT UNIQUE, kind INTEGER \
    REFERENCES kind (id));";

/// Most things that happen in one script.
const STEPS_MAX: usize = 50;

fn ids(app: &Connection, table: &str) -> Vec<i64> {
    app.prepare(&format!("SELECT rowid FROM {table} ORDER BY 1"))
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

fn reference(choices: &mut Choices<'_>, from: &[i64]) -> String {
    match choices.roll(8) {
        0 => "NULL".to_owned(),
        1 => (500 + choices.roll(3)).to_string(),
        _ => choices.pick(from).map_or("NULL".to_owned(), i64::to_string),
    }
}

/// One thing the app does; failures (a constraint) are the app's business.
fn app_writes(choices: &mut Choices<'_>, app: &Connection, step: usize) -> String {
    let (places, persons, kinds, badges) =
        (ids(app, "place"), ids(app, "person"), ids(app, "kind"), ids(app, "badge"));
    let place = choices.pick(&places).copied().unwrap_or(0);
    let person = choices.pick(&persons).copied().unwrap_or(0);
    let kind = choices.pick(&kinds).copied().unwrap_or(0);
    let badge = choices.pick(&badges).copied().unwrap_or(0);
    let home = if place == 0 { "907".to_owned() } else { place.to_string() };
    let name = ["red", "green", "blue"][choices.roll(3)];
    let other = ["one", "two", "three"][choices.roll(3)];
    // Given here, so that a seed replays; those of replaced rows are left to the triggers.
    let uuid = format!("{:08x}-{step}", choices.roll(1 << 16) * 0x9e37 % 0xffff_ffff);
    let sql = match choices.roll(23) {
        0 | 1 => format!(
            "INSERT INTO place (sync_uuid, name, inside) VALUES ('{uuid}', 'place {step}', {})",
            reference(choices, &places)
        ),
        2 | 3 => format!(
            "INSERT INTO person (sync_uuid, name, age, home, friend) VALUES ('{uuid}', 'person \
                {step}', {}, {home}, {})",
            choices.roll(90),
            reference(choices, &persons)
        ),
        4 => format!("UPDATE place SET name = 'renamed {step}' WHERE id = {place}"),
        5 => format!(
            "UPDATE place SET note = 'note {}', inside = {} WHERE id = {place}",
            choices.roll(3),
            reference(choices, &places)
        ),
        6 => format!(
            "UPDATE person SET name = 'name {}', age = age + 1 WHERE id = {person}",
            choices.roll(3)
        ),
        7 => format!(
            "UPDATE person SET home = {home}, friend = {} WHERE id = {person}",
            reference(choices, &persons)
        ),
        8 => format!("DELETE FROM place WHERE id = {place}"),
        9 => format!("DELETE FROM person WHERE id = {person}"),
        10 => format!(
            "INSERT OR REPLACE INTO place (id, name) VALUES ({}, 'replaced {step}')",
            place.max(1)
        ),
        11 => {
            let top = places.last().copied().unwrap_or(0);
            format!(
                "DELETE FROM place WHERE id = {top}; INSERT INTO place (sync_uuid, name) VALUES \
                    ('{uuid}', 'reused {step}')"
            )
        }
        12 => format!(
            "UPDATE person SET name = 'stale {step}', age = 1, version = max(1, version - {}) \
                WHERE id = {person}",
            choices.roll(3)
        ),
        13 => format!(
            "UPDATE place SET deleted_at = CASE WHEN deleted_at IS NULL THEN '2026-01-01 00:00:00' \
                END WHERE id = {place}"
        ),
        14 => format!("UPDATE place SET id = id + 1000 WHERE id = {place}"),
        15 | 16 => format!(
            "INSERT INTO kind (sync_uuid, name, place) VALUES ('{uuid}', '{name}', {})",
            reference(choices, &places)
        ),
        17 => format!("UPDATE kind SET name = '{name}' WHERE id = {kind}"),
        18 => format!(
            "INSERT INTO badge (sync_uuid, code, label, kind) VALUES ('{uuid}', '{name}', \
                '{other}', {})",
            reference(choices, &kinds)
        ),
        19 => format!("UPDATE badge SET code = '{name}' WHERE id = {badge}"),
        // A swap, by way of nothing.
        20 => {
            let second = choices.pick(&badges).copied().unwrap_or(0);
            format!(
                "BEGIN; CREATE TEMP TABLE two AS SELECT id, code FROM badge WHERE id IN ({badge}, \
                    {second}); UPDATE badge SET code = NULL WHERE id IN ({badge}, {second}); \
                 UPDATE badge SET code = (SELECT code FROM two WHERE id = {second}) WHERE id = \
                 {badge}; UPDATE badge SET code = (SELECT code FROM two WHERE id = {badge}) WHERE \
                 id = {second}; DROP TABLE two; COMMIT"
            )
        }
        21 => {
            format!("INSERT OR REPLACE INTO badge (code, label) VALUES ('{name}', 'label {step}')")
        }
        _ => format!(
            "DELETE FROM {} WHERE id = {}",
            if choices.one_in(2) { "kind" } else { "badge" },
            if choices.one_in(2) { kind } else { badge }
        ),
    };
    drop(app.execute_batch(&sql));
    sql
}

fn two(replicas: &mut [Replica], a: usize, b: usize) -> (&mut Replica, &mut Replica) {
    let (low, high) = replicas.split_at_mut(a.max(b));
    if a < b { (&mut low[a], &mut high[0]) } else { (&mut high[0], &mut low[b]) }
}

/// A person decides some conflict, somehow.
fn resolve(choices: &mut Choices<'_>, replica: &mut Replica) -> Option<String> {
    let conflicts = replica.engine().conflicts(now()).unwrap();
    let conflict = choices.pick(&conflicts)?;
    let take =
        [Take::Mine, Take::Theirs, Take::Keep, Take::Delete, Take::Rename][choices.roll(5)].clone();
    let choice = Choice { take: Some(take.clone()), fields: BTreeMap::new() };
    // Not every side fits every conflict.
    let done = replica.engine().resolve(&conflict.id, &choice, None, now()).is_ok();
    Some(format!(
        "resolves {} of {}/{} by {take:?}: {done}",
        conflict.kind, conflict.entity_type, conflict.sync_uuid
    ))
}

/// The documents of a file, and how its tables hang together.
fn documents(database: &Path) -> (BTreeMap<EntityId, Document>, Shape) {
    let connection = Connection::open(database).unwrap();
    let schema = Schema::read(&connection, &[]).unwrap();
    let mut documents = BTreeMap::new();
    for id in log::rows_with_changes(&connection).unwrap() {
        let entity = rows::entity(&connection, &rows::get(&connection, id).unwrap()).unwrap();
        documents.insert(entity, log::document(&connection, id).unwrap());
    }
    let shape = schema
        .tables()
        .map(|table| {
            let references = table
                .references()
                .map(|(column, target)| Reference {
                    column: column.name.clone(),
                    table: storysync_crdt::TableName::parse(target).unwrap(),
                    required: column.not_null,
                })
                .collect();
            (table.name.clone(), TableShape { references, uniques: table.uniques.clone() })
        })
        .collect();
    (documents, shape)
}

/// Holds a file against the pure rules over all its documents.
fn assert_follows_the_rules(replica: &mut Replica) {
    let (documents, shape) = documents(&replica.database);
    let shown = shown(&documents, &shape);
    let connection = Connection::open(&replica.database).unwrap();
    let schema = Schema::read(&connection, &[]).unwrap();
    for table in schema.tables() {
        let mut standing = BTreeMap::new();
        let mut select = connection.prepare(storysync_engine::app::rows::select(table)).unwrap();
        let mut found = select.query([]).unwrap();
        while let Some(row) = found.next().unwrap() {
            let row = storysync_engine::app::rows::read(table, row).unwrap();
            standing.insert(row.uuid(table).unwrap(), row);
        }
        for (entity, rule) in shown.rows.iter().filter(|(entity, _)| entity.table == table.name) {
            let row = standing.remove(&entity.uuid);
            match (rule, row) {
                (Standing::Stands(wanted), Some(row)) => {
                    for (column, value) in
                        row.columns(table).filter(|(column, _)| column.role == Role::Field)
                    {
                        assert_eq!(
                            value,
                            wanted.fields.get(&column.name).unwrap_or(&Value::Null),
                            "{} of {entity}",
                            column.name
                        );
                    }
                    assert_eq!(
                        wanted.deletion.is_none(),
                        row.by_role(table, &Role::DeletedAt).is_null(),
                        "deletion of {entity}"
                    );
                }
                (Standing::Behind(_) | Standing::WaitsForParent | Standing::Gone, None) => {}
                (rule, row) => panic!("{entity} should be {rule:?}, and is {row:?}"),
            }
        }
        assert!(
            standing.is_empty(),
            "rows of {} without documents: {:?}",
            table.name,
            standing.keys()
        );
    }
    let told: BTreeSet<String> = replica
        .engine()
        .conflicts(now())
        .unwrap()
        .into_iter()
        .map(|conflict| conflict.id)
        .collect();
    let ruled: BTreeSet<String> = shown
        .conflicts
        .iter()
        .flat_map(|(entity, conflicts)| {
            conflicts.iter().map(move |conflict| ConflictId::of(entity, conflict.kind).to_string())
        })
        .collect();
    assert_eq!(told, ruled, "conflicts told, and conflicts by the rules");
    let standing: i64 = replica.value("SELECT count(*) FROM sync_row WHERE present = 1");
    assert_eq!(
        replica.engine().status().unwrap().entities,
        standing,
        "rows told, and rows that stand"
    );
}

/// Plays one script; what went wrong, in words.
///
/// # Errors
/// When a promise was broken.
pub fn play(mut choices: Choices<'_>) -> Result<(), String> {
    let folder = tempfile::TempDir::new().unwrap();
    let template = folder.path().join("template.db");
    Connection::open(&template).unwrap().execute_batch(SCHEMA).unwrap();
    let count = 2 + choices.roll(2);
    let mut replicas: Vec<Replica> =
        (0..count).map(|n| Replica::of_copy(&template, u8::try_from(n + 1).unwrap())).collect();
    let mut backups: Vec<Option<PathBuf>> = vec![None; count];
    let mut story = Vec::new();
    let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for step in 0..15 + choices.roll(STEPS_MAX - 15) {
            if choices.is_over() {
                break;
            }
            let who = choices.roll(count);
            match choices.roll(14) {
                0 => {
                    story.push(format!("{who} restarts"));
                    replicas[who].start();
                }
                1..=3 => {
                    let other = (who + 1) % count;
                    story.push(format!("{who} syncs with {other}"));
                    let (caller, peer) = two(&mut replicas, who, other);
                    caller.sync(peer);
                }
                4 => {
                    story.push(format!("{who} looks"));
                    replicas[who].capture();
                }
                5 => story.extend(
                    resolve(&mut choices, &mut replicas[who]).map(|done| format!("{who} {done}")),
                ),
                6 if choices.one_in(2) => {
                    let path = folder.path().join(format!("backup-{who}.db"));
                    std::fs::write(&path, std::fs::read(&replicas[who].database).unwrap()).unwrap();
                    backups[who] = Some(path);
                    story.push(format!("{who} makes a backup"));
                }
                6 => {
                    if let Some(backup) = &backups[who] {
                        if choices.one_in(2) {
                            story.push(format!("{who} restores its backup, as another file"));
                            let copy = backup.with_extension("copy");
                            std::fs::copy(backup, &copy).unwrap();
                            std::fs::rename(&copy, &replicas[who].database).unwrap();
                        } else {
                            story.push(format!("{who} restores its backup over the file"));
                            std::fs::write(&replicas[who].database, std::fs::read(backup).unwrap())
                                .unwrap();
                            // A running node looks within milliseconds. It must: SQLite itself
                            // can't tell a file that was written over from the old one once as many
                            // commits followed as were taken back.
                            replicas[who].capture();
                        }
                    }
                }
                7 => {
                    let (documents, _) = documents(&replicas[who].database);
                    let entities: Vec<EntityId> = documents.into_keys().collect();
                    if let Some(entity) = choices.pick(&entities) {
                        let done = replicas[who]
                            .engine()
                            .undo_change(entity.table.as_str(), entity.uuid.as_str(), None, now())
                            .is_ok();
                        story.push(format!("{who} undoes the last change of {entity}: {done}"));
                    }
                }
                _ => {
                    let app = replicas[who].app();
                    story.push(format!("{who}: {}", app_writes(&mut choices, &app, step)));
                }
            }
        }
        for _ in 0..count {
            for a in 0..count {
                let (caller, peer) = two(&mut replicas, a, (a + 1) % count);
                caller.sync(peer);
            }
        }
        // Where much was deleted within the hour a script takes, somebody says yes.
        for replica in &mut replicas {
            for hold in replica.engine().holds(now()).unwrap() {
                replica.engine().decide_hold(&hold.id, HoldDecision::Approve, now()).unwrap();
            }
        }
        for a in 1..count {
            assert_same_content(&replicas[0].database, &replicas[a].database, true);
            let conflicts = |replica: &mut Replica| -> BTreeSet<String> {
                let told: Vec<ConflictReport> = replica.engine().conflicts(now()).unwrap();
                told.iter().map(|conflict| serde_json::to_string(conflict).unwrap()).collect()
            };
            assert_eq!(conflicts(&mut replicas[0]), conflicts(&mut replicas[a]));
            let (one, other) = two(&mut replicas, 0, a);
            assert_eq!(one.sync(other), (0, 0), "quiet once everyone has everything");
        }
        for replica in &mut replicas {
            assert_follows_the_rules(replica);
        }
    }));
    told.map_err(|panic| {
        let words = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        if let Ok(folder) = std::env::var("STORYSYNC_KEEP") {
            for (number, replica) in replicas.iter_mut().enumerate() {
                replica.stop();
                std::fs::copy(
                    &replica.database,
                    Path::new(&folder).join(format!("convergence-{number}.db")),
                )
                .unwrap();
            }
        }
        format!("{}\n{count} devices:\n  {}", words.unwrap_or_default(), story.join("\n  "))
    })
}
