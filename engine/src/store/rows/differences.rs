//! What the app's table shows otherwise than the document says, column by column.

use crate::translate::{from_json, to_json};
use std::collections::BTreeMap;
use storysync_crdt::Value;

/// A column whose table value is not what the document says: a reference that resolves to nothing
/// here, a value the table refuses. Holds as long as the document still says `document`.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// What the document says.
    pub document: Value,
    /// What the table shows.
    pub shown: Value,
    /// Why.
    pub kind: DifferenceKind,
}

/// Why a table shows something else than its document says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DifferenceKind {
    /// It means the same, or nothing: a reference that leads nowhere, a converted number.
    Quiet,
    /// The table refuses the document's value: a conflict to be told.
    Refused,
    /// The table's value can't travel and is nowhere else: a conflict to be told, and nothing may
    /// replace it.
    Unsent,
    /// The row referred to waits, and this one stands in its place.
    StandIn,
    /// The deletion guard holds the text back from being emptied or cut.
    Held,
    /// The deletion guard holds the row referred to, and this reference with it.
    HeldLink,
    /// The row would stand in a circle, and is where it was before.
    Ring,
}

impl DifferenceKind {
    fn word(self) -> Option<&'static str> {
        match self {
            Self::Quiet => None,
            Self::Refused => Some("refused"),
            Self::Unsent => Some("unsent"),
            Self::StandIn => Some("stand_in"),
            Self::Held => Some("held"),
            Self::HeldLink => Some("held_link"),
            Self::Ring => Some("ring"),
        }
    }

    fn of_word(word: Option<&str>) -> Self {
        match word {
            Some("refused") => Self::Refused,
            Some("unsent") => Self::Unsent,
            Some("stand_in") => Self::StandIn,
            Some("held") => Self::Held,
            Some("held_link") => Self::HeldLink,
            Some("ring") => Self::Ring,
            _ => Self::Quiet,
        }
    }
}

impl Difference {
    /// A difference nobody need be told of.
    #[must_use]
    pub fn new(document: Value, shown: Value) -> Self {
        Self { document, shown, kind: DifferenceKind::Quiet }
    }

    /// A difference of a kind.
    #[must_use]
    pub fn of_kind(document: Value, shown: Value, kind: DifferenceKind) -> Self {
        Self { document, shown, kind }
    }

    /// Whether the deletion guard makes it.
    #[must_use]
    pub fn is_held(&self) -> bool {
        matches!(self.kind, DifferenceKind::Held | DifferenceKind::HeldLink)
    }

    /// Whether it makes a conflict of kind `schema`.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self.kind, DifferenceKind::Refused | DifferenceKind::Unsent)
    }
}

/// Differences by column.
pub type Differences = BTreeMap<String, Difference>;

pub(super) fn parse_differs(json: &str) -> Differences {
    let parsed: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(json).unwrap_or_default();
    parsed
        .iter()
        .filter_map(|(name, pair)| {
            let kind =
                DifferenceKind::of_word(pair.get("kind").and_then(serde_json::Value::as_str));
            Some((
                name.clone(),
                Difference {
                    document: from_json(pair.get("document")?)?,
                    shown: from_json(pair.get("shown")?)?,
                    kind,
                },
            ))
        })
        .collect()
}

pub(super) fn write_differs(differs: &Differences) -> Option<String> {
    if differs.is_empty() {
        return None;
    }
    let pair = |difference: &Difference| {
        let mut pair = serde_json::json!({ "document": to_json(&difference.document),
            "shown": to_json(&difference.shown) });
        if let (Some(word), Some(pair)) = (difference.kind.word(), pair.as_object_mut()) {
            pair.insert("kind".to_owned(), word.into());
        }
        pair
    };
    let object: serde_json::Map<String, serde_json::Value> =
        differs.iter().map(|(name, difference)| (name.clone(), pair(difference))).collect();
    Some(serde_json::Value::Object(object).to_string())
}
