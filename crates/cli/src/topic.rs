//! `topic`: create, list, describe, delete, trim.

use crate::args::{Global, TopicVerb};
use crate::failure::{Failure, code_of};
use crate::offsets::Offsets;
use crate::open;
use crate::report::{Column, Report, column, wide};
use crate::settings;
use crate::suggest;
use exactlog::{Error, Log, Topic, TopicOptions};
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
        TopicVerb::List => list(global),
        TopicVerb::Describe { names } => describe(global, &names),
        TopicVerb::Delete { names, execute } => delete(global, &names, execute),
        TopicVerb::Trim { name, to, partition, execute } => trim(global, &name, &to, partition, execute),
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

fn list(global: &Global) -> Result<Report, Failure> {
    let log = open::read(global)?;
    let mut rows = Vec::new();
    for topic in log.topics() {
        let records: u64 = log.partitions(&topic)?.iter().map(|it| it.end - it.start).sum();
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
    for name in names {
        let topic = open::topic(&log, name)?;
        for found in log.partitions(&topic)? {
            total += found.end - found.start;
            rows.push(vec![
                json!(name),
                json!(found.partition),
                json!(found.start),
                json!(found.end),
                json!(found.end - found.start),
                json!(found.leader_epoch),
                json!(found.producers),
            ]);
        }
        let config = topic.config();
        let of_topic = json!({
            "id": topic.id().0, "partitions": topic.partitions(), "max.message.bytes": config.max_message_bytes,
            "segment.bytes": config.segment_bytes, "segment.ms": config.segment_ms,
        });
        settings.insert(name.clone(), of_topic);
    }
    Ok(Report::table("partitions", PARTITIONS, rows)
        .field("total_records", total)
        .field("settings", settings))
}

fn delete(global: &Global, names: &[String], execute: bool) -> Result<Report, Failure> {
    if !execute {
        let log = open::read(global)?;
        let (mut rows, mut exit) = (Vec::new(), 0);
        for name in names {
            rows.push(match open::topic(&log, name) {
                Ok(topic) => {
                    let records: u64 = log.partitions(&topic)?.iter().map(|it| it.end - it.start).sum();
                    let groups = log.groups();
                    let groups = groups.iter().filter(|it| it.positions.iter().any(|it| it.topic == *name));
                    let groups = groups.count();
                    let what =
                        format!("would be deleted, with {records} records and positions of {groups} groups");
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

fn message_of(failure: &Failure) -> String {
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
