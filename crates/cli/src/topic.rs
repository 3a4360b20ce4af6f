//! `topic`: create, alter, add-partitions, list, describe, delete, trim, compact; repartition has a file of its own.

use crate::args::{Global, TopicVerb};
use crate::failure::{Failure, code_of};
use crate::layout::{self, Crowd, HotKey};
use crate::offsets::Offsets;
use crate::open;
use crate::repartition::Repartition;
use crate::report::{Column, Report, column, wide};
use crate::settings::{self, Setting};
use crate::suggest;
use crate::texts::count;
use exactlog::{Compacted, DueCompaction, Error, Log, Topic, TopicConfig, TopicOptions};
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
            let options = TopicOptions::default().partitions(partitions);
            let options = settings::apply_to_topic(options, &config)?;
            create(global, &names, &options, dry_run)
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
fn done(topic: &str, outcome: Result<&str, &Error>) -> Vec<Value> {
    match outcome {
        Ok(status) => vec![json!(topic), json!(status), Value::Null, Value::Null],
        Err(error) => vec![json!(topic), json!("failed"), json!(code_of(error)), json!(error.to_string())],
    }
}

fn exit_of(rows: &[Vec<Value>], error_at: usize) -> u8 {
    rows.iter().any(|row| !row[error_at].is_null()).into()
}

fn create(
    global: &Global,
    names: &[String],
    options: &TopicOptions,
    dry_run: bool,
) -> Result<Report, Failure> {
    if dry_run {
        let log = match open::read(global) {
            Err(failure) if failure.code == "NO_LOG" => None,
            log => Some(log?),
        };
        let there = |name: &str| log.as_ref().is_some_and(|log| log.open_topic(name).is_ok());
        let row = |name: &String| done(name, Ok(if there(name) { "exists" } else { "would be created" }));
        let report = Report::table("topics", DONE, names.iter().map(row).collect());
        return Ok(report.field("dry_run", true).note("nothing was changed"));
    }
    let log = open::write(global)?;
    let mut rows = Vec::new();
    for name in names {
        let existed = log.open_topic(name).is_ok();
        let created = log.create_topic(name, options.clone());
        let status = if existed { "existed" } else { "created" };
        rows.push(done(name, created.as_ref().map(|_| status)));
    }
    close(log)?;
    let exit = exit_of(&rows, 2);
    Ok(Report::table("topics", DONE, rows).field("dry_run", false).exit(exit))
}

/// One row for each topic: what `work` says that it did, or would do, or why it can't.
fn each(
    global: &Global,
    names: &[String],
    dry_run: bool,
    work: impl Fn(&Log, &Topic) -> Result<String, Error>,
) -> Result<Report, Failure> {
    let log = if dry_run { open::read(global)? } else { open::write_existing(global)? };
    let row = |name: &String| match open::topic(&log, name) {
        Ok(topic) => {
            let worked = work(&log, &topic);
            done(name, worked.as_ref().map(String::as_str))
        }
        Err(failure) => vec![json!(name), json!("failed"), json!(failure.code), json!(message_of(&failure))],
    };
    let rows: Vec<Vec<Value>> = names.iter().map(row).collect();
    close(log)?;
    let exit = exit_of(&rows, 2);
    let report = Report::table("topics", DONE, rows).field("dry_run", dry_run).exit(exit);
    Ok(if dry_run { report.note("nothing was changed") } else { report })
}

fn alter(global: &Global, names: &[String], settings: &[Setting], dry_run: bool) -> Result<Report, Failure> {
    settings::apply_to_config(&mut TopicConfig::default(), settings)?;
    each(global, names, dry_run, |log, topic| {
        let mut config = topic.config().clone();
        settings::apply_to_config(&mut config, settings).expect("the same settings were read before");
        let changes: Vec<String> = topic
            .config()
            .rows()
            .into_iter()
            .zip(config.rows())
            .filter(|(before, behind)| before != behind)
            .map(|((key, before), (_, behind))| format!("{key} from {before} to {behind}"))
            .collect();
        if changes.is_empty() {
            return Ok("unchanged".to_string());
        }
        if !dry_run {
            log.alter_topic(topic, config)?;
        }
        Ok(format!("{}: {}", if dry_run { "would be altered" } else { "altered" }, changes.join(", ")))
    })
}

fn partitions(number: u32) -> String {
    count(number.into(), "partition")
}

const KEYS_MOVE: &str = "keys move: later records of a key may go to another partition than its earlier ones";

fn add_partitions(global: &Global, names: &[String], to: u32, dry_run: bool) -> Result<Report, Failure> {
    let report = each(global, names, dry_run, |log, topic| {
        let from = topic.partitions();
        if !dry_run {
            log.add_partitions(topic, to)?;
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

fn list(global: &Global) -> Result<Report, Failure> {
    let log = open::read(global)?;
    let mut rows = Vec::new();
    for topic in log.topics() {
        let records: u64 = log.partitions(&topic)?.iter().map(|it| it.records).sum();
        rows.push(vec![
            json!(topic.name()),
            json!(topic.partitions()),
            json!(records),
            json!(topic.id().0),
            json!(topic.config().max_message_bytes),
        ]);
    }
    Ok(Report::table("topics", LIST, rows))
}

fn describe(global: &Global, names: &[String]) -> Result<Report, Failure> {
    let log = open::read(global)?;
    let (mut rows, mut settings, mut total) = (Vec::new(), serde_json::Map::new(), 0);
    let mut topics = Vec::new();
    for name in names {
        let topic = open::topic(&log, name)?;
        for found in log.partitions(&topic)? {
            total += found.records;
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
        of_topic.insert("id".to_string(), json!(topic.id().0));
        of_topic.insert("partitions".to_string(), json!(topic.partitions()));
        for (key, value) in topic.config().rows() {
            let value = value.parse::<i64>().map_or_else(|_| json!(value), |number| json!(number));
            of_topic.insert(key.to_string(), value);
        }
        settings.insert(name.clone(), Value::Object(of_topic));
        topics.push(topic);
    }
    let report = Report::table("partitions", PARTITIONS, rows).field("total_records", total);
    Ok(with_layout(report.field("settings", settings), &log, &topics))
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
        let log = open::read(global)?;
        let (mut rows, mut exit) = (Vec::new(), 0);
        for name in names {
            rows.push(match open::topic(&log, name) {
                Ok(topic) => {
                    let records: u64 = log.partitions(&topic)?.iter().map(|it| it.records).sum();
                    let groups = log.groups();
                    let groups = groups.iter().filter(|it| it.positions.iter().any(|it| it.topic == *name));
                    let groups = groups.count();
                    let (records, groups) = (count(records, "record"), count(groups as u64, "group"));
                    let what = format!("would be deleted, with {records} and positions of {groups}");
                    done(name, Ok(&what))
                }
                Err(failure) => {
                    exit = 1;
                    vec![json!(name), json!("failed"), json!(failure.code), json!(message_of(&failure))]
                }
            });
        }
        let report = Report::table("topics", DONE, rows).field("dry_run", true);
        return Ok(report.note(DRY_RUN).exit(exit));
    }
    let log = open::write_existing(global)?;
    let mut rows = Vec::new();
    for name in names {
        rows.push(match open::topic(&log, name) {
            Ok(topic) => done(name, log.delete_topic(&topic).as_ref().map(|()| "deleted")),
            Err(failure) => {
                vec![json!(name), json!("failed"), json!(failure.code), json!(message_of(&failure))]
            }
        });
    }
    close(log)?;
    let exit = exit_of(&rows, 2);
    Ok(Report::table("topics", DONE, rows).field("dry_run", false).exit(exit))
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
    let trim = |log: &Log| {
        let topic = open::topic(log, name)?;
        let partitions = open::partitions(&topic, partition)?;
        partitions.into_iter().map(|index| trim_one(log, &topic, index, &to, execute)).collect()
    };
    let rows: Vec<Vec<Value>> = match execute {
        true => {
            let log = open::write_existing(global)?;
            let rows = trim(&log)?;
            close(log)?;
            rows
        }
        false => open::looking(global, trim)?,
    };
    let removed: u64 = rows.iter().filter_map(|row| row[4].as_u64()).sum();
    let exit = exit_of(&rows, 5);
    let report = Report::table("partitions", TRIM, rows);
    let report = report.field("dry_run", !execute).field("total_records_removed", removed).exit(exit);
    Ok(if execute { report } else { report.note(DRY_RUN) })
}

fn trim_one(
    log: &Log,
    topic: &Topic,
    index: u32,
    to: &Offsets,
    execute: bool,
) -> Result<Vec<Value>, Failure> {
    let (start, _) = log.bounds(topic, index)?;
    let wanted = to.resolve(log, topic, index)?.from;
    let trimmed = if execute { log.trim(topic, index, wanted) } else { Ok(wanted) };
    let (new_start, error, message) = match &trimmed {
        Ok(new_start) => (*new_start, Value::Null, Value::Null),
        Err(error) => (start, json!(code_of(error)), json!(error.to_string())),
    };
    Ok(vec![
        json!(topic.name()),
        json!(index),
        json!(start),
        json!(new_start),
        json!(new_start - start),
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

/// A group that isn't there, with what it might be called.
pub(crate) fn no_such_group(log: &Log, name: &str) -> Failure {
    let groups = log.groups();
    let names = groups.iter().map(|group| group.name.as_str());
    let hint = suggest::sentence(name, names, "exactlog group list shows the groups");
    Failure::new("NO_SUCH_GROUP", format!("there is no group {name:?}")).hint(hint)
}
