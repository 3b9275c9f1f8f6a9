//! What the Engine alone needs, without a network: to notice what an app wrote, to write, read and
//! take in a page of another desktop, to take in what a phone without automerge pushes, and to
//! answer a pull.
#![expect(clippy::unwrap_used, reason = "a benchmark stops at the first surprise")]

mod notes;

use std::path::PathBuf;
use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;
use notes::{make, text};
use rusqlite::Connection;
use serde_json::{Map, Value, json};
use storysync::net::node_state::{now, system_rng};
use storysync_engine::trust::identity::{DeviceId, Identity};
use storysync_engine::wire::{PullRequest, RowChange};
use storysync_engine::{Engine, EngineOptions, Incoming};
use tempfile::TempDir;

fn main() {
    divan::main();
}

/// Rows in the file, and rows written at once.
const ROWS: usize = 1_000;

struct Desktop {
    engine: Engine,
    folder: TempDir,
    phone: String,
}

impl Desktop {
    fn of(rows: i64) -> Self {
        let folder = TempDir::new().unwrap();
        make(&Self::file(&folder), rows);
        let options = EngineOptions {
            database: Self::file(&folder),
            backups: folder.path().join("backups"),
            anchors: folder.path().join("anchors"),
            excluded_tables: Vec::new(),
            prose_columns: Vec::new(),
            device_key: Identity::generate(&mut system_rng()).public_key(),
            rebuilding_within: Duration::ZERO,
            busy_timeout: Duration::from_secs(5),
        };
        let entropy =
            || Box::new(|bytes: &mut [u8]| rand_core::Rng::fill_bytes(&mut system_rng(), bytes));
        let (engine, _) =
            Engine::open_or_migrate(options, entropy(), now(), &mut |_, _| {}).unwrap();
        Self {
            engine,
            folder,
            phone: DeviceId::of_key(&Identity::generate(&mut system_rng()).public_key())
                .to_string(),
        }
    }

    fn file(folder: &TempDir) -> PathBuf {
        folder.path().join("app.db")
    }

    fn app(&self, sql: &str) {
        Connection::open(Self::file(&self.folder)).unwrap().execute_batch(sql).unwrap();
    }

    fn push(&mut self, changes: Vec<RowChange>) {
        let incoming = Incoming::read_all(changes);
        let phone = self.phone.clone();
        let (receipt, accepted) =
            self.engine.receive_pushed_telling(&incoming, &phone, now()).unwrap();
        assert_eq!(
            (receipt.rows.len(), receipt.rejected_count(), accepted.states.len()),
            (ROWS, 0, ROWS)
        );
    }

    fn with_pushed_rows() -> Self {
        let mut desktop = Self::of(0);
        desktop.push(creates());
        desktop
    }

    fn page(&mut self) -> Vec<RowChange> {
        self.engine.answer_pull(&PullRequest::default(), "another desktop", now()).unwrap().changes
    }
}

fn pushed(index: usize, version: i64, operation: &str, data: Value) -> RowChange {
    RowChange {
        entity_type: "note".to_owned(),
        sync_uuid: format!("{index:08x}-0000-4000-8000-000000000000"),
        operation: operation.to_owned(),
        version,
        data: data.as_object().cloned(),
        ..RowChange::default()
    }
}

fn creates() -> Vec<RowChange> {
    let filled = |index: usize| {
        let mut data: Map<String, Value> = (1..=14)
            .map(|column| (format!("c{column}"), format!("pushed {column} of {index}").into()))
            .collect();
        data.insert("note".to_owned(), text(index as u64, 500).into());
        Value::Object(data)
    };
    (0..ROWS).map(|index| pushed(index, 1, "create", filled(index))).collect()
}

fn updates(version: i64, data: &Value) -> Vec<RowChange> {
    (0..ROWS).map(|index| pushed(index, version, "update", data.clone())).collect()
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn capture_1_000_edits_of_the_app(bencher: Bencher<'_, '_>) {
    let edited = || {
        let desktop = Desktop::of(i64::try_from(ROWS).unwrap());
        desktop.app("UPDATE note SET c3 = 'edited'");
        desktop
    };
    bencher
        .counter(ItemsCount::new(ROWS))
        .with_inputs(edited)
        .bench_refs(|desktop| assert_eq!(desktop.engine.capture(now()).unwrap().rows, ROWS));
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn answer_a_pull_of_1_000_rows(bencher: Bencher<'_, '_>) {
    let desktop = || Desktop::of(i64::try_from(ROWS).unwrap());
    bencher
        .counter(ItemsCount::new(ROWS))
        .with_inputs(desktop)
        .bench_refs(|desktop| assert_eq!(desktop.page().len(), ROWS));
}

/// A page as it travels, before it is compressed and sealed.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn encode_a_page_of_1_000_rows(bencher: Bencher<'_, '_>) {
    let page = Desktop::of(i64::try_from(ROWS).unwrap()).page();
    bencher
        .counter(ItemsCount::new(ROWS))
        .bench(|| serde_json::to_vec(divan::black_box(&page)).unwrap());
}

/// What came, read as far as that needs no look at what is here: JSON, base64, changes with their
/// checksums.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn decode_a_page_of_1_000_rows(bencher: Bencher<'_, '_>) {
    let encoded = serde_json::to_vec(&Desktop::of(i64::try_from(ROWS).unwrap()).page()).unwrap();
    bencher
        .counter(ItemsCount::new(ROWS))
        .bench(|| Incoming::read_all(serde_json::from_slice(divan::black_box(&encoded)).unwrap()));
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn receive_1_000_new_rows_of_another_desktop(bencher: Bencher<'_, '_>) {
    let page = Desktop::of(i64::try_from(ROWS).unwrap()).page();
    let start = || (Desktop::of(0), Incoming::read_all(page.clone()));
    bencher.counter(ItemsCount::new(ROWS)).with_inputs(start).bench_refs(|(desktop, incoming)| {
        assert_eq!(
            desktop.engine.receive_pushed(incoming, "another desktop", now()).unwrap().rows.len(),
            ROWS
        )
    });
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn receive_1_000_edits_of_another_desktop(bencher: Bencher<'_, '_>) {
    let start = || {
        let mut there = Desktop::of(i64::try_from(ROWS).unwrap());
        let mut here = Desktop::of(0);
        let rows = Incoming::read_all(there.page());
        here.engine.receive_pushed(&rows, "another desktop", now()).unwrap();
        there.app("UPDATE note SET c3 = 'edited'");
        there.engine.capture(now()).unwrap();
        let edits = there
            .page()
            .into_iter()
            .map(|change| RowChange {
                automerge: change.automerge.into_iter().skip(1).collect(),
                ..change
            })
            .collect();
        (here, Incoming::read_all(edits))
    };
    bencher.counter(ItemsCount::new(ROWS)).with_inputs(start).bench_refs(|(desktop, incoming)| {
        assert_eq!(
            desktop.engine.receive_pushed(incoming, "another desktop", now()).unwrap().rows.len(),
            ROWS
        )
    });
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn push_of_1_000_creates(bencher: Bencher<'_, '_>) {
    bencher
        .counter(ItemsCount::new(ROWS))
        .with_inputs(|| (Desktop::of(0), creates()))
        .bench_values(|(mut desktop, rows)| {
            desktop.push(rows);
            desktop
        });
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn push_of_1_000_updates(bencher: Bencher<'_, '_>) {
    let rows = || updates(1, &json!({ "c1": "updated", "title": "updated" }));
    bencher
        .counter(ItemsCount::new(ROWS))
        .with_inputs(|| (Desktop::with_pushed_rows(), rows()))
        .bench_values(|(mut desktop, rows)| {
            desktop.push(rows);
            desktop
        });
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn push_of_1_000_conflicts(bencher: Bencher<'_, '_>) {
    let start = || {
        let mut desktop = Desktop::with_pushed_rows();
        desktop.app("UPDATE note SET c2 = 'the desktop'");
        desktop.engine.capture(now()).unwrap();
        (desktop, updates(1, &json!({ "c2": "the phone" })))
    };
    bencher.counter(ItemsCount::new(ROWS)).with_inputs(start).bench_values(
        |(mut desktop, rows)| {
            desktop.push(rows);
            desktop
        },
    );
}
