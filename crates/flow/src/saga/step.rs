//! What the code of a step gets: the event's context, and what the saga knows.

use super::instance::{SagaInstance, StepFailure};
use crate::context::Context;
use crate::failure::Failure;
use serde::de::DeserializeOwned;
use std::ops::Deref;
use std::sync::Arc;

/// One attempt at a step of a saga, or at its compensation. It is a [`Context`]: what is handed in becomes true with
/// the step. Events that it sends carry the headers `saga-id` and `saga-step`.
#[derive(Clone, Debug)]
pub struct Step {
    context: Context,
    instance: Arc<SagaInstance>,
    nth: usize,
}

impl Step {
    pub(super) fn new(context: Context, instance: Arc<SagaInstance>, nth: usize) -> Step {
        Step { context, instance, nth }
    }

    /// The step's name.
    pub fn name(&self) -> &str {
        &self.instance.steps[self.nth].name
    }

    /// Everything that is known of this saga.
    pub fn saga(&self) -> &SagaInstance {
        &self.instance
    }

    /// A name for this step of this saga, the same at each attempt: an idempotency key for what it does outside of the
    /// log. (That of the compensation should be another one.)
    pub fn idempotency_key(&self) -> String {
        format!("{}/{}", self.instance.id, self.name())
    }

    /// What a step has answered that is done. A compensation asks for its own step's by its name.
    ///
    /// # Errors
    /// [`Class::Permanent`](crate::Class::Permanent) when that step isn't done, or answered something else.
    pub fn result<T: DeserializeOwned>(&self, step: &str) -> Result<T, Failure> {
        let found = self.instance.steps.iter().find(|it| it.name == step);
        let result = found.and_then(|step| step.result.clone()).ok_or_else(|| {
            let SagaInstance { id, saga, .. } = &*self.instance;
            Failure::permanent("NoResult", format!("step {step:?} of saga {saga:?} {id:?} has no result"))
        })?;
        serde_json::from_value(result)
            .map_err(|error| Failure::permanent("Result", format!("of step {step:?}: {error}")))
    }

    /// Why the saga is compensated, if it is.
    pub fn failure(&self) -> Option<&StepFailure> {
        self.instance.failure.as_ref()
    }
}

impl Deref for Step {
    type Target = Context;

    fn deref(&self) -> &Context {
        &self.context
    }
}
