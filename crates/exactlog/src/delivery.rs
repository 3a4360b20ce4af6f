//! What a consumer hands out: a batch to be acked, or a stream of records.

use crate::consumer::Consumer;
use crate::error::Error;
use crate::event::Record;
use crate::queue::{Answer, Push, Queue};
use crate::reading::{Acked, Pending, Span};
use exactlog_core::command::Command;
use futures_core::Stream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Records that were delivered and not acked yet.
///
/// Its end decides what becomes of them:
///
/// * **acked** ([`ack`](Batch::ack), [`blocking_ack`](Batch::blocking_ack)): consumed. If that is refused they are
///   delivered again
/// * **put into a transaction** ([`Transaction::ack`](crate::Transaction::ack)): consumed if it commits; else they are
///   delivered again
/// * **dropped**, also by an early `return` or a panic: nothing is committed, and the consumer goes back to the first
///   of them in each partition; its next calls deliver them again. So a loop that drops what it can't process never
///   gets past it: ack it all the same, or [`seek`](Consumer::seek) behind it
/// * dropped while the consumer commits by itself ([`auto_commit`](crate::ConsumerBuilder::auto_commit)): consumed,
///   with the next call
///
/// Delivered again means by this consumer or, if the partition went to another member or the process ended, by whoever
/// reads it next.
#[derive(Debug)]
#[must_use = "a batch that is neither acked nor put into a transaction is delivered again"]
pub struct Batch<'c> {
    consumer: &'c mut Consumer,
    records: Vec<Record>,
    pending: Pending,
}

impl<'c> Batch<'c> {
    pub(crate) fn new(consumer: &'c mut Consumer, records: Vec<Record>, pending: Pending) -> Batch<'c> {
        Batch { consumer, records, pending }
    }
}

impl Batch<'_> {
    /// The records.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Takes the records out. What becomes of the batch is decided by its end all the same.
    pub fn take_records(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.records)
    }

    /// Number of records that are in it.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no record in it: [`blocking_next_for`](Consumer::blocking_next_for) waited in vain. There is
    /// nothing to ack then.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Commits the positions behind these records, and hands the records out.
    ///
    /// Before the work: at most once. After the work: at least once. For exactly once put the batch into the
    /// transaction of the outputs instead.
    ///
    /// # Errors
    /// [`Error::ConsumerFenced`] when the partitions went to somebody else: nothing was committed.
    ///
    /// # Cancel safety
    /// Dropped after its first poll the commit is on its way, and the records are lost to the caller if it succeeds. If
    /// it doesn't, they are delivered again.
    pub async fn ack(mut self) -> Result<Vec<Record>, Error> {
        if let Some(answer) = self.submit_ack(Queue::push)? {
            answer.value().await;
            self.conclude(&answer)?;
        }
        Ok(self.records)
    }

    /// As [`ack`](Batch::ack), blocking the thread.
    pub fn blocking_ack(mut self) -> Result<Vec<Record>, Error> {
        if let Some(answer) = self.submit_ack(Queue::push_quietly)? {
            self.consumer.inner().wait_for(&answer);
            self.conclude(&answer)?;
        }
        Ok(self.records)
    }

    fn submit_ack(&mut self, push: Push) -> Result<Option<Arc<Answer>>, Error> {
        if self.pending.spans().is_empty() {
            return Ok(None);
        }
        let offsets = self.consumer.offsets(self.pending.spans());
        let (group, member, offsets) = (offsets.group, offsets.member, offsets.offsets);
        let command = Command::CommitOffsets { group, member, offsets };
        let answer = self.consumer.inner().submit(command, None, None, push)?;
        self.pending.submitted(answer.clone());
        Ok(Some(answer))
    }

    fn conclude(&self, answer: &Answer) -> Result<(), Error> {
        let answer = answer.peek().expect("the answer was awaited");
        answer.as_ref().map(|_| ()).map_err(|error| error.clone().of_consumer())
    }

    pub(crate) fn into_acked(self) -> Acked {
        Acked::new(self.consumer.offsets(self.pending.spans()), self.pending)
    }
}

impl<'b> IntoIterator for &'b Batch<'_> {
    type Item = &'b Record;
    type IntoIter = std::slice::Iter<'b, Record>;

    fn into_iter(self) -> Self::IntoIter {
        self.records.iter()
    }
}

/// The records of a consumer, one by one. See [`Consumer::into_stream`].
#[derive(Debug)]
pub struct RecordStream {
    consumer: Consumer,
    ready: std::vec::IntoIter<Record>,
    /// Where the records come from that are ready.
    spans: Vec<Span>,
}

impl RecordStream {
    pub(crate) fn new(consumer: Consumer) -> RecordStream {
        RecordStream { consumer, ready: Vec::new().into_iter(), spans: Vec::new() }
    }

    /// The consumer, to go on with otherwise. Records that were read and not asked for yet are skipped.
    pub fn into_consumer(self) -> Consumer {
        self.consumer
    }
}

impl Stream for RecordStream {
    type Item = Result<Record, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Some(record) = this.ready.next() {
            return Poll::Ready(Some(Ok(record)));
        }
        let consumer = &mut this.consumer;
        consumer.register(context.waker());
        if consumer.inner().check_open().is_err() {
            return Poll::Ready(None);
        }
        consumer.deliver(std::mem::take(&mut this.spans));
        match ready!(consumer.poll_delivered(context)).and_then(|()| consumer.take()) {
            Err(Error::Closed) => Poll::Ready(None),
            Err(error) => Poll::Ready(Some(Err(error))),
            Ok(None) => Poll::Pending,
            Ok(Some(taken)) => {
                this.spans = taken.spans;
                this.ready = taken.records.into_iter();
                Poll::Ready(this.ready.next().map(Ok))
            }
        }
    }
}
