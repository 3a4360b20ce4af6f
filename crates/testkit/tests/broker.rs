//! What a test can let happen to a node, seen by a client over its socket.

#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

use bytes::Bytes;
use exactlog::ProducerId;
use exactlog::wire::{BatchBuilder, ProducerStamp};
use exactlog_client::{Connection, Options};
use exactlog_testkit::{Api, TestBroker, code};
use exactlog_wire::messages::{
    EndTxn, Heartbeat, InitProducerId, JoinGroup, Metadata, Produce, end_txn, heartbeat, init_producer_id,
    join_group, metadata, produce,
};
use std::time::Duration;

const V: i16 = 9;

async fn connect(broker: &TestBroker) -> Connection {
    Connection::unversed(&broker.bootstrap(), Options::default()).await.unwrap()
}

/// A broker with the topic `orders`.
async fn broker() -> (TestBroker, Connection) {
    let broker = TestBroker::start().await.unwrap();
    let mut client = connect(&broker).await;
    let topic = metadata::MetadataRequestTopic { name: Some("orders".into()), ..Default::default() };
    let request = metadata::Request {
        topics: Some(vec![topic]),
        allow_auto_topic_creation: true,
        ..Default::default()
    };
    client.ask_at::<Metadata>(4, &request).await.unwrap();
    assert!(broker.log().open_topic("orders").is_ok(), "topics are made when they are asked for");
    (broker, client)
}

/// One record of a producer (id, epoch, sequence), or of none.
fn record(value: &str, producer: Option<(i64, i16, i32)>) -> produce::Request {
    let mut builder = BatchBuilder::new(256);
    builder.append(1000, None, Some(value.as_bytes()), &[]);
    let stamp =
        producer.map(|(id, epoch, base_sequence)| ProducerStamp { id: ProducerId(id), epoch, base_sequence });
    let batch = builder.finish(stamp);
    let bytes: Bytes = [&batch.header()[..], batch.body()].concat().into();
    let partition = produce::PartitionProduceData { index: 0, records: Some(bytes.into()) };
    let topic = produce::TopicProduceData {
        name: "orders".into(),
        partition_data: vec![partition],
        ..Default::default()
    };
    produce::Request { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() }
}

async fn produced(client: &mut Connection, value: &str) -> i16 {
    let answer = client.ask_at::<Produce>(V, &record(value, None)).await.unwrap();
    answer.responses[0].partition_responses[0].error_code
}

/// All values that its log shows.
fn values(broker: &TestBroker) -> Vec<String> {
    let topic = broker.log().open_topic("orders").unwrap();
    let view = broker.log().read_view();
    view.records(&topic).map(|record| record.unwrap().value_str().unwrap().to_owned()).collect()
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("waited in vain: {what}");
}

#[tokio::test]
async fn one_request_is_refused_and_the_next_is_served() {
    let (broker, mut client) = broker().await;
    broker.fail_next(Api::Produce, code::NOT_LEADER_OR_FOLLOWER);
    broker.fail_next(Api::Produce, code::NOT_ENOUGH_REPLICAS);
    assert_eq!(broker.pending_faults(), 2);
    assert_eq!(produced(&mut client, "a").await, code::NOT_LEADER_OR_FOLLOWER);
    assert_eq!(produced(&mut client, "a").await, code::NOT_ENOUGH_REPLICAS);
    assert_eq!(values(&broker), Vec::<String>::new());
    assert_eq!(produced(&mut client, "a").await, 0);
    assert_eq!(values(&broker), ["a"]);
    broker.fail_next(Api::Fetch, code::REQUEST_TIMED_OUT);
    assert_eq!(produced(&mut client, "b").await, 0, "another API's fault stays for that");
    broker.clear_faults();
    assert_eq!(broker.pending_faults(), 0);
}

/// The one thing that makes clients double records: they don't know. The sequence tells.
#[tokio::test]
async fn an_answer_is_lost_and_what_was_asked_is_done_once() {
    let (broker, mut client) = broker().await;
    let request = init_producer_id::Request { producer_id: -1, producer_epoch: -1, ..Default::default() };
    let given = client.ask_at::<InitProducerId>(4, &request).await.unwrap();
    let request = record("a", Some((given.producer_id, given.producer_epoch, 0)));
    broker.lose_answer(Api::Produce);
    assert!(client.ask_at::<Produce>(V, &request).await.is_err());
    assert_eq!(values(&broker), ["a"]);
    let answer = connect(&broker).await.ask_at::<Produce>(V, &request).await.unwrap();
    let partition = &answer.responses[0].partition_responses[0];
    assert_eq!((partition.error_code, partition.base_offset), (0, 0));
    assert_eq!(values(&broker), ["a"]);
}

#[tokio::test]
async fn a_connection_is_cut_and_nobody_has_heard_it() {
    let (broker, mut client) = broker().await;
    broker.cut_next(Api::Produce);
    assert!(client.ask_at::<Produce>(V, &record("a", None)).await.is_err());
    assert_eq!(values(&broker), Vec::<String>::new());
    assert_eq!(produced(&mut connect(&broker).await, "b").await, 0);
}

#[tokio::test]
async fn requests_wait_while_it_is_paused_or_one_is_delayed() {
    let (broker, mut client) = broker().await;
    broker.pause();
    let paused = tokio::spawn(async move { (produced(&mut client, "a").await, client) });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!paused.is_finished() && values(&broker).is_empty());
    broker.resume();
    let (code, mut client) = paused.await.unwrap();
    assert_eq!((code, values(&broker)), (0, vec!["a".to_string()]));
    let (began, time) = (std::time::Instant::now(), Duration::from_millis(50));
    broker.delay_next(Api::Produce, time);
    assert_eq!(produced(&mut client, "b").await, 0);
    assert!(began.elapsed() >= time);
    // It doesn't wait for a client that does.
    broker.pause();
    let waiting = tokio::spawn(async move { client.ask_at::<Produce>(V, &record("c", None)).await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    broker.stop().await.unwrap();
    assert!(waiting.await.unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_behind_each_crash() {
    let (mut broker, mut client) = broker().await;
    let address = broker.address();
    let mut told: Vec<String> = Vec::new();
    for crash in 0..20 {
        // Some are on their way when it comes.
        let mut busy = connect(&broker).await;
        let writing = tokio::spawn(async move {
            let mut told = Vec::new();
            for nth in 0.. {
                let value = format!("{crash}-{nth}");
                let Ok(answer) = busy.ask_at::<Produce>(V, &record(&value, None)).await else { break };
                assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
                told.push(value);
            }
            told
        });
        let value = format!("{crash} alone");
        assert_eq!(produced(&mut client, &value).await, 0);
        told.push(value);
        match crash % 2 {
            0 => broker.crash_and_restart().await.unwrap(),
            _ => broker.power_loss_and_restart(crash).await.unwrap(),
        }
        told.extend(writing.await.unwrap());
        assert_eq!(broker.address(), address, "clients find it where it was");
        assert!(client.ask_at::<Produce>(V, &record("x", None)).await.is_err(), "connections are cut");
        client = connect(&broker).await;
        let found = values(&broker);
        let missing: Vec<&String> = told.iter().filter(|value| !found.contains(value)).collect();
        assert!(missing.is_empty(), "after crash {crash}: {missing:?}");
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_goes_on_when_there_is_room() {
    let (broker, mut client) = broker().await;
    broker.fill_disk();
    let mut full = None;
    for nth in 0..2000 {
        let code = produced(&mut client, &format!("{nth} {}", "x".repeat(50_000))).await;
        if code != 0 {
            full = Some(code);
            break;
        }
    }
    assert_eq!(full, Some(code::KAFKA_STORAGE_ERROR));
    broker.free_disk();
    for _ in 0..2000 {
        if produced(&mut client, "last").await == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(values(&broker).last().unwrap(), "last");
}

#[tokio::test]
async fn time_is_skipped_for_members_and_for_transactions() {
    let (broker, mut client) = broker().await;
    let protocol = || join_group::JoinGroupRequestProtocol { name: "range".into(), metadata: Bytes::new() };
    let join = |member_id: &str| join_group::Request {
        group_id: "billing".into(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 30_000,
        member_id: member_id.into(),
        protocol_type: "consumer".into(),
        protocols: vec![protocol()],
        ..Default::default()
    };
    let joined = client.ask_at::<JoinGroup>(2, &join("")).await.unwrap();
    assert_eq!(joined.error_code, 0);
    let beat = heartbeat::Request {
        group_id: "billing".into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        ..Default::default()
    };
    assert_ne!(client.ask_at::<Heartbeat>(0, &beat).await.unwrap().error_code, code::UNKNOWN_MEMBER_ID);
    let request = init_producer_id::Request {
        transactional_id: Some("copier".into()),
        transaction_timeout_ms: 60_000,
        producer_id: -1,
        producer_epoch: -1,
    };
    let given = client.ask_at::<InitProducerId>(4, &request).await.unwrap();
    let mut in_transaction = record("never", Some((given.producer_id, given.producer_epoch, 0)));
    in_transaction.transactional_id = Some("copier".into());
    assert_eq!(given.error_code, 0);
    broker.skip_time(Duration::from_secs(20));
    assert_ne!(client.ask_at::<Heartbeat>(0, &beat).await.unwrap().error_code, code::UNKNOWN_MEMBER_ID);
    broker.skip_time(Duration::from_secs(31));
    for _ in 0..2000 {
        let beaten = client.ask_at::<Heartbeat>(0, &beat).await.unwrap();
        if beaten.error_code == code::UNKNOWN_MEMBER_ID {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(client.ask_at::<Heartbeat>(0, &beat).await.unwrap().error_code, code::UNKNOWN_MEMBER_ID);
    // A transaction of 60 s.
    use exactlog_wire::messages::{AddPartitionsToTxn, add_partitions_to_txn};
    let topic = add_partitions_to_txn::AddPartitionsToTxnTopic { name: "orders".into(), partitions: vec![0] };
    let add = add_partitions_to_txn::Request {
        v3_and_below_transactional_id: "copier".into(),
        v3_and_below_producer_id: given.producer_id,
        v3_and_below_producer_epoch: given.producer_epoch,
        v3_and_below_topics: vec![topic],
        ..Default::default()
    };
    let added = client.ask_at::<AddPartitionsToTxn>(3, &add).await.unwrap();
    assert_eq!(added.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code, 0);
    assert_eq!(broker.log().metrics().open_transactions, 1);
    broker.skip_time(Duration::from_secs(61));
    until("the transaction timed out", || broker.log().metrics().open_transactions == 0).await;
    let end = end_txn::Request {
        transactional_id: "copier".into(),
        producer_id: given.producer_id,
        producer_epoch: given.producer_epoch,
        committed: true,
    };
    assert_ne!(client.ask_at::<EndTxn>(3, &end).await.unwrap().error_code, 0);
}
