//! When two values say the same to a person, and which columns no person writes.
//!
//! Owns what counts as typed: an empty text where nothing was, the same letters in another Unicode
//! normal form and an app's own bookkeeping are not. Refuses to know documents and tables.

use unicode_normalization::{IsNormalized, UnicodeNormalization as _, is_nfc_quick};

use crate::{Value, key};

/// Whether a value says nothing: NULL, or the empty text a form shows in its place and writes back.
#[must_use]
pub fn says_nothing(value: &Value) -> bool {
    value.is_null() || value.as_text() == Some("")
}

/// Whether two values say the same to a person: equal, both empty, or the same letters (Unicode
/// canonical equivalence, UAX #15): macOS writes `é` as two code points where others write one.
#[must_use]
pub fn says_the_same(a: &Value, b: &Value) -> bool {
    if a == b || (says_nothing(a) && says_nothing(b)) {
        return true;
    }
    match (a.as_text(), b.as_text()) {
        (Some(a), Some(b)) => (!a.is_ascii() || !b.is_ascii()) && a.nfc().eq(b.nfc()),
        _ => false,
    }
}

/// The text in Unicode normal form C (UAX #15), where it is not in it already.
pub(crate) fn composed(text: &str) -> Option<String> {
    if text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes {
        return None;
    }
    // The quick check may say "perhaps" of text that is composed already.
    Some(text.nfc().collect::<String>()).filter(|composed| composed != text)
}

/// Names of columns an app keeps by itself, in lower case without `_`, `-` and blanks.
const KEPT_BY_APPS: &[&str] = &[
    "accesscount",
    "accessed",
    "accessedat",
    "accesstime",
    "atime",
    "changed",
    "changedat",
    "changetime",
    "charactercount",
    "charcount",
    "datechanged",
    "dateedited",
    "datemodified",
    "dateupdated",
    "editcount",
    "edited",
    "editedat",
    "etag",
    "hitcount",
    "lastaccess",
    "lastaccessed",
    "lastaccessedat",
    "lastchange",
    "lastchanged",
    "lastchangedat",
    "lastedit",
    "lastedited",
    "lasteditedat",
    "lastmodified",
    "lastmodifiedat",
    "lastopen",
    "lastopened",
    "lastopenedat",
    "lastread",
    "lastreadat",
    "lastsaved",
    "lastsavedat",
    "lastseen",
    "lastseenat",
    "lastsynced",
    "lastsyncedat",
    "lastupdate",
    "lastupdated",
    "lastupdatedat",
    "lastused",
    "lastusedat",
    "lastviewed",
    "lastviewedat",
    "lastvisit",
    "lastvisited",
    "letterscount",
    "linecount",
    "modificationdate",
    "modificationtime",
    "modified",
    "modifiedat",
    "modifieddate",
    "modifiedon",
    "modifiedtime",
    "mtime",
    "opencount",
    "opened",
    "openedat",
    "revision",
    "revisioncount",
    "savecount",
    "savedat",
    "syncedat",
    "updatecount",
    "updated",
    "updatedat",
    "updatedate",
    "updatedon",
    "updatetime",
    "usagecount",
    "usecount",
    "viewcount",
    "viewed",
    "viewedat",
    "visitcount",
    "wordcount",
];

/// Whether a column holds what the app itself keeps about a row (when it was last opened or
/// modified, how many words it has), told by its name alone, so that every device says the same.
/// Nobody types into it: it never conflicts, the latest writer's value stands, and writing it is no
/// edit.
#[must_use]
pub fn is_kept_by_app(column: &str) -> bool {
    let column = column.strip_prefix(key::APP_COLUMN).unwrap_or(column);
    let name: String =
        column.chars().filter(|c| c.is_alphanumeric()).map(|c| c.to_ascii_lowercase()).collect();
    KEPT_BY_APPS.binary_search(&name.as_str()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_for_searching() {
        assert!(KEPT_BY_APPS.is_sorted());
    }

    #[test]
    fn bookkeeping_is_told_by_name_however_it_is_spelled() {
        for name in
            ["modified", "lastOpened", "word_count", "last-modified-at", "LAST_SEEN", "mtime"]
        {
            assert!(is_kept_by_app(name), "{name}");
        }
        for name in ["title", "mood", "modifier", "words", "count", "opening", "updates"] {
            assert!(!is_kept_by_app(name), "{name}");
        }
    }

    #[test]
    fn empty_and_missing_text_say_the_same_and_so_do_composed_letters() {
        assert!(says_the_same(&Value::Null, &Value::from("")));
        assert!(says_the_same(&Value::from("e\u{301}t\u{e9}"), &Value::from("\u{e9}te\u{301}")));
        assert!(!says_the_same(&Value::from("e"), &Value::from("\u{e9}")));
        assert!(!says_the_same(&Value::Null, &Value::from(" ")));
        assert!(!says_the_same(&Value::from(0), &Value::Null));
    }
}
