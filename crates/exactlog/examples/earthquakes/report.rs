//! What a person sees of it: read from the topics alone, so that it shows what the log holds.

use crate::ingest::Fed;
use crate::process::{GROUP, latest_counts};
use crate::{Failure, Quake, Topics};
use exactlog::{Log, Topic};
use std::path::Path;
use std::time::Duration;

/// Rows of a table.
const ROWS: usize = 10;

/// The longest bar, in characters.
const BAR_CHARS: u64 = 40;

/// What opening found.
pub(crate) fn opening(log: &Log, topics: &Topics, data: &Path) -> String {
    let recovery = log.recovery();
    let data = data.display();
    if recovery.last_lsn == 0 {
        return format!("{data}: a new log");
    }
    let end = if recovery.clean { "was closed properly" } else { "was interrupted" };
    let cut = recovery.cut.as_ref().filter(|cut| cut.certain);
    let cut = cut.map_or("nothing was cut".into(), |cut| {
        format!("a write that never was acknowledged was cut off {} at byte {}", cut.file, cut.position)
    });
    let (quakes, lag) = (thousands(records(log, &topics.quakes)), log.lag(GROUP, &topics.quakes));
    format!("{data}: {end}; {cut}; it holds {quakes} events, {lag} of them not processed yet")
}

/// The largest earthquakes, and the regions with most of them.
pub(crate) fn tables(log: &Log, topics: &Topics) -> Result<(), Failure> {
    let view = log.read_view();
    for record in view.records(&topics.rejects).take(ROWS) {
        let reject: serde_json::Value = record?.json()?;
        println!("  line {} was rejected: {}", reject["line"], reject["reason"].as_str().unwrap_or_default());
    }
    let mut alerts: Vec<Quake> = Vec::new();
    for record in view.records(&topics.alerts) {
        alerts.push(record?.json()?);
        alerts.sort_by(|a, b| b.mag.total_cmp(&a.mag).then(a.time_ms.cmp(&b.time_ms)).then(a.id.cmp(&b.id)));
        alerts.truncate(ROWS);
    }
    println!("\n   mag  when (UTC)           where");
    for quake in &alerts {
        let place = quake.place.as_deref().unwrap_or("unknown");
        println!("  {:4.1}  {}  {place}", quake.mag, utc(quake.time_ms));
    }
    let counts = latest_counts(log, &topics.counts)?;
    let mut counts: Vec<(&String, &u64)> = counts.iter().collect();
    counts.sort_by_key(|(region, count)| (std::cmp::Reverse(**count), *region));
    let most = counts.first().map_or(1, |(_, count)| **count);
    println!("\n  events  region");
    for (region, count) in counts.iter().take(ROWS) {
        let bar = "█".repeat((**count * BAR_CHARS).div_ceil(most) as usize);
        println!("  {:>6}  {region:<20} {bar}", thousands(**count));
    }
    println!("  {} regions in all\n", counts.len());
    Ok(())
}

/// What was done, in one paragraph.
pub(crate) fn closing(
    log: &Log,
    topics: &Topics,
    fed: &Fed,
    processed: u64,
    commits: u64,
    elapsed: Duration,
) -> String {
    let records = |topic| thousands(records(log, topic));
    let from = match fed.from {
        None => "from the beginning".into(),
        Some(at) => format!("resumed behind line {} of repetition {}", thousands(at.line), at.repetition + 1),
    };
    let seconds = elapsed.as_secs_f64();
    format!(
        "{} events, {} rejects, {} alerts, lag {}\n\
         this run: {} lines fed ({from}), {} events processed in {} commits, {seconds:.2} s, {} events/s",
        records(&topics.quakes),
        records(&topics.rejects),
        records(&topics.alerts),
        log.lag(GROUP, &topics.quakes),
        thousands(fed.lines),
        thousands(processed),
        thousands(commits),
        thousands((processed as f64 / seconds.max(1e-9)) as u64),
    )
}

/// Number of records that a topic holds.
fn records(log: &Log, topic: &Topic) -> u64 {
    let len = |partition| log.bounds(topic, partition).map_or(0, |(start, end)| end - start);
    (0..topic.partitions()).map(len).sum()
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|it| std::str::from_utf8(it).ok()).collect();
    groups.join(",")
}

/// Date and time of a moment, ms since 1970. Days become years as in Hinnant's `civil_from_days`.
fn utc(time_ms: i64) -> String {
    let (days, seconds) = (time_ms.div_euclid(86_400_000), time_ms.rem_euclid(86_400_000) / 1000);
    let shifted = days + 719_468; // since 0000-03-01: leap days come last in their year
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}
