//! What two texts differ in, word by word, as markup. Purely for the eye.

use std::time::Duration;

use maud::{Markup, html};
use similar::{ChangeTag, TextDiff};

/// How long words are compared before the rest is told as one difference.
const COMPARED_WITHIN: Duration = Duration::from_millis(60);

/// The newer text with what the older one lacks marked.
pub(super) fn marked(older: &str, newer: &str) -> Markup {
    let compared = TextDiff::configure().timeout(COMPARED_WITHIN).diff_words(older, newer);
    html! {
        @for (tag, text) in joined(&compared) {
            @match tag {
                ChangeTag::Equal => { (text) }
                ChangeTag::Insert => { mark { (text) } }
                ChangeTag::Delete => {}
            }
        }
    }
}

/// Both texts in one: what is gone struck out, what is new marked.
pub(super) fn merged(older: &str, newer: &str) -> Markup {
    let compared = TextDiff::configure().timeout(COMPARED_WITHIN).diff_words(older, newer);
    html! {
        @for (tag, text) in joined(&compared) {
            @match tag {
                ChangeTag::Equal => { (text) }
                ChangeTag::Insert => { ins { (text) } }
                ChangeTag::Delete => { del { (text) } }
            }
        }
    }
}

/// Neighbouring words of one kind as one piece.
fn joined(compared: &TextDiff<'_, '_, str>) -> Vec<(ChangeTag, String)> {
    let mut pieces: Vec<(ChangeTag, String)> = Vec::new();
    for change in compared.iter_all_changes() {
        match pieces.last_mut() {
            Some((tag, text)) if *tag == change.tag() => text.push_str(change.value()),
            _ => pieces.push((change.tag(), change.value().to_owned())),
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_differ_are_marked_and_markup_in_them_is_text() {
        let shown = marked("A calm harbour.", "A <b>stormy</b> harbour.").into_string();
        assert_eq!(shown, "A <mark>&lt;b&gt;stormy&lt;/b&gt;</mark> harbour.");
        let shown = merged("A calm harbour.", "A stormy harbour.").into_string();
        assert_eq!(shown, "A <del>calm</del><ins>stormy</ins> harbour.");
    }
}
