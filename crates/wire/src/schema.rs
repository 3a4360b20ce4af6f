//! The notation in which messages are written down, and what is derived from it.
//!
//! ```text
//!   api! {
//!       Produce = 0, versions 3..=13, flexible 9;
//!       request {
//!           transactional_id: Option<Str>,
//!           acks: i16,
//!           topics: Vec<Topic>,
//!       }
//!       response { .. }
//!       struct Topic {
//!           name: Str [..=12],                      in versions up to 12
//!           topic_id: Uuid [13..],                  in versions from 13 on
//!       }
//!   }
//! ```
//!
//! A field is in every version unless a range says otherwise. Behind the range, in this order: `tag N`, a tagged field
//! of a flexible version (KIP-482); `null RANGE`, the versions in which it may be null, if not all; `default VALUE`,
//! what it is in versions that don't have it, if not zero, empty or null.
//!
//! From one description follow the types, reading and writing them in each version, the table of docs/PROTOCOL.md, and
//! the bytes that tests make up.

use std::ops::{Bound, RangeBounds};

/// Versions from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The oldest.
    pub from: i16,
    /// The newest; the largest number there is: all newer ones.
    pub to: i16,
}

impl Versions {
    /// Those of a range.
    pub fn of(range: impl RangeBounds<i16>) -> Versions {
        let from = match range.start_bound() {
            Bound::Unbounded => 0,
            Bound::Included(from) => *from,
            Bound::Excluded(before) => before + 1,
        };
        let to = match range.end_bound() {
            Bound::Unbounded => i16::MAX,
            Bound::Included(to) => *to,
            Bound::Excluded(behind) => behind - 1,
        };
        Versions { from, to }
    }

    /// Whether a version is one of them.
    pub fn has(self, version: i16) -> bool {
        (self.from..=self.to).contains(&version)
    }
}

/// What a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are Kafka's")]
pub enum Shape {
    Bool,
    Int8,
    Int16,
    Uint16,
    Int32,
    Int64,
    Uuid,
    Str,
    Bytes,
    Records,
    Array(Box<Shape>),
    Nullable(Box<Shape>),
    Struct { name: &'static str, fields: Vec<Field> },
}

/// A field of a structure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name, which is Kafka's.
    pub name: &'static str,
    /// What it is.
    pub shape: Shape,
    /// The versions that have it.
    pub versions: Versions,
    /// Its tag, if it is a tagged field.
    pub tag: Option<u32>,
    /// In which of them it may be null, if it ever may.
    pub nullable: Versions,
}

/// A pair of messages.
pub trait Api {
    /// The number by which requests name it.
    const KEY: i16;
    /// Kafka's name of it.
    const NAME: &'static str;
    /// The versions that are known here.
    const VERSIONS: Versions;
    /// From which version on it is flexible (KIP-482).
    const FLEXIBLE: i16;
    /// What is asked.
    type Request: crate::value::Wire;
    /// What is answered.
    type Response: crate::value::Wire;
}

/// A part of what stands in brackets behind a field.
macro_rules! rule {
    (versions) => {
        ..
    };
    (versions [$range:expr $(, $($rest:tt)*)?]) => {
        $range
    };

    (tag [$range:expr, tag $tag:literal $($rest:tt)*]) => {
        Some($tag)
    };
    (tag $([$($any:tt)*])?) => {
        None
    };

    (null [$range:expr $(, tag $tag:literal)?, null $null:expr $(, default $default:expr)?]) => {
        $null
    };
    (null $([$($any:tt)*])?) => {
        ..
    };

    (default [$range:expr $(, tag $tag:literal)? $(, null $null:expr)?, default $default:expr]) => {
        $default
    };
    (default $([$($any:tt)*])?) => {
        Default::default()
    };
}

/// One structure: its type, and how it is read and written.
macro_rules! structure {
    (
        $(#[$meta:meta])*
        $name:ident {
            $( $(#[$field_meta:meta])* $field:ident : $kind:ty $([ $($rule:tt)* ])? ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $kind, )*
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $( $field: $crate::schema::rule!(default $([$($rule)*])?), )* }
            }
        }

        impl $crate::value::Wire for $name {
            fn shape() -> $crate::schema::Shape {
                let fields = vec![$( $crate::schema::Field {
                    name: stringify!($field),
                    shape: <$kind as $crate::value::Wire>::shape(),
                    versions: $crate::schema::Versions::of($crate::schema::rule!(versions $([$($rule)*])?)),
                    tag: $crate::schema::rule!(tag $([$($rule)*])?),
                    nullable: $crate::schema::Versions::of($crate::schema::rule!(null $([$($rule)*])?)),
                }, )*];
                $crate::schema::Shape::Struct { name: stringify!($name), fields }
            }

            #[allow(unused_variables, reason = "not of a structure without fields")]
            fn least_bytes(version: i16, is_flexible: bool) -> usize {
                let mut least = usize::from(is_flexible);
                $({
                    let (versions, tag) = $crate::schema::placing!($([$($rule)*])?);
                    if tag.is_none() && versions.has(version) {
                        least += <$kind as $crate::value::Wire>::least_bytes(version, is_flexible);
                    }
                })*
                least
            }

            fn decode(
                reader: &mut $crate::reader::Reader,
            ) -> Result<Self, $crate::error::DecodeError> {
                #[allow(unused_mut, reason = "not of a structure without fields")]
                let mut read = Self::default();
                #[allow(unused_variables, reason = "not of a structure without fields")]
                let version = reader.version();
                $({
                    let (versions, tag) = $crate::schema::placing!($([$($rule)*])?);
                    if tag.is_none() && versions.has(version) {
                        let nullable = $crate::schema::Versions::of($crate::schema::rule!(null $([$($rule)*])?));
                        read.$field = reader.field(stringify!($field), nullable.has(version))?;
                    }
                })*
                if reader.is_flexible() {
                    reader.tagged(|_tag, _reader| {
                        $({
                            let (versions, tag) = $crate::schema::placing!($([$($rule)*])?);
                            if tag == Some(_tag) && versions.has(version) {
                                let nullable =
                                    $crate::schema::Versions::of($crate::schema::rule!(null $([$($rule)*])?));
                                read.$field = _reader.field(stringify!($field), nullable.has(version))?;
                                return Ok(true);
                            }
                        })*
                        Ok(false)
                    })?;
                }
                Ok(read)
            }

            fn encode(&self, writer: &mut $crate::writer::Writer) {
                #[allow(unused_variables, reason = "not of a structure without fields")]
                let version = writer.version();
                $({
                    let (versions, tag) = $crate::schema::placing!($([$($rule)*])?);
                    if tag.is_none() && versions.has(version) {
                        let nullable = $crate::schema::Versions::of($crate::schema::rule!(null $([$($rule)*])?));
                        $crate::value::Wire::encode_field(&self.$field, nullable.has(version), writer);
                    }
                })*
                if writer.is_flexible() {
                    #[allow(unused_mut, reason = "not of a structure without tagged fields")]
                    let mut tagged: Vec<$crate::writer::TaggedField<'_>> = Vec::new();
                    $(
                        let $field = |writer: &mut $crate::writer::Writer| {
                            $crate::value::Wire::encode(&self.$field, writer);
                        };
                        let (versions, tag) = $crate::schema::placing!($([$($rule)*])?);
                        if let Some(tag) = tag.filter(|_| versions.has(version)) {
                            let default: $kind = $crate::schema::rule!(default $([$($rule)*])?);
                            if self.$field != default {
                                tagged.push((tag, &$field));
                            }
                        }
                    )*
                    writer.tagged(&tagged);
                }
            }
        }
    };
}

/// The versions of a field, and its tag.
macro_rules! placing {
    ($([$($rule:tt)*])?) => {{
        let tag: Option<u32> = $crate::schema::rule!(tag $([$($rule)*])?);
        ($crate::schema::Versions::of($crate::schema::rule!(versions $([$($rule)*])?)), tag)
    }};
}

/// An API: its messages, and the structures in them.
macro_rules! api {
    (
        $name:ident = $key:literal, versions $from:literal..=$to:literal, flexible $flexible:expr;
        request { $($request:tt)* }
        response { $($response:tt)* }
        $( $(#[$struct_meta:meta])* struct $struct:ident { $($body:tt)* } )*
    ) => {
        #[doc = concat!("The API ", stringify!($name), ".")]
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl $crate::schema::Api for $name {
            const KEY: i16 = $key;
            const NAME: &'static str = stringify!($name);
            const VERSIONS: $crate::schema::Versions = $crate::schema::Versions { from: $from, to: $to };
            const FLEXIBLE: i16 = $flexible;
            type Request = Request;
            type Response = Response;
        }

        $crate::schema::structure! {
            /// What is asked.
            Request { $($request)* }
        }
        $crate::schema::structure! {
            /// What is answered.
            Response { $($response)* }
        }
        $( $crate::schema::structure! { $(#[$struct_meta])* $struct { $($body)* } } )*
    };
}

pub(crate) use {api, placing, rule, structure};
