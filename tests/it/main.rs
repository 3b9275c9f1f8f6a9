//! One binary for all integration tests: real SQLite files with a foreign writer, real HTTP, real keys.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used, missing_docs, reason = "tests")]

mod engine;
mod support;
