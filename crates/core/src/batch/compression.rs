//! The codecs of a batch's body (`compression.type`): bytes in, bytes out.
//!
//! Only those who write or read records come here. What is appended as a batch is stored as it comes, and
//! `State::apply` never calls a codec, so that applying costs the same whatever a sender has packed.
//!
//! Each codec but none is a cargo feature of its name. Without it everything but reading and writing its records
//! works, and these answer [`BatchError::CodecMissing`].
//!
//! What is written is what Kafka's Java client writes: gzip members (RFC 1952), snappy in the framing of
//! `snappy-java`, LZ4 frames of independent blocks of 64 KiB without checksum of the content, Zstandard frames
//! (RFC 8878). What is read is more: several gzip members, snappy without framing (librdkafka), LZ4 frames with
//! any block size, linked blocks, and checksums.
//!
//! Invariants
//!   * no decompressor returns, or holds as its output, more than the limit that it was given; an output is
//!     checked against the limit before there is memory for it
//!   * besides its output a decompressor needs at most 12 MiB, Zstandard its window: at most the greater of 8 MiB and
//!     the limit
//!   * every step consumes input or ends: time is bounded by input and limit
//!   * the whole input is consumed: bytes behind a codec's end are an error

#[cfg(feature = "gzip")]
mod gzip;
#[cfg(feature = "lz4")]
mod lz4;
#[cfg(feature = "snappy")]
mod snappy;
#[cfg(feature = "zstd")]
mod zstd;

#[cfg(test)]
mod tests;

use super::header::{GZIP, LZ4, SNAPPY, UNCOMPRESSED, ZSTD};
use super::{BatchError, CompressionFault};
use std::fmt;

/// Most bytes of records that readers of a batch decompress, 64 MiB: four times the largest `max.message.bytes`, so
/// what isn't refused uncompressed can be read compressed. A limit and not a ratio: records that repeat themselves
/// shrink a thousandfold and are no attack.
pub const RECORDS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Codec of a batch's body (attribute bits 0 to 2, `compression.type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// The records lie in the body as they are.
    #[default]
    None,
    /// RFC 1952, level 6.
    Gzip,
    /// Snappy, in the framing of `snappy-java`.
    Snappy,
    /// The LZ4 frame format.
    Lz4,
    /// RFC 8878; clients may use it from Produce v7 on (KIP-110).
    Zstd,
}

impl Compression {
    /// All of them, in the order of their ids.
    pub const ALL: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    /// The number in a batch's attributes, 0 to 4.
    pub const fn id(self) -> u8 {
        (match self {
            Compression::None => UNCOMPRESSED,
            Compression::Gzip => GZIP,
            Compression::Snappy => SNAPPY,
            Compression::Lz4 => LZ4,
            Compression::Zstd => ZSTD,
        }) as u8
    }

    /// The codec with this number; `None` if there is no such codec.
    pub fn from_id(id: u8) -> Option<Compression> {
        Compression::ALL.get(usize::from(id)).copied()
    }

    /// Kafka's name for it in `compression.type`; also that of the cargo feature.
    pub const fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }

    /// The codec of this name; `None` if there is no such codec. Kafka's `producer` and `uncompressed` are settings of
    /// topics, not codecs.
    pub fn from_name(name: &str) -> Option<Compression> {
        Compression::ALL.into_iter().find(|codec| codec.name() == name)
    }

    /// The most that this codec adds to so many bytes that it can't make shorter, in bytes; with room to spare. What
    /// reckons with it isn't surprised by a batch that grew.
    pub const fn bytes_added_max(self, plain_bytes: usize) -> usize {
        match self {
            Compression::None => 0,
            // Headers and trailers, and a few bytes for each block; snappy up to one byte in 65.
            Compression::Gzip | Compression::Snappy | Compression::Lz4 | Compression::Zstd => {
                64 + plain_bytes / 32
            }
        }
    }

    /// Whether this build can compress and decompress with it.
    pub const fn is_available(self) -> bool {
        match self {
            Compression::None => true,
            Compression::Gzip => cfg!(feature = "gzip"),
            Compression::Snappy => cfg!(feature = "snappy"),
            Compression::Lz4 => cfg!(feature = "lz4"),
            Compression::Zstd => cfg!(feature = "zstd"),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Compresses `plain`, which may be empty.
///
/// # Errors
/// [`BatchError::CodecMissing`]; [`BatchError::Compression`] if it has more than [`RECORDS_BYTES_MAX`] bytes: readers
/// wouldn't decompress it.
pub fn compress(codec: Compression, plain: &[u8]) -> Result<Vec<u8>, BatchError> {
    if codec != Compression::None && plain.len() > RECORDS_BYTES_MAX {
        let fault = CompressionFault::TooLarge { max_bytes: RECORDS_BYTES_MAX };
        return Err(BatchError::Compression { compression: codec, fault });
    }
    match codec {
        Compression::None => Ok(plain.to_vec()),
        #[cfg(feature = "gzip")]
        Compression::Gzip => Ok(gzip::compress(plain)),
        #[cfg(feature = "snappy")]
        Compression::Snappy => Ok(snappy::compress(plain)),
        #[cfg(feature = "lz4")]
        Compression::Lz4 => Ok(lz4::compress(plain)),
        #[cfg(feature = "zstd")]
        Compression::Zstd => Ok(zstd::compress(plain)),
        #[allow(unreachable_patterns, reason = "with all features there is no other")]
        compression => Err(BatchError::CodecMissing { compression }),
    }
}

/// Decompresses the whole of `compressed` to at most `max_bytes` bytes.
///
/// # Errors
/// [`BatchError::CodecMissing`]; [`BatchError::Compression`] if the bytes aren't exactly what the codec writes, or
/// there would be more.
pub fn decompress(codec: Compression, compressed: &[u8], max_bytes: usize) -> Result<Vec<u8>, BatchError> {
    let decompressed = match codec {
        Compression::None if compressed.len() > max_bytes => Err(CompressionFault::TooLarge { max_bytes }),
        Compression::None => Ok(compressed.to_vec()),
        #[cfg(feature = "gzip")]
        Compression::Gzip => gzip::decompress(compressed, max_bytes),
        #[cfg(feature = "snappy")]
        Compression::Snappy => snappy::decompress(compressed, max_bytes),
        #[cfg(feature = "lz4")]
        Compression::Lz4 => lz4::decompress(compressed, max_bytes),
        #[cfg(feature = "zstd")]
        Compression::Zstd => zstd::decompress(compressed, max_bytes),
        #[allow(unreachable_patterns, reason = "with all features there is no other")]
        compression => return Err(BatchError::CodecMissing { compression }),
    };
    decompressed.map_err(|fault| BatchError::Compression { compression: codec, fault })
}

/// Reads to the end, piece by piece, and stops at the limit.
#[cfg(any(feature = "gzip", feature = "lz4"))]
fn read_limited(
    reader: &mut impl std::io::Read,
    out: &mut Vec<u8>,
    max_bytes: usize,
) -> Result<(), CompressionFault> {
    let mut piece = [0; 16 * 1024];
    loop {
        match reader.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(len) => extend_limited(out, &piece[..len], max_bytes)?,
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(CompressionFault::Truncated);
            }
            Err(_) => return Err(CompressionFault::Malformed),
        }
    }
}

/// Appends a piece, if that stays within the limit.
#[cfg(any(feature = "gzip", feature = "lz4", feature = "zstd"))]
fn extend_limited(out: &mut Vec<u8>, piece: &[u8], max_bytes: usize) -> Result<(), CompressionFault> {
    if piece.len() > max_bytes - out.len() {
        return Err(CompressionFault::TooLarge { max_bytes });
    }
    out.extend_from_slice(piece);
    Ok(())
}
