//! Two nodes in one process, over real HTTP on loopback: they pair by the text of a QR code and
//! stay in step by themselves.
//!
//! `cargo run --example two_nodes`

#![expect(clippy::print_stdout, reason = "an example says what it did")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use storysync::net::client;
use storysync::net::live::LiveOptions;
use storysync::net::node_state::{NodeState, now, now_ms, system_rng};
use storysync::node::{Node, ServeOptions};
use storysync::settings::Settings;
use storysync_engine::store::key_file;
use storysync_engine::store::trust::TrustStore;
use storysync_engine::trust::identity::Identity;
use storysync_engine::trust::pairing::{Approval, Offer, PairingWindow, WINDOW_SECONDS};
use storysync_engine::{Engine, EngineOptions};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long an edit may take to arrive, on a machine that is busy with other things.
const ARRIVES_WITHIN: Duration = Duration::from_secs(30);

/// A device that serves.
struct Device {
    identity: Identity,
    database: PathBuf,
    state: Arc<NodeState>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

async fn serve(root: &Path, name: &str) -> Result<Device, Box<dyn Error>> {
    let folder = root.join(name);
    let identity = key_file::load_or_create(&folder, &mut system_rng())?;
    let database = folder.join("storymaster.db");
    let options = EngineOptions {
        database: database.clone(),
        backups: folder.join("backups"),
        anchors: folder.join("anchors"),
        excluded_tables: Vec::new(),
        prose_columns: Vec::new(),
        device_key: identity.public_key(),
        rebuilding_within: Duration::from_secs(4),
        busy_timeout: Duration::from_secs(5),
    };
    let entropy = Box::new(|bytes: &mut [u8]| {
        use rand_core::Rng as _;
        system_rng().fill_bytes(bytes);
    });
    let engine = Engine::init(options, entropy, now())?;
    let options = ServeOptions {
        host: "127.0.0.1".parse()?,
        port: 0,
        port_is_chosen: true,
        admin_port: 0,
        admin_port_is_chosen: true,
        name: name.to_owned(),
        approval: Approval::None,
        pairing_seconds: WINDOW_SECONDS,
        host_names: Vec::new(),
        discovery: false,
        asks_at_first_contact: false,
        program: None,
        live: Some(LiveOptions::default()),
        settings: Settings::default(),
    };
    let trust = TrustStore::open(&folder)?;
    let node = Node::start(engine, trust, identity.clone(), &folder, options).await?;
    let state = Arc::clone(node.state());
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(node.run(stopped));
    Ok(Device { identity, database, state, stop, serving })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let root = tempfile::TempDir::new()?;
    let desktop = serve(root.path(), "desktop").await?;
    let laptop = serve(root.path(), "laptop").await?;

    // The desktop shows a code; the laptop reads its text.
    let address = ("127.0.0.1".parse()?, desktop.state.settings.lan_port);
    let window = PairingWindow::open(
        &desktop.identity,
        vec![address],
        Approval::None,
        now_ms(),
        &mut system_rng(),
    );
    let offer = Offer::parse(&window.offer().to_text())?;
    desktop.state.show_window(window);
    let own_port = Some(laptop.state.settings.lan_port);
    let trust = &laptop.state.trust;
    client::join(&offer, &laptop.identity, "laptop", own_port, trust, &mut |_| {}).await?;

    // What the app on the desktop writes is in the laptop's file a moment later.
    rusqlite::Connection::open(&desktop.database)?.execute_batch(
        "INSERT INTO user (username, sync_uuid, version) VALUES ('writer', 'example-user', 1)",
    )?;
    let begun = Instant::now();
    let arrived = loop {
        let count: i64 = rusqlite::Connection::open(&laptop.database)?.query_row(
            "SELECT count(*) FROM user",
            [],
            |row| row.get(0),
        )?;
        if count == 1 || begun.elapsed() > ARRIVES_WITHIN {
            break count == 1;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    println!("arrived: {arrived}, {} ms after it was written", begun.elapsed().as_millis());
    for device in [desktop, laptop] {
        device.stop.send_replace(true);
        device.serving.await?;
    }
    if arrived { Ok(()) } else { Err("nothing arrived".into()) }
}
