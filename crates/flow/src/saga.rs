//! Sagas: steps in an order, each a commit, and what undoes them in the reverse order if one fails.
//!
//! ```text
//!   event -> step, step, step                      -> done, outcome `completed`
//!                       \ fails for good -> undo, undo -> done, outcome `compensated`
//!                                                \ fails for good -> the others; then dead, and may be tried once more
//! ```
//!
//! A saga is a handler that works in stages: each call does one step, or one compensation, and its commit has the
//! step's outputs and the row that says so. Between two of them the event waits in the group's table as a failed one
//! does, so retry, order by key, dead letters and redrive are the processor's.
//!
//! Invariants
//!   * a row of a saga that is under way has its event waiting in the group's table, or dead
//!   * whatever dies, nothing of what is known is lost: a redrive goes on where it was

mod inspect;
mod instance;
mod step;

pub use inspect::Sagas;
pub use instance::{OnCompensationFailure, SagaInstance, SagaStatus, SagaStep, StepFailure, StepStatus};
pub use step::Step;

use crate::attempt::{Called, Handler};
use crate::clock::ms;
use crate::context::Context;
use crate::error::Error;
use crate::failure::{Class, Failure};
use crate::inspect::table_name as group_table;
use crate::outbox::End;
use crate::parked::{row_key, row_prefix_of};
use exactlog::{KeyRange, Log, Table, TableOptions};
use instance::Next;
use serde::Serialize;
use serde_json::Value;
use std::fmt::{self, Debug};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// Most bytes of a step's result, as JSON.
const RESULT_BYTES_MAX: usize = 1024 * 1024;
/// Most bytes of a row.
const ROW_BYTES_MAX: u32 = 16 * 1024 * 1024;
/// How long a saga that has ended is kept.
const RETENTION: Duration = Duration::from_secs(7 * 86_400);
/// How many of those that were kept long enough are forgotten when another one ends.
const FORGET_MAX: usize = 2;

/// Outcomes of events whose sagas have ended, as groups count them.
pub(crate) const COMPLETED: &str = "completed";
pub(crate) const COMPENSATED: &str = "compensated";
/// What an event died of whose saga couldn't be compensated.
pub(crate) const NOT_COMPENSATED: &str = "CompensationFailed";

type Stepped = Pin<Box<dyn Future<Output = Result<Value, Failure>> + Send>>;
type Deed = Arc<dyn Fn(Step) -> Stepped + Send + Sync>;

/// Steps that have to be done all, or undone: plain code, no diagram.
///
/// It is a handler: give it to [`Processor::start`](crate::Processor::start). Each event begins one, whose id is the
/// event's ([`Context::event_id`]).
///
/// ```
/// # use exactlog::{Event, Log, TopicOptions};
/// # use exactlog_flow::{Failure, Processor, Retry, Saga, SagaStatus, Sagas, Step};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let log = Log::open(directory.path())?;
/// # let orders = log.create_topic("orders", TopicOptions::default())?;
/// # log.producer("shop")?.blocking_send(&orders, Event::new("order-1", "two chairs"))?;
/// let order = Saga::new(&log, "order")?
///     .step("reserve", |step: Step| async move { Ok::<_, Failure>(step.value_str()?.len()) })
///     .compensate(|step: Step| async move {
///         let reserved: usize = step.result("reserve")?;
///         Ok::<_, Failure>(println!("{reserved} put back"))
///     })
///     .step("charge", |_: Step| async { Err::<(), _>(Failure::permanent("CardRefused", "no money")) });
///
/// let running = Processor::new(&log, "order").topic(&orders).start(order)?;
/// running.until(|metrics| metrics.counts.done.get("compensated") == Some(&1)).await?;
/// # running.stop().await?;
/// let saga = Sagas::open(&log, "order")?.get("orders/0/0")?.unwrap();
/// assert_eq!(saga.status, SagaStatus::Compensated);
/// assert_eq!(saga.failure.unwrap().kind, "CardRefused");
/// # Ok(())
/// # }
/// ```
///
/// What a step answers is kept, and later steps and compensations find it ([`Step::result`]). A step that fails is
/// tried again as the processor's [`Retry`](crate::Retry) says; when that ends, the steps that are done are
/// compensated, the last one first, each with retries of its own. Then the event is *done*, with the outcome
/// `compensated`. If a compensation fails for good the others are done all the same, and the event is *dead*
/// (`CompensationFailed`); redriving it ([`Sagas::retry_compensation`]) tries what is left.
///
/// Steps run at least once, as handlers do: their effects in the log are exact, those outside need
/// [`Step::idempotency_key`]. A step that has failed isn't compensated: it leaves nothing behind, or undoes it itself.
///
/// An event of which a copy is under way or has ended is a duplicate, also without a [`Dedup`](crate::Dedup). One that
/// can't be decoded ([`Class::Poison`]) before a step is done is dead-lettered, and no saga. A saga is done by one
/// group.
#[derive(Clone)]
#[must_use = "give it to a processor"]
pub struct Saga {
    log: Log,
    table: Table,
    name: Arc<str>,
    version: u32,
    timeout: Option<Duration>,
    on_compensation_failure: OnCompensationFailure,
    retention: Duration,
    steps: Vec<Code>,
}

/// The code of a step.
#[derive(Clone)]
struct Code {
    name: Arc<str>,
    deed: Deed,
    undo: Undo,
}

#[derive(Clone)]
enum Undo {
    By(Deed),
    Nothing,
    /// It wasn't said.
    Unknown,
}

impl Saga {
    /// A saga of this name, which keeps what it knows in the table `saga.<name>`.
    ///
    /// # Errors
    /// What the log says to a new table.
    pub fn new(log: &Log, name: &str) -> Result<Saga, Error> {
        let options = TableOptions::default().max_message_bytes(ROW_BYTES_MAX);
        Ok(Saga {
            log: log.clone(),
            table: log.create_table(&inspect::table_name(name), options)?,
            name: name.into(),
            version: 1,
            timeout: None,
            on_compensation_failure: OnCompensationFailure::default(),
            retention: RETENTION,
            steps: Vec::new(),
        })
    }

    /// Adds a step. Its name is stored with each saga that is under way: rename it, and those that have it left to do
    /// are dead-lettered (`UnknownStep`) until code that knows it redrives them.
    pub fn step<F, R, T, E>(mut self, name: impl Into<Arc<str>>, deed: F) -> Saga
    where
        F: Fn(Step) -> R + Send + Sync + 'static,
        R: Future<Output = Result<T, E>> + Send + 'static,
        T: Serialize,
        E: Into<Failure>,
    {
        self.steps.push(Code { name: name.into(), deed: as_deed(deed), undo: Undo::Unknown });
        self
    }

    /// What undoes the step before it.
    pub fn compensate<F, R, E>(mut self, undo: F) -> Saga
    where
        F: Fn(Step) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Failure>,
    {
        if let Some(step) = self.steps.last_mut() {
            step.undo = Undo::By(as_deed(undo));
        }
        self
    }

    /// There is nothing to undo about the step before it. Each step but the last needs one of the two.
    pub fn nothing_to_compensate(mut self) -> Saga {
        if let Some(step) = self.steps.last_mut() {
            step.undo = Undo::Nothing;
        }
        self
    }

    /// Version of the code, which is stored with each saga that begins. Default 1.
    pub fn version(mut self, version: u32) -> Saga {
        self.version = version;
        self
    }

    /// How long all steps may take (`saga.timeout.ms`). Default: no limit. After that no step is begun: what is done is
    /// compensated (`SagaTimeout`).
    pub fn timeout(mut self, timeout: Duration) -> Saga {
        self.timeout = Some(timeout);
        self
    }

    /// What follows when a compensation has failed. Default: the others are done all the same.
    pub fn on_compensation_failure(mut self, then: OnCompensationFailure) -> Saga {
        self.on_compensation_failure = then;
        self
    }

    /// How long a saga that has ended is kept at least (`saga.retention.ms`). Default seven days. Those whose
    /// compensation has failed are kept until it hasn't.
    pub fn retention(mut self, retention: Duration) -> Saga {
        self.retention = retention;
        self
    }

    /// Does what is next.
    async fn advance(&self, context: Context) -> Result<(), Failure> {
        let Some(mut instance) = self.instance(&context)? else { return context.end(End::Duplicate) };
        let next = instance.next();
        let nth = match next {
            Next::Do(nth) | Next::Undo(nth) => nth,
            Next::Nothing => return self.save(&context, instance, None),
        };
        if let (Next::Do(_), Some(failure)) = (next, self.timed_out(&context, &instance)) {
            instance.failed(nth, &failure);
            return self.save(&context, instance, Some(failure));
        }
        let deed = self.deed(&instance, next)?;
        context.stamp(vec![
            ("saga-id", instance.id.clone().into()),
            ("saga-step", instance.steps[nth].name.clone().into()),
        ])?;
        let known = Arc::new(instance);
        let result = deed(Step::new(context.clone(), known.clone(), nth)).await?;
        let mut instance = Arc::unwrap_or_clone(known);
        match next {
            Next::Undo(_) => instance.undone(nth),
            _ => instance.done(nth, result),
        }
        self.save(&context, instance, None)
    }

    /// A step has failed for good, or a compensation.
    fn fail(&self, context: &Context, failure: Failure) -> Result<(), Failure> {
        let Some(mut instance) = self.instance(context)? else { return Err(failure) };
        let next = instance.next();
        self.deed(&instance, next)?;
        match next {
            Next::Nothing => return Err(failure),
            // No step was done: it isn't a saga's to undo what can't be read.
            Next::Do(0) if failure.class() == Class::Poison => return Err(failure),
            Next::Do(nth) => instance.failed(nth, &failure),
            Next::Undo(nth) => instance.undo_failed(nth, &failure, self.on_compensation_failure),
        }
        self.save(context, instance, Some(failure))
    }

    /// Writes what is known now, and says what becomes of the event.
    fn save(
        &self,
        context: &Context,
        mut instance: SagaInstance,
        failure: Option<Failure>,
    ) -> Result<(), Failure> {
        instance.changed_ms = context.now_ms();
        context.put_json(&self.table, inspect::key(&instance.id), &instance)?;
        match instance.status {
            SagaStatus::Running | SagaStatus::Compensating => {
                context.end(End::Again { after: Duration::ZERO, failure })
            }
            SagaStatus::Completed => self.end(context, &instance, COMPLETED),
            SagaStatus::Compensated => self.end(context, &instance, COMPENSATED),
            SagaStatus::CompensationFailed => context.give_up(not_compensated(&instance)),
        }
    }

    fn end(&self, context: &Context, instance: &SagaInstance, outcome: &'static str) -> Result<(), Failure> {
        context.put(&self.table, inspect::end_key(instance.changed_ms, &instance.id), "")?;
        let before_ms = context.now_ms().saturating_sub(ms(self.retention));
        for entry in self.table.scan(KeyRange::prefix(inspect::END)).take(FORGET_MAX) {
            let key = entry?.key().to_vec();
            match inspect::parse_end_key(&key) {
                Some((ended_ms, id)) if ended_ms < before_ms => {
                    context.delete(&self.table, inspect::key(id))?;
                    context.delete(&self.table, key)?;
                }
                _ => break,
            }
        }
        context.end(End::Done(outcome))
    }

    /// What is known of the event's saga; `None`: it is another event's, or has ended.
    fn instance(&self, context: &Context) -> Result<Option<SagaInstance>, Failure> {
        let id = context.event_id();
        let found: Option<SagaInstance> = context.get_json(&self.table, inspect::key(&id))?;
        let Some(mut instance) = found else { return Ok(Some(self.begin(context, id)?)) };
        match instance.status {
            SagaStatus::Completed | SagaStatus::Compensated => return Ok(None),
            SagaStatus::CompensationFailed => instance.resume(),
            SagaStatus::Running | SagaStatus::Compensating => {}
        }
        if is_of(&instance, context) {
            return Ok(Some(instance));
        }
        // It is under way as long as its event waits. Otherwise that has died, and this one takes its place.
        let group = self.log.table(&group_table(&instance.group))?;
        let prefix = row_prefix_of(&instance.topic, instance.topic_id, instance.partition);
        if context.get(&group, row_key(&prefix, instance.offset))?.is_some() {
            return Ok(None);
        }
        let SagaInstance { group, topic, topic_id, partition, offset, dead_letter_topic, .. } =
            self.begin(context, id)?;
        let steps = std::mem::take(&mut instance.steps);
        Ok(Some(SagaInstance {
            group,
            topic,
            topic_id,
            partition,
            offset,
            dead_letter_topic,
            steps,
            ..instance
        }))
    }

    fn begin(&self, context: &Context, id: String) -> Result<SagaInstance, Failure> {
        let (record, now_ms) = (context.record(), context.now_ms());
        let step = |code: &Code| SagaStep {
            name: code.name.to_string(),
            status: StepStatus::Pending,
            has_compensation: matches!(code.undo, Undo::By(_)),
            result: None,
            error: None,
        };
        Ok(SagaInstance {
            id,
            saga: self.name.to_string(),
            version: self.version,
            status: SagaStatus::Running,
            group: context.group().to_string(),
            topic: record.topic.to_string(),
            topic_id: self.log.open_topic(&record.topic)?.id().0,
            partition: record.partition,
            offset: record.offset,
            dead_letter_topic: context.dead_letter_topic(),
            began_ms: now_ms,
            changed_ms: now_ms,
            failure: None,
            steps: self.steps.iter().map(step).collect(),
        })
    }

    fn timed_out(&self, context: &Context, instance: &SagaInstance) -> Option<Failure> {
        let timeout = self.timeout?;
        let took_ms = context.now_ms().saturating_sub(instance.began_ms);
        let message = || format!("{took_ms} ms since it began; saga.timeout.ms is {}", timeout.as_millis());
        (took_ms > ms(timeout)).then(|| Failure::permanent("SagaTimeout", message()))
    }

    /// The code for what is next.
    fn deed(&self, instance: &SagaInstance, next: Next) -> Result<&Deed, Failure> {
        let (nth, undoes) = match next {
            Next::Do(nth) => (nth, false),
            Next::Undo(nth) => (nth, true),
            Next::Nothing => return Err(unknown(instance, "")),
        };
        let step = &instance.steps[nth].name;
        let code = self.steps.iter().find(|code| *code.name == **step);
        match (code, undoes) {
            (Some(Code { deed, .. }), false) | (Some(Code { undo: Undo::By(deed), .. }), true) => Ok(deed),
            _ => Err(unknown(instance, step)),
        }
    }
}

fn is_of(instance: &SagaInstance, context: &Context) -> bool {
    let (record, group) = (context.record(), context.group());
    instance.group == group
        && instance.topic == *record.topic
        && (instance.partition, instance.offset) == (record.partition, record.offset)
}

fn unknown(instance: &SagaInstance, step: &str) -> Failure {
    let SagaInstance { id, saga, version, .. } = instance;
    let what = if instance.status == SagaStatus::Compensating { "no compensation for" } else { "no" };
    let message = format!(
        "saga {saga:?} {id:?} of version {version} is at step {step:?}, and this code has {what} such"
    );
    Failure::permanent("UnknownStep", message)
}

fn not_compensated(instance: &SagaInstance) -> Failure {
    let failed: Vec<String> = instance
        .not_compensated()
        .map(|step| format!("{} ({})", step.name, step.error.as_deref().unwrap_or_default()))
        .collect();
    let why = instance
        .failure
        .as_ref()
        .map(|it| format!("; step {} had failed: {}: {}", it.step, it.kind, it.message));
    let SagaInstance { id, saga, .. } = instance;
    let message = format!("saga {saga:?} {id:?}: {}{}", failed.join(", "), why.unwrap_or_default());
    Failure::permanent(NOT_COMPENSATED, message)
}

fn as_deed<F, R, T, E>(code: F) -> Deed
where
    F: Fn(Step) -> R + Send + Sync + 'static,
    R: Future<Output = Result<T, E>> + Send + 'static,
    T: Serialize,
    E: Into<Failure>,
{
    Arc::new(move |step| {
        let name = step.name().to_string();
        let done = code(step);
        Box::pin(async move {
            let result = done.await.map_err(Into::into)?;
            let text = serde_json::to_string(&result)
                .map_err(|error| Failure::permanent("Result", format!("of step {name:?}: {error}")))?;
            if text.len() > RESULT_BYTES_MAX {
                let message = format!(
                    "of step {name:?}: {} B as JSON; at most {RESULT_BYTES_MAX} B are kept",
                    text.len()
                );
                return Err(Failure::permanent("ResultTooLarge", message));
            }
            serde_json::from_str(&text)
                .map_err(|error| Failure::permanent("Result", format!("of step {name:?}: {error}")))
        })
    })
}

impl Handler for Saga {
    fn call(&self, context: Context) -> Called {
        let saga = self.clone();
        Box::pin(async move { saga.advance(context).await })
    }

    fn recover(&self, context: Context, failure: &Failure) -> Option<Called> {
        let (saga, failure) = (self.clone(), failure.clone());
        Some(Box::pin(async move { saga.fail(&context, failure) }))
    }

    fn saga(&self) -> Option<&str> {
        Some(&self.name)
    }

    fn check(&self) -> Result<(), Error> {
        let wrong = |reason: String| Err(Error::Saga { saga: self.name.to_string(), reason });
        let Some((_, before)) = self.steps.split_last() else { return wrong("it has no step".into()) };
        for (nth, step) in self.steps.iter().enumerate() {
            if self.steps[..nth].iter().any(|it| it.name == step.name) {
                return wrong(format!("two of its steps are called {:?}", step.name));
            }
        }
        match before.iter().find(|step| matches!(step.undo, Undo::Unknown)) {
            Some(step) => wrong(format!(
                "step {:?} needs compensate(..) or nothing_to_compensate(), since others come behind it",
                step.name
            )),
            None => Ok(()),
        }
    }
}

impl Debug for Saga {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps: Vec<&str> = self.steps.iter().map(|step| &*step.name).collect();
        formatter
            .debug_struct("Saga")
            .field("name", &self.name)
            .field("version", &self.version)
            .field("steps", &steps)
            .finish_non_exhaustive()
    }
}
