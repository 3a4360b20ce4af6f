//! exactlog, through its public interface.
//!
//! One record: `send`. Many: a batch that is built here, and `append_batch`; building it is part of the time.

use super::{Lives, Result, Rival};
use exactlog::{Durability, Event, Log, Producer, Topic, TopicOptions};
use exactlog_core::batch::BatchBuilder;
use std::path::Path;

struct Exactlog {
    log: Log,
    topic: Topic,
    producer: Producer,
}

pub(super) fn open(directory: &Path, lives: Lives) -> Result<Box<dyn Rival>> {
    let durability = match lives {
        Lives::Kill => Durability::Os,
        Lives::PowerLoss => Durability::Fsync,
    };
    let log = Log::builder().durability(durability).open(directory)?;
    let topic = log.create_topic("t", TopicOptions::default())?;
    let producer = log.producer("p")?;
    Ok(Box::new(Exactlog { log, topic, producer }))
}

impl Rival for Exactlog {
    fn append(&self, first: u64, records: &[u8], record_bytes: usize) -> Result<()> {
        if records.len() == record_bytes {
            self.producer.blocking_send(&self.topic, Event::unkeyed(records.to_vec()))?;
            return Ok(());
        }
        let mut builder = BatchBuilder::new(records.len() + records.len() / record_bytes * 12);
        for record in records.chunks_exact(record_bytes) {
            builder.append(first as i64, None, Some(record), &[]);
        }
        let batch = builder.finish(None);
        self.log.append_batch(&self.topic, 0, [batch.header().as_slice(), batch.body()].concat().into())?;
        Ok(())
    }

    fn scan(&self, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        let view = self.log.read_view();
        let (mut offset, end) = (0, view.end(&self.topic, 0)?);
        while offset < end {
            let records = view.read(&self.topic, 0, offset, 1 << 20)?;
            records.iter().for_each(|record| each(record.value()));
            offset = records.last().ok_or("a hole in the log")?.offset + 1;
        }
        Ok(())
    }

    fn get(&self, number: u64, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        let record = self.log.record(&self.topic, 0, number)?;
        each(record.ok_or("no such record")?.value());
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        self.log.checkpoint()?;
        self.log.checkpoint()?;
        Ok(())
    }
}
