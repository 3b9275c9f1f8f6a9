//! What an exchange is told, and what it tells: how it is held, how far it has come, what a person
//! should know, and why it ended early. Facts only; words are for whoever shows them.

use serde::Serialize;

use super::first_contact::{ContactQuestion, FirstContact, Relation};
use crate::epoch::NewEpoch;
use crate::error::EngineError;
use crate::store::trust::Revocation;

/// How to meet another file for the first time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ContactChoice {
    /// By what the files look like.
    #[default]
    Judge,
    /// As a person said.
    Is(Relation),
    /// Only after a person said.
    Ask,
}

/// How much of an exchange is held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scope {
    /// Compare where cursors can't tell, pull, push: afterwards both sides have everything.
    #[default]
    Whole,
    /// Only pull what is new there (and compare, where its log began anew).
    Pull,
    /// Only push what is new here.
    Push,
}

/// What a device says of itself when it pulls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Introduction {
    /// The port of its own LAN listener, when it serves.
    pub port: Option<u16>,
    /// What it is called.
    pub device_name: Option<String>,
    /// Which installation of its keys it is: 16 hexadecimal digits.
    pub installation: Option<String>,
    /// Devices it no longer trusts.
    pub revoked: Vec<Revocation>,
}

/// How to hold an exchange.
#[derive(Debug, Clone, Default)]
pub struct ExchangeOptions {
    /// How much of it.
    pub scope: Scope,
    /// How to meet a file for the first time.
    pub contact: ContactChoice,
    /// Who calls.
    pub introduction: Introduction,
}

/// How far an exchange has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Rows pulled.
    pub pulled: usize,
    /// Rows pushed.
    pub pushed: usize,
    /// Changes still to come, as far as is known.
    pub remaining: usize,
}

/// What a person should know of an exchange; a [`crate::NoticeReport`] is about one text instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Our own log began anew, so it is compared with the peer's.
    OwnEpochBegan(NewEpoch),
    /// The peer's log began anew, so the two were compared.
    PeerEpochBegan,
    /// Two files meet for the first time, and this is what they are to each other.
    Met(FirstContact),
}

/// What happens on the way of an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// It has come so far.
    Progress(Progress),
    /// A person should know.
    Notice(Notice),
    /// A first contact is over: what the files were, and how many rows took other names.
    FirstContact(FirstContact),
    /// Nothing is exchanged before a person has said what the files are to each other.
    Question(ContactQuestion),
    /// Changes of the peer were refused here.
    RefusedHere {
        /// How many.
        changes: usize,
        /// Why, in sentences.
        reasons: Vec<String>,
    },
    /// The peer refused changes of ours.
    RefusedThere {
        /// How many.
        changes: usize,
        /// What it says.
        message: String,
    },
}

/// A violation of the protocol by the peer: it is broken, or it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Senseless {
    /// Another kind of reply than was asked for.
    #[error("its answer is of another kind than what was asked")]
    OtherReply,
    /// A cursor or an epoch of more than 512 bytes.
    #[error("a cursor longer than any cursor is")]
    LongCursor,
    /// It says that there is more, and sends nothing.
    #[error("there is more, again and again, and nothing comes")]
    EmptyPages,
    /// Its log begins anew with every question.
    #[error("its log begins anew, again and again")]
    AnewAgain,
    /// A message of the comparison that can't be read, or a comparison that does not end.
    #[error("its part of the comparison can't be understood")]
    Comparison,
}

/// Why an exchange ended early. Nothing is lost: the next one goes on where this one ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// The transport gave a request up; it knows why.
    #[error("the peer can't be reached any more")]
    Lost,
    /// The next request was asked for before the last one was answered: the caller's fault.
    #[error("the last request was not answered yet")]
    OutOfTurn,
    /// The peer makes no sense.
    #[error(transparent)]
    Senseless(#[from] Senseless),
    /// The peer sent two different changes under one name: it must not be listened to any more.
    #[error("the peer sent two different changes under one name")]
    Equivocated,
    /// A person has to say first what the two files are to each other.
    #[error("a person has to say first what the two databases are to each other")]
    Undecided(FirstContact),
    /// Our side failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}
