//! Which events are the same one, and what is done about copies.

use crate::error::Error;
use bytes::Bytes;
use exactlog::{EventId, Record};
use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::Duration;

/// Headers that have an event's id, the first one that is there counts: CloudEvents' binary mode, then the usual name.
const ID_HEADERS: [&str; 2] = ["ce_id", "message-id"];
/// Headers that have an event's type.
const TYPE_HEADERS: [&str; 2] = ["ce_type", "type"];

type Find = Arc<dyn Fn(&Record) -> Option<EventId> + Send + Sync>;

/// Where the id of an event comes from.
#[derive(Clone)]
enum Source {
    Headers,
    Header(String),
    Key,
    Function(Find),
}

/// Each event is processed once, however often it comes: by its id, which is marked in the commit of its effects.
///
/// A failure, an abort and a dead letter leave no mark: a retry, a redrive or a later copy is processed. An event
/// without an id counts once by its position.
///
/// Ids come from the header `ce_id` (CloudEvents), then `message-id`, unless something else is said. They are
/// remembered for seven days ([`Log::set_dedup_limits`](exactlog::Log::set_dedup_limits), `dedup.ttl.ms`).
#[derive(Clone)]
pub struct Dedup {
    source: Source,
    pub(crate) scope: DedupBy,
    pub(crate) lease: Option<Duration>,
}

/// Among what an id is unique.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DedupBy {
    /// What the group processes, whatever topic it comes from. The default.
    #[default]
    Group,
    /// What the group processes of one topic.
    Topic,
}

impl Default for Dedup {
    fn default() -> Self {
        Dedup { source: Source::Headers, scope: DedupBy::Group, lease: None }
    }
}

impl Debug for Dedup {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Dedup {{ by {}, scope {:?}, lease {:?} }}", self.source(), self.scope, self.lease)
    }
}

impl Dedup {
    /// The id is in this header.
    pub fn by_header(name: impl Into<String>) -> Dedup {
        Dedup { source: Source::Header(name.into()), ..Dedup::default() }
    }

    /// The key is the id.
    pub fn by_key() -> Dedup {
        Dedup { source: Source::Key, ..Dedup::default() }
    }

    /// The id is what this function finds.
    pub fn by(find: impl Fn(&Record) -> Option<EventId> + Send + Sync + 'static) -> Dedup {
        Dedup { source: Source::Function(Arc::new(find)), ..Dedup::default() }
    }

    /// Among what an id is unique (`dedup.scope`).
    #[must_use]
    pub fn scope(mut self, scope: DedupBy) -> Dedup {
        self.scope = scope;
        self
    }

    /// For effects outside of the log (`dedup.lease.ms`): the id is reserved before the handler runs, for so long, and
    /// finished by the commit. Of several copies one runs at a time, and the others wait until it is done or its lease
    /// is over. It has to last until the round is committed: choose it
    /// longer than the slowest handlers of a round take. It costs a sync more for each event.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Dedup {
        self.lease = Some(lease);
        self
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        const DAY: Duration = Duration::from_secs(86_400);
        match self.lease {
            Some(lease) if lease < Duration::from_millis(1) || lease > DAY => {
                Err(Error::setting("dedup.lease.ms", format!("{lease:?}"), "1 ms to a day"))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn id(&self, record: &Record) -> Option<EventId> {
        match &self.source {
            Source::Headers => ID_HEADERS.iter().find_map(|name| header(record, name)).and_then(id_of),
            Source::Header(name) => header(record, name).and_then(id_of),
            Source::Key => record.key.as_ref().and_then(id_of),
            Source::Function(find) => find(record),
        }
    }

    pub(crate) fn source(&self) -> String {
        match &self.source {
            Source::Headers => format!("header {} or {}", ID_HEADERS[0], ID_HEADERS[1]),
            Source::Header(name) => format!("header {name}"),
            Source::Key => "key".to_string(),
            Source::Function(_) => "a function".to_string(),
        }
    }
}

/// Among what the ids of each topic's events are unique: few names, so events have a number instead of one.
#[derive(Debug, Default)]
pub(crate) struct Scopes {
    names: Vec<String>,
    of_topics: BTreeMap<Arc<str>, usize>,
}

impl Scopes {
    /// Of topics and their scopes.
    pub(crate) fn new(scopes: impl Iterator<Item = (Arc<str>, String)>) -> Scopes {
        let (mut names, mut of_topics) = (Vec::new(), BTreeMap::new());
        for (topic, scope) in scopes {
            let at = names.iter().position(|known| *known == scope).unwrap_or_else(|| {
                names.push(scope);
                names.len() - 1
            });
            of_topics.insert(topic, at);
        }
        Scopes { names, of_topics }
    }

    /// Number of a topic's scope.
    pub(crate) fn of(&self, topic: &str) -> Option<usize> {
        self.of_topics.get(topic).copied()
    }

    /// The scope of this number.
    pub(crate) fn name(&self, number: usize) -> &str {
        &self.names[number]
    }
}

/// The first header of this name that has a value: without a copy of that.
pub(crate) fn header<'r>(record: &'r Record, name: &str) -> Option<&'r Bytes> {
    record.headers.iter().find(|it| *it.key == *name.as_bytes())?.value.as_ref()
}

fn id_of(bytes: &Bytes) -> Option<EventId> {
    (!bytes.is_empty()).then(|| EventId::from(bytes.clone()))
}

/// The id that an event carries in one of the usual headers.
pub(crate) fn named_id(record: &Record) -> Option<&[u8]> {
    ID_HEADERS.iter().find_map(|name| record.header(name)).filter(|id| !id.is_empty())
}

/// The type that an event carries in one of the usual headers.
pub(crate) fn event_type(record: &Record) -> Option<&str> {
    let found = TYPE_HEADERS.iter().find_map(|name| record.header(name))?;
    std::str::from_utf8(found).ok()
}

/// What an event is called: the id that it carries, or else its position.
pub(crate) fn event_id(record: &Record) -> String {
    match named_id(record) {
        Some(id) => String::from_utf8_lossy(id).into_owned(),
        None => position_id(record),
    }
}

/// What an event is called in logs, and what stands for its id if it has none: topic, partition and offset.
fn position_id(record: &Record) -> String {
    format!("{}/{}/{}", record.topic, record.partition, record.offset)
}
