//! Logs: to stderr, never with tokens, keys, bodies or story text.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{LogFormat, LogLevel};
use crate::printable::PrintableWriter;

/// What is worth a line, and how it looks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Logging {
    /// How often `-v` was said.
    pub(crate) verbose: u8,
    /// What the settings say.
    pub(crate) level: Option<LogLevel>,
    /// How a line looks.
    pub(crate) format: LogFormat,
    /// Whether a node serves: it tells what it does, other commands only what went wrong.
    pub(crate) is_serving: bool,
}

impl Logging {
    fn filter(self) -> &'static str {
        let by_itself = if self.is_serving { LogLevel::Info } else { LogLevel::Warn };
        let level = match self.verbose {
            0 => self.level.unwrap_or(by_itself),
            1 => LogLevel::Info,
            _ => LogLevel::Debug,
        };
        match level {
            LogLevel::Error => "storysync=error",
            LogLevel::Warn => "storysync=warn",
            LogLevel::Info => "storysync=info",
            LogLevel::Debug => "storysync=debug",
            LogLevel::Trace => "storysync=trace,storysync_engine=trace",
        }
    }
}

/// Starts logging.
pub(crate) fn start(logging: Logging) {
    let filter = EnvFilter::try_from_env("STORYSYNC_LOG")
        .unwrap_or_else(|_| EnvFilter::new(logging.filter()));
    // What a panic says may hold what it was looking at: only its place is told.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "something broke off inside");
    }));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| PrintableWriter(std::io::stderr()))
        .with_ansi(false);
    // A second start (in tests) keeps the first.
    drop(match logging.format {
        LogFormat::Text => lines.with_target(false).finish().try_init(),
        LogFormat::Json => lines.json().flatten_event(true).finish().try_init(),
    });
}
