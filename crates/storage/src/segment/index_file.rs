//! The index files of a sealed segment: written whole, checked whole, and worth nothing when in doubt.
//!
//! ```text
//!    0 magic 8 B · 8 version u16 · 10 zero u16 · 12 entries u32 · 16 base offset u64 · 24 segment bytes u64
//!   32 end offset u64 · 40 crc-32 u32 · 44 entries: (relative offset u32, position u32) in `.index`,
//!                                                   (timestamp i64, relative offset u32) in `.timeindex`
//! ```
//!
//! All numbers are little-endian. The files are never synced, so after a crash they may hold anything: [`load`] gives
//! an index or nothing, and nothing means that the segment is surveyed.
//!
//! Invariants
//!   * an index that loads has passed its CRC, states this segment's base offset and length, and is in order
//!   * its files are complete before they get their names

use super::index::{INDEX_ENTRIES_MAX, Index, OffsetEntry, Place, TimeEntry};
use super::{FileId, names};
use crate::disk::{Disk, Mode};
use std::io::{self, IoSlice};

const OFFSET_MAGIC: [u8; 8] = *b"EXLOGIDX";
const TIME_MAGIC: [u8; 8] = *b"EXLOGTIX";
const VERSION: u16 = 1;

const MAGIC_AT: usize = 0;
const VERSION_AT: usize = MAGIC_AT + 8; // u16
const ZERO_AT: usize = VERSION_AT + 2; // u16
const ENTRIES_AT: usize = ZERO_AT + 2; // u32
const BASE_OFFSET_AT: usize = ENTRIES_AT + 4; // u64
const SEGMENT_BYTES_AT: usize = BASE_OFFSET_AT + 8; // u64
const END_OFFSET_AT: usize = SEGMENT_BYTES_AT + 8; // u64
const CRC_AT: usize = END_OFFSET_AT + 8; // u32, IEEE, over all other bytes of the file
const HEADER_BYTES: usize = CRC_AT + 4;
const _: () = assert!(HEADER_BYTES == 44);

const OFFSET_ENTRY_BYTES: usize = 4 + 4;
const TIME_ENTRY_BYTES: usize = 8 + 4;

/// The first batch has an entry in any case, so there may be one more than a full segment's.
const ENTRIES_MAX: usize = INDEX_ENTRIES_MAX + 1;

/// Reads the index of the segment with these files and this length, if its files are there and whole.
pub(super) fn load(disk: &dyn Disk, dir: &str, id: FileId, segment_bytes: u64) -> Option<Index> {
    let base_offset = id.base_offset;
    let read = |name: &str, magic, entry_bytes| {
        let file = read_whole(disk, name, entry_bytes)?;
        let covered = check(&file, magic, entry_bytes, base_offset, segment_bytes)?;
        Some((file, covered))
    };
    let (offset_file, covered) = read(&names::offset_index(dir, id), OFFSET_MAGIC, OFFSET_ENTRY_BYTES)?;
    let (time_file, covered_by_times) = read(&names::time_index(dir, id), TIME_MAGIC, TIME_ENTRY_BYTES)?;
    let offsets = entries(&offset_file, OFFSET_ENTRY_BYTES, |entry| OffsetEntry {
        relative_offset: u32_at(entry, 0),
        position: u32_at(entry, 4),
    });
    let times = entries(&time_file, TIME_ENTRY_BYTES, |entry| TimeEntry {
        max_timestamp_ms: u64_at(entry, 0) as i64, // the same 64 bits
        relative_offset: u32_at(entry, 8),
    });
    let whole = covered == covered_by_times && in_order(&offsets, &times, covered, base_offset);
    whole.then(|| Index::of_sealed(base_offset, covered, offsets, times))
}

/// Whether one of the two files, `.index` or `.timeindex`, isn't whole by itself.
pub(super) fn is_wrong(
    disk: &dyn Disk,
    dir: &str,
    id: FileId,
    segment_bytes: u64,
    is_of_times: bool,
) -> bool {
    let (name, magic, entry_bytes) = match is_of_times {
        false => (names::offset_index(dir, id), OFFSET_MAGIC, OFFSET_ENTRY_BYTES),
        true => (names::time_index(dir, id), TIME_MAGIC, TIME_ENTRY_BYTES),
    };
    let covered = |file: Vec<u8>| check(&file, magic, entry_bytes, id.base_offset, segment_bytes);
    read_whole(disk, &name, entry_bytes).and_then(covered).is_none()
}

/// Writes both files of a sealed segment under temporary names and renames them. Nothing is synced.
pub(super) fn save(disk: &dyn Disk, dir: &str, id: FileId, index: &Index) -> io::Result<()> {
    let base_offset = id.base_offset;
    let offsets = index.offsets().iter().map(|entry| {
        let mut bytes = [0; OFFSET_ENTRY_BYTES];
        bytes[..4].copy_from_slice(&entry.relative_offset.to_le_bytes());
        bytes[4..].copy_from_slice(&entry.position.to_le_bytes());
        bytes
    });
    let times = index.times().iter().map(|entry| {
        let mut bytes = [0; TIME_ENTRY_BYTES];
        bytes[..8].copy_from_slice(&entry.max_timestamp_ms.to_le_bytes());
        bytes[8..].copy_from_slice(&entry.relative_offset.to_le_bytes());
        bytes
    });
    let covered = index.covered();
    let offset_file = encode(OFFSET_MAGIC, base_offset, covered, offsets);
    write_whole(disk, &names::offset_index(dir, id), &offset_file)?;
    let time_file = encode(TIME_MAGIC, base_offset, covered, times);
    write_whole(disk, &names::time_index(dir, id), &time_file)
}

fn encode<const N: usize>(
    magic: [u8; 8],
    base_offset: u64,
    covered: Place,
    entries: impl ExactSizeIterator<Item = [u8; N]>,
) -> Vec<u8> {
    let mut file = Vec::with_capacity(HEADER_BYTES + entries.len() * N);
    file.extend_from_slice(&magic);
    file.extend_from_slice(&VERSION.to_le_bytes());
    file.extend_from_slice(&[0; 2]);
    file.extend_from_slice(&(entries.len() as u32).to_le_bytes()); // at most ENTRIES_MAX
    file.extend_from_slice(&base_offset.to_le_bytes());
    file.extend_from_slice(&covered.position.to_le_bytes());
    file.extend_from_slice(&covered.offset.to_le_bytes());
    file.extend_from_slice(&[0; HEADER_BYTES - CRC_AT]);
    entries.for_each(|entry| file.extend_from_slice(&entry));
    let crc = crc_of(&file);
    file[CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    file
}

pub(super) fn write_whole(disk: &dyn Disk, name: &str, content: &[u8]) -> io::Result<()> {
    let temporary = names::temporary(name);
    let file = match disk.open(&temporary, Mode::CreateNew) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            disk.unlink(&temporary)?;
            disk.open(&temporary, Mode::CreateNew)?
        }
        opened => opened?,
    };
    file.write_at(&[IoSlice::new(content)], 0)?;
    disk.rename(&temporary, name)
}

/// The whole file if its length is one that an index can have.
fn read_whole(disk: &dyn Disk, name: &str, entry_bytes: usize) -> Option<Vec<u8>> {
    let file = disk.open(name, Mode::Read).ok()?;
    let len_bytes = usize::try_from(file.len().ok()?).ok()?;
    if len_bytes < HEADER_BYTES || len_bytes > HEADER_BYTES + ENTRIES_MAX * entry_bytes {
        return None;
    }
    let mut content = vec![0; len_bytes];
    (file.read_at(&mut content, 0).ok()? == len_bytes).then_some(content)
}

/// The end of the segment that the index covers, if the file is whole and of this segment.
fn check(
    file: &[u8],
    magic: [u8; 8],
    entry_bytes: usize,
    base_offset: u64,
    segment_bytes: u64,
) -> Option<Place> {
    let entries_bytes = (u32_at(file, ENTRIES_AT) as usize).checked_mul(entry_bytes)?;
    let whole = file[MAGIC_AT..VERSION_AT] == magic
        && file[VERSION_AT..ZERO_AT] == VERSION.to_le_bytes()
        && file.len() - HEADER_BYTES == entries_bytes
        && u64_at(file, BASE_OFFSET_AT) == base_offset
        && u64_at(file, SEGMENT_BYTES_AT) == segment_bytes
        && u32_at(file, CRC_AT) == crc_of(file);
    whole.then(|| Place { position: segment_bytes, offset: u64_at(file, END_OFFSET_AT) })
}

fn in_order(offsets: &[OffsetEntry], times: &[TimeEntry], covered: Place, base_offset: u64) -> bool {
    let begins = offsets.first() == Some(&OffsetEntry { relative_offset: 0, position: 0 });
    let rises = offsets
        .windows(2)
        .all(|pair| pair[0].relative_offset < pair[1].relative_offset && pair[0].position < pair[1].position);
    let ends = offsets.last().is_some_and(|last| {
        u64::from(last.position) < covered.position
            && covered
                .offset
                .checked_sub(base_offset)
                .is_some_and(|len| u64::from(last.relative_offset) < len)
    });
    let times_rise = times.windows(2).all(|pair| {
        pair[0].max_timestamp_ms < pair[1].max_timestamp_ms
            && pair[0].relative_offset < pair[1].relative_offset
    });
    let times_lead_to_batches = times.iter().all(|time| {
        offsets.binary_search_by_key(&time.relative_offset, |entry| entry.relative_offset).is_ok()
    });
    begins && rises && ends && times_rise && times_lead_to_batches
}

fn entries<T>(file: &[u8], entry_bytes: usize, decode: impl Fn(&[u8]) -> T) -> Vec<T> {
    file[HEADER_BYTES..].chunks_exact(entry_bytes).map(decode).collect()
}

fn crc_of(file: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&file[..CRC_AT]);
    crc.update(&file[HEADER_BYTES..]);
    crc.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("the length was checked to hold the field"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("the length was checked to hold the field"))
}
