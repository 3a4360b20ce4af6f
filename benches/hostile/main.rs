//! What clients that mean harm, or are broken, do to the others of a node, and to its memory.
//!
//! ```sh
//! cargo build --release -p exactlog-cli
//! cargo run --release -p exactlog-benches --example hostile                       # all, about four minutes
//! cargo run --release -p exactlog-benches --example hostile -- idle slow-readers  # some attacks
//! cargo run --release -p exactlog-benches --example hostile -- --seconds 3        # to see that it works
//! ```
//!
//! It starts `exactlog serve` (`--node`: another one than that beside it) with its defaults on a port of its own, below
//! `--dir` (default: the current directory), measures ordinary clients at a fixed rate, alone and beside each attack,
//! and prints one Markdown table. It fails if the node panics or ends.
//!
//! ```text
//!   ordinary clients alone -> for each attack: begin it, measure beside it, end it, look at memory -> alone once more
//! ```
#![forbid(unsafe_code)]

mod attacks;
mod client;
mod lies;
mod node;
mod ordinary;
mod table;

use attacks::ATTACKS;
use node::Node;
use ordinary::Ordinary;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::path::PathBuf;
use std::time::Duration;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

struct Arguments {
    node: PathBuf,
    directory: PathBuf,
    seconds: Duration,
    wanted: Vec<String>,
}

fn main() -> Result<()> {
    let arguments = arguments()?;
    let files = raise_files();
    let scratch = tempfile::Builder::new().prefix("exactlog-hostile-").tempdir_in(&arguments.directory)?;
    let node = Node::start(&arguments.node, scratch.path())?;
    let target = node.address();
    ordinary::prepare(target)?;
    let clients = Ordinary::connect(target)?;
    let measure = |name: &str| {
        let (before, watch) = (node.memory()?, node.watch());
        let latencies = clients.measure(arguments.seconds)?;
        let peak = watch.peak();
        std::thread::sleep(table::SETTLE);
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(table::Row {
            name: name.into(),
            latencies,
            before,
            peak,
            after: node.memory()?,
            note: String::new(),
        })
    };
    // What is done for the first time isn't typical.
    clients.measure(Duration::from_secs(1))?;
    let alone = measure("none")?;
    table::begin(files, arguments.seconds);
    alone.print(&alone);
    let wanted = |name: &str| arguments.wanted.is_empty() || arguments.wanted.iter().any(|it| it == name);
    for attack in ATTACKS.iter().filter(|attack| wanted(attack.name)) {
        let (before, watch) = (node.memory()?, node.watch());
        let attacking = (attack.begin)(target)?;
        let latencies = clients.measure(arguments.seconds)?;
        let note = attacking.end();
        let peak = watch.peak();
        std::thread::sleep(table::SETTLE);
        let row =
            table::Row { name: attack.what.into(), latencies, before, peak, after: node.memory()?, note };
        row.print(&alone);
        node.check()?;
    }
    measure("none, at the end")?.print(&alone);
    drop(clients);
    node.end()
}

fn arguments() -> Result<Arguments> {
    let beside = std::env::current_exe()?;
    // target/release/examples/hostile -> target/release/exactlog
    let beside = beside.ancestors().nth(2).ok_or("this program lies in no target directory")?;
    let mut arguments = Arguments {
        node: beside.join("exactlog"),
        directory: ".".into(),
        seconds: Duration::from_secs(15),
        wanted: Vec::new(),
    };
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        let mut value = |what: &str| given.next().ok_or(format!("{argument} needs {what}"));
        match argument.as_str() {
            "--node" => arguments.node = value("the path of exactlog")?.into(),
            "--dir" => arguments.directory = value("a directory")?.into(),
            "--seconds" => arguments.seconds = Duration::from_secs(value("a number of seconds")?.parse()?),
            name if ATTACKS.iter().any(|attack| attack.name == name) => arguments.wanted.push(argument),
            unknown => {
                let names: Vec<&str> = ATTACKS.iter().map(|attack| attack.name).collect();
                let known = names.join(", ");
                return Err(
                    format!("{unknown:?} is neither --node, --dir, --seconds nor one of {known}").into()
                );
            }
        }
    }
    if !arguments.node.is_file() {
        let path = arguments.node.display();
        return Err(format!("there is no {path}: cargo build --release -p exactlog-cli makes it").into());
    }
    Ok(arguments)
}

/// Each connection is a file: as many as this process may have.
fn raise_files() -> u64 {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // An error: then what holds now goes on holding.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
