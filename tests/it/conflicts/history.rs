//! History and undo: who wrote what, and taking it back.

use storysync_crdt::Since;

use super::{meet, two};
use crate::support::{Replica, now};

#[test]
fn history_tells_who_wrote_what_and_undo_takes_one_change_back() {
    let (mut a, mut b) = two();
    a.write("INSERT INTO place (name, note, sync_uuid) VALUES ('Harbour', 'first', 'p')");
    meet(&mut a, &mut b);
    b.write("UPDATE place SET note = 'second'");
    meet(&mut a, &mut b);
    let history = a.engine().history("place", "p", now()).unwrap();
    let told: Vec<(&str, Option<String>)> =
        history.iter().map(|entry| (entry.action.as_str(), entry.written.device.clone())).collect();
    assert_eq!(told, [("created", Some(a.id())), ("edited", Some(b.id()))]);
    assert_eq!(
        (&history[1].fields[0].old, &history[1].fields[0].new),
        (&"first".into(), &"second".into())
    );
    let undone =
        a.engine().undo_change("place", "p", Some(&history[1].written.change[..8]), now()).unwrap();
    assert_eq!(undone.fields[0].new, "first");
    meet(&mut a, &mut b);
    assert_eq!(b.value::<String>("SELECT note FROM place"), "first");
    // What was overwritten since can't be taken back, and is said so.
    let error = a
        .engine()
        .undo_change("place", "p", Some(&history[1].written.change), now())
        .unwrap_err()
        .to_string();
    assert!(error.contains("note was written again since"), "{error}");
    assert!(
        a.engine()
            .undo_change("place", "p", Some("ffff"), now())
            .unwrap_err()
            .to_string()
            .contains("no change ffff")
    );
}

#[test]
fn a_deleted_row_comes_back_from_history() {
    let (mut a, mut b) = two();
    a.write("INSERT INTO place (name, note, sync_uuid) VALUES ('Harbour', 'kept', 'p')");
    meet(&mut a, &mut b);
    b.write("DELETE FROM place");
    meet(&mut a, &mut b);
    assert_eq!(a.engine().undo_change("place", "p", None, now()).unwrap().row, "restored");
    meet(&mut a, &mut b);
    assert_eq!(b.value::<String>("SELECT note FROM place"), "kept");
}

#[test]
fn all_that_one_device_did_since_a_time_is_shown_and_then_undone() {
    let (mut a, mut b) = two();
    a.write(
        "INSERT INTO place (name, note, sync_uuid) VALUES ('One', 'x', 'p1'), ('Two', 'y', \
        'p2'), ('Three', 'z', 'p3')",
    );
    meet(&mut a, &mut b);
    std::thread::sleep(std::time::Duration::from_millis(5));
    let since = now();
    b.write(
        "UPDATE place SET note = 'vandalised' WHERE sync_uuid = 'p1'; DELETE FROM place WHERE \
        sync_uuid = 'p2'; INSERT INTO place (name, sync_uuid) VALUES ('Spam', 'spam')",
    );
    a.write("UPDATE place SET note = 'good' WHERE sync_uuid = 'p3'");
    meet(&mut a, &mut b);
    let vandal =
        storysync_engine::trust::identity::DeviceId::parse(&b.id()).unwrap().key().unwrap();
    let which = Since::of(vandal, since);
    let plan = a.engine().plan_undo(&which, now()).unwrap();
    assert_eq!(plan.undone.len(), 3);
    assert_eq!(
        a.value::<i64>("SELECT count(*) FROM place WHERE note = 'vandalised'"),
        1,
        "only shown"
    );
    assert_eq!(a.engine().undo_device(&which, now()).unwrap(), plan);
    meet(&mut a, &mut b);
    let notes: String = b.value(
        "SELECT group_concat(sync_uuid || '=' || note) FROM (SELECT * FROM \
        place ORDER BY sync_uuid)",
    );
    assert_eq!(notes, "p1=x,p2=y,p3=good");
}

#[test]
fn what_happened_last_and_what_was_deleted_last_is_told_newest_first() {
    let mut a = Replica::of_schema("CREATE TABLE note (id INTEGER PRIMARY KEY, title TEXT)", 1);
    for title in ["first", "second", "third"] {
        a.write(&format!("INSERT INTO note (title) VALUES ('{title}')"));
        a.capture();
    }
    a.write("UPDATE note SET title = 'first again' WHERE id = 1");
    a.capture();
    let recent = a.engine().recent_changes(2, now()).unwrap();
    let told: Vec<_> = recent
        .iter()
        .map(|change| (change.row_name.as_deref().unwrap(), change.entry.action.as_str()))
        .collect();
    assert_eq!(told, [("first again", "edited"), ("third", "created")]);

    for id in [1, 3] {
        a.write(&format!("DELETE FROM note WHERE id = {id}"));
        a.capture();
    }
    let gone = a.engine().recently_deleted(0, 10, now()).unwrap();
    let names: Vec<_> = gone.iter().map(|row| row.row_name.as_deref().unwrap()).collect();
    assert_eq!(names, ["third", "first again"]);
    assert_eq!(a.engine().recently_deleted(1, 10, now()).unwrap().len(), 1);
    let third = gone.first().unwrap();
    a.engine().undo_change("note", &third.sync_uuid, Some(&third.written.change), now()).unwrap();
    assert_eq!(a.texts("SELECT title FROM note ORDER BY id"), ["second", "third"]);
    assert_eq!(a.engine().recently_deleted(0, 10, now()).unwrap().len(), 1);
}
