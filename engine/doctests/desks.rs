// Two desks of one small app, for the examples in the engine's documentation, which include this.

pub use std::time::Duration;

pub use storysync_crdt::Stamp;
pub use storysync_engine::exchange::{Asker, Exchange, ExchangeOptions, Prepared};
pub use storysync_engine::{Engine, EngineOptions};

/// A device: its folder, its engine, and the app on its own connection.
pub struct Desk {
    _folder: tempfile::TempDir,
    pub engine: Engine,
    pub app: rusqlite::Connection,
}

pub fn now() -> Stamp {
    Stamp::from_unix_ms(1_800_000_000_000)
}

/// A device with this key, whose app has a table of notes.
pub fn desk(device: u8) -> Desk {
    let folder = tempfile::TempDir::new().unwrap();
    let app = rusqlite::Connection::open(folder.path().join("app.db")).unwrap();
    app.execute_batch("CREATE TABLE note (id INTEGER PRIMARY KEY, title TEXT, body TEXT)").unwrap();
    let options = EngineOptions {
        database: folder.path().join("app.db"),
        backups: folder.path().join("backups"),
        anchors: folder.path().join("anchors"),
        excluded_tables: Vec::new(),
        prose_columns: Vec::new(),
        device_key: [device; 32],
        busy_timeout: Duration::from_secs(1),
        rebuilding_within: Duration::ZERO,
    };
    // A real host takes random bytes from the system.
    let mut next = device;
    let entropy = Box::new(move |bytes: &mut [u8]| {
        bytes.iter_mut().for_each(|byte| {
            next = next.wrapping_mul(181).wrapping_add(101);
            *byte = next;
        });
    });
    let (engine, _) = Engine::open_or_migrate(options, entropy, now(), &mut |_, _| {}).unwrap();
    Desk { _folder: folder, engine, app }
}

/// One exchange, in which `calling` asks.
pub fn sync(calling: &mut Desk, answering: &mut Desk) {
    let asker = Asker::trusted(calling.engine.device_id());
    let peer = answering.engine.device_id().clone();
    let mut exchange = Exchange::with(&peer, ExchangeOptions::default());
    while let Some(request) = exchange.next(&mut calling.engine, now()).unwrap() {
        let answer = answering.engine.answer(&asker, &Prepared::of(request), now()).unwrap();
        if let Some(after) = answer.after {
            answering.engine.after_answer(&asker.device_id, after, now()).unwrap();
        }
        exchange.handle(answer.reply);
    }
}

/// A note on both desks, whose title was then written on each.
pub fn titled_apart() -> (Desk, Desk) {
    let (mut one, mut other) = (desk(1), desk(2));
    one.app.execute("INSERT INTO note (title) VALUES ('Harbour')", []).unwrap();
    sync(&mut one, &mut other);
    one.app.execute("UPDATE note SET title = 'The harbour'", []).unwrap();
    other.app.execute("UPDATE note SET title = 'Harbour at night'", []).unwrap();
    sync(&mut one, &mut other);
    (one, other)
}
