//! Who wrote what, and when; and what would take it back. Read off the changes, never kept beside
//! them.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::document::Visible;
use crate::row::{deletion, reading, shown, written_at};
use crate::{
    Change, ChangeHash, Deletion, DeletionKind, DeviceKey, Document, EditPurpose, Stamp, Value, key,
};

/// What a change did to its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The row was there before storysync.
    Existed,
    /// The row was created.
    Created,
    /// Somebody wrote fields.
    Edited,
    /// The row was deleted.
    Deleted,
    /// A deleted row was brought back.
    Restored,
    /// The app gained columns and filled them.
    Filled,
    /// The app wrote the row once more, and nobody saw the state between.
    Rewritten,
}

impl Action {
    /// The word in every interface.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Existed => "existed",
            Self::Created => "created",
            Self::Edited => "edited",
            Self::Deleted => "deleted",
            Self::Restored => "restored",
            Self::Filled => "filled",
            Self::Rewritten => "rewritten",
        }
    }
}

/// One field a change wrote.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldChange {
    /// The column.
    pub name: String,
    /// What its author had before them.
    pub old: Value,
    /// What they wrote.
    pub new: Value,
}

/// One change of a row, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Names the change on every device.
    pub hash: ChangeHash,
    /// Who wrote it; `None` when it was there before storysync.
    pub device: Option<DeviceKey>,
    /// When its author says it was written.
    pub at: Option<Stamp>,
    /// What it did.
    pub action: Action,
    /// The fields it wrote, the app's columns only.
    pub fields: Vec<FieldChange>,
}

/// Every change of a row, in the order this device came to know them.
#[must_use]
pub fn history(document: &Document) -> Vec<Entry> {
    let mut running = Document::new();
    let mut entries = Vec::with_capacity(document.changes().len());
    for change in document.changes() {
        let deps: BTreeSet<ChangeHash> = change.deps().iter().copied().collect();
        let earlier;
        // Most changes build on all that came before them here.
        let before = if *running.heads() == deps {
            &running
        } else {
            earlier = document.at(&deps).unwrap_or_default();
            &earlier
        };
        entries.push(entry(before, change));
        // It stands in the document, so what it builds on was applied before.
        drop(running.apply(change.clone()));
    }
    entries
}

fn entry(before: &Document, change: &Change) -> Entry {
    let fields = change
        .ops()
        .iter()
        .filter(|op| !key::is_bookkeeping(&op.key))
        .map(|op| FieldChange {
            name: (*op.key).to_owned(),
            old: value_at(before, &op.key),
            new: op.value.clone(),
        })
        .collect();
    let action = match (EditPurpose::of(change), change.value(key::DELETED_AT)) {
        _ if change.is_genesis() && change.actor().device().is_none() => Action::Existed,
        _ if change.is_genesis() => Action::Created,
        (EditPurpose::NewColumns, _) => Action::Filled,
        (EditPurpose::Rewrite, _) => Action::Rewritten,
        (EditPurpose::Edit | EditPurpose::Decision, Some(Value::Null)) => Action::Restored,
        (EditPurpose::Edit | EditPurpose::Decision, Some(_)) => Action::Deleted,
        (EditPurpose::Edit | EditPurpose::Decision, None) => Action::Edited,
    };
    Entry {
        hash: change.hash(),
        device: change.actor().device(),
        at: written_at(change),
        action,
        fields,
    }
}

fn value_at(document: &Document, name: &str) -> Value {
    document
        .register(name)
        .and_then(|register| reading(document, name, register))
        .map_or(Value::Null, |reading| reading.value)
}

/// What takes changes back.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Undo {
    /// The values to write: those from before, where nobody has written since.
    pub fields: BTreeMap<String, Value>,
    /// What becomes of the row itself.
    pub row: UndoRow,
    /// Fields somebody has written since: they stay.
    pub overwritten: Vec<String>,
}

/// What undoing does to the row itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum UndoRow {
    /// Nothing.
    #[default]
    Stays,
    /// It was created by what is undone, so it goes.
    Goes,
    /// It was deleted by what is undone, so it comes back.
    ComesBack,
    /// It was brought back by what is undone, so it is deleted as it was.
    GoesAgain(Deletion),
}

impl Undo {
    /// Whether there is nothing to take back.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.row == UndoRow::Stays
    }
}

/// What would take `undone` back: each field shows what it showed before them. A field somebody
/// else has written since stays as it is.
#[must_use]
pub fn undo(document: &Document, undone: &HashSet<ChangeHash>) -> Undo {
    let mut found = Undo::default();
    let changes: Vec<&Change> =
        document.changes().iter().filter(|change| undone.contains(&change.hash())).collect();
    if changes.iter().any(|change| change.is_genesis() && change.actor().device().is_some()) {
        if deletion(document).is_none() {
            found.row = UndoRow::Goes;
        }
        return found;
    }
    let names: BTreeSet<&str> = changes
        .iter()
        .filter(|change| !change.is_genesis())
        .flat_map(|change| change.ops())
        .map(|op| &*op.key)
        .collect();
    for name in names.iter().filter(|name| !key::is_bookkeeping(name)) {
        match before(document, name, undone) {
            Some(earlier) => {
                let old = value_at(&earlier, name);
                if old != value_at(document, name) {
                    found.fields.insert((*name).to_owned(), old);
                }
            }
            None => found.overwritten.push((*name).to_owned()),
        }
    }
    if names.contains(key::DELETED_AT) {
        match before(document, key::DELETED_AT, undone) {
            Some(earlier) => {
                let (was, is) = (deletion(&earlier), deletion(document));
                found.row = match (was, is) {
                    (None, Some(_)) => UndoRow::ComesBack,
                    (Some(was), None) => UndoRow::GoesAgain(was),
                    _ => UndoRow::Stays,
                };
            }
            None => found.overwritten.push(key::DELETED_AT.to_owned()),
        }
    }
    found
}

/// The document as the first of the `undone` changes in a row of them found a field; `None` when
/// what the field shows was written by another.
fn before(document: &Document, name: &str, undone: &HashSet<ChangeHash>) -> Option<Document> {
    let mut state = None;
    loop {
        let current = state.as_ref().unwrap_or(document);
        let put: Option<&Visible> =
            current.register(name).and_then(|register| shown(current, name, register));
        let change = put
            .and_then(|put| current.changes().get(put.change))
            .filter(|change| undone.contains(&change.hash()) && !change.is_genesis());
        let Some(change) = change else { return state };
        state = Some(document.at(&change.deps().iter().copied().collect())?);
    }
}

/// The puts that make a row deleted or alive again.
#[must_use]
pub fn deletion_puts(row: &UndoRow, at: &Value) -> BTreeMap<String, Value> {
    let deleted = |at: &Value, kind: DeletionKind| {
        BTreeMap::from([
            (key::DELETED_AT.to_owned(), at.clone()),
            (key::DELETE_KIND.to_owned(), Value::from(kind.as_str())),
        ])
    };
    match row {
        UndoRow::Stays => BTreeMap::new(),
        UndoRow::Goes => deleted(at, DeletionKind::Hard),
        UndoRow::GoesAgain(deletion) => deleted(at, deletion.kind),
        UndoRow::ComesBack => BTreeMap::from([(key::DELETED_AT.to_owned(), Value::Null)]),
    }
}

/// The newest change of a row that undoing one step takes back: the last that wrote something.
#[must_use]
pub fn newest_edit(document: &Document) -> Option<ChangeHash> {
    document
        .changes()
        .iter()
        .rfind(|change| {
            EditPurpose::of(change).is_edit()
                && !(change.is_genesis() && change.actor().device().is_none())
        })
        .map(Change::hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Actor, row};

    fn write(document: &mut Document, device: u8, puts: &[(&str, Value)]) -> Option<ChangeHash> {
        let at = i64::try_from(document.changes().len()).ok()?;
        let mut puts: BTreeMap<String, Value> =
            puts.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        puts.insert(
            key::UPDATED_AT.to_owned(),
            Value::from(Stamp::from_unix_ms(1_000 * (at + 1)).to_table_text()),
        );
        let change = document.edit(
            puts,
            EditPurpose::Edit,
            None,
            &Actor::of_device(&[device; 32], [1; 8]),
            at,
        )?;
        let hash = change.hash();
        document.apply(change).ok()?;
        Some(hash)
    }

    #[test]
    fn history_tells_who_wrote_what_over_what() {
        let mut document = Document::new();
        write(&mut document, 1, &[("name", Value::from("Ada")), (key::DELETED_AT, Value::Null)]);
        write(&mut document, 2, &[("name", Value::from("Bea"))]);
        write(&mut document, 1, &[(key::DELETED_AT, Value::from("2026-01-01 00:00:00"))]);
        write(&mut document, 2, &[(key::DELETED_AT, Value::Null)]);
        let told = history(&document);
        let actions: Vec<&str> = told.iter().map(|entry| entry.action.as_str()).collect();
        assert_eq!(actions, ["created", "edited", "deleted", "restored"]);
        let edited = told.get(1).map(|entry| (entry.device, entry.fields.clone()));
        assert_eq!(
            edited,
            Some((
                Some([2; 32]),
                vec![FieldChange {
                    name: "name".to_owned(),
                    old: Value::from("Ada"),
                    new: Value::from("Bea")
                }]
            ))
        );
    }

    #[test]
    fn undo_takes_back_what_nobody_wrote_over() {
        let mut document = Document::new();
        let created = write(
            &mut document,
            1,
            &[
                ("name", Value::from("Ada")),
                ("age", Value::from(36)),
                (key::DELETED_AT, Value::Null),
            ],
        );
        let both =
            write(&mut document, 2, &[("name", Value::from("Bea")), ("age", Value::from(37))]);
        let again = write(&mut document, 2, &[("age", Value::from(38))]);
        let name = write(&mut document, 1, &[("name", Value::from("Cid"))]);
        let taken = |hashes: &[Option<ChangeHash>]| {
            undo(&document, &hashes.iter().copied().flatten().collect())
        };
        let two = taken(&[both, again]);
        assert_eq!(
            two.fields,
            BTreeMap::from([("age".to_owned(), Value::from(36))]),
            "back beyond both"
        );
        assert_eq!(two.overwritten, ["name"]);
        assert_eq!(taken(&[again]).fields, BTreeMap::from([("age".to_owned(), Value::from(37))]));
        assert_eq!(
            taken(&[name]).fields,
            BTreeMap::from([("name".to_owned(), Value::from("Bea"))])
        );
        assert_eq!(taken(&[created]).row, UndoRow::Goes);
        assert_eq!(newest_edit(&document), name);
    }

    #[test]
    fn undoing_a_deletion_brings_the_row_back() {
        let mut document = Document::new();
        write(&mut document, 1, &[("name", Value::from("Ada")), (key::DELETED_AT, Value::Null)]);
        let deleted = write(
            &mut document,
            2,
            &[
                (key::DELETED_AT, Value::from("2026-01-01 00:00:00")),
                (key::DELETE_KIND, Value::from("hard")),
            ],
        );
        assert!(row(&document).deletion.is_some());
        let taken = undo(&document, &deleted.into_iter().collect());
        assert_eq!(taken.row, UndoRow::ComesBack);
        let puts: Vec<(String, Value)> =
            deletion_puts(&taken.row, &Value::Null).into_iter().collect();
        write(
            &mut document,
            1,
            &puts.iter().map(|(name, value)| (name.as_str(), value.clone())).collect::<Vec<_>>(),
        );
        assert!(row(&document).deletion.is_none());
    }
}
