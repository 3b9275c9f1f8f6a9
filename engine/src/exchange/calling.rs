//! The story of an exchange as its caller tells it: compare where cursors can't tell, pull until
//! nothing is new, push until the peer has everything.
//!
//! Owns the order in which things are asked and taken in. Refuses to know how requests travel, who
//! is trusted, and how anything is worded.

use futures_util::future::join3;

use super::desk::Desk;
use super::event::{Event, ExchangeError, ExchangeOptions, Notice, Progress, Scope, Senseless};
use super::message::Asks;
use super::pages::PushPage;
use super::wire::{PullRequest, PullResponse, PushRequest, RowChange};
use crate::epoch::NewEpoch;
use crate::receive::{Incoming, Receipt};
use crate::trust::identity::DeviceId;

/// Longest cursor and epoch a peer may give, in bytes.
pub(super) const CURSOR_BYTES_MAX: usize = 512;
/// Pages of a long sync that are taken in at once: as many rows as one transaction holds.
const PAGES_STORED_AT_ONCE: usize = 2;
/// Pages without a row after which a peer that says there is more is no longer asked.
const EMPTY_PAGES_MAX: usize = 16;

/// Who calls, and how far the exchange has come.
pub(super) struct Caller {
    pub(super) desk: Desk,
    pub(super) peer: DeviceId,
    pub(super) options: ExchangeOptions,
    pub(super) progress: Progress,
    /// Whether our own log was found to have been put back, in this exchange: once is enough.
    was_put_back: bool,
}

/// How the last page of a pull was.
#[derive(Debug, Clone, Copy, Default)]
struct LastPage {
    was_empty: bool,
    /// The peer's log begins anew.
    is_reset: bool,
}

/// What a run of pages came to.
enum PullRun {
    /// The pages there were for now were taken in.
    Ended(LastPage),
    /// What the peer has of our log is not there any more.
    OwnLogPutBack,
}

/// A page that came.
struct FetchedPage {
    page: PullResponse,
    changes: Vec<RowChange>,
}

/// A page whose changes were read.
struct ReadPage {
    page: PullResponse,
    incoming: Vec<Incoming>,
}

/// What storing pages led to.
struct StoredPages {
    receipt: Receipt,
    /// Changes still to come, as far as is known.
    remaining: usize,
    last: LastPage,
}

impl Caller {
    pub(super) fn new(desk: Desk, peer: DeviceId, options: ExchangeOptions) -> Self {
        Self { desk, peer, options, progress: Progress::default(), was_put_back: false }
    }

    /// The whole story.
    pub(super) async fn hold(mut self) -> Result<(), ExchangeError> {
        match self.options.scope {
            Scope::Whole => {
                self.desk.work(|engine, now| engine.capture(now)).await?;
                self.compare_if_needed().await?;
                self.pull().await?;
                self.push().await
            }
            Scope::Pull => self.pull().await,
            Scope::Push => self.push().await,
        }
    }

    pub(super) async fn ask<R: Asks>(&self, request: R) -> Result<R::Reply, ExchangeError> {
        Ok(R::reply_of(self.desk.ask(request.into_request()).await?)?)
    }

    pub(super) fn tell_progress(&mut self, remaining: usize) {
        self.progress.remaining = remaining;
        self.desk.tell(Event::Progress(self.progress));
    }

    /// Pulls until there is nothing new. Where the cursor does not fit the peer's log, or what the
    /// peer has of ours does not fit our log, the two are compared.
    async fn pull(&mut self) -> Result<(), ExchangeError> {
        let mut was_reset = false;
        loop {
            match self.pull_run().await? {
                PullRun::OwnLogPutBack => {
                    self.was_put_back = true;
                    self.compare_if_needed().await?;
                }
                PullRun::Ended(LastPage { is_reset: true, .. }) => {
                    if std::mem::replace(&mut was_reset, true) {
                        return Err(Senseless::AnewAgain.into());
                    }
                    self.desk.tell(Event::Notice(Notice::PeerEpochBegan));
                    self.compare_if_needed().await?;
                }
                // Asked once more after the last rows, whose cursor tells the peer that they
                // arrived.
                PullRun::Ended(LastPage { was_empty: false, .. }) => {}
                PullRun::Ended(_) => break,
            }
        }
        if self.desk.take_elsewhere() {
            let peer = self.peer.clone();
            self.desk
                .work(move |engine, now| engine.note_other_installation(peer.as_str(), None, now))
                .await?;
        }
        Ok(())
    }

    /// Pulls from where the last run ended until there is no more for now: while some pages are
    /// stored, the next are read and those after them asked for, so that both processors and the
    /// peer are busy.
    async fn pull_run(&mut self) -> Result<PullRun, ExchangeError> {
        let peer = self.peer.clone();
        let request = self.desk.work(move |engine, _| engine.pull_request(peer.as_str())).await?;
        let introduction = self.options.introduction.clone();
        let request = PullRequest {
            port: introduction.port,
            device_name: introduction.device_name,
            instance: introduction.installation,
            revoked: introduction.revoked,
            compares: true,
            ..request
        };
        let mut empty_pages = 0;
        let first = self.ask_page(&request, &mut empty_pages).await?;
        if let Some(known) = first.page.known.clone().filter(|_| !self.was_put_back) {
            let is_put_back =
                self.desk.work(move |engine, now| engine.check_known(&known, now)).await?;
            if is_put_back {
                return Ok(PullRun::OwnLogPutBack);
            }
        }
        let mut ahead = first.page.ahead();
        let (mut fetched, mut ready) = (vec![first], Vec::new());
        let (mut last, mut failed) = (LastPage::default(), None);
        while !(fetched.is_empty() && ready.is_empty()) {
            let (to_store, to_read) = (std::mem::take(&mut ready), std::mem::take(&mut fetched));
            let asking = self.ask_ahead(&request, &mut ahead, &mut empty_pages);
            let ((stored, refusal), read, (asked, failure)) =
                join3(self.store(to_store), self.read(to_read), asking).await;
            for stored in stored {
                self.note_receipt(&stored.receipt)?;
                self.progress.pulled += stored.receipt.rows.len();
                self.tell_progress(stored.remaining);
                last = stored.last;
            }
            if let Some(refusal) = refusal {
                return Err(refusal);
            }
            // What has come is stored even if nothing more does.
            (ready, fetched, failed) = (read, asked, failed.or(failure));
        }
        failed.map_or(Ok(PullRun::Ended(last)), Err)
    }

    async fn ask_page(
        &self,
        request: &PullRequest,
        empty_pages: &mut usize,
    ) -> Result<FetchedPage, ExchangeError> {
        let mut page = self.ask(request.clone()).await?;
        if page.cursor.len() > CURSOR_BYTES_MAX || page.epoch.len() > CURSOR_BYTES_MAX {
            return Err(Senseless::LongCursor.into());
        }
        *empty_pages = if page.changes.is_empty() { *empty_pages + 1 } else { 0 };
        if page.has_more && *empty_pages > EMPTY_PAGES_MAX {
            return Err(Senseless::EmptyPages.into());
        }
        let changes = std::mem::take(&mut page.changes);
        Ok(FetchedPage { page, changes })
    }

    /// Asks for the pages after those that are on their way, as many as are stored at once. They
    /// are not stored yet: what is asked for here says nothing about what arrived. Returns what
    /// came, and what went wrong then.
    async fn ask_ahead(
        &self,
        request: &PullRequest,
        ahead: &mut Option<String>,
        empty_pages: &mut usize,
    ) -> (Vec<FetchedPage>, Option<ExchangeError>) {
        let mut pages = Vec::new();
        while let Some(cursor) = ahead.take_if(|_| pages.len() < PAGES_STORED_AT_ONCE) {
            let next = PullRequest { cursor: Some(cursor), ahead: true, ..request.clone() };
            match self.ask_page(&next, empty_pages).await {
                Ok(fetched) => {
                    *ahead = fetched.page.ahead();
                    pages.push(fetched);
                }
                Err(error) => return (pages, Some(error)),
            }
        }
        (pages, None)
    }

    async fn read(&self, pages: Vec<FetchedPage>) -> Vec<ReadPage> {
        if pages.is_empty() {
            return Vec::new();
        }
        let read = |FetchedPage { page, changes }| ReadPage {
            page,
            incoming: Incoming::read_all(changes),
        };
        self.desk.read(move || pages.into_iter().map(read).collect()).await
    }

    /// Stores pages that were read: each by itself, or as one what follows upon each other. Returns
    /// what was stored, and what went wrong then.
    async fn store(&self, pages: Vec<ReadPage>) -> (Vec<StoredPages>, Option<ExchangeError>) {
        let mut done: Vec<StoredPages> = Vec::new();
        let mut pages = pages.into_iter().peekable();
        while let Some(ReadPage { mut page, mut incoming }) = pages.next() {
            while let Some(next) = pages.next_if(|next| page.continues_with(&next.page)) {
                incoming.extend(next.incoming);
                page = next.page;
            }
            let last = LastPage { was_empty: incoming.is_empty(), is_reset: page.reset };
            let remaining = usize::try_from(page.remaining).unwrap_or(0);
            let peer = self.peer.clone();
            let stored = self.desk.work(move |engine, now| {
                engine.receive_pulled_read(&page, &incoming, peer.as_str(), now)
            });
            match stored.await {
                Ok(receipt) => done.push(StoredPages { receipt, remaining, last }),
                Err(error) => return (done, Some(error)),
            }
        }
        (done, None)
    }

    /// What was refused of what the peer told.
    pub(super) fn note_receipt(&self, receipt: &Receipt) -> Result<(), ExchangeError> {
        if !receipt.rejected.is_empty() {
            self.desk.tell(Event::RefusedHere {
                changes: receipt.rejected_count(),
                reasons: receipt.rejected.clone(),
            });
        }
        if receipt.equivocated { Err(ExchangeError::Equivocated) } else { Ok(()) }
    }

    /// Pushes until the peer has everything.
    async fn push(&mut self) -> Result<(), ExchangeError> {
        loop {
            let peer = self.peer.clone();
            let next = self
                .desk
                .work(move |engine, now| {
                    let page = engine.push_page(peer.as_str(), now)?;
                    Ok(page.map(|page| (page, engine.epoch())))
                })
                .await?;
            let Some((page, epoch)) = next else { return Ok(()) };
            let (end, has_more) = (page.end, page.has_more);
            if !page.changes.is_empty() {
                self.send_page(page, epoch).await?;
            }
            let peer = self.peer.clone();
            self.desk.work(move |engine, now| engine.note_reached(peer.as_str(), end, now)).await?;
            self.tell_progress(0);
            if !has_more {
                return Ok(());
            }
        }
    }

    pub(super) async fn send_page(
        &mut self,
        page: PushPage,
        epoch: String,
    ) -> Result<(), ExchangeError> {
        let PushPage { changes, span, .. } = page;
        let request = PushRequest { changes, epoch: Some(epoch), states: false, span };
        let answer = self.ask(request).await?;
        self.progress.pushed += answer.accepted;
        if answer.rejected > 0 {
            let (changes, message) = (answer.rejected, answer.message);
            self.desk.tell(Event::RefusedThere { changes, message });
        }
        Ok(())
    }

    /// Tells how our own log began anew, where it did since we met the peer.
    pub(super) fn tell_new_epoch(&self, cause: Option<NewEpoch>) {
        if let Some(cause) = cause {
            self.desk.tell(Event::Notice(Notice::OwnEpochBegan(cause)));
        }
    }
}
