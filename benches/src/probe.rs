//! What the machine can do, measured in the same process as the log: the limits that figures are compared with.
//!
//! None of this touches the log's code. A figure without its probe says little: disks and schedulers of two machines,
//! or of one machine on two days, differ by more than two versions of the log do.

use crate::samples::{Samples, Summary};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What one commit costs at least: overwrite 4 KiB of a file that was really written before, and `fdatasync`.
#[derive(Debug)]
pub struct SyncProbe {
    file: File,
    path: PathBuf,
    at: u64,
    block: [u8; SyncProbe::BLOCK_BYTES as usize],
}

impl SyncProbe {
    const BLOCK_BYTES: u64 = 4096;
    const FILE_BYTES: u64 = 64 << 20;
    /// Zeroing in larger writes leaves large folios in the page cache, which make small writes dearer.
    const ZERO_WRITE_BYTES: usize = 64 << 10;

    /// Makes its file in a directory; dropping the probe removes it.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn new(directory: &Path) -> io::Result<SyncProbe> {
        let path = directory.join("probe-sync");
        let mut file = File::create(&path)?;
        let zeros = vec![0; Self::ZERO_WRITE_BYTES];
        for _ in 0..Self::FILE_BYTES / zeros.len() as u64 {
            file.write_all(&zeros)?;
        }
        file.sync_all()?;
        let file = OpenOptions::new().write(true).open(&path)?;
        Ok(SyncProbe { file, path, at: 0, block: [0xa5; Self::BLOCK_BYTES as usize] })
    }

    /// One write and one `fdatasync`, each time at the next block.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn step(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.block, self.at)?;
        self.at = (self.at + Self::BLOCK_BYTES) % Self::FILE_BYTES;
        self.file.sync_data()
    }

    /// How long each of `count` steps took.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn samples(&mut self, count: usize) -> io::Result<Samples> {
        let mut samples = Samples::default();
        for _ in 0..count {
            let began = Instant::now();
            self.step()?;
            samples.push(began.elapsed());
        }
        Ok(samples)
    }
}

impl Drop for SyncProbe {
    fn drop(&mut self) {
        // A directory that is removed as a whole needs nothing from us.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Bytes per second of `write(2)` in 64 KiB pieces to the end of a new file: into the page cache, nothing is synced.
///
/// # Errors
/// Those of the file system.
pub fn write_rate(directory: &Path, bytes: u64) -> io::Result<f64> {
    let path = directory.join("probe-write");
    let mut file = File::create(&path)?;
    let piece = vec![0x5a; 64 << 10];
    let began = Instant::now();
    for _ in 0..bytes / piece.len() as u64 {
        file.write_all(&piece)?;
    }
    let elapsed = began.elapsed();
    std::fs::remove_file(&path)?;
    Ok(bytes as f64 / elapsed.as_secs_f64())
}

/// Bytes per second at which the disk takes what is written to a file that was really written before: 1 MiB pieces,
/// one `fdatasync` after each 4 MiB. What a durable log can't exceed.
///
/// # Errors
/// Those of the file system.
pub fn drain_rate(directory: &Path, bytes: u64) -> io::Result<f64> {
    let path = directory.join("probe-drain");
    let file = File::create(&path)?;
    let piece = vec![0x3c; 1 << 20];
    let pieces = bytes / piece.len() as u64;
    let write = |index: u64| file.write_all_at(&piece, index * piece.len() as u64);
    (0..pieces).try_for_each(write)?;
    file.sync_all()?;
    let began = Instant::now();
    for index in 0..pieces {
        write(index)?;
        if index % 4 == 3 {
            file.sync_data()?;
        }
    }
    file.sync_data()?;
    let elapsed = began.elapsed();
    std::fs::remove_file(&path)?;
    Ok(bytes as f64 / elapsed.as_secs_f64())
}

/// Bytes per second of copying 256 MiB from memory to memory, the best of three.
pub fn copy_rate() -> f64 {
    const COPY_BYTES: usize = 256 << 20;
    let source = vec![1_u8; COPY_BYTES];
    let mut target = vec![2_u8; COPY_BYTES];
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let began = Instant::now();
        target.copy_from_slice(std::hint::black_box(&source));
        std::hint::black_box(&mut target);
        best = best.min(began.elapsed());
    }
    COPY_BYTES as f64 / best.as_secs_f64()
}

/// From the call that wakes a parked thread until it runs.
pub fn wake_up(count: usize) -> Summary {
    let (sent, seen) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let done = Arc::new(AtomicBool::new(false));
    let base = Instant::now();
    let sleeper = std::thread::spawn({
        let (sent, seen, done) = (sent.clone(), seen.clone(), done.clone());
        move || {
            let mut samples = Samples::default();
            while !done.load(Ordering::Acquire) {
                let at = sent.load(Ordering::Acquire);
                if at == seen.load(Ordering::Relaxed) {
                    std::thread::park();
                    continue;
                }
                samples.push(base.elapsed().saturating_sub(Duration::from_nanos(at)));
                seen.store(at, Ordering::Release);
            }
            samples.summary()
        }
    });
    for _ in 0..count {
        // Long enough for it to be parked again.
        std::thread::sleep(Duration::from_micros(200));
        let at = base.elapsed().as_nanos() as u64;
        sent.store(at, Ordering::Release);
        sleeper.thread().unpark();
        while seen.load(Ordering::Acquire) != at {
            std::thread::yield_now();
        }
    }
    done.store(true, Ordering::Release);
    sleeper.thread().unpark();
    sleeper.join().unwrap_or_default()
}
