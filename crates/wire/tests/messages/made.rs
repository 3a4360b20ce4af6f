//! Bytes of messages, made up from their shapes.

use exactlog_wire::schema::{Field, Shape};

/// Whence choices come: from bytes that a property test shrinks, and zeros behind them, which choose the smallest.
pub(crate) struct Choices<'c> {
    bytes: std::slice::Iter<'c, u8>,
}

impl<'c> Choices<'c> {
    pub(crate) fn of(bytes: &'c [u8]) -> Choices<'c> {
        Choices { bytes: bytes.iter() }
    }

    fn next(&mut self) -> u8 {
        self.bytes.next().copied().unwrap_or(0)
    }

    fn up_to(&mut self, most: u8) -> usize {
        usize::from(self.next() % (most + 1))
    }
}

/// How a message is written.
#[derive(Clone, Copy)]
pub(crate) struct Form {
    pub(crate) version: i16,
    pub(crate) is_flexible: bool,
    /// With tagged fields that nobody knows.
    pub(crate) has_unknown_tags: bool,
}

impl Form {
    /// Appends a message of a shape.
    pub(crate) fn make(self, shape: &Shape, choices: &mut Choices<'_>, out: &mut Vec<u8>) {
        match shape {
            Shape::Bool => out.push(choices.next() & 1),
            Shape::Int8 => out.push(choices.next()),
            Shape::Int16 | Shape::Uint16 => out.extend([choices.next(), choices.next()]),
            Shape::Int32 => out.extend([0; 4].map(|_: u8| choices.next())),
            Shape::Int64 => out.extend([0; 8].map(|_: u8| choices.next())),
            Shape::Uuid => out.extend([0; 16].map(|_: u8| choices.next())),
            Shape::Str => self.string(choices, out),
            Shape::Bytes | Shape::Records => {
                let len = choices.up_to(9);
                self.length(Some(len), false, out);
                out.extend((0..len).map(|_| choices.next()));
            }
            Shape::Array(element) => {
                let count = choices.up_to(2);
                self.length(Some(count), false, out);
                (0..count).for_each(|_| self.make(element, choices, out));
            }
            Shape::Nullable(inner) => self.nullable(inner, choices, out),
            Shape::Struct { fields, .. } => self.structure(fields, choices, out),
        }
    }

    fn string(self, choices: &mut Choices<'_>, out: &mut Vec<u8>) {
        let len = choices.up_to(6);
        self.length(Some(len), true, out);
        out.extend((0..len).map(|_| b'a' + choices.next() % 26));
    }

    fn nullable(self, inner: &Shape, choices: &mut Choices<'_>, out: &mut Vec<u8>) {
        let is_null = choices.next() & 1 == 0;
        match (inner, is_null) {
            (Shape::Struct { .. }, true) => out.push(0xff),
            (Shape::Struct { .. }, false) => {
                out.push(1);
                self.make(inner, choices, out);
            }
            (Shape::Str, true) => self.length(None, true, out),
            (_, true) => self.length(None, false, out),
            (_, false) => self.make(inner, choices, out),
        }
    }

    fn structure(self, fields: &[Field], choices: &mut Choices<'_>, out: &mut Vec<u8>) {
        let present = |field: &&Field| field.versions.has(self.version);
        for field in fields.iter().filter(|field| field.tag.is_none()).filter(present) {
            self.field(field, choices, out);
        }
        if !self.is_flexible {
            return;
        }
        let mut tagged = Vec::new();
        for field in fields.iter().filter(present) {
            let Some(tag) = field.tag.filter(|_| choices.next() & 1 == 1) else { continue };
            let mut bytes = Vec::new();
            self.field(field, choices, &mut bytes);
            tagged.push((tag, bytes));
        }
        if self.has_unknown_tags {
            tagged.push((1000, vec![1, 2, 3]));
            tagged.push((u32::MAX, vec![]));
        }
        varint(tagged.len() as u32, out);
        for (tag, bytes) in tagged {
            varint(tag, out);
            varint(bytes.len() as u32, out);
            out.extend(bytes);
        }
    }

    fn field(self, field: &Field, choices: &mut Choices<'_>, out: &mut Vec<u8>) {
        match &field.shape {
            Shape::Nullable(inner) if !field.nullable.has(self.version) => self.make(inner, choices, out),
            shape => self.make(shape, choices, out),
        }
    }

    fn length(self, length: Option<usize>, is_short: bool, out: &mut Vec<u8>) {
        match (self.is_flexible, is_short) {
            (true, _) => varint(length.map_or(0, |length| length as u32 + 1), out),
            (false, true) => out.extend(length.map_or(-1, |length| length as i16).to_be_bytes()),
            (false, false) => out.extend(length.map_or(-1, |length| length as i32).to_be_bytes()),
        }
    }
}

/// An unsigned varint (KIP-482).
pub(crate) fn varint(mut value: u32, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
