//! The caller's side of an exchange as a state machine: what it wants next, and what became of it.
//! It does no I/O: requests are handed out and replies handed in, work on the engine is handed out
//! as something to run, and what a person or an audit log should hear comes out as events.
//!
//! The states are those of one story, written as `async` functions (`calling`) and polled by hand:
//! no runtime, no waker, no thread. Owns the handing in and out. Refuses to know what is said.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use serde::Serialize;
use storysync_crdt::Stamp;

use super::calling::Caller;
use super::first_contact::{ContactQuestion, FirstContact, Kinship};
use super::message::{Reply, Request};
use crate::engine::Engine;
use crate::epoch::NewEpoch;
use crate::error::EngineError;
use crate::store::trust::Revocation;
use crate::trust::identity::DeviceId;

/// How to meet another file for the first time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ContactChoice {
    /// By what the files look like.
    #[default]
    Judge,
    /// As a person said.
    Is(Kinship),
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

/// What a person should know of an exchange.
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

/// What a peer did that makes no sense: it is broken, or it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Senseless {
    /// Another kind of reply than was asked for.
    #[error("its answer is of another kind than what was asked")]
    OtherReply,
    /// A cursor or an epoch longer than any is.
    #[error("a cursor longer than any cursor is")]
    LongCursor,
    /// It says that there is more, and sends nothing.
    #[error("there is more, again and again, and nothing comes")]
    EmptyPages,
    /// Its log begins anew with every question.
    #[error("its log begins anew, again and again")]
    AnewAgain,
    /// Its part of the comparison of two logs.
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

type Run = Box<dyn FnMut(&mut Engine, Stamp) -> Result<(), EngineError> + Send>;

/// Work on the engine. Where it fails because the file is locked it may be run again; given up, it
/// is reported with [`Exchange::work_failed`].
pub struct Work(Run);

impl Work {
    /// Does the work; the exchange goes on with the next [`Exchange::poll`].
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn run(&mut self, engine: &mut Engine, now: Stamp) -> Result<(), EngineError> {
        (self.0)(engine, now)
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Work(…)")
    }
}

/// Work that needs no engine: reading changes, best done on another thread beside everything else.
pub struct Reading(Box<dyn FnOnce() + Send>);

impl Reading {
    /// Does the work; the exchange goes on with the next [`Exchange::poll`].
    pub fn run(self) {
        (self.0)();
    }
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reading(…)")
    }
}

/// What an exchange wants now. All of it can be under way at the same time; at most one of each.
#[derive(Debug, Default)]
pub struct Wants {
    /// To be sent to the peer; its reply goes to [`Exchange::handle`].
    pub request: Option<Request>,
    /// To be run on the engine.
    pub work: Option<Work>,
    /// To be run anywhere.
    pub reading: Option<Reading>,
}

/// Where an exchange stands.
#[derive(Debug)]
pub enum Next {
    /// It goes on once some of what it wants, or wanted before, is done.
    Wants(Wants),
    /// It is over.
    Done(Result<(), ExchangeError>),
}

/// What lies between the story and whoever drives it.
#[derive(Default)]
struct Counter {
    request: Option<Request>,
    reply: Option<Result<Reply, ExchangeError>>,
    work: Option<Work>,
    work_failed: Option<EngineError>,
    reading: Option<Reading>,
    events: VecDeque<Event>,
    is_elsewhere: bool,
}

/// The story's end of the counter.
#[derive(Clone, Default)]
pub(super) struct Desk(Arc<Mutex<Counter>>);

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Counter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends one request; one at a time.
    pub(super) async fn ask(&self, request: Request) -> Result<Reply, ExchangeError> {
        self.lock().request = Some(request);
        poll_fn(|_| self.lock().reply.take().map_or(Poll::Pending, Poll::Ready)).await
    }

    /// Has work done on the engine; one piece at a time.
    pub(super) async fn work<T: Send + 'static>(
        &self,
        mut work: impl FnMut(&mut Engine, Stamp) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, ExchangeError> {
        let done = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&done);
        self.lock().work = Some(Work(Box::new(move |engine, now| {
            let result = work(engine, now)?;
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            Ok(())
        })));
        poll_fn(|_| {
            if let Some(error) = self.lock().work_failed.take() {
                return Poll::Ready(Err(error.into()));
            }
            let result = done.lock().unwrap_or_else(PoisonError::into_inner).take();
            result.map_or(Poll::Pending, |result| Poll::Ready(Ok(result)))
        })
        .await
    }

    /// Has something read beside the engine; one piece at a time.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let done = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&done);
        self.lock().reading = Some(Reading(Box::new(move || {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(read());
        })));
        poll_fn(|_| {
            let result = done.lock().unwrap_or_else(PoisonError::into_inner).take();
            result.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    pub(super) fn tell(&self, event: Event) {
        self.lock().events.push_back(event);
    }

    /// Whether the peer's keys turned out to be in use from elsewhere, since this was last asked.
    pub(super) fn take_elsewhere(&self) -> bool {
        std::mem::take(&mut self.lock().is_elsewhere)
    }
}

type Story = Pin<Box<dyn Future<Output = Result<(), ExchangeError>> + Send>>;

/// One exchange with one peer, from the caller's side.
///
/// ```
/// # use std::time::Duration;
/// # use storysync_engine::{Engine, EngineOptions, exchange::{Asker, Exchange, ExchangeOptions, Prepared}};
/// # use storysync_engine::trust::identity::DeviceId;
/// # fn engine(folder: &std::path::Path, device: u8) -> Engine {
/// #     let options = EngineOptions {
/// #         database: folder.join(format!("{device}.db")), backups: folder.into(), anchors: folder.join("anchors"),
/// #         excluded_tables: vec![], prose_columns: vec![], device_key: [device; 32],
/// #         busy_timeout: Duration::from_secs(1), rebuilding_within: Duration::ZERO,
/// #     };
/// #     Engine::init(options, Box::new(move |bytes| bytes.fill(device)), now()).unwrap()
/// # }
/// # fn now() -> storysync_crdt::Stamp { storysync_crdt::Stamp::from_unix_ms(1_800_000_000_000) }
/// # let folder = tempfile::TempDir::new().unwrap();
/// # let (mut phone, mut desktop) = (engine(folder.path(), 1), engine(folder.path(), 2));
/// let (phone_id, desktop_id) = (DeviceId::of_key(&[1; 32]), DeviceId::of_key(&[2; 32]));
/// let mut exchange = Exchange::with(&desktop_id, ExchangeOptions::default());
/// while let Some(request) = exchange.next(&mut phone, now())? {
///     // What a transport does: seal, send, open, answer, seal, send, open.
///     let answer = desktop.answer(&Asker::trusted(&phone_id), &Prepared::of(request), now())?;
///     exchange.handle(answer.reply);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Exchange {
    story: Option<Story>,
    desk: Desk,
    /// A request that [`Self::next`] was given and has not passed on.
    held: Option<Request>,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("is_over", &self.story.is_none()).finish_non_exhaustive()
    }
}

impl Exchange {
    /// An exchange with a paired device. Nothing happens before the first [`Self::poll`] or
    /// [`Self::next`].
    #[must_use]
    pub fn with(peer: &DeviceId, options: ExchangeOptions) -> Self {
        let desk = Desk::default();
        let caller = Caller::new(desk.clone(), peer.clone(), options);
        Self { story: Some(Box::pin(caller.hold())), desk, held: None }
    }

    /// Goes on as far as it can, and says what it wants then. For callers that do several things at
    /// the same time; others use [`Self::next`].
    pub fn poll(&mut self) -> Next {
        let Some(story) = &mut self.story else { return Next::Done(Ok(())) };
        match story.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => {
                self.story = None;
                Next::Done(result)
            }
            Poll::Pending => {
                let mut counter = self.desk.lock();
                Next::Wants(Wants {
                    request: counter.request.take(),
                    work: counter.work.take(),
                    reading: counter.reading.take(),
                })
            }
        }
    }

    /// The next request to send; `None` when both sides have everything. Does whatever has to be
    /// done on the engine in between.
    ///
    /// # Errors
    /// See [`ExchangeError`].
    pub fn next(
        &mut self,
        engine: &mut Engine,
        now: Stamp,
    ) -> Result<Option<Request>, ExchangeError> {
        loop {
            let wants = match self.poll() {
                Next::Done(done) => return done.map(|()| None),
                Next::Wants(wants) => wants,
            };
            self.held = wants.request.or(self.held.take());
            let is_idle = wants.work.is_none() && wants.reading.is_none();
            if let Some(reading) = wants.reading {
                reading.run();
            }
            if let Some(mut work) = wants.work
                && let Err(error) = work.run(engine, now)
            {
                self.work_failed(error);
            }
            if is_idle {
                return match self.held.take() {
                    Some(request) => Ok(Some(request)),
                    // Asked for the next request before the last one was answered.
                    None => Err(ExchangeError::Lost),
                };
            }
        }
    }

    /// Takes the reply to the last request.
    pub fn handle(&mut self, reply: Reply) {
        self.desk.lock().reply = Some(Ok(reply));
    }

    /// The last request will never be answered. What has come by then is still taken in.
    pub fn lost(&mut self) {
        self.desk.lock().reply = Some(Err(ExchangeError::Lost));
    }

    /// Work on the engine failed for good.
    pub fn work_failed(&mut self, error: EngineError) {
        self.desk.lock().work_failed = Some(error);
    }

    /// The peer's keys turned out to be in use from another installation than before.
    pub fn peer_is_elsewhere(&mut self) {
        self.desk.lock().is_elsewhere = true;
    }

    /// What happened since this was last asked.
    pub fn events(&mut self) -> Vec<Event> {
        self.desk.lock().events.drain(..).collect()
    }
}
