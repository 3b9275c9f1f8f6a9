//! The engine of storysync: what a node and a phone share. It mirrors the rows of an app's `SQLite`
//! file into automerge documents, merges what other devices wrote, shows the result in the app's
//! tables, and holds the conversation between two devices.
//!
//! ```text
//!     app's tables ──capture──▶ documents ──change log──▶ exchange::Request ──▶ a transport
//!          ▲                        │                                              │
//!          └───────project──────────┴──────────receive◀───── exchange::Reply ◀─────┘
//! ```
//!
//! No network, no thread, no clock and no randomness of its own: time, random bytes and the way to
//! the peer are arguments, effects are return values. The only I/O is the app's file and the files
//! of the data directory that [`store`] and [`app::backup`] name.
//!
//! Layers, lowest first: [`trust`]; [`store`] and [`app`]; `transaction`; one module for each phase
//! (`capture`, `receive`, `project`, `decide`, `migrate`); [`exchange`]. `engine` ties them
//! together; the phases use each other, and the messages of [`exchange::wire`].

mod capture;
mod decide;
mod engine;
mod epoch;
mod error;
mod file_guard;
mod migrate;
mod naming;
mod project;
mod receive;
mod report;
mod transaction;

pub mod app;
pub mod exchange;
pub mod store;
pub mod translate;
pub mod trust;

pub use decide::deletion_guard::{
    GUARD_FILE_LOST_MAX, GUARD_PART, GUARD_TABLE_LOST_MAX, GUARD_TABLE_ROWS_MIN, GUARD_WINDOW_MS,
    HoldDecision, HoldReport,
};
pub use decide::history::{DeviceUndo, EntryReport, FieldEntry, UndoReport};
pub use decide::receipts::ChangeReport;
pub use decide::recent::{DeletedRow, RecentChange};
pub use decide::resolve::{Choice, Take};
pub use engine::status::Status;
pub use engine::{Engine, EngineOptions, Entropy, Noticed};
pub use epoch::NewEpoch;
pub use error::EngineError;
pub use exchange::digest::{DigestRequest, Digests, ROWS_ASKED_MAX, TableDigest};
pub use exchange::first_contact::{Contact, ContactQuestion, FirstContact, Relation, RowPair};
pub use exchange::pages::{Cursor, PAGE_BYTES_MAX, PAGE_ENTITIES_MAX, PushPage, Reached};
pub use exchange::reconcile::{NAMED_MAX, ReconcileError, Reconciling};
pub use exchange::wire;
pub use file_guard::{FileMoment, WriteSensor};
pub use migrate::adopt::{MigrationReport, TableReport};
pub use migrate::uninstall::UninstallReport;
pub use receive::accepted::Accepted;
pub use receive::{Incoming, PushedConflicts, Receipt};
pub use report::{ConflictReport, FieldReport, NoticeReport, RowName, RowReport, ValueReport};
pub use transaction::Spent;
