//! What the tables show, all documents taken together: rows, and the rules that reach across rows.
//! A row that needs a deleted parent keeps it, two rows with one unique name do not both stand.
//!
//! Owns those rules as pure functions. [`shown`] applies them to everything at once, which is how
//! they are defined and tested; a node applies the same pieces to the rows at hand. Refuses to know
//! how a table is written.

mod unique;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::convert::Infallible;

use crate::conflict::deletion_values;
use crate::row::{shown as shown_put, visible_deletes, written_at};
use crate::{
    Conflict, ConflictKind, ConflictValue, DeviceKey, Document, EntityId, FieldConflict, Move, Row,
    Stamp, TableName, Value, conflicts, gives_way, is_tree_column, key, leads_to, moved, ring,
    ring_conflict, row, way_back,
};
pub use unique::{are_twins, unique_conflict};
use unique::{contests, led_to_winners, unique_conflicts};

/// In [`key::LEFT_BEHIND`]: more rows referred to the deleted one than could be named.
pub const LEFT_ALL: &str = "*";

/// A row as [`key::LEFT_BEHIND`] names it: `table/uuid`, with `%` and `,` percent-encoded (RFC 3986
/// §2.1).
#[must_use]
pub fn left_name(entity: &EntityId) -> String {
    entity.to_string().replace('%', "%25").replace(',', "%2C")
}

/// A column that holds another row's `sync_uuid`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The column.
    pub column: String,
    /// The table it leads to.
    pub table: TableName,
    /// Whether the column refuses NULL: then the row can't stand without its target.
    pub required: bool,
}

impl Reference {
    /// Whether the column says which row of its own `table` a row is a part of.
    #[must_use]
    pub fn is_tree(&self, table: &TableName) -> bool {
        self.table == *table && is_tree_column(table, &self.column)
    }
}

/// What merging must know of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableShape {
    /// Its references.
    pub references: Vec<Reference>,
    /// Its unique constraints, each a list of columns.
    pub uniques: Vec<Vec<String>>,
}

/// What merging must know of all tables.
pub type Shape = BTreeMap<TableName, TableShape>;

/// How one row stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// In the table, with references to rows that wait replaced by those that stand in their place.
    Stands(Row),
    /// Not in the table, because the named row has the same unique values.
    Behind(EntityId),
    /// Not in the table, because a row it requires is not known.
    WaitsForParent,
    /// Removed.
    Gone,
}

/// Everything a node with these documents shows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shown {
    /// Every row.
    pub rows: BTreeMap<EntityId, Standing>,
    /// Every conflict, by the row it is in.
    pub conflicts: BTreeMap<EntityId, Vec<Conflict>>,
}

/// Applies all rules to all documents. Pure: the same changes show the same, in whatever order they
/// came.
#[must_use]
pub fn shown(documents: &BTreeMap<EntityId, Document>, shape: &Shape) -> Shown {
    let documents: BTreeMap<&EntityId, &Document> =
        documents.iter().filter(|(_, document)| !document.is_empty()).collect();
    let mut rows: BTreeMap<&EntityId, Row> =
        documents.iter().map(|(id, document)| (*id, row(document))).collect();
    let mut found = Shown::default();
    for (id, document) in &documents {
        let conflicts = conflicts(document);
        if !conflicts.is_empty() {
            found.conflicts.insert((*id).clone(), conflicts);
        }
    }
    let needed = needed_parents(&documents, &rows, shape);
    for (parent, children) in needed {
        if let (Some(row), Some(document)) = (rows.get_mut(parent), documents.get(parent)) {
            row.deletion = None;
            let children: Vec<(&EntityId, &Document)> = children
                .iter()
                .filter_map(|child| Some((*child, *documents.get(child)?)))
                .collect();
            found
                .conflicts
                .entry(parent.clone())
                .or_default()
                .extend(orphan_conflict(document, &children));
        }
    }
    let mut standing: BTreeSet<&EntityId> =
        rows.iter().filter(|(_, row)| row.stands()).map(|(id, _)| *id).collect();
    let yielding = rings(&standing, &documents, &rows, shape);
    for (id, conflicts) in &yielding {
        for conflict in &conflicts.fields {
            if let Some(row) = rows.get_mut(id) {
                row.fields.insert(conflict.name.clone(), conflict.shown.clone());
            }
        }
    }
    let waiting = without_parents(&standing, &rows, shape);
    standing.retain(|id| !waiting.contains(id));
    let behind = contests(&standing, &rows, shape);
    for (loser, conflict) in unique_conflicts(&behind, &documents, &rows, shape) {
        found.conflicts.entry(loser.clone()).or_default().push(conflict);
    }
    for (id, conflict) in yielding {
        if !waiting.contains(id) && !behind.contains_key(id) {
            found.conflicts.entry(id.clone()).or_default().push(conflict);
        }
    }
    for (id, row) in &rows {
        let standing = if waiting.contains(id) {
            Standing::WaitsForParent
        } else if let Some((winner, _)) = behind.get(id) {
            Standing::Behind((*winner).clone())
        } else if !row.stands() {
            Standing::Gone
        } else {
            Standing::Stands(led_to_winners(row.clone(), id, &behind, shape))
        };
        found.rows.insert((*id).clone(), standing);
    }
    found
}

impl Row {
    /// Whether the row is in its table: it lives, or is marked as deleted and kept there.
    #[must_use]
    pub fn stands(&self) -> bool {
        stands(self.deletion.as_ref())
    }
}

/// Whether a row with this deletion, or none, is in its table.
#[must_use]
pub fn stands(deletion: Option<&crate::Deletion>) -> bool {
    deletion.is_none_or(|deletion| deletion.kind == crate::DeletionKind::Soft)
}

/// The row a reference leads to.
#[must_use]
pub fn target(row: &Row, reference: &Reference) -> Option<EntityId> {
    leads_to(&reference.table, row.fields.get(&reference.column)?)
}

/// What the deletions of a row knew of the rows that would stay without it. Read once, because they
/// may be many.
#[derive(Debug, Clone, Default)]
pub struct LeftBehind {
    names: HashSet<String>,
    all: bool,
    deleted: Vec<(Option<DeviceKey>, Option<Stamp>)>,
}

impl LeftBehind {
    /// Reads them off the deleted row.
    #[must_use]
    pub fn of(parent: &Document) -> Self {
        let mut found = Self::default();
        for delete in
            visible_deletes(parent).into_iter().filter_map(|put| parent.changes().get(put.change))
        {
            let left = delete.value(key::LEFT_BEHIND).and_then(Value::as_text).unwrap_or_default();
            found.all |= left == LEFT_ALL;
            found.names.extend(left.split(',').map(str::to_owned));
            found.deleted.push((delete.actor().device(), written_at(delete)));
        }
        found
    }

    /// Whether a deletion names the row.
    #[must_use]
    pub fn names(&self, child: &EntityId) -> bool {
        self.all || self.names.contains(&left_name(child))
    }

    /// Whether whoever deleted the row knew that `child` would stay without it: the deletion names
    /// it, or the child's reference was written later by the very device that deleted.
    #[must_use]
    pub fn knew(&self, child: &EntityId, child_document: &Document, column: &str) -> bool {
        if self.names(child) {
            return true;
        }
        let reference = child_document
            .register(column)
            .and_then(|register| shown_put(child_document, column, register));
        reference.and_then(|put| child_document.changes().get(put.change)).is_some_and(
            |reference| {
                let device = reference.actor().device();
                device.is_some()
                    && self
                        .deleted
                        .iter()
                        .any(|(deleter, at)| *deleter == device && written_at(reference) >= *at)
            },
        )
    }
}

/// The deleted rows that live rows require, each with the live rows that do. A kept parent keeps
/// its own.
fn needed_parents<'a>(
    documents: &BTreeMap<&'a EntityId, &Document>,
    rows: &BTreeMap<&'a EntityId, Row>,
    shape: &Shape,
) -> BTreeMap<&'a EntityId, BTreeSet<&'a EntityId>> {
    let mut needed: BTreeMap<&EntityId, BTreeSet<&EntityId>> = BTreeMap::new();
    let mut left: BTreeMap<&EntityId, LeftBehind> = BTreeMap::new();
    let mut looking: Vec<(&EntityId, bool)> =
        rows.iter().filter(|(_, row)| row.deletion.is_none()).map(|(id, _)| (*id, false)).collect();
    while let Some((child, kept)) = looking.pop() {
        let (Some(row), Some(child_document)) = (rows.get(child), documents.get(child)) else {
            continue;
        };
        for reference in shape
            .get(&child.table)
            .into_iter()
            .flat_map(|table| &table.references)
            .filter(|reference| reference.required)
        {
            let Some(target) = target(row, reference) else { continue };
            let Some((parent, parent_document)) = documents.get_key_value(&target) else {
                continue;
            };
            if rows.get(parent).is_none_or(|row| row.deletion.is_none()) {
                continue;
            }
            let left = left.entry(parent).or_insert_with(|| LeftBehind::of(parent_document));
            if !kept && left.knew(child, child_document, &reference.column) {
                continue;
            }
            let known = needed.contains_key(parent);
            needed.entry(parent).or_default().insert(child);
            if !known {
                looking.push((parent, true));
            }
        }
    }
    needed
}

/// The rows that give way in a circle of moves, each with what conflicts there.
fn rings<'a>(
    standing: &BTreeSet<&'a EntityId>,
    documents: &BTreeMap<&'a EntityId, &Document>,
    rows: &BTreeMap<&'a EntityId, Row>,
    shape: &Shape,
) -> BTreeMap<&'a EntityId, Conflict> {
    let mut found: BTreeMap<&EntityId, Conflict> = BTreeMap::new();
    let trees = shape.iter().flat_map(|(table, shape)| {
        shape
            .references
            .iter()
            .filter(move |reference| reference.is_tree(table))
            .map(move |tree| (table, tree))
    });
    for (table, tree) in trees {
        let up = |id: &EntityId| -> Result<Option<EntityId>, Infallible> {
            Ok(rows
                .get(id)
                .and_then(|row| target(row, tree))
                .filter(|target| standing.contains(target)))
        };
        for (id, document) in
            documents.iter().filter(|(id, _)| id.table == *table && standing.contains(*id))
        {
            if moved(document, &tree.column).is_none() {
                continue;
            }
            let Ok(Some(members)) = ring(id, up) else { continue };
            let moves: Vec<Option<Move>> = members
                .iter()
                .map(|member| {
                    documents.get(member).and_then(|document| moved(document, &tree.column))
                })
                .collect();
            let Some((0, counting)) = gives_way(&moves) else { continue };
            let Some(counting) = moves.into_iter().nth(counting).flatten() else { continue };
            let Ok(Some(back)) = way_back(
                id,
                document,
                &tree.column,
                tree.required,
                |target| Ok::<_, Infallible>(standing.contains(target)),
                up,
            ) else {
                continue;
            };
            let conflict = found.entry(id).or_insert_with(|| Conflict {
                kind: ConflictKind::Ring,
                fields: Vec::new(),
                others: Vec::new(),
            });
            conflict.fields.push(ring_conflict(&tree.column, document, &back, &counting));
            conflict.others.extend(members.into_iter().skip(1));
        }
    }
    found
}

/// The rows that must wait because a row they require, or one that row requires, is not known.
fn without_parents<'a>(
    standing: &BTreeSet<&'a EntityId>,
    rows: &BTreeMap<&'a EntityId, Row>,
    shape: &Shape,
) -> BTreeSet<&'a EntityId> {
    let mut waiting: BTreeSet<&EntityId> = BTreeSet::new();
    loop {
        let more: Vec<&EntityId> = standing
            .iter()
            .copied()
            .filter(|id| !waiting.contains(id))
            .filter(|id| {
                let Some(row) = rows.get(id) else { return false };
                let mut required = shape
                    .get(&id.table)
                    .into_iter()
                    .flat_map(|table| &table.references)
                    .filter(|reference| reference.required);
                required.any(|reference| {
                    target(row, reference).is_some_and(|target| {
                        !rows.contains_key(&target) || waiting.contains(&target)
                    })
                })
            })
            .collect();
        if more.is_empty() {
            return waiting;
        }
        waiting.extend(more);
    }
}

/// The tables, those before others whose unique keys refer to them; a circle is entered anywhere,
/// the same everywhere.
fn tables_in_order(shape: &Shape) -> Vec<&TableName> {
    fn enter<'a>(
        table: &'a TableName,
        shape: &'a Shape,
        entered: &mut HashSet<&'a TableName>,
        order: &mut Vec<&'a TableName>,
    ) {
        if !entered.insert(table) {
            return;
        }
        if let Some(table_shape) = shape.get(table) {
            let keyed =
                |column: &String| table_shape.uniques.iter().any(|unique| unique.contains(column));
            for reference in
                table_shape.references.iter().filter(|reference| keyed(&reference.column))
            {
                if let Some((target, _)) = shape.get_key_value(&reference.table) {
                    enter(target, shape, entered, order);
                }
            }
        }
        order.push(table);
    }
    let mut order = Vec::new();
    let mut entered = HashSet::new();
    for table in shape.keys() {
        enter(table, shape, &mut entered, &mut order);
    }
    order
}

/// The conflict of a deleted row that others still require: the deletion, and who writes in what
/// requires it.
#[must_use]
pub fn orphan_conflict(parent: &Document, children: &[(&EntityId, &Document)]) -> Option<Conflict> {
    let (mut values, _) = deletion_values(parent)?;
    let latest = children
        .iter()
        .flat_map(|(_, document)| document.changes())
        .filter(|change| !change.is_genesis())
        .max_by_key(|change| (written_at(change), change.hash()));
    values.push(ConflictValue {
        value: Value::Null,
        device: latest.and_then(|change| change.actor().device()),
        at: latest.and_then(written_at),
        change: latest.map(crate::Change::hash),
    });
    Some(Conflict {
        kind: ConflictKind::Orphan,
        fields: vec![FieldConflict {
            name: key::DELETED_AT.to_owned(),
            base: Value::Null,
            values,
            shown: Value::Null,
        }],
        others: children.iter().map(|(id, _)| (*id).clone()).collect(),
    })
}
