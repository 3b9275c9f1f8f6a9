//! The settings a running node goes by: what it was started with, and what was changed since.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::lock;
use crate::settings::Settings;

/// The settings a running node goes by.
#[derive(Debug)]
pub struct CurrentSettings {
    settings: Mutex<Settings>,
    data_dir: PathBuf,
}

impl CurrentSettings {
    /// What a node is started with, and where its `config.toml` stands.
    #[must_use]
    pub fn new(settings: Settings, data_dir: &Path) -> Self {
        Self { settings: Mutex::new(settings), data_dir: data_dir.to_owned() }
    }

    /// As they are now.
    pub(crate) fn now(&self) -> Settings {
        lock(&self.settings).clone()
    }

    /// Where their file stands.
    pub(super) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// See [`Settings::follow`].
    pub(super) fn follow(&self, newer: &Settings) -> (Vec<&'static str>, Vec<&'static str>) {
        lock(&self.settings).follow(newer)
    }
}
