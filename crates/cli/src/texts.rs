//! Texts that are shown as they are, and counts in sentences.

/// `1 record`, `2 records`.
pub(crate) fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// `1 was`, `2 were`.
pub(crate) fn were(number: u64) -> String {
    format!("{number} {}", if number == 1 { "was" } else { "were" })
}

pub(crate) const FORMATS: &str = "\
--format text    a table for people (the default)
--format wide    the same with all columns
--format json    one object, also for an error
--format jsonl   one object per row; records as they come
--format tsv     rows with tabs between, without a header; - for an empty cell
--format yaml    the object of json as YAML

records, consume -f:
  %t topic  %p partition  %o offset  %k key  %v value  %h{..} each header, with %k and %v inside
  %d time in ms  %d{strftime[%F %T]}  %T %K %V lengths  %H number of headers
  %[ start of the partition  %| %] its end  %i counts from 1  %% %{ %}
  of its batch: %e leader epoch  %x producer id  %y producer epoch  %a{compression}
    %a{timestamp-type}  %a{transactional-bit}  %a{control-bit}; with a format: %a{compression;hex8}
  text: %v{hex}  %v{base64}  %v{base64raw}  %v{json}  %v{unpack[>I.$]}    \\n \\t \\r \\0 \\\\ \\xNN
  numbers: %o{hex}  {hex64} to {hex4}  {big64} to {big8}  {little64} to {little8}  {byte}  {bool}
  json: one object per line, as kcat -J writes it
records, produce -f:
  %k %v %p %d with text between them, {hex} and {base64}; or json
offsets, -o and --to:
  start  end  :end  +n  -n  n  n:  :n  n1:n2  @t  @t:  @:t  @t1:t2
  t: 1769817600123 (ms), 1769817600 (s), 2026-01-31, 2026-01-31T12:00:00Z, -1h (before now; ms s m h d)
";

pub(crate) const CHEAT: &str = "\
# a log is a directory
export EXACTLOG_DATA=data
exactlog topic create orders -p 6
exactlog topic list

# write lines, keys and values, headers
echo 'two chairs' | exactlog produce orders -k order-1
printf 'order-1:two chairs\\norder-2:a table\\n' | exactlog produce orders -K :
exactlog produce orders -H source:shop < lines.txt

# exactly once: kill it, start it again with the same file, and each line is there once
exactlog produce orders --txn 1000 < lines.txt

# each id once, whichever feeds it comes from
exactlog produce orders --event-id id < feed.jsonl
exactlog dedup show orders event-17 --topic
exactlog dedup stats

# deliver later: the event comes into the topic while somebody has the log open
echo 'pay, please' | exactlog produce reminders -k order-1 --deliver-after 2h
exactlog timer list
exactlog timer cancel 1 --execute

# what keys of a table have; one by hand
exactlog table get counts chair table
exactlog table scan counts --prefix chair
exactlog table put counts chair 12

# what could not be processed: look, put it back once, give it up; what waits to be tried again
exactlog dlq list
exactlog dlq show dlq.orders --error-class Timeout
exactlog dlq redrive dlq.orders --error-class Timeout              # says what it would do
exactlog dlq redrive dlq.orders --error-class Timeout --execute
exactlog dlq discard dlq.orders --partition 0 --offset 17 --execute
exactlog retry list billing
exactlog top --watch                                               # rates and lag, of a log in use, too
exactlog saga list order --status compensation_failed

# names of topics and groups are completed
source <(exactlog completion bash)

# read: everything, the last 10 of each partition, the last hour, and then follow
exactlog consume orders
exactlog consume orders -o -10 -f '%p %o %k %v\\n'
exactlog consume orders -o @-1h --follow
exactlog consume orders --grep 'chair' -n 5 --format json | jq .payload

# copy a topic into another log, byte for byte
exactlog consume orders -f json | exactlog --data other produce orders -f json

# a node instead of a directory: the same verbs; what was left open by a producer that is gone
exactlog serve --dev
exactlog -b 127.0.0.1:9092 consume orders -g billing --follow
exactlog -b 127.0.0.1:9092 txn find-hanging
exactlog -b 127.0.0.1:9092 txn abort checkout --execute

# groups: how far behind are they, in records and in seconds
exactlog group lag
exactlog group describe billing
exactlog group seek billing --to @-1h              # says what it would do
exactlog group seek billing --to @-1h --execute
exactlog group delete billing-old --execute

# records once more: of an hour, into a topic for them; killed, the same command goes on
exactlog replay orders --from @2026-01-31T12:00:00Z:2026-01-31T13:00:00Z --into orders-again --execute

# make room, once and from now on
exactlog topic trim orders --to @-7d --execute
exactlog topic alter orders -c retention.ms=30d -c retention.bytes=10GiB
exactlog topic add-partitions orders -p 12
exactlog topic repartition orders --into orders-2 -p 12     # says what it would do; --execute

# is everything well
exactlog doctor
exactlog log verify
exactlog log repair                                # says what can be done without a loss; --write does it
exactlog bench embedded
exactlog explain IN_USE
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_no_plural() {
        for (number, counted, have_been) in
            [(0, "0 records", "0 were"), (1, "1 record", "1 was"), (2, "2 records", "2 were")]
        {
            assert_eq!((count(number, "record").as_str(), were(number).as_str()), (counted, have_been));
        }
    }
}
