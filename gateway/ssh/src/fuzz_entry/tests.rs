//! Replays the committed corpora: what a fuzzer once found stays found.

use std::fs;
use std::path::Path;

use super::*;

#[test]
fn every_input_of_every_corpus_passes() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, target) in TARGETS {
        let entries = fs::read_dir(corpus.join(name)).expect(name);
        let inputs: Vec<_> = entries.map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
        assert!(inputs.len() > 3, "{name}: {} inputs", inputs.len());
        inputs.iter().for_each(|input| target(input));
    }
}
