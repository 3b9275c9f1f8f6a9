//! Opens sealed requests, and proves who sent them.

use super::super::agreement::AgreementKey;
use super::super::identity::Secret;
use super::response::Responder;
use super::{
    ENC_BYTES, Exports, FINAL_BIT, HEADER_BYTES, Header, Kind, OpenError, PairSecret,
    REGISTER_LABEL, REGISTER_PSK_ID, REQUEST_LABEL, REQUEST_PREFIX_BYTES, Route,
    SEGMENT_PLAINTEXT_BYTES, SIGNATURE_BYTES, TAG_BYTES, read_segments, request_info,
    request_transcript, signed_message, start_receiving,
};
use ed25519_dalek::{Signature, VerifyingKey};
use storysync_crdt::DeviceKey;
use zeroize::Zeroizing;

/// A verified request.
#[derive(Debug)]
pub struct OpenedRequest {
    /// The body.
    pub body: Zeroizing<Vec<u8>>,
    /// When the client says it sent it, Unix time in ms. Never decides anything.
    pub sent_ms: u64,
    /// Hash over everything the request said: what the client signed.
    pub transcript: [u8; 32],
    /// What answers it.
    pub responder: Responder,
}

/// Opens a request of a paired device sealed to `recipient`.
///
/// # Errors
/// When anything about it is not exactly as the paired client sealed it.
pub fn open_request(
    route: Route<'_>,
    pair: &PairSecret,
    recipient: &AgreementKey,
    envelope: &[u8],
) -> Result<OpenedRequest, OpenError> {
    let client = *route.client;
    open(
        Kind::Request,
        REQUEST_LABEL,
        route,
        pair.secret.expose(),
        &pair.psk_id(),
        recipient,
        envelope,
        |_| Some(client),
    )
}

/// Whether a request that is still arriving is from the paired device: its first segment opens with
/// what only both know. `None` until that segment is there. What follows, and the signature, is not
/// verified by it.
#[must_use]
pub fn request_begins_well(
    route: Route<'_>,
    pair: &PairSecret,
    recipient: &AgreementKey,
    arrived: &[u8],
) -> Option<bool> {
    let (head, rest) = arrived.split_at_checked(HEADER_BYTES)?;
    let Ok(header) = Header::parse(head) else { return Some(false) };
    let (enc, segments) = rest.split_at_checked(ENC_BYTES)?;
    let (head, segments) = segments.split_at_checked(4)?;
    let length = u32::from_be_bytes(head.try_into().ok()?) & !FINAL_BIT;
    let length = usize::try_from(length)
        .ok()
        .filter(|length| *length <= SEGMENT_PLAINTEXT_BYTES + TAG_BYTES);
    let Some(length) = length else { return Some(false) };
    let ciphertext = segments.get(..length)?;
    let info = request_info(REQUEST_LABEL, route, &header.bytes());
    let opened = start_receiving(pair.secret.expose(), &pair.psk_id(), recipient, enc, &info)
        .and_then(|mut receiver| {
            receiver.open(ciphertext, head).map(Zeroizing::new).map_err(|_| OpenError)
        });
    Some(header.kind == Kind::Request.byte() && opened.is_ok())
}

/// Opens a registration sealed to a QR code's one-time key. `signer` finds the identity key in the
/// body; the signature must be made with it.
///
/// # Errors
/// When anything about it is not exactly as somebody who saw the QR code sealed it.
pub fn open_register(
    route: Route<'_>,
    token: &Secret,
    one_time: &AgreementKey,
    envelope: &[u8],
    signer: impl FnOnce(&[u8]) -> Option<DeviceKey>,
) -> Result<OpenedRequest, OpenError> {
    open(
        Kind::Register,
        REGISTER_LABEL,
        route,
        token.expose(),
        REGISTER_PSK_ID,
        one_time,
        envelope,
        signer,
    )
}

#[expect(clippy::too_many_arguments, reason = "each is a distinct input of the construction")]
pub(super) fn open(
    kind: Kind,
    label: &[u8],
    route: Route<'_>,
    psk: &[u8],
    psk_id: &[u8],
    recipient: &AgreementKey,
    envelope: &[u8],
    signer: impl FnOnce(&[u8]) -> Option<DeviceKey>,
) -> Result<OpenedRequest, OpenError> {
    let header = Header::parse(envelope)?;
    if header.kind != kind.byte() {
        return Err(OpenError);
    }
    let (_, rest) = envelope.split_at_checked(HEADER_BYTES).ok_or(OpenError)?;
    let (enc, segments) = rest.split_at_checked(ENC_BYTES).ok_or(OpenError)?;
    let info = request_info(label, route, &header.bytes());
    let mut receiver = start_receiving(psk, psk_id, recipient, enc, &info)?;
    let plaintext = read_segments(&mut receiver, segments)?;
    let unsigned_length = plaintext.len().checked_sub(SIGNATURE_BYTES).ok_or(OpenError)?;
    let (unsigned, signature) = plaintext.split_at_checked(unsigned_length).ok_or(OpenError)?;
    let (prefix, body) = unsigned.split_at_checked(REQUEST_PREFIX_BYTES).ok_or(OpenError)?;
    let (reply_key, sent_ms) = prefix.split_at_checked(32).ok_or(OpenError)?;
    let transcript = request_transcript(&info, enc, unsigned);
    let signer =
        VerifyingKey::from_bytes(&signer(body).ok_or(OpenError)?).map_err(|_| OpenError)?;
    let signature = Signature::from_slice(signature).map_err(|_| OpenError)?;
    signer.verify_strict(&signed_message(&transcript), &signature).map_err(|_| OpenError)?;
    Ok(OpenedRequest {
        body: Zeroizing::new(body.to_vec()),
        sent_ms: u64::from_be_bytes(sent_ms.try_into().map_err(|_| OpenError)?),
        transcript,
        responder: Responder {
            reply_key: reply_key.try_into().map_err(|_| OpenError)?,
            transcript,
            exports: Exports::of_receiver(&receiver),
        },
    })
}
