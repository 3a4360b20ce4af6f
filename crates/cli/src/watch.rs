//! A report again and again, until Ctrl-C: each a look of its own at the directory.

use crate::args::{Global, Watching};
use crate::failure::Failure;
use crate::interrupt;
use crate::report::{Format, Report};
use std::io::{IsTerminal, Write};
use std::thread;
use std::time::{Duration, Instant};

/// How often it is asked whether Ctrl-C was pressed.
const BEAT: Duration = Duration::from_millis(50);

/// Clears the screen and goes to its first line.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Prints what `look` says every so often. With `--format json` that is one object a line. The last report is answered,
/// as if nothing had been watched: its exit code is the verb's.
pub(crate) fn run(
    global: &Global,
    watching: &Watching,
    mut look: impl FnMut() -> Result<Report, Failure>,
) -> Result<Report, Failure> {
    let Some(every) = watching.watch else { return look() };
    interrupt::watch();
    let clears = matches!(global.format, Format::Text | Format::Wide) && std::io::stdout().is_terminal();
    let mut times = 0;
    loop {
        let report = look()?;
        times += 1;
        if interrupt::asked() || watching.times.is_some_and(|most| times >= most) {
            return Ok(report);
        }
        if clears {
            let mut out = std::io::stdout().lock();
            out.write_all(CLEAR.as_bytes()).map_err(Failure::output)?;
        }
        report.print(global.format)?;
        let until = Instant::now() + every;
        while Instant::now() < until && !interrupt::asked() {
            thread::sleep(BEAT.min(until.saturating_duration_since(Instant::now())));
        }
        if interrupt::asked() {
            return Ok(Report::nothing());
        }
    }
}
