//! Gzip (RFC 1952): one member is written, several are read.
//!
//! Invariants
//!   * length and CRC of each member are checked, by `flate2`
//!   * a member consumes 18 bytes of input at least, so empty ones end too

use super::{CompressionFault, read_limited};
use flate2::Compression as Level;
use flate2::bufread::{GzEncoder, MultiGzDecoder};
use std::io::Read;

/// Kafka's default for `compression.gzip.level`.
const LEVEL: u32 = 6;

pub(super) fn compress(plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(plain.len() / 2);
    let read = GzEncoder::new(plain, Level::new(LEVEL)).read_to_end(&mut out);
    read.expect("bytes in memory can be read");
    out
}

pub(super) fn decompress(compressed: &[u8], max_bytes: usize) -> Result<Vec<u8>, CompressionFault> {
    if compressed.is_empty() {
        return Err(CompressionFault::Truncated);
    }
    let mut out = Vec::new();
    read_limited(&mut MultiGzDecoder::new(compressed), &mut out, max_bytes)?;
    Ok(out)
}
