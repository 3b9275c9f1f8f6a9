//! Notices the app's commits: the file's directory is watched, then `PRAGMA data_version` is read
//! again a few times, because the file event can come before the commit can be seen. A slow poll is
//! the fallback.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use notify::{EventKind, RecursiveMode, Watcher as _};
use tokio::sync::{Notify, watch};

use super::node_state::{NodeState, now};
use super::told_to;
use storysync_engine::store::trust::EventKind as LoggedEvent;
use storysync_engine::{Engine, EngineError, NewEpoch};

/// Pauses between looks after a file event; together about 60 ms.
const LOOK_AGAIN_MS: [u64; 7] = [0, 1, 2, 4, 8, 15, 30];
/// Pause after a look that failed; it grows with each one.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Longest pause after failures.
const PAUSE_AFTER_FAILURE_MAX: Duration = Duration::from_secs(30);
/// Looks without any file event: for file systems that tell nothing.
const POLL_EVERY: Duration = Duration::from_secs(1);

/// Looks at the app's file whenever something happens to it, until `stop`. Failures are logged
/// once.
pub async fn run(
    node: Arc<NodeState>,
    database: std::path::PathBuf,
    mut stop: watch::Receiver<bool>,
) {
    let wake = Arc::new(Notify::new());
    let _watcher = match start_watcher(&database, Arc::clone(&wake)) {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::warn!(%error, "the database's folder can't be watched; looking once a second \
                instead");
            None
        }
    };
    let mut last_seen = None;
    let mut failures: u32 = 0;
    loop {
        if failures > 0 {
            // A failed transaction touches files, too: without a pause it would wake us again at
            // once, and keep the app from its own file.
            let pause = PAUSE_AFTER_FAILURE.saturating_mul(failures).min(PAUSE_AFTER_FAILURE_MAX);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = told_to(&mut stop) => return,
            }
        }
        let event = tokio::select! {
            () = wake.notified() => true,
            () = tokio::time::sleep(POLL_EVERY) => false,
            () = told_to(&mut stop) => return,
        };
        let noticed = Instant::now();
        let pauses: &[u64] = if event { &LOOK_AGAIN_MS } else { &[0] };
        for pause in pauses {
            if *pause > 0 {
                tokio::time::sleep(Duration::from_millis(*pause)).await;
            }
            let seen = last_seen;
            let Ok(looked) = node.engine.call(move |engine| look(engine, seen)).await else {
                return;
            };
            match looked {
                Ok((version, changed, cause)) => {
                    if let Some(cause) = cause {
                        tracing::warn!("{}", cause.sentence());
                        node.note(LoggedEvent::Compare, None, cause.sentence());
                    }
                    node.database_connected.store(true, Ordering::Relaxed);
                    failures = 0;
                    last_seen = Some(version);
                    if changed {
                        node.metrics.captured(noticed.elapsed());
                        break;
                    }
                }
                Err(error) => {
                    if node.database_connected.swap(false, Ordering::Relaxed) {
                        tracing::warn!(%error, "the database can't be read at the moment");
                    }
                    last_seen = None;
                    failures = failures.saturating_add(1);
                    break;
                }
            }
        }
    }
}

/// Captures when another connection has written since the last look.
fn look(
    engine: &mut Engine,
    seen: Option<i64>,
) -> Result<(i64, bool, Option<NewEpoch>), EngineError> {
    let version = engine.data_version()?;
    if seen == Some(version) {
        return Ok((version, false, None));
    }
    let noticed = engine.capture(now())?;
    let cause = if noticed.new_epoch { engine.new_epoch()?.map(|(cause, _)| cause) } else { None };
    Ok((version, true, cause))
}

fn start_watcher(database: &Path, wake: Arc<Notify>) -> notify::Result<notify::RecommendedWatcher> {
    let name = database.file_name().map(std::ffi::OsStr::to_os_string);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let Ok(event) = event else { return };
        if matches!(event.kind, EventKind::Access(_)) {
            return;
        }
        let ours = event.paths.iter().any(|path| {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            name.as_ref().is_some_and(|name| file.starts_with(&*name.to_string_lossy()))
                && !file.ends_with("-shm")
        });
        if ours {
            wake.notify_one();
        }
    })?;
    let folder =
        database.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}
