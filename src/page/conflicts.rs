//! All open conflicts: which rows they are in, deciding many at once after a look at what would
//! come of it; texts that gave way; conflicts that are over, and taking a decision back.

use axum::Form;
use axum::extract::{Path, Query};
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;
use storysync_crdt::Stamp;
use storysync_engine::store::conflicts::EndedConflict;
use storysync_engine::{ConflictReport, EntryReport, NoticeReport, ValueReport};

use super::conflict::kind_words;
use super::shell::{Place, around};
use super::telling::{Names, escaped, line, moment, moment_ms, readable, row_link, row_name};
use super::visit::Visit;
use super::words::Words;
use crate::net::decisions::{self, ENDED_SHOWN, ResolveBody, UndoBody};
use crate::net::node_state::now;

/// Rows with conflicts on one page of the list.
const SHOWN: usize = 50;
const ROWS_SHOWN: i64 = 50;
/// A decision's change is looked for this near the time the conflict ended, in milliseconds.
const DECIDED_WITHIN_MS: i64 = 5_000;

#[derive(Debug, Deserialize)]
pub(super) struct ListQuery {
    #[serde(default)]
    page: usize,
}

/// The list.
pub(super) async fn view(visit: Visit, Query(query): Query<ListQuery>) -> Response {
    let page = query.page;
    let skip = i64::try_from(page.saturating_mul(SHOWN)).unwrap_or(i64::MAX);
    let asked = visit
        .ask(move |engine| {
            let conflicts = engine.conflicts_from(skip, ROWS_SHOWN, now())?;
            Ok((conflicts, engine.open_conflicts()?, engine.notices(now())?))
        })
        .await;
    let (conflicts, open, notices) = match asked {
        Ok(found) => found,
        Err(refusal) => return visit.refused(&refusal),
    };
    let names = match Names::of(&visit) {
        Ok(names) => names,
        Err(refusal) => return visit.refused(&refusal),
    };
    // The last of a page was decided.
    if conflicts.is_empty() && page > 0 {
        return Redirect::to("/conflicts").into_response();
    }
    let words = visit.words;
    let all = usize::try_from(open).unwrap_or(0);
    let content = html! {
        @if conflicts.is_empty() && notices.is_empty() {
            p.quiet { (words.say("conflicts-none")) }
        }
        @if !conflicts.is_empty() { (list(words, &conflicts, (page, all), &names)) }
        @if !notices.is_empty() { (gave_way(words, &notices, &names)) }
        p { a href="/conflicts/ended" { (words.say("conflicts-ended")) } }
    };
    visit.show(around(&visit, Place::Conflicts, &words.say("conflicts-title"), open, &content))
}

/// One page of the list: the conflicts on it, which it is, and how many there are in all.
fn list(
    words: Words,
    conflicts: &[ConflictReport],
    (page, all): (usize, usize),
    names: &Names,
) -> Markup {
    let pages = all.div_ceil(SHOWN);
    html! {
        p { (words.say("conflicts-how")) }
        form method="post" action="/conflicts/preview" {
            ul.list.conflicts {
                @for conflict in conflicts {
                    li data-conflict=(conflict.id) {
                        input type="checkbox" name="id" value=(conflict.id)
                            aria-label=(words.with("conflicts-choose", &[("row", (&row_name(words,
                                conflict.row_name.as_deref(), &conflict.entity_type)).into())]));
                        div {
                            a href={ "/conflict/" (escaped(&conflict.id)) } {
                                bdi { (row_name(words, conflict.row_name.as_deref(),
                                    &conflict.entity_type)) } }
                            " " span.table { (readable(&conflict.entity_type)) }
                            p.quiet { (summary(words, conflict, names)) }
                        }
                    }
                }
            }
            (turning(words, "/conflicts", page, pages))
            div.actions {
                button name="take" value="mine" { (words.say("conflicts-take-mine")) }
                button name="take" value="theirs" { (words.say("conflicts-take-theirs")) }
                label.inline { input type="checkbox" name="all" value="yes"; " "
                    (words.with("conflicts-all", &[("count", all.into())])) }
            }
        }
    }
}

/// The way to the pages before and after.
pub(super) fn turning(words: Words, path: &str, page: usize, pages: usize) -> Markup {
    html! {
        @if pages > 1 {
            nav.turning aria-label=(words.say("page-pages")) {
                @if page > 0 {
                    a href={ (path) "?page=" (page - 1) } { (words.say("page-before")) }
                }
                span { (words.with("page-of", &[("page", (page + 1).into()),
                    ("pages", pages.into())])) }
                @if page + 1 < pages {
                    a href={ (path) "?page=" (page + 1) } { (words.say("page-after")) }
                }
            }
        }
    }
}

fn summary(words: Words, conflict: &ConflictReport, names: &Names) -> Markup {
    let fields: Vec<String> = conflict.fields.iter().map(|field| readable(&field.name)).collect();
    let mut writers: Vec<String> = conflict
        .fields
        .iter()
        .flat_map(|field| &field.values)
        .map(|value| names.name(words, value.device.as_deref()))
        .collect();
    writers.sort();
    writers.dedup();
    html! {
        (kind_words(words, &conflict.kind))
        @if !fields.is_empty() { ": " bdi { (fields.join(", ")) } }
        @if !writers.is_empty() { " · " bdi { (writers.join(", ")) } }
    }
}

fn gave_way(words: Words, notices: &[NoticeReport], names: &Names) -> Markup {
    html! {
        section aria-labelledby="notices" {
            h2 #notices { (words.say("notices-title")) }
            p { (words.say("notices-how")) }
            ul.list {
                @for notice in notices {
                    li {
                        div {
                            (row_link(words, &notice.entity_type, &notice.sync_uuid,
                                notice.row_name.as_deref()))
                            p.quiet { (readable(&notice.field)) " · "
                                (names.name(words, notice.device.as_deref())) " · "
                                (moment(words, Some(&notice.at))) }
                            p { (line(words, &notice.value)) }
                            form.actions method="post"
                                action={ "/notice/" (escaped(&notice.id)) } {
                                button name="take" value="theirs" { (words.say("notice-back")) }
                                button name="take" value="mine" { (words.say("notice-go")) }
                            }
                        }
                    }
                }
            }
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct TakeForm {
    take: String,
}

/// Puts a text back that gave way, or lets it go.
pub(super) async fn notice(
    visit: Visit,
    Path(id): Path<String>,
    Form(form): Form<TakeForm>,
) -> Response {
    let body = ResolveBody { id: Some(id), take: Some(form.take), ..ResolveBody::default() };
    match decisions::resolve(&visit.page.node, body, None).await {
        Ok(_) => visit.done(visit.words.say("notice-done"), "/conflicts"),
        Err(refusal) => visit.failed(refusal.detail, "/conflicts"),
    }
}

/// Several conflicts and one side, as a form sends them: a list of pairs.
struct Many {
    ids: Vec<String>,
    take: String,
    all: bool,
}

impl Many {
    fn of(pairs: Vec<(String, String)>) -> Self {
        let mut many = Self { ids: Vec::new(), take: "mine".to_owned(), all: false };
        for (name, value) in pairs {
            match name.as_str() {
                "id" => many.ids.push(value),
                "take" => many.take = value,
                "all" => many.all = true,
                _ => {}
            }
        }
        many
    }
}

/// What deciding several conflicts alike would come to.
pub(super) async fn preview(visit: Visit, Form(pairs): Form<Vec<(String, String)>>) -> Response {
    let many = Many::of(pairs);
    let conflicts = match visit.ask(|engine| engine.conflicts(now())).await {
        Ok(found) => found,
        Err(refusal) => return visit.refused(&refusal),
    };
    let names = match Names::of(&visit) {
        Ok(names) => names,
        Err(refusal) => return visit.refused(&refusal),
    };
    let words = visit.words;
    let open = i64::try_from(conflicts.len()).unwrap_or(i64::MAX);
    let chosen: Vec<&ConflictReport> =
        conflicts.iter().filter(|conflict| many.all || many.ids.contains(&conflict.id)).collect();
    if chosen.is_empty() {
        return visit.failed(words.say("conflicts-none-chosen"), "/conflicts");
    }
    let content = html! {
        p { (words.with(if many.take == "mine" { "preview-mine" } else { "preview-theirs" },
            &[("count", chosen.len().into())])) }
        div.scroll tabindex="0" role="region" aria-label=(words.say("preview-title")) {
            table {
                thead { tr { th { (words.say("preview-row")) } th { (words.say("preview-field")) }
                    th { (words.say("preview-now")) } th { (words.say("preview-then")) } } }
                tbody {
                    @for conflict in chosen.iter().take(SHOWN) {
                        @for field in &conflict.fields {
                            @let taken = side(&field.values, &many.take, &names)
                                .map_or(&field.shown, |taken| &taken.value);
                            tr {
                                td { bdi { (row_name(words, conflict.row_name.as_deref(),
                                    &conflict.entity_type)) } }
                                td { (readable(&field.name)) }
                                td { (line(words, &field.shown)) }
                                td { (line(words, taken)) }
                            }
                        }
                        @if conflict.fields.is_empty() {
                            tr {
                                td { bdi { (row_name(words, conflict.row_name.as_deref(),
                                    &conflict.entity_type)) } }
                                td colspan="3" { (kind_words(words, &conflict.kind)) }
                            }
                        }
                    }
                }
            }
        }
        @if chosen.len() > SHOWN {
            p { (words.with("preview-more", &[("count", (chosen.len() - SHOWN).into())])) }
        }
        form.actions method="post" action="/conflicts/decide" {
            input type="hidden" name="take" value=(many.take);
            @for conflict in &chosen {
                input type="hidden" name="id"
                    value={ (conflict.id) "." (decisions::seen_of(conflict)) };
            }
            button.main { (words.with("preview-go", &[("count", chosen.len().into())])) }
            a.button href="/conflicts" { (words.say("page-cancel")) }
        }
    };
    visit.show(around(&visit, Place::Conflicts, &words.say("preview-title"), open, &content))
}

/// The value that side wrote, where it wrote one.
fn side<'a>(values: &'a [ValueReport], take: &str, names: &Names) -> Option<&'a ValueReport> {
    values.iter().rev().find(|value| names.is_own(value.device.as_deref()) == (take == "mine"))
}

/// Decides several conflicts alike.
pub(super) async fn decide(visit: Visit, Form(pairs): Form<Vec<(String, String)>>) -> Response {
    let many = Many::of(pairs);
    let (mut decided, mut left) = (0usize, Vec::new());
    for chosen in many.ids {
        // As it was shown in the preview.
        let (id, seen) = chosen.split_once('.').unwrap_or((&chosen, ""));
        let (id, take) = (Some(id.to_owned()), Some(many.take.clone()));
        let body = ResolveBody { id, take, ..ResolveBody::default() };
        match decisions::resolve_as_seen(&visit.page.node, body, seen.to_owned()).await {
            Ok(true) => decided += 1,
            Ok(false) => left.push(visit.words.say("conflict-changed")),
            Err(refusal) => left.push(refusal.detail),
        }
    }
    let words = visit.words;
    let done = words.with("conflicts-decided", &[("count", decided.into())]);
    match left.first() {
        None => visit.done(done, "/conflicts"),
        Some(why) => visit.failed(
            format!(
                "{done} {}",
                words.with("conflicts-left", &[("count", left.len().into()), ("why", why.into())])
            ),
            "/conflicts",
        ),
    }
}

/// The conflicts that are over.
pub(super) async fn ended(visit: Visit) -> Response {
    let asked = visit
        .ask(|engine| Ok((engine.ended_conflicts(ENDED_SHOWN)?, engine.open_conflicts()?)))
        .await;
    let (ended, open) = match asked {
        Ok(found) => found,
        Err(refusal) => return visit.refused(&refusal),
    };
    let names = match Names::of(&visit) {
        Ok(names) => names,
        Err(refusal) => return visit.refused(&refusal),
    };
    let words = visit.words;
    let content = html! {
        @if ended.is_empty() { p.quiet { (words.say("ended-none")) } }
        ul.list {
            @for conflict in &ended {
                li data-ended=(conflict.conflict_id) {
                    div {
                        (row_link(words, &conflict.table, &conflict.uuid,
                            conflict.row_name.as_deref()))
                        p.quiet {
                            (kind_words(words, &conflict.kind)) " · "
                            @if conflict.ending == "resolved" { (words.say("ended-resolved")) }
                            @else { (words.say("ended-superseded")) }
                            @if let Some(by) = conflict.ended_by.as_deref() {
                                " · " (names.name(words, Some(by)))
                            }
                            " · " (moment_ms(words, conflict.ended_at))
                        }
                        form.actions method="post" action="/conflicts/take-back" {
                            input type="hidden" name="id" value=(conflict.conflict_id);
                            button { (words.say("ended-take-back")) }
                        }
                    }
                }
            }
        }
        p { a href="/conflicts" { (words.say("ended-open")) } }
    };
    visit.show(around(&visit, Place::Conflicts, &words.say("ended-title"), open, &content))
}

#[derive(Debug, Deserialize)]
pub(super) struct IdForm {
    id: String,
}

/// Takes the decision of a conflict back: what the row showed before is shown again.
pub(super) async fn take_back(visit: Visit, Form(form): Form<IdForm>) -> Response {
    let found = visit
        .page
        .node
        .engine
        .call(move |engine| {
            let ended = engine.ended_conflicts(ENDED_SHOWN)?;
            let Some(conflict) = ended.into_iter().find(|ended| ended.conflict_id == form.id)
            else {
                return Ok(None);
            };
            let entries = engine.history(&conflict.table, &conflict.uuid, now())?;
            let change = deciding(&conflict, &entries);
            Ok(change.map(|change| (conflict.table, conflict.uuid, change)))
        })
        .await;
    let (table, uuid, change) = match found {
        Ok(Ok(Some(found))) => found,
        Ok(Ok(None)) => {
            return visit.failed(visit.words.say("ended-not-found"), "/conflicts/ended");
        }
        Ok(Err(error)) => return visit.failed(error.to_string(), "/conflicts/ended"),
        Err(gone) => return visit.failed(gone.to_string(), "/conflicts/ended"),
    };
    let body = UndoBody {
        entity_type: Some(table),
        sync_uuid: Some(uuid),
        change: Some(change),
        ..UndoBody::default()
    };
    match decisions::undo(&visit.page.node, body).await {
        Ok(_) => visit.done(visit.words.say("ended-taken-back"), "/conflicts/ended"),
        Err(refusal) => visit.failed(refusal.detail, "/conflicts/ended"),
    }
}

/// The change that decided a conflict: of the device that ended it, nearest to when it ended.
fn deciding(conflict: &EndedConflict, entries: &[EntryReport]) -> Option<String> {
    let apart = |entry: &EntryReport| {
        let at = entry.written.at.as_deref().and_then(Stamp::parse)?;
        Some(at.unix_ms().abs_diff(conflict.ended_at))
    };
    entries
        .iter()
        .filter(|entry| entry.written.device == conflict.ended_by)
        .filter_map(|entry| Some((apart(entry)?, entry)))
        .filter(|(apart, _)| i64::try_from(*apart).is_ok_and(|apart| apart < DECIDED_WITHIN_MS))
        .min_by_key(|(apart, _)| *apart)
        .map(|(_, entry)| entry.written.change.clone())
}
