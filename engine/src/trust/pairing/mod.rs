//! The pairing ceremony: what the QR code says, the window it opens, and how two devices that both
//! know the code end up with a secret nobody else has.
//!
//! ```text
//!  desktop: PairingWindow::open ──QR──▶ phone: Offer::parse → register
//!  desktop: PairingWindow::admit ──sealed grant──▶ phone: accept          both: PairSecret
//! ```

mod joining;
mod window;

use std::net::IpAddr;

use hkdf::Hkdf;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use storysync_crdt::DeviceKey;
use unicode_security::skeleton;
use zeroize::Zeroizing;

use super::envelope::{Exports, PairSecret};
use super::identity::Secret;
use super::{from_base64url, to_base64url};
pub use joining::{Introduction, Joined, Joining};
pub use window::{Admission, Approval, Claim, Confirmation, PairingWindow};

/// How long a QR code can be used unless settings say otherwise, in seconds.
pub const WINDOW_SECONDS: u64 = 120;
/// How long settings may let a QR code be used, in seconds.
pub const WINDOW_SECONDS_MAX: u64 = 600;
/// Wrong codes after which the pairing is aborted.
pub const CODE_TRIES_MAX: u32 = 3;
/// Where a registration goes.
pub const REGISTER_TARGET: &str = "/api/pair/register";
/// Longest device name, in bytes: it must fit into an mDNS record.
pub const DEVICE_NAME_BYTES_MAX: usize = 48;
/// Longest registration body, in bytes.
pub const REGISTER_BYTES_MAX: usize = 4 * 1024;

const NO_CLIENT: DeviceKey = [0; 32];

/// What a QR code says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Where the desktop may be reached: hints, not to be trusted.
    pub addresses: Vec<(IpAddr, u16)>,
    /// The one-time secret.
    pub token: Secret,
    /// The desktop's identity.
    pub identity_key: DeviceKey,
    /// The one-time X25519 key.
    pub one_time_key: [u8; 32],
    /// Unix time in seconds after which it is void.
    pub expires_at: u64,
}

#[derive(Serialize, Deserialize)]
struct OfferText {
    v: u32,
    ip: String,
    port: u16,
    token: String,
    id: String,
    ek: String,
    exp: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    alt: Vec<String>,
}

/// Why a QR text can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OfferError {
    /// Some other text.
    #[error("this is not a storysync pairing code")]
    NotAnOffer,
    /// Made by a newer storysync.
    #[error("this pairing code is of version {0}, which this storysync does not know; update it")]
    Version(u32),
}

impl Offer {
    /// Reads a QR text. Its time of expiry is not checked: whether it has expired is decided by the
    /// device that shows the code, by its own clock.
    ///
    /// # Errors
    /// See [`OfferError`].
    pub fn parse(text: &str) -> Result<Self, OfferError> {
        let value: serde_json::Value =
            serde_json::from_str(text.trim()).map_err(|_| OfferError::NotAnOffer)?;
        match value.get("v").and_then(serde_json::Value::as_u64) {
            Some(1) => {}
            Some(version) => {
                return Err(OfferError::Version(u32::try_from(version).unwrap_or(u32::MAX)));
            }
            None => return Err(OfferError::NotAnOffer),
        }
        let text: OfferText = serde_json::from_value(value).map_err(|_| OfferError::NotAnOffer)?;
        let mut addresses = Vec::new();
        for ip in std::iter::once(&text.ip).chain(&text.alt) {
            addresses.push((ip.parse().map_err(|_| OfferError::NotAnOffer)?, text.port));
        }
        let offer = Self {
            addresses,
            token: Secret::from_bytes(from_base64url(&text.token).ok_or(OfferError::NotAnOffer)?),
            identity_key: from_base64url(&text.id).ok_or(OfferError::NotAnOffer)?,
            one_time_key: from_base64url(&text.ek).ok_or(OfferError::NotAnOffer)?,
            expires_at: text.exp,
        };
        // Whether it has expired, the device that shows it decides, by its own clock.
        Ok(offer)
    }

    /// The QR text: the documented JSON, in one line.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut addresses = self.addresses.iter();
        let (ip, port) =
            addresses.next().map_or((String::new(), 0), |(ip, port)| (ip.to_string(), *port));
        let text = OfferText {
            v: 1,
            ip,
            port,
            token: to_base64url(self.token.expose()),
            id: to_base64url(&self.identity_key),
            ek: to_base64url(&self.one_time_key),
            exp: self.expires_at,
            alt: addresses.map(|(ip, _)| ip.to_string()).collect(),
        };
        serde_json::to_string(&text).unwrap_or_default()
    }
}

/// What the joining device says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Registration {
    /// PeerId.
    pub device_id: String,
    /// For people.
    pub device_name: String,
    /// Ed25519 public key, base64url.
    pub identity_key: String,
    /// X25519 public key, base64url.
    pub static_key: String,
    /// What it runs on; for people only.
    pub platform: String,
    /// The token the desktop shall use to call the joining device, base64url; none when it never
    /// serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_token: Option<String>,
    /// The port of its own LAN listener, when it serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Names one attempt to join, through all its requests: the code shown is that of its first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<String>,
    /// Whether it reads sealed tokens.
    #[serde(default)]
    pub sealed_token: bool,
}

/// One attempt to join: a person who starts over is shown another code.
#[derive(Debug, Clone)]
pub struct Attempt(String);

impl Attempt {
    /// A new one.
    #[must_use]
    pub fn new(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = [0; 8];
        rng.fill_bytes(&mut bytes);
        Self(to_base64url(&bytes))
    }
}

/// What the desktop answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Grant {
    /// PeerId of the desktop.
    pub device_id: String,
    /// For people.
    pub device_name: String,
    /// The token the joining device sends from now on, base64url.
    pub auth_token: String,
    /// A sentence.
    pub message: String,
    /// The desktop's X25519 public key, base64url.
    pub static_key: String,
    /// Counts pairings of these two devices.
    pub epoch: u32,
    /// Whether the desktop reads sealed tokens.
    #[serde(default)]
    pub sealed_token: bool,
}

/// The device on the other side of a pairing that succeeded.
#[derive(Debug, Clone)]
pub struct PairedDevice {
    /// Its identity.
    pub identity_key: DeviceKey,
    /// Its X25519 public key.
    pub static_key: [u8; 32],
    /// For people.
    pub name: String,
    /// For people.
    pub platform: String,
    /// The shared secret.
    pub pair: PairSecret,
    /// The token it sends us, when it may call us.
    pub token_from_device: Option<Secret>,
    /// The token we send it, when we may call it.
    pub token_to_device: Option<Secret>,
    /// The port of its LAN listener, when it serves.
    pub port: Option<u16>,
    /// Whether it reads sealed tokens.
    pub reads_sealed_token: bool,
}

/// Characters that move a cursor, turn the direction of writing, or can't be seen: nothing a peer
/// says may hold them.
#[must_use]
pub fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}'
            | '\u{17b4}' | '\u{17b5}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A device name without invisible characters, cut to [`DEVICE_NAME_BYTES_MAX`] bytes; `unnamed
/// device` when nothing is left.
#[must_use]
pub fn clean_name(name: &str) -> String {
    let mut clean: String = name.chars().filter(|character| !is_invisible(*character)).collect();
    while clean.len() > DEVICE_NAME_BYTES_MAX {
        clean.pop();
    }
    let clean = clean.trim();
    if clean.is_empty() { "unnamed device".to_owned() } else { clean.to_owned() }
}

/// A name as it was before it was numbered.
#[must_use]
pub fn name_without_number(name: &str) -> &str {
    let numbered = name.strip_suffix(')').and_then(|rest| rest.rsplit_once(" ("));
    match numbered {
        Some((before, number))
            if !before.is_empty()
                && !number.is_empty()
                && number.chars().all(|digit| digit.is_ascii_digit()) =>
        {
            before
        }
        _ => name,
    }
}

/// What a name looks like: two that are read as one have one (the skeleton of Unicode TS 39 §4).
fn looks_like(name: &str) -> String {
    skeleton(&name.to_lowercase()).collect()
}

/// The name, with a number behind it where somebody is called so already, or so that it looks the
/// same: two devices of one name can't be told apart.
#[must_use]
pub fn numbered_name(name: &str, taken: &[String]) -> String {
    let is_taken =
        |candidate: &str| taken.iter().any(|taken| looks_like(taken) == looks_like(candidate));
    let name = clean_name(name);
    if !is_taken(&name) {
        return name;
    }
    let mut number = 2_usize;
    loop {
        let ending = format!(" ({number})");
        let mut candidate = name_without_number(&name).to_owned();
        while candidate.len() + ending.len() > DEVICE_NAME_BYTES_MAX {
            candidate.pop();
        }
        candidate.push_str(&ending);
        // As many numbers as there are names, and one more, are never all taken.
        if !is_taken(&candidate) || number > taken.len() + 2 {
            return candidate;
        }
        number += 1;
    }
}

fn pair_secret(
    token: &Secret,
    request: &Exports,
    response: &Exports,
    client: &DeviceKey,
    server: &DeviceKey,
    epoch: u32,
) -> PairSecret {
    let material = Zeroizing::new(
        [request.pairwise().expose().as_slice(), response.pairwise().expose()].concat(),
    );
    let info = [b"storysync/1 psk".as_slice(), client, server, &epoch.to_be_bytes()].concat();
    let mut secret = Zeroizing::new([0; 32]);
    // HKDF fails only for outputs over 255 hashes (RFC 5869 §2.3); this is one.
    let _ = Hkdf::<Sha256>::new(Some(token.expose()), &material).expand(&info, secret.as_mut());
    PairSecret { secret: Secret::from_bytes(*secret), epoch }
}

/// The four digits a person carries from the phone to the desktop.
fn check_code(exports: &Exports, client: &DeviceKey, server: &DeviceKey) -> String {
    let info = [client.as_slice(), server].concat();
    let mut bytes = [0; 8];
    let _ = Hkdf::<Sha256>::new(None, exports.check().expose()).expand(&info, &mut bytes);
    format!("{:04}", u64::from_be_bytes(bytes) % 10_000)
}
