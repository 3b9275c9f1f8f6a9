//! What becomes of conflicts with rows that clients without automerge push, where the settings say
//! it at once.

use std::collections::BTreeMap;

use storysync_crdt::{Conflict, ConflictKind, ConflictValue, DeviceKey, FieldConflict, Stamp};

use super::Reception;
use crate::decide::resolve::{Choice, Take};
use crate::error::TransactionError;
use crate::store::rows::{self, RowId};

/// What becomes of conflicts in rows that clients without automerge push. Only such: of two
/// replicas, each would decide for itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PushedConflicts {
    /// They wait for a decision.
    #[default]
    StayOpen,
    /// What stands here is taken.
    DesktopWins,
    /// What the client sent is taken.
    MobileWins,
    /// What was written later is taken.
    LaterWins,
}

impl PushedConflicts {
    /// The documented word for what was done.
    pub(crate) fn resolution(self) -> &'static str {
        match self {
            Self::StayOpen => "manual",
            Self::DesktopWins => "desktop_wins",
            Self::MobileWins => "mobile_wins",
            Self::LaterWins => "timestamp",
        }
    }
}

/// A conflict a push led to that was decided at once.
#[derive(Debug, Clone)]
pub(crate) struct DecidedConflict {
    pub(crate) row: RowId,
    /// As it was before.
    pub(crate) conflict: Conflict,
    /// By which rule.
    pub(crate) rule: PushedConflicts,
}

impl Reception<'_, '_> {
    /// Decides what conflicts in rows a client has just pushed, where the settings say so; what two
    /// values of a field do not settle (a name that is taken, a value this table refuses) waits for
    /// a person all the same. The decision is an edit of this device's.
    pub(super) fn decide_pushed(
        &mut self,
        pushed: &[RowId],
    ) -> Result<Vec<DecidedConflict>, TransactionError> {
        let (
            PushedConflicts::DesktopWins | PushedConflicts::MobileWins | PushedConflicts::LaterWins,
            Some(device),
        ) = (self.sender.conflicts, self.sender.device)
        else {
            return Ok(Vec::new());
        };
        let mut decided = Vec::new();
        for row in pushed {
            let record = rows::get(self.connection, *row)?;
            if record.conflicts == 0 {
                continue;
            }
            for conflict in self.conflicts(&record)? {
                let Some(choice) = choice_between(&conflict, self.sender.conflicts, device) else {
                    continue;
                };
                let record = rows::get(self.connection, *row)?;
                match self.decide(&record, &conflict, &choice, &device) {
                    Ok(()) => decided.push(DecidedConflict {
                        row: *row,
                        conflict,
                        rule: self.sender.conflicts,
                    }),
                    // It is told, and waits.
                    Err(TransactionError::Engine(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(decided)
    }
}

/// What a rule takes of a conflict with what `device` pushed; `None` for what it does not settle.
fn choice_between(conflict: &Conflict, rule: PushedConflicts, device: DeviceKey) -> Option<Choice> {
    let is_mobile = |value: &ConflictValue| value.device == Some(device);
    let taken = |field: &FieldConflict| match rule {
        PushedConflicts::StayOpen => None,
        PushedConflicts::DesktopWins => {
            field.values.iter().rfind(|value| !is_mobile(value)).cloned()
        }
        PushedConflicts::MobileWins => field.values.iter().rfind(|value| is_mobile(value)).cloned(),
        PushedConflicts::LaterWins => {
            field.values.iter().max_by_key(|value| value.at.map(Stamp::unix_ms)).cloned()
        }
    };
    match conflict.kind {
        ConflictKind::Field => {
            let fields = conflict
                .fields
                .iter()
                .map(|field| Some((field.name.clone(), taken(field)?.value)))
                .collect::<Option<BTreeMap<_, _>>>()?;
            Some(Choice { take: None, fields })
        }
        // Whoever deletes comes first, whoever edits after them.
        ConflictKind::DeleteEdit => {
            let field = conflict.fields.first()?;
            let is_deletion = taken(field)? == *field.values.first()?;
            Some(Choice {
                take: Some(if is_deletion { Take::Delete } else { Take::Keep }),
                fields: BTreeMap::new(),
            })
        }
        ConflictKind::Orphan | ConflictKind::Unique | ConflictKind::Ring | ConflictKind::Schema => {
            None
        }
    }
}
