//! The document as automerge's own file format, for any automerge implementation to open.

use std::panic::{AssertUnwindSafe, catch_unwind};

use automerge::{Automerge, ReadDoc};

use crate::Document;

/// Why a document can't be written as an automerge file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// automerge refused the changes.
    #[error("automerge refuses this document's changes: {0}")]
    Refused(String),
    /// automerge sees other heads than we do.
    #[error("automerge reads this document differently; please report it")]
    Differs,
}

/// Builds the automerge document of these changes, saves it, and opens what was saved.
///
/// # Errors
/// When automerge does not take the changes, or does not end at the same heads, before or after.
pub fn save(document: &Document) -> Result<Vec<u8>, SaveError> {
    let build = || {
        let mut changes = Vec::with_capacity(document.changes().len());
        for change in document.changes() {
            changes.push(
                automerge::Change::try_from(change.bytes())
                    .map_err(|error| SaveError::Refused(error.to_string()))?,
            );
        }
        let mut loaded = Automerge::new();
        loaded.apply_changes(changes).map_err(|error| SaveError::Refused(error.to_string()))?;
        let saved = loaded.save();
        let opened =
            Automerge::load(&saved).map_err(|error| SaveError::Refused(error.to_string()))?;
        for automerge in [&loaded, &opened] {
            let heads: crate::Heads =
                automerge.get_heads().into_iter().map(|head| crate::ChangeHash(head.0)).collect();
            if heads != *document.heads()
                || automerge.keys(automerge::ROOT).count() != document.registers().count()
            {
                return Err(SaveError::Differs);
            }
        }
        Ok(saved)
    };
    // automerge 0.12 panics on some well-formed input (see "The guard"); a document is never worth
    // a crash.
    catch_unwind(AssertUnwindSafe(build))
        .unwrap_or_else(|_| Err(SaveError::Refused("it panicked".to_owned())))
}
