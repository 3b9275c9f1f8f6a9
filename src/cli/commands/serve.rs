//! `storysync serve`: a node in the foreground, until it is told to stop. With `--ask-first` a page
//! asks the person before anything is done to a database that needs something.

use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context as _;
use serde_json::json;
use storysync_engine::Engine;
use storysync_engine::trust::pairing::WINDOW_SECONDS;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::open::{LINK_VARIABLE, show_in_browser};
use super::sync::contact_choice;
use crate::cli::advice::sentence;
use crate::cli::context::{BUSY_TIMEOUT, Context, entropy, print_raw, runtime};
use crate::cli::{ServeArgs, flags};
use crate::config::{ADMIN_PORT, FirstContactSetting, LAN_PORT};
use crate::net::live::LiveOptions;
use crate::net::node_state::now;
use crate::node::{Node, ServeOptions};
use crate::page::{FirstRun, FirstRunEnd, Situation, random_words};

pub(in crate::cli) fn serve(context: &Context, args: &ServeArgs) -> anyhow::Result<()> {
    let link = std::env::var(LINK_VARIABLE).ok();
    runtime()?.block_on(async {
        let node = if args.ask_first {
            let link = Some(link.unwrap_or_else(random_words));
            let asking = Asking { context: context.clone(), args: args.clone(), link };
            let Some((node, unused)) = asking.until_it_starts().await? else { return Ok(()) };
            if let Some(link) = unused {
                node.page().expect_link(&link);
            }
            node
        } else {
            start(context, args).await?
        };
        let opened = args.open.then(|| format!("{}{}", node.ready().admin_url, node.page().link()));
        let state = Arc::clone(node.state());
        let (stop, stopped) = watch::channel(false);
        // Whoever reads READY may end the node at once.
        let told_to_end = told_to_end()?;
        let serving = tokio::spawn({
            let ready = format!("READY {}\n", serde_json::to_string(node.ready())?);
            print_raw(ready.as_bytes())?;
            node.run(stopped)
        });
        if let Some(url) = opened {
            tokio::task::spawn_blocking(move || show_in_browser(&url));
        }
        tokio::select! {
            told = until_told_to_stop(told_to_end, args.exit_with_parent) => told?,
            () = state.asked_to_end() => {}
        }
        tracing::info!("stopping");
        stop.send_replace(true);
        serving.await.context("the node ended badly")
    })
}

/// A node that listens, with the database prepared.
async fn start(context: &Context, args: &ServeArgs) -> anyhow::Result<Node> {
    let context = &context.with_flags(flags::of_serve(args))?;
    let (identity, trust) = context.identity_and_trust()?;
    let name = context.name(args.name.as_deref(), &trust)?;
    let options = options(context, name);
    let (engine, _) = context.engine(&identity)?;
    Ok(Node::start(engine, trust, identity, &context.data_dir, options).await?)
}

fn options(context: &Context, name: String) -> ServeOptions {
    let config = &context.config;
    ServeOptions {
        host: config.host(),
        port: config.port.unwrap_or(LAN_PORT),
        port_is_chosen: config.port.is_some(),
        admin_port_is_chosen: config.admin_port.is_some(),
        admin_port: config.admin_port.unwrap_or(ADMIN_PORT),
        name,
        approval: config.approval(),
        pairing_seconds: config.pairing_seconds.unwrap_or(WINDOW_SECONDS),
        host_names: config.host_names.clone(),
        asks_at_first_contact: config.first_contact == Some(FirstContactSetting::Ask),
        discovery: config.discovery.unwrap_or(true),
        live: config.live.unwrap_or(true).then(|| LiveOptions {
            peers: config.peers.clone(),
            contact: contact_choice(config.first_contact),
        }),
        program: std::env::current_exe().ok(),
        settings: context.settings.clone(),
    }
}

/// What is asked before there is a node, and with what it is started.
struct Asking {
    context: Context,
    args: ServeArgs,
    /// What opens the page; nothing once somebody used it.
    link: Option<String>,
}

impl Asking {
    /// Asks the person until the node starts; `None` when nobody asks any more. With the link,
    /// where nobody used it.
    async fn until_it_starts(mut self) -> anyhow::Result<Option<(Node, Option<String>)>> {
        let mut told_where = false;
        let mut agreed = false;
        let mut refused: Option<String> = None;
        loop {
            let situation = match refused.take() {
                Some(why) => Some(Situation::Refused { why }),
                None => self.situation(agreed)?,
            };
            let situation = match situation {
                Some(situation) => situation,
                None => match start(&self.context, &self.args).await {
                    Ok(node) => return Ok(Some((node, self.link))),
                    Err(error) => Situation::Refused { why: sentence(&error) },
                },
            };
            let (listener, port) = self.listener().await?;
            // The node takes this port over: the page that is open goes on there.
            self.args.admin_port = Some(port);
            if !told_where {
                let told = json!({ "admin_url": format!("http://127.0.0.1:{port}") });
                print_raw(format!("PAGE {told}\n").as_bytes())?;
                told_where = true;
            }
            let (identity, trust) = self.context.identity_and_trust()?;
            let own = identity.device_id();
            let (trust, link) = (Arc::new(trust), &mut self.link);
            let asked = tokio::select! {
                asked = FirstRun::ask(listener, trust, own.as_str(), link, situation) => asked,
                stopped = until_told_to_stop(told_to_end()?, self.args.exit_with_parent) => {
                    stopped?;
                    return Ok(None);
                }
            };
            agreed = false;
            match asked {
                None => return Ok(None),
                Some(FirstRunEnd::Prepare) => agreed = true,
                Some(FirstRunEnd::Create) => {
                    let options = self.context.engine_options(&identity);
                    let made = Engine::init(options, entropy(), now());
                    refused = made.err().map(|error| sentence(&error.into()));
                }
                Some(FirstRunEnd::Use(path)) => self.context.database = path,
                Some(FirstRunEnd::Again) => {}
                Some(FirstRunEnd::OtherPorts) => self.args.port = Some(0),
            }
        }
    }

    /// What keeps the node from starting that a person should say something to.
    fn situation(&self, agreed: bool) -> anyhow::Result<Option<Situation>> {
        let database = self.context.database.clone();
        if !database.exists() {
            return Ok(Some(Situation::NoDatabase { looked_at: database }));
        }
        match Engine::owner(&database, BUSY_TIMEOUT) {
            Ok(None) if !agreed => {}
            Ok(_) => return Ok(None),
            Err(error) => return Ok(Some(Situation::Refused { why: sentence(&error.into()) })),
        }
        let identity = self.context.identity()?;
        Ok(Some(match Engine::plan_migration(&self.context.engine_options(&identity)) {
            Ok(plan) => Situation::Unprepared {
                database,
                tables: plan.tables.len(),
                rows: plan.tables.iter().map(|table| table.rows).sum(),
                backups: self.context.data_dir.join("backups"),
            },
            Err(error) => Situation::Refused { why: sentence(&error.into()) },
        }))
    }

    /// The port of the page, or any free one.
    async fn listener(&self) -> anyhow::Result<(TcpListener, u16)> {
        let asked = self.args.admin_port.or(self.context.config.admin_port).unwrap_or(ADMIN_PORT);
        let at = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        let listener = match TcpListener::bind(at(asked)).await {
            Ok(listener) => listener,
            Err(_) => TcpListener::bind(at(0)).await.context("no port of this machine is free")?,
        };
        let port = listener.local_addr()?.port();
        Ok((listener, port))
    }
}

/// What a service manager sends (SIGTERM).
#[cfg(unix)]
fn told_to_end() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate =
        signal(SignalKind::terminate()).context("the system refuses to tell of signals")?;
    Ok(async move {
        let _ = terminate.recv().await;
    })
}

/// What a system says that logs off or shuts down.
#[cfg(windows)]
fn told_to_end() -> anyhow::Result<impl Future<Output = ()>> {
    let mut shutdown =
        tokio::signal::windows::ctrl_shutdown().context("the system refuses to tell of its end")?;
    Ok(async move {
        let _ = shutdown.recv().await;
    })
}

async fn until_told_to_stop(
    told_to_end: impl Future<Output = ()>,
    exit_with_parent: bool,
) -> anyhow::Result<()> {
    let parent_gone = async {
        if !exit_with_parent {
            return std::future::pending::<()>().await;
        }
        // A thread of its own: one of the runtime's would keep it from ending as long as the parent
        // says nothing.
        let (gone, told) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 256];
            let mut stdin = std::io::stdin();
            while stdin.read(&mut buffer).is_ok_and(|read| read > 0) {}
            let _ = gone.send(());
        });
        drop(told.await);
    };
    tokio::select! {
        () = told_to_end => {}
        result = tokio::signal::ctrl_c() => result.context("the system refuses to tell of Ctrl-C")?,
        () = parent_gone => {}
    }
    Ok(())
}
