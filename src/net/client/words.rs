//! What happened in an exchange, in words for a person and for the audit log.

use storysync_engine::exchange::Notice;
use storysync_engine::{FirstContact, Relation};

/// A notice as a sentence; `peer` is what the other device is called.
pub(super) fn of_notice(notice: &Notice, peer: &str) -> String {
    match notice {
        Notice::OwnEpochBegan(cause) => cause.sentence().to_owned(),
        Notice::PeerEpochBegan => format!(
            "the database of {peer} was restored from a backup, copied or replaced; it was \
                compared \
             with this one, and each gets what it lacks"
        ),
        Notice::Met(contact) => of_first_contact(contact, peer),
    }
}

/// What two files were taken for when they met.
pub(super) fn of_first_contact(contact: &FirstContact, peer: &str) -> String {
    let FirstContact { kind, common, agreeing, renamed } = contact;
    match kind {
        Relation::Copies => format!(
            "This database and that of {peer} are copies of one file that went apart ({agreeing} \
                of \
             {common} rows under the same id agree): {renamed} rows that were changed since are \
             matched by their id. Where both changed the same field, a conflict is told."
        ),
        Relation::Unrelated => format!(
            "This database and that of {peer} are not copies of one file ({agreeing} of {common} \
             rows under the same id agree): both are put together, and every row stays a row of \
             its \
             own."
        ),
    }
}
