//! A process that is killed: this test program itself, started with one test that is a victim's work.
//!
//! Where a kill lands is left to chance on purpose. What is checked must hold wherever it lands.

use exactlog_sim::rng::Random;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What tells a victim its work: where, and whether it is to end by itself.
const DIRECTORY: &str = "EXACTLOG_SQL_VICTIM";
const FINISHES: &str = "EXACTLOG_SQL_FINISHES";

/// How often each work is killed.
pub(crate) const KILLS: u64 = 50;

/// What a victim was started with; nothing if this is no victim.
pub(crate) struct Work {
    pub(crate) directory: PathBuf,
    /// Nothing new is begun: what is there is finished.
    pub(crate) finishes: bool,
}

/// The work of this process, if it is a victim.
pub(crate) fn work() -> Option<Work> {
    let directory = std::env::var_os(DIRECTORY)?.into();
    Some(Work { directory, finishes: std::env::var_os(FINISHES).is_some() })
}

fn command(test: &str, directory: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--quiet"]).env(DIRECTORY, directory);
    command.stdout(std::process::Stdio::null());
    command
}

/// Runs the work, killed by `SIGKILL` again and again, and then once to its end.
pub(crate) fn kill_again_and_again(test: &str, directory: &Path) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = since.as_nanos() as u64;
    println!("{test}: seed {seed}");
    let mut random = Random::new(seed);
    for kill in 0..KILLS {
        let mut victim = command(test, directory).spawn().unwrap();
        // From the beginning, while it opens, to long after it has got to work.
        let moment = Duration::from_micros(random.below(300_000));
        std::thread::sleep(moment);
        assert_eq!(victim.try_wait().unwrap(), None, "kill {kill}: it has ended by itself");
        victim.kill().unwrap();
        assert!(!victim.wait().unwrap().success());
    }
    let finished: ExitStatus = command(test, directory).env(FINISHES, "").status().unwrap();
    assert!(finished.success(), "{finished}");
}
