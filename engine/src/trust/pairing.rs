//! The pairing ceremony: what the QR code says, the window it opens, and how two devices that both
//! know the code end up with a secret nobody else has.
//!
//! ```text
//!  desktop: PairingWindow::open ──QR──▶ phone: Offer::parse → register
//!  desktop: PairingWindow::admit ──sealed grant──▶ phone: accept          both: PairSecret
//! ```

use std::collections::HashSet;
use std::net::IpAddr;

use hkdf::Hkdf;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use storysync_crdt::DeviceKey;
use zeroize::Zeroizing;

use super::agreement::AgreementKey;
use super::envelope::{
    self, AwaitedResponse, Exports, OpenError, PairSecret, Responder, Route, SealError,
};
use super::identity::{DeviceId, Identity, Secret};
use super::{from_base64url, to_base64url};

/// How long a QR code can be used unless settings say otherwise, in seconds.
pub const WINDOW_SECONDS: u64 = 120;
/// How long settings may let a QR code be used, in seconds.
pub const WINDOW_SECONDS_MAX: u64 = 600;
/// Wrong codes accepted before the pairing is aborted.
pub const CODE_TRIES_MAX: u32 = 3;
/// Where a registration goes.
pub const REGISTER_TARGET: &str = "/api/pair/register";
/// Longest device name, in bytes: it must fit into an mDNS record.
pub const DEVICE_NAME_BYTES_MAX: usize = 48;
/// Registrations opened in one window: a device asks again every 0.7 s.
const REGISTRATIONS_OPENED_MAX: usize = 4_096;
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
    #[error(
        "this is not a storysync pairing code; show a new one with `storysync pair show` and copy \
            all of it"
    )]
    NotAnOffer,
    /// Made by a newer storysync.
    #[error("this pairing code is of version {0}, which this storysync does not know; update it")]
    Version(u32),
}

impl Offer {
    /// Reads a QR text. Expiry is checked against `now_ms`.
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
}

/// Characters that move a cursor, turn the direction of writing, or can't be seen: nothing a peer
/// says may hold them.
#[must_use]
pub fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Cuts a device name to what every record can hold.
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

/// The name, with a number behind it where somebody is called so already: two devices of one name
/// can't be told apart.
#[must_use]
pub fn numbered_name(name: &str, taken: &[String]) -> String {
    let is_taken = |candidate: &str| {
        taken.iter().any(|taken| taken.to_lowercase() == candidate.to_lowercase())
    };
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

/// Whether a person at the desktop must type the code the phone shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Approval {
    /// Yes.
    Code,
    /// No: knowing the QR text is enough.
    None,
}

/// The device that used a pairing window first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Its identity.
    pub device_id: DeviceId,
    /// What it calls itself.
    pub name: String,
    identity_key: DeviceKey,
    attempt: Option<String>,
    code: String,
    approved: bool,
    tries: u32,
}

/// One open pairing window of the desktop.
#[derive(Debug)]
pub struct PairingWindow {
    offer: Offer,
    one_time: AgreementKey,
    approval: Approval,
    claim: Option<Claim>,
    /// Registrations that were opened: a recording of one must not be answered in its place.
    opened: HashSet<[u8; 32]>,
}

/// What a registration led to.
#[derive(Debug)]
pub enum Admission {
    /// Sealed answer: a person has yet to type the code.
    Pending {
        /// Seals the answer.
        responder: Responder,
    },
    /// The device is in: store it, then send the answer. The window is used up.
    Granted {
        /// Whom to store.
        device: Box<PairedDevice>,
        /// The sealed grant, to be sent with status 200.
        answer: Vec<u8>,
    },
    /// A second device opened the same code: it leaked. The window must be closed and the user
    /// told.
    Leaked,
}

/// What typing a code led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmation {
    /// The device will be let in when it asks again.
    Approved,
    /// Wrong; so many tries are left.
    Wrong {
        /// Tries left.
        tries_left: u32,
    },
    /// Wrong too often: close the window.
    Aborted,
    /// No device has scanned the code yet.
    NobodyAsked,
}

impl PairingWindow {
    /// Opens a window for [`WINDOW_SECONDS`] from `now_ms`.
    #[must_use]
    pub fn open(
        identity: &Identity,
        addresses: Vec<(IpAddr, u16)>,
        approval: Approval,
        now_ms: u64,
        rng: &mut impl CryptoRng,
    ) -> Self {
        let one_time = AgreementKey::random(rng);
        let offer = Offer {
            addresses,
            token: Secret::random(rng),
            identity_key: identity.public_key(),
            one_time_key: one_time.public(),
            expires_at: now_ms / 1000 + WINDOW_SECONDS,
        };
        Self { offer, one_time, approval, claim: None, opened: HashSet::new() }
    }

    /// The same window, open for `seconds` from `now_ms`.
    #[must_use]
    pub fn open_for(mut self, seconds: u64, now_ms: u64) -> Self {
        self.offer.expires_at = (now_ms / 1000).saturating_add(seconds);
        self
    }

    /// What to show as a QR code.
    #[must_use]
    pub fn offer(&self) -> &Offer {
        &self.offer
    }

    /// Who has scanned it.
    #[must_use]
    pub fn claim(&self) -> Option<&Claim> {
        self.claim.as_ref()
    }

    /// Whether it can still be used.
    #[must_use]
    pub fn is_open(&self, now_ms: u64) -> bool {
        now_ms / 1000 <= self.offer.expires_at
    }

    /// A person typed the code the phone shows.
    pub fn confirm(&mut self, code: &str) -> Confirmation {
        let Some(claim) = &mut self.claim else { return Confirmation::NobodyAsked };
        if claim.code == code.trim() {
            claim.approved = true;
            return Confirmation::Approved;
        }
        claim.tries += 1;
        if claim.tries >= CODE_TRIES_MAX {
            Confirmation::Aborted
        } else {
            Confirmation::Wrong { tries_left: CODE_TRIES_MAX - claim.tries }
        }
    }

    /// A sealed registration came. `epoch_of` tells how many pairings with that
    /// identity there were, `None` when that can't be known now.
    ///
    /// # Errors
    /// When it can't be opened, or says of itself what is not so. Nothing changed.
    pub fn admit(
        &mut self,
        envelope: &[u8],
        identity: &Identity,
        own_name: &str,
        epoch_of: impl FnOnce(&DeviceKey) -> Option<u32>,
        rng: &mut impl CryptoRng,
    ) -> Result<Admission, OpenError> {
        let server = identity.public_key();
        let route =
            Route { method: "POST", target: REGISTER_TARGET, client: &NO_CLIENT, server: &server };
        let opened =
            envelope::open_register(route, &self.offer.token, &self.one_time, envelope, |body| {
                serde_json::from_slice::<Registration>(body)
                    .ok()
                    .and_then(|registration| from_base64url(&registration.identity_key))
            })?;
        let registration: Registration =
            serde_json::from_slice(&opened.body).map_err(|_| OpenError)?;
        let identity_key: DeviceKey =
            from_base64url(&registration.identity_key).ok_or(OpenError)?;
        let static_key: [u8; 32] = from_base64url(&registration.static_key).ok_or(OpenError)?;
        let device_id = DeviceId::of_key(&identity_key);
        if device_id.as_str() != registration.device_id || identity_key == server {
            return Err(OpenError);
        }
        if self.opened.len() >= REGISTRATIONS_OPENED_MAX || !self.opened.insert(opened.transcript) {
            return Err(OpenError);
        }
        let name = clean_name(&registration.device_name);
        match &mut self.claim {
            Some(claim) if claim.identity_key != identity_key => return Ok(Admission::Leaked),
            Some(claim) if claim.attempt == registration.attempt => {}
            Some(claim) => {
                // The same device started over: its person sees the code of this request now. Tries
                // count on.
                claim.attempt.clone_from(&registration.attempt);
                claim.code = check_code(opened.responder.exports(), &identity_key, &server);
            }
            None => {
                let code = check_code(opened.responder.exports(), &identity_key, &server);
                let approved = self.approval == Approval::None;
                self.claim = Some(Claim {
                    device_id,
                    name: name.clone(),
                    identity_key,
                    attempt: registration.attempt.clone(),
                    code,
                    approved,
                    tries: 0,
                });
            }
        }
        if !self.claim.as_ref().is_some_and(|claim| claim.approved) {
            return Ok(Admission::Pending { responder: opened.responder });
        }
        let epoch = epoch_of(&identity_key).ok_or(OpenError)?.saturating_add(1);
        let token_from_device = Secret::random(rng);
        let grant = Grant {
            device_id: identity.device_id().to_string(),
            device_name: own_name.to_owned(),
            auth_token: to_base64url(token_from_device.expose()),
            message: format!("{name} is paired with {own_name}"),
            static_key: to_base64url(&identity.static_key()),
            epoch,
        };
        let request_exports = opened.responder.exports().clone();
        let sealer = opened.responder.begin(200, rng).map_err(|_| OpenError)?;
        let pair = pair_secret(
            &self.offer.token,
            &request_exports,
            sealer.exports(),
            &identity_key,
            &server,
            epoch,
        );
        let body = Zeroizing::new(serde_json::to_vec(&grant).map_err(|_| OpenError)?);
        let answer = sealer.seal(&body).map_err(|_| OpenError)?;
        let device = PairedDevice {
            identity_key,
            static_key,
            name,
            platform: clean_name(&registration.platform),
            pair,
            token_from_device: Some(token_from_device),
            token_to_device: registration
                .auth_token
                .as_deref()
                .and_then(from_base64url)
                .map(Secret::from_bytes),
            port: registration.port,
        };
        Ok(Admission::Granted { device: Box::new(device), answer })
    }
}

/// The phone's side: a registration that was sent and not yet answered.
#[derive(Debug)]
pub struct Joining<'a> {
    offer: &'a Offer,
    identity: &'a Identity,
    token_from_device: Secret,
    awaited: AwaitedResponse,
}

/// The phone's side: what the desktop's answer meant.
#[derive(Debug)]
pub enum Joined {
    /// The desktop's user has yet to type this code; ask again.
    Pending {
        /// Four digits to show.
        code: String,
    },
    /// In.
    Paired(Box<PairedDevice>),
}

impl<'a> Joining<'a> {
    /// Seals a registration to the offer. `own_port` is set when this device serves.
    ///
    /// # Errors
    /// When the offer's key is unusable.
    pub fn start(
        offer: &'a Offer,
        identity: &'a Identity,
        own_name: &str,
        own_port: Option<u16>,
        attempt: &Attempt,
        now_ms: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<(Vec<u8>, Self), SealError> {
        let token_from_device = Secret::random(rng);
        let registration = Registration {
            device_id: identity.device_id().to_string(),
            device_name: own_name.to_owned(),
            identity_key: to_base64url(&identity.public_key()),
            static_key: to_base64url(&identity.static_key()),
            platform: std::env::consts::OS.to_owned(),
            auth_token: Some(to_base64url(token_from_device.expose())),
            port: own_port,
            attempt: Some(attempt.0.clone()),
        };
        let body = Zeroizing::new(serde_json::to_vec(&registration).map_err(|_| SealError)?);
        let route = Route {
            method: "POST",
            target: REGISTER_TARGET,
            client: &NO_CLIENT,
            server: &offer.identity_key,
        };
        let (envelope, awaited) = envelope::seal_register(
            route,
            &offer.token,
            &offer.one_time_key,
            now_ms,
            &body,
            identity,
            rng,
        )?;
        Ok((envelope, Self { offer, identity, token_from_device, awaited }))
    }

    /// The code of this exchange. It is fixed by the first request the desktop accepted, so only
    /// the first one's is worth showing.
    #[must_use]
    pub fn code(&self) -> String {
        check_code(self.awaited.exports(), &self.identity.public_key(), &self.offer.identity_key)
    }

    /// Opens the desktop's answer.
    ///
    /// # Errors
    /// When it was not sealed by the desktop that showed the code.
    pub fn accept(self, status: u16, envelope: &[u8]) -> Result<Joined, OpenError> {
        let code = self.code();
        let opened = self.awaited.open(status, envelope)?;
        if status == 202 {
            return Ok(Joined::Pending { code });
        }
        let grant: Grant = serde_json::from_slice(&opened.body).map_err(|_| OpenError)?;
        let server = self.offer.identity_key;
        if DeviceId::of_key(&server).as_str() != grant.device_id {
            return Err(OpenError);
        }
        let pair = pair_secret(
            &self.offer.token,
            &opened.request_exports,
            &opened.response_exports,
            &self.identity.public_key(),
            &server,
            grant.epoch,
        );
        Ok(Joined::Paired(Box::new(PairedDevice {
            identity_key: server,
            static_key: from_base64url(&grant.static_key).ok_or(OpenError)?,
            name: clean_name(&grant.device_name),
            platform: String::new(),
            pair,
            token_from_device: Some(self.token_from_device),
            token_to_device: Some(Secret::from_bytes(
                from_base64url(&grant.auth_token).ok_or(OpenError)?,
            )),
            port: None,
        })))
    }
}
