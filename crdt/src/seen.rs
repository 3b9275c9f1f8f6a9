//! What somebody had before them who read a row, wrote into it, and writes again from the same
//! form.
//!
//! An app keeps a form open for hours and saves it again and again, each time as the row it read at
//! first. What it wrote itself meanwhile is in the form; what came from elsewhere is not. Owns that
//! difference; refuses to know how it is found out what was read.

use std::collections::HashSet;

use crate::row::{field, replaced_by};
use crate::{Base, Change, ChangeHash, Deletion, Document, Value, deletion, says_the_same};

/// A reader's view of a row: a state of its document, and what was written into it since from the
/// same desk.
#[derive(Debug)]
pub struct Seen {
    /// The row as it was read.
    read: Document,
    /// What the same desk wrote since, in order.
    own: Vec<Change>,
    /// Everything read or written there, and what that builds on.
    known: Document,
    /// The changes that came from elsewhere since.
    unseen: HashSet<ChangeHash>,
}

impl Seen {
    /// The view of whoever read the row when this device had shown `version` of it, where `own`
    /// tells the changes the same desk has written. `None` when nothing came from elsewhere since:
    /// then all there is was seen.
    #[must_use]
    pub fn at_version(
        document: &Document,
        version: i64,
        own: impl Fn(&Change) -> bool,
    ) -> Option<Self> {
        Self::after(document, document.count_at_version(version), own)
    }

    /// The same for whoever read the row as it was after the first `count` changes of this device's
    /// log of it.
    #[must_use]
    pub fn after(document: &Document, count: usize, own: impl Fn(&Change) -> bool) -> Option<Self> {
        let (before, since) = document.changes().split_at_checked(count)?;
        let (own, unseen): (Vec<&Change>, Vec<&Change>) =
            since.iter().partition(|change| own(change));
        if unseen.is_empty() {
            return None;
        }
        let read: HashSet<ChangeHash> = before.iter().map(Change::hash).collect();
        let built_on =
            document.ancestors(&own.iter().map(|change| change.hash()).collect::<Vec<_>>());
        let state = |wanted: &dyn Fn(&ChangeHash) -> bool| {
            let mut state = Document::new();
            for change in document.changes().iter().filter(|change| wanted(&change.hash())) {
                // Both are closed under dependencies, and applied in the order in which they were
                // admitted.
                drop(state.apply(change.clone()));
            }
            state
        };
        Some(Self {
            known: state(&|hash| read.contains(hash) || built_on.contains(hash)),
            read: state(&|hash| read.contains(hash)),
            unseen: unseen.into_iter().map(Change::hash).collect(),
            own: own.into_iter().cloned().collect(),
        })
    }

    /// What the reader knows a column to hold: what the same desk wrote there last, else what was
    /// read.
    #[must_use]
    pub fn value(&self, column: &str) -> Value {
        let written = self.own.iter().rev().find_map(|change| change.value(column));
        written.cloned().or_else(|| field(&self.read, column)).unwrap_or(Value::Null)
    }

    /// Whether something stands in a column of the document that came from elsewhere since and says
    /// something else.
    #[must_use]
    pub fn lacks(&self, document: &Document, column: &str) -> bool {
        let known = self.value(column);
        let unseen = |put: &&crate::document::Visible| {
            document
                .changes()
                .get(put.change)
                .is_some_and(|change| self.unseen.contains(&change.hash()))
        };
        document.register(column).is_some_and(|register| {
            register.visible().iter().filter(unseen).any(|put| !says_the_same(put.value(), &known))
        })
    }

    /// The changes that came from elsewhere since.
    #[must_use]
    pub fn unseen(&self) -> &HashSet<ChangeHash> {
        &self.unseen
    }

    /// The deletion the reader knows of.
    #[must_use]
    pub fn deletion(&self) -> Option<Deletion> {
        deletion(&self.known)
    }

    /// What an edit of the reader's builds on where it must not be taken for one that knew of what
    /// is unseen: of a deletion, say.
    #[must_use]
    pub fn base(&self) -> Base {
        let unseen = self
            .known
            .changes()
            .iter()
            .map(Change::hash)
            .filter(|hash| self.unseen.contains(hash))
            .collect();
        Base { heads: self.known.heads().clone(), unseen }
    }
}

/// What came into one column from elsewhere, and nobody can be shown to have read.
///
/// A panel that reads a row anew and then sets every field it holds writes no version that would
/// tell what it had read. Only the values can: what the column showed before.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Unread {
    /// What the column showed here before, oldest first: what the same desk wrote there last, and
    /// what stood there before each later arrival.
    pub showed: Vec<Value>,
    /// The changes whose values stand in the column and were not written here.
    pub standing: HashSet<ChangeHash>,
    /// All changes of the column that came from elsewhere and were not replaced here: those that
    /// stand, and what they replaced.
    pub changes: HashSet<ChangeHash>,
}

/// Most states of a column looked back at.
const STATES_MAX: usize = 8;

impl Unread {
    /// Looks at one column. `admitted` tells when each change of the document was admitted here
    /// (any unit, the same for all changes of one transaction), changes admitted before `since`
    /// count as read; `own` tells the changes the same desk has written. `None` when everything
    /// that stands in the column was written there, or is as old as the row.
    #[must_use]
    pub fn of(
        document: &Document,
        column: &str,
        admitted: &[i64],
        since: i64,
        own: impl Fn(&Change) -> bool,
    ) -> Option<Self> {
        let arrived = |position: usize| {
            admitted.get(position) != admitted.first()
                && admitted.get(position).is_some_and(|at| *at >= since)
        };
        let changes = document.changes();
        let foreign = |position: usize| {
            changes.get(position).filter(|change| arrived(position) && !own(change))
        };
        let standing: HashSet<ChangeHash> = document
            .register(column)?
            .visible()
            .iter()
            .filter_map(|put| foreign(put.change))
            .map(Change::hash)
            .collect();
        if standing.is_empty() {
            return None;
        }
        let last_own =
            changes.iter().rposition(|change| own(change) && change.value(column).is_some());
        let replaced = last_own
            .and_then(|position| changes.get(position))
            .map(|change| replaced_by(document, change, column))
            .unwrap_or_default();
        let unread = (0..changes.len()).filter_map(foreign).filter(|change| {
            let put = change.ops().iter().position(|op| *op.key == *column);
            put.is_some_and(|place| !replaced.contains(&change.op_id(place)))
        });
        let unread: HashSet<ChangeHash> = unread.map(Change::hash).collect();
        let mut showed: Vec<Value> = last_own
            .and_then(|position| changes.get(position)?.value(column).cloned())
            .into_iter()
            .collect();
        let from = last_own.map_or(0, |position| position + 1);
        let mut before_batch = 0;
        for (position, change) in changes.iter().enumerate() {
            if position > 0 && admitted.get(position) != admitted.get(position - 1) {
                before_batch = position;
            }
            if position >= from
                && before_batch > 0
                && arrived(position)
                && !own(change)
                && change.value(column).is_some()
            {
                let value = document.field_after(column, before_batch);
                if showed.last() != Some(&value) {
                    showed.push(value);
                }
            }
        }
        if showed.len() > STATES_MAX {
            showed.drain(..showed.len() - STATES_MAX);
        }
        (!showed.is_empty()).then_some(Self { showed, standing, changes: unread })
    }

    /// Whether a value is what the column showed before.
    #[must_use]
    pub fn showed(&self, value: &Value) -> bool {
        self.showed.iter().any(|earlier| says_the_same(earlier, value))
    }
}
