//! What a node says of its cluster, its disk and its leaders.

use crate::common::{Client, Node, batch};
use exactlog::TopicOptions;
use exactlog_broker::NodeOptions;
use exactlog_wire::messages::{
    AlterPartitionReassignments, DescribeCluster, DescribeLogDirs, DescribeQuorum, DescribeTopicPartitions,
    ElectLeaders, ListPartitionReassignments, alter_partition_reassignments, describe_cluster,
    describe_log_dirs, describe_quorum, describe_topic_partitions, elect_leaders,
    list_partition_reassignments,
};

#[tokio::test]
async fn every_version_shows_the_one_node_of_the_cluster() {
    let node = Node::with(NodeOptions { node_id: 5, ..NodeOptions::default() }).await;
    let mut client = node.client().await;
    for version in 0..=2 {
        let mut request = describe_cluster::Request { endpoint_type: 1, ..Default::default() };
        let response = client.ask::<DescribeCluster>(version, &request).await;
        assert_eq!((response.error_code, response.controller_id), (0, 5), "version {version}");
        assert_eq!(&*response.cluster_id, node.running.cluster_id());
        assert_eq!(response.endpoint_type, 1);
        let broker = &response.brokers[0];
        let port = i32::from(node.running.address().port());
        assert_eq!((response.brokers.len(), broker.broker_id, broker.port), (1, 5, port));
        assert_eq!((&*broker.host, broker.is_fenced, &broker.rack), ("127.0.0.1", false, &None));
        assert_eq!(response.cluster_authorized_operations, i32::MIN, "it wasn't asked for");
        request.include_cluster_authorized_operations = true;
        let response = client.ask::<DescribeCluster>(version, &request).await;
        assert_eq!(response.cluster_authorized_operations, 8096);
    }
    for version in 1..=2 {
        for (endpoint_type, code) in [(2, 114), (0, 115), (3, 115)] {
            let request = describe_cluster::Request { endpoint_type, ..Default::default() };
            let response = client.ask::<DescribeCluster>(version, &request).await;
            assert_eq!((response.error_code, response.brokers.len()), (code, 0));
            assert!(response.error_message.unwrap().contains(&format!("endpoint type {endpoint_type}")));
        }
    }
}

/// Topics with the sizes of their partitions.
type Sizes = Vec<(String, Vec<(i32, i64)>)>;

async fn sizes(client: &mut Client, version: i16, wanted: Option<&[(&str, &[i32])]>) -> Sizes {
    let topic = |(topic, partitions): &(&str, &[i32])| describe_log_dirs::DescribableLogDirTopic {
        topic: (*topic).into(),
        partitions: partitions.to_vec(),
    };
    let topics = wanted.map(|wanted| wanted.iter().map(topic).collect());
    let response = client.ask::<DescribeLogDirs>(version, &describe_log_dirs::Request { topics }).await;
    assert_eq!((response.error_code, response.results.len()), (0, 1));
    let result = &response.results[0];
    assert_eq!((result.error_code, result.log_dir.ends_with("data")), (0, true), "{result:?}");
    assert_eq!(result.total_bytes, -1);
    assert_eq!(result.usable_bytes > 0, version >= 4, "{result:?}");
    let topic = |topic: &describe_log_dirs::DescribeLogDirsTopic| {
        let mut sizes = Vec::new();
        for it in &topic.partitions {
            assert_eq!((it.offset_lag, it.is_future_key), (0, false));
            sizes.push((it.partition_index, it.partition_size));
        }
        (topic.name.to_string(), sizes)
    };
    result.topics.iter().map(topic).collect()
}

#[tokio::test]
async fn every_version_says_what_partitions_take_in_the_one_directory() {
    let node = Node::with_topic("orders", 2).await;
    node.log.create_topic("payments", TopicOptions::default()).unwrap();
    let mut client = node.client().await;
    let records = batch(&["a", "b"]);
    let bytes = records.len() as i64;
    client.produce("orders", 1, records).await;
    node.log.checkpoint().unwrap();
    let orders = |sizes: &[(i32, i64)]| ("orders".to_string(), sizes.to_vec());
    for version in 1..=5 {
        let all = sizes(&mut client, version, None).await;
        let payments = ("payments".to_string(), vec![(0, 0)]);
        assert_eq!(all, [orders(&[(0, 0), (1, bytes)]), payments], "version {version}");
        let wanted: &[(&str, &[i32])] =
            &[("orders", &[1, 7, -1]), ("ordres", &[0]), ("orders", &[1]), ("payments", &[])];
        assert_eq!(sizes(&mut client, version, Some(wanted)).await, [orders(&[(1, bytes)])]);
        assert_eq!(sizes(&mut client, version, Some(&[])).await, []);
    }
}

fn page(topics: &[&str], limit: i32, cursor: Option<(&str, i32)>) -> describe_topic_partitions::Request {
    describe_topic_partitions::Request {
        topics: topics
            .iter()
            .map(|name| describe_topic_partitions::TopicRequest { name: (*name).into() })
            .collect(),
        response_partition_limit: limit,
        cursor: cursor.map(|(topic, partition_index)| describe_topic_partitions::Cursor {
            topic_name: topic.into(),
            partition_index,
        }),
    }
}

/// Code, name and partitions of each topic, and where the next page begins.
type Page = (Vec<(i16, String, Vec<i32>)>, Option<(String, i32)>);

async fn described(client: &mut Client, request: &describe_topic_partitions::Request) -> Page {
    let response = client.ask::<DescribeTopicPartitions>(0, request).await;
    let topic = |it: &describe_topic_partitions::DescribeTopicPartitionsResponseTopic| {
        let indexes = it.partitions.iter().map(|partition| partition.partition_index).collect();
        (it.error_code, it.name.clone().unwrap().to_string(), indexes)
    };
    let cursor = response.next_cursor.map(|it| (it.topic_name.to_string(), it.partition_index));
    (response.topics.iter().map(topic).collect(), cursor)
}

#[tokio::test]
async fn topics_are_described_page_by_page_until_all_were_shown_once() {
    let node = Node::with_topic("b", 3).await;
    for (name, partitions) in [("a", 2), ("c", 1), ("d", 5)] {
        node.log.create_topic(name, TopicOptions::default().partitions(partitions)).unwrap();
    }
    let mut client = node.client().await;
    let all: Vec<(String, i32)> = [("a", 2), ("b", 3), ("c", 1), ("d", 5)]
        .iter()
        .flat_map(|(name, count)| (0..*count).map(|index| (name.to_string(), index)))
        .collect();
    for (names, limits) in [(&[][..], 1..=12), (&["d", "a", "c", "b", "a"][..], 1..=12)] {
        for limit in limits {
            let (mut shown, mut cursor, mut pages) = (Vec::new(), None::<(String, i32)>, 0);
            loop {
                let at = cursor.as_ref().map(|(name, index)| (name.as_str(), *index));
                let (topics, next) = described(&mut client, &page(names, limit, at)).await;
                let partitions = topics.into_iter().flat_map(|(code, name, indexes)| {
                    assert_eq!(code, 0);
                    indexes.into_iter().map(move |index| (name.clone(), index))
                });
                let before = shown.len();
                shown.extend(partitions);
                assert!(shown.len() - before <= limit as usize);
                pages += 1;
                assert!(pages < 20, "it comes to an end");
                cursor = next;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(shown, all, "limit {limit}");
            assert_eq!(pages, all.len().div_ceil(limit as usize), "limit {limit}");
        }
    }
}

#[tokio::test]
async fn strange_topics_limits_and_cursors() {
    let node = Node::with_topic("orders", 3).await;
    let mut client = node.client().await;
    let orders = |indexes: &[i32]| (0, "orders".to_string(), indexes.to_vec());
    let (topics, next) = described(&mut client, &page(&["orders", "ordres", "no/name"], 2000, None)).await;
    let unknown = |code, name: &str| (code, name.to_string(), vec![]);
    assert_eq!(topics, [unknown(17, "no/name"), orders(&[0, 1, 2]), unknown(3, "ordres")]);
    assert_eq!(next, None);
    for limit in [0, -5] {
        let (topics, next) = described(&mut client, &page(&["orders"], limit, None)).await;
        assert_eq!((topics, next), (vec![orders(&[0])], Some(("orders".to_string(), 1))));
    }
    assert_eq!(described(&mut client, &page(&["orders"], 9, Some(("orders", 2)))).await.0, [orders(&[2])]);
    assert_eq!(
        described(&mut client, &page(&["orders"], 9, Some(("orders", 3)))).await,
        (vec![orders(&[])], None)
    );
    assert_eq!(described(&mut client, &page(&["orders"], 9, Some(("p", 0)))).await, (vec![], None));
    // The topic of the cursor is gone.
    assert_eq!(described(&mut client, &page(&[], 9, Some(("o", 7)))).await.0, [orders(&[0, 1, 2])]);
    let (topics, _) = described(&mut client, &page(&["orders"], 9, Some(("orders", -1)))).await;
    assert_eq!(topics, [(42, "orders".to_string(), vec![])]);
    let response = client.ask::<DescribeTopicPartitions>(0, &page(&["orders"], 9, None)).await;
    let topic = &response.topics[0];
    assert_eq!((topic.topic_authorized_operations, topic.is_internal), (3576, false));
    let partition = &topic.partitions[0];
    assert_eq!(
        (partition.leader_id, &partition.replica_nodes, &partition.isr_nodes),
        (1, &vec![1], &vec![1])
    );
    assert!(partition.leader_epoch >= 0 && partition.offline_replicas.is_empty());
    assert_eq!(partition.eligible_leader_replicas, Some(vec![]));
}

/// An answer has at most 2,000 partitions, whatever is asked for.
#[tokio::test]
async fn no_page_is_longer_than_the_node_lets_it_be() {
    let node = Node::with_topic("orders", 2001).await;
    let (topics, next) = described(&mut node.client().await, &page(&[], i32::MAX, None)).await;
    assert_eq!((topics[0].2.len(), next), (2000, Some(("orders".to_string(), 2000))));
}

#[tokio::test]
async fn every_version_says_that_no_leader_has_to_be_elected() {
    let node = Node::with_topic("orders", 2).await;
    let mut client = node.client().await;
    let topic = |topic: &str, partitions: &[i32]| elect_leaders::TopicPartitions {
        topic: topic.into(),
        partitions: partitions.to_vec(),
    };
    for version in 0..=2 {
        let wanted = vec![topic("orders", &[0, 1, 2, -1]), topic("ordres", &[0])];
        let mut request = elect_leaders::Request { topic_partitions: Some(wanted), ..Default::default() };
        let response = client.ask::<ElectLeaders>(version, &request).await;
        assert_eq!(response.error_code, 0, "version {version}");
        let results = response.replica_election_results;
        let codes = |nth: usize| -> Vec<(i32, i16)> {
            results[nth].partition_result.iter().map(|it| (it.partition_id, it.error_code)).collect()
        };
        assert_eq!(codes(0), [(0, 84), (1, 84), (2, 3), (-1, 3)]);
        assert_eq!((&*results[1].topic, codes(1)), ("ordres", vec![(0, 3)]));
        assert!(results[0].partition_result.iter().all(|it| it.error_message.is_some()));
        request.topic_partitions = None;
        let all = client.ask::<ElectLeaders>(version, &request).await;
        assert_eq!((all.error_code, all.replica_election_results), (0, vec![]), "none of them needs one");
    }
    let strange = elect_leaders::Request { election_type: 2, ..Default::default() };
    assert_eq!(client.ask::<ElectLeaders>(2, &strange).await.error_code, 42);
}

#[tokio::test]
async fn replicas_can_be_assigned_to_where_they_are_and_nowhere_else() {
    let node = Node::with_topic("orders", 8).await;
    let mut client = node.client().await;
    let wanted: [(i32, Option<&[i32]>, i16); 8] = [
        (0, Some(&[1]), 0),
        (1, Some(&[2]), 39),
        (2, Some(&[]), 39),
        (3, Some(&[1, 1]), 39),
        (4, Some(&[1, 2]), 39),
        (5, None, 85),
        (8, Some(&[1]), 3),
        (-1, None, 3),
    ];
    let partition = |(index, replicas, _): &(i32, Option<&[i32]>, i16)| {
        alter_partition_reassignments::ReassignablePartition {
            partition_index: *index,
            replicas: replicas.map(<[i32]>::to_vec),
        }
    };
    let topic = |name: &str, partitions| alter_partition_reassignments::ReassignableTopic {
        name: name.into(),
        partitions,
    };
    let topics = vec![
        topic("orders", wanted.iter().map(partition).collect()),
        topic("ordres", vec![partition(&wanted[0])]),
    ];
    for version in 0..=1 {
        let request = alter_partition_reassignments::Request {
            allow_replication_factor_change: version == 0,
            topics: topics.clone(),
            ..Default::default()
        };
        let response = client.ask::<AlterPartitionReassignments>(version, &request).await;
        assert_eq!((response.error_code, response.allow_replication_factor_change), (0, version == 0));
        let found: Vec<(i32, i16)> =
            response.responses[0].partitions.iter().map(|it| (it.partition_index, it.error_code)).collect();
        assert_eq!(found, wanted.map(|(index, _, code)| (index, code)), "version {version}");
        let refused = &response.responses[0].partitions[1];
        assert!(refused.error_message.as_ref().unwrap().contains("[2]"), "{refused:?}");
        assert_eq!(response.responses[1].partitions[0].error_code, 3);
    }
    let named = list_partition_reassignments::ListPartitionReassignmentsTopics {
        name: "orders".into(),
        partition_indexes: vec![0],
    };
    for topics in [None, Some(vec![]), Some(vec![named])] {
        let request = list_partition_reassignments::Request { topics, ..Default::default() };
        let response = client.ask::<ListPartitionReassignments>(0, &request).await;
        assert_eq!((response.error_code, response.topics), (0, vec![]));
    }
}

fn quorum(topics: &[(&str, &[i32])]) -> describe_quorum::Request {
    let partition = |index: &i32| describe_quorum::PartitionDataRequest { partition_index: *index };
    let topic = |(name, partitions): &(&str, &[i32])| describe_quorum::TopicDataRequest {
        topic_name: (*name).into(),
        partitions: partitions.iter().map(partition).collect(),
    };
    describe_quorum::Request { topics: topics.iter().map(topic).collect() }
}

#[tokio::test]
async fn every_version_says_that_this_node_decides_alone() {
    let node = Node::with_topic("orders", 1).await;
    let mut client = node.client().await;
    for version in 0..=2 {
        let response = client.ask::<DescribeQuorum>(version, &quorum(&[("__cluster_metadata", &[0])])).await;
        assert_eq!(response.error_code, 0, "version {version}");
        let partition = &response.topics[0].partitions[0];
        let voters: Vec<i32> = partition.current_voters.iter().map(|it| it.replica_id).collect();
        assert_eq!((partition.error_code, partition.leader_id, voters), (0, 1, vec![1]));
        assert!(partition.observers.is_empty() && partition.leader_epoch >= 0);
        assert_eq!(partition.high_watermark, node.log.details().lsn as i64 + 1);
        assert_eq!(partition.current_voters[0].log_end_offset, partition.high_watermark);
        if version >= 1 {
            assert!(partition.current_voters[0].last_caught_up_timestamp > 1_700_000_000_000);
        }
        if version >= 2 {
            let listener = &response.nodes[0].listeners[0];
            assert_eq!((response.nodes[0].node_id, listener.port), (1, node.running.address().port()));
            assert_ne!(partition.current_voters[0].replica_directory_id, Default::default());
        }
        let others: [&[(&str, &[i32])]; 4] = [
            &[("orders", &[0])],
            &[("__cluster_metadata", &[1])],
            &[("__cluster_metadata", &[0, 1])],
            &[("__cluster_metadata", &[0]), ("orders", &[0])],
        ];
        for other in others {
            let response = client.ask::<DescribeQuorum>(version, &quorum(other)).await;
            let partitions: Vec<_> = response.topics.iter().flat_map(|topic| &topic.partitions).collect();
            assert!(!partitions.is_empty() && partitions.iter().all(|it| it.error_code == 3), "{other:?}");
        }
        assert!(client.ask::<DescribeQuorum>(version, &quorum(&[])).await.topics.is_empty());
    }
}
