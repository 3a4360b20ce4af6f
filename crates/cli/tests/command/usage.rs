//! Help, completions, and what isn't understood.

use crate::common::Place;

#[test]
fn help_shows_what_there_is_and_nothing_else() {
    let place = Place::new();
    let help = place.run(&["--help"]).good();
    for verb in [
        "serve", "topic", "produce", "consume", "replay", "group", "txn", "timer", "table", "dedup", "dlq",
        "retry", "saga", "log", "bench", "top", "doctor", "config", "explain", "cheat",
    ] {
        assert!(help.contains(&format!("\n  {verb} ")), "{verb}: {help}");
    }
    for absent in ["compact", "add-partitions", "--profile"] {
        assert!(!help.contains(absent), "{absent}: {help}");
    }
    for (verb, parts) in [
        ("topic", &["repartition", "compact"][..]),
        ("group", &["delete-offsets", "delete"]),
        ("txn", &["list", "describe", "producers", "find-hanging", "abort"]),
        ("log", &["repair", "index"]),
        ("table", &["put", "delete"]),
        ("dlq", &["redrive", "discard", "export"]),
        ("retry", &["list", "explain"]),
        ("saga", &["list", "show", "retry-compensation"]),
    ] {
        let help = place.run(&[verb, "--help"]).good();
        assert!(parts.iter().all(|part| help.contains(&format!("\n  {part} "))), "{verb}: {help}");
    }
    assert!(place.run(&["--version"]).good().starts_with("exactlog "));
    assert_eq!(place.run(&[]).exit, Some(2));
}

#[test]
fn a_misspelt_verb_or_flag_is_answered_with_the_right_one() {
    let place = Place::new();
    place.run(&["topc"]).fails(2, "'topic'");
    place.run(&["topic", "lst"]).fails(2, "'list'");
    place.run(&["topic", "list", "--fromat", "json"]).fails(2, "'--format'");
    place.run(&["topic", "list", "--format", "jso"]).fails(2, "'json'");
}

#[test]
fn values_that_flags_cannot_have_are_refused() {
    let place = Place::with_topic(1);
    for arguments in [
        &["topic", "list", "--timeout", "soon"][..],
        &["topic", "list", "--timeout", "5 s"],
        &["topic", "list", "--timeout", "99999999999999999d"],
        &["topic", "list", "--color", "blue"],
        &["topic", "list", "-X", "durability"],
        &["topic", "list", "-X", "durability=never"],
        &["topic", "create"],
        &["topic", "create", "u", "-p", "0"],
        &["topic", "create", "u", "-p", "100001"],
        &["topic", "create", "u", "-c", "segment.bytes=large"],
        &["topic", "create", "u", "-c", "segment.size=1"],
        &["topic", "create", "u", "-c", "segment.bytes=1"],
        &["topic", "create", "u", "-c", "max.message.bytes=1"],
        &["topic", "alter", "t", "-c", "segment.ms=0"],
        &["topic", "trim", "t"],
        &["topic", "trim", "t", "--to", "soon"],
        &["consume"],
        &["consume", "t", "-n", "-1"],
        &["consume", "t", "-n", "many"],
        &["group", "seek", "g"],
        &["group", "lag", "--limit", "x"],
        &["log", "dump", "--from", "first"],
        &["bench", "embedded", "--size", "0"],
        &["bench", "embedded", "--events", "x"],
        &["completion", "cmd"],
    ] {
        let refused = place.run(arguments);
        assert_eq!((refused.exit, refused.out.as_str()), (Some(2), ""), "{arguments:?}: {refused:?}");
        assert!(refused.err.starts_with("error: "), "{arguments:?}: {refused:?}");
    }
    let says = |arguments: &[&str], text: &str| place.run(arguments).fails(2, text);
    says(&["topic", "create", "u", "-c", "retention.ms=99999999d"], "up to 36600 days");
    says(&["topic", "list", "-X", "queue.bytes=99999999999999999999"], "0 to 2^64 - 1 bytes");
    // The last one counted, and nobody was told.
    let twice = ["topic", "create", "u", "-c", "retention.ms=1", "-c", "retention.ms=2"];
    says(&twice, "setting retention.ms is given twice: \"1\" and \"2\"");
    let twice = ["topic", "list", "-X", "durability=os", "-X", "durability=fsync"];
    says(&twice, "setting durability is given twice: \"os\" and \"fsync\"");
}

#[test]
fn texts_for_shells_and_people() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(place.run(&["completion", shell]).good().contains("exactlog"), "{shell}");
    }
    let manual = place.run(&["man"]).good();
    for page in ["exactlog", "exactlog-topic-create", "exactlog-log-verify"] {
        assert!(manual.contains(&format!(".TH {page} 1")), "{page}");
    }
    assert!(place.run(&["cheat"]).good().contains("exactlog produce orders --txn 1000"));
    for arguments in [&["topic", "list", "--format", "help"][..], &["--format", "help"], &["--format=help"]] {
        assert!(place.run(arguments).good().contains("%d{strftime"));
    }
}
