//! Accepts connections and drives HTTP/1.1 with hyper's own limits: `axum::serve` has neither a
//! header timeout nor a limit on connections.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt as _;
use tower_http::timeout::RequestBodyTimeoutLayer;

use super::connections::{Connection, Connections};
use super::told_to;

/// Time a client has to send its headers.
const HEADERS_WITHIN: Duration = Duration::from_secs(5);
/// Time without a byte of a body, in either direction, after which a connection is closed.
const BODY_PROGRESS_WITHIN: Duration = Duration::from_secs(10);
/// Time one request may take.
const REQUEST_WITHIN: Duration = Duration::from_secs(120);
/// Largest header block, in bytes.
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// How long a stopping server lets running requests finish.
const STOP_WITHIN: Duration = Duration::from_millis(1_000);

/// Serves a router until `stop` says so.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    open: Arc<Connections>,
    mut stop: watch::Receiver<bool>,
) {
    let router = router.layer(RequestBodyTimeoutLayer::new(BODY_PROGRESS_WITHIN));
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
        let Some(connection) = open.admit(from.ip().to_canonical(), Instant::now()) else {
            continue;
        };
        connections.spawn(drive(stream, from, router.clone(), Arc::new(connection), stop.clone()));
    }
    drop(listener);
    let drained = tokio::time::timeout(STOP_WITHIN, async {
        while connections.join_next().await.is_some() {}
    })
    .await;
    if drained.is_err() {
        connections.shutdown().await;
    }
}

async fn drive(
    stream: TcpStream,
    from: SocketAddr,
    router: Router,
    connection: Arc<Connection>,
    mut stop: watch::Receiver<bool>,
) {
    drop(stream.set_nodelay(true));
    super::notice_when_gone(&stream);
    let mut stream = TimeoutStream::new(stream);
    // Nobody may keep an answer waiting to be read. How long reading may take is hyper's affair, by
    // part.
    stream.set_write_timeout(Some(BODY_PROGRESS_WITHIN));
    let mine = Arc::clone(&connection);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        answer(router.clone(), request, from, Arc::clone(&mine))
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_buf_size(HEADER_BYTES_MAX);
    let serving = builder.serve_connection(TokioIo::new(Box::pin(stream)), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => Some(ended),
        // Dropped as it is: nothing more is said to whoever must go.
        () = connection.told_to_close() => return,
        () = told_to(&mut stop) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%from, %error, "a connection ended early");
    }
}

async fn answer(
    router: Router,
    request: Request<Incoming>,
    from: SocketAddr,
    connection: Arc<Connection>,
) -> Result<hyper::Response<Body>, Infallible> {
    connection.set_busy(true, Instant::now());
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(from));
    request.extensions_mut().insert(Arc::clone(&connection));
    let answered = tokio::time::timeout(REQUEST_WITHIN, router.oneshot(request)).await;
    connection.set_busy(false, Instant::now());
    match answered {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(never)) => match never {},
        Err(_) => {
            let mut response = hyper::Response::new(Body::empty());
            *response.status_mut() = hyper::StatusCode::REQUEST_TIMEOUT;
            Ok(response)
        }
    }
}
