//! Where the log of a verb is: in a directory, or behind a node. What both can say and do, so that verbs are written
//! once.
//!
//! ```text
//!   verb -> looking, changing -> Place:  Directory (the facade)
//!                                        Node      (Kafka's protocol)
//!   verbs about what processors keep -> open: the facade, on a directory or on the log of a node
//! ```
//!
//! Invariants
//!   * a verb that a node can't be asked for is refused before anything is connected or opened

use crate::args::{BenchVerb, Global, TopicVerb, Verb};
use crate::directory::Directory;
use crate::failure::Failure;
use crate::node::Node;
use crate::open;
use crate::suggest;
use crate::topic::close;
use exactlog::{BatchDetails, Log, Record, TopicConfig};
use serde_json::Value;
use std::sync::Arc;

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicFacts {
    pub(crate) name: Arc<str>,
    /// Its number; of a cluster that isn't exactlog's its id as text.
    pub(crate) id: Value,
    pub(crate) partitions: u32,
}

/// A partition, in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartitionFacts {
    pub(crate) partition: u32,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Those that consumers are shown.
    pub(crate) records: u64,
    /// Whether they were counted one by one; else they are offsets.
    pub(crate) is_exact: bool,
    pub(crate) leader_epoch: i64,
    pub(crate) producers: u64,
}

/// A group, its members and its positions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupFacts {
    pub(crate) name: String,
    /// Of a classic group a node doesn't tell it.
    pub(crate) generation: Option<u64>,
    pub(crate) members: Vec<MemberFacts>,
    pub(crate) positions: Vec<PositionFacts>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemberFacts {
    /// A number in a directory, a text at a node.
    pub(crate) id: Value,
    pub(crate) topics: Vec<String>,
    pub(crate) partitions: u64,
}

/// Where a group stands in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PositionFacts {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: u32,
    pub(crate) committed: Option<u64>,
    /// A node doesn't tell it.
    pub(crate) committed_ms: Option<i64>,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) lag: u64,
    /// Whether it was counted one by one; else it is offsets.
    pub(crate) is_exact: bool,
    pub(crate) lag_ms: u64,
    /// Its member, as in [`MemberFacts::id`].
    pub(crate) owner: Value,
}

/// Where a transactional id stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TransactionFacts {
    pub(crate) transactional_id: String,
    pub(crate) state: String,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) timeout_ms: i64,
    /// When its open transaction began.
    pub(crate) started_ms: Option<i64>,
    /// Where that writes.
    pub(crate) partitions: Vec<(String, u32)>,
}

/// What a partition remembers of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProducerFacts {
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i32,
    pub(crate) last_sequence: i32,
    pub(crate) last_timestamp_ms: i64,
    pub(crate) coordinator_epoch: Option<i32>,
    /// Where its open transaction begins here.
    pub(crate) transaction_start: Option<u64>,
}

/// Records that were read, each with what its batch says, if that was asked for; and where to go on.
#[derive(Debug, Default)]
pub(crate) struct Piece {
    pub(crate) records: Vec<(Record, Option<BatchDetails>)>,
    pub(crate) next: u64,
}

/// How records are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Also those of transactions that are open, or were aborted.
    pub(crate) uncommitted: bool,
    /// Whether what their batches say is wanted.
    pub(crate) batches: bool,
}

/// A log, wherever it is. Names of topics come from [`Place::topics`] or [`topic`], so they are there, or were.
pub(crate) trait Place {
    /// All topics, by name.
    fn topics(&self) -> Result<Vec<TopicFacts>, Failure>;
    /// The topic of this name.
    fn find(&self, name: &str) -> Result<Option<TopicFacts>, Failure>;
    /// The settings of topics, in their order.
    fn configs(&self, topics: &[TopicFacts]) -> Result<Vec<TopicConfig>, Failure>;
    /// The partitions of a topic; `closely`: records are worth being counted one by one.
    fn partitions(&self, topic: &TopicFacts, closely: bool) -> Result<Vec<PartitionFacts>, Failure>;
    /// First offset that can be read, and the one behind the last.
    fn bounds(&self, topic: &TopicFacts, partition: u32) -> Result<(u64, u64), Failure>;
    /// Offset of the first record of this time or later.
    fn first_at_or_after(
        &self,
        topic: &TopicFacts,
        partition: u32,
        timestamp_ms: i64,
    ) -> Result<Option<u64>, Failure>;
    /// Records from an offset on, some of those that there are. Where there is nothing new, `next` is the offset.
    fn read(&self, topic: &TopicFacts, partition: u32, offset: u64, how: Reading) -> Result<Piece, Failure>;
    /// The names of all groups, in their order.
    fn group_names(&self) -> Result<Vec<String>, Failure>;
    /// The group of this name.
    fn group(&self, name: &str) -> Result<Option<GroupFacts>, Failure>;
    /// All transactional ids, or those of these names that are there.
    fn transactions(&self, ids: Option<&[String]>) -> Result<Vec<TransactionFacts>, Failure>;
    /// The producers that a partition remembers.
    fn producers(&self, topic: &TopicFacts, partition: u32) -> Result<Vec<ProducerFacts>, Failure>;

    /// Makes a topic; one that is there already with these settings is as one that was made. `said`: the settings that
    /// were named.
    fn create_topic(
        &self,
        name: &str,
        partitions: u32,
        config: &TopicConfig,
        said: &[&str],
    ) -> Result<(), Failure>;
    /// Gives a topic these settings, of which some have changed.
    fn alter_topic(
        &self,
        topic: &TopicFacts,
        config: &TopicConfig,
        changed: &[(&str, String)],
    ) -> Result<(), Failure>;
    /// Makes it so many partitions.
    fn add_partitions(&self, topic: &TopicFacts, to: u32) -> Result<(), Failure>;
    fn delete_topic(&self, topic: &TopicFacts) -> Result<(), Failure>;
    /// Removes what lies below an offset; where the partition begins then.
    fn trim(&self, topic: &TopicFacts, partition: u32, start: u64) -> Result<u64, Failure>;
    /// Moves a group without members, and makes it if it isn't there.
    fn seek_group(&self, name: &str, positions: &[(TopicFacts, u32, u64)]) -> Result<(), Failure>;
    fn delete_offsets(&self, name: &str, partitions: &[(TopicFacts, u32)]) -> Result<(), Failure>;
    fn delete_group(&self, name: &str) -> Result<(), Failure>;
    /// Fences the producer of a transactional id, and aborts what it has open: producer id and epoch from now on.
    fn fence(&self, transaction: &TransactionFacts) -> Result<(i64, i16), Failure>;

    /// The log itself, where it is one of this process.
    fn log(&self) -> Option<&Log> {
        None
    }
}

/// Looks at the log of a verb. In a directory it looks again if somebody who writes there has moved what was looked at.
pub(crate) fn looking<T>(
    global: &Global,
    mut work: impl FnMut(&dyn Place) -> Result<T, Failure>,
) -> Result<T, Failure> {
    match &global.bootstrap {
        Some(address) => work(&Node::connect(global, address)?),
        None => open::looking(global, |log| work(&Directory::of(log))),
    }
}

/// As [`looking`], and keeps what was looked at.
pub(crate) fn begin<T>(
    global: &Global,
    mut work: impl FnMut(&dyn Place) -> Result<T, Failure>,
) -> Result<(Box<dyn Place>, T), Failure> {
    if let Some(address) = &global.bootstrap {
        let node = Node::connect(global, address)?;
        let done = work(&node)?;
        return Ok((Box::new(node), done));
    }
    open::looking(global, |log| {
        let directory = Directory::of(log);
        let done = work(&directory)?;
        Ok((Box::new(directory) as Box<dyn Place>, done))
    })
}

/// The log as it is now: a directory is opened once more, to see what is new there.
pub(crate) fn renewed(global: &Global, place: Box<dyn Place>) -> Result<Box<dyn Place>, Failure> {
    match place.log() {
        Some(_) => Ok(Box::new(Directory::of(&open::read(global)?))),
        None => Ok(place),
    }
}

/// Changes the log of a verb.
pub(crate) fn changing<T>(
    global: &Global,
    work: impl FnOnce(&dyn Place) -> Result<T, Failure>,
) -> Result<T, Failure> {
    match &global.bootstrap {
        Some(address) => work(&Node::connect(global, address)?),
        None => changing_log(open::write_existing(global)?, work),
    }
}

/// As [`changing`]; a directory without a log gets one.
pub(crate) fn creating<T>(
    global: &Global,
    work: impl FnOnce(&dyn Place) -> Result<T, Failure>,
) -> Result<T, Failure> {
    match &global.bootstrap {
        Some(address) => work(&Node::connect(global, address)?),
        None => changing_log(open::write(global)?, work),
    }
}

fn changing_log<T>(log: Log, work: impl FnOnce(&dyn Place) -> Result<T, Failure>) -> Result<T, Failure> {
    let done = work(&Directory::of(&log))?;
    close(log)?;
    Ok(done)
}

/// The topic, or what it might be called.
pub(crate) fn topic(place: &dyn Place, name: &str) -> Result<TopicFacts, Failure> {
    match place.find(name)? {
        Some(topic) => Ok(topic),
        None => Err(open::no_such_topic(name, place.topics()?.iter().map(|topic| &*topic.name))),
    }
}

/// The partitions of a topic that are asked for.
pub(crate) fn partitions(topic: &TopicFacts, asked: Option<u32>) -> Result<Vec<u32>, Failure> {
    open::partitions_of(&topic.name, topic.partitions, asked)
}

/// The group, or what it might be called.
pub(crate) fn group(place: &dyn Place, name: &str) -> Result<GroupFacts, Failure> {
    match place.group(name)? {
        Some(group) => Ok(group),
        None => Err(no_such_group(name, place.group_names()?.iter().map(String::as_str))),
    }
}

/// A group that isn't among these, with what it might be called.
pub(crate) fn no_such_group<'n>(name: &str, groups: impl IntoIterator<Item = &'n str>) -> Failure {
    let hint = suggest::sentence(name, groups, "exactlog group list shows the groups");
    Failure::new("NO_SUCH_GROUP", format!("there is no group {name:?}")).hint(hint)
}

/// Refuses verbs that can't be had of a node. Those about what processors keep ask it as they ask a directory, over a
/// connection of exactlog's own ([`open`]).
pub(crate) fn check_remote(global: &Global, verb: &Verb) -> Result<(), Failure> {
    const STOPPED: &str = "stop the node, and name its directory with --data";
    const BESIDE: &str = "--data names the node's directory: this only reads, and works while the node runs";
    let (name, way_out) = match verb {
        Verb::Topic { verb: TopicVerb::Compact { .. } } => ("topic compact", STOPPED),
        Verb::Topic { verb: TopicVerb::Repartition { .. } } => ("topic repartition", STOPPED),
        Verb::Log { .. } => ("log", BESIDE),
        Verb::Top { .. } => ("top", BESIDE),
        Verb::Doctor => ("doctor", BESIDE),
        Verb::Bench { verb: BenchVerb::Embedded { .. } } => {
            ("bench embedded", "it measures a directory: --data")
        }
        _ if !global.settings.is_empty() => {
            return Err(Failure::usage("-X sets a log of this process, and --bootstrap names a node")
                .hint("exactlog serve -X KEY=VALUE starts the node with it"));
        }
        _ => return Ok(()),
    };
    let message = format!("{name} can't be had of a node: it is for who has the directory");
    Err(Failure::usage(message).hint(way_out))
}
