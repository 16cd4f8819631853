//! Every fuzz target over its corpus and over seeded mutations of it.
//!
//! `SEED` and `MUTATIONS` (per target) choose others. A failure prints the
//! input as a Rust byte string.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::panic;
use std::path::{Path, PathBuf};

use pgweir::fuzzing::{TARGETS, Target};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng};

#[test]
fn every_target_survives_its_corpus_and_mutations_of_it() {
    let seed = number("SEED", 1);
    let mutations = number("MUTATIONS", 3_000);
    for &(name, body) in TARGETS {
        let corpus = corpus(name);
        for (path, input) in &corpus {
            run((name, body), input, &path.display().to_string());
        }
        let mut rng = StdRng::seed_from_u64(seed);
        for n in 0..mutations {
            let input = mutate(&corpus, &mut rng);
            run((name, body), &input, &format!("SEED={seed}, mutation {n}"));
        }
    }
}

#[test]
fn every_target_has_a_binary_and_a_corpus() {
    let names = |file: &str, ending: &str| -> BTreeSet<String> {
        fs::read_dir(fuzz().join(file))
            .unwrap()
            .filter_map(|entry| {
                let name = entry.unwrap().file_name().into_string().unwrap();
                name.strip_suffix(ending).map(str::to_string)
            })
            .collect()
    };
    let manifest: toml::Table = fs::read_to_string(fuzz().join("Cargo.toml"))
        .unwrap()
        .parse()
        .unwrap();
    let binaries: BTreeSet<String> = manifest["bin"]
        .as_array()
        .unwrap()
        .iter()
        .map(|bin| bin["name"].as_str().unwrap().to_string())
        .collect();

    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(targets.len(), TARGETS.len(), "a name twice");
    assert_eq!(binaries, targets);
    assert_eq!(names("fuzz_targets", ".rs"), targets);
    assert_eq!(names("corpus", ""), targets);
    for target in &targets {
        let source = fs::read_to_string(fuzz().join(format!("fuzz_targets/{target}.rs"))).unwrap();
        assert!(
            source.contains(&format!("fuzz_{target}(data)")),
            "{target}.rs"
        );
    }
}

fn run((name, body): Target, input: &[u8], origin: &str) {
    if let Err(panic) = panic::catch_unwind(|| body(input)) {
        eprintln!("{name}: {origin}: b\"{}\"", input.escape_ascii());
        panic::resume_unwind(panic);
    }
}

/// The inputs of a target by path, in a fixed order.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<PathBuf> = fs::read_dir(fuzz().join("corpus").join(target))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            !path
                .file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with("generated-")
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{target} has no corpus");
    files
        .into_iter()
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

/// An input of the corpus, damaged as fuzzers do it.
fn mutate(corpus: &[(PathBuf, Vec<u8>)], rng: &mut StdRng) -> Vec<u8> {
    let mut input = pick(corpus, rng).to_vec();
    for _ in 0..rng.random_range(1..8) {
        let at = rng.random_range(0..=input.len());
        let to = input.len().min(at + rng.random_range(0..24));
        match rng.random_range(0..7) {
            0 => input.truncate(at),
            1 => drop(input.drain(at..to)),
            2 => input.insert(at, rng.random()),
            3 if at < input.len() => input[at] ^= 1 << rng.random_range(0..8),
            4 => {
                let copy = input[at..to].to_vec();
                input.splice(at..at, copy);
            }
            5 => {
                let other = pick(corpus, rng);
                let from = rng.random_range(0..=other.len());
                let until = other.len().min(from + rng.random_range(0..24));
                input.splice(at..at, other[from..until].iter().copied());
            }
            _ => {
                // Lengths and counts in messages: the ends of their ranges.
                let extreme = [0, 1, -1, i32::MAX, i32::MIN].choose(rng).unwrap();
                let bytes = extreme.to_be_bytes();
                input.splice(at..to.min(at + 4), bytes);
            }
        }
    }
    input
}

fn pick<'a>(corpus: &'a [(PathBuf, Vec<u8>)], rng: &mut impl Rng) -> &'a [u8] {
    &corpus.choose(rng).unwrap().1
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |value| value.parse().unwrap())
}
