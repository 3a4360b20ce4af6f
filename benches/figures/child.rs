//! Processes that this program starts of itself: to be killed, or to be weighed.

use crate::burst::{self, PARTITIONS};
use crate::ids;
use crate::memory;
use crate::requests;
use crate::setup::{self, Result, Ring};
use crate::tables;
use exactlog::{Durability, TopicOptions};
use exactlog_benches::value::Values;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

/// The first argument of a process that is a child.
pub(crate) const ARGUMENT: &str = "child";

/// Runs a child to its end; what it has printed.
pub(crate) fn output(arguments: &[&str]) -> Result<Output> {
    Ok(Command::new(std::env::current_exe()?).arg(ARGUMENT).args(arguments).output()?)
}

/// As [`output`], for a child that ends well.
pub(crate) fn text(arguments: &[&str]) -> Result<String> {
    let output = output(arguments)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("a child {arguments:?} ended with {}: {said}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// What a child does.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["empty"] => memory::print_own(),
        ["idle", directory] => memory::idle(Path::new(directory)),
        ["flood", directory, seconds, bytes] => {
            memory::flood(Path::new(directory), Duration::from_secs(seconds.parse()?), bytes.parse()?)
        }
        ["partitions", directory] => memory::partitions(Path::new(directory)),
        ["ids", directory, count] => ids::fill(Path::new(directory), count.parse()?),
        ["ids-go", directory, count] => ids::go(Path::new(directory), count.parse()?),
        ["tables-put", directory, count] => tables::put(Path::new(directory), count.parse()?),
        ["tables-get", directory, count] => tables::get(Path::new(directory), count.parse()?),
        ["loop", directory, how] => requests::serve_loop(Path::new(directory), how),
        ["node", directory, how] => requests::serve_node(Path::new(directory), how),
        ["written", directory, durability, bytes] => {
            written(Path::new(directory), durability, bytes.parse()?)
        }
        _ => Err(format!("no child does {arguments:?}").into()),
    }
}

/// The durability of this name.
pub(crate) fn durability(name: &str) -> Result<Durability> {
    match name {
        "fsync" => Ok(Durability::Fsync),
        "os" => Ok(Durability::Os),
        _ => Err(format!("no durability is called {name:?}").into()),
    }
}

/// Writes without ever making a checkpoint, and stops as a killed process does.
fn written(directory: &Path, name: &str, bytes: u64) -> Result<()> {
    let log = setup::open(directory, durability(name)?, Ring::HoldsTheBurst, bytes)?;
    let topic = log.create_topic("written", TopicOptions::default().partitions(PARTITIONS))?;
    let producer = log.producer("written")?;
    burst::tickets(&producer, &topic, &mut Values::new(1024), bytes, &[])?;
    std::process::abort()
}
