//! Reads one message out of a frame.
//!
//! Strings and byte sequences share the frame's memory. Whoever keeps one for long copies it: a small one would keep
//! the whole frame.
//!
//! Invariants
//!   * nothing is allocated for a count until the rest of the frame could hold that many elements, nor beyond the
//!     message's share of memory: four times its bytes, and 256 KiB
//!   * no input panics

use crate::error::DecodeError;
use crate::value::{Str, Wire};
use bytes::Bytes;

/// Memory that a message may take for each of its bytes, and besides, in bytes.
const SHARE_OF_BYTE: usize = 4;
const SHARE_AROUND: usize = 256 * 1024;

/// A message, and how far it was read.
#[derive(Debug)]
pub struct Reader {
    bytes: Bytes,
    at: usize,
    /// Where what is being read ends: the message, or a tagged field of it.
    end: usize,
    version: i16,
    is_flexible: bool,
    field: &'static str,
    share: usize,
}

impl Reader {
    /// Of a message that begins where `bytes` does.
    pub fn new(bytes: Bytes, version: i16, is_flexible: bool) -> Reader {
        let end = bytes.len();
        let share = SHARE_OF_BYTE * end + SHARE_AROUND;
        Reader { bytes, at: 0, end, version, is_flexible, field: "a message", share }
    }

    /// The version of the message.
    pub fn version(&self) -> i16 {
        self.version
    }

    /// Whether lengths are compact, and tagged fields follow (KIP-482).
    pub fn is_flexible(&self) -> bool {
        self.is_flexible
    }

    /// For the part of a header that is the same in all versions.
    pub(crate) fn set_flexible(&mut self, is_flexible: bool) {
        self.is_flexible = is_flexible;
    }

    /// Reads a field, which may be null in some versions only.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes, and a null that may not be.
    pub fn field<T: Wire>(&mut self, name: &'static str, may_be_null: bool) -> Result<T, DecodeError> {
        self.field = name;
        let at = self.at;
        let value = T::decode(self)?;
        match value.is_null() && !may_be_null {
            true => Err(DecodeError::Null { field: name, at, version: self.version }),
            false => Ok(value),
        }
    }

    /// That nothing is left.
    ///
    /// # Errors
    /// [`DecodeError::Trailing`].
    pub fn finish(&self) -> Result<(), DecodeError> {
        match self.left() {
            0 => Ok(()),
            left => Err(DecodeError::Trailing { field: self.field, at: self.at, left }),
        }
    }

    /// Reads the tagged fields of a structure: `take` reads one and says whether it knows it. What it doesn't know is
    /// left out, as KIP-482 asks.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes: also tags that don't ascend, and a field that isn't as long as it says.
    pub fn tagged(
        &mut self,
        mut take: impl FnMut(u32, &mut Reader) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        self.field = "tagged fields";
        let count = self.unsigned_varint()?;
        // A tag and a length.
        self.check_count(u64::from(count), 2)?;
        let mut before = None;
        for _ in 0..count {
            self.field = "a tagged field";
            let at = self.at;
            let tag = self.unsigned_varint()?;
            if let Some(before) = before.filter(|before| *before >= tag) {
                return Err(DecodeError::TagOrder { tag, at, before });
            }
            before = Some(tag);
            let len = self.unsigned_varint()?;
            let end = self.at + self.check_left(u64::from(len))?;
            let outer = std::mem::replace(&mut self.end, end);
            match take(tag, self)? {
                true => self.finish()?,
                false => self.at = end,
            }
            self.end = outer;
        }
        Ok(())
    }

    /// Bytes that are left of what is being read.
    pub fn left(&self) -> usize {
        self.end - self.at
    }

    /// The next bytes, as they are in the frame.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn take(&mut self, len: u64) -> Result<Bytes, DecodeError> {
        let len = self.check_left(len)?;
        let taken = self.bytes.slice(self.at..self.at + len);
        self.at += len;
        Ok(taken)
    }

    /// The next bytes by value.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.check_left(N as u64)?;
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes[self.at..self.at + N]);
        self.at += N;
        Ok(array)
    }

    /// A number of at most 5 bytes, lowest 7 bits first, not zigzag (KIP-482).
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], [`DecodeError::Varint`].
    pub fn unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        let (field, at) = (self.field, self.at);
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0xf {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Varint { field, at })
    }

    /// A length in the form of the version, with a 32-bit or, for strings, a 16-bit number where that isn't compact.
    /// `None` is null.
    pub(crate) fn length(&mut self, is_short: bool) -> Result<Option<u64>, DecodeError> {
        let (field, at) = (self.field, self.at);
        if self.is_flexible {
            return Ok(u64::from(self.unsigned_varint()?).checked_sub(1));
        }
        let length = match is_short {
            true => i64::from(i16::from_be_bytes(self.array()?)),
            false => i64::from(i32::from_be_bytes(self.array()?)),
        };
        match length {
            -1 => Ok(None),
            length => u64::try_from(length).map(Some).map_err(|_| DecodeError::Length { field, at, length }),
        }
    }

    /// A length that isn't null.
    pub(crate) fn some_length(&mut self, is_short: bool) -> Result<u64, DecodeError> {
        let (field, at, version) = (self.field, self.at, self.version);
        self.length(is_short)?.ok_or(DecodeError::Null { field, at, version })
    }

    /// A string.
    pub(crate) fn string(&mut self, len: u64) -> Result<Str, DecodeError> {
        let (field, at) = (self.field, self.at);
        Str::from_utf8(self.take(len)?).ok_or(DecodeError::Utf8 { field, at })
    }

    /// Elements of an array, of which there are so many.
    pub(crate) fn elements<T: Wire>(&mut self, count: u64) -> Result<Vec<T>, DecodeError> {
        let (field, at) = (self.field, self.at);
        let count = self.check_count(count, T::least_bytes(self.version, self.is_flexible))?;
        let needed = count.saturating_mul(size_of::<T>());
        self.share = self.share.checked_sub(needed).ok_or(DecodeError::Memory {
            field,
            at,
            needed,
            left: self.share,
        })?;
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            self.field = field;
            elements.push(T::decode(self)?);
        }
        Ok(elements)
    }

    fn check_count(&self, count: u64, least: usize) -> Result<usize, DecodeError> {
        let (field, at, left) = (self.field, self.at, self.left());
        // What takes no bytes can't be an element: any number of it would fit.
        let least = least.max(1);
        match usize::try_from(count) {
            Ok(found) if found <= left / least => Ok(found),
            _ => Err(DecodeError::Count { field, at, count, least, left }),
        }
    }

    fn check_left(&self, len: u64) -> Result<usize, DecodeError> {
        let (field, at, left) = (self.field, self.at, self.left());
        match usize::try_from(len) {
            Ok(len) if len <= left => Ok(len),
            _ => Err(DecodeError::Truncated { field, at, needed: len, left }),
        }
    }

    pub(crate) fn presence(&mut self) -> Result<bool, DecodeError> {
        let (field, at) = (self.field, self.at);
        match i8::from_be_bytes(self.array()?) {
            1 => Ok(true),
            -1 => Ok(false),
            found => Err(DecodeError::Presence { field, at, found }),
        }
    }
}
