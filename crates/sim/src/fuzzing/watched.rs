//! A disk that watches how much is asked of it: a length that comes from damaged bytes must not decide how much
//! memory or room is taken.
//!
//! Not a fault injector. What isn't read through it (memory that is reserved while decoding) it doesn't see; the
//! fuzzers bound that with an allocator.
//!
//! Invariants:
//!   * no read has a buffer longer than the file, nor one that reaches far behind it
//!   * no file is allocated that is longer than all files together and one new journal file

use crate::disk::SimDisk;
use crate::layer::{Layer, Observer};
use exactlog_storage::disk::{Disk, File};
use std::sync::Arc;

/// Any file may be allocated up to this, in bytes; longer ones only if files of that length are there.
const ALLOCATED_BYTES: u64 = 64 << 10;

/// A buffer may be this much longer than its file, in bytes: one header is read from a file that has none.
const HEADER_BYTES: u64 = 4096;

/// Who watches.
#[derive(Debug)]
pub(super) struct Watched {
    allocated_bytes_max: u64,
}

impl Watched {
    /// Watches `disk`, whose files as they are now bound what may be allocated.
    pub(super) fn over(disk: &SimDisk) -> Arc<dyn Disk> {
        let files_bytes: u64 = disk.files().iter().map(|(_, len)| len).sum();
        let watched = Watched { allocated_bytes_max: files_bytes + ALLOCATED_BYTES };
        Arc::new(Layer::over(disk, Arc::new(watched)))
    }
}

impl Observer for Watched {
    fn before_read(&self, file: &dyn File, buffer_bytes: usize) {
        let len = file.len().expect("the disk has no faults");
        assert!(
            buffer_bytes as u64 <= len.max(HEADER_BYTES),
            "a buffer of {buffer_bytes} B for a file of {len} B"
        );
    }

    fn before_allocate(&self, len_bytes: u64) {
        let limit = self.allocated_bytes_max;
        assert!(len_bytes <= limit, "a file of {len_bytes} B is allocated, {limit} B can be explained");
    }
}
