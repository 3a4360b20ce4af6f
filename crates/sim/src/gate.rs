//! A disk whose next write of the journal can be made to wait, or to panic: for what happens meanwhile.

use crate::disk::SimDisk;
use crate::layer::{Layer, Observer};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::Duration;

/// How long somebody is waited for who has to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A simulated disk behind a gate.
#[derive(Debug, Default)]
pub struct GatedDisk {
    /// The disk itself.
    pub disk: SimDisk,
    gate: Arc<Gate>,
}

#[derive(Debug, Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    shut: bool,
    waiting: bool,
    panics: bool,
}

impl GatedDisk {
    /// The disk for a log, behind the gate.
    pub fn layer(&self) -> Layer {
        Layer::over(&self.disk, self.gate.clone())
    }

    /// Every write of the journal waits from now on.
    pub fn shut(&self) {
        self.gate.state.lock().shut = true;
    }

    /// Waits until a write of the journal waits.
    pub fn wait_until_reached(&self) {
        let mut state = self.gate.state.lock();
        while !state.waiting {
            let timed_out = self.gate.changed.wait_for(&mut state, PATIENCE).timed_out();
            assert!(!timed_out, "nobody came to the gate");
        }
    }

    /// Lets all go on.
    pub fn open_gate(&self) {
        let mut state = self.gate.state.lock();
        state.shut = false;
        state.waiting = false;
        self.gate.changed.notify_all();
    }

    /// The next write of the journal panics.
    pub fn panic_once(&self) {
        self.gate.state.lock().panics = true;
    }
}

impl Observer for Gate {
    fn before_write(&self, name: &str) {
        // Files are made ahead by another thread, which nobody waits for. Everybody else may be who writes the groups.
        if !name.starts_with("journal/") || std::thread::current().name() == Some("exactlog-behind") {
            return;
        }
        let mut state = self.state.lock();
        if std::mem::take(&mut state.panics) {
            drop(state);
            panic!("a planned panic of the disk");
        }
        while state.shut {
            state.waiting = true;
            self.changed.notify_all();
            self.changed.wait(&mut state);
        }
    }
}
