//! The names of a partition's files: `<base offset, 20 digits>` and what the file is. Of what compaction has made
//! the number of the file stands in between: `<base offset>-<number, 10 digits>`.
//!
//! Not a directory walk: which of the files count is told by the checkpoint, never by what lies around.

use super::FileId;

/// The name of a segment's file of batches, in directory `dir`.
pub(super) fn log(dir: &str, id: FileId) -> String {
    format!("{dir}/{}.log", stem(id))
}

fn stem(FileId { base_offset, file }: FileId) -> String {
    match file {
        0 => format!("{base_offset:020}"),
        file => format!("{base_offset:020}-{file:010}"),
    }
}

/// The name of a segment's offset index.
pub(super) fn offset_index(dir: &str, id: FileId) -> String {
    format!("{dir}/{}.index", stem(id))
}

/// The name of a segment's time index.
pub(super) fn time_index(dir: &str, id: FileId) -> String {
    format!("{dir}/{}.timeindex", stem(id))
}

/// The name of a segment's transaction index.
pub(super) fn transaction_index(dir: &str, id: FileId) -> String {
    format!("{dir}/{}.txnindex", stem(id))
}

/// The name under which `name` is written before it is renamed.
pub(super) fn temporary(name: &str) -> String {
    format!("{name}.tmp")
}

/// What a file in a partition's directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Batches or an index of this segment.
    OfSegment(FileId),
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
    let Some((stem, "log" | "index" | "timeindex" | "txnindex")) = name.split_once('.') else {
        return Kind::Foreign;
    };
    let id = match stem.split_once('-') {
        None => number(stem, OFFSET_DIGITS).map(|base_offset| FileId { base_offset, file: 0 }),
        Some((base_offset, file)) => {
            let file = number(file, FILE_DIGITS).and_then(|file| u32::try_from(file).ok());
            let file = file.filter(|file| *file > 0);
            number(base_offset, OFFSET_DIGITS)
                .zip(file)
                .map(|(base_offset, file)| FileId { base_offset, file })
        }
    };
    match id {
        Some(_) if temporary => Kind::Temporary,
        Some(id) => Kind::OfSegment(id),
        None => Kind::Foreign,
    }
}

/// A number with so many digits; what they say may be more than it holds.
fn number(text: &str, digits: usize) -> Option<u64> {
    let is_one = text.len() == digits && text.bytes().all(|digit| digit.is_ascii_digit());
    is_one.then(|| text.parse().ok()).flatten()
}

/// Digits of `u64::MAX`, so that names sort as offsets do.
const OFFSET_DIGITS: usize = 20;
/// Digits of `u32::MAX`.
const FILE_DIGITS: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_that_is_written_is_recognised() {
        let ids = [(0, 0), (7, 0), (u64::MAX, 0), (0, 1), (7, u32::MAX)];
        for id in ids.map(|(base_offset, file)| FileId { base_offset, file }) {
            let indexes = [offset_index, time_index, transaction_index].map(|name| name("", id));
            for name in [log("", id)].into_iter().chain(indexes) {
                let name = name.trim_start_matches('/');
                assert_eq!(kind(name), Kind::OfSegment(id), "{name}");
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
            "00000000000000000007-0000000000.log",
            "00000000000000000007-9999999999.log",
            "00000000000000000007-1.log",
        ];
        for name in names {
            assert_eq!(kind(name), Kind::Foreign, "{name}");
        }
    }
}
