//! Devices put back as a whole: the file, and all that is remembered beside it of how far its log
//! had come. Only others can tell, and do.

use std::path::PathBuf;

use storysync_engine::exchange::{
    Asker, Event, Exchange, ExchangeOptions, Notice, Prepared, Reply, RequestKind,
};
use storysync_engine::store::log::Position;
use storysync_engine::{Cursor, NewEpoch};

use crate::fixtures::{self, Dialect};
use crate::support::*;

/// A desktop with a story, and a second device in step with it.
fn desktops() -> (Replica, Replica) {
    let (_folder, file) = fixtures::file(Dialect::Newer);
    let mut a = Replica::of_copy(&file, 1);
    let mut b = Replica::empty(2);
    b.sync(&mut a);
    a.sync(&mut b);
    (a, b)
}

fn uuid(replica: &Replica, table: &str, id: i64) -> String {
    replica.value(&format!("SELECT sync_uuid FROM {table} WHERE id = {id}"))
}

/// Every file of a device: the database, and what is remembered beside it.
fn whole_device(replica: &mut Replica) -> Vec<(PathBuf, Vec<u8>)> {
    replica.stop();
    let kept = files(replica);
    replica.start();
    kept
}

fn files(replica: &Replica) -> Vec<(PathBuf, Vec<u8>)> {
    let mut folders = vec![replica.folder.path().to_owned()];
    let mut kept = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                kept.push((path.clone(), std::fs::read(path).unwrap()));
            }
        }
    }
    kept
}

fn put_back(replica: &mut Replica, kept: &[(PathBuf, Vec<u8>)]) {
    replica.stop();
    for (path, _) in files(replica) {
        std::fs::remove_file(path).unwrap();
    }
    for (path, bytes) in kept {
        std::fs::write(path, bytes).unwrap();
    }
    replica.start();
}

#[test]
fn a_device_put_back_as_a_whole_hears_from_others_what_it_had_told_whoever_calls() {
    for restored_calls in [true, false] {
        let (mut a, mut b) = desktops();
        let kept = whole_device(&mut a);
        a.write("UPDATE actor SET title = 'before the disk died' WHERE id = 1");
        a.sync(&mut b);
        put_back(&mut a, &kept);
        a.write("UPDATE actor SET job = 'after the restore' WHERE id = 1");
        let notices: Vec<Notice> =
            if restored_calls { a.exchange(&mut b) } else { b.exchange(&mut a) }
                .into_iter()
                .filter_map(|event| match event {
                    Event::Notice(notice) => Some(notice),
                    _ => None,
                })
                .collect();
        let expected = if restored_calls {
            Notice::OwnEpochBegan(NewEpoch::Restored)
        } else {
            Notice::PeerEpochBegan
        };
        assert_eq!(notices, [expected], "told once, and why");
        assert_eq!(
            a.value::<String>("SELECT title || '+' || job FROM actor WHERE id = 1"),
            "before the disk died+after the restore"
        );
        assert_same_content(&a.database, &b.database, true);
        assert_eq!(a.sync(&mut b), (0, 0), "and in step from then on");
    }
}

#[test]
fn two_devices_put_back_to_different_days_get_everything_from_the_third() {
    let (mut a, mut b) = desktops();
    let mut c = Replica::empty(3);
    c.sync(&mut a);
    let of_a = whole_device(&mut a);
    a.write("UPDATE actor SET title = 'on Monday' WHERE id = 1");
    b.sync(&mut a);
    let of_b = whole_device(&mut b);
    let ada = uuid(&b, "actor", 1);
    b.write(&format!("UPDATE actor SET job = 'on Tuesday' WHERE sync_uuid = '{ada}'"));
    for _ in 0..2 {
        c.sync(&mut b);
        c.sync(&mut a);
    }
    put_back(&mut a, &of_a);
    put_back(&mut b, &of_b);
    for _ in 0..2 {
        a.sync(&mut b);
        b.sync(&mut c);
        a.sync(&mut c);
    }
    for replica in [&a, &b, &c] {
        let told: String = replica.value(&format!(
            "SELECT title || '+' || job FROM actor WHERE sync_uuid = '{}'",
            uuid(&a, "actor", 1)
        ));
        assert_eq!(told, "on Monday+on Tuesday");
    }
}

#[test]
fn a_peer_that_claims_to_know_more_of_our_log_than_there_is_costs_one_comparison() {
    let (mut a, mut b) = desktops();
    a.write("UPDATE actor SET title = 'mine' WHERE id = 1");
    a.sync(&mut b);
    let before = a.engine().epoch();
    let mut exchange = Exchange::with(&b.device_id(), ExchangeOptions::default());
    let asker = Asker::trusted(&a.device_id());
    let mut asked = Vec::new();
    while let Some(request) = exchange.next(a.engine(), now()).unwrap() {
        asked.push(request.kind());
        let mut answer = b.engine().answer(&asker, &Prepared::of(request), now()).unwrap();
        if let Reply::Pull(page) = &mut answer.reply {
            // A place far behind the end of any log.
            let known = Cursor::parse(page.known.as_deref().unwrap()).unwrap();
            let position = Position { seq: known.position.seq + 1_000, ..known.position };
            page.known = Some(Cursor { position, ..known }.to_text());
        }
        exchange.handle(answer.reply);
    }
    assert_ne!(a.engine().epoch(), before, "it can't be told from a restored file");
    let comparisons = asked.iter().filter(|kind| **kind == RequestKind::Reconcile).count();
    assert_eq!(comparisons, 1, "{asked:?}");
    assert_same_content(&a.database, &b.database, true);
}
