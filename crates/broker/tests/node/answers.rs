//! Answers that aren't taken, and requests that don't come: what they hold, and what others find.

use crate::common::{Client, LONG, Node, batch, counter};
use crate::fetching::request;
use exactlog::TopicOptions;
use exactlog_broker::NodeOptions;
use exactlog_wire::messages::{ApiVersions, Fetch, api_versions, fetch};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

/// A node with a topic of so many batches of so many bytes.
async fn node(options: NodeOptions, batches: usize, bytes: usize) -> Node {
    let node = Node::with(options).await;
    node.log.create_topic("orders", TopicOptions::default()).unwrap();
    let (mut client, value) = (node.client().await, "a".repeat(bytes));
    for _ in 0..batches {
        assert_eq!(client.produce("orders", 0, batch(&[&value])).await.error_code, 0);
    }
    node
}

/// All of the topic.
fn everything() -> fetch::Request {
    let mut wanted = request("orders", &[(0, 0)]);
    (wanted.max_bytes, wanted.topics[0].partitions[0].partition_max_bytes) = (i32::MAX, i32::MAX);
    wanted
}

#[tokio::test]
async fn who_takes_no_answers_holds_only_what_there_is_room_for() {
    const ROOM: u64 = 32 << 20;
    let options = NodeOptions {
        answers_bytes_max: ROOM as usize,
        stall_max: Duration::from_secs(600),
        ..NodeOptions::default()
    };
    let node = node(options, 8, 900_000).await;
    let mut slow = Vec::new();
    for _ in 0..8 {
        let mut client = node.client().await;
        for _ in 0..40 {
            client.send::<Fetch>(4, &everything()).await;
        }
        slow.push(client);
    }
    let filled = async {
        // Until less is left than anybody may have who waits. The last quarter is for small ones.
        while counter(&node, "exactlog_node_answer_bytes") < ROOM / 4 * 3 - (2 << 20) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, filled).await.expect("the room is taken");
    // All that they have asked for would be 2 GB.
    for _ in 0..20 {
        assert!(counter(&node, "exactlog_node_answer_bytes") <= ROOM);
        sleep(Duration::from_millis(5)).await;
    }
    let mut other = node.client().await;
    for _ in 0..100 {
        assert_eq!(other.ask::<ApiVersions>(0, &api_versions::Request::default()).await.error_code, 0);
    }
    assert_eq!(other.produce("orders", 0, batch(&["b"])).await.error_code, 0);
    drop(slow);
    let response = other.ask::<Fetch>(4, &everything()).await;
    assert_eq!(response.responses[0].partitions[0].error_code, 0);
    let given_back = async {
        while counter(&node, "exactlog_node_answer_bytes") > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, given_back).await.expect("nobody holds anything");
}

/// An answer is shorter when there is little room, and not a wait for more.
#[tokio::test]
async fn what_there_is_room_for_is_enough() {
    let options = NodeOptions { answers_bytes_max: 1 << 20, ..NodeOptions::default() };
    let node = node(options, 20, 100_000).await;
    let mut client = node.client().await;
    let mut wanted = everything();
    (wanted.min_bytes, wanted.max_wait_ms) = (1_500_000, 600_000);
    let response = client.ask::<Fetch>(4, &wanted).await;
    let bytes = response.responses[0].partitions[0].records.as_ref().unwrap().len();
    assert!((100_000..=1 << 20).contains(&bytes), "{bytes}");
}

/// Slowly is fine until others wait for the room.
#[tokio::test]
async fn who_keeps_others_waiting_for_room_is_cut_off() {
    let options = NodeOptions {
        answers_bytes_max: 1 << 20,
        stall_max: Duration::from_secs(1),
        ..NodeOptions::default()
    };
    let node = node(options, 1, 300_000).await;
    let mut slow = Client::with_short_buffers(node.running.address()).await;
    for _ in 0..60 {
        slow.send::<Fetch>(4, &everything()).await;
    }
    let dripping = async {
        let mut buffer = [0; 2000];
        while slow.stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let mut other = node.client().await;
    let served = async {
        // Room for two such answers: one is written, and one is due.
        while counter(&node, "exactlog_node_answer_bytes") < 290_000 {
            sleep(Duration::from_millis(5)).await;
        }
        sleep(Duration::from_millis(300)).await;
        for _ in 0..20 {
            let response = other.ask::<Fetch>(4, &everything()).await;
            assert_eq!(response.responses[0].partitions[0].error_code, 0);
        }
    };
    tokio::select! {
        served = timeout(LONG, served) => served.expect("it has its turn"),
        () = async { dripping.await; std::future::pending().await } => {}
    }
    assert_eq!(counter(&node, "exactlog_node_connections_cut_total"), 1);
}

/// Whoever read nothing at all held his room for half a minute, and those who wanted as much were served after that.
#[tokio::test]
async fn who_takes_nothing_goes_when_others_wait() {
    let options = NodeOptions {
        answers_bytes_max: 1 << 20,
        // As long as nobody waits they may take this long.
        stall_max: Duration::from_secs(600),
        ..NodeOptions::default()
    };
    let node = node(options, 8, 100_000).await;
    let mut holders = Vec::new();
    for _ in 0..2 {
        let mut client = Client::with_short_buffers(node.running.address()).await;
        for _ in 0..20 {
            client.send::<Fetch>(4, &everything()).await;
        }
        holders.push(client);
    }
    let held = async {
        while counter(&node, "exactlog_node_answer_bytes") < 400_000 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, held).await.expect("they have what such answers may have");
    let mut other = node.client().await;
    let response = timeout(LONG, other.ask::<Fetch>(4, &everything())).await.expect("it has its turn");
    assert_eq!(response.responses[0].partitions[0].error_code, 0);
    assert!(counter(&node, "exactlog_node_connections_cut_total") > 0);
}

/// Its turn among those that send one request behind the other is over when the answer is made, not when it is taken.
#[tokio::test]
async fn who_takes_no_answers_to_an_unknown_version_holds_no_turn() {
    // ApiVersions of version 127, and of 0: key, version, number, no client id; then no tags.
    const UNKNOWN: &[u8] = b"\0\0\0\x0b\0\x12\0\x7f\0\0\0\0\xff\xff\0";
    const KNOWN: &[u8] = b"\0\0\0\x0a\0\x12\0\0\0\0\0\0\xff\xff";
    let (node, many) = (Node::start().await, UNKNOWN.repeat(1000));
    let mut holders = Vec::new();
    for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
        let mut client = Client::with_short_buffers(node.running.address()).await;
        // Until it is read no further.
        while timeout(Duration::from_millis(300), client.stream.write_all(&many)).await.is_ok() {}
        holders.push(client);
    }
    let mut other = node.client().await;
    other.stream.write_all(&KNOWN.repeat(10)).await.unwrap();
    for _ in 0..10 {
        assert_eq!(other.receive::<ApiVersions>(0).await.1.error_code, 0);
    }
}

/// More of them than may be due, so the next requests wait until some are taken.
#[tokio::test]
async fn answers_that_are_taken_late_come_all_and_in_order() {
    const ASKED: i32 = 4000;
    let node = Node::start().await;
    let Client { stream, .. } = Client::with_short_buffers(node.running.address()).await;
    let (input, mut output) = stream.into_split();
    let asking = tokio::spawn(async move {
        for number in 1..=ASKED {
            let number = number.to_be_bytes();
            let asked = [&b"\0\0\0\x0a\0\x12\0\0"[..], &number, b"\xff\xff"].concat();
            output.write_all(&asked).await.unwrap();
        }
        output
    });
    // 2 MB of answers: what the system takes of them is full, and so is the line behind that.
    sleep(Duration::from_millis(300)).await;
    let mut input = tokio::io::BufReader::new(input);
    for number in 1..=ASKED {
        let length = timeout(LONG, input.read_i32()).await.expect("an answer in time").unwrap();
        let mut frame = vec![0; length as usize];
        input.read_exact(&mut frame).await.unwrap();
        assert_eq!(frame[..4], number.to_be_bytes());
    }
    asking.await.unwrap();
}

/// A request that is announced and doesn't come keeps no other from being served.
#[tokio::test]
async fn long_requests_that_do_not_come_leave_room_for_others() {
    let options = NodeOptions { requests_bytes_max: 1 << 20, ..NodeOptions::default() };
    let node = node(options, 0, 0).await;
    let mut long = Vec::new();
    for _ in 0..4 {
        let mut client = node.client().await;
        client.stream.write_all(&(64u32 << 20).to_be_bytes()).await.unwrap();
        client.stream.write_all(&[0; 20_000]).await.unwrap();
        long.push(client);
    }
    let held = async {
        while counter(&node, "exactlog_node_request_bytes") < 1 << 19 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, held).await.expect("one of them has its room");
    let value = "a".repeat(50_000);
    for _ in 0..10 {
        let mut client = node.client().await;
        assert_eq!(client.produce("orders", 0, batch(&[&value])).await.error_code, 0);
    }
    assert!(counter(&node, "exactlog_node_request_bytes") <= 1 << 20);
}

/// Sixteen connections that announced 16 MiB each and sent next to nothing held all room for a minute and a half.
#[tokio::test]
async fn who_holds_room_for_a_request_and_sends_little_goes_when_others_wait() {
    let options = NodeOptions {
        requests_bytes_max: 1 << 20,
        // As long as nobody waits they may take this long.
        stall_max: Duration::from_secs(600),
        ..NodeOptions::default()
    };
    let node = node(options, 0, 0).await;
    let mut holders = Vec::new();
    for _ in 0..16 {
        let mut client = node.client().await;
        client.stream.write_all(&(1u32 << 16).to_be_bytes()).await.unwrap();
        client.stream.write_all(&[0; 20_000]).await.unwrap();
        holders.push(client);
    }
    let held = async {
        while counter(&node, "exactlog_node_request_bytes") < 1 << 20 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, held).await.expect("they have all of it");
    sleep(Duration::from_millis(1500)).await;
    assert_eq!(counter(&node, "exactlog_node_connections_cut_total"), 0, "slowly is fine");
    let mut other = node.client().await;
    let produced = timeout(LONG, other.produce("orders", 0, batch(&[&"a".repeat(50_000)]))).await;
    assert_eq!(produced.expect("it has its turn").error_code, 0);
    assert!(counter(&node, "exactlog_node_connections_cut_total") > 0);
}
