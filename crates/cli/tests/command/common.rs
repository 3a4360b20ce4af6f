//! A directory, and the command run on it.

use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take before the test is a failure: never waited for when all is well.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Place {
    _directory: tempfile::TempDir,
    pub(crate) data: PathBuf,
}

/// What a call answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) exit: Option<i32>,
}

impl Answer {
    pub(crate) fn of(output: Output) -> Answer {
        Answer {
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
            exit: output.status.code(),
        }
    }

    /// Its output, if it went well.
    #[track_caller]
    pub(crate) fn good(self) -> String {
        assert_eq!(self.exit, Some(0), "{self:?}");
        self.out
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.out.lines().count(), 1, "one object: {self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Fails with this exit code, and says this on stderr.
    #[track_caller]
    pub(crate) fn fails(&self, exit: i32, text: &str) {
        assert_eq!(self.exit, Some(exit), "{self:?}");
        assert!(self.err.contains(text), "{text:?} isn't in {self:?}");
    }
}

impl Answer {
    /// Fails with exit code 1, and a row says this code.
    #[track_caller]
    pub(crate) fn fails_in_row(&self, code: &str) {
        assert_eq!(self.exit, Some(1), "{self:?}");
        assert!(self.out.contains(code), "{code:?} isn't in {self:?}");
    }
}

impl Place {
    pub(crate) fn new() -> Place {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        Place { _directory: directory, data }
    }

    /// With the topic `t`.
    pub(crate) fn with_topic(partitions: u32) -> Place {
        let place = Place::new();
        place.run(&["topic", "create", "t", "-p", &partitions.to_string()]).good();
        place
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_exactlog"));
        command.args(arguments).env("EXACTLOG_DATA", &self.data).env_remove("NO_COLOR");
        command.env_remove("EXACTLOG_BOOTSTRAP");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Answer {
        Answer::of(self.command(arguments).output().unwrap())
    }

    pub(crate) fn run_with(&self, arguments: &[&str], input: impl AsRef<[u8]>) -> Answer {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.as_ref().to_vec();
        // It may end before it has read everything.
        let writes = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let answer = Answer::of(child.wait_with_output().unwrap());
        writes.join().unwrap();
        answer
    }

    /// Every file of the directory, with its bytes.
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut all = BTreeMap::new();
        gather(&self.data, &mut all);
        all
    }

    /// Records of the topic, as somebody sees it who looks.
    pub(crate) fn records(&self, topic: &str) -> u64 {
        let listed = self.run(&["topic", "list", "--format", "tsv"]).good();
        let mut rows = listed.lines().map(|line| line.split('\t').collect::<Vec<_>>());
        rows.find(|row| row[0] == topic).map_or(0, |row| row[2].parse().unwrap())
    }
}

fn gather(dir: &Path, all: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => gather(&path, all),
            false => drop(all.insert(path.clone(), std::fs::read(&path).unwrap())),
        }
    }
}

/// Asks until the answer is yes; a bound on time is a failure.
pub(crate) fn until(what: &str, mut yes: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !yes() {
        assert!(Instant::now() < deadline, "{what} never happened");
        std::thread::yield_now();
    }
}

/// A process that is killed when the test ends, however it ends.
pub(crate) struct Running(pub(crate) Option<Child>);

impl Running {
    pub(crate) fn kill(mut self) {
        let mut child = self.0.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// As Ctrl-C in a terminal.
    pub(crate) fn interrupt(self) -> Answer {
        self.ends("-INT")
    }

    pub(crate) fn ends(mut self, signal: &str) -> Answer {
        self.signal(signal);
        Answer::of(self.0.take().unwrap().wait_with_output().unwrap())
    }

    pub(crate) fn signal(&self, signal: &str) {
        let id = self.0.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(crate) fn lines(range: std::ops::Range<u32>) -> String {
    range.map(|number| format!("line {number}\n")).collect()
}
