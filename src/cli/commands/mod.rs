//! The commands, one function each.
#![expect(
    clippy::indexing_slicing,
    reason = "a JSON value that lacks a key reads as null, it never panics"
)]

mod devices;
mod file;
mod log;
mod open;
mod serve;
mod status;
mod sync;

use std::fmt::Write as _;

use serde_json::json;

use super::context::{Context, entropy, print_raw};
use crate::net::node_state::now;
pub(super) use devices::{devices, keep, make_owner, pause, questions, rename, revoke};
pub(super) use file::{backup, uninstall};
pub(super) use log::{LogArgs, log};
pub(super) use open::open;
pub(super) use serve::serve;
pub(in crate::cli) use status::status;
use storysync_engine::Engine;
pub(in crate::cli) use sync::{contact_choice, sync};

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
