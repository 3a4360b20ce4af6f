//! The settings of a node in the catalogue, by Kafka's names: what stands there about each, and how its value is read.

use crate::args::duration;
use crate::failure::Failure;
use crate::settings::{Known, Scope, Setting, bytes, check_once, of_scope, refused};
use exactlog_broker::NodeOptions;
use std::net::IpAddr;
use std::time::Duration;

const fn of_node(
    key: &'static str,
    default: &'static str,
    bounds: &'static str,
    what: &'static str,
    costs: &'static str,
) -> Known {
    Known { key, scope: Scope::Node, default, bounds, what, costs }
}

pub(crate) const NODE_SETTINGS: [Known; 17] = [
    of_node("node.id", "1", "0 to 2147483647", "The number of the node (as Kafka's).", "None."),
    of_node(
        "advertised.listeners",
        "",
        "empty, or one HOST:PORT, with PLAINTEXT:// before it or without",
        "The address that clients are told to connect to (as Kafka's); empty: the one that each has dialled.",
        "One that a client can't reach: it connects, and then it can't do anything.",
    ),
    of_node(
        "num.partitions",
        "1",
        "1 to 100000",
        "Partitions of a topic that is created without saying how many (as Kafka's; 10 with --dev).",
        "Partitions can be added, never taken away.",
    ),
    of_node(
        "auto.create.topics.enable",
        "false",
        "true or false",
        "Whether a topic is created when a client asks for it (Kafka's default is true; true with --dev).",
        "A misspelt name becomes a topic.",
    ),
    of_node(
        "group.initial.rebalance.delay.ms",
        "3000",
        "a time",
        "How long a group waits for more members when its first one joins (as Kafka's).",
        "Less means that a group that starts is balanced several times.",
    ),
    of_node(
        "group.min.session.timeout.ms",
        "6000",
        "a time of at least 1 ms",
        "Shortest session timeout that a member of a classic group may have (as Kafka's).",
        "Less lets clients ask for more heartbeats, and lose their partitions over a short pause.",
    ),
    of_node(
        "group.max.session.timeout.ms",
        "1800000",
        "a time of at least 1 ms",
        "Longest session timeout that a member of a classic group may have (as Kafka's).",
        "More keeps partitions longer with a member that died.",
    ),
    of_node(
        "group.consumer.heartbeat.interval.ms",
        "5000",
        "a time of at least 1 ms",
        "How often members of consumer groups (KIP-848) send heartbeats (as Kafka's).",
        "Less means that members learn earlier what has changed, and more requests.",
    ),
    of_node(
        "group.consumer.session.timeout.ms",
        "45000",
        "a time of at least 1 ms",
        "How long after its last heartbeat a member of a consumer group is fenced (as Kafka's).",
        "More than several heartbeats; what a member that died had is read again after this.",
    ),
    of_node(
        "max.connections",
        "10000",
        "at least 1",
        "Most connections at a time.",
        "Memory and files of each.",
    ),
    of_node(
        "socket.request.max.bytes",
        "104857600",
        "1024 to 2147483647",
        "Longest request (as Kafka's).",
        "Memory: a request is read whole.",
    ),
    of_node(
        "queued.max.request.bytes",
        "268435456",
        "1 MiB to 2^64 - 1 bytes",
        "Most memory of requests that haven't arrived in full or aren't answered, of all connections together.",
        "Memory. Whoever sends more waits.",
    ),
    of_node(
        "queued.max.response.bytes",
        "268435456",
        "1 MiB to 2^64 - 1 bytes",
        "Most memory of answers that aren't written, of all connections together (Kafka has no such setting).",
        "Memory. Answers to consumers become shorter when it is taken.",
    ),
    of_node(
        "fetch.max.bytes",
        "57671680",
        "1024 to 2^64 - 1 bytes",
        "Most bytes of an answer to a consumer (as Kafka's). A longer batch comes alone.",
        "Memory of each connection that reads.",
    ),
    of_node(
        "max.incremental.fetch.session.cache.slots",
        "1000",
        "0 to 2147483647",
        "Most sessions of Fetch (as Kafka's): a client that gets none names all its partitions each time.",
        "Memory: what each remembers, 64 MiB together at most.",
    ),
    of_node(
        "socket.send.buffer.bytes",
        "102400",
        "1024 to 2147483647, or -1: as the system sees fit",
        "How much of the answers to a client the system holds for it (as Kafka's).",
        "More is quicker over long distances; a client that reads nothing holds that much of the system's memory.",
    ),
    of_node(
        "connections.max.idle.ms",
        "600000",
        "a time, at least 1 ms",
        "How long a connection is kept on which nothing is asked (as Kafka's).",
        "Less means that clients connect more often.",
    ),
];

/// Settings of `serve -X`.
pub(crate) fn apply(mut options: NodeOptions, settings: &[Setting]) -> Result<NodeOptions, Failure> {
    check_once(settings)?;
    for setting in settings {
        let known = of_scope(setting, Scope::Node)?;
        set(&mut options, known.key, &setting.value).ok_or_else(|| refused(setting, known))?;
    }
    Ok(options)
}

fn set(options: &mut NodeOptions, key: &str, value: &str) -> Option<()> {
    let size = || usize::try_from(bytes(value)?).ok();
    match key {
        "node.id" => options.node_id = value.parse().ok().filter(|id| *id >= 0)?,
        "advertised.listeners" => options.advertised = address(value)?,
        "num.partitions" => {
            options.partitions = value.parse().ok().filter(|it| (1..=100_000).contains(it))?
        }
        "auto.create.topics.enable" => options.creates_topics = value.parse().ok()?,
        "group.initial.rebalance.delay.ms" => options.initial_rebalance_delay = time(value)?,
        "group.min.session.timeout.ms" => {
            options.session_timeout_min = time(value).filter(|it| !it.is_zero())?;
        }
        "group.max.session.timeout.ms" => {
            options.session_timeout_max = time(value).filter(|it| !it.is_zero())?;
        }
        "group.consumer.heartbeat.interval.ms" => {
            options.consumer_heartbeat_interval = time(value).filter(|it| !it.is_zero())?;
        }
        "group.consumer.session.timeout.ms" => {
            options.consumer_session_timeout = time(value).filter(|it| !it.is_zero())?;
        }
        "max.connections" => options.connections_max = value.parse().ok().filter(|it| *it > 0)?,
        "socket.request.max.bytes" => {
            let max = u32::try_from(bytes(value)?).ok();
            options.request_bytes_max = max.filter(|it| (1024..=i32::MAX as u32).contains(it))?;
        }
        "queued.max.request.bytes" => options.requests_bytes_max = size().filter(|it| *it >= 1 << 20)?,
        "queued.max.response.bytes" => options.answers_bytes_max = size().filter(|it| *it >= 1 << 20)?,
        "fetch.max.bytes" => options.fetch_bytes_max = size().filter(|it| *it >= 1024)?,
        "max.incremental.fetch.session.cache.slots" => {
            options.fetch_sessions_max = usize::try_from(value.parse::<i32>().ok()?).ok()?;
        }
        "socket.send.buffer.bytes" if value == "-1" => options.send_buffer_bytes = None,
        "socket.send.buffer.bytes" => {
            let held = u32::try_from(bytes(value)?).ok();
            options.send_buffer_bytes = Some(held.filter(|it| (1024..=i32::MAX as u32).contains(it))?);
        }
        _ => options.idle_max = time(value).filter(|it| !it.is_zero())?,
    }
    Some(())
}

/// `3000`, `3s`.
fn time(value: &str) -> Option<Duration> {
    value.parse().ok().map(Duration::from_millis).or_else(|| duration(value).ok())
}

/// `PLAINTEXT://broker.example:9092`, `broker.example:9092`.
fn address(value: &str) -> Option<Option<(String, u16)>> {
    if value.is_empty() {
        return Some(None);
    }
    let (host, port) = value.strip_prefix("PLAINTEXT://").unwrap_or(value).rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = port.parse().ok().filter(|port| *port > 0)?;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:%".contains(&byte);
    let is_somewhere = host.parse::<IpAddr>().is_ok_and(|address| !address.is_unspecified());
    let is_host = host.bytes().all(is_name) && !host.is_empty();
    let is_ip = host.parse::<IpAddr>().is_ok();
    (is_host && (is_somewhere || (!is_ip && !host.contains(':')))).then(|| Some((host.to_string(), port)))
}
