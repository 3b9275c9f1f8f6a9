//! One conflict: what each side wrote, side by side, and how it is decided, field by field.

use std::collections::BTreeMap;

use axum::Form;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use serde_json::Value as Json;
use storysync_engine::{ConflictReport, FieldReport, RowReport, ValueReport};

use super::difference::marked;
use super::shell::{Place, around};
use super::telling::{
    Names, escaped, is_long, line, moment, readable, row_link, row_name, row_path, text_of,
};
use super::visit::Visit;
use super::words::Words;
use crate::net::decisions::{self, ResolveBody};
use crate::net::node_state::now;
use crate::net::reply::Refusal;
use crate::printable;

/// Fields of the row shown around a conflict.
const CONTEXT_FIELDS: usize = 8;

/// What a kind of conflict means, in words.
pub(super) fn kind_words(words: Words, kind: &str) -> String {
    match kind {
        "field" => words.say("kind-field"),
        "delete_edit" => words.say("kind-delete-edit"),
        "orphan" => words.say("kind-orphan"),
        "unique" => words.say("kind-unique"),
        "ring" => words.say("kind-ring"),
        "schema" => words.say("kind-schema"),
        other => other.to_owned(),
    }
}

/// A conflict, its row, and how many are open.
type Found = (ConflictReport, Option<RowReport>, i64);

async fn find(visit: &Visit, id: String) -> Result<Found, Refusal> {
    let found = visit
        .page
        .node
        .engine
        .call(move |engine| {
            let Some(conflict) = engine.conflict(&id, now())? else { return Ok(None) };
            let open = engine.open_conflicts()?;
            let row = engine.row_report(&conflict.entity_type, &conflict.sync_uuid, now())?;
            Ok(Some((conflict, row, open)))
        })
        .await??;
    found.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, visit.words.say("conflict-gone")))
}

/// The view.
pub(super) async fn view(visit: Visit, Path(id): Path<String>) -> Response {
    shown(&visit, id, &BTreeMap::new()).await
}

/// The view, with what a person has chosen and typed before.
async fn shown(visit: &Visit, id: String, form: &BTreeMap<String, String>) -> Response {
    let (conflict, row, open) = match find(visit, id).await {
        Ok(found) => found,
        Err(refusal) => return visit.refused(&refusal),
    };
    let names = match Names::of(visit) {
        Ok(names) => names,
        Err(refusal) => return visit.refused(&refusal),
    };
    let words = visit.words;
    let content = html! {
        p { (kind_words(words, &conflict.kind)) " · " span.table {
            (readable(&conflict.entity_type)) } " · "
            a href=(row_path(&conflict.entity_type, &conflict.sync_uuid)) {
                (words.say("conflict-history")) } }
        @if let Some(reason) = &conflict.reason { p.quiet { (printable(reason)) } }
        @if let Some(row) = &row { (context(words, row, &conflict)) }
        (others(words, &conflict))
        form.decide method="post" action={ "/conflict/" (escaped(&conflict.id)) } {
            input type="hidden" name="seen" value=(decisions::seen_of(&conflict));
            @for field in &conflict.fields { (field_choice(words, field, &names, form)) }
            (ways(words, &conflict))
        }
    };
    let title = row_name(words, conflict.row_name.as_deref(), &conflict.entity_type);
    visit.show(around(visit, Place::Conflicts, &title, open, &content))
}

/// Where the row belongs: the rest of what it holds.
fn context(words: Words, row: &RowReport, conflict: &ConflictReport) -> Markup {
    let mut told = row
        .fields
        .iter()
        .filter(|(name, value, _)| {
            !value.is_null()
                && !is_long(value)
                && !conflict.fields.iter().any(|field| field.name == *name)
        })
        .take(CONTEXT_FIELDS)
        .peekable();
    html! {
        @if told.peek().is_some() {
            details {
                summary { (words.say("conflict-context")) }
                dl {
                    @for (name, value, leads_to) in told {
                        dt { (readable(name)) }
                        dd {
                            @match leads_to {
                                Some(name) => { bdi { (printable(name)) } }
                                None => { (line(words, value)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn others(words: Words, conflict: &ConflictReport) -> Markup {
    html! {
        @if !conflict.rows.is_empty() {
            p { (words.say("conflict-others")) }
            ul.list {
                @for row in &conflict.rows {
                    li { div { (row_link(words, &row.entity_type, &row.sync_uuid,
                        row.row_name.as_deref())) } }
                }
            }
        }
    }
}

/// One field: every value with who wrote it, the ancestor on demand, and a text of one's own.
fn field_choice(
    words: Words,
    field: &FieldReport,
    names: &Names,
    form: &BTreeMap<String, String>,
) -> Markup {
    let typed = form.get(&format!("own-{}", field.name));
    let own_text = typed.cloned().or_else(|| text_of(words, &field.shown)).unwrap_or_default();
    let is_own = typed.is_some_and(|text| Some(text) != text_of(words, &field.shown).as_ref());
    let shown = field.values.len().saturating_sub(1);
    let choice = format!("choice-{}", field.name);
    html! {
        fieldset data-field=(field.name) {
            legend { (readable(&field.name)) }
            div.sides {
                @for (side, value) in field.values.iter().enumerate() {
                    label.side {
                        span.who {
                            input type="radio" name=(choice) value=(side)
                                checked[side == shown && !is_own];
                            " " bdi { (names.name(words, value.device.as_deref())) }
                            " · " (moment(words, value.at.as_deref()))
                            @if side == shown { " · " em { (words.say("conflict-shown")) } }
                        }
                        (side_text(words, field, side, value))
                    }
                }
            }
            @if text_of(words, &field.base).is_some() {
                details {
                    summary { (words.say("conflict-before")) }
                    div.text { (text_of(words, &field.base).map(|text| printable(&text)
                        .into_owned()).unwrap_or_default()) }
                }
            }
            @if can_be_typed(field) {
                label.own {
                    input type="radio" name=(choice) value="own" checked[is_own]; " "
                    (words.say("conflict-own"))
                }
                // Browsers take the first line break away.
                textarea name={ "own-" (field.name) } rows=(rows_for(&own_text))
                    aria-label=(words.with("conflict-own-label",
                        &[("field", (&readable(&field.name)).into())]))
                    data-chooses=(choice) { "\n" (own_text) }
            }
        }
    }
}

/// Whether a person could type a value: bytes, yes and no, and rows it leads to are chosen.
fn can_be_typed(field: &FieldReport) -> bool {
    let mut held = field.values.iter().map(|value| &value.value).chain([&field.base]);
    held.all(|value| value.is_null() || value.is_string() || value.is_number())
        && field.values.iter().all(|value| value.row_name.is_none())
}

/// One side's text, with what the other sides lack marked.
fn side_text(words: Words, field: &FieldReport, side: usize, value: &ValueReport) -> Markup {
    if let Some(name) = &value.row_name {
        return html! { div.text { bdi { (printable(name)) } } };
    }
    let other = field.values.iter().enumerate().find(|(other, _)| *other != side);
    let texts = (value.value.as_str(), other.and_then(|(_, other)| other.value.as_str()));
    html! {
        div.text {
            @match texts {
                (Some(""), _) | (None, _) => { (line(words, &value.value)) }
                (Some(text), Some(other)) => { (marked(&printable(other), &printable(text))) }
                (Some(text), None) => { (printable(text)) }
            }
        }
    }
}

/// Lines a text takes in its box, as far as is reasonable.
fn rows_for(text: &str) -> usize {
    let lines: usize = text.lines().map(|line| 1 + line.chars().count() / 80).sum();
    lines.clamp(1, 14)
}

/// The buttons that decide: by field, or what becomes of the row.
fn ways(words: Words, conflict: &ConflictReport) -> Markup {
    let whole: &[(&str, &str)] = match conflict.kind.as_str() {
        "delete_edit" | "orphan" => &[("keep", "way-keep"), ("delete", "way-delete")],
        "unique" => &[("rename", "way-rename"), ("mine", "way-mine"), ("theirs", "way-theirs")],
        "ring" => &[("mine", "way-mine"), ("theirs", "way-theirs")],
        _ => &[],
    };
    html! {
        div.actions {
            @for (take, key) in whole {
                button name="take" value=(take) { (words.say(key)) }
            }
            @if !conflict.fields.is_empty() {
                button.main name="take" value="" { (words.say("way-fields")) }
            }
            a.button href="/conflicts" { (words.say("page-cancel")) }
        }
    }
}

/// Decides the conflict as the form says.
pub(super) async fn decide(
    visit: Visit,
    Path(id): Path<String>,
    Form(form): Form<BTreeMap<String, String>>,
) -> Response {
    let conflict = match find(&visit, id.clone()).await {
        Ok((conflict, ..)) => conflict,
        Err(refusal) => return visit.failed(refusal.detail, "/conflicts"),
    };
    let words = visit.words;
    let seen = form.get("seen").cloned().unwrap_or_default();
    let body = choice_of(id.clone(), &conflict, &form);
    let not_done = match decisions::resolve_as_seen(&visit.page.node, body, seen).await {
        Ok(true) => {
            let row = row_name(words, conflict.row_name.as_deref(), &conflict.entity_type);
            let done = words.with("conflict-decided", &[("row", (&row).into())]);
            return visit.done(done, "/conflicts");
        }
        Ok(false) => words.say("conflict-changed"),
        Err(refusal) => refusal.detail,
    };
    // What was typed stays in the form.
    visit.say_failed(not_done);
    shown(&visit, id, &form).await
}

/// What a form says of a conflict.
fn choice_of(
    id: String,
    conflict: &ConflictReport,
    form: &BTreeMap<String, String>,
) -> ResolveBody {
    let take = form.get("take").filter(|take| !take.is_empty()).cloned();
    if take.is_some() {
        return ResolveBody { id: Some(id), take, ..ResolveBody::default() };
    }
    let chosen = conflict.fields.iter().map(|field| {
        let name = &field.name;
        let choice = form.get(&format!("choice-{name}")).map(String::as_str).unwrap_or_default();
        let value = match choice.parse::<usize>() {
            Ok(side) => field.values.get(side).map(|value| value.value.clone()),
            Err(_) => form.get(&format!("own-{name}")).map(|text| typed(field, text)),
        };
        (field.name.clone(), value.unwrap_or_else(|| field.shown.clone()))
    });
    ResolveBody { id: Some(id), fields: chosen.collect(), ..ResolveBody::default() }
}

/// A text somebody typed, of the kind the field holds: a number where numbers stand, nothing where
/// nothing was typed into a field that may be empty. Browsers send line breaks as CRLF.
fn typed(field: &FieldReport, text: &str) -> Json {
    let text = text.replace("\r\n", "\n");
    let held = || field.values.iter().map(|value| &value.value).chain([&field.base, &field.shown]);
    if held().any(Json::is_number)
        && !held().any(Json::is_string)
        && let Ok(number) = serde_json::from_str::<serde_json::Number>(text.trim())
    {
        return Json::Number(number);
    }
    if text.is_empty() && !held().any(|value| value.as_str() == Some("")) {
        return Json::Null;
    }
    Json::String(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(base: Json, values: &[Json]) -> FieldReport {
        let value = |value: &Json| ValueReport {
            value: value.clone(),
            row_name: None,
            device: None,
            at: None,
        };
        FieldReport {
            name: "age".to_owned(),
            base,
            values: values.iter().map(value).collect(),
            shown: values.last().cloned().unwrap_or_default(),
        }
    }

    #[test]
    fn what_is_typed_has_the_kind_the_field_holds() {
        let ages = field(Json::from(30), &[Json::from(31), Json::from(32)]);
        assert_eq!(typed(&ages, " 33 "), Json::from(33));
        assert_eq!(typed(&ages, ""), Json::Null);
        let texts = field(Json::Null, &[Json::from("a"), Json::from("b")]);
        assert_eq!(typed(&texts, "33"), Json::from("33"));
        assert_eq!(typed(&texts, "a\r\nb"), Json::from("a\nb"));
        let empty = field(Json::from(""), &[Json::from("a"), Json::from("b")]);
        assert_eq!(typed(&empty, ""), Json::from(""));
    }
}
