//! What the storage engine asks of a disk, so that the real one and the simulated one can be exchanged.
//!
//! A `Disk` is rooted at the log's directory; names are relative paths with `/` between the parts
//! (`journal/00000000000000000001.journal`). No other module of this crate touches `std::fs` or rustix.
//!
//! What the engine relies on, and the simulated disk enforces by breaking everything else:
//!   * data is durable only after a successful [`File::sync`], in units of 512 B that may reach the disk in any order
//!   * a name (create, rename, unlink) is durable only after [`Disk::sync_dir`] of its directory
//!   * after a failed sync, what was written since the last good one may be lost for good

mod around;
mod buffer;
mod name;
mod overlay;
mod real;
mod transfer;
mod zero;

use std::fmt::Debug;
use std::io;
use std::io::IoSlice;
use std::sync::Arc;

pub(crate) use buffer::read_buffer;
pub use name::{parts, split};
pub use overlay::Overlay;
pub use real::RealDisk;
pub use zero::{ZERO_WRITE_BYTES, zero_fill};

/// The smallest unit that the disk writes whole, in bytes.
pub const SECTOR_BYTES: usize = 512;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// For reading. The file must exist.
    Read,
    /// For reading and writing. The file must exist.
    Write,
    /// For reading and writing. The file must not exist; its directory must. The name isn't durable yet.
    CreateNew,
}

/// A directory entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Name inside its directory, without a path.
    pub name: String,
    /// Length in bytes (0 for directories).
    pub len: u64,
    /// Number of names that lead to the same file (hard links); 1 for directories.
    pub links: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// A directory tree.
pub trait Disk: Debug + Send + Sync + 'static {
    /// Opens a file.
    fn open(&self, name: &str, mode: Mode) -> io::Result<Arc<dyn File>>;
    /// The entries of a directory, sorted by name. The empty name is the root.
    fn list(&self, dir: &str) -> io::Result<Vec<Entry>>;
    /// Makes a directory and its parents; nothing happens if it exists. The name isn't durable yet.
    fn create_dir(&self, dir: &str) -> io::Result<()>;
    /// Renames a file inside its directory, replacing what has the new name.
    ///
    /// As POSIX has it, nothing happens if both names already lead to the same file: then both stay, and the caller
    /// who wants one of them gone unlinks it. Two different directories are [`io::ErrorKind::InvalidInput`].
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a name. The file lives on while it is open.
    fn unlink(&self, name: &str) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, dir: &str) -> io::Result<()>;
    /// Makes the names of a directory durable.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;
    /// Free space in bytes that this process may use.
    fn free(&self) -> io::Result<u64>;
    /// Takes the exclusive lock file `LOCK` in the root and writes `owner` into it, for messages.
    /// The error of a lock that is held is [`io::ErrorKind::WouldBlock`], its text what the holder wrote.
    /// Released when the guard is dropped, or the process dies.
    fn lock(&self, owner: &str) -> io::Result<Box<dyn Debug + Send + Sync>>;
    /// Where this is, for messages.
    fn location(&self) -> String;
}

/// An open file. All calls are positional, so that readers and the writer share one handle.
pub trait File: Debug + Send + Sync + 'static {
    /// Reads until `buf` is full or the file ends; the number of bytes read. Interrupted calls are repeated inside.
    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize>;
    /// Writes all of it at `pos`, extending the file if needed. Short writes are continued inside.
    /// After an error any prefix may have been written.
    fn write_at(&self, parts: &[IoSlice<'_>], pos: u64) -> io::Result<()>;
    /// [`File::write_at`] for many bytes that nobody reads soon: they should leave alone what the system has cached.
    fn write_around(&self, parts: &[IoSlice<'_>], pos: u64) -> io::Result<()> {
        self.write_at(parts, pos)
    }
    /// Makes data and length durable (`fdatasync`).
    fn sync(&self) -> io::Result<()>;
    /// Reserves blocks so that writes below `len` can't fail for want of space, and sets the length to at least `len`.
    /// What wasn't written reads as zeros. On an error the length is what it was.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Cuts the file. Never called on a file that may be mapped.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// The whole content of a file that nobody writes or truncates any more (a sealed segment): mapped where
    /// that is possible, else a copy.
    fn map_sealed(&self) -> io::Result<bytes::Bytes>;
}
