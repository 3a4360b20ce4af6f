//! A disk that is full: what a flush gives back, and what is kept for the checkpoint that frees space (LG-13).

#![allow(clippy::unwrap_used)]

use exactlog_core::batch::{Batch, BatchBuilder};
use exactlog_sim::disk::SimDisk;
use exactlog_storage::disk::Disk;
use exactlog_storage::segment::{self, Ends, PartitionLog};
use std::sync::Arc;

const MIB: u64 = 1024 * 1024;

/// Leaves this much room on the disk.
fn leave(disk: &SimDisk, free_bytes: u64) {
    let much = 1 << 40;
    disk.set_capacity(Some(much));
    let used = much - disk.free().unwrap();
    disk.set_capacity(Some(used + free_bytes));
}

fn large_batch(offset: u64) -> Batch {
    let mut builder = BatchBuilder::new(64);
    builder.append(1_000, None, Some(&vec![offset as u8; 100_000]), &[]);
    builder.finish(None).placed(offset, 0)
}

#[test]
fn lg_13_segments_that_find_no_room_give_back_what_they_took() {
    for segment_bytes in [400_000, 100 * MIB] {
        let disk = SimDisk::new();
        let options = segment::Options { segment_bytes, ..segment::Options::default() };
        let dir = "topics/1-0".to_owned();
        let mut log = PartitionLog::open(Arc::new(disk.clone()), dir, options, &Ends::default()).unwrap();
        for offset in 0..5 {
            log.append(&large_batch(offset)).unwrap();
        }
        log.sync().unwrap();
        leave(&disk, 3 * MIB);
        let free = disk.free().unwrap();
        let error = (5..100).find_map(|offset| log.append(&large_batch(offset)).err()).unwrap();
        assert!(error.is_disk_full(), "{error}");
        assert_eq!(disk.free().unwrap(), free, "segments of {segment_bytes} B");
        leave(&disk, 30 * MIB);
        assert_eq!(log.next_offset(), 5);
        for offset in 5..20 {
            log.append(&large_batch(offset)).unwrap();
        }
        log.sync().unwrap();
        for offset in 0..20 {
            assert_eq!(log.readable().read(offset, 1).unwrap()[0], large_batch(offset));
        }
    }
}
