//! `produce`: records from standard input into a topic.
//!
//! ```text
//!   a thread reads and splits the input -> bounded channel -> plain:       many tickets in flight
//!                                                             --event-id:  the same; of each id the first counts
//!                                                             --txn:       N records and the cursor, at once
//! ```
//!
//! Where they go is a [`Sink`]: the log of a directory, or a node.
//!
//! The cursor of `--txn` is how many records of the input were taken, and a hash over them. Started again, the records
//! that it counts are read and left out; if they aren't the ones that were taken, nothing is written.
//!
//! Invariants
//!   * what was reported as stored is acknowledged; a record that can't be read ends it, and those before it are stored
//!   * with `--txn` each record of the input is in the topic once, however often it is killed and started again, and so
//!     is each id with `--event-id`, whichever input it is in

use crate::args::{Global, Produce};
use crate::event_id::Source;
use crate::failure::Failure;
use crate::input::{Item, Layout};
use crate::interrupt;
use crate::node::{Node, Remote};
use crate::offsets::time;
use crate::open;
use crate::place;
use crate::report::{Column, Report, column};
use crate::sink::{Local, Sink, StoredRange, Taken};
use crate::template::unescape;
use crate::texts::{count, were};
use exactlog::{Bytes, Event, TimerId};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::io::{self, BufReader};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, SystemTime};

/// How many names those have who send to a topic of a node.
const NAMES: u32 = 997;

/// Records that were read and not yet taken.
const READ_AHEAD: usize = 4096;

/// Tickets that are kept.
const IN_FLIGHT: usize = 10_000;

/// Records in one transaction where one is made only to choose the partition.
const RECORDS_PER_COMMIT: u32 = 1_000;

/// About how many bytes of records go into one transaction at most; a log takes up to 16 MiB.
const TRANSACTION_BYTES: usize = 8 * 1024 * 1024;

/// How often Ctrl-C is looked for while the input is silent.
const LOOK_AROUND: Duration = Duration::from_millis(50);

const STORED: &[Column] =
    &[column("topic"), column("partition"), column("first_offset"), column("last_offset"), column("records")];

pub(crate) fn run(global: &Global, arguments: &Produce) -> Result<Report, Failure> {
    let layout = layout(arguments)?;
    let dressing = Dressing::of(arguments)?;
    let delivery = Delivery::of(arguments)?;
    // Kafka's protocol knows neither ids nor times: those go over a connection of exactlog's own.
    let is_of_exactlog = arguments.event_id.is_some() || delivery != Delivery::Now;
    let mut sink: Box<dyn Sink> = match &global.bootstrap {
        Some(address) if !is_of_exactlog => Box::new(remote(global, address, arguments)?),
        _ => Box::new(local(global, arguments, delivery)?),
    };
    interrupt::watch();
    let records = Records { items: read_input(layout)?, number: 0, put_back: None, dressing };
    let mut work = Work {
        sink: &mut *sink,
        records,
        tally: Tally { records: 0, skipped: 0, timers: None, progress: progress(global) },
        partition: arguments.partition,
        is_delayed: delivery != Delivery::Now,
    };
    let ended = match arguments.txn {
        Some(size) => work.in_transactions(size, true),
        // A transaction is what chooses a time, and in a directory the partition.
        None if work.is_delayed || (global.bootstrap.is_none() && arguments.partition.is_some()) => {
            work.in_transactions(RECORDS_PER_COMMIT, false)
        }
        None => work.plainly(),
    };
    let Work { tally, .. } = work;
    let stored = sink.stored();
    let closed = sink.close();
    finish(global, &arguments.topic, (tally, stored?), (ended, closed))
}

/// Into the log of a directory, or of a node as if it were one.
fn local(global: &Global, arguments: &Produce, delivery: Delivery) -> Result<Local, Failure> {
    let log = open::write_existing(global)?;
    let topic = open::topic(&log, &arguments.topic)?;
    if let Some(partition) = arguments.partition {
        open::partitions(&topic, Some(partition))?;
    }
    let is_alone = global.bootstrap.is_none();
    let name = match is_alone || arguments.txn.is_some() {
        true => producer_name(arguments),
        // Others may send to a node at the same time, and one of the same name would fence them; but a log keeps each
        // name for ever, so there are only so many. Who is fenced all the same is told, and may begin anew.
        false => fitting(&format!("send-{}", now_nanos() % NAMES), &arguments.topic),
    };
    let producer = log.producer(&name)?;
    Local::new(log, topic, producer, delivery, is_alone)
}

fn now_nanos() -> u32 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.subsec_nanos())
}

/// To a node.
fn remote(global: &Global, address: &str, arguments: &Produce) -> Result<Remote, Failure> {
    let node = Node::connect(global, address)?;
    let topic = place::topic(&node, &arguments.topic)?;
    if let Some(partition) = arguments.partition {
        place::partitions(&topic, Some(partition))?;
    }
    match arguments.txn {
        Some(_) => Remote::transactional(node, topic, producer_name(arguments)),
        None => Remote::idempotent(node, topic),
    }
}

fn producer_name(arguments: &Produce) -> String {
    match (&arguments.txn_id, arguments.txn) {
        (Some(name), _) => name.clone(),
        // The position is kept under the name, so plain sending has another one.
        (None, Some(_)) => fitting("produce", &arguments.topic),
        (None, None) => fitting("send", &arguments.topic),
    }
}

/// A legal name; of one that is too long the beginning.
fn fitting(verb: &str, topic: &str) -> String {
    format!("{verb}-{topic}").chars().take(249).collect()
}

fn finish(
    global: &Global,
    topic: &str,
    (tally, stored): (Tally, Vec<StoredRange>),
    (ended, closed): (Result<Ended, Failure>, Result<(), Failure>),
) -> Result<Report, Failure> {
    tally.progress.finish_and_clear();
    let summary = format!("{} stored in {topic}", count(tally.records, "record"));
    let skipped = match tally.skipped {
        0 => String::new(),
        skipped => format!(", {} there already", were(skipped)),
    };
    if !global.quiet {
        eprintln!("{summary}{skipped}");
    }
    let ended = match ended {
        Ok(ended) => ended,
        Err(failure) => {
            let message = format!("{}; {summary} before it", failure.message);
            return Err(Failure { message, ..failure });
        }
    };
    closed?;
    let row = |it: &StoredRange| {
        vec![json!(topic), json!(it.partition), json!(it.first), json!(it.last), json!(it.records)]
    };
    let mut report = Report::table("stored", STORED, stored.iter().map(row).collect());
    if let Some((first, last)) = tally.timers {
        report = report.field("first_timer", first.0).field("last_timer", last.0);
    }
    let report = report
        .field("records", tally.records)
        .field("already_stored", tally.skipped)
        .field("interrupted", ended == Ended::Interrupted);
    Ok(if ended == Ended::Interrupted { report.exit(interrupt::EXIT) } else { report })
}

fn layout(arguments: &Produce) -> Result<Layout, Failure> {
    let usage = |error| Failure::usage(error).hint("exactlog --format help shows how records are written");
    match (&arguments.separator, arguments.input.as_deref()) {
        (Some(separator), _) => {
            let separator = unescape(separator).map_err(usage)?;
            match separator.is_empty() {
                true => Err(Failure::usage("the separator of --key-separator is empty")),
                false => Ok(Layout::Lines(Some(separator))),
            }
        }
        (None, None) => Ok(Layout::Lines(None)),
        (None, Some("json")) => Ok(Layout::Json),
        (None, Some(template)) => Layout::template(template).map_err(usage),
    }
}

/// When records come into the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    Now,
    After(Duration),
    At(SystemTime),
}

impl Delivery {
    fn of(arguments: &Produce) -> Result<Delivery, Failure> {
        let Some(text) = &arguments.deliver_at else {
            return Ok(arguments.deliver_after.map_or(Delivery::Now, Delivery::After));
        };
        let ms = time(text, open::now_ms()).and_then(|ms| u64::try_from(ms).ok());
        let ms = ms.ok_or_else(|| {
            Failure::usage(format!("{text:?} is no time"))
                .hint("2026-01-31T12:00:00Z, 2026-01-31, 1769817600")
        })?;
        Ok(Delivery::At(SystemTime::UNIX_EPOCH + Duration::from_millis(ms)))
    }
}

/// What every record gets besides what the input says.
#[derive(Debug)]
struct Dressing {
    key: Option<Bytes>,
    headers: Vec<(String, Option<Bytes>)>,
    event_id: Option<Source>,
}

impl Dressing {
    fn of(arguments: &Produce) -> Result<Dressing, Failure> {
        let header = |text: &String| match text.split_once(':') {
            Some((name, value)) if !name.is_empty() => {
                Ok((name.to_string(), Some(Bytes::from(value.to_string()))))
            }
            _ => Err(Failure::usage(format!("header {text:?} isn't NAME:VALUE"))),
        };
        Ok(Dressing {
            key: arguments.key.clone().map(Bytes::from),
            headers: arguments.headers.iter().map(header).collect::<Result<_, _>>()?,
            event_id: arguments.event_id.as_deref().map(Source::parse).transpose().map_err(Failure::usage)?,
        })
    }

    fn put_on(&self, event: &mut Event) -> Result<(), String> {
        if let Some(key) = &self.key {
            event.key = Some(key.clone());
        }
        event.headers.extend(self.headers.iter().cloned());
        event.id = self.event_id.as_ref().map(|source| source.id_of(event)).transpose()?;
        Ok(())
    }
}

type Read = io::Result<Result<Item, String>>;

/// Reads on a thread of its own, so that Ctrl-C is heard while the input is silent. A record that can't be read is the
/// last one.
fn read_input(layout: Layout) -> Result<Receiver<Read>, Failure> {
    let (send, receive) = sync_channel(READ_AHEAD);
    let reads = move || read_all(&layout, &send);
    let thread = std::thread::Builder::new().name("exactlog-input".into()).spawn(reads);
    thread.map(|_| receive).map_err(|error| Failure::new("OTHER", format!("start a thread: {error}")))
}

fn read_all(layout: &Layout, send: &SyncSender<Read>) {
    let mut input = BufReader::with_capacity(1 << 16, io::stdin());
    loop {
        let read = match layout.next(&mut input) {
            Ok(None) => return,
            Ok(Some(item)) => Ok(item),
            Err(error) => Err(error),
        };
        let is_last = !matches!(read, Ok(Ok(_)));
        // Nobody listens any more: it was interrupted.
        if send.send(read).is_err() || is_last {
            return;
        }
    }
}

#[derive(Debug)]
struct Records {
    items: Receiver<Read>,
    /// Of the record that was read last, from 1.
    number: u64,
    /// A record whose turn comes again.
    put_back: Option<Item>,
    dressing: Dressing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Input,
    Interrupted,
}

impl Records {
    /// Makes the record that was read last the next one.
    fn put_back(&mut self, item: Item) {
        self.number -= 1;
        self.put_back = Some(item);
    }

    /// The next record, or why there is none.
    fn next(&mut self) -> Result<Result<Item, Ended>, Failure> {
        loop {
            if let Some(next) = self.next_or_silence()? {
                return Ok(next);
            }
        }
    }

    /// The same; nothing while the input is silent.
    fn next_or_silence(&mut self) -> Result<Option<Result<Item, Ended>>, Failure> {
        if interrupt::asked() {
            return Ok(Some(Err(Ended::Interrupted)));
        }
        if let Some(item) = self.put_back.take() {
            self.number += 1;
            return Ok(Some(Ok(item)));
        }
        let read = match self.items.recv_timeout(LOOK_AROUND) {
            Ok(Ok(read)) => read,
            Ok(Err(error)) => return Err(Failure::new("INPUT", format!("read standard input: {error}"))),
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Err(RecvTimeoutError::Disconnected) => return Ok(Some(Err(Ended::Input))),
        };
        let dressed = read.and_then(|mut item| {
            self.dressing.put_on(&mut item.event)?;
            Ok(item)
        });
        let item = dressed.map_err(|error| {
            let what = format!("record {} of the input: {error}", self.number + 1);
            Failure::new("INPUT", what)
        })?;
        self.number += 1;
        Ok(Some(Ok(item)))
    }
}

/// What was stored.
#[derive(Debug)]
struct Tally {
    records: u64,
    skipped: u64,
    /// The first and the last timer that was set.
    timers: Option<(TimerId, TimerId)>,
    progress: ProgressBar,
}

impl Tally {
    fn add(&mut self, records: u64) {
        self.records += records;
        self.progress.set_position(self.records);
    }
}

fn progress(global: &Global) -> ProgressBar {
    if !open::shows_progress(global) {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("{spinner} {human_pos} records, {per_sec}");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
}

struct Work<'a> {
    sink: &'a mut dyn Sink,
    records: Records,
    tally: Tally,
    partition: Option<u32>,
    is_delayed: bool,
}

impl Work<'_> {
    fn plainly(&mut self) -> Result<Ended, Failure> {
        let ended = loop {
            let next = match self.records.next_or_silence() {
                Ok(next) => next,
                Err(failure) => break Err(failure),
            };
            let item = match next {
                Some(Ok(item)) => item,
                Some(Err(ended)) => break Ok(ended),
                // Nothing waits for company that may not come.
                None => match self.settle(0) {
                    Ok(()) => continue,
                    Err(failure) => break Err(failure),
                },
            };
            if let Err(failure) = self.sink.submit(item.event, self.partition.or(item.partition)) {
                break Err(self.refused(self.records.number, failure));
            }
            if self.sink.in_flight() >= IN_FLIGHT
                && let Err(failure) = self.settle(IN_FLIGHT / 2)
            {
                break Err(failure);
            }
        };
        // Also behind a failure: what is in flight is stored, and counts.
        let settled = self.settle(0);
        ended.and_then(|ended| settled.map(|()| ended))
    }

    fn settle(&mut self, most: usize) -> Result<(), Failure> {
        let settled = self.sink.settle(most);
        let Taken { stored, repeated } = self.sink.taken();
        self.tally.add(stored);
        self.tally.skipped += repeated;
        settled
    }

    fn refused(&self, number: u64, failure: Failure) -> Failure {
        let message = format!("record {number} of the input: {}", failure.message);
        Failure { message, ..failure }
    }

    /// `resumes`: the producer's cursor says how much of the input is there already.
    fn in_transactions(&mut self, size: u32, resumes: bool) -> Result<Ended, Failure> {
        let mut cursor = Cursor::default();
        if resumes && let Some(ended) = self.skip(&mut cursor)? {
            return Ok(ended);
        }
        loop {
            let (gathered, ended) = self.gather(size);
            if !gathered.is_empty() {
                self.commit(gathered, &mut cursor, resumes)?;
            }
            match ended {
                Ok(None) => {}
                Ok(Some(ended)) => return Ok(ended),
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Reads what the cursor counts.
    fn skip(&mut self, cursor: &mut Cursor) -> Result<Option<Ended>, Failure> {
        let Some(bytes) = self.sink.cursor() else { return Ok(None) };
        let name = self.sink.name().to_string();
        let other = |what: String| {
            Failure::new("INPUT", format!("producer {name:?} has begun with another input: {what}"))
                .hint("--txn-id NAME begins anew under another name")
        };
        let there = Cursor::parse(&bytes)
            .ok_or_else(|| other(format!("its cursor is {:?}", String::from_utf8_lossy(&bytes))))?;
        while cursor.records < there.records {
            match self.records.next()? {
                Ok(item) => {
                    cursor.take(&item);
                }
                Err(Ended::Interrupted) => return Ok(Some(Ended::Interrupted)),
                Err(Ended::Input) => {
                    let (taken, has) = (there.records, cursor.records);
                    return Err(other(format!("{} taken of it, and this one has {has}", were(taken))));
                }
            }
        }
        if *cursor != there {
            return Err(other(match there.records {
                1 => "its first record was another".to_string(),
                records => format!("its first {records} records were others"),
            }));
        }
        self.tally.skipped = there.records;
        Ok(None)
    }

    /// Records for the next transaction, and whether they are the last.
    ///
    /// As many as were asked for, or fewer, if more would be larger than a transaction may be.
    fn gather(&mut self, size: u32) -> (Vec<Item>, Result<Option<Ended>, Failure>) {
        let (mut gathered, mut bytes) = (Vec::new(), 0);
        while gathered.len() < size as usize {
            match self.records.next() {
                Ok(Ok(item)) => {
                    bytes += item.len_bytes();
                    if bytes > TRANSACTION_BYTES && !gathered.is_empty() {
                        self.records.put_back(item);
                        break;
                    }
                    gathered.push(item);
                }
                // An interrupted one is left out: it comes again.
                Ok(Err(Ended::Interrupted)) => return (Vec::new(), Ok(Some(Ended::Interrupted))),
                Ok(Err(ended)) => return (gathered, Ok(Some(ended))),
                Err(failure) => return (gathered, Err(failure)),
            }
        }
        (gathered, Ok(None))
    }

    fn commit(&mut self, items: Vec<Item>, cursor: &mut Cursor, resumes: bool) -> Result<(), Failure> {
        let first = self.records.number + 1 - items.len() as u64;
        let mut next = *cursor;
        let records = items.len() as u64;
        // Without a key each transaction goes to the next partition, as a whole: its records keep their order.
        let turn = (cursor.records / items.len().max(1) as u64) % u64::from(self.sink.partitions());
        let turn = u32::try_from(turn).unwrap_or_default();
        let mut outgoing = Vec::with_capacity(items.len());
        for (item, number) in items.into_iter().zip(first..) {
            next.take(&item);
            let keyless = (item.event.key.is_none() && !self.is_delayed).then_some(turn);
            let named = self.partition.or(item.partition);
            if self.is_delayed && named.is_some() {
                let what = "it names a partition, and one that is delivered later goes where its key says";
                return Err(Failure::usage(format!("record {number} of the input: {what}")));
            }
            outgoing.push((item.event, named.or(keyless)));
        }
        let committed = self.sink.commit(outgoing, resumes.then(|| next.text()));
        let timers = committed.map_err(|(at, failure)| match at {
            Some(at) => self.refused(first + at as u64, failure),
            None => failure,
        })?;
        if let Some((first, last)) = timers {
            let first = self.tally.timers.map_or(first, |(first, _)| first);
            self.tally.timers = Some((first, last));
        }
        *cursor = next;
        self.tally.add(records);
        Ok(())
    }
}

/// How much of the input was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursor {
    records: u64,
    /// FNV-1a, 64 bits, over the records.
    hash: u64,
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

impl Default for Cursor {
    fn default() -> Cursor {
        Cursor { records: 0, hash: FNV_OFFSET }
    }
}

impl Cursor {
    fn parse(bytes: &[u8]) -> Option<Cursor> {
        let text = std::str::from_utf8(bytes).ok()?.strip_prefix("input ")?;
        let (records, hash) = text.split_once(' ')?;
        Some(Cursor { records: records.parse().ok()?, hash: u64::from_str_radix(hash, 16).ok()? })
    }

    fn text(self) -> String {
        format!("input {} {:016x}", self.records, self.hash)
    }

    fn take(&mut self, item: &Item) {
        self.records += 1;
        let Item { event, partition } = item;
        self.part(event.key.as_deref());
        self.part(event.value.as_deref());
        for (name, value) in &event.headers {
            self.part(Some(name.as_bytes()));
            self.part(value.as_deref());
        }
        self.part(event.timestamp_ms.map(i64::to_le_bytes).as_ref().map(|bytes| &bytes[..]));
        self.part(partition.map(u32::to_le_bytes).as_ref().map(|bytes| &bytes[..]));
    }

    /// With its length, so that bytes can't move from one part to the next unseen.
    fn part(&mut self, bytes: Option<&[u8]>) {
        let len = bytes.map_or(u64::MAX, |bytes| bytes.len() as u64).to_le_bytes();
        for byte in len.iter().chain(bytes.unwrap_or_default()) {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn item(key: &'static str, value: &'static str) -> Item {
        Item { event: Event::new(key, value), partition: None }
    }

    #[test]
    fn a_cursor_is_read_back_and_tells_inputs_apart() {
        let mut cursor = Cursor::default();
        cursor.take(&item("a", "bc"));
        assert_eq!(Cursor::parse(cursor.text().as_bytes()), Some(cursor));
        for other in [item("ab", "c"), item("a", "bd"), Item { partition: Some(0), ..item("a", "bc") }] {
            let mut different = Cursor::default();
            different.take(&other);
            assert_ne!(different, cursor, "{other:?}");
        }
        for text in ["", "input", "input 1", "input x 0", "input 1 0 0"] {
            assert_eq!(Cursor::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn the_hash_is_the_published_one() {
        let mut cursor = Cursor { hash: FNV_OFFSET, records: 0 };
        for byte in b"foobar" {
            cursor.hash = (cursor.hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
        }
        assert_eq!(cursor.hash, 0x8594_4171_f739_67e8);
    }
}
