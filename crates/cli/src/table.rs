//! `table`: what keys have. Tables are written by programs, in transactions; `put` and `delete` write one key by hand.

use crate::args::{Global, TableVerb};
use crate::failure::Failure;
use crate::open;
use crate::report::{Column, Report, column, wide};
use crate::suggest;
use crate::topic::close;
use exactlog::{Entry, Error, KeyRange, Log, Refusal, Table, TableLimits};
use serde_json::{Value, json};

const LIST: &[Column] = &[column("table"), column("keys"), column("partitions"), wide("topic_id")];
const ENTRIES: &[Column] = &[
    column("key"),
    column("value"),
    column("version"),
    wide("partition"),
    wide("offset"),
    wide("timestamp_ms"),
];

pub(crate) fn run(global: &Global, verb: TableVerb) -> Result<Report, Failure> {
    match verb {
        TableVerb::List => open::looking(global, list),
        TableVerb::Get { table, keys } => open::looking(global, |log| get(log, &table, &keys)),
        TableVerb::Scan { table, prefix, from, to, limit } => {
            open::looking(global, |log| scan(log, &table, keys_of(&prefix, &from, &to), limit))
        }
        TableVerb::Put { table, key, value, expect_version } => {
            write(global, &table, key, Some(value), expect_version)
        }
        TableVerb::Delete { table, key, expect_version } => write(global, &table, key, None, expect_version),
        TableVerb::Limits { keys, key_bytes } => limits(global, keys, key_bytes),
    }
}

fn limits(global: &Global, keys: Option<u64>, key_bytes: Option<u64>) -> Result<Report, Failure> {
    let report = |TableLimits { keys_max, key_bytes_max }| {
        Report::fields().field("table.keys.max", keys_max).field("table.key.max.bytes", key_bytes_max)
    };
    if keys.is_none() && key_bytes.is_none() {
        return open::looking(global, |log| Ok(report(log.table_limits())));
    }
    let log = open::write_existing(global)?;
    let mut limits = log.table_limits();
    limits.keys_max = keys.unwrap_or(limits.keys_max);
    limits.key_bytes_max = key_bytes.unwrap_or(limits.key_bytes_max);
    log.set_table_limits(limits)?;
    close(log)?;
    Ok(report(limits))
}

fn list(log: &Log) -> Result<Report, Failure> {
    let row = |table: &Table| {
        let topic = table.topic();
        Ok(vec![json!(table.name()), json!(table.len()?), json!(topic.partitions()), json!(topic.id().0)])
    };
    let rows = log.tables().iter().map(row).collect::<Result<Vec<_>, Failure>>()?;
    let keys = log.metrics().table_keys;
    Ok(Report::table("tables", LIST, rows).field("keys", keys))
}

/// Exit 1 if one of the keys isn't there.
fn get(log: &Log, name: &str, keys: &[String]) -> Result<Report, Failure> {
    let table = find(log, name)?;
    let (mut rows, mut missing) = (Vec::new(), 0);
    for key in keys {
        rows.push(match table.get(key)? {
            Some(entry) => row(&entry),
            None => {
                missing += 1;
                let nothing = ENTRIES.iter().skip(1).map(|_| Value::Null);
                std::iter::once(json!(key)).chain(nothing).collect()
            }
        });
    }
    let report = Report::table("entries", ENTRIES, rows).field("missing", missing);
    Ok(report.exit(if missing == 0 { 0 } else { 1 }))
}

/// Without a value the key goes. Exit 1 if it wasn't there: nothing is written then.
fn write(
    global: &Global,
    name: &str,
    key: String,
    value: Option<String>,
    expected: Option<u64>,
) -> Result<Report, Failure> {
    let log = open::write_existing(global)?;
    let table = find(&log, name)?;
    let before = table.version(&key)?;
    let report = Report::fields().field("table", name).field("key", key.clone());
    if value.is_none() && before.is_none() && matches!(expected, None | Some(0)) {
        close(log)?;
        let report = report.field("status", "wasn't there").field("version", Value::Null);
        return Ok(report.field("version_before", Value::Null).exit(1));
    }
    let status = if value.is_some() { "put" } else { "deleted" };
    // Commits of a name follow each other, so a name of its own fences no program.
    let mut producer = log.producer("exactlog-table")?;
    let mut transaction = producer.begin();
    if let Some(expected) = expected {
        // No commit is the 0th.
        transaction.expect_version(&table, key.clone(), Some(expected).filter(|version| *version > 0));
    }
    match value {
        Some(value) => transaction.put(&table, key.clone(), value)?,
        None => transaction.delete(&table, key.clone())?,
    }
    let receipt = transaction.blocking_commit().map_err(|error| match error {
        Error::Refused(Refusal::KeyVersion { expected, actual, .. }) => {
            let has = |version: Option<u64>| match version {
                Some(version) => format!("version {version}"),
                None => "no version, since it isn't there".to_string(),
            };
            let what = format!("key {key:?} of table {name:?} has {}, not {}", has(actual), has(expected));
            Failure::new("KEY_VERSION", what).hint("exactlog table get shows what it has")
        }
        error => error.into(),
    })?;
    drop(producer);
    close(log)?;
    let report = report.field("status", status).field("version", receipt.csn);
    Ok(report.field("version_before", before))
}

fn scan(log: &Log, name: &str, keys: KeyRange, limit: usize) -> Result<Report, Failure> {
    let table = find(log, name)?;
    let scan = table.scan(keys);
    let csn = scan.csn();
    let rows = scan.take(limit).map(|entry| Ok(row(&entry?))).collect::<Result<Vec<_>, Failure>>()?;
    Ok(Report::table("entries", ENTRIES, rows).field("csn", csn))
}

/// All keys, or those that begin alike, or from one on and below another.
fn keys_of(prefix: &Option<String>, from: &Option<String>, to: &Option<String>) -> KeyRange {
    match (prefix.clone(), from.clone(), to.clone()) {
        (Some(prefix), _, _) => KeyRange::prefix(prefix),
        (None, Some(from), Some(to)) => (from..to).into(),
        (None, Some(from), None) => (from..).into(),
        (None, None, Some(to)) => (..to).into(),
        (None, None, None) => (..).into(),
    }
}

fn row(entry: &Entry) -> Vec<Value> {
    let record = &entry.record;
    vec![
        json!(text(entry.key())),
        json!(text(entry.value())),
        json!(entry.version),
        json!(record.partition),
        json!(record.offset),
        json!(record.timestamp_ms),
    ]
}

/// Bytes that are no text are shown as such, with what isn't escaped.
pub(crate) fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.escape_ascii().to_string(),
    }
}

/// The table, or what it might be called.
fn find(log: &Log, name: &str) -> Result<Table, Failure> {
    log.table(name).map_err(|error| match error {
        Error::NoSuchTable { .. } => {
            let tables = log.tables();
            let names = tables.iter().map(Table::name);
            let hint = suggest::sentence(name, names, "exactlog table list shows the tables");
            Failure::new("NO_SUCH_TABLE", format!("there is no table {name:?}")).hint(hint)
        }
        Error::Refused(Refusal::NoTable { .. }) => {
            Failure::new("NO_SUCH_TABLE", format!("{name:?} is a plain topic, and no table"))
                .hint("exactlog consume reads it")
        }
        error => error.into(),
    })
}
