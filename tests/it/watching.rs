//! Watching a node: its metrics and its log.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::fixtures::{self, Dialect};
use crate::nodes::*;

/// What `/metrics` says, by name and labels.
fn metrics(node: &TestNode) -> BTreeMap<String, f64> {
    let (address, token) = admin(node);
    let (status, body) = http_get(&address, "/metrics", &token);
    assert_eq!(status, 200);
    let text = String::from_utf8(body).unwrap();
    assert!(text.ends_with("# EOF\n"), "OpenMetrics says where it ends");
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line}")))
        })
        .collect()
}

#[test]
fn metrics_say_how_the_node_stands_and_count_what_happens() {
    let (mut one, mut other) = (TestNode::with_fixture(Dialect::Newer), TestNode::empty());
    one.serve_live();
    other.serve_live();
    let rows = fixtures::ROWS_IN_ALL as f64;
    let before = metrics(&one);
    assert_eq!(before["storysync_entities"], rows);
    assert!(before["storysync_log_changes"] >= rows);
    for none in ["parked_entities", "conflicts_open", "quarantined_changes", "devices_paired"] {
        assert_eq!(before[&format!("storysync_{none}")], 0.0, "{none}");
    }
    other.run_json(&["pair", "join", &one.qr()]);
    let ids = [one.id(), other.id()];
    eventually(Duration::from_secs(20), "they are connected", || {
        [one.standing(&ids[1]), other.standing(&ids[0])].contains(&"connected".to_owned())
    });
    let uuid: String = one.value("SELECT min(sync_uuid) FROM actor");
    one.app(&format!("UPDATE actor SET first_name = 'Crosses' WHERE sync_uuid = '{uuid}'"));
    eventually(Duration::from_secs(5), "it crosses", || {
        let name: String =
            other.value(&format!("SELECT first_name FROM actor WHERE sync_uuid = '{uuid}'"));
        name == "Crosses"
    });
    // Either of the two called.
    let both = [metrics(&one), metrics(&other)];
    let sum = |name: &str| both.iter().filter_map(|metrics| metrics.get(name)).sum::<f64>();
    assert!(sum("storysync_syncs_total{result=\"done\"}") >= 2.0, "{both:?}");
    assert_eq!(sum("storysync_devices_paired"), 2.0);
    assert!(sum("storysync_devices_in_step") >= 1.0);
    assert!(sum("storysync_sync_duration_seconds_count") >= 2.0);
    for role in ["calling", "answering"] {
        for direction in ["sent", "received"] {
            let name = format!(
                "storysync_exchanged_bytes_total{{role=\"{role}\",direction=\"{direction}\"}}"
            );
            assert!(sum(&name) > 1_000.0, "{name} in {both:?}");
        }
    }
    assert!(both[0]["storysync_capture_lag_seconds_count"] >= 1.0);
    assert!(both[0]["storysync_capture_lag_seconds_sum"] < 5.0);
    one.stop();
    other.stop();
}

#[test]
fn refused_requests_are_counted_and_metrics_need_the_token() {
    let mut node = TestNode::with_fixture(Dialect::Presync);
    node.serve();
    let (address, _) = admin(&node);
    for _ in 0..3 {
        assert_eq!(http_get(&address, "/metrics", "nonsense").0, 401);
    }
    let lan = format!("127.0.0.1:{}", node.port);
    assert_eq!(http_get(&lan, "/metrics", "nonsense").0, 404, "not on the network");
    assert_eq!(http_get(&lan, "/a/path/nobody/knows", "nonsense").0, 404);
    let counted = metrics(&node);
    assert_eq!(
        counted["storysync_requests_refused_total{listener=\"loopback\",status=\"401\"}"],
        3.0
    );
    assert_eq!(counted["storysync_requests_refused_total{listener=\"lan\",status=\"404\"}"], 2.0);
    let names = counted.keys().cloned().collect::<String>();
    assert!(!names.contains("nobody"), "words of strangers name no metric: {names}");
    node.stop();
}

#[test]
fn a_log_of_json_lines_is_json_on_every_line_and_follows_its_level() {
    let mut node = TestNode::with_fixture(Dialect::Presync);
    node.run_json(&["migrate"]);
    let start = |node: &mut TestNode, arguments: &[&str]| {
        let log = node.folder.path().join("lines");
        let all =
            [&["serve", "--host", "127.0.0.1", "--port", "0", "--admin-port", "0"], arguments]
                .concat();
        let mut command = node.command(&all);
        let mut child = command
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        ready_line(&mut child);
        node.serving = Some(child);
        node.stop();
        std::fs::read_to_string(log).unwrap()
    };
    let lines = start(&mut node, &["--log-format", "json"]);
    let stopping = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("{line}")))
        .find(|line| line["message"] == "stopping")
        .unwrap();
    assert_eq!(
        (&stopping["level"], stopping["timestamp"].is_string()),
        (&Value::from("INFO"), true)
    );
    std::fs::write(node.data_dir().join("config.toml"), "log_level = \"error\"\n").unwrap();
    assert_eq!(start(&mut node, &[]), "");
    assert!(start(&mut node, &["--log-level", "info"]).contains("stopping"), "a flag comes first");
}
