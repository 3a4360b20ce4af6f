//! Writes the seeds of the fuzzers into `fuzz/corpus`, or into the folder that is named.
//!
//! `cargo run -p exactlog-sim --example corpus [folder]`
//!
//! Seeds that were there are removed first; inputs that fuzzing has found (all other names) stay.

use exactlog_sim::fuzzing::{TARGETS, seeds};
use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus");
    let corpus = env::args_os().nth(1).map_or_else(|| PathBuf::from(beside), PathBuf::from);
    for target in TARGETS {
        let folder = corpus.join(target.name);
        fs::create_dir_all(&folder)?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("seed-") {
                fs::remove_file(entry.path())?;
            }
        }
    }
    let seeds = seeds();
    for seed in &seeds {
        fs::write(corpus.join(seed.target).join(&seed.name), &seed.bytes)?;
    }
    let bytes: usize = seeds.iter().map(|seed| seed.bytes.len()).sum();
    println!("{} seeds of {bytes} bytes", seeds.len());
    Ok(())
}
