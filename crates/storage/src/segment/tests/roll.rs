//! Where segments end, and what open and remove_unnamed do with the files that they find.

use super::*;
use crate::segment::shelf::OPEN_SEGMENTS_MAX;

fn base_offsets(ends: &Ends) -> Vec<u64> {
    ends.segments.iter().map(|segment| segment.base_offset).collect()
}

#[test]
fn a_batch_that_would_exceed_the_bytes_begins_a_segment_and_a_larger_one_has_its_own() {
    let batches = [batch(0, &[0], 300), batch(1, &[0], 200), batch(2, &[0], 2_000), batch(3, &[0], 10)];
    let (_, log) = written(&batches, SMALL);
    assert_eq!(base_offsets(&log.ends()), [0, 2, 3]);
    assert_reads_as(&log.readable(), &batches);
}

#[test]
fn a_segment_may_be_filled_to_the_last_byte() {
    let batches = [batch(0, &[0], 300), batch(1, &[0], 200), batch(2, &[0], 10)];
    let segment_bytes = (batches[0].len_bytes() + batches[1].len_bytes()) as u64;
    let ends_with = |segment_bytes| written(&batches, Options { segment_bytes, ..SMALL }).1.ends();
    assert_eq!(base_offsets(&ends_with(segment_bytes)), [0, 2]);
    assert_eq!(base_offsets(&ends_with(segment_bytes - 1)), [0, 1]);
}

#[test]
fn a_batch_that_is_too_young_begins_a_segment_but_one_without_time_never_does() {
    let (_, log) = written(&[batch(0, &[50], 1), batch(1, &[1_050], 1), batch(2, &[1_051], 1)], SMALL);
    assert_eq!(base_offsets(&log.ends()), [0, 2]);
    let (_, log) = written(&[batch(0, &[-1], 1), batch(1, &[i64::MAX], 1)], SMALL);
    assert_eq!(base_offsets(&log.ends()), [0]);
}

#[test]
fn offsets_within_a_segment_fit_31_bits() {
    let options = Options { index_interval_bytes: 1, ..SMALL };
    let mut header = *batch(0, &[1], 1).header();
    header[23..27].copy_from_slice(&(i32::MAX - 1).to_be_bytes()); // last offset delta
    let body = batch(0, &[1], 1).body().clone();
    let crc = crc32c::crc32c_append(crc32c::crc32c(&header[21..]), &body);
    header[17..21].copy_from_slice(&crc.to_be_bytes());
    let wide = Batch::from_parts(header, body).unwrap();
    let at = wide.next_offset();
    assert_eq!(at, i32::MAX as u64);
    let (_, log) = written(&[wide, batch(at, &[1], 1), batch(at + 1, &[1], 1)], options);
    assert_eq!(base_offsets(&log.ends()), [0, at + 1]);
    assert_eq!(log.readable().read(at, 0).unwrap()[0].base_offset(), at);
    assert_eq!(log.readable().read(at + 1, 0).unwrap()[0].base_offset(), at + 1);
}

#[test]
fn where_segments_end_does_not_depend_on_syncs_or_reopens() {
    let batches = batches(60);
    let (disk, log) = written(&batches, SMALL);
    assert!(log.ends().segments.len() > 5);
    for every in [1, 2, 7] {
        let other = MemoryDisk::default();
        let mut ends = Ends::default();
        for some in batches.chunks(every) {
            let mut log = open(&other, SMALL, &ends);
            append_all(&mut log, some);
            log.sync().unwrap();
            ends = log.ends();
        }
        assert_eq!(ends, log.ends());
        for name in names(&disk).iter().filter(|name| name.ends_with(".log")) {
            let name = format!("{DIR}/{name}");
            assert_eq!(other.content(&name), disk.content(&name), "{name}");
        }
    }
}

#[test]
fn batches_larger_than_the_buffer_and_many_small_ones_arrive_whole() {
    let mut batches = vec![batch(0, &[1], 5 << 20), batch(1, &[2], 10)];
    for n in 2..30 {
        batches.push(batch(n, &[n as i64], 300_000));
    }
    batches.push(batch(30, &[30], 3 << 20));
    let (disk, log) = written(&batches, Options::default());
    assert_eq!(log.readable().read(0, usize::MAX).unwrap(), batches);
    let whole: Vec<u8> =
        batches.iter().flat_map(|batch| [&batch.header()[..], batch.body()].concat()).collect();
    assert_eq!(disk.content(&format!("{DIR}/00000000000000000000.log")), whole);
}

#[test]
fn nothing_is_seen_or_counted_before_the_sync() {
    let disk = MemoryDisk::default();
    let mut log = open(&disk, SMALL, &Ends::default());
    let reader = log.reader();
    let batches = batches(30);
    append_all(&mut log, &batches[..20]);
    assert_eq!((log.ends(), reader.current().end_offset()), (Ends::default(), 0));
    assert_eq!(reader.current().read(0, 1).unwrap(), []);
    log.sync().unwrap();
    let set = reader.current();
    assert_reads_as(&set, &batches[..20]);
    append_all(&mut log, &batches[20..]);
    log.sync().unwrap();
    assert_reads_as(&set, &batches[..20]);
    assert_reads_as(&reader.current(), &batches);
}

#[test]
fn a_batch_at_another_offset_is_refused_and_changes_nothing() {
    let batches = batches(10);
    let disk = MemoryDisk::default();
    let mut log = open(&disk, SMALL, &Ends::default());
    append_all(&mut log, &batches[..4]);
    for wrong in [&batches[3], &batches[5]] {
        let error = log.append(wrong).unwrap_err();
        assert!(
            matches!(error, StorageError::Io { source, .. } if source.kind() == std::io::ErrorKind::InvalidInput)
        );
    }
    assert!(log.skip_to(0).is_err());
    append_all(&mut log, &batches[4..]);
    log.sync().unwrap();
    assert_reads_as(&log.readable(), &batches);
}

#[test]
fn a_gap_begins_a_segment_also_when_the_log_is_reopened_within_it() {
    let options = Options { segment_bytes: 10_000, ..SMALL };
    let parts =
        [vec![batch(3, &[1], 9), batch(4, &[2], 9)], vec![batch(10, &[3], 9)], vec![batch(20, &[4], 9)]];
    let disk = MemoryDisk::default();
    let mut ends = Ends::default();
    for part in &parts {
        let mut log = open(&disk, options, &ends);
        log.skip_to(part[0].base_offset() - 1).unwrap();
        log.sync().unwrap();
        let mut log = open(&disk, options, &log.ends());
        log.skip_to(part[0].base_offset()).unwrap();
        append_all(&mut log, part);
        log.sync().unwrap();
        ends = log.ends();
    }
    assert_eq!(base_offsets(&ends), [3, 10, 20]);
    assert_reads_as(&open(&disk, options, &ends).readable(), &parts.concat());
    assert_reads_as(&open(&disk.after_power_loss(), options, &ends).readable(), &parts.concat());
}

#[test]
fn a_growing_file_that_is_missing_or_short_is_refused_at_open_and_a_closed_one_is_not() {
    let batches = batches(20);
    let (disk, log) = written(&batches, SMALL);
    let ends = log.ends();
    let again = |disk: &MemoryDisk, ends: &Ends| {
        PartitionLog::open(Arc::new(disk.clone()), DIR.to_owned(), SMALL, ends).unwrap_err()
    };
    let (last, closed) = ends.segments.split_last().unwrap();
    for segment in closed {
        let name = format!("{DIR}/{:020}.log", segment.base_offset);
        let content = disk.content(&name);
        disk.unlink(&name).unwrap();
        assert_eq!(open(&disk, SMALL, &ends).next_offset(), ends.end_offset);
        disk.put(&name, content);
    }
    let name = format!("{DIR}/{:020}.log", last.base_offset);
    let content = disk.content(&name);
    disk.put(&name, content[..content.len() - 1].to_vec());
    assert_eq!(damage_of(again(&disk, &ends)), (name.clone(), last.len_bytes - 1));
    disk.unlink(&name).unwrap();
    assert!(matches!(again(&disk, &ends), StorageError::Missing { file, .. } if file == name));
    disk.put(&name, content);
    let mut reversed = ends.clone();
    reversed.segments.reverse();
    assert!(matches!(again(&disk, &reversed), StorageError::Damaged { .. }));
    assert!(matches!(again(&MemoryDisk::default(), &ends), StorageError::Missing { .. }));
}

#[test]
fn only_unnamed_files_of_ours_are_removed_and_only_when_asked() {
    let batches = batches(40);
    let (disk, mut log) = written(&batches[..15], SMALL);
    let early = log.ends();
    append_all(&mut log, &batches[15..]);
    log.sync().unwrap();
    disk.put(&format!("{DIR}/notes.txt"), vec![1]);
    disk.put(&format!("{DIR}/00000000000000000000.index.tmp"), vec![1]);

    let before = names(&disk);
    let mut log = open(&disk, SMALL, &early);
    assert_eq!(names(&disk), before);
    let removed = log.remove_unnamed(|_| false).unwrap();
    let after = names(&disk);
    assert_eq!(removed, before.len() - after.len());
    let kept = |name: &&String| {
        let is_named =
            |segment: &super::super::SegmentEnd| name.starts_with(&format!("{:020}", segment.base_offset));
        *name == "notes.txt" || (early.segments.iter().any(is_named) && !name.ends_with(".tmp"))
    };
    assert_eq!(after, before.iter().filter(kept).cloned().collect::<Vec<_>>());
    assert_reads_as(&log.readable(), &batches[..15]);
    append_all(&mut log, &batches[15..]);
    assert_eq!(log.remove_unnamed(|_| false).unwrap(), 0);
    log.sync().unwrap();
    assert_reads_as(&log.readable(), &batches);
    assert_eq!(open(&MemoryDisk::default(), SMALL, &Ends::default()).remove_unnamed(|_| false).unwrap(), 0);
}

#[test]
fn no_handle_stays_open_and_few_segments_stay_mapped() {
    let batches = batches(100);
    let (disk, log) = written(&batches, SMALL);
    assert!(log.ends().segments.len() > OPEN_SEGMENTS_MAX);
    assert_eq!(disk.open_handles(), 0);
    let log = open(&disk, SMALL, &log.ends());
    let written_with = disk.open_handles_max();
    assert_reads_as(&log.readable(), &batches);
    assert_eq!(disk.open_handles(), 0);
    assert_eq!(disk.open_handles_max(), written_with.max(1));
}

/// A node that had served a gigabyte once seemed to take it for ever.
#[test]
fn segments_that_nobody_reads_are_closed_and_opened_again() {
    let batches = batches(100);
    let (_disk, log) = written(&batches, SMALL);
    let set = log.readable();
    assert_reads_as(&set, &batches);
    let all = set.mapped_count();
    assert!(all >= OPEN_SEGMENTS_MAX);
    // What was read since the last time stays.
    set.close_unread();
    assert_eq!(set.mapped_count(), all);
    let first = set.read(0, 1).unwrap();
    set.close_unread();
    assert_eq!(set.mapped_count(), 1);
    set.close_unread();
    assert_eq!(set.mapped_count(), 0);
    assert_eq!(first, batches[..1], "what a reader holds can be read");
    assert_reads_as(&set, &batches);
}

#[test]
fn readers_on_other_threads_see_whole_syncs_while_the_writer_goes_on() {
    let batches = batches(300);
    let disk = MemoryDisk::default();
    // Opened again after each sync, so that readers and the writer build the same index in turns.
    let mut log = open(&disk, SMALL, &Ends::default());
    let reader = parking_lot::RwLock::new(log.reader());
    let read_until_the_end = || {
        let mut end_offset = 0;
        while end_offset < batches.last().unwrap().next_offset() {
            let set = reader.read().current();
            assert!(set.end_offset() >= end_offset);
            end_offset = set.end_offset();
            let synced = &batches[..batches.partition_point(|batch| batch.base_offset() < end_offset)];
            assert_eq!(set.read(0, usize::MAX).unwrap(), synced);
            if let Some(last) = synced.last() {
                assert_eq!(set.read(end_offset - 1, 1).unwrap(), std::slice::from_ref(last));
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(read_until_the_end);
        scope.spawn(read_until_the_end);
        for some in batches.chunks(3) {
            append_all(&mut log, some);
            log.sync().unwrap();
            log = open(&disk, SMALL, &log.ends());
            *reader.write() = log.reader();
        }
    });
    assert_reads_as(&log.readable(), &batches);
}
