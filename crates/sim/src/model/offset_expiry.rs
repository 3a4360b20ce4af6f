//! Offsets that nobody uses any more, in the model: looked at one by one at each `Tick`.

use exactlog_core::ids::Partition;

use super::transaction::Transactor;
use super::{DAY_MS, Group, Model};

impl Model {
    /// Forgets what nobody has used for the whole time; how many offsets those were.
    pub(super) fn expire_offsets(&mut self) -> u64 {
        let retention_ms = self.offset_retention.unwrap_or(7 * DAY_MS) as i64;
        let mut groups = std::mem::take(&mut self.groups);
        let mut expired = 0;
        groups.retain(|name, group| {
            let is_over = |since_ms: i64| {
                since_ms.max(group.changed_ms).max(self.opened_ms) + retention_ms <= self.time_ms
            };
            let before = group.offsets.len();
            let used =
                |partition: &Partition| group.reads(*partition) || self.waits_for(name, Some(*partition));
            let mut offsets = group.offsets.clone();
            offsets.retain(|partition, (_, lsn, _)| used(partition) || !is_over(self.times[*lsn as usize]));
            let is_empty = offsets.is_empty() && group.member.is_none() && !self.waits_for(name, None);
            let is_gone = is_empty && is_over(i64::MIN);
            expired += (before - offsets.len()) as u64;
            group.offsets = offsets;
            !is_gone
        });
        self.groups = groups;
        expired
    }

    /// Whether an open transaction is about to commit offsets of a group.
    fn waits_for(&self, group: &str, partition: Option<Partition>) -> bool {
        let open = self.transactors.values().filter_map(Transactor::open);
        let mut pending = open.flat_map(|txn_seq| &self.transactions[&txn_seq].offsets);
        pending.any(|it| it.group == group && partition.is_none_or(|partition| it.partition == partition))
    }
}

impl Group {
    fn reads(&self, partition: Partition) -> bool {
        self.member.as_ref().is_some_and(|(_, topics)| topics.contains(&partition.topic))
    }
}
