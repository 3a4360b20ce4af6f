//! The one catalogue of settings: what `-X` and `--config` take, and what `config list` and `explain` say.

use crate::args::duration;
use crate::failure::Failure;
use crate::node_settings::NODE_SETTINGS;
use crate::suggest;
use crate::topic_settings::{self, KEPT_SETTINGS, TOPIC_SETTINGS};
use exactlog::{Builder, Durability, TopicConfig, TopicOptions};
use std::str::FromStr;
use std::time::Duration;

/// `KEY=VALUE`. Whether there is such a key is checked later, to say it well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) key: String,
    pub(crate) value: String,
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Setting, String> {
        let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} isn't KEY=VALUE"))?;
        Ok(Setting { key: key.to_string(), value: value.to_string() })
    }
}

/// What a setting belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The log, for as long as it is open: `-X`.
    Log,
    /// A topic: `topic create --config`.
    Topic,
    /// A node, for as long as it runs: `serve -X`.
    Node,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) key: &'static str,
    pub(crate) scope: Scope,
    pub(crate) default: &'static str,
    pub(crate) bounds: &'static str,
    pub(crate) what: &'static str,
    pub(crate) costs: &'static str,
}

/// All settings that can be set from here.
pub(crate) fn catalogue() -> impl Iterator<Item = &'static Known> {
    LOG_SETTINGS.iter().chain(&TOPIC_SETTINGS).chain(&KEPT_SETTINGS).chain(&NODE_SETTINGS)
}

const LOG_SETTINGS: [Known; 8] = [
    Known {
        key: "durability",
        scope: Scope::Log,
        default: "fsync",
        bounds: "fsync, os, or interval:MS with 1 to 3600000 ms",
        what: "When an acknowledgement is given: fsync, when it is on disk; os, when the operating system has it; \
               interval:MS, as os, and it is on disk MS milliseconds and one sync later.",
        costs: "fsync costs a sync per group of writers that wait; the others lose the newest events with the power.",
    },
    Known {
        key: "journal.file.bytes",
        scope: Scope::Log,
        default: "67108864",
        bounds: "at least 1 MiB",
        what: "Size of a journal file.",
        costs: "One file ahead is always prepared. A transaction has to fit into one file.",
    },
    Known {
        key: "journal.ring.bytes",
        scope: Scope::Log,
        default: "1073741824",
        bounds: "at least four times journal.file.bytes",
        what: "Most bytes that journal files take together.",
        costs: "Disk space. When it is reached writers wait until the oldest file is in segments.",
    },
    Known {
        key: "checkpoint.bytes",
        scope: Scope::Log,
        default: "134217728",
        bounds: "0 to 2^64 - 1 bytes",
        what: "How much the journal grows between checkpoints.",
        costs: "Less means a faster open after a kill, and more writing behind.",
    },
    Known {
        key: "tail.cache.bytes",
        scope: Scope::Log,
        default: "67108864",
        bounds: "0 to 2^64 - 1 bytes",
        what: "Most bytes of recent events kept in memory for consumers at the end.",
        costs: "Memory. Consumers that are further behind read from disk.",
    },
    Known {
        key: "queue.bytes",
        scope: Scope::Log,
        default: "4194304",
        bounds: "0 to 2^64 - 1 bytes",
        what: "Most bytes that wait to be written before senders wait.",
        costs: "Memory, and the time that the newest event in it waits.",
    },
    Known {
        key: "dedup.memory.entries",
        scope: Scope::Log,
        default: "200000",
        bounds: "0 to 2^64 - 1",
        what: "Ids of events kept in memory: when there are more, they go into sorted files that are looked up.",
        costs: "About 115 bytes of memory each, and 36 in each checkpoint; on disk each takes 3.2 bytes of memory.",
    },
    Known {
        key: "log.retention.check.interval.ms",
        scope: Scope::Log,
        default: "300000",
        bounds: "a time, at least 1 ms",
        what: "How often old records are looked for, to let them go or compact them (as Kafka's).",
        costs: "Less means that space is freed sooner.",
    },
];

pub(crate) fn known(key: &str) -> Option<&'static Known> {
    catalogue().find(|known| known.key == key)
}

pub(crate) fn unknown(key: &str, scope: Option<Scope>) -> Failure {
    let keys = catalogue().filter(|known| scope.is_none_or(|scope| known.scope == scope));
    let hint = match key {
        // Kafka's names of what has a flag here.
        "listeners" => "exactlog serve --listen ADDRESS:PORT says where a node listens".to_string(),
        "log.dir" | "log.dirs" => "--data DIR names the directory of the log".to_string(),
        _ => suggest::sentence(key, keys.map(|known| known.key), "exactlog config list shows all of them"),
    };
    Failure { exit: 2, ..Failure::new("SETTING", format!("there is no setting {key:?}")) }.hint(hint)
}

pub(crate) fn of_scope(setting: &Setting, scope: Scope) -> Result<&'static Known, Failure> {
    let found = known(&setting.key).ok_or_else(|| unknown(&setting.key, Some(scope)))?;
    if found.scope != scope {
        let (is, flag) = match found.scope {
            Scope::Log => ("the log", "-X"),
            Scope::Topic => ("a topic", "topic create --config"),
            Scope::Node => ("a node", "serve -X"),
        };
        let message = format!("{} is a setting of {is}", found.key);
        let failure = Failure { exit: 2, ..Failure::new("SETTING", message) };
        let own = known(&format!("topic.{}", found.key)).filter(|_| scope == Scope::Topic);
        return Err(failure.hint(match own {
            Some(own) => format!("a topic has {}, which is {}", own.key, own.bounds),
            None => format!("{flag} {}=...", found.key),
        }));
    }
    Ok(found)
}

pub(crate) fn refused(setting: &Setting, known: &Known) -> Failure {
    let message = format!("setting {} is {:?}; it must be {}", known.key, setting.value, known.bounds);
    Failure { exit: 2, ..Failure::new("SETTING", message) }
}

/// Refuses a setting that is given twice: which one was meant isn't known.
pub(crate) fn check_once(settings: &[Setting]) -> Result<(), Failure> {
    for (nth, setting) in settings.iter().enumerate() {
        if let Some(before) = settings[..nth].iter().find(|before| before.key == setting.key) {
            let Setting { key, value } = setting;
            let message = format!("setting {key} is given twice: {:?} and {value:?}", before.value);
            return Err(Failure { exit: 2, ..Failure::new("SETTING", message) }.hint("name it once"));
        }
    }
    Ok(())
}

/// Refuses settings that there are not, also where they aren't used.
pub(crate) fn check(settings: &[Setting]) -> Result<(), Failure> {
    apply_to_log(Builder::default(), settings).map(|_| ())
}

/// `fsync`, `os`, `interval:250`.
fn durability(text: &str) -> Option<Durability> {
    match (text, text.strip_prefix("interval:")) {
        ("fsync", _) => Some(Durability::Fsync),
        ("os", _) => Some(Durability::Os),
        (_, Some(ms)) => {
            let ms = ms.parse().ok().filter(|ms| (1..=3_600_000).contains(ms))?;
            Some(Durability::Interval(Duration::from_millis(ms)))
        }
        _ => None,
    }
}

/// Those of the log, and those of a node, which `serve` takes both.
pub(crate) fn of_log_and_node(settings: &[Setting]) -> Result<(Vec<Setting>, Vec<Setting>), Failure> {
    if let Some(setting) = settings.iter().find(|setting| known(&setting.key).is_none()) {
        return Err(unknown(&setting.key, None));
    }
    let is_of_node = |setting: &Setting| known(&setting.key).is_some_and(|it| it.scope == Scope::Node);
    let (node, log) = settings.iter().cloned().partition(is_of_node);
    Ok((log, node))
}

/// Settings of `-X`.
pub(crate) fn apply_to_log(mut builder: Builder, settings: &[Setting]) -> Result<Builder, Failure> {
    check_once(settings)?;
    for setting in settings {
        let known = of_scope(setting, Scope::Log)?;
        let bytes = || bytes(&setting.value).ok_or_else(|| refused(setting, known));
        builder = match known.key {
            "durability" => {
                builder.durability(durability(&setting.value).ok_or_else(|| refused(setting, known))?)
            }
            "journal.file.bytes" => builder.journal_file_bytes(bytes()?),
            "journal.ring.bytes" => builder.journal_ring_bytes(bytes()?),
            "checkpoint.bytes" => builder.checkpoint_bytes(bytes()?),
            "tail.cache.bytes" => builder.tail_cache_bytes(bytes()?),
            "log.retention.check.interval.ms" => {
                let ms = setting.value.parse().ok().map(Duration::from_millis);
                let interval = ms.or_else(|| duration(&setting.value).ok()).filter(|it| !it.is_zero());
                builder.cleanup_interval(interval.ok_or_else(|| refused(setting, known))?)
            }
            "dedup.memory.entries" => builder.dedup_memory_entries(bytes()?),
            _ => builder.queue_bytes(usize::try_from(bytes()?).map_err(|_| refused(setting, known))?),
        };
    }
    Ok(builder)
}

/// Settings of `topic create --config`.
pub(crate) fn apply_to_topic(
    mut options: TopicOptions,
    settings: &[Setting],
) -> Result<TopicOptions, Failure> {
    apply_to_config(&mut options.config, settings)?;
    Ok(options)
}

/// Settings of `topic alter --config`, which change some and leave the others.
pub(crate) fn apply_to_config(config: &mut TopicConfig, settings: &[Setting]) -> Result<(), Failure> {
    check_once(settings)?;
    for setting in settings {
        let known = of_scope(setting, Scope::Topic)?;
        if !topic_settings::set(config, known.key, &setting.value) {
            return Err(refused(setting, known));
        }
    }
    Ok(())
}

/// `4096`, `64KiB`, `64MiB`, `1GiB`.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn setting(text: &str) -> Setting {
        text.parse().unwrap()
    }

    #[test]
    fn every_setting_takes_its_default() {
        for known in catalogue() {
            let setting = setting(&format!("{}={}", known.key, known.default));
            match known.scope {
                Scope::Node => {
                    let set =
                        crate::node_settings::apply(exactlog_broker::NodeOptions::default(), &[setting]);
                    let default = exactlog_broker::NodeOptions::default();
                    assert_eq!(format!("{:?}", set.unwrap()), format!("{default:?}"), "{}", known.key);
                }
                Scope::Log => drop(apply_to_log(Builder::default(), &[setting]).unwrap()),
                Scope::Topic => {
                    let options = apply_to_topic(TopicOptions::default(), &[setting]).unwrap();
                    assert_eq!(options, TopicOptions::default(), "{}", known.key);
                }
            }
        }
    }

    #[test]
    fn the_defaults_of_the_log_are_those_of_the_builder() {
        let settings: Vec<Setting> = catalogue()
            .filter(|known| known.scope == Scope::Log)
            .map(|known| setting(&format!("{}={}", known.key, known.default)))
            .collect();
        let set = apply_to_log(Builder::default(), &settings).unwrap();
        assert_eq!(format!("{set:?}"), format!("{:?}", Builder::default()));
    }

    #[test]
    fn what_a_setting_cannot_be_is_refused_with_its_bounds() {
        for text in [
            "durability=none",
            "durability=interval",
            "durability=interval:0",
            "durability=interval:2h",
            "queue.bytes=much",
            "journal.file.bytes=-1",
            "tail.cache.bytes=1TB",
        ] {
            let failure = apply_to_log(Builder::default(), &[setting(text)]).unwrap_err();
            assert_eq!((failure.code, failure.exit), ("SETTING", 2), "{text}");
        }
        for text in [
            "segment.ms=soon",
            "segment.bytes=5000000000",
            "max.message.bytes=",
            "retention.ms=-2",
            "topic.durability=fsync",
            "compression.type=none",
            "compression.type=zip",
        ] {
            assert!(apply_to_topic(TopicOptions::default(), &[setting(text)]).is_err(), "{text}");
        }
        let failure = apply_to_log(Builder::default(), &[setting("jurnal.file.bytes=1")]).unwrap_err();
        assert_eq!(failure.hint.unwrap(), "did you mean \"journal.file.bytes\"?");
        let failure = apply_to_topic(TopicOptions::default(), &[setting("compresion.type=zstd")]);
        assert_eq!(failure.unwrap_err().hint.unwrap(), "did you mean \"compression.type\"?");
        let options = apply_to_topic(TopicOptions::default(), &[setting("compression.type=zstd")]).unwrap();
        assert_eq!(options, TopicOptions::default().compression(exactlog::Compression::Zstd));
        let failure = apply_to_log(Builder::default(), &[setting("segment.ms=1")]).unwrap_err();
        assert!(failure.hint.unwrap().contains("topic create"));
        assert_eq!(bytes("64MiB"), Some(64 << 20));
        assert_eq!(bytes("18446744073709551615KiB"), None);
    }
}
