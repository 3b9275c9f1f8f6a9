//! What stands around every view: the head, the way from one view to another, and what is told
//! once.

use maud::{DOCTYPE, Markup, html};

use super::assets::path;
use super::session::Said;
use super::visit::Visit;
use super::words::Words;
use crate::printable;

/// The views one gets to from everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Home,
    Pair,
    Conflicts,
    Deleted,
    Health,
    Settings,
    /// A view within one of them.
    Within,
}

const PLACES: &[(Place, &str, &str)] = &[
    (Place::Home, "/", "nav-home"),
    (Place::Pair, "/pair", "nav-pair"),
    (Place::Conflicts, "/conflicts", "nav-conflicts"),
    (Place::Deleted, "/deleted", "nav-deleted"),
    (Place::Health, "/health", "nav-health"),
    (Place::Settings, "/settings", "nav-settings"),
];

fn head(words: Words, title: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            title { (title) " – storysync" }
            link rel="icon" href=(path("icon.svg")) type="image/svg+xml";
            link rel="stylesheet" href=(path("page.css"));
            script type="module" src=(path("page.js")) data-gone=(words.say("page-gone"))
                data-copied=(words.say("page-copied")) data-changed=(words.say("page-changed")) {}
            script src=(path("idiomorph.js")) defer {}
        }
    }
}

/// A view with everything around it. `open` conflicts are told beside their name.
pub(super) fn around(
    visit: &Visit,
    place: Place,
    title: &str,
    open: i64,
    content: &Markup,
) -> Markup {
    let words = visit.words;
    html! {
        (DOCTYPE)
        html lang=(words.code()) {
            (head(words, title))
            body {
                a.skip href="#content" { (words.say("page-skip")) }
                header {
                    a.brand href="/" { img src=(path("icon.svg")) alt="" width="28" height="28";
                        span { "storysync" } }
                    nav aria-label=(words.say("page-nav")) {
                        @for (known, to, key) in PLACES {
                            a href=(to) aria-current=[(*known == place).then_some("page")] {
                                (words.say(key))
                                @if *known == Place::Conflicts && open > 0 {
                                    " " span.count { (open) }
                                }
                            }
                        }
                    }
                }
                main #content tabindex="-1" data-state=(visit.state) {
                    div #gone role="status" hidden {}
                    (said(visit))
                    h1 { bdi { (title) } }
                    (content)
                }
                footer { bdi { (printable(&visit.page.node.name())) } " · "
                    (visit.page.places.database.display()) " · storysync "
                    (env!("CARGO_PKG_VERSION")) }
            }
        }
    }
}

fn said(visit: &Visit) -> Markup {
    html! {
        @for said in visit.said() {
            @match said {
                Said::Done(words) => { p.said.done role="status" data-keep="" { (words) } }
                Said::Failed(words) => { p.said.failed role="alert" data-keep="" { (words) } }
            }
        }
    }
}

/// A page that needs nothing of a node: for whoever has no session, and before there is a node.
pub(super) fn bare(words: Words, title: &str, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang=(words.code()) {
            (head(words, title))
            body.bare {
                main #content tabindex="-1" {
                    div #gone role="status" hidden {}
                    p.brand { img src=(path("icon.svg")) alt="" width="28" height="28";
                        span { "storysync" } }
                    h1 { (title) }
                    (content)
                }
            }
        }
    }
}

/// What is shown to whoever has no session.
pub(super) fn locked(words: &Words) -> Markup {
    bare(
        *words,
        &words.say("locked-title"),
        &html! {
            p { (words.say("locked-how")) }
            p { code { "storysync open" } }
        },
    )
}

/// A view that could not be made, and why.
pub(super) fn refused(visit: &Visit, why: &str) -> Markup {
    let words = visit.words;
    around(
        visit,
        Place::Within,
        &words.say("refused-title"),
        0,
        &html! {
            p.said.failed role="alert" { (printable(why)) }
            p { a href="/" { (words.say("refused-home")) } }
        },
    )
}
