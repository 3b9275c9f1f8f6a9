//! A file as an app has it, of any number of rows: what the benchmarks work on.

use std::path::Path;

use rusqlite::{Connection, params};

/// A text of `length` characters that does not compress to nothing.
pub(crate) fn text(seed: u64, length: usize) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut text = String::with_capacity(length + 12);
    while text.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let word = state % 5_000;
        for place in 0..2 + word % 7 {
            text.push(char::from(b'a' + u8::try_from((word * 31 + place * 7) % 26).unwrap()));
        }
        text.push(' ');
    }
    text.truncate(length);
    text
}

/// A file with `rows` rows of 20 filled columns and a note of 500 characters, as an app has it.
pub(crate) fn make(path: &Path, rows: i64) {
    let connection = Connection::open(path).unwrap();
    let columns: Vec<String> = (1..=14).map(|column| format!("c{column} TEXT")).collect();
    let sql = format!(
        "CREATE TABLE note (id INTEGER PRIMARY KEY, {}, n1 INTEGER, n2 INTEGER, r1 REAL, r2 REAL, \
            title TEXT, flag INTEGER, note TEXT)",
        columns.join(", ")
    );
    connection.execute_batch(&format!("{sql}; BEGIN")).unwrap();
    let values: Vec<String> =
        (1..=14).map(|column| format!("'value {column} of row ' || ?1")).collect();
    let mut insert = connection
        .prepare(&format!(
            "INSERT INTO note VALUES (?1, {}, ?1, ?1 * 7, ?1 / 3.0, ?1 / \
            7.0, 'Title ' || ?1, 1, ?2)",
            values.join(", ")
        ))
        .unwrap();
    for row in 1..=rows {
        insert.execute(params![row, text(row.unsigned_abs(), 500)]).unwrap();
    }
    drop(insert);
    connection.execute_batch("COMMIT").unwrap();
}
