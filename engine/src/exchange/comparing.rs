//! The part of an exchange that is needed where cursors can't tell what either side lacks: at the
//! first meeting of two files, and after one of them was restored, copied or replaced. The logs are
//! compared, names are agreed on where the files meet for the first time, and each side gets what
//! it lacks.
//!
//! Owns who takes whose names. What two files are to each other is judged in `first_contact`, how
//! logs are compared in `reconcile`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use storysync_crdt::ChangeHash;

use super::calling::{CURSOR_BYTES_MAX, Caller};
use super::event::{ContactChoice, Event, ExchangeError, Notice, Senseless};
use super::first_contact::Contact;
use super::reconcile::{NAMED_MAX, Reconciling};
use super::wire::{FetchRequest, NamesRequest, ReconcileRequest, ReconcileResponse, RowChange};
use crate::receive::Incoming;
use crate::trust::to_base64url;

/// Messages of one comparison after which a peer makes no sense: each narrows the difference by a
/// factor of 16.
const COMPARE_ROUNDS_MAX: usize = 256;
/// Most changes asked for by name in one request; more are ordered first.
const PORTION_NAMES: usize = 1_000;
/// Most names of rows told in one request at a first contact.
const NAMES_SENT_MAX: usize = 20_000;

/// Which of two files takes the names of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Here,
    There,
}

/// What is known here before a comparison.
struct Before {
    is_needed: bool,
    is_provisional: bool,
    own_id: String,
}

impl Caller {
    /// Compares the logs where cursors can't tell what either side lacks, and gives each what it
    /// lacks.
    pub(super) async fn compare_if_needed(&mut self) -> Result<(), ExchangeError> {
        let before = self.look_before_comparing().await?;
        if !before.is_needed {
            return Ok(());
        }
        let (mut compared, mut answer) = self.compare().await?;
        // One file takes the other's names: the one whose names nobody knows; of two such the one
        // with the greater id, whoever calls.
        let takes_names = match (before.is_provisional, answer.provisional) {
            (true, true) if before.own_id.as_str() < self.peer.as_str() => Some(Side::There),
            (true, _) => Some(Side::Here),
            (false, true) => Some(Side::There),
            (false, false) => None,
        };
        let lack_of_each_other = !compared.need().is_empty() && !compared.have().is_empty();
        if let Some(side) = takes_names.filter(|_| lack_of_each_other)
            && self.meet(&compared, side, before.is_provisional).await?
        {
            // Rows have other names now: what the two lack of each other is less.
            (compared, answer) = self.compare().await?;
        }
        let (need, have) = (compared.need(), compared.have());
        tracing::info!(
            device = %self.peer, changes = compared.size(), lacking_here = need.len(),
            lacking_there = have.len(), "two logs were compared"
        );
        self.fetch(&need).await?;
        self.push_named(have).await?;
        let peer = self.peer.clone();
        self.desk
            .work(move |engine, now| engine.end_reconciling(&compared, &answer, peer.as_str(), now))
            .await
    }

    async fn look_before_comparing(&self) -> Result<Before, ExchangeError> {
        let peer = self.peer.clone();
        let (before, cause) = self
            .desk
            .work(move |engine, _| {
                let is_needed = engine.needs_reconciling(peer.as_str())?;
                let (is_provisional, has_met) =
                    (engine.is_provisional()?, engine.has_met(peer.as_str())?);
                let cause =
                    engine.new_epoch()?.map(|(cause, _)| cause).filter(|_| has_met && is_needed);
                let own_id = engine.device_id().to_string();
                Ok((Before { is_needed, is_provisional, own_id }, cause))
            })
            .await?;
        self.tell_new_epoch(cause);
        Ok(before)
    }

    async fn compare(&self) -> Result<(Reconciling, ReconcileResponse), ExchangeError> {
        let (mut compared, epoch) = self
            .desk
            .work(|engine, now| Ok((engine.begin_reconciling(now)?, engine.epoch())))
            .await?;
        let senseless = |_| ExchangeError::from(Senseless::Comparison);
        let mut first: Option<ReconcileResponse> = None;
        let mut message = compared.next_message(None).map_err(senseless)?;
        for _ in 0..COMPARE_ROUNDS_MAX {
            let Some(sent) = message else { break };
            let answer =
                self.ask(ReconcileRequest { message: sent, epoch: Some(epoch.clone()) }).await?;
            if answer.cursor.len() > CURSOR_BYTES_MAX || answer.epoch.len() > CURSOR_BYTES_MAX {
                return Err(Senseless::Comparison.into());
            }
            message = compared.next_message(Some(&answer.message)).map_err(senseless)?;
            // What was added there since the first answer is pulled afterwards.
            first.get_or_insert(answer);
        }
        match (message, first) {
            (None, Some(first)) => Ok((compared, first)),
            _ => Err(Senseless::Comparison.into()),
        }
    }

    /// Two files meet for the first time. Returns whether rows of ours may have other names now.
    async fn meet(
        &mut self,
        compared: &Reconciling,
        side: Side,
        is_provisional: bool,
    ) -> Result<bool, ExchangeError> {
        let contact = Arc::new(self.look_at_peer(compared).await?);
        let judged = Arc::clone(&contact);
        let mut verdict = self.desk.work(move |engine, _| engine.judge_contact(&judged)).await?;
        if let ContactChoice::Is(kind) = self.options.contact {
            verdict.kind = kind;
        }
        if verdict.common == 0 {
            return Ok(false);
        }
        if self.options.contact == ContactChoice::Ask && is_provisional {
            let asked = verdict.clone();
            let question =
                self.desk.work(move |engine, _| engine.contact_question(&contact, &asked)).await?;
            self.desk.tell(Event::Question(question));
            return Err(ExchangeError::Undecided(verdict));
        }
        // Told before anything of ours is sent.
        self.desk.tell(Event::Notice(Notice::Met(verdict.clone())));
        let kind = verdict.kind;
        verdict.renamed = match side {
            Side::Here => {
                // Names are for good, so the peer's owner is asked first: no names at all are
                // refused while they have not said.
                self.ask(NamesRequest { names: Vec::new() }).await?;
                self.desk
                    .work(move |engine, now| engine.settle_contact(&contact, kind, now))
                    .await?
            }
            Side::There => {
                let names = self
                    .desk
                    .work(move |engine, _| engine.names_for_contact(&contact, kind))
                    .await?;
                let mut renamed = 0;
                for names in names.chunks(NAMES_SENT_MAX) {
                    renamed += self.ask(NamesRequest { names: names.to_vec() }).await?.renamed;
                }
                renamed
            }
        };
        self.desk.tell(Event::FirstContact(verdict));
        // Compared again also where nothing was renamed: others may have learned the names
        // meanwhile.
        Ok(true)
    }

    /// Looks at the peer's rows that ours lacks, and takes nothing in.
    async fn look_at_peer(&self, compared: &Reconciling) -> Result<Contact, ExchangeError> {
        let (need, have) = (compared.need(), compared.have());
        let contact = self.desk.work(move |engine, _| engine.begin_contact(&have)).await?;
        let contact = Arc::new(Mutex::new(contact));
        let mut names = Names { looking: true, ..Names::of(&need) };
        while let Some(page) = names.next_page(self).await? {
            let contact = Arc::clone(&contact);
            self.desk
                .work(move |engine, now| {
                    let mut contact = contact.lock().unwrap_or_else(PoisonError::into_inner);
                    engine.look_at_contact(&page, &mut contact, now)
                })
                .await?;
        }
        let mut looked = contact.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut *looked))
    }

    /// Takes in the changes we lack.
    async fn fetch(&mut self, need: &[ChangeHash]) -> Result<(), ExchangeError> {
        let mut names = Names::of(need);
        let mut arrived = 0;
        while let Some(page) = names.next_page(self).await? {
            arrived += page.iter().map(|row| row.automerge.len()).sum::<usize>();
            let (page, peer) = (Incoming::read_all(page), self.peer.clone());
            let receipt = self
                .desk
                .work(move |engine, now| engine.receive_fetched(&page, peer.as_str(), now))
                .await?;
            self.note_receipt(&receipt)?;
            self.progress.pulled += receipt.rows.len();
            self.tell_progress(need.len().saturating_sub(arrived));
        }
        Ok(())
    }

    /// Tells the changes the peer lacks.
    async fn push_named(&mut self, have: Vec<ChangeHash>) -> Result<(), ExchangeError> {
        let (mut after, mut has_more) = (0, !have.is_empty());
        let have = Arc::new(have);
        while has_more {
            let names = Arc::clone(&have);
            let (page, epoch) = self
                .desk
                .work(move |engine, now| {
                    Ok((engine.named_page(&names, after, now)?, engine.epoch()))
                })
                .await?;
            (after, has_more) = (page.end.seq, page.has_more);
            if !page.changes.is_empty() {
                self.send_page(page, epoch).await?;
            }
            self.tell_progress(0);
        }
        Ok(())
    }
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

    fn request(&self, changes: Option<Vec<String>>) -> FetchRequest {
        FetchRequest {
            changes,
            after: self.after,
            looking: self.looking,
            compress: Some("gzip".to_owned()),
            ..FetchRequest::default()
        }
    }

    async fn next_page(
        &mut self,
        caller: &Caller,
    ) -> Result<Option<Vec<RowChange>>, ExchangeError> {
        if !self.unordered.is_empty() {
            self.ask_order(caller).await?;
        }
        let Some(portion) = self.portions.front() else { return Ok(None) };
        let page = caller.ask(self.request(portion.clone())).await?;
        if page.has_more && page.after <= self.after {
            return Err(Senseless::EmptyPages.into());
        }
        if page.has_more {
            self.after = page.after;
        } else {
            self.portions.pop_front();
            self.after = 0;
        }
        Ok(Some(page.changes))
    }

    async fn ask_order(&mut self, caller: &Caller) -> Result<(), ExchangeError> {
        let request = FetchRequest { order: true, ..self.request(Some(self.unordered.clone())) };
        let answer = caller.ask(request).await?;
        let mut names: Vec<Option<String>> =
            std::mem::take(&mut self.unordered).into_iter().map(Some).collect();
        // Each name once, whatever numbers are told.
        let ordered: Vec<String> =
            answer.order.into_iter().filter_map(|number| names.get_mut(number)?.take()).collect();
        self.portions.extend(ordered.chunks(PORTION_NAMES).map(|names| Some(names.to_vec())));
        Ok(())
    }
}
