//! The mailbox between the coroutine of an exchange (`calling`) and whoever drives it: requests and
//! work handed out, replies and results handed in.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use storysync_crdt::Stamp;

use super::event::{Event, ExchangeError};
use super::message::{Reply, Request};
use crate::engine::Engine;
use crate::error::EngineError;

type Run = Box<dyn FnMut(&mut Engine, Stamp) -> Result<(), EngineError> + Send>;

/// Work on the engine. Where it fails because the file is locked it may be run again; given up, it
/// is reported with [`super::Exchange::work_failed`].
pub struct Work(Run);

impl Work {
    /// Does the work; the exchange goes on with the next [`super::Exchange::poll`].
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
    /// Does the work; the exchange goes on with the next [`super::Exchange::poll`].
    pub fn run(self) {
        (self.0)();
    }
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reading(…)")
    }
}

/// What is in the mailbox: at most one request, one piece of work and one reading at a time.
#[derive(Default)]
pub(super) struct Counter {
    pub(super) request: Option<Request>,
    pub(super) reply: Option<Result<Reply, ExchangeError>>,
    pub(super) work: Option<Work>,
    pub(super) work_failed: Option<EngineError>,
    pub(super) reading: Option<Reading>,
    pub(super) events: VecDeque<Event>,
    pub(super) is_elsewhere: bool,
}

/// The coroutine's end of the mailbox.
#[derive(Clone, Default)]
pub(super) struct Desk(Arc<Mutex<Counter>>);

impl Desk {
    pub(super) fn lock(&self) -> MutexGuard<'_, Counter> {
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
