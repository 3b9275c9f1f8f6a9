//! Clients without automerge: whole rows, and the version they were last seen at.

use crate::fixtures::{self, Dialect};
use crate::support::*;
use serde_json::{Map, Value as Json, json};
use storysync::settings::Settings;
use storysync_engine::PushedConflicts;
use storysync_engine::wire::{PullRequest, PushConflict, RowChange};

/// A phone that keeps rows as JSON and knows nothing of changes.
struct PlainPhone {
    id: String,
    cursor: Option<String>,
    rows: std::collections::BTreeMap<String, RowChange>,
}

impl PlainPhone {
    fn new(device: u8) -> Self {
        Self {
            id: storysync_engine::trust::identity::DeviceId::of_key(&[device; 32]).to_string(),
            cursor: None,
            rows: std::collections::BTreeMap::new(),
        }
    }

    fn pull(&mut self, desktop: &mut Replica) -> usize {
        let mut pulled = 0;
        loop {
            let request =
                PullRequest { cursor: self.cursor.clone(), data: true, ..PullRequest::default() };
            let page = desktop.engine().answer_pull(&request, &self.id, now()).unwrap();
            self.cursor = Some(page.cursor);
            pulled += page.changes.len();
            for row in page.changes {
                self.rows.insert(row.sync_uuid.clone(), row);
            }
            if !page.has_more {
                return pulled;
            }
        }
    }

    fn data(&mut self, uuid: &str) -> &mut Map<String, Json> {
        self.rows.get_mut(uuid).unwrap().data.as_mut().unwrap()
    }

    /// Pushes rows as they stand on the phone; keeps the versions it is told.
    fn push(&mut self, desktop: &mut Replica, uuids: &[&str]) -> (Vec<PushConflict>, Vec<String>) {
        let changes: Vec<RowChange> = uuids
            .iter()
            .map(|uuid| RowChange { automerge: Vec::new(), ..self.rows[*uuid].clone() })
            .collect();
        let pushed = storysync_engine::Incoming::read_all(changes);
        let (receipt, accepted) =
            desktop.engine().receive_pushed_telling(&pushed, &self.id, now()).unwrap();
        for state in accepted.states {
            if let Some(row) = self.rows.get_mut(&state.sync_uuid) {
                row.version = state.version;
            }
        }
        (accepted.conflicts, receipt.rejected)
    }
}

fn desktop() -> Replica {
    let (_folder, file) = fixtures::file(Dialect::Newer);
    let mut desktop = Replica::of_copy(&file, 1);
    desktop.capture();
    desktop
}

fn actor_uuid(desktop: &Replica) -> String {
    desktop.value("SELECT sync_uuid FROM actor WHERE id = 1")
}

#[test]
fn a_pushed_row_merges_with_what_was_written_meanwhile() {
    let (mut desktop, mut phone) = (desktop(), PlainPhone::new(9));
    let ada = actor_uuid(&desktop);
    phone.pull(&mut desktop);
    desktop.write("UPDATE actor SET job = 'captain' WHERE id = 1");
    phone.data(&ada).insert("title".to_owned(), "Queen".into());
    let (conflicts, rejected) = phone.push(&mut desktop, &[&ada]);
    assert!(conflicts.is_empty() && rejected.is_empty(), "{conflicts:?} {rejected:?}");
    let row: (String, String) = (
        desktop.value("SELECT job FROM actor WHERE id = 1"),
        desktop.value("SELECT title FROM actor WHERE id = 1"),
    );
    assert_eq!(
        row,
        ("captain".to_owned(), "Queen".to_owned()),
        "the phone's old value of job is no edit"
    );
    let history = desktop.engine().history("actor", &ada, now()).unwrap();
    assert_eq!(
        history.last().unwrap().written.device.as_deref(),
        Some(phone.id.as_str()),
        "the phone wrote it"
    );
}

#[test]
fn a_pushed_row_conflicts_where_both_wrote_and_the_reply_has_the_documented_shape() {
    let (mut desktop, mut phone) = (desktop(), PlainPhone::new(9));
    let ada = actor_uuid(&desktop);
    let before: String = desktop.value("SELECT title FROM actor WHERE id = 1");
    phone.pull(&mut desktop);
    desktop.write("UPDATE actor SET title = 'Empress' WHERE id = 1");
    phone.data(&ada).insert("title".to_owned(), "Queen".into());
    let (conflicts, _) = phone.push(&mut desktop, &[&ada]);
    let told = serde_json::to_value(&conflicts[0]).unwrap();
    assert_eq!(
        (told["entity_type"].as_str(), told["sync_uuid"].as_str(), told["entity_id"].as_i64()),
        (Some("actor"), Some(ada.as_str()), Some(1))
    );
    assert_eq!(
        (told["mobile_data"]["title"].as_str(), told["desktop_data"]["title"].as_str()),
        (Some("Queen"), Some("Empress"))
    );
    assert_eq!(
        (told["mobile_version"].as_i64(), told["desktop_version"].as_i64()),
        (Some(1), Some(3))
    );
    assert!(
        told["mobile_updated_at"].is_string()
            && told["desktop_updated_at"].is_string()
            && told["resolution"] == "manual"
    );
    let field = &told["fields"][0];
    assert_eq!(
        (field["name"].as_str(), field["base"].as_str(), field["values"].as_array().unwrap().len()),
        (Some("title"), Some(before.as_str()), 2)
    );
    assert!(
        field["values"]
            .as_array()
            .unwrap()
            .iter()
            .any(|value| value["device"] == phone.id.as_str() && value["value"] == "Queen")
    );
    assert_eq!(desktop.engine().conflicts(now()).unwrap().len(), 1);
}

#[test]
fn a_push_after_a_push_builds_on_the_phones_own_edit() {
    let (mut desktop, mut phone) = (desktop(), PlainPhone::new(9));
    let ada = actor_uuid(&desktop);
    phone.pull(&mut desktop);
    desktop.write("UPDATE actor SET job = 'captain' WHERE id = 1");
    for title in ["One", "Two", "Three"] {
        phone.data(&ada).insert("title".to_owned(), title.into());
        let (conflicts, rejected) = phone.push(&mut desktop, &[&ada]);
        assert!(conflicts.is_empty() && rejected.is_empty());
    }
    let row: (String, String) = (
        desktop.value("SELECT job FROM actor WHERE id = 1"),
        desktop.value("SELECT title FROM actor WHERE id = 1"),
    );
    assert_eq!(row, ("captain".to_owned(), "Three".to_owned()));
    // Pushing the same again says nothing new, and is not refused.
    let history = desktop.engine().history("actor", &ada, now()).unwrap().len();
    let (conflicts, rejected) = phone.push(&mut desktop, &[&ada]);
    assert!(conflicts.is_empty() && rejected.is_empty());
    assert_eq!(desktop.engine().history("actor", &ada, now()).unwrap().len(), history);
}

/// Rows and references as our own tables have them, and whose changes they have; hashes differ,
/// because each node writes the changes itself.
fn without_hashes(replica: &Replica) -> Vec<String> {
    let changes = "SELECT r.sync_uuid || ' ' || count(*) || ' ' || coalesce(max(c.origin), 'ours') \
        FROM sync_change AS c JOIN sync_row AS r ON r.id = c.row_id GROUP BY r.id";
    let mut lines = [rows_and_references(replica), replica.texts(changes)].concat();
    lines.sort();
    lines
}

#[test]
fn rows_a_phone_creates_stand_alike_whether_they_take_the_short_way_or_the_long_one() {
    for dialect in fixtures::DIALECTS {
        let (_folder, file) = fixtures::file(dialect);
        let mut origin = Replica::of_copy(&file, 1);
        let mut phone = PlainPhone::new(9);
        assert!(phone.pull(&mut origin) > 20);
        let told: Vec<RowChange> = phone
            .rows
            .values()
            .map(|row| RowChange { automerge: Vec::new(), ..row.clone() })
            .collect();
        let [mut short, mut long] = [Replica::empty(2), Replica::empty(3)];
        let at = now();
        // Only rows that say they are new are looked at in the short way.
        for (desktop, operation) in [(&mut short, "create"), (&mut long, "update")] {
            let as_told = |row: &RowChange| {
                if row.operation == "delete" { row.operation.clone() } else { operation.to_owned() }
            };
            let pushed: Vec<RowChange> = told
                .iter()
                .map(|row| RowChange { operation: as_told(row), ..row.clone() })
                .collect();
            let (receipt, accepted) = desktop
                .engine()
                .receive_pushed_telling(
                    &storysync_engine::Incoming::read_all(pushed),
                    &phone.id,
                    at,
                )
                .unwrap();
            assert!(receipt.rejected.is_empty(), "{:?}", receipt.rejected);
            assert_eq!(accepted.states.len(), told.len());
            let mut states: Vec<_> = accepted
                .states
                .into_iter()
                .map(|state| (state.sync_uuid, state.entity_id, state.version))
                .collect();
            states.sort();
            let sql = "SELECT sync_uuid, CASE WHEN present THEN local_id END, version FROM \
                sync_row WHERE version > 0 ORDER BY 1, 2, 3";
            let connection = desktop.app();
            let mut select = connection.prepare(sql).unwrap();
            let standing: Vec<(String, Option<i64>, i64)> = select
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                .unwrap()
                .map(Result::unwrap)
                .collect();
            assert_eq!(states, standing, "every row is told as it stands");
        }
        assert_same_content(&short.database, &long.database, true);
        assert_eq!(without_hashes(&short), without_hashes(&long), "{dialect:?}");
        assert_eq!(
            short.engine().capture(now()).unwrap().rows,
            0,
            "nothing of it is taken for an edit of the app's"
        );
    }
}

#[test]
fn a_version_this_node_never_told_counts_as_the_first() {
    let (mut desktop, mut phone) = (desktop(), PlainPhone::new(9));
    let ada = actor_uuid(&desktop);
    phone.pull(&mut desktop);
    desktop.write("UPDATE actor SET title = 'Empress' WHERE id = 1");
    desktop.capture();
    // Another node's numbering: here version 2 is something the phone never saw.
    phone.rows.get_mut(&ada).unwrap().version = 2;
    phone.data(&ada).insert("title".to_owned(), "Queen".into());
    let (conflicts, _) = phone.push(&mut desktop, &[&ada]);
    assert_eq!(
        conflicts.len(),
        1,
        "merged as made at the first change, so nothing is overwritten unseen"
    );
}

#[test]
fn rows_are_created_deleted_and_brought_back_without_automerge() {
    let (mut desktop, mut phone) = (desktop(), PlainPhone::new(9));
    phone.pull(&mut desktop);
    let setting: String = desktop.value("SELECT sync_uuid FROM setting WHERE id = 1");
    let data = json!({ "name": "New", "description": "From the phone", "setting_id": setting, "brand_new_column": "kept" });
    let new = RowChange {
        entity_type: "faction".to_owned(),
        sync_uuid: "from-the-phone".to_owned(),
        operation: "create".to_owned(),
        data: data.as_object().cloned(),
        version: 1,
        updated_at: Some("2026-01-01T10:00:00Z".to_owned()),
        ..RowChange::default()
    };
    phone.rows.insert(new.sync_uuid.clone(), new);
    assert_eq!(phone.push(&mut desktop, &["from-the-phone"]).1, Vec::<String>::new());
    assert_eq!(
        desktop.value::<i64>("SELECT setting_id FROM faction WHERE sync_uuid = 'from-the-phone'"),
        1
    );
    // Columns this app does not have are carried along.
    let mut other = PlainPhone::new(10);
    other.pull(&mut desktop);
    assert_eq!(other.data("from-the-phone")["brand_new_column"], "kept");
    phone.rows.get_mut("from-the-phone").unwrap().operation = "delete".to_owned();
    phone.push(&mut desktop, &["from-the-phone"]);
    assert_eq!(
        desktop.value::<i64>("SELECT count(*) FROM faction WHERE sync_uuid = 'from-the-phone'"),
        0,
        "deleted on the phone, gone on the desktop"
    );
    phone.rows.get_mut("from-the-phone").unwrap().operation = "create".to_owned();
    phone.push(&mut desktop, &["from-the-phone"]);
    assert_eq!(
        desktop
            .value::<String>("SELECT description FROM faction WHERE sync_uuid = 'from-the-phone'"),
        "From the phone"
    );
}

#[test]
fn one_bad_row_of_a_push_does_not_keep_the_others_out() {
    let (mut desktop, mut phone) = (desktop(), PlainPhone::new(9));
    let ada = actor_uuid(&desktop);
    phone.pull(&mut desktop);
    let other: String = desktop.value("SELECT sync_uuid FROM actor WHERE id = 2");
    phone.data(&ada).insert("title".to_owned(), json!({ "no": "column holds this" }));
    phone.data(&other).insert("title".to_owned(), "Fine".into());
    let (_, rejected) = phone.push(&mut desktop, &[&ada, &other]);
    assert!(rejected.len() == 1 && rejected[0].contains("title is neither text"), "{rejected:?}");
    assert_eq!(desktop.value::<String>("SELECT title FROM actor WHERE id = 2"), "Fine");
    for (name, value, words) in [
        ("setting_id", json!(987_654), "does not exist here"),
        ("$delete", json!("hard"), "can't be named"),
        ("setting_id", json!(1.5), "must be the sync_uuid"),
    ] {
        let kept = phone.rows[&ada].clone();
        phone.data(&ada).insert("title".to_owned(), "t".into());
        phone.data(&ada).insert(name.to_owned(), value);
        let (_, rejected) = phone.push(&mut desktop, &[&ada]);
        assert!(rejected.len() == 1 && rejected[0].contains(words), "{rejected:?}");
        phone.rows.insert(ada.clone(), kept);
    }
}

#[test]
fn a_reference_to_a_row_unknown_here_is_kept_and_erases_nothing() {
    let (mut desktop, mut phone) = (desktop(), PlainPhone::new(9));
    let ada = actor_uuid(&desktop);
    phone.pull(&mut desktop);
    desktop
        .write("UPDATE actor SET alignment_id = (SELECT id FROM alignment LIMIT 1) WHERE id = 1");
    desktop.capture();
    phone.pull(&mut desktop);
    let known: i64 = desktop.value("SELECT alignment_id FROM actor WHERE id = 1");
    // Another edit of the phone's leaves it alone.
    phone.data(&ada).insert("title".to_owned(), "x".into());
    phone.push(&mut desktop, &[&ada]);
    assert_eq!(desktop.value::<i64>("SELECT alignment_id FROM actor WHERE id = 1"), known);
    // A target that has not come yet shows nothing, and itself once it has.
    phone.data(&ada).insert("alignment_id".to_owned(), "not-yet".into());
    phone.push(&mut desktop, &[&ada]);
    assert_eq!(desktop.value::<Option<i64>>("SELECT alignment_id FROM actor WHERE id = 1"), None);
    desktop.write("UPDATE actor SET job = 'edited meanwhile' WHERE id = 1");
    desktop.capture();
    let alignment = RowChange {
        entity_type: "alignment".to_owned(),
        sync_uuid: "not-yet".to_owned(),
        operation: "create".to_owned(),
        data: json!({ "name": "Chaotic late", "setting_id": desktop.value::<String>("SELECT sync_uuid FROM setting LIMIT 1") }).as_object().cloned(),
        version: 1,
        ..RowChange::default()
    };
    phone.rows.insert("not-yet".to_owned(), alignment);
    phone.push(&mut desktop, &["not-yet"]);
    assert_eq!(
        desktop.value::<String>(
            "SELECT a.name FROM actor JOIN alignment a ON a.id = alignment_id WHERE actor.id = 1"
        ),
        "Chaotic late"
    );
}

#[test]
fn a_row_pushed_with_a_version_beyond_counting_can_still_be_edited_and_removed() {
    let mut desktop = Replica::empty(1);
    let phone = PlainPhone::new(9);
    for (uuid, version) in [("high", i64::MAX), ("low", i64::MIN)] {
        let data = serde_json::json!({ "username": "Pirate", "version": version });
        let row = RowChange {
            entity_type: "user".into(),
            sync_uuid: uuid.into(),
            operation: "create".into(),
            version,
            data: data.as_object().cloned(),
            ..RowChange::default()
        };
        let receipt = desktop.engine().receive(&[row], &phone.id, now()).unwrap();
        assert_eq!((receipt.rows.len(), receipt.rejected_count()), (1, 0));
        for edit in ["UPDATE user SET username = 'Corsair'", "DELETE FROM user"] {
            desktop.write(&format!("{edit} WHERE sync_uuid = '{uuid}'"));
            assert_eq!(desktop.capture(), 1, "{edit} of {uuid}");
        }
        // And what was written on it is still within what others take.
        let mut other = Replica::empty(2);
        other.sync(&mut desktop);
        assert_eq!(other.value::<i64>("SELECT count(*) FROM user"), 0);
    }
}

fn plain(entity_type: &str, uuid: &str, operation: &str, data: Option<Json>) -> RowChange {
    RowChange {
        entity_type: entity_type.to_owned(),
        sync_uuid: uuid.to_owned(),
        operation: operation.to_owned(),
        version: 1,
        updated_at: Some("2026-03-01T10:00:00Z".to_owned()),
        data: data.and_then(|data| data.as_object().cloned()),
        ..RowChange::default()
    }
}

#[test]
fn a_new_row_without_columns_is_refused() {
    let mut desktop = desktop();
    desktop.write("CREATE TABLE scrap (id INTEGER PRIMARY KEY, body TEXT)");
    desktop.capture();
    let receipt = desktop
        .engine()
        .receive(&[plain("scrap", "hollow", "create", None)], &PlainPhone::new(9).id, now())
        .unwrap();
    assert_eq!((receipt.rejected.len(), receipt.rows.len()), (1, 0), "{:?}", receipt.rejected);
    assert_eq!(desktop.value::<i64>("SELECT count(*) FROM scrap WHERE sync_uuid = 'hollow'"), 0);
}

#[test]
fn rows_of_one_name_in_two_tables_written_alike_are_two_rows_everywhere() {
    let (mut desktop, phone) = (desktop(), PlainPhone::new(9));
    let uuid_in =
        |table: &str| desktop.value::<String>(&format!("SELECT sync_uuid FROM {table} LIMIT 1"));
    let (user, setting) = (uuid_in("user"), uuid_in("setting"));
    let same = || {
        Some(
            json!({ "name": "Same", "user_id": user, "setting_id": setting, "created_at": "2026-03-01T10:00:00Z" }),
        )
    };
    let pushed = [
        plain("setting", "one-name", "create", same()),
        plain("object_", "one-name", "create", same()),
        plain("faction", "one-name", "create", same()),
    ];
    assert_eq!(
        desktop.engine().receive(&pushed, &phone.id, now()).unwrap().rejected,
        Vec::<String>::new()
    );
    assert_eq!(
        desktop.value::<i64>("SELECT count(*) - count(DISTINCT hash) FROM sync_change"),
        0,
        "no two changes have one name"
    );
    let mut other = Replica::empty(2);
    other.sync(&mut desktop);
    assert_same_content(&other.database, &desktop.database, true);
    for table in ["setting", "object_", "faction"] {
        assert_eq!(
            other.value::<i64>(&format!(
                "SELECT count(*) FROM sync_row AS r JOIN sync_table \
            AS t ON t.id = r.table_id WHERE t.name = '{table}' AND sync_uuid = 'one-name' AND \
            version > 0"
            )),
            1
        );
    }
}

#[test]
fn what_a_push_deletes_and_needs_at_once_ends_alike_on_either_way() {
    let [mut short, mut long] = [desktop(), desktop()];
    for (desktop, operation) in [(&mut short, "create"), (&mut long, "update")] {
        let phone = PlainPhone::new(9);
        desktop.write(
            "CREATE TABLE world (id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE \
            dweller (id INTEGER PRIMARY KEY, name TEXT, world_id INTEGER NOT NULL REFERENCES world \
            (id))",
        );
        desktop.capture();
        desktop
            .engine()
            .receive(
                &[plain("world", "the-world", "create", Some(json!({ "name": "World" })))],
                &phone.id,
                now(),
            )
            .unwrap();
        let child = plain(
            "dweller",
            "the-child",
            operation,
            Some(json!({ "name": "Ada", "world_id": "the-world" })),
        );
        let pushed = [child, plain("world", "the-world", "delete", None)];
        assert!(desktop.engine().receive(&pushed, &phone.id, now()).unwrap().rejected.is_empty());
    }
    let ends = |desktop: &mut Replica| -> (i64, i64, Vec<String>) {
        let kinds = desktop
            .engine()
            .conflicts(now())
            .unwrap()
            .into_iter()
            .map(|conflict| conflict.kind)
            .collect();
        (
            desktop.value("SELECT count(*) FROM world WHERE sync_uuid = 'the-world'"),
            desktop.value(
                "SELECT count(*) FROM dweller AS d JOIN world AS w ON w.id = d.world_id \
                WHERE d.sync_uuid = 'the-child'",
            ),
            kinds,
        )
    };
    assert_eq!(ends(&mut short), ends(&mut long));
}

fn titles(desktop: &mut Replica) -> (String, i64, usize) {
    (
        desktop.value("SELECT title FROM actor WHERE id = 1"),
        desktop.value("SELECT count(*) FROM sync_change"),
        desktop.engine().conflicts(now()).unwrap().len(),
    )
}

#[test]
fn a_push_repeated_after_a_lost_answer_writes_nothing() {
    for (edits_between, writes_again) in
        [(false, false), (true, false), (false, true), (true, true)]
    {
        let (mut desktop, mut phone) = (desktop(), PlainPhone::new(9));
        let ada = actor_uuid(&desktop);
        phone.pull(&mut desktop);
        phone.data(&ada).insert("title".to_owned(), "Phone".into());
        phone.rows.get_mut(&ada).unwrap().updated_at = Some("2026-11-27T00:30:00Z".to_owned());
        let first = phone.rows[&ada].clone();
        phone.push(&mut desktop, &[&ada]);
        let mut expected = "Phone";
        if edits_between {
            desktop.write("UPDATE actor SET title = 'Desktop, having seen Phone' WHERE id = 1");
            desktop.capture();
            expected = "Desktop, having seen Phone";
        }
        if writes_again {
            // From the old version still: it never heard of the new one.
            phone.rows.insert(
                ada.clone(),
                RowChange { updated_at: Some("2026-11-27T00:31:00Z".to_owned()), ..first.clone() },
            );
            phone.data(&ada).insert("job".to_owned(), "second thought".into());
            phone.push(&mut desktop, &[&ada]);
        }
        let before = titles(&mut desktop);
        phone.rows.insert(ada.clone(), first);
        let (conflicts, rejected) = phone.push(&mut desktop, &[&ada]);
        assert!(
            conflicts.is_empty() && rejected.is_empty(),
            "{edits_between} {writes_again}: {conflicts:?} {rejected:?}"
        );
        assert_eq!(titles(&mut desktop), before, "{edits_between} {writes_again}");
        assert_eq!((before.0.as_str(), before.2), (expected, 0));
        if writes_again {
            assert_eq!(
                desktop.value::<String>("SELECT job FROM actor WHERE id = 1"),
                "second thought"
            );
        }
    }
}

#[test]
fn a_second_thought_from_the_version_of_the_first_builds_on_it() {
    let (mut desktop, mut phone) = (desktop(), PlainPhone::new(9));
    let ada = actor_uuid(&desktop);
    phone.pull(&mut desktop);
    let version = phone.rows[&ada].version;
    for title in ["First", "Second thought", "First"] {
        phone.rows.get_mut(&ada).unwrap().version = version;
        phone.rows.get_mut(&ada).unwrap().updated_at = None;
        phone.data(&ada).insert("title".to_owned(), title.into());
        assert!(phone.push(&mut desktop, &[&ada]).0.is_empty());
        assert_eq!((titles(&mut desktop).0.as_str(), titles(&mut desktop).2), (title, 0));
    }
}

#[test]
fn what_a_plain_row_has_wrong_is_refused_by_name() {
    let mut desktop = desktop();
    desktop.write(
        "CREATE TABLE note (id INTEGER PRIMARY KEY, title TEXT NOT NULL, mood TEXT NOT \
        NULL, stars INTEGER NOT NULL DEFAULT 0)",
    );
    desktop.capture();
    let full = json!({ "title": "t", "mood": "calm" });
    let other_name = json!({ "title": "t", "mood": "calm", "sync_uuid": "another" });
    for (row, words) in [
        (plain("note", "n1", "upsert", Some(full.clone())), "“upsert” is no operation"),
        (plain("poem", "n2", "create", Some(full.clone())), "no such table"),
        (plain("note", "n3", "create", Some(json!({ "title": "t" }))), "lacks mood"),
        (plain("note", "n4", "update", Some(json!({ "mood": null }))), "lacks title, mood"),
        (plain("note", "n5", "create", Some(other_name)), "another sync_uuid"),
        (plain("note", "", "create", Some(full.clone())), "no usable entity_type or sync_uuid"),
    ] {
        let receipt = desktop
            .engine()
            .receive(
                &[row, plain("note", "fine", "create", Some(full.clone()))],
                &PlainPhone::new(9).id,
                now(),
            )
            .unwrap();
        assert!(
            receipt.rejected.len() == 1 && receipt.rejected[0].contains(words),
            "{words}: {:?}",
            receipt.rejected
        );
    }
    assert_eq!(desktop.value::<i64>("SELECT count(*) FROM note"), 1, "only what was whole");
    let named_within = plain(
        "note",
        "",
        "create",
        Some(json!({ "title": "within", "mood": "calm", "sync_uuid": "named-within" })),
    );
    let pushed: RowChange = {
        let mut told = serde_json::to_value(named_within).unwrap();
        told.as_object_mut().unwrap().remove("sync_uuid");
        serde_json::from_value(told).unwrap()
    };
    assert!(
        desktop
            .engine()
            .receive(&[pushed], &PlainPhone::new(9).id, now())
            .unwrap()
            .rejected
            .is_empty()
    );
    assert_eq!(
        desktop.value::<String>("SELECT title FROM note WHERE sync_uuid = 'named-within'"),
        "within"
    );
}

#[test]
fn rows_are_found_by_their_names_and_several_of_one_name_are_listed() {
    let mut desktop = Replica::empty(1);
    desktop.write("CREATE TABLE hero (id INTEGER PRIMARY KEY, first_name TEXT, last_name TEXT)");
    desktop.write("CREATE TABLE scene (id INTEGER PRIMARY KEY, title TEXT)");
    desktop.write(
        "INSERT INTO hero (first_name, last_name) VALUES ('Mara', 'Voss'), ('Mara', 'Lund')",
    );
    desktop.write("INSERT INTO scene (title) VALUES ('The storm'), ('The storm')");
    desktop.capture();
    let mara: String = desktop.value("SELECT sync_uuid FROM hero WHERE id = 1");
    assert_eq!(desktop.engine().row_by_words("hero", "mara voss", now()).unwrap(), mara);
    assert_eq!(desktop.engine().row_by_words("hero", &mara, now()).unwrap(), mara);
    let several =
        desktop.engine().row_by_words("scene", "The storm", now()).unwrap_err().to_string();
    let first: String = desktop.value("SELECT sync_uuid FROM scene WHERE id = 1");
    assert!(several.contains("several rows") && several.contains(&first), "{several}");
    // A name that is free again means the row that stands.
    desktop.write("DELETE FROM scene WHERE id = 2");
    assert_eq!(desktop.engine().row_by_words("scene", "The storm", now()).unwrap(), first);
    assert!(desktop.engine().row_by_words("scene", "Nobody", now()).is_err());
}

/// A table of an unknown app with a column of every kind plain rows may hold.
fn diary() -> (Replica, PlainPhone, String) {
    let mut desktop = desktop();
    desktop.write(
        "CREATE TABLE diary (id INTEGER PRIMARY KEY, title TEXT, is_secret BOOLEAN, \
        is_done BOOL NOT NULL DEFAULT 0, pages INTEGER, day DATE, tags JSON, cover BLOB)",
    );
    desktop.write(
        "INSERT INTO diary (title, is_secret, is_done, pages, day, tags, cover) VALUES ('One', 1, \
            0, 1, '2026-11-27', '{\"mood\": [\"calm\"]}', x'0001ff'), \
         ('Two', 7, 1, 0, NULL, NULL, NULL), ('Three', NULL, 0, NULL, '27 November', 'no JSON', \
         x'')",
    );
    desktop.capture();
    let mut phone = PlainPhone::new(9);
    phone.pull(&mut desktop);
    let one = desktop.value("SELECT sync_uuid FROM diary WHERE title = 'One'");
    (desktop, phone, one)
}

#[test]
fn booleans_are_told_and_taken_as_true_and_false_and_other_numbers_stay_numbers() {
    let (mut desktop, mut phone, one) = diary();
    let row = |desktop: &Replica, phone: &mut PlainPhone, title: &str| -> Vec<Json> {
        let uuid: String =
            desktop.value(&format!("SELECT sync_uuid FROM diary WHERE title = '{title}'"));
        ["is_secret", "is_done", "pages"]
            .iter()
            .map(|name| phone.data(&uuid)[*name].clone())
            .collect()
    };
    assert_eq!(row(&desktop, &mut phone, "One"), [json!(true), json!(false), json!(1)]);
    assert_eq!(row(&desktop, &mut phone, "Two"), [json!(7), json!(true), json!(0)]);
    assert_eq!(row(&desktop, &mut phone, "Three"), [json!(null), json!(false), json!(null)]);
    let changes = |desktop: &Replica| desktop.value::<i64>("SELECT count(*) FROM sync_change");
    let before = changes(&desktop);
    for (secret, done) in [(json!(true), json!(false)), (json!(1), json!(0))] {
        phone.data(&one).insert("is_secret".to_owned(), secret);
        phone.data(&one).insert("is_done".to_owned(), done);
        phone.push(&mut desktop, &[&one]);
        assert_eq!(changes(&desktop), before, "either word for what stands there is no edit");
    }
    phone.data(&one).insert("is_secret".to_owned(), false.into());
    phone.data(&one).insert("is_done".to_owned(), true.into());
    phone.push(&mut desktop, &[&one]);
    let stored: String = desktop.value(
        "SELECT typeof(is_secret) || is_secret || typeof(is_done) \
        || is_done FROM diary WHERE title = 'One'",
    );
    assert_eq!(stored, "integer0integer1", "the app finds what it writes itself");
    // A conflict tells them alike.
    let mut other = PlainPhone::new(10);
    other.pull(&mut desktop);
    desktop.write("UPDATE diary SET is_secret = 5 WHERE title = 'One'");
    other.data(&one).insert("is_secret".to_owned(), true.into());
    let told = serde_json::to_value(&other.push(&mut desktop, &[&one]).0).unwrap();
    assert_eq!(
        (
            &told[0]["mobile_data"]["is_secret"],
            &told[0]["desktop_data"]["is_secret"],
            &told[0]["mobile_data"]["is_done"]
        ),
        (&json!(true), &json!(5), &json!(true))
    );
    assert_eq!(told[0]["fields"][0]["base"], json!(false));
}

#[test]
fn booleans_of_storymaster_are_told_as_its_documentation_has_them() {
    let (mut desktop, mut phone) = (desktop(), PlainPhone::new(9));
    desktop.write(
        "INSERT INTO location_ (name, is_city, is_dungeon, setting_id, sync_uuid, \
        version) VALUES ('Port', 1, 0, 1, 'the-port', 1)",
    );
    desktop.capture();
    phone.pull(&mut desktop);
    let port = phone.data("the-port").clone();
    assert_eq!((&port["is_city"], &port["is_dungeon"]), (&json!(true), &json!(false)));
    assert!(port["setting_id"].is_string(), "a reference is a uuid, whatever its number");
}

#[test]
fn dates_and_json_are_the_texts_the_app_wrote_and_bytes_are_base64_both_ways() {
    let (mut desktop, mut phone, one) = diary();
    let told = phone.data(&one).clone();
    assert_eq!(
        (&told["day"], &told["tags"], &told["cover"]),
        (&json!("2026-11-27"), &json!("{\"mood\": [\"calm\"]}"), &json!({ "$base64": "AAH/" }))
    );
    phone.data(&one).insert("day".to_owned(), "2026-11-28".into());
    phone.data(&one).insert("tags".to_owned(), "[1, 2]".into());
    phone.data(&one).insert("cover".to_owned(), json!({ "$base64": "/w==" }));
    assert!(phone.push(&mut desktop, &[&one]).1.is_empty());
    let stored: String = desktop
        .value("SELECT day || tags || typeof(cover) || hex(cover) FROM diary WHERE title = 'One'");
    assert_eq!(stored, "2026-11-28[1, 2]blobFF");
    for (name, value) in [
        ("tags", json!({ "mood": "calm" })),
        ("tags", json!([1, 2])),
        ("cover", json!({ "$base64": "not base64!" })),
    ] {
        let kept = phone.rows[&one].clone();
        phone.data(&one).insert(name.to_owned(), value);
        let (_, rejected) = phone.push(&mut desktop, &[&one]);
        assert!(
            rejected.len() == 1
                && rejected[0].contains(&format!("{name} is neither"))
                && rejected[0].contains("$base64"),
            "{rejected:?}"
        );
        phone.rows.insert(one.clone(), kept);
    }
}

/// What the row shows, which resolutions were told, and how many conflicts are open after phone and
/// desktop wrote the same column.
fn conflict_under(rule: PushedConflicts, phone_writes_later: bool) -> (String, Vec<String>, usize) {
    let (mut desktop, mut phone) = (desktop(), PlainPhone::new(9));
    desktop.engine().decide_pushed_conflicts(rule);
    let ada = actor_uuid(&desktop);
    phone.pull(&mut desktop);
    desktop.write("UPDATE actor SET title = 'Empress', job = 'captain' WHERE id = 1");
    phone.data(&ada).insert("title".to_owned(), "Queen".into());
    let at = if phone_writes_later { "2126-01-01T00:00:00Z" } else { "2020-01-01T00:00:00Z" };
    phone.rows.get_mut(&ada).unwrap().updated_at = Some(at.to_owned());
    let (conflicts, rejected) = phone.push(&mut desktop, &[&ada]);
    assert!(rejected.is_empty(), "{rejected:?}");
    assert_eq!(
        desktop.value::<String>("SELECT job FROM actor WHERE id = 1"),
        "captain",
        "what does not conflict is merged, whatever the rule"
    );
    let told: Vec<Json> =
        conflicts.iter().map(|conflict| serde_json::to_value(conflict).unwrap()).collect();
    assert!(
        told.iter().all(|told| told["mobile_data"]["title"] == "Queen"
            && told["desktop_data"]["title"] == "Empress"),
        "{told:?}"
    );
    let history =
        serde_json::to_string(&desktop.engine().history("actor", &ada, now()).unwrap()).unwrap();
    assert!(
        history.contains("Queen") && history.contains("Empress"),
        "nothing typed is gone: {history}"
    );
    let open = desktop.engine().conflicts(now()).unwrap().len();
    let title: String = desktop.value("SELECT title FROM actor WHERE id = 1");
    // What was decided is what the phone is told next, and nothing is decided twice.
    let mut other = PlainPhone::new(10);
    other.pull(&mut desktop);
    assert_eq!(other.data(&ada)["title"], title.as_str());
    (
        title,
        told.into_iter().map(|told| told["resolution"].as_str().unwrap().to_owned()).collect(),
        open,
    )
}

#[test]
fn the_documented_strategies_decide_conflicts_with_what_a_phone_pushed() {
    let is = |rule, later, title: &str, resolution: &str| {
        assert_eq!(
            conflict_under(rule, later),
            (title.to_owned(), vec![resolution.to_owned()], 0),
            "{rule:?} {later}"
        );
    };
    for later in [false, true] {
        is(PushedConflicts::DesktopWins, later, "Empress", "desktop_wins");
        is(PushedConflicts::MobileWins, later, "Queen", "mobile_wins");
        let (_, told, open) = conflict_under(PushedConflicts::StayOpen, later);
        assert_eq!((told, open), (vec!["manual".to_owned()], 1));
    }
    is(PushedConflicts::LaterWins, true, "Queen", "timestamp");
    is(PushedConflicts::LaterWins, false, "Empress", "timestamp");
}

#[test]
fn a_strategy_decides_whether_a_row_deleted_on_one_side_and_edited_on_the_other_lives() {
    for (rule, desktop_deletes, lives) in [
        (PushedConflicts::DesktopWins, true, false),
        (PushedConflicts::DesktopWins, false, true),
        (PushedConflicts::MobileWins, true, true),
        (PushedConflicts::MobileWins, false, false),
    ] {
        let (mut desktop, mut phone) = (desktop(), PlainPhone::new(9));
        desktop.write(
            "CREATE TABLE poem (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO poem \
            (title) VALUES ('Sea')",
        );
        desktop.capture();
        desktop.engine().decide_pushed_conflicts(rule);
        phone.pull(&mut desktop);
        let poem: String = desktop.value("SELECT sync_uuid FROM poem");
        if desktop_deletes {
            desktop.write("DELETE FROM poem");
            phone.data(&poem).insert("title".to_owned(), "Storm".into());
        } else {
            desktop.write("UPDATE poem SET title = 'Storm'");
            phone.rows.get_mut(&poem).unwrap().operation = "delete".to_owned();
        }
        let (conflicts, rejected) = phone.push(&mut desktop, &[&poem]);
        assert!(rejected.is_empty() && conflicts.len() == 1, "{conflicts:?} {rejected:?}");
        assert_eq!(
            desktop.texts("SELECT title FROM poem"),
            if lives { vec!["Storm"] } else { Vec::new() },
            "{rule:?}, desktop deletes: {desktop_deletes}"
        );
        assert!(desktop.engine().conflicts(now()).unwrap().is_empty());
    }
}

#[test]
fn a_strategy_for_phones_decides_nothing_between_desktops() {
    let (_folder, file) = fixtures::file(Dialect::Newer);
    let (mut one, mut other) = (Replica::of_copy(&file, 1), Replica::of_copy(&file, 2));
    one.sync(&mut other);
    for (replica, title) in [(&mut one, "Empress"), (&mut other, "Queen")] {
        replica.engine().decide_pushed_conflicts(PushedConflicts::DesktopWins);
        replica.write(&format!("UPDATE actor SET title = '{title}' WHERE id = 1"));
    }
    one.sync(&mut other);
    assert_eq!(
        (
            one.engine().conflicts(now()).unwrap().len(),
            other.engine().conflicts(now()).unwrap().len()
        ),
        (1, 1)
    );
}

#[test]
fn pages_hold_as_many_rows_as_the_setting_says() {
    let mut desktop = desktop();
    let phone = PlainPhone::new(9);
    desktop.engine().limit_pages(7);
    let mut request = PullRequest { data: true, ..PullRequest::default() };
    for (limit, rows) in [(None, 7), (Some(3), 3), (Some(500), 7)] {
        request.limit = limit;
        let page = desktop.engine().answer_pull(&request, &phone.id, now()).unwrap();
        assert_eq!((page.changes.len(), page.has_more), (rows, true));
    }
    let request = desktop.engine().pull_request("somebody").unwrap();
    assert_eq!(request.limit, Some(7), "and no more are asked for");
    assert_eq!(desktop.engine().push_page("somebody", now()).unwrap().unwrap().changes.len(), 7);
}

#[test]
fn a_setting_that_means_nothing_is_refused_by_name() {
    let folder = tempfile::TempDir::new().unwrap();
    let load = |text: &str| {
        std::fs::write(folder.path().join("config.toml"), text).unwrap();
        Settings::load_with(folder.path(), |_| None).map(|settings| settings.config().clone())
    };
    for (text, words) in [
        ("batch_size = 0", "batch_size can't be 0"),
        ("batch_size = 1001", "1 to 1000 rows"),
        ("conflict_resolution = \"phone_first\"", "desktop_wins"),
        ("conflict_mode = \"merge\"", "conflict_mode"),
    ] {
        let refused = load(text).unwrap_err().to_string();
        assert!(refused.contains(words) && refused.contains("config.toml"), "{refused}");
    }
    for (word, rule) in [
        ("merge", PushedConflicts::StayOpen),
        ("manual", PushedConflicts::StayOpen),
        ("version", PushedConflicts::StayOpen),
        ("desktop_wins", PushedConflicts::DesktopWins),
        ("mobile_wins", PushedConflicts::MobileWins),
        ("timestamp", PushedConflicts::LaterWins),
    ] {
        let config = load(&format!("batch_size = 250\nconflict_resolution = \"{word}\"")).unwrap();
        assert_eq!(
            (config.batch_size, config.conflict_resolution.unwrap().of_pushes()),
            (Some(250), rule),
            "{word}"
        );
    }
}

#[test]
fn storymasters_documented_names_of_tables_mean_its_own() {
    let (mut desktop, mut phone) = (desktop(), PlainPhone::new(9));
    let setting: String = desktop.value("SELECT sync_uuid FROM setting WHERE id = 1");
    let place = |name: &str| {
        plain(
            "location",
            "the-port",
            "create",
            Some(json!({ "name": name, "setting_id": setting.clone(), "is_city": true })),
        )
    };
    assert!(
        desktop.engine().receive(&[place("Port")], &phone.id, now()).unwrap().rejected.is_empty()
    );
    assert_eq!(
        desktop
            .value::<String>("SELECT name || is_city FROM location_ WHERE sync_uuid = 'the-port'"),
        "Port1"
    );
    phone.pull(&mut desktop);
    let page = desktop
        .engine()
        .answer_pull(
            &PullRequest {
                entity_types: Some(vec!["location".to_owned()]),
                ..PullRequest::default()
            },
            "another",
            now(),
        )
        .unwrap();
    assert!(
        !page.changes.is_empty()
            && page.changes.iter().all(|change| change.entity_type == "location_")
    );
    // A conflict is answered with the version the phone named, whatever it calls the table.
    desktop.write("UPDATE location_ SET name = 'Harbour' WHERE sync_uuid = 'the-port'");
    let row = phone.rows.get_mut("the-port").unwrap();
    (row.entity_type, row.operation) = ("location".to_owned(), "update".to_owned());
    phone.data("the-port").insert("name".to_owned(), "Haven".into());
    let version = phone.rows["the-port"].version;
    let conflicts = phone.push(&mut desktop, &["the-port"]).0;
    assert_eq!(serde_json::to_value(&conflicts[0]).unwrap()["mobile_version"], version);
}
