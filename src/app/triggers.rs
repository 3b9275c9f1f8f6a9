//! The triggers that note the app's writes. Plain SQL, because they run inside the app's process,
//! which knows nothing of us; they copy no columns, so the app may add and drop columns freely.

use super::schema::{Role, Table};
use super::{literal, quote};

/// Every trigger of ours begins so.
pub const PREFIX: &str = "sync_capture_";

/// UTC now in the dialect Storymaster writes; SQLite holds it still within one statement.
const NOW: &str = "strftime('%Y-%m-%d %H:%M:%f', 'now') || '000'";

/// A random UUID, version 4 (RFC 9562 §5.4).
pub(crate) const RANDOM_UUID: &str = "lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2) || '-' || \
     substr('89AB', 1 + (abs(random()) % 4), 1) || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))";

/// True while somebody other than storysync writes.
const FOREIGN: &str = "(SELECT own FROM sync_writer) = 0";

/// The triggers of one table, as (name, SQL).
///
/// - Before an insert: `INSERT OR REPLACE` fires no delete triggers, so rows it may displace are noted.
/// - After an insert: uuid, times and version are filled where the app left them out. A row without
///   uuid that takes the place of a row still known keeps its uuid NULL: whoever drains gives it the
///   displaced row's.
/// - After an update: `version` is raised and `updated_at` set where the app did not; a version
///   written backwards betrays a form that was read earlier, and is noted with the version it carries.
#[must_use]
pub fn of_table(table: &Table) -> Vec<(String, String)> {
    let name = table.name();
    let mut triggers = vec![(trigger_name(name, "before_insert"), before(table, "BEFORE INSERT", "before_insert", true))];
    if !table.uniques.is_empty() {
        triggers.push((trigger_name(name, "before_update"), before(table, "BEFORE UPDATE", "before_update", false)));
    }
    triggers.push((trigger_name(name, "insert"), after_insert(table)));
    triggers.push((trigger_name(name, "update"), after_update(table)));
    triggers.push((trigger_name(name, "delete"), after_delete(table)));
    triggers
}

fn trigger_name(table: &str, event: &str) -> String {
    format!("{PREFIX}{event}_{table}")
}

fn head(table: &Table, when: &str, event: &str) -> String {
    format!("CREATE TRIGGER {} {when} ON {} WHEN {FOREIGN} BEGIN", quote(&trigger_name(table.name(), event)), quote(table.name()))
}

fn note(table: &Table, operation: &str, local_id: &str, uuid: &str, base_version: &str) -> String {
    format!(
        "INSERT INTO sync_outbox (table_name, operation, local_id, sync_uuid, base_version, at) \
         SELECT {}, '{operation}', {local_id}, CAST({uuid} AS TEXT), {base_version}, {NOW}",
        literal(table.name())
    )
}

fn before(table: &Table, when: &str, event: &str, inserting: bool) -> String {
    let id = quote(&table.local_id);
    let mut body = head(table, when, event);
    let mut noted = |condition: &str| {
        let note = note(table, "R", &id, "sync_uuid", "NULL");
        body.push_str(&format!("\n  {note} FROM {} WHERE {condition};", quote(table.name())));
    };
    if inserting {
        noted(&format!("{id} = NEW.{id}"));
    }
    for unique in &table.uniques {
        let same: Vec<String> = unique.iter().map(|column| format!("{0} = NEW.{0}", quote(column))).collect();
        let other = if inserting { String::new() } else { format!(" AND {id} IS NOT OLD.{id}") };
        noted(&format!("{}{other}", same.join(" AND ")));
    }
    body.push_str("\nEND");
    body
}

fn after_insert(table: &Table) -> String {
    let (name, id) = (quote(table.name()), quote(&table.local_id));
    let mut sets = Vec::new();
    let mut lacking = Vec::new();
    for column in &table.columns {
        let quoted = quote(&column.name);
        let (value, mut lacks) = match column.role {
            // A row still known under this id was replaced, not deleted: leave the uuid to the drain.
            Role::SyncUuid => {
                let replaced = format!(
                    "EXISTS (SELECT 1 FROM sync_row AS r WHERE r.table_id = (SELECT t.id FROM sync_table AS t WHERE t.name = {0}) \
                     AND r.local_id = NEW.{id} AND r.present = 1 AND NOT EXISTS (SELECT 1 FROM sync_outbox AS o \
                     WHERE o.table_name = {0} AND o.local_id = NEW.{id} AND o.operation = 'D'))",
                    literal(table.name())
                );
                (format!("CASE WHEN {replaced} THEN NULL ELSE {RANDOM_UUID} END"), vec![format!("NEW.{quoted} IS NULL")])
            }
            Role::CreatedAt | Role::UpdatedAt => (NOW.to_owned(), vec![format!("NEW.{quoted} IS NULL")]),
            Role::Version => ("1".to_owned(), vec![format!("NEW.{quoted} IS NULL")]),
            _ => continue,
        };
        if let (Role::CreatedAt | Role::UpdatedAt, Some(baked)) = (&column.role, column.baked_default()) {
            lacks.push(format!("NEW.{quoted} IS {}", literal(&baked)));
        }
        // A column that refuses NULL can't hold one after the insert.
        if column.not_null {
            lacks.retain(|condition| !condition.ends_with("IS NULL"));
        }
        if lacks.is_empty() {
            continue;
        }
        let lacks = lacks.join(" OR ");
        sets.push(format!("{quoted} = CASE WHEN {lacks} THEN {value} ELSE {quoted} END"));
        lacking.push(lacks);
    }
    let mut body = head(table, "AFTER INSERT", "insert");
    if !sets.is_empty() {
        body.push_str(&format!("\n  UPDATE {name} SET {} WHERE {id} = NEW.{id} AND ({});", sets.join(", "), lacking.join(" OR ")));
    }
    body.push_str(&format!("\n  {};\nEND", note(table, "I", &format!("NEW.{id}"), "NEW.sync_uuid", "NULL")));
    body
}

fn after_update(table: &Table) -> String {
    let (name, id) = (quote(table.name()), quote(&table.local_id));
    let mut body = head(table, "AFTER UPDATE", "update");
    // The app wrote neither: fill in. NULL versions are counted from 1.
    body.push_str(&format!(
        "\n  UPDATE {name} SET version = coalesce(OLD.version, 1) + 1, updated_at = CASE WHEN NEW.updated_at IS OLD.updated_at THEN {NOW} ELSE NEW.updated_at END \
         WHERE {id} = NEW.{id} AND NEW.version IS OLD.version;"
    ));
    let old = |operation: &str, condition: &str| format!("\n  {} WHERE {condition};", note(table, operation, &format!("OLD.{id}"), "OLD.sync_uuid", "NULL"));
    body.push_str(&old("D", &format!("OLD.{id} IS NOT NEW.{id}")));
    body.push_str(&old("X", &format!("OLD.{id} IS NEW.{id} AND OLD.sync_uuid IS NOT NEW.sync_uuid AND OLD.sync_uuid IS NOT NULL")));
    let stale = "CASE WHEN NEW.version < OLD.version THEN CAST(NEW.version AS INTEGER) END";
    body.push_str(&format!("\n  {};\nEND", note(table, "U", &format!("NEW.{id}"), "NEW.sync_uuid", stale)));
    body
}

fn after_delete(table: &Table) -> String {
    let id = quote(&table.local_id);
    format!("{}\n  {};\nEND", head(table, "AFTER DELETE", "delete"), note(table, "D", &format!("OLD.{id}"), "OLD.sync_uuid", "NULL"))
}
