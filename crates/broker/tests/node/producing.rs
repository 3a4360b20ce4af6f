//! Appending: places, order, repeats, refusals.

use crate::common::{Node, batch, batch_of, produce_request};
use exactlog::{Compression, TopicOptions};
use exactlog_wire::messages::{
    CreateTopics, InitProducerId, Produce, create_topics, init_producer_id, produce,
};

fn outcome(response: &produce::Response) -> (i16, i64) {
    let partition = &response.responses[0].partition_responses[0];
    (partition.error_code, partition.base_offset)
}

#[tokio::test]
async fn every_version_appends_and_says_where() {
    let node = Node::with_topic("orders", 2).await;
    let mut client = node.client().await;
    for (nth, version) in (3..=12).enumerate() {
        let request = produce_request(-1, "orders", 1, batch(&["a", "b"]));
        let response = client.ask::<Produce>(version, &request).await;
        assert_eq!(outcome(&response), (0, 2 * nth as i64), "version {version}");
    }
    let topic = node.log.open_topic("orders").unwrap();
    assert_eq!(node.log.bounds(&topic, 1).unwrap(), (0, 20));
}

/// From version 13 on topics go by their ids, which CreateTopics has told.
#[tokio::test]
async fn topics_go_by_their_ids() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let wanted = create_topics::CreatableTopic {
        name: "orders".into(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    };
    let request = create_topics::Request { topics: vec![wanted], ..Default::default() };
    let created = client.ask::<CreateTopics>(7, &request).await.topics.remove(0);
    let mut request = produce_request(-1, "", 0, batch(&["a"]));
    request.topic_data[0].topic_id = created.topic_id;
    assert_eq!(outcome(&client.ask::<Produce>(13, &request).await), (0, 0));
    request.topic_data[0].topic_id.0[15] ^= 1;
    assert_eq!(outcome(&client.ask::<Produce>(13, &request).await), (100, -1));
}

#[tokio::test]
async fn what_is_sent_one_behind_the_other_is_appended_and_answered_in_this_order() {
    let node = Node::with_topic("orders", 1).await;
    let mut client = node.client().await;
    let mut sent = Vec::new();
    for _ in 0..200 {
        sent.push(client.send::<Produce>(9, &produce_request(-1, "orders", 0, batch(&["a"]))).await);
    }
    for (nth, sent) in sent.into_iter().enumerate() {
        let (correlation_id, response) = client.receive::<Produce>(9).await;
        assert_eq!((correlation_id, outcome(&response)), (sent, (0, nth as i64)));
    }
}

/// ID-1, ID-6, ID-8, ID-9.
#[tokio::test]
async fn id_6_a_repeat_is_told_where_the_first_one_is() {
    let node = Node::with_topic("orders", 1).await;
    let mut client = node.client().await;
    let request = init_producer_id::Request { producer_id: -1, producer_epoch: -1, ..Default::default() };
    let producer = client.ask::<InitProducerId>(4, &request).await;
    assert_eq!((producer.error_code, producer.producer_epoch), (0, 0));
    let of = |sequence| batch_of(&["a"], Some((producer.producer_id, 0, sequence)), Compression::None);
    for (sequence, expected) in
        [(0, (0, 0)), (1, (0, 1)), (0, (0, 0)), (1, (0, 1)), (3, (45, -1)), (2, (0, 2))]
    {
        let placed = client.produce("orders", 0, of(sequence)).await;
        assert_eq!((placed.error_code, placed.base_offset), expected, "sequence {sequence}");
    }
    for sequence in 3..=6 {
        client.produce("orders", 0, of(sequence)).await;
    }
    let forgotten = client.produce("orders", 0, of(0)).await;
    assert_eq!(forgotten.error_code, 46, "it was appended, but where isn't remembered");
}

#[tokio::test]
async fn what_cannot_be_taken_is_refused_with_the_reason_and_the_rest_is_taken() {
    let node = Node::with_topic("orders", 2).await;
    let mut client = node.client().await;
    let mut broken = batch(&["a"]).to_vec();
    broken[20] ^= 1;
    let two = [batch(&["a"]), batch(&["b"])].concat();
    let mut request = produce_request(-1, "orders", 0, broken.into());
    let data = |index, records: Vec<u8>| produce::PartitionProduceData {
        index,
        records: Some(bytes::Bytes::from(records).into()),
    };
    request.topic_data[0].partition_data.push(data(1, batch(&["c"]).to_vec()));
    request.topic_data[0].partition_data.push(data(2, batch(&["c"]).to_vec()));
    request.topic_data[0].partition_data.push(data(-1, batch(&["c"]).to_vec()));
    request.topic_data[0].partition_data.push(data(1, two));
    request.topic_data[0].partition_data.push(data(1, Vec::new()));
    let response = client.ask::<Produce>(9, &request).await;
    let codes: Vec<i16> =
        response.responses[0].partition_responses.iter().map(|partition| partition.error_code).collect();
    assert_eq!(codes[..4], [2, 0, 3, 3]);
    assert!(codes[4] != 0 && codes[5] != 0, "{codes:?}");
    let message = response.responses[0].partition_responses[0].error_message.clone();
    assert!(message.is_some_and(|message| message.to_lowercase().contains("crc")), "the reason is told");
    let topic = node.log.open_topic("orders").unwrap();
    assert_eq!((node.log.bounds(&topic, 0).unwrap().1, node.log.bounds(&topic, 1).unwrap().1), (0, 1));
}

#[tokio::test]
async fn an_unknown_topic_and_strange_acks_have_their_codes() {
    let node = Node::with_topic("orders", 1).await;
    let mut client = node.client().await;
    assert_eq!(client.produce("ordres", 0, batch(&["a"])).await.error_code, 3);
    let response = client.ask::<Produce>(9, &produce_request(2, "orders", 0, batch(&["a"]))).await;
    assert_eq!(outcome(&response), (21, -1));
}

#[tokio::test]
async fn without_acks_there_is_no_answer_and_a_refusal_ends_the_connection() {
    let node = Node::with_topic("orders", 1).await;
    let mut client = node.client().await;
    client.send::<Produce>(9, &produce_request(0, "orders", 0, batch(&["a"]))).await;
    let placed = client.produce("orders", 0, batch(&["b"])).await;
    assert_eq!(placed.base_offset, 1, "the first answer is that of the second request");
    client.send::<Produce>(9, &produce_request(0, "ordres", 0, batch(&["a"]))).await;
    assert_eq!(client.frame().await, None);
}

/// KIP-110: zstd came with version 7.
#[tokio::test]
async fn zstd_is_for_those_who_say_a_version_that_has_it() {
    let node = Node::with_topic("orders", 1).await;
    let mut client = node.client().await;
    let zstd = || batch_of(&["aaaaaaaaaaaaaaaaaaaaaaaaaaa"], None, Compression::Zstd);
    for (version, code) in [(3, 76), (6, 76), (7, 0)] {
        let response = client.ask::<Produce>(version, &produce_request(-1, "orders", 0, zstd())).await;
        assert_eq!(outcome(&response).0, code, "version {version}");
    }
}

#[tokio::test]
async fn a_topic_with_times_of_its_own_tells_them() {
    let node = Node::start().await;
    let mut config = exactlog::TopicConfig::default();
    config.set("message.timestamp.type", "LogAppendTime").unwrap();
    let topic = node.log.create_topic("orders", TopicOptions::default()).unwrap();
    node.log.alter_topic(&topic, config).unwrap();
    let placed = node.client().await.produce("orders", 0, batch(&["a"])).await;
    assert!(placed.log_append_time_ms > 1_700_000_000_000, "{placed:?}");
}
