//! Reads a segment from end to end, checks every batch and builds its index: what to do when there is no index, and
//! how the batches behind a damaged one are found again.
//!
//! It isn't repair: nothing is written, and what is damaged stays an error to whoever asks for it.
//!
//! Invariants
//!   * every byte below the end is either part of a checked batch or of a damaged region
//!   * of a file that was cut the whole batches before the cut count, and what follows is one damaged region
//!   * after damage, a batch counts only if it is proven that it isn't bytes inside another one's payload:
//!     the damaged batch's own length and offsets lead to it, or all that follows is whole batches without a gap in
//!     offsets, up to exactly the end of the segment. A record whose value looks like a batch can do neither with
//!     offsets of records that aren't its own

use super::cursor::Cursor;
use super::fault::damaged;
use super::index::{Index, Place};
use crate::error::StorageError;
use exactlog_core::batch::{Batch, HEADER_BYTES};

/// A file is surveyed in pieces of this many bytes.
pub(super) const SURVEY_READ_BYTES: usize = 1 << 20;

/// Extends `index` from what it covers to the end of the segment. No offset of the segment reaches `limit_offset`.
///
/// Damage isn't an error: it is noted in the index. Only the disk's errors are.
pub(super) fn survey(
    cursor: &mut Cursor<'_>,
    index: &mut Index,
    limit_offset: u64,
) -> Result<(), StorageError> {
    while index.covered().position < cursor.end() {
        let at = index.covered();
        match checked_batch(cursor, at, limit_offset) {
            Ok(batch) => index.push(&batch),
            Err(StorageError::Damaged { what, .. }) => {
                let to = resume(cursor, at, limit_offset)?;
                let what = format!("{what}; lost are the offsets from {} to below {}", at.offset, to.offset);
                index.push_damage(to, what);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Where the first batch behind the damaged one at `at` begins that is proven to be one; else the segment's end.
fn resume(cursor: &mut Cursor<'_>, at: Place, limit_offset: u64) -> Result<Place, StorageError> {
    if let Some(next) = stated_successor(cursor, at)?
        && found(checked_batch(cursor, next, limit_offset))?.is_some()
    {
        return Ok(next);
    }
    if cursor.is_cut() {
        // Nothing leads to an end that isn't there.
        return Ok(Place { position: cursor.end(), offset: limit_offset });
    }
    let mut position = at.position + 1;
    while position + HEADER_BYTES as u64 <= cursor.end() {
        let header = cursor.header_at(position)?;
        let offset = u64_at(header, BASE_OFFSET_AT);
        let may_be = header[MAGIC_AT] == MAGIC && at.offset < offset && offset < limit_offset;
        if may_be && leads_to_the_end(cursor, Place { position, offset }, limit_offset)? {
            return Ok(Place { position, offset });
        }
        position += 1;
    }
    Ok(Place { position: cursor.end(), offset: limit_offset })
}

/// Where the next batch begins according to the header of the damaged one: its body alone may be broken.
fn stated_successor(cursor: &mut Cursor<'_>, at: Place) -> Result<Option<Place>, StorageError> {
    let Some(len_bytes) = found(cursor.batch_len_at(at.position))? else { return Ok(None) };
    let position = at.position + len_bytes as u64;
    if position >= cursor.end() {
        return Ok(None);
    }
    let header = cursor.header_at(at.position)?; // it was looked at for the length
    let last_offset_delta = u64::from(u32_at(header, LAST_OFFSET_DELTA_AT));
    Ok(at.offset.checked_add(last_offset_delta + 1).map(|offset| Place { position, offset }))
}

/// Whether checked batches follow each other from `at` to exactly the end of the segment.
fn leads_to_the_end(cursor: &mut Cursor<'_>, mut at: Place, limit_offset: u64) -> Result<bool, StorageError> {
    while at.position < cursor.end() {
        match found(checked_batch(cursor, at, limit_offset))? {
            Some(batch) => {
                at = Place { position: at.position + batch.len_bytes() as u64, offset: batch.next_offset() };
            }
            None => return Ok(false),
        }
    }
    Ok(true)
}

/// The batch at `at`, if it is whole and ends at `limit_offset` or before.
pub(super) fn checked_batch(
    cursor: &mut Cursor<'_>,
    at: Place,
    limit_offset: u64,
) -> Result<Batch, StorageError> {
    let batch = cursor.batch_at(at.position, at.offset)?;
    if batch.next_offset() > limit_offset {
        let what = format!("batch ends at offset {}, the segment before {limit_offset}", batch.last_offset());
        return Err(damaged(cursor.name(), at.position, what));
    }
    Ok(batch)
}

/// Damage means that nothing was found; other errors stay errors.
fn found<T>(result: Result<T, StorageError>) -> Result<Option<T>, StorageError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(StorageError::Damaged { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

// The fields of a batch that are looked at before it is known to be one, as message format v2 places them.
const BASE_OFFSET_AT: usize = 0; // i64
const LENGTH_AT: usize = BASE_OFFSET_AT + 8; // i32
const LEADER_EPOCH_AT: usize = LENGTH_AT + 4; // i32
const MAGIC_AT: usize = LEADER_EPOCH_AT + 4; // i8
const CRC_AT: usize = MAGIC_AT + 1; // u32
const ATTRIBUTES_AT: usize = CRC_AT + 4; // i16
const LAST_OFFSET_DELTA_AT: usize = ATTRIBUTES_AT + 2; // i32
const _: () = assert!(LAST_OFFSET_DELTA_AT + 4 < HEADER_BYTES);
const MAGIC: u8 = 2;

fn u64_at(header: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(*header[at..].first_chunk().expect("the field lies within the header"))
}

fn u32_at(header: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(*header[at..].first_chunk().expect("the field lies within the header"))
}
