//! Where the value of each setting comes from: a default, `DATA_DIR/config.toml`, the environment,
//! a flag, each before those named first. Also changes the file. What a value means is `config`'s
//! affair.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use serde::Serialize;
use storysync_engine::store::key_file::{self, Overwrite};
use toml::{Table, Value};

use crate::config::{Config, ConfigError};

/// Names less alike than this (Jaro and Winkler, 1 for the same) are not taken for a slip.
const ALIKE_MIN: f64 = 0.75;

/// How the text of a value is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// As it is.
    Text,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Switch,
    /// Texts, a comma between two; or as TOML.
    List,
}

/// When a node that runs takes a changed setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Takes {
    /// As soon as it is told.
    AtOnce,
    /// When it starts.
    AfterRestart,
}

/// One setting. Its environment variable is `STORYSYNC_` and its key in capitals.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// As `config.toml` names it.
    pub key: &'static str,
    /// The flag that says the same, of `serve` where nothing else is said.
    pub flag: Option<&'static str>,
    /// What it is when nobody says anything: TOML, or words where it is not known beforehand.
    pub default: &'static str,
    /// What a number counts.
    pub unit: &'static str,
    /// How its text is read.
    pub shape: Shape,
    /// When a running node takes it.
    pub takes: Takes,
}

const fn setting(
    key: &'static str,
    flag: Option<&'static str>,
    default: &'static str,
    shape: Shape,
    takes: Takes,
) -> Setting {
    Setting { key, flag, default, unit: "", shape, takes }
}

/// Every setting there is.
pub const SETTINGS: [Setting; 18] = {
    use Shape::{List, Number, Switch, Text};
    use Takes::{AfterRestart, AtOnce};
    [
        setting("name", Some("--name"), "the host's name", Text, AtOnce),
        setting("host", Some("--host"), "\"0.0.0.0\"", Text, AfterRestart),
        setting("port", Some("--port"), "8765", Number, AfterRestart),
        setting("admin_port", Some("--admin-port"), "8766", Number, AfterRestart),
        setting("pairing_approval", Some("--pairing-approval"), "\"code\"", Text, AtOnce),
        Setting {
            unit: "seconds",
            ..setting("pairing_seconds", Some("--pairing-seconds"), "120", Number, AtOnce)
        },
        setting("host_names", None, "[]", List, AfterRestart),
        setting("excluded_tables", None, "[]", List, AfterRestart),
        setting("prose_columns", None, "[]", List, AfterRestart),
        setting("peers", None, "[]", List, AfterRestart),
        setting("discovery", Some("--no-discovery"), "true", Switch, AfterRestart),
        setting("live", Some("--no-live"), "true", Switch, AfterRestart),
        setting("first_contact", Some("--first-contact"), "\"judge\"", Text, AfterRestart),
        setting("asked_about", None, "\"keep\"", Text, AtOnce),
        Setting {
            unit: "rows",
            ..setting("batch_size", Some("--batch-size"), "1000", Number, AtOnce)
        },
        setting("conflict_resolution", Some("--conflict-resolution"), "\"merge\"", Text, AtOnce),
        setting("log_format", Some("--log-format"), "\"text\"", Text, AfterRestart),
        setting(
            "log_level",
            Some("--log-level"),
            "info for serve, warn for other commands",
            Text,
            AfterRestart,
        ),
    ]
};

impl Setting {
    /// The setting with a key.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(key: &str) -> Result<&'static Self, ConfigError> {
        SETTINGS.iter().find(|setting| setting.key == key).ok_or_else(|| {
            ConfigError::NoSuchSetting { key: key.to_owned(), nearest: nearest(key) }
        })
    }

    /// The environment variable that says the same.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("STORYSYNC_{}", self.key.to_uppercase())
    }

    /// Its default; words as a text.
    #[must_use]
    pub fn default_value(&self) -> Value {
        Value::from_str(self.default).unwrap_or_else(|_| Value::from(self.default))
    }

    /// Reads the text of a value, and makes sure that it can be one.
    fn read(&self, text: &str, place: &str) -> Result<Value, ConfigError> {
        let refused = |reason: String| ConfigError::Value {
            place: place.to_owned(),
            value: text.to_owned(),
            reason,
        };
        let value = match self.shape {
            Shape::Text => Value::from(text),
            Shape::Number => text
                .parse::<i64>()
                .map(Value::from)
                .map_err(|_| refused("it is no whole number".to_owned()))?,
            Shape::Switch => text
                .parse::<bool>()
                .map(Value::from)
                .map_err(|_| refused("it is true or false".to_owned()))?,
            Shape::List if text.trim_start().starts_with('[') => {
                Value::from_str(text).map_err(|error| refused(error.message().to_owned()))?
            }
            Shape::List => Value::Array(
                text.split(',')
                    .map(str::trim)
                    .filter(|part| !part.is_empty())
                    .map(Value::from)
                    .collect(),
            ),
        };
        self.check(&value).map_err(refused)?;
        Ok(value)
    }

    /// Says why a value can't be this setting's.
    fn check(&self, value: &Value) -> Result<(), String> {
        let alone = Table::from_iter([(self.key.to_owned(), value.clone())]);
        let read: Result<Config, _> = alone.try_into();
        read.map(drop).map_err(|error| error.message().trim().to_owned())
    }
}

/// The setting somebody may have meant.
fn nearest(key: &str) -> Option<&'static str> {
    let wanted = key.to_lowercase().replace('-', "_");
    SETTINGS
        .iter()
        .map(|setting| (strsim::jaro_winkler(setting.key, &wanted), setting.key))
        .filter(|(alike, _)| *alike >= ALIKE_MIN)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, key)| key)
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Nobody said anything.
    Default,
    /// A person said so before, and it was remembered.
    Remembered,
    /// `config.toml`.
    File,
    /// The environment.
    Environment,
    /// The command line.
    Flag,
}

/// A setting as it is in effect.
#[derive(Debug, Clone, Serialize)]
pub struct Effective {
    /// Which.
    pub key: &'static str,
    /// What it is.
    pub value: Value,
    /// Where that comes from.
    pub source: Source,
    /// What the value counts, where it is a number of something.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub unit: &'static str,
    /// When a running node takes another value.
    pub takes: Takes,
}

/// All settings, and where each value comes from.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    given: BTreeMap<&'static str, (Value, Source)>,
    config: Config,
}

impl Settings {
    /// Reads `config.toml` of a data directory and the environment; all defaults when neither says
    /// anything.
    ///
    /// # Errors
    /// When one of them can't be read or understood.
    pub fn load(data_dir: &Path) -> Result<Self, ConfigError> {
        Self::load_with(data_dir, |variable| std::env::var(variable).ok())
    }

    /// The same, in another environment.
    ///
    /// # Errors
    /// See [`Self::load`].
    pub fn load_with(
        data_dir: &Path,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let mut settings = Self::default();
        for (key, value) in read_file(&data_dir.join("config.toml"))? {
            // The file was checked as a whole.
            if let Ok(setting) = Setting::of(&key) {
                settings.given.insert(setting.key, (value, Source::File));
            }
        }
        for setting in &SETTINGS {
            let variable = setting.variable();
            if let Some(text) = environment(&variable).filter(|text| !text.is_empty()) {
                let value = setting.read(&text, &variable)?;
                settings.given.insert(setting.key, (value, Source::Environment));
            }
        }
        settings.read_again()?;
        Ok(settings)
    }

    /// The same with what flags of the command line say.
    ///
    /// # Errors
    /// When a flag says what its setting can't be.
    pub fn with_flags(mut self, flags: Vec<(&str, Value)>) -> Result<Self, ConfigError> {
        for (key, value) in flags {
            let setting = Setting::of(key)?;
            setting.check(&value).map_err(|reason| ConfigError::Value {
                place: setting.flag.unwrap_or(setting.key).to_owned(),
                value: in_words(&value),
                reason,
            })?;
            self.given.insert(setting.key, (value, Source::Flag));
        }
        self.read_again()?;
        Ok(self)
    }

    fn read_again(&mut self) -> Result<(), ConfigError> {
        let table: Table =
            self.given.iter().map(|(key, (value, _))| ((*key).to_owned(), value.clone())).collect();
        // Each value was checked by itself before; this is only how they become one.
        self.config = table.try_into().map_err(|error: toml::de::Error| ConfigError::Value {
            place: "the configuration".to_owned(),
            value: String::new(),
            reason: error.message().to_owned(),
        })?;
        Ok(())
    }

    /// What they mean together.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where the value of a setting comes from.
    #[must_use]
    pub fn source(&self, key: &str) -> Source {
        self.given.get(key).map_or(Source::Default, |(_, source)| *source)
    }

    /// Each setting as it is in effect.
    #[must_use]
    pub fn effective(&self) -> Vec<Effective> {
        let of = |setting: &Setting| {
            let given = self.given.get(setting.key).cloned();
            let (value, source) = given.unwrap_or((setting.default_value(), Source::Default));
            Effective { key: setting.key, value, source, unit: setting.unit, takes: setting.takes }
        };
        SETTINGS.iter().map(of).collect()
    }

    /// Takes from `newer` what a running node takes at once, and leaves alone what flags say.
    /// Returns which settings were taken, and which wait for a restart.
    pub fn follow(&mut self, newer: &Self) -> (Vec<&'static str>, Vec<&'static str>) {
        let (mut taken, mut waiting) = (Vec::new(), Vec::new());
        for setting in &SETTINGS {
            let here = self.given.get(setting.key);
            let there = newer.given.get(setting.key);
            let is_flagged = here.is_some_and(|(_, source)| *source == Source::Flag);
            if is_flagged || here.map(|(value, _)| value) == there.map(|(value, _)| value) {
                continue;
            }
            match (setting.takes, there.cloned()) {
                (Takes::AfterRestart, _) => {
                    waiting.push(setting.key);
                    continue;
                }
                (Takes::AtOnce, Some(given)) => drop(self.given.insert(setting.key, given)),
                (Takes::AtOnce, None) => drop(self.given.remove(setting.key)),
            }
            taken.push(setting.key);
        }
        // Values that were good each by itself, from two readings: nothing can be refused here.
        if let Err(error) = self.read_again() {
            tracing::warn!(%error, "settings could not be taken over");
        }
        (taken, waiting)
    }
}

/// A value as a person writes it: a text without quotes.
#[must_use]
pub fn in_words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) if values.is_empty() => "none".to_owned(),
        Value::Array(values) if values.iter().all(Value::is_str) => {
            values.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

fn read_file(path: &Path) -> Result<Table, ConfigError> {
    match std::fs::read_to_string(path) {
        Ok(text) => read_text(path, &text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Table::new()),
        Err(source) => Err(ConfigError::Read { path: path.to_owned(), source }),
    }
}

/// What a configuration says, when all of it can be understood.
fn read_text(path: &Path, text: &str) -> Result<Table, ConfigError> {
    let not_understood = |source| ConfigError::Parse { path: path.to_owned(), source };
    let table: Table = toml::from_str(text).map_err(not_understood)?;
    if let Some(key) = table.keys().find(|key| Setting::of(key).is_err()) {
        return Err(ConfigError::UnknownKey {
            path: path.to_owned(),
            key: key.clone(),
            nearest: nearest(key),
        });
    }
    toml::from_str::<Config>(text).map_err(not_understood)?;
    Ok(table)
}

/// Gives a setting another value in `config.toml`, or none (`None`), and leaves everything else of
/// the file as it is, comments included. Nothing is written unless all of the file is good then.
///
/// # Errors
/// When there is no such setting, the value can't be one, or the file can't be changed.
pub fn change(data_dir: &Path, key: &str, text: Option<&str>) -> Result<PathBuf, ConfigError> {
    let named = data_dir.join("config.toml");
    // A link to a file kept elsewhere stays one.
    let path = std::fs::canonicalize(&named).unwrap_or(named);
    let refused = |reason: String| ConfigError::Edit { path: path.clone(), reason };
    let before = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(source) => return Err(ConfigError::Read { path, source }),
    };
    let not_toml = |error: toml_edit::TomlError| refused(error.message().to_owned());
    let after = match text {
        Some(text) => {
            let value = Setting::of(key)?.read(text, key)?;
            with_value(&before, key, &value).map_err(not_toml)?
        }
        // Also one that is no setting: it keeps every command from working.
        None => without(&before, key).map_err(not_toml)?,
    };
    read_text(&path, &after)?;
    let folder = path.parent().unwrap_or(data_dir);
    key_file::prepare_directory(folder).map_err(|error| refused(error.to_string()))?;
    key_file::write_private(folder, &path, after.as_bytes(), Overwrite::Yes)
        .map_err(|error| refused(error.to_string()))?;
    Ok(path)
}

fn with_value(before: &str, key: &str, value: &Value) -> Result<String, toml_edit::TomlError> {
    let mut document = toml_edit::DocumentMut::from_str(before)?;
    let mut value = toml_edit::Value::from_str(&value.to_string())?;
    match document.get_mut(key) {
        Some(item) => {
            if let Some(old) = item.as_value() {
                *value.decor_mut() = old.decor().clone();
            }
            *item = toml_edit::Item::Value(value);
        }
        None => drop(document.insert(key, toml_edit::Item::Value(value))),
    }
    Ok(document.to_string())
}

/// Takes the lines of a setting out; a comment above them stays, whatever it is about.
fn without(before: &str, key: &str) -> Result<String, toml_edit::TomlError> {
    let parsed = toml_edit::Document::parse(before)?;
    let found = parsed.get_key_value(key);
    let spans = found
        .filter(|(_, item)| item.is_value())
        .and_then(|(key, item)| Some((key.span()?.start, item.span()?.end)));
    if let Some((begins, ends)) = spans
        && let (Some(head), Some(tail)) = (before.get(..begins), before.get(ends..))
    {
        let head = head.rfind('\n').and_then(|end| head.get(..=end)).unwrap_or_default();
        let tail = tail.find('\n').and_then(|end| tail.get(end + 1..)).unwrap_or_default();
        return Ok(format!("{head}{tail}"));
    }
    let mut document = toml_edit::DocumentMut::from_str(before)?;
    document.remove(key);
    Ok(document.to_string())
}
