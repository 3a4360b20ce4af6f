//! How a token writes a number, as rpk has it: `%o{hex16}`, `%V{big32}`, `%e{little8}`.
//!
//! Bytes and digits of a fixed number hold the lowest bits of a number that is larger.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NumberFormat {
    Decimal,
    /// As many digits as it takes.
    Hex,
    /// So many digits.
    HexDigits(usize),
    /// So many bytes, the highest first.
    Big(usize),
    /// So many bytes, the lowest first.
    Little(usize),
    /// `true` unless it is 0.
    Bool,
}

/// What there is, for messages.
pub(crate) const NUMBER_FORMATS: &str =
    "ascii, hex, hex64 to hex4, big64 to big8, little64 to little8, byte, bool";

impl NumberFormat {
    pub(crate) fn parse(text: &str) -> Option<NumberFormat> {
        let bytes = |bits: &str| match bits {
            "64" => Some(8),
            "32" => Some(4),
            "16" => Some(2),
            "8" => Some(1),
            _ => None,
        };
        Some(match text {
            "ascii" | "number" | "decimal" | "d" => NumberFormat::Decimal,
            "hex" | "x" => NumberFormat::Hex,
            "hex4" => NumberFormat::HexDigits(1),
            "byte" => NumberFormat::Big(1),
            "bool" => NumberFormat::Bool,
            _ => match (text.strip_prefix("hex"), text.strip_prefix("big"), text.strip_prefix("little")) {
                (Some(bits), _, _) => NumberFormat::HexDigits(2 * bytes(bits)?),
                (_, Some(bits), _) => NumberFormat::Big(bytes(bits)?),
                (_, _, Some(bits)) => NumberFormat::Little(bytes(bits)?),
                _ => return None,
            },
        })
    }

    pub(crate) fn write(self, value: i64, out: &mut Vec<u8>) {
        match self {
            NumberFormat::Decimal => out.extend(value.to_string().as_bytes()),
            NumberFormat::Hex => out.extend(format!("{value:x}").as_bytes()),
            NumberFormat::HexDigits(digits) => {
                let all = format!("{value:016x}");
                out.extend(&all.as_bytes()[all.len() - digits..]);
            }
            NumberFormat::Big(bytes) => out.extend(&value.to_be_bytes()[8 - bytes..]),
            NumberFormat::Little(bytes) => out.extend(&value.to_le_bytes()[..bytes]),
            NumberFormat::Bool => out.extend(if value == 0 { &b"false"[..] } else { b"true" }),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_format_and_the_lowest_bits_of_what_is_larger() {
        for (format, value, written) in [
            ("ascii", -1, &b"-1"[..]),
            ("number", 256, b"256"),
            ("hex", 255, b"ff"),
            ("hex64", 255, b"00000000000000ff"),
            ("hex32", -1, b"ffffffff"),
            ("hex16", 0x12345, b"2345"),
            ("hex8", 256, b"00"),
            ("hex4", 0x1f, b"f"),
            ("big64", 258, b"\0\0\0\0\0\0\x01\x02"),
            ("big16", 258, b"\x01\x02"),
            ("little16", 258, b"\x02\x01"),
            ("little8", 258, b"\x02"),
            ("byte", 256, b"\0"),
            ("bool", 0, b"false"),
            ("bool", 7, b"true"),
        ] {
            let mut out = Vec::new();
            NumberFormat::parse(format).unwrap().write(value, &mut out);
            assert_eq!(out, written, "{format} {value}");
        }
        for other in ["", "hex7", "big", "little128", "bytes", "base64"] {
            assert_eq!(NumberFormat::parse(other), None, "{other}");
        }
    }
}
