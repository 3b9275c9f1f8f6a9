//! The caller's side of an exchange as a state machine: what it wants next, and what became of it.
//! It does no I/O: requests are handed out and replies handed in, work on the engine is handed out
//! as something to run, and what a person or an audit log should hear comes out as events.
//!
//! The states are those of one story, written as `async` functions (`calling`) and polled by hand:
//! no runtime, no waker, no thread. Owns the handing in and out. Refuses to know what is said.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use storysync_crdt::Stamp;

use super::calling::Caller;
use super::desk::{Desk, Reading, Work};
use super::event::{Event, ExchangeError, ExchangeOptions};
use super::message::{Reply, Request};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::trust::identity::DeviceId;

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

type Story = Pin<Box<dyn Future<Output = Result<(), ExchangeError>> + Send>>;

/// One exchange with one peer, from the caller's side.
///
/// ```
/// # mod desks { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doctests/desks.rs")); }
/// # use desks::*;
/// # let (mut phone, mut desktop) = (desk(1), desk(2));
/// phone.app.execute("INSERT INTO note (title) VALUES ('Harbour')", [])?;
/// let asker = Asker::trusted(phone.engine.device_id());
/// let mut exchange = Exchange::with(desktop.engine.device_id(), ExchangeOptions::default());
/// while let Some(request) = exchange.next(&mut phone.engine, now())? {
///     // What a transport does: seal, send, open, answer, seal, send, open.
///     let answer = desktop.engine.answer(&asker, &Prepared::of(request), now())?;
///     exchange.handle(answer.reply);
/// }
/// let title: String = desktop.app.query_row("SELECT title FROM note", [], |row| row.get(0))?;
/// assert_eq!(title, "Harbour");
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
                    None => Err(ExchangeError::OutOfTurn),
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
