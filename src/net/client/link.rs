//! One HTTP/1.1 connection to a peer that counts its bytes.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::ClientError;
use storysync_engine::trust::envelope::{MEDIA_TYPE, SEALED_BYTES_MAX};

/// Time to get a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// Time without any progress after which an exchange is given up.
pub(super) const PROGRESS_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
}

/// How much went over a line.
#[derive(Debug)]
pub struct Meter(Arc<Counters>);

impl Meter {
    pub(super) fn of(counters: &Arc<Counters>) -> Self {
        Self(Arc::clone(counters))
    }

    /// Bytes received over TCP since the line was opened.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.bytes().1
    }

    /// Bytes sent and received over TCP since the line was opened.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        (self.0.sent.load(Ordering::Relaxed), self.0.received.load(Ordering::Relaxed))
    }
}

/// A TCP stream that counts its bytes.
struct Counted {
    stream: TcpStream,
    counters: Arc<Counters>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.counters
            .received
            .fetch_add((buffer.filled().len() - before) as u64, Ordering::Relaxed);
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(written)) = &polled {
            self.counters.sent.fetch_add(*written as u64, Ordering::Relaxed);
        }
        polled
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// One HTTP connection.
pub(super) struct Link {
    pub(super) requests: SendRequest<Full<Bytes>>,
    pub(super) host: String,
    /// As it was given: what to note when it turns out to be right.
    pub(super) address: String,
    pub(super) name: String,
}

/// Connects to an address; who is there is not known yet.
pub(super) async fn connect(
    address: &str,
    name: &str,
    counters: &Arc<Counters>,
) -> Result<Link, ClientError> {
    let unreachable =
        || ClientError::Unreachable { name: name.to_owned(), addresses: vec![address.to_owned()] };
    let connecting = async {
        let stream = TcpStream::connect(address).await?;
        drop(stream.set_nodelay(true));
        crate::net::notice_when_gone(&stream);
        // By address, whatever name it was found under: a node answers to addresses only.
        let reached = stream.peer_addr()?;
        let host = SocketAddr::new(reached.ip(), reached.port()).to_string();
        Ok::<_, std::io::Error>((stream, host))
    };
    let connected = tokio::time::timeout(CONNECT_WITHIN, connecting).await;
    let (stream, host) = connected.ok().and_then(Result::ok).ok_or_else(unreachable)?;
    let counted = Counted { stream, counters: Arc::clone(counters) };
    let (requests, connection) = hyper::client::conn::http1::handshake(TokioIo::new(counted))
        .await
        .map_err(|_| unreachable())?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to a peer ended early");
        }
    });
    Ok(Link { requests, host, address: address.to_owned(), name: name.to_owned() })
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) sealed: bool,
    pub(super) body: Vec<u8>,
}

impl Link {
    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, ClientError> {
        let broken = |_| ClientError::Broken(self.name.clone());
        let stalled = |_| ClientError::Stalled(self.name.clone());
        tokio::time::timeout(PROGRESS_WITHIN, self.requests.ready())
            .await
            .map_err(stalled)?
            .map_err(broken)?;
        let response: Response<Incoming> =
            tokio::time::timeout(PROGRESS_WITHIN, self.requests.send_request(request))
                .await
                .map_err(stalled)?
                .map_err(broken)?;
        let status = response.status();
        let sealed = response
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes() == MEDIA_TYPE.as_bytes());
        let mut frames = response.into_body();
        let mut body = Vec::new();
        while let Some(frame) =
            tokio::time::timeout(PROGRESS_WITHIN, frames.frame()).await.map_err(stalled)?
        {
            if let Ok(data) = frame.map_err(broken)?.into_data() {
                body.extend_from_slice(&data);
            }
            if body.len() > SEALED_BYTES_MAX {
                return Err(ClientError::NotAuthentic(self.name.clone()));
            }
        }
        Ok(Answer { status, sealed, body })
    }

    pub(super) fn request(&self, method: &Method, target: &str) -> hyper::http::request::Builder {
        Request::builder().method(method).uri(target).header(HOST, &self.host)
    }
}
