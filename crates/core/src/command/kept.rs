//! Settings of Kafka's that are kept for its clients and change nothing.
//!
//! They are about replicas, of which a partition has one; about syncs, which come before every acknowledgement unless a
//! durability says otherwise; and about how Kafka keeps its files. Who sets them finds them again.
//!
//! Invariants
//!   * what has its default isn't there, so equal settings are equal bytes
//!   * what they may be is a matter of whoever sets them: to `apply` they are text, so that each build keeps what
//!     another one knows

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most settings that are kept of a topic, or of all.
pub const KEPT_MAX: usize = 64;

/// Longest name or value of one, in bytes.
pub const KEPT_BYTES_MAX: usize = 4096;

/// A setting that can be kept.
#[derive(Clone, Copy, Debug)]
pub struct Keepable {
    /// Its name, of a topic.
    pub name: &'static str,
    /// Its value if nobody sets it.
    pub default: &'static str,
    /// What it can be.
    pub bounds: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// A whole number of these.
    Number(i64, i64),
    /// The same, and -1 for no limit, which is the largest number.
    Limit(i64),
    /// `true` or `false`.
    Flag,
    /// Replicas, `partition:node` with commas between them, or `*` for all.
    Replicas,
}

const INT_MAX: i64 = i32::MAX as i64;

const fn keepable(name: &'static str, default: &'static str, bounds: &'static str, kind: Kind) -> Keepable {
    Keepable { name, default, bounds, kind }
}

/// What Kafka says if there is no limit.
const NO_LIMIT: &str = "9223372036854775807";

/// All of them.
pub const KEEPABLE: [Keepable; 14] = [
    keepable("min.insync.replicas", "1", "1 to 2147483647", Kind::Number(1, INT_MAX)),
    keepable("unclean.leader.election.enable", "false", "true or false", Kind::Flag),
    keepable("flush.messages", NO_LIMIT, "-1, or a number of records, at least 1", Kind::Limit(1)),
    keepable("flush.ms", NO_LIMIT, "-1, or a time in ms", Kind::Limit(0)),
    keepable("file.delete.delay.ms", "60000", "a time in ms", Kind::Number(0, i64::MAX)),
    keepable("index.interval.bytes", "4096", "0 to 2147483647", Kind::Number(0, INT_MAX)),
    keepable("segment.index.bytes", "10485760", "4 to 2147483647", Kind::Number(4, INT_MAX)),
    keepable("segment.jitter.ms", "0", "a time in ms", Kind::Number(0, i64::MAX)),
    keepable("preallocate", "false", "true or false", Kind::Flag),
    keepable("compression.gzip.level", "-1", "-1 to 9", Kind::Number(-1, 9)),
    keepable("compression.lz4.level", "9", "1 to 17", Kind::Number(1, 17)),
    keepable("compression.zstd.level", "3", "-131072 to 22", Kind::Number(-131_072, 22)),
    keepable("leader.replication.throttled.replicas", "", "PARTITION:NODE,.. or *", Kind::Replicas),
    keepable("follower.replication.throttled.replicas", "", "PARTITION:NODE,.. or *", Kind::Replicas),
];

impl Keepable {
    /// A value as it is kept; `None`: it can't be.
    fn read(&self, value: &str) -> Option<String> {
        match self.kind {
            Kind::Number(least, most) => {
                let number = value.parse::<i64>().ok().filter(|number| (least..=most).contains(number));
                number.map(|number| number.to_string())
            }
            Kind::Limit(_) if value == "-1" => Some(NO_LIMIT.to_string()),
            Kind::Limit(least) => {
                let number = value.parse::<i64>().ok().filter(|number| *number >= least);
                number.map(|number| number.to_string())
            }
            Kind::Flag => value.to_ascii_lowercase().parse::<bool>().ok().map(|flag| flag.to_string()),
            Kind::Replicas => {
                let is_number = |text: &str| text.parse::<u32>().is_ok();
                let is_one = |element: &str| {
                    element.split_once(':').is_some_and(|(index, node)| is_number(index) && is_number(node))
                };
                let is_list = matches!(value, "" | "*") || value.split(',').all(is_one);
                (is_list && value.len() <= KEPT_BYTES_MAX).then(|| value.to_string())
            }
        }
    }
}

/// The setting of this name; `None`: it isn't one of those that are kept.
pub fn keepable_named(name: &str) -> Option<&'static Keepable> {
    KEEPABLE.iter().find(|known| known.name == name)
}

/// Settings of a topic that change nothing, or what all topics have that say nothing else. None has its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptSettings {
    /// Shared, as commands are moved around, and most have none.
    values: Arc<BTreeMap<String, String>>,
}

impl KeptSettings {
    /// Whether all of them have their defaults.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The value of a setting, if it isn't the default.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// All of them, by name: names and values.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Sets one. False: it can't have this value, and nothing has changed.
    pub fn set(&mut self, keepable: &Keepable, value: &str) -> bool {
        let Some(value) = keepable.read(value) else { return false };
        let values = Arc::make_mut(&mut self.values);
        match value == keepable.default {
            true => values.remove(keepable.name),
            false => values.insert(keepable.name.to_string(), value),
        };
        true
    }
}

/// Those that a build has written, whatever it knew.
impl FromIterator<(String, String)> for KeptSettings {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(settings: T) -> KeptSettings {
        KeptSettings { values: Arc::new(settings.into_iter().collect()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_set_from_its_default_and_then_it_is_not_there() {
        for known in &KEEPABLE {
            let mut kept = KeptSettings::default();
            assert!(kept.set(known, known.default) && kept.is_empty(), "{}", known.name);
            assert!(keepable_named(known.name).is_some());
        }
    }

    #[test]
    fn values_are_kept_as_kafka_writes_them_and_others_change_nothing() {
        let named = |name| keepable_named(name).unwrap();
        let mut kept = KeptSettings::default();
        for (name, sent, value) in [
            ("min.insync.replicas", "2", Some("2")),
            ("min.insync.replicas", "0", Some("2")),
            ("min.insync.replicas", "x", Some("2")),
            ("min.insync.replicas", "1", None),
            ("unclean.leader.election.enable", "TRUE", Some("true")),
            ("unclean.leader.election.enable", "maybe", Some("true")),
            ("flush.ms", "0", Some("0")),
            ("flush.ms", "-1", None),
            ("flush.messages", "0", None),
            ("compression.zstd.level", "-131072", Some("-131072")),
            ("compression.gzip.level", "10", None),
            ("leader.replication.throttled.replicas", "*", Some("*")),
            ("leader.replication.throttled.replicas", "0:1,12:3", Some("0:1,12:3")),
            ("leader.replication.throttled.replicas", "0:1,", Some("0:1,12:3")),
            ("leader.replication.throttled.replicas", "", None),
        ] {
            kept.set(named(name), sent);
            assert_eq!(kept.get(name), value, "{name} {sent}");
        }
        assert_eq!(keepable_named("retention.ms").map(|it| it.name), None);
    }
}
