package compat;

import static compat.Client.check;
import static compat.Client.name;
import static compat.Client.numbers;
import static compat.Client.range;
import static compat.Client.refused;
import static compat.Client.same;
import static compat.Client.send;
import static compat.Client.until;

import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.TransactionState;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.ProducerFencedException;

/** Transactions: consume, transform, produce, and what comes between. */
final class Transactions {
    /** Each batch is written twice, first in a transaction that is aborted. */
    static void copy(Client client) throws Exception {
        String source = client.topic(2);
        String sink = client.topic(2);
        String group = name("group");
        try (KafkaProducer<String, String> producer = client.producer()) {
            send(producer, source, 0, 1000);
        }
        int aborted = 0;
        try (KafkaProducer<String, String> writer = client.transactional(name("writer"));
            KafkaConsumer<String, String> reader = client.consumer(group, "max.poll.records", "100")) {
            reader.subscribe(List.of(source));
            long end = System.nanoTime() + Client.PATIENCE.toNanos();
            for (int seen = 0; seen < 1000;) {
                check(seen + " of 1000 records", System.nanoTime() < end);
                ConsumerRecords<String, String> batch = reader.poll(Duration.ofMillis(500));
                if (batch.isEmpty()) {
                    continue;
                }
                for (boolean commit : new boolean[] {false, true}) {
                    writer.beginTransaction();
                    Map<TopicPartition, OffsetAndMetadata> positions = new HashMap<>();
                    for (ConsumerRecord<String, String> record : batch) {
                        writer.send(new ProducerRecord<>(sink, record.key(), record.value()));
                        positions.put(new TopicPartition(source, record.partition()),
                            new OffsetAndMetadata(record.offset() + 1));
                    }
                    writer.sendOffsetsToTransaction(positions, reader.groupMetadata());
                    if (commit) {
                        writer.commitTransaction();
                    } else {
                        writer.flush();
                        writer.abortTransaction();
                        Map<TopicPartition, OffsetAndMetadata> before = reader.committed(reader.assignment());
                        long sum = before.values().stream().mapToLong(each -> each == null ? 0 : each.offset()).sum();
                        same("offsets after an abort", sum, (long) seen);
                        aborted += batch.count();
                    }
                }
                seen += batch.count();
            }
            long sum = reader.committed(reader.assignment()).values().stream()
                .mapToLong(OffsetAndMetadata::offset).sum();
            same("offsets at the end", sum, 1000L);
        }
        same("committed", numbers(client.readAll(sink, "read_committed")), range(0, 1000));
        same("all", client.readAll(sink, "read_uncommitted").size(), 1000 + aborted);
    }

    static void fence(Client client) throws Exception {
        String topic = client.topic(1);
        String id = name("writer");
        try (KafkaProducer<String, String> first = client.transactional(id)) {
            first.beginTransaction();
            first.send(new ProducerRecord<>(topic, "0", "0")).get();
            try (KafkaProducer<String, String> second = client.transactional(id)) {
                refused("commit of the fenced", first::commitTransaction,
                    ProducerFencedException.class, InvalidProducerEpochException.class);
                second.beginTransaction();
                send(second, topic, 1, 2);
                second.commitTransaction();
            }
        }
        same("committed", numbers(client.readAll(topic, "read_committed")), range(1, 2));
    }

    /** The last stable offset waits for a transaction that nobody ends, and goes on when its time is over. */
    static void timeout(Client client) throws Exception {
        String topic = client.topic(1);
        Map<TopicPartition, OffsetSpec> latest = Map.of(new TopicPartition(topic, 0), OffsetSpec.latest());
        var options = new org.apache.kafka.clients.admin.ListOffsetsOptions(IsolationLevel.READ_COMMITTED);
        try (KafkaProducer<String, String> left = client.transactional(name("writer"), "transaction.timeout.ms",
            "1500");
            KafkaProducer<String, String> plain = client.producer()) {
            left.beginTransaction();
            left.send(new ProducerRecord<>(topic, "0", "0")).get();
            plain.send(new ProducerRecord<>(topic, "1", "1")).get();
            until("the last stable offset passes the abandoned transaction", () -> {
                try {
                    return client.admin.listOffsets(latest,
                        options).all().get().values().iterator().next().offset() > 0;
                } catch (Exception failed) {
                    throw new AssertionError(failed);
                }
            });
            same("committed", numbers(client.readAll(topic, "read_committed")), range(1, 2));
            refused("commit after the timeout", left::commitTransaction, Exception.class);
        }
    }

    static void administration(Client client) throws Exception {
        String topic = client.topic(1);
        TopicPartition partition = new TopicPartition(topic, 0);
        String id = name("writer");
        try (KafkaProducer<String, String> writer = client.transactional(id)) {
            writer.beginTransaction();
            writer.send(new ProducerRecord<>(topic, "0", "0")).get();
            var found = client.admin.describeTransactions(List.of(id)).description(id).get();
            same("state", found.state(), TransactionState.ONGOING);
            same("partitions", found.topicPartitions(), Set.of(partition));
            check("it is listed", client.admin.listTransactions().all().get().stream()
                .anyMatch(each -> each.transactionalId().equals(id) && each.state() == TransactionState.ONGOING));
            var producers = client.admin.describeProducers(List.of(partition)).partitionResult(partition).get();
            same("producers of the partition", producers.activeProducers().size(), 1);
            same("its producer", producers.activeProducers().get(0).producerId(), found.producerId());
            client.admin.fenceProducers(List.of(id)).all().get();
            refused("commit of the fenced", writer::commitTransaction,
                ProducerFencedException.class, InvalidProducerEpochException.class);
        }
        same("committed", client.readAll(topic, "read_committed").size(), 0);
    }
}
