//! storysync: a peer sync node for an app that keeps its data in one SQLite file.
//!
//! ```text
//!     app's tables ──capture──▶ entity documents ──change log──▶ sealed change set ──HTTP──▶ peer
//!          ▲                          │                                                      │
//!          └────────project───────────┴────────────merge + conflicts◀───────open─────────────┘
//! ```
//!
//! Arrows point one way: `trust` → `store`, `app` → `sync` → `net` → `node` → `cli`. `store` (our
//! tables) and `app` (the app's) never name each other; `sync` joins them.

pub mod app;
pub mod cli;
pub mod config;
pub mod net;
pub mod node;
pub mod store;
pub mod sync;
mod telemetry;
pub mod trust;
pub mod values;
