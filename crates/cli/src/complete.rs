//! Completion: the scripts for shells, and the names of topics, groups and tables that they ask for.
//!
//! ```text
//!   script -> exactlog __complete -- WORDS -> names, one a line    none: the script goes on with verbs and flags
//! ```
//!
//! Invariants
//!   * it writes nothing, makes nothing, and says nothing but names: whatever is wrong, there are none
//!   * a log that takes long to open is given up

use crate::args::Arguments;
use crate::failure::Failure;
use crate::print_bytes;
use clap::{Arg, Command, CommandFactory};
use clap_complete::Shell;
use exactlog::{Builder, Log};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::time::Duration;

/// Asks for names; no verb, since nobody types it.
pub(crate) const WORD: &str = "__complete";

/// How long somebody waits who has pressed a key.
const PATIENCE: Duration = Duration::from_millis(300);

/// In front of the script that clap makes: names first, then what that knows.
const BASH: &str = r#"
_exactlog_names() {
    local names
    COMPREPLY=()
    names="$("$1" __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)"
    if [[ -n "$names" ]]; then
        COMPREPLY=( $(compgen -W "$names" -- "$2") )
    else
        _exactlog "$@"
    fi
}

complete -F _exactlog_names -o bashdefault -o default exactlog
"#;

const ZSH: &str = r#"
_exactlog() {
    local -a names
    names=(${(f)"$("${words[1]}" __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    if (( ${#names} )); then
        compadd -a names
    else
        _exactlog_verbs "$@"
    fi
}
"#;

const FISH: &str = r#"
function __exactlog_names
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    $words[1] __complete -- $words[2..] "$current" 2>/dev/null
end
complete -c exactlog -a "(__exactlog_names)"
"#;

/// The script for a shell.
pub(crate) fn script(shell: Shell) -> Vec<u8> {
    let mut bytes = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "exactlog", &mut bytes);
    let script = String::from_utf8_lossy(&bytes).into_owned();
    match shell {
        Shell::Bash => script + BASH,
        // It is called by its name, and names itself at its end.
        Shell::Zsh => match script.rsplit_once("\nif [ \"$funcstack[1]\"") {
            Some((functions, end)) => {
                let functions = functions.replacen("\n_exactlog() {", "\n_exactlog_verbs() {", 1);
                format!("{functions}{ZSH}\nif [ \"$funcstack[1]\"{end}")
            }
            None => script,
        },
        Shell::Fish => script + FISH,
        _ => script,
    }
    .into_bytes()
}

/// Writes the names that the last of the words may become, one a line.
pub(crate) fn run(words: &[String]) -> Result<u8, Failure> {
    let words = words.strip_prefix(&["--".to_string()]).unwrap_or(words);
    let found = wanted(words, std::env::var_os("EXACTLOG_DATA"));
    let names = found.map_or_else(Vec::new, |wanted| wanted.names());
    let text: String = names.iter().map(|name| format!("{name}\n")).collect();
    print_bytes(text.as_bytes()).map(|()| 0)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Topics,
    Groups,
    Tables,
}

/// What a word is to be completed to, and from which directory.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    kind: Kind,
    prefix: String,
    data: PathBuf,
}

impl Wanted {
    fn names(self) -> Vec<String> {
        let (send, receive) = channel();
        let look = move || {
            let names = Builder::default().open_read_only(&self.data).map(|log| names_of(&log, self.kind));
            let names = names.unwrap_or_default();
            let _ = send.send(names.into_iter().filter(|name| name.starts_with(&self.prefix)).collect());
        };
        // The process ends whether it has come to its end or not.
        match std::thread::Builder::new().spawn(look) {
            Ok(_) => receive.recv_timeout(PATIENCE).unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }
}

fn names_of(log: &Log, kind: Kind) -> Vec<String> {
    match kind {
        Kind::Topics => log.topics().iter().map(|topic| topic.name().to_string()).collect(),
        Kind::Groups => log.groups().into_iter().map(|group| group.name).collect(),
        Kind::Tables => log.tables().iter().map(|table| table.name().to_string()).collect(),
    }
}

/// Follows the words through verbs and flags to the last one.
fn wanted(words: &[String], default: Option<OsString>) -> Option<Wanted> {
    let (current, before) = words.split_last()?;
    let mut root = Arguments::command();
    root.build();
    let mut walk = Walk { command: &root, flag: None, places: 0, data: None };
    before.iter().for_each(|word| walk.take(word));
    let arg = match walk.flag {
        Some(flag) => flag,
        None if current.starts_with('-') => return None,
        None => walk.place()?,
    };
    let kind = kind_of(walk.command.get_name(), arg)?;
    let data = walk.data.or_else(|| default?.into_string().ok()).unwrap_or("exactlog-data".into());
    let prefix = if current == "=" { String::new() } else { current.clone() };
    Some(Wanted { kind, prefix, data: expanded(&data) })
}

/// A shell hands words over as they were typed.
fn expanded(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(path),
    }
}

/// Names of what is to be made are nobody's yet.
fn kind_of(verb: &str, arg: &Arg) -> Option<Kind> {
    let name = arg.get_value_names()?.first()?.as_str();
    match (verb, arg.get_id().as_str(), name) {
        ("create", _, _) | ("repartition", "into", _) => None,
        ("redrive", "to", _) => Some(Kind::Topics),
        (_, _, "TOPIC") => Some(Kind::Topics),
        (_, _, "GROUP") => Some(Kind::Groups),
        (_, _, "TABLE") => Some(Kind::Tables),
        _ => None,
    }
}

/// Where in the command line it is.
struct Walk<'c> {
    command: &'c Command,
    /// Waits for its value.
    flag: Option<&'c Arg>,
    /// How many values without a flag there were.
    places: usize,
    data: Option<String>,
}

impl<'c> Walk<'c> {
    fn take(&mut self, word: &str) {
        // Some shells take --flag=value apart.
        if word == "=" && self.flag.is_some() {
            return;
        }
        if let Some(flag) = self.flag.take() {
            return self.value(flag, word);
        }
        if let Some(long) = word.strip_prefix("--") {
            let (name, value) =
                long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
            return self.flag(|arg| arg.get_long() == Some(name), value);
        }
        if let Some(short) = word.strip_prefix('-').and_then(|text| text.chars().next()) {
            let value = Some(&word[1 + short.len_utf8()..]).filter(|value| !value.is_empty());
            return self.flag(|arg| arg.get_short() == Some(short), value);
        }
        match self.command.find_subcommand(word).filter(|_| self.places == 0) {
            Some(command) => self.command = command,
            None => self.places += 1,
        }
    }

    fn flag(&mut self, is_it: impl Fn(&Arg) -> bool, value: Option<&str>) {
        let found = self.command.get_arguments().find(|arg| is_it(arg));
        let Some(flag) = found.filter(|arg| arg.get_action().takes_values()) else { return };
        match value {
            Some(value) => self.value(flag, value),
            None => self.flag = Some(flag),
        }
    }

    fn value(&mut self, flag: &Arg, value: &str) {
        if flag.get_long() == Some("data") {
            self.data = Some(value.to_string());
        }
    }

    /// The argument without a flag that comes next; the last one may come often.
    fn place(&self) -> Option<&'c Arg> {
        let places: Vec<&Arg> = self.command.get_positionals().collect();
        let last = places.last().filter(|arg| matches!(arg.get_action(), clap::ArgAction::Append));
        places.get(self.places).or(last).copied()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn asked(line: &str) -> Option<(Kind, String, String)> {
        let words: Vec<String> = line.split(' ').map(ToString::to_string).collect();
        let wanted = wanted(&words, Some("from-env".into()))?;
        Some((wanted.kind, wanted.prefix, wanted.data.to_str().unwrap().to_string()))
    }

    #[test]
    fn the_place_of_a_word_says_what_it_names() {
        for (line, kind, prefix) in [
            ("consume ", Kind::Topics, ""),
            ("consume or", Kind::Topics, "or"),
            ("consume orders -n 3 ", Kind::Topics, ""),
            ("consume orders -g ", Kind::Groups, ""),
            ("consume orders --group b", Kind::Groups, "b"),
            ("consume orders --group = b", Kind::Groups, "b"),
            ("topic describe a b c", Kind::Topics, "c"),
            ("topic trim --to 5 ", Kind::Topics, ""),
            ("topic repartition o", Kind::Topics, "o"),
            ("replay orders --into o", Kind::Topics, "o"),
            ("group lag ", Kind::Groups, ""),
            ("group seek billing --topic o", Kind::Topics, "o"),
            ("-q group delete bill", Kind::Groups, "bill"),
            ("table get ", Kind::Tables, ""),
            ("table put co", Kind::Tables, "co"),
            ("dlq show d", Kind::Topics, "d"),
            ("dlq redrive dlq.orders --to o", Kind::Topics, "o"),
            ("dlq discard --error-class Timeout ", Kind::Topics, ""),
            ("retry list b", Kind::Groups, "b"),
        ] {
            assert_eq!(asked(line), Some((kind, prefix.into(), "from-env".into())), "{line}");
        }
        for line in [
            "",
            "con",
            "topic ",
            "topic create ",
            "topic trim orders ",
            "consume -",
            "consume orders -n ",
            "topic repartition orders --into ",
            "table get counts ",
            "timer cancel ",
            "dlq redrive dlq.orders ",
            "retry explain ",
            "explain ",
            "no verb ",
        ] {
            assert_eq!(asked(line), None, "{line}");
        }
    }

    #[test]
    fn the_directory_is_that_of_the_flag_wherever_it_stands() {
        for line in [
            "--data d consume ",
            "consume --data d ",
            "consume --data=d ",
            "consume --data = d ",
            "-qv --data d group lag ",
        ] {
            let found = asked(line).map(|(_, _, data)| data);
            assert_eq!(found.as_deref(), Some("d"), "{line}");
        }
        assert_eq!(asked("consume --data=d x"), Some((Kind::Topics, "x".into(), "d".into())));
        let words = ["consume".to_string(), String::new()];
        assert_eq!(wanted(&words, None).unwrap().data, PathBuf::from("exactlog-data"));
    }

    #[test]
    fn every_script_asks_for_names() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = String::from_utf8(script(shell)).unwrap();
            assert!(script.contains("__complete"), "{shell}");
        }
        let zsh = String::from_utf8(script(Shell::Zsh)).unwrap();
        for once in ["\n_exactlog() {", "\n_exactlog_verbs() {", "compdef _exactlog exactlog"] {
            assert_eq!(zsh.matches(once).count(), 1, "{once}");
        }
    }
}
