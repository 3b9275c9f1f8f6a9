//! Commands by which a person decides: conflicts, holds. And how values, rows and devices are
//! worded.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::bail;
use serde_json::json;

use super::ResolveArgs;
use super::context::Context;
use super::table::table;
use crate::kind_of;
use crate::net::decisions::{ENDED_SHOWN, ended_json};
use crate::net::node_state::now;
use storysync_engine::store::trust::TrustStore;
use storysync_engine::trust::identity::Identity;
use storysync_engine::trust::pairing::name_without_number;
use storysync_engine::{Choice, ConflictReport, HoldDecision, NoticeReport, Take};

/// Characters of a device's id that tell it from another of its name: the first say that it is an
/// id, the last which.
const ID_BEGINNING_CHARS: usize = 4;
const ID_ENDING_CHARS: usize = 6;
/// Characters of a value shown in a line.
const VALUE_CHARS_MAX: usize = 300;

/// A value for a person: texts clipped, bytes by their size and what they look like.
pub(super) fn told(value: &serde_json::Value) -> String {
    if let Some(storysync_crdt::Value::Blob(bytes)) = storysync_engine::translate::from_json(value)
    {
        return match kind_of(&bytes) {
            Some(kind) => format!("({} bytes, {kind})", bytes.len()),
            None => format!("({} bytes)", bytes.len()),
        };
    }
    let text = value.to_string();
    if text.chars().count() <= VALUE_CHARS_MAX {
        return text;
    }
    format!(
        "{}… ({} characters)",
        text.chars().take(VALUE_CHARS_MAX).collect::<String>(),
        text.chars().count()
    )
}

/// A row for a person: its name first.
pub(super) fn row_words(table: &str, name: Option<&str>, uuid: &str) -> String {
    match name {
        Some(name) => format!("{table} “{name}” ({uuid})"),
        None => format!("{table} {uuid}"),
    }
}

/// What devices are called.
pub(super) struct Names {
    own: String,
    others: Vec<(String, String)>,
}

impl Names {
    pub(super) fn new(own: String, others: Vec<(String, String)>) -> Self {
        Self { own, others }
    }

    pub(super) fn of(identity: &Identity, trust: &TrustStore) -> anyhow::Result<Self> {
        let others = trust
            .devices()?
            .into_iter()
            .map(|device| (device.device_id.to_string(), device.name))
            .collect();
        Ok(Self { own: identity.device_id().to_string(), others })
    }

    pub(super) fn name(&self, device: Option<&str>) -> String {
        match device {
            None => "before syncing".to_owned(),
            Some(id) if id == self.own => "this device".to_owned(),
            Some(id) => match self.others.iter().find(|(known, _)| known == id) {
                None => id.to_owned(),
                // Numbers behind a name are this device's own: where several call themselves alike,
                // ids tell them apart for good.
                Some((_, name))
                    if self
                        .others
                        .iter()
                        .filter(|(_, other)| {
                            name_without_number(other) == name_without_number(name)
                        })
                        .count()
                        > 1 =>
                {
                    let ending: String = id
                        .chars()
                        .skip(id.chars().count().saturating_sub(ID_ENDING_CHARS))
                        .collect();
                    format!(
                        "{name} ({}…{ending})",
                        id.chars().take(ID_BEGINNING_CHARS).collect::<String>()
                    )
                }
                Some((_, name)) => name.clone(),
            },
        }
    }
}

/// The conflicts that are over, and how they ended.
pub(super) fn ended(context: &Context) -> anyhow::Result<()> {
    let (identity, trust, mut engine) = context.reading()?;
    let names = Names::of(&identity, &trust)?;
    engine.conflicts(now())?;
    let ended = ended_json(&engine.ended_conflicts(ENDED_SHOWN)?);
    context.print(&json!({ "ended": ended }), |text| {
        if ended.is_empty() {
            text.push_str("No conflict has ended yet.\n");
        }
        let rows = ended.iter().map(|conflict| {
            let word = |key: &str| conflict[key].as_str().unwrap_or_default().to_owned();
            let by = conflict["ended_by"]
                .as_str()
                .map_or(String::new(), |device| format!(" by {}", names.name(Some(device))));
            let row =
                row_words(&word("entity_type"), conflict["row_name"].as_str(), &word("sync_uuid"));
            let kind = format!("{} conflict", word("kind").replace('_', "/"));
            vec![word("ended_at"), kind, row, format!("{}{by}", word("ending"))]
        });
        text.push_str(&table(&[], rows));
    })
}

pub(super) fn conflicts(context: &Context) -> anyhow::Result<()> {
    let (identity, trust, mut engine) = context.reading()?;
    let conflicts = engine.conflicts(now())?;
    let holds = engine.holds(now())?;
    let notices = engine.notices(now())?;
    let names = Names::of(&identity, &trust)?;
    context.print(&json!({ "conflicts": conflicts, "notices": notices }), |text| {
        if conflicts.is_empty() {
            text.push_str("Nothing conflicts.\n");
        }
        for hold in &holds {
            let _ = writeln!(text, "{}", hold.sentence(&names.name(Some(&hold.device_id))));
        }
        for conflict in &conflicts {
            describe(conflict, &names, text);
        }
        for notice in &notices {
            describe_notice(notice, &names, text);
        }
    })
}

fn describe_notice(notice: &NoticeReport, names: &Names, text: &mut String) {
    let NoticeReport { id, entity_type, sync_uuid, row_name, field, value, device, at } = notice;
    let (row, value) = (row_words(entity_type, row_name.as_deref(), sync_uuid), told(value));
    let by = names.name(device.as_deref());
    let _ = writeln!(
        text,
        "{id}  {field} in {row}: what {by} wrote gave way to what was saved here, \
            {at}\n    {value}\n  \
         `storysync conflicts resolve {id} --take theirs` puts it back, `--take mine` lets it go"
    );
}

pub(super) fn resolve(context: &Context, args: &ResolveArgs) -> anyhow::Result<()> {
    let identity = context.identity()?;
    let (mut engine, _) = context.engine(&identity)?;
    if let Some(all) = &args.all {
        let take = if all == "mine" { Take::Mine } else { Take::Theirs };
        let (decided, left) = engine.resolve_all(&take, None, now())?;
        context.note_decision(&identity, &format!("{decided} conflicts were decided: {all}"))?;
        context.print(&json!({ "resolved": decided, "left": left }), |text| {
            let _ = writeln!(
                text,
                "{decided} conflicts decided; the decision travels with the next sync."
            );
            for reason in &left {
                let _ = writeln!(text, "one is left: {reason}");
            }
        })?;
        if !left.is_empty() {
            bail!(
                "{} conflicts could not be decided so; `storysync conflicts` lists them",
                left.len()
            );
        }
        return Ok(());
    }
    let Some(id) = &args.id else {
        bail!("name the conflict, or decide all with --all mine|theirs")
    };
    let take = match args.take.as_deref() {
        None => None,
        Some(words) => Some(match Take::parse(words) {
            Some(take) => take,
            None => Take::Device(context.trust()?.find_by_words(words)?.identity_key),
        }),
    };
    let mut fields = BTreeMap::new();
    for (name, text) in &args.field {
        let parsed = serde_json::from_str(text)
            .ok()
            .and_then(|json| storysync_engine::translate::from_json(&json));
        fields.insert(
            name.clone(),
            parsed.unwrap_or_else(|| storysync_crdt::Value::from(text.as_str())),
        );
    }
    engine.resolve(id, &Choice { take, fields }, None, now())?;
    context.note_decision(&identity, &format!("conflict {id} was decided"))?;
    context.print(&json!({ "resolved": 1 }), |text| {
        text.push_str("Decided; the decision travels with the next sync.\n")
    })
}

pub(super) fn describe(conflict: &ConflictReport, names: &Names, text: &mut String) {
    let row = row_words(&conflict.entity_type, conflict.row_name.as_deref(), &conflict.sync_uuid);
    let _ =
        writeln!(text, "{}  {} conflict in {row}", conflict.id, conflict.kind.replace('_', "/"));
    if let Some(reason) = &conflict.reason {
        let _ = writeln!(
            text,
            "  this device's table refuses it: {reason}; change the value in the app, or give one \
                with --field NAME=VALUE"
        );
    }
    for field in &conflict.fields {
        let _ = writeln!(text, "  {} (was {})", field.name, told(&field.base));
        for value in &field.values {
            let shown = if value.value == field.shown { "  ← shown" } else { "" };
            let leads_to =
                value.row_name.as_ref().map(|name| format!("“{name}” ")).unwrap_or_default();
            let _ = writeln!(
                text,
                "    {leads_to}{}  by {}, {}{shown}",
                told(&value.value),
                names.name(value.device.as_deref()),
                value.at.as_deref().unwrap_or("time unknown")
            );
        }
    }
    for row in &conflict.rows {
        let _ = writeln!(
            text,
            "  about {}",
            row_words(&row.entity_type, row.row_name.as_deref(), &row.sync_uuid)
        );
    }
}

pub(super) fn approve(context: &Context, id: &str, refuse: bool) -> anyhow::Result<()> {
    let identity = context.identity()?;
    let (mut engine, _) = context.engine(&identity)?;
    let decision = if refuse { HoldDecision::Refuse } else { HoldDecision::Approve };
    let rows = engine.decide_hold(id, decision, now())?;
    context.note_decision(
        &identity,
        &format!(
            "what the deletion guard held ({id}) was {}",
            if refuse { "refused" } else { "approved" }
        ),
    )?;
    context.print(&json!({ "id": id, "rows": rows, "approved": !refuse }), |text| {
        let _ = match refuse {
            false => writeln!(text, "Let through, in {rows} rows."),
            true => writeln!(
                text,
                "Taken back, in {rows} rows: they stay as they are shown here; that travels with \
                    the next sync."
            ),
        };
    })
}
