//! Target `segment`: any bytes as the files of a partition's segments, and as the ends that a checkpoint states.
//!
//! ```text
//!   mode u8 | end offset u64 | segments x { base offset u64 | length u32 | max timestamp i64 | first timestamp i64 }
//!   segments x { .log | .index | .timeindex }
//! ```
//!
//! Bits of the mode: 1, two segments, not one; 2, the checksums of indexes are set right; 4, batches' too.
//!
//! Checked:
//!   * the segments are opened, or refused by a typed error
//!   * a read gives whole batches in order, or says what is damaged
//!   * index files make no difference to what is read of segments that are whole (unless checksums were forged)
//!   * what was opened can be appended to and opened again

use super::input::{Input, Output};
use super::watched::Watched;
use crate::disk::SimDisk;
use bytes::Bytes;
use exactlog_core::batch::{Batch, BatchBuilder, BatchError, HEADER_BYTES};
use exactlog_storage::StorageError;
use exactlog_storage::disk::Disk;
use exactlog_storage::segment::{Ends, Options, PartitionLog, SegmentEnd, SegmentSet};

const TWO_SEGMENTS: u8 = 1;
const MEND_INDEXES: u8 = 2;
const MEND_BATCHES: u8 = 4;

pub(super) const DIRECTORY: &str = "topics/1-0";

/// The kinds of files of one segment.
pub(super) const ENDINGS: [&str; 3] = ["log", "index", "timeindex"];

/// Small, so that a few hundred bytes give several entries and two segments.
pub(super) const OPTIONS: Options =
    Options { segment_bytes: 1500, segment_ms: 60_000, index_interval_bytes: 200 };

/// Most reads of one walk.
const STEPS_MAX: usize = 100;

// Where in an index file its number of entries and its checksum lie (docs/FORMAT.md).
const INDEX_ENTRIES_AT: usize = 12; // u32
const INDEX_CRC_AT: usize = 40; // u32
const INDEX_HEADER_BYTES: usize = INDEX_CRC_AT + 4;
/// Where in a batch its checksum lies.
const BATCH_CRC_AT: usize = 17; // u32

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = input.u8();
    let ends = ends(&mut input, mode);
    let disk = SimDisk::new();
    disk.create_dir(DIRECTORY).expect("the disk is empty");
    let bare = SimDisk::new();
    bare.create_dir(DIRECTORY).expect("the disk is empty");
    for segment in &ends.segments {
        for ending in ENDINGS {
            let mut content = input.file();
            mend(&mut content, ending, mode);
            if content.is_empty() {
                continue;
            }
            let name = name(segment.base_offset, ending);
            disk.put(&name, &content).expect("the directory is there");
            if ending == "log" {
                bare.put(&name, &content).expect("the directory is there");
            }
        }
    }
    let (with, without) = (look(&disk, &ends), look(&bare, &ends));
    if mode & (MEND_INDEXES | MEND_BATCHES) == 0 && is_whole(&without) {
        assert_eq!(with, without, "with index files and without");
    }
    go_on(&disk, &ends);
}

/// Name of a file of the segment with this base offset.
pub(super) fn name(base_offset: u64, ending: &str) -> String {
    format!("{DIRECTORY}/{base_offset:020}.{ending}")
}

/// One or two segments as this target takes them.
pub(super) fn encode(mode: u8, ends: &Ends, disk: &SimDisk) -> Vec<u8> {
    let mode = if ends.segments.len() > 1 { mode | TWO_SEGMENTS } else { mode };
    let mut output = Output::default().u8(mode).u64(ends.end_offset);
    for segment in &ends.segments {
        output = output.u64(segment.base_offset).u32(segment.len_bytes as u32);
        output = output.u64(segment.max_timestamp_ms as u64).u64(segment.first_timestamp_ms as u64);
    }
    for segment in &ends.segments {
        for ending in ENDINGS {
            output = output.file(&disk.read_file(&name(segment.base_offset, ending)).unwrap_or_default());
        }
    }
    output.done()
}

fn ends(input: &mut Input<'_>, mode: u8) -> Ends {
    let end_offset = input.u64();
    let segments = if mode & TWO_SEGMENTS != 0 { 2 } else { 1 };
    let segment = |_| SegmentEnd {
        base_offset: input.u64(),
        len_bytes: u64::from(input.u32()),
        max_timestamp_ms: input.u64() as i64,
        first_timestamp_ms: input.u64() as i64,
        file: 0,
        sparse: false,
        clean_records: None,
    };
    Ends { end_offset, segments: (0..segments).map(segment).collect() }
}

/// Sets the checksum of an index file, or those of the batches that follow each other from the start, right.
fn mend(content: &mut [u8], ending: &str, mode: u8) {
    match ending {
        "log" if mode & MEND_BATCHES != 0 => mend_batches(content),
        "index" if mode & MEND_INDEXES != 0 => mend_index(content, 4 + 4),
        "timeindex" if mode & MEND_INDEXES != 0 => mend_index(content, 8 + 4),
        _ => {}
    }
}

fn mend_index(content: &mut [u8], entry_bytes: usize) {
    if content.len() < INDEX_HEADER_BYTES {
        return;
    }
    let entries = ((content.len() - INDEX_HEADER_BYTES) / entry_bytes) as u32;
    content[INDEX_ENTRIES_AT..INDEX_ENTRIES_AT + 4].copy_from_slice(&entries.to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&content[..INDEX_CRC_AT]);
    crc.update(&content[INDEX_HEADER_BYTES..]);
    content[INDEX_CRC_AT..INDEX_HEADER_BYTES].copy_from_slice(&crc.finalize().to_le_bytes());
}

fn mend_batches(mut content: &mut [u8]) {
    while let Ok(len) = Batch::announced_len(content)
        && len <= content.len()
    {
        let (batch, behind) = content.split_at_mut(len);
        if let Err(BatchError::Crc { computed, .. }) = Batch::parse(Bytes::copy_from_slice(batch)) {
            batch[BATCH_CRC_AT..BATCH_CRC_AT + 4].copy_from_slice(&computed.to_be_bytes());
        }
        content = behind;
    }
}

/// What a reader sees: batches as (base offset, next offset), or where something is damaged.
type Seen = Vec<Result<(u64, u64), String>>;

/// Whether nothing was damaged. Past damage an index may lead where a survey can't, so more may be read with one.
fn is_whole(looked: &Result<(Seen, Seen), String>) -> bool {
    looked.as_ref().is_ok_and(|(read, found)| read.iter().chain(found).all(Result::is_ok))
}

/// What a reader sees in offset order and finds by time; or why there is nothing to read.
fn look(disk: &SimDisk, ends: &Ends) -> Result<(Seen, Seen), String> {
    let log = open(disk, ends).map_err(|error| error.to_string())?;
    let set = log.readable();
    let times = [i64::MIN, -1, 0, 1_000, 1_010, 1_050, i64::MAX];
    let found = times.iter().filter_map(|time_ms| match set.first_at_or_after(*time_ms) {
        Ok(found) => found.map(|(offset, time_ms)| Ok((offset, time_ms as u64))),
        Err(error) => Some(Err(checked(error).to_string())),
    });
    Ok((read_all(&set), found.collect()))
}

fn open(disk: &SimDisk, ends: &Ends) -> Result<PartitionLog, StorageError> {
    PartitionLog::open(Watched::over(disk), DIRECTORY.to_owned(), OPTIONS, ends).map_err(checked)
}

/// The disk has no faults, so everything that is wrong lies in the bytes.
fn checked(error: StorageError) -> StorageError {
    assert!(error.is_refusal(), "{error:?}");
    error
}

fn read_all(set: &SegmentSet) -> Seen {
    let mut seen = Vec::new();
    let mut offset = set.start_offset();
    for _ in 0..STEPS_MAX {
        match set.read(offset, 400) {
            Ok(batches) => {
                for batch in &batches {
                    assert!(batch.next_offset() > offset && batch.next_offset() <= set.end_offset());
                    assert!(
                        Batch::crc_holds(batch.header(), batch.body()) && batch.len_bytes() >= HEADER_BYTES
                    );
                    offset = batch.next_offset();
                    seen.push(Ok((batch.base_offset(), offset)));
                }
                if batches.is_empty() {
                    break;
                }
            }
            Err(error) => {
                seen.push(Err(checked(error).to_string()));
                let Some(next) = offset.checked_add(1) else { break };
                offset = next;
            }
        }
    }
    seen
}

/// Appends a batch, and opens again what is durable then.
fn go_on(disk: &SimDisk, ends: &Ends) {
    let Ok(mut log) = open(disk, ends) else { return };
    // Beyond that no batch can be placed.
    if ends.end_offset >= i64::MAX as u64 {
        return;
    }
    let mut builder = BatchBuilder::new(16);
    builder.append(1_060, None, Some(b"behind"), &[]);
    let batch = builder.finish(None).placed(ends.end_offset, 1);
    log.append(&batch).expect("the disk has no faults");
    log.sync().expect("the disk has no faults");
    read_all(&log.readable());
    let ends = log.ends();
    assert_eq!(ends.end_offset, batch.next_offset());
    drop(log);
    let again = open(disk, &ends).expect("what was made durable is opened again");
    assert_eq!(again.ends(), ends);
    read_all(&again.readable());
}
