//! Transactions in both protocols, from the first partition to the end (semantics TX-3 to TX-22).

use crate::common::{Client, Node};
use crate::transactional::{TIMEOUT_MS, Who, codes_of, fetched, init, raw, restarted, shown};
use exactlog::{Partition, TopicOptions};
use exactlog_broker::NodeOptions;
use exactlog_wire::messages::{
    AddPartitionsToTxn, Produce, TxnOffsetCommit, add_partitions_to_txn, txn_offset_commit,
};
use std::time::{Duration, Instant};

/// What a group has committed in partition 0 of a topic.
fn committed(node: &Node, group: &str, topic: &str) -> Option<u64> {
    node.log.committed(group, &node.log.open_topic(topic).unwrap(), 0)
}

/// What stands beside a group's committed offset in a partition of `orders`.
fn metadata(node: &Node, group: &str, index: u32) -> Option<String> {
    let at = Partition { topic: node.log.open_topic("orders").unwrap().id(), index };
    let committed = node.log.committed_offset(group, at, false).unwrap();
    committed.map(|committed| committed.metadata.as_str().to_string())
}

/// Whether OffsetFetch with `require_stable` would have to wait.
fn is_pending(node: &Node, group: &str, topic: &str) -> bool {
    let at = Partition { topic: node.log.open_topic(topic).unwrap().id(), index: 0 };
    node.log.committed_offset(group, at, true).is_err()
}

/// Versions of AddPartitionsToTxn, Produce, AddOffsetsToTxn, TxnOffsetCommit and EndTxn that go together.
const FIRST_PROTOCOL: [[i16; 5]; 5] =
    [[0, 3, 0, 0, 0], [1, 7, 1, 1, 1], [2, 9, 2, 2, 2], [3, 10, 3, 3, 3], [3, 11, 4, 4, 4]];

#[tokio::test]
async fn tx_16_tx_24_a_transaction_is_shown_at_its_commit_and_at_once() {
    for [add, produce, add_offsets, commit_offsets, end] in FIRST_PROTOCOL {
        let node = Node::with_topic("orders", 2).await;
        let mut client = node.client().await;
        client.produce("orders", 0, crate::common::batch(&["before"])).await;
        let who = Who::init(&mut client, "t").await;
        let added = who.add_partitions(&mut client, add, &[("orders", &[0, 1])]).await;
        assert_eq!(added, [("orders".into(), 0, 0), ("orders".into(), 1, 0)], "version {add}");
        for (index, offset) in [(0, 1), (1, 0)] {
            let placed =
                who.produce(&mut client, produce, ("orders", index), who.batch(0, &["a", "b"])).await;
            assert_eq!(placed, (0, offset), "version {produce}");
        }
        assert_eq!(who.add_offsets(&mut client, add_offsets, "g").await, 0);
        let codes = who.commit_offsets(&mut client, commit_offsets, "g", &[("orders", 0, 1)]).await;
        assert_eq!(codes, [0], "version {commit_offsets}");
        assert_eq!(shown(&mut client, "orders", 0).await, ["before"]);
        let partition = fetched(&mut client, "orders", 0, true).await;
        assert_eq!((partition.last_stable_offset, partition.high_watermark), (1, 3));
        assert_eq!(raw(&fetched(&mut client, "orders", 0, false).await), ["before", "a", "b"]);
        assert_eq!((committed(&node, "g", "orders"), is_pending(&node, "g", "orders")), (None, true));
        let (code, told) = who.end(&mut client, end, true).await;
        // Versions up to 4 don't tell who the producer is.
        assert_eq!((code, told.producer_id, told.epoch), (0, -1, -1), "version {end}");
        assert_eq!(shown(&mut client, "orders", 0).await, ["before", "a", "b"]);
        assert_eq!(shown(&mut client, "orders", 1).await, ["a", "b"]);
        // TX-14: the group's position is there as soon as the end is answered.
        assert_eq!((committed(&node, "g", "orders"), is_pending(&node, "g", "orders")), (Some(1), false));
    }
}

#[tokio::test]
async fn tx_16_an_aborted_transaction_is_never_shown_and_told_as_aborted() {
    for [add, produce, add_offsets, commit_offsets, end] in FIRST_PROTOCOL {
        let node = Node::with_topic("orders", 1).await;
        let mut client = node.client().await;
        let who = Who::init(&mut client, "t").await;
        assert_eq!(who.add(&mut client, add, "orders", 0).await, 0);
        who.produce(&mut client, produce, ("orders", 0), who.batch(0, &["a"])).await;
        client.produce("orders", 0, crate::common::batch(&["beside"])).await;
        who.add_offsets(&mut client, add_offsets, "g").await;
        who.commit_offsets(&mut client, commit_offsets, "g", &[("orders", 0, 1)]).await;
        assert_eq!(who.end(&mut client, end, false).await.0, 0, "version {end}");
        assert_eq!(shown(&mut client, "orders", 0).await, ["beside"]);
        let partition = fetched(&mut client, "orders", 0, true).await;
        assert_eq!(raw(&partition), ["a", "beside"], "it is for the client to leave them out");
        let aborted = partition.aborted_transactions.unwrap();
        assert_eq!(
            aborted.iter().map(|it| (it.producer_id, it.first_offset)).collect::<Vec<_>>(),
            [(who.producer_id, 0)]
        );
        assert_eq!((committed(&node, "g", "orders"), is_pending(&node, "g", "orders")), (None, false));
        // The same producer goes on, with the same epoch.
        assert_eq!(who.add(&mut client, add, "orders", 0).await, 0);
        let placed = who.produce(&mut client, produce, ("orders", 0), who.batch(1, &["c"])).await;
        assert_eq!(placed, (0, 3));
        assert_eq!(who.end(&mut client, end, true).await.0, 0);
        assert_eq!(shown(&mut client, "orders", 0).await, ["beside", "c"]);
    }
}

/// KIP-890: nothing is added before it is written to, and each end raises the epoch.
#[tokio::test]
async fn tx_8_tx_9_by_the_second_protocol_each_transaction_has_an_epoch() {
    let node = Node::with_topic("orders", 2).await;
    let mut client = node.client().await;
    let mut who = Who::init(&mut client, "t").await;
    for (nth, commit) in [true, false, true].into_iter().enumerate() {
        for index in [0, 1] {
            let value = format!("{nth}");
            let (code, _) = who.produce(&mut client, 12, ("orders", index), who.batch(0, &[&value])).await;
            assert_eq!(code, 0);
        }
        let end = 1 + nth as i64;
        assert_eq!(who.commit_offsets(&mut client, 5, "g", &[("orders", 0, end)]).await, [0]);
        assert!(is_pending(&node, "g", "orders"));
        let (code, next) = who.end(&mut client, 5, commit).await;
        assert_eq!((code, next), (0, Who { epoch: who.epoch + 1, ..who }));
        // TX-9: whoever has missed the answer asks again; the other end is refused.
        assert_eq!(who.end(&mut client, 5, commit).await, (0, next));
        assert_eq!(who.end(&mut client, 5, !commit).await.0, 48);
        // A batch of the epoch that has ended is late.
        let late = who.produce(&mut client, 12, ("orders", 0), who.batch(1, &["late"])).await;
        assert_eq!(late, (47, -1));
        who = next;
    }
    for index in [0, 1] {
        assert_eq!(shown(&mut client, "orders", index).await, ["0", "2"]);
    }
    assert_eq!(committed(&node, "g", "orders"), Some(3));
}

#[tokio::test]
async fn tx_7_each_request_that_comes_again_has_the_same_answer() {
    let node = Node::with_topic("orders", 1).await;
    let mut client = node.client().await;
    let who = Who::init(&mut client, "t").await;
    for _ in 0..2 {
        assert_eq!(who.add(&mut client, 3, "orders", 0).await, 0);
    }
    for _ in 0..2 {
        let placed = who.produce(&mut client, 11, ("orders", 0), who.batch(0, &["a"])).await;
        assert_eq!(placed, (0, 0));
    }
    for _ in 0..2 {
        assert_eq!(who.add_offsets(&mut client, 4, "g").await, 0);
    }
    for _ in 0..2 {
        assert_eq!(who.commit_offsets(&mut client, 3, "g", &[("orders", 0, 1)]).await, [0]);
    }
    for _ in 0..2 {
        assert_eq!(who.end(&mut client, 4, true).await.0, 0);
    }
    assert_eq!(shown(&mut client, "orders", 0).await, ["a"]);
    assert_eq!(committed(&node, "g", "orders"), Some(1));
    // After the end nothing is open that it could be part of.
    let late = who.produce(&mut client, 11, ("orders", 0), who.batch(1, &["b"])).await;
    assert_eq!(late, (120, -1));
}

#[tokio::test]
async fn tx_5_whom_a_newer_incarnation_has_fenced_is_told_by_each_request() {
    let node = Node::with_topic("orders", 1).await;
    let mut client = node.client().await;
    let old = Who::init(&mut client, "t").await;
    old.add(&mut client, 3, "orders", 0).await;
    old.produce(&mut client, 11, ("orders", 0), old.batch(0, &["a"])).await;
    // TX-3: what it has open is aborted, and the newcomer goes on at once.
    let new = Who::init(&mut client, "t").await;
    assert_eq!(new, Who { epoch: old.epoch + 1, ..old });
    assert_eq!(shown(&mut client, "orders", 0).await, [""; 0]);
    for (version, code) in [(0, 47), (1, 47), (2, 90), (3, 90)] {
        assert_eq!(old.add(&mut client, version, "orders", 0).await, code, "AddPartitionsToTxn {version}");
        assert_eq!(old.add_offsets(&mut client, version, "g").await, code, "AddOffsetsToTxn {version}");
        assert_eq!(old.end(&mut client, version, true).await.0, code, "EndTxn {version}");
    }
    assert_eq!(old.add_offsets(&mut client, 4, "g").await, 90);
    assert_eq!(old.end(&mut client, 4, true).await.0, 90);
    let (code, nobody) = old.end(&mut client, 5, true).await;
    assert_eq!((code, nobody.producer_id, nobody.epoch), (90, -1, -1));
    for version in 3..=12 {
        let placed = old.produce(&mut client, version, ("orders", 0), old.batch(1, &["b"])).await;
        assert_eq!(placed, (47, -1), "Produce {version}");
    }
    for version in 0..=5 {
        let codes = old.commit_offsets(&mut client, version, "g", &[("orders", 0, 0)]).await;
        assert_eq!(codes, [47], "TxnOffsetCommit {version}");
    }
}

#[tokio::test]
async fn tx_7_a_producer_of_another_id_and_an_id_that_nobody_has_are_refused() {
    let node = Node::with_topic("orders", 1).await;
    let mut client = node.client().await;
    let who = Who::init(&mut client, "t").await;
    let other = Who::init(&mut client, "u").await;
    let stranger = Who { producer_id: other.producer_id, ..who };
    for (who, code) in [(stranger, 49), (Who { id: "nobody", ..who }, 49), (Who { id: "", ..who }, 42)] {
        for version in 0..=3 {
            assert_eq!(who.add(&mut client, version, "orders", 0).await, code);
        }
        for version in 0..=4 {
            assert_eq!(who.add_offsets(&mut client, version, "g").await, code);
        }
        for version in 0..=5 {
            assert_eq!(who.end(&mut client, version, false).await.0, code);
            assert_eq!(who.commit_offsets(&mut client, version, "g", &[("orders", 0, 0)]).await, [code]);
        }
    }
    let mapped = stranger.produce(&mut client, 12, ("orders", 0), stranger.batch(0, &["a"])).await;
    assert_eq!(mapped, (49, -1));
}

#[tokio::test]
async fn tx_8_what_was_not_added_is_not_written_to_by_the_first_protocol() {
    let node = Node::with_topic("orders", 2).await;
    let mut client = node.client().await;
    let who = Who::init(&mut client, "t").await;
    for is_open in [false, true] {
        if is_open {
            assert_eq!(who.add(&mut client, 3, "orders", 1).await, 0);
        }
        for (version, code) in [(3, 48), (10, 48), (11, 120)] {
            let placed = who.produce(&mut client, version, ("orders", 0), who.batch(0, &["a"])).await;
            assert_eq!(placed, (code, -1), "Produce {version}");
        }
        for (version, code) in [(0, 48), (3, 48), (4, 120)] {
            let codes = who.commit_offsets(&mut client, version, "g", &[("orders", 0, 0)]).await;
            assert_eq!(codes, [code], "TxnOffsetCommit {version}");
        }
    }
    assert_eq!(raw(&fetched(&mut client, "orders", 0, false).await), [""; 0]);
}

#[tokio::test]
async fn tx_9_a_transaction_that_has_ended_does_not_end_otherwise() {
    let node = Node::with_topic("orders", 1).await;
    let mut client = node.client().await;
    let who = Who::init(&mut client, "t").await;
    for version in 0..=4 {
        assert_eq!(who.end(&mut client, version, true).await.0, 48, "nothing was begun");
        assert_eq!(who.end(&mut client, version, false).await.0, 48, "nothing was begun");
    }
    for (nth, commit) in [(0, true), (1, false)] {
        who.add(&mut client, 3, "orders", 0).await;
        who.produce(&mut client, 11, ("orders", 0), who.batch(nth, &["a"])).await;
        for version in 0..=4 {
            assert_eq!(who.end(&mut client, version, commit).await.0, 0);
            assert_eq!(who.end(&mut client, version, !commit).await.0, 48);
        }
    }
    assert_eq!(shown(&mut client, "orders", 0).await, ["a"]);
    // By the second one what wasn't begun can be aborted, and that is an end of an epoch, too.
    let who = Who::init(&mut client, "t").await;
    assert_eq!(who.end(&mut client, 5, true).await.0, 48);
    assert_eq!(who.end(&mut client, 5, false).await, (0, Who { epoch: who.epoch + 1, ..who }));
}

/// KIP-588: the producer is fenced, and may begin anew.
#[tokio::test]
async fn tx_19_a_transaction_that_stays_open_for_too_long_is_aborted() {
    let node = Node::with_topic("orders", 1).await;
    let mut client = node.client().await;
    let who = Who::init_for(&mut client, "t", 100).await;
    who.add(&mut client, 3, "orders", 0).await;
    let placed = who.produce(&mut client, 11, ("orders", 0), who.batch(0, &["a"])).await;
    assert_eq!(placed, (0, 0));
    let since = Instant::now();
    while fetched(&mut client, "orders", 0, true).await.last_stable_offset == 0 {
        assert!(since.elapsed() < Duration::from_secs(10), "nobody has ended it");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(shown(&mut client, "orders", 0).await, [""; 0]);
    assert_eq!(who.end(&mut client, 1, true).await.0, 47);
    assert_eq!(who.end(&mut client, 4, true).await.0, 90);
    assert_eq!(who.produce(&mut client, 11, ("orders", 0), who.batch(1, &["b"])).await, (47, -1));
    let again = init(&mut client, 4, Some("t"), TIMEOUT_MS, (who.producer_id, who.epoch)).await;
    assert_eq!((again.error_code, again.producer_id), (0, who.producer_id));
    let who = Who { epoch: again.producer_epoch, ..who };
    who.add(&mut client, 3, "orders", 0).await;
    assert_eq!(who.produce(&mut client, 11, ("orders", 0), who.batch(0, &["c"])).await.0, 0);
    assert_eq!(who.end(&mut client, 4, true).await.0, 0);
    assert_eq!(shown(&mut client, "orders", 0).await, ["c"]);
}

/// Connections are numbered anew, and yet those from before the restart are the older ones.
#[tokio::test]
async fn tx_10_tx_27_a_transaction_goes_on_over_a_restart() {
    let mut node = Node::with_topic("orders", 1).await;
    let mut before = Vec::new();
    for _ in 0..5 {
        before.push(node.client().await);
    }
    let client = before.last_mut().unwrap();
    let (first, second) = (Who::init(client, "first").await, Who::init(client, "second").await);
    first.add(client, 3, "orders", 0).await;
    first.add_offsets(client, 4, "g").await;
    first.produce(client, 11, ("orders", 0), first.batch(0, &["a"])).await;
    second.produce(client, 12, ("orders", 0), second.batch(0, &["b"])).await;
    drop(before);
    node = restarted(node).await;
    let mut client = node.client().await;
    assert_eq!(shown(&mut client, "orders", 0).await, [""; 0]);
    // What was sent before comes again, and more behind it.
    assert_eq!(first.produce(&mut client, 11, ("orders", 0), first.batch(0, &["a"])).await, (0, 0));
    assert_eq!(first.produce(&mut client, 11, ("orders", 0), first.batch(1, &["c"])).await, (0, 2));
    assert_eq!(first.commit_offsets(&mut client, 3, "g", &[("orders", 0, 3)]).await, [0]);
    assert_eq!(first.end(&mut client, 4, true).await.0, 0);
    assert_eq!(shown(&mut client, "orders", 0).await, ["a"], "the others wait behind an open one");
    let (code, next) = second.end(&mut client, 5, false).await;
    assert_eq!(code, 0);
    node = restarted(node).await;
    let mut client = node.client().await;
    assert_eq!(shown(&mut client, "orders", 0).await, ["a", "c"]);
    assert_eq!(committed(&node, "g", "orders"), Some(3));
    // Retries, too, of what was answered before the restart.
    assert_eq!(first.end(&mut client, 4, true).await.0, 0);
    assert_eq!(second.end(&mut client, 5, false).await, (0, next));
    assert_eq!(second.end(&mut client, 5, true).await.0, 48);
}

/// KAFKA-17754: a request that was delayed on a connection that is given up ends the next transaction.
#[tokio::test]
async fn tx_27_the_end_from_an_older_connection_is_refused_unless_that_is_switched_off() {
    for fences_older_connections in [true, false] {
        let node = Node::with(NodeOptions { fences_older_connections, ..NodeOptions::default() }).await;
        node.log.create_topic("orders", TopicOptions::default()).unwrap();
        let (mut older, mut newer) = (node.client().await, node.client().await);
        let who = Who::init(&mut older, "t").await;
        who.add(&mut older, 3, "orders", 0).await;
        assert_eq!(who.end(&mut newer, 4, true).await.0, 0, "from a newer one it is taken");
        who.add(&mut newer, 3, "orders", 0).await;
        let code = who.end(&mut older, 4, true).await.0;
        assert_eq!(code, if fences_older_connections { 47 } else { 0 });
        assert_eq!(who.end(&mut newer, 4, true).await.0, 0);
    }
}

#[tokio::test]
async fn tx_7_where_one_partition_is_missing_none_is_added() {
    let node = Node::with_topic("orders", 2).await;
    let mut client = node.client().await;
    let who = Who::init(&mut client, "t").await;
    let wanted: [(&str, &[i32]); 3] = [("orders", &[0, 2, -1, 1]), ("ordres", &[0]), ("orders", &[0])];
    for version in 0..=3 {
        let codes = who.add_partitions(&mut client, version, &wanted).await;
        let expected =
            [("orders", -1, 3), ("orders", 0, 55), ("orders", 1, 55), ("orders", 2, 3), ("ordres", 0, 3)];
        assert_eq!(codes, expected.map(|(topic, index, code)| (topic.to_string(), index, code)));
        let placed = who.produce(&mut client, 11, ("orders", 0), who.batch(0, &["a"])).await;
        assert_eq!(placed, (120, -1), "it wasn't added");
        assert_eq!(who.end(&mut client, 4, false).await.0, 48, "nothing was begun");
    }
    // Without any there is nothing to answer, and what is named twice is added once.
    assert_eq!(who.add_partitions(&mut client, 3, &[]).await, []);
    assert_eq!(who.add_partitions(&mut client, 3, &[("orders", &[])]).await, []);
    let codes = who.add_partitions(&mut client, 3, &[("orders", &[1, 1]), ("orders", &[1])]).await;
    assert_eq!(codes, [("orders".to_string(), 1, 0)]);
}

/// What other nodes ask: several transactions, some only whether partitions were added.
#[tokio::test]
async fn tx_7_the_form_for_nodes_adds_and_verifies() {
    let node = Node::with_topic("orders", 2).await;
    let (mut client, mut other_node) = (node.client().await, node.client().await);
    let (one, two) = (Who::init(&mut client, "one").await, Who::init(&mut client, "two").await);
    let fenced = Who { epoch: two.epoch + 1, ..two };
    let nobody = Who { id: "nobody", ..two };
    let nameless = Who { id: "", ..two };
    let asked =
        |who: Who, verify_only, partitions: &[i32]| add_partitions_to_txn::AddPartitionsToTxnTransaction {
            transactional_id: who.id.into(),
            producer_id: who.producer_id,
            producer_epoch: who.epoch,
            verify_only,
            topics: vec![add_partitions_to_txn::AddPartitionsToTxnTopic {
                name: "orders".into(),
                partitions: partitions.to_vec(),
            }],
        };
    for version in [4, 5] {
        let transactions = vec![
            asked(one, true, &[1]),
            asked(one, false, &[0]),
            asked(one, true, &[0, 1]),
            asked(two, true, &[0, 2]),
            asked(fenced, true, &[0]),
            asked(fenced, false, &[0]),
            asked(nobody, true, &[0]),
            asked(nobody, false, &[0]),
            asked(nameless, true, &[0]),
            asked(nameless, false, &[0]),
        ];
        let request = add_partitions_to_txn::Request { transactions, ..Default::default() };
        let response = other_node.ask::<AddPartitionsToTxn>(version, &request).await;
        assert_eq!(response.error_code, 0);
        let ids: Vec<&str> = response.results_by_transaction.iter().map(|it| &*it.transactional_id).collect();
        assert_eq!(ids, ["one", "one", "one", "two", "two", "two", "nobody", "nobody", "", ""]);
        let codes = response
            .results_by_transaction
            .into_iter()
            .map(|it| codes_of(it.topic_results).into_iter().map(|(_, _, code)| code).collect::<Vec<_>>());
        let expected: [&[i16]; 10] =
            [&[120], &[0], &[0, 120], &[55, 3], &[90], &[90], &[49], &[49], &[42], &[42]];
        assert_eq!(codes.collect::<Vec<_>>(), expected, "version {version}");
    }
    // That another node's connection is newer is no matter.
    assert_eq!(one.end(&mut client, 4, true).await.0, 0);
}

#[tokio::test]
async fn tx_21_each_position_has_its_code_and_those_that_can_be_are_committed() {
    for version in 0..=5 {
        let node = Node::with_topic("orders", 4).await;
        let mut client = node.client().await;
        client.produce("orders", 0, crate::common::batch(&["a", "b", "c"])).await;
        let who = Who::init(&mut client, "t").await;
        assert_eq!(who.add_offsets(&mut client, 4, "g").await, 0);
        let positions = [
            ("orders", 0, 3),
            ("orders", 1, 1),
            ("orders", 2, -1),
            ("orders", 4, 0),
            ("orders", -1, 0),
            ("ordres", 0, 0),
        ];
        let codes = who.commit_offsets(&mut client, version, "g", &positions).await;
        assert_eq!(codes, [0, 0, 1, 3, 3, 3], "version {version}");
        // Text beside a position has a limit, in bytes. It counts when the transaction has committed.
        let longest = "ü".repeat(2048);
        for (text, code) in [(longest.clone(), 0), (format!("{longest}."), 12)] {
            let mut request = who.positions("g", &[("orders", 3, 0)]);
            let bytes = text.len();
            request.topics[0].partitions[0].committed_metadata = Some(text.into());
            let response = client.ask::<TxnOffsetCommit>(version, &request).await;
            assert_eq!(response.topics[0].partitions[0].error_code, code, "{bytes} bytes");
        }
        assert_eq!(metadata(&node, "g", 3), None);
        // Named twice, the last one counts; and it may move back.
        let codes =
            who.commit_offsets(&mut client, version, "g", &[("orders", 0, 3), ("orders", 0, 2)]).await;
        assert_eq!(codes, [0, 0]);
        let (code, next) = who.end(&mut client, if version < 5 { 4 } else { 5 }, true).await;
        assert_eq!((code, committed(&node, "g", "orders")), (0, Some(2)));
        assert_eq!((metadata(&node, "g", 3), metadata(&node, "g", 0)), (Some(longest), Some(String::new())));
        let who = if version < 5 { who } else { next };
        who.add_offsets(&mut client, 4, "g").await;
        assert_eq!(who.commit_offsets(&mut client, version, "g", &[("orders", 0, 1)]).await, [0]);
        who.end(&mut client, 4, true).await;
        assert_eq!(committed(&node, "g", "orders"), Some(1));
    }
}

#[tokio::test]
async fn groups_without_a_legal_name_have_no_positions() {
    let node = Node::with_topic("orders", 1).await;
    let mut client = node.client().await;
    let who = Who::init(&mut client, "t").await;
    for group in ["", "  ", "a\nb", &"g".repeat(250)] {
        for version in 0..=4 {
            assert_eq!(who.add_offsets(&mut client, version, group).await, 24, "{group:?}");
        }
        assert_eq!(who.commit_offsets(&mut client, 5, group, &[("orders", 0, 0)]).await, [24], "{group:?}");
    }
    // Any other text is one.
    let other = Who::init(&mut client, "u").await;
    assert_eq!(other.add_offsets(&mut client, 4, "two words/ü").await, 0);
    assert_eq!(other.commit_offsets(&mut client, 4, "two words/ü", &[("orders", 0, 0)]).await, [0]);
    assert_eq!(other.end(&mut client, 4, true).await.0, 0);
    assert_eq!(committed(&node, "two words/ü", "orders"), Some(0));
    // Nothing to commit is nothing to refuse.
    for request in
        [who.positions("g", &[]), txn_offset_commit::Request { group_id: "g".into(), ..Default::default() }]
    {
        assert_eq!(client.ask::<TxnOffsetCommit>(5, &request).await.topics, []);
    }
    assert_eq!(who.end(&mut client, 4, false).await.0, 48, "nothing was begun");
}

#[tokio::test]
async fn tx_18_a_batch_outside_of_the_open_transaction_waits_and_one_without_its_id_is_refused() {
    let node = Node::with_topic("orders", 2).await;
    let mut client = node.client().await;
    let who = Who::init(&mut client, "t").await;
    assert_eq!(who.produce(&mut client, 12, ("orders", 0), who.batch(0, &["a"])).await, (0, 0));
    assert_eq!(who.produce(&mut client, 12, ("orders", 1), who.plain_batch(0, &["b"])).await, (48, -1));
    for version in [3, 12] {
        for id in [None, Some("".into())] {
            let mut request = crate::common::produce_request(-1, "orders", 0, who.batch(1, &["c"]));
            request.transactional_id = id;
            let response = client.ask::<Produce>(version, &request).await;
            let partition = &response.responses[0].partition_responses[0];
            assert_eq!((partition.error_code, partition.base_offset), (53, -1), "version {version}");
        }
    }
    who.end(&mut client, 5, true).await;
    assert_eq!(shown(&mut client, "orders", 0).await, ["a"]);
    assert_eq!(shown(&mut client, "orders", 1).await, [""; 0]);
}

#[tokio::test]
async fn tx_3_each_incarnation_has_the_next_epoch() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let first = Who::init(&mut client, "t").await;
    assert_eq!(first.epoch, 0);
    for version in 0..=5 {
        let told = init(&mut client, version, Some("t"), TIMEOUT_MS, (-1, -1)).await;
        assert_eq!((told.error_code, told.producer_id), (0, first.producer_id), "version {version}");
        assert_eq!(told.producer_epoch, version + 1);
    }
    // ID-1: without an id of its own each has a producer id of its own.
    let mut ids = vec![first.producer_id];
    for version in 0..=5 {
        let told = init(&mut client, version, None, -1, (-1, -1)).await;
        assert_eq!((told.error_code, told.producer_epoch, ids.contains(&told.producer_id)), (0, 0, false));
        ids.push(told.producer_id);
    }
}

/// KIP-360.
#[tokio::test]
async fn tx_5_whoever_says_who_it_is_goes_on_and_a_retry_has_the_same_answer() {
    let node = Node::start().await;
    let mut client = node.client().await;
    for version in 3..=5 {
        let id = ["three", "four", "five"][version as usize - 3];
        let who = Who::init(&mut client, id).await;
        let current = (who.producer_id, who.epoch);
        for _ in 0..2 {
            let told = init(&mut client, version, Some(id), TIMEOUT_MS, current).await;
            assert_eq!((told.error_code, told.producer_id, told.producer_epoch), (0, who.producer_id, 1));
        }
        let told = init(&mut client, version, Some(id), TIMEOUT_MS, (who.producer_id, 1)).await;
        assert_eq!((told.error_code, told.producer_epoch), (0, 2));
        let fenced = if version < 4 { 47 } else { 90 };
        for other in [current, (who.producer_id, 7), (who.producer_id + 1, 2), (-2, -2)] {
            let told = init(&mut client, version, Some(id), TIMEOUT_MS, other).await;
            assert_eq!(
                (told.error_code, told.producer_id, told.producer_epoch),
                (fenced, -1, -1),
                "{other:?}"
            );
        }
        // An init by another one forgets the epoch before: a retry that is that old is fenced.
        Who::init(&mut client, id).await;
        let told = init(&mut client, version, Some(id), TIMEOUT_MS, (who.producer_id, 2)).await;
        assert_eq!(told.error_code, fenced);
    }
}

#[tokio::test]
async fn tx_19_what_no_producer_can_be_is_refused() {
    let node = Node::start().await;
    let mut client = node.client().await;
    for version in 0..=5 {
        for (timeout_ms, code) in [(0, 50), (-1, 50), (900_001, 50), (900_000, 0), (1, 0)] {
            let told = init(&mut client, version, Some("t"), timeout_ms, (-1, -1)).await;
            assert_eq!(told.error_code, code, "{timeout_ms} ms");
        }
        let told = init(&mut client, version, Some(""), TIMEOUT_MS, (-1, -1)).await;
        assert_eq!((told.error_code, told.producer_id, told.producer_epoch), (42, -1, -1));
    }
    for version in 3..=5 {
        for half in [(-1, 0), (1, -1), (-1, -2)] {
            assert_eq!(
                init(&mut client, version, Some("t"), TIMEOUT_MS, half).await.error_code,
                42,
                "{half:?}"
            );
        }
    }
}

/// Two clients of both protocols in one partition: what is decided is shown up to the first that is open.
#[tokio::test]
async fn tx_15_the_oldest_open_transaction_holds_back_what_is_behind_it() {
    let node = Node::with_topic("orders", 1).await;
    let (mut one, mut two): (Client, Client) = (node.client().await, node.client().await);
    let (first, second) = (Who::init(&mut one, "first").await, Who::init(&mut two, "second").await);
    first.add(&mut one, 3, "orders", 0).await;
    first.produce(&mut one, 11, ("orders", 0), first.batch(0, &["first"])).await;
    second.produce(&mut two, 12, ("orders", 0), second.batch(0, &["second"])).await;
    one.produce("orders", 0, crate::common::batch(&["plain"])).await;
    assert_eq!(second.end(&mut two, 5, true).await.0, 0);
    assert_eq!(shown(&mut two, "orders", 0).await, [""; 0]);
    assert_eq!(fetched(&mut two, "orders", 0, true).await.last_stable_offset, 0);
    assert_eq!(first.end(&mut one, 4, false).await.0, 0);
    assert_eq!(shown(&mut two, "orders", 0).await, ["second", "plain"]);
}
