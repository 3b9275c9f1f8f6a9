//! One binary for all integration tests: real SQLite files with a foreign writer, real HTTP, real
//! keys.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::too_many_lines,
    clippy::too_many_arguments,
    reason = "tests"
)]
#![expect(unreachable_pub, reason = "one binary: nothing is reachable from outside")]

mod attacks;
mod capture;
#[path = "../../fuzz/src/choices.rs"]
mod choices;
mod commandline;
mod conflicts;
mod convergence;
#[path = "../../fuzz/src/convergence_sqlite.rs"]
mod convergence_sqlite;
mod deciding;
mod described;
mod eavesdropper;
mod fixtures;
mod guard;
mod guarded;
mod handmade;
mod hazards;
mod live;
mod meeting;
mod migrating;
mod network;
mod nodes;
mod owners;
mod packing;
mod page;
mod pairing;
mod pausing;
mod plain;
mod primitives;
mod processes;
mod receipts;
mod releases;
mod renaming;
mod restored;
mod schemas;
mod sealing;
mod settings;
mod spoofing;
mod statuses;
mod support;
mod surface;
mod syncing;
mod trust;
mod typing;
mod upgrades;
mod vectors;
mod watching;
