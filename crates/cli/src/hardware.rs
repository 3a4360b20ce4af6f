//! The machine: what a measurement and a diagnosis say of it. What the system doesn't tell is left out.

use std::fs;
use std::path::{Path, PathBuf};

/// Processors that this process may use, and what they call themselves.
pub(crate) fn processors() -> String {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown", |(_, model)| model.trim());
    format!("{count} x {model}")
}

pub(crate) fn memory_bytes() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1024)
}

pub(crate) fn system() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{} {}", std::env::consts::OS, release.trim()).trim_end().to_string()
}

/// Type of the file system that a path lies on, and its options.
pub(crate) fn file_system(path: &Path) -> Option<(String, String)> {
    let path = path.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mount = |line: &str| {
        let mut words = line.split(' ').skip(1);
        let point = words.next()?.replace("\\040", " ");
        let (kind, options) = (words.next()?.to_string(), words.next()?.to_string());
        path.starts_with(&point).then_some((point.len(), kind, options))
    };
    // The deepest one, and of those at one place the last, which lies on top.
    let deepest = mounts.lines().filter_map(mount).max_by_key(|(len, _, _)| *len);
    deepest.map(|(_, kind, options)| (kind, options))
}

/// Most files that this process may have open.
pub(crate) fn open_files_max() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The nearest directory above a path that is there.
pub(crate) fn existing_parent(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let above = absolute.ancestors().skip(1).find(|above| above.is_dir());
    above.unwrap_or(Path::new("/")).to_path_buf()
}
