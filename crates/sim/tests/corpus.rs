//! Every input that the fuzzers keep, once more, without a fuzzer: what was found stays mended.

use exactlog_sim::fuzzing::{TARGETS, seeds};
use std::fs;
use std::path::{Path, PathBuf};

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus");

fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(CORPUS).join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.expect("a folder that can be read").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(&path).expect("a file that can be read"))).collect()
}

fn replay(target: &str) {
    let inputs = inputs(target);
    assert!(!inputs.is_empty());
    for (path, bytes) in inputs {
        // Shown only if the test fails: the last line is the input.
        println!("{}", path.display());
        exactlog_sim::fuzzing::run(target, &bytes);
    }
}

#[test]
fn every_record_batch_of_the_corpus_is_taken() {
    replay("record_batch");
}

#[test]
fn every_journal_of_the_corpus_is_taken() {
    replay("journal_frame");
}

#[test]
fn every_sequence_of_commands_of_the_corpus_is_taken() {
    replay("command_decode");
}

#[test]
fn every_checkpoint_of_the_corpus_is_taken() {
    replay("checkpoint");
}

#[test]
fn every_segment_of_the_corpus_is_taken() {
    replay("segment");
}

#[test]
fn every_damaged_directory_of_the_corpus_is_recovered_or_refused() {
    replay("recovery");
}

#[test]
fn every_message_of_the_corpus_is_read_or_refused() {
    replay("requests");
    replay("responses");
}

#[test]
fn every_compressed_body_of_the_corpus_is_decompressed_or_refused() {
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        replay(codec);
    }
}

#[test]
fn the_corpus_has_a_folder_for_every_target_and_no_other() {
    let entries = fs::read_dir(CORPUS).expect("the corpus is there");
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let mut folders: Vec<String> =
        entries.map(|entry| name(entry.expect("a folder that can be read"))).collect();
    folders.sort();
    let mut targets = TARGETS.map(|target| target.name.to_owned());
    targets.sort();
    assert_eq!(folders, targets);
}

#[test]
fn the_seeds_of_the_corpus_are_those_that_are_made_today() {
    let stale = "run `cargo run -p exactlog-sim --example corpus`";
    let seeds = seeds();
    for seed in &seeds {
        let path = Path::new(CORPUS).join(seed.target).join(&seed.name);
        assert!(fs::read(&path).is_ok_and(|bytes| bytes == seed.bytes), "{}: {stale}", path.display());
    }
    let found = TARGETS.iter().flat_map(|target| inputs(target.name));
    let named = found
        .filter(|(path, _)| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("seed-")));
    assert_eq!(named.count(), seeds.len(), "{stale}");
}
