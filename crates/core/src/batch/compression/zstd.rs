//! Zstandard (RFC 8878): one frame, written and read.
//!
//! Written is the level that `ruzstd` has, about level 1 of the reference.
//!
//! Invariants
//!   * a window beyond the limit is refused before there is memory for it
//!   * output is taken after each block, so at most the window and a block (128 KiB) wait inside the decoder
//!   * the checksum of a frame's content is compared if it has one; dictionaries and skippable frames are refused
//!   * one frame, as Kafka's producers write it: a decoder is too much to make for each of many empty ones

use super::{CompressionFault, extend_limited};
use ruzstd::decoding::errors::FrameDecoderError;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use std::io::Read;

/// What RFC 8878 asks every decoder to take: level 19 of the reference needs it, whatever the size of the content.
const WINDOW_BYTES_LEAST: usize = 8 * 1024 * 1024;

pub(super) fn compress(plain: &[u8]) -> Vec<u8> {
    compress_to_vec(plain, CompressionLevel::Fastest)
}

pub(super) fn decompress(compressed: &[u8], max_bytes: usize) -> Result<Vec<u8>, CompressionFault> {
    let mut left = compressed;
    let mut out = Vec::new();
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(max_bytes.max(WINDOW_BYTES_LEAST) as u64);
    decoder.init(&mut left).map_err(|error| fault_of(&error, left))?;
    let mut piece = [0; 16 * 1024];
    while !decoder.is_finished() {
        let step = decoder.decode_blocks(&mut left, BlockDecodingStrategy::UptoBlocks(1));
        step.map_err(|error| fault_of(&error, left))?;
        while decoder.can_collect() > 0 {
            let len = decoder.read(&mut piece).map_err(|_| CompressionFault::Malformed)?;
            if len == 0 {
                break;
            }
            extend_limited(&mut out, &piece[..len], max_bytes)?;
        }
    }
    let stated = decoder.get_checksum_from_data();
    if stated.is_some() && stated != decoder.get_calculated_checksum() {
        return Err(CompressionFault::Malformed);
    }
    match left.len() {
        0 => Ok(out),
        extra_bytes => Err(CompressionFault::TrailingBytes { extra_bytes }),
    }
}

/// The decoder says in words what it met; what counts is whether the input had come to its end.
fn fault_of(error: &FrameDecoderError, left: &[u8]) -> CompressionFault {
    match error {
        FrameDecoderError::WindowSizeTooBig { requested, max } => {
            CompressionFault::Window { window_bytes: *requested, max_bytes: *max }
        }
        _ if left.is_empty() => CompressionFault::Truncated,
        _ => CompressionFault::Malformed,
    }
}
