//! What a consumer says of itself when it joins: the metadata of protocol type "consumer".
//!
//! ```text
//!   version i16 | topics: count i32, then (length i16, UTF-8) each | what later versions add isn't read
//! ```
//!
//! Invariants
//!   * metadata that isn't whole as far as it is read has no topics at all, not some

use std::collections::BTreeSet;

/// Protocol type of the clients that consume.
pub(super) const CONSUMER: &str = "consumer";

/// Topics of a subscription. All versions begin as version 0 does.
pub(super) fn topics(metadata: &[u8]) -> Option<BTreeSet<String>> {
    let (_version, rest) = metadata.split_first_chunk::<2>()?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let count = u32::try_from(i32::from_be_bytes(*count)).ok()?;
    let mut topics = BTreeSet::new();
    for _ in 0..count {
        let (topic, behind) = string(rest)?;
        topics.insert(topic.to_owned());
        rest = behind;
    }
    Some(topics)
}

fn string(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let length = usize::try_from(i16::from_be_bytes(*length)).ok()?;
    let (text, rest) = rest.split_at_checked(length)?;
    Some((std::str::from_utf8(text).ok()?, rest))
}
