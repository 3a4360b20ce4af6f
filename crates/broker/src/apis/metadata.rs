//! Metadata: this node, the topics, and that it leads all of their partitions.

use super::create_topics;
use crate::code;
use crate::dispatch::Call;
use crate::internal;
use crate::node::{topic_id, uuid};
use crate::rights;
use exactlog::Topic;
use exactlog_wire::messages::metadata::{
    MetadataRequestTopic, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic, Request,
    Response,
};
use exactlog_wire::value::{Str, Uuid};
use std::collections::BTreeSet;

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    let node = call.node;
    // Up to version 0 an empty list stands for all.
    let wanted = request.topics.filter(|topics| call.version > 0 || !topics.is_empty());
    let mut topics: Vec<MetadataResponseTopic> = match wanted {
        None => node.log.topics().iter().map(|topic| described(call, topic)).collect(),
        Some(wanted) => {
            let creates = node.options.creates_topics && request.allow_auto_topic_creation;
            let mut topics = Vec::with_capacity(wanted.len());
            let mut named = BTreeSet::new();
            for topic in wanted {
                // One that is named twice is shown once, as Kafka does.
                if named.insert((topic.name.clone(), topic.topic_id)) {
                    topics.push(found(call, topic, creates).await);
                    tokio::task::yield_now().await;
                }
            }
            topics
        }
    };
    // As in Kafka, of every name that was asked for, whether there is such a topic or not.
    for topic in topics.iter_mut().filter(|topic| topic.error_code != code::UNKNOWN_TOPIC_ID) {
        let is_asked = request.include_topic_authorized_operations;
        topic.topic_authorized_operations = rights::if_asked(is_asked, rights::OF_TOPIC);
    }
    let (host, port) = call.advertised();
    Response {
        brokers: vec![MetadataResponseBroker { node_id: node.options.node_id, host, port, rack: None }],
        cluster_id: Some(node.cluster_id.as_str().into()),
        controller_id: node.options.node_id,
        topics,
        cluster_authorized_operations: rights::if_asked(
            request.include_cluster_authorized_operations,
            rights::OF_CLUSTER,
        ),
        ..Response::default()
    }
}

async fn found(call: &Call<'_>, wanted: MetadataRequestTopic, creates: bool) -> MetadataResponseTopic {
    let unknown = |error_code, name: Option<Str>, topic_id| MetadataResponseTopic {
        error_code,
        name,
        topic_id,
        ..MetadataResponseTopic::default()
    };
    // As in Kafka an id counts more than a name: Java's clients send an empty one beside it.
    let name = wanted.name.filter(|_| wanted.topic_id == Uuid::default());
    let Some(name) = name else {
        let topic = topic_id(wanted.topic_id).and_then(|id| call.node.log.topic_by_id(id));
        return match topic {
            Some(topic) => described(call, &topic),
            // Up to version 11 a name can't be null.
            None => unknown(code::UNKNOWN_TOPIC_ID, (call.version < 12).then(Str::default), wanted.topic_id),
        };
    };
    match call.node.log.open_topic(&name) {
        Ok(topic) => described(call, &topic),
        Err(_) if creates => match create_topics::create_when_asked_for(call.node, &name).await {
            Ok(topic) => described(call, &topic),
            Err(error) => unknown(error.kafka_code(), Some(name), Uuid::default()),
        },
        Err(_) if !exactlog::wire::is_legal_name(&name) => {
            unknown(code::INVALID_TOPIC_EXCEPTION, Some(name), Uuid::default())
        }
        Err(_) => unknown(code::UNKNOWN_TOPIC_OR_PARTITION, Some(name), Uuid::default()),
    }
}

fn described(call: &Call<'_>, topic: &Topic) -> MetadataResponseTopic {
    let node_id = call.node.options.node_id;
    let partition = |index: u32| {
        let at = exactlog::Partition { topic: topic.id(), index };
        let leader_epoch = call.node.log.bounds_of(at).map_or(-1, |bounds| bounds.leader_epoch as i32);
        MetadataResponsePartition {
            partition_index: index as i32,
            leader_id: node_id,
            leader_epoch,
            replica_nodes: vec![node_id],
            isr_nodes: vec![node_id],
            ..MetadataResponsePartition::default()
        }
    };
    MetadataResponseTopic {
        name: Some(topic.name().into()),
        topic_id: uuid(topic.id()),
        is_internal: internal::is_internal(topic.name()),
        partitions: (0..topic.partitions()).map(partition).collect(),
        ..MetadataResponseTopic::default()
    }
}
