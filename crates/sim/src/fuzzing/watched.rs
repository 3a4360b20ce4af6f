//! A disk that watches how much is asked of it: a length that comes from damaged bytes must not decide how much
//! memory or room is taken.
//!
//! Not a fault injector. What isn't read through it (memory that is reserved while decoding) it doesn't see; the
//! fuzzers bound that with an allocator.
//!
//! Invariants:
//!   * no read has a buffer longer than the file, nor one that reaches far behind it
//!   * no file is allocated that is longer than all files together and one new journal file

use crate::disk::SimDisk;
use bytes::Bytes;
use exactlog_storage::disk::{Disk, Entry, File, Mode};
use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::sync::Arc;

/// Any file may be allocated up to this, in bytes; longer ones only if files of that length are there.
const ALLOCATED_BYTES: u64 = 64 << 10;

/// A buffer may be this much longer than its file, in bytes: one header is read from a file that has none.
const HEADER_BYTES: u64 = 4096;

/// The disk.
#[derive(Debug)]
pub(super) struct Watched {
    disk: SimDisk,
    allocated_bytes_max: u64,
}

#[derive(Debug)]
struct WatchedFile {
    file: Arc<dyn File>,
    allocated_bytes_max: u64,
}

impl Watched {
    /// Watches `disk`, whose files as they are now bound what may be allocated.
    pub(super) fn over(disk: &SimDisk) -> Arc<dyn Disk> {
        let files_bytes: u64 = disk.files().iter().map(|(_, len)| len).sum();
        Arc::new(Watched { disk: disk.clone(), allocated_bytes_max: files_bytes + ALLOCATED_BYTES })
    }
}

impl Disk for Watched {
    fn open(&self, name: &str, mode: Mode) -> io::Result<Arc<dyn File>> {
        let file = self.disk.open(name, mode)?;
        Ok(Arc::new(WatchedFile { file, allocated_bytes_max: self.allocated_bytes_max }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        self.disk.list(dir)
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.create_dir(dir)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        self.disk.unlink(name)
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.remove_dir(dir)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn free(&self) -> io::Result<u64> {
        self.disk.free()
    }

    fn lock(&self, owner: &str) -> io::Result<Box<dyn Debug + Send + Sync>> {
        self.disk.lock(owner)
    }

    fn location(&self) -> String {
        self.disk.location()
    }
}

impl File for WatchedFile {
    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        let len = self.file.len()?;
        assert!(
            buf.len() as u64 <= len.max(HEADER_BYTES),
            "a buffer of {} B for a file of {len} B",
            buf.len()
        );
        self.file.read_at(buf, pos)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], pos: u64) -> io::Result<()> {
        self.file.write_at(parts, pos)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let limit = self.allocated_bytes_max;
        assert!(len <= limit, "a file of {len} B is allocated, {limit} B can be explained");
        self.file.allocate(len)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn map_sealed(&self) -> io::Result<Bytes> {
        self.file.map_sealed()
    }
}
