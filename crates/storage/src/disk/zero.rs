//! Filling a stretch of a file with zeros, for journal files that are written in full before their use.
//!
//! Not an allocation: see [`File::allocate`], which also may leave the blocks unwritten.
//!
//! Invariants:
//!   * no write is larger than [`ZERO_WRITE_BYTES`]: a larger one makes the page cache use large folios for the file,
//!     and every later small write and sync of it is slower for that (measured on ext4)

use std::io;
use std::io::IoSlice;

use super::File;

/// The largest single write of [`zero_fill`], in bytes.
pub const ZERO_WRITE_BYTES: usize = 64 * 1024;

static ZEROS: [u8; ZERO_WRITE_BYTES] = [0; ZERO_WRITE_BYTES];

/// Writes zeros over the bytes `from..to`, extending the file if it is shorter. Nothing is synced.
///
/// The writes end at multiples of [`ZERO_WRITE_BYTES`]. An empty or reversed range writes nothing.
pub fn zero_fill(file: &dyn File, from: u64, to: u64) -> io::Result<()> {
    let step_bytes = ZERO_WRITE_BYTES as u64;
    let mut pos = from;
    while pos < to {
        let room_bytes = step_bytes - pos % step_bytes;
        let len_bytes = room_bytes.min(to - pos) as usize;
        file.write_at(&[IoSlice::new(&ZEROS[..len_bytes])], pos)?;
        pos += len_bytes as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Disk, Mode, RealDisk};
    use parking_lot::Mutex;

    /// Notes position and length of each write.
    #[derive(Debug, Default)]
    struct Noting(Mutex<Vec<(u64, usize)>>);

    impl File for Noting {
        fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
            Ok(0)
        }
        fn write_at(&self, parts: &[IoSlice<'_>], pos: u64) -> io::Result<()> {
            self.0.lock().push((pos, parts.iter().map(|part| part.len()).sum()));
            Ok(())
        }
        fn sync(&self) -> io::Result<()> {
            Ok(())
        }
        fn allocate(&self, _: u64) -> io::Result<()> {
            Ok(())
        }
        fn truncate(&self, _: u64) -> io::Result<()> {
            Ok(())
        }
        fn len(&self) -> io::Result<u64> {
            Ok(0)
        }
        fn map_sealed(&self) -> io::Result<bytes::Bytes> {
            Ok(bytes::Bytes::new())
        }
    }

    #[test]
    fn no_write_is_larger_than_64_kib_and_the_range_is_covered_once() {
        let file = Noting::default();
        zero_fill(&file, 4096, 300_000).unwrap();
        let writes = file.0.lock().clone();
        let mut next = 4096;
        for (pos, len_bytes) in writes {
            assert_eq!(pos, next);
            assert!(len_bytes > 0 && len_bytes <= ZERO_WRITE_BYTES);
            next = pos + len_bytes as u64;
        }
        assert_eq!(next, 300_000);
    }

    #[test]
    fn an_empty_or_reversed_range_writes_nothing() {
        let file = Noting::default();
        zero_fill(&file, 7, 7).unwrap();
        zero_fill(&file, 8, 7).unwrap();
        assert!(file.0.lock().is_empty());
    }

    #[test]
    fn bytes_outside_the_range_stay() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(dir.path()).unwrap();
        let file = disk.open("f", Mode::CreateNew).unwrap();
        file.write_at(&[IoSlice::new(&vec![7; 200_000])], 0).unwrap();
        zero_fill(&*file, 100, 199_000).unwrap();
        let all = crate::mapped::read_whole(&*file).unwrap();
        assert!(all[..100].iter().all(|byte| *byte == 7));
        assert!(all[100..199_000].iter().all(|byte| *byte == 0));
        assert!(all[199_000..].iter().all(|byte| *byte == 7));
    }
}
