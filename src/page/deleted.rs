//! Rows deleted lately, each brought back by one button.

use axum::extract::Query;
use axum::response::Response;
use maud::html;
use serde::Deserialize;

use super::shell::{Place, around};
use super::telling::{Names, moment, row_link, row_path};
use super::visit::Visit;
use crate::net::node_state::now;

/// Rows on one page.
const SHOWN: usize = 50;

#[derive(Debug, Deserialize)]
pub(super) struct DeletedQuery {
    #[serde(default)]
    page: usize,
}

/// The view.
pub(super) async fn view(visit: Visit, Query(query): Query<DeletedQuery>) -> Response {
    let skip = query.page.saturating_mul(SHOWN);
    let asked = visit
        .ask(move |engine| {
            engine.capture(now())?;
            Ok((engine.recently_deleted(skip, SHOWN + 1, now())?, engine.open_conflicts()?))
        })
        .await;
    let (rows, open) = match asked {
        Ok(found) => found,
        Err(refusal) => return visit.refused(&refusal),
    };
    let names = match Names::of(&visit) {
        Ok(names) => names,
        Err(refusal) => return visit.refused(&refusal),
    };
    let words = visit.words;
    let pages = query.page + 1 + usize::from(rows.len() > SHOWN);
    let content = html! {
        p { (words.say("deleted-how")) }
        @if rows.is_empty() { p.quiet { (words.say("deleted-none")) } }
        ul.list {
            @for row in rows.iter().take(SHOWN) {
                li data-deleted=(row.sync_uuid) {
                    div {
                        (row_link(words, &row.entity_type, &row.sync_uuid,
                            row.row_name.as_deref()))
                        p.quiet { (names.name(words, row.written.device.as_deref())) " · "
                            (moment(words, row.written.at.as_deref())) }
                    }
                    form method="post"
                        action={ (row_path(&row.entity_type, &row.sync_uuid)) "/take-back" } {
                        input type="hidden" name="change" value=(row.written.change);
                        input type="hidden" name="back" value="/deleted";
                        button { (words.say("deleted-bring-back")) }
                    }
                }
            }
        }
        (super::conflicts::turning(words, "/deleted", query.page, pages))
    };
    visit.show(around(&visit, Place::Deleted, &words.say("deleted-title"), open, &content))
}
