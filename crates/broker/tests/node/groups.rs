//! Classic groups and their offsets (semantics GR-1, GR-2).

use crate::common::{Client, LONG, Node, batch, commit, committed};
use bytes::Bytes;
use exactlog::TopicOptions;
use exactlog_broker::NodeOptions;
use exactlog_wire::messages::{
    DeleteGroups, DescribeGroups, Heartbeat, JoinGroup, LeaveGroup, ListGroups, OffsetDelete, OffsetFetch,
    SyncGroup, delete_groups, describe_groups, heartbeat, join_group, leave_group, list_groups,
    offset_delete, offset_fetch, sync_group,
};
use std::time::Duration;

async fn node() -> Node {
    let options = NodeOptions { initial_rebalance_delay: Duration::ZERO, ..NodeOptions::default() };
    let node = Node::with(options).await;
    node.log.create_topic("orders", TopicOptions::default().partitions(2)).unwrap();
    node
}

/// What a consumer says of itself: it subscribes to `orders`.
fn subscription() -> Bytes {
    Bytes::from_static(b"\0\x01\0\0\0\x01\0\x06orders\xff\xff\xff\xff\0\0\0\0")
}

fn join(member_id: &str) -> join_group::Request {
    join_group::Request {
        group_id: "billing".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        member_id: member_id.into(),
        protocol_type: "consumer".into(),
        protocols: vec![join_group::JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: subscription(),
        }],
        ..Default::default()
    }
}

/// Joins as clients do: with an id that it is told (KIP-394).
async fn joined(client: &mut Client, version: i16) -> join_group::Response {
    let told = client.ask::<JoinGroup>(version, &join("")).await;
    if version < 4 {
        return told;
    }
    assert_eq!(told.error_code, 79, "MEMBER_ID_REQUIRED");
    client.ask::<JoinGroup>(version, &join(&told.member_id)).await
}

fn sync(of: &join_group::Response, assignments: &[(&str, &'static [u8])]) -> sync_group::Request {
    sync_group::Request {
        group_id: "billing".into(),
        generation_id: of.generation_id,
        member_id: of.member_id.clone(),
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        assignments: assignments
            .iter()
            .map(|(member_id, assignment)| sync_group::SyncGroupRequestAssignment {
                member_id: (*member_id).into(),
                assignment: Bytes::from_static(assignment),
            })
            .collect(),
        ..Default::default()
    }
}

fn beat(of: &join_group::Response) -> heartbeat::Request {
    heartbeat::Request {
        group_id: "billing".into(),
        generation_id: of.generation_id,
        member_id: of.member_id.clone(),
        ..Default::default()
    }
}

async fn offset(client: &mut Client, partition: i32) -> i64 {
    let request = offset_fetch::Request {
        group_id: "billing".into(),
        topics: Some(vec![offset_fetch::OffsetFetchRequestTopic {
            name: "orders".into(),
            partition_indexes: vec![partition],
        }]),
        ..Default::default()
    };
    client.ask::<OffsetFetch>(7, &request).await.topics[0].partitions[0].committed_offset
}

async fn produced(client: &mut Client) {
    for partition in [0, 1] {
        assert_eq!(client.produce("orders", partition, batch(&["a", "b", "c"])).await.error_code, 0);
    }
}

/// KIP-430. Of a group that isn't there nothing is said from version 6 on, as it is an error then.
#[tokio::test]
async fn what_may_be_done_with_a_group_is_told_if_it_is_asked() {
    let node = node().await;
    let mut client = node.client().await;
    joined(&mut client, 5).await;
    for (version, of_group, of_none) in [(2, i32::MIN, i32::MIN), (3, 3400, 3400), (6, 3400, i32::MIN)] {
        for is_asked in [false, true] {
            let request = describe_groups::Request {
                groups: vec!["billing".into(), "nobody".into()],
                include_authorized_operations: is_asked,
            };
            let response = client.ask::<DescribeGroups>(version, &request).await;
            let operations = response.groups.iter().map(|group| group.authorized_operations);
            let told = if is_asked { [of_group, of_none] } else { [i32::MIN; 2] };
            assert_eq!(operations.collect::<Vec<_>>(), told, "version {version}");
        }
    }
}

#[tokio::test]
async fn gr_1_every_version_joins_and_gets_what_the_leader_assigns() {
    for version in 2..=9 {
        let node = node().await;
        let mut client = node.client().await;
        let member = joined(&mut client, version).await;
        assert_eq!((member.error_code, member.generation_id), (0, 1), "version {version}");
        assert_eq!((&member.leader, member.members.len()), (&member.member_id, 1));
        assert_eq!(member.members[0].metadata, subscription());
        let version = (version - 2).min(5);
        let synced = client.ask::<SyncGroup>(version, &sync(&member, &[(&member.member_id, b"all")])).await;
        assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"all"[..]), "SyncGroup {version}");
        let beaten = client.ask::<Heartbeat>(version.min(4), &beat(&member)).await;
        assert_eq!(beaten.error_code, 0);
    }
}

#[tokio::test]
async fn a_second_member_makes_the_first_one_join_again_and_both_get_their_parts() {
    let node = node().await;
    let (mut one, mut two) = (node.client().await, node.client().await);
    let first = joined(&mut one, 9).await;
    one.ask::<SyncGroup>(5, &sync(&first, &[(&first.member_id, b"all")])).await;
    let told = two.ask::<JoinGroup>(9, &join("")).await;
    let waiting = two.send::<JoinGroup>(9, &join(&told.member_id)).await;
    let rebalances = async {
        while one.ask::<Heartbeat>(4, &beat(&first)).await.error_code != 27 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, rebalances).await.expect("it is told to join again");
    let first = one.ask::<JoinGroup>(9, &join(&first.member_id)).await;
    let (correlation_id, second) = two.receive::<JoinGroup>(9).await;
    assert_eq!((correlation_id, second.error_code), (waiting, 0));
    assert_eq!((first.generation_id, second.generation_id), (2, 2));
    assert_eq!((first.members.len(), second.members.len()), (2, 0), "only the leader is told who is there");
    two.send::<SyncGroup>(5, &sync(&second, &[])).await;
    let parts: [(&str, &'static [u8]); 2] = [(&first.member_id, b"one"), (&second.member_id, b"two")];
    assert_eq!(&one.ask::<SyncGroup>(5, &sync(&first, &parts)).await.assignment[..], b"one");
    assert_eq!(&two.receive::<SyncGroup>(5).await.1.assignment[..], b"two");
    // One that is cut off without a word is missed; one that leaves is gone at once.
    let leaving = leave_group::Request {
        group_id: "billing".into(),
        members: vec![leave_group::MemberIdentity {
            member_id: second.member_id.clone(),
            ..Default::default()
        }],
        ..Default::default()
    };
    assert_eq!(two.ask::<LeaveGroup>(5, &leaving).await.members[0].error_code, 0);
    assert_eq!(one.ask::<Heartbeat>(4, &beat(&first)).await.error_code, 27);
    let first = one.ask::<JoinGroup>(9, &join(&first.member_id)).await;
    assert_eq!((first.generation_id, first.members.len()), (3, 1));
    // GR-2: what was handed out by an earlier generation doesn't count any more.
    produced(&mut one).await;
    assert_eq!(committed(&mut one, 8, &commit(2, &first.member_id, &[(0, 1)])).await, [22]);
    assert_eq!(
        committed(&mut one, 8, &commit(3, &first.member_id, &[(0, 1)])).await,
        [27],
        "it has no part yet"
    );
    one.ask::<SyncGroup>(5, &sync(&first, &[(&first.member_id, b"all")])).await;
    assert_eq!(committed(&mut one, 8, &commit(3, &first.member_id, &[(0, 1)])).await, [0]);
    assert_eq!(committed(&mut one, 8, &commit(3, "somebody", &[(0, 1)])).await, [25]);
    assert_eq!(committed(&mut one, 8, &commit(-1, "", &[(0, 2)])).await, [25], "it has members");
    assert_eq!(offset(&mut one, 0).await, 1);
}

#[tokio::test]
async fn every_version_commits_and_finds_offsets() {
    let node = node().await;
    let mut client = node.client().await;
    produced(&mut client).await;
    assert_eq!(offset(&mut client, 0).await, -1);
    let id = exactlog_wire::messages::metadata::Request { topics: None, ..Default::default() };
    let id = client.ask::<exactlog_wire::messages::Metadata>(12, &id).await.topics[0].topic_id;
    for version in 2..=10 {
        let place = i64::from(version) % 3;
        let mut request = commit(-1, "", &[(0, place), (1, 3)]);
        request.topics[0].topic_id = if version >= 10 { id } else { Default::default() };
        assert_eq!(committed(&mut client, version, &request).await, [0, 0], "version {version}");
        assert_eq!(offset(&mut client, 0).await, place);
    }
    for version in 1..=10 {
        let names = Some(vec![offset_fetch::OffsetFetchRequestTopic {
            name: "orders".into(),
            partition_indexes: vec![1, 7],
        }]);
        let of_group = offset_fetch::OffsetFetchRequestGroup {
            group_id: "billing".into(),
            topics: Some(vec![offset_fetch::OffsetFetchRequestTopics {
                name: "orders".into(),
                topic_id: if version >= 10 { id } else { Default::default() },
                partition_indexes: vec![1, 7],
            }]),
            ..Default::default()
        };
        let request = offset_fetch::Request {
            group_id: "billing".into(),
            topics: names,
            groups: vec![
                of_group.clone(),
                offset_fetch::OffsetFetchRequestGroup { topics: None, ..of_group },
            ],
            require_stable: version >= 7,
        };
        let response = client.ask::<OffsetFetch>(version, &request).await;
        let offsets: Vec<i64> = match version >= 8 {
            true => response.groups[0].topics[0].partitions.iter().map(|it| it.committed_offset).collect(),
            false => response.topics[0].partitions.iter().map(|it| it.committed_offset).collect(),
        };
        assert_eq!(offsets, [3, -1], "version {version}");
        if version >= 8 {
            assert_eq!(response.groups[1].topics[0].partitions.len(), 2, "all that was committed");
        }
    }
    let all = offset_fetch::Request { group_id: "billing".into(), topics: None, ..Default::default() };
    assert_eq!(client.ask::<OffsetFetch>(2, &all).await.topics[0].partitions.len(), 2);
}

/// Partition, offset and what stands beside it, of all that the group has committed.
async fn found(client: &mut Client, version: i16) -> Vec<(i32, i64, Option<String>)> {
    let group = offset_fetch::OffsetFetchRequestGroup {
        group_id: "billing".into(),
        topics: None,
        ..Default::default()
    };
    let request = offset_fetch::Request {
        group_id: "billing".into(),
        topics: None,
        groups: vec![group],
        ..Default::default()
    };
    let response = client.ask::<OffsetFetch>(version, &request).await;
    let text = |text: Option<exactlog_wire::value::Str>| text.map(|text| text.to_string());
    match version >= 8 {
        true => {
            let topics = response.groups.into_iter().flat_map(|group| group.topics);
            let partitions = topics.flat_map(|topic| topic.partitions);
            partitions.map(|it| (it.partition_index, it.committed_offset, text(it.metadata))).collect()
        }
        false => {
            let partitions = response.topics.into_iter().flat_map(|topic| topic.partitions);
            partitions.map(|it| (it.partition_index, it.committed_offset, text(it.metadata))).collect()
        }
    }
}

#[tokio::test]
async fn gr_6_what_a_client_keeps_beside_an_offset_is_found_again_in_every_version() {
    let node = node().await;
    let mut client = node.client().await;
    produced(&mut client).await;
    let ids = exactlog_wire::messages::metadata::Request { topics: None, ..Default::default() };
    let topics = client.ask::<exactlog_wire::messages::Metadata>(12, &ids).await.topics;
    for version in 2..=10 {
        let mut request = commit(-1, "", &[(0, 2), (1, 3)]);
        let said = format!("said in version {version}: ü");
        request.topics[0].topic_id = if version >= 10 { topics[0].topic_id } else { Default::default() };
        request.topics[0].partitions[0].committed_metadata = Some(said.as_str().into());
        request.topics[0].partitions[1].committed_metadata = None;
        assert_eq!(committed(&mut client, version, &request).await, [0, 0], "version {version}");
        let expected = [(0, 2, Some(said)), (1, 3, Some(String::new()))];
        for version in 2..=10 {
            assert_eq!(found(&mut client, version).await, expected, "OffsetFetch {version}");
        }
    }
    // The next commit takes its place, also without any. The limit counts bytes.
    let mut request = commit(-1, "", &[(0, 1)]);
    assert_eq!(committed(&mut client, 8, &request).await, [0]);
    assert_eq!(found(&mut client, 8).await[0], (0, 1, Some(String::new())));
    let longest = "ü".repeat(2048);
    request.topics[0].partitions[0].committed_metadata = Some(format!("{longest}.").into());
    assert_eq!(committed(&mut client, 8, &request).await, [12]);
    request.topics[0].partitions[0].committed_metadata = Some(longest.as_str().into());
    assert_eq!(committed(&mut client, 8, &request).await, [0]);
    drop(client);
    let node = crate::transactional::restarted(node).await;
    let mut client = node.client().await;
    assert_eq!(found(&mut client, 8).await[0], (0, 1, Some(longest)));
}

#[tokio::test]
async fn positions_that_cannot_be_committed_are_refused_and_the_others_are_committed() {
    let node = node().await;
    let mut client = node.client().await;
    produced(&mut client).await;
    let mut request = commit(-1, "", &[(0, 2), (1, 4), (2, 0), (-1, 0), (1, -1)]);
    assert_eq!(committed(&mut client, 8, &request).await, [0, 0, 3, 3, 1]);
    assert_eq!((offset(&mut client, 0).await, offset(&mut client, 1).await), (2, 4));
    // Named twice, the last one counts: confluent-kafka-go commits the places of all records that it was given.
    for (offsets, last) in [([1, 2, 3], 3), ([6, 5, 4], 4)] {
        let mut request = commit(-1, "", &offsets.map(|offset| (0, offset)));
        assert_eq!(committed(&mut client, 8, &request).await, [0, 0, 0]);
        assert_eq!(offset(&mut client, 0).await, last);
        // By another mention of the topic, too.
        let again = request.topics[0].clone();
        request.topics.push(again);
        assert_eq!(committed(&mut client, 8, &request).await, [0, 0, 0]);
        assert_eq!(offset(&mut client, 0).await, last);
    }
    request.topics[0].partitions.truncate(1);
    request.topics[0].partitions[0].committed_metadata = Some("m".repeat(4097).into());
    assert_eq!(committed(&mut client, 8, &request).await, [12]);
    request = commit(-1, "", &[(0, 1)]);
    request.topics[0].name = "ordres".into();
    assert_eq!(committed(&mut client, 8, &request).await, [3]);
    request = commit(5, "somebody", &[(0, 1)]);
    assert_eq!(committed(&mut client, 9, &request).await, [25]);
    assert_eq!(committed(&mut client, 8, &request).await, [22]);
    for name in ["", "  ", "a\nb", "\u{85}", &"g".repeat(250)] {
        request = commit(-1, "", &[(0, 1)]);
        request.group_id = name.into();
        assert_eq!(committed(&mut client, 8, &request).await, [24], "{name:?}");
        let mut strange = join("");
        strange.group_id = name.into();
        assert_eq!(client.ask::<JoinGroup>(9, &strange).await.error_code, 24, "{name:?}");
    }
}

#[tokio::test]
async fn a_group_can_have_any_text_for_a_name() {
    let node = node().await;
    let mut client = node.client().await;
    produced(&mut client).await;
    let longest = "ü".repeat(124);
    for name in ["two words", "a/b", "..", "it's \"quoted\"", "größe", &longest] {
        let mut first = join("");
        first.group_id = name.into();
        first.member_id = client.ask::<JoinGroup>(9, &first).await.member_id;
        let member = client.ask::<JoinGroup>(9, &first).await;
        assert_eq!((member.error_code, member.generation_id), (0, 1), "{name:?}");
        let mut assigned = sync(&member, &[(&member.member_id, b"all")]);
        assigned.group_id = name.into();
        assert_eq!(client.ask::<SyncGroup>(5, &assigned).await.error_code, 0);
        let mut request = commit(1, &member.member_id, &[(0, 2)]);
        request.group_id = name.into();
        assert_eq!(committed(&mut client, 8, &request).await, [0], "{name:?}");
        let groups = vec![offset_fetch::OffsetFetchRequestGroup {
            group_id: name.into(),
            topics: None,
            ..Default::default()
        }];
        let request = offset_fetch::Request { groups, ..Default::default() };
        let found = client.ask::<OffsetFetch>(8, &request).await.groups.remove(0);
        assert_eq!((&*found.group_id, found.topics[0].partitions[0].committed_offset), (name, 2));
        let asked = describe_groups::Request { groups: vec![name.into()], ..Default::default() };
        assert_eq!(&*client.ask::<DescribeGroups>(6, &asked).await.groups[0].group_state, "Stable");
        let listed = client.ask::<ListGroups>(5, &list_groups::Request::default()).await.groups;
        assert_eq!(listed.iter().map(|group| &*group.group_id).collect::<Vec<_>>(), [name]);
        let leaving = leave_group::Request {
            group_id: name.into(),
            members: vec![leave_group::MemberIdentity {
                member_id: member.member_id.clone(),
                ..Default::default()
            }],
            ..Default::default()
        };
        assert_eq!(client.ask::<LeaveGroup>(5, &leaving).await.members[0].error_code, 0);
        let names = vec![name.into()];
        let deleted = client.ask::<DeleteGroups>(2, &delete_groups::Request { groups_names: names }).await;
        assert_eq!(deleted.results[0].error_code, 0, "{name:?}");
    }
    assert_eq!(node.log.details().semantics_level, 3);
}

#[tokio::test]
async fn groups_are_listed_described_and_deleted() {
    let node = node().await;
    let mut client = node.client().await;
    produced(&mut client).await;
    let mut alone = commit(-1, "", &[(0, 1)]);
    alone.group_id = "alone".into();
    assert_eq!(committed(&mut client, 8, &alone).await, [0]);
    let member = joined(&mut client, 9).await;
    client.ask::<SyncGroup>(5, &sync(&member, &[(&member.member_id, b"all")])).await;
    let embedded =
        node.log.consumer("embedded").subscribe([&node.log.open_topic("orders").unwrap()]).unwrap();
    for version in 0..=5 {
        let groups = client.ask::<ListGroups>(version, &list_groups::Request::default()).await.groups;
        let names: Vec<&str> = groups.iter().map(|group| &*group.group_id).collect();
        assert_eq!(names, ["alone", "billing", "embedded"], "version {version}");
    }
    let stable = list_groups::Request { states_filter: vec!["stable".into()], ..Default::default() };
    assert_eq!(client.ask::<ListGroups>(5, &stable).await.groups.len(), 2);
    let names = ["alone", "billing", "embedded", "nobody"].map(Into::into).to_vec();
    let asked = describe_groups::Request { groups: names, ..Default::default() };
    for version in 0..=6 {
        let groups = client.ask::<DescribeGroups>(version, &asked).await.groups;
        let states: Vec<&str> = groups.iter().map(|group| &*group.group_state).collect();
        assert_eq!(states, ["Empty", "Stable", "Stable", "Dead"], "version {version}");
        assert_eq!(groups[3].error_code, if version >= 6 { 69 } else { 0 });
        let members = &groups[1].members;
        assert_eq!((members.len(), &members[0].member_assignment[..]), (1, &b"all"[..]));
        assert_eq!((&*members[0].client_id, &*members[0].client_host), ("test", "/127.0.0.1"));
    }
    let mut intruder = join("");
    intruder.group_id = "embedded".into();
    assert_eq!(client.ask::<JoinGroup>(3, &intruder).await.error_code, 23, "its members aren't Kafka's");
    let forget = |topic: &str| offset_delete::Request {
        group_id: "alone".into(),
        topics: vec![offset_delete::OffsetDeleteRequestTopic {
            name: topic.into(),
            partitions: vec![offset_delete::OffsetDeleteRequestPartition { partition_index: 0 }],
        }],
    };
    let code = |response: &offset_delete::Response| response.topics[0].partitions[0].error_code;
    assert_eq!(code(&client.ask::<OffsetDelete>(0, &forget("ordres")).await), 3);
    assert_eq!(code(&client.ask::<OffsetDelete>(0, &forget("orders")).await), 0);
    let mut of_readers = forget("orders");
    of_readers.group_id = "billing".into();
    assert_eq!(code(&client.ask::<OffsetDelete>(0, &of_readers).await), 86);
    of_readers.group_id = "nobody".into();
    assert_eq!(client.ask::<OffsetDelete>(0, &of_readers).await.error_code, 69);
    for version in 0..=2 {
        assert_eq!(committed(&mut client, 8, &alone).await, [0]);
        let names = ["alone", "billing", "embedded", "nobody", ""].map(Into::into).to_vec();
        let deleted =
            client.ask::<DeleteGroups>(version, &delete_groups::Request { groups_names: names }).await;
        let codes: Vec<i16> = deleted.results.iter().map(|result| result.error_code).collect();
        assert_eq!(codes, [0, 68, 68, 69, 24], "version {version}");
    }
    drop(embedded);
}

/// What a node knows of its groups goes with it, and their offsets stay.
#[tokio::test]
async fn a_node_that_ends_answers_who_waits_and_the_next_one_has_the_offsets() {
    let node = node().await;
    let (mut one, mut two) = (node.client().await, node.client().await);
    produced(&mut one).await;
    let first = joined(&mut one, 3).await;
    one.ask::<SyncGroup>(3, &sync(&first, &[(&first.member_id, b"all")])).await;
    assert_eq!(committed(&mut one, 8, &commit(1, &first.member_id, &[(0, 2)])).await, [0]);
    two.send::<JoinGroup>(3, &join("")).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let Node { log, running, .. } = node;
    tokio::time::timeout(LONG, running.stop()).await.expect("it ends");
    assert_eq!(two.receive::<JoinGroup>(3).await.1.error_code, 15);
    let listen = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let options = NodeOptions { listen, ..NodeOptions::default() };
    let running = exactlog_broker::bind(options).await.unwrap().serve(&log);
    let mut one = Client::connect(running.address()).await;
    assert_eq!(one.ask::<Heartbeat>(4, &beat(&first)).await.error_code, 25);
    assert_eq!(committed(&mut one, 8, &commit(1, &first.member_id, &[(0, 3)])).await, [22]);
    assert_eq!(offset(&mut one, 0).await, 2);
}
