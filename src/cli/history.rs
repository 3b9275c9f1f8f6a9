//! Commands about what was written: the history of a row, and taking changes back.

use std::fmt::Write as _;

use anyhow::bail;
use serde_json::json;

use super::UndoArgs;
use super::context::Context;
use super::decide::{Names, row_words, told};
use crate::net::node_state::now;
use storysync_crdt::{FirstContactIs, Since, Stamp, Whose};
use storysync_engine::trust::identity::DeviceId;
use storysync_engine::{ChangeReport, DeviceUndo, EntryReport, UndoReport};

/// A change is told to have come later than it was written from so many milliseconds on: devices
/// that are in step take seconds, and clocks run apart by minutes.
const CAME_LATER_MS_MIN: i64 = 5 * 60 * 1000;
/// Changes of one row listed before it is taken back.
const UNDONE_LISTED_MAX: usize = 5;

/// When a change was written, as its author says.
fn claimed(written: &ChangeReport) -> String {
    match (&written.at, &written.claimed) {
        (Some(at), _) => at.clone(),
        (None, Some(claimed)) => format!("unreadable time {}", told(&json!(claimed))),
        (None, None) => "time unknown".to_owned(),
    }
}

/// When a change came and who brought it, where that is not what its author says.
fn came(written: &ChangeReport, names: &Names) -> Option<String> {
    let received_at = written.received_at.as_deref()?;
    let instant = |text: &str| Stamp::parse(text).map(Stamp::unix_ms);
    let apart = match (written.at.as_deref().and_then(instant), instant(received_at)) {
        (Some(at), Some(received)) => received.saturating_sub(at).saturating_abs(),
        _ => i64::MAX,
    };
    let by = names.name(written.brought_by.as_deref());
    match (apart > CAME_LATER_MS_MIN, written.brought_by == written.device) {
        (false, true) => None,
        (false, false) => Some(format!("brought by {by}")),
        (true, true) => Some(format!("came {received_at}")),
        (true, false) => Some(format!("came {received_at}, brought by {by}")),
    }
}

pub(super) fn describe_entry(entry: &EntryReport, names: &Names, text: &mut String) {
    let written = &entry.written;
    let came = came(written, names).map(|came| format!("; {came}")).unwrap_or_default();
    let _ = writeln!(
        text,
        "{}  {}  {} by {}{came}",
        claimed(written),
        written.change.get(..12).unwrap_or(&written.change),
        entry.action,
        names.name(written.device.as_deref())
    );
    for field in &entry.fields {
        let _ = match field.old.is_null() {
            true => writeln!(text, "    {}: {}", field.name, told(&field.new)),
            false => {
                writeln!(text, "    {}: {} → {}", field.name, told(&field.old), told(&field.new))
            }
        };
    }
}

pub(super) fn history(context: &Context, table: &str, uuid: &str) -> anyhow::Result<()> {
    let (identity, trust, mut engine) = context.reading()?;
    let names = Names::of(&identity, &trust)?;
    let uuid = &engine.row_by_words(table, uuid, now())?;
    let entries = engine.history(table, uuid, now())?;
    let name = engine.row_name(table, uuid)?;
    context.print(
        &json!({ "entity_type": table, "sync_uuid": uuid, "row_name": name, "history": entries }),
        |text| {
            let _ = writeln!(text, "{}", row_words(table, name.as_deref(), uuid));
            for entry in &entries {
                describe_entry(entry, &names, text);
            }
        },
    )
}

fn describe_undo(undo: &UndoReport, names: &Names, text: &mut String) {
    let row = row_words(&undo.entity_type, undo.row_name.as_deref(), &undo.sync_uuid);
    let _ = writeln!(
        text,
        "{row}{}",
        if undo.row == "stays" { String::new() } else { format!(": {}", undo.row) }
    );
    for field in &undo.fields {
        let _ = writeln!(text, "    {}: {} → {}", field.name, told(&field.old), told(&field.new));
    }
    if !undo.overwritten.is_empty() {
        let _ = writeln!(text, "    written again since, stays: {}", undo.overwritten.join(", "));
    }
    for written in undo.changes.iter().take(UNDONE_LISTED_MAX) {
        if let Some(came) = came(written, names) {
            let by = names.name(written.device.as_deref());
            let _ = writeln!(text, "    says {} by {by}; {came}", claimed(written));
        }
    }
    if undo.changes.len() > UNDONE_LISTED_MAX {
        let _ = writeln!(text, "    and {} more", undo.changes.len() - UNDONE_LISTED_MAX);
    }
}

pub(super) fn undo(context: &Context, args: &UndoArgs) -> anyhow::Result<()> {
    let identity = context.identity()?;
    let trust = context.trust()?;
    let names = Names::of(&identity, &trust)?;
    if let (Some(table), Some(uuid)) = (&args.table, &args.uuid) {
        let (mut engine, _) = context.engine(&identity)?;
        let uuid = &engine.row_by_words(table, uuid, now())?;
        let undone = engine.undo_change(table, uuid, args.change.as_deref(), now())?;
        context.note_decision(&identity, &format!("a change of {table}/{uuid} was taken back"))?;
        return context.print(&json!({ "undone": [undone], "done": true }), |text| {
            describe_undo(&undone, &names, text);
            text.push_str("Taken back; it travels with the next sync, and can be undone itself.\n");
        });
    }
    let (Some(words), Some(since)) = (&args.device, &args.since) else {
        bail!("name a row, or a device with --device and --since")
    };
    let device = match words.as_str() {
        "this" => identity.public_key(),
        words => match DeviceId::parse(words).and_then(|id| id.key()) {
            Some(key) => key,
            None => trust.find_by_words(words)?.identity_key,
        },
    };
    let mut which = Since::of(device, *since);
    if args.only_written {
        which.whose = Whose::Written;
    }
    if args.first_contact {
        which.first_contact = FirstContactIs::AsReceived;
    }
    let (mut engine, _) = context.engine(&identity)?;
    let done = if args.yes {
        engine.undo_device(&which, now())?
    } else {
        engine.plan_undo(&which, now())?
    };
    if args.yes {
        context.note_decision(
            &identity,
            &format!(
                "what {} wrote or brought was taken back, in {} rows",
                DeviceId::of_key(&device),
                done.undone.len()
            ),
        )?;
    }
    let told = json!({ "undone": done.undone, "first_contact_left": done.first_contact_left,
        "done": args.yes });
    context.print(&told, |text| describe_device_undo(&done, args.yes, &names, text))
}

fn describe_device_undo(done: &DeviceUndo, is_done: bool, names: &Names, text: &mut String) {
    let DeviceUndo { undone, first_contact_left } = done;
    for undo in undone {
        describe_undo(undo, names, text);
    }
    let changed =
        undone.iter().filter(|undo| !undo.fields.is_empty() || undo.row != "stays").count();
    let _ = match (changed, is_done) {
        (0, _) => writeln!(text, "Nothing that device wrote since then is left to take back."),
        (rows, true) => {
            writeln!(text, "{rows} rows taken back; it travels with the next sync.")
        }
        (rows, false) => writeln!(text, "{rows} rows would be taken back; add --yes to do it."),
    };
    if *first_contact_left > 0 {
        let _ = writeln!(
            text,
            "{first_contact_left} changes came when the two devices first met and say that they \
                are older: they are left; --first-contact takes them, too."
        );
    }
}
