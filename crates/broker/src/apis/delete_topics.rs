//! DeleteTopics: topics with all that is in them, by name or by id (KIP-516).

use crate::code::{self, Refused};
use crate::dispatch::Call;
use crate::node::{Node, topic_id, uuid};
use exactlog::wire::Command;
use exactlog::{Topic, TopicId};
use exactlog_wire::messages::delete_topics::{DeletableTopicResult, DeleteTopicState, Request, Response};
use exactlog_wire::value::Uuid;
use std::collections::BTreeMap;

/// From which version on topics can go by their ids.
const TOPIC_IDS: i16 = 6;
const NO_ID: Uuid = Uuid([0; 16]);

pub(crate) async fn handle(call: &Call<'_>, request: Request) -> Response {
    let wanted: Vec<DeleteTopicState> = match call.version >= TOPIC_IDS {
        true => request.topics,
        false => request
            .topic_names
            .into_iter()
            .map(|name| DeleteTopicState { name: Some(name), topic_id: NO_ID })
            .collect(),
    };
    if wanted.iter().any(|it| it.name.is_some() != (it.topic_id == NO_ID)) {
        let what = "a topic goes by its name or by its id: one of them has to be there, and not both";
        let refuse = |it: &DeleteTopicState| result(it, Err((code::INVALID_REQUEST, what.into())));
        return Response { responses: wanted.iter().map(refuse).collect(), ..Response::default() };
    }
    let mut times: BTreeMap<_, usize> = BTreeMap::new();
    let mut found = Vec::with_capacity(wanted.len());
    let mut of_topic: BTreeMap<TopicId, usize> = BTreeMap::new();
    for it in wanted {
        let count = times.entry((it.name.clone(), it.topic_id)).or_default();
        *count += 1;
        if *count == 1 {
            let topic = find(call.node, &it);
            topic.iter().for_each(|topic| *of_topic.entry(topic.id()).or_default() += 1);
            found.push((it, topic));
        }
    }
    let mut responses = Vec::with_capacity(found.len());
    for (it, topic) in found {
        let is_twice = times.get(&(it.name.clone(), it.topic_id)).is_some_and(|count| *count > 1);
        let is_meant_twice = topic.as_ref().is_ok_and(|topic| of_topic.get(&topic.id()) > Some(&1));
        let outcome = match topic {
            _ if is_twice || is_meant_twice => {
                Err((code::INVALID_REQUEST, format!("{} is named twice", named(&it))))
            }
            Ok(topic) => delete(call.node, &it, topic).await,
            Err(refused) => Err(refused),
        };
        responses.push(result(&it, outcome));
    }
    Response { responses, ..Response::default() }
}

fn named(wanted: &DeleteTopicState) -> String {
    match &wanted.name {
        Some(name) => format!("topic {name:?}"),
        None => format!("topic {}", wanted.topic_id),
    }
}

fn find(node: &Node, wanted: &DeleteTopicState) -> Result<Topic, Refused> {
    match &wanted.name {
        Some(name) => node.topic_named(name),
        None => {
            let topic = topic_id(wanted.topic_id).and_then(|id| node.log.topic_by_id(id));
            topic.ok_or_else(|| unknown(wanted))
        }
    }
}

fn unknown(wanted: &DeleteTopicState) -> Refused {
    let by_name = wanted.name.is_some();
    let error_code = if by_name { code::UNKNOWN_TOPIC_OR_PARTITION } else { code::UNKNOWN_TOPIC_ID };
    (error_code, format!("{} doesn't exist", named(wanted)))
}

async fn delete(node: &Node, wanted: &DeleteTopicState, topic: Topic) -> Result<Topic, Refused> {
    match node.log.ask(Command::DeleteTopic { topic: topic.id() }).await {
        Ok(_) => Ok(topic),
        // Somebody else was there first.
        Err(exactlog::Error::Refused(exactlog::Refusal::UnknownTopic { .. })) => Err(unknown(wanted)),
        Err(error) => Err(code::refused(error)),
    }
}

fn result(wanted: &DeleteTopicState, outcome: Result<Topic, Refused>) -> DeletableTopicResult {
    match outcome {
        Ok(topic) => DeletableTopicResult {
            name: Some(topic.name().into()),
            topic_id: uuid(topic.id()),
            ..DeletableTopicResult::default()
        },
        Err((error_code, message)) => DeletableTopicResult {
            name: wanted.name.clone(),
            topic_id: wanted.topic_id,
            error_code,
            error_message: Some(message.into()),
        },
    }
}
