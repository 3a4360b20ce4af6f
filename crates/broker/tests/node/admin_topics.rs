//! Topics deleted, extended and trimmed, and their leader epochs.

use crate::common::{Client, Node, batch};
use exactlog::wire::Command;
use exactlog::{CleanupPolicy, Log, TableOptions, TopicConfig, TopicOptions};
use exactlog_broker::{NodeOptions, Running, bind};
use exactlog_sim::disk::SimDisk;
use exactlog_wire::messages::{
    CreatePartitions, DeleteRecords, DeleteTopics, Fetch, Metadata, OffsetForLeaderEpoch, create_partitions,
    delete_records, delete_topics, fetch, metadata, offset_for_leader_epoch,
};
use exactlog_wire::value::Uuid;
use std::net::SocketAddr;
use std::sync::Arc;

fn state(name: Option<&str>, topic_id: Uuid) -> delete_topics::DeleteTopicState {
    delete_topics::DeleteTopicState { name: name.map(Into::into), topic_id }
}

/// By name, as each version says it.
fn delete(version: i16, names: &[&str]) -> delete_topics::Request {
    match version {
        6.. => delete_topics::Request {
            topics: names.iter().map(|name| state(Some(name), Uuid::default())).collect(),
            ..Default::default()
        },
        _ => delete_topics::Request {
            topic_names: names.iter().map(|name| (*name).into()).collect(),
            ..Default::default()
        },
    }
}

fn delete_states(topics: Vec<delete_topics::DeleteTopicState>) -> delete_topics::Request {
    delete_topics::Request { topics, ..Default::default() }
}

fn codes(response: &delete_topics::Response) -> Vec<i16> {
    response.responses.iter().map(|it| it.error_code).collect()
}

fn names_of(node: &Node) -> Vec<String> {
    node.log.topics().iter().map(|topic| topic.name().to_string()).collect()
}

async fn id_of(client: &mut Client, name: &str) -> Uuid {
    let topic = metadata::MetadataRequestTopic { name: Some(name.into()), ..Default::default() };
    let request = metadata::Request { topics: Some(vec![topic]), ..Default::default() };
    client.ask::<Metadata>(12, &request).await.topics[0].topic_id
}

#[tokio::test]
async fn every_version_deletes_topics_by_name() {
    let node = Node::start().await;
    let mut client = node.client().await;
    for version in 1..=6 {
        node.log.create_topic("orders", TopicOptions::default()).unwrap();
        let id = id_of(&mut client, "orders").await;
        let response = client.ask::<DeleteTopics>(version, &delete(version, &["orders", "ordres"])).await;
        assert_eq!(codes(&response), [0, 3], "version {version}");
        assert_eq!(response.responses[0].name.as_deref(), Some("orders"));
        assert!(names_of(&node).is_empty(), "version {version}");
        if version >= 5 {
            let message = response.responses[1].error_message.clone().unwrap();
            assert!(message.contains("\"ordres\""), "{message}");
        }
        if version >= 6 {
            assert_eq!(response.responses[0].topic_id, id);
        }
        assert!(codes(&client.ask::<DeleteTopics>(version, &delete(version, &[])).await).is_empty());
    }
}

#[tokio::test]
async fn topics_are_deleted_by_id_and_an_id_is_never_anothers() {
    let node = Node::with_topic("orders", 1).await;
    let mut client = node.client().await;
    let id = id_of(&mut client, "orders").await;
    let by_id = delete_states(vec![state(None, id), state(None, Uuid([7; 16]))]);
    let response = client.ask::<DeleteTopics>(6, &by_id).await;
    assert_eq!(codes(&response), [0, 100]);
    assert_eq!(response.responses[0].name.as_deref(), Some("orders"));
    assert_eq!((&response.responses[1].name, response.responses[1].topic_id), (&None, Uuid([7; 16])));
    node.log.create_topic("orders", TopicOptions::default()).unwrap();
    assert_eq!(codes(&client.ask::<DeleteTopics>(6, &by_id).await), [100, 100]);
    assert_eq!(names_of(&node), ["orders"]);
}

#[tokio::test]
async fn a_topic_that_is_named_twice_or_unclearly_stays() {
    let node = Node::with_topic("orders", 1).await;
    node.log.create_topic("payments", TopicOptions::default()).unwrap();
    let mut client = node.client().await;
    let id = id_of(&mut client, "orders").await;
    let none = Uuid::default();
    for (topics, expected) in [
        (vec![state(Some("orders"), none), state(Some("orders"), none)], vec![42]),
        (vec![state(Some("ordres"), none), state(Some("ordres"), none)], vec![42]),
        (vec![state(None, id), state(None, id)], vec![42]),
        (vec![state(Some("orders"), none), state(None, id)], vec![42, 42]),
        (vec![state(Some("orders"), id), state(Some("payments"), none)], vec![42, 42]),
        (vec![state(None, none), state(Some("payments"), none)], vec![42, 42]),
    ] {
        let request = delete_states(topics);
        let response = client.ask::<DeleteTopics>(6, &request).await;
        assert_eq!(codes(&response), expected, "{request:?}");
        assert!(response.responses[0].error_message.is_some());
    }
    assert_eq!(codes(&client.ask::<DeleteTopics>(1, &delete(1, &["orders", "orders"])).await), [42]);
    assert_eq!(names_of(&node), ["orders", "payments"]);
}

/// What the log keeps for itself can't be named, neither by its name nor by an id that is made up.
#[tokio::test]
async fn what_the_log_keeps_for_itself_is_no_topic() {
    let node = Node::with_topic("orders", 1).await;
    let mut client = node.client().await;
    let orders = node.log.open_topic("orders").unwrap();
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(3600);
    node.log.producer("p").unwrap().send_at(&orders, exactlog::Event::new("k", "a"), later).await.unwrap();
    let mut hidden = id_of(&mut client, "orders").await;
    hidden.0[12..].fill(0);
    let request = delete_states(vec![state(None, hidden), state(Some("__timers-0"), Uuid::default())]);
    assert_eq!(codes(&client.ask::<DeleteTopics>(6, &request).await), [100, 3]);
    let partition = fetch::FetchPartition { partition_max_bytes: 1 << 20, ..Default::default() };
    let topic = fetch::FetchTopic { topic_id: hidden, partitions: vec![partition], ..Default::default() };
    let request =
        fetch::Request { topics: vec![topic], max_bytes: 1 << 20, session_epoch: -1, ..Default::default() };
    let response = client.ask::<Fetch>(13, &request).await;
    assert_eq!(response.responses[0].partitions[0].error_code, 100);
}

fn more(name: &str, count: i32, assigned: Option<&[&[i32]]>) -> create_partitions::CreatePartitionsTopic {
    let assignment =
        |ids: &&[i32]| create_partitions::CreatePartitionsAssignment { broker_ids: ids.to_vec() };
    create_partitions::CreatePartitionsTopic {
        name: name.into(),
        count,
        assignments: assigned.map(|all| all.iter().map(assignment).collect()),
    }
}

fn create(topics: Vec<create_partitions::CreatePartitionsTopic>) -> create_partitions::Request {
    create_partitions::Request { topics, ..Default::default() }
}

#[tokio::test]
async fn every_version_adds_partitions_that_can_be_used_at_once() {
    let node = Node::with_topic("orders", 1).await;
    let mut client = node.client().await;
    for version in 0..=3 {
        let count = i32::from(version) + 2;
        let checked =
            create_partitions::Request { validate_only: true, ..create(vec![more("orders", count, None)]) };
        assert_eq!(client.ask::<CreatePartitions>(version, &checked).await.results[0].error_code, 0);
        assert_eq!(client.produce("orders", count - 1, batch(&["a"])).await.error_code, 3, "only checked");
        let request = create(vec![more("orders", count, Some(&[&[1]]))]);
        let result = client.ask::<CreatePartitions>(version, &request).await.results.remove(0);
        assert_eq!((&*result.name, result.error_code, &result.error_message), ("orders", 0, &None));
        assert_eq!(client.produce("orders", count - 1, batch(&["a"])).await.error_code, 0);
    }
    assert!(client.ask::<CreatePartitions>(3, &create(vec![])).await.results.is_empty());
}

#[tokio::test]
async fn partitions_that_cannot_be_are_refused_with_the_limit() {
    let node = Node::with_topic("orders", 3).await;
    node.log.create_table("stock", TableOptions::default()).unwrap();
    let mut client = node.client().await;
    for (topic, code, says) in [
        (more("ordres", 4, None), 3, "ordres"),
        (more("orders", 3, None), 37, "has 3 partitions"),
        (more("orders", 2, None), 37, "2 would be no more"),
        (more("orders", -1, None), 37, "-1"),
        (more("orders", 100_001, None), 37, "100000"),
        (more("orders", 5, Some(&[&[1]])), 39, "1 partitions, 2 are new"),
        (more("orders", 4, Some(&[&[2]])), 39, "[2]"),
        (more("orders", 4, Some(&[&[]])), 39, "[]"),
        (more("orders", 4, Some(&[&[1, 1]])), 39, "[1, 1]"),
        (more("stock", 9, None), 37, "its keys would move"),
    ] {
        for validate_only in [true, false] {
            let request = create_partitions::Request { validate_only, ..create(vec![topic.clone()]) };
            let result = client.ask::<CreatePartitions>(2, &request).await.results.remove(0);
            assert_eq!(result.error_code, code, "{result:?}");
            assert!(result.error_message.as_ref().unwrap().contains(says), "{result:?}");
        }
    }
    let twice = create(vec![more("orders", 4, None), more("none", 4, None), more("orders", 5, None)]);
    let results = client.ask::<CreatePartitions>(3, &twice).await.results;
    assert_eq!(results.iter().map(|it| it.error_code).collect::<Vec<_>>(), [42, 3]);
    assert_eq!(node.log.open_topic("orders").unwrap().partitions(), 3);
}

/// What is rehearsed is answered as what is asked, and leaves nothing behind.
#[tokio::test]
async fn what_is_rehearsed_is_answered_as_what_is_done() {
    let node = Node::with_topic("orders", 2).await;
    node.log.create_table("stock", TableOptions::default()).unwrap();
    let id = |name: &str| node.log.open_topic(name).unwrap().id();
    let set = |name: &str, value: &str| {
        let mut config = TopicConfig::default();
        config.set(name, value).unwrap();
        config
    };
    let new = |name: &str, partitions, config| Command::CreateTopic { name: name.into(), partitions, config };
    let alter = |topic, config| Command::AlterTopic { topic, config };
    let more = |topic, partitions| Command::CreatePartitions { topic, partitions };
    let nobodys = exactlog::TopicId(99);
    for (command, code) in [
        (new("new", 1, TopicConfig::default()), 0),
        (new("orders", 2, TopicConfig::default()), 0),
        (new("orders", 3, TopicConfig::default()), 36),
        (new("newer", 0, TopicConfig::default()), 37),
        (new("newer", 1, set("segment.ms", "0")), 40),
        (new("no/name", 1, TopicConfig::default()), 17),
        (alter(id("orders"), set("retention.ms", "5")), 0),
        (alter(id("orders"), set("segment.bytes", "1")), 40),
        (alter(id("stock"), set("cleanup.policy", "compact")), 0),
        (alter(id("stock"), TopicConfig::default()), 40),
        (alter(nobodys, TopicConfig::default()), 3),
        (alter(exactlog::TopicId::TIMERS, TopicConfig::default()), 3),
        (more(id("orders"), 4), 0),
        (more(id("orders"), 1), 37),
        (more(id("stock"), 9), 37),
        (more(nobodys, 9), 3),
    ] {
        let code_of =
            |answer: Result<_, exactlog::Error>| answer.map_or_else(|error| error.kafka_code(), |_| 0);
        let before = node.log.details();
        assert_eq!(code_of(node.log.rehearse(&command)), code, "{command:?}");
        assert_eq!(node.log.details(), before, "nothing was written");
        assert_eq!(code_of(node.log.ask(command.clone()).await), code, "{command:?}");
    }
}

/// Answers with code and low watermark.
async fn deleted(client: &mut Client, version: i16, topic: &str, wanted: &[(i32, i64)]) -> Vec<(i16, i64)> {
    let partition = |(partition_index, offset): &(i32, i64)| delete_records::DeleteRecordsPartition {
        partition_index: *partition_index,
        offset: *offset,
    };
    let topic = delete_records::DeleteRecordsTopic {
        name: topic.into(),
        partitions: wanted.iter().map(partition).collect(),
    };
    let request = delete_records::Request { topics: vec![topic], timeout_ms: 1000 };
    let response = client.ask::<DeleteRecords>(version, &request).await.topics.remove(0);
    let indexes: Vec<i32> = response.partitions.iter().map(|it| it.partition_index).collect();
    assert_eq!(indexes, wanted.iter().map(|(index, _)| *index).collect::<Vec<_>>());
    response.partitions.iter().map(|it| (it.error_code, it.low_watermark)).collect()
}

/// LG-4: the start only rises.
#[tokio::test]
async fn lg_4_every_version_moves_the_start_and_never_back() {
    for version in 0..=2 {
        let node = Node::with_topic("orders", 2).await;
        let mut client = node.client().await;
        client.produce("orders", 0, batch(&["a", "b", "c", "d"])).await;
        let all = [(0, 2), (1, 0), (0, 1), (0, 5), (0, -2), (2, 0), (-1, 0)];
        let expected = [(0, 2), (0, 0), (0, 2), (1, -1), (1, -1), (3, -1), (3, -1)];
        assert_eq!(deleted(&mut client, version, "orders", &all).await, expected, "version {version}");
        assert_eq!(deleted(&mut client, version, "ordres", &[(0, 0)]).await, [(3, -1)]);
        let topic = node.log.open_topic("orders").unwrap();
        assert_eq!(node.log.bounds(&topic, 0).unwrap(), (2, 4));
        assert_eq!(deleted(&mut client, version, "orders", &[(0, -1)]).await, [(0, 4)]);
        assert_eq!(node.log.bounds(&topic, 0).unwrap(), (4, 4));
        assert_eq!(deleted(&mut client, version, "orders", &[]).await, []);
    }
}

#[tokio::test]
async fn records_of_compacted_topics_go_only_if_they_are_deleted_as_well() {
    let node = Node::start().await;
    for (name, policy) in [("kept", CleanupPolicy::Compact), ("both", CleanupPolicy::CompactAndDelete)] {
        node.log.create_topic(name, TopicOptions::default().cleanup_policy(policy)).unwrap();
    }
    let mut client = node.client().await;
    let wanted = [(0, -1), (0, 7), (0, -2), (1, -1)];
    let kept = deleted(&mut client, 2, "kept", &wanted).await;
    assert_eq!(kept, [(44, -1), (44, -1), (44, -1), (3, -1)]);
    assert_eq!(deleted(&mut client, 2, "both", &wanted).await, [(0, 0), (1, -1), (1, -1), (3, -1)]);
}

/// Code, epoch and end offset.
async fn ended(client: &mut Client, version: i16, current: i32, epoch: i32, index: i32) -> (i16, i32, i64) {
    let partition = offset_for_leader_epoch::OffsetForLeaderPartition {
        partition: index,
        current_leader_epoch: current,
        leader_epoch: epoch,
    };
    let topic =
        offset_for_leader_epoch::OffsetForLeaderTopic { topic: "orders".into(), partitions: vec![partition] };
    let request = offset_for_leader_epoch::Request { topics: vec![topic], ..Default::default() };
    let response = client.ask::<OffsetForLeaderEpoch>(version, &request).await.topics.remove(0);
    assert_eq!(&*response.topic, "orders");
    let end = &response.partitions[0];
    assert_eq!(end.partition, index);
    (end.error_code, end.leader_epoch, end.end_offset)
}

async fn serve(log: &Log) -> Running {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    bind(NodeOptions { listen, ..NodeOptions::default() }).await.unwrap().serve(log)
}

/// A log that wasn't closed has a higher epoch when it is opened again.
#[tokio::test]
async fn gr_7_every_version_says_where_epochs_have_ended() {
    let open = |disk: &SimDisk| Log::builder().disk(Arc::new(disk.clone())).open("simulated").unwrap();
    let disk = SimDisk::new();
    let log = open(&disk);
    log.create_topic("orders", TopicOptions::default()).unwrap();
    let running = serve(&log).await;
    Client::connect(running.address()).await.produce("orders", 0, batch(&["a", "b"])).await;
    let log = open(&disk.process_kill());
    let running = serve(&log).await;
    let mut client = Client::connect(running.address()).await;
    let topic = log.open_topic("orders").unwrap();
    let at = exactlog::Partition { topic: topic.id(), index: 0 };
    let first = log.leader_epoch_at(at, 0).unwrap() as i32;
    let current = log.bounds_of(at).unwrap().leader_epoch as i32;
    assert!(first < current, "{first} {current}");
    for version in 2..=4 {
        let end = log.bounds_of(at).unwrap().high_watermark as i64;
        assert_eq!(ended(&mut client, version, -1, first, 0).await, (0, first, 2), "version {version}");
        assert_eq!(ended(&mut client, version, current, current, 0).await, (0, current, end));
        client.produce("orders", 0, batch(&["c"])).await;
        assert_eq!(ended(&mut client, version, current, first, 0).await, (0, first, 2));
        assert_eq!(ended(&mut client, version, current, current, 0).await, (0, current, end + 1));
        assert_eq!(ended(&mut client, version, current, current + 1, 0).await, (0, -1, -1));
        assert_eq!(ended(&mut client, version, current, -1, 0).await, (0, -1, -1));
        assert_eq!(ended(&mut client, version, current - 1, first, 0).await, (74, -1, -1));
        assert_eq!(ended(&mut client, version, current + 1, first, 0).await, (75, -1, -1));
        assert_eq!(ended(&mut client, version, -1, first, 1).await, (3, -1, -1));
        assert_eq!(ended(&mut client, version, -1, first, -1).await, (3, -1, -1));
    }
}
