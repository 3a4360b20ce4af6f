//! What producers and consumers count, by their names: a name goes on counting when another one takes it.
//!
//! Invariants
//!   * names are bounded: those that come when there are [`NAMES_MAX`] count together, under `other`

use crate::error::Error;
use crate::histogram::Histogram;
use crate::metrics::add;
use exactlog_core::ids::TopicId;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// Most names of a kind.
const NAMES_MAX: usize = 1_000;

/// What those count whose names came too late.
const OTHER: &str = "other";

/// What a producer of a name has sent.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    pub(crate) records: AtomicU64,
    pub(crate) bytes: AtomicU64,
    /// From the first record of a batch, or the commit, to its answer.
    pub(crate) took: Histogram,
    /// Records that were answered by an error, by its code.
    pub(crate) errors: Mutex<BTreeMap<i16, u64>>,
}

/// What a group has been given.
#[derive(Debug, Default)]
pub(crate) struct Consumed {
    pub(crate) records: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) errors: AtomicU64,
    /// From a record's timestamp until it was handed out: that of the last one of each batch.
    pub(crate) age: Histogram,
}

/// What a topic was given and has given.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) records_in: u64,
    pub(crate) bytes_in: u64,
    pub(crate) records_out: u64,
    pub(crate) bytes_out: u64,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    producers: Mutex<BTreeMap<String, Arc<Sent>>>,
    groups: Mutex<BTreeMap<String, Arc<Consumed>>>,
    topics: Mutex<HashMap<TopicId, Traffic>>,
}

impl Sent {
    pub(crate) fn answered<T>(&self, answer: &Result<T, Error>, records: u64, bytes: u64, took: Duration) {
        match answer {
            Ok(_) => {
                add(&self.records, records);
                add(&self.bytes, bytes);
                self.took.observe_many(took, records);
            }
            Err(error) => *self.errors.lock().entry(error.kafka_code()).or_default() += records,
        }
    }
}

impl Clients {
    pub(crate) fn producer(&self, name: &str) -> Arc<Sent> {
        of_name(&self.producers, name)
    }

    pub(crate) fn group(&self, name: &str) -> Arc<Consumed> {
        of_name(&self.groups, name)
    }

    /// Adds to what topics have counted.
    pub(crate) fn add(&self, traffic: impl IntoIterator<Item = (TopicId, Traffic)>) {
        let mut topics = self.topics.lock();
        for (topic, more) in traffic {
            let known = topics.entry(topic).or_default();
            known.records_in += more.records_in;
            known.bytes_in += more.bytes_in;
            known.records_out += more.records_out;
            known.bytes_out += more.bytes_out;
        }
    }

    pub(crate) fn each_producer(&self, see: impl FnMut((&String, &Arc<Sent>))) {
        self.producers.lock().iter().for_each(see);
    }

    pub(crate) fn each_group(&self, see: impl FnMut((&String, &Arc<Consumed>))) {
        self.groups.lock().iter().for_each(see);
    }

    /// Of topics that are there; the others are forgotten.
    pub(crate) fn traffic(&self, is_there: impl Fn(TopicId) -> bool) -> HashMap<TopicId, Traffic> {
        let mut topics = self.topics.lock();
        topics.retain(|topic, _| is_there(*topic));
        topics.clone()
    }
}

fn of_name<T: Default>(names: &Mutex<BTreeMap<String, Arc<T>>>, name: &str) -> Arc<T> {
    let mut names = names.lock();
    if let Some(known) = names.get(name) {
        return known.clone();
    }
    let name = if names.len() < NAMES_MAX { name } else { OTHER };
    names.entry(name.to_string()).or_default().clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::read;

    #[test]
    fn names_are_bounded() {
        let clients = Clients::default();
        let first = clients.producer("0");
        (0..2 * NAMES_MAX).for_each(|n| add(&clients.producer(&n.to_string()).records, 1));
        assert!(Arc::ptr_eq(&first, &clients.producer("0")));
        let mut counted = BTreeMap::new();
        clients.each_producer(|(name, sent)| _ = counted.insert(name.clone(), read(&sent.records)));
        assert_eq!((counted.len(), counted[OTHER], counted["0"]), (NAMES_MAX + 1, NAMES_MAX as u64, 1));
    }
}
