//! The triggers that note the app's writes. Plain SQL, because they run inside the app's process,
//! which knows nothing of us; they copy no columns, so the app may add and drop columns freely.

use super::schema::{Role, Table};
use super::{literal, quote};

/// Every trigger of ours begins so.
pub const PREFIX: &str = "sync_capture_";

/// UTC now in the dialect Storymaster writes; SQLite holds it still within one statement.
const NOW: &str = "strftime('%Y-%m-%d %H:%M:%f', 'now') || '000'";

/// A random UUID, version 4 (RFC 9562 §5.4).
pub(crate) const RANDOM_UUID: &str = "lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || \
    '-4' || substr(hex(randomblob(2)), 2) || '-' || \
     substr('89AB', 1 + (abs(random()) % 4), 1) || substr(hex(randomblob(2)), 2) || '-' || \
     hex(randomblob(6)))";

/// True while somebody other than storysync writes.
const FOREIGN: &str = "(SELECT own FROM sync_writer) = 0";
/// True while storysync writes and triggers of the app's run along: what they touch is noted, too.
const DERIVING: &str = "(SELECT own FROM sync_writer) = 2";

/// The triggers of one table, as (name, SQL). `deriving` when the app has triggers of its own.
///
/// - Before an insert: `INSERT OR REPLACE` fires no delete triggers, so rows it may displace are
///   noted. An id that is named (SQLite shows -1 for one it is still to hand out) is that of the
///   row that stands there, or was deleted a moment ago, once more.
/// - After an insert: uuid, times and version are filled where the app left them out. A row without
///   uuid that takes the place of a row still known keeps its uuid NULL: whoever drains gives it
///   the displaced row's.
/// - After an update: `version` is raised and `updated_at` set where the app did not; a version
///   written backwards betrays a form that was read earlier, and is noted with the version it
///   carries.
/// - Where a trigger of the app's watches updates, nothing is filled: it would take that for the
///   app's doing, or refuse it. storysync fills in what is missing when it drains, with all
///   triggers off.
#[must_use]
pub fn of_table(table: &Table, deriving: bool) -> Vec<(String, String)> {
    let name = table.name();
    let mut triggers = vec![(
        trigger_name(name, "before_insert"),
        before(table, "BEFORE INSERT", "before_insert", true),
    )];
    if !table.uniques.is_empty() {
        triggers.push((
            trigger_name(name, "before_update"),
            before(table, "BEFORE UPDATE", "before_update", false),
        ));
    }
    triggers.push((trigger_name(name, "insert"), after_insert(table)));
    triggers.push((trigger_name(name, "update"), after_update(table)));
    triggers.push((trigger_name(name, "delete"), after_delete(table)));
    if deriving {
        for (event, operation, row) in
            [("insert", "I", "NEW"), ("update", "U", "NEW"), ("delete", "D", "OLD")]
        {
            let trigger = trigger_name(name, &format!("derived_{event}"));
            let note = note(
                table,
                operation,
                &format!("{row}.{}", quote(&table.local_id)),
                "NULL",
                "NULL",
            );
            let head = format!(
                "CREATE TRIGGER {} AFTER {} ON {} WHEN {DERIVING} BEGIN",
                quote(&trigger),
                event.to_ascii_uppercase(),
                quote(&table.sql_name)
            );
            triggers.push((trigger, format!("{head}\n  {note};\nEND")));
        }
    }
    triggers
}

fn trigger_name(table: &str, event: &str) -> String {
    format!("{PREFIX}{event}_{table}")
}

fn head(table: &Table, when: &str, event: &str) -> String {
    format!(
        "CREATE TRIGGER {} {when} ON {} WHEN {FOREIGN} BEGIN",
        quote(&trigger_name(table.name(), event)),
        quote(&table.sql_name)
    )
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
        body.push_str(&format!("\n  {note} FROM {} WHERE {condition};", quote(&table.sql_name)));
    };
    if inserting {
        noted(&format!("{id} = NEW.{id}"));
    }
    for unique in &table.uniques {
        let same: Vec<String> = unique
            .iter()
            .map(|column| format!("{0} = NEW.{0}", quote(table.sql_name(column))))
            .collect();
        let other = if inserting { String::new() } else { format!(" AND {id} IS NOT OLD.{id}") };
        noted(&format!("{}{other}", same.join(" AND ")));
    }
    if inserting && table.natural_key.is_empty() {
        let placed = note(table, "P", &format!("NEW.{id}"), "NULL", "NULL");
        let stands =
            format!("EXISTS (SELECT 1 FROM {} WHERE {id} = NEW.{id})", quote(&table.sql_name));
        body.push_str(&format!(
            "\n  {placed} WHERE NEW.{id} <> -1 AND ({stands} OR {});",
            is_noted(table, "D")
        ));
        let forget = format!(
            "UPDATE sync_outbox SET operation = 'R' WHERE operation = 'P' AND table_name = {} AND \
                NEW.{id} = -1",
            literal(table.name())
        );
        body.push_str(&format!("\n  {forget};"));
    }
    body.push_str("\nEND");
    body
}

/// Whether the outbox says that a new row's id was deleted, or named, before.
fn is_noted(table: &Table, operation: &str) -> String {
    format!(
        "EXISTS (SELECT 1 FROM sync_outbox AS o WHERE o.operation = '{operation}' AND o.table_name \
            = {} AND o.local_id = NEW.{})",
        literal(table.name()),
        quote(&table.local_id)
    )
}

fn after_insert(table: &Table) -> String {
    let (name, id) = (quote(&table.sql_name), quote(&table.local_id));
    let mut sets = Vec::new();
    let mut lacking = Vec::new();
    for column in table.columns.iter().filter(|_| !table.watches_updates) {
        let quoted = quote(&column.sql_name);
        let (value, mut lacks) = match column.role {
            // A row still known under this id was replaced, not deleted: leave the uuid to the
            // drain.
            Role::SyncUuid => {
                let replaced = format!(
                    "EXISTS (SELECT 1 FROM sync_row AS r WHERE r.table_id = (SELECT t.id FROM \
                        sync_table AS t WHERE t.name = {}) \
                     AND r.local_id = NEW.{id} AND r.present = 1) AND (NOT {} OR {})",
                    literal(table.name()),
                    is_noted(table, "D"),
                    is_noted(table, "P")
                );
                (
                    format!("CASE WHEN {replaced} THEN NULL ELSE {RANDOM_UUID} END"),
                    vec![format!("NEW.{quoted} IS NULL")],
                )
            }
            Role::CreatedAt | Role::UpdatedAt => {
                (NOW.to_owned(), vec![format!("NEW.{quoted} IS NULL")])
            }
            Role::Version => ("1".to_owned(), vec![format!("NEW.{quoted} IS NULL")]),
            _ => continue,
        };
        if let (Role::CreatedAt | Role::UpdatedAt, Some(baked)) =
            (&column.role, column.baked_default())
        {
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
        body.push_str(&format!(
            "\n  UPDATE {name} SET {} WHERE {id} = NEW.{id} AND ({});",
            sets.join(", "),
            lacking.join(" OR ")
        ));
    }
    body.push_str(&format!(
        "\n  {};\nEND",
        note(table, "I", &format!("NEW.{id}"), "NEW.sync_uuid", "NULL")
    ));
    body
}

fn after_update(table: &Table) -> String {
    let (name, id) = (quote(&table.sql_name), quote(&table.local_id));
    let mut body = head(table, "AFTER UPDATE", "update");
    let version = table.with_role(&Role::Version).map(|column| quote(&column.sql_name));
    let updated_at = table.with_role(&Role::UpdatedAt).map(|column| quote(&column.sql_name));
    // The app wrote neither: fill in. NULL versions are counted from 1.
    let now = updated_at.as_ref().map(|time| {
        format!("{time} = CASE WHEN NEW.{time} IS OLD.{time} THEN {NOW} ELSE NEW.{time} END")
    });
    let (sets, unwritten) = match (&version, &updated_at) {
        (Some(version), _) => (
            std::iter::once(format!("{version} = coalesce(OLD.{version}, 1) + 1"))
                .chain(now)
                .collect::<Vec<_>>()
                .join(", "),
            format!("NEW.{version} IS OLD.{version}"),
        ),
        (None, Some(time)) => (format!("{time} = {NOW}"), format!("NEW.{time} IS OLD.{time}")),
        (None, None) => (String::new(), String::new()),
    };
    if !sets.is_empty() && !table.watches_updates {
        body.push_str(&format!(
            "\n  UPDATE {name} SET {sets} WHERE {id} = NEW.{id} AND {unwritten};"
        ));
    }
    let old = |operation: &str, condition: &str| {
        format!(
            "\n  {} WHERE {condition};",
            note(table, operation, &format!("OLD.{id}"), "OLD.sync_uuid", "NULL")
        )
    };
    body.push_str(&old("D", &format!("OLD.{id} IS NOT NEW.{id}")));
    body.push_str(&old(
        "X",
        &format!(
            "OLD.{id} IS NEW.{id} AND OLD.sync_uuid IS NOT NEW.sync_uuid \
        AND OLD.sync_uuid IS NOT NULL"
        ),
    ));
    let stale = version.map_or_else(
        || "NULL".to_owned(),
        |version| {
            format!(
                "CASE WHEN NEW.{version} < OLD.{version} THEN CAST(NEW.{version} AS INTEGER) END"
            )
        },
    );
    body.push_str(&format!(
        "\n  {};\nEND",
        note(table, "U", &format!("NEW.{id}"), "NEW.sync_uuid", &stale)
    ));
    body
}

fn after_delete(table: &Table) -> String {
    let id = quote(&table.local_id);
    format!(
        "{}\n  {};\nEND",
        head(table, "AFTER DELETE", "delete"),
        note(table, "D", &format!("OLD.{id}"), "OLD.sync_uuid", "NULL")
    )
}
