//! The fuzz targets over their corpora: what cargo-fuzz once found interesting holds in each run of the plain tests.
//!
//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz reply` looks for more.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::support::tally::Tally;

#[path = "../fuzz/bodies.rs"]
mod bodies;

/// The most that one input of a corpus has, in bytes, and how many inputs it has at most.
const CORPUS_MAX: (usize, usize) = (2048, 60);

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let mut all: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all.into_iter().map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}

/// Every input of every corpus, as it is and cut off at some places; once in a process.
pub fn replayed() -> &'static Tally {
    static CAME: OnceLock<Tally> = OnceLock::new();
    CAME.get_or_init(|| {
        let mut came = Tally::default();
        for (target, body) in bodies::ALL {
            for (path, bytes) in corpus(target) {
                for end in [bytes.len(), bytes.len() / 2, bytes.len().saturating_sub(1)] {
                    came.attempts += 1;
                    let held = std::panic::catch_unwind(|| body(&bytes[..end]));
                    came.violations
                        .extend(held.is_err().then(|| format!("{target}: {} up to {end}", path.display())));
                }
            }
        }
        came
    })
}

#[test]
fn every_target_holds_on_its_corpus() {
    replayed().holds();
    eprintln!("fuzz: {} targets, {} inputs, 0 wrong", bodies::ALL.len(), replayed().attempts);
}

#[test]
fn every_target_has_a_small_corpus_and_a_binary() {
    let manifest = include_str!("../fuzz/Cargo.toml");
    let binaries: Vec<&str> =
        manifest.lines().filter_map(|line| line.strip_prefix("name = \"")).skip(1).collect();
    assert_eq!(binaries, bodies::ALL.map(|(target, _)| format!("{target}\"")));
    for (target, _) in bodies::ALL {
        let all = corpus(target);
        assert!((10..=CORPUS_MAX.1).contains(&all.len()), "{target} has {} inputs", all.len());
        let long: Vec<_> = all.iter().filter(|(_, bytes)| bytes.len() > CORPUS_MAX.0).collect();
        assert!(long.is_empty(), "{long:?}");
    }
}
