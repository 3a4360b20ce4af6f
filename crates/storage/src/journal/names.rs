//! Names in the journal's directory.
//!
//! Not here: what a name means for recovery (`chain.rs`).
//!
//! Invariants:
//!   * a name that isn't written exactly as one of the functions here writes it is `Name::Other`
//!   * generations and numbers stay below 2^63, so that adding one never overflows

/// The journal's directory.
pub(super) const DIRECTORY: &str = "journal";

/// Generations, lsns and spare numbers lie below this.
pub(super) const NUMBER_LIMIT: u64 = 1 << 63;

const DIGITS: usize = 20;

/// What a directory entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// A journal file of this generation.
    Journal(u64),
    /// A spare of this number.
    Spare(u64),
    /// A file that was to become the spare of this number.
    NewSpare(u64),
    /// Another file that was never finished.
    Temporary,
    /// Nothing of ours.
    Other,
}

/// Path of the journal file of a generation.
pub(super) fn journal(generation: u64) -> String {
    format!("{DIRECTORY}/{generation:020}.journal")
}

/// Path of a spare.
pub(super) fn spare(number: u64) -> String {
    format!("{DIRECTORY}/spare-{number:020}")
}

/// Path under which the journal file of a generation is made.
pub(super) fn new_journal(generation: u64) -> String {
    format!("{DIRECTORY}/new-{generation}.tmp")
}

/// Path under which a spare is made.
pub(super) fn new_spare(number: u64) -> String {
    format!("{DIRECTORY}/new-spare-{number}.tmp")
}

/// Path of an entry of the journal's directory.
pub(super) fn path(entry: &str) -> String {
    format!("{DIRECTORY}/{entry}")
}

/// What the entry of this name is.
pub(super) fn parse(entry: &str) -> Name {
    if let Some(generation) = entry.strip_suffix(".journal").and_then(number) {
        return if generation > 0 { Name::Journal(generation) } else { Name::Other };
    }
    if let Some(number) = entry.strip_prefix("spare-").and_then(number) {
        return Name::Spare(number);
    }
    let unfinished = entry.strip_prefix("new-spare-").and_then(|rest| rest.strip_suffix(".tmp"));
    if let Some(number) = unfinished.and_then(|digits| digits.parse().ok())
        && number < NUMBER_LIMIT
        && path(entry) == new_spare(number)
    {
        return Name::NewSpare(number);
    }
    if entry.starts_with("new-") && entry.ends_with(".tmp") {
        return Name::Temporary;
    }
    Name::Other
}

fn number(digits: &str) -> Option<u64> {
    if digits.len() != DIGITS || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|number| *number < NUMBER_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_as_they_are_written() {
        let entry = |path: String| path.strip_prefix("journal/").map(str::to_owned).unwrap();
        assert_eq!(parse(&entry(journal(7))), Name::Journal(7));
        assert_eq!(parse(&entry(spare(0))), Name::Spare(0));
        assert_eq!(parse(&entry(new_journal(7))), Name::Temporary);
        assert_eq!(parse(&entry(new_spare(7))), Name::NewSpare(7));
    }

    #[test]
    fn a_temporary_name_with_any_other_number_is_one_that_can_be_given_again() {
        for entry in
            ["new-spare-07.tmp", "new-spare-+7.tmp", "new-spare-.tmp", "new-spare-9223372036854775808.tmp"]
        {
            assert_eq!(parse(entry), Name::Temporary, "{entry}");
        }
    }

    #[test]
    fn names_that_are_nearly_right_are_not_ours() {
        for entry in [
            "7.journal",
            "00000000000000000000.journal",
            "00000000000000000007.journal.bak",
            "+0000000000000000007.journal",
            "99999999999999999999.journal",
            "09223372036854775808.journal",
            "spare-7",
            "LOCK",
        ] {
            assert_eq!(parse(entry), Name::Other, "{entry}");
        }
    }
}
