//! A JSON value as YAML. Only what a report has: objects, lists, text, numbers, null.

use serde_json::Value;

pub(crate) fn of(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => write(value, 0, &mut text),
        Value::Array(list) if !list.is_empty() => write(value, 0, &mut text),
        _ => {
            text.push_str(&scalar(value));
            text.push('\n');
        }
    }
    text
}

fn write(value: &Value, indent: usize, text: &mut String) {
    let space = "  ".repeat(indent);
    match value {
        Value::Object(map) => {
            for (nth, (key, value)) in map.iter().enumerate() {
                // The first one of a list's item stands behind its dash.
                let before = if nth == 0 && text.ends_with("- ") { "" } else { &space };
                text.push_str(&format!("{before}{}:", key_of(key)));
                nested(value, indent + 1, text);
            }
        }
        Value::Array(list) => {
            for value in list {
                text.push_str(&format!("{space}- "));
                match value {
                    Value::Object(map) if !map.is_empty() => write(value, indent + 1, text),
                    _ => text.push_str(&format!("{}\n", scalar(value))),
                }
            }
        }
        _ => text.push_str(&format!("{space}{}\n", scalar(value))),
    }
}

fn nested(value: &Value, indent: usize, text: &mut String) {
    let has_items = match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => false,
    };
    if has_items {
        text.push('\n');
        write(value, indent, text);
    } else {
        text.push_str(&format!(" {}\n", scalar(value)));
    }
}

fn key_of(key: &str) -> String {
    let plain = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if plain && key.starts_with(|c: char| c.is_ascii_alphabetic()) { key.to_string() } else { quoted(key) }
}

/// Text is always in quotes: no word of it can be taken for a number, a date or a truth.
fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}

/// A JSON string is a YAML string.
fn quoted(text: &str) -> String {
    Value::String(text.to_string()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_lists_and_texts_that_look_like_something_else() {
        let value = json!({
            "a": [{"b": 1, "c": "no"}, {"b": [2, "x: y"]}], "d": {}, "e": null, "f-g": "0x1\n", "h": {"i": true},
        });
        let text = "a:\n  - b: 1\n    c: \"no\"\n  - b:\n      - 2\n      - \"x: y\"\nd: {}\ne: null\n\
                    \"f-g\": \"0x1\\n\"\nh:\n  i: true\n";
        assert_eq!(of(&value), text);
        assert_eq!(of(&json!([])), "[]\n");
    }
}
