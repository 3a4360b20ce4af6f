package compat;

import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.AuthorizationException;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.OutOfOrderSequenceException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.TimeoutException;

/**
 * Copies records in transactions, with the positions of its group, until a file `stop` is there. As
 * compat/python/copier.py, which says what it writes: records, states and lines.
 */
final class Copier implements AutoCloseable {
    private static final int RECORDS = 20;
    private static final int ABORTED = 10;

    private final Client client;
    private final Path directory;
    private final String name;
    private final String sink;
    private final int partitions;
    private final KafkaConsumer<String, String> reader;
    private final RandomAccessFile state;
    private KafkaProducer<String, String> writer;
    private int number;

    Copier(Client client, Path directory, String name, String source, String sink) throws IOException {
        this.client = client;
        this.directory = directory;
        this.name = name;
        this.sink = sink;
        this.state = new RandomAccessFile(directory.resolve(name + ".state").toFile(), "rw");
        byte[] before = new byte[16];
        // One that was started again goes on counting.
        this.number = state.read(before) == before.length ? Integer.parseInt(new String(before, 8, 8,
            StandardCharsets.US_ASCII).trim()) : 0;
        List<String> settings = new ArrayList<>(List.of("max.poll.records", "" + RECORDS, "retry.backoff.ms", "20",
            "reconnect.backoff.max.ms", "100"));
        settings.addAll("consumer".equals(System.getenv("GROUP_PROTOCOL"))
            ? List.of("group.protocol", "consumer", "group.remote.assignor", "range")
            : List.of("heartbeat.interval.ms", "300", "session.timeout.ms", "6000", "partition.assignment.strategy",
                "org.apache.kafka.clients.consumer.RangeAssignor"));
        this.reader = client.consumer("copiers", settings.toArray(String[]::new));
        this.writer = producer();
        this.partitions = writer.partitionsFor(sink).size();
        reader.subscribe(List.of(source));
    }

    static void run(Client client, List<String> arguments) throws Exception {
        Path directory = Path.of(arguments.get(0));
        try (Copier copier = new Copier(client, directory, arguments.get(1), arguments.get(2), arguments.get(3))) {
            while (!Files.exists(directory.resolve("stop"))) {
                copier.step();
            }
            copier.says("ended");
        }
    }

    @Override
    public void close() throws IOException {
        writer.close();
        reader.close();
        state.close();
    }

    private KafkaProducer<String, String> producer() {
        while (true) {
            try {
                return client.transactional(name, "client.id", "copier-" + name, "retry.backoff.ms", "20",
                    "reconnect.backoff.max.ms", "100");
            } catch (TimeoutException again) {
                says("again " + again);
            }
        }
    }

    private void step() throws IOException {
        List<ConsumerRecord<String, String>> records = new ArrayList<>();
        reader.poll(Duration.ofMillis(200)).forEach(records::add);
        if (records.isEmpty()) {
            return;
        }
        number += 1;
        try {
            transaction(records);
        } catch (ProducerFencedException | InvalidProducerEpochException | OutOfOrderSequenceException
            | AuthorizationException fatal) {
            anew(fatal);
        } catch (KafkaException failed) {
            says("failed " + number + " " + failed);
            abort();
        }
        is("idle");
    }

    private void transaction(List<ConsumerRecord<String, String>> records) throws IOException {
        is("begins");
        writer.beginTransaction();
        Map<Integer, List<String>> values = new HashMap<>();
        Map<TopicPartition, OffsetAndMetadata> positions = new HashMap<>();
        for (ConsumerRecord<String, String> record : records) {
            int partition = Integer.parseInt(record.value()) % partitions;
            values.computeIfAbsent(partition, none -> new ArrayList<>()).add(record.value());
            positions.put(new TopicPartition(record.topic(), record.partition()),
                new OffsetAndMetadata(record.offset() + 1));
        }
        for (var of : values.entrySet()) {
            List<String> all = of.getValue();
            for (int nth = 0; nth < all.size(); nth++) {
                String value = String.join(" ", all.get(nth), name, "" + number, "" + nth, "" + all.size(),
                    "" + records.size());
                writer.send(new ProducerRecord<>(sink, of.getKey(), all.get(nth), value));
            }
        }
        writer.flush();
        is("open");
        pause(5);
        writer.sendOffsetsToTransaction(positions, reader.groupMetadata());
        if (number % ABORTED == 0) {
            abort();
            return;
        }
        is("commit");
        while (true) {
            try {
                writer.commitTransaction();
                break;
            } catch (TimeoutException again) {
                says("again " + number + " " + again);
            }
        }
        says("committed " + number);
    }

    /** Ends the transaction, and goes back to where the group is. */
    private void abort() throws IOException {
        is("abort");
        while (true) {
            try {
                writer.abortTransaction();
                break;
            } catch (TimeoutException again) {
                says("again " + number + " " + again);
            } catch (KafkaException fatal) {
                anew(fatal);
                return;
            }
        }
        says("aborted " + number);
        rewind();
    }

    private void anew(KafkaException fatal) {
        says("fatal " + number + " " + fatal);
        writer.close(Duration.ZERO);
        writer = producer();
        rewind();
    }

    private void rewind() {
        while (true) {
            try {
                reader.committed(reader.assignment()).forEach((partition, committed) ->
                    reader.seek(partition, committed == null ? 0 : committed.offset()));
                reader.resume(reader.paused());
                return;
            } catch (KafkaException | IllegalStateException again) {
                says("again " + number + " " + again);
                // It may have to join its group anew first, and consumers of KIP-848 lose partitions at any time. What
                // comes with that is read again.
                reader.pause(reader.assignment());
                reader.poll(Duration.ofMillis(100));
            }
        }
    }

    /** Written as a whole, at the beginning of the file. */
    private void is(String state) throws IOException {
        this.state.seek(0);
        this.state.write(String.format("%-8s%8d", state, number).getBytes(StandardCharsets.US_ASCII));
    }

    private void says(String line) {
        System.out.println(line);
    }

    private static void pause(int ms) {
        try {
            Thread.sleep(ms);
        } catch (InterruptedException interrupted) {
            throw new KafkaException(interrupted);
        }
    }
}
