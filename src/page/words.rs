//! Every word of the page, by language: one Fluent file each (projectfluent.org). Knows nothing of
//! where a word stands.

use std::borrow::Cow;
use std::sync::LazyLock;

use fluent_bundle::concurrent::FluentBundle;
use fluent_bundle::{FluentArgs, FluentResource, FluentValue};
use unic_langid::LanguageIdentifier;

/// The languages there are, with their words; the first where a browser asks for none of them.
const LANGUAGES: &[(&str, &str)] =
    &[("en", include_str!("words/en.ftl")), ("de", include_str!("words/de.ftl"))];

static BUNDLES: LazyLock<Vec<(&str, FluentBundle<FluentResource>)>> =
    LazyLock::new(|| LANGUAGES.iter().map(|(code, text)| (*code, bundle(code, text))).collect());

fn bundle(code: &str, text: &str) -> FluentBundle<FluentResource> {
    let language: LanguageIdentifier = code.parse().unwrap_or_default();
    let mut bundle = FluentBundle::new_concurrent(vec![language]);
    // Invisible marks around every name would hide sentences from searching in the view; what needs
    // them gets them from `isolated`.
    bundle.set_use_isolating(false);
    // A file with a slip in it still gives the words around it; a test finds the slip.
    let resource = match FluentResource::try_new(text.to_owned()) {
        Ok(resource) | Err((resource, _)) => resource,
    };
    drop(bundle.add_resource(resource));
    bundle
}

/// The words of one language.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words {
    language: usize,
}

impl Words {
    /// The words of the language a browser asks for (RFC 9110, Accept-Language).
    pub(super) fn of(accepted: &str) -> Self {
        let known: Vec<&str> = LANGUAGES.iter().map(|(code, _)| *code).collect();
        let asked = accept_language::parse(accepted);
        let language = asked
            .iter()
            .filter_map(|asked| asked.split('-').next())
            .find_map(|asked| known.iter().position(|code| asked.eq_ignore_ascii_case(code)))
            .unwrap_or(0);
        Self { language }
    }

    /// The code of the language, for the `lang` attribute.
    pub(super) fn code(self) -> &'static str {
        LANGUAGES.get(self.language).map_or("en", |(code, _)| code)
    }

    /// A sentence without blanks.
    pub(super) fn say(self, key: &str) -> String {
        self.format(key, None)
    }

    /// A sentence with its blanks filled.
    pub(super) fn with<'a>(self, key: &str, blanks: &[(&'static str, Blank<'a>)]) -> String {
        let mut args = FluentArgs::new();
        for (name, value) in blanks {
            args.set(*name, value.0.clone());
        }
        self.format(key, Some(&args))
    }

    fn format(self, key: &str, args: Option<&FluentArgs<'_>>) -> String {
        let own = BUNDLES.get(self.language);
        let found = own.into_iter().chain(BUNDLES.first()).find_map(|(_, bundle)| {
            let pattern = bundle.get_message(key)?.value()?;
            let mut errors = Vec::new();
            Some(bundle.format_pattern(pattern, args, &mut errors).into_owned())
        });
        found.unwrap_or_else(|| key.to_owned())
    }
}

/// A text that can't turn the sentence around it is put in as it is; one with letters that are
/// written from right to left between marks that keep it to itself (Unicode TR 9, isolates).
fn isolated(text: &str) -> Cow<'_, str> {
    let turns = |letter: char| {
        matches!(letter, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{feff}'
            | '\u{10800}'..='\u{10fff}' | '\u{1e800}'..='\u{1efff}')
    };
    if text.chars().any(turns) {
        Cow::Owned(format!("\u{2068}{text}\u{2069}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// What fills a blank.
#[derive(Debug, Clone)]
pub(super) struct Blank<'a>(FluentValue<'a>);

impl<'a> From<&'a str> for Blank<'a> {
    fn from(text: &'a str) -> Self {
        Self(FluentValue::String(isolated(text)))
    }
}

impl<'a> From<&'a String> for Blank<'a> {
    fn from(text: &'a String) -> Self {
        Self(FluentValue::String(isolated(text)))
    }
}

impl From<i64> for Blank<'_> {
    fn from(number: i64) -> Self {
        Self(FluentValue::from(number))
    }
}

impl From<usize> for Blank<'_> {
    fn from(number: usize) -> Self {
        Self(FluentValue::from(number))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// Keys of a file, each with the blanks its sentence has.
    fn keys(text: &str) -> BTreeMap<String, BTreeSet<String>> {
        let mut found = BTreeMap::new();
        let mut current: Option<String> = None;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some((key, _)) = line.split_once(" =").filter(|_| !line.starts_with(' ')) {
                assert!(found.insert(key.to_owned(), BTreeSet::new()).is_none(), "{key} twice");
                current = Some(key.to_owned());
            }
            let Some(blanks) = current.as_ref().and_then(|key| found.get_mut(key)) else {
                continue;
            };
            for piece in line.split("$").skip(1) {
                blanks.insert(
                    piece
                        .chars()
                        .take_while(|char| char.is_ascii_alphanumeric() || *char == '_')
                        .collect(),
                );
            }
        }
        found
    }

    #[test]
    fn every_language_has_every_sentence_with_the_same_blanks_and_no_slip() {
        let first = keys(LANGUAGES.first().unwrap().1);
        assert!(first.len() > 100);
        for (code, text) in LANGUAGES {
            let read = FluentResource::try_new((*text).to_owned());
            assert!(read.is_ok(), "{code}.ftl: {:?}", read.err().map(|(_, errors)| errors));
            let own = keys(text);
            for (key, blanks) in &first {
                assert_eq!(Some(blanks), own.get(key), "{code}.ftl: {key}");
            }
            assert_eq!(own.len(), first.len(), "{code}.ftl has sentences nobody says");
        }
    }

    #[test]
    fn every_sentence_the_views_say_stands_in_the_table() {
        let known = keys(LANGUAGES.first().unwrap().1);
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/page");
        let mut asked = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for opening in [".say(\"", ".with(\""] {
                for piece in text.split(opening).skip(1) {
                    let key = piece.split('"').next().unwrap_or_default();
                    if key.contains(['{', '[', '\\']) || path.ends_with("words.rs") {
                        continue;
                    }
                    asked += 1;
                    assert!(known.contains_key(key), "{}: {key}", path.display());
                }
            }
        }
        assert!(asked > 100, "{asked}");
    }

    #[test]
    fn a_name_from_right_to_left_keeps_to_itself_and_others_are_found_by_searching() {
        let words = Words::of("en");
        assert_eq!(
            words.with("pair-asks", &[("name", "Phone".into())]),
            "Phone asks to be paired."
        );
        let turned = words.with("pair-asks", &[("name", "\u{5d0}\u{5d1}".into())]);
        assert!(turned.starts_with("\u{2068}\u{5d0}\u{5d1}\u{2069} asks"), "{turned}");
    }

    #[test]
    fn the_language_follows_the_browser() {
        for (accepted, code) in [
            ("de-DE,de;q=0.9,en;q=0.8", "de"),
            ("fr, en;q=0.5", "en"),
            ("", "en"),
            ("x\u{0}", "en"),
        ] {
            assert_eq!(Words::of(accepted).code(), code, "{accepted}");
        }
    }
}
