//! The side that shows the code: a window in which one device may join.

use super::super::agreement::AgreementKey;
use super::super::envelope::{self, OpenError, Responder, Route};
use super::super::identity::{DeviceId, Identity, Secret};
use super::super::{from_base64url, to_base64url};
use super::{
    CODE_TRIES_MAX, Grant, NO_CLIENT, Offer, PairedDevice, REGISTER_TARGET, Registration,
    WINDOW_SECONDS, check_code, clean_name, pair_secret,
};
use rand_core::CryptoRng;
use std::collections::HashSet;
use std::net::IpAddr;
use storysync_crdt::DeviceKey;
use zeroize::Zeroizing;

/// Registrations opened in one window: a device asks again every 0.7 s.
pub(super) const REGISTRATIONS_OPENED_MAX: usize = 4_096;

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
    pub(super) identity_key: DeviceKey,
    pub(super) attempt: Option<String>,
    pub(super) code: String,
    pub(super) approved: bool,
    pub(super) tries: u32,
}

impl Claim {
    /// Whether it is let in when it asks again: its code was typed, or none is wanted.
    #[must_use]
    pub fn is_approved(&self) -> bool {
        self.approved
    }
}

/// One open pairing window of the desktop.
#[derive(Debug)]
pub struct PairingWindow {
    pub(super) offer: Offer,
    pub(super) one_time: AgreementKey,
    pub(super) approval: Approval,
    pub(super) claim: Option<Claim>,
    /// Registrations that were opened: a recording of one must not be answered in its place.
    pub(super) opened: HashSet<[u8; 32]>,
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

    /// The device that asked first has the window for itself.
    fn note_claim(
        &mut self,
        device_id: DeviceId,
        identity_key: DeviceKey,
        registration: &Registration,
        code: impl FnOnce() -> String,
    ) {
        match &mut self.claim {
            Some(claim) if claim.attempt == registration.attempt => {}
            Some(claim) => {
                // The same device started over: its person sees the code of this request now. Tries
                // count on.
                claim.attempt.clone_from(&registration.attempt);
                claim.code = code();
            }
            None => {
                self.claim = Some(Claim {
                    device_id,
                    name: clean_name(&registration.device_name),
                    identity_key,
                    attempt: registration.attempt.clone(),
                    code: code(),
                    approved: self.approval == Approval::None,
                    tries: 0,
                });
            }
        }
    }

    /// Takes in a sealed registration. `epoch_of` tells how many pairings with that identity there
    /// were, `None` when that can't be known now.
    ///
    /// # Errors
    /// When it can't be opened, contradicts itself, came before, or can't be answered now. Only in
    /// the last case the claim has been noted.
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
        if self.claim.as_ref().is_some_and(|claim| claim.identity_key != identity_key) {
            return Ok(Admission::Leaked);
        }
        self.note_claim(device_id, identity_key, &registration, || {
            check_code(opened.responder.exports(), &identity_key, &server)
        });
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
            sealed_token: true,
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
            reads_sealed_token: registration.sealed_token,
        };
        Ok(Admission::Granted { device: Box::new(device), answer })
    }
}
