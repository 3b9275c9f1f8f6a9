//! The sealed body, version SSY1: what every byte between devices is wrapped in.
//!
//! ```text
//!  0 magic "SSY1" │ 4 kind (1 request, 2 response, 3 register) │ 5 suite = 1 │ 6 flags u16 = 0
//!  8 kid u64 │ 16 seq u64 │ 24 enc[32] │ 56 segments…
//!    segment: u32 (bit 31 = final, rest = ciphertext length) ‖ ciphertext;  aad = those 4 bytes
//! ```
//!
//! Integers are big-endian; a segment holds at most 64 KiB of plaintext; the HPKE sequence number
//! makes order, drops and truncation show. A request binds method, target, both devices and its
//! header; a response binds the request and its HTTP status. Nothing is handed out before the final
//! segment and the signature are verified.

mod opening;
mod response;

use hpke::aead::{AeadCtxR, AeadCtxS, ChaCha20Poly1305};
use hpke::kdf::{HkdfSha256, Kdf as _};
use hpke::{Deserializable, OpModeR, OpModeS, PskBundle, setup_receiver};
use rand_core::CryptoRng;
use sha2::{Digest, Sha256};
use storysync_crdt::DeviceKey;
use zeroize::Zeroizing;

use super::agreement::{AgreementKem, AgreementKey, AgreementPublic, Encapsulation};
use super::identity::{Identity, Secret};
pub use opening::{OpenedRequest, open_register, open_request, request_begins_well};
pub use response::{AwaitedResponse, OpenedResponse, Responder, ResponseSealer};

/// Media type of a sealed body.
pub const MEDIA_TYPE: &str = "application/vnd.storysync.sealed";
/// Largest sealed body, in bytes.
pub const SEALED_BYTES_MAX: usize = 16 * 1024 * 1024;

const MAGIC: &[u8; 4] = b"SSY1";
const SUITE: u8 = 1;
/// Bytes of an envelope's header: what can be read before anything is opened.
pub const HEADER_BYTES: usize = 24;
pub(super) const ENC_BYTES: usize = 32;
const SEGMENT_PLAINTEXT_BYTES: usize = 64 * 1024;
pub(super) const TAG_BYTES: usize = 16;
const FINAL_BIT: u32 = 1 << 31;
const SIGNATURE_BYTES: usize = 64;
/// Reply key and sending time before the body of a request.
const REQUEST_PREFIX_BYTES: usize = 32 + 8;

const REQUEST_LABEL: &[u8] = b"storysync/1 request\0";
const REGISTER_LABEL: &[u8] = b"storysync/1 registr\0";
const RESPONSE_LABEL: &[u8] = b"storysync/1 respons\0";
const SIGNATURE_LABEL: &[u8] = b"storysync/1 req-sig\0";
const RESPONSE_PSK_LABEL: &[u8] = b"storysync/1 response-psk";
pub(super) const RESPONSE_PSK_ID: &[u8] = b"storysync/1 rpsk";
const PAIR_PSK_ID: &[u8] = b"storysync/1 psk\0";
const REGISTER_PSK_ID: &[u8] = b"storysync/1 pair";

pub(super) type Sender = AeadCtxS<ChaCha20Poly1305, HkdfSha256, AgreementKem>;
pub(super) type Receiver = AeadCtxR<ChaCha20Poly1305, HkdfSha256, AgreementKem>;

/// A body could not be sealed: the peer's key is unusable, or the body is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the other device's key is unusable; pair again")]
pub struct SealError;

/// A body could not be opened. Deliberately without a reason: all failures look alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sealed message could not be opened")]
pub struct OpenError;

/// What a sealed request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Request,
    Response,
    Register,
}

impl Kind {
    const fn byte(self) -> u8 {
        match self {
            Self::Request => 1,
            Self::Response => 2,
            Self::Register => 3,
        }
    }
}

/// The fixed start of an envelope, readable before anything is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    kind: u8,
    /// Which key of the recipient it is sealed to; 0 is the static key.
    pub kid: u64,
    /// Which request under that key it is.
    pub seq: u64,
}

impl Header {
    /// Reads the start of an envelope.
    ///
    /// # Errors
    /// For another magic, suite or flags, or too few bytes.
    pub fn parse(envelope: &[u8]) -> Result<Self, OpenError> {
        let (header, _) = envelope.split_at_checked(HEADER_BYTES).ok_or(OpenError)?;
        let (magic, rest) = header.split_at_checked(4).ok_or(OpenError)?;
        let [kind, suite, flags_high, flags_low, numbers @ ..] = rest else {
            return Err(OpenError);
        };
        if magic != MAGIC || *suite != SUITE || (*flags_high, *flags_low) != (0, 0) {
            return Err(OpenError);
        }
        let (kid, seq) = numbers.split_at_checked(8).ok_or(OpenError)?;
        Ok(Self {
            kind: *kind,
            kid: u64::from_be_bytes(kid.try_into().map_err(|_| OpenError)?),
            seq: u64::from_be_bytes(seq.try_into().map_err(|_| OpenError)?),
        })
    }

    fn bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let fields = MAGIC
            .iter()
            .copied()
            .chain([self.kind, SUITE, 0, 0])
            .chain(self.kid.to_be_bytes())
            .chain(self.seq.to_be_bytes());
        bytes.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
        bytes
    }
}

const RESPONSE_HEADER: Header = Header { kind: Kind::Response.byte(), kid: 0, seq: 0 };

/// The header of every answer.
pub(super) fn response_header() -> [u8; HEADER_BYTES] {
    RESPONSE_HEADER.bytes()
}

/// Whether bytes are the header of an answer.
pub(super) fn is_response_header(bytes: &[u8]) -> bool {
    Header::parse(bytes) == Ok(RESPONSE_HEADER)
}

/// Where a request goes and between whom: all of it is authenticated.
#[derive(Debug, Clone, Copy)]
pub struct Route<'a> {
    /// HTTP method.
    pub method: &'a str,
    /// Path and query exactly as sent.
    pub target: &'a str,
    /// Identity key of who asks; all zero while registering.
    pub client: &'a DeviceKey,
    /// Identity key of who answers.
    pub server: &'a DeviceKey,
}

/// A request before it is sealed.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Where it goes, and between whom.
    pub route: Route<'a>,
    /// What is asked; empty for a GET.
    pub body: &'a [u8],
    /// When, in Unix milliseconds.
    pub sent_ms: u64,
}

/// Which key of the peer's a request is sealed to, and its number under that key.
#[derive(Debug, Clone, Copy)]
pub struct KeyUse {
    /// The key's id; 0 for the static key.
    pub kid: u64,
    /// From 1, each once; 0 under the static key.
    pub seq: u64,
}

/// The secret two devices share, and which pairing it comes from.
#[derive(Debug, Clone)]
pub struct PairSecret {
    /// 32 bytes both devices derived.
    pub secret: Secret,
    /// How often these two devices have been paired, from 1; no epoch of a log.
    pub epoch: u32,
}

impl PairSecret {
    fn psk_id(&self) -> Vec<u8> {
        let mut id = PAIR_PSK_ID.to_vec();
        id.extend_from_slice(&self.epoch.to_be_bytes());
        id
    }
}

/// The keys of one request, made for whom it goes to. They depend on nothing else, and can be made
/// before there is anything to say. Good for one request: whoever seals takes them.
#[derive(Debug)]
pub struct RequestKeys {
    recipient: [u8; 32],
    encapsulation: Encapsulation,
    reply_key: AgreementKey,
}

impl RequestKeys {
    /// Fresh keys for a request that is sealed to `recipient`.
    ///
    /// # Errors
    /// When `recipient` is no usable X25519 key.
    pub fn fresh(recipient: &[u8; 32], rng: &mut impl CryptoRng) -> Result<Self, SealError> {
        Ok(Self {
            recipient: *recipient,
            encapsulation: Encapsulation::to(recipient, rng).map_err(|_| SealError)?,
            reply_key: AgreementKey::random(rng),
        })
    }

    /// The key of the peer they lead to.
    #[must_use]
    pub fn recipient(&self) -> &[u8; 32] {
        &self.recipient
    }
}

/// Seals a request of a paired device, under fresh keys. Returns the envelope and what opens the
/// answer.
///
/// # Errors
/// When `recipient` is no usable X25519 key.
pub fn seal_request(
    message: Message<'_>,
    pair: &PairSecret,
    recipient: &[u8; 32],
    key_use: KeyUse,
    identity: &Identity,
    rng: &mut impl CryptoRng,
) -> Result<(Vec<u8>, AwaitedResponse), SealError> {
    seal_request_under(RequestKeys::fresh(recipient, rng)?, message, pair, key_use, identity)
}

/// Seals a request of a paired device under keys that were made for the key `key_use` names.
///
/// # Errors
/// See [`seal_request`].
pub fn seal_request_under(
    keys: RequestKeys,
    message: Message<'_>,
    pair: &PairSecret,
    key_use: KeyUse,
    identity: &Identity,
) -> Result<(Vec<u8>, AwaitedResponse), SealError> {
    let header = Header { kind: Kind::Request.byte(), kid: key_use.kid, seq: key_use.seq };
    let psk = Psk { key: pair.secret.expose(), id: &pair.psk_id() };
    seal(keys, REQUEST_LABEL, message, header, psk, identity)
}

/// Seals the request that registers a device, to the one-time key of a QR code.
///
/// # Errors
/// When `one_time_key` is no usable X25519 key.
pub fn seal_register(
    message: Message<'_>,
    token: &Secret,
    one_time_key: &[u8; 32],
    identity: &Identity,
    rng: &mut impl CryptoRng,
) -> Result<(Vec<u8>, AwaitedResponse), SealError> {
    let header = Header { kind: Kind::Register.byte(), kid: register_kid(one_time_key), seq: 0 };
    let keys = RequestKeys::fresh(one_time_key, rng)?;
    let psk = Psk { key: token.expose(), id: REGISTER_PSK_ID };
    seal(keys, REGISTER_LABEL, message, header, psk, identity)
}

/// The key id of a QR code's one-time key: the first 8 bytes of its SHA-256.
#[must_use]
pub fn register_kid(one_time_key: &[u8; 32]) -> u64 {
    Sha256::digest(one_time_key).iter().take(8).fold(0, |kid, byte| (kid << 8) | u64::from(*byte))
}

/// The pre-shared key of RFC 9180 §5.1.2, and its id.
#[derive(Clone, Copy)]
struct Psk<'a> {
    key: &'a [u8],
    id: &'a [u8],
}

fn seal(
    keys: RequestKeys,
    label: &[u8],
    message: Message<'_>,
    header: Header,
    psk: Psk<'_>,
    identity: &Identity,
) -> Result<(Vec<u8>, AwaitedResponse), SealError> {
    let Message { route, body, sent_ms } = message;
    let header = header.bytes();
    let info = request_info(label, route, &header);
    let RequestKeys { encapsulation, reply_key, .. } = keys;
    let (enc, mut sender) = start_sending(encapsulation, psk.key, psk.id, &info)?;
    let mut plaintext =
        Zeroizing::new(Vec::with_capacity(REQUEST_PREFIX_BYTES + body.len() + SIGNATURE_BYTES));
    plaintext.extend_from_slice(&reply_key.public());
    plaintext.extend_from_slice(&sent_ms.to_be_bytes());
    plaintext.extend_from_slice(body);
    let transcript = request_transcript(&info, &enc, &plaintext);
    plaintext.extend_from_slice(&identity.sign(&signed_message(&transcript)));
    let mut envelope = header.to_vec();
    envelope.extend_from_slice(&enc);
    write_segments(&mut sender, &plaintext, &mut envelope)?;
    let exports = Exports::of_sender(&sender);
    Ok((envelope, AwaitedResponse { reply_key, transcript, exports }))
}

/// `SetupPSKS` of RFC 9180 §5.1.2, from the encapsulation on.
pub(super) fn start_sending(
    encapsulation: Encapsulation,
    psk: &[u8],
    psk_id: &[u8],
    info: &[u8],
) -> Result<([u8; ENC_BYTES], Sender), SealError> {
    let mode = OpModeS::Psk(PskBundle::new(psk, psk_id).map_err(|_| SealError)?);
    let (enc, shared) = encapsulation.into_parts();
    Ok((enc, HkdfSha256::combine_secrets(&mode, shared, info).into()))
}

pub(super) fn start_receiving(
    psk: &[u8],
    psk_id: &[u8],
    recipient: &AgreementKey,
    enc: &[u8],
    info: &[u8],
) -> Result<Receiver, OpenError> {
    let enc = AgreementPublic::from_bytes(enc).map_err(|_| OpenError)?;
    let mode = OpModeR::Psk(PskBundle::new(psk, psk_id).map_err(|_| OpenError)?);
    setup_receiver::<ChaCha20Poly1305, HkdfSha256, AgreementKem>(&mode, recipient, &enc, info)
        .map_err(|_| OpenError)
}

fn request_info(label: &[u8], route: Route<'_>, header: &[u8; HEADER_BYTES]) -> Vec<u8> {
    let mut digest = Sha256::new();
    for part in [
        route.method.as_bytes(),
        route.target.as_bytes(),
        route.client.as_slice(),
        route.server.as_slice(),
        header.as_slice(),
    ] {
        // Nothing near 4 GiB reaches this: targets are HTTP request lines.
        digest.update(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        digest.update(part);
    }
    [label, digest.finalize().as_slice()].concat()
}

fn request_transcript(info: &[u8], enc: &[u8], unsigned_plaintext: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update(info)
        .chain_update(enc)
        .chain_update(unsigned_plaintext)
        .finalize()
        .into()
}

fn signed_message(transcript: &[u8; 32]) -> Vec<u8> {
    [SIGNATURE_LABEL, transcript].concat()
}

fn response_info(transcript: &[u8; 32], status: u16) -> Vec<u8> {
    [RESPONSE_LABEL, transcript, &status.to_be_bytes()].concat()
}

fn write_segments(
    sender: &mut Sender,
    plaintext: &[u8],
    envelope: &mut Vec<u8>,
) -> Result<(), SealError> {
    let count = plaintext.len().div_ceil(SEGMENT_PLAINTEXT_BYTES).max(1);
    let mut chunks = plaintext.chunks(SEGMENT_PLAINTEXT_BYTES);
    for index in 0..count {
        let chunk = chunks.next().unwrap_or_default();
        let length = u32::try_from(chunk.len() + TAG_BYTES).map_err(|_| SealError)?;
        let head = (if index + 1 == count { length | FINAL_BIT } else { length }).to_be_bytes();
        envelope.extend_from_slice(&head);
        envelope.extend_from_slice(&sender.seal(chunk, &head).map_err(|_| SealError)?);
    }
    Ok(())
}

fn read_segments(
    receiver: &mut Receiver,
    mut rest: &[u8],
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let mut plaintext = Zeroizing::new(Vec::with_capacity(rest.len()));
    loop {
        let (head, after) = rest.split_at_checked(4).ok_or(OpenError)?;
        let number = u32::from_be_bytes(head.try_into().map_err(|_| OpenError)?);
        let length = usize::try_from(number & !FINAL_BIT).map_err(|_| OpenError)?;
        if length > SEGMENT_PLAINTEXT_BYTES + TAG_BYTES {
            return Err(OpenError);
        }
        let (ciphertext, after) = after.split_at_checked(length).ok_or(OpenError)?;
        plaintext.extend_from_slice(&receiver.open(ciphertext, head).map_err(|_| OpenError)?);
        rest = after;
        if number & FINAL_BIT != 0 {
            return if rest.is_empty() { Ok(plaintext) } else { Err(OpenError) };
        }
    }
}

/// Secrets both ends of one exchange can derive, and nobody else.
#[derive(Debug, Clone)]
pub struct Exports {
    response_psk: Secret,
    pairwise: Secret,
    check: Secret,
}

const PAIRWISE_LABEL: &[u8] = b"storysync/1 pairwise";
const CHECK_LABEL: &[u8] = b"storysync/1 check";

impl Exports {
    fn collect(export: impl Fn(&[u8], &mut [u8]) -> Result<(), hpke::HpkeError>) -> Self {
        let secret = |label: &[u8]| {
            let mut bytes = Zeroizing::new([0; 32]);
            // Exporting fails only for outputs over 255 hashes (RFC 9180 §5.3); these are one.
            let _ = export(label, bytes.as_mut());
            Secret::from_bytes(*bytes)
        };
        Self {
            response_psk: secret(RESPONSE_PSK_LABEL),
            pairwise: secret(PAIRWISE_LABEL),
            check: secret(CHECK_LABEL),
        }
    }

    fn of_sender(sender: &Sender) -> Self {
        Self::collect(|label, out| sender.export(label, out))
    }

    fn of_receiver(receiver: &Receiver) -> Self {
        Self::collect(|label, out| receiver.export(label, out))
    }

    /// What seals the answer to this request.
    pub(super) fn response_psk(&self) -> &[u8] {
        self.response_psk.expose()
    }

    /// Goes into the pair secret.
    #[must_use]
    pub fn pairwise(&self) -> &Secret {
        &self.pairwise
    }

    /// Goes into the code a person compares.
    #[must_use]
    pub fn check(&self) -> &Secret {
        &self.check
    }
}
