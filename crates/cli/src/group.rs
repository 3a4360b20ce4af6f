//! `group`: list, describe, lag, seek.
//!
//! Lag is exact: in records, those between a group's position and the end that can be read; in seconds, how long ago
//! the first of them was made, and 0 where there is none.

use crate::args::{Global, GroupVerb};
use crate::failure::Failure;
use crate::offsets::Offsets;
use crate::open;
use crate::report::{Column, Report, column, wide};
use crate::topic::{DRY_RUN, close, no_such_group};
use exactlog::{Error, GroupDetails, Log, SeekTo};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const LIST: &[Column] =
    &[column("group"), column("members"), column("topics"), column("lag"), wide("generation")];
const DESCRIBE: &[Column] = &[
    column("group"),
    column("topic"),
    column("partition"),
    column("current_offset"),
    column("log_start_offset"),
    column("log_end_offset"),
    column("lag"),
    column("lag_seconds"),
    column("member_id"),
    wide("committed_at_ms"),
];
const LAG: &[Column] = &[column("group"), column("topic"), column("lag"), column("lag_seconds")];
const SEEK: &[Column] =
    &[column("topic"), column("partition"), column("prior_offset"), column("new_offset"), column("lag")];

pub(crate) fn run(global: &Global, verb: GroupVerb) -> Result<Report, Failure> {
    match verb {
        GroupVerb::List => list(global),
        GroupVerb::Describe { names } => open::looking(global, |log| describe(log, &names)),
        GroupVerb::Lag { names, limit } => open::looking(global, |log| lag(log, &names, limit)),
        GroupVerb::Seek { name, to, topics, partition, new, execute } => {
            let to = Offsets::parse_place(&to, open::now_ms())?;
            let seek = Seek { name: &name, to, topics: &topics, partition, new };
            match execute {
                true => seek.execute(global),
                false => seek.show(global),
            }
        }
    }
}

fn list(global: &Global) -> Result<Report, Failure> {
    let log = open::read(global)?;
    let row = |group: &GroupDetails| {
        let mut topics: Vec<&str> = group.positions.iter().map(|position| position.topic.as_str()).collect();
        topics.dedup();
        let lag: u64 = group.positions.iter().map(|position| position.lag).sum();
        vec![
            json!(group.name),
            json!(group.members.len()),
            json!(topics),
            json!(lag),
            json!(group.generation),
        ]
    };
    Ok(Report::table("groups", LIST, log.groups().iter().map(row).collect()))
}

fn find(log: &Log, name: &str) -> Result<GroupDetails, Failure> {
    log.group(name).ok_or_else(|| no_such_group(log, name))
}

fn seconds(ms: u64) -> Value {
    json!(ms as f64 / 1000.0)
}

fn describe(log: &Log, names: &[String]) -> Result<Report, Failure> {
    let (mut rows, mut members, mut by_topic, mut total) = (Vec::new(), Vec::new(), Map::new(), 0u64);
    for name in names {
        let group = find(log, name)?;
        let mut lags: BTreeMap<&str, u64> = BTreeMap::new();
        for position in &group.positions {
            *lags.entry(&position.topic).or_default() += position.lag;
            rows.push(vec![
                json!(name),
                json!(position.topic),
                json!(position.partition),
                json!(position.committed),
                json!(position.start),
                json!(position.end),
                json!(position.lag),
                seconds(position.lag_ms),
                json!(position.owner.map(|member| member.0)),
                json!(position.committed_ms),
            ]);
        }
        total += lags.values().sum::<u64>();
        by_topic.insert(name.clone(), json!(lags));
        members.extend(group.members.iter().map(|member| {
            json!({"group": name, "member_id": member.member.0, "topics": member.topics,
                   "partitions": member.partitions})
        }));
    }
    let report = Report::table("positions", DESCRIBE, rows);
    Ok(report.field("total_lag", total).field("lag_by_topic", by_topic).field("members", members))
}

fn lag(log: &Log, names: &[String], limit: Option<u64>) -> Result<Report, Failure> {
    let groups = match names {
        [] => log.groups(),
        names => names.iter().map(|name| find(log, name)).collect::<Result<_, _>>()?,
    };
    let (mut rows, mut over, mut total) = (Vec::new(), Vec::new(), 0);
    for group in &groups {
        let mut by_topic: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for position in &group.positions {
            let entry = by_topic.entry(&position.topic).or_default();
            entry.0 += position.lag;
            entry.1 = entry.1.max(position.lag_ms);
        }
        let lag: u64 = by_topic.values().map(|(lag, _)| lag).sum();
        total += lag;
        if limit.is_some_and(|limit| lag > limit) {
            over.push(group.name.clone());
        }
        let row = |(topic, (lag, ms)): (&&str, &(u64, u64))| {
            vec![json!(group.name), json!(topic), json!(lag), seconds(*ms)]
        };
        rows.extend(by_topic.iter().map(row));
    }
    let exit = if over.is_empty() { 0 } else { 4 };
    let report = Report::table("lags", LAG, rows).field("total_lag", total).exit(exit);
    Ok(match limit {
        Some(limit) => report.field("limit", limit).field("over_limit", over),
        None => report,
    })
}

/// Where a group is to go.
struct Seek<'a> {
    name: &'a str,
    to: Offsets,
    topics: &'a [String],
    partition: Option<u32>,
    new: bool,
}

impl Seek<'_> {
    /// Says what it would do. An active group is refused here, too.
    fn show(&self, global: &Global) -> Result<Report, Failure> {
        let (_, rows) = open::looking(global, |log| self.plan(log))?;
        Ok(self.report(rows, true).note(DRY_RUN))
    }

    fn execute(&self, global: &Global) -> Result<Report, Failure> {
        // Whoever has the directory open may have the members.
        if open::is_held(global) {
            open::looking(global, |log| self.plan(log))?;
        }
        let log = open::write_existing(global)?;
        let (positions, rows) = self.plan(&log)?;
        log.seek_group(self.name, &positions)?;
        close(log)?;
        Ok(self.report(rows, false))
    }

    fn report(&self, rows: Vec<Vec<Value>>, dry_run: bool) -> Report {
        Report::table("positions", SEEK, rows).field("group", self.name).field("dry_run", dry_run)
    }

    fn plan(&self, log: &Log) -> Result<(Vec<SeekTo>, Vec<Vec<Value>>), Failure> {
        let group = log.group(self.name);
        if group.is_none() && !self.new {
            return Err(no_such_group(log, self.name).hint("--new makes it"));
        }
        let found = group.as_ref();
        let members: Vec<_> = found.iter().flat_map(|group| &group.members).map(|it| it.member).collect();
        if !members.is_empty() {
            return Err(Error::GroupActive { group: self.name.to_string(), members }.into());
        }
        let mut names: Vec<String> = match self.topics {
            [] => found.iter().flat_map(|group| &group.positions).map(|it| it.topic.clone()).collect(),
            topics => topics.to_vec(),
        };
        names.sort();
        names.dedup();
        let (mut positions, mut rows) = (Vec::new(), Vec::new());
        for name in names {
            let topic = open::topic(log, &name)?;
            for partition in open::partitions(&topic, self.partition)? {
                let offset = self.to.resolve(log, &topic, partition)?.from;
                let (_, end) = log.bounds(&topic, partition)?;
                let prior = log.committed(self.name, &topic, partition);
                rows.push(vec![
                    json!(name),
                    json!(partition),
                    json!(prior),
                    json!(offset),
                    json!(end - offset),
                ]);
                positions.push(SeekTo { topic: topic.clone(), partition, offset });
            }
        }
        Ok((positions, rows))
    }
}
