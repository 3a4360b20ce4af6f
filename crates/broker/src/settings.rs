//! Settings as clients see them: names, kinds, values, and where these come from (KIP-133, KIP-226, KIP-569).
//!
//! The log knows the values of a topic's settings, not whether somebody has set them: one that has its default counts
//! as not set.
//!
//! Invariants
//!   * what is shown can be set again, and is the same then

use crate::code::{self, Refused};
use crate::options::NodeOptions;
use exactlog::{KEEPABLE, KeptSettings, TopicConfig, TopicDurability};
use std::net::SocketAddr;
use std::time::Duration;

/// What can have settings.
pub(crate) const TOPIC: i8 = 2;
pub(crate) const BROKER: i8 = 4;
pub(crate) const BROKER_LOGGER: i8 = 8;
pub(crate) const CLIENT_METRICS: i8 = 16;
pub(crate) const GROUP: i8 = 32;

/// Where a value comes from: the topic's own.
pub(crate) const TOPIC_CONFIG: i8 = 1;
/// What was set for all topics while the node runs.
pub(crate) const DYNAMIC_BROKER_CONFIG: i8 = 2;
/// What the node was told when it was started.
pub(crate) const STATIC_BROKER_CONFIG: i8 = 4;
/// Nobody has set it.
pub(crate) const DEFAULT_CONFIG: i8 = 5;

/// What kind of value a setting has, by Kafka's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Boolean = 1,
    String = 2,
    Int = 3,
    Long = 5,
    Double = 6,
    List = 7,
}

/// A setting with its values, of which the first counts.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// What was set, if it isn't the default.
    pub(crate) own: Option<String>,
    /// What was set for all topics while the node runs, if it isn't the default.
    pub(crate) of_all: Option<String>,
    /// Its value if nobody sets it.
    pub(crate) default: String,
    pub(crate) kind: Kind,
    /// What a node calls the default of all topics.
    pub(crate) of_node: Option<&'static str>,
    pub(crate) about: &'static str,
}

impl Row {
    pub(crate) fn value(&self) -> &str {
        self.own.as_deref().or(self.of_all.as_deref()).unwrap_or(&self.default)
    }

    /// Where the value comes from, if `own` stands for those that were set.
    pub(crate) fn source(&self, own: i8) -> i8 {
        match (&self.own, &self.of_all) {
            (Some(_), _) => own,
            (None, Some(_)) => DYNAMIC_BROKER_CONFIG,
            (None, None) => DEFAULT_CONFIG,
        }
    }

    /// All that decides about the value, the strongest first: name, value and source.
    pub(crate) fn synonyms(&self, own: i8) -> Vec<(&'static str, &str, i8)> {
        let own = self.own.as_deref().map(|value| (self.name, value, own));
        let of_all = self.of_node.zip(self.of_all.as_deref());
        let of_all = of_all.map(|(name, value)| (name, value, DYNAMIC_BROKER_CONFIG));
        let of_node = self.of_node.map(|name| (name, self.default.as_str(), DEFAULT_CONFIG));
        own.into_iter().chain(of_all).chain(of_node).collect()
    }
}

/// What is known of a topic's setting: its name, its kind, what a node calls its default, and what it is for.
type Known = (&'static str, Kind, Option<&'static str>, &'static str);

/// In the order of [`TopicConfig::rows`].
const OF_TOPICS: [Known; 15] = [
    (
        "max.message.bytes",
        Kind::Int,
        Some("message.max.bytes"),
        "Largest record batch that is taken, in bytes.",
    ),
    ("segment.bytes", Kind::Int, Some("log.segment.bytes"), "Size at which a segment is closed, in bytes."),
    ("segment.ms", Kind::Long, Some("log.roll.ms"), "Age at which a segment is closed, in ms."),
    (
        "cleanup.policy",
        Kind::List,
        Some("log.cleanup.policy"),
        "What becomes of old records: delete (by age and size), compact (of each key the last one stays), or both.",
    ),
    (
        "retention.ms",
        Kind::Long,
        Some("log.retention.ms"),
        "Age from which on records go if the policy is delete, in ms; -1: never by age.",
    ),
    (
        "retention.bytes",
        Kind::Long,
        Some("log.retention.bytes"),
        "Size of a partition over which its oldest records go if the policy is delete; -1: never by size.",
    ),
    (
        "delete.retention.ms",
        Kind::Long,
        Some("log.cleaner.delete.retention.ms"),
        "How long the tombstones of a compacted topic stay, in ms.",
    ),
    (
        "min.compaction.lag.ms",
        Kind::Long,
        Some("log.cleaner.min.compaction.lag.ms"),
        "Age below which records aren't compacted, in ms.",
    ),
    (
        "max.compaction.lag.ms",
        Kind::Long,
        Some("log.cleaner.max.compaction.lag.ms"),
        "Age from which on records are compacted, however little it gains, in ms.",
    ),
    (
        "min.cleanable.dirty.ratio",
        Kind::Double,
        Some("log.cleaner.min.cleanable.ratio"),
        "Part of a partition that has to be uncompacted before it is compacted.",
    ),
    (
        "message.timestamp.type",
        Kind::String,
        Some("log.message.timestamp.type"),
        "Whether records have the time of their sender (CreateTime) or that of the append (LogAppendTime).",
    ),
    (
        "message.timestamp.before.max.ms",
        Kind::Long,
        Some("log.message.timestamp.before.max.ms"),
        "How far a record's time may lie in the past, in ms.",
    ),
    (
        "message.timestamp.after.max.ms",
        Kind::Long,
        Some("log.message.timestamp.after.max.ms"),
        "How far a record's time may lie in the future, in ms.",
    ),
    (
        "topic.durability",
        Kind::String,
        None,
        "When what is sent is safe: log (as the log's durability says), or os (with the operating system).",
    ),
    (
        "compression.type",
        Kind::String,
        Some("compression.type"),
        "Codec of what is stored: uncompressed, gzip, snappy, lz4, zstd, or producer (as it comes).",
    ),
];

/// Settings that change nothing: what a node calls that of all topics, and what they are for. In the order of
/// [`KEEPABLE`].
const OF_KEPT: [(Kind, Option<&str>, &str); KEEPABLE.len()] = [
    (
        Kind::Int,
        Some("min.insync.replicas"),
        "Replicas that have to have what is acknowledged with acks=all. There is one: more counts as 1.",
    ),
    (
        Kind::Boolean,
        Some("unclean.leader.election.enable"),
        "Whether a replica may lead that lacks records: there is none.",
    ),
    (
        Kind::Long,
        Some("log.flush.interval.messages"),
        "After how many records the log is synced at the latest: it is before each answer.",
    ),
    (
        Kind::Long,
        Some("log.flush.interval.ms"),
        "After which time the log is synced at the latest, in ms: it is before each answer.",
    ),
    (
        Kind::Long,
        Some("log.segment.delete.delay.ms"),
        "How long a file stays that isn't needed. Kept, no more.",
    ),
    (Kind::Int, Some("log.index.interval.bytes"), "Bytes between entries of an index. Kept, no more."),
    (Kind::Int, Some("log.index.size.max.bytes"), "Size of an index. Kept, no more."),
    (Kind::Long, Some("log.roll.jitter.ms"), "By how much segments are closed earlier. Kept, no more."),
    (Kind::Boolean, Some("log.preallocate"), "Whether segments are allocated at once. Kept, no more."),
    (Kind::Int, Some("compression.gzip.level"), "Level of gzip. Kept, no more."),
    (Kind::Int, Some("compression.lz4.level"), "Level of lz4. Kept, no more."),
    (Kind::Int, Some("compression.zstd.level"), "Level of zstd. Kept, no more."),
    (Kind::List, None, "Replicas that are copied from slowly: there are none."),
    (Kind::List, None, "Replicas that are copied to slowly: there are none."),
];

/// All settings of topics, in the order of [`TopicConfig::rows`].
fn known() -> impl Iterator<Item = Known> {
    let kept = KEEPABLE.iter().zip(OF_KEPT);
    let kept = kept.map(|(it, (kind, of_node, about))| (it.name, kind, of_node, about));
    OF_TOPICS.into_iter().chain(kept)
}

/// The settings of a topic. Those that are kept and that it doesn't set itself are those of all.
pub(crate) fn of_topic(config: &TopicConfig, of_all: &KeptSettings) -> Vec<Row> {
    let (rows, defaults) = (config.rows(), TopicConfig::default().rows());
    let rows = rows.into_iter().zip(defaults).zip(known());
    rows.map(|(((name, own), (_, default)), (_, kind, of_node, about))| {
        let of_all = of_all.get(name).map(str::to_string);
        let (own, default) = (shown(name, own), shown(name, default));
        Row { name, own: (own != default).then_some(own), of_all, default, kind, of_node, about }
    })
    .collect()
}

/// A value as Kafka shows it: there, no limit is -1 in some settings and the largest number in others.
fn shown(name: &str, value: String) -> String {
    match name {
        "max.compaction.lag.ms" | "message.timestamp.before.max.ms" | "message.timestamp.after.max.ms"
            if value == "-1" =>
        {
            i64::MAX.to_string()
        }
        "min.cleanable.dirty.ratio" => {
            let short = value.trim_end_matches('0');
            if short.ends_with('.') { format!("{short}0") } else { short.to_string() }
        }
        _ => value,
    }
}

/// The kind of a topic's setting; none: there is no such setting.
pub(crate) fn kind_of(name: &str) -> Option<Kind> {
    known().find(|known| known.0 == name).map(|known| known.1)
}

/// Sets a setting of a topic. A list may have spaces and say something twice.
pub(crate) fn set(config: &mut TopicConfig, name: &str, value: &str) -> Result<(), Refused> {
    let done = match kind_of(name) {
        Some(Kind::List) => config.set(name, &elements(value).join(",")),
        _ => config.set(name, value.trim()),
    };
    done.map_err(|error| (code::INVALID_CONFIG, error.to_string()))
}

/// Whether a resource is this node: by its number, or by no name, which stands for all.
pub(crate) fn check_node(node_id: i32, name: &str) -> Result<(), Refused> {
    match name.is_empty() || name.parse() == Ok(node_id) {
        true => Ok(()),
        false => {
            let what = format!("node {name:?}: {node_id} is the only one, and no name stands for all");
            Err((code::INVALID_REQUEST, what))
        }
    }
}

/// What a topic calls the setting of a node by which all topics have it, if that can be altered while the node runs.
pub(crate) fn kept_for_all(name: &str) -> Option<&'static str> {
    KEEPABLE.iter().zip(OF_KEPT).find(|(_, (_, of_node, _))| *of_node == Some(name)).map(|(it, _)| it.name)
}

/// The settings of a node that can be altered while it runs.
pub(crate) fn alterable_of_node() -> String {
    OF_KEPT.iter().filter_map(|(_, of_node, _)| *of_node).collect::<Vec<_>>().join(", ")
}

/// A promise to sync after so many records, or so long, is kept where everything is synced before it is acknowledged.
/// Elsewhere nobody would keep it.
pub(crate) fn check_flushes(config: &TopicConfig, syncs_first: impl FnOnce() -> bool) -> Result<(), Refused> {
    let mut flushes = ["flush.messages", "flush.ms"].into_iter();
    let Some((name, value)) = flushes.find_map(|name| Some((name, config.kept.get(name)?))) else {
        return Ok(());
    };
    match config.durability == TopicDurability::Log && syncs_first() {
        true => Ok(()),
        false => {
            let what = format!(
                "setting {name} is {value}: it can be set where all is synced before it is acknowledged \
                 (durability=fsync, topic.durability=log)"
            );
            Err((code::INVALID_CONFIG, what))
        }
    }
}

/// What is in a list, each once.
pub(crate) fn elements(list: &str) -> Vec<&str> {
    let mut elements = Vec::new();
    for element in list.split(',').map(str::trim).filter(|element| !element.is_empty()) {
        if !elements.contains(&element) {
            elements.push(element);
        }
    }
    elements
}

/// The settings of a node: what it was told when it was started, and what its topics have if they say nothing else.
pub(crate) fn of_node(options: &NodeOptions, of_all: &KeptSettings) -> Vec<Row> {
    let defaults = NodeOptions::default();
    let own = values_of(options).into_iter().zip(values_of(&defaults));
    // Where it is, it was told in any case.
    let is_place = |name| matches!(name, "node.id" | "listeners" | "advertised.listeners");
    let own = own.map(|((name, kind, value, about), (_, _, default, _))| Row {
        name,
        own: (value != default || is_place(name)).then_some(value),
        of_all: None,
        default,
        kind,
        of_node: Some(name),
        about,
    });
    let of_topics = of_topic(&TopicConfig::default(), of_all).into_iter();
    let of_topics = of_topics.filter_map(|row| Some(Row { name: row.of_node?, ..row }));
    own.chain(of_topics).collect()
}

/// A setting of the node: name, kind, value, and what it is for.
type Valued = (&'static str, Kind, String, &'static str);

fn values_of(options: &NodeOptions) -> Vec<Valued> {
    [of_place(options), of_groups(options), of_limits(options)].into_iter().flatten().collect()
}

fn of_place(options: &NodeOptions) -> Vec<Valued> {
    let listen = |address: SocketAddr| format!("PLAINTEXT://{address}");
    let advertised = options.advertised.as_ref();
    let advertised = advertised
        .map_or_else(|| listen(options.listen), |(host, port)| format!("PLAINTEXT://{host}:{port}"));
    vec![
        ("node.id", Kind::Int, options.node_id.to_string(), "The number of the node."),
        ("listeners", Kind::List, listen(options.listen), "Where the node listens."),
        (
            "advertised.listeners",
            Kind::List,
            advertised,
            "Where clients are told to connect to; if nothing was said each where it has connected to.",
        ),
        (
            "num.partitions",
            Kind::Int,
            options.partitions.to_string(),
            "Partitions of a topic for which no number is asked for.",
        ),
        (
            "default.replication.factor",
            Kind::Int,
            "1".to_string(),
            "Replicas of a topic for which no number is asked for: there is one node.",
        ),
        (
            "auto.create.topics.enable",
            Kind::Boolean,
            options.creates_topics.to_string(),
            "Whether a topic is created when a client asks for it.",
        ),
    ]
}

fn of_groups(options: &NodeOptions) -> Vec<Valued> {
    vec![
        (
            "group.initial.rebalance.delay.ms",
            Kind::Int,
            ms(options.initial_rebalance_delay),
            "How long a group waits for more members when its first one joins, in ms.",
        ),
        (
            "group.min.session.timeout.ms",
            Kind::Int,
            ms(options.session_timeout_min),
            "Shortest session timeout that a member of a classic group may have, in ms.",
        ),
        (
            "group.max.session.timeout.ms",
            Kind::Int,
            ms(options.session_timeout_max),
            "Longest session timeout that a member of a classic group may have, in ms.",
        ),
        (
            "group.consumer.heartbeat.interval.ms",
            Kind::Int,
            ms(options.consumer_heartbeat_interval),
            "How often members of consumer groups send heartbeats, in ms.",
        ),
        (
            "group.consumer.session.timeout.ms",
            Kind::Int,
            ms(options.consumer_session_timeout),
            "How long after its last heartbeat a member of a consumer group is fenced, in ms.",
        ),
    ]
}

fn of_limits(options: &NodeOptions) -> Vec<Valued> {
    vec![
        ("max.connections", Kind::Int, options.connections_max.to_string(), "Most connections at a time."),
        (
            "socket.request.max.bytes",
            Kind::Int,
            options.request_bytes_max.to_string(),
            "Longest request, in bytes.",
        ),
        (
            "queued.max.request.bytes",
            Kind::Long,
            options.requests_bytes_max.to_string(),
            "Most memory that requests take which aren't answered, in bytes.",
        ),
        (
            "queued.max.response.bytes",
            Kind::Long,
            options.answers_bytes_max.to_string(),
            "Most memory that answers take which aren't written, in bytes.",
        ),
        (
            "fetch.max.bytes",
            Kind::Int,
            options.fetch_bytes_max.to_string(),
            "Most bytes of one answer to Fetch; a batch that is longer comes alone.",
        ),
        (
            "max.incremental.fetch.session.cache.slots",
            Kind::Int,
            options.fetch_sessions_max.to_string(),
            "Most sessions of Fetch: who gets none names all its partitions each time.",
        ),
        (
            "socket.send.buffer.bytes",
            Kind::Int,
            options.send_buffer_bytes.map_or_else(|| "-1".into(), |bytes| bytes.to_string()),
            "How much of the answers to a client the system holds for it; -1: as much as it sees fit.",
        ),
        (
            "connections.max.idle.ms",
            Kind::Long,
            ms(options.idle_max),
            "How long a connection is kept on which nothing is asked, in ms.",
        ),
    ]
}

fn ms(time: Duration) -> String {
    time.as_millis().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_settings_of_topics_are_known_and_what_is_shown_can_be_set() {
        let rows = TopicConfig::default().rows().into_iter().map(|(name, _)| name);
        assert_eq!(rows.collect::<Vec<_>>(), known().map(|known| known.0).collect::<Vec<_>>());
        for row in of_topic(&TopicConfig::default(), &KeptSettings::default()) {
            assert_eq!((&row.own, &row.of_all), (&None, &None), "{}", row.name);
            let mut config = TopicConfig::default();
            assert_eq!(set(&mut config, row.name, row.value()), Ok(()), "{}", row.name);
            assert_eq!(config, TopicConfig::default(), "{}", row.name);
        }
    }

    #[test]
    fn values_are_shown_as_kafka_shows_them() {
        let mut config = TopicConfig::default();
        let value = |config: &TopicConfig, name| {
            let rows = of_topic(config, &KeptSettings::default());
            rows.iter().find(|row| row.name == name).map(|row| row.value().to_string()).unwrap()
        };
        for (name, default) in [
            ("max.compaction.lag.ms", "9223372036854775807"),
            ("message.timestamp.after.max.ms", "9223372036854775807"),
            ("flush.messages", "9223372036854775807"),
            ("retention.ms", "-1"),
            ("min.cleanable.dirty.ratio", "0.5"),
        ] {
            assert_eq!(value(&config, name), default, "{name}");
        }
        for (ratio, shown) in [("0", "0.0"), ("1", "1.0"), ("0.25", "0.25"), ("0.101", "0.101")] {
            set(&mut config, "min.cleanable.dirty.ratio", ratio).unwrap();
            assert_eq!(value(&config, "min.cleanable.dirty.ratio"), shown);
        }
    }

    /// The strongest first: the topic's own, that of all topics, the default.
    #[test]
    fn what_counts_is_the_topics_own_then_that_of_all_then_the_default() {
        let of_all: KeptSettings =
            [("min.insync.replicas".to_string(), "2".to_string())].into_iter().collect();
        let row = |own: &str, of_all: &KeptSettings| {
            let mut config = TopicConfig::default();
            set(&mut config, "min.insync.replicas", own).unwrap();
            of_topic(&config, of_all).into_iter().find(|row| row.name == "min.insync.replicas").unwrap()
        };
        let name = "min.insync.replicas";
        let (default, all, own) = ((name, "1", 5), (name, "2", 2), (name, "3", 1));
        for (row, synonyms) in [
            (row("3", &of_all), &[own, all, default][..]),
            (row("1", &of_all), &[all, default]),
            (row("3", &KeptSettings::default()), &[own, default]),
            (row("1", &KeptSettings::default()), &[default]),
        ] {
            assert_eq!(row.synonyms(TOPIC_CONFIG), synonyms);
            assert_eq!((row.value(), row.source(TOPIC_CONFIG)), (synonyms[0].1, synonyms[0].2));
        }
    }

    #[test]
    fn lists_may_have_spaces_and_doubles() {
        let mut config = TopicConfig::default();
        set(&mut config, "cleanup.policy", " delete, compact ,delete,").unwrap();
        assert_eq!(config.cleanup_policy, exactlog::CleanupPolicy::CompactAndDelete);
        for wrong in ["", ",", "shred", "compact;delete"] {
            assert_eq!(set(&mut config, "cleanup.policy", wrong).unwrap_err().0, code::INVALID_CONFIG);
        }
    }

    #[test]
    fn no_setting_of_a_node_is_named_twice() {
        let rows = of_node(&NodeOptions::default(), &KeptSettings::default());
        let mut names: Vec<_> = rows.iter().map(|row| row.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
