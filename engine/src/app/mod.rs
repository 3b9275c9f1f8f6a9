//! The app's own tables: foreign ground. What they look like, how their writes are noticed, how
//! rows are read and written, how the file is backed up. Knows nothing of documents, peers or our
//! tables beyond the outbox and the writer flag its triggers use.

pub mod backup;
pub mod profile;
pub mod rows;
pub mod schema;
pub mod triggers;
pub mod uniques;

/// `name` as an SQL identifier.
#[must_use]
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `text` as an SQL string literal.
#[must_use]
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
