//! `topic repartition`: a topic into another one with another number of partitions.
//!
//! ```text
//!   begun -> copying -> done            what the cursor of the copy's producer says
//!     │         │         └─ with it: groups that had consumed everything stand at the end of the new topic
//!     │         └─ with it: which topic it is, and how many records are in it
//!     └─ the new topic may be missing, or there and empty
//! ```
//!
//! Invariants
//!   * only a topic that this copy has made is written to, and only while nobody else has written to it
//!   * the copy is done only when nothing of the source is left: the last transaction looks
//!   * without `--execute` nothing is changed

use crate::args::{Codec, Global};
use crate::copying::{self, Copying, Ended};
use crate::failure::Failure;
use crate::interrupt;
use crate::open;
use crate::report::{Column, Report, column, wide};
use crate::texts::{count, were};
use crate::topic::{DRY_RUN, close};
use exactlog::{
    Error, GroupDetails, Log, Producer, Refusal, SeekTo, TimestampType, Topic, TopicConfig, TopicOptions,
};
use serde_json::{Value, json};
use std::fmt::Display;

const GROUPS: &[Column] = &[
    column("group"),
    column("lag"),
    column("consumed"),
    column("continues_at"),
    column("sees_again"),
    wide("offsets_again"),
];

/// Positions of groups in one transaction, about.
const POSITIONS_MAX: usize = 50_000;

pub(crate) struct Repartition<'a> {
    pub(crate) from: &'a str,
    pub(crate) into: &'a str,
    pub(crate) partitions: u32,
    pub(crate) records_max: u32,
    pub(crate) codec: Codec,
}

/// How far the copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Begun,
    Copying { into: u32, copied: u64 },
    Done { into: u32, copied: u64 },
}

impl Mark {
    fn parse(text: &str) -> Option<Mark> {
        let words: Vec<&str> = text.strip_prefix("repartition ")?.split(' ').collect();
        match words[..] {
            ["begun"] => Some(Mark::Begun),
            ["copying", into, copied] => {
                Some(Mark::Copying { into: into.parse().ok()?, copied: copied.parse().ok()? })
            }
            ["done", into, copied] => {
                Some(Mark::Done { into: into.parse().ok()?, copied: copied.parse().ok()? })
            }
            _ => None,
        }
    }

    fn text(self) -> String {
        match self {
            Mark::Begun => "repartition begun".into(),
            Mark::Copying { into, copied } => format!("repartition copying {into} {copied}"),
            Mark::Done { into, copied } => format!("repartition done {into} {copied}"),
        }
    }
}

/// What there is of both topics.
struct Found {
    from: Topic,
    into: Option<Topic>,
    mark: Option<Mark>,
    /// Records of the source.
    records: u64,
    copied: u64,
}

impl Found {
    /// Those that are still to be copied.
    fn left(&self) -> u64 {
        match self.mark {
            Some(Mark::Done { .. }) => 0,
            _ => self.records.saturating_sub(self.copied),
        }
    }
}

/// What was done, for the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Would,
    Copied,
    Before,
    Interrupted,
}

impl Repartition<'_> {
    pub(crate) fn run(&self, global: &Global, execute: bool) -> Result<Report, Failure> {
        if self.from == self.into {
            return Err(Failure::usage(format!("{:?} can't be copied into itself", self.from)));
        }
        match execute {
            true => self.execute(global),
            false => open::looking(global, |log| {
                let found = self.look(log)?;
                let groups = groups_of(log, &found.from)?;
                let is_done = matches!(found.mark, Some(Mark::Done { .. }));
                let status = if is_done { Status::Before } else { Status::Would };
                Ok(self.report(log, &found, groups, status))
            }),
        }
    }

    fn written_by_others(&self, written: u64, copied: u64) -> String {
        let (written, copied) = (count(written, "record"), were(copied));
        format!("topic {:?} has {written}, and {copied} copied: somebody else wrote to it", self.into)
    }

    fn producer(&self, from: &Topic) -> String {
        format!("repartition-{}-{:016x}", from.id(), copying::hash(self.into))
    }

    /// Refuses what it wouldn't do.
    fn look(&self, log: &Log) -> Result<Found, Failure> {
        let from = open::topic(log, self.from)?;
        if copying::is_table(log, &from) {
            return Err(table_refused(self.from));
        }
        copying::check_decided(log)?;
        let cursor = copying::cursor_of(log, &self.producer(&from));
        let mark = cursor.and_then(|cursor| Mark::parse(&cursor));
        let into = match log.open_topic(self.into) {
            Err(Error::NoSuchTopic { .. }) => None,
            into => Some(into?),
        };
        let records = log.partitions(&from)?.iter().map(|it| it.records).sum();
        let mut found = Found { from, into, mark, records, copied: 0 };
        let Some(into) = &found.into else {
            // It was deleted since: this is another copy.
            found.mark = None;
            return Ok(found);
        };
        let written: u64 = log.partitions(into)?.iter().map(|it| it.end).sum();
        let id = into.id().0;
        let refused = |what: String| {
            Err(Failure::new("TOPIC_ALREADY_EXISTS", what).hint("name another one with --into"))
        };
        match found.mark {
            Some(Mark::Begun) if written == 0 => {}
            Some(Mark::Copying { into, copied } | Mark::Done { into, copied }) if into == id => {
                found.copied = copied;
            }
            _ => {
                return refused(format!(
                    "topic {:?} exists, and no copy of {:?} made it",
                    self.into, self.from
                ));
            }
        }
        if into.partitions() != self.partitions {
            let (has, asked) = (into.partitions(), self.partitions);
            let has = count(has.into(), "partition");
            return refused(format!("topic {:?} was made with {has}, not {asked}", self.into));
        }
        if matches!(found.mark, Some(Mark::Copying { .. })) && written != found.copied {
            return refused(self.written_by_others(written, found.copied));
        }
        Ok(found)
    }

    fn execute(&self, global: &Global) -> Result<Report, Failure> {
        let log = open::write_existing(global)?;
        let mut found = self.look(&log)?;
        if let Some(Mark::Done { into, .. }) = found.mark {
            copying::forget(&log, &positions_of(&found.from, into))?;
            let groups = groups_of(&log, &found.from)?;
            let report = self.report(&log, &found, groups, Status::Before);
            return close(log).map(|()| report);
        }
        interrupt::watch();
        let mut producer = log.producer(&self.producer(&found.from))?;
        let into = self.begin(&log, &mut found, &mut producer)?;
        let id = into.id().0;
        let group = positions_of(&found.from, id);
        let progress = copying::progress(global, found.left());
        let mut copy = Copying {
            log: &log,
            from: &found.from,
            into: &into,
            group: &group,
            ends: None,
            records_max: self.records_max,
            codec: self.codec,
            copied: found.copied,
            progress: progress.clone(),
        };
        let (groups, status) = loop {
            let run = copy.run(&mut producer, |copied| Mark::Copying { into: id, copied }.text());
            if run.map_err(goes_on)? == Ended::Interrupted {
                break (groups_of(&log, &found.from)?, Status::Interrupted);
            }
            let groups = groups_of(&log, &found.from)?;
            if self
                .finish(&log, (&found.from, &into), &groups, &mut producer, copy.copied)
                .map_err(goes_on)?
            {
                break (groups, Status::Copied);
            }
        };
        found.copied = copy.copied;
        progress.finish_and_clear();
        drop(producer);
        if status == Status::Copied {
            copying::forget(&log, &group)?;
        }
        let report = self.report(&log, &found, groups, status);
        close(log)?;
        Ok(if status == Status::Interrupted { report.exit(interrupt::EXIT) } else { report })
    }

    /// The new topic, made if it isn't there.
    fn begin(&self, log: &Log, found: &mut Found, producer: &mut Producer) -> Result<Topic, Failure> {
        if let (Some(Mark::Copying { .. }), Some(into)) = (found.mark, &found.into) {
            return Ok(into.clone());
        }
        // Of a copy whose topic was deleted.
        let own = positions_of(&found.from, "");
        for group in log.groups().iter().filter(|group| group.name.starts_with(&own)) {
            copying::forget(log, &group.name)?;
        }
        mark(producer, Mark::Begun)?;
        let mut options = TopicOptions::default().partitions(self.partitions);
        options.config = while_copying(found.from.config());
        let into = log.create_topic(self.into, options)?;
        mark(producer, Mark::Copying { into: into.id().0, copied: 0 })?;
        found.into = Some(into.clone());
        Ok(into)
    }

    /// The last transaction; false if the source has grown.
    fn finish(
        &self,
        log: &Log,
        (from, into): (&Topic, &Topic),
        groups: &[(GroupDetails, Again)],
        producer: &mut Producer,
        copied: u64,
    ) -> Result<bool, Failure> {
        let written: u64 = log.partitions(into)?.iter().map(|it| it.end).sum();
        if written != copied {
            return Err(Failure::new("TOPIC_ALREADY_EXISTS", self.written_by_others(written, copied)));
        }
        let settings = TopicConfig {
            timestamp_type: from.config().timestamp_type,
            timestamp_before_max_ms: from.config().timestamp_before_max_ms,
            timestamp_after_max_ms: from.config().timestamp_after_max_ms,
            ..log.open_topic(self.into)?.config().clone()
        };
        log.alter_topic(into, settings)?;
        let ends = (0..into.partitions()).map(|partition| {
            let (_, offset) = log.bounds(into, partition)?;
            Ok(SeekTo { topic: into.clone(), partition, offset })
        });
        let ends = ends.collect::<Result<Vec<_>, Error>>()?;
        let done: Vec<&str> =
            groups.iter().filter(|(_, again)| again.lag == 0).map(|(group, _)| group.name.as_str()).collect();
        // Those of the earlier ones are set again if it is killed in between.
        let mut chunks: Vec<&[&str]> = done.chunks((POSITIONS_MAX / ends.len()).max(1)).collect();
        let last = chunks.pop().unwrap_or_default();
        for chunk in chunks {
            let mut transaction = producer.begin();
            chunk.iter().try_for_each(|group| transaction.seek_group(group, &ends))?;
            transaction.blocking_commit()?;
        }
        let mut transaction = producer.begin();
        last.iter().try_for_each(|group| transaction.seek_group(group, &ends))?;
        transaction.set_cursor(Mark::Done { into: into.id().0, copied }.text())?;
        // What the copy has seen is all that there is.
        for partition in 0..from.partitions() {
            transaction.expect_end(from, partition, log.read_view().end(from, partition)?);
        }
        match transaction.blocking_commit() {
            Err(Error::Refused(Refusal::EndOffset { .. })) => Ok(false),
            done => Ok(done.map(|_| true)?),
        }
    }

    fn report(&self, log: &Log, found: &Found, groups: Vec<(GroupDetails, Again)>, status: Status) -> Report {
        let timers = log.timers(usize::MAX).iter().filter(|it| it.topic_id == found.from.id()).count();
        let text = match status {
            Status::Would => "would be copied",
            Status::Copied => "copied",
            Status::Before => "copied before",
            Status::Interrupted => "interrupted",
        };
        let rows = groups.iter().map(|(group, again)| again.row(&group.name)).collect();
        let report = Report::table("groups", GROUPS, rows)
            .field("from", self.from)
            .field("into", self.into)
            .field("partitions_before", found.from.partitions())
            .field("partitions", self.partitions)
            .field("status", text)
            .field("records", found.records)
            .field("copied", found.copied)
            .field("left", found.left())
            .field("timers_left_behind", timers)
            .field("dry_run", status == Status::Would);
        match status {
            Status::Would => report.note(DRY_RUN),
            Status::Interrupted => report.note("the same command goes on"),
            Status::Before => report.note(format!(
                "what came into {:?} since isn't copied; it can be deleted when nobody reads it any more",
                self.from
            )),
            Status::Copied => report,
        }
    }
}

fn table_refused(name: &str) -> Failure {
    let what = format!("{name:?} is a table: its keys stay where they are, and a copy would be no table");
    Failure::new("REFUSED", what)
        .hint("put what `exactlog table scan` shows into another table, or replay its changes into a topic")
}

fn goes_on(failure: Failure) -> Failure {
    match failure.hint {
        Some(_) => failure,
        None => failure.hint("what was copied is kept: the same command goes on"),
    }
}

/// The group whose positions say how far the copy is.
fn positions_of(from: &Topic, into: impl Display) -> String {
    format!("repartition-{}-{into}", from.id())
}

fn mark(producer: &mut Producer, mark: Mark) -> Result<(), Failure> {
    let mut transaction = producer.begin();
    transaction.set_cursor(mark.text())?;
    transaction.blocking_commit()?;
    Ok(())
}

/// The settings of the source, but that records keep the times that they have.
fn while_copying(config: &TopicConfig) -> TopicConfig {
    TopicConfig {
        timestamp_type: TimestampType::CreateTime,
        timestamp_before_max_ms: None,
        timestamp_after_max_ms: None,
        ..config.clone()
    }
}

/// What a group has still to see of the source, and what it has seen.
struct Again {
    lag: u64,
    consumed: u64,
    /// Partition, first offset, offset behind the last.
    ranges: Vec<(u32, u64, u64)>,
}

impl Again {
    /// One that has consumed everything goes on at the end, and any other from the first record on.
    fn row(&self, name: &str) -> Vec<Value> {
        let is_done = self.lag == 0;
        let again = if is_done { 0 } else { self.consumed };
        let range =
            |(partition, from, to): &(u32, u64, u64)| json!({"partition": partition, "from": from, "to": to});
        let ranges: Vec<Value> = if is_done { Vec::new() } else { self.ranges.iter().map(range).collect() };
        let place = if is_done { "end" } else { "start" };
        vec![json!(name), json!(self.lag), json!(self.consumed), json!(place), json!(again), json!(ranges)]
    }
}

/// The groups that read the source, and how far; that of the copy isn't one of them.
fn groups_of(log: &Log, from: &Topic) -> Result<Vec<(GroupDetails, Again)>, Failure> {
    let partitions = log.partitions(from)?;
    let own = positions_of(from, "");
    let again = |group: &GroupDetails| {
        let mut again = Again { lag: 0, consumed: 0, ranges: Vec::new() };
        for position in group.positions.iter().filter(|it| it.topic == from.name()) {
            again.lag += position.lag;
            let records = partitions.get(position.partition as usize).map_or(0, |it| it.records);
            if let Some(committed) = position.committed.filter(|committed| *committed > position.start) {
                again.consumed += records.saturating_sub(position.lag);
                again.ranges.push((position.partition, position.start, committed));
            }
        }
        again
    };
    let groups = log.groups().into_iter().filter(|group| {
        !group.name.starts_with(&own) && group.positions.iter().any(|it| it.topic == from.name())
    });
    Ok(groups
        .map(|group| {
            let again = again(&group);
            (group, again)
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_back_and_other_cursors_are_none() {
        for mark in [Mark::Begun, Mark::Copying { into: 7, copied: 0 }, Mark::Done { into: 7, copied: 9 }] {
            assert_eq!(Mark::parse(&mark.text()), Some(mark));
        }
        for text in ["", "input 1 0", "repartition", "repartition copying 7", "repartition done x 1"] {
            assert_eq!(Mark::parse(text), None, "{text}");
        }
    }
}
