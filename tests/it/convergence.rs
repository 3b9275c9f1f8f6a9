//! Any script of edits, deletes, replacements, reused ids, stale saves, restarts and partial syncs on real
//! SQLite files: once everyone has everything, tables and clashes are equal everywhere.
//!
//! Every script has a seed, printed when it fails; `STORYSYNC_SEED=n` replays one,
//! `STORYSYNC_SCRIPTS=n` runs more of them.

use rusqlite::Connection;

use crate::support::*;

const SCHEMA: &str = "
    CREATE TABLE place (id INTEGER PRIMARY KEY, name TEXT, note TEXT, inside INTEGER REFERENCES place (id));
    CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT NOT NULL, age INTEGER, home INTEGER NOT NULL REFERENCES place (id), friend INTEGER REFERENCES person (id));";

/// xorshift64*: small, and the same everywhere.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % sides
    }
}

fn replica(device: u8, template: &std::path::Path) -> Replica {
    Replica::of_copy(template, device)
}

fn ids(app: &Connection, table: &str) -> Vec<i64> {
    app.prepare(&format!("SELECT rowid FROM {table} ORDER BY 1")).unwrap().query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn pick(dice: &mut Dice, from: &[i64]) -> Option<i64> {
    (!from.is_empty()).then(|| from[usize::try_from(dice.roll(from.len() as u64)).unwrap()])
}

fn reference(dice: &mut Dice, from: &[i64]) -> String {
    match dice.roll(8) {
        0 => "NULL".to_owned(),
        1 => (500 + dice.roll(3)).to_string(),
        _ => pick(dice, from).map_or("NULL".to_owned(), |id| id.to_string()),
    }
}

/// One thing the app does; failures (a constraint) are the app's business.
fn app_writes(dice: &mut Dice, app: &Connection, step: usize) -> String {
    let (places, persons) = (ids(app, "place"), ids(app, "person"));
    let some_place = pick(dice, &places);
    let some_person = pick(dice, &persons);
    let home = some_place.map_or("907".to_owned(), |id| id.to_string());
    let sql = match dice.roll(15) {
        0 | 1 => format!("INSERT INTO place (name, inside) VALUES ('place {step}', {})", reference(dice, &places)),
        2 | 3 => format!("INSERT INTO person (name, age, home, friend) VALUES ('person {step}', {}, {home}, {})", dice.roll(90), reference(dice, &persons)),
        4 => format!("UPDATE place SET name = 'renamed {step}' WHERE id = {}", some_place.unwrap_or(0)),
        5 => format!("UPDATE place SET note = 'note {}', inside = {} WHERE id = {}", dice.roll(3), reference(dice, &places), some_place.unwrap_or(0)),
        6 => format!("UPDATE person SET name = 'name {}', age = age + 1 WHERE id = {}", dice.roll(3), some_person.unwrap_or(0)),
        7 => format!("UPDATE person SET home = {home}, friend = {} WHERE id = {}", reference(dice, &persons), some_person.unwrap_or(0)),
        8 => format!("DELETE FROM place WHERE id = {}", some_place.unwrap_or(0)),
        9 => format!("DELETE FROM person WHERE id = {}", some_person.unwrap_or(0)),
        10 => format!("INSERT OR REPLACE INTO place (id, name) VALUES ({}, 'replaced {step}')", some_place.unwrap_or(1)),
        11 => {
            let top = places.last().copied().unwrap_or(0);
            format!("DELETE FROM place WHERE id = {top}; INSERT INTO place (name) VALUES ('reused {step}')")
        }
        12 => format!("UPDATE person SET name = 'stale {step}', age = 1, version = max(1, version - {}) WHERE id = {}", dice.roll(3), some_person.unwrap_or(0)),
        13 => format!("UPDATE place SET deleted_at = CASE WHEN deleted_at IS NULL THEN '2026-01-01 00:00:00' END WHERE id = {}", some_place.unwrap_or(0)),
        _ => format!("UPDATE place SET id = id + 1000 WHERE id = {}", some_place.unwrap_or(0)),
    };
    drop(app.execute_batch(&sql));
    sql
}

fn two(replicas: &mut [Replica], a: usize, b: usize) -> (&mut Replica, &mut Replica) {
    let (low, high) = replicas.split_at_mut(a.max(b));
    if a < b { (&mut low[a], &mut high[0]) } else { (&mut high[0], &mut low[b]) }
}

fn run_script(seed: u64) {
    let folder = tempfile::TempDir::new().unwrap();
    let template = folder.path().join("template.db");
    Connection::open(&template).unwrap().execute_batch(SCHEMA).unwrap();
    let mut dice = Dice::new(seed);
    let count = 2 + usize::try_from(dice.roll(2)).unwrap();
    let mut replicas: Vec<Replica> = (0..count).map(|n| replica(u8::try_from(n + 1).unwrap(), &template)).collect();
    let mut story = Vec::new();
    for step in 0..20 + usize::try_from(dice.roll(30)).unwrap() {
        let who = usize::try_from(dice.roll(count as u64)).unwrap();
        match dice.roll(10) {
            0 => {
                replicas[who].start();
                story.push(format!("{who} restarts"));
            }
            1 | 2 => {
                let other = (who + 1) % count;
                let (caller, peer) = two(&mut replicas, who, other);
                caller.sync(peer);
                story.push(format!("{who} syncs with {other}"));
            }
            3 => {
                replicas[who].capture();
                story.push(format!("{who} looks"));
            }
            _ => {
                let app = replicas[who].app();
                story.push(format!("{who}: {}", app_writes(&mut dice, &app, step)));
            }
        }
    }
    let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for _ in 0..count {
            for a in 0..count {
                let (caller, peer) = two(&mut replicas, a, (a + 1) % count);
                caller.sync(peer);
            }
        }
        for a in 1..count {
            assert_same_content(&replicas[0].database, &replicas[a].database, true);
            let conflicts = |replica: &mut Replica| {
                let mut list: Vec<String> =
                    replica.engine().conflicts(now()).unwrap().iter().map(|conflict| serde_json::to_string(conflict).unwrap()).collect();
                list.sort();
                list
            };
            assert_eq!(conflicts(&mut replicas[0]), {
                let other = &mut replicas[a];
                conflicts(other)
            });
            let (one, other) = two(&mut replicas, 0, a);
            assert_eq!(one.sync(other), (0, 0), "quiet once everyone has everything");
        }
    }));
    if let Err(panic) = told {
        if std::env::var("STORYSYNC_SEED").is_ok() {
            for (number, replica) in replicas.iter_mut().enumerate() {
                replica.stop();
                let kept = std::env::temp_dir().join(format!("convergence-{number}.db"));
                std::fs::copy(&replica.database, &kept).unwrap();
                println!("device {number} is kept as {}", kept.display());
            }
        }
        println!("STORYSYNC_SEED={seed} replays this script over {count} devices:\n  {}", story.join("\n  "));
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn any_script_on_real_files_converges() {
    if let Some(seed) = std::env::var("STORYSYNC_SEED").ok().and_then(|seed| seed.parse().ok()) {
        run_script(seed);
        return;
    }
    let scripts: u64 = std::env::var("STORYSYNC_SCRIPTS").ok().and_then(|scripts| scripts.parse().ok()).unwrap_or(40);
    for seed in 1..=scripts {
        run_script(seed);
    }
}
