//! `topic`: create, alter, add-partitions, list, describe, delete, trim, compact; repartition has a file of its own.

use crate::args::{Global, TopicVerb};
use crate::failure::Failure;
use crate::layout::{self, Crowd, HotKey};
use crate::offsets::Offsets;
use crate::open;
use crate::place::{self, Place, PositionFacts, TopicFacts};
use crate::repartition::Repartition;
use crate::report::{Column, Report, column, wide};
use crate::settings::{self, Setting};
use crate::texts::count;
use exactlog::{Compacted, DueCompaction, Log, Topic, TopicConfig, TopicOptions};
use serde_json::{Value, json};

const LIST: &[Column] =
    &[column("topic"), column("partitions"), column("records"), wide("id"), wide("max_message_bytes")];
const PARTITIONS: &[Column] = &[
    column("topic"),
    column("partition"),
    column("start_offset"),
    column("end_offset"),
    column("records"),
    wide("leader_epoch"),
    wide("producers"),
];
const DONE: &[Column] = &[column("topic"), column("status"), column("error"), column("message")];
const TRIM: &[Column] = &[
    column("topic"),
    column("partition"),
    column("start_offset"),
    column("new_start_offset"),
    column("records_removed"),
    column("error"),
    column("message"),
];

pub(crate) const DRY_RUN: &str = "nothing was changed; --execute does it";

pub(crate) fn run(global: &Global, verb: TopicVerb) -> Result<Report, Failure> {
    match verb {
        TopicVerb::Create { names, partitions, config, dry_run } => {
            let options = settings::apply_to_topic(TopicOptions::default(), &config)?;
            let said: Vec<&str> = config.iter().map(|setting| setting.key.as_str()).collect();
            create(global, &names, (partitions, &options.config, &said), dry_run)
        }
        TopicVerb::Alter { names, config, dry_run } => alter(global, &names, &config, dry_run),
        TopicVerb::AddPartitions { names, partitions, dry_run } => {
            add_partitions(global, &names, partitions, dry_run)
        }
        TopicVerb::List => list(global),
        TopicVerb::Describe { names } => describe(global, &names),
        TopicVerb::Delete { names, execute } => delete(global, &names, execute),
        TopicVerb::Trim { name, to, partition, execute } => trim(global, &name, &to, partition, execute),
        TopicVerb::Repartition { name, into, partitions, txn, compression, execute } => {
            let (from, into) = (name.as_str(), into.as_str());
            Repartition { from, into, partitions, records_max: txn, codec: compression }.run(global, execute)
        }
        TopicVerb::Compact { name, execute } => compact(global, &name, execute),
    }
}

/// Rows of per-item results: what was done, or why not.
fn done(topic: &str, outcome: Result<&str, &Failure>) -> Vec<Value> {
    match outcome {
        Ok(status) => vec![json!(topic), json!(status), Value::Null, Value::Null],
        Err(failure) => {
            vec![json!(topic), json!("failed"), json!(failure.code), json!(failure.message)]
        }
    }
}

/// The same of what isn't there, with what was meant.
fn failed(topic: &str, failure: &Failure) -> Vec<Value> {
    vec![json!(topic), json!("failed"), json!(failure.code), json!(message_of(failure))]
}

fn exit_of(rows: &[Vec<Value>], error_at: usize) -> u8 {
    rows.iter().any(|row| !row[error_at].is_null()).into()
}

fn create(
    global: &Global,
    names: &[String],
    (partitions, config, said): (u32, &TopicConfig, &[&str]),
    dry_run: bool,
) -> Result<Report, Failure> {
    if dry_run {
        let rows = |place: &dyn Place| {
            let row = |name: &String| {
                Ok(done(name, Ok(if place.find(name)?.is_some() { "exists" } else { "would be created" })))
            };
            names.iter().map(row).collect::<Result<Vec<_>, Failure>>()
        };
        let rows = match place::looking(global, rows) {
            Err(failure) if failure.code == "NO_LOG" => {
                names.iter().map(|name| done(name, Ok("would be created"))).collect()
            }
            rows => rows?,
        };
        let report = Report::table("topics", DONE, rows);
        return Ok(report.field("dry_run", true).note("nothing was changed"));
    }
    let rows = place::creating(global, |place| {
        let row = |name: &String| {
            let existed = place.find(name)?.is_some();
            let created = place.create_topic(name, partitions, config, said);
            let status = if existed { "existed" } else { "created" };
            Ok(done(name, created.as_ref().map(|()| status)))
        };
        names.iter().map(|name| unless_gone(row(name), name)).collect::<Result<Vec<_>, Failure>>()
    })?;
    let exit = exit_of(&rows, 2);
    Ok(Report::table("topics", DONE, rows).field("dry_run", false).exit(exit))
}

/// A row, also of what failed; whatever ends all of it stays.
fn unless_gone(row: Result<Vec<Value>, Failure>, name: &str) -> Result<Vec<Value>, Failure> {
    match row {
        Err(failure) if failure.exit == 1 && !failure.moved => Ok(done(name, Err(&failure))),
        row => row,
    }
}

/// One row for each topic: what `work` says that it did, or would do, or why it can't.
fn each(
    global: &Global,
    names: &[String],
    dry_run: bool,
    work: impl Fn(&dyn Place, &TopicFacts) -> Result<String, Failure>,
) -> Result<Report, Failure> {
    let rows = |place: &dyn Place| {
        let row = |name: &String| match place::topic(place, name) {
            Ok(topic) => done(name, work(place, &topic).as_ref().map(String::as_str)),
            Err(failure) => failed(name, &failure),
        };
        Ok(names.iter().map(row).collect::<Vec<_>>())
    };
    let rows = if dry_run { place::looking(global, rows)? } else { place::changing(global, rows)? };
    let exit = exit_of(&rows, 2);
    let report = Report::table("topics", DONE, rows).field("dry_run", dry_run).exit(exit);
    Ok(if dry_run { report.note("nothing was changed") } else { report })
}

fn alter(global: &Global, names: &[String], settings: &[Setting], dry_run: bool) -> Result<Report, Failure> {
    settings::apply_to_config(&mut TopicConfig::default(), settings)?;
    each(global, names, dry_run, |place, topic| {
        let before = place.configs(std::slice::from_ref(topic))?.pop().unwrap_or_default();
        let mut config = before.clone();
        settings::apply_to_config(&mut config, settings)?;
        let rows = before.rows().into_iter().zip(config.rows()).filter(|(before, behind)| before != behind);
        let changes: Vec<(&str, String, String)> =
            rows.map(|((key, before), (_, behind))| (key, before, behind)).collect();
        if changes.is_empty() {
            return Ok("unchanged".to_string());
        }
        if !dry_run {
            let changed: Vec<_> = changes.iter().map(|(key, _, behind)| (*key, behind.clone())).collect();
            place.alter_topic(topic, &config, &changed)?;
        }
        let texts = changes.iter().map(|(key, before, behind)| format!("{key} from {before} to {behind}"));
        let texts: Vec<String> = texts.collect();
        Ok(format!("{}: {}", if dry_run { "would be altered" } else { "altered" }, texts.join(", ")))
    })
}

fn partitions(number: u32) -> String {
    count(number.into(), "partition")
}

const KEYS_MOVE: &str = "keys move: later records of a key may go to another partition than its earlier ones";

fn add_partitions(global: &Global, names: &[String], to: u32, dry_run: bool) -> Result<Report, Failure> {
    let report = each(global, names, dry_run, |place, topic| {
        let from = topic.partitions;
        if !dry_run {
            place.add_partitions(topic, to)?;
        }
        Ok(match (dry_run, to > from) {
            (true, true) => format!("would have {} instead of {from}", partitions(to)),
            (true, false) if to < from => format!("has {}, and none can be taken away", partitions(from)),
            (false, true) => format!("has {} instead of {from}", partitions(to)),
            _ => format!("has {} already", partitions(to)),
        })
    })?;
    Ok(report.note(KEYS_MOVE))
}

/// Where not all records were counted one by one.
const BY_OFFSETS: &str = "where more is stored than is worth being read, records are counted by offsets";

fn list(global: &Global) -> Result<Report, Failure> {
    place::looking(global, |place| {
        let topics = place.topics()?;
        let (mut rows, mut are_exact) = (Vec::new(), true);
        for (topic, config) in topics.iter().zip(place.configs(&topics)?) {
            let partitions = place.partitions(topic, false)?;
            are_exact &= partitions.iter().all(|it| it.is_exact);
            let records: u64 = partitions.iter().map(|it| it.records).sum();
            rows.push(vec![
                json!(topic.name),
                json!(topic.partitions),
                json!(records),
                topic.id.clone(),
                json!(config.max_message_bytes),
            ]);
        }
        let report = Report::table("topics", LIST, rows);
        Ok(if are_exact { report } else { report.note(BY_OFFSETS) })
    })
}

fn describe(global: &Global, names: &[String]) -> Result<Report, Failure> {
    place::looking(global, |place| {
        let (mut rows, mut settings, mut total) = (Vec::new(), serde_json::Map::new(), 0);
        let (mut topics, mut are_exact) = (Vec::new(), true);
        for name in names {
            let topic = place::topic(place, name)?;
            for found in place.partitions(&topic, true)? {
                total += found.records;
                are_exact &= found.is_exact;
                rows.push(vec![
                    json!(name),
                    json!(found.partition),
                    json!(found.start),
                    json!(found.end),
                    json!(found.records),
                    json!(found.leader_epoch),
                    json!(found.producers),
                ]);
            }
            let mut of_topic = serde_json::Map::new();
            of_topic.insert("id".to_string(), topic.id.clone());
            of_topic.insert("partitions".to_string(), json!(topic.partitions));
            let config = place.configs(std::slice::from_ref(&topic))?.pop().unwrap_or_default();
            for (key, value) in config.rows() {
                let value = value.parse::<i64>().map_or_else(|_| json!(value), |number| json!(number));
                of_topic.insert(key.to_string(), value);
            }
            settings.insert(name.clone(), Value::Object(of_topic));
            topics.push(topic);
        }
        let report = Report::table("partitions", PARTITIONS, rows).field("total_records", total);
        let report = report.field("settings", settings);
        let report = if are_exact { report } else { report.note(BY_OFFSETS) };
        match place.log() {
            Some(log) => {
                let topics = topics.iter().map(|topic| open::topic(log, &topic.name));
                Ok(with_layout(report, log, &topics.collect::<Result<Vec<_>, _>>()?))
            }
            None => Ok(without_layout(report)),
        }
    })
}

/// What isn't looked at is null.
fn without_layout(report: Report) -> Report {
    ["crowded_groups", "hot_keys", "looked_at_records", "left_out_partitions"]
        .into_iter()
        .fold(report, |report, name| report.detail(name, Value::Null))
}

/// Says who waits idle, and which keys make one partition do the work of all.
fn with_layout(report: Report, log: &Log, topics: &[Topic]) -> Report {
    let mut crowds = layout::crowds(log);
    crowds.retain(|crowd| topics.iter().any(|topic| crowd.reads(topic.name())));
    let keys = layout::keys(log, topics);
    let values = |values: Vec<Value>| Value::Array(values);
    let mut report = report
        .detail("crowded_groups", values(crowds.iter().map(Crowd::value).collect()))
        .detail("hot_keys", values(keys.hot.iter().map(HotKey::value).collect()))
        .detail("looked_at_records", keys.looked_at)
        .detail("left_out_partitions", keys.left_out);
    for crowd in &crowds {
        report = report.note(format!("{}; {}", crowd.sentence(), layout::FEWER_MEMBERS));
    }
    for sentence in keys.sentences() {
        report = report.note(format!("{sentence}; {}", layout::FINER_KEYS));
    }
    match keys.left_out {
        0 => report,
        partitions => report.note(format!("keys of {} were not looked at", count(partitions, "partition"))),
    }
}

fn delete(global: &Global, names: &[String], execute: bool) -> Result<Report, Failure> {
    if !execute {
        let rows = place::looking(global, |place| {
            names.iter().map(|name| would_delete(place, name)).collect::<Result<Vec<_>, _>>()
        })?;
        let exit = exit_of(&rows, 2);
        let report = Report::table("topics", DONE, rows).field("dry_run", true);
        return Ok(report.note(DRY_RUN).exit(exit));
    }
    let rows = place::changing(global, |place| {
        let row = |name: &String| match place::topic(place, name) {
            Ok(topic) => done(name, place.delete_topic(&topic).as_ref().map(|()| "deleted")),
            Err(failure) => failed(name, &failure),
        };
        Ok(names.iter().map(row).collect::<Vec<_>>())
    })?;
    let exit = exit_of(&rows, 2);
    Ok(Report::table("topics", DONE, rows).field("dry_run", false).exit(exit))
}

fn would_delete(place: &dyn Place, name: &str) -> Result<Vec<Value>, Failure> {
    let topic = match place::topic(place, name) {
        Ok(topic) => topic,
        Err(failure) => return Ok(failed(name, &failure)),
    };
    let records: u64 = place.partitions(&topic, true)?.iter().map(|it| it.records).sum();
    let groups = place.group_names()?;
    let mut with_positions = 0;
    for group in &groups {
        let group = place.group(group)?;
        let has_positions = |it: &PositionFacts| *it.topic == *name;
        with_positions += u64::from(group.is_some_and(|group| group.positions.iter().any(has_positions)));
    }
    let (records, groups) = (count(records, "record"), count(with_positions, "group"));
    Ok(done(name, Ok(&format!("would be deleted, with {records} and positions of {groups}"))))
}

pub(crate) fn message_of(failure: &Failure) -> String {
    match &failure.hint {
        Some(hint) => format!("{}; {hint}", failure.message),
        None => failure.message.clone(),
    }
}

fn trim(
    global: &Global,
    name: &str,
    to: &str,
    partition: Option<u32>,
    execute: bool,
) -> Result<Report, Failure> {
    let to = Offsets::parse_place(to, open::now_ms())?;
    let trim = |place: &dyn Place| {
        let topic = place::topic(place, name)?;
        let partitions = place::partitions(&topic, partition)?;
        partitions.into_iter().map(|index| trim_one(place, &topic, index, &to, execute)).collect()
    };
    let rows: Vec<Vec<Value>> = match execute {
        true => place::changing(global, trim)?,
        false => place::looking(global, trim)?,
    };
    let removed: u64 = rows.iter().filter_map(|row| row[4].as_u64()).sum();
    let exit = exit_of(&rows, 5);
    let report = Report::table("partitions", TRIM, rows);
    let report = report.field("dry_run", !execute).field("total_records_removed", removed).exit(exit);
    Ok(if execute { report } else { report.note(DRY_RUN) })
}

fn trim_one(
    place: &dyn Place,
    topic: &TopicFacts,
    index: u32,
    to: &Offsets,
    execute: bool,
) -> Result<Vec<Value>, Failure> {
    let bounds = place.bounds(topic, index)?;
    let wanted = to.resolve(bounds, |ms| place.first_at_or_after(topic, index, ms))?.from;
    let trimmed = if execute { place.trim(topic, index, wanted) } else { Ok(wanted) };
    let (new_start, error, message) = match &trimmed {
        Ok(new_start) => (*new_start, Value::Null, Value::Null),
        Err(failure) => (bounds.0, json!(failure.code), json!(failure.message)),
    };
    Ok(vec![
        json!(topic.name),
        json!(index),
        json!(bounds.0),
        json!(new_start),
        json!(new_start - bounds.0),
        error,
        message,
    ])
}

const COMPACT: &[Column] = &[
    column("topic"),
    column("partition"),
    column("bytes"),
    column("dirty_bytes"),
    column("bytes_after"),
    column("records"),
];

fn compact(global: &Global, name: &str, execute: bool) -> Result<Report, Failure> {
    let rows = match execute {
        true => {
            let log = open::write_existing(global)?;
            let rows = compact_now(&log, name)?;
            close(log)?;
            rows
        }
        false => open::looking(global, |log| would_compact(log, name))?,
    };
    let report = Report::table("partitions", COMPACT, rows).field("dry_run", !execute);
    Ok(match execute {
        true => report,
        false => report.note("what is only in the journal comes on top").note(DRY_RUN),
    })
}

fn compacted_topic(log: &Log, name: &str) -> Result<Topic, Failure> {
    let topic = open::topic(log, name)?;
    let policy = topic.config().cleanup_policy;
    match policy.compacts() {
        true => Ok(topic),
        false => {
            let failure = Failure::new("REFUSED", format!("topic {name:?} has cleanup.policy={policy}"));
            Err(failure.hint(format!("exactlog topic alter {name} -c cleanup.policy=compact")))
        }
    }
}

fn compact_now(log: &Log, name: &str) -> Result<Vec<Vec<Value>>, Failure> {
    let topic = compacted_topic(log, name)?;
    let compacted = log.compact(&topic)?;
    let partitions = log.partitions(&topic)?;
    let of_topic = compacted.iter().filter(|it| it.partition.topic == topic.id());
    let row = |it: &Compacted| {
        let records = partitions.get(it.partition.index as usize).map(|it| it.records);
        let (before, after) = (json!(it.bytes_before), json!(it.bytes_after));
        vec![json!(name), json!(it.partition.index), before, Value::Null, after, json!(records)]
    };
    Ok(of_topic.map(row).collect())
}

fn would_compact(log: &Log, name: &str) -> Result<Vec<Vec<Value>>, Failure> {
    let topic = compacted_topic(log, name)?;
    let partitions = log.partitions(&topic)?;
    let row = |it: &DueCompaction| {
        let records = partitions.get(it.partition.index as usize).map(|it| it.records);
        let (bytes, dirty) = (json!(it.bytes), json!(it.dirty_bytes));
        vec![json!(name), json!(it.partition.index), bytes, dirty, Value::Null, json!(records)]
    };
    Ok(log.compactable(&topic)?.iter().map(row).collect())
}

/// Closing can fail, and dropping couldn't say so.
pub(crate) fn close(log: Log) -> Result<(), Failure> {
    log.close().map_err(Failure::from)
}
