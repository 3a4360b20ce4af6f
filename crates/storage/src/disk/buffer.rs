//! Memory to read into, placed where the processor copies fast.
//!
//! Not here: reuse of such memory (its owners do that).
//!
//! Invariants:
//!   * the buffer has exactly the length that was asked for, all zero

use bytes::{Buf, BytesMut};

/// Below this many bytes the place makes no difference.
const LEAST_BYTES: usize = 4096;

/// Length of a cache line.
const LINE_BYTES: usize = 64;

/// Zeroed memory for `len_bytes` of a file.
///
/// An allocator that maps large memory hands it out 16 bytes behind the start of a page. Reading a page of a file to
/// there makes the kernel's copy loop run into its own stores (their addresses agree in the low twelve bits with those
/// of the loads that follow): measured on an AMD EPYC, 1.5 GB/s instead of 9 GB/s. On a cache line it doesn't happen.
pub(crate) fn read_buffer(len_bytes: usize) -> BytesMut {
    if len_bytes < LEAST_BYTES {
        return BytesMut::zeroed(len_bytes);
    }
    let mut buffer = BytesMut::zeroed(len_bytes + LINE_BYTES);
    buffer.advance(buffer.as_ptr().align_offset(LINE_BYTES).min(LINE_BYTES));
    buffer.truncate(len_bytes);
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_has_its_length_and_begins_on_a_cache_line() {
        for len_bytes in [0, 1, 4095, 4096, 4097, 1 << 20] {
            let buffer = read_buffer(len_bytes);
            assert_eq!(buffer.len(), len_bytes);
            assert!(buffer.iter().all(|byte| *byte == 0));
            assert!(len_bytes < LEAST_BYTES || buffer.as_ptr().addr().is_multiple_of(LINE_BYTES));
        }
    }

    #[test]
    fn a_buffer_that_nobody_shares_can_be_written_again() {
        let piece = read_buffer(1 << 20).freeze();
        let address = piece.as_ptr();
        let shared = piece.slice(10..20);
        let piece = piece.try_into_mut().expect_err("a slice of it is held");
        drop(shared);
        let again = piece.try_into_mut().expect("nobody else holds it");
        assert_eq!((again.len(), again.as_ptr()), (1 << 20, address));
    }
}
