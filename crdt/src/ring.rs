//! Trees kept by a column that names another row of the same table. Two moves on two devices, each
//! fine by itself, can lead in a circle, and what is in a circle hangs on no root: an app that
//! walks down its tree shows none of it.
//!
//! Owns which columns make a tree, which row of a circle gives way, and where it stands meanwhile.
//! Refuses to know where rows are kept: whoever asks says where each row leads.

use crate::conflict::attributed;
use crate::row::{shown, written_at};
use crate::{
    Change, ChangeHash, ConflictValue, DeviceKey, Document, EntityId, FieldConflict, NOWHERE,
    Stamp, SyncUuid, TableName, Value,
};

/// Most rows of a cycle that is looked for, and most steps from a row up to its root.
pub const RING_ROWS_MAX: usize = 256;

/// Words of a column that says what a row is a part of.
const TREE_WORDS: [&str; 9] =
    ["parent", "ancestor", "container", "inside", "within", "belongs", "under", "above", "super"];

/// Whether a reference of `table` to itself makes a tree: it has a word for it in its name, or the
/// name of the table. A spouse, a rival or the next scene may well lead back to where one came
/// from.
#[must_use]
pub fn is_tree_column(table: &TableName, column: &str) -> bool {
    let (table, column) = (table.as_str().to_ascii_lowercase(), column.to_ascii_lowercase());
    let stem = column.trim_end_matches("_id").trim_end_matches("_uuid");
    column.split('_').any(|word| TREE_WORDS.iter().any(|known| word.starts_with(known)))
        || stem == table
        || format!("{stem}s") == table
}

/// A row that was put under another one after it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Whose move.
    pub device: Option<DeviceKey>,
    /// When, as its author says.
    pub at: Option<Stamp>,
    /// The change.
    pub change: ChangeHash,
}

/// The move that put a row where its column says; `None` when it stands where it was made.
#[must_use]
pub fn moved(document: &Document, column: &str) -> Option<Move> {
    let put = document.register(column).and_then(|register| shown(document, column, register))?;
    let change = document.changes().get(put.change).filter(|change| !change.deps().is_empty())?;
    Some(Move { device: change.actor().device(), at: written_at(change), change: change.hash() })
}

/// The rows of the circle `start` is in, from `start` up; `None` when it is in none of at most
/// [`RING_ROWS_MAX`] rows. A row that leads to itself is a root.
///
/// # Errors
/// Those of `up`, which says where a row leads.
pub fn ring<E>(
    start: &EntityId,
    mut up: impl FnMut(&EntityId) -> Result<Option<EntityId>, E>,
) -> Result<Option<Vec<EntityId>>, E> {
    let mut members = vec![start.clone()];
    let mut current = start.clone();
    while members.len() <= RING_ROWS_MAX {
        match up(&current)? {
            Some(next) if next == current => return Ok(None),
            Some(next) if next == *start => return Ok((members.len() > 1).then_some(members)),
            Some(next) => {
                members.push(next.clone());
                current = next;
            }
            None => return Ok(None),
        }
    }
    Ok(None)
}

/// Which row of a circle gives way, and whose move it gives way to, as places in `moves`. The last
/// move stands and the first one gives way. `None` when one device made the circle by itself: then
/// it is what its user wanted.
#[must_use]
pub fn gives_way(moves: &[Option<Move>]) -> Option<(usize, usize)> {
    let made =
        || moves.iter().enumerate().filter_map(|(place, made)| Some((place, made.as_ref()?)));
    let (first, yielding) = made().min_by_key(|(_, made)| (made.at, made.change))?;
    let (last, _) = made()
        .filter(|(_, made)| made.device != yielding.device)
        .max_by_key(|(_, made)| (made.at, made.change))?;
    Some((first, last))
}

/// Where a row that gives way stands meanwhile: the newest place it had from which a root is
/// reached without coming by the row itself, else on top. `None` when `required` refuses that, too.
///
/// # Errors
/// Those of `up`, which says where a row leads, and of `stands`.
pub fn way_back<E>(
    row: &EntityId,
    document: &Document,
    column: &str,
    required: bool,
    mut stands: impl FnMut(&EntityId) -> Result<bool, E>,
    mut up: impl FnMut(&EntityId) -> Result<Option<EntityId>, E>,
) -> Result<Option<Value>, E> {
    let mut earlier: Vec<&Change> =
        document.changes().iter().filter(|change| change.value(column).is_some()).collect();
    earlier.sort_by_key(|change| std::cmp::Reverse((written_at(change), change.hash())));
    let mut seen: Vec<&Value> = Vec::new();
    for value in earlier.into_iter().filter_map(|change| change.value(column)) {
        if seen.contains(&value) {
            continue;
        }
        seen.push(value);
        let Some(target) = leads_to(&row.table, value) else {
            match value {
                Value::Null if !required => return Ok(Some(Value::Null)),
                // What the app writes for "none".
                Value::Integer(_) => return Ok(Some(value.clone())),
                _ => continue,
            }
        };
        if stands(&target)? && reaches_root(row, target, &mut up)? {
            return Ok(Some(value.clone()));
        }
    }
    Ok((!required).then_some(Value::Null))
}

/// The row of `table` a value names.
#[must_use]
pub fn leads_to(table: &TableName, value: &Value) -> Option<EntityId> {
    let uuid = value.as_text().filter(|text| *text != NOWHERE).and_then(SyncUuid::parse)?;
    Some(EntityId { table: table.clone(), uuid })
}

fn reaches_root<E>(
    row: &EntityId,
    from: EntityId,
    up: &mut impl FnMut(&EntityId) -> Result<Option<EntityId>, E>,
) -> Result<bool, E> {
    let mut current = from;
    for _ in 0..RING_ROWS_MAX {
        if current == *row {
            return Ok(false);
        }
        match up(&current)? {
            None => return Ok(true),
            Some(next) if next == current => return Ok(true),
            Some(next) => current = next,
        }
    }
    Ok(false)
}

/// The conflict of a row that gives way in a circle: where it was put, and where it stands since
/// the move of another row counts.
#[must_use]
pub fn ring_conflict(
    column: &str,
    yielding: &Document,
    way_back: &Value,
    counting: &Move,
) -> FieldConflict {
    let wanted = yielding.register(column).and_then(|register| shown(yielding, column, register));
    let wanted = wanted.map_or(
        ConflictValue { value: Value::Null, device: None, at: None, change: None },
        |put| attributed(yielding, put),
    );
    let stays = ConflictValue {
        value: way_back.clone(),
        device: counting.device,
        at: counting.at,
        change: Some(counting.change),
    };
    FieldConflict {
        name: column.to_owned(),
        base: way_back.clone(),
        values: vec![wanted, stays],
        shown: way_back.clone(),
    }
}
