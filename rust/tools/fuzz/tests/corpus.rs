//! Every target on its corpus, which the fuzzers have found, and on noise.

use std::fs;
use std::path::Path;

use diskomator_fuzz::TARGETS;
use netproto::rng::Rng;

fn corpus() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus"))
}

#[test]
fn the_corpus_of_each_target_finds_no_fault() {
    for (name, target) in TARGETS {
        let mut files: Vec<_> = fs::read_dir(corpus().join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort_unstable();
        assert!(files.len() >= 5, "{name} has a corpus of {} files", files.len());
        for file in files {
            // Said only if it is the one that fails.
            println!("{}", file.display());
            target(&fs::read(file).unwrap());
        }
    }
}

#[test]
fn the_corpora_are_those_of_the_targets_and_small() {
    let mut size = 0;
    for folder in fs::read_dir(corpus()).unwrap() {
        let folder = folder.unwrap();
        let name = folder.file_name();
        assert!(TARGETS.iter().any(|(target, _)| name == *target), "there is no target {}", name.display());
        let files = fs::read_dir(folder.path()).unwrap();
        size += files.map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>();
    }
    assert!(size < 300_000, "{size} bytes");
}

#[test]
fn noise_finds_no_fault() {
    for (name, target) in TARGETS {
        for seed in 0..500 {
            let mut rng = Rng::new(seed);
            let len = rng.below(2000);
            let input: Vec<u8> = (0..len).map(|_| rng.next_u32().to_le_bytes()[0]).collect();
            println!("{name}, seed {seed}");
            target(&input);
        }
    }
}
