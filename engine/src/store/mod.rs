//! The node's own tables: in the app's file the change log, rows, references and peers (`log`,
//! `packs`, `rows`, `references`, `peers`, `outbox`), conflicts, holds and notices (`conflicts`,
//! `holds`, `notices`), renamed columns (`renamed`); in the data directory the devices we trust
//! (`trust`), our keys (`key_file`), whose file is served (`file_lock`) and how far logs had come
//! (`anchor`).
//!
//! Refuses to know the app's tables, except to create Storymaster's in a new file. What stands in
//! the app's file is read and written inside a transaction somebody else began.

pub mod anchor;
pub mod conflicts;
pub mod file_lock;
pub mod holds;
pub mod key_file;
pub mod log;
pub mod migrations;
pub mod notices;
pub mod outbox;
pub mod packs;
pub mod peers;
mod position;
pub mod quarantine;
pub mod references;
pub mod renamed;
pub mod rows;
pub mod trust;
