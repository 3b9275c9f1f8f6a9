//! Settings: where each value comes from, what is refused, and what a running node takes.

use std::collections::{BTreeMap, BTreeSet};

use clap::CommandFactory as _;
use serde_json::{Value, json};
use storysync::config::Config;
use storysync::settings::{SETTINGS, Settings, Source, Takes, change, in_words};

use crate::fixtures::Dialect;
use crate::nodes::*;

fn every_flag() -> BTreeSet<String> {
    let mut flags = BTreeSet::new();
    let mut waiting = vec![storysync::cli::Cli::command()];
    while let Some(command) = waiting.pop() {
        let long = command.get_arguments().filter_map(clap::Arg::get_long);
        flags.extend(long.map(|long| format!("--{long}")));
        waiting.extend(command.get_subcommands().cloned());
    }
    flags
}

#[test]
fn the_documented_table_of_settings_says_what_the_code_does() {
    let paper = std::fs::read_to_string("docs/configuration.md").unwrap();
    let rows: BTreeMap<String, Vec<String>> = paper
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split(" | ").map(|cell| cell.trim_matches(['|', ' ', '`']).to_owned()))
        .map(|mut cells| (cells.next().unwrap(), cells.collect()))
        .filter(|(_, cells): &(String, Vec<String>)| cells.len() == 6)
        .collect();
    assert_eq!(
        rows.keys().map(String::as_str).collect::<BTreeSet<_>>(),
        SETTINGS.iter().map(|setting| setting.key).collect(),
        "documented, and there"
    );
    let config = serde_json::to_value(Config::default()).unwrap();
    let known: BTreeSet<&str> = config.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(known, SETTINGS.iter().map(|setting| setting.key).collect());
    let flags = every_flag();
    for setting in &SETTINGS {
        let cells = &rows[setting.key];
        let may_change = if setting.takes == Takes::AtOnce { "yes" } else { "no" };
        assert_eq!(
            cells[..5],
            [
                setting.variable(),
                setting.flag.unwrap_or_default().to_owned(),
                in_words(&setting.default_value()),
                setting.unit.to_owned(),
                may_change.to_owned(),
            ],
            "{}",
            setting.key
        );
        assert!(setting.flag.is_none_or(|flag| flags.contains(flag)), "{:?}", setting.flag);
    }
}

#[test]
fn a_default_is_what_the_node_does_when_nobody_says_anything() {
    let default = |key: &str| {
        let found = SETTINGS.iter().find(|setting| setting.key == key).unwrap();
        serde_json::to_value(found.default_value()).unwrap()
    };
    let config = Config::default();
    assert_eq!(default("host"), json!(config.host()));
    assert_eq!(default("port"), storysync::config::LAN_PORT);
    assert_eq!(default("admin_port"), storysync::config::ADMIN_PORT);
    assert_eq!(default("batch_size"), storysync_engine::PAGE_ENTITIES_MAX);
    assert_eq!(default("pairing_seconds"), storysync_engine::trust::pairing::WINDOW_SECONDS);
    assert_eq!(config.approval(), storysync_engine::trust::pairing::Approval::Code);
    assert_eq!(default("asked_about"), json!(config.asked_about));
    assert_eq!(default("conflict_resolution"), json!(storysync::config::ConflictResolution::Merge));
    assert_eq!(default("first_contact"), json!(storysync::config::FirstContactSetting::Judge));
    assert_eq!(default("log_format"), json!(storysync::config::LogFormat::default()));
}

#[test]
fn the_environment_comes_before_the_file_and_a_flag_before_both() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = "port = 1\nadmin_port = 1\nhost_names = [\"one\"]\ndiscovery = false\n";
    std::fs::write(folder.path().join("config.toml"), file).unwrap();
    let environment = |variable: &str| match variable {
        "STORYSYNC_PORT" | "STORYSYNC_ADMIN_PORT" => Some("2".to_owned()),
        "STORYSYNC_HOST_NAMES" => Some("two, three".to_owned()),
        "STORYSYNC_LIVE" => Some("false".to_owned()),
        "STORYSYNC_NAME" => Some(String::new()),
        _ => None,
    };
    let settings = Settings::load_with(folder.path(), environment).unwrap();
    let settings = settings.with_flags(vec![("admin_port", toml::Value::from(3))]).unwrap();
    let config = settings.config();
    assert_eq!((config.port, config.admin_port), (Some(2), Some(3)));
    assert_eq!(config.host_names, ["two", "three"]);
    assert_eq!((config.discovery, config.live), (Some(false), Some(false)));
    assert_eq!(config.name, None, "an empty variable says nothing");
    let sources = ["admin_port", "port", "discovery", "host"].map(|key| settings.source(key));
    assert_eq!(sources, [Source::Flag, Source::Environment, Source::File, Source::Default]);
    let refused = Settings::load_with(folder.path(), |variable| {
        (variable == "STORYSYNC_BATCH_SIZE").then(|| "0".to_owned())
    });
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("STORYSYNC_BATCH_SIZE") && refused.contains("1 to 1000"), "{refused}");
    let flagged = Settings::default().with_flags(vec![("pairing_seconds", toml::Value::from(601))]);
    let refused = flagged.unwrap_err().to_string();
    assert!(refused.contains("--pairing-seconds") && refused.contains("1 to 600"), "{refused}");
}

#[test]
fn a_setting_there_is_not_is_told_with_the_nearest_by_every_command_and_doctor_goes_on() {
    let node = TestNode::with_fixture(Dialect::Presync);
    node.run_json(&["migrate"]);
    let file = node.data_dir().join("config.toml");
    std::fs::write(&file, "# mine\nbach_size = 100\n").unwrap();
    for command in [
        &["status"][..],
        &["serve"],
        &["devices"],
        &["sync"],
        &["migrate", "--dry-run"],
        &["config", "show"],
        &["config", "set", "port", "9000"],
    ] {
        let refused = node.fails(command);
        assert!(
            refused.contains("bach_size") && refused.contains("it may be batch_size"),
            "{command:?}: {refused}"
        );
    }
    let found = node.run_json(&["doctor"]);
    let settings = found["findings"].as_array().unwrap().iter();
    let named = settings.filter(|finding| finding["code"] == "settings").collect::<Vec<_>>();
    assert!(
        named.len() == 1 && named[0]["sentence"].as_str().unwrap().contains("batch_size"),
        "{found}"
    );
    assert!(found["findings"].as_array().unwrap().len() > 1, "and everything else");
    node.run_json(&["config", "unset", "bach_size"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "# mine\n");
    node.run_json(&["status"]);
}

#[test]
fn a_changed_setting_leaves_the_rest_of_the_file_and_its_comments_alone() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("config.toml");
    let text =
        "# Mine.\nport = 9000 # the router knows it\n\n[[peers]]\naddress = \"a:1\" # attic\n";
    std::fs::write(&file, text).unwrap();
    let read = || std::fs::read_to_string(&file).unwrap();
    change(folder.path(), "port", Some("9001")).unwrap();
    assert_eq!(read(), text.replace("9000", "9001"));
    change(folder.path(), "host_names", Some("one, two")).unwrap();
    assert!(read().contains("host_names = [\"one\", \"two\"]") && read().contains("# attic"));
    for (key, value) in [
        ("port", "70000"),
        ("port", "many"),
        ("batch_size", "1001"),
        ("pairing_seconds", "601"),
        ("conflict_resolution", "phone_first"),
        ("discovery", "maybe"),
        ("host", "here"),
    ] {
        let before = read();
        let refused = change(folder.path(), key, Some(value)).unwrap_err().to_string();
        assert!(refused.contains(key) && refused.contains(value), "{refused}");
        assert_eq!(read(), before, "nothing of it is written");
    }
    let refused = change(folder.path(), "admin-port", Some("1")).unwrap_err().to_string();
    assert!(refused.contains("it may be admin_port"), "{refused}");
    change(folder.path(), "host_names", None).unwrap();
    assert_eq!(read(), text.replace("9000", "9001"));
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 1, "no half-written file stays behind");
}

#[test]
fn a_running_node_takes_what_may_change_and_says_what_waits() {
    let mut node = TestNode::with_fixture(Dialect::Presync);
    let node_of = |changed: &Value| changed["node"].as_str().unwrap().to_owned();
    let stopped = node.run_json(&["config", "set", "conflict_resolution", "desktop_wins"]);
    assert_eq!(node_of(&stopped), "none");
    node.serve_with(&["--pairing-approval", "none", "--batch-size", "17"]);
    let set = |key: &str, value: &str| node.run_json(&["config", "set", key, value]);
    assert_eq!(node_of(&set("pairing_seconds", "77")), "taken");
    assert_eq!(node_of(&set("pairing_seconds", "77")), "unchanged");
    assert_eq!(node_of(&set("name", "Study")), "taken");
    assert_eq!(node_of(&set("excluded_tables", "user")), "after_restart");
    assert_eq!(node_of(&set("batch_size", "18")), "unchanged", "a flag comes first");
    assert_eq!(node.run_json(&["status"])["name"], "Study");
    let offer: Value = serde_json::from_str(&node.qr()).unwrap();
    let left = offer["exp"].as_u64();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let left = left.unwrap() - now.as_secs();
    assert!((70..=77).contains(&left), "{left}");
    let shown = node.run_json(&["config", "show"]);
    let of = |key: &str| {
        let settings = shown["settings"].as_array().unwrap();
        settings.iter().find(|setting| setting["key"] == key).unwrap().clone()
    };
    assert_eq!(
        (&of("pairing_seconds")["value"], &of("pairing_seconds")["running"]),
        (&json!(77), &Value::Null)
    );
    assert_eq!(
        (&of("batch_size")["value"], &of("batch_size")["running"]),
        (&json!(18), &json!(17))
    );
    assert_eq!(of("conflict_resolution")["source"], "file");
    assert_eq!(of("live")["running"], false, "--no-live");
    node.stop();
}

#[test]
fn a_setting_can_be_changed_over_the_loopback_listener_and_a_bad_one_is_refused() {
    let mut node = TestNode::with_fixture(Dialect::Presync);
    node.serve();
    let (address, token) = admin(&node);
    let post = |body: Value| http_post(&address, "/api/settings", &token, &body);
    let answer = post(json!({ "key": "batch_size", "value": "18" }));
    assert_eq!(answer, (200, json!({ "taken": ["batch_size"], "after_restart": [] })));
    let written = std::fs::read_to_string(node.data_dir().join("config.toml")).unwrap();
    assert_eq!(written, "batch_size = 18\n");
    for bad in [json!({ "key": "batch_size", "value": "0" }), json!({ "key": "bat", "value": "1" })]
    {
        assert_eq!(post(bad).0, 422);
    }
    assert_eq!(post(json!({ "key": "batch_size", "value": null })).0, 200);
    node.stop();
}
