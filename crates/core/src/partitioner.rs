//! Which partition a key belongs to: the choice of Kafka's Java client, so that all producers agree.
//!
//! It is not a spreader: records without a key go wherever the producer likes.
//!
//! Invariants
//!   * the same key and number of partitions give the same partition, in every release: data depends on it

/// The partition of `key` among `partitions`: the positive part of its murmur2, modulo the number.
///
/// # Panics
/// If there are no partitions.
pub fn partition_for_key(key: &[u8], partitions: u32) -> u32 {
    assert!(partitions > 0, "a topic has at least one partition");
    // Kafka's `toPositive`: the sign bit is dropped, not negated.
    (murmur2(key) & i32::MAX) as u32 % partitions
}

/// The 32-bit murmur2 of `org.apache.kafka.common.utils.Utils.murmur2`, seed included.
pub fn murmur2(bytes: &[u8]) -> i32 {
    let mut hash = SEED ^ bytes.len() as u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for &word in words {
        let mut word = u32::from_le_bytes(word).wrapping_mul(M);
        word ^= word >> R;
        hash = hash.wrapping_mul(M) ^ word.wrapping_mul(M);
    }
    if !rest.is_empty() {
        let mut word = [0; 4];
        word[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u32::from_le_bytes(word)).wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    (hash ^ (hash >> 15)) as i32
}

const SEED: u32 = 0x9747_b28c;
const M: u32 = 0x5bd1_e995;
const R: u32 = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_java_client() {
        // From UtilsTest.testMurmur2 of Apache Kafka.
        for (key, hash) in [
            ("21", -973932308),
            ("foobar", -790332482),
            ("a-little-bit-long-string", -985981536),
            ("a-little-bit-longer-string", -1486304829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
            ("abc", 479470107), // one word short: all three bytes of the rest
        ] {
            assert_eq!(murmur2(key.as_bytes()), hash, "{key}");
        }
    }

    #[test]
    fn a_negative_hash_loses_its_sign_bit_before_the_modulo() {
        let positive = u32::MAX / 2 + 1 - 973932308; // -973932308 & 0x7fffffff
        assert_eq!(partition_for_key(b"21", 6), positive % 6);
        assert_eq!(partition_for_key(b"abc", 6), 479470107 % 6);
        assert_eq!(partition_for_key(b"", 1), 0);
    }
}
