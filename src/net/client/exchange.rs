//! Exchanges with one device: what is lacking is compared, pulled and pushed until both sides have
//! everything.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Serialize;
use storysync_crdt::ChangeHash;

use super::conversation::{Conversation, words_of_a_peer};
use super::link::{Counters, connect};
use super::{ClientError, EventStream};
use crate::net::handle::EngineHandle;
use crate::net::node_state::now;
use crate::net::sealed::compress;
use storysync_engine::store::trust::{EventKind, TrustStore, TrustedDevice};
use storysync_engine::trust::identity::{DeviceId, Identity};
use storysync_engine::trust::to_base64url;
use storysync_engine::wire::{
    FetchRequest, FetchResponse, NamesRequest, NamesResponse, PushRequest, PushResponse,
    ReconcileRequest, ReconcileResponse, RowChange,
};
use storysync_engine::{
    ContactQuestion, DigestRequest, Digests, FirstContact, Incoming, Kinship, NAMED_MAX, Receipt,
    Reconciling,
};

/// Longest cursor and epoch a peer may give, in bytes.
pub(super) const CURSOR_BYTES_MAX: usize = 512;
/// Messages of one comparison after which a peer makes no sense: each narrows the difference by a
/// factor of 16.
const COMPARE_ROUNDS_MAX: usize = 256;
/// Most changes asked for by name in one request; more are ordered first.
const PORTION_NAMES: usize = 1_000;
/// Most names of rows told in one request at a first contact.
const NAMES_SENT_MAX: usize = 20_000;

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
    /// Clashes open here afterwards.
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
    /// Nothing yet.
    #[must_use]
    pub fn of(device: &TrustedDevice) -> Self {
        Self {
            device_id: device.device_id.to_string(),
            name: device.name.clone(),
            ..Self::default()
        }
    }
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
    /// Whether it was proven who answers.
    proven: bool,
}

/// How much has arrived on a line.
#[derive(Debug)]
pub struct Meter(Arc<Counters>);

impl Meter {
    /// Bytes received over TCP since the line was opened.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.0.received.load(Ordering::Relaxed)
    }
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
        let counters = &self.conversation.counters;
        (counters.sent.load(Ordering::Relaxed), counters.received.load(Ordering::Relaxed))
    }

    /// Counts what arrives while the line is in use.
    #[must_use]
    pub fn meter(&self) -> Meter {
        Meter(Arc::clone(&self.conversation.counters))
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
        let mut addresses = device.addresses.clone();
        addresses.extend(
            self.static_addresses
                .iter()
                .filter(|address| !device.addresses.contains(address))
                .cloned(),
        );
        let done = async {
            let mut line = self.open(device, &addresses).await?;
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

    /// Connects to a device at the first address that answers.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn open(
        &self,
        device: &'a TrustedDevice,
        addresses: &[String],
    ) -> Result<Line<'a>, ClientError> {
        if device.frozen_at.is_some() {
            return Err(ClientError::Frozen(device.name.clone()));
        }
        let counters = Arc::new(Counters::default());
        let link = connect(addresses, &device.name, &counters).await?;
        Ok(Line {
            conversation: Conversation::new(link, &counters, self.identity, self.trust, device),
            proven: false,
        })
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
        let device = line.conversation.device;
        // What introduces us to the peer is asked for while the app's writes are taken in.
        let (captured, introduced) = tokio::join!(
            self.engine.call(|engine| engine.capture(now())),
            line.conversation.introduce()
        );
        captured??;
        introduced?;
        self.compare_if_needed(line, report, progress).await?;
        self.pull(line, report, progress).await?;
        if line.conversation.other_installation {
            line.conversation.other_installation = false;
            let device_id = device.device_id.to_string();
            self.engine
                .call(move |engine| engine.note_other_installation(&device_id, None, now()))
                .await??;
        }
        self.push(line, report, progress).await?;
        self.trust.note_sync(&device.device_id, now().unix_ms())?;
        Ok(())
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
        while self.push_page(&mut line.conversation, report).await? {
            progress(Progress { pulled: report.pulled, pushed: report.pushed, remaining: 0 });
        }
        self.prove(line)
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
        ask(&mut line.conversation, "/api/sync/digests", request).await
    }

    /// What the device's status says.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn peer_status(&self, line: &mut Line<'a>) -> Result<serde_json::Value, ClientError> {
        line.conversation.status().await
    }

    /// Only once a sealed answer came is it proven who answers there.
    pub(super) fn prove(&self, line: &mut Line<'a>) -> Result<(), ClientError> {
        if !line.proven {
            self.trust.note_address(
                &line.conversation.device.device_id,
                &line.conversation.link.address,
            )?;
            line.proven = true;
        }
        Ok(())
    }

    pub(super) fn tell(
        &self,
        device_id: &DeviceId,
        report: &mut PeerReport,
        words: String,
    ) -> Result<(), ClientError> {
        tracing::warn!(device = %device_id, "{words}");
        self.trust.note_event(EventKind::Compare, Some(device_id), &words, now().unix_ms())?;
        report.notices.push(words);
        Ok(())
    }

    /// Where cursors can't tell what either side lacks, the logs are compared, and each gets what
    /// it lacks.
    pub(super) async fn compare_if_needed(
        &self,
        line: &mut Line<'a>,
        report: &mut PeerReport,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(), ClientError> {
        let device = line.conversation.device;
        let device_id = device.device_id.to_string();
        let asked = device_id.clone();
        let (is_needed, life, is_provisional, has_met) = self
            .engine
            .call(move |engine| {
                Ok((
                    engine.needs_reconciling(&asked)?,
                    engine.life()?,
                    engine.is_provisional()?,
                    engine.has_met(&asked)?,
                ))
            })
            .await??;
        if !is_needed {
            return Ok(());
        }
        if let Some((life, _)) = life.filter(|_| has_met) {
            self.tell(&device.device_id, report, life.sentence().to_owned())?;
        }
        let (mut compared, mut answer) = self.compare(&mut line.conversation).await?;
        self.prove(line)?;
        // One file takes the other's names: the one whose names nobody knows; of two such the one
        // with the greater id, whoever calls.
        let takes_names = match (is_provisional, answer.provisional) {
            (true, true) if self.identity.device_id().as_str() < device.device_id.as_str() => {
                Some(Side::There)
            }
            (true, _) => Some(Side::Here),
            (false, true) => Some(Side::There),
            (false, false) => None,
        };
        if let Some(side) =
            takes_names.filter(|_| !compared.need().is_empty() && !compared.have().is_empty())
            && self.meet(&mut line.conversation, report, &compared, side, is_provisional).await?
        {
            // Rows have other names now: what the two lack of each other is less.
            (compared, answer) = self.compare(&mut line.conversation).await?;
        }
        let (need, have) = (compared.need(), compared.have());
        tracing::info!(device = %device_id, changes = compared.size(), lacking_here = need.len(), lacking_there = have.len(), "two logs were compared");
        self.fetch(&mut line.conversation, &need, report, progress).await?;
        self.push_named(&mut line.conversation, &have, report, progress).await?;
        self.engine
            .call(move |engine| engine.end_reconciling(&compared, &answer, &device_id, now()))
            .await??;
        Ok(())
    }

    async fn compare(
        &self,
        conversation: &mut Conversation<'_>,
    ) -> Result<(Reconciling, ReconcileResponse), ClientError> {
        let (mut compared, epoch) = self
            .engine
            .call(|engine| Ok((engine.begin_reconciling(now())?, engine.epoch())))
            .await??;
        let senseless = |conversation: &Conversation<'_>| ClientError::Remote {
            name: conversation.device.name.clone(),
            detail: "its part of the comparison can't be understood".to_owned(),
        };
        let mut first: Option<ReconcileResponse> = None;
        let mut message = compared.next_message(None).map_err(|_| senseless(conversation))?;
        for _ in 0..COMPARE_ROUNDS_MAX {
            let Some(sent) = message else { break };
            let request = ReconcileRequest { message: sent, epoch: Some(epoch.clone()) };
            let answer: ReconcileResponse =
                ask(conversation, "/api/sync/reconcile", &request).await?;
            if answer.cursor.len() > CURSOR_BYTES_MAX || answer.epoch.len() > CURSOR_BYTES_MAX {
                return Err(senseless(conversation));
            }
            message = compared
                .next_message(Some(&answer.message))
                .map_err(|_| senseless(conversation))?;
            // What was added there since the first answer is pulled afterwards.
            first.get_or_insert(answer);
        }
        match (message, first) {
            (None, Some(first)) => Ok((compared, first)),
            _ => Err(senseless(conversation)),
        }
    }

    /// Two files meet for the first time. Returns whether rows of ours have other names now.
    async fn meet(
        &self,
        conversation: &mut Conversation<'_>,
        report: &mut PeerReport,
        compared: &Reconciling,
        side: Side,
        is_provisional: bool,
    ) -> Result<bool, ClientError> {
        let (need, have) = (compared.need(), compared.have());
        let mut contact = self.engine.call(move |engine| engine.begin_contact(&have)).await??;
        let mut names = Names { looking: true, ..Names::of(&need) };
        while let Some(page) = names.next_page(conversation).await? {
            contact = self
                .engine
                .call(move |engine| {
                    let mut contact = std::mem::take(&mut contact);
                    engine.look_at_contact(&page, &mut contact, now())?;
                    Ok(contact)
                })
                .await??;
        }
        let contact = Arc::new(contact);
        let judged = Arc::clone(&contact);
        let mut verdict = self.engine.call(move |engine| engine.judge_contact(&judged)).await??;
        if let ContactChoice::Is(kind) = self.contact {
            verdict.kind = kind;
        }
        if verdict.common == 0 {
            return Ok(false);
        }
        if self.contact == ContactChoice::Ask && is_provisional {
            let asked = verdict.clone();
            report.first_contact_question = Some(
                self.engine.call(move |engine| engine.contact_question(&contact, &asked)).await??,
            );
            return Err(ClientError::ContactUndecided {
                name: conversation.device.name.clone(),
                sentence: verdict.sentence(&conversation.device.name),
            });
        }
        // Told before anything of ours is sent.
        self.tell(
            &conversation.device.device_id,
            report,
            verdict.sentence(&conversation.device.name),
        )?;
        let kind = verdict.kind;
        verdict.renamed = match side {
            Side::Here => {
                // Names are for good, so the peer's owner is asked first: no names at all are
                // refused while they have not said.
                let _: NamesResponse =
                    ask(conversation, "/api/sync/names", &NamesRequest { names: Vec::new() })
                        .await?;
                self.engine
                    .call(move |engine| engine.settle_contact(&contact, kind, now()))
                    .await??
            }
            Side::There => {
                let names = self
                    .engine
                    .call(move |engine| engine.names_for_contact(&contact, kind))
                    .await??;
                let mut renamed = 0;
                for names in names.chunks(NAMES_SENT_MAX) {
                    let answer: NamesResponse = ask(
                        conversation,
                        "/api/sync/names",
                        &NamesRequest { names: names.to_vec() },
                    )
                    .await?;
                    renamed += answer.renamed;
                }
                renamed
            }
        };
        report.first_contact = Some(verdict);
        // Compared again also where nothing was renamed: others may have learned the names
        // meanwhile.
        Ok(true)
    }

    /// Takes in the changes we lack.
    async fn fetch(
        &self,
        conversation: &mut Conversation<'_>,
        need: &[ChangeHash],
        report: &mut PeerReport,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(), ClientError> {
        let mut names = Names::of(need);
        let mut arrived = 0;
        while let Some(page) = names.next_page(conversation).await? {
            arrived += page.iter().map(|row| row.automerge.len()).sum::<usize>();
            let page = Incoming::read_all(page);
            let device_id = conversation.device.device_id.to_string();
            let receipt = self
                .engine
                .call(move |engine| engine.receive_fetched(&page, &device_id, now()))
                .await??;
            report.pulled += self.note_receipt(conversation, &receipt)?;
            progress(Progress {
                pulled: report.pulled,
                pushed: report.pushed,
                remaining: need.len().saturating_sub(arrived),
            });
        }
        Ok(())
    }

    /// Tells the changes the peer lacks.
    async fn push_named(
        &self,
        conversation: &mut Conversation<'_>,
        have: &[ChangeHash],
        report: &mut PeerReport,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(), ClientError> {
        let have = Arc::new(have.to_vec());
        let (mut after, mut more) = (0, !have.is_empty());
        while more {
            let names = Arc::clone(&have);
            let (page, epoch) = self
                .engine
                .call(move |engine| Ok((engine.named_page(&names, after, now())?, engine.epoch())))
                .await??;
            (after, more) = (page.end.seq, page.has_more);
            if !page.changes.is_empty() {
                self.send_page(conversation, page.changes, epoch, page.span, report).await?;
            }
            progress(Progress { pulled: report.pulled, pushed: report.pushed, remaining: 0 });
        }
        Ok(())
    }

    /// What was refused of what a peer told; how many rows were new.
    pub(super) fn note_receipt(
        &self,
        conversation: &Conversation<'_>,
        receipt: &Receipt,
    ) -> Result<usize, ClientError> {
        let device = conversation.device;
        for sentence in &receipt.rejected {
            tracing::warn!(device = %device.device_id, "{sentence}");
        }
        if !receipt.rejected.is_empty() {
            let words = format!("{} of its changes were refused", receipt.rejected_count());
            self.trust.note_event(
                EventKind::Refuse,
                Some(&device.device_id),
                &words,
                now().unix_ms(),
            )?;
        }
        if receipt.equivocated {
            self.trust.freeze(&device.device_id, now().unix_ms())?;
            return Err(ClientError::Frozen(device.name.clone()));
        }
        Ok(receipt.rows.len())
    }

    /// Pushes one page. `false` when there is nothing to push.
    async fn push_page(
        &self,
        conversation: &mut Conversation<'_>,
        report: &mut PeerReport,
    ) -> Result<bool, ClientError> {
        let device_id = conversation.device.device_id.to_string();
        let asked = device_id.clone();
        let Some((page, epoch)) = self
            .engine
            .call(move |engine| {
                engine.push_page(&asked, now()).map(|page| page.map(|page| (page, engine.epoch())))
            })
            .await??
        else {
            return Ok(false);
        };
        let end = page.end;
        if !page.changes.is_empty() {
            self.send_page(conversation, page.changes, epoch, page.span, report).await?;
        }
        self.engine.call(move |engine| engine.note_reached(&device_id, end, now())).await??;
        Ok(page.has_more)
    }

    async fn send_page(
        &self,
        conversation: &mut Conversation<'_>,
        changes: Vec<RowChange>,
        epoch: String,
        span: Option<(String, String)>,
        report: &mut PeerReport,
    ) -> Result<(), ClientError> {
        let answer: PushResponse = ask(
            conversation,
            "/api/sync/push",
            &PushRequest { changes, epoch: Some(epoch), states: false, span },
        )
        .await?;
        report.pushed += answer.accepted;
        if answer.rejected > 0 {
            let (device_id, at) = (&conversation.device.device_id, now().unix_ms());
            tracing::warn!(device = %device_id, rejected = answer.rejected, "{}", words_of_a_peer(&answer.message));
            self.trust.note_event(
                EventKind::Refuse,
                Some(device_id),
                &format!("it refused {} of our changes", answer.rejected),
                at,
            )?;
        }
        Ok(())
    }
}

/// Which of two files takes the names of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Here,
    There,
}

/// Changes to be asked for by name, or all there are when there are too many to name.
///
/// Changes must be taken in in the order of the peer's log, which only the peer knows. With all
/// names in the request for each page the bytes would grow with the square of their number; so
/// where there are many, their order is asked for first.
struct Names {
    /// Names whose order is not known yet.
    unordered: Vec<String>,
    /// What is still to be asked for, in order: some names, or everything.
    portions: VecDeque<Option<Vec<String>>>,
    /// Where the last page of the first portion ended.
    after: i64,
    /// Whether what comes is only looked at.
    looking: bool,
}

impl Names {
    fn of(need: &[ChangeHash]) -> Self {
        let named = || need.iter().map(|hash| to_base64url(&hash.0)).collect();
        let (unordered, portions) = match need.len() {
            0 => (Vec::new(), VecDeque::new()),
            few if few <= PORTION_NAMES => (Vec::new(), VecDeque::from([Some(named())])),
            many if many <= NAMED_MAX => (named(), VecDeque::new()),
            _ => (Vec::new(), VecDeque::from([None])),
        };
        Self { unordered, portions, after: 0, looking: false }
    }

    async fn next_page(
        &mut self,
        conversation: &mut Conversation<'_>,
    ) -> Result<Option<Vec<RowChange>>, ClientError> {
        if !self.unordered.is_empty() {
            self.ask_order(conversation).await?;
        }
        let Some(portion) = self.portions.front() else { return Ok(None) };
        let request = FetchRequest {
            changes: portion.clone(),
            after: self.after,
            looking: self.looking,
            compress: Some("gzip".to_owned()),
            ..FetchRequest::default()
        };
        let page: FetchResponse = ask(conversation, "/api/sync/fetch", &request).await?;
        if page.has_more && page.after <= self.after {
            return Err(ClientError::Remote {
                name: conversation.device.name.clone(),
                detail: "there is more, again and again, and nothing comes".to_owned(),
            });
        }
        if page.has_more {
            self.after = page.after;
        } else {
            self.portions.pop_front();
            self.after = 0;
        }
        Ok(Some(page.changes))
    }

    async fn ask_order(&mut self, conversation: &mut Conversation<'_>) -> Result<(), ClientError> {
        let request = FetchRequest {
            changes: Some(self.unordered.clone()),
            order: true,
            looking: self.looking,
            compress: Some("gzip".to_owned()),
            ..FetchRequest::default()
        };
        let answer: FetchResponse = ask(conversation, "/api/sync/fetch", &request).await?;
        let mut names: Vec<Option<String>> =
            std::mem::take(&mut self.unordered).into_iter().map(Some).collect();
        // Each name once, whatever numbers are told.
        let ordered: Vec<String> =
            answer.order.into_iter().filter_map(|number| names.get_mut(number)?.take()).collect();
        self.portions.extend(ordered.chunks(PORTION_NAMES).map(|portion| Some(portion.to_vec())));
        Ok(())
    }
}

/// One sealed request and its answer, as JSON.
pub(super) async fn ask<T: serde::de::DeserializeOwned>(
    conversation: &mut Conversation<'_>,
    target: &str,
    request: &impl Serialize,
) -> Result<T, ClientError> {
    let body = serde_json::to_vec(request).map_err(|_| conversation.not_authentic())?;
    let answer = conversation.call(target, &compress(body)).await?;
    serde_json::from_slice(&answer).map_err(|_| conversation.not_authentic())
}
