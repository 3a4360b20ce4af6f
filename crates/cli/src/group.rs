//! `group`: list, describe, lag, seek, delete-offsets, delete, limits.
//!
//! Lag is exact: in records, those between a group's position and the end that can be read; in seconds, how long ago
//! the first of them was made, and 0 where there is none.

use crate::args::{Global, GroupVerb};
use crate::failure::Failure;
use crate::offsets::Offsets;
use crate::open;
use crate::report::{Column, Report, column, wide};
use crate::topic::{DRY_RUN, close, message_of, no_such_group};
use crate::watch;
use exactlog::{Error, GroupDetails, GroupPosition, Log, SeekTo};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

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
        GroupVerb::Lag { names, limit, watching } => {
            watch::run(global, &watching, || open::looking(global, |log| lag(log, &names, limit)))
        }
        GroupVerb::Seek { name, to, topics, partition, new, execute } => {
            let to = Offsets::parse_place(&to, open::now_ms())?;
            let seek = Seek { name: &name, to, topics: &topics, partition, new };
            match execute {
                true => seek.execute(global),
                false => seek.show(global),
            }
        }
        GroupVerb::DeleteOffsets { name, topics, partition, execute } => {
            delete_offsets(global, &name, (&topics, partition), execute)
        }
        GroupVerb::Delete { names, execute } => delete(global, &names, execute),
        GroupVerb::Limits { retention } => limits(global, retention),
    }
}

fn limits(global: &Global, retention: Option<Duration>) -> Result<Report, Failure> {
    let report =
        |retention: Duration| Report::fields().field("offsets.retention.ms", retention.as_millis() as u64);
    let Some(retention) = retention else {
        return open::looking(global, |log| Ok(report(log.offsets_retention())));
    };
    let log = open::write_existing(global)?;
    log.set_offsets_retention(retention)?;
    close(log)?;
    Ok(report(retention))
}

const OFFSETS: &[Column] = &[column("topic"), column("partition"), column("prior_offset"), column("lag")];

fn delete_offsets(
    global: &Global,
    name: &str,
    (topics, partition): (&[String], Option<u32>),
    execute: bool,
) -> Result<Report, Failure> {
    // Those that have a position, as rows and as they are deleted.
    let plan = |log: &Log| {
        let group = find(log, name)?;
        check_inactive(&group)?;
        let (mut named, mut rows) = (Vec::new(), Vec::new());
        for topic_name in topics {
            let topic = open::topic(log, topic_name)?;
            let asked = open::partitions(&topic, partition)?;
            let of = |it: &&GroupPosition| it.topic == *topic_name && asked.contains(&it.partition);
            for position in group.positions.iter().filter(of).filter(|it| it.committed.is_some()) {
                let committed = json!(position.committed);
                rows.push(vec![json!(topic_name), json!(position.partition), committed, json!(position.lag)]);
                named.push((topic.clone(), position.partition));
            }
        }
        Ok((named, rows))
    };
    let rows = match execute {
        false => open::looking(global, plan)?.1,
        true => {
            let log = open_inactive(global, plan)?;
            let (named, rows) = plan(&log)?;
            log.delete_offsets(name, &named)?;
            close(log)?;
            rows
        }
    };
    let report = Report::table("positions", OFFSETS, rows).field("group", name).field("dry_run", !execute);
    Ok(if execute { report } else { report.note(DRY_RUN) })
}

/// To write; whoever has the directory open may have the members, and is named.
fn open_inactive<T>(global: &Global, plan: impl FnMut(&Log) -> Result<T, Failure>) -> Result<Log, Failure> {
    if open::is_held(global) {
        open::looking(global, plan)?;
    }
    open::write_existing(global)
}

fn check_inactive(group: &GroupDetails) -> Result<(), Failure> {
    let members: Vec<_> = group.members.iter().map(|it| it.member).collect();
    match members.is_empty() {
        true => Ok(()),
        false => Err(Error::GroupActive { group: group.name.clone(), members }.into()),
    }
}

const DELETED: &[Column] = &[
    column("group"),
    column("positions"),
    column("lag"),
    column("status"),
    column("error"),
    column("message"),
];

fn delete(global: &Global, names: &[String], execute: bool) -> Result<Report, Failure> {
    let row = |log: &Log, name: &String| {
        let group = find(log, name)?;
        check_inactive(&group)?;
        if execute {
            log.delete_group(name)?;
        }
        let positions = group.positions.iter().filter(|it| it.committed.is_some()).count();
        let lag: u64 = group.positions.iter().map(|it| it.lag).sum();
        let status = if execute { "deleted" } else { "would be deleted" };
        Ok(vec![json!(name), json!(positions), json!(lag), json!(status), Value::Null, Value::Null])
    };
    let rows = |log: &Log| -> Vec<Vec<Value>> {
        let failed = |name: &String, failure: Failure| {
            let (code, message) = (json!(failure.code), json!(message_of(&failure)));
            vec![json!(name), Value::Null, Value::Null, json!("failed"), code, message]
        };
        names.iter().map(|name| row(log, name).unwrap_or_else(|failure| failed(name, failure))).collect()
    };
    let rows = match execute {
        false => open::looking(global, |log| Ok(rows(log)))?,
        true => {
            let log = open_inactive(global, |log| {
                names.iter().filter_map(|name| log.group(name)).try_for_each(|group| check_inactive(&group))
            })?;
            let rows = rows(&log);
            close(log)?;
            rows
        }
    };
    let exit = rows.iter().any(|row| !row[4].is_null()).into();
    let report = Report::table("groups", DELETED, rows).field("dry_run", !execute).exit(exit);
    Ok(if execute { report } else { report.note(DRY_RUN) })
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
