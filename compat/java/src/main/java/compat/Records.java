package compat;

import static compat.Client.check;
import static compat.Client.numbers;
import static compat.Client.range;
import static compat.Client.readToEnd;
import static compat.Client.same;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;

/** Writing and reading without groups. */
final class Records {
    /** Offsets are dense, each record is where its acknowledgement says, and each is there once. */
    static void idempotent(Client client) throws Exception {
        String topic = client.topic(4);
        List<Future<RecordMetadata>> acknowledged = new ArrayList<>();
        try (KafkaProducer<String, String> producer = client.producer("batch.size", "200")) {
            for (int number = 0; number < 2000; number++) {
                acknowledged.add(producer.send(new ProducerRecord<>(topic, "" + number, "" + number)));
            }
        }
        List<ConsumerRecord<String, String>> records = client.readAll(topic, "read_committed");
        same("numbers", numbers(records), range(0, 2000));
        for (ConsumerRecord<String, String> record : records) {
            RecordMetadata said = acknowledged.get(Integer.parseInt(record.value())).get();
            same("partition of " + record.value(), record.partition(), said.partition());
            same("offset of " + record.value(), record.offset(), said.offset());
        }
        long offsets = records.stream().mapToLong(ConsumerRecord::offset).max().orElseThrow();
        check("all partitions have records, the last offset is " + offsets, offsets < 1000);
    }

    static void codecs(Client client) throws Exception {
        for (String codec : Codecs.ALL) {
            String topic = client.topic(1, "compression.type", "producer");
            try (KafkaProducer<String, String> producer = client.producer("compression.type", codec, "linger.ms",
                "20")) {
                Client.send(producer, topic, 0, 1000);
            }
            same(codec, numbers(client.readAll(topic, "read_committed")), range(0, 1000));
        }
    }

    static void seek(Client client) throws Exception {
        String topic = client.topic(1);
        TopicPartition partition = new TopicPartition(topic, 0);
        long first = System.currentTimeMillis() - 1_000_000;
        try (KafkaProducer<String, String> producer = client.producer()) {
            for (int number = 0; number < 1000; number++) {
                producer.send(new ProducerRecord<>(topic, 0, first + number * 1000L, "" + number, "" + number));
            }
        }
        try (KafkaConsumer<String, String> reader = client.consumer(null)) {
            reader.assign(List.of(partition));
            reader.seek(partition, 600);
            same("from offset 600", numbers(readToEnd(reader)), range(600, 1000));
            OffsetAndTimestamp found = reader.offsetsForTimes(Map.of(partition, first + 299_001)).get(partition);
            same("offset of the time", found.offset(), 300L);
            same("time at the offset", found.timestamp(), first + 300_000);
            reader.seek(partition, found.offset());
            same("from a time", numbers(readToEnd(reader)), range(300, 1000));
            same("a time after all", reader.offsetsForTimes(Map.of(partition,
                first + 999_001)).containsKey(partition), true);
            check("no offset after all", reader.offsetsForTimes(Map.of(partition,
                first + 999_001)).get(partition) == null);
            reader.seekToBeginning(List.of(partition));
            same("from the beginning", readToEnd(reader).size(), 1000);
            reader.seekToEnd(List.of(partition));
            same("the end", reader.position(partition), 1000L);
            same("the beginning", reader.beginningOffsets(List.of(partition)).get(partition), 0L);
        }
        same("the highest timestamp is at", client.admin.listOffsets(Map.of(partition, OffsetSpec.maxTimestamp()))
            .partitionResult(partition).get().offset(), 999L);
    }
}
