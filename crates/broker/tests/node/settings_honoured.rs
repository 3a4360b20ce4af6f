//! What a client sets for a topic is what happens to its records.

use crate::common::{Client, Node, batch, batch_of, bytes_of, produce_request};
use crate::fetching::request;
use exactlog::wire::{Batch, BatchBuilder};
use exactlog::{Compression, Topic};
use exactlog_wire::messages::{
    CreateTopics, DescribeConfigs, Fetch, IncrementalAlterConfigs, create_topics, describe_configs,
    incremental_alter_configs,
};
use std::time::{SystemTime, UNIX_EPOCH};

const HOUR_MS: i64 = 3_600_000;

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// Creates `orders` with these settings; what it is told.
async fn created(client: &mut Client, settings: &[(&str, &str)]) -> i16 {
    let config = |(name, value): &(&str, &str)| create_topics::CreatableTopicConfig {
        name: (*name).into(),
        value: Some((*value).into()),
    };
    let topic = create_topics::CreatableTopic {
        name: "orders".into(),
        num_partitions: 1,
        replication_factor: 1,
        configs: settings.iter().map(config).collect(),
        ..Default::default()
    };
    let request = create_topics::Request { topics: vec![topic], ..Default::default() };
    client.ask::<CreateTopics>(7, &request).await.topics[0].error_code
}

/// A node with such a topic.
async fn node(settings: &[(&str, &str)]) -> (Node, Client, Topic) {
    let node = Node::start().await;
    let mut client = node.client().await;
    assert_eq!(created(&mut client, settings).await, 0, "{settings:?}");
    let topic = node.log.open_topic("orders").unwrap();
    (node, client, topic)
}

/// A batch of one record of this time; 1,000 bytes and a bit.
fn at(timestamp_ms: i64, key: &str) -> bytes::Bytes {
    let mut builder = BatchBuilder::new(2048);
    _ = builder.append(timestamp_ms, Some(key.as_bytes()), Some("v".repeat(1000).as_bytes()), &[]);
    let batch = builder.finish_compressed(None, Compression::None).unwrap();
    [&batch.header()[..], batch.body()].concat().into()
}

async fn alter(client: &mut Client, name: &str, value: &str) -> i16 {
    let config = incremental_alter_configs::AlterableConfig {
        name: name.into(),
        config_operation: 0,
        value: Some(value.into()),
    };
    let resource = incremental_alter_configs::AlterConfigsResource {
        resource_type: 2,
        resource_name: "orders".into(),
        configs: vec![config],
    };
    let request = incremental_alter_configs::Request { resources: vec![resource], validate_only: false };
    client.ask::<IncrementalAlterConfigs>(1, &request).await.responses[0].error_code
}

#[tokio::test]
async fn max_message_bytes_is_the_longest_batch() {
    let (_node, mut client, _) = node(&[("max.message.bytes", "1024")]).await;
    assert_eq!(client.produce("orders", 0, at(now_ms(), "k")).await.error_code, 10);
    assert_eq!(alter(&mut client, "max.message.bytes", "2048").await, 0);
    assert_eq!(client.produce("orders", 0, at(now_ms(), "k")).await.error_code, 0);
}

#[tokio::test]
async fn times_that_are_too_far_away_are_refused() {
    let settings =
        [("message.timestamp.before.max.ms", "3600000"), ("message.timestamp.after.max.ms", "3600000")];
    let (_node, mut client, _) = node(&settings).await;
    for (distance_ms, error_code) in [(0, 0), (-2 * HOUR_MS, 32), (2 * HOUR_MS, 32), (-HOUR_MS / 2, 0)] {
        let produced = client.produce("orders", 0, at(now_ms() + distance_ms, "k")).await;
        assert_eq!(produced.error_code, error_code, "{distance_ms} ms from now");
    }
    // The node's own times are never too far away.
    assert_eq!(alter(&mut client, "message.timestamp.type", "LogAppendTime").await, 0);
    let produced = client.produce("orders", 0, at(now_ms() - 2 * HOUR_MS, "k")).await;
    assert!(produced.error_code == 0 && produced.log_append_time_ms > now_ms() - HOUR_MS, "{produced:?}");
}

/// Also a batch that is too long to be rewritten by a thread that serves others.
#[tokio::test]
async fn what_is_stored_has_the_codec_of_the_topic() {
    let (_node, mut client, _) = node(&[("compression.type", "zstd")]).await;
    let long = "long ".repeat(40_000);
    for (offset, (value, codec)) in
        (0..).zip([("short", Compression::Gzip), (&*long, Compression::None), ("short", Compression::Zstd)])
    {
        let produced = client.produce("orders", 0, batch_of(&[value], None, codec)).await;
        assert_eq!((produced.error_code, produced.base_offset), (0, offset));
        let response = client.ask::<Fetch>(12, &request("orders", &[(0, offset)])).await;
        let bytes = bytes_of(response.responses[0].partitions[0].records.as_ref().unwrap());
        let stored = Batch::parse(bytes).unwrap();
        assert_eq!(stored.compression(), Compression::Zstd);
        let record = stored.records().next().unwrap().unwrap();
        assert_eq!(record.value.unwrap(), value.as_bytes());
    }
}

/// By age, and by size: of closed segments, of which each has about four records.
#[tokio::test]
async fn old_records_and_those_over_the_size_go() {
    for (name, value, kept) in [("retention.ms", "3600000", 4..8), ("retention.bytes", "10000", 9..16)] {
        let (node, mut client, topic) = node(&[("segment.bytes", "4096")]).await;
        for nth in 0..20 {
            let time_ms = if nth < 16 { now_ms() - 2 * HOUR_MS } else { now_ms() };
            assert_eq!(client.produce("orders", 0, at(time_ms, "k")).await.error_code, 0);
        }
        node.log.clean().unwrap();
        assert_eq!(node.log.bounds(&topic, 0).unwrap().0, 0, "nothing goes unless it is said");
        assert_eq!(alter(&mut client, name, value).await, 0);
        node.log.clean().unwrap();
        let (start, end) = node.log.bounds(&topic, 0).unwrap();
        assert!(kept.contains(&(end - start)), "{name}: {start} to {end}");
    }
}

#[tokio::test]
async fn segments_are_closed_by_size_and_by_time() {
    for (settings, closed) in [
        ([("segment.bytes", "4096"), ("segment.ms", "604800000")], 4),
        ([("segment.bytes", "1048576"), ("segment.ms", "60000")], 9),
        ([("segment.bytes", "1048576"), ("segment.ms", "604800000")], 0),
    ] {
        let (node, mut client, topic) = node(&settings).await;
        for nth in 0..20 {
            let time_ms = now_ms() - HOUR_MS + i64::from(nth) * 31_000;
            assert_eq!(client.produce("orders", 0, at(time_ms, "k")).await.error_code, 0);
        }
        assert_eq!(alter(&mut client, "retention.ms", "1").await, 0);
        node.log.clean().unwrap();
        // What is in closed segments goes, all of it is older than that.
        let (start, _) = node.log.bounds(&topic, 0).unwrap();
        assert_eq!(start > 0, closed > 0, "{settings:?}: {start}");
        assert!(start <= 19, "{settings:?}: what still grows stays");
    }
}

#[tokio::test]
async fn of_a_compacted_topic_the_last_record_of_each_key_stays() {
    let settings = [("cleanup.policy", "compact"), ("segment.bytes", "4096"), ("retention.ms", "1")];
    let (node, mut client, topic) = node(&settings).await;
    for nth in 0..40 {
        let produced = client.produce("orders", 0, at(now_ms() - HOUR_MS, ["a", "b"][nth % 2])).await;
        assert_eq!(produced.error_code, 0);
    }
    node.log.compact(&topic).unwrap();
    let left = node.log.partitions(&topic).unwrap()[0].records;
    assert!((2..=10).contains(&left), "{left}");
    assert_eq!(node.log.bounds(&topic, 0).unwrap().0, 0, "retention is for what is deleted");
}

/// As in Kafka: a number of replicas that a topic doesn't have counts as the number that it has, for acks=all too.
#[tokio::test]
async fn more_replicas_in_sync_than_there_are_count_as_one() {
    let settings = [("min.insync.replicas", "2"), ("unclean.leader.election.enable", "true")];
    let (_node, mut client, _) = node(&settings).await;
    for acks in [-1, 1] {
        let response = client
            .ask::<exactlog_wire::messages::Produce>(9, &produce_request(acks, "orders", 0, batch(&["a"])))
            .await;
        assert_eq!(response.responses[0].partition_responses[0].error_code, 0, "acks {acks}");
    }
    for (name, value, error_code) in [
        ("min.insync.replicas", "3", 0),
        ("min.insync.replicas", "0", 40),
        ("min.insync.replicas", "many", 40),
        ("unclean.leader.election.enable", "false", 0),
        ("unclean.leader.election.enable", "maybe", 40),
    ] {
        assert_eq!(alter(&mut client, name, value).await, error_code, "{name} {value}");
    }
    let keys = ["min.insync.replicas", "unclean.leader.election.enable"].map(Into::into).to_vec();
    let resource = describe_configs::DescribeConfigsResource {
        resource_type: 2,
        resource_name: "orders".into(),
        configuration_keys: Some(keys),
    };
    let request = describe_configs::Request { resources: vec![resource], ..Default::default() };
    let described = client.ask::<DescribeConfigs>(4, &request).await.results.remove(0);
    let values = described.configs.iter().map(|it| (&*it.name, it.value.as_deref().unwrap()));
    let expected = [("min.insync.replicas", "3"), ("unclean.leader.election.enable", "false")];
    assert_eq!(values.collect::<Vec<_>>(), expected);
}
