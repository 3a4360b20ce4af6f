//! When something is due in which group: the earliest deadline of each that has one.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub(super) struct Deadlines {
    in_order: BTreeSet<(i64, String)>,
    by_group: BTreeMap<String, i64>,
}

impl Deadlines {
    /// What a group's is now; nothing: it has none.
    pub(super) fn set(&mut self, group: &str, deadline_ms: Option<i64>) {
        let before_ms = self.by_group.get(group).copied();
        if before_ms == deadline_ms {
            return;
        }
        if let Some(before_ms) = before_ms {
            self.in_order.remove(&(before_ms, group.to_owned()));
            self.by_group.remove(group);
        }
        if let Some(deadline_ms) = deadline_ms {
            self.in_order.insert((deadline_ms, group.to_owned()));
            self.by_group.insert(group.to_owned(), deadline_ms);
        }
    }

    /// The groups in which something is due, the earliest first.
    pub(super) fn due(&self, now_ms: i64) -> Vec<String> {
        let due = self.in_order.iter().take_while(|(deadline_ms, _)| *deadline_ms <= now_ms);
        due.map(|(_, group)| group.clone()).collect()
    }

    /// When something is due next, if nothing happens before.
    pub(super) fn next_ms(&self) -> Option<i64> {
        self.in_order.first().map(|(deadline_ms, _)| *deadline_ms)
    }

    /// Nothing is due any more.
    pub(super) fn clear(&mut self) {
        *self = Deadlines::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_group_is_due_at_its_last_deadline() {
        let mut deadlines = Deadlines::default();
        assert_eq!((deadlines.next_ms(), deadlines.due(i64::MAX)), (None, vec![]));
        for (group, deadline_ms) in
            [("a", Some(7)), ("b", Some(5)), ("a", Some(3)), ("c", Some(9)), ("b", None)]
        {
            deadlines.set(group, deadline_ms);
        }
        assert_eq!((deadlines.next_ms(), deadlines.due(2)), (Some(3), vec![]));
        assert_eq!((deadlines.due(3), deadlines.due(9)), (vec!["a".into()], vec!["a".into(), "c".into()]));
        deadlines.clear();
        assert_eq!((deadlines.next_ms(), deadlines.due(i64::MAX)), (None, vec![]));
    }
}
