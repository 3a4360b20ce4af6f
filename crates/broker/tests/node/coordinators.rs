//! Who coordinates a group or a transaction, and producer ids.

use crate::common::Node;
use exactlog_broker::NodeOptions;
use exactlog_wire::messages::{FindCoordinator, find_coordinator};

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
