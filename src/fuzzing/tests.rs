//! The checks over the corpus, and over random changes of it. The corpus has the small inputs with which the fuzzer reached
//! what it did, and those that have failed.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;

use super::TARGETS;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn paths_in(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort_unstable();
    paths
}

fn names_in(part: &str) -> Vec<String> {
    let name = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    paths_in(&folder().join(part)).into_iter().map(name).collect()
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let paths = paths_in(&folder().join("corpus").join(target));
    paths.into_iter().map(|path| std::fs::read(path).unwrap()).collect()
}

#[test]
fn every_check_is_a_target_of_the_fuzzer_and_has_a_corpus() {
    let names = TARGETS.map(|(name, _)| name.to_owned());
    assert_eq!(names_in("fuzz_targets"), names);
    assert_eq!(names_in("corpus"), names);
    let manifest = std::fs::read_to_string(folder().join("Cargo.toml")).unwrap();
    for name in names {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
        assert!(!corpus(&name).is_empty(), "{name}");
    }
}

/// A change of an input.
#[derive(Clone, Debug)]
enum Change {
    Overwrite(Index, u8),
    Remove(Index, usize),
    /// Puts a part of another input in.
    Insert(Index, Index, usize),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Overwrite(at, byte)),
        (any::<Index>(), 1..20_usize).prop_map(|(at, length)| Change::Remove(at, length)),
        (any::<Index>(), any::<Index>(), 1..40_usize).prop_map(|(at, from, length)| Change::Insert(at, from, length)),
    ]
}

fn changed(mut input: Vec<u8>, other: &[u8], changes: &[Change]) -> Vec<u8> {
    let range = |from: &Index, length: usize, of: usize| {
        let from = from.index(of + 1);
        from..(from + length).min(of)
    };
    for change in changes {
        match change {
            Change::Overwrite(at, byte) => {
                let range = range(at, 1, input.len());
                input[range].fill(*byte);
            }
            Change::Remove(at, length) => drop(input.drain(range(at, *length, input.len()))),
            Change::Insert(at, from, length) => {
                let at = at.index(input.len() + 1);
                input.splice(at..at, other[range(from, *length, other.len())].iter().copied());
            }
        }
    }
    input
}

/// Runs the check of a target over its corpus, and over random changes of the shorter inputs.
pub(super) fn holds(target: &str, check: fn(&[u8])) {
    let corpus = corpus(target);
    corpus.iter().for_each(|input| check(input));
    let short: Vec<Vec<u8>> = corpus.into_iter().filter(|input| input.len() <= 400).chain([Vec::new()]).collect();
    let config = ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() };
    let inputs = (any::<Index>(), any::<Index>(), prop::collection::vec(change(), 0..6));
    proptest!(config, |((input, other, changes) in inputs)| {
        let other: &Vec<u8> = other.get(&short);
        check(&changed(input.get(&short).clone(), other, &changes));
    });
}
