package compat;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Scanner;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.BooleanSupplier;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.springframework.context.annotation.AnnotationConfigApplicationContext;
import org.springframework.kafka.config.KafkaListenerEndpointRegistry;
import org.springframework.kafka.core.ConsumerFactory;
import org.springframework.kafka.core.KafkaAdmin;
import org.springframework.kafka.core.KafkaTemplate;
import org.springframework.kafka.listener.ConcurrentMessageListenerContainer;
import org.springframework.kafka.listener.MessageListenerContainer;

/**
 * The application against a node.
 *
 * <pre>
 * Main HOST:PORT          300 orders, and what became of them
 * Main HOST:PORT kills    orders until a line comes in, while somebody kills the node; `progress N` says how many
 * results there
 *                         are, each half second
 * </pre>
 */
public final class Main {
    private static final Duration PATIENCE = Duration.ofMinutes(5);
    private final AnnotationConfigApplicationContext context = new AnnotationConfigApplicationContext();
    private final KafkaTemplate<String, String> template;
    private final Orders application;

    @SuppressWarnings("unchecked")
    private Main(String node) {
        System.setProperty("node", node);
        context.register(Orders.class);
        context.refresh();
        template = context.getBean(KafkaTemplate.class);
        application = context.getBean(Orders.class);
    }

    public static void main(String[] arguments) throws Exception {
        try {
            Main main = new Main(arguments[0]);
            if (arguments.length > 1) {
                main.kills();
            } else {
                main.checks();
            }
            main.context.close();
            System.exit(0);
        } catch (AssertionError | Exception failed) {
            failed.printStackTrace();
            System.out.println("FAILED  spring: " + failed.getMessage());
            System.exit(1);
        }
    }

    private void checks() throws Exception {
        settings();
        // Attempts are counted anew where a partition gets another member.
        until("each thread has its partitions", () -> context.getBean(KafkaListenerEndpointRegistry.class)
            .getListenerContainers().stream().allMatch(Main::isSettled));
        for (int from = 1; from <= 300; from += 10) {
            order(from, from + 10);
        }
        until("each order has a result", () -> read(Orders.RESULTS, 0).size() == 300);
        until("each order has a conversation", () -> read(Orders.CONVERSATIONS, 0).size() == 300);
        processedOnce(300);
        retries();
        seek();
    }

    private static boolean isSettled(MessageListenerContainer container) {
        var threads = ((ConcurrentMessageListenerContainer<?, ?>) container).getContainers();
        return threads.stream().allMatch(each ->
            each.getAssignedPartitions() != null && each.getAssignedPartitions().size() == 10 / threads.size());
    }

    /** The topics are described with the values that they were made with. */
    private void settings() throws Exception {
        try (Admin admin = Admin.create(context.getBean(KafkaAdmin.class).getConfigurationProperties())) {
            for (var topic : Map.of(Orders.ORDERS, List.of("10", "604800000"), Orders.CONVERSATIONS, List.of("20",
                "2592000000"))
                .entrySet()) {
                ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic.getKey());
                var config = admin.describeConfigs(List.of(resource)).all().get().get(resource);
                var partitions = admin.describeTopics(List.of(topic.getKey())).allTopicNames().get()
                    .get(topic.getKey()).partitions();
                same("partitions", "" + partitions.size(), topic.getValue().get(0));
                same("retention.ms", config.get("retention.ms").value(), topic.getValue().get(1));
                same("compression.type", config.get("compression.type").value(), "snappy");
                same("cleanup.policy", config.get("cleanup.policy").value(), "delete");
            }
        }
        System.out.println("ok  spring: topics have the settings that were asked for");
    }

    /** A transaction with these orders. */
    private void order(int from, int to) {
        template.executeInTransaction(operations -> {
            for (int number = from; number < to; number++) {
                operations.send(Orders.ORDERS, "order-" + number, "" + number);
            }
            return null;
        });
    }

    /** Every order from 1 on is in each topic once, as readers of committed records see it. */
    private void processedOnce(int orders) {
        for (String topic : List.of(Orders.ORDERS, Orders.RESULTS, Orders.CONVERSATIONS)) {
            Map<Integer, Long> counts = Orders.counts(values(topic));
            long lost = 0;
            for (int number = 1; number <= orders; number++) {
                lost += counts.containsKey(number) ? 0 : 1;
            }
            long doubled = counts.values().stream().filter(count -> count > 1).count();
            same(topic + ": lost, doubled, others", List.of(lost, doubled, (long) counts.size() - orders), List.of(0L,
                0L, 0L));
        }
        long again = values(Orders.RESULTS).stream().filter(value -> value.startsWith("again ")).count();
        same("results that came from dead letters", again, (long) orders / Orders.POISON);
        same("dead letters", read(Orders.DEAD, 0).size(), orders / Orders.POISON);
        System.out.printf("ok  spring: each of %d orders is processed once, %d of them from dead letters%n", orders,
            again);
    }

    private void retries() {
        same("orders that failed", application.attempts.size(), 300 / Orders.POISON);
        for (var order : application.attempts.entrySet()) {
            List<Long> at = order.getValue();
            same("attempts of order " + order.getKey(), at.size(), 3);
            check("a second between the first two", at.get(1) - at.get(0) >= 1000);
            check("two seconds between the next two", at.get(2) - at.get(1) >= 2000);
        }
        System.out.println("ok  spring: three attempts, after 1000 ms and 2000 ms more");
    }

    /** From an offset in the middle of a partition to its end. */
    private void seek() {
        List<ConsumerRecord<String, String>> all = read(Orders.ORDERS,
            0).stream().filter(each -> each.partition() == 3).toList();
        check("the partition has records", all.size() > 4);
        ConsumerRecord<String, String> middle = all.get(all.size() / 2);
        List<ConsumerRecord<String, String>> rest = read(Orders.ORDERS, middle.offset()).stream()
            .filter(each -> each.partition() == 3).toList();
        same("the first record", rest.get(0).value(), middle.value());
        same("records from there on", rest.size(), all.size() - all.size() / 2);
        var received = template.receive(Orders.ORDERS, 3, middle.offset());
        same("a single record", received == null ? "none" : received.value(), middle.value());
        System.out.println("ok  spring: from an offset to the end");
    }

    private void kills() throws Exception {
        AtomicBoolean ended = new AtomicBoolean();
        Thread input = new Thread(() -> {
            new Scanner(System.in).hasNextLine();
            ended.set(true);
        });
        input.setDaemon(true);
        input.start();
        Thread progress = new Thread(() -> {
            while (!ended.get()) {
                System.out.println("progress " + application.handled.get());
                try {
                    Thread.sleep(250);
                } catch (InterruptedException never) {
                    return;
                }
            }
        });
        progress.setDaemon(true);
        progress.start();
        int next = 1;
        int uncertain = 0;
        while (!ended.get()) {
            int from = next;
            try {
                order(from, from + 5);
                next += 5;
            } catch (Exception failed) {
                // Whether it was committed is to be read, as any application has to that has no answer.
                uncertain++;
                System.out.println("uncertain " + failed);
                until("the node answers", this::answers);
                if (Orders.counts(values(Orders.ORDERS)).containsKey(from)) {
                    next += 5;
                }
            }
            Thread.sleep(50);
        }
        int orders = next - 1;
        System.out.println("orders " + orders + ", of transactions without an answer " + uncertain);
        until("each order has a result", () -> values(Orders.RESULTS).size() >= orders);
        until("each order has a conversation", () -> values(Orders.CONVERSATIONS).size() >= orders);
        processedOnce(orders);
        System.out.println("handled " + application.handled.get());
    }

    private boolean answers() {
        try {
            read(Orders.ORDERS, Long.MAX_VALUE);
            return true;
        } catch (Exception failed) {
            return false;
        }
    }

    private List<String> values(String topic) {
        return read(topic, 0).stream().map(ConsumerRecord::value).toList();
    }

    /** What a reader of committed records finds, from an offset of each partition to the ends. */
    @SuppressWarnings("unchecked")
    private List<ConsumerRecord<String, String>> read(String topic, long offset) {
        List<ConsumerRecord<String, String>> records = new ArrayList<>();
        try (Consumer<String, String> consumer = context.getBean(ConsumerFactory.class).createConsumer()) {
            List<TopicPartition> partitions = consumer.partitionsFor(topic).stream()
                .map(each -> new TopicPartition(topic, each.partition())).toList();
            consumer.assign(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            partitions.forEach(each -> consumer.seek(each, Math.min(offset, ends.get(each))));
            long end = System.nanoTime() + PATIENCE.toNanos();
            while (!partitions.stream().allMatch(each -> consumer.position(each) >= ends.get(each))) {
                check("the ends of " + topic + " are reached", System.nanoTime() < end);
                consumer.poll(Duration.ofMillis(200)).forEach(records::add);
            }
        }
        return records;
    }

    private static void until(String what, BooleanSupplier holds) {
        long end = System.nanoTime() + PATIENCE.toNanos();
        while (!holds.getAsBoolean()) {
            check(what + ", within " + PATIENCE, System.nanoTime() < end);
            try {
                Thread.sleep(500);
            } catch (InterruptedException never) {
                throw new AssertionError(never);
            }
        }
    }

    private static void check(String what, boolean holds) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    private static void same(String what, Object is, Object expected) {
        if (!expected.equals(is)) {
            throw new AssertionError(what + ": is " + is + ", expected " + expected);
        }
    }
}
