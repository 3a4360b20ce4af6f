//! `group`: list, describe, lag, seek, delete-offsets, delete, limits.
//!
//! Lag is exact: in records, those between a group's position and the end that can be read; in seconds, how long ago
//! the first of them was made, and 0 where there is none.

use crate::args::{Global, GroupVerb};
use crate::failure::Failure;
use crate::offsets::Offsets;
use crate::open;
use crate::place::{self, GroupFacts, MemberFacts, Place, PositionFacts, TopicFacts};
use crate::report::{Column, Report, column, wide};
use crate::texts::count;
use crate::topic::{DRY_RUN, close, message_of};
use crate::watch;
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
        GroupVerb::Describe { names } => place::looking(global, |place| describe(place, &names)),
        GroupVerb::Lag { names, limit, watching } => {
            watch::run(global, &watching, || place::looking(global, |place| lag(place, &names, limit)))
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
    let plan = |place: &dyn Place| {
        let group = place::group(place, name)?;
        check_inactive(&group)?;
        let (mut named, mut rows) = (Vec::new(), Vec::new());
        for topic_name in topics {
            let topic = place::topic(place, topic_name)?;
            let asked = place::partitions(&topic, partition)?;
            let of = |it: &&PositionFacts| *it.topic == **topic_name && asked.contains(&it.partition);
            for position in group.positions.iter().filter(of).filter(|it| it.committed.is_some()) {
                let committed = json!(position.committed);
                rows.push(vec![json!(topic_name), json!(position.partition), committed, json!(position.lag)]);
                named.push((topic.clone(), position.partition));
            }
        }
        Ok((named, rows))
    };
    let rows = match execute {
        false => place::looking(global, plan)?.1,
        true => changing_inactive(
            global,
            |place| plan(place).map(drop),
            |place| {
                let (named, rows) = plan(place)?;
                place.delete_offsets(name, &named)?;
                Ok(rows)
            },
        )?,
    };
    let report = Report::table("positions", OFFSETS, rows).field("group", name).field("dry_run", !execute);
    Ok(if execute { report } else { report.note(DRY_RUN) })
}

/// Changes a group; whoever has the directory open may have the members, and is named by `check`.
fn changing_inactive<T>(
    global: &Global,
    check: impl FnMut(&dyn Place) -> Result<(), Failure>,
    work: impl FnOnce(&dyn Place) -> Result<T, Failure>,
) -> Result<T, Failure> {
    if global.bootstrap.is_none() && open::is_held(global) {
        place::looking(global, check)?;
    }
    place::changing(global, work)
}

fn check_inactive(group: &GroupFacts) -> Result<(), Failure> {
    let name = |member: &MemberFacts| match &member.id {
        Value::String(id) => format!("member {id}"),
        id => format!("member {id}"),
    };
    let members: Vec<String> = group.members.iter().map(name).collect();
    match members.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(
            "GROUP_ACTIVE",
            format!(
                "group {:?} is active: {} ({}); stop its consumers first",
                group.name,
                count(members.len() as u64, "member"),
                members.join(", ")
            ),
        )),
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
    let row = |place: &dyn Place, name: &String| {
        let group = place::group(place, name)?;
        check_inactive(&group)?;
        if execute {
            place.delete_group(name)?;
        }
        let positions = group.positions.iter().filter(|it| it.committed.is_some()).count();
        let lag: u64 = group.positions.iter().map(|it| it.lag).sum();
        let status = if execute { "deleted" } else { "would be deleted" };
        Ok(vec![json!(name), json!(positions), json!(lag), json!(status), Value::Null, Value::Null])
    };
    let rows = |place: &dyn Place| -> Vec<Vec<Value>> {
        let failed = |name: &String, failure: Failure| {
            let (code, message) = (json!(failure.code), json!(message_of(&failure)));
            vec![json!(name), Value::Null, Value::Null, json!("failed"), code, message]
        };
        names.iter().map(|name| row(place, name).unwrap_or_else(|failure| failed(name, failure))).collect()
    };
    let are_inactive = |place: &dyn Place| {
        names.iter().try_for_each(|name| place.group(name)?.map_or(Ok(()), |group| check_inactive(&group)))
    };
    let rows = match execute {
        false => place::looking(global, |place| Ok(rows(place)))?,
        true => changing_inactive(global, are_inactive, |place| Ok(rows(place)))?,
    };
    let exit = rows.iter().any(|row| !row[4].is_null()).into();
    let report = Report::table("groups", DELETED, rows).field("dry_run", !execute).exit(exit);
    Ok(if execute { report } else { report.note(DRY_RUN) })
}

fn list(global: &Global) -> Result<Report, Failure> {
    place::looking(global, |place| {
        let groups = all(place)?;
        let row = |group: &GroupFacts| {
            let mut topics: Vec<&str> = group.positions.iter().map(|position| &*position.topic).collect();
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
        Ok(noted(Report::table("groups", LIST, groups.iter().map(row).collect()), &groups))
    })
}

/// All groups; one that went meanwhile is left out.
fn all(place: &dyn Place) -> Result<Vec<GroupFacts>, Failure> {
    let names = place.group_names()?;
    names.iter().filter_map(|name| place.group(name).transpose()).collect()
}

/// Says it where a lag was reckoned by offsets.
fn noted(report: Report, groups: &[GroupFacts]) -> Report {
    match groups.iter().flat_map(|group| &group.positions).all(|position| position.is_exact) {
        true => report,
        false => {
            report.note("of groups that are far behind, what isn't worth being read is counted by offsets")
        }
    }
}

fn seconds(ms: u64) -> Value {
    json!(ms as f64 / 1000.0)
}

fn describe(place: &dyn Place, names: &[String]) -> Result<Report, Failure> {
    let (mut rows, mut members, mut by_topic, mut total) = (Vec::new(), Vec::new(), Map::new(), 0u64);
    let groups = names.iter().map(|name| place::group(place, name)).collect::<Result<Vec<_>, _>>()?;
    for (name, group) in names.iter().zip(&groups) {
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
                position.owner.clone(),
                json!(position.committed_ms),
            ]);
        }
        total += lags.values().sum::<u64>();
        by_topic.insert(name.clone(), json!(lags));
        members.extend(group.members.iter().map(|member| {
            json!({"group": name, "member_id": member.id, "topics": member.topics,
                   "partitions": member.partitions})
        }));
    }
    let report = noted(Report::table("positions", DESCRIBE, rows), &groups);
    Ok(report.field("total_lag", total).field("lag_by_topic", by_topic).field("members", members))
}

fn lag(place: &dyn Place, names: &[String], limit: Option<u64>) -> Result<Report, Failure> {
    let groups = match names {
        [] => all(place)?,
        names => names.iter().map(|name| place::group(place, name)).collect::<Result<_, _>>()?,
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
    let report = noted(Report::table("lags", LAG, rows), &groups).field("total_lag", total).exit(exit);
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
        let (_, rows) = place::looking(global, |place| self.plan(place))?;
        Ok(self.report(rows, true).note(DRY_RUN))
    }

    fn execute(&self, global: &Global) -> Result<Report, Failure> {
        let rows = changing_inactive(
            global,
            |place| self.plan(place).map(drop),
            |place| {
                let (positions, rows) = self.plan(place)?;
                place.seek_group(self.name, &positions)?;
                Ok(rows)
            },
        )?;
        Ok(self.report(rows, false))
    }

    fn report(&self, rows: Vec<Vec<Value>>, dry_run: bool) -> Report {
        Report::table("positions", SEEK, rows).field("group", self.name).field("dry_run", dry_run)
    }

    #[allow(clippy::type_complexity, reason = "positions as they are committed, and as rows")]
    fn plan(&self, place: &dyn Place) -> Result<(Vec<(TopicFacts, u32, u64)>, Vec<Vec<Value>>), Failure> {
        let group = place.group(self.name)?;
        match &group {
            Some(group) => check_inactive(group)?,
            None if self.new => {}
            None => {
                return Err(place::group(place, self.name).err().unwrap_or_else(gone).hint("--new makes it"));
            }
        }
        let mut names: Vec<String> = match self.topics {
            [] => group.iter().flat_map(|group| &group.positions).map(|it| it.topic.to_string()).collect(),
            topics => topics.to_vec(),
        };
        names.sort();
        names.dedup();
        let (mut positions, mut rows) = (Vec::new(), Vec::new());
        for name in names {
            let topic = place::topic(place, &name)?;
            for partition in place::partitions(&topic, self.partition)? {
                let bounds = place.bounds(&topic, partition)?;
                let at_time = |ms| place.first_at_or_after(&topic, partition, ms);
                let offset = self.to.resolve(bounds, at_time)?.from;
                let stands = |it: &&PositionFacts| it.topic == topic.name && it.partition == partition;
                let prior = group.as_ref().and_then(|group| group.positions.iter().find(stands)?.committed);
                rows.push(vec![
                    json!(name),
                    json!(partition),
                    json!(prior),
                    json!(offset),
                    json!(bounds.1 - offset),
                ]);
                positions.push((topic.clone(), partition, offset));
            }
        }
        Ok((positions, rows))
    }
}

/// It was there a moment ago.
fn gone() -> Failure {
    Failure::new("NO_SUCH_GROUP", "the group was made meanwhile")
}
