//! `dedup`: what the log remembers of ids of events. They are sent by `produce --event-id`.

use crate::args::{DedupVerb, Global};
use crate::failure::Failure;
use crate::open;
use crate::report::Report;
use crate::topic::close;
use exactlog::{AtCap, DedupLimits, Log, Scope, Seen, Sighting};
use std::time::Duration;

pub(crate) fn run(global: &Global, verb: &DedupVerb) -> Result<Report, Failure> {
    match verb {
        DedupVerb::Stats => open::looking(global, stats),
        DedupVerb::Show { scope, id, topic } => open::looking(global, |log| show(log, scope, id, *topic)),
        DedupVerb::Limits { ttl, entries, at_cap } => limits(global, *ttl, *entries, at_cap.as_deref()),
    }
}

fn limits(
    global: &Global,
    ttl: Option<Duration>,
    entries: Option<u64>,
    at_cap: Option<&str>,
) -> Result<Report, Failure> {
    if ttl.is_none() && entries.is_none() && at_cap.is_none() {
        return open::looking(global, |log| Ok(report_of(log.dedup_limits())));
    }
    let log = open::write_existing(global)?;
    let DedupLimits { ttl_ms, entries_max, at_cap: before } = log.dedup_limits();
    let at_cap = match at_cap {
        Some("refuse") => AtCap::Refuse,
        Some(_) => AtCap::Shorten,
        None => before,
    };
    let ttl = ttl.unwrap_or(Duration::from_millis(ttl_ms));
    log.set_dedup_limits(ttl, entries.unwrap_or(entries_max), at_cap)?;
    let limits = log.dedup_limits();
    close(log)?;
    Ok(report_of(limits))
}

fn report_of(limits: DedupLimits) -> Report {
    let at_cap = if limits.at_cap == AtCap::Shorten { "shorten" } else { "refuse" };
    let report = Report::fields().field("dedup.ttl.ms", limits.ttl_ms);
    report.field("dedup.entries.max", limits.entries_max).field("at_cap", at_cap)
}

fn stats(log: &Log) -> Result<Report, Failure> {
    let (metrics, limits) = (log.metrics(), log.dedup_limits());
    let dedup = metrics.dedup;
    let report = Report::fields()
        .field("seen", metrics.dedup_entries)
        .field("reserved", metrics.dedup_reserved)
        .field("in_memory", dedup.in_memory)
        .field("on_disk", metrics.dedup_entries - dedup.in_memory)
        .field("runs", dedup.runs)
        .field("run_bytes", dedup.run_bytes)
        .field("run_memory_bytes", dedup.run_memory_bytes)
        .field("window_ms", metrics.dedup_window_ms)
        .field("complete_since_ms", dedup.complete_since_ms)
        .field("dedup.ttl.ms", limits.ttl_ms)
        .field("dedup.entries.max", limits.entries_max);
    Ok(report)
}

/// Exit 1 if nothing is known of the id, as `grep` has it.
fn show(log: &Log, scope: &str, id: &str, is_topic: bool) -> Result<Report, Failure> {
    let scope = match is_topic {
        true => Scope::from(&log.open_topic(scope)?),
        false => Scope::from(scope),
    };
    let report = Report::fields().field("id", id);
    Ok(match log.seen(scope, id)? {
        Seen::Absent => report.field("state", "absent").exit(1),
        Seen::Reserved { reservation, until_ms } => {
            report.field("state", "reserved").field("reservation", reservation).field("until_ms", until_ms)
        }
        Seen::Done(Sighting::Record { partition, offset }) => {
            report.field("state", "seen").field("partition", partition.index).field("offset", offset)
        }
        Seen::Done(Sighting::Command { lsn }) => report.field("state", "seen").field("lsn", lsn),
    })
}
