//! Helpers that read like the story: an app writing its file, nodes beside it, a net between them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use storysync_crdt::Stamp;
use storysync_engine::exchange::{Asker, Event, Exchange, ExchangeOptions, Prepared, Progress};
use storysync_engine::trust::identity::DeviceId;
use storysync_engine::{Engine, EngineOptions, MigrationReport};
use tempfile::TempDir;

/// Deterministic "randomness" for tests: printed seeds replay.
pub fn entropy(seed: u64) -> storysync_engine::Entropy {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    Box::new(move |bytes| {
        for byte in bytes {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = state.to_le_bytes()[3];
        }
    })
}

pub fn options(folder: &Path, database: &Path, device: u8) -> EngineOptions {
    EngineOptions {
        database: database.to_owned(),
        backups: folder.join("backups"),
        anchors: folder.join("anchors"),
        excluded_tables: Vec::new(),
        prose_columns: Vec::new(),
        device_key: [device; 32],
        rebuilding_within: Duration::ZERO,
        busy_timeout: Duration::from_secs(2),
    }
}

/// A device without a network: an app's file and an Engine beside it.
pub struct Replica {
    pub engine: Option<Engine>,
    pub folder: TempDir,
    pub database: PathBuf,
    pub device: u8,
    pub report: MigrationReport,
    runs: u64,
}

impl Replica {
    /// Copies a file and migrates it.
    pub fn of_copy(original: &Path, device: u8) -> Self {
        let folder = TempDir::new().unwrap();
        let database = folder.path().join("storymaster.db");
        std::fs::write(&database, std::fs::read(original).unwrap()).unwrap();
        Self::at(folder, database, device)
    }

    /// A new file of another app's, with the tables and rows of `schema`.
    pub fn of_schema(schema: &str, device: u8) -> Self {
        let folder = TempDir::new().unwrap();
        let database = folder.path().join("app.db");
        Connection::open(&database).unwrap().execute_batch(schema).unwrap();
        Self::at(folder, database, device)
    }

    /// A new, empty Storymaster database.
    pub fn empty(device: u8) -> Self {
        let folder = TempDir::new().unwrap();
        let database = folder.path().join("storymaster.db");
        let engine = Engine::init(
            options(folder.path(), &database, device),
            entropy(u64::from(device)),
            now(),
        )
        .unwrap();
        Self {
            engine: Some(engine),
            folder,
            database,
            device,
            report: MigrationReport::default(),
            runs: 1,
        }
    }

    pub fn at(folder: TempDir, database: PathBuf, device: u8) -> Self {
        let mut replica = Self {
            engine: None,
            folder,
            database,
            device,
            report: MigrationReport::default(),
            runs: 0,
        };
        replica.start();
        replica
    }

    /// Starts the Engine (again): a new run of the process.
    pub fn start(&mut self) {
        self.start_patiently(Duration::ZERO);
    }

    /// The same, with so much patience for tables that were dropped.
    pub fn start_patiently(&mut self, rebuilding_within: Duration) {
        self.engine = None;
        self.runs += 1;
        let seed = u64::from(self.device) * 1000 + self.runs;
        let options = EngineOptions {
            rebuilding_within,
            ..options(self.folder.path(), &self.database, self.device)
        };
        let (engine, report) =
            Engine::open_or_migrate(options, entropy(seed), now(), &mut |_, _| {}).unwrap();
        self.engine = Some(engine);
        if !report.is_empty() {
            self.report = report;
        }
    }

    pub fn stop(&mut self) {
        self.engine = None;
    }

    pub fn engine(&mut self) -> &mut Engine {
        self.engine.as_mut().expect("the engine is running")
    }

    pub fn id(&self) -> String {
        self.device_id().to_string()
    }

    /// The app: any connection of any program.
    pub fn app(&self) -> Connection {
        let connection = Connection::open(&self.database).unwrap();
        connection.busy_timeout(Duration::from_secs(5)).unwrap();
        connection.pragma_update(None, "foreign_keys", false).unwrap();
        connection
    }

    pub fn write(&self, sql: &str) {
        self.app().execute_batch(sql).unwrap_or_else(|error| panic!("{error}: {sql}"));
    }

    pub fn value<T: rusqlite::types::FromSql>(&self, sql: &str) -> T {
        self.app()
            .query_row(sql, [], |row| row.get(0))
            .unwrap_or_else(|error| panic!("{error}: {sql}"))
    }

    /// The texts a query selects.
    pub fn texts(&self, sql: &str) -> Vec<String> {
        self.app()
            .prepare(sql)
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect()
    }

    pub fn capture(&mut self) -> usize {
        self.engine().capture(now()).unwrap().rows
    }

    /// One exchange with a peer, as `storysync sync` holds it: rows (pushed, pulled) that were new.
    pub fn sync(&mut self, peer: &mut Self) -> (usize, usize) {
        let events = self.exchange(peer);
        let mut reached = Progress::default();
        for event in events {
            match event {
                Event::Progress(progress) => reached = progress,
                Event::RefusedHere { reasons, .. } => panic!("refused: {reasons:?}"),
                Event::RefusedThere { message, .. } => panic!("refused there: {message}"),
                _ => {}
            }
        }
        for replica in [self, peer] {
            replica.assert_counted();
        }
        (reached.pushed, reached.pulled)
    }

    /// One exchange with a peer, and what happened in it.
    pub fn exchange(&mut self, peer: &mut Self) -> Vec<Event> {
        self.exchange_at(peer, now(), now())
    }

    /// The same, by the clocks of the two devices.
    pub fn exchange_at(&mut self, peer: &mut Self, here: Stamp, there: Stamp) -> Vec<Event> {
        let mut exchange = Exchange::with(&peer.device_id(), ExchangeOptions::default());
        let asker = Asker::trusted(&self.device_id());
        let mut events = Vec::new();
        while let Some(request) = exchange.next(self.engine(), here).unwrap() {
            events.extend(exchange.events());
            let answer = peer.engine().answer(&asker, &Prepared::of(request), there).unwrap();
            if let Some(after) = answer.after {
                peer.engine().after_answer(&asker.device_id, after, there).unwrap();
            }
            exchange.handle(answer.reply);
        }
        events.extend(exchange.events());
        events
    }

    pub fn device_id(&self) -> DeviceId {
        DeviceId::of_key(&[self.device; 32])
    }

    /// What is told of how many rows stand is how many stand.
    pub fn assert_counted(&mut self) {
        let stand = self.value::<i64>("SELECT count(*) FROM sync_row WHERE present = 1");
        assert_eq!(self.engine().status().unwrap().entities, stand);
    }
}

pub fn now() -> Stamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Stamp::from_unix_ms(i64::try_from(since.as_millis()).unwrap())
}

/// A file's content with local ids replaced by uuids: what must be equal on two devices. `times`
/// says whether created_at and updated_at count.
pub fn canonical(database: &Path, times: bool) -> Vec<String> {
    let connection = Connection::open(database).unwrap();
    let schema = storysync_engine::app::schema::Schema::read(&connection, &[]).unwrap();
    let mut uuids = std::collections::HashMap::new();
    for table in schema.tables() {
        let mut select = connection.prepare(storysync_engine::app::rows::select(table)).unwrap();
        let mut rows = select.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let row = storysync_engine::app::rows::read(table, row).unwrap();
            uuids.insert(
                (table.name().to_owned(), row.local_id),
                row.uuid(table).unwrap().to_string(),
            );
        }
    }
    let mut lines = Vec::new();
    for table in schema.tables() {
        let mut select = connection.prepare(storysync_engine::app::rows::select(table)).unwrap();
        let mut rows = select.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let row = storysync_engine::app::rows::read(table, row).unwrap();
            let mut line = vec![table.name().to_owned()];
            let mut columns: Vec<_> = row.columns(table).collect();
            columns.sort_by(|a, b| a.0.name.cmp(&b.0.name));
            for (column, value) in columns {
                use storysync_engine::app::schema::Role;
                let text = match &column.role {
                    Role::Reference { table } => {
                        match value.as_integer().and_then(|id| uuids.get(&(table.clone(), id))) {
                            Some(uuid) => uuid.clone(),
                            None => "nothing".to_owned(),
                        }
                    }
                    Role::CreatedAt | Role::UpdatedAt if !times => continue,
                    _ => format!("{value:?}"),
                };
                line.push(format!("{}={text}", column.name));
            }
            lines.push(line.join(" | "));
        }
    }
    lines.sort();
    lines
}

/// What our own tables say of rows, and of which refer to which.
pub fn rows_and_references(replica: &Replica) -> Vec<String> {
    let rows =
        "SELECT t.name || '/' || r.sync_uuid || ' ' || r.present || ' ' || r.version || ' ' \
        || coalesce(r.differs, '') || ' ' || coalesce(r.parked, '') || ' ' || r.conflicts
        FROM sync_row AS r JOIN sync_table AS t ON t.id = r.table_id WHERE r.version > 0";
    let references = "SELECT a.sync_uuid || ' refers to ' || b.sync_uuid || ' by ' || \
        f.column_name FROM sync_ref AS f JOIN sync_row AS a ON a.id = f.referrer JOIN sync_row AS \
        b ON b.id = f.target";
    [replica.texts(rows), replica.texts(references)].concat()
}

/// Panics with the first lines that differ.
pub fn assert_same_content(a: &Path, b: &Path, times: bool) {
    let (a, b) = (canonical(a, times), canonical(b, times));
    if a != b {
        let only_a: Vec<_> = a.iter().filter(|line| !b.contains(line)).take(3).collect();
        let only_b: Vec<_> = b.iter().filter(|line| !a.contains(line)).take(3).collect();
        panic!(
            "contents differ ({} and {} rows)\nonly in the first: {only_a:#?}\nonly in the second: \
                {only_b:#?}",
            a.len(),
            b.len()
        );
    }
}
