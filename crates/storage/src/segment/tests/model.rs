//! Random histories of appends, syncs, reads and reopens, against the list of batches that was appended.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Append {
        timestamps_ms: Vec<i64>,
        value_bytes: usize,
    },
    Skip {
        offsets: u64,
    },
    Sync,
    /// Reads everything, so that indexes are built now and not later.
    Read,
    /// Back to the ends of this many syncs ago; the batches since are appended again, in the same order.
    Reopen {
        syncs_ago: usize,
        loses_power: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let time_ms = prop_oneof![4 => 0..3_000i64, 1 => -3..3i64, 1 => Just(i64::MAX)];
    prop_oneof![
        12 => (prop::collection::vec(time_ms, 1..4), 0..120usize)
            .prop_map(|(timestamps_ms, value_bytes)| Step::Append { timestamps_ms, value_bytes }),
        1 => (0..4u64).prop_map(|offsets| Step::Skip { offsets }),
        4 => Just(Step::Sync),
        1 => Just(Step::Read),
        2 => (0..4usize, any::<bool>())
            .prop_map(|(syncs_ago, loses_power)| Step::Reopen { syncs_ago, loses_power }),
    ]
}

fn options() -> impl Strategy<Value = Options> {
    (100..3_000u64, 0..4_000i64, 0..600u32).prop_map(|(segment_bytes, segment_ms, index_interval_bytes)| {
        Options { segment_bytes, segment_ms, index_interval_bytes }
    })
}

/// The log beside what it should hold.
struct History {
    disk: MemoryDisk,
    options: Options,
    log: PartitionLog,
    appended: Vec<Batch>,
    next_offset: u64,
    /// Ends and offset of each sync.
    syncs: Vec<Ends>,
}

impl History {
    fn new(options: Options) -> History {
        let disk = MemoryDisk::default();
        let log = open(&disk, options, &Ends::default());
        History { disk, options, log, appended: Vec::new(), next_offset: 0, syncs: vec![Ends::default()] }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Append { timestamps_ms, value_bytes } => {
                let batch = batch(self.next_offset, &timestamps_ms, value_bytes);
                self.log.append(&batch).unwrap();
                self.next_offset = batch.next_offset();
                self.appended.push(batch);
            }
            Step::Skip { offsets } => {
                self.next_offset += offsets;
                self.log.skip_to(self.next_offset).unwrap();
            }
            Step::Sync => {
                self.log.sync().unwrap();
                self.syncs.push(self.log.ends());
            }
            Step::Read => assert_reads_as(&self.log.readable(), self.synced()),
            Step::Reopen { syncs_ago, loses_power } => self.reopen(syncs_ago, loses_power),
        }
        assert_eq!(self.log.ends(), *self.syncs.last().unwrap());
    }

    fn synced(&self) -> &[Batch] {
        let end_offset = self.log.readable().end_offset();
        &self.appended[..self.appended.partition_point(|batch| batch.base_offset() < end_offset)]
    }

    fn reopen(&mut self, syncs_ago: usize, loses_power: bool) {
        if loses_power {
            self.disk = self.disk.after_power_loss();
        }
        self.syncs.truncate(self.syncs.len().saturating_sub(syncs_ago).max(1));
        self.log = open(&self.disk, self.options, self.syncs.last().unwrap());
        let again = self.appended[self.synced().len()..].to_vec();
        for batch in again {
            self.log.skip_to(batch.base_offset()).unwrap();
            self.log.append(&batch).unwrap();
        }
        self.log.skip_to(self.next_offset).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_history_reads_as_the_list_of_what_was_appended(
        options in options(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut history = History::new(options);
        steps.into_iter().for_each(|step| history.take(step));
        history.take(Step::Sync);
        let all = history.appended.clone();
        assert_reads_as(&history.log.readable(), &all);
        let after_power_loss = history.disk.after_power_loss();
        assert_reads_as(&open(&after_power_loss, options, &history.log.ends()).readable(), &all);
    }

    #[test]
    fn going_back_to_older_ends_writes_the_same_bytes_again(
        options in options(),
        sizes in prop::collection::vec(0..200usize, 2..40),
        synced in 0..40usize,
        loses_power: bool,
    ) {
        let batches: Vec<Batch> =
            sizes.iter().enumerate().map(|(n, size)| batch(n as u64, &[n as i64 * 99], *size)).collect();
        let (early, late) = batches.split_at(synced.min(batches.len()));
        let (disk, mut log) = written(early, options);
        let ends = log.ends();
        append_all(&mut log, late);
        log.sync().unwrap();
        let again = if loses_power { disk.after_power_loss() } else { disk.clone() };
        let contents = |disk: &MemoryDisk| -> Vec<(String, Vec<u8>)> {
            let names = names(disk).into_iter().filter(|name| name.ends_with(".log"));
            names.map(|name| (name.clone(), disk.content(&format!("{DIR}/{name}")))).collect()
        };
        let before = contents(&disk);
        let mut reopened = open(&again, options, &ends);
        append_all(&mut reopened, late);
        reopened.sync().unwrap();
        prop_assert_eq!(reopened.ends(), log.ends());
        prop_assert_eq!(contents(&again), before);
    }
}
