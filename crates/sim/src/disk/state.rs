//! The simulated disk under its mutex: the tree, and the process that uses it.
//!
//! Knows no trait: [`SimDisk`](super::SimDisk) and [`SimFile`](super::file::SimFile) translate.
//!
//! Invariants:
//!   * every call passes [`State::call`] or [`State::operate`], so none is missed by faults, the stop or the points
//!   * an operation has its number even if it fails; a call after the stop has none

use std::collections::BTreeMap;
use std::io;
use std::io::IoSlice;

use super::SimDisk;
use super::choices::Survival;
use super::fault::{Call, ENOSPC, Effect, Plan};
use super::inode::InodeId;
use super::point::{Point, Torn, What};
use super::tree::Tree;

/// The longest simulated file, in bytes: a wild position is an error and not a huge allocation.
const FILE_BYTES_MAX: u64 = 1 << 32;

pub(super) struct State {
    pub(super) tree: Tree,
    pub(super) plan: Plan,
    pub(super) ops: u64,
    pub(super) stop: Option<Stop>,
    pub(super) stopped: bool,
    pub(super) recording: bool,
    pub(super) points: Vec<Point>,
    pub(super) marker: u64,
    pub(super) failed_sync: Survival,
    pub(super) failed_sync_dir_loses_names: bool,
    /// What the holder of the lock wrote.
    pub(super) lock: Option<String>,
    /// How many open files lead to an inode.
    pub(super) open: BTreeMap<InodeId, u64>,
}

/// Where the run ends.
#[derive(Clone, Copy)]
pub(super) struct Stop {
    pub(super) op: u64,
    /// How much of that operation is done, if it is a write; `None` for all.
    pub(super) cut_bytes: Option<u64>,
}

impl State {
    pub(super) fn new(tree: Tree) -> State {
        State {
            tree,
            plan: Plan::default(),
            ops: 0,
            stop: None,
            stopped: false,
            recording: false,
            points: Vec::new(),
            marker: 0,
            failed_sync: Survival::AllLost,
            failed_sync_dir_loses_names: false,
            lock: None,
            open: BTreeMap::new(),
        }
    }

    /// Fails every call after the stop.
    pub(super) fn check_running(&self) -> io::Result<()> {
        if self.stopped { Err(crash()) } else { Ok(()) }
    }

    /// Counts a call that changes nothing on the disk; the error planned for it.
    pub(super) fn call(&mut self, call: Call, name: &str) -> io::Result<()> {
        self.check_running()?;
        self.plan.count(call, name).map_or(Ok(()), |effect| Err(effect.error()))
    }

    /// Does an operation: numbers it, hands the planned fault in, records the point and stops the run if it is due.
    pub(super) fn operate<T>(
        &mut self,
        call: Call,
        name: &str,
        what: impl FnOnce() -> What,
        operation: impl FnOnce(&mut State, Option<Effect>) -> io::Result<T>,
    ) -> io::Result<T> {
        self.check_running()?;
        let op = self.ops;
        self.ops += 1;
        let effect = self.plan.count(call, name);
        let result = operation(self, effect);
        self.stopped |= self.stop.is_some_and(|stop| stop.op == op);
        if self.recording {
            self.record(op, what());
        }
        result
    }

    /// An operation that does nothing if it fails.
    pub(super) fn operate_whole<T>(
        &mut self,
        call: Call,
        name: &str,
        what: impl FnOnce() -> What,
        operation: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        self.operate(call, name, what, |state, effect| match effect {
            Some(effect) => Err(effect.error()),
            None => operation(state),
        })
    }

    pub(super) fn set_marker(&mut self, marker: u64) {
        let changed = self.marker != marker;
        self.marker = marker;
        if changed && self.recording {
            self.record(self.ops.saturating_sub(1), What::Marker);
        }
    }

    /// Writes with all that may go wrong. The operation being done is the last one numbered.
    pub(super) fn write(
        &mut self,
        inode: InodeId,
        name: &str,
        parts: &[IoSlice<'_>],
        pos: u64,
    ) -> io::Result<()> {
        let len = parts.iter().map(|part| part.len() as u64).sum();
        let before = self.recording.then(|| self.tree.clone());
        let what = || What::Write { name: name.into(), pos, len };
        let result = self.operate(Call::Write, name, what, |state, effect| {
            check_len(pos, len)?;
            let (mut limit, mut result) = (len, Ok(()));
            let room_end = state.room_end(inode);
            if pos + len > room_end {
                limit = room_end.saturating_sub(pos);
                result = Err(io::Error::from_raw_os_error(ENOSPC));
            }
            if let Some(effect) = effect {
                limit = if let Effect::Short { bytes, .. } = effect { limit.min(bytes) } else { 0 };
                result = Err(effect.error());
            }
            if let Some(Stop { op, cut_bytes: Some(cut_bytes) }) = state.stop
                && op + 1 == state.ops
                && cut_bytes < limit
            {
                limit = cut_bytes;
                result = Err(crash());
            }
            state.write_prefix(inode, parts, pos, limit);
            result
        });
        if let (Ok(()), Some(before), Some(point)) = (&result, before, self.points.last_mut()) {
            let after = self.tree.file(inode).cached().clone();
            point.torn = Some(Torn { before, inode, after, pos, len });
        }
        result
    }

    pub(super) fn allocate(&mut self, inode: InodeId, name: &str, len: u64) -> io::Result<()> {
        let what = || What::Allocate { name: name.into(), len };
        self.operate_whole(Call::Allocate, name, what, |state| {
            check_len(0, len)?;
            if len > state.room_end(inode) {
                return Err(io::Error::from_raw_os_error(ENOSPC));
            }
            if len > state.tree.file(inode).cached().len() {
                state.tree.file_mut(inode).set_len(len);
            }
            Ok(())
        })
    }

    pub(super) fn sync(&mut self, inode: InodeId, name: &str) -> io::Result<()> {
        let what = || What::Sync { name: name.into() };
        self.operate(Call::Sync, name, what, |state, effect| {
            let file = state.tree.file_mut(inode);
            match effect {
                None => file.sync(),
                Some(_) => file.fail_sync(&mut state.failed_sync),
            }
            effect.map_or(Ok(()), |effect| Err(effect.error()))
        })
    }

    pub(super) fn sync_dir(&mut self, dir: &str) -> io::Result<()> {
        self.operate(
            Call::SyncDir,
            dir,
            || What::SyncDir { dir: dir.into() },
            |state, effect| {
                let id = state.tree.directory(dir)?;
                match effect {
                    None => state.tree.directory_mut(id).sync(),
                    Some(_) if state.failed_sync_dir_loses_names => {
                        state.tree.directory_mut(id).fail_sync(&mut state.failed_sync);
                    }
                    Some(_) => {}
                }
                let open = &state.open;
                state.tree.collect(|inode| open.contains_key(&inode));
                effect.map_or(Ok(()), |effect| Err(effect.error()))
            },
        )
    }

    /// Free space in bytes, if the medium is bounded.
    pub(super) fn free(&self) -> Option<u64> {
        let used = || self.tree.used(|inode| self.open.contains_key(&inode));
        self.tree.capacity.map(|capacity| capacity.saturating_sub(used()))
    }

    /// Up to where a file can be written without running out of space.
    fn room_end(&self, inode: InodeId) -> u64 {
        let Some(free) = self.free() else { return u64::MAX };
        let pages_end = Tree::taken(self.tree.file(inode).cached().len());
        pages_end + free - free % Tree::taken(1)
    }

    fn write_prefix(&mut self, inode: InodeId, parts: &[IoSlice<'_>], mut pos: u64, mut limit: u64) {
        if limit == 0 {
            return;
        }
        let file = self.tree.file_mut(inode);
        for part in parts {
            let n = limit.min(part.len() as u64);
            file.write(&part[..n as usize], pos);
            pos += n;
            limit -= n;
        }
    }

    fn record(&mut self, op: u64, what: What) {
        let disk = SimDisk::with_tree(self.tree.clone());
        self.points.push(Point { op, what, marker: self.marker, disk, torn: None });
    }
}

/// What every call gets after the stop.
fn crash() -> io::Error {
    io::Error::other("simulated crash")
}

pub(super) fn check_len(pos: u64, len: u64) -> io::Result<()> {
    match pos.checked_add(len) {
        Some(end) if end <= FILE_BYTES_MAX => Ok(()),
        _ => Err(io::ErrorKind::FileTooLarge.into()),
    }
}
