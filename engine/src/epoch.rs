//! The epochs of a log: within one, the same number means the same change for ever. Where a file
//! was restored, copied or replaced, or its rows took other names, another epoch begins, and what
//! was told of the log before says nothing of what follows.

use rusqlite::{Connection, OptionalExtension as _, params};
use storysync_crdt::Stamp;

use crate::store::log::Epoch;

/// Why a log begins another epoch: what was told of it before says nothing of what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NewEpoch {
    /// An earlier state of the file stands in its place: a backup.
    Restored,
    /// The file belonged to another device.
    Copied,
    /// Another file, or a state of this one that went on elsewhere, stands in its place.
    Replaced,
    /// Rows took the names they have in another file.
    Renamed,
}

impl NewEpoch {
    fn word(self) -> &'static str {
        match self {
            Self::Restored => "restored",
            Self::Copied => "copied",
            Self::Replaced => "replaced",
            Self::Renamed => "renamed",
        }
    }

    pub(crate) fn of_word(word: &str) -> Option<Self> {
        [Self::Restored, Self::Copied, Self::Replaced, Self::Renamed]
            .into_iter()
            .find(|cause| cause.word() == word)
    }

    /// What happened, for a person.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Restored => {
                "the database was put back to an earlier state (a backup was restored); what the \
                    other devices have of the time since comes back from them"
            }
            Self::Copied => {
                "the database was copied from another device; it is compared with the other \
                    devices, and goes on as this one's own"
            }
            Self::Replaced => {
                "the database was replaced by another; it is compared with the other devices, and \
                    nothing of either is lost"
            }
            Self::Renamed => "rows of the database took the names they have on the other device",
        }
    }
}

/// What the file says of whose it is.
pub(crate) struct State {
    pub(crate) device_id: String,
    pub(crate) epoch: Epoch,
    pub(crate) schema_version: i64,
}

pub(crate) fn read_state(connection: &Connection) -> rusqlite::Result<Option<State>> {
    connection
        .prepare_cached("SELECT device_id, epoch, schema_version FROM sync_state")?
        .query_row([], |row| {
            Ok(State { device_id: row.get(0)?, epoch: row.get(1)?, schema_version: row.get(2)? })
        })
        .optional()
}

/// Writes down that another epoch begins, and why.
pub(crate) fn begin_epoch(
    connection: &Connection,
    epoch: &Epoch,
    cause: NewEpoch,
    now: Stamp,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE sync_state SET epoch = ?1, began_by = ?2, began_at = ?3")?
        .execute(params![epoch.as_slice(), cause.word(), now.unix_ms()])?;
    Ok(())
}

/// Bytes as lowercase hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
