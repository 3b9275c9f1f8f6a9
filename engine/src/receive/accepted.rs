//! What became of a push, as its sender is told: how the rows stand now, and what conflicts in
//! them, in the documented shape. Read off in the transaction that took the rows in, whose
//! documents are at hand.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use storysync_crdt::{Conflict, DeviceKey, EntityId, row, row_head};

use crate::app::profile::table_of_entity_type;
use crate::error::TransactionError;
use crate::exchange::pages;
use crate::exchange::wire::{AcceptedState, PushConflict, RowChange};
use crate::receive::{DecidedConflict, Incoming, PushedConflicts, Receipt};
use crate::report::conflict_reports;
use crate::store::rows::{self, RowId, RowRecord};
use crate::transaction::Transaction;
use crate::translate::to_json_of;
use crate::trust::identity::DeviceId;

/// Bytes of conflicts, as JSON, after which a reply lists no more: they can be asked for.
const CONFLICTS_REPLIED_BYTES_MAX: usize = 2 * 1024 * 1024;

/// How the rows of a push stand.
#[derive(Debug, Clone, Default)]
pub struct Accepted {
    /// Every row that was taken in, or said nothing new.
    pub states: Vec<AcceptedState>,
    /// What conflicts in them, up to 2 MiB of it.
    pub conflicts: Vec<PushConflict>,
}

/// One row's part of the reply.
struct Told {
    state: AcceptedState,
    conflicts: Vec<PushConflict>,
    conflicts_bytes: usize,
}

/// Gathers the reply while a push is taken in, slice by slice.
pub(crate) struct Telling<'a> {
    pushed: HashMap<(&'a str, &'a str), &'a RowChange>,
    device: Option<DeviceKey>,
    rows: BTreeMap<RowId, Told>,
    conflicts_bytes: usize,
}

impl<'a> Telling<'a> {
    pub(crate) fn of(pushed: &'a [Incoming], device_id: &str) -> Self {
        let named = |incoming: &'a Incoming| {
            (
                (incoming.change.entity_type.as_str(), incoming.change.sync_uuid.as_str()),
                &incoming.change,
            )
        };
        Self {
            // Of a row pushed twice, the first is answered.
            pushed: pushed.iter().rev().map(named).collect(),
            device: DeviceId::parse(device_id).and_then(|id| id.key()),
            rows: BTreeMap::new(),
            conflicts_bytes: 0,
        }
    }

    /// Reads off the rows of a slice, and those of earlier ones that it wrote once more.
    pub(crate) fn tell(
        &mut self,
        transaction: &mut Transaction<'_>,
        slice: &Receipt,
    ) -> Result<(), TransactionError> {
        for arrived in &slice.arrived {
            let state = AcceptedState {
                entity_type: arrived.table.as_ref().to_owned(),
                sync_uuid: arrived.uuid.as_str().to_owned(),
                entity_id: Some(arrived.local_id),
                version: arrived.version,
                updated_at: pages::rfc3339(&arrived.updated_at),
            };
            self.replace(arrived.id, Told { state, conflicts: Vec::new(), conflicts_bytes: 0 });
        }
        let again = transaction.projected.iter().filter(|id| self.rows.contains_key(id));
        let ids: BTreeSet<RowId> = slice
            .rows
            .iter()
            .filter(|id| !self.rows.contains_key(id))
            .chain(&slice.unchanged)
            .chain(again)
            .copied()
            .collect();
        for id in ids {
            let record = rows::get(transaction.connection, id)?;
            let entity = transaction.entity(&record)?;
            let merged = row_head(transaction.document(id)?);
            let state = AcceptedState {
                entity_type: entity.table.as_str().to_owned(),
                sync_uuid: entity.uuid.as_str().to_owned(),
                entity_id: record.local_id.filter(|_| record.present),
                version: merged.version,
                updated_at: pages::rfc3339(&merged.updated_at),
            };
            let decided: Vec<&DecidedConflict> =
                slice.decided.iter().filter(|decided| decided.row == id).collect();
            let listed = (record.conflicts > 0 || !decided.is_empty())
                && self.conflicts_bytes < CONFLICTS_REPLIED_BYTES_MAX;
            let conflicts = if listed {
                self.conflicts(transaction, &record, &entity, &decided)?
            } else {
                Vec::new()
            };
            let conflicts_bytes = conflicts
                .iter()
                .map(|conflict| serde_json::to_vec(conflict).map_or(0, |json| json.len()))
                .sum();
            self.replace(id, Told { state, conflicts, conflicts_bytes });
        }
        Ok(())
    }

    fn replace(&mut self, id: RowId, told: Told) {
        self.conflicts_bytes = self.conflicts_bytes.saturating_add(told.conflicts_bytes);
        if let Some(before) = self.rows.insert(id, told) {
            self.conflicts_bytes = self.conflicts_bytes.saturating_sub(before.conflicts_bytes);
        }
    }

    /// The conflicts of one row: those that were decided at once, and those that wait.
    fn conflicts(
        &self,
        transaction: &mut Transaction<'_>,
        record: &RowRecord,
        entity: &EntityId,
        decided: &[&DecidedConflict],
    ) -> Result<Vec<PushConflict>, TransactionError> {
        let mut conflicts: Vec<Conflict> =
            decided.iter().map(|decided| decided.conflict.clone()).collect();
        let mut resolutions: Vec<&str> =
            decided.iter().map(|decided| decided.rule.resolution()).collect();
        conflicts.extend(transaction.conflicts(record)?);
        resolutions.resize(conflicts.len(), PushedConflicts::StayOpen.resolution());
        let schema = std::sync::Arc::clone(&transaction.schema);
        let document = transaction.document(record.id)?;
        let merged = row(document);
        let table = schema.table(entity.table.as_str());
        let is_pushed = |called: &str, uuid: &str| {
            uuid == entity.uuid.as_str()
                && table_of_entity_type(&schema, called) == entity.table.as_str()
        };
        let literally = self.pushed.get(&(entity.table.as_str(), entity.uuid.as_str()));
        let pushed = literally
            .or_else(|| {
                self.pushed
                    .iter()
                    .find(|((called, uuid), _)| is_pushed(called, uuid))
                    .map(|(_, change)| change)
            })
            .copied();
        let data = pages::data(table, document, &merged);
        let with = |conflict: &Conflict, mobile: bool| {
            let mut data = data.clone();
            for field in &conflict.fields {
                let value = field
                    .values
                    .iter()
                    .rfind(|value| (value.device == self.device) == mobile)
                    .map_or(&field.shown, |value| &value.value);
                data.insert(field.name.clone(), to_json_of(table, &field.name, value));
            }
            data
        };
        let found =
            conflicts.iter().zip(conflict_reports(table, entity, &conflicts)).zip(resolutions).map(
                |((conflict, report), resolution)| PushConflict {
                    id: report.id,
                    kind: report.kind,
                    entity_type: report.entity_type,
                    entity_id: record.local_id.filter(|_| record.present),
                    sync_uuid: report.sync_uuid,
                    mobile_version: pushed.map_or(merged.version, |change| change.version),
                    desktop_version: merged.version,
                    mobile_updated_at: pushed.and_then(|change| change.updated_at.clone()),
                    desktop_updated_at: pages::rfc3339(&merged.updated_at),
                    mobile_data: with(conflict, true),
                    desktop_data: with(conflict, false),
                    resolution: resolution.to_owned(),
                    fields: serde_json::to_value(&report.fields).unwrap_or_default(),
                },
            );
        Ok(found.collect())
    }

    pub(crate) fn finish(self) -> Accepted {
        let mut accepted = Accepted::default();
        for told in self.rows.into_values() {
            accepted.states.push(told.state);
            accepted.conflicts.extend(told.conflicts);
        }
        accepted
    }
}
