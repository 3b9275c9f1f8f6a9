//! The scripts of `fuzz/src/convergence_sqlite.rs`, from seeds. `STORYSYNC_SCRIPTS=n` plays more of
//! them, `STORYSYNC_SEED=n` replays one, `STORYSYNC_KEEP=folder` keeps the files of one that fails.

use crate::choices::Choices;
use crate::convergence_sqlite::play;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[test]
fn any_script_on_real_files_converges() {
    if let Some(seed) = setting("STORYSYNC_SEED") {
        if let Err(finding) = play(Choices::of_seed(seed)) {
            panic!("{finding}");
        }
        return;
    }
    for seed in 1..=setting("STORYSYNC_SCRIPTS").unwrap_or(40) {
        if let Err(finding) = play(Choices::of_seed(seed)) {
            panic!("STORYSYNC_SEED={seed} replays this script:\n{finding}");
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 16, failure_persistence: None, max_shrink_iters: 200, ..proptest::prelude::ProptestConfig::default() })]

    #[test]
    fn any_bytes_as_a_script_on_real_files_converge(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 20..200)) {
        let outcome = play(Choices::Bytes(&bytes));
        proptest::prop_assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
    }
}
