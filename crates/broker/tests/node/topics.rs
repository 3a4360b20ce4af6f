//! Topics: shown, created, refused.

use crate::common::Node;
use exactlog_broker::NodeOptions;
use exactlog_wire::messages::{CreateTopics, Metadata, create_topics, metadata};

fn asked(names: &[&str], creates: bool) -> metadata::Request {
    let topic =
        |name: &&str| metadata::MetadataRequestTopic { name: Some((*name).into()), ..Default::default() };
    metadata::Request {
        topics: Some(names.iter().map(topic).collect()),
        allow_auto_topic_creation: creates,
        ..Default::default()
    }
}

fn wanted(name: &str, partitions: i32, factor: i16) -> create_topics::CreatableTopic {
    create_topics::CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: factor,
        ..Default::default()
    }
}

fn create(topics: Vec<create_topics::CreatableTopic>) -> create_topics::Request {
    create_topics::Request { topics, ..Default::default() }
}

#[tokio::test]
async fn every_version_shows_this_node_where_it_was_dialled() {
    let node = Node::with_topic("orders", 3).await;
    let mut client = node.client().await;
    for version in 0..=13 {
        let response = client.ask::<Metadata>(version, &asked(&["orders"], false)).await;
        let broker = &response.brokers[0];
        let address = node.running.address();
        assert_eq!((&*broker.host, broker.port), ("127.0.0.1", i32::from(address.port())));
        let topic = &response.topics[0];
        assert_eq!((topic.error_code, topic.partitions.len()), (0, 3), "version {version}");
        assert!(topic.partitions.iter().all(|it| it.leader_id == 1 && it.isr_nodes == [1]));
    }
}

/// KIP-430. Nobody is asked who he is, so everything is allowed.
#[tokio::test]
async fn what_may_be_done_is_told_if_it_is_asked() {
    let node = Node::with_topic("orders", 1).await;
    let mut client = node.client().await;
    for (version, is_asked) in [(7, true), (8, false), (8, true), (10, true), (11, true), (13, true)] {
        let mut request = asked(&["orders", "ordres"], false);
        request.include_topic_authorized_operations = is_asked;
        request.include_cluster_authorized_operations = is_asked;
        let response = client.ask::<Metadata>(version, &request).await;
        let of_topics = if is_asked && version >= 8 { 3576 } else { i32::MIN };
        let of_cluster = if is_asked && (8..=10).contains(&version) { 8096 } else { i32::MIN };
        let operations = response.topics.iter().map(|topic| topic.topic_authorized_operations);
        assert_eq!(operations.collect::<Vec<_>>(), [of_topics; 2], "version {version}");
        assert_eq!(response.cluster_authorized_operations, of_cluster, "version {version}");
    }
}

#[tokio::test]
async fn all_topics_some_and_none() {
    let node = Node::with_topic("orders", 1).await;
    node.log.create_topic("payments", exactlog::TopicOptions::default()).unwrap();
    let mut client = node.client().await;
    let all = metadata::Request { topics: None, ..Default::default() };
    assert_eq!(client.ask::<Metadata>(1, &all).await.topics.len(), 2);
    assert_eq!(client.ask::<Metadata>(0, &asked(&[], false)).await.topics.len(), 2);
    assert_eq!(client.ask::<Metadata>(1, &asked(&[], false)).await.topics.len(), 0);
    let response = client.ask::<Metadata>(12, &asked(&["orders", "orders"], false)).await;
    assert_eq!(response.topics.len(), 1, "one that is named twice is shown once");
    let response = client.ask::<Metadata>(12, &asked(&["ordres", "no/name"], true)).await;
    assert_eq!(response.topics.iter().map(|topic| topic.error_code).collect::<Vec<_>>(), [3, 17]);
    // By its id, and by one that nobody has.
    let id = client.ask::<Metadata>(12, &asked(&["orders"], false)).await.topics[0].topic_id;
    let by_id_beside = |topic_id, name: Option<&str>| metadata::Request {
        topics: Some(vec![metadata::MetadataRequestTopic { topic_id, name: name.map(Into::into) }]),
        ..Default::default()
    };
    let by_id = |topic_id| by_id_beside(topic_id, None);
    // The name beside it doesn't count: clients of Java send an empty one.
    for name in [None, Some(""), Some("other")] {
        let found = client.ask::<Metadata>(12, &by_id_beside(id, name)).await.topics.remove(0);
        assert_eq!(
            (found.error_code, found.name.as_deref(), found.topic_id),
            (0, Some("orders"), id),
            "{name:?}"
        );
    }
    let nobodys = exactlog_wire::value::Uuid([7; 16]);
    assert_eq!(client.ask::<Metadata>(12, &by_id(nobodys)).await.topics[0].error_code, 100);
}

#[tokio::test]
async fn topics_are_created_when_they_are_asked_for_if_that_is_wanted() {
    let options = NodeOptions { creates_topics: true, partitions: 4, ..NodeOptions::default() };
    let node = Node::with(options).await;
    let mut client = node.client().await;
    assert_eq!(client.ask::<Metadata>(9, &asked(&["orders"], false)).await.topics[0].error_code, 3);
    let created = client.ask::<Metadata>(9, &asked(&["orders", "..", "__timers-1"], true)).await.topics;
    assert_eq!((created[0].error_code, created[0].partitions.len()), (0, 4));
    assert_eq!((created[1].error_code, created[2].error_code), (17, 17));
}

#[tokio::test]
async fn names_that_are_made_up_do_not_all_become_topics() {
    let options = NodeOptions {
        creates_topics: true,
        partitions: 4,
        auto_partitions_max: 10,
        ..NodeOptions::default()
    };
    let node = Node::with(options).await;
    let mut client = node.client().await;
    let topics = client.ask::<Metadata>(9, &asked(&["a", "b", "c", "a"], true)).await.topics;
    assert_eq!(topics.iter().map(|topic| topic.error_code).collect::<Vec<_>>(), [0, 0, 3]);
    let created = client.ask::<CreateTopics>(7, &create(vec![wanted("c", 4, 1)])).await.topics.remove(0);
    assert_eq!(created.error_code, 0, "who says what he wants gets it");
}

#[tokio::test]
async fn every_version_creates_topics() {
    let node = Node::start().await;
    let mut client = node.client().await;
    for version in 2..=7 {
        let mut topic = wanted(&format!("orders-{version}"), 3, 1);
        topic.configs =
            [("retention.ms", "604800000"), ("compression.type", "snappy"), ("cleanup.policy", "compact")]
                .map(|(name, value)| create_topics::CreatableTopicConfig {
                    name: name.into(),
                    value: Some(value.into()),
                })
                .to_vec();
        let created = client.ask::<CreateTopics>(version, &create(vec![topic])).await.topics.remove(0);
        assert_eq!(created.error_code, 0, "version {version}: {created:?}");
        let topic = node.log.open_topic(&format!("orders-{version}")).unwrap();
        assert_eq!(topic.partitions(), 3);
        assert_eq!(topic.config().retention_ms, Some(604_800_000));
        if version >= 5 {
            let configs = created.configs.unwrap();
            let of = |name: &str| {
                let found = configs.iter().find(|it| &*it.name == name).unwrap();
                (found.value.clone().unwrap().to_string(), found.config_source)
            };
            assert_eq!(of("compression.type"), ("snappy".to_string(), 1));
            assert_eq!(of("segment.bytes"), ("134217728".to_string(), 5));
        }
    }
}

#[tokio::test]
async fn what_cannot_be_created_is_refused_with_the_limit_and_changes_nothing() {
    let node = Node::with_topic("there", 1).await;
    let mut client = node.client().await;
    let mut strange = wanted("strange", 1, 1);
    strange.configs =
        vec![create_topics::CreatableTopicConfig { name: "retention.hours".into(), value: Some("1".into()) }];
    let mut assigned = wanted("assigned", -1, -1);
    assigned.assignments =
        vec![create_topics::CreatableReplicaAssignment { partition_index: 0, broker_ids: vec![1, 2] }];
    for (topic, code, says) in [
        (wanted("there", 1, 1), 36, "exists"),
        (wanted("no/name", 1, 1), 17, "no/name"),
        (wanted("__timers-7", 1, 1), 17, "reserved"),
        (wanted("none", 0, 1), 37, "0 partitions"),
        (wanted("many", 100_001, 1), 37, "100000"),
        (wanted("copies", 1, 3), 38, "there is 1 node"),
        (strange, 40, "retention.hours"),
        (assigned, 39, "node 1"),
    ] {
        let refused = client.ask::<CreateTopics>(7, &create(vec![topic])).await.topics.remove(0);
        assert_eq!(refused.error_code, code, "{refused:?}");
        assert!(refused.error_message.clone().unwrap().contains(says), "{refused:?}");
    }
    let twice = client.ask::<CreateTopics>(7, &create(vec![wanted("a", 1, 1), wanted("a", 1, 1)])).await;
    assert_eq!(twice.topics.iter().map(|it| it.error_code).collect::<Vec<_>>(), [42]);
    let mut checked = create(vec![wanted("later", 2, 1)]);
    checked.validate_only = true;
    assert_eq!(client.ask::<CreateTopics>(7, &checked).await.topics[0].error_code, 0);
    assert_eq!(node.log.topics().iter().map(|it| it.name().to_string()).collect::<Vec<_>>(), ["there"]);
}

#[tokio::test]
async fn more_replicas_than_nodes_can_be_accepted() {
    let node = Node::with(NodeOptions { accepts_replicas: true, ..NodeOptions::default() }).await;
    let created = node.client().await.ask::<CreateTopics>(7, &create(vec![wanted("orders", 1, 3)])).await;
    assert_eq!((created.topics[0].error_code, created.topics[0].replication_factor), (0, 1));
}
