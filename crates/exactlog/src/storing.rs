//! In which codec a topic stores what comes in (`compression.type`): its own, or that of whoever sends.
//!
//! ```text
//!   made here:     events -> a batch in the topic's codec, else in its producer's
//!   handed in:     a batch in another codec -> rewritten by the thread that hands it in, before it is queued
//!   at the desk:   the settings changed on the way -> rewritten there
//! ```
//!
//! Not here: what compaction writes; that keeps the codec of the batch that it cleans.
//!
//! Invariants
//!   * what is written behind a change of the setting has the codec that it asks for, but for timers that were set
//!     before it: they fire with the bytes that they were set with
//!   * a batch that can't be rewritten is refused before it is queued, and nothing of it is kept

use crate::error::Error;
use crate::log::Inner;
use crate::producer::check_codec;
use exactlog_core::batch::{Batch, BatchBuilder, BatchError, Compression, ProducerStamp};
use exactlog_core::command::{Command, TimerCommand, TopicCompression, TopicConfig};
use exactlog_core::ids::TopicId;
use exactlog_core::state::State;

/// What of a topic's settings decides about a batch before it is queued, as they are now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Storing {
    pub(crate) config_version: u32,
    /// `max.message.bytes`.
    max_bytes: usize,
    pub(crate) compression: TopicCompression,
}

impl Storing {
    /// A batch from outside as it is stored. Its length is looked at once more, if it is another batch now: as Kafka
    /// does, before and after.
    pub(crate) fn stored(&self, batch: &Batch) -> Result<Batch, BatchError> {
        let Some(codec) = self.compression.codec().filter(|codec| *codec != batch.compression()) else {
            return Ok(batch.clone());
        };
        self.check_bytes(batch)?;
        let stored = batch.recompressed(codec)?;
        self.check_bytes(&stored)?;
        Ok(stored)
    }

    /// As [`Batch::check_client`], by the topic's limit.
    pub(crate) fn check_client(&self, batch: &Batch) -> Result<(), BatchError> {
        batch.check_client(self.max_bytes)
    }

    fn check_bytes(&self, batch: &Batch) -> Result<(), BatchError> {
        let (batch_bytes, max_bytes) = (batch.len_bytes(), self.max_bytes);
        match batch_bytes > max_bytes {
            true => Err(BatchError::TooLarge { batch_bytes, max_bytes }),
            false => Ok(()),
        }
    }
}

impl Inner {
    /// By which settings a topic stores now; none if there is no such topic.
    pub(crate) fn storing(&self, topic: TopicId) -> Option<Storing> {
        self.state.read().topics.get(&topic).map(|topic| Storing {
            config_version: topic.config_version,
            max_bytes: topic.config.max_message_bytes as usize,
            compression: topic.config.compression,
        })
    }

    /// The records of a batch that was made here, in the codec of its topic, else in that of its producer.
    pub(crate) fn finish(
        &self,
        topic: TopicId,
        builder: BatchBuilder,
        stamp: Option<ProducerStamp>,
        producers: Compression,
    ) -> Result<Batch, BatchError> {
        match self.storing(topic).and_then(|storing| storing.compression.codec()) {
            Some(codec) => builder.finish_compressed(stamp, codec),
            None => builder.finish_shortest(stamp, producers),
        }
    }

    /// Whether this build can write to a topic: before an event is taken, since it can't be refused alone later.
    pub(crate) fn check_codec(&self, topic: TopicId) -> Result<(), Error> {
        if HAS_ALL_CODECS {
            return Ok(());
        }
        self.storing(topic).and_then(|storing| storing.compression.codec()).map_or(Ok(()), check_codec)
    }
}

/// Whether this build can write what a topic with these settings is to store.
pub(crate) fn check_setting(config: &TopicConfig) -> Result<(), Error> {
    config.compression.codec().map_or(Ok(()), check_codec)
}

const HAS_ALL_CODECS: bool = Compression::Gzip.is_available()
    && Compression::Snappy.is_available()
    && Compression::Lz4.is_available()
    && Compression::Zstd.is_available();

/// Rewrites what was made before the settings changed that hold now. Batches that state a version of the settings are
/// left alone: they are refused for it, and come again.
pub(crate) fn settle(inner: &Inner, command: &mut Command) {
    match command {
        Command::Commit(commit) => {
            let state = &*inner.state.read();
            for (partition, batch) in &mut commit.batches {
                settle_batch(state, partition.topic, batch);
            }
            for timer in &mut commit.timers.set {
                settle_batch(state, timer.target.topic, &mut timer.batch);
            }
            for writes in &mut commit.table_writes {
                settle_batch(state, writes.partition.topic, &mut writes.batch);
            }
        }
        Command::Timer(request) => {
            if let TimerCommand::Set { timer, .. } = &mut **request {
                settle_batch(&inner.state.read(), timer.target.topic, &mut timer.batch);
            }
        }
        _ => {}
    }
}

fn settle_batch(state: &State, topic: TopicId, batch: &mut Batch) {
    let codec = state.topics.get(&topic).and_then(|topic| topic.config.compression.codec());
    // It was made here, from records that are there, and an event is taken only if this build has the codec.
    if let Some(codec) = codec
        && codec != batch.compression()
        && let Ok(stored) = batch.recompressed(codec)
    {
        *batch = stored;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Queue;
    use crate::{Event, Log, TableOptions, TopicOptions};
    use exactlog_core::ids::Partition;
    use std::task::{Context, Waker};
    use std::time::SystemTime;

    const BEFORE: Compression = Compression::Snappy;
    const AFTER: Compression = Compression::Zstd;

    #[test]
    fn what_was_made_before_a_change_and_comes_behind_it_is_rewritten() {
        if !HAS_ALL_CODECS {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let log = Log::open(directory.path()).unwrap();
        let topic = log.create_topic("t", TopicOptions::default().compression(BEFORE)).unwrap();
        let table = log.create_table("table", TableOptions::default().compression(BEFORE)).unwrap();
        let mut producer = log.producer("p").unwrap();
        let event = || Event::new("k", "v".repeat(100));

        // Nobody writes: all of this comes into one group, first the changes and then what was made before them.
        let desk = log.inner.desk.lock();
        let alter = |topic: &crate::Topic| {
            let compression = TopicCompression::Codec(AFTER);
            let config = TopicConfig { compression, ..topic.config().clone() };
            let command = Command::AlterTopic { topic: topic.id(), config };
            log.inner.submit(command, None, None, Queue::push_quietly).unwrap()
        };
        let altered = [alter(&topic), alter(table.topic())];
        let mut context = Context::from_waker(Waker::noop());
        {
            let mut delayed = Box::pin(producer.send_at(&topic, event(), SystemTime::UNIX_EPOCH));
            assert!(delayed.as_mut().poll(&mut context).is_pending());
        }
        let mut transaction = producer.begin();
        transaction.send(&topic, event()).unwrap();
        transaction.send_at(&topic, event(), SystemTime::UNIX_EPOCH).unwrap();
        transaction.put(&table, "k", "v".repeat(100)).unwrap();
        let mut commit = Box::pin(transaction.commit());
        assert!(commit.as_mut().poll(&mut context).is_pending());
        drop(commit);
        drop(desk);
        log.inner.queue.nudge();
        for answer in altered {
            log.inner.wait_for(&answer).as_ref().unwrap();
        }
        // It comes behind all of them, timers that are due included.
        producer.blocking_send(&topic, event()).unwrap();
        while log.metrics().timers.waiting > 0 {
            std::thread::yield_now();
        }
        let codecs = |topic: TopicId| {
            let at = Partition { topic, index: 0 };
            let batches = log.inner.read(|reader| reader.read(at, 0, 1 << 20)).unwrap();
            batches.iter().map(Batch::compression).collect::<Vec<_>>()
        };
        assert_eq!(codecs(topic.id()), [AFTER; 4]);
        assert_eq!(codecs(table.topic().id()), [AFTER]);
    }
}
