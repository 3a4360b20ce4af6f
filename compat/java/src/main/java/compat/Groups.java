package compat;

import static compat.Client.name;
import static compat.Client.same;
import static compat.Client.until;

import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.TopicPartition;

/** Groups and their offsets. */
final class Groups {
    static void offsets(Client client) throws Exception {
        String topic = client.topic(2);
        String group = name("group");
        TopicPartition one = new TopicPartition(topic, 0);
        TopicPartition other = new TopicPartition(topic, 1);
        try (KafkaProducer<String, String> producer = client.producer()) {
            Client.send(producer, topic, 0, 100);
        }
        Optional<Integer> leaderEpoch = client.readAll(topic, "read_committed").get(0).leaderEpoch();
        OffsetAndMetadata position = new OffsetAndMetadata(5, leaderEpoch, "zwölf: 十二");
        try (KafkaConsumer<String, String> reader = client.consumer(group)) {
            reader.assign(List.of(one, other));
            reader.commitSync(Map.of(one, position));
        }
        try (KafkaConsumer<String, String> reader = client.consumer(group)) {
            Map<TopicPartition, OffsetAndMetadata> committed = reader.committed(Set.of(one, other));
            same("offset and metadata", committed.get(one), position);
            Client.check("nothing is committed for the other", committed.get(other) == null);
            reader.assign(List.of(one));
            same("where it goes on", reader.position(one), 5L);
        }
        same("as the admin client sees it",
            client.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get(), Map.of(one, position));
    }

    /** What was committed comes back with Kafka; exactlog says the epoch that the partition had, or none. */
    static void leaderEpoch(Client client) throws Exception {
        TopicPartition partition = new TopicPartition(client.topic(1), 0);
        try (KafkaConsumer<String, String> reader = client.consumer(name("group"))) {
            for (Optional<Integer> leaderEpoch : List.of(Optional.of(0), Optional.<Integer>empty())) {
                OffsetAndMetadata position = new OffsetAndMetadata(0, leaderEpoch, "");
                reader.assign(List.of(partition));
                reader.commitSync(Map.of(partition, position));
                OffsetAndMetadata committed = reader.committed(Set.of(partition)).get(partition);
                if ("kafka".equals(System.getenv("BROKER"))) {
                    same("committed", committed, position);
                } else {
                    same("committed", committed, new OffsetAndMetadata(0, Optional.empty(), ""));
                }
            }
        }
    }

    /** The one that is left has all partitions, and nothing is lost. */
    static void killed(Client client, String protocol) throws Exception {
        String topic = client.topic(4);
        String group = name("group");
        try (KafkaProducer<String, String> producer = client.producer();
            Member one = new Member(client.node, protocol, group, topic);
            Member two = new Member(client.node, protocol, group, topic)) {
            until("each has a half", () -> one.partitions().size() == 2 && two.partitions().size() == 2);
            Client.send(producer, topic, 0, 400);
            producer.flush();
            until("both together read all", () -> both(one, two).size() == 400);
            Client.check("each has read", !one.committed.isEmpty() && !two.committed.isEmpty());
            same("members",
                client.admin.describeConsumerGroups(List.of(group)).all().get().get(group).members().size(), 2);
            one.kill();
            Client.send(producer, topic, 400, 800);
            producer.flush();
            until("the other has all partitions", () -> two.partitions().size() == 4);
            until("nothing is lost", () -> both(one, two).size() == 800);
        }
        long sum = client.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().values().stream()
            .mapToLong(OffsetAndMetadata::offset).sum();
        same("committed offsets", sum, 800L);
    }

    private static Set<Integer> both(Member one, Member two) {
        Set<Integer> both = new TreeSet<>(one.committed);
        both.addAll(two.committed);
        return both;
    }
}
