//! Embeds the engine without a network, as a phone does: two devices with files of their own, and
//! an exchange between them that any transport could carry.
//!
//! `cargo run --example embed_engine`

#![expect(clippy::print_stdout, reason = "an example says what it did")]

use std::error::Error;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use getrandom::SysRng;
use rand_core::{Rng as _, UnwrapErr};
use storysync_crdt::Stamp;
use storysync_engine::exchange::{Asker, Exchange, ExchangeOptions, Prepared};
use storysync_engine::trust::identity::DeviceId;
use storysync_engine::{Engine, EngineOptions};

/// The engine has no clock: its host tells it the time.
fn now() -> Result<Stamp, Box<dyn Error>> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(Stamp::from_unix_ms(i64::try_from(since.as_millis())?))
}

/// Any app with one SQLite file.
fn make_app(file: &Path) -> rusqlite::Result<()> {
    rusqlite::Connection::open(file)?
        .execute_batch("CREATE TABLE note (id INTEGER PRIMARY KEY, title TEXT, body TEXT)")
}

fn open(folder: &Path, name: &str, device_key: [u8; 32]) -> Result<Engine, Box<dyn Error>> {
    let file = folder.join(format!("{name}.db"));
    make_app(&file)?;
    let options = EngineOptions {
        database: file,
        backups: folder.join("backups"),
        anchors: folder.join(format!("{name}-anchors")),
        excluded_tables: Vec::new(),
        prose_columns: vec!["note.body".to_owned()],
        device_key,
        busy_timeout: Duration::from_secs(5),
        rebuilding_within: Duration::from_secs(4),
    };
    // Nor has it randomness of its own.
    let entropy = Box::new(|bytes: &mut [u8]| UnwrapErr(SysRng).fill_bytes(bytes));
    let (engine, _report) = Engine::open_or_migrate(options, entropy, now()?, &mut |_, _| {})?;
    Ok(engine)
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::TempDir::new()?;
    // A real host makes an identity with `store::key_file` and pairs with `trust::pairing`.
    let (phone_key, desktop_key) = ([1; 32], [2; 32]);
    let mut phone = open(folder.path(), "phone", phone_key)?;
    let mut desktop = open(folder.path(), "desktop", desktop_key)?;

    // The app writes with its own library, and knows nothing of storysync.
    let app = rusqlite::Connection::open(folder.path().join("phone.db"))?;
    app.execute("INSERT INTO note (title, body) VALUES ('Harbour', 'Fog, and a bell.')", [])?;

    let asker = Asker::trusted(&DeviceId::of_key(&phone_key));
    let mut exchange = Exchange::with(&DeviceId::of_key(&desktop_key), ExchangeOptions::default());
    let mut requests = 0;
    while let Some(request) = exchange.next(&mut phone, now()?)? {
        requests += 1;
        // Here a transport seals the request, sends it, and opens the reply.
        let answer = desktop.answer(&asker, &Prepared::of(request), now()?)?;
        if let Some(after) = answer.after {
            desktop.after_answer(&asker.device_id, after, now()?)?;
        }
        exchange.handle(answer.reply);
    }
    let arrived: String = rusqlite::Connection::open(folder.path().join("desktop.db"))?.query_row(
        "SELECT title || ': ' || body FROM note",
        [],
        |row| row.get(0),
    )?;
    println!("after {requests} requests the desktop has “{arrived}”");
    if arrived == "Harbour: Fog, and a bell." { Ok(()) } else { Err("nothing arrived".into()) }
}
