//! The text that a client keeps beside a committed offset (Kafka's `metadata` of OffsetCommit).
//!
//! Not here: how long it may be, which `apply` checks.
//!
//! Invariants
//!   * an empty text and none are the same, also in memory
//!   * whoever has none allocates nothing; copies share the text

use std::fmt;
use std::sync::Arc;

/// Text beside a committed offset, mostly empty.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct OffsetMetadata(Option<Arc<str>>);

/// Longest metadata of an offset, in bytes of UTF-8 (`offset.metadata.max.bytes`).
pub const OFFSET_METADATA_BYTES_MAX: usize = 4096;

impl OffsetMetadata {
    /// The text; of none the empty one.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl From<&str> for OffsetMetadata {
    fn from(text: &str) -> OffsetMetadata {
        OffsetMetadata((!text.is_empty()).then(|| text.into()))
    }
}

impl fmt::Debug for OffsetMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
