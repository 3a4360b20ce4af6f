//! Where records of `produce` go: a log, or a node as Kafka's clients see it.
//!
//! Invariants
//!   * what was [`taken`](Sink::taken) is acknowledged
//!   * a commit is all or nothing, its cursor included

use crate::failure::Failure;
use crate::produce::Delivery;
use crate::topic::close;
use exactlog::{Bytes, Error, Event, Log, Producer, Refusal, Ticket, TimerId, Topic};
use std::collections::{BTreeMap, VecDeque};

/// What became of records that were handed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) stored: u64,
    /// They were there already.
    pub(crate) repeated: u64,
}

/// What was stored in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoredRange {
    pub(crate) partition: u32,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) records: u64,
}

/// The first and the last timer that was set.
pub(crate) type Timers = Option<(TimerId, TimerId)>;

/// Takes records for one topic.
pub(crate) trait Sink {
    /// Partitions of the topic.
    fn partitions(&self) -> u32;
    /// Hands a record in, without waiting for it to be stored; without a partition its key decides.
    fn submit(&mut self, event: Event, partition: Option<u32>) -> Result<(), Failure>;
    /// Records that were handed in and aren't acknowledged.
    fn in_flight(&self) -> usize;
    /// Waits until that are at most so many.
    fn settle(&mut self, most: usize) -> Result<(), Failure>;
    /// What was acknowledged since this was asked last.
    fn taken(&mut self) -> Taken;
    /// The name that the cursor is kept under.
    fn name(&self) -> &str;
    /// The cursor of the last commit that had one.
    fn cursor(&self) -> Option<Bytes>;
    /// Stores records, each for its partition or by its key, and the cursor: all of it or nothing. If one of them is
    /// what is wrong, its index is told.
    fn commit(
        &mut self,
        records: Vec<(Event, Option<u32>)>,
        cursor: Option<String>,
    ) -> Result<Timers, (Option<usize>, Failure)>;
    /// Where all of it is.
    fn stored(&self) -> Result<Vec<StoredRange>, Failure>;
    fn close(self: Box<Self>) -> Result<(), Failure>;
}

/// A log: that of a directory, or of a node as if it were one.
pub(crate) struct Local {
    log: Log,
    topic: Topic,
    producer: Producer,
    delivery: Delivery,
    tickets: VecDeque<Ticket>,
    taken: Taken,
    stored: Stored,
}

/// How it is known what was stored.
enum Stored {
    /// Nobody else writes meanwhile: it is what lies behind these ends afterwards.
    Behind(Vec<u64>),
    /// By receipts, of each partition.
    Told(BTreeMap<u32, StoredRange>),
}

impl Stored {
    fn add(&mut self, partition: u32, offset: u64) {
        let Stored::Told(ranges) = self else { return };
        let one = StoredRange { partition, first: offset, last: offset, records: 0 };
        let range = ranges.entry(partition).or_insert(one);
        (range.first, range.last) = (range.first.min(offset), range.last.max(offset));
        range.records += 1;
    }
}

impl Local {
    pub(crate) fn new(
        log: Log,
        topic: Topic,
        producer: Producer,
        delivery: Delivery,
        is_alone: bool,
    ) -> Result<Local, Failure> {
        let stored = match is_alone {
            true => Stored::Behind(ends(&log, &topic)?),
            false => Stored::Told(BTreeMap::new()),
        };
        let (tickets, taken) = (VecDeque::new(), Taken::default());
        Ok(Local { log, topic, producer, delivery, tickets, taken, stored })
    }

    /// What chooses the partition itself goes in a transaction of its own.
    fn send_to(&mut self, partition: u32, event: Event) -> Result<(), Failure> {
        let mut transaction = self.producer.begin();
        transaction.send_to(&self.topic, partition, event)?;
        match transaction.blocking_commit() {
            Ok(receipt) => {
                self.taken.stored += 1;
                receipt.base_offsets.iter().for_each(|(_, offset)| self.stored.add(partition, *offset));
            }
            Err(Error::Refused(Refusal::EventSeen { .. })) => self.taken.repeated += 1,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

fn ends(log: &Log, topic: &Topic) -> Result<Vec<u64>, Failure> {
    Ok(log.partitions(topic)?.iter().map(|partition| partition.end).collect())
}

impl Sink for Local {
    fn partitions(&self) -> u32 {
        self.topic.partitions()
    }

    fn submit(&mut self, event: Event, partition: Option<u32>) -> Result<(), Failure> {
        if let Some(partition) = partition {
            // In its turn.
            self.settle(0)?;
            return self.send_to(partition, event);
        }
        self.tickets.push_back(self.producer.blocking_submit(&self.topic, event)?);
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.tickets.len()
    }

    fn settle(&mut self, most: usize) -> Result<(), Failure> {
        while self.tickets.len() > most {
            let Some(ticket) = self.tickets.pop_front() else { break };
            let receipt = ticket.wait()?;
            if receipt.duplicate {
                self.taken.repeated += 1;
                continue;
            }
            self.taken.stored += 1;
            self.stored.add(receipt.partition, receipt.offset);
        }
        Ok(())
    }

    fn taken(&mut self) -> Taken {
        std::mem::take(&mut self.taken)
    }

    fn name(&self) -> &str {
        self.producer.name()
    }

    fn cursor(&self) -> Option<Bytes> {
        self.producer.cursor().cloned()
    }

    fn commit(
        &mut self,
        records: Vec<(Event, Option<u32>)>,
        cursor: Option<String>,
    ) -> Result<Timers, (Option<usize>, Failure)> {
        let (topic, delivery) = (&self.topic, self.delivery);
        let mut transaction = self.producer.begin();
        for (at, (event, partition)) in records.into_iter().enumerate() {
            let sent = match (delivery, partition) {
                (Delivery::Now, Some(partition)) => transaction.send_to(topic, partition, event),
                (Delivery::Now, None) => transaction.send(topic, event),
                (Delivery::After(delay), _) => transaction.send_after(topic, event, delay),
                (Delivery::At(when), _) => transaction.send_at(topic, event, when),
            };
            sent.map_err(|error| (Some(at), Failure::from(error)))?;
        }
        let whole = |error: Error| (None, Failure::from(error));
        if let Some(cursor) = cursor {
            transaction.set_cursor(cursor).map_err(whole)?;
        }
        let receipt = transaction.blocking_commit().map_err(whole)?;
        Ok(receipt.timers.first().copied().zip(receipt.timers.last().copied()))
    }

    fn stored(&self) -> Result<Vec<StoredRange>, Failure> {
        let before = match &self.stored {
            Stored::Behind(before) => before,
            Stored::Told(ranges) => return Ok(ranges.values().copied().collect()),
        };
        let after = ends(&self.log, &self.topic)?;
        let grown = before.iter().zip(after).zip(0..).filter(|((before, after), _)| after > before);
        let range = |((before, after), partition): ((&u64, u64), u32)| StoredRange {
            partition,
            first: *before,
            last: after - 1,
            records: after - before,
        };
        Ok(grown.map(range).collect())
    }

    fn close(self: Box<Self>) -> Result<(), Failure> {
        let Local { log, producer, .. } = *self;
        drop(producer);
        close(log)
    }
}
