//! Logs: to stderr, never with tokens, keys, bodies or story text.

use tracing_subscriber::EnvFilter;

use crate::printable::PrintableWriter;

/// Starts logging. A serving node tells what it does; other commands only what went wrong.
pub(crate) fn start(verbose: u8, serving: bool) {
    let level = match (verbose, serving) {
        (0, false) => "storysync=warn",
        (0, true) | (1, _) => "storysync=info",
        _ => "storysync=debug",
    };
    let filter = EnvFilter::try_from_env("STORYSYNC_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    // What a panic says may hold what it was looking at: only its place is told.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "something broke off inside");
    }));
    // A second start (in tests) keeps the first.
    drop(
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(|| PrintableWriter(std::io::stderr()))
            .with_ansi(false)
            .with_target(false)
            .try_init(),
    );
}
