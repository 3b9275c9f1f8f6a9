//! Lists for people: columns under each other, as wide as the terminal and no wider.

use comfy_table::{ContentArrangement, Table};

use crate::printable;

/// A terminal narrower than this is left to break the lines itself.
const COLUMNS_MIN: u16 = 40;

/// The rows under their titles; without titles where there are none. What goes elsewhere than to a
/// terminal is not broken into lines: each row stays one.
pub(super) fn table(titles: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let terminal = console::Term::stdout();
    let width = terminal.is_term().then(|| terminal.size().1).filter(|width| *width >= COLUMNS_MIN);
    table_within(width, titles, rows)
}

fn table_within(
    width: Option<u16>,
    titles: &[&str],
    rows: impl IntoIterator<Item = Vec<String>>,
) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    match width {
        Some(width) => {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        }
        None => {
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
    }
    if !titles.is_empty() {
        table.set_header(titles);
    }
    for row in rows {
        // What is shown by its code is measured as it is shown; and a row is one row.
        table.add_row(row.iter().map(|cell| printable(cell).replace('\n', " ")));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    if lines.is_empty() { String::new() } else { lines.join("\n") + "\n" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<String>> {
        [["one", "short"], ["ein längeres Wort", "日本 and what is longer than a line\nmay be"]]
            .map(|row| row.map(str::to_owned).to_vec())
            .to_vec()
    }

    #[test]
    fn columns_stand_under_each_other_and_each_row_stays_a_line_in_a_pipe() {
        assert_eq!(
            table_within(None, &["word", "says"], rows()),
            "word               says\n\
             one                short\n\
             ein längeres Wort  日本 and what is longer than a line may be\n"
        );
    }

    #[test]
    fn nothing_is_wider_than_the_terminal_and_nothing_is_lost() {
        let shown = table_within(Some(40), &["word", "says"], rows());
        assert!(shown.lines().all(|line| console::measure_text_width(line) <= 40), "{shown}");
        let words: Vec<&str> = shown.split_whitespace().collect();
        for word in ["längeres", "日本", "longer", "line", "may", "be"] {
            assert!(words.contains(&word), "{word} is lost: {shown}");
        }
    }

    #[test]
    fn a_cell_drives_no_terminal() {
        let row = vec![vec!["a\u{1b}[2J".to_owned(), "b".to_owned()]];
        assert_eq!(table_within(None, &[], row), "a<U+001B>[2J  b\n");
    }
}
