//! `storysync status`: how the node stands.

use crate::cli::context::Context;
use crate::net::device_list_json;
use crate::net::node_state::now;
use crate::node::AdminFile;
use serde_json::json;
use std::fmt::Write as _;
use std::time::Duration;

/// How long `status` waits for the serving node.
pub(super) const LIVE_WITHIN: Duration = Duration::from_secs(2);

pub(in crate::cli) fn status(context: &Context) -> anyhow::Result<()> {
    let (identity, trust, mut engine) = context.reading()?;
    let name = context.name(None, &trust)?;
    engine.capture(now())?;
    let status = engine.status()?;
    let brakes = engine.brakes(now())?;
    let devices = trust.devices()?;
    let mut pending = 0;
    for device in devices.iter().filter(|device| device.is_active()) {
        pending = pending.max(engine.pending_for(device.device_id.as_str())?);
    }
    let last_sync_at = devices
        .iter()
        .filter_map(|device| device.last_sync_at)
        .max()
        .map(|at| storysync_crdt::Stamp::from_unix_ms(at).to_rfc3339());
    let list = device_list_json(&devices, &engine.mirrored_devices()?);
    let serving = AdminFile::read(&context.data_dir).map(|file| file.lan_port);
    // Nothing when the node does not answer: the rest is known without it.
    let live = serving
        .and_then(|_| {
            crate::cli::pair::admin_call_within(context, "GET", "/api/live", None, LIVE_WITHIN).ok()
        })
        .unwrap_or_default();
    let life = engine.life()?;
    let json = json!({
        "device_id": identity.device_id().as_str(),
        "name": name,
        "db": context.database,
        "entities": status.entities,
        "pending": pending,
        "parked": status.parked,
        "conflicts": status.conflicts,
        "devices": list["devices"],
        "last_sync_at": last_sync_at,
        "quarantined": status.quarantined,
        "serving_on_port": serving,
        "brakes": brakes,
        "live": live["devices"],
        "nearby": live["nearby"],
        "log_began_anew": life.map(|(life, at)| json!({ "because": life,
            "at": storysync_crdt::Stamp::from_unix_ms(at).to_rfc3339() })),
    });
    context.print(&json, |text| {
        let _ = writeln!(text, "{name} ({})", identity.device_id());
        let _ = writeln!(text, "database   {}", context.database.display());
        let _ =
            writeln!(text, "rows       {} ({} waiting for others)", status.entities, status.parked);
        let _ = writeln!(text, "to send    {pending} changes");
        let _ = writeln!(text, "clashes    {}", status.conflicts);
        if status.quarantined > 0 {
            let _ = writeln!(
                text,
                "refused    {} changes other devices sent; `storysync log` says \
                whose",
                status.quarantined
            );
        }
        let _ = writeln!(text, "last sync  {}", last_sync_at.as_deref().unwrap_or("never"));
        let _ = match serving {
            Some(port) => writeln!(text, "serving    on port {port}"),
            None => writeln!(text, "serving    no; start it with `storysync serve`"),
        };
        for device in devices.iter().filter(|device| device.is_active()) {
            let exchanges = &live["devices"][device.device_id.as_str()];
            let _ = match exchanges["state"].as_str() {
                Some("connected" | "listening") => writeln!(text, "in step    {}", device.name),
                Some("syncing") => {
                    let progress = &exchanges["progress"];
                    writeln!(
                        text,
                        "syncing    {}: {} rows pulled, {} pushed, {} changes to come",
                        device.name, progress["pulled"], progress["pushed"], progress["remaining"]
                    )
                }
                Some(_) => writeln!(
                    text,
                    "away       {}: {}",
                    device.name,
                    exchanges["error"].as_str().unwrap_or("it was not reached yet")
                ),
                None => Ok(()),
            };
        }
        for device in live["nearby"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|device| device["is_paired"] == false)
        {
            let name = device["device_name"].as_str().unwrap_or("a device without a name");
            let _ = writeln!(
                text,
                "nearby     {name}, not paired: `storysync pair show` here or \
                there"
            );
        }
        if let Some((life, _)) = life {
            let _ = writeln!(text, "note       {}", life.sentence());
        }
        for brake in &brakes {
            let _ = writeln!(
                text,
                "waiting    {} in {} by {} since {}: `storysync approve {}`, or `storysync approve \
                    {} --refuse`",
                brake.what(),
                brake.entity_type,
                brake.device_id,
                brake.at,
                brake.id,
                brake.id
            );
        }
    })
}
