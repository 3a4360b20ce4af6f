//! `log`: stat, dump and verify. Offline: they look at the files, of a log or of a copy, and change nothing.

use crate::args::Global;
use crate::failure::Failure;
use crate::interrupt;
use crate::open;
use crate::repair;
use crate::report::{Column, Report, column, wide};
use exactlog::disk::{Disk, RealDisk};
use exactlog::{Finding, Log, Topic};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const FILES: &[Column] = &[column("kind"), column("files"), column("bytes")];
const COMMANDS: &[Column] =
    &[column("lsn"), wide("term"), column("time_ms"), column("command"), column("bytes"), column("content")];
const CHECKED: &[Column] = &[
    column("topic"),
    column("partition"),
    column("records"),
    column("bytes"),
    column("error"),
    column("message"),
];

/// Found something that a check looks for.
const FOUND: u8 = 4;

pub(crate) fn stat(global: &Global) -> Result<Report, Failure> {
    let log = open::read(global)?;
    let details = log.details();
    let recovery = log.recovery();
    let disk = disk(global)?;
    let mut kinds: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    count_files(&disk, "", &mut kinds)?;
    let rows = kinds.iter().map(|(kind, (files, bytes))| vec![json!(kind), json!(files), json!(bytes)]);
    let (mut partitions, mut records) = (0u64, 0u64);
    for topic in log.topics() {
        for partition in log.partitions(&topic)? {
            partitions += 1;
            records += partition.records;
        }
    }
    let free = disk.free().ok();
    Ok(Report::table("files", FILES, rows.collect())
        .field("directory", disk.location())
        .field("in_use", disk.is_held().unwrap_or(false))
        .field("last_lsn", recovery.last_lsn)
        .field("last_command_ms", details.time_ms)
        .field("closed_properly", recovery.clean)
        .field("checkpoint_lsn", recovery.checkpoint_lsn)
        .field("commands_to_replay", recovery.replayed_commands)
        .field("semantics_level", details.semantics_level)
        .field("topics", log.topics().len())
        .field("partitions", partitions)
        .field("records", records)
        .field("groups", log.groups().len())
        .field("producers", log.producers().len())
        .field("free_bytes", free))
}

fn disk(global: &Global) -> Result<RealDisk, Failure> {
    RealDisk::existing(&global.data).map_err(|error| Failure::new("DISK", error.to_string()))
}

fn count_files(
    disk: &RealDisk,
    dir: &str,
    kinds: &mut BTreeMap<&'static str, (u64, u64)>,
) -> Result<(), Failure> {
    let listed = disk.list(dir).map_err(|error| Failure::new("DISK", format!("list {dir:?}: {error}")))?;
    for entry in listed {
        let name = if dir.is_empty() { entry.name.clone() } else { format!("{dir}/{}", entry.name) };
        if entry.is_dir {
            count_files(disk, &name, kinds)?;
            continue;
        }
        let kind = match name.rsplit_once('.').map(|(_, ending)| ending) {
            Some("journal") => "journal",
            None if entry.name.starts_with("spare-") => "journal, prepared",
            None if entry.name.starts_with("reserve") => "reserve",
            Some("checkpoint") => "checkpoint",
            Some("log") => "segment",
            Some("index" | "timeindex" | "txnindex") => "segment index",
            _ => "other",
        };
        let count = kinds.entry(kind).or_default();
        *count = (count.0 + 1, count.1 + entry.len);
    }
    Ok(())
}

pub(crate) fn dump(global: &Global, from: u64, limit: Option<u64>) -> Result<Report, Failure> {
    let log = open::read(global)?;
    // What opening itself would add is no part of the log that is looked at.
    let last = log.recovery().last_lsn;
    let mut rows = Vec::new();
    let most = usize::try_from(limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    for command in log.commands(from)?.take(most) {
        let command = command?;
        if command.lsn > last {
            break;
        }
        rows.push(vec![
            json!(command.lsn),
            json!(command.term),
            json!(command.time_ms),
            json!(command.kind),
            json!(command.bytes),
            json!(command.text),
        ]);
    }
    let first = rows.first().map(|row| row[0].clone());
    Ok(Report::table("commands", COMMANDS, rows).field("first_lsn", first).field("last_lsn", last))
}

pub(crate) fn verify(global: &Global) -> Result<Report, Failure> {
    // What can't even be opened is damaged.
    let found = |failure: Failure| match failure.code {
        "DAMAGED" => Failure { exit: FOUND, ..failure }
            .hint("nothing was changed; exactlog log repair says what can be done"),
        _ => failure,
    };
    let findings = findings(global).map_err(found)?;
    let mut log = open::read(global).map_err(found)?;
    interrupt::watch();
    let mut rows = Vec::new();
    let (mut records, mut damaged) = (0, 0);
    let progress =
        if open::shows_progress(global) { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    for topic in log.topics() {
        for partition in 0..topic.partitions() {
            if interrupt::asked() {
                let message = format!("interrupted before {} partition {partition}", topic.name());
                return Err(Failure { exit: interrupt::EXIT, ..Failure::new("INTERRUPTED", message) });
            }
            progress.set_message(format!("{} partition {partition}", topic.name()));
            progress.tick();
            let checked = check(global, &mut log, &topic, partition)?;
            records += checked.records;
            damaged += u64::from(checked.fault.is_some());
            let error = checked.fault.as_ref().map(|_| "DAMAGED");
            rows.push(vec![
                json!(topic.name()),
                json!(partition),
                json!(checked.records),
                json!(checked.bytes),
                json!(error),
                json!(checked.fault),
            ]);
        }
    }
    progress.finish_and_clear();
    let recovery = log.recovery();
    let cut = recovery.cut.as_ref().map(open::cut_text);
    let ignored: Vec<Value> = recovery.ignored.iter().map(|file| json!(file)).collect();
    let is_damage = findings.iter().any(|finding| finding.is_damage);
    let whole = damaged == 0 && !is_damage && !recovery.ignored.iter().any(|file| file.contains("damaged"));
    let findings: Vec<Value> = findings.iter().map(finding).collect();
    let report = Report::table("partitions", CHECKED, rows);
    let report = match whole {
        true => report,
        false => report.note("exactlog log repair says what can be done"),
    };
    Ok(report
        .field("whole", whole)
        .field("findings", findings)
        .field("records", records)
        .field("damaged_partitions", damaged)
        .field("cut", cut)
        .field("ignored_files", ignored)
        .exit(if whole { 0 } else { FOUND }))
}

/// What is wrong with the files. Where somebody writes there, they can't be looked at as a whole.
fn findings(global: &Global) -> Result<Vec<Finding>, Failure> {
    if open::is_held(global) {
        return Ok(Vec::new());
    }
    Ok(open::builder(global)?.examine(&global.data)?)
}

fn finding(finding: &Finding) -> Value {
    json!({
        "file": finding.file,
        "position": finding.position,
        "damage": finding.is_damage,
        "what": finding.what,
        "lost": repair::lost(finding),
    })
}

#[derive(Debug, Default)]
struct Checked {
    records: u64,
    bytes: u64,
    fault: Option<String>,
}

/// Reads each record of a partition: checksums are checked on the way, here that none is missing. Where no record is
/// shown, since compaction took it, or it is a marker or of a transaction that was aborted, there must be a batch.
///
/// If somebody who writes there has moved what is to be read, the log is looked at again, and it goes on where it was.
fn check(global: &Global, log: &mut Log, topic: &Topic, partition: u32) -> Result<Checked, Failure> {
    /// How often in a row nothing was read.
    const STUCK_MAX: u32 = 20;
    let (mut next, end) = log.bounds(topic, partition)?;
    let (mut checked, mut stuck) = (Checked::default(), 0);
    loop {
        let before = next;
        match check_from(log, topic, partition, (&mut next, end), &mut checked) {
            Ok(()) => return Ok(checked),
            Err(failure) if failure.moved && stuck < STUCK_MAX && open::is_held(global) => {
                stuck = if next > before { 0 } else { stuck + 1 };
                *log = open::read(global)?;
                // What was trimmed meanwhile can't be read any more.
                next = next.max(log.bounds(topic, partition)?.0);
            }
            Err(failure) => {
                checked.fault = Some(failure.message);
                return Ok(checked);
            }
        }
    }
}

fn check_from(
    log: &Log,
    topic: &Topic,
    partition: u32,
    (next, end): (&mut u64, u64),
    checked: &mut Checked,
) -> Result<(), Failure> {
    let wrong = |what: String| Failure::new("DAMAGED", what);
    let view = log.read_view();
    let end = end.min(view.end(topic, partition)?);
    // Behind the last batch that was looked at for what no record has.
    let mut covered = *next;
    let mut cover = |from: u64, to: u64| -> Result<(), Failure> {
        covered = covered.max(from);
        while covered < to {
            match view.batch(topic, partition, covered)? {
                Some(batch) if batch.base_offset <= covered => covered = batch.next_offset,
                Some(batch) => return Err(wrong(format!("offset {} follows {covered}", batch.base_offset))),
                None => return Err(wrong(format!("it ends at {covered}, and should at {end}"))),
            }
        }
        Ok(())
    };
    for record in view.records_from(topic, partition, *next) {
        let record = record?;
        if record.offset >= end {
            break;
        }
        cover(*next, record.offset)?;
        *next = record.offset + 1;
        checked.records += 1;
        checked.bytes += (record.key().len() + record.value().len()) as u64;
    }
    cover(*next, end)?;
    *next = end;
    Ok(())
}
