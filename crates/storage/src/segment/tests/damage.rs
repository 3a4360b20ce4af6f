//! Damaged segments: the damaged batch is an error that says where, the others are read.

use super::*;

/// The leader epoch is the one field that nothing in a segment can prove: it lies outside the batch's CRC. Whoever
/// knows which epoch wrote which offsets, the state, has to compare.
const LEADER_EPOCH: std::ops::Range<usize> = 12..16;

fn first_log() -> String {
    format!("{DIR}/00000000000000000000.log")
}

/// Each batch with the position where it begins.
fn places(batches: &[Batch]) -> Vec<(usize, &Batch)> {
    let mut position = 0;
    let place = |batch| {
        let begin = position;
        position += Batch::len_bytes(batch);
        (begin, batch)
    };
    batches.iter().map(place).collect()
}

/// The batch of `bad` errors with its file and position for each of its offsets, and all others are read.
fn assert_only_damaged(set: &SegmentSet, batches: &[Batch], bad: std::ops::Range<usize>, what: &str) {
    let places = places(batches);
    for (at, (_, batch)) in places.iter().enumerate() {
        for offset in batch.base_offset()..batch.next_offset() {
            if let Ok(found) = set.batch_of(offset) {
                assert_eq!(found.map(|(found, _)| found).as_ref(), Some(*batch), "{what}, offset {offset}");
                assert!(!bad.contains(&at), "{what}, offset {offset}");
            }
            if bad.contains(&at) {
                let damage = damage_of(set.read(offset, 1).unwrap_err());
                assert_eq!(damage, (first_log(), places[bad.start].0 as u64), "{what}, offset {offset}");
            } else {
                let found =
                    set.read(offset, 1).unwrap_or_else(|error| panic!("{what}, offset {offset}: {error}"));
                assert_eq!(found, [(*batch).clone()], "{what}, offset {offset}");
            }
        }
    }
    let before = set.read(0, usize::MAX);
    match bad.start {
        0 => assert!(before.is_err(), "{what}"),
        _ => assert_eq!(before.unwrap(), batches[..bad.start], "{what}"),
    }
}

/// Whether the first segment is sealed by a batch behind `batches`, or still grows.
fn one_segment(batches: &[Batch], is_sealed: bool) -> (MemoryDisk, Ends) {
    let options = Options { segment_bytes: 100_000, segment_ms: 100_000, ..SMALL };
    let (disk, mut log) = written(batches, options);
    if is_sealed {
        let next_offset = batches.last().unwrap().next_offset();
        log.append(&batch(next_offset, &[1_000_000], 1)).unwrap();
        log.sync().unwrap();
    }
    assert_eq!(log.ends().segments.len(), 1 + usize::from(is_sealed));
    (disk, log.ends())
}

fn flip_every_bit(is_sealed: bool, has_index: bool) {
    let batches = batches(7);
    let (disk, ends) = one_segment(&batches, is_sealed);
    let good = disk.content(&first_log());
    for (at, (begin, batch)) in places(&batches).into_iter().enumerate() {
        for byte in 0..batch.len_bytes() {
            if LEADER_EPOCH.contains(&byte) {
                continue;
            }
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[begin + byte] ^= 1 << bit;
                disk.put(&first_log(), bad);
                if !has_index {
                    let _ = disk.unlink(&format!("{DIR}/00000000000000000000.index"));
                }
                let set = open(&disk, SMALL, &ends).readable();
                assert_readable_set(
                    &set,
                    &batches,
                    at,
                    &format!("byte {byte} bit {bit} of batch {at}"),
                    is_sealed,
                );
            }
        }
    }
}

fn assert_readable_set(set: &SegmentSet, batches: &[Batch], at: usize, what: &str, is_sealed: bool) {
    assert_only_damaged(set, batches, at..at + 1, what);
    if is_sealed {
        let behind = set.read(batches.last().unwrap().next_offset(), 1).unwrap();
        assert_eq!(behind[0].max_timestamp_ms(), 1_000_000, "{what}");
    }
    // A look-up by time gives the truth or the damage, never another answer.
    let records = records(batches);
    for (_, timestamp_ms) in &records {
        let first = records.iter().find(|record| record.1 >= *timestamp_ms).copied();
        match set.first_at_or_after(*timestamp_ms) {
            Ok(found) => assert_eq!(found, first, "{what}, at or after {timestamp_ms}"),
            Err(error) => assert_eq!(damage_of(error).1, places(batches)[at].0 as u64, "{what}"),
        }
    }
}

#[test]
fn any_bit_flipped_in_a_sealed_segment_costs_its_batch_only() {
    flip_every_bit(true, true);
}

#[test]
fn any_bit_flipped_in_a_sealed_segment_without_index_costs_its_batch_only() {
    flip_every_bit(true, false);
}

#[test]
fn any_bit_flipped_in_the_growing_segment_costs_its_batch_only() {
    flip_every_bit(false, false);
}

#[test]
fn damage_is_met_also_while_the_writer_goes_on() {
    let batches = batches(12);
    let options = Options { segment_bytes: 100_000, segment_ms: 100_000, ..SMALL };
    let (disk, mut log) = written(&batches[..6], options);
    assert_reads_as(&log.readable(), &batches[..6]);
    let mut bad = disk.content(&first_log());
    bad[places(&batches)[2].0 + 8 + 2] ^= 1; // its length
    disk.put(&first_log(), bad);
    assert_only_damaged(&log.readable(), &batches[..6], 2..3, "before");
    append_all(&mut log, &batches[6..]);
    log.sync().unwrap();
    assert_only_damaged(&log.readable(), &batches, 2..3, "behind");
}

#[test]
fn zeroed_and_misplaced_sectors_cost_the_batches_that_they_touch() {
    let batches = batches(60);
    let (disk, ends) = one_segment(&batches, true);
    let good = disk.content(&first_log());
    let places = places(&batches);
    for sector in 0..good.len() / 512 {
        for filling in [vec![0; 512], good[..512].to_vec()] {
            let mut bad = good.clone();
            bad[sector * 512..(sector + 1) * 512].copy_from_slice(&filling);
            if bad == good {
                continue;
            }
            let touched = |(begin, batch): &(usize, &Batch)| {
                bad[*begin..begin + batch.len_bytes()] != good[*begin..begin + batch.len_bytes()]
            };
            let first = places.iter().position(touched).unwrap();
            let last = places.iter().rposition(touched).unwrap();
            disk.put(&first_log(), bad.clone());
            let set = open(&disk, SMALL, &ends).readable();
            for (at, (begin, batch)) in places.iter().enumerate() {
                let read = set.read(batch.base_offset(), 1);
                if (first..=last).contains(&at) {
                    let (file, position) = damage_of(read.unwrap_err());
                    assert_eq!(file, first_log());
                    assert!(places[first].0 as u64 <= position && position <= *begin as u64);
                } else {
                    assert_eq!(read.unwrap(), [(*batch).clone()], "sector {sector}, batch {at}");
                }
            }
        }
    }
}

/// The first one's value is made of batches that would fit behind it; then come others.
fn batches_behind_one_with_batches_in_its_value() -> Vec<Batch> {
    let inner: Vec<u8> = (1..5u64)
        .map(|offset| batch(offset, &[666], 10))
        .flat_map(|batch| [&batch.header()[..], batch.body()].concat())
        .collect();
    let mut builder = BatchBuilder::new(0);
    builder.append(3, None, Some(&inner), &[]);
    let mut batches = vec![builder.finish(None).placed(0, 5)];
    (1..6).for_each(|offset| batches.push(batch(offset, &[offset as i64], 10)));
    batches
}

/// A value may hold whole batches. When the batch around it is damaged, they must not be taken for the log's.
#[test]
fn a_batch_inside_a_damaged_batchs_value_is_never_taken_for_one_of_the_log() {
    let batches = batches_behind_one_with_batches_in_its_value();
    for is_sealed in [true, false] {
        let (disk, ends) = one_segment(&batches, is_sealed);
        let good = disk.content(&first_log());
        for byte in (0..batches[0].len_bytes()).filter(|byte| !LEADER_EPOCH.contains(byte)) {
            let mut bad = good.clone();
            bad[byte] ^= 0x10;
            disk.put(&first_log(), bad);
            let set = open(&disk, SMALL, &ends).readable();
            assert_only_damaged(&set, &batches, 0..1, &format!("byte {byte}"));
        }
    }
}

/// Each batch of the log with the file that it is in and the position where it begins there.
fn filed<'a>(batches: &'a [Batch], ends: &Ends) -> Vec<(String, u64, &'a Batch)> {
    let file_of = |batch: &Batch| {
        let behind = ends.segments.partition_point(|segment| segment.base_offset <= batch.base_offset());
        ends.segments[behind - 1].base_offset
    };
    let mut position = 0;
    let mut filed: Vec<(String, u64, &Batch)> = Vec::new();
    for batch in batches {
        let file = format!("{DIR}/{:020}.log", file_of(batch));
        position = if filed.last().is_some_and(|last| last.0 == file) { position } else { 0 };
        filed.push((file, position, batch));
        position += batch.len_bytes() as u64;
    }
    filed
}

/// What of the file `name` lies at `cut` or behind is lost, by name, and nothing else; and the log goes on.
fn assert_only_the_end_is_lost(disk: &MemoryDisk, ends: &Ends, batches: &[Batch], name: &str, cut: u64) {
    let mut log = open(disk, SMALL, ends);
    let filed = filed(batches, ends);
    let is_lost = |(file, position, batch): &&(String, u64, &Batch)| {
        file == name && position + batch.len_bytes() as u64 > cut
    };
    let lost: Vec<&(String, u64, &Batch)> = filed.iter().filter(is_lost).collect();
    let (from, to) = (lost[0].2.base_offset(), lost[lost.len() - 1].2.next_offset());
    for _ in 0..2 {
        for found in &filed {
            for offset in found.2.base_offset()..found.2.next_offset() {
                let (read, one) = (log.readable().read(offset, 1), log.readable().batch_of(offset));
                if !is_lost(&found) {
                    assert_eq!(read.unwrap(), std::slice::from_ref(found.2), "{name} {cut}, offset {offset}");
                    assert_eq!(one.unwrap().unwrap().0, *found.2, "{name} {cut}, offset {offset}");
                    continue;
                }
                for error in [read.unwrap_err(), one.map(|_| ()).unwrap_err()] {
                    let text = error.to_string();
                    let says = format!("lost are the offsets from {from} to below {to}");
                    assert!(text.contains(&says), "{name} {cut}, offset {offset}: {text}");
                    assert_eq!(damage_of(error), (name.to_owned(), lost[0].1), "{name} {cut}, {offset}");
                }
            }
        }
        let times = records(batches);
        for (_, timestamp_ms) in &times {
            match log.readable().first_at_or_after(*timestamp_ms) {
                Ok(found) => {
                    let first = times.iter().find(|record| record.1 >= *timestamp_ms).copied();
                    assert_eq!(found, first, "{name} {cut}, at or after {timestamp_ms}");
                }
                Err(error) => assert_eq!(damage_of(error), (name.to_owned(), lost[0].1), "{name} {cut}"),
            }
        }
        let next = batch(log.next_offset(), &[2_000], 3);
        log.append(&next).unwrap();
        log.sync().unwrap();
        assert_eq!(log.readable().read(next.base_offset(), 1).unwrap(), [next]);
    }
    let again = open(disk, SMALL, &log.ends());
    assert!(again.readable().read(from, 1).is_err(), "{name} {cut}: what is lost stays lost");
    assert_eq!(again.readable().read(ends.end_offset, 1).unwrap()[0].base_offset(), ends.end_offset);
}

/// A closed file that ends early, or isn't there, once made all of its partition unreadable, and ended the flushing of
/// all partitions.
#[test]
fn a_closed_file_that_is_cut_or_missing_costs_what_it_has_lost_and_nothing_else() {
    let batches = batches(20);
    let ends = written(&batches, SMALL).1.ends();
    assert!(ends.segments.len() >= 3);
    for closed in &ends.segments[..ends.segments.len() - 1] {
        let name = format!("{DIR}/{:020}.log", closed.base_offset);
        for cut in (0..closed.len_bytes).step_by(7).chain([closed.len_bytes - 1]) {
            for has_index in [true, false] {
                let (disk, _) = written(&batches, SMALL);
                let good = disk.content(&name);
                disk.put(&name, good[..cut as usize].to_vec());
                if !has_index {
                    disk.unlink(&format!("{DIR}/{:020}.index", closed.base_offset)).unwrap();
                }
                assert_only_the_end_is_lost(&disk, &ends, &batches, &name, cut);
            }
        }
        let (disk, _) = written(&batches, SMALL);
        disk.unlink(&name).unwrap();
        assert_only_the_end_is_lost(&disk, &ends, &batches, &name, 0);
    }
}

/// Where a file ends that was cut, the batches in a value may end, too.
#[test]
fn a_batch_inside_a_value_is_no_batch_of_the_log_either_where_the_file_is_cut_behind_it() {
    let batches = batches_behind_one_with_batches_in_its_value();
    let (disk, ends) = one_segment(&batches, true);
    let good = disk.content(&first_log());
    for cut in 1..batches[0].len_bytes() {
        disk.put(&first_log(), good[..cut].to_vec());
        let set = open(&disk, SMALL, &ends).readable();
        for offset in 0..6 {
            assert_eq!(damage_of(set.read(offset, 1).unwrap_err()), (first_log(), 0), "cut to {cut}");
        }
        assert_eq!(set.read(6, 1).unwrap()[0].max_timestamp_ms(), 1_000_000);
    }
}

#[test]
fn a_batch_that_reaches_beyond_the_end_is_damage_wherever_a_read_begins() {
    let batches = batches(6); // the last one has three records
    let (last, before) = batches.split_last().unwrap();
    let (disk, mut ends) = one_segment(&batches, false);
    ends.end_offset -= 1;
    let set = open(&disk, SMALL, &ends).readable();
    assert_eq!(set.read(0, usize::MAX).unwrap(), before);
    let position = places(&batches)[before.len()].0 as u64;
    assert_eq!(damage_of(set.read(last.base_offset(), 1).unwrap_err()), (first_log(), position));
    let found = set.first_at_or_after(last.max_timestamp_ms());
    assert_eq!(damage_of(found.unwrap_err()), (first_log(), position));
}
