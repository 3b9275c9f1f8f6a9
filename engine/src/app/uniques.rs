//! UNIQUE as the app's tables have it: on columns as they are, and by rules only SQLite can judge
//! (collations, conditions, expressions, generated columns).

use std::collections::BTreeSet;

use rusqlite::Connection;

/// A unique index whose values can't be compared column by column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UniqueRule {
    /// The index.
    pub name: String,
    /// The columns it is about, those of its condition first.
    pub columns: Vec<String>,
    /// Whether it holds for some rows only.
    pub is_partial: bool,
}

/// Whether a table settles conflicts by itself (`ON CONFLICT REPLACE`, `IGNORE` …): what is written
/// to it may then take other rows away, or not arrive, without an error.
pub(super) fn settles_conflicts(connection: &Connection, table: &str) -> rusqlite::Result<bool> {
    let sql = table_sql(connection, table)?;
    let words: Vec<String> = sql.split_whitespace().map(str::to_ascii_uppercase).collect();
    Ok(words
        .windows(2)
        .any(|pair| matches!(pair, [on, conflict] if on.ends_with("ON") && conflict == "CONFLICT")))
}

fn table_sql(connection: &Connection, table: &str) -> rusqlite::Result<String> {
    let sql = "SELECT coalesce(sql, '') FROM sqlite_schema WHERE type = 'table' AND name = ?1";
    connection.prepare_cached(sql)?.query_row([table], |row| row.get(0))
}

/// The column lists of all total unique indexes on columns.
pub(super) fn column_lists(
    connection: &Connection,
    table: &str,
) -> rusqlite::Result<Vec<Vec<String>>> {
    let mut found = BTreeSet::new();
    let mut indexes = connection.prepare_cached(
        "SELECT name FROM pragma_index_list(?1) WHERE \"unique\" = 1 AND partial = 0",
    )?;
    let names: Vec<String> =
        indexes.query_map([table], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for name in names {
        let mut info =
            connection.prepare_cached("SELECT name FROM pragma_index_info(?1) ORDER BY seqno")?;
        let columns: Vec<Option<String>> =
            info.query_map([&name], |row| row.get(0))?.collect::<Result<_, _>>()?;
        if let Some(columns) = columns.into_iter().collect::<Option<Vec<String>>>() {
            found.insert(columns);
        }
    }
    Ok(found.into_iter().collect())
}

/// The unique indexes of a table that only SQLite can judge. `stored` are the columns that hold
/// values, `generated` those that follow from others.
pub(super) fn rules(
    connection: &Connection,
    table: &str,
    stored: &[String],
    generated: &[String],
) -> rusqlite::Result<Vec<UniqueRule>> {
    let mut found = Vec::new();
    let mut indexes = connection.prepare_cached(
        "SELECT name, partial FROM pragma_index_list(?1) WHERE \"unique\" = 1 ORDER BY name",
    )?;
    let listed: Vec<(String, bool)> = indexes
        .query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for (name, is_partial) in listed {
        let mut info = connection.prepare_cached(
            "SELECT name, coll FROM pragma_index_xinfo(?1) WHERE key = 1 ORDER BY seqno",
        )?;
        let keys: Vec<(Option<String>, String)> = info
            .query_map([&name], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        let is_expression = keys
            .iter()
            .any(|(column, _)| column.as_ref().is_none_or(|column| generated.contains(column)));
        let is_collated = keys.iter().any(|(_, collation)| collation != "BINARY");
        if !is_partial && !is_expression && !is_collated {
            continue;
        }
        let sql: String = connection
            .query_row(
                "SELECT coalesce(sql, '') FROM sqlite_schema WHERE type = 'index' AND name = ?1",
                [&name],
                |row| row.get(0),
            )
            .unwrap_or_default();
        let (terms, condition) = split_at_condition(&sql);
        let mut columns = mentioned(condition, stored);
        let mut add = |more: Vec<String>| {
            columns.extend(
                more.into_iter().filter(|column| !columns.contains(column)).collect::<Vec<_>>(),
            )
        };
        add(keys
            .iter()
            .filter_map(|(column, _)| column.clone())
            .filter(|column| stored.contains(column))
            .collect());
        add(mentioned(terms, stored));
        for column in keys
            .iter()
            .filter_map(|(column, _)| column.as_ref())
            .filter(|column| generated.contains(column))
        {
            add(mentioned(definition_of(&table_sql(connection, table)?, column), stored));
        }
        found.push(UniqueRule { name, columns, is_partial });
    }
    Ok(found)
}

/// The columns whose names stand in a piece of SQL, outside its string literals, in its order.
fn mentioned(sql: &str, columns: &[String]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let outside: String = sql.split('\'').step_by(2).collect::<Vec<_>>().join(" ");
    for word in outside.split(|c: char| !c.is_alphanumeric() && c != '_') {
        if let Some(column) = columns.iter().find(|column| column.eq_ignore_ascii_case(word))
            && !found.contains(column)
        {
            found.push(column.clone());
        }
    }
    found
}

/// The terms of an index, and what follows their parenthesis: its condition. What stands in quotes
/// opens and closes nothing.
fn split_at_condition(sql: &str) -> (&str, &str) {
    let (mut depth, mut begin, mut quote) = (0_i32, None, None);
    for (place, letter) in sql.char_indices() {
        match (quote, letter) {
            (Some(end), _) if letter == end => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"' | '`') => quote = Some(letter),
            (None, '[') => quote = Some(']'),
            (None, '(') => {
                depth += 1;
                begin = begin.or(Some(place + 1));
            }
            (None, ')') => {
                depth -= 1;
                if let (0, Some(begin)) = (depth, begin) {
                    return (
                        sql.get(begin..place).unwrap_or_default(),
                        sql.get(place + 1..).unwrap_or_default(),
                    );
                }
            }
            _ => {}
        }
    }
    ("", "")
}

/// What a CREATE TABLE says of a column: from its name to the next comma outside parentheses.
fn definition_of<'a>(table_sql: &'a str, column: &str) -> &'a str {
    let body = table_sql.split_once('(').map_or("", |(_, body)| body);
    let mut depth = 0_i32;
    let mut begin = 0;
    for (place, letter) in body.char_indices().chain([(body.len(), ',')]) {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth <= 0 => {
                let definition = body.get(begin..place).unwrap_or_default();
                let first = definition.trim_start().trim_start_matches(['"', '`', '[', '\'']);
                if first.get(..column.len()).is_some_and(|name| name.eq_ignore_ascii_case(column))
                    && !first.get(column.len()..).is_some_and(|rest| {
                        rest.starts_with(|c: char| c.is_alphanumeric() || c == '_')
                    })
                {
                    return definition;
                }
                begin = place + 1;
            }
            _ => {}
        }
    }
    ""
}
