//! Values, times, devices and tables in words a writer uses. Tells, and decides nothing.

use maud::{Markup, html};
use serde_json::Value as Json;
use storysync_crdt::Stamp;
use storysync_engine::store::trust::TrustedDevice;
use storysync_engine::translate::from_json;

use super::visit::Visit;
use super::words::Words;
use crate::net::node_state::now;
use crate::net::reply::Refusal;
use crate::printable;

/// Characters of a value shown in a line.
const LINE_CHARS_MAX: usize = 160;
/// Texts longer than this are shown in a box of their own, in characters.
const LONG_TEXT_CHARS: usize = 120;

/// What devices are called.
#[derive(Debug)]
pub(super) struct Names {
    own: String,
    devices: Vec<TrustedDevice>,
}

impl Names {
    pub(super) fn of(visit: &Visit) -> Result<Self, Refusal> {
        let node = &visit.page.node;
        Ok(Self { own: node.identity.device_id().to_string(), devices: node.trust.devices()? })
    }

    /// A device, as a person knows it.
    pub(super) fn name(&self, words: Words, id: Option<&str>) -> String {
        match id {
            None => words.say("device-before"),
            Some(id) if id == self.own => words.say("device-this"),
            Some(id) => self
                .devices
                .iter()
                .find(|device| device.device_id.as_str() == id)
                .map_or_else(|| short_id(id), name_of),
        }
    }

    /// Whether it is this device.
    pub(super) fn is_own(&self, id: Option<&str>) -> bool {
        id == Some(self.own.as_str())
    }
}

/// What a device is called.
pub(super) fn name_of(device: &TrustedDevice) -> String {
    printable(&device.name).into_owned()
}

/// A device nobody knows by name.
fn short_id(id: &str) -> String {
    let end: String = id.chars().skip(id.chars().count().saturating_sub(8)).collect();
    format!("…{end}")
}

/// A table or column as a person reads it: `character_relationship` as “Character relationship”.
pub(super) fn readable(name: &str) -> String {
    let words = printable(name).replace('_', " ");
    let words = words.trim();
    let mut chars = words.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => name.to_owned(),
    }
}

/// A row as a person reads it: its name, or what it is.
pub(super) fn row_name(words: Words, name: Option<&str>, table: &str) -> String {
    match name.map(str::trim).filter(|name| !name.is_empty()) {
        Some(name) => clipped(&printable(name), LINE_CHARS_MAX),
        None => words.with("row-without-name", &[("table", (&readable(table)).into())]),
    }
}

/// Where a row's history stands.
pub(super) fn row_path(table: &str, uuid: &str) -> String {
    format!("/row/{}/{}", escaped(table), escaped(uuid))
}

/// A name as a piece of a path (RFC 3986, section 2.1).
pub(super) fn escaped(text: &str) -> String {
    let mut path = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}

/// A link to a row, by its name.
pub(super) fn row_link(words: Words, table: &str, uuid: &str, name: Option<&str>) -> Markup {
    html! {
        a href=(row_path(table, uuid)) { bdi { (row_name(words, name, table)) } }
        " " span.table { (readable(table)) }
    }
}

/// A moment as a person reads it, with the exact time at hand.
pub(super) fn moment(words: Words, at: Option<&str>) -> Markup {
    let Some(stamp) = at.and_then(Stamp::parse) else {
        return html! { span { (words.say("time-unknown")) } };
    };
    html! {
        time datetime=(stamp.to_rfc3339()) title=(stamp.to_rfc3339()) { (ago(words, stamp)) }
    }
}

/// The same of a Unix time in ms.
pub(super) fn moment_ms(words: Words, at: i64) -> Markup {
    moment(words, Some(&Stamp::from_unix_ms(at).to_rfc3339()))
}

fn ago(words: Words, stamp: Stamp) -> String {
    let seconds = now().unix_ms().saturating_sub(stamp.unix_ms()) / 1_000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match () {
        () if seconds < -120 => words.say("time-future"),
        () if seconds < 60 => words.say("time-now"),
        () if minutes < 60 => words.with("time-minutes", &[("count", minutes.into())]),
        () if hours < 24 => words.with("time-hours", &[("count", hours.into())]),
        () if days < 60 => words.with("time-days", &[("count", days.into())]),
        () => stamp.to_rfc3339().chars().take(10).collect(),
    }
}

/// A text of at most so many characters.
pub(super) fn clipped(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    format!("{}…", text.chars().take(chars_max).collect::<String>())
}

/// A value as text; `None` when there is nothing in it to read.
pub(super) fn text_of(words: Words, value: &Json) -> Option<String> {
    match value {
        Json::Null => None,
        Json::String(text) => Some(text.clone()),
        Json::Bool(true) => Some(words.say("value-yes")),
        Json::Bool(false) => Some(words.say("value-no")),
        Json::Number(number) => Some(number.to_string()),
        Json::Array(_) | Json::Object(_) => Some(match from_json(value) {
            Some(storysync_crdt::Value::Blob(bytes)) => bytes_words(words, &bytes),
            _ => value.to_string(),
        }),
    }
}

fn bytes_words(words: Words, bytes: &[u8]) -> String {
    let size = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    match crate::kind_of(bytes) {
        Some(kind) => {
            words.with("value-bytes-kind", &[("size", size.into()), ("kind", kind.into())])
        }
        None => words.with("value-bytes", &[("size", size.into())]),
    }
}

/// A value in a line.
pub(super) fn line(words: Words, value: &Json) -> Markup {
    match text_of(words, value) {
        None => html! { em.nothing { (words.say("value-none")) } },
        Some(text) if text.is_empty() => html! { em.nothing { (words.say("value-empty")) } },
        Some(text) => html! { bdi.value { (clipped(&printable(&text), LINE_CHARS_MAX)) } },
    }
}

/// Whether a value is read in a box rather than in a line.
pub(super) fn is_long(value: &Json) -> bool {
    value.as_str().is_some_and(|text| text.chars().count() > LONG_TEXT_CHARS || text.contains('\n'))
}

/// A size in words.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["B", "KB", "MB", "GB"];
    let mut value = bytes;
    let mut tenths = 0;
    let mut unit = 0;
    while value >= 1_000 && unit + 1 < UNITS.len() {
        tenths = (value % 1_000) / 100;
        value /= 1_000;
        unit += 1;
    }
    let word = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 { format!("{value} {word}") } else { format!("{value}.{tenths} {word}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tables_and_sizes_are_read_by_people() {
        assert_eq!(readable("character_relationship"), "Character relationship");
        assert_eq!(size(999), "999 B");
        assert_eq!(size(1_234_567), "1.2 MB");
        assert_eq!(escaped("a b/ü"), "a%20b%2F%C3%BC");
    }
}
