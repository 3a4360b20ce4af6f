//! Planted mistakes. The crash tests switch one on and must find it (docs/TESTING.md has the table).
//!
//! Without the feature `mutants`, which no published build enables, [`on`] is the constant `false` and every
//! planted branch is compiled out. With it, the switch belongs to the thread: the simulator runs on one.

/// One planted mistake. `M...` are mistakes in what is written or acknowledged; `R...` switches one rule of open
/// and recovery off (docs/FORMAT.md, "The rules of open and recovery").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Mutant {
    M1NoJournalSync,
    M2AckBeforeSync,
    M3NoDirectorySync,
    M4ProducerEpochIgnored,
    M5WindowOfOne,
    M6CutAtInteriorDamage,
    M7RecycledTooEarly,
    M8CommitInPart,
    M9DurableLsnForgotten,
    M10GoesOnInCutFile,
    M11PredecessorEndForgotten,
    R1NewFileNotWhole,
    R2NoNewGeneration,
    R3PredecessorUnproven,
    R4EndBehindSeals,
    R5BadHeaderIgnored,
    R6SpareReusedEarly,
    R7FoundFilesRecycled,
    R8NonceInBodyAccepted,
    R9CutUnreported,
    R10HeaderTermIgnored,
}

impl Mutant {
    /// All of them, in the order of the kill table.
    pub const ALL: [Mutant; 21] = [
        Mutant::M1NoJournalSync,
        Mutant::M2AckBeforeSync,
        Mutant::M3NoDirectorySync,
        Mutant::M4ProducerEpochIgnored,
        Mutant::M5WindowOfOne,
        Mutant::M6CutAtInteriorDamage,
        Mutant::M7RecycledTooEarly,
        Mutant::M8CommitInPart,
        Mutant::M9DurableLsnForgotten,
        Mutant::M10GoesOnInCutFile,
        Mutant::M11PredecessorEndForgotten,
        Mutant::R1NewFileNotWhole,
        Mutant::R2NoNewGeneration,
        Mutant::R3PredecessorUnproven,
        Mutant::R4EndBehindSeals,
        Mutant::R5BadHeaderIgnored,
        Mutant::R6SpareReusedEarly,
        Mutant::R7FoundFilesRecycled,
        Mutant::R8NonceInBodyAccepted,
        Mutant::R9CutUnreported,
        Mutant::R10HeaderTermIgnored,
    ];
}

#[cfg(feature = "mutants")]
thread_local! {
    static ACTIVE: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Whether this mistake is planted on this thread.
#[cfg(feature = "mutants")]
pub fn on(mutant: Mutant) -> bool {
    ACTIVE.get() == Some(mutant)
}

/// Whether this mistake is planted: never, in this build.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn on(_mutant: Mutant) -> bool {
    false
}

/// Plants one mistake on this thread, or none.
#[cfg(feature = "mutants")]
pub fn plant(mutant: Option<Mutant>) {
    ACTIVE.set(mutant);
}
