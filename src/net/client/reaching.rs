//! Reaching a device that may be at one of several addresses, anybody else at the others: they are
//! tried beside each other (as RFC 8305 does), and the first that proves the device's key is taken.
//! Until then nothing is said that tells who calls, or whom.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::ClientError;
use super::conversation::{Conversation, Parties};
use super::link::{Counters, PROGRESS_WITHIN, connect};
use crate::net::addresses::Candidate;
use storysync_engine::store::trust::{TrustStore, TrustedDevice};
use storysync_engine::trust::identity::Identity;

/// Pause before the next address is tried beside those that have not answered yet: short, so that
/// the last of very many is not waited for.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(100);
/// Time for an address that somebody announced to prove that the device is there.
const FOUND_PROVES_WITHIN: Duration = Duration::from_secs(3);
/// Time for one where the device was before: it may be busy.
const KNOWN_PROVES_WITHIN: Duration = Duration::from_secs(10);

/// What came of trying addresses.
#[derive(Debug, Default)]
pub struct Trail {
    /// Those where nobody proved to be the device.
    pub unproven: Vec<String>,
}

/// Tries addresses in their order, each a little later than the one before, or as soon as one
/// fails; the first that proves the device's key is taken.
pub(super) async fn reach<'a>(
    parties: Parties<'a>,
    candidates: &[Candidate],
    counters: &Arc<Counters>,
    trail: &mut Trail,
) -> Result<Conversation<'a>, ClientError> {
    let is_alone = candidates.len() == 1;
    let mut waiting = candidates.iter().enumerate();
    let mut trying = FuturesUnordered::new();
    // What to tell when nobody answers: of the likeliest address where somebody did.
    let mut told: Option<(usize, ClientError)> = None;
    loop {
        if let Some((place, candidate)) = waiting.next() {
            trying.push(async move {
                let patience = match candidate.is_known {
                    true if is_alone => PROGRESS_WITHIN,
                    true => KNOWN_PROVES_WITHIN,
                    false => FOUND_PROVES_WITHIN,
                };
                let proven =
                    tokio::time::timeout(patience, prove(parties, candidate, counters)).await;
                let stalled = || ClientError::Stalled(parties.device.name.clone());
                (place, candidate, proven.unwrap_or_else(|_| Err(stalled())))
            });
        }
        let is_last = waiting.len() == 0;
        let tried = tokio::select! {
            tried = trying.next() => tried,
            () = tokio::time::sleep(NEXT_ADDRESS_AFTER), if !is_last => continue,
        };
        match tried {
            Some((_, _, Ok(conversation))) => return Ok(conversation),
            Some((_, _, Err(error))) if error.is_ours() => return Err(error),
            Some((place, candidate, Err(error))) => {
                tracing::debug!(address = %candidate.address, %error, "not proven there");
                let is_silent = matches!(error, ClientError::Unreachable { .. });
                // Where the device was and nobody is now, it may be again soon.
                if !(is_silent && candidate.is_known) {
                    trail.unproven.push(candidate.address.clone());
                }
                let is_likelier = told.as_ref().is_none_or(|(before, _)| place < *before);
                if is_likelier && !is_silent {
                    told = Some((place, error));
                }
            }
            None if is_last => break,
            None => {}
        }
    }
    Err(told.map_or_else(
        || ClientError::Unreachable {
            name: parties.device.name.clone(),
            addresses: candidates.iter().map(|candidate| candidate.address.clone()).collect(),
        },
        |(_, error)| error,
    ))
}

/// Connects to one address, and has whoever is there prove the device's key.
async fn prove<'a>(
    parties: Parties<'a>,
    candidate: &Candidate,
    counters: &Arc<Counters>,
) -> Result<Conversation<'a>, ClientError> {
    let name = &parties.device.name;
    let link = connect(&candidate.address, name, counters).await?;
    let mut conversation = Conversation::new(link, counters, parties);
    let refused = match conversation.introduce().await {
        Err(refused @ ClientError::Refused(_)) => refused,
        Err(error) => return Err(error),
        Ok(()) => {
            parties.trust.note_reads_sealed_token(parties.device)?;
            return Ok(conversation);
        }
    };
    // A version before sealed tokens refuses what it can't read. Only where the device itself was
    // before, and only while it never showed that it can, it is told as those versions were.
    if parties.device.reads_sealed_token || !candidate.is_known {
        return Err(refused);
    }
    let link = connect(&candidate.address, name, counters).await?;
    let mut conversation = Conversation::new(link, counters, parties).telling_openly();
    conversation.introduce().await?;
    Ok(conversation)
}

/// One sealed request: what a client without a log of its own does.
///
/// # Errors
/// See [`ClientError`].
pub async fn post(
    identity: &Identity,
    trust: &TrustStore,
    device: &TrustedDevice,
    target: &str,
    body: &[u8],
) -> Result<Vec<u8>, ClientError> {
    let (counters, mut trail) = (Arc::default(), Trail::default());
    let candidates: Vec<Candidate> = device.addresses.iter().map(Candidate::known).collect();
    let parties = Parties { identity, trust, device };
    reach(parties, &candidates, &counters, &mut trail).await?.call(target, body).await
}
