//! Transactions and producers as administrators see them (KIP-664).

use crate::common::{Client, Node};
use crate::transactional::{TIMEOUT_MS, Who};
use exactlog::TopicOptions;
use exactlog_wire::messages::{
    DescribeProducers, DescribeTransactions, ListTransactions, describe_producers, describe_transactions,
    list_transactions,
};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

async fn described(client: &mut Client, id: &str) -> describe_transactions::TransactionState {
    let request = describe_transactions::Request { transactional_ids: vec![id.into()] };
    client.ask::<DescribeTransactions>(0, &request).await.transaction_states[0].clone()
}

async fn listed(client: &mut Client, version: i16, request: &list_transactions::Request) -> Vec<String> {
    let response = client.ask::<ListTransactions>(version, request).await;
    assert_eq!(response.error_code, 0);
    response.transaction_states.iter().map(|it| it.transactional_id.to_string()).collect()
}

fn everything() -> list_transactions::Request {
    list_transactions::Request::default()
}

#[tokio::test]
async fn tx_26_a_transactional_id_is_described_in_each_of_its_states() {
    let node = Node::with_topic("orders", 3).await;
    node.log.create_topic("bills", TopicOptions::default()).unwrap();
    let mut client = node.client().await;
    let who = Who::init(&mut client, "t").await;
    let empty = described(&mut client, "t").await;
    assert_eq!((empty.error_code, &*empty.transaction_state), (0, "Empty"));
    assert_eq!((empty.producer_id, empty.producer_epoch), (who.producer_id, who.epoch));
    assert_eq!((empty.transaction_timeout_ms, empty.transaction_start_time_ms), (TIMEOUT_MS, -1));
    let before_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    who.add_partitions(&mut client, 3, &[("orders", &[2, 0]), ("bills", &[0])]).await;
    let open = described(&mut client, "t").await;
    assert_eq!((open.error_code, &*open.transaction_state, &*open.transactional_id), (0, "Ongoing", "t"));
    assert!((before_ms - 1000..before_ms + 60_000).contains(&open.transaction_start_time_ms), "{open:?}");
    let topics: Vec<_> = open.topics.iter().map(|it| (it.topic.to_string(), it.partitions.clone())).collect();
    assert_eq!(topics, [("orders".to_string(), vec![0, 2]), ("bills".to_string(), vec![0])]);
    who.end(&mut client, 4, true).await;
    let ended = described(&mut client, "t").await;
    assert_eq!((&*ended.transaction_state, ended.topics.len()), ("CompleteCommit", 0));
    who.add(&mut client, 3, "orders", 0).await;
    let (_, next) = who.end(&mut client, 5, false).await;
    let ended = described(&mut client, "t").await;
    assert_eq!((&*ended.transaction_state, ended.producer_epoch), ("CompleteAbort", next.epoch));
}

#[tokio::test]
async fn tx_26_an_id_that_is_not_there_is_not_found() {
    let node = Node::start().await;
    let mut client = node.client().await;
    Who::init(&mut client, "t").await;
    let request = describe_transactions::Request {
        transactional_ids: ["", "nobody", "t", "t"].map(Into::into).to_vec(),
    };
    let response = client.ask::<DescribeTransactions>(0, &request).await;
    let told = response.transaction_states.iter().map(|it| (&*it.transactional_id, it.error_code));
    assert_eq!(told.collect::<Vec<_>>(), [("", 42), ("nobody", 105), ("t", 0), ("t", 0)]);
    let none = client.ask::<DescribeTransactions>(0, &describe_transactions::Request::default()).await;
    assert_eq!(none.transaction_states, []);
}

#[tokio::test]
async fn tx_26_ids_are_listed_by_state_and_producer() {
    let node = Node::with_topic("orders", 1).await;
    let mut client = node.client().await;
    assert_eq!(listed(&mut client, 2, &everything()).await, [""; 0]);
    Who::init(&mut client, "empty").await;
    let open = Who::init(&mut client, "open").await;
    open.add(&mut client, 3, "orders", 0).await;
    for (id, commit) in [("committed", true), ("aborted", false)] {
        let who = Who::init(&mut client, id).await;
        who.add(&mut client, 3, "orders", 0).await;
        who.end(&mut client, 4, commit).await;
    }
    for version in 0..=2 {
        let all = client.ask::<ListTransactions>(version, &everything()).await;
        let states = all.transaction_states.iter().map(|it| (&*it.transactional_id, &*it.transaction_state));
        let expected = [
            ("aborted", "CompleteAbort"),
            ("committed", "CompleteCommit"),
            ("empty", "Empty"),
            ("open", "Ongoing"),
        ];
        assert_eq!(states.collect::<Vec<_>>(), expected, "version {version}");
        let of_open = all.transaction_states.iter().find(|it| &*it.transactional_id == "open").unwrap();
        assert_eq!(of_open.producer_id, open.producer_id);
        let states = |names: &[&str]| list_transactions::Request {
            state_filters: names.iter().map(|name| (*name).into()).collect(),
            ..everything()
        };
        assert_eq!(listed(&mut client, version, &states(&["Ongoing", "Empty"])).await, ["empty", "open"]);
        assert_eq!(listed(&mut client, version, &states(&["PrepareCommit"])).await, [""; 0]);
        // What isn't a state is said, and is met by none.
        let unknown = client.ask::<ListTransactions>(version, &states(&["ongoing", "Dead"])).await;
        assert_eq!(unknown.unknown_state_filters, ["ongoing".into()]);
        assert_eq!(unknown.transaction_states, []);
        let mut both = states(&["Ongoing", "Empty"]);
        both.producer_id_filters = vec![open.producer_id, 4711];
        assert_eq!(listed(&mut client, version, &both).await, ["open"]);
        let nobodys = list_transactions::Request { producer_id_filters: vec![4711], ..everything() };
        assert_eq!(listed(&mut client, version, &nobodys).await, [""; 0]);
    }
}

/// KIP-994, KIP-1152.
#[tokio::test]
async fn tx_26_ids_are_listed_by_duration_and_by_a_pattern_that_is_plain_text() {
    let node = Node::with_topic("orders", 1).await;
    let mut client = node.client().await;
    Who::init(&mut client, "empty").await;
    Who::init(&mut client, "open").await.add(&mut client, 3, "orders", 0).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    for version in [1, 2] {
        for (duration_filter, ids) in
            [(-1, &["empty", "open"][..]), (0, &["open"]), (5, &["open"]), (600_000, &[]), (i64::MAX, &[])]
        {
            let request = list_transactions::Request { duration_filter, ..everything() };
            assert_eq!(listed(&mut client, version, &request).await, ids, "{duration_filter} ms");
        }
    }
    let pattern = |pattern: &str| list_transactions::Request {
        transactional_id_pattern: Some(pattern.into()),
        ..everything()
    };
    for (text, ids) in [("", &["empty", "open"][..]), ("open", &["open"]), ("ope", &[]), ("OPEN", &[])] {
        assert_eq!(listed(&mut client, 2, &pattern(text)).await, ids, "{text:?}");
    }
    for text in ["op.*", "(", "open|empty", "^open$", r"\Qopen\E", "[o]pen", "open?"] {
        let refused = client.ask::<ListTransactions>(2, &pattern(text)).await;
        assert_eq!((refused.error_code, refused.transaction_states.len()), (128, 0), "{text:?}");
    }
}

#[tokio::test]
async fn tx_26_the_producers_of_a_partition_are_described() {
    let node = Node::with_topic("orders", 2).await;
    let mut client = node.client().await;
    let who = Who::init(&mut client, "t").await;
    client.produce("orders", 0, crate::common::batch(&["nobody's"])).await;
    who.produce(&mut client, 12, ("orders", 0), who.batch(0, &["a", "b"])).await;
    let request = |topic: &str, partition_indexes: &[i32]| describe_producers::Request {
        topics: vec![describe_producers::TopicRequest {
            name: topic.into(),
            partition_indexes: partition_indexes.to_vec(),
        }],
    };
    let asked = client.ask::<DescribeProducers>(0, &request("orders", &[0, 1])).await;
    let expected = describe_producers::ProducerState {
        producer_id: who.producer_id,
        producer_epoch: who.epoch.into(),
        last_sequence: 1,
        last_timestamp: 1000,
        coordinator_epoch: -1,
        current_txn_start_offset: 1,
    };
    let partitions = &asked.topics[0].partitions;
    assert_eq!(partitions[0].active_producers, [expected]);
    assert_eq!((partitions[1].error_code, partitions[1].active_producers.len()), (0, 0));
    who.end(&mut client, 5, true).await;
    let asked = client.ask::<DescribeProducers>(0, &request("orders", &[0])).await;
    let ended = &asked.topics[0].partitions[0].active_producers[0];
    assert!(ended.coordinator_epoch >= 0, "a marker was written");
    assert_eq!((ended.current_txn_start_offset, ended.last_sequence), (-1, 1));
    // What isn't there has its code, and the reason.
    for (topic, index, code) in
        [("orders", 2, 3), ("orders", -1, 3), ("ordres", 0, 3), ("or ders", 0, 17), ("", 0, 17)]
    {
        let asked = client.ask::<DescribeProducers>(0, &request(topic, &[index])).await;
        let partition = &asked.topics[0].partitions[0];
        assert_eq!((partition.error_code, partition.partition_index), (code, index), "{topic:?} {index}");
        assert!(partition.error_message.as_ref().is_some_and(|message| message.contains(topic)));
    }
    assert_eq!(client.ask::<DescribeProducers>(0, &describe_producers::Request::default()).await.topics, []);
    let nothing = client.ask::<DescribeProducers>(0, &request("orders", &[])).await;
    assert_eq!(nothing.topics[0].partitions, []);
}
