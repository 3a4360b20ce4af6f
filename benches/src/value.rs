//! Payloads that don't compress and cost nothing to make, so that a benchmark measures the log and not itself.

use std::sync::OnceLock;

/// Bytes that all values are cut from. Small enough for a second-level cache: fresh payloads of a program are warm too.
const POOL_BYTES: usize = 128 << 10;

/// Distance between two values, in bytes: odd, so that they begin everywhere in a cache line.
const STRIDE_BYTES: usize = 4099;

static POOL: OnceLock<Vec<u8>> = OnceLock::new();

/// Values of one length, one after the other.
#[derive(Clone, Debug)]
pub struct Values {
    pool: &'static [u8],
    len: usize,
    at: usize,
}

impl Values {
    /// Values of `len` bytes each, at most 32 KiB. All are cut from one pool, which lives as long as the process.
    pub fn new(len: usize) -> Values {
        assert!(len <= POOL_BYTES / 4, "a value of {len} bytes is too long for the pool");
        Values { pool: POOL.get_or_init(pool), len, at: 0 }
    }

    /// Length of each value in bytes.
    pub fn len_bytes(&self) -> usize {
        self.len
    }

    /// The next value.
    pub fn take(&mut self) -> &'static [u8] {
        let value = &self.pool[self.at..self.at + self.len];
        self.at += STRIDE_BYTES;
        if self.at + self.len > POOL_BYTES {
            self.at %= STRIDE_BYTES;
        }
        value
    }
}

fn pool() -> Vec<u8> {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut pool = Vec::with_capacity(POOL_BYTES);
    while pool.len() < POOL_BYTES {
        // Marsaglia's xorshift64.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        pool.extend_from_slice(&seed.to_le_bytes());
    }
    pool
}
