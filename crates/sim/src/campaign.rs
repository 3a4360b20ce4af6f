//! How far the suites go: numbers in environment variables, for whoever wants more than the gate (docs/TESTING.md).

/// The number in an environment variable; `None` if it isn't set.
///
/// # Panics
/// If it holds anything else: a slip of the pen must not pass for a long run.
#[must_use]
pub fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}: {text:?} is no number")))
}
