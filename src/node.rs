//! Assembly of a serving node: keys, Engine, listeners, watch; its start, its line on stdout, its
//! end.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::net::connections::{Connections, Limits};
use crate::net::current_settings::CurrentSettings;
use crate::net::handle::EngineHandle;
use crate::net::live::{self, LiveOptions};
use crate::net::node_state::{NodeSettings, NodeState, system_rng};
use crate::net::port_holder::who_holds;
use crate::net::{admin, discovery, lan, server, watch as file_watch};
use crate::page::{self, Page, Places};
use crate::settings::Settings;
use storysync_engine::Engine;
use storysync_engine::store::file_lock::{self, FileLock, Locking};
use storysync_engine::store::key_file::{self, Overwrite, ServingLock};
use storysync_engine::store::trust::TrustStore;
use storysync_engine::trust::identity::{Identity, Secret};
use storysync_engine::trust::pairing::Approval;
use storysync_engine::trust::to_base64url;

/// Ports tried after one that is taken.
const PORTS_TRIED_MAX: u16 = 20;
const ADMIN_FILE: &str = "admin.json";
/// How long the Engine's thread itself waits for another writer.
const BUSY_TIMEOUT: Duration = Duration::from_millis(100);
/// Setting under which the port last served on is remembered.
pub const LAN_PORT_SETTING: &str = "lan_port";

/// A node can't serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The port is in use.
    #[error("port {port} on {ip} is taken by {}: stop it, or serve on another port with {flag}",
        holder.as_deref().unwrap_or("another program"))]
    PortTaken {
        /// Where.
        ip: IpAddr,
        /// Which.
        port: u16,
        /// The flag that changes it.
        flag: &'static str,
        /// The program that holds it, where that can be seen.
        holder: Option<String>,
    },
    /// The address can't be bound.
    #[error("can't listen on {address}: {source}; give an address of this machine with --host")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// `admin.json` can't be written.
    #[error("{} can't be written: {source}", path.display())]
    AdminFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another node serves from the same data directory.
    #[error("a node is already serving from {}: stop it first, or give this one its own --data-dir \
        and pair it as another device", .0.display())]
    AlreadyServing(PathBuf),
    /// Another node serves the same file.
    #[error("{} is served already, by the node of {}: one file has one node; stop that one, or \
        give this one its own copy of the file", database.display(),
            by.as_deref().map_or("another data directory".into(), Path::to_string_lossy))]
    FileIsServed {
        /// The file.
        database: PathBuf,
        /// The other node's data directory, where it can be read.
        by: Option<PathBuf>,
    },
    /// The data directory can't be used.
    #[error(transparent)]
    DataDir(#[from] key_file::KeyFileError),
    /// No thread for the Engine.
    #[error("the system refuses another thread: {0}")]
    Thread(std::io::Error),
}

/// What a serving node leaves for our other commands, readable by its owner only.
#[derive(Clone, Serialize, Deserialize)]
pub struct AdminFile {
    /// URL of the loopback listener.
    pub url: String,
    /// Its token, base64url.
    pub token: String,
    /// Process id of the node.
    pub pid: u32,
    /// Port of the LAN listener.
    pub lan_port: u16,
}

impl std::fmt::Debug for AdminFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminFile")
            .field("url", &self.url)
            .field("pid", &self.pid)
            .field("lan_port", &self.lan_port)
            .finish_non_exhaustive()
    }
}

impl AdminFile {
    /// What a node serving from this data directory left, if anything.
    #[must_use]
    pub fn read(data_dir: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(data_dir.join(ADMIN_FILE)).ok()?).ok()
    }
}

/// The line on stdout when a node is ready: `READY {"url":…,"admin_url":…}`.
#[derive(Debug, Clone, Serialize)]
pub struct Ready {
    /// URL of the LAN listener, at an address others can reach.
    pub url: String,
    /// URL of the loopback listener.
    pub admin_url: String,
}

/// How to serve.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Address of the LAN listener.
    pub host: IpAddr,
    /// Port of the LAN listener; 0 for any free one.
    pub port: u16,
    /// Whether somebody chose this port: it is then served on or not at all. Otherwise the next
    /// free one will do.
    pub port_is_chosen: bool,
    /// The same of the port of the loopback listener.
    pub admin_port_is_chosen: bool,
    /// Port of the loopback listener; 0 for any free one.
    pub admin_port: u16,
    /// What this device is called.
    pub name: String,
    /// Whether pairing wants a code.
    pub approval: Approval,
    /// How long a pairing code can be used, in seconds.
    pub pairing_seconds: u64,
    /// Names this machine may be addressed by, besides its addresses.
    pub host_names: Vec<String>,
    /// Whether devices are looked for on the network.
    pub discovery: bool,
    /// Whether a person says what this file is to others it meets, before anything is mixed.
    pub asks_at_first_contact: bool,
    /// How to stay in step with paired devices; `None` to answer only.
    pub live: Option<LiveOptions>,
    /// The program that checks and backs up for the page; `None` where this process is not it.
    pub program: Option<PathBuf>,
    /// What all of this follows from, for whoever asks, and to be changed while running.
    pub settings: Settings,
}

/// A node that listens.
#[derive(Debug)]
pub struct Node {
    state: Arc<NodeState>,
    page: Arc<Page>,
    ready: Ready,
    lan: TcpListener,
    admin: TcpListener,
    database: PathBuf,
    data_dir: PathBuf,
    discovery: bool,
    live: Option<LiveOptions>,
    _serving: ServingLock,
    _file_lock: Option<FileLock>,
}

async fn bind(address: SocketAddr, flag: &'static str) -> Result<TcpListener, ServeError> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(source) if source.kind() == std::io::ErrorKind::AddrInUse => {
            Err(ServeError::PortTaken {
                ip: address.ip(),
                port: address.port(),
                flag,
                holder: who_holds(address).await,
            })
        }
        Err(source) => Err(ServeError::Bind { address, source }),
    }
}

/// Binds a port; where nobody chose it and it is taken, the next that is free.
async fn bind_or_next(
    address: SocketAddr,
    flag: &'static str,
    is_chosen: bool,
    kept_for_others: u16,
) -> Result<TcpListener, ServeError> {
    let (taken, by) = match bind(address, flag).await {
        Err(ServeError::PortTaken { ip, port, flag, holder }) if !is_chosen => {
            let by = holder.clone().unwrap_or_else(|| "another program".to_owned());
            (ServeError::PortTaken { ip, port, flag, holder }, by)
        }
        other => return other,
    };
    for port in (1..=PORTS_TRIED_MAX)
        .filter_map(|step| address.port().checked_add(step))
        .filter(|port| *port != kept_for_others)
    {
        if let Ok(listener) = TcpListener::bind(SocketAddr::new(address.ip(), port)).await {
            tracing::warn!(
                "port {} is taken by {by}, which goes on; serving on {port} instead (choose \
                    another with {flag})",
                address.port()
            );
            return Ok(listener);
        }
    }
    Err(taken)
}

/// Both listeners, and where they are reached.
struct Listeners {
    lan: TcpListener,
    admin: TcpListener,
    lan_port: u16,
    ready: Ready,
}

impl Listeners {
    async fn bind(options: &ServeOptions) -> Result<Self, ServeError> {
        let lan = bind_or_next(
            SocketAddr::new(options.host, options.port),
            "--port",
            options.port_is_chosen,
            options.admin_port,
        )
        .await?;
        let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let admin_address = SocketAddr::new(localhost, options.admin_port);
        let admin =
            bind_or_next(admin_address, "--admin-port", options.admin_port_is_chosen, options.port)
                .await?;
        let port_of = |listener: &TcpListener, asked: u16| {
            listener.local_addr().map_or(asked, |address| address.port())
        };
        let (lan_port, admin_port) =
            (port_of(&lan, options.port), port_of(&admin, options.admin_port));
        let reachable = crate::net::addresses::reachable(options.host);
        let reachable = reachable.first().copied().unwrap_or(localhost);
        let ready = Ready {
            url: format!("http://{}", SocketAddr::new(reachable, lan_port)),
            admin_url: format!("http://127.0.0.1:{admin_port}"),
        };
        Ok(Self { lan, admin, lan_port, ready })
    }
}

impl Node {
    /// Binds both listeners and writes `admin.json`.
    ///
    /// # Errors
    /// See [`ServeError`].
    pub async fn start(
        mut engine: Engine,
        trust: TrustStore,
        identity: Identity,
        data_dir: &Path,
        options: ServeOptions,
    ) -> Result<Self, ServeError> {
        let serving = key_file::lock_serving(data_dir)?
            .ok_or_else(|| ServeError::AlreadyServing(data_dir.to_owned()))?;
        let file_lock = match file_lock::lock(engine.database(), data_dir) {
            Locking::Held(lock) => Some(lock),
            Locking::Other(by) => {
                return Err(ServeError::FileIsServed {
                    database: engine.database().to_owned(),
                    by,
                });
            }
            Locking::Impossible => None,
        };
        let Listeners { lan, admin, lan_port, ready } = Listeners::bind(&options).await?;
        let admin_token = Secret::random(&mut system_rng());
        let file = AdminFile {
            url: ready.admin_url.clone(),
            token: to_base64url(admin_token.expose()),
            pid: std::process::id(),
            lan_port,
        };
        let path = data_dir.join(ADMIN_FILE);
        serde_json::to_vec(&file)
            .map_err(std::io::Error::other)
            .and_then(|content| key_file::write_private(data_dir, &path, &content, Overwrite::Yes))
            .map_err(|source| ServeError::AdminFile { path, source })?;
        if let Err(error) = trust.set_setting(LAN_PORT_SETTING, &lan_port.to_string()) {
            tracing::warn!(%error, "the port could not be remembered");
        }
        if let Err(error) = trust.note_own_name(&options.name) {
            tracing::warn!(%error, "the name could not be remembered");
        }
        let database = engine.database().to_owned();
        // Whoever meets a lock steps back and lets the others have their turn: see
        // EngineHandle::call.
        engine.wait_for_writers(BUSY_TIMEOUT);
        let engine = EngineHandle::spawn(engine).map_err(ServeError::Thread)?;
        let settings = NodeSettings {
            name: options.name,
            lan_ip: options.host,
            lan_port,
            host_names: options.host_names,
            current: Arc::new(CurrentSettings::new(options.settings, data_dir)),
            approval: options.approval,
            pairing_seconds: options.pairing_seconds,
            installation: key_file::installation(data_dir),
            asks_at_first_contact: options.asks_at_first_contact,
        };
        let state =
            Arc::new(NodeState::new(engine, trust, identity, admin_token, &database, settings));
        let places = Places {
            database: database.clone(),
            data_dir: data_dir.to_owned(),
            program: options.program,
        };
        let page = Arc::new(Page::new(Arc::clone(&state), places));
        let (discovery, live) = (options.discovery, options.live);
        Ok(Self {
            state,
            page,
            ready,
            lan,
            admin,
            database,
            data_dir: data_dir.to_owned(),
            discovery,
            live,
            _serving: serving,
            _file_lock: file_lock,
        })
    }

    /// The READY line's content.
    #[must_use]
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// What the handlers share.
    #[must_use]
    pub fn state(&self) -> &Arc<NodeState> {
        &self.state
    }

    /// What the person at this machine sees in the browser.
    #[must_use]
    pub fn page(&self) -> &Arc<Page> {
        &self.page
    }

    /// Serves until `stop` says so, then removes `admin.json`.
    pub async fn run(self, stop: watch::Receiver<bool>) {
        let state = Arc::clone(&self.state);
        let told = {
            let mut stop = stop.clone();
            async move {
                // A sender that is gone means the same.
                drop(stop.wait_for(|stop| *stop).await);
                state.stop();
            }
        };
        let discovering = async {
            if self.discovery {
                discovery::run(Arc::clone(&self.state), stop.clone()).await;
            }
        };
        let staying_in_step = async {
            if let Some(options) = self.live {
                live::run(Arc::clone(&self.state), options, stop.clone()).await;
            }
        };
        tokio::join!(
            told,
            discovering,
            staying_in_step,
            lan::mirror_devices(&self.state),
            server::serve(
                self.lan,
                lan::router(Arc::clone(&self.state)),
                Arc::clone(&self.state.connections),
                stop.clone()
            ),
            server::serve(
                self.admin,
                page::router(self.page, admin::router(Arc::clone(&self.state))),
                Connections::new(Limits::LOOPBACK),
                stop.clone()
            ),
            file_watch::run(Arc::clone(&self.state), self.database, stop.clone()),
        );
        // Another node may have taken over meanwhile: its file is not ours to remove.
        if AdminFile::read(&self.data_dir).is_some_and(|file| file.pid == std::process::id()) {
            drop(std::fs::remove_file(self.data_dir.join(ADMIN_FILE)));
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_nobody_chose_gives_way_and_a_chosen_one_is_told_with_who_holds_it() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let given = bind_or_next(address, "--port", false, 0).await.unwrap();
        assert!(given.local_addr().unwrap().port() > address.port());
        let refused = bind_or_next(address, "--port", true, 0).await.unwrap_err().to_string();
        assert!(
            refused.contains(&format!("(process {})", std::process::id()))
                && refused.contains("--port"),
            "{refused}"
        );
        let skipped = address.port().saturating_add(1);
        let given = bind_or_next(address, "--port", false, skipped).await.unwrap();
        assert_ne!(given.local_addr().unwrap().port(), skipped, "kept for the other listener");
    }
}
