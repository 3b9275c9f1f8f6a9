//! What a document shows as a row. The rules are the table in docs/merging.md; this file owns
//! values, the four sync fields and the question whether a row is deleted.

mod deletion;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};

use crate::document::Visible;
use crate::sameness::{is_kept_by_app, says_nothing, says_the_same};
use crate::{
    Change, ChangeHash, Document, EditPurpose, Op, OpId, Register, Stamp, UNKNOWN_STAMP, Value, key,
};
use deletion::lists;
pub use deletion::{Deletion, DeletionKind, deletion};
pub(crate) use deletion::{uncovered_edits, visible_deletes};

/// A merged row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The app's columns by name, references as the target's `sync_uuid`. A column that was never
    /// anything but NULL is missing.
    pub fields: BTreeMap<String, Value>,
    /// The earliest of the times its devices know; [`UNKNOWN_STAMP`] when none does.
    pub created_at: Value,
    /// The latest.
    pub updated_at: Value,
    /// Set when the row is deleted.
    pub deletion: Option<Deletion>,
    /// Highest version any genesis carries, plus one for each save that the other changes stand
    /// for.
    pub version: i64,
}

/// Reads a document's row. Pure: the same changes give the same row, in whatever order they came.
#[must_use]
pub fn row(document: &Document) -> Row {
    let fields = document
        .registers()
        .filter(|(name, _)| !key::is_bookkeeping(name))
        .filter_map(|(name, register)| {
            Some((name.to_owned(), reading(document, name, register)?.value))
        })
        .collect();
    Row {
        fields,
        created_at: stamp(document, key::CREATED_AT, Pick::Earliest),
        updated_at: stamp(document, key::UPDATED_AT, Pick::Latest),
        deletion: deletion(document),
        version: version(document),
    }
}

/// What one column of a document's row shows: [`Row::fields`] for one name.
#[must_use]
pub fn field(document: &Document, name: &str) -> Option<Value> {
    reading(document, name, document.register(name)?).map(|reading| reading.value)
}

/// A row's times, deletion and version, without its columns. Has nothing to do with
/// [`crate::Heads`].
#[derive(Debug, Clone, PartialEq)]
pub struct RowHead {
    /// See [`Row::created_at`].
    pub created_at: Value,
    /// See [`Row::updated_at`].
    pub updated_at: Value,
    /// See [`Row::deletion`].
    pub deletion: Option<Deletion>,
    /// See [`Row::version`].
    pub version: i64,
}

/// Reads a document's row without its columns.
#[must_use]
pub fn row_head(document: &Document) -> RowHead {
    RowHead {
        created_at: stamp(document, key::CREATED_AT, Pick::Earliest),
        updated_at: stamp(document, key::UPDATED_AT, Pick::Latest),
        deletion: deletion(document),
        version: version(document),
    }
}

/// The head of a document that is one first change, without making the document; `None` when that
/// change deletes the row, or is none. The same as [`row_head`] gives; the columns are what
/// [`Change::value`] gives.
#[must_use]
pub fn head_of_first(change: &Change) -> Option<RowHead> {
    if !change.is_genesis() || change.value(key::DELETED_AT).is_some_and(|at| !at.is_null()) {
        return None;
    }
    let time = |name: &str| {
        let known =
            change.value(name).filter(|value| value.as_text().and_then(Stamp::parse).is_some());
        known.cloned().unwrap_or_else(|| Value::from(UNKNOWN_STAMP))
    };
    Some(RowHead {
        created_at: time(key::CREATED_AT),
        updated_at: time(key::UPDATED_AT),
        deletion: None,
        version: 1.max(genesis_version(change)),
    })
}

/// What a register reads as, and whether somebody must decide.
pub(crate) struct Reading {
    pub(crate) value: Value,
    pub(crate) conflicts: bool,
}

/// Reads a register: one value, equal values, prose that merges, or a winner among values that
/// conflict.
pub(crate) fn reading(document: &Document, name: &str, register: &Register) -> Option<Reading> {
    let winner = shown(document, name, register)?;
    if register.visible().len() == 1 {
        return Some(Reading { value: winner.value().clone(), conflicts: false });
    }
    let contenders = contenders(document, register);
    // What apps filled in by themselves when they gained a column was typed by nobody, whatever it
    // says.
    let filled = |put: &&Visible| {
        document
            .changes()
            .get(put.change)
            .is_some_and(|change| EditPurpose::of(change) == EditPurpose::NewColumns)
    };
    if is_kept_by_app(name)
        || contenders.iter().all(filled)
        || contenders.iter().all(|put| says_the_same(put.value(), winner.value()))
    {
        return Some(Reading { value: winner.value().clone(), conflicts: false });
    }
    match merged_prose(document, name, &contenders) {
        Some(merged) => Some(Reading { value: Value::Text(merged), conflicts: false }),
        None => Some(Reading { value: winner.value().clone(), conflicts: true }),
    }
}

/// The text that keeps everybody's edits, when the column is prose and none of them touch.
fn merged_prose(document: &Document, name: &str, contenders: &[&Visible]) -> Option<String> {
    if !is_prose(document, name) {
        return None;
    }
    let base = common_base(document, name, contenders);
    let base = base.as_text()?;
    let (first, others) = contenders.split_first()?;
    let mut merged = first.value().as_text()?.to_owned();
    // In the order of their names, so that every device folds them alike.
    for put in others {
        merged = crate::merge_prose(base, &merged, put.value().as_text()?)?;
    }
    Some(merged)
}

/// Whether a column merges as prose, as the document noted at its creation.
#[must_use]
pub fn is_prose(document: &Document, name: &str) -> bool {
    document.register(key::PROSE).is_some_and(|register| {
        register
            .visible()
            .iter()
            .filter_map(|put| put.value().as_text())
            .any(|names| names.split(',').any(|prose| prose == name))
    })
}

/// What a field read as before its writers went apart: in the puts that every one of them replaced,
/// directly or by way of others. What somebody had not read they did not replace, also where their
/// change builds on it.
pub(crate) fn common_base(document: &Document, name: &str, puts: &[&Visible]) -> Value {
    let mut common: Option<HashSet<OpId>> = None;
    for put in puts {
        let Some(change) = document.changes().get(put.change) else { continue };
        let known = replaced_by(document, change, name);
        common = Some(match common {
            None => known,
            Some(common) => common.intersection(&known).cloned().collect(),
        });
    }
    let common = common.unwrap_or_default();
    let ops: Vec<(&OpId, &Op)> =
        common.iter().filter_map(|id| Some((id, document.put(id)?.1))).collect();
    let replaced: HashSet<&OpId> = ops.iter().flat_map(|(_, op)| &op.predecessors).collect();
    let mut last = ops.iter().filter(|(id, _)| !replaced.contains(id));
    match (last.next(), last.next()) {
        (None, _) => return Value::Null,
        (Some((_, op)), None) => return op.value.clone(),
        _ => {}
    }
    // Several stood side by side then: read as they read together, in the changes all of it builds
    // on.
    let hashes: Vec<ChangeHash> =
        common.iter().filter_map(|id| Some(document.put(id)?.0.hash())).collect();
    let wanted = document.ancestors(&hashes);
    let mut state = Document::new();
    for change in document.changes().iter().filter(|change| wanted.contains(&change.hash())) {
        if state.apply(change.clone()).is_err() {
            return Value::Null;
        }
    }
    state
        .register(name)
        .and_then(|register| reading(&state, name, register))
        .map_or(Value::Null, |reading| reading.value)
}

/// The puts of one register that a change replaces there, directly or by way of others.
pub(crate) fn replaced_by(document: &Document, change: &Change, name: &str) -> HashSet<OpId> {
    let mut found = HashSet::new();
    let mut waiting: Vec<&OpId> =
        change.ops().iter().filter(|op| *op.key == *name).flat_map(|op| &op.predecessors).collect();
    while let Some(id) = waiting.pop() {
        if let Some((_, op)) = document.put(id)
            && found.insert(id.clone())
        {
            waiting.extend(&op.predecessors);
        }
    }
    found
}

/// The put whose value a register shows: automerge's winner, but between two geneses (both devices
/// had the row before storysync came, with other values) the one with the later `updated_at`, then
/// hash.
///
/// Of what an app keeps by itself, the latest writer's stands.
pub(crate) fn shown<'a>(
    document: &Document,
    name: &str,
    register: &'a Register,
) -> Option<&'a Visible> {
    let contenders = contenders(document, register);
    let winner = contenders.last().copied()?;
    if contenders.len() > 1 && is_kept_by_app(name) {
        let writer = |put: &Visible| {
            document.changes().get(put.change).map(|change| (written_at(change), change.hash()))
        };
        return contenders.into_iter().max_by_key(|put| writer(put));
    }
    let genesis_of =
        |put: &Visible| document.changes().get(put.change).filter(|change| change.is_genesis());
    if contenders.len() == 1 || contenders.iter().any(|put| genesis_of(put).is_none()) {
        return Some(winner);
    }
    contenders.into_iter().max_by_key(|put| {
        genesis_of(put).map(|change| (written_at(change), Reverse(change.hash())))
    })
}

/// The visible puts that count against each other, in ascending order: what an app filled into
/// columns it gained, and what nobody typed, step back behind anything somebody wrote.
pub(crate) fn contenders<'a>(document: &Document, register: &'a Register) -> Vec<&'a Visible> {
    let visible = register.visible();
    if visible.len() < 2 {
        return visible.iter().collect();
    }
    let mut typed: Vec<&Visible> = Vec::new();
    let mut echoes: Vec<(&Visible, Vec<OpId>)> = Vec::new();
    for put in visible {
        let (Some(change), Some(op)) = (document.changes().get(put.change), put.op()) else {
            continue;
        };
        if EditPurpose::of(change) == EditPurpose::NewColumns {
            continue;
        }
        match echoed(document, change, &put.op_id, op) {
            None => typed.push(put),
            Some(origins) => echoes.push((put, origins)),
        }
    }
    // Who says what was there before speaks for whoever wrote that, and only to those who did not
    // know of it.
    for (put, origins) in echoes.into_iter().filter(|(_, origins)| !origins.is_empty()) {
        let known = |other: &&Visible| {
            let Some((change, op)) = document.changes().get(other.change).zip(other.op()) else {
                return false;
            };
            let replaced = replaced_by(document, change, &op.key);
            origins.iter().all(|origin| replaced.contains(origin))
        };
        if !typed.is_empty() && !typed.iter().any(known) {
            typed.push(put);
        }
    }
    if typed.is_empty() {
        return visible.iter().collect();
    }
    typed.sort_by(|a, b| a.op_id.cmp(&b.op_id));
    typed
}

/// Where a put says what stood there before already (an empty text for NULL, as forms write it
/// back, or the same letters otherwise composed): the puts in which somebody wrote that; none when
/// nobody ever did. `None` when the put says something new.
fn echoed(document: &Document, change: &Change, id: &OpId, op: &Op) -> Option<Vec<OpId>> {
    let says_new = |change: &Change, op: &Op| {
        let echoes = if op.predecessors.is_empty() {
            says_nothing(&op.value)
        } else {
            op.predecessors.iter().all(|replaced| {
                document
                    .put(replaced)
                    .is_some_and(|(_, before)| says_the_same(&before.value, &op.value))
            })
        };
        !echoes || lists(change, key::TYPED, &op.key)
    };
    if says_new(change, op) {
        return None;
    }
    let (mut waiting, mut origins) = (vec![(id, op)], Vec::new());
    while let Some((_, op)) = waiting.pop() {
        for replaced in &op.predecessors {
            match document.put(replaced) {
                Some((change, before)) if says_new(change, before) => {
                    origins.push(replaced.clone())
                }
                Some((_, before)) => waiting.push((replaced, before)),
                None => {}
            }
        }
    }
    Some(origins)
}

/// When a change says it was made.
pub(crate) fn written_at(change: &Change) -> Option<Stamp> {
    change.value(key::UPDATED_AT).and_then(Value::as_text).and_then(Stamp::parse)
}

#[derive(Clone, Copy)]
enum Pick {
    Earliest,
    Latest,
}

fn stamp(document: &Document, name: &str, pick: Pick) -> Value {
    let Some(register) = document.register(name) else {
        return Value::from(UNKNOWN_STAMP);
    };
    let known = register.visible().iter().filter_map(|put| {
        let stamp = put.value().as_text().and_then(Stamp::parse)?;
        Some((stamp, put.value()))
    });
    // Two spellings of one instant: the text decides, so that every device picks the same.
    let order = |(stamp, value): &(Stamp, &Value)| (*stamp, value.as_text().map(str::to_owned));
    let picked = match pick {
        Pick::Earliest => known.min_by_key(order),
        Pick::Latest => known.max_by_key(order),
    };
    picked.map_or_else(|| Value::from(UNKNOWN_STAMP), |(_, value)| value.clone())
}

/// Highest version any genesis carries, plus what the other changes count for: [`Row::version`]
/// alone.
#[must_use]
pub fn version(document: &Document) -> i64 {
    let mut others = 0_i64;
    let mut first = 1_i64;
    for change in document.changes() {
        if change.is_genesis() {
            first = first.max(genesis_version(change));
        } else {
            others = others.saturating_add(saves(change));
        }
    }
    first.saturating_add(others)
}

/// Most saves one change counts for.
const SAVES_MAX: i64 = 1 << 20;

/// How far a change raises the version: once, or as often as the app saved the row before anybody
/// looked.
fn saves(change: &Change) -> i64 {
    change.value(key::SAVES).and_then(Value::as_integer).unwrap_or(1).clamp(1, SAVES_MAX)
}

fn genesis_version(change: &Change) -> i64 {
    change.value(key::VERSION).and_then(Value::as_integer).unwrap_or(1)
}

impl Document {
    /// The longest prefix of this device's log of the row whose version is at most `version`: what
    /// somebody who last saw that version had before them. At least the first change.
    #[must_use]
    pub fn heads_at_version(&self, version: i64) -> crate::Heads {
        self.heads_after(self.count_at_version(version))
    }

    /// How many changes that prefix has.
    pub(crate) fn count_at_version(&self, version: i64) -> usize {
        let mut first = 1_i64;
        let mut others = 0_i64;
        let mut count = 1;
        for (position, change) in self.changes().iter().enumerate() {
            if change.is_genesis() {
                first = first.max(genesis_version(change));
            } else {
                others = others.saturating_add(saves(change));
            }
            if first.saturating_add(others) <= version {
                count = position + 1;
            }
        }
        count
    }
}
