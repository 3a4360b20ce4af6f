//! What clients may do, as the bits of Kafka's operations (KIP-430): everything, since nobody is asked who he is.

use crate::code::NONE;

/// Read, Write, Create, Delete, Alter, Describe, DescribeConfigs, AlterConfigs: the operations that topics know.
pub(crate) const OF_TOPIC: i32 = 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11;
/// Read, Delete, Describe, DescribeConfigs, AlterConfigs: those of groups.
const OF_GROUP: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;
/// Create, Alter, Describe, ClusterAction, DescribeConfigs, AlterConfigs, IdempotentWrite: those of the cluster.
pub(crate) const OF_CLUSTER: i32 = 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;
/// What a client is told that hasn't asked.
const NOT_ASKED_FOR: i32 = i32::MIN;

/// Those of a group, if they were asked for. As in Kafka, of a group that can't be described there is nothing to say.
pub(crate) fn of_group(is_asked: bool, error_code: i16) -> i32 {
    if_asked(is_asked && error_code == NONE, OF_GROUP)
}

/// The operations, if they were asked for.
pub(crate) fn if_asked(is_asked: bool, operations: i32) -> i32 {
    if is_asked { operations } else { NOT_ASKED_FOR }
}
