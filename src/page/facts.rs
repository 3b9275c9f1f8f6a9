//! How the node stands, gathered once for whoever shows it: the home view, the app's panel, the
//! stream of facts for programs.

use serde::Serialize;
use storysync_crdt::Stamp;
use storysync_engine::store::trust::Question;
use storysync_engine::{HoldReport, Status};

use super::Page;
use crate::net::node_state::now;
use crate::net::presence::{Exchanges, Standing};
use crate::net::reply::Refusal;

/// A paired device and how it stands.
#[derive(Debug, Clone, Serialize)]
pub(super) struct DeviceFacts {
    pub(super) device_id: String,
    pub(super) device_name: String,
    pub(super) is_owner: bool,
    /// Whether nothing is taken from it at the moment.
    pub(super) rests: bool,
    pub(super) last_sync_at: Option<String>,
    /// Changes it was not told of yet.
    pub(super) pending: i64,
    #[serde(flatten)]
    pub(super) exchanges: Exchanges,
}

/// A device that was found on the network and is not paired.
#[derive(Debug, Clone, Serialize)]
pub(super) struct NearbyFacts {
    pub(super) device_id: String,
    pub(super) device_name: Option<String>,
}

/// How all is, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Overall {
    /// The app's file can't be read.
    Unreadable,
    /// Something waits for a decision.
    Waiting,
    /// No device is paired.
    Alone,
    /// Something is being exchanged.
    Syncing,
    /// No paired device can be reached.
    Away,
    /// Some devices are away; the others are in step.
    Partly,
    /// Every device is in step.
    InStep,
}

/// How the node stands.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Facts {
    pub(super) overall: Overall,
    pub(super) device_id: String,
    pub(super) name: String,
    #[serde(flatten)]
    pub(super) status: Status,
    pub(super) devices: Vec<DeviceFacts>,
    pub(super) nearby: Vec<NearbyFacts>,
    #[serde(rename = "brakes")]
    pub(super) holds: Vec<HoldReport>,
    pub(super) notices: usize,
    #[serde(skip)]
    pub(super) questions: Vec<Question>,
}

impl Facts {
    /// Asks the node.
    pub(super) async fn gather(page: &Page) -> Result<Self, Refusal> {
        let node = &page.node;
        let mut trusted = node.trust.devices()?;
        trusted.retain(storysync_engine::store::trust::TrustedDevice::is_active);
        let ids: Vec<String> = trusted.iter().map(|device| device.device_id.to_string()).collect();
        let asked = ids.clone();
        let (status, pending, holds, notices) = node
            .engine
            .call(move |engine| {
                let pending: Result<Vec<i64>, _> =
                    asked.iter().map(|id| engine.pending_for(id)).collect();
                let holds = engine.holds(now())?;
                Ok((engine.status()?, pending?, holds, engine.notices(now())?.len()))
            })
            .await??;
        let mut exchanges = node.presence.exchanges();
        let devices: Vec<DeviceFacts> = trusted
            .into_iter()
            .zip(pending)
            .map(|(device, pending)| DeviceFacts {
                exchanges: exchanges.remove(&device.device_id).unwrap_or_default(),
                rests: !device.is_taken_from(),
                device_id: device.device_id.to_string(),
                device_name: device.name,
                is_owner: device.is_owner,
                last_sync_at: device.last_sync_at.map(|at| Stamp::from_unix_ms(at).to_rfc3339()),
                pending,
            })
            .collect();
        let nearby = node
            .presence
            .nearby()
            .into_iter()
            .filter(|(id, _)| !ids.iter().any(|known| known == id.as_str()))
            .map(|(id, nearby)| NearbyFacts { device_id: id.to_string(), device_name: nearby.name })
            .collect();
        let mut facts = Self {
            overall: Overall::InStep,
            device_id: node.identity.device_id().to_string(),
            name: node.name(),
            status,
            devices,
            nearby,
            holds,
            notices,
            questions: node.trust.questions()?,
        };
        let readable = node.database_connected.load(std::sync::atomic::Ordering::Relaxed);
        facts.overall = facts.judge(readable);
        Ok(facts)
    }

    fn judge(&self, readable: bool) -> Overall {
        let of = |state: Standing| {
            self.devices.iter().filter(|device| device.exchanges.state == state).count()
        };
        let (away, syncing) = (of(Standing::Away), of(Standing::Syncing));
        match () {
            () if !readable => Overall::Unreadable,
            () if self.waiting() > 0 => Overall::Waiting,
            () if self.devices.is_empty() => Overall::Alone,
            () if syncing > 0 => Overall::Syncing,
            () if away == self.devices.len() => Overall::Away,
            () if away > 0 => Overall::Partly,
            () => Overall::InStep,
        }
    }

    /// How many things wait for a decision.
    pub(super) fn waiting(&self) -> i64 {
        let others = self.holds.len() + self.notices + self.questions.len();
        self.status.conflicts.saturating_add(i64::try_from(others).unwrap_or(i64::MAX))
    }
}
