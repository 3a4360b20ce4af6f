//! Health and metrics.

use crate::common::{Node, batch};
use crate::fetching::request;
use exactlog::{Log, TopicOptions};
use exactlog_broker::NodeOptions;
use exactlog_sim::disk::SimDisk;
use exactlog_wire::messages::Fetch;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn asked(node: &Node, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(node.running.http().unwrap()).await.unwrap();
    let text = format!("{request} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

#[tokio::test]
async fn health_and_metrics_are_told() {
    let http = Some("127.0.0.1:0".parse().unwrap());
    let node = Node::with(NodeOptions { http, ..NodeOptions::default() }).await;
    node.log.create_topic("orders", exactlog::TopicOptions::default()).unwrap();
    let mut client = node.client().await;
    client.produce("orders", 0, batch(&["a", "b"])).await;
    // All there is is read before there is enough: it counts once.
    let mut request = request("orders", &[(0, 0)]);
    (request.min_bytes, request.max_wait_ms) = (1_000_000, 20);
    let fetched = client.ask::<Fetch>(11, &request).await;
    let given_bytes = fetched.responses[0].partitions[0].records.as_ref().unwrap().len();
    assert_eq!(asked(&node, "GET /health").await.0, 200);
    assert_eq!(asked(&node, "GET /ready").await.0, 200);
    assert_eq!(asked(&node, "POST /metrics").await.0, 405);
    let (status, text) = asked(&node, "GET /nothing").await;
    assert!(status == 404 && text.contains("/metrics"), "{text}");
    let (status, page) = asked(&node, "GET /metrics").await;
    assert_eq!(status, 200);
    for line in [
        "exactlog_messages_in_total{topic=\"orders\"} 2",
        "exactlog_messages_out_total{topic=\"orders\"} 2",
        &*format!("exactlog_bytes_out_total{{topic=\"orders\"}} {given_bytes}\n"),
        "exactlog_node_connections 1",
        "exactlog_node_connections_total 1",
        "exactlog_node_request_seconds_count{api=\"Produce\"} 1",
    ] {
        assert!(page.contains(line), "{line} isn't in {page}");
    }
}

/// Who sends is to go elsewhere while nothing can be taken, and to come back when there is room: not when something was
/// taken, since nobody sends to a node that isn't ready.
#[tokio::test]
async fn a_node_with_a_full_disk_is_not_ready_until_there_is_room() {
    const CAPACITY_BYTES: u64 = 16 << 20;
    let disk = SimDisk::new();
    disk.set_capacity(Some(CAPACITY_BYTES));
    let builder = Log::builder().disk(Arc::new(disk.clone())).journal_file_bytes(1 << 20);
    let log = builder.open("simulated").unwrap();
    log.create_topic("orders", TopicOptions::default()).unwrap();
    let http = Some("127.0.0.1:0".parse().unwrap());
    let node = Node::serving(log, NodeOptions { http, ..NodeOptions::default() }).await;
    assert_eq!(asked(&node, "GET /ready").await.0, 200);
    let (mut client, value) = (node.client().await, "a".repeat(500_000));
    let mut error_code = 0;
    while error_code == 0 {
        error_code = client.produce("orders", 0, batch(&[&value])).await.error_code;
    }
    let (status, text) = asked(&node, "GET /ready").await;
    assert!(status == 503 && text.contains("the disk is full"), "{text}");
    assert_eq!(asked(&node, "GET /health").await.0, 200);
    disk.set_capacity(Some(10 * CAPACITY_BYTES));
    assert_eq!(asked(&node, "GET /ready").await.0, 200);
    assert_eq!(client.produce("orders", 0, batch(&[&value])).await.error_code, 0);
    assert_eq!(asked(&node, "GET /ready").await.0, 200);
}
