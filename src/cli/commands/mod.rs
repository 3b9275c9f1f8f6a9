//! The commands, one function each.
#![expect(
    clippy::indexing_slicing,
    reason = "a JSON value that lacks a key reads as null, it never panics"
)]

mod devices;
mod file;
mod log;
mod status;
mod sync;

use std::fmt::Write as _;

use anyhow::Context as _;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;

use super::context::{Context, entropy, print_raw, runtime};
use super::{ServeArgs, flags};
use crate::config::{ADMIN_PORT, FirstContactSetting, LAN_PORT};
use crate::net::live::LiveOptions;
use crate::net::node_state::now;
use crate::node::{Node, ServeOptions};
pub(super) use devices::{devices, keep, make_owner, pause, questions, rename, revoke};
pub(super) use file::{backup, uninstall};
pub(super) use log::{LogArgs, log};
pub(in crate::cli) use status::status;
use storysync_engine::Engine;
use storysync_engine::trust::pairing::WINDOW_SECONDS;
pub(in crate::cli) use sync::{contact_choice, sync};

pub(super) fn serve(context: &Context, args: &ServeArgs) -> anyhow::Result<()> {
    let context = &context.with_flags(flags::of_serve(args))?;
    let config = &context.config;
    let (identity, trust) = context.identity_and_trust()?;
    let options = ServeOptions {
        host: config.host(),
        port: config.port.unwrap_or(LAN_PORT),
        port_is_chosen: config.port.is_some(),
        admin_port_is_chosen: config.admin_port.is_some(),
        admin_port: config.admin_port.unwrap_or(ADMIN_PORT),
        name: context.name(args.name.as_deref(), &trust)?,
        approval: config.approval(),
        pairing_seconds: config.pairing_seconds.unwrap_or(WINDOW_SECONDS),
        host_names: config.host_names.clone(),
        asks_at_first_contact: config.first_contact == Some(FirstContactSetting::Ask),
        discovery: config.discovery.unwrap_or(true),
        live: config.live.unwrap_or(true).then(|| LiveOptions {
            peers: config.peers.clone(),
            contact: contact_choice(config.first_contact),
        }),
        settings: context.settings.clone(),
    };
    let (engine, _) = context.engine(&identity)?;
    runtime()?.block_on(async {
        let node = Node::start(engine, trust, identity, &context.data_dir, options).await?;
        let (stop, stopped) = watch::channel(false);
        // Whoever reads READY may end the node at once.
        let told_to_end = told_to_end()?;
        let serving = tokio::spawn({
            let ready = format!("READY {}\n", serde_json::to_string(node.ready())?);
            print_raw(ready.as_bytes())?;
            node.run(stopped)
        });
        until_told_to_stop(told_to_end, args.exit_with_parent).await?;
        tracing::info!("stopping");
        stop.send_replace(true);
        serving.await.context("the node ended badly")
    })
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
        let mut buffer = [0; 256];
        let mut stdin = tokio::io::stdin();
        while stdin.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
    };
    tokio::select! {
        () = told_to_end => {}
        result = tokio::signal::ctrl_c() => result.context("the system refuses to tell of Ctrl-C")?,
        () = parent_gone => {}
    }
    Ok(())
}

pub(super) fn init(context: &Context) -> anyhow::Result<()> {
    let identity = context.identity()?;
    Engine::init(context.engine_options(&identity), entropy(), now())?;
    context.print(&json!({ "db": context.database }), |text| {
        let _ = writeln!(
            text,
            "Created {} with Storymaster's tables, ready for syncing.",
            context.database.display()
        );
    })
}

pub(super) fn migrate(context: &Context, dry_run: bool) -> anyhow::Result<()> {
    let report = if dry_run {
        let options = storysync_engine::EngineOptions {
            device_key: [0; 32],
            ..context.engine_options(&storysync_engine::trust::identity::Identity::from_secrets(
                &[0; 32], &[0; 32],
            ))
        };
        Engine::plan_migration(&options)?
    } else {
        context.engine(&context.identity()?)?.1
    };
    context.print(&report, |text| {
        if report.is_empty() {
            let _ = writeln!(
                text,
                "{} is prepared for syncing already; nothing to do.",
                context.database.display()
            );
            return;
        }
        let rows: usize = report.tables.iter().map(|table| table.rows).sum();
        let verb = if dry_run { "Would prepare" } else { "Prepared" };
        let _ = writeln!(
            text,
            "{verb} {} tables with {rows} rows in {}.",
            report.tables.len(),
            context.database.display()
        );
        for table in report.tables.iter().filter(|table| {
            !table.columns_added.is_empty()
                || table.uuids_derived > 0
                || table.dangling_references > 0
        }) {
            let _ = write!(text, "  {}: {} rows", table.table, table.rows);
            if !table.columns_added.is_empty() {
                let _ = write!(text, "; adds {}", table.columns_added.join(", "));
            }
            if table.uuids_derived > 0 {
                let _ = write!(text, "; {} rows get a uuid", table.uuids_derived);
            }
            if table.dangling_references > 0 {
                let _ = write!(
                    text,
                    "; {} references lead nowhere and stay as they are",
                    table.dangling_references
                );
            }
            text.push('\n');
        }
        if let Some(backup) = &report.backup {
            let _ = writeln!(text, "Every row was compared with the backup {}.", backup.display());
        } else {
            let _ = writeln!(
                text,
                "A backup would be made in {} first.",
                context.data_dir.join("backups").display()
            );
        }
    })
}

pub(super) fn document(context: &Context, table: &str, uuid: &str) -> anyhow::Result<()> {
    let (_, _, mut engine) = context.reading()?;
    let uuid = engine.row_by_words(table, uuid, now())?;
    print_raw(&engine.document(table, &uuid, now())?)
}
