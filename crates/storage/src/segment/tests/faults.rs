//! Failing disks: every change that the log asks for fails once, and pairs of them.
//!
//! The disk panics if a file is written or synced again after a failure, and forgets what a failed sync should have
//! made durable, so a retry that reports success would lose data here.

use super::*;

/// Feeds all batches with a sync after every few, going back to what is durable after each error, as the owner does.
/// The number of errors.
fn feed(disk: &MemoryDisk, log: &mut PartitionLog, batches: &[Batch]) -> usize {
    let mut errors = 0;
    while log.ends().end_offset < batches.last().unwrap().next_offset() {
        let from = batches.partition_point(|batch| batch.base_offset() < log.next_offset());
        if let Err(error) = feed_from(log, &batches[from..]) {
            assert!(matches!(error, StorageError::Io { .. }), "{error}");
            errors += 1;
            assert_eq!(log.next_offset(), log.ends().end_offset);
            assert_holds(disk, log, batches);
        }
    }
    errors
}

fn feed_from(log: &mut PartitionLog, batches: &[Batch]) -> Result<(), StorageError> {
    for batch in batches {
        log.append(batch)?;
        if batch.base_offset() % 5 == 0 {
            log.sync()?;
        }
    }
    log.sync()
}

/// Readers, and whoever opens the disk after a power loss, see exactly what the ends say.
fn assert_holds(disk: &MemoryDisk, log: &PartitionLog, batches: &[Batch]) {
    let ends = log.ends();
    let synced = &batches[..batches.partition_point(|batch| batch.base_offset() < ends.end_offset)];
    assert_offsets_read_as(&log.readable(), synced);
    assert_offsets_read_as(&open(&disk.after_power_loss(), SMALL, &ends).readable(), synced);
}

fn feed_with_failures(batches: &[Batch], failing: &[usize]) -> (MemoryDisk, PartitionLog, usize) {
    let disk = MemoryDisk::default();
    let mut log = open(&disk, SMALL, &Ends::default());
    disk.fail_changes(failing.iter().copied());
    let errors = feed(&disk, &mut log, batches);
    assert!(errors <= failing.len(), "an error is returned once");
    (disk, log, errors)
}

#[test]
fn after_any_one_failure_the_log_goes_on_and_loses_nothing() {
    let batches = batches(24);
    let (disk, _, _) = feed_with_failures(&batches, &[]);
    let changes = disk.changes();
    assert!(changes > 40);
    let mut errors = 0;
    for failing in 0..changes {
        let (disk, log, seen) = feed_with_failures(&batches, &[failing]);
        errors += seen;
        assert_holds(&disk, &log, &batches);
        assert_times_read_as(&log.readable(), &batches);
    }
    // Those of index files, three changes for each of two files, are nobody's error.
    assert!(errors > changes / 3, "{errors} errors of {changes} changes");
}

#[test]
fn after_any_two_failures_the_log_goes_on_and_loses_nothing() {
    let batches = batches(14);
    let (disk, _, _) = feed_with_failures(&batches, &[]);
    for first in 0..disk.changes() {
        for second in first + 1..first + 16 {
            let (disk, log, _) = feed_with_failures(&batches, &[first, second]);
            assert_holds(&disk, &log, &batches);
        }
    }
}

#[test]
fn a_disk_that_fails_for_long_costs_errors_but_no_data() {
    let batches = batches(24);
    for first in [0, 7, 20] {
        let failing: Vec<usize> = (first..first + 30).collect();
        let (disk, log, errors) = feed_with_failures(&batches, &failing);
        assert!(errors > 1);
        assert_holds(&disk, &log, &batches);
    }
}

#[test]
fn after_a_failed_sync_the_good_prefix_stays_and_a_new_file_begins_there() {
    let batches = batches(5);
    let disk = MemoryDisk::default();
    let options = Options { segment_bytes: 10_000, ..SMALL };
    let mut log = open(&disk, options, &Ends::default());
    append_all(&mut log, &batches[..2]);
    log.sync().unwrap();
    let good = log.ends();
    append_all(&mut log, &batches[2..4]);
    disk.fail_changes([1]); // the write is good, the sync isn't
    assert!(log.sync().is_err());

    let ends = log.ends();
    assert_eq!(ends.end_offset, good.end_offset);
    assert_eq!(ends.segments[0], good.segments[0]);
    assert_eq!((ends.segments[1].base_offset, ends.segments[1].len_bytes), (good.end_offset, 0));
    // A log that is opened with these ends keeps off the failed file too.
    let mut log = open(&disk, options, &ends);
    append_all(&mut log, &batches[2..]);
    log.sync().unwrap();
    assert_eq!(log.ends().segments[0], good.segments[0]);
    assert_eq!(log.ends().segments[1].base_offset, good.end_offset);
    assert_reads_as(&log.readable(), &batches);
}

#[test]
fn a_reader_keeps_its_set_over_a_failure() {
    let batches = batches(24);
    let disk = MemoryDisk::default();
    let mut log = open(&disk, SMALL, &Ends::default());
    append_all(&mut log, &batches[..12]);
    log.sync().unwrap();
    let set = log.readable();
    append_all(&mut log, &batches[12..13]);
    disk.fail_changes([0]);
    assert!(log.sync().is_err());
    assert_reads_as(&set, &batches[..12]);
    append_all(&mut log, &batches[12..]);
    log.sync().unwrap();
    assert_reads_as(&set, &batches[..12]);
    assert_reads_as(&log.readable(), &batches);
}
