//! `dlq`: events that a processor could not process. They are looked at, put back, or given up, each once.
//!
//! ```text
//!   dead -> redriven     put back: to the group that gave it up, to all groups of its topic, or into another topic
//!       \-> discarded
//! ```
//!
//! Invariants
//!   * an entry is put back or given up at most once, however often the command is killed and given again
//!   * without `--execute` nothing is changed

use crate::args::{DlqVerb, Global, Letters};
use crate::copying;
use crate::envelope;
use crate::failure::Failure;
use crate::interrupt;
use crate::open;
use crate::report::{Column, Format, Report, column, wide};
use crate::table::text;
use crate::texts::count;
use crate::topic::{DRY_RUN, close};
use exactlog::Log;
use exactlog_flow::{DeadEntry, DeadLetters, EntryState, RedriveTo, Redriven};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufWriter, Write};

const LIST: &[Column] = &[
    column("topic"),
    column("dead"),
    column("oldest_seconds"),
    column("error_classes"),
    wide("redriven"),
    wide("discarded"),
    wide("oldest_ms"),
];
const ENTRIES: &[Column] = &[
    column("partition"),
    column("offset"),
    column("state"),
    column("error_class"),
    column("message"),
    column("attempts"),
    column("origin_topic"),
    column("origin_partition"),
    column("origin_offset"),
    column("group"),
    column("failed_at"),
    column("redrives"),
    column("key"),
];
const PLAN: &[Column] =
    &[column("error_class"), column("group"), column("topic"), column("entries"), column("reason")];
const SKIPPED: &[Column] = &[column("partition"), column("offset"), column("reason")];

/// Most entries that are shown if nothing else was asked for.
const SHOWN: u64 = 1_000;

/// Most letters of an error's text in a table for people.
const LETTERS_MAX: usize = 80;

/// What stands where an entry doesn't say its error.
const NO_CLASS: &str = "none";

pub(crate) fn run(global: &Global, verb: DlqVerb) -> Result<Report, Failure> {
    match verb {
        DlqVerb::List => open::looking(global, list),
        DlqVerb::Show { letters, all } => {
            open::looking(global, |log| show(log, &letters, all, global.format == Format::Text))
        }
        DlqVerb::Export { letters, all } => export(global, &letters, all),
        DlqVerb::Redrive { letters, to, rate, execute } => {
            let deed = Deed { letters: &letters, to: Some(&to), rate };
            if execute { deed.execute(global) } else { deed.show(global) }
        }
        DlqVerb::Discard { letters, execute } => {
            let deed = Deed { letters: &letters, to: None, rate: None };
            if execute { deed.execute(global) } else { deed.show(global) }
        }
    }
}

/// Whether a topic has dead letters by its name, as Kafka, Spring for Kafka and Spring Cloud Stream have it.
fn is_named_so(name: &str) -> bool {
    name.starts_with("dlq.") || name.starts_with("error.") || name.ends_with("-dlt")
}

fn list(log: &Log) -> Result<Report, Failure> {
    let tables: BTreeSet<String> = log.tables().iter().map(|table| table.name().to_string()).collect();
    let has_ledger = |name: &str| tables.contains(&format!("flow-dlq.{name}"));
    let (now_ms, mut dead_in_all, mut rows) = (open::now_ms(), 0, Vec::new());
    for topic in log.topics() {
        let name = topic.name();
        if tables.contains(name) || !(is_named_so(name) || has_ledger(name)) {
            continue;
        }
        // One look at all of them: what is shown is of one moment, and has no offset that is no entry.
        let (mut dead, mut redriven, mut discarded, mut oldest_ms) = (0_u64, 0_u64, 0_u64, None);
        let mut classes: BTreeMap<String, u64> = BTreeMap::new();
        DeadLetters::open(log, name)?.all(|entry| {
            match entry.state {
                EntryState::Dead => {
                    dead += 1;
                    let died_ms = entry.record.timestamp_ms;
                    oldest_ms = Some(oldest_ms.map_or(died_ms, |oldest: i64| oldest.min(died_ms)));
                    *classes.entry(class_of(&entry)).or_default() += 1;
                }
                EntryState::Redriven => redriven += 1,
                EntryState::Discarded => discarded += 1,
            }
            true
        })?;
        dead_in_all += dead;
        rows.push(vec![
            json!(name),
            json!(dead),
            json!(oldest_ms.map(|oldest_ms| (now_ms - oldest_ms) as f64 / 1000.0)),
            if classes.is_empty() { Value::Null } else { json!(classes) },
            json!(redriven),
            json!(discarded),
            json!(oldest_ms),
        ]);
    }
    Ok(Report::table("dead_letter_topics", LIST, rows).field("dead", dead_in_all))
}

fn class_of(entry: &DeadEntry) -> String {
    entry.error_class.clone().unwrap_or_else(|| NO_CLASS.to_string())
}

/// The dead letters of the topic that is asked for.
fn find(log: &Log, asked: &Letters) -> Result<DeadLetters, Failure> {
    let topic = open::topic(log, &asked.topic)?;
    open::partitions(&topic, asked.partition)?;
    Ok(DeadLetters::open(log, &asked.topic)?)
}

/// Which entries are meant.
fn meant(asked: &Letters) -> impl Fn(&DeadEntry) -> bool + Send + Sync + use<> + 'static {
    let Letters { error_class, partition, offset, .. } = asked.clone();
    move |entry: &DeadEntry| {
        let record = &entry.record;
        error_class.as_ref().is_none_or(|class| entry.error_class.as_ref() == Some(class))
            && partition.is_none_or(|partition| record.partition == partition)
            && offset.is_none_or(|offset| record.offset == offset)
    }
}

/// The entries that are meant: dead ones, or also those that have ended. `see` says whether to go on.
fn each(
    log: &Log,
    asked: &Letters,
    all: bool,
    mut see: impl FnMut(DeadEntry) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let letters = find(log, asked)?;
    let is_meant = meant(asked);
    let mut failure = None;
    let take = |entry: DeadEntry| {
        if !is_meant(&entry) {
            return true;
        }
        see(entry).unwrap_or_else(|error| {
            failure = Some(error);
            false
        })
    };
    match all {
        true => letters.all(take)?,
        false => letters.each(take)?,
    }
    failure.map_or(Ok(()), Err)
}

fn show(log: &Log, asked: &Letters, all: bool, is_short: bool) -> Result<Report, Failure> {
    let most = asked.limit.unwrap_or(SHOWN);
    let (mut rows, mut has_more) = (Vec::new(), false);
    each(log, asked, all, |entry| {
        has_more = rows.len() as u64 >= most;
        if !has_more {
            rows.push(row(&entry, is_short));
        }
        Ok(!has_more)
    })?;
    let report = Report::table("entries", ENTRIES, rows).field("more", has_more);
    Ok(if has_more { report.note("there are more; -n N shows them") } else { report })
}

fn row(entry: &DeadEntry, is_short: bool) -> Vec<Value> {
    let (record, origin) = (&entry.record, entry.origin.as_ref());
    let message = entry.error_message.as_ref().map(|text| if is_short { short(text) } else { text.clone() });
    vec![
        json!(record.partition),
        json!(record.offset),
        json!(entry.state.name()),
        json!(entry.error_class),
        json!(message),
        json!(entry.attempts),
        json!(origin.map(|origin| &origin.topic)),
        json!(origin.map(|origin| origin.partition)),
        json!(origin.map(|origin| origin.offset)),
        json!(origin.and_then(|origin| origin.group.as_ref())),
        json!(entry.failed_at),
        json!(entry.redrives),
        json!(record.key.as_ref().map(|key| text(key))),
    ]
}

/// The first line, as far as it has room beside the rest.
fn short(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let mut short: String = line.chars().take(LETTERS_MAX).collect();
    if short.len() < message.len() {
        short.push_str("..");
    }
    short
}

fn export(global: &Global, asked: &Letters, all: bool) -> Result<Report, Failure> {
    // What is written can't be taken back, so it isn't looked at again.
    let log = open::read(global)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let (most, mut written) = (asked.limit.unwrap_or(u64::MAX), 0);
    each(&log, asked, all, |entry| {
        if written < most {
            writeln!(out, "{}", envelope::of(&entry.record)).map_err(Failure::output)?;
            written += 1;
        }
        Ok(written < most)
    })?;
    out.flush().map_err(Failure::output)?;
    if !global.quiet {
        eprintln!("{}", count(written, "record"));
    }
    Ok(Report::nothing())
}

/// Putting entries back, or giving them up.
struct Deed<'a> {
    letters: &'a Letters,
    /// `group`, `origin` or the name of a topic; none: they are given up.
    to: Option<&'a str>,
    rate: Option<u32>,
}

/// What would become of an entry: the group and the topic that it goes to, or why it can't.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Fate {
    class: String,
    group: Option<String>,
    topic: Option<String>,
    reason: Option<String>,
}

impl Deed<'_> {
    fn target(&self, log: &Log) -> Result<Option<RedriveTo>, Failure> {
        Ok(Some(match self.to {
            None => return Ok(None),
            Some("group") => RedriveTo::Group,
            Some("origin") => RedriveTo::Origin,
            Some(name) if name == self.letters.topic => {
                return Err(Failure::usage(format!("{name:?} can't be put back into itself")));
            }
            Some(name) => {
                let topic = open::topic(log, name)?;
                if copying::is_table(log, &topic) {
                    let what = format!("{name:?} is a table, which only transactions write to");
                    return Err(Failure::new("REFUSED", what).hint("name a plain topic with --to"));
                }
                RedriveTo::Topic(topic)
            }
        }))
    }

    /// How many of which would go where, and how many of them could.
    fn plan(
        &self,
        log: &Log,
        target: Option<&RedriveTo>,
    ) -> Result<(BTreeMap<Fate, u64>, u64, u64), Failure> {
        let most = self.letters.limit.unwrap_or(u64::MAX);
        let (mut fates, mut done, mut skipped) = (BTreeMap::new(), 0, 0);
        each(log, self.letters, false, |entry| {
            if done >= most {
                return Ok(false);
            }
            let fate = fate(log, target, &entry);
            *if fate.reason.is_some() { &mut skipped } else { &mut done } += 1;
            *fates.entry(fate).or_default() += 1;
            Ok(true)
        })?;
        Ok((fates, done, skipped))
    }

    /// Says what would be done.
    fn show(&self, global: &Global) -> Result<Report, Failure> {
        open::looking(global, |log| {
            let target = self.target(log)?;
            let (fates, done, skipped) = self.plan(log, target.as_ref())?;
            let row = |(fate, entries): (&Fate, &u64)| {
                vec![
                    json!(fate.class),
                    json!(fate.group),
                    json!(fate.topic),
                    json!(entries),
                    json!(fate.reason),
                ]
            };
            let report = Report::table("fates", PLAN, fates.iter().map(row).collect())
                .field("topic", self.letters.topic.as_str())
                .field("status", if target.is_some() { "would be put back" } else { "would be discarded" })
                .field("entries", done)
                .field("skipped", skipped);
            let report = match target {
                Some(RedriveTo::Origin | RedriveTo::Topic(_)) => {
                    report.field("seen_by", seen_by(log, &fates))
                }
                _ => report,
            };
            let exit = if skipped == 0 { 0 } else { 1 };
            Ok(report.field("dry_run", true).note(DRY_RUN).exit(exit))
        })
    }

    fn execute(&self, global: &Global) -> Result<Report, Failure> {
        let log = open::write_existing(global)?;
        let target = self.target(&log)?;
        let letters = find(&log, self.letters)?;
        let progress = match open::shows_progress(global) {
            true => copying::progress(global, self.plan(&log, target.as_ref())?.1),
            false => copying::progress(global, 0),
        };
        interrupt::watch();
        let mut deed = match &target {
            Some(to) => letters.redrive().to(to.clone()),
            None => letters.discard(),
        };
        deed = deed.filter(meant(self.letters)).most(self.letters.limit.unwrap_or(u64::MAX));
        if let Some(rate) = self.rate {
            deed = deed.rate(rate);
        }
        let shown = progress.clone();
        let deed = deed.progress(move |redriven| {
            shown.set_position(redriven.done);
            !interrupt::asked()
        });
        let redriven = deed.blocking_run()?;
        progress.finish_and_clear();
        close(log)?;
        Ok(self.report(&redriven))
    }

    fn report(&self, redriven: &Redriven) -> Report {
        let row = |(partition, offset, reason): &(u32, u64, String)| {
            vec![json!(partition), json!(offset), json!(reason)]
        };
        let is_interrupted = interrupt::asked();
        let status = match (is_interrupted, self.to) {
            (true, _) => "interrupted",
            (false, Some(_)) => "put back",
            (false, None) => "discarded",
        };
        let report = Report::table("skipped_entries", SKIPPED, redriven.skipped.iter().map(row).collect())
            .field("topic", self.letters.topic.as_str())
            .field("status", status)
            .field("entries", redriven.done)
            .field("skipped", redriven.skipped_count)
            .field("dry_run", false);
        match (is_interrupted, redriven.skipped_count) {
            (true, _) => report.note("the same command goes on").exit(interrupt::EXIT),
            (false, 0) => report,
            (false, _) => report.exit(1),
        }
    }
}

/// Where an entry would go. What only the commit can tell isn't known yet: whether its group still has it as dead.
fn fate(log: &Log, target: Option<&RedriveTo>, entry: &DeadEntry) -> Fate {
    let fate = Fate { class: class_of(entry), ..Fate::default() };
    let skipped = |fate: Fate, reason: String| Fate { reason: Some(reason), ..fate };
    let is_to_group = match target {
        None => return fate,
        Some(RedriveTo::Topic(topic)) => return Fate { topic: Some(topic.name().to_string()), ..fate },
        Some(RedriveTo::Group) => true,
        Some(RedriveTo::Origin) => false,
    };
    let Some(origin) = &entry.origin else {
        return skipped(fate, "it doesn't say where it comes from".to_string());
    };
    let group = origin.group.clone().filter(|_| is_to_group);
    let fate = Fate { topic: Some(origin.topic.clone()), group: group.clone(), ..fate };
    let Ok(topic) = log.open_topic(&origin.topic) else {
        return skipped(fate, format!("topic {:?} doesn't exist", origin.topic));
    };
    match group {
        _ if !is_to_group => fate,
        None => skipped(fate, "it names no group".to_string()),
        Some(_) if origin.topic_id.is_some_and(|id| id != topic.id().0) => {
            skipped(fate, format!("topic {:?} was deleted and made anew since", origin.topic))
        }
        Some(group) if log.table(&format!("flow.{group}")).is_err() => {
            skipped(fate, format!("group {group:?} has no processor that could take it"))
        }
        Some(_) => fate,
    }
}

/// The groups that have read of the topics that entries would go into: they will see them, too.
fn seen_by(log: &Log, fates: &BTreeMap<Fate, u64>) -> Vec<String> {
    let possible = fates.keys().filter(|fate| fate.reason.is_none());
    let topics: BTreeSet<&str> = possible.filter_map(|fate| fate.topic.as_deref()).collect();
    let groups = log.groups().into_iter();
    let reads = groups.filter(|group| {
        group.positions.iter().any(|it| it.committed.is_some() && topics.contains(it.topic.as_str()))
    });
    reads.map(|group| group.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_family_are_known() {
        for (name, is_known) in [
            ("dlq.orders", true),
            ("error.orders.billing", true),
            ("orders-dlt", true),
            ("flow-dlq.orders", false),
            ("orders", false),
        ] {
            assert_eq!(is_named_so(name), is_known, "{name}");
        }
    }

    #[test]
    fn a_long_text_is_cut_and_a_short_one_is_not() {
        assert_eq!(short("no chairs left"), "no chairs left");
        assert_eq!(short("no chairs left\nat line 7"), "no chairs left..");
        assert_eq!(short(&"\u{e4}".repeat(100)), format!("{}..", "\u{e4}".repeat(LETTERS_MAX)));
    }
}
