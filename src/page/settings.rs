//! Settings that may change while the node runs, and what the others are.

use axum::Form;
use axum::response::Response;
use maud::html;
use serde::Deserialize;

use super::shell::{Place, around, bare};
use super::visit::Visit;
use crate::printable;

/// The view.
pub(super) async fn view(visit: Visit) -> Response {
    let words = visit.words;
    let settings = &visit.page.node.settings;
    let content = html! {
        form method="post" action="/settings" {
            label for="own-name" { (words.say("pair-name-label")) }
            input #own-name name="name" maxlength="80" required autocomplete="off"
                value=(visit.page.node.name());
            button.main { (words.say("settings-save")) }
        }
        h2 { (words.say("settings-others")) }
        dl {
            dt { (words.say("settings-address")) }
            dd { (settings.lan_ip) ":" (settings.lan_port) }
            dt { (words.say("settings-file")) }
            dd { code { (visit.page.places.data_dir.join("config.toml").display()) } }
        }
        p.quiet { (words.say("settings-how")) }
        h2 { (words.say("settings-end-title")) }
        p { (words.say("settings-end-how")) }
        form method="post" action="/settings/end" {
            button.danger { (words.say("settings-end")) }
        }
    };
    visit.show(around(&visit, Place::Settings, &words.say("settings-title"), 0, &content))
}

#[derive(Debug, Deserialize)]
pub(super) struct SettingsForm {
    name: String,
}

/// Changes what may change.
pub(super) async fn change(visit: Visit, Form(form): Form<SettingsForm>) -> Response {
    if form.name.trim().is_empty() {
        return visit.failed(visit.words.say("pair-name-empty"), "/settings");
    }
    match visit.page.node.rename(&form.name) {
        Ok(name) => {
            let name = printable(&name).into_owned();
            visit.done(visit.words.with("pair-named", &[("name", (&name).into())]), "/settings")
        }
        Err(error) => visit.failed(error.to_string(), "/settings"),
    }
}

/// Ends the node. The view says so: nobody is there to make another.
pub(super) async fn end(visit: Visit) -> Response {
    let words = visit.words;
    let content = html! {
        p role="status" { (words.say("settings-ended")) }
        p { code { "storysync open" } }
    };
    visit.page.node.ask_to_end();
    visit.show(bare(words, &words.say("settings-title"), &content))
}
