//! Plays scripts from seeds for a given time, on all cores, and prints how many and what was found.
//!
//! `seeds MODEL SECONDS [FIRST SEED]`, where MODEL is `convergence`, `convergence_sqlite` or
//! `desk`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use storysync_fuzz::choices::Choices;
use storysync_fuzz::{convergence, convergence_sqlite, desk};

/// Findings after which there is no point in going on.
const FINDINGS_MAX: usize = 5;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (Some(model), Some(seconds)) =
        (arguments.first(), arguments.get(1).and_then(|text| text.parse().ok()))
    else {
        eprintln!("usage: seeds convergence|convergence_sqlite|desk SECONDS [FIRST SEED]");
        std::process::exit(2);
    };
    let run: fn(u64) -> Result<(), String> = match model.as_str() {
        "convergence" => |seed| convergence::play::<convergence::Real>(Choices::of_seed(seed)),
        "convergence_sqlite" => |seed| convergence_sqlite::play(Choices::of_seed(seed)),
        "desk" => |seed| desk::play::<desk::Real>(Choices::of_seed(seed)),
        other => {
            eprintln!("there is no model {other}");
            std::process::exit(2);
        }
    };
    let first: u64 = arguments.get(2).and_then(|text| text.parse().ok()).unwrap_or(1);
    let next = AtomicU64::new(first);
    let findings: Mutex<Vec<(u64, String)>> = Mutex::new(Vec::new());
    let begun = Instant::now();
    std::panic::set_hook(Box::new(|_| {}));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while begun.elapsed() < Duration::from_secs(seconds) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let outcome = std::panic::catch_unwind(|| run(seed)).unwrap_or_else(|panic| {
                        let words = panic.downcast_ref::<String>().cloned().or_else(|| {
                            panic.downcast_ref::<&str>().map(|text| (*text).to_owned())
                        });
                        Err(format!("it panicked: {}", words.unwrap_or_default()))
                    });
                    if let Err(finding) = outcome {
                        let mut findings = findings.lock().expect("no panic while it is held");
                        findings.push((seed, finding));
                        if findings.len() >= FINDINGS_MAX {
                            return;
                        }
                    }
                }
            });
        }
    });
    let findings = findings.into_inner().expect("all threads have ended");
    for (seed, finding) in &findings {
        println!("STORYSYNC_SEED={seed} replays this:\n{finding}\n");
    }
    let played = next.load(Ordering::Relaxed) - first;
    println!(
        "{model}: {played} scripts (seeds {first} to {}) in {:.0} s, {} findings",
        first + played - 1,
        begun.elapsed().as_secs_f64(),
        findings.len()
    );
    std::process::exit(i32::from(!findings.is_empty()));
}
