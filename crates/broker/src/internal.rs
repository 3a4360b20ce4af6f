//! The topic `__consumer_offsets`: as in Kafka there is one as soon as somebody looks for the coordinator of a group,
//! since clients and tools look for it. Positions aren't records here, so it is empty.
//!
//! Invariants
//!   * no client of Kafka's writes to it

use crate::node::Node;
use exactlog::wire::Command;
use exactlog::{CleanupPolicy, TopicConfig};

const OFFSETS: &str = "__consumer_offsets";

/// Whether a topic is the node's own.
pub(crate) fn is_internal(name: &str) -> bool {
    name == OFFSETS
}

/// Creates the topic if there is none. Groups don't need it, so a log that takes nothing (its disk is full, say) is no
/// reason to refuse them.
///
/// # Cancel safety
/// Dropped, it may be created or not.
pub(crate) async fn create_when_missing(node: &Node) {
    if node.log.open_topic(OFFSETS).is_ok() {
        return;
    }
    let config = TopicConfig { cleanup_policy: CleanupPolicy::Compact, ..TopicConfig::default() };
    let command = Command::CreateTopic { name: OFFSETS.to_string(), partitions: 1, config };
    if let Err(error) = node.log.ask(command).await {
        tracing::debug!(event = "topic.not_created", name = OFFSETS, %error);
    }
}
