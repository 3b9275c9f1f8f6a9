//! Accepts connections and drives HTTP/1.1 with hyper's own limits: `axum::serve` has neither a header
//! timeout nor a limit on connections.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt as _;

/// Connections served at once by one listener.
const CONNECTIONS_MAX: usize = 64;
/// Time a client has to send its headers.
const HEADERS_WITHIN: Duration = Duration::from_secs(5);
/// Time one request may take.
const REQUEST_WITHIN: Duration = Duration::from_secs(120);
/// Largest header block, in bytes.
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// How long a stopping server lets running requests finish.
const STOP_WITHIN: Duration = Duration::from_millis(1_000);

/// Serves a router until `stop` says so.
pub async fn serve(listener: TcpListener, router: Router, mut stop: watch::Receiver<bool>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = told_to(&mut stop) => break,
        };
        while connections.try_join_next().is_some() {}
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, mostly: waiting is all that helps.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else { continue };
        drop(stream.set_nodelay(true));
        let router = router.clone();
        let mut stop = stop.clone();
        connections.spawn(async move {
            let service = hyper::service::service_fn(move |request: Request<Incoming>| answer(router.clone(), request, from));
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEADERS_WITHIN).max_buf_size(HEADER_BYTES_MAX);
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            tokio::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => Some(ended),
                () = told_to(&mut stop) => None,
            };
            let ended = match ended {
                Some(ended) => ended,
                None => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%from, %error, "a connection ended early");
            }
            drop(permit);
        });
    }
    drop(listener);
    let drained = tokio::time::timeout(STOP_WITHIN, async { while connections.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        connections.shutdown().await;
    }
}

async fn told_to(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone means the same.
    drop(stop.wait_for(|stop| *stop).await);
}

async fn answer(router: Router, request: Request<Incoming>, from: SocketAddr) -> Result<hyper::Response<Body>, Infallible> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(from));
    match tokio::time::timeout(REQUEST_WITHIN, router.oneshot(request)).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(never)) => match never {},
        Err(_) => {
            let mut response = hyper::Response::new(Body::empty());
            *response.status_mut() = hyper::StatusCode::REQUEST_TIMEOUT;
            Ok(response)
        }
    }
}
