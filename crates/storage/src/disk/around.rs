//! Writing around the page cache, for bytes that nobody reads soon.
//!
//! What is written through the page cache takes memory that it must find first, is copied into it, and is sent to the
//! disk when the system likes: then the journal's sync waits for all of it (measured: stalls of 500 ms and more).
//!
//! ```text
//!   bytes:   |  ..xx|xxxxxxxx|xxxxxxxx|xx..    |  blocks of the file
//!            head: cached  whole: direct  rest: cached
//! ```
//!
//! The kernel keeps the two ways coherent as long as they are of different blocks: here they are.
//!
//! Invariants
//!   * length and content of the file are those that a plain write would have made
//!   * what can't be written directly (another system or file system, no `/proc`, too few bytes) is written plainly

use super::transfer;
use parking_lot::Mutex;
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

/// Alignment in file and memory that every disk takes, in bytes.
const BLOCK_BYTES: usize = 4096;

/// Bytes of one direct write at most.
const PIECE_BYTES: usize = 1 << 20;

/// Below this a direct write doesn't pay: it waits for the disk.
const DIRECT_BYTES_MIN: usize = 64 << 10;

/// Memory that direct writes go through, since they need it aligned. One for all files of a disk: they have one writer.
#[derive(Debug, Default)]
pub(super) struct Bounce(Mutex<Vec<u8>>);

/// The second handle of a file, opened when it is needed first; `None` if there can't be one.
#[derive(Debug, Default)]
pub(super) struct Direct(OnceLock<Option<OwnedFd>>);

impl Direct {
    /// Writes all parts at `pos`: whole blocks directly, the rest plainly.
    pub(super) fn write(
        &self,
        file: &File,
        bounce: &Bounce,
        parts: &[IoSlice<'_>],
        pos: u64,
    ) -> io::Result<()> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if len < DIRECT_BYTES_MIN {
            return plainly(file, parts, pos);
        }
        let Some(direct) = self.0.get_or_init(|| open(file)) else { return plainly(file, parts, pos) };
        let mut memory = bounce.0.lock();
        memory.resize(PIECE_BYTES + BLOCK_BYTES, 0);
        let aligned = memory.as_ptr().align_offset(BLOCK_BYTES);
        let memory = &mut memory[aligned..aligned + PIECE_BYTES];
        let mut source = Source { parts, part: 0, at: 0 };
        let (mut pos, end) = (pos, pos + len as u64);
        while pos < end {
            // In memory the piece lies in its blocks as it does in the file.
            let before = (pos % BLOCK_BYTES as u64) as usize;
            let behind = PIECE_BYTES.min(before + (end - pos) as usize);
            source.copy_to(&mut memory[before..behind]);
            let whole = before.next_multiple_of(BLOCK_BYTES)..behind - behind % BLOCK_BYTES;
            let start = pos - before as u64;
            let mut written = before;
            if whole.start < whole.end {
                plainly(file, &[IoSlice::new(&memory[before..whole.start])], pos)?;
                written =
                    whole.start + write_blocks(direct, &memory[whole.clone()], start + whole.start as u64)?;
            }
            plainly(file, &[IoSlice::new(&memory[written..behind])], start + written as u64)?;
            pos = start + behind as u64;
        }
        Ok(())
    }
}

/// Writes whole blocks as far as the file system takes them directly; how many bytes that were.
fn write_blocks(direct: &OwnedFd, blocks: &[u8], pos: u64) -> io::Result<usize> {
    let mut written = 0;
    while written < blocks.len() {
        match rustix::io::pwrite(direct, &blocks[written..], pos + written as u64) {
            // What comes back short of a block goes on plainly.
            Ok(some) => written += some,
            Err(Errno::INTR) => continue,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => break,
            Err(errno) => return Err(errno.into()),
        }
        if written % BLOCK_BYTES != 0 {
            break;
        }
    }
    Ok(written)
}

fn plainly(file: &File, parts: &[IoSlice<'_>], pos: u64) -> io::Result<()> {
    transfer::write_all(parts, pos, |some, pos| Ok(rustix::io::pwritev(file, some, pos)?))
}

/// The same file once more, for direct writes.
#[cfg(target_os = "linux")]
fn open(file: &File) -> Option<OwnedFd> {
    use rustix::fs::{Mode, OFlags, open};
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    open(path, OFlags::WRONLY | OFlags::DIRECT | OFlags::CLOEXEC, Mode::empty()).ok()
}

#[cfg(not(target_os = "linux"))]
fn open(_: &File) -> Option<OwnedFd> {
    None
}

/// Parts that are read one behind the other.
struct Source<'a> {
    parts: &'a [IoSlice<'a>],
    part: usize,
    at: usize,
}

impl Source<'_> {
    /// Fills `to`, for which enough must be left.
    fn copy_to(&mut self, mut to: &mut [u8]) {
        while !to.is_empty() {
            let rest = &self.parts[self.part][self.at..];
            let len = rest.len().min(to.len());
            to[..len].copy_from_slice(&rest[..len]);
            to = &mut to[len..];
            (self.part, self.at) =
                if len == rest.len() { (self.part + 1, 0) } else { (self.part, self.at + len) };
        }
    }
}
