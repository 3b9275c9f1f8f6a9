//! What Storymaster's users suffered from with the old server, each by its name.

use crate::fixtures::{self, Dialect};
use crate::support::*;
use storysync_engine::wire::RowChange;

/// A desktop with a story, and a second device in step with it.
fn desktops() -> (Replica, Replica) {
    let (_folder, file) = fixtures::file(Dialect::Newer);
    let mut a = Replica::of_copy(&file, 1);
    let mut b = Replica::empty(2);
    b.sync(&mut a);
    (a, b)
}

fn meet(a: &mut Replica, b: &mut Replica) {
    a.sync(b);
    assert_same_content(&a.database, &b.database, true);
    assert_eq!(b.sync(a), (0, 0));
}

fn uuid(replica: &Replica, table: &str, id: i64) -> String {
    replica.value(&format!("SELECT sync_uuid FROM {table} WHERE id = {id}"))
}

#[test]
fn a_stale_form_saved_late_reverts_nothing_a_merge_wrote() {
    let (mut a, mut b) = desktops();
    let ada = uuid(&a, "actor", 1);
    // A form is opened on A; B's edit arrives under it; the form is saved with all it read, version
    // included.
    let (title, version): (String, i64) = (
        a.value("SELECT title FROM actor WHERE id = 1"),
        a.value("SELECT version FROM actor WHERE id = 1"),
    );
    b.write(&format!("UPDATE actor SET title = 'by b' WHERE sync_uuid = '{ada}'"));
    meet(&mut a, &mut b);
    let quoted = title.replace('\'', "''");
    a.write(&format!(
        "UPDATE actor SET title = '{quoted}', job = 'typed into the form', version = \
        {version}, updated_at = '2020-01-01 00:00:00' WHERE id = 1"
    ));
    meet(&mut a, &mut b);
    assert_eq!(
        (b.value::<String>(&format!("SELECT title FROM actor WHERE sync_uuid = '{ada}'"))),
        "by b"
    );
    assert_eq!(
        b.value::<String>(&format!("SELECT job FROM actor WHERE sync_uuid = '{ada}'")),
        "typed into the form"
    );
    assert!(a.engine().conflicts(now()).unwrap().is_empty());
}

#[test]
fn a_form_saved_without_its_version_keeps_what_it_replaced_in_history() {
    let (mut a, mut b) = desktops();
    let ada = uuid(&a, "actor", 1);
    let title: String = a.value("SELECT title FROM actor WHERE id = 1");
    b.write(&format!("UPDATE actor SET title = 'by b' WHERE sync_uuid = '{ada}'"));
    meet(&mut a, &mut b);
    a.write(&format!("UPDATE actor SET title = '{}' WHERE id = 1", title.replace('\'', "''")));
    meet(&mut a, &mut b);
    let history = a.engine().history("actor", &ada, now()).unwrap();
    let last = history.last().unwrap();
    assert_eq!((&last.fields[0].old, &last.fields[0].new), (&"by b".into(), &title.into()));
    a.engine().undo_change("actor", &ada, None, now()).unwrap();
    assert_eq!(a.value::<String>("SELECT title FROM actor WHERE id = 1"), "by b");
}

#[test]
fn an_edit_in_the_same_second_as_a_sync_is_not_lost() {
    let (mut a, mut b) = desktops();
    let ada = uuid(&a, "actor", 1);
    for round in 0..5 {
        a.write(&format!(
            "UPDATE actor SET title = 'round {round}', updated_at = '2026-03-01 \
            12:00:00' WHERE id = 1"
        ));
        a.sync(&mut b);
        // The clock did not move: the same stamp once more, after the sync.
        a.write(&format!(
            "UPDATE actor SET job = 'round {round}', updated_at = '2026-03-01 \
            12:00:00' WHERE id = 1"
        ));
        b.sync(&mut a);
        let row = |column: &str| {
            b.value::<String>(&format!("SELECT {column} FROM actor WHERE sync_uuid = '{ada}'"))
        };
        assert_eq!(
            (row("title"), row("job")),
            (format!("round {round}"), format!("round {round}"))
        );
    }
}

#[test]
fn a_clock_an_hour_wrong_and_another_time_zone_decide_nothing() {
    let (mut a, mut b) = desktops();
    let (ada, bea) = (uuid(&a, "actor", 1), uuid(&a, "actor", 2));
    let hour = 3_600_000;
    let early = || storysync_crdt::Stamp::from_unix_ms(now().unix_ms() - hour);
    // B's clock is an hour slow, and its app writes local times of a zone three hours east.
    a.write("UPDATE actor SET title = 'first', updated_at = '2026-03-01 12:00:00' WHERE id = 1");
    meet(&mut a, &mut b);
    b.write(&format!(
        "UPDATE actor SET title = 'second', updated_at = '2026-03-01T11:00:00.000000' \
        WHERE sync_uuid = '{ada}'"
    ));
    b.write(&format!(
        "UPDATE actor SET job = 'typed there', updated_at = \
        '2026-03-01T15:00:00.000000' WHERE sync_uuid = '{bea}'"
    ));
    b.engine().capture(early()).unwrap();
    meet(&mut a, &mut b);
    assert_eq!(
        a.value::<String>("SELECT title FROM actor WHERE id = 1"),
        "second",
        "who had seen the other's value wins, whatever the clocks say"
    );
    assert_eq!(a.value::<String>("SELECT job FROM actor WHERE id = 2"), "typed there");
    // Truly at the same time: told, not decided by the clock.
    a.write("UPDATE actor SET title = 'a' WHERE id = 1");
    b.write(&format!("UPDATE actor SET title = 'b' WHERE sync_uuid = '{ada}'"));
    b.engine().capture(early()).unwrap();
    meet(&mut a, &mut b);
    assert_eq!(a.engine().conflicts(now()).unwrap()[0].fields[0].values.len(), 2);
}

#[test]
fn two_copies_of_one_old_file_duplicate_nothing() {
    for dialect in fixtures::DIALECTS {
        let (_folder, file) = fixtures::file(dialect);
        let (mut a, mut b) = (Replica::of_copy(&file, 1), Replica::of_copy(&file, 2));
        a.write("UPDATE actor SET title = 'by a' WHERE id = 1");
        b.write("UPDATE actor SET job = 'by b' WHERE id = 1");
        meet(&mut a, &mut b);
        assert_eq!(a.value::<i64>("SELECT count(*) FROM actor"), 10);
        assert_eq!(b.value::<String>("SELECT title || job FROM actor WHERE id = 1"), "by aby b");
    }
}

#[test]
fn a_restored_backup_gets_the_newer_edits_back_and_keeps_its_own() {
    let (mut a, mut b) = desktops();
    let backup = std::fs::read(&a.database).unwrap();
    a.write("UPDATE actor SET title = 'after the backup' WHERE id = 1");
    meet(&mut a, &mut b);
    std::fs::write(&a.database, backup).unwrap();
    a.capture();
    a.write("UPDATE actor SET job = 'after the restore' WHERE id = 1");
    meet(&mut a, &mut b);
    assert_eq!(
        a.value::<String>("SELECT title || '+' || job FROM actor WHERE id = 1"),
        "after the backup+after the restore"
    );
}

#[test]
fn a_backup_opened_under_another_path_gets_the_newer_edits_back() {
    let (mut a, mut b) = desktops();
    let backup = std::fs::read(&b.database).unwrap();
    let ada = uuid(&b, "actor", 1);
    b.write(&format!("UPDATE actor SET title = 'after the backup' WHERE sync_uuid = '{ada}'"));
    b.write("DELETE FROM race WHERE id = (SELECT max(id) FROM race)");
    meet(&mut a, &mut b);
    let races = a.value::<i64>("SELECT count(*) FROM race");
    b.stop();
    b.database = b.folder.path().join("restored.db");
    std::fs::write(&b.database, backup).unwrap();
    b.start();
    b.write(&format!("UPDATE actor SET job = 'after the restore' WHERE sync_uuid = '{ada}'"));
    b.sync(&mut a);
    meet(&mut a, &mut b);
    assert_eq!(
        b.value::<String>(&format!(
            "SELECT title || '+' || job FROM actor WHERE sync_uuid = '{ada}'"
        )),
        "after the backup+after the restore"
    );
    assert_eq!(b.value::<i64>("SELECT count(*) FROM race"), races);
}

#[test]
fn a_file_from_before_storysync_put_back_under_the_node_is_prepared_again() {
    let (_folder, original) = fixtures::file(Dialect::Presync);
    let (mut a, mut b) = (Replica::of_copy(&original, 1), Replica::empty(2));
    meet(&mut a, &mut b);
    b.write("UPDATE race SET name = 'renamed elsewhere' WHERE id = 2");
    meet(&mut a, &mut b);
    std::fs::copy(&original, &a.database).unwrap();
    assert!(a.engine().capture(now()).unwrap().new_epoch);
    a.write("UPDATE actor SET title = 'typed after the restore' WHERE id = 1");
    b.sync(&mut a);
    meet(&mut a, &mut b);
    assert_eq!(
        b.value::<i64>("SELECT count(*) FROM actor WHERE title = 'typed after the restore'"),
        1
    );
    assert_eq!(
        a.value::<i64>("SELECT count(*) FROM race WHERE name = 'renamed elsewhere'"),
        1,
        "the newer edits come back"
    );
    assert_eq!(canonical(&a.database, false).len(), fixtures::ROWS_IN_ALL, "and no row is doubled");
}

#[test]
fn a_backup_restored_twice_gets_back_what_others_have() {
    let (mut a, mut b) = desktops();
    let backup = std::fs::read(&a.database).unwrap();
    a.write(
        "INSERT INTO faction (name, setting_id, sync_uuid, version) VALUES ('Lost with the \
        restore', 1, 'lost', 1)",
    );
    a.sync(&mut b);
    for _ in 0..2 {
        // The second time, the log ends where it did after the first: only the epoch of the log
        // tells.
        std::fs::write(&a.database, &backup).unwrap();
        a.capture();
        a.app().execute_batch("PRAGMA user_version = 7").unwrap();
    }
    a.stop();
    a.start();
    a.sync(&mut b);
    assert_eq!(a.value::<i64>("SELECT count(*) FROM faction WHERE sync_uuid = 'lost'"), 1);
}

#[test]
fn a_backup_restored_while_a_page_is_on_its_way_leaves_nothing_untold() {
    let (mut a, b) = desktops();
    let (b_id, backup) = (b.id(), std::fs::read(&a.database).unwrap());
    while let Some(page) = a.engine().push_page(&b_id, now()).unwrap() {
        a.engine().note_reached(&b_id, page.end, now()).unwrap();
    }
    a.write("UPDATE actor SET title = 'after the backup' WHERE id = 1");
    let page = a.engine().push_page(&b_id, now()).unwrap().unwrap();
    std::fs::write(&a.database, backup).unwrap();
    a.engine().note_reached(&b_id, page.end, now()).unwrap();
    a.write("UPDATE actor SET job = 'after the restore' WHERE id = 1");
    let mut told = Vec::new();
    while let Some(page) = a.engine().push_page(&b_id, now()).unwrap() {
        told.extend(page.changes);
        a.engine().note_reached(&b_id, page.end, now()).unwrap();
    }
    let actor = uuid(&a, "actor", 1);
    assert!(
        told.iter().any(|change| change.sync_uuid == actor),
        "an edit under the number of one that is gone"
    );
}

#[test]
fn a_backup_restored_while_no_node_runs_is_noticed_when_one_starts() {
    let (mut a, mut b) = desktops();
    let backup = std::fs::read(&a.database).unwrap();
    a.write(
        "INSERT INTO faction (name, setting_id, sync_uuid, version) VALUES ('Lost with the \
        restore', 1, 'lost', 1)",
    );
    meet(&mut a, &mut b);
    a.stop();
    std::fs::write(&a.database, backup).unwrap();
    a.start();
    meet(&mut a, &mut b);
    assert_eq!(
        a.value::<i64>("SELECT count(*) FROM faction WHERE sync_uuid = 'lost'"),
        1,
        "what came from here is told to us again"
    );
}

#[test]
fn a_reused_id_attaches_no_reference_to_a_stranger() {
    let (mut a, mut b) = desktops();
    a.write(
        "DELETE FROM setting WHERE id > 8; INSERT INTO setting (name, user_id, sync_uuid, \
        version) VALUES ('Old', 1, 'old', 1)",
    );
    let id: i64 = a.value("SELECT id FROM setting WHERE sync_uuid = 'old'");
    a.write(&format!("UPDATE actor SET setting_id = {id} WHERE id = 1"));
    meet(&mut a, &mut b);
    a.write(&format!(
        "DELETE FROM setting WHERE id = {id}; INSERT INTO setting (id, name, user_id, sync_uuid, \
            version) VALUES ({id}, 'Stranger', 1, 'stranger', 1)"
    ));
    a.sync(&mut b);
    for replica in [&a, &b] {
        let strangers: i64 = replica.value(
            "SELECT count(*) FROM actor JOIN setting s ON s.id = \
            setting_id WHERE s.sync_uuid = 'stranger'",
        );
        assert_eq!(strangers, 0);
    }
}

#[test]
fn a_bad_enum_stops_no_later_pull() {
    let (mut a, mut b) = desktops();
    let node = uuid(&a, "litography_node", 1);
    b.write(&format!("UPDATE litography_node SET node_type = 'bogus' WHERE sync_uuid = '{node}'"));
    b.write(&format!(
        "UPDATE litography_node SET name = 'fine' WHERE sync_uuid = '{}'",
        uuid(&a, "litography_node", 2)
    ));
    a.sync(&mut b);
    b.write(&format!(
        "UPDATE litography_node SET description = 'later' WHERE sync_uuid = '{node}'"
    ));
    a.sync(&mut b);
    let row: (String, String) = (
        a.value("SELECT node_type FROM litography_node WHERE id = 1"),
        a.value("SELECT description FROM litography_node WHERE id = 1"),
    );
    assert_eq!(row, ("twist".to_owned(), "later".to_owned()), "the newest value the app can read");
    assert_eq!(a.value::<String>("SELECT name FROM litography_node WHERE id = 2"), "fine");
    assert_eq!(a.engine().conflicts(now()).unwrap()[0].kind, "schema");
}

#[test]
fn the_same_unique_name_on_both_sides_blocks_neither() {
    let (mut a, mut b) = desktops();
    let setting = uuid(&a, "setting", 1);
    a.write(
        "INSERT INTO arc_type (name, description, setting_id, sync_uuid, version) VALUES \
        ('Redemption', 'by a', 1, 'zz', 1)",
    );
    b.write(&format!(
        "INSERT INTO arc_type (name, setting_id, sync_uuid, version) SELECT 'Redemption', id, \
            'aa', 1 FROM setting WHERE sync_uuid = '{setting}'"
    ));
    meet(&mut a, &mut b);
    assert_eq!(a.value::<i64>("SELECT count(*) FROM arc_type WHERE name = 'Redemption'"), 1);
    assert_eq!(a.engine().conflicts(now()).unwrap()[0].kind, "unique");
    a.write("UPDATE actor SET title = 'goes on' WHERE id = 1");
    meet(&mut a, &mut b);
}

#[test]
fn alignment_id_is_kept_when_its_target_is_unknown_here() {
    let (mut a, mut b) = desktops();
    let ada = uuid(&a, "actor", 1);
    b.write(
        "INSERT INTO alignment (name, setting_id, sync_uuid, version) SELECT 'Lawful late', \
        min(id), 'late', 1 FROM setting",
    );
    b.write(&format!(
        "UPDATE actor SET alignment_id = (SELECT id FROM alignment WHERE sync_uuid = \
        'late') WHERE sync_uuid = '{ada}'"
    ));
    let (b_id, a_id) = (b.id(), a.id());
    let request = a.engine().pull_request(&b_id).unwrap();
    let page = b.engine().answer_pull(&request, &a_id, now()).unwrap();
    let (targets, others): (Vec<RowChange>, Vec<RowChange>) =
        page.changes.into_iter().partition(|change| change.entity_type == "alignment");
    a.engine().receive(&others, &b_id, now()).unwrap();
    assert_eq!(
        a.value::<Option<i64>>("SELECT alignment_id FROM actor WHERE id = 1"),
        None,
        "shown as nothing"
    );
    a.write("UPDATE actor SET title = 'written meanwhile' WHERE id = 1");
    a.capture();
    a.engine().receive(&targets, &b_id, now()).unwrap();
    assert_eq!(
        a.value::<String>(
            "SELECT l.name FROM actor JOIN alignment l ON l.id = alignment_id WHERE actor.id = 1"
        ),
        "Lawful late"
    );
    b.sync(&mut a);
    assert_eq!(
        b.value::<String>(&format!(
            "SELECT l.name FROM actor JOIN alignment l ON l.id = \
        alignment_id WHERE actor.sync_uuid = '{ada}'"
        )),
        "Lawful late"
    );
}

#[test]
fn dangling_keys_stay_as_they_are() {
    let (mut a, mut b) = desktops();
    a.write("UPDATE actor SET setting_id = 4711 WHERE id = 1");
    a.sync(&mut b);
    a.write("UPDATE actor SET title = 'edited' WHERE id = 1");
    a.sync(&mut b);
    b.write(&format!(
        "UPDATE actor SET job = 'edited' WHERE sync_uuid = '{}'",
        uuid(&a, "actor", 1)
    ));
    a.sync(&mut b);
    assert_eq!(a.value::<i64>("SELECT setting_id FROM actor WHERE id = 1"), 4711);
    assert_eq!(b.value::<i64>("SELECT count(*) FROM actor WHERE setting_id = 4711"), 0);
}

#[test]
fn a_batch_of_10_000_rows_cut_in_the_middle_goes_on_where_it_stopped() {
    let mut a = Replica::empty(1);
    a.write(
        "INSERT INTO user (username, sync_uuid, version) VALUES ('w', 'u', 1);
         INSERT INTO setting (name, user_id, sync_uuid, version) VALUES ('S', 1, 's', 1);
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
         INSERT INTO actor (first_name, setting_id, sync_uuid, version) SELECT 'actor ' || i, 1, \
         'actor-' || i, 1 FROM n",
    );
    let mut b = Replica::empty(2);
    let (a_id, b_id) = (a.id(), b.id());
    // Four pages arrive, the fifth is lost, and the device restarts.
    for _ in 0..4 {
        let request = b.engine().pull_request(&a_id).unwrap();
        let page = a.engine().answer_pull(&request, &b_id, now()).unwrap();
        b.engine().receive_pulled(&page, &a_id, now()).unwrap();
    }
    let request = b.engine().pull_request(&a_id).unwrap();
    drop(a.engine().answer_pull(&request, &b_id, now()).unwrap());
    b.start();
    let before: usize =
        b.value::<i64>("SELECT count(*) FROM sync_row WHERE version > 0").try_into().unwrap();
    assert_eq!(before, 4_000, "rows that came before their setting wait, and count");
    let (pushed, pulled) = b.sync(&mut a);
    assert!(
        pushed == 0 && pulled <= 10_002 - before,
        "nothing is told twice: {pulled} of {}",
        10_002 - before
    );
    assert_same_content(&a.database, &b.database, true);
    assert!(
        a.engine().conflicts(now()).unwrap().is_empty()
            && b.engine().conflicts(now()).unwrap().is_empty()
    );
}

#[test]
fn tables_dropped_and_made_again_are_left_alone_until_the_app_has_filled_them() {
    const PLACE: &str = "CREATE TABLE place (id INTEGER PRIMARY KEY, name TEXT NOT NULL)";
    const PERSON: &str = "CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT, home INTEGER NOT \
        NULL REFERENCES place (id))";
    let (mut one, mut other) = (
        Replica::of_schema(&format!("{PLACE}; {PERSON}"), 1),
        Replica::of_schema(&format!("{PLACE}; {PERSON}"), 2),
    );
    one.start_patiently(std::time::Duration::from_secs(4));
    one.write(
        "INSERT INTO place (id, name) VALUES (1, 'Harbour'); INSERT INTO person (id, name, \
        home) VALUES (1, 'Ada', 1), (2, 'Ben', 1)",
    );
    other.sync(&mut one);
    one.sync(&mut other);
    let at = |seconds: i64| storysync_crdt::Stamp::from_unix_ms(now().unix_ms() + 1000 * seconds);
    // The import's statements, each a transaction of its own; a node looks after each of them.
    for statement in ["DROP TABLE person", "DROP TABLE place", PLACE, PERSON] {
        one.write(statement);
        let waits = one.engine().capture(at(0)).unwrap_err();
        assert!(waits.to_string().contains("making its tables"), "{waits}");
        assert!(
            one.value::<i64>(
                "SELECT count(*) FROM sqlite_schema WHERE name IN ('place', 'person')"
            ) < 3
        );
    }
    assert_eq!(
        one.value::<i64>("SELECT (SELECT count(*) FROM place) + (SELECT count(*) FROM person)"),
        0,
        "nothing of ours is in the import's way"
    );
    one.write(
        "INSERT INTO place (id, name) VALUES (1, 'Harbour'); INSERT INTO person (id, name, \
        home) VALUES (1, 'Ada', 1), (2, 'Ben', 1)",
    );
    one.engine().capture(at(1)).unwrap();
    one.sync(&mut other);
    assert_eq!(other.value::<i64>("SELECT count(*) FROM person"), 2);
    // Tables that stay empty were emptied.
    one.write(&format!("DROP TABLE person; {PERSON}"));
    assert!(one.engine().capture(at(2)).is_err());
    one.engine().capture(at(10)).unwrap();
    one.sync(&mut other);
    assert_eq!(other.value::<i64>("SELECT count(*) FROM person"), 0);
}

#[test]
fn a_damaged_file_put_in_place_is_told_and_nothing_is_written_to_it_until_a_whole_one_comes() {
    let mut one =
        Replica::of_schema("CREATE TABLE note (id INTEGER PRIMARY KEY, title TEXT, body TEXT)", 1);
    let mut other =
        Replica::of_schema("CREATE TABLE note (id INTEGER PRIMARY KEY, title TEXT, body TEXT)", 2);
    let rows: String = (0..400)
        .map(|number| {
            format!("INSERT INTO note (title, body) VALUES ('note {number}', hex(zeroblob(400)));")
        })
        .collect();
    one.write(&format!("BEGIN; {rows} COMMIT"));
    other.sync(&mut one);
    let whole = std::fs::read(&one.database).unwrap();
    let mut damaged = whole.clone();
    // Pages in the middle, as a copy that broke off and was taken up again leaves them.
    let page = 4096;
    for place in (20 * page..damaged.len() - 20 * page).step_by(3 * page) {
        damaged[place..place + page].fill(0x5a);
    }
    for content in [&damaged, &damaged] {
        let beside = one.folder.path().join("restoring.db");
        std::fs::write(&beside, content).unwrap();
        std::fs::rename(&beside, &one.database).unwrap();
        for _ in 0..2 {
            let told = one.engine().capture(now()).unwrap_err().to_string();
            assert!(told.contains("damaged") && told.contains("backup"), "{told}");
        }
        assert_eq!(std::fs::read(&one.database).unwrap(), *content, "nothing was written");
    }
    let beside = one.folder.path().join("restoring.db");
    std::fs::write(&beside, &whole).unwrap();
    std::fs::rename(&beside, &one.database).unwrap();
    one.write("UPDATE note SET title = 'whole again' WHERE id = 1");
    other.sync(&mut one);
    assert_eq!(
        other.value::<String>(
            "SELECT title FROM note WHERE body IS NOT NULL AND title LIKE 'whole%'"
        ),
        "whole again"
    );
}
