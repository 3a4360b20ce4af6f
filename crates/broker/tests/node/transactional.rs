//! A transactional producer that says exactly what it is told to, in the versions that it is told.

use crate::common::{Client, Node, values_of};
use bytes::Bytes;
use exactlog::wire::{Batch, BatchBuilder, ProducerStamp};
use exactlog::{Log, ProducerId};
use exactlog_broker::{NodeOptions, bind};
use exactlog_wire::messages::{
    AddOffsetsToTxn, AddPartitionsToTxn, EndTxn, Fetch, InitProducerId, Produce, TxnOffsetCommit,
    add_offsets_to_txn, add_partitions_to_txn, end_txn, fetch, init_producer_id, produce, txn_offset_commit,
};
use std::net::SocketAddr;

/// Who a producer takes itself for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) id: &'static str,
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
}

pub(crate) const TIMEOUT_MS: i32 = 60_000;

impl Who {
    /// A new incarnation of a transactional id.
    pub(crate) async fn init(client: &mut Client, id: &'static str) -> Who {
        Who::init_for(client, id, TIMEOUT_MS).await
    }

    pub(crate) async fn init_for(client: &mut Client, id: &'static str, timeout_ms: i32) -> Who {
        let told = init(client, 4, Some(id), timeout_ms, (-1, -1)).await;
        assert_eq!(told.error_code, 0);
        Who { id, producer_id: told.producer_id, epoch: told.producer_epoch }
    }

    /// A batch in the transaction.
    pub(crate) fn batch(self, sequence: i32, values: &[&str]) -> Bytes {
        bytes_of(self.built(sequence, values).in_transaction())
    }

    /// The same outside of it.
    pub(crate) fn plain_batch(self, sequence: i32, values: &[&str]) -> Bytes {
        bytes_of(self.built(sequence, values))
    }

    fn built(self, base_sequence: i32, values: &[&str]) -> Batch {
        let mut builder = BatchBuilder::new(1024);
        values.iter().for_each(|value| _ = builder.append(1000, None, Some(value.as_bytes()), &[]));
        builder.finish(Some(ProducerStamp {
            id: ProducerId(self.producer_id),
            epoch: self.epoch,
            base_sequence,
        }))
    }

    /// Code and offset.
    pub(crate) async fn produce(
        self,
        client: &mut Client,
        version: i16,
        (topic, index): (&str, i32),
        batch: Bytes,
    ) -> (i16, i64) {
        let request = produce::Request {
            transactional_id: Some(self.id.into()),
            ..crate::common::produce_request(-1, topic, index, batch)
        };
        let response = client.ask::<Produce>(version, &request).await;
        let partition = &response.responses[0].partition_responses[0];
        (partition.error_code, partition.base_offset)
    }

    /// A code for each partition, in the order of topics and partitions.
    pub(crate) async fn add_partitions(
        self,
        client: &mut Client,
        version: i16,
        topics: &[(&str, &[i32])],
    ) -> Vec<(String, i32, i16)> {
        let topics = topics.iter().map(|(name, partitions)| add_partitions_to_txn::AddPartitionsToTxnTopic {
            name: (*name).into(),
            partitions: partitions.to_vec(),
        });
        let request = add_partitions_to_txn::Request {
            v3_and_below_transactional_id: self.id.into(),
            v3_and_below_producer_id: self.producer_id,
            v3_and_below_producer_epoch: self.epoch,
            v3_and_below_topics: topics.collect(),
            ..Default::default()
        };
        codes_of(client.ask::<AddPartitionsToTxn>(version, &request).await.results_by_topic_v3_and_below)
    }

    /// Adds one partition; the code.
    pub(crate) async fn add(self, client: &mut Client, version: i16, topic: &str, index: i32) -> i16 {
        self.add_partitions(client, version, &[(topic, &[index])]).await[0].2
    }

    pub(crate) async fn add_offsets(self, client: &mut Client, version: i16, group: &str) -> i16 {
        let request = add_offsets_to_txn::Request {
            transactional_id: self.id.into(),
            producer_id: self.producer_id,
            producer_epoch: self.epoch,
            group_id: group.into(),
        };
        client.ask::<AddOffsetsToTxn>(version, &request).await.error_code
    }

    /// A code for each position, in their order.
    pub(crate) async fn commit_offsets(
        self,
        client: &mut Client,
        version: i16,
        group: &str,
        positions: &[(&str, i32, i64)],
    ) -> Vec<i16> {
        let request = self.positions(group, positions);
        let response = client.ask::<TxnOffsetCommit>(version, &request).await;
        let asked = positions.iter().map(|(topic, index, _)| (topic.to_string(), *index));
        let told = response
            .topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(|it| (topic.name.to_string(), it.partition_index)));
        assert!(asked.eq(told), "each is answered: {response:?}");
        response.topics.iter().flat_map(|topic| &topic.partitions).map(|it| it.error_code).collect()
    }

    /// A request with these positions, each in a topic of its own.
    pub(crate) fn positions(self, group: &str, positions: &[(&str, i32, i64)]) -> txn_offset_commit::Request {
        let topic =
            |(topic, index, offset): &(&str, i32, i64)| txn_offset_commit::TxnOffsetCommitRequestTopic {
                name: (*topic).into(),
                partitions: vec![txn_offset_commit::TxnOffsetCommitRequestPartition {
                    partition_index: *index,
                    committed_offset: *offset,
                    ..Default::default()
                }],
            };
        txn_offset_commit::Request {
            transactional_id: self.id.into(),
            group_id: group.into(),
            producer_id: self.producer_id,
            producer_epoch: self.epoch,
            topics: positions.iter().map(topic).collect(),
            ..Default::default()
        }
    }

    /// Code, and who it is from now on, as far as the version tells.
    pub(crate) async fn end(self, client: &mut Client, version: i16, committed: bool) -> (i16, Who) {
        let request = end_txn::Request {
            transactional_id: self.id.into(),
            producer_id: self.producer_id,
            producer_epoch: self.epoch,
            committed,
        };
        let told = client.ask::<EndTxn>(version, &request).await;
        (told.error_code, Who { id: self.id, producer_id: told.producer_id, epoch: told.producer_epoch })
    }
}

pub(crate) async fn init(
    client: &mut Client,
    version: i16,
    id: Option<&str>,
    transaction_timeout_ms: i32,
    (producer_id, producer_epoch): (i64, i16),
) -> init_producer_id::Response {
    let transactional_id = id.map(Into::into);
    let request =
        init_producer_id::Request { transactional_id, transaction_timeout_ms, producer_id, producer_epoch };
    client.ask::<InitProducerId>(version, &request).await
}

fn bytes_of(batch: Batch) -> Bytes {
    [&batch.header()[..], batch.body()].concat().into()
}

pub(crate) fn codes_of(
    topics: Vec<add_partitions_to_txn::AddPartitionsToTxnTopicResult>,
) -> Vec<(String, i32, i16)> {
    let of_topic = |topic: &add_partitions_to_txn::AddPartitionsToTxnTopicResult| {
        let name = topic.name.to_string();
        let code = move |it: &add_partitions_to_txn::AddPartitionsToTxnPartitionResult| {
            (name.clone(), it.partition_index, it.partition_error_code)
        };
        topic.results_by_partition.iter().map(code).collect::<Vec<_>>()
    };
    topics.iter().flat_map(of_topic).collect()
}

/// What a partition gives from its start on.
pub(crate) async fn fetched(
    client: &mut Client,
    topic: &str,
    index: i32,
    is_committed: bool,
) -> fetch::PartitionData {
    let partition = fetch::FetchPartition {
        partition: index,
        partition_max_bytes: 1 << 20,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        ..Default::default()
    };
    let request = fetch::Request {
        max_bytes: 1 << 20,
        isolation_level: i8::from(is_committed),
        session_epoch: -1,
        topics: vec![fetch::FetchTopic {
            topic: topic.into(),
            partitions: vec![partition],
            ..Default::default()
        }],
        ..Default::default()
    };
    let partition = client.ask::<Fetch>(12, &request).await.responses[0].partitions[0].clone();
    assert_eq!(partition.error_code, 0);
    partition
}

/// The values that a partition gives, without looking at what was aborted.
pub(crate) fn raw(partition: &fetch::PartitionData) -> Vec<String> {
    values_of(partition.records.as_ref().unwrap()).into_iter().map(|(_, value)| value).collect()
}

/// The values that a client of committed records shows of a partition: it leaves out the batches of a producer from the
/// first offset of its aborted transaction up to the marker of its end.
pub(crate) async fn shown(client: &mut Client, topic: &str, index: i32) -> Vec<String> {
    let partition = fetched(client, topic, index, true).await;
    let aborted = partition.aborted_transactions.as_ref().expect("committed records come with such a list");
    let mut begun = aborted.iter().map(|it| (it.first_offset, it.producer_id)).collect::<Vec<_>>();
    assert!(begun.is_sorted(), "{begun:?}");
    let (mut bytes, mut values) = (crate::common::bytes_of(partition.records.as_ref().unwrap()), Vec::new());
    let mut out = std::collections::BTreeSet::new();
    while !bytes.is_empty() {
        let batch = Batch::parse(bytes.split_to(Batch::announced_len(&bytes).unwrap())).unwrap();
        let producer = batch.producer().map(|stamp| stamp.id.0);
        let last = batch.base_offset() as i64 + i64::from(batch.record_count()) - 1;
        begun.retain(|(first, producer)| *first > last || !out.insert(*producer));
        if batch.is_control() {
            out.remove(&producer.unwrap());
        } else if !batch.is_transactional() || !out.contains(&producer.unwrap()) {
            let text =
                |record: exactlog::wire::Record| String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            values.extend(batch.records().map(|record| text(record.unwrap())));
        }
    }
    values
}

/// Ends a node and its log, and starts both again.
pub(crate) async fn restarted(node: Node) -> Node {
    let Node { directory, log, running } = node;
    running.stop().await;
    log.close().unwrap();
    let log = Log::open(directory.path().join("data")).unwrap();
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let running = bind(NodeOptions { listen, ..NodeOptions::default() }).await.unwrap().serve(&log);
    Node { directory, log, running }
}
