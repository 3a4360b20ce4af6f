//! Snappy: written in the framing of `snappy-java` ("xerial"), read with it and without.
//!
//! ```text
//!   0 magic 82 53 4e 41 50 50 59 00 · 8 version i32 = 1 · 12 least compatible version i32 = 1
//!  16 blocks: length i32, then so many bytes of raw snappy, of at most 32 KiB of input
//! ```
//!
//! Raw snappy begins with the length of its output and has no end of its own, so it fills its block.
//!
//! Invariants
//!   * numbers are big-endian; a length beyond what is left is an error (CVE-2023-34455)
//!   * what a block says of its output is held against the limit, and against what so many bytes can give at all,
//!     before there is memory for it

use super::CompressionFault;
use snap::raw::{Decoder, Encoder, decompress_len};

const MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
const VERSION: [u8; 4] = 1_i32.to_be_bytes();
const HEADER_BYTES: usize = MAGIC.len() + 2 * VERSION.len();
/// Most input of a block, as `snappy-java` has it.
const BLOCK_BYTES: usize = 32 * 1024;
/// A copy of 64 bytes takes three: no element of raw snappy gives more than this for each of its bytes.
const GAIN_MAX: usize = 22;

pub(super) fn compress(plain: &[u8]) -> Vec<u8> {
    let mut encoder = Encoder::new();
    let mut out = Vec::with_capacity(HEADER_BYTES + plain.len() / 2);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION);
    out.extend_from_slice(&VERSION);
    for block in plain.chunks(BLOCK_BYTES) {
        let block = encoder.compress_vec(block).expect("a block is far below 4 GiB");
        out.extend_from_slice(&(block.len() as i32).to_be_bytes());
        out.extend_from_slice(&block);
    }
    out
}

pub(super) fn decompress(compressed: &[u8], max_bytes: usize) -> Result<Vec<u8>, CompressionFault> {
    let mut out = Vec::new();
    if !compressed.starts_with(&MAGIC) {
        add_block(compressed, &mut out, max_bytes)?;
        return Ok(out);
    }
    // The versions mean nothing: no reader has ever refused one.
    let mut left = compressed.get(HEADER_BYTES..).ok_or(CompressionFault::Truncated)?;
    while !left.is_empty() {
        let (length, behind) = left.split_first_chunk().ok_or(CompressionFault::Truncated)?;
        let length = i32::from_be_bytes(*length);
        let block = usize::try_from(length).ok().and_then(|len| behind.split_at_checked(len));
        let fault = CompressionFault::BlockLength { length: length.into(), left_bytes: behind.len() };
        let (block, behind) = block.ok_or(fault)?;
        add_block(block, &mut out, max_bytes)?;
        left = behind;
    }
    Ok(out)
}

fn add_block(block: &[u8], out: &mut Vec<u8>, max_bytes: usize) -> Result<(), CompressionFault> {
    if block.is_empty() {
        return Err(CompressionFault::Truncated);
    }
    let len = decompress_len(block).map_err(|_| CompressionFault::Malformed)?;
    if len > block.len().saturating_mul(GAIN_MAX) {
        return Err(CompressionFault::Malformed);
    }
    if len > max_bytes - out.len() {
        return Err(CompressionFault::TooLarge { max_bytes });
    }
    let start = out.len();
    out.resize(start + len, 0);
    let written = Decoder::new().decompress(block, &mut out[start..]);
    match written {
        Ok(written) if written == len => Ok(()),
        _ => Err(CompressionFault::Malformed),
    }
}
