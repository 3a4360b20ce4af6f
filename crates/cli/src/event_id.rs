//! `--event-id`: what of a record is its id.
//!
//! ```text
//!   %k          its key
//!   %v          its value: the whole line
//!   FIELD       a field of its value, which is JSON; FIELD.INNER a field of an object in it
//! ```
//!
//! Invariants
//!   * a record without its id is an error: nothing goes into the topic without being looked for

use exactlog::{Event, EventId};
use serde_json::Value;

/// What of a record is its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Key,
    Value,
    Field(String),
}

impl Source {
    pub(crate) fn parse(text: &str) -> Result<Source, String> {
        match text {
            "%k" => Ok(Source::Key),
            "%v" => Ok(Source::Value),
            "" => Err("--event-id is empty: %k, %v or the name of a field".into()),
            other if other.starts_with('%') => {
                Err(format!("--event-id {other:?} isn't known: %k, %v or the name of a field"))
            }
            field => Ok(Source::Field(field.to_string())),
        }
    }

    /// The id of a record.
    pub(crate) fn id_of(&self, event: &Event) -> Result<EventId, String> {
        let bytes = match self {
            Source::Key => event.key.clone().ok_or("it has no key, which is its id")?,
            Source::Value => event.value.clone().ok_or("it has no value, which is its id")?,
            Source::Field(field) => return field_of(field, event.value.as_deref().unwrap_or_default()),
        };
        match bytes.is_empty() {
            true => Err("its id is empty".into()),
            false => Ok(EventId::from(bytes)),
        }
    }
}

fn field_of(field: &str, json: &[u8]) -> Result<EventId, String> {
    let value: Value = serde_json::from_slice(json)
        .map_err(|error| format!("its value isn't JSON, so it has no {field:?}: {error}"))?;
    // A name with a dot in it comes first.
    let direct = value.get(field);
    let found = direct.or_else(|| field.split('.').try_fold(&value, |value, name| value.get(name)));
    match found {
        Some(Value::String(text)) if !text.is_empty() => Ok(EventId::from(text.as_str())),
        Some(Value::Number(number)) => Ok(EventId::from(number.to_string())),
        Some(other) => Err(format!("its field {field:?} is {other}: an id is text or a number")),
        None => Err(format!("it has no field {field:?}, which is its id")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_keys_values_and_fields_of_json() {
        let event = Event::new("k", r#"{"id":"a","n":7,"in.ner":"dotted","in":{"ner":"x","id":2.5}}"#);
        let id = |text: &str| Source::parse(text).unwrap().id_of(&event);
        assert_eq!(id("%k").unwrap(), EventId::from("k"));
        assert_eq!(id("%v").unwrap(), EventId::from(event.value.clone().unwrap()));
        for (field, wanted) in [("id", "a"), ("n", "7"), ("in.ner", "dotted"), ("in.id", "2.5")] {
            assert_eq!(id(field).unwrap(), EventId::from(wanted), "{field}");
        }
        for (field, what) in [("in", "text or a number"), ("none", "no field"), ("id.none", "no field")] {
            let error = id(field).unwrap_err();
            assert!(error.contains(what) && error.contains(field), "{error}");
        }
    }

    #[test]
    fn what_has_no_id_says_so() {
        let lacks = |text: &str, event: Event| Source::parse(text).unwrap().id_of(&event).unwrap_err();
        assert!(lacks("%k", Event::unkeyed("v")).contains("no key"));
        assert!(lacks("%k", Event::new("", "v")).contains("empty"));
        assert!(lacks("%v", Event::default()).contains("no value"));
        assert!(lacks("id", Event::unkeyed("no json")).contains("isn't JSON"));
        assert!(lacks("id", Event::unkeyed(r#"{"id":""}"#)).contains("text or a number"));
        assert!(Source::parse("%p").is_err() && Source::parse("").is_err());
    }
}
