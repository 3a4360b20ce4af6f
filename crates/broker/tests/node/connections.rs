//! What becomes of a connection: limits, silence, nonsense, and the end of the node.

use crate::common::{Client, LONG, Node, batch, produce_request};
use exactlog_broker::NodeOptions;
use exactlog_wire::messages::{
    ApiVersions, Fetch, JoinGroup, Metadata, Produce, api_versions, fetch, join_group,
};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn hello() -> api_versions::Request {
    api_versions::Request::default()
}

#[tokio::test]
async fn what_is_no_request_ends_the_connection_and_no_other() {
    let node = Node::start().await;
    let mut other = node.client().await;
    for bytes in [
        &[0xff, 0xff, 0xff, 0xff][..],
        &[0, 0, 0, 0],
        &[0x7f, 0xff, 0xff, 0xff],
        b"GET / HTTP/1.1\r\n\r\n",
        &[0, 0, 0, 4, 0, 18, 0, 0],
        &[0, 0, 0, 10, 0x03, 0xe7, 0, 0, 0, 0, 0, 1, 0xff, 0xff],
        &[0, 0, 0, 10, 0, 3, 0x7f, 0, 0, 0, 0, 1, 0xff, 0xff],
    ] {
        let mut client = node.client().await;
        client.stream.write_all(bytes).await.unwrap();
        assert_eq!(client.frame().await, None, "{bytes:?}");
    }
    assert_eq!(other.ask::<ApiVersions>(0, &hello()).await.error_code, 0);
}

/// With Metadata in version 13 for all topics librdkafka 2.12 sends three bytes more than there are fields.
#[tokio::test]
async fn what_lies_behind_a_request_is_passed_over() {
    let node = Node::with_topic("orders", 1).await;
    let mut client = node.client().await;
    let header = [0, 0, 0, 21, 0, 3, 0, 13, 0, 0, 0, 9, 0, 4, b't', b'e', b's', b't', 0];
    client.stream.write_all(&[&header[..], &[0, 0, 0, 0, 1, 0]].concat()).await.unwrap();
    let (correlation_id, response) = client.receive::<Metadata>(13).await;
    assert_eq!((correlation_id, response.topics.len()), (9, 1));
}

#[tokio::test]
async fn connections_over_the_limit_are_refused_until_there_is_room() {
    let node = Node::with(NodeOptions { connections_max: 2, ..NodeOptions::default() }).await;
    let (mut first, mut second) = (node.client().await, node.client().await);
    assert_eq!(first.ask::<ApiVersions>(0, &hello()).await.error_code, 0);
    assert_eq!(second.ask::<ApiVersions>(0, &hello()).await.error_code, 0);
    assert_eq!(node.client().await.frame().await, None);
    drop(first);
    let again = async {
        loop {
            let mut client = node.client().await;
            client.send::<ApiVersions>(0, &hello()).await;
            if client.frame().await.is_some() {
                break;
            }
        }
    };
    tokio::time::timeout(LONG, again).await.expect("its place is free");
}

#[tokio::test]
async fn who_asks_nothing_and_who_sends_half_are_cut_off() {
    let options = NodeOptions {
        idle_max: Duration::from_millis(50),
        stall_max: Duration::from_millis(50),
        ..NodeOptions::default()
    };
    let node = Node::with(options).await;
    assert_eq!(node.client().await.frame().await, None);
    let mut half = node.client().await;
    half.stream.write_all(&[0, 0, 0, 100, 0, 18]).await.unwrap();
    assert_eq!(half.frame().await, None);
    // One that sends a byte now and then keeps nobody's room for ever.
    let mut slow = node.client().await;
    slow.stream.write_all(&[0, 0, 0, 100, 0, 18]).await.unwrap();
    let dripped = async {
        while slow.stream.write_all(&[0]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(1), dripped).await.expect("it is cut off");
}

/// Whoever doesn't take his answers isn't read any further, and in the end he is cut off.
#[tokio::test]
async fn who_takes_no_answers_is_cut_off() {
    let node =
        Node::with(NodeOptions { stall_max: Duration::from_millis(100), ..NodeOptions::default() }).await;
    let mut client = node.client().await;
    let asked = async {
        // Each answer has some hundred bytes; the sockets take some megabytes of them.
        for _ in 0..10_000_000 {
            let parts = exactlog_wire::message::ask::<ApiVersions>(0, 1, None, &hello()).unwrap();
            if client.stream.write_all(&parts.concat()).await.is_err() {
                return;
            }
        }
        panic!("it was never cut off");
    };
    tokio::time::timeout(Duration::from_secs(60), asked).await.expect("it is cut off");
}

/// What was handed in before the node ends is answered; nothing is taken afterwards.
#[tokio::test]
async fn a_node_that_ends_answers_what_it_has_taken() {
    let node = Node::with_topic("orders", 1).await;
    let mut client = node.client().await;
    for _ in 0..50 {
        client.send::<Produce>(9, &produce_request(-1, "orders", 0, batch(&["a"]))).await;
    }
    let (_, first) = client.receive::<Produce>(9).await;
    assert_eq!(first.responses[0].partition_responses[0].error_code, 0);
    let address = node.running.address();
    tokio::time::timeout(LONG, node.running.stop()).await.expect("it ends");
    let mut answered = 1;
    while client.frame().await.is_some() {
        answered += 1;
    }
    let topic = node.log.open_topic("orders").unwrap();
    assert_eq!(node.log.bounds(&topic, 0).unwrap().1, answered, "what is in the log was answered");
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn requests_wait_for_room_and_all_are_served() {
    // Room for one of these at a time.
    let node = Node::with(NodeOptions { requests_bytes_max: 300 * 1024, ..NodeOptions::default() }).await;
    node.log.create_topic("orders", exactlog::TopicOptions::default()).unwrap();
    let value = "a".repeat(200 * 1024);
    let mut producers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (address, records) = (node.running.address(), batch(&[&value]));
        producers.spawn(async move {
            Client::connect(address).await.produce("orders", 0, records).await.error_code
        });
    }
    let codes = tokio::time::timeout(LONG, producers.join_all()).await.expect("each has its turn");
    assert_eq!(codes, [0; 8]);
}

/// Who has gone isn't waited for: its place is free, and so is its room.
#[tokio::test]
async fn who_goes_while_his_request_waits_leaves_nothing_behind() {
    let node = Node::with(NodeOptions { connections_max: 3, ..NodeOptions::default() }).await;
    node.log.create_topic("orders", exactlog::TopicOptions::default()).unwrap();
    for _ in 0..10 {
        let mut client = node.client().await;
        client.send::<Fetch>(4, &waiting_fetch(i32::MAX)).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop(client);
    }
    let served = async {
        loop {
            let mut client = node.client().await;
            client.send::<ApiVersions>(0, &hello()).await;
            if client.frame().await.is_some() {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), served).await.expect("there is a place");
}

fn waiting_fetch(max_wait_ms: i32) -> fetch::Request {
    let partition = fetch::FetchPartition {
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    let topic =
        fetch::FetchTopic { topic: "orders".into(), partitions: vec![partition], ..Default::default() };
    fetch::Request {
        max_wait_ms,
        min_bytes: 1,
        max_bytes: 1 << 20,
        topics: vec![topic],
        ..Default::default()
    }
}

/// A client on a slow line gets its answer: it is cut off if nothing moves, not if it takes long.
#[tokio::test]
async fn who_takes_an_answer_slowly_gets_it() {
    let node =
        Node::with(NodeOptions { stall_max: Duration::from_millis(300), ..NodeOptions::default() }).await;
    node.log.create_topic("orders", exactlog::TopicOptions::default()).unwrap();
    let mut client = node.client().await;
    let value = "a".repeat(900_000);
    for _ in 0..16 {
        assert_eq!(client.produce("orders", 0, batch(&[&value])).await.error_code, 0);
    }
    let mut wanted = waiting_fetch(0);
    wanted.max_bytes = i32::MAX;
    wanted.topics[0].partitions[0].partition_max_bytes = i32::MAX;
    client.send::<Fetch>(4, &wanted).await;
    let (mut taken, mut buffer) = (0, vec![0; 400_000]);
    while taken < 16 * 900_000 {
        let read = client.stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "cut off behind {taken} bytes");
        taken += read;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What older versions can't say doesn't come into the way of those who speak them.
#[tokio::test]
async fn a_long_name_of_a_client_breaks_nobody() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let name = "n".repeat(32_767);
    let request = join_group::Request {
        group_id: "billing".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: "consumer".into(),
        protocols: vec![join_group::JoinGroupRequestProtocol { name: "range".into(), ..Default::default() }],
        ..Default::default()
    };
    let parts = exactlog_wire::message::ask::<JoinGroup>(4, 1, Some(name.as_str().into()), &request).unwrap();
    client.stream.write_all(&parts.concat()).await.unwrap();
    let (_, joined) = client.receive::<JoinGroup>(4).await;
    assert_eq!(joined.error_code, 79);
    assert!(joined.member_id.len() < 300, "{}", joined.member_id.len());
}

#[tokio::test]
async fn an_api_that_is_not_served_ends_the_connection() {
    let node = Node::start().await;
    let mut client = node.client().await;
    client.stream.write_all(&[0, 0, 0, 10, 0, 29, 0, 1, 0, 0, 0, 1, 0xff, 0xff]).await.unwrap();
    assert_eq!(client.frame().await, None);
}
