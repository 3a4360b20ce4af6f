//! Records that were read, into another topic as they are.
//!
//! Invariants
//!   * key, value, headers and time are the same bytes; a topic that stamps its records gives them its own time

use crate::error::Error;
use crate::event::Record;
use crate::producer::{len, record_bytes};
use crate::topic::Topic;
use crate::transaction::Transaction;
use exactlog_core::batch::BatchBuilder;

impl Transaction<'_> {
    /// Adds a record that was read: key, value, headers and time stay as they are, byte for byte. An
    /// [`Event`](crate::Event) has text for names of headers, and Kafka's producers may have written others.
    /// Where it goes is as with [`send`](Transaction::send).
    ///
    /// # Errors
    /// [`Error::EventTooLarge`], [`Error::TransactionTooLarge`]; the transaction stays as it was.
    ///
    /// ```
    /// # use exactlog::{Event, Log, TopicOptions};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let log = Log::open(directory.path())?;
    /// # let orders = log.create_topic("orders", TopicOptions::default())?;
    /// # let failed = log.create_topic("orders-failed", TopicOptions::default())?;
    /// # let mut producer = log.producer("billing")?;
    /// # producer.blocking_send(&orders, Event::new("order-1", "two chairs"))?;
    /// let mut consumer = log.consumer("billing").subscribe([&orders])?;
    /// while let Some(batch) = consumer.try_next()? {
    ///     let mut transaction = producer.begin();
    ///     for record in &batch {
    ///         transaction.forward(&failed, record)?;
    ///     }
    ///     transaction.ack(batch);
    ///     transaction.blocking_commit()?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn forward(&mut self, topic: &Topic, record: &Record) -> Result<(), Error> {
        let index = self.partition_of(topic, record.key.as_ref());
        self.add_record(topic, index, record)
    }

    /// As [`forward`](Transaction::forward), into this partition, whatever its key says.
    ///
    /// # Errors
    /// As [`forward`](Transaction::forward), and [`Error::NoSuchPartition`].
    pub fn forward_to(&mut self, topic: &Topic, partition: u32, record: &Record) -> Result<(), Error> {
        self.check_partition(topic, partition)?;
        self.add_record(topic, partition, record)
    }

    fn add_record(&mut self, topic: &Topic, index: u32, record: &Record) -> Result<(), Error> {
        let Record { key, value, headers, timestamp_ms, .. } = record;
        let bytes = record_bytes(key, value, headers.iter().map(|it| it.key.len() + len(&it.value)));
        let headers: Vec<(&[u8], Option<&[u8]>)> =
            headers.iter().map(|it| (&it.key[..], it.value.as_deref())).collect();
        let append = |batch: &mut BatchBuilder| {
            batch.append(*timestamp_ms, key.as_deref(), value.as_deref(), &headers)
        };
        self.place(topic, index, bytes, append).map(|_| ())
    }
}
