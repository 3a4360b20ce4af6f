//! The node under attack: a process of its own, whose memory is watched.

use crate::Result;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(50);

pub(crate) struct Node {
    process: Child,
    address: SocketAddr,
    said: PathBuf,
}

/// What of a process is in memory, in bytes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Memory {
    /// Of its own.
    pub(crate) anonymous: u64,
    /// Of files: its program, and segments that are mapped. The system takes it back when it needs some.
    pub(crate) of_files: u64,
}

impl Node {
    /// With its defaults, on a free port.
    pub(crate) fn start(program: &Path, directory: &Path) -> Result<Node> {
        let said = directory.join("said");
        let mut process = Command::new(program)
            .arg("serve")
            .arg("--data")
            .arg(directory.join("data"))
            .args(["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(File::create(&said)?)
            .spawn()?;
        let out = process.stdout.take().ok_or("its output isn't piped")?;
        let mut lines = BufReader::new(out).lines();
        let first = lines.next().ok_or("the node ended at once")??;
        let address = first.rsplit(' ').next().unwrap_or_default().parse()?;
        // Somebody has to read the rest.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Node { process, address, said })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn memory(&self) -> Result<Memory> {
        memory_of(self.process.id())
    }

    /// Watches its memory until it is asked for the peak.
    pub(crate) fn watch(&self) -> Watch {
        let (process, over) = (self.process.id(), Arc::new(AtomicBool::new(false)));
        let until = over.clone();
        let watching = std::thread::spawn(move || {
            let mut peak = Memory::default();
            while !until.load(Ordering::Relaxed) {
                if let Ok(now) = memory_of(process) {
                    peak.anonymous = peak.anonymous.max(now.anonymous);
                    peak.of_files = peak.of_files.max(now.of_files);
                }
                std::thread::sleep(LOOK);
            }
            peak
        });
        Watch { over, watching }
    }

    /// That it runs, and that nothing of it has panicked.
    pub(crate) fn check(&self) -> Result<()> {
        self.memory()?;
        let said = fs::read_to_string(&self.said)?;
        match said.lines().find(|line| line.contains("panicked")) {
            Some(line) => Err(format!("the node panicked: {line}").into()),
            None => Ok(()),
        }
    }

    /// Ends it as its operator would.
    pub(crate) fn end(mut self) -> Result<()> {
        self.check()?;
        let pid = self.process.id().to_string();
        Command::new("kill").arg(pid).status()?;
        let status = self.process.wait()?;
        match status.success() {
            true => Ok(()),
            false => Err(format!("the node ended with {status}").into()),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended: then there is nothing to do.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) struct Watch {
    over: Arc<AtomicBool>,
    watching: JoinHandle<Memory>,
}

impl Watch {
    pub(crate) fn peak(self) -> Memory {
        self.over.store(true, Ordering::Relaxed);
        self.watching.join().unwrap_or_default()
    }
}

fn memory_of(process: u32) -> Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("the node has ended")?;
        let kib = line.trim_start_matches(':').trim().trim_end_matches(" kB");
        Ok::<u64, Box<dyn std::error::Error + Send + Sync>>(kib.parse::<u64>()? * 1024)
    };
    Ok(Memory { anonymous: of("RssAnon")?, of_files: of("RssFile")? })
}
