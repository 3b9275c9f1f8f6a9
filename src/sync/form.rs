//! What had the app before it when it wrote a row? Not always the row as it stands: a form that was opened an hour ago is
//! saved as it was read then, and a panel sets every field it holds.
//!
//! At one desk nothing the app writes is ever taken for old: what the same file's app wrote is known to it. Only what came
//! from elsewhere may be unread, and is then kept beside what the app wrote. Two things tell what was read: the `version` a
//! form writes back, and values that are exactly what a column showed before something arrived.

use std::collections::{BTreeMap, HashSet};

use storysync_crdt::{Base, Change, ChangeHash, DeviceKey, Document, EditPurpose, Seen, Unread, Value, is_prose, keeps_changes, says_nothing, says_the_same};

use super::error::SessionError;
use super::session::Session;
use crate::app::schema::Role;
use crate::store::log;
use crate::store::rows::RowId;

/// So long an app may keep a panel open that writes no version: what arrived within this time may be unread by it. A day,
/// in milliseconds.
const PANEL_OPEN_MS_MAX: i64 = 24 * 60 * 60 * 1_000;

/// A column the app wrote, as it travels.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) value: Value,
    /// What the document says there.
    pub(super) document: Value,
    /// Whether the table held a value that could not travel: what came since was never shown.
    pub(super) hid_arrivals: bool,
}

/// How the columns the app wrote are to be captured.
#[derive(Debug, Default)]
pub(super) struct Edits {
    /// Put on top of everything, or of [`Self::base`].
    pub(super) puts: BTreeMap<String, Value>,
    /// What the form had read, where that is not everything.
    pub(super) base: Option<Base>,
    /// Put beside what arrived unread: both stand, and are merged or told as a conflict.
    pub(super) beside: BTreeMap<String, Value>,
    /// What arrived unread.
    pub(super) unread: HashSet<ChangeHash>,
    /// Texts from elsewhere that gave way, by column: nobody can be shown to have read them.
    pub(super) replaced: Vec<(String, ChangeHash)>,
}

/// Whether a change was captured from the app of this very file.
pub(super) fn written_here(device: Option<DeviceKey>) -> impl Fn(&Change) -> bool {
    move |change| device.is_some() && change.actor().device() == device && EditPurpose::of(change) != EditPurpose::Decision
}

impl Session<'_> {
    /// The view of a form that read the row at `version`; `None` when nothing has come from elsewhere since.
    pub(super) fn seen_at(&mut self, id: RowId, version: i64) -> Result<Option<Seen>, SessionError> {
        let own = written_here(self.actor.device());
        Ok(Seen::at_version(self.document(id)?, version, own))
    }

    /// Sorts what a form wrote that had read an earlier state of the row.
    pub(super) fn edits_of_form(seen: &Seen, written: Vec<Written>) -> Edits {
        // What the form merely still holds was not typed: where something came from elsewhere meanwhile, that stays.
        let typed = written.into_iter().filter(|column| !says_the_same(&seen.value(&column.name), &column.value) || says_the_same(&column.document, &column.value));
        Edits { puts: typed.map(|column| (column.name, column.value)).collect(), base: Some(seen.base().clone()), ..Edits::default() }
    }

    /// Sorts what was written without a version that would tell what had been read.
    pub(super) fn edits_of_panel(&mut self, id: RowId, written: Vec<Written>) -> Result<Edits, SessionError> {
        let own = written_here(self.actor.device());
        let since = self.now.unix_ms().saturating_sub(PANEL_OPEN_MS_MAX);
        let document = self.document(id)?;
        if document.changes().iter().all(&own) {
            return Ok(Edits { puts: written.into_iter().map(|column| (column.name, column.value)).collect(), ..Edits::default() });
        }
        let admitted = log::admitted(self.connection, id)?;
        let document = self.document(id)?;
        let unread = |name: &str, since: i64| Unread::of(document, name, &admitted, since, &own);
        let found: Vec<(Written, Option<Unread>)> = written
            .into_iter()
            .map(|column| {
                let unread = unread(&column.name, if column.hid_arrivals { 0 } else { since });
                (column, unread)
            })
            .collect();
        let restored = |(column, unread): &(Written, Option<Unread>)| unread.as_ref().is_some_and(|unread| unread.showed(&column.value));
        let untouched = || {
            let names = document.registers().map(|(name, _)| name).filter(|name| !storysync_crdt::key::is_bookkeeping(name) && !storysync_crdt::is_kept_by_app(name));
            names.filter(|name| !found.iter().any(|(column, _)| column.name == *name)).any(|name| unread(name, since).is_some())
        };
        // Several fields back to what they showed before, or one of them and another written anew, and nothing left that came
        // since: a panel that was open all the while. Nobody types an old text back to the letter in passing.
        let restores = found.iter().filter(|column| restored(column)).count();
        let is_panel = restores > 0 && found.len() > 1 && !untouched();
        let mut edits = Edits::default();
        for (column, unread) in found {
            let Some(unread) = unread else {
                edits.puts.insert(column.name, column.value);
                continue;
            };
            let restored = unread.showed(&column.value);
            if restored && is_panel {
                continue;
            }
            let is_text = column.role == Role::Field && (column.value.as_text().is_some() || says_nothing(&column.value)) && column.document.as_text().is_some();
            let beside = is_panel || column.hid_arrivals || (restored && is_text) || (is_text && !has_read(document, &column, &unread));
            if beside {
                edits.unread.extend(&unread.changes);
                edits.beside.insert(column.name, column.value);
                continue;
            }
            if is_text && !column.document.as_text().is_some_and(|text| text.is_empty()) {
                edits.replaced.extend(unread.changes.iter().map(|change| (column.name.clone(), *change)));
            }
            edits.puts.insert(column.name, column.value);
        }
        Ok(edits)
    }
}

/// Whether a text shows that its author had read what stands there. Only prose is long enough to tell.
fn has_read(document: &Document, column: &Written, unread: &Unread) -> bool {
    let (Some(text), Some(standing)) = (column.value.as_text(), column.document.as_text()) else { return true };
    if !is_prose(document, &column.name) {
        return true;
    }
    unread.showed.iter().all(|earlier| keeps_changes(earlier.as_text().unwrap_or_default(), standing, text))
}
