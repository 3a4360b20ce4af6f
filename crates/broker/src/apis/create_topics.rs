//! CreateTopics, and topics that are created when somebody asks for them.

use crate::code::{self, Refused};
use crate::dispatch::Call;
use crate::node::{Node, uuid};
use crate::settings;
use exactlog::wire::{Command, Reply};
use exactlog::{Error, Topic, TopicConfig, TopicId};
use exactlog_wire::messages::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, Request, Response,
};
use exactlog_wire::value::Str;
use std::collections::BTreeSet;

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    let mut names = BTreeSet::new();
    let twice: BTreeSet<Str> =
        request.topics.iter().filter(|topic| !names.insert(&topic.name)).map(|it| it.name.clone()).collect();
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut answered = BTreeSet::new();
    for topic in request.topics {
        if !answered.insert(topic.name.clone()) {
            continue;
        }
        let created = match twice.contains(&topic.name) {
            true => Err((code::INVALID_REQUEST, format!("topic {:?} is named twice", &*topic.name))),
            false => create(call, &topic, request.validate_only).await,
        };
        topics.push(created.unwrap_or_else(|(error_code, message)| CreatableTopicResult {
            name: topic.name.clone(),
            error_code,
            error_message: Some(message.into()),
            ..CreatableTopicResult::default()
        }));
    }
    Response { topics, ..Response::default() }
}

async fn create(
    call: &Call<'_>,
    wanted: &CreatableTopic,
    only_checks: bool,
) -> Result<CreatableTopicResult, Refused> {
    let node = call.node;
    let partitions = partitions_of(node, wanted)?;
    check_replicas(node, wanted)?;
    let mut config = TopicConfig::default();
    for it in &wanted.configs {
        let value = it.value.as_ref().ok_or_else(|| {
            (
                code::INVALID_CONFIG,
                format!("setting {} has no value: leave it out for its default", &*it.name),
            )
        })?;
        settings::set(&mut config, &it.name, value)?;
    }
    settings::check_flushes(&config, || node.log.syncs_first())?;
    let command = Command::CreateTopic { name: wanted.name.to_string(), partitions, config: config.clone() };
    let reply = node.log.rehearse(&command).map_err(code::refused)?;
    created(&wanted.name, reply)?;
    let id = match only_checks {
        true => None,
        false => Some(created(&wanted.name, node.log.ask(command).await.map_err(code::refused)?)?),
    };
    Ok(CreatableTopicResult {
        name: wanted.name.clone(),
        topic_id: id.map(uuid).unwrap_or_default(),
        num_partitions: partitions as i32,
        replication_factor: 1,
        configs: Some(configs(node, &config)),
        ..CreatableTopicResult::default()
    })
}

fn partitions_of(node: &Node, wanted: &CreatableTopic) -> Result<u32, Refused> {
    let refused = |what: String| Err((code::INVALID_PARTITIONS, what));
    if !wanted.assignments.is_empty() {
        if wanted.num_partitions != -1 || wanted.replication_factor != -1 {
            let what = "replicas are assigned, so partitions and replication factor have to be -1";
            return Err((code::INVALID_REQUEST, what.into()));
        }
        return Ok(wanted.assignments.len() as u32);
    }
    match wanted.num_partitions {
        -1 => Ok(node.options.partitions),
        count @ 1.. => Ok(count as u32),
        count => refused(format!("{count} partitions: at least 1, or -1 for num.partitions")),
    }
}

/// There is one node, which can have one replica of each partition.
fn check_replicas(node: &Node, wanted: &CreatableTopic) -> Result<(), Refused> {
    let node_id = node.options.node_id;
    let mut left: BTreeSet<i32> = (0..wanted.assignments.len() as i32).collect();
    for assignment in &wanted.assignments {
        if !left.remove(&assignment.partition_index) || assignment.broker_ids != [node_id] {
            let what = format!(
                "partition {}: replicas {:?}; partitions are numbered from 0, and node {node_id} is the only one",
                assignment.partition_index, assignment.broker_ids
            );
            return Err((code::INVALID_REPLICA_ASSIGNMENT, what));
        }
    }
    match wanted.replication_factor {
        -1 | 1 => Ok(()),
        factor @ 2.. if node.options.accepts_replicas => {
            let topic = &*wanted.name;
            tracing::warn!(event = "topic.replicas", topic, factor, "it has one replica: there is one node");
            Ok(())
        }
        factor => {
            let what = format!(
                "replication factor {factor}: there is 1 node, so it can be 1, or -1 for the default"
            );
            Err((code::INVALID_REPLICATION_FACTOR, what))
        }
    }
}

/// The topic that was created; refused if it was there before.
fn created(name: &str, reply: Reply) -> Result<TopicId, Refused> {
    match reply {
        Reply::Topic { existed: true, .. } => {
            Err((code::TOPIC_ALREADY_EXISTS, format!("topic {name:?} exists")))
        }
        Reply::Topic { topic, .. } => Ok(topic),
        _ => unreachable!("CreateTopic answers with a topic or a refusal"),
    }
}

fn configs(node: &Node, config: &TopicConfig) -> Vec<CreatableTopicConfigs> {
    let row = |row: settings::Row| CreatableTopicConfigs {
        name: Str::from_static(row.name),
        config_source: row.source(settings::TOPIC_CONFIG),
        value: Some(row.value().into()),
        ..CreatableTopicConfigs::default()
    };
    settings::of_topic(config, &node.log.kept_settings()).into_iter().map(row).collect()
}

/// A topic that somebody asks for and that isn't there (`auto.create.topics.enable`). Whoever makes up names doesn't
/// get them all: then it is as if there were no such setting.
pub(crate) async fn create_when_asked_for(node: &Node, name: &str) -> Result<Topic, Error> {
    let config = TopicConfig::default();
    node.log.check_new_topic(name, &config)?;
    let (partitions, most) = (node.options.partitions, node.options.auto_partitions_max);
    let have: usize = node.log.topics().iter().map(|topic| topic.partitions() as usize).sum();
    if have + partitions as usize > most {
        tracing::warn!(event = "topic.not_created", name, have, most, "CreateTopics still can");
        return Err(Error::NoSuchTopic { name: name.into() });
    }
    match node.log.ask(Command::CreateTopic { name: name.into(), partitions, config }).await {
        // Somebody else was there first, or made one with other settings.
        Ok(_) | Err(Error::Refused(exactlog::Refusal::TopicExists { .. })) => node.log.open_topic(name),
        Err(error) => Err(error),
    }
}
