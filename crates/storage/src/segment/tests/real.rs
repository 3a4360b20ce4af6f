//! The same on the disk of the operating system, with and without mappings.

use super::*;
use crate::disk::RealDisk;

#[test]
fn a_log_on_a_real_disk_is_read_back_also_after_a_reopen_at_older_ends() {
    let batches = batches(60);
    for mapping in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(dir.path()).unwrap().with_mapping(mapping);
        let open =
            |ends: &Ends| PartitionLog::open(Arc::new(disk.clone()), DIR.to_owned(), SMALL, ends).unwrap();
        let mut log = open(&Ends::default());
        append_all(&mut log, &batches[..31]);
        log.sync().unwrap();
        let early = log.ends();
        append_all(&mut log, &batches[31..]);
        log.sync().unwrap();
        assert_reads_as(&log.readable(), &batches);
        let held = log.readable().read(0, usize::MAX).unwrap();

        let mut again = open(&early);
        assert!(again.remove_unnamed(|_| false).unwrap() > 0);
        assert_reads_as(&again.readable(), &batches[..31]);
        append_all(&mut again, &batches[31..]);
        again.sync().unwrap();
        assert_eq!(again.ends(), log.ends());
        assert_reads_as(&open(&again.ends()).readable(), &batches);
        assert_eq!(held, batches, "what a reader holds outlives the names");
    }
}
