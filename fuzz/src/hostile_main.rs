//! Prints what came of tampered sealed bodies and of mutated changes:
//! `hostile [ENVELOPES] [CHANGES] [SEED]`, 200,000, 1,000,000 and 1 by default. Exits with 1 when
//! anything got through.

use std::time::Instant;

use storysync_fuzz::hostile::{Mutated, Tampered, hex, mutated_changes, tampered_envelopes};

fn main() {
    let numbers: Vec<u64> = std::env::args()
        .skip(1)
        .map(|text| text.parse().expect("numbers: ENVELOPES CHANGES SEED"))
        .collect();
    let number = |index: usize, default| numbers.get(index).copied().unwrap_or(default);
    let (envelopes, changes, seed) = (number(0, 200_000), number(1, 1_000_000), number(2, 1));
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    std::panic::set_hook(Box::new(|_| {}));

    let begun = Instant::now();
    let parts = on_all_cores(cores, |core| {
        tampered_envelopes(envelopes.div_ceil(cores), seed.wrapping_mul(1_000) + core)
    });
    let sum = |part: fn(&Tampered) -> u64| parts.iter().map(part).sum::<u64>();
    let (tried, accepted, panics) =
        (sum(|part| part.tried), sum(|part| part.accepted), sum(|part| part.panics));
    println!(
        "tampered envelopes: {tried} tried, {accepted} accepted, {panics} panics ({:.0} s, seed \
            {seed})",
        begun.elapsed().as_secs_f64()
    );
    let mut bad = accepted + panics;

    // What the first run needs stays with the allocator: not what hostile bytes cost.
    drop(mutated_changes(1_000, seed));
    let before = resident_kib("VmRSS");
    let begun = Instant::now();
    let parts = on_all_cores(cores, |core| {
        mutated_changes(changes.div_ceil(cores), seed.wrapping_mul(1_000) + core)
    });
    let grown = resident_kib("VmHWM").saturating_sub(before);
    let sum = |part: fn(&Mutated) -> u64| parts.iter().map(part).sum::<u64>();
    println!(
        "mutated changes: {} tried, {} refused ({} broke automerge inside the guard), {} admitted \
            as other right changes, {} panics got out, {} findings; \
         resident memory at most +{:.1} MiB ({:.0} s, seed {seed})",
        sum(|part| part.tried),
        sum(|part| part.refused),
        sum(|part| part.broke_automerge),
        sum(|part| part.admitted),
        sum(|part| part.escaped),
        sum(|part| part.findings.len() as u64),
        grown as f64 / 1024.0,
        begun.elapsed().as_secs_f64()
    );
    if let Some(breaking) =
        parts.iter().filter_map(|part| part.breaking.as_ref()).min_by_key(|bytes| bytes.len())
    {
        println!("  automerge breaks on {}", hex(breaking));
    }
    for finding in parts.iter().flat_map(|part| &part.findings).take(5) {
        println!("  {finding}");
    }
    bad += sum(|part| part.escaped) + sum(|part| part.findings.len() as u64);
    std::process::exit(i32::from(bad > 0));
}

fn on_all_cores<T: Send>(cores: u64, work: impl Fn(u64) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..cores)
            .map(|core| {
                scope.spawn({
                    let work = &work;
                    move || work(core)
                })
            })
            .collect();
        running
            .into_iter()
            .map(|thread| thread.join().expect("panics are counted inside"))
            .collect()
    })
}

/// A line of /proc/self/status, in KiB; 0 where there is none.
fn resident_kib(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|text| {
            text.strip_prefix(line)?.strip_prefix(':')?.split_whitespace().next()?.parse().ok()
        })
        .unwrap_or(0)
}
