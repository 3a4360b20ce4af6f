//! Opening a log for a verb, that of a directory or that of a node: to look at it, or to write.

use crate::args::Global;
use crate::failure::Failure;
use crate::node;
use crate::settings;
use crate::suggest;
use crate::texts::count;
use exactlog::disk::{Disk, RealDisk};
use exactlog::{Builder, Cut, Error, Log, StorageError, Topic};
use exactlog_client::LogOptions;
use std::io::IsTerminal;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a view may be read: no verb is ended by that.
const VIEW_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// How often a directory that somebody has open is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(50);

pub(crate) fn builder(global: &Global) -> Result<Builder, Failure> {
    settings::apply_to_log(Builder::default().read_view_max(VIEW_MAX), &global.settings)
}

/// The log of a node: that of the first address at which one answers, tried for as long as `--timeout` says, and so
/// long one that doesn't answer is waited for.
fn over(global: &Global, addresses: &str) -> Result<Log, Failure> {
    let since = Instant::now();
    loop {
        let mut last = None;
        for address in addresses.split(',').map(str::trim) {
            let mut options = LogOptions { client_id: "exactlog-cli".into(), ..LogOptions::default() };
            if let Some(patience) = global.patience() {
                (options.connect_timeout, options.request_timeout) = (patience, patience);
            }
            let grace = options.grace;
            match builder(global)?.connect(options.link(address), grace) {
                Ok(log) => return Ok(log),
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(Error::Connection { reason, .. })
                if since.elapsed() < global.timeout && node::stranger_of(&reason).is_none() =>
            {
                thread::sleep(TRY_AGAIN.min(global.timeout));
            }
            Some(error) => return Err(error.into()),
            None => return Err(Failure::usage("--bootstrap names no address")),
        }
    }
}

/// To look at it: nothing is written, and nobody is kept out.
pub(crate) fn read(global: &Global) -> Result<Log, Failure> {
    if let Some(addresses) = &global.bootstrap {
        return over(global, addresses);
    }
    let log = builder(global)?.open_read_only(&global.data)?;
    tell(global, &log);
    Ok(log)
}

/// Looks, and looks again if somebody who writes there has moved what was looked at.
pub(crate) fn looking<T>(
    global: &Global,
    mut work: impl FnMut(&Log) -> Result<T, Failure>,
) -> Result<T, Failure> {
    /// A log that never holds still for as long as it takes is said to be damaged or recycled, as it looks.
    const LOOKS: u32 = 20;
    for _ in 1..LOOKS {
        match work(&read(global)?) {
            Err(failure) if failure.moved && is_held(global) => {}
            done => return done,
        }
    }
    work(&read(global)?)
}

/// To write; what isn't there is made.
pub(crate) fn write(global: &Global) -> Result<Log, Failure> {
    if let Some(addresses) = &global.bootstrap {
        return over(global, addresses);
    }
    let since = Instant::now();
    loop {
        match builder(global)?.open(&global.data) {
            Ok(log) => {
                tell(global, &log);
                return Ok(log);
            }
            Err(Error::Storage(StorageError::InUse { .. })) if since.elapsed() < global.timeout => {
                thread::sleep(TRY_AGAIN.min(global.timeout));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// To write to a log that is there: a misspelt directory isn't made.
pub(crate) fn write_existing(global: &Global) -> Result<Log, Failure> {
    if global.bootstrap.is_some() {
        return write(global);
    }
    let has_journal = RealDisk::existing(&global.data).and_then(|disk| disk.list("journal"));
    if has_journal.is_ok_and(|files| !files.is_empty()) {
        return write(global);
    }
    Err(Error::NoLog { directory: global.data.display().to_string() }.into())
}

/// Whether somebody else has the directory open.
pub(crate) fn is_held(global: &Global) -> bool {
    global.bootstrap.is_none()
        && RealDisk::existing(&global.data).and_then(|disk| disk.is_held()).unwrap_or(false)
}

fn tell(global: &Global, log: &Log) {
    let report = log.recovery();
    // Where somebody writes, the end is always in the making.
    if let Some(cut) = &report.cut
        && !global.quiet
        && !is_held_by_other(global, log)
    {
        eprintln!("note: {}", cut_text(cut));
    }
    if global.verbose {
        eprintln!(
            "opened at lsn {} in term {}: checkpoint at {}, {} replayed, closed properly: {}",
            report.last_lsn,
            report.term,
            report.checkpoint_lsn,
            count(report.replayed_commands, "command"),
            report.clean
        );
        report.ignored.iter().for_each(|file| eprintln!("ignored: {file}"));
    }
}

fn is_held_by_other(global: &Global, log: &Log) -> bool {
    log.is_read_only() && is_held(global)
}

/// What was cut off the journal's end.
pub(crate) fn cut_text(cut: &Cut) -> String {
    let Cut { file, position, after_lsn, certain, reason } = cut;
    let what =
        if *certain { "a group that was never acknowledged is cut off" } else { "something may be cut off" };
    format!("{what} behind lsn {after_lsn}, {file} at byte {position}: {reason}")
}

/// The topic, or what it might be called.
pub(crate) fn topic(log: &Log, name: &str) -> Result<Topic, Failure> {
    log.open_topic(name).map_err(|error| match error {
        Error::NoSuchTopic { .. } => no_such_topic(name, log.topics().iter().map(Topic::name)),
        error => error.into(),
    })
}

/// A topic that isn't among these, with what it might be called.
pub(crate) fn no_such_topic<'n>(name: &str, topics: impl IntoIterator<Item = &'n str>) -> Failure {
    let otherwise = "exactlog topic list shows the topics; topic create makes one";
    let hint = suggest::sentence(name, topics, otherwise);
    Failure::new("NO_SUCH_TOPIC", format!("there is no topic {name:?}")).hint(hint)
}

/// The partitions of a topic that are asked for.
pub(crate) fn partitions(topic: &Topic, asked: Option<u32>) -> Result<Vec<u32>, Failure> {
    partitions_of(topic.name(), topic.partitions(), asked)
}

/// The same, of a topic with so many.
pub(crate) fn partitions_of(topic: &str, partitions: u32, asked: Option<u32>) -> Result<Vec<u32>, Failure> {
    match asked {
        None => Ok((0..partitions).collect()),
        Some(index) if index < partitions => Ok(vec![index]),
        Some(partition) => {
            Err(Error::NoSuchPartition { topic: topic.to_string(), partition, partitions }.into())
        }
    }
}

pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// Whether progress is shown.
pub(crate) fn shows_progress(global: &Global) -> bool {
    !global.quiet && std::io::stderr().is_terminal()
}
