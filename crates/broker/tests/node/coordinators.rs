//! Who coordinates a group or a transaction, and producer ids.

use crate::common::{Node, batch, produce_request};
use exactlog_broker::NodeOptions;
use exactlog_wire::messages::{
    DescribeTopicPartitions, FindCoordinator, Metadata, Produce, describe_topic_partitions, find_coordinator,
    metadata,
};

fn request(key_type: i8, keys: &[&str]) -> find_coordinator::Request {
    find_coordinator::Request {
        key: keys.first().map(|key| (*key).into()).unwrap_or_default(),
        key_type,
        coordinator_keys: keys.iter().map(|key| (*key).into()).collect(),
    }
}

/// Up to version 3 one key is asked for, then several; version 0 knows groups alone.
#[tokio::test]
async fn tx_1_the_coordinator_of_all_is_this_node() {
    let node = Node::with(NodeOptions { node_id: 7, ..NodeOptions::default() }).await;
    let mut client = node.client().await;
    let here = (7, "127.0.0.1", i32::from(node.running.address().port()));
    for key_type in [0, 1] {
        for version in 0..=3 {
            let found = client.ask::<FindCoordinator>(version, &request(key_type, &["a"])).await;
            assert_eq!((found.node_id, &*found.host, found.port), here, "version {version}");
            assert_eq!((found.error_code, found.error_message), (0, None));
        }
        for version in 4..=6 {
            let found = client.ask::<FindCoordinator>(version, &request(key_type, &["a", "b", "a"])).await;
            let keys: Vec<&str> = found.coordinators.iter().map(|it| &*it.key).collect();
            assert_eq!(keys, ["a", "b", "a"], "version {version}");
            for it in &found.coordinators {
                assert_eq!((it.node_id, &*it.host, it.port, it.error_code), (here.0, here.1, here.2, 0));
            }
            let none = client.ask::<FindCoordinator>(version, &request(key_type, &[])).await;
            assert_eq!(none.coordinators, []);
        }
    }
}

#[tokio::test]
async fn tx_1_clients_are_told_the_address_that_is_advertised() {
    let advertised = Some(("log.example".to_string(), 19_092));
    let node = Node::with(NodeOptions { advertised, ..NodeOptions::default() }).await;
    let mut client = node.client().await;
    let old = client.ask::<FindCoordinator>(2, &request(0, &["g"])).await;
    assert_eq!((&*old.host, old.port), ("log.example", 19_092));
    let new = client.ask::<FindCoordinator>(4, &request(1, &["t"])).await;
    assert_eq!((&*new.coordinators[0].host, new.coordinators[0].port), ("log.example", 19_092));
}

#[tokio::test]
async fn tx_1_what_has_no_coordinator_is_refused_with_the_reason() {
    let node = Node::start().await;
    let mut client = node.client().await;
    // Share groups, and what isn't known.
    for (key_type, key, code) in [(2, "g:t:0", 42), (2, "", 42), (3, "a", 42), (-1, "a", 42)] {
        for version in 1..=6 {
            let found = client.ask::<FindCoordinator>(version, &request(key_type, &[key])).await;
            let (told, message, node_id, host, port) = match version {
                ..=3 => (found.error_code, found.error_message, found.node_id, found.host, found.port),
                _ => {
                    let it = found.coordinators[0].clone();
                    (it.error_code, it.error_message, it.node_id, it.host, it.port)
                }
            };
            assert_eq!(
                (told, node_id, &*host, port),
                (code, -1, "", -1),
                "type {key_type} {key:?} v{version}"
            );
            assert!(message.is_some_and(|message| !message.is_empty()));
        }
    }
    // What is asked for without a name is judged when it is used, and version 0 knows no types.
    for key_type in [0, 1] {
        let found = client.ask::<FindCoordinator>(4, &request(key_type, &["a", ""])).await;
        assert_eq!(
            found.coordinators.iter().map(|it| (it.error_code, it.node_id)).collect::<Vec<_>>(),
            [(0, 1); 2]
        );
    }
    let found = client.ask::<FindCoordinator>(0, &request(9, &[""])).await;
    assert_eq!((found.error_code, found.node_id), (0, 1));
}

/// Clients and tools look for `__consumer_offsets`, and leave it out where they are asked for all topics: it is there
/// as soon as there may be groups, says that it is the node's own, and nobody writes to it.
#[tokio::test]
async fn the_topic_of_offsets_is_there_when_a_group_looked_for_its_coordinator() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let of_all = metadata::Request { topics: None, ..Default::default() };
    let names = |answer: metadata::Response| {
        let name = |it: metadata::MetadataResponseTopic| (it.name.unwrap().to_string(), it.is_internal);
        answer.topics.into_iter().map(name).collect::<Vec<_>>()
    };
    client.ask::<FindCoordinator>(4, &request(1, &["t"])).await;
    assert_eq!(names(client.ask::<Metadata>(12, &of_all).await), [], "no group was looked for");
    for version in [0, 3, 6] {
        client.ask::<FindCoordinator>(version, &request(0, &["g", "h"])).await;
    }
    node.log.create_topic("orders", exactlog::TopicOptions::default()).unwrap();
    let found = names(client.ask::<Metadata>(12, &of_all).await);
    assert_eq!(found, [("__consumer_offsets".to_string(), true), ("orders".to_string(), false)]);
    let all = describe_topic_partitions::Request::default();
    let described = client.ask::<DescribeTopicPartitions>(0, &all).await.topics;
    let described: Vec<bool> = described.iter().map(|it| it.is_internal).collect();
    assert_eq!(described, [true, false]);

    let request = produce_request(-1, "__consumer_offsets", 0, batch(&["a"]));
    let refused = client.ask::<Produce>(9, &request).await.responses[0].partition_responses[0].clone();
    assert_eq!(refused.error_code, 17, "INVALID_TOPIC_EXCEPTION: {:?}", refused.error_message);
}
