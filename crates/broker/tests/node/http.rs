//! Health and metrics.

use crate::common::{Node, batch};
use exactlog_broker::NodeOptions;
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
    client.produce("orders", 0, batch(&["a"])).await;
    assert_eq!(asked(&node, "GET /health").await.0, 200);
    assert_eq!(asked(&node, "GET /ready").await.0, 200);
    assert_eq!(asked(&node, "POST /metrics").await.0, 405);
    let (status, text) = asked(&node, "GET /nothing").await;
    assert!(status == 404 && text.contains("/metrics"), "{text}");
    let (status, page) = asked(&node, "GET /metrics").await;
    assert_eq!(status, 200);
    for line in [
        "exactlog_messages_in_total{topic=\"orders\"} 1",
        "exactlog_node_connections 1",
        "exactlog_node_connections_total 1",
        "exactlog_node_request_seconds_count{api=\"Produce\"} 1",
    ] {
        assert!(page.contains(line), "{line} isn't in {page}");
    }
}
