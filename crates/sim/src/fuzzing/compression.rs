//! Targets `gzip`, `snappy`, `lz4` and `zstd`: any bytes as what such a codec has written.
//!
//! Checked:
//!   * a decompressor returns at most the limit that it was given, and the same with a limit that is just enough
//!   * with one byte less it says that there is more
//!   * what comes out can be compressed, and comes out again

use exactlog_core::batch::compression::{compress, decompress};
use exactlog_core::batch::{BatchError, Compression, CompressionFault};

/// Enough for blocks and windows to be passed, and little enough to be quick.
const LIMIT_BYTES: usize = 1 << 20;

pub(super) fn gzip(data: &[u8]) {
    check(Compression::Gzip, data);
}

pub(super) fn snappy(data: &[u8]) {
    check(Compression::Snappy, data);
}

pub(super) fn lz4(data: &[u8]) {
    check(Compression::Lz4, data);
}

pub(super) fn zstd(data: &[u8]) {
    check(Compression::Zstd, data);
}

fn check(codec: Compression, data: &[u8]) {
    let plain = match decompress(codec, data, LIMIT_BYTES) {
        Ok(plain) => plain,
        Err(error) => {
            assert!(matches!(error, BatchError::Compression { compression, .. } if compression == codec));
            return assert!(error.to_string().contains(codec.name()));
        }
    };
    assert!(plain.len() <= LIMIT_BYTES);
    assert_eq!(decompress(codec, data, plain.len()).as_ref(), Ok(&plain));
    if let Some(max_bytes) = plain.len().checked_sub(1) {
        let fault = CompressionFault::TooLarge { max_bytes };
        let error = BatchError::Compression { compression: codec, fault };
        assert_eq!(decompress(codec, data, max_bytes), Err(error));
    }
    let again = compress(codec, &plain).expect("it is below what readers take");
    assert_eq!(decompress(codec, &again, plain.len()), Ok(plain));
}
