//! The other side of an exchange: one function answers whatever a paired device asks.
//!
//! Owns what is refused, and what is noted afterwards. Refuses to know how requests came, and
//! whether they are from whom they seem: whoever calls has proven that.

use storysync_crdt::Stamp;

use super::event::Introduction;
use super::message::{Reply, Request};
use super::pages::Reached;
use super::wire::{
    FetchRequest, NamesRequest, NamesResponse, PullRequest, PushResponse, ReconcileRequest,
};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::receive::accepted::Accepted;
use crate::receive::{Incoming, Receipt};
use crate::trust::identity::DeviceId;

/// Most rows in one push.
pub const ROWS_PUSHED_MAX: usize = 10_000;

/// Who asks.
#[derive(Debug, Clone)]
pub struct Asker {
    /// The device.
    pub device_id: DeviceId,
    /// Whether it sent two changes with one actor and sequence number: nothing is taken from it
    /// then.
    pub is_frozen: bool,
    /// Whether a person here says what two files are to each other before anything is mixed.
    pub is_asked_first: bool,
}

impl Asker {
    /// A device that is trusted, and nobody is asked.
    #[must_use]
    pub fn trusted(device_id: &DeviceId) -> Self {
        Self { device_id: device_id.clone(), is_frozen: false, is_asked_first: false }
    }
}

/// A request whose changes were read: the part of answering that needs no engine.
#[derive(Debug)]
pub struct Prepared(Question);

#[derive(Debug)]
enum Question {
    Pull(PullRequest),
    Push(Push),
    Reconcile(ReconcileRequest),
    Fetch(FetchRequest),
    Names(NamesRequest),
}

#[derive(Debug)]
struct Push {
    incoming: Vec<Incoming>,
    span: Option<(String, String)>,
    states: bool,
    is_too_long: bool,
}

impl Prepared {
    /// Reads what can be read beside the engine.
    #[must_use]
    pub fn of(request: Request) -> Self {
        Self(match request {
            Request::Pull(request) => Question::Pull(request),
            Request::Reconcile(request) => Question::Reconcile(request),
            Request::Fetch(request) => Question::Fetch(request),
            Request::Names(request) => Question::Names(request),
            Request::Push(request) => {
                let is_too_long = request.changes.len() > ROWS_PUSHED_MAX;
                let changes = if is_too_long { Vec::new() } else { request.changes };
                Question::Push(Push {
                    incoming: Incoming::read_all(changes),
                    span: request.span,
                    states: request.states,
                    is_too_long,
                })
            }
        })
    }

    /// What the device says of itself, when it pulls.
    #[must_use]
    pub fn introduction(&self) -> Option<Introduction> {
        let Question::Pull(request) = &self.0 else { return None };
        Some(Introduction {
            port: request.port,
            device_name: request.device_name.clone(),
            installation: request.instance.clone(),
            revoked: request.revoked.clone(),
        })
    }

    /// The cursor it pulls from.
    #[must_use]
    pub fn cursor(&self) -> Option<&str> {
        match &self.0 {
            Question::Pull(request) => request.cursor.as_deref(),
            _ => None,
        }
    }

    /// Whether the device reads a compressed reply.
    #[must_use]
    pub fn reads_gzip(&self) -> bool {
        let compress = match &self.0 {
            Question::Pull(request) => &request.compress,
            Question::Fetch(request) => &request.compress,
            _ => return false,
        };
        compress.as_deref() == Some("gzip")
    }
}

/// What is answered, and what has to be done then.
#[derive(Debug)]
pub struct Answer {
    /// What the device is told.
    pub reply: Reply,
    /// What the device need not wait for: [`Engine::after_answer`] does it.
    pub after: Option<After>,
    /// What came of a push.
    pub receipt: Option<Receipt>,
    /// Whether the device has everything now, or has told everything.
    pub is_exchanged: bool,
    /// Rows that took other names, at a first contact.
    pub renamed: usize,
}

impl Answer {
    fn of(reply: Reply) -> Self {
        Self { reply, after: None, receipt: None, is_exchanged: false, renamed: 0 }
    }
}

/// What is noted after an answer. Lost, it costs telling something again.
#[derive(Debug, Clone, Copy)]
pub struct After(Reached);

/// Why a request is not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// The device sent two different changes under one name.
    #[error("nothing is taken from this device until it is paired again")]
    Frozen,
    /// The person here has to say first what the two files are to each other.
    #[error("the owner has to say first what the two databases are to each other")]
    Undecided,
    /// A push of more than [`ROWS_PUSHED_MAX`] rows.
    #[error("a push holds at most {ROWS_PUSHED_MAX} rows")]
    TooManyRows,
    /// `since_timestamp` is no time.
    #[error("since_timestamp is no time")]
    NoTime,
    /// Our side failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Engine {
    /// Answers what a paired device asks.
    ///
    /// ```
    /// # mod desks { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doctests/desks.rs")); }
    /// # use desks::*;
    /// # use storysync_engine::exchange::{Reply, Request};
    /// # let (mut phone, mut desktop) = (desk(1), desk(2));
    /// # let mut exchange = Exchange::with(desktop.engine.device_id(), ExchangeOptions::default());
    /// # let request = exchange.next(&mut phone.engine, now())?.ok_or("nothing is asked")?;
    /// // What the transport opened, and whose it is.
    /// let asker = Asker::trusted(phone.engine.device_id());
    /// let answer = desktop.engine.answer(&asker, &Prepared::of(request), now())?;
    /// exchange.handle(answer.reply);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// See [`AnswerError`]. What fails because the file is locked may be tried again.
    pub fn answer(
        &mut self,
        asker: &Asker,
        request: &Prepared,
        now: Stamp,
    ) -> Result<Answer, AnswerError> {
        let device_id = asker.device_id.as_str();
        match &request.0 {
            Question::Pull(request) => self.answer_pulling(request, device_id, now),
            Question::Push(push) => {
                self.refuse_untaken(asker)?;
                self.answer_push(push, device_id, now)
            }
            Question::Reconcile(request) => {
                Ok(Answer::of(Reply::Reconcile(self.answer_reconcile(request, device_id, now)?)))
            }
            Question::Fetch(request) => {
                if !request.looking {
                    self.refuse_undecided(asker)?;
                }
                Ok(Answer::of(Reply::Fetch(self.answer_fetch(request, now)?)))
            }
            Question::Names(request) => {
                self.refuse_untaken(asker)?;
                let renamed = self.take_names(&request.names, now)?;
                Ok(Answer { renamed, ..Answer::of(Reply::Names(NamesResponse { renamed })) })
            }
        }
    }

    /// Notes what an answer left to be noted. It has its place before whatever the device asks
    /// next.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn after_answer(
        &mut self,
        asker: &DeviceId,
        after: After,
        now: Stamp,
    ) -> Result<(), EngineError> {
        self.note_reached(asker.as_str(), after.0, now)
    }

    fn answer_pulling(
        &mut self,
        request: &PullRequest,
        device_id: &str,
        now: Stamp,
    ) -> Result<Answer, AnswerError> {
        let since = request.since_timestamp.as_deref();
        if since.is_some_and(|text| Stamp::parse(text).is_none()) {
            return Err(AnswerError::NoTime);
        }
        let (page, further) = self.page_for(request, device_id, now)?;
        let is_exchanged = !page.has_more;
        Ok(Answer { after: further.map(After), is_exchanged, ..Answer::of(Reply::Pull(page)) })
    }

    fn answer_push(
        &mut self,
        push: &Push,
        device_id: &str,
        now: Stamp,
    ) -> Result<Answer, AnswerError> {
        if push.is_too_long {
            return Err(AnswerError::TooManyRows);
        }
        let (receipt, told) = if push.states {
            self.receive_pushed_telling(&push.incoming, device_id, now)?
        } else {
            (self.receive_pushed(&push.incoming, device_id, now)?, Accepted::default())
        };
        self.note_span(push.span.as_ref(), device_id, now)?;
        let accepted = receipt.rows.len() + receipt.unchanged.len();
        let message = match receipt.rejected.first() {
            None => format!("{accepted} rows taken in"),
            Some(first) => format!("{accepted} rows taken in; refused: {first}"),
        };
        let reply = Reply::Push(PushResponse {
            accepted,
            accepted_states: told.states,
            conflicts: told.conflicts,
            rejected: receipt.rejected_count(),
            message,
            epoch: self.epoch(),
        });
        Ok(Answer { receipt: Some(receipt), is_exchanged: true, ..Answer::of(reply) })
    }

    /// Nothing is taken from a device that lies, and nothing before a person has decided.
    fn refuse_untaken(&mut self, asker: &Asker) -> Result<(), AnswerError> {
        if asker.is_frozen {
            return Err(AnswerError::Frozen);
        }
        self.refuse_undecided(asker)
    }

    /// Where a person shall say what this file is to another it meets, nobody else mixes the two
    /// before.
    fn refuse_undecided(&mut self, asker: &Asker) -> Result<(), AnswerError> {
        if asker.is_asked_first && self.is_provisional()? {
            return Err(AnswerError::Undecided);
        }
        Ok(())
    }
}
