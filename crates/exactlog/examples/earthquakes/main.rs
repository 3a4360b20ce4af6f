//! A week of earthquakes: lines become events, events become alerts and counts, each exactly once, whenever the
//! process is killed.
//!
//! ```text
//!   lines -> [feed] -> quakes -> [alerts] -> alerts    magnitude 4.5 and up
//!               \-> rejects             \-> counts    running count per region
//! ```
//!
//! `cargo run --release -p exactlog --example earthquakes`, then kill it at any time and start it again: what it
//! prints at the end is the same. Worth reading: `ingest.rs` (a cursor into an outside source, committed with what was
//! taken from it) and `process.rs` (consumed positions, committed with what was made of them).

mod ingest;
mod process;
mod report;

use exactlog::{Durability, Log, Topic, TopicOptions};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// Whatever can go wrong; it is printed and ends the example.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A week of earthquakes is small, so its files may be, too.
const JOURNAL_FILE_BYTES: u64 = 4 * 1024 * 1024;

const USAGE: &str = "\
usage: earthquakes [--data DIR] [--input FILE|-] [--times N] [--durability fsync|os] [--quiet] [--progress]
  --data DIR      where the log is (default ./exactlog-data/earthquakes)
  --input FILE    lines of JSON (default: the week of earthquakes beside this example); `-` is standard input. That
                  can't be read twice: after a restart, give the same input from its beginning, and what was taken
                  already is skipped
  --times N       feeds the file N times, with new ids (default 1)
  --durability    fsync: what is committed survives a power loss (default); os: it survives the process
  --quiet         prints the summary only
  --progress      prints a line for each commit";

/// An event of the topic `quakes`, and of `alerts`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Quake {
    pub(crate) id: String,
    /// When it happened, ms since 1970.
    pub(crate) time_ms: i64,
    pub(crate) mag: f64,
    pub(crate) place: Option<String>,
}

impl Quake {
    /// What follows the last comma of the place: "22km NNE of Hualian, Taiwan" is in Taiwan.
    pub(crate) fn region(&self) -> &str {
        let place = self.place.as_deref().unwrap_or_default();
        let region = place.rsplit(',').next().unwrap_or_default().trim();
        if region.is_empty() { "unknown" } else { region }
    }
}

#[derive(Debug)]
pub(crate) struct Topics {
    /// Key: the region. Only events of one region depend on each other's order: their count runs.
    pub(crate) quakes: Topic,
    pub(crate) rejects: Topic,
    pub(crate) alerts: Topic,
    pub(crate) counts: Topic,
}

#[derive(Debug)]
pub(crate) struct Settings {
    data: PathBuf,
    pub(crate) input: ingest::Input,
    pub(crate) times: u64,
    durability: Durability,
    quiet: bool,
    progress: bool,
}

/// What both threads tell each other and the person in front of them.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Nothing more will be fed.
    pub(crate) fed: AtomicBool,
    commits: AtomicU64,
    prints: bool,
}

impl Progress {
    pub(crate) fn committed(&self) {
        let commits = self.commits.fetch_add(1, Ordering::Relaxed) + 1;
        if self.prints {
            println!("commit {commits}");
        }
    }
}

fn main() -> ExitCode {
    let settings = match Settings::parse(std::env::args().skip(1)) {
        Ok(settings) => settings,
        Err(reason) => {
            eprintln!("earthquakes: {reason}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("earthquakes: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(settings: &Settings) -> Result<(), Failure> {
    let builder = Log::builder().durability(settings.durability).journal_file_bytes(JOURNAL_FILE_BYTES);
    let log = builder.open(&settings.data)?;
    let four = || TopicOptions::default().partitions(4);
    let topics = Topics {
        quakes: log.create_topic("quakes", four())?,
        rejects: log.create_topic("rejects", TopicOptions::default())?,
        alerts: log.create_topic("alerts", four())?,
        counts: log.create_topic("counts", four())?,
    };
    if !settings.quiet {
        println!("{}", report::opening(&log, &topics, &settings.data));
    }
    let progress = Progress { prints: settings.progress, ..Progress::default() };
    let started = Instant::now();
    let (fed, processed) = std::thread::scope(|scope| {
        let processing = scope.spawn(|| process::process(&log, &topics, &progress));
        let fed = ingest::ingest(&log, &topics, settings, &progress);
        // Also after a failure: the other thread then ends when it has done what there is.
        progress.fed.store(true, Ordering::Release);
        (fed, processing.join())
    });
    let fed = fed?;
    let processed = processed.map_err(|_| "the processing thread panicked")??;
    let elapsed = started.elapsed();
    if !settings.quiet {
        report::tables(&log, &topics)?;
    }
    let commits = progress.commits.load(Ordering::Relaxed);
    println!("{}", report::closing(&log, &topics, &fed, processed, commits, elapsed));
    log.close()?;
    Ok(())
}

impl Settings {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Settings, Failure> {
        let (mut data, mut input) = (PathBuf::from("./exactlog-data/earthquakes"), None);
        let (mut times, mut durability, mut quiet, mut progress) = (1, Durability::Fsync, false, false);
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{flag} needs a value"));
            match flag.as_str() {
                "--data" => data = value()?.into(),
                "--input" => input = Some(value()?),
                "--times" => times = value()?.parse().map_err(|error| format!("--times: {error}"))?,
                "--durability" => {
                    durability = match value()?.as_str() {
                        "fsync" => Durability::Fsync,
                        "os" => Durability::Os,
                        other => return Err(format!("--durability is fsync or os, not {other:?}").into()),
                    }
                }
                "--quiet" => quiet = true,
                "--progress" => progress = true,
                _ => return Err(format!("{flag:?} isn't known").into()),
            }
        }
        let input = ingest::Input::named(input.as_deref())?;
        if times > 1 && matches!(input, ingest::Input::Stdin) {
            return Err("standard input can't be read more than once: --times needs a file".into());
        }
        Ok(Settings { data, input, times, durability, quiet, progress })
    }
}
