//! How much of a text is gone once another stands in its place: what the deletion guard counts
//! beside deleted rows.
//!
//! Owns the measure, in characters. Refuses to know when so much is too much, and whose texts they
//! are.

use std::collections::HashMap;

use unicode_segmentation::UnicodeSegmentation as _;

/// From so many characters on a text that was written over counts by its words. Shorter ones (a
/// title, a job) are replaced whole all day long, and count by what they became shorter.
const WRITTEN_OVER_CHARACTERS_MIN: usize = 200;

/// Characters of `before` that are gone where `after` stands now: what it became shorter, or, of a
/// long text, the words that stand in it no more.
///
/// ```
/// # use storysync_crdt::characters_lost;
/// assert_eq!(characters_lost("Afraid of the sea.", ""), 18);
/// assert_eq!(characters_lost("Afraid of the sea.", "Afraid"), 12);
/// assert_eq!(characters_lost("Afraid of the sea.", "Afraid of the deep sea."), 0);
/// ```
#[must_use]
pub fn characters_lost(before: &str, after: &str) -> usize {
    let (before, after) = middles(before, after);
    let length = before.chars().count();
    let shrunk = length.saturating_sub(after.chars().count());
    if length < WRITTEN_OVER_CHARACTERS_MIN || after.is_empty() {
        return shrunk;
    }
    let mut kept: HashMap<&str, usize> = HashMap::new();
    for word in after.unicode_words() {
        *kept.entry(word).or_default() += 1;
    }
    let mut gone = 0;
    for word in before.unicode_words() {
        match kept.get_mut(word) {
            Some(count) if *count > 0 => *count -= 1,
            _ => gone += word.chars().count(),
        }
    }
    shrunk.max(gone)
}

/// Two texts without what they begin and end alike with.
fn middles<'a>(one: &'a str, other: &'a str) -> (&'a str, &'a str) {
    let alike = |pairs: &mut dyn Iterator<Item = (char, char)>| -> usize {
        pairs.take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum()
    };
    let start = alike(&mut one.chars().zip(other.chars()));
    let (one, other) =
        (one.get(start..).unwrap_or_default(), other.get(start..).unwrap_or_default());
    let end = alike(&mut one.chars().rev().zip(other.chars().rev()));
    let cut = |text: &'a str| text.get(..text.len() - end).unwrap_or_default();
    (cut(one), cut(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(word: &str) -> String {
        (0..60).map(|number| format!("{word}{number} ")).collect()
    }

    #[test]
    fn a_text_that_was_blanked_or_cut_lost_what_is_missing() {
        let text = page("sea");
        let length = text.chars().count();
        assert_eq!(characters_lost(&text, ""), length);
        let ten: String = text.chars().take(10).collect();
        assert_eq!(characters_lost(&text, &ten), length - 10);
        let ending: String = text.chars().skip(length - 10).collect();
        assert_eq!(characters_lost(&text, &ending), length - 10);
        assert_eq!(characters_lost("", &text), 0);
        assert_eq!(characters_lost(&text, &text), 0);
    }

    #[test]
    fn a_long_text_written_over_is_lost_and_a_revised_one_is_not() {
        let text = page("sea");
        assert!(characters_lost(&text, &page("x")) * 10 > text.chars().count() * 6);
        let half = |numbers: std::ops::Range<i32>| -> String {
            numbers.map(|number| format!("sea{number} ")).collect()
        };
        let moved = half(30..60) + &half(0..30);
        assert!(characters_lost(&text, &moved) < 20, "{}", characters_lost(&text, &moved));
        let revised = text.replace("sea7 ", "storm ").replace("sea40 ", "");
        assert!(characters_lost(&text, &revised) < 30);
    }

    #[test]
    fn a_short_text_counts_by_its_length_alone() {
        assert_eq!(characters_lost("harbour master", "storm captain of ships"), 0);
        assert_eq!(characters_lost("harbour master", "pirate"), 8);
        assert_eq!(characters_lost("éà", "é"), 1, "characters, not bytes");
    }
}
