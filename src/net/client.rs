//! Calls peers: one connection for one exchange, every body sealed. An answer in plain text is a hint at
//! most; nothing is unpaired and nothing is sent unsealed because of one.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::handle::{EngineGone, EngineHandle};
use super::node_state::{now, now_ms, system_rng};
use super::sealed::{SEALED_HEADER, compress, header_value, inflate};
use crate::store::trust::{EventKind, Installation, Revocation, TrustError, TrustStore, TrustedDevice};
use crate::sync::EngineError;
use crate::sync::wire::{PullResponse, PushRequest, PushResponse};
use crate::trust::envelope::{self, MEDIA_TYPE, Route, SEALED_BYTES_MAX};
use crate::trust::identity::{DeviceId, Identity, Secret};
use crate::trust::pairing::{Attempt, Joined, Joining, Offer, REGISTER_TARGET, WINDOW_SECONDS_MAX, is_invisible};
use crate::trust::{from_base64url, to_base64url};

/// Time to get a connection, over all addresses.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Time for one address, so that a dead one leaves time for the others.
const CONNECT_ONE_WITHIN: Duration = Duration::from_secs(3);
/// Time without any progress after which an exchange is given up.
const PROGRESS_WITHIN: Duration = Duration::from_secs(30);
/// Characters kept of a sentence a peer says.
const WORDS_MAX: usize = 300;
/// Pages without a row after which a peer that says there is more is no longer asked.
const EMPTY_PAGES_MAX: usize = 16;
/// Longest cursor and epoch a peer may give, in bytes.
const CURSOR_BYTES_MAX: usize = 512;
/// Pause between asking whether the code was typed.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(700);

/// Why a peer could not be talked to. Nothing was lost: the next exchange goes on where this one ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No address answers.
    #[error("{name} can't be reached at {}: check that it runs storysync and is on the same network", if addresses.is_empty() { "any known address".to_owned() } else { addresses.join(", ") })]
    Unreachable {
        /// The device.
        name: String,
        /// What was tried.
        addresses: Vec<String>,
    },
    /// The connection broke.
    #[error("the connection to {0} broke; run `storysync sync` again, it goes on where it stopped")]
    Broken(String),
    /// Nothing came for a while.
    #[error("{0} did not answer within {seconds} seconds; run `storysync sync` again, it goes on where it stopped", seconds = PROGRESS_WITHIN.as_secs())]
    Stalled(String),
    /// The peer does not accept us (or somebody says so in its name).
    #[error("{0} does not accept this device: if it was paired before, pair it again with `storysync pair show` there and `storysync pair join` here")]
    Refused(String),
    /// The pairing code is not accepted.
    #[error(
        "the other device does not accept this pairing code: it has expired, was used already, or is not its own; show a new one with `storysync pair show`"
    )]
    CodeRefused,
    /// The code was not typed in time.
    #[error("nobody typed the code on the other device in time; show a new one with `storysync pair show`")]
    NotApproved,
    /// The answer was not sealed, or not by whom we asked.
    #[error("the answer is not from {0}: something on the network may be pretending to be it; nothing was taken over")]
    NotAuthentic(String),
    /// The peer says what is wrong.
    #[error("{name} says: {detail}")]
    Remote {
        /// The device.
        name: String,
        /// Its sentence.
        detail: String,
    },
    /// Something refused the request in the clear, before anything was proven.
    #[error("{name} did not take the request (HTTP status {status}, not proven to be its own): it may be busy or stopping; run `storysync sync` again")]
    Busy {
        /// The device.
        name: String,
        /// What was answered.
        status: u16,
    },
    /// The peer lied, or its keys are in use twice.
    #[error("nothing is taken from {0}: it sent two different changes under one name, so its keys may be in use twice; pair it again")]
    Frozen(String),
    /// We are not paired (any more).
    #[error("{0} is no longer paired with this device; pair it again")]
    NotPaired(String),
    /// Our side failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Our side is stopping.
    #[error(transparent)]
    Gone(#[from] EngineGone),
    /// Our list of devices failed.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// What an exchange with one peer came to: one entry of `storysync sync --json`.
#[derive(Debug, Clone, Serialize)]
pub struct PeerReport {
    /// PeerId.
    pub device_id: String,
    /// For people.
    pub name: String,
    /// Rows new to the peer.
    pub pushed: usize,
    /// Rows new here.
    pub pulled: usize,
    /// Clashes open here afterwards.
    pub conflicts: i64,
    /// Bytes sent over TCP.
    pub bytes_sent: u64,
    /// Bytes received over TCP.
    pub bytes_received: u64,
    /// What went wrong, as a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[derive(Debug, Default)]
struct Counters {
    sent: AtomicU64,
    received: AtomicU64,
}

/// A TCP stream that counts its bytes.
struct Counted {
    stream: TcpStream,
    counters: Arc<Counters>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.counters.received.fetch_add((buffer.filled().len() - before) as u64, Ordering::Relaxed);
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(written)) = &polled {
            self.counters.sent.fetch_add(*written as u64, Ordering::Relaxed);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// One HTTP connection.
struct Link {
    requests: SendRequest<Full<Bytes>>,
    host: String,
    /// As it was given: what to note when it turns out to be right.
    address: String,
    name: String,
}

async fn connect(addresses: &[String], name: &str, counters: &Arc<Counters>) -> Result<Link, ClientError> {
    let started = Instant::now();
    for address in addresses {
        let Some(left) = CONNECT_WITHIN.checked_sub(started.elapsed()) else { break };
        let Ok(Ok(stream)) = tokio::time::timeout(left.min(CONNECT_ONE_WITHIN), TcpStream::connect(address)).await else { continue };
        drop(stream.set_nodelay(true));
        // By address, whatever name it was found under: a node answers to addresses only.
        let Ok(host) = stream.peer_addr().map(|reached| SocketAddr::new(reached.ip(), reached.port()).to_string()) else { continue };
        let counted = Counted { stream, counters: Arc::clone(counters) };
        let Ok((requests, connection)) = hyper::client::conn::http1::handshake(TokioIo::new(counted)).await else { continue };
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a peer ended early");
            }
        });
        return Ok(Link { requests, host, address: address.clone(), name: name.to_owned() });
    }
    Err(ClientError::Unreachable { name: name.to_owned(), addresses: addresses.to_vec() })
}

struct Answer {
    status: StatusCode,
    sealed: bool,
    body: Vec<u8>,
}

impl Link {
    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, ClientError> {
        let broken = |_| ClientError::Broken(self.name.clone());
        let stalled = |_| ClientError::Stalled(self.name.clone());
        tokio::time::timeout(PROGRESS_WITHIN, self.requests.ready()).await.map_err(stalled)?.map_err(broken)?;
        let response: Response<Incoming> =
            tokio::time::timeout(PROGRESS_WITHIN, self.requests.send_request(request)).await.map_err(stalled)?.map_err(broken)?;
        let status = response.status();
        let sealed = response.headers().get(CONTENT_TYPE).is_some_and(|value| value.as_bytes() == MEDIA_TYPE.as_bytes());
        let mut frames = response.into_body();
        let mut body = Vec::new();
        while let Some(frame) = tokio::time::timeout(PROGRESS_WITHIN, frames.frame()).await.map_err(stalled)? {
            if let Ok(data) = frame.map_err(broken)?.into_data() {
                body.extend_from_slice(&data);
            }
            if body.len() > SEALED_BYTES_MAX {
                return Err(ClientError::NotAuthentic(self.name.clone()));
            }
        }
        Ok(Answer { status, sealed, body })
    }

    fn request(&self, method: &Method, target: &str) -> hyper::http::request::Builder {
        Request::builder().method(method).uri(target).header(HOST, &self.host)
    }
}

struct Prekey {
    kid: u64,
    key: [u8; 32],
    next_seq: u64,
}

/// A conversation with one paired device.
struct Conversation<'a> {
    link: Link,
    counters: Arc<Counters>,
    identity: &'a Identity,
    trust: &'a TrustStore,
    device: &'a TrustedDevice,
    token: Option<Secret>,
    prekey: Option<Prekey>,
    /// Whether the peer's keys turned out to be in use from elsewhere than before.
    other_installation: bool,
    empty_pages: usize,
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

impl<'a> Conversation<'a> {
    fn new(link: Link, counters: &Arc<Counters>, identity: &'a Identity, trust: &'a TrustStore, device: &'a TrustedDevice) -> Self {
        let counters = Arc::clone(counters);
        Self { link, counters, identity, trust, device, token: device.token.clone(), prekey: None, other_installation: false, empty_pages: 0 }
    }

    fn not_authentic(&self) -> ClientError {
        ClientError::NotAuthentic(self.device.name.clone())
    }

    /// Seals, sends and opens one request under a key.
    async fn exchange(
        &mut self,
        method: Method,
        target: &str,
        body: &[u8],
        kid: u64,
        seq: u64,
        key: &[u8; 32],
    ) -> Result<(StatusCode, Option<Vec<u8>>), ClientError> {
        let not_paired = || ClientError::NotPaired(self.device.name.clone());
        let pair = self.device.pair.as_ref().ok_or_else(not_paired)?;
        let token = self.token.as_ref().ok_or_else(not_paired)?;
        let client = self.identity.public_key();
        let route = Route { method: method.as_str(), target, client: &client, server: &self.device.identity_key };
        let (sealed, awaited) =
            envelope::seal_request(route, pair, key, kid, seq, now_ms(), body, self.identity, &mut system_rng()).map_err(|_| not_paired())?;
        let builder = self.link.request(&method, target).header(AUTHORIZATION, format!("Bearer {}", to_base64url(token.expose())));
        let request = if method == Method::POST {
            builder.header(CONTENT_TYPE, MEDIA_TYPE).body(Full::new(Bytes::from(sealed)))
        } else {
            builder.header(SEALED_HEADER, header_value(&sealed).ok_or_else(|| self.not_authentic())?).body(Full::default())
        };
        let answer = self.link.send(request.map_err(|_| self.not_authentic())?).await?;
        if !answer.sealed {
            return match answer.status {
                StatusCode::CONFLICT => Ok((answer.status, None)),
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(ClientError::Refused(self.device.name.clone())),
                status if status.is_client_error() || status.is_server_error() => {
                    Err(ClientError::Busy { name: self.device.name.clone(), status: status.as_u16() })
                }
                _ => Err(self.not_authentic()),
            };
        }
        let opened = awaited.open(answer.status.as_u16(), &answer.body).map_err(|_| self.not_authentic())?;
        let body = inflate(&opened.body).map_err(|_| self.not_authentic())?;
        Ok((answer.status, Some(body)))
    }

    fn result(&self, status: StatusCode, body: Vec<u8>) -> Result<Vec<u8>, ClientError> {
        if status == StatusCode::OK {
            return Ok(body);
        }
        #[derive(serde::Deserialize)]
        struct Detail {
            detail: String,
        }
        let detail = serde_json::from_slice::<Detail>(&body).map_or_else(|_| format!("status {status}"), |detail| words_of_a_peer(&detail.detail));
        Err(ClientError::Remote { name: self.device.name.clone(), detail })
    }

    /// The first call of a conversation: asks for a prekey, and proves who answers.
    async fn refresh_prekey(&mut self) -> Result<Prekey, ClientError> {
        let key = self.device.static_key;
        let (status, body) = self.exchange(Method::GET, "/api/sync/status", &[], 0, 0, &key).await?;
        let body = self.result(status, body.ok_or_else(|| self.not_authentic())?)?;
        let answer: StatusAnswer = serde_json::from_slice(&body).map_err(|_| self.not_authentic())?;
        let (Ok(kid), Some(key)) = (answer.kid.parse(), from_base64url(&answer.prekey)) else { return Err(self.not_authentic()) };
        self.take_news(answer)?;
        Ok(Prekey { kid, key, next_seq: 1 })
    }

    fn take_token(&mut self, token: Option<&str>) -> Result<(), ClientError> {
        if let Some(token) = token.and_then(from_base64url).map(Secret::from_bytes) {
            // Kept before it is used: the old one is void from its first use on.
            self.trust.take_token(&self.device.device_id, &token)?;
            self.token = Some(token);
        }
        Ok(())
    }

    fn take_news(&mut self, answer: StatusAnswer) -> Result<(), ClientError> {
        let (id, at) = (&self.device.device_id, now().unix_ms());
        if let Some(name) = &answer.device_name {
            self.trust.note_name(id, name, at)?;
        }
        let seen = answer.instance.as_deref().map(|installation| self.trust.note_installation(id, installation, at)).transpose()?;
        self.other_installation |= seen.is_some_and(|seen| seen != Installation::Same);
        if seen == Some(Installation::Twice) {
            tracing::warn!(device = %id, "the keys of {} are in use from two installations: its data directory was copied, or stolen", self.device.name);
        }
        if answer.keys_in_use_twice {
            tracing::warn!(
                device = %id,
                "{} says that the keys of this device are in use from another place, too: if its data directory was copied, delete identity.key in the copy \
                 and pair that one anew; if it was stolen, revoke this device everywhere and pair it anew",
                self.device.name
            );
        }
        for hit in self.trust.heed(id, &answer.revoked, at)? {
            tracing::warn!(device = %hit, "{} no longer trusts this device; it was revoked here, too", self.device.name);
        }
        Ok(())
    }

    async fn call(&mut self, target: &str, body: &[u8]) -> Result<Vec<u8>, ClientError> {
        let mut reconnected = false;
        let mut asked_anew = false;
        loop {
            let mut prekey = match self.prekey.take() {
                Some(prekey) => prekey,
                None => self.refresh_prekey().await?,
            };
            let seq = prekey.next_seq;
            prekey.next_seq += 1;
            let (kid, key) = (prekey.kid, prekey.key);
            self.prekey = Some(prekey);
            match self.exchange(Method::POST, target, body, kid, seq, &key).await {
                Ok((status, Some(answer))) => return self.result(status, answer),
                Ok((_, None)) if asked_anew => return Err(ClientError::Refused(self.device.name.clone())),
                // The prekey is gone: the peer restarted, or it is worn out.
                Ok((_, None)) => {
                    asked_anew = true;
                    self.prekey = None;
                }
                // A connection that was silent while we stored a page may have been closed meanwhile. Whether the
                // request was carried out or not, it may be asked again: sealed anew, under the next number.
                Err(ClientError::Broken(_)) if !reconnected => {
                    reconnected = true;
                    self.link = connect(std::slice::from_ref(&self.link.address), &self.device.name, &self.counters).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// What a peer says, for a terminal or a log: one line of visible characters, cut to a length.
fn words_of_a_peer(text: &str) -> String {
    text.chars().map(|character| if character == '\n' { ' ' } else { character }).filter(|character| !is_invisible(*character)).take(WORDS_MAX).collect()
}

/// One sealed request: what a client without a log of its own does.
///
/// # Errors
/// See [`ClientError`].
pub async fn post(identity: &Identity, trust: &TrustStore, device: &TrustedDevice, target: &str, body: &[u8]) -> Result<Vec<u8>, ClientError> {
    let counters = Arc::default();
    let link = connect(&device.addresses, &device.name, &counters).await?;
    Conversation::new(link, &counters, identity, trust, device).call(target, body).await
}

/// Who calls: this device.
#[derive(Debug)]
pub struct Caller<'a> {
    /// Our keys.
    pub identity: &'a Identity,
    /// Who is trusted.
    pub trust: &'a TrustStore,
    /// The Engine.
    pub engine: &'a EngineHandle,
    /// The port of our own LAN listener, when we serve.
    pub own_port: Option<u16>,
    /// What we are called.
    pub name: &'a str,
    /// Which installation of our keys this is.
    pub installation: &'a str,
    /// Addresses from the configuration, tried after those that worked.
    pub static_addresses: &'a [String],
}

impl Caller<'_> {
    /// One exchange with a device: pull and push until both sides have everything. `progress` is told
    /// (rows pulled, rows pushed) after each page.
    pub async fn sync(&self, device: &TrustedDevice, progress: &mut (dyn FnMut(usize, usize) + Send)) -> PeerReport {
        let counters = Arc::new(Counters::default());
        let mut report = PeerReport {
            device_id: device.device_id.to_string(),
            name: device.name.clone(),
            pushed: 0,
            pulled: 0,
            conflicts: 0,
            bytes_sent: 0,
            bytes_received: 0,
            error: None,
        };
        if let Err(error) = self.exchange_all(device, &counters, &mut report, progress).await {
            report.error = Some(error.to_string());
        }
        if let Ok(Ok(status)) = self.engine.call(|engine| engine.status()).await {
            report.conflicts = status.conflicts;
        }
        report.bytes_sent = counters.sent.load(Ordering::Relaxed);
        report.bytes_received = counters.received.load(Ordering::Relaxed);
        report
    }

    async fn exchange_all(
        &self,
        device: &TrustedDevice,
        counters: &Arc<Counters>,
        report: &mut PeerReport,
        progress: &mut (dyn FnMut(usize, usize) + Send),
    ) -> Result<(), ClientError> {
        let mut addresses = device.addresses.clone();
        addresses.extend(self.static_addresses.iter().filter(|address| !device.addresses.contains(address)).cloned());
        let link = connect(&addresses, &device.name, counters).await?;
        let address = link.address.clone();
        let mut conversation = Conversation::new(link, counters, self.identity, self.trust, device);
        if device.frozen_at.is_some() {
            return Err(ClientError::Frozen(device.name.clone()));
        }
        self.engine.call(|engine| engine.capture(now())).await??;
        let mut noted = false;
        loop {
            let new = self.pull_page(&mut conversation, report).await?;
            if !noted {
                // Only now is it proven who answers there.
                self.trust.note_address(&device.device_id, &address)?;
                noted = true;
            }
            progress(report.pulled, report.pushed);
            if !new {
                break;
            }
        }
        if conversation.other_installation {
            let device_id = device.device_id.to_string();
            self.engine.call(move |engine| engine.note_other_installation(&device_id, None, now())).await??;
        }
        while self.push_page(&mut conversation, report).await? {
            progress(report.pulled, report.pushed);
        }
        self.trust.note_sync(&device.device_id, now().unix_ms())?;
        Ok(())
    }

    /// Pulls one page. `false` when there was nothing in it and nothing follows.
    async fn pull_page(&self, conversation: &mut Conversation<'_>, report: &mut PeerReport) -> Result<bool, ClientError> {
        let device_id = conversation.device.device_id.to_string();
        let asked = device_id.clone();
        let mut request = self.engine.call(move |engine| engine.pull_request(&asked)).await??;
        request.port = self.own_port;
        request.device_name = Some(self.name.to_owned());
        request.instance = Some(self.installation.to_owned());
        request.revoked = self.trust.revocations()?;
        let body = serde_json::to_vec(&request).map_err(|_| conversation.not_authentic())?;
        let answer = conversation.call("/api/sync/pull", &body).await?;
        let page: PullResponse = serde_json::from_slice(&answer).map_err(|_| conversation.not_authentic())?;
        conversation.take_token(page.auth_token.as_deref())?;
        if page.cursor.len() > CURSOR_BYTES_MAX || page.epoch.len() > CURSOR_BYTES_MAX {
            return Err(ClientError::Remote { name: conversation.device.name.clone(), detail: "a cursor longer than any cursor is".to_owned() });
        }
        conversation.empty_pages = if page.changes.is_empty() { conversation.empty_pages + 1 } else { 0 };
        if conversation.empty_pages > EMPTY_PAGES_MAX {
            return Err(ClientError::Remote { name: conversation.device.name.clone(), detail: "there is more, again and again, and nothing comes".to_owned() });
        }
        let more = page.has_more || !page.changes.is_empty();
        let receipt = self.engine.call(move |engine| engine.receive_pulled(&page, &device_id, now())).await??;
        for sentence in &receipt.rejected {
            tracing::warn!(device = %conversation.device.device_id, "{sentence}");
        }
        let device = conversation.device;
        if !receipt.rejected.is_empty() {
            let words = format!("{} of its changes were refused", receipt.rejected_count());
            self.trust.note_event(EventKind::Refuse, Some(&device.device_id), &words, now().unix_ms())?;
        }
        if receipt.equivocated {
            self.trust.freeze(&device.device_id, now().unix_ms())?;
            return Err(ClientError::Frozen(device.name.clone()));
        }
        report.pulled += receipt.rows.len();
        Ok(more)
    }

    /// Pushes one page. `false` when there is nothing to push.
    async fn push_page(&self, conversation: &mut Conversation<'_>, report: &mut PeerReport) -> Result<bool, ClientError> {
        let device_id = conversation.device.device_id.to_string();
        let asked = device_id.clone();
        let Some((page, epoch)) = self.engine.call(move |engine| engine.push_page(&asked, now()).map(|page| page.map(|page| (page, engine.epoch())))).await??
        else {
            return Ok(false);
        };
        let end = page.end;
        if !page.changes.is_empty() {
            let body = serde_json::to_vec(&PushRequest { changes: page.changes, epoch: Some(epoch) }).map_err(|_| conversation.not_authentic())?;
            let answer = conversation.call("/api/sync/push", &compress(body)).await?;
            let answer: PushResponse = serde_json::from_slice(&answer).map_err(|_| conversation.not_authentic())?;
            report.pushed += answer.accepted;
            if answer.rejected > 0 {
                let (device_id, at) = (&conversation.device.device_id, now().unix_ms());
                tracing::warn!(device = %device_id, rejected = answer.rejected, "{}", words_of_a_peer(&answer.message));
                self.trust.note_event(EventKind::Refuse, Some(device_id), &format!("it refused {} of our changes", answer.rejected), at)?;
            }
        }
        self.engine.call(move |engine| engine.note_pushed(&device_id, end, now())).await??;
        Ok(page.has_more)
    }
}

/// Pairs with the device that shows an offer. `show_code` is called once when its user must type a code.
///
/// # Errors
/// See [`ClientError`].
pub async fn join(
    offer: &Offer,
    identity: &Identity,
    own_name: &str,
    own_port: Option<u16>,
    trust: &TrustStore,
    show_code: &mut (dyn FnMut(&str) + Send),
) -> Result<DeviceId, ClientError> {
    let name = "the device that shows the code".to_owned();
    let addresses: Vec<String> = offer.addresses.iter().map(|(ip, port)| SocketAddr::new(*ip, *port).to_string()).collect();
    let counters = Arc::new(Counters::default());
    let mut first_code: Option<String> = None;
    let begun = Instant::now();
    let attempt = Attempt::new(&mut system_rng());
    loop {
        let mut link = connect(&addresses, &name, &counters).await?;
        let (sealed, joining) =
            Joining::start(offer, identity, own_name, own_port, &attempt, now_ms(), &mut system_rng()).map_err(|_| ClientError::CodeRefused)?;
        let request = link.request(&Method::POST, REGISTER_TARGET).header(CONTENT_TYPE, MEDIA_TYPE).body(Full::new(Bytes::from(sealed)));
        let answer = link.send(request.map_err(|_| ClientError::CodeRefused)?).await?;
        if !answer.sealed {
            return Err(if first_code.is_some() { ClientError::NotApproved } else { ClientError::CodeRefused });
        }
        match joining.accept(answer.status.as_u16(), &answer.body).map_err(|_| ClientError::NotAuthentic(name.clone()))? {
            Joined::Paired(device) => {
                let device_id = trust.store_pairing(&device, &[link.host], now().unix_ms())?;
                trust.note_event(EventKind::Pair, Some(&device_id), "it was paired", now().unix_ms())?;
                return Ok(device_id);
            }
            Joined::Pending { code } => {
                // The first accepted request fixed the code.
                if first_code.is_none() {
                    show_code(&code);
                    first_code = Some(code);
                }
                // By our own patience: the other device's clock decides how long the code can be used.
                if begun.elapsed() > Duration::from_secs(WINDOW_SECONDS_MAX) {
                    return Err(ClientError::NotApproved);
                }
                tokio::time::sleep(ASK_AGAIN_AFTER).await;
            }
        }
    }
}
