//! The log of a directory, as verbs see a [`Place`].

use crate::batches::Batches;
use crate::failure::Failure;
use crate::place::{
    GroupFacts, MemberFacts, PartitionFacts, Piece, Place, PositionFacts, ProducerFacts, Reading, TopicFacts,
    TransactionFacts,
};
use exactlog::wire::{Batch, Isolation, Reply, TransactionPhase, Transactional, TransactionalProducer};
use exactlog::{
    BatchDetails, Error, GroupDetails, GroupPosition, Log, Partition, PartitionDetails, ReadView, Record,
    SeekTo, Topic, TopicConfig, TopicOptions,
};
use serde_json::{Value, json};
use std::cell::{OnceCell, RefCell};

/// About how many bytes one read returns.
const PIECE_BYTES: usize = 1 << 20;

pub(crate) struct Directory {
    log: Log,
    /// What is read is of one moment.
    view: OnceCell<ReadView>,
    batches: RefCell<Batches>,
}

impl Directory {
    pub(crate) fn of(log: &Log) -> Directory {
        Directory { log: log.clone(), view: OnceCell::new(), batches: RefCell::new(Batches::new(true)) }
    }

    fn topic(&self, topic: &TopicFacts) -> Result<Topic, Failure> {
        Ok(self.log.open_topic(&topic.name)?)
    }

    fn facts(topic: &Topic) -> TopicFacts {
        TopicFacts { name: topic.name().into(), id: json!(topic.id().0), partitions: topic.partitions() }
    }

    /// Batches as a client of Kafka's protocol gets them that reads everything.
    fn read_uncommitted(&self, topic: &Topic, partition: u32, offset: u64) -> Result<Piece, Failure> {
        let at = Partition { topic: topic.id(), index: partition };
        let fetched = self.log.fetch(at, offset, PIECE_BYTES, Isolation::Uncommitted)?;
        let next = fetched.batches.last().map_or(offset, |batch| batch.next_offset());
        let shown = fetched.batches.iter().filter(|batch| !batch.is_control());
        Ok(Piece { records: records_of(shown, (topic.name(), partition), offset, true)?, next })
    }
}

/// The records of batches from an offset on, each with what its batch says, if that is wanted.
pub(crate) fn records_of<'b>(
    batches: impl IntoIterator<Item = &'b Batch>,
    (topic, partition): (&str, u32),
    from: u64,
    with_details: bool,
) -> Result<Vec<(Record, Option<BatchDetails>)>, Failure> {
    let mut records = Vec::new();
    for batch in batches {
        let details = with_details.then(|| BatchDetails::from(batch));
        for record in batch.records() {
            let record = record.map_err(Error::from)?;
            if record.offset >= from {
                records.push((of_batch(topic, partition, record), details));
            }
        }
    }
    Ok(records)
}

/// A record of a batch, with its place.
fn of_batch(topic: &str, partition: u32, record: exactlog::wire::Record) -> Record {
    Record {
        topic: topic.into(),
        partition,
        offset: record.offset,
        timestamp_ms: record.timestamp_ms,
        key: record.key,
        value: record.value,
        headers: record.headers,
    }
}

impl Place for Directory {
    fn topics(&self) -> Result<Vec<TopicFacts>, Failure> {
        Ok(self.log.topics().iter().map(Directory::facts).collect())
    }

    fn find(&self, name: &str) -> Result<Option<TopicFacts>, Failure> {
        match self.log.open_topic(name) {
            Ok(topic) => Ok(Some(Directory::facts(&topic))),
            Err(Error::NoSuchTopic { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn configs(&self, topics: &[TopicFacts]) -> Result<Vec<TopicConfig>, Failure> {
        topics.iter().map(|topic| Ok(self.topic(topic)?.config().clone())).collect()
    }

    fn partitions(&self, topic: &TopicFacts, _closely: bool) -> Result<Vec<PartitionFacts>, Failure> {
        let facts = |it: &PartitionDetails| PartitionFacts {
            partition: it.partition,
            start: it.start,
            end: it.end,
            records: it.records,
            is_exact: true,
            leader_epoch: it.leader_epoch.into(),
            producers: it.producers,
        };
        Ok(self.log.partitions(&self.topic(topic)?)?.iter().map(facts).collect())
    }

    fn bounds(&self, topic: &TopicFacts, partition: u32) -> Result<(u64, u64), Failure> {
        Ok(self.log.bounds(&self.topic(topic)?, partition)?)
    }

    fn first_at_or_after(
        &self,
        topic: &TopicFacts,
        partition: u32,
        timestamp_ms: i64,
    ) -> Result<Option<u64>, Failure> {
        let found = self.log.first_at_or_after(&self.topic(topic)?, partition, timestamp_ms)?;
        Ok(found.map(|(offset, _)| offset))
    }

    fn read(&self, topic: &TopicFacts, partition: u32, offset: u64, how: Reading) -> Result<Piece, Failure> {
        let topic = self.topic(topic)?;
        if how.uncommitted {
            return self.read_uncommitted(&topic, partition, offset);
        }
        let view = self.view.get_or_init(|| self.log.read_view());
        let read = view.read(&topic, partition, offset, PIECE_BYTES)?;
        let next = read.last().map_or(offset, |record| record.offset + 1);
        let mut batches = self.batches.borrow_mut();
        let mut records = Vec::with_capacity(read.len());
        for record in read {
            let batch = match how.batches {
                true => batches.of(view, &topic, partition, record.offset)?,
                false => None,
            };
            records.push((record, batch));
        }
        Ok(Piece { records, next })
    }

    fn group_names(&self) -> Result<Vec<String>, Failure> {
        Ok(self.log.group_names().into_iter().map(|(name, _)| name).collect())
    }

    fn group(&self, name: &str) -> Result<Option<GroupFacts>, Failure> {
        Ok(self.log.group(name).map(group_facts))
    }

    fn transactions(&self, ids: Option<&[String]>) -> Result<Vec<TransactionFacts>, Failure> {
        let found = self.log.transactional_ids();
        let is_asked = |id: &String| ids.is_none_or(|ids| ids.contains(id));
        let asked = found.iter().filter(|(id, _)| is_asked(id));
        Ok(asked.map(|(id, found)| self.transaction(id, found)).collect())
    }

    fn producers(&self, topic: &TopicFacts, partition: u32) -> Result<Vec<ProducerFacts>, Failure> {
        let at = Partition { topic: self.topic(topic)?.id(), index: partition };
        let facts = |it: exactlog::wire::ActiveProducer| ProducerFacts {
            producer_id: it.producer.0,
            producer_epoch: it.producer_epoch.into(),
            last_sequence: it.last_sequence,
            last_timestamp_ms: it.last_timestamp_ms,
            coordinator_epoch: it.coordinator_epoch,
            transaction_start: it.transaction_start,
        };
        Ok(self.log.active_producers(at)?.into_iter().map(facts).collect())
    }

    fn create_topic(
        &self,
        name: &str,
        partitions: u32,
        config: &TopicConfig,
        _said: &[&str],
    ) -> Result<(), Failure> {
        let mut options = TopicOptions::default().partitions(partitions);
        options.config = config.clone();
        self.log.create_topic(name, options)?;
        Ok(())
    }

    fn alter_topic(
        &self,
        topic: &TopicFacts,
        config: &TopicConfig,
        _changed: &[(&str, String)],
    ) -> Result<(), Failure> {
        self.log.alter_topic(&self.topic(topic)?, config.clone())?;
        Ok(())
    }

    fn add_partitions(&self, topic: &TopicFacts, to: u32) -> Result<(), Failure> {
        self.log.add_partitions(&self.topic(topic)?, to)?;
        Ok(())
    }

    fn delete_topic(&self, topic: &TopicFacts) -> Result<(), Failure> {
        Ok(self.log.delete_topic(&self.topic(topic)?)?)
    }

    fn trim(&self, topic: &TopicFacts, partition: u32, start: u64) -> Result<u64, Failure> {
        Ok(self.log.trim(&self.topic(topic)?, partition, start)?)
    }

    fn seek_group(&self, name: &str, positions: &[(TopicFacts, u32, u64)]) -> Result<(), Failure> {
        let to = |(topic, partition, offset): &(TopicFacts, u32, u64)| {
            Ok(SeekTo { topic: self.topic(topic)?, partition: *partition, offset: *offset })
        };
        let positions = positions.iter().map(to).collect::<Result<Vec<_>, Failure>>()?;
        Ok(self.log.seek_group(name, &positions)?)
    }

    fn delete_offsets(&self, name: &str, partitions: &[(TopicFacts, u32)]) -> Result<(), Failure> {
        let of = |(topic, partition): &(TopicFacts, u32)| Ok((self.topic(topic)?, *partition));
        let partitions = partitions.iter().map(of).collect::<Result<Vec<_>, Failure>>()?;
        self.log.delete_offsets(name, &partitions)?;
        Ok(())
    }

    fn delete_group(&self, name: &str) -> Result<(), Failure> {
        self.log.delete_group(name)?;
        Ok(())
    }

    fn fence(&self, transaction: &TransactionFacts) -> Result<(i64, i16), Failure> {
        let request = Transactional::Init {
            transactional_id: transaction.transactional_id.clone(),
            timeout_ms: u32::try_from(transaction.timeout_ms).unwrap_or(u32::MAX),
            current: None,
            newer_codes: true,
        };
        match self.log.transactional(request)? {
            Reply::Producer { producer, producer_epoch, .. }
            | Reply::Transactional { producer, producer_epoch } => Ok((producer.0, producer_epoch)),
            other => Err(Failure::new("OTHER", format!("InitTransactions answers {other:?}"))),
        }
    }

    fn log(&self) -> Option<&Log> {
        Some(&self.log)
    }
}

impl Directory {
    fn transaction(&self, id: &str, found: &TransactionalProducer) -> TransactionFacts {
        let open = found.transaction();
        let named = |at: &Partition| Some((self.log.topic_by_id(at.topic)?.name().to_string(), at.index));
        let mut partitions: Vec<_> =
            open.map(|open| open.partitions.iter().filter_map(named).collect()).unwrap_or_default();
        partitions.sort();
        TransactionFacts {
            transactional_id: id.to_string(),
            state: state_of(&found.phase).to_string(),
            producer_id: found.producer.0,
            producer_epoch: found.producer_epoch,
            timeout_ms: found.timeout_ms.into(),
            started_ms: open.map(|open| open.started_ms),
            partitions,
        }
    }
}

/// Kafka's names of where a transactional id may stand, as a node tells them.
fn state_of(phase: &TransactionPhase) -> &'static str {
    match phase {
        TransactionPhase::Empty => "Empty",
        TransactionPhase::Ongoing(_) => "Ongoing",
        TransactionPhase::Complete { commit: true, .. } => "CompleteCommit",
        TransactionPhase::Complete { commit: false, .. } => "CompleteAbort",
    }
}

fn group_facts(group: GroupDetails) -> GroupFacts {
    let position = |it: &GroupPosition| PositionFacts {
        topic: it.topic.as_str().into(),
        partition: it.partition,
        committed: it.committed,
        committed_ms: it.committed_ms,
        start: it.start,
        end: it.end,
        lag: it.lag,
        is_exact: true,
        lag_ms: it.lag_ms,
        owner: it.owner.map_or(Value::Null, |member| json!(member.0)),
    };
    let positions = group.positions.iter().map(position).collect();
    let member = |it: &exactlog::MemberDetails| MemberFacts {
        id: json!(it.member.0),
        topics: it.topics.clone(),
        partitions: it.partitions,
    };
    let members = group.members.iter().map(member).collect();
    GroupFacts { name: group.name, generation: Some(group.generation), members, positions }
}
