//! Targets `requests` and `responses`: any bytes as what a node receives, and as what a client receives.
//!
//! ```text
//!   requests:   what a connection sends: frames, one behind the other
//!   responses:  which API u8 | which of its versions u8 | the body of a response
//! ```
//!
//! Checked:
//!   * a message is read or refused, and what was read is written and read as the same
//!   * what the reader of frames makes room for isn't more than twice of what came, and 32 KiB

use super::input::Input;
use bytes::{Bytes, BytesMut};
use exactlog_wire::frame::FrameLimit;
use exactlog_wire::message::decode_request;
use exactlog_wire::messages::{APIS, Request, Response};

/// The longest frame that is taken, in bytes.
const LIMIT: FrameLimit = FrameLimit { max: 100 << 20 };

pub(super) fn requests(data: &[u8]) {
    let mut received = BytesMut::from(data);
    while let Ok(Some(frame)) = LIMIT.next(&mut received) {
        let Ok((header, request)) = decode_request(frame) else { continue };
        let written = request.encode(header.version).concat();
        let read = Request::decode(header.key, header.version, written.into());
        assert_eq!(read.as_ref(), Ok(&request), "{header:?}");
    }
    let (held, room) = (received.len(), received.capacity());
    assert!(room <= 2 * data.len() + (32 << 10), "{room} bytes for {held}, of {} that came", data.len());
}

pub(super) fn responses(data: &[u8]) {
    let mut input = Input::new(data);
    let (api, nth) = (&APIS[usize::from(input.u8()) % APIS.len()], i16::from(input.u8()));
    let version = api.versions.from + nth % (api.versions.to - api.versions.from + 1);
    let body = Bytes::copy_from_slice(input.rest());
    let Ok(response) = Response::decode(api.key, version, body) else { return };
    let written = response.encode(version).concat();
    let read = Response::decode(api.key, version, written.into());
    assert_eq!(read.as_ref(), Ok(&response), "{} {version}", api.name);
}
