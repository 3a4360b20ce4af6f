//! `replay`: records of a topic once more, into another topic, each once.
//!
//! ```text
//!   begun: the positions of two groups say from where to where -> copying -> done
//! ```
//!
//! A replay is known by what it was asked for: topics and offsets, or a name. The same command goes on with it, or says
//! that it was done. What `-1h` or `end` means is settled when it begins.
//!
//! Invariants
//!   * a record in the range is in the target once, however often the command is killed and given again
//!   * without `--execute` nothing is changed

use crate::args::{Global, Replay};
use crate::copying::{self, Copying, Ended};
use crate::failure::Failure;
use crate::interrupt;
use crate::offsets::Offsets;
use crate::open;
use crate::report::{Column, Report, column};
use crate::topic::{DRY_RUN, close};
use exactlog::{Log, Producer, SeekTo, Topic};
use serde_json::{Value, json};

const RANGES: &[Column] =
    &[column("topic"), column("partition"), column("from_offset"), column("to_offset"), column("records")];

/// How far the replay is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    done: bool,
    copied: u64,
}

impl Mark {
    fn parse(text: &str) -> Option<Mark> {
        let (word, copied) = text.strip_prefix("replay ")?.split_once(' ')?;
        let done = match word {
            "copying" => false,
            "done" => true,
            _ => return None,
        };
        Some(Mark { done, copied: copied.parse().ok()? })
    }

    fn text(self) -> String {
        format!("replay {} {}", if self.done { "done" } else { "copying" }, self.copied)
    }
}

/// What is to be copied, and how far that is.
struct Plan {
    from: Topic,
    into: Topic,
    /// Of its producer, and of the group of its positions.
    name: String,
    mark: Option<Mark>,
    /// From where to where, in each partition: what is left.
    ranges: Vec<(u64, u64)>,
}

impl Plan {
    fn new(log: &Log, arguments: &Replay) -> Result<Plan, Failure> {
        if arguments.topic == arguments.into {
            return Err(Failure::usage(format!("{:?} can't be replayed into itself", arguments.into)));
        }
        let offsets = Offsets::parse(&arguments.from, open::now_ms())?;
        let (from, into) = (open::topic(log, &arguments.topic)?, open::topic(log, &arguments.into)?);
        if copying::is_table(log, &into) {
            let what = format!("{:?} is a table, which only transactions write to", arguments.into);
            let hint = "name a plain topic with --into; exactlog table put writes a key";
            return Err(Failure::new("REFUSED", what).hint(hint));
        }
        copying::check_decided(log)?;
        let known_by = match &arguments.name {
            Some(name) => format!("name {name}"),
            None => format!("offsets {}", arguments.from),
        };
        let name = format!("replay-{}-{}-{:016x}", from.id(), into.id(), copying::hash(&known_by));
        let mark = copying::cursor_of(log, &name).and_then(|cursor| Mark::parse(&cursor));
        let range = |partition| -> Result<(u64, u64), Failure> {
            let (_, end) = log.bounds(&from, partition)?;
            if mark.is_some() {
                let next = log.committed(&name, &from, partition).unwrap_or(end);
                let to = log.committed(&ends(&name), &from, partition).unwrap_or(next);
                return Ok((next, to.max(next)));
            }
            let at_time = |ms| Ok(log.first_at_or_after(&from, partition, ms)?.map(|(offset, _)| offset));
            let resolved = offsets.resolve(log.bounds(&from, partition)?, at_time)?;
            Ok((resolved.from, resolved.to.unwrap_or(end).min(end).max(resolved.from)))
        };
        let ranges = (0..from.partitions()).map(range).collect::<Result<_, _>>()?;
        Ok(Plan { from, into, name, mark, ranges })
    }

    fn is_done(&self) -> bool {
        self.mark.is_some_and(|mark| mark.done)
    }

    /// The records that readers are shown of what is left.
    fn count(&self, log: &Log) -> Result<Vec<u64>, Failure> {
        let view = log.read_view();
        let mut counts = Vec::new();
        for ((from, to), partition) in self.ranges.iter().zip(0..) {
            let mut records = 0;
            if from < to && !self.is_done() {
                for record in view.records_from(&self.from, partition, *from) {
                    if record?.offset >= *to {
                        break;
                    }
                    records += 1;
                }
            }
            counts.push(records);
        }
        Ok(counts)
    }

    fn report(&self, counts: &[u64], status: &str, copied: u64) -> Report {
        let row = |((from, to), (records, partition)): (&(u64, u64), (&u64, u32))| {
            vec![json!(self.from.name()), json!(partition), json!(from), json!(to), json!(records)]
        };
        let rows: Vec<Vec<Value>> = self.ranges.iter().zip(counts.iter().zip(0..)).map(row).collect();
        Report::table("ranges", RANGES, rows)
            .field("into", self.into.name())
            .field("status", status)
            .field("records", counts.iter().sum::<u64>())
            .field("copied", copied)
    }

    /// From here on the range is settled.
    fn begin(&self, producer: &mut Producer) -> Result<(), Failure> {
        let to = |at: fn(&(u64, u64)) -> u64| -> Vec<SeekTo> {
            let all = self.ranges.iter().zip(0..);
            let one = |(range, partition)| SeekTo { topic: self.from.clone(), partition, offset: at(range) };
            all.map(one).collect()
        };
        let mut transaction = producer.begin();
        transaction.seek_group(&self.name, &to(|range| range.0))?;
        transaction.seek_group(&ends(&self.name), &to(|range| range.1))?;
        transaction.set_cursor(Mark { done: false, copied: 0 }.text())?;
        transaction.blocking_commit()?;
        Ok(())
    }
}

/// The group whose positions say where it ends.
fn ends(name: &str) -> String {
    format!("{name}-end")
}

const AGAIN: &str = "--name NAME makes it another replay";

pub(crate) fn run(global: &Global, arguments: &Replay) -> Result<Report, Failure> {
    if !arguments.execute {
        return open::looking(global, |log| {
            let plan = Plan::new(log, arguments)?;
            let copied = plan.mark.map_or(0, |mark| mark.copied);
            let status = if plan.is_done() { "replayed before" } else { "would be replayed" };
            let report = plan.report(&plan.count(log)?, status, copied).field("dry_run", true);
            Ok(report.note(if plan.is_done() { AGAIN } else { DRY_RUN }))
        });
    }
    let log = open::write_existing(global)?;
    let plan = Plan::new(&log, arguments)?;
    let counts = plan.count(&log)?;
    let copied = plan.mark.map_or(0, |mark| mark.copied);
    let (status, copied) = match plan.is_done() {
        true => ("replayed before", copied),
        false => copy(global, &log, &plan, arguments, (copied, counts.iter().sum()))?,
    };
    if status != "interrupted" {
        copying::forget(&log, &plan.name)?;
        copying::forget(&log, &ends(&plan.name))?;
    }
    close(log)?;
    let report = plan.report(&counts, status, copied).field("dry_run", false);
    Ok(match status {
        "interrupted" => report.note("the same command goes on").exit(interrupt::EXIT),
        "replayed before" => report.note(AGAIN),
        _ => report,
    })
}

fn copy(
    global: &Global,
    log: &Log,
    plan: &Plan,
    arguments: &Replay,
    (copied, left): (u64, u64),
) -> Result<(&'static str, u64), Failure> {
    interrupt::watch();
    let mut producer = log.producer(&plan.name)?;
    if plan.mark.is_none() {
        plan.begin(&mut producer)?;
    }
    let progress = copying::progress(global, left);
    let mut copy = Copying {
        log,
        from: &plan.from,
        into: &plan.into,
        group: &plan.name,
        ends: Some(plan.ranges.iter().map(|range| range.1).collect()),
        records_max: arguments.txn,
        codec: arguments.compression,
        copied,
        progress: progress.clone(),
    };
    let ended = copy.run(&mut producer, |copied| Mark { done: false, copied }.text())?;
    progress.finish_and_clear();
    if ended == Ended::Interrupted {
        return Ok(("interrupted", copy.copied));
    }
    let mut transaction = producer.begin();
    transaction.set_cursor(Mark { done: true, copied: copy.copied }.text())?;
    transaction.blocking_commit()?;
    Ok(("replayed", copy.copied))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_back_and_other_cursors_are_none() {
        for mark in [Mark { done: false, copied: 0 }, Mark { done: true, copied: 7 }] {
            assert_eq!(Mark::parse(&mark.text()), Some(mark));
        }
        for text in ["", "input 1 0", "replay", "replay done", "replay begun 1", "replay done x"] {
            assert_eq!(Mark::parse(text), None, "{text}");
        }
    }
}
