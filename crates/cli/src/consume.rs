//! `consume`: records of topics, to standard output.
//!
//! ```text
//!   without a group   a look at the log; partition by partition, up to the end as it was then; nothing is written
//!   with a group      a member of it: what was written to stdout is committed then, so at least once
//!   --follow          goes on at the end: with a group it waits, without one it looks again and again
//!   at a node         the same: fetched, and as a member of a consumer group (KIP-848)
//! ```

use crate::args::{Consume, Global};
use crate::batches::Batches;
use crate::envelope;
use crate::failure::Failure;
use crate::interrupt;
use crate::node::{ASSIGNED_WITHIN, Member, Node};
use crate::offsets::{Offsets, Resolved};
use crate::open;
use crate::place::{self, Place, Reading, TopicFacts};
use crate::report::{Format, Report, tsv_row};
use crate::template::{Around, Template};
use crate::texts::count;
use crate::topic::close;
use crate::yaml;
use exactlog::{Batch, BatchDetails, Error, Log, Record, SeekTo, Start, Topic};
use regex::bytes::Regex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{StdoutLock, Write};
use std::thread;
use std::time::{Duration, Instant};

/// How long it waits for news before it looks around.
const WAIT: Duration = Duration::from_millis(100);

/// How often in a row nothing may be read, since somebody who writes there has moved it.
const LOOKS_MAX: u32 = 20;

/// Records of a poll.
const POLL_RECORDS: u64 = 500;

pub(crate) fn run(global: &Global, arguments: &Consume) -> Result<Report, Failure> {
    let offsets = match &arguments.offsets {
        None => Offsets::all(),
        Some(text) => Offsets::parse(text, open::now_ms())?,
    };
    let grep = arguments.grep.as_deref().map(Regex::new).transpose();
    let style = style(global, arguments)?;
    let mut batches = Batches::new(style.asks_for_batches());
    let mut sink = Sink {
        style,
        grep: grep.map_err(|error| Failure::usage(format!("--grep: {error}")))?,
        left: arguments.number.unwrap_or(u64::MAX),
        written: 0,
        buffer: Vec::new(),
        out: std::io::stdout().lock(),
    };
    let ended = match (&arguments.group, &global.bootstrap) {
        _ if sink.left == 0 => Ok(Ended::Number),
        (Some(group), Some(address)) => {
            as_remote_member(global, arguments, (address, group), &offsets, &mut sink)
        }
        (Some(group), None) => as_member(global, arguments, group, &offsets, (&mut sink, &mut batches)),
        (None, _) => looking(global, arguments, &offsets, &mut sink),
    };
    let flushed = sink.flush();
    if !global.quiet {
        eprintln!("{}", count(sink.written, "record"));
    }
    let ended = ended?;
    flushed?;
    // -n was reached: whatever was pressed then, it is done.
    Ok(Report::nothing().exit(if ended == Ended::Interrupted { interrupt::EXIT } else { 0 }))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    End,
    Number,
    Interrupted,
}

/// How a record is written.
#[derive(Debug)]
enum Style {
    Template(Template),
    Json,
    Tsv,
    Yaml,
}

impl Style {
    fn asks_for_batches(&self) -> bool {
        matches!(self, Style::Template(template) if template.asks_for_batches())
    }
}

fn style(global: &Global, arguments: &Consume) -> Result<Style, Failure> {
    let template = |text: &str| {
        let parsed = Template::parse(text).map(Style::Template);
        parsed.map_err(|error| {
            Failure::usage(error).hint("exactlog --format help shows how records are written")
        })
    };
    match (arguments.output.as_deref(), global.format) {
        (Some("json"), _) => Ok(Style::Json),
        (Some(text), _) => template(text),
        (None, Format::Json | Format::Jsonl) => Ok(Style::Json),
        (None, Format::Tsv) => Ok(Style::Tsv),
        (None, Format::Yaml) => Ok(Style::Yaml),
        (None, Format::Wide) => template("%t %p %o %d{strftime[%Y-%m-%dT%H:%M:%S%.3fZ]} %k %v\\n"),
        (None, Format::Text | Format::Help) => template("%v\\n"),
    }
}

/// Standard output, and when there is enough in it.
struct Sink {
    style: Style,
    grep: Option<Regex>,
    left: u64,
    written: u64,
    buffer: Vec<u8>,
    out: StdoutLock<'static>,
}

impl Sink {
    /// Writes a record, if it matches; whether more are wanted.
    fn take(
        &mut self,
        record: &Record,
        bounds: (u64, u64),
        batch: Option<BatchDetails>,
    ) -> Result<bool, Failure> {
        let matches = |regex: &Regex| regex.is_match(record.key()) || regex.is_match(record.value());
        if !self.grep.as_ref().is_none_or(matches) {
            return Ok(true);
        }
        self.written += 1;
        self.left -= 1;
        let around = Around { start: bounds.0, end: bounds.1, count: self.written, batch };
        match &self.style {
            Style::Template(template) => template.write(record, around, &mut self.buffer),
            Style::Json => self.buffer.extend(format!("{}\n", envelope::of(record)).as_bytes()),
            Style::Yaml => {
                self.buffer.extend(b"---\n");
                self.buffer.extend(yaml::of(&envelope::of(record)).as_bytes());
            }
            Style::Tsv => {
                let text = |bytes: &Option<exactlog::Bytes>| {
                    bytes.as_ref().map_or(Value::Null, |bytes| json!(String::from_utf8_lossy(bytes)))
                };
                let row = [
                    json!(&*record.topic),
                    json!(record.partition),
                    json!(record.offset),
                    json!(record.timestamp_ms),
                    text(&record.key),
                    text(&record.value),
                ];
                self.buffer.extend(tsv_row(&row).as_bytes());
            }
        }
        if self.buffer.len() >= 1 << 16 {
            self.flush()?;
        }
        Ok(self.left > 0)
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let written = self.out.write_all(&self.buffer).and_then(|()| self.out.flush());
        self.buffer.clear();
        written.map_err(Failure::output)
    }
}

/// A partition that is read without a group.
#[derive(Debug)]
struct Partition {
    topic: TopicFacts,
    index: u32,
    next: u64,
    to: Option<u64>,
}

fn looking(
    global: &Global,
    arguments: &Consume,
    offsets: &Offsets,
    sink: &mut Sink,
) -> Result<Ended, Failure> {
    let begin = |place: &dyn Place| {
        let mut partitions = Vec::new();
        for name in &arguments.topics {
            let topic = place::topic(place, name)?;
            for index in place::partitions(&topic, arguments.partition)? {
                let at_time = |ms| place.first_at_or_after(&topic, index, ms);
                let Resolved { from, to } = offsets.resolve(place.bounds(&topic, index)?, at_time)?;
                partitions.push(Partition { topic: topic.clone(), index, next: from, to });
            }
        }
        Ok(partitions)
    };
    let (mut place, mut partitions) = place::begin(global, begin)?;
    interrupt::watch();
    let how = Reading { uncommitted: arguments.uncommitted, batches: sink.style.asks_for_batches() };
    let mut looks = 0;
    loop {
        let before: u64 = partitions.iter().map(|partition| partition.next).sum();
        match read_to_end(&*place, &mut partitions, how, sink) {
            Ok(Some(ended)) => return Ok(ended),
            Ok(None) => {}
            // Somebody writes there, and has recycled or trimmed what was to be read: it lies elsewhere now.
            Err(failure) if failure.moved && looks < LOOKS_MAX && open::is_held(global) => {
                let after: u64 = partitions.iter().map(|partition| partition.next).sum();
                if after > before {
                    looks = 0;
                } else {
                    looks += 1;
                    thread::sleep(WAIT);
                }
                place = place::renewed(global, place)?;
                continue;
            }
            Err(failure) => return Err(failure),
        }
        looks = 0;
        sink.flush()?;
        let is_done =
            offsets.has_an_end() && partitions.iter().all(|it| it.to.is_some_and(|to| it.next >= to));
        if !arguments.follow || is_done {
            return Ok(Ended::End);
        }
        let after: u64 = partitions.iter().map(|partition| partition.next).sum();
        let since = Instant::now();
        place = place::renewed(global, place)?;
        // A log that takes long to open is looked at less often.
        let pause = if after > before { WAIT } else { WAIT.max(since.elapsed() * 5) };
        thread::sleep(pause);
        if interrupt::asked() {
            return Ok(Ended::Interrupted);
        }
    }
}

/// Each partition up to the end that the log shows, or that was asked for.
fn read_to_end(
    place: &dyn Place,
    partitions: &mut [Partition],
    how: Reading,
    sink: &mut Sink,
) -> Result<Option<Ended>, Failure> {
    for partition in partitions {
        let bounds = place.bounds(&partition.topic, partition.index)?;
        skip_to(partition, bounds.0);
        let to = partition.to.unwrap_or(u64::MAX).min(bounds.1);
        while partition.next < to {
            if interrupt::asked() {
                return Ok(Some(Ended::Interrupted));
            }
            let piece = match place.read(&partition.topic, partition.index, partition.next, how) {
                Err(failure) if failure.lost_up_to.is_some() => {
                    skip_to(partition, failure.lost_up_to.unwrap_or_default());
                    continue;
                }
                Err(failure) if failure.code == "OFFSET_OUT_OF_RANGE" => {
                    let (start, _) = place.bounds(&partition.topic, partition.index)?;
                    if start <= partition.next {
                        return Err(failure);
                    }
                    skip_to(partition, start);
                    continue;
                }
                piece => piece?,
            };
            let mut is_at_end = piece.next <= partition.next;
            for (record, batch) in &piece.records {
                if record.offset >= to {
                    is_at_end = true;
                    break;
                }
                partition.next = record.offset + 1;
                if !sink.take(record, bounds, *batch)? {
                    return Ok(Some(Ended::Number));
                }
            }
            if is_at_end {
                break;
            }
            partition.next = piece.next;
        }
    }
    Ok(None)
}

/// Goes on where a partition begins, if records below it are gone.
fn skip_to(partition: &mut Partition, start: u64) {
    let Partition { topic, index, next, .. } = partition;
    if *next < start {
        eprintln!("note: {} partition {index}: records {next} to {start} were trimmed", topic.name);
        *next = start;
    }
}

/// With a group only the ends can be asked for: it knows its position.
fn start_of(offsets: &Offsets) -> Result<Start, Failure> {
    if offsets.is_start() {
        return Ok(Start::Earliest);
    }
    if offsets.is_end() {
        return Ok(Start::Latest);
    }
    Err(Failure::usage("with --group only -o start and -o end are possible: the group knows its position")
        .hint("exactlog group seek moves a group"))
}

/// As a member of a group at a node.
fn as_remote_member(
    global: &Global,
    arguments: &Consume,
    (address, group): (&str, &str),
    offsets: &Offsets,
    sink: &mut Sink,
) -> Result<Ended, Failure> {
    let start = start_of(offsets)?;
    let node = Node::connect(global, address)?;
    let names = &arguments.topics;
    let topics = names.iter().map(|name| place::topic(&node, name)).collect::<Result<Vec<_>, _>>()?;
    interrupt::watch();
    let mut member = Member::join(&node, group, &topics, start)?;
    let ended = poll(&mut member, arguments.follow, sink);
    let left = member.leave();
    let ended = ended?;
    left.map(|()| ended)
}

fn poll(member: &mut Member<'_>, follow: bool, sink: &mut Sink) -> Result<Ended, Failure> {
    let batches = sink.style.asks_for_batches();
    let mut until = Instant::now() + ASSIGNED_WITHIN;
    loop {
        if interrupt::asked() {
            return Ok(Ended::Interrupted);
        }
        member.beat()?;
        let (mut got, was_settled) = (false, member.is_settled());
        for place in member.places() {
            let Some(polled) = member.read(&place, batches)? else { continue };
            got |= polled.next > polled.from;
            let (mut next, mut wanted) = (polled.next, true);
            for (record, batch) in &polled.records {
                if !sink.take(record, polled.bounds, *batch)? {
                    (next, wanted) = (record.offset + 1, false);
                    break;
                }
            }
            sink.flush()?;
            member.commit(&place, next)?;
            if !wanted {
                return Ok(Ended::Number);
            }
            member.beat()?;
        }
        match (got, follow) {
            (true, _) => until = Instant::now() + ASSIGNED_WITHIN,
            // Who has no partition may still get those that others give back; where there are fewer partitions than
            // members he never does.
            (false, false) if was_settled || Instant::now() >= until => return Ok(Ended::End),
            (false, _) => thread::sleep(WAIT),
        }
    }
}

fn as_member(
    global: &Global,
    arguments: &Consume,
    group: &str,
    offsets: &Offsets,
    (sink, batches): (&mut Sink, &mut Batches),
) -> Result<Ended, Failure> {
    let start = start_of(offsets)?;
    let log = open::write_existing(global)?;
    let topics =
        arguments.topics.iter().map(|name| open::topic(&log, name)).collect::<Result<Vec<_>, _>>()?;
    interrupt::watch();
    let most = usize::try_from(sink.left.min(POLL_RECORDS)).unwrap_or(1);
    let consumer = log.consumer(group).start(start).max_poll_records(most);
    let mut consumer = consumer.subscribe(&topics)?;
    let ended = loop {
        if interrupt::asked() {
            break Ended::Interrupted;
        }
        let batch = match arguments.follow {
            true => consumer.blocking_next_for(WAIT),
            false => consumer.try_next(),
        };
        let batch = match batch {
            Err(Error::RecordsLost { topic, partition, from, to }) => {
                eprintln!("note: {topic} partition {partition}: records {from} to {to} were trimmed");
                continue;
            }
            batch => batch?,
        };
        let Some(batch) = batch else { break Ended::End };
        if batch.is_empty() {
            continue;
        }
        let (done, wanted) = write_poll(&log, &topics, &batch, (sink, batches))?;
        sink.flush()?;
        if wanted {
            batch.blocking_ack()?;
            continue;
        }
        drop(batch);
        drop(consumer);
        commit(&log, group, &done)?;
        close(log)?;
        return Ok(Ended::Number);
    };
    drop(consumer);
    close(log)?;
    Ok(ended)
}

/// Writes records of a poll, of which there may be more than are wanted: what isn't written isn't committed. The
/// positions behind what was written, and whether more are wanted.
fn write_poll(
    log: &Log,
    topics: &[Topic],
    batch: &Batch<'_>,
    (sink, batches): (&mut Sink, &mut Batches),
) -> Result<(Vec<SeekTo>, bool), Failure> {
    let (mut done, mut wanted, view) = (BTreeMap::new(), true, log.read_view());
    for record in batch {
        if !wanted {
            break;
        }
        let topic = topics.iter().find(|topic| topic.name() == &*record.topic);
        let topic = topic.ok_or_else(|| Failure::new("OTHER", "a record of a topic that isn't read"))?;
        let of = batches.of(&view, topic, record.partition, record.offset)?;
        wanted = sink.take(record, log.bounds(topic, record.partition)?, of)?;
        let to = SeekTo { topic: topic.clone(), partition: record.partition, offset: record.offset + 1 };
        done.insert((topic.id(), record.partition), to);
    }
    Ok((done.into_values().collect(), wanted))
}

/// Commits positions of a group that was just left: leaving takes its turn.
fn commit(log: &Log, group: &str, positions: &[SeekTo]) -> Result<(), Failure> {
    const TRIES: u32 = 500;
    for _ in 1..TRIES {
        match log.seek_group(group, positions) {
            Err(Error::GroupActive { .. }) => thread::sleep(Duration::from_millis(2)),
            done => return Ok(done?),
        }
    }
    Ok(log.seek_group(group, positions)?)
}
