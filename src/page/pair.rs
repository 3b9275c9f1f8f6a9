//! Getting a device in: the code this one shows with who asks for it, and the other way round.

use axum::Form;
use axum::extract::Multipart;
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;
use storysync_engine::trust::pairing::Offer;

use super::joining::{JoiningState, begin};
use super::shell::{Place, around};
use super::visit::Visit;
use super::words::Words;
use crate::net::node_state::now_ms;
use crate::net::reply;
use crate::net::{pairing_code, reply::Refusal};
use crate::{printable, qr_picture};

/// The view.
pub(super) async fn view(visit: Visit) -> Response {
    let words = visit.words;
    let open = match visit.ask(|engine| engine.open_conflicts()).await {
        Ok(open) => open,
        Err(refusal) => return visit.refused(&refusal),
    };
    let content = html! {
        div.columns {
            section aria-labelledby="show" {
                h2 #show { (words.say("pair-show-title")) }
                p { (words.say("pair-show-how")) }
                (code_shown(&visit))
            }
            section aria-labelledby="join" {
                h2 #join { (words.say("pair-join-title")) }
                (joining_form(words, &visit.page.joining.state()))
            }
        }
        section aria-labelledby="name" {
            h2 #name { (words.say("pair-name-title")) }
            form.inline method="post" action="/pair/name" {
                label for="own-name" { (words.say("pair-name-label")) }
                input #own-name name="name" maxlength="80" required
                    value=(visit.page.node.name()) autocomplete="off";
                button { (words.say("pair-name-save")) }
            }
        }
    };
    visit.show(around(&visit, Place::Pair, &words.say("pair-title"), open, &content))
}

/// The code that is shown, who asks for it, and what went wrong with the last one.
fn code_shown(visit: &Visit) -> Markup {
    let words = visit.words;
    let (shown, alarm) = pairing_code::shown(&visit.page.node);
    html! {
        @if let Some(alarm) = alarm {
            p.said.failed role="alert" { (printable(&alarm)) }
        }
        @match shown {
            None => {
                form method="post" action="/pair/new" {
                    button.main { (words.say("pair-show")) }
                }
            }
            Some(shown) => {
                @if let Some(asks) = &shown.asks {
                    section.card.asks role="status" data-asks="" {
                        @let asks = printable(asks).into_owned();
                        p { strong { (words.with("pair-asks", &[("name", (&asks).into())])) } }
                        @if shown.approved {
                            p { (words.say("pair-approved")) }
                        } @else {
                            form.inline method="post" action="/pair/code" {
                                label for="code" { (words.say("pair-code-label")) }
                                input #code name="code" inputmode="numeric" pattern="[0-9 ]*"
                                    maxlength="8" required autocomplete="off" autofocus;
                                button.main { (words.say("pair-code-send")) }
                            }
                        }
                    }
                } @else {
                    figure.code {
                        img src={ "/pair/qr.png?" (shown.until_ms) } width="280" height="280"
                            alt=(words.say("pair-picture"));
                        figcaption {
                            @let left = shown.until_ms.saturating_sub(now_ms()) / 1_000;
                            (words.say("pair-valid")) " "
                            span data-until=(shown.until_ms) {
                                (left / 60) ":" (format!("{:02}", left % 60)) }
                        }
                    }
                    details {
                        summary { (words.say("pair-text")) }
                        textarea #code-text rows="5" readonly aria-label=(words.say("pair-text")) {
                            (shown.text) }
                        button type="button" data-copy="code-text" { (words.say("page-copy")) }
                    }
                }
                form method="post" action="/pair/new" {
                    button { (words.say("pair-another")) }
                }
            }
        }
    }
}

fn joining_form(words: Words, state: &JoiningState) -> Markup {
    html! {
        @match state {
            JoiningState::Asking { code } => {
                section.card.asks role="status" data-joining="" {
                    @match code {
                        Some(code) => {
                            p { (words.say("join-type")) }
                            p.digits data-code=(code) { (code) }
                            p.quiet { (words.say("join-wait")) }
                        }
                        None => { p { (words.say("join-calling")) } }
                    }
                }
            }
            JoiningState::Idle | JoiningState::Failed(_) => {
                @if let JoiningState::Failed(why) = state {
                    p.said.failed role="alert" { (printable(why)) }
                }
                p { (words.say("join-how")) }
                form method="post" action="/pair/join" enctype="multipart/form-data" {
                    label for="join-text" { (words.say("join-text")) }
                    textarea #join-text name="text" rows="4" autocomplete="off"
                        spellcheck="false" {}
                    label for="join-picture" { (words.say("join-picture")) }
                    input #join-picture name="picture" type="file" accept="image/png,image/jpeg"
                        data-drop="";
                    button.main { (words.say("join-go")) }
                }
            }
        }
    }
}

/// Shows a new code.
pub(super) async fn new_code(visit: Visit) -> Response {
    pairing_code::text(&visit.page.node, true);
    Redirect::to("/pair").into_response()
}

/// The picture of the code that is shown.
pub(super) async fn picture(visit: Visit) -> Response {
    let (shown, _) = pairing_code::shown(&visit.page.node);
    let Some(shown) = shown else {
        return Refusal::new(axum::http::StatusCode::NOT_FOUND, "no code is shown at the moment")
            .into_response();
    };
    match pairing_code::png(&shown.text) {
        Ok(png) => reply::bytes_of(png, "image/png"),
        Err(refusal) => refusal.into_response(),
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct CodeForm {
    code: String,
}

/// Takes the digits the other device shows.
pub(super) async fn code(visit: Visit, Form(form): Form<CodeForm>) -> Response {
    let digits: String = form.code.chars().filter(|digit| !digit.is_whitespace()).collect();
    match pairing_code::confirm(&visit.page.node, &digits) {
        Ok(()) => visit.done(visit.words.say("pair-approved"), "/pair"),
        Err(refusal) => visit.failed(refusal.detail, "/pair"),
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct NameForm {
    name: String,
}

/// Names this device.
pub(super) async fn name(visit: Visit, Form(form): Form<NameForm>) -> Response {
    if form.name.trim().is_empty() {
        return visit.failed(visit.words.say("pair-name-empty"), "/pair");
    }
    match visit.page.node.rename(&form.name) {
        Ok(name) => {
            let name = printable(&name).into_owned();
            visit.done(visit.words.with("pair-named", &[("name", (&name).into())]), "/pair")
        }
        Err(error) => visit.failed(error.to_string(), "/pair"),
    }
}

/// Begins to join the device whose code was pasted, dropped or photographed.
pub(super) async fn join(visit: Visit, mut form: Multipart) -> Response {
    let mut text = String::new();
    let mut picture = Vec::new();
    loop {
        match form.next_field().await {
            Ok(Some(field)) => {
                let is_picture = field.name() == Some("picture");
                match field.bytes().await {
                    Ok(bytes) if is_picture => picture = bytes.to_vec(),
                    Ok(bytes) => text = String::from_utf8_lossy(&bytes).trim().to_owned(),
                    Err(error) => return visit.failed(error.body_text(), "/pair"),
                }
            }
            Ok(None) => break,
            Err(error) => return visit.failed(error.body_text(), "/pair"),
        }
    }
    if text.is_empty() && picture.is_empty() {
        return visit.failed(visit.words.say("join-nothing"), "/pair");
    }
    if text.is_empty() {
        // Looking for a code in a large photograph takes a while.
        let read = tokio::task::spawn_blocking(move || qr_picture::text_in(&picture)).await;
        match read {
            Ok(Ok(found)) => text = found,
            Ok(Err(error)) => return visit.failed(error.to_string(), "/pair"),
            Err(_) => return visit.failed(visit.words.say("join-nothing"), "/pair"),
        }
    }
    let offer = match Offer::parse(&text) {
        Ok(offer) => offer,
        Err(error) => return visit.failed(error.to_string(), "/pair"),
    };
    if offer.identity_key == visit.page.node.identity.public_key() {
        return visit.failed(visit.words.say("join-own"), "/pair");
    }
    begin(&visit.page, offer);
    Redirect::to("/pair").into_response()
}
