package compat;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;

/**
 * What a consumer that has read everything of a topic with one partition commits: its position, or the offset behind
 * the last record. As compat/python/lags.py does with others.
 */
final class Lags {
    static void run(Client client, List<String> arguments) {
        TopicPartition partition = new TopicPartition(arguments.get(0), 0);
        boolean position = arguments.get(2).equals("position");
        try (KafkaConsumer<String, String> reader = client.consumer(arguments.get(1))) {
            reader.assign(List.of(partition));
            long end = reader.endOffsets(List.of(partition)).get(partition);
            long last = 0;
            for (long until = System.nanoTime() + Duration.ofSeconds(3).toNanos(); System.nanoTime() < until;) {
                for (ConsumerRecord<String, String> record : reader.poll(Duration.ofMillis(100))) {
                    last = record.offset();
                }
            }
            if (position) {
                reader.commitSync();
            } else {
                reader.commitSync(Map.of(partition, new OffsetAndMetadata(last + 1)));
            }
            long committed = reader.committed(Set.of(partition)).get(partition).offset();
            var lag = reader.currentLag(partition);
            System.out.println(committed + " " + end + " " + (lag.isPresent() ? lag.getAsLong() : -1));
        }
    }
}
