//! One field, written on both devices: which value is shown, and what is told.

use super::{conflicts, meet, two, two_with};

#[test]
fn of_two_times_of_one_row_the_earliest_creation_and_the_latest_update_are_shown() {
    for swapped in [false, true] {
        let (mut a, mut b) = two();
        let row = |created: &str, updated: &str| {
            format!(
                "INSERT INTO place (name, sync_uuid, created_at, updated_at) VALUES ('x', 'p', \
                    '{created}', '{updated}')"
            )
        };
        let (early, late) = (
            row("2026-01-01 00:00:00", "2026-01-05 00:00:00"),
            row("2026-01-02 00:00:00", "2026-01-06 00:00:00"),
        );
        a.write(if swapped { &early } else { &late });
        b.write(if swapped { &late } else { &early });
        meet(&mut a, &mut b);
        let times: (String, String) =
            (a.value("SELECT created_at FROM place"), a.value("SELECT updated_at FROM place"));
        assert_eq!(times, ("2026-01-01 00:00:00".to_owned(), "2026-01-06 00:00:00".to_owned()));
    }
}

#[test]
fn of_a_row_both_had_before_storysync_the_later_update_is_shown_and_both_values_are_told() {
    for number in 0..6 {
        let file = |text: &str, updated: &str| {
            format!(
                "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT, sync_uuid TEXT UNIQUE, \
                    created_at DATETIME, updated_at DATETIME, deleted_at DATETIME, version INTEGER \
                    NOT NULL DEFAULT 1);
                 INSERT INTO note VALUES (1, '{text} {number}', 'n', '2026-01-01 00:00:00', \
                 '{updated}', NULL, 1)"
            )
        };
        let (early, late) =
            (file("early", "2026-01-01 00:00:00"), file("late", "2026-02-01 00:00:00"));
        let (mut a, mut b) =
            if number % 2 == 0 { two_with(&early, &late) } else { two_with(&late, &early) };
        meet(&mut a, &mut b);
        assert_eq!(a.value::<String>("SELECT text FROM note"), format!("late {number}"));
        let found = conflicts(&mut a);
        assert_eq!((found[0].kind.as_str(), found[0].fields[0].values.len()), ("field", 2));
    }
}
