//! Writes one message as the parts of a frame.
//!
//! Small values go into buffers of its own; record batches are handed on as they are, as parts between these, for a
//! vectored write. So a response costs a few hundred bytes of copying, however much it carries.
//!
//! Invariants
//!   * the parts one after the other are the frame: its length in 4 bytes, a header, a message

use crate::frame::LENGTH_BYTES;
use bytes::{BufMut, Bytes, BytesMut};

/// What is shorter is copied, in bytes: a part of its own costs more.
const PART_BYTES_MIN: usize = 1024;

/// The largest frame there can be, in bytes behind its length.
const FRAME_BYTES_MAX: usize = i32::MAX as usize;

/// A frame that is being written, or a piece of one.
#[derive(Debug)]
pub struct Writer {
    /// The first part, once there are others: the length goes into it at the end.
    first: Option<BytesMut>,
    parts: Vec<Bytes>,
    buffer: BytesMut,
    version: i16,
    is_flexible: bool,
    /// The longest that didn't fit into its form, if any.
    too_long: usize,
}

/// A tagged field: its tag, and what writes it.
pub type TaggedField<'f> = (u32, &'f dyn Fn(&mut Writer));

/// A frame would be longer than its length can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {bytes} bytes; its length goes up to {FRAME_BYTES_MAX}")]
pub struct FrameTooLong {
    /// What it would have, in bytes.
    pub bytes: usize,
}

impl Writer {
    /// Begins a frame.
    pub fn frame(version: i16, is_flexible: bool) -> Writer {
        let mut frame = Writer::piece(version, is_flexible);
        frame.buffer.put_bytes(0, LENGTH_BYTES);
        frame
    }

    /// Begins a piece of a message.
    pub fn piece(version: i16, is_flexible: bool) -> Writer {
        Writer { first: None, parts: Vec::new(), buffer: BytesMut::new(), version, is_flexible, too_long: 0 }
    }

    /// The version of the message.
    pub fn version(&self) -> i16 {
        self.version
    }

    /// Whether lengths are compact, and tagged fields follow (KIP-482).
    pub fn is_flexible(&self) -> bool {
        self.is_flexible
    }

    /// Appends bytes by copying them.
    pub fn put(&mut self, bytes: &[u8]) {
        self.buffer.put_slice(bytes);
    }

    /// Appends bytes without copying them, unless they are few.
    pub fn hand_on(&mut self, bytes: &Bytes) {
        if bytes.len() < PART_BYTES_MIN {
            return self.put(bytes);
        }
        self.close_buffer();
        self.parts.push(bytes.clone());
    }

    fn close_buffer(&mut self) {
        let buffer = self.buffer.split();
        match &self.first {
            None => self.first = Some(buffer),
            Some(_) if buffer.is_empty() => {}
            Some(_) => self.parts.push(buffer.freeze()),
        }
    }

    /// A number, lowest 7 bits first, not zigzag (KIP-482).
    pub fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buffer.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.buffer.put_u8(value as u8);
    }

    /// A length in the form of the version, with a 32-bit or, for strings, a 16-bit number where that isn't compact.
    ///
    /// A length beyond that form spoils the frame: [`into_frame`](Writer::into_frame) says so.
    pub(crate) fn length(&mut self, length: Option<usize>, is_short: bool) {
        let max = if is_short && !self.is_flexible { i16::MAX as usize } else { i32::MAX as usize - 1 };
        if length.unwrap_or(0) > max {
            self.too_long = self.too_long.max(length.unwrap_or(0));
        }
        match (self.is_flexible, is_short) {
            (true, _) => self.unsigned_varint(length.map_or(0, |length| length as u32 + 1)),
            (false, true) => self.buffer.put_i16(length.map_or(-1, |length| length as i16)),
            (false, false) => self.buffer.put_i32(length.map_or(-1, |length| length as i32)),
        }
    }

    /// The tagged fields of a structure, ascending: each with what writes it.
    pub fn tagged(&mut self, fields: &[TaggedField<'_>]) {
        self.unsigned_varint(fields.len() as u32);
        for (tag, write) in fields {
            let mut field = Writer::piece(self.version, self.is_flexible);
            write(&mut field);
            self.unsigned_varint(*tag);
            self.too_long = self.too_long.max(field.too_long);
            let parts = field.into_parts();
            self.unsigned_varint(parts.iter().map(Bytes::len).sum::<usize>() as u32);
            parts.iter().for_each(|part| self.put(part));
        }
    }

    /// For the part of a header that is the same in all versions.
    pub(crate) fn set_flexible(&mut self, is_flexible: bool) {
        self.is_flexible = is_flexible;
    }

    /// What was written, in parts.
    pub fn into_parts(mut self) -> Vec<Bytes> {
        self.close_buffer();
        let first = self.first.unwrap_or_default().freeze();
        self.parts.insert(0, first);
        self.parts
    }

    /// The frame that was begun with [`frame`](Writer::frame), with its length.
    ///
    /// # Errors
    /// [`FrameTooLong`].
    pub fn into_frame(mut self) -> Result<Vec<Bytes>, FrameTooLong> {
        self.close_buffer();
        let mut first = self.first.unwrap_or_default();
        let bytes = first.len() - LENGTH_BYTES + self.parts.iter().map(Bytes::len).sum::<usize>();
        if bytes > FRAME_BYTES_MAX || self.too_long > 0 {
            return Err(FrameTooLong { bytes: bytes.max(self.too_long) });
        }
        first[..LENGTH_BYTES].copy_from_slice(&(bytes as i32).to_be_bytes());
        self.parts.insert(0, first.freeze());
        Ok(self.parts)
    }
}
