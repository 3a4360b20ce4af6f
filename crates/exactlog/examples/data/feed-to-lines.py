#!/usr/bin/env python3
"""Turns a USGS earthquake feed (GeoJSON) into one JSON object per line.

Usage:
    feed-to-lines.py FEED.json > earthquakes.jsonl
    feed-to-lines.py < FEED.json > earthquakes.jsonl

The lines are ascending by time_ms, then by id. Every line has the same fields in the same order; what the feed
leaves out is null. README.md beside this file says what the fields mean. The same input gives the same bytes.

Refused, with nothing written: a feed that isn't a FeatureCollection, an event without id or time, an id that occurs
twice, a position that isn't three numbers, a count that differs from the one the feed declares.
"""

import json
import sys

# Field of a line, and the name of the property in the feed that it is copied from.
PROPERTIES = [
    ("updated_ms", "updated"),
    ("type", "type"),
    ("mag", "mag"),
    ("mag_type", "magType"),
    ("place", "place"),
    ("status", "status"),
    ("net", "net"),
    ("sig", "sig"),
    ("felt", "felt"),
    ("tsunami", "tsunami"),
]
POSITION = ["longitude", "latitude", "depth_km"]


def event(feature):
    """One line's fields, in the order in which they are written."""
    properties = feature["properties"]
    fields = {"id": feature["id"], "time_ms": properties["time"]}
    if not isinstance(fields["id"], str) or type(fields["time_ms"]) is not int:
        raise ValueError(f"an event has id {fields['id']!r} and time {fields['time_ms']!r}")
    fields.update((name, properties.get(source)) for name, source in PROPERTIES)
    coordinates = feature["geometry"]["coordinates"]
    if len(coordinates) != 3 or not all(type(value) in (int, float) for value in coordinates):
        raise ValueError(f"event {fields['id']} is at {coordinates!r}")
    fields.update(zip(POSITION, coordinates))
    return fields


def events(feed):
    """All events of a feed, in the order in which they happened."""
    if feed.get("type") != "FeatureCollection":
        raise ValueError(f"the input is a {feed.get('type')!r}, not a FeatureCollection")
    found = [event(feature) for feature in feed["features"]]
    if len({fields["id"] for fields in found}) != len(found):
        raise ValueError("an id occurs twice")
    declared = feed.get("metadata", {}).get("count", len(found))
    if declared != len(found):
        raise ValueError(f"the feed declares {declared} events and has {len(found)}")
    return sorted(found, key=lambda fields: (fields["time_ms"], fields["id"]))


def main():
    if len(sys.argv) > 2:
        sys.exit(__doc__)
    source = sys.argv[1] if len(sys.argv) == 2 else 0
    try:
        # File descriptor 0 and paths are opened alike. UTF-8 on both sides, whatever the locale says.
        with open(source, encoding="utf-8") as text:
            found = events(json.load(text))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        sys.exit(f"feed-to-lines: {type(error).__name__}: {error}")
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    for fields in found:
        json.dump(fields, sys.stdout, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        sys.stdout.write("\n")


if __name__ == "__main__":
    main()
