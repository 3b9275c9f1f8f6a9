//! The first view: whether all is well, or what to do; devices, what waits, what happened last.

use std::sync::Arc;

use axum::Form;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;
use storysync_engine::{HoldDecision, HoldReport, RecentChange};

use super::Page;
use super::facts::{DeviceFacts, Facts, Overall};
use super::gate::without_session;
use super::session::is_admin_link;
use super::shell::{Place, around};
use super::telling::{Names, escaped, moment, moment_ms, readable, row_link};
use super::visit::{Visit, is_browser, visit_of};
use super::words::Words;
use crate::net::decisions;
use crate::net::node_state::now;
use crate::net::presence::Standing;
use crate::net::reply::{self, Refusal};
use crate::printable;

/// Changes told on the first view.
const RECENT_SHOWN: usize = 12;
/// Fields of one change told on the first view.
const FIELDS_SHOWN: usize = 4;

#[derive(Debug, Deserialize)]
pub(super) struct FrontQuery {
    token: Option<String>,
    next: Option<String>,
}

/// `GET /`: to a program the node's health; to a browser the first view, or the way in.
pub(super) async fn front(
    State(page): State<Arc<Page>>,
    Query(query): Query<FrontQuery>,
    headers: HeaderMap,
) -> Response {
    let headers = &headers;
    if let Some(token) = &query.token {
        return enter(&page, token, query.next.as_deref(), headers);
    }
    if !is_browser(headers) {
        return reply::json(&page.node.health());
    }
    match visit_of(&page, headers) {
        Some(visit) => match view(&visit).await {
            Ok(markup) => visit.show(markup),
            Err(refusal) => visit.refused(&refusal),
        },
        None => without_session(headers),
    }
}

/// Lets a browser in that was opened with a link, and takes the link out of its address.
fn enter(page: &Arc<Page>, token: &str, next: Option<&str>, headers: &HeaderMap) -> Response {
    // Only plain paths of this page: `//host`, `/\\host` or `/<tab>/host` would be another's.
    let is_plain = |next: &&str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte);
        next.starts_with('/') && !next.starts_with("//") && next.bytes().all(plain)
    };
    let to = next.filter(is_plain).unwrap_or("/");
    if !page.sessions.takes(token) && !is_admin_link(page, token) {
        return match visit_of(page, headers) {
            Some(_) => Redirect::to(to).into_response(),
            None => without_session(headers),
        };
    }
    let mut response = Redirect::to(to).into_response();
    if let Ok(cookie) = page.sessions.begin().parse() {
        response.headers_mut().insert(axum::http::header::SET_COOKIE, cookie);
    }
    response
}

async fn view(visit: &Visit) -> Result<Markup, Refusal> {
    let page = &visit.page;
    let facts = Facts::gather(page).await?;
    let recent =
        page.node.engine.call(move |engine| engine.recent_changes(RECENT_SHOWN, now())).await??;
    let names = Names::of(visit)?;
    let words = visit.words;
    let content = html! {
        (overall(words, &facts))
        (waiting(words, &facts, &names))
        (devices(words, &facts))
        (latest(words, &recent, &names))
    };
    Ok(around(visit, Place::Home, &words.say("home-title"), facts.status.conflicts, &content))
}

/// One sentence that says whether all is well.
pub(super) fn overall(words: Words, facts: &Facts) -> Markup {
    let away: Vec<&str> = facts
        .devices
        .iter()
        .filter(|device| device.exchanges.state == Standing::Away)
        .map(|device| device.device_name.as_str())
        .collect();
    let away = printable(&away.join(", ")).into_owned();
    let (class, sentence) = match facts.overall {
        Overall::Unreadable => ("bad", words.say("home-unreadable")),
        Overall::Waiting => {
            ("waits", words.with("home-waiting", &[("count", facts.waiting().into())]))
        }
        Overall::Alone => ("waits", words.say("home-alone")),
        Overall::Syncing => ("busy", words.say("home-syncing")),
        Overall::Away => ("busy", words.with("home-away", &[("names", (&away).into())])),
        Overall::Partly => ("good", words.with("home-partly", &[("names", (&away).into())])),
        Overall::InStep => ("good", words.say("home-in-step")),
    };
    html! {
        section.overall.(class) data-overall=(class) {
            p { strong { (sentence) } }
            @if facts.overall == Overall::Alone {
                p { a.button href="/pair" { (words.say("home-pair")) } }
            }
            @if facts.status.conflicts > 0 {
                p { a.button href="/conflicts" {
                    (words.with("home-decide", &[("count", facts.status.conflicts.into())])) } }
            }
        }
    }
}

fn waiting(words: Words, facts: &Facts, names: &Names) -> Markup {
    html! {
        @if facts.notices > 0 {
            section.card {
                p { (words.with("home-notices", &[("count", facts.notices.into())])) " "
                    a href="/conflicts#notices" { (words.say("home-notices-look")) } }
            }
        }
        @for hold in &facts.holds { (held(words, hold, names)) }
        @for question in &facts.questions {
            section.card.warning data-question=(question.device_id) {
                @let of = names.name(words, Some(question.device_id.as_str()));
                @let by = names.name(words, Some(question.teller.as_str()));
                p { (words.with("question", &[("by", (&by).into()), ("of", (&of).into())])) " "
                    (moment_ms(words, question.asked_at)) }
                div.actions {
                    form method="post"
                        action={ "/device/" (escaped(question.device_id.as_str())) "/revoke" } {
                        button.danger { (words.with("question-revoke", &[("of", (&of).into())])) }
                    }
                    form method="post"
                        action={ "/device/" (escaped(question.device_id.as_str())) "/keep" } {
                        button { (words.with("question-keep", &[("of", (&of).into())])) }
                    }
                }
            }
        }
    }
}

fn held(words: Words, hold: &HoldReport, names: &Names) -> Markup {
    let by = names.name(words, Some(&hold.device_id));
    let tables: Vec<String> = hold.entity_type.split(", ").map(readable).collect();
    let tables = tables.join(", ");
    let deleted = hold.rows - hold.emptied - hold.unlinked;
    html! {
        section.card.warning data-hold=(hold.id) {
            p {
                (words.with("hold", &[("by", (&by).into()), ("deleted", deleted.into()),
                    ("emptied", hold.emptied.into()), ("tables", (&tables).into())]))
                " " (moment(words, Some(&hold.at)))
            }
            form.actions method="post" action={ "/hold/" (escaped(&hold.id)) } {
                button name="decision" value="refuse" { (words.say("hold-refuse")) }
                button.danger name="decision" value="approve" { (words.say("hold-approve")) }
            }
        }
    }
}

fn devices(words: Words, facts: &Facts) -> Markup {
    html! {
        section aria-labelledby="devices" {
            h2 #devices { (words.say("home-devices")) }
            @if facts.devices.is_empty() { p.quiet { (words.say("home-no-devices")) } }
            ul.list {
                @for device in &facts.devices {
                    li data-device=(device.device_id) data-state=(state_word(device)) {
                        span.dot.(state_word(device)) aria-hidden="true" {}
                        div {
                            a href={ "/device/" (escaped(&device.device_id)) } {
                                bdi { (printable(&device.device_name)) } }
                            p.quiet { (standing(words, device)) }
                        }
                    }
                }
            }
            @if !facts.nearby.is_empty() {
                h3 { (words.say("home-nearby")) }
                ul.list {
                    @for nearby in &facts.nearby {
                        li {
                            span.dot aria-hidden="true" {}
                            div {
                                bdi { (nearby.device_name.as_deref().map_or_else(
                                    || words.say("device-unnamed"),
                                    |name| printable(name).into_owned())) }
                                p.quiet { a href="/pair" { (words.say("home-pair-it")) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn state_word(device: &DeviceFacts) -> &'static str {
    match device.exchanges.state {
        _ if device.rests => "rests",
        Standing::Away => "away",
        Standing::Syncing => "syncing",
        Standing::Connected | Standing::Listening => "in-step",
    }
}

/// How a device stands, in a sentence.
pub(super) fn standing(words: Words, device: &DeviceFacts) -> Markup {
    let progress = &device.exchanges.progress;
    html! {
        @match device.exchanges.state {
            _ if device.rests => { (words.say("standing-rests")) }
            Standing::Syncing => {
                @let done = progress.pulled + progress.pushed;
                @let all = done + progress.remaining;
                (words.with("standing-syncing", &[("percent", percent(done, all).into())]))
                " " progress max=(all.max(1)) value=(done)
                    aria-label=(words.say("standing-progress")) {}
            }
            Standing::Connected | Standing::Listening if device.pending == 0 => {
                (words.say("standing-in-step"))
            }
            Standing::Connected | Standing::Listening => {
                (words.with("standing-pending", &[("count", device.pending.into())]))
            }
            Standing::Away => {
                @if device.last_sync_at.is_some() {
                    (words.say("standing-away")) " " (moment(words, device.last_sync_at.as_deref()))
                } @else { (words.say("standing-never")) }
                @if device.pending > 0 {
                    " · " (words.with("standing-pending", &[("count", device.pending.into())]))
                }
                @if let Some(error) = &device.exchanges.error {
                    br; (printable(error))
                }
            }
        }
    }
}

fn percent(done: usize, all: usize) -> usize {
    (done * 100).checked_div(all).unwrap_or(0)
}

fn latest(words: Words, recent: &[RecentChange], names: &Names) -> Markup {
    html! {
        section aria-labelledby="latest" {
            h2 #latest { (words.say("home-latest")) }
            @if recent.is_empty() { p.quiet { (words.say("home-nothing-yet")) } }
            ul.list.changes {
                @for change in recent {
                    li {
                        div {
                            (row_link(words, &change.entity_type, &change.sync_uuid,
                                change.row_name.as_deref()))
                            p.quiet {
                                (happened(words, change)) " · "
                                (names.name(words, change.entry.written.device.as_deref())) " · "
                                (moment(words, change.entry.written.at.as_deref()))
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What a change did, in words.
fn happened(words: Words, change: &RecentChange) -> String {
    let fields: Vec<String> =
        change.entry.fields.iter().take(FIELDS_SHOWN).map(|field| readable(&field.name)).collect();
    let mut fields = fields.join(", ");
    if change.entry.fields.len() > FIELDS_SHOWN {
        fields.push('…');
    }
    match change.entry.action.as_str() {
        "edited" | "rewritten" if !fields.is_empty() => fields,
        action => words.say(&format!("action-{action}")),
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct HoldForm {
    decision: String,
}

/// Lets held deletions through, or takes them back.
pub(super) async fn hold(
    visit: Visit,
    Path(id): Path<String>,
    Form(form): Form<HoldForm>,
) -> Response {
    let (decision, key) = if form.decision == "approve" {
        (HoldDecision::Approve, "hold-approved")
    } else {
        (HoldDecision::Refuse, "hold-refused")
    };
    match decisions::decide_hold(&visit.page.node, id, decision).await {
        Ok(_) => visit.done(visit.words.say(key), "/"),
        Err(refusal) => visit.failed(refusal.detail, "/"),
    }
}
