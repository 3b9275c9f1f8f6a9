//! Pulling from one device: pages are asked for, read and stored side by side, so that both
//! processors and the peer are busy in a long sync, and what is stored at once is as much as one
//! transaction holds.

use super::ClientError;
use super::conversation::Conversation;
use super::exchange::{CURSOR_BYTES_MAX, Caller, Line, PeerReport, Progress, ask};
use crate::net::handle::EngineGone;
use crate::net::node_state::now;
use storysync_engine::wire::{PullRequest, PullResponse, RowChange};
use storysync_engine::{Incoming, Receipt};

/// Pages of a long sync that are taken in at once: as many rows as one transaction holds.
const PAGES_STORED_AT_ONCE: usize = 2;
/// Pages without a row after which a peer that says there is more is no longer asked.
const EMPTY_PAGES_MAX: usize = 16;

impl<'a> Caller<'a> {
    /// Pulls until there is nothing new. Where the cursor does not fit the peer's log, the two are
    /// compared.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn pull(
        &self,
        line: &mut Line<'a>,
        report: &mut PeerReport,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(), ClientError> {
        let mut was_reset = false;
        loop {
            let (was_empty, is_reset) = self.pull_run(line, report, progress).await?;
            if is_reset {
                if was_reset {
                    let name = line.conversation.device.name.clone();
                    return Err(ClientError::Remote {
                        name,
                        detail: "its log begins anew, again and again".to_owned(),
                    });
                }
                was_reset = true;
                let words = format!(
                    "the database of {} was restored from a backup, copied or replaced; it was \
                        compared with this one, and each gets what it lacks",
                    line.conversation.device.name
                );
                self.tell(&line.conversation.device.device_id, report, words)?;
                self.compare_if_needed(line, report, progress).await?;
            } else if was_empty {
                // Asked once more after the last rows, whose cursor tells the peer that they
                // arrived.
                return Ok(());
            }
        }
    }

    /// Pulls from where the last run ended until there is no more for now: while some pages are
    /// stored, the next are read and those after them asked for, so that both processors and the
    /// peer are busy. Returns whether the last page was empty, and whether the peer's log begins
    /// anew.
    async fn pull_run(
        &self,
        line: &mut Line<'a>,
        report: &mut PeerReport,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(bool, bool), ClientError> {
        let asked = line.conversation.device.device_id.to_string();
        let request = self.engine.call(move |engine| engine.pull_request(&asked)).await??;
        let request = PullRequest {
            port: self.own_port,
            device_name: Some(self.name.to_owned()),
            instance: Some(self.installation.to_owned()),
            revoked: self.trust.revocations()?,
            compares: true,
            ..request
        };
        let first = ask_page(&mut line.conversation, &request).await?;
        self.prove(line)?;
        let device_id = line.conversation.device.device_id.to_string();
        let mut ahead = first.page.ahead();
        let (mut fetched, mut ready) = (vec![first], Vec::new());
        let (mut last, mut failed) = ((false, false), None);
        while !(fetched.is_empty() && ready.is_empty()) {
            // Of a device that was revoked meanwhile, nothing that waits here is taken in.
            line.conversation.check_trust()?;
            let asking = ask_ahead(&mut line.conversation, &request, &mut ahead);
            let (stored, read, (asked, failure)) = tokio::join!(
                self.store(std::mem::take(&mut ready), &device_id),
                read(std::mem::take(&mut fetched)),
                asking
            );
            let (stored, refusal) = stored;
            for stored in stored {
                for token in &stored.tokens {
                    line.conversation.take_token(Some(token))?;
                }
                report.pulled += self.note_receipt(&line.conversation, &stored.receipt)?;
                progress(Progress {
                    pulled: report.pulled,
                    pushed: report.pushed,
                    remaining: stored.remaining,
                });
                last = (stored.was_empty, stored.is_reset);
            }
            if let Some(refusal) = refusal {
                return Err(refusal);
            }
            // What has come is stored even if nothing more does.
            (ready, fetched, failed) = (read?, asked, failed.or(failure));
        }
        failed.map_or(Ok(last), Err)
    }

    /// Stores pages that were read: each by itself, or as one what follows upon each other. Returns
    /// what was stored, and what went wrong then.
    async fn store(
        &self,
        pages: Vec<ReadPage>,
        device_id: &str,
    ) -> (Vec<StoredPages>, Option<ClientError>) {
        let mut done: Vec<StoredPages> = Vec::new();
        let mut pages = pages.into_iter().peekable();
        while let Some(ReadPage { mut page, mut incoming, token }) = pages.next() {
            let mut tokens = Vec::from_iter(token);
            while let Some(next) = pages.next_if(|next| page.continues_with(&next.page)) {
                incoming.extend(next.incoming);
                tokens.extend(next.token);
                page = next.page;
            }
            let (was_empty, is_reset) = (incoming.is_empty(), page.reset);
            let remaining = usize::try_from(page.remaining).unwrap_or(0);
            let device_id = device_id.to_owned();
            match self
                .engine
                .call(move |engine| engine.receive_pulled_read(&page, &incoming, &device_id, now()))
                .await
            {
                Ok(Ok(receipt)) => {
                    done.push(StoredPages { receipt, tokens, remaining, was_empty, is_reset })
                }
                Ok(Err(error)) => return (done, Some(error.into())),
                Err(gone) => return (done, Some(gone.into())),
            }
        }
        (done, None)
    }
}

/// A page that came.
struct FetchedPage {
    page: PullResponse,
    changes: Vec<RowChange>,
    token: Option<String>,
}

/// A page whose changes were read.
struct ReadPage {
    page: PullResponse,
    incoming: Vec<Incoming>,
    token: Option<String>,
}

/// What storing pages led to.
struct StoredPages {
    receipt: Receipt,
    tokens: Vec<String>,
    /// Changes still to come, as far as is known.
    remaining: usize,
    was_empty: bool,
    is_reset: bool,
}

/// Asks for the pages after those that are on their way, as many as are stored at once. They are
/// not stored yet: what is asked for here says nothing about what arrived. Returns what came, and
/// what went wrong then.
async fn ask_ahead(
    conversation: &mut Conversation<'_>,
    request: &PullRequest,
    ahead: &mut Option<String>,
) -> (Vec<FetchedPage>, Option<ClientError>) {
    let mut pages = Vec::new();
    while let Some(cursor) = ahead.take_if(|_| pages.len() < PAGES_STORED_AT_ONCE) {
        match ask_page(
            conversation,
            &PullRequest { cursor: Some(cursor), ahead: true, ..request.clone() },
        )
        .await
        {
            Ok(fetched) => {
                *ahead = fetched.page.ahead();
                pages.push(fetched);
            }
            Err(error) => return (pages, Some(error)),
        }
    }
    (pages, None)
}

async fn ask_page(
    conversation: &mut Conversation<'_>,
    request: &PullRequest,
) -> Result<FetchedPage, ClientError> {
    let mut page: PullResponse = ask(conversation, "/api/sync/pull", request).await?;
    if page.cursor.len() > CURSOR_BYTES_MAX || page.epoch.len() > CURSOR_BYTES_MAX {
        return Err(ClientError::Remote {
            name: conversation.device.name.clone(),
            detail: "a cursor longer than any cursor is".to_owned(),
        });
    }
    conversation.empty_pages =
        if page.changes.is_empty() { conversation.empty_pages + 1 } else { 0 };
    if page.has_more && conversation.empty_pages > EMPTY_PAGES_MAX {
        return Err(ClientError::Remote {
            name: conversation.device.name.clone(),
            detail: "there is more, again and again, and nothing comes".to_owned(),
        });
    }
    let token = page.auth_token.take();
    let changes = std::mem::take(&mut page.changes);
    Ok(FetchedPage { page, changes, token })
}

async fn read(pages: Vec<FetchedPage>) -> Result<Vec<ReadPage>, ClientError> {
    let read = |FetchedPage { page, changes, token }| ReadPage {
        page,
        incoming: Incoming::read_all(changes),
        token,
    };
    Ok(tokio::task::spawn_blocking(move || pages.into_iter().map(read).collect())
        .await
        .map_err(|_| EngineGone)?)
}
