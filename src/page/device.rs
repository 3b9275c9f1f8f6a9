//! One paired device: how it stands, what it sent, and what can be done about it, up to sending it
//! away and taking back what it wrote.

use std::sync::Arc;

use axum::Form;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use storysync_crdt::{Since, Stamp};
use storysync_engine::store::peers::LogLine;
use storysync_engine::store::trust::{Pausing, RevokedBy, TrustedDevice};
use storysync_engine::trust::identity::{DeviceId, safety_number};

use super::facts::Facts;
use super::home::standing;
use super::row::changed;
use super::shell::{Place, around};
use super::telling::{escaped, moment, moment_ms, name_of, readable, row_link};
use super::visit::Visit;
use super::words::Words;
use crate::net::node_state::now;
use crate::net::reply::Refusal;
use crate::net::{admin, device_admin, lan};
use crate::printable;

/// Rows a device changed that are told.
const SENT_SHOWN: usize = 30;
/// Rows told of what taking back would change.
const UNDO_SHOWN: usize = 50;

fn find(visit: &Visit, id: &str) -> Result<TrustedDevice, Refusal> {
    let devices = visit.page.node.trust.devices()?;
    devices
        .into_iter()
        .find(|device| device.device_id.as_str() == id)
        .ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, visit.words.say("device-unknown")))
}

/// The view.
pub(super) async fn view(visit: Visit, Path(id): Path<String>) -> Response {
    match made(&visit, &id).await {
        Ok(markup) => visit.show(markup),
        Err(refusal) => visit.refused(&refusal),
    }
}

async fn made(visit: &Visit, id: &str) -> Result<Markup, Refusal> {
    let words = visit.words;
    let device = find(visit, id)?;
    let facts = Facts::gather(&visit.page).await?;
    let lines =
        visit.page.node.engine.call(|engine| engine.log_lines(admin::LOG_LINES_SHOWN)).await??;
    let sent: Vec<&LogLine> =
        lines.iter().filter(|line| line.device_id == id).take(SENT_SHOWN).collect();
    let own = visit.page.node.identity.public_key();
    let stands = facts.devices.iter().find(|known| known.device_id == id);
    let content = html! {
        section.card {
            p {
                @match stands {
                    Some(stands) => { (standing(words, stands)) }
                    None => { (words.say("device-not-paired")) }
                }
            }
            dl {
                dt { (words.say("device-paired")) }
                dd { (moment_ms(words, device.paired_at)) }
                dt { (words.say("device-addresses")) }
                dd {
                    @if device.addresses.is_empty() { (words.say("device-no-address")) }
                    (device.addresses.join(", "))
                }
                @if let Some(stands) = stands {
                    dt { (words.say("device-traffic")) }
                    dd { (words.with("device-traffic-words", &[
                        ("pulled", stands.exchanges.pulled.into()),
                        ("pushed", stands.exchanges.pushed.into())])) }
                }
                @if device.is_owner {
                    dt { (words.say("device-owner")) } dd { (words.say("value-yes")) }
                }
                @if let Some(at) = device.twice_at {
                    dt { (words.say("device-twice")) } dd { (moment_ms(words, at)) }
                }
                dt { (words.say("device-number")) }
                dd { code { (safety_number(&own, &device.identity_key)) } br;
                    span.quiet { (words.say("device-number-how")) } }
            }
        }
        (sent_rows(words, &sent))
        @if device.is_active() { (ways(words, &device)) }
        (taking_back(words, id))
    };
    Ok(around(visit, Place::Within, &name_of(&device), facts.status.conflicts, &content))
}

fn sent_rows(words: Words, sent: &[&LogLine]) -> Markup {
    html! {
        section aria-labelledby="sent" {
            h2 #sent { (words.say("device-sent")) }
            @if sent.is_empty() { p.quiet { (words.say("device-sent-nothing")) } }
            ul.list {
                @for line in sent {
                    li {
                        div {
                            @match &line.sync_uuid {
                                Some(uuid) => { (row_link(words, &line.entity_type, uuid,
                                    line.row_name.as_deref())) }
                                None => { span.table { (readable(&line.entity_type)) } }
                            }
                            p.quiet {
                                (words.say(&format!("operation-{}", operation(&line.operation))))
                                " · " (moment(words, Some(&line.at)))
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The documented operations, anything else as an update.
fn operation(word: &str) -> &'static str {
    match word {
        "create" => "create",
        "delete" => "delete",
        _ => "update",
    }
}

fn ways(words: Words, device: &TrustedDevice) -> Markup {
    let path = format!("/device/{}", escaped(device.device_id.as_str()));
    html! {
        section aria-labelledby="ways" {
            h2 #ways { (words.say("device-ways")) }
            form.setting method="post" action={ (path) "/name" } {
                label for="device-name" { (words.say("device-rename")) }
                div.inline {
                    input #device-name name="name" maxlength="80" autocomplete="off"
                        value=(name_of(device)) title=(words.say("device-rename-how"));
                    button { (words.say("device-rename-save")) }
                }
            }
            div.actions {
                form method="post" action={ (path) "/pause" } {
                    @if device.paused_at.is_some() {
                        button name="pausing" value="resume" { (words.say("device-resume")) }
                    } @else {
                        button name="pausing" value="pause" { (words.say("device-pause")) }
                    }
                }
                @if !device.is_owner {
                    form method="post" action={ (path) "/owner" } {
                        button title=(words.say("device-make-owner-how")) {
                            (words.say("device-make-owner")) }
                    }
                }
                a.button.danger href={ (path) "/revoke" } { (words.say("device-revoke")) }
            }
        }
    }
}

fn taking_back(words: Words, id: &str) -> Markup {
    html! {
        section aria-labelledby="undo" {
            h2 #undo { (words.say("undo-title")) }
            p { (words.say("undo-how")) }
            form.inline method="post" action={ "/device/" (escaped(id)) "/undo" } {
                label for="hours" { (words.say("undo-since")) }
                select #hours name="hours" {
                    @for (hours, key) in [(1, "undo-hour"), (24, "undo-day"), (168, "undo-week")] {
                        option value=(hours) { (words.say(key)) }
                    }
                }
                button { (words.say("undo-look")) }
            }
        }
    }
}

/// Asks before a device is sent away.
pub(super) async fn ask_revoke(visit: Visit, Path(id): Path<String>) -> Response {
    let device = match find(&visit, &id) {
        Ok(device) => device,
        Err(refusal) => return visit.refused(&refusal),
    };
    let words = visit.words;
    let name = name_of(&device);
    let path = format!("/device/{}", escaped(&id));
    let content = html! {
        section.card.warning {
            p { (words.with("revoke-what", &[("name", (&name).into())])) }
            p { (words.say("revoke-keeps")) }
            form.actions method="post" action={ (path) "/revoke" } {
                button.danger { (words.with("revoke-go", &[("name", (&name).into())])) }
                a.button href=(path) { (words.say("page-cancel")) }
            }
        }
    };
    let title = words.with("revoke-title", &[("name", (&name).into())]);
    visit.show(around(&visit, Place::Within, &title, 0, &content))
}

/// Sends a device away.
pub(super) async fn revoke(visit: Visit, Path(id): Path<String>) -> Response {
    let device = match find(&visit, &id) {
        Ok(device) => device,
        Err(refusal) => return visit.refused(&refusal),
    };
    let node = Arc::clone(&visit.page.node);
    match lan::revoke(&node, &device.device_id, RevokedBy::Here, None).await {
        Ok(_) => {
            let name = name_of(&device);
            visit.done(visit.words.with("revoked", &[("name", (&name).into())]), "/")
        }
        Err(refusal) => visit.failed(refusal.detail, &format!("/device/{}", escaped(&id))),
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct NameForm {
    #[serde(default)]
    name: String,
}

/// Calls a device something else here.
pub(super) async fn rename(
    visit: Visit,
    Path(id): Path<String>,
    Form(form): Form<NameForm>,
) -> Response {
    let back = format!("/device/{}", escaped(&id));
    match device_admin::call(&visit.page.node, &id, &form.name).await {
        Ok(name) => {
            let name = printable(&name).into_owned();
            visit.done(visit.words.with("device-called", &[("name", (&name).into())]), &back)
        }
        Err(refusal) => visit.failed(refusal.detail, &back),
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct PauseForm {
    pausing: String,
}

/// Pauses a device, or lets it go on.
pub(super) async fn pause(
    visit: Visit,
    Path(id): Path<String>,
    Form(form): Form<PauseForm>,
) -> Response {
    let back = format!("/device/{}", escaped(&id));
    let (pausing, key) = if form.pausing == "pause" {
        (Pausing::Pause, "device-paused")
    } else {
        (Pausing::Resume, "device-resumed")
    };
    match device_admin::set(&visit.page.node, &id, pausing) {
        Ok(_) => visit.done(visit.words.say(key), &back),
        Err(refusal) => visit.failed(refusal.detail, &back),
    }
}

/// Makes a device an owner.
pub(super) async fn owner(visit: Visit, Path(id): Path<String>) -> Response {
    let back = format!("/device/{}", escaped(&id));
    let made = find(&visit, &id).and_then(|device| {
        visit.page.node.trust.make_owner(&device.device_id, now().unix_ms())?;
        Ok(())
    });
    match made {
        Ok(()) => visit.done(visit.words.say("device-is-owner"), &back),
        Err(refusal) => visit.failed(refusal.detail, &back),
    }
}

/// A device stays that another says was lost.
pub(super) async fn keep(visit: Visit, Path(id): Path<String>) -> Response {
    let kept = find(&visit, &id).and_then(|device| {
        visit.page.node.trust.keep(&device.device_id, now().unix_ms())?;
        Ok(())
    });
    match kept {
        Ok(()) => visit.done(visit.words.say("device-kept"), "/"),
        Err(refusal) => visit.failed(refusal.detail, "/"),
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct UndoForm {
    /// How far back from now; only in the first step.
    #[serde(default)]
    hours: Option<u32>,
    /// Since when, as the first step settled it.
    #[serde(default)]
    since: Option<String>,
    /// What was shown is to be done.
    #[serde(default)]
    yes: Option<String>,
}

/// Shows what taking back would change; with a yes, does it.
pub(super) async fn undo(
    visit: Visit,
    Path(id): Path<String>,
    Form(form): Form<UndoForm>,
) -> Response {
    let back = format!("/device/{}", escaped(&id));
    let Some(key) = DeviceId::parse(&id).and_then(|id| id.key()) else {
        return visit.failed(visit.words.say("device-unknown"), "/");
    };
    let hours = i64::from(form.hours.unwrap_or(1));
    let since = form.since.as_deref().and_then(Stamp::parse).unwrap_or_else(|| {
        Stamp::from_unix_ms(now().unix_ms().saturating_sub(hours.saturating_mul(3_600_000)))
    });
    let which = Since::of(key, since);
    let yes = form.yes.is_some();
    let engine = &visit.page.node.engine;
    let asked = engine
        .call(move |engine| {
            engine.capture(now())?;
            if yes { engine.undo_device(&which, now()) } else { engine.plan_undo(&which, now()) }
        })
        .await;
    let (rows, left) = match asked {
        Ok(Ok(found)) => (found.undone, found.first_contact_left),
        Ok(Err(error)) => return visit.failed(error.to_string(), &back),
        Err(gone) => return visit.failed(gone.to_string(), &back),
    };
    let words = visit.words;
    // Others are told because something of them was written again since, and stays.
    let changing = rows.iter().filter(|row| !row.fields.is_empty() || row.row != "stays").count();
    if yes {
        let said = words.with("undone", &[("count", changing.into())]);
        visit.page.node.note_decision(None, "what a device wrote was taken back");
        return visit.done(said, &back);
    }
    // Others are told because something of them was written again since, and stays.
    let changing = rows.iter().filter(|row| !row.fields.is_empty() || row.row != "stays").count();
    let content = html! {
        p { (words.with("undo-would", &[("count", changing.into())])) " "
            (moment(words, Some(&since.to_rfc3339()))) }
        ul.list {
            @for row in rows.iter().take(UNDO_SHOWN) {
                li {
                    div {
                        (row_link(words, &row.entity_type, &row.sync_uuid,
                            row.row_name.as_deref()))
                        @if row.row != "stays" {
                            p { (words.say(&format!("undo-row-{}", printable(&row.row)))) }
                        }
                        @for field in &row.fields { (changed(words, field)) }
                        @if !row.overwritten.is_empty() {
                            p.quiet { (words.say("undo-overwritten")) " "
                                (row.overwritten.iter().map(|name| readable(name))
                                    .collect::<Vec<_>>().join(", ")) }
                        }
                    }
                }
            }
        }
        @if left > 0 { p.quiet { (words.with("undo-left", &[("count", left.into())])) } }
        @if rows.len() > UNDO_SHOWN {
            p { (words.with("preview-more", &[("count", (rows.len() - UNDO_SHOWN).into())])) }
        }
        form.actions method="post" action={ (back) "/undo" } {
            input type="hidden" name="since" value=(since.to_rfc3339());
            input type="hidden" name="yes" value="yes";
            @if changing > 0 {
                button.danger { (words.with("undo-go", &[("count", changing.into())])) }
            }
            a.button href=(back) { (words.say("page-cancel")) }
        }
    };
    visit.show(around(&visit, Place::Within, &words.say("undo-title"), 0, &content))
}
