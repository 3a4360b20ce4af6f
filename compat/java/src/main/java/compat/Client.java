package compat;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.ExecutionException;
import java.util.function.BooleanSupplier;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** What all checks need of a node: clients with the settings of exactly-once, names of their own,
    waiting and claims. */
final class Client implements AutoCloseable {
    static final Duration PATIENCE = Duration.ofSeconds(60);

    final String node;
    final Admin admin;

    Client(String node) {
        this.node = node;
        this.admin = Admin.create(Map.of("bootstrap.servers", node, "default.api.timeout.ms", "30000"));
    }

    @Override
    public void close() {
        admin.close();
    }

    static String name(String what) {
        return what + "-" + UUID.randomUUID().toString().substring(0, 8);
    }

    /** A topic of its own, which the node shows: with Kafka that takes a moment after it was made. */
    String topic(int partitions, String... settings) throws Exception {
        String topic = name("topic");
        admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1).configs(pairs(settings)))).all().get();
        until(topic + " is shown", () -> {
            try {
                return admin.describeTopics(List.of(topic)).allTopicNames().get().containsKey(topic);
            } catch (ExecutionException | InterruptedException notYet) {
                return false;
            }
        });
        return topic;
    }

    KafkaProducer<String, String> producer(String... settings) {
        Map<String, Object> all = new HashMap<>(Map.of("bootstrap.servers", node, "acks", "all",
            "enable.idempotence", "true", "linger.ms", "0"));
        all.putAll(pairs(settings));
        return new KafkaProducer<>(all, new StringSerializer(), new StringSerializer());
    }

    KafkaProducer<String, String> transactional(String id, String... settings) {
        Map<String, String> all = pairs(settings);
        all.put("transactional.id", id);
        KafkaProducer<String, String> producer = producer(flat(all));
        producer.initTransactions();
        return producer;
    }

    KafkaConsumer<String, String> consumer(String group, String... settings) {
        Map<String, Object> all = new HashMap<>(Map.of("bootstrap.servers", node, "enable.auto.commit", "false",
            "isolation.level", "read_committed", "auto.offset.reset", "earliest"));
        if (group != null) {
            all.put("group.id", group);
        }
        all.putAll(pairs(settings));
        return new KafkaConsumer<>(all, new StringDeserializer(), new StringDeserializer());
    }

    /** Values of a topic from its first record to its end as the isolation level has it, in the order of partitions. */
    List<ConsumerRecord<String, String>> readAll(String topic, String isolation) {
        try (KafkaConsumer<String, String> reader = consumer(null, "isolation.level", isolation)) {
            List<TopicPartition> partitions = reader.partitionsFor(topic).stream()
                .map(each -> new TopicPartition(topic, each.partition())).toList();
            reader.assign(partitions);
            reader.seekToBeginning(partitions);
            return readToEnd(reader);
        }
    }

    /** From where the consumer stands to the ends of its partitions. */
    static List<ConsumerRecord<String, String>> readToEnd(KafkaConsumer<String, String> reader) {
        Map<TopicPartition, Long> ends = reader.endOffsets(reader.assignment());
        List<ConsumerRecord<String, String>> records = new ArrayList<>();
        long until = System.nanoTime() + PATIENCE.toNanos();
        while (!ends.entrySet().stream().allMatch(end -> reader.position(end.getKey()) >= end.getValue())) {
            check("the ends " + ends + " are reached", System.nanoTime() < until);
            reader.poll(Duration.ofMillis(200)).forEach(records::add);
        }
        return records;
    }

    static void send(KafkaProducer<String, String> producer, String topic, int from, int to) {
        for (int number = from; number < to; number++) {
            producer.send(new ProducerRecord<>(topic, "" + number, "" + number));
        }
    }

    static List<Integer> numbers(List<ConsumerRecord<String, String>> records) {
        return records.stream().map(record -> Integer.valueOf(record.value())).sorted().toList();
    }

    static List<Integer> range(int from, int to) {
        List<Integer> numbers = new ArrayList<>();
        for (int number = from; number < to; number++) {
            numbers.add(number);
        }
        return numbers;
    }

    static void check(String what, boolean holds) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    static void same(String what, Object is, Object expected) {
        if (!expected.equals(is)) {
            throw new AssertionError(what + ": is " + is + ", expected " + expected);
        }
    }

    static void until(String what, BooleanSupplier holds) throws InterruptedException {
        long end = System.nanoTime() + PATIENCE.toNanos();
        while (!holds.getAsBoolean()) {
            check(what + ", within " + PATIENCE, System.nanoTime() < end);
            Thread.sleep(50);
        }
    }

    interface Step {
        void run() throws Exception;
    }

    /** The step fails with one of these errors, be it the cause of a future's. */
    static void refused(String what, Step step, Class<?>... errors) throws Exception {
        Throwable met = null;
        try {
            step.run();
        } catch (ExecutionException failed) {
            met = failed.getCause();
        } catch (Exception failed) {
            met = failed;
        }
        Throwable error = met;
        List<String> names = Arrays.stream(errors).map(Class::getSimpleName).toList();
        check(what + ": met " + met + ", expected one of " + names,
            error != null && Arrays.stream(errors).anyMatch(each -> each.isInstance(error)));
    }

    static Map<String, String> pairs(String... settings) {
        Map<String, String> pairs = new HashMap<>();
        for (int at = 0; at < settings.length; at += 2) {
            pairs.put(settings[at], settings[at + 1]);
        }
        return pairs;
    }

    private static String[] flat(Map<String, String> pairs) {
        return pairs.entrySet().stream().flatMap(pair -> List.of(pair.getKey(), pair.getValue()).stream())
            .toArray(String[]::new);
    }
}
