//! Ctrl-C: the first one asks the verb to end properly, the second one ends it.

use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

/// The exit code of a verb that was interrupted.
pub(crate) const EXIT: u8 = 130;

static ASKED: AtomicBool = AtomicBool::new(false);

/// From here on Ctrl-C only notes that it was pressed.
pub(crate) fn watch() {
    let waits = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return };
        while runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            if ASKED.swap(true, Ordering::AcqRel) {
                process::exit(EXIT.into());
            }
        }
    };
    // Without a thread for it Ctrl-C ends the process at once, as it does without being watched.
    let _ = std::thread::Builder::new().name("exactlog-interrupt".into()).spawn(waits);
}

/// Whether it was pressed.
pub(crate) fn asked() -> bool {
    ASKED.load(Ordering::Acquire)
}
