//! A view small enough for a panel of the app: how all is, and the ways to what one does about it.

use axum::response::Response;
use maud::html;

use super::facts::Facts;
use super::home::overall;
use super::shell::bare;
use super::visit::Visit;

/// The view.
pub(super) async fn view(visit: Visit) -> Response {
    let facts = match Facts::gather(&visit.page).await {
        Ok(facts) => facts,
        Err(refusal) => return visit.refused(&refusal),
    };
    let words = visit.words;
    let content = html! {
        (overall(words, &facts))
        p.actions {
            a.button href="/pair" { (words.say("nav-pair")) }
            a.button href="/" { (words.say("embed-more")) }
        }
    };
    visit.show(bare(words, &words.say("embed-title"), &content))
}
