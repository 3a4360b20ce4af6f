//! The same work done by exactlog and by other crates, one after the other, in one process on one machine.
//!
//! ```text
//!   cargo run --release --manifest-path benches/rivals/Cargo.toml -- [durable] [batches] [read] [bus] [ids] [--quick]
//!             [--data DIR]
//! ```
//!
//! Prints a table for each piece of work, and below it exactlog's figure over the best of the others, or under it
//! where less is better. Each crate gets a new directory, and the system writes back what it holds before the next.

mod bus;
mod ids;
mod rivals;
mod work;

use rivals::Result;
use std::path::PathBuf;

/// How much is done, and where.
pub(crate) struct Plan {
    pub(crate) directory: PathBuf,
    pub(crate) quick: bool,
}

impl Plan {
    pub(crate) fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

type Suite = fn(&Plan) -> Result<()>;

const SUITES: [(&str, Suite); 5] = [
    ("durable", work::durable),
    ("batches", work::batches),
    ("read", work::read),
    ("bus", bus::run),
    ("ids", ids::run),
];

fn main() -> Result<()> {
    let mut plan = Plan { directory: std::env::temp_dir(), quick: false };
    let mut wanted = Vec::new();
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|it| it == ids::MEMORY).is_some() {
        return ids::say_memory(arguments.next().ok_or("of which directory?")?.as_ref());
    }
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => plan.quick = true,
            "--data" => plan.directory = arguments.next().ok_or("--data needs a directory")?.into(),
            name if SUITES.iter().any(|(known, _)| *known == name) => wanted.push(argument),
            other => {
                let names: Vec<&str> = SUITES.iter().map(|(name, _)| *name).collect();
                return Err(format!("{other:?}: known are {}, --quick, --data DIR", names.join(", ")).into());
            }
        }
    }
    if plan.quick {
        println!("Small amounts: this shows that everything works, not how fast it is.\n");
    }
    for (name, suite) in SUITES {
        if wanted.is_empty() || wanted.iter().any(|it| it == name) {
            suite(&plan)?;
        }
    }
    Ok(())
}
