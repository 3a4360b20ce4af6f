//! The names of a partition's files: `<base offset, 20 digits>` and what the file is.
//!
//! Not a directory walk: which of the files count is told by the checkpoint, never by what lies around.

/// The name of a segment's file of batches, in directory `dir`.
pub(super) fn log(dir: &str, base_offset: u64) -> String {
    format!("{dir}/{base_offset:020}.log")
}

/// The name of a segment's offset index.
pub(super) fn offset_index(dir: &str, base_offset: u64) -> String {
    format!("{dir}/{base_offset:020}.index")
}

/// The name of a segment's time index.
pub(super) fn time_index(dir: &str, base_offset: u64) -> String {
    format!("{dir}/{base_offset:020}.timeindex")
}

/// The name of a segment's transaction index.
pub(super) fn transaction_index(dir: &str, base_offset: u64) -> String {
    format!("{dir}/{base_offset:020}.txnindex")
}

/// The name under which `name` is written before it is renamed.
pub(super) fn temporary(name: &str) -> String {
    format!("{name}.tmp")
}

/// What a file in a partition's directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Batches or an index of the segment with this base offset.
    OfSegment(u64),
    /// Written half, or renamed never.
    Temporary,
    /// Not one of ours.
    Foreign,
}

/// Tells what `name`, without its directory, is.
pub(super) fn kind(name: &str) -> Kind {
    let (name, temporary) = match name.strip_suffix(".tmp") {
        Some(rest) => (rest, true),
        None => (name, false),
    };
    let Some((digits, "log" | "index" | "timeindex" | "txnindex")) = name.split_once('.') else {
        return Kind::Foreign;
    };
    if digits.len() != OFFSET_DIGITS || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Kind::Foreign;
    }
    match digits.parse() {
        Ok(_) if temporary => Kind::Temporary,
        Ok(base_offset) => Kind::OfSegment(base_offset),
        Err(_) => Kind::Foreign, // 20 digits can say more than 64 bits hold
    }
}

/// Digits of `u64::MAX`, so that names sort as offsets do.
const OFFSET_DIGITS: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_that_is_written_is_recognised() {
        for base_offset in [0, 7, u64::MAX] {
            let indexes = [offset_index, time_index, transaction_index].map(|name| name("", base_offset));
            for name in [log("", base_offset)].into_iter().chain(indexes) {
                let name = name.trim_start_matches('/');
                assert_eq!(kind(name), Kind::OfSegment(base_offset), "{name}");
                assert_eq!(kind(&temporary(name)), Kind::Temporary, "{name}");
            }
        }
    }

    #[test]
    fn other_names_are_foreign() {
        let names = [
            "",
            "notes.txt",
            "7.log",
            "00000000000000000007.logs",
            "+0000000000000000007.log",
            "99999999999999999999.log",
            "00000000000000000007.log.tmp.tmp",
        ];
        for name in names {
            assert_eq!(kind(name), Kind::Foreign, "{name}");
        }
    }
}
