//! Three-way merge of prose: two texts that grew from one. Deterministic, and never a mangled mix:
//! edits that overlap or touch are a conflict, and the caller shows one text whole.
//!
//! Texts are compared by words and the blanks and marks between them (UAX #29 word boundaries, so
//! no grapheme, emoji sequence or CR LF is ever cut): words that both texts hold exactly once pin
//! them to each other (patience diff), and imara-diff compares what lies between, as far as a
//! budget of work goes. Its own worst case, texts of few different words, grows with the product of
//! their lengths.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use imara_diff::{Algorithm, Diff, InternedInput};
use unicode_segmentation::UnicodeSegmentation as _;

/// Longest text that is merged, in bytes; longer ones that differ on both sides conflict.
const MERGED_BYTES_MAX: usize = 1024 * 1024;

/// Most pairs of words compared for one side; about a nanosecond each. What lies beyond counts as
/// rewritten.
const WORD_PAIRS_MAX: usize = 8_000_000;

/// One place where a side differs from the base: these tokens became that text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Edit {
    base: Range<usize>,
    text: String,
}

/// Merges `ours` and `theirs`, which both grew from `base`. `None` when an edit of one overlaps or
/// touches a different edit of the other. Symmetric: the order of the sides does not matter.
///
/// Where one of them spells its letters otherwise than the rest (UAX #15; macOS takes accents
/// apart), each such word would count as rewritten: then all three are compared, and merged, in
/// normal form C.
#[must_use]
pub fn merge_prose(base: &str, ours: &str, theirs: &str) -> Option<String> {
    if let Some(merged) = merge_as_spelled(base, ours, theirs) {
        return Some(merged);
    }
    let composed = [base, ours, theirs].map(crate::sameness::composed);
    if composed.iter().all(Option::is_none) {
        return None;
    }
    let [in_base, in_ours, in_theirs] = composed;
    merge_as_spelled(
        in_base.as_deref().unwrap_or(base),
        in_ours.as_deref().unwrap_or(ours),
        in_theirs.as_deref().unwrap_or(theirs),
    )
}

/// Whether `text` shows that its author had `after` before them, and not only `before`: it keeps at
/// least a fifth of the words that `after` has more than `before`, or, where `after` only lacks
/// words, still lacks one of them.
#[must_use]
pub fn keeps_changes(before: &str, after: &str, text: &str) -> bool {
    fn words(text: &str) -> HashMap<&str, usize> {
        let mut counted = HashMap::new();
        for word in text.unicode_words() {
            *counted.entry(word).or_default() += 1;
        }
        counted
    }
    let (before, after, text) = (words(before), words(after), words(text));
    let more = |of: &HashMap<&str, usize>, than: &HashMap<&str, usize>| -> (usize, usize) {
        of.iter().fold((0, 0), |(all, kept), (word, count)| {
            let base = than.get(word).copied().unwrap_or(0);
            let extra = count.saturating_sub(base);
            (
                all + extra,
                kept + text.get(word).copied().unwrap_or(0).saturating_sub(base).min(extra),
            )
        })
    };
    let (added, kept) = more(&after, &before);
    if added > 0 {
        return kept * 5 >= added;
    }
    let (removed, put_back) = more(&before, &after);
    removed == 0 || put_back < removed
}

fn merge_as_spelled(base: &str, ours: &str, theirs: &str) -> Option<String> {
    if ours == theirs || theirs == base {
        return Some(ours.to_owned());
    }
    if ours == base {
        return Some(theirs.to_owned());
    }
    if [base, ours, theirs].iter().any(|text| text.len() > MERGED_BYTES_MAX) {
        return None;
    }
    let tokens: Vec<&str> = base.split_word_bounds().collect();
    let edits: HashSet<Edit> =
        edits_of(&tokens, ours).into_iter().chain(edits_of(&tokens, theirs)).collect();
    let mut edits: Vec<Edit> = edits.into_iter().collect();
    edits.sort_by(|a, b| {
        (a.base.start, a.base.end, &a.text).cmp(&(b.base.start, b.base.end, &b.text))
    });
    let mut merged = String::with_capacity(ours.len().max(theirs.len()));
    let mut reached = 0;
    let mut last_end = None;
    for edit in &edits {
        // Within one side edits never touch, so those that do are from both sides.
        if last_end.is_some_and(|end| edit.base.start <= end) {
            return None;
        }
        merged.extend(tokens.get(reached..edit.base.start)?.iter().copied());
        merged.push_str(&edit.text);
        reached = edit.base.end;
        last_end = Some(edit.base.end);
    }
    merged.extend(tokens.get(reached..)?.iter().copied());
    Some(merged)
}

/// How a side differs from the base, in order. Differences with little unchanged between them are
/// one: two rewrites of a paragraph share many small words by chance, and must not be woven
/// together.
fn edits_of(base: &[&str], side: &str) -> Vec<Edit> {
    let side: Vec<&str> = side.split_word_bounds().collect();
    let mut hunks: Vec<(Range<usize>, Range<usize>)> = Vec::new();
    for (before, after) in differences(base, &side) {
        match hunks.last_mut() {
            Some((known_before, known_after))
                if before.start - known_before.end
                    < reach(known_before, known_after).max(reach(&before, &after)) =>
            {
                known_before.end = before.end;
                known_after.end = after.end;
            }
            _ => hunks.push((before, after)),
        }
    }
    hunks
        .into_iter()
        .filter_map(|(before, after)| Some(Edit { text: side.get(after)?.concat(), base: before }))
        .collect()
}

/// Where two lists of tokens differ, in order: these of the one stand for those of the other.
fn differences(base: &[&str], side: &[&str]) -> Vec<(Range<usize>, Range<usize>)> {
    let prefix = base.iter().zip(side).take_while(|(a, b)| a == b).count();
    let suffix = base
        .iter()
        .skip(prefix)
        .rev()
        .zip(side.iter().skip(prefix).rev())
        .take_while(|(a, b)| a == b)
        .count();
    let (base_end, side_end) = (base.len() - suffix, side.len() - suffix);
    let mut found = Vec::new();
    let mut budget = WORD_PAIRS_MAX;
    let (mut from_base, mut from_side) = (prefix, prefix);
    let pins = pins(
        base.get(prefix..base_end).unwrap_or_default(),
        side.get(prefix..side_end).unwrap_or_default(),
    );
    for (pin_base, pin_side) in
        pins.into_iter().map(|(a, b)| (a + prefix, b + prefix)).chain([(base_end, side_end)])
    {
        let (gap_base, gap_side) = (
            base.get(from_base..pin_base).unwrap_or_default(),
            side.get(from_side..pin_side).unwrap_or_default(),
        );
        let pairs = gap_base.len().saturating_mul(gap_side.len());
        if gap_base.is_empty() || gap_side.is_empty() || pairs > budget {
            if !(gap_base.is_empty() && gap_side.is_empty()) {
                found.push((from_base..pin_base, from_side..pin_side));
            }
        } else {
            budget -= pairs;
            let mut input: InternedInput<&str> = InternedInput::default();
            input.update_before(gap_base.iter().copied());
            input.update_after(gap_side.iter().copied());
            let shift = |range: &Range<u32>, by: usize| {
                let range = widen(range);
                range.start + by..range.end + by
            };
            found.extend(
                Diff::compute(Algorithm::Histogram, &input)
                    .hunks()
                    .map(|hunk| (shift(&hunk.before, from_base), shift(&hunk.after, from_side))),
            );
        }
        (from_base, from_side) = (pin_base + 1, pin_side + 1);
    }
    found
}

/// The tokens that occur exactly once in either list, as places in both, in an order both agree on
/// (the longest there is).
fn pins(base: &[&str], side: &[&str]) -> Vec<(usize, usize)> {
    let in_side = once(side);
    let mut common: Vec<(usize, usize)> = once(base)
        .into_iter()
        .filter_map(|(token, place)| Some((place?, (*in_side.get(token)?)?)))
        .collect();
    common.sort_unstable();
    // Longest increasing subsequence of the places in `side` (patience sorting).
    let mut piles: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::with_capacity(common.len());
    for (number, (_, place)) in common.iter().enumerate() {
        let pile =
            piles.partition_point(|top| common.get(*top).is_some_and(|(_, known)| known < place));
        before.push(pile.checked_sub(1).and_then(|previous| piles.get(previous)).copied());
        match piles.get_mut(pile) {
            Some(top) => *top = number,
            None => piles.push(number),
        }
    }
    let mut chain = Vec::with_capacity(piles.len());
    let mut next = piles.last().copied();
    while let Some(number) = next {
        chain.extend(common.get(number));
        next = before.get(number).copied().flatten();
    }
    chain.reverse();
    chain
}

/// Each token with its place; `None` for those that occur again.
fn once<'a>(tokens: &[&'a str]) -> HashMap<&'a str, Option<usize>> {
    let mut places = HashMap::new();
    for (place, token) in tokens.iter().enumerate() {
        places.entry(*token).and_modify(|known| *known = None).or_insert(Some(place));
    }
    places
}

fn widen(range: &Range<u32>) -> Range<usize> {
    // u32 always fits into usize here: texts of 1 MiB have fewer tokens.
    usize::try_from(range.start).unwrap_or(usize::MAX)
        ..usize::try_from(range.end).unwrap_or(usize::MAX)
}

/// How many unchanged tokens a difference swallows: as many as it is long, at least one.
fn reach(before: &Range<usize>, after: &Range<usize>) -> usize {
    before.len().max(after.len()).max(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_that_do_not_touch_are_both_kept() {
        let base = "The quick brown fox jumps over the lazy dog.\r\nIt was late.";
        let ours = "The slow brown fox jumps over the lazy dog.\r\nIt was late.";
        let theirs = "The quick brown fox jumps over the sleepy dog.\r\nIt was late, and cold.";
        let merged = "The slow brown fox jumps over the sleepy dog.\r\nIt was late, and cold.";
        assert_eq!(merge_prose(base, ours, theirs).as_deref(), Some(merged));
        assert_eq!(merge_prose(base, theirs, ours).as_deref(), Some(merged));
    }

    #[test]
    fn edits_that_overlap_or_touch_conflict() {
        for (base, ours, theirs) in [
            ("red apple", "green apple", "blue apple"),
            ("one two three", "one 2 three", "one 2 2 three"),
            ("the end", "the end.", "the end!"),
            ("", "mine", "theirs"),
            ("a b c d e f g", "", "a b c d e f g h"),
        ] {
            assert_eq!(merge_prose(base, ours, theirs), None, "{base:?} {ours:?} {theirs:?}");
        }
    }

    #[test]
    fn a_text_rewritten_on_both_sides_conflicts_soon() {
        let words = |seed: u64| {
            (0..10_000_u64).map(|n| format!("w{} ", (n * seed) % 4_999)).collect::<String>()
        };
        assert_eq!(merge_prose(&words(3), &words(5), &words(7)), None);
    }

    #[test]
    fn a_long_text_of_few_words_is_merged_or_conflicts_but_never_stalls() {
        let words = |seed: u64| {
            (0..20_000_u64)
                .map(|n| if (n * seed) % 7 < 3 { "la " } else { "lo " })
                .collect::<String>()
        };
        assert_eq!(merge_prose(&words(3), &words(5), &words(11)), None);
        let base = words(3);
        let (ours, theirs) = (format!("Begin. {base}"), format!("{base}End."));
        assert_eq!(merge_prose(&base, &ours, &theirs), Some(format!("Begin. {base}End.")));
    }

    #[test]
    fn the_same_edit_on_both_sides_is_made_once() {
        let base = "hello world, how are you today my old friend";
        assert_eq!(
            merge_prose(
                base,
                "Hello world, how are you today my old friend",
                "Hello world, how are you today my new friend"
            )
            .as_deref(),
            Some("Hello world, how are you today my new friend")
        );
    }

    #[test]
    fn graphemes_and_scripts_stay_whole() {
        let base = "family 👩‍👩‍👧 here, שלום עולם there and e\u{301}te\u{301} everywhere";
        let ours = "family 👩‍👩‍👦 here, שלום עולם there and e\u{301}te\u{301} everywhere";
        let theirs = "family 👩‍👩‍👧 here, שלום עולם there and e\u{301}te\u{301} nowhere";
        assert_eq!(
            merge_prose(base, ours, theirs).as_deref(),
            Some("family 👩‍👩‍👦 here, שלום עולם there and e\u{301}te\u{301} nowhere")
        );
    }

    #[test]
    fn a_text_tells_which_state_its_author_had_read() {
        let (before, after) = (
            "He lives in the tower.",
            "He lives in the tower. Nobody knows why he left the court.",
        );
        assert!(!keeps_changes(before, after, "He lives in the high tower."));
        assert!(keeps_changes(
            before,
            after,
            "He lives in the tower. Nobody knows why he left the court, or when."
        ));
        assert!(keeps_changes(before, after, "He left the court. Nobody knows why."));
        assert!(!keeps_changes(
            after,
            before,
            "He lives in the tower. Nobody knows why he left the court for good."
        ));
        assert!(keeps_changes(after, before, "He lives in the tower, alone."));
    }

    #[test]
    fn a_side_that_takes_accents_apart_has_rewritten_nothing() {
        let base = "café, naïve, déjà vu, and the rest of it";
        let ours = "cafe\u{301}, nai\u{308}ve, de\u{301}ja\u{300} vu, and the rest of it all";
        let theirs = "café, naïve, never déjà vu, and the rest of it";
        assert_eq!(
            merge_prose(base, ours, theirs).as_deref(),
            Some("café, naïve, never déjà vu, and the rest of it all")
        );
    }

    #[test]
    fn two_rewrites_of_a_paragraph_are_not_woven_together() {
        let base =
            "The ship sailed at dawn and the crew was silent because the storm had taken the mast.";
        let ours = "At dawn the ship left, and because of the storm that took the mast the crew \
            said nothing.";
        let theirs = "Nobody of the crew spoke when the ship sailed: the mast was gone, and the \
            dawn was red.";
        assert_eq!(merge_prose(base, ours, theirs), None);
    }
}
