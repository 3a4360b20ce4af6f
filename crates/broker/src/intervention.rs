//! What may come between a request and its handler: nothing, but in tests.

use exactlog_wire::messages::{Request, Response};
use std::fmt;
use std::future::Future;
use std::pin::Pin;

/// Who decides what becomes of each request before it is handled. For tests.
pub trait Intervention: fmt::Debug + Send + Sync {
    /// What becomes of a request. Its connection waits for that; those that the client has sent behind it wait, too.
    fn fate<'r>(&'r self, request: &'r Request) -> Pin<Box<dyn Future<Output = Fate> + Send + 'r>>;
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Fate {
    /// It is handled.
    Served,
    /// It is answered by this, and nobody has handled it.
    Refused(Box<Response>),
    /// Nobody has heard it: its connection ends.
    Cut,
    /// It is handled, and its connection ends instead of the answer.
    Unanswered,
}
