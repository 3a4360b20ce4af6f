//! `%v{unpack[>Iq.$]}`: numbers out of bytes, as rpk has it.
//!
//! ```text
//!   x  passes over a byte      <  little endian from here on      >  big endian, as at first
//!   b B  h H  i I  q Q         a number of 1, 2, 4, 8 bytes, with and without a sign
//!   c .  a byte as it is       s  the rest as it is               $  says so if something is left
//! ```
//!
//! Where the bytes end too early, what was read stays, and what is missing stands behind it.

use crate::texts::count;

/// What the letters say, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unpack(Vec<u8>);

const LETTERS: &[u8] = b"x<>bBhHiIqQc.s$";

impl Unpack {
    pub(crate) fn parse(text: &str) -> Result<Unpack, String> {
        match text.chars().find(|c| !LETTERS.contains(&(*c as u8)) || !c.is_ascii()) {
            Some(other) => Err(format!("unpack[..] has no {other:?}: x < > b B h H i I q Q c . s $")),
            None if text.is_empty() => Err("unpack[] unpacks nothing: x < > b B h H i I q Q c . s $".into()),
            None => Ok(Unpack(text.as_bytes().to_vec())),
        }
    }

    pub(crate) fn write(&self, bytes: &[u8], out: &mut Vec<u8>) {
        let (mut rest, mut is_little) = (bytes, false);
        for letter in &self.0 {
            let len = match letter {
                b'<' | b'>' => {
                    is_little = *letter == b'<';
                    continue;
                }
                b's' => rest.len(),
                b'$' if rest.is_empty() => continue,
                b'$' => return out.extend(format!("[{} left]", bytes_of(rest.len())).as_bytes()),
                b'h' | b'H' => 2,
                b'i' | b'I' => 4,
                b'q' | b'Q' => 8,
                _ => 1,
            };
            let Some((these, behind)) = rest.split_at_checked(len) else {
                let (letter, left) = (char::from(*letter), rest.len());
                let takes = bytes_of(len);
                return out.extend(format!("[{letter} takes {takes}, {left} left]").as_bytes());
            };
            rest = behind;
            match letter {
                b'x' => {}
                b'c' | b'.' | b's' => out.extend(these),
                _ => out.extend(number(*letter, these, is_little).to_string().as_bytes()),
            }
        }
    }
}

fn bytes_of(len: usize) -> String {
    count(len as u64, "byte")
}

/// At most 8 bytes; a small letter has a sign.
fn number(letter: u8, bytes: &[u8], is_little: bool) -> i128 {
    let fold = |sum: i128, byte: &u8| sum << 8 | i128::from(*byte);
    let value = match is_little {
        true => bytes.iter().rev().fold(0, fold),
        false => bytes.iter().fold(0, fold),
    };
    let range = 1 << (8 * bytes.len());
    if letter.is_ascii_lowercase() && value >= range / 2 { value - range } else { value }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn unpacked(letters: &str, bytes: &[u8]) -> String {
        let mut out = Vec::new();
        Unpack::parse(letters).unwrap().write(bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_of_every_size_in_both_orders() {
        assert_eq!(unpacked("I", b"\0\0\x01\x02"), "258");
        assert_eq!(unpacked("<I", b"\x02\x01\0\0"), "258");
        assert_eq!(unpacked("b", b"\xff"), "-1");
        assert_eq!(unpacked("B", b"\xff"), "255");
        assert_eq!(unpacked("h", b"\x80\0"), "-32768");
        assert_eq!(unpacked("<H>H", b"\x01\0\0\x01"), "11");
        assert_eq!(unpacked("q", &[0xff; 8]), "-1");
        assert_eq!(unpacked("Q", &[0xff; 8]), u64::MAX.to_string());
        assert_eq!(unpacked("xc.s", b"abcde"), "bcde");
        assert_eq!(unpacked("i$", b"\0\0\0\x07"), "7");
    }

    #[test]
    fn what_is_missing_or_left_is_said_behind_what_was_read() {
        assert_eq!(unpacked("Bi", b"\x07\0"), "7[i takes 4 bytes, 1 left]");
        assert_eq!(unpacked("B$", b"\x07\0\0"), "7[2 bytes left]");
        assert!(Unpack::parse("I?").unwrap_err().contains("no '?'"));
        assert!(Unpack::parse("é").unwrap_err().contains("no 'é'"));
        assert!(Unpack::parse("").unwrap_err().contains("nothing"));
    }
}
