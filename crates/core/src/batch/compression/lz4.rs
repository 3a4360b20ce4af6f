//! The LZ4 frame format: one frame of independent blocks of 64 KiB is written; any one frame is read.
//!
//! ```text
//!   0 magic 04 22 4d 18 · 4 flags · 5 block size · 6 content size u64, if flagged · dictionary u32, if flagged
//!     checksum of the header u8 · blocks: length u32, bytes, checksum u32, if flagged
//!     end mark u32 = 0 · checksum of the content u32, if flagged
//! ```
//!
//! Kafka's Java client reads independent blocks alone, and no frame behind the first.
//!
//! Invariants
//!   * numbers are little-endian
//!   * the frame is walked to its end before it is decoded: `lz4_flex` takes a frame that ends between two blocks for
//!     whole

use super::{CompressionFault, read_limited};
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use std::io::Write;

const MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();
const BLOCK_CHECKSUM: u8 = 1 << 4;
const CONTENT_SIZE: u8 = 1 << 3;
const CONTENT_CHECKSUM: u8 = 1 << 2;
const DICTIONARY: u8 = 1;
/// The top bit of a block's length says that it isn't compressed.
const LENGTH_BITS: u32 = u32::MAX >> 1;

pub(super) fn compress(plain: &[u8]) -> Vec<u8> {
    let frame = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(frame, Vec::with_capacity(plain.len() / 2));
    encoder.write_all(plain).expect("a vector takes what is written");
    encoder.finish().expect("a vector takes what is written")
}

pub(super) fn decompress(compressed: &[u8], max_bytes: usize) -> Result<Vec<u8>, CompressionFault> {
    match check_frame(compressed)? {
        [] => {}
        extra => return Err(CompressionFault::TrailingBytes { extra_bytes: extra.len() }),
    }
    let mut out = Vec::new();
    read_limited(&mut FrameDecoder::new(compressed), &mut out, max_bytes)?;
    Ok(out)
}

/// Steps over one frame; what follows it.
fn check_frame(frame: &[u8]) -> Result<&[u8], CompressionFault> {
    let (magic, left) = take::<4>(frame)?;
    if *magic != MAGIC {
        return Err(CompressionFault::Malformed);
    }
    let ([flags, _block_size], left) = take::<2>(left)?;
    let has = |flag: u8| flags & flag != 0;
    let left = skip(left, if has(CONTENT_SIZE) { 8 } else { 0 })?;
    let left = skip(left, if has(DICTIONARY) { 4 } else { 0 })?;
    let mut left = skip(left, 1)?; // checksum of the header
    loop {
        let (length, behind) = take::<4>(left)?;
        left = behind;
        let length = u32::from_le_bytes(*length);
        if length == 0 {
            return skip(left, if has(CONTENT_CHECKSUM) { 4 } else { 0 });
        }
        let block_bytes = (length & LENGTH_BITS) as usize;
        let fault = CompressionFault::BlockLength { length: block_bytes as i64, left_bytes: left.len() };
        left = left.get(block_bytes..).ok_or(fault)?;
        left = skip(left, if has(BLOCK_CHECKSUM) { 4 } else { 0 })?;
    }
}

fn take<const N: usize>(bytes: &[u8]) -> Result<(&[u8; N], &[u8]), CompressionFault> {
    bytes.split_first_chunk().ok_or(CompressionFault::Truncated)
}

fn skip(bytes: &[u8], len: usize) -> Result<&[u8], CompressionFault> {
    bytes.get(len..).ok_or(CompressionFault::Truncated)
}
