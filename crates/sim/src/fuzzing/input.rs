//! Takes structured values out of a fuzzer's bytes, and puts them in.
//!
//! Files of the journal are mostly zeros, so they travel as runs: a few hundred bytes stand for a file of 16 KiB,
//! and the fuzzer doesn't waste its changes on padding.
//!
//! Invariants:
//!   * reading never fails: behind the end there are zeros
//!   * what [`Output`] wrote, [`Input`] reads back

/// No file in an input is longer, in bytes.
const FILE_BYTES_MAX: usize = 64 << 10;

/// Zeros shorter than this are written as they are, since a run takes 4 bytes.
const RUN_BYTES_MIN: usize = 8;

/// What is left of an input.
pub(super) struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    pub(super) fn new(data: &'a [u8]) -> Input<'a> {
        Input { rest: data }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// At most `len` bytes.
    pub(super) fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        self.take(usize::MAX)
    }

    pub(super) fn u8(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    pub(super) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub(super) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub(super) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// The content of a file: runs of zeros and bytes in turn, up to an empty pair of both.
    pub(super) fn file(&mut self) -> Vec<u8> {
        let mut content = Vec::new();
        while !self.is_empty() {
            let (zeros, bytes) = (usize::from(self.u16()), usize::from(self.u16()));
            if zeros == 0 && bytes == 0 {
                break;
            }
            content.resize((content.len() + zeros).min(FILE_BYTES_MAX), 0);
            let bytes = self.take(bytes);
            content.extend_from_slice(&bytes[..bytes.len().min(FILE_BYTES_MAX - content.len())]);
        }
        content
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.take(N);
        array[..taken.len()].copy_from_slice(taken);
        array
    }
}

/// An input in the making, for seeds.
#[derive(Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
}

impl Output {
    pub(super) fn bytes(mut self, bytes: &[u8]) -> Output {
        self.bytes.extend_from_slice(bytes);
        self
    }

    pub(super) fn u8(self, value: u8) -> Output {
        self.bytes(&[value])
    }

    pub(super) fn u16(self, value: u16) -> Output {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn u32(self, value: u32) -> Output {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn u64(self, value: u64) -> Output {
        self.bytes(&value.to_le_bytes())
    }

    /// The content of a file, of at most 64 KiB, as [`Input::file`] reads it.
    pub(super) fn file(mut self, content: &[u8]) -> Output {
        let mut at = 0;
        while at < content.len() {
            let zeros =
                content[at..].iter().take_while(|byte| **byte == 0).count().min(usize::from(u16::MAX));
            let from = at + zeros;
            let bytes = len_up_to_zeros(&content[from..]).min(usize::from(u16::MAX));
            at = from + bytes;
            self = self.u16(zeros as u16).u16(bytes as u16).bytes(&content[from..at]);
        }
        self.u32(0)
    }

    pub(super) fn done(self) -> Vec<u8> {
        self.bytes
    }
}

fn len_up_to_zeros(content: &[u8]) -> usize {
    let zeros = |window: &[u8]| window.iter().all(|byte| *byte == 0);
    content.windows(RUN_BYTES_MIN).position(zeros).unwrap_or(content.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_back_as_it_was_written() {
        for content in
            [vec![], vec![0; 5000], b"abc".to_vec(), [&[0; 100][..], b"x", &[0; 9], b"yz"].concat()]
        {
            let written = Output::default().u8(7).file(&content).u64(9).done();
            let mut input = Input::new(&written);
            assert_eq!(input.u8(), 7);
            assert_eq!(input.file(), content);
            assert_eq!(input.u64(), 9);
            assert!(input.is_empty());
        }
    }

    #[test]
    fn behind_the_end_there_are_zeros() {
        let mut input = Input::new(&[1]);
        assert_eq!(input.u32(), 1);
        assert_eq!((input.u64(), input.file()), (0, Vec::new()));
    }
}
