//! Takes a look whenever a journal file is synced: what others see while a group isn't durable yet.

use exactlog_sim::layer::Observer;
use std::fmt;
use std::sync::Mutex;

/// What a look gives: the end of a partition, and the lsn of the state.
type Sight = (u64, u64);

type Look = Box<dyn Fn() -> Sight + Send>;

/// Looks, and keeps what it saw.
#[derive(Default)]
pub(crate) struct Watch {
    look: Mutex<Option<Look>>,
    seen: Mutex<Vec<Sight>>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl Watch {
    /// From now on looks before each sync of a journal file.
    pub(crate) fn look_at_each_sync(&self, look: impl Fn() -> Sight + Send + 'static) {
        *self.look.lock().unwrap() = Some(Box::new(look));
    }

    /// What was seen so far.
    pub(crate) fn seen(&self) -> Vec<Sight> {
        self.seen.lock().unwrap().clone()
    }
}

impl Observer for Watch {
    fn before_sync(&self, name: &str) {
        if name.starts_with("journal/") {
            let sight = self.look.lock().unwrap().as_ref().map(|look| look());
            self.seen.lock().unwrap().extend(sight);
        }
    }
}
