//! A record as one line of JSON, in the envelope of `kcat -J`.
//!
//! ```text
//!   {"topic":"t","partition":0,"offset":7,"tstype":"create","ts":1700000000000,
//!    "headers":["name","value"],"key":"k","payload":"v"}
//! ```
//!
//! Bytes that are no UTF-8 are written as base64, and `"key_encoding"`, `"payload_encoding"` or `"headers_encoding"`
//! says so: text that happens to look like base64 is told from it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use exactlog::{Bytes, Event, Record};
use serde_json::{Map, Value, json};

const ENCODING: &str = "base64";

pub(crate) fn of(record: &Record) -> Value {
    let mut map = Map::new();
    map.insert("topic".into(), json!(&*record.topic));
    map.insert("partition".into(), json!(record.partition));
    map.insert("offset".into(), json!(record.offset));
    map.insert("tstype".into(), json!("create"));
    map.insert("ts".into(), json!(record.timestamp_ms));
    if !record.headers.is_empty() {
        let all = || record.headers.iter().flat_map(|header| [Some(&header.key), header.value.as_ref()]);
        let is_text = all().flatten().all(|bytes| std::str::from_utf8(bytes).is_ok());
        let one = |bytes: Option<&Bytes>| match bytes {
            None => Value::Null,
            Some(bytes) if is_text => json!(String::from_utf8_lossy(bytes)),
            Some(bytes) => json!(STANDARD.encode(bytes)),
        };
        map.insert("headers".into(), all().map(one).collect());
        if !is_text {
            map.insert("headers_encoding".into(), json!(ENCODING));
        }
    }
    put(&mut map, "key", record.key.as_ref());
    put(&mut map, "payload", record.value.as_ref());
    Value::Object(map)
}

fn put(map: &mut Map<String, Value>, name: &str, bytes: Option<&Bytes>) {
    let value = match bytes.map(|bytes| std::str::from_utf8(bytes)) {
        None => Value::Null,
        Some(Ok(text)) => json!(text),
        Some(Err(_)) => {
            map.insert(format!("{name}_encoding"), json!(ENCODING));
            json!(STANDARD.encode(bytes.map_or(&[][..], |bytes| bytes)))
        }
    };
    map.insert(name.into(), value);
}

/// The event in an envelope, and its partition if there is one. What consume adds (topic, offset) is left aside.
pub(crate) fn event(line: &[u8]) -> Result<(Event, Option<u32>), String> {
    let value: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let Value::Object(map) = value else { return Err("an envelope is a JSON object".into()) };
    const KNOWN: [&str; 11] = [
        "topic",
        "partition",
        "offset",
        "tstype",
        "ts",
        "headers",
        "key",
        "payload",
        "key_encoding",
        "payload_encoding",
        "headers_encoding",
    ];
    if let Some(other) = map.keys().find(|key| !KNOWN.contains(&key.as_str())) {
        return Err(format!("an envelope has no {other:?}"));
    }
    let mut event = Event { key: bytes(&map, "key")?, value: bytes(&map, "payload")?, ..Event::default() };
    event.timestamp_ms = match map.get("ts") {
        None | Some(Value::Null) => None,
        Some(ts) => Some(ts.as_i64().ok_or_else(|| format!("\"ts\" is {ts}, and not a number of ms"))?),
    };
    let encoding = map.get("headers_encoding");
    let flat = match map.get("headers") {
        None | Some(Value::Null) => &[],
        Some(Value::Array(list)) if list.len() % 2 == 0 => list.as_slice(),
        Some(_) => return Err("\"headers\" is a list of names and values in turn".into()),
    };
    for pair in flat.chunks(2) {
        let name = decode("headers", &pair[0], encoding)?.ok_or("a header has no name")?;
        let name = String::from_utf8(name).map_err(|_| "a header's name isn't UTF-8")?;
        event.headers.push((name, decode("headers", &pair[1], encoding)?.map(Bytes::from)));
    }
    let partition = match map.get("partition") {
        None | Some(Value::Null) => None,
        Some(number) => {
            let index = number.as_u64().and_then(|index| u32::try_from(index).ok());
            Some(index.ok_or_else(|| format!("\"partition\" is {number}"))?)
        }
    };
    Ok((event, partition))
}

fn bytes(map: &Map<String, Value>, name: &str) -> Result<Option<Bytes>, String> {
    let encoding = map.get(&format!("{name}_encoding"));
    decode(name, map.get(name).unwrap_or(&Value::Null), encoding).map(|bytes| bytes.map(Bytes::from))
}

fn decode(name: &str, value: &Value, encoding: Option<&Value>) -> Result<Option<Vec<u8>>, String> {
    match (value, encoding.and_then(Value::as_str)) {
        (Value::Null, _) => Ok(None),
        (Value::String(text), Some(ENCODING)) => {
            STANDARD.decode(text).map(Some).map_err(|error| format!("{name:?} isn't base64: {error}"))
        }
        (_, Some(other)) if other != ENCODING => Err(format!("{name:?} has the unknown encoding {other:?}")),
        (Value::String(text), _) => Ok(Some(text.clone().into_bytes())),
        // kcat and rpk take JSON values as they are, too.
        (other, _) => Ok(Some(other.to_string().into_bytes())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_envelope_is_refused_with_the_reason() {
        for (line, reason) in [
            ("7", "a JSON object"),
            ("{", "EOF"),
            ("{\"value\":1}", "no \"value\""),
            ("{\"ts\":\"now\"}", "\"ts\""),
            ("{\"headers\":[\"a\"]}", "in turn"),
            ("{\"headers\":[null,\"a\"]}", "no name"),
            ("{\"partition\":-1}", "\"partition\""),
            ("{\"key\":\"*\",\"key_encoding\":\"base64\"}", "isn't base64"),
            ("{\"key\":\"a\",\"key_encoding\":\"rot13\"}", "rot13"),
        ] {
            let error = event(line.as_bytes()).unwrap_err();
            assert!(error.contains(reason), "{line}: {error}");
        }
    }
}
