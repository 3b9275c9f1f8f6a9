//! `verify`: is this file sound, and does another device show the same?

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::commands::contact_choice;
use super::context::{Context, runtime};
use super::decide::row_words;
use crate::net::addresses::Candidate;
use crate::net::client::{Caller, ClientError, Line, Trail};
use crate::net::handle::EngineHandle;
use crate::net::node_state::now;
use storysync_engine::store::key_file;
use storysync_engine::{DigestRequest, Digests, ROWS_ASKED_MAX};

/// Rows that differ and are named at once.
const DIFFERENCES_MAX: usize = 1_000;

/// A row the two devices do not show alike.
#[derive(Debug, Serialize)]
struct Difference {
    entity_type: String,
    sync_uuid: String,
    /// What people call it, where this device knows it.
    row_name: Option<String>,
    /// Whether it stands in this device's table.
    here: bool,
    /// Whether it stands in the other's.
    there: bool,
    /// Columns that differ, where it stands in both.
    columns: Vec<String>,
}

#[derive(Debug, Default, Serialize)]
struct Comparison {
    device_id: String,
    device_name: String,
    tables: usize,
    rows: usize,
    differences: Vec<Difference>,
    /// Changes this device has not told the other yet.
    pending: i64,
}

#[derive(Debug, Default, Serialize)]
struct Verdict {
    ok: bool,
    complaints: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<Comparison>,
}

impl Verdict {
    fn describe(&self, text: &mut String) {
        for complaint in &self.complaints {
            let _ = writeln!(text, "{complaint}");
        }
        if self.complaints.is_empty() {
            text.push_str(
                "This database is sound: SQLite, the change log and every row were checked.\n",
            );
        }
        let Some(device) = &self.device else { return };
        if device.differences.is_empty() {
            let _ = writeln!(
                text,
                "{} shows the same: {} rows in {} tables.",
                device.device_name, device.rows, device.tables
            );
        }
        for difference in &device.differences {
            let row = row_words(
                &difference.entity_type,
                difference.row_name.as_deref(),
                &difference.sync_uuid,
            );
            let _ = match (difference.here, difference.there) {
                (true, false) => writeln!(text, "{row}: only here"),
                (false, true) => writeln!(text, "{row}: only on {}", device.device_name),
                _ => writeln!(text, "{row}: {} differ", difference.columns.join(", ")),
            };
        }
    }
}

pub(super) fn verify(context: &Context, device: Option<&str>) -> anyhow::Result<()> {
    let (identity, trust, mut engine) = context.reading()?;
    let mut verdict = Verdict { complaints: engine.verify(now())?, ..Verdict::default() };
    if let Some(words) = device {
        let device = trust.find_by_words(words)?;
        if !device.is_active() {
            bail!(
                "{} is not paired with this device any more; pair it again to compare the two",
                device.name
            );
        }
        let pending = engine.pending_for(device.device_id.as_str())?;
        let engine = EngineHandle::spawn(engine).context("the system refuses another thread")?;
        let (name, installation, static_addresses) = (
            context.name(None, &trust)?,
            key_file::installation(&context.data_dir),
            context.config.peer_addresses(),
        );
        let caller = Caller {
            identity: &identity,
            trust: &trust,
            engine: &engine,
            own_port: None,
            name: &name,
            installation: &installation,
            static_addresses: &static_addresses,
            contact: contact_choice(context.config.first_contact),
        };
        let mut comparison = Comparison {
            device_id: device.device_id.to_string(),
            device_name: device.name.clone(),
            pending,
            ..Comparison::default()
        };
        runtime()?.block_on(async {
            let addresses = device.addresses.iter().chain(&static_addresses);
            let candidates: Vec<Candidate> = addresses.map(Candidate::known).collect();
            let mut line = caller.open(&device, &candidates, &mut Trail::default()).await?;
            compare(&caller, &mut line, &mut comparison).await
        })?;
        verdict.device = Some(comparison);
    }
    let differing = verdict.device.as_ref().map_or(0, |device| device.differences.len());
    verdict.ok = verdict.complaints.is_empty() && differing == 0;
    context.print(&verdict, |text| verdict.describe(text))?;
    match (verdict.complaints.len(), differing, &verdict.device) {
        (0, 0, _) => Ok(()),
        (0, differing, Some(device)) => bail!(
            "{differing} rows differ from {}; run `storysync sync`, then verify again",
            device.device_name
        ),
        (complaints, ..) => bail!(
            "{complaints} things are wrong with this database; see above \
            (`storysync migrate` puts missing triggers back)"
        ),
    }
}

async fn ours(caller: &Caller<'_>, request: &DigestRequest) -> Result<Digests, ClientError> {
    let request = request.clone();
    Ok(caller.engine.call(move |engine| engine.digests(&request, now())).await??)
}

async fn compare<'a>(
    caller: &Caller<'a>,
    line: &mut Line<'a>,
    comparison: &mut Comparison,
) -> Result<(), ClientError> {
    let whole = DigestRequest::default();
    let (here, there) =
        (ours(caller, &whole).await?.tables, caller.digests(line, &whole).await?.tables);
    comparison.tables = here.len();
    comparison.rows = here.values().map(|table| table.rows).sum();
    // A table one app lacks is carried along and shown nowhere: no difference.
    let differing = here
        .iter()
        .filter(|(name, digest)| there.get(*name).is_some_and(|other| other != *digest))
        .map(|(name, _)| name.clone());
    for table in differing.collect::<Vec<_>>() {
        compare_table(caller, line, table, comparison).await?;
        if comparison.differences.len() >= DIFFERENCES_MAX {
            break;
        }
    }
    Ok(())
}

async fn compare_table<'a>(
    caller: &Caller<'a>,
    line: &mut Line<'a>,
    table: String,
    comparison: &mut Comparison,
) -> Result<(), ClientError> {
    let request = DigestRequest { entity_type: Some(table.clone()), rows: None };
    let (here, there) =
        (ours(caller, &request).await?.rows, caller.digests(line, &request).await?.rows);
    let names: BTreeSet<&String> = here.keys().chain(there.keys()).collect();
    let differing: Vec<String> = names
        .into_iter()
        .filter(|uuid| here.get(*uuid) != there.get(*uuid))
        .take(DIFFERENCES_MAX)
        .cloned()
        .collect();
    for some in differing.chunks(ROWS_ASKED_MAX) {
        let request = DigestRequest { entity_type: Some(table.clone()), rows: Some(some.to_vec()) };
        let (ours, theirs) =
            (ours(caller, &request).await?.columns, caller.digests(line, &request).await?.columns);
        for uuid in some {
            let (entity_type, sync_uuid) = (table.clone(), uuid.clone());
            let row_name = caller
                .engine
                .call(move |engine| engine.row_name(&entity_type, &sync_uuid))
                .await??;
            comparison.differences.push(Difference {
                entity_type: table.clone(),
                sync_uuid: uuid.clone(),
                row_name,
                here: here.contains_key(uuid),
                there: there.contains_key(uuid),
                columns: differing_columns(ours.get(uuid), theirs.get(uuid)),
            });
        }
    }
    Ok(())
}

fn differing_columns(
    ours: Option<&BTreeMap<String, String>>,
    theirs: Option<&BTreeMap<String, String>>,
) -> Vec<String> {
    let (Some(ours), Some(theirs)) = (ours, theirs) else { return Vec::new() };
    let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    names.into_iter().filter(|name| ours.get(*name) != theirs.get(*name)).cloned().collect()
}
