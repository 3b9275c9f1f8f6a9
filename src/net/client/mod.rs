//! Calls peers, every body sealed. An answer in plain text is a hint at most; nothing is unpaired
//! and nothing is sent unsealed because of one.

mod conversation;
mod events;
mod exchange;
mod link;
mod pairing;
mod reaching;
mod words;

pub use events::{EventStream, PeerEvent};
pub use exchange::{Caller, Line, PeerReport};
pub use link::Meter;
pub use pairing::join;
pub use reaching::{Trail, post};

use super::handle::EngineGone;
use link::PROGRESS_WITHIN;
use storysync_engine::EngineError;
use storysync_engine::store::trust::TrustError;

/// Why a peer could not be talked to. Nothing was lost: the next exchange goes on where this one
/// ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No address answers.
    #[error(
        "{name} can't be reached at {}: check that it runs storysync and is on the same \
        network",
        known_as(addresses)
    )]
    Unreachable {
        /// The device.
        name: String,
        /// What was tried.
        addresses: Vec<String>,
    },
    /// The connection broke.
    #[error("the connection to {0} broke; run `storysync sync` again, it goes on where it stopped")]
    Broken(String),
    /// Nothing came for a while.
    #[error("{0} did not answer within {seconds} seconds; run `storysync sync` again, it goes on \
        where it stopped", seconds = PROGRESS_WITHIN.as_secs())]
    Stalled(String),
    /// The peer does not accept us (or somebody says so in its name).
    #[error(
        "{0} does not accept this device: if it was paired before, pair it again with `storysync \
            pair show` there and `storysync pair join` here"
    )]
    Refused(String),
    /// The pairing code is not accepted.
    #[error(
        "the other device does not accept this pairing code: it has expired, was used already, or \
            is not its own; show a new one with `storysync pair show`"
    )]
    CodeRefused,
    /// The code was not typed in time.
    #[error(
        "nobody typed the code on the other device in time; show a new one with `storysync pair \
            show`"
    )]
    NotApproved,
    /// The answer was not sealed, or not by whom we asked.
    #[error(
        "the answer is not from {0}: something on the network may be pretending to be it; nothing \
            was taken over"
    )]
    NotAuthentic(String),
    /// The peer says what is wrong.
    #[error("{name} says: {detail}")]
    Remote {
        /// The device.
        name: String,
        /// Its sentence.
        detail: String,
    },
    /// Something refused the request in the clear, before anything was proven.
    #[error(
        "{name} did not take the request (HTTP status {status}, not proven to be its own): it may \
            be busy or stopping; run `storysync sync` again"
    )]
    Busy {
        /// The device.
        name: String,
        /// What was answered.
        status: u16,
    },
    /// The peer lied, or its keys are in use twice.
    #[error(
        "nothing is taken from {0}: it sent two different changes under one name, so its keys may \
            be in use twice; pair it again"
    )]
    Frozen(String),
    /// The person here has yet to say whether it was lost.
    #[error(
        "another device says that {name} was lost; say first whether that is so: `storysync \
            devices revoke {id}` or `storysync devices keep {id}`"
    )]
    Paused {
        /// What it is called.
        name: String,
        /// PeerId.
        id: String,
    },
    /// The person here has it paused.
    #[error("{name} is paused here: `storysync devices resume {id}` lets it go on")]
    PausedHere {
        /// What it is called.
        name: String,
        /// PeerId.
        id: String,
    },
    /// Two files met for the first time, and a person shall say what they are to each other.
    #[error(
        "{sentence} Nothing was sent yet: `storysync sync --first-contact judge` goes on so, \
            `copies` or `unrelated` in place of `judge` overrules it ({name})"
    )]
    ContactUndecided {
        /// The device.
        name: String,
        /// What they look like.
        sentence: String,
    },
    /// We are not paired (any more).
    #[error("{0} is no longer paired with this device; pair it again")]
    NotPaired(String),
    /// Our side failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Our side is stopping.
    #[error(transparent)]
    Gone(#[from] EngineGone),
    /// Our list of devices failed.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

impl ClientError {
    /// Whether it says nothing of who is at an address: another would not help.
    fn is_ours(&self) -> bool {
        matches!(self, Self::Engine(_) | Self::Gone(_) | Self::Trust(_) | Self::NotPaired(_))
    }

    fn paused(device: &storysync_engine::store::trust::TrustedDevice) -> Self {
        let (name, id) = (device.name.clone(), device.device_id.to_string());
        match device.paused_at {
            Some(_) => Self::PausedHere { name, id },
            None => Self::Paused { name, id },
        }
    }
}

fn known_as(addresses: &[String]) -> String {
    if addresses.is_empty() { "any known address".to_owned() } else { addresses.join(", ") }
}
