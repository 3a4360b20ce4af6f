//! The content of a whole file as [`Bytes`]: mapped, or read into memory.
//!
//! The only module of the project with unsafe code. It is not for files that still change: a mapping of a file that
//! is cut below the reader's feet ends the process with SIGBUS, and one that is written shows bytes that no
//! checksum was computed over.
//!
//! Invariants:
//!   * only sealed files are mapped: no code path writes, cuts or swaps the content of one; retention and compaction
//!     unlink the name, and the mapping keeps the inode alive
//!   * the mapping lives exactly as long as the last slice of the `Bytes` made of it

use std::io;

use bytes::Bytes;
use memmap2::Mmap;

use crate::disk::File;

/// Maps the whole of a sealed file. An empty file gives empty bytes, since an empty mapping doesn't exist.
pub(crate) fn map_whole(file: &std::fs::File) -> io::Result<Bytes> {
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the caller hands in a sealed segment or index, and slices the mapping to its published end before it
    // gives any of it away. Below that end the file is never written with other bytes and never truncated: not by this
    // process, which removes files by unlinking their name, which leaves the inode to the mapping, and cuts a segment
    // only before it is sealed, and only of bytes that were written since it was opened for writing and so lie behind
    // every end that was published (`segment::tail`); and not by another process, which the lock file keeps out of the
    // data directory. Hence those bytes don't change and stay backed by the file for as long as the mapping lives.
    let map = unsafe { Mmap::map(file)? };
    Ok(Bytes::from_owner(map))
}

/// Reads the whole of a file into memory: the twin of a mapping where one isn't possible or wanted.
///
/// Memory is bounded by the length of the file at the call; one that can't be had is
/// [`io::ErrorKind::OutOfMemory`], and a file that becomes shorter meanwhile [`io::ErrorKind::UnexpectedEof`].
pub fn read_whole(file: &dyn File) -> io::Result<Bytes> {
    let len_bytes = usize::try_from(file.len()?).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    let mut content = Vec::new();
    content.try_reserve_exact(len_bytes).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    content.resize(len_bytes, 0);
    let read_bytes = file.read_at(&mut content, 0)?;
    if read_bytes < len_bytes {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!("the file was {len_bytes} bytes long and ended after {read_bytes}"),
        ));
    }
    Ok(Bytes::from(content))
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use crate::disk::{Disk, Mode, RealDisk};

    #[test]
    fn mapped_and_read_content_are_equal() {
        let dir = tempfile::tempdir().unwrap();
        for mapping in [true, false] {
            let disk = RealDisk::new(dir.path()).unwrap().with_mapping(mapping);
            let name = format!("f-{mapping}");
            let file = disk.open(&name, Mode::CreateNew).unwrap();
            let content: Vec<u8> = (0..10_000u32).map(|i| i as u8).collect();
            file.write_at(&[IoSlice::new(&content)], 0).unwrap();
            assert_eq!(file.map_sealed().unwrap(), content);
            assert_eq!(super::read_whole(&*file).unwrap(), content);
        }
    }

    #[test]
    fn an_empty_file_gives_empty_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(dir.path()).unwrap();
        let file = disk.open("f", Mode::CreateNew).unwrap();
        assert!(file.map_sealed().unwrap().is_empty());
        assert!(super::read_whole(&*file).unwrap().is_empty());
    }

    #[test]
    fn a_slice_of_a_mapping_outlives_its_file_and_its_disk() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(dir.path()).unwrap();
        let file = disk.open("f", Mode::CreateNew).unwrap();
        file.write_at(&[IoSlice::new(b"0123456789")], 0).unwrap();
        let slice = file.map_sealed().unwrap().slice(3..5);
        disk.unlink("f").unwrap();
        drop((file, disk, dir));
        assert_eq!(&slice[..], b"34");
    }
}
