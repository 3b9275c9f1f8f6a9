//! What two devices say to each other, without a socket.
//!
//! ```text
//!   caller                                       called
//!   Exchange::next ──Request──▶ a transport ──▶ Engine::answer
//!   Exchange::handle ◀──Reply── a transport ◀── Answer
//! ```
//!
//! `machine` hands requests, work and events out (`desk`, `event`); `calling` and `comparing` are
//! the caller's story; `answering` is the other side. Both lean on `telling` and `intake` (pages
//! out and in), `known` (how far each knows the other's log), `reconcile` and `first_contact` (two
//! logs, two files that meet).
//!
//! Every place in a log that travels is an opaque cursor of (epoch, number, running hash) that the
//! log's owner checks, in requests and in replies: a file that was rolled back, copied or replaced
//! shows itself in the first exchange, whichever side calls.

mod answering;
mod calling;
mod comparing;
mod desk;
pub(crate) mod digest;
mod event;
pub(crate) mod first_contact;
mod intake;
mod known;
mod machine;
mod message;
pub(crate) mod pages;
pub(crate) mod reconcile;
mod telling;
pub mod wire;

pub use answering::{After, Answer, AnswerError, Asker, Prepared, ROWS_PUSHED_MAX};
pub use desk::{Reading, Work};
pub use event::{
    ContactChoice, Event, ExchangeError, ExchangeOptions, Introduction, Notice, Progress, Scope,
    Senseless,
};
pub use machine::{Exchange, Next, Wants};
pub use message::{Reply, Request, RequestKind};
