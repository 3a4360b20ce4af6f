//! Copying records from one topic into another: each once, byte for byte, whatever is killed.
//!
//! ```text
//!   partitions -> merged by time -> N records, the positions behind them, the mark: one transaction -> the next
//! ```
//!
//! Records of one key may lie in several partitions, where a topic got more of them. So the partitions are read side by
//! side, and always the oldest of their next records is taken. What is taken goes where its key says; records without a
//! key are dealt out in turn.
//!
//! Invariants
//!   * the positions of a group, which nobody else uses, are those behind what is in the target: they move with it
//!   * records of one source partition keep their order wherever they go to one partition
//!   * a transaction is compressed with one codec: the one that was asked for, or that which most of its bytes had

use crate::args::Codec;
use crate::batches::Batches;
use crate::failure::Failure;
use crate::interrupt;
use crate::open;
use crate::texts::count;
use exactlog::{Compression, Error, Log, Producer, ReadView, Record, SeekTo, Topic, Transaction};
use indicatif::{ProgressBar, ProgressStyle};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// About how many bytes of records go into one transaction.
const TRANSACTION_BYTES: usize = 4 << 20;

/// About how much is read ahead, of all partitions together, and at least of each.
const AHEAD_BYTES: usize = 32 << 20;
const AHEAD_BYTES_MIN: usize = 16 << 10;

/// One copy of one topic.
pub(crate) struct Copying<'a> {
    pub(crate) log: &'a Log,
    pub(crate) from: &'a Topic,
    pub(crate) into: &'a Topic,
    /// Whose positions say how far it is.
    pub(crate) group: &'a str,
    /// Behind the last record of each partition; without it wherever that is.
    pub(crate) ends: Option<Vec<u64>>,
    /// Records of one transaction.
    pub(crate) records_max: u32,
    pub(crate) codec: Codec,
    /// Records that are in the target.
    pub(crate) copied: u64,
    pub(crate) progress: ProgressBar,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    End,
    Interrupted,
}

impl Copying<'_> {
    /// Copies what is left. `mark` is what the producer's cursor says when so many records are in the target.
    pub(crate) fn run(
        &mut self,
        producer: &mut Producer,
        mark: impl Fn(u64) -> String,
    ) -> Result<Ended, Failure> {
        loop {
            let view = self.log.read_view();
            let mut merge = self.merge(&view)?;
            let before = self.copied;
            loop {
                if interrupt::asked() {
                    return Ok(Ended::Interrupted);
                }
                if !self.transaction(&mut merge, producer, &mark)? {
                    break;
                }
            }
            // Events that were to be delivered later may have come meanwhile.
            if self.copied == before || self.ends.is_some() {
                return Ok(Ended::End);
            }
        }
    }

    fn merge<'v>(&self, view: &'v ReadView) -> Result<Merge<'v>, Failure> {
        let piece_bytes = (AHEAD_BYTES / self.from.partitions() as usize).max(AHEAD_BYTES_MIN);
        let mut merge = Merge { sources: Vec::new(), queue: BinaryHeap::new() };
        for partition in 0..self.from.partitions() {
            let end = view.end(self.from, partition)?;
            let to = self.ends.as_ref().map_or(end, |ends| ends[partition as usize].min(end));
            let (start, _) = self.log.bounds(self.from, partition)?;
            let next = self.log.committed(self.group, self.from, partition).unwrap_or(start);
            let batches = Batches::new(self.codec == Codec::Source);
            let place = (self.from.clone(), partition, next, to);
            merge.sources.push(Source::new(view, place, piece_bytes, batches));
            merge.refill(partition)?;
        }
        Ok(merge)
    }

    /// Commits the next records; false if there are none.
    fn transaction(
        &mut self,
        merge: &mut Merge<'_>,
        producer: &mut Producer,
        mark: impl Fn(u64) -> String,
    ) -> Result<bool, Failure> {
        let mut transaction = producer.begin();
        let (mut records, mut bytes, mut positions) = (0, 0, BTreeMap::new());
        let mut codecs = Codecs::default();
        while records < self.records_max && bytes < TRANSACTION_BYTES {
            let Some((record, codec)) = merge.head() else { break };
            let to = |offset| SeekTo { topic: self.from.clone(), partition: record.partition, offset };
            // The room for the position is taken first: where it is, is said when the transaction is full.
            let is_new = !positions.contains_key(&record.partition);
            let room = match is_new {
                true => transaction.seek_group(self.group, &[to(record.offset)]),
                false => Ok(()),
            };
            match room.and_then(|()| send(&mut transaction, self.into, record)) {
                Err(Error::TransactionTooLarge { .. }) if records > 0 => break,
                sent => sent.map_err(|error| named(record, error.into()))?,
            }
            positions.insert(record.partition, to(record.offset + 1));
            let record_bytes = record.key().len() + record.value().len();
            codecs.count(codec, record_bytes);
            bytes += record_bytes;
            records += 1;
            merge.advance()?;
        }
        if records == 0 {
            return Ok(false);
        }
        transaction.seek_group(self.group, &positions.into_values().collect::<Vec<_>>())?;
        transaction.set_cursor(mark(self.copied + u64::from(records)))?;
        transaction.set_compression(self.codec.fixed().unwrap_or(codecs.most()))?;
        transaction.blocking_commit()?;
        self.copied += u64::from(records);
        self.progress.inc(records.into());
        Ok(true)
    }
}

/// How many bytes of a transaction came in which codec.
#[derive(Debug, Default)]
struct Codecs(Vec<(Compression, usize)>);

impl Codecs {
    fn count(&mut self, codec: Compression, bytes: usize) {
        match self.0.iter_mut().find(|(known, _)| *known == codec) {
            Some((_, sum)) => *sum += bytes,
            None => self.0.push((codec, bytes)),
        }
    }

    /// The codec of most of them; of equals the first that came.
    fn most(&self) -> Compression {
        let most = self.0.iter().rev().max_by_key(|(_, bytes)| *bytes);
        most.map_or(Compression::None, |(codec, _)| *codec)
    }
}

/// The same record in another topic: where its key says, else in turn.
fn send(transaction: &mut Transaction<'_>, into: &Topic, record: &Record) -> Result<(), Error> {
    match record.key {
        Some(_) => transaction.forward(into, record),
        None => {
            let turn = record.offset.wrapping_add(record.partition.into()) % u64::from(into.partitions());
            transaction.forward_to(into, turn as u32, record)
        }
    }
}

pub(crate) fn is_table(log: &Log, topic: &Topic) -> bool {
    log.tables().iter().any(|table| table.topic().id() == topic.id())
}

fn named(record: &Record, failure: Failure) -> Failure {
    let Record { topic, partition, offset, .. } = record;
    let message = format!("{topic} partition {partition} offset {offset}: {}", failure.message);
    Failure { message, ..failure }
}

/// One partition that is read.
struct Source<'v> {
    view: &'v ReadView,
    topic: Topic,
    partition: u32,
    /// What is read next.
    next: u64,
    to: u64,
    piece_bytes: usize,
    ready: std::vec::IntoIter<Record>,
    /// With the codec that it has, if that is asked for.
    head: Option<(Record, Compression)>,
    batches: Batches,
}

impl<'v> Source<'v> {
    fn new(
        view: &'v ReadView,
        (topic, partition, next, to): (Topic, u32, u64, u64),
        piece_bytes: usize,
        batches: Batches,
    ) -> Source<'v> {
        let ready = Vec::new().into_iter();
        Source { view, topic, partition, next, to, piece_bytes, ready, head: None, batches }
    }

    /// Makes the record behind the one that was the head the new one.
    fn advance(&mut self) -> Result<(), Failure> {
        let Some(record) = self.next_record()? else {
            self.head = None;
            return Ok(());
        };
        let batch = self.batches.of(self.view, &self.topic, self.partition, record.offset)?;
        self.head = Some((record, batch.map_or(Compression::None, |batch| batch.compression)));
        Ok(())
    }

    fn next_record(&mut self) -> Result<Option<Record>, Failure> {
        let mut record = self.ready.next();
        while record.is_none() && self.next < self.to {
            let records = match self.view.read(&self.topic, self.partition, self.next, self.piece_bytes) {
                Err(Error::RecordsLost { from, to, .. }) => {
                    let topic = self.topic.name();
                    eprintln!(
                        "note: {topic} partition {}: records {from} to {to} were trimmed",
                        self.partition
                    );
                    self.next = to;
                    continue;
                }
                read => read?,
            };
            self.next = records.last().map_or(self.to, |last| last.offset + 1);
            self.ready = records.into_iter();
            record = self.ready.next();
        }
        if record.as_ref().is_some_and(|record| record.offset >= self.to) {
            (record, self.next) = (None, self.to);
        }
        Ok(record)
    }
}

/// All partitions, by the time of their next records.
struct Merge<'v> {
    sources: Vec<Source<'v>>,
    queue: BinaryHeap<Reverse<(i64, u32)>>,
}

impl Merge<'_> {
    fn head(&self) -> Option<(&Record, Compression)> {
        let Reverse((_, partition)) = self.queue.peek()?;
        self.sources[*partition as usize].head.as_ref().map(|(record, codec)| (record, *codec))
    }

    fn advance(&mut self) -> Result<(), Failure> {
        match self.queue.pop() {
            Some(Reverse((_, partition))) => self.refill(partition),
            None => Ok(()),
        }
    }

    fn refill(&mut self, partition: u32) -> Result<(), Failure> {
        let source = &mut self.sources[partition as usize];
        source.advance()?;
        self.queue.extend(source.head.as_ref().map(|(head, _)| Reverse((head.timestamp_ms, partition))));
        Ok(())
    }
}

/// A hash of a name for names of producers and groups: those have a limit.
pub(crate) fn hash(text: &str) -> u64 {
    // FNV-1a, 64 bits.
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// What the cursor of a producer says, without opening it.
pub(crate) fn cursor_of(log: &Log, producer: &str) -> Option<String> {
    let producers = log.producers();
    let found = producers.into_iter().find(|it| it.name == producer)?;
    found.cursor.map(|cursor| String::from_utf8_lossy(&cursor).into_owned())
}

/// Refuses while wire transactions are open: what they will have committed would be left out.
pub(crate) fn check_decided(log: &Log) -> Result<(), Failure> {
    match log.metrics().open_transactions {
        0 => Ok(()),
        open => {
            let are = if open == 1 { "is" } else { "are" };
            let open = count(open, "transaction");
            let failure = Failure::new("REFUSED", format!("{open} of Kafka's producers {are} open"));
            Err(failure.hint("wait until that has ended, or timed out"))
        }
    }
}

pub(crate) fn progress(global: &crate::args::Global, records: u64) -> ProgressBar {
    if !open::shows_progress(global) {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(records);
    let style =
        ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} records, {per_sec}, {eta} left");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
}

/// Forgets a group that has done its work, or never began.
pub(crate) fn forget(log: &Log, group: &str) -> Result<(), Failure> {
    match log.group(group) {
        None => Ok(()),
        Some(_) => log.delete_group(group).map(|_| ()).map_err(Failure::from),
    }
}
