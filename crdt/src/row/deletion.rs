//! Whether a row is deleted: a deletion counts while no edit stands that its author had not read.

use super::echoed;
use crate::document::Visible;
use crate::sameness::is_kept_by_app;
use crate::{Change, ChangeHash, Document, EditPurpose, NOWHERE, Op, Register, Value, key};
use std::collections::{BTreeMap, HashSet};

/// How a row was deleted. It travels: an app that removes rows makes them disappear elsewhere, an
/// app that sets `deleted_at` gets `deleted_at` set elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeletionKind {
    /// The app removed the row.
    Hard,
    /// The app set `deleted_at`.
    Soft,
}

impl DeletionKind {
    /// The word under [`key::DELETE_KIND`].
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hard => "hard",
            Self::Soft => "soft",
        }
    }
}

/// A deletion that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// `deleted_at` as its author wrote it.
    pub at: Value,
    /// How.
    pub kind: DeletionKind,
}

/// A row is deleted when a delete is visible and every edit is an ancestor of a visible delete, or
/// was made to the row while it was marked as deleted: whoever typed something into it without
/// knowing of the delete keeps it alive.
///
/// Between concurrent deletes of both kinds the row is removed only if the removals alone cover
/// every edit: what somebody typed into a row marked as deleted, which apps still show, stays
/// readable.
#[must_use]
pub fn deletion(document: &Document) -> Option<Deletion> {
    let deletes = visible_deletes(document);
    let winner = deletes.last()?;
    if uncovered_edits(document, &deletes).next().is_some() {
        return None;
    }
    let (hard, soft): (Vec<&Visible>, Vec<&Visible>) =
        deletes.iter().copied().partition(|put| is_hard(document, put));
    match soft.last() {
        Some(soft) if hard.is_empty() || uncovered_edits(document, &hard).next().is_some() => {
            Some(Deletion { at: soft.value().clone(), kind: DeletionKind::Soft })
        }
        _ => Some(Deletion { at: winner.value().clone(), kind: DeletionKind::Hard }),
    }
}

pub(super) fn is_hard(document: &Document, delete: &Visible) -> bool {
    let kind = document
        .changes()
        .get(delete.change)
        .and_then(|change| change.value(key::DELETE_KIND))
        .and_then(Value::as_text);
    kind == Some(DeletionKind::Hard.as_str())
}

/// The deletes nobody has replaced, in ascending order.
pub(crate) fn visible_deletes(document: &Document) -> Vec<&Visible> {
    document
        .register(key::DELETED_AT)
        .into_iter()
        .flat_map(Register::visible)
        .filter(|put| !put.value().is_null())
        .collect()
}

/// The edits that no visible delete knew, and that were not made to a row marked as deleted. Who
/// writes into a row that was removed sees it alive for some other reason, so the removal does not
/// speak for them.
pub(crate) fn uncovered_edits<'a>(
    document: &'a Document,
    deletes: &[&Visible],
) -> impl Iterator<Item = &'a Change> {
    let delete_hashes: Vec<ChangeHash> = deletes
        .iter()
        .filter_map(|put| document.changes().get(put.change))
        .map(Change::hash)
        .collect();
    let known_to_deletes = document.ancestors(&delete_hashes);
    let marked: Vec<ChangeHash> = deletes
        .iter()
        .filter(|put| !is_hard(document, put))
        .filter_map(|put| document.changes().get(put.change))
        .map(Change::hash)
        .collect();
    let knows_delete = descendants(document, &marked);
    let known_geneses: Vec<&Change> = document
        .changes()
        .iter()
        .filter(|change| change.is_genesis() && known_to_deletes.contains(&change.hash()))
        .collect();
    document
        .changes()
        .iter()
        .filter(move |change| {
            !known_to_deletes.contains(&change.hash()) && !knows_delete.contains(&change.hash())
        })
        .filter(move |change| {
            if change.is_genesis() {
                !known_geneses.iter().any(|known| same_columns(known, change))
            } else {
                is_edit(document, change)
            }
        })
}

pub(super) fn descendants(document: &Document, of: &[ChangeHash]) -> HashSet<ChangeHash> {
    let mut found: HashSet<ChangeHash> = of.iter().copied().collect();
    // Dependencies stand before their dependants, so one pass finds all.
    for change in document.changes() {
        if change.deps().iter().any(|dep| found.contains(dep)) {
            found.insert(change.hash());
        }
    }
    found
}

/// Whether somebody wrote something: changes only to version, times and what the app keeps by
/// itself, references that lead nowhere, columns the app gained and values nobody typed are no
/// edits. Bringing a row back is one.
pub(super) fn is_edit(document: &Document, change: &Change) -> bool {
    let leads_nowhere =
        |op: &Op| op.value.as_text() == Some(NOWHERE) && lists(change, key::NOWHERE, &op.key);
    EditPurpose::of(change).is_edit()
        && change.ops().iter().enumerate().any(|(place, op)| {
            if *op.key == *key::DELETED_AT {
                return op.value.is_null();
            }
            !key::is_bookkeeping(&op.key)
                && !is_kept_by_app(&op.key)
                && !leads_nowhere(op)
                && echoed(document, change, &change.op_id(place), op).is_none()
        })
}

/// Whether a change names a column under one of our own keys.
pub(super) fn lists(change: &Change, list: &str, column: &str) -> bool {
    change
        .value(list)
        .and_then(Value::as_text)
        .is_some_and(|names| names.split(',').any(|name| name == column))
}

pub(super) fn same_columns(a: &Change, b: &Change) -> bool {
    fn columns(change: &Change) -> BTreeMap<&str, &Value> {
        change
            .ops()
            .iter()
            .filter(|op| !key::is_bookkeeping(&op.key))
            .map(|op| (&*op.key, &op.value))
            .collect()
    }
    columns(a) == columns(b)
}
