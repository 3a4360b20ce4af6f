//! What both kinds of inbox have in common: which ids there are, and for how long they are known.

use crate::error::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Longest id in bytes.
const ID_BYTES_MAX: usize = 1024;

/// How long an id is kept at least, if nothing else is said.
pub(crate) const RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

pub(crate) fn check_id(id: &[u8]) -> Result<(), Error> {
    match (1..=ID_BYTES_MAX).contains(&id.len()) {
        true => Ok(()),
        false => Err(Error::IdLength { bytes: id.len(), max: ID_BYTES_MAX }),
    }
}

/// Now, ms since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Marks from before this time may go, ms since 1970.
pub(crate) fn oldest_kept_ms(now_ms: i64, retention: Duration) -> i64 {
    now_ms.saturating_sub(i64::try_from(retention.as_millis()).unwrap_or(i64::MAX))
}
