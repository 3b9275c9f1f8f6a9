//! `storysync sync`: one exchange with each paired device.

use crate::cli::context::{Context, runtime};
use crate::cli::decide::row_words;
use crate::config::FirstContactSetting;
use crate::net::client::{Caller, PeerReport};
use crate::net::handle::EngineHandle;
use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use storysync_engine::exchange::{ContactChoice, Progress};
use storysync_engine::store::key_file;
use storysync_engine::store::trust::TrustedDevice;
use storysync_engine::{ContactQuestion, Relation};

/// The setting as the client takes it.
pub(in crate::cli) fn contact_choice(setting: Option<FirstContactSetting>) -> ContactChoice {
    match setting.unwrap_or_default() {
        FirstContactSetting::Judge => ContactChoice::Judge,
        FirstContactSetting::Copies => ContactChoice::Is(Relation::Copies),
        FirstContactSetting::Unrelated => ContactChoice::Is(Relation::Unrelated),
        FirstContactSetting::Ask => ContactChoice::Ask,
    }
}

pub(in crate::cli) fn sync(
    context: &Context,
    device: Option<&str>,
    first_contact: Option<FirstContactSetting>,
) -> anyhow::Result<()> {
    let (identity, trust) = context.identity_and_trust()?;
    let devices: Vec<TrustedDevice> = match device {
        Some(words) => vec![trust.find_by_words(words)?],
        None => trust.devices()?.into_iter().filter(TrustedDevice::is_active).collect(),
    };
    // Whoever names a paused device is told so; else it is left out, as its pause is meant.
    let (paused, devices): (Vec<_>, Vec<_>) =
        devices.into_iter().partition(|known| device.is_none() && known.paused_at.is_some());
    if devices.is_empty() && !paused.is_empty() {
        bail!("all paired devices are paused here: `storysync devices resume DEVICE` changes that");
    }
    if devices.is_empty() {
        bail!(
            "no device is paired with this one yet: run `storysync pair show` on one and \
                `storysync pair join` on the other"
        );
    }
    let own_port = Some(context.own_port(&trust)?);
    let name = context.name(None, &trust)?;
    let installation = key_file::installation(&context.data_dir);
    let (engine, _) = context.engine(&identity)?;
    let engine = EngineHandle::spawn(engine).context("the system refuses another thread")?;
    let static_addresses = context.config.peer_addresses();
    let reports: Vec<PeerReport> = runtime()?.block_on(async {
        let caller = Caller {
            identity: &identity,
            trust: &trust,
            engine: &engine,
            own_port,
            name: &name,
            installation: &installation,
            static_addresses: &static_addresses,
            contact: contact_choice(first_contact.or(context.config.first_contact)),
        };
        let mut reports = Vec::new();
        for device in &devices {
            let bar = progress_bar();
            let mut progress = |progress: Progress| {
                bar.set_message(format!(
                    "{}: {} rows pulled, {} pushed",
                    device.name, progress.pulled, progress.pushed
                ));
                bar.set_length((progress.pulled + progress.pushed + progress.remaining) as u64);
                bar.set_position((progress.pulled + progress.pushed) as u64);
            };
            reports.push(caller.sync(device, &mut progress).await);
            bar.finish_and_clear();
        }
        reports
    });
    context.print(&json!({ "peers": reports }), |text| {
        for peer in &reports {
            describe_report(peer, text);
        }
    })?;
    match reports.iter().filter(|peer| peer.error.is_some()).count() {
        0 => Ok(()),
        failed => {
            bail!("{failed} of {} devices could not be synced with; see above", reports.len())
        }
    }
}

/// Shown to a person only.
fn progress_bar() -> ProgressBar {
    let bar =
        if std::io::stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
    bar.set_style(
        ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    bar
}

/// How it went with one device.
fn describe_report(peer: &PeerReport, text: &mut String) {
    for notice in &peer.notices {
        let _ = writeln!(text, "{notice}");
    }
    if let Some(question) = &peer.first_contact_question {
        describe_question(question, text);
    }
    let _ = match &peer.error {
        Some(error) => writeln!(
            text,
            "{}: failed after {} rows pulled, {} pushed.",
            peer.name, peer.pulled, peer.pushed
        )
        .and_then(|()| writeln!(text, "  {error}")),
        None => writeln!(
            text,
            "{}: {} rows pulled, {} pushed, {} conflicts open.",
            peer.name, peer.pulled, peer.pushed, peer.conflicts
        ),
    };
}

/// What it would mean if two files were what they look like.
pub(super) fn describe_question(question: &ContactQuestion, text: &mut String) {
    for (pairs, what) in [
        (&question.taken_for_one, "These rows would be taken for one"),
        (&question.stay_apart, "These rows would stay two"),
    ] {
        if pairs.is_empty() {
            continue;
        }
        let _ = writeln!(text, "{what}, for example:");
        for pair in pairs {
            let here = row_words(&pair.entity_type, pair.here.as_deref(), &pair.here_uuid);
            let there = row_words(&pair.entity_type, pair.there.as_deref(), &pair.there_uuid);
            let _ = match pair.here_uuid == pair.there_uuid {
                true => writeln!(text, "  {here}, here and there"),
                false => writeln!(text, "  {here} here, {there} there"),
            };
        }
    }
}
