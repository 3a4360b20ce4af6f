//! The loops around positional reads and writes: interrupted and short calls end here and are seen by no caller.
//!
//! Not bound to a file: the system call comes in as a function, so that tests can make it short or interrupt it.
//!
//! Invariants:
//!   * a call gets at most [`PARTS_MAX`] parts, the `IOV_MAX` of Linux and macOS
//!   * on success every byte was transferred exactly once and in order

use std::io;
use std::io::IoSlice;

/// The most parts that one vectored write takes.
pub(super) const PARTS_MAX: usize = 1024;

/// The most bytes asked of one read. macOS refuses 2 GiB and more.
const READ_BYTES_MAX: usize = 1 << 30;

/// Writes all parts, starting at `pos`, with calls of `write_some`.
pub(super) fn write_all(
    parts: &[IoSlice<'_>],
    mut pos: u64,
    mut write_some: impl FnMut(&[IoSlice<'_>], u64) -> io::Result<usize>,
) -> io::Result<()> {
    // The next part to write, and how much of it is written already.
    let (mut next, mut skip_bytes) = (0, 0);
    while next < parts.len() {
        if parts[next].len() == skip_bytes {
            (next, skip_bytes) = (next + 1, 0);
            continue;
        }
        let result = if skip_bytes == 0 {
            write_some(&parts[next..parts.len().min(next + PARTS_MAX)], pos)
        } else {
            write_some(&[IoSlice::new(&parts[next][skip_bytes..])], pos)
        };
        let mut written_bytes = match result {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written_bytes) => written_bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        pos += written_bytes as u64;
        while written_bytes > 0 {
            let left_bytes = parts[next].len() - skip_bytes;
            if written_bytes < left_bytes {
                skip_bytes += written_bytes;
                break;
            }
            written_bytes -= left_bytes;
            (next, skip_bytes) = (next + 1, 0);
        }
    }
    Ok(())
}

/// Reads until `buf` is full or `read_some` says that the file ends; the number of bytes read.
pub(super) fn read_full(
    buf: &mut [u8],
    pos: u64,
    mut read_some: impl FnMut(&mut [u8], u64) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        let end = buf.len().min(filled + READ_BYTES_MAX);
        match read_some(&mut buf[filled..end], pos + filled as u64) {
            Ok(0) => break,
            Ok(read_bytes) => filled += read_bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn short_and_interrupted_writes_are_continued_to_the_last_byte(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..40),
            limits in prop::collection::vec(0usize..20, 1..10),
        ) {
            let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
            let (mut out, mut calls) = (Vec::new(), 0);
            write_all(&slices, 100, |some, pos| {
                assert_eq!(pos, 100 + out.len() as u64);
                calls += 1;
                // Every other call at the latest makes progress.
                let limit = limits[calls % limits.len()].max(calls % 2);
                if limit == 0 {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                let flat: Vec<u8> = some.iter().flat_map(|part| part.iter().copied()).collect();
                let n = flat.len().min(limit);
                out.extend_from_slice(&flat[..n]);
                Ok(n)
            }).unwrap();
            prop_assert_eq!(out, parts.concat());
        }
    }

    #[test]
    fn a_call_never_gets_more_parts_than_the_system_takes() {
        let parts: Vec<_> = (0..3000).map(|_| IoSlice::new(b"xy")).collect();
        let mut calls = Vec::new();
        write_all(&parts, 0, |some, _| {
            calls.push(some.len());
            Ok(some.len() * 2)
        })
        .unwrap();
        assert_eq!(calls, [1024, 1024, 952]);
    }

    #[test]
    fn a_write_without_progress_is_an_error_and_not_a_loop() {
        let error = write_all(&[IoSlice::new(b"x")], 0, |_, _| Ok(0)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
    }

    #[test]
    fn short_and_interrupted_reads_are_continued_until_the_end() {
        let data = b"hello world";
        let mut calls = 0;
        let mut buf = [0; 20];
        let n = read_full(&mut buf, 0, |some, pos| {
            calls += 1;
            if calls % 3 == 0 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let rest = &data[pos as usize..];
            let n = rest.len().min(some.len()).min(2);
            some[..n].copy_from_slice(&rest[..n]);
            Ok(n)
        })
        .unwrap();
        assert_eq!(&buf[..n], data);
    }
}
