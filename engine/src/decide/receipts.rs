//! How the changes of a row came here: when, who brought them, and what tells when they were
//! written. Authors claim what they like; this is what this device saw.

use std::collections::HashMap;

use serde::Serialize;
use storysync_crdt::{Change, Dated, DeviceKey, Document, Receipt, Stamp, Value, key};

use crate::error::TransactionError;
use crate::store::log::{self, Received};
use crate::store::peers::{self, Peer};
use crate::store::rows::RowId;
use crate::transaction::Transaction;
use crate::trust::identity::DeviceId;

/// Who wrote a change, and when, as it claims; who brought it, and when, as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChangeReport {
    /// Names the change on every device, hexadecimal.
    pub change: String,
    /// PeerId of the device it names as its author; null when it was there before storysync.
    pub device: Option<String>,
    /// When its author says it was written: RFC 3339, UTC; null when that is no time.
    pub at: Option<String>,
    /// What it says instead of a time.
    pub claimed: Option<String>,
    /// PeerId of the device that brought it; null when it was written here.
    pub brought_by: Option<String>,
    /// When it came: RFC 3339, UTC; null when it was written here.
    pub received_at: Option<String>,
    /// Whether the device had it when the two first met.
    pub first_contact: bool,
}

impl ChangeReport {
    pub(super) fn of(change: &Change, receipt: Option<&Receipt>) -> Self {
        let told = |key: DeviceKey| DeviceId::of_key(&key).to_string();
        let claim = change.value(key::UPDATED_AT).and_then(Value::as_text);
        let at = claim.and_then(Stamp::parse);
        let came = receipt.filter(|receipt| receipt.by.is_some());
        Self {
            change: change.hash().to_hex(),
            device: change.actor().device().map(told),
            at: at.map(Stamp::to_rfc3339),
            claimed: claim.filter(|_| at.is_none()).map(str::to_owned),
            brought_by: came.and_then(|receipt| receipt.by).map(told),
            received_at: came.map(|receipt| receipt.at.to_rfc3339()),
            first_contact: receipt.is_some_and(|receipt| receipt.dated == Dated::FirstContact),
        }
    }
}

/// The devices changes came from, and when we met them.
pub(super) struct Bringers {
    own: Option<DeviceKey>,
    by_peer: HashMap<i64, (DeviceKey, Peer)>,
    by_key: HashMap<DeviceKey, i64>,
}

impl Bringers {
    /// How each change of a document came.
    pub(super) fn receipts(&self, document: &Document, received: &[Received]) -> Vec<Receipt> {
        let changes = document.changes().iter().zip(received);
        changes.map(|(change, received)| self.receipt(change, received)).collect()
    }

    fn receipt(&self, change: &Change, received: &Received) -> Receipt {
        let at = Stamp::from_unix_ms(received.admitted_at);
        let author = change.actor().device();
        // What a client without automerge pushed was written here in its name.
        let plain = || author.filter(|_| author != self.own).and_then(|key| self.by_key.get(&key));
        let peer = received.came_from.or_else(|| plain().copied());
        match peer.and_then(|peer| self.by_peer.get(&peer)) {
            Some((key, peer)) => {
                let is_first = peer.is_first_contact(received.seq, received.admitted_at);
                let dated = if is_first { Dated::FirstContact } else { Dated::ByReceipt };
                Receipt { at, by: Some(*key), dated }
            }
            // A peer nobody has the key of: an old server's.
            None if received.came_from.is_some() => {
                Receipt { at, by: None, dated: Dated::ByReceipt }
            }
            None => Receipt { at, by: None, dated: Dated::Here },
        }
    }
}

impl Transaction<'_> {
    pub(super) fn bringers(&self) -> Result<Bringers, TransactionError> {
        let mut by_peer = HashMap::new();
        for (device_id, peer) in peers::all(self.connection)? {
            if let Some(key) = DeviceId::parse(&device_id).and_then(|id| id.key()) {
                by_peer.insert(peer.id, (key, peer));
            }
        }
        let by_key = by_peer.iter().map(|(id, (key, _))| (*key, *id)).collect();
        Ok(Bringers { own: self.actor.device(), by_peer, by_key })
    }

    /// How the changes of a row came, and its document.
    pub(super) fn receipts_of(
        &mut self,
        id: RowId,
        bringers: &Bringers,
    ) -> Result<Vec<Receipt>, TransactionError> {
        let received = log::receipts(self.connection, id)?;
        Ok(bringers.receipts(self.document(id)?, &received))
    }
}
