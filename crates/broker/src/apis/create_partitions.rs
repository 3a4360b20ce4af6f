//! CreatePartitions: more partitions for topics that are there (KIP-195).

use crate::code::{self, Refused};
use crate::dispatch::Call;
use crate::node::Node;
use exactlog::wire::{Command, Reply};
use exactlog_wire::messages::create_partitions::{
    CreatePartitionsAssignment, CreatePartitionsTopic, CreatePartitionsTopicResult, Request, Response,
};
use exactlog_wire::value::Str;
use std::collections::BTreeMap;

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    let mut times: BTreeMap<Str, usize> = BTreeMap::new();
    request.topics.iter().for_each(|topic| *times.entry(topic.name.clone()).or_default() += 1);
    let mut results = Vec::with_capacity(times.len());
    for topic in request.topics {
        // The first one of a name answers for all of it.
        let Some(times) = times.remove(&topic.name) else { continue };
        let outcome = match times {
            1 => add(call.node, &topic, request.validate_only).await,
            _ => Err((code::INVALID_REQUEST, format!("topic {:?} is named twice", &*topic.name))),
        };
        let (error_code, error_message) = match outcome {
            Ok(()) => (code::NONE, None),
            Err((error_code, message)) => (error_code, Some(message.into())),
        };
        results.push(CreatePartitionsTopicResult { name: topic.name, error_code, error_message });
    }
    Response { results, ..Response::default() }
}

async fn add(node: &Node, wanted: &CreatePartitionsTopic, only_checks: bool) -> Result<(), Refused> {
    let topic = node.topic_named(&wanted.name)?;
    let (name, have) = (topic.name(), topic.partitions());
    let partitions = u32::try_from(wanted.count).ok().filter(|count| *count > have);
    let partitions = partitions.ok_or_else(|| not_more(name, have, wanted.count))?;
    if let Some(assignments) = &wanted.assignments {
        check_assignments(node, assignments, name, partitions - have)?;
    }
    let command = Command::CreatePartitions { topic: topic.id(), partitions };
    node.log.rehearse(&command).map_err(code::refused)?;
    if only_checks {
        return Ok(());
    }
    match node.log.ask(command).await.map_err(code::refused)? {
        // Somebody else was there first.
        Reply::Partitions { added: 0, partitions } => Err(not_more(name, partitions, wanted.count)),
        _ => Ok(()),
    }
}

fn not_more(name: &str, have: u32, wanted: i32) -> Refused {
    let what = format!("topic {name:?} has {have} partitions, and {wanted} would be no more of them");
    (code::INVALID_PARTITIONS, what)
}

/// There is one node, which can have one replica of each partition.
fn check_assignments(
    node: &Node,
    assignments: &[CreatePartitionsAssignment],
    name: &str,
    new: u32,
) -> Result<(), Refused> {
    let node_id = node.options.node_id;
    let refused = |what| Err((code::INVALID_REPLICA_ASSIGNMENT, what));
    if assignments.len() != new as usize {
        let count = assignments.len();
        return refused(format!(
            "topic {name:?}: replicas are assigned for {count} partitions, {new} are new"
        ));
    }
    match assignments.iter().find(|it| it.broker_ids != [node_id]) {
        Some(other) => {
            let replicas = &other.broker_ids;
            refused(format!("topic {name:?}: replicas {replicas:?}; node {node_id} is the only one"))
        }
        None => Ok(()),
    }
}
