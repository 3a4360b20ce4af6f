//! What a partition's segments promise, checked against a plain list of batches on a disk in memory.

mod damage;
mod faults;
mod indexes;
mod memory;
mod model;
mod real;
mod roll;

use super::{Ends, Options, PartitionLog, SegmentSet};
use crate::disk::Disk;
use crate::error::StorageError;
use exactlog_core::batch::{Batch, BatchBuilder};
use memory::MemoryDisk;
use std::sync::Arc;

const DIR: &str = "topics/7-3";

/// Small enough that a few batches roll a segment and skip an index entry.
const SMALL: Options = Options { segment_bytes: 700, segment_ms: 1_000, index_interval_bytes: 200 };

/// A placed batch with one record per timestamp, each with a value of so many bytes.
fn batch(base_offset: u64, timestamps_ms: &[i64], value_bytes: usize) -> Batch {
    let mut builder = BatchBuilder::new(0);
    for (index, timestamp_ms) in timestamps_ms.iter().enumerate() {
        let value = vec![(base_offset as u8).wrapping_add(index as u8); value_bytes];
        builder.append(*timestamp_ms, Some(&base_offset.to_le_bytes()), Some(&value), &[]);
    }
    builder.finish(None).placed(base_offset, 5)
}

/// Batches of 1 to 3 records without a gap from offset 0 on, the n-th of which is larger the larger n mod 5 is.
fn batches(count: usize) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    for n in 0..count {
        let base_offset = batches.last().map_or(0, Batch::next_offset);
        let timestamps: Vec<i64> = (0..1 + n % 3).map(|i| (100 * n + 10 * ((i + n) % 3)) as i64).collect();
        batches.push(batch(base_offset, &timestamps, 20 * (n % 5)));
    }
    batches
}

fn open(disk: &MemoryDisk, options: Options, ends: &Ends) -> PartitionLog {
    PartitionLog::open(Arc::new(disk.clone()), DIR.to_owned(), options, ends).unwrap()
}

fn append_all(log: &mut PartitionLog, batches: &[Batch]) {
    batches.iter().for_each(|batch| log.append(batch).unwrap());
}

/// All of them appended and synced on a new disk.
fn written(batches: &[Batch], options: Options) -> (MemoryDisk, PartitionLog) {
    let disk = MemoryDisk::default();
    let mut log = open(&disk, options, &Ends::default());
    append_all(&mut log, batches);
    log.sync().unwrap();
    (disk, log)
}

fn records(batches: &[Batch]) -> Vec<(u64, i64)> {
    let records = batches.iter().flat_map(|batch| batch.records());
    records.map(|record| record.map(|record| (record.offset, record.timestamp_ms)).unwrap()).collect()
}

/// The set answers every offset and every time as the list of batches does.
fn assert_reads_as(set: &SegmentSet, batches: &[Batch]) {
    assert_offsets_read_as(set, batches);
    assert_times_read_as(set, batches);
}

fn assert_offsets_read_as(set: &SegmentSet, batches: &[Batch]) {
    let end_offset = set.end_offset();
    assert_eq!(set.start_offset(), batches.first().map_or(end_offset, Batch::base_offset));
    assert_eq!(set.size_bytes(), batches.iter().map(|batch| batch.len_bytes() as u64).sum::<u64>());
    for offset in 0..end_offset + 2 {
        let behind = &batches[batches.partition_point(|batch| batch.next_offset() <= offset)..];
        assert_eq!(set.read(offset, usize::MAX).unwrap(), behind, "from {offset} on");
        for _ in 0..2 {
            let found = set.batch_of(offset).unwrap().map(|(batch, _)| batch);
            assert_eq!(found.as_ref(), behind.first(), "of {offset}");
        }
        for max_bytes in [0, 150, 400] {
            assert_eq!(
                set.read(offset, max_bytes).unwrap(),
                fitting(behind, max_bytes),
                "{offset}, {max_bytes}"
            );
        }
    }
}

fn assert_times_read_as(set: &SegmentSet, batches: &[Batch]) {
    let records = records(batches);
    let near = records.iter().flat_map(|(_, timestamp_ms)| {
        [timestamp_ms.saturating_sub(1), *timestamp_ms, timestamp_ms.saturating_add(1)]
    });
    for timestamp_ms in near.chain([i64::MIN, -1, 0, i64::MAX]) {
        let first = records.iter().find(|record| record.1 >= timestamp_ms).copied();
        assert_eq!(set.first_at_or_after(timestamp_ms).unwrap(), first, "at or after {timestamp_ms}");
    }
}

/// The first batch, and those behind it that fit.
fn fitting(batches: &[Batch], max_bytes: usize) -> &[Batch] {
    let mut sum_bytes = 0;
    let fits = batches.iter().take_while(|batch| {
        let is_first = sum_bytes == 0;
        sum_bytes += batch.len_bytes();
        is_first || sum_bytes <= max_bytes
    });
    &batches[..fits.count()]
}

fn damage_of(error: StorageError) -> (String, u64) {
    match error {
        StorageError::Damaged { file, position, .. } => (file, position),
        other => panic!("expected damage, got {other}"),
    }
}

fn names(disk: &MemoryDisk) -> Vec<String> {
    disk.list(DIR).unwrap().into_iter().map(|entry| entry.name).collect()
}
