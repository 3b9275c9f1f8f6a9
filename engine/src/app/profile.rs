//! What is known of apps beforehand: which columns hold prose, and which names their documented
//! interface uses for tables. Everything else is found by introspection.

use storysync_crdt::{Stamp, Value};

use super::schema::{Affinity, Column, Schema};

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

/// Columns of Storymaster whose values it reads as an enumeration: any other value crashes it. By
/// table, column and values, the one that stands for nothing in particular first.
const STORYMASTER_ENUMS: &[(&str, &str, &[&str])] = &[
    (
        "litography_node",
        "node_type",
        &["other", "exposition", "action", "reaction", "twist", "development"],
    ),
    ("litography_notes", "note_type", &["other", "what", "why", "how", "when", "where"]),
    (
        "litography_plot_section",
        "plot_section_type",
        &["Tension Sustains", "Tension Lowers", "Tension Increases", "Singular Moment"],
    ),
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
        if self.configured.iter().any(|name| {
            *name == column.name || name.strip_suffix(&column.name) == Some(&format!("{table}."))
        }) {
            return true;
        }
        if is_storymaster(schema) {
            return STORYMASTER_PROSE.binary_search(&column.name.as_str()).is_ok();
        }
        value
            .as_text()
            .is_some_and(|text| text.contains('\n') || text.chars().count() > PROSE_CHARS_MIN)
    }
}

fn enumeration(table: &str, column: &str) -> Option<&'static [&'static str]> {
    STORYMASTER_ENUMS
        .iter()
        .find(|(of, name, _)| *of == table && *name == column)
        .map(|(_, _, values)| *values)
}

/// Whether the app can read a value in a column. What is known of no app is SQLite's to say.
#[must_use]
pub fn takes(schema: &Schema, table: &str, column: &Column, value: &Value) -> bool {
    if value.is_null() || !is_storymaster(schema) {
        return true;
    }
    if let Some(values) = enumeration(table, &column.name) {
        return value.as_text().is_some_and(|text| values.contains(&text));
    }
    match column.declared.as_str() {
        "INTEGER" | "BOOLEAN" => matches!(value, Value::Integer(_)),
        "FLOAT" => matches!(value, Value::Integer(_) | Value::Real(_)),
        "DATETIME" | "TIMESTAMP" => value
            .as_text()
            .is_some_and(|text| Stamp::parse(text).is_some() || text.starts_with("1970-01-01")),
        _ => column.affinity == Affinity::Blob || !matches!(value, Value::Blob(_)),
    }
}

/// What to show in a column that must hold a value the app can read, when the document has none.
#[must_use]
pub fn empty_value(table: &str, column: &str) -> Option<Value> {
    enumeration(table, column).and_then(|values| values.first()).map(|value| Value::from(*value))
}

/// Whether these are Storymaster's tables.
#[must_use]
pub fn is_storymaster(schema: &Schema) -> bool {
    ["actor", "litography_node", "world_data"].iter().all(|name| schema.table(name).is_some())
}

/// Columns by which people know a row, best first. A person's title is not what they are called.
const NAME_COLUMNS: &[&str] = &[
    "name",
    "first_name",
    "last_name",
    "title",
    "label",
    "username",
    "heading",
    "subject",
    "caption",
    "key",
    "body",
    "text",
    "description",
    "note",
];
/// Characters of a long text that name a row.
const NAME_CHARS_MAX: usize = 60;

/// What people call a row, by its columns: a name or a title, first and last name, else how its
/// text begins.
#[must_use]
pub fn row_name(fields: &std::collections::BTreeMap<String, Value>) -> Option<String> {
    let text = |column: &str| {
        fields.get(column).and_then(Value::as_text).map(str::trim).filter(|text| !text.is_empty())
    };
    let name = NAME_COLUMNS.iter().find_map(|column| Some((*column, text(column)?)));
    let any = || {
        fields.iter().find_map(|(column, _)| {
            Some((column.as_str(), text(column).filter(|text| !is_uuid(text))?))
        })
    };
    let (column, first) = name.or_else(any)?;
    let whole = match (column, text("last_name")) {
        ("first_name", Some(last)) => format!("{first} {last}"),
        _ => first.to_owned(),
    };
    let line: String = whole.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut short: String = line.chars().take(NAME_CHARS_MAX).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    Some(short)
}

/// Whether a text names something for machines only (RFC 9562 §4).
fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.chars().enumerate().all(|(at, character)| {
            if matches!(at, 8 | 13 | 18 | 23) {
                character == '-'
            } else {
                character.is_ascii_hexdigit()
            }
        })
}

/// The table an `entity_type` of the documented interface means: Storymaster documents `location`
/// for its table `location_`. A table that really is called so is meant before.
#[must_use]
pub fn table_of_entity_type<'a>(schema: &Schema, entity_type: &'a str) -> &'a str {
    let documented = match entity_type {
        "location" => "location_",
        "object" => "object_",
        other => return other,
    };
    if schema.table(entity_type).is_none() && schema.table(documented).is_some() {
        documented
    } else {
        entity_type
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
