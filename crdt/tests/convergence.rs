//! The scripts of `fuzz/src/convergence.rs`, from seeds and from bytes that proptest shrinks.
//! `STORYSYNC_SCRIPTS=n` plays more of them, `STORYSYNC_SEED=n` replays one.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::too_many_arguments,
    reason = "tests"
)]
#![expect(unreachable_pub, reason = "shared with the fuzz targets")]

#[path = "../../fuzz/src/choices.rs"]
mod choices;
#[path = "../../fuzz/src/convergence.rs"]
mod convergence;

use choices::Choices;
use convergence::{Merge, Real, broken, play};
use proptest::prelude::*;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[test]
fn any_script_converges_and_loses_nothing() {
    if let Some(seed) = setting("STORYSYNC_SEED") {
        if let Err(finding) = play::<Real>(Choices::of_seed(seed)) {
            panic!("{finding}");
        }
        return;
    }
    for seed in 1..=setting("STORYSYNC_SCRIPTS").unwrap_or(2_000) {
        if let Err(finding) = play::<Real>(Choices::of_seed(seed)) {
            panic!("STORYSYNC_SEED={seed} replays this:\n{finding}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_as_a_script_converge_and_lose_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let outcome = play::<Real>(Choices::Bytes(&bytes));
        prop_assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
    }
}

/// Scripts played until a broken merge is found.
fn found_after<M: Merge>() -> Option<u64> {
    (1..=5_000).find(|seed| play::<M>(Choices::of_seed(*seed)).is_err())
}

#[test]
fn a_broken_merge_is_found() {
    let found = [
        found_after::<broken::ByArrival>(),
        found_after::<broken::Silent>(),
        found_after::<broken::DeleteWins>(),
    ];
    println!(
        "found after so many scripts: by arrival {:?}, silent {:?}, delete wins {:?}",
        found[0], found[1], found[2]
    );
    assert!(found.iter().all(Option::is_some), "{found:?}");
}
