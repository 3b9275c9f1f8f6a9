//! The model of storysync on one page.
//!
//! Every row of the app's tables is an **entity**, named by its table and `sync_uuid`
//! ([`EntityId`]). An entity's whole life is a set of automerge **changes** ([`Change`]): the first
//! one, without dependencies, is its *genesis*; every later one puts a few columns. The changes
//! make an **entity document** ([`Document`]), a flat map in which every column is a register
//! holding one scalar. What a document shows is computed by pure functions:
//!
//! ```text
//! changes ──▶ Document ──┬── row()        what the app's table should hold
//!                        ├── conflicts()  what conflicted, with every value and who wrote it
//!                        └── history()    who wrote what, and when
//! all documents ─────────── shown()       rows and conflicts, with the rules across rows
//! ```
//!
//! Because these are functions of the set of changes alone, every device that holds the same
//! changes shows the same rows and the same conflicts, whatever the order in which they came.
//!
//! The bytes are automerge's own: [`save()`] gives a document that any automerge implementation
//! opens. Reading and writing changes is ours: a flat map of registers needs a few lines, while a
//! loaded automerge document costs 17–50 KiB and is not safe on hostile bytes. What our own reader
//! does not plainly know, automerge judges.
//!
//! This crate refuses to know disks, sockets, clocks and randomness: actors and times are
//! arguments.

mod change;
mod chunk;
mod conflict;
mod document;
mod draft;
mod form;
mod genesis;
mod guard;
mod history;
mod id;
mod loss;
mod prose;
mod receipt;
mod ring;
mod row;
mod sameness;
mod save;
mod seen;
mod shown;
mod stamp;
mod value;

pub use change::{Change, FIRST_VERSION_MAX, VALUE_BYTES_MAX, VERSION_MAX};
pub use conflict::{Conflict, ConflictId, ConflictKind, ConflictValue, FieldConflict, conflicts};
pub use document::{ApplyError, Base, Document, EditPurpose, EditedState, Heads, Register};
pub use draft::{Op, OpId};
pub use form::{Arrivals, Edits, Form, Written, edits};
pub use genesis::{derived_uuid, genesis, key_uuid};
pub use guard::{
    ACTOR_BYTES_MAX, CHANGE_BYTES_MAX, DEPENDENCIES_PER_CHANGE_MAX, DecodeError, KEY_BYTES_MAX,
    MESSAGE_BYTES_MAX, PREDECESSORS_PER_CHANGE_MAX, PUTS_PER_CHANGE_MAX, change_time,
};
pub use history::{
    Action, Entry, FieldChange, Undo, UndoRow, deletion_puts, history, newest_edit, undo,
};
pub use id::{ACTOR_RUN_BYTES, Actor, ChangeHash, DeviceKey, EntityId, SyncUuid, TableName};
pub use loss::characters_lost;
pub use prose::{keeps_changes, merge_prose};
pub use receipt::{Dated, FirstContactIs, Meant, Receipt, Since, Whose, meant};
pub use ring::{
    Move, RING_ROWS_MAX, gives_way, is_tree_column, leads_to, moved, ring, ring_conflict, way_back,
};
pub use row::{
    Deletion, DeletionKind, Row, RowHead, deletion, field, head_of_first, is_prose, row, row_head,
    version,
};
pub use sameness::{is_kept_by_app, says_nothing, says_the_same};
pub use save::{SaveError, save};
pub use seen::{Seen, Unread};
pub use shown::{
    LEFT_ALL, LeftBehind, Reference, Shape, Shown, Standing, TableShape, are_twins, left_name,
    orphan_conflict, shown, stands, target, unique_conflict,
};
pub use stamp::{Stamp, UNKNOWN_STAMP};
pub use value::{NOWHERE, Value};

/// Document keys that are not columns of the app.
pub mod key {
    /// Time of the row's creation, as text; see [`crate::Stamp`].
    pub const CREATED_AT: &str = "created_at";
    /// Time of the last edit, as text, by its author's clock.
    pub const UPDATED_AT: &str = "updated_at";
    /// Text of the deletion, or null while the row lives.
    pub const DELETED_AT: &str = "deleted_at";
    /// The version as the author of the change saw it.
    pub const VERSION: &str = "version";
    /// `hard` when the app removed the row, `soft` when it set `deleted_at`.
    pub const DELETE_KIND: &str = "$delete";
    /// `sync_uuid` of the row, in the first change of a row somebody wrote: two rows inserted alike
    /// in the same instant would otherwise be one change.
    pub const ROW: &str = "$row";
    /// Comma-separated `table/uuid` of the rows that still referred to a deleted row;
    /// [`crate::LEFT_ALL`] for all there were.
    pub const LEFT_BEHIND: &str = "$left";
    /// Comma-separated names of the columns that merge as prose; written once, at creation.
    pub const PROSE: &str = "$prose";

    /// How often the app saved the row for this one change, where that is more than once: so far it
    /// raises [`VERSION`].
    pub const SAVES: &str = "$saves";
    /// Comma-separated names of the columns in this change that hold what they held before
    /// something came from elsewhere: written back all the same, they count as typed.
    pub const TYPED: &str = "$typed";
    /// Comma-separated names of the references in this change that lead to no row: there
    /// [`crate::NOWHERE`] is a mark, and nobody's text.
    pub const NOWHERE: &str = "$nowhere";

    /// Prefix of the key of a column of the app's that bears the name of one of our own keys.
    pub const APP_COLUMN: &str = "column:";

    /// The key of a column.
    #[must_use]
    pub fn of_column(name: &str) -> String {
        if is_bookkeeping(name) { format!("{APP_COLUMN}{name}") } else { name.to_owned() }
    }

    /// Whether a key carries bookkeeping and no content of the app's.
    #[must_use]
    pub fn is_bookkeeping(key: &str) -> bool {
        key.starts_with('$') || matches!(key, CREATED_AT | UPDATED_AT | DELETED_AT | VERSION)
    }
}
