//! `explain`: what the codes of errors mean, ours by name and Kafka's by number.

use crate::failure::Failure;
use crate::report::{Column, Report, column};
use crate::suggest;
use serde_json::json;

#[derive(Debug)]
struct Code {
    name: &'static str,
    kafka: Option<i16>,
    meaning: &'static str,
    way_out: &'static str,
}

const fn code(name: &'static str, kafka: Option<i16>, meaning: &'static str, way_out: &'static str) -> Code {
    Code { name, kafka, meaning, way_out }
}

const CODES: &[Code] = &[
    code("USAGE", None, "The command line can't be understood.", "--help shows each verb with its flags."),
    code("NO_LOG", None, "There is no log in the directory.", "Name it with --data; topic create makes one."),
    code(
        "IN_USE",
        None,
        "Another process has the directory open.",
        "Wait with --timeout, or stop that process. Verbs that only read work meanwhile.",
    ),
    code(
        "READ_ONLY",
        None,
        "A log that was opened to be looked at was asked to change.",
        "Open it for writing.",
    ),
    code(
        "GROUP_ACTIVE",
        Some(25),
        "The group has members, and is only moved while it has none.",
        "Stop its consumers first.",
    ),
    code(
        "NO_SUCH_GROUP",
        None,
        "There is no group of this name.",
        "group list shows the groups; seek --new makes one.",
    ),
    code(
        "NO_METRICS",
        None,
        "The page of metrics of a process can't be read.",
        "Name where it serves them; curl shows what is there.",
    ),
    code("NO_SUCH_TOPIC", Some(3), "There is no topic of this name.", "topic list shows the topics."),
    code(
        "NO_SUCH_TABLE",
        Some(3),
        "There is no table of this name; a plain topic of the name isn't one.",
        "table list shows the tables.",
    ),
    code(
        "KEY_VERSION",
        None,
        "The key of a table has another version than was expected. Nothing was written.",
        "table get shows what it has; decide anew by that.",
    ),
    code(
        "NO_SUCH_SAGA",
        None,
        "There is no saga of this name, or none of it with this id.",
        "saga list shows their names, saga list NAME those of one.",
    ),
    code("NO_SUCH_PARTITION", Some(3), "The topic has fewer partitions.", "topic describe shows how many."),
    code(
        "ILLEGAL_NAME",
        Some(17),
        "Names have 1 to 249 of a-z, A-Z, 0-9, '.', '_', '-'.",
        "Choose another name.",
    ),
    code(
        "TOO_LARGE",
        Some(10),
        "An event or a transaction is larger than it may be.",
        "Raise max.message.bytes of the topic, or make transactions smaller.",
    ),
    code(
        "OFFSET_OUT_OF_RANGE",
        Some(1),
        "The offset isn't in the partition.",
        "topic describe shows start and end.",
    ),
    code(
        "RECORDS_LOST",
        Some(1),
        "Records were trimmed before they were read.",
        "Go on at the start of the partition.",
    ),
    code(
        "FENCED",
        Some(90),
        "A newer producer or member of the same name took over.",
        "Only one process may have the name; end this one.",
    ),
    code(
        "UNKNOWN_OUTCOME",
        None,
        "The log stopped while writing: whether it was written is not known.",
        "Open the log again; produce --txn goes on exactly once.",
    ),
    code(
        "REFUSED",
        None,
        "The log looked at the command and said no. Nothing of it was applied.",
        "The message names the thing, the value and the limit.",
    ),
    code(
        "DISK_FULL",
        None,
        "There is no room for more data. Nothing was written.",
        "Free space, or trim and delete topics: that works on a full disk.",
    ),
    code(
        "DISK",
        None,
        "The disk refused an operation.",
        "The message names the file; look at the system's log.",
    ),
    code(
        "DAMAGED",
        None,
        "Bytes on disk aren't what they must be. Nothing was changed.",
        "Keep a copy, restore a backup. log repair says what can be done.",
    ),
    code(
        "SETTING",
        None,
        "A setting doesn't exist or is out of its bounds.",
        "config list shows all settings.",
    ),
    code(
        "INPUT",
        None,
        "A record of the input can't be read, or the input isn't the one that was begun.",
        "The message names the record.",
    ),
    code(
        "PORT",
        None,
        "A node can't listen where it should.",
        "Another process has the port, or it isn't this user's to take: --listen names another one.",
    ),
    code("OUTPUT", None, "Standard output can't be written.", "Is the disk behind it full?"),
    code(
        "NO_NODE",
        None,
        "No node answers at the address of --bootstrap.",
        "exactlog serve starts a node; --timeout waits for one, and says for how long an answer is waited for.",
    ),
    code(
        "NETWORK",
        None,
        "The connection to a node broke, or its answer didn't come in time.",
        "What was asked may have been done: look before asking again. produce --txn goes on exactly once.",
    ),
    code(
        "NO_SUCH_TRANSACTION",
        Some(105),
        "There is no transactional id of this name.",
        "txn list shows the transactional ids.",
    ),
    code(
        "INTERRUPTED",
        None,
        "Ctrl-C or SIGTERM ended it before it was done.",
        "What was acknowledged is stored.",
    ),
    code("OTHER", None, "Something that has no code of its own.", "The message says what."),
    code("UNKNOWN_SERVER_ERROR", Some(-1), "Something that Kafka has no code for.", "The message says what."),
    code("CORRUPT_MESSAGE", Some(2), "A record batch whose checksum or shape is wrong.", "Send it again."),
    code(
        "REQUEST_TIMED_OUT",
        Some(7),
        "The topic's settings changed on the way.",
        "Send the same batch again.",
    ),
    code(
        "ILLEGAL_GENERATION",
        Some(22),
        "The partition isn't owned by this member any more.",
        "Poll: another member reads it now.",
    ),
    code(
        "INVALID_TIMESTAMP",
        Some(32),
        "A record's time is out of its bounds.",
        "Send it with another time.",
    ),
    code(
        "TOPIC_ALREADY_EXISTS",
        Some(36),
        "There is a topic of this name with other settings.",
        "topic describe shows them.",
    ),
    code(
        "INVALID_PARTITIONS",
        Some(37),
        "A topic has 1 to 100,000 partitions, and never fewer than before.",
        "Choose another number.",
    ),
    code(
        "INVALID_CONFIG",
        Some(40),
        "A setting of a topic is out of its bounds.",
        "config explain shows them.",
    ),
    code(
        "INVALID_REQUEST",
        Some(42),
        "A condition of a transaction doesn't hold, or a limit is passed.",
        "The message names it.",
    ),
    code(
        "POLICY_VIOLATION",
        Some(44),
        "The topic's policy doesn't allow it: a compacted topic isn't trimmed.",
        "topic alter -c cleanup.policy=compact,delete lets it be.",
    ),
    code(
        "OUT_OF_ORDER_SEQUENCE_NUMBER",
        Some(45),
        "A batch before this one is missing.",
        "Send the missing one first.",
    ),
    code(
        "DUPLICATE_SEQUENCE_NUMBER",
        Some(46),
        "The batch is stored already, longer ago than is remembered.",
        "Nothing is to be done.",
    ),
    code(
        "INVALID_PRODUCER_EPOCH",
        Some(47),
        "An older epoch of the producer is fenced.",
        "A newer producer of the name took over.",
    ),
    code(
        "INVALID_TXN_STATE",
        Some(48),
        "The commit isn't the producer's next one.",
        "Open the producer again.",
    ),
    code(
        "INVALID_PRODUCER_ID_MAPPING",
        Some(49),
        "The producer id was never given out.",
        "Open the producer again.",
    ),
    code(
        "UNSUPPORTED_COMPRESSION_TYPE",
        Some(76),
        "A batch is compressed in a way that isn't known.",
        "Send it uncompressed.",
    ),
    code("INVALID_RECORD", Some(87), "A batch that a client must not send.", "The message says why."),
];

const COLUMNS: &[Column] = &[column("code"), column("kafka"), column("meaning"), column("way_out")];

fn row(code: &Code) -> Vec<serde_json::Value> {
    vec![json!(code.name), json!(code.kafka), json!(code.meaning), json!(code.way_out)]
}

pub(crate) fn explain(asked: &str) -> Result<Report, Failure> {
    let number: Option<i16> = asked.parse().ok();
    let name = asked.to_uppercase().replace('-', "_");
    let is_asked = |code: &&Code| {
        asked.is_empty() || number.map_or(code.name == name, |number| code.kafka == Some(number))
    };
    let found: Vec<_> = CODES.iter().filter(is_asked).map(row).collect();
    if found.is_empty() {
        let names = CODES.iter().map(|code| code.name);
        let hint = suggest::sentence(&name, names, "exactlog explain, without a code, lists all of them");
        return Err(
            Failure { exit: 2, ..Failure::new("USAGE", format!("there is no code {asked:?}")) }.hint(hint)
        );
    }
    Ok(Report::table("codes", COLUMNS, found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_code_stands_there_twice() {
        let mut names: Vec<_> = CODES.iter().map(|code| code.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CODES.len());
    }
}
