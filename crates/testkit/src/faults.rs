//! What a test wants to become of requests.
//!
//! Invariants
//!   * what is wanted of the next request of an API is so of one: of the first that comes, whatever connection it is of
//!   * several things that are wanted of one API are so of as many requests, in their order

use crate::refusal::{Api, refusal};
use exactlog_broker::intervention::{Fate, Intervention};
use exactlog_wire::messages::Request;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::watch;

#[derive(Debug)]
pub(crate) struct Faults {
    wanted: Mutex<VecDeque<(Api, Fault)>>,
    paused: watch::Sender<bool>,
}

/// What is wanted of one request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    Refuse(i16),
    Cut,
    Unanswered,
    Delay(Duration),
}

impl Faults {
    pub(crate) fn new() -> Faults {
        Faults { wanted: Mutex::default(), paused: watch::Sender::new(false) }
    }

    pub(crate) fn want(&self, api: Api, fault: Fault) {
        self.wanted.lock().push_back((api, fault));
    }

    /// How many didn't happen yet.
    pub(crate) fn waiting(&self) -> usize {
        self.wanted.lock().len()
    }

    pub(crate) fn clear(&self) {
        self.wanted.lock().clear();
    }

    pub(crate) fn pause(&self, paused: bool) {
        self.paused.send_replace(paused);
    }

    fn take(&self, key: i16) -> Option<Fault> {
        let mut wanted = self.wanted.lock();
        let nth = wanted.iter().position(|(api, _)| api.key() == key)?;
        wanted.remove(nth).map(|(_, fault)| fault)
    }
}

impl Intervention for Faults {
    fn fate<'r>(&'r self, request: &'r Request) -> Pin<Box<dyn Future<Output = Fate> + Send + 'r>> {
        Box::pin(async move {
            // It never fails, as long as the sender is there.
            let _ = self.paused.subscribe().wait_for(|paused| !paused).await;
            match self.take(request.key()) {
                None => Fate::Served,
                Some(Fault::Refuse(code)) => match refusal(request, code) {
                    Some(response) => Fate::Refused(Box::new(response)),
                    None => Fate::Served,
                },
                Some(Fault::Cut) => Fate::Cut,
                Some(Fault::Unanswered) => Fate::Unanswered,
                Some(Fault::Delay(time)) => {
                    tokio::time::sleep(time).await;
                    Fate::Served
                }
            }
        })
    }
}
