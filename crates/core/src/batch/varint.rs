//! Variable-length integers as in records of format v2: zigzag, then 7 bits per byte, lowest first.
//!
//! It is not the unsigned varint of flexible protocol versions (KIP-482), which has no zigzag.
//!
//! Invariants
//!   * what is written is the shortest form, and `varint_len` and `varlong_len` are its exact length
//!   * what is read has at most 5 or 10 bytes and no bits beyond 32 or 64; longer forms than needed are accepted
//!     within that, as every other reader does

use super::RecordFault;

/// Most bytes of a 32-bit and of a 64-bit number.
pub(super) const VARINT_BYTES_MAX: usize = 5;
pub(super) const VARLONG_BYTES_MAX: usize = 10;

/// Written length of a 32-bit number, in bytes.
#[inline]
pub(super) fn varint_len(value: i32) -> usize {
    varlong_len(i64::from(value))
}

/// Written length of a 64-bit number, in bytes.
#[inline]
pub(super) fn varlong_len(value: i64) -> usize {
    let bits = u64::BITS - (zigzag(value) | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// Appends a 32-bit number. Widening keeps the zigzag form, so both widths share one writer.
#[inline]
pub(super) fn put_varint(out: &mut Vec<u8>, value: i32) {
    put_varlong(out, i64::from(value));
}

/// Appends a 64-bit number.
#[inline]
pub(super) fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut bytes = [0; VARLONG_BYTES_MAX];
    let len = write_varlong(&mut bytes, 0, value);
    out.extend_from_slice(&bytes[..len]);
}

/// Writes a 64-bit number at `at`, where there must be room for it; the position behind it.
#[inline]
pub(super) fn write_varlong(out: &mut [u8], mut at: usize, value: i64) -> usize {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out[at] = rest as u8 | 0x80;
        rest >>= 7;
        at += 1;
    }
    out[at] = rest as u8;
    at + 1
}

/// Reads a 32-bit number from the start of `bytes`: the value and how many bytes it took.
#[inline]
pub(super) fn read_varint(bytes: &[u8]) -> Result<(i32, usize), RecordFault> {
    let (value, len) = read_unsigned(bytes, VARINT_BYTES_MAX)?;
    // Five bytes hold 35 bits; the three beyond 32 must be clear.
    let value = u32::try_from(value).map_err(|_| RecordFault::VarintTooLong)?;
    Ok(((value >> 1) as i32 ^ -((value & 1) as i32), len))
}

/// Reads a 64-bit number from the start of `bytes`: the value and how many bytes it took.
#[inline]
pub(super) fn read_varlong(bytes: &[u8]) -> Result<(i64, usize), RecordFault> {
    let (value, len) = read_unsigned(bytes, VARLONG_BYTES_MAX)?;
    Ok(((value >> 1) as i64 ^ -((value & 1) as i64), len))
}

#[inline]
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[inline]
fn read_unsigned(bytes: &[u8], bytes_max: usize) -> Result<(u64, usize), RecordFault> {
    let mut value = 0;
    for (index, &byte) in bytes.iter().take(bytes_max).enumerate() {
        let bits = u64::from(byte & 0x7f);
        let shift = 7 * index as u32;
        // Only the tenth byte can overflow: of its seven bits one is left.
        if shift > 64 - 7 && bits >> (64 - shift) != 0 {
            return Err(RecordFault::VarintTooLong);
        }
        value |= bits << shift;
        if byte < 0x80 {
            return Ok((value, index + 1));
        }
    }
    Err(if bytes.len() < bytes_max { RecordFault::Truncated } else { RecordFault::VarintTooLong })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn varints_have_the_bytes_that_protobuf_gives_them() {
        let written = |value: i64| {
            let mut out = Vec::new();
            put_varlong(&mut out, value);
            out
        };
        assert_eq!(written(0), [0x00]);
        assert_eq!(written(-1), [0x01]);
        assert_eq!(written(1), [0x02]);
        assert_eq!(written(63), [0x7e]);
        assert_eq!(written(-64), [0x7f]);
        assert_eq!(written(64), [0x80, 0x01]);
        assert_eq!(written(300), [0xd8, 0x04]);
        assert_eq!(written(i64::from(i32::MAX)), [0xfe, 0xff, 0xff, 0xff, 0x0f]);
        assert_eq!(written(i64::from(i32::MIN)), [0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert_eq!(written(i64::MIN), [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    }

    #[test]
    fn a_varint_beyond_its_type_is_refused() {
        let too_long = Err(RecordFault::VarintTooLong);
        assert_eq!(read_varint(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Ok((i32::MIN, 5)));
        assert_eq!(read_varint(&[0xff, 0xff, 0xff, 0xff, 0x1f]), too_long); // bit 33
        assert_eq!(read_varint(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00]), too_long); // a sixth byte
        let long = |last: u8| [[0xff; 9].as_slice(), &[last]].concat();
        assert_eq!(read_varlong(&long(0x01)), Ok((i64::MIN, 10)));
        assert_eq!(read_varlong(&long(0x02)), Err(RecordFault::VarintTooLong)); // bit 65
        assert_eq!(read_varlong(&long(0x80)), Err(RecordFault::VarintTooLong)); // an eleventh byte
    }

    #[test]
    fn a_varint_that_ends_early_is_truncated() {
        assert_eq!(read_varint(&[]), Err(RecordFault::Truncated));
        assert_eq!(read_varint(&[0x80, 0x80]), Err(RecordFault::Truncated));
        assert_eq!(read_varlong(&[0xff; 9]), Err(RecordFault::Truncated));
    }

    #[test]
    fn a_form_longer_than_needed_is_read() {
        assert_eq!(read_varint(&[0x82, 0x80, 0x00, 0x55]), Ok((1, 3)));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_and_has_the_stated_length(value: i64, narrow: i32, shift in 0_u32..64) {
            for value in [value >> shift, i64::from(narrow)] {
                let mut out = Vec::new();
                put_varlong(&mut out, value);
                prop_assert_eq!(varlong_len(value), out.len());
                prop_assert_eq!(read_varlong(&out), Ok((value, out.len())));
            }
            let mut out = Vec::new();
            put_varint(&mut out, narrow >> (shift / 2));
            prop_assert_eq!(varint_len(narrow >> (shift / 2)), out.len());
            prop_assert_eq!(read_varint(&out), Ok((narrow >> (shift / 2), out.len())));
        }
    }
}
