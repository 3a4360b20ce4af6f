//! The settings of a topic in the catalogue, by Kafka's names: what stands there about each, and how its value is read.

use crate::args::duration;
use crate::settings::{Known, Scope, bytes};
use exactlog::{KEEPABLE, Keepable, TopicConfig};

const fn of_topic(
    key: &'static str,
    default: &'static str,
    bounds: &'static str,
    what: &'static str,
    costs: &'static str,
) -> Known {
    Known { key, scope: Scope::Topic, default, bounds, what, costs }
}

pub(crate) const TOPIC_SETTINGS: [Known; 15] = [
    of_topic(
        "max.message.bytes",
        "1048588",
        "1024 to 16777216",
        "Largest batch, and so the largest event, of a topic (as Kafka's).",
        "Memory of readers: a batch is read whole.",
    ),
    of_topic(
        "segment.bytes",
        "134217728",
        "4096 to 2147483647",
        "Size at which a segment is closed (as Kafka's).",
        "Space is freed by whole segments: a small one frees it sooner, and makes more files.",
    ),
    of_topic(
        "segment.ms",
        "604800000",
        "a time of 1 ms to 36600 days (100 years)",
        "Span of time of its records at which a segment is closed (as Kafka's).",
        "As segment.bytes.",
    ),
    of_topic(
        "cleanup.policy",
        "delete",
        "delete, compact, or compact,delete",
        "What becomes of old records: delete, by retention; compact, of each key the last value stays.",
        "Compaction reads and writes a partition again now and then.",
    ),
    of_topic(
        "retention.ms",
        "-1",
        "-1, or a time of up to 36600 days (100 years)",
        "Age from which records may go, if the policy deletes; -1: never (Kafka's default is 7 days).",
        "Records are gone for whoever comes later. They go by whole closed segments, so later than this.",
    ),
    of_topic(
        "retention.bytes",
        "-1",
        "-1, or a size of up to 2^63 - 1 bytes",
        "Size of a partition from which its oldest records may go, if the policy deletes; -1: never (as Kafka's).",
        "As retention.ms.",
    ),
    of_topic(
        "delete.retention.ms",
        "86400000",
        "a time of up to 36600 days (100 years)",
        "How long a tombstone stays after it was first compacted (as Kafka's).",
        "Who reads a compacted topic from its start needs less time than this, or misses that a key is gone.",
    ),
    of_topic(
        "min.compaction.lag.ms",
        "0",
        "a time of up to 36600 days (100 years)",
        "Age below which records are not compacted (as Kafka's).",
        "Space, for as long.",
    ),
    of_topic(
        "max.compaction.lag.ms",
        "-1",
        "-1, or a time of 1 ms to 36600 days (100 years), no less than min.compaction.lag.ms",
        "Age from which records are compacted even if that gains little; -1: none (as Kafka's).",
        "More writing.",
    ),
    of_topic(
        "min.cleanable.dirty.ratio",
        "0.5",
        "0 to 1, with at most three decimals",
        "Share of a partition that isn't compacted yet from which it is compacted (as Kafka's).",
        "Less means less space, and more writing.",
    ),
    of_topic(
        "message.timestamp.type",
        "CreateTime",
        "CreateTime or LogAppendTime",
        "Whose time records have: their sender's, or that of the append (as Kafka's).",
        "LogAppendTime computes the checksum of each batch once more.",
    ),
    of_topic(
        "message.timestamp.before.max.ms",
        "-1",
        "-1, or a time of up to 36600 days (100 years)",
        "Refuses batches that begin with an older record than this; -1: none.",
        "Old records can't be brought in.",
    ),
    of_topic(
        "message.timestamp.after.max.ms",
        "-1",
        "-1, or a time of up to 36600 days (100 years)",
        "Refuses batches with a record further in the future than this; -1: none (Kafka's default is 1 hour).",
        "Without it one record with a wrong time keeps its segment from getting old.",
    ),
    of_topic(
        "topic.durability",
        "log",
        "log or os",
        "When what is sent to the topic is safe: as the log's durability says, or with the operating system.",
        "os: a power loss takes what was acknowledged last. Transactions are as safe as the log says.",
    ),
    of_topic(
        "compression.type",
        "producer",
        "producer, uncompressed, gzip, snappy, lz4 or zstd",
        "The codec of what is stored from now on, whatever producers say; producer: as each batch comes.",
        "Time of whoever writes. With a codec the largest event is 64 bytes and 3.2 % below max.message.bytes.",
    ),
];

/// Those that are kept for Kafka's clients.
pub(crate) const KEPT_SETTINGS: [Known; KEEPABLE.len()] = {
    let mut all = [of_kept(&KEEPABLE[0]); KEEPABLE.len()];
    let mut nth = 1;
    while nth < all.len() {
        all[nth] = of_kept(&KEEPABLE[nth]);
        nth += 1;
    }
    all
};

const fn of_kept(keepable: &Keepable) -> Known {
    let Keepable { name, default, bounds, .. } = *keepable;
    of_topic(
        name,
        default,
        bounds,
        "Kept for Kafka's clients, who find it again.",
        "Nothing, and changes nothing.",
    )
}

/// Reads the value of one of them, which may have a unit here: `7d`, `1GiB`. False if it can't be one, or is out of its
/// bounds.
pub(crate) fn set(config: &mut TopicConfig, key: &str, value: &str) -> bool {
    let plain = match key {
        _ if key.ends_with(".ms") => duration(value).ok().map(|it| it.as_millis().to_string()),
        _ if key.ends_with(".bytes") => bytes(value).map(|bytes| bytes.to_string()),
        _ => None,
    };
    let put = |config: &mut TopicConfig| {
        config.set(key, value).is_ok() || plain.as_ref().is_some_and(|plain| config.set(key, plain).is_ok())
    };
    // By itself: how two settings go together is left to the log, which checks this as well, but only when something is
    // to be done, and without the words that stand here.
    let mut alone = TopicConfig::default();
    put(&mut alone) && alone.check().is_ok() && put(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minus_one_is_no_limit_where_there_may_be_none() {
        let mut config = TopicConfig { retention_ms: Some(1), ..TopicConfig::default() };
        assert!(set(&mut config, "retention.ms", "-1"));
        assert_eq!(config, TopicConfig::default());
        assert!(set(&mut config, "retention.ms", "7d"));
        assert_eq!(config.retention_ms, Some(604_800_000));
        assert!(set(&mut config, "retention.bytes", "1GiB"));
        assert_eq!(config.retention_bytes, Some(1 << 30));
        for (key, value) in
            [("retention.ms", "-2"), ("delete.retention.ms", "-1"), ("cleanup.policy", "none")]
        {
            assert!(!set(&mut config, key, value), "{key}={value}");
        }
    }

    /// The ends are those of the log: of `TopicConfig::check`.
    #[test]
    fn the_ends_of_bounds_are_taken_and_what_lies_behind_them_is_not() {
        let longest = 100 * 366 * 24 * 3_600_000_u64;
        for (key, least, most) in [
            ("max.message.bytes", 1024, 16 << 20),
            ("segment.bytes", 4096, i32::MAX as u64),
            ("segment.ms", 1, longest),
            ("retention.ms", 0, longest),
            ("retention.bytes", 0, i64::MAX as u64),
            ("delete.retention.ms", 0, longest),
            ("min.compaction.lag.ms", 0, longest),
            ("max.compaction.lag.ms", 1, longest),
            ("message.timestamp.before.max.ms", 0, longest),
            ("message.timestamp.after.max.ms", 0, longest),
        ] {
            let takes = |value: u64| set(&mut TopicConfig::default(), key, &value.to_string());
            assert!(takes(least) && takes(most), "{key}: {least} to {most}");
            assert!(!takes(most + 1), "{key}={}", most + 1);
            assert!(least == 0 || !takes(least - 1), "{key}={}", least - 1);
        }
        assert!(set(&mut TopicConfig::default(), "retention.ms", "36600d"));
        assert!(!set(&mut TopicConfig::default(), "retention.ms", "36601d"));
    }
}
