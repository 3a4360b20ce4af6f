//! Changing the settings of topics, and those of a node that can be changed: what AlterConfigs (KIP-133) and
//! IncrementalAlterConfigs (KIP-339) have in common.
//!
//! Invariants
//!   * of a resource all changes count or none, and each resource goes by itself
//!   * of two requests at a time about one topic each sees what the other has made of it

use crate::code::{self, Refused};
use crate::node::Node;
use crate::settings::{self, Kind};
use exactlog::TopicConfig;
use exactlog::wire::{Command, ConfigChange};
use exactlog_wire::value::Str;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is to become of one setting.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Set(Str),
    /// It has its default again.
    Reset,
    /// Elements come into a list.
    Append(Str),
    /// Elements go out of a list.
    Subtract(Str),
}

/// A resource whose settings are to be changed.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) resource_type: i8,
    pub(crate) name: Str,
    /// Whether what isn't named has its default afterwards.
    pub(crate) replaces: bool,
    /// By name, or what is wrong with the request itself.
    pub(crate) changes: Result<Vec<(Str, Change)>, Refused>,
}

/// What became of a resource.
#[derive(Debug)]
pub(crate) struct Altered {
    pub(crate) resource_type: i8,
    pub(crate) name: Str,
    pub(crate) error_code: i16,
    pub(crate) message: Option<Str>,
}

/// Changes settings, or only says what would become of it.
pub(crate) async fn alter(node: &Arc<Node>, wanted: Vec<Wanted>, only_checks: bool) -> Vec<Altered> {
    let mut times: BTreeMap<(i8, Str), usize> = BTreeMap::new();
    wanted.iter().for_each(|it| *times.entry((it.resource_type, it.name.clone())).or_default() += 1);
    let mut altered = Vec::with_capacity(wanted.len());
    for Wanted { resource_type, name, replaces, changes } in wanted {
        let outcome = match times.get(&(resource_type, name.clone())) {
            Some(2..) => Err((code::INVALID_REQUEST, format!("resource {:?} is named twice", &*name))),
            _ => match changes.and_then(|changes| Ok((whose(node, resource_type, &name)?, changes))) {
                Ok((whose, changes)) => alter_one(node, whose, replaces, changes, only_checks).await,
                Err(refused) => Err(refused),
            },
        };
        let (error_code, message) = match outcome {
            Ok(()) => (code::NONE, None),
            Err((error_code, message)) => (error_code, Some(message.into())),
        };
        altered.push(Altered { resource_type, name, error_code, message });
    }
    altered
}

/// Whose settings are changed.
#[derive(Debug)]
enum Whose {
    Topic(Str),
    /// What all topics have that say nothing else.
    Node,
}

fn whose(node: &Node, resource_type: i8, name: &Str) -> Result<Whose, Refused> {
    let what = match resource_type {
        settings::TOPIC if name.is_empty() => {
            "a topic without a name: what all topics have by default can't be altered".to_string()
        }
        settings::TOPIC => return Ok(Whose::Topic(name.clone())),
        settings::BROKER => return settings::check_node(node.options.node_id, name).map(|()| Whose::Node),
        other => {
            let name = &**name;
            format!(
                "resource type {other}, {name:?}: topics (2) and nodes (4) have settings that can be altered"
            )
        }
    };
    Err((code::INVALID_REQUEST, what))
}

/// As a task of its own: whoever asks may be gone before the end, but between the look at the settings and the change
/// nobody else comes.
async fn alter_one(
    node: &Arc<Node>,
    whose: Whose,
    replaces: bool,
    changes: Vec<(Str, Change)>,
    only_checks: bool,
) -> Result<(), Refused> {
    let node = node.clone();
    let task = tokio::spawn(async move {
        let _alone = node.altering.lock().await;
        let command = match whose {
            Whose::Topic(name) => altered_topic(&node, &name, replaces, changes)?,
            Whose::Node => altered_node(&node, replaces, changes)?,
        };
        node.log.rehearse(&command).map_err(code::refused)?;
        if !only_checks {
            node.log.ask(command).await.map_err(code::refused)?;
        }
        Ok(())
    });
    task.await.unwrap_or_else(|error| Err((code::UNKNOWN_SERVER_ERROR, error.to_string())))
}

fn altered_topic(
    node: &Node,
    name: &str,
    replaces: bool,
    changes: Vec<(Str, Change)>,
) -> Result<Command, Refused> {
    let topic = node.topic_legally_named(name)?;
    let mut config = if replaces { TopicConfig::default() } else { topic.config().clone() };
    changes.into_iter().try_for_each(|(name, change)| apply(&mut config, &name, change))?;
    settings::check_flushes(&config, || node.log.syncs_first())?;
    Ok(Command::AlterTopic { topic: topic.id(), config })
}

fn altered_node(node: &Node, replaces: bool, changes: Vec<(Str, Change)>) -> Result<Command, Refused> {
    let mut config = TopicConfig::default();
    if !replaces {
        config.kept = node.log.kept_settings();
    }
    for (name, change) in changes {
        let Some(of_topics) = settings::kept_for_all(&name) else {
            let (name, others) = (&*name, settings::alterable_of_node());
            let what = format!("setting {name:?} of a node can't be altered while it runs, only {others}");
            return Err((code::INVALID_REQUEST, what));
        };
        apply(&mut config, of_topics, change)?;
    }
    settings::check_flushes(&config, || node.log.syncs_first())?;
    Ok(Command::Config(ConfigChange::KeptSettings(config.kept)))
}

fn apply(config: &mut TopicConfig, name: &str, change: Change) -> Result<(), Refused> {
    let in_list = |change: &str| match settings::kind_of(name) {
        Some(Kind::List) => Ok(value_of(config, name).unwrap_or_default()),
        Some(_) => {
            let what = format!("{change} for setting {name}: it can be set and deleted, since it is no list");
            Err((code::INVALID_CONFIG, what))
        }
        None => settings::set(&mut TopicConfig::default(), name, "").map(|()| String::new()),
    };
    let value = match change {
        Change::Set(value) => value.to_string(),
        // As in Kafka, a setting that isn't there has no value that could go.
        Change::Reset => match value_of(&TopicConfig::default(), name) {
            Some(default) => default,
            None => return Ok(()),
        },
        Change::Append(more) => format!("{},{}", in_list("APPEND")?, &*more),
        Change::Subtract(less) => {
            let (have, less) = (in_list("SUBTRACT")?, settings::elements(&less));
            let left = settings::elements(&have).into_iter().filter(|element| !less.contains(element));
            left.collect::<Vec<_>>().join(",")
        }
    };
    settings::set(config, name, &value)
}

fn value_of(config: &TopicConfig, name: &str) -> Option<String> {
    config.rows().into_iter().find(|(known, _)| *known == name).map(|(_, value)| value)
}
