//! How a record is written: text with tokens, as rpk has them.
//!
//! ```text
//!   %t topic   %p partition   %o offset   %k key   %v value   %h{..} for each header, %k and %v inside
//!   %d time    %T %K %V lengths   %H number of headers   %[ start of the partition   %| %] its end   %i counts from 1
//!   %e leader epoch   %x producer id   %y producer epoch   %a{compression} and other attributes of the batch
//!   %% %{ %}   \n \t \r \\ \xNN        %v{hex} %v{base64} %v{json} %v{unpack[>I]}   %o{hex}   %d{strftime[%F %T]}
//! ```
//!
//! What a batch doesn't have is -1, as in Kafka's formats: the producer of events that were committed or have ids, say.

use crate::numbers::{NUMBER_FORMATS, NumberFormat};
use crate::unpack::Unpack;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use exactlog::{BatchDetails, Record, TimestampType};
use jiff::Timestamp;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Literal(Vec<u8>),
    Bytes(Field, Encoding),
    Number(Number, NumberFormat),
    /// A number where a format is asked for, else its name.
    Compression(Option<NumberFormat>),
    Time(Time),
    Headers(Template),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Topic,
    Key,
    Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Plain,
    Hex,
    Base64,
    /// Without `=` at the end.
    Base64Raw,
    Json,
    Unpack(Unpack),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Time {
    /// Milliseconds since 1970.
    Ms(NumberFormat),
    /// In UTC.
    Text(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    Partition,
    Offset,
    TopicLen,
    KeyLen,
    ValueLen,
    Headers,
    Start,
    End,
    Count,
    LeaderEpoch,
    ProducerId,
    ProducerEpoch,
    TimestampType,
    IsTransactional,
    IsControl,
}

impl Number {
    /// Whether it is the batch that says it.
    fn is_of_the_batch(self) -> bool {
        use Number::{IsControl, IsTransactional, LeaderEpoch, ProducerEpoch, ProducerId, TimestampType};
        matches!(self, LeaderEpoch | ProducerId | ProducerEpoch | TimestampType | IsTransactional | IsControl)
    }
}

/// What a record doesn't say itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Around {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) count: u64,
    /// Of the record, if [`Template::asks_for_batches`].
    pub(crate) batch: Option<BatchDetails>,
}

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Template, String> {
        let mut rest = text;
        let template = parse_until(&mut rest, false)?;
        Ok(template)
    }

    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Whether something in it is said by the batch of a record alone.
    pub(crate) fn asks_for_batches(&self) -> bool {
        self.parts.iter().any(|part| match part {
            Part::Number(number, _) => number.is_of_the_batch(),
            Part::Compression(_) => true,
            _ => false,
        })
    }

    pub(crate) fn write(&self, record: &Record, around: Around, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Literal(bytes) => out.extend(bytes),
                Part::Bytes(Field::Topic, encoding) => encode(record.topic.as_bytes(), encoding, out),
                Part::Bytes(Field::Key, encoding) => encode(record.key(), encoding, out),
                Part::Bytes(Field::Value, encoding) => encode(record.value(), encoding, out),
                Part::Number(number, format) => format.write(number.of(record, around), out),
                Part::Compression(None) => {
                    let name = around.batch.map_or("-1".to_string(), |batch| batch.compression.to_string());
                    out.extend(name.as_bytes());
                }
                Part::Compression(Some(format)) => {
                    let number = around.batch.map_or(NOTHING, |batch| batch.compression.id().into());
                    format.write(number, out);
                }
                Part::Time(Time::Ms(format)) => format.write(record.timestamp_ms, out),
                Part::Time(Time::Text(format)) => {
                    out.extend(strftime(format, record.timestamp_ms).as_bytes());
                }
                Part::Headers(inner) => inner.write_headers(record, out),
            }
        }
    }

    fn write_headers(&self, record: &Record, out: &mut Vec<u8>) {
        for header in &record.headers {
            for part in &self.parts {
                match part {
                    Part::Literal(bytes) => out.extend(bytes),
                    Part::Bytes(Field::Key, encoding) => encode(&header.key, encoding, out),
                    Part::Bytes(_, encoding) => {
                        encode(header.value.as_deref().unwrap_or_default(), encoding, out);
                    }
                    _ => {}
                }
            }
        }
    }
}

/// Stands for what there isn't.
const NOTHING: i64 = -1;

impl Number {
    fn of(self, record: &Record, around: Around) -> i64 {
        let batch = around.batch;
        let producer = batch.and_then(|it| it.producer);
        match self {
            Number::Partition => record.partition.into(),
            Number::Offset => record.offset as i64,
            Number::TopicLen => record.topic.len() as i64,
            Number::KeyLen => record.key().len() as i64,
            Number::ValueLen => record.value().len() as i64,
            Number::Headers => record.headers.len() as i64,
            Number::Start => around.start as i64,
            Number::End => around.end as i64,
            Number::Count => around.count as i64,
            Number::LeaderEpoch => batch.map_or(NOTHING, |it| it.leader_epoch.into()),
            Number::ProducerId => producer.map_or(NOTHING, |(id, _)| id.0),
            Number::ProducerEpoch => producer.map_or(NOTHING, |(_, epoch)| epoch.into()),
            Number::TimestampType => {
                batch.map_or(NOTHING, |it| (it.timestamp_type == TimestampType::LogAppendTime).into())
            }
            Number::IsTransactional => batch.map_or(NOTHING, |it| it.is_transactional.into()),
            Number::IsControl => batch.map_or(NOTHING, |it| it.is_control.into()),
        }
    }
}

fn strftime(format: &str, timestamp_ms: i64) -> String {
    match Timestamp::from_millisecond(timestamp_ms) {
        Ok(time) => time.strftime(format).to_string(),
        // Before the year -9999 or after 9999.
        Err(_) => timestamp_ms.to_string(),
    }
}

fn encode(bytes: &[u8], encoding: &Encoding, out: &mut Vec<u8>) {
    match encoding {
        Encoding::Plain => out.extend(bytes),
        Encoding::Hex => bytes.iter().for_each(|byte| out.extend(format!("{byte:02x}").as_bytes())),
        Encoding::Base64 => out.extend(STANDARD.encode(bytes).as_bytes()),
        Encoding::Base64Raw => out.extend(STANDARD_NO_PAD.encode(bytes).as_bytes()),
        Encoding::Unpack(unpack) => unpack.write(bytes, out),
        Encoding::Json => {
            let text = serde_json::Value::String(String::from_utf8_lossy(bytes).into_owned());
            out.extend(text.to_string().as_bytes());
        }
    }
}

/// Reads to the end, or inside of headers to the brace that closes them.
fn parse_until(rest: &mut &str, in_headers: bool) -> Result<Template, String> {
    let mut parts = Vec::new();
    let mut literal: Vec<u8> = Vec::new();
    loop {
        let Some(c) = take(rest) else {
            if in_headers {
                return Err("%h{ isn't closed with }".into());
            }
            break;
        };
        match c {
            '}' if in_headers => break,
            '\\' => literal.push_escape(rest)?,
            '%' => match take(rest) {
                Some(c @ ('%' | '{' | '}')) => literal.push(c as u8),
                Some(token) => {
                    if !literal.is_empty() {
                        parts.push(Part::Literal(std::mem::take(&mut literal)));
                    }
                    parts.push(parse_token(token, rest, in_headers)?);
                }
                None => return Err("% stands at the end; %% is a percent sign".into()),
            },
            c => literal.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    if !literal.is_empty() {
        parts.push(Part::Literal(literal));
    }
    Ok(Template { parts })
}

fn parse_token(token: char, rest: &mut &str, in_headers: bool) -> Result<Part, String> {
    if in_headers && !matches!(token, 'k' | 'v') {
        return Err(format!("inside of %h{{..}} there are %k and %v, not %{token}"));
    }
    let bytes = |field, rest: &mut &str| Ok(Part::Bytes(field, encoding(token, rest)?));
    let number = |number, rest: &mut &str| {
        let format = modifier(rest)?.unwrap_or("ascii");
        Ok(Part::Number(number, number_format(token, format)?))
    };
    match token {
        't' => bytes(Field::Topic, rest),
        'k' => bytes(Field::Key, rest),
        'v' => bytes(Field::Value, rest),
        'p' => number(Number::Partition, rest),
        'o' => number(Number::Offset, rest),
        'T' => number(Number::TopicLen, rest),
        'K' => number(Number::KeyLen, rest),
        'V' => number(Number::ValueLen, rest),
        'H' => number(Number::Headers, rest),
        'i' => number(Number::Count, rest),
        '[' => number(Number::Start, rest),
        '|' | ']' => number(Number::End, rest),
        'e' => number(Number::LeaderEpoch, rest),
        'x' => number(Number::ProducerId, rest),
        'y' => number(Number::ProducerEpoch, rest),
        'a' => attribute(rest),
        'd' => time(rest),
        'h' => match take(rest) {
            Some('{') => Ok(Part::Headers(parse_until(rest, true)?)),
            _ => Err("%h is followed by {..}, with %k and %v inside".into()),
        },
        other => Err(format!("there is no token %{other}: {TOKENS}")),
    }
}

const TOKENS: &str = "%t %p %o %k %v %h{..} %d %e %x %y %a{..} %T %K %V %H %i %[ %| %] %% %{ %}";

fn number_format(token: char, text: &str) -> Result<NumberFormat, String> {
    NumberFormat::parse(text).ok_or_else(|| format!("%{token} has no {{{text}}}: {NUMBER_FORMATS}"))
}

fn time(rest: &mut &str) -> Result<Part, String> {
    let text = modifier(rest)?.unwrap_or("ascii");
    if let Some(format) = NumberFormat::parse(text) {
        return Ok(Part::Time(Time::Ms(format)));
    }
    let format = text.strip_prefix("strftime[").and_then(|text| text.strip_suffix(']'));
    let format = format.ok_or_else(|| format!("%d has no {{{text}}}: strftime[..], {NUMBER_FORMATS}"))?;
    jiff::fmt::strtime::format(format, &Timestamp::UNIX_EPOCH.to_zoned(jiff::tz::TimeZone::UTC))
        .map_err(|error| format!("strftime[{format}]: {error}"))?;
    Ok(Part::Time(Time::Text(format.to_string())))
}

/// `{compression}`, or `{compression;hex8}`.
fn attribute(rest: &mut &str) -> Result<Part, String> {
    const ATTRIBUTES: &str = "compression, timestamp-type, transactional-bit, control-bit";
    let Some(text) = modifier(rest)? else {
        return Err(format!("%a is followed by {{..}}, with one of {ATTRIBUTES} inside"));
    };
    let (name, format) = match text.split_once(';') {
        Some((name, format)) => (name, Some(number_format('a', format)?)),
        None => (text, None),
    };
    let number = match name {
        "compression" => return Ok(Part::Compression(format)),
        "timestamp-type" => Number::TimestampType,
        "transactional-bit" => Number::IsTransactional,
        "control-bit" => Number::IsControl,
        other => return Err(format!("%a has no {{{other}}}: {ATTRIBUTES}")),
    };
    Ok(Part::Number(number, format.unwrap_or(NumberFormat::Decimal)))
}

fn encoding(token: char, rest: &mut &str) -> Result<Encoding, String> {
    match modifier(rest)? {
        None => Ok(Encoding::Plain),
        Some("hex") => Ok(Encoding::Hex),
        Some("base64") => Ok(Encoding::Base64),
        Some("base64raw") => Ok(Encoding::Base64Raw),
        Some("json") => Ok(Encoding::Json),
        Some(other) => match other.strip_prefix("unpack[").and_then(|text| text.strip_suffix(']')) {
            Some(letters) => Unpack::parse(letters).map(Encoding::Unpack),
            None => Err(format!("%{token} has no {{{other}}}: hex, base64, base64raw, json, unpack[..]")),
        },
    }
}

/// What stands in braces behind a token. Brackets inside may hold braces.
fn modifier<'t>(rest: &mut &'t str) -> Result<Option<&'t str>, String> {
    let Some(inside) = rest.strip_prefix('{') else { return Ok(None) };
    let mut depth = 0;
    for (at, c) in inside.char_indices() {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            '}' if depth <= 0 => {
                *rest = &inside[at + 1..];
                return Ok(Some(&inside[..at]));
            }
            _ => {}
        }
    }
    Err(format!("{{{inside} isn't closed with }}"))
}

fn take(rest: &mut &str) -> Option<char> {
    let c = rest.chars().next()?;
    *rest = &rest[c.len_utf8()..];
    Some(c)
}

trait Escapes {
    fn push_escape(&mut self, rest: &mut &str) -> Result<(), String>;
}

impl Escapes for Vec<u8> {
    /// What stands behind a backslash.
    fn push_escape(&mut self, rest: &mut &str) -> Result<(), String> {
        match take(rest) {
            Some('n') => self.push(b'\n'),
            Some('t') => self.push(b'\t'),
            Some('r') => self.push(b'\r'),
            Some('0') => self.push(0),
            Some('\\') => self.push(b'\\'),
            Some('x') => {
                let digits =
                    rest.get(..2).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
                let digits = digits.ok_or("\\x is followed by two hexadecimal digits")?;
                self.push(u8::from_str_radix(digits, 16).map_err(|error| error.to_string())?);
                *rest = &rest[2..];
            }
            other => {
                let other = other.map(String::from).unwrap_or_default();
                return Err(format!("there is no \\{other}: \\n \\t \\r \\0 \\\\ \\xNN"));
            }
        }
        Ok(())
    }
}

/// Text with backslashes as bytes; no tokens.
pub(crate) fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let (mut rest, mut bytes) = (text, Vec::new());
    while let Some(c) = take(&mut rest) {
        match c {
            '\\' => bytes.push_escape(&mut rest)?,
            c => bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use exactlog::{Bytes, RecordHeader};

    const AROUND: Around = Around { start: 1, end: 300, count: 9, batch: None };

    fn written(template: &str) -> String {
        let record = Record {
            topic: "orders".into(),
            partition: 3,
            offset: 255,
            timestamp_ms: 1_769_817_600_123,
            key: Some(Bytes::from_static(b"k")),
            value: Some(Bytes::from_static(b"a\"\x00\xff")),
            headers: vec![
                RecordHeader { key: Bytes::from_static(b"h"), value: Some(Bytes::from_static(b"1")) },
                RecordHeader { key: Bytes::from_static(b"i"), value: None },
            ],
        };
        let mut out = Vec::new();
        Template::parse(template).unwrap().write(&record, AROUND, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn every_token_and_modifier() {
        assert_eq!(
            written("%t/%p@%o{hex} %k %K %V %T %H %[ %| %] %i%%%{%}"),
            "orders/3@ff k 1 4 6 2 1 300 300 9%{}"
        );
        assert_eq!(written("%v{hex} %v{base64} %k{json}"), "612200ff YSIA/w== \"k\"");
        assert_eq!(written("%v{base64raw} %k{unpack[B]} %o{big16} %d{hex16}"), "YSIA/w 107 \0\u{fffd} 707b");
        assert_eq!(written("%h{%k=%v{hex};}\\t\\x41\\\\\\n"), "h=31;i=;\tA\\\n");
        assert_eq!(written("%d %d{strftime[%Y-%m-%dT%H:%M:%S]}"), "1769817600123 2026-01-31T00:00:00");
    }

    #[test]
    fn what_is_no_template_is_refused_with_the_reason() {
        for (text, reason) in [
            ("%q", "no token %q"),
            ("%", "at the end"),
            ("%v{rot13}", "hex, base64, base64raw, json"),
            ("%v{unpack[z]}", "unpack[..] has no 'z'"),
            ("%o{base64}", "hex"),
            ("%e{hex9}", "%e has no {hex9}"),
            ("%a", "followed by"),
            ("%a{codec}", "compression, timestamp-type"),
            ("%a{compression;text}", "%a has no {text}"),
            ("%v{hex", "isn't closed"),
            ("%h", "followed by"),
            ("%h{%k", "isn't closed"),
            ("%h{%t}", "inside of"),
            ("%d{now}", "strftime"),
            ("\\q", "there is no \\q"),
            ("\\x4", "two hexadecimal"),
        ] {
            let error = Template::parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
