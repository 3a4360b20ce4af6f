//! Requests that announce far more than they bring.
//!
//! Of each API in each version: whole up to one of its lengths, and there 2^31, or what of it the field can say. And
//! requests of 4 and of 12 bytes, which end within their header.

use exactlog_wire::message::ApiInfo;
use exactlog_wire::messages::APIS;
use exactlog_wire::schema::Shape;

/// 2^31 + 1, which in a compact form means 2^31 elements.
const COMPACT: [u8; 5] = [0x81, 0x80, 0x80, 0x80, 0x08];

/// All of them, each as it is sent.
pub(crate) fn all() -> Vec<Vec<u8>> {
    let mut lies = Vec::new();
    for api in APIS {
        for version in api.versions.from..=api.versions.to {
            let begin = [api.key.to_be_bytes(), version.to_be_bytes()].concat();
            lies.push(framed(&begin));
            lies.push(framed(&[&begin[..], &[0, 0, 0, 7], &i32::MAX.to_be_bytes()].concat()));
            of(api, version, &begin, &mut lies);
        }
    }
    lies
}

fn of(api: &ApiInfo, version: i16, begin: &[u8], lies: &mut Vec<Vec<u8>>) {
    let is_flexible = api.is_flexible(version);
    // A correlation id, and no client id.
    let mut sent = [begin, &[0, 0, 0, 7, 0xff, 0xff]].concat();
    let mut liar = Liar { version, is_flexible, lies };
    if is_flexible {
        liar.lie(&sent, &COMPACT);
        sent.push(0);
    }
    liar.walk(&(api.request)(), &mut sent);
}

struct Liar<'l> {
    version: i16,
    is_flexible: bool,
    lies: &'l mut Vec<Vec<u8>>,
}

impl Liar<'_> {
    fn lie(&mut self, sent: &[u8], length: &[u8]) {
        self.lies.push(framed(&[sent, length].concat()));
    }

    /// Writes the least that such a value takes, with one element in each array, and a lie at each length.
    fn walk(&mut self, shape: &Shape, sent: &mut Vec<u8>) {
        match shape {
            Shape::Bool | Shape::Int8 => sent.push(0),
            Shape::Int16 | Shape::Uint16 => sent.extend([0; 2]),
            Shape::Int32 => sent.extend([0; 4]),
            Shape::Int64 => sent.extend([0; 8]),
            Shape::Uuid => sent.extend([0; 16]),
            Shape::Str => self.length(sent, &i16::MAX.to_be_bytes(), &[0, 0], 1),
            Shape::Bytes | Shape::Records => self.length(sent, &i32::MAX.to_be_bytes(), &[0; 4], 1),
            Shape::Array(element) => {
                self.length(sent, &i32::MAX.to_be_bytes(), &[0, 0, 0, 1], 2);
                self.walk(element, sent);
            }
            Shape::Nullable(inner) => {
                if matches!(**inner, Shape::Struct { .. }) {
                    sent.push(1);
                }
                self.walk(inner, sent);
            }
            Shape::Struct { fields, .. } => {
                let version = self.version;
                let there = fields.iter().filter(|field| field.tag.is_none() && field.versions.has(version));
                there.for_each(|field| self.walk(&field.shape, sent));
                if self.is_flexible {
                    self.lie(sent, &COMPACT);
                    sent.push(0);
                }
            }
        }
    }

    /// A lie, and then the truth.
    fn length(&mut self, sent: &mut Vec<u8>, most: &[u8], true_one: &[u8], compact: u8) {
        match self.is_flexible {
            true => {
                self.lie(sent, &COMPACT);
                sent.push(compact);
            }
            false => {
                self.lie(sent, most);
                sent.extend(true_one);
            }
        }
    }
}

fn framed(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
}
