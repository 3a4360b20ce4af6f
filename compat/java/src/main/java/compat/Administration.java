package compat;

import static compat.Client.check;
import static compat.Client.name;
import static compat.Client.refused;
import static compat.Client.same;

import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicIdException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** The admin client. */
final class Administration {
    static void topics(Client client) throws Exception {
        String topic = client.topic(2, "retention.ms", "604800000", "compression.type", "snappy", "cleanup.policy",
            "delete");
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        Config config = config(client, resource);
        same("retention.ms", config.get("retention.ms").value(), "604800000");
        same("its source", config.get("retention.ms").source(), ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG);
        same("compression.type", config.get("compression.type").value(), "snappy");
        same("cleanup.policy", config.get("cleanup.policy").value(), "delete");

        alter(client, resource, new AlterConfigOp(new ConfigEntry("retention.ms", "1000000"), AlterConfigOp.OpType.SET),
            new AlterConfigOp(new ConfigEntry("compression.type", ""), AlterConfigOp.OpType.DELETE));
        same("retention.ms", config(client, resource).get("retention.ms").value(), "1000000");
        same("compression.type", config(client, resource).get("compression.type").value(), "producer");
        same("cleanup.policy stays", config(client, resource).get("cleanup.policy").value(), "delete");

        client.admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(5))).all().get();
        TopicDescription described = client.admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
        same("partitions", described.partitions().size(), 5);
        check("it has an id", !described.topicId().equals(Uuid.ZERO_UUID));
        check("its partitions have a leader",
            described.partitions().stream().noneMatch(each -> each.leader().isEmpty()));

        try (KafkaProducer<String, String> producer = client.producer()) {
            Client.send(producer, topic, 0, 500);
        }
        TopicPartition partition = new TopicPartition(topic, 3);
        client.admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(10))).all().get();
        List<ConsumerRecord<String, String>> records = client.readAll(topic, "read_committed");
        same("records that are left", records.size(), 490);
        same("the first of its partition", records.stream().filter(each -> each.partition() == 3)
            .mapToLong(ConsumerRecord::offset).min().orElseThrow(), 10L);

        check("it is listed", client.admin.listTopics().names().get().contains(topic));
        same("nodes", client.admin.describeCluster().nodes().get().size(), 1);
        check("the cluster has an id", !client.admin.describeCluster().clusterId().get().isEmpty());
        client.admin.deleteTopics(List.of(topic)).all().get();
        Client.until("it isn't listed", () -> {
            try {
                return !client.admin.listTopics().names().get().contains(topic);
            } catch (ExecutionException | InterruptedException failed) {
                throw new AssertionError(failed);
            }
        });
    }

    static void byId(Client client) throws Exception {
        String topic = client.topic(2);
        Uuid id = client.admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).topicId();
        TopicCollection ids = TopicCollection.ofTopicIds(List.of(id));
        same("its name", client.admin.describeTopics(ids).allTopicIds().get().get(id).name(), topic);
        client.admin.deleteTopics(ids).all().get();
        Client.until("it is gone", () -> {
            try {
                client.admin.describeTopics(ids).allTopicIds().get();
                return false;
            } catch (ExecutionException gone) {
                return gone.getCause() instanceof UnknownTopicIdException;
            } catch (InterruptedException never) {
                throw new AssertionError(never);
            }
        });
    }

    static void refusals(Client client) throws Exception {
        String topic = client.topic(2);
        String absent = name("absent");
        refused("a topic that exists", () -> client.admin.createTopics(List.of(new NewTopic(topic, 2,
            (short) 1))).all().get(),
            TopicExistsException.class);
        refused("no partition", () -> client.admin.createTopics(List.of(new NewTopic(absent, 0,
            (short) 1))).all().get(),
            InvalidPartitionsException.class);
        refused("fewer partitions", () -> client.admin.createPartitions(Map.of(topic,
            NewPartitions.increaseTo(1))).all().get(),
            InvalidPartitionsException.class);
        refused("a name", () -> client.admin.createTopics(List.of(new NewTopic("no/name", 1, (short) 1))).all().get(),
            InvalidTopicException.class);
        NewTopic wrong = new NewTopic(absent, 1, (short) 1).configs(Map.of("retention.ms", "soon"));
        refused("a setting", () -> client.admin.createTopics(List.of(wrong)).all().get(),
            InvalidConfigurationException.class);
        client.admin.createTopics(List.of(new NewTopic(absent, 1, (short) 1)),
            new CreateTopicsOptions().validateOnly(true))
            .all().get();
        refused("a topic that was only validated",
            () -> client.admin.describeTopics(List.of(absent)).allTopicNames().get(),
            UnknownTopicOrPartitionException.class);
        refused("to delete what isn't there", () -> client.admin.deleteTopics(List.of(absent)).all().get(),
            UnknownTopicOrPartitionException.class);
    }

    @SuppressWarnings({"deprecation", "removal"}) // Clients of 3.9 have no other way to list groups.
    static void groups(Client client) throws Exception {
        String topic = client.topic(2);
        String group = name("group");
        TopicPartition one = new TopicPartition(topic, 0);
        TopicPartition other = new TopicPartition(topic, 1);
        try (KafkaProducer<String, String> producer = client.producer()) {
            Client.send(producer, topic, 0, 100);
        }
        try (KafkaConsumer<String, String> reader = client.consumer(group)) {
            reader.subscribe(List.of(topic));
            Client.until("it has partitions", () -> {
                reader.poll(java.time.Duration.ofMillis(100));
                return reader.assignment().size() == 2;
            });
            reader.commitSync(Map.of(one, new OffsetAndMetadata(7), other, new OffsetAndMetadata(8)));
            check("it is listed", client.admin.listConsumerGroups().all().get().stream()
                .anyMatch(each -> each.groupId().equals(group)));
            var members = client.admin.describeConsumerGroups(List.of(group)).all().get().get(group).members();
            same("members", members.size(), 1);
            same("what it has", members.iterator().next().assignment().topicPartitions(), Set.of(one, other));
            refused("to delete a group with members",
                () -> client.admin.deleteConsumerGroups(List.of(group)).all().get(),
                GroupNotEmptyException.class);
        }
        client.admin.alterConsumerGroupOffsets(group, Map.of(one, new OffsetAndMetadata(17, "moved"))).all().get();
        client.admin.deleteConsumerGroupOffsets(group, Set.of(other)).all().get();
        var offsets = client.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
        same("partitions with offsets", offsets.keySet(), Set.of(one));
        same("offset", offsets.get(one).offset(), 17L);
        same("metadata", offsets.get(one).metadata(), "moved");
        client.admin.deleteConsumerGroups(List.of(group)).all().get();
        refused("to delete it again", () -> client.admin.deleteConsumerGroups(List.of(group)).all().get(),
            GroupIdNotFoundException.class);
    }

    private static Config config(Client client, ConfigResource resource) throws Exception {
        return client.admin.describeConfigs(List.of(resource)).all().get().get(resource);
    }

    private static void alter(Client client, ConfigResource resource, AlterConfigOp... operations) throws Exception {
        Map<ConfigResource, Collection<AlterConfigOp>> all = Map.of(resource, List.of(operations));
        client.admin.incrementalAlterConfigs(all).all().get();
    }
}
