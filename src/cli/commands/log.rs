//! `storysync log`: what other devices changed here, and what became of devices; also as it
//! happens.

use std::collections::HashMap;
use std::io::Write as _;
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use storysync_engine::Engine;
use storysync_engine::store::trust::TrustStore;

use crate::cli::context::Context;
use crate::cli::decide::row_words;
use crate::cli::table::table;
use crate::net::admin::LOG_LINES_SHOWN;
use crate::net::log_json;
use crate::printable;

/// Pause between looks for something new.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Lines looked at for what is new: more than come between two looks, but for a first sync.
const LINES_FOLLOWED: i64 = 2_000;

#[derive(Debug, Args)]
pub(in crate::cli) struct LogArgs {
    /// Of one row only: its `sync_uuid`, or what it is called.
    #[arg(long, value_name = "ROW")]
    row: Option<String>,
    /// Go on with what happens from now on, the newest last.
    #[arg(long, short)]
    follow: bool,
}

pub(in crate::cli) fn log(context: &Context, args: &LogArgs) -> anyhow::Result<()> {
    let (_, trust, mut engine) = context.reading()?;
    let row = args.row.as_deref();
    if args.follow {
        return follow(context, &trust, &mut engine, row);
    }
    let log = lines(&trust, &mut engine, row, LOG_LINES_SHOWN)?;
    context.print(&serde_json::json!({ "log": log }), |text| {
        if log.is_empty() {
            text.push_str(if row.is_some() {
                "No other device changed that row here. `storysync history` tells all of its \
                    changes.\n"
            } else {
                "Nothing has happened yet.\n"
            });
        }
        text.push_str(&table(&[], log.iter().map(|line| cells(line).to_vec())));
    })
}

/// What happened to rows and to devices, the newest first.
fn lines(
    trust: &TrustStore,
    engine: &mut Engine,
    row: Option<&str>,
    limit: i64,
) -> anyhow::Result<Vec<Value>> {
    let mut log = match row {
        // What became of devices is no part of a row's story.
        Some(words) => log_json(&engine.log_lines_of(words, limit)?, &[]),
        None => log_json(&engine.log_lines(limit)?, &trust.events(limit)?),
    };
    Ok(taken(&mut log))
}

fn rows_lines(engine: &mut Engine, row: Option<&str>) -> anyhow::Result<Vec<Value>> {
    let lines = match row {
        Some(words) => engine.log_lines_of(words, LINES_FOLLOWED)?,
        None => engine.log_lines(LINES_FOLLOWED)?,
    };
    Ok(taken(&mut log_json(&lines, &[])))
}

fn devices_lines(trust: &TrustStore, row: Option<&str>) -> anyhow::Result<Vec<Value>> {
    let events = if row.is_some() { Vec::new() } else { trust.events(LINES_FOLLOWED)? };
    Ok(taken(&mut log_json(&[], &events)))
}

fn taken(log: &mut Value) -> Vec<Value> {
    log["log"].as_array_mut().map(std::mem::take).unwrap_or_default()
}

/// When, who, what.
fn cells(line: &Value) -> [String; 3] {
    let word = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let device =
        if word("device_name").is_empty() { word("device_id") } else { word("device_name") };
    let what = match (line["detail"].as_str(), line["sync_uuid"].as_str()) {
        (Some(detail), _) => {
            let times = line["times"].as_i64().filter(|times| *times > 1);
            let times = times.map_or(String::new(), |times| format!(" ({times} times)"));
            format!("{}: {detail}{times}", word("operation"))
        }
        (None, Some(uuid)) => {
            let row = row_words(&word("entity_type"), line["row_name"].as_str(), uuid);
            format!("{} {row}", word("operation"))
        }
        (None, None) => {
            format!("{} {} {}", word("operation"), word("entity_type"), line["entity_id"])
        }
    };
    [word("at"), device, what]
}

/// What a line is known by. What its row is called may change after it was written.
fn key(line: &Value) -> String {
    ["at", "device_id", "entity_type", "entity_id", "operation", "detail", "times"]
        .map(|part| line[part].to_string())
        .join(" ")
}

/// Those of `newer` that `before` has not. Lines may be alike: as many as there are more of.
fn unseen(before: &HashMap<String, usize>, newer: &[Value]) -> Vec<Value> {
    let mut left = before.clone();
    let is_new = |line: &&Value| match left.get_mut(&key(line)) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        _ => true,
    };
    newer.iter().rev().filter(is_new).cloned().collect()
}

fn counted(lines: &[Value]) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for line in lines {
        *counts.entry(key(line)).or_insert(0) += 1;
    }
    counts
}

/// Until the reader goes, or the process is ended.
fn follow(
    context: &Context,
    trust: &TrustStore,
    engine: &mut Engine,
    row: Option<&str>,
) -> anyhow::Result<()> {
    let mut version = engine.data_version()?;
    let mut seen_rows = counted(&rows_lines(engine, row)?);
    let mut seen_devices = counted(&devices_lines(trust, row)?);
    let mut told = lines(trust, engine, row, LOG_LINES_SHOWN)?;
    told.reverse();
    loop {
        let text: String = told.iter().map(|line| one_line(context, line) + "\n").collect();
        let mut out = std::io::stdout().lock();
        if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
            return Ok(());
        }
        drop(out);
        std::thread::sleep(LOOK_EVERY);
        let devices = devices_lines(trust, row)?;
        told = unseen(&seen_devices, &devices);
        seen_devices = counted(&devices);
        let now = engine.data_version()?;
        if std::mem::replace(&mut version, now) != now {
            let rows = rows_lines(engine, row)?;
            told.extend(unseen(&seen_rows, &rows));
            seen_rows = counted(&rows);
        }
        told.sort_by(|one, other| one["at"].as_str().cmp(&other["at"].as_str()));
    }
}

fn one_line(context: &Context, line: &Value) -> String {
    if context.json {
        return line.to_string();
    }
    printable(&cells(line).join("  ").replace('\n', " ")).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn line(at: &str, name: &str) -> Value {
        json!({ "at": at, "device_id": "d", "entity_type": "actor", "entity_id": 1,
            "operation": "update", "sync_uuid": "u", "row_name": name })
    }

    #[test]
    fn what_is_new_is_told_once_and_in_its_order_also_where_lines_are_alike() {
        let before = [line("2", "Ada"), line("1", "Ada")];
        let renamed = [line("3", "Eve"), line("2", "Eve"), line("2", "Eve"), line("1", "Eve")];
        let seen = counted(&before);
        assert_eq!(unseen(&seen, &renamed), [line("2", "Eve"), line("3", "Eve")]);
        assert!(unseen(&counted(&renamed), &renamed).is_empty());
    }
}
