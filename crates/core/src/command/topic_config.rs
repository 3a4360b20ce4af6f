//! The settings of a topic. Names, meanings and units are those of Kafka's topic configs; what "unlimited" is there
//! (-1, or the largest number) is `None` here.
//!
//! Not here: their bounds, which `apply` checks.

use super::{KEEPABLE, Keepable, KeptSettings, keepable_named};
use crate::batch::{Compression, TimestampType};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// Settings of a topic. Order and types of the fields are a format (docs/FORMAT.md, "Payload").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicConfig {
    /// Largest batch in bytes (`max.message.bytes`). Default 1,048,588; 1,024 to 16 MiB.
    pub max_message_bytes: u32,
    /// A segment is closed before it grows beyond this many bytes (`segment.bytes`). Default 128 MiB; 4,096 to
    /// 2^31 - 1. Retention and compaction work on closed segments: a small one frees space sooner, and makes more
    /// files.
    pub segment_bytes: u32,
    /// A segment is closed when its records span more than this many milliseconds (`segment.ms`). Default 7 days; at
    /// least 1.
    pub segment_ms: u64,
    /// What becomes of old records (`cleanup.policy`). Default [`CleanupPolicy::Delete`].
    pub cleanup_policy: CleanupPolicy,
    /// Records older than this may go, if the policy deletes (`retention.ms`). Default `None`: they never do by age.
    pub retention_ms: Option<u64>,
    /// A partition with more bytes than this may lose its oldest, if the policy deletes (`retention.bytes`). Default
    /// `None`: they never go by size.
    pub retention_bytes: Option<u64>,
    /// How long a tombstone, or the marker of a transaction without records, stays after it was first cleaned
    /// (`delete.retention.ms`). Default 1 day. A consumer that reads from the start needs less time than this, or it
    /// may miss that a key is gone.
    pub delete_retention_ms: u64,
    /// Records younger than this are not compacted (`min.compaction.lag.ms`). Default 0.
    pub min_compaction_lag_ms: u64,
    /// Records older than this are compacted also if that gains little (`max.compaction.lag.ms`). Default `None`.
    pub max_compaction_lag_ms: Option<u64>,
    /// Compacts when this share of a partition, in thousandths of its bytes, wasn't compacted yet
    /// (`min.cleanable.dirty.ratio`). Default 500, a half; at most 1,000. Less means more writing for less space.
    pub min_cleanable_dirty_permille: u32,
    /// Whose time records have (`message.timestamp.type`). Default [`TimestampType::CreateTime`].
    pub timestamp_type: TimestampType,
    /// Refuses batches whose first record is older than this, if records have their sender's time
    /// (`message.timestamp.before.max.ms`). Default `None`.
    pub timestamp_before_max_ms: Option<u64>,
    /// Refuses batches with a record that is further in the future than this, if records have their sender's time
    /// (`message.timestamp.after.max.ms`). Default `None`.
    pub timestamp_after_max_ms: Option<u64>,
    /// When what is sent to it is safe (`topic.durability`; Kafka has no such setting). Default
    /// [`TopicDurability::Log`].
    ///
    /// A section of its own in checkpoints, and not a part of these bytes.
    #[serde(skip)]
    pub durability: TopicDurability,
    /// The codec of what is stored (`compression.type`). Default [`TopicCompression::Producer`].
    ///
    /// A section of its own in checkpoints, and not a part of these bytes. Who makes batches, or hands in those of
    /// others, sees to it: `apply` calls no codec.
    #[serde(skip)]
    pub compression: TopicCompression,
    /// Settings of Kafka's that change nothing here. Default [`KeptSettings::default`].
    ///
    /// A section of its own in checkpoints, and not a part of these bytes.
    #[serde(skip)]
    pub kept: KeptSettings,
}

/// The codec of a topic's batches (`compression.type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TopicCompression {
    /// Each batch keeps the one that it comes with.
    #[default]
    Producer,
    /// This one: a batch with another is stored with it. Where that makes a batch longer, too.
    Codec(Compression),
}

impl TopicCompression {
    /// The codec that batches must have; `None`: any.
    pub fn codec(self) -> Option<Compression> {
        match self {
            TopicCompression::Producer => None,
            TopicCompression::Codec(codec) => Some(codec),
        }
    }
}

/// As Kafka writes it: no compression is `uncompressed` here, and not `none`.
impl fmt::Display for TopicCompression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TopicCompression::Producer => "producer",
            TopicCompression::Codec(Compression::None) => "uncompressed",
            TopicCompression::Codec(codec) => codec.name(),
        })
    }
}

/// `producer`, `uncompressed`, `gzip`, `snappy`, `lz4` or `zstd`.
impl FromStr for TopicCompression {
    type Err = ();

    fn from_str(text: &str) -> Result<TopicCompression, ()> {
        match text {
            "producer" => Ok(TopicCompression::Producer),
            "uncompressed" => Ok(TopicCompression::Codec(Compression::None)),
            "none" => Err(()),
            name => Compression::from_name(name).map(TopicCompression::Codec).ok_or(()),
        }
    }
}

/// When acknowledged events of a topic are safe (`topic.durability`).
///
/// It is about what is sent, one event or batch at a time. Transactions, offsets, timers and all that is decided about
/// the topic are as safe as the log's durability says, whatever its topics say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TopicDurability {
    /// As the log's durability says.
    #[default]
    Log,
    /// With the operating system, whatever the log's durability says: they survive the process, but not a power loss.
    Os,
}

impl fmt::Display for TopicDurability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TopicDurability::Log => "log",
            TopicDurability::Os => "os",
        })
    }
}

/// `log` or `os`.
impl FromStr for TopicDurability {
    type Err = ();

    fn from_str(text: &str) -> Result<TopicDurability, ()> {
        match text {
            "log" => Ok(TopicDurability::Log),
            "os" => Ok(TopicDurability::Os),
            _ => Err(()),
        }
    }
}

impl TopicConfig {
    /// The version of its bytes in a command: the first that can say it.
    pub(crate) fn version(&self) -> u8 {
        let TopicConfig { max_message_bytes, segment_bytes, segment_ms, .. } = *self;
        let plain = TopicConfig { max_message_bytes, segment_bytes, segment_ms, ..TopicConfig::default() };
        if !self.kept.is_empty() {
            return 5;
        }
        match (self.compression, self.durability) {
            (TopicCompression::Codec(_), _) => 4,
            (TopicCompression::Producer, TopicDurability::Os) => 3,
            (TopicCompression::Producer, TopicDurability::Log) if *self == plain => 1,
            (TopicCompression::Producer, TopicDurability::Log) => 2,
        }
    }
}

impl TopicConfig {
    /// The settings that change something, in the order of [`SETTINGS`].
    fn own_rows(&self) -> [(&'static str, String); 15] {
        let limit = |limit: Option<u64>| limit.map_or_else(|| "-1".to_string(), |limit| limit.to_string());
        let permille = self.min_cleanable_dirty_permille;
        [
            ("max.message.bytes", self.max_message_bytes.to_string()),
            ("segment.bytes", self.segment_bytes.to_string()),
            ("segment.ms", self.segment_ms.to_string()),
            ("cleanup.policy", self.cleanup_policy.to_string()),
            ("retention.ms", limit(self.retention_ms)),
            ("retention.bytes", limit(self.retention_bytes)),
            ("delete.retention.ms", self.delete_retention_ms.to_string()),
            ("min.compaction.lag.ms", self.min_compaction_lag_ms.to_string()),
            ("max.compaction.lag.ms", limit(self.max_compaction_lag_ms)),
            ("min.cleanable.dirty.ratio", format!("{}.{:03}", permille / 1000, permille % 1000)),
            ("message.timestamp.type", format!("{:?}", self.timestamp_type)),
            ("message.timestamp.before.max.ms", limit(self.timestamp_before_max_ms)),
            ("message.timestamp.after.max.ms", limit(self.timestamp_after_max_ms)),
            ("topic.durability", self.durability.to_string()),
            ("compression.type", self.compression.to_string()),
        ]
    }

    /// All settings by Kafka's names, each with its value as Kafka writes it: -1 is no limit. `topic.durability` is our
    /// own. Last come those that change nothing, in the order of [`KEEPABLE`].
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let kept = |it: &Keepable| {
            let value = self.kept.get(it.name).unwrap_or(it.default).to_string();
            (it.name, value)
        };
        self.own_rows().into_iter().chain(KEEPABLE.iter().map(kept)).collect()
    }
}

/// Why a setting wasn't set.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SettingError {
    /// There is no such setting.
    #[error("a topic has no setting {name:?}")]
    Unknown {
        /// Its name.
        name: String,
    },
    /// It can't have this value.
    #[error("setting {name} is {value:?}; it must be {bounds}")]
    Value {
        /// Its name.
        name: &'static str,
        /// The value.
        value: String,
        /// What it can be.
        bounds: &'static str,
    },
}

/// The settings, in the order of [`TopicConfig::rows`], with what each can be.
const SETTINGS: [(&str, &str); 15] = [
    ("max.message.bytes", "1024 to 16777216"),
    ("segment.bytes", "4096 to 2147483647"),
    ("segment.ms", "at least 1"),
    ("cleanup.policy", "delete, compact, or compact,delete"),
    ("retention.ms", "-1, or a time in ms"),
    ("retention.bytes", "-1, or a size in bytes"),
    ("delete.retention.ms", "a time in ms"),
    ("min.compaction.lag.ms", "a time in ms"),
    ("max.compaction.lag.ms", "-1, or a time in ms that is no less than min.compaction.lag.ms"),
    ("min.cleanable.dirty.ratio", "0 to 1, with at most three decimals"),
    ("message.timestamp.type", "CreateTime or LogAppendTime"),
    ("message.timestamp.before.max.ms", "-1, or a time in ms"),
    ("message.timestamp.after.max.ms", "-1, or a time in ms"),
    ("topic.durability", "log or os"),
    ("compression.type", "producer, uncompressed, gzip, snappy, lz4 or zstd"),
];

/// What Kafka writes for "none", besides -1: the largest number.
const NO_LIMIT: u64 = i64::MAX as u64;

impl TopicConfig {
    /// Sets a setting by Kafka's name, from its value as Kafka writes it. Whether it is within its bounds is checked
    /// when the topic is created or altered.
    ///
    /// # Errors
    /// [`SettingError`]: nothing was changed.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), SettingError> {
        if let Some(keepable) = keepable_named(name) {
            let Keepable { name, bounds, .. } = *keepable;
            return match self.kept.set(keepable, value) {
                true => Ok(()),
                false => Err(SettingError::Value { name, value: value.to_string(), bounds }),
            };
        }
        let known = SETTINGS.iter().find(|(known, _)| *known == name);
        let (name, bounds) = *known.ok_or_else(|| SettingError::Unknown { name: name.to_string() })?;
        let number = || value.parse::<u64>().ok();
        let small = || value.parse::<u32>().ok();
        let limit = || match value {
            "-1" => Some(None),
            _ => number().map(|limit| Some(limit).filter(|limit| *limit != NO_LIMIT)),
        };
        let done = match name {
            "max.message.bytes" => put(&mut self.max_message_bytes, small()),
            "segment.bytes" => put(&mut self.segment_bytes, small()),
            "segment.ms" => put(&mut self.segment_ms, number()),
            "cleanup.policy" => put(&mut self.cleanup_policy, value.parse().ok()),
            "retention.ms" => put(&mut self.retention_ms, limit()),
            "retention.bytes" => put(&mut self.retention_bytes, limit()),
            "delete.retention.ms" => put(&mut self.delete_retention_ms, number()),
            "min.compaction.lag.ms" => put(&mut self.min_compaction_lag_ms, number()),
            "max.compaction.lag.ms" => put(&mut self.max_compaction_lag_ms, limit()),
            "min.cleanable.dirty.ratio" => put(&mut self.min_cleanable_dirty_permille, permille(value)),
            "message.timestamp.type" => put(&mut self.timestamp_type, timestamp_type(value)),
            "message.timestamp.before.max.ms" => put(&mut self.timestamp_before_max_ms, limit()),
            "message.timestamp.after.max.ms" => put(&mut self.timestamp_after_max_ms, limit()),
            "topic.durability" => put(&mut self.durability, value.parse().ok()),
            _ => put(&mut self.compression, value.parse().ok()),
        };
        done.ok_or_else(|| SettingError::Value { name, value: value.to_string(), bounds })
    }
}

fn put<T>(setting: &mut T, value: Option<T>) -> Option<()> {
    *setting = value?;
    Some(())
}

fn timestamp_type(value: &str) -> Option<TimestampType> {
    match value {
        "CreateTime" => Some(TimestampType::CreateTime),
        "LogAppendTime" => Some(TimestampType::LogAppendTime),
        _ => None,
    }
}

/// `0.5`, `1`, `0.001`: in thousandths. More zeros behind that say nothing.
fn permille(value: &str) -> Option<u32> {
    let (whole, decimals) = value.split_once('.').unwrap_or((value, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(decimals) {
        return None;
    }
    let decimals = decimals.trim_end_matches('0');
    if decimals.len() > 3 {
        return None;
    }
    let thousandths = format!("{whole}{decimals:0<3}").parse().ok()?;
    (thousandths <= 1000).then_some(thousandths)
}

impl Default for TopicConfig {
    fn default() -> Self {
        const DAY_MS: u64 = 24 * 3600 * 1000;
        TopicConfig {
            max_message_bytes: 1_048_588,
            segment_bytes: 128 * 1024 * 1024,
            segment_ms: 7 * DAY_MS,
            cleanup_policy: CleanupPolicy::Delete,
            retention_ms: None,
            retention_bytes: None,
            delete_retention_ms: DAY_MS,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: None,
            min_cleanable_dirty_permille: 500,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: None,
            timestamp_after_max_ms: None,
            durability: TopicDurability::Log,
            compression: TopicCompression::Producer,
            kept: KeptSettings::default(),
        }
    }
}

/// What becomes of old records (`cleanup.policy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CleanupPolicy {
    /// They go when they are older, or the partition is larger, than the topic's retention says.
    #[default]
    Delete,
    /// Of each key the last value stays, however old it is.
    Compact,
    /// Both.
    CompactAndDelete,
}

impl CleanupPolicy {
    /// Whether retention applies.
    pub fn deletes(self) -> bool {
        self != CleanupPolicy::Compact
    }

    /// Whether records with a later value of their key go.
    pub fn compacts(self) -> bool {
        self != CleanupPolicy::Delete
    }
}

impl fmt::Display for CleanupPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CleanupPolicy::Delete => "delete",
            CleanupPolicy::Compact => "compact",
            CleanupPolicy::CompactAndDelete => "compact,delete",
        })
    }
}

/// As Kafka takes it: `delete`, `compact`, or both with a comma between, in any order.
impl FromStr for CleanupPolicy {
    type Err = ();

    fn from_str(text: &str) -> Result<CleanupPolicy, ()> {
        match text {
            "delete" => Ok(CleanupPolicy::Delete),
            "compact" => Ok(CleanupPolicy::Compact),
            "compact,delete" | "delete,compact" => Ok(CleanupPolicy::CompactAndDelete),
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_set_from_what_it_shows() {
        let rows = TopicConfig::default().rows();
        let own = TopicConfig::default().own_rows();
        assert_eq!(own.map(|(name, _)| name), SETTINGS.map(|(name, _)| name));
        for (name, value) in rows {
            let mut config = TopicConfig::default();
            assert_eq!(config.set(name, &value), Ok(()), "{name}={value}");
            assert_eq!(config, TopicConfig::default(), "{name}={value}");
            assert!(config.set(name, "?").unwrap_err().to_string().contains(name));
        }
        assert!(matches!(TopicConfig::default().set("retention", "1"), Err(SettingError::Unknown { .. })));
    }

    #[test]
    fn kafkas_values_are_read() {
        let mut config = TopicConfig { retention_ms: Some(1), ..TopicConfig::default() };
        for (name, value) in [
            ("retention.ms", "-1"),
            ("max.compaction.lag.ms", "9223372036854775807"),
            ("min.cleanable.dirty.ratio", "0.5000"),
        ] {
            assert_eq!(config.set(name, value), Ok(()), "{name}={value}");
        }
        assert_eq!(config, TopicConfig::default());
        for (ratio, permille) in [("1", 1000), ("0", 0), ("0.001", 1), ("1.000", 1000), ("0.25", 250)] {
            config.set("min.cleanable.dirty.ratio", ratio).unwrap();
            assert_eq!(config.min_cleanable_dirty_permille, permille, "{ratio}");
        }
        for ratio in ["1.001", "2", "0.0001", "-0.5", ".5", "a", "", "0,5", "99999999999"] {
            assert!(config.set("min.cleanable.dirty.ratio", ratio).is_err(), "{ratio}");
        }
        for (name, value) in
            [("retention.ms", "-2"), ("delete.retention.ms", "-1"), ("cleanup.policy", "none")]
        {
            assert!(config.set(name, value).is_err(), "{name}={value}");
        }
    }

    #[test]
    fn a_codec_is_read_as_it_is_shown_and_kafkas_names_are_the_only_ones() {
        let names = ["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"];
        for name in names {
            let read: TopicCompression = name.parse().unwrap();
            assert_eq!(read.to_string(), name);
            assert_eq!(read.codec().is_none(), name == "producer");
        }
        for name in ["none", "ZSTD", "", "lz", "producers"] {
            assert_eq!(name.parse::<TopicCompression>(), Err(()), "{name}");
        }
    }
}
