//! Looks through the segments of a partition that nobody has open, batch by batch, and makes their indexes again.
//!
//! Invariants
//!   * [`inspect`] writes nothing; what it calls lost no reader gets
//!   * an index is made from a segment that is whole, or not at all

use super::cursor::{Content, Cursor};
use super::fault::{damaged, io_error};
use super::index::Index;
use super::shelf::{limit_of, map};
use super::survey::{SURVEY_READ_BYTES, survey};
use super::{Ends, FileId, SegmentEnd, index_file, names, transaction_index};
use crate::disk::{Disk, Mode};
use crate::error::StorageError;
use crate::mapped::read_whole;
use exactlog_core::state::AbortedTransaction;
use std::io;

/// What is wrong with a segment.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Batches can't be read: those of these offsets.
    Batches {
        /// File and position.
        error: StorageError,
        from: u64,
        to: u64,
    },
    /// An index file isn't there, or isn't what the segment says.
    Index { file: String, is_missing: bool },
}

/// Whether the name is that of a file which was never finished.
pub(crate) fn is_temporary(name: &str) -> bool {
    names::kind(name) == names::Kind::Temporary
}

/// Everything that is wrong with the segments of a partition.
pub(crate) fn inspect(
    disk: &dyn Disk,
    dir: &str,
    ends: &Ends,
    aborted: &[AbortedTransaction],
    interval_bytes: u32,
) -> Result<Vec<Fault>, StorageError> {
    let mut faults = Vec::new();
    for found in segments(ends) {
        let name = names::log(dir, found.end.id());
        let index = match read(disk, &name, &found, interval_bytes) {
            Err(error @ StorageError::Damaged { .. }) => {
                let (from, to) = (found.end.base_offset, found.limit_offset);
                faults.push(Fault::Batches { error, from, to });
                continue;
            }
            read => read?,
        };
        let regions = index.regions().iter();
        faults.extend(regions.map(|region| Fault::Batches {
            error: damaged(&name, region.from.position, region.what.clone()),
            from: region.from.offset,
            to: region.to.offset,
        }));
        if found.is_closed {
            faults.extend(indexes(disk, dir, &found, aborted)?);
        }
    }
    Ok(faults)
}

/// Makes the index files again that aren't as they should be.
pub(crate) fn rebuild_indexes(
    disk: &dyn Disk,
    dir: &str,
    ends: &Ends,
    aborted: &[AbortedTransaction],
    interval_bytes: u32,
) -> Result<(), StorageError> {
    for found in segments(ends).filter(|found| found.is_closed) {
        let id = found.end.id();
        let name = names::log(dir, id);
        if index_file::load(disk, dir, id, found.end.len_bytes).is_none() {
            let index = match read(disk, &name, &found, interval_bytes) {
                Err(StorageError::Damaged { .. }) => continue,
                read => read?,
            };
            if index.regions().is_empty() {
                index_file::save(disk, dir, id, &index).map_err(io_error("write the index of", &name))?;
            }
        }
        let entries = entries_of(id, found.limit_offset, aborted);
        if !entries.is_empty() {
            let made = transaction_index::ensure(disk, dir, id, entries);
            made.map_err(io_error("write the index of", &name))?;
        }
    }
    Ok(())
}

/// A segment that has batches.
struct Found {
    end: SegmentEnd,
    limit_offset: u64,
    is_closed: bool,
}

fn segments(ends: &Ends) -> impl Iterator<Item = Found> + '_ {
    let next = ends.segments.iter().skip(1).map(|next| next.base_offset).chain([ends.end_offset]);
    let all = ends.segments.iter().zip(next).enumerate();
    let found = |(at, (end, next)): (usize, (&SegmentEnd, u64))| Found {
        end: *end,
        limit_offset: limit_of(end, next),
        is_closed: at + 1 < ends.segments.len(),
    };
    all.map(found).filter(|found| found.end.len_bytes > 0)
}

/// The index that the batches make, with what is damaged.
///
/// # Errors
/// [`StorageError::Damaged`] if the file isn't there.
fn read(disk: &dyn Disk, name: &str, found: &Found, interval_bytes: u32) -> Result<Index, StorageError> {
    let Found { end, limit_offset, .. } = found;
    let mut index = Index::new(end.base_offset, interval_bytes);
    let content = Content::Mapped(map(disk, name, end, *limit_offset)?);
    let mut cursor = Cursor::new(name, &content, end.len_bytes, SURVEY_READ_BYTES);
    survey(&mut cursor, &mut index, *limit_offset)?;
    Ok(index)
}

fn indexes(
    disk: &dyn Disk,
    dir: &str,
    found: &Found,
    aborted: &[AbortedTransaction],
) -> Result<Vec<Fault>, StorageError> {
    let id = found.end.id();
    let mut faults = Vec::new();
    if index_file::load(disk, dir, id, found.end.len_bytes).is_none() {
        let files = [names::offset_index(dir, id), names::time_index(dir, id)];
        let missing: Vec<bool> = files.iter().map(|file| is_missing(disk, file)).collect::<Result<_, _>>()?;
        for (nth, (file, is_missing)) in files.into_iter().zip(&missing).enumerate() {
            // One of two is enough to make the other worthless; which one is wrong, its checksum tells.
            if *is_missing || index_file::is_wrong(disk, dir, id, found.end.len_bytes, nth == 1) {
                faults.push(Fault::Index { file, is_missing: *is_missing });
            }
        }
        if faults.is_empty() {
            faults.push(Fault::Index { file: names::offset_index(dir, id), is_missing: false });
        }
    }
    let entries = entries_of(id, found.limit_offset, aborted);
    if !entries.is_empty() {
        let file = names::transaction_index(dir, id);
        let is_missing = is_missing(disk, &file)?;
        let is_whole = || -> Result<bool, StorageError> {
            let opened = disk.open(&file, Mode::Read).map_err(io_error("open", &file))?;
            let content = read_whole(&*opened).map_err(io_error("read", &file))?;
            Ok(transaction_index::is_whole(&content, entries))
        };
        if is_missing || !is_whole()? {
            faults.push(Fault::Index { file, is_missing });
        }
    }
    Ok(faults)
}

fn entries_of(id: FileId, limit_offset: u64, aborted: &[AbortedTransaction]) -> &[AbortedTransaction] {
    let from = aborted.partition_point(|it| it.last_offset < id.base_offset);
    let to = aborted.partition_point(|it| it.last_offset < limit_offset);
    &aborted[from..to]
}

fn is_missing(disk: &dyn Disk, name: &str) -> Result<bool, StorageError> {
    match disk.open(name, Mode::Read) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(io_error("open", name)(error)),
    }
}
