//! What every command needs: which database, which data directory, which keys; and how to print.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use rand_core::Rng as _;
use serde::Serialize;

use super::Global;
use crate::config::{self, AskedAbout, Config};
use crate::net::node_state::{now, system_rng};
use crate::node::{AdminFile, LAN_PORT_SETTING};
use crate::printable;
use crate::settings::Settings;
use storysync_engine::store::file_lock;
use storysync_engine::store::key_file;
use storysync_engine::store::trust::{EventKind, NAME_SETTING, TrustStore, WhoIsAskedAbout};
use storysync_engine::trust::identity::Identity;
use storysync_engine::trust::pairing::clean_name;
use storysync_engine::{
    Engine, EngineError, EngineOptions, Entropy, MigrationReport, PAGE_ENTITIES_MAX,
};

/// How long a command waits for another writer. The app's own writes take milliseconds.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(8);
/// How long tables the app has dropped may stay away, or empty, before a node that saw it takes
/// that for a deletion.
const REBUILDING_WITHIN: Duration = Duration::from_secs(4);

#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) database: PathBuf,
    pub(super) data_dir: PathBuf,
    pub(super) settings: Settings,
    /// What the settings mean.
    pub(super) config: Config,
    /// Why the settings could not be read: for those commands that find out and mend.
    pub(super) broken_settings: Option<String>,
    pub(super) json: bool,
}

/// What becomes of a command when the settings can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BrokenSettings {
    /// It fails with a sentence.
    Fail,
    /// It goes on with the defaults, and says so or mends it.
    GoOn,
}

impl Context {
    pub(super) fn new(global: &Global, broken: BrokenSettings) -> anyhow::Result<Self> {
        let database = match global
            .db
            .clone()
            .or_else(|| std::env::var_os("STORYMASTER_DB_PATH").map(PathBuf::from))
        {
            Some(database) => database,
            None => config::default_database()?,
        };
        let data_dir = match global.data_dir.clone() {
            Some(data_dir) => data_dir,
            None => config::default_data_dir()?,
        };
        let loaded = Settings::load(&data_dir)
            .and_then(|settings| settings.with_flags(super::flags::of_all(global)));
        let (settings, broken_settings) = match loaded {
            Ok(settings) => (settings, None),
            Err(error) if broken == BrokenSettings::GoOn => {
                (Settings::default(), Some(error.to_string()))
            }
            Err(error) => return Err(error.into()),
        };
        let config = settings.config().clone();
        Ok(Self { database, data_dir, settings, config, broken_settings, json: global.json })
    }

    /// The same, where flags of a command say something about settings.
    pub(super) fn with_flags(&self, flags: Vec<(&str, toml::Value)>) -> anyhow::Result<Self> {
        let settings = self.settings.clone().with_flags(flags)?;
        Ok(Self {
            database: self.database.clone(),
            data_dir: self.data_dir.clone(),
            config: settings.config().clone(),
            settings,
            broken_settings: None,
            json: self.json,
        })
    }

    /// The keys of this device. Where they are not those the pairings were made with, the person is
    /// told.
    pub(super) fn identity(&self) -> anyhow::Result<Identity> {
        Ok(self.identity_and_trust()?.0)
    }

    /// The same, and whom this device trusts.
    pub(super) fn identity_and_trust(&self) -> anyhow::Result<(Identity, TrustStore)> {
        key_file::prepare_directory(&self.data_dir)?;
        let missing = !key_file::exists(&self.data_dir);
        if missing && key_file::lock_serving(&self.data_dir)?.is_none() {
            bail!(
                "{} is missing while a node is serving with the keys it held: put it back, or stop \
                    the node first, if this device shall become a new one",
                self.data_dir.join("identity.key").display()
            );
        }
        let identity = key_file::load_or_create(&self.data_dir, &mut system_rng())?;
        let (trust, own) = (self.trust()?, identity.device_id());
        if let Some(lost) = trust.settle_identity(&own)? {
            let words = format!(
                "This device's keys are gone ({} was missing or is another), so it is a new device \
                    for the others: {own}, formerly {}. No row is lost, but its pairings ({}) \
                    rest: \
                 put the file back and they are there again, or pair each device again (`storysync \
                 pair show` on one, `storysync pair join` on the other), and run `storysync \
                 devices revoke {}` there (`storysync devices owner` with the new one first, if \
                 the old one was the only owner).",
                self.data_dir.join("identity.key").display(),
                lost.former,
                lost.pairings,
                lost.former
            );
            trust.note_event(
                EventKind::NewIdentity,
                Some(&own),
                &format!("its keys were gone; it was {} before", lost.former),
                now().unix_ms(),
            )?;
            let _ = writeln!(std::io::stderr(), "{words}");
        }
        Ok((identity, trust))
    }

    pub(super) fn trust(&self) -> anyhow::Result<TrustStore> {
        let trust = TrustStore::open(&self.data_dir)?;
        if self.config.asked_about == AskedAbout::Pause {
            trust.go_on_with_who_is_asked_about(WhoIsAskedAbout::Pauses);
        }
        Ok(trust)
    }

    /// Notes in the log that the person at this device decided something.
    pub(super) fn note_decision(&self, identity: &Identity, detail: &str) -> anyhow::Result<()> {
        Ok(self.trust()?.note_event(
            EventKind::Resolve,
            Some(&identity.device_id()),
            detail,
            now().unix_ms(),
        )?)
    }

    /// What this device is called: the flag, the configuration, what it was called before, the
    /// host.
    pub(super) fn name(&self, flag: Option<&str>, trust: &TrustStore) -> anyhow::Result<String> {
        let chosen = flag.map(str::to_owned).or_else(|| self.config.name.clone());
        if let Some(name) = chosen {
            let name = clean_name(&name);
            trust.set_setting(NAME_SETTING, &name)?;
            return Ok(name);
        }
        if let Some(name) = trust.setting(NAME_SETTING)? {
            return Ok(name);
        }
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
            .ok()
            .or_else(|| std::env::var("HOSTNAME").ok());
        Ok(clean_name(host.as_deref().unwrap_or("this device")))
    }

    /// Whether the configuration gives this device another name than a person does now.
    pub(super) fn says_another_name(&self, flag: Option<&str>) -> bool {
        self.config
            .name
            .as_deref()
            .zip(flag)
            .is_some_and(|(configured, flag)| clean_name(configured) != clean_name(flag))
    }

    /// The port others reach this device at: of the running node, of the last one, or the
    /// configured one.
    pub(super) fn own_port(&self, trust: &TrustStore) -> anyhow::Result<u16> {
        if let Some(file) = AdminFile::read(&self.data_dir) {
            return Ok(file.lan_port);
        }
        let remembered = trust.setting(LAN_PORT_SETTING)?.and_then(|port| port.parse().ok());
        Ok(self.config.port.or(remembered).unwrap_or(config::LAN_PORT))
    }

    pub(super) fn engine_options(&self, identity: &Identity) -> EngineOptions {
        EngineOptions {
            database: self.database.clone(),
            backups: self.data_dir.join("backups"),
            anchors: self.data_dir.join("anchors"),
            excluded_tables: self.config.excluded_tables.clone(),
            prose_columns: self.config.prose_columns.clone(),
            device_key: identity.public_key(),
            busy_timeout: BUSY_TIMEOUT,
            rebuilding_within: REBUILDING_WITHIN,
        }
    }

    /// What a command needs that only reads: a file nobody has prepared is left as it is, and one
    /// that belongs to the node of another data directory is looked at and not taken over.
    pub(super) fn reading(&self) -> anyhow::Result<(Identity, TrustStore, Engine)> {
        let Some(owner) = Engine::owner(&self.database, BUSY_TIMEOUT)? else {
            return Err(EngineError::NotMigrated(self.database.clone()).into());
        };
        let (identity, trust) = self.identity_and_trust()?;
        let nobody_serves = || !matches!(key_file::lock_serving(&self.data_dir), Ok(None));
        let (mut engine, _) = Engine::open_upgrade_or_migrate(
            self.engine_options(&identity),
            entropy(),
            now(),
            &mut |_, _| {},
            &nobody_serves,
        )?;
        // With new keys in the old data directory the file is still ours.
        if owner != identity.device_id().as_str() && !engine.has_been_here() {
            engine.look_only();
            let words = format!(
                "{} belongs to the node of another data directory ({owner}); it is shown as that \
                    node left it. Give its --data-dir, or `storysync migrate` here if the file is \
                    a copy.",
                self.database.display()
            );
            let _ = writeln!(std::io::stderr(), "{words}");
        }
        Ok((identity, trust, engine))
    }

    /// Whose file this is, when it is the node's of another data directory.
    pub(super) fn other_owner(&self, identity: &Identity) -> anyhow::Result<Option<String>> {
        let owner = Engine::owner(&self.database, BUSY_TIMEOUT)?;
        Ok(owner.filter(|owner| owner != identity.device_id().as_str()))
    }

    /// A file another data directory's node serves at this moment is not taken over.
    fn refuse_served_elsewhere(&self, identity: &Identity) -> anyhow::Result<()> {
        let Some(data_dir) = file_lock::holder(&self.database) else { return Ok(()) };
        if Engine::owner(&self.database, BUSY_TIMEOUT)?
            .is_some_and(|owner| owner != identity.device_id().as_str())
        {
            let whose = data_dir.map_or_else(
                || "another data directory".to_owned(),
                |data_dir| data_dir.display().to_string(),
            );
            bail!(
                "{} is served by the node of {whose}: give that --data-dir, or stop that node \
                    first",
                self.database.display()
            );
        }
        Ok(())
    }

    /// Opens the database, preparing it first when needed.
    pub(super) fn engine(&self, identity: &Identity) -> anyhow::Result<(Engine, MigrationReport)> {
        self.refuse_served_elsewhere(identity)?;
        let bar = if std::io::stderr().is_terminal() {
            ProgressBar::new(0)
        } else {
            ProgressBar::hidden()
        };
        bar.set_style(
            ProgressStyle::with_template("preparing {wide_bar} {pos}/{len} rows")
                .unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        let mut progress = |done, all| {
            bar.set_length(all);
            bar.set_position(done);
        };
        let nobody_serves = || !matches!(key_file::lock_serving(&self.data_dir), Ok(None));
        let opened = Engine::open_upgrade_or_migrate(
            self.engine_options(identity),
            entropy(),
            now(),
            &mut progress,
            &nobody_serves,
        );
        bar.finish_and_clear();
        let (mut engine, report) = opened?;
        engine.limit_pages(self.config.batch_size.unwrap_or(PAGE_ENTITIES_MAX));
        engine.decide_pushed_conflicts(
            self.config.conflict_resolution.unwrap_or_default().of_pushes(),
        );
        if let Some(backup) = &report.backup {
            tracing::info!(backup = %backup.display(), "the database \
                was prepared for syncing");
        }
        Ok((engine, report))
    }

    /// Prints the JSON, or what `words` writes.
    pub(super) fn print(
        &self,
        json: &impl Serialize,
        words: impl FnOnce(&mut String),
    ) -> anyhow::Result<()> {
        let text = if self.json {
            format!("{}\n", serde_json::to_string(json)?)
        } else {
            let mut text = String::new();
            words(&mut text);
            printable(&text).into_owned()
        };
        print_raw(text.as_bytes())
    }
}

/// Writes words for a person to stdout.
pub(super) fn say(text: &str) -> anyhow::Result<()> {
    print_raw(printable(text).as_bytes())
}

/// Writes to stdout as it is; a reader that has gone is no error.
pub(super) fn print_raw(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("can't write to stdout")
        }
        _ => Ok(()),
    }
}

/// The system's randomness for an Engine.
pub(super) fn entropy() -> Entropy {
    Box::new(|bytes| system_rng().fill_bytes(bytes))
}

/// A runtime for commands that talk to the network.
pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("the system refuses threads")
}
