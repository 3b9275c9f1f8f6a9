//! What happened since the node started, in numbers: exchanges, requests, bytes, how long they
//! took. How the file stands is asked when somebody wants to know. No number tells who somebody is
//! or what anything says.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use axum::body::HttpBody as _;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Bounds of what is timed: from a millisecond, each four times the last, to a quarter of a minute.
const SECONDS_FROM: f64 = 0.001;
const SECONDS_STEP: f64 = 4.0;
const SECONDS_BOUNDS: u16 = 8;
/// What requests are counted under that lead nowhere: their own words would be endless.
const NOWHERE: &str = "none";

/// How an exchange with a device this one called went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncResult {
    /// Everything there was went over.
    Done,
    /// It broke off.
    Failed,
    /// Nobody answered at any address.
    Unreachable,
}

/// Which listener was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// That of paired devices.
    Lan,
    /// That of this machine.
    Loopback,
}

impl SyncResult {
    fn label(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Unreachable => "unreachable",
        }
    }
}

impl Listener {
    fn label(self) -> &'static str {
        match self {
            Self::Lan => "lan",
            Self::Loopback => "loopback",
        }
    }
}

/// Who called whom, and which way bytes went.
const CALLING: &str = "calling";
const ANSWERING: &str = "answering";
const SENT: &str = "sent";
const RECEIVED: &str = "received";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSync {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfBytes {
    role: &'static str,
    direction: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRequest {
    listener: &'static str,
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRoute {
    listener: &'static str,
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRefusal {
    listener: &'static str,
    status: u16,
}

/// How the file stands.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Standing {
    pub(super) entities: i64,
    pub(super) log_changes: i64,
    pub(super) parked: i64,
    pub(super) conflicts: i64,
    pub(super) quarantined: i64,
    pub(super) devices: i64,
    pub(super) devices_in_step: i64,
}

type Number = Gauge<i64>;

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(SECONDS_FROM, SECONDS_STEP, SECONDS_BOUNDS))
}

/// The numbers of one node.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    syncs: Family<OfSync, Counter>,
    sync_seconds: Histogram,
    bytes: Family<OfBytes, Counter>,
    requests: Family<OfRequest, Counter>,
    request_seconds: Family<OfRoute, Histogram, fn() -> Histogram>,
    refused: Family<OfRefusal, Counter>,
    capture_seconds: Histogram,
    entities: Number,
    log_changes: Number,
    parked: Number,
    conflicts: Number,
    quarantined: Number,
    devices: Number,
    devices_in_step: Number,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("storysync"),
            syncs: Family::default(),
            sync_seconds: seconds(),
            bytes: Family::default(),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(seconds),
            refused: Family::default(),
            capture_seconds: seconds(),
            entities: Number::default(),
            log_changes: Number::default(),
            parked: Number::default(),
            conflicts: Number::default(),
            quarantined: Number::default(),
            devices: Number::default(),
            devices_in_step: Number::default(),
        };
        metrics.register_standing();
        metrics.register_happenings();
        metrics
    }
}

impl Metrics {
    fn register_standing(&mut self) {
        let numbers = [
            ("entities", "Rows of the app's tables that are synced", &self.entities),
            ("log_changes", "Changes in the log", &self.log_changes),
            ("parked_entities", "Rows that wait for another row or a value", &self.parked),
            ("conflicts_open", "Conflicts that wait for a decision", &self.conflicts),
            ("quarantined_changes", "Changes of others that were refused", &self.quarantined),
            ("devices_paired", "Devices that are paired", &self.devices),
            ("devices_in_step", "Devices connected at this moment", &self.devices_in_step),
        ];
        for (name, help, number) in numbers {
            self.registry.register(name, help, number.clone());
        }
    }

    fn register_happenings(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "syncs",
            "Exchanges this node began, by how they went",
            self.syncs.clone(),
        );
        registry.register_with_unit(
            "sync_duration",
            "How long exchanges this node began took",
            Unit::Seconds,
            self.sync_seconds.clone(),
        );
        registry.register_with_unit(
            "exchanged",
            "Bytes of exchanges, sealed and packed",
            Unit::Bytes,
            self.bytes.clone(),
        );
        registry.register("requests", "Requests answered", self.requests.clone());
        registry.register_with_unit(
            "request_duration",
            "How long it took until a request was answered",
            Unit::Seconds,
            self.request_seconds.clone(),
        );
        registry.register(
            "requests_refused",
            "Requests that were refused (status 400 and up)",
            self.refused.clone(),
        );
        registry.register_with_unit(
            "capture_lag",
            "From the notice that the app wrote until it stands in the log",
            Unit::Seconds,
            self.capture_seconds.clone(),
        );
    }

    /// An exchange this node began is over. Bytes are those of its line, sent and received, before
    /// and after.
    pub(super) fn synced(
        &self,
        result: SyncResult,
        took: Duration,
        before: (u64, u64),
        after: (u64, u64),
    ) {
        self.count(result);
        self.sync_seconds.observe(took.as_secs_f64());
        let moved = (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1));
        self.moved(CALLING, SENT, moved.0);
        self.moved(CALLING, RECEIVED, moved.1);
    }

    /// An exchange went so.
    pub(super) fn count(&self, result: SyncResult) {
        self.syncs.get_or_create(&OfSync { result: result.label() }).inc();
    }

    /// What the app wrote stands in the log.
    pub(super) fn captured(&self, after: Duration) {
        self.capture_seconds.observe(after.as_secs_f64());
    }

    fn moved(&self, role: &'static str, direction: &'static str, bytes: u64) {
        let counter: Counter<u64, AtomicU64> =
            self.bytes.get_or_create(&OfBytes { role, direction }).clone();
        counter.inc_by(bytes);
    }

    /// Everything, as OpenMetrics has it.
    pub(super) fn told(&self, standing: Option<Standing>) -> Result<String, std::fmt::Error> {
        if let Some(now) = standing {
            self.entities.set(now.entities);
            self.log_changes.set(now.log_changes);
            self.parked.set(now.parked);
            self.conflicts.set(now.conflicts);
            self.quarantined.set(now.quarantined);
            self.devices.set(now.devices);
            self.devices_in_step.set(now.devices_in_step);
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// These numbers, where requests of a listener are counted.
    pub(super) fn of(self: &Arc<Self>, listener: Listener) -> Counting {
        Counting { metrics: Arc::clone(self), listener }
    }
}

/// Where requests of one listener are counted.
#[derive(Debug, Clone)]
pub(super) struct Counting {
    metrics: Arc<Metrics>,
    listener: Listener,
}

/// Counts a request, and how it was answered.
pub(super) async fn count(
    State(Counting { metrics, listener }): State<Counting>,
    request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| NOWHERE.to_owned(), |path| path.as_str().to_owned());
    let received: u64 = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok())
        .unwrap_or(0);
    let response = next.run(request).await;
    let (is_lan, listener) = (listener == Listener::Lan, listener.label());
    let of_route = OfRoute { listener, route: route.clone() };
    metrics.request_seconds.get_or_create(&of_route).observe(begun.elapsed().as_secs_f64());
    let status = response.status().as_u16();
    metrics.requests.get_or_create(&OfRequest { listener, route, status }).inc();
    if status >= 400 {
        metrics.refused.get_or_create(&OfRefusal { listener, status }).inc();
    } else if is_lan {
        // A refused body is not read to its end.
        metrics.moved(ANSWERING, RECEIVED, received);
    }
    if is_lan {
        let sent = response.body().size_hint().exact().unwrap_or(0);
        metrics.moved(ANSWERING, SENT, sent);
    }
    response
}
