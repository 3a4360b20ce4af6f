//! The messages of each API: one file for each, in the notation of [`schema`](crate::schema).
//!
//! Names, types, versions and defaults are those of Apache Kafka's message definitions (4.3), but for those of the APIs
//! from [`OWN_KEYS_FROM`] on.
#![allow(missing_docs, reason = "the names of fields are Kafka's, and explained there")]

crate::message::apis! {
    produce::Produce,
    fetch::Fetch,
    list_offsets::ListOffsets,
    metadata::Metadata,
    offset_commit::OffsetCommit,
    offset_fetch::OffsetFetch,
    find_coordinator::FindCoordinator,
    join_group::JoinGroup,
    heartbeat::Heartbeat,
    leave_group::LeaveGroup,
    sync_group::SyncGroup,
    describe_groups::DescribeGroups,
    list_groups::ListGroups,
    api_versions::ApiVersions,
    create_topics::CreateTopics,
    delete_topics::DeleteTopics,
    delete_records::DeleteRecords,
    init_producer_id::InitProducerId,
    offset_for_leader_epoch::OffsetForLeaderEpoch,
    add_partitions_to_txn::AddPartitionsToTxn,
    add_offsets_to_txn::AddOffsetsToTxn,
    end_txn::EndTxn,
    txn_offset_commit::TxnOffsetCommit,
    describe_configs::DescribeConfigs,
    alter_configs::AlterConfigs,
    describe_log_dirs::DescribeLogDirs,
    create_partitions::CreatePartitions,
    delete_groups::DeleteGroups,
    elect_leaders::ElectLeaders,
    incremental_alter_configs::IncrementalAlterConfigs,
    alter_partition_reassignments::AlterPartitionReassignments,
    list_partition_reassignments::ListPartitionReassignments,
    offset_delete::OffsetDelete,
    describe_quorum::DescribeQuorum,
    describe_cluster::DescribeCluster,
    describe_producers::DescribeProducers,
    describe_transactions::DescribeTransactions,
    list_transactions::ListTransactions,
    consumer_group_heartbeat::ConsumerGroupHeartbeat,
    consumer_group_describe::ConsumerGroupDescribe,
    list_config_resources::ListConfigResources,
    describe_topic_partitions::DescribeTopicPartitions,
    node_hello::NodeHello,
    node_state::NodeState,
    node_changes::NodeChanges,
    node_submit::NodeSubmit,
    node_read::NodeRead,
    node_find::NodeFind,
    node_marks::NodeMarks,
    node_bye::NodeBye,
}

/// APIs from this key on aren't Kafka's: they are for processes that work on the log of a node. Kafka's clients aren't
/// told of them.
pub const OWN_KEYS_FROM: i16 = 10_000;
