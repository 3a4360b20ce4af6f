//! Records out of a stream of bytes: lines, a template, or envelopes.
//!
//! ```text
//!   lines       value | key SEPARATOR value       a last line without its end counts, too
//!   template    %k %v with the text between them as delimiters; %p partition, %d time in ms
//!   json        one envelope per line
//! ```
//!
//! Invariants
//!   * what can't be read is an error with the number of the record; nothing is left out

use crate::envelope;
use crate::numbers::NumberFormat;
use crate::template::{Encoding, Field, Number, Part, Template, Time};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use exactlog::{Bytes, Event};
use std::io::{self, BufRead};

/// Longest record, in bytes: as long as the largest batch that a topic can take.
const RECORD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How the input is to be read.
#[derive(Clone, Debug)]
pub(crate) enum Layout {
    /// Lines; if there is a separator, key and value.
    Lines(Option<Vec<u8>>),
    /// What each token is followed by.
    Template(Vec<(Token, Vec<u8>)>),
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// The text before the first token.
    Nothing,
    Key(Coding),
    Value(Coding),
    Partition,
    Time,
}

/// The encodings that can be read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Plain,
    Hex,
    Base64,
}

fn readable(encoding: &Encoding) -> Result<Coding, String> {
    match encoding {
        Encoding::Plain => Ok(Coding::Plain),
        Encoding::Hex => Ok(Coding::Hex),
        Encoding::Base64 => Ok(Coding::Base64),
        Encoding::Base64Raw | Encoding::Json | Encoding::Unpack(_) => {
            Err("of input {hex} and {base64} can be read".into())
        }
    }
}

/// A record of the input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) event: Event,
    pub(crate) partition: Option<u32>,
}

impl Layout {
    pub(crate) fn template(text: &str) -> Result<Layout, String> {
        let template = Template::parse(text)?;
        let mut tokens: Vec<(Token, Vec<u8>)> = Vec::new();
        for part in template.parts() {
            let token = match part {
                Part::Literal(bytes) => {
                    match tokens.last_mut() {
                        Some((_, behind)) => behind.extend(bytes),
                        None => tokens.push((Token::Nothing, bytes.clone())),
                    }
                    continue;
                }
                Part::Bytes(Field::Key, encoding) => Token::Key(readable(encoding)?),
                Part::Bytes(Field::Value, encoding) => Token::Value(readable(encoding)?),
                Part::Number(Number::Partition, NumberFormat::Decimal) => Token::Partition,
                Part::Time(Time::Ms(NumberFormat::Decimal)) => Token::Time,
                _ => return Err("of input %k %v %p %d can be read".into()),
            };
            if tokens.last().is_some_and(|(_, behind)| behind.is_empty()) {
                return Err("two tokens need text between them, to tell where the first one ends".into());
            }
            if tokens.iter().any(|(other, _)| std::mem::discriminant(other) == std::mem::discriminant(&token))
            {
                return Err("a token stands there twice".into());
            }
            tokens.push((token, Vec::new()));
        }
        match tokens.last_mut() {
            None | Some((Token::Nothing, _)) => return Err("there is no token in it: %k, %v".into()),
            Some((_, behind)) if behind.is_empty() => behind.push(b'\n'),
            Some(_) => {}
        }
        Ok(Layout::Template(tokens))
    }

    /// The next record; `None` at the end.
    pub(crate) fn next(&self, input: &mut impl BufRead) -> io::Result<Option<Result<Item, String>>> {
        match self {
            Layout::Lines(separator) => {
                Ok(line(input)?.map(|line| line.map(|line| split(&line, separator.as_deref()))))
            }
            Layout::Json => loop {
                match line(input)? {
                    Some(Ok(line)) if line.iter().all(u8::is_ascii_whitespace) => {}
                    Some(Ok(line)) => {
                        return Ok(Some(
                            envelope::event(&line).map(|(event, partition)| Item { event, partition }),
                        ));
                    }
                    Some(Err(error)) => return Ok(Some(Err(error))),
                    None => return Ok(None),
                }
            },
            Layout::Template(tokens) => {
                if input.fill_buf()?.is_empty() {
                    return Ok(None);
                }
                templated(tokens, input).map(Some)
            }
        }
    }
}

fn line(input: &mut impl BufRead) -> io::Result<Option<Result<Vec<u8>, String>>> {
    let (bytes, ended) = read_until(input, b"\n")?;
    match (bytes, ended) {
        (Ok(bytes), false) if bytes.is_empty() => Ok(None),
        (bytes, _) => Ok(Some(bytes)),
    }
}

fn split(line: &[u8], separator: Option<&[u8]>) -> Item {
    let at = separator.and_then(|text| find(line, text).map(|at| (at, at + text.len())));
    let (key, value) = match at {
        Some((key_end, value_at)) => (Some(&line[..key_end]), &line[value_at..]),
        None => (None, line),
    };
    let event = Event {
        key: key.map(Bytes::copy_from_slice),
        value: Some(Bytes::copy_from_slice(value)),
        ..Event::default()
    };
    Item { event, partition: None }
}

fn templated(tokens: &[(Token, Vec<u8>)], input: &mut impl BufRead) -> io::Result<Result<Item, String>> {
    let mut item = Item::default();
    for (nth, (token, behind)) in tokens.iter().enumerate() {
        let (bytes, ended) = read_until(input, behind)?;
        let is_last = nth + 1 == tokens.len();
        let bytes = match bytes {
            Ok(bytes) if ended || is_last => bytes,
            Ok(_) => return Ok(Err(format!("it ends before {:?}", String::from_utf8_lossy(behind)))),
            Err(error) => return Ok(Err(error)),
        };
        if let Err(error) = item.take(*token, bytes) {
            return Ok(Err(error));
        }
    }
    Ok(Ok(item))
}

impl Item {
    /// Bytes that it takes, about.
    pub(crate) fn len_bytes(&self) -> usize {
        /// What a record takes besides.
        const AROUND: usize = 64;
        let len = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers: usize =
            self.event.headers.iter().map(|(name, value)| name.len() + len(value) + 16).sum();
        len(&self.event.key) + len(&self.event.value) + headers + AROUND
    }

    fn take(&mut self, token: Token, bytes: Vec<u8>) -> Result<(), String> {
        let number = || {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            text.trim().parse::<i64>().map_err(|_| format!("{text:?} is no number"))
        };
        match token {
            Token::Nothing if !bytes.is_empty() => {
                return Err(format!("{:?} stands before it", String::from_utf8_lossy(&bytes)));
            }
            Token::Nothing => {}
            Token::Key(coding) => self.event.key = Some(decode(bytes, coding)?),
            Token::Value(coding) => self.event.value = Some(decode(bytes, coding)?),
            Token::Partition => {
                let number = number()?;
                self.partition =
                    Some(u32::try_from(number).map_err(|_| format!("{number} is no partition"))?);
            }
            Token::Time => self.event.timestamp_ms = Some(number()?),
        }
        Ok(())
    }
}

fn decode(bytes: Vec<u8>, coding: Coding) -> Result<Bytes, String> {
    match coding {
        Coding::Plain => Ok(bytes.into()),
        Coding::Base64 => {
            STANDARD.decode(&bytes).map(Bytes::from).map_err(|error| format!("it isn't base64: {error}"))
        }
        Coding::Hex => {
            let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
            let pair = |pair: &[u8]| match pair {
                [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
                _ => None,
            };
            let decoded: Option<Vec<u8>> = bytes.chunks(2).map(pair).collect();
            decoded.map(Bytes::from).ok_or_else(|| "it isn't hexadecimal".to_string())
        }
    }
}

/// What stands before `delimiter`, and whether that is there. Too much of it is an error, and skipped all the same.
fn read_until(input: &mut impl BufRead, delimiter: &[u8]) -> io::Result<(Result<Vec<u8>, String>, bool)> {
    let (Some(last), mut bytes, mut over) = (delimiter.last(), Vec::new(), false) else {
        return Ok((Ok(Vec::new()), true));
    };
    loop {
        let buffer = input.fill_buf()?;
        let (taken, found) = match buffer.iter().position(|byte| byte == last) {
            Some(at) => (at + 1, true),
            None => (buffer.len(), false),
        };
        let at_end = taken == 0;
        bytes.extend_from_slice(&buffer[..taken]);
        input.consume(taken);
        if over || bytes.len() > RECORD_BYTES_MAX + delimiter.len() {
            over = true;
            // Enough to find the delimiter's end.
            let keep = bytes.len().saturating_sub(delimiter.len());
            bytes.drain(..keep);
        }
        let ended = found && bytes.ends_with(delimiter);
        if ended || at_end {
            if ended {
                bytes.truncate(bytes.len() - delimiter.len());
            }
            let error = || format!("it is longer than {RECORD_BYTES_MAX} bytes");
            return Ok((if over { Err(error()) } else { Ok(bytes) }, ended));
        }
    }
}

fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    bytes.windows(text.len().max(1)).position(|window| window == text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::BufReader;

    /// Key and value of each record, or the error; read in pieces of two bytes.
    fn read(layout: &Layout, input: &[u8]) -> Vec<Result<(Option<String>, String), String>> {
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let mut input = BufReader::with_capacity(2, input);
        let mut all = Vec::new();
        while let Some(item) = layout.next(&mut input).unwrap() {
            all.push(item.map(|item| {
                (item.event.key.as_ref().map(text), item.event.value.as_ref().map(text).unwrap_or_default())
            }));
        }
        all
    }

    fn pair(key: &str, value: &str) -> Result<(Option<String>, String), String> {
        Ok((Some(key.into()), value.into()))
    }

    #[test]
    fn lines_with_and_without_a_separator() {
        let value = |value: &str| Ok((None, value.to_string()));
        assert_eq!(read(&Layout::Lines(None), b"a\n\nb:c"), [value("a"), value(""), value("b:c")]);
        let split = Layout::Lines(Some(b"::".to_vec()));
        assert_eq!(read(&split, b"k::v::w\n::\nx:y\n"), [pair("k", "v::w"), pair("", ""), value("x:y")]);
        assert_eq!(read(&split, b""), []);
    }

    #[test]
    fn templates_with_delimiters_of_several_bytes() {
        let layout = Layout::template("<%k>=%v{hex}--\\n").unwrap();
        assert_eq!(read(&layout, b"<a>=6162--\n<b-->=63--\n"), [pair("a", "ab"), pair("b--", "c")]);
        assert!(read(&layout, b"<a>=6--\n")[0].as_ref().unwrap_err().contains("hexadecimal"));
        assert!(read(&layout, b"<a")[0].as_ref().unwrap_err().contains("ends before"));
        assert!(read(&layout, b"x<a>=61--\n")[0].as_ref().unwrap_err().contains("stands before"));
    }

    #[test]
    fn templates_that_cannot_be_read_are_refused() {
        for (text, reason) in [
            ("%k%v", "text between"),
            ("%v %v", "twice"),
            ("abc", "no token"),
            ("%o %v", "can be read"),
            ("%v{json}", "can be read"),
            ("%v{unpack[I]}", "can be read"),
            ("%d{hex}", "can be read"),
            ("%e", "can be read"),
        ] {
            let error = Layout::template(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn a_record_that_is_too_long_is_an_error_and_the_next_one_is_read() {
        let mut input = vec![b'x'; RECORD_BYTES_MAX + 1];
        input.extend(b"\nnext\n");
        let mut input = BufReader::new(&input[..]);
        let layout = Layout::Lines(None);
        assert!(layout.next(&mut input).unwrap().unwrap().unwrap_err().contains("longer"));
        let next = layout.next(&mut input).unwrap().unwrap().unwrap();
        assert_eq!(next.event.value.unwrap(), "next");
    }
}
