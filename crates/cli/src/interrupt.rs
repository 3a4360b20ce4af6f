//! Ctrl-C, and SIGTERM, as service managers send it: the first one asks the verb to end properly, the second one ends
//! it.

use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

/// The exit code of a verb that was interrupted.
pub(crate) const EXIT: u8 = 130;

static ASKED: AtomicBool = AtomicBool::new(false);

/// From here on Ctrl-C and SIGTERM are only noted.
pub(crate) fn watch() {
    let (send, ready) = channel();
    // Without a thread for it Ctrl-C ends the process at once, as it does without being watched.
    let _ = std::thread::Builder::new().name("exactlog-interrupt".into()).spawn(|| wait(send));
    // An error: the sender is gone, with the thread that couldn't watch.
    let _ = ready.recv();
}

fn wait(ready: Sender<()>) {
    let Ok(runtime) = Builder::new_current_thread().enable_all().build() else { return };
    let signals = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    };
    let (Ok(mut interrupts), Ok(mut terminations)) = signals else { return };
    let _ = ready.send(());
    let mut next = async || {
        tokio::select! {
            interrupt = interrupts.recv() => interrupt,
            termination = terminations.recv() => termination,
        }
    };
    while runtime.block_on(next()).is_some() {
        if ASKED.swap(true, Ordering::AcqRel) {
            process::exit(EXIT.into());
        }
    }
}

/// Whether one of them came.
pub(crate) fn asked() -> bool {
    ASKED.load(Ordering::Acquire)
}
