//! Sessions of Fetch (KIP-227): what is named once goes without saying from then on.

use crate::common::{Client, Node, batch, values_of};
use crate::fetching::request;
use exactlog::TopicOptions;
use exactlog_broker::NodeOptions;
use exactlog_wire::messages::{Fetch, Metadata, fetch, metadata};
use exactlog_wire::value::Uuid;
use std::collections::BTreeMap;

/// A request of a session, about what has changed.
fn of_session(id: i32, epoch: i32, wanted: &[(i32, i64)], forgotten: &[i32]) -> fetch::Request {
    let mut asked = request("orders", wanted);
    (asked.session_id, asked.session_epoch) = (id, epoch);
    if wanted.is_empty() {
        asked.topics.clear();
    }
    if !forgotten.is_empty() {
        asked.forgotten_topics_data = vec![fetch::ForgottenTopic {
            topic: "orders".into(),
            partitions: forgotten.to_vec(),
            ..Default::default()
        }];
    }
    asked
}

/// Of each partition that is told: its index, and how many records it has.
fn told(response: &fetch::Response) -> Vec<(i32, usize)> {
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|it| (it.partition_index, values_of(it.records.as_ref().unwrap()).len())).collect()
}

async fn opened(client: &mut Client, version: i16, wanted: &[(i32, i64)]) -> (i32, Vec<(i32, usize)>) {
    let response = client.ask::<Fetch>(version, &of_session(0, 0, wanted, &[])).await;
    assert_eq!(response.error_code, 0);
    (response.session_id, told(&response))
}

#[tokio::test]
async fn a_session_is_told_what_it_does_not_know() {
    let node = Node::with_topic("orders", 3).await;
    let mut client = node.client().await;
    for version in 7..=12 {
        let end = i64::from(version) - 7;
        let (id, all) = opened(&mut client, version, &[(0, end), (1, 0)]).await;
        assert!(id > 0);
        assert_eq!(all, [(0, 0), (1, 0)], "version {version}");
        let nothing = client.ask::<Fetch>(version, &of_session(id, 1, &[], &[])).await;
        assert_eq!((nothing.session_id, told(&nothing)), (id, vec![]));
        client.produce("orders", 0, batch(&["a"])).await;
        let records = client.ask::<Fetch>(version, &of_session(id, 2, &[], &[])).await;
        assert_eq!(told(&records), [(0, 1)]);
        // It reads on, looks at another one, and no more at the second.
        let next = of_session(id, 3, &[(0, end + 1), (2, 0)], &[1]);
        assert_eq!(told(&client.ask::<Fetch>(version, &next).await), [(2, 0)]);
        let last = of_session(id, -1, &[(1, 0)], &[]);
        let response = client.ask::<Fetch>(version, &last).await;
        assert_eq!((response.session_id, told(&response)), (0, vec![(1, 0)]));
        assert_eq!(client.ask::<Fetch>(version, &of_session(id, 4, &[], &[])).await.error_code, 70);
    }
}

#[tokio::test]
async fn who_is_out_of_step_begins_anew() {
    let node = Node::with_topic("orders", 1).await;
    let mut client = node.client().await;
    let (id, _) = opened(&mut client, 12, &[(0, 0)]).await;
    for (id, epoch, code) in [(id, 2, 71), (id ^ 1, 1, 70), (0, 1, 70)] {
        let response = client.ask::<Fetch>(12, &of_session(id, epoch, &[], &[])).await;
        assert_eq!((response.error_code, response.session_id), (code, 0), "{id} {epoch}");
    }
    // It is the node's, not the connection's.
    let mut other = node.client().await;
    assert_eq!(other.ask::<Fetch>(12, &of_session(id, 1, &[], &[])).await.error_code, 0);
}

#[tokio::test]
async fn an_error_is_told_until_it_is_gone() {
    let node = Node::with_topic("orders", 1).await;
    let mut client = node.client().await;
    let (id, _) = opened(&mut client, 12, &[(0, 5)]).await;
    let response = client.ask::<Fetch>(12, &of_session(id, 1, &[], &[])).await;
    assert_eq!(response.responses[0].partitions[0].error_code, 1);
    let response = client.ask::<Fetch>(12, &of_session(id, 2, &[(0, 0)], &[])).await;
    assert_eq!(response.responses[0].partitions[0].error_code, 0);
    assert_eq!(told(&client.ask::<Fetch>(12, &of_session(id, 3, &[], &[])).await), []);
}

#[tokio::test]
async fn topics_by_name_and_by_id_do_not_mix() {
    let node = Node::with_topic("orders", 1).await;
    let mut client = node.client().await;
    let topic = metadata::MetadataRequestTopic { name: Some("orders".into()), ..Default::default() };
    let asked = metadata::Request { topics: Some(vec![topic]), ..Default::default() };
    let id_of_topic = client.ask::<Metadata>(12, &asked).await.topics[0].topic_id;
    let (by_name, _) = opened(&mut client, 12, &[(0, 0)]).await;
    let mut by_id = of_session(0, 0, &[(0, 0)], &[]);
    by_id.topics[0].topic_id = id_of_topic;
    let response = client.ask::<Fetch>(17, &by_id).await;
    assert_eq!((response.responses[0].topic_id, told(&response)), (id_of_topic, vec![(0, 0)]));
    let wrong = client.ask::<Fetch>(17, &of_session(by_name, 1, &[], &[])).await;
    assert_eq!(wrong.error_code, 106);
    let wrong = client.ask::<Fetch>(12, &of_session(response.session_id, 1, &[], &[])).await;
    assert_eq!(wrong.error_code, 106);
    client.produce("orders", 0, batch(&["a"])).await;
    let records = client.ask::<Fetch>(17, &of_session(response.session_id, 1, &[], &[])).await;
    assert_eq!((records.responses[0].topic_id, told(&records)), (id_of_topic, vec![(0, 1)]));
    let mut forgets = of_session(response.session_id, 2, &[], &[0]);
    forgets.forgotten_topics_data[0].topic_id = id_of_topic;
    let response = client.ask::<Fetch>(17, &forgets).await;
    assert_eq!((response.session_id, response.responses.len()), (0, 0), "nothing is left of it");
    let mut unknown = of_session(0, 0, &[(0, 0)], &[]);
    unknown.topics[0].topic_id = Uuid([7; 16]);
    let response = client.ask::<Fetch>(17, &unknown).await;
    assert_eq!(response.responses[0].partitions[0].error_code, 100);
}

/// As with Kafka a client that gets no session goes on as one that knows of none.
#[tokio::test]
async fn without_a_place_everything_is_named_each_time() {
    let node = Node::with(NodeOptions { fetch_sessions_max: 1, ..NodeOptions::default() }).await;
    node.log.create_topic("orders", TopicOptions::default()).unwrap();
    let mut client = node.client().await;
    let (first, _) = opened(&mut client, 12, &[(0, 0)]).await;
    assert_ne!(first, 0);
    assert_eq!(opened(&mut client, 12, &[(0, 0)]).await, (0, vec![(0, 0)]));
    let page = node.log.prometheus();
    for line in ["exactlog_node_fetch_sessions 1", "exactlog_node_fetch_session_partitions 1"] {
        assert!(page.contains(line), "{line} isn't in {page}");
    }
}

/// Answers are short, so that partitions wait for their turn; each record comes once, and in its order.
#[tokio::test]
async fn a_reader_with_a_session_reads_everything_there_is() {
    const PARTITIONS: i32 = 4;
    let node = Node::with_topic("orders", PARTITIONS as u32).await;
    let (mut reader, mut writer) = (node.client().await, node.client().await);
    let mut positions: BTreeMap<i32, i64> = (0..PARTITIONS).map(|index| (index, 0)).collect();
    let (mut changed, mut id, mut epoch, mut random) = (positions.clone(), 0, 0, 1u32);
    let mut written = 0;
    while written < 200 || positions.values().sum::<i64>() < written {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if written < 200 {
            // The first one gets most, and must not keep the others from being read.
            let index = if random >> 31 == 0 { 0 } else { (random >> 28) as i32 % PARTITIONS };
            writer.produce("orders", index, batch(&["a", "b"])).await;
            written += 2;
        }
        let wanted: Vec<(i32, i64)> = changed.iter().map(|(index, offset)| (*index, *offset)).collect();
        let mut asked = of_session(id, epoch, &wanted, &[]);
        asked.max_bytes = 150;
        let response = reader.ask::<Fetch>(12, &asked).await;
        assert_eq!(response.error_code, 0);
        changed.clear();
        for partition in response.responses.iter().flat_map(|topic| &topic.partitions) {
            let index = partition.partition_index;
            for (offset, _) in values_of(partition.records.as_ref().unwrap()) {
                assert_eq!(offset as i64, positions[&index], "partition {index}");
                positions.insert(index, offset as i64 + 1);
                changed.insert(index, offset as i64 + 1);
            }
        }
        (id, epoch) = (response.session_id, epoch + 1);
    }
    assert!(positions.values().all(|end| *end > 0));
}
