package compat;

import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.kafka.annotation.EnableKafka;
import org.springframework.kafka.annotation.KafkaListener;
import org.springframework.kafka.config.ConcurrentKafkaListenerContainerFactory;
import org.springframework.kafka.config.TopicBuilder;
import org.springframework.kafka.core.ConsumerFactory;
import org.springframework.kafka.core.DefaultKafkaConsumerFactory;
import org.springframework.kafka.core.DefaultKafkaProducerFactory;
import org.springframework.kafka.core.KafkaAdmin;
import org.springframework.kafka.core.KafkaTemplate;
import org.springframework.kafka.core.ProducerFactory;
import org.springframework.kafka.listener.DeadLetterPublishingRecoverer;
import org.springframework.kafka.listener.DefaultAfterRollbackProcessor;
import org.springframework.kafka.listener.DefaultErrorHandler;
import org.springframework.kafka.support.ExponentialBackOffWithMaxRetries;
import org.springframework.kafka.transaction.KafkaTransactionManager;

/**
 * An application as people write it: orders come in, a listener publishes results, another group publishes
 * conversations, what
 * fails three times goes to a topic for dead letters and is processed from there. Each step is a transaction.
 *
 * <p>Orders whose number is divisible by POISON fail in the group `orders` whenever they come from `order-events`.
 */
@Configuration
@EnableKafka
public class Orders {
    static final String ORDERS = "order-events";
    static final String RESULTS = "result-events";
    static final String CONVERSATIONS = "conversation-events";
    static final String DEAD = "order-events-dlt";
    /** Each of so many orders fails. */
    static final int POISON = Integer.getInteger("poison", 50);

    /** When each order that fails was tried, by its number. */
    final Map<Integer, List<Long>> attempts = new ConcurrentHashMap<>();
    /** How often handlers ran; more often than there are orders, when transactions were rolled back. */
    final AtomicInteger handled = new AtomicInteger();

    @Value("${node}")
    private String node;

    @Bean
    public KafkaAdmin admin() {
        KafkaAdmin admin = new KafkaAdmin(Map.of("bootstrap.servers", node));
        admin.setFatalIfBrokerNotAvailable(true);
        return admin;
    }

    @Bean
    public KafkaAdmin.NewTopics topics() {
        return new KafkaAdmin.NewTopics(
            topic(ORDERS, 10, "604800000"), topic(CONVERSATIONS, 20, "2592000000"),
            TopicBuilder.name(RESULTS).partitions(10).replicas(1).build(),
            TopicBuilder.name(DEAD).partitions(10).replicas(1).build());
    }

    private static NewTopic topic(String name, int partitions, String retentionMs) {
        return TopicBuilder.name(name).partitions(partitions).replicas(1).config("retention.ms", retentionMs)
            .config("compression.type", "snappy").config("cleanup.policy", "delete").build();
    }

    @Bean
    public ProducerFactory<String, String> producers() {
        DefaultKafkaProducerFactory<String, String> factory = new DefaultKafkaProducerFactory<>(
            Map.of("bootstrap.servers", node, "acks", "all", "enable.idempotence", "true", "compression.type", "snappy",
                "max.block.ms", "120000", "transaction.timeout.ms", "60000"),
            new StringSerializer(), new StringSerializer());
        factory.setTransactionIdPrefix("orders-");
        return factory;
    }

    @Bean
    public ConsumerFactory<String, String> consumers() {
        Map<String, Object> settings = new HashMap<>(Map.of("bootstrap.servers", node, "enable.auto.commit", "false",
            "isolation.level", "read_committed", "auto.offset.reset", "earliest", "max.poll.records", "20"));
        return new DefaultKafkaConsumerFactory<>(settings, new StringDeserializer(), new StringDeserializer());
    }

    @Bean
    public KafkaTemplate<String, String> template() {
        KafkaTemplate<String, String> template = new KafkaTemplate<>(producers());
        template.setConsumerFactory(consumers());
        return template;
    }

    @Bean
    public KafkaTransactionManager<String, String> transactions() {
        return new KafkaTransactionManager<>(producers());
    }

    /** Three attempts: after one second, after two. The limit of ten seconds is there, and isn't reached. */
    private static ExponentialBackOffWithMaxRetries backOff() {
        ExponentialBackOffWithMaxRetries backOff = new ExponentialBackOffWithMaxRetries(2);
        backOff.setInitialInterval(1000);
        backOff.setMultiplier(2);
        backOff.setMaxInterval(10_000);
        return backOff;
    }

    private DeadLetterPublishingRecoverer deadLetters() {
        return new DeadLetterPublishingRecoverer(template(), (record, error) -> new TopicPartition(DEAD,
            record.partition()));
    }

    private ConcurrentKafkaListenerContainerFactory<String, String> listeners(int concurrency) {
        ConcurrentKafkaListenerContainerFactory<String,
            String> factory = new ConcurrentKafkaListenerContainerFactory<>();
        factory.setConsumerFactory(consumers());
        factory.setConcurrency(concurrency);
        factory.getContainerProperties().setKafkaAwareTransactionManager(transactions());
        return factory;
    }

    /** The error handler throws, so that a transaction in which an attempt failed is rolled back. */
    @Bean
    public ConcurrentKafkaListenerContainerFactory<String, String> withErrorHandler() {
        ConcurrentKafkaListenerContainerFactory<String, String> factory = listeners(5);
        factory.setCommonErrorHandler(new DefaultErrorHandler(deadLetters(), backOff()));
        return factory;
    }

    /** Without an error handler the transaction is rolled back first; the dead letter has one of its own. */
    @Bean
    public ConcurrentKafkaListenerContainerFactory<String, String> withRollback() {
        ConcurrentKafkaListenerContainerFactory<String, String> factory = listeners(2);
        factory.setAfterRollbackProcessor(
            new DefaultAfterRollbackProcessor<>(deadLetters(), backOff(), template(), true));
        return factory;
    }

    @KafkaListener(id = "orders", groupId = "orders", topics = ORDERS, containerFactory = "withErrorHandler")
    public void order(ConsumerRecord<String, String> record) {
        handled.incrementAndGet();
        int number = Integer.parseInt(record.value());
        if (number % POISON == 0) {
            attempts.computeIfAbsent(number, key -> new CopyOnWriteArrayList<>()).add(System.currentTimeMillis());
            throw new IllegalStateException("order " + number + " fails");
        }
        template().send(RESULTS, record.key(), record.value());
    }

    @KafkaListener(id = "conversations", groupId = "conversations", topics = ORDERS, containerFactory = "withRollback")
    public void conversation(ConsumerRecord<String, String> record) {
        template().send(CONVERSATIONS, record.key(), record.value());
    }

    @KafkaListener(id = "dead", groupId = "dead", topics = DEAD, containerFactory = "withRollback")
    public void again(ConsumerRecord<String, String> record) {
        template().send(RESULTS, record.key(), "again " + record.value());
    }

    /** Numbers of orders in a topic's values, with how often each is there. */
    static Map<Integer, Long> counts(List<String> values) {
        return values.stream().map(value -> Integer.valueOf(value.replace("again ", "")))
            .collect(Collectors.groupingBy(number -> number, Collectors.counting()));
    }
}
