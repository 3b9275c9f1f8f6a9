//! What one device asks another, and what it is told: each request with the path it travels by and
//! the reply that belongs to it. Bodies are JSON (`wire`); sealing and HTTP are the transport's.

use super::event::Senseless;
use super::wire::{
    FetchRequest, FetchResponse, NamesRequest, NamesResponse, PullRequest, PullResponse,
    PushRequest, PushResponse, ReconcileRequest, ReconcileResponse,
};

/// What is asked of a peer.
#[derive(Debug, Clone)]
pub enum Request {
    /// What is new there.
    Pull(PullRequest),
    /// Take what is new here.
    Push(PushRequest),
    /// One message of a comparison of two logs.
    Reconcile(ReconcileRequest),
    /// Changes by name.
    Fetch(FetchRequest),
    /// What rows there are called here.
    Names(NamesRequest),
}

/// What a peer answers.
#[derive(Debug, Clone)]
pub enum Reply {
    /// To a pull.
    Pull(PullResponse),
    /// To a push.
    Push(PushResponse),
    /// To a message of a comparison.
    Reconcile(ReconcileResponse),
    /// To a fetch.
    Fetch(FetchResponse),
    /// To names.
    Names(NamesResponse),
}

/// Which kind of request: by its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// `POST /api/sync/pull`
    Pull,
    /// `POST /api/sync/push`
    Push,
    /// `POST /api/sync/reconcile`
    Reconcile,
    /// `POST /api/sync/fetch`
    Fetch,
    /// `POST /api/sync/names`
    Names,
}

impl RequestKind {
    /// The path such requests are posted to.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Pull => "/api/sync/pull",
            Self::Push => "/api/sync/push",
            Self::Reconcile => "/api/sync/reconcile",
            Self::Fetch => "/api/sync/fetch",
            Self::Names => "/api/sync/names",
        }
    }

    /// Reads the body of a request.
    ///
    /// # Errors
    /// When it is not the documented JSON.
    pub fn parse_request(self, body: &[u8]) -> Result<Request, serde_json::Error> {
        Ok(match self {
            Self::Pull => Request::Pull(serde_json::from_slice(body)?),
            Self::Push => Request::Push(serde_json::from_slice(body)?),
            Self::Reconcile => Request::Reconcile(serde_json::from_slice(body)?),
            Self::Fetch => Request::Fetch(serde_json::from_slice(body)?),
            Self::Names => Request::Names(serde_json::from_slice(body)?),
        })
    }

    /// Reads the body of the reply to such a request.
    ///
    /// # Errors
    /// When it is not the documented JSON.
    pub fn parse_reply(self, body: &[u8]) -> Result<Reply, serde_json::Error> {
        Ok(match self {
            Self::Pull => Reply::Pull(serde_json::from_slice(body)?),
            Self::Push => Reply::Push(serde_json::from_slice(body)?),
            Self::Reconcile => Reply::Reconcile(serde_json::from_slice(body)?),
            Self::Fetch => Reply::Fetch(serde_json::from_slice(body)?),
            Self::Names => Reply::Names(serde_json::from_slice(body)?),
        })
    }
}

impl Request {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> RequestKind {
        match self {
            Self::Pull(_) => RequestKind::Pull,
            Self::Push(_) => RequestKind::Push,
            Self::Reconcile(_) => RequestKind::Reconcile,
            Self::Fetch(_) => RequestKind::Fetch,
            Self::Names(_) => RequestKind::Names,
        }
    }

    /// Its body, as JSON.
    ///
    /// # Errors
    /// None in practice: every field can be written as JSON.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        match self {
            Self::Pull(request) => serde_json::to_vec(request),
            Self::Push(request) => serde_json::to_vec(request),
            Self::Reconcile(request) => serde_json::to_vec(request),
            Self::Fetch(request) => serde_json::to_vec(request),
            Self::Names(request) => serde_json::to_vec(request),
        }
    }
}

impl Reply {
    /// Its body, as JSON.
    ///
    /// # Errors
    /// None in practice: every field can be written as JSON.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        match self {
            Self::Pull(reply) => serde_json::to_vec(reply),
            Self::Push(reply) => serde_json::to_vec(reply),
            Self::Reconcile(reply) => serde_json::to_vec(reply),
            Self::Fetch(reply) => serde_json::to_vec(reply),
            Self::Names(reply) => serde_json::to_vec(reply),
        }
    }
}

/// A request whose reply is of a known kind.
pub(super) trait Asks {
    /// What answers it.
    type Reply;
    /// As one of all requests.
    fn into_request(self) -> Request;
    /// Its reply among all replies.
    fn reply_of(reply: Reply) -> Result<Self::Reply, Senseless>;
}

macro_rules! asks {
    ($($kind:ident: $request:ty => $reply:ty),+) => {$(
        impl Asks for $request {
            type Reply = $reply;

            fn into_request(self) -> Request {
                Request::$kind(self)
            }

            fn reply_of(reply: Reply) -> Result<$reply, Senseless> {
                match reply {
                    Reply::$kind(reply) => Ok(reply),
                    _ => Err(Senseless::OtherReply),
                }
            }
        }
    )+};
}

asks! {
    Pull: PullRequest => PullResponse,
    Push: PushRequest => PushResponse,
    Reconcile: ReconcileRequest => ReconcileResponse,
    Fetch: FetchRequest => FetchResponse,
    Names: NamesRequest => NamesResponse
}
