//! Tables in which rows arrive by the fast path, as far as one transaction has to remember them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::store::rows::TableId;

/// What is known of a table for the length of one transaction.
#[derive(Debug)]
pub(crate) struct Arrivals {
    pub(crate) table: TableId,
    pub(crate) name: Arc<str>,
    /// Whether rows may arrive the short way at all.
    pub(crate) open: bool,
    pub(crate) last_id: i64,
}

/// Tables rows arrive in, by name.
pub(crate) type ArrivalsByTable = HashMap<String, Arrivals>;
