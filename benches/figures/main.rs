//! The figures of exactlog, each beside what the machine can do at the time.
//!
//! ```sh
//! cargo run --release -p exactlog-benches --example figures                  # all, about 15 minutes
//! cargo run --release -p exactlog-benches --example figures -- burst open    # some sections
//! cargo run --release -p exactlog-benches --example figures -- --quick       # small amounts, to see that it works
//! ```
//!
//! It prints one Markdown table. Data is written below `--dir` (default: the current directory) and removed at the end.
//! docs/PERFORMANCE.md says what each figure means.
#![forbid(unsafe_code)]

mod burst;
mod callers;
mod child;
mod engine;
mod ids;
mod limits;
mod memory;
mod opening;
mod ordered;
mod report;
mod requests;
mod scan;
mod setup;
mod single;
mod subscribe;
mod sustained;
mod tables;
mod transactions;

use limits::Limits;
use report::Report;
use setup::{Measures, Result};
use std::path::PathBuf;

/// A section's name, and what runs it.
type Section = (&'static str, fn(&Measures, &Limits, &mut Report) -> Result<()>);

const SECTIONS: [Section; 13] = [
    ("burst", burst::run),
    ("burst-os", burst::run_os),
    ("sustained", sustained::run),
    ("transaction", transactions::run),
    ("single", single::run),
    ("subscriber", subscribe::run),
    ("scan", scan::run),
    ("open", opening::run),
    ("memory", memory::run),
    ("ids", ids::run),
    ("tables", tables::run),
    ("ordered", ordered::run),
    ("requests", requests::run),
];

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|argument| argument == child::ARGUMENT).is_some() {
        return child::run(&arguments.collect::<Vec<_>>());
    }
    let (mut quick, mut directory, mut wanted) = (false, PathBuf::from("."), Vec::new());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => quick = true,
            "--dir" => directory = arguments.next().ok_or("--dir needs a directory")?.into(),
            name if SECTIONS.iter().any(|(known, _)| *known == name) => wanted.push(argument),
            unknown => {
                let names: Vec<&str> = SECTIONS.iter().map(|(name, _)| *name).collect();
                let known = names.join(", ");
                return Err(format!("{unknown:?} is neither --quick, --dir nor one of {known}").into());
            }
        }
    }
    let scratch = tempfile::Builder::new().prefix("exactlog-figures-").tempdir_in(directory)?;
    let measures = Measures { directory: scratch.path().to_path_buf(), quick };
    let mut report = Report::begin(quick);
    let limits = Limits::measure(&measures, &mut report)?;
    for (_, run) in
        SECTIONS.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|it| it == name))
    {
        run(&measures, &limits, &mut report)?;
    }
    // The machine at the end: a figure between two different probes isn't worth much.
    Limits::measure(&measures, &mut report)?;
    Ok(())
}
