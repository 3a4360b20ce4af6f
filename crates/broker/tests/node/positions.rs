//! Positions of groups where markers of transactions take offsets: what a client is told, from which it and its tools
//! reckon lag, and what the log says (semantics TX-11, TX-14, TX-15, TX-16, LG-12).
//!
//! To Kafka's tools lag is the end minus the committed offset. A consumer's position moves over markers with the
//! batches that Fetch gives it, so one that commits its position is 0 behind at the end; one that commits the offset
//! behind its last record is behind by the markers. `exactlog group lag` counts records, and is 0 for both.

use crate::common::{Client, Node, commit, committed};
use crate::transactional::{Who, fetched, raw};
use exactlog::wire::Batch;
use exactlog_wire::messages::{Fetch, ListOffsets, OffsetFetch, fetch, list_offsets, offset_fetch};

const LATEST: i64 = -1;

/// The end of the partition, for readers of committed records and for others.
async fn ends(client: &mut Client) -> [i64; 2] {
    let mut ends = [0; 2];
    for (end, isolation_level) in ends.iter_mut().zip([1, 0]) {
        let partition = list_offsets::ListOffsetsPartition { timestamp: LATEST, ..Default::default() };
        let topic = list_offsets::ListOffsetsTopic { name: "orders".into(), partitions: vec![partition] };
        let request = list_offsets::Request {
            replica_id: -1,
            isolation_level,
            topics: vec![topic],
            ..Default::default()
        };
        let told = client.ask::<ListOffsets>(7, &request).await;
        assert_eq!(told.topics[0].partitions[0].error_code, 0);
        *end = told.topics[0].partitions[0].offset;
    }
    ends
}

/// What the group has committed; in the older form and in the one for several groups.
async fn position(client: &mut Client) -> i64 {
    let topic = offset_fetch::OffsetFetchRequestTopic { name: "orders".into(), partition_indexes: vec![0] };
    let request = offset_fetch::Request {
        group_id: "billing".into(),
        topics: Some(vec![topic]),
        require_stable: true,
        ..Default::default()
    };
    let told = client.ask::<OffsetFetch>(7, &request).await;
    let older = told.topics[0].partitions[0].clone();
    let topic = offset_fetch::OffsetFetchRequestTopics {
        name: "orders".into(),
        partition_indexes: vec![0],
        ..Default::default()
    };
    let group = offset_fetch::OffsetFetchRequestGroup {
        group_id: "billing".into(),
        topics: Some(vec![topic]),
        ..Default::default()
    };
    let request = offset_fetch::Request { groups: vec![group], require_stable: true, ..Default::default() };
    let told = client.ask::<OffsetFetch>(9, &request).await;
    let newer = told.groups[0].topics[0].partitions[0].clone();
    assert_eq!((older.error_code, newer.error_code), (0, 0));
    assert_eq!(older.committed_offset, newer.committed_offset);
    older.committed_offset
}

/// Where a reader of committed records goes on behind what a Fetch from here gives it, and how many control batches are
/// among that.
async fn passed(client: &mut Client, fetch_offset: i64) -> (i64, usize) {
    let partition = fetch::FetchPartition {
        fetch_offset,
        partition_max_bytes: 1 << 20,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        ..Default::default()
    };
    let topic =
        fetch::FetchTopic { topic: "orders".into(), partitions: vec![partition], ..Default::default() };
    let request = fetch::Request {
        max_bytes: 1 << 20,
        isolation_level: 1,
        session_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    };
    let told = client.ask::<Fetch>(12, &request).await.responses[0].partitions[0].clone();
    assert_eq!(told.error_code, 0);
    let (mut bytes, mut next, mut markers) =
        (crate::common::bytes_of(&told.records.unwrap()), fetch_offset, 0);
    while !bytes.is_empty() {
        let batch = Batch::parse(bytes.split_to(Batch::announced_len(&bytes).unwrap())).unwrap();
        next = batch.next_offset() as i64;
        markers += usize::from(batch.is_control());
    }
    (next, markers)
}

/// Versions of Produce, TxnOffsetCommit and EndTxn.
const PROTOCOLS: [[i16; 3]; 2] = [[11, 4, 4], [12, 5, 5]];

/// A transaction of three records; who the producer is then.
async fn transaction(client: &mut Client, who: Who, sequence: i32, protocol: [i16; 3], commits: bool) -> Who {
    let [produce, _, end] = protocol;
    if produce < 12 {
        assert_eq!(who.add(client, 3, "orders", 0).await, 0);
    }
    let batch = who.batch(sequence, &["a", "b", "c"]);
    assert_eq!(who.produce(client, produce, ("orders", 0), batch).await.0, 0);
    let (code, next) = who.end(client, end, commits).await;
    assert_eq!(code, 0);
    if end < 5 { who } else { next }
}

#[tokio::test]
async fn tx_16_a_position_moves_over_markers_and_who_is_at_the_end_is_0_behind() {
    for protocol in PROTOCOLS {
        let node = Node::with_topic("orders", 1).await;
        let topic = node.log.open_topic("orders").unwrap();
        let mut client = node.client().await;
        let who = Who::init(&mut client, "t").await;
        let who = transaction(&mut client, who, 0, protocol, true).await;
        // The marker has the offset behind the records, and a reader that has these gets it alone.
        assert_eq!(ends(&mut client).await, [4, 4]);
        assert_eq!(passed(&mut client, 0).await, (4, 1));
        assert_eq!(passed(&mut client, 3).await, (4, 1));
        assert_eq!(passed(&mut client, 4).await, (4, 0));
        // What is committed is told as it was committed.
        for (offset, behind) in [(3, 1), (4, 0), (2, 2)] {
            assert_eq!(committed(&mut client, 9, &commit(-1, "", &[(0, offset)])).await, [0]);
            assert_eq!(position(&mut client).await, offset);
            assert_eq!(ends(&mut client).await[0] - position(&mut client).await, behind);
            assert_eq!(
                node.log.lag("billing", &topic),
                if offset == 2 { 1 } else { 0 },
                "records at {offset}"
            );
        }
        // Records that were aborted are passed, too, and are nobody's lag.
        assert_eq!(committed(&mut client, 9, &commit(-1, "", &[(0, 4)])).await, [0]);
        let sequence = if protocol[2] < 5 { 3 } else { 0 };
        let who = transaction(&mut client, who, sequence, protocol, false).await;
        assert_eq!((ends(&mut client).await, passed(&mut client, 4).await), ([8, 8], (8, 1)));
        assert_eq!(node.log.lag("billing", &topic), 0);
        // An open transaction is the end of committed records.
        if protocol[0] < 12 {
            who.add(&mut client, 3, "orders", 0).await;
        }
        let sequence = if protocol[2] < 5 { 6 } else { 0 };
        who.produce(&mut client, protocol[0], ("orders", 0), who.batch(sequence, &["d"])).await;
        assert_eq!((ends(&mut client).await, passed(&mut client, 4).await), ([8, 9], (8, 1)));
        assert_eq!(node.log.lag("billing", &topic), 0);
        assert_eq!(who.end(&mut client, protocol[2], true).await.0, 0);
        assert_eq!((ends(&mut client).await, passed(&mut client, 8).await), ([10, 10], (10, 1)));
        assert_eq!(node.log.lag("billing", &topic), 1, "it is a record that the group hasn't read");
        assert_eq!(raw(&fetched(&mut client, "orders", 0, true).await).len(), 7);
    }
}

/// A transaction that copies commits the offset behind the last record: the marker of that record's own transaction
/// lies behind it.
#[tokio::test]
async fn tx_14_a_position_of_a_transaction_is_told_as_it_was_sent_and_the_marker_behind_it_is_no_lag() {
    for protocol in PROTOCOLS {
        let node = Node::with_topic("orders", 1).await;
        let topic = node.log.open_topic("orders").unwrap();
        let mut client = node.client().await;
        let who = Who::init(&mut client, "source").await;
        transaction(&mut client, who, 0, protocol, true).await;
        let copier = Who::init(&mut client, "copier").await;
        if protocol[1] < 5 {
            assert_eq!(copier.add_offsets(&mut client, 4, "billing").await, 0);
        }
        let positions = [("orders", 0, 3)];
        let codes = copier.commit_offsets(&mut client, protocol[1], "billing", &positions).await;
        assert_eq!(codes, [0]);
        assert_eq!(node.log.lag("billing", &topic), 3, "until it commits");
        assert_eq!(copier.end(&mut client, protocol[2], true).await.0, 0);
        assert_eq!((position(&mut client).await, ends(&mut client).await), (3, [4, 4]));
        assert_eq!(node.log.lag("billing", &topic), 0);
    }
}

/// As Kafka: a position may lie behind the end. Who reads there is told that it is out of range, and does what his
/// `auto.offset.reset` says; lag is 0.
#[tokio::test]
async fn gr_9_a_position_behind_the_end_is_taken_and_found_again() {
    let node = Node::with_topic("orders", 1).await;
    let mut client = node.client().await;
    client.produce("orders", 0, crate::common::batch(&["a", "b"])).await;
    for version in [2, 9] {
        assert_eq!(committed(&mut client, version, &commit(-1, "", &[(0, 700)])).await, [0]);
        assert_eq!(position(&mut client).await, 700);
    }
    let request = crate::fetching::request("orders", &[(0, 700)]);
    let read = client.ask::<Fetch>(11, &request).await.responses[0].partitions[0].clone();
    assert_eq!((read.error_code, read.high_watermark), (1, 2), "OFFSET_OUT_OF_RANGE");
    let topic = node.log.open_topic("orders").unwrap();
    assert_eq!(node.log.lag("billing", &topic), 0);
    // It goes back like any other, and a transaction may move it ahead, too.
    assert_eq!(committed(&mut client, 9, &commit(-1, "", &[(0, 1)])).await, [0]);
    for protocol in PROTOCOLS {
        let copier = Who::init(&mut client, "copier").await;
        if protocol[1] < 5 {
            assert_eq!(copier.add_offsets(&mut client, 4, "billing").await, 0);
        }
        let positions = [("orders", 0, 500)];
        assert_eq!(copier.commit_offsets(&mut client, protocol[1], "billing", &positions).await, [0]);
        assert_eq!(copier.end(&mut client, protocol[2], true).await.0, 0);
        assert_eq!(position(&mut client).await, 500);
        assert_eq!(committed(&mut client, 9, &commit(-1, "", &[(0, 1)])).await, [0]);
    }
    assert_eq!((position(&mut client).await, node.log.lag("billing", &topic)), (1, 1));
}
