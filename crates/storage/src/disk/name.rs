//! The names that a [`Disk`](super::Disk) takes: relative paths with `/` between the parts.
//!
//! Not a path library: no name is ever normalised, a name that would need it is refused. Both disks use this file,
//! so that what the simulated one accepts the real one accepts too.
//!
//! Invariants:
//!   * no part is empty, `.` or `..`, so no name leads out of the root and every file has one spelling
//!   * no part holds a NUL byte, so every part can be handed to the operating system

use std::io;

/// The longest part that common file systems take, in bytes.
const PART_BYTES_MAX: usize = 255;

/// The parts of a directory's name, outermost first; none for the empty name, which is the root.
///
/// An empty part, `.`, `..`, a NUL byte or a part above 255 bytes is [`io::ErrorKind::InvalidInput`].
pub fn parts(dir: &str) -> io::Result<Vec<&str>> {
    if dir.is_empty() {
        return Ok(Vec::new());
    }
    dir.split('/').map(|part| check(part, dir)).collect()
}

/// Splits the name of a file into its directory and its last part.
///
/// The same names are refused as by [`parts`], and the empty one.
pub fn split(name: &str) -> io::Result<(&str, &str)> {
    let (dir, last) = name.rsplit_once('/').unwrap_or(("", name));
    check(last, name)?;
    if name.contains('/') && dir.is_empty() {
        return Err(refused(name, "it starts with a slash"));
    }
    Ok((dir, last))
}

fn check<'a>(part: &'a str, name: &str) -> io::Result<&'a str> {
    if part.is_empty() {
        return Err(refused(name, "a part of it is empty"));
    }
    if part == "." || part == ".." {
        return Err(refused(name, "it holds '.' or '..'"));
    }
    if part.contains('\0') {
        return Err(refused(name, "it holds a NUL byte"));
    }
    if part.len() > PART_BYTES_MAX {
        return Err(refused(name, "a part of it is longer than 255 bytes"));
    }
    Ok(part)
}

fn refused(name: &str, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("name {name:?} in the data directory: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_at_slashes() {
        assert_eq!(parts("").unwrap(), Vec::<&str>::new());
        assert_eq!(parts("a/b").unwrap(), ["a", "b"]);
        assert_eq!(split("a/b/c").unwrap(), ("a/b", "c"));
        assert_eq!(split("c").unwrap(), ("", "c"));
    }

    #[test]
    fn names_that_could_lead_elsewhere_are_refused() {
        for name in ["/a", "a/", "a//b", "..", "a/../b", "./a", "a\0b"] {
            assert_eq!(parts(name).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name:?}");
        }
        for name in ["", "/a", "a/", "a/..", "."] {
            assert_eq!(split(name).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name:?}");
        }
        assert!(split(&"x".repeat(255)).is_ok());
        assert!(split(&"x".repeat(256)).is_err());
    }
}
