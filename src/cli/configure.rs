//! `storysync config`: what each setting is and where that comes from, and another value for one.
#![expect(
    clippy::indexing_slicing,
    reason = "a JSON value that lacks a key reads as null, it never panics"
)]

use std::fmt::Write as _;

use anyhow::bail;
use clap::Subcommand;
use serde_json::{Value, json};
use storysync_engine::store::trust::NAME_SETTING;

use super::context::Context;
use super::pair::admin_call;
use super::table::table;
use crate::node::AdminFile;
use crate::settings::{self, Effective, Setting, Settings, Source, in_words};

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Each setting, what it is, and where that comes from.
    Show,
    /// Give a setting another value in `config.toml`; a running node is told.
    Set {
        /// Which, as `storysync config show` names it.
        key: String,
        /// Its value; a comma between several.
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
    /// Take a setting out of `config.toml` again: it is what it is by itself.
    Unset {
        /// Which.
        key: String,
    },
}

pub(super) fn run(context: &Context, command: &ConfigCommand) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Show => show(context),
        ConfigCommand::Set { key, value } => change(context, key, Some(value)),
        ConfigCommand::Unset { key } => change(context, key, None),
    }
}

fn show(context: &Context) -> anyhow::Result<()> {
    if let Some(sentence) = &context.broken_settings {
        bail!("{sentence}");
    }
    let mut settings = context.settings.effective();
    remember_name(context, &mut settings);
    // What a running node goes by may be said by flags it was started with, or be of before.
    let running = AdminFile::read(&context.data_dir)
        .and_then(|_| admin_call(context, "GET", "/api/settings", None).ok())
        .unwrap_or_default();
    let running_value = |setting: &Effective| -> Option<Value> {
        let listed = running["settings"].as_array()?;
        let there = listed.iter().find(|there| there["key"] == setting.key)?;
        let is_remembered = setting.source == Source::Remembered && there["source"] == "default";
        let is_same = json!(setting.value) == there["value"] || is_remembered;
        (!is_same).then(|| there["value"].clone())
    };
    let listed: Vec<Value> = settings
        .iter()
        .map(|setting| {
            let mut json = json!(setting);
            if let Some(value) = running_value(setting) {
                json["running"] = value;
            }
            json
        })
        .collect();
    let file = context.data_dir.join("config.toml");
    context.print(&json!({ "file": file, "settings": listed }), |text| {
        let rows = settings.iter().map(|setting| {
            let value = format!("{} {}", in_words(&setting.value), setting.unit);
            let from = match setting.source {
                Source::Default => "default".to_owned(),
                Source::Remembered => "chosen before".to_owned(),
                Source::File => "config.toml".to_owned(),
                Source::Environment => {
                    Setting::of(setting.key).map(Setting::variable).unwrap_or_default()
                }
                Source::Flag => "flag".to_owned(),
            };
            let running = running_value(setting);
            let running = running.map(|value| format!("the running node has {value}"));
            let value = value.trim_end().to_owned();
            vec![setting.key.to_owned(), value, from, running.unwrap_or_default()]
        });
        text.push_str(&table(&["setting", "value", "from", ""], rows));
        let _ = writeln!(text, "\nThe file is {}.", file.display());
    })
}

/// What this device was called before is what it is called, where nothing else says anything.
fn remember_name(context: &Context, settings: &mut [Effective]) {
    let is_known = context.data_dir.join("trust.db").exists();
    let remembered = is_known.then(|| context.trust().ok()?.setting(NAME_SETTING).ok()?).flatten();
    for setting in settings.iter_mut().filter(|setting| setting.key == "name") {
        if let (Source::Default, Some(name)) = (setting.source, &remembered) {
            setting.value = toml::Value::from(name.as_str());
            setting.source = Source::Remembered;
        }
    }
}

fn change(context: &Context, key: &str, value: Option<&str>) -> anyhow::Result<()> {
    let path = settings::change(&context.data_dir, key, value)?;
    let is_serving = AdminFile::read(&context.data_dir).is_some();
    // A node that does not answer takes it when it is started again.
    let followed = is_serving
        .then(|| admin_call(context, "POST", "/api/settings/reload", None).ok())
        .flatten();
    let names = |list: &str| {
        let listed = followed.as_ref().and_then(|followed| followed[list].as_array());
        listed.is_some_and(|keys| keys.iter().any(|taken| taken == key))
    };
    let node = match (&followed, names("taken"), names("after_restart")) {
        (None, ..) if is_serving => "no_answer",
        (None, ..) => "none",
        (Some(_), true, _) => "taken",
        (Some(_), _, true) => "after_restart",
        (Some(_), false, false) => "unchanged",
    };
    let overruled = Settings::load(&context.data_dir)
        .is_ok_and(|settings| settings.source(key) == Source::Environment);
    let json = json!({ "file": path, "key": key, "value": value, "node": node,
        "overruled": overruled });
    context.print(&json, |text| {
        let _ = match value {
            Some(value) => writeln!(text, "{key} is {value} in {}.", path.display()),
            None => writeln!(text, "{key} is no longer in {}.", path.display()),
        };
        text.push_str(match node {
            "taken" => "The running node goes by it from now on.\n",
            "after_restart" => "The running node goes by it when it is started again.\n",
            "unchanged" => "Nothing changes for the running node.\n",
            "no_answer" => "The running node does not answer; start it again.\n",
            _ => "No node runs; the next one goes by it.\n",
        });
        if overruled {
            let variable = Setting::of(key).map(Setting::variable).unwrap_or_default();
            let _ = writeln!(text, "{variable} says otherwise, and comes first.");
        }
    })
}
