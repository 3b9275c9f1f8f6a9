//! How a node stands, in numbers.

use serde::Serialize;

/// How this node stands.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Rows in the app's tables.
    pub entities: i64,
    /// Rows that wait for something.
    pub parked: i64,
    /// Open conflicts.
    pub conflicts: i64,
    /// Changes of others that were refused and are remembered by name.
    pub quarantined: i64,
    /// Length of the change log.
    pub changes: i64,
    /// Epoch of the change log, hexadecimal.
    pub epoch: String,
}
