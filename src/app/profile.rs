//! What is known of apps beforehand: which columns hold prose, and which names their documented
//! interface uses for tables. Everything else is found by introspection.

use storysync_crdt::Value;

use super::schema::{Column, Schema};

/// Columns of Storymaster that hold prose, by name: descriptions, notes and whatever a writer types
/// sentences into. Names, titles, roles and codes are not among them: those never merge by letters.
const STORYMASTER_PROSE: &[&str] = &[
    "acquisition_method",
    "acquisition_story",
    "appearance",
    "bond",
    "challenges",
    "character_perspective",
    "character_relationships",
    "conflicts",
    "consequences",
    "control_mechanisms",
    "control_method",
    "cultural_upbringing",
    "current_status",
    "dangers",
    "description",
    "economically",
    "faction_expenses",
    "faction_income_sources",
    "faction_perspective",
    "faction_values",
    "feels",
    "flaw",
    "future_plans",
    "goals",
    "government",
    "heritage_secrets",
    "how_joined",
    "how_learned",
    "how_met",
    "ideal",
    "impact_on_character",
    "impact_on_faction",
    "internal_conflict",
    "key_supporters",
    "learning_goals",
    "living_conditions",
    "local_opposition",
    "notes",
    "opinion",
    "overall",
    "personal_goals",
    "politically",
    "reason_for_living",
    "relationships_neighbors",
    "resources_benefits",
    "responsibilities",
    "secrets",
    "shared_history",
    "sights",
    "skill_applications",
    "smells",
    "sounds",
    "storage_location",
    "strengths",
    "tastes",
    "timeline",
    "trade_goods",
    "traps",
    "weaknesses",
];

/// In an app nobody described, text longer than this many characters is taken for prose.
const PROSE_CHARS_MIN: usize = 120;

/// Decides which columns of a new document merge as prose.
#[derive(Debug, Clone, Default)]
pub struct Prose {
    /// `table.column` or `column`, from the configuration.
    pub configured: Vec<String>,
}

impl Prose {
    /// Whether `column` of `table`, holding `value` when its document is created, merges as prose.
    #[must_use]
    pub fn is_prose(&self, schema: &Schema, table: &str, column: &Column, value: &Value) -> bool {
        if !column.is_text() {
            return false;
        }
        if self.configured.iter().any(|name| *name == column.name || name.strip_suffix(&column.name) == Some(&format!("{table}."))) {
            return true;
        }
        if is_storymaster(schema) {
            return STORYMASTER_PROSE.binary_search(&column.name.as_str()).is_ok();
        }
        value.as_text().is_some_and(|text| text.contains('\n') || text.chars().count() > PROSE_CHARS_MIN)
    }
}

/// Whether these are Storymaster's tables.
fn is_storymaster(schema: &Schema) -> bool {
    ["actor", "litography_node", "world_data"].iter().all(|name| schema.table(name).is_some())
}

/// The table an `entity_type` of the documented interface means: Storymaster documents `location`
/// for its table `location_`.
#[must_use]
pub fn table_of_entity_type(entity_type: &str) -> &str {
    match entity_type {
        "location" => "location_",
        "object" => "object_",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::STORYMASTER_PROSE;

    #[test]
    fn prose_columns_are_sorted_for_searching() {
        assert!(STORYMASTER_PROSE.is_sorted());
    }
}
