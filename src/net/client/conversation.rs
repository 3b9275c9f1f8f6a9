//! A conversation with one paired device: prekeys, sealed requests and answers, and what a status
//! tells on the way. Which requests are made is `exchange`'s affair.

use std::sync::Arc;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode};

use super::ClientError;
use super::link::{Counters, Link, connect};
use crate::net::node_state::{now, now_ms, system_rng};
use crate::net::sealed::{SEALED_HEADER, SEALED_TOKEN_SCHEME, header_value, inflate};
use storysync_engine::store::trust::{Installation, Revocation, TrustStore, TrustedDevice};
use storysync_engine::trust::envelope::{
    self, AwaitedResponse, KeyUse, MEDIA_TYPE, Message, RequestKeys, Route,
};
use storysync_engine::trust::identity::{Identity, Secret};
use storysync_engine::trust::pairing::is_invisible;
use storysync_engine::trust::sealed_token::seal_token;
use storysync_engine::trust::{from_base64url, to_base64url};

/// Characters kept of a sentence a peer says.
const WORDS_MAX: usize = 300;

pub(super) struct Prekey {
    kid: u64,
    key: [u8; 32],
    next_seq: u64,
}

/// What is sealed after a request, as far as can be foreseen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Something to the same key: while the peer works, what that takes is made ready.
    SameKey,
    /// Nothing, or something to a key that is not known yet.
    Unknown,
}

/// Who talks, and with whom.
#[derive(Clone, Copy)]
pub(super) struct Parties<'a> {
    pub(super) identity: &'a Identity,
    pub(super) trust: &'a TrustStore,
    pub(super) device: &'a TrustedDevice,
}

/// How the peer is told whose requests these are.
enum Telling {
    /// By a token only it can read; as it stands in the header, once it was sealed. Sealed anew for
    /// each connection and each token.
    Sealed(Option<HeaderValue>),
    /// By the token as it is, to a version that reads no other.
    Openly,
}

/// A conversation with one paired device.
pub(super) struct Conversation<'a> {
    pub(super) link: Link,
    pub(super) counters: Arc<Counters>,
    identity: &'a Identity,
    trust: &'a TrustStore,
    pub(super) device: &'a TrustedDevice,
    token: Option<Secret>,
    telling: Telling,
    prekey: Option<Prekey>,
    /// Keys for the next request, if it goes to the key of the peer they lead to.
    next_keys: Option<RequestKeys>,
    /// Whether the peer's keys turned out to be in use from elsewhere than before.
    pub(super) other_installation: bool,
}

/// What a peer's status tells beyond numbers.
#[derive(serde::Deserialize)]
struct StatusAnswer {
    kid: String,
    prekey: String,
    #[serde(default)]
    device_name: Option<String>,
    #[serde(default)]
    instance: Option<String>,
    #[serde(default)]
    revoked: Vec<Revocation>,
    #[serde(default)]
    keys_in_use_twice: bool,
}

/// The key of the peer's a request is sealed to.
#[derive(Clone, Copy)]
struct Under {
    number: KeyUse,
    key: [u8; 32],
}

impl<'a> Conversation<'a> {
    pub(super) fn new(
        link: Link,
        counters: &Arc<Counters>,
        Parties { identity, trust, device }: Parties<'a>,
    ) -> Self {
        let counters = Arc::clone(counters);
        Self {
            link,
            counters,
            identity,
            trust,
            device,
            token: device.token.clone(),
            telling: Telling::Sealed(None),
            prekey: None,
            next_keys: None,
            other_installation: false,
        }
    }

    /// The same, with a version of the peer that reads no sealed token.
    pub(super) fn telling_openly(self) -> Self {
        Self { telling: Telling::Openly, ..self }
    }

    /// What tells the peer, and on a sealed token nobody else, whose request this is.
    fn authorization(&mut self) -> Result<HeaderValue, ClientError> {
        let not_paired = || ClientError::NotPaired(self.device.name.clone());
        let token = self.token.as_ref().ok_or_else(not_paired)?;
        if let Telling::Sealed(Some(told)) = &self.telling {
            return Ok(told.clone());
        }
        let text = match &self.telling {
            Telling::Openly => format!("Bearer {}", to_base64url(token.expose())),
            Telling::Sealed(_) => {
                let (server, key) = (&self.device.identity_key, &self.device.static_key);
                let sealed =
                    seal_token(token, server, key, &mut system_rng()).map_err(|_| not_paired())?;
                format!("{SEALED_TOKEN_SCHEME}{}", to_base64url(&sealed))
            }
        };
        let value = HeaderValue::try_from(text).map_err(|_| not_paired())?;
        if let Telling::Sealed(told) = &mut self.telling {
            *told = Some(value.clone());
        }
        Ok(value)
    }

    /// Another connection, or another token: nobody shall see that they belong together.
    fn seal_token_anew(&mut self) {
        if let Telling::Sealed(told) = &mut self.telling {
            *told = None;
        }
    }

    pub(super) fn not_authentic(&self) -> ClientError {
        ClientError::NotAuthentic(self.device.name.clone())
    }

    /// Seals one request under a key.
    fn seal(
        &mut self,
        method: &Method,
        target: &str,
        body: &[u8],
        under: Under,
    ) -> Result<(Request<Full<Bytes>>, AwaitedResponse), ClientError> {
        let not_paired = || ClientError::NotPaired(self.device.name.clone());
        check_trust(self.trust, self.device)?;
        let pair = self.device.pair.as_ref().ok_or_else(not_paired)?;
        let client = self.identity.public_key();
        let route = Route {
            method: method.as_str(),
            target,
            client: &client,
            server: &self.device.identity_key,
        };
        let keys = match self.next_keys.take() {
            Some(keys) if *keys.recipient() == under.key => keys,
            _ => RequestKeys::fresh(&under.key, &mut system_rng()).map_err(|_| not_paired())?,
        };
        let message = Message { route, body, sent_ms: now_ms() };
        let (sealed, awaited) =
            envelope::seal_request_under(keys, message, pair, under.number, self.identity)
                .map_err(|_| not_paired())?;
        let authorization = self.authorization()?;
        let builder = self.link.request(method, target).header(AUTHORIZATION, authorization);
        let request = if *method == Method::POST {
            builder.header(CONTENT_TYPE, MEDIA_TYPE).body(Full::new(Bytes::from(sealed)))
        } else {
            builder
                .header(SEALED_HEADER, header_value(&sealed).ok_or_else(|| self.not_authentic())?)
                .body(Full::default())
        };
        Ok((request.map_err(|_| self.not_authentic())?, awaited))
    }

    /// What an answer that is not sealed means: a hint at most.
    pub(super) fn unsealed(&self, status: StatusCode) -> ClientError {
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                ClientError::Refused(self.device.name.clone())
            }
            status if status.is_client_error() || status.is_server_error() => {
                ClientError::Busy { name: self.device.name.clone(), status: status.as_u16() }
            }
            _ => self.not_authentic(),
        }
    }

    /// Seals, sends and opens one request under a key. No body when the key is not known there (any
    /// more).
    async fn exchange(
        &mut self,
        method: Method,
        target: &str,
        body: &[u8],
        under: Under,
        next: Next,
    ) -> Result<(StatusCode, Option<Vec<u8>>), ClientError> {
        let (request, awaited) = self.seal(&method, target, body, under)?;
        let make_ready = async {
            // After the request is on its way.
            tokio::task::yield_now().await;
            (next == Next::SameKey)
                .then(|| RequestKeys::fresh(&under.key, &mut system_rng()).ok())
                .flatten()
        };
        let (answer, ready) = tokio::join!(self.link.send(request), make_ready);
        self.next_keys = ready;
        let answer = answer?;
        if !answer.sealed {
            return if answer.status == StatusCode::CONFLICT {
                Ok((answer.status, None))
            } else {
                Err(self.unsealed(answer.status))
            };
        }
        let opened =
            awaited.open(answer.status.as_u16(), &answer.body).map_err(|_| self.not_authentic())?;
        let body = inflate(&opened.body).map_err(|refusal| ClientError::Remote {
            name: self.device.name.clone(),
            detail: refusal.detail,
        })?;
        // Revoked while it answered: nothing of it is taken.
        check_trust(self.trust, self.device)?;
        Ok((answer.status, Some(body)))
    }

    /// Asks for a prekey when there is none.
    pub(super) async fn introduce(&mut self) -> Result<(), ClientError> {
        if self.prekey.is_none() {
            self.prekey = Some(self.refresh_prekey().await?);
        }
        Ok(())
    }

    /// The next number under a prekey that is good, asking for one when there is none.
    async fn next_number(&mut self) -> Result<Under, ClientError> {
        let mut prekey = match self.prekey.take() {
            Some(prekey) => prekey,
            None => self.refresh_prekey().await?,
        };
        let number = KeyUse { kid: prekey.kid, seq: prekey.next_seq };
        prekey.next_seq += 1;
        let under = Under { number, key: prekey.key };
        self.prekey = Some(prekey);
        Ok(under)
    }

    /// Forgets the prekey: the peer does not know it any more.
    pub(super) fn forget_prekey(&mut self) {
        self.prekey = None;
    }

    /// Seals a request without a body for sending on another connection.
    pub(super) async fn seal_get(
        &mut self,
        target: &str,
    ) -> Result<(Request<Full<Bytes>>, AwaitedResponse), ClientError> {
        let under = self.next_number().await?;
        self.seal_token_anew();
        let sealed = self.seal(&Method::GET, target, &[], under);
        self.seal_token_anew();
        sealed
    }

    fn result(&self, status: StatusCode, body: Vec<u8>) -> Result<Vec<u8>, ClientError> {
        if status == StatusCode::OK {
            return Ok(body);
        }
        #[derive(serde::Deserialize)]
        struct Detail {
            detail: String,
        }
        let detail = serde_json::from_slice::<Detail>(&body)
            .map_or_else(|_| format!("status {status}"), |detail| words_of_a_peer(&detail.detail));
        Err(ClientError::Remote { name: self.device.name.clone(), detail })
    }

    /// What the peer's status says.
    pub(super) async fn status(&mut self) -> Result<serde_json::Value, ClientError> {
        let body = self.ask_status(Next::SameKey).await?;
        serde_json::from_slice(&body).map_err(|_| self.not_authentic())
    }

    async fn ask_status(&mut self, next: Next) -> Result<Vec<u8>, ClientError> {
        let number = KeyUse { kid: 0, seq: 0 };
        let under = Under { number, key: self.device.static_key };
        let (status, body) =
            self.exchange(Method::GET, "/api/sync/status", &[], under, next).await?;
        self.result(status, body.ok_or_else(|| self.not_authentic())?)
    }

    /// The first call of a conversation: asks for a prekey, and proves who answers.
    async fn refresh_prekey(&mut self) -> Result<Prekey, ClientError> {
        let body = self.ask_status(Next::Unknown).await?;
        let answer: StatusAnswer =
            serde_json::from_slice(&body).map_err(|_| self.not_authentic())?;
        let (Ok(kid), Some(key)) = (answer.kid.parse(), from_base64url(&answer.prekey)) else {
            return Err(self.not_authentic());
        };
        self.take_news(answer)?;
        Ok(Prekey { kid, key, next_seq: 1 })
    }

    pub(super) fn take_token(&mut self, token: Option<&str>) -> Result<(), ClientError> {
        if let Some(token) = token.and_then(from_base64url).map(Secret::from_bytes) {
            // Kept before it is used: the old one is void from its first use on.
            self.trust.take_token(&self.device.device_id, &token)?;
            self.token = Some(token);
            self.seal_token_anew();
        }
        Ok(())
    }

    fn take_news(&mut self, answer: StatusAnswer) -> Result<(), ClientError> {
        let (id, at) = (&self.device.device_id, now().unix_ms());
        if let Some(name) = &answer.device_name {
            self.trust.note_name(id, name, at)?;
        }
        let seen = answer
            .instance
            .as_deref()
            .map(|installation| self.trust.note_installation(id, installation, at))
            .transpose()?;
        self.other_installation |= seen.is_some_and(|seen| seen != Installation::Same);
        if seen == Some(Installation::Twice) {
            tracing::warn!(device = %id, "the keys of {} are in use from two installations: its \
                data directory was copied, or stolen", self.device.name);
        }
        if answer.keys_in_use_twice {
            tracing::warn!(
                device = %id,
                "{} says that the keys of this device are in use from another place, too: if its \
                    data directory was copied, delete identity.key in the copy \
                 and pair that one anew; if it was stolen, revoke this device everywhere and pair \
                 it anew",
                self.device.name
            );
        }
        for hit in self.trust.heed(id, &answer.revoked, at)? {
            tracing::warn!(device = %hit, "{} no longer trusts this device; it was revoked here, \
                too", self.device.name);
        }
        Ok(())
    }

    pub(super) async fn call(&mut self, target: &str, body: &[u8]) -> Result<Vec<u8>, ClientError> {
        let mut reconnected = false;
        let mut asked_anew = false;
        loop {
            let under = self.next_number().await?;
            match self.exchange(Method::POST, target, body, under, Next::SameKey).await {
                Ok((status, Some(answer))) => return self.result(status, answer),
                Ok((_, None)) if asked_anew => {
                    return Err(ClientError::Refused(self.device.name.clone()));
                }
                // The prekey is gone: the peer restarted, or it is worn out.
                Ok((_, None)) => {
                    asked_anew = true;
                    self.prekey = None;
                }
                // A connection that was silent while we stored a page may have been closed
                // meanwhile. Whether the request was carried out or not, it may be asked again:
                // sealed anew, under the next number.
                Err(ClientError::Broken(_)) if !reconnected => {
                    reconnected = true;
                    let again = connect(&self.link.address, &self.device.name, &self.counters);
                    self.link = again.await?;
                    self.seal_token_anew();
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// A device that was revoked, or paired anew, since a conversation began is told nothing more in
/// it, and nothing more is taken from it.
pub(super) fn check_trust(trust: &TrustStore, device: &TrustedDevice) -> Result<(), ClientError> {
    let epoch = |device: &TrustedDevice| device.pair.as_ref().map(|pair| pair.epoch);
    let known = trust.find(&device.device_id)?;
    match known.filter(|known| known.is_active() && epoch(known) == epoch(device)) {
        Some(_) => Ok(()),
        None => Err(ClientError::NotPaired(device.name.clone())),
    }
}

/// What a peer says, for a terminal or a log: one line of visible characters, cut to a length.
pub(super) fn words_of_a_peer(text: &str) -> String {
    text.chars()
        .map(|character| if character == '\n' { ' ' } else { character })
        .filter(|character| !is_invisible(*character))
        .take(WORDS_MAX)
        .collect()
}
