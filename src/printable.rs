//! Text for a terminal or a log. What the app and other devices wrote is shown there, and neither
//! drives the terminal (ESC), nor turns the line around (bidirectional marks), nor hides in it.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;

use storysync_engine::trust::pairing::is_invisible;

/// Joiners of letters and of emoji: invisible, and part of how some scripts are written.
const JOINERS: [char; 2] = ['\u{200c}', '\u{200d}'];

/// The text, with characters that can't be seen as `<U+202E>`. Line breaks and tabs stay, and
/// joiners between letters that join.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    let mut before = ' ';
    let mut is_hidden = |character: char| {
        let joins = JOINERS.contains(&character) && !before.is_ascii() && !is_invisible(before);
        before = character;
        is_invisible(character) && !matches!(character, '\n' | '\t') && !joins
    };
    if !text.chars().any(&mut is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_hidden(character) {
            // Writing to a String does not fail.
            let _ = write!(shown, "<U+{:04X}>", u32::from(character));
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// A writer to which only printable text gets through.
#[derive(Debug)]
pub(crate) struct PrintableWriter<W>(pub(crate) W);

impl<W: io::Write> io::Write for PrintableWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_all(printable(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_or_hides_is_shown_by_its_code() {
        assert_eq!(printable("a\u{1b}[2Jb"), "a<U+001B>[2Jb");
        assert_eq!(printable("evil\u{202e}gpj.exe"), "evil<U+202E>gpj.exe");
        assert_eq!(printable("ad\u{200b}min\u{3164}\r"), "ad<U+200B>min<U+3164><U+000D>");
        assert_eq!(printable("\u{200d}a\u{200d}"), "<U+200D>a<U+200D>");
    }

    #[test]
    fn words_of_any_script_and_emoji_stay_as_they_are() {
        for text in
            ["Ada\n\tLovelace", "می\u{200c}خواهم", "👩\u{200d}👩\u{200d}👧", "Straße", "日本"]
        {
            assert_eq!(printable(text), text);
        }
    }
}
