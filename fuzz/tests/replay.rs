//! Replays the committed corpora: what once was interesting stays harmless.

use std::path::Path;

#[test]
fn every_corpus_is_harmless() {
    for (name, target) in storysync_fuzz::TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let mut inputs: Vec<_> = std::fs::read_dir(&folder).expect("a corpus").map(|entry| entry.expect("an input").path()).collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "the corpus of {name} is empty");
        for input in &inputs {
            target(&std::fs::read(input).expect("a readable input"));
        }
        println!("{name}: {} inputs replayed", inputs.len());
    }
}
