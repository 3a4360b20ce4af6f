//! DescribeLogDirs: what partitions take on disk (KIP-113, KIP-827).
//!
//! There is one directory. Sizes are those of segments: what was written last may lie in the journal only, which all
//! partitions share.

use crate::code;
use crate::dispatch::Call;
use crate::node::Node;
use exactlog::{Partition, Topic};
use exactlog_wire::messages::describe_log_dirs::{
    DescribableLogDirTopic, DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic, Request,
    Response,
};
use exactlog_wire::value::Str;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    let node = call.node.clone();
    // It waits for whoever is writing, and asks the disk.
    let described = tokio::task::spawn_blocking(move || describe(&node, request.topics)).await;
    described.unwrap_or_else(|error| {
        tracing::error!(event = "describe_log_dirs.failed", %error, "it has ended without an answer");
        Response { error_code: code::UNKNOWN_SERVER_ERROR, ..Response::default() }
    })
}

fn describe(node: &Node, wanted: Option<Vec<DescribableLogDirTopic>>) -> Response {
    let topics = match wanted {
        None => node.log.topics().iter().map(|topic| of_topic(node, topic, 0..topic.partitions())).collect(),
        Some(wanted) => of_some(node, wanted),
    };
    let place = node.log.place();
    let result = DescribeLogDirsResult {
        log_dir: place.location.into(),
        topics,
        usable_bytes: place.free_bytes.and_then(|free| i64::try_from(free).ok()).unwrap_or(-1),
        ..DescribeLogDirsResult::default()
    };
    Response { results: vec![result], ..Response::default() }
}

/// What isn't there is left out, and what is named twice is there once.
fn of_some(node: &Node, wanted: Vec<DescribableLogDirTopic>) -> Vec<DescribeLogDirsTopic> {
    let mut by_name: BTreeMap<Str, BTreeSet<i32>> = BTreeMap::new();
    for DescribableLogDirTopic { topic, partitions } in wanted {
        by_name.entry(topic).or_default().extend(partitions);
    }
    let of_one = |(name, indexes): (Str, BTreeSet<i32>)| {
        let topic = node.topic_named(&name).ok()?;
        let indexes = indexes.into_iter().filter_map(|index| u32::try_from(index).ok());
        Some(of_topic(node, &topic, indexes))
    };
    by_name.into_iter().filter_map(of_one).filter(|topic| !topic.partitions.is_empty()).collect()
}

fn of_topic(node: &Node, topic: &Topic, indexes: impl Iterator<Item = u32>) -> DescribeLogDirsTopic {
    let partition = |index| {
        let bytes = node.log.segment_bytes(Partition { topic: topic.id(), index }).ok()?;
        Some(DescribeLogDirsPartition {
            partition_index: i32::try_from(index).ok()?,
            partition_size: i64::try_from(bytes).unwrap_or(i64::MAX),
            ..DescribeLogDirsPartition::default()
        })
    };
    DescribeLogDirsTopic { name: topic.name().into(), partitions: indexes.filter_map(partition).collect() }
}
