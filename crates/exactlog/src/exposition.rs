//! The log's metrics as Prometheus reads them: one call, whoever serves it.
//!
//! docs/METRICS.md has each with Kafka's name for it.

use crate::clients::Traffic;
use crate::log::Log;
use crate::metrics::{Metrics, read};
use crate::samples::{MetricsSource, Samples};
use exactlog_core::ids::Partition;
use std::sync::{Arc, Weak};

impl Log {
    /// All metrics of this process about the log, as text for Prometheus (`text/plain; version=0.0.4`): those of the
    /// log, its topics, producers, consumers and groups, and those that were [added](Log::add_metrics). Counters begin
    /// with 0 when the log is opened.
    ///
    /// ```
    /// # use exactlog::{Event, Log, TopicOptions};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let log = Log::open(directory.path()).unwrap();
    /// let orders = log.create_topic("orders", TopicOptions::default()).unwrap();
    /// log.producer("shop").unwrap().blocking_send(&orders, Event::new("order-1", "two chairs")).unwrap();
    /// let text = log.prometheus();
    /// assert!(text.contains("exactlog_messages_in_total{topic=\"orders\"} 1\n"), "{text}");
    /// ```
    pub fn prometheus(&self) -> String {
        self.samples().text()
    }

    /// The same, to be looked at or written otherwise.
    pub fn samples(&self) -> Samples {
        let mut samples = Samples::default();
        add_log(&mut samples, &self.metrics(), self.inner.clock.wall_ms());
        self.add_topics(&mut samples);
        self.add_clients(&mut samples);
        self.add_groups(&mut samples);
        // Not under the lock: a source may ask the log for anything.
        let sources: Vec<Arc<dyn MetricsSource>> =
            self.inner.sources.lock().iter().filter_map(Weak::upgrade).collect();
        sources.iter().for_each(|source| source.collect(&mut samples));
        samples
    }

    /// Adds metrics that are told with the log's own, as long as the source lives.
    pub fn add_metrics(&self, source: &Arc<impl MetricsSource + 'static>) {
        let mut sources = self.inner.sources.lock();
        sources.retain(|known| known.strong_count() > 0);
        let source: Arc<dyn MetricsSource> = source.clone();
        sources.push(Arc::downgrade(&source));
    }

    fn add_topics(&self, samples: &mut Samples) {
        let topics = self.topics();
        let traffic = self.inner.clients.traffic(|id| topics.iter().any(|topic| topic.id() == id));
        for topic in &topics {
            let labels = &[("topic", topic.name())];
            let Traffic { records_in, bytes_in, records_out, bytes_out } =
                traffic.get(&topic.id()).copied().unwrap_or_default();
            samples.counter("messages_in_total", "Records that became part of a topic.", labels, records_in);
            samples.counter("bytes_in_total", "Bytes of the batches that carried them.", labels, bytes_in);
            samples.counter("messages_out_total", "Records that consumers were given.", labels, records_out);
            samples.counter(
                "bytes_out_total",
                "Bytes of keys, values and headers of these.",
                labels,
                bytes_out,
            );
            samples.gauge(
                "topic_partitions",
                "Partitions of a topic.",
                labels,
                f64::from(topic.partitions()),
            );
            samples.gauge("replicas", "Copies of each partition.", labels, 1.0);
            samples.gauge("in_sync_replicas", "Copies that have everything.", labels, 1.0);
            let mut segment_bytes = 0;
            for index in 0..topic.partitions() {
                let partition = Partition { topic: topic.id(), index };
                segment_bytes += self.inner.read(|reader| Ok(reader.segment_bytes(partition))).unwrap_or(0);
                let (Ok((start, end)), Ok((_, stable))) =
                    (self.inner.bounds(topic, index), self.inner.stable_bounds(topic, index))
                else {
                    continue;
                };
                let index = index.to_string();
                let labels = &[("topic", topic.name()), ("partition", &index)];
                samples.gauge("log_start_offset", "First offset that can be read.", labels, start as f64);
                samples.gauge("log_end_offset", "Offset that the next record gets.", labels, end as f64);
                let help = "Where the records end whose transactions are decided.";
                samples.gauge("last_stable_offset", help, labels, stable as f64);
            }
            let help = "Bytes of a topic's segments, without what is only in the journal.";
            samples.gauge("log_size_bytes", help, labels, segment_bytes as f64);
        }
    }

    fn add_clients(&self, samples: &mut Samples) {
        let clients = &self.inner.clients;
        clients.each_producer(|(name, sent)| {
            let labels = &[("producer", name.as_str())];
            samples.counter(
                "producer_records_total",
                "Records that were stored.",
                labels,
                read(&sent.records),
            );
            let help = "Bytes of keys, values and headers of these, about.";
            samples.counter("producer_bytes_total", help, labels, read(&sent.bytes));
            let help =
                "From the first record of a batch, or from a commit, to the answer; each record counts.";
            samples.histogram("producer_send_seconds", help, labels, sent.took.read());
            for (code, records) in &*sent.errors.lock() {
                let code = code.to_string();
                let labels = &[("producer", name.as_str()), ("error", code.as_str())];
                let help = "Records that were answered by an error, by Kafka's number of it.";
                samples.counter("producer_errors_total", help, labels, *records);
            }
        });
        clients.each_group(|(name, consumed)| {
            let labels = &[("group", name.as_str())];
            samples.counter(
                "consumer_records_total",
                "Records that were handed out.",
                labels,
                read(&consumed.records),
            );
            let help = "Bytes of keys, values and headers of these.";
            samples.counter("consumer_bytes_total", help, labels, read(&consumed.bytes));
            let help = "Reads that were answered by an error.";
            samples.counter("consumer_errors_total", help, labels, read(&consumed.errors));
            let help =
                "From a record's timestamp until it was handed out: that of the last one of each read.";
            samples.histogram("consumer_latency_seconds", help, labels, consumed.age.read());
        });
    }

    /// A partition in which a group never committed has no lag, and no series.
    fn add_groups(&self, samples: &mut Samples) {
        for group in self.groups() {
            let labels = &[("group", group.name.as_str())];
            samples.gauge("group_members", "Members of a group.", labels, group.members.len() as f64);
            let lag =
                group.positions.iter().filter(|it| it.committed.is_some()).map(|it| it.lag).sum::<u64>();
            let help = "Records that a group has not consumed, of all partitions in which it has committed.";
            samples.gauge("group_lag_records_sum", help, labels, lag as f64);
            for position in &group.positions {
                let Some(committed) = position.committed else { continue };
                let partition = position.partition.to_string();
                let labels = &[
                    ("group", group.name.as_str()),
                    ("topic", position.topic.as_str()),
                    ("partition", &partition),
                ];
                let help = "Records that a group has not consumed: only those that it would be shown.";
                samples.gauge("group_lag_records", help, labels, position.lag as f64);
                let help = "How long ago the first of them happened.";
                samples.gauge("group_lag_seconds", help, labels, position.lag_ms as f64 / 1e3);
                samples.gauge("group_offset", "First offset that isn't consumed.", labels, committed as f64);
                let lost = position.start.saturating_sub(committed);
                let help = "Offsets that were trimmed before the group has consumed them.";
                samples.gauge("group_lost_records", help, labels, lost as f64);
            }
        }
    }
}

fn add_log(samples: &mut Samples, metrics: &Metrics, now_ms: i64) {
    let Metrics { timers, dedup, .. } = metrics;
    let seconds = |us: u64| us as f64 / 1e6;
    let mut counter = |name, help, value| samples.counter(name, help, &[], value);
    counter("commands_total", "Commands that were applied, refused ones included.", metrics.commands);
    counter("commands_refused_total", "Commands that were refused.", metrics.refused);
    let help = "Appends that were answered with the place of an earlier one.";
    counter("duplicate_batches_total", help, metrics.duplicates);
    counter("commits_total", "Embedded transactions that were committed.", metrics.commits);
    counter("journal_groups_total", "Groups of commands that were written.", metrics.groups);
    counter(
        "offsets_expired_total",
        "Committed offsets that nobody used and that were forgotten.",
        metrics.offsets_expired,
    );
    counter("dedup_hits_total", "Events and commands whose id was seen before.", metrics.dedup_hits);
    counter(
        "dedup_released_total",
        "Reservations that ended before they were finished.",
        metrics.dedup_released,
    );
    counter("dedup_lookups_total", "Ids that were looked for on disk.", dedup.look_ups);
    counter(
        "dedup_false_positives_total",
        "Blocks that were read for nothing for that.",
        dedup.false_positives,
    );
    counter("timers_fired_total", "Timers that have fired.", timers.fired);
    let help = "Time in which groups were written, synced and applied.";
    samples.sum("journal_group_seconds_total", help, &[], seconds(metrics.group_us));
    let help = "How much later than they were due timers have fired, together.";
    samples.sum("timer_lateness_seconds_total", help, &[], timers.lateness_ms as f64 / 1e3);
    let mut gauge = |name, help, value: f64| samples.gauge(name, help, &[], value);
    gauge("lsn", "Position of the last command.", metrics.lsn as f64);
    gauge("durable_lsn", "Position up to which everything is on disk.", metrics.durable_lsn as f64);
    gauge("submit_queue_bytes", "Bytes that wait to be written.", metrics.queue_bytes as f64);
    gauge("tail_cache_bytes", "Bytes of recent batches in memory.", metrics.tail_cache_bytes as f64);
    gauge("journal_bytes", "Bytes that journal files take.", metrics.journal_bytes as f64);
    gauge(
        "unflushed_batches",
        "Batches that are only in the journal so far.",
        metrics.unflushed_batches as f64,
    );
    gauge("open_transactions", "Wire transactions that are open.", metrics.open_transactions as f64);
    let open_ms = metrics.oldest_transaction_ms.map_or(0, |since_ms| now_ms.saturating_sub(since_ms).max(0));
    gauge(
        "oldest_open_transaction_seconds",
        "Age of the oldest of them; 0: there is none.",
        open_ms as f64 / 1e3,
    );
    gauge("shard_poisoned", "1: writing has ended by a failure.", f64::from(u8::from(metrics.failed)));
    gauge(
        "clock_held",
        "1: a step of the clock waits to be accepted.",
        f64::from(u8::from(metrics.clock_held)),
    );
    gauge("tables", "Tables.", metrics.tables as f64);
    gauge("table_keys", "Keys of all tables together.", metrics.table_keys as f64);
    gauge("timers", "Events that wait for their time.", timers.waiting as f64);
    gauge("timers_stuck", "Of these, those that can't go where they were to go.", timers.stuck as f64);
    gauge("timer_lateness_max_seconds", "The most that one was late.", timers.lateness_max_ms as f64 / 1e3);
    gauge("dedup_entries", "Ids that are remembered as seen.", metrics.dedup_entries as f64);
    gauge("dedup_reserved", "Ids that are reserved.", metrics.dedup_reserved as f64);
    gauge("dedup_window_seconds", "How long back every id is known.", metrics.dedup_window_ms as f64 / 1e3);
    gauge("dedup_memory_entries", "Ids in memory.", dedup.in_memory as f64);
    gauge("dedup_runs", "Sorted files that have the others.", dedup.runs as f64);
    gauge("dedup_bytes", "What these take on disk.", dedup.run_bytes as f64);
}
