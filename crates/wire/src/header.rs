//! What stands before each message of a connection.
//!
//! ```text
//!   request header 1    key i16 · version i16 · correlation id i32 · client id (i16 length, may be null)
//!   request header 2    the same, then tagged fields: before messages of flexible versions
//!   response header 0   correlation id i32
//!   response header 1   the same, then tagged fields: before flexible ones, except ApiVersions (KIP-511)
//! ```

use crate::error::{DecodeError, MessageError};
use crate::reader::Reader;
use crate::value::{Str, Wire};
use crate::writer::Writer;
use bytes::Bytes;

/// What every request begins with, in bytes, whatever its API: key, version, correlation id.
const FIXED_BYTES: usize = 8;

/// The header of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// Which API.
    pub key: i16,
    /// In which version.
    pub version: i16,
    /// What the response repeats.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<Str>,
}

/// The numbers that every request begins with, of whatever API and version: key, version, and correlation id.
///
/// # Errors
/// [`MessageError::NoHeader`].
pub fn begins_with(frame: &Bytes) -> Result<(i16, i16, i32), MessageError> {
    let fixed = frame.first_chunk::<FIXED_BYTES>();
    let [k0, k1, v0, v1, c0, c1, c2, c3] = *fixed.ok_or(MessageError::NoHeader { bytes: frame.len() })?;
    let number = |high, low| i16::from_be_bytes([high, low]);
    Ok((number(k0, k1), number(v0, v1), i32::from_be_bytes([c0, c1, c2, c3])))
}

impl RequestHeader {
    /// Reads it from the start of a frame.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes.
    pub fn decode(reader: &mut Reader) -> Result<RequestHeader, DecodeError> {
        let is_flexible = reader.is_flexible();
        reader.set_flexible(false);
        let key = reader.field("api_key", false)?;
        let version = reader.field("api_version", false)?;
        let correlation_id = reader.field("correlation_id", false)?;
        // Not compact in a flexible header either: it is read before anybody knows whether the version is known.
        let client_id = reader.field("client_id", true)?;
        reader.set_flexible(is_flexible);
        if is_flexible {
            reader.tagged(|_, _| Ok(false))?;
        }
        Ok(RequestHeader { key, version, correlation_id, client_id })
    }

    /// Writes it.
    pub fn encode(&self, writer: &mut Writer) {
        let is_flexible = writer.is_flexible();
        writer.set_flexible(false);
        self.key.encode(writer);
        self.version.encode(writer);
        self.correlation_id.encode(writer);
        self.client_id.encode(writer);
        writer.set_flexible(is_flexible);
        if is_flexible {
            writer.tagged(&[]);
        }
    }
}

/// Reads the header of a response: its correlation id.
pub(crate) fn decode_response_header(reader: &mut Reader, has_tags: bool) -> Result<i32, DecodeError> {
    let correlation_id = reader.field("correlation_id", false)?;
    if has_tags {
        reader.tagged(|_, _| Ok(false))?;
    }
    Ok(correlation_id)
}

/// Writes the header of a response.
pub(crate) fn encode_response_header(correlation_id: i32, has_tags: bool, writer: &mut Writer) {
    correlation_id.encode(writer);
    if has_tags {
        writer.tagged(&[]);
    }
}
