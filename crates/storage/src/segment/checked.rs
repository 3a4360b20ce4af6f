//! Which batches of a mapped segment have passed their CRC-32C since it was opened.
//!
//! A read of one record out of a large batch would cost the checksum of all of it, each time. Reads of whole batches
//! don't ask here: they check what they hand out.
//!
//! Invariants
//!   * one bit for each page of the segment; it stands for the one large batch that begins there, if any does
//!   * batches of less than a page are never noted: checking one takes less than a quarter of a microsecond

use std::sync::atomic::{AtomicU64, Ordering};

const PAGE_BYTES: u64 = 4096;

/// The batches that were checked.
#[derive(Debug, Default)]
pub(super) struct Checked {
    pages: Box<[AtomicU64]>,
}

impl Checked {
    /// None yet, of a segment of this length.
    pub(super) fn new(segment_bytes: u64) -> Checked {
        let words = segment_bytes.div_ceil(PAGE_BYTES * u64::from(u64::BITS));
        Checked { pages: (0..words).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Whether the batch at this position was checked.
    pub(super) fn holds(&self, position: u64, len_bytes: usize) -> bool {
        self.bit(position, len_bytes).is_some_and(|(word, bit)| word.load(Ordering::Relaxed) & bit != 0)
    }

    /// Notes a batch that was checked.
    pub(super) fn note(&self, position: u64, len_bytes: usize) {
        if let Some((word, bit)) = self.bit(position, len_bytes) {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }

    fn bit(&self, position: u64, len_bytes: usize) -> Option<(&AtomicU64, u64)> {
        let page = position / PAGE_BYTES;
        let word = self.pages.get(usize::try_from(page / u64::from(u64::BITS)).ok()?)?;
        (len_bytes as u64 >= PAGE_BYTES).then_some((word, 1 << (page % u64::from(u64::BITS))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_large_batch_that_was_noted_counts_as_checked() {
        let checked = Checked::new(1 << 20);
        checked.note(100, 4095);
        assert!(!checked.holds(100, 4095) && !checked.holds(100, 5000));
        checked.note(5000, 8192);
        assert!(checked.holds(5000, 8192));
        assert!(!checked.holds(4100, 900), "a small batch in front of it, in the same page");
        assert!(!checked.holds(5000 + 8192, 8192));
        checked.note((1 << 20) - 1, 4096);
        assert!(checked.holds((1 << 20) - 1, 4096));
        checked.note(1 << 20, 4096);
        assert!(!checked.holds(1 << 20, 4096), "behind the segment");
        let none = Checked::default();
        none.note(0, 4096);
        assert!(!none.holds(0, 4096));
    }
}
