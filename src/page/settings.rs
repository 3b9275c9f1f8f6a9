//! Settings: those that may change while the node runs, to be changed; the others as they are.

use axum::Form;
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;

use super::shell::{Place, around, bare};
use super::visit::Visit;
use super::words::Words;
use crate::net::settings_admin;
use crate::printable;
use crate::settings::{Effective, Source, Takes};

/// Settings of a few words, with those words.
const CHOICES: &[(&str, &[&str])] = &[
    ("pairing_approval", &["code", "none"]),
    ("asked_about", &["keep", "pause"]),
    ("conflict_resolution", &["merge", "manual", "desktop_wins", "mobile_wins", "timestamp"]),
];

/// The view.
pub(super) async fn view(visit: Visit) -> Response {
    let words = visit.words;
    let settings = visit.page.node.settings.current.now().effective();
    let (now, later): (Vec<_>, Vec<_>) =
        settings.iter().partition(|setting| setting.takes == Takes::AtOnce);
    let name = visit.page.node.name();
    let content = html! {
        @for setting in now { (form(words, setting, &name)) }
        section aria-labelledby="others" {
            h2 #others { (words.say("settings-others")) }
            p.quiet { (words.say("settings-how")) " "
                code { (visit.page.places.data_dir.join("config.toml").display()) } }
            div.scroll tabindex="0" role="group" aria-labelledby="others" {
                table {
                    thead {
                        tr {
                            th { (words.say("settings-key")) } th { (words.say("settings-value")) }
                            th { (words.say("settings-from")) }
                        }
                    }
                    tbody {
                        @for setting in later {
                            tr {
                                td { code { (setting.key) } }
                                td { (printable(&value_of(setting))) }
                                td { (source(words, setting.source)) }
                            }
                        }
                    }
                }
            }
        }
        section aria-labelledby="end" {
            h2 #end { (words.say("settings-end-title")) }
            p { (words.say("settings-end-how")) }
            form method="post" action="/settings/end" {
                button.danger { (words.say("settings-end")) }
            }
        }
    };
    visit.show(around(&visit, Place::Settings, &words.say("settings-title"), 0, &content))
}

/// One setting that may change, with where its value comes from.
fn form(words: Words, setting: &Effective, own_name: &str) -> Markup {
    let id = format!("setting-{}", setting.key);
    let value = if setting.key == "name" { own_name.to_owned() } else { value_of(setting) };
    let choices = CHOICES.iter().find(|(key, _)| *key == setting.key).map(|(_, choices)| *choices);
    html! {
        form.setting method="post" action="/settings" data-setting=(setting.key) {
            input type="hidden" name="key" value=(setting.key);
            label for=(id) { (words.say(&format!("setting-{}", setting.key.replace('_', "-")))) }
            div.inline {
                @match choices {
                    Some(choices) => {
                        select id=(id) name="value" {
                            @for choice in choices {
                                option value=(choice) selected[*choice == value] {
                                    (words.say(&format!("choice-{}", choice.replace('_', "-"))))
                                }
                            }
                        }
                    }
                    None => {
                        input id=(id) name="value" required autocomplete="off" maxlength="80"
                            value=(value);
                        @if !setting.unit.is_empty() { span.quiet { (unit(words, setting.unit)) } }
                    }
                }
                button { (words.say("settings-save")) }
                span.quiet { (source(words, setting.source)) }
            }
        }
    }
}

/// A value as it is typed.
fn value_of(setting: &Effective) -> String {
    setting.value.as_str().map_or_else(|| setting.value.to_string(), str::to_owned)
}

fn unit(words: Words, unit: &str) -> String {
    match unit {
        "seconds" => words.say("unit-seconds"),
        "rows" => words.say("unit-rows"),
        other => other.to_owned(),
    }
}

fn source(words: Words, source: Source) -> String {
    match source {
        Source::Default => words.say("source-default"),
        Source::Remembered => words.say("source-remembered"),
        Source::File => words.say("source-file"),
        Source::Environment => words.say("source-environment"),
        Source::Flag => words.say("source-flag"),
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct SettingForm {
    key: String,
    value: String,
}

/// Changes a setting.
pub(super) async fn change(visit: Visit, Form(form): Form<SettingForm>) -> Response {
    let (words, value) = (visit.words, form.value.trim());
    if form.key == "name" && value.is_empty() {
        return visit.failed(words.say("pair-name-empty"), "/settings");
    }
    match settings_admin::change(&visit.page.node, &form.key, Some(value)).await {
        Ok(followed) if followed.after_restart.is_empty() => {
            visit.done(words.say("settings-saved"), "/settings")
        }
        Ok(_) => visit.done(words.say("settings-saved-later"), "/settings"),
        Err(refusal) => visit.failed(refusal.detail, "/settings"),
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
