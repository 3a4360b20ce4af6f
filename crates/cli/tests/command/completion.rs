//! Completion: a real bash with the generated script, and what it asks for.
//!
//! On a machine that is busy a log may take longer to open than somebody waits: then it is asked again.

use crate::common::{Place, until};
use std::process::Command;

/// What bash would offer for a line whose last word is being typed.
fn offered(place: &Place, line: &[&str]) -> Vec<String> {
    let script = place.data.with_file_name("completion.bash");
    std::fs::write(&script, place.run(&["completion", "bash"]).good()).unwrap();
    let script = script.display();
    let words = line.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
    let (last, before) = (line.len() - 1, line.len().saturating_sub(2));
    let drive = format!(
        "source {script}\nCOMP_WORDS=({words}); COMP_CWORD={last}\n\
         complete -p exactlog | grep -q -- '-F _exactlog_names ' || exit 9\n\
         _exactlog_names '{}' '{}' '{}'\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"",
        line[0], line[last], line[before]
    );
    let mut bash = Command::new("bash");
    let answer = bash.args(["--norc", "-c", &drive]).env("EXACTLOG_DATA", &place.data).output().unwrap();
    assert!(answer.status.success(), "{answer:?}");
    assert!(answer.stderr.is_empty(), "{answer:?}");
    let text = String::from_utf8(answer.stdout).unwrap();
    text.lines().filter(|line| !line.is_empty()).map(ToString::to_string).collect()
}

const EXACTLOG: &str = env!("CARGO_BIN_EXE_exactlog");

fn filled() -> Place {
    let place = Place::new();
    place.run(&["topic", "create", "orders", "orders-again", "payments"]).good();
    place.run(&["consume", "orders", "-g", "billing", "-q"]).good();
    crate::tables::put(&place, &[("chair", "12")]);
    place
}

#[test]
fn bash_offers_the_names_that_the_log_has() {
    if Command::new("bash").arg("--version").output().is_err() {
        return;
    }
    let place = filled();
    let files = place.files();
    for (line, names) in [
        (&["consume", "ord"][..], &["orders", "orders-again"][..]),
        (&["consume", ""], &["orders", "orders-again", "payments", "tally"]),
        (&["topic", "describe", "orders", "pay"], &["payments"]),
        (&["consume", "orders", "-g", ""], &["billing"]),
        (&["group", "lag", "b"], &["billing"]),
        (&["table", "get", ""], &["tally"]),
    ] {
        until(&format!("{line:?} was completed"), || offered(&place, &[&[EXACTLOG], line].concat()) == names);
    }
    // Verbs and flags as before, and where nothing is to be completed nothing new.
    assert_eq!(offered(&place, &[EXACTLOG, "topic", "repart"]), ["repartition"]);
    assert_eq!(offered(&place, &[EXACTLOG, "consume", "--foll"]), ["--follow"]);
    assert!(offered(&place, &[EXACTLOG, "topic", "trim", "orders", "--exe"]).contains(&"--execute".into()));
    assert!(files == place.files(), "it writes nothing");
}

#[test]
fn names_come_from_the_directory_of_the_command_line_and_none_from_one_that_has_no_log() {
    let place = filled();
    let data = place.data.to_str().unwrap();
    let asked = |words: &[&str]| {
        let all = [&["__complete", "--"], words].concat();
        let answer = place.command(&all).env("EXACTLOG_DATA", "/nowhere").output().unwrap();
        assert_eq!((answer.status.code(), answer.stderr.as_slice()), (Some(0), &b""[..]), "{words:?}");
        String::from_utf8(answer.stdout).unwrap()
    };
    until("names came", || asked(&["--data", data, "consume", "pay"]) == "payments\n");
    assert_eq!(asked(&["consume", "pay"]), "");
    assert_eq!(asked(&["consume", "--format", "help", ""]), "");
    let absent = place.data.join("absent");
    assert_eq!(asked(&["--data", absent.to_str().unwrap(), "consume", ""]), "");
    assert!(!absent.exists(), "nothing is made");
    std::fs::create_dir(&absent).unwrap();
    std::fs::write(absent.join("file"), "no log").unwrap();
    assert_eq!(asked(&["--data", absent.to_str().unwrap(), "consume", ""]), "");
    assert_eq!(std::fs::read_dir(&absent).unwrap().count(), 1, "and nothing is added");
}

#[test]
fn names_are_there_also_while_somebody_writes() {
    let place = filled();
    let log = exactlog::Log::open(&place.data).unwrap();
    until("names came", || {
        let names = place.run(&["__complete", "--", "consume", ""]).good();
        names == "orders\norders-again\npayments\ntally\n"
    });
    log.close().unwrap();
}
