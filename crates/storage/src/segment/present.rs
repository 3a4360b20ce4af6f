//! Which of a partition's files are there, and how long they are, compared with what the checkpoint says of them.
//!
//! It reads no data: whether the bytes are right is found out by whoever reads them.
//!
//! Invariants
//!   * a file that is longer than its segment is none the worse: what lies behind the end is void

use super::fault::{damaged, io_error};
use super::{Ends, SegmentEnd, names};
use crate::disk::Disk;
use crate::error::StorageError;
use std::collections::BTreeMap;
use std::io;

/// The lengths of the files of one directory, as of one moment; none if there is no such directory.
#[derive(Debug)]
pub(super) struct Present(Option<BTreeMap<String, u64>>);

impl Present {
    /// Lists the directory, unless `ends` knows of none.
    pub(super) fn in_directory(disk: &dyn Disk, dir: &str, ends: &Ends) -> Result<Present, StorageError> {
        if ends.segments.is_empty() {
            return Ok(Present(None));
        }
        match disk.list(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Present(None)),
            listed => {
                let files = listed.map_err(io_error("list", dir))?.into_iter().filter(|entry| !entry.is_dir);
                Ok(Present(Some(files.map(|entry| (entry.name, entry.len)).collect())))
            }
        }
    }

    /// Whether there is a directory of which a checkpoint knows.
    pub(super) fn has_directory(&self) -> bool {
        self.0.is_some()
    }

    /// Refuses a segment whose file isn't there or is too short.
    pub(super) fn expect(&self, dir: &str, segment: &SegmentEnd) -> Result<(), StorageError> {
        if segment.len_bytes == 0 {
            return Ok(());
        }
        let file = names::log(dir, segment.id());
        let name = file.rsplit('/').next().unwrap_or(&file);
        match self.0.as_ref().and_then(|files| files.get(name)) {
            Some(len_bytes) if *len_bytes >= segment.len_bytes => Ok(()),
            Some(len_bytes) => {
                let what = format!("the file ends here, the checkpoint names {} bytes", segment.len_bytes);
                Err(damaged(&file, *len_bytes, what))
            }
            None => Err(StorageError::Missing { file, named_by: "the checkpoint".to_owned() }),
        }
    }

    /// As [`Present::expect`], for the segment that is written on: what follows would be appended behind a hole.
    pub(super) fn expect_tail(&self, dir: &str, ends: &Ends) -> Result<(), StorageError> {
        ends.segments.last().map_or(Ok(()), |last| self.expect(dir, last))
    }
}
