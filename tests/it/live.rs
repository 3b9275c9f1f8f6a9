//! Nodes that stay in step by themselves: how soon, how far, and what crosses which link how often.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::fixtures::{self, Dialect};
use crate::nodes::*;
use crate::support::assert_same_content;

/// A desktop and another, both serving, paired and in step.
fn two_desktops() -> (TestNode, TestNode) {
    let (mut one, mut other) = (TestNode::with_fixture(Dialect::Newer), TestNode::empty());
    one.serve_live();
    other.serve_live();
    other.run_json(&["pair", "join", &one.qr()]);
    connected(&one, &other);
    (one, other)
}

fn connected(one: &TestNode, other: &TestNode) {
    let ids = [one.id(), other.id()];
    eventually(Duration::from_secs(20), "they are connected", || {
        [one.standing(&ids[1]), other.standing(&ids[0])].contains(&"connected".to_owned())
    });
}

fn open(node: &TestNode) -> Connection {
    let connection = Connection::open(&node.database).unwrap();
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    connection
}

#[test]
fn an_edit_is_in_the_other_desktops_file_within_a_second() {
    let (one, other) = two_desktops();
    let (app_one, app_other) = (open(&one), open(&other));
    let uuid: String = one.value("SELECT min(sync_uuid) FROM actor");
    let mut took = Vec::new();
    for round in 0..50 {
        let (writer, reader) =
            if round % 2 == 0 { (&app_one, &app_other) } else { (&app_other, &app_one) };
        let begun = Instant::now();
        writer
            .execute(
                "UPDATE actor SET first_name = ?1 WHERE sync_uuid = ?2",
                [format!("Round {round}"), uuid.clone()],
            )
            .unwrap();
        let wanted = format!("Round {round}");
        while reader
            .query_row("SELECT first_name FROM actor WHERE sync_uuid = ?1", [&uuid], |row| {
                row.get::<_, String>(0)
            })
            .unwrap()
            != wanted
        {
            assert!(begun.elapsed() < Duration::from_secs(10), "round {round}");
            std::thread::sleep(Duration::from_millis(1));
        }
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    println!(
        "an edit was in the other file after {} ms (median of 50), {} ms at most",
        took[25].as_millis(),
        took[49].as_millis()
    );
    assert!(took[25] < Duration::from_secs(1), "{took:?}");
    assert_same_content(&one.database, &other.database, true);
}

/// How often each change came to each node, by where it came from.
fn crossings(node: &TestNode) -> HashMap<(String, String), usize> {
    let mut crossings = HashMap::new();
    for line in node.log().lines().filter(|line| line.contains("a change came")) {
        let field = |name: &str| {
            line.split(&format!("{name}="))
                .nth(1)
                .unwrap()
                .split_whitespace()
                .next()
                .unwrap()
                .trim_matches('"')
                .to_owned()
        };
        *crossings.entry((field("from"), field("change"))).or_default() += 1;
    }
    crossings
}

/// Five nodes, joined by links, make 500 edits.
fn five(links: &[(usize, usize)]) {
    let mut nodes: Vec<TestNode> =
        (0..5)
            .map(|index| {
                if index == 0 { TestNode::with_fixture(Dialect::Newer) } else { TestNode::empty() }
            })
            .collect();
    for node in &mut nodes {
        node.serve_live();
    }
    for (one, other) in links {
        nodes[*other].run_json(&["pair", "join", &nodes[*one].qr()]);
        connected(&nodes[*one], &nodes[*other]);
    }
    eventually(Duration::from_secs(60), "all have everything", || {
        nodes.iter().all(|node| node.rows_shown() == fixtures::ROWS_IN_ALL)
    });
    let before: Vec<usize> = nodes.iter().map(|node| crossings(node).len()).collect();

    let apps: Vec<Connection> = nodes.iter().map(open).collect();
    let mut select = apps[0].prepare("SELECT sync_uuid FROM actor ORDER BY sync_uuid").unwrap();
    let uuids: Vec<String> =
        select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    drop(select);
    let columns = ["first_name", "middle_name", "last_name", "title", "job"];
    for edit in 0..500 {
        let (node, column) = (edit % 5, columns[edit % 5]);
        apps[node]
            .execute(
                &format!("UPDATE actor SET {column} = ?1 WHERE sync_uuid = ?2"),
                [format!("edit {edit}"), uuids[edit / 5 % uuids.len()].clone()],
            )
            .unwrap();
    }
    let shown = |app: &Connection| -> String {
        app.query_row(
            "SELECT group_concat(line, '|') FROM (SELECT sync_uuid || first_name || \
            middle_name || last_name || title || job AS line FROM actor ORDER BY sync_uuid)",
            [],
            |row| row.get(0),
        )
        .unwrap()
    };
    // Nobody overwrites what another wrote: each node has a column of its own.
    let is_done = || {
        let first = shown(&apps[0]);
        (490..500).all(|edit| first.contains(&format!("edit {edit}")))
            && apps.iter().all(|app| shown(app) == first)
    };
    eventually(Duration::from_secs(90), "all edits are everywhere", is_done);
    for node in &nodes[1..] {
        assert_same_content(&nodes[0].database, &node.database, true);
    }
    let mut all = 0;
    for (node, before) in nodes.iter().zip(before) {
        let crossings = crossings(node);
        all += crossings.len() - before;
        let again: Vec<_> = crossings.iter().filter(|(_, times)| **times > 1).collect();
        assert!(
            again.is_empty(),
            "{} changes crossed a link twice in the same direction: {:?}",
            again.len(),
            again.first()
        );
    }
    println!(
        "{} links: the edits crossed them {all} times in all, none of them twice in the same \
            direction",
        links.len()
    );
    for node in &mut nodes {
        node.stop();
    }
}

#[test]
fn five_nodes_in_a_line_converge_and_nothing_crosses_a_link_twice() {
    five(&[(0, 1), (1, 2), (2, 3), (3, 4)]);
}

#[test]
fn five_nodes_in_a_star_converge_and_nothing_crosses_a_link_twice() {
    five(&[(0, 1), (0, 2), (0, 3), (0, 4)]);
}

#[test]
fn five_nodes_in_a_ring_converge_and_nothing_crosses_a_link_twice() {
    five(&[(0, 1), (1, 2), (2, 3), (3, 4), (4, 0)]);
}

#[test]
fn a_revoked_device_hears_nothing_any_more_whichever_of_the_two_calls() {
    for revoked_by_the_caller in [true, false] {
        let (one, other) = two_desktops();
        let one_calls = one.standing(&other.id()) == "connected";
        let (here, there) =
            if one_calls == revoked_by_the_caller { (&one, &other) } else { (&other, &one) };
        here.run_json(&["devices", "owner", "this"]);
        here.run_json(&["devices", "revoke", &there.id()]);
        here.app(
            "UPDATE actor SET first_name = 'Secret' WHERE sync_uuid = (SELECT min(sync_uuid) \
            FROM actor)",
        );
        there.app(
            "UPDATE actor SET last_name = 'Unwanted' WHERE sync_uuid = (SELECT \
            min(sync_uuid) FROM actor)",
        );
        std::thread::sleep(Duration::from_secs(4));
        let value = |node: &TestNode, column: &str| {
            node.value::<String>(&format!("SELECT {column} FROM actor ORDER BY sync_uuid LIMIT 1"))
        };
        assert_ne!(value(there, "first_name"), "Secret");
        assert_ne!(value(here, "last_name"), "Unwanted");
        let standing = there.run_json(&["status"])["live"][here.id()].clone();
        assert_eq!(standing["state"], "away");
        eventually(
            Duration::from_secs(10),
            "the revoked device is told that it is not accepted",
            || {
                let status = there.run_json(&["status"]);
                status["live"][here.id()]["error"]
                    .as_str()
                    .is_some_and(|error| error.contains("does not accept this device"))
            },
        );
    }
}

#[test]
fn a_phone_that_only_polls_and_a_node_that_listens_get_along() {
    let (desktop, other) = two_desktops();
    let phone = TestNode::empty();
    phone.run_json(&["pair", "join", &desktop.qr()]);
    assert_eq!(phone.sync().1, fixtures::ROWS_IN_ALL as u64);
    phone.app(
        "UPDATE actor SET last_name = 'Phone' WHERE sync_uuid = (SELECT min(sync_uuid) FROM actor)",
    );
    assert_eq!(phone.sync(), (1, 0));
    eventually(Duration::from_secs(5), "the phone's edit is on the second desktop", || {
        other.value::<String>(
            "SELECT last_name FROM actor WHERE sync_uuid = (SELECT min(sync_uuid) FROM actor)",
        ) == "Phone"
    });
    other.app(
        "UPDATE actor SET first_name = 'Other' WHERE sync_uuid = (SELECT min(sync_uuid) FROM \
        actor)",
    );
    eventually(Duration::from_secs(5), "the edit is on the first desktop", || {
        desktop.value::<String>(
            "SELECT first_name FROM actor WHERE sync_uuid = (SELECT min(sync_uuid) FROM actor)",
        ) == "Other"
    });
    assert_eq!(phone.sync(), (0, 1));
}

#[test]
fn a_pair_that_has_nothing_to_say_says_nothing() {
    let (one, other) = two_desktops();
    let bytes = || -> u64 {
        [&one, &other]
            .iter()
            .flat_map(|node| {
                node.run_json(&["status"])["live"]
                    .as_object()
                    .unwrap()
                    .values()
                    .cloned()
                    .collect::<Vec<_>>()
            })
            .map(|exchanges| {
                exchanges["bytes_sent"].as_u64().unwrap()
                    + exchanges["bytes_received"].as_u64().unwrap()
            })
            .sum()
    };
    std::thread::sleep(Duration::from_secs(1));
    let before = bytes();
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(bytes(), before);
}
