//! The deletion guard: when what one device brought within an hour deletes, empties or cuts too
//! much of a table, or of the file, its projection (only that) waits for a yes. The documents are
//! kept and forwarded all the same.
//!
//! Owns when it is too much, and what is told of it. Counts by the device that *brought* changes,
//! whatever authors they name. What of a row is gone is measured in [`measuring`]; what is shown
//! meanwhile, and how it is decided, is in [`holding`].

mod holding;
mod measuring;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;
use storysync_crdt::{DeviceKey, Stamp};

use crate::app::profile::table_of_entity_type;
use crate::app::rows as app_rows;
use crate::error::TransactionError;
use crate::store::holds::{self, Hold, Loss, WHOLE};
use crate::store::rows::{self, RowId, TableId};
use crate::transaction::Transaction;
pub(crate) use holding::HeldLink;

/// One part in so many of a table, and of the file, may go within the window.
pub const GUARD_PART: i64 = 5;
/// Rows from which on a table is judged by itself; smaller ones count in the file.
pub const GUARD_TABLE_ROWS_MIN: i64 = 10;
/// Rows of one table that may go within the window, whatever part of it they are.
pub const GUARD_TABLE_LOST_MAX: i64 = 4;
/// Rows of all tables that may go within the window, whatever part of the file they are.
pub const GUARD_FILE_LOST_MAX: i64 = 9;
/// Length of the window, in milliseconds.
pub const GUARD_WINDOW_MS: i64 = 60 * 60 * 1000;

/// What has to be gone of a row's texts, in thousandths, for them to be held with all the others.
const SHARE_HELD_MIN: i64 = 50;
/// The same, where others of that device wait already: it goes on writing meanwhile.
const SHARE_JOINS_MIN: i64 = WHOLE / GUARD_PART;

/// A hold, as every interface tells of it.
#[derive(Debug, Clone, Serialize)]
pub struct HoldReport {
    /// What `storysync approve` is given.
    pub id: String,
    /// PeerId of the device that brought it.
    pub device_id: String,
    /// The tables it is in, separated by commas.
    pub entity_type: String,
    /// How many rows wait.
    pub rows: i64,
    /// How many of them live and would lose texts, or the better part of them.
    pub emptied: i64,
    /// How many of them live and would only lose the link to one that waits.
    pub unlinked: i64,
    /// RFC 3339, UTC.
    pub at: String,
}

impl HoldReport {
    /// What waits, in words: `300 deletions`, `120 rows whose texts were emptied or cut`, or both.
    #[must_use]
    pub fn what(&self) -> String {
        let counted = |count: i64, one: &str, many: &str| match count {
            0 => None,
            1 => Some(format!("1 {one}")),
            count => Some(format!("{count} {many}")),
        };
        let parts: Vec<String> = [
            counted(self.rows - self.emptied - self.unlinked, "deletion", "deletions"),
            counted(
                self.emptied,
                "row whose texts were emptied or cut",
                "rows whose texts were emptied or cut",
            ),
            counted(self.unlinked, "row taken off one of these", "rows taken off some of these"),
        ]
        .into_iter()
        .flatten()
        .collect();
        match parts.as_slice() {
            [] => "nothing any more".to_owned(),
            [one] => one.clone(),
            [first, last] => format!("{first} and {last}"),
            [first, middle @ .., last] => format!("{first}, {} and {last}", middle.join(", ")),
        }
    }

    /// All there is to say, in one sentence: what `by` did, that it waits, and both ways on.
    #[must_use]
    pub fn sentence(&self, by: &str) -> String {
        format!(
            "{} in {} by {by} wait for a yes, and all of it is shown here as before: `storysync \
                approve {}` lets it through, `storysync approve {} --refuse` takes it back on \
                every device",
            self.what(),
            self.entity_type,
            self.id,
            self.id
        )
    }

    pub(crate) fn of(hold: Hold) -> Self {
        Self {
            id: hold.id.to_string(),
            device_id: hold.device_id,
            entity_type: hold.tables,
            rows: hold.rows,
            emptied: hold.emptied,
            unlinked: hold.unlinked,
            at: Stamp::from_unix_ms(hold.at).to_rfc3339(),
        }
    }
}

/// How a hold is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldDecision {
    /// The rows are deleted here, too, and the texts emptied.
    Approve,
    /// The rows live, and texts and links are back, on all devices.
    Refuse,
}

/// Who brought what is judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bringer {
    /// The device's integer key in `sync_peer`.
    pub(crate) peer: i64,
    /// Its key: what it pushed without automerge changes was written here in its name.
    pub(crate) key: Option<DeviceKey>,
}

/// What the guard wants done beside holding.
#[derive(Debug, Default)]
pub(crate) struct Guarded {
    /// Rows that come back with what is held now.
    pub(crate) returning: BTreeSet<RowId>,
    /// Links to be shown again once the rows they lead to stand.
    pub(crate) links: Vec<HeldLink>,
}

/// Whether so much of a table is too much: its rows, those deleted of late included, and what of
/// them is gone in thousandths of a row.
fn is_too_much_of_table(gone: i64, standing: i64) -> bool {
    standing >= GUARD_TABLE_ROWS_MIN
        && gone > GUARD_TABLE_LOST_MAX * WHOLE
        && gone.saturating_mul(GUARD_PART) > standing.saturating_mul(WHOLE)
}

/// The same of the whole file.
fn is_too_much_of_file(gone: i64, standing: i64) -> bool {
    gone > GUARD_FILE_LOST_MAX * WHOLE
        && gone.saturating_mul(GUARD_PART) > standing.saturating_mul(WHOLE)
}

/// A row a push is still to delete, as it says: its table as the push calls it, and its
/// `sync_uuid`.
pub(crate) type Announced<'p> = (&'p str, &'p str);

/// What is gone, by table, in thousandths of rows.
type Gone = BTreeMap<TableId, i64>;

impl Transaction<'_> {
    /// Holds what is deleted, emptied or cut among the rows a device brought when there is too much
    /// of it, what it did within the last hour included. `stood` are the rows that stood before,
    /// with how many changes they had; `announced` is what the same push is still to delete.
    pub(crate) fn guard_losses(
        &mut self,
        stood: &HashMap<RowId, usize>,
        received: &BTreeSet<RowId>,
        announced: &[Announced<'_>],
        by: Bringer,
    ) -> Result<Guarded, TransactionError> {
        let now_ms = self.now.unix_ms();
        let received: Vec<(RowId, usize)> =
            received.iter().filter_map(|id| Some((*id, *stood.get(id)?))).collect();
        if received.is_empty() {
            return Ok(Guarded::default());
        }
        let since = now_ms.saturating_sub(GUARD_WINDOW_MS);
        let mut earlier: BTreeMap<RowId, Loss> =
            holds::losses_since(self.connection, by.peer, since)?
                .into_iter()
                .map(|loss| (loss.row, loss))
                .collect();
        let mut lost = Vec::new();
        for (id, changes) in received {
            match self.loss_of(id, changes, earlier.get(&id))? {
                Some(loss) => {
                    earlier.remove(&id);
                    lost.push(loss);
                }
                None => self.lift_hold(id, &BTreeMap::new())?,
            }
        }
        if lost.is_empty() {
            return Ok(Guarded::default());
        }
        let earlier: Vec<Loss> = earlier.into_values().collect();
        let (joins, hold) = match holds::find(self.connection, by.peer)? {
            Some(hold) => (true, hold),
            None => match self.find_too_much(&lost, &earlier, announced)? {
                Some(table) => {
                    tracing::warn!(
                        rows = lost.len() + earlier.len(),
                        "one device deletes, empties or cuts very much; it waits for a yes"
                    );
                    (false, holds::engage(self.connection, by.peer, table, now_ms)?)
                }
                None => {
                    for loss in &lost {
                        holds::note_loss(self.connection, by.peer, loss, now_ms)?;
                    }
                    return Ok(Guarded::default());
                }
            },
        };
        let returning: BTreeSet<RowId> = earlier.iter().map(|loss| loss.row).collect();
        // All of it together, in whatever table: a row whose children are gone is not as it was.
        // And what went before the guard was on comes back until it is decided.
        let links = self.hold_losses(hold, joins, [lost, earlier].concat(), by)?;
        Ok(Guarded { returning, links })
    }

    /// A table of which too much is gone, or the first one where too much of the whole file is.
    fn find_too_much(
        &mut self,
        lost: &[Loss],
        earlier: &[Loss],
        announced: &[Announced<'_>],
    ) -> Result<Option<TableId>, TransactionError> {
        let mut gone = Gone::new();
        for loss in lost.iter().chain(earlier) {
            *gone.entry(loss.table).or_default() += loss.share;
        }
        // What a push deletes is judged as the whole it is; slices are ours.
        let most = i64::try_from(announced.len()).unwrap_or(i64::MAX).saturating_mul(WHOLE);
        let known: i64 = gone.values().sum();
        if known.saturating_add(most) <= GUARD_TABLE_LOST_MAX * WHOLE {
            return Ok(None);
        }
        self.add_announced(announced, &mut gone)?;
        let was_deleted = |table: TableId| {
            let before = earlier.iter().filter(|loss| loss.table == table && loss.share == WHOLE);
            i64::try_from(before.count()).unwrap_or(i64::MAX)
        };
        let (mut in_all, mut deleted_in_all) = (0_i64, 0_i64);
        for (table, gone) in &gone {
            let deleted = was_deleted(*table);
            let name = self.table_name(*table)?;
            let trash = match self.schema.table(name.as_str()) {
                Some(table) => app_rows::count_marked_deleted(self.connection, table)?,
                None => 0,
            };
            let standing = rows::count_present(self.connection, *table)?
                .saturating_sub(trash)
                .saturating_add(deleted);
            if is_too_much_of_table(*gone, standing) {
                return Ok(Some(*table));
            }
            in_all = in_all.saturating_add(*gone);
            deleted_in_all = deleted_in_all.saturating_add(deleted);
        }
        let mut trash = 0_i64;
        for table in self.schema.tables() {
            trash += app_rows::count_marked_deleted(self.connection, table)?;
        }
        let standing = rows::count_all_present(self.connection)?
            .saturating_sub(trash)
            .saturating_add(deleted_in_all);
        let first = gone.keys().next().copied();
        Ok(first.filter(|_| is_too_much_of_file(in_all, standing)))
    }

    /// Adds the rows a push is still to delete, as far as they stand.
    fn add_announced(
        &mut self,
        announced: &[Announced<'_>],
        gone: &mut Gone,
    ) -> Result<(), TransactionError> {
        let schema = std::sync::Arc::clone(&self.schema);
        for (called, uuid) in announced {
            let called = table_of_entity_type(&schema, called);
            let uuid = storysync_crdt::SyncUuid::parse(uuid);
            let (Some(table), Some(uuid)) = (self.find_table(called)?, uuid) else { continue };
            if rows::find(self.connection, table, &uuid)?.is_some_and(|row| row.present) {
                *gone.entry(table).or_default() += WHOLE;
            }
        }
        Ok(())
    }

    /// What waits for a yes.
    pub(crate) fn holds(&mut self) -> Result<Vec<HoldReport>, TransactionError> {
        Ok(holds::waiting(self.connection)?.into_iter().map(HoldReport::of).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_table_stays_usable_and_a_fifth_of_a_larger_one_is_too_much() {
        let of_table = |gone: i64, standing| is_too_much_of_table(gone * WHOLE, standing);
        assert!(!of_table(3, 5), "three of five tags");
        assert!(!of_table(9, 9), "counts in the file only");
        assert!(!of_table(4, 12), "tidying up");
        assert!(of_table(5, 12) && of_table(10, 10));
        assert!(!of_table(80, 400) && of_table(81, 400));
        let of_file = |gone: i64, standing| is_too_much_of_file(gone * WHOLE, standing);
        assert!(!of_file(9, 9) && of_file(10, 30));
        assert!(!of_file(129, 645) && of_file(130, 645));
    }

    #[test]
    fn what_waits_is_told_in_one_sentence_with_both_ways_on() {
        let report = HoldReport {
            id: "7".to_owned(),
            device_id: "12D3".to_owned(),
            entity_type: "place, scene".to_owned(),
            rows: 12,
            emptied: 1,
            unlinked: 3,
            at: String::new(),
        };
        let sentence = report.sentence("phone");
        assert!(sentence.starts_with(
            "8 deletions, 1 row whose texts were emptied or cut and 3 rows taken off some of \
                these in place, scene by phone wait for a yes"
        ));
        assert!(sentence.contains("`storysync approve 7` lets it through"));
        assert!(sentence.contains("`storysync approve 7 --refuse` takes it back on every device"));
    }
}
