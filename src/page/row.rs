//! One row: what it holds, and who changed what and when; each change can be taken back.

use axum::Form;
use axum::extract::{Path, Query};
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use storysync_engine::{Engine, EngineError, EntryReport, FieldEntry, RowReport};

use super::difference::merged;
use super::shell::{Place, around};
use super::telling::{Names, is_long, line, moment, readable, row_name, row_path};
use super::visit::Visit;
use super::words::Words;
use crate::net::decisions::{self, UndoBody};
use crate::net::node_state::now;
use crate::printable;

/// Texts longer than this are told by the words that differ, in characters.
const PROSE_CHARS: usize = 40;
/// Changes on one page of a row's history.
const SHOWN: usize = 30;

#[derive(Debug, Deserialize)]
pub(super) struct HistoryQuery {
    #[serde(default)]
    page: usize,
}

/// The view.
pub(super) async fn view(
    visit: Visit,
    Path((table, uuid)): Path<(String, String)>,
    Query(query): Query<HistoryQuery>,
) -> Response {
    let asked = visit
        .ask(move |engine| {
            let mut entries = engine.history(&table, &uuid, now())?;
            let row = engine.row_report(&table, &uuid, now())?;
            name_references(engine, &mut entries, row.as_ref())?;
            Ok((table.clone(), uuid.clone(), entries, row, engine.open_conflicts()?))
        })
        .await;
    let (table, uuid, entries, row, open) = match asked {
        Ok(found) => found,
        Err(refusal) => return visit.refused(&refusal),
    };
    let names = match Names::of(&visit) {
        Ok(names) => names,
        Err(refusal) => return visit.refused(&refusal),
    };
    let words = visit.words;
    let pages = entries.len().div_ceil(SHOWN);
    let path = row_path(&table, &uuid);
    let shown: Vec<&EntryReport> =
        entries.iter().rev().skip(query.page.saturating_mul(SHOWN)).take(SHOWN).collect();
    let content = html! {
        p { span.table { (readable(&table)) } }
        @if let Some(row) = &row {
            details {
                summary { (words.say("row-holds")) }
                dl {
                    @for (name, value, leads_to) in row.fields.iter()
                        .filter(|(_, value, _)| !value.is_null())
                    {
                        dt { (readable(name)) }
                        dd { @match leads_to {
                            Some(name) => { bdi { (printable(name)) } }
                            None => { (line(words, value)) }
                        } }
                    }
                }
            }
        }
        h2 { (words.say("row-history")) }
        ol.timeline reversed {
            @for entry in shown { (told(words, entry, &names, &path)) }
        }
        (super::conflicts::turning(words, &path, query.page, pages))
    };
    let name = row.as_ref().and_then(|row| row.row.row_name.as_deref());
    let title = row_name(words, name, &table);
    visit.show(around(&visit, Place::Within, &title, open, &content))
}

/// References lead to rows by their uuids: in their place what people call the rows.
fn name_references(
    engine: &mut Engine,
    entries: &mut [EntryReport],
    row: Option<&RowReport>,
) -> Result<(), EngineError> {
    let references = row.map(|row| row.references.as_slice()).unwrap_or_default();
    for field in entries.iter_mut().flat_map(|entry| &mut entry.fields) {
        let Some((_, table)) = references.iter().find(|(name, _)| *name == field.name) else {
            continue;
        };
        for value in [&mut field.old, &mut field.new] {
            let name = value.as_str().map(|uuid| engine.row_name(table, uuid)).transpose()?;
            if let Some(name) = name.flatten() {
                *value = name.into();
            }
        }
    }
    Ok(())
}

fn told(words: Words, entry: &EntryReport, names: &Names, path: &str) -> Markup {
    let can_be_taken_back = !matches!(entry.action.as_str(), "existed" | "filled");
    html! {
        li data-change=(entry.written.change) {
            p {
                strong { (words.say(&format!("action-{}", entry.action))) } " · "
                bdi { (names.name(words, entry.written.device.as_deref())) } " · "
                (moment(words, entry.written.at.as_deref()))
            }
            @for field in &entry.fields {
                @if !(field.old.is_null() && field.new.is_null()) { (changed(words, field)) }
            }
            @if can_be_taken_back {
                form method="post" action={ (path) "/take-back" } {
                    input type="hidden" name="change" value=(entry.written.change);
                    input type="hidden" name="back" value=(path);
                    button { (words.say("row-take-back")) }
                }
            }
        }
    }
}

/// Whether single words of a text are worth marking.
fn is_prose(text: &str) -> bool {
    text.chars().count() > PROSE_CHARS || text.contains('\n')
}

/// What became of one field.
pub(super) fn changed(words: Words, field: &FieldEntry) -> Markup {
    html! {
        div.change {
            span.field { (readable(&field.name)) }
            @match (field.old.as_str(), field.new.as_str()) {
                (Some(old), Some(new)) if is_prose(old) || is_prose(new) => {
                    div.text { (merged(&printable(old), &printable(new))) }
                }
                (None, Some(new)) if is_long(&field.new) => {
                    div.text { ins { (printable(new)) } }
                }
                (Some(old), None) if is_long(&field.old) => {
                    div.text { del { (printable(old)) } }
                }
                _ => {
                    " "
                    @if !field.old.is_null() { del { (line(words, &field.old)) } " → " }
                    ins { (line(words, &field.new)) }
                }
            }
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct TakeBackForm {
    change: String,
    /// Where the person was.
    back: String,
}

/// Takes one change of the row back.
pub(super) async fn take_back(
    visit: Visit,
    Path((table, uuid)): Path<(String, String)>,
    Form(form): Form<TakeBackForm>,
) -> Response {
    let back = if form.back == "/deleted" { form.back } else { row_path(&table, &uuid) };
    let body = UndoBody {
        entity_type: Some(table),
        sync_uuid: Some(uuid),
        change: Some(form.change),
        ..UndoBody::default()
    };
    match decisions::undo(&visit.page.node, body).await {
        Ok(_) => visit.done(visit.words.say("row-taken-back"), &back),
        Err(refusal) => visit.failed(refusal.detail, &back),
    }
}
