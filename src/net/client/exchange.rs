//! Exchanges with one device over a line: carries what the engine's state machine asks, has its
//! work done, and words what it tells. What is asked, and in which order, is the engine's affair.

use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;

use super::conversation::{Conversation, Parties, check_trust, words_of_a_peer};
use super::link::{Counters, Meter};
use super::reaching::{Trail, reach};
use super::words;
use super::{ClientError, EventStream};
use crate::net::addresses::Candidate;
use crate::net::handle::{EngineGone, EngineHandle};
use crate::net::node_state::now;
use crate::net::sealed::compress;
use storysync_engine::exchange::{
    ContactChoice, Event, Exchange, ExchangeError, ExchangeOptions, Introduction, Next, Progress,
    Reply, Request, Scope,
};
use storysync_engine::store::trust::{EventKind, TrustStore, TrustedDevice};
use storysync_engine::trust::identity::Identity;
use storysync_engine::{ContactQuestion, DigestRequest, Digests, Engine, FirstContact};

/// What an exchange with one peer came to: one entry of `storysync sync --json`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PeerReport {
    /// PeerId.
    pub device_id: String,
    /// For people.
    pub name: String,
    /// Rows new to the peer.
    pub pushed: usize,
    /// Rows new here.
    pub pulled: usize,
    /// Conflicts open here afterwards.
    pub conflicts: i64,
    /// Bytes sent over TCP.
    pub bytes_sent: u64,
    /// Bytes received over TCP.
    pub bytes_received: u64,
    /// What the two files were to each other, when they met for the first time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_contact: Option<FirstContact>,
    /// What a person has to say before anything is exchanged, with examples; none when nothing is
    /// asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_contact_question: Option<ContactQuestion>,
    /// What a person should know of this exchange, as sentences.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
    /// What went wrong, as a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl PeerReport {
    /// A report in which nothing was exchanged yet.
    #[must_use]
    pub fn of(device: &TrustedDevice) -> Self {
        Self {
            device_id: device.device_id.to_string(),
            name: device.name.clone(),
            ..Self::default()
        }
    }
}

/// Who calls: this device.
#[derive(Debug, Clone)]
pub struct Caller<'a> {
    /// Our keys.
    pub identity: &'a Identity,
    /// Who is trusted.
    pub trust: &'a TrustStore,
    /// The Engine.
    pub engine: &'a EngineHandle,
    /// The port of our own LAN listener, when we serve.
    pub own_port: Option<u16>,
    /// What we are called.
    pub name: &'a str,
    /// Which installation of our keys this is.
    pub installation: &'a str,
    /// Addresses from the configuration, tried after those that worked.
    pub static_addresses: &'a [String],
    /// How to meet a file for the first time.
    pub contact: ContactChoice,
}

/// An open line to one device: asked again and again, it needs no new introduction.
pub struct Line<'a> {
    pub(super) conversation: Conversation<'a>,
}

impl std::fmt::Debug for Line<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line")
            .field("device", &self.conversation.device.device_id)
            .finish_non_exhaustive()
    }
}

impl Line<'_> {
    /// Bytes sent and received over TCP since the line was opened.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        self.meter().bytes()
    }

    /// Counts what arrives while the line is in use.
    #[must_use]
    pub fn meter(&self) -> Meter {
        Meter::of(&self.conversation.counters)
    }

    /// Where the device was reached.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.conversation.link.address
    }
}

impl<'a> Caller<'a> {
    /// One exchange with a device: compare, pull and push until both sides have everything.
    /// `progress` is told after each page.
    pub async fn sync(
        &self,
        device: &'a TrustedDevice,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> PeerReport {
        let mut report = PeerReport::of(device);
        let unlisted =
            self.static_addresses.iter().filter(|address| !device.addresses.contains(address));
        let candidates: Vec<Candidate> =
            device.addresses.iter().chain(unlisted).map(Candidate::known).collect();
        let done = async {
            let mut line = self.open(device, &candidates, &mut Trail::default()).await?;
            let exchanged = self.exchange(&mut line, &mut report, progress).await;
            (report.bytes_sent, report.bytes_received) = line.bytes();
            exchanged
        };
        if let Err(error) = done.await {
            report.error = Some(error.to_string());
        }
        if let Ok(Ok(conflicts)) = self.engine.call(|engine| engine.open_conflicts()).await {
            report.conflicts = conflicts;
        }
        report
    }

    /// Connects to a device at the first address where it proves its key. `trail` gets those where
    /// nobody did.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn open(
        &self,
        device: &'a TrustedDevice,
        candidates: &[Candidate],
        trail: &mut Trail,
    ) -> Result<Line<'a>, ClientError> {
        if device.frozen_at.is_some() {
            return Err(ClientError::Frozen(device.name.clone()));
        }
        if device.is_paused || device.paused_at.is_some() {
            return Err(ClientError::paused(device));
        }
        let counters = Arc::new(Counters::default());
        let parties = Parties { identity: self.identity, trust: self.trust, device };
        let conversation = reach(parties, candidates, &counters, trail).await?;
        self.trust.note_address(&device.device_id, &conversation.link.address)?;
        Ok(Line { conversation })
    }

    /// Compares, pulls and pushes until both sides have everything.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn exchange(
        &self,
        line: &mut Line<'a>,
        report: &mut PeerReport,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(), ClientError> {
        self.hold(Scope::Whole, line, report, progress).await?;
        self.trust.note_sync(&line.conversation.device.device_id, now().unix_ms())?;
        Ok(())
    }

    /// Pulls until there is nothing new.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn pull(
        &self,
        line: &mut Line<'a>,
        report: &mut PeerReport,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(), ClientError> {
        self.hold(Scope::Pull, line, report, progress).await
    }

    /// Pushes until the peer has everything.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn push(
        &self,
        line: &mut Line<'a>,
        report: &mut PeerReport,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(), ClientError> {
        self.hold(Scope::Push, line, report, progress).await
    }

    /// Starts listening to a device, after an exchange.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn listen(&self, line: &mut Line<'a>) -> Result<EventStream, ClientError> {
        let device_id = line.conversation.device.device_id.to_string();
        let request = self.engine.call(move |engine| engine.pull_request(&device_id)).await??;
        EventStream::open(&mut line.conversation, request.cursor.as_deref().unwrap_or_default())
            .await
    }

    /// Digests of what the device shows.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn digests(
        &self,
        line: &mut Line<'a>,
        request: &DigestRequest,
    ) -> Result<Digests, ClientError> {
        ask_json(&mut line.conversation, "/api/sync/digests", request).await
    }

    /// What the device's status says.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn peer_status(&self, line: &mut Line<'a>) -> Result<serde_json::Value, ClientError> {
        line.conversation.status().await
    }

    fn options(&self, scope: Scope) -> Result<ExchangeOptions, ClientError> {
        Ok(ExchangeOptions {
            scope,
            contact: self.contact,
            introduction: Introduction {
                port: self.own_port,
                device_name: Some(self.name.to_owned()),
                installation: Some(self.installation.to_owned()),
                revoked: self.trust.revocations()?,
            },
        })
    }

    /// Holds one exchange over a line: carries its requests, and has its work done on the Engine's
    /// thread and beside it, all at the same time.
    async fn hold(
        &self,
        scope: Scope,
        line: &mut Line<'a>,
        report: &mut PeerReport,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(), ClientError> {
        let device = line.conversation.device;
        let mut notes = Notes::of(self.trust, device, report, progress);
        let mut exchange = Exchange::with(&device.device_id, self.options(scope)?);
        // Where the peer forgot what introduced us, that is asked for while the app's writes are
        // taken in.
        let mut asking = Some(introduce(&mut line.conversation));
        let (mut working, mut reading) = (None, None);
        let (mut idle, mut next_request, mut failure) = (None, None, None);
        let done = loop {
            let next = exchange.poll();
            for event in exchange.events() {
                notes.note(event)?;
            }
            let wants = match next {
                Next::Done(done) => break done,
                Next::Wants(wants) => wants,
            };
            next_request = wants.request.or(next_request);
            if let Some(reads) = wants.reading {
                reading = Some(tokio::task::spawn_blocking(move || reads.run()));
            }
            if let Some(mut work) = wants.work {
                // Of a device that was revoked meanwhile, nothing that waits here is taken in.
                check_trust(self.trust, device)?;
                let run = move |engine: &mut Engine| work.run(engine, now());
                working = Some(Box::pin(self.engine.begin(run)));
            }
            if next_request.is_some()
                && let Some(conversation) = idle.take()
            {
                asking = next_request.take().map(|request| ask(conversation, request));
            }
            tokio::select! {
                (conversation, replied) = finished(&mut asking) => {
                    asking = None;
                    match replied {
                        Ok(Some(reply)) => exchange.handle(reply),
                        Ok(None) => {}
                        Err(error) => {
                            failure = Some(error);
                            exchange.lost();
                        }
                    }
                    if std::mem::take(&mut conversation.other_installation) {
                        exchange.peer_is_elsewhere();
                    }
                    idle = Some(conversation);
                }
                worked = finished(&mut working) => {
                    working = None;
                    if let Err(error) = worked? {
                        exchange.work_failed(error);
                    }
                }
                read = finished(&mut reading) => {
                    reading = None;
                    read.map_err(|_| EngineGone)?;
                }
            }
        };
        drop((asking, idle));
        match (done, failure) {
            (Ok(()), None) => Ok(()),
            (Ok(()) | Err(ExchangeError::Lost), Some(failure)) => Err(failure),
            (Err(error), _) => Err(self.explain(device, error)?),
        }
    }

    fn explain(
        &self,
        device: &TrustedDevice,
        error: ExchangeError,
    ) -> Result<ClientError, ClientError> {
        let name = device.name.clone();
        Ok(match error {
            ExchangeError::Engine(error) => error.into(),
            ExchangeError::Equivocated => {
                self.trust.freeze(&device.device_id, now().unix_ms())?;
                ClientError::Frozen(name)
            }
            ExchangeError::Undecided(verdict) => ClientError::ContactUndecided {
                sentence: words::of_first_contact(&verdict, &name),
                name,
            },
            error => ClientError::Remote { name, detail: error.to_string() },
        })
    }
}

/// What happens on the way of an exchange, for the report, the audit log and whoever watches.
struct Notes<'n> {
    trust: &'n TrustStore,
    device: &'n TrustedDevice,
    /// Rows pulled and pushed in exchanges before this one.
    before: Progress,
    report: &'n mut PeerReport,
    progress: &'n mut (dyn FnMut(Progress) + Send),
}

impl<'n> Notes<'n> {
    fn of(
        trust: &'n TrustStore,
        device: &'n TrustedDevice,
        report: &'n mut PeerReport,
        progress: &'n mut (dyn FnMut(Progress) + Send),
    ) -> Self {
        let before = Progress { pulled: report.pulled, pushed: report.pushed, remaining: 0 };
        Self { trust, device, before, report, progress }
    }

    fn note(&mut self, event: Event) -> Result<(), ClientError> {
        let (id, at) = (&self.device.device_id, now().unix_ms());
        match event {
            Event::Progress(Progress { pulled, pushed, remaining }) => {
                self.report.pulled = self.before.pulled + pulled;
                self.report.pushed = self.before.pushed + pushed;
                let (pulled, pushed) = (self.report.pulled, self.report.pushed);
                (self.progress)(Progress { pulled, pushed, remaining });
            }
            Event::Notice(notice) => {
                let words = words::of_notice(&notice, &self.device.name);
                tracing::warn!(device = %id, "{words}");
                self.trust.note_event(EventKind::Compare, Some(id), &words, at)?;
                self.report.notices.push(words);
            }
            Event::FirstContact(contact) => self.report.first_contact = Some(contact),
            Event::Question(question) => self.report.first_contact_question = Some(question),
            Event::RefusedHere { changes, reasons } => {
                for reason in reasons {
                    tracing::warn!(device = %id, "{reason}");
                }
                let words = format!("{changes} of its changes were refused");
                self.trust.note_event(EventKind::Refuse, Some(id), &words, at)?;
            }
            Event::RefusedThere { changes, message } => {
                tracing::warn!(
                    device = %id, rejected = changes, "{}", words_of_a_peer(&message)
                );
                let words = format!("it refused {changes} of our changes");
                self.trust.note_event(EventKind::Refuse, Some(id), &words, at)?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// A request that is under way, and the conversation that carries it; no reply where only the
/// introduction was asked for.
type Asking<'c, 'a> = Pin<
    Box<
        dyn Future<Output = (&'c mut Conversation<'a>, Result<Option<Reply>, ClientError>)>
            + Send
            + 'c,
    >,
>;

fn introduce<'c, 'a>(conversation: &'c mut Conversation<'a>) -> Asking<'c, 'a> {
    Box::pin(async move {
        let introduced = conversation.introduce().await;
        (conversation, introduced.map(|()| None))
    })
}

fn ask<'c, 'a>(conversation: &'c mut Conversation<'a>, request: Request) -> Asking<'c, 'a> {
    Box::pin(async move {
        let replied = reply_to(conversation, &request).await;
        (conversation, replied.map(Some))
    })
}

async fn reply_to(
    conversation: &mut Conversation<'_>,
    request: &Request,
) -> Result<Reply, ClientError> {
    let body = request.to_json().map_err(|_| conversation.not_authentic())?;
    let answer = conversation.call(request.kind().path(), &compress(body)).await?;
    let mut reply =
        request.kind().parse_reply(&answer).map_err(|_| conversation.not_authentic())?;
    if let Reply::Pull(page) = &mut reply {
        conversation.take_token(page.auth_token.take().as_deref())?;
    }
    Ok(reply)
}

/// Waits for what is under way; for ever where nothing is.
async fn finished<F: Future + Unpin>(under_way: &mut Option<F>) -> F::Output {
    match under_way {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// One sealed request and its answer, as JSON.
async fn ask_json<T: serde::de::DeserializeOwned>(
    conversation: &mut Conversation<'_>,
    target: &str,
    request: &impl Serialize,
) -> Result<T, ClientError> {
    let body = serde_json::to_vec(request).map_err(|_| conversation.not_authentic())?;
    let answer = conversation.call(target, &compress(body)).await?;
    serde_json::from_slice(&answer).map_err(|_| conversation.not_authentic())
}
