//! Consumer groups of KIP-848 and their offsets (semantics GR-4, GR-5).

use crate::common::{Client, LONG, Node, batch, commit, committed};
use exactlog::TopicOptions;
use exactlog_broker::NodeOptions;
use exactlog_wire::messages::consumer_group_heartbeat::{Request, Response, TopicPartitions};
use exactlog_wire::messages::{
    ApiVersions, ConsumerGroupDescribe, ConsumerGroupHeartbeat, DeleteGroups, DescribeGroups, InitProducerId,
    JoinGroup, ListGroups, OffsetDelete, OffsetFetch, TxnOffsetCommit, api_versions, consumer_group_describe,
    delete_groups, describe_groups, init_producer_id, join_group, list_groups, offset_delete, offset_fetch,
    txn_offset_commit,
};
use std::time::Duration;

const LATEST: i16 = 1;

async fn node() -> Node {
    node_with(NodeOptions::default()).await
}

async fn node_with(options: NodeOptions) -> Node {
    let node = Node::with(NodeOptions { initial_rebalance_delay: Duration::ZERO, ..options }).await;
    node.log.create_topic("orders", TopicOptions::default().partitions(2)).unwrap();
    node
}

fn beat(member_id: &str, member_epoch: i32) -> Request {
    Request {
        group_id: "billing".into(),
        member_id: member_id.into(),
        member_epoch,
        rebalance_timeout_ms: -1,
        ..Request::default()
    }
}

fn join(member_id: &str) -> Request {
    Request {
        rebalance_timeout_ms: 10_000,
        subscribed_topic_names: Some(vec!["orders".into()]),
        topic_partitions: Some(Vec::new()),
        ..beat(member_id, 0)
    }
}

/// As what it says that it has.
fn having(told: &Response, partitions: &[i32], request: Request) -> Request {
    let topic_id = told.assignment.as_ref().unwrap().topic_partitions[0].topic_id;
    let owned = TopicPartitions { topic_id, partitions: partitions.to_vec() };
    Request { topic_partitions: Some(vec![owned]), ..request }
}

async fn ask(client: &mut Client, request: &Request) -> Response {
    client.ask::<ConsumerGroupHeartbeat>(LATEST, request).await
}

/// Partitions of its only topic; `None`: it wasn't told any.
fn told(response: &Response) -> Option<Vec<i32>> {
    let topics = &response.assignment.as_ref()?.topic_partitions;
    assert!(topics.len() <= 1, "{topics:?}");
    Some(topics.first().map_or_else(Vec::new, |topic| topic.partitions.clone()))
}

/// The code of the group, and the offsets.
async fn fetched(
    client: &mut Client,
    version: i16,
    member: Option<(&str, i32)>,
    partitions: Option<&[i32]>,
) -> (i16, Vec<i64>) {
    let topics = |partitions: &[i32]| {
        vec![offset_fetch::OffsetFetchRequestTopics {
            name: "orders".into(),
            partition_indexes: partitions.to_vec(),
            ..Default::default()
        }]
    };
    let group = offset_fetch::OffsetFetchRequestGroup {
        group_id: "billing".into(),
        member_id: member.map(|it| it.0.into()),
        member_epoch: member.map_or(-1, |it| it.1),
        topics: partitions.map(topics),
    };
    let request = offset_fetch::Request { groups: vec![group], ..Default::default() };
    let answered = client.ask::<OffsetFetch>(version, &request).await.groups.remove(0);
    let partitions = answered.topics.iter().flat_map(|topic| &topic.partitions);
    (answered.error_code, partitions.map(|it| it.committed_offset).collect())
}

async fn produced(client: &mut Client) {
    for partition in [0, 1] {
        assert_eq!(client.produce("orders", partition, batch(&["a", "b", "c"])).await.error_code, 0);
    }
}

fn join_classic() -> join_group::Request {
    join_group::Request {
        group_id: "billing".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: "consumer".into(),
        protocols: vec![join_group::JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: bytes::Bytes::from_static(b"\0\x01\0\0\0\x01\0\x06orders\xff\xff\xff\xff\0\0\0\0"),
        }],
        ..Default::default()
    }
}

async fn described(
    client: &mut Client,
    version: i16,
    group: &str,
) -> consumer_group_describe::DescribedGroup {
    let request = consumer_group_describe::Request {
        group_ids: vec![group.into()],
        include_authorized_operations: version == 1,
    };
    client.ask::<ConsumerGroupDescribe>(version, &request).await.groups.remove(0)
}

#[tokio::test]
async fn gr_5_every_version_joins_stays_leaves_and_is_described() {
    for version in 0..=1 {
        let node = node().await;
        let mut client = node.client().await;
        let member_id = if version == 0 { "" } else { "m" };
        let joined = client.ask::<ConsumerGroupHeartbeat>(version, &join(member_id)).await;
        assert_eq!((joined.error_code, joined.member_epoch, told(&joined)), (0, 1, Some(vec![0, 1])));
        assert_eq!(joined.heartbeat_interval_ms, 5000);
        let id = joined.member_id.clone().unwrap();
        assert_eq!(&*id == "m", version == 1, "{id}");
        let beaten = client.ask::<ConsumerGroupHeartbeat>(version, &beat(&id, 1)).await;
        assert_eq!((beaten.error_code, beaten.member_epoch, told(&beaten)), (0, 1, None));
        let group = described(&mut client, version, "billing").await;
        assert_eq!((group.error_code, &*group.group_state, &*group.assignor_name), (0, "Stable", "uniform"));
        assert_eq!((group.group_epoch, group.assignment_epoch), (1, 1));
        assert_eq!(group.authorized_operations, if version == 1 { 3400 } else { i32::MIN });
        let member = &group.members[0];
        assert_eq!((&member.member_id, member.member_epoch, &*member.client_id), (&id, 1, "test"));
        assert_eq!((&*member.client_host, &member.subscribed_topic_regex), ("/127.0.0.1", &None));
        assert_eq!(member.subscribed_topic_names, ["orders".into()]);
        assert_eq!(member.member_type, if version == 1 { 1 } else { -1 });
        for assignment in [&member.assignment, &member.target_assignment] {
            let topic = &assignment.topic_partitions[0];
            assert_eq!((&*topic.topic_name, &topic.partitions[..]), ("orders", &[0, 1][..]));
            assert_eq!(topic.topic_id, joined.assignment.as_ref().unwrap().topic_partitions[0].topic_id);
        }
        let left = client.ask::<ConsumerGroupHeartbeat>(version, &beat(&id, -1)).await;
        assert_eq!((left.error_code, left.member_epoch), (0, -1));
        assert_eq!(&*described(&mut client, version, "billing").await.group_state, "Empty");
        for (group, code) in [("nobody", 69), ("", 24)] {
            let refused = described(&mut client, version, group).await;
            assert_eq!((refused.error_code, &*refused.group_id), (code, group));
            assert!(refused.error_message.is_some());
        }
    }
}

/// Names of groups are free text (ADR 40), whichever protocol the group goes by.
#[tokio::test]
async fn gr_5_a_group_s_name_is_free_text() {
    let node = node().await;
    let mut client = node.client().await;
    for (group, code) in [("Billing for the north, 2026", 0), ("größer", 0), (" ", 24), ("a\nb", 24)] {
        let request = Request { group_id: group.into(), ..join("m") };
        let answered = ask(&mut client, &request).await;
        assert_eq!(answered.error_code, code, "{group:?}: {:?}", answered.error_message);
    }
}

#[tokio::test]
async fn gr_4_a_second_member_gets_its_part_when_the_first_has_given_it_up() {
    let node = node().await;
    let mut client = node.client().await;
    let first = ask(&mut client, &join("a")).await;
    let second = ask(&mut client, &join("b")).await;
    assert_eq!((second.member_epoch, told(&second)), (2, Some(vec![])));
    assert_eq!(&*described(&mut client, 1, "billing").await.group_state, "Reconciling");
    let revoking = ask(&mut client, &beat("a", 1)).await;
    assert_eq!((revoking.member_epoch, told(&revoking)), (1, Some(vec![0])));
    assert_eq!(told(&ask(&mut client, &beat("b", 2)).await), None);
    let released = ask(&mut client, &having(&first, &[0], beat("a", 1))).await;
    assert_eq!(released.member_epoch, 2);
    assert_eq!(told(&ask(&mut client, &beat("b", 2)).await), Some(vec![1]));
    // A member that leaves is gone at once.
    assert_eq!(ask(&mut client, &beat("a", -1)).await.error_code, 0);
    assert_eq!(&*described(&mut client, 1, "billing").await.group_state, "Assigning");
    assert_eq!(told(&ask(&mut client, &beat("b", 2)).await), Some(vec![0, 1]));
}

#[tokio::test]
async fn gr_4_a_member_that_is_not_heard_of_is_fenced_by_the_clock_of_the_node() {
    let options = NodeOptions {
        consumer_session_timeout: Duration::from_millis(300),
        consumer_heartbeat_interval: Duration::from_millis(50),
        ..NodeOptions::default()
    };
    let node = node_with(options).await;
    let mut client = node.client().await;
    assert_eq!(ask(&mut client, &join("a")).await.heartbeat_interval_ms, 50);
    ask(&mut client, &join("b")).await;
    let gets_all = async {
        while told(&ask(&mut client, &beat("b", 2)).await) != Some(vec![0, 1]) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, gets_all).await.expect("a is fenced");
    assert_eq!(ask(&mut client, &beat("a", 1)).await.error_code, 25);
}

#[tokio::test]
async fn what_is_wrong_with_a_heartbeat_is_told() {
    let node = node().await;
    let mut client = node.client().await;
    ask(&mut client, &join("a")).await;
    let refused = [
        (join(""), 42),
        (Request { group_id: "".into(), ..join("b") }, 42),
        (Request { group_id: "no\ngroup".into(), ..join("b") }, 24),
        (Request { rebalance_timeout_ms: -1, ..join("b") }, 42),
        (Request { topic_partitions: None, ..join("b") }, 42),
        (Request { subscribed_topic_names: None, ..join("b") }, 42),
        (Request { instance_id: Some("".into()), ..join("b") }, 42),
        (Request { rack_id: Some("".into()), ..join("b") }, 42),
        (beat("a", -2), 42),
        (beat("a", -3), 42),
        (Request { server_assignor: Some("sticky".into()), ..join("b") }, 112),
        (Request { subscribed_topic_regex: Some("(".into()), ..join("b") }, 128),
        (beat("a", 2), 110),
        (beat("b", 1), 25),
        (Request { instance_id: Some("i".into()), ..beat("a", 1) }, 25),
        (Request { group_id: "other".into(), ..beat("a", 1) }, 25),
        (Request { group_id: "other".into(), ..beat("a", -1) }, 69),
    ];
    for (request, error_code) in refused {
        let response = ask(&mut client, &request).await;
        assert_eq!(response.error_code, error_code, "{request:?}");
        assert!(!response.error_message.unwrap().is_empty());
        assert_eq!((response.member_id, response.member_epoch, response.assignment), (None, 0, None));
    }
    assert_eq!(ask(&mut client, &beat("a", 1)).await.error_code, 0);
}

#[tokio::test]
async fn gr_5_a_static_member_comes_back_to_its_place() {
    let node = node().await;
    let mut client = node.client().await;
    let fixed = |request: Request| Request { instance_id: Some("i".into()), ..request };
    assert_eq!(told(&ask(&mut client, &fixed(join("a1"))).await), Some(vec![0, 1]));
    assert_eq!(ask(&mut client, &fixed(join("a2"))).await.error_code, 111);
    let left = ask(&mut client, &fixed(beat("a1", -2))).await;
    assert_eq!((left.error_code, left.member_epoch), (0, -2));
    let back = ask(&mut client, &fixed(join("a2"))).await;
    assert_eq!((back.member_epoch, told(&back)), (1, Some(vec![0, 1])));
    assert_eq!(ask(&mut client, &fixed(beat("a1", 1))).await.error_code, 82);
    let member = described(&mut client, 1, "billing").await.members.remove(0);
    assert_eq!((member.instance_id, &*member.member_id), (Some("i".into()), "a2"));
}

#[tokio::test]
async fn topics_that_are_created_altered_and_deleted_are_noticed_at_the_next_heartbeat() {
    let node = node().await;
    let mut client = node.client().await;
    let regex =
        Request { subscribed_topic_names: None, subscribed_topic_regex: Some("pay.*".into()), ..join("a") };
    assert_eq!(told(&ask(&mut client, &regex).await), Some(vec![]));
    let payments = node.log.create_topic("payments", TopicOptions::default()).unwrap();
    let got = ask(&mut client, &beat("a", 1)).await;
    assert_eq!((got.member_epoch, told(&got)), (2, Some(vec![0])));
    node.log.create_topic("mypayments", TopicOptions::default()).unwrap();
    assert_eq!(ask(&mut client, &beat("a", 2)).await.member_epoch, 2, "it doesn't fit");
    node.log.add_partitions(&payments, 3).unwrap();
    assert_eq!(told(&ask(&mut client, &beat("a", 2)).await), Some(vec![0, 1, 2]));
    node.log.delete_topic(&payments).unwrap();
    let told_so = ask(&mut client, &beat("a", 3)).await;
    assert_eq!((told_so.member_epoch, told(&told_so)), (3, Some(vec![])));
    let released = ask(&mut client, &Request { topic_partitions: Some(vec![]), ..beat("a", 3) }).await;
    assert_eq!(released.member_epoch, 4);
}

#[tokio::test]
async fn gr_5_offsets_are_committed_and_found_by_who_is_a_member_at_that_epoch() {
    let node = node().await;
    let mut client = node.client().await;
    produced(&mut client).await;
    assert_eq!(committed(&mut client, 9, &commit(1, "a", &[(0, 1)])).await, [25], "nobody knows the group");
    let first = ask(&mut client, &join("a")).await;
    for version in 2..=8 {
        assert_eq!(committed(&mut client, version, &commit(1, "a", &[(0, 1)])).await, [35], "{version}");
    }
    assert_eq!(committed(&mut client, 9, &commit(1, "a", &[(0, 1), (1, 2)])).await, [0, 0]);
    let mut by_id = commit(1, "a", &[(0, 1)]);
    by_id.topics[0].topic_id = first.assignment.as_ref().unwrap().topic_partitions[0].topic_id;
    assert_eq!(committed(&mut client, 10, &by_id).await, [0]);
    assert_eq!(committed(&mut client, 9, &commit(2, "a", &[(0, 1), (7, 1)])).await, [113, 3]);
    assert_eq!(committed(&mut client, 9, &commit(1, "b", &[(0, 1)])).await, [25]);
    assert_eq!(committed(&mut client, 9, &commit(-1, "", &[(0, 1)])).await, [25], "it has members");
    // KIP-1251: it has both since epoch 1, and one of them no more.
    ask(&mut client, &join("b")).await;
    ask(&mut client, &beat("a", 1)).await;
    assert_eq!(committed(&mut client, 9, &commit(1, "a", &[(0, 2), (1, 3)])).await, [0, 0], "it gives it up");
    ask(&mut client, &having(&first, &[0], beat("a", 1))).await;
    assert_eq!(committed(&mut client, 9, &commit(1, "a", &[(0, 3)])).await, [0]);
    assert_eq!(committed(&mut client, 9, &commit(1, "a", &[(1, 1)])).await, [113], "it is b's");
    for (member, partitions, expected) in [
        (None, Some(&[0, 1][..]), (0, vec![3, 3])),
        (Some(("a", 2)), Some(&[0, 1][..]), (0, vec![3, 3])),
        (Some(("a", 1)), Some(&[0][..]), (0, vec![3])),
        (Some(("a", 1)), Some(&[1][..]), (113, vec![])),
        (Some(("a", 3)), Some(&[0][..]), (113, vec![])),
        (Some(("a", 2)), None, (0, vec![3, 3])),
        (Some(("a", 1)), None, (113, vec![])),
        (Some(("c", 1)), Some(&[0][..]), (25, vec![])),
        (Some(("a", -1)), Some(&[0][..]), (113, vec![])),
    ] {
        assert_eq!(fetched(&mut client, 9, member, partitions).await, expected, "{member:?} {partitions:?}");
    }
    assert_eq!(fetched(&mut client, 8, None, Some(&[0])).await, (0, vec![3]), "nobody says who he is");
    // When all have left, anybody may.
    for member in ["a", "b"] {
        ask(&mut client, &beat(member, -1)).await;
    }
    assert_eq!(committed(&mut client, 8, &commit(-1, "", &[(0, 0)])).await, [0]);
    assert_eq!(committed(&mut client, 9, &commit(2, "a", &[(0, 1)])).await, [25]);
}

#[tokio::test]
async fn tx_21_offsets_in_a_transaction_are_of_a_member_at_that_epoch() {
    let node = node().await;
    let mut client = node.client().await;
    produced(&mut client).await;
    ask(&mut client, &join("a")).await;
    let init = init_producer_id::Request {
        transactional_id: Some("t".into()),
        transaction_timeout_ms: 60_000,
        producer_id: -1,
        producer_epoch: -1,
    };
    let producer = client.ask::<InitProducerId>(4, &init).await;
    for (member_id, epoch, expected) in
        [("a", 1, 0), ("a", 2, 22), ("a", 0, 22), ("b", 1, 25), ("", -1, 0), ("b", -1, 25)]
    {
        let request = txn_offset_commit::Request {
            transactional_id: "t".into(),
            group_id: "billing".into(),
            producer_id: producer.producer_id,
            producer_epoch: producer.producer_epoch,
            generation_id: epoch,
            member_id: member_id.into(),
            topics: vec![txn_offset_commit::TxnOffsetCommitRequestTopic {
                name: "orders".into(),
                partitions: vec![txn_offset_commit::TxnOffsetCommitRequestPartition {
                    partition_index: 0,
                    committed_offset: 1,
                    committed_leader_epoch: -1,
                    ..Default::default()
                }],
            }],
            ..Default::default()
        };
        let response = client.ask::<TxnOffsetCommit>(5, &request).await;
        assert_eq!(response.topics[0].partitions[0].error_code, expected, "{member_id:?} {epoch}");
    }
}

#[tokio::test]
async fn a_group_changes_its_kind_only_while_it_is_empty() {
    let node = node().await;
    let mut client = node.client().await;
    produced(&mut client).await;
    ask(&mut client, &join("a")).await;
    assert_eq!(committed(&mut client, 9, &commit(1, "a", &[(0, 2)])).await, [0]);
    for version in 2..=9 {
        let refused = client.ask::<JoinGroup>(version, &join_classic()).await;
        assert_eq!(refused.error_code, 23, "JoinGroup {version}: its members are of another kind");
    }
    ask(&mut client, &beat("a", -1)).await;
    let joined = client.ask::<JoinGroup>(3, &join_classic()).await;
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
    assert_eq!(described(&mut client, 1, "billing").await.error_code, 69);
    for request in [join("a"), beat("a", 1), beat("a", -1)] {
        let refused = ask(&mut client, &request).await;
        assert_eq!(refused.error_code, 69, "{request:?}");
        assert!(refused.error_message.unwrap().contains("classic"));
    }
    let leaving = exactlog_wire::messages::leave_group::Request {
        group_id: "billing".into(),
        member_id: joined.member_id.clone(),
        ..Default::default()
    };
    assert_eq!(client.ask::<exactlog_wire::messages::LeaveGroup>(0, &leaving).await.error_code, 0);
    assert_eq!(ask(&mut client, &beat("a", 1)).await.error_code, 69, "only who joins changes it");
    let wrong = Request { subscribed_topic_regex: Some("(".into()), ..join("a") };
    assert_eq!(ask(&mut client, &wrong).await.error_code, 128);
    assert_eq!(ask(&mut client, &join("a")).await.error_code, 0);
    assert_eq!(&*described(&mut client, 1, "billing").await.group_state, "Stable");
    assert_eq!(fetched(&mut client, 9, Some(("a", 1)), Some(&[0])).await, (0, vec![2]), "its offsets stay");
}

#[tokio::test]
async fn a_group_of_the_process_that_has_the_log_is_not_open() {
    let node = node().await;
    let mut client = node.client().await;
    let orders = node.log.open_topic("orders").unwrap();
    let embedded = node.log.consumer("billing").subscribe([&orders]).unwrap();
    assert_eq!(ask(&mut client, &join("a")).await.error_code, 69);
    drop(embedded);
}

#[tokio::test]
async fn consumer_groups_are_listed_described_and_deleted_beside_classic_ones() {
    let node = node().await;
    let mut client = node.client().await;
    produced(&mut client).await;
    ask(&mut client, &join("a")).await;
    assert_eq!(committed(&mut client, 9, &commit(1, "a", &[(0, 1)])).await, [0]);
    let mut alone = commit(-1, "", &[(0, 1)]);
    alone.group_id = "alone".into();
    assert_eq!(committed(&mut client, 8, &alone).await, [0]);
    for version in 0..=5 {
        let groups = client.ask::<ListGroups>(version, &list_groups::Request::default()).await.groups;
        let names: Vec<(&str, &str)> = groups.iter().map(|it| (&*it.group_id, &*it.protocol_type)).collect();
        assert_eq!(names, [("alone", ""), ("billing", "consumer")], "version {version}");
        assert_eq!(&*groups[1].group_state, if version >= 4 { "Stable" } else { "" });
        assert_eq!(&*groups[1].group_type, if version >= 5 { "consumer" } else { "" });
    }
    for (states, types, count) in [
        ("stable", "Consumer", 1),
        ("empty", "consumer", 0),
        ("empty", "classic", 1),
        ("stable", "classic", 0),
    ] {
        let filtered =
            list_groups::Request { states_filter: vec![states.into()], types_filter: vec![types.into()] };
        assert_eq!(client.ask::<ListGroups>(5, &filtered).await.groups.len(), count, "{states} {types}");
    }
    for version in 0..=6 {
        let request = describe_groups::Request { groups: vec!["billing".into()], ..Default::default() };
        let group = client.ask::<DescribeGroups>(version, &request).await.groups.remove(0);
        assert_eq!((&*group.group_state, group.members.len()), ("Dead", 0), "version {version}");
        assert_eq!(group.error_code, if version >= 6 { 69 } else { 0 });
    }
    let forget = |topic: &str| offset_delete::Request {
        group_id: "billing".into(),
        topics: vec![offset_delete::OffsetDeleteRequestTopic {
            name: topic.into(),
            partitions: vec![offset_delete::OffsetDeleteRequestPartition { partition_index: 0 }],
        }],
    };
    let code = |response: offset_delete::Response| response.topics[0].partitions[0].error_code;
    assert_eq!(code(client.ask::<OffsetDelete>(0, &forget("orders")).await), 86);
    let delete = delete_groups::Request { groups_names: vec!["billing".into()] };
    for version in 0..=2 {
        let results = client.ask::<DeleteGroups>(version, &delete).await.results;
        assert_eq!(results[0].error_code, 68, "version {version}");
    }
    ask(&mut client, &beat("a", -1)).await;
    let groups = client.ask::<ListGroups>(5, &list_groups::Request::default()).await.groups;
    assert_eq!((&*groups[1].group_state, &*groups[1].group_type), ("Empty", "consumer"));
    assert_eq!(code(client.ask::<OffsetDelete>(0, &forget("orders")).await), 0);
    assert_eq!(client.ask::<DeleteGroups>(2, &delete).await.results[0].error_code, 0);
    assert_eq!(client.ask::<DeleteGroups>(2, &delete).await.results[0].error_code, 69);
}

/// What a node knows of members goes with it: they are told to join anew, and find their offsets.
#[tokio::test]
async fn members_of_a_node_that_has_ended_join_the_next_one() {
    let node = node().await;
    let mut client = node.client().await;
    produced(&mut client).await;
    ask(&mut client, &join("a")).await;
    assert_eq!(committed(&mut client, 9, &commit(1, "a", &[(0, 2)])).await, [0]);
    let Node { log, running, .. } = node;
    tokio::time::timeout(LONG, running.stop()).await.expect("it ends");
    let listen = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let options = NodeOptions { listen, ..NodeOptions::default() };
    let running = exactlog_broker::bind(options).await.unwrap().serve(&log);
    let mut client = Client::connect(running.address()).await;
    assert_eq!(fetched(&mut client, 9, Some(("a", 1)), Some(&[0])).await, (0, vec![2]));
    assert_eq!(ask(&mut client, &beat("a", 1)).await.error_code, 25);
    assert_eq!(told(&ask(&mut client, &join("a")).await), Some(vec![0, 1]));
}

#[tokio::test]
async fn clients_are_told_that_there_are_consumer_groups() {
    let node = node().await;
    let mut client = node.client().await;
    let named =
        api_versions::Request { client_software_name: "test".into(), client_software_version: "1".into() };
    let served = client.ask::<ApiVersions>(4, &named).await;
    for key in [68, 69] {
        let range = served.api_keys.iter().find(|it| it.api_key == key);
        assert_eq!(range.map(|it| (it.min_version, it.max_version)), Some((0, 1)));
    }
    let is_group = |name: &str| name == "group.version";
    let finalized = served.finalized_features.iter().find(|it| is_group(&it.name)).unwrap();
    let supported = served.supported_features.iter().find(|it| is_group(&it.name)).unwrap();
    assert_eq!((finalized.max_version_level, supported.min_version, supported.max_version), (1, 0, 1));
}

/// Each member would be fenced before it is heard of again: records would come over and over.
#[tokio::test]
async fn heartbeats_that_come_too_late_are_no_setting() {
    use std::time::Duration;
    let times = |heartbeat, session| exactlog_broker::NodeOptions {
        listen: ([127, 0, 0, 1], 0).into(),
        consumer_heartbeat_interval: Duration::from_millis(heartbeat),
        consumer_session_timeout: Duration::from_millis(session),
        ..exactlog_broker::NodeOptions::default()
    };
    for (heartbeat, session) in [(5000, 1000), (5000, 5000)] {
        let error = exactlog_broker::bind(times(heartbeat, session)).await.unwrap_err().to_string();
        assert!(error.contains("group.consumer.heartbeat.interval.ms is 5000"), "{error}");
        assert!(error.contains(&format!("group.consumer.session.timeout.ms, {session}")), "{error}");
    }
    exactlog_broker::bind(times(999, 1000)).await.unwrap();
    let none = exactlog_broker::NodeOptions { session_timeout_max: Duration::from_secs(5), ..times(1, 2) };
    let error = exactlog_broker::bind(none).await.unwrap_err().to_string();
    assert!(error.contains("group.min.session.timeout.ms is 6000"), "{error}");
}

/// Clients' own tests, and whoever wants to notice soon that a member died, ask for less than 6 s.
#[tokio::test]
async fn members_of_classic_groups_ask_for_session_timeouts_within_the_nodes_bounds() {
    use exactlog_wire::messages::{JoinGroup, join_group};
    let times = exactlog_broker::NodeOptions {
        session_timeout_min: std::time::Duration::from_millis(500),
        session_timeout_max: std::time::Duration::from_millis(9_000),
        initial_rebalance_delay: std::time::Duration::ZERO,
        ..exactlog_broker::NodeOptions::default()
    };
    let node = Node::with(times).await;
    let mut client = node.client().await;
    for (session_timeout_ms, error_code) in [(499, 26), (500, 0), (9_000, 0), (9_001, 26)] {
        let protocol = join_group::JoinGroupRequestProtocol { name: "range".into(), ..Default::default() };
        let request = join_group::Request {
            group_id: format!("g-{session_timeout_ms}").into(),
            session_timeout_ms,
            rebalance_timeout_ms: 1_000,
            protocol_type: "consumer".into(),
            protocols: vec![protocol],
            ..Default::default()
        };
        let joined = client.ask::<JoinGroup>(3, &request).await;
        assert_eq!(joined.error_code, error_code, "{session_timeout_ms}");
    }
}
