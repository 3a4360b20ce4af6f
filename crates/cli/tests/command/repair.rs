//! `log verify` and `log repair` on damaged copies: found with file and position, and repaired if nothing is lost.

use crate::common::{Place, lines};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The value of the last record.
const MARKER: &str = "the last record of all";

/// Many small segments, two checkpoints, and a journal that doesn't begin at the first command any more.
fn filled() -> Place {
    let place = Place::new();
    place.run(&["topic", "create", "t", "-c", "segment.bytes=65536"]).good();
    let small = ["-X", "journal.file.bytes=1MiB", "-X", "journal.ring.bytes=4MiB"];
    for part in 0..3 {
        let input: String = (0..15_000).map(|number| format!("{part} {number:0200}\n")).collect();
        place
            .run_with(
                &[&["produce", "t", "--txn", "500", "--txn-id", &format!("p{part}")], &small[..]].concat(),
                input,
            )
            .good();
    }
    // Closing makes a checkpoint if much would be replayed: behind that one the last record is in the journal alone.
    let quiet = ["-X", "journal.file.bytes=1MiB", "-X", "journal.ring.bytes=256MiB"];
    place.run(&[&["consume", "t", "-g", "g", "-q"], &quiet[..]].concat()).good();
    place.run_with(&[&["produce", "t"], &quiet[..]].concat(), format!("{MARKER}\n")).good();
    place
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

fn find(place: &Place, ending: &str, is_newest: bool) -> PathBuf {
    let mut files: Vec<PathBuf> =
        place.files().into_keys().filter(|file| file.display().to_string().ends_with(ending)).collect();
    if is_newest { files.pop().unwrap() } else { files.remove(0) }
}

fn marker_at(bytes: &[u8]) -> Option<usize> {
    bytes.windows(MARKER.len()).position(|window| window == MARKER.as_bytes())
}

/// The journal file that has the last record, which is in no checkpoint yet.
fn with_marker(place: &Place) -> PathBuf {
    let files = place.files().into_iter();
    let mut holders = files.filter(|(_, bytes)| marker_at(bytes).is_some());
    let holds = holders.rfind(|(file, _)| file.extension().is_some_and(|ending| ending == "journal"));
    holds.unwrap().0
}

fn damage(file: &Path, at: usize, case: &str) {
    let mut bytes = std::fs::read(file).unwrap();
    match case {
        "flipped" => bytes[at] ^= 1,
        _ => bytes.truncate(bytes.len().min(2 * at) / 2),
    }
    std::fs::write(file, bytes).unwrap();
}

/// What an answer says of a file: its findings, or its error.
fn names(answer: &Value, file: &str) -> bool {
    let of = |field: &str| answer[field].as_array().cloned().unwrap_or_default();
    let found = of("findings").iter().any(|finding| finding["file"] == file && finding["damage"] == true);
    found
        || answer["error"]["message"]
            .as_str()
            .is_some_and(|text| text.contains(file) && text.contains("at byte"))
}

#[test]
fn every_kind_of_damage_is_found_named_and_repaired_if_nothing_is_lost() {
    let whole = filled();
    let content = whole.run(&["consume", "t", "-q"]).good();
    assert_eq!(whole.run(&["log", "verify", "--format", "json"]).json()["findings"], json!([]));
    for (ending, is_newest, at, is_repaired) in [
        (".journal", true, None, false),
        (".log", false, Some(5_000), false),
        (".index", false, Some(20), true),
        (".timeindex", false, Some(20), true),
        (".checkpoint", true, Some(100), true),
    ] {
        for case in ["flipped", "cut"] {
            let place = Place::new();
            copy(&whole.data, &place.data);
            let file = match ending {
                ".journal" => with_marker(&place),
                _ => find(&place, ending, is_newest),
            };
            let at = at.unwrap_or_else(|| marker_at(&std::fs::read(&file).unwrap()).unwrap());
            damage(&file, at, case);
            let name = file.strip_prefix(&place.data).unwrap().display().to_string();
            let damaged = place.files();
            let verified = place.run(&["log", "verify", "--format", "json"]);
            assert_eq!(verified.exit, Some(4), "{name} {case}: {verified:?}");
            assert!(names(&verified.json(), &name), "{name} {case}: {verified:?}");
            let dry = place.run(&["log", "repair", "--format", "json"]);
            assert_eq!((dry.exit, &dry.json()["dry_run"]), (Some(4), &json!(true)), "{name} {case}: {dry:?}");
            assert!(names(&dry.json(), &name), "{name} {case}: {dry:?}");
            assert!(damaged == place.files(), "{name} {case}: nothing was changed");
            let written = place.run(&["log", "repair", "--write", "--format", "json"]);
            let written_json = written.json();
            if is_repaired {
                assert_eq!(
                    (written.exit, &written_json["left"]),
                    (Some(0), &json!(0)),
                    "{name} {case}: {written:?}"
                );
                assert_eq!(place.run(&["log", "verify"]).exit, Some(0), "{name} {case}");
                assert!(place.run(&["consume", "t", "-q"]).good() == content, "{name} {case}");
                assert_eq!(place.run(&["group", "lag", "g", "--format", "json"]).json()["total_lag"], 1);
                continue;
            }
            assert_eq!(written.exit, Some(4), "{name} {case}: {written:?}");
            let findings = written_json["findings"].as_array().unwrap();
            let left = findings.iter().find(|finding| finding["file"] == name.as_str()).unwrap();
            assert_eq!((&left["status"], left["position"].is_u64()), (&json!("left"), true), "{name} {case}");
            let lost = &left["lost"][0];
            assert_eq!(
                (&lost["topic"], &lost["partition"]),
                (&json!("t"), &json!(0)),
                "{name} {case}: {left}"
            );
            assert!(lost["from"].is_u64() && (lost["to"].is_u64() || ending == ".journal"), "{left}");
            let text = place.run(&["log", "repair"]);
            assert!(text.out.contains("restore a backup"), "{text:?}");
        }
    }
}

#[test]
fn a_closed_segment_that_is_missing_is_named_and_everything_around_it_goes_on() {
    let place = filled();
    let file = find(&place, ".log", false);
    std::fs::remove_file(&file).unwrap();
    let name = file.strip_prefix(&place.data).unwrap().display().to_string();
    let verified = place.run(&["log", "verify", "--format", "json"]);
    assert_eq!(verified.exit, Some(4), "{verified:?}");
    let found = verified.json()["findings"][0].clone();
    assert_eq!((&found["file"], &found["damage"]), (&json!(name), &json!(true)), "{found}");
    assert!(found["what"].as_str().unwrap().contains("the file is missing; lost are the offsets from 0"));
    let behind = found["lost"][0]["to"].as_u64().unwrap();
    place.run(&["log", "stat"]).good();
    place.run(&["topic", "describe", "t"]).good();
    let examined = place.run(&["doctor", "--format", "json"]).json();
    let checks = examined["checks"].as_array().unwrap();
    assert!(checks.iter().any(|check| check["check"] == "log" && check["status"] == "good"), "{examined}");
    place.run(&["consume", "t", "-o", "0:1", "-q"]).fails(1, &name);
    place.run_with(&["produce", "t"], "one more\n").good();
    let rest = place.run(&["consume", "t", "-o", &format!("{behind}:"), "-q"]).good();
    assert_eq!(rest.lines().count() as u64, 45_002 - behind);
    place.run(&["topic", "trim", "t", "--to", &behind.to_string(), "--execute"]).good();
    assert_eq!(place.run(&["consume", "t", "-q"]).good(), rest);
}

#[test]
fn the_indexes_alone_are_made_again() {
    let place = filled();
    let (index, checkpoint) = (find(&place, ".index", false), find(&place, ".checkpoint", true));
    std::fs::remove_file(&index).unwrap();
    damage(&checkpoint, 100, "flipped");
    let dry = place.run(&["log", "index", "rebuild", "--format", "json"]);
    assert_eq!((dry.exit, dry.json()["findings"].as_array().unwrap().len()), (Some(0), 1), "{dry:?}");
    assert!(!index.exists());
    let done = place.run(&["log", "index", "rebuild", "--write", "--format", "json"]);
    assert_eq!((done.exit, &done.json()["done"]), (Some(0), &json!(1)), "{done:?}");
    assert!(index.exists());
    // The checkpoint wasn't asked for.
    assert_eq!(place.run(&["log", "verify"]).exit, Some(4));
    place.run(&["log", "repair", "--write"]).good();
    place.run(&["log", "verify"]).good();
}

#[test]
fn a_log_that_is_in_use_or_missing_is_not_repaired() {
    let place = Place::with_topic(1);
    place.run_with(&["produce", "t"], lines(0..3)).good();
    let child = place.command(&["consume", "t", "-g", "g", "--follow"]).spawn().unwrap();
    let running = crate::common::Running(Some(child));
    crate::common::until("it is in use", || {
        place.run(&["log", "stat", "--format", "json"]).json()["in_use"] == true
    });
    for more in [&[][..], &["--write"]] {
        let all = [&["log", "repair", "--format", "json"][..], more].concat();
        let refused = place.run(&all);
        assert_eq!(
            (refused.exit, &refused.json()["error"]["code"]),
            (Some(3), &json!("IN_USE")),
            "{refused:?}"
        );
    }
    running.kill();
    place.run(&["log", "repair", "--write"]).good();
    let missing = Place::new();
    missing.run(&["log", "repair", "--write"]).fails(3, "--data");
    assert!(!missing.data.exists());
    place.run(&["log", "repair", "--write", "--dry-run"]).fails(2, "--write");
}
