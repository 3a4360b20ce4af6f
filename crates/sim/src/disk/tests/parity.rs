//! The simulated disk does what the real one does, as long as nothing fails.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use exactlog_storage::disk::RealDisk;
use proptest::prelude::*;

use super::*;

/// A directory of its own below the system's temporary one, removed at the end.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Temporary {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Temporary(std::env::temp_dir().join(format!("exactlog-parity-{}-{number}", std::process::id())))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Open { file: usize, name: &'static str, mode: Mode },
    Read { file: usize, pos: u64, len: usize },
    Write { file: usize, pos: u64, parts: Vec<Vec<u8>> },
    Sync { file: usize },
    Allocate { file: usize, len: u64 },
    Truncate { file: usize, len: u64 },
    Map { file: usize },
    CreateDir { name: &'static str },
    Rename { from: &'static str, to: &'static str },
    Unlink { name: &'static str },
    RemoveDir { name: &'static str },
    SyncDir { name: &'static str },
    List { name: &'static str },
    Lock,
}

const NAMES: [&str; 10] = ["", "a", "b", "c", "d", "d/a", "d/b", "d/e", "d/e/a", "d/../a"];
const FILES: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    let name = || prop::sample::select(&NAMES[..]);
    let file = || 0..FILES;
    let mode = prop::sample::select(vec![Mode::Read, Mode::Write, Mode::CreateNew, Mode::CreateNew]);
    let parts = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 0..4);
    prop_oneof![
        6 => (file(), name(), mode).prop_map(|(file, name, mode)| Step::Open { file, name, mode }),
        4 => (file(), 0..9000u64, 0..9000usize).prop_map(|(file, pos, len)| Step::Read { file, pos, len }),
        6 => (file(), 0..9000u64, parts).prop_map(|(file, pos, parts)| Step::Write { file, pos, parts }),
        1 => file().prop_map(|file| Step::Sync { file }),
        2 => (file(), 0..12_000u64).prop_map(|(file, len)| Step::Allocate { file, len }),
        2 => (file(), 0..12_000u64).prop_map(|(file, len)| Step::Truncate { file, len }),
        2 => file().prop_map(|file| Step::Map { file }),
        3 => name().prop_map(|name| Step::CreateDir { name }),
        4 => (prop::sample::select(&NAMES[1..7]), name()).prop_map(|(from, to)| Step::Rename { from, to }),
        2 => name().prop_map(|name| Step::Unlink { name }),
        2 => name().prop_map(|name| Step::RemoveDir { name }),
        1 => name().prop_map(|name| Step::SyncDir { name }),
        4 => name().prop_map(|name| Step::List { name }),
        1 => Just(Step::Lock),
    ]
}

/// Does a step; what came back, with errors as their kind.
fn apply(disk: &dyn Disk, files: &mut [Option<Arc<dyn File>>; FILES], step: &Step) -> String {
    let on = |file: &usize, call: &dyn Fn(&dyn File) -> io::Result<String>| match &files[*file] {
        Some(file) => call(&**file),
        None => Ok("not open".to_owned()),
    };
    let done = |result: io::Result<()>| result.map(|()| "done".to_owned());
    let result = match step {
        Step::Open { file, name, mode } => match disk.open(name, *mode) {
            Ok(opened) => {
                files[*file] = Some(opened);
                Ok("open".to_owned())
            }
            Err(error) => Err(error),
        },
        Step::Read { file, pos, len } => on(file, &|file| {
            let mut buf = vec![0; *len];
            let n = file.read_at(&mut buf, *pos)?;
            Ok(format!("{n} {buf:?}"))
        }),
        Step::Write { file, pos, parts } => on(file, &|file| {
            let parts: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
            done(file.write_at(&parts, *pos)).and_then(|_| Ok(file.len()?.to_string()))
        }),
        Step::Sync { file } => on(file, &|file| done(file.sync())),
        Step::Allocate { file, len } => on(file, &|file| done(file.allocate(*len))),
        Step::Truncate { file, len } => on(file, &|file| done(file.truncate(*len))),
        Step::Map { file } => on(file, &|file| Ok(format!("{:?}", file.map_sealed()?))),
        Step::CreateDir { name } => done(disk.create_dir(name)),
        Step::Rename { from, to } => done(disk.rename(from, to)),
        Step::Unlink { name } => done(disk.unlink(name)),
        Step::RemoveDir { name } => done(disk.remove_dir(name)),
        Step::SyncDir { name } => done(disk.sync_dir(name)),
        Step::List { name } => disk.list(name).map(|entries| format!("{entries:?}")),
        Step::Lock => disk.lock("me").map(|_| "locked".to_owned()),
    };
    result.unwrap_or_else(|error| error.kind().to_string())
}

/// Renaming directories is nothing that a disk promises, and the real one is not asked to refuse it.
fn is_promised(disk: &SimDisk, step: &Step) -> bool {
    let Step::Rename { from, to } = step else { return true };
    [from, to].iter().all(|name| disk.list(name).is_err())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    #[test]
    fn both_disks_answer_alike(steps in prop::collection::vec(step(), 1..60)) {
        let temporary = Temporary::new();
        let real = RealDisk::new(&temporary.0).unwrap().with_mapping(false);
        let simulated = SimDisk::new();
        let (mut real_files, mut simulated_files) = Default::default();
        for step in steps {
            if !is_promised(&simulated, &step) {
                continue;
            }
            let wanted = apply(&real, &mut real_files, &step);
            let found = apply(&simulated, &mut simulated_files, &step);
            prop_assert_eq!(wanted, found, "{:?}", step);
        }
    }
}
