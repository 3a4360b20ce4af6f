//! `limits` of groups, tables and ids: shown, set in part, and refused with the bounds.

use crate::common::Place;
use serde_json::{Value, json};

fn of_ids(ttl_ms: u64, entries: u64, at_cap: &str) -> Value {
    json!({ "dedup.ttl.ms": ttl_ms, "dedup.entries.max": entries, "at_cap": at_cap })
}

#[test]
fn limits_that_are_set_in_part_stay_as_they_are_in_the_rest() {
    let place = Place::with_topic(1);
    let show = |verb: &str| place.run(&[verb, "limits", "--format", "json"]).json();
    assert_eq!(show("group"), json!({ "offsets.retention.ms": 604_800_000 }));
    place.run(&["group", "limits", "--retention", "30d"]).good();
    assert_eq!(show("group"), json!({ "offsets.retention.ms": 2_592_000_000_u64 }));
    place.run(&["group", "limits", "--retention", "0s"]).fails(1, "offsets.retention.ms");

    let of_tables = |keys: u64| json!({ "table.keys.max": keys, "table.key.max.bytes": 1_024 });
    assert_eq!(show("table"), of_tables(1_000_000));
    place.run(&["table", "limits", "--keys", "7"]).good();
    assert_eq!(show("table"), of_tables(7));
    place.run(&["table", "limits", "--key-bytes", "65537"]).fails(1, "table.key.max.bytes");

    assert_eq!(show("dedup"), of_ids(604_800_000, 100_000_000, "refuse"));
    place.run(&["dedup", "limits", "--ttl", "1d", "--at-cap", "shorten"]).good();
    assert_eq!(show("dedup"), of_ids(86_400_000, 100_000_000, "shorten"));
    place.run(&["dedup", "limits", "--entries", "9"]).good();
    assert_eq!(show("dedup"), of_ids(86_400_000, 9, "shorten"));
    place.run(&["dedup", "limits", "--entries", "0"]).fails(1, "dedup.entries.max");
    place.run(&["dedup", "limits", "--at-cap", "forget"]).fails(2, "forget");
}
