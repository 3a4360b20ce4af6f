//! What is fed to fuzzers: one function per format that takes any bytes and must come back.
//!
//! Not a fuzzer. The package `fuzz/` hands these functions to libFuzzer; `tests/corpus.rs` calls them with the
//! inputs that are kept, without libFuzzer, so that what was found once stays mended (docs/FUZZING.md).
//!
//! Invariants:
//!   * a function returns for every input: what it objects to is a panic that says what was expected
//!   * it depends on the bytes alone: same bytes, same steps
//!   * disks are watched: a buffer beyond the length of the file that it is for is a panic

mod batch;
mod checkpoint;
mod command;
mod compression;
mod input;
mod journal;
mod protocol;
mod recovery;
mod seeds;
mod segment;
mod watched;
mod world;

pub use seeds::seeds;

/// One thing that is fuzzed.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: that of its folder below `fuzz/corpus`, and of its program.
    pub name: &'static str,
    /// Takes one input; panics if what it checks doesn't hold.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: [Target; 12] = [
    Target { name: "record_batch", run: batch::run },
    Target { name: "journal_frame", run: journal::run },
    Target { name: "command_decode", run: command::run },
    Target { name: "checkpoint", run: checkpoint::run },
    Target { name: "segment", run: segment::run },
    Target { name: "recovery", run: recovery::run },
    Target { name: "gzip", run: compression::gzip },
    Target { name: "snappy", run: compression::snappy },
    Target { name: "lz4", run: compression::lz4 },
    Target { name: "zstd", run: compression::zstd },
    Target { name: "requests", run: protocol::requests },
    Target { name: "responses", run: protocol::responses },
];

/// Runs one input through a target.
///
/// # Panics
/// If there is no such target, or what it checks doesn't hold.
pub fn run(target: &str, data: &[u8]) {
    let found = TARGETS.iter().find(|known| known.name == target);
    let found = found.unwrap_or_else(|| panic!("there is no target {target}"));
    (found.run)(data);
}
