//! Commands about the database file as a whole: a copy of it, and taking storysync out of it.

use std::fmt::Write as _;

use anyhow::bail;
use serde_json::json;
use storysync_engine::Engine;
use storysync_engine::store::file_lock::{self, Locking};
use storysync_engine::store::key_file;

use crate::cli::context::Context;
use crate::net::node_state::now;

pub(in crate::cli) fn backup(context: &Context) -> anyhow::Result<()> {
    let path = Engine::backup(&context.engine_options(&context.identity()?), now())?;
    context.print(&json!({ "backup": path }), |text| {
        let _ =
            writeln!(text, "The database was copied to {} and the copy checked.", path.display());
    })
}

pub(in crate::cli) fn uninstall(context: &Context, yes: bool) -> anyhow::Result<()> {
    if !yes {
        return would_uninstall(context);
    }
    let identity = context.identity()?;
    if let Some(owner) = context.other_owner(&identity)? {
        bail!(
            "{} belongs to the node of another data directory ({owner}): give its --data-dir",
            context.database.display()
        );
    }
    // Held until it is done: nobody begins to serve meanwhile.
    let Some(_serving) = key_file::lock_serving(&context.data_dir)? else {
        bail!("a node is serving this database: stop it first");
    };
    let _file = match file_lock::lock(&context.database, &context.data_dir) {
        Locking::Other(by) => bail!(
            "{} is served by another node{}: stop that one first",
            context.database.display(),
            by.map(|folder| format!(" (data directory {})", folder.display())).unwrap_or_default()
        ),
        Locking::Held(lock) => Some(lock),
        Locking::Impossible => None,
    };
    let report = Engine::uninstall(&context.engine_options(&identity), now())?;
    context.print(&report, |text| {
        let _ = writeln!(
            text,
            "{} triggers and {} tables were taken out of {}; the file as it was is {}. Keys and \
             the list of paired devices are still in {}.",
            report.triggers,
            report.tables,
            context.database.display(),
            report.backup.display(),
            context.data_dir.display()
        );
    })
}

/// What would be lost.
fn would_uninstall(context: &Context) -> anyhow::Result<()> {
    let (_, trust, mut engine) = context.reading()?;
    engine.capture(now())?;
    let status = engine.status()?;
    let mut pending = 0;
    for device in trust.devices()?.iter().filter(|device| device.is_active()) {
        pending = pending.max(engine.pending_for(device.device_id.as_str())?);
    }
    let told =
        json!({ "conflicts": status.conflicts, "parked": status.parked, "pending": pending });
    context.print(&told, |text| {
        let _ = writeln!(
            text,
            "This would take storysync's triggers and tables out of {}: every row stays as it is \
             shown, the history of all rows goes, {} conflicts end with what is shown, {} rows \
             that wait for others go, and {pending} changes were not told to every device yet. A \
             backup with everything is made first. Run it again with --yes to do it.",
            context.database.display(),
            status.conflicts,
            status.parked
        );
    })
}
