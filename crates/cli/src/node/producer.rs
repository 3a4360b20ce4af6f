//! What `produce` sends to a node: batches of an idempotent producer, and transactions.
//!
//! ```text
//!   plain    records gather in a batch for each partition -> Produce to each leader, again until it is answered
//!   commit   AddPartitionsToTxn -> Produce .. -> the cursor, beside an offset of a group -> EndTxn
//! ```
//!
//! The cursor of `--txn` is the text beside a committed offset: of the group that is called as the transactional id, in
//! a topic that stays empty, so that nobody who looks at lag takes the group for a reader that is behind.
//!
//! Invariants
//!   * a batch that is sent again has its producer and sequence, so that it is stored once
//!   * records of a partition keep their order: the next batch is sent when the last one is answered

use super::Node;
use crate::failure::Failure;
use crate::open::now_ms;
use crate::place::{Place, TopicFacts, partitions};
use crate::sink::{Sink, StoredRange, Taken, Timers};
use exactlog::wire::{Batch, BatchBuilder, ProducerStamp, partition_for_key};
use exactlog::{Bytes, Event, ProducerId, TopicConfig};
use exactlog_client::{Code, Refused, To};
use exactlog_wire::messages::{
    AddOffsetsToTxn, AddPartitionsToTxn, EndTxn, Produce, TxnOffsetCommit, add_offsets_to_txn,
    add_partitions_to_txn, end_txn, produce, txn_offset_commit,
};
use exactlog_wire::value::{Records, Str};
use std::collections::{BTreeMap, BTreeSet};

/// At this size a batch is sent, as the producers of the log do.
const BATCH_BYTES: usize = 128 * 1024;
/// At this size of all of them they are, too.
const REQUEST_BYTES: usize = 4 * 1024 * 1024;

/// The topic that cursors are kept beside. It never has a record.
const CURSORS: &str = "exactlog.cursors";

/// How long a transaction may stay open, in ms.
const TRANSACTION_MS: i64 = 60_000;

/// The newest versions in which partitions and groups are named before they are written to (KIP-98): brokers of every
/// age have them.
const PRODUCE: i16 = 11;
const ADD_PARTITIONS: i16 = 3;
const ADD_OFFSETS: i16 = 3;
const COMMIT_OFFSETS: i16 = 4;
const END: i16 = 4;

/// More than a record with this event takes in a batch.
fn bytes_of(event: &Event) -> usize {
    /// Of the record, and of each of its headers: lengths and numbers.
    const RECORD: usize = 48;
    const HEADER: usize = 10;
    let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let header = |(name, value): &(String, Option<Bytes>)| HEADER + name.len() + length(value);
    RECORD + length(&event.key) + length(&event.value) + event.headers.iter().map(header).sum::<usize>()
}

/// A partition, as it is written to.
#[derive(Debug, Default)]
struct Writing {
    open: Option<BatchBuilder>,
    sequence: i32,
    stored: Option<StoredRange>,
}

pub(crate) struct Remote {
    node: Node,
    topic: TopicFacts,
    transactional_id: Option<String>,
    producer: (i64, i16),
    cursor: Option<Bytes>,
    writing: Vec<Writing>,
    in_flight: usize,
    bytes: usize,
    /// Longest batch that the topic takes (`max.message.bytes`).
    batch_bytes_max: usize,
    taken: Taken,
    /// Where records without a key go, until a batch is full.
    turn: u32,
}

impl Remote {
    /// A producer that nobody knows yet.
    pub(crate) fn idempotent(node: Node, topic: TopicFacts) -> Result<Remote, Failure> {
        let producer = node.init_producer(None, TRANSACTION_MS)?;
        Remote::new(node, topic, None, producer)
    }

    /// The producer of a transactional id: older ones are fenced, and what they had open is aborted.
    pub(crate) fn transactional(node: Node, topic: TopicFacts, id: String) -> Result<Remote, Failure> {
        if node.find(CURSORS)?.is_none() {
            node.create(CURSORS, 1, &TopicConfig::default(), &[])?;
        }
        let producer = node.init_producer(Some(&id), TRANSACTION_MS)?;
        let mut committed = node.committed_with_metadata(&id, true)?;
        let cursor = committed.remove(&(CURSORS.to_string(), 0)).map(|(_, text)| text);
        let mut remote = Remote::new(node, topic, Some(id), producer)?;
        remote.cursor = cursor.filter(|text| !text.is_empty()).map(Bytes::from);
        Ok(remote)
    }

    fn new(
        node: Node,
        topic: TopicFacts,
        transactional_id: Option<String>,
        producer: (i64, i16),
    ) -> Result<Remote, Failure> {
        let config = node.configs(std::slice::from_ref(&topic))?.pop().unwrap_or_default();
        let batch_bytes_max = config.max_message_bytes as usize;
        let writing = (0..topic.partitions).map(|_| Writing::default()).collect();
        let (in_flight, bytes, taken, turn) = (0, 0, Taken::default(), 0);
        Ok(Remote {
            node,
            topic,
            transactional_id,
            producer,
            cursor: None,
            writing,
            in_flight,
            bytes,
            batch_bytes_max,
            taken,
            turn,
        })
    }

    fn id(&self) -> Str {
        self.transactional_id.as_deref().unwrap_or_default().into()
    }

    /// Puts a record into the batch of its partition; whether that, or all of them, is large enough to be sent.
    fn add(&mut self, event: &Event, partition: Option<u32>) -> Result<bool, Failure> {
        let partition = match (partition, &event.key) {
            (Some(partition), _) => {
                partitions(&self.topic, Some(partition))?;
                partition
            }
            (None, Some(key)) => partition_for_key(key, self.topic.partitions),
            (None, None) => self.turn,
        };
        let most = BATCH_BYTES.min(self.batch_bytes_max);
        let open = &self.writing[partition as usize].open;
        if open.as_ref().is_some_and(|open| open.len_bytes() + bytes_of(event) > most) {
            self.flush()?;
        }
        let headers: Vec<(&[u8], Option<&[u8]>)> =
            event.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_deref())).collect();
        let writing = &mut self.writing[partition as usize];
        let open = writing.open.get_or_insert_with(|| BatchBuilder::new(0));
        let before = open.len_bytes();
        let timestamp_ms = event.timestamp_ms.unwrap_or_else(now_ms);
        open.append(timestamp_ms, event.key.as_deref(), event.value.as_deref(), &headers);
        self.in_flight += 1;
        self.bytes += open.len_bytes() - before;
        Ok(open.len_bytes() >= most || self.bytes >= REQUEST_BYTES)
    }

    /// Sends the batches that are open, and waits until they are stored.
    fn flush(&mut self) -> Result<(), Failure> {
        let mut by_leader: BTreeMap<i32, Vec<(u32, Batch)>> = BTreeMap::new();
        for partition in 0..self.topic.partitions {
            let Some(open) = self.writing[partition as usize].open.take() else { continue };
            let (id, epoch) = self.producer;
            let base_sequence = self.writing[partition as usize].sequence;
            let batch = open.finish(Some(ProducerStamp { id: ProducerId(id), epoch, base_sequence }));
            let batch = if self.transactional_id.is_some() { batch.in_transaction() } else { batch };
            let leader = self.node.leader(&self.topic.name, partition)?;
            by_leader.entry(leader).or_default().push((partition, batch));
        }
        (self.in_flight, self.bytes) = (0, 0);
        self.turn = (self.turn + 1) % self.topic.partitions.max(1);
        for batches in by_leader.into_values() {
            self.send(&batches)?;
        }
        Ok(())
    }

    fn send(&mut self, batches: &[(u32, Batch)]) -> Result<(), Failure> {
        let Some((first, _)) = batches.first() else { return Ok(()) };
        let data = |(index, batch): &(u32, Batch)| produce::PartitionProduceData {
            index: *index as i32,
            records: Some(Records(vec![Bytes::copy_from_slice(batch.header()), batch.body().clone()])),
        };
        let request = produce::Request {
            transactional_id: self.transactional_id.as_deref().map(Str::from),
            acks: -1,
            timeout_ms: 30_000,
            topic_data: vec![produce::TopicProduceData {
                name: (&*self.topic.name).into(),
                partition_data: batches.iter().map(data).collect(),
                ..Default::default()
            }],
        };
        let to = To::Leader(&self.topic.name, *first as i32);
        let placed = self.node.ask_up_to::<Produce, _>(PRODUCE, to, &request, true, |response| {
            let mut placed = BTreeMap::new();
            for it in response.responses.iter().flat_map(|topic| &topic.partition_responses) {
                match Code(it.error_code) {
                    // It was sent before: it is there, longer ago than is known where.
                    Code::DUPLICATE_SEQUENCE_NUMBER => {}
                    code => Refused::check(code.0, it.error_message.as_ref())?,
                }
                placed.insert(it.index as u32, u64::try_from(it.base_offset).ok());
            }
            Ok(placed)
        })?;
        for (partition, batch) in batches {
            let records = u64::from(batch.record_count());
            self.taken.stored += records;
            let writing = &mut self.writing[*partition as usize];
            // Sequences begin anew behind the largest.
            let next = i64::from(writing.sequence) + records as i64;
            writing.sequence = (next % (i64::from(i32::MAX) + 1)) as i32;
            let Some(base) = placed.get(partition).copied().flatten() else { continue };
            let range = writing.stored.get_or_insert(StoredRange {
                partition: *partition,
                first: base,
                last: base,
                records: 0,
            });
            range.last = base + records - 1;
            range.records += records;
        }
        Ok(())
    }

    fn add_partitions(&self, partitions: &BTreeSet<u32>) -> Result<(), Failure> {
        let (producer_id, producer_epoch) = self.producer;
        let request = add_partitions_to_txn::Request {
            v3_and_below_transactional_id: self.id(),
            v3_and_below_producer_id: producer_id,
            v3_and_below_producer_epoch: producer_epoch,
            v3_and_below_topics: vec![add_partitions_to_txn::AddPartitionsToTxnTopic {
                name: (&*self.topic.name).into(),
                partitions: partitions.iter().map(|index| *index as i32).collect(),
            }],
            ..Default::default()
        };
        let id = self.id();
        let to = To::Transaction(&id);
        self.node.ask_up_to::<AddPartitionsToTxn, _>(ADD_PARTITIONS, to, &request, true, |response| {
            let topics = &response.results_by_topic_v3_and_below;
            let mut partitions = topics.iter().flat_map(|topic| &topic.results_by_partition);
            partitions.try_for_each(|it| Refused::check(it.partition_error_code, None))
        })
    }

    fn keep_cursor(&self, cursor: &str) -> Result<(), Failure> {
        let (id, (producer_id, producer_epoch)) = (self.id(), self.producer);
        let request = add_offsets_to_txn::Request {
            transactional_id: id.clone(),
            producer_id,
            producer_epoch,
            group_id: id.clone(),
        };
        let to = To::Transaction(&id);
        self.node.ask_up_to::<AddOffsetsToTxn, _>(ADD_OFFSETS, to, &request, true, |response| {
            Refused::check(response.error_code, None)
        })?;
        let request = txn_offset_commit::Request {
            transactional_id: id.clone(),
            group_id: id.clone(),
            producer_id,
            producer_epoch,
            topics: vec![txn_offset_commit::TxnOffsetCommitRequestTopic {
                name: CURSORS.into(),
                partitions: vec![txn_offset_commit::TxnOffsetCommitRequestPartition {
                    partition_index: 0,
                    committed_metadata: Some(cursor.into()),
                    ..Default::default()
                }],
            }],
            ..Default::default()
        };
        let to = To::Group(&id);
        self.node.ask_up_to::<TxnOffsetCommit, _>(COMMIT_OFFSETS, to, &request, true, |response| {
            let mut partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
            partitions.try_for_each(|it| Refused::check(it.error_code, None))
        })
    }

    fn end(&self, committed: bool) -> Result<(), Failure> {
        let (id, (producer_id, producer_epoch)) = (self.id(), self.producer);
        let request =
            end_txn::Request { transactional_id: id.clone(), producer_id, producer_epoch, committed };
        self.node.ask_up_to::<EndTxn, _>(END, To::Transaction(&id), &request, true, |response| {
            Refused::check(response.error_code, None)
        })
    }

    /// Everything of a transaction but its end.
    fn write(&mut self, records: &[(Event, Option<u32>)], cursor: Option<&str>) -> Result<(), Failure> {
        let (turn, number) = (self.turn, self.topic.partitions);
        let place = |(event, partition): &(Event, Option<u32>)| match (partition, &event.key) {
            (Some(partition), _) => *partition,
            (None, Some(key)) => partition_for_key(key, number),
            (None, None) => turn,
        };
        let partitions: BTreeSet<u32> = records.iter().map(place).collect();
        self.add_partitions(&partitions)?;
        for record in records {
            if self.add(&record.0, Some(place(record)))? {
                self.flush()?;
            }
        }
        self.flush()?;
        cursor.map_or(Ok(()), |cursor| self.keep_cursor(cursor))
    }
}

impl Sink for Remote {
    fn partitions(&self) -> u32 {
        self.topic.partitions
    }

    fn submit(&mut self, event: Event, partition: Option<u32>) -> Result<(), Failure> {
        match self.add(&event, partition)? {
            true => self.flush(),
            false => Ok(()),
        }
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn settle(&mut self, most: usize) -> Result<(), Failure> {
        match self.in_flight > most {
            true => self.flush(),
            false => Ok(()),
        }
    }

    fn taken(&mut self) -> Taken {
        std::mem::take(&mut self.taken)
    }

    fn name(&self) -> &str {
        self.transactional_id.as_deref().unwrap_or_default()
    }

    fn cursor(&self) -> Option<Bytes> {
        self.cursor.clone()
    }

    fn commit(
        &mut self,
        records: Vec<(Event, Option<u32>)>,
        cursor: Option<String>,
    ) -> Result<Timers, (Option<usize>, Failure)> {
        let before: Vec<Option<StoredRange>> = self.writing.iter().map(|it| it.stored).collect();
        let written = self.write(&records, cursor.as_deref());
        let ended = written.and_then(|()| self.end(true));
        self.taken = Taken::default();
        ended.map_err(|failure| {
            // Whoever can't say so leaves it to the next producer of the id.
            _ = self.end(false);
            for (writing, stored) in self.writing.iter_mut().zip(before) {
                writing.stored = stored;
            }
            (None, failure)
        })?;
        Ok(None)
    }

    fn stored(&self) -> Result<Vec<StoredRange>, Failure> {
        Ok(self.writing.iter().filter_map(|writing| writing.stored).collect())
    }

    fn close(self: Box<Self>) -> Result<(), Failure> {
        Ok(())
    }
}
