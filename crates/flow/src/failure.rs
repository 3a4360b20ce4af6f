//! What a handler says when it fails, and what follows from it.
//!
//! ```text
//!   Transient -> tried again, then dead     Permanent -> dead at once
//!   Poison    -> dead at once, never tried  Fatal     -> the processor stops, nothing is committed
//! ```

use std::any::Any;
use std::error::Error as StdError;
use std::fmt::{self, Display};

/// What is done about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// It may go well next time: tried again as [`Retry`](crate::Retry) says, then dead-lettered.
    Transient,
    /// It won't: dead-lettered at once.
    Permanent,
    /// The event can't be decoded: dead-lettered at once.
    Poison,
    /// Nothing can be processed: the processor stops, and nothing of the events in question is committed.
    Fatal,
}

impl Class {
    /// Its name, as metrics and logs have it.
    pub fn name(self) -> &'static str {
        match self {
            Class::Transient => "transient",
            Class::Permanent => "permanent",
            Class::Poison => "poison",
            Class::Fatal => "fatal",
        }
    }
}

/// Why an attempt failed.
///
/// Every error becomes one by `?`: [`Class::Transient`], but for those that can't go well later (a payload that can't
/// be decoded is [`Class::Poison`], an output that is too large [`Class::Permanent`]). Its *kind* is the name of the
/// error's type then. Where the class or the kind matters, say them:
///
/// ```
/// use exactlog_flow::{Class, Failure, OrFail};
///
/// let failure = Failure::permanent("OutOfStock", "no chairs left");
/// assert_eq!((failure.class(), failure.kind()), (Class::Permanent, "OutOfStock"));
///
/// let parsed: Result<u32, Failure> = "twelve".parse::<u32>().or_permanent("Quantity");
/// assert_eq!(parsed.unwrap_err().to_string(), "Quantity: invalid digit found in string");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(Box<Parts>);

/// Apart, since every result of a handler has room for a failure, and few have one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Parts {
    class: Class,
    kind: String,
    message: String,
}

impl Failure {
    /// A failure of this class. `kind` is what dead letters are sorted by: a stable name, not a text.
    pub fn new(class: Class, kind: impl Into<String>, message: impl Display) -> Failure {
        Failure(Box::new(Parts { class, kind: kind.into(), message: message.to_string() }))
    }

    /// It may go well next time.
    pub fn transient(kind: impl Into<String>, message: impl Display) -> Failure {
        Failure::new(Class::Transient, kind, message)
    }

    /// It won't go well next time.
    pub fn permanent(kind: impl Into<String>, message: impl Display) -> Failure {
        Failure::new(Class::Permanent, kind, message)
    }

    /// The event can't be decoded.
    pub fn poison(kind: impl Into<String>, message: impl Display) -> Failure {
        Failure::new(Class::Poison, kind, message)
    }

    /// Nothing can be processed.
    pub fn fatal(kind: impl Into<String>, message: impl Display) -> Failure {
        Failure::new(Class::Fatal, kind, message)
    }

    /// What is done about it.
    pub fn class(&self) -> Class {
        self.0.class
    }

    /// Its stable name (`dlq-error-class`).
    pub fn kind(&self) -> &str {
        &self.0.kind
    }

    /// The text, with the causes that the error named.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    fn of<E: StdError + 'static>(class: Class, kind: &str, error: &E) -> Failure {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(source) = cause {
            let text = source.to_string();
            // Many errors repeat their cause in their own text.
            if !message.contains(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            cause = source.source();
        }
        Failure(Box::new(Parts { class, kind: kind.to_string(), message }))
    }
}

impl Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.kind(), self.message())
    }
}

impl<E: StdError + 'static> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::of(class_of(&error), std::any::type_name::<E>(), &error)
    }
}

/// What is known of an error by its type.
fn class_of(error: &dyn Any) -> Class {
    if error.is::<exactlog::Undecodable>() {
        return Class::Poison;
    }
    match error.downcast_ref::<exactlog::Error>() {
        Some(exactlog::Error::EventTooLarge { .. } | exactlog::Error::TransactionTooLarge { .. }) => {
            Class::Permanent
        }
        Some(exactlog::Error::Closed) => Class::Fatal,
        _ => Class::Transient,
    }
}

/// Says what an error means where it happens.
pub trait OrFail<T> {
    /// It may go well next time.
    ///
    /// # Errors
    /// The error as a failure.
    fn or_transient(self, kind: &str) -> Result<T, Failure>;

    /// It won't go well next time.
    ///
    /// # Errors
    /// The error as a failure.
    fn or_permanent(self, kind: &str) -> Result<T, Failure>;

    /// The event can't be decoded.
    ///
    /// # Errors
    /// The error as a failure.
    fn or_poison(self, kind: &str) -> Result<T, Failure>;

    /// Nothing can be processed.
    ///
    /// # Errors
    /// The error as a failure.
    fn or_fatal(self, kind: &str) -> Result<T, Failure>;
}

impl<T, E: StdError + 'static> OrFail<T> for Result<T, E> {
    fn or_transient(self, kind: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::of(Class::Transient, kind, &error))
    }

    fn or_permanent(self, kind: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::of(Class::Permanent, kind, &error))
    }

    fn or_poison(self, kind: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::of(Class::Poison, kind, &error))
    }

    fn or_fatal(self, kind: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::of(Class::Fatal, kind, &error))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the warehouse didn't answer")]
    struct Silent(#[source] std::io::Error);

    fn asks() -> Result<(), Failure> {
        Err(Silent(std::io::Error::other("connection refused")))?
    }

    #[test]
    fn an_error_is_transient_and_names_its_type_and_causes() {
        let failure = asks().unwrap_err();
        assert_eq!(failure.class(), Class::Transient);
        assert!(failure.kind().ends_with("Silent"), "{failure}");
        assert_eq!(failure.message(), "the warehouse didn't answer: connection refused");
    }

    #[test]
    fn what_cannot_be_decoded_is_poison() {
        let record = exactlog::Record {
            topic: "orders".into(),
            partition: 0,
            offset: 7,
            timestamp_ms: 0,
            key: None,
            value: Some("{".into()),
            headers: Vec::new(),
        };
        let failure = Failure::from(record.json::<u32>().unwrap_err());
        assert_eq!(failure.class(), Class::Poison);
    }
}
