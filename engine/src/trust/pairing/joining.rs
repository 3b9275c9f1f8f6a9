//! The side that scans the code.

use super::super::envelope::{self, AwaitedResponse, Message, OpenError, Route, SealError};
use super::super::identity::{DeviceId, Identity, Secret};
use super::super::{from_base64url, to_base64url};
use super::{
    Attempt, Grant, NO_CLIENT, Offer, PairedDevice, REGISTER_TARGET, Registration, check_code,
    clean_name, pair_secret,
};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

/// The phone's side: a registration that was sent and not yet answered.
#[derive(Debug)]
pub struct Joining<'a> {
    pub(super) offer: &'a Offer,
    pub(super) identity: &'a Identity,
    pub(super) token_from_device: Secret,
    pub(super) awaited: AwaitedResponse,
}

/// What a device that joins says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Introduction<'a> {
    /// Its name.
    pub name: &'a str,
    /// Where it serves, when it does.
    pub port: Option<u16>,
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
    /// Seals a registration of `identity` to the offer.
    ///
    /// # Errors
    /// When the offer's key is unusable.
    pub fn start(
        offer: &'a Offer,
        identity: &'a Identity,
        own: Introduction<'_>,
        attempt: &Attempt,
        now_ms: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<(Vec<u8>, Self), SealError> {
        let token_from_device = Secret::random(rng);
        let registration = Registration {
            device_id: identity.device_id().to_string(),
            device_name: own.name.to_owned(),
            identity_key: to_base64url(&identity.public_key()),
            static_key: to_base64url(&identity.static_key()),
            platform: std::env::consts::OS.to_owned(),
            auth_token: Some(to_base64url(token_from_device.expose())),
            port: own.port,
            attempt: Some(attempt.0.clone()),
            sealed_token: true,
        };
        let body = Zeroizing::new(serde_json::to_vec(&registration).map_err(|_| SealError)?);
        let route = Route {
            method: "POST",
            target: REGISTER_TARGET,
            client: &NO_CLIENT,
            server: &offer.identity_key,
        };
        let message = Message { route, body: &body, sent_ms: now_ms };
        let (envelope, awaited) =
            envelope::seal_register(message, &offer.token, &offer.one_time_key, identity, rng)?;
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
            reads_sealed_token: grant.sealed_token,
        })))
    }
}
