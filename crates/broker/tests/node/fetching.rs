//! Reading: offsets, waiting, limits, epochs.

use crate::common::{Client, LONG, Node, batch, counter, values_of};
use exactlog::TopicOptions;
use exactlog_broker::NodeOptions;
use exactlog_wire::messages::{Fetch, fetch};
use std::time::{Duration, Instant};

/// Of these partitions, from these offsets on.
pub(crate) fn request(topic: &str, wanted: &[(i32, i64)]) -> fetch::Request {
    let partition = |(partition, fetch_offset): &(i32, i64)| fetch::FetchPartition {
        partition: *partition,
        fetch_offset: *fetch_offset,
        partition_max_bytes: 1 << 20,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        ..Default::default()
    };
    fetch::Request {
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![fetch::FetchTopic {
            topic: topic.into(),
            partitions: wanted.iter().map(partition).collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

async fn fetched(client: &mut Client, request: &fetch::Request) -> fetch::PartitionData {
    client.ask::<Fetch>(12, request).await.responses[0].partitions[0].clone()
}

fn values(partition: &fetch::PartitionData) -> Vec<(u64, String)> {
    values_of(partition.records.as_ref().unwrap())
}

#[tokio::test]
async fn every_version_gets_the_records_from_an_offset_on() {
    let node = Node::with_topic("orders", 1).await;
    let mut client = node.client().await;
    for value in ["a", "b", "c"] {
        client.produce("orders", 0, batch(&[value])).await;
    }
    for version in 4..=12 {
        let response = client.ask::<Fetch>(version, &request("orders", &[(0, 1)])).await;
        let partition = &response.responses[0].partitions[0];
        assert_eq!((partition.error_code, partition.high_watermark), (0, 3), "version {version}");
        assert_eq!(values(partition), [(1, "b".to_string()), (2, "c".to_string())]);
    }
}

#[tokio::test]
async fn places_and_topics_that_are_not_there_have_their_codes() {
    let node = Node::with_topic("orders", 1).await;
    let mut client = node.client().await;
    client.produce("orders", 0, batch(&["a"])).await;
    for (topic, partition, offset, code) in [
        ("ordres", 0, 0, 3),
        ("orders", 1, 0, 3),
        ("orders", -1, 0, 3),
        ("orders", 0, 2, 1),
        ("orders", 0, -1, 1),
    ] {
        let found = fetched(&mut client, &request(topic, &[(partition, offset)])).await;
        assert_eq!(found.error_code, code, "{topic} {partition} {offset}");
    }
    let mut of_session = request("orders", &[(0, 0)]);
    (of_session.session_id, of_session.session_epoch) = (7, 1);
    assert_eq!(client.ask::<Fetch>(12, &of_session).await.error_code, 70);
}

/// KIP-320.
#[tokio::test]
async fn who_has_missed_or_dreamt_an_epoch_is_told() {
    let node = Node::with_topic("orders", 1).await;
    let mut client = node.client().await;
    client.produce("orders", 0, batch(&["a"])).await;
    let current =
        node.log.partitions(&node.log.open_topic("orders").unwrap()).unwrap()[0].leader_epoch as i32;
    for (epoch, code) in [(current, 0), (current + 1, 75), (current - 1, if current > 0 { 74 } else { 0 })] {
        let mut asked = request("orders", &[(0, 0)]);
        asked.topics[0].partitions[0].current_leader_epoch = epoch;
        assert_eq!(fetched(&mut client, &asked).await.error_code, code, "epoch {epoch} of {current}");
    }
}

#[tokio::test]
async fn a_wait_ends_with_the_first_record_and_without_one_with_its_time() {
    let node = Node::with_topic("orders", 1).await;
    let (mut reader, mut writer) = (node.client().await, node.client().await);
    let mut waiting = request("orders", &[(0, 0)]);
    waiting.max_wait_ms = 60_000;
    reader.send::<Fetch>(12, &waiting).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    writer.produce("orders", 0, batch(&["a"])).await;
    let (_, response) = reader.receive::<Fetch>(12).await;
    assert_eq!(values(&response.responses[0].partitions[0]), [(0, "a".to_string())]);
    let mut short = request("orders", &[(0, 1)]);
    short.max_wait_ms = 30;
    let since = Instant::now();
    assert!(values(&fetched(&mut reader, &short).await).is_empty());
    assert!(since.elapsed() >= Duration::from_millis(30));
}

#[tokio::test]
async fn it_waits_for_as_many_bytes_as_are_asked_for() {
    let node = Node::with_topic("orders", 1).await;
    let (mut reader, mut writer) = (node.client().await, node.client().await);
    let one = batch(&["a"]);
    let mut waiting = request("orders", &[(0, 0)]);
    (waiting.max_wait_ms, waiting.min_bytes) = (60_000, 2 * one.len() as i32);
    writer.produce("orders", 0, one.clone()).await;
    reader.send::<Fetch>(12, &waiting).await;
    let early = tokio::time::timeout(Duration::from_millis(100), reader.frame()).await;
    assert!(early.is_err(), "there is one batch of two");
    writer.produce("orders", 0, one).await;
    let (_, response) = reader.receive::<Fetch>(12).await;
    assert_eq!(values(&response.responses[0].partitions[0]).len(), 2);
}

/// A reader that waits for many batches isn't read for at each of them.
#[tokio::test]
async fn who_waits_for_much_is_read_for_when_it_may_be_there() {
    let node = Node::with_topic("orders", 2).await;
    let (mut reader, mut writer) = (node.client().await, node.client().await);
    let one = batch(&[&"a".repeat(1000)]);
    let mut waiting = request("orders", &[(0, 0)]);
    (waiting.max_wait_ms, waiting.min_bytes) = (60_000, 100 * one.len() as i32);
    reader.send::<Fetch>(12, &waiting).await;
    for _ in 0..100 {
        writer.produce("orders", 0, one.clone()).await;
    }
    let (_, response) = reader.receive::<Fetch>(12).await;
    assert_eq!(values(&response.responses[0].partitions[0]).len(), 100);
    let read = counter(&node, "exactlog_node_fetch_read_bytes_total");
    assert!(read <= 200 * one.len() as u64, "{read} bytes were read for {}", 100 * one.len());
}

/// What others write into the same topic makes it look once more, and go on waiting.
#[tokio::test]
async fn bytes_of_other_partitions_do_not_end_a_wait() {
    let node = Node::with_topic("orders", 2).await;
    let (mut reader, mut writer) = (node.client().await, node.client().await);
    let one = batch(&["a"]);
    let mut waiting = request("orders", &[(0, 0)]);
    (waiting.max_wait_ms, waiting.min_bytes) = (60_000, 2 * one.len() as i32);
    reader.send::<Fetch>(12, &waiting).await;
    for index in [1, 1, 1, 0, 1, 1, 1] {
        writer.produce("orders", index, one.clone()).await;
    }
    let early = tokio::time::timeout(Duration::from_millis(100), reader.frame()).await;
    assert!(early.is_err(), "there is one batch of two");
    writer.produce("orders", 0, one).await;
    let (_, response) = reader.receive::<Fetch>(12).await;
    assert_eq!(values(&response.responses[0].partitions[0]).len(), 2);
}

/// It is an answer that there is nothing more to wait for.
#[tokio::test]
async fn a_topic_that_goes_ends_a_wait() {
    let node = Node::with_topic("orders", 1).await;
    let mut reader = node.client().await;
    let mut waiting = request("orders", &[(0, 0)]);
    (waiting.max_wait_ms, waiting.min_bytes) = (60_000, 1_000_000);
    reader.send::<Fetch>(12, &waiting).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    node.log.delete_topic(&node.log.open_topic("orders").unwrap()).unwrap();
    let (_, response) = reader.receive::<Fetch>(12).await;
    assert_eq!(response.responses[0].partitions[0].error_code, 3);
}

#[tokio::test]
async fn a_batch_over_the_limit_comes_alone_and_others_wait_for_the_next_request() {
    let node = Node::with_topic("orders", 2).await;
    let mut client = node.client().await;
    let long = "a".repeat(10_000);
    for partition in [0, 1] {
        client.produce("orders", partition, batch(&[&long])).await;
        client.produce("orders", partition, batch(&[&long])).await;
    }
    let mut asked = request("orders", &[(0, 0), (1, 0)]);
    asked.max_bytes = 100;
    let response = client.ask::<Fetch>(12, &asked).await;
    let counts: Vec<usize> = response.responses[0].partitions.iter().map(|it| values(it).len()).collect();
    assert_eq!(counts, [1, 0]);
    asked.max_bytes = 25_000;
    let response = client.ask::<Fetch>(12, &asked).await;
    let counts: Vec<usize> = response.responses[0].partitions.iter().map(|it| values(it).len()).collect();
    assert_eq!(counts, [2, 0]);
}

#[tokio::test]
async fn a_limit_of_nothing_is_one_batch() {
    let node = Node::with_topic("orders", 2).await;
    let mut client = node.client().await;
    for partition in [0, 1, 0, 1] {
        client.produce("orders", partition, batch(&["a"])).await;
    }
    for limit in [0, -1] {
        let mut asked = request("orders", &[(0, 0), (1, 0), (0, 1), (1, 3)]);
        asked.max_bytes = limit;
        let response = client.ask::<Fetch>(12, &asked).await;
        let found: Vec<(i16, usize)> =
            response.responses[0].partitions.iter().map(|it| (it.error_code, values(it).len())).collect();
        assert_eq!(found, [(0, 1), (0, 0), (0, 0), (1, 0)], "max_bytes {limit}");
    }
}

/// What an answer may have is the node's to say, too.
#[tokio::test]
async fn the_nodes_own_limit_holds() {
    let node = Node::with(NodeOptions { fetch_bytes_max: 15_000, ..NodeOptions::default() }).await;
    node.log.create_topic("orders", TopicOptions::default()).unwrap();
    let mut client = node.client().await;
    let long = "a".repeat(10_000);
    for _ in 0..3 {
        client.produce("orders", 0, batch(&[&long])).await;
    }
    let mut asked = request("orders", &[(0, 0)]);
    (asked.max_bytes, asked.topics[0].partitions[0].partition_max_bytes) = (i32::MAX, i32::MAX);
    assert_eq!(values(&fetched(&mut client, &asked).await).len(), 1);
}

#[tokio::test]
async fn a_node_that_ends_answers_who_waits() {
    let node = Node::with_topic("orders", 1).await;
    let mut reader = node.client().await;
    let mut waiting = request("orders", &[(0, 0)]);
    waiting.max_wait_ms = 600_000;
    reader.send::<Fetch>(12, &waiting).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    tokio::time::timeout(LONG, node.running.stop()).await.expect("it ends");
    let (_, response) = reader.receive::<Fetch>(12).await;
    assert_eq!(response.responses[0].partitions[0].error_code, 0);
    assert_eq!(reader.frame().await, None);
}
