//! A run that is open: its index and filter in memory, the rest read block by block.
//!
//! Invariants
//!   * a block is believed only if its checksum holds; what doesn't hold is an error with file and position

use super::filter::{Filter, Hashed};
use super::format::*;
use crate::disk::{Disk, File, Mode};
use crate::error::StorageError;
use exactlog_core::state::{MarkKey, Place};
use std::cmp::Ordering;
use std::io;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Run {
    name: String,
    file: Arc<dyn File>,
    header: Header,
    /// Of each block.
    first_keys: Vec<MarkKey>,
    last_key: MarkKey,
    filter: Filter,
}

/// Which run is expected in a file: its number, end of its bucket, marks, and their digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) id: u64,
    pub(super) end_ms: i64,
    pub(super) entries: u64,
    pub(super) digest: u64,
}

impl Run {
    /// Opens a run; none if there is no such file, or another run in it.
    pub(super) fn open(disk: &dyn Disk, expected: &Expected) -> Result<Option<Run>, StorageError> {
        let name = file_name(expected.id);
        let file = match disk.open(&name, Mode::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|error| StorageError::io("open", name.as_str(), error))?,
        };
        let len = file.len().map_err(|error| StorageError::io("read", name.as_str(), error))?;
        let mut block = [0; BLOCK_BYTES];
        read(&*file, &name, 0, &mut block)?;
        let header = Header::decode(&name, &block)?;
        let Header { id, end_ms, entries, digest, .. } = header;
        if (Expected { id, end_ms, entries, digest }) != *expected {
            return Ok(None);
        }
        if header.len_bytes() != Some(len) || header.filter_lines != Filter::lines_for(entries) {
            let what = format!("{len} B, the header says {:?}", header.len_bytes());
            return Err(StorageError::damaged(name, len, what));
        }
        let (first_keys, last_key) = index(&*file, &name, &header)?;
        let bytes = section(&*file, &name, header.filter_at(), header.filter_bytes())?;
        let filter = Filter::decode(&bytes);
        Ok(Some(Run { name, file, header, first_keys, last_key, filter }))
    }

    pub(super) fn id(&self) -> u64 {
        self.header.id
    }

    /// On disk.
    pub(super) fn len_bytes(&self) -> u64 {
        self.header.len_bytes().unwrap_or(0)
    }

    /// Of index and filter.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.filter.bytes() + (self.first_keys.len() * size_of::<MarkKey>()) as u64
    }

    /// Whether a key may be in it.
    pub(super) fn may_have(&self, key: &MarkKey, hashed: Hashed) -> bool {
        let in_range = self.first_keys.first().is_some_and(|first| first <= key) && *key <= self.last_key;
        in_range && self.filter.passes(hashed)
    }

    /// Looks a key up, reading one block.
    pub(super) fn find(&self, key: &MarkKey) -> Result<Option<Place>, StorageError> {
        let Some(block) = self.first_keys.partition_point(|first| first <= key).checked_sub(1) else {
            return Ok(None);
        };
        let bytes = self.block(block as u64)?;
        let (mut from, mut to) = (0, self.header.marks_of(block as u64));
        while from < to {
            let middle = from.midpoint(to);
            let (found, place) = self.mark(&bytes, block as u64, middle)?;
            match found.cmp(key) {
                Ordering::Equal => return Ok(Some(place)),
                Ordering::Less => from = middle + 1,
                Ordering::Greater => to = middle,
            }
        }
        Ok(None)
    }

    fn block(&self, block: u64) -> Result<[u8; BLOCK_BYTES], StorageError> {
        let mut bytes = [0; BLOCK_BYTES];
        read(&*self.file, &self.name, block_at(block), &mut bytes)?;
        match block_holds(&bytes, self.header.id, block) {
            true => Ok(bytes),
            false => Err(self.damaged(block, "the checksum of a block doesn't hold")),
        }
    }

    fn mark(&self, bytes: &[u8], block: u64, nth: usize) -> Result<(MarkKey, Place), StorageError> {
        mark_of(&bytes[nth * MARK_BYTES..]).ok_or_else(|| self.damaged(block, "a mark of an unknown scope"))
    }

    fn damaged(&self, block: u64, what: &str) -> StorageError {
        StorageError::damaged(self.name.as_str(), block_at(block), what)
    }

    /// All marks, ascending.
    pub(super) fn marks(
        self: &Arc<Run>,
    ) -> impl Iterator<Item = Result<(MarkKey, Place), StorageError>> + use<> {
        let run = self.clone();
        (0..self.header.blocks()).flat_map(move |block| match run.block(block) {
            Ok(bytes) => (0..run.header.marks_of(block)).map(|nth| run.mark(&bytes, block, nth)).collect(),
            Err(error) => vec![Err(error)],
        })
    }
}

fn index(file: &dyn File, name: &str, header: &Header) -> Result<(Vec<MarkKey>, MarkKey), StorageError> {
    let bytes = section(file, name, header.index_at(), header.index_bytes())?;
    let damaged = |what| StorageError::damaged(name, header.index_at(), what);
    let keys: Option<Vec<MarkKey>> = bytes.chunks_exact(KEY_BYTES).map(key_of).collect();
    let mut keys = keys.ok_or_else(|| damaged("a key of an unknown scope"))?;
    let last = keys.pop().ok_or_else(|| damaged("it has no keys"))?;
    Ok((keys, last))
}

/// Bytes that end in their checksum, without it.
fn section(file: &dyn File, name: &str, at: u64, len: u64) -> Result<Vec<u8>, StorageError> {
    let mut bytes = vec![0; len as usize];
    read(file, name, at, &mut bytes)?;
    let content = bytes.len() - CRC_BYTES;
    if u32_at(&bytes, content) != crc32c::crc32c(&bytes[..content]) {
        return Err(StorageError::damaged(name, at, "the checksum of what belongs in memory doesn't hold"));
    }
    bytes.truncate(content);
    Ok(bytes)
}

fn read(file: &dyn File, name: &str, at: u64, into: &mut [u8]) -> Result<(), StorageError> {
    let found = file.read_at(into, at).map_err(|error| StorageError::io("read", name, error))?;
    match found == into.len() {
        true => Ok(()),
        false => Err(StorageError::damaged(name, at + found as u64, "the file ends here")),
    }
}
