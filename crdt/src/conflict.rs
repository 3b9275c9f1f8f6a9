//! What conflicted: found in a document, never written into it. A conflict ends when someone writes
//! the field, because that change replaces every value that was visible.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::document::Visible;
use crate::row::{
    common_base, contenders, deletion, reading, shown, uncovered_edits, visible_deletes, written_at,
};
use crate::value::write_length_prefixed;
use crate::{Change, ChangeHash, DeviceKey, Document, EntityId, Register, Stamp, Value, key};

/// What kind of conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConflictKind {
    /// One field, written differently on two devices.
    Field,
    /// Deleted on one device, edited on another.
    DeleteEdit,
    /// Deleted on one device, required by a row another device wrote.
    Orphan,
    /// Another row has the same unique values.
    Unique,
    /// Two moves that together make a cycle.
    Ring,
    /// A value this device's table refuses. Local: no other device need see it.
    Schema,
}

impl ConflictKind {
    /// The word in every interface.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Field => "field",
            Self::DeleteEdit => "delete_edit",
            Self::Orphan => "orphan",
            Self::Unique => "unique",
            Self::Ring => "ring",
            Self::Schema => "schema",
        }
    }
}

/// Names a conflict, the same on all devices: one per row and kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConflictId(String);

impl ConflictId {
    /// Sixteen hexadecimal digits of SHA-256 over the entity and the kind.
    #[must_use]
    pub fn of(entity: &EntityId, kind: ConflictKind) -> Self {
        let mut content = b"storysync/1 conflict\0".to_vec();
        for part in [entity.table.as_str(), entity.uuid.as_str(), kind.as_str()] {
            write_length_prefixed(part.as_bytes(), &mut content);
        }
        Self(Sha256::digest(&content).iter().take(8).map(|byte| format!("{byte:02x}")).collect())
    }
}

impl fmt::Display for ConflictId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One of the values that conflict.
#[derive(Debug, Clone, PartialEq)]
pub struct ConflictValue {
    /// The value; references as the target's `sync_uuid`.
    pub value: Value,
    /// The device that wrote it; `None` when it was there before storysync.
    pub device: Option<DeviceKey>,
    /// When its author says it was written.
    pub at: Option<Stamp>,
    /// The change that wrote it; `None` where it stands for no single one.
    pub change: Option<ChangeHash>,
}

/// One field of a conflict.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldConflict {
    /// The column, or `deleted_at`.
    pub name: String,
    /// The value all sides had before; NULL when there was none.
    pub base: Value,
    /// Every differing value, the shown one last.
    pub values: Vec<ConflictValue>,
    /// What the row shows meanwhile.
    pub shown: Value,
}

/// A conflict in one row.
#[derive(Debug, Clone, PartialEq)]
pub struct Conflict {
    /// What conflicted.
    pub kind: ConflictKind,
    /// In which fields.
    pub fields: Vec<FieldConflict>,
    /// The other rows it is about: those that require a deleted one, the one that has the name,
    /// those of a circle.
    pub others: Vec<EntityId>,
}

/// Finds the conflicts of a document. Pure, and the same on every device that holds the same
/// changes.
#[must_use]
pub fn conflicts(document: &Document) -> Vec<Conflict> {
    // A row whose deletion stands: values that whoever deleted it had seen need no decision any
    // more.
    let seen = deletion(document).map(|_| {
        let deletes: Vec<ChangeHash> = visible_deletes(document)
            .iter()
            .filter_map(|put| document.changes().get(put.change))
            .map(Change::hash)
            .collect();
        document.ancestors(&deletes)
    });
    let is_seen = |put: &Visible| {
        document
            .changes()
            .get(put.change)
            .is_some_and(|change| seen.as_ref().is_some_and(|seen| seen.contains(&change.hash())))
    };
    let conflicting: Vec<FieldConflict> = document
        .registers()
        .filter(|(name, register)| {
            !key::is_bookkeeping(name) && !register.visible().iter().all(is_seen)
        })
        .filter_map(|(name, register)| field_conflict(document, name, register))
        .collect();
    let mut found = Vec::new();
    if !conflicting.is_empty() {
        found.push(Conflict { kind: ConflictKind::Field, fields: conflicting, others: Vec::new() });
    }
    found.extend(delete_edit_conflict(document));
    found
}

fn field_conflict(document: &Document, name: &str, register: &Register) -> Option<FieldConflict> {
    if register.visible().len() < 2 {
        return None;
    }
    if !reading(document, name, register)?.conflicts {
        return None;
    }
    let visible = contenders(document, register);
    let shown = shown(document, name, register)?;
    let mut values: Vec<ConflictValue> = Vec::new();
    // The shown value comes last; equal values are listed once, by their latest writer.
    for put in visible.iter().copied().filter(|put| put.op_id != shown.op_id).chain([shown]) {
        values.retain(|known| known.value != *put.value());
        values.push(attributed(document, put));
    }
    Some(FieldConflict {
        name: name.to_owned(),
        base: common_base(document, name, &visible),
        values,
        shown: shown.value().clone(),
    })
}

pub(crate) fn attributed(document: &Document, put: &Visible) -> ConflictValue {
    let change = document.changes().get(put.change);
    ConflictValue {
        value: put.value().clone(),
        device: change.and_then(|change| change.actor().device()),
        at: change.and_then(written_at),
        change: change.map(Change::hash),
    }
}

/// The visible deletion of a row as a conflict lists it, and all of its deletes.
pub(crate) fn deletion_values(document: &Document) -> Option<(Vec<ConflictValue>, Vec<&Visible>)> {
    let deletes = visible_deletes(document);
    let delete = deletes.last()?;
    Some((vec![attributed(document, delete)], deletes))
}

fn delete_edit_conflict(document: &Document) -> Option<Conflict> {
    let (mut values, deletes) = deletion_values(document)?;
    // The latest of them; the order of arrival differs from device to device and must not count.
    let edit: &Change =
        uncovered_edits(document, &deletes).max_by_key(|edit| (written_at(edit), edit.hash()))?;
    values.push(ConflictValue {
        value: Value::Null,
        device: edit.actor().device(),
        at: written_at(edit),
        change: Some(edit.hash()),
    });
    Some(Conflict {
        kind: ConflictKind::DeleteEdit,
        fields: vec![FieldConflict {
            name: key::DELETED_AT.to_owned(),
            base: Value::Null,
            values,
            shown: Value::Null,
        }],
        others: Vec::new(),
    })
}
