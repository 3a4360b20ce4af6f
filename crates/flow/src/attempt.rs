//! One attempt: the handler's future, its time limit, and what becomes of a panic.

use crate::context::Context;
use crate::error::Error;
use crate::failure::Failure;
use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{self, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// What a handler's call is.
pub(crate) type Called = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

/// Processes events: what it hands into the [`Context`] is committed if it succeeds.
///
/// Every `Fn(Context) -> Future<Output = Result<(), E>>` is one.
pub trait Handler: Send + Sync + 'static {
    /// Processes one event. It may be called for several events at a time, but never for two of one key.
    fn call(&self, context: Context) -> Called;

    /// What to do instead of dead-lettering an event whose last attempt has failed so: it was given up, and what this
    /// hands into the context is committed. `None`, and an error of it: it is dead-lettered.
    fn recover(&self, context: Context, failure: &Failure) -> Option<Called> {
        let _ = (context, failure);
        None
    }

    /// The name of the saga that it is, for whoever counts: its events are sagas then.
    #[doc(hidden)]
    fn saga(&self) -> Option<&str> {
        None
    }

    /// Asked when a processor is started with it: an error is that of the start.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }
}

impl<F, R, E> Handler for F
where
    F: Fn(Context) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<Failure>,
{
    fn call(&self, context: Context) -> Called {
        let called = self(context);
        Box::pin(async move { called.await.map_err(Into::into) })
    }
}

/// Runs a handler on one event, from `begin` on. A panic is a failure of kind `panic`, and one that takes
/// too long one of kind `timeout`: both are [`Class::Transient`](crate::Class::Transient).
pub(crate) async fn run(
    handler: &dyn Handler,
    context: Context,
    begin: Instant,
    limit: Duration,
) -> Result<(), Failure> {
    let called = catch_unwind(AssertUnwindSafe(|| handler.call(context)));
    guard(called.map_err(|panic| panicked(&*panic))?, begin, limit).await
}

/// Lets a handler do something about an event that is given up. What it then hands in is in the context of the answer;
/// `None`: nothing is to be done about it.
pub(crate) async fn recover(
    handler: &dyn Handler,
    context: &Context,
    failure: &Failure,
    limit: Duration,
) -> Option<(Context, Result<(), Failure>)> {
    let (context, begin) = (context.afresh(), Instant::now());
    let called = catch_unwind(AssertUnwindSafe(|| handler.recover(context.clone(), failure)));
    let result = match called {
        Ok(None) => return None,
        Ok(Some(called)) => guard(called, begin, limit).await,
        Err(panic) => Err(panicked(&*panic)),
    };
    Some((context, result))
}

async fn guard(mut called: Called, begin: Instant, limit: Duration) -> Result<(), Failure> {
    // It is never polled again after a panic.
    let mut guarded =
        |task: &mut task::Context<'_>| match catch_unwind(AssertUnwindSafe(|| called.as_mut().poll(task))) {
            Ok(polled) => polled,
            Err(panic) => Poll::Ready(Err(panicked(&*panic))),
        };
    // Most handlers have nothing to wait for: they need no timer.
    if let Poll::Ready(result) = poll_fn(|task| Poll::Ready(guarded(task))).await {
        return result;
    }
    let rest = limit.saturating_sub(begin.elapsed());
    match Box::pin(tokio::time::timeout(rest, poll_fn(guarded))).await {
        Ok(result) => result,
        Err(_) => Err(Failure::transient("timeout", format!("the handler took longer than {limit:?}"))),
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Failure {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_string());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    Failure::transient("panic", text.as_deref().unwrap_or("the handler panicked"))
}
