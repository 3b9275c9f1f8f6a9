//! Our own test vectors (`tests/vectors/*.json`): what the wire format is, in bytes. The code must
//! write them again byte for byte, open them, and refuse what was altered; so must a client written
//! from PROTOCOL.md alone.
//!
//! `STORYSYNC_WRITE_VECTORS=1` writes the files anew, after a change of the format that was meant.
//!
//! Here is what several of them are made with: bytes as the files spell them, devices, stated
//! randomness, holding a file against the code, and a second, plain writing of envelopes to look
//! inside them and to alter them.

mod changes;
mod identity;
mod javascript;
mod pairing;
mod sealed_bodies;
mod sealed_tokens;

use std::path::{Path, PathBuf};

use getrandom::SysRng;
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{
    Deserializable as _, Kem, OpModeR, OpModeS, PskBundle, Serializable as _, setup_receiver,
    setup_sender_with_rng,
};
use rand_core::UnwrapErr;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use storysync_engine::trust::identity::Identity;

use crate::primitives::{Stated, hex, unhex};

const SEGMENT_BYTES: usize = 64 * 1024;
const HEADER_BYTES: usize = 24;
const REQUEST_LABEL: &[u8] = b"storysync/1 request\0";
const REGISTER_LABEL: &[u8] = b"storysync/1 registr\0";
const RESPONSE_LABEL: &[u8] = b"storysync/1 respons\0";
const SIGNATURE_LABEL: &[u8] = b"storysync/1 req-sig\0";
const SENT_MS: u64 = 1_795_300_000_123;

/// Bytes, in the files as hexadecimal.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
struct Hex(Vec<u8>);

impl From<String> for Hex {
    fn from(text: String) -> Self {
        Self(unhex(&text))
    }
}

impl From<Hex> for String {
    fn from(bytes: Hex) -> Self {
        hex(&bytes.0)
    }
}

impl std::fmt::Debug for Hex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl<T: AsRef<[u8]>> From<&T> for Hex {
    fn from(bytes: &T) -> Self {
        Self(bytes.as_ref().to_vec())
    }
}

impl Hex {
    fn array(&self) -> [u8; 32] {
        self.0.as_slice().try_into().unwrap()
    }
}

/// Bytes, or the rule that makes them when they are many.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Bytes {
    Plain(Hex),
    Rule { repeat: Hex, length: usize },
}

impl Bytes {
    fn plain(bytes: &[u8]) -> Self {
        Self::Plain(Hex(bytes.to_vec()))
    }

    fn get(&self) -> Vec<u8> {
        match self {
            Self::Plain(bytes) => bytes.0.clone(),
            Self::Rule { repeat, length } => {
                repeat.0.iter().copied().cycle().take(*length).collect()
            }
        }
    }
}

/// An envelope, or what it must digest to when it is long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Envelope {
    Plain(Hex),
    Digest { sha256: Hex, length: usize },
}

impl Envelope {
    fn of(bytes: &[u8]) -> Self {
        if bytes.len() > 4096 {
            Self::Digest { sha256: Hex(Sha256::digest(bytes).to_vec()), length: bytes.len() }
        } else {
            Self::Plain(Hex(bytes.to_vec()))
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Exported {
    response_psk: Hex,
    pairwise: Hex,
    check: Hex,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Device {
    identity_seed: Hex,
    identity_key: Hex,
    device_id: String,
    static_secret: Hex,
    static_key: Hex,
}

impl Device {
    fn named(name: &str) -> Self {
        let (seed, scalar) =
            (stated(&format!("{name} identity seed")), stated(&format!("{name} static secret")));
        let identity = Identity::from_secrets(&seed, &scalar);
        Self {
            identity_seed: Hex::from(&seed),
            identity_key: Hex::from(&identity.public_key()),
            device_id: identity.device_id().to_string(),
            static_secret: Hex::from(&scalar),
            static_key: Hex::from(&identity.static_key()),
        }
    }

    fn identity(&self) -> Identity {
        Identity::from_secrets(&self.identity_seed.array(), &self.static_secret.array())
    }
}

/// 32 bytes that anybody can derive again and nobody chose.
fn stated(name: &str) -> [u8; 32] {
    Sha256::digest(format!("storysync/1 vector: {name}")).into()
}

fn system_rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

/// Holds a file against what the code writes, or writes it.
fn hold<T: Serialize + for<'a> Deserialize<'a> + PartialEq + std::fmt::Debug>(
    name: &str,
    made: &T,
) -> T {
    let text = format!("{}\n", serde_json::to_string_pretty(made).unwrap());
    let path = folder().join(name);
    if std::env::var_os("STORYSYNC_WRITE_VECTORS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{name}: {error}; STORYSYNC_WRITE_VECTORS=1 writes it"));
    let file: T = serde_json::from_str(&kept).unwrap();
    if kept != text {
        let line =
            kept.lines().zip(text.lines()).position(|(kept, made)| kept != made).unwrap_or(0);
        panic!(
            "{name} is not what the code writes, from line {}: the wire format has changed\n kept: \
                {}\n made: {}",
            line + 1,
            kept.lines().nth(line).unwrap_or_default(),
            text.lines().nth(line).unwrap_or_default()
        );
    }
    file
}

fn lp(parts: &[&[u8]]) -> Vec<u8> {
    parts
        .iter()
        .flat_map(|part| [&u32::try_from(part.len()).unwrap().to_be_bytes()[..], part].concat())
        .collect()
}

fn header_bytes(kind: u8, kid: u64, seq: u64) -> Vec<u8> {
    [b"SSY1".as_slice(), &[kind, 1, 0, 0], &kid.to_be_bytes(), &seq.to_be_bytes()].concat()
}

fn pair_psk_id(epoch: u32) -> Vec<u8> {
    [b"storysync/1 psk\0".as_slice(), &epoch.to_be_bytes()].concat()
}

/// A second, plain writing of the format, for what the product's own code would never write, and to
/// name what it keeps to itself. `None` as a pre-shared key is HPKE's mode base.
struct Craft<'a> {
    label: &'a [u8],
    header: Vec<u8>,
    method: &'a str,
    target: &'a str,
    client: [u8; 32],
    server: [u8; 32],
    psk: Option<(Vec<u8>, Vec<u8>)>,
    recipient: [u8; 32],
    ephemeral: [u8; 32],
}

impl Craft<'_> {
    fn info(&self) -> Vec<u8> {
        let parts = lp(&[
            self.method.as_bytes(),
            self.target.as_bytes(),
            &self.client,
            &self.server,
            &self.header,
        ]);
        [self.label, &Sha256::digest(parts)].concat()
    }

    /// Seals what `plaintext` makes of info and enc, in segments of these many bytes.
    fn seal(&self, segment: usize, plaintext: impl FnOnce(&[u8], &[u8]) -> Vec<u8>) -> Vec<u8> {
        let info = self.info();
        let mode = self
            .psk
            .as_ref()
            .map_or(OpModeS::Base, |(psk, id)| OpModeS::Psk(PskBundle::new(psk, id).unwrap()));
        let recipient = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(&self.recipient).unwrap();
        let mut rng = Stated::new(&[&self.ephemeral]);
        let (enc, mut sender) =
            setup_sender_with_rng::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
                &mode, &recipient, &info, &mut rng,
            )
            .unwrap();
        let plaintext = plaintext(&info, &enc.to_bytes());
        let mut sealed = [self.header.as_slice(), &enc.to_bytes()].concat();
        write_segments(&plaintext, segment, &mut sealed, |part, head| {
            sender.seal(part, head).unwrap()
        });
        sealed
    }
}

fn write_segments(
    plaintext: &[u8],
    segment: usize,
    sealed: &mut Vec<u8>,
    mut seal: impl FnMut(&[u8], &[u8]) -> Vec<u8>,
) {
    let parts: Vec<&[u8]> =
        if plaintext.is_empty() { vec![&[]] } else { plaintext.chunks(segment).collect() };
    for (number, part) in parts.iter().enumerate() {
        let length = u32::try_from(part.len() + 16).unwrap();
        let head = if number + 1 == parts.len() { length | 1 << 31 } else { length }.to_be_bytes();
        sealed.extend_from_slice(&head);
        sealed.extend_from_slice(&seal(part, &head));
    }
}

/// What stands inside an envelope that is known to be right.
struct Inside {
    enc: Vec<u8>,
    plaintext: Vec<u8>,
    exported: Exported,
}

fn look_inside(
    info: &[u8],
    psk: &[u8],
    psk_id: &[u8],
    secret: &[u8; 32],
    envelope: &[u8],
) -> Inside {
    let enc = envelope[HEADER_BYTES..HEADER_BYTES + 32].to_vec();
    let key = <X25519HkdfSha256 as Kem>::PrivateKey::from_bytes(secret).unwrap();
    let encapped = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(&enc).unwrap();
    let mode = OpModeR::Psk(PskBundle::new(psk, psk_id).unwrap());
    let mut receiver = setup_receiver::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &mode, &key, &encapped, info,
    )
    .unwrap();
    let mut plaintext = Vec::new();
    let mut rest = &envelope[HEADER_BYTES + 32..];
    while !rest.is_empty() {
        let (head, after) = rest.split_at(4);
        let number = u32::from_be_bytes(head.try_into().unwrap());
        let (ciphertext, after) = after.split_at(usize::try_from(number & !(1 << 31)).unwrap());
        plaintext.extend(receiver.open(ciphertext, head).unwrap());
        assert_eq!(number >> 31 == 1, after.is_empty());
        rest = after;
    }
    let export = |label: &[u8]| {
        let mut bytes = [0; 32];
        receiver.export(label, &mut bytes).unwrap();
        Hex::from(&bytes)
    };
    let exported = Exported {
        response_psk: export(b"storysync/1 response-psk"),
        pairwise: export(b"storysync/1 pairwise"),
        check: export(b"storysync/1 check"),
    };
    Inside { enc, plaintext, exported }
}

fn transcript(info: &[u8], enc: &[u8], unsigned: &[u8]) -> Vec<u8> {
    Sha256::digest([info, enc, unsigned].concat()).to_vec()
}

fn altered(bytes: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    change(&mut bytes);
    bytes
}

fn altered_list(parts: &[Vec<u8>], change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Vec<Vec<u8>> {
    let mut parts = parts.to_vec();
    change(&mut parts);
    parts
}

/// Where the segments of an envelope begin and end.
fn segments(envelope: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut rest = &envelope[HEADER_BYTES + 32..];
    while !rest.is_empty() {
        let length =
            usize::try_from(u32::from_be_bytes(rest[..4].try_into().unwrap()) & !(1 << 31))
                .unwrap();
        let (segment, after) = rest.split_at(4 + length);
        found.push(segment.to_vec());
        rest = after;
    }
    found
}

fn with_segments(envelope: &[u8], segments: &[Vec<u8>]) -> Vec<u8> {
    [&envelope[..HEADER_BYTES + 32], &segments.concat()].concat()
}

/// Alterations every kind of envelope must be safe against.
fn altered_anywhere(envelope: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let last = envelope.len() - 1;
    vec![
        ("the magic says SSY2", altered(envelope, |bytes| bytes[3] = b'2')),
        ("the suite is 2", altered(envelope, |bytes| bytes[5] = 2)),
        ("the suite is 0", altered(envelope, |bytes| bytes[5] = 0)),
        ("a flag is set", altered(envelope, |bytes| bytes[7] = 1)),
        ("kid is another", altered(envelope, |bytes| bytes[15] ^= 1)),
        ("seq is another", altered(envelope, |bytes| bytes[23] ^= 1)),
        ("one bit of enc is flipped", altered(envelope, |bytes| bytes[24] ^= 1)),
        ("enc is all zero: a point of low order", altered(envelope, |bytes| bytes[24..56].fill(0))),
        (
            "enc is 1: a point of low order",
            altered(envelope, |bytes| {
                bytes[24..56].fill(0);
                bytes[24] = 1;
            }),
        ),
        (
            "the final bit of the only segment is cleared",
            altered(envelope, |bytes| bytes[56] &= 0x7f),
        ),
        (
            "the segment says it is one byte shorter",
            altered(envelope, |bytes| bytes[59] = bytes[59].wrapping_sub(1)),
        ),
        (
            "the segment says it is one byte longer",
            altered(envelope, |bytes| bytes[59] = bytes[59].wrapping_add(1)),
        ),
        (
            "the segment says it is 2^31 - 1 bytes long",
            altered(envelope, |bytes| bytes[56..60].fill(0xff)),
        ),
        ("one bit of the ciphertext is flipped", altered(envelope, |bytes| bytes[60] ^= 1)),
        ("one bit of the tag is flipped", altered(envelope, |bytes| bytes[last] ^= 0x80)),
        ("the last byte is missing", envelope[..last].to_vec()),
        ("a byte is appended", altered(envelope, |bytes| bytes.push(0))),
        ("everything after enc is missing", envelope[..56].to_vec()),
        ("half of enc is missing", envelope[..40].to_vec()),
        ("only the magic is there", envelope[..4].to_vec()),
        ("there is nothing", Vec::new()),
    ]
}
