//! What each device was told of this node last, and where the file stood then.

use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

use storysync_engine::trust::identity::DeviceId;
use storysync_engine::{FileMoment, Status, WriteSensor};

/// How this node stood for a device when its Engine last said.
#[derive(Debug, Clone)]
pub(super) struct ToldStatus {
    pub(super) status: Status,
    /// Changes the device was not told of.
    pub(super) pending: i64,
    /// Where the file stood before the Engine was asked.
    pub(super) moment: Option<FileMoment>,
    pub(super) at: Instant,
}

/// What each device was told last.
#[derive(Debug)]
pub(super) struct ToldStatuses {
    sensor: WriteSensor,
    pub(super) last: HashMap<DeviceId, ToldStatus>,
}

impl ToldStatuses {
    pub(super) fn of(database: &Path) -> Self {
        Self { sensor: WriteSensor::of(database), last: HashMap::new() }
    }

    /// The device is about to be known better: what it was told counts only while the Engine is
    /// busy.
    pub(super) fn outdate(&mut self, device: &DeviceId) {
        if let Some(last) = self.last.get_mut(device) {
            last.moment = None;
        }
    }

    /// Where the file stands, and what the device was told when it stood there already.
    pub(super) fn look(&mut self, device: &DeviceId) -> (Option<FileMoment>, Option<ToldStatus>) {
        let moment = self.sensor.look();
        let still = self.last.get(device).filter(|last| moment.is_some() && last.moment == moment);
        (moment, still.cloned())
    }
}
