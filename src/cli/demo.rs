//! `storysync demo`: a desktop and a phone in a temporary folder, real files, real HTTP on
//! loopback. What the "app" does here is plain SQL on its own connection, as any program would do
//! it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rusqlite::Connection;
use serde_json::json;
use tokio::sync::watch;

use super::context::{self, Context, entropy, runtime};
use super::decide::{Names, describe};
use super::history::describe_entry;
use crate::net::client::{self, Caller, PeerReport};
use crate::net::handle::EngineHandle;
use crate::net::node_state::{NodeState, now, now_ms, system_rng};
use crate::node::{Node, ServeOptions};
use crate::settings::Settings;
use storysync_engine::exchange::ContactChoice;
use storysync_engine::store::key_file;
use storysync_engine::store::trust::{TrustStore, TrustedDevice};
use storysync_engine::trust::identity::Identity;
use storysync_engine::trust::pairing::{Approval, Offer, PairingWindow, WINDOW_SECONDS};
use storysync_engine::{Engine, EngineOptions};

/// One of the two devices.
struct Device {
    name: &'static str,
    folder: PathBuf,
    identity: Identity,
}

impl Device {
    fn new(root: &Path, name: &'static str) -> anyhow::Result<Self> {
        let folder = root.join(name);
        let identity = key_file::load_or_create(&folder, &mut system_rng())?;
        Ok(Self { name, folder, identity })
    }

    fn database(&self) -> PathBuf {
        self.folder.join("storymaster.db")
    }

    fn init(&self) -> anyhow::Result<Engine> {
        let options = EngineOptions {
            database: self.database(),
            backups: self.folder.join("backups"),
            anchors: self.folder.join("anchors"),
            excluded_tables: Vec::new(),
            prose_columns: Vec::new(),
            device_key: self.identity.public_key(),
            rebuilding_within: std::time::Duration::ZERO,
            busy_timeout: std::time::Duration::from_secs(5),
        };
        Ok(Engine::init(options, entropy(), now())?)
    }

    fn trust(&self) -> anyhow::Result<TrustStore> {
        Ok(TrustStore::open(&self.folder)?)
    }

    /// What the app on this device does.
    fn app(&self, sql: &str) -> anyhow::Result<()> {
        let connection = Connection::open(self.database())?;
        connection.pragma_update(None, "foreign_keys", false)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.execute_batch(sql).context("the demo's own SQL failed")
    }

    async fn serve(&self, engine: Engine) -> anyhow::Result<Node> {
        let options = ServeOptions {
            port_is_chosen: true,
            admin_port_is_chosen: true,
            host: "127.0.0.1".parse()?,
            port: 0,
            admin_port: 0,
            name: self.name.to_owned(),
            approval: Approval::None,
            pairing_seconds: WINDOW_SECONDS,
            host_names: Vec::new(),
            asks_at_first_contact: false,
            discovery: false,
            program: None,
            live: None,
            settings: Settings::default(),
        };
        let (trust, identity) = (self.trust()?, self.identity.clone());
        Ok(Node::start(engine, trust, identity, &self.folder, options).await?)
    }

    /// Opens a pairing window, and returns the text of its code.
    fn show_code(&self, state: &NodeState) -> anyhow::Result<String> {
        let address = ("127.0.0.1".parse()?, state.settings.lan_port);
        let window = PairingWindow::open(
            &self.identity,
            vec![address],
            Approval::None,
            now_ms(),
            &mut system_rng(),
        );
        let text = window.offer().to_text();
        state.show_window(window);
        Ok(text)
    }

    fn named(&self) -> (String, String) {
        (self.identity.device_id().to_string(), self.name.to_owned())
    }

    /// Tells what its app shows.
    fn tell_row(&self, tell: Tell<'_>) -> anyhow::Result<()> {
        tell(&format!("   {:7} {}", self.name, self.row()?))
    }

    fn row(&self) -> anyhow::Result<serde_json::Value> {
        let connection = Connection::open(self.database())?;
        Ok(connection.query_row(
            "SELECT first_name, title, job, notes, version FROM actor",
            [],
            |row| {
                let (name, title, job): (String, String, String) =
                    (row.get(0)?, row.get(1)?, row.get(2)?);
                let (notes, version): (String, i64) = (row.get(3)?, row.get(4)?);
                Ok(json!({ "first_name": name, "title": title, "job": job, "notes": notes,
                "version": version }))
            },
        )?)
    }

    fn actors(&self) -> anyhow::Result<i64> {
        Ok(Connection::open(self.database())?.query_row(
            "SELECT count(*) FROM actor",
            [],
            |row| row.get(0),
        )?)
    }
}

const WORLD: &str = "
    INSERT INTO user (username, sync_uuid, version) VALUES ('writer', 'demo-user', 1);
    INSERT INTO setting (name, user_id, sync_uuid, version) SELECT 'The Drowned Coast', id, \
    'demo-setting', 1 FROM user;
    INSERT INTO actor (first_name, title, job, notes, setting_id, sync_uuid, version)
        SELECT 'Ada', 'Captain', 'pirate', 'Afraid of the sea.', id, 'demo-actor', 1 FROM setting;";

fn described(describe: impl FnOnce(&mut String)) -> String {
    let mut text = String::new();
    describe(&mut text);
    text
}

fn say(text: &str) -> anyhow::Result<()> {
    context::say(&format!("{text}\n"))
}

pub(super) fn run(context: &Context) -> anyhow::Result<()> {
    let root = std::env::temp_dir().join(format!("storysync-demo-{}", std::process::id()));
    key_file::prepare_directory(&root)?;
    let told = if context.json {
        runtime()?.block_on(play(&root, &mut |_| Ok(())))
    } else {
        runtime()?.block_on(play(&root, &mut say))
    };
    let removed = std::fs::remove_dir_all(&root);
    let result = told?;
    removed.with_context(|| format!("{} could not be removed", root.display()))?;
    context.print(&result, |text| {
        let _ = writeln!(
            text,
            "\nThat is all. Prepare your own database with `storysync migrate`, \
            then `storysync serve`."
        );
    })
}

/// One exchange, which must succeed.
async fn exchange(caller: &Caller<'_>, device: &TrustedDevice) -> anyhow::Result<PeerReport> {
    let report = caller.sync(device, &mut |_| {}).await;
    match &report.error {
        Some(error) => bail!("{error}"),
        None => Ok(report),
    }
}

/// Says what happens, line by line.
type Tell<'a> = &'a mut (dyn FnMut(&str) -> anyhow::Result<()> + Send);

async fn play(root: &Path, tell: Tell<'_>) -> anyhow::Result<serde_json::Value> {
    tell("── A desktop with a story world, and a phone with an empty one")?;
    let (desktop, phone) = (Device::new(root, "desktop")?, Device::new(root, "phone")?);
    let desktop_engine = desktop.init()?;
    let phone_engine = EngineHandle::spawn(phone.init()?)?;
    desktop.app(WORLD)?;
    let (here, there) = (desktop.actors()?, phone.actors()?);
    tell(&format!("   desktop has {here} character, the phone {there}"))?;

    tell("\n── The desktop serves; the phone scans its code")?;
    let node = desktop.serve(desktop_engine).await?;
    let state = std::sync::Arc::clone(node.state());
    let text = desktop.show_code(&state)?;
    let code = qrcode::QrCode::with_error_correction_level(&text, qrcode::EcLevel::M)?;
    tell(&code.render::<qrcode::render::unicode::Dense1x2>().quiet_zone(true).build())?;
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(node.run(stopped));

    let trust = phone.trust()?;
    let offer = Offer::parse(&text)?;
    let desktop_id =
        client::join(&offer, &phone.identity, phone.name, None, &trust, &mut |_| {}).await?;
    let caller = Caller {
        identity: &phone.identity,
        trust: &trust,
        engine: &phone_engine,
        own_port: None,
        name: phone.name,
        installation: "the demo's phone",
        static_addresses: &[],
        contact: ContactChoice::Judge,
    };
    let device = trust.find(&desktop_id)?.context("the desktop was just paired")?;
    let sync = async || exchange(&caller, &device).await;
    let first = sync().await?;
    tell(&format!(
        "   paired and synced: {} rows pulled in {} encrypted bytes; the phone has {} character",
        first.pulled,
        first.bytes_received,
        phone.actors()?
    ))?;

    tell("\n── Offline, both write: different fields of one character, and one field differently")?;
    desktop.app("UPDATE actor SET job = 'harbour master', title = 'Admiral'")?;
    phone.app("UPDATE actor SET notes = 'Afraid of the sea. Never says so.', title = 'Queen'")?;
    desktop.tell_row(tell)?;
    phone.tell_row(tell)?;

    tell("\n── Together again: what does not conflict is merged, what does is told")?;
    sync().await?;
    desktop.tell_row(tell)?;
    phone.tell_row(tell)?;
    let merged = phone.row()?;
    let conflicts = phone_engine.call(|engine| engine.conflicts(now())).await??;
    let names = Names::new(String::new(), vec![desktop.named(), phone.named()]);
    for conflict in &conflicts {
        tell(&described(|text| describe(conflict, &names, text)))?;
    }

    tell("── The writer decides, on the phone; the decision travels like any edit")?;
    phone.app("UPDATE actor SET title = 'Admiral Queen'")?;
    sync().await?;
    let open = state.engine.call(|engine| engine.conflicts(now())).await??;
    tell(&format!("   desktop {}, {} conflicts open", desktop.row()?, open.len()))?;
    let decided = desktop.row()?;
    tell("\n── And who wrote what stays known, on both")?;
    let history =
        state.engine.call(|engine| engine.history("actor", "demo-actor", now())).await??;
    for entry in &history {
        tell(described(|text| describe_entry(entry, &names, text)).trim_end())?;
    }
    let quiet = sync().await?;
    tell(&format!("   one more sync: {} rows pushed, {} pulled", quiet.pushed, quiet.pulled))?;
    stop.send_replace(true);
    serving.await?;
    Ok(json!({ "merged": merged, "conflicts": conflicts, "resolved": decided,
            "open_conflicts": open.len(), "history": history }))
}
