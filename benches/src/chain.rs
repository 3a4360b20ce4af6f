//! Transactions in a circle: each consumes what the one before has written.
//!
//! ```text
//!   8 records, one per partition -> transaction: 8 records, one per partition, and the 8 offsets behind the consumed
//! ```
//!
//! So every transaction is the full exactly-once cycle over 8 partitions, and there is always exactly enough to read.

use crate::value::Values;
use exactlog::{
    Batch, CommitReceipt, Consumer, Error, Event, Log, Producer, Topic, TopicOptions, Transaction,
};
use exactlog_core::partitioner::partition_for_key;
use std::time::{Duration, Instant};

/// Partitions that each transaction reads from and writes to.
pub const PARTITIONS: u32 = 8;

/// One circle: a topic, a producer and a consumer of its own.
#[derive(Debug)]
pub struct Chain {
    log: Log,
    name: String,
    topic: Topic,
    producer: Producer,
    consumer: Consumer,
    outputs: Outputs,
    steps: u64,
}

/// What each transaction writes.
#[derive(Debug)]
struct Outputs {
    topic: Topic,
    keys: Vec<&'static [u8]>,
    values: Values,
}

impl Outputs {
    fn fill(&mut self, transaction: &mut Transaction<'_>, input: Option<Batch<'_>>) -> Result<(), Error> {
        for key in &self.keys {
            transaction.send(&self.topic, Event::new(*key, self.values.take()))?;
        }
        if let Some(input) = input {
            transaction.ack(input);
        }
        Ok(())
    }
}

impl Chain {
    /// A circle of this name, with values of `value_bytes`; its first records are written.
    ///
    /// # Errors
    /// Those of the log.
    pub fn new(log: &Log, name: &str, value_bytes: usize) -> Result<Chain, Error> {
        let topic = log.create_topic(name, TopicOptions::default().partitions(PARTITIONS))?;
        let mut producer = log.producer(name)?;
        let consumer = log.consumer(name).assign((0..PARTITIONS).map(|index| (&topic, index)))?;
        let keys = keys_of(PARTITIONS);
        let mut outputs = Outputs { topic: topic.clone(), keys, values: Values::new(value_bytes) };
        producer.transaction(|transaction| outputs.fill(transaction, None))?;
        Ok(Chain { log: log.clone(), name: name.to_string(), topic, producer, consumer, outputs, steps: 0 })
    }

    /// One transaction, from its beginning to the acknowledged commit. Reading the input isn't part of the duration.
    ///
    /// # Errors
    /// Those of the log.
    pub fn blocking_step(&mut self) -> Result<Duration, Error> {
        let Chain { producer, consumer, outputs, .. } = self;
        let input = consumer.try_next()?.expect("the last commit is visible once it is acknowledged");
        let began = Instant::now();
        let mut transaction = producer.begin();
        outputs.fill(&mut transaction, Some(input))?;
        let receipt = transaction.blocking_commit()?;
        let elapsed = began.elapsed();
        self.steps += check(&receipt);
        Ok(elapsed)
    }

    /// As [`blocking_step`](Chain::blocking_step), for a task.
    ///
    /// # Errors
    /// Those of the log.
    pub async fn step(&mut self) -> Result<Duration, Error> {
        let Chain { producer, consumer, outputs, .. } = self;
        let input = consumer.try_next()?.expect("the last commit is visible once it is acknowledged");
        let began = Instant::now();
        let mut transaction = producer.begin();
        outputs.fill(&mut transaction, Some(input))?;
        let receipt = transaction.commit().await?;
        let elapsed = began.elapsed();
        self.steps += check(&receipt);
        Ok(elapsed)
    }

    /// Whether every partition holds one record per transaction and the group has consumed all but the last.
    pub fn is_whole(&self) -> bool {
        (0..PARTITIONS).all(|index| {
            let bounds = self.log.bounds(&self.topic, index).ok();
            let committed = self.log.committed(&self.name, &self.topic, index).unwrap_or(0);
            bounds == Some((0, self.steps + 1)) && committed == self.steps
        })
    }
}

fn check(receipt: &CommitReceipt) -> u64 {
    assert_eq!(receipt.base_offsets.len(), PARTITIONS as usize, "a commit writes to every partition");
    1
}

/// One key for each partition, in their order.
pub fn keys_of(partitions: u32) -> Vec<&'static [u8]> {
    let key_for = |index| {
        let mut names = (0..).map(|number: u32| format!("key-{number}").into_bytes());
        let found = names.find(|name| partition_for_key(name, partitions) == index);
        &*found.expect("some key hashes to every partition").leak()
    };
    (0..partitions).map(key_for).collect()
}
