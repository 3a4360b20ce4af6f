//! Which calls of the simulated disk fail, and how.
//!
//! Not a crash: that is the end of a run (`SimDisk::set_stop_after`), and what it leaves is up to
//! [`Choices`](super::Choices).
//!
//! Invariants:
//!   * each fault counts for itself, from the moment it was planned, the calls that match it
//!   * a call is failed by at most one fault, the one planned first; the others count it all the same

use std::io;

/// "Input/output error" on Linux and macOS.
pub const EIO: i32 = 5;
/// "No space left on device" on Linux and macOS.
pub const ENOSPC: i32 = 28;

/// The calls that can fail. The length of a file always comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Call {
    Open,
    Read,
    Write,
    Sync,
    Allocate,
    Truncate,
    Map,
    List,
    CreateDir,
    Rename,
    Unlink,
    RemoveDir,
    SyncDir,
    Free,
    Lock,
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// With this error number, and nothing was done. A failed [`Call::Sync`] is worse: see
    /// [`SimDisk::set_failed_sync`](super::SimDisk::set_failed_sync).
    Errno(i32),
    /// With an error of this kind that has no number.
    Kind(io::ErrorKind),
    /// A write: the first `bytes` get into the cache, then it fails with the error number. As `Errno` elsewhere.
    Short {
        /// Bytes that are written.
        bytes: u64,
        /// Error number of the rest.
        errno: i32,
    },
}

impl Effect {
    pub(super) fn error(self) -> io::Error {
        match self {
            Effect::Errno(errno) | Effect::Short { errno, .. } => io::Error::from_raw_os_error(errno),
            Effect::Kind(kind) => io::Error::new(kind, "simulated fault"),
        }
    }
}

/// One planned fault.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The call that fails; any if `None`.
    pub call: Option<Call>,
    /// Only calls on names that begin so: a directory, a file, or all if empty.
    pub prefix: String,
    /// How many matching calls succeed before.
    pub skip: u64,
    /// Whether every matching call fails from there on, not just that one.
    pub persistent: bool,
    /// How it fails.
    pub effect: Effect,
}

impl Fault {
    /// Fails the matching call after `skip` others once.
    #[must_use]
    pub fn once(call: Option<Call>, skip: u64, effect: Effect) -> Fault {
        Fault { call, prefix: String::new(), skip, persistent: false, effect }
    }

    /// Fails every matching call after the first `skip`.
    #[must_use]
    pub fn persistent(call: Option<Call>, skip: u64, effect: Effect) -> Fault {
        Fault { persistent: true, ..Fault::once(call, skip, effect) }
    }

    /// Only on names that begin with `prefix`.
    #[must_use]
    pub fn on(self, prefix: &str) -> Fault {
        Fault { prefix: prefix.to_owned(), ..self }
    }
}

/// The planned faults, each with the number of calls that matched it so far.
#[derive(Default)]
pub(super) struct Plan {
    faults: Vec<(Fault, u64)>,
    hits: u64,
}

impl Plan {
    pub(super) fn add(&mut self, fault: Fault) {
        self.faults.push((fault, 0));
    }

    pub(super) fn clear(&mut self) {
        self.faults.clear();
    }

    /// How many calls failed so far.
    pub(super) fn hits(&self) -> u64 {
        self.hits
    }

    /// Counts a call; how it fails if it does.
    pub(super) fn count(&mut self, call: Call, name: &str) -> Option<Effect> {
        let mut effect = None;
        for (fault, seen) in &mut self.faults {
            if fault.call.is_some_and(|wanted| wanted != call) || !name.starts_with(&fault.prefix) {
                continue;
            }
            let due = *seen == fault.skip || (fault.persistent && *seen > fault.skip);
            *seen += 1;
            if due && effect.is_none() {
                effect = Some(fault.effect);
            }
        }
        self.hits += u64::from(effect.is_some());
        effect
    }
}
