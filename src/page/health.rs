//! Whether everything syncing needs is as it should be: what the checks found, backups, room.

use std::path::Path;
use std::sync::Arc;

use axum::response::{IntoResponse as _, Redirect, Response};
use maud::{Markup, html};
use storysync_engine::store::trust::Event;

use super::lock;
use super::program::Finding;
use super::shell::{Place, around};
use super::telling::{moment, moment_ms, size};
use super::visit::Visit;
use super::words::Words;
use crate::net::node_state::now;
use crate::net::reply::Refusal;
use crate::printable;

/// Lines of the log of devices shown.
const EVENTS_SHOWN: i64 = 50;
/// Backups listed.
const BACKUPS_SHOWN: usize = 20;

/// The view. Begins a check when there was none yet.
pub(super) async fn view(visit: Visit) -> Response {
    let never = {
        let checks = lock(&visit.page.checks);
        checks.at.is_none() && !checks.running && checks.failed.is_none()
    };
    if never {
        begin(&visit);
    }
    let status = match visit.ask(|engine| engine.status()).await {
        Ok(status) => status,
        Err(refusal) => return visit.refused(&refusal),
    };
    let events = match visit.page.node.trust.events(EVENTS_SHOWN) {
        Ok(events) => events,
        Err(error) => return visit.refused(&Refusal::from(error)),
    };
    let words = visit.words;
    let places = &visit.page.places;
    let backups = backups(&places.data_dir.join("backups"));
    let file = std::fs::metadata(&places.database).map(|file| file.len()).unwrap_or(0);
    let content = html! {
        (checked(&visit))
        section aria-labelledby="numbers" {
            h2 #numbers { (words.say("health-numbers")) }
            dl {
                dt { (words.say("health-rows")) } dd { (status.entities) }
                dt { (words.say("health-changes")) } dd { (status.changes) }
                dt { (words.say("health-parked")) } dd { (status.parked) }
                @if status.quarantined > 0 {
                    dt { (words.say("health-quarantined")) } dd { (status.quarantined) }
                }
                dt { (words.say("health-file")) } dd { (places.database.display()) " · "
                    (size(file)) }
                dt { (words.say("health-data")) } dd { (places.data_dir.display()) }
            }
        }
        (backups_shown(words, &backups, visit.page.program.is_some()))
        (log(words, &events))
    };
    let title = words.say("health-title");
    visit.show(around(&visit, Place::Health, &title, status.conflicts, &content))
}

fn checked(visit: &Visit) -> Markup {
    let words = visit.words;
    let checks = lock(&visit.page.checks);
    let mark = |finding: &Finding| match finding.level.as_str() {
        "fine" => ("good", words.say("finding-fine")),
        "note" => ("busy", words.say("finding-note")),
        _ => ("bad", words.say("finding-problem")),
    };
    html! {
        section aria-labelledby="checks" data-checking=[checks.running.then_some("yes")] {
            h2 #checks { (words.say("health-checks")) }
            @if checks.running { p role="status" { (words.say("health-checking")) } }
            @if let Some(why) = &checks.failed {
                p.said.failed { (words.say("health-failed")) " " (printable(why)) }
            }
            @if let Some(at) = checks.at {
                p.quiet { (words.say("health-checked")) " "
                    (moment(words, Some(&at.to_rfc3339()))) }
                ul.findings {
                    @for finding in &checks.findings {
                        @let (class, word) = mark(finding);
                        li.(class) { strong { (word) } " " (printable(&finding.sentence)) }
                    }
                }
            }
            @if !checks.running {
                form method="post" action="/health/check" {
                    button { (words.say("health-check")) }
                }
            }
        }
    }
}

fn backups_shown(words: Words, backups: &[Backup], can_make: bool) -> Markup {
    html! {
        section aria-labelledby="backups" {
            h2 #backups { (words.say("health-backups")) }
            @if can_make {
                form method="post" action="/health/backup" {
                    button { (words.say("health-backup")) }
                }
            }
            @if backups.is_empty() { p.quiet { (words.say("health-no-backups")) } }
            ul.list {
                @for backup in backups.iter().take(BACKUPS_SHOWN) {
                    li { div { (printable(&backup.name)) p.quiet { (size(backup.bytes)) " · "
                        (moment_ms(words, backup.at)) } } }
                }
            }
            @if !backups.is_empty() {
                details { summary { (words.say("health-restore")) }
                    p { (words.say("health-restore-how")) } }
            }
        }
    }
}

fn log(words: Words, events: &[Event]) -> Markup {
    html! {
        section aria-labelledby="log" {
            h2 #log { (words.say("health-log")) }
            @if events.is_empty() { p.quiet { (words.say("home-nothing-yet")) } }
            ul.list.log {
                @for event in events {
                    li {
                        div {
                            @if !event.device_name.is_empty() {
                                bdi { (printable(&event.device_name)) } ": "
                            }
                            (printable(&event.detail))
                            @if event.times > 1 { " (" (event.times) "×)" }
                            p.quiet { (moment_ms(words, event.at)) }
                        }
                    }
                }
            }
        }
    }
}

/// A copy of the database.
struct Backup {
    name: String,
    bytes: u64,
    /// Unix time in ms.
    at: i64,
}

/// The backups, the newest first.
fn backups(folder: &Path) -> Vec<Backup> {
    let mut found: Vec<Backup> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let about = entry.metadata().ok()?;
            let since = about.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
            Some(Backup {
                name: entry.file_name().to_string_lossy().into_owned(),
                bytes: about.len(),
                at: i64::try_from(since.as_millis()).ok()?,
            })
        })
        .collect();
    found.sort_by_key(|backup| std::cmp::Reverse(backup.at));
    found
}

/// Checks in the background; live views see it end.
fn begin(visit: &Visit) {
    let Some(program) = visit.page.program.clone() else { return };
    {
        let mut checks = lock(&visit.page.checks);
        if checks.running {
            return;
        }
        checks.running = true;
    }
    let page = Arc::clone(&visit.page);
    tokio::spawn(async move {
        let found = program.check().await;
        let mut checks = lock(&page.checks);
        checks.running = false;
        checks.ended += 1;
        match found {
            Ok(findings) => {
                checks.findings = findings;
                checks.failed = None;
                checks.at = Some(now());
            }
            Err(why) => checks.failed = Some(why),
        }
    });
}

/// Checks again.
pub(super) async fn check(visit: Visit) -> Response {
    begin(&visit);
    Redirect::to("/health").into_response()
}

/// Makes a backup now.
pub(super) async fn backup(visit: Visit) -> Response {
    let Some(program) = &visit.page.program else {
        return Redirect::to("/health").into_response();
    };
    match program.run(&["backup"]).await {
        Ok(_) => visit.done(visit.words.say("health-backed-up"), "/health"),
        Err(why) => visit.failed(why, "/health"),
    }
}
