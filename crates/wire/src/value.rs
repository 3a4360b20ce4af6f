//! The kinds of values that messages are made of, each with its bytes (kafka.apache.org/protocol, "Protocol Primitive
//! Types").
//!
//! ```text
//!               not flexible                    flexible (KIP-482)
//!   number      big-endian                      the same
//!   string      i16 length, or -1: null         unsigned varint of length + 1, or 0: null
//!   bytes       i32 length, or -1: null         the same as of a string
//!   array       i32 count, or -1: null          unsigned varint of count + 1, or 0: null
//!   structure   its fields                      its fields, then its tagged fields
//!   structure that may be null                  i8: -1 null, 1 and the structure; in both
//! ```

use crate::error::DecodeError;
use crate::reader::Reader;
use crate::schema::Shape;
use crate::writer::Writer;
use bytes::Bytes;
use std::fmt;
use std::ops::Deref;

/// What can be a field of a message.
pub trait Wire: Sized + Default + PartialEq {
    /// What it is, for docs/PROTOCOL.md and for tests.
    fn shape() -> Shape;

    /// What one takes at least, in bytes.
    fn least_bytes(version: i16, is_flexible: bool) -> usize;

    /// Reads one.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes.
    fn decode(reader: &mut Reader) -> Result<Self, DecodeError>;

    /// Writes it in the version of the message; fields that this version doesn't have are left out.
    fn encode(&self, writer: &mut Writer);

    /// What one that may be null takes at least, in bytes.
    fn least_bytes_nullable(_version: i16, _is_flexible: bool) -> usize {
        1
    }

    /// Reads one that may be null.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes.
    fn decode_nullable(reader: &mut Reader) -> Result<Option<Self>, DecodeError> {
        match reader.presence()? {
            true => Self::decode(reader).map(Some),
            false => Ok(None),
        }
    }

    /// Writes one that may be null.
    fn encode_nullable(value: Option<&Self>, writer: &mut Writer) {
        writer.put(&[if value.is_some() { 1 } else { 0xff }]);
        if let Some(value) = value {
            value.encode(writer);
        }
    }

    /// Whether it is null.
    fn is_null(&self) -> bool {
        false
    }

    /// Writes it, or what stands for null where that can't be.
    fn encode_field(&self, _may_be_null: bool, writer: &mut Writer) {
        self.encode(writer);
    }
}

macro_rules! number {
    ($($number:ty: $shape:ident)*) => {$(
        impl Wire for $number {
            fn shape() -> Shape {
                Shape::$shape
            }

            fn least_bytes(_: i16, _: bool) -> usize {
                size_of::<$number>()
            }

            fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
                reader.array().map(<$number>::from_be_bytes)
            }

            fn encode(&self, writer: &mut Writer) {
                writer.put(&self.to_be_bytes());
            }
        }
    )*};
}

number! { i8: Int8 i16: Int16 u16: Uint16 i32: Int32 i64: Int64 }

impl Wire for bool {
    fn shape() -> Shape {
        Shape::Bool
    }

    fn least_bytes(_: i16, _: bool) -> usize {
        1
    }

    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        reader.array().map(|[byte]| byte != 0)
    }

    fn encode(&self, writer: &mut Writer) {
        writer.put(&[u8::from(*self)]);
    }
}

/// An id of 16 bytes; of a topic, mostly (KIP-516). Null is all zeros.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

impl fmt::Debug for Uuid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, byte) in self.0.iter().enumerate() {
            let dash = if matches!(nth, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(formatter, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

impl Wire for Uuid {
    fn shape() -> Shape {
        Shape::Uuid
    }

    fn least_bytes(_: i16, _: bool) -> usize {
        16
    }

    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        reader.array().map(Uuid)
    }

    fn encode(&self, writer: &mut Writer) {
        writer.put(&self.0);
    }
}

/// Values behind a length or a count, which says null, too: how the rest is read, and written.
macro_rules! behind_a_length {
    ($kind:ty $(where $of:ident: $bound:ident)?, $shape:expr, is_short: $is_short:literal, $read:expr, $write:expr) => {
        impl$(<$of: $bound>)? Wire for $kind {
            fn shape() -> Shape {
                $shape
            }

            fn least_bytes(_: i16, is_flexible: bool) -> usize {
                match (is_flexible, $is_short) {
                    (true, _) => 1,
                    (false, true) => 2,
                    (false, false) => 4,
                }
            }

            fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
                let read: fn(&mut Reader, u64) -> Result<Self, DecodeError> = $read;
                let len = reader.some_length($is_short)?;
                read(reader, len)
            }

            fn encode(&self, writer: &mut Writer) {
                let write: fn(&Self, &mut Writer) = $write;
                writer.length(Some(self.len()), $is_short);
                write(self, writer);
            }

            fn least_bytes_nullable(version: i16, is_flexible: bool) -> usize {
                Self::least_bytes(version, is_flexible)
            }

            fn decode_nullable(reader: &mut Reader) -> Result<Option<Self>, DecodeError> {
                let read: fn(&mut Reader, u64) -> Result<Self, DecodeError> = $read;
                reader.length($is_short)?.map(|len| read(reader, len)).transpose()
            }

            fn encode_nullable(value: Option<&Self>, writer: &mut Writer) {
                match value {
                    Some(value) => value.encode(writer),
                    None => writer.length(None, $is_short),
                }
            }
        }
    };
}

/// A string that shares the memory of the frame it was read from.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Str(Bytes);

impl Str {
    /// The string that these bytes are, if they are one.
    pub fn from_utf8(bytes: Bytes) -> Option<Str> {
        std::str::from_utf8(&bytes).is_ok().then_some(Str(bytes))
    }

    /// A string that needs no memory.
    pub const fn from_static(text: &'static str) -> Str {
        Str(Bytes::from_static(text.as_bytes()))
    }

    /// It as text.
    pub fn as_str(&self) -> &str {
        // It was text when it was made.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Deref for Str {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl From<String> for Str {
    fn from(text: String) -> Str {
        Str(text.into())
    }
}

impl From<&str> for Str {
    fn from(text: &str) -> Str {
        Str(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl fmt::Debug for Str {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), formatter)
    }
}

impl fmt::Display for Str {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self)
    }
}

behind_a_length! { Str, Shape::Str, is_short: true, Reader::string, |text, writer| writer.put(&text.0) }

behind_a_length! { Bytes, Shape::Bytes, is_short: false, Reader::take, |bytes, writer| writer.put(bytes) }

/// Record batches as they lie in the log, one after the other. What is read is one piece; what is written can be
/// several, which are handed on without copying.
#[derive(Clone, Default)]
pub struct Records(pub Vec<Bytes>);

impl Records {
    /// Their length, in bytes.
    pub fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Their bytes, of all pieces.
    fn bytes(&self) -> impl Iterator<Item = u8> {
        self.0.iter().flat_map(|piece| piece.iter().copied())
    }
}

impl PartialEq for Records {
    fn eq(&self, other: &Records) -> bool {
        self.bytes().eq(other.bytes())
    }
}

impl Eq for Records {}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Records {
        Records(vec![bytes])
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", Bytes::from_iter(self.bytes()))
    }
}

behind_a_length! {
    Records, Shape::Records, is_short: false,
    |reader, len| reader.take(len).map(Records::from),
    |records, writer| records.0.iter().for_each(|piece| writer.hand_on(piece))
}

behind_a_length! {
    Vec<T> where T: Wire, Shape::Array(Box::new(T::shape())), is_short: false,
    Reader::elements,
    |elements, writer| elements.iter().for_each(|element| element.encode(writer))
}

impl<T: Wire> Wire for Option<T> {
    fn shape() -> Shape {
        Shape::Nullable(Box::new(T::shape()))
    }

    fn least_bytes(version: i16, is_flexible: bool) -> usize {
        T::least_bytes_nullable(version, is_flexible)
    }

    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        T::decode_nullable(reader)
    }

    fn encode(&self, writer: &mut Writer) {
        T::encode_nullable(self.as_ref(), writer);
    }

    fn is_null(&self) -> bool {
        self.is_none()
    }

    fn encode_field(&self, may_be_null: bool, writer: &mut Writer) {
        match self.is_none() && !may_be_null {
            true => T::encode_nullable(Some(&T::default()), writer),
            false => self.encode(writer),
        }
    }
}
