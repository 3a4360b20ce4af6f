//! The points of a run at which a crash can be tried.
//!
//! One run of a workload with `SimDisk::record_points` gives them all; each holds a copy of the whole disk that
//! shares its pages with all others.
//!
//! Invariants:
//!   * between two neighbouring points neither the disk nor the marker changed, so no crash falls between them

use std::sync::Arc;

use super::SimDisk;
use super::content::Content;
use super::inode::InodeId;
use super::tree::Tree;

/// What was done just before a point.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum What {
    Create {
        name: Arc<str>,
    },
    Write {
        name: Arc<str>,
        pos: u64,
        len: u64,
    },
    Sync {
        name: Arc<str>,
    },
    Allocate {
        name: Arc<str>,
        len: u64,
    },
    Truncate {
        name: Arc<str>,
        len: u64,
    },
    CreateDir {
        dir: Arc<str>,
    },
    Rename {
        from: Arc<str>,
        to: Arc<str>,
    },
    Unlink {
        name: Arc<str>,
    },
    RemoveDir {
        dir: Arc<str>,
    },
    SyncDir {
        dir: Arc<str>,
    },
    /// No operation: the marker changed. The disk is that of the point before.
    Marker,
}

/// The disk after one operation, or after a change of the marker.
#[derive(Clone, Debug)]
pub struct Point {
    /// Number of the operation, counted from 0 (for [`What::Marker`] of the last one before).
    pub op: u64,
    /// The operation. It may have failed, if a fault was planned.
    pub what: What,
    /// What the test had set last with `SimDisk::set_marker`.
    pub marker: u64,
    /// The disk as it was, with its unsynced parts: to take images of with `power_loss` and `process_kill`.
    pub disk: SimDisk,
    pub(super) torn: Option<Torn>,
}

/// A write, and the disk before it.
#[derive(Clone)]
pub(super) struct Torn {
    pub(super) before: Tree,
    pub(super) inode: InodeId,
    /// What was written, at its place in an otherwise empty content.
    pub(super) after: Content,
    pub(super) pos: u64,
    pub(super) len: u64,
}

impl Point {
    /// How many bytes the write of this point wrote, if it is one that succeeded.
    #[must_use]
    pub fn written_bytes(&self) -> Option<u64> {
        self.torn.as_ref().map(|torn| torn.len)
    }

    /// The disk after the process was killed within the write of this point, when `cut_bytes` of it were in the
    /// cache. `None` if this point is no write, or one that failed or isn't that long.
    #[must_use]
    pub fn torn_kill(&self, cut_bytes: u64) -> Option<SimDisk> {
        let torn = self.torn.as_ref().filter(|torn| cut_bytes <= torn.len)?;
        let mut prefix = vec![0; cut_bytes as usize];
        torn.after.read(&mut prefix, torn.pos);
        let mut tree = torn.before.clone();
        tree.file_mut(torn.inode).write(&prefix, torn.pos);
        tree.collect(|_| false);
        Some(SimDisk::with_tree(tree))
    }
}

impl std::fmt::Debug for Torn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Torn").field("pos", &self.pos).field("len", &self.len).finish_non_exhaustive()
    }
}
