//! Replays the committed corpora: what once was interesting stays harmless.

use std::path::Path;

#[test]
fn every_corpus_is_harmless() {
    for (name, target) in storysync_fuzz::TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let mut inputs: Vec<_> = std::fs::read_dir(&folder)
            .expect("a corpus")
            .map(|entry| entry.expect("an input").path())
            .collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "the corpus of {name} is empty");
        for input in &inputs {
            target(&std::fs::read(input).expect("a readable input"));
        }
        println!("{name}: {} inputs replayed", inputs.len());
    }
}

/// A small part of what the program `hostile` counts, in every run of the checks.
#[test]
fn nothing_hostile_gets_through() {
    std::panic::set_hook(Box::new(|_| {}));
    let seed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(1, |since| since.as_secs());
    println!("seed {seed}");
    let tampered = storysync_fuzz::hostile::tampered_envelopes(2_000, seed);
    assert_eq!((tampered.tried, tampered.accepted, tampered.panics), (2_000, 0, 0), "seed {seed}");
    let mutated = storysync_fuzz::hostile::mutated_changes(20_000, seed);
    assert_eq!((mutated.tried, mutated.escaped), (20_000, 0), "seed {seed}");
    assert!(mutated.findings.is_empty(), "seed {seed}: {:?}", mutated.findings);
    assert!(
        mutated.admitted > 0,
        "no mutation made a right change: the mutations are too wild to test anything"
    );
}
