//! Where records begin within the large batches that single records were read from lately.
//!
//! Bounded: two generations, of which the older one is dropped when the younger one has half of the room. What was
//! dropped is made again by walking the batch.
//!
//! Invariants
//!   * a place names the same bytes for as long as the process lives: a segment that is opened again is another one

use exactlog_core::batch::{Batch, BatchError, Landmarks};
use exactlog_core::ids::Partition;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the landmarks of a log take in memory, at most and about, in bytes: those of two million records.
const LIMIT_BYTES: usize = 32 << 20;

/// Distance of two landmarks, in bytes: as far as is read without noticing.
const SPACING_BYTES: usize = 512;

/// What an entry takes besides its landmarks, in bytes, about.
const ENTRY_BYTES: usize = 64;

/// Below this many bytes a batch is walked faster than its landmarks are found.
const BATCH_BYTES_MIN: usize = 4096;

/// Names the opening of a segment, or of a log; never given twice in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Opening(u64);

impl Opening {
    pub(crate) fn new() -> Opening {
        static OPENINGS: AtomicU64 = AtomicU64::new(0);
        Opening(OPENINGS.fetch_add(1, Ordering::Relaxed))
    }
}

/// Names a batch: the bytes of one are always the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum BatchPlace {
    /// In a segment: where it begins, in bytes.
    Segment { opening: Opening, position: u64 },
    /// Not in a segment yet, as it was appended to an open log.
    Appended { opening: Opening, partition: Partition, base_offset: u64 },
}

/// The landmarks of batches.
#[derive(Debug)]
pub(crate) struct LandmarkCache {
    generations: Mutex<Generations>,
    limit_bytes: usize,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<BatchPlace, Arc<Landmarks>>,
    young_bytes: usize,
    old: HashMap<BatchPlace, Arc<Landmarks>>,
}

impl Default for LandmarkCache {
    fn default() -> LandmarkCache {
        LandmarkCache::new(LIMIT_BYTES)
    }
}

impl LandmarkCache {
    fn new(limit_bytes: usize) -> LandmarkCache {
        LandmarkCache { generations: Mutex::default(), limit_bytes }
    }

    /// Those of the batch at this place; `None` where there is nothing to gain.
    ///
    /// # Errors
    /// What [`Batch::records`] finds.
    pub(crate) fn of(&self, place: BatchPlace, batch: &Batch) -> Result<Option<Arc<Landmarks>>, BatchError> {
        if batch.len_bytes() < BATCH_BYTES_MIN {
            return Ok(None);
        }
        if let Some(found) = self.generations.lock().find(place, self.limit_bytes) {
            return Ok(Some(found));
        }
        let Some(made) = batch.landmarks(SPACING_BYTES)?.map(Arc::new) else { return Ok(None) };
        self.generations.lock().add(place, made.clone(), self.limit_bytes);
        Ok(Some(made))
    }
}

impl Generations {
    fn find(&mut self, place: BatchPlace, limit_bytes: usize) -> Option<Arc<Landmarks>> {
        if let Some(found) = self.young.get(&place) {
            return Some(found.clone());
        }
        let found = self.old.remove(&place)?;
        self.add(place, found.clone(), limit_bytes);
        Some(found)
    }

    fn add(&mut self, place: BatchPlace, landmarks: Arc<Landmarks>, limit_bytes: usize) {
        let bytes = landmarks.len_bytes() + ENTRY_BYTES;
        if self.young_bytes + bytes > limit_bytes / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        if self.young.insert(place, landmarks).is_none() {
            self.young_bytes += bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use exactlog_core::batch::BatchBuilder;

    fn batch(records: usize) -> Batch {
        let mut builder = BatchBuilder::new(0);
        for _ in 0..records {
            builder.append(0, None, Some(&[7; 1000]), &[]);
        }
        builder.finish(None)
    }

    #[test]
    fn what_is_used_stays_and_the_rest_goes_when_there_is_no_room() {
        let batch = batch(10);
        let entry_bytes = batch.landmarks(SPACING_BYTES).unwrap().unwrap().len_bytes() + ENTRY_BYTES;
        let cache = LandmarkCache::new(8 * entry_bytes);
        let opening = Opening::new();
        let place = |position| BatchPlace::Segment { opening, position };
        let used = cache.of(place(0), &batch).unwrap().unwrap();
        for position in 1..100 {
            cache.of(place(position), &batch).unwrap().unwrap();
            assert!(Arc::ptr_eq(&used, &cache.of(place(0), &batch).unwrap().unwrap()));
            let generations = cache.generations.lock();
            assert!(generations.young.len() + generations.old.len() <= 8);
            assert_eq!(generations.young_bytes, generations.young.len() * entry_bytes);
        }
        assert!(cache.generations.lock().find(place(3), usize::MAX).is_none());
    }

    #[test]
    fn openings_of_the_same_segment_are_told_apart() {
        let cache = LandmarkCache::default();
        let (one, other) = (batch(10), batch(20));
        let first = cache.of(BatchPlace::Segment { opening: Opening::new(), position: 0 }, &one).unwrap();
        let second = cache.of(BatchPlace::Segment { opening: Opening::new(), position: 0 }, &other).unwrap();
        assert_ne!(first, second);
    }

    #[test]
    fn a_small_batch_has_none() {
        let cache = LandmarkCache::default();
        assert_eq!(
            cache.of(BatchPlace::Segment { opening: Opening::new(), position: 0 }, &batch(3)).unwrap(),
            None
        );
    }
}
