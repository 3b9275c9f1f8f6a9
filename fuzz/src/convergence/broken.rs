//! Merges that are wrong on purpose: scripts that do not find them prove nothing.

use super::*;

/// Shows the value that came last here.
#[derive(Debug)]
pub struct ByArrival;

impl Merge for ByArrival {
    fn shown(documents: &BTreeMap<EntityId, Document>, shape: &Shape) -> Shown {
        rewritten(documents, shape, |document, name| {
            let register = document.register(name)?;
            register.visible().iter().max_by_key(|put| put.change).map(|put| put.value().clone())
        })
    }
}

/// Shows a winner and reports nothing.
#[derive(Debug)]
pub struct Silent;

impl Merge for Silent {
    fn shown(documents: &BTreeMap<EntityId, Document>, shape: &Shape) -> Shown {
        let mut shown = storysync_crdt::shown(documents, shape);
        for conflicts in shown.conflicts.values_mut() {
            conflicts.retain(|conflict| conflict.kind != ConflictKind::Field);
        }
        shown
    }
}

/// Lets a deletion win over an edit that did not know of it.
#[derive(Debug)]
pub struct DeleteWins;

impl Merge for DeleteWins {
    fn shown(documents: &BTreeMap<EntityId, Document>, shape: &Shape) -> Shown {
        let mut shown = storysync_crdt::shown(documents, shape);
        for (id, document) in documents {
            if document
                .register(key::DELETED_AT)
                .and_then(|register| register.winner())
                .is_some_and(|put| !put.value().is_null())
            {
                shown.rows.insert(id.clone(), Standing::Gone);
                shown.conflicts.remove(id);
            }
        }
        shown
    }
}

fn rewritten(
    documents: &BTreeMap<EntityId, Document>,
    shape: &Shape,
    read: impl Fn(&Document, &str) -> Option<Value>,
) -> Shown {
    let mut shown = storysync_crdt::shown(documents, shape);
    for (id, standing) in &mut shown.rows {
        if let Standing::Stands(row) = standing {
            let names: BTreeSet<String> = row.fields.keys().cloned().collect();
            for name in names {
                if let Some(value) = read(&documents[id], &name) {
                    row.fields.insert(name, value);
                }
            }
        }
    }
    shown
}
