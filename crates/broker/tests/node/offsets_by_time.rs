//! Where a time is, and where a partition begins and ends.

use crate::common::{Client, Node, batch_of};
use exactlog::wire::BatchBuilder;
use exactlog_wire::messages::{ListOffsets, list_offsets};

async fn found(client: &mut Client, version: i16, timestamp: i64) -> (i16, i64, i64) {
    let request = list_offsets::Request {
        replica_id: -1,
        topics: vec![list_offsets::ListOffsetsTopic {
            name: "orders".into(),
            partitions: vec![list_offsets::ListOffsetsPartition {
                partition_index: 0,
                current_leader_epoch: -1,
                timestamp,
            }],
        }],
        ..Default::default()
    };
    let partition = client.ask::<ListOffsets>(version, &request).await.topics[0].partitions[0].clone();
    (partition.error_code, partition.offset, partition.timestamp)
}

#[tokio::test]
async fn places_are_found_by_time_and_by_name() {
    let node = Node::with_topic("orders", 1).await;
    let mut client = node.client().await;
    assert_eq!(found(&mut client, 7, -1).await, (0, 0, -1));
    assert_eq!(found(&mut client, 7, -3).await, (0, -1, -1), "there is no newest record");
    for timestamp_ms in [1000, 5000, 3000] {
        let mut builder = BatchBuilder::new(100);
        builder.append(timestamp_ms, None, Some(b"a"), &[]);
        let batch = builder.finish(None);
        client.produce("orders", 0, [&batch.header()[..], batch.body()].concat().into()).await;
    }
    for version in 1..=11 {
        for (timestamp, expected) in [
            (-1, (0, 3, -1)),
            (-2, (0, 0, -1)),
            (-4, (0, 0, -1)),
            (-5, (0, -1, -1)),
            (-3, (0, 1, 5000)),
            (0, (0, 0, 1000)),
            (1000, (0, 0, 1000)),
            (1001, (0, 1, 5000)),
            (5001, (0, -1, -1)),
        ] {
            assert_eq!(
                found(&mut client, version, timestamp).await,
                expected,
                "version {version}: {timestamp}"
            );
        }
    }
    assert_eq!(found(&mut client, 7, -6).await.0, 42);
    client.produce("orders", 0, batch_of(&["b"], None, exactlog::Compression::Zstd)).await;
    assert_eq!(found(&mut client, 7, 1001).await, (0, 1, 5000));
}
