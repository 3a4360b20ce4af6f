//! Batches on their way to a reader, and how many bytes of them it still wants.

use exactlog_core::batch::Batch;

/// What a read has found so far, over all segments that it crosses.
#[derive(Debug)]
pub(super) struct Gathered {
    batches: Vec<Batch>,
    left_bytes: usize,
    full: bool,
}

impl Gathered {
    /// For a read of at most `max_bytes`; its first batch may be larger.
    pub(super) fn new(max_bytes: usize) -> Gathered {
        Gathered { batches: Vec::new(), left_bytes: max_bytes, full: false }
    }

    /// Whether nothing was found yet.
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Bytes that the reader still wants.
    pub(super) fn left_bytes(&self) -> usize {
        self.left_bytes
    }

    /// Whether the reader has what it wants.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// Whether a batch of this length still belongs to the read. If not, the read is over.
    pub(super) fn admits(&mut self, len_bytes: usize) -> bool {
        self.full |= !self.batches.is_empty() && len_bytes > self.left_bytes;
        !self.full
    }

    /// Adds a batch that was admitted.
    pub(super) fn push(&mut self, batch: Batch) {
        self.left_bytes = self.left_bytes.saturating_sub(batch.len_bytes());
        self.full |= self.left_bytes == 0;
        self.batches.push(batch);
    }

    /// What was found, in offset order.
    pub(super) fn into_batches(self) -> Vec<Batch> {
        self.batches
    }
}
