//! Compaction: which closed segments to rewrite, and what of each of their batches stays (semantics LG-6 to LG-8).
//!
//! ```text
//!   clean   clean  | dirty   dirty   dirty | too young   grows
//!   1. the keys of the dirty ones, each with its last offset:    KeyMap, as many as fit
//!   2. everything from the start up to there, batch by batch:    Rules -> stays, becomes smaller, goes
//! ```
//!
//! What is aborted is told by the state, which knows it of every batch below the last stable offset: so it makes no
//! difference where a transaction begins, or which of its parts were cleaned before.
//!
//! Invariants
//!   * of each key the last committed record stays, until a tombstone that is the last one has been seen for
//!     `delete.retention.ms`
//!   * keys of markers, and of records that were aborted, never count
//!   * a record without a key, and a batch that can't be read, stay
//!   * the marker of a committed transaction goes when no batch of it is left and its own horizon has passed; that
//!     of an aborted one stays, since readers are told of the transaction until it is trimmed

use super::{SealedSegment, SealedSegments};
use crate::batch::Batch;
use crate::command::TopicConfig;
use crate::ids::ProducerId;
use crate::mutants::{Mutant, on};
use crate::state::Undecided;
use std::collections::{BTreeMap, BTreeSet};

/// Which of the closed segments are rewritten, counted from the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// How many of them were compacted before: their keys differ, but for what the others bring.
    pub clean: usize,
    /// How many there are with those that weren't.
    pub all: usize,
}

/// What to compact now, if anything. `asked`: somebody wants it, also if that gains little.
pub fn choose(config: &TopicConfig, sealed: &SealedSegments, now_ms: i64, asked: bool) -> Option<Choice> {
    if !config.cleanup_policy.compacts() {
        return None;
    }
    let touchable = sealed.touchable();
    let clean = touchable.iter().take_while(|segment| segment.clean_records.is_some()).count();
    // Settings are bounded, so the casts lose nothing.
    let youngest_ms = now_ms.saturating_sub(config.min_compaction_lag_ms as i64);
    let is_of_age = |segment: &&SealedSegment| {
        config.min_compaction_lag_ms == 0 || segment.max_timestamp_ms <= youngest_ms
    };
    let dirty: Vec<&SealedSegment> = touchable[clean..].iter().take_while(is_of_age).collect();
    let choice = Choice { clean, all: clean + dirty.len() };
    if dirty.is_empty() {
        // Only what was kept for a while can go now.
        return (asked && clean > 0).then_some(choice);
    }
    let bytes = |segments: &mut dyn Iterator<Item = u64>| segments.map(u128::from).sum::<u128>();
    let dirty_bytes = bytes(&mut dirty.iter().map(|segment| segment.bytes));
    let all_bytes = dirty_bytes + bytes(&mut touchable[..clean].iter().map(|segment| segment.bytes));
    let is_much = dirty_bytes * 1000 >= all_bytes * u128::from(config.min_cleanable_dirty_permille);
    let is_late = config.max_compaction_lag_ms.is_some_and(|lag_ms| {
        let oldest_ms = now_ms.saturating_sub(lag_ms as i64);
        dirty.iter().any(|segment| (0..oldest_ms).contains(&segment.first_timestamp_ms))
    });
    (asked || is_much || is_late).then_some(choice)
}

/// Most bytes that the keys of one pass take, about; a single batch may bring it beyond that.
pub const KEY_MAP_BYTES: usize = 64 * 1024 * 1024;

/// What an entry takes besides its key, about.
const ENTRY_BYTES: usize = 64;

/// The keys of the records in a range of offsets, each with its last offset.
#[derive(Debug)]
pub struct KeyMap {
    latest: BTreeMap<Box<[u8]>, u64>,
    bytes: usize,
    bytes_max: usize,
    covered: u64,
}

impl KeyMap {
    /// An empty one from an offset on, for about so many bytes.
    pub fn new(from: u64, bytes_max: usize) -> KeyMap {
        KeyMap { latest: BTreeMap::new(), bytes: 0, bytes_max: bytes_max.max(1), covered: from }
    }

    /// Adds the keys of the next batch; false, and nothing is added, if it is full. `undecided` says what of the
    /// partition is aborted.
    pub fn add(&mut self, batch: &Batch, undecided: &Undecided) -> bool {
        if self.bytes >= self.bytes_max {
            return false;
        }
        let aborted_counts = on(Mutant::C2AbortedKeysCount) && !batch.is_control();
        if undecided.shows(batch) || aborted_counts {
            // What can't be read counts for nothing, and stays.
            for record in batch.records().map_while(Result::ok) {
                let Some(key) = record.key else { continue };
                match self.latest.get_mut(&key[..]) {
                    Some(offset) => *offset = record.offset,
                    None => {
                        self.bytes += key.len() + ENTRY_BYTES;
                        self.latest.insert(key[..].into(), record.offset);
                    }
                }
            }
        }
        self.covered = batch.next_offset();
        true
    }

    /// Everything up to this offset was shown to it: what lies behind the last batch was trimmed.
    pub fn cover(&mut self, offset: u64) {
        self.covered = self.covered.max(offset);
    }

    /// The offset behind the last batch that was added.
    pub fn covered(&self) -> u64 {
        self.covered
    }

    fn has_later(&self, key: &[u8], offset: u64) -> bool {
        self.latest.get(key).is_some_and(|latest| *latest > offset)
    }
}

/// What becomes of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays as it is.
    Stays,
    /// This stays of it.
    Becomes(Batch),
    /// Nothing of it stays.
    Goes,
}

/// Decides about batches, which are shown to it in the order of their offsets, from the partition's first on.
#[derive(Debug)]
pub struct Rules<'a> {
    keys: &'a KeyMap,
    undecided: &'a Undecided,
    now_ms: i64,
    /// What a horizon that begins now is.
    horizon_ms: i64,
    /// Producers of whose transaction some batch was there, since its last marker.
    with_data: BTreeSet<ProducerId>,
    /// A batch was there that can't be read: it may hold earlier values of keys whose tombstones come later.
    has_unreadable: bool,
}

impl<'a> Rules<'a> {
    /// Rules for what lies below [`KeyMap::covered`]; what lies behind stays.
    pub fn new(config: &TopicConfig, keys: &'a KeyMap, undecided: &'a Undecided, now_ms: i64) -> Rules<'a> {
        let horizon_ms = now_ms.saturating_add(config.delete_retention_ms as i64);
        Rules { keys, undecided, now_ms, horizon_ms, with_data: BTreeSet::new(), has_unreadable: false }
    }

    /// What becomes of the next batch.
    pub fn fate(&mut self, batch: &Batch) -> Fate {
        if batch.base_offset() >= self.keys.covered() {
            return Fate::Stays;
        }
        if batch.is_control() {
            return self.fate_of_marker(batch);
        }
        if !self.undecided.shows(batch) {
            return Fate::Goes;
        }
        if let Some(stamp) = batch.producer().filter(|_| batch.is_transactional()) {
            self.with_data.insert(stamp.id);
        }
        let passed = self.horizon_has_passed(batch) && !self.has_unreadable;
        let passed = passed || on(Mutant::C3TombstoneDroppedEarly);
        let (mut keep, mut has_tombstone) = (Vec::new(), false);
        for record in batch.records() {
            let Ok(record) = record else {
                self.has_unreadable = true;
                return Fate::Stays;
            };
            let is_tombstone = record.key.is_some() && record.value.is_none();
            let is_last = record.key.is_none_or(|key| !self.keys.has_later(&key, record.offset));
            let stays = is_last && !(is_tombstone && passed);
            has_tombstone |= stays && is_tombstone;
            keep.push(stays);
        }
        let begins = has_tombstone && !batch.has_delete_horizon();
        match keep.iter().filter(|keep| **keep).count() {
            0 => Fate::Goes,
            all if all == keep.len() && !begins => Fate::Stays,
            _ => self.becomes(batch, &keep, begins),
        }
    }

    fn fate_of_marker(&mut self, batch: &Batch) -> Fate {
        let Some(control) = batch.as_control() else { return Fate::Stays };
        let had_data = self.with_data.remove(&control.producer);
        match control.commit {
            _ if had_data => Fate::Stays,
            false => Fate::Stays,
            true if self.horizon_has_passed(batch) => Fate::Goes,
            true if batch.has_delete_horizon() => Fate::Stays,
            true => self.becomes(batch, &[true], true),
        }
    }

    fn becomes(&self, batch: &Batch, keep: &[bool], begins: bool) -> Fate {
        // One that can't be compressed again stays as it is: too much is kept, never too little.
        batch.cleaned(keep, begins.then_some(self.horizon_ms)).map_or(Fate::Stays, Fate::Becomes)
    }

    fn horizon_has_passed(&self, batch: &Batch) -> bool {
        batch.has_delete_horizon() && batch.base_timestamp_ms() <= self.now_ms
    }
}
