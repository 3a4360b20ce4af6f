//! What a client is told is served (KIP-511).

use crate::common::Node;
use exactlog_wire::message::{answer, ask};
use exactlog_wire::messages::{ApiVersions, api_versions};
use tokio::io::AsyncWriteExt;

fn named() -> api_versions::Request {
    api_versions::Request { client_software_name: "test".into(), client_software_version: "1".into() }
}

#[tokio::test]
async fn every_version_says_what_is_served() {
    let node = Node::start().await;
    let mut client = node.client().await;
    for version in 0..=4 {
        let served = client.ask::<ApiVersions>(version, &named()).await;
        assert_eq!(served.error_code, 0, "version {version}");
        let range = |key| {
            let found = served.api_keys.iter().find(|it| it.api_key == key);
            found.map(|it| (it.min_version, it.max_version))
        };
        assert_eq!(range(18), Some((0, 4)));
        assert_eq!(range(0), Some((0, 13)), "clients of librdkafka look for version 0 of Produce");
        assert_eq!(range(1), Some((4, 18)));
    }
}

/// KIP-511: the client learns from an answer of version 0 what it can ask for.
#[tokio::test]
async fn a_version_of_the_future_is_answered_with_what_there_is() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let mut parts = ask::<ApiVersions>(4, 7, None, &named()).unwrap().concat();
    parts[4 + 2..4 + 4].copy_from_slice(&99_i16.to_be_bytes());
    client.stream.write_all(&parts).await.unwrap();
    let (correlation_id, served) = answer::<ApiVersions>(0, client.frame().await.unwrap()).unwrap();
    assert_eq!((correlation_id, served.error_code), (7, 35));
    assert!(served.api_keys.iter().any(|it| (it.api_key, it.max_version) == (18, 4)));
    // The same connection goes on.
    assert_eq!(client.ask::<ApiVersions>(4, &named()).await.error_code, 0);
}

#[tokio::test]
async fn a_client_without_a_name_is_refused_where_it_has_to_say_one() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let nobody = api_versions::Request::default();
    assert_eq!(client.ask::<ApiVersions>(2, &nobody).await.error_code, 0);
    assert_eq!(client.ask::<ApiVersions>(3, &nobody).await.error_code, 42);
}
