//! Values of which a table holds one: which row shows it, and which stands behind.

use super::{Shape, TableShape, tables_in_order, target};
use crate::conflict::attributed;
use crate::document::Visible;
use crate::row::shown as shown_put;
use crate::{
    Conflict, ConflictKind, ConflictValue, Document, EntityId, FieldConflict, Row, SyncUuid, Value,
    is_kept_by_app, says_the_same,
};
use std::collections::{BTreeMap, BTreeSet};

/// The rows that wait behind others, each with the one that stays and the columns they contest.
pub(super) type Behind<'a> = BTreeMap<&'a EntityId, (&'a EntityId, Vec<String>)>;

/// Who stays where two rows have the same unique values: the smaller uuid.
pub(super) fn contests<'a>(
    standing: &BTreeSet<&'a EntityId>,
    rows: &BTreeMap<&'a EntityId, Row>,
    shape: &Shape,
) -> Behind<'a> {
    let mut behind: Behind<'_> = BTreeMap::new();
    for table in tables_in_order(shape) {
        let Some(table_shape) = shape.get(table).filter(|shape| !shape.uniques.is_empty()) else {
            continue;
        };
        let mut held: BTreeMap<(usize, Vec<KeyPart>), &EntityId> = BTreeMap::new();
        // Entities are sorted by table and uuid, so the smallest uuid comes first.
        for id in standing.iter().copied().filter(|id| id.table == *table) {
            let Some(row) = rows.get(id) else { continue };
            let stand_in = |target: &EntityId| {
                behind.get(target).map_or_else(|| target.clone(), |(winner, _)| (*winner).clone())
            };
            let keys: Vec<(usize, Vec<KeyPart>)> = table_shape
                .uniques
                .iter()
                .enumerate()
                .filter_map(|(number, columns)| {
                    Some((
                        number,
                        unique_key(
                            id,
                            row,
                            table_shape,
                            columns,
                            |target| standing.contains(target),
                            stand_in,
                        )?,
                    ))
                })
                .collect();
            let winner = keys.iter().filter_map(|key| Some((*held.get(key)?, key.0))).min();
            match winner {
                Some((winner, number)) => {
                    let columns = table_shape.uniques.get(number).cloned().unwrap_or_default();
                    behind.insert(id, (winner, columns));
                }
                None => held.extend(keys.into_iter().map(|key| (key, id))),
            }
        }
    }
    behind
}

/// What is told of rows that stand behind others; of two that say the same, nothing.
pub(super) fn unique_conflicts<'a>(
    behind: &Behind<'a>,
    documents: &BTreeMap<&EntityId, &Document>,
    rows: &BTreeMap<&EntityId, Row>,
    shape: &Shape,
) -> Vec<(&'a EntityId, Conflict)> {
    let mut found = Vec::new();
    for (loser, (winner, columns)) in behind {
        let (Some(waiting), Some(staying)) = (rows.get(loser), rows.get(winner)) else { continue };
        let stand_in = |column: &str, uuid: &SyncUuid| {
            let reference = shape.get(&loser.table).and_then(|table| {
                table.references.iter().find(|reference| reference.column == column)
            });
            let target = reference
                .map(|reference| EntityId { table: reference.table.clone(), uuid: uuid.clone() });
            target.and_then(|target| behind.get(&target).map(|(winner, _)| winner.uuid.clone()))
        };
        if are_twins(waiting, staying, stand_in) {
            continue;
        }
        if let (Some(losing), Some(winning)) = (documents.get(loser), documents.get(winner)) {
            found.push((*loser, unique_conflict(losing, winner, winning, columns)));
        }
    }
    found
}

/// The row with references to rows that stand behind others replaced by those others.
pub(super) fn led_to_winners(
    mut row: Row,
    id: &EntityId,
    behind: &Behind<'_>,
    shape: &Shape,
) -> Row {
    for reference in shape.get(&id.table).into_iter().flat_map(|table| &table.references) {
        if let Some(target) = target(&row, reference)
            && let Some((winner, _)) = behind.get(&target)
        {
            row.fields.insert(reference.column.clone(), Value::from(winner.uuid.as_str()));
        }
    }
    row
}

/// Whether two rows with the same unique values say the same in everything: made on two devices,
/// they are one to whoever reads them, and nobody need be asked. `stand_in` tells which row stands
/// in the place of one that is referred to by a column.
#[must_use]
pub fn are_twins(
    one: &Row,
    other: &Row,
    stand_in: impl Fn(&str, &SyncUuid) -> Option<SyncUuid>,
) -> bool {
    let names: BTreeSet<&String> = one.fields.keys().chain(other.fields.keys()).collect();
    let value = |row: &Row, name: &str| {
        let value = row.fields.get(name).cloned().unwrap_or(Value::Null);
        let stands =
            value.as_text().and_then(SyncUuid::parse).and_then(|uuid| stand_in(name, &uuid));
        stands.map_or(value, |uuid| Value::from(uuid.as_str()))
    };
    names
        .into_iter()
        .filter(|name| !is_kept_by_app(name))
        .all(|name| says_the_same(&value(one, name), &value(other, name)))
}

/// One column of a unique key, comparable.
pub(super) type KeyPart = Vec<u8>;

/// The values a row holds under a unique constraint; `None` when one is NULL, which conflicts with
/// nothing.
pub(super) fn unique_key(
    id: &EntityId,
    row: &Row,
    shape: &TableShape,
    columns: &[String],
    stands: impl Fn(&EntityId) -> bool,
    stand_in: impl Fn(&EntityId) -> EntityId,
) -> Option<Vec<KeyPart>> {
    let mut parts = Vec::with_capacity(columns.len());
    for column in columns {
        let value = row.fields.get(column).filter(|value| !value.is_null());
        let reference = shape.references.iter().find(|reference| reference.column == *column);
        let mut part = Vec::new();
        match (value, reference) {
            (None, None) => return None,
            (Some(value), None) => value.write_canonical(&mut part),
            (_, Some(reference)) => match target(row, reference) {
                Some(target) if stands(&target) => {
                    Value::from(stand_in(&target).uuid.as_str()).write_canonical(&mut part)
                }
                Some(target) if reference.required => {
                    Value::from(target.uuid.as_str()).write_canonical(&mut part)
                }
                // Leads nowhere: no other row leads to the same nowhere.
                None if reference.required => {
                    Value::from(id.uuid.as_str()).write_canonical(&mut part)
                }
                _ => return None,
            },
        }
        parts.push(part);
    }
    Some(parts)
}

/// The conflict of a row that waits behind another with the same unique values. Its own value comes
/// first, the value of the row that stays last.
#[must_use]
pub fn unique_conflict(
    waiting: &Document,
    winner: &EntityId,
    winning: &Document,
    columns: &[String],
) -> Conflict {
    let value_of = |document: &Document, column: &str| -> ConflictValue {
        let put: Option<&Visible> =
            document.register(column).and_then(|register| shown_put(document, column, register));
        put.map_or(
            ConflictValue { value: Value::Null, device: None, at: None, change: None },
            |put| attributed(document, put),
        )
    };
    let fields = columns
        .iter()
        .map(|column| {
            let (waits, stays) = (value_of(waiting, column), value_of(winning, column));
            FieldConflict {
                name: column.clone(),
                base: Value::Null,
                shown: stays.value.clone(),
                values: vec![waits, stays],
            }
        })
        .collect();
    Conflict { kind: ConflictKind::Unique, fields, others: vec![winner.clone()] }
}
