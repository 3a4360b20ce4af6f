//! The `exactlog` command: a log's topics, records, groups and files, from a terminal.
//!
//! ```text
//!   arguments -> one verb -> Report (a table and some fields) -> text, json, tsv, yaml     on stdout
//!                         -> Failure (code, message, way out)  -> the same                 exit code
//! ```
//!
//! Invariants
//!   * data goes to stdout, progress and errors to stderr; with a JSON format an error is an object on stdout
//!   * a verb that only reads writes nothing into the directory, and one that destroys does so only with `--execute`
//!   * exit codes: 0 done, 1 something failed, 2 usage, 3 no log there or somebody has it, 4 a check found something,
//!     130 interrupted
#![forbid(unsafe_code)]

mod args;
mod batches;
mod bench;
mod bench_node;
mod breaker;
mod codes;
mod complete;
mod config;
mod consume;
mod copying;
mod dedup;
mod directory;
mod dlq;
mod doctor;
mod envelope;
mod event_id;
mod failure;
mod group;
mod hardware;
mod input;
mod inspect;
mod interrupt;
mod layout;
mod logs;
mod node;
mod node_settings;
mod numbers;
mod offsets;
mod open;
mod place;
mod produce;
mod repair;
mod repartition;
mod replay;
mod report;
mod retry;
mod saga;
mod serve;
mod settings;
mod sink;
mod suggest;
mod table;
mod template;
mod texts;
mod timer;
mod top;
mod topic;
mod topic_settings;
mod txn;
mod unpack;
mod watch;
mod yaml;

use args::{Arguments, IndexVerb, LogVerb, Verb};
use clap::parser::ValueSource;
use clap::{ArgMatches, ColorChoice, CommandFactory, FromArgMatches};
use failure::Failure;
use report::{Format, Report};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    if words.get(1).is_some_and(|word| word == complete::WORD) {
        return finish(complete::run(&words[2..]));
    }
    // Also without a verb.
    if word_behind(&words, "--format") == Some("help") {
        return finish(print(texts::FORMATS).map(|()| 0));
    }
    let command = Arguments::command().color(color_asked_for(&words));
    let parsed = command.try_get_matches_from(&words).and_then(|found| {
        let arguments = Arguments::from_arg_matches(&found)?;
        Ok((arguments, found))
    });
    let (arguments, found) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return refuse(&words, &error),
    };
    let format = arguments.global.format;
    let done = choose_place(arguments, &found).and_then(run).and_then(|report| {
        let exit = report.exit;
        report.print(format)?;
        Ok(exit)
    });
    match done {
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print(format);
            ExitCode::from(failure.exit)
        }
        Ok(exit) => ExitCode::from(exit),
    }
}

/// clap says it itself, but where the caller reads JSON.
fn refuse(words: &[String], error: &clap::Error) -> ExitCode {
    let asked = word_behind(words, "--format");
    match (error.exit_code(), asked) {
        (2, Some("json" | "jsonl")) => {
            let text = error.render().to_string();
            let text = text.trim().trim_start_matches("error: ").replace('\n', " ");
            Failure::usage(text).print(Format::Json);
        }
        _ => {
            let _ = error.print();
        }
    }
    ExitCode::from(error.exit_code() as u8)
}

/// The value of a flag, where the arguments couldn't be parsed or aren't yet.
fn word_behind<'w>(words: &'w [String], flag: &str) -> Option<&'w str> {
    let behind = words.windows(2).find(|pair| pair[0] == flag).map(|pair| pair[1].as_str());
    behind.or_else(|| words.iter().find_map(|word| word.strip_prefix(flag)?.strip_prefix('=')))
}

fn color_asked_for(words: &[String]) -> ColorChoice {
    match word_behind(words, "--color") {
        Some("never") => ColorChoice::Never,
        Some("always") => ColorChoice::Always,
        _ => ColorChoice::Auto,
    }
}

/// Whether the log of a directory is meant or that of a node, if both are named: what the command line says goes before
/// the environment.
fn choose_place(mut arguments: Arguments, found: &ArgMatches) -> Result<Arguments, Failure> {
    let is_said = |name: &str| found.value_source(name) == Some(ValueSource::CommandLine);
    let is_named = |name: &str| is_said(name) || found.value_source(name) == Some(ValueSource::EnvVariable);
    match (is_said("data"), is_said("bootstrap")) {
        (true, true) => Err(Failure::usage("--data and --bootstrap are two places, and a verb works on one")),
        (false, true) => Ok(arguments),
        // A node is on a directory of this machine, whatever its clients have in their environment.
        (false, false)
            if is_named("data") && is_named("bootstrap") && !matches!(arguments.verb, Verb::Serve(_)) =>
        {
            Err(Failure::usage("EXACTLOG_DATA and EXACTLOG_BOOTSTRAP are both set")
                .hint("--data DIR or --bootstrap HOST:PORT says which is meant"))
        }
        (data, false) => {
            if data || matches!(arguments.verb, Verb::Serve(_)) {
                arguments.global.bootstrap = None;
            }
            Ok(arguments)
        }
    }
}

fn run(arguments: Arguments) -> Result<Report, Failure> {
    let Arguments { global, verb } = arguments;
    if global.bootstrap.is_some() {
        place::check_remote(&global, &verb)?;
    }
    report::set_color(global.color);
    if !matches!(verb, Verb::Serve(_)) {
        settings::check(&global.settings)?;
    }
    match verb {
        Verb::Serve(serve) => serve::run(&global, &serve),
        Verb::Topic { verb } => topic::run(&global, verb),
        Verb::Produce(produce) => produce::run(&global, &produce),
        Verb::Consume(consume) => consume::run(&global, &consume),
        Verb::Replay(replay) => replay::run(&global, &replay),
        Verb::Group { verb } => group::run(&global, verb),
        Verb::Txn { verb } => txn::run(&global, &verb),
        Verb::Timer { verb } => timer::run(&global, verb),
        Verb::Table { verb } => table::run(&global, verb),
        Verb::Dedup { verb } => dedup::run(&global, &verb),
        Verb::Dlq { verb } => dlq::run(&global, verb),
        Verb::Retry { verb } => retry::run(&global, verb),
        Verb::Breaker { verb } => breaker::run(verb),
        Verb::Saga { verb } => saga::run(&global, verb),
        Verb::Log { verb: LogVerb::Stat } => inspect::stat(&global),
        Verb::Log { verb: LogVerb::Dump { from, limit } } => inspect::dump(&global, from, limit),
        Verb::Log { verb: LogVerb::Verify } => inspect::verify(&global),
        Verb::Log { verb: LogVerb::Repair { write, .. } } => repair::repair(&global, write),
        Verb::Log { verb: LogVerb::Index { verb: IndexVerb::Rebuild { write } } } => {
            repair::rebuild_indexes(&global, write)
        }
        Verb::Bench { verb } => bench::run(&global, &verb),
        Verb::Top { watching } => top::run(&global, &watching),
        Verb::Doctor => doctor::run(&global),
        Verb::Config { verb } => config::run(verb),
        Verb::Explain { code } => codes::explain(&code),
        Verb::Cheat => print(texts::CHEAT).map(|()| Report::nothing()),
        Verb::Completion { shell } => print_bytes(&complete::script(shell)).map(|()| Report::nothing()),
        Verb::Man => {
            let (mut command, mut page) = (Arguments::command(), Vec::new());
            command.build();
            manual(&command, &mut page)?;
            print_bytes(&page).map(|()| Report::nothing())
        }
    }
}

/// A page for the command and one for each verb, behind each other.
fn manual(command: &clap::Command, page: &mut Vec<u8>) -> Result<(), Failure> {
    clap_mangen::Man::new(command.clone()).render(page).map_err(Failure::output)?;
    command.get_subcommands().filter(|verb| verb.get_name() != "help").try_for_each(|verb| manual(verb, page))
}

fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(Failure::output)
}

fn finish(done: Result<u8, Failure>) -> ExitCode {
    done.map_or(ExitCode::FAILURE, ExitCode::from)
}
