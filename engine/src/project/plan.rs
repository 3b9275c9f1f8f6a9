//! What one row is to show, before anything of it is written: plain data, which the rules across
//! rows look at and may change.

use storysync_crdt::Value;

use super::token;
use crate::app::rows::StoredRow;
use crate::app::schema::{Column, Table};
use crate::store::rows::{DifferenceKind, Differences, RowRecord};

/// A plan for one row of the app's table.
pub(crate) struct RowPlan {
    /// Its id there.
    pub(crate) local_id: i64,
    /// What stands there now.
    pub(crate) stored: Option<StoredRow>,
    /// What its columns shall show, in the table's order, the id left out.
    pub(crate) desired: Vec<Value>,
    /// Where that is not what the document says.
    pub(crate) differs: Differences,
}

/// One column of one row, and what it shows now.
#[derive(Clone, Copy)]
pub(crate) struct Cell<'a> {
    pub(crate) table: &'a Table,
    pub(crate) column: &'a Column,
    pub(crate) record: &'a RowRecord,
    /// `None` while the row does not stand.
    pub(crate) now: Option<&'a Value>,
}

/// A difference that still holds keeps the table's value as it stands.
pub(super) fn keep_difference(
    cell: Cell<'_>,
    document: &Value,
    differs: &mut Differences,
) -> Option<Value> {
    let Cell { column, record, now, .. } = cell;
    let difference = record.differs.get(&column.name).filter(|difference| {
        difference.document == *document
            && !matches!(difference.kind, DifferenceKind::StandIn | DifferenceKind::Ring)
    })?;
    let now = now?;
    if token(now) != difference.shown {
        return None;
    }
    differs.insert(column.name.clone(), difference.clone());
    Some(now.clone())
}
