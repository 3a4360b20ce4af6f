//! Cuts what a connection sends into frames: a length in 4 bytes, big-endian, and as many bytes.
//!
//! Invariants
//!   * memory grows with bytes that were received, never with those that were announced
//!   * a length that can't be one ends the connection: what follows has no beginning

use crate::error::FrameError;
use bytes::{Buf, Bytes, BytesMut};

/// What stands before a frame: its length, in bytes.
pub(crate) const LENGTH_BYTES: usize = 4;

/// Room that is made for what a frame still lacks: at most as much as there is already, and at least this, in bytes.
const ROOM_BYTES_MIN: usize = 16 * 1024;

/// How long frames may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLimit {
    /// The longest that is taken, in bytes behind its length.
    pub max: u32,
}

impl FrameLimit {
    /// Takes the next frame out of what was received, once all of it is there; until then makes room for what is to
    /// come.
    ///
    /// # Errors
    /// [`FrameError`]: a length of 0, below 0, or beyond the limit.
    pub fn next(self, received: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
        let Some(length) = received.first_chunk::<LENGTH_BYTES>() else {
            received.reserve(LENGTH_BYTES);
            return Ok(None);
        };
        let announced = i32::from_be_bytes(*length);
        let len = match u32::try_from(announced) {
            Ok(len) if (1..=self.max).contains(&len) => len as usize,
            _ => return Err(FrameError { announced, max: self.max }),
        };
        let missing = (LENGTH_BYTES + len).saturating_sub(received.len());
        if missing > 0 {
            // What is there of room is used up first: it doubles each time.
            if received.capacity() == received.len() {
                received.reserve(missing.min(received.len().max(ROOM_BYTES_MIN)));
            }
            return Ok(None);
        }
        received.advance(LENGTH_BYTES);
        Ok(Some(received.split_to(len).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: FrameLimit = FrameLimit { max: 100 * 1024 * 1024 };

    #[test]
    fn frames_come_out_whole_however_they_arrive() {
        let sent = [&[0, 0, 0, 3][..], b"abc", &[0, 0, 0, 1], b"d", &[0, 0, 0, 2], b"e"].concat();
        for piece in 1..=sent.len() {
            let (mut received, mut frames) = (BytesMut::new(), Vec::new());
            for bytes in sent.chunks(piece) {
                received.extend_from_slice(bytes);
                while let Some(frame) = LIMIT.next(&mut received).unwrap() {
                    frames.push(frame);
                }
            }
            assert_eq!(frames, [&b"abc"[..], b"d"], "in pieces of {piece}");
            assert_eq!(&received[..], [0, 0, 0, 2, b'e']);
        }
    }

    #[test]
    fn a_length_that_cant_be_one_is_refused() {
        for announced in [0, -1, i32::MIN, i32::MAX, 100 * 1024 * 1024 + 1] {
            let mut received = BytesMut::from(&announced.to_be_bytes()[..]);
            assert_eq!(LIMIT.next(&mut received), Err(FrameError { announced, max: LIMIT.max }));
        }
    }

    #[test]
    fn what_is_announced_takes_no_memory_until_it_arrives() {
        let mut received = BytesMut::from(&LIMIT.max.to_be_bytes()[..]);
        for sent in [0, 100, 0, 100, 100_000, 1_000_000, 1] {
            received.extend_from_slice(&vec![7; sent]);
            assert_eq!(LIMIT.next(&mut received), Ok(None));
            let (held, capacity) = (received.len(), received.capacity());
            assert!(capacity <= 2 * (held + ROOM_BYTES_MIN), "{capacity} bytes for {held}");
        }
    }
}
