//! The Engine: capture, merge, project, serve changes. Synchronous; effects are return values; the
//! time and randomness are arguments. What a desktop node runs is what a phone links.
//!
//! The Engine's own file opens files and guards transactions; what it offers is in `exchange` (with
//! devices), `decide` (with people), `reconcile`, `contact` and `digest`; whether anybody has
//! written to the file is asked beside it (`moment`). One write transaction is one
//! `session::Session`; its parts are `capture` (what did the app write), `receive` (what did a peer
//! send; `arrival` for new rows that stand by themselves, `plain` from clients without automerge)
//! and `settle` (make the app's table show what the documents say, by the `rules` across rows;
//! `contest` for unique values, `fitting` for values a table refuses); `accepted` tells the sender
//! of a push what became of it.

mod accepted;
mod adopt;
mod arrival;
mod brake;
mod capture;
mod contact;
mod contest;
mod decide;
mod deriving;
mod digest;
mod engine;
mod error;
mod exchange;
mod fitting;
mod history;
mod migrate;
mod moment;
mod naming;
mod pages;
mod plain;
mod receive;
mod reconcile;
mod renaming;
mod report;
mod resolve;
mod rings;
mod rules;
mod session;
mod settle;
pub mod wire;

pub use accepted::Accepted;
pub use adopt::{MigrationReport, TableReport};
pub use brake::{BRAKE_ROWS_MAX, BRAKE_TABLE_PART, BRAKE_WINDOW_MS, BrakeDecision, BrakeReport};
pub use contact::{Contact, ContactQuestion, FirstContact, Kinship, RowPair};
pub use digest::{DigestRequest, Digests, ROWS_ASKED_MAX, TableDigest};
pub use engine::{Engine, EngineOptions, Entropy, NewLife, Noticed};
pub use error::EngineError;
pub use history::{EntryReport, FieldEntry, UndoReport};
pub use moment::{FileMoment, WriteSensor};
pub use pages::{Cursor, PAGE_BYTES_MAX, PAGE_ENTITIES_MAX, PushPage, Reached};
pub use receive::{Incoming, PushedClashes, Receipt};
pub use reconcile::{NAMED_MAX, ReconcileError, Reconciling};
pub use report::{ConflictReport, FieldReport, NoticeReport, RowName, Status, ValueReport};
pub use resolve::{Choice, Take};
