//! The embedded transaction: outputs, consumed positions and a cursor at one position of the log, or nowhere.
//!
//! Until `commit` everything lies in memory: a transaction that is dropped leaves no byte anywhere.

use crate::consumer::{Acked, Batch};
use crate::error::Error;
use crate::event::Event;
use crate::producer::{Producer, append, event_bytes};
use crate::queue::Answer;
use crate::topic::Topic;
use bytes::Bytes;
use exactlog_core::batch::BatchBuilder;
use exactlog_core::command::{COMMIT_BYTES_MAX, CURSOR_BYTES_MAX, Command, Commit, Condition, GroupOffsets};
use exactlog_core::ids::Partition;
use exactlog_core::partitioner::partition_for_key;
use exactlog_core::reply::{Applied, Refusal, Reply};
use std::collections::BTreeMap;
use std::sync::Arc;

/// An open transaction of a producer. Dropping it aborts: what it consumed is delivered again.
#[derive(Debug)]
#[must_use = "a transaction that isn't committed aborts"]
pub struct Transaction<'p> {
    producer: &'p mut Producer,
    batches: BTreeMap<Partition, Vec<BatchBuilder>>,
    sticky: u32,
    bytes: usize,
    conditions: Vec<Condition>,
    cursor: Option<Bytes>,
    acked: Vec<Acked>,
}

/// What a commit did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitReceipt {
    /// Position of the commit in the log's order: a reader that has seen it sees all of the transaction.
    pub csn: u64,
    /// First offset in each partition (topic id and index), ascending; for at most 64 partitions.
    pub base_offsets: Vec<(Partition, u64)>,
}

impl<'p> Transaction<'p> {
    pub(crate) fn new(producer: &'p mut Producer) -> Self {
        Transaction {
            producer,
            batches: BTreeMap::new(),
            sticky: 0,
            bytes: 0,
            conditions: Vec::new(),
            cursor: None,
            acked: Vec::new(),
        }
    }

    /// Adds an event.
    ///
    /// # Errors
    /// [`Error::EventTooLarge`], [`Error::TransactionTooLarge`]; the transaction stays as it was.
    pub fn send(&mut self, topic: &Topic, event: Event) -> Result<(), Error> {
        let bytes = event_bytes(&event);
        let max = topic.config().max_message_bytes as usize;
        let room = max - exactlog_core::batch::HEADER_BYTES;
        if bytes > room {
            return Err(Error::EventTooLarge { topic: topic.name().to_string(), bytes, max });
        }
        // Half of what a command may be: the rest is for batch headers, positions and conditions.
        let total = self.bytes + bytes;
        if total > COMMIT_BYTES_MAX / 2 {
            return Err(Error::TransactionTooLarge { bytes: total, max: COMMIT_BYTES_MAX / 2 });
        }
        let index = match &event.key {
            Some(key) => partition_for_key(key, topic.partitions()),
            None => self.sticky % topic.partitions(),
        };
        let batches = self.batches.entry(Partition { topic: topic.id(), index }).or_default();
        if batches.last().is_none_or(|batch| batch.len_bytes() + bytes > max) {
            batches.push(BatchBuilder::new(bytes.max(256)));
        }
        let batch = batches.last_mut().expect("one was just made");
        let timestamp_ms = event.timestamp_ms.unwrap_or_else(|| self.producer.inner.wall_ms());
        append(batch, &event, timestamp_ms);
        self.bytes = total;
        Ok(())
    }

    /// Takes over consumed records: their positions are committed with the outputs. After an abort they are
    /// delivered again.
    pub fn ack(&mut self, batch: Batch<'_>) {
        self.acked.push(batch.into_acked());
    }

    /// Sets the producer's cursor: the position in an outside source (a file, a socket) up to which this transaction
    /// has taken everything. [`Producer::cursor`] gives it back after a restart.
    ///
    /// # Errors
    /// When it is longer than 256 bytes.
    pub fn set_cursor(&mut self, cursor: impl Into<Bytes>) -> Result<(), Error> {
        let cursor = cursor.into();
        if cursor.len() > CURSOR_BYTES_MAX {
            return Err(Error::Refused(Refusal::CursorTooLarge {
                bytes: cursor.len(),
                max: CURSOR_BYTES_MAX,
            }));
        }
        self.cursor = Some(cursor);
        Ok(())
    }

    /// Commits only if the partition ends at this offset then.
    pub fn expect_end(&mut self, topic: &Topic, partition: u32, offset: u64) {
        let partition = Partition { topic: topic.id(), index: partition };
        self.conditions.push(Condition::EndOffset { partition, offset });
    }

    /// Commits only if the group's committed offset is this one then; `None`: it has none.
    pub fn expect_offset(&mut self, group: &str, topic: &Topic, partition: u32, offset: Option<u64>) {
        let partition = Partition { topic: topic.id(), index: partition };
        self.conditions.push(Condition::GroupOffset { group: group.to_string(), partition, offset });
    }

    /// Commits: afterwards all of it is in the log, as durable as the log promises, and readers see it.
    ///
    /// # Errors
    /// [`Error::Refused`] names the condition that failed: nothing was applied and the consumed records come again.
    /// [`Error::Unknown`]: the log stopped while writing; whether it was applied shows after the next open, in the
    /// cursor and in the committed offsets.
    ///
    /// # Cancel safety
    /// Not safe: dropped after its first poll the commit may be on its way and is not called back; its outcome then
    /// shows in the log only.
    pub async fn commit(mut self) -> Result<CommitReceipt, Error> {
        let (command, bytes) = self.prepare()?;
        self.producer.inner.queue.room(bytes).await;
        let mut sent = self.submit(command, bytes)?;
        std::future::poll_fn(|context| sent.answer.poll(&mut sent.place, context).map(|_| ())).await;
        self.conclude(&sent.answer)
    }

    /// As [`commit`](Transaction::commit), blocking the thread.
    pub fn blocking_commit(mut self) -> Result<CommitReceipt, Error> {
        let (command, bytes) = self.prepare()?;
        self.producer.inner.queue.blocking_room(bytes);
        let sent = self.submit(command, bytes)?;
        sent.answer.wait();
        self.conclude(&sent.answer)
    }

    /// Gives the transaction up, as dropping it does.
    pub fn abort(self) {}

    fn prepare(&mut self) -> Result<(Command, usize), Error> {
        if self.batches.is_empty() && self.acked.is_empty() && self.cursor.is_none() {
            return Err(Error::EmptyTransaction);
        }
        let batches = std::mem::take(&mut self.batches);
        let finished = batches.into_iter().flat_map(|(partition, builders)| {
            builders.into_iter().map(move |builder| (partition, builder.finish(None)))
        });
        let mut offsets: Vec<GroupOffsets> = Vec::new();
        for acked in &self.acked {
            acked.add_to(&mut offsets);
        }
        let commit = Commit {
            token: self.producer.next_token(),
            cursor: self.cursor.clone(),
            batches: finished.collect(),
            offsets,
            conditions: std::mem::take(&mut self.conditions),
        };
        Ok((Command::Commit(Box::new(commit)), self.bytes + 256))
    }

    fn submit(&self, command: Command, bytes: usize) -> Result<Sent, Error> {
        Ok(Sent { answer: self.producer.inner.submit(command, bytes)?, place: None })
    }

    fn conclude(mut self, answer: &Answer) -> Result<CommitReceipt, Error> {
        let applied = answer.peek().expect("the answer is there").clone();
        let reply = applied.map_err(|error| self.explain(error))?;
        let Applied { reply: Reply::Committed(committed), .. } = reply else {
            unreachable!("a new token is answered with a commit or a refusal")
        };
        self.producer.last_number += 1;
        if let Some(cursor) = self.cursor.take() {
            self.producer.set_cursor(cursor);
        }
        self.acked.drain(..).for_each(Acked::keep);
        Ok(CommitReceipt { csn: committed.lsn, base_offsets: committed.base_offsets })
    }

    fn explain(&self, error: Error) -> Error {
        match error {
            Error::Refused(Refusal::CommitFenced { .. } | Refusal::CommitForgotten { .. }) => {
                Error::Fenced { name: self.producer.name.to_string() }
            }
            Error::Refused(Refusal::UnknownMember { group, .. } | Refusal::NotOwned { group, .. }) => {
                Error::ConsumerFenced { group }
            }
            error => error,
        }
    }
}

/// A commit on its way.
struct Sent {
    answer: Arc<Answer>,
    place: Option<usize>,
}
