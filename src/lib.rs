//! storysync: a peer sync node for an app that keeps its data in one `SQLite` file. This crate is
//! the node: the network, the command line, the settings. What is synced, and what two devices say
//! to each other, is `storysync-engine`'s; how documents merge, `storysync-crdt`'s.
//!
//! Layers, lowest first: `storysync_engine`, `net`, `page`, `node`, `cli`. Each uses those before
//! it.

pub mod cli;
pub mod config;
mod kind_of;
pub mod net;
pub mod node;
pub mod page;
mod printable;
mod qr_picture;
pub mod settings;
mod telemetry;

pub(crate) use kind_of::kind_of;
pub use printable::printable;
