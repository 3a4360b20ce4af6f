//! Whole messages: a header and a body, of any API.
//!
//! A node reads [`Request`]s and writes [`Response`]s of all APIs; whoever asks knows which one it asks, and uses
//! [`ask`] and [`answer`].

use crate::error::{DecodeError, MessageError};
use crate::header::{RequestHeader, begins_with, decode_response_header, encode_response_header};
use crate::messages::{APIS, ApiVersions, Request, Response};
use crate::reader::Reader;
use crate::schema::{Api, Shape, Versions};
use crate::value::{Str, Wire};
use crate::writer::{FrameTooLong, Writer};
use bytes::Bytes;

/// What is known of an API.
#[derive(Clone, Copy, Debug)]
pub struct ApiInfo {
    /// Its number.
    pub key: i16,
    /// Kafka's name of it.
    pub name: &'static str,
    /// The versions that are known here.
    pub versions: Versions,
    /// From which version on it is flexible.
    pub flexible: i16,
    /// Its request.
    pub request: fn() -> Shape,
    /// Its response.
    pub response: fn() -> Shape,
}

impl ApiInfo {
    /// That of an API.
    pub(crate) const fn of<A: Api>() -> ApiInfo {
        ApiInfo {
            key: A::KEY,
            name: A::NAME,
            versions: A::VERSIONS,
            flexible: A::FLEXIBLE,
            request: <A::Request as Wire>::shape,
            response: <A::Response as Wire>::shape,
        }
    }

    /// Whether its messages are flexible in a version.
    pub fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible
    }

    /// Whether the header of its response has tagged fields: that of ApiVersions never has, since a client reads it
    /// before it knows what the node speaks (KIP-511).
    pub fn has_tagged_header(&self, version: i16) -> bool {
        self.is_flexible(version) && self.key != ApiVersions::KEY
    }
}

/// What is known of the API with a key.
pub fn api(key: i16) -> Option<&'static ApiInfo> {
    APIS.iter().find(|api| api.key == key)
}

/// Reads a request: the frame behind its length. What lies behind the request in it is passed over, as Kafka does: with
/// Metadata in version 13 librdkafka 2.12 sends three bytes more than there are fields.
///
/// # Errors
/// [`MessageError`]. One of an API or a version that isn't known is told apart from bytes that aren't a message, since
/// the answer to ApiVersions is another one then (KIP-511).
pub fn decode_request(frame: Bytes) -> Result<(RequestHeader, Request), MessageError> {
    let (key, version, correlation_id) = begins_with(&frame)?;
    let api = find(key, version, Some(correlation_id))?;
    let mut reader = Reader::new(frame, version, api.is_flexible(version));
    let read = RequestHeader::decode(&mut reader)
        .and_then(|header| Ok((header, Request::decode_body(key, &mut reader)?)));
    read.map_err(|error| MessageError::Malformed { api: api.name, version, error })
}

/// Writes a response as the parts of a frame.
///
/// # Errors
/// [`FrameTooLong`].
///
/// # Panics
/// If the response isn't of an API that is known; each is.
pub fn encode_response(
    version: i16,
    correlation_id: i32,
    response: &Response,
) -> Result<Vec<Bytes>, FrameTooLong> {
    let api = api(response.key()).expect("the key of one of the APIs");
    let mut writer = Writer::frame(version, api.is_flexible(version));
    encode_response_header(correlation_id, api.has_tagged_header(version), &mut writer);
    response.encode_body(&mut writer);
    writer.into_frame()
}

/// Writes a request as the parts of a frame.
///
/// # Errors
/// [`FrameTooLong`].
pub fn ask<A: Api>(
    version: i16,
    correlation_id: i32,
    client_id: Option<Str>,
    request: &A::Request,
) -> Result<Vec<Bytes>, FrameTooLong> {
    let mut writer = Writer::frame(version, ApiInfo::of::<A>().is_flexible(version));
    RequestHeader { key: A::KEY, version, correlation_id, client_id }.encode(&mut writer);
    request.encode(&mut writer);
    writer.into_frame()
}

/// Reads a response: the frame behind its length. With the correlation id that it has.
///
/// # Errors
/// Whatever is wrong with the bytes.
pub fn answer<A: Api>(version: i16, frame: Bytes) -> Result<(i32, A::Response), DecodeError> {
    let api = ApiInfo::of::<A>();
    let mut reader = Reader::new(frame, version, api.is_flexible(version));
    let correlation_id = decode_response_header(&mut reader, api.has_tagged_header(version))?;
    let response = A::Response::decode(&mut reader)?;
    reader.finish()?;
    Ok((correlation_id, response))
}

/// What is known of an API, if it has that version.
fn find(key: i16, version: i16, correlation_id: Option<i32>) -> Result<&'static ApiInfo, MessageError> {
    let api = api(key).ok_or(MessageError::UnknownApi { key })?;
    match api.versions.has(version) {
        true => Ok(api),
        false => {
            let Versions { from, to } = api.versions;
            Err(MessageError::UnsupportedVersion { api: api.name, version, from, to, correlation_id })
        }
    }
}

macro_rules! body {
    ($($message:ident)*) => {$(
        impl $message {
            /// Reads one without a header.
            ///
            /// # Errors
            /// [`MessageError`].
            pub fn decode(key: i16, version: i16, body: Bytes) -> Result<$message, MessageError> {
                let api = find(key, version, None)?;
                let mut reader = Reader::new(body, version, api.is_flexible(version));
                let read = $message::decode_body(key, &mut reader).and_then(|read| {
                    reader.finish()?;
                    Ok(read)
                });
                read.map_err(|error| MessageError::Malformed { api: api.name, version, error })
            }

            /// Writes it without a header, as parts that lie one behind the other.
            pub fn encode(&self, version: i16) -> Vec<Bytes> {
                let is_flexible = api(self.key()).is_some_and(|api| api.is_flexible(version));
                let mut writer = Writer::piece(version, is_flexible);
                self.encode_body(&mut writer);
                writer.into_parts()
            }
        }
    )*};
}

body! { Request Response }

/// The requests, or the responses, of all APIs as one type.
macro_rules! of_any_api {
    ($doc:literal, $message:ident: $($module:ident :: $name:ident),*) => {
        #[doc = $doc]
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each is the message of the API of that name")]
        #[allow(clippy::large_enum_variant, reason = "one is made or read, and taken apart at once")]
        pub enum $message {
            $($name($module::$message)),*
        }

        impl $message {
            /// Which API it is of.
            pub fn key(&self) -> i16 {
                match self {
                    $($message::$name(_) => <$name as crate::schema::Api>::KEY),*
                }
            }

            pub(crate) fn decode_body(
                key: i16,
                reader: &mut crate::reader::Reader,
            ) -> Result<$message, crate::error::DecodeError> {
                match key {
                    $(<$name as crate::schema::Api>::KEY => {
                        <$module::$message as crate::value::Wire>::decode(reader).map($message::$name)
                    })*
                    // Whoever calls has found it among them.
                    _ => unreachable!("no API has the key {key}"),
                }
            }

            pub(crate) fn encode_body(&self, writer: &mut crate::writer::Writer) {
                match self {
                    $($message::$name(body) => crate::value::Wire::encode(body, writer)),*
                }
            }
        }
    };
}

/// All APIs, each of a module of its own.
macro_rules! apis {
    ($($module:ident :: $name:ident),* $(,)?) => {
        $(
            #[doc = concat!("Messages of ", stringify!($name), ".")]
            pub mod $module;
            #[doc(no_inline)]
            pub use $module::$name;
        )*

        /// All APIs that are known, by ascending key.
        pub const APIS: &[crate::message::ApiInfo] = &[$(crate::message::ApiInfo::of::<$name>()),*];

        crate::message::of_any_api! { "A request of any API.", Request: $($module::$name),* }
        crate::message::of_any_api! { "A response of any API.", Response: $($module::$name),* }

        $(impl From<$module::Response> for Response {
            fn from(body: $module::Response) -> Response {
                Response::$name(body)
            }
        })*
    };
}
pub(crate) use {apis, of_any_api};
