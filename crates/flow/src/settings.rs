//! What a processor is told, checked once, and the order in which it is done.

use crate::attempt::Handler;
use crate::breaker::Breaker;
use crate::dead_letter::DeadLetter;
use crate::dedup::{Dedup, DedupBy};
use crate::error::Error;
use crate::replay::Plan;
use crate::retry::Retry;
use crate::throttle::Throttle;
use exactlog::Record;
use std::collections::BTreeSet;
use std::fmt::{self, Debug, Write};
use std::sync::Arc;
use std::time::Duration;

/// The settings of a processor.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) group: Arc<str>,
    pub(crate) name: String,
    pub(crate) retry: Retry,
    pub(crate) dedup: Option<Dedup>,
    pub(crate) dead_letter: DeadLetter,
    pub(crate) throttle: Option<Throttle>,
    pub(crate) breaker: Option<Breaker>,
    pub(crate) timeout: Duration,
    pub(crate) concurrency: usize,
    pub(crate) batch_max: usize,
    pub(crate) max_poll_interval: Duration,
    pub(crate) span_name: Option<SpanName>,
    pub(crate) replay: Option<Arc<Plan>>,
    /// Topics that are read as dead letters.
    pub(crate) letters: BTreeSet<String>,
}

/// What the span of an attempt is called.
#[derive(Clone)]
pub(crate) struct SpanName(pub(crate) Arc<dyn Fn(&Record) -> String + Send + Sync>);

impl Debug for SpanName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SpanName(..)")
    }
}

impl Settings {
    pub(crate) fn new(group: &str) -> Settings {
        Settings {
            group: group.into(),
            name: group.to_string(),
            retry: Retry::default(),
            dedup: Some(Dedup::default()),
            dead_letter: DeadLetter::default(),
            throttle: None,
            breaker: None,
            timeout: Duration::from_secs(30),
            concurrency: 64,
            batch_max: 500,
            max_poll_interval: Duration::from_secs(300),
            span_name: None,
            replay: None,
            letters: BTreeSet::new(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        self.retry.check()?;
        if let Some(dedup) = &self.dedup {
            dedup.check()?;
        }
        if let Some(throttle) = &self.throttle {
            throttle.check()?;
        }
        if self.timeout.is_zero() {
            return Err(Error::setting("handler.timeout.ms", "0", "more than 0"));
        }
        if self.concurrency == 0 {
            return Err(Error::setting("concurrency", "0", "at least 1"));
        }
        if self.batch_max == 0 {
            return Err(Error::setting("max.poll.records", "0", "at least 1"));
        }
        Ok(())
    }

    /// In which scope an event of a topic is marked.
    pub(crate) fn scope(&self, topic: &str) -> Option<String> {
        let dedup = self.dedup.as_ref()?;
        Some(match dedup.scope {
            DedupBy::Group => self.group.to_string(),
            DedupBy::Topic => format!("{}.{topic}", self.group),
        })
    }

    pub(crate) fn describe(&self, topics: &[String]) -> String {
        let mut text = String::new();
        let mut line = |name: &str, what: String| _ = writeln!(text, "{name:<12} {what}");
        line("group", format!("{} reads {}", self.group, topics.join(", ")));
        line("commit", format!("at most {} events, all of their effects at once", self.batch_max));
        let throttle = |it: &Throttle| format!("at most {} events in {:?}", it.events, it.per);
        line("throttle", self.throttle.as_ref().map_or("none".to_string(), throttle));
        line("breaker", self.breaker.as_ref().map_or("none".to_string(), |it| it.name().to_string()));
        line(
            "dedup",
            match &self.dedup {
                None => "off".to_string(),
                Some(dedup) => {
                    let scope = match dedup.scope {
                        DedupBy::Group => "group",
                        DedupBy::Topic => "topic",
                    };
                    let lease =
                        dedup.lease.map_or(String::new(), |lease| format!(", reserved for {lease:?}"));
                    format!("by {}, within the {scope}{lease}", dedup.source())
                }
            },
        );
        let (letters, others): (Vec<&String>, Vec<&String>) =
            topics.iter().partition(|topic| self.letters.contains(*topic));
        let dead =
            others.iter().map(|topic| format!("to {}", self.dead_letter.topic_for(topic, &self.group)));
        let stay = letters.iter().map(|topic| format!("stays in {topic}"));
        line("dead letter", dead.chain(stay).collect::<Vec<_>>().join(", "));
        let at: Vec<String> = self.retry.schedule().iter().map(|at| format!("{at:?}")).collect();
        let shown = if at.len() > 10 { format!("{}, ..", at[..10].join(", ")) } else { at.join(", ") };
        line("retry", format!("{}, attempts at {shown}", self.retry.mode));
        line("timeout", format!("{:?}", self.timeout));
        line("panic", "is a failure".to_string());
        line("handler", format!("{}, {} keys at a time", self.name, self.concurrency));
        text
    }
}

/// Settings and what is done by them.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) settings: Arc<Settings>,
    pub(crate) handler: Arc<dyn Handler>,
}
