//! The sealed stream of events: an answer that goes on for as long as its connection does. Each
//! segment is one event and is handed out as soon as it is verified; events that were dropped,
//! repeated or put in another order don't open.
//!
//! ```text
//!  0 envelope header as of a response │ 24 enc[32] │ 56 segments, each one event
//! ```
//!
//! Sealed like a response, under a label of its own, so that neither is ever taken for the other.
//! Holds no story data: an event says that something is new, and what is new is pulled.

use rand_core::CryptoRng;

use super::agreement::Encapsulation;
use super::envelope::{
    AwaitedResponse, ENC_BYTES, HEADER_BYTES, OpenError, RESPONSE_PSK_ID, Receiver, Responder,
    SealError, Sender, TAG_BYTES, is_response_header, response_header, start_receiving,
    start_sending,
};

const EVENTS_LABEL: &[u8] = b"storysync/1 events \0";
/// Longest event, in bytes.
pub const EVENT_BYTES_MAX: usize = 1_024;
const SEGMENT_HEAD_BYTES: usize = 4;

fn events_info(transcript: &[u8; 32]) -> Vec<u8> {
    [EVENTS_LABEL, transcript].concat()
}

/// Seals events of one stream, in order.
pub struct EventSealer {
    sender: Sender,
}

impl std::fmt::Debug for EventSealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EventSealer(…)")
    }
}

impl Responder {
    /// Starts a stream of events. Returns the bytes it begins with.
    ///
    /// # Errors
    /// When the client's reply key is unusable.
    pub fn begin_events(
        self,
        rng: &mut impl CryptoRng,
    ) -> Result<(Vec<u8>, EventSealer), SealError> {
        let info = events_info(&self.transcript);
        let encapsulation = Encapsulation::to(&self.reply_key, rng).map_err(|_| SealError)?;
        let (enc, sender) =
            start_sending(encapsulation, self.exports.response_psk(), RESPONSE_PSK_ID, &info)?;
        let mut head = response_header().to_vec();
        head.extend_from_slice(&enc);
        Ok((head, EventSealer { sender }))
    }
}

impl EventSealer {
    /// Seals the next event.
    ///
    /// # Errors
    /// When it is longer than [`EVENT_BYTES_MAX`].
    pub fn seal(&mut self, event: &[u8]) -> Result<Vec<u8>, SealError> {
        if event.len() > EVENT_BYTES_MAX {
            return Err(SealError);
        }
        let head = u32::try_from(event.len() + TAG_BYTES).map_err(|_| SealError)?.to_be_bytes();
        let mut segment = head.to_vec();
        segment.extend_from_slice(&self.sender.seal(event, &head).map_err(|_| SealError)?);
        Ok(segment)
    }
}

/// Opens events of one stream, in order.
pub struct EventOpener {
    awaited: Option<AwaitedResponse>,
    receiver: Option<Receiver>,
    arrived: Vec<u8>,
}

impl std::fmt::Debug for EventOpener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EventOpener(…)")
    }
}

impl AwaitedResponse {
    /// Opens the answer as a stream of events.
    #[must_use]
    pub fn events(self) -> EventOpener {
        EventOpener { awaited: Some(self), receiver: None, arrived: Vec::new() }
    }
}

impl EventOpener {
    /// Takes bytes as they arrive.
    pub fn arrived(&mut self, bytes: &[u8]) {
        self.arrived.extend_from_slice(bytes);
    }

    /// The next event, `None` until it is there whole.
    ///
    /// # Errors
    /// When it is not the next event of the device that was asked. The stream is worth nothing
    /// then.
    pub fn next_event(&mut self) -> Result<Option<Vec<u8>>, OpenError> {
        if let Some(awaited) = &self.awaited {
            let Some((head, _)) = self.arrived.split_at_checked(HEADER_BYTES + ENC_BYTES) else {
                return Ok(None);
            };
            let (header, enc) = head.split_at_checked(HEADER_BYTES).ok_or(OpenError)?;
            if !is_response_header(header) {
                return Err(OpenError);
            }
            let info = events_info(&awaited.transcript);
            self.receiver = Some(start_receiving(
                awaited.exports.response_psk(),
                RESPONSE_PSK_ID,
                &awaited.reply_key,
                enc,
                &info,
            )?);
            self.awaited = None;
            self.arrived.drain(..HEADER_BYTES + ENC_BYTES);
        }
        let Some(receiver) = &mut self.receiver else { return Err(OpenError) };
        let Some((head, rest)) = self.arrived.split_at_checked(SEGMENT_HEAD_BYTES) else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes(head.try_into().map_err(|_| OpenError)?))
            .map_err(|_| OpenError)?;
        if length > EVENT_BYTES_MAX + TAG_BYTES {
            return Err(OpenError);
        }
        let Some((ciphertext, _)) = rest.split_at_checked(length) else { return Ok(None) };
        let event = receiver.open(ciphertext, head).map_err(|_| OpenError)?;
        self.arrived.drain(..SEGMENT_HEAD_BYTES + length);
        Ok(Some(event))
    }
}
