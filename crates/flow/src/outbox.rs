//! What the attempts of one commit have handed in, and what they have read.
//!
//! Events of one commit run beside each other, and each has to see what those before it have written. So each write
//! that is to be committed has a number here, an attempt notes what it has read by it, and only one whose reads are
//! still right when it ends becomes a part of the commit.
//!
//! Invariants
//!   * the commit is the same as if its events had been processed one by one, in the order in which they ended

use crate::failure::Failure;
use bytes::Bytes;
use exactlog::{Event, Record, RecordHeader, Table, TimerId, Topic, TopicId};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::time::Duration;

/// A key of a table.
type Place = (TopicId, Bytes);

/// Which version of a key was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    /// The table's: the csn of its last write; `None`: it isn't there.
    Stored(Option<u64>),
    /// A write of the commit that is being made.
    Staged(u64),
}

#[derive(Clone, Debug)]
struct Read {
    table: Table,
    version: Version,
}

#[derive(Clone, Debug)]
struct Write {
    table: Table,
    value: Option<Bytes>,
}

/// An event to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub(crate) topic: Topic,
    pub(crate) partition: Option<u32>,
    pub(crate) event: Event,
    pub(crate) delay: Option<Duration>,
}

/// A record to be sent on as it is.
#[derive(Clone, Debug)]
pub(crate) struct Forwarded {
    pub(crate) topic: Topic,
    pub(crate) record: Record,
}

/// What becomes of an event when its handler has succeeded.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// It is done, with this outcome.
    Done(&'static str),
    /// Its handler is called again after a while, for what comes next.
    Again { after: Duration, failure: Option<Failure> },
    /// It is a copy of one that is done, or on its way.
    Duplicate,
    /// It is given up.
    Dead(Failure),
}

/// The outputs of one attempt. Most events have none, and are moved about a lot: so it is small.
#[derive(Debug, Default)]
pub(crate) struct Outbox(Option<Box<Handed>>);

/// What an attempt has handed in.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) outputs: Vec<Output>,
    pub(crate) forwarded: Vec<Forwarded>,
    pub(crate) cancelled: Vec<TimerId>,
    end: End,
    /// Headers that each event gets that is sent from now on.
    stamp: Vec<(&'static str, Bytes)>,
    writes: BTreeMap<Place, Write>,
    reads: BTreeMap<Place, Read>,
}

impl Default for Handed {
    fn default() -> Self {
        Handed {
            outputs: Vec::new(),
            forwarded: Vec::new(),
            cancelled: Vec::new(),
            end: End::Done("ok"),
            stamp: Vec::new(),
            writes: BTreeMap::new(),
            reads: BTreeMap::new(),
        }
    }
}

impl Outbox {
    /// One whose events all have these headers.
    pub(crate) fn stamping(stamp: Vec<(&'static str, Bytes)>) -> Outbox {
        Outbox((!stamp.is_empty()).then(|| Box::new(Handed { stamp, ..Handed::default() })))
    }

    /// What was handed in, if anything was.
    pub(crate) fn into_handed(self) -> Option<Box<Handed>> {
        self.0
    }

    fn handed(&mut self) -> &mut Handed {
        self.0.get_or_insert_default()
    }

    /// How its event ends.
    pub(crate) fn end(&self) -> &End {
        const USUAL: &End = &End::Done("ok");
        self.0.as_ref().map_or(USUAL, |handed| &handed.end)
    }

    pub(crate) fn set_end(&mut self, end: End) {
        self.handed().end = end;
    }

    /// Gives each event that is sent from now on these headers, too.
    pub(crate) fn stamp(&mut self, headers: Vec<(&'static str, Bytes)>) {
        self.handed().stamp.extend(headers);
    }

    pub(crate) fn send(&mut self, topic: &Topic, partition: Option<u32>, event: Event) {
        let handed = self.handed();
        let event = handed.stamped(event);
        handed.outputs.push(Output { topic: topic.clone(), partition, event, delay: None });
    }

    pub(crate) fn send_after(&mut self, topic: &Topic, event: Event, delay: Duration) {
        let handed = self.handed();
        let event = handed.stamped(event);
        handed.outputs.push(Output { topic: topic.clone(), partition: None, event, delay: Some(delay) });
    }

    pub(crate) fn forward(&mut self, topic: &Topic, mut record: Record) {
        let header = |(name, value): &(&'static str, Bytes)| RecordHeader {
            key: Bytes::from_static(name.as_bytes()),
            value: Some(value.clone()),
        };
        let handed = self.handed();
        record.headers.extend(handed.stamp.iter().map(header));
        handed.forwarded.push(Forwarded { topic: topic.clone(), record });
    }

    pub(crate) fn cancel(&mut self, timer: TimerId) {
        self.handed().cancelled.push(timer);
    }

    pub(crate) fn write(&mut self, table: &Table, key: Bytes, value: Option<Bytes>) {
        self.handed().writes.insert((table.topic().id(), key), Write { table: table.clone(), value });
    }

    pub(crate) fn get(
        &mut self,
        table: &Table,
        key: Bytes,
        overlay: &Overlay,
    ) -> Result<Option<Bytes>, Failure> {
        let place = (table.topic().id(), key);
        let handed = self.handed();
        if let Some(write) = handed.writes.get(&place) {
            return Ok(write.value.clone());
        }
        let (version, value) = match overlay.staged(&place) {
            Some((number, value)) => (Version::Staged(number), value),
            None => {
                let entry = table.get(&place.1)?;
                (
                    Version::Stored(entry.as_ref().map(|entry| entry.version)),
                    entry.and_then(|entry| entry.record.value),
                )
            }
        };
        // What was read first has to hold: if it is another one by now, the attempt is made anew.
        handed.reads.entry(place).or_insert_with(|| Read { table: table.clone(), version });
        Ok(value)
    }
}

impl Handed {
    fn stamped(&self, event: Event) -> Event {
        self.stamp.iter().fold(event, |event, (name, value)| event.header(*name, value.clone()))
    }
}

/// The writes of the commit that is being made, as the attempts of it see them.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    staged: Mutex<BTreeMap<Place, (u64, Write)>>,
}

impl Overlay {
    fn staged(&self, place: &Place) -> Option<(u64, Option<Bytes>)> {
        self.staged.lock().get(place).map(|(number, write)| (*number, write.value.clone()))
    }
}

/// What a commit does to tables, put together from the attempts that have ended.
#[derive(Debug, Default)]
pub(crate) struct TableStage {
    number: u64,
    conditions: BTreeMap<Place, (Table, Option<u64>)>,
}

impl TableStage {
    /// Takes over what an attempt has read and written. False: what it has read isn't so any more, and it has to be
    /// made anew; nothing was taken.
    pub(crate) fn take(&mut self, outbox: &mut Outbox, overlay: &Overlay) -> bool {
        let handed = outbox.0.as_mut().filter(|it| !it.reads.is_empty() || !it.writes.is_empty());
        let Some(handed) = handed else { return true };
        let mut staged = overlay.staged.lock();
        let is_so = |(place, read): (&Place, &Read)| match (staged.get(place), read.version) {
            (Some((number, _)), Version::Staged(seen)) => *number == seen,
            (None, Version::Stored(seen)) => {
                self.conditions.get(place).is_none_or(|(_, expected)| *expected == seen)
            }
            _ => false,
        };
        if !handed.reads.iter().all(is_so) {
            return false;
        }
        for (place, read) in std::mem::take(&mut handed.reads) {
            if let Version::Stored(version) = read.version {
                self.conditions.insert(place, (read.table, version));
            }
        }
        for (place, write) in std::mem::take(&mut handed.writes) {
            self.number += 1;
            staged.insert(place, (self.number, write));
        }
        true
    }

    /// Whether nothing was read and written.
    pub(crate) fn is_empty(&self) -> bool {
        self.number == 0 && self.conditions.is_empty()
    }

    /// Puts it into a transaction.
    pub(crate) fn fill(
        &self,
        overlay: &Overlay,
        transaction: &mut exactlog::Transaction<'_>,
    ) -> Result<(), exactlog::Error> {
        for ((_, key), (table, version)) in &self.conditions {
            transaction.expect_version(table, key.clone(), *version);
        }
        for ((_, key), (_, write)) in &*overlay.staged.lock() {
            match &write.value {
                Some(value) => transaction.put(&write.table, key.clone(), value.clone())?,
                None => transaction.delete(&write.table, key.clone())?,
            }
        }
        Ok(())
    }
}
