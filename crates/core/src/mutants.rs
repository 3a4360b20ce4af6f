//! Planted mistakes. The crash tests switch one on and must find it (docs/TESTING.md has the table).
//!
//! Without the feature `mutants`, which no published build enables, [`on`] is the constant `false` and every
//! planted branch is compiled out. With it, the switch belongs to the thread: the simulator runs on one.

macro_rules! mutants {
    ($($mutant:ident)*) => {
        /// One planted mistake. `M...` are mistakes in what is written or acknowledged, `C...` in what becomes of old
        /// records, `T...` about timers, `D...` with ids of events, `K...` about tables; `R...` switches one rule of
        /// open and recovery off (docs/FORMAT.md, "The rules of open and recovery").
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "docs/TESTING.md says what they are")]
        pub enum Mutant {
            $($mutant),*
        }

        impl Mutant {
            /// All of them, in the order of the kill table.
            pub const ALL: &[Mutant] = &[$(Mutant::$mutant),*];
        }
    };
}

mutants! {
    M1NoJournalSync
    M2AckBeforeSync
    M3NoDirectorySync
    M4ProducerEpochIgnored
    M5WindowOfOne
    M6CutAtInteriorDamage
    M7RecycledTooEarly
    M8CommitInPart
    M9DurableLsnForgotten
    M10GoesOnInCutFile
    M11PredecessorEndForgotten
    M12SyncStatesWhatCameMeanwhile
    M13OneWeakCommandSparesTheOthers
    R1NewFileNotWhole
    R2NoNewGeneration
    R3PredecessorUnproven
    R4EndBehindSeals
    R5BadHeaderIgnored
    R6SpareReusedEarly
    R7FoundFilesRecycled
    R8NonceInBodyAccepted
    R9CutUnreported
    R10HeaderTermIgnored
    T1FiresTwice
    T2FiresBeforeDue
    T3PayloadTrimmed
    T4CancelledFires
    C1CleanedPastTheStableOffset
    C2AbortedKeysCount
    C3TombstoneDroppedEarly
    C4FilesGoWithTheTrim
    D1LeaseForever
    D2MarkOfRefusedCommit
    D3MarkExpiresEarly
    D4LapsedOwnerFinishes
    D5RunNotSynced
    D6RunsOfAnOlderManifest
    D7RunRemovedEarly
    D8RunWithoutAMark
    D9FailedLookUpIsAbsent
    G1ForgetsUnderMembers
    K1WriteOfRefusedCommit
    K2VersionIgnored
    K3DeletedKeyStays
    K4KeysMissInCheckpoint
}

impl Mutant {
    /// Whether the tests of the journal alone must find it. The others are mistakes of what stands above it.
    pub fn is_found_by_the_journal_alone(self) -> bool {
        use Mutant::*;
        let above = matches!(self, M2AckBeforeSync | M4ProducerEpochIgnored | M5WindowOfOne | M8CommitInPart);
        let above = above || matches!(self, M13OneWeakCommandSparesTheOthers);
        let beside = matches!(self, M12SyncStatesWhatCameMeanwhile);
        let of_timers = matches!(self, T1FiresTwice | T2FiresBeforeDue | T3PayloadTrimmed | T4CancelledFires);
        let of_ids = matches!(
            self,
            D1LeaseForever | D2MarkOfRefusedCommit | D3MarkExpiresEarly | D4LapsedOwnerFinishes
        );
        let of_ids = of_ids || self.is_about_runs();
        let of_groups = matches!(self, G1ForgetsUnderMembers);
        let of_tables = matches!(
            self,
            K1WriteOfRefusedCommit | K2VersionIgnored | K3DeletedKeyStays | K4KeysMissInCheckpoint
        );
        !of_tables && !of_groups && !above && !beside && !of_timers && !of_ids && !self.is_about_old_records()
    }

    /// Whether it is about runs of event ids: what finds it is a history in which nearly all ids are on disk.
    pub fn is_about_runs(self) -> bool {
        use Mutant::*;
        matches!(
            self,
            D5RunNotSynced
                | D6RunsOfAnOlderManifest
                | D7RunRemovedEarly
                | D8RunWithoutAMark
                | D9FailedLookUpIsAbsent
        )
    }

    /// Whether it is one of retention or compaction: what finds it is a history that is mostly about old records.
    pub fn is_about_old_records(self) -> bool {
        use Mutant::*;
        matches!(
            self,
            C1CleanedPastTheStableOffset
                | C2AbortedKeysCount
                | C3TombstoneDroppedEarly
                | C4FilesGoWithTheTrim
        )
    }
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
