//! The sparse indexes of one segment in memory: where an offset lies, and from where on a time can occur.
//!
//! One type for both, built batch by batch in file order, by the writer as it appends or by a survey of the file.
//! It isn't evidence: it only says where to begin reading, and what it says is checked there.
//!
//! Invariants
//!   * the same batches give the same entries, whoever pushes them
//!   * entries rise strictly in offset, position and (time index) timestamp
//!   * every record before the offset of a time entry has at most the entry's timestamp; behind damage there are no
//!     time entries, as nobody knows what the damaged records said

use exactlog_core::batch::Batch;

/// Most entries of an index. A segment whose index would exceed it is full.
pub(super) const INDEX_ENTRIES_MAX: usize = 1 << 20;

/// Where a batch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Byte in the segment.
    pub(super) position: u64,
    /// Base offset of the batch there.
    pub(super) offset: u64,
}

/// An entry of the offset index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OffsetEntry {
    /// Distance of the batch's base offset from the segment's.
    pub(super) relative_offset: u32,
    /// Where the batch begins, in bytes.
    pub(super) position: u32,
}

/// An entry of the time index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimeEntry {
    /// Greatest timestamp of all batches before the offset, in ms since 1970.
    pub(super) max_timestamp_ms: i64,
    /// Distance of the offset from the segment's base offset; the offset index has it too.
    pub(super) relative_offset: u32,
}

/// A part of a segment that can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Region {
    /// First byte and first offset of the batch that is damaged.
    pub(super) from: Place,
    /// Where the next good batch begins, or the end of the segment.
    pub(super) to: Place,
    /// What was found there.
    pub(super) what: String,
}

/// Both indexes of one segment, and how far they go.
#[derive(Clone, Debug)]
pub(super) struct Index {
    base_offset: u64,
    interval_bytes: u64,
    offsets: Vec<OffsetEntry>,
    times: Vec<TimeEntry>,
    regions: Vec<Region>,
    covered: Place,
    max_timestamp_ms: i64,
}

impl Index {
    /// The index of a segment that has no batch yet, with an entry every `interval_bytes`.
    pub(super) fn new(base_offset: u64, interval_bytes: u32) -> Index {
        Index {
            base_offset,
            interval_bytes: u64::from(interval_bytes),
            offsets: Vec::new(),
            times: Vec::new(),
            regions: Vec::new(),
            covered: Place { position: 0, offset: base_offset },
            max_timestamp_ms: i64::MIN,
        }
    }

    /// An index as its files have it, whose order has been checked. It covers the whole sealed segment, so nothing is
    /// pushed any more.
    pub(super) fn of_sealed(
        base_offset: u64,
        covered: Place,
        offsets: Vec<OffsetEntry>,
        times: Vec<TimeEntry>,
    ) -> Index {
        Index { offsets, times, covered, ..Index::new(base_offset, 1) }
    }

    /// Appends what follows the covered part. The batch lies less than 4 GiB and 2^32 offsets behind the segment's
    /// begin: the roll rules and the survey see to it.
    pub(super) fn push(&mut self, batch: &Batch) {
        debug_assert_eq!(batch.base_offset(), self.covered.offset);
        if self.entry_is_due() {
            self.push_entry();
        }
        self.max_timestamp_ms = self.max_timestamp_ms.max(batch.max_timestamp_ms());
        self.covered.position += batch.len_bytes() as u64;
        self.covered.offset = batch.next_offset();
    }

    /// Skips a part that can't be read. The batch behind it gets an entry in any case, so that reads find it.
    pub(super) fn push_damage(&mut self, to: Place, what: String) {
        self.regions.push(Region { from: self.covered, to, what });
        self.covered = to;
    }

    /// Up to where it goes, and which offset follows.
    pub(super) fn covered(&self) -> Place {
        self.covered
    }

    /// The damaged parts that a survey found.
    pub(super) fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// The entries of the offset index.
    pub(super) fn offsets(&self) -> &[OffsetEntry] {
        &self.offsets
    }

    /// The entries of the time index.
    pub(super) fn times(&self) -> &[TimeEntry] {
        &self.times
    }

    /// From where to walk to the batch that holds `offset`.
    pub(super) fn place_of(&self, offset: u64) -> Place {
        let relative = offset.saturating_sub(self.base_offset);
        let behind = self.offsets.partition_point(|entry| u64::from(entry.relative_offset) <= relative);
        self.place_before(behind)
    }

    /// From where to walk to the first record with `timestamp_ms` or a later time: none lies before.
    pub(super) fn place_of_time(&self, timestamp_ms: i64) -> Place {
        let behind = self.times.partition_point(|entry| entry.max_timestamp_ms < timestamp_ms);
        match behind.checked_sub(1) {
            Some(last) => self.place_of(self.base_offset + u64::from(self.times[last].relative_offset)),
            None => self.place_before(0),
        }
    }

    /// The damaged part that `offset` lies in.
    pub(super) fn region_of(&self, offset: u64) -> Option<&Region> {
        self.regions.iter().find(|region| region.from.offset <= offset && offset < region.to.offset)
    }

    /// Whether the byte is known to be damaged.
    pub(super) fn is_damaged_at(&self, position: u64) -> bool {
        self.regions.iter().any(|region| region.from.position <= position && position < region.to.position)
    }

    fn place_before(&self, entry: usize) -> Place {
        match entry.checked_sub(1) {
            Some(last) => Place {
                position: u64::from(self.offsets[last].position),
                offset: self.base_offset + u64::from(self.offsets[last].relative_offset),
            },
            None => Place { position: 0, offset: self.base_offset },
        }
    }

    fn entry_is_due(&self) -> bool {
        match self.offsets.last() {
            Some(last) => {
                self.regions.last().is_some_and(|region| region.to == self.covered)
                    || self.covered.position - u64::from(last.position) >= self.interval_bytes
            }
            None => true,
        }
    }

    fn push_entry(&mut self) {
        let relative_offset = (self.covered.offset - self.base_offset) as u32; // see `push`
        self.offsets.push(OffsetEntry { relative_offset, position: self.covered.position as u32 });
        if self.covered.position == 0 || !self.regions.is_empty() {
            return;
        }
        let entry = TimeEntry { max_timestamp_ms: self.max_timestamp_ms, relative_offset };
        match self.times.last_mut() {
            // The time has not risen, so the older entry can begin further behind.
            Some(last) if last.max_timestamp_ms == entry.max_timestamp_ms => *last = entry,
            _ => self.times.push(entry),
        }
    }
}
