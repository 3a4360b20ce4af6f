//! Processes that are killed, and what their logs hold afterwards. Shared by the tests that kill.
//!
//! Where a kill lands is left to chance on purpose: the seed decides how long is waited, the machine decides what the
//! process is doing then. What is checked must hold wherever it lands.

use exactlog::{Log, Record, Topic};
use exactlog_sim::rng::Random;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

/// How long a process may be silent. A test that fails says more than one that hangs.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Lines that are read ahead. Few, so that a process writes on only as its lines are taken.
const LINES_AHEAD: usize = 16;

/// A process whose lines are read, and which is killed by `SIGKILL` at the latest when this is dropped.
pub(crate) struct Victim {
    child: Child,
    lines: Receiver<String>,
}

impl Victim {
    pub(crate) fn start(command: &mut Command) -> Victim {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the process starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is a pipe"));
        let (sender, lines) = sync_channel(LINES_AHEAD);
        std::thread::spawn(move || {
            let mut line = String::new();
            // Of a last line without its end nothing is known.
            while stdout.read_line(&mut line).is_ok() && line.ends_with('\n') {
                if sender.send(line.trim_end().to_string()).is_err() {
                    return;
                }
                line.clear();
            }
        });
        Victim { child, lines }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next whole line; nothing when the process has ended.
    pub(crate) fn line(&mut self) -> Option<String> {
        match self.lines.recv_timeout(SILENCE_MAX) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("process {} is silent for {SILENCE_MAX:?}", self.id()),
        }
    }

    /// Kills it, after a moment of at most `moment_max`. The lines that were still on their way, and how it ended.
    pub(crate) fn kill(mut self, random: &mut Random, moment_max: Duration) -> (Vec<String>, ExitStatus) {
        let moment = Duration::from_micros(random.below(moment_max.as_micros() as u64 + 1));
        let begin = Instant::now();
        // Not a sleep: that would be rounded to the ticks of the scheduler, and kills would land on these.
        while begin.elapsed() < moment {
            std::hint::spin_loop();
        }
        self.child.kill().expect("it was not waited for yet");
        let lines = std::iter::from_fn(|| self.line()).collect();
        (lines, self.child.wait().expect("it was started"))
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // Both fail if it was killed and waited for already, and that is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Shows all records of a topic, and checks that its offsets are dense.
pub(crate) fn each_record(log: &Log, topic: &Topic, mut show: impl FnMut(Record)) {
    for partition in 0..topic.partitions() {
        let view = log.read_view();
        let (mut offset, end) = log.bounds(topic, partition).unwrap();
        assert_eq!(offset, 0, "nothing was trimmed");
        while offset < end {
            let records = view.read(topic, partition, offset, 1024 * 1024).unwrap();
            assert!(!records.is_empty(), "{} {partition}: no record at {offset} of {end}", topic.name());
            for record in records {
                assert_eq!(record.offset, offset, "{} {partition}", topic.name());
                offset += 1;
                show(record);
            }
        }
    }
}
